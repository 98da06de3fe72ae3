//! Docker, and Podman through the socket on which it talks like Docker.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use async_trait::async_trait;
use bollard::errors::Error as ApiError;
use bollard::models::{ContainerInspectResponse, ContainerSummary, EventMessage};
use bollard::query_parameters::{EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder};
use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use jiff::Timestamp;

use super::{Change, PATIENCE, Runtime, RuntimeError, within};
use crate::scope::container::Container;
use crate::scope::lock;

/// What happens to a container that changes what is known of it.
const ACTIONS: [&str; 6] = ["create", "start", "rename", "update", "destroy", "remove"];
/// What the attributes of an event hold besides the container's labels.
const NO_LABELS: [&str; 6] = ["image", "name", "oldName", "exitCode", "containerExitCode", "podId"];

/// The version of the API that Podman is spoken to in. It takes every one, and seconds to tell its own.
const PODMANS: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };

/// A runtime that talks as Docker does.
#[derive(Debug)]
pub struct DockerLike {
    name: &'static str,
    socket: PathBuf,
    /// Speaks the version of the API that the runtime had when it was last listened to.
    client: Mutex<Option<Docker>>,
}

impl DockerLike {
    /// Docker.
    #[must_use]
    pub fn docker(socket: PathBuf) -> Self {
        Self { name: "docker", socket, client: Mutex::default() }
    }

    /// Podman, whose service may be started by its socket.
    #[must_use]
    pub fn podman(socket: PathBuf) -> Self {
        Self { name: "podman", socket, client: Mutex::default() }
    }

    fn client(&self) -> Result<Docker, RuntimeError> {
        // Nobody has listened yet, or the runtime was not there.
        lock(&self.client).clone().ok_or_else(|| RuntimeError::Absent { socket: self.socket.clone() })
    }

    /// A new client, which the runtime may want to be another than the last: it may have been upgraded.
    async fn connect(&self) -> Result<Docker, RuntimeError> {
        if !self.socket.exists() {
            return Err(RuntimeError::Absent { socket: self.socket.clone() });
        }
        let path = self.socket.to_string_lossy();
        let version = if self.name == "podman" { &PODMANS } else { API_DEFAULT_VERSION };
        let client = Docker::connect_with_unix(&path, PATIENCE.as_secs(), version);
        let mut client = client.map_err(|error| self.broken("connecting", error))?;
        if self.name != "podman" {
            const OPERATION: &str = "asking its version";
            let agreed = async { client.negotiate_version().await.map_err(|error| self.broken(OPERATION, error)) };
            client = within(OPERATION, &self.socket, agreed).await?;
        }
        *lock(&self.client) = Some(client.clone());
        Ok(client)
    }

    fn broken(&self, operation: &'static str, source: ApiError) -> RuntimeError {
        RuntimeError::Broken { operation, socket: self.socket.clone(), source: Box::new(source) }
    }
}

#[async_trait]
impl Runtime for DockerLike {
    fn name(&self) -> &'static str {
        self.name
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    async fn changes(
        &self,
        since: Timestamp,
    ) -> Result<BoxStream<'static, Result<Change, RuntimeError>>, RuntimeError> {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), ACTIONS.map(str::to_owned).to_vec()),
        ]);
        // The stream begins when it is first read; what happens before that is told again, from the second on.
        let options = EventsOptionsBuilder::new().since(&since.as_second().to_string()).filters(&filters).build();
        let events = self.connect().await?.events(Some(options));
        let socket = self.socket.clone();
        let told = events.filter_map(move |event| {
            let change = event.map(change_of).map_err(|error| RuntimeError::Broken {
                operation: "reading its events",
                socket: socket.clone(),
                source: Box::new(error),
            });
            std::future::ready(change.transpose())
        });
        Ok(told.boxed())
    }

    async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let client = self.client()?;
        let asked = async {
            client.list_containers(Some(options)).await.map_err(|error| self.broken("listing containers", error))
        };
        let all = within("listing containers", &self.socket, asked).await?;
        Ok(all.into_iter().filter_map(of_summary).collect())
    }

    async fn find(&self, id: &str) -> Result<Option<Container>, RuntimeError> {
        let client = self.client()?;
        let asked = async {
            match client.inspect_container(id, None::<InspectContainerOptions>).await {
                Ok(told) => Ok(of_inspection(told)),
                Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                Err(error) => Err(self.broken("looking at a container", error)),
            }
        };
        within("looking at a container", &self.socket, asked).await
    }
}

