//! `setup`: what building and testing need, on Debian; elsewhere, what to install by hand.

use std::path::Path;

use anyhow::{Result, bail};

use crate::command::{self, as_root, cargo, program};

/// A Debian package, needed unless its program is there already from elsewhere.
struct Package {
    name: &'static str,
    instead: Option<&'static str>,
}

const fn package(name: &'static str) -> Package {
    Package { name, instead: None }
}

const fn unless(program: &'static str, name: &'static str) -> Package {
    Package { name, instead: Some(program) }
}

const PACKAGES: &[Package] = &[
    // The host's half: a linker and a C compiler for the crates that bring C.
    unless("cc", "build-essential"),
    // The kernel's half: a compiler with the core library for the kernel's target, and what its linker links with.
    package("rustc-web"),
    package("libstd-rust-web-dev-bpf"),
    package("llvm-22-dev"),
    package("libpolly-22-dev"),
    package("libzstd-dev"),
    // The lab and its clients.
    unless("ip", "iproute2"),
    unless("unshare", "util-linux"),
    unless("bpftool", "bpftool"),
    unless("openssl", "openssl"),
    unless("curl", "curl"),
    unless("node", "nodejs"),
    package("python3"),
    package("python3-requests"),
    package("python3-httpx"),
    package("python3-grpcio"),
    package("python3-venv"),
    // One client of each kind that reads roots in a way of its own, and containers to run them in.
    package("python3-aiohttp"),
    unless("go", "golang-go"),
    unless("javac", "openjdk-17-jdk-headless"),
    unless("ruby", "ruby"),
    unless("php", "php-cli"),
    package("php-curl"),
    unless("wget", "wget"),
    unless("git", "git"),
    unless("perl", "perl"),
    package("libwww-perl"),
    package("liblwp-protocol-https-perl"),
    unless("podman", "podman"),
    unless("runc", "runc"),
    // Other kernels in virtual machines, with this host's programs inside.
    unless("qemu-system-x86_64", "qemu-system-x86"),
    unless("depmod", "kmod"),
    unless("nft", "nftables"),
    package("busybox-static"),
    // What hostile HTTP/1 is held against, besides node and go.
    unless("nginx", "nginx-light"),
    unless("haproxy", "haproxy"),
    package("python3-h11"),
    // A booted systemd, and the package on it.
    unless("dockerd", "docker.io"),
    unless("debootstrap", "debootstrap"),
    unless("systemd-analyze", "systemd"),
    unless("lintian", "lintian"),
    unless("dpkg-shlibdeps", "dpkg-dev"),
];

/// The linker of the kernel's half: command line, and where LLVM is.
const LINKER: [&str; 8] =
    ["install", "bpf-linker", "--version", "0.13.0", "--no-default-features", "--features", "llvm-22", "--locked"];
const LLVM: &str = "/usr/lib/llvm-22";

/// What makes the Debian package.
const CARGO_DEB: [&str; 5] = ["install", "cargo-deb", "--version", "3.8.0", "--locked"];

/// The checker of the admin API, in an environment of its own.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
const SCHEMATHESIS_HOME: &str = "target/schemathesis";

/// Installs what is missing.
pub(crate) fn run() -> Result<()> {
    let packages = missing_packages()?;
    if !packages.is_empty() {
        println!("setup: installing the Debian packages {}", packages.join(" "));
        install(&packages)?;
    }
    if !command::is_installed("bpf-linker") {
        let mut linker = cargo(&LINKER);
        linker.env("LLVM_PREFIX", LLVM);
        println!("setup: {}", command::line(&linker));
        command::show(linker)?;
    }
    packaging()?;
    if !Path::new(SCHEMATHESIS_HOME).join("bin/schemathesis").is_file() {
        println!("setup: installing {SCHEMATHESIS} into {SCHEMATHESIS_HOME}");
        install_schemathesis()?;
    }
    Ok(())
}

/// Installs what only packing needs besides.
pub(crate) fn packaging() -> Result<()> {
    if command::is_installed("cargo-deb") {
        return Ok(());
    }
    let install = cargo(&CARGO_DEB);
    println!("setup: {}", command::line(&install));
    command::show(install)
}

/// Whether the kernel's half can be built here, as far as can be told without building it.
pub(crate) fn has_kernel_toolchain() -> bool {
    command::is_installed("bpf-linker")
}

fn missing_packages() -> Result<Vec<&'static str>> {
    let wanted: Vec<&str> = PACKAGES
        .iter()
        .filter(|package| !package.instead.is_some_and(command::is_installed))
        .map(|package| package.name)
        .collect();
    if !command::is_installed("dpkg-query") {
        return elsewhere(&wanted);
    }
    let missing = wanted.into_iter().filter(|name| !has_package(name));
    Ok(missing.collect())
}

/// On other systems the kernel's half is built by a nightly, and the rest has names that only their users know.
fn elsewhere(wanted: &[&str]) -> Result<Vec<&'static str>> {
    let built_elsewhere = ["rustc-web", "libstd-rust-web-dev-bpf", "llvm-22-dev", "libpolly-22-dev", "libzstd-dev"];
    let clients: Vec<&str> = wanted.iter().copied().filter(|name| !built_elsewhere.contains(name)).collect();
    let is_module = |name: &&str| ["python3", "php-curl", "lib"].iter().any(|kind| name.starts_with(kind));
    if command::is_installed("bpf-linker") && clients.iter().all(is_module) {
        println!("setup: not Debian; taking it that these modules are there: {}", clients.join(" "));
        return Ok(Vec::new());
    }
    bail!(
        "this is not Debian, so install by hand what Debian calls {}; for the kernel's half: \
         `rustup toolchain install nightly --component rust-src` and `cargo install bpf-linker`",
        clients.join(" ")
    )
}

fn has_package(name: &str) -> bool {
    let mut query = program("dpkg-query");
    query.args(["--show", "--showformat", "${Status}", name]);
    query.output().is_ok_and(|output| output.stdout.ends_with(b" installed"))
}

fn install(packages: &[&str]) -> Result<()> {
    let apt = |arguments: &[&str]| {
        let mut command = as_root("env", &["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"])?;
        command.args(arguments);
        command::show(command)
    };
    apt(&["update"])?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&arguments)
}

fn install_schemathesis() -> Result<()> {
    let mut venv = program("/usr/bin/python3");
    venv.args(["-m", "venv", SCHEMATHESIS_HOME]);
    command::show(venv)?;
    let mut pip = program(format!("{SCHEMATHESIS_HOME}/bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", SCHEMATHESIS]);
    command::show(pip)
}
