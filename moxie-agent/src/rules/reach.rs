//! Whether an automaton can still match once it has read the beginning of a text.

use regex_automata::nfa::thompson::{NFA, State};
use regex_automata::util::look::Look;
use regex_automata::util::primitives::StateID;

/// Whether some text that begins with `prefix` is matched by `nfa`, searching from its first byte.
///
/// Exact but for word boundaries and line anchors, which are taken to hold: a "yes" may then be wrong, a "no" never is.
pub(super) fn is_alive_after(nfa: &NFA, prefix: &[u8]) -> bool {
    let mut here = Reached::new(nfa);
    let mut next = Reached::new(nfa);
    here.enter(nfa.start_anchored(), 0, prefix.len());
    for (at, &byte) in prefix.iter().enumerate() {
        next.clear();
        for &state in &here.states {
            match nfa.state(state) {
                // Nothing has to follow a match, so anything may.
                State::Match { .. } => return true,
                state => {
                    if let Some(to) = step(state, byte) {
                        next.enter(to, at + 1, prefix.len());
                    }
                }
            }
        }
        std::mem::swap(&mut here, &mut next);
        if here.states.is_empty() {
            return false;
        }
    }
    !here.states.is_empty()
}

fn step(state: &State, byte: u8) -> Option<StateID> {
    match state {
        State::ByteRange { trans } => trans.matches_byte(byte).then_some(trans.next),
        State::Sparse(transitions) => transitions.matches_byte(byte),
        State::Dense(transitions) => transitions.matches_byte(byte),
        _ => None,
    }
}

/// The states that wait for a byte, or match.
struct Reached<'a> {
    nfa: &'a NFA,
    seen: Vec<bool>,
    states: Vec<StateID>,
}

impl<'a> Reached<'a> {
    fn new(nfa: &'a NFA) -> Self {
        Self { nfa, seen: vec![false; nfa.states().len()], states: Vec::new() }
    }

    fn clear(&mut self) {
        self.seen.fill(false);
        self.states.clear();
    }

    /// Follows every way out of `state` that takes no byte, having read `at` of `known` bytes.
    fn enter(&mut self, state: StateID, at: usize, known: usize) {
        let mut todo = vec![state];
        while let Some(id) = todo.pop() {
            if std::mem::replace(&mut self.seen[id.as_usize()], true) {
                continue;
            }
            match self.nfa.state(id) {
                State::Union { alternates } => todo.extend(alternates),
                State::BinaryUnion { alt1, alt2 } => todo.extend([*alt1, *alt2]),
                State::Capture { next, .. } => todo.push(*next),
                State::Look { look, next } if may_hold(*look, at, known) => todo.push(*next),
                State::Look { .. } | State::Fail => {}
                State::ByteRange { .. } | State::Sparse(_) | State::Dense(_) | State::Match { .. } => {
                    self.states.push(id);
                }
            }
        }
    }
}

fn may_hold(look: Look, at: usize, known: usize) -> bool {
    match look {
        Look::Start => at == 0,
        Look::End => at == known,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(regex: &str, prefix: &str, alive: bool) {
        let nfa = NFA::new(regex).expect("a regex");
        assert_eq!(is_alive_after(&nfa, prefix.as_bytes()), alive, "{regex} after {prefix}");
    }

    #[test]
    fn tells_whether_a_match_is_still_possible() {
        check(r"^(api|cdn)\.x/[a-z]+$", "api.x/", true);
        check(r"^(api|cdn)\.x/[a-z]+$", "www.x/", false);
        check(r"^[a-z.]+/v1$", "api.x/", true);
        check(r"^[a-z.]+/v1$", "api1.x/", false);
        check(r"^api\.x$", "api.x/", false);
        check(r"^api\.x/$", "api.x/", true);
        check(r"^api\.x", "api.x/", true);
        check(r"^[^/]+$", "api.x/", false);
        check(r"^a{3}/", "aa/", false);
    }
}
