//! The reader's program, and how it is exchanged over the line.
//!
//! There are three places for it. The factory's image is never erased: it is what a reset runs, and [`boot`] is the first
//! thing that it does. An update goes into the one of two slots that does not run; what is in there counts only when its
//! maker's signature and its hash were right ([`Updater`]). A new image runs on trial until the gateway has talked to it;
//! one that does not come so far in [`Mark::Tried`]'s eight starts is left, and the one before runs again. So a power cut
//! at any moment leaves a program that starts, and an update that goes on where it was.
//!
//! Knows nothing about the journal, which lies elsewhere and stays as it is.

pub(crate) mod slot;

use protocol::image::{Header, Piece};
use protocol::{Answer, Image, Refusal, Staging};

use self::slot::Sum;
pub use self::slot::{Mark, Slot};
use crate::flash::{Flash, FlashError};
use crate::reader::Upkeep;

/// Times that a page is begun again before the flash is given up.
const TRIES: u8 = 3;

/// Which reader this is, as far as updates care.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The board, as headers name it.
    pub board: u8,
    /// The slot that runs: 1 or 2; 0 for the factory's image.
    pub running: u8,
    /// The maker's public key. Without one no update is taken.
    pub maker: Option<[u8; 32]>,
}

/// The slots in a stretch of flash: the first one, and the second one behind it.
pub const fn slots(pages: usize) -> [Slot; 2] {
    [Slot { first: 0, pages }, Slot { first: pages, pages }]
}

fn slot(pages: usize, number: u8) -> Slot {
    let [one, two] = slots(pages);
    if number == 2 { two } else { one }
}

/// The slot to run, with `pages` each: the newest that is whole and known to be good, or has a trial left, which is then
/// used up. `None` for the factory's image.
pub fn boot<F: Flash>(flash: &mut F, pages: usize, board: u8) -> Option<u8> {
    let mut versions = [1, 2].map(|number| (standing(flash, slot(pages, number), board, number), number));
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().filter(|(version, _)| *version > 0).map(|(_, number)| number).find(|number| {
        let slot = slot(pages, *number);
        let is_good = slot.is(flash, Mark::Good);
        let may_run = (is_good || slot.is(flash, Mark::Whole)) && is_intact(flash, slot);
        may_run && (is_good || slot.set(flash, Mark::Tried).is_ok())
    })
}

/// The version of the image that the header promises; 0 for none.
fn standing<F: Flash>(flash: &mut F, slot: Slot, board: u8, number: u8) -> u32 {
    let header = slot.header(flash).ok().and_then(|piece| Header::parse(&piece));
    header.filter(|(header, _)| header.board == board && header.slot == number).map_or(0, |(header, _)| header.version)
}

fn is_intact<F: Flash>(flash: &mut F, slot: Slot) -> bool {
    let Some((header, _)) = slot.header(flash).ok().and_then(|piece| Header::parse(&piece)) else { return false };
    slot.holds(flash, header.length, header.hash)
}

/// What is being done.
enum Work {
    Idle,
    /// The signature is to be checked.
    Signature(Piece),
    /// Pieces are taken.
    Taking {
        header: Piece,
        next: u16,
        failures: u8,
    },
    /// The hash is being computed.
    Body {
        header: Piece,
        sum: Sum,
    },
    Ready {
        header: Piece,
    },
    /// Refused, and not told yet.
    Refused {
        header: Piece,
        refusal: Refusal,
    },
}

/// Takes an update, checks it, and keeps it for the next start.
pub struct Updater<F> {
    flash: F,
    pages: usize,
    identity: Identity,
    version: u32,
    on_trial: bool,
    confirmed: bool,
    work: Work,
    restart: bool,
}

impl<F: Flash> Updater<F> {
    /// Over two slots of `pages` each.
    pub fn new(mut flash: F, pages: usize, identity: Identity) -> Updater<F> {
        let Identity { board, running, .. } = identity;
        let mut version = 0;
        let mut on_trial = false;
        if running > 0 {
            version = standing(&mut flash, slot(pages, running), board, running);
            on_trial = !slot(pages, running).is(&mut flash, Mark::Good);
        }
        Updater { flash, pages, identity, version, on_trial, confirmed: false, work: Work::Idle, restart: false }
    }

