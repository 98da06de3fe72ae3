//! The golden cases: one conversation each, by name.

mod bodies;
mod broken;
mod ends;
mod heads;
mod http2;
mod interim;
mod rules;
mod secrets;
mod switching;
mod targets;

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use crate::play::{Cast, Presence};
use crate::script::{Layer, Script};

/// The host as scripts write it; each case has one of its own in this domain, so that none teaches the agent about another.
pub const DOMAIN: &str = "api.example";

/// A request for `/` that keeps the connection.
pub const GET: &str = "GET / HTTP/1.1\r\nHost: api.example\r\n\r\n";
/// An answer to it.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What the agent makes of a case where a rule can name its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It looks into the HTTP.
    Http,
    /// It cannot tell whose this is, in the clear; inside TLS the name is there.
    Opaque,
    /// It leaves it alone.
    Nothing,
    /// In the clear it looks into it for any rule, since the host comes late.
    Anyway,
}

/// A rule that fires, and what then is to be seen.
#[derive(Clone, Debug)]
pub struct Fired {
    /// The path that the rule names, a regex.
    path: &'static str,
    /// The rule's other fields.
    rule: Value,
    /// The conversation with the rule's parts in it, and nothing else changed.
    script: Script,
}

/// One golden case.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    script: Script,
    layers: Vec<Layer>,
    fired: Option<Fired>,
    offered: Vec<&'static str>,
    spoken: Vec<&'static str>,
    presence: Presence,
    written: Written,
    pub seen: Seen,
}

/// How a script writes the case's host, which is put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// As the domain.
    Domain,
    /// As a host that is as long as the case's own, for scripts that count their bytes.
    Counted,
}

/// A host whose length every counted case's own has.
pub const COUNTED: &str = "h0000000000000000.api.example";

/// A case in the clear and inside TLS.
pub fn case(name: &'static str, write: impl FnOnce(&mut Script)) -> Case {
    Case {
        name,
        script: Script::of(write),
        layers: vec![Layer::Clear, Layer::Secret],
        fired: None,
        offered: vec!["http/1.1"],
        spoken: vec!["http/1.1"],
        presence: Presence::There,
        written: Written::Domain,
        seen: Seen::Http,
    }
}

impl Case {
    /// Only with or only without TLS.
    fn only(mut self, layer: Layer) -> Self {
        self.layers = vec![layer];
        self
    }

    /// In the clear nobody can tell whose this is.
    fn opaque(mut self) -> Self {
        self.seen = Seen::Opaque;
        self
    }

    /// In the clear any rule is reason enough.
    fn looked_into(mut self) -> Self {
        self.seen = Seen::Anyway;
        self
    }

    /// Rules are not for this.
    fn left_alone(mut self) -> Self {
        self.seen = Seen::Nothing;
        self
    }

    /// The protocols that client and origin know inside TLS.
    fn speaking(mut self, offered: &[&'static str], spoken: &[&'static str]) -> Self {
        (self.offered, self.spoken) = (offered.to_vec(), spoken.to_vec());
        self
    }

    /// Nobody listens at the origin's address, so nothing is said.
    fn absent(mut self) -> Self {
        self.presence = Presence::Absent;
        self.script = Script::default();
        self
    }

    /// With a rule for `path` the conversation goes as `write` says.
    fn fired(mut self, path: &'static str, rule: Value, write: impl FnOnce(&mut Script)) -> Self {
        self.fired = Some(Fired { path, rule, script: Script::of(write) });
        self
    }

    /// With which layers it is played.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// What is played, for this case's own host.
    pub fn script(&self) -> Script {
        self.for_own_host(&self.script)
    }

    /// What is to be seen where the case's rule fires.
    pub fn fired_script(&self) -> Option<Script> {
        self.fired.as_ref().map(|fired| self.for_own_host(&fired.script))
    }

    /// The case's rule.
    pub fn rule(&self) -> Option<Value> {
        let Fired { path, rule, .. } = self.fired.as_ref()?;
        let mut rule = rule.clone();
        let url = format!(r"{}(:\d+)?{path}", self.host().replace('.', r"\."));
        rule.as_object_mut().unwrap().insert("url".to_owned(), url.into());
        Some(rule)
    }

    /// Who plays it.
    pub fn cast(&self) -> Cast {
        Cast {
            domain: DOMAIN,
            host: self.host(),
            offered: self.offered.clone(),
            spoken: self.spoken.clone(),
            presence: self.presence,
        }
    }

    /// Its script counts the bytes that its host is among.
    fn counted(mut self) -> Self {
        self.written = Written::Counted;
        self
    }

    fn for_own_host(&self, script: &Script) -> Script {
        match self.written {
            Written::Domain => script.for_host(DOMAIN, &self.host()),
            Written::Counted => script.for_host(COUNTED, &self.host()),
        }
    }

    fn host(&self) -> String {
        match self.written {
            Written::Domain => format!("{}.{DOMAIN}", self.name),
            Written::Counted => {
                let number = self.name.bytes().fold(7_u64, |number, byte| number.wrapping_mul(31) + u64::from(byte));
                format!("h{number:016x}.{DOMAIN}")
            }
        }
    }
}

/// Those whose first request is in doubt: in the clear nothing of it is relied on, not even its host.
const DOUBTED: [&str; 9] = [
    "padded-length",
    "lengths-in-a-list",
    "length-and-chunked",
    "two-hosts",
    "control-byte-in-the-path",
    "absolute-form-of-another-scheme",
    "gzip-then-chunked",
    "first-request-with-lf-only",
    "first-request-is-smuggling-shaped",
];

/// Every case.
pub fn all() -> Vec<Case> {
    let cases = [
        heads::cases(),
        http2::cases(),
        targets::cases(),
        bodies::cases(),
        interim::cases(),
        ends::cases(),
        switching::cases(),
        broken::cases(),
        secrets::cases(),
        rules::cases(),
    ]
    .concat();
    let judged = |case: Case| if DOUBTED.contains(&case.name) { case.opaque() } else { case };
    cases.into_iter().map(judged).collect()
}

/// Those in which the kernel has a part, and some of every other kind.
pub fn core() -> Vec<Case> {
    const SOME: [&str; 12] = [
        "plain",
        "header-order-and-duplicates",
        "path-bytes",
        "chunk-extensions",
        "bodies-of-1-mib",
        "large-bodies-at-the-same-time",
        "five-early-hints",
        "pipeline-of-20",
        "websocket",
        "two-answers-to-one-request",
        "h2-trailers",
        "h2-codes-of-origin-resets",
    ];
    let is_core = |case: &Case| SOME.contains(&case.name);
    let some = all().into_iter().filter(is_core);
    some.chain(ends::cases()).chain(secrets::cases()).collect()
}

/// Bytes that repeat only after a long while, so that nothing can be lost or doubled unseen.
pub fn pattern(count: usize) -> Bytes {
    static ALL: LazyLock<Bytes> = LazyLock::new(|| {
        let mut state = 0x9e37_79b9_u32;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()
        });
        // Not a power of two, so that no buffer's size hides a mistake by whole turns.
        words.take(250_007).flatten().collect()
    });
    let mut bytes = BytesMut::with_capacity(count);
    while bytes.len() < count {
        let part = ALL.len().min(count - bytes.len());
        bytes.extend_from_slice(&ALL[..part]);
    }
    bytes.freeze()
}
