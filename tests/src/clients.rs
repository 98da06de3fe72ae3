//! One client of each kind that finds its roots in a way of its own: told a URL, it prints the status that it got.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::lab::Running;
use crate::programs::PYTHON;
use crate::{bounds, lab};

/// A client.
#[derive(Clone, Copy, Debug)]
pub struct Runtime {
    /// As people call it.
    pub name: &'static str,
    /// Where it looks for roots.
    pub roots: &'static str,
    words: &'static [&'static str],
}

/// `DIR` stands for the directory of the [`Kit`].
const fn runtime(name: &'static str, roots: &'static str, words: &'static [&'static str]) -> Runtime {
    Runtime { name, roots, words }
}

/// Every client. The last three bring roots of their own.
pub const RUNTIMES: &[Runtime] = &[
    runtime("curl", "`CURL_CA_BUNDLE`, `SSL_CERT_FILE`, the system's bundle", &["/bin/sh", "DIR/status.sh", "curl"]),
    runtime("wget", "the system's bundle", &["/bin/sh", "DIR/status.sh", "wget"]),
    runtime("git", "`GIT_SSL_CAINFO`, the system's bundle", &["/bin/sh", "DIR/status.sh", "git"]),
    runtime("Python urllib", "`SSL_CERT_FILE`, the system's bundle", &[PYTHON, "DIR/status.py", "urllib"]),
    runtime(
        "Python requests",
        "`REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`, certifi",
        &[PYTHON, "DIR/status.py", "requests"],
    ),
    runtime("Python httpx", "`SSL_CERT_FILE`, certifi", &[PYTHON, "DIR/status.py", "httpx"]),
    runtime("Python aiohttp", "`SSL_CERT_FILE`, the system's bundle", &[PYTHON, "DIR/status.py", "aiohttp"]),
    runtime("Node", "roots compiled in, and `NODE_EXTRA_CA_CERTS`", &["node", "DIR/status.mjs", "fetch"]),
    runtime("Go", "`SSL_CERT_FILE`, the system's bundle", &["DIR/status", "system"]),
    runtime("Java 17", "a key store of its own; `JAVA_TOOL_OPTIONS`", &["java", "-cp", "DIR", "Status"]),
    runtime("Ruby", "`SSL_CERT_FILE`, the system's bundle", &["ruby", "DIR/status.rb"]),
    runtime(
        "PHP streams",
        "`openssl.cafile`, `SSL_CERT_FILE`, the system's bundle",
        &["php", "DIR/status.php", "stream"],
    ),
    runtime("PHP curl", "`curl.cainfo`, the system's bundle", &["php", "DIR/status.php", "curl"]),
    runtime("Perl LWP", "`PERL_LWP_SSL_CA_FILE`, `SSL_CERT_FILE`, the system's bundle", &["perl", "DIR/status.pl"]),
    runtime("Go with a pool of its own", "the program itself", &["DIR/status", "pool"]),
    runtime("Node that hands `ca` over", "the program itself", &["node", "DIR/status.mjs", "ca"]),
    runtime("curl with `--cacert`", "the program itself", &["/bin/sh", "DIR/status.sh", "cacert"]),
];

impl Runtime {
    /// The command line of one call, with the kit in `directory`.
    #[must_use]
    pub fn call(&self, directory: &Path, url: &str) -> Vec<String> {
        let directory = directory.display().to_string();
        let words = self.words.iter().map(|word| word.replace("DIR", &directory));
        words.chain([url.to_owned()]).collect()
    }

    /// The client of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<&'static Self> {
        RUNTIMES.iter().find(|runtime| runtime.name == name).with_context(|| format!("there is no client {name}"))
    }
}

/// The clients' programs in one directory, those compiled that have to be.
#[derive(Debug)]
pub struct Kit {
    directory: PathBuf,
}

impl Kit {
    /// Makes it, below `target`; needs `go` and `javac`, and no network.
    ///
    /// # Errors
    /// A program does not compile.
    pub fn make() -> Result<Self> {
        // One at a time: what a client runs is not written meanwhile.
        static MADE: Mutex<Option<PathBuf>> = Mutex::new(None);
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = match made.take() {
            Some(directory) => directory,
            None => Self::compiled()?,
        };
        *made = Some(directory.clone());
        Ok(Self { directory })
    }

    fn compiled() -> Result<PathBuf> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let made = package.join("../target/status");
        fs::create_dir_all(&made)?;
        let directory = fs::canonicalize(&made)?;
        let sources = package.join("programs/status");
        for entry in fs::read_dir(&sources)? {
            let entry = entry?;
            fs::copy(entry.path(), directory.join(entry.file_name()))?;
        }
        let mut go = Command::new("go");
        go.args(["build", "-o", "status", "status.go"]).current_dir(&directory).env_clear();
        go.env("PATH", lab::PATH).env("HOME", &directory).env("GOFLAGS", "-mod=mod").env("GOPROXY", "off");
        // Static: it has to run on hosts with another C library too.
        go.env("CGO_ENABLED", "0").env("GOCACHE", directory.join("cache"));
        compile(go)?;
        let mut java = Command::new("javac");
        java.args(["--release", "17", "Status.java"]).current_dir(&directory).env_clear().env("PATH", lab::PATH);
        compile(java)?;
        Ok(directory)
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its programs, without what compiling them has left.
    ///
    /// # Errors
    /// The file system's.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let entries =
            fs::read_dir(&self.directory)?.map(|entry| anyhow::Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        Ok(entries.into_iter().filter(|path| path.is_file()).collect())
    }
}

fn compile(command: Command) -> Result<()> {
    let what = command.get_program().to_string_lossy().into_owned();
    let done = Running::start(command).with_context(|| format!("{what} is needed; cargo xtask setup installs it"))?;
    let done = done.finish(bounds::BUILD)?;
    ensure!(done.status.success(), "{what}: {}\n{}", done.status, done.stderr);
    Ok(())
}

/// Whether what a client printed says that it took the answer of a rule.
#[must_use]
pub fn took_429(printed: &str) -> bool {
    printed.contains("429")
}
