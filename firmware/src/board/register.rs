//! Registers of a chip, read and written in 32 bits. A board names its peripherals; nothing else makes addresses.

use core::ptr::{read_volatile, write_volatile};

/// A register.
#[derive(Clone, Copy)]
pub struct Register(usize);

impl Register {
    /// What it says.
    #[allow(unsafe_code, reason = "a volatile read of a peripheral register that exists on this chip")]
    pub fn read(self) -> u32 {
        // SAFETY: registers are made from the constants of a board only; each is a mapped, aligned peripheral register.
        unsafe { read_volatile(self.0 as *const u32) }
    }

    /// Sets all of it.
    #[allow(unsafe_code, reason = "a volatile write of a peripheral register that exists on this chip")]
    pub fn write(self, value: u32) {
        // SAFETY: as above; no register here gives memory away.
        unsafe { write_volatile(self.0 as *mut u32, value) }
    }

    /// Reads a byte: of a data register, where the width of the access says how much is taken.
    #[cfg(feature = "near-field")]
    #[allow(unsafe_code, reason = "as above, in one byte")]
    pub fn read_byte(self) -> u8 {
        // SAFETY: as above.
        unsafe { read_volatile(self.0 as *const u8) }
    }

    /// Writes a byte, to a data register too.
    #[cfg(feature = "near-field")]
    #[allow(unsafe_code, reason = "as above, in one byte")]
    pub fn write_byte(self, value: u8) {
        // SAFETY: as above.
        unsafe { write_volatile(self.0 as *mut u8, value) }
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
    /// The peripheral that the chip's manual has at this address, a multiple of four.
    pub const fn new(address: usize) -> Block {
        assert!(address.is_multiple_of(4));
        Block(address)
    }

    /// The register at this offset.
    pub const fn at(self, offset: usize) -> Register {
        Register(self.0 + offset)
    }
}
