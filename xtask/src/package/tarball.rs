//! The tarball: a program that needs no library of its host, with what belongs to it and a script that puts it in place.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{COMPLETIONS, compress, epoch, strip, told};
use crate::command::{self, program};

/// What is packed as it is in the sources: the file, and its name inside.
const FILES: [(&str, &str); 9] = [
    ("systemd/moxie.service", "systemd/moxie.service"),
    ("systemd/moxie.sysusers.conf", "systemd/moxie.sysusers.conf"),
    ("systemd/moxie.tmpfiles.conf", "systemd/moxie.tmpfiles.conf"),
    ("systemd/moxie.toml", "moxie.toml"),
    ("systemd/tarball/install.sh", "install.sh"),
    ("docs/guide/install.md", "INSTALL.md"),
    ("README.md", "README.md"),
    ("LICENSE-APACHE", "LICENSE-APACHE"),
    ("LICENSE-MIT", "LICENSE-MIT"),
];

/// Packs the static program `built`.
pub(super) fn pack(built: &Path, out: &Path) -> Result<()> {
    let name = format!("moxie-{}-{}-linux", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let root = Path::new("target/package").join(&name);
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot empty {}", root.display()))?;
    }
    fs::create_dir_all(root.join("systemd"))?;
    fs::create_dir_all(root.join("completions"))?;
    let own = root.join("moxie");
    strip(built, &own)?;
    compress(&root.join("moxie.1.gz"), &told(&own, &["man"])?)?;
    for (shell, file) in COMPLETIONS {
        fs::write(root.join("completions").join(file), told(&own, &["completions", shell])?)?;
    }
    for (file, inside) in FILES {
        fs::copy(file, root.join(inside)).with_context(|| format!("cannot copy {file}"))?;
    }
    let archive = out.join(format!("{name}.tar.gz"));
    let mut tar = program("tar");
    tar.args(["--create", "--gzip", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{}", epoch())).arg("--file").arg(&archive).args(["--directory", "target/package", &name]);
    command::show(tar)?;
    println!("{}", archive.display());
    Ok(())
}

/// Whether it runs where there is nothing but itself.
pub(super) fn is_static(program: &Path) -> Result<bool> {
    let mut readelf = command::program("readelf");
    readelf.args(["--program-headers", "--dynamic", "--wide"]).arg(program);
    let headers = command::read(readelf)?;
    Ok(!["INTERP", "(NEEDED)"].into_iter().any(|wanted| headers.contains(wanted)))
}
