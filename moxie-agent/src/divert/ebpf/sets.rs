//! Listener sets: one in each network namespace that has callers, shared by every attachment whose callers are there, and gone with
//! the last of them.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, Weak};

use moxie_common::{Mark, Tag};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::listeners::Listeners;
use super::lock;
use super::routes::{News, Reach};
use super::tags::Tags;
use super::watch::Watcher;
use crate::divert::{DivertError, Listening, loopback};
use crate::namespace::{Namespace, NamespaceId};

/// Every listener set of the agent.
#[derive(Debug)]
pub(super) struct Sets {
    tags: Arc<Tags>,
    first_port: u16,
    ready: UnboundedSender<Listening>,
    waiting: Mutex<Option<UnboundedReceiver<Listening>>>,
    watcher: Watcher,
    /// Of the agent's own namespace; kept as long as the agent.
    own: Mutex<Option<Arc<Set>>>,
    own_namespace: NamespaceId,
    others: Mutex<HashMap<NamespaceId, Weak<Set>>>,
}

/// The listeners of one namespace. Dropped, nothing is diverted to them any more, and the accept loops close them.
#[derive(Debug)]
pub(super) struct Set {
    namespace: Arc<Namespace>,
    tag: Tag,
    tags: Arc<Tags>,
    closing: CancellationToken,
    news: io::Result<News>,
    lacks_v6: Option<DivertError>,
    reach: Mutex<Option<Reach>>,
}

impl Sets {
    /// Opens the set of the calling thread's namespace: at `first_port` and the ports after it, or at the next block where one of them
    /// is taken. Every other set has the same ports.
    pub(super) fn open(tags: Tags, first_port: u16, watcher: Watcher) -> Result<Self, DivertError> {
        let namespace = Namespace::current().map_err(|source| DivertError::Namespace { inode: 0, source })?;
        let tags = Arc::new(tags);
        let (ready, waiting) = unbounded_channel();
        let (first_port, own, listening) = open_somewhere(&namespace, first_port, &tags)?;
        give(listening, &ready);
        watcher.follow(&own);
        Ok(Self {
            tags,
            first_port,
            ready,
            waiting: Mutex::new(Some(waiting)),
            watcher,
            own: Mutex::new(Some(own)),
            own_namespace: namespace.id(),
            others: Mutex::default(),
        })
    }

    pub(super) fn first_port(&self) -> u16 {
        self.first_port
    }

    /// The mark of the agent's own namespace: it is on the agent's own upstream sockets too.
    pub(super) fn own_mark(&self) -> Option<Mark> {
        lock(&self.own).as_ref().map(|set| Mark::of(set.tag))
    }

    /// Whether a namespace is the agent's own, whose set is always there.
    pub(super) fn is_own(&self, namespace: NamespaceId) -> bool {
        self.own_namespace == namespace
    }

    pub(super) fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    /// The listeners to accept from, once.
    pub(super) fn take(&self) -> Option<UnboundedReceiver<Listening>> {
        lock(&self.waiting).take()
    }

    /// The set of a namespace, opened if there is none.
    pub(super) fn of(&self, namespace: &Arc<Namespace>) -> Result<Arc<Set>, DivertError> {
        let mut others = lock(&self.others);
        if let Some(set) = others.get(&namespace.id()).and_then(Weak::upgrade) {
            return Ok(set);
        }
        if lock(&self.own).is_none() {
            let source = io::Error::other("the agent is ending");
            return Err(DivertError::Namespace { inode: namespace.id().inode(), source });
        }
        others.retain(|_, set| set.strong_count() > 0);
        let (set, listening) = Set::open(namespace, self.first_port, &self.tags)?;
        give(listening, &self.ready);
        self.watcher.follow(&set);
        others.insert(namespace.id(), Arc::downgrade(&set));
        tracing::debug!(namespace = namespace.id().inode(), "listening in another network namespace");
        Ok(set)
    }

    /// The tag of each namespace's set.
    pub(super) fn tags(&self) -> Vec<(NamespaceId, Tag)> {
        let own = lock(&self.own).clone();
        let others: Vec<Arc<Set>> = lock(&self.others).values().filter_map(Weak::upgrade).collect();
        own.iter().chain(&others).map(|set| (set.namespace.id(), set.tag)).collect()
    }

