//! The journal in flash: an append-only ring of pages that a power cut at any moment leaves readable.
//!
//! ```text
//! page   slot 0       header: the page's place in the order of pages, and the state when it was opened
//!        slots 1..    punches and states, in the order in which they were written
//! state  boot, commit watermark, next number, losses: each one is complete, so the last one counts
//! ```
//!
//! A word is programmed once after its page was erased, and a page is erased only when none of its punches is needed any
//! more. Pages are taken in turn, which spreads the wear: with 128 pages, 1 600 punches a day and a release after
//! each, every page is erased once in 2.5 days; it bears 10 000. A page is erased ahead by [`Storage::tidy`], while the
//! line is quiet; only when there was no quiet for a whole page, an append erases it itself rather than lose a punch.
//! A write tries at most eight slots, so an append ends after 32 programmed words, or after 40 and two erases when it
//! opens a page itself (STM32L475: 3 ms, or 54 ms); without power cuts before, after 4, or 8. Which guard helps against
//! what is written at [`Rules`].
//!
//! A header that goes bad by itself, after it had been written well, takes the punches of its page with it; they are seen
//! as damaged numbers. The chip's ECC repairs one wrong bit per word.

pub mod rules;
mod slot;

use core::marker::PhantomData;

use protocol::{BootId, Punch, Seq};

use self::rules::{Rules, Sound};
use self::slot::{Record, SLOT, Slot};
use crate::flash::{Flash, FlashError, WORD};
use crate::journal::{Recovered, Storage, StorageError};

/// Slots that a record may try: each power cut spoils at most one, and as many cuts in a row may hit the same start.
const TRIES: usize = 8;
/// Pages that a header may try.
const PAGE_TRIES: usize = 2;
/// Pages that punches leave free. The states alternate between two while the ring is full; each further one is for a
/// power cut within the first millisecond of a start, one start after the other, while it is full.
const SPARE: usize = 6;
/// Records after its header that make a page sound.
const SOUND: usize = 2;

/// What is known of a page without reading it. Numbers from `first` to before `end` are in it, or nowhere.
#[derive(Clone, Copy, Debug, Default)]
struct Page {
    /// Zero for a page that does not count.
    order: u32,
    first: u32,
    end: u32,
}

impl Page {
    fn is_needed(&self, erasable: Seq) -> bool {
        self.end > self.first.max(erasable.0.saturating_add(1))
    }
}

/// What a page tells, read from its beginning.
#[derive(Clone, Copy, Debug)]
struct Replayed {
    state: Recovered,
    /// The watermark without the last record.
    sure: Seq,
    used: usize,
    has_punch: bool,
}

impl Replayed {
    /// Grows with everything that is written down; the boot first, because a start pins what it has found.
    fn knowledge(&self) -> (BootId, Seq, Seq, u32, u32) {
        let Recovered { boot, released, next, lost, lost_seen } = self.state;
        (boot, next, released, lost, lost_seen)
    }
}

/// A journal in `PAGES` pages of flash.
#[derive(Debug)]
pub struct FlashRing<F, const PAGES: usize, R = Sound> {
    flash: F,
    pages: [Page; PAGES],
    /// The page that is written now, and how many of its slots are used up.
    head: usize,
    used: usize,
    /// The highest that was ever seen.
    order: u32,
    state: Recovered,
    /// Punches through this one may be erased: the watermark, but for one that was read at this start from the very last
    /// record and is not written down again yet.
    erasable: Seq,
    /// Erased in this boot and not used since.
    prepared: Option<usize>,
    /// A record follows the header of the head.
    settled: bool,
    /// Pages from this order on are kept, needed or not.
    keep_from: Option<u32>,
    rules: PhantomData<R>,
}

impl<F: Flash, const PAGES: usize, R: Rules> FlashRing<F, PAGES, R> {
    /// Slots of a page.
    const SLOTS: usize = F::PAGE / SLOT;
    const GEOMETRY: () = assert!(PAGES > SPARE + 1 && Self::SLOTS >= 4, "a ring needs four pages of four slots");

    /// Over this flash; nothing is read before [`Storage::recover`].
    pub fn new(flash: F) -> FlashRing<F, PAGES, R> {
        let () = Self::GEOMETRY;
        let state = Recovered { boot: BootId(0), released: Seq(0), next: Seq(1), lost: 0, lost_seen: 0 };
        FlashRing {
            flash,
            pages: [Page::default(); PAGES],
            head: 0,
            used: Self::SLOTS,
            order: 0,
            state,
            erasable: Seq(0),
            prepared: None,
            settled: true,
            keep_from: None,
            rules: PhantomData,
        }
    }

    // --- starting ---

