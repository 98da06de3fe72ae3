//! Real servers on loopback: each is sent every case's bytes on a connection of its own, and says which requests it saw.
//!
//! A case's connections come from a loopback address of its own, by which what a server says is told apart.

mod drive;
mod hyper;
mod servers;
pub(crate) mod version;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anyhow::Result;

use super::cases::{self, Case};
use super::view::View;
use drive::Replied;
pub(crate) use servers::command;

/// What the readers of this machine make of the cases.
#[derive(Debug)]
pub struct Measured {
    /// Which version each is of.
    pub versions: BTreeMap<&'static str, String>,
    /// What each sees of each case.
    pub views: Vec<(Case, BTreeMap<&'static str, View>)>,
}

/// Asks them, once for all tests.
///
/// # Errors
/// One of them is not here, or does not run.
pub fn measured() -> Result<&'static Measured> {
    static MEASURED: LazyLock<Result<Measured>> = LazyLock::new(|| measure(&cases::all()));
    MEASURED.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))
}

fn measure(cases: &[Case]) -> Result<Measured> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut views: Vec<BTreeMap<&'static str, View>> = vec![BTreeMap::new(); cases.len()];
    let mut versions = BTreeMap::new();
    for server in runtime.block_on(servers::start())? {
        versions.insert(server.name(), version::of(server.name())?);
        let replies = runtime.block_on(drive::all(cases, server.address()))?;
        let said = server.said(&replies)?;
        for (((view, case), reply), requests) in views.iter_mut().zip(cases).zip(replies).zip(said) {
            if !is_told(server.name(), case) {
                continue;
            }
            view.insert(server.name(), View { requests, end: reply.end });
        }
    }
    Ok(Measured { versions, views: cases.iter().cloned().zip(views).collect() })
}

/// Whether a server's view of a case can be had, and is the same each time.
fn is_told(server: &str, case: &Case) -> bool {
    match server {
        // Go answers this one itself, so that no handler can say that it was there.
        "go" => !case.bytes.starts_with(b"OPTIONS *"),
        // Whether HAProxy has passed a request on before it reads the trailers depends on when it is woken.
        "haproxy" => !case.name.starts_with("chunk/trailer"),
        _ => true,
    }
}
