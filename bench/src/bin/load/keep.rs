//! Requests, on connections that are kept or on a new one each.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::answer::Reader;
use super::dial::Errand;
use super::tally::Tally;

/// How long a connection that failed waits before it is made again, so that a target that is gone does not cost the run.
const PAUSE: Duration = Duration::from_millis(20);

/// Starts `connections`, each asking as soon as it is answered; `delay` is what each answer has to wait for.
pub(crate) fn start(errand: &Rc<Errand>, tally: &Rc<Tally>, connections: usize, delay: Duration) {
    for number in 0..connections {
        let (errand, tally) = (Rc::clone(errand), Rc::clone(tally));
        // Spread over the delay: otherwise all answers would be due at the same moment.
        let wait = delay * u32::try_from(number).unwrap_or(0) / u32::try_from(connections).unwrap_or(1);
        spawn_local(async move {
            sleep(wait).await;
            loop {
                if let Err(error) = ask(&errand, &tally, delay).await {
                    tally.failed(&error);
                }
                sleep(PAUSE).await;
            }
        });
    }
}

/// Starts `connections` at a time, one for each request.
pub(crate) fn start_fresh(errand: &Rc<Errand>, tally: &Rc<Tally>, connections: usize) {
    for _ in 0..connections {
        let (errand, tally) = (Rc::clone(errand), Rc::clone(tally));
        spawn_local(async move {
            let mut reader = Reader::new();
            loop {
                if let Err(error) = ask_once(&errand, &tally, &mut reader).await {
                    tally.failed(&error);
                    reader = Reader::new();
                    sleep(PAUSE).await;
                }
            }
        });
    }
}

/// Asks on one connection until something goes wrong.
async fn ask(errand: &Errand, tally: &Tally, delay: Duration) -> Result<()> {
    let (mut stream, mut reader) = (errand.dial().await?, Reader::new());
    loop {
        let began = Instant::now();
        stream.write_all(&errand.request).await?;
        stream.flush().await?;
        reader.answer(&mut *stream, errand.expect, |count| tally.arrived(count)).await?;
        let took = began.elapsed();
        if took < delay {
            tally.early();
        }
        tally.answered(took.abs_diff(delay));
    }
}

/// Connects, asks, reads the answer and the connection's end.
async fn ask_once(errand: &Errand, tally: &Tally, reader: &mut Reader) -> Result<()> {
    let began = Instant::now();
    let mut stream = errand.dial().await?;
    stream.write_all(&errand.request).await?;
    stream.flush().await?;
    reader.answer(&mut *stream, errand.expect, |count| tally.arrived(count)).await?;
    tally.answered(began.elapsed());
    reader.end(&mut *stream).await
}
