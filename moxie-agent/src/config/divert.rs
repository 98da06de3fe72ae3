//! `[divert]`: which connections of a scope come to the agent.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use toml::Value;

use super::Problem;
use super::raw::{Section, Setting};
use crate::divert::proxy::{StandIn, StandIns};
use crate::divert::{AddressLists, Network, PortSet, Via};
use crate::paths::PROXY_PORT;

/// Where the explicit proxy listens unless told otherwise.
const PROXY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, PROXY_PORT));

/// What comes to the agent.
#[derive(Clone, Debug)]
pub struct Divert {
    /// `via`: the way on path; the first that works unless set.
    pub via: Via,
    /// `proxy`: where the explicit proxy listens, on loopback; 127.0.0.1:8481 unless set.
    pub proxy: SocketAddr,
    /// `stand_ins`: where the explicit proxy finds destinations that are not where their names say; none unless set.
    pub stand_ins: StandIns,
    /// `ports`: destination ports that are diverted; 80 and 443 unless set.
    pub ports: PortSet,
    /// `allow` and `deny`: destination networks that are diverted, and that are not; both empty unless set.
    pub addresses: AddressLists,
    /// `refuse_quic`: whether UDP to those ports is refused, so that clients of HTTP/3 fall back to TCP; false unless set.
    pub refuse_quic: bool,
    /// `dns_hints`: whether connections to addresses that DNS answers tell to be of no name that a rule could name are left direct; true
    /// unless set.
    pub dns_hints: bool,
    /// `heartbeat`: the kernel sends connections direct once the agent has not beaten for this long; 1 s unless set.
    pub heartbeat: Duration,
    /// `kernel_log`: whether the kernel half logs each decision; false unless set.
    pub kernel_log: bool,
}

impl TryFrom<Section> for Divert {
    type Error = Vec<Problem>;

    fn try_from(mut raw: Section) -> Result<Self, Self::Error> {
        let divert = Self {
            via: raw.take("via").unwrap_or_default(),
            proxy: raw.take("proxy").map_or(PROXY, |Door(door)| door),
            stand_ins: raw.take::<Vec<StandIn>>("stand_ins").unwrap_or_default().into_iter().collect(),
            ports: raw.take("ports").unwrap_or_default(),
            addresses: AddressLists {
                allow: raw.take("allow").unwrap_or_default(),
                deny: raw.take("deny").unwrap_or_default(),
            },
            refuse_quic: raw.take("refuse_quic").unwrap_or(false),
            dns_hints: raw.take("dns_hints").unwrap_or(true),
            heartbeat: raw.take("heartbeat").unwrap_or(Duration::from_secs(1)),
            kernel_log: raw.take("kernel_log").unwrap_or(false),
        };
        if let Err(problem) = divert.addresses.check() {
            raw.refuse("deny", &problem);
        }
        // Below, an agent that waits for its turn on a busy host would look dead; above, a hung one would hold calls up.
        if !(Duration::from_millis(500)..=Duration::from_mins(1)).contains(&divert.heartbeat) {
            raw.refuse("heartbeat", "must be between \"500ms\" and \"1m\"");
        }
        if !divert.proxy.ip().is_loopback() {
            raw.refuse(
                "proxy",
                "must be a loopback address, such as \"127.0.0.1:8481\": elsewhere it would serve strangers",
            );
        }
        raw.finish(divert)
    }
}

impl Setting for Via {
    fn read(value: &Value) -> Result<Self, String> {
        String::read(value)?.parse().map_err(|error: crate::divert::ParseViaError| error.to_string())
    }
}

impl Setting for Vec<Network> {
    fn read(value: &Value) -> Result<Self, String> {
        let networks = value.as_array().map(Vec::as_slice);
        let wrong = || format!("is {value}: write a list of networks, such as [\"10.0.0.0/8\", \"2001:db8::/32\"]");
        let network = |item: &Value| {
            let text = item.as_str().ok_or_else(wrong)?;
            text.parse().map_err(|error: crate::divert::ParseNetworkError| error.to_string())
        };
        networks.ok_or_else(wrong)?.iter().map(network).collect()
    }
}

/// Where the explicit proxy listens.
struct Door(SocketAddr);

impl Setting for Door {
    fn read(value: &Value) -> Result<Self, String> {
        let text = String::read(value)?;
        text.parse()
            .map(Self)
            .map_err(|_| format!("is {text:?}: write an address and a port, as in \"127.0.0.1:8481\""))
    }
}

impl Setting for StandIn {
    fn read(value: &Value) -> Result<Self, String> {
        String::read(value)?.parse().map_err(|error: crate::divert::proxy::ParseStandInError| error.to_string())
    }
}

impl Setting for PortSet {
    fn read(value: &Value) -> Result<Self, String> {
        let wrong = || format!("is {value}: write a list of ports, such as [80, 443], or \"all\"");
        match value {
            Value::String(text) if text == "all" => Ok(Self::All),
            Value::Array(items) if !items.is_empty() => {
                let port =
                    |item: &Value| item.as_integer().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
                items.iter().map(port).collect::<Option<_>>().map(Self::List).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}
