//! Waiting for a condition, with a deadline.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

/// How often a condition is looked at.
const PACE: Duration = Duration::from_millis(10);

/// Asks `condition` until it gives something.
///
/// # Errors
/// Nothing was given within `bound`, or the condition itself failed.
pub fn until<T>(what: &str, bound: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
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
