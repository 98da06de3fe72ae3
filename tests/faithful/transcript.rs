//! What both ends saw of a conversation, and how two of these differ.

use bytes::Bytes;

use crate::party::End;
use crate::script::Side;

/// One thing that a party saw, at a step of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub step: usize,
    pub what: What,
}

/// What was seen.
#[derive(Clone, PartialEq, Eq)]
pub enum What {
    /// These bytes; where they were cut on the way does not matter.
    Heard(Bytes),
    /// The other side ended so.
    Ended(End),
    /// Nothing came, though it had to.
    Silence,
    /// connect() failed so.
    Refused(String),
    /// How many connections came to the origin.
    Connections(usize),
}

/// What each end saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    pub client: Vec<Event>,
    pub origin: Vec<Event>,
    /// The protocol that each end takes to be agreed on.
    pub agreed: [Option<String>; 2],
    /// The step that was given up for want of anything to hear.
    pub given_up: Option<usize>,
}

impl Transcript {
    /// Notes what a party saw.
    pub fn add(&mut self, side: Side, event: Event) {
        match side {
            Side::Client => self.client.push(event),
            Side::Origin => self.origin.push(event),
        }
    }

    /// The first difference at each end, from what should have been seen.
    pub fn differences(&self, ideal: &Self) -> Vec<String> {
        let last = self.given_up.unwrap_or(usize::MAX);
        let ends = [("client", &self.client, &ideal.client), ("origin", &self.origin, &ideal.origin)];
        let mut differences: Vec<String> =
            ends.into_iter().filter_map(|(side, seen, ideal)| first_difference(side, seen, ideal, last)).collect();
        if self.agreed != ideal.agreed {
            differences.push(format!("protocol: {:?} instead of {:?}", self.agreed, ideal.agreed));
        }
        differences
    }
}

fn first_difference(side: &str, seen: &[Event], ideal: &[Event], last: usize) -> Option<String> {
    let mut ideal = ideal.iter().filter(|event| event.step <= last);
    let mut seen = seen.iter();
    loop {
        match (seen.next(), ideal.next()) {
            (None, None) => return None,
            (Some(seen), Some(ideal)) if seen == ideal => {}
            (Some(seen), Some(ideal)) => return Some(format!("{side}: {}", seen.what.against(&ideal.what))),
            (Some(seen), None) => return Some(format!("{side}: {:?} beyond the end", seen.what)),
            (None, Some(ideal)) => return Some(format!("{side}: nothing instead of {:?}", ideal.what)),
        }
    }
}

impl What {
    /// The difference, in words.
    fn against(&self, ideal: &Self) -> String {
        let (Self::Heard(seen), Self::Heard(expected)) = (self, ideal) else {
            return format!("{self:?} instead of {ideal:?}");
        };
        let same = seen.iter().zip(expected).take_while(|(seen, expected)| seen == expected).count();
        format!("at byte {same} {} instead of {}", excerpt(seen, same), excerpt(expected, same))
    }
}

/// What is around a byte.
fn excerpt(bytes: &[u8], at: usize) -> String {
    let around = &bytes[at.saturating_sub(12)..bytes.len().min(at + 20)];
    format!("\"{}\"", around.escape_ascii())
}

impl std::fmt::Debug for What {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Heard(bytes) if bytes.len() > 40 => {
                write!(formatter, "{} bytes \"{}…\"", bytes.len(), bytes[..40].escape_ascii())
            }
            Self::Heard(bytes) => write!(formatter, "\"{}\"", bytes.escape_ascii()),
            Self::Ended(end) => write!(formatter, "{end:?}"),
            Self::Silence => write!(formatter, "silence"),
            Self::Refused(error) => write!(formatter, "{error}"),
            Self::Connections(count) => write!(formatter, "{count} connections"),
        }
    }
}
