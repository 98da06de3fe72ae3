//! Where names are: in a list of the user's own, else wherever this host looks.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

/// How long a look for a name may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Destinations that are somewhere else than their name says, as in `api.example:443=127.0.0.1:8443`: stand-ins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StandIns(BTreeMap<(String, u16), SocketAddr>);

/// One entry of [`StandIns`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    host: String,
    port: u16,
    address: SocketAddr,
}

/// A text is no [`StandIn`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no stand-in: write HOST:PORT=IP:PORT, as in \"api.example:443=127.0.0.1:8443\"")]
pub struct ParseStandInError(String);

impl FromStr for StandIn {
    type Err = ParseStandInError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (name, address) = text.split_once('=')?;
            let (host, port) = name.rsplit_once(':')?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let is_name = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
            let port = port.parse().ok().filter(|port| *port != 0)?;
            is_name.then_some(Self { host: host.to_lowercase(), port, address: address.parse().ok()? })
        };
        read().ok_or_else(|| ParseStandInError(text.to_owned()))
    }
}

impl FromIterator<StandIn> for StandIns {
    fn from_iter<I: IntoIterator<Item = StandIn>>(entries: I) -> Self {
        Self(entries.into_iter().map(|entry| ((entry.host, entry.port), entry.address)).collect())
    }
}

impl StandIns {
    /// Where `host:port` is, best address first; empty if nothing is known of it.
    pub(super) async fn find(&self, host: &str, port: u16) -> Vec<SocketAddr> {
        let name = host.strip_suffix('.').unwrap_or(host).to_lowercase();
        if let Some(address) = self.0.get(&(name, port)) {
            return vec![*address];
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return vec![SocketAddr::new(ip.to_canonical(), port)];
        }
        let mut found: Vec<SocketAddr> = Vec::new();
        if let Ok(Ok(addresses)) = timeout(PATIENCE, lookup_host((host, port))).await {
            for address in addresses {
                if !found.contains(&address) {
                    found.push(address);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stand_in_goes_before_the_name_and_addresses_are_themselves() {
        let names: StandIns = ["API.example:443=127.0.0.1:8443", "[::1]:80=127.0.0.1:8080"]
            .iter()
            .map(|text| text.parse::<StandIn>().unwrap())
            .collect();
        let find =
            async |host: &str, port| names.find(host, port).await.iter().map(SocketAddr::to_string).collect::<Vec<_>>();
        assert_eq!(find("api.example", 443).await, ["127.0.0.1:8443"]);
        assert_eq!(find("Api.Example.", 443).await, ["127.0.0.1:8443"]);
        assert_eq!(find("::1", 80).await, ["127.0.0.1:8080"]);
        assert_eq!(find("::ffff:127.0.0.1", 81).await, ["127.0.0.1:81"]);
        assert_eq!(find("fd00::1", 80).await, ["[fd00::1]:80"]);
        assert!(find("no such name", 80).await.is_empty());
    }

    #[test]
    fn what_is_no_stand_in_says_what_to_write() {
        for text in ["", "a", "a=b", "a:443=b:80", "a:0=127.0.0.1:1", ":443=127.0.0.1:1", "a:443=127.0.0.1"] {
            assert!(text.parse::<StandIn>().unwrap_err().to_string().contains("HOST:PORT=IP:PORT"), "{text:?}");
        }
    }
}
