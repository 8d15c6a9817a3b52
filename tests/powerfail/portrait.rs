//! What a store says about everything, as text: two openings that agree say the same.

use gateway::punch::*;
use gateway::store::{PunchFilter, Totals, View};

use super::facts::{self, MORNING, WORKERS};

/// Answers by the question's name.
pub type Portrait = Vec<(&'static str, String)>;

const PAGE: usize = 500;
/// Every rebuilding makes one more of them necessary.
const MOST_GLANCES: usize = 5;

/// Asks everything, again when a question found the view damaged: a list then shows what was there so far, and the view is
/// built again behind it. What is told of the store's own damage is left out: it may be told at any time after an opening.
pub fn portrait(view: &View) -> Portrait {
    let mut portrait = glance(view);
    for _ in 0..MOST_GLANCES {
        let again = glance(view);
        if again == portrait {
            break;
        }
        portrait = again;
    }
    portrait
}

fn glance(view: &View) -> Portrait {
    // The first answer waits until the view is whole.
    let mut portrait = vec![("workers", show(&view.workers())), ("roster version", show(&view.roster_version()))];
    for platform in [facts::national(), facts::provincial()] {
        portrait.push(("outbox", show(&view.outbox(&platform, Seq(0), usize::MAX))));
        portrait.push(("in flight", show(&view.uploads_in_flight(&platform))));
        portrait.push(("uploads", uploads(view, &platform)));
        portrait.push(("depth", show(&view.depth(&platform))));
        portrait.push(("last job", show(&view.last_job(&platform))));
    }
    portrait.push(("totals", show(&Totals { gaps: 0, ..view.totals() })));
    portrait.push(("punches", punches(view, &PunchFilter::default())));
    portrait.push(("unjudged", ids(view.unjudged(usize::MAX).iter())));
    portrait.push(("held", ids(view.held(Seq(0), usize::MAX).iter().map(|(_, punch)| punch))));
    for n in 0..8 {
        let by_terminal = PunchFilter { terminal: Some(facts::terminal(n)), ..PunchFilter::default() };
        portrait.push(("punches of a terminal", punches(view, &by_terminal)));
    }
    for n in 0..WORKERS {
        let worker = facts::worker_id(n);
        portrait.push(("worker's verified punches", show(&view.verified_of(&worker, MORNING, UnixMs(i64::MAX)))));
    }
    let window = PunchFilter {
        from: Some(MORNING.plus_ms(100_000)),
        to: Some(MORNING.plus_ms(300_000)),
        ..PunchFilter::default()
    };
    portrait.push(("punches of a time", punches(view, &window)));
    portrait.push(("last day head", show(&view.last_day_head())));
    portrait.push(("presences", show(&view.presences(MORNING))));
    portrait.push(("adoptions", show(&view.adoptions())));
    portrait
}

/// The first question that is answered differently.
pub fn difference(first: &Portrait, second: &Portrait) -> Option<String> {
    let (question, a, b) =
        first.iter().zip(second).find_map(|((question, a), (_, b))| (a != b).then_some((question, a, b)))?;
    let at = a.bytes().zip(b.bytes()).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
    let around = |text: &str| text.chars().skip(at.saturating_sub(80)).take(240).collect::<String>();
    Some(format!("{question}: {} against {}", around(a), around(b)))
}

fn show(answer: &impl std::fmt::Debug) -> String {
    format!("{answer:?}")
}

fn ids<'p>(punches: impl Iterator<Item = &'p Punch>) -> String {
    punches.map(|punch| format!("{} ", punch.id)).collect()
}

fn punches(view: &View, filter: &PunchFilter) -> String {
    let mut cursor = None;
    let mut text = String::new();
    loop {
        let page = view.punches(filter, cursor.as_deref(), PAGE);
        page.items.iter().for_each(|row| text += &format!("{row:?}\n"));
        cursor = page.next;
        if cursor.is_none() {
            return text;
        }
    }
}

fn uploads(view: &View, platform: &PlatformName) -> String {
    let mut cursor = None;
    let mut text = String::new();
    loop {
        let page = view.uploads(platform, None, cursor.as_deref(), PAGE);
        page.items.iter().for_each(|row| text += &format!("{row:?}\n"));
        cursor = page.next;
        if cursor.is_none() {
            return text;
        }
    }
}
