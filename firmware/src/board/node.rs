//! The loop: drain the rings, ask the reader, set the pins, feed the watchdog, sleep until the next interrupt.

use embedded_hal::digital::OutputPin;
use embedded_hal::spi::SpiDevice;
#[cfg(not(feature = "near-field"))]
use embedded_hal::spi::{ErrorKind, ErrorType, Operation};
use firmware::backup_clock::BackupClock;
use firmware::flash::Flash;
use firmware::journal::{Storage, StorageError};
use firmware::pairing::{self, Hold, Unpaired};
use firmware::settings::Settings;
use firmware::update::Identity;
use firmware::{AllowList, FlashRing, Panel, Reader, Updater, em4100, near_field, wiegand};
use protocol::{Badge, StartCause, UptimeMs};

/// Silence on the line, in milliseconds, after which the gateway is not in the middle of anything.
const QUIET_MS: u64 = 5;
/// How often supply and housing are looked at, in milliseconds.
const HEALTH_MS: u64 = 500;

/// The key that updates are signed with: `ANXIN_MAKER_KEY`, 64 hexadecimal digits, when the image was built. Without it no
/// update is taken. The emulator's images believe the tests: the secret is 32 times 42.
const MAKER: Option<[u8; 32]> = match (option_env!("ANXIN_MAKER_KEY"), cfg!(feature = "emulator")) {
    (Some(text), false) => Some(digits(text.as_bytes())),
    (Some(_) | None, true) => Some(digits(b"2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12")),
    (None, false) => None,
};

const fn digits(text: &[u8]) -> [u8; 32] {
    assert!(text.len() == 64, "ANXIN_MAKER_KEY has 64 hexadecimal digits");
    let (mut bytes, mut i) = ([0; 32], 0);
    while i < 64 {
        let digit = match text[i] {
            digit @ b'0'..=b'9' => digit - b'0',
            digit @ b'a'..=b'f' => digit - b'a' + 10,
            _ => panic!("ANXIN_MAKER_KEY has lower-case hexadecimal digits"),
        };
        bytes[i / 2] = bytes[i / 2] << 4 | digit;
        i += 1;
    }
    bytes
}

/// What a board gives. The flash holds the journal in its first pages, the settings in the page after, and then the
/// allow-lists.
pub trait Board {
    /// The chip's flash, as far as it is the reader's.
    type Flash: Flash;
    /// An output.
    type Pin: OutputPin;
    /// A clock with a battery.
    type Clock: BackupClock;
    /// The port of a 13.56 MHz module.
    type Spi: SpiDevice + Clone;

    /// As the headers of images name it.
    const BOARD: u8;
    /// Pages of a slot.
    const SLOT_PAGES: usize;
    /// Pages of an allow-list: one, and 32 KiB.
    const LIST_PAGES: usize;

    /// The flash of journal, settings and allow-lists. One user per page.
    fn flash(&mut self) -> Self::Flash;
    /// The flash of the two slots. One user at a time.
    fn slots(&mut self) -> Self::Flash;
    /// Green lamp, red lamp, buzzer, turnstile relay. To be called once.
    fn outputs(&mut self) -> [Self::Pin; 4];
    /// Opens the line at this speed.
    fn open_line(&mut self, baud: u32);
    /// The port of a 13.56 MHz module, when the board has one. To be called once.
    fn near_field(&mut self) -> Option<Self::Spi>;
    /// The clock with a battery, when the board has one that works. To be called once.
    fn backup_clock(&mut self) -> Option<Self::Clock>;
    /// Why the board has started.
    fn start_cause(&self) -> StartCause;
    /// Time since the start.
    fn now(&mut self) -> UptimeMs;
    /// The next byte from the line.
    fn line_byte(&mut self) -> Option<u8>;
    /// Puts a frame on the line; the transceiver drives it until the last bit has left.
    fn send(&mut self, frame: &[u8]);
    /// Whether a frame is on its way.
    fn is_sending(&self) -> bool;
    /// The next byte from the badge module.
    fn badge_byte(&mut self) -> Option<u8>;
    /// The next Wiegand pulse: whether it was on D1, and when, in microseconds since the start.
    fn pulse(&mut self) -> Option<(bool, u64)>;
    /// Bytes and pulses that found no room in a ring.
    fn dropped(&self) -> u32;
    /// Supply in millivolts, 0 when it cannot be measured; and whether the housing is open.
    fn health(&mut self) -> (u16, bool);
    /// Tells the watchdog that the loop goes round. It fires after some seconds without.
    fn feed_watchdog(&mut self);
    /// Sleeps until an interrupt, a millisecond at most.
    fn sleep(&mut self);
    /// Whether the button is pressed.
    fn button(&mut self) -> bool;
    /// Starts again, as after power-up.
    fn restart(&mut self) -> !;
}

