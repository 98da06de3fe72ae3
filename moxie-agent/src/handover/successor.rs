//! The predecessor's side: starts the successor, takes it through the steps, and asks it afterwards.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::wire::{self, Reader, WireError, Writer};
use super::{Estate, HandoverError, PROTOCOL, STEP, ToPredecessor, ToSuccessor};
use crate::divert::Sightings;
use crate::journal::Told;
use crate::rulebook::RuleBook;
use crate::rulebook::succession::Order;
use crate::rules::Count;

/// How long an agent that has closed the socket may take to be gone.
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// From one look whether it is gone to the next.
const PACE: Duration = Duration::from_millis(10);
/// What the kernel writes behind the path of a program that was replaced.
const DELETED: &[u8] = b" (deleted)";

/// A process that is killed when dropped, unless it was let go.
#[derive(Debug)]
struct Born(Option<Child>);

impl Drop for Born {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The agent that is to take over. Killed when dropped before that.
#[derive(Debug)]
pub struct Successor {
    child: Born,
    reader: Reader,
    writer: Writer,
    /// Whether it can be told which names were seen.
    takes_sightings: bool,
}

impl Successor {
    /// Starts the program that is now at this one's path, with this one's arguments and `--take-over`.
    ///
    /// # Errors
    /// It is not there or does not start.
    pub fn start() -> Result<Self, HandoverError> {
        let program = own_path().map_err(HandoverError::NoProgram)?;
        let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--take-over");
        let mut command = Command::new(&program);
        command.args(arguments.chain([OsString::from("--take-over")]));
        // Its watchdog is asked of it under its own id, once it is the main process.
        command.env_remove("WATCHDOG_PID");
        Self::run(command)
    }

    fn run(mut command: Command) -> Result<Self, HandoverError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source| HandoverError::Start { program: program.clone(), source };
        let (own, theirs) = StdUnixStream::pair().map_err(failed)?;
        let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn();
        // What it was given of the socket is its own: its end is seen here.
        drop(command);
        let child = Born(Some(child.map_err(failed)?));
        let (reader, writer) = wire::pair(own).map_err(failed)?;
        Ok(Self { child, reader, writer, takes_sightings: false })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.0.as_ref().map(Child::id)
    }

    /// Waits until it has done what may fail.
    ///
    /// # Errors
    /// It has not.
    pub async fn prepared(&mut self) -> Result<(), HandoverError> {
        match self.next("prepared").await? {
            ToPredecessor::Prepared { protocol: PROTOCOL, takes_sightings, .. } => {
                self.takes_sightings = takes_sightings;
                Ok(())
            }
            ToPredecessor::Prepared { protocol, version, .. } => {
                Err(HandoverError::OtherProtocol { version, theirs: protocol })
            }
            other => Err(out_of_turn("prepared", &other)),
        }
    }

    /// Hands over what is beside the store, and waits until it is on path too.
    ///
    /// # Errors
    /// It is not.
    pub async fn arm(&mut self, estate: Estate, doors: &[BorrowedFd<'_>]) -> Result<(), HandoverError> {
        let go = ToSuccessor::Go(Box::new(estate));
        if let Err(source) = self.writer.send_with(&go, doors).await {
            return Err(self.lost("armed", source).await);
        }
        match self.next("armed").await? {
            ToPredecessor::Armed => Ok(()),
            other => Err(out_of_turn("armed", &other)),
        }
    }

    /// Tells it which names were seen at which addresses, if it can be told; asked for now, when it hears the answers too.
    ///
    /// # Errors
    /// It cannot be told.
    pub async fn tell(&mut self, sightings: impl AsyncFnOnce() -> Sightings) -> Result<(), HandoverError> {
        if !self.takes_sightings {
            return Ok(());
        }
        match self.writer.send(&ToSuccessor::Seen(sightings().await)).await {
            Ok(()) => Ok(()),
            Err(source) => Err(self.lost("told what names were seen", source).await),
        }
    }

    /// Hands over the counts, and waits until it goes on from them.
    ///
    /// # Errors
    /// It does not.
    pub async fn count(&mut self, counts: &[Count]) -> Result<(), HandoverError> {
        let counts = ToSuccessor::Counts(counts.to_vec());
        if let Err(source) = self.writer.send(&counts).await {
            return Err(self.lost("told of the counts", source).await);
        }
        match self.next("told of the counts").await? {
            ToPredecessor::Counted => Ok(()),
            other => Err(out_of_turn("told of the counts", &other)),
        }
    }

    /// Tells it that the moment has passed. It lives on its own from here on.
    ///
    /// # Errors
    /// It cannot be told.
    pub async fn leave_to(mut self) -> Result<Courier, HandoverError> {
        if let Err(source) = self.writer.send(&ToSuccessor::Yours).await {
            return Err(self.lost("told that the moment has passed", source).await);
        }
        // Nobody waits for it: it outlives this process.
        drop(self.child.0.take());
        Ok(Courier { reader: self.reader, writer: self.writer })
    }

    async fn next(&mut self, step: &'static str) -> Result<ToPredecessor, HandoverError> {
        match timeout(STEP, self.reader.receive()).await {
            Ok(Ok(message)) => Ok(message),
            Ok(Err(source)) => Err(self.lost(step, source).await),
            Err(_) => Err(HandoverError::Slow { step }),
        }
    }

    /// That a process ends is seen by its socket first, and how it ended a moment later.
    async fn lost(&mut self, step: &'static str, source: WireError) -> HandoverError {
        let may_have_ended = matches!(source, WireError::Closed | WireError::Socket(_));
        let end = if may_have_ended { self.end().await } else { None };
        match end {
            Some(status) => HandoverError::Ended { step, status },
            None => HandoverError::Lost { step, source },
        }
    }

    async fn end(&mut self) -> Option<ExitStatus> {
        let child = self.child.0.as_mut()?;
        let ended = async {
            loop {
                match child.try_wait() {
                    Ok(None) => sleep(PACE).await,
                    Ok(Some(status)) => return Some(status),
                    Err(_) => return None,
                }
            }
        };
        timeout(LAST_MOMENT, ended).await.ok().flatten()
    }
}

fn out_of_turn(step: &'static str, message: &ToPredecessor) -> HandoverError {
    HandoverError::Lost { step, source: WireError::OutOfTurn(format!("{message:?}")) }
}

/// Where this program was started from, which may be another's place by now: that is the point.
fn own_path() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let bytes = path.as_os_str().as_bytes();
    let path =
        bytes.strip_suffix(DELETED).map_or_else(|| path.clone(), |bytes| OsString::from_vec(bytes.to_vec()).into());
    std::fs::metadata(&path)?;
    Ok(path)
}

