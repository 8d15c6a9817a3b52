//! A change of the roster: checked against the whole of it, pictures first, then committed, before the next is looked at.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio::sync::SemaphorePermit;

use super::super::Console;
use super::super::problem::Problem;
use crate::punch::{Fact, PhotoHash, Worker, WorkerId};
use crate::roster::{self, NamedPhoto, RosterFile, RowProblem};
use crate::store::AppendError;

/// Pictures that are written at the same time: the disk makes them durable together.
const PICTURES_AT_ONCE: usize = 8;

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    workers: usize,
    added: usize,
    changed: usize,
    unchanged: usize,
}

pub fn nothing_imported(problems: Vec<RowProblem>) -> Problem {
    Problem::content(format!("nothing was imported; {} problems", problems.len()), problems)
}

impl Console {
    /// From the look at the roster to [`Console::take_over`].
    pub async fn roster_turn(&self) -> SemaphorePermit<'_> {
        self.roster.acquire().await.expect("the semaphore is never closed")
    }

    pub async fn roster(&self) -> Vec<Worker> {
        self.context.store.read(|view| view.workers()).await
    }

    pub async fn worker(&self, id: &str) -> Result<Worker, Problem> {
        let wanted = WorkerId::from(id);
        let found = self.context.store.read(move |view| view.worker(&wanted)).await;
        found.ok_or_else(|| Problem::not_found(format!("there is no worker {id}")))
    }

    /// Makes new and changed workers durable, all of them or none, unless they take what is another's or name a photo
    /// that nobody has. A worker's picture is durable before the fact that names it.
    pub async fn take_over(&self, file: RosterFile, existing: &[Worker]) -> Result<Imported, Problem> {
        let mut problems = roster::conflicts(&file.workers, existing);
        problems.extend(self.unknown_photos(&file, existing).await?);
        if !problems.is_empty() {
            return Err(nothing_imported(problems));
        }
        self.store_pictures(file.pictures).await?;
        let (imported, facts) = differences(file.workers, existing);
        if facts.is_empty() {
            return Ok(imported);
        }
        let appended = self.context.store.append(facts).await?;
        if let Some(last) = appended.last() {
            self.applied(last.seq).await;
        }
        Ok(imported)
    }

    /// Photos named in the file that are neither in it nor in the store. A worker who keeps his photo names nothing new.
    async fn unknown_photos(&self, file: &RosterFile, existing: &[Worker]) -> Result<Vec<RowProblem>, Problem> {
        let held: HashMap<&WorkerId, PhotoHash> =
            existing.iter().filter_map(|worker| Some((&worker.worker_id, worker.photo?))).collect();
        let is_new = |named: &&NamedPhoto| held.get(&named.worker) != Some(&named.hash);
        let mut problems = Vec::new();
        for named in file.named.iter().filter(is_new).filter(|named| !file.pictures.contains_key(&named.hash)) {
            let found = self.context.store.photo(named.hash).await;
            let found = found.map_err(|error| Problem::unavailable(format!("photo {}: {error}", named.hash)))?;
            if found.is_none() {
                problems.push(named.unknown());
            }
        }
        Ok(problems)
    }

    async fn store_pictures(&self, pictures: HashMap<PhotoHash, Vec<u8>>) -> Result<(), AppendError> {
        let stored = stream::iter(pictures.into_values()).map(|jpeg| self.context.store.put_photo(Bytes::from(jpeg)));
        stored.buffer_unordered(PICTURES_AT_ONCE).try_for_each(async |_| Ok(())).await
    }
}

/// Only what differs becomes a fact.
fn differences(workers: Vec<Worker>, existing: &[Worker]) -> (Imported, Vec<Fact>) {
    let known: HashMap<&WorkerId, &Worker> = existing.iter().map(|worker| (&worker.worker_id, worker)).collect();
    let mut imported = Imported { workers: workers.len(), ..Imported::default() };
    let mut facts = Vec::new();
    for worker in workers {
        match known.get(&worker.worker_id) {
            Some(same) if **same == worker => imported.unchanged += 1,
            Some(_) => {
                imported.changed += 1;
                facts.push(Fact::Worker(worker));
            }
            None => {
                imported.added += 1;
                facts.push(Fact::Worker(worker));
            }
        }
    }
    (imported, facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::tests::worker;

    #[test]
    fn an_import_writes_only_what_differs() {
        let known = worker("W0001", "张三", "110101199003070070");
        let moved = Worker { phone: None, ..known.clone() };
        let newcomer = worker("W0002", "李四", "11010519491231002X");
        let (imported, facts) = differences(vec![known.clone()], std::slice::from_ref(&known));
        assert_eq!((imported.unchanged, facts.len()), (1, 0));
        let (imported, facts) = differences(vec![moved, newcomer], &[known]);
        assert_eq!(imported, Imported { workers: 2, added: 1, changed: 1, unchanged: 0 });
        assert_eq!(facts.len(), 2);
    }
}