/// For boards and images without such a port.
#[cfg(not(feature = "near-field"))]
#[derive(Clone)]
pub enum NoSpi {}

#[cfg(not(feature = "near-field"))]
impl ErrorType for NoSpi {
    type Error = ErrorKind;
}

#[cfg(not(feature = "near-field"))]
impl SpiDevice for NoSpi {
    fn transaction(&mut self, _: &mut [Operation<'_, u8>]) -> Result<(), ErrorKind> {
        match *self {}
    }
}

/// Runs the reader with a journal of this many pages, from this place in the flash. Without settings both lamps are on and
/// the line waits for a pairing; when the flash does not work both lamps are on and the line is silent.
pub fn run<const PAGES: usize, B: Board>(mut board: B, place: u8) -> ! {
    let mut flash = board.flash();
    let [mut green, mut red, buzzer, relay] = board.outputs();
    let Some(settings) = pairing::load(&mut flash, PAGES) else {
        // Nothing can be done about a pin that does not obey.
        let _ = (green.set_high(), red.set_high());
        wait_for_pairing(board, Unpaired::new(flash, PAGES))
    };
    board.open_line(settings.baud);
    // Borrowed and not moved: each move of the journal's 1.6 KB would keep a place of its own on the stack for good.
    let mut started = start(settings, FlashRing::<_, PAGES>::new(flash));
    let Ok(reader) = &mut started else {
        let _ = (green.set_high(), red.set_high());
        loop {
            board.feed_watchdog();
            board.sleep();
        }
    };
    reader.handle_start(board.start_cause());
    let mut clock = board.backup_clock();
    if let Some(told) = clock.as_mut().and_then(BackupClock::told) {
        reader.handle_backup_clock(told, board.now());
    }
    let identity = Identity { board: B::BOARD, running: place, maker: MAKER };
    let updater = Updater::new(board.slots(), B::SLOT_PAGES, identity);
    let list = AllowList::new(board.flash(), PAGES + 1, B::LIST_PAGES, settings.key);
    let panel = Panel::new(green, red, buzzer, relay);
    let near_field = board.near_field().map(near_field::Module::new);
    let (card, pulses) = (em4100::Decoder::new(), wiegand::Decoder::new());
    let mut node = Node { reader, updater, list, panel, near_field, card, card_at: 0, pulses };
    let (mut line_at, mut tidied, mut health_at, mut hold) = (0, false, 0, Hold::default());
    loop {
        let now = board.now();
        if hold.handle(board.button(), now) {
            // What cannot be erased is still there, and nothing has changed.
            let _ = board.flash().erase(PAGES);
            board.restart();
        }
        while let Some(byte) = board.line_byte() {
            (line_at, tidied) = (now.0, false);
            node.reader.handle_line_byte(byte, now);
            if let Some(upkeep) = node.reader.poll_upkeep() {
                let answer = node.list.answer(&upkeep).unwrap_or_else(|| node.updater.answer(&upkeep));
                node.reader.answer_upkeep(&answer);
            }
            if let Some(wire) = node.reader.poll_transmit() {
                board.send(&wire);
            }
        }
        if let Some((clock, unix_ms)) = clock.as_mut().zip(node.reader.poll_told()) {
            clock.tell(unix_ms);
        }
        if node.read_badges(&mut board, now) {
            // The page behind this one is erased ahead, whether or not a gateway ever asks.
            tidied = false;
        }
        node.reader.handle_time(now);
        if now.0 >= health_at {
            health_at = now.0 + HEALTH_MS;
            node.look_after(&mut board);
        }
        node.show(now);
        if board.is_sending() {
            line_at = now.0;
        } else {
            node.look_after_program(&mut board);
        }
        if !tidied && now.0 - line_at >= QUIET_MS {
            tidied = true;
            node.reader.handle_quiet();
        }
        board.feed_watchdog();
        board.sleep();
    }
}

fn wait_for_pairing<B: Board>(mut board: B, mut unpaired: Unpaired<B::Flash>) -> ! {
    board.open_line(pairing::BAUD);
    loop {
        let now = board.now();
        while let Some(byte) = board.line_byte() {
            if let Some(wire) = unpaired.handle_line_byte(byte, now) {
                board.send(&wire);
            }
        }
        if unpaired.wants_restart(now) {
            board.restart();
        }
        board.feed_watchdog();
        board.sleep();
    }
}

/// Not part of the loop's frame, for the same reason.
#[inline(never)]
fn start<S: Storage>(settings: Settings, storage: S) -> Result<Reader<S>, StorageError> {
    match settings.key {
        Some(key) => Reader::keyed(settings.address, key, storage),
        None => Reader::unkeyed(settings.address, storage),
    }
}

/// The reader with its badge ports and its panel.
struct Node<'a, S, F, P, M: SpiDevice> {
    reader: &'a mut Reader<S>,
    updater: Updater<F>,
    list: AllowList<F>,
    panel: Panel<P, P, P, P>,
    near_field: Option<near_field::Module<M>>,
    card: em4100::Decoder,
    /// When the badge module said something last.
    card_at: u64,
    pulses: wiegand::Decoder,
}

