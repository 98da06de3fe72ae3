//! What happens next on a connection, and who may speak: each side is read only as fast as the other takes it.

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;

use super::{Alarm, Reach, Relay};
use crate::datapath::http1::wire::Wire;
use crate::datapath::http2::side::{ENOUGH, Input, TOO_MUCH};
use crate::datapath::http2::stream::Said;
use crate::upstream::{LinkError, Stream, Way};

/// How many octets may wait for delays of rules, over all streams.
const MAX_HELD: usize = 1024 * 1024;

/// What has happened.
pub(super) enum Event {
    Client(Input),
    Origin(Input),
    Kept(u32, Said),
    Dialled(Box<(Way, Result<Stream, LinkError>)>),
    Due(Alarm, Duration),
    Draining,
    /// Octets have moved.
    Moved,
}

impl<W: Wire> Relay<'_, W> {
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(event) = self.next_event() {
            return Poll::Ready(event);
        }
        if let Reach::Dialling(dial) = &mut self.reach
            && let Poll::Ready(dialled) = dial.as_mut().poll(cx)
        {
            return Poll::Ready(Event::Dialled(Box::new(dialled)));
        }
        if let Poll::Ready(Some((alarm, waited))) = self.alarms.poll_next_unpin(cx) {
            return Poll::Ready(Event::Due(alarm, waited));
        }
        if self.draining.as_mut().is_some_and(|draining| draining.as_mut().poll(cx).is_ready()) {
            self.draining = None;
            return Poll::Ready(Event::Draining);
        }
        let mut moved = self.client.poll_write(cx);
        if matches!(self.reach, Reach::Greeted) {
            moved |= self.origin.poll_write(cx);
        }
        if self.client_may_speak() {
            moved |= self.client.poll_read(cx);
        }
        let is_enough = !self.kept.is_empty() && (self.waiting >= ENOUGH || self.origin.input.len() >= ENOUGH);
        if self.origin_may_speak() && !is_enough {
            moved |= self.origin.poll_read(cx);
        }
        moved |= self.poll_ready(cx);
        if moved { Poll::Ready(Event::Moved) } else { Poll::Pending }
    }

    /// A destination that was there in advance, and has been introduced, does not wait for ever for a client that asks nothing. What it
    /// says is for later; once it has ended, a request dials anew.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> bool {
        if !matches!(self.reach, Reach::Ready) || !self.introduced || self.origin.input.len() >= ENOUGH {
            return false;
        }
        let moved = self.origin.poll_read(cx);
        if self.origin.has_ended() {
            self.release_ready();
        }
        moved
    }

    fn next_event(&mut self) -> Option<Event> {
        if self.client_may_speak()
            && let Some(input) = self.client.next()
        {
            return Some(Event::Client(input));
        }
        if !self.origin_may_speak() {
            return None;
        }
        if self.kept.is_empty() {
            return self.origin.next().map(Event::Origin);
        }
        if self.waiting_fits()
            && let Some((stream, said)) = self.kept.pop_front()
        {
            self.waiting -= said.size();
            return Some(Event::Kept(stream, said));
        }
        // What needs no window goes on beside data that waits for one.
        if self.waiting < ENOUGH {
            self.origin.next_frame().map(|frame| Event::Origin(Input::Frame(frame)))
        } else {
            None
        }
    }

    /// Each side is read only as fast as the other takes it.
    fn client_may_speak(&self) -> bool {
        self.origin.out.len() < ENOUGH && self.client.out.len() < TOO_MUCH
    }

    fn origin_may_speak(&self) -> bool {
        let has_room = self.client.out.len() < ENOUGH && self.origin.out.len() < TOO_MUCH && self.held < MAX_HELD;
        let is_heard = match self.reach {
            Reach::Away | Reach::Dialling(_) => false,
            Reach::Ready => !self.introduced,
            Reach::Greeted => true,
        };
        has_room && is_heard
    }
}
