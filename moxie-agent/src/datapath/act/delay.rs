//! Delay: waits as long as a rule says, never shorter.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Waits for `delay` and tells how long it really took.
pub async fn wait(delay: Duration) -> Duration {
    let began = Instant::now();
    if !delay.is_zero() {
        sleep(delay).await;
    }
    began.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_delay_is_never_shorter_than_asked() {
        for millis in [0, 1, 50, 4000] {
            let asked = Duration::from_millis(millis);
            assert!(wait(asked).await >= asked);
        }
    }
}
