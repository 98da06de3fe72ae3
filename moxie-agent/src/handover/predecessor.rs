//! The successor's side: takes the steps, and afterwards keeps the counts for the connections that the predecessor still has.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use super::wire::{self, Reader, WireError, Writer};
use super::{Estate, PROTOCOL, ToPredecessor, ToSuccessor};
use crate::divert::Sightings;
use crate::journal::Journal;
use crate::rulebook::RuleBook;
use crate::rules::Count;

/// The agent that this one takes over from.
#[derive(Debug)]
pub struct Predecessor {
    reader: Reader,
    writer: Writer,
}

/// What it hands over.
#[derive(Debug)]
pub struct Inheritance {
    /// Beside what is in the store.
    pub estate: Estate,
    /// The admin API's Unix socket.
    pub unix: OwnedFd,
    /// The admin API's TCP socket.
    pub tcp: OwnedFd,
}

impl Predecessor {
    /// On the other end of stdin, which is empty from then on. Call it inside the runtime.
    ///
    /// # Errors
    /// Stdin is no such socket: nobody is to be taken over from.
    pub fn on_stdin() -> io::Result<Self> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        let stream = StdUnixStream::from(socket);
        // Fails on what is no socket.
        stream.peer_addr()?;
        nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
        let (reader, writer) = wire::pair(stream)?;
        Ok(Self { reader, writer })
    }

    /// Says that what may fail is done, and waits for what is handed over.
    ///
    /// # Errors
    /// The predecessor is gone, or has changed its mind.
    pub async fn inherit(&mut self) -> Result<Inheritance, WireError> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.writer.send(&ToPredecessor::Prepared { protocol: PROTOCOL, version, takes_sightings: true }).await?;
        let ToSuccessor::Go(estate) = self.reader.receive().await? else { return Err(out_of_turn("no go")) };
        let mut socket = || self.reader.descriptor().ok_or_else(|| out_of_turn("no socket"));
        Ok(Inheritance { estate: *estate, unix: socket()?, tcp: socket()? })
    }

    /// Says that this agent is on path too, and waits for what was seen there, if the predecessor tells that, and the counts.
    ///
    /// # Errors
    /// As for [`Predecessor::inherit`].
    pub async fn armed(&mut self) -> Result<(Sightings, Vec<Count>), WireError> {
        self.writer.send(&ToPredecessor::Armed).await?;
        let mut sightings = Sightings::default();
        loop {
            match self.reader.receive().await? {
                ToSuccessor::Seen(seen) => sightings = seen,
                ToSuccessor::Counts(counts) => return Ok((sightings, counts)),
                _ => return Err(out_of_turn("no counts")),
            }
        }
    }

    /// Says that the counts go on here, and waits for the moment.
    ///
    /// # Errors
    /// As for [`Predecessor::inherit`].
    pub async fn counted(&mut self) -> Result<(), WireError> {
        self.writer.send(&ToPredecessor::Counted).await?;
        match self.reader.receive().await? {
            ToSuccessor::Yours => Ok(()),
            _ => Err(out_of_turn("not yet")),
        }
    }

    /// Answers for the counts, and lists what the predecessor's connections do, until it ends.
    pub async fn attend(mut self, rules: Arc<RuleBook>, journal: Arc<Journal>) {
        while let Ok(message) = self.reader.receive().await {
            match message {
                ToSuccessor::Take { ask, rule } => {
                    let granted = rules.take_for_another(&rule).await;
                    if self.writer.send(&ToPredecessor::Answer { ask, granted }).await.is_err() {
                        break;
                    }
                }
                ToSuccessor::Fired { rule, hits, last_hit_ms } => rules.fired_by_another(&rule, hits, last_hit_ms),
                ToSuccessor::Record(record) => journal.receive(record),
                ToSuccessor::Go(_) | ToSuccessor::Seen(_) | ToSuccessor::Counts(_) | ToSuccessor::Yours => {}
            }
        }
        tracing::info!("the agent before this one has ended");
    }
}

fn out_of_turn(what: &str) -> WireError {
    WireError::OutOfTurn(what.to_owned())
}
