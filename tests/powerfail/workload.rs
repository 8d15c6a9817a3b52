//! What the store does while it is recorded or killed: lives of a gateway on one data directory. Runs as a program of its
//! own and marks what it was told.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use gateway::clock::Clock;
use gateway::punch::*;
use gateway::store::{AppendError, Appended, Store};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::courier::Courier;
use super::facts::{self, DAY_MS, MORNING};
use super::marks::{Mark, Marks};

/// Whose life it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Punches of many terminals at once, judgements, some photos.
    Steady,
    /// The outbox fills and drains; the roster changes.
    Churn,
    /// A damaged directory is opened and goes on.
    Salvage,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        let kinds = [Kind::Steady, Kind::Churn, Kind::Salvage];
        kinds.into_iter().find(|kind| kind.name() == text).ok_or_else(|| format!("{text:?} is no workload"))
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Steady => "steady",
            Kind::Churn => "churn",
            Kind::Salvage => "salvage",
        }
    }
}

/// One run of a workload.
#[derive(clap::Args, Clone, Debug)]
pub struct Workload {
    #[arg(long)]
    pub kind: Kind,
    /// The data directory.
    #[arg(long)]
    pub data: PathBuf,
    /// Where to mark what was told.
    #[arg(long)]
    pub marks: PathBuf,
    /// Number of the first life; each begins a month later.
    #[arg(long, default_value_t = 0)]
    pub first_life: u32,
    /// How often the store is opened and closed.
    #[arg(long, default_value_t = 1)]
    pub lives: u32,
    /// Punches of each life.
    #[arg(long)]
    pub punches: u32,
}

/// Terminals that have a punch on its way at the same time.
const AT_ONCE: u32 = 8;
/// Punches that come in one append when a reader hands its journal over.
const JOURNAL: u32 = 6;

/// Numbers of life `life`'s punches.
fn numbers(life: u32, punches: u32) -> std::ops::Range<u32> {
    life * punches..(life + 1) * punches
}

/// What the clock says at the beginning of a life.
pub fn begins(life: u32) -> UnixMs {
    MORNING.plus_ms(i64::from(life) * 32 * DAY_MS)
}

impl Workload {
    /// Lives all lives. An append that the store refuses ends the program with an error.
    pub fn run(&self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let marks = Arc::new(Marks::open(&self.marks)?);
        for life in self.first_life..self.first_life + self.lives {
            runtime.block_on(self.live(life, &marks))?;
        }
        Ok(())
    }

    async fn live(&self, life: u32, marks: &Arc<Marks>) -> io::Result<()> {
        let clock = Clock::manual(begins(life));
        let store = Store::open(facts::options(&self.data), clock.clone()).map_err(io::Error::other)?;
        let site = Site { store: store.clone(), marks: marks.clone() };
        let numbers = numbers(life, self.punches);
        let middle = numbers.start + self.punches / 2;
        match self.kind {
            Kind::Steady | Kind::Salvage => {
                site.clone().punch_at_once(numbers.start..middle).await?;
                site.next_month(&clock).await?;
                site.clone().punch_at_once(middle..numbers.end).await?;
            }
            Kind::Churn => {
                let mut courier = Courier::new(site.clone()).await;
                courier.work(life, numbers.start..middle).await?;
                site.next_month(&clock).await?;
                courier.work(life, middle..numbers.end).await?;
            }
        }
        drop(site);
        store.close().await;
        Ok(())
    }
}

/// Between two tries of a terminal that was refused, and how often it tries: longer is not "within seconds" any more.
const RETRY: Duration = Duration::from_millis(50);
const TRIES: usize = 200;

/// Appends as terminals do: what is refused comes again.
pub async fn append(store: &Store, facts: Vec<Fact>) -> Result<Vec<Appended>, AppendError> {
    for _ in 1..TRIES {
        match store.append(facts.clone()).await {
            Err(AppendError::Unavailable(_)) => tokio::time::sleep(RETRY).await,
            outcome => return outcome,
        }
    }
    store.append(facts).await
}

/// The open store and whoever notes what it says.
#[derive(Clone)]
pub struct Site {
    pub store: Store,
    marks: Arc<Marks>,
}

impl Site {
    /// Appends facts and marks them; `punches` are the numbers of those that are punches, which come first.
    pub async fn append(&self, punches: &[u32], others: Vec<Fact>) -> io::Result<Seq> {
        let facts = punches.iter().map(|n| Fact::Punch(facts::punch(*n))).chain(others).collect();
        let appended = append(&self.store, facts).await.map_err(io::Error::other)?;
        let marks = appended.iter().enumerate().map(|(index, place)| match punches.get(index) {
            Some(n) => Mark::Punch { n: *n, seq: place.seq.0 },
            None => Mark::Fact { seq: place.seq.0 },
        });
        self.marks.say(&marks.collect::<Vec<_>>())?;
        Ok(appended.iter().map(|place| place.seq).max().unwrap_or_default())
    }

    /// The day is closed and signed; a new month begins a new segment.
    async fn next_month(&self, clock: &Clock) -> io::Result<()> {
        let today = jiff::Timestamp::from_millisecond(clock.now().0).map_err(io::Error::other)?;
        let today = jiff::tz::Offset::UTC.to_datetime(today).date();
        self.store.close_day(today, clock.now()).await.map_err(io::Error::other)?;
        clock.advance(Duration::from_millis(31 * DAY_MS as u64));
        Ok(())
    }

    pub async fn put_photo(&self, n: u32) -> io::Result<()> {
        self.store.put_photo(facts::photo(n).into()).await.map_err(io::Error::other)?;
        self.marks.say(&[Mark::Photo { n }])
    }

    /// Several terminals bring these punches, each the next when the last one is acknowledged.
    async fn punch_at_once(self, numbers: std::ops::Range<u32>) -> io::Result<()> {
        let mut terminals = JoinSet::new();
        for terminal in 0..AT_ONCE {
            let (site, numbers) = (self.clone(), numbers.clone());
            terminals.spawn(async move {
                for n in numbers.filter(|n| n / JOURNAL % AT_ONCE == terminal) {
                    site.punch(n).await?;
                }
                Ok(())
            });
        }
        terminals.join_all().await.into_iter().collect()
    }

    async fn punch(&self, n: u32) -> io::Result<()> {
        if facts::has_photo(n) {
            self.put_photo(n).await?;
        }
        match (n / JOURNAL % 5, n % JOURNAL) {
            // A reader's journal comes in one append, with its first punch.
            (0, 0) => self.append(&(n..n + JOURNAL).collect::<Vec<_>>(), Vec::new()).await?,
            (0, _) => self.append(&[], vec![facts::judgement(n)]).await?,
            (1, _) => self.append(&[n], vec![facts::judgement(n)]).await?,
            (_, _) => {
                self.append(&[n], Vec::new()).await?;
                self.append(&[], vec![facts::judgement(n)]).await?
            }
        };
        Ok(())
    }
}
