//! The 13.56 MHz module's port: SPI1 at 4 MHz, mode 0, bytes by polling. Not in the emulator, and not tried on silicon yet.

use embedded_hal::spi::{Error, ErrorKind, ErrorType, Operation, SpiDevice};

use super::registers::{GPIOA, PinUse, SPI1, set_level, set_pin};

const CR1: usize = 0x00;
const CR2: usize = 0x04;
const SR: usize = 0x08;
const DR: usize = 0x0C;
const RX_FULL: u32 = 1 << 0;
const TX_EMPTY: u32 = 1 << 1;
/// A byte takes 2 µs; whoever waits longer waits for nothing.
const LOOKS: u32 = 1_000;
/// Chip select, low while the module is spoken to.
const SELECT: usize = 2;

/// The port.
#[derive(Clone, Copy)]
pub struct Spi;

/// No byte came.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Error for Silent {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl Spi {
    /// Sets up pins and port (RM0351, 42.4.7). Its clock is on.
    pub fn start() -> Spi {
        set_level(GPIOA, SELECT, true);
        set_pin(GPIOA, SELECT, PinUse::Output);
        for pin in [5, 6, 7] {
            set_pin(GPIOA, pin, PinUse::Peripheral(5));
        }
        // A quarter of 16 MHz, master, select by hand; bytes, told one by one; on.
        SPI1.at(CR1).write(1 << 3 | 1 << 2 | 1 << 8 | 1 << 9);
        SPI1.at(CR2).write(0b0111 << 8 | 1 << 12);
        SPI1.at(CR1).change(0, 1 << 6);
        Spi
    }

    fn shift(self, byte: u8) -> Result<u8, Silent> {
        wait_for(TX_EMPTY)?;
        SPI1.at(DR).write_byte(byte);
        wait_for(RX_FULL)?;
        Ok(SPI1.at(DR).read_byte())
    }
}

fn wait_for(bit: u32) -> Result<(), Silent> {
    let came = (0..LOOKS).any(|_| SPI1.at(SR).read() & bit != 0);
    if came { Ok(()) } else { Err(Silent) }
}

impl ErrorType for Spi {
    type Error = Silent;
}

impl SpiDevice for Spi {
    fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Silent> {
        set_level(GPIOA, SELECT, false);
        let done = operations.iter_mut().try_for_each(|operation| match operation {
            Operation::Write(bytes) => bytes.iter().try_for_each(|byte| self.shift(*byte).map(drop)),
            Operation::Read(bytes) => bytes.iter_mut().try_for_each(|byte| self.shift(0).map(|read| *byte = read)),
            Operation::TransferInPlace(bytes) => {
                bytes.iter_mut().try_for_each(|byte| self.shift(*byte).map(|read| *byte = read))
            }
            // The module's driver does neither.
            Operation::Transfer(..) | Operation::DelayNs(_) => Err(Silent),
        });
        set_level(GPIOA, SELECT, true);
        done
    }
}