    /// Nothing is diverted to any set from now on, whoever still holds it.
    pub(super) fn close(&self) {
        self.watcher.stop();
        drop(lock(&self.own).take());
        for set in lock(&self.others).drain().filter_map(|(_, set)| set.upgrade()) {
            set.close();
        }
    }
}

fn give(listening: Vec<Listening>, ready: &UnboundedSender<Listening>) {
    for listening in listening {
        // Without an accept loop the socket is closed right here, and nothing is diverted to it.
        let _ = ready.send(listening);
    }
}

fn open_somewhere(
    namespace: &Arc<Namespace>,
    first_port: u16,
    tags: &Arc<Tags>,
) -> Result<(u16, Arc<Set>, Vec<Listening>), DivertError> {
    loopback::first_free(first_port, |first_port| {
        let (set, listening) = Set::open(namespace, first_port, tags)?;
        let is_taken = set.lacks_v6.as_ref().is_some_and(DivertError::is_address_in_use);
        Ok((!is_taken).then_some((first_port, set, listening)))
    })
}

impl Set {
    fn open(
        namespace: &Arc<Namespace>,
        first_port: u16,
        tags: &Arc<Tags>,
    ) -> Result<(Arc<Self>, Vec<Listening>), DivertError> {
        let tag = tags.take();
        // From here on a failure gives the tag back, by dropping this.
        let mut set = Self {
            namespace: Arc::clone(namespace),
            tag,
            tags: Arc::clone(tags),
            closing: CancellationToken::new(),
            // Before the first look: what changes after it is not missed.
            news: News::of(namespace),
            lacks_v6: None,
            reach: Mutex::default(),
        };
        let listeners = Listeners::open(namespace, first_port, Mark::of(tag))?;
        set.lacks_v6 = listeners.lacks_v6;
        if set.lacks_v6.as_ref().is_some_and(|error| !error.is_address_in_use()) {
            tracing::warn!(namespace = namespace.id().inode(), "no IPv6 listeners; IPv6 goes direct there");
        }
        set.follow();
        let closing = &set.closing;
        let listening = |socket| Listening { socket, namespace: Arc::clone(namespace), closing: closing.clone() };
        let listening = listeners.sockets.into_iter().map(listening).collect();
        Ok((Arc::new(set), listening))
    }

    pub(super) fn tag(&self) -> Tag {
        self.tag
    }

    /// Where word of changes comes from; none where the kernel gives no such socket.
    pub(super) fn news(&self) -> Option<&News> {
        self.news.as_ref().ok()
    }

    /// Lets the kernel half divert what can be reached now.
    pub(super) fn follow(&self) {
        if let Ok(news) = &self.news {
            news.take();
        }
        let now = match Reach::of(&self.namespace) {
            Ok(reach) => Reach { v6: reach.v6 && self.lacks_v6.is_none(), ..reach },
            Err(error) => {
                tracing::warn!(%error, namespace = self.namespace.id().inode(), "not looked at; it goes direct");
                Reach::default()
            }
        };
        let mut reach = lock(&self.reach);
        if *reach == Some(now) || self.closing.is_cancelled() {
            return;
        }
        match self.tags.open(self.tag, now) {
            Ok(()) => *reach = Some(now),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "listeners not opened; tried again");
            }
        }
    }

    /// What keeps connections from being diverted to it though it is there.
    pub(super) fn lack(&self) -> Option<String> {
        let inode = self.namespace.id().inode();
        if lock(&self.reach).is_some_and(|reach| !reach.v4) {
            return Some(loopback::is_down(inode));
        }
        self.lacks_v6.as_ref().map(|error| format!("IPv6 of network namespace {inode} goes direct: {error}"))
    }

    /// Nothing is diverted to it from now on; its accept loops take what waits, and close it.
    fn close(&self) {
        // Held: whoever looks at the namespace meanwhile must not open it again.
        let _reach = lock(&self.reach);
        if !self.closing.is_cancelled() {
            self.tags.give_back(self.tag);
            self.closing.cancel();
        }
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        self.close();
    }
}
