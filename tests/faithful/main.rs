//! The same conversation directly and through the agent, at every tier: what each end saw is compared byte by byte and end by end.
//!
//! A conversation is a [`script`] of two parties, played on a [`stage`]: with nothing between them, or with a whole agent of this
//! process, which needs neither root nor the kernel half; the [`kernel`]'s part needs both. Differences that are [`known`] are exactly those of
//! `docs/differences.md`; any other fails, as does a known one that is gone. `MOXIE_CASE=NAME` plays one case and tells all of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(unreachable_pub, reason = "a test program is nobody's library")]

mod cases;
mod frames;
mod golden;
mod kernel;
mod known;
mod listed;
mod party;
mod play;
mod script;
mod secret;
mod stage;
mod transcript;
mod walk;
