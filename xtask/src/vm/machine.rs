//! One machine: qemu with a kernel, a file system in memory, a serial line and nothing else, least of all a network.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::console::{Console, Event};
use super::emulator::Emulator;
use crate::command;

const MEGABYTES: &str = "3072";
/// `loglevel` leaves the line to the tests, but for a kernel that dies; `panic` ends qemu then, which is told not to reboot.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=3 panic=-1";

/// How the machine's instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// By the processor.
    Kvm,
    /// By qemu.
    Tcg,
}

impl Accelerator {
    /// The device alone tells little: machines in clouds have it without the processor's part.
    pub(super) fn here() -> Self {
        let can_open = OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = processor.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
        let can_virtualize = flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
        if can_open && can_virtualize { Self::Kvm } else { Self::Tcg }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// Boots, and hands every event to `told`, until the machine says that it is done. Its serial line is kept in `log`.
///
/// # Errors
/// The machine ends before, says nothing for too long, is not done in time, or `told` objects.
pub(super) fn run(
    emulator: &Emulator,
    image: &Path,
    file_system: &Path,
    log: &Path,
    bounds: &Bounds,
    mut told: impl FnMut(Event) -> Result<()>,
) -> Result<()> {
    let mut machine = Machine::boot(emulator.command(), image, file_system, log)?;
    let ended = machine.listen(bounds, &mut told);
    machine.end();
    ended.with_context(|| format!("{}\nall of it is in {}", last_lines(log), log.display()))
}

/// How long a machine may take.
#[derive(Debug)]
pub(super) struct Bounds {
    /// From one line to the next.
    pub(super) silence: Duration,
    /// From its start to its end.
    pub(super) whole: Duration,
}

struct Machine {
    qemu: Child,
    lines: Receiver<String>,
    log: File,
    begun: Instant,
}

impl Machine {
    fn boot(mut qemu: Command, image: &Path, file_system: &Path, log: &Path) -> Result<Self> {
        qemu.args(["-accel", Accelerator::here().name(), "-cpu", "max", "-smp", "2", "-m", MEGABYTES]);
        qemu.args([
            "-nodefaults",
            "-no-reboot",
            "-nic",
            "none",
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "stdio",
        ]);
        qemu.arg("-kernel").arg(image).arg("-initrd").arg(file_system).args(["-append", COMMAND_LINE]);
        let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let (qemu, lines) = start(qemu, &log)?;
        Ok(Self { qemu, lines, log, begun: command::now() })
    }

    fn listen(&mut self, bounds: &Bounds, told: &mut impl FnMut(Event) -> Result<()>) -> Result<()> {
        let mut console = Console::default();
        loop {
            let left = bounds.whole.saturating_sub(self.begun.elapsed());
            let line = match self.lines.recv_timeout(bounds.silence.min(left)) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => bail!("the machine ended before its tests did"),
                Err(RecvTimeoutError::Timeout) if left < bounds.silence => {
                    bail!("the machine is not done after {} s", bounds.whole.as_secs())
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the machine has said nothing for {} s", bounds.silence.as_secs())
                }
            };
            writeln!(self.log, "{:>7.1} {line}", self.begun.elapsed().as_secs_f64())?;
            match console.read(&line)? {
                Some(Event::Done) => return Ok(()),
                Some(event) => told(event)?,
                None => (),
            }
        }
    }

    /// It has said all that it has to say.
    fn end(&mut self) {
        // Already ended is as good.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Starts qemu; its complaints go to the log, its serial line comes line by line.
fn start(mut qemu: Command, log: &File) -> Result<(Child, Receiver<String>)> {
    let line = command::line(&qemu);
    qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.try_clone()?);
    let mut qemu = qemu.spawn().with_context(|| format!("cannot run {line}"))?;
    let serial = qemu.stdout.take().ok_or_else(|| anyhow!("qemu has no serial line"))?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let mut serial = BufReader::new(serial);
        let mut line = Vec::new();
        while serial.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
    Ok((qemu, lines))
}

fn last_lines(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
