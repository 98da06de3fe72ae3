//! A url or host regex, split into the part an index can hold and the automaton for the rest.
//!
//! Most urls are text, `.` and `.*`. Such a pattern is a list of [`Atom`]s and needs no automaton; of any other the atoms
//! are a cover (they match at least what the regex matches), which the index narrows down by before the automaton is asked.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use regex_automata::nfa::thompson::backtrack::{self, BoundedBacktracker};
use regex_automata::nfa::thompson::pikevm::{self, PikeVM};
use regex_automata::nfa::thompson::{NFA, WhichCaptures};
use regex_automata::util::pool::Pool;
use regex_syntax::hir::{Class, Dot, Hir, HirKind, Look};

use super::reach;

/// Longest pattern, bytes.
const MAX_SOURCE: usize = 4 * 1024;
/// Most memory one compiled pattern may take, bytes.
const MAX_COMPILED: usize = 1024 * 1024;
/// Deepest nesting of groups.
pub(super) const MAX_NESTING: u32 = 50;

/// One step of a pattern. `Any` and `Star` never match a line break; no request holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Atom {
    /// This character.
    Char(char),
    /// Any one character.
    Any,
    /// Any number of characters.
    Star,
}

/// Where a pattern has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// From the first byte to the last.
    Whole,
    /// From the first byte on.
    Start,
    /// Anywhere.
    Nowhere,
}

/// Why a pattern cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum PatternError {
    /// It is longer than [`MAX_SOURCE`].
    #[error("is {0} bytes long; write at most {MAX_SOURCE}")]
    TooLong(usize),
    /// It is no regex; the parser's message shows where.
    #[error(
        "is not a valid regex; a literal character such as ( [ {{ * + ? is written with a backslash before it:\n{0}"
    )]
    Syntax(Box<regex_syntax::Error>),
    /// It is a regex that takes too much memory.
    #[error("compiles to more than {MAX_COMPILED} bytes; write smaller repetitions, or `.*` for them")]
    TooLarge,
}

/// A compiled pattern. Equal when written equally.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    source: String,
    anchor: Anchor,
    atoms: Arc<[Atom]>,
    automaton: Option<Arc<Automaton>>,
}

/// One compilation, asked in three ways. DFAs would cost more of them, and the index leaves few texts to look at.
#[derive(Debug)]
struct Automaton {
    nfa: NFA,
    /// Fast, for texts of moderate length.
    backtrack: BoundedBacktracker,
    /// For any text.
    pike: PikeVM,
    caches: Pool<Caches, MakeCaches>,
}

type Caches = (backtrack::Cache, pikevm::Cache);
type MakeCaches = Box<dyn Fn() -> Caches + Send + Sync + UnwindSafe + RefUnwindSafe>;

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.anchor == other.anchor
    }
}

impl Pattern {
    pub(super) fn compile(source: &str, anchor: Anchor) -> Result<Self, PatternError> {
        if source.len() > MAX_SOURCE {
            return Err(PatternError::TooLong(source.len()));
        }
        let hir = regex_syntax::ParserBuilder::new()
            .nest_limit(MAX_NESTING)
            .build()
            .parse(source)
            .map_err(|error| PatternError::Syntax(Box::new(error)))?;
        let (atoms, exact) = cover(&hir, anchor);
        let automaton = if exact { None } else { Some(Arc::new(Automaton::build(hir, anchor)?)) };
        Ok(Self { source: source.to_owned(), anchor, atoms: atoms.into(), automaton })
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn atoms(&self) -> &Arc<[Atom]> {
        &self.atoms
    }

    /// Whether the pattern matches `text`, which holds no line break.
    pub(super) fn matches(&self, text: &str) -> bool {
        match &self.automaton {
            Some(automaton) => automaton.is_match(text),
            None => glob(&self.atoms, text),
        }
    }

    /// Whether a text that the atoms match is matched by the pattern itself.
    pub(super) fn confirms(&self, text: &str) -> bool {
        self.automaton.as_ref().is_none_or(|automaton| automaton.is_match(text))
    }

    /// Whether the pattern, anchored at the start, can still match a text that begins with `prefix`, given that its atoms can.
    pub(super) fn can_go_on_after(&self, prefix: &str) -> bool {
        self.automaton.as_ref().is_none_or(|automaton| reach::is_alive_after(&automaton.nfa, prefix.as_bytes()))
    }
}

impl Automaton {
    fn build(hir: Hir, anchor: Anchor) -> Result<Self, PatternError> {
        let hir = match anchor {
            Anchor::Whole => Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]),
            Anchor::Start => Hir::concat(vec![Hir::look(Look::Start), hir]),
            Anchor::Nowhere => hir,
        };
        let config = NFA::config().nfa_size_limit(Some(MAX_COMPILED)).which_captures(WhichCaptures::None);
        let nfa = NFA::compiler().configure(config).build_from_hir(&hir).map_err(|_| PatternError::TooLarge)?;
        let backtrack = BoundedBacktracker::new_from_nfa(nfa.clone()).map_err(|_| PatternError::TooLarge)?;
        let pike = PikeVM::new_from_nfa(nfa.clone()).map_err(|_| PatternError::TooLarge)?;
        let (cached_backtrack, cached_pike) = (backtrack.clone(), pike.clone());
        let caches =
            Pool::new(Box::new(move || (cached_backtrack.create_cache(), cached_pike.create_cache())) as MakeCaches);
        Ok(Self { nfa, backtrack, pike, caches })
    }

    fn is_match(&self, text: &str) -> bool {
        let mut caches = self.caches.get();
        let (backtrack, pike) = &mut *caches;
        self.backtrack.try_is_match(backtrack, text).unwrap_or_else(|_too_long| self.pike.is_match(pike, text))
    }
}

