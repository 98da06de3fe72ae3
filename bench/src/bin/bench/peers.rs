//! The peers, each one process (or one for each thing it cannot do at once) that is told its destination.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result};
use moxie_bench::processes;
use moxie_tests::lab::{APP_ADDRESS, Place, Running};

use crate::room::{Processor, Room, fill, write};

/// What a proxy is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    PassPlain,
    PassTls,
    Intercept,
    Mock,
    Delay,
}

impl Role {
    fn offset(self) -> u16 {
        match self {
            Self::PassPlain => 1,
            Self::PassTls => 2,
            Self::Intercept => 3,
            Self::Mock => 4,
            Self::Delay => 5,
        }
    }
}

/// Which peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Envoy,
    HaProxy,
    Nginx,
    Mitmproxy,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Envoy, Self::HaProxy, Self::Nginx, Self::Mitmproxy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Envoy => "Envoy",
            Self::HaProxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Mitmproxy => "mitmproxy",
        }
    }

    /// Its program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::HaProxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Mitmproxy => "mitmdump",
        }
    }

    /// Asks its program for its version.
    pub(crate) fn version_flag(self) -> &'static str {
        match self {
            Self::HaProxy | Self::Nginx => "-v",
            Self::Envoy | Self::Mitmproxy => "--version",
        }
    }

    /// Whether it can do that at all.
    pub(crate) fn can(self, role: Role) -> bool {
        role != Role::Delay || matches!(self, Self::Envoy | Self::Mitmproxy)
    }

    fn port(self, role: Role) -> u16 {
        let base = match self {
            Self::Nginx => 20_100,
            Self::HaProxy => 20_200,
            Self::Envoy => 20_300,
            Self::Mitmproxy => 20_400,
        };
        base + role.offset()
    }

    /// Where it does `role`.
    pub(crate) fn address(self, role: Role) -> SocketAddr {
        local(self.port(role))
    }
}

/// A peer that runs.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    /// Processes, each for these roles.
    running: Vec<(Running, &'static [Role])>,
}

const EVERYTHING: &[Role] = &[Role::PassPlain, Role::PassTls, Role::Intercept, Role::Mock, Role::Delay];
const PASSING: &[Role] = &[Role::PassPlain, Role::PassTls];
const READING: &[Role] = &[Role::Intercept, Role::Mock, Role::Delay];

impl Peer {
    /// Starts it and waits until it listens.
    pub(crate) fn start(kind: Kind, room: &Room<'_>) -> Result<Self> {
        let running = match kind {
            Kind::Nginx => vec![(nginx(room, "nginx.conf", &[])?, EVERYTHING)],
            Kind::HaProxy => vec![(haproxy(room, "haproxy.cfg", &[])?, EVERYTHING)],
            Kind::Envoy => vec![(envoy(room, "envoy.yaml", &[])?, EVERYTHING)],
            Kind::Mitmproxy => vec![(mitmproxy(room, PASSING)?, PASSING), (mitmproxy(room, READING)?, READING)],
        };
        let peer = Self { kind, running };
        for role in EVERYTHING.iter().filter(|role| kind.can(**role)) {
            room.await_listener(kind.address(*role)).with_context(|| format!("{} does not start", kind.name()))?;
        }
        Ok(peer)
    }

    /// Its processes that do `role`.
    pub(crate) fn processes(&self, role: Role) -> Vec<u32> {
        let of_role = self.running.iter().filter(|(_, roles)| roles.contains(&role));
        of_role.flat_map(|(running, _)| processes::family(running.id())).collect()
    }
}

