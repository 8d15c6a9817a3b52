//! The churn: punches are verified, uploaded in batches and settled, in the ways that couriers go, while the roster changes.

use std::io;
use std::ops::Range;

use gateway::punch::*;

use super::facts::{self, national, provincial};
use super::workload::Site;

/// Punches that one job carries at most.
const BATCH: usize = 20;
/// Punches between two jobs.
const ROUND: u32 = 8;

pub struct Courier {
    site: Site,
    job: u64,
}

impl Courier {
    /// Goes on behind the highest job of the ledger, as after a restart.
    pub async fn new(site: Site) -> Courier {
        let last = |platform: PlatformName| site.store.read(move |view| view.last_job(&platform).0);
        let job = last(national()).await.max(last(provincial()).await);
        Courier { site, job }
    }

    /// These punches come in; each round something is uploaded. What was in flight before comes back to the queue.
    pub async fn work(&mut self, life: u32, numbers: Range<u32>) -> io::Result<()> {
        self.requeue_what_was_in_flight(national()).await?;
        for (round, first) in numbers.clone().step_by(ROUND as usize).enumerate() {
            let round = round as u32;
            let batch: Vec<u32> = (first..(first + ROUND).min(numbers.end)).collect();
            for n in batch.iter().filter(|n| facts::has_photo(**n)) {
                self.site.put_photo(*n).await?;
            }
            self.site.append(&batch, Vec::new()).await?;
            let last = self.site.append(&[], batch.iter().map(|n| facts::judgement(*n)).collect()).await?;
            self.change_roster(life, round, &batch).await?;
            self.site.store.applied(last).await;
            let platform = if round % 4 == 3 { provincial() } else { national() };
            self.upload(platform, round).await?;
        }
        Ok(())
    }

    async fn requeue_what_was_in_flight(&mut self, platform: PlatformName) -> io::Result<()> {
        let asked = platform.clone();
        let found = self.site.store.read(move |view| view.uploads_in_flight(&asked)).await;
        let subjects: Vec<Subject> = found.into_iter().map(|(subject, _)| subject).collect();
        if subjects.is_empty() {
            return Ok(());
        }
        let step = Step::Requeued { reason: "not there when asked".to_owned() };
        self.site.append(&[], vec![facts::step(platform, JobId(self.job), subjects, step)]).await?;
        Ok(())
    }

    async fn change_roster(&self, life: u32, round: u32, batch: &[u32]) -> io::Result<()> {
        if round % 3 == 1 {
            let workers = (0..5).map(|index| facts::worker(round * 5 + index, life * 100 + round)).collect();
            self.site.append(&[], workers).await?;
        }
        let held = batch.iter().filter(|n| **n % 11 == 9 && round.is_multiple_of(2));
        let judged: Vec<Fact> = held.map(|n| facts::second_judgement(*n)).collect();
        if !judged.is_empty() {
            self.site.append(&[], judged).await?;
        }
        Ok(())
    }

    /// One job; how it goes depends on its number. Every eighth round it is large, so that a step is applied in parts.
    async fn upload(&mut self, platform: PlatformName, round: u32) -> io::Result<()> {
        let limit = if round % 8 == 7 { BATCH * 10 } else { BATCH };
        let asked = platform.clone();
        let outbox = self.site.store.read(move |view| view.outbox(&asked, Seq(0), limit)).await;
        let subjects: Vec<Subject> = outbox.iter().map(|(outgoing, _)| Subject::Punch(outgoing.punch)).collect();
        if subjects.is_empty() {
            return Ok(());
        }
        self.job += 1;
        let job = JobId(self.job);
        let accepted = Step::Accepted { serial: format!("S{}", job.0) };
        let confirmed = Step::Confirmed { external: Some(job.0.to_string()), note: None };
        let mut steps = vec![Step::Sending { request_hash: [job.0 as u8; 32] }];
        steps.extend(match job.0 % 6 {
            0 => vec![Step::Refused { reason: "no such project".to_owned() }],
            1 => vec![Step::Requeued { reason: "not processed".to_owned() }],
            2 => vec![Step::Unknown { reason: "no answer".to_owned() }, confirmed],
            // Left for the next life.
            3 if round % 8 == 5 => vec![accepted],
            _ => vec![accepted, confirmed],
        });
        let mut last = Seq(0);
        for step in steps {
            let fact = facts::step(platform.clone(), job, subjects.clone(), step);
            last = self.site.append(&[], vec![fact]).await?;
        }
        self.site.store.applied(last).await;
        Ok(())
    }
}
