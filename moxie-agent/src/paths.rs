//! Where things are on a host. `systemd/` and the guide repeat these; `cargo xtask tidy` holds them together.

use std::path::{Path, PathBuf};

/// Configuration file.
pub const CONFIG_FILE: &str = "/etc/moxie/moxie.toml";
/// Root-owned file whose existence lets the daemon start in an environment it would refuse (see the guide).
pub const ENVIRONMENT_OVERRIDE: &str = "/etc/moxie/allow-environment";
/// State directory of the root daemon: store, authority, token.
pub const STATE_DIR: &str = "/var/lib/moxie";
/// Runtime directory of the root daemon: the admin socket.
pub const RUNTIME_DIR: &str = "/run/moxie";
/// Group whose members may use the admin socket.
pub const GROUP: &str = "moxie";
/// Where the admin API listens by default.
pub const ADMIN_ADDR: &str = "127.0.0.1:8480";
/// Where the explicit proxy listens by default, on 127.0.0.1.
pub const PROXY_PORT: u16 = 8481;
/// First of the listener ports that connections are diverted to; above `ip_local_port_range`.
pub const FIRST_LISTENER_PORT: u16 = 61001;

/// A capability(7) that the agent uses, with its number in the kernel's sets and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its name.
    pub name: &'static str,
    /// Its bit.
    pub bit: u8,
    /// What the agent does with it.
    pub needed_for: &'static str,
}

/// What the root daemon is left with; `systemd/moxie.service` grants exactly these.
pub const CAPABILITIES: [Capability; 6] = [
    Capability { name: "CAP_BPF", bit: 39, needed_for: "loading the kernel half" },
    Capability {
        name: "CAP_NET_ADMIN",
        bit: 12,
        needed_for: "attaching it to cgroups, marking connections of its own",
    },
    Capability {
        name: "CAP_SYS_ADMIN",
        bit: 21,
        needed_for: "entering the network namespaces of callers; loading and attaching before Linux 5.8",
    },
    Capability { name: "CAP_PERFMON", bit: 38, needed_for: "what the verifier asks of the kernel half" },
    Capability {
        name: "CAP_SYS_PTRACE",
        bit: 19,
        needed_for: "looking at callers and their namespaces where `/proc` hides other users' processes",
    },
    Capability { name: "CAP_DAC_READ_SEARCH", bit: 2, needed_for: "reading roots that a service keeps to itself" },
];

/// The files inside one state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
    default: bool,
}

impl StateDir {
    /// `given` if there is one; else [`STATE_DIR`] for root and `$XDG_STATE_HOME/moxie` (or `$HOME/.local/state/moxie`) for others.
    #[must_use]
    pub fn locate(given: Option<&Path>, env: impl Fn(&str) -> Option<String>) -> Self {
        if let Some(root) = given {
            return Self { root: root.to_path_buf(), default: false };
        }
        if nix::unistd::geteuid().is_root() {
            return Self { root: PathBuf::from(STATE_DIR), default: true };
        }
        let base = env("XDG_STATE_HOME").map_or_else(
            || PathBuf::from(env("HOME").unwrap_or_else(|| "/".into())).join(".local/state"),
            PathBuf::from,
        );
        Self { root: base.join("moxie"), default: false }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// SQLite file of the default store.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.root.join("moxie.db")
    }

    /// Bearer token of the TCP admin API, 0600.
    #[must_use]
    pub fn admin_token(&self) -> PathBuf {
        self.root.join("admin.token")
    }

    /// What an operator has set of the kill switch and the address lists.
    #[must_use]
    pub fn switchboard(&self) -> PathBuf {
        self.root.join("divert.json")
    }

    /// Unix socket of the admin API: `/run/moxie/admin.sock` for the default directory, else inside it.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        if self.default { Path::new(RUNTIME_DIR).join("admin.sock") } else { self.root.join("admin.sock") }
    }

    /// Directory of the authority: `ca.pem`, `ca.key`.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.root.join("ca")
    }

    /// Directory that `{"file": …}` bodies are read from.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.root.join("files")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = include_str!("../../systemd/moxie.service");
    const TMPFILES: &str = include_str!("../../systemd/moxie.tmpfiles.conf");
    const GUIDE: &str = include_str!("../../docs/guide/install.md");
    const SYSUSERS: &str = include_str!("../../systemd/moxie.sysusers.conf");

    fn setting<'a>(name: &str) -> Option<&'a str> {
        UNIT.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }

    #[test]
    fn the_unit_grants_exactly_the_capabilities_named_here() {
        let names: Vec<&str> = CAPABILITIES.iter().map(|capability| capability.name).collect();
        assert_eq!(setting("CapabilityBoundingSet").map(|set| set.split(' ').collect()), Some(names));
    }

    #[test]
    fn the_guide_says_what_each_capability_is_for() {
        let row = |capability: &Capability| format!("| `{}` | {} |", capability.name, capability.needed_for);
        let said: Vec<&str> = GUIDE.lines().filter(|line| line.starts_with("| `CAP")).collect();
        assert_eq!(said, CAPABILITIES.iter().map(row).collect::<Vec<_>>());
    }

    #[test]
    fn the_unit_has_the_directories_and_the_group_named_here() {
        assert_eq!(setting("StateDirectory").map(|name| format!("/var/lib/{name}")).as_deref(), Some(STATE_DIR));
        assert_eq!(setting("RuntimeDirectory").map(|name| format!("/run/{name}")).as_deref(), Some(RUNTIME_DIR));
        assert_eq!(setting("SupplementaryGroups"), Some(GROUP));
        assert!(SYSUSERS.lines().any(|line| line == format!("g {GROUP} -")));
        let made: Vec<&str> = TMPFILES
            .lines()
            .filter(|line| line.starts_with("d "))
            .filter_map(|line| line.split_whitespace().nth(1))
            .collect();
        let of_config = Path::new(CONFIG_FILE).parent().and_then(Path::to_str).unwrap_or_default();
        assert_eq!(made, [of_config, RUNTIME_DIR, STATE_DIR]);
        assert_eq!(Path::new(ENVIRONMENT_OVERRIDE).parent(), Path::new(CONFIG_FILE).parent());
    }

    #[test]
    fn the_state_directory_is_the_given_one_or_the_users_own() {
        let given = StateDir::locate(Some(Path::new("/x")), |_| None);
        assert_eq!(given.admin_socket(), Path::new("/x/admin.sock"));
        let found = StateDir::locate(None, |name| (name == "XDG_STATE_HOME").then(|| "/home/u/state".to_owned()));
        let expected = if nix::unistd::geteuid().is_root() { STATE_DIR } else { "/home/u/state/moxie" };
        assert_eq!(found.root(), Path::new(expected));
    }
}
