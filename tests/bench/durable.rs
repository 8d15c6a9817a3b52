//! Durable punches per second, and how long one waits for its acknowledgement, at several numbers in flight: the store
//! beside the raw disk and beside other engines that do the same group commit, all in the same run.
//!
//! Every engine is fed alike: so many producers, each with one record in flight. What waits while one commit syncs is the
//! next group. The raw limit appends the group's bytes to a file and calls `fdatasync`.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use gateway::clock::Clock;
use gateway::punch::*;
use gateway::store::{Store, StoreOptions};
use rusqlite::Connection;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::disk::{Outcome, percentile};

/// How many producers there are, one column of the table each.
pub const IN_FLIGHT: [usize; 4] = [1, 10, 100, 1_000];
/// A cell is measured this often, the engines in turn, and the median counts.
const ROUNDS: usize = 3;

/// What makes records durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Raw,
    Store,
    SledSynced,
    SledUnsynced,
    Sqlite,
}

pub const ENGINES: [Engine; 5] = [Engine::Raw, Engine::Store, Engine::SledSynced, Engine::SledUnsynced, Engine::Sqlite];

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Raw => "raw append + fdatasync",
            Engine::Store => "the store",
            Engine::SledSynced => "sled, flush + fdatasync",
            Engine::SledUnsynced => "sled, without a sync",
            Engine::Sqlite => "SQLite, WAL, FULL",
        })
    }
}

/// One cell of the table.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
}

/// The cells of one engine, as [`IN_FLIGHT`] has them.
pub struct Row {
    pub engine: Engine,
    pub cells: Vec<Cell>,
}

/// Measures every engine at every number in flight, below `dir`.
pub async fn measure(dir: &Path, records: usize) -> Outcome<Vec<Row>> {
    let bytes = bytes_of_a_punch(&dir.join("one")).await?;
    let mut rounds: Vec<Vec<Vec<Cell>>> = vec![vec![Vec::new(); IN_FLIGHT.len()]; ENGINES.len()];
    for round in 0..ROUNDS {
        for (column, in_flight) in IN_FLIGHT.into_iter().enumerate() {
            for (index, engine) in ENGINES.into_iter().enumerate() {
                let place = dir.join(format!("{engine:?}-{in_flight}-{round}"));
                std::fs::create_dir_all(&place)?;
                // One at a time costs a sync each.
                let records = records.min(in_flight * 1_500);
                rounds[index][column].push(cell(engine, &place, bytes, in_flight, records).await?);
                std::fs::remove_dir_all(&place)?;
            }
        }
    }
    let rows = ENGINES.into_iter().zip(rounds);
    Ok(rows.map(|(engine, columns)| Row { engine, cells: columns.into_iter().map(median).collect() }).collect())
}

fn median(mut cells: Vec<Cell>) -> Cell {
    cells.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    cells[cells.len() / 2]
}

async fn cell(engine: Engine, dir: &Path, bytes: usize, in_flight: usize, records: usize) -> Outcome<Cell> {
    match engine {
        Engine::Store => {
            let store = Store::open(StoreOptions::new(dir.to_owned(), Vec::new()), Clock::system())?;
            let appending = store.clone();
            let cell = produce(in_flight, records, move |n| {
                let store = appending.clone();
                async move { Ok(store.append(vec![Fact::Punch(punch(n))]).await.map(drop)?) }
            });
            let cell = cell.await?;
            store.close().await;
            Ok(cell)
        }
        Engine::Raw | Engine::SledSynced | Engine::SledUnsynced | Engine::Sqlite => {
            let (requests, thread) = start_committer(engine, dir.to_owned())?;
            let cell = produce(in_flight, records, move |n| {
                let requests = requests.clone();
                async move {
                    let (answer, answered) = oneshot::channel();
                    requests.send((n, record(n, bytes), answer)).map_err(|_| "the committer ended")?;
                    Ok(answered.await?)
                }
            });
            let cell = cell.await?;
            let ended = tokio::task::spawn_blocking(move || thread.join()).await?;
            ended.map_err(|_| "the committer panicked")??;
            Ok(cell)
        }
    }
}

