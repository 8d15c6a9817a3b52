//! The chip's calendar, which a cell at VBAT keeps going. It counts from the moment at which the gateway told the time;
//! that time is in two backup registers. Not in the emulator, and not tried on silicon yet.

use firmware::backup_clock::{BackupClock, Told, of_digits};

use super::registers::{PWR, RCC, RTC};

/// Written beside the time: nothing else writes these registers.
const MARK: u32 = 0x0A11_5A1E;
/// The first of January 2000, a Saturday: the first day of counting. Later days are later than anybody believes.
const FIRST_DAY: u32 = 0x00_C101;
/// Backup registers (RM0351, 38.6.20): mark, time in two halves.
const BACKUP: [usize; 3] = [0x50, 0x54, 0x58];

/// The calendar.
pub struct Rtc;

impl Rtc {
    /// Lets the backup domain be written and its crystal swing, and chooses that for the calendar (RM0351, 5.4.1, 6.4.28).
    /// The crystal needs up to two seconds; it is not waited for.
    pub fn start() -> Rtc {
        RCC.at(0x58).change(0, 1 << 28);
        PWR.at(0x00).change(0, 1 << 8);
        let is_chosen = RCC.at(0x90).read() & 0x300 == 0x100;
        RCC.at(0x90).change(if is_chosen { 0 } else { 0x300 }, 1 << 15 | 0x100 | 1);
        Rtc
    }
}

impl BackupClock for Rtc {
    fn told(&mut self) -> Option<Told> {
        let [mark, low, high] = BACKUP.map(|register| RTC.at(register).read());
        // Reading the time holds the day until that is read too (38.3.8).
        let (time, day) = (RTC.at(0x00).read(), RTC.at(0x04).read());
        if mark != MARK || day != FIRST_DAY {
            return None;
        }
        Some(Told { unix_ms: u64::from(high) << 32 | u64::from(low), age_ms: of_digits(time)? })
    }

    /// RM0351, 38.3.7: unlocked, held, set, released. What it was told before does not count while this goes on.
    fn tell(&mut self, unix_ms: u64) {
        RTC.at(BACKUP[0]).write(0);
        for key in [0xCA, 0x53] {
            RTC.at(0x24).write(key);
        }
        RTC.at(0x0C).change(0, 1 << 7);
        // Two periods of 32 kHz. Without a crystal it never comes, and the mark stays away.
        let held = (0..2_000).any(|_| RTC.at(0x0C).read() & 1 << 6 != 0);
        if held {
            RTC.at(0x00).write(0);
            RTC.at(0x04).write(FIRST_DAY);
        }
        RTC.at(0x0C).change(1 << 7, 0);
        RTC.at(0x24).write(0xFF);
        if held {
            RTC.at(BACKUP[1]).write(unix_ms as u32);
            RTC.at(BACKUP[2]).write((unix_ms >> 32) as u32);
            RTC.at(BACKUP[0]).write(MARK);
        }
    }
}
