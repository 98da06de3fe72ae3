//! The relay of one HTTP/2 connection: frames both ways, each stream under the number that its client gave it.
//!
//! Frames of streams that no rule answers go on as they came. As long as that is all, so do header blocks, and the relay only
//! reads along; once the destination has missed a block, or a client gets another than was sent, blocks of that direction are
//! written anew, field by field.

mod answer;
mod client;
mod ends;
mod origin;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::Reason;

use super::block::Direction;
use super::frame::{self, Frame, flag, kind, put};
use super::settings::Settings;
use super::side::{ENOUGH, Input, Side, TOO_MUCH};
use super::stream::{Said, Stream as Open};
use crate::datapath::act::Error;
use crate::datapath::act::delay;
use crate::datapath::exchange::party::Party;
use crate::datapath::http1::wire::Wire;
use crate::upstream::{LinkError, Stream, Way};

/// How long a client is kept without a word where the destination may have one for it.
const INTRODUCTION: Duration = Duration::from_millis(100);
/// How long a client's first request is waited for, before the client is taken for one that waits for SETTINGS.
const FIRST_REQUEST: Duration = Duration::from_millis(10);
/// How many streams may be open. No client has so many, and each costs memory.
const MAX_STREAMS: usize = 10_000;
/// How many octets may wait for delays of rules, over all streams.
const MAX_HELD: usize = 1024 * 1024;
/// How many finished streams are remembered that the destination has not seen.
const MAX_UNSEEN: usize = 1024;
/// How many SETTINGS a side may leave without an answer.
const MAX_UNANSWERED: usize = 1000;
/// What the agent's own PING says, to know its answer.
const MARK: [u8; 8] = *b"mx drain";

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Whose SETTINGS an answer of a side's will be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agreed {
    /// The agent's own.
    WithAgent,
    /// The other side's, which is to have the answer.
    WithOtherSide,
}

/// How far the destination is.
enum Reach {
    /// It has not been asked for.
    Away,
    /// It is there, and nothing has been said to it.
    Ready,
    /// It is being dialled.
    Dialling(Boxed<(Way, Result<Stream, LinkError>)>),
    /// It has been spoken to.
    Greeted,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alarm {
    /// A rule's delay on a stream.
    Delay(u32),
    /// A client that has to hear something.
    Introduction,
    /// A side that does not end after the other.
    Linger,
    /// A header block that is not whole.
    Block(Whose),
}

/// What has happened.
enum Event {
    Client(Input),
    Origin(Input),
    Kept(u32, Said),
    Dialled(Box<(Way, Result<Stream, LinkError>)>),
    Due(Alarm, Duration),
    Draining,
    /// Octets have moved.
    Moved,
}

/// How far the orderly end of the agent is (RFC 9113 section 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parting {
    No,
    /// The client has been told to open no more streams; what was on its way is served.
    Told,
    /// It knows.
    Final,
}

/// Whose words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Client,
    Origin,
}

/// Why the relay stops relaying frames.
pub(super) enum Stop {
    /// What comes cannot be told apart any more: from here on, octets pass.
    Blind,
    /// The connection has ended.
    Over(Result<(), Error>),
}

/// One connection.
pub(super) struct Relay<'p, W> {
    party: &'p Party,
    /// `None`: it is being gone.
    way: Option<Way>,
    client: Side<W>,
    origin: Side<Stream>,
    reach: Reach,
    streams: HashMap<u32, Open>,
    /// What the client says, and its flow control.
    requests: Direction,
    /// What the destination says, and its.
    answers: Direction,
    settings: Settings,
    /// SETTINGS sent to the client and not answered yet, each by whom.
    client_owes: VecDeque<Agreed>,
    /// SETTINGS sent to the destination, likewise.
    origin_owes: VecDeque<Agreed>,
    /// Whether the client has been sent SETTINGS.
    introduced: bool,
    /// How many SETTINGS of the client's are to be answered, by the destination if it is spoken to before the agent has to be.
    agreed: usize,
    /// Whether the agent has spoken for itself.
    is_on_its_own: bool,
    /// Largest stream that the client has opened.
    newest: u32,
    /// Largest stream that the destination has seen.
    newest_forwarded: u32,
    /// Late streams that it has not seen.
    unseen: VecDeque<u32>,
    /// Streams with a rule's body under way, in turn.
    sending: VecDeque<u32>,
    /// What waits for the client's window, and what was held for a delay that is over: of each stream, to go before anything newer.
    kept: VecDeque<(u32, Said)>,
    /// Octets of it.
    waiting: usize,
    /// Octets held for delays.
    held: usize,
    alarms: FuturesUnordered<Boxed<(Alarm, Duration)>>,
    draining: Option<Boxed<()>>,
    parting: Parting,
    /// The destination has gone, and rules' answers are still under way.
    is_closing: bool,
    /// The client's socket is to end without its TLS saying so, as the destination's did.
    ends_bare: bool,
}

