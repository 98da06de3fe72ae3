//! The destination's direction: everything goes on as it comes, but for the heads that a rule or the agent's end changes.

use std::task::{Context, Poll};

use http::StatusCode;

use super::answer::{self, Replacement, Stay};
use super::exchange::{After, Answering, Asking, Exchange, Fate, More};
use super::wire::{Destination, Wire, end_of, poll_end};
use super::{Broken, Relay};
use crate::http1::{Body, Doubt, Read};
use crate::journal::ExchangeError;

/// The interim status that lets a client send its body.
const CONTINUE: u16 = 100;

impl<C: Wire, D: Destination> Relay<'_, C, D> {
    /// Reads from the destination and writes to the client; tells whether anything was read.
    pub(super) fn poll_answers(&mut self, task: &mut Context<'_>) -> Result<bool, Broken> {
        self.drain_answers(task)?;
        let mut moved = false;
        if self.wants_answer_bytes()
            && let Some(upstream) = &mut self.upstream
            && let Poll::Ready(read) = self.answers.poll_fill(upstream, task)
        {
            moved = true;
            self.upstream_end = end_of(read).map_err(Broken::Upstream)?;
            self.read_answers()?;
            if self.upstream_end.is_some() {
                self.upstream_has_ended()?;
            }
            self.drain_answers(task)?;
        }
        self.tell_upstream_end(task)?;
        Ok(moved)
    }

    fn wants_answer_bytes(&self) -> bool {
        self.upstream_end.is_none() && self.answers.is_clear()
    }

    fn drain_answers(&mut self, task: &mut Context<'_>) -> Result<(), Broken> {
        loop {
            match self.answers.poll_drain(&mut self.client, task) {
                Poll::Pending => return Ok(()),
                Poll::Ready(written) => written.map_err(Broken::Client)?,
            }
            if self.client_end.is_some() && !self.through.is_empty() {
                self.ensure_client_is_there()?;
            }
            for mut log in self.through.drain(..) {
                log.finished();
            }
            // What could only be read once everything before it had been written.
            self.read_answers()?;
            if self.answers.is_drained() {
                return Ok(());
            }
        }
    }

    /// A client that has ended its direction may have gone altogether; then it answered what was just written with a reset.
    fn ensure_client_is_there(&mut self) -> Result<(), Broken> {
        let Ok(Some(error)) = self.client.socket().take_error() else { return Ok(()) };
        self.through.iter_mut().for_each(|log| log.unheard());
        Err(Broken::Client(error))
    }

    fn tell_upstream_end(&mut self, task: &mut Context<'_>) -> Result<(), Broken> {
        // A rule's answer that is due goes before it.
        let Some(end) = self.upstream_end.filter(|_| !matches!(self.asking, Asking::Ruled(_))) else { return Ok(()) };
        if self.is_upstream_end_told || !self.answers.is_drained() {
            return Ok(());
        }
        if let Poll::Ready(told) = poll_end(&mut self.client, end, task) {
            told.map_err(Broken::Client)?;
            self.is_upstream_end_told = true;
        }
        Ok(())
    }

    /// Makes of the held bytes what can be made of them.
    fn read_answers(&mut self) -> Result<(), Broken> {
        while !self.answers.held().is_empty() {
            let went_on = match self.answering {
                Answering::Head if self.is_changing_the_answer() => self.read_held_head()?,
                Answering::Head => self.read_passing_head(),
                Answering::Body(_, fate) => self.read_answer_body(fate)?,
                Answering::Unread => {
                    self.answers.pass_all();
                    true
                }
            };
            if !went_on {
                break;
            }
        }
        Ok(())
    }

    /// Whether the head that comes next is to be changed; once its beginning has been passed on it cannot be.
    fn is_changing_the_answer(&self) -> bool {
        let is_wanted = || self.answered().is_some_and(|exchange| exchange.rewrite.is_some());
        self.begun.is_empty() && (is_wanted() || self.party.cx.drain.has_started())
    }

    /// The exchange that the destination is to answer next.
    fn answered(&self) -> Option<&Exchange> {
        self.exchanges.iter().find(|exchange| !exchange.is_answered)
    }

    fn answered_mut(&mut self) -> Option<&mut Exchange> {
        self.exchanges.iter_mut().find(|exchange| !exchange.is_answered)
    }

    fn read_passing_head(&mut self) -> bool {
        let Some(awaited) = self.answered().map(|exchange| exchange.awaited) else {
            self.doubt(Doubt::Unasked);
            return true;
        };
        let before = self.begun.len();
        let held = self.answers.held();
        let read = match before {
            0 => self.answer.read(held, &awaited),
            _ => {
                self.begun.extend_from_slice(held);
                self.answer.read(&self.begun, &awaited)
            }
        };
        match read {
            Ok(Read::Done) => {
                self.answers.pass(self.answer.len() - before);
                self.begun = Vec::new();
                self.head_is_through();
            }
            Ok(Read::Partial) => {
                if before == 0 {
                    self.begun.extend_from_slice(held);
                }
                self.answers.pass_all();
            }
            Err(doubt) => self.doubt(doubt),
        }
        true
    }

    /// A head that is to be changed waits until it is whole, and until everything before it has been written.
    fn read_held_head(&mut self) -> Result<bool, Broken> {
        let Some(awaited) = self.answered().map(|exchange| exchange.awaited) else {
            self.doubt(Doubt::Unasked);
            return Ok(true);
        };
        match self.answer.read(self.answers.held(), &awaited) {
            Ok(Read::Partial) => return Ok(false),
            Ok(Read::Done) if self.answer.interim() || self.answer.switches() => {
                self.answers.pass(self.answer.len());
                self.head_is_through();
            }
            Ok(Read::Done) if !self.answers.is_clear() => return Ok(false),
            Ok(Read::Done) => self.change_head(),
            Err(doubt) => self.doubt(doubt),
        }
        Ok(true)
    }

    /// An answer's head has been passed on as it is.
    fn head_is_through(&mut self) {
        let status = self.answer.status();
        if self.answer.interim() {
            if let Some(exchange) = self.answered_mut().filter(|_| status == CONTINUE) {
                exchange.awaits_leave = false;
            }
            return self.answer.clear();
        }
        if let (Some(exchange), Ok(status)) = (self.answered_mut(), StatusCode::from_u16(status)) {
            exchange.log.answered(status);
        }
        if self.answer.switches() {
            return self.stop_reading();
        }
        self.begin_body(Fate::Passed);
    }

    fn change_head(&mut self) {
        let is_newest = self.exchanges.len() == 1 && !matches!(self.asking, Asking::Ruled(_));
        let is_last = is_newest && self.answer.persists() && self.party.cx.drain.has_started();
        let stay = if is_last { Stay::Ended } else { Stay::Kept };
        let Some(exchange) = self.exchanges.iter_mut().find(|exchange| !exchange.is_answered) else { return };
        let head = self.answers.held();
        let Replacement { head, body, status, fate } =
            answer::replaced(&self.answer, head, exchange.awaited, exchange.rewrite.as_deref(), stay);
        if exchange.rewrite.is_some() {
            exchange.log.changed();
        }
        exchange.log.answered(status);
        exchange.log.sent(body.len() as u64);
        self.answers.drop_held(self.answer.len());
        self.answers.insert(head.into(), body);
        self.begin_body(fate);
        if is_last {
            self.is_last = true;
            self.asking_after_answer(false);
        }
    }

    fn begin_body(&mut self, fate: Fate) {
        let body = Body::new(self.answer.framing());
        let persists = self.answer.persists();
        self.answer.clear();
        let has_no_body = body.is_ended();
        self.answering = Answering::Body(body, fate);
        self.asking_after_answer(persists);
        if has_no_body && matches!(self.answering, Answering::Body(..)) {
            self.answer_is_through();
        }
    }

    /// What the client may send next, now that a final answer has come.
    fn asking_after_answer(&mut self, persists: bool) {
        let next = if persists { After::Head } else { After::Last };
        // Only the newest exchange can have left the protocol open.
        if persists && self.exchanges.iter().filter(|exchange| !exchange.is_answered).nth(1).is_some() {
            return;
        }
        match &mut self.asking {
            Asking::Switch(More::Came) => self.doubt(Doubt::BeforeSwitch),
            asking @ Asking::Switch(More::Nothing) => *asking = next.asking(),
            asking @ Asking::Body(..) if self.exchanges.back().is_some_and(|newest| newest.awaits_leave) => {
                *asking = Asking::Nothing(Doubt::BodyRefused);
                self.exchanges.back_mut().into_iter().for_each(|newest| newest.is_asked = true);
            }
            Asking::Body(_, after @ After::Switch) => *after = next,
            Asking::Body(_, after @ After::Head) if !persists => *after = After::Last,
            asking @ (Asking::Head | Asking::Whole) if !persists => *asking = next.asking(),
            Asking::Ruled(_) if !persists => self.doubt(Doubt::AfterLast),
            _ => {}
        }
        self.read_requests();
    }

    fn read_answer_body(&mut self, fate: Fate) -> Result<bool, Broken> {
        if fate == Fate::Replaced && !self.answers.is_clear() {
            return Ok(false);
        }
        let held = self.answers.held();
        let Answering::Body(body, _) = &mut self.answering else { return Ok(true) };
        let taken = match body.take(held) {
            Ok(taken) => taken,
            Err(doubt) if fate == Fate::Passed => {
                self.doubt(doubt);
                return Ok(true);
            }
            // The client has had its answer, and what comes now is not for it.
            Err(doubt) => return Err(Broken::Doubt(doubt)),
        };
        match fate {
            Fate::Passed => self.answers.pass(taken.len),
            Fate::Replaced => self.answers.drop_held(taken.len),
        }
        if let Some(exchange) = self.answered_mut().filter(|_| fate == Fate::Passed) {
            exchange.log.sent(taken.data as u64);
        }
        if taken.ended {
            self.answer_is_through();
        }
        Ok(true)
    }

    fn answer_is_through(&mut self) {
        self.answering = Answering::Head;
        if let Some(exchange) = self.answered_mut() {
            exchange.is_answered = true;
        }
        self.retire();
        if matches!(self.asking, Asking::Unread) {
            self.stop_reading();
        }
    }

    /// Exchanges that have been asked and answered are recorded once their last byte is written.
    pub(super) fn retire(&mut self) {
        while self.exchanges.front().is_some_and(|exchange| exchange.is_asked && exchange.is_answered) {
            self.through.extend(self.exchanges.pop_front().map(|exchange| exchange.log));
        }
    }

    /// No more comes from the destination: what is not through by now never will be.
    fn upstream_has_ended(&mut self) -> Result<(), Broken> {
        if let Some(error) = self.upstream_fault.take() {
            return Err(Broken::Upstream(error));
        }
        // The beginning of a head says nothing to us, and may say something to the client.
        self.answers.pass_all();
        if matches!(&self.answering, Answering::Body(body, _) if body.may_close()) {
            self.answer_is_through();
        }
        let why = if self.client_end.is_some() { ExchangeError::ClientGone } else { ExchangeError::UpstreamBroke };
        let is_short = self.exchanges.iter().any(|exchange| !exchange.is_answered);
        for mut exchange in self.exchanges.drain(..) {
            if !exchange.is_answered {
                exchange.log.broke(why);
            }
            self.through.push(exchange.log);
        }
        if is_short && matches!(self.asking, Asking::Ruled(_)) {
            // An answer to it would be taken for the one that is missing.
            self.stop_reading();
        }
        Ok(())
    }
}
