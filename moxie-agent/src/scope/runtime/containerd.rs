//! containerd through its own API: the containers of every namespace but Docker's, with the labels that a CRI sets.

pub mod api;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use serde::Deserialize;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::{Change, PATIENCE, Runtime, RuntimeError, within};
use crate::scope::container::Container;

/// Docker's containers: Docker itself knows more of them.
const DOCKERS: &str = "moby";
/// The annotation by which a container of a pod names the one that stands for the pod.
const SANDBOX: &str = "io.kubernetes.cri.sandbox-id";
/// Labels that together name a container of a pod.
const POD_NAME: [&str; 3] = ["io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.container.name"];

/// A containerd.
#[derive(Debug)]
pub struct Containerd {
    socket: PathBuf,
}

/// The little of an OCI runtime specification that is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Specification {
    annotations: HashMap<String, String>,
    linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Linux {
    #[serde(rename = "cgroupsPath")]
    cgroups_path: String,
}

impl Containerd {
    /// The one at `socket`.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    async fn channel(&self) -> Result<Channel, RuntimeError> {
        if !self.socket.exists() {
            return Err(RuntimeError::Absent { socket: self.socket.clone() });
        }
        let broken = |error| self.broken("connecting", error);
        let endpoint = Endpoint::from_shared(format!("unix://{}", self.socket.display())).map_err(broken)?;
        endpoint.connect_timeout(PATIENCE).connect().await.map_err(broken)
    }

    fn broken(&self, operation: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> RuntimeError {
        RuntimeError::Broken { operation, socket: self.socket.clone(), source: Box::new(source) }
    }

    async fn all(&self) -> Result<Vec<Container>, RuntimeError> {
        let channel = self.channel().await?;
        let broken = |status| self.broken("listing containers", status);
        let mut found = Vec::new();
        for namespace in api::namespaces(&channel).await.map_err(broken)?.iter().filter(|name| *name != DOCKERS) {
            let told = api::containers(&channel, namespace).await.map_err(broken)?;
            let labels: HashMap<&str, &HashMap<String, String>> =
                told.iter().map(|one| (one.id.as_str(), &one.labels)).collect();
            found.extend(told.iter().map(|one| {
                let specification = specification(one);
                let pod = specification.annotations.get(SANDBOX).and_then(|id| labels.get(id.as_str()).copied());
                container(namespace, one, &specification, pod)
            }));
        }
        Ok(found)
    }

    async fn one(&self, namespace: &str, id: &str) -> Result<Option<Container>, RuntimeError> {
        let channel = self.channel().await?;
        let get = async |id: &str| match api::container(&channel, namespace, id).await {
            Ok(told) => Ok(told),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.broken("looking at a container", status)),
        };
        let Some(told) = get(id).await? else { return Ok(None) };
        let specification = specification(&told);
        let pod = match specification.annotations.get(SANDBOX) {
            Some(sandbox) if *sandbox != told.id => get(sandbox).await?,
            _ => None,
        };
        Ok(Some(container(namespace, &told, &specification, pod.as_ref().map(|pod| &pod.labels))))
    }
}

#[async_trait]
impl Runtime for Containerd {
    fn name(&self) -> &'static str {
        "containerd"
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    async fn changes(&self, _: Timestamp) -> Result<BoxStream<'static, Result<Change, RuntimeError>>, RuntimeError> {
        let socket = self.socket.clone();
        let begun = async {
            let channel = self.channel().await?;
            api::events(&channel).await.map_err(|status| self.broken("listening for events", status))
        };
        let events = within("listening for events", &self.socket, begun).await?;
        let told = events.filter_map(move |event| {
            let change = event.map(|event| change_of(&event)).map_err(|status| RuntimeError::Broken {
                operation: "reading its events",
                socket: socket.clone(),
                source: Box::new(status),
            });
            std::future::ready(change.transpose())
        });
        Ok(told.boxed())
    }

    async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        within("listing containers", &self.socket, self.all()).await
    }

    async fn find(&self, key: &str) -> Result<Option<Container>, RuntimeError> {
        // An id alone is one that was read off a directory's name: a CRI's.
        let (namespace, id) = key.split_once('/').unwrap_or(("k8s.io", key));
        within("looking at a container", &self.socket, self.one(namespace, id)).await
    }
}

