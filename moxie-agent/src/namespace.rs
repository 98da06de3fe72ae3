//! A network namespace, and work done inside it: sockets belong for good to the namespace they are made in.
//!
//! A thread enters a namespace once and stays there; nothing that the runtime's own threads do ever leaves the agent's namespace.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

/// Tells one namespace from another, for as long as either exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamespaceId {
    device: u64,
    inode: u64,
}

impl NamespaceId {
    /// Of the namespace that a process is in.
    ///
    /// # Errors
    /// The process is gone, or may not be looked at.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Ok(Self::of(&std::fs::metadata(format!("/proc/{pid}/ns/net"))?))
    }

    fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// The number by which `lsns` and `/proc/PID/ns/net` name it.
    #[must_use]
    pub fn inode(self) -> u64 {
        self.inode
    }
}

/// A network namespace. Whoever holds one of another process keeps it alive, with its devices.
#[derive(Debug)]
pub struct Namespace {
    id: NamespaceId,
    /// Where work is done; `None` for the agent's own, which every thread is in.
    worker: Option<Sender<Job>>,
}

type Job = Box<dyn FnOnce() + Send>;

/// For the thread in a namespace, bytes: there may be hundreds, and their work is a few system calls.
const STACK: usize = 256 * 1024;

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Namespace {}

impl Namespace {
    /// The agent's own.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn own() -> io::Result<Arc<Self>> {
        let id = NamespaceId::of(&std::fs::metadata("/proc/self/ns/net")?);
        Ok(Arc::new(Self { id, worker: None }))
    }

    /// The calling thread's: the agent's own, unless the thread has been moved into another.
    ///
    /// # Errors
    /// There is no `/proc`, or no thread can be made.
    pub fn current() -> io::Result<Arc<Self>> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The one that a process is in now.
    ///
    /// # Errors
    /// The process is gone, or the agent may not enter its namespace.
    pub fn of_process(pid: u32) -> io::Result<Arc<Self>> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The one that a file of the kernel's namespace file system stands for.
    ///
    /// # Errors
    /// There is no such file, or the agent may not enter the namespace.
    pub fn open(path: &Path) -> io::Result<Arc<Self>> {
        let file = File::open(path)?;
        let id = NamespaceId::of(&file.metadata()?);
        let own = Self::own()?;
        if own.id == id {
            return Ok(own);
        }
        Ok(Arc::new(Self { id, worker: Some(enter(file, id)?) }))
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> NamespaceId {
        self.id
    }

    /// Whether it is the agent's own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.worker.is_none()
    }

    /// Does `work` inside, and blocks until it is done.
    ///
    /// # Errors
    /// The thread inside has ended: an earlier piece of work panicked.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let Some(worker) = &self.worker else { return Ok(work()) };
        let (done, result) = channel();
        let job = move || drop(done.send(work()));
        worker.send(Box::new(job)).map_err(|_| ended())?;
        result.recv().map_err(|_| ended())
    }

    /// A TCP socket inside, for connecting to `destination`.
    ///
    /// # Errors
    /// The kernel made none.
    pub async fn socket_to(&self, destination: SocketAddr) -> io::Result<TcpSocket> {
        let make =
            move || Socket::new(Domain::for_address(destination), Type::STREAM.nonblocking(), Some(Protocol::TCP));
        let socket = match &self.worker {
            None => make()?,
            Some(worker) => {
                let (done, result) = oneshot::channel();
                let job = move || drop(done.send(make()));
                worker.send(Box::new(job)).map_err(|_| ended())?;
                result.await.map_err(|_| ended())??
            }
        };
        Ok(TcpSocket::from_std_stream(socket.into()))
    }
}

/// A thread inside; it ends when the sender is dropped.
fn enter(file: File, id: NamespaceId) -> io::Result<Sender<Job>> {
    let (jobs, work) = channel::<Job>();
    let (entered, answer) = channel();
    let inside = move || {
        let is_inside = setns(file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        drop(file);
        let goes_on = is_inside.is_ok();
        if entered.send(is_inside).is_ok() && goes_on {
            work.into_iter().for_each(|job| job());
        }
    };
    thread::Builder::new().name(format!("netns-{}", id.inode)).stack_size(STACK).spawn(inside)?;
    answer.recv().map_err(|_| ended())??;
    Ok(jobs)
}

fn ended() -> io::Error {
    io::Error::other("the thread in the network namespace has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_in_the_own_namespace_is_done_here() {
        let own = Namespace::own().unwrap();
        assert!(own.is_own());
        assert_eq!(own.id(), NamespaceId::of_process(std::process::id()).unwrap());
        let here = thread::current().id();
        assert_eq!(own.run(|| thread::current().id()).unwrap(), here);
        assert_eq!(Namespace::of_process(std::process::id()).unwrap(), own);
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        assert!(Namespace::of_process(u32::MAX).is_err());
    }
}
