//! The overview's sections as HTML: plain values in, text out.

use askama::Template;
use jiff::tz::Offset;

use super::super::api::shape;
use super::snapshot::{PlatformLine, PunchLine, Snapshot, midnight};
use super::words::Language;
use crate::ops::alarms::{Alarm, Severity};
use crate::ops::board::{CourierState, TerminalStatus};
use crate::punch::{UnixMs, UploadState, Verdict};
use crate::store::StoreHealth;

/// Longer lists are cut, and say so.
const LINES: usize = 100;
/// Beyond this a terminal's clock is shown as wrong.
const SKEW_LIMIT_MS: i64 = 120_000;

/// Who looks, and in which language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    pub language: Language,
    /// Logged in: pending terminals come with a way to approve them.
    pub member: bool,
}

impl Variant {
    /// All of them, in the order of [`Variant::index`].
    pub fn all() -> [Variant; 4] {
        let [first, second] = Language::ALL;
        [(first, false), (first, true), (second, false), (second, true)]
            .map(|(language, member)| Variant { language, member })
    }

    /// Its place in [`Variant::all`].
    pub fn index(self) -> usize {
        let language = match self.language {
            Language::Zh => 0,
            Language::En => 2,
        };
        language + usize::from(self.member)
    }
}

/// A part of the overview that is replaced as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Alarms,
    OnSite,
    Platforms,
    Terminals,
    Punches,
}

/// All sections, in the order in which they are sent.
pub const SECTIONS: [Section; 5] =
    [Section::Alarms, Section::OnSite, Section::Platforms, Section::Terminals, Section::Punches];

impl Section {
    /// The id of its element on the page.
    pub fn id(self) -> &'static str {
        match self {
            Section::Alarms => "alarms",
            Section::OnSite => "on-site",
            Section::Platforms => "platforms",
            Section::Terminals => "terminals",
            Section::Punches => "punches",
        }
    }

    /// Its inner HTML.
    pub fn render(self, snapshot: &Snapshot, variant: Variant) -> String {
        let t = variant.language;
        let clock = Clock { site: snapshot.site, midnight: midnight(snapshot.now, snapshot.site) };
        let html = match self {
            Section::Alarms => AlarmsPart { t, clock, snapshot }.render(),
            Section::OnSite => OnSitePart { t, snapshot }.render(),
            Section::Platforms => PlatformsPart { t, clock, platforms: &snapshot.platforms }.render(),
            Section::Terminals => {
                TerminalsPart { t, clock, terminals: &snapshot.terminals, member: variant.member }.render()
            }
            Section::Punches => PunchesPart { t, clock, punches: &snapshot.punches }.render(),
        };
        html.expect("writing to a String cannot fail")
    }
}

#[derive(Template)]
#[template(path = "alarms.html")]
struct AlarmsPart<'a> {
    t: Language,
    clock: Clock,
    snapshot: &'a Snapshot,
}

impl AlarmsPart<'_> {
    /// Why punches are not taken now, if they are not.
    fn trouble(&self) -> Option<&'static str> {
        match self.snapshot.store {
            StoreHealth::Failing { .. } => Some(self.t.pick(
                "存储故障，暂停接收打卡；设备会保留记录，恢复后自动补传。",
                "The store is failing, punches are not taken. Terminals keep them and send them again.",
            )),
            StoreHealth::Full { .. } => Some(self.t.pick(
                "磁盘已满，暂停接收打卡；设备会保留记录，腾出空间后自动补传。",
                "The disk is full, punches are not taken. Terminals keep them and send them again.",
            )),
            StoreHealth::Open if !self.snapshot.intake_open => {
                Some(self.t.pick("正在启动，尚未接收打卡。", "Starting: punches are not taken yet."))
            }
            StoreHealth::Open => None,
        }
    }

    fn alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.snapshot.alarms.iter().take(LINES)
    }

    fn more(&self) -> usize {
        self.snapshot.alarms.len().saturating_sub(LINES)
    }
}

#[derive(Template)]
#[template(path = "on_site.html")]
struct OnSitePart<'a> {
    t: Language,
    snapshot: &'a Snapshot,
}

#[derive(Template)]
#[template(path = "platforms.html")]
struct PlatformsPart<'a> {
    t: Language,
    clock: Clock,
    platforms: &'a [PlatformLine],
}

