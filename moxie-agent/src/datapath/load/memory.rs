//! How much memory the agent has, and how much it may have: by its cgroup (v2 or v1), and by a limit of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::unused;

/// Shares of the limit, percent: at the first there is too much, until there is less than the second.
const FULL: u64 = 80;
const ROOMY: u64 = 70;
/// Looks after which the agent's cgroup and its limits are found anew: either may be changed while the agent runs.
const FIND_EVERY: u64 = 10;
/// With cgroup v1, no limit is a number too, and a large one.
const NO_LIMIT: u64 = 1 << 60;

/// What is known from one look to the next.
#[derive(Debug)]
pub(super) struct Memory {
    granted: Option<u64>,
    group: Option<Group>,
    looks: u64,
    is_full: bool,
}

/// The cgroup that the agent's memory is charged to.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    directory: PathBuf,
    version: Version,
    /// The least of its own and those of the cgroups above; `None` where there is none.
    limit: Option<u64>,
    /// Whether nobody else is in it.
    is_alone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// How much memory the agent may have, in bytes: the least of `granted` and what its cgroup and those above it may. `None`: no limit.
#[must_use]
pub fn least_limit(granted: Option<u64>) -> Option<u64> {
    least(granted, Group::find().and_then(|group| group.limit))
}

impl Memory {
    pub(super) fn new(granted: Option<u64>) -> Self {
        Self { granted, group: None, looks: 0, is_full: false }
    }

    /// What the agent has and what it may have, bytes, if that is too much.
    pub(super) fn look(&mut self) -> Option<(u64, u64)> {
        let is_due = self.looks.is_multiple_of(FIND_EVERY);
        self.looks += 1;
        if is_due {
            self.group = Group::find();
        }
        let limit = least(self.granted, self.group.as_ref().and_then(|group| group.limit))?;
        let used = self.used(share(limit, ROOMY));
        self.judge(used, limit);
        if self.is_full && is_due {
            unused::free_heap();
        }
        self.is_full.then_some((used, limit))
    }

    fn judge(&mut self, used: u64, limit: u64) {
        self.is_full = used >= share(limit, if self.is_full { ROOMY } else { FULL });
    }

    /// What the kernel charges to the agent's cgroup, without the files that it would drop first; where others are charged there too,
    /// what the process holds.
    fn used(&self, unimportant: u64) -> u64 {
        let group = self.group.as_ref().filter(|group| group.is_alone);
        group.and_then(|group| group.used(unimportant)).unwrap_or_else(held)
    }
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

fn share(limit: u64, percent: u64) -> u64 {
    limit / 100 * percent
}

impl Group {
    fn find() -> Option<Self> {
        let (cgroups, mounts) =
            (fs::read_to_string("/proc/self/cgroup").ok()?, fs::read_to_string("/proc/self/mountinfo").ok()?);
        let (version, mount, directory) = locate(&cgroups, &mounts)?;
        let up_to_the_mount = directory.ancestors().take_while(|above| above.starts_with(&mount));
        let limit = up_to_the_mount.filter_map(|above| read::<u64>(&above.join(version.limit()))).min();
        let processes = fs::read_to_string(directory.join("cgroup.procs")).ok()?;
        Some(Self {
            limit: limit.filter(|limit| *limit < NO_LIMIT),
            is_alone: processes.lines().count() == 1,
            directory,
            version,
        })
    }

    fn used(&self, unimportant: u64) -> Option<u64> {
        let charged = read(&self.directory.join(self.version.usage()))?;
        if charged < unimportant {
            // The files would only make it less.
            return Some(charged);
        }
        let details = fs::read_to_string(self.directory.join("memory.stat")).ok()?;
        let files = self.version.files().into_iter().filter_map(|name| field(&details, name)).sum();
        Some(charged.saturating_sub(files))
    }
}

impl Version {
    fn limit(self) -> &'static str {
        match self {
            Self::One => "memory.limit_in_bytes",
            Self::Two => "memory.max",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::One => "memory.usage_in_bytes",
            Self::Two => "memory.current",
        }
    }

    /// Lines of `memory.stat` that count pages of files.
    fn files(self) -> [&'static str; 2] {
        match self {
            Self::One => ["total_inactive_file", "total_active_file"],
            Self::Two => ["inactive_file", "active_file"],
        }
    }
}

