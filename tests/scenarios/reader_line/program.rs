//! What a simulated reader has beside its journal: programs in its slots, and the allow-list.

use firmware::journal::Storage;
use firmware::update::{Identity, Updater, boot};
use firmware::{AllowList, Reader};
use harness::reader::Chip;
use protocol::{Badge, Key, UptimeMs};

pub const BOARD: u8 = 1;
/// Pages of a slot: a head and two of body.
const PAGES: usize = 3;
/// Milliseconds from the answer to the restart: the answer has left by then.
const LEAVES: u32 = 5;

pub struct Program {
    pub list: AllowList<Chip>,
    updater: Option<Updater<Chip>>,
    restart_in: Option<u32>,
    /// The new program reaches the gateway.
    pub works: bool,
}

/// The secret is 32 times 42.
pub fn maker() -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_bytes(&[0x42; 32])
}

impl Program {
    pub fn new(key: Option<Key>) -> Program {
        let list = AllowList::new(Chip::new(2 * PAGES), 0, PAGES, key);
        let mut program = Program { list, updater: None, restart_in: None, works: true };
        program.start_with(Chip::new(2 * PAGES));
        program
    }

    fn start_with(&mut self, mut chip: Chip) {
        let running = boot(&mut chip, PAGES, BOARD).unwrap_or(0);
        let maker = Some(maker().verifying_key().to_bytes());
        self.updater = Some(Updater::new(chip, PAGES, Identity { board: BOARD, running, maker }));
        self.restart_in = None;
    }

    fn updater(&mut self) -> &mut Updater<Chip> {
        self.updater.as_mut().unwrap()
    }

    /// The reader starts again. A program that does not work starts over and over, until the one before comes back.
    pub fn start(&mut self) {
        for _ in 0..10 {
            let chip = self.updater.take().unwrap().into_flash();
            self.start_with(chip);
            if self.works || !self.updater().image().on_trial {
                break;
            }
        }
    }

    /// Answers what the gateway wants of it.
    pub fn look_after<S: Storage>(&mut self, reader: &mut Reader<S>) {
        if let Some(upkeep) = reader.poll_upkeep() {
            let listed = self.list.answer(&upkeep);
            let answer = listed.unwrap_or_else(|| self.updater().answer(&upkeep));
            reader.answer_upkeep(&answer);
        }
        if reader.is_served() {
            self.updater().confirm();
        }
    }

    /// A millisecond's work; whether to start again now.
    pub fn work(&mut self) -> bool {
        self.list.work();
        self.updater().work();
        if self.updater().wants_restart() {
            let left = self.restart_in.get_or_insert(LEAVES);
            *left = left.saturating_sub(1);
            return *left == 0;
        }
        false
    }

    /// What a swipe of this badge shows when the reader is alone; `None` when it is not, or knows nothing.
    pub fn says<S: Storage>(&mut self, reader: &Reader<S>, badge: u32, now: UptimeMs) -> Option<bool> {
        if reader.is_alone(now) { self.list.has(Badge::Full(badge)) } else { None }
    }

    pub fn version(&mut self) -> u32 {
        self.updater().image().version
    }
}