impl PlatformsPart<'_> {
    fn class(&self, line: &PlatformLine) -> &'static str {
        match line.status.as_ref().map(|status| status.state) {
            Some(CourierState::Running) => "good",
            Some(CourierState::Unreachable) | None => "wait",
            Some(CourierState::Stopped) => "bad",
        }
    }

    fn state(&self, line: &PlatformLine) -> &'static str {
        self.t.courier(line.status.as_ref().map(|status| status.state))
    }

    fn note<'a>(&self, line: &'a PlatformLine) -> Option<&'a str> {
        line.status.as_ref()?.note.as_deref()
    }
}

#[derive(Template)]
#[template(path = "terminals.html")]
struct TerminalsPart<'a> {
    t: Language,
    clock: Clock,
    terminals: &'a [TerminalStatus],
    member: bool,
}

impl TerminalsPart<'_> {
    /// Pending terminals first: somebody has to look at them.
    fn shown(&self) -> Vec<&TerminalStatus> {
        let mut all: Vec<&TerminalStatus> = self.terminals.iter().collect();
        all.sort_by_key(|status| (!status.pending, status.online));
        all.truncate(LINES);
        all
    }

    fn more(&self) -> usize {
        self.terminals.len().saturating_sub(LINES)
    }

    fn class(&self, status: &TerminalStatus) -> &'static str {
        match shape::terminal_state(status) {
            "online" => "good",
            "pending" => "wait",
            _ => "bad",
        }
    }

    fn state(&self, status: &TerminalStatus) -> &'static str {
        match shape::terminal_state(status) {
            "online" => self.t.pick("在线", "online"),
            "pending" => self.t.pick("待批准", "pending"),
            _ => self.t.pick("离线", "offline"),
        }
    }

    fn skew(&self, status: &TerminalStatus) -> String {
        status.skew_ms.map_or_else(|| "–".to_owned(), |ms| format!("{:+.1} s", ms as f64 / 1000.0))
    }

    fn skewed(&self, status: &TerminalStatus) -> bool {
        status.skew_ms.is_some_and(|ms| ms.abs() > SKEW_LIMIT_MS)
    }
}

#[derive(Template)]
#[template(path = "punches.html")]
struct PunchesPart<'a> {
    t: Language,
    clock: Clock,
    punches: &'a [PunchLine],
}

impl PunchesPart<'_> {
    fn verdict(&self, line: &PunchLine) -> Option<Verdict> {
        line.row.judgement.as_ref().map(|judgement| judgement.verdict)
    }

    fn class(&self, line: &PunchLine) -> &'static str {
        match self.verdict(line) {
            Some(Verdict::Verified) => "good",
            Some(Verdict::Held(_)) | None => "wait",
            Some(Verdict::Rejected(_)) => "bad",
        }
    }

    fn direction(&self, line: &PunchLine) -> &'static str {
        let judged = line.row.judgement.as_ref().map(|judgement| judgement.direction);
        self.t.direction(judged.unwrap_or(line.row.direction))
    }

    fn name<'a>(&self, line: &'a PunchLine) -> &'a str {
        line.name.as_deref().unwrap_or("–")
    }

    fn upload_class(&self, state: &UploadState) -> &'static str {
        match state {
            UploadState::Confirmed => "good",
            UploadState::Refused => "bad",
            UploadState::Queued
            | UploadState::Waiting
            | UploadState::Sending
            | UploadState::Accepted
            | UploadState::Unknown
            | UploadState::Withdrawn => "wait",
        }
    }
}

/// Times as people read them on the site.
struct Clock {
    site: Offset,
    midnight: UnixMs,
}

impl Clock {
    /// The hour for today, with the day before it otherwise.
    fn short(&self, at: &UnixMs) -> String {
        let today = (0..24 * 3_600_000).contains(&at.since(self.midnight));
        self.format(*at, if today { "%H:%M:%S" } else { "%m-%d %H:%M" })
    }

    fn short_or_dash(&self, at: &Option<UnixMs>) -> String {
        at.as_ref().map_or_else(|| "–".to_owned(), |at| self.short(at))
    }

    /// For machines.
    fn full(&self, at: &UnixMs) -> String {
        shape::time(*at, self.site)
    }

    fn format(&self, at: UnixMs, form: &str) -> String {
        match jiff::Timestamp::from_millisecond(at.0) {
            Ok(at) => self.site.to_datetime(at).strftime(form).to_string(),
            Err(_) => "–".to_owned(),
        }
    }
}

#[cfg(test)]
#[path = "fragments_tests.rs"]
mod tests;
