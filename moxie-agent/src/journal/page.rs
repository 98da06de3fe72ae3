//! One page of a listing: filtered, newest first, with the cursor of the next.

use super::ring::{Kept, Ring};
use super::{Connection, Exchange, Filter, Page};
use crate::scope::Caller;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// A record that a filter can be asked about.
pub(super) trait Filtered: Kept + Clone {
    fn passes(&self, filter: &Filter) -> bool;
}

pub(super) fn read<T: Filtered>(ring: &Ring<T>, filter: &Filter) -> Page<T> {
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    let mut items: Vec<T> = Vec::new();
    let Some(mut place) = ring.start(filter.cursor.as_deref()) else { return Page { items, next: None } };
    loop {
        let chunk = ring.chunk_before(&mut place);
        if chunk.is_empty() {
            return Page { items, next: None };
        }
        for record in chunk.iter().filter(|record| record.passes(filter)) {
            if items.len() == limit {
                // One more than a page: there is a next one.
                let next = items.last().map(|last| last.id().to_owned());
                return Page { items, next };
            }
            items.push(T::clone(record));
        }
    }
}

impl Filtered for Exchange {
    fn passes(&self, filter: &Filter) -> bool {
        caller_passes(&self.caller, filter)
            && filter.verdict.is_none()
            && filter.rule_id.as_ref().is_none_or(|wanted| self.rule_id.as_ref().is_some_and(|rule| rule.0 == *wanted))
            && filter.outcome.is_none_or(|wanted| self.outcome == wanted)
            && filter.method.as_ref().is_none_or(|wanted| self.method == *wanted)
            && filter.status.is_none_or(|wanted| self.status == Some(wanted))
            && filter.connection_id.as_ref().is_none_or(|wanted| self.connection_id == *wanted)
            && filter.contains.as_ref().is_none_or(|wanted| self.url.contains(wanted))
    }
}

impl Filtered for Connection {
    fn passes(&self, filter: &Filter) -> bool {
        let of_exchanges =
            filter.rule_id.is_some() || filter.outcome.is_some() || filter.method.is_some() || filter.status.is_some();
        let names = [self.server_name.as_ref(), self.original_dst.as_ref()];
        !of_exchanges
            && caller_passes(&self.caller, filter)
            && filter.verdict.is_none_or(|wanted| self.verdict == wanted)
            && filter.connection_id.as_ref().is_none_or(|wanted| self.id == *wanted)
            && filter.contains.as_ref().is_none_or(|wanted| names.iter().flatten().any(|name| name.contains(wanted)))
    }
}

fn caller_passes(caller: &Caller, filter: &Filter) -> bool {
    filter.scope.as_ref().is_none_or(|wanted| caller.scope.as_ref().is_some_and(|scope| scope.0 == *wanted))
        && filter.unit.as_ref().is_none_or(|wanted| caller.unit.as_ref() == Some(wanted))
        && filter.container.as_ref().is_none_or(|wanted| is_container(caller, wanted))
}

fn is_container(caller: &Caller, wanted: &str) -> bool {
    let begins = |id: &String| id == wanted || (wanted.len() >= 8 && id.starts_with(wanted));
    caller.container.as_deref() == Some(wanted) || caller.container_id.as_ref().is_some_and(begins)
}
