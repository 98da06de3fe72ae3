//! Random walks over messages: valid, odd and broken ones, pipelined, cut anywhere, ended anyhow. What each end sees is the same
//! directly and through the agent, whatever it is.
//!
//! `MOXIE_SEED=N` plays one walk again; `MOXIE_LONG=SECONDS` walks for so long, on seeds that nobody has tried.

use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use crate::cases::{DOMAIN, pattern};
use crate::play::{Cast, Presence, play};
use crate::script::{Close, Layer, Script, Side, Step};
use crate::stage::{Loopback, Tier};

/// Walks where nothing else is asked for.
const WALKS: u64 = 60;
/// Whom every walk asks for; each begins with a request, so none teaches the agent anything.
const HOST: &str = "walk.api.example";
/// Walks at a time.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_walks_are_the_same_at_every_tier() {
    let stage = Arc::new(Loopback::set(DOMAIN, &[]).await);
    let deadline = number("MOXIE_LONG").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut seeds = match (number("MOXIE_SEED"), deadline) {
        (Some(seed), _) => seed..=seed,
        (None, None) => 1..=WALKS,
        (None, Some(_)) => {
            let first = rand::rng().random_range(WALKS..u64::MAX / 2);
            first..=u64::MAX
        }
    };
    let (gate, mut walking, mut walked) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new(), 0);
    while let Some(seed) = seeds.next().filter(|_| deadline.is_none_or(|deadline| Instant::now() < deadline)) {
        let (turn, stage) = (Arc::clone(&gate).acquire_owned().await.unwrap(), Arc::clone(&stage));
        walking.spawn(async move {
            let found = walk(seed, &stage).await;
            drop(turn);
            found
        });
        while let Some(found) = walking.try_join_next() {
            walked += 1;
            same(found.unwrap());
        }
    }
    while let Some(found) = walking.join_next().await {
        walked += 1;
        same(found.unwrap());
    }
    println!("{walked} walks");
}

fn same(found: Option<String>) {
    if let Some(found) = found {
        panic!("{found}");
    }
}

/// A number that the environment gives to this test.
fn number(variable: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, as MOXIE_LONG is")]
    let given = std::env::var(variable).ok()?;
    Some(given.parse().unwrap_or_else(|_| panic!("{variable} is a number, and `{given}` is none")))
}

/// One walk; what differs, if anything does.
async fn walk(seed: u64, stage: &Loopback) -> Option<String> {
    let mut dice = StdRng::seed_from_u64(seed);
    let layer = if dice.random_bool(0.3) { Layer::Secret } else { Layer::Clear };
    let script = script(&mut dice);
    let cast = Cast {
        domain: DOMAIN,
        host: HOST.to_owned(),
        offered: vec!["http/1.1"],
        spoken: vec!["http/1.1"],
        presence: Presence::There,
    };
    let ideal = script.ideal(layer);
    for tier in [Tier::Direct, Tier::Passed, Tier::Interpreted] {
        let mut seen = play(&script, &cast, layer, tier, stage).await.transcript;
        seen.agreed = ideal.agreed.clone();
        let differences = seen.differences(&ideal);
        if !differences.is_empty() {
            let steps: Vec<String> = script.steps.iter().map(told).collect();
            return Some(format!(
                "{layer:?}, {}: {}\nMOXIE_SEED={seed} plays it again:\n{}",
                tier.name(),
                differences.join("; "),
                steps.join("\n")
            ));
        }
    }
    None
}

/// A step in a line.
fn told(step: &Step) -> String {
    let excerpt = |bytes: &Bytes| format!("{} bytes \"{}\"", bytes.len(), bytes[..bytes.len().min(200)].escape_ascii());
    match step {
        Step::Says(side, bytes) => format!("{side:?} says {}", excerpt(bytes)),
        Step::Trickles(side, bytes) => format!("{side:?} trickles {}", excerpt(bytes)),
        Step::Hears(side, bytes) => format!("{side:?} hears {}", excerpt(bytes)),
        other => format!("{other:?}"),
    }
}

