//! The way on path that the end-to-end tests run on, and what of them does not hold there: each difference is a row of
//! `docs/ways.md`.

use anyhow::{Context, Result};

/// Names the way, as `moxie run --via` does; unset: `ebpf`.
pub const VARIABLE: &str = "MOXIE_TEST_VIA";

/// A way on path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// cgroup v2 and eBPF.
    Ebpf,
    /// nftables.
    Netfilter,
    /// An explicit HTTP proxy.
    Proxy,
}

impl Way {
    const ALL: [Self; 3] = [Self::Ebpf, Self::Netfilter, Self::Proxy];

    /// The one under test.
    ///
    /// # Errors
    /// The variable names none.
    pub fn under_test() -> Result<Self> {
        let Some(name) = std::env::var_os(VARIABLE) else { return Ok(Self::Ebpf) };
        let found = Self::ALL.into_iter().find(|way| *way.name() == *name);
        found.with_context(|| format!("{VARIABLE}={}: write ebpf, netfilter or proxy", name.to_string_lossy()))
    }

    /// As options call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Netfilter => "netfilter",
            Self::Proxy => "proxy",
        }
    }
}

/// In what ways on path differ: the first column of the table in `docs/ways.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Whose connections come.
    Who,
    /// Which ports come.
    Ports,
    /// What `getpeername` shows.
    Peer,
    /// What a destination that is not there looks like.
    Refused,
    /// What becomes of calls when the agent dies.
    Dead,
    /// What becomes of calls when the agent hangs.
    Hung,
    /// UDP to port 443.
    Quic,
    /// Whether a destination's name can leave it direct.
    Names,
    /// Whether a run can go through the agent of the host.
    SharedAgent,
}

impl Difference {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Who,
        Self::Ports,
        Self::Peer,
        Self::Refused,
        Self::Dead,
        Self::Hung,
        Self::Quic,
        Self::Names,
        Self::SharedAgent,
    ];

    /// The row's name.
    #[must_use]
    pub fn row(self) -> &'static str {
        match self {
            Self::Who => "whose connections come",
            Self::Ports => "which ports come",
            Self::Peer => "getpeername",
            Self::Refused => "a destination that is not there",
            Self::Dead => "the agent dies",
            Self::Hung => "the agent hangs",
            Self::Quic => "UDP to port 443",
            Self::Names => "names of no rule",
            Self::SharedAgent => "moxie run beside an agent",
        }
    }
}

/// Whether a test is not for the way under test because of `differences`; says so.
///
/// # Errors
/// The variable names no way.
pub fn excludes(differences: &[(Way, Difference)]) -> Result<bool> {
    let way = Way::under_test()?;
    let found = differences.iter().find(|(other, _)| *other == way);
    if let Some((_, difference)) = found {
        eprintln!("not on {}: see \"{}\" in docs/ways.md", way.name(), difference.row());
    }
    Ok(found.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_a_row_of_the_table_in_the_docs() {
        let page = include_str!("../../docs/ways.md");
        for difference in Difference::ALL {
            let row = format!("\n| {} |", difference.row());
            assert!(page.contains(&row), "docs/ways.md has no row {row:?}");
        }
    }
}