    /// Does what the gateway wants, and tells what came of it. The list is the business of [`crate::AllowList`].
    pub fn answer(&mut self, upkeep: &Upkeep) -> Answer {
        let outcome = match upkeep {
            Upkeep::Image => Ok(()),
            Upkeep::Stage(header) => self.stage(header),
            Upkeep::Write(index, piece) => self.write(*index, piece),
            Upkeep::Install => self.install(),
            // Whoever has settings was paired before.
            Upkeep::Pair(_) => Err(Refusal::Paired),
            Upkeep::AllowList(_) | Upkeep::OfferList(_) | Upkeep::WriteList(..) => Err(Refusal::NotUnderstood),
        };
        outcome.map_or_else(Answer::Refused, |()| Answer::Image(self.image()))
    }

    /// What runs and what is staged.
    pub fn image(&self) -> Image {
        let staging = match &self.work {
            Work::Idle | Work::Refused { .. } => Staging::Nothing,
            Work::Signature(_) | Work::Body { .. } => Staging::Checking,
            Work::Taking { next, .. } => Staging::Next(*next),
            Work::Ready { .. } => Staging::Ready,
        };
        let (version, on_trial, target) = (self.version, self.on_trial, self.target());
        Image { board: self.identity.board, version, on_trial, target, staging }
    }

    /// An update is offered, anew or after a pause.
    pub fn stage(&mut self, offered: &Piece) -> Result<(), Refusal> {
        match &self.work {
            Work::Signature(header)
            | Work::Taking { header, .. }
            | Work::Body { header, .. }
            | Work::Ready { header }
                if header == offered =>
            {
                return Ok(());
            }
            Work::Refused { header, .. } if header == offered => return self.tell_refusal(),
            Work::Idle
            | Work::Signature(_)
            | Work::Taking { .. }
            | Work::Body { .. }
            | Work::Ready { .. }
            | Work::Refused { .. } => {}
        }
        (self.work, self.restart) = (Work::Idle, false);
        self.admit(offered)?;
        self.work = Work::Signature(*offered);
        Ok(())
    }

    /// What can be said without the signature.
    fn admit(&mut self, offered: &Piece) -> Result<(), Refusal> {
        let (header, _) = Header::parse(offered).ok_or(Refusal::NotSigned)?;
        if header.board != self.identity.board || header.slot != self.target() {
            return Err(Refusal::OtherBoard);
        }
        if header.version <= self.newest_good() {
            return Err(Refusal::OldVersion);
        }
        if header.length as usize > self.slot().room::<F>() {
            return Err(Refusal::NoFlash);
        }
        Ok(())
    }

    /// A piece of the body; one that is not the next is left aside.
    pub fn write(&mut self, index: u16, piece: &Piece) -> Result<(), Refusal> {
        let slot = self.slot();
        let Work::Taking { header, next, failures } = &mut self.work else {
            return if matches!(self.work, Work::Refused { .. }) { self.tell_refusal() } else { Ok(()) };
        };
        let pieces = Header::parse(header).map_or(0, |(header, _)| header.pieces());
        if index != *next || index >= pieces {
            return Ok(());
        }
        if slot.write(&mut self.flash, index, piece).is_ok() {
            *next += 1;
            if next.is_multiple_of(Slot::pieces::<F>()) {
                *failures = 0;
            }
            return Ok(());
        }
        *next -= index % Slot::pieces::<F>();
        *failures += 1;
        if *failures >= TRIES {
            self.work = Work::Idle;
            return Err(Refusal::NoFlash);
        }
        Ok(())
    }

    /// Everything is there: it is checked, and when it is right the reader starts again.
    pub fn install(&mut self) -> Result<(), Refusal> {
        match &self.work {
            Work::Taking { header, next, .. } => {
                let (parsed, _) = Header::parse(header).ok_or(Refusal::NotStaged)?;
                if *next < parsed.pieces() {
                    return Err(Refusal::NotStaged);
                }
                self.work = Work::Body { header: *header, sum: Sum::of(parsed.length, parsed.hash) };
                Ok(())
            }
            Work::Ready { .. } => {
                self.restart = true;
                Ok(())
            }
            Work::Refused { .. } => self.tell_refusal(),
            Work::Body { .. } => Ok(()),
            Work::Idle | Work::Signature(_) => Err(Refusal::NotStaged),
        }
    }

