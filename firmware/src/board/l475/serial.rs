//! A serial port between two rings: interrupts fill the one and empty the other.

use super::registers::set_level;
use crate::bytes::ByteRing;
use crate::cortex;
use crate::register::{Block, Register};

const CR1: usize = 0x00;
const CR3: usize = 0x08;
const BRR: usize = 0x0C;
const ISR: usize = 0x1C;
const ICR: usize = 0x20;
const RDR: usize = 0x24;
const TDR: usize = 0x28;

const ENABLE: u32 = 1 << 0 | 1 << 2 | 1 << 3;
const RX_FULL: u32 = 1 << 5;
const TX_DONE: u32 = 1 << 6;
const TX_EMPTY: u32 = 1 << 7;
/// Parity, framing, noise, overrun.
const ERRORS: u32 = 0b1111;

/// Bytes that wait on their way in or out: two frames.
pub const WAITING: usize = 512;

/// A port; made once, as a static.
pub struct Serial {
    block: Block,
    /// The pin that lets the transceiver drive the line.
    driver: Option<(Block, usize)>,
    received: &'static ByteRing<WAITING>,
    to_send: &'static ByteRing<WAITING>,
}

impl Serial {
    /// Over these registers, between these rings.
    pub const fn new(
        block: Block,
        driver: Option<(Block, usize)>,
        received: &'static ByteRing<WAITING>,
        to_send: &'static ByteRing<WAITING>,
    ) -> Serial {
        Serial { block, driver, received, to_send }
    }

    /// Begins to listen. Its clock and pins are set up before.
    pub fn open(&self, clock_hz: u32, baud: u32) {
        self.cr1().write(0);
        self.block.at(BRR).write((clock_hz + baud / 2) / baud);
        self.block.at(CR3).write(0);
        self.cr1().write(ENABLE | RX_FULL);
    }

    /// The next byte that came in.
    pub fn receive(&self) -> Option<u8> {
        self.received.pop()
    }

    /// Sends this behind what is on its way.
    pub fn send(&self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.to_send.push(*byte));
        self.drive(true);
        cortex::uninterrupted(|| self.cr1().change(TX_DONE, TX_EMPTY));
    }

    /// Whether the last bit has not left yet.
    pub fn is_sending(&self) -> bool {
        self.cr1().read() & (TX_EMPTY | TX_DONE) != 0
    }

    /// Bytes that found no room on their way in.
    pub fn dropped(&self) -> u32 {
        self.received.dropped()
    }

    /// The port's interrupt.
    pub fn handle_interrupt(&self) {
        let state = self.block.at(ISR).read();
        if state & ERRORS != 0 {
            self.block.at(ICR).write(ERRORS);
        }
        if state & RX_FULL != 0 {
            self.received.push(self.block.at(RDR).read() as u8);
        }
        let wanted = self.cr1().read();
        if wanted & TX_EMPTY != 0 && state & TX_EMPTY != 0 {
            match self.to_send.pop() {
                Some(byte) => self.block.at(TDR).write(u32::from(byte)),
                None => self.cr1().change(TX_EMPTY, TX_DONE),
            }
        } else if wanted & TX_DONE != 0 && state & TX_DONE != 0 {
            self.cr1().change(TX_DONE, 0);
            self.drive(false);
        }
    }

    fn drive(&self, on: bool) {
        if let Some((port, pin)) = self.driver {
            set_level(port, pin, on);
        }
    }

    fn cr1(&self) -> Register {
        self.block.at(CR1)
    }
}
