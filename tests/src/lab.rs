//! One lab: the namespaces, the stand-ins and the means to run programs between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

pub mod agent;
pub(crate) mod authority;
pub mod cgroup;
pub mod dns;
pub mod loopback;
pub(crate) mod namespace;
pub mod origins;
pub mod process;
pub mod room;
mod run;
pub mod sockets;
pub(crate) mod sweep;

pub use cgroup::Place;
pub use dns::{Dns, Entry, Resolver};
pub use loopback::Loopback;
pub use origins::{Origins, Seen};
pub use process::{Finished, Running};
pub use room::Room;
pub use run::Run;
pub use sockets::Sockets;

use crate::way::{self, Way};
use authority::Authority;
use cgroup::Cgroups;
use namespace::{Mounts, Network};

/// Address of the clients' and the agent's side of the cable.
pub const APP_ADDRESS: &str = "198.51.100.2";

/// Where the lab's programs are looked for.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// Namespaces, cgroups and stand-ins of one test. Whatever runs in it is killed when it is dropped.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: the servers, the programs and their cgroups, the namespaces, the files.
    origins: Origins,
    cgroups: Cgroups,
    app: Network,
    net: Network,
    mounts: Mounts,
    files: Files,
}

impl Lab {
    /// Makes a lab. Needs root.
    ///
    /// # Errors
    /// What the system refused; a test that gets this error fails with it.
    pub fn new() -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "the lab makes network namespaces and cgroups, so it needs root");
        sweep::stale();
        sweep::on_interrupt();
        let _gate = sweep::gate();
        let name = sweep::name();
        let files = Files::create(&name)?;
        let (app, net) = cable(&name)?;
        let (trusted, unknown) = (Authority::create("Lab authority")?, Authority::create("Unknown authority")?);
        write_files(&files.path, &trusted, &unknown)?;
        Ok(Self {
            origins: Origins::start(&net, &trusted, &unknown)?,
            cgroups: Cgroups::create(&name)?,
            mounts: private_view(&files.path)?,
            app,
            net,
            files,
        })
    }

    /// The stand-ins.
    #[must_use]
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Directory for files of this lab.
    #[must_use]
    pub fn files(&self) -> &Path {
        &self.files.path
    }

    /// Certificates that the lab's clients trust: the lab's authority and no other.
    #[must_use]
    pub fn trusted(&self) -> PathBuf {
        self.files().join("trusted.pem")
    }

    /// The certificate of the authority that no client knows.
    #[must_use]
    pub fn unknown(&self) -> PathBuf {
        self.files().join("unknown.pem")
    }

    /// The cgroup directory of a place.
    #[must_use]
    pub fn cgroup(&self, place: Place) -> PathBuf {
        self.cgroups.path(place)
    }

    /// Every cgroup of this lab, in full paths.
    #[must_use]
    pub fn all_cgroups(&self) -> Vec<PathBuf> {
        sweep::deepest_first(self.cgroups.root())
    }

    /// A program that will run in the clients' namespace and in `place`, with nothing in its environment but a path, a home
    /// and the lab's trust under the names that curl, Python and Node read.
    ///
    /// # Errors
    /// The place cannot be opened.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, place: Place) -> Result<Command> {
        let mut command = self.bare_command(program, place)?;
        trust(&mut command, &self.trusted());
        Ok(command)
    }

    /// Like [`Lab::command`], with nothing in its environment that names roots.
    ///
    /// # Errors
    /// The place cannot be opened.
    pub fn bare_command(&self, program: impl AsRef<std::ffi::OsStr>, place: Place) -> Result<Command> {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PATH).env("HOME", self.files());
        // The programs of this crate share a module, which must leave nothing beside itself.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        tell(&mut command, place)?;
        let door = self.cgroups.door(place)?;
        process::settle(&mut command, door, self.mounts.file(), self.app.file())?;
        Ok(command)
    }

    /// The `moxie` program with arguments still to come, beside the agent.
    ///
    /// # Errors
    /// It was not built.
    pub fn moxie(&self) -> Result<Command> {
        let mut command = self.command(agent::program()?, Place::Agent)?;
        // Without it a command would find the state of an agent that the host may have.
        command.env("MOXIE_STATE_DIR", self.files().join("no-agent"));
        Ok(command)
    }

    /// Opens a connection from the clients' namespace; the socket itself is in this process's own cgroup.
    pub(crate) fn dial(&self, address: &str) -> Result<std::net::TcpStream> {
        #[expect(clippy::disallowed_methods, reason = "the lab's own way in, not the data path")]
        let dial = || std::net::TcpStream::connect(address).with_context(|| format!("cannot dial {address}"));
        self.app.enter(dial)
    }

    /// Mounts an empty disk of `bytes` at `path`, seen by the lab's programs only.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn small_disk(&self, path: &Path, bytes: u64) -> Result<()> {
        self.mounts.enter(|| namespace::small_disk(path, bytes))
    }

    /// Makes the file at `path` read-only for the lab's programs.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn freeze(&self, path: &Path) -> Result<()> {
        self.mounts.enter(|| namespace::freeze(path))
    }

    /// How many processes run in the lab's namespaces.
    ///
    /// # Errors
    /// The namespaces cannot be looked at.
    pub fn processes(&self) -> Result<usize> {
        use std::os::unix::fs::MetadataExt;
        let count = [&self.app, &self.net].into_iter().map(|network| {
            let inode = fs::metadata(Path::new("/run/netns").join(network.name()))?.ino();
            anyhow::Ok(sweep::processes_in(inode).len())
        });
        count.sum()
    }
}

