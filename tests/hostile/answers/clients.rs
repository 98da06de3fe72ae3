//! Real clients on loopback: each asks a destination that answers with a case's bytes and closes, and says what it makes of them.

mod hyper;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::cases;
use crate::cases::Case;
use crate::oracles::{Measured, command, version};
use crate::view::{Body, End, Seen, View};

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hostile/answers/clients");

/// What the clients of this machine make of the cases, asked once for all tests.
///
/// # Errors
/// One of them is not here, or does not run.
pub(super) fn measured() -> Result<&'static Measured> {
    static MEASURED: LazyLock<Result<Measured>> = LazyLock::new(|| measure(&cases::all()));
    MEASURED.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))
}

fn measure(cases: &[Case]) -> Result<Measured> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let destination = runtime.block_on(destination(cases))?;
    let mut views: Vec<BTreeMap<&'static str, View>> = vec![BTreeMap::new(); cases.len()];
    let mut versions = BTreeMap::new();
    for client in ["aiohttp", "curl", "go", "h11", "http.client", "hyper", "node"] {
        versions.insert(client, version::of(client)?);
        let said = match client {
            "hyper" => runtime.block_on(hyper::ask(cases, destination)),
            _ => said(client, cases, destination)?,
        };
        ensure!(said.len() == cases.len(), "{client} says {} of {} answers", said.len(), cases.len());
        views.iter_mut().zip(said).for_each(|(view, said)| drop(view.insert(client, said)));
    }
    Ok(Measured { versions, views: cases.iter().cloned().zip(views).collect() })
}

/// Whether a case's request is HEAD.
fn method(case: &Case) -> &'static str {
    if case.name.starts_with("head/") { "HEAD" } else { "GET" }
}

/// Answers `/N` with the bytes of case N.
async fn destination(cases: &[Case]) -> Result<SocketAddr> {
    let answers: Arc<[Vec<u8>]> = cases.iter().map(|case| case.bytes.clone()).collect();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answers = Arc::clone(&answers);
            // A client that has seen enough goes away.
            tokio::spawn(async move { drop(answer(stream, &answers).await) });
        }
    });
    Ok(address)
}

async fn answer(mut stream: TcpStream, answers: &[Vec<u8>]) -> Result<()> {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        ensure!(stream.read_buf(&mut asked).await? > 0, "no request");
    }
    let path = std::str::from_utf8(&asked)?.split(' ').nth(1).context("a target")?;
    let case: usize = path.trim_start_matches('/').parse()?;
    stream.write_all(answers.get(case).context("a case")?).await?;
    stream.shutdown().await?;
    // A close with bytes unread would be a reset.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}

/// What a client's program makes of each case.
fn said(client: &str, cases: &[Case], destination: SocketAddr) -> Result<Vec<View>> {
    let directory = tempfile::tempdir()?;
    let (asked, port) = (directory.path().join("asked"), destination.port().to_string());
    let mut file = File::create(&asked)?;
    for (number, case) in cases.iter().enumerate() {
        writeln!(file, "{number} {}", method(case))?;
    }
    let file = |name: &str| format!("{PROGRAMS}/{name}");
    let mut program = match client {
        "node" => command("node", &[&file("node.mjs"), &port]),
        "go" => command(&built(directory.path())?, &[&port]),
        "curl" => command("/usr/bin/python3", &[&file("curl.py"), &port]),
        "http.client" => command("/usr/bin/python3", &[&file("http_client.py"), &port]),
        "h11" => command("/usr/bin/python3", &[&file("h11_client.py"), &port]),
        _ => command("/usr/bin/python3", &[&file("aiohttp_client.py"), &port]),
    };
    let ran = program.stdin(File::open(&asked)?).stderr(Stdio::piped()).output();
    let ran = ran.with_context(|| format!("{client} cannot be run; cargo xtask setup installs it"))?;
    ensure!(ran.status.success(), "{client}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout)?.lines().enumerate().map(|(number, line)| view(number, line)).collect()
}

fn view(number: usize, line: &str) -> Result<View> {
    let said: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
    ensure!(said["case"].as_str() == Some(&number.to_string()), "not of case {number}: {line}");
    let (Some(status), Some(body)) = (said["status"].as_str(), said["body"].as_str()) else {
        return Ok(refused());
    };
    Ok(seen(status, body.to_owned()))
}

fn seen(status: &str, body: String) -> View {
    let (method, body) = (status.to_owned(), Body::Whole(body));
    View { requests: vec![Seen { method, target: String::new(), host: String::new(), body }], end: End::Done }
}

fn refused() -> View {
    View { requests: Vec::new(), end: End::Refused }
}

/// Go's program.
fn built(directory: &Path) -> Result<String> {
    let built = directory.join("client").to_str().context("odd path")?.to_owned();
    let mut build = command("go", &["build", "-o", &built, &format!("{PROGRAMS}/main.go")]);
    build.env("GOCACHE", directory.join("cache")).env("HOME", directory).env("GO111MODULE", "off");
    let built_it = build.status().context("go cannot be run; cargo xtask setup installs it")?.success();
    ensure!(built_it, "go build failed");
    Ok(built)
}
