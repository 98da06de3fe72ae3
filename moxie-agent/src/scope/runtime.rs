//! Container runtimes: what a host's runtimes tell of their containers, and how they are followed.
//!
//! A runtime that is down, restarts or talks nonsense changes nothing about what is known: the last it told holds until it tells
//! something else.

pub mod containerd;
pub mod docker;
pub mod follow;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;

use super::container::Container;

/// How long a runtime may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What has changed about a runtime's containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A container is there, or is another than before.
    Told(Container),
    /// Something happened to the container with this key ([`Container::key`]); it has to be asked for.
    Touched(String),
    /// The container with this key is no more.
    Removed(String),
}

/// Why a runtime tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// There is no socket.
    #[error("there is no socket {}", socket.display())]
    Absent {
        /// Where it should be.
        socket: PathBuf,
    },
    /// The runtime cannot be talked to, or its answer is none.
    #[error("{operation} failed at {}", socket.display())]
    Broken {
        /// What it was asked.
        operation: &'static str,
        /// Its socket.
        socket: PathBuf,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It takes too long.
    #[error("{operation} took more than 10 seconds at {}", socket.display())]
    Slow {
        /// What it was asked.
        operation: &'static str,
        /// Its socket.
        socket: PathBuf,
    },
    /// It does not tell of changes any more.
    #[error("it ended its stream of events at {}", socket.display())]
    Ended {
        /// Its socket.
        socket: PathBuf,
    },
}

/// A container runtime of this host.
#[async_trait]
pub trait Runtime: Send + Sync + fmt::Debug {
    /// Its name: `docker`.
    fn name(&self) -> &'static str;

    /// Its socket.
    fn socket(&self) -> &Path;

    /// Begins to listen for changes since `since`; called before [`Runtime::list`], so that nothing falls between the two.
    ///
    /// # Errors
    /// It does not answer.
    async fn changes(&self, since: Timestamp)
    -> Result<BoxStream<'static, Result<Change, RuntimeError>>, RuntimeError>;

    /// Every container, running or not.
    ///
    /// # Errors
    /// It does not answer.
    async fn list(&self) -> Result<Vec<Container>, RuntimeError>;

    /// One container by its key or its whole id; `None`: it has none.
    ///
    /// # Errors
    /// It does not answer.
    async fn find(&self, key: &str) -> Result<Option<Container>, RuntimeError>;
}

/// `asked`, within a bound.
async fn within<T>(
    operation: &'static str,
    socket: &Path,
    asked: impl Future<Output = Result<T, RuntimeError>>,
) -> Result<T, RuntimeError> {
    let slow = |_| RuntimeError::Slow { operation, socket: socket.to_owned() };
    tokio::time::timeout(PATIENCE, asked).await.map_err(slow)?
}
