//! What systemd is told (sd_notify(3)); without systemd, nothing happens.

use sd_notify::NotifyState;
use tokio::task::JoinHandle;

/// The agent diverts.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Another process is the agent now.
pub(super) fn succeeded_by(pid: Option<u32>) {
    if let Some(pid) = pid {
        tell(&[NotifyState::MainPid(pid), NotifyState::Ready, NotifyState::Status("")]);
    }
}

/// This process is the agent still.
pub(super) fn upgrade_failed() {
    tell(&[
        NotifyState::Ready,
        NotifyState::Status("the last upgrade failed, this agent goes on; `moxie status` says why"),
    ]);
}

/// The agent drains.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Stops feeding the watchdog when dropped.
pub(super) struct Fed(JoinHandle<()>);

impl Drop for Fed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells the watchdog, if systemd asked for one, that the runtime still takes its turns.
pub(super) fn feed_watchdog() -> Option<Fed> {
    // Half the time that systemd allows, as sd_watchdog_enabled(3) advises.
    let mut turns = tokio::time::interval(sd_notify::watchdog_enabled()?.div_f32(2.0));
    Some(Fed(tokio::spawn(async move {
        loop {
            turns.tick().await;
            tell(&[NotifyState::Watchdog]);
        }
    })))
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}
