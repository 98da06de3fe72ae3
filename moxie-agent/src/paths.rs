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
    Capability { name: "CAP_BPF", bit: 39, needed_for: "loading the kernel half (below Linux 5.8: CAP_SYS_ADMIN)" },
    Capability { name: "CAP_NET_ADMIN", bit: 12, needed_for: "attaching it to cgroups, marking its own connections" },
    Capability { name: "CAP_SYS_ADMIN", bit: 21, needed_for: "entering network and mount namespaces" },
    Capability { name: "CAP_PERFMON", bit: 38, needed_for: "what the verifier asks of programs that read pointers" },
    Capability {
        name: "CAP_SYS_PTRACE",
        bit: 19,
        needed_for: "finding the namespaces of services that run as other users",
    },
    Capability {
        name: "CAP_DAC_READ_SEARCH",
        bit: 2,
        needed_for: "reading roots that only a service's own user may read",
    },
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