/// So many producers share the records, each waiting for its acknowledgement before the next.
async fn produce<F>(
    in_flight: usize,
    records: usize,
    commit: impl Fn(u64) -> F + Clone + Send + 'static,
) -> Outcome<Cell>
where
    F: Future<Output = Outcome<()>> + Send,
{
    let clock = Clock::system();
    let began = clock.instant();
    let mut producers = JoinSet::new();
    for producer in 0..in_flight {
        let (commit, clock) = (commit.clone(), clock.clone());
        let mine = (producer..records).step_by(in_flight);
        producers.spawn(async move {
            let mut waited = Vec::with_capacity(mine.len());
            for n in mine {
                let began = clock.instant();
                commit(n as u64).await?;
                waited.push(clock.instant() - began);
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(waited)
        });
    }
    let mut waited = Vec::with_capacity(records);
    while let Some(ended) = producers.join_next().await {
        waited.extend(ended??);
    }
    let took = clock.instant() - began;
    waited.sort_unstable();
    Ok(Cell {
        per_second: records as f64 / took.as_secs_f64(),
        p50: percentile(&waited, 50),
        p99: percentile(&waited, 99),
    })
}

type Request = (u64, Vec<u8>, oneshot::Sender<()>);

/// A thread that commits what waits, as one group, until nobody can ask for more.
fn start_committer(engine: Engine, dir: PathBuf) -> Outcome<(mpsc::Sender<Request>, JoinHandle<Outcome<()>>)> {
    let (requests, waiting) = mpsc::channel::<Request>();
    let thread = std::thread::Builder::new().name("committer".to_owned()).spawn(move || {
        let mut peer = Peer::open(engine, &dir)?;
        while let Ok(first) = waiting.recv() {
            let mut group = vec![first];
            group.extend(waiting.try_iter().take(10_000));
            peer.commit(&group)?;
            for (_, _, answer) in group {
                // The producer may have given up.
                let _gone = answer.send(());
            }
        }
        Ok(())
    })?;
    Ok((requests, thread))
}

/// Another way to keep records.
enum Peer {
    Raw(File),
    Sled { db: sled::Db, data: Option<File> },
    Sqlite(Connection),
}

impl Peer {
    fn open(engine: Engine, dir: &Path) -> Outcome<Peer> {
        Ok(match engine {
            Engine::Sqlite => {
                let connection = Connection::open(dir.join("punches.db"))?;
                connection.pragma_update(None, "journal_mode", "WAL")?;
                connection.pragma_update(None, "synchronous", "FULL")?;
                connection.execute("CREATE TABLE punches (id INTEGER PRIMARY KEY, record BLOB NOT NULL)", ())?;
                Peer::Sqlite(connection)
            }
            Engine::SledSynced | Engine::SledUnsynced => {
                let db = sled::Config::new().path(dir.join("sled")).flush_every_ms(None).open()?;
                let is_synced = engine == Engine::SledSynced;
                let data = is_synced.then(|| File::open(dir.join("sled").join("db"))).transpose()?;
                Peer::Sled { db, data }
            }
            Engine::Raw | Engine::Store => {
                Peer::Raw(OpenOptions::new().create(true).append(true).open(dir.join("raw"))?)
            }
        })
    }

    fn commit(&mut self, group: &[Request]) -> Outcome<()> {
        match self {
            Peer::Raw(file) => {
                let bytes: Vec<u8> = group.iter().flat_map(|(_, record, _)| record).copied().collect();
                file.write_all(&bytes)?;
                file.sync_data()?;
            }
            Peer::Sled { db, data } => {
                let mut batch = sled::Batch::default();
                for (n, record, _) in group {
                    batch.insert(&n.to_be_bytes(), &record[..]);
                }
                db.apply_batch(batch)?;
                if let Some(data) = data {
                    db.flush()?;
                    data.sync_data()?;
                }
            }
            Peer::Sqlite(connection) => {
                let transaction = connection.transaction()?;
                {
                    let mut insert = transaction.prepare_cached("INSERT INTO punches VALUES (?1, ?2)")?;
                    for (n, record, _) in group {
                        insert.execute((*n as i64, record))?;
                    }
                }
                transaction.commit()?;
            }
        }
        Ok(())
    }
}

fn record(n: u64, bytes: usize) -> Vec<u8> {
    let mut record = vec![0x5A; bytes];
    record[..8].copy_from_slice(&n.to_be_bytes());
    record
}

/// Bytes that the store writes for a punch, so that the others write as many.
async fn bytes_of_a_punch(dir: &Path) -> Outcome<usize> {
    let store = Store::open(StoreOptions::new(dir.to_owned(), Vec::new()), Clock::system())?;
    store.append((0..100).map(|n| Fact::Punch(punch(n))).collect()).await?;
    let bytes = store.counters().ledger_bytes as usize / 100;
    store.close().await;
    Ok(bytes)
}

/// A face terminal's punch as it comes.
pub fn punch(n: u64) -> Punch {
    let record = n.to_string();
    let time = UnixMs(1_772_406_000_000 + n as i64 * 1_000);
    Punch {
        id: PunchId::derive("AX-1001", &record, &record, "W0001"),
        terminal: TerminalId::from("north-in"),
        serial: "AX-1001".to_owned(),
        record: Some(record),
        time,
        time_text: "2026-03-02 07:01:05".to_owned(),
        time_source: TimeSource::Terminal,
        received_at: time.plus_ms(300),
        live: Some(true),
        skew_ms: Some(-300),
        direction: Direction::In,
        direction_source: DirectionSource::Configured,
        method: Method::Face,
        credentials: vec![Credential::CustomId(format!("W{:04}", n % 500))],
        says: TerminalSays::Allowed,
        similarity: Some(92.0),
        photo: None,
        raw: vec![b'x'; 180],
    }
}