/// A container of a listing; `None`: one without an id.
#[must_use]
pub fn of_summary(told: ContainerSummary) -> Option<Container> {
    // A container that others link to has their names for it too: `/other/alias`.
    let names = told.names.unwrap_or_default();
    let own = names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
    Some(Container {
        id: told.id.filter(|id| !id.is_empty())?,
        name: own.map(str::to_owned),
        image: told.image.filter(|image| !image.is_empty()),
        labels: told.labels.unwrap_or_default().into_iter().collect(),
        cgroup: None,
        namespace: None,
    })
}

/// A container that was looked at; `None`: one without an id.
#[must_use]
pub fn of_inspection(told: ContainerInspectResponse) -> Option<Container> {
    let config = told.config.unwrap_or_default();
    Some(Container {
        id: told.id.filter(|id| !id.is_empty())?,
        name: told.name.map(|name| name.trim_start_matches('/').to_owned()),
        image: config.image.or(told.image),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        cgroup: None,
        namespace: None,
    })
}

/// What an event changes. The attributes of one hold the name, the image and the labels, so nothing has to be asked: there is no
/// time for that between a container's creation and its start.
#[must_use]
pub fn change_of(event: EventMessage) -> Option<Change> {
    let actor = event.actor?;
    let id = actor.id.filter(|id| !id.is_empty())?;
    match event.action.as_deref()? {
        "destroy" | "remove" => Some(Change::Removed(id)),
        // Labels of an update are not told.
        "update" => Some(Change::Touched(id)),
        _ => {
            let attributes = actor.attributes.unwrap_or_default();
            let of = |key: &str| attributes.get(key).filter(|value| !value.is_empty()).cloned();
            let (name, image) = (of("name").map(|name| name.trim_start_matches('/').to_owned()), of("image"));
            let labels: BTreeMap<String, String> =
                attributes.into_iter().filter(|(key, _)| !NO_LABELS.contains(&key.as_str())).collect();
            Some(Change::Told(Container { id, name, image, labels, cgroup: None, namespace: None }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, attributes: &[(&str, &str)]) -> EventMessage {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let actor = bollard::models::EventActor { id: Some("ab12".into()), attributes: Some(attributes) };
        EventMessage { action: Some(action.into()), actor: Some(actor), ..EventMessage::default() }
    }

    #[test]
    fn an_event_tells_all_there_is_to_know() {
        let attributes = [("name", "shop"), ("image", "shop:1"), ("team", "pay"), ("moxie.intercept", "true")];
        let Some(Change::Told(told)) = change_of(event("create", &attributes)) else { panic!("nothing told") };
        assert_eq!(
            (told.id.as_str(), told.name.as_deref(), told.image.as_deref()),
            ("ab12", Some("shop"), Some("shop:1"))
        );
        let labels: Vec<_> = told.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(labels, ["moxie.intercept=true", "team=pay"]);
        assert_eq!(change_of(event("destroy", &attributes)), Some(Change::Removed("ab12".into())));
        assert_eq!(change_of(event("update", &attributes)), Some(Change::Touched("ab12".into())));
        assert_eq!(change_of(EventMessage::default()), None);
    }

    #[test]
    fn a_containers_own_name_is_the_one_without_a_link() {
        let summary = ContainerSummary {
            id: Some("ab".into()),
            names: Some(vec!["/web/db".into(), "/db".into()]),
            image: Some(String::new()),
            ..ContainerSummary::default()
        };
        let told = of_summary(summary).unwrap();
        assert_eq!((told.name.as_deref(), told.image), (Some("db"), None));
        assert_eq!(of_summary(ContainerSummary::default()), None);
    }
}
