//! A stream of server-sent events, event by event.

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use crate::cli::exit::{Failure, chain};

/// The longest event that is waited for.
const LONGEST_EVENT: usize = 16 << 20;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name.
    pub kind: String,
    /// Its data.
    pub data: Value,
}

/// The events of one answer.
pub(in crate::cli) struct Events {
    body: Incoming,
    unread: BytesMut,
}

impl Events {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, unread: BytesMut::new() }
    }

    /// The next event; `None` once the agent has ended the stream.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = take(&mut self.unread) {
                return Ok(Some(event));
            }
            if self.unread.len() > LONGEST_EVENT {
                return Err(Failure::failed("the agent sent an event that does not end"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.unread.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Failure::failed(format!("the agent went away: {}", chain(&error)))),
            }
        }
    }
}

/// Takes the next event off what has been read, and the comments before it, which only keep the stream alive; `None`: it is not all
/// there.
pub fn take(unread: &mut BytesMut) -> Option<Event> {
    while let Some(block) = take_block(unread) {
        if let Some(event) = parse(&block) {
            return Some(event);
        }
    }
    None
}

/// The bytes up to the next empty line.
fn take_block(unread: &mut BytesMut) -> Option<BytesMut> {
    let end = unread.windows(2).position(|pair| pair == b"\n\n")?;
    let block = unread.split_to(end);
    unread.advance(2);
    Some(block)
}

/// The event of a block; `None` for a comment.
fn parse(block: &[u8]) -> Option<Event> {
    let text = std::str::from_utf8(block).ok()?;
    let fields = |name: &'static str| {
        text.lines()
            .filter_map(move |line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|value| value.strip_prefix(' ').unwrap_or(value))
    };
    let data: Vec<&str> = fields("data").collect();
    if data.is_empty() {
        return None;
    }
    let kind = fields("event").next().unwrap_or("message").to_owned();
    Some(Event { kind, data: serde_json::from_str(&data.join("\n")).ok()? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_are_read_however_they_were_cut() {
        let stream =
            b": following\n\nevent: exchange\ndata: {\"id\":\"1\"}\n\nevent:rule\ndata:{\ndata:}\n\nevent: half\nda";
        let whole = vec![
            Event { kind: "exchange".into(), data: json!({"id": "1"}) },
            Event { kind: "rule".into(), data: json!({}) },
        ];
        for size in 1..stream.len() {
            let (mut unread, mut events) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(size) {
                unread.extend_from_slice(piece);
                events.extend(std::iter::from_fn(|| take(&mut unread)));
            }
            assert_eq!(events, whole, "pieces of {size}");
        }
    }
}
