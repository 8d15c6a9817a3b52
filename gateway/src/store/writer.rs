//! The thread that makes facts durable: one group of appends, one write, one `fdatasync`, then every answer of the
//! group. While one group syncs the next one collects in the channel; nobody waits for a timer.
//!
//! After a failed write or sync nothing is acknowledged until a fresh segment could be begun. Below the low-water mark
//! nothing is acknowledged until there is space again. Both are left without being asked.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::group::{Group, Request};
use super::ledger::Ledger;
use super::shared::Shared;
use super::space::Room;
use super::{StoreHealth, Tuning};
use crate::punch::{Fact, Gap, GapKind, Seq};

/// A group takes no further append beyond this many bytes.
const GROUP_BYTES: usize = 1 << 20;
/// How long an append waits for a view that is too far behind before it is refused.
const VIEW_PATIENCE: Duration = Duration::from_secs(10);
/// How often free space is looked at while nothing is written.
const SPACE_EVERY: Duration = Duration::from_secs(2);
const BACK_OFF_MIN: Duration = Duration::from_millis(250);
/// A failing disk is left in peace for longer.
const BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// What the writer waited for.
enum Next {
    Request(Request),
    Elapsed,
    Closed,
}

/// Why nothing is taken now.
enum Trouble {
    Failing(String),
    Full { free: u64 },
}

