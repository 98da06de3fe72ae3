//! Waiting for a condition, with a deadline.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

/// How often a condition is looked at.
const PACE: Duration = Duration::from_millis(10);

/// What a bound comes to on this machine: times `MOXIE_TEST_PATIENCE`, for machines whose every instruction is emulated.
#[must_use]
pub fn patient(bound: Duration) -> Duration {
    let factor = std::env::var_os("MOXIE_TEST_PATIENCE").and_then(|factor| factor.to_str()?.parse().ok());
    bound * factor.unwrap_or(1).max(1)
}

/// Asks `condition` until it gives something.
///
/// # Errors
/// Nothing was given within `bound` (see [`patient`]), or the condition itself failed.
pub fn until<T>(what: &str, bound: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let bound = patient(bound);
    let deadline = Instant::now() + bound;
    loop {
        if let Some(found) = condition()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {bound:?} in vain for {what}");
        }
        std::thread::sleep(PACE);
    }
}
