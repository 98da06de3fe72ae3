//! `package`: a Debian package and a tarball with a static program, from one build of everything but the last link.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::command::{self, cargo, program};
use crate::setup;

mod tarball;

/// Where files wait to be packed; `[package.metadata.deb]` of the agent's manifest names them.
const STAGE: &str = "target/package/stage";
/// What cargo leaves.
const BUILT: &str = "target/release/moxie";
/// Completion scripts: the shell, and the name that it looks for.
const COMPLETIONS: [(&str, &str); 3] = [("bash", "moxie.bash"), ("zsh", "_moxie"), ("fish", "moxie.fish")];

/// What is packed, and where it goes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Pack this program as it is, into a tarball if it is static and into a .deb if not, instead of building both
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// The .deb's version [default: the workspace's, first revision]
    #[arg(long, value_name = "VERSION")]
    deb_version: Option<String>,
    /// Where packages go
    #[arg(long, value_name = "DIR", default_value = "target/package")]
    out: PathBuf,
}

/// Builds, packs and checks.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::packaging()?;
    fs::create_dir_all(&options.out)?;
    if let Some(built) = &options.program {
        return if tarball::is_static(built)? {
            tarball::pack(built, &options.out)
        } else {
            debian(built, options, Compression::Fast)
        };
    }
    // The static one first, so that what is left in target/release is what `cargo build --release` makes.
    let release = ["--release", "--locked", "-p", "moxie-agent", "--bin", "moxie"];
    let mut fixed = cargo(&["rustc"]);
    fixed.args(release).args(["--", "-C", "target-feature=+crt-static"]);
    command::show(fixed)?;
    ensure!(tarball::is_static(Path::new(BUILT))?, "{BUILT} came out dynamic");
    tarball::pack(Path::new(BUILT), &options.out)?;
    let mut shared = cargo(&["build"]);
    shared.args(release);
    command::show(shared)?;
    debian(Path::new(BUILT), options, Compression::Small)
}

/// What the size of a package may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Fast,
    Small,
}

fn debian(built: &Path, options: &Options, compression: Compression) -> Result<()> {
    let version = options.deb_version.clone().unwrap_or_else(|| format!("{}-1", env!("CARGO_PKG_VERSION")));
    stage(built, &version)?;
    let mut deb = cargo(&["deb", "--package", "moxie-agent", "--no-build", "--no-strip", "--quiet"]);
    deb.args(["--deb-version", &version, "--output"]).arg(&options.out);
    if compression == Compression::Fast {
        deb.arg("--fast");
    }
    let package = PathBuf::from(command::read(deb)?.trim());
    let mut lintian = program("lintian");
    lintian.args(["--fail-on", "error", "--tag-display-limit", "0", "--allow-root"]).arg(&package);
    command::show(lintian)?;
    println!("{}", package.display());
    Ok(())
}

/// The program without its symbols, and what it says about itself.
fn stage(built: &Path, version: &str) -> Result<()> {
    let stage = Path::new(STAGE);
    if stage.exists() {
        fs::remove_dir_all(stage).with_context(|| format!("cannot empty {STAGE}"))?;
    }
    fs::create_dir_all(stage)?;
    let own = stage.join("moxie");
    strip(built, &own)?;
    compress(&stage.join("moxie.1.gz"), &told(&own, &["man"])?)?;
    for (shell, name) in COMPLETIONS {
        fs::write(stage.join(name), told(&own, &["completions", shell])?)?;
    }
    compress(&stage.join("changelog.gz"), &fs::read_to_string("CHANGELOG.md")?)?;
    compress(&stage.join("changelog.Debian.gz"), &changelog(version)?)
}

/// Copies a program without what only a debugger reads.
fn strip(built: &Path, to: &Path) -> Result<()> {
    let mut strip = program("strip");
    strip.args(["--strip-unneeded", "-o"]).arg(to).arg(built);
    command::show(strip)
}

fn told(own: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(own);
    command.args(arguments);
    command::read(command)
}

/// gzip without a time in it, so that the same input gives the same package.
fn compress(to: &Path, text: &str) -> Result<()> {
    let file = fs::File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut gzip = program("gzip");
    let mut child = gzip.args(["-9", "-n"]).stdin(Stdio::piped()).stdout(file).spawn().context("cannot run gzip")?;
    child.stdin.take().context("no pipe to gzip")?.write_all(text.as_bytes())?;
    ensure!(child.wait()?.success(), "gzip failed");
    Ok(())
}

/// What Debian's tools want to read; the project's own changelog is beside it.
fn changelog(version: &str) -> Result<String> {
    let manifest = fs::read_to_string("moxie-agent/Cargo.toml")?;
    let maintainer = manifest.lines().find_map(|line| line.strip_prefix("maintainer = \"")?.strip_suffix('"'));
    let maintainer = maintainer.context("moxie-agent/Cargo.toml names no maintainer of the package")?;
    let mut date = program("date");
    date.args(["--rfc-email", "--utc", &format!("--date=@{}", epoch())]);
    let date = command::read(date)?;
    let notes = "See /usr/share/doc/moxie/changelog.gz.";
    Ok(format!("moxie ({version}) unstable; urgency=medium\n\n  * {notes}\n\n -- {maintainer}  {date}"))
}

/// When the sources were last changed, in seconds since 1970; 0 outside a repository.
fn epoch() -> String {
    let mut git = program("git");
    git.args(["log", "-1", "--format=%ct"]);
    let asked = git.output().ok().filter(|output| output.status.success());
    let text = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "0".into())
}
