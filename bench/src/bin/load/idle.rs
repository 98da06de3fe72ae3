//! Connections that are opened, used once and then left alone.

use std::io::Write;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use moxie_bench::report::Report;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::answer::Reader;
use super::dial::{Errand, Stream};

/// Connections that are being opened at a time.
const AT_ONCE: usize = 32;

/// Opens `connections`, says so on a line, and holds them until a signal ends this.
pub(crate) async fn hold(errand: Rc<Errand>, connections: usize) -> Result<Report> {
    let (mut opening, mut open) = (JoinSet::new(), Vec::new());
    for _ in 0..connections {
        if opening.len() >= AT_ONCE {
            open.push(next(&mut opening).await?);
        }
        opening.spawn_local(use_once(Rc::clone(&errand)));
    }
    while !opening.is_empty() {
        open.push(next(&mut opening).await?);
    }
    println!("{}", serde_json::to_string(&Report { requests: open.len() as u64, ..Report::default() })?);
    std::io::stdout().flush()?;
    std::future::pending().await
}

async fn next(opening: &mut JoinSet<Result<Box<dyn Stream>>>) -> Result<Box<dyn Stream>> {
    match opening.join_next().await {
        Some(opened) => opened?.context("an idle connection"),
        None => bail!("nothing is being opened"),
    }
}

async fn use_once(errand: Rc<Errand>) -> Result<Box<dyn Stream>> {
    let mut stream = errand.dial().await?;
    stream.write_all(&errand.request).await?;
    stream.flush().await?;
    Reader::small().answer(&mut *stream, errand.expect, |_| ()).await?;
    Ok(stream)
}