/// What its specification says.
#[must_use]
pub fn specification(told: &api::Container) -> Specification {
    // A specification of another kind of runtime tells nothing, which is no trouble.
    told.spec.as_ref().and_then(|spec| serde_json::from_slice(&spec.value).ok()).unwrap_or_default()
}

/// A container as it is told; `pod` is the labels of the one that stands for its pod.
#[must_use]
pub fn container(
    namespace: &str,
    told: &api::Container,
    specification: &Specification,
    pod: Option<&HashMap<String, String>>,
) -> Container {
    // A pod's labels are its sandbox's: they go for each of its containers, unless one says otherwise.
    let mut labels: BTreeMap<String, String> = pod.into_iter().flatten().map(owned).collect();
    labels.extend(told.labels.iter().map(owned));
    let of_pod: Option<Vec<&str>> = POD_NAME.iter().map(|key| labels.get(*key).map(String::as_str)).collect();
    let path = &specification.linux.cgroups_path;
    Container {
        id: told.id.clone(),
        name: of_pod.map(|names| names.join("/")),
        image: (!told.image.is_empty()).then(|| told.image.clone()),
        labels,
        // With colons it is systemd's slice, prefix and name, and the directory is named after the id.
        cgroup: (!path.is_empty() && !path.contains(':')).then(|| path.trim_start_matches('/').into()),
        namespace: Some(namespace.to_owned()),
    }
}

fn owned((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

/// What an event changes. It names the container; what there is to know has to be asked for.
#[must_use]
pub fn change_of(event: &api::Envelope) -> Option<Change> {
    let id = api::id_of(event)?;
    if event.namespace == DOCKERS {
        return None;
    }
    let key = format!("{}/{id}", event.namespace);
    match event.topic.as_str() {
        "/containers/delete" => Some(Change::Removed(key)),
        "/containers/create" | "/containers/update" => Some(Change::Touched(key)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(id: &str, labels: &[(&str, &str)], spec: &str) -> api::Container {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let spec = Some(api::Any { type_url: String::new(), value: spec.as_bytes().to_vec() });
        api::Container { id: id.into(), labels, image: "shop:1".into(), spec }
    }

    #[test]
    fn a_container_is_told_by_its_specification_and_its_pods_labels() {
        let web = told("web", &[("team", "pay")], r#"{"linux": {"cgroupsPath": "/default/web"}}"#);
        let known = container("default", &web, &specification(&web), None);
        assert_eq!((known.cgroup, known.name), (Some("default/web".into()), None));

        let spec = r#"{"linux": {"cgroupsPath": "kubepods-pod1.slice:cri-containerd:ab"}, "annotations": {"io.kubernetes.cri.sandbox-id": "cd"}}"#;
        let labels = POD_NAME.iter().zip(["prod", "shop-1", "app"]).map(|(key, value)| (*key, value));
        let app = told("ab", &labels.chain([("team", "own")]).collect::<Vec<_>>(), spec);
        let pod = HashMap::from([("moxie.intercept".into(), "true".into()), ("team".into(), "pods".into())]);
        let known = container("k8s.io", &app, &specification(&app), Some(&pod));
        assert_eq!((known.cgroup, known.name.as_deref()), (None, Some("prod/shop-1/app")));
        assert_eq!((known.labels["moxie.intercept"].as_str(), known.labels["team"].as_str()), ("true", "own"));
        let odd = told("x", &[], "no JSON");
        assert_eq!(container("default", &odd, &specification(&odd), None).cgroup, None);
    }

    #[test]
    fn events_name_a_container_in_its_namespace() {
        let event = |namespace: &str, topic: &str| change_of(&api::event(namespace, topic, "web"));
        assert_eq!(event("default", "/containers/create"), Some(Change::Touched("default/web".into())));
        assert_eq!(event("default", "/containers/delete"), Some(Change::Removed("default/web".into())));
        assert_eq!(event("default", "/tasks/start"), None);
        assert_eq!(event("moby", "/containers/create"), None);
    }
}