impl<S: Storage, F: Flash, P: OutputPin, M: SpiDevice + Clone> Node<'_, S, F, P, M> {
    /// Whether a badge became a punch.
    fn read_badges(&mut self, board: &mut impl Board, now: UptimeMs) -> bool {
        let mut kept = false;
        while let Some(byte) = board.badge_byte() {
            self.card_at = now.0;
            if let Some(card) = self.card.handle_byte(byte) {
                kept |= self.swipe(Badge::Full(card.number), now);
            }
        }
        if self.card.is_midway()
            && now.0 - self.card_at >= em4100::IDLE_MS
            && let Some(card) = self.card.handle_idle()
        {
            kept |= self.swipe(Badge::Full(card.number), now);
        }
        while let Some((bit, at_us)) = board.pulse() {
            if let Some(badge) = self.pulses.handle_pulse(bit, at_us) {
                kept |= self.swipe(badge, now);
            }
        }
        if let Some(badge) = self.pulses.poll(now.0 * 1_000) {
            kept |= self.swipe(badge, now);
        }
        if let Some(badge) = self.near_field.as_mut().and_then(|module| module.poll(now)) {
            kept |= self.swipe(badge, now);
        }
        kept
    }

    /// Kept first; then, without the gateway, the list says whether it opens. Whether it became a punch.
    fn swipe(&mut self, badge: Badge, now: UptimeMs) -> bool {
        let Some(seq) = self.reader.handle_badge(badge, now) else { return false };
        if self.reader.is_alone(now)
            && let Some(is_registered) = self.list.has(badge)
        {
            self.reader.handle_listed(seq, is_registered, now);
        }
        true
    }

    fn look_after(&mut self, board: &mut impl Board) {
        let (supply_mv, tamper) = board.health();
        self.reader.handle_health(supply_mv, tamper);
        let noise = self.card.noise().saturating_add(self.pulses.noise());
        let unread = self.near_field.as_ref().map_or(0, near_field::Module::noise);
        self.reader.handle_badge_noise(noise.saturating_add(unread).saturating_add(board.dropped()));
    }

    fn look_after_program(&mut self, board: &mut impl Board) {
        if self.updater.wants_restart() {
            board.restart();
        }
        if self.reader.is_served() {
            self.updater.confirm();
        }
        self.updater.work();
        self.list.work();
    }

    fn show(&mut self, now: UptimeMs) {
        while let Some(show) = self.reader.poll_show() {
            self.panel.show(show, now);
        }
        // A pin that does not obey cannot be told about anywhere but here; the gateway sees nothing of it.
        let _ = self.panel.poll(now);
    }
}