    fn tell_refusal(&mut self) -> Result<(), Refusal> {
        match core::mem::replace(&mut self.work, Work::Idle) {
            Work::Refused { refusal, .. } => Err(refusal),
            work => {
                self.work = work;
                Ok(())
            }
        }
    }

    /// Slow work, a bit of it: to be called while no answer is owed. Checking a signature takes longest.
    pub fn work(&mut self) {
        let slot = self.slot();
        match core::mem::replace(&mut self.work, Work::Idle) {
            Work::Signature(header) => {
                let outcome = self.open(&header);
                self.work = outcome.unwrap_or_else(|refusal| Work::Refused { header, refusal });
            }
            Work::Body { header, mut sum } => {
                let added = sum.add(&mut self.flash, slot);
                self.work = match added {
                    Ok(()) if sum.is_midway() => Work::Body { header, sum },
                    Ok(()) => self.close(header, &sum),
                    Err(FlashError) => Work::Refused { header, refusal: Refusal::Damaged },
                };
            }
            other => self.work = other,
        }
    }

    /// With the right signature, goes on where it was, or begins.
    fn open(&mut self, header: &Piece) -> Result<Work, Refusal> {
        if !self.identity.maker.is_some_and(|maker| is_signed(header, &maker)) {
            return Err(Refusal::NotSigned);
        }
        let (slot, flash) = (self.slot(), &mut self.flash);
        let done = slot.done(flash);
        // Without a page behind it the header may be what was torn; and what was tried is not tried again.
        if slot.header(flash) == Ok(*header) && done > 0 && !slot.is(flash, Mark::Tried) {
            let pieces = Header::parse(header).map_or(0, |(header, _)| header.pieces());
            let next = (done as u16 * Slot::pieces::<F>()).min(pieces);
            return Ok(Work::Taking { header: *header, next, failures: 0 });
        }
        slot.begin(flash, header).map_err(|FlashError| Refusal::NoFlash)?;
        Ok(Work::Taking { header: *header, next: 0, failures: 0 })
    }

    fn close(&mut self, header: Piece, sum: &Sum) -> Work {
        let (slot, flash) = (self.slot(), &mut self.flash);
        if !sum.is_right() {
            // If this fails the next offer of it finds it as it is, and fails again.
            let _ = slot.clear(flash);
            return Work::Refused { header, refusal: Refusal::Damaged };
        }
        match slot.set(flash, Mark::Whole) {
            Ok(()) => Work::Ready { header },
            Err(FlashError) => Work::Refused { header, refusal: Refusal::NoFlash },
        }
    }

    /// Whether to start again, once what is being sent has left.
    pub fn wants_restart(&self) -> bool {
        self.restart
    }

    /// The gateway talks to the program that runs: it stays. Said once more at each start, because the mark of an earlier
    /// one may be torn; eight of them are enough.
    pub fn confirm(&mut self) {
        if self.identity.running > 0 && !self.confirmed {
            self.confirmed = true;
            let pinned = slot(self.pages, self.identity.running).set(&mut self.flash, Mark::Good);
            self.on_trial &= pinned.is_err();
        }
    }

    /// What a power cut leaves.
    pub fn into_flash(self) -> F {
        self.flash
    }

    /// The slot that does not run.
    fn target(&self) -> u8 {
        if self.identity.running == 1 { 2 } else { 1 }
    }

    fn slot(&self) -> Slot {
        slot(self.pages, self.target())
    }

    /// The highest version that has ever worked here, as far as it is still there.
    fn newest_good(&mut self) -> u32 {
        let good = [1, 2].map(|number| {
            let place = slot(self.pages, number);
            let version = standing(&mut self.flash, place, self.identity.board, number);
            if place.is(&mut self.flash, Mark::Good) { version } else { 0 }
        });
        good.into_iter().fold(self.version, u32::max)
    }
}

fn is_signed(header: &Piece, maker: &[u8; 32]) -> bool {
    let Some((header, signature)) = Header::parse(header) else { return false };
    let Ok(maker) = salty::PublicKey::try_from(maker) else { return false };
    maker.verify(&header.signed(), &salty::Signature::from(&signature)).is_ok()
}
