//! Callers that were made out a moment ago: a service that calls often is the same one each time, and to ask `/proc` for its name
//! costs more than all the rest.

use std::sync::{Arc, Weak};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::table::Table;
use crate::divert::Origin;
use crate::scope::Caller;
use crate::scope::container::Known;

/// How long a caller stays who it was: a process may become another program.
const LASTS: Duration = Duration::from_millis(100);
/// How many are remembered.
const ENTRIES: usize = 256;

/// Which process, in which cgroup.
type Key = (u64, u32);

#[derive(Debug)]
pub(super) struct Callers(Cache<Key, Remembered>);

/// A caller, and what it was made out by.
#[derive(Clone, Debug)]
struct Remembered {
    caller: Arc<Caller>,
    table: Weak<Table>,
    known: Weak<Known>,
    until: Instant,
}

impl Default for Callers {
    fn default() -> Self {
        Self(Cache::new(ENTRIES))
    }
}

impl Callers {
    /// The caller that `origin` tells of, made out by `find` unless that was just done by the same table and the same containers.
    pub(super) fn caller(
        &self,
        origin: &Origin,
        table: &Arc<Table>,
        known: &Arc<Known>,
        find: impl FnOnce() -> Caller,
    ) -> Arc<Caller> {
        let (Some(cgroup), Some(pid)) = (origin.cgroup_id, origin.pid) else { return Arc::new(find()) };
        let is_so = |remembered: &Remembered| {
            remembered.table.as_ptr() == Arc::as_ptr(table)
                && remembered.known.as_ptr() == Arc::as_ptr(known)
                && Instant::now() < remembered.until
        };
        if let Some(remembered) = self.0.get(&(cgroup, pid)).filter(is_so) {
            return remembered.caller;
        }
        let caller = Arc::new(find());
        let (table, known) = (Arc::downgrade(table), Arc::downgrade(known));
        let remembered = Remembered { caller: Arc::clone(&caller), table, known, until: Instant::now() + LASTS };
        self.0.insert((cgroup, pid), remembered);
        caller
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::Namespace;

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_made_out_anew_after_a_while_and_after_any_change() {
        let callers = Callers::default();
        let to = "127.0.0.1:80".parse().unwrap();
        let origin = Origin { pid: Some(7), cgroup_id: Some(9), ..Origin::to(to, Namespace::own().unwrap()) };
        let (table, known) = (Arc::<Table>::default(), Arc::<Known>::default());
        let is_anew = |origin: &Origin, table: &Arc<Table>, known: &Arc<Known>| {
            let mut is_anew = false;
            callers.caller(origin, table, known, || {
                is_anew = true;
                Caller::default()
            });
            is_anew
        };
        assert!(is_anew(&origin, &table, &known));
        assert!(!is_anew(&origin, &table, &known));
        assert!(is_anew(&Origin { pid: Some(8), ..origin.clone() }, &table, &known));
        tokio::time::advance(LASTS).await;
        assert!(is_anew(&origin, &table, &known), "it may be another program");
        assert!(is_anew(&origin, &Arc::default(), &known), "scopes have changed");
        assert!(is_anew(&origin, &table, &Arc::default()), "containers have changed");
    }
}