/// The atoms of `hir`, and whether they match exactly what it matches.
fn cover(hir: &Hir, anchor: Anchor) -> (Vec<Atom>, bool) {
    let mut atoms = Cover { atoms: Vec::new(), exact: true };
    if anchor == Anchor::Nowhere {
        atoms.star();
    }
    let mut parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(hir),
    };
    // What is anchored anyway may say so.
    if let [first, rest @ ..] = parts
        && is_look(first, Look::Start)
        && anchor != Anchor::Nowhere
    {
        parts = rest;
    }
    if let [rest @ .., last] = parts
        && is_look(last, Look::End)
        && anchor == Anchor::Whole
    {
        parts = rest;
    }
    parts.iter().for_each(|part| atoms.push(part));
    if anchor != Anchor::Whole {
        atoms.star();
    }
    (atoms.atoms, atoms.exact)
}

struct Cover {
    atoms: Vec<Atom>,
    exact: bool,
}

impl Cover {
    fn push(&mut self, hir: &Hir) {
        match hir.kind() {
            HirKind::Empty => {}
            HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
                Ok(text) => self.atoms.extend(text.chars().map(Atom::Char)),
                Err(_) => self.roughly(Atom::Star),
            },
            HirKind::Class(_) if is_dot(hir) => self.atoms.push(Atom::Any),
            // A class takes one character, whichever kind of class it is: patterns match text only.
            HirKind::Class(Class::Unicode(_) | Class::Bytes(_)) => self.roughly(Atom::Any),
            HirKind::Look(_) => self.exact = false,
            HirKind::Repetition(some) if is_dot(&some.sub) && some.max.is_none() && some.min <= 1 => {
                self.atoms.extend((0..some.min).map(|_| Atom::Any));
                self.star();
            }
            HirKind::Repetition(_) | HirKind::Alternation(_) => self.roughly(Atom::Star),
            HirKind::Capture(group) => self.push(&group.sub),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.push(part)),
        }
    }

    fn roughly(&mut self, atom: Atom) {
        self.exact = false;
        if atom == Atom::Star { self.star() } else { self.atoms.push(atom) }
    }

    /// Two stars in a row match what one does.
    fn star(&mut self) {
        if self.atoms.last() != Some(&Atom::Star) {
            self.atoms.push(Atom::Star);
        }
    }
}

/// Whether `atoms` match `text` whole. On a mismatch the latest star takes one character more, which is enough:
/// whatever an earlier star could take instead, the latest can take as well.
fn glob(atoms: &[Atom], text: &str) -> bool {
    let (mut atoms, mut text) = (atoms, text);
    let mut retry: Option<(&[Atom], &str)> = None;
    loop {
        let mut chars = text.chars();
        match (atoms, chars.next()) {
            ([], None) => return true,
            ([Atom::Star, rest @ ..], _) => {
                retry = Some((rest, text));
                atoms = rest;
                continue;
            }
            ([Atom::Any, rest @ ..], Some(_)) => (atoms, text) = (rest, chars.as_str()),
            ([Atom::Char(wanted), rest @ ..], Some(c)) if *wanted == c => (atoms, text) = (rest, chars.as_str()),
            _ => {
                let Some((behind_star, from)) = retry else { return false };
                let mut longer = from.chars();
                if longer.next().is_none() {
                    return false;
                }
                retry = Some((behind_star, longer.as_str()));
                (atoms, text) = (behind_star, longer.as_str());
            }
        }
    }
}

fn is_look(hir: &Hir, look: Look) -> bool {
    matches!(hir.kind(), HirKind::Look(found) if *found == look)
}

fn is_dot(hir: &Hir) -> bool {
    *hir == Hir::dot(Dot::AnyCharExceptLF) || *hir == Hir::dot(Dot::AnyChar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, anchor: Anchor, atoms: &str, exact: bool) {
        let pattern = Pattern::compile(source, anchor).expect("a pattern");
        let shown: String = pattern
            .atoms()
            .iter()
            .map(|atom| match atom {
                Atom::Char(c) => *c,
                Atom::Any => '?',
                Atom::Star => '*',
            })
            .collect();
        assert_eq!((shown.as_str(), pattern.automaton.is_none()), (atoms, exact), "{source}");
    }

    #[test]
    fn plain_urls_need_no_automaton() {
        check("a.b/c", Anchor::Whole, "a?b/c", true);
        check(r"^a\.b/(.*)/c\?d=.+$", Anchor::Whole, "a.b/*/c!d=?*".replace('!', "?").as_str(), true);
        check("a/(?:b)", Anchor::Start, "a/b*", true);
        check("a.*.*b", Anchor::Nowhere, "*a*b*", true);
    }

    #[test]
    fn others_are_covered() {
        check(r"a/\d+/b", Anchor::Whole, "a/*/b", false);
        check("a/[bc]d", Anchor::Whole, "a/?d", false);
        check("a|b/c", Anchor::Whole, "*", false);
        check("a$", Anchor::Start, "a*", false);
        check("^a", Anchor::Nowhere, "*a*", false);
        check(r"a\bb", Anchor::Whole, "ab", false);
    }

    #[test]
    fn bounds_hold() {
        let error = |source: &str| Pattern::compile(source, Anchor::Whole).expect_err("refused").to_string();
        assert!(error(&"a".repeat(4097)).contains("4097"));
        assert!(error("a(b").contains("unclosed group"));
        assert!(error(&format!("{}a{}", "(".repeat(60), ")".repeat(60))).contains("nest"));
        assert!(error(r"(\w{200}){200}").contains("smaller"));
    }
}
