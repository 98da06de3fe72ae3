//! One stream and what becomes of it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::sync::oneshot;

use super::fields;
use super::frame::{Frame, kind};
use super::hpack::Field;
use crate::datapath::act::delay::Delay;
use crate::datapath::record::ExchangeLog;
use crate::rules::set::Rewrite;

/// A stream while either half of it is open.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) log: ExchangeLog,
    /// The client may send more.
    pub(super) request_open: bool,
    /// The client may be sent more.
    pub(super) answer_open: bool,
    /// The destination may send more.
    pub(super) origin_open: bool,
    /// The request is one for a head without a body.
    pub(super) is_head: bool,
    pub(super) course: Course,
    /// Dropped with the stream, so that a rule's delay does not outlive it.
    pub(super) stands: Option<oneshot::Sender<()>>,
}

/// Who answers a stream.
#[derive(Debug)]
pub(super) enum Course {
    /// The destination; frames pass.
    Passed,
    /// A rule.
    Mocked(Box<Mock>),
    /// The destination, with parts of a rule's.
    Edited(Box<Edit>),
}

/// A rule's answer.
#[derive(Debug)]
pub(super) struct Mock {
    pub(super) status: StatusCode,
    pub(super) headers: Arc<HeaderMap>,
    pub(super) body: Bytes,
    pub(super) delay: Option<Delay>,
    /// Whether the answer has begun, or waits for nothing but its delay.
    pub(super) is_due: bool,
    /// Octets that the body has yet to have, if its head has said how many.
    pub(super) owed: Option<u64>,
    /// Octets of the request that were taken and not given back to the stream's window.
    pub(super) taken: i64,
    pub(super) outgoing: Outgoing,
}

/// A real answer that a rule has a part in.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) rewrite: Arc<Rewrite>,
    /// The body in the real one's place, if any, as far as it is known before the head has come.
    pub(super) body: Option<Bytes>,
    pub(super) delay: Option<Delay>,
    pub(super) stage: Stage,
    /// Octets of the replaced body that were taken and not given back to the stream's window.
    pub(super) taken: i64,
    pub(super) outgoing: Outgoing,
}

/// How far an edited answer is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its head has not come.
    Awaited,
    /// It waits as long as its rule wants, what came of it with it.
    Held(Vec<Said>),
    /// Its head has gone to the client.
    Told,
}

/// A part of an answer.
#[derive(Debug)]
pub(super) enum Said {
    /// A head or trailers.
    Fields {
        /// What they say.
        fields: Vec<Field>,
        /// Whether nothing follows.
        ends: bool,
    },
    /// Anything else.
    Frame(Frame),
}

/// A body of a rule's on its way to the client.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// What is left of it; `None`: it has not begun, or is through.
    pub(super) body: Option<Bytes>,
    /// What the client takes on this stream.
    pub(super) window: i64,
    /// Its turn will come.
    pub(super) is_queued: bool,
}

impl Outgoing {
    /// Whether it could go on and has no turn yet.
    pub(super) fn may_go_on(&self) -> bool {
        self.body.is_some() && self.window > 0 && !self.is_queued
    }
}

impl Stream {
    /// The body of a rule's in this stream.
    pub(super) fn outgoing(&mut self) -> Option<&mut Outgoing> {
        match &mut self.course {
            Course::Mocked(mock) => Some(&mut mock.outgoing),
            Course::Edited(edit) if edit.body.is_some() => Some(&mut edit.outgoing),
            Course::Passed | Course::Edited(_) => None,
        }
    }

    /// Notes whether the client ends its half now. `true`: it does, and had not before.
    pub(super) fn request_ends(&mut self, ends: bool) -> bool {
        let ends_now = ends && self.request_open;
        self.request_open &= !ends;
        ends_now
    }

    /// Whether the destination has its part in it.
    pub(super) fn is_forwarded(&self) -> bool {
        !matches!(self.course, Course::Mocked(_))
    }

    /// Whether nobody will say more on it.
    pub(super) fn is_over(&self) -> bool {
        !self.request_open && !self.answer_open && !self.origin_open
    }

    /// The client has been sent the last of its answer.
    pub(super) fn answered(&mut self) {
        self.answer_open = false;
        self.log.finished();
    }
}

impl Mock {
    /// Takes so many octets of the body. False: it is not what its head has said, and no answer is on its way.
    pub(super) fn is_sound(&mut self, octets: u64, ends: bool) -> bool {
        let Some(owed) = self.owed else { return true };
        let left = owed.checked_sub(octets);
        self.owed = left.or(self.owed);
        self.is_due || left.is_some_and(|left| left == 0 || !ends)
    }
}

impl Edit {
    /// Puts the rule's parts into the answer's head.
    pub(super) fn replace(&self, fields: &mut Vec<Field>) {
        if let Some(status) = self.rewrite.status {
            fields::replace_status(fields, status);
        }
        if let Some(body) = &self.body {
            fields::replace_body(fields, body.len());
        }
        fields::replace(fields, &self.rewrite.response_headers);
    }
}

impl Said {
    /// The same in memory of its own, to be kept for a while: as it came it keeps all that was read along with it.
    pub(super) fn apart(self) -> Self {
        match self {
            Self::Fields { fields, ends } => Self::Fields { fields: fields.iter().map(Field::apart).collect(), ends },
            Self::Frame(frame) => Self::Frame(frame.apart()),
        }
    }

    /// What it takes of the windows.
    pub(super) fn flow(&self) -> i64 {
        match self {
            Self::Frame(frame) if frame.head.kind == kind::DATA => frame.flow(),
            Self::Frame(_) | Self::Fields { .. } => 0,
        }
    }

    /// Octets that it keeps in memory, about.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Fields { fields, .. } => fields.iter().map(|field| field.name.len() + field.value.len() + 64).sum(),
            Self::Frame(frame) => frame.raw.len() + std::mem::size_of::<(u32, Self)>(),
        }
    }
}
