//! What happens inside the agent, as a stream that any number of readers may follow (`GET /api/v1/events`).

use serde::Serialize;
use serde_json::Value;
use tokio::sync::broadcast;

/// How many events a slow reader may fall behind before it loses the oldest.
const BACKLOG: usize = 1024;

/// The kind of an [`Event`]; its name is the SSE event name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An exchange was recorded.
    Exchange,
    /// A connection was recorded.
    Connection,
    /// A rule was made, changed or removed.
    Rule,
    /// A scope was added or removed.
    Scope,
    /// Diversion was switched on or off.
    Divert,
}

impl Kind {
    /// The SSE event name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Connection => "connection",
            Self::Rule => "rule",
            Self::Scope => "scope",
            Self::Divert => "divert",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// What kind of thing.
    pub kind: Kind,
    /// The JSON the API would return for it.
    pub data: Value,
}

/// The sending side. Cheap to clone; events without a reader cost nothing but a check.
#[derive(Clone, Debug)]
pub struct Events(broadcast::Sender<Event>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl Events {
    /// Tells every reader; nothing is serialized when there is none.
    pub fn send(&self, kind: Kind, data: &impl Serialize) {
        if self.0.receiver_count() == 0 {
            return;
        }
        if let Ok(data) = serde_json::to_value(data) {
            // Fails only when the last reader left in between.
            let _ = self.0.send(Event { kind, data });
        }
    }

    /// Follows the events from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}