/// A peer with `count` rules of which the last matches `path`; gives the process and where it listens.
pub(crate) fn with_rules(kind: Kind, room: &Room<'_>, count: usize, path: &str) -> Result<(Running, SocketAddr)> {
    let port = kind.port(Role::Delay) + 1 + u16::from(count > 1);
    let others = (1..count).map(|number| format!("/v1/r{number}(/.*)?"));
    let patterns = others.chain([format!("{path}(/.*)?")]);
    let rules: String = match kind {
        Kind::Nginx => patterns
            .map(|pattern| {
                format!("        location ~ ^{pattern}$ {{ default_type application/json; return 429 \"{{}}\"; }}\n")
            })
            .collect(),
        Kind::HaProxy => {
            let lines: String = patterns.map(|pattern| format!("^{pattern}$\n")).collect();
            write(room.lab, &format!("haproxy-rules-{port}.list"), &lines)?.display().to_string()
        }
        _ => patterns
            .map(|pattern| {
                format!(
                    "              - match: {{ safe_regex: {{ regex: \"{pattern}\" }} }}\n                direct_response: {{ \
                     status: 429, body: {{ inline_string: \"{{}}\" }} }}\n"
                )
            })
            .collect(),
    };
    let further = [("PORT", port.to_string()), ("RULES", rules)];
    let further: Vec<(&str, &str)> = further.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let running = match kind {
        Kind::Nginx => nginx(room, "nginx-rules.conf", &further)?,
        Kind::HaProxy => haproxy(room, "haproxy-rules.cfg", &further)?,
        _ => envoy(room, "envoy-rules.yaml", &further)?,
    };
    room.await_listener(local(port)).with_context(|| format!("{} does not start with rules", kind.name()))?;
    Ok((running, local(port)))
}

fn nginx(room: &Room<'_>, template: &str, further: &[(&str, &str)]) -> Result<Running> {
    let mut nginx = program(room, Kind::Nginx)?;
    nginx.args(["-e", "stderr", "-p"]).arg(room.lab.files()).arg("-c").arg(configure(room, template, further)?);
    Running::start(nginx)
}

fn haproxy(room: &Room<'_>, template: &str, further: &[(&str, &str)]) -> Result<Running> {
    let mut haproxy = program(room, Kind::HaProxy)?;
    haproxy.arg("-f").arg(configure(room, template, further)?);
    Running::start(haproxy)
}

fn envoy(room: &Room<'_>, template: &str, further: &[(&str, &str)]) -> Result<Running> {
    let mut envoy = program(room, Kind::Envoy)?;
    envoy.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]);
    envoy.arg(configure(room, template, further)?);
    Running::start(envoy)
}

/// One that passes everything unseen, or one that reads: the option that tells them apart holds for a whole process.
fn mitmproxy(room: &Room<'_>, roles: &[Role]) -> Result<Running> {
    let directory = room.lab.files();
    let mut mitmproxy = program(room, Kind::Mitmproxy)?;
    mitmproxy.arg("-q").arg("--set").arg(format!("confdir={}", directory.join("mitmproxy").display()));
    mitmproxy.args(["--ssl-insecure", "--set", "stream_large_bodies=64k", "--set", "keep_alt_svc_header=true"]);
    mitmproxy.arg("--certs").arg(directory.join("both.pem"));
    mitmproxy.arg("-s").arg(room.options.peers.join("mitmproxy.py"));
    if roles == PASSING {
        mitmproxy.args(["--ignore-hosts", ".*"]);
    }
    for role in roles {
        let (kind, to) = match role {
            Role::PassPlain => ("tcp", 80),
            Role::PassTls => ("tcp", 443),
            _ => ("https", 443),
        };
        let port = Kind::Mitmproxy.port(*role);
        mitmproxy.arg("--mode").arg(format!("reverse:{kind}://{APP_ADDRESS}:{to}@127.0.0.1:{port}"));
    }
    Running::start(mitmproxy)
}

fn program(room: &Room<'_>, kind: Kind) -> Result<Command> {
    room.options.program(room.lab, kind.program(), Place::Outside, Processor::Proxy)
}

fn configure(room: &Room<'_>, template: &str, further: &[(&str, &str)]) -> Result<std::path::PathBuf> {
    let path = room.options.peers.join(template);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let port = further.iter().find(|(name, _)| *name == "PORT").map_or("", |(_, port)| port);
    write(room.lab, &format!("{port}{template}"), &fill(&text, room.lab, room.options, further))
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
