//! `[scopes]`: which containers opt themselves in, and who tells of containers.

use std::path::PathBuf;

use toml::Value;

use super::Problem;
use super::raw::{Section, Setting};
use crate::scope::spec::Label;

/// The label by which containers opt themselves in unless another is set.
const LABEL: &str = "moxie.intercept=true";

/// What opts itself in.
#[derive(Clone, Debug)]
pub struct Scopes {
    /// `label`: containers with it are opted in without a scope; `moxie.intercept=true` unless set, `""` for none.
    pub label: Option<Label>,
    /// `docker`: Docker's socket; the one in `DOCKER_HOST`, else `/var/run/docker.sock`, unless set; `""`: Docker is not asked.
    pub docker: Option<PathBuf>,
    /// `podman`: the socket on which Podman talks like Docker; `/run/podman/podman.sock` unless set; `""`: Podman is not asked.
    pub podman: Option<PathBuf>,
    /// `containerd`: containerd's socket; `/run/containerd/containerd.sock` unless set; `""`: containerd is not asked.
    pub containerd: Option<PathBuf>,
}

impl TryFrom<Section> for Scopes {
    type Error = Vec<Problem>;

    fn try_from(mut raw: Section) -> Result<Self, Self::Error> {
        let Chosen(label) = raw.take("label").unwrap_or_else(|| Chosen(Label::parse(LABEL).ok()));
        let docker = socket(&mut raw, "docker", "/var/run/docker.sock");
        let podman = socket(&mut raw, "podman", "/run/podman/podman.sock");
        let containerd = socket(&mut raw, "containerd", "/run/containerd/containerd.sock");
        raw.finish(Self { label, docker, podman, containerd })
    }
}

/// A socket's path, with or without `unix://` before it; `None`: not to be used.
fn socket(raw: &mut Section, key: &'static str, usual: &str) -> Option<PathBuf> {
    let text: String = raw.take(key).unwrap_or_else(|| usual.to_owned());
    let path = text.strip_prefix("unix://").unwrap_or(&text);
    if !path.is_empty() && !path.starts_with('/') {
        raw.refuse(
            key,
            format!("is \"{text}\": write the absolute path of its unix socket, or \"\" to leave it alone"),
        );
    }
    (!path.is_empty()).then(|| path.into())
}

struct Chosen(Option<Label>);

impl Setting for Chosen {
    fn read(value: &Value) -> Result<Self, String> {
        let text = String::read(value)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        Label::parse(&text).map(|label| Self(Some(label))).map_err(|message| format!("is {value}: {message}"))
    }
}