impl<'p, W: Wire> Relay<'p, W> {
    /// A relay of `client`, which has said nothing yet.
    pub(super) fn new(client: W, party: &'p Party, way: Way, ready: Option<Stream>) -> Self {
        let ready = ready.filter(Stream::takes_http2);
        let drain = party.cx.drain.clone();
        Self {
            party,
            way: Some(way),
            client: Side::new(Some(client), true),
            // A destination that stands ready is listened to: its SETTINGS are the client's first.
            reach: if ready.is_some() { Reach::Ready } else { Reach::Away },
            origin: Side::new(ready, false),
            streams: HashMap::new(),
            requests: Direction::default(),
            answers: Direction::default(),
            settings: Settings::default(),
            client_owes: VecDeque::new(),
            origin_owes: VecDeque::new(),
            introduced: false,
            agreed: 0,
            is_on_its_own: false,
            newest: 0,
            newest_forwarded: 0,
            unseen: VecDeque::new(),
            sending: VecDeque::new(),
            kept: VecDeque::new(),
            waiting: 0,
            held: 0,
            alarms: FuturesUnordered::new(),
            draining: Some(Box::pin(async move { drain.started().await })),
            parting: Parting::No,
            is_closing: false,
            ends_bare: false,
        }
    }

    /// Relays until the connection has ended.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        loop {
            self.send_bodies();
            self.part();
            if self.is_done() {
                return Ok(());
            }
            let event = poll_fn(|cx| self.poll_event(cx)).await;
            // What has been read may be many frames, and some of them are much work.
            tokio::task::consume_budget().await;
            match self.handle(event).await {
                Ok(()) => {}
                Err(Stop::Blind) => return self.go_blind().await,
                Err(Stop::Over(result)) => {
                    self.flush().await;
                    return result;
                }
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
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

    async fn handle(&mut self, event: Event) -> Result<(), Stop> {
        match event {
            Event::Client(Input::Preface) => self.greeted_by_client(),
            Event::Client(Input::Frame(frame)) => return self.client_frame(frame).await,
            Event::Client(Input::Strange) if self.client.preface_due => {
                self.party.log.uninterpreted("http2_preface");
                return Err(Stop::Blind);
            }
            Event::Client(Input::Strange) => {
                return Err(self.trouble(Whose::Client, Bytes::new(), Reason::FRAME_SIZE_ERROR));
            }
            Event::Client(Input::Ended(end)) => return self.client_ended(end),
            Event::Origin(Input::Frame(frame)) => return self.origin_frame(frame),
            Event::Origin(Input::Ended(end)) => return self.origin_ended(end),
            Event::Origin(Input::Preface | Input::Strange) => {
                return Err(self.trouble(Whose::Origin, Bytes::new(), Reason::FRAME_SIZE_ERROR));
            }
            Event::Kept(stream, said) => self.origin_said(stream, said),
            Event::Dialled(dialled) => {
                let (way, dialled) = *dialled;
                self.way = Some(way);
                self.dialled(dialled);
            }
            Event::Due(alarm, waited) => return self.due(alarm, waited),
            Event::Draining => self.take_leave(),
            Event::Moved => {}
        }
        Ok(())
    }

    fn greeted_by_client(&mut self) {
        let within = if matches!(self.reach, Reach::Ready) { INTRODUCTION } else { FIRST_REQUEST };
        self.set_alarm(Alarm::Introduction, within);
    }

    fn due(&mut self, alarm: Alarm, waited: Duration) -> Result<(), Stop> {
        match alarm {
            Alarm::Delay(stream) => self.delay_over(stream, waited),
            Alarm::Introduction if matches!(self.reach, Reach::Away | Reach::Ready) => self.introduce(),
            // The client has asked, so it waits for no SETTINGS.
            Alarm::Introduction => {}
            Alarm::Linger if self.streams.is_empty() => return Err(Stop::Over(Ok(()))),
            Alarm::Linger => self.linger(),
            Alarm::Block(whose) => return self.block_late(whose),
        }
        Ok(())
    }

    /// A header block has begun that is not whole yet. It may take no longer than the beginning of a connection.
    fn watch_block(&mut self, whose: Whose) {
        let direction = match whose {
            Whose::Client => &mut self.requests,
            Whose::Origin => &mut self.answers,
        };
        if !std::mem::replace(&mut direction.is_watched, true) {
            self.set_alarm(Alarm::Block(whose), self.party.cx.sniff.timeout);
        }
    }

    fn block_late(&mut self, whose: Whose) -> Result<(), Stop> {
        let direction = match whose {
            Whose::Client => &mut self.requests,
            Whose::Origin => &mut self.answers,
        };
        direction.is_watched = false;
        let Some(since) = direction.open_since() else { return Ok(()) };
        let left = self.party.cx.sniff.timeout.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Err(self.trouble(whose, Bytes::new(), Reason::ENHANCE_YOUR_CALM));
        }
        // The alarm was an earlier block's.
        direction.is_watched = true;
        self.set_alarm(Alarm::Block(whose), left);
        Ok(())
    }

