//! What the overview shows at one moment, read from view, board and alarms at a bounded cost.

use std::collections::{BTreeMap, HashMap};

use jiff::tz::Offset;

use super::super::Context;
use super::super::api::uploads_of;
use crate::mask;
use crate::ops::alarms::Alarm;
use crate::ops::board::{PlatformStatus, TerminalStatus};
use crate::punch::*;
use crate::store::{Depth, Presence, PunchRow, StoreHealth, UploadRow, View};

/// Punches on the page.
const PUNCHES: usize = 40;

/// The overview's content, as plain values.
pub struct Snapshot {
    pub now: UnixMs,
    pub site: Offset,
    pub intake_open: bool,
    pub store: StoreHealth,
    pub head_count: HeadCount,
    /// Newest first.
    pub punches: Vec<PunchLine>,
    pub terminals: Vec<TerminalStatus>,
    pub platforms: Vec<PlatformLine>,
    pub alarms: Vec<Alarm>,
}

/// Who is on site: workers whose last verified punch today is `in`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HeadCount {
    pub total: usize,
    /// The largest team first.
    pub teams: Vec<(TeamKey, usize)>,
}

/// One punch as it is shown.
pub struct PunchLine {
    pub row: PunchRow,
    /// Masked; `None` while nobody is known for it.
    pub name: Option<String>,
    pub uploads: Vec<(PlatformName, UploadRow)>,
}

/// What waits for one platform.
pub struct PlatformLine {
    pub name: PlatformName,
    pub depth: Depth,
    pub status: Option<PlatformStatus>,
}

/// What the pages need of the roster, read again only when it has changed.
#[derive(Default)]
pub struct Names {
    version: Seq,
    workers: HashMap<WorkerId, Entry>,
}

struct Entry {
    masked_name: String,
    team: TeamKey,
}

impl Names {
    fn refresh(&mut self, view: &View) {
        let version = view.roster_version();
        if version == self.version {
            return;
        }
        self.version = version;
        self.workers = view.workers().into_iter().map(|worker| (worker.worker_id.clone(), Entry::of(worker))).collect();
    }
}

impl Entry {
    fn of(worker: Worker) -> Entry {
        Entry { masked_name: mask::name(&worker.name), team: worker.team }
    }
}

impl Snapshot {
    /// Reads everything; blocks for some page reads of the view.
    pub fn take(context: &Context, view: &View, names: &mut Names) -> Snapshot {
        names.refresh(view);
        let now = context.clock.now();
        let site = context.config.site.utc_offset;
        let platforms: Vec<PlatformName> = context.config.platforms.iter().map(|one| one.name.clone()).collect();
        let board = context.ops.board.platforms();
        Snapshot {
            now,
            site,
            intake_open: context.ops.board.intake_open(),
            store: context.store.health(),
            head_count: head_count(&view.presences(midnight(now, site)), names),
            punches: view.latest(PUNCHES).into_iter().map(|row| punch_line(view, row, names, &platforms)).collect(),
            terminals: context.ops.board.terminals(),
            platforms: platforms
                .iter()
                .map(|name| PlatformLine {
                    name: name.clone(),
                    depth: view.depth(name),
                    status: board.iter().find(|status| status.name == *name).cloned(),
                })
                .collect(),
            alarms: context.ops.alarms.list(),
        }
    }
}

fn punch_line(view: &View, row: PunchRow, names: &Names, platforms: &[PlatformName]) -> PunchLine {
    let worker = row.judgement.as_ref().and_then(|judgement| judgement.worker.as_ref());
    let name = worker.map(|id| names.workers.get(id).map_or_else(|| id.0.clone(), |entry| entry.masked_name.clone()));
    let uploads = uploads_of(view, &row, platforms);
    PunchLine { row, name, uploads }
}

fn head_count(presences: &[Presence], names: &Names) -> HeadCount {
    let mut teams = BTreeMap::<TeamKey, usize>::new();
    let mut total = 0;
    for presence in presences.iter().filter(|presence| presence.direction == Direction::In) {
        total += 1;
        if let Some(entry) = names.workers.get(&presence.worker) {
            *teams.entry(entry.team.clone()).or_default() += 1;
        }
    }
    let mut teams: Vec<(TeamKey, usize)> = teams.into_iter().collect();
    teams.sort_by(|(key, count), (other_key, other)| other.cmp(count).then_with(|| key.cmp(other_key)));
    HeadCount { total, teams }
}

/// The beginning of the site's day.
pub fn midnight(now: UnixMs, site: Offset) -> UnixMs {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    let local = now.0 + i64::from(site.seconds()) * 1000;
    UnixMs(now.0 - local.rem_euclid(DAY_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(worker: &str, direction: Direction) -> Presence {
        Presence { worker: worker.into(), punch: PunchId([0; 16]), terminal: "gate".into(), time: UnixMs(0), direction }
    }

    #[test]
    fn on_site_are_those_who_came_in_and_have_not_gone_out() {
        let team = |name: &str| TeamKey { employer: "昌建总承包".to_owned(), name: name.to_owned() };
        let entry = |name: &str| Entry { masked_name: String::new(), team: team(name) };
        let workers = [("A", "钢筋"), ("B", "木工"), ("C", "木工"), ("D", "木工")];
        let names = Names {
            version: Seq(1),
            workers: workers.iter().map(|(id, team)| (WorkerId::from(*id), entry(team))).collect(),
        };
        let presences = [
            presence("A", Direction::In),
            presence("B", Direction::In),
            presence("C", Direction::In),
            presence("D", Direction::Out),
            presence("gone-from-roster", Direction::In),
        ];
        let count = head_count(&presences, &names);
        assert_eq!(count, HeadCount { total: 4, teams: vec![(team("木工"), 2), (team("钢筋"), 1)] });
    }

    #[test]
    fn the_day_begins_at_the_sites_midnight() {
        let at = |text: &str| UnixMs(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let beijing = Offset::from_hours(8).unwrap();
        assert_eq!(midnight(at("2026-03-02T07:01:05+08:00"), beijing), at("2026-03-02T00:00:00+08:00"));
        assert_eq!(midnight(at("2026-03-02T00:00:00+08:00"), beijing), at("2026-03-02T00:00:00+08:00"));
        assert_eq!(midnight(at("2026-03-01T23:59:59.999+08:00"), beijing), at("2026-03-01T00:00:00+08:00"));
        assert_eq!(
            midnight(at("1969-12-31T12:00:00-05:00"), Offset::from_hours(-5).unwrap()),
            at("1969-12-31T00:00:00-05:00")
        );
    }
}
