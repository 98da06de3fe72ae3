//! The agent that a run goes through: the one of this host where it can be used, else one inside this process.

use std::net::SocketAddr;

use async_trait::async_trait;
use serde_json::Value;

use super::own::Own;
use super::place::Place;
use super::shared::{Shared, Unusable};
use super::{Arguments, Context};
use crate::cli::exit::Failure;
use crate::cli::output::note;
use crate::config::Config;

/// An agent, with the run's scope and rules in force; both end with [`Host::close`].
#[async_trait]
pub(super) trait Host: Send + Sync {
    /// How it is called in a sentence.
    fn name(&self) -> &'static str;
    /// The way on path, and why not the ones before it.
    fn on_path(&self) -> &str;
    /// The proxy that CMD has to be told of, if that is how its calls come.
    fn door(&self) -> Option<SocketAddr>;
    /// The certificate that CMD has to trust.
    async fn authority_pem(&self) -> Result<String, Failure>;
    /// How many connections of the run are open.
    async fn open_connections(&self) -> Result<u64, Failure>;
    /// Exchanges of the run, newest first.
    async fn exchanges(&self) -> Result<Vec<Value>, Failure>;
    /// Connections of the run, newest first.
    async fn connections(&self) -> Result<Vec<Value>, Failure>;
    /// The run's rules in the order in which they were given, as the API shows them.
    async fn rules(&self) -> Result<Vec<Value>, Failure>;
    /// Takes scope and rules back.
    async fn close(self: Box<Self>);
}

/// An agent that the calls of CMD come to.
pub(super) async fn open(
    arguments: &Arguments,
    config: Config,
    rules: &[Value],
    place: &Place,
    context: &Context,
) -> Result<Box<dyn Host>, Failure> {
    if let Some(cgroup) = place.cgroup().filter(|_| !arguments.needs_own_agent()) {
        match Shared::open(place.via(), rules, cgroup, context).await {
            Ok(shared) => return Ok(Box::new(shared)),
            Err(Unusable::Absent) => {}
            Err(Unusable::Because(why)) => note(&format!("the agent of this host is not used: {why}")),
        }
    }
    Ok(Box::new(Own::start(config, rules, place, context).await?))
}
