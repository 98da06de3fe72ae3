//! What Moxie makes of an answer's bytes: its own parts, put together as a relay does.

use moxie_agent::http1::{Asked, Awaited, Body as Reader, Doubt, Read, ResponseHead, Version};

use crate::cases::Case;
use crate::view::{Body, End, Seen, View, letters};

/// The view of a case whose bytes came `piece` at a time, and then the end.
pub fn view(case: &Case, piece: usize) -> View {
    let method = if case.name.starts_with("head/") { Asked::Head } else { Asked::Other };
    let awaited = Awaited { method, version: Version::Http11 };
    let mut bytes = case.bytes.as_slice();
    loop {
        match answer(bytes, &awaited, piece) {
            Err(why) => return View { requests: Vec::new(), end: End::Doubt(why.code().to_owned()) },
            Ok(Answer::Early(length)) => bytes = &bytes[length..],
            Ok(Answer::Missing) => return View { requests: Vec::new(), end: End::Refused },
            Ok(Answer::Final(seen, end)) => return View { requests: vec![seen], end },
        }
    }
}

enum Answer {
    /// An interim one, so long.
    Early(usize),
    Final(Seen, End),
    /// Its head has no end.
    Missing,
}

fn answer(bytes: &[u8], awaited: &Awaited, piece: usize) -> Result<Answer, Doubt> {
    let mut head = ResponseHead::default();
    let mut end = 0;
    loop {
        end = bytes.len().min(end + piece);
        match head.read(&bytes[..end], awaited)? {
            Read::Done => break,
            Read::Partial if end == bytes.len() => return Ok(Answer::Missing),
            Read::Partial => {}
        }
    }
    if head.switches() {
        return Err(Doubt::BeforeSwitch);
    }
    if (100..200).contains(&head.status()) {
        return Ok(Answer::Early(head.len()));
    }
    let (mut reader, mut data, mut at) = (Reader::new(head.framing()), Vec::new(), head.len());
    while !reader.is_ended() && at < bytes.len() {
        let part = &bytes[at..bytes.len().min(at + piece)];
        at += reader.take_data(part, |part| data.extend_from_slice(part))?.len;
    }
    let is_whole = reader.is_ended() || head.framing() == moxie_agent::http1::Framing::UntilClose;
    let body = if is_whole { Body::Whole(letters(&data)) } else { Body::Open };
    let seen = Seen { method: head.status().to_string(), target: String::new(), host: String::new(), body };
    Ok(Answer::Final(seen, if is_whole { End::Done } else { End::Waits }))
}