/// Returns unless an interrupt has come, which then ends the process: for a `main` that is about to say how it went.
pub fn settled() {
    drop(sweep::gate());
}

/// The lab's directory; removed when dropped.
#[derive(Debug)]
pub(crate) struct Files {
    name: String,
    path: PathBuf,
}

impl Files {
    pub(crate) fn create(name: &str) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = sweep::directory(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { name: name.to_owned(), path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        sweep::files(&self.name);
    }
}

/// Points the variables that curl, Python and Node read at `bundle`.
pub fn trust(command: &mut Command, bundle: &Path) {
    for variable in ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
        command.env(variable, bundle);
    }
}

/// Where the lab's agents offer the explicit proxy, inside the clients' namespace.
const PROXY: &str = "http://127.0.0.1:8481";

/// Sets the way under test: for agents by name; for programs inside, where it is the proxy, by what they have to be told.
fn tell(command: &mut Command, place: Place) -> Result<()> {
    let way = Way::under_test()?;
    match (place, way) {
        // Without a way under test an agent takes the first that works, as it does for users.
        (Place::Agent, _) if std::env::var_os(way::VARIABLE).is_some() => {
            command.env("MOXIE_VIA", way.name());
        }
        (Place::Inside, Way::Proxy) => {
            for variable in ["http_proxy", "https_proxy", "HTTPS_PROXY"] {
                command.env(variable, PROXY);
            }
        }
        _ => {}
    }
    Ok(())
}

/// The clients' namespace and the stand-ins', joined. Neither has a route beyond the cable.
fn cable(name: &str) -> Result<(Network, Network)> {
    let app = Network::create(format!("{name}-app"))?;
    let net = Network::create(format!("{name}-net"))?;
    join(&app, &net)?;
    Ok((app, net))
}

/// Lays the cable between the two and gives each end its addresses.
pub(crate) fn join(app: &Network, net: &Network) -> Result<()> {
    app.configure(&format!(
        "link set lo up\n\
         link add cable type veth peer name cable netns {}\n\
         addr add {APP_ADDRESS}/24 dev cable\n\
         addr add fd00:6d6f:7869::2/64 dev cable nodad\n\
         link set cable up\n",
        net.name()
    ))?;
    let mut lines = String::from("link set lo up\n");
    for place in origins::PLACES {
        let (length, option) = if place.address.contains(':') { (64, "nodad") } else { (24, "") };
        lines.push_str(&format!("addr add {}/{length} dev cable {option}\n", place.address));
    }
    lines.push_str("link set cable up\n");
    net.configure(&lines)
}

fn write_files(directory: &Path, trusted: &Authority, unknown: &Authority) -> Result<()> {
    let hosts: String = origins::PLACES.iter().map(|place| format!("{} {}\n", place.address, place.host)).collect();
    fs::write(directory.join("hosts"), format!("127.0.0.1 localhost\n::1 localhost\n{hosts}"))?;
    fs::write(directory.join("nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\n")?;
    fs::write(directory.join("resolv.conf"), "")?;
    fs::write(directory.join("trusted.pem"), trusted.pem())?;
    fs::write(directory.join("unknown.pem"), unknown.pem())?;
    Ok(())
}

/// Names resolve by the lab's hosts file and by nothing else, and a configuration that the host may have is out of sight.
fn private_view(files: &Path) -> Result<Mounts> {
    let (hosts, switch, resolver) = (files.join("hosts"), files.join("nsswitch.conf"), files.join("resolv.conf"));
    let empty = files.join("empty");
    fs::create_dir(&empty)?;
    Mounts::create(&[
        (&empty, Path::new("/etc/moxie")),
        (&hosts, Path::new("/etc/hosts")),
        (&switch, Path::new("/etc/nsswitch.conf")),
        (&resolver, Path::new("/etc/resolv.conf")),
    ])
}
