//! Which punches leave next: batches of one team, oldest first, with a share for back-fill.

use std::collections::BTreeMap;
use std::time::Instant;

use super::registry::Readiness;
use super::window::Item;
use super::{Courier, Now, OUTSTANDING, Order};
use crate::punch::{Subject, WorkerId};
use crate::upload::profiles::{Attendance, Request};

/// Of ten requests, so many prefer teams with punches of today; the others prefer the oldest.
const LIVE_TURNS: u64 = 7;

/// What one worker could send now, in order.
struct Run<'a> {
    items: Vec<&'a Item>,
    live: bool,
}

/// What one team could send now.
#[derive(Default)]
struct Offer<'a> {
    runs: Vec<Run<'a>>,
}

impl Offer<'_> {
    fn len(&self) -> usize {
        self.runs.iter().map(|run| run.items.len()).sum()
    }

    fn is_live(&self) -> bool {
        self.runs.iter().any(|run| run.live)
    }

    fn oldest(&self) -> Option<&Item> {
        self.runs.iter().filter_map(|run| run.items.first().copied()).min_by_key(|item| (item.out.time, item.out.seq))
    }

    fn waits_since(&self) -> Option<Instant> {
        self.runs.iter().flat_map(|run| &run.items).map(|item| item.since).min()
    }

    /// Items that were sent before do not wait for company.
    fn has_retries(&self) -> bool {
        self.runs.iter().flat_map(|run| &run.items).any(|item| item.retry.cap != usize::MAX || item.retry.tries > 0)
    }
}

impl Courier {
    pub(super) fn order_attendance(&mut self, now: Now) -> Option<Order> {
        if self.window.len() == 0 || self.jobs.outstanding() >= OUTSTANDING {
            return None;
        }
        let offers = self.offers(now);
        let prefers_live = self.turn % 10 < LIVE_TURNS;
        let due = || offers.iter().filter(|(_, offer)| self.is_due(now, offer));
        // A team that awaits no result goes first: should a batch fail, nothing later has overtaken it.
        let awaits = |number: &str| self.jobs.has_attendance_of(number);
        let live = || {
            let live = due().filter(|(_, offer)| offer.is_live());
            live.min_by_key(|(number, offer)| (awaits(number), offer.waits_since()))
        };
        let oldest = || {
            due().min_by_key(|(number, offer)| {
                (awaits(number), offer.oldest().map(|item| (item.out.time, item.out.seq)))
            })
        };
        let (number, offer) = if prefers_live { live().or_else(oldest) } else { oldest() }?;
        let batch = self.batch(offer, prefers_live);
        let punches: Vec<Attendance> = batch.into_iter().filter_map(|item| self.attendance(item)).collect();
        let number = number.clone();
        self.turn += 1;
        let subjects = punches.iter().map(|punch| Subject::Punch(punch.out.punch)).collect();
        let images = self.settings.platform.send_images;
        let request = Request::AddAttendance { team_number: number.clone(), punches, images };
        Some(self.submit(now, request, subjects, Some(number)))
    }

    fn attendance(&self, item: &Item) -> Option<Attendance> {
        let id_number = self.registry.worker(&item.out.worker)?.id_number.clone();
        Some(Attendance { out: item.out.clone(), id_number })
    }

    /// A batch leaves when it is full or its oldest punch has waited long enough.
    fn is_due(&self, now: Now, offer: &Offer<'_>) -> bool {
        let waited = offer.waits_since().is_some_and(|since| since + self.settings.platform.batch_wait <= now.instant);
        offer.len() >= self.batch_limit() || waited || offer.has_retries()
    }

    fn batch_limit(&self) -> usize {
        self.settings.platform.batch.clamp(1, self.profile.caps().punches)
    }

    /// The first items of an offer that may travel together, oldest first.
    fn batch<'a>(&self, offer: &Offer<'a>, prefers_live: bool) -> Vec<&'a Item> {
        let mut runs: Vec<&Run<'a>> = offer.runs.iter().collect();
        runs.sort_by_key(|run| {
            let head = run.items.first().map(|item| (item.out.time, item.out.seq));
            (prefers_live && !run.live, head)
        });
        let cap = runs.first().and_then(|run| run.items.first()).map_or(1, |item| item.retry.cap);
        let limit = self.batch_limit().min(cap);
        let fellows = runs.iter().flat_map(|run| run.items.iter().take_while(|item| item.retry.cap == cap));
        let mut batch: Vec<&Item> = if prefers_live {
            fellows.take(limit).copied().collect()
        } else {
            let mut all: Vec<&Item> = fellows.copied().collect();
            all.sort_by_key(|item| (item.out.time, item.out.seq));
            all.truncate(limit);
            all
        };
        batch.sort_by_key(|item| (item.out.time, item.out.seq));
        batch
    }

    /// What each team could send now.
    fn offers(&self, now: Now) -> BTreeMap<String, Offer<'_>> {
        let today = self.date_of(now.wall);
        let mut offers: BTreeMap<String, Offer<'_>> = BTreeMap::new();
        for (worker, queue) in self.window.queues() {
            let Readiness::Ready(number) = self.registry.readiness(worker) else { continue };
            if self.scan.as_ref().is_some_and(|scan| scan.team_number == number) {
                continue;
            }
            let one_at_a_time = self.cautious.contains(&number);
            if one_at_a_time && self.jobs.has_attendance_of(&number) {
                continue;
            }
            let items = self.run(now, queue);
            if items.is_empty() {
                continue;
            }
            let live = queue.last().is_some_and(|item| self.date_of(item.out.time) == today);
            offers.entry(number).or_default().runs.push(Run { items, live });
        }
        offers
    }

    /// The worker's next punches, up to the first that has to wait: none overtakes another.
    fn run<'a>(&self, now: Now, queue: &'a [Item]) -> Vec<&'a Item> {
        let underway = |item: &&Item| item.job.is_some_and(|job| self.jobs.is_accepted(job));
        let can_go = |item: &&Item| {
            item.job.is_none()
                && !item.is_unsure
                && item.out.time <= now.wall
                && item.retry.not_before.is_none_or(|at| at <= now.instant)
        };
        queue.iter().skip_while(underway).take_while(can_go).take(self.batch_limit()).collect()
    }

    /// When a punch that waits could leave.
    pub(super) fn next_attendance(&self, now: Now) -> Option<Instant> {
        let wait = self.settings.platform.batch_wait;
        let idle = self.window.queues().flat_map(|(_, queue)| queue).filter(|item| item.job.is_none());
        let times = idle.flat_map(|item| [Some(item.since + wait), item.retry.not_before]);
        times.flatten().filter(|at| *at > now.instant).min()
    }

    pub(super) fn is_ready(&self, worker: &WorkerId) -> bool {
        matches!(self.registry.readiness(worker), Readiness::Ready(_))
    }
}
