//! The allow-list in flash: whether a badge is registered, for the time when the gateway is away.
//!
//! There are two places for it, used in turn: the list that counts is replaced only by one that has arrived whole. A power
//! cut at any moment leaves the one or the other, or for a moment both; then the first place counts until the gateway, who
//! knows, offers its list again. Never decides whether a swipe is kept: every one is.

use protocol::allow::{Header, Mark as Trait};
use protocol::image::Piece;
use protocol::{Answer, Badge, Digest, Key, Refusal, Staging};

use crate::flash::{Flash, FlashError};
use crate::reader::Upkeep;
use crate::update::slot::Sum;
use crate::update::{Mark, Slot};

/// What is being done.
enum Work {
    Idle,
    Taking { header: Piece, next: u16 },
    Body { header: Piece, sum: Sum },
}

/// The list that counts, and the one that comes.
pub struct AllowList<F> {
    flash: F,
    places: [Slot; 2],
    key: Option<Key>,
    held: Option<(usize, Header)>,
    work: Work,
}

impl<F: Flash> AllowList<F> {
    /// In two stretches of `pages` each from page `first` on. Reads the list once, which takes a while.
    pub fn new(mut flash: F, first: usize, pages: usize, key: Option<Key>) -> AllowList<F> {
        let places = [Slot { first, pages }, Slot { first: first + pages, pages }];
        let held = places.iter().enumerate().find_map(|(place, slot)| {
            let header = slot.header(&mut flash).ok().and_then(|piece| Header::parse(&piece))?;
            let counts = slot.is(&mut flash, Mark::Whole) && slot.holds(&mut flash, header.length, header.hash);
            counts.then_some((place, header))
        });
        AllowList { flash, places, key, held, work: Work::Idle }
    }

    /// Whether the badge is on the list; `None` without a list.
    pub fn has(&mut self, badge: Badge) -> Option<bool> {
        let (place, header) = self.held?;
        let marks = Trait::of(badge).map(|mark| mark.fingerprint(self.key));
        Some(marks.into_iter().any(|mark| self.contains(place, &header, mark)))
    }

    fn contains(&mut self, place: usize, header: &Header, fingerprint: u32) -> bool {
        let (mut from, mut to) = (0, header.fingerprints);
        while from < to {
            let middle = from + (to - from) / 2;
            let mut bytes = [0; 4];
            if self.places[place].read(&mut self.flash, middle as usize * 4, &mut bytes).is_err() {
                return false;
            }
            match u32::from_le_bytes(bytes) {
                found if found == fingerprint => return true,
                found if found < fingerprint => from = middle + 1,
                _ => to = middle,
            }
        }
        false
    }

    /// Does what the gateway wants of the list; `None` when it wants something else.
    pub fn answer(&mut self, upkeep: &Upkeep) -> Option<Answer> {
        let outcome = match upkeep {
            Upkeep::AllowList(_) => return Some(Answer::AllowList { held: self.digest() }),
            Upkeep::OfferList(header) => self.offer(header),
            Upkeep::WriteList(index, piece) => self.write(*index, piece),
            Upkeep::Image | Upkeep::Stage(_) | Upkeep::Write(..) | Upkeep::Install | Upkeep::Pair(_) => return None,
        };
        let staging = match &self.work {
            Work::Idle => Staging::Nothing,
            Work::Taking { next, .. } => Staging::Next(*next),
            Work::Body { .. } => Staging::Checking,
        };
        Some(outcome.map_or_else(Answer::Refused, |()| Answer::List { held: self.digest(), staging }))
    }

    fn digest(&self) -> Digest {
        self.held.map_or(Digest::default(), |(_, header)| header.digest())
    }

    /// The place that does not count.
    fn spare(&self) -> Slot {
        self.places[self.held.map_or(0, |(place, _)| 1 - place)]
    }

    fn offer(&mut self, offered: &Piece) -> Result<(), Refusal> {
        let parsed = Header::parse(offered).ok_or(Refusal::Damaged)?;
        match &self.work {
            Work::Taking { header, .. } | Work::Body { header, .. } if header == offered => return Ok(()),
            Work::Idle if self.digest() == parsed.digest() => return Ok(()),
            Work::Idle | Work::Taking { .. } | Work::Body { .. } => self.work = Work::Idle,
        }
        let spare = self.spare();
        if parsed.length as usize > spare.room::<F>() {
            return Err(Refusal::NoFlash);
        }
        let flash = &mut self.flash;
        let done = spare.done(flash);
        let mut next = 0;
        // Without a page behind it the header may be what was torn.
        if done > 0 && spare.header(flash) == Ok(*offered) {
            next = (done as u16 * Slot::pieces::<F>()).min(parsed.pieces());
        } else {
            spare.begin(flash, offered).map_err(|FlashError| Refusal::NoFlash)?;
        }
        self.work = Work::Taking { header: *offered, next };
        self.close_when_all_is_there();
        Ok(())
    }

    fn write(&mut self, index: u16, piece: &Piece) -> Result<(), Refusal> {
        let spare = self.spare();
        let Work::Taking { next, .. } = &mut self.work else { return Ok(()) };
        if index != *next {
            return Ok(());
        }
        if spare.write(&mut self.flash, index, piece).is_err() {
            // The gateway offers it again some day.
            self.work = Work::Idle;
            return Err(Refusal::NoFlash);
        }
        *next += 1;
        self.close_when_all_is_there();
        Ok(())
    }

    fn close_when_all_is_there(&mut self) {
        let Work::Taking { header, next } = self.work else { return };
        if let Some(parsed) = Header::parse(&header).filter(|parsed| next >= parsed.pieces()) {
            self.work = Work::Body { header, sum: Sum::of(parsed.length, parsed.hash) };
        }
    }

    /// Slow work, a bit of it: to be called while no answer is owed.
    pub fn work(&mut self) {
        let spare = self.spare();
        let Work::Body { header, sum } = &mut self.work else { return };
        let header = *header;
        if sum.add(&mut self.flash, spare).is_ok() && sum.is_midway() {
            return;
        }
        let is_right = sum.is_right();
        self.work = Work::Idle;
        if is_right && spare.set(&mut self.flash, Mark::Whole).is_ok() {
            self.exchange(&header);
        } else {
            // If this fails the next offer finds it as it is, and fails again.
            let _ = spare.clear(&mut self.flash);
        }
    }

    /// The new list counts; the old one never again.
    fn exchange(&mut self, header: &Piece) {
        let place = self.held.map_or(0, |(place, _)| 1 - place);
        if let Some((old, _)) = self.held {
            // Until the next start the new one counts in any case.
            let _ = self.places[old].clear(&mut self.flash);
        }
        self.held = Header::parse(header).map(|header| (place, header));
    }

    /// What a power cut leaves.
    pub fn into_flash(self) -> F {
        self.flash
    }
}
