//! The lab of a user without root: the stand-ins on free ports of loopback, which the explicit proxy is told of.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::authority::Authority;
use super::{Origins, agent, trust};

/// The stand-ins, and a directory for whatever runs beside them. Everything is gone when it is dropped.
#[derive(Debug)]
pub struct Loopback {
    origins: Origins,
    files: TempDir,
}

impl Loopback {
    /// Starts the stand-ins. Needs nothing.
    ///
    /// # Errors
    /// What the system refused.
    pub fn new() -> Result<Self> {
        let files = tempfile::tempdir()?;
        let (trusted, unknown) = (Authority::create("Lab authority")?, Authority::create("Unknown authority")?);
        fs::write(files.path().join("trusted.pem"), trusted.pem())?;
        let mut stand_ins = Vec::new();
        let origins = Origins::start_on(&trusted, &unknown, |place, port| {
            let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
            stand_ins.push(format!("\"{}:{port}={}\"", place.host, socket.local_addr()?));
            Ok(socket)
        })?;
        // Two names of a port that nobody listens on: it was just given out and is given back.
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        for host in ["absent.example", "down.example"] {
            stand_ins.extend([80, 443].map(|port| format!("\"{host}:{port}={closed}\"")));
        }
        let configuration = format!("[divert]\nstand_ins = [{}]\n", stand_ins.join(", "));
        fs::write(files.path().join("moxie.toml"), configuration)?;
        Ok(Self { origins, files })
    }

    /// The stand-ins.
    #[must_use]
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Directory for files.
    #[must_use]
    pub fn files(&self) -> &Path {
        self.files.path()
    }

    /// The certificate that clients trust.
    #[must_use]
    pub fn trusted(&self) -> PathBuf {
        self.files().join("trusted.pem")
    }

    /// The `moxie` program with arguments still to come: it goes by the proxy, knows the stand-ins, and has nothing in its environment
    /// but a path, a home and the lab's trust.
    ///
    /// # Errors
    /// It was not built.
    pub fn moxie(&self) -> Result<Command> {
        let mut command = Command::new(agent::program()?);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.files());
        command.env("MOXIE_CONFIG", self.files().join("moxie.toml")).env("MOXIE_VIA", "proxy");
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        trust(&mut command, &self.trusted());
        Ok(command)
    }
}
