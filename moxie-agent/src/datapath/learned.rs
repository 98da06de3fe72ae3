//! What earlier connections have taught, each for a bounded time and in a bounded number.

use std::hash::Hash;
use std::net::SocketAddr;
use std::time::Duration;

use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::rules::set::SPENT_IS_WATCHED;
use crate::scope::Caller;

/// How long a client that refused the authority is left alone.
pub const REFUSAL_LASTS: Duration = Duration::from_secs(600);
/// How long a destination counts as one whose server speaks first.
const SERVER_FIRST_LASTS: Duration = Duration::from_secs(600);
/// How many entries of each kind are kept.
const ENTRIES: usize = 4096;

/// A bounded set whose members leave after a while.
#[derive(Debug)]
pub struct Expiring<K: Eq + Hash> {
    until: Cache<K, Instant>,
    lasts: Duration,
}

impl<K: Eq + Hash + Clone> Expiring<K> {
    fn new(lasts: Duration) -> Self {
        Self { until: Cache::new(ENTRIES), lasts }
    }

    /// Adds a member, or renews it.
    pub fn insert(&self, key: K) {
        self.until.insert(key, Instant::now() + self.lasts);
    }

    /// The members, each with how much longer it stays.
    #[must_use]
    pub fn members(&self) -> Vec<(K, Duration)> {
        let now = Instant::now();
        let left = |(key, until): (K, Instant)| Some((key, until.checked_duration_since(now)?));
        self.until.iter().filter_map(left).collect()
    }

    /// Adds what another agent has learned, each for as long as is left.
    pub fn receive(&self, members: Vec<(K, Duration)>) {
        let now = Instant::now();
        for (key, left) in members {
            self.until.insert(key, now + left.min(self.lasts));
        }
    }

    /// Forgets every member.
    pub fn clear(&self) {
        self.until.clear();
    }

    /// Whether `key` is a member now.
    pub fn contains(&self, key: &K) -> bool {
        self.until.get(key).is_some_and(|until| until > Instant::now())
    }
}

/// A kind of client: what can be told of a program that has been seen once and comes again as a new process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Client {
    /// Id of its scope.
    pub scope: Option<String>,
    /// As [`Caller::container`].
    pub container: Option<String>,
    /// As [`Caller::comm`].
    pub comm: Option<String>,
    /// Whom it calls.
    pub server_name: String,
}

impl Client {
    /// The kind of client that `caller` is toward `server_name`.
    #[must_use]
    pub fn new(caller: &Caller, server_name: &str) -> Self {
        Self {
            scope: caller.scope.as_ref().map(|scope| scope.0.clone()),
            container: caller.container_id.clone(),
            comm: caller.comm.clone(),
            server_name: server_name.to_owned(),
        }
    }
}

/// Everything learned.
#[derive(Debug)]
pub struct Learned {
    /// Clients that refused the authority.
    pub refused: Expiring<Client>,
    /// Clients that have made a request through the authority: a silent close of theirs is no refusal.
    pub trusting: Expiring<Client>,
    /// Clients that a rule has answered or rewritten for.
    pub answered: Expiring<Client>,
    /// Destinations whose server speaks first.
    pub server_first: Expiring<SocketAddr>,
}

/// Everything learned, on its way from one agent to the next: with how much longer each stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lessons {
    refused: Vec<(Client, Duration)>,
    trusting: Vec<(Client, Duration)>,
    answered: Vec<(Client, Duration)>,
    server_first: Vec<(SocketAddr, Duration)>,
}

impl Learned {
    /// What has been learned so far.
    #[must_use]
    pub fn lessons(&self) -> Lessons {
        Lessons {
            refused: self.refused.members(),
            trusting: self.trusting.members(),
            answered: self.answered.members(),
            server_first: self.server_first.members(),
        }
    }

    /// Learns what another agent has.
    pub fn receive(&self, lessons: Lessons) {
        self.refused.receive(lessons.refused);
        self.trusting.receive(lessons.trusting);
        self.answered.receive(lessons.answered);
        self.server_first.receive(lessons.server_first);
    }
}

impl Default for Learned {
    fn default() -> Self {
        Self {
            refused: Expiring::new(REFUSAL_LASTS),
            trusting: Expiring::new(REFUSAL_LASTS),
            answered: Expiring::new(SPENT_IS_WATCHED),
            server_first: Expiring::new(SERVER_FIRST_LASTS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_member_leaves_after_its_time() {
        let set = Expiring::new(Duration::from_secs(10));
        set.insert("a");
        assert!(set.contains(&"a") && !set.contains(&"b"));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(!set.contains(&"a"));
    }

    #[test]
    fn clients_differ_by_program_and_by_name() {
        let curl = Caller { comm: Some("curl".into()), ..Caller::default() };
        let node = Caller { comm: Some("node".into()), ..Caller::default() };
        assert_eq!(Client::new(&curl, "a.example"), Client::new(&curl, "a.example"));
        assert_ne!(Client::new(&curl, "a.example"), Client::new(&node, "a.example"));
        assert_ne!(Client::new(&curl, "a.example"), Client::new(&curl, "b.example"));
    }
}
