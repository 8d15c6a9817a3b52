//! How long a worker waits at a reader without a gateway: from the last bit of the card to the first lamp, with the
//! flash's own times.

use std::time::Duration;

use firmware::{FlashRing, Reader, Show, wiegand};
use protocol::{Address, Key, UptimeMs};

use crate::chip::{Chip, Effort};

/// Programming a word and erasing a page, at most (STM32L475 data sheet, table 67).
const PROGRAM: Duration = Duration::from_micros(91);
const ERASE: Duration = Duration::from_micros(24_470);
/// The loop looks at its ports once a millisecond at least.
const LOOP_MS: u64 = 1;
const BAR: Duration = Duration::from_millis(50);

#[test]
fn without_a_gateway_the_lamps_answer_a_card_within_50_ms() {
    let chip = Chip::<2048>::new(16, 1);
    let effort = chip.effort();
    let took = |before: Effort| {
        let now = effort.get();
        PROGRAM * (now.programs - before.programs) as u32 + ERASE * (now.erases - before.erases) as u32
    };
    let mut reader = Reader::keyed(Address::new(1).unwrap(), Key([1; 16]), FlashRing::<_, 16>::new(chip)).unwrap();
    let mut pulses = wiegand::Decoder::new();
    let (mut now_us, mut worst, mut kept) = (1_000_000_u64, Duration::ZERO, 0);
    for number in 1..=600_u32 {
        for bit in wiegand_34(number) {
            now_us += 2_000;
            pulses.handle_pulse(bit, now_us);
        }
        let last_bit = now_us;
        let badge = loop {
            now_us += LOOP_MS * 1_000;
            if let Some(badge) = pulses.poll(now_us) {
                break badge;
            }
        };
        let before = effort.get();
        reader.handle_badge(badge, UptimeMs(now_us / 1_000)).unwrap();
        reader.handle_time(UptimeMs(now_us / 1_000));
        let waited = Duration::from_micros(now_us - last_bit) + took(before);
        assert_eq!(reader.poll_show(), Some(Show::Kept));
        worst = worst.max(waited);
        kept += 1;
        // What the loop does as soon as the lamps are on, because the line is quiet.
        reader.handle_quiet();
        now_us += 500_000;
    }
    println!("without a gateway: {kept} cards, at most {worst:?} from the last bit to the lamps");
    assert!(worst <= BAR, "{worst:?}");
}

/// Even parity over the first half, the number, odd parity over the second.
fn wiegand_34(number: u32) -> Vec<bool> {
    let bits: Vec<bool> = (0..32).rev().map(|bit| number >> bit & 1 != 0).collect();
    let is_odd = |bits: &[bool]| bits.iter().filter(|bit| **bit).count() % 2 == 1;
    let (first, second) = bits.split_at(16);
    [vec![is_odd(first)], bits.clone(), vec![!is_odd(second)]].concat()
}
