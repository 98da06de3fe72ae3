//! The predecessor's side: starts the successor, takes it through the steps, and asks it afterwards.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::wire::{self, Reader, WireError, Writer};
use super::{Estate, HandoverError, PROTOCOL, STEP, ToPredecessor, ToSuccessor};
use crate::journal::Told;
use crate::rulebook::RuleBook;
use crate::rulebook::succession::Order;
use crate::rules::Count;

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
}

impl Successor {
    /// Starts the program that is now at this one's path, with this one's arguments and `--take-over`.
    ///
    /// # Errors
    /// It is not there or does not start.
    pub fn start() -> Result<Self, HandoverError> {
        let program = own_path().map_err(HandoverError::NoProgram)?;
        let failed = |source| HandoverError::Start { program: program.display().to_string(), source };
        let (own, theirs) = StdUnixStream::pair().map_err(failed)?;
        let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--take-over");
        let child = Command::new(&program)
            .args(arguments.chain([OsString::from("--take-over")]))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // Its watchdog is asked of it under its own id, once it is the main process.
            .env_remove("WATCHDOG_PID")
            .spawn();
        let child = Born(Some(child.map_err(failed)?));
        let (reader, writer) = wire::pair(own).map_err(failed)?;
        Ok(Self { child, reader, writer })
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
            ToPredecessor::Prepared { protocol: PROTOCOL, .. } => Ok(()),
            ToPredecessor::Prepared { protocol, version } => {
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
        self.writer
            .send_with(&go, doors)
            .await
            .map_err(|source| HandoverError::Lost { step: "being armed", source })?;
        match self.next("armed").await? {
            ToPredecessor::Armed => Ok(()),
            other => Err(out_of_turn("armed", &other)),
        }
    }

    /// Hands over the counts, and waits until it goes on from them.
    ///
    /// # Errors
    /// It does not.
    pub async fn count(&mut self, counts: &[Count]) -> Result<(), HandoverError> {
        let counts = ToSuccessor::Counts(counts.to_vec());
        self.writer.send(&counts).await.map_err(|source| HandoverError::Lost { step: "the counts", source })?;
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
        let yours = self.writer.send(&ToSuccessor::Yours).await;
        yours.map_err(|source| HandoverError::Lost { step: "the moment itself", source })?;
        // Nobody waits for it: it outlives this process.
        drop(self.child.0.take());
        Ok(Courier { reader: self.reader, writer: self.writer })
    }

    async fn next(&mut self, step: &'static str) -> Result<ToPredecessor, HandoverError> {
        match timeout(STEP, self.reader.receive()).await {
            Ok(received) => received.map_err(|source| HandoverError::Lost { step, source }),
            Err(_) => Err(HandoverError::Slow { step }),
        }
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
