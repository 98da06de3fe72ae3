//! What is inside a machine: the tests, and this host's own programs with their libraries.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::archive::Archive;
use super::suite::Built;
use crate::command::{self, program};

/// The program that makes the machine ready; the kernel starts it first.
const INIT: &str = include_str!("init.sh");
/// The steps that it runs, one a line: name, seconds at most, command line.
const STEPS: &str = "/moxie/steps";
/// Where the agent and the test programs are.
const HOME: &str = "/moxie";

/// What the tests, their clients and `init.sh` start.
const PROGRAMS: [&str; 26] = [
    "bpftool", "busybox", "cat", "curl", "dmesg", "env", "id", "ip", "kmod", "ls", "mkdir", "mktemp", "mount", "nft",
    "node", "openssl", "python3", "rm", "seq", "setpriv", "sh", "sleep", "sysctl", "timeout", "true", "unshare",
];
/// The Python whose modules setup installs.
const PYTHON: &str = "/usr/bin/python3";
/// Python modules that clients import beside the language's own.
const PYTHON_MODULES: &str = "requests, httpx";
/// Files and directories as they are on this host.
const FILES: [&str; 4] =
    ["/etc/ssl/openssl.cnf", "/etc/ssl/certs/ca-certificates.crt", "/etc/protocols", "/etc/services"];
/// The modules that may be asked for, by `ip` and `nft` among others.
const MODULES: [&str; 6] =
    ["kernel/net", "kernel/lib", "kernel/crypto", "kernel/arch", "kernel/drivers/net", "kernel/fs/overlayfs"];

/// The file system without a kernel's modules.
pub(super) fn pack(built: &Built, scratch: &Path, bound: u64) -> Result<Archive> {
    let mut image = Image::default();
    image.host()?;
    image.settings();
    for name in PROGRAMS {
        image.program(&find(name)?)?;
    }
    image.archive.link("/usr/sbin/modprobe", "/usr/bin/kmod");
    image.python()?;
    for file in FILES {
        image.tree(Path::new(file))?;
    }
    image.tests(built, scratch, bound)?;
    image.archive.text("/init", 0o755, INIT);
    Ok(image.archive)
}

/// Adds what a kernel loads when something asks for it.
pub(super) fn add_modules(archive: &mut Archive, modules: &Path) -> Result<()> {
    let release = modules.file_name().context("a kernel's modules have no directory")?;
    let inside = Path::new("/usr/lib/modules").join(release);
    let index = fs::read_dir(modules)?.filter_map(|entry| Some(entry.ok()?.path()));
    let index =
        index.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("modules.")));
    let wanted = MODULES.iter().flat_map(|directory| below(&modules.join(directory)));
    for path in index.chain(wanted) {
        archive.file(inside.join(path.strip_prefix(modules)?), &path)?;
    }
    Ok(())
}

#[derive(Default)]
struct Image {
    archive: Archive,
    libraries: BTreeSet<PathBuf>,
}

impl Image {
    /// The directories that this host has, also those that are links by now.
    fn host(&mut self) -> Result<()> {
        for directory in ["/bin", "/sbin", "/lib", "/lib64"] {
            match fs::read_link(directory) {
                Ok(target) => self.archive.link(directory, target),
                Err(_) => self.archive.directory(directory, 0o755),
            }
        }
        for directory in ["/dev", "/proc", "/sys", "/run", "/root", "/var/lib", "/etc/moxie", HOME] {
            self.archive.directory(directory, 0o755);
        }
        self.archive.directory("/tmp", 0o1777);
        Ok(())
    }

    /// The lab shows its own files over these, where they are.
    fn settings(&mut self) {
        for (path, text) in [
            ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
            ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
            ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
            ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
            ("/etc/resolv.conf", ""),
        ] {
            self.archive.text(path, 0o644, text);
        }
    }

