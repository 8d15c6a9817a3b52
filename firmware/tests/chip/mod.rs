//! A flash that obeys the chip's rules, and loses its power in the middle of any program or erase.
//!
//! A word takes one programming per erase. What a cut has torn stays torn until it is erased: it refuses to be
//! programmed, and reads at each start as one of the things that it might be, whole and right among them.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use firmware::flash::{Flash, FlashError, WORD};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What the torn words look like at the next start. At later starts it is drawn anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Torn {
    /// As if nothing had been done.
    Untouched,
    /// As if all had been done.
    Whole,
    /// Some bits of it.
    Mixed,
    /// The ECC cannot be right.
    Unreadable,
}

impl Torn {
    pub const ALL: [Torn; 4] = [Torn::Untouched, Torn::Whole, Torn::Mixed, Torn::Unreadable];
}

/// A word between two states.
#[derive(Clone, Debug)]
struct Weak {
    from: [u8; WORD],
    to: [u8; WORD],
    /// `None`: unreadable.
    reads: Option<[u8; WORD]>,
}

/// Steps so far; a read is one of any length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    pub programs: usize,
    pub erases: usize,
    pub reads: usize,
}

/// `PAGE` bytes per page.
#[derive(Clone, Debug)]
pub struct Chip<const PAGE: usize> {
    words: Vec<[u8; WORD]>,
    programmed: Vec<bool>,
    weak: BTreeMap<usize, Weak>,
    cut_in: Option<(usize, Torn)>,
    is_off: Rc<Cell<bool>>,
    stuck: BTreeSet<usize>,
    rng: StdRng,
    effort: Rc<Cell<Effort>>,
    pub erased: Vec<usize>,
}

impl<const PAGE: usize> Chip<PAGE> {
    pub fn new(pages: usize, seed: u64) -> Chip<PAGE> {
        let words = pages * PAGE / WORD;
        Chip {
            words: vec![[0xFF; WORD]; words],
            programmed: vec![false; words],
            weak: BTreeMap::new(),
            cut_in: None,
            is_off: Rc::default(),
            stuck: BTreeSet::new(),
            rng: StdRng::seed_from_u64(seed),
            effort: Rc::default(),
            erased: vec![0; pages],
        }
    }

    /// The power goes during the step after this many further programs and erases.
    pub fn cut_after(&mut self, steps: usize, torn: Torn) {
        self.cut_in = Some((steps, torn));
    }

    /// Whether the power is gone; can be asked while a journal has the chip.
    pub fn power(&self) -> Rc<Cell<bool>> {
        self.is_off.clone()
    }

    /// The same chip on another desk, with a power that stays.
    pub fn copy(&self) -> Chip<PAGE> {
        Chip { is_off: Rc::default(), effort: Rc::default(), cut_in: None, ..self.clone() }
    }

    /// Programs and erases so far.
    pub fn steps(&self) -> usize {
        self.effort.get().programs + self.effort.get().erases
    }

    /// What was done so far; can be asked while a journal has the chip.
    pub fn effort(&self) -> Rc<Cell<Effort>> {
        self.effort.clone()
    }

    fn count(&self, step: impl FnOnce(&mut Effort)) {
        let mut effort = self.effort.get();
        step(&mut effort);
        self.effort.set(effort);
    }

    /// The power is back. What was torn in an earlier life reads differently now.
    pub fn power_up(&mut self) {
        if !self.is_off.get() {
            self.redraw(None);
        }
        self.is_off.set(false);
        self.cut_in = None;
    }

    /// A cell goes bad by itself.
    pub fn spoil(&mut self, at: usize) {
        self.words[at / WORD][at % WORD] ^= 0x11;
    }

    /// A cell that is programmed wrong from now on, whatever the controller says; erasing does not help.
    pub fn stick(&mut self, at: usize) {
        self.stuck.insert(at / WORD);
    }

    fn redraw(&mut self, torn: Option<Torn>) {
        let rng = &mut self.rng;
        for weak in self.weak.values_mut() {
            let torn = torn.unwrap_or_else(|| Torn::ALL[rng.random_range(0..Torn::ALL.len())]);
            weak.reads = match torn {
                Torn::Untouched => Some(weak.from),
                Torn::Whole => Some(weak.to),
                Torn::Mixed => Some(std::array::from_fn(|byte| {
                    let mask: u8 = rng.random();
                    weak.from[byte] & mask | weak.to[byte] & !mask
                })),
                Torn::Unreadable => None,
            };
        }
    }

    /// Whether the power goes now, and how.
    fn is_cut(&mut self) -> Option<Torn> {
        let (steps, torn) = self.cut_in.as_mut()?;
        if *steps == 0 {
            let torn = *torn;
            self.is_off.set(true);
            // Words that an earlier cut has torn have their own fate.
            self.redraw(None);
            return Some(torn);
        }
        *steps -= 1;
        None
    }

    fn tear(&mut self, index: usize, to: [u8; WORD], torn: Torn) {
        let from = self.weak.get(&index).map_or(self.words[index], |weak| weak.reads.unwrap_or(weak.to));
        let others = std::mem::take(&mut self.weak);
        self.weak.insert(index, Weak { from, to, reads: None });
        self.redraw(Some(torn));
        self.weak.extend(others.into_iter().filter(|(other, _)| *other != index));
    }
}

impl<const PAGE: usize> Flash for Chip<PAGE> {
    const PAGE: usize = PAGE;

    fn read(&mut self, at: usize, into: &mut [u8]) -> Result<(), FlashError> {
        if self.is_off.get() {
            return Err(FlashError);
        }
        self.count(|effort| effort.reads += 1);
        for (offset, byte) in into.iter_mut().enumerate() {
            let (index, place) = ((at + offset) / WORD, (at + offset) % WORD);
            *byte = match self.weak.get(&index) {
                Some(weak) => weak.reads.ok_or(FlashError)?[place],
                None => self.words[index][place],
            };
        }
        Ok(())
    }

    fn program(&mut self, at: usize, word: &[u8; WORD]) -> Result<(), FlashError> {
        if self.is_off.get() {
            return Err(FlashError);
        }
        assert_eq!(at % WORD, 0, "words are programmed at their place");
        let index = at / WORD;
        if self.programmed[index] || self.weak.contains_key(&index) {
            return Err(FlashError);
        }
        if let Some(torn) = self.is_cut() {
            self.tear(index, *word, torn);
            return Err(FlashError);
        }
        self.count(|effort| effort.programs += 1);
        self.words[index] = *word;
        self.words[index][0] ^= u8::from(self.stuck.contains(&index));
        self.programmed[index] = true;
        Ok(())
    }

    fn erase(&mut self, page: usize) -> Result<(), FlashError> {
        if self.is_off.get() {
            return Err(FlashError);
        }
        let words = page * PAGE / WORD..(page + 1) * PAGE / WORD;
        if let Some(torn) = self.is_cut() {
            // Each word by itself: some are erased for good, some hang between, some are as they were.
            for index in words {
                match self.rng.random_range(0..4) {
                    0 => {}
                    1 => self.wipe(index),
                    _ => self.tear(index, [0xFF; WORD], torn),
                }
            }
            return Err(FlashError);
        }
        self.count(|effort| effort.erases += 1);
        self.erased[page] += 1;
        words.for_each(|index| self.wipe(index));
        Ok(())
    }
}

impl<const PAGE: usize> Chip<PAGE> {
    fn wipe(&mut self, index: usize) {
        self.weak.remove(&index);
        self.words[index] = [0xFF; WORD];
        self.programmed[index] = false;
    }
}
