//! An agent takes over from another, and hands over to the next: see [`crate::handover`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::parts::Ground;
use super::{ADMIN_DRAIN, App, AppError, Options, open};
use crate::admin::Doors;
use crate::chain::Chain;
use crate::divert::Sightings;
use crate::handover::{Estate, HandoverError, Inheritance, LINGER, Predecessor, Successor};
use crate::journal::{Keeps, Told};
use crate::scope::registry::HandedTree;
use crate::scope::watch::Watch;

/// The way on path that two agents can be on at once.
const HANDS_OVER: &str = "ebpf";
/// How long the last words to the successor may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A handover that has happened: what is left is to end.
#[derive(Debug)]
pub struct Handed {
    /// Process id of the successor, unless it has ended already.
    pub pid: Option<u32>,
    courier: JoinHandle<()>,
}

impl App {
    /// Takes over from an agent that is at work; on return this one diverts in its place.
    ///
    /// # Errors
    /// What could not be built; the other goes on then.
    pub async fn take_over(options: Options, mut predecessor: Predecessor) -> Result<Self, AppError> {
        let (divert, on_path) = open(&options.config).await?;
        if divert.name() != HANDS_OVER {
            return Err(AppError::OtherWay { name: divert.name() });
        }
        let ground = Ground::open(&options).await?;
        let inherited = predecessor.inherit().await.map_err(AppError::TakeOver)?;
        let Inheritance { estate, unix, tcp } = inherited;
        // Not before: the predecessor took changes until now.
        let mut app = Self::build(divert, ground, options).await?;
        app.on_path = on_path;
        if !app.rules.is_loaded().await {
            return Err(AppError::StoreUnread);
        }
        let doors = Doors::receive(unix, tcp, &app.state.admin_socket(), app.config.admin.addr).await;
        app.doors = Some(doors.map_err(AppError::Admin)?);
        app.cx.learned.receive(estate.lessons);
        app.parts.divert.set_enabled(estate.diverting).map_err(AppError::Switch)?;
        app.scopes.receive_containers(estate.containers);
        let restored = app.parts.restore_scopes().await;
        app.warnings.extend(restored);
        app.watch = Watch::start(&app.scopes);
        app.receive_trees(estate.trees).await;

        let (sightings, counts) = predecessor.armed().await.map_err(AppError::TakeOver)?;
        app.parts.divert.receive_sightings(sightings).map_err(AppError::Switch)?;
        app.rules.receive(&counts);
        predecessor.counted().await.map_err(AppError::TakeOver)?;

        app.scopes.keep_trees();
        let (drain, attending) =
            (app.cx.drain.clone(), predecessor.attend(Arc::clone(&app.rules), Arc::clone(&app.journal)));
        // One that hands over itself stays until its predecessor has ended, since that asks it.
        app.cx.drain.spawn(async move {
            tokio::select! {
                () = attending => {}
                () = drain.hurried() => {}
            }
        });
        app.ready.store(true, Ordering::Release);
        app.open_doors()?;
        Ok(app)
    }

    /// Puts the process trees on path, and waits until whatever is opted in can be diverted.
    async fn receive_trees(&mut self, trees: Vec<HandedTree>) {
        let scopes = Arc::clone(&self.scopes);
        let received = spawn_blocking(move || {
            let failed = trees.into_iter().filter_map(|tree| scopes.receive(tree).err());
            let failed: Vec<String> = failed.map(|error| Chain(&error).to_string()).collect();
            scopes.refresh();
            failed
        });
        self.warnings.extend(received.await.unwrap_or_default());
    }

    /// Starts the program that is in this one's place now, and hands everything over to it.
    ///
    /// # Errors
    /// Why it could not be: then this agent goes on as if nothing had been.
    pub async fn hand_over(&mut self) -> Result<Handed, HandoverError> {
        let handed = self.try_to_hand_over().await;
        if handed.is_err() {
            self.journal.leave_follower();
        }
        let trouble = handed.as_ref().err().map(|error| Arc::new(Chain(error).to_string()));
        self.parts.upgrade.store(trouble);
        handed
    }

    async fn try_to_hand_over(&mut self) -> Result<Handed, HandoverError> {
        if self.store_url.contains(":memory:") {
            return Err(HandoverError::StoreInMemory);
        }
        if self.parts.divert.name() != HANDS_OVER {
            return Err(HandoverError::OtherWay { name: self.parts.divert.name() });
        }
        if self.doors.is_none() {
            return Err(HandoverError::NoDoors);
        }
        // What ends from now on, the successor is told; what has ended, it finds in the store.
        let (follower, records) = mpsc::unbounded_channel();
        self.journal.follow(follower.clone(), Keeps::Teller);
        let mut successor = Successor::start()?;
        successor.prepared().await?;
        self.admin_drain.finish(ADMIN_DRAIN).await;
        let passed = self.pass_on(successor, follower, records).await;
        if passed.is_err()
            && let Err(error) = self.open_doors()
        {
            tracing::error!(error = %Chain(&error), "the admin API is not served any more");
        }
        passed
    }

    async fn pass_on(
        &mut self,
        mut successor: Successor,
        follower: UnboundedSender<Told>,
        records: UnboundedReceiver<Told>,
    ) -> Result<Handed, HandoverError> {
        self.rules.flush().await;
        let estate = Estate {
            diverting: self.parts.divert.is_enabled(),
            containers: self.scopes.containers(),
            trees: self.scopes.trees(),
            lessons: self.cx.learned.lessons(),
        };
        let diverting = estate.diverting;
        let doors = self.doors.as_ref().ok_or(HandoverError::NoDoors)?;
        successor.arm(estate, &doors.sockets()).await?;
        successor.tell(async || self.sightings().await).await?;

        let pid = successor.pid();
        let given = self.rules.give_away();
        let moment = async {
            successor.count(&given.counts).await?;
            self.parts.divert.set_enabled(false).map_err(HandoverError::Switch)?;
            successor.leave_to().await
        };
        match moment.await {
            Ok(courier) => {
                self.journal.follow(follower, Keeps::Follower);
                self.scopes.release_trees();
                // What appears from now on is the successor's.
                self.watch = None;
                // Closes this agent's descriptors of them; the sockets are the successor's.
                self.doors = None;
                let courier = tokio::spawn(courier.run(Arc::clone(&self.rules), given.orders, records));
                Ok(Handed { pid, courier })
            }
            Err(error) => {
                self.rules.take_back(&given.counts);
                if let Err(error) = self.parts.divert.set_enabled(diverting) {
                    tracing::error!(%error, "connections go direct: the kernel half could not be switched on again");
                }
                Err(error)
            }
        }
    }

    async fn sightings(&self) -> Sightings {
        let divert = Arc::clone(&self.parts.divert);
        spawn_blocking(move || divert.sightings()).await.unwrap_or_default()
    }

    /// Ends an agent that has handed over: its connections go on for as long as they want, within `drain.upgrade`.
    pub async fn retire(self, handed: Handed) {
        // What the kernel had on its way here when it was switched over is still accepted.
        sleep(LINGER).await;
        self.parts.divert.retire();
        if !self.cx.drain.finish_at_leisure(self.config.drain.upgrade).await {
            tracing::warn!(open = self.cx.drain.running(), "ended with connections still open");
        }
        self.parts.write_down().await;
        self.rules.close_counts();
        self.journal.leave_follower();
        // A successor that does not listen has lost these words, and nothing else.
        let _ = timeout(LAST_WORDS, handed.courier).await;
    }
}
