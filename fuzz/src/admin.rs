//! The admin API's own JSON, and the stream of events that the command line reads.

use bytes::BytesMut;
use moxie_agent::admin::{divert, scopes};
use moxie_agent::cli::client::events::{self, Event};
use moxie_agent::scope::{Mode, Target};
use serde_json::Value;

use super::bytes::piece;

/// Bodies of `POST /scopes` and of `PUT /divert`: what is refused says why.
pub(crate) fn admin_json(bytes: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Value>(bytes) else { return };
    match scopes::read(&json) {
        Ok(spec) => {
            assert!(!matches!(spec.target, Target::Pid(0)));
            assert_eq!(spec.mode == Mode::Inspect, !spec.inspect.is_empty());
        }
        Err(problems) => assert!(!problems.is_empty()),
    }
    match divert::read(&json) {
        Ok(change) => assert_ne!(change, Default::default()),
        Err(problems) => assert!(!problems.is_empty()),
    }
}

/// Events do not depend on how the stream was cut.
pub(crate) fn event_stream(bytes: &[u8]) {
    let (step, stream) = piece(bytes);
    let read = |step: usize| {
        let (mut unread, mut read) = (BytesMut::new(), Vec::<Event>::new());
        for piece in stream.chunks(step) {
            unread.extend_from_slice(piece);
            read.extend(std::iter::from_fn(|| events::take(&mut unread)));
        }
        read
    };
    assert_eq!(read(step), read(stream.len().max(1)));
}
