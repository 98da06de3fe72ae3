//! What rules are asked about a request: its raw head, and who sent it.

use std::borrow::Cow;
use std::fmt;

use crate::datapath::party::Party;
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

/// Who has a say in what becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Rules,
    Nobody,
}

/// Begins the record of the request whose head was read from `bytes`, and tells which rule fires for it, counted; none if the
/// request is the destination's.
pub(super) async fn judge(party: &Party, head: &RequestHead, bytes: &[u8], ask: Ask) -> (ExchangeLog, Option<Hit>) {
    let authority = normal_authority(head.authority(bytes).unwrap_or_default(), party.scheme);
    let (method, path, query) = (head.method(bytes), text(head.path(bytes)), head.query(bytes).map(text));
    let mut log = match &query {
        Some(query) => party.open_log(Protocol::Http1, method, &authority, &format!("{path}?{query}")),
        None => party.open_log(Protocol::Http1, method, &authority, &path),
    };
    let facts = set::Request {
        method,
        scheme: party.scheme,
        authority: &authority,
        path: &path,
        query: query.as_deref(),
        headers: &Lines { head, bytes },
        caller: &party.caller,
    };
    let hit = match ask {
        Ask::Rules => party.decide(&facts, &mut log).await,
        Ask::Nobody => None,
    };
    (log, hit)
}

/// Rules are text; what is none is matched with its odd bytes replaced.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
