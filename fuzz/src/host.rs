//! What the host tells, in parts that whoever runs containers on it can choose: names, labels, annotations, paths.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;

use bollard::models::{ContainerInspectResponse, ContainerSummary, EventMessage};
use moxie_agent::divert::proxy::guest;
use moxie_agent::scope::cgroup::{self, Hierarchy};
use moxie_agent::scope::container::Container;
use moxie_agent::scope::runtime::{Change, containerd, docker};
use moxie_agent::scope::sockets;
use moxie_agent::scope::spec::Label;
use prost::Message as _;

/// Digits of a container's id.
const ID: usize = 64;

/// What a runtime tells of a container, as JSON or by gRPC as the first byte says.
pub(crate) fn container(bytes: &[u8]) {
    let Some((kind, told)) = bytes.split_first() else { return };
    match kind % 5 {
        0 => event(serde_json::from_slice::<EventMessage>(told).ok().and_then(docker::change_of)),
        1 => listed(serde_json::from_slice::<ContainerSummary>(told).ok().and_then(docker::of_summary)),
        2 => listed(serde_json::from_slice::<ContainerInspectResponse>(told).ok().and_then(docker::of_inspection)),
        3 => {
            let Ok(told) = containerd::api::Container::decode(told) else { return };
            let specification = containerd::specification(&told);
            check(&containerd::container("default", &told, &specification, None));
            // A pod that says the same changes nothing but where its own container is silent.
            let apart = containerd::api::Container { labels: [].into(), ..told.clone() };
            let pod = containerd::container("default", &apart, &specification, Some(&told.labels));
            assert_eq!(pod, containerd::container("default", &told, &specification, None));
        }
        _ => event(containerd::api::Envelope::decode(told).ok().and_then(|told| containerd::change_of(&told))),
    }
}

fn event(change: Option<Change>) {
    match change {
        Some(Change::Told(told)) => listed(Some(told)),
        Some(Change::Touched(key) | Change::Removed(key)) => assert!(!key.is_empty()),
        None => {}
    }
}

fn listed(container: Option<Container>) {
    if let Some(container) = container {
        assert!(!container.id.is_empty());
        check(&container);
    }
}

/// A container has each of its labels that a scope can name, by its value and by any, and no other value.
fn check(container: &Container) {
    for (key, value) in &container.labels {
        let is_odd = key.contains('=') || key.contains(char::is_whitespace) || key.is_empty();
        let is_plain = !key.contains(char::is_control) && !value.contains(char::is_control);
        if !is_odd && is_plain {
            let has = |label: &str| container.has(&Label::parse(label).expect("a key without blanks"));
            assert!(has(key) && has(&format!("{key}={value}")) && !has(&format!("{key}={value}x")), "{container:?}");
        }
    }
    let _ = (container.key(), container.mode(), container.inspect(), container.rules(), container.odd_label());
}

/// Paths of cgroups, and lines of `/proc`.
pub(crate) fn host_texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (one, other): (SocketAddr, SocketAddr) = (([127, 0, 0, 1], 8080).into(), ([127, 0, 0, 1], 443).into());
    let _ = guest::row(text, one, other);
    let inodes = HashSet::from([4711]);
    for line in text.lines() {
        let path = Path::new(line);
        if let Some(id) = cgroup::container_of(path) {
            assert!(id.len() == ID && id.bytes().all(|digit| digit.is_ascii_hexdigit()) && line.contains(&id));
            assert!(!cgroup::is_container(path) || cgroup::id_in_name(path) == Some(id.as_str()));
        }
        if let Some(unit) = cgroup::unit_of(path) {
            assert!(line.contains(&unit) && !unit.contains('/'), "{unit:?}");
        }
        let _ = Hierarchy::of_mount(line);
        assert!(sockets::established(line, &inodes).is_none_or(|peer| !peer.ip().is_loopback()));
    }
}