/// Where a hierarchy with the memory controller is mounted, and the directory of this process in it, by `/proc/self/cgroup`
/// (cgroups(7)) and `/proc/self/mountinfo` (proc(5)). A version 1 that has the controller goes before a version 2 beside it.
fn locate(cgroups: &str, mounts: &str) -> Option<(Version, PathBuf, PathBuf)> {
    [Version::One, Version::Two].into_iter().find_map(|version| {
        let path = cgroups.lines().find_map(|line| own_path(line, version))?;
        let (shown, mount) = mounts.lines().find_map(|line| mounted(line, version))?;
        let below = Path::new(path).strip_prefix(shown).ok()?;
        Some((version, PathBuf::from(mount), Path::new(mount).join(below)))
    })
}

/// `hierarchy:controllers:path`; version 2 has no controllers there.
fn own_path(line: &str, version: Version) -> Option<&str> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let is_it = match version {
        Version::One => controllers.split(',').any(|controller| controller == "memory"),
        Version::Two => controllers.is_empty(),
    };
    is_it.then_some(path)
}

/// Which part of the hierarchy a mount shows, and where.
fn mounted(line: &str, version: Version) -> Option<(&str, &str)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut file_system = file_system.split(' ');
    let (kind, options) = (file_system.next()?, file_system.nth(1)?);
    let is_it = match version {
        Version::One => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
        Version::Two => kind == "cgroup2",
    };
    let mut fields = mount.split(' ').skip(3);
    is_it.then_some((fields.next()?, fields.next()?))
}

/// The number that a file holds; `None` where there is none, as in `max`.
fn read<T: FromStr>(path: &Path) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `name number`, one a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(found, _)| *found == name)?.1.trim().parse().ok()
}

/// Bytes that the process holds for itself: what is resident without what belongs to files. 0 where it cannot be told.
fn held() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = anonymous.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw shared:4 - tmpfs tmpfs rw,mode=755\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:8 - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
    const UNIFIED_MOUNT: &str = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const CONTAINER_MOUNT: &str = "30 24 0:26 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,cpu,memory\n";

    fn check(cgroups: &str, mounts: &str, expected: Option<(Version, &str)>) {
        let found = locate(cgroups, mounts).map(|(version, _, directory)| (version, directory));
        assert_eq!(found, expected.map(|(version, path)| (version, PathBuf::from(path))));
    }

    #[test]
    fn the_cgroup_is_found_in_each_version() {
        let hybrid = "9:name=systemd:/\n4:memory:/limited\n3:cpuset:/\n0::/system.slice/moxie.service\n";
        check(hybrid, HYBRID_MOUNTS, Some((Version::One, "/sys/fs/cgroup/memory/limited")));
        let unified = "0::/system.slice/moxie.service\n";
        check(unified, UNIFIED_MOUNT, Some((Version::Two, "/sys/fs/cgroup/system.slice/moxie.service")));
        check("4:cpu,memory:/docker/abc/x\n", CONTAINER_MOUNT, Some((Version::One, "/sys/fs/cgroup/memory/x")));
        check("4:memory:/elsewhere\n", CONTAINER_MOUNT, None);
        check("", UNIFIED_MOUNT, None);
        check("garbage\n::\n", "garbage\n - \n", None);
    }

    #[test]
    fn the_figures_are_read() {
        assert_eq!(field("cache 1\ninactive_file 4096\nactive_file 7\n", "inactive_file"), Some(4096));
        assert_eq!(field("inactive_file\n", "inactive_file"), None);
        assert!(held() > 1 << 20, "a process has some memory: {}", held());
        assert_eq!(least(None, None), None);
        assert_eq!(least(Some(5), Some(3)), Some(3));
    }

    #[test]
    fn what_is_too_much_stays_so_until_there_is_room_again() {
        let mut memory = Memory::new(None);
        for (used, expected) in
            [(0, false), (799, false), (800, true), (1200, true), (700, true), (699, false), (799, false)]
        {
            memory.judge(used, 1000);
            assert_eq!(memory.is_full, expected, "{used} of 1000");
        }
    }
}
