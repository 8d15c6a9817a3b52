//! The journal: punches that the gateway does not have yet.
//!
//! Numbers go up over all boots and are never given twice. What is full refuses; nothing is overwritten. Where the
//! punches lie is the board's business ([`Storage`]); here is only what may be said and released.

use heapless::Vec;
use protocol::{BootId, MAX_PUNCHES, Punch, Seq};

/// Why the storage did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageError {
    /// No room until punches are released.
    Full,
    /// It does not work.
    Broken,
}

/// What survived until this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// This boot's number: one above every earlier one, and already written down.
    pub boot: BootId,
    /// The commit watermark.
    pub released: Seq,
    /// The number of the next punch: above every number ever given.
    pub next: Seq,
    /// Swipes dropped, ever.
    pub lost: u32,
    /// How many of those the gateway has recorded.
    pub lost_seen: u32,
}

/// Memory that survives a power cut: flash on a board, an array on the host. What a method has said `Ok` to is there
/// after the next [`Storage::recover`]; what it was doing when the power went may or may not be.
pub trait Storage {
    /// Begins a boot. To be called once, before anything else.
    fn recover(&mut self) -> Result<Recovered, StorageError>;

    /// Writes the punch with this number: the one after the last.
    fn append(&mut self, seq: Seq, punch: &Punch) -> Result<(), StorageError>;

    /// Reads a punch that is not released; `None` when its place is damaged.
    fn read(&mut self, seq: Seq) -> Option<Punch>;

    /// Moves the commit watermark up: punches through this one may be overwritten.
    fn release(&mut self, through: Seq) -> Result<(), StorageError>;

    /// Writes down how many swipes were dropped and how many of them the gateway knows of.
    fn record_lost(&mut self, lost: u32, seen: u32) -> Result<(), StorageError>;

    /// How many punches fit.
    fn capacity(&self) -> u32;

    /// Slow work ahead of time, such as erasing a page. To be called while nobody waits for an answer.
    fn tidy(&mut self) {}
}

/// Some punches with consecutive numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The number of the first; the next number to be given when there are none.
    pub first: Seq,
    /// The punches.
    pub punches: Vec<Punch, MAX_PUNCHES>,
}

/// Numbers, watermark and losses over a storage.
#[derive(Debug)]
pub struct Journal<S> {
    storage: S,
    at: Recovered,
}

impl<S: Storage> Journal<S> {
    /// Takes up where the last boot ended.
    pub fn recover(mut storage: S) -> Result<Journal<S>, StorageError> {
        let at = storage.recover()?;
        Ok(Journal { storage, at })
    }

    /// This boot.
    pub fn boot(&self) -> BootId {
        self.at.boot
    }

    /// Keeps a punch and gives its number. When it cannot, the punch is counted as lost.
    pub fn append(&mut self, punch: &Punch) -> Result<Seq, StorageError> {
        let seq = self.at.next;
        let Some(next) = seq.0.checked_add(1) else { return Err(self.lose(StorageError::Full)) };
        match self.storage.append(seq, punch) {
            Ok(()) => {
                self.at.next = Seq(next);
                Ok(seq)
            }
            Err(error) => Err(self.lose(error)),
        }
    }

    /// A count that cannot be written down is still told until the next boot.
    fn lose(&mut self, error: StorageError) -> StorageError {
        self.at.lost = self.at.lost.saturating_add(1);
        let _ = self.storage.record_lost(self.at.lost, self.at.lost_seen);
        error
    }

    /// Releases punches through `committed`; gives the numbers that were not released before. A number that was never
    /// given releases nothing.
    pub fn commit(&mut self, committed: Seq) -> core::ops::Range<u32> {
        let from = self.at.released.0 + 1;
        if committed <= self.at.released || committed >= self.at.next || self.storage.release(committed).is_err() {
            return from..from;
        }
        self.at.released = committed;
        from..committed.0 + 1
    }