/// Carries what still happens here to the agent that has taken over.
#[derive(Debug)]
pub struct Courier {
    reader: Reader,
    writer: Writer,
}

impl Courier {
    /// Runs until there is nothing left to carry, or the successor is gone; then it makes sure that no count is exceeded.
    pub async fn run(self, rules: Arc<RuleBook>, orders: UnboundedReceiver<Order>, records: UnboundedReceiver<Told>) {
        let Self { reader, writer } = self;
        let asked = Asked::default();
        // Side by side: each waits for the other agent, which may wait for the other of the two.
        tokio::select! {
            () = answers(reader, &asked) => {}
            () = messages(writer, orders, records, &asked) => {}
        }
        // Before those who wait are told: they decide anew, and find nothing left.
        rules.lose_counts();
        drop(asked);
    }
}

/// Who waits for an answer.
#[derive(Debug, Default)]
struct Asked(Mutex<HashMap<u64, oneshot::Sender<bool>>>);

impl Asked {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<bool>>> {
        // Whoever holds this lock does nothing that panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answers(mut reader: Reader, asked: &Asked) {
    while let Ok(message) = reader.receive().await {
        let ToPredecessor::Answer { ask, granted } = message else { continue };
        if let Some(reply) = asked.lock().remove(&ask) {
            // Who asked may have gone away; the firing is counted all the same, as one that broke off would be.
            let _ = reply.send(granted);
        }
    }
}

async fn messages(
    writer: Writer,
    mut orders: UnboundedReceiver<Order>,
    mut records: UnboundedReceiver<Told>,
    asked: &Asked,
) {
    for ask in 0.. {
        let message = tokio::select! {
            Some(order) = orders.recv() => match order {
                Order::Take(rule, reply) => {
                    asked.lock().insert(ask, reply);
                    ToSuccessor::Take { ask, rule }
                }
                Order::Fired(rule, hits, last_hit_ms) => ToSuccessor::Fired { rule, hits, last_hit_ms },
            },
            Some(record) = records.recv() => ToSuccessor::Record(record),
            else => return,
        };
        if writer.send(&message).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn trouble(script: &str) -> HandoverError {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Successor::run(command).unwrap().prepared().await.unwrap_err()
    }

    #[tokio::test]
    async fn how_a_successor_ended_is_told() {
        for (script, expected) in [
            ("exit 3", "the new agent ended with exit status 3 before it was prepared"),
            ("kill -9 $$", "the new agent ended by signal 9 (SIGKILL) before it was prepared"),
            // What it closes before it goes is how its end looks at first.
            ("exec <&-; exec sleep 0.1", "the new agent ended with exit status 0 before"),
            ("echo nonsense >&0; exec sleep 60", "the new agent was not prepared"),
            ("exec <&-; exec sleep 60", "the new agent was not prepared"),
        ] {
            let told = trouble(script).await.to_string();
            assert!(told.starts_with(expected), "{script}: {told}");
        }
    }

    /// The messages that a successor was told, of one that says `prepared`.
    async fn told(prepared: &str) -> Vec<ToSuccessor> {
        let files = tempfile::tempdir().unwrap();
        let heard = files.path().join("heard");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("echo '{prepared}' >&0; exec cat > {}", heard.display())]);
        let mut successor = Successor::run(command).unwrap();
        successor.prepared().await.unwrap();
        successor.tell(async || Sightings::default()).await.unwrap();
        successor.writer.send(&ToSuccessor::Yours).await.unwrap();
        let mut child = successor.child.0.take().unwrap();
        drop(successor);
        assert!(child.wait().unwrap().success());
        let heard = std::fs::read_to_string(heard).unwrap();
        heard.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn only_a_version_that_understands_it_is_told_what_names_were_seen() {
        let old = told(r#"{"Prepared":{"protocol":1,"version":"0.1.0"}}"#).await;
        assert!(matches!(old[..], [ToSuccessor::Yours]), "{old:?}");
        let new = told(r#"{"Prepared":{"protocol":1,"version":"0.1.0","takes_sightings":true,"later":1}}"#).await;
        assert!(matches!(new[..], [ToSuccessor::Seen(_), ToSuccessor::Yours]), "{new:?}");
    }
}
