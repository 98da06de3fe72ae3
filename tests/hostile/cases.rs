//! The cases: bytes that two readers might read differently, made along axes, each with a name that stays.

use std::collections::BTreeSet;

mod chunks;
mod framing;
mod lines;
mod order;
mod targets;

pub(crate) use framing::{CODINGS, LENGTHS};

/// What follows every case, so that a reader who took too much or too little shows it.
pub const SENTINEL: &[u8] = b"GET /sentinel HTTP/1.1\r\nHost: s.example\r\nConnection: close\r\n\r\n";

/// One connection's bytes.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// All cases, in the table's order.
pub fn all() -> Vec<Case> {
    let mut cases = Cases(Vec::new());
    order::add(&mut cases);
    framing::add(&mut cases);
    lines::add(&mut cases);
    targets::add(&mut cases);
    chunks::add(&mut cases);
    // Axes cross.
    let mut seen = BTreeSet::new();
    cases.0.retain(|case| seen.insert(case.bytes.clone()));
    cases.0
}

/// The list as it grows.
struct Cases(Vec<Case>);

impl Cases {
    /// Bytes, and the sentinel.
    fn add(&mut self, name: String, bytes: impl AsRef<[u8]>) {
        self.0.push(Case { name, bytes: [bytes.as_ref(), SENTINEL].concat() });
    }

    /// A POST with these header lines (each with its end) and body.
    fn post(&mut self, name: String, lines: impl AsRef<[u8]>, body: impl AsRef<[u8]>) {
        let begin: &[u8] = b"POST /a HTTP/1.1\r\nHost: a.example\r\n";
        self.add(name, [begin, lines.as_ref(), b"\r\n", body.as_ref()].concat());
    }
}