fn script(dice: &mut StdRng) -> Script {
    Script::of(|s| {
        for round in 0..dice.random_range(1..6) {
            let pipelined = if dice.random_bool(0.3) { dice.random_range(2..6) } else { 1 };
            let requests: Vec<Vec<u8>> = (0..pipelined).map(|_| request(dice, round == 0)).collect();
            say(s, Side::Client, &requests.concat(), dice);
            if end(s, dice, 0.04) {
                return;
            }
            let responses: Vec<Vec<u8>> = (0..pipelined).map(|_| response(dice)).collect();
            if dice.random_bool(0.5) {
                say(s, Side::Origin, &responses.concat(), dice);
            } else {
                responses.iter().for_each(|response| say(s, Side::Origin, response, dice));
            }
            if end(s, dice, 0.1) {
                return;
            }
        }
    })
}

/// Sends bytes, cut anyhow, and lets the other side get them all.
fn say(s: &mut Script, side: Side, bytes: &[u8], dice: &mut StdRng) {
    let mut rest = bytes;
    match dice.random_range(0..4) {
        0 if bytes.len() < 300 => {
            s.step(Step::Trickles(side, Bytes::copy_from_slice(bytes)));
        }
        1 => {
            while !rest.is_empty() {
                let (part, others) = rest.split_at(dice.random_range(1..=rest.len()));
                s.says(side, part);
                rest = others;
            }
        }
        _ => {
            s.says(side, bytes);
        }
    }
    s.hears(side.other(), bytes);
}

/// Perhaps an end; `true` where the walk is over.
fn end(s: &mut Script, dice: &mut StdRng, chance: f64) -> bool {
    if !dice.random_bool(chance) {
        return false;
    }
    let side = *[Side::Client, Side::Origin].choose(dice).unwrap();
    match dice.random_range(0..4) {
        0 => s.closes(side, Close::Reset),
        1 => s.closes(side, Close::Cut),
        _ => s.closes(side, Close::Finish),
    };
    if dice.random_bool(0.3) && !s.steps.iter().any(|step| matches!(step, Step::Closes(_, Close::Reset))) {
        // The other direction goes on for a while.
        let bytes = response(dice);
        say(s, side.other(), &bytes, dice);
    }
    true
}

