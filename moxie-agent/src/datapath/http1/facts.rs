//! What rules are asked about a request: its raw head, and who sent it.

use std::borrow::Cow;
use std::fmt;

use crate::datapath::exchange::party::Party;
use crate::datapath::record::ExchangeLog;
use crate::http1::RequestHead;
use crate::journal::Protocol;
use crate::rules::set::{self, Headers, Hit, normal_authority};

/// The header lines of a head that was read from `bytes`.
struct Lines<'a> {
    head: &'a RequestHead,
    bytes: &'a [u8],
}

impl Headers for Lines<'_> {
    fn values<'a>(&'a self, name: &str) -> Vec<Cow<'a, str>> {
        let named = self.head.fields(self.bytes).filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| String::from_utf8_lossy(field.value)).collect()
    }
}

impl fmt::Debug for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.head.fields(self.bytes).map(|field| field.name)).finish()
    }
}

/// Begins the record of the request whose head was read from `bytes`.
pub(super) fn open_log(party: &Party, head: &RequestHead, bytes: &[u8]) -> ExchangeLog {
    let authority = authority(party, head, bytes);
    let target = match head.query(bytes) {
        Some(query) => format!("{}?{}", text(head.path(bytes)), text(query)).into(),
        None => text(head.path(bytes)),
    };
    party.open_log(Protocol::Http1, head.method(bytes), &authority, &target)
}

/// The rule that fires for that request, counted; none if the request is the destination's.
pub(super) async fn decide(party: &Party, head: &RequestHead, bytes: &[u8], log: &mut ExchangeLog) -> Option<Hit> {
    let authority = authority(party, head, bytes);
    let (path, query) = (text(head.path(bytes)), head.query(bytes).map(text));
    let facts = set::Request {
        method: head.method(bytes),
        scheme: party.scheme,
        authority: &authority,
        path: &path,
        query: query.as_deref(),
        headers: &Lines { head, bytes },
        caller: &party.caller,
    };
    party.decide(&facts, log).await
}

fn authority(party: &Party, head: &RequestHead, bytes: &[u8]) -> String {
    normal_authority(head.authority(bytes).unwrap_or_default(), party.scheme)
}

/// Rules are text; what is none is matched with its odd bytes replaced.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
