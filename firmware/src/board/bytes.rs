//! A ring of bytes between an interrupt and the loop: one end writes, the other reads. When it is full, what comes is
//! dropped and counted.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

/// Holds `N - 1` bytes; `N` is a power of two.
pub struct ByteRing<const N: usize> {
    bytes: [AtomicU8; N],
    written: AtomicUsize,
    read: AtomicUsize,
    dropped: AtomicU32,
}

impl<const N: usize> ByteRing<N> {
    /// Empty.
    pub const fn new() -> ByteRing<N> {
        assert!(N.is_power_of_two());
        ByteRing {
            bytes: [const { AtomicU8::new(0) }; N],
            written: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            dropped: AtomicU32::new(0),
        }
    }

    /// For the writing end only.
    pub fn push(&self, byte: u8) {
        let written = self.written.load(Ordering::Relaxed);
        let next = (written + 1) % N;
        if next == self.read.load(Ordering::Acquire) {
            let dropped = self.dropped.load(Ordering::Relaxed);
            self.dropped.store(dropped.saturating_add(1), Ordering::Relaxed);
            return;
        }
        self.bytes[written].store(byte, Ordering::Relaxed);
        self.written.store(next, Ordering::Release);
    }

    /// For the reading end only.
    pub fn pop(&self) -> Option<u8> {
        let read = self.read.load(Ordering::Relaxed);
        if read == self.written.load(Ordering::Acquire) {
            return None;
        }
        let byte = self.bytes[read].load(Ordering::Relaxed);
        self.read.store((read + 1) % N, Ordering::Release);
        Some(byte)
    }

    /// Bytes that found no room.
    pub fn dropped(&self) -> u32 {
        self.dropped.load(Ordering::Relaxed)
    }
}