    /// A program at the path that it has here, what it is a link to, and its libraries.
    fn program(&mut self, path: &Path) -> Result<()> {
        let path = settled(path)?;
        let real = path.canonicalize()?;
        if path != real {
            self.archive.link(&path, &real);
        }
        self.archive.file(&real, &real)?;
        self.libraries_of(&real)
    }

    fn libraries_of(&mut self, path: &Path) -> Result<()> {
        let mut ldd = program("ldd");
        ldd.arg(path);
        let output = ldd.output().context("cannot run ldd")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(!said.contains("not found"), "{} lacks a library here:\n{said}", path.display());
        // `name => /path (address)` or `/path (address)`; a static program has none, which ldd calls a failure.
        let paths = said.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
        for library in paths.map(PathBuf::from).filter(|library| library != path) {
            if self.libraries.insert(library.clone()) {
                self.archive.file(settled(&library)?, &library)?;
            }
        }
        Ok(())
    }

    /// A file, or a directory with everything in it, at the path that it has here. Native modules bring their libraries.
    fn tree(&mut self, path: &Path) -> Result<()> {
        let files = if path.is_dir() { below(path) } else { vec![path.to_owned()] };
        for file in files {
            if !self.archive.has(&file) {
                self.archive.file(&file, &file)?;
            }
            if file.extension().is_some_and(|ending| ending == "so") {
                self.libraries_of(&file)?;
            }
        }
        Ok(())
    }

    /// The language's own library, and each module that a client imports with all that it brings in.
    fn python(&mut self) -> Result<()> {
        let script = format!(
            "import sys, os, {PYTHON_MODULES}\n\
             own = os.path.dirname(os.__file__)\n\
             files = {{module.__file__ for name, module in sys.modules.items() if '.' not in name and getattr(module, '__file__', None)}}\n\
             other = {{file for file in files if not file.startswith(own + '/')}}\n\
             print(own, *(os.path.dirname(f) if f.endswith('/__init__.py') else f for f in other), sep='\\n')"
        );
        let mut python = program(PYTHON);
        python.args(["-I", "-c", &script]);
        for path in command::read(python)?.lines() {
            self.tree(Path::new(path))?;
        }
        Ok(())
    }

    fn tests(&mut self, built: &Built, scratch: &Path, bound: u64) -> Result<()> {
        let mut steps = String::new();
        for (step, path) in &built.tests {
            let inside = Path::new(HOME).join(&step.name);
            self.stripped(path, &inside, scratch)?;
            let filters = step.filters.join(" ");
            steps.push_str(&format!("{} {bound} {} --test-threads 2 {filters}\n", step.name, inside.display()));
        }
        self.stripped(&built.moxie, &Path::new(HOME).join("moxie"), scratch)?;
        for other in &built.others {
            self.stripped(other, other, scratch)?;
        }
        self.archive.text(STEPS, 0o644, steps);
        // Test programs know where their own sources are.
        self.tree(&command::root()?.join("tests/programs"))
    }

    /// Without what only a debugger reads, which is most of it.
    fn stripped(&mut self, path: &Path, inside: &Path, scratch: &Path) -> Result<()> {
        let name = path.file_name().with_context(|| format!("{} is no program", path.display()))?;
        let small = scratch.join(name);
        let mut strip = program("strip");
        strip.arg("-o").arg(&small).arg(path);
        command::show(strip)?;
        self.archive.file(inside, &small)?;
        self.libraries_of(path)
    }
}

/// Where a program is: the distribution's first, since another Python or Node may come first in the path.
fn find(name: &str) -> Result<PathBuf> {
    let places = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"];
    let found = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file());
    found.with_context(|| format!("there is no program {name} here: cargo xtask setup installs what is needed"))
}

/// The path without links in its directories: inside, those are directories.
fn settled(path: &Path) -> Result<PathBuf> {
    let (parent, name) =
        path.parent().zip(path.file_name()).with_context(|| format!("{} is no file", path.display()))?;
    Ok(parent.canonicalize()?.join(name))
}

/// Every file below a directory.
fn below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).filter(|path| path.is_file()).collect()
}
