//! The metrics, and their OpenMetrics text. Labels are closed sets, but for the rule's id, which goes with the rule.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use quick_cache::sync::Cache;

use crate::datapath::load::Shedding;
use crate::journal::{Connection, Exchange};
use crate::rules::RuleId;

/// Bounds of request times and injected delays: from a loopback answer to a patient client's timeout.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Bounds of minting times: a signature takes well under a millisecond.
const MINT_SECONDS: [f64; 7] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.1];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    outcome: &'static str,
    status_class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ConnectionLabels {
    protocol: &'static str,
    verdict: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SheddingLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RuleLabels {
    rule: String,
}

/// How many rules that are gone are remembered.
const RULES_GONE: usize = 4096;

/// Every metric of the agent (names and units: docs/guide/metrics.md).
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_duration: Histogram,
    injected_delay: Histogram,
    rule_hits: Family<RuleLabels, Counter>,
    /// Rules that are gone, whose last records may be still to come.
    rules_gone: Cache<Box<str>, ()>,
    connections_active: Gauge,
    connections: Family<ConnectionLabels, Counter>,
    certificates_minted: Counter,
    certificate_mint: Histogram,
    store_up: Gauge,
    shedding: Family<SheddingLabels, Gauge>,
    known_addresses: Gauge,
    records_dropped: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("moxie"),
            requests: Family::default(),
            request_duration: Histogram::new(SECONDS),
            injected_delay: Histogram::new(SECONDS),
            rule_hits: Family::default(),
            rules_gone: Cache::new(RULES_GONE),
            connections_active: Gauge::default(),
            connections: Family::default(),
            certificates_minted: Counter::default(),
            certificate_mint: Histogram::new(MINT_SECONDS),
            store_up: Gauge::default(),
            shedding: Family::default(),
            known_addresses: Gauge::default(),
            records_dropped: Counter::default(),
        };
        metrics.register_traffic();
        metrics.register_agent();
        metrics.shedding(None);
        metrics
    }
}

impl Metrics {
    fn register_traffic(&mut self) {
        let registry = &mut self.registry;
        registry.register("requests", "Requests seen, by what happened to them", self.requests.clone());
        let help = "From a request's head to the end of its answer, injected delay included";
        registry.register_with_unit("request_duration", help, Unit::Seconds, self.request_duration.clone());
        let help = "Delay that rules asked for, of the requests that got one";
        registry.register_with_unit("injected_delay", help, Unit::Seconds, self.injected_delay.clone());
        registry.register("rule_hits", "Requests that a rule fired for", self.rule_hits.clone());
        registry.register("connections_active", "Connections in the agent now", self.connections_active.clone());
        registry.register("connections", "Connections that have ended", self.connections.clone());
    }

