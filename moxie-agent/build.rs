//! Builds the kernel object with an eBPF toolchain and leaves it in `OUT_DIR`, where `divert/ebpf/load.rs` embeds it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Variables of the outer build that would change the inner one; clippy and rustup set the wrappers and the toolchain.
const OUTER_BUILD: [&str; 10] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "RUSTUP_TOOLCHAIN",
];

/// A compiler that can build for the kernel's target.
enum Toolchain {
    /// The distribution's rustc, whose package of the target's core library is installed.
    Distribution(PathBuf),
    /// A nightly of rustup's that has the sources of the core library.
    Nightly,
}

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    for input in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed=../moxie-ebpf/{input}");
    }
    println!("cargo::rerun-if-changed=../moxie-common/src");
    // Embedded by a macro, which does not notice new files.
    println!("cargo::rerun-if-changed=../migrations");
    if env::var_os("CARGO_FEATURE_EBPF").is_none() {
        return ExitCode::SUCCESS;
    }
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let advice = "`cargo xtask setup` installs what is needed; or build with `--no-default-features`, without the kernel half";
            println!("cargo::error={problem}; {advice}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let is_big_endian = env::var_os("CARGO_CFG_TARGET_ENDIAN").is_some_and(|endian| endian == "big");
    let target = if is_big_endian { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
    if !is_on_path("bpf-linker") {
        return Err("the kernel half cannot be linked: there is no bpf-linker on PATH".into());
    }
    let toolchain = find_toolchain(target)
        .ok_or_else(|| format!("the kernel half cannot be compiled: there is no Rust toolchain for {target}"))?;
    compile(&toolchain, target, &out)?;
    let object = out.join("ebpf").join(target).join("release/moxie");
    let embedded = out.join("moxie-ebpf.o");
    std::fs::copy(&object, &embedded).map_err(|error| format!("cannot copy {}: {error}", object.display()))?;
    Ok(())
}

fn compile(toolchain: &Toolchain, target: &str, out: &Path) -> Result<(), String> {
    let mut cargo = match toolchain {
        Toolchain::Distribution(rustc) => {
            let mut cargo = command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            // The target is not a stable one; its core library comes with the compiler.
            cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
            cargo.arg("build");
            cargo
        }
        Toolchain::Nightly => {
            let mut cargo = command("rustup".into());
            cargo.args(["run", "nightly", "cargo", "build", "-Z", "build-std=core"]);
            cargo
        }
    };
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Cdebuginfo=2\u{1f}-Clink-arg=--btf");
    cargo.args(["--release", "--locked", "--target", target, "--manifest-path", "../moxie-ebpf/Cargo.toml"]);
    cargo.arg("--target-dir").arg(out.join("ebpf"));
    let output = cargo.output().map_err(|error| format!("cannot run cargo for the kernel half: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    Err(format!("the kernel half does not build ({}; what the compiler said is above)", output.status))
}

/// The first toolchain that can build for `target`.
fn find_toolchain(target: &str) -> Option<Toolchain> {
    let distribution = PathBuf::from("/usr/bin/rustc");
    if let Some(sysroot) = sysroot(command(distribution.clone().into()))
        && has_core(&sysroot.join("lib/rustlib").join(target).join("lib"))
    {
        return Some(Toolchain::Distribution(distribution));
    }
    let mut nightly = command("rustup".into());
    nightly.args(["run", "nightly", "rustc"]);
    sysroot(nightly).filter(|root| root.join("lib/rustlib/src/rust/library/core").is_dir()).map(|_| Toolchain::Nightly)
}

fn sysroot(mut rustc: Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).output().ok().filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

fn has_core(directory: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// A command that does not see the outer build.
fn command(program: OsString) -> Command {
    let mut command = Command::new(program);
    for name in OUTER_BUILD {
        command.env_remove(name);
    }
    command
}