    /// Reads the headers; the newest page tells the state.
    fn mount(&mut self) {
        let sound = core::array::from_fn::<bool, PAGES, _>(|page| {
            let Slot::Holds(Record::Header { order, state }) = self.look(page, 0) else { return false };
            self.order = self.order.max(order);
            self.pages[page] = Page { order, first: state.next.0, end: state.next.0 };
            (1..Self::SLOTS).filter(|slot| self.holds(page, *slot)).take(SOUND).count() == SOUND
        });
        let last_sound = self.newest(|page| sound[page]);
        let sound_order = last_sound.map_or(0, |page| self.pages[page].order);
        let Some((head, replayed)) = self.latest(last_sound, sound_order) else { return };
        self.head = head;
        (self.state, self.used) = (replayed.state, replayed.used);
        let released = replayed.state.released;
        self.erasable = if R::SURE_BEFORE_LAST { released.min(replayed.sure) } else { released };
        if R::TWO_RECORDS && !sound[head] {
            self.used = Self::SLOTS;
            self.keep_from = Some(sound_order);
        }
        for page in (0..PAGES).filter(|page| *page != head && !sound[*page]) {
            if R::BLANK_TORN && self.pages[page].order > 0 && !self.replay(page).has_punch {
                (self.pages[page].first, self.pages[page].end) = (u32::MAX, 0);
            }
        }
        self.find_ends();
    }

    /// Of the last sound page and the torn ones that may have come after it, the one that knows most.
    fn latest(&mut self, last_sound: Option<usize>, sound_order: u32) -> Option<(usize, Replayed)> {
        let mut latest = last_sound.map(|page| (page, self.replay(page)));
        for page in (0..PAGES).filter(|page| Some(*page) != last_sound) {
            let order = self.pages[page].order;
            if order <= sound_order {
                continue;
            }
            let replayed = self.replay(page);
            let is_later = latest.is_none_or(|(known, sofar)| match R::LATEST_STATE {
                true => replayed.knowledge() > sofar.knowledge(),
                false => order > self.pages[known].order,
            });
            if is_later {
                latest = Some((page, replayed));
            }
        }
        latest
    }

    fn newest(&self, among: impl Fn(usize) -> bool) -> Option<usize> {
        (0..PAGES).filter(|page| among(*page)).max_by_key(|page| self.pages[*page].order)
    }

    fn replay(&mut self, page: usize) -> Replayed {
        let mut replayed = Replayed { state: self.state, sure: Seq(0), used: 0, has_punch: false };
        for slot in 0..Self::SLOTS {
            match self.look(page, slot) {
                Slot::Erased => continue,
                Slot::Damaged => {}
                Slot::Holds(Record::Header { state, .. }) => {
                    (replayed.state, replayed.sure) = (state, state.released);
                }
                Slot::Holds(Record::State(state)) => {
                    replayed.sure = replayed.state.released;
                    replayed.state = state;
                }
                Slot::Holds(Record::Punch(seq, _)) => {
                    replayed.sure = replayed.state.released;
                    replayed.state.next = Seq(seq.0.saturating_add(1));
                    replayed.has_punch = true;
                }
            }
            replayed.used = slot + 1;
        }
        replayed
    }

    /// A page's numbers end where those of a later page begin.
    fn find_ends(&mut self) {
        let pages = self.pages;
        for page in self.pages.iter_mut().filter(|page| page.order > 0 && page.first < u32::MAX) {
            let later = pages.iter().filter(|other| other.order > page.order).map(|other| other.first);
            page.end = later.min().unwrap_or(u32::MAX).min(self.state.next.0);
        }
    }

    // --- writing ---

    fn write(&mut self, record: &Record) -> Result<(), StorageError> {
        for _ in 0..TRIES {
            if self.used >= Self::SLOTS {
                self.open_page()?;
            }
            let slot = self.used;
            self.used += 1;
            if self.program(self.head, slot, record) {
                self.settled = true;
                return Ok(());
            }
        }
        Err(StorageError::Broken)
    }

    fn write_state(&mut self, state: Recovered) -> Result<(), StorageError> {
        self.write(&Record::State(state))?;
        (self.state, self.erasable) = (state, state.released);
        Ok(())
    }

    fn open_page(&mut self) -> Result<(), StorageError> {
        for _ in 0..PAGE_TRIES {
            let Some(page) = self.prepared.take().or_else(|| self.erase_one()) else { continue };
            self.order = self.order.checked_add(1).ok_or(StorageError::Broken)?;
            let fresh = Recovered { boot: BootId(0), released: Seq(0), lost: 0, lost_seen: 0, ..self.state };
            let state = if R::STATE_IN_HEADER { self.state } else { fresh };
            if self.program(page, 0, &Record::Header { order: self.order, state }) {
                let next = self.state.next.0;
                self.pages[page] = Page { order: self.order, first: next, end: next };
                (self.head, self.used, self.settled) = (page, 1, false);
                return Ok(());
            }
        }
        Err(StorageError::Broken)
    }

    /// Erases the next page that is not needed.
    fn erase_one(&mut self) -> Option<usize> {
        let page = self.next_free(|page| !self.is_doubtful(page)).or_else(|| self.next_free(|_| true))?;
        self.pages[page] = Page::default();
        if !R::ERASE_AGAIN && (0..Self::SLOTS).all(|slot| self.look(page, slot) == Slot::Erased) {
            return Some(page);
        }
        self.flash.erase(page).ok()?;
        Some(page)
    }

