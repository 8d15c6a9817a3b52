//! The peripherals of the STM32L475, where RM0351 has them, and its pins.

use crate::register::{Block, Register};

/// Reset and clock control.
pub const RCC: Block = Block::new(0x4002_1000);
/// Power control.
pub const PWR: Block = Block::new(0x4000_7000);
/// Calendar, kept by a battery.
pub const RTC: Block = Block::new(0x4000_2800);
/// The 13.56 MHz module.
#[cfg(feature = "near-field")]
pub const SPI1: Block = Block::new(0x4001_3000);
/// Flash controller.
pub const FLASH: Block = Block::new(0x4002_2000);
/// Port A.
pub const GPIOA: Block = Block::new(0x4800_0000);
/// Port B.
pub const GPIOB: Block = Block::new(0x4800_0400);
/// Port C.
pub const GPIOC: Block = Block::new(0x4800_0800);
/// Port D.
pub const GPIOD: Block = Block::new(0x4800_0C00);
/// The line.
pub const USART1: Block = Block::new(0x4001_3800);
/// The badge module.
pub const UART4: Block = Block::new(0x4000_4C00);
/// Which pin an external interrupt belongs to.
pub const SYSCFG: Block = Block::new(0x4001_0000);
/// External interrupts.
pub const EXTI: Block = Block::new(0x4001_0400);
/// Independent watchdog.
pub const IWDG: Block = Block::new(0x4000_3000);
/// Analogue to digital.
pub const ADC1: Block = Block::new(0x5004_0000);
/// What the converters share.
pub const ADC_COMMON: Block = Block::new(0x5004_0300);
/// Which chip this is; zero in the emulator.
pub const DBGMCU_IDCODE: Register = Block::new(0xE004_2000).at(0);

/// How a pin is used (RM0351, 8.4).
#[derive(Clone, Copy)]
pub enum PinUse {
    /// Driven, low at first.
    Output,
    /// Read, with the pull-up on.
    InputPulledUp,
    /// Connected to the converter.
    Analogue,
    /// The peripheral of this number, with the pull-up on: an unplugged wire idles.
    Peripheral(u32),
}

/// Sets up a pin of a port.
pub fn set_pin(port: Block, pin: usize, how: PinUse) {
    let (mode, pull) = match how {
        PinUse::Output => (1, 0),
        PinUse::InputPulledUp => (0, 1),
        PinUse::Analogue => (3, 0),
        PinUse::Peripheral(_) => (2, 1),
    };
    if let PinUse::Peripheral(number) = how {
        let select = port.at(0x20 + 4 * (pin / 8));
        select.change(0xF << (4 * (pin % 8)), number << (4 * (pin % 8)));
    }
    port.at(0x0C).change(3 << (2 * pin), pull << (2 * pin));
    port.at(0x00).change(3 << (2 * pin), mode << (2 * pin));
}

/// Whether a pin is high.
pub fn is_high(port: Block, pin: usize) -> bool {
    port.at(0x10).read() & (1 << pin) != 0
}

/// Drives an output.
pub fn set_level(port: Block, pin: usize, high: bool) {
    port.at(0x18).write(if high { 1 << pin } else { 1 << (pin + 16) });
}
