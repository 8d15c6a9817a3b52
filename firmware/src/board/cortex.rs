//! What a Cortex-M core itself does: sleep, start again, keep interrupts out or let them in, count milliseconds.

#![allow(unsafe_code, reason = "instructions and registers of the core")]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m_rt::exception;

use crate::register::Block;

/// System timer (ARMv7-M, B3.3).
const SYSTICK: Block = Block::new(0xE000_E010);
/// Interrupt enable bits (B3.4).
const ISER: Block = Block::new(0xE000_E100);
/// System control: interrupt state at 4, place of the vectors at 8, application interrupt and reset at 12 (B3.2).
const CONTROL: Block = Block::new(0xE000_ED00);
const RESET: u32 = 0x05FA_0004;
const TIMER_WAITS: u32 = 1 << 26;

/// Milliseconds since the start; wraps after 49 days.
static MILLIS: AtomicU32 = AtomicU32::new(0);

/// Sleeps until an interrupt comes.
pub fn sleep() {
    // SAFETY: changes nothing but when the next instruction runs.
    unsafe { asm!("wfi", options(nomem, nostack, preserves_flags)) }
}

/// Starts again, as after power-up.
pub fn reset() -> ! {
    CONTROL.at(12).write(RESET);
    loop {
        sleep();
    }
}

/// Runs the image whose table of vectors is there, as a reset would. To be called before any interrupt was let through.
pub fn run_image(vectors: usize) -> ! {
    CONTROL.at(8).write(vectors as u32);
    // SAFETY: whoever calls has checked that an image for this place is there; its first words are stack and entry, and
    // it takes over everything.
    unsafe {
        asm!(
            "ldr r1, [r0]",
            "ldr r2, [r0, #4]",
            "msr MSP, r1",
            "dsb",
            "isb",
            "bx r2",
            in("r0") vectors,
            options(noreturn)
        )
    }
}

/// Does this while no interrupt comes in between.
pub fn uninterrupted<T>(act: impl FnOnce() -> T) -> T {
    let masked: u32;
    // SAFETY: the mask is as before when this is over; these acts do not panic half-way.
    unsafe { asm!("mrs {}, PRIMASK", "cpsid i", out(reg) masked, options(nostack, preserves_flags)) };
    let done = act();
    if masked & 1 == 0 {
        // SAFETY: interrupts were on before.
        unsafe { asm!("cpsie i", options(nostack, preserves_flags)) };
    }
    done
}

/// Lets an interrupt of the chip through.
pub fn enable_interrupt(number: usize) {
    ISER.at(4 * (number / 32)).write(1 << (number % 32));
}

/// Not cleared at a start: what is in it is chance after power-up, and what was left there after a shorter pause. Two
/// words, so that chance does not look like it.
#[unsafe(link_section = ".uninit.LEFT")]
static LEFT: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
const LEFT_MARK: [u32; 2] = [0x5EA1_0F0F, 0xA15E_F0F0];

/// Whether memory still holds what an earlier start has left there; leaves it for the next one.
pub fn remembers() -> bool {
    let found = LEFT.each_ref().map(|word| word.load(Ordering::Relaxed));
    LEFT.iter().zip(LEFT_MARK).for_each(|(word, mark)| word.store(mark, Ordering::Relaxed));
    found == LEFT_MARK
}

/// Begins to count milliseconds.
pub fn start_timer(ticks_per_ms: u32) {
    SYSTICK.at(4).write(ticks_per_ms - 1);
    SYSTICK.at(8).write(0);
    // The core's clock, with its interrupt, on.
    SYSTICK.at(0).write(0b111);
}

/// Milliseconds since the start, for as long as it is looked at once in 49 days.
#[derive(Default)]
pub struct Uptime {
    last: u32,
    wraps: u64,
}

impl Uptime {
    /// Now.
    pub fn millis(&mut self) -> u64 {
        let now = MILLIS.load(Ordering::Relaxed);
        self.wraps += u64::from(now < self.last);
        self.last = now;
        self.wraps << 32 | u64::from(now)
    }
}

/// Microseconds since the start, on a clock that wraps after 71 minutes.
pub fn micros() -> u32 {
    uninterrupted(|| {
        let ticks_per_ms = SYSTICK.at(4).read() + 1;
        let left = SYSTICK.at(8).read();
        // The counter may have begun anew while its interrupt waits.
        let waits = CONTROL.at(4).read() & TIMER_WAITS != 0 && left > ticks_per_ms / 2;
        let millis = MILLIS.load(Ordering::Relaxed).wrapping_add(u32::from(waits));
        millis.wrapping_mul(1_000).wrapping_add((ticks_per_ms - 1).saturating_sub(left) * 1_000 / ticks_per_ms)
    })
}

#[exception]
fn SysTick() {
    MILLIS.store(MILLIS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}
