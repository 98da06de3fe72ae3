//! The relay of one HTTP/2 connection: frames both ways, each stream under the number that its client gave it.
//!
//! Frames of streams that no rule answers go on as they came. As long as that is all, so do header blocks, and the relay only
//! reads along; once the destination has missed a block, or a client gets another than was sent, blocks of that direction are
//! written anew, field by field.

mod alarms;
mod answer;
mod client;
mod ends;
mod events;
mod origin;
mod reach;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::FuturesUnordered;
use h2::Reason;

use super::block::Direction;
use super::frame::{self, Frame, flag, kind, put};
use super::settings::Settings;
use super::side::{Input, Side};
use super::stream::{Said, Stream as Open};
use crate::datapath::act::Error;
use crate::datapath::http1::wire::Wire;
use crate::datapath::party::Party;
use crate::upstream::{Stream, Way};
use alarms::Alarm;
use events::Event;
use reach::Reach;

/// How many streams may be open. No client has so many, and each costs memory.
const MAX_STREAMS: usize = 10_000;
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
