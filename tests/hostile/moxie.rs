//! What Moxie makes of a connection's bytes: its own parts, put together as a relay does.

use moxie_agent::http1::{Body as Reader, Doubt, Read, RequestHead};

use super::view::{Body, End, Seen, View, letters};

/// The view of bytes that came at once.
pub fn view(bytes: &[u8]) -> View {
    view_in_pieces(bytes, bytes.len().max(1))
}

/// The view of bytes that came `piece` at a time.
pub fn view_in_pieces(bytes: &[u8], piece: usize) -> View {
    let mut requests = Vec::new();
    let mut at = 0;
    let end = loop {
        if at == bytes.len() {
            break End::Done;
        }
        match next(&bytes[at..], piece) {
            (None, end) => break end.unwrap_or(End::Done),
            (Some((seen, len)), end) => {
                requests.push(seen);
                at += len;
                if let Some(end) = end {
                    break if at == bytes.len() && matches!(end, End::Doubt(ref code) if ENDS.contains(&code.as_str())) {
                        End::Done
                    } else {
                        end
                    };
                }
            }
        }
    };
    View { requests, end }
}

/// Doubts about what follows, so about nothing where nothing does.
const ENDS: [&str; 2] = ["after_last", "before_switch"];

fn doubt(doubt: Doubt) -> End {
    End::Doubt(doubt.code().to_owned())
}

/// The next request with its length, and why there is none after it.
fn next(bytes: &[u8], piece: usize) -> (Option<(Seen, usize)>, Option<End>) {
    let mut head = RequestHead::default();
    let mut end = 0;
    loop {
        end = bytes.len().min(end + piece);
        match head.read(&bytes[..end]) {
            Err(why) => return (None, Some(doubt(why))),
            Ok(Read::Done) => break,
            Ok(Read::Partial) if end == bytes.len() => return (None, Some(End::Waits)),
            Ok(Read::Partial) => {}
        }
    }
    let (body, len, ended) = body(&head, &bytes[head.len()..], piece);
    let seen = Seen {
        method: head.method(bytes).to_owned(),
        target: Seen::path_of(&letters(head.target(bytes))),
        host: head.authority(bytes).unwrap_or_default().to_owned(),
        body,
    };
    let end = match ended {
        Some(end) => Some(end),
        None if head.switches() => Some(doubt(Doubt::BeforeSwitch)),
        None if !head.persists() => Some(doubt(Doubt::AfterLast)),
        None => None,
    };
    (Some((seen, head.len() + len)), end)
}

fn body(head: &RequestHead, bytes: &[u8], piece: usize) -> (Body, usize, Option<End>) {
    let mut reader = Reader::new(head.framing());
    let (mut data, mut at) = (Vec::new(), 0);
    while !reader.is_ended() {
        let part = &bytes[at..bytes.len().min(at + piece)];
        match reader.take_data(part, |part| data.extend_from_slice(part)) {
            Err(why) => return (Body::Open, at, Some(doubt(why))),
            Ok(taken) => at += taken.len,
        }
        if at == bytes.len() && !reader.is_ended() {
            return (Body::Open, at, Some(End::Waits));
        }
    }
    (Body::Whole(letters(&data)), at, None)
}
