//! The pulse of the accept loops: the kernel hears a beat only if every loop has come round since the last one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts the rounds of every accept loop.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// One count of rounds for each loop that runs.
    loops: Mutex<Vec<Arc<AtomicU64>>>,
}

/// One loop's part in the pulse, until it is dropped.
#[derive(Debug)]
pub(super) struct Beating {
    pulse: Arc<Pulse>,
    rounds: Arc<AtomicU64>,
}

impl Pulse {
    /// Adds a loop.
    pub(super) fn join(self: &Arc<Self>) -> Beating {
        let rounds = Arc::new(AtomicU64::new(0));
        self.loops().push(Arc::clone(&rounds));
        Beating { pulse: Arc::clone(self), rounds }
    }

    fn loops(&self) -> std::sync::MutexGuard<'_, Vec<Arc<AtomicU64>>> {
        // Whoever holds this lock does nothing that panics.
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beating {
    /// Notes a round of this loop. True if it was the last that was wanting: then every loop has made one since the last beat.
    pub(super) fn is_due(&self) -> bool {
        let loops = self.pulse.loops();
        self.rounds.fetch_add(1, Ordering::Relaxed);
        let all_came_round = loops.iter().all(|rounds| rounds.load(Ordering::Relaxed) > 0);
        if all_came_round {
            loops.iter().for_each(|rounds| rounds.store(0, Ordering::Relaxed));
        }
        all_came_round
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.pulse.loops().retain(|rounds| !Arc::ptr_eq(rounds, &self.rounds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_due_once_every_loop_has_come_round() {
        let pulse = Arc::new(Pulse::default());
        let (one, two) = (pulse.join(), pulse.join());
        assert!(!one.is_due());
        assert!(!one.is_due(), "the other has not come round");
        assert!(two.is_due());
        assert!(!two.is_due(), "a new round");
        assert!(one.is_due());
    }

    #[test]
    fn a_loop_that_has_ended_is_not_waited_for() {
        let pulse = Arc::new(Pulse::default());
        let (one, two) = (pulse.join(), pulse.join());
        drop(two);
        assert!(one.is_due());
    }
}
