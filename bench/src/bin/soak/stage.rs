//! Where the soak takes place: a lab, an agent that comes and goes, and a destination that stays.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use moxie_tests::lab::{APP_ADDRESS, Place, Running};
use moxie_tests::{Agent, Lab, bounds, wait};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::oracle::{LATE, LATE_BY, MOCKED, QUIET, RULED};

/// The lab and who is in it.
pub(crate) struct Stage<'lab> {
    pub(crate) lab: &'lab Lab,
    pub(crate) origin: Running,
    /// None while it is being started again.
    pub(crate) agent: Option<Agent<'lab>>,
    /// The agent's process, for whoever looks at it meanwhile.
    pub(crate) pid: Arc<AtomicU32>,
    state: PathBuf,
}

impl<'lab> Stage<'lab> {
    /// A destination, and an agent with the rules that clients count on.
    pub(crate) fn new(lab: &'lab Lab) -> Result<Self> {
        certify(lab)?;
        let mut origin = lab.command(std::env::current_exe()?, Place::Outside)?;
        origin.args(["origin", "--address", APP_ADDRESS, "--directory"]).arg(lab.files());
        let origin = Running::start(origin)?;
        wait::until("the destination", bounds::SOON, || Ok((origin.printed() == "ready\n").then_some(())))?;
        let state = lab.state_directory()?;
        let mut stage = Self { lab, origin, agent: None, pid: Arc::default(), state };
        stage.start_agent()?;
        let agent = stage.agent()?;
        for (path, status, body) in [MOCKED, LATE] {
            let mut rule = json!({"url": format!("{RULED}{path}"), "status_code": status, "response": body});
            if path == LATE.0 {
                rule["response_delay"] = json!(format!("{}ms", LATE_BY.as_millis()));
            }
            agent.rule(&rule)?;
        }
        Ok(stage)
    }

    /// The agent that runs.
    pub(crate) fn agent(&self) -> Result<&Agent<'lab>> {
        self.agent.as_ref().context("no agent runs")
    }

    /// Starts an agent on the state of the one before, and waits until it diverts the clients' calls.
    pub(crate) fn start_agent(&mut self) -> Result<()> {
        // Little is recorded, so that memory which grows is not the journal that fills up.
        let settings = format!(
            "[records]\nbytes = \"1MiB\"\n[log]\nfilter = \"warn\"\n[tls]\nupstream_ca = [\"{}\"]\n",
            self.lab.files().join("authority.pem").display()
        );
        let agent = self.lab.agent_by(self.lab.moxie()?, &self.state, &settings)?;
        agent.opt_in()?;
        self.agent = Some(agent);
        self.note_agent();
        self.await_agent()
    }

    /// Waits until the agent is ready.
    pub(crate) fn await_agent(&self) -> Result<()> {
        let agent = self.agent()?;
        wait::until("the agent to be ready", bounds::SOON, || {
            let Ok(reply) = agent.rest().get("/api/v1/status") else { return Ok(None) };
            Ok((reply.json()?["ready"] == true).then_some(()))
        })
    }

    /// Says who the agent is now.
    pub(crate) fn note_agent(&self) {
        let pid = self.agent.as_ref().and_then(|agent| u32::try_from(agent.pid().as_raw()).ok());
        self.pid.store(pid.unwrap_or_default(), Ordering::SeqCst);
    }

    /// The clients, opted in, with the lab's trust and the agent's.
    pub(crate) fn clients(&self, seed: u64) -> Result<Running> {
        let roots = self.lab.files().join("roots.pem");
        let reply = self.agent()?.rest().get("/api/v1/ca.pem")?;
        ensure!(reply.status == 200, "the authority: {reply:?}");
        std::fs::write(&roots, std::fs::read_to_string(self.lab.files().join("authority.pem"))? + &reply.body)?;
        let mut clients = self.lab.command(std::env::current_exe()?, Place::Inside)?;
        clients.args(["clients", "--address", APP_ADDRESS, "--seed", &seed.to_string(), "--roots"]).arg(roots);
        Running::start(clients)
    }
}

/// An authority of the soak's own, and a certificate for both hosts.
fn certify(lab: &Lab) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Soak authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new([RULED.to_owned(), QUIET.to_owned()])?.signed_by(&key, &issuer)?;
    std::fs::write(lab.files().join("authority.pem"), authority.pem())?;
    std::fs::write(lab.files().join("soak.pem"), leaf.pem())?;
    std::fs::write(lab.files().join("soak.key"), key.serialize_pem())?;
    Ok(())
}
