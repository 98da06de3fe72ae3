//! What the destination says.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::Reason;

use super::{Agreed, MAX_UNANSWERED, Relay, Said, Stop, Whose};
use crate::datapath::act::rewrite::new_body;
use crate::datapath::http1::wire::Wire;
use crate::datapath::http2::block::Block;
use crate::datapath::http2::fields;
use crate::datapath::http2::frame::{self, Frame, Head, flag, kind, put};
use crate::datapath::http2::hpack::Field;
use crate::datapath::http2::settings;
use crate::datapath::http2::stream::{Course, Stage, Stream};
use crate::journal::ExchangeError;

/// From how many octets on a stream whose body is read here is let send more.
const WORTH_TELLING: i64 = 8 * 1024;

impl<W: Wire> Relay<'_, W> {
    pub(super) fn origin_frame(&mut self, frame: Frame) -> Result<(), Stop> {
        if !self.answers.admits(&frame) {
            return Err(self.trouble(Whose::Origin, frame.raw, Reason::PROTOCOL_ERROR));
        }
        let taken = match frame.head.kind {
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => match self.answers.take(&frame) {
                Ok(Some(block)) => return self.origin_block(&block),
                Ok(None) => {
                    self.watch_block(Whose::Origin);
                    return Ok(());
                }
                Err(Reason::ENHANCE_YOUR_CALM) => {
                    return Err(self.trouble(Whose::Origin, Bytes::new(), Reason::ENHANCE_YOUR_CALM));
                }
                Err(reason) => Err(reason),
            },
            kind::DATA => self.origin_data(&frame),
            kind::RST_STREAM => {
                let (id, said) = (frame.head.stream, Said::Frame(frame));
                if self.is_waiting(id) {
                    self.keep(id, said)
                } else {
                    self.origin_said(id, said)
                }
                return Ok(());
            }
            kind::SETTINGS => self.origin_sets(&frame),
            kind::WINDOW_UPDATE => self.origin_grants(&frame),
            kind::GOAWAY => self.origin_leaves(&frame),
            _ => {
                self.pass_down(&frame);
                Ok(())
            }
        };
        taken.map_err(|reason| self.trouble(Whose::Origin, frame.raw, reason))
    }

    fn origin_block(&mut self, block: &Block) -> Result<(), Stop> {
        let Ok(fields) = self.answers.read(block) else {
            return Err(self.trouble(Whose::Origin, block.raw(), Reason::COMPRESSION_ERROR));
        };
        let (id, ends) = (block.stream(), block.ends_stream());
        let has_to_wait = block.first.kind == kind::HEADERS && self.is_waiting(id);
        // A table is read in the order of its blocks, and this one will not go in that order.
        self.answers.is_verbatim &= !has_to_wait;
        if fields.is_oversize && !self.answers.is_verbatim {
            return Err(self.trouble(Whose::Origin, block.raw(), Reason::ENHANCE_YOUR_CALM));
        }
        if has_to_wait {
            self.keep(id, Said::Fields { fields: fields.list, ends }.apart());
            return Ok(());
        }
        if block.first.kind == kind::HEADERS {
            if matches!(self.streams.get(&id), Some(Stream { course: Course::Edited(_), .. })) {
                self.origin_said(id, Said::Fields { fields: fields.list, ends });
                return Ok(());
            }
            self.note_fields(id, &fields.list, ends);
        }
        self.introduced = true;
        self.answers.put(block, &fields.list, &mut self.client.out);
        self.settle(id);
        Ok(())
    }

    /// Notes what a head or trailers that pass say of their stream.
    fn note_fields(&mut self, id: u32, fields: &[Field], ends: bool) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Some(status) = fields::status(fields).filter(|status| !status.is_informational()) {
            stream.log.answered(status);
        }
        if ends {
            stream.origin_open = false;
            stream.answered();
        }
    }

    /// Data waits in line where the agent has borrowed from the client's window.
    fn origin_data(&mut self, frame: &Frame) -> Result<(), Reason> {
        frame.unpadded().filter(|_| frame.head.stream != 0).ok_or(Reason::PROTOCOL_ERROR)?;
        self.answers.credit.sent(frame.flow());
        self.keep(frame.head.stream, Said::Frame(frame.clone()));
        Ok(())
    }

    /// Lets a part of an answer wait its turn.
    pub(super) fn keep(&mut self, stream: u32, said: Said) {
        self.waiting += said.size();
        self.kept.push_back((stream, said));
    }

    /// Whether something of a stream waits, so that nothing of it may overtake.
    fn is_waiting(&self, stream: u32) -> bool {
        self.kept.iter().any(|(kept, _)| *kept == stream)
    }

    /// Whether what is first in line can go on.
    pub(super) fn waiting_fits(&self) -> bool {
        match self.kept.front() {
            Some((stream, Said::Frame(frame))) if frame.head.kind == kind::DATA && !self.is_replaced(*stream) => {
                self.answers.credit.has_room(frame.flow())
            }
            _ => true,
        }
    }

    fn is_replaced(&self, stream: u32) -> bool {
        match self.streams.get(&stream).map(|stream| &stream.course) {
            Some(Course::Edited(edit)) => edit.body.is_some() || matches!(edit.stage, Stage::Held(_)),
            _ => false,
        }
    }

    /// A part of an answer whose turn it is.
    pub(super) fn origin_said(&mut self, id: u32, said: Said) {
        let edit = match self.streams.get_mut(&id).map(|stream| &mut stream.course) {
            Some(Course::Edited(edit)) => edit,
            Some(Course::Passed | Course::Mocked(_)) | None => return self.pass_part(id, &said),
        };
        if let Stage::Held(held) = &mut edit.stage {
            self.held += said.size();
            held.push(said.apart());
            return;
        }
        match said {
            Said::Fields { fields, ends } => self.edited_fields(id, fields, ends),
            Said::Frame(frame) if frame.head.kind == kind::DATA => self.edited_data(id, &frame),
            Said::Frame(frame) => self.edited_reset(id, &frame),
        }
    }

    fn pass_part(&mut self, id: u32, said: &Said) {
        match said {
            Said::Frame(frame) if frame.head.kind == kind::DATA => self.pass_data(id, frame),
            Said::Frame(frame) => self.pass_reset(id, frame),
            Said::Fields { fields, ends } if self.streams.contains_key(&id) => {
                self.note_fields(id, fields, *ends);
                self.put_down(id, fields, *ends);
                self.settle(id);
            }
            // A stream that is gone by now needs none.
            Said::Fields { .. } => {}
        }
    }

    fn pass_data(&mut self, id: u32, frame: &Frame) {
        self.answers.credit.passed(frame.flow());
        self.pass_down(frame);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.log.sent(frame.unpadded().map_or(0, |data| data.len() as u64));
            if frame.has(flag::END_STREAM) {
                stream.origin_open = false;
                stream.answered();
                self.settle(id);
            }
        }
    }

    fn pass_reset(&mut self, id: u32, frame: &Frame) {
        self.pass_down(frame);
        if let Some(mut stream) = self.close(id)
            && stream.answer_open
        {
            stream.log.broke(ExchangeError::UpstreamBroke);
        }
    }

    fn edited_fields(&mut self, id: u32, mut fields: Vec<Field>, ends: bool) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let is_head = stream.is_head;
        let Course::Edited(edit) = &mut stream.course else { return };
        let status = fields::status(&fields).filter(|status| !status.is_informational());
        let ends_here = match (&edit.stage, status) {
            (Stage::Awaited, Some(_)) if let Some(delay) = edit.delay.take() => {
                let said = Said::Fields { fields, ends }.apart();
                self.held += said.size();
                edit.stage = Stage::Held(vec![said]);
                return self.set_delay(id, delay);
            }
            (Stage::Awaited, Some(status)) => {
                edit.stage = Stage::Told;
                let shown = edit.rewrite.status.unwrap_or(status);
                stream.log.changed();
                stream.log.answered(shown);
                edit.body = new_body(status, shown, Some(&edit.rewrite));
                let body = edit.body.as_ref();
                edit.replace(&mut fields);
                let ends_here = body.map_or(ends, |body| body.is_empty() || is_head);
                if !ends_here && let Some(body) = body {
                    edit.outgoing.body = Some(body.clone());
                }
                ends_here
            }
            // Before the head, or trailers.
            (Stage::Awaited, None) => ends,
            (Stage::Told | Stage::Held(_), _) if edit.body.is_some() => {
                stream.origin_open &= !ends;
                return self.settle(id);
            }
            (Stage::Told | Stage::Held(_), _) => ends,
        };
        stream.origin_open &= !ends;
        if ends_here {
            stream.answered();
        }
        self.put_down(id, &fields, ends_here);
        self.resume(id);
        self.settle(id);
    }

    /// Writes a head or trailers of the agent's own making.
    pub(super) fn put_down(&mut self, stream: u32, fields: &[Field], ends: bool) {
        self.introduce();
        let flags = if ends { flag::END_STREAM } else { 0 };
        let first = Head { length: 0, kind: kind::HEADERS, flags, stream };
        self.answers.put_fields(first, &[], fields, &mut self.client.out);
    }

    fn edited_data(&mut self, id: u32, frame: &Frame) {
        if !self.is_replaced(id) {
            return self.pass_data(id, frame);
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let ends = frame.has(flag::END_STREAM);
        stream.origin_open &= !ends;
        if let Course::Edited(edit) = &mut stream.course {
            edit.taken += frame.flow();
            // A client may have asked for windows that are smaller yet.
            let enough = WORTH_TELLING.min(self.settings.client_window / 2);
            if edit.taken >= enough && !ends {
                frame::put_window(&mut self.origin.out, id, std::mem::take(&mut edit.taken));
            }
        }
        self.drop_of_origin(frame.flow());
        self.settle(id);
    }

    /// A reset is the client's, unless it has another answer already.
    fn edited_reset(&mut self, id: u32, frame: &Frame) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let has_own =
            matches!(&stream.course, Course::Edited(edit) if edit.body.is_some() && matches!(edit.stage, Stage::Told));
        if has_own && stream.answer_open {
            stream.origin_open = false;
            // What else the client says on it is for nobody.
            self.settle(id);
        } else {
            self.pass_reset(id, frame);
        }
    }

    fn origin_sets(&mut self, frame: &Frame) -> Result<(), Reason> {
        let payload = frame.payload();
        if frame.has(flag::ACK) {
            if self.origin_owes.pop_front() != Some(Agreed::WithAgent) {
                self.pass_down(frame);
            }
            return Ok(());
        }
        if !payload.len().is_multiple_of(settings::EACH) {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if self.client_owes.len() >= MAX_UNANSWERED {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        self.settings.origin_sets(&payload);
        self.requests.offer_table(self.settings.origin_table);
        put(self.origin_words(), kind::SETTINGS, 0, 0, &settings::passed_on(&payload));
        self.client_owes.push_back(Agreed::WithOtherSide);
        Ok(())
    }

    fn origin_grants(&mut self, frame: &Frame) -> Result<(), Reason> {
        let more = i64::from(frame.word().ok_or(Reason::FRAME_SIZE_ERROR)? & 0x7fff_ffff);
        if frame.head.stream == 0 {
            let more = self.requests.credit.grant(more);
            frame::put_window(self.origin_words(), 0, more);
        } else {
            self.pass_down(frame);
        }
        Ok(())
    }

    /// The destination serves no stream above the one that it names. What rules have answered counts as served, so where that is
    /// newer, the client is told so and the others are given back one by one.
    fn origin_leaves(&mut self, frame: &Frame) -> Result<(), Reason> {
        let mut payload = frame.payload();
        let last = payload.try_get_u32().map_err(|_| Reason::FRAME_SIZE_ERROR)? & 0x7fff_ffff;
        let mocked = self.streams.iter().filter(|(_, stream)| !stream.is_forwarded()).map(|(id, _)| *id);
        let served = mocked.chain(self.unseen.iter().copied()).max().unwrap_or_default();
        if served <= last {
            self.pass_down(frame);
            return Ok(());
        }
        let mut told = BytesMut::from(&served.to_be_bytes()[..]);
        told.put(payload);
        put(self.own_words(), kind::GOAWAY, 0, 0, &told);
        let is_refused =
            |(id, stream): (&u32, &Stream)| (stream.is_forwarded() && *id > last && *id < served).then_some(*id);
        let refused: Vec<u32> = self.streams.iter().filter_map(is_refused).collect();
        for id in refused {
            if let Some(mut stream) = self.close(id) {
                stream.log.broke(ExchangeError::UpstreamBroke);
                self.let_go(stream);
            }
            frame::put_reset(self.own_words(), id, Reason::REFUSED_STREAM);
        }
        Ok(())
    }
}
