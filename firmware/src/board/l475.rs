//! B-L475E-IOT01A (STM32L475VG), on silicon and in the emulator.
//!
//! ```text
//! line     USART1  PB6 TX, PB7 RX, driver enable PA4 (D7)
//! badges   UART4   PA0 TX, PA1 RX (D1, D0), 9 600 baud    Wiegand  D0 PD14 (D2), D1 PA3 (D4)
//! module   SPI1  PA5 SCK (D13), PA6 MISO (D12), PA7 MOSI (D11), PA2 select (D10)
//! outputs  green PB0 (D3), red PB1 (D6), buzzer PB2 (D8), relay PB4 (D5)
//! inputs   housing contact PC2 (A3), closed to ground while shut; supply divider 11:1 at PC0 (A5);
//!          button PC13 (the blue one)
//! ```
//!
//! Runs from the 16 MHz internal oscillator, which needs no wait state and no crystal. Written from RM0351. On silicon
//! nothing of it was tried yet; in the emulator all but watchdog, converter, calendar and flash controller, which that does
//! not have.

mod memory;
mod registers;
mod rtc;
#[cfg(feature = "emulator")]
mod semihosting;
mod serial;
#[cfg(feature = "near-field")]
mod spi;

use core::convert::Infallible;

use cortex_m_rt::exception;
use embedded_hal::digital::{ErrorType, OutputPin};
use firmware::start::{self, Evidence};
use protocol::{StartCause, UptimeMs};

use self::memory::{Memory, Region};
use self::registers::{
    ADC_COMMON, ADC1, DBGMCU_IDCODE, EXTI, FLASH, GPIOA, GPIOB, GPIOC, GPIOD, IWDG, PinUse, RCC, SYSCFG, UART4, USART1,
    is_high, set_level, set_pin,
};
use self::rtc::Rtc;
use self::serial::{Serial, WAITING};
use crate::bytes::ByteRing;
use crate::cortex::{self, Uptime};
use crate::node::Board;
#[cfg(not(feature = "near-field"))]
use crate::node::NoSpi;
use crate::pulses::Pulses;
use crate::register::Block;

/// 256 KiB of the second bank.
pub const JOURNAL_PAGES: usize = 128;

const CLOCK_HZ: u32 = 16_000_000;
const BADGE_BAUD: u32 = 9_600;

/// Interrupt numbers (RM0351, table 57).
const IRQ_EXTI3: usize = 9;
const IRQ_USART1: usize = 37;
const IRQ_EXTI15_10: usize = 40;
const IRQ_UART4: usize = 52;

/// External interrupt lines of Wiegand D0 (PD14) and D1 (PA3).
const D0: u32 = 1 << 14;
const D1: u32 = 1 << 3;

/// By themselves, so that they are zeros which need no place in the image.
static FROM_LINE: ByteRing<WAITING> = ByteRing::new();
static TO_LINE: ByteRing<WAITING> = ByteRing::new();
static FROM_BADGES: ByteRing<WAITING> = ByteRing::new();
static TO_BADGES: ByteRing<WAITING> = ByteRing::new();
static LINE: Serial = Serial::new(USART1, Some((GPIOA, 4)), &FROM_LINE, &TO_LINE);
static BADGES: Serial = Serial::new(UART4, None, &FROM_BADGES, &TO_BADGES);
static PULSES: Pulses = Pulses::new();

/// The board.
pub struct Chip {
    emulated: bool,
    cause: StartCause,
    uptime: Uptime,
}

impl Chip {
    /// From reset to a core that runs at its speed.
    pub fn wake() -> Chip {
        let emulated = DBGMCU_IDCODE.read() & 0xFFF == 0;
        let board = Chip { emulated, cause: start_cause(), uptime: Uptime::default() };
        board.start_clocks();
        board
    }

    /// To a board whose interrupts run.
    pub fn start(&mut self) {
        self.set_up_pins();
        if !self.emulated {
            start_converter();
        }
        self.start_watchdog();
        cortex::start_timer(CLOCK_HZ / 1_000);
        BADGES.open(CLOCK_HZ, BADGE_BAUD);
        [IRQ_EXTI3, IRQ_USART1, IRQ_EXTI15_10, IRQ_UART4].into_iter().for_each(cortex::enable_interrupt);
    }

