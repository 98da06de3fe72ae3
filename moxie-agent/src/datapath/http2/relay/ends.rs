//! How a connection ends: as one of its sides ended it, and as little else as can be.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::Reason;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::{Agreed, Alarm, MARK, Parting, Reach, Relay, Stop, Whose};
use crate::datapath::act::Error;
use crate::datapath::http1::wire::Wire;
use crate::datapath::http2::frame::{self, kind, put};
use crate::datapath::http2::side::{End, Side};
use crate::datapath::http2::stream::{Course, Stream};
use crate::datapath::relay;
use crate::journal::ExchangeError;
use crate::upstream::LinkError;

/// How long a side without a stream may stay open after the other has ended.
const LINGER: Duration = Duration::from_secs(30);
/// How long last words may take.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// A stream that no client can open: GOAWAY with it refuses nothing yet (RFC 9113 section 6.8).
const NO_STREAM_YET: u32 = 0x7fff_ffff;

impl<W: Wire> Relay<'_, W> {
    /// A client that says nothing more takes no rule's answer either.
    pub(super) fn client_ended(&mut self, end: End) -> Result<(), Stop> {
        let is_passed = |stream: &Stream| matches!(stream.course, Course::Passed);
        let gone: Vec<u32> = self.streams.iter().filter(|(_, each)| !is_passed(each)).map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(stream) = self.streams.remove(&id) {
                self.let_go(stream);
            }
        }
        let streams = &self.streams;
        self.kept.retain(|(id, _)| streams.contains_key(id));
        self.waiting = self.kept.iter().map(|(_, said)| said.size()).sum();
        match end {
            End::Broken(error) => {
                self.break_origin();
                Err(Stop::Over(Err(Error::Client(error))))
            }
            End::Announced | End::Unannounced if !matches!(self.reach, Reach::Greeted) => Err(Stop::Over(Ok(()))),
            End::Announced | End::Unannounced => {
                if matches!(end, End::Announced) {
                    self.origin.shut()
                } else {
                    self.origin.cut()
                }
                self.linger();
                Ok(())
            }
        }
    }

    /// What the destination has left undone is undone.
    pub(super) fn origin_ended(&mut self, end: End) -> Result<(), Stop> {
        if matches!(self.reach, Reach::Ready) {
            self.release_ready();
            self.introduce();
            return Ok(());
        }
        let mut undone = Vec::new();
        for (id, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.origin_open) {
            stream.log.broke(ExchangeError::UpstreamBroke);
            undone.push(*id);
        }
        self.streams.retain(|_, stream| !stream.origin_open);
        if let End::Broken(error) = end {
            self.break_client();
            return Err(Stop::Over(Err(Error::Upstream(error))));
        }
        self.ends_bare = matches!(end, End::Unannounced);
        if self.streams.is_empty() {
            self.end_client();
        } else {
            self.is_closing = true;
            let last = self.newest;
            frame::put_goaway(self.own_words(), last, Reason::NO_ERROR, &[]);
            for id in undone {
                frame::put_reset(self.own_words(), id, Reason::INTERNAL_ERROR);
            }
        }
        self.linger();
        Ok(())
    }

    /// Nobody was there: what was for the destination gets no answer, and the next request may find it.
    pub(super) fn unreached(&mut self, error: &LinkError) {
        tracing::debug!(error = %crate::chain::Chain(error), "no HTTP/2 connection to the destination");
        self.reach = Reach::Away;
        self.origin = Side::new(None, false);
        self.requests.is_verbatim = false;
        self.newest_forwarded = 0;
        let waiting: Vec<u32> =
            self.streams.iter().filter(|(_, stream)| stream.origin_open).map(|(id, _)| *id).collect();
        for id in waiting {
            if let Some(mut stream) = self.streams.remove(&id) {
                stream.log.broke(error.in_record());
            }
            self.forget_unseen(id);
            frame::put_reset(self.own_words(), id, Reason::INTERNAL_ERROR);
        }
        let more = self.requests.credit.new_receiver();
        frame::put_window(self.own_words(), 0, more);
    }

    /// The agent ends, or hands over: the client is told to open no more streams here.
    pub(super) fn take_leave(&mut self) {
        self.parting = Parting::Told;
        frame::put_goaway(self.own_words(), NO_STREAM_YET, Reason::NO_ERROR, &[]);
        put(self.own_words(), kind::PING, 0, 0, &MARK);
    }

    /// Closes what has been ended and has nothing under way any more.
    pub(super) fn part(&mut self) {
        let is_idle = self.streams.is_empty() && self.kept.is_empty();
        if is_idle && (self.is_closing || self.parting == Parting::Final) {
            self.end_client();
            self.origin.shut();
        }
    }

    pub(super) fn is_done(&self) -> bool {
        let is_through = self.client.is_through() && self.origin.is_through();
        let origin_is_over = self.origin.is_over() || !matches!(self.reach, Reach::Greeted);
        let nobody_listens = self.client.is_over() && self.client.is_deaf();
        is_through
            && (self.client.is_over() && origin_is_over || self.parting == Parting::Final && self.client.is_shut())
            || nobody_listens
    }

    pub(super) fn linger(&mut self) {
        self.set_alarm(Alarm::Linger, LINGER);
    }

    /// Something that cannot be read any further. If both sides still know of each other all that was said, they may judge it
    /// themselves; else both are told what HTTP/2 wants them to be told. `rest` is what was taken and not dealt with.
    pub(super) fn trouble(&mut self, whose: Whose, rest: Bytes, reason: Reason) -> Stop {
        tracing::debug!(?whose, ?reason, "HTTP/2 that cannot be relayed frame by frame");
        let input = match whose {
            Whose::Client => &mut self.client.input,
            Whose::Origin => &mut self.origin.input,
        };
        put_before(input, &rest);
        if self.is_transparent() {
            self.party.log.uninterpreted(doubt(reason));
            return Stop::Blind;
        }
        for (id, stream) in &mut self.streams {
            if stream.is_forwarded() && whose == Whose::Origin {
                stream.log.broke(ExchangeError::UpstreamBroke);
            }
            tracing::trace!(id, "stream ends with its connection");
        }
        let last = self.newest;
        frame::put_goaway(self.own_words(), last, reason, &[]);
        self.client.shut();
        if matches!(self.reach, Reach::Greeted) {
            frame::put_goaway(&mut self.origin.out, 0, reason, &[]);
            self.origin.shut();
        }
        Stop::Over(Err(Error::Http2(reason)))
    }

    /// Whether each side has said and heard only what the other has.
    fn is_transparent(&self) -> bool {
        let is_even = |direction: &super::Direction| direction.is_verbatim && direction.credit.is_even();
        let is_agreed = |owed: &std::collections::VecDeque<Agreed>| !owed.contains(&Agreed::WithAgent);
        matches!(self.reach, Reach::Greeted)
            && self.parting == Parting::No
            && self.kept.is_empty()
            && is_even(&self.requests)
            && is_even(&self.answers)
            && is_agreed(&self.client_owes)
            && is_agreed(&self.origin_owes)
    }

    /// From here on octets pass, whatever they mean.
    pub(super) async fn go_blind(mut self) -> Result<(), Error> {
        for (_, mut stream) in self.streams.drain() {
            stream.log.finished();
        }
        put_before(&mut self.client.input, &self.requests.take_open());
        put_before(&mut self.origin.input, &self.answers.take_open());
        let mut client = self.client.io.take();
        let mut origin = match (self.origin.io.take(), self.reach, self.way) {
            (Some(origin), ..) => Ok(origin),
            (None, Reach::Dialling(dial), _) => dial.await.1,
            (None, _, Some(mut way)) => way.open(&self.party.cx.upstream).await,
            (None, ..) => return Ok(()),
        }
        .map_err(|error| {
            client.iter_mut().for_each(Wire::reset);
            Error::Open(error)
        })?;
        let Some(client) = client.as_mut() else { return Ok(()) };
        let up = [self.origin.out.freeze(), self.client.input.freeze()].concat();
        let down = [self.client.out.freeze(), self.origin.input.freeze()].concat();
        let relayed = async {
            origin.write_all(&up).await.map_err(relay::Error::Upstream)?;
            client.write_all(&down).await.map_err(relay::Error::Downstream)?;
            relay::streams(client, &mut origin).await
        };
        relayed.await.map_err(|error| {
            client.reset();
            origin.reset();
            Error::Relay(error)
        })
    }

    /// Last words to both sides.
    pub(super) async fn flush(&mut self) {
        if !matches!(self.reach, Reach::Greeted) {
            self.origin = Side::new(None, false);
        }
        let (client, origin) = (&mut self.client, &mut self.origin);
        let through = poll_fn(|cx| {
            while client.poll_write(cx) | origin.poll_write(cx) {}
            if client.is_through() && origin.is_through() { Poll::Ready(()) } else { Poll::Pending }
        });
        // Whoever does not take them in time does without.
        let _ = timeout(LAST_WORDS, through).await;
    }

    /// The client's connection ends as the destination's did.
    fn end_client(&mut self) {
        if self.ends_bare { self.client.cut() } else { self.client.shut() }
    }

    fn break_client(&mut self) {
        self.client.io.iter_mut().for_each(Wire::reset);
    }

    fn break_origin(&mut self) {
        self.origin.io.iter_mut().for_each(Wire::reset);
    }
}

/// The code in the connection's record.
fn doubt(reason: Reason) -> &'static str {
    match reason {
        Reason::COMPRESSION_ERROR => "http2_compression",
        Reason::FRAME_SIZE_ERROR => "http2_frame_size",
        Reason::ENHANCE_YOUR_CALM => "http2_too_much",
        _ => "http2_protocol",
    }
}

fn put_before(input: &mut BytesMut, first: &[u8]) {
    if !first.is_empty() {
        let mut joined = BytesMut::from(first);
        joined.unsplit(std::mem::take(input));
        *input = joined;
    }
}
