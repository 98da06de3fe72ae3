//! Flow control of a connection as a whole (RFC 9113 section 5.2), where not all octets go all the way.
//!
//! Streams that pass have their flow control end to end: WINDOW_UPDATE frames go through. The connection's own window is shared
//! with streams that a rule answers here, so its two ends may know different figures.

/// What every connection's window is at first.
pub(super) const INITIAL: i64 = 65_535;
/// From how many octets on a difference is told, so that a body in small frames is not answered frame by frame.
const WORTH_TELLING: i64 = 8 * 1024;

/// The window of one direction: what its receiver has granted, and what its sender has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Credit {
    /// What may still be sent to the receiver.
    granted: i64,
    /// What the sender believes it may still send.
    told: i64,
    /// What the sender has sent and what has neither gone on nor been taken here.
    in_line: i64,
}

impl Default for Credit {
    fn default() -> Self {
        Self { granted: INITIAL, told: INITIAL, in_line: 0 }
    }
}

impl Credit {
    /// The receiver takes `more`. What of it the sender is to be told.
    pub(super) fn grant(&mut self, more: i64) -> i64 {
        self.granted = self.granted.saturating_add(more);
        self.tell()
    }

    /// The sender has sent so much.
    pub(super) fn sent(&mut self, octets: i64) {
        self.told -= octets;
        self.in_line += octets;
    }

    /// So much of what it sent went on to the receiver.
    pub(super) fn passed(&mut self, octets: i64) {
        self.granted -= octets;
        self.in_line -= octets;
    }

    /// So much of what it sent went nowhere. What the sender is to be told, if it is worth it.
    pub(super) fn dropped(&mut self, octets: i64) -> i64 {
        self.in_line -= octets;
        let more = self.granted - self.in_line - self.told;
        if more >= WORTH_TELLING || self.told < WORTH_TELLING { self.tell() } else { 0 }
    }

    /// The agent has sent so much to the receiver by itself.
    pub(super) fn spent(&mut self, octets: i64) {
        self.granted -= octets;
    }

    /// How much the agent may send to the receiver by itself: all that is granted, but for what is in line. A bound below that
    /// could be the end of it, since many receivers grant again only once half of their window has come.
    pub(super) fn spare(&self) -> i64 {
        (self.granted - self.in_line).max(0)
    }

    /// Whether so much can go on now. What the agent has borrowed has to be granted again first; a sender that has sent more
    /// than it may is not held back, so that its receiver can tell it.
    pub(super) fn has_room(&self, octets: i64) -> bool {
        octets <= self.granted || self.told < 0
    }

    /// A new sender knows no more than what every window is at first. What it is to be told.
    pub(super) fn new_sender(&mut self) -> i64 {
        self.told = INITIAL;
        self.tell()
    }

    /// A new receiver has granted no more than what every window is at first. What the sender is to be told.
    pub(super) fn new_receiver(&mut self) -> i64 {
        (self.granted, self.in_line) = (INITIAL, 0);
        self.tell()
    }

    /// Whether both ends know the same.
    pub(super) fn is_even(&self) -> bool {
        self.granted == self.told && self.in_line == 0
    }

    fn tell(&mut self) -> i64 {
        let more = (self.granted - self.in_line - self.told).max(0);
        self.told += more;
        more
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_passes_leaves_both_ends_even() {
        let mut credit = Credit::default();
        credit.sent(1000);
        credit.passed(1000);
        assert!(credit.is_even());
        assert_eq!(credit.grant(1000), 1000);
        assert_eq!(credit, Credit::default());
    }

    #[test]
    fn what_is_borrowed_is_paid_back_before_the_sender_is_told_more() {
        let mut credit = Credit::default();
        credit.spent(60_000);
        assert_eq!(credit.spare(), 5535);
        credit.sent(10_000);
        assert!(!credit.has_room(10_000));
        assert_eq!(credit.spare(), 0, "what is in line goes first");
        assert_eq!(credit.grant(20_000), 0);
        assert!(credit.has_room(10_000));
        credit.passed(10_000);
        assert_eq!(credit.grant(50_000), 10_000);
        assert!(credit.is_even());
    }

    #[test]
    fn what_does_not_go_on_is_given_back_in_pieces_worth_it() {
        let mut credit = Credit::default();
        let mut drop = |octets| {
            credit.sent(octets);
            credit.dropped(octets)
        };
        assert_eq!(drop(100), 0);
        assert_eq!(drop(9000), 9100);
        assert_eq!(drop(INITIAL - 10), INITIAL - 10);
    }

    proptest! {
        #[test]
        fn a_receiver_that_grants_late_is_sent_everything(window in INITIAL..10_000_000_i64, bodies in prop::collection::vec(1..200_000_i64, 1..200)) {
            let mut credit = Credit::default();
            credit.grant(window - INITIAL);
            let mut taken = 0;
            for mut body in bodies {
                while body > 0 {
                    let own = body.min(credit.spare());
                    prop_assert!(own > 0, "stuck after {taken} of {window}");
                    credit.spent(own);
                    (body, taken) = (body - own, taken + own);
                    // Half of the window has been used up.
                    if taken * 2 >= window {
                        credit.grant(std::mem::take(&mut taken));
                    }
                }
            }
            prop_assert!(credit.granted >= 0, "the receiver's window is kept");
        }

        #[test]
        fn a_sender_that_keeps_to_its_window_is_never_stuck(steps in prop::collection::vec((0..5, 1..70_000_i64), 0..200)) {
            let mut credit = Credit::default();
            // Octets sent and not passed yet, and octets passed and not taken yet.
            let (mut waiting, mut taken) = (0, 0);
            for (step, octets) in steps {
                match step {
                    0 => {
                        let sent = octets.min(credit.told).max(0);
                        credit.sent(sent);
                        waiting += sent;
                    }
                    1 => {
                        let own = octets.min(credit.spare());
                        credit.spent(own);
                        taken += own;
                    }
                    2 if credit.has_room(waiting) => {
                        credit.passed(waiting);
                        taken += std::mem::take(&mut waiting);
                    }
                    3 => {
                        credit.dropped(std::mem::take(&mut waiting));
                    }
                    _ => {
                        credit.grant(std::mem::take(&mut taken));
                    }
                }
                prop_assert!(credit.granted >= 0, "the receiver's window is kept");
            }
            credit.grant(taken);
            prop_assert!(credit.has_room(waiting));
        }
    }
}