    /// Notes that the gateway has recorded this many of the dropped swipes.
    pub fn commit_lost(&mut self, seen: u32) {
        if seen <= self.at.lost_seen || seen > self.at.lost {
            return;
        }
        if self.storage.record_lost(self.at.lost, seen).is_ok() {
            self.at.lost_seen = seen;
        }
    }

    /// The oldest punches that are not released, at most `limit`, up to the first damaged one. Steps over damage in front.
    pub fn oldest(&mut self, limit: usize) -> Batch {
        let mut first = self.at.released.0 + 1;
        while first < self.at.next.0 && self.storage.read(Seq(first)).is_none() {
            first += 1;
        }
        let storage = &mut self.storage;
        let punches =
            (first..self.at.next.0).take(limit.min(MAX_PUNCHES)).map_while(|seq| storage.read(Seq(seq))).collect();
        Batch { first: Seq(first), punches }
    }

    /// Watermark, next number and losses.
    pub fn standing(&self) -> Recovered {
        self.at
    }

    /// Punches that are not released.
    pub fn fill(&self) -> u32 {
        self.at.next.0.saturating_sub(self.at.released.0 + 1)
    }

    /// How many fit.
    pub fn capacity(&self) -> u32 {
        self.storage.capacity()
    }

    /// Slow work ahead of time; see [`Storage::tidy`].
    pub fn tidy(&mut self) {
        self.storage.tidy();
    }

    /// What a power cut leaves.
    pub fn into_storage(self) -> S {
        self.storage
    }
}

/// A storage in an array of `N` punches: for the host, and for boards whose memory keeps its power.
#[derive(Clone, Debug)]
pub struct RamStorage<const N: usize> {
    slots: [Option<(Seq, Punch)>; N],
    at: Recovered,
}

impl<const N: usize> Default for RamStorage<N> {
    fn default() -> Self {
        RamStorage::new()
    }
}

impl<const N: usize> RamStorage<N> {
    /// Empty, before the first boot.
    pub const fn new() -> RamStorage<N> {
        let at = Recovered { boot: BootId(0), released: Seq(0), next: Seq(1), lost: 0, lost_seen: 0 };
        RamStorage { slots: [None; N], at }
    }

    /// Damages the place of a punch, as a flash error would.
    pub fn damage(&mut self, seq: Seq) {
        if let Some(slot) = self.slot(seq) {
            *slot = None;
        }
    }

    fn slot(&mut self, seq: Seq) -> Option<&mut Option<(Seq, Punch)>> {
        let index = (seq.0 as usize).checked_rem(N)?;
        self.slots.get_mut(index)
    }
}

impl<const N: usize> Storage for RamStorage<N> {
    fn recover(&mut self) -> Result<Recovered, StorageError> {
        self.at.boot = BootId(self.at.boot.0.checked_add(1).ok_or(StorageError::Broken)?);
        Ok(self.at)
    }

    fn append(&mut self, seq: Seq, punch: &Punch) -> Result<(), StorageError> {
        if seq.0.saturating_sub(self.at.released.0) as usize > N {
            return Err(StorageError::Full);
        }
        *self.slot(seq).ok_or(StorageError::Full)? = Some((seq, *punch));
        self.at.next = Seq(seq.0.saturating_add(1));
        Ok(())
    }

    fn read(&mut self, seq: Seq) -> Option<Punch> {
        let (kept, punch) = (*self.slot(seq)?)?;
        (kept == seq).then_some(punch)
    }

    fn release(&mut self, through: Seq) -> Result<(), StorageError> {
        self.at.released = through;
        Ok(())
    }

    fn record_lost(&mut self, lost: u32, seen: u32) -> Result<(), StorageError> {
        (self.at.lost, self.at.lost_seen) = (lost, seen);
        Ok(())
    }

    fn capacity(&self) -> u32 {
        N as u32
    }
}
