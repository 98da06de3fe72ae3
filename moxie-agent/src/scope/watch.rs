//! Cgroups as they appear: an inotify watch on every directory of the hierarchy, read by a thread of its own.
//!
//! A container's runtime makes the directory some 100 ms before the entrypoint runs, systemd some milliseconds before it starts
//! the unit's first process; the thread tells the registry at once, also where every processor is busy ([`turn`]). Whatever is
//! missed, the registry's own look once a second finds.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use super::Scopes;
use super::cgroup;
use crate::turn;

/// Name in [`Scopes::warnings`].
const SOURCE: &str = "watch";

/// Why cgroups cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch cgroups as they appear: {operation}")]
pub struct WatchError {
    operation: &'static str,
    #[source]
    source: io::Error,
}

/// The thread that watches; dropping this ends it.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch the whole hierarchy for `scopes`. Where it cannot be watched, the registry says so in its warnings.
    pub fn start(scopes: &Arc<Scopes>) -> Option<Self> {
        Self::try_start(scopes)
            .map_err(|error| scopes.note(SOURCE, Some(format!("{error} ({}); {LATE}", error.source))))
            .ok()
    }

    fn try_start(scopes: &Arc<Scopes>) -> Result<Self, WatchError> {
        let refused = |operation| move |error: Errno| WatchError { operation, source: error.into() };
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).map_err(refused("no inotify instance"))?;
        let stop =
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(refused("no eventfd"))?;
        let (stop, scopes) = (Arc::new(stop), Arc::downgrade(scopes));
        let watcher = Watcher { inotify, stop: Arc::clone(&stop), scopes, directories: HashMap::new(), is_full: false };
        let thread = thread::Builder::new().name("moxie-cgroups".into()).spawn(move || watcher.run());
        let thread = thread.map_err(|source| WatchError { operation: "no thread", source })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Fails only if the counter is full, and then it is readable all the same.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported already.
            let _ = thread.join();
        }
    }
}

/// What it means for users.
const LATE: &str = "units and containers that start are on path up to a second late";

struct Watcher {
    inotify: Inotify,
    stop: Arc<EventFd>,
    scopes: Weak<Scopes>,
    directories: HashMap<WatchDescriptor, PathBuf>,
    /// The kernel gave no more watches.
    is_full: bool,
}

impl Watcher {
    fn run(mut self) {
        turn::go_first();
        self.begin();
        while self.await_events() {
            let Some(scopes) = self.scopes.upgrade() else { return };
            match self.inotify.read_events() {
                Ok(events) => events.into_iter().for_each(|event| self.handle(event, &scopes)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => {
                    scopes.note(SOURCE, Some(format!("cgroups are not watched any more ({error}); {LATE}")));
                    return;
                }
            }
        }
    }

    /// Blocks until there are events; false: to end.
    fn await_events(&self) -> bool {
        let mut waiting =
            [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN), PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::NONE) {
            Err(error) if error != Errno::EINTR => false,
            _ => !waiting.get(1).is_some_and(|stop| stop.any().unwrap_or(true)),
        }
    }

    /// Watches everything there is. Also after events were lost.
    fn begin(&mut self) {
        let Some(scopes) = self.scopes.upgrade() else { return };
        let Some(root) = scopes.hierarchy().map(|hierarchy| hierarchy.root().to_owned()) else { return };
        self.directories.clear();
        self.is_full = false;
        self.cover(&root, &scopes);
        if !self.is_full {
            scopes.note(SOURCE, None);
        }
        scopes.refresh();
    }

    fn handle(&mut self, event: InotifyEvent, scopes: &Arc<Scopes>) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return self.begin();
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            self.directories.remove(&event.wd);
            return;
        }
        let (Some(parent), Some(name)) = (self.directories.get(&event.wd), event.name) else { return };
        let path = parent.join(name);
        if event.mask.contains(AddWatchFlags::IN_CREATE) {
            scopes.appeared(&path);
            self.cover(&path, scopes);
        } else {
            scopes.vanished(&path);
        }
    }

    /// Watches a directory and everything below it, then looks for what was made in it before it was watched.
    fn cover(&mut self, directory: &Path, scopes: &Arc<Scopes>) {
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ONLYDIR;
        match self.inotify.add_watch(directory, flags) {
            Ok(watch) => {
                self.directories.insert(watch, directory.to_owned());
            }
            // Gone again.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENODEV) => return,
            Err(error) => self.refused(error, scopes),
        }
        for child in cgroup::children(directory) {
            scopes.appeared(&child);
            self.cover(&child, scopes);
        }
    }

    fn refused(&mut self, error: Errno, scopes: &Arc<Scopes>) {
        self.is_full = true;
        let why = if error == Errno::ENOSPC {
            "the kernel watches no more directories; raise it with `sysctl fs.inotify.max_user_watches=1048576`".into()
        } else {
            format!("a cgroup cannot be watched ({error})")
        };
        scopes.note(SOURCE, Some(format!("{why}; {LATE}")));
    }
}
