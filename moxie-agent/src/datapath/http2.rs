//! Stage 5, HTTP/2: the connection is relayed frame by frame, and each stream goes its own way.
//!
//! A stream that no rule answers keeps its number, its frames, its flow control and its end; the destination's GOAWAY, PING and
//! SETTINGS are the client's. No HTTP library speaks for either side, since each would decide for itself what to say of limits,
//! resets and windows. What rules change is written here: answers, edited heads, delays.
//!
//! Never: a status that nobody sent. What cannot be relayed ends with the code that HTTP/2 has for it, or passes unread.

mod block;
mod credit;
mod fields;
mod frame;
pub mod hpack;
mod relay;
mod settings;
mod side;
mod sound;
mod stream;

use super::act::Error;
use super::http1::wire::Wire;
use super::party::Party;
use crate::upstream::{Stream, Way};
use relay::Relay;

/// Serves the exchanges of a connection until it ends. `ready` is a connection to the destination that is there already.
///
/// # Errors
/// The client or the destination broke off, or one of them said what cannot be relayed.
pub(in crate::datapath) async fn serve(
    client: impl Wire,
    party: &Party,
    way: Way,
    ready: Option<Stream>,
) -> Result<(), Error> {
    Relay::new(client, party, way, ready).run().await
}
