//! Badge numbers as people write them on the roster.
//!
//! | written | example | is |
//! |---|---|---|
//! | 8 hex digits | `E3086CED` | the 32 bits |
//! | 10 decimal digits up to 4294967295 | `3808980205` | the 32-bit number |
//! | 10 hex digits, otherwise | `62E3086CED` | an EM card with its version byte; the low 32 bits count |
//! | `fff,ccccc` | `008,27885` | facility and card of Wiegand 26: the low 24 bits |
//!
//! Two of these can look alike. Eight digits are always hex (a card printed `00827885` in the 8-digit form of Wiegand 26
//! is written `008,27885`). Ten decimal digits are a decimal number whenever 32 bits can hold it (an EM card whose ten
//! hex digits happen to be such a number is written with its last eight). The form that is shown is always 8 hex
//! digits, so that a wrong reading is seen at once.

use super::half_width;
use crate::punch::{Badge, BadgeOnRoster};

/// Why a text is no badge number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no badge number: write 8 hex digits, 10 decimal digits, 10 hex digits, or facility and card as fff,ccccc")]
pub struct BadgeFault;

/// Reads one of the forms above. Spaces around and full-width digits are taken, lower-case hex digits too.
pub fn parse(text: &str) -> Result<BadgeOnRoster, BadgeFault> {
    let text = half_width(text);
    let text = text.trim();
    if let Some((facility, card)) = text.split_once(',') {
        return low24(facility.trim(), card.trim()).ok_or(BadgeFault);
    }
    if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(BadgeFault);
    }
    let full = match text.len() {
        8 => u32::from_str_radix(text, 16).ok(),
        10 => text.parse().ok().or_else(|| u32::from_str_radix(&text[2..], 16).ok()),
        _ => None,
    };
    full.map(|bits| BadgeOnRoster::Full(Badge(bits))).ok_or(BadgeFault)
}

fn low24(facility: &str, card: &str) -> Option<BadgeOnRoster> {
    let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(facility, 3) || !digits(card, 5) {
        return None;
    }
    let (facility, card): (u8, u16) = (facility.parse().ok()?, card.parse().ok()?);
    Some(BadgeOnRoster::Low24(u32::from(facility) << 16 | u32::from(card)))
}

/// The bits that every form has.
pub fn low_24_bits(badge: BadgeOnRoster) -> u32 {
    match badge {
        BadgeOnRoster::Full(Badge(bits)) => bits & 0x00FF_FFFF,
        BadgeOnRoster::Low24(low) => low,
    }
}

