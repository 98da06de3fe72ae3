//! How far the destination is, and what it is told first.

use std::sync::Arc;

use bytes::BytesMut;

use super::{Agreed, Boxed, Relay};
use crate::datapath::http1::wire::Wire;
use crate::datapath::http2::frame::{self, kind, put};
use crate::datapath::http2::side::Side;
use crate::upstream::{LinkError, Stream, Way};

/// How far the destination is.
pub(super) enum Reach {
    /// It has not been asked for.
    Away,
    /// It is there, and nothing has been said to it.
    Ready,
    /// It is being dialled.
    Dialling(Boxed<(Way, Result<Stream, LinkError>)>),
    /// It has been spoken to.
    Greeted,
}

impl<W: Wire> Relay<'_, W> {
    /// The destination is needed.
    pub(super) fn reach(&mut self) {
        match self.reach {
            Reach::Away => {
                let Some(mut way) = self.way.take() else { return };
                let cx = Arc::clone(&self.party.cx);
                self.reach = Reach::Dialling(Box::pin(async move {
                    let opened = way.open(&cx.upstream).await;
                    (way, opened)
                }));
            }
            Reach::Ready => self.greet(),
            Reach::Dialling(_) | Reach::Greeted => {}
        }
    }

    /// Says to the destination what the client has said to the agent.
    fn greet(&mut self) {
        let mut greeting = BytesMut::from(frame::PREFACE);
        put(&mut greeting, kind::SETTINGS, 0, 0, &self.settings.of_client());
        // Each of the client's SETTINGS gets an answer of its own; the first says what all of them come to.
        match std::mem::take(&mut self.agreed) {
            0 => self.origin_owes.push_front(Agreed::WithAgent),
            due => {
                (1..due).for_each(|_| put(&mut greeting, kind::SETTINGS, 0, 0, &[]));
                (0..due).for_each(|_| self.origin_owes.push_front(Agreed::WithOtherSide));
            }
        }
        frame::put_window(&mut greeting, 0, self.answers.credit.new_sender());
        greeting.unsplit(std::mem::take(&mut self.origin.out));
        self.origin.out = greeting;
        self.reach = Reach::Greeted;
    }

    /// A rule has answered, and an origin may serve one connection at a time: one that was made in advance is let go.
    pub(super) fn release_ready(&mut self) {
        self.way.iter_mut().for_each(Way::release);
        if matches!(self.reach, Reach::Ready) {
            self.reach = Reach::Away;
            self.origin = Side::new(None, false);
            self.client_owes.iter_mut().for_each(|said| *said = Agreed::WithAgent);
        }
    }

    pub(super) fn dialled(&mut self, dialled: Result<Stream, LinkError>) {
        match dialled {
            Ok(wire) if wire.takes_http2() => {
                self.origin.io = Some(wire);
                self.greet();
            }
            Ok(_) => self.unreached(&LinkError::NotHttp2),
            Err(error) => self.unreached(&error),
        }
    }
}
