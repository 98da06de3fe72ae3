//! Where everything runs: a lab, the destination in it, and who gets which processor.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use moxie_bench::{processes, processors};
use moxie_tests::lab::{APP_ADDRESS, Place, Running};
use moxie_tests::{Lab, bounds, wait};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::Options;

/// The name that the destination has a certificate for.
pub(crate) const HOST: &str = "api.example";
/// Length of the destination's long answer, in bytes.
const BULK: u64 = 100_000_000;
/// The destination's short answer.
const SMALL: &str = "0123456789abcdef";
const SMALL_TIMES: usize = 16;

/// Who runs on which processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    /// The proxy under test, alone.
    Proxy,
    /// The generator and the destination.
    Rest,
}

/// A lab with a destination on an address of its own.
pub(crate) struct Room<'run> {
    pub(crate) lab: &'run Lab,
    pub(crate) options: &'run Options,
    origin: Running,
}

impl<'run> Room<'run> {
    pub(crate) fn new(lab: &'run Lab, options: &'run Options) -> Result<Self> {
        certify(lab.files())?;
        // A file without blocks: what it holds does not matter, and it takes no room.
        fs::File::create(lab.files().join("bulk"))?.set_len(BULK)?;
        settings(lab)?;
        let config = options.peers.join("origin.conf");
        let text = fill(&fs::read_to_string(&config).with_context(|| config.display().to_string())?, lab, options, &[]);
        let file = write(lab, "origin.conf", &text)?;
        let mut nginx = options.program(lab, "nginx", Place::Outside, Processor::Rest)?;
        nginx.arg("-e").arg("stderr").arg("-p").arg(lab.files()).arg("-c").arg(file);
        let origin = Running::start(nginx)?;
        let room = Self { lab, options, origin };
        room.await_listener(origin_address(true)).context("the destination does not listen")?;
        Ok(room)
    }

    /// Processes of the destination.
    pub(crate) fn origin_processes(&self) -> Vec<u32> {
        processes::family(self.origin.id())
    }

    /// The generator in `place`, with what it has to know of processes; its kind and request are still to come.
    pub(crate) fn load(&self, place: Place, proxy: &[u32]) -> Result<Command> {
        let mut load = self.options.pinned(self.lab, &self.options.load, place, Processor::Rest)?;
        let own: Vec<u32> = self.origin_processes().into_iter().chain([std::process::id()]).collect();
        load.arg("--own").arg(list(&own));
        if !proxy.is_empty() {
            load.arg("--proxy").arg(list(proxy));
        }
        Ok(load)
    }

    /// Waits until something listens on `address` inside the lab.
    pub(crate) fn await_listener(&self, address: SocketAddr) -> Result<()> {
        wait::until(&format!("a listener on {address}"), bounds::PROGRAM, || {
            let mut probe = self.lab.command("bash", Place::Outside)?;
            probe.arg("-c").arg(format!("exec 3<>/dev/tcp/{}/{}", address.ip(), address.port()));
            let finished = Running::start(probe)?.finish(bounds::SOON)?;
            Ok(finished.status.success().then_some(()))
        })
    }
}

/// Where the destination listens.
pub(crate) fn origin_address(is_tls: bool) -> SocketAddr {
    let port = if is_tls { 443 } else { 80 };
    SocketAddr::new(APP_ADDRESS.parse().unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)), port)
}

impl Options {
    /// `program` in `place`, on its processor where there are two.
    pub(crate) fn pinned(&self, lab: &Lab, program: &Path, place: Place, processor: Processor) -> Result<Command> {
        let number = match (processor, processors::usable().as_slice()) {
            (Processor::Proxy, [first, _, ..]) => Some(*first),
            (Processor::Rest, [_, second, ..]) => Some(*second),
            _ => None,
        };
        let mut command = match number {
            None => lab.command(program, place)?,
            Some(number) => {
                let mut taskset = lab.command("taskset", place)?;
                taskset.args(["-c", &number.to_string()]).arg(program);
                taskset
            }
        };
        command.env("LD_LIBRARY_PATH", self.libraries());
        Ok(command)
    }

    /// A peer or generator by its name, pinned.
    pub(crate) fn program(&self, lab: &Lab, name: &str, place: Place, processor: Processor) -> Result<Command> {
        let path = self.find(name).with_context(|| format!("there is no {name}: run this by `cargo xtask bench`"))?;
        self.pinned(lab, &path, place, processor)
    }

    /// Where a program is: unpacked for the bench, in its Python environment, or on the system.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        let unpacked = ["usr/sbin", "usr/bin"].map(|directory| self.programs.join(directory).join(name));
        let venv = [self.venv.join("bin").join(name)];
        let system = ["/usr/sbin", "/usr/bin"].map(|directory| Path::new(directory).join(name));
        unpacked.into_iter().chain(venv).chain(system).find(|path| path.is_file())
    }

    pub(crate) fn libraries(&self) -> PathBuf {
        self.programs.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH))
    }

    /// nginx's line that loads its module for streams, where that is one.
    pub(crate) fn stream_module(&self) -> String {
        let module = Path::new("usr/lib/nginx/modules/ngx_stream_module.so");
        let found = [self.programs.join(module), Path::new("/").join(module)].into_iter().find(|path| path.is_file());
        found.map(|path| format!("load_module {};", path.display())).unwrap_or_default()
    }
}

/// A template with its places filled.
pub(crate) fn fill(template: &str, lab: &Lab, options: &Options, further: &[(&str, &str)]) -> String {
    let directory = lab.files().display().to_string();
    let (files, connections) = (options.descriptors.to_string(), (options.descriptors / 2 - 64).to_string());
    let (small, module) = (SMALL.repeat(SMALL_TIMES), options.stream_module());
    let known = [
        ("DIR", directory.as_str()),
        ("ORIGIN", APP_ADDRESS),
        ("HOST", HOST),
        ("FILES", &files),
        ("CONNECTIONS", &connections),
        ("SMALL", &small),
        ("MODULES", &module),
    ];
    let all = known.iter().chain(further);
    all.fold(template.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
}

/// A file of the lab's.
pub(crate) fn write(lab: &Lab, name: &str, text: &str) -> Result<PathBuf> {
    let path = lab.files().join(name);
    fs::write(&path, text)?;
    Ok(path)
}

/// An authority, and a certificate for the destination and for the peers that stand in for it: ECDSA on P-256.
fn certify(directory: &Path) -> Result<()> {
    let authority_key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Bench authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key)?;
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new([HOST.to_owned()])?.signed_by(&key, &issuer)?;
    fs::write(directory.join("authority.pem"), authority.pem())?;
    fs::write(directory.join("origin.pem"), leaf.pem())?;
    fs::write(directory.join("origin.key"), key.serialize_pem())?;
    fs::write(directory.join("both.pem"), leaf.pem() + &key.serialize_pem())?;
    Ok(())
}

/// Ports enough for thousands of new connections a second; those that wait for stray packets are taken again.
fn settings(lab: &Lab) -> Result<()> {
    let mut shell = lab.command("sh", Place::Outside)?;
    let base = "/proc/sys/net/ipv4";
    shell.arg("-c").arg(format!("echo 22000 60999 >{base}/ip_local_port_range && echo 1 >{base}/tcp_tw_reuse"));
    let finished = Running::start(shell)?.finish(bounds::SOON)?;
    ensure!(finished.status.success(), "cannot set the lab's ports: {}", finished.stderr);
    Ok(())
}

fn list(pids: &[u32]) -> String {
    pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}
