//! What a Cortex-M core itself does: sleep, wait, start again, keep interrupts out.

#![allow(unsafe_code, reason = "instructions and registers of the core")]

use core::arch::asm;

/// Application interrupt and reset control (ARMv7-M, B3.2.6).
const AIRCR: *mut u32 = 0xE000_ED0C as *mut u32;
const RESET: u32 = 0x05FA_0004;

/// Sleeps until an interrupt comes.
pub fn sleep() {
    // SAFETY: changes nothing but when the next instruction runs.
    unsafe { asm!("wfi", options(nomem, nostack, preserves_flags)) }
}

/// Lets at least this many cycles pass.
pub fn wait_cycles(cycles: u32) {
    for _ in 0..cycles / 4 + 1 {
        // SAFETY: does nothing, but not for nothing: the optimiser leaves it alone.
        unsafe { asm!("nop", options(nomem, nostack, preserves_flags)) }
    }
}

/// Starts again, as after power-up.
pub fn reset() -> ! {
    // SAFETY: the register exists on every Cortex-M; nothing runs after it.
    unsafe { AIRCR.write_volatile(RESET) };
    loop {
        sleep();
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
