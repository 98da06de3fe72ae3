//! A cgroup on path, in its own network namespace and in every other that its processes are in.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::places::{Member, Places};
use super::table::CgroupKey;
use crate::divert::{Attachment, DivertError, Share, Terms};
use crate::namespace::{Namespace, NamespaceId};
use crate::scope::cgroup;

/// How often a new cgroup is looked at, until it is known where its processes are: a container is to be on path before its first
/// instruction.
const LOOK: Duration = Duration::from_millis(1);
/// Processes that have not gone elsewhere for so long are where they stay.
const SETTLED: Duration = Duration::from_secs(2);
/// Looks in a row at which no process was in a namespace before it is left: processes come and go between two of them.
const UNSEEN: u8 = 2;
/// A new cgroup that nobody enters for so long is looked at as rarely as others.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the file.
#[derive(Debug)]
pub(super) struct Scope {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    places: Arc<Places>,
    path: PathBuf,
    member: Member,
    state: Mutex<State>,
}

/// What a look at the processes has found.
struct Look {
    there: HashSet<NamespaceId>,
    has_joined: bool,
}

#[derive(Debug, Default)]
struct State {
    /// And looks in a row at which no process was there.
    joined: HashMap<NamespaceId, u8>,
    obstacles: HashMap<NamespaceId, String>,
    /// Nothing of it is diverted now: it is in no namespace's rules.
    is_silent: bool,
    is_over: bool,
}

impl Scope {
    pub(super) fn attach(
        places: &Arc<Places>,
        path: PathBuf,
        key: CgroupKey,
        terms: Terms,
    ) -> Result<Self, DivertError> {
        let member = Member { key, refuses_quic: terms.refuse_quic || places.options().refuse_quic };
        places.join(places.own(), member)?;
        places.note_path(&path);
        let state = State { joined: HashMap::from([(places.own(), 0)]), ..State::default() };
        let shared = Arc::new(Shared { places: Arc::clone(places), path, member, state: Mutex::new(state) });
        shared.join_all();
        watch(&shared);
        Ok(Self { shared })
    }
}

impl Attachment for Scope {
    fn refresh(&self) {
        let there = self.shared.join_all().there;
        self.shared.leave_all_but(&there);
    }

    fn divert(&self, share: Share) -> Result<(), DivertError> {
        if share == Share::None {
            self.shared.fall_silent();
            return Ok(());
        }
        if self.shared.speak_up()? {
            self.shared.join_all();
            watch(&self.shared);
        }
        Ok(())
    }

    fn obstacles(&self) -> Vec<String> {
        let (joined, mut obstacles) = {
            let state = self.shared.lock();
            let joined: Vec<NamespaceId> = state.joined.keys().copied().collect();
            (joined, state.obstacles.values().cloned().collect::<Vec<_>>())
        };
        obstacles.extend(self.shared.places.obstacles(&joined));
        obstacles
    }

    fn quic_refused(&self) -> u64 {
        let joined: Vec<NamespaceId> = self.shared.lock().joined.keys().copied().collect();
        joined.into_iter().map(|namespace| self.shared.places.refusals(namespace, self.shared.member.key)).sum()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.fall_silent();
        self.shared.places.forget_path(&self.shared.path);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves every namespace.
    fn fall_silent(&self) {
        let mut state = self.lock();
        state.is_silent = true;
        for (namespace, _) in state.joined.drain() {
            self.places.part(namespace, self.member);
        }
    }

    /// Is in the agent's own namespace again. False: it never left.
    fn speak_up(&self) -> Result<bool, DivertError> {
        let mut state = self.lock();
        if !state.is_silent || state.is_over {
            return Ok(false);
        }
        self.places.join(self.places.own(), self.member)?;
        state.joined.insert(self.places.own(), 0);
        state.is_silent = false;
        Ok(true)
    }

    /// Goes where the processes are.
    fn join_all(&self) -> Look {
        let mut look = Look { there: HashSet::from([self.places.own()]), has_joined: false };
        let mut state = self.lock();
        if state.is_over || state.is_silent {
            return look;
        }
        let directories = cgroup::with_descendants(&self.path);
        for pid in directories.iter().flat_map(|directory| cgroup::processes(directory).unwrap_or_default()) {
            // One that has ended since is nowhere.
            let Ok(id) = NamespaceId::of_process(pid) else { continue };
            if look.there.insert(id) && !state.joined.contains_key(&id) {
                look.has_joined |= self.join(pid, id, &mut state);
            }
        }
        look
    }

    /// Leaves where no process is any more.
    fn leave_all_but(&self, there: &HashSet<NamespaceId>) {
        let mut state = self.lock();
        state.obstacles.retain(|namespace, _| there.contains(namespace));
        for (namespace, unseen) in &mut state.joined {
            *unseen = if there.contains(namespace) { 0 } else { unseen.saturating_add(1) };
        }
        for (namespace, _) in state.joined.extract_if(|_, unseen| *unseen >= UNSEEN) {
            self.places.part(namespace, self.member);
        }
    }

    fn join(&self, pid: u32, id: NamespaceId, state: &mut State) -> bool {
        let joined = if self.places.is_in(id) {
            self.places.join(id, self.member)
        } else {
            match Namespace::of_process(pid) {
                Ok(namespace) if namespace.id() == id => self.places.join_in(namespace, self.member),
                // It has gone on to another namespace since: the next look finds it there.
                Ok(_) => return true,
                Err(source) => Err(DivertError::Namespace { inode: id.inode(), source }),
            }
        };
        match joined {
            Ok(()) => {
                state.joined.insert(id, 0);
                state.obstacles.remove(&id);
                true
            }
            Err(error) => {
                let told = format!("network namespace {}: {}", id.inode(), crate::chain::Chain(&error));
                if state.obstacles.insert(id, told.clone()).is_none() {
                    tracing::warn!(cgroup = %self.path.display(), "goes direct in {told}");
                }
                false
            }
        }
    }
}

/// Looks at a new cgroup often, for a while.
fn watch(shared: &Arc<Shared>) {
    let shared = Arc::downgrade(shared);
    let looks = move || {
        let begun = Instant::now();
        let mut changed = None;
        while let Some(shared) = shared.upgrade() {
            let now = Instant::now();
            if shared.join_all().has_joined {
                changed = Some(now);
            }
            let is_over = shared.lock().is_over;
            let is_settled = changed.is_some_and(|changed: Instant| now.duration_since(changed) > SETTLED);
            drop(shared);
            if is_over || is_settled || now.duration_since(begun) > PATIENCE {
                return;
            }
            thread::sleep(LOOK);
        }
    };
    if let Err(error) = thread::Builder::new().name("moxie-netns-look".into()).spawn(looks) {
        tracing::warn!(%error, "a new scope is looked at only once a second");
    }
}
