//! What is waited for, and what follows once it is due.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;

use super::{Reach, Relay, Stop, Whose};
use crate::datapath::http1::wire::Wire;

/// How long a client is kept without a word where the destination may have one for it.
const INTRODUCTION: Duration = Duration::from_millis(100);
/// How long a client's first request is waited for, before the client is taken for one that waits for SETTINGS.
const FIRST_REQUEST: Duration = Duration::from_millis(10);

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// A rule's delay on a stream.
    Delay(u32),
    /// A client that has to hear something.
    Introduction,
    /// A side that does not end after the other.
    Linger,
    /// A header block that is not whole.
    Block(Whose),
}

impl<W: Wire> Relay<'_, W> {
    pub(super) fn greeted_by_client(&mut self) {
        let within = if matches!(self.reach, Reach::Ready) { INTRODUCTION } else { FIRST_REQUEST };
        self.set_alarm(Alarm::Introduction, within);
    }

    pub(super) fn due(&mut self, alarm: Alarm, waited: Duration) -> Result<(), Stop> {
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
    pub(super) fn watch_block(&mut self, whose: Whose) {
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

    pub(super) fn set_alarm(&mut self, alarm: Alarm, after: Duration) {
        self.alarms.push(Box::pin(async move {
            tokio::time::sleep(after).await;
            (alarm, after)
        }));
    }
}
