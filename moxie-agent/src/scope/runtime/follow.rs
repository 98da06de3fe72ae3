//! Follows a runtime for as long as the agent runs: connects, lists, listens, and begins again when that ends.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use rand::Rng as _;
use tokio::sync::broadcast::error::RecvError;

use super::{Change, Runtime, RuntimeError};
use crate::chain::Chain;
use crate::drain::Drain;
use crate::scope::Scopes;

/// Pauses between attempts: this at first, doubled each time, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause between attempts.
const LONGEST: Duration = Duration::from_secs(5);
/// How far back events are asked for, so that none falls between the question and the answer.
const OVERLAP: SignedDuration = SignedDuration::from_secs(1);

/// Keeps `scopes` told of the containers of `runtime` until `stop`.
pub fn spawn(runtime: Arc<dyn Runtime>, scopes: Arc<Scopes>, stop: &Drain) {
    let stopped = stop.clone();
    stop.spawn(async move {
        tokio::select! {
            () = stopped.started() => {}
            () = follow(&*runtime, &scopes) => {}
        }
    });
}

async fn follow(runtime: &dyn Runtime, scopes: &Arc<Scopes>) {
    let mut pause = FIRST;
    let mut was_there = false;
    loop {
        let (error, connected) = once(runtime, scopes).await;
        was_there |= connected;
        if connected {
            pause = FIRST;
        }
        // A host without this runtime is no trouble.
        if was_there || !matches!(error, RuntimeError::Absent { .. }) {
            scopes.note(runtime.name(), Some(trouble(runtime.name(), &error)));
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST);
    }
}

/// One connection, until it ends: why it did, and whether it had begun.
async fn once(runtime: &dyn Runtime, scopes: &Arc<Scopes>) -> (RuntimeError, bool) {
    let mut strangers = scopes.strangers();
    let since = Timestamp::now().checked_sub(OVERLAP).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut changes = match runtime.changes(since).await {
        Ok(changes) => changes,
        Err(error) => return (error, false),
    };
    match runtime.list().await {
        Ok(all) => scopes.told_all(runtime.name(), all),
        Err(error) => return (error, false),
    }
    scopes.note(runtime.name(), None);
    // What is asked for does not hold up what is told.
    let mut asked = FuturesUnordered::new();
    loop {
        let told = tokio::select! {
            change = changes.next() => match change {
                Some(Ok(Change::Told(container))) => Ok(scopes.told(runtime.name(), container)),
                Some(Ok(Change::Removed(key))) => Ok(scopes.told_removed(runtime.name(), &key)),
                Some(Ok(Change::Touched(key))) => Ok(asked.push(ask(key, runtime, scopes))),
                Some(Err(error)) => Err(error),
                None => Err(RuntimeError::Ended { socket: runtime.socket().to_owned() }),
            },
            stranger = strangers.recv() => match stranger {
                Ok(id) => Ok(asked.push(ask(id.to_string(), runtime, scopes))),
                // More appeared than were asked for: all of them, then.
                Err(RecvError::Lagged(_)) => runtime.list().await.map(|all| scopes.told_all(runtime.name(), all)),
                Err(RecvError::Closed) => std::future::pending().await,
            },
            Some(told) = asked.next() => told,
        };
        if let Err(error) = told {
            return (error, true);
        }
    }
}

async fn ask(key: String, runtime: &dyn Runtime, scopes: &Arc<Scopes>) -> Result<(), RuntimeError> {
    if let Some(container) = runtime.find(&key).await? {
        scopes.told(runtime.name(), container);
    }
    Ok(())
}

fn trouble(name: &str, error: &RuntimeError) -> String {
    format!("{name} does not tell of its containers now: {}; scopes go by what it told last", Chain(error))
}

/// Half to one and a half of `pause`, so that agents do not all come back at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.5))
}

#[cfg(test)]
mod tests;