/// Whether one card could be both: then they must not belong to two workers.
pub fn may_be_the_same(a: BadgeOnRoster, b: BadgeOnRoster) -> bool {
    match (a, b) {
        (BadgeOnRoster::Full(a), BadgeOnRoster::Full(b)) => a == b,
        (BadgeOnRoster::Full(_) | BadgeOnRoster::Low24(_), _) => low_24_bits(a) == low_24_bits(b),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const FIXTURE: &str = include_str!("../../../tests/fixtures/wiegand/vectors.json");

    fn full(bits: u32) -> Result<BadgeOnRoster, BadgeFault> {
        Ok(BadgeOnRoster::Full(Badge(bits)))
    }

    #[test]
    fn printed_forms_of_wiegand_26_cards_are_their_low_24_bits() {
        let fixture: Value = serde_json::from_str(FIXTURE).unwrap();
        for card in fixture["w26"].as_array().unwrap() {
            let low = (card["fc"].as_u64().unwrap() << 16 | card["card"].as_u64().unwrap()) as u32;
            let badge = parse(card["printed_3_5"].as_str().unwrap()).unwrap();
            assert_eq!(badge, BadgeOnRoster::Low24(low));
            assert_eq!(badge.to_string(), card["printed_3_5"].as_str().unwrap());
            let decimal = parse(card["low24_decimal10"].as_str().unwrap());
            assert_eq!(decimal, full(low), "ten decimal digits are the 32-bit number");
            assert!(may_be_the_same(decimal.unwrap(), badge));
        }
    }

    #[test]
    fn printed_forms_of_wiegand_34_cards_are_all_32_bits() {
        let fixture: Value = serde_json::from_str(FIXTURE).unwrap();
        for card in fixture["w34"].as_array().unwrap() {
            let hex = card["value_hex"].as_str().unwrap();
            let bits = u32::from_str_radix(hex, 16).unwrap();
            assert_eq!(parse(hex), full(bits));
            assert_eq!(parse(card["decimal10"].as_str().unwrap()), full(bits));
            assert_eq!(parse(card["byte_reversed_decimal10"].as_str().unwrap()), full(bits.swap_bytes()));
        }
    }

    #[test]
    fn every_written_form_has_one_reading() {
        assert_eq!(parse("e3086ced"), full(0xE308_6CED));
        assert_eq!(parse(" Ｅ３０８６ＣＥＤ "), full(0xE308_6CED));
        assert_eq!(parse("62E3086CED"), full(0xE308_6CED), "the version byte of an EM card does not count");
        assert_eq!(parse("3808980205"), full(0xE308_6CED));
        assert_eq!(parse("00827885"), full(0x0082_7885), "eight digits are hex");
        assert_eq!(parse("0100123456"), full(100_123_456), "ten digits are decimal when 32 bits hold them");
        assert_eq!(parse("4294967295"), full(u32::MAX));
        assert_eq!(parse("4294967296"), full(0x9496_7296), "and hex when not");
        assert_eq!(parse("8,27885"), Ok(BadgeOnRoster::Low24(0x0008_6CED)));
        assert_eq!(parse("008，27885"), Ok(BadgeOnRoster::Low24(0x0008_6CED)), "with a full-width comma");
    }

    #[test]
    fn anything_else_is_refused() {
        let wrong = [
            "",
            "E3086CE",
            "E3086CED1",
            "62E3086CED0",
            "256,1",
            "1,65536",
            "1,2,3",
            ",1",
            "1,",
            "-1,1",
            "+1,1",
            "E3086CEG",
            "552173",
            "3.80898E+09",
            "E3 08 6C ED",
            "0xE3086C",
            "１２３４５６７",
            "卡号12345678",
            "0008,00001",
        ];
        for text in wrong {
            assert_eq!(parse(text), Err(BadgeFault), "{text}");
        }
    }

    #[test]
    fn a_full_and_a_short_number_may_be_the_same_card() {
        let badge = |text| parse(text).unwrap();
        assert!(may_be_the_same(badge("E3086CED"), badge("008,27885")));
        assert!(may_be_the_same(badge("008,27885"), badge("008,27885")));
        assert!(!may_be_the_same(badge("E3086CED"), badge("00086CED")), "two different full numbers are two cards");
        assert!(!may_be_the_same(badge("008,27885"), badge("008,27886")));
    }

    proptest! {
        #[test]
        fn hex_decimal_and_em_forms_of_one_card_agree(bits in any::<u32>(), version in any::<u8>()) {
            prop_assert_eq!(parse(&format!("{bits:08X}")), full(bits));
            prop_assert_eq!(parse(&format!("{bits:08x}")), full(bits));
            prop_assert_eq!(parse(&format!("{bits:010}")), full(bits));
            let em = format!("{version:02X}{bits:08X}");
            prop_assume!(em.parse::<u32>().is_err());
            prop_assert_eq!(parse(&em), full(bits));
        }

        #[test]
        fn what_is_shown_is_read_back(bits in any::<u32>(), low in 0u32..1 << 24) {
            for badge in [BadgeOnRoster::Full(Badge(bits)), BadgeOnRoster::Low24(low)] {
                prop_assert_eq!(parse(&badge.to_string()), Ok(badge));
            }
        }

        #[test]
        fn no_text_stops_the_reading(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
