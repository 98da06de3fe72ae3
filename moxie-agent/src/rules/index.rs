//! Many patterns in one tree, so that a text is held against thousands of them in about the time that one takes.
//!
//! Patterns that begin alike share their first nodes; a pattern's lone rest is not spread into nodes but read off its atoms.
//! The walk keeps the set of places that the text may have come to, as one does with a nondeterministic automaton.

use std::ops::Range;
use std::sync::Arc;

use super::pattern::Atom;

/// The tree. `u32` values that the caller chose stand for the patterns.
#[derive(Debug, Default)]
pub(super) struct Index {
    nodes: Vec<Node>,
    edges: Vec<(Atom, Place)>,
    patterns: Vec<Entry>,
}

/// A distinct pattern and the values that were filed under it.
#[derive(Debug)]
struct Entry {
    atoms: Arc<[Atom]>,
    values: Vec<u32>,
}

#[derive(Debug)]
struct Node {
    depth: usize,
    /// The patterns below, which are neighbours since all are sorted.
    patterns: Range<usize>,
    edges: Range<usize>,
    /// Reached by a star, so it stays reached whatever comes.
    stays: bool,
}

/// Where a walk may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// At this node.
    Node(usize),
    /// Before atom `at` of the only pattern left.
    Rest { pattern: usize, at: usize },
}

impl Index {
    pub(super) fn build(filed: impl Iterator<Item = (Arc<[Atom]>, u32)>) -> Self {
        let mut filed: Vec<_> = filed.collect();
        filed.sort();
        let mut patterns: Vec<Entry> = Vec::new();
        for (atoms, value) in filed {
            match patterns.last_mut() {
                Some(last) if last.atoms == atoms => last.values.push(value),
                _ => patterns.push(Entry { atoms, values: vec![value] }),
            }
        }
        let mut index = Self { nodes: Vec::new(), edges: Vec::new(), patterns };
        index.nodes.push(Node { depth: 0, patterns: 0..index.patterns.len(), edges: 0..0, stays: false });
        let mut next = 0;
        while next < index.nodes.len() {
            index.branch(next);
            next += 1;
        }
        index
    }

    /// Gives a node its edges, and the edges their nodes, to be branched later.
    fn branch(&mut self, node: usize) {
        let Node { depth, ref patterns, .. } = self.nodes[node];
        let (mut from, end) = (patterns.start, patterns.end);
        let first_edge = self.edges.len();
        while from < end {
            let atom = self.patterns[from].atoms.get(depth).copied();
            let same = |entry: &Entry| entry.atoms.get(depth).copied() == atom;
            let to = from + self.patterns[from..end].partition_point(same);
            // A pattern that ends here sorts first and needs no edge: `ends` finds it.
            if let Some(atom) = atom {
                let place = if to - from == 1 {
                    Place::Rest { pattern: from, at: depth + 1 }
                } else {
                    let child = Node { depth: depth + 1, patterns: from..to, edges: 0..0, stays: atom == Atom::Star };
                    self.nodes.push(child);
                    Place::Node(self.nodes.len() - 1)
                };
                self.edges.push((atom, place));
            }
            from = to;
        }
        self.nodes[node].edges = first_edge..self.edges.len();
    }

    /// A walk that has read nothing yet.
    pub(super) fn walk(&self) -> Walk<'_> {
        let mut walk = Walk { index: self, here: Vec::with_capacity(8), next: Vec::with_capacity(8) };
        if !self.nodes.is_empty() {
            walk.enter(Place::Node(0));
            std::mem::swap(&mut walk.here, &mut walk.next);
        }
        walk
    }

    fn edges(&self, node: &Node) -> &[(Atom, Place)] {
        &self.edges[node.edges.clone()]
    }

    /// `Any` and `Star` sort behind every character.
    fn wild_edge(&self, node: &Node, wanted: Atom) -> Option<Place> {
        let mut last = self.edges(node).iter().rev().take(2);
        last.find(|(atom, _)| *atom == wanted).map(|(_, place)| *place)
    }

    /// The values filed under the pattern that ends at `place`.
    fn ends(&self, place: Place) -> &[u32] {
        let (pattern, depth) = match place {
            Place::Node(node) => (self.nodes[node].patterns.start, self.nodes[node].depth),
            Place::Rest { pattern, at } => (pattern, at),
        };
        self.patterns.get(pattern).filter(|entry| entry.atoms.len() == depth).map_or(&[], |entry| &entry.values)
    }

    /// The values filed under every pattern that may still match from `place`.
    fn below(&self, place: Place) -> impl Iterator<Item = u32> {
        let patterns = match place {
            Place::Node(node) => self.nodes[node].patterns.clone(),
            Place::Rest { pattern, .. } => pattern..pattern + 1,
        };
        self.patterns[patterns].iter().flat_map(|entry| entry.values.iter().copied())
    }
}

