//! Registers of the STM32L475 as RM0351 numbers them, read and written in 32 bits. The only place that makes addresses.

use core::ptr::{read_volatile, write_volatile};

/// A register.
#[derive(Clone, Copy)]
pub struct Register(usize);

impl Register {
    /// What it says.
    #[allow(unsafe_code, reason = "a volatile read of a peripheral register that exists on this chip")]
    pub fn read(self) -> u32 {
        // SAFETY: only the constants below make registers; each is a mapped, aligned peripheral register.
        unsafe { read_volatile(self.0 as *const u32) }
    }

    /// Sets all of it.
    #[allow(unsafe_code, reason = "a volatile write of a peripheral register that exists on this chip")]
    pub fn write(self, value: u32) {
        // SAFETY: as above; no register here gives memory away.
        unsafe { write_volatile(self.0 as *mut u32, value) }
    }

    /// Clears some bits, then sets some.
    pub fn change(self, clear: u32, set: u32) {
        self.write(self.read() & !clear | set);
    }

    /// Waits until these bits are set; gives up after some 100 ms, because a watchdog cannot tell why.
    pub fn wait_for(self, bits: u32) -> bool {
        (0..200_000).any(|_| self.read() & bits == bits)
    }
}

/// A peripheral: its first register.
#[derive(Clone, Copy)]
pub struct Block(usize);

impl Block {
    /// The register at this offset.
    pub const fn at(self, offset: usize) -> Register {
        Register(self.0 + offset)
    }
}

/// Reset and clock control.
pub const RCC: Block = Block(0x4002_1000);
/// Flash controller.
pub const FLASH: Block = Block(0x4002_2000);
/// Port A.
pub const GPIOA: Block = Block(0x4800_0000);
/// Port B.
pub const GPIOB: Block = Block(0x4800_0400);
/// Port C.
pub const GPIOC: Block = Block(0x4800_0800);
/// Port D.
pub const GPIOD: Block = Block(0x4800_0C00);
/// The line.
pub const USART1: Block = Block(0x4001_3800);
/// The badge module.
pub const UART4: Block = Block(0x4000_4C00);
/// Which pin an external interrupt belongs to.
pub const SYSCFG: Block = Block(0x4001_0000);
/// External interrupts.
pub const EXTI: Block = Block(0x4001_0400);
/// Independent watchdog.
pub const IWDG: Block = Block(0x4000_3000);
/// Analogue to digital.
pub const ADC1: Block = Block(0x5004_0000);
/// What the converters share.
pub const ADC_COMMON: Block = Block(0x5004_0300);
/// SysTick of the core.
pub const SYSTICK: Block = Block(0xE000_E010);
/// Interrupt enable bits of the core.
pub const NVIC_ISER: Block = Block(0xE000_E100);
/// Interrupt control and state of the core.
pub const ICSR: Register = Register(0xE000_ED04);
/// Which chip this is; zero in the emulator.
pub const DBGMCU_IDCODE: Register = Register(0xE004_2000);

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

/// Lets an interrupt through.
pub fn enable_interrupt(number: usize) {
    NVIC_ISER.at(4 * (number / 32)).write(1 << (number % 32));
}