    /// Fires 4 s after it was fed last: 32 kHz / 64, 2 000 steps (RM0351, 36.3).
    pub fn start_watchdog(&self) {
        if self.emulated {
            return;
        }
        for value in [0xCCCC, 0x5555] {
            IWDG.at(0).write(value);
        }
        IWDG.at(4).write(4);
        IWDG.at(8).write(2_000);
        IWDG.at(0).write(0xAAAA);
    }

    /// Where the image in a slot has its vectors.
    pub fn vectors(slot: u8) -> usize {
        memory::vectors(slot)
    }

    fn memory(&self, region: Region) -> Memory {
        #[cfg(feature = "emulator")]
        if self.emulated
            && let Some(file) = semihosting::File::of_command_line()
        {
            return Memory::of_file(region, file);
        }
        Memory::of_chip(region)
    }

    fn start_clocks(&self) {
        // HSI16 on, then chosen. A chip without it goes on with the slower clock it has started with.
        RCC.at(0x00).change(0, 1 << 8);
        if RCC.at(0x00).wait_for(1 << 10) {
            RCC.at(0x08).change(0b11, 0b01);
        }
        // No data cache: it would show what was there before an erase (RM0351, 3.3.3).
        FLASH.at(0x00).change(1 << 10, 0);
        RCC.at(0x4C).change(0, 0b1111 | 1 << 13);
        RCC.at(0x58).change(0, 1 << 19);
        RCC.at(0x60).change(0, 1 << 0 | 1 << 14);
    }

    fn set_up_pins(&self) {
        for pin in [6, 7] {
            set_pin(GPIOB, pin, PinUse::Peripheral(7));
        }
        for pin in [0, 1] {
            set_pin(GPIOA, pin, PinUse::Peripheral(8));
        }
        set_pin(GPIOA, 4, PinUse::Output);
        for (port, pin) in OUTPUTS {
            set_level(port, pin, false);
            set_pin(port, pin, PinUse::Output);
        }
        set_pin(GPIOC, 2, PinUse::InputPulledUp);
        set_pin(GPIOC, 13, PinUse::InputPulledUp);
        set_pin(GPIOC, 0, PinUse::Analogue);
        set_pin(GPIOD, 14, PinUse::InputPulledUp);
        set_pin(GPIOA, 3, PinUse::InputPulledUp);
        // Line 3 from port A, line 14 from port D; both on the falling edge.
        SYSCFG.at(0x08).change(0xF << 12, 0);
        SYSCFG.at(0x14).change(0xF << 8, 3 << 8);
        EXTI.at(0x0C).change(0, D0 | D1);
        EXTI.at(0x00).change(0, D0 | D1);
    }
}

/// Green, red, buzzer, relay.
const OUTPUTS: [(Block, usize); 4] = [(GPIOB, 0), (GPIOB, 1), (GPIOB, 2), (GPIOB, 4)];

/// An output pin.
pub struct Output(Block, usize);

impl ErrorType for Output {
    type Error = Infallible;
}

impl OutputPin for Output {
    fn set_low(&mut self) -> Result<(), Infallible> {
        set_level(self.0, self.1, false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        set_level(self.0, self.1, true);
        Ok(())
    }
}

impl Board for Chip {
    type Flash = Memory;
    type Pin = Output;
    type Clock = Rtc;
    #[cfg(feature = "near-field")]
    type Spi = spi::Spi;
    #[cfg(not(feature = "near-field"))]
    type Spi = NoSpi;

    const BOARD: u8 = 1;
    const LIST_PAGES: usize = 17;
    const SLOT_PAGES: usize = memory::SLOT_PAGES;

    fn flash(&mut self) -> Memory {
        self.memory(memory::RECORDS)
    }

    fn slots(&mut self) -> Memory {
        self.memory(memory::SLOTS)
    }

    fn outputs(&mut self) -> [Output; 4] {
        OUTPUTS.map(|(port, pin)| Output(port, pin))
    }

    fn open_line(&mut self, baud: u32) {
        LINE.open(CLOCK_HZ, baud);
    }

    #[cfg(feature = "near-field")]
    fn near_field(&mut self) -> Option<spi::Spi> {
        // Without a bus clock for it the registers do not exist.
        RCC.at(0x60).change(0, 1 << 12);
        (!self.emulated).then(spi::Spi::start)
    }

    #[cfg(not(feature = "near-field"))]
    fn near_field(&mut self) -> Option<NoSpi> {
        None
    }

    fn backup_clock(&mut self) -> Option<Rtc> {
        (!self.emulated).then(Rtc::start)
    }

