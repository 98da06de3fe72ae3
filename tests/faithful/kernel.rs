//! The core of the golden cases on the real kernel: the client is in a cgroup and a network namespace of the lab's, the agent is a
//! process. What the kernel half does to a connection is seen only here: who is called at all, `connect`'s errors, `getpeername`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream as StdStream};
use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use moxie_tests::lab::{Place, Sockets};
use moxie_tests::{Agent, Lab};
use rustls::{ClientConfig, ServerConfig};
use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::block_in_place;

use crate::cases::{self, Case};
use crate::golden::{Cell, Extent, judge, misjudged};
use crate::play::{Presence, play};
use crate::script::Side;
use crate::secret::{self, Roots};
use crate::stage::{Addresses, Judged, Stage, Tier, until};
use crate::transcript::{Event, Transcript, What};

/// A stand-in whose address the origins are on; every one has a port of its own.
const HOST: &str = "echo.example";

/// The lab's agent, by what a stage needs of it.
struct Kernel<'lab> {
    lab: &'lab Lab,
    agent: &'lab Agent<'lab>,
    roots: Roots,
    addresses: Addresses,
    authority: String,
    inside: Mutex<Sockets>,
    outside: Mutex<Sockets>,
}

impl Stage for Kernel<'_> {
    fn listen(&self) -> TcpListener {
        self.addresses.fresh(|| self.lab.listen(HOST).unwrap())
    }

    fn server(&self, domain: &str, alpn: &[&str]) -> Arc<ServerConfig> {
        self.roots.server(&format!("*.{domain}"), alpn)
    }

    fn client(&self, _: Tier, alpn: &[&str]) -> Arc<ClientConfig> {
        secret::client(&[&self.roots.pem(), &self.authority], alpn)
    }

    async fn connect(&self, tier: Tier, destination: SocketAddr) -> io::Result<TcpStream> {
        let place = if tier == Tier::Direct { &self.outside } else { &self.inside };
        let socket = StdStream::from(place.lock().unwrap().fresh().unwrap());
        socket.set_nonblocking(true)?;
        let stream = TcpSocket::from_std_stream(socket).connect(destination).await?;
        assert_eq!(stream.peer_addr()?, destination, "the client sees whom it has called, {}", tier.name());
        Ok(stream)
    }

    async fn verdict(&self, tier: Tier, destination: SocketAddr) -> Option<Judged> {
        let path = format!("/api/v1/connections?contains={destination}");
        let wanted = destination.to_string();
        let ask = || {
            let records = block_in_place(|| self.agent.list(&path)).unwrap();
            let record = records.into_iter().find(|record| record["original_dst"] == wanted.as_str())?;
            let verdict = serde_json::from_value(record["verdict"].clone()).unwrap();
            Some((verdict, serde_json::from_value(record["reason"].clone()).unwrap()))
        };
        match tier {
            Tier::Direct | Tier::Left => ask(),
            Tier::Passed | Tier::Interpreted | Tier::Fired => until(ask).await,
        }
    }
}

#[test]
fn the_core_is_the_same_at_every_tier() -> Result<()> {
    let lab = Lab::new()?;
    let roots = Roots::new();
    // The agent's destinations are verified with the lab's authority, and with the scripts' own.
    fs::File::options().append(true).open(lab.trusted())?.write_all(roots.pem().as_bytes())?;
    let agent = lab.agent_with("[divert]\nports = \"all\"\n[sniff]\nfirst_byte = \"20ms\"\n")?;
    let problems = at_every_tier(&lab, &agent, roots)?;
    agent.stop()?;
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    Ok(())
}

fn at_every_tier(lab: &Lab, agent: &Agent<'_>, roots: Roots) -> Result<Vec<String>> {
    let authority = agent.rest().get("/api/v1/ca.pem")?.body;
    let (inside, outside) = (Mutex::new(lab.sockets(Place::Inside)?), Mutex::new(lab.sockets(Place::Outside)?));
    let stage = Kernel { lab, agent, roots, addresses: Addresses::default(), authority, inside, outside };
    let cases = cases::core();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut found = BTreeMap::new();

    let scope = agent.opt_in_as("rules")?;
    for tier in [Tier::Direct, Tier::Left] {
        runtime.block_on(play_all(&cases, tier, &stage, &mut found));
    }
    let reply = agent.rest().call("DELETE", &format!("/api/v1/scopes/{scope}"), &[], None)?;
    ensure!(reply.status == 204, "opting out: {reply:?}");
    agent.opt_in_as("observe")?;
    runtime.block_on(play_all(&cases, Tier::Passed, &stage, &mut found));
    agent.rule(&json!({"url": r"[a-z0-9-]+\.api\.example(:\d+)?/never-asked-for", "status_code": 418}))?;
    runtime.block_on(play_all(&cases, Tier::Interpreted, &stage, &mut found));
    Ok(judge(&cases, &found, Extent::Part))
}

/// Plays every case at one tier and notes how it differs from what is to be seen where nothing stands between.
async fn play_all(cases: &[Case], tier: Tier, stage: &Kernel<'_>, found: &mut BTreeMap<Cell, Vec<String>>) {
    for case in cases {
        for &layer in case.layers() {
            let (script, cast) = (case.script(), case.cast());
            let played = play(&script, &cast, layer, tier, stage).await;
            let mut ideal = script.ideal(layer);
            ideal.agreed = played.transcript.agreed.clone();
            if cast.presence == Presence::Absent {
                refused(&mut ideal);
            }
            let mut differences = played.transcript.differences(&ideal);
            differences.extend(misjudged(case, layer, tier, &played));
            found.insert((case.name, layer, tier), differences);
        }
    }
}

/// What is to be seen of an origin that is not there.
fn refused(ideal: &mut Transcript) {
    ideal.add(Side::Client, Event { step: 0, what: What::Refused("ConnectionRefused".to_owned()) });
}
