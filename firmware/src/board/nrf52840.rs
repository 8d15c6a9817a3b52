//! nRF52840 DK (PCA10056): another chip family behind the same loop. It builds; nothing of it was tried on silicon.
//!
//! ```text
//! line     UART0   P0.06 TX, P0.08 RX, driver enable P0.27
//! badges   UARTE1  P1.02 RX, 9 600 baud                   Wiegand  D0 P0.30, D1 P0.31
//! outputs  green P0.13, red P0.14, buzzer P0.15, relay P0.16
//! inputs   housing contact P0.11, closed to ground while shut; button P0.12; the supply is not measured
//! ```
//!
//! The whole chip stands still for 85 ms while a page erases, so the loop's quiet moments count here: a byte that comes
//! in then is lost, and the gateway asks again. Register numbers are those of the nRF52840 product specification, 1.7.

use core::convert::Infallible;
use core::sync::atomic::{AtomicU8, Ordering};

use cortex_m_rt::exception;
use embedded_hal::digital::{ErrorType, OutputPin};
use firmware::backup_clock::{BackupClock, Told};
use firmware::flash::{Flash, FlashError, WORD};
use firmware::start::{self, Evidence};
use protocol::{StartCause, UptimeMs};

use crate::bytes::ByteRing;
use crate::cortex::{self, Uptime};
use crate::node::{Board, NoSpi};
use crate::pulses::Pulses;
use crate::register::Block;

/// 256 KiB of pages of 4 KiB.
pub const JOURNAL_PAGES: usize = 64;

const TICKS_PER_MS: u32 = 64_000;

const CLOCK: Block = Block::new(0x4000_0000);
const UART0: Block = Block::new(0x4000_2000);
const GPIOTE: Block = Block::new(0x4000_6000);
const WDT: Block = Block::new(0x4001_0000);
const NVMC: Block = Block::new(0x4001_E000);
const UARTE1: Block = Block::new(0x4002_8000);
const P0: Block = Block::new(0x5000_0000);

const IRQ_UART0: usize = 2;
const IRQ_GPIOTE: usize = 6;
const IRQ_UARTE1: usize = 40;

const DRIVER: usize = 27;
const HOUSING: usize = 11;
const BUTTON: usize = 12;
/// Green, red, buzzer, relay.
const OUTPUTS: [usize; 4] = [13, 14, 15, 16];
/// Wiegand D0, D1.
const WIRES: [usize; 2] = [30, 31];

const OUTPUT: u32 = 0b11;
const INPUT_PULLED_UP: u32 = 0b1100;

static FROM_LINE: ByteRing<512> = ByteRing::new();
static TO_LINE: ByteRing<512> = ByteRing::new();
static FROM_BADGES: ByteRing<512> = ByteRing::new();
static PULSES: Pulses = Pulses::new();
/// Where UARTE1 puts each byte.
static LANDING: AtomicU8 = AtomicU8::new(0);
/// A byte is on its way to the line.
static SENDING: AtomicU8 = AtomicU8::new(0);

/// The board.
pub struct Chip {
    cause: StartCause,
    uptime: Uptime,
}

impl Chip {
    /// From reset to a core that runs at its speed, which is so from the start.
    pub fn wake() -> Chip {
        Chip { cause: start_cause(), uptime: Uptime::default() }
    }

    /// To a board whose interrupts run.
    pub fn start(&mut self) {
        // The crystal, for baud rates that hold from -20 to 60 °C; not waited for.
        CLOCK.at(0x000).write(1);
        for pin in OUTPUTS.into_iter().chain([DRIVER]) {
            set_level(pin, false);
            set_up(pin, OUTPUT);
        }
        [HOUSING, BUTTON].into_iter().for_each(|pin| set_up(pin, INPUT_PULLED_UP));
        for (channel, pin) in WIRES.into_iter().enumerate() {
            set_up(pin, INPUT_PULLED_UP);
            // An event on the falling edge.
            GPIOTE.at(0x510 + 4 * channel).write(1 | (pin as u32) << 8 | 2 << 16);
        }
        GPIOTE.at(0x304).write(0b11);
        open_badges();
        self.start_watchdog();
        cortex::start_timer(TICKS_PER_MS);
        [IRQ_UART0, IRQ_GPIOTE, IRQ_UARTE1].into_iter().for_each(cortex::enable_interrupt);
    }

    /// Fires 4 s after it was fed last, also while the core sleeps.
    pub fn start_watchdog(&self) {
        WDT.at(0x50C).write(1);
        WDT.at(0x504).write(4 * 32_768 - 1);
        WDT.at(0x508).write(1);
        WDT.at(0x000).write(1);
    }

