//! An upgrade without a gap: the agent starts the program that is now in its place, and hands everything over to it.
//!
//! Both are on path at the same time. A cgroup may have programs of both on its hooks; the first to divert a connection wins, and
//! the others see a destination on loopback, which nobody diverts. So the successor brings its own kernel half, its own listeners
//! (on the next block of ports) and its own heartbeat, whatever version it is of; and when everything stands, the predecessor
//! switches its own half off by one write to a map. Every connect before that is diverted to the one, every connect after it to
//! the other. Until the switch, whatever goes wrong ends the successor and nothing else.
//!
//! ```text
//! predecessor                                   successor
//! start with --take-over, a socket as stdin
//!                                       <-      Prepared      kernel half loaded, listeners open
//! stop answering the API (calls wait), write what waits
//! Go: admin sockets, scopes, lessons    ->                    store, rules, scopes on path too, accept loops, heartbeat
//!                                       <-      Armed
//! Seen: which names are where           ->                    judges them by the rules
//! Counts: every rule's                  ->
//!                                       <-      Counted
//! switch the own kernel half off        (the moment)
//! Yours                                 ->                    answers the API, looks after what it was handed
//! Take, Fired, Record                   <->     Answer        while connections of the predecessor go on
//! ```

mod predecessor;
mod successor;
mod wire;

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

pub use predecessor::{Inheritance, Predecessor};
pub use successor::{Courier, Successor};

use crate::datapath::learned::Lessons;
use crate::divert::Sightings;
use crate::journal::Told;
use crate::rules::{Count, RuleId};
use crate::scope::container::Container;
use crate::scope::registry::HandedTree;
pub use wire::WireError;

/// Changes whenever the messages below change their meaning.
const PROTOCOL: u32 = 1;
/// How long a successor may take for one step; loading into the kernel takes tens of milliseconds.
const STEP: Duration = Duration::from_secs(30);
/// How long connections that the kernel had on their way to the predecessor may take to get there.
pub const LINGER: Duration = Duration::from_secs(1);

/// Why nothing was handed over. The predecessor goes on as before.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The program is not there.
    #[error("the program of this agent cannot be found; put it back and reload again")]
    NoProgram(#[source] std::io::Error),
    /// It does not start.
    #[error("cannot start {program}")]
    Start {
        /// Which.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It ended.
    #[error("the new agent ended {} before it was {step}; its last words are in the log", fate(*status))]
    Ended {
        /// What it was to be.
        step: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// It closed the socket, or said what makes no sense.
    #[error("the new agent was not {step}; its last words are in the log")]
    Lost {
        /// What it was to be.
        step: &'static str,
        /// What was seen of it.
        source: WireError,
    },
    /// It took too long.
    #[error("the new agent was not {step} within {} s", STEP.as_secs())]
    Slow {
        /// What it was to be.
        step: &'static str,
    },
    /// It speaks another language.
    #[error(
        "the new agent ({version}) hands over by protocol {theirs}, this one by {PROTOCOL}: restart instead of reloading"
    )]
    OtherProtocol {
        /// Its version.
        version: String,
        /// Its protocol.
        theirs: u32,
    },
    /// Rules that exist in this process only.
    #[error("the store is in memory: rules would be lost; give the agent a store on disk with --store, or restart it")]
    StoreInMemory,
    /// Two agents cannot be on path by it at once.
    #[error("agents on path by {name} cannot hand over: restart instead of reloading")]
    OtherWay {
        /// The way on path.
        name: &'static str,
    },
    /// There is no admin API to hand over.
    #[error("this agent has no admin API")]
    NoDoors,
    /// The kernel half did not take the switch.
    #[error("the kernel half of this agent could not be switched off")]
    Switch(#[source] crate::divert::DivertError),
}

/// In words of wait(2): with which status, or by which signal.
fn fate(status: ExitStatus) -> String {
    let name = |signal: i32| Signal::try_from(signal).map_or("unknown", Signal::as_str);
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("with exit status {code}"),
        (None, Some(signal)) => format!("by signal {signal} ({})", name(signal)),
        (None, None) => "without a word".to_owned(),
    }
}

/// What a successor is told.
#[derive(Debug, Serialize, Deserialize)]
enum ToSuccessor {
    Go(Box<Estate>),
    Seen(Sightings),
    Counts(Vec<Count>),
    Yours,
    Take { ask: u64, rule: RuleId },
    Fired { rule: RuleId, hits: u64, last_hit_ms: i64 },
    Record(Told),
}

/// What a predecessor is told.
#[derive(Debug, Serialize, Deserialize)]
enum ToPredecessor {
    Prepared {
        protocol: u32,
        version: String,
        /// Versions before the first that was told what names were seen do not say so.
        #[serde(default)]
        takes_sightings: bool,
    },
    Armed,
    Counted,
    Answer {
        ask: u64,
        granted: bool,
    },
}

/// What an agent leaves to its successor, beside what is in the store.
#[derive(Debug, Serialize, Deserialize)]
pub struct Estate {
    /// The kill switch.
    pub diverting: bool,
    /// What the runtimes told of containers, by the runtimes' names.
    pub containers: Vec<(String, Container)>,
    /// Process trees that are opted in.
    pub trees: Vec<HandedTree>,
    /// What connections have taught.
    pub lessons: Lessons,
}
