//! What rules say in the destination's place.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Alarm, Relay, Said};
use crate::datapath::act::delay::Delay;
use crate::datapath::http1::wire::Wire;
use crate::datapath::http2::fields;
use crate::datapath::http2::frame::{COMMON_PAYLOAD, flag, kind, put};
use crate::datapath::http2::side::ENOUGH;
use crate::datapath::http2::stream::{Course, Stage, Stream};

impl<W: Wire> Relay<'_, W> {
    /// A request that a rule answers has been read to its end, as a real server would, or to where its client waits.
    pub(super) fn mock_due(&mut self, id: u32) {
        let Some(Stream { course: Course::Mocked(mock), .. }) = self.streams.get_mut(&id) else { return };
        if std::mem::replace(&mut mock.is_due, true) {
            // The answer has been said, and now the request too.
            return self.settle(id);
        }
        match mock.delay.take() {
            None => self.mock_now(id),
            Some(delay) => self.set_delay(id, delay),
        }
    }

    /// Waits for a rule's delay, no longer than its stream stands: streams that come and go leave nothing behind.
    pub(super) fn set_delay(&mut self, id: u32, delay: Delay) {
        let rules = Arc::clone(&self.party.cx.rules);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (stands, gone) = oneshot::channel();
        stream.stands = Some(stands);
        stream.log.delay_begins();
        self.alarms.push(Box::pin(async move {
            let waited = tokio::select! {
                waited = delay.wait(&rules) => waited,
                // Of a stream that is gone, nobody asks how long.
                _ = gone => Duration::ZERO,
            };
            (Alarm::Delay(id), waited)
        }));
    }

    /// The delay of a rule is over on a stream, which may be gone by now.
    pub(super) fn delay_over(&mut self, id: u32, waited: Duration) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.log.delayed(waited);
        match &mut stream.course {
            Course::Mocked(_) => self.mock_now(id),
            Course::Edited(edit) => {
                if let Stage::Held(held) = std::mem::replace(&mut edit.stage, Stage::Awaited) {
                    self.held -= held.iter().map(Said::size).sum::<usize>();
                    held.into_iter().for_each(|said| self.keep(id, said));
                }
            }
            Course::Passed => {}
        }
    }

    fn mock_now(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Course::Mocked(mock) = &mut stream.course else { return };
        let fields = fields::answer(mock.status, &mock.headers, mock.body.len());
        let ends = stream.is_head || mock.body.is_empty();
        stream.log.answered(mock.status);
        if ends {
            stream.answered();
        } else {
            mock.outgoing.body = Some(std::mem::take(&mut mock.body));
        }
        self.put_down(id, &fields, ends);
        self.resume(id);
        self.settle(id);
    }

    /// Lets a rule's body take its turn again once its stream has a window.
    pub(super) fn resume(&mut self, id: u32) {
        let outgoing = self.streams.get_mut(&id).and_then(Stream::outgoing);
        if let Some(outgoing) = outgoing.filter(|outgoing| outgoing.may_go_on()) {
            outgoing.is_queued = true;
            self.sending.push_back(id);
        }
    }

    /// Sends what can be sent of rules' bodies, in turn.
    pub(super) fn send_bodies(&mut self) {
        while self.client.out.len() < ENOUGH && self.answers.credit.spare() > 0 {
            let Some(id) = self.sending.pop_front() else { break };
            if let Some(outgoing) = self.streams.get_mut(&id).and_then(Stream::outgoing) {
                outgoing.is_queued = false;
                self.send_some(id);
                self.resume(id);
            }
        }
    }

    fn send_some(&mut self, id: u32) {
        let spare = self.answers.credit.spare();
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(outgoing) = stream.outgoing() else { return };
        let Some(body) = &mut outgoing.body else { return };
        let room = usize::try_from(spare.min(outgoing.window)).unwrap_or_default();
        let data = body.split_to(body.len().min(room).min(COMMON_PAYLOAD));
        let (octets, ends) = (i64::try_from(data.len()).unwrap_or(i64::MAX), body.is_empty());
        outgoing.window -= octets;
        if ends {
            outgoing.body = None;
            stream.answered();
        }
        stream.log.sent(data.len() as u64);
        self.answers.credit.spent(octets);
        put(&mut self.client.out, kind::DATA, if ends { flag::END_STREAM } else { 0 }, id, &data);
        if ends {
            self.settle(id);
        }
    }
}