/// How odd a message is.
fn oddness(dice: &mut StdRng) -> Oddness {
    match dice.random_range(0..10) {
        0 => Oddness::Broken,
        1..4 => Oddness::Odd,
        _ => Oddness::None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Oddness {
    None,
    Odd,
    Broken,
}

const FIELDS: [&str; 8] = [
    "Accept: */*",
    "X-A: 1",
    "x-a: 2",
    "X-aA:  3 ",
    "Connection: keep-alive",
    "Cookie: a=b; c=d",
    "Content-Type: text/plain",
    "User-Agent: walk",
];
const ODD_FIELDS: [&str; 6] =
    ["X-Empty:", "X-T:\tt\t", "X-N: \u{e9}\u{2603}", "Connection: close, x-a", "Keep-Alive: timeout=1", "TE: trailers"];
const BROKEN_FIELDS: [&[u8]; 9] = [
    b"X-A : 1",
    b"nonsense",
    b": v",
    b"X\x01: 1",
    b"X-A: 1\r\n folded",
    b"X-A: 1\x002",
    b"Content-Length: +1",
    b"Transfer-Encoding: gzip",
    b"X-A: 1\nX-B: 2",
];

fn fields(dice: &mut StdRng, oddness: Oddness) -> Vec<u8> {
    let mut lines = Vec::new();
    for _ in 0..dice.random_range(0..5) {
        let line: &[u8] = match (oddness, dice.random_range(0..3)) {
            (Oddness::None, _) | (_, 0) => FIELDS.choose(dice).unwrap().as_bytes(),
            (Oddness::Odd, _) | (_, 1) => ODD_FIELDS.choose(dice).unwrap().as_bytes(),
            (Oddness::Broken, _) => BROKEN_FIELDS.choose(dice).unwrap(),
        };
        lines.extend_from_slice(line);
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// A body and the fields that frame it.
fn body(dice: &mut StdRng, oddness: Oddness) -> (Vec<u8>, Vec<u8>) {
    let length = match dice.random_range(0..20) {
        0 => dice.random_range(60_000..300_000),
        1..5 => dice.random_range(1_000..20_000),
        5..8 => 0,
        _ => dice.random_range(1..200),
    };
    let content = pattern(length);
    if dice.random_bool(0.5) {
        let claimed = if oddness == Oddness::Broken && dice.random_bool(0.3) { length + 1 } else { length };
        return (format!("Content-Length: {claimed}\r\n").into_bytes(), content.to_vec());
    }
    let mut chunks = Vec::new();
    let mut rest = &content[..];
    while !rest.is_empty() {
        let (part, others) = rest.split_at(dice.random_range(1..=rest.len()));
        let padding = if oddness == Oddness::None { "" } else { "00" };
        let extension = *["", "", ";a=b", ";x"].choose(dice).unwrap();
        chunks.extend_from_slice(format!("{padding}{:x}{extension}\r\n", part.len()).as_bytes());
        chunks.extend_from_slice(part);
        chunks.extend_from_slice(b"\r\n");
        rest = others;
    }
    let last = if oddness == Oddness::Broken && dice.random_bool(0.3) { "zz\r\n\r\n" } else { "0\r\n" };
    chunks.extend_from_slice(last.as_bytes());
    chunks.extend_from_slice(if dice.random_bool(0.2) { b"X-Trailer: 1\r\n\r\n" } else { b"\r\n" });
    (b"Transfer-Encoding: chunked\r\n".to_vec(), chunks)
}

fn request(dice: &mut StdRng, is_first: bool) -> Vec<u8> {
    // What comes first has to be good enough to be looked into.
    let oddness = if is_first { Oddness::None } else { oddness(dice) };
    let target: &[u8] = match oddness {
        Oddness::None => [b"/".as_slice(), b"/a/b?c=d", b"*"].choose(dice).unwrap(),
        Oddness::Odd => {
            [b"/<a>\"`".as_slice(), b"/\xff\x80", b"/a#b", b"http://walk.api.example/x", b"//%zz"].choose(dice).unwrap()
        }
        Oddness::Broken => [b"/ /".as_slice(), b"", b"/a b", b"\x00", b"http://other.example/"].choose(dice).unwrap(),
    };
    let method = *["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "BREW"].choose(dice).unwrap();
    let version = if dice.random_bool(0.1) { "HTTP/1.0" } else { "HTTP/1.1" };
    let (framing, content) = if dice.random_bool(0.5) { body(dice, oddness) } else { (Vec::new(), Vec::new()) };
    let fields = fields(dice, oddness);
    [
        method.as_bytes(),
        b" ",
        target,
        b" ",
        version.as_bytes(),
        b"\r\nHost: walk.api.example\r\n",
        &fields,
        &framing,
        b"\r\n",
        &content,
    ]
    .concat()
}

fn response(dice: &mut StdRng) -> Vec<u8> {
    let oddness = oddness(dice);
    if oddness == Oddness::Broken && dice.random_bool(0.2) {
        return b"\x00 no answer at all\r\n\r\n".to_vec();
    }
    let interim: &[u8] = match dice.random_range(0..10) {
        0 => b"HTTP/1.1 100 Continue\r\n\r\n",
        1 => b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n",
        _ => b"",
    };
    let line = *[
        "200 OK",
        "200 ",
        "404 Not  Found",
        "500 Oh no",
        "204 No Content",
        "304 Not Modified",
        "101 Switching Protocols",
    ][..if oddness == Oddness::Broken { 7 } else { 6 }]
        .choose(dice)
        .unwrap();
    let (framing, content) = body(dice, oddness);
    let fields = fields(dice, oddness);
    [interim, b"HTTP/1.1 ", line.as_bytes(), b"\r\n", &fields, &framing, b"\r\n", &content].concat()
}
