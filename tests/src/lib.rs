//! The lab: an agent, unmodified clients and stand-ins for the named APIs, in network namespaces with no way out.
//!
//! A test makes a [`Lab`], starts an [`Agent`](lab::agent::Agent) in it, runs clients and asks the stand-ins what they saw.
//! Everything that a lab makes is gone when it is dropped, also after a panic or Ctrl-C.

pub mod clients;
pub mod evidence;
pub mod in_process;
pub mod lab;
pub mod podman;
pub mod programs;
pub mod rest;
pub mod runtimes;
pub mod systemd;
pub mod wait;
pub mod way;

pub use in_process::InProcess;
pub use lab::Lab;
pub use lab::agent::Agent;
pub use programs::{Answer, Program, Session};
pub use rest::{Reply, Rest};
pub use way::{Difference, Way};

/// Delays and times that tests wait at most; a healthy run needs a small part of them.
pub mod bounds {
    use std::time::Duration;

    /// For something that follows at once.
    pub const SOON: Duration = Duration::from_secs(10);
    /// For a whole program to run.
    pub const PROGRAM: Duration = Duration::from_secs(60);
    /// For something that is made once and kept.
    pub const BUILD: Duration = Duration::from_secs(600);
}
