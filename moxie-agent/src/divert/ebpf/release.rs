//! Which kernels the eBPF way is for, told by their release.

/// What can be expected of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// Tested, and what fails on it is a defect.
    Supported,
    /// Tested, but sockets of hosts that also use cgroup v1 for networks can be missed, since before 5.15 those lose their v2 cgroup. And
    /// there are no DNS hints: before 5.15 a program that interrupts another one takes its cgroup storage from it, and the one that
    /// copies answers may interrupt any other.
    BestEffort,
    /// Not tested. Links to cgroups came with 5.7 and the getpeername hooks with 5.8.
    TooOld,
    /// The release is not a number that can be compared.
    Unknown,
}

/// The oldest that the kernel half was tried on.
const OLDEST: (u32, u32) = (5, 10);
/// The oldest on which a socket keeps its v2 cgroup whatever else the host uses (Linux commit 8520e224f547).
const OLDEST_SUPPORTED: (u32, u32) = (5, 15);

/// Judges a release as `uname -r` gives it.
#[must_use]
pub fn fitness(release: &str) -> Fitness {
    match version(release) {
        None => Fitness::Unknown,
        Some(version) if version < OLDEST => Fitness::TooOld,
        Some(version) if version < OLDEST_SUPPORTED => Fitness::BestEffort,
        Some(_) => Fitness::Supported,
    }
}

/// The first two numbers of `5.10.0-32-cloud-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.trim().split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_judged_by_their_release() {
        for (release, expected) in [
            ("7.2.13+deb14-cloud-amd64", Fitness::Supported),
            ("6.18.44-generic\n", Fitness::Supported),
            ("6.1-rc1", Fitness::Supported),
            ("5.15.0", Fitness::Supported),
            ("5.14.0-427.el9.x86_64", Fitness::BestEffort),
            ("5.10.0-32-cloud-amd64", Fitness::BestEffort),
            ("5.9.16", Fitness::TooOld),
            ("5.4.0-216-generic", Fitness::TooOld),
            ("4.19.0-27-amd64", Fitness::TooOld),
            ("", Fitness::Unknown),
            ("of unknown release", Fitness::Unknown),
        ] {
            assert_eq!(fitness(release), expected, "{release:?}");
        }
    }
}
