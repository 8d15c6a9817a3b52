//! Numbers over time, in Prometheus' text format. Names begin with `anxin_` and carry their unit.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Which terminal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TerminalLabel {
    pub terminal: String,
}

/// Which platform.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PlatformLabel {
    pub platform: String,
}

/// Which line, and what kind of damage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LineLabel {
    pub line: String,
    pub kind: String,
}

/// Which verdict and reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct VerdictLabel {
    pub verdict: String,
    pub reason: String,
}

/// Which platform, and how the request ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabel {
    pub platform: String,
    pub outcome: String,
}

/// Every number that the gateway counts while it runs. Numbers that the store or the board already keep are added by
/// the console when it is asked.
pub struct Metrics {
    registry: Registry,
    /// Punches made durable, per terminal.
    pub punches: Family<TerminalLabel, Counter>,
    /// Redelivered punches that collapsed into an earlier one.
    pub redelivered: Family<TerminalLabel, Counter>,
    /// From the punch's bytes to its acknowledgement.
    pub acknowledge_seconds: Histogram,
    /// Judgements, per verdict and reason.
    pub judgements: Family<VerdictLabel, Counter>,
    /// Damage on serial lines, per kind: crc, cobs, forged, stale, timeout, reopened …
    pub line_damage: Family<LineLabel, Counter>,
    /// Requests to platforms, per outcome.
    pub requests: Family<RequestLabel, Counter>,
    /// Receipts, per platform.
    pub receipts: Family<PlatformLabel, Counter>,
    /// MQTT clients now connected to the embedded endpoint.
    pub mqtt_clients: Gauge,
    /// MQTT logins refused.
    pub mqtt_refused: Counter,
    /// Publications refused because the topic is not the terminal's own.
    pub mqtt_foreign_topics: Counter,
    /// Records put into quarantine.
    pub quarantined: Family<TerminalLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("anxin");
        let punches = Family::default();
        registry.register("punches", "Punches made durable", punches.clone());
        let redelivered = Family::default();
        registry.register("redelivered", "Punches that a terminal sent again", redelivered.clone());
        let acknowledge_seconds = Histogram::new(exponential_buckets(0.000_5, 2.0, 14));
        registry.register_with_unit(
            "acknowledge",
            "From a punch's bytes to its acknowledgement",
            Unit::Seconds,
            acknowledge_seconds.clone(),
        );
        let judgements = Family::default();
        registry.register("judgements", "Verdicts given", judgements.clone());
        let line_damage = Family::default();
        registry.register("line_damage", "Damage on serial lines", line_damage.clone());
        let requests = Family::default();
        registry.register("platform_requests", "Requests to platforms", requests.clone());
        let receipts = Family::default();
        registry.register("receipts", "Receipts from platforms", receipts.clone());
        let mqtt_clients = Gauge::default();
        registry.register("mqtt_clients", "MQTT clients connected", mqtt_clients.clone());
        let mqtt_refused = Counter::default();
        registry.register("mqtt_logins_refused", "MQTT logins refused", mqtt_refused.clone());
        let mqtt_foreign_topics = Counter::default();
        registry.register(
            "mqtt_foreign_topics",
            "MQTT publications and subscriptions refused because the topic is not the terminal's own",
            mqtt_foreign_topics.clone(),
        );
        let quarantined = Family::default();
        registry.register("quarantined", "Records put into quarantine", quarantined.clone());
        Metrics {
            registry,
            punches,
            redelivered,
            acknowledge_seconds,
            judgements,
            line_damage,
            requests,
            receipts,
            mqtt_clients,
            mqtt_refused,
            mqtt_foreign_topics,
            quarantined,
        }
    }

    /// The text that `/metrics` answers, to which the console appends its own gauges.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }
}