    fn set_alarm(&mut self, alarm: Alarm, after: Duration) {
        self.alarms.push(Box::pin(async move { (alarm, delay::wait(after).await) }));
    }

    /// The agent speaks for itself. Where the destination has not spoken it begins with SETTINGS that say what holds without any.
    fn introduce(&mut self) {
        self.is_on_its_own = true;
        if !self.introduced {
            self.introduced = true;
            put(&mut self.client.out, kind::SETTINGS, 0, 0, &[]);
            self.client_owes.push_back(Agreed::WithAgent);
        }
        for _ in 0..std::mem::take(&mut self.agreed) {
            put(&mut self.client.out, kind::SETTINGS, flag::ACK, 0, &[]);
        }
    }

    /// Where words of the agent's own to the client go.
    fn own_words(&mut self) -> &mut BytesMut {
        self.introduce();
        &mut self.client.out
    }

    /// The destination is needed.
    fn reach(&mut self) {
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
    fn release_ready(&mut self) {
        self.way.iter_mut().for_each(Way::release);
        if matches!(self.reach, Reach::Ready) {
            self.reach = Reach::Away;
            self.origin = Side::new(None, false);
            self.client_owes.iter_mut().for_each(|said| *said = Agreed::WithAgent);
        }
    }

    fn dialled(&mut self, dialled: Result<Stream, LinkError>) {
        match dialled {
            Ok(wire) if wire.takes_http2() => {
                self.origin.io = Some(wire);
                self.greet();
            }
            Ok(_) => self.unreached(&LinkError::NotHttp2),
            Err(error) => self.unreached(&error),
        }
    }

    /// Passes a frame to the destination, if that is being spoken to.
    fn pass_up(&mut self, frame: &Frame) {
        if matches!(self.reach, Reach::Dialling(_) | Reach::Greeted) {
            self.origin.out.extend_from_slice(&frame.raw);
        }
    }

    fn pass_down(&mut self, frame: &Frame) {
        self.origin_words().extend_from_slice(&frame.raw);
    }

    /// Where words of the destination's to the client go.
    fn origin_words(&mut self) -> &mut BytesMut {
        self.introduced = true;
        &mut self.client.out
    }

    /// Whether the destination knows a stream of the client's that is not open here any more.
    fn has_been_seen(&self, stream: u32) -> bool {
        stream <= self.newest_forwarded && !self.unseen.contains(&stream)
    }

    /// A stream that the destination does not know is over.
    fn forget_unseen(&mut self, stream: u32) {
        if self.unseen.len() >= MAX_UNSEEN {
            self.unseen.pop_front();
        }
        self.unseen.push_back(stream);
    }

    /// What the client has sent went nowhere, so it may send as much again.
    fn drop_of_client(&mut self, octets: i64) {
        let more = self.requests.credit.dropped(octets);
        if more > 0 {
            frame::put_window(self.own_words(), 0, more);
        }
    }

    fn drop_of_origin(&mut self, octets: i64) {
        let more = self.answers.credit.dropped(octets);
        frame::put_window(&mut self.origin.out, 0, more);
    }

    /// Notes that the client has sent its last on a stream, or that it has been sent its last.
    fn settle(&mut self, stream: u32) {
        if self.streams.get(&stream).is_some_and(Open::is_over) {
            self.close(stream);
        }
    }

    /// Forgets a stream; its record is written.
    fn close(&mut self, stream: u32) -> Option<Open> {
        let closed = self.streams.remove(&stream)?;
        // Their turns may be long in coming, where the client grants nothing.
        if self.sending.len() > 2 * self.streams.len() + MAX_UNSEEN {
            let open = &self.streams;
            self.sending.retain(|queued| open.contains_key(queued));
        }
        if !closed.is_forwarded() {
            self.forget_unseen(stream);
        }
        Some(closed)
    }
}
