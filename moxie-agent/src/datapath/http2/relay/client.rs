//! What a client says.

use bytes::Bytes;
use h2::Reason;
use http::StatusCode;

use super::{Agreed, MARK, MAX_STREAMS, MAX_UNANSWERED, Parting, Reach, Relay, Stop, Whose};
use crate::datapath::act::delay::Delay;
use crate::datapath::http1::wire::Wire;
use crate::datapath::http2::block::Block;
use crate::datapath::http2::fields::{self, Headers, Request};
use crate::datapath::http2::frame::{self, Frame, flag, kind, put};
use crate::datapath::http2::hpack::Fields;
use crate::datapath::http2::settings;
use crate::datapath::http2::sound::{self, is_sound};
use crate::datapath::http2::stream::{Course, Edit, Mock, Outgoing, Stage, Stream};
use crate::journal::Protocol;
use crate::rules::set::{self, Action, Hit, normal_authority};

/// From how many octets on a stream whose body is read here is let send more.
const WORTH_TELLING: i64 = 8 * 1024;

impl<W: Wire> Relay<'_, W> {
    pub(super) async fn client_frame(&mut self, frame: Frame) -> Result<(), Stop> {
        if !self.requests.admits(&frame) {
            return Err(self.trouble(Whose::Client, frame.raw, Reason::PROTOCOL_ERROR));
        }
        let taken = match frame.head.kind {
            kind::HEADERS | kind::CONTINUATION => match self.requests.take(&frame) {
                Ok(Some(block)) => return self.client_block(block).await,
                Ok(None) => {
                    self.watch_block(Whose::Client);
                    return Ok(());
                }
                Err(Reason::ENHANCE_YOUR_CALM) => {
                    return Err(self.trouble(Whose::Client, Bytes::new(), Reason::ENHANCE_YOUR_CALM));
                }
                Err(reason) => Err(reason),
            },
            kind::DATA => self.client_data(&frame),
            kind::RST_STREAM => self.client_resets(&frame),
            kind::SETTINGS => self.client_sets(&frame),
            kind::PING => self.client_pings(&frame),
            kind::WINDOW_UPDATE => self.client_grants(&frame),
            kind::PUSH_PROMISE => Err(Reason::PROTOCOL_ERROR),
            _ => {
                if self.concerns_origin(frame.head.stream) {
                    self.pass_up(&frame);
                }
                Ok(())
            }
        };
        taken.map_err(|reason| self.trouble(Whose::Client, frame.raw, reason))
    }

    /// Whether what is said of a stream is to be said to the destination.
    fn concerns_origin(&self, stream: u32) -> bool {
        match self.streams.get(&stream) {
            Some(open) => open.is_forwarded(),
            None => stream.is_multiple_of(2) || stream > self.newest || self.has_been_seen(stream),
        }
    }

    async fn client_block(&mut self, block: Block) -> Result<(), Stop> {
        let Ok(fields) = self.requests.read(&block) else {
            return Err(self.trouble(Whose::Client, block.raw(), Reason::COMPRESSION_ERROR));
        };
        let stream = block.stream();
        if self.streams.contains_key(&stream) {
            self.client_trailers(&block, &fields);
        } else if stream.is_multiple_of(2) || stream <= self.newest {
            // Of a stream that is over.
            if self.has_been_seen(stream) {
                self.put_up(&block, &fields);
            } else {
                self.requests.is_verbatim = false;
            }
        } else if self.streams.len() >= MAX_STREAMS {
            return Err(self.trouble(Whose::Client, block.raw(), Reason::ENHANCE_YOUR_CALM));
        } else {
            self.newest = stream;
            self.request(&block, fields).await;
        }
        Ok(())
    }

    async fn request(&mut self, block: &Block, fields: Fields) {
        if self.parting == Parting::Final {
            return self.refuse(block.stream(), Reason::REFUSED_STREAM);
        }
        self.party.has_asked();
        let request = Request::read(&fields.list);
        let authority = normal_authority(request.authority, self.party.scheme);
        let (path, query) = request.split();
        let target = if request.target.is_empty() { "/" } else { request.target };
        let mut log = self.party.open_log(Protocol::Http2, request.method, &authority, target);
        let facts = set::Request {
            method: request.method,
            scheme: self.party.scheme,
            authority: &authority,
            path,
            query,
            headers: &Headers(&fields.list),
            caller: &self.party.caller,
        };
        let hit = if is_sound(&request, &fields.list, block.ends_stream()) {
            self.party.decide(&facts, &mut log).await
        } else {
            None
        };
        let is_head = request.method == "HEAD";
        let stream = Stream {
            log,
            request_open: !block.ends_stream(),
            answer_open: true,
            origin_open: true,
            is_head,
            course: Course::Passed,
            stands: None,
        };
        match hit {
            Some(hit) => self.hit(block, fields, stream, hit),
            None => self.forward(block, &fields, stream),
        }
    }

    fn hit(&mut self, block: &Block, mut fields: Fields, mut stream: Stream, hit: Hit) {
        let delay = Delay::of(&hit);
        match hit.action {
            Action::Respond { status, .. } if status.is_informational() => {
                stream.log.finished();
                self.refuse(block.stream(), Reason::INTERNAL_ERROR);
            }
            Action::Respond { status, headers, body, .. } => {
                let has_no_body = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
                let body = if has_no_body { Bytes::new() } else { body };
                let outgoing = self.outgoing();
                let owed = sound::length(&fields.list);
                let mock = Mock { status, headers, body, delay, is_due: false, owed, taken: 0, outgoing };
                stream.course = Course::Mocked(Box::new(mock));
                stream.origin_open = false;
                let is_due = block.ends_stream() || fields::is_asked_first(&fields.list);
                self.mock(block.stream(), stream);
                if is_due {
                    self.mock_due(block.stream());
                }
            }
            Action::Rewrite(rewrite) if rewrite.status.is_some_and(|status| status.is_informational()) => {
                stream.log.finished();
                self.refuse(block.stream(), Reason::INTERNAL_ERROR);
            }
            Action::Rewrite(rewrite) => {
                if !rewrite.request_headers.is_empty() {
                    fields::replace(&mut fields.list, &rewrite.request_headers);
                    self.requests.is_verbatim = false;
                }
                if !rewrite.leaves_answer() || delay.is_some() {
                    self.answers.is_verbatim = false;
                    let outgoing = self.outgoing();
                    let body = rewrite.body.clone();
                    let edit = Edit { rewrite, body, delay, stage: Stage::Awaited, taken: 0, outgoing };
                    stream.course = Course::Edited(Box::new(edit));
                }
                self.forward(block, &fields, stream);
            }
        }
    }

    fn outgoing(&self) -> Outgoing {
        Outgoing { body: None, window: self.settings.client_window, is_queued: false }
    }

    fn forward(&mut self, block: &Block, fields: &Fields, stream: Stream) {
        if fields.is_oversize && !self.requests.is_verbatim {
            return self.refuse(block.stream(), Reason::ENHANCE_YOUR_CALM);
        }
        self.reach();
        self.newest_forwarded = block.stream();
        self.streams.insert(block.stream(), stream);
        self.put_up(block, fields);
    }

    fn mock(&mut self, id: u32, stream: Stream) {
        self.release_ready();
        self.requests.is_verbatim = false;
        let is_whole = !stream.request_open;
        self.streams.insert(id, stream);
        if !is_whole {
            // A destination may let streams begin with no window, to open it as it likes.
            let more = super::super::credit::INITIAL - self.settings.origin_window;
            frame::put_window(self.own_words(), id, more);
        }
    }

    /// Ends a stream that nobody else knows of.
    pub(super) fn refuse(&mut self, stream: u32, reason: Reason) {
        self.requests.is_verbatim = false;
        self.forget_unseen(stream);
        frame::put_reset(self.own_words(), stream, reason);
    }

    fn client_trailers(&mut self, block: &Block, fields: &Fields) {
        let id = block.stream();
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let ends_now = stream.request_ends(block.ends_stream());
        if let Course::Mocked(mock) = &mut stream.course {
            let is_sound = mock.is_sound(0, true) && ends_now && sound::are_trailers(&fields.list);
            self.requests.is_verbatim = false;
            self.mock_is_asked(id, ends_now, is_sound);
        } else {
            self.put_up(block, fields);
            self.settle(id);
        }
    }

    /// More of a request that a rule answers has come. One that is not what its head has said is refused, as by a server.
    fn mock_is_asked(&mut self, id: u32, ends: bool, is_sound: bool) {
        if !is_sound {
            self.close(id);
            frame::put_reset(self.own_words(), id, Reason::PROTOCOL_ERROR);
        } else if ends {
            self.mock_due(id);
        }
    }

    fn put_up(&mut self, block: &Block, fields: &Fields) {
        if fields.is_oversize && !self.requests.is_verbatim {
            // Trailers, or a head of a stream that is over: nothing that could be said in their place.
            frame::put_reset(&mut self.origin.out, block.stream(), Reason::ENHANCE_YOUR_CALM);
            frame::put_reset(self.own_words(), block.stream(), Reason::ENHANCE_YOUR_CALM);
            if let Some(stream) = self.close(block.stream()) {
                self.let_go(stream);
            }
            return;
        }
        self.requests.put(block, &fields.list, &mut self.origin.out);
    }

    fn client_data(&mut self, frame: &Frame) -> Result<(), Reason> {
        let id = frame.head.stream;
        let data = frame.unpadded().filter(|_| id != 0).ok_or(Reason::PROTOCOL_ERROR)?;
        let octets = frame.flow();
        self.requests.credit.sent(octets);
        let ends = frame.has(flag::END_STREAM);
        let concerns_origin = self.concerns_origin(id);
        match self.streams.get_mut(&id) {
            Some(stream) => {
                stream.log.received(data.len() as u64);
                let ends_now = stream.request_ends(ends);
                if let Course::Mocked(mock) = &mut stream.course {
                    mock.taken += octets;
                    let more = if mock.taken >= WORTH_TELLING && !ends { std::mem::take(&mut mock.taken) } else { 0 };
                    let is_sound = mock.is_sound(data.len() as u64, ends);
                    frame::put_window(self.own_words(), id, more);
                    self.drop_of_client(octets);
                    self.mock_is_asked(id, ends_now, is_sound);
                } else {
                    self.requests.credit.passed(octets);
                    self.pass_up(frame);
                    self.settle(id);
                }
            }
            None if concerns_origin => {
                self.requests.credit.passed(octets);
                self.pass_up(frame);
            }
            None => self.drop_of_client(octets),
        }
        Ok(())
    }

    fn client_resets(&mut self, frame: &Frame) -> Result<(), Reason> {
        frame.word().ok_or(Reason::FRAME_SIZE_ERROR)?;
        let id = frame.head.stream;
        let concerns_origin = self.concerns_origin(id);
        if let Some(stream) = self.close(id) {
            self.let_go(stream);
        }
        if concerns_origin {
            self.pass_up(frame);
        }
        Ok(())
    }

    fn client_sets(&mut self, frame: &Frame) -> Result<(), Reason> {
        let payload = frame.payload();
        if frame.has(flag::ACK) {
            self.client_agrees(frame);
            return Ok(());
        }
        if !payload.len().is_multiple_of(settings::EACH) {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let before = self.settings.client_window;
        self.settings.client_sets(&payload);
        self.answers.offer_table(self.settings.client_table);
        let more = self.settings.client_window - before;
        if more != 0 {
            let outgoing = self.streams.values_mut().filter_map(Stream::outgoing);
            outgoing.for_each(|outgoing| outgoing.window = outgoing.window.saturating_add(more));
        }
        if more > 0 {
            let open: Vec<u32> = self.streams.keys().copied().collect();
            open.into_iter().for_each(|id| self.resume(id));
        }
        match self.reach {
            Reach::Greeted => {
                if self.origin_owes.len() >= MAX_UNANSWERED {
                    return Err(Reason::ENHANCE_YOUR_CALM);
                }
                self.origin_owes.push_back(Agreed::WithOtherSide);
                put(&mut self.origin.out, kind::SETTINGS, 0, 0, &settings::passed_on(&payload));
            }
            _ if self.is_on_its_own => put(self.own_words(), kind::SETTINGS, flag::ACK, 0, &[]),
            _ if self.agreed >= MAX_UNANSWERED => return Err(Reason::ENHANCE_YOUR_CALM),
            _ => self.agreed += 1,
        }
        Ok(())
    }

    fn client_agrees(&mut self, frame: &Frame) {
        match (self.client_owes.pop_front(), &self.reach) {
            (Some(Agreed::WithAgent), _) | (_, Reach::Away) => {}
            (Some(Agreed::WithOtherSide) | None, _) => self.origin.out.extend_from_slice(&frame.raw),
        }
    }

    fn client_pings(&mut self, frame: &Frame) -> Result<(), Reason> {
        let payload = frame.payload();
        if payload.len() != MARK.len() {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let is_answer = frame.has(flag::ACK);
        if is_answer && payload == MARK[..] && self.parting == Parting::Told {
            self.parting = Parting::Final;
            let last = self.newest;
            frame::put_goaway(self.own_words(), last, Reason::NO_ERROR, &[]);
        } else if matches!(self.reach, Reach::Greeted) {
            self.pass_up(frame);
        } else if !is_answer {
            put(self.own_words(), kind::PING, flag::ACK, 0, &payload);
        }
        Ok(())
    }

    fn client_grants(&mut self, frame: &Frame) -> Result<(), Reason> {
        let more = i64::from(frame.word().ok_or(Reason::FRAME_SIZE_ERROR)? & 0x7fff_ffff);
        let id = frame.head.stream;
        if id == 0 {
            let more = self.answers.credit.grant(more);
            if matches!(self.reach, Reach::Greeted) {
                frame::put_window(&mut self.origin.out, 0, more);
            }
        } else if let Some(outgoing) = self.streams.get_mut(&id).and_then(Stream::outgoing) {
            outgoing.window = outgoing.window.saturating_add(more);
            self.resume(id);
        } else if self.concerns_origin(id) {
            self.pass_up(frame);
        }
        Ok(())
    }

    /// What was kept of a stream goes nowhere.
    pub(super) fn let_go(&mut self, stream: Stream) {
        if let Course::Edited(edit) = stream.course
            && let Stage::Held(held) = edit.stage
        {
            self.held -= held.iter().map(super::Said::size).sum::<usize>();
            self.drop_of_origin(held.iter().map(super::Said::flow).sum());
        }
    }
}
