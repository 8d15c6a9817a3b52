//! `GET /metrics`: what the parts count, and what store, board and process say at this moment.

use std::path::Path;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use super::{Console, Here};
use crate::ops::alarms::Severity;
use crate::ops::board::CourierState;
use crate::ops::metrics::PlatformLabel;
use crate::ops::wear::Wear;
use crate::punch::{PlatformName, UnixMs};
use crate::store::{Depth, StoreCounters, StoreHealth, Totals};

/// The text format of OpenMetrics, which ends with this line.
const END: &str = "# EOF\n";
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// Everything that is read at this moment.
struct Moment {
    now: UnixMs,
    started: UnixMs,
    resident_bytes: Option<u64>,
    wear: Wear,
    intake_open: bool,
    health: StoreHealth,
    counters: StoreCounters,
    totals: Totals,
    platforms: Vec<(PlatformName, Depth, Option<CourierState>)>,
    online: u64,
    offline: u64,
    pending: u64,
    critical: u64,
    warning: u64,
}

/// The metrics of all parts, then those of this moment, then one end line.
pub async fn answer(State(console): Here) -> Response {
    let moment = Moment::read(&console).await;
    let text = joined(&console.context.ops.metrics.encode(), &moment.encode());
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

fn joined(first: &str, second: &str) -> String {
    let first = first.strip_suffix(END).unwrap_or(first);
    format!("{first}{second}")
}

impl Moment {
    async fn read(console: &Console) -> Moment {
        let context = &console.context;
        let names: Vec<PlatformName> = context.config.platforms.iter().map(|platform| platform.name.clone()).collect();
        let (totals, depths) = context
            .store
            .read(move |view| {
                let depths: Vec<_> = names.into_iter().map(|name| (view.depth(&name), name)).collect();
                (view.totals(), depths)
            })
            .await;
        let board = context.ops.board.platforms();
        let state = |name: &PlatformName| board.iter().find(|status| status.name == *name).map(|status| status.state);
        let terminals = context.ops.board.terminals();
        let alarms = context.ops.alarms.list();
        let count = |n: usize| n as u64;
        let running = context.clock.instant().saturating_duration_since(console.started);
        let now = context.clock.now();
        Moment {
            now,
            started: now.plus_ms(-(running.as_millis() as i64)),
            resident_bytes: resident_bytes().await,
            wear: wear(&console.context.config.data_dir).await,
            intake_open: context.ops.board.intake_open(),
            health: context.store.health(),
            counters: context.store.counters(),
            totals,
            platforms: depths.into_iter().map(|(depth, name)| (name.clone(), depth, state(&name))).collect(),
            online: count(terminals.iter().filter(|terminal| terminal.online && !terminal.pending).count()),
            offline: count(terminals.iter().filter(|terminal| !terminal.online && !terminal.pending).count()),
            pending: count(terminals.iter().filter(|terminal| terminal.pending).count()),
            critical: count(alarms.iter().filter(|alarm| alarm.severity == Severity::Critical).count()),
            warning: count(alarms.iter().filter(|alarm| alarm.severity == Severity::Warning).count()),
        }
    }

    fn encode(&self) -> String {
        let mut registry = Registry::default();
        self.register_process(&mut registry);
        let anxin = registry.sub_registry_with_prefix("anxin");
        self.register_store(anxin);
        self.register_wear(anxin);
        self.register_platforms(anxin);
        let flag = |on: bool| ConstGauge::new(i64::from(on));
        anxin.register("intake_open", "Whether terminals are served", flag(self.intake_open));
        anxin.register(
            "terminals",
            "Terminals on the board",
            states([("online", self.online), ("offline", self.offline), ("pending", self.pending)]),
        );
        anxin.register("alarms", "Standing alarms", states([("critical", self.critical), ("warning", self.warning)]));
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a String cannot fail");
        text
    }

    fn register_process(&self, registry: &mut Registry) {
        let started = ConstGauge::new(self.started.0 as f64 / 1000.0);
        registry.register_with_unit("process_start_time", "Start of the process since 1970", Unit::Seconds, started);
        if let Some(bytes) = self.resident_bytes {
            let bytes = ConstGauge::new(bytes as i64);
            registry.register_with_unit("process_resident_memory", "Resident memory", Unit::Bytes, bytes);
        }
        if let Some(written) = self.wear.written {
            let written = ConstCounter::new(written);
            registry.register_with_unit("process_written", "Written to disks since the start", Unit::Bytes, written);
        }
    }

    fn register_store(&self, anxin: &mut Registry) {
        let (counters, totals) = (&self.counters, &self.totals);
        let health = match self.health {
            StoreHealth::Open => "open",
            StoreHealth::Failing { .. } => "failing",
            StoreHealth::Full { .. } => "full",
        };
        let one_of = ["open", "failing", "full"].map(|state| (state, u64::from(state == health)));
        anxin.register("store_state", "1 for the state the store is in", states(one_of));
        anxin.register("store_facts", "Facts made durable since the start", ConstCounter::new(counters.facts));
        anxin.register("store_commits", "Group commits since the start", ConstCounter::new(counters.commits));
        let bytes = ConstCounter::new(counters.ledger_bytes);
        anxin.register_with_unit("store_ledger", "Written to the ledger since the start", Unit::Bytes, bytes);
        let bytes = ConstCounter::new(counters.view_bytes);
        anxin.register_with_unit("store_view", "Written to the working view since the start", Unit::Bytes, bytes);
        anxin.register(
            "ledger_punches",
            "Punches in the ledger by their latest verdict",
            states([
                ("unjudged", totals.unjudged),
                ("verified", totals.verified),
                ("held", totals.held),
                ("rejected", totals.rejected),
            ]),
        );
        let gauge = |n: u64| ConstGauge::new(n as i64);
        anxin.register("ledger_quarantined", "Unreadable records in the ledger", gauge(totals.quarantined));
        anxin.register("ledger_strangers", "Strangers' pictures in the ledger", gauge(totals.strangers));
        anxin.register("ledger_gaps", "Gaps in the ledger", gauge(totals.gaps));
    }

    /// What the disk still has before it.
    fn register_wear(&self, anxin: &mut Registry) {
        if let Some(written) = self.wear.written.filter(|_| self.counters.punches > 0) {
            let each = ConstGauge::new(written as f64 / self.counters.punches as f64);
            anxin.register_with_unit("punch_written", "Written to disks since the start, per punch", Unit::Bytes, each);
        }
        if let Some(used) = self.wear.used {
            let used = ConstGauge::new(used);
            anxin.register_with_unit("disk_life_used", "Used life of the disk, by its account", Unit::Ratios, used);
        }
        let running = Duration::from_millis(self.now.since(self.started).max(0) as u64);
        if let Some(years) = self.wear.years_left(running) {
            let help = "Years until every block has been written 1000 times, as since the start";
            anxin.register("disk_life_left_years", help, ConstGauge::new(years));
        }
    }

    fn register_platforms(&self, anxin: &mut Registry) {
        let family = || Family::<PlatformLabel, Gauge>::default();
        let (open, oldest, confirmed, refused, running) = (family(), family(), family(), family(), family());
        for (name, depth, state) in &self.platforms {
            let label = PlatformLabel { platform: name.0.clone() };
            let age_s = depth.oldest.map_or(0, |oldest| self.now.since(oldest).max(0) / 1000);
            open.get_or_create(&label).set(depth.open as i64);
            oldest.get_or_create(&label).set(age_s);
            confirmed.get_or_create(&label).set(depth.confirmed as i64);
            refused.get_or_create(&label).set(depth.refused as i64);
            running.get_or_create(&label).set(i64::from(*state == Some(CourierState::Running)));
        }
        anxin.register("outbox_open", "Verified punches without a receipt", open);
        anxin.register_with_unit("outbox_oldest_age", "Age of the oldest of them", Unit::Seconds, oldest);
        anxin.register("outbox_confirmed", "Punches that the platform has", confirmed);
        anxin.register("outbox_refused", "Punches that the platform will not have", refused);
        anxin.register("platform_running", "Whether the platform answers", running);
    }
}

fn states<const N: usize>(counts: [(&'static str, u64); N]) -> Family<StateLabel, Gauge> {
    let family = Family::<StateLabel, Gauge>::default();
    for (state, count) in counts {
        family.get_or_create(&StateLabel { state }).set(count as i64);
    }
    family
}

async fn wear(dir: &Path) -> Wear {
    let dir = dir.to_owned();
    // A panic in there would only be one more thing that is not known.
    tokio::task::spawn_blocking(move || Wear::look(&dir)).await.unwrap_or_default()
}

/// Resident memory as the kernel counts it (`VmRSS` in proc(5), in KiB).
async fn resident_bytes() -> Option<u64> {
    let status = tokio::fs::read_to_string("/proc/self/status").await.ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::metrics::Metrics;

    fn moment() -> Moment {
        let depth = Depth { open: 7, oldest: Some(UnixMs(940_000)), confirmed: 5, refused: 1 };
        Moment {
            now: UnixMs(1_000_000),
            started: UnixMs(1_500),
            resident_bytes: Some(4096),
            wear: Wear { written: Some(9_000), used: Some(0.2), disk: Some(1 << 33) },
            intake_open: true,
            health: StoreHealth::Open,
            counters: StoreCounters { facts: 3, punches: 2, ..StoreCounters::default() },
            totals: Totals { punches: 4, held: 4, ..Totals::default() },
            platforms: vec![(PlatformName::from("na\"tional"), depth, Some(CourierState::Running))],
            online: 2,
            offline: 1,
            pending: 0,
            critical: 0,
            warning: 1,
        }
    }

    #[test]
    fn both_texts_become_one_exposition_with_one_end() {
        let text = joined(&Metrics::new().encode(), &moment().encode());
        assert!(text.ends_with(END) && text.matches("# EOF").count() == 1, "{text}");
        for line in [
            "process_resident_memory_bytes 4096",
            "process_start_time_seconds 1.5",
            "anxin_outbox_open{platform=\"na\\\"tional\"} 7",
            "anxin_outbox_oldest_age_seconds{platform=\"na\\\"tional\"} 60",
            "anxin_store_facts_total 3",
            "process_written_bytes_total 9000",
            "anxin_punch_written_bytes 4500.0",
            "anxin_disk_life_used_ratios 0.2",
            "anxin_ledger_punches{state=\"held\"} 4",
            "anxin_terminals{state=\"online\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn every_family_is_declared_once() {
        let text = joined(&Metrics::new().encode(), &moment().encode());
        let mut families: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let declared = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), declared);
    }
}