    /// Where the image in a slot has its vectors: behind its first page.
    pub fn vectors(slot: u8) -> usize {
        SLOTS.begin + (usize::from(slot) - 1) * SLOT_PAGES * PAGE + PAGE
    }
}

/// Product specification 1.7, 5.3.7.2: the flags add up until they are cleared; none after power-up and after a sag.
fn start_cause() -> StartCause {
    let flags = CLOCK.at(0x400).read();
    CLOCK.at(0x400).write(flags);
    start::cause(Evidence {
        pin: flags & 1 << 0 != 0,
        watchdog: flags & 1 << 1 != 0,
        software: flags & (1 << 2 | 1 << 3) != 0,
        supply: flags == 0,
        remembers: cortex::remembers(),
    })
}

/// A stretch of the flash.
pub struct Memory {
    begin: usize,
    len: usize,
}

/// Journal and settings: the upper half.
const RECORDS: Memory = Memory { begin: 0x0008_0000, len: 512 * 1024 };
/// The two slots: the second and third 64 KiB.
const SLOTS: Memory = Memory { begin: 0x0001_0000, len: 2 * SLOT_PAGES * PAGE };
const SLOT_PAGES: usize = 16;
const PAGE: usize = 4096;

impl Flash for Memory {
    const PAGE: usize = PAGE;

    #[allow(unsafe_code, reason = "these stretches are memory that only this module writes")]
    fn read(&mut self, at: usize, into: &mut [u8]) -> Result<(), FlashError> {
        if at + into.len() > self.len {
            return Err(FlashError);
        }
        for (offset, byte) in into.iter_mut().enumerate() {
            // SAFETY: inside the stretch, which is always readable.
            *byte = unsafe { core::ptr::read_volatile((self.begin + at + offset) as *const u8) };
        }
        Ok(())
    }

    #[allow(unsafe_code, reason = "programming is writing to the flash's own addresses")]
    fn program(&mut self, at: usize, word: &[u8; WORD]) -> Result<(), FlashError> {
        if at + WORD > self.len || !at.is_multiple_of(WORD) {
            return Err(FlashError);
        }
        NVMC.at(0x504).write(1);
        for (index, half) in word.chunks_exact(WORD / 2).enumerate() {
            let value = half.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
            // SAFETY: inside the stretch, aligned to four, enabled for writing; no reference to it exists.
            unsafe { core::ptr::write_volatile((self.begin + at + 4 * index) as *mut u32, value) };
            NVMC.at(0x400).wait_for(1);
        }
        NVMC.at(0x504).write(0);
        Ok(())
    }

    fn erase(&mut self, page: usize) -> Result<(), FlashError> {
        if page >= self.len / PAGE {
            return Err(FlashError);
        }
        NVMC.at(0x504).write(2);
        NVMC.at(0x508).write((self.begin + page * PAGE) as u32);
        let ready = NVMC.at(0x400).wait_for(1);
        NVMC.at(0x504).write(0);
        if ready { Ok(()) } else { Err(FlashError) }
    }
}

/// This chip has no supply for a battery.
pub enum NoClock {}

impl BackupClock for NoClock {
    fn told(&mut self) -> Option<Told> {
        match *self {}
    }

    fn tell(&mut self, _: u64) {
        match *self {}
    }
}

/// An output pin.
pub struct Output(usize);

impl ErrorType for Output {
    type Error = Infallible;
}

impl OutputPin for Output {
    fn set_low(&mut self) -> Result<(), Infallible> {
        set_level(self.0, false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        set_level(self.0, true);
        Ok(())
    }
}

impl Board for Chip {
    type Flash = Memory;
    type Pin = Output;
    type Clock = NoClock;
    type Spi = NoSpi;

    const BOARD: u8 = 2;
    const LIST_PAGES: usize = 9;
    const SLOT_PAGES: usize = SLOT_PAGES;

    fn flash(&mut self) -> Memory {
        RECORDS
    }

    fn slots(&mut self) -> Memory {
        SLOTS
    }

    fn outputs(&mut self) -> [Output; 4] {
        OUTPUTS.map(Output)
    }

    fn open_line(&mut self, baud: u32) {
        UART0.at(0x50C).write(6);
        UART0.at(0x514).write(8);
        UART0.at(0x524).write(baud_register(baud));
        // Byte received, byte sent.
        UART0.at(0x304).write(1 << 2 | 1 << 7);
        UART0.at(0x500).change(0xF, 4);
        UART0.at(0x000).write(1);
        UART0.at(0x008).write(1);
    }