    fn next_free(&self, among: impl Fn(usize) -> bool) -> Option<usize> {
        (1..=PAGES).map(|step| (self.head + step) % PAGES).find(|page| self.is_free(*page) && among(*page))
    }

    /// Whether nothing in this page is needed. The head itself is not needed before the first page was opened.
    fn is_free(&self, page: usize) -> bool {
        let is_head = page == self.head && self.order > 0;
        let is_needed = R::KEEP_UNRELEASED && self.pages[page].is_needed(self.erasable);
        !is_head && self.prepared != Some(page) && !is_needed
    }

    fn is_doubtful(&self, page: usize) -> bool {
        let order = self.pages[page].order;
        R::KEEP_DOUBTFUL && self.keep_from.is_some_and(|from| order >= from)
    }

    fn free_pages(&self) -> usize {
        (0..PAGES).filter(|page| self.is_free(*page)).count() + usize::from(self.prepared.is_some())
    }

    // --- slots ---

    /// Whether the record is in the slot now, as meant.
    fn program(&mut self, page: usize, slot: usize, record: &Record) -> bool {
        let (at, bytes) = (Self::offset(page, slot), slot::encode(record));
        let (words, _) = bytes.as_chunks::<WORD>();
        let offsets = (at..).step_by(WORD);
        let programmed = offsets.zip(words).try_for_each(|(at, word)| self.flash.program(at, word));
        !R::READ_BACK || (programmed.is_ok() && self.bytes(page, slot) == Ok(bytes))
    }

    fn look(&mut self, page: usize, slot: usize) -> Slot {
        self.bytes(page, slot).map_or(Slot::Damaged, |bytes| slot::decode(&bytes, !R::CHECKSUM))
    }

    fn holds(&mut self, page: usize, slot: usize) -> bool {
        matches!(self.look(page, slot), Slot::Holds(_))
    }

    fn bytes(&mut self, page: usize, slot: usize) -> Result<[u8; SLOT], FlashError> {
        let mut bytes = [0; SLOT];
        self.flash.read(Self::offset(page, slot), &mut bytes)?;
        Ok(bytes)
    }

    fn offset(page: usize, slot: usize) -> usize {
        page * F::PAGE + slot * SLOT
    }
}

impl<F: Flash, const PAGES: usize, R: Rules> Storage for FlashRing<F, PAGES, R> {
    fn recover(&mut self) -> Result<Recovered, StorageError> {
        self.mount();
        let boot = BootId(self.state.boot.0.checked_add(1).ok_or(StorageError::Broken)?);
        let state = Recovered { boot, ..self.state };
        if R::PIN_AT_START {
            self.write_state(state)?;
        }
        while self.used <= SOUND {
            self.write_state(state)?;
        }
        self.state = state;
        self.keep_from = None;
        Ok(state)
    }

    fn append(&mut self, seq: Seq, punch: &Punch) -> Result<(), StorageError> {
        let end = seq.0.checked_add(1).ok_or(StorageError::Full)?;
        let opens_page = self.used >= Self::SLOTS;
        if R::SPARE_PAGES && self.free_pages() < SPARE + usize::from(opens_page) {
            return Err(StorageError::Full);
        }
        self.write(&Record::Punch(seq, *punch))?;
        self.state.next = Seq(end);
        self.pages[self.head].end = end;
        Ok(())
    }

    fn read(&mut self, seq: Seq) -> Option<Punch> {
        let page = self.pages.iter().position(|page| page.order > 0 && (page.first..page.end).contains(&seq.0))?;
        let found = |slot| match self.look(page, slot) {
            Slot::Holds(Record::Punch(kept, punch)) if kept == seq => Some(Some(punch)),
            Slot::Holds(Record::State(state)) if state.next <= seq && R::LAST_WINS => Some(None),
            Slot::Erased | Slot::Damaged | Slot::Holds(_) => None,
        };
        let slots = 1..Self::SLOTS;
        if R::LAST_WINS { slots.rev().find_map(found).flatten() } else { slots.map(found).find_map(Option::flatten) }
    }

    fn release(&mut self, through: Seq) -> Result<(), StorageError> {
        self.write_state(Recovered { released: through, ..self.state })
    }

    fn record_lost(&mut self, lost: u32, seen: u32) -> Result<(), StorageError> {
        self.write_state(Recovered { lost, lost_seen: seen, ..self.state })
    }

    /// What fits when nothing but punches is written; releases, starts and losses take a slot each.
    fn capacity(&self) -> u32 {
        ((PAGES - SPARE) * (Self::SLOTS - 1)) as u32
    }

    fn tidy(&mut self) {
        if self.prepared.is_none() && self.settled {
            self.prepared = self.erase_one();
        }
    }
}
