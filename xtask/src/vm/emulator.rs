//! Which qemu boots the kernels: this machine's, or Debian's newer one where this machine's is too old to emulate them all.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::debian;
use super::machine::Accelerator;
use crate::command::{self, program};

const QEMU: &str = "qemu-system-x86_64";
/// The first that emulates Linux 6.12 without corrupting it: 7.2 does, in every second boot; 10.0 was seen not to.
const GOOD: u32 = 10;
/// Where there is one for the Debian that has an old one.
const SUITE: &str = "bookworm-backports";

/// A qemu, and where its firmware is if that is not where it was built to look.
#[derive(Debug)]
pub(super) struct Emulator {
    program: PathBuf,
    firmware: Vec<PathBuf>,
    version: String,
}

impl Emulator {
    /// The one to use here; a newer one than this machine's is unpacked below `cache`. With KVM nothing is emulated that matters.
    pub(super) fn here(cache: &Path) -> Result<Self> {
        let installed = Self::at(QEMU.into(), Vec::new())?;
        if Accelerator::here() == Accelerator::Kvm || installed.major() >= GOOD {
            return Ok(installed);
        }
        let root = debian::fetch_emulator(SUITE, cache)?;
        let firmware = ["usr/share/qemu", "usr/share/seabios"].map(|directory| root.join(directory));
        Self::at(root.join("usr/bin").join(QEMU), firmware.into())
    }

    fn at(path: PathBuf, firmware: Vec<PathBuf>) -> Result<Self> {
        let mut asked = program(&path);
        asked.arg("--version");
        let text = command::read(asked).with_context(|| format!("{} does not run", path.display()))?;
        let version = text.split_whitespace().nth(3).unwrap_or_default().to_owned();
        let emulator = Self { program: path, firmware, version };
        ensure!(emulator.major() > 0, "{} does not tell its version: {text}", emulator.program.display());
        Ok(emulator)
    }

    fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default()
    }

    /// As people know it.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// A call of it, with nothing but its firmware.
    pub(super) fn command(&self) -> Command {
        let mut qemu = program(&self.program);
        for directory in &self.firmware {
            qemu.arg("-L").arg(directory);
        }
        qemu
    }
}