pub struct Writer {
    shared: Arc<Shared>,
    ledger: Ledger,
    requests: mpsc::Receiver<Request>,
    stop: CancellationToken,
    tuning: Tuning,
}

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        ledger: Ledger,
        requests: mpsc::Receiver<Request>,
        stop: CancellationToken,
        tuning: Tuning,
    ) -> Writer {
        Writer { shared, ledger, requests, stop, tuning }
    }

    /// Works until the store is closed or every handle of it is gone.
    pub fn run(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve()),
            Err(error) => self.report(Trouble::Failing(format!("no timer for the writer: {error}"))),
        }
        if let Err(error) = self.ledger.close() {
            tracing::warn!(%error, "the last segment could not be closed; the next start does it");
        }
    }

    async fn serve(&mut self) {
        let mut held_back = self.begin();
        loop {
            if let Some(trouble) = held_back.take()
                && !self.refuse_until_well(trouble).await
            {
                return;
            }
            let first = match self.requests.try_recv() {
                Ok(request) => request,
                Err(_) => match self.wait(pin!(sleep(SPACE_EVERY))).await {
                    Next::Request(request) => request,
                    Next::Closed => return,
                    Next::Elapsed => {
                        held_back = self.check_space().err();
                        continue;
                    }
                },
            };
            held_back = self.take_group(first).err();
        }
    }

    /// The next append, if one comes before `elapsed`. After the order to stop, what has been sent is still served.
    async fn wait(&mut self, mut elapsed: Pin<&mut Sleep>) -> Next {
        loop {
            let open = !self.requests.is_closed();
            tokio::select! {
                request = self.requests.recv() => return request.map_or(Next::Closed, Next::Request),
                () = &mut elapsed => return Next::Elapsed,
                () = self.stop.cancelled(), if open => self.requests.close(),
            }
        }
    }

    fn begin(&mut self) -> Option<Trouble> {
        let opened = self.check_space().and_then(|()| self.begin_segment());
        if opened.is_ok() {
            self.set_aside_reserve();
        }
        opened.err()
    }

    fn begin_segment(&mut self) -> Result<(), Trouble> {
        self.ledger.begin(self.shared.clock.now()).map_err(|error| self.trouble(&error))
    }

    fn take_group(&mut self, first: Request) -> Result<(), Trouble> {
        let mut requests = VecDeque::from([first]);
        let mut size = requests[0].size();
        while size < GROUP_BYTES {
            let Ok(request) = self.requests.try_recv() else { break };
            size += request.size();
            requests.push_back(request);
        }
        if let Err(trouble) = self.check_space() {
            refuse(requests, &trouble.text());
            return Err(trouble);
        }
        if !self.shared.wait_for_room(VIEW_PATIENCE) {
            refuse(requests, "the working view is too far behind the ledger");
            return Ok(());
        }
        self.commit(requests)
    }

    fn commit(&mut self, requests: VecDeque<Request>) -> Result<(), Trouble> {
        let mut group = Group::gather(requests, &self.shared, self.ledger.next_seq());
        if group.appends.is_empty() {
            group.answer();
            return Ok(());
        }
        match self.ledger.commit(&group.appends, self.shared.clock.now()) {
            Ok(done) => {
                let counters = &self.shared.counters;
                let facts: usize = group.appends.iter().map(Vec::len).sum();
                counters.facts.fetch_add(facts as u64, Ordering::Relaxed);
                counters.punches.fetch_add(group.punches, Ordering::Relaxed);
                counters.commits.fetch_add(1, Ordering::Relaxed);
                counters.ledger_bytes.fetch_add(done.bytes, Ordering::Relaxed);
                self.shared.advance(done.end, Seq(done.last_seq), std::mem::take(&mut group.keys));
                group.answer();
                // After the answers: it would take the core that an acknowledgement needs.
                self.shared.wake_follower();
                Ok(())
            }
            Err(error) => {
                let trouble = self.trouble(&error);
                group.refuse(&trouble.text());
                Err(trouble)
            }
        }
    }

    /// Refuses everything until the trouble is over; `false` when the store is closed before that.
    async fn refuse_until_well(&mut self, trouble: Trouble) -> bool {
        let mut trouble = trouble;
        let mut back_off = BACK_OFF_MIN;
        self.note_full(&trouble);
        loop {
            let text = trouble.text();
            let is_full = matches!(trouble, Trouble::Full { .. });
            self.report(trouble);
            let mut retry = pin!(sleep(back_off));
            loop {
                match self.wait(retry.as_mut()).await {
                    Next::Request(request) if is_full && request.is_urgent() => self.commit_though_full(request),
                    Next::Request(request) => refuse([request], &text),
                    Next::Elapsed => break,
                    Next::Closed => return false,
                }
            }
            match self.resume() {
                Ok(()) => return true,
                Err(still) => trouble = still,
            }
            let longest = if matches!(trouble, Trouble::Full { .. }) { SPACE_EVERY } else { BACK_OFF_MAX };
            back_off = (back_off * 2).min(longest);
        }
    }

    fn resume(&mut self) -> Result<(), Trouble> {
        let room = self.room()?;
        if room.free < room.enough {
            return Err(Trouble::Full { free: room.free });
        }
        self.begin_segment()?;
        self.set_aside_reserve();
        tracing::info!("the store takes facts again");
        self.shared.health.send_replace(StoreHealth::Open);
        Ok(())
    }

    /// Says in the ledger that intake stops, in the space kept back for that.
    fn note_full(&mut self, trouble: &Trouble) {
        let Trouble::Full { free } = trouble else { return };
        self.shared.ask_for_room();
        if let Err(error) = fs::remove_file(&self.shared.paths.reserve)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the reserve could not be freed");
        }
        let now = self.shared.clock.now();
        let gap = Gap {
            terminal: None,
            at: now,
            count: None,
            kind: GapKind::DiskFull,
            detail: format!("disk full at {}: {free} bytes free, nothing is taken until there is space", now.0),
        };
        let Ok((request, _answered)) = Request::new(&[Fact::Gap(gap)], &self.shared.keyring) else { return };
        self.commit_though_full(request);
    }

    fn commit_though_full(&mut self, request: Request) {
        let written = self.begin_segment().and_then(|()| self.commit(VecDeque::from([request])));
        if let Err(trouble) = written {
            tracing::warn!("not even what must be said of the full disk could be written: {}", trouble.text());
        }
    }

    fn set_aside_reserve(&self) {
        let set_aside = || -> io::Result<()> {
            let file = File::create(&self.shared.paths.reserve)?;
            fallocate(&file, FallocateFlags::empty(), 0, self.tuning.reserve_bytes)?;
            Ok(())
        };
        if let Err(error) = set_aside() {
            tracing::warn!(%error, "no space could be set aside for the day the disk is full");
        }
    }

    fn check_space(&self) -> Result<(), Trouble> {
        let room = self.room()?;
        if room.is_full() { Err(Trouble::Full { free: room.free }) } else { Ok(()) }
    }

    fn room(&self) -> Result<Room, Trouble> {
        self.shared.space.room().map_err(|error| Trouble::Failing(error.to_string()))
    }

    fn trouble(&self, error: &io::Error) -> Trouble {
        match self.room() {
            Ok(room) if error.kind() == io::ErrorKind::StorageFull => Trouble::Full { free: room.free },
            Ok(_) | Err(_) => Trouble::Failing(error.to_string()),
        }
    }

    fn report(&self, trouble: Trouble) {
        let now = self.shared.clock.now();
        self.shared.health.send_if_modified(|health| {
            let since = match health {
                StoreHealth::Open => now,
                StoreHealth::Failing { since, .. } | StoreHealth::Full { since, .. } => *since,
            };
            if *health == StoreHealth::Open {
                tracing::error!("nothing is acknowledged: {}", trouble.text());
            }
            let new = match trouble {
                Trouble::Failing(cause) => StoreHealth::Failing { since, cause },
                Trouble::Full { free } => StoreHealth::Full { since, free_bytes: free },
            };
            std::mem::replace(health, new.clone()) != new
        });
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.report(Trouble::Failing("the writer panicked; restart the gateway".to_owned()));
        }
        self.shared.close();
    }
}

impl Trouble {
    fn text(&self) -> String {
        match self {
            Trouble::Failing(cause) => format!("the ledger cannot be written: {cause}"),
            Trouble::Full { free } => format!("the disk is full ({free} bytes free)"),
        }
    }
}

fn refuse(requests: impl IntoIterator<Item = Request>, text: &str) {
    requests.into_iter().for_each(|request| request.refuse(text));
}