/// A text on its way through the tree.
pub(super) struct Walk<'a> {
    index: &'a Index,
    here: Vec<Place>,
    next: Vec<Place>,
}

impl Walk<'_> {
    /// Reads on.
    pub(super) fn read(&mut self, text: &str) {
        for c in text.chars() {
            if self.here.is_empty() {
                return;
            }
            self.step(c);
        }
    }

    /// The values of the patterns that match what was read, in no order, perhaps more than once.
    pub(super) fn matched(&self) -> impl Iterator<Item = u32> {
        self.here.iter().flat_map(|place| self.index.ends(*place).iter().copied())
    }

    /// The values of the patterns that match some text that begins with what was read.
    pub(super) fn possible(&self) -> impl Iterator<Item = u32> {
        self.here.iter().flat_map(|place| self.index.below(*place))
    }

    fn step(&mut self, c: char) {
        let here = std::mem::take(&mut self.here);
        self.next.clear();
        // No request holds a line break.
        if c != '\n' {
            here.iter().for_each(|place| self.advance(*place, c));
        }
        if self.next.len() > 1 {
            self.next.sort_unstable();
            self.next.dedup();
        }
        self.here = std::mem::replace(&mut self.next, here);
    }

    fn advance(&mut self, place: Place, c: char) {
        let index = self.index;
        match place {
            Place::Node(id) => {
                let node = &index.nodes[id];
                if node.stays {
                    self.next.push(place);
                }
                let edges = index.edges(node);
                if let Ok(found) = edges.binary_search_by_key(&Atom::Char(c), |(atom, _)| *atom) {
                    self.enter(edges[found].1);
                }
                if let Some(to) = index.wild_edge(node, Atom::Any) {
                    self.enter(to);
                }
            }
            Place::Rest { pattern, at } => {
                let atoms = &index.patterns[pattern].atoms;
                if at > 0 && atoms[at - 1] == Atom::Star {
                    self.next.push(place);
                }
                if atoms.get(at).is_some_and(|atom| *atom == Atom::Char(c) || *atom == Atom::Any) {
                    self.enter(Place::Rest { pattern, at: at + 1 });
                }
            }
        }
    }

    /// Comes to `place`, and past the star that may follow it, which takes no character to pass.
    fn enter(&mut self, place: Place) {
        self.next.push(place);
        let index = self.index;
        let behind_star = match place {
            Place::Node(node) => index.wild_edge(&index.nodes[node], Atom::Star),
            Place::Rest { pattern, at } => (index.patterns[pattern].atoms.get(at) == Some(&Atom::Star))
                .then_some(Place::Rest { pattern, at: at + 1 }),
        };
        // Never two stars in a row, so never deeper than this.
        self.next.extend(behind_star);
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::{Anchor, Pattern};
    use super::*;

    fn index(sources: &[&str]) -> Index {
        let atoms = |source: &&str| Pattern::compile(source, Anchor::Whole).expect("a pattern").atoms().clone();
        Index::build(sources.iter().map(atoms).zip(0..))
    }

    #[track_caller]
    fn check(sources: &[&str], text: &str, matched: &[u32], possible: &[u32]) {
        let index = index(sources);
        let mut walk = index.walk();
        walk.read(text);
        let sorted = |values: &mut dyn Iterator<Item = u32>| {
            let mut values: Vec<u32> = values.collect();
            values.sort_unstable();
            values.dedup();
            values
        };
        assert_eq!(sorted(&mut walk.matched()), matched, "{text} matched");
        assert_eq!(sorted(&mut walk.possible()), possible, "{text} possible");
    }

    #[test]
    fn finds_every_pattern_that_matches() {
        let sources = ["a.b/c", "a.b/.*", "a.*", "axb/c", "axb/c", "x"];
        check(&sources, "a.b/c", &[0, 1, 2], &[0, 1, 2]);
        check(&sources, "axb/c", &[0, 1, 2, 3, 4], &[0, 1, 2, 3, 4]);
        check(&sources, "a", &[2], &[0, 1, 2, 3, 4]);
        check(&sources, "", &[], &[0, 1, 2, 3, 4, 5]);
        check(&sources, "y", &[], &[]);
        check(&[], "y", &[], &[]);
    }

    #[test]
    fn a_star_takes_nothing_or_anything_but_a_line_break() {
        let sources = ["a.*b", "a.*", "a.*bc"];
        check(&sources, "ab", &[0, 1], &[0, 1, 2]);
        check(&sources, "abcbc", &[1, 2], &[0, 1, 2]);
        check(&sources, "aé.bb", &[0, 1], &[0, 1, 2]);
        check(&sources, "a\nb", &[], &[]);
    }
}