    fn register_agent(&mut self) {
        let registry = &mut self.registry;
        registry.register("certificates_minted", "Certificates minted", self.certificates_minted.clone());
        let help = "Time to mint a certificate";
        registry.register_with_unit("certificate_mint", help, Unit::Seconds, self.certificate_mint.clone());
        registry.register(
            "known_addresses",
            "Addresses that are left direct now by their names",
            self.known_addresses.clone(),
        );
        registry.register("store_up", "1 while the store does what it is asked", self.store_up.clone());
        let help = "1 while new connections go direct because the agent has enough to do";
        registry.register("shedding", help, self.shedding.clone());
        let help =
            "Records that the store was too slow or too broken to take; the agent showed them while they were new";
        registry.register("records_dropped", help, self.records_dropped.clone());
        registry.register("build", "The running build", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    }

    /// An exchange was recorded: requests by outcome and status class, duration, injected delay, hits by rule.
    pub fn exchange(&self, record: &Exchange) {
        let labels = RequestLabels { outcome: record.outcome.as_str(), status_class: status_class(record.status) };
        self.requests.get_or_create(&labels).inc();
        self.request_duration.observe(seconds(record.duration_ms));
        if record.injected_delay_ms > 0 {
            self.injected_delay.observe(seconds(record.injected_delay_ms));
        }
        if let Some(rule) = record.rule_id.as_ref().filter(|rule| self.rules_gone.get(&*rule.0).is_none()) {
            self.rule_hits.get_or_create(&RuleLabels { rule: rule.0.clone() }).inc();
        }
    }

    /// A connection was accepted; pairs with [`Metrics::connection`].
    pub fn connection_opened(&self) {
        self.connections_active.inc();
    }

    /// A connection was recorded: connections by protocol, verdict and reason.
    pub fn connection(&self, record: &Connection) {
        self.connections_active.dec();
        let labels = ConnectionLabels {
            protocol: record.protocol.as_str(),
            verdict: record.verdict.as_str(),
            reason: record.reason.as_str(),
        };
        self.connections.get_or_create(&labels).inc();
    }

    /// A certificate was minted.
    pub fn minted(&self, took: Duration) {
        self.certificates_minted.inc();
        self.certificate_mint.observe(took.as_secs_f64());
    }

    /// Whether the store does what it is asked.
    pub fn store_up(&self, up: bool) {
        self.store_up.set(i64::from(up));
    }

    /// Why new connections go direct, if they do.
    pub fn shedding(&self, why: Option<&'static str>) {
        for reason in Shedding::REASONS {
            self.shedding.get_or_create(&SheddingLabels { reason }).set(i64::from(why == Some(reason)));
        }
    }

    /// So many addresses are left direct now by their names.
    pub fn known_addresses(&self, count: usize) {
        self.known_addresses.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// So many records more were dropped on their way to the store.
    pub fn records_dropped(&self, count: u64) {
        self.records_dropped.inc_by(count);
    }

    /// A rule is gone: its series go with it.
    pub fn forget_rule(&self, rule: &RuleId) {
        self.rules_gone.insert(rule.0.as_str().into(), ());
        self.rule_hits.remove(&RuleLabels { rule: rule.0.clone() });
    }

    /// A rule is there, perhaps again: an import may bring back what was exported, under its id.
    pub fn know_rule(&self, rule: &RuleId) {
        self.rules_gone.remove(&*rule.0);
    }

    /// The OpenMetrics text; `kernel` are the kernel half's counters.
    #[must_use]
    pub fn render(&self, kernel: &[(&'static str, u64)]) -> String {
        let mut counted = Registry::with_prefix("moxie_kernel");
        for (name, count) in kernel {
            counted.register(*name, "Counted by the kernel half", ConstCounter::new(*count));
        }
        let mut page = String::new();
        // Writing to a String cannot fail; the page would only be shorter if it could.
        let _ = text::encode_registry(&mut page, &self.registry)
            .and_then(|()| text::encode_registry(&mut page, &counted))
            .and_then(|()| text::encode_eof(&mut page));
        page
    }
}

fn status_class(status: Option<u16>) -> &'static str {
    match status {
        None => "none",
        Some(100..=199) => "1xx",
        Some(200..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(500..=599) => "5xx",
        Some(_) => "other",
    }
}

fn seconds(milliseconds: u64) -> f64 {
    Duration::from_millis(milliseconds).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::fixture::{connection, exchange};

    fn check(metrics: &Metrics, expected: &[&str]) {
        let page = metrics.render(&[("diverted", 7), ("map_full", 0)]);
        for line in expected {
            assert!(page.lines().any(|found| found == *line), "no `{line}` in\n{page}");
        }
    }

    #[test]
    fn every_metric_has_its_name_and_unit() {
        let metrics = Metrics::default();
        metrics.exchange(&exchange("a"));
        metrics.exchange(&Exchange { status: None, rule_id: None, injected_delay_ms: 0, ..exchange("b") });
        metrics.connection_opened();
        metrics.connection_opened();
        metrics.connection(&connection("c"));
        metrics.minted(Duration::from_micros(200));
        metrics.store_up(true);
        metrics.known_addresses(5);
        metrics.records_dropped(3);
        check(
            &metrics,
            &[
                "moxie_requests_total{outcome=\"responded\",status_class=\"4xx\"} 1",
                "moxie_requests_total{outcome=\"responded\",status_class=\"none\"} 1",
                "moxie_request_duration_seconds_count 2",
                "moxie_request_duration_seconds_sum 0.52",
                "moxie_injected_delay_seconds_bucket{le=\"0.25\"} 1",
                "moxie_injected_delay_seconds_count 1",
                "moxie_rule_hits_total{rule=\"rule\"} 1",
                "moxie_connections_active 1",
                "moxie_connections_total{protocol=\"tls\",verdict=\"intercept\",reason=\"rule_can_name\"} 1",
                "moxie_certificates_minted_total 1",
                "moxie_certificate_mint_seconds_bucket{le=\"0.00025\"} 1",
                "moxie_store_up 1",
                "moxie_shedding{reason=\"memory\"} 0",
                "moxie_known_addresses 5",
                "moxie_records_dropped_total 3",
                concat!("moxie_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
                "moxie_kernel_diverted_total 7",
                "moxie_kernel_map_full_total 0",
                "# EOF",
            ],
        );
    }

    #[test]
    fn a_removed_rule_leaves_no_series() {
        let metrics = Metrics::default();
        metrics.exchange(&exchange("a"));
        metrics.forget_rule(&RuleId("rule".into()));
        assert!(!metrics.render(&[]).contains("moxie_rule_hits_total"));
        // Its record is filed when the exchange ends, which may be after the rule.
        metrics.exchange(&exchange("b"));
        assert!(!metrics.render(&[]).contains("moxie_rule_hits_total"));
        metrics.know_rule(&RuleId("rule".into()));
        metrics.exchange(&exchange("c"));
        assert!(metrics.render(&[]).contains("moxie_rule_hits_total"));
    }
}