    fn near_field(&mut self) -> Option<NoSpi> {
        None
    }

    fn backup_clock(&mut self) -> Option<NoClock> {
        None
    }

    fn start_cause(&self) -> StartCause {
        self.cause
    }

    fn now(&mut self) -> UptimeMs {
        UptimeMs(self.uptime.millis())
    }

    fn line_byte(&mut self) -> Option<u8> {
        FROM_LINE.pop()
    }

    fn send(&mut self, frame: &[u8]) {
        frame.iter().for_each(|byte| TO_LINE.push(*byte));
        set_level(DRIVER, true);
        cortex::uninterrupted(|| {
            if SENDING.load(Ordering::Relaxed) == 0 {
                send_next();
            }
        });
    }

    fn is_sending(&self) -> bool {
        SENDING.load(Ordering::Relaxed) != 0
    }

    fn badge_byte(&mut self) -> Option<u8> {
        FROM_BADGES.pop()
    }

    fn pulse(&mut self) -> Option<(bool, u64)> {
        PULSES.next(self.uptime.millis())
    }

    fn dropped(&self) -> u32 {
        FROM_LINE.dropped().saturating_add(FROM_BADGES.dropped()).saturating_add(PULSES.dropped())
    }

    fn health(&mut self) -> (u16, bool) {
        (0, P0.at(0x510).read() & (1 << HOUSING) != 0)
    }

    fn feed_watchdog(&mut self) {
        WDT.at(0x600).write(0x6E52_4635);
    }

    fn sleep(&mut self) {
        cortex::sleep();
    }

    fn button(&mut self) -> bool {
        P0.at(0x510).read() & (1 << BUTTON) == 0
    }

    fn restart(&mut self) -> ! {
        cortex::reset()
    }
}

fn set_up(pin: usize, how: u32) {
    P0.at(0x700 + 4 * pin).write(how);
}

fn set_level(pin: usize, high: bool) {
    P0.at(if high { 0x508 } else { 0x50C }).write(1 << pin);
}

/// Of 16 MHz in 2^32 parts, rounded to the upper 20 bits as the specification's table is.
fn baud_register(baud: u32) -> u32 {
    ((u64::from(baud) << 32) / 16_000_000 + 0x800) as u32 & 0xFFFF_F000
}

fn open_badges() {
    // P1.02; nothing is sent to the module.
    UARTE1.at(0x514).write(2 | 1 << 5);
    UARTE1.at(0x524).write(baud_register(9_600));
    UARTE1.at(0x534).write(LANDING.as_ptr() as u32);
    UARTE1.at(0x538).write(1);
    // One byte after the other.
    UARTE1.at(0x200).write(1 << 5);
    UARTE1.at(0x304).write(1 << 4);
    UARTE1.at(0x500).change(0xF, 8);
    UARTE1.at(0x000).write(1);
}

/// Puts the next byte on the line, or lets go of it.
fn send_next() {
    match TO_LINE.pop() {
        Some(byte) => {
            SENDING.store(1, Ordering::Relaxed);
            UART0.at(0x51C).write(u32::from(byte));
        }
        None => {
            SENDING.store(0, Ordering::Relaxed);
            set_level(DRIVER, false);
        }
    }
}

fn handle_line() {
    if UART0.at(0x108).read() != 0 {
        UART0.at(0x108).write(0);
        FROM_LINE.push(UART0.at(0x518).read() as u8);
    }
    if UART0.at(0x11C).read() != 0 {
        UART0.at(0x11C).write(0);
        send_next();
    }
}

fn handle_badges() {
    if UARTE1.at(0x110).read() != 0 {
        UARTE1.at(0x110).write(0);
        FROM_BADGES.push(LANDING.load(Ordering::Relaxed));
    }
}

fn handle_pulses() {
    for channel in 0..WIRES.len() {
        let event = GPIOTE.at(0x100 + 4 * channel);
        if event.read() != 0 {
            event.write(0);
            PULSES.note(channel == 1);
        }
    }
}

/// The interrupts of the chip, by their number.
#[exception]
#[allow(unsafe_code, reason = "the runtime asks for it: a handler must not rely on what it interrupts")]
unsafe fn DefaultHandler(number: i16) {
    match number as usize {
        IRQ_UART0 => handle_line(),
        IRQ_UARTE1 => handle_badges(),
        IRQ_GPIOTE => handle_pulses(),
        _ => cortex::reset(),
    }
}

#[exception]
#[allow(unsafe_code, reason = "the runtime asks for it: nothing can be relied on any more")]
unsafe fn HardFault(_: &cortex_m_rt::ExceptionFrame) -> ! {
    cortex::reset()
}
