//! Wiegand pulses: the recorded vectors, parity, gaps, glitches.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use firmware::wiegand::{Decoder, GAP_US};
use proptest::prelude::*;
use protocol::Badge;
use serde_json::Value;

/// Sends the bits 2 ms apart from `start`; gives the time of the last one.
fn send(decoder: &mut Decoder, bits: &str, start: u64) -> (Vec<Badge>, u64) {
    let mut at = start;
    let mut badges = Vec::new();
    for bit in bits.chars() {
        at += 2_000;
        badges.extend(decoder.handle_pulse(bit == '1', at));
    }
    (badges, at)
}

fn read(bits: &str) -> (Option<Badge>, u32) {
    let mut decoder = Decoder::new();
    let (_, last) = send(&mut decoder, bits, 0);
    (decoder.poll(last + GAP_US), decoder.noise())
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/wiegand/vectors.json")).unwrap()
}

/// All vectors: what is on the wire, and the number behind it.
fn cards() -> Vec<(String, Badge)> {
    let vectors = vectors();
    let w26 = vectors["w26"].as_array().unwrap().iter().map(|card| {
        let low24 = card["fc"].as_u64().unwrap() << 16 | card["card"].as_u64().unwrap();
        (card["bits"].as_str().unwrap().to_owned(), Badge::Low24(low24 as u32))
    });
    let w34 = vectors["w34"].as_array().unwrap().iter().map(|card| {
        let number = u32::from_str_radix(card["value_hex"].as_str().unwrap(), 16).unwrap();
        assert_eq!(card["decimal10"].as_str().unwrap(), format!("{number:010}"));
        assert_eq!(card["byte_reversed_decimal10"].as_str().unwrap(), format!("{:010}", number.swap_bytes()));
        (card["bits"].as_str().unwrap().to_owned(), Badge::Full(number))
    });
    w26.chain(w34).collect()
}

#[test]
fn every_recorded_card_is_read() {
    assert_eq!(cards().len(), 9);
    for (bits, badge) in cards() {
        assert_eq!(read(&bits), (Some(badge), 0), "{bits}");
    }
}

#[test]
fn a_whole_number_is_ended_by_a_silence_of_three_of_its_own_pauses() {
    for (bits, badge) in cards() {
        let mut decoder = Decoder::new();
        let (_, last) = send(&mut decoder, &bits, 0);
        assert_eq!(decoder.poll(last + 5_999), None, "2 ms apart");
        assert_eq!(decoder.poll(last + 6_000), Some(badge));
        assert_eq!((decoder.poll(last + GAP_US), decoder.noise()), (None, 0));
    }
}

#[test]
fn a_slow_keypad_is_given_its_time() {
    for (bits, badge) in cards() {
        let mut decoder = Decoder::new();
        let mut at = 0;
        for bit in bits.chars() {
            at += 20_000;
            assert_eq!(decoder.handle_pulse(bit == '1', at), None);
        }
        assert_eq!(decoder.poll(at + GAP_US - 1), None);
        assert_eq!(decoder.poll(at + GAP_US), Some(badge));
    }
}

#[test]
fn one_wrong_bit_anywhere_is_noise() {
    for (bits, _) in cards() {
        for index in 0..bits.len() {
            let flipped = if &bits[index..=index] == "1" { "0" } else { "1" };
            let damaged = format!("{}{flipped}{}", &bits[..index], &bits[index + 1..]);
            assert_eq!(read(&damaged), (None, 1), "bit {index} of {bits}");
        }
    }
}

#[test]
fn a_missing_or_additional_bit_is_noise() {
    for (bits, _) in cards() {
        assert_eq!(read(&bits[1..]), (None, 1));
        assert_eq!(read(&format!("{bits}0")), (None, 1));
    }
}

#[test]
fn the_next_number_ends_the_one_before() {
    let [(first, one), .., (second, two)] = &cards()[..] else { panic!("no cards") };
    let mut decoder = Decoder::new();
    let (_, last) = send(&mut decoder, first, 0);
    let (ended, last) = send(&mut decoder, second, last + GAP_US);
    assert_eq!(ended, [*one]);
    assert_eq!(decoder.poll_timeout(), Some(last + GAP_US));
    assert_eq!(decoder.poll(last + GAP_US), Some(*two));
}

#[test]
fn a_pulse_too_close_to_another_spoils_the_number() {
    let (bits, _) = &cards()[0];
    let mut decoder = Decoder::new();
    let (_, at) = send(&mut decoder, &bits[..25], 0);
    decoder.handle_pulse(true, at + 40);
    assert_eq!(decoder.poll(at + 40 + GAP_US), None);
    assert_eq!(decoder.noise(), 1);
    let (_, last) = send(&mut decoder, bits, at + 2 * GAP_US);
    assert!(decoder.poll(last + GAP_US).is_some());
}

proptest! {
    #[test]
    fn any_pulses_are_only_noise(pulses in prop::collection::vec((any::<bool>(), any::<u64>()), 0..300)) {
        let mut decoder = Decoder::new();
        for (bit, at) in pulses {
            decoder.handle_pulse(bit, at);
            decoder.poll(at / 2);
        }
    }
}
