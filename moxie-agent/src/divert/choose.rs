//! Which way on path is taken: the one that is named, or the first that works on this host.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::ebpf::{Ebpf, EbpfOptions};
use super::netfilter::{Netfilter, NetfilterOptions};
use super::proxy::Proxy;
use super::{Divert, DivertError};
use crate::chain::Chain;
use crate::config;

/// A way on path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// cgroup v2 and eBPF.
    Ebpf,
    /// nftables.
    Netfilter,
    /// An explicit HTTP proxy.
    Proxy,
}

impl Way {
    /// Every way, in the order in which [`Via::Auto`] tries them.
    pub const ALL: [Self; 3] = [Self::Ebpf, Self::Netfilter, Self::Proxy];

    /// As it is called in options, `status` and `doctor`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Netfilter => "netfilter",
            Self::Proxy => "proxy",
        }
    }

    /// Opens it. Blocks for some tens of milliseconds.
    ///
    /// # Errors
    /// Why it does not work here, and what to do about it.
    pub fn open(self, settings: &config::Divert) -> Result<Arc<dyn Divert>, DivertError> {
        match self {
            Self::Ebpf => Ok(Arc::new(Ebpf::load(&ebpf_options(settings))?)),
            Self::Netfilter => Ok(Arc::new(Netfilter::open(netfilter_options(settings))?)),
            Self::Proxy => Ok(Arc::new(Proxy::open(settings.proxy, settings.stand_ins.clone())?)),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the user asked for: `auto`, or the name of a way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// The first of [`Way::ALL`] that works.
    #[default]
    Auto,
    /// This one and no other.
    Only(Way),
}

/// A text is no [`Via`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no way on path: write auto, ebpf, netfilter or proxy")]
pub struct ParseViaError(String);

impl Via {
    /// The ways to try, in order.
    #[must_use]
    pub fn ways(self) -> Vec<Way> {
        match self {
            Self::Auto => Way::ALL.to_vec(),
            Self::Only(way) => vec![way],
        }
    }
}

impl FromStr for Via {
    type Err = ParseViaError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::value_variants().iter().find(|via| via.to_string() == text);
        known.copied().ok_or_else(|| ParseViaError(text.to_owned()))
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(way) => way.fmt(f),
        }
    }
}

impl ValueEnum for Via {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Only(Way::Ebpf), Self::Only(Way::Netfilter), Self::Only(Way::Proxy)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Auto => PossibleValue::new("auto").help("The first way that works on this host; says which"),
            Self::Only(Way::Ebpf) => PossibleValue::new("ebpf").help("cgroup v2 and eBPF; needs root"),
            Self::Only(Way::Netfilter) => PossibleValue::new("netfilter").help("nftables; needs root"),
            Self::Only(Way::Proxy) => PossibleValue::new("proxy").help("An explicit HTTP proxy; needs nothing"),
        })
    }
}

/// A way that does not work here, and why.
#[derive(Debug)]
pub struct PassedOver {
    /// Which.
    pub way: Way,
    /// Why.
    pub why: DivertError,
}

impl fmt::Display for PassedOver {
    /// On one line, with everything below it: it stands in a sentence about another way.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not {}: {}", self.way, Chain(&self.why))
    }
}

/// The way that was taken, and the ones before it that do not work here.
#[derive(Debug)]
pub struct Opened {
    /// The way.
    pub divert: Arc<dyn Divert>,
    /// Which it is.
    pub way: Way,
    /// What was tried before.
    pub passed_over: Vec<PassedOver>,
}

impl fmt::Display for Opened {
    /// `proxy (not ebpf: …; not netfilter: …)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.way.fmt(f)?;
        enumerate(&self.passed_over, f)
    }
}

/// No way works here.
#[derive(Debug, thiserror::Error)]
pub struct NoWay {
    /// What was tried before the last.
    pub passed_over: Vec<PassedOver>,
    /// The last that was tried.
    pub last: Way,
    /// Why that one does not work.
    pub source: DivertError,
}

impl fmt::Display for NoWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot get on path by {}", self.last)?;
        enumerate(&self.passed_over, f)
    }
}

fn enumerate(passed_over: &[PassedOver], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, one) in passed_over.iter().enumerate() {
        write!(f, "{}{one}", if index == 0 { " (" } else { "; " })?;
    }
    f.write_str(if passed_over.is_empty() { "" } else { ")" })
}

/// Opens what `via` asks for. Blocks for some tens of milliseconds for each way that is tried.
///
/// # Errors
/// Why none of the ways works here.
pub fn open(via: Via, settings: &config::Divert) -> Result<Opened, NoWay> {
    first(&via.ways(), |way| way.open(settings))
}

fn first(ways: &[Way], open: impl Fn(Way) -> Result<Arc<dyn Divert>, DivertError>) -> Result<Opened, NoWay> {
    let mut passed_over: Vec<PassedOver> = Vec::new();
    for way in ways.iter().copied() {
        match open(way) {
            Ok(divert) => return Ok(Opened { divert, way, passed_over }),
            Err(why) => passed_over.push(PassedOver { way, why }),
        }
    }
    let PassedOver { way: last, why: source } =
        passed_over.pop().unwrap_or(PassedOver { way: Way::Ebpf, why: DivertError::NoKernelHalf });
    Err(NoWay { passed_over, last, source })
}

fn ebpf_options(settings: &config::Divert) -> EbpfOptions {
    EbpfOptions {
        ports: settings.ports.clone(),
        max_beat_age: settings.heartbeat,
        kernel_log: settings.kernel_log,
        dns_hints: settings.dns_hints,
        ..EbpfOptions::default()
    }
}

fn netfilter_options(settings: &config::Divert) -> NetfilterOptions {
    NetfilterOptions {
        ports: settings.ports.clone(),
        refuse_quic: settings.refuse_quic,
        max_beat_age: settings.heartbeat,
        ..NetfilterOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_via_reads_back_and_others_say_what_to_write() {
        for via in Via::value_variants() {
            assert_eq!(via.to_string().parse(), Ok(*via));
            assert_eq!(via.to_possible_value().map(|value| value.get_name().to_owned()), Some(via.to_string()));
        }
        let told = "iptables".parse::<Via>().unwrap_err().to_string();
        assert!(told.contains("auto, ebpf, netfilter or proxy"), "{told}");
    }

    #[test]
    fn auto_tries_every_way_and_a_named_one_only_itself() {
        assert_eq!(Via::Auto.ways(), Way::ALL);
        assert_eq!(Via::Only(Way::Proxy).ways(), [Way::Proxy]);
    }

    #[test]
    fn where_nothing_works_every_reason_is_told() {
        let refused = |way: Way| Err(DivertError::KernelTooOld { found: format!("by {way}") });
        let told = Chain(&first(&Way::ALL, refused).unwrap_err()).to_string();
        for way in Way::ALL {
            assert!(told.contains(&format!("by {way}")), "{told}");
        }
        let told = first(&[Way::Ebpf], refused).unwrap_err().to_string();
        assert_eq!(told, "cannot get on path by ebpf");
    }
}