    fn start_cause(&self) -> StartCause {
        self.cause
    }

    fn now(&mut self) -> UptimeMs {
        UptimeMs(self.uptime.millis())
    }

    fn line_byte(&mut self) -> Option<u8> {
        LINE.receive()
    }

    fn send(&mut self, frame: &[u8]) {
        LINE.send(frame);
    }

    fn is_sending(&self) -> bool {
        LINE.is_sending()
    }

    fn badge_byte(&mut self) -> Option<u8> {
        BADGES.receive()
    }

    fn pulse(&mut self) -> Option<(bool, u64)> {
        PULSES.next(self.uptime.millis())
    }

    fn dropped(&self) -> u32 {
        LINE.dropped().saturating_add(BADGES.dropped()).saturating_add(PULSES.dropped())
    }

    fn health(&mut self) -> (u16, bool) {
        let supply_mv = if self.emulated { 0 } else { supply_mv() };
        (supply_mv, is_high(GPIOC, 2))
    }

    fn feed_watchdog(&mut self) {
        if !self.emulated {
            IWDG.at(0).write(0xAAAA);
        }
    }

    fn sleep(&mut self) {
        cortex::sleep();
    }

    fn button(&mut self) -> bool {
        !is_high(GPIOC, 13)
    }

    fn restart(&mut self) -> ! {
        cortex::reset()
    }
}

/// RM0351, 6.4.29: the flags add up until they are cleared. The chip calls power-up a sag too.
fn start_cause() -> StartCause {
    let flags = RCC.at(0x94).read();
    RCC.at(0x94).change(0, 1 << 23);
    let is_set = |bit: u32| flags & 1 << bit != 0;
    start::cause(Evidence {
        watchdog: is_set(30) || is_set(29),
        software: is_set(28),
        supply: is_set(27),
        pin: is_set(26),
        remembers: cortex::remembers(),
    })
}

/// RM0351, 18.4.6 to 18.4.9: out of deep power-down, regulator, calibration, on.
fn start_converter() {
    ADC_COMMON.at(0x08).change(0b11 << 16, 0b01 << 16);
    let control = ADC1.at(0x08);
    control.write(1 << 28);
    // The regulator needs 20 µs; reading a register takes two cycles of 16 MHz at least.
    let _ = (0..200).fold(0, |seen, _| seen | control.read());
    control.write(1 << 28 | 1 << 31);
    let calibrated = (0..100_000).any(|_| control.read() & (1 << 31) == 0);
    if calibrated {
        control.write(1 << 28 | 1);
        ADC1.at(0x00).wait_for(1);
    }
    // Channel 1 is PC0; sampled for 640 cycles behind a divider of 110 kΩ.
    ADC1.at(0x14).write(0b111 << 3);
    ADC1.at(0x30).write(1 << 6);
}

/// 12 bits of 3.3 V, behind the divider of 11 to 1.
fn supply_mv() -> u16 {
    ADC1.at(0x08).change(0, 1 << 2);
    if !ADC1.at(0x00).wait_for(1 << 2) {
        return 0;
    }
    (ADC1.at(0x40).read() * 36_300 / 4_095) as u16
}

fn note_pulses() {
    let pending = EXTI.at(0x14).read() & (D0 | D1);
    EXTI.at(0x14).write(pending);
    for (line, on_d1) in [(D0, false), (D1, true)] {
        if pending & line != 0 {
            PULSES.note(on_d1);
        }
    }
}

/// The interrupts of the chip, by their number.
#[exception]
#[allow(unsafe_code, reason = "the runtime asks for it: a handler must not rely on what it interrupts")]
unsafe fn DefaultHandler(number: i16) {
    match number as usize {
        IRQ_USART1 => LINE.handle_interrupt(),
        IRQ_UART4 => BADGES.handle_interrupt(),
        IRQ_EXTI3 | IRQ_EXTI15_10 => note_pulses(),
        _ => cortex::reset(),
    }
}

/// A word of flash with two wrong bits, or the clock's failure.
#[exception]
#[allow(unsafe_code, reason = "the runtime asks for it: it may come at any moment")]
unsafe fn NonMaskableInt() {
    if !memory::handle_ecc_fault() {
        cortex::reset()
    }
}

#[exception]
#[allow(unsafe_code, reason = "the runtime asks for it: nothing can be relied on any more")]
unsafe fn HardFault(_: &cortex_m_rt::ExceptionFrame) -> ! {
    cortex::reset()
}
