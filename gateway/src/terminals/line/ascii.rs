//! Text lines: one badge number per line, ended by CR, LF, both, or by silence.
//!
//! Bytes of noise cost one line, never more than [`MAX_LINE`] bytes of memory, and are counted.

use std::time::Duration;

use crate::punch::{Badge, Credential};

/// Silence that ends a line without CR or LF.
pub const IDLE: Duration = Duration::from_millis(100);
/// The longest line taken.
pub const MAX_LINE: usize = 64;

const BOM: &str = "\u{feff}";

/// One line, or what should have been one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Badge {
        credential: Credential,
        raw: Vec<u8>,
    },
    /// Longer than [`MAX_LINE`] (its beginning), or not printable UTF-8.
    Unreadable {
        reason: &'static str,
        raw: Vec<u8>,
    },
}

/// Finds lines in a stream of bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    overlong: bool,
}

impl Decoder {
    /// Takes one byte; gives the line that it ends.
    pub fn handle_byte(&mut self, byte: u8) -> Option<Line> {
        match byte {
            b'\r' | b'\n' => self.handle_idle(),
            0 => None,
            _ if self.line.len() < MAX_LINE => {
                self.line.push(byte);
                None
            }
            _ => {
                self.overlong = true;
                None
            }
        }
    }

    /// The line has been silent for [`IDLE`]: whatever came is a line.
    pub fn handle_idle(&mut self) -> Option<Line> {
        let raw = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.overlong) {
            return Some(Line::Unreadable { reason: "longer than 64 bytes", raw });
        }
        let Ok(text) = std::str::from_utf8(&raw) else {
            return Some(Line::Unreadable { reason: "not UTF-8", raw });
        };
        let text = text.trim_start_matches(BOM).trim();
        if text.chars().any(char::is_control) {
            return Some(Line::Unreadable { reason: "control characters", raw });
        }
        if text.is_empty() {
            return None;
        }
        Some(Line::Badge { credential: credential(text), raw })
    }

    /// Whether silence would change anything.
    pub fn is_midway(&self) -> bool {
        !self.line.is_empty() || self.overlong
    }
}

/// The number as printed on a card: 10 decimal digits of 32 bits, 8 hex digits, 10 hex digits of an EM card (the low 32
/// bits count), `fff,ccccc`. Anything else is text.
pub fn credential(text: &str) -> Credential {
    full(text)
        .map(|number| Credential::Badge(Badge(number)))
        .or_else(|| low24(text).map(Credential::Badge24))
        .unwrap_or_else(|| Credential::Text(text.to_owned()))
}

fn full(text: &str) -> Option<u32> {
    let all = |kind: fn(&u8) -> bool| text.bytes().all(|byte| kind(&byte));
    match text.len() {
        10 if all(u8::is_ascii_digit) && text.parse::<u32>().is_ok() => text.parse().ok(),
        10 if all(u8::is_ascii_hexdigit) => u32::from_str_radix(&text[2..], 16).ok(),
        8 if all(u8::is_ascii_hexdigit) => u32::from_str_radix(text, 16).ok(),
        _ => None,
    }
}

fn low24(text: &str) -> Option<u32> {
    let (facility, card) = text.split_once(',')?;
    let digits = |part: &str, most| (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(facility, 3) || !digits(card, 5) {
        return None;
    }
    let (facility, card) = (facility.parse::<u8>().ok()?, card.parse::<u16>().ok()?);
    Some(u32::from(facility) << 16 | u32::from(card))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(bytes: &[u8]) -> Vec<Line> {
        let mut decoder = Decoder::default();
        let mut lines: Vec<Line> = bytes.iter().filter_map(|byte| decoder.handle_byte(*byte)).collect();
        lines.extend(decoder.handle_idle());
        lines
    }

    fn credentials(bytes: &[u8]) -> Vec<Credential> {
        let credential = |line| match line {
            Line::Badge { credential, .. } => credential,
            Line::Unreadable { reason, .. } => panic!("{reason}"),
        };
        lines(bytes).into_iter().map(credential).collect()
    }

    fn badge(number: u32) -> Credential {
        Credential::Badge(Badge(number))
    }

    #[test]
    fn the_recorded_lines_with_every_kind_of_ending() {
        let bytes = include_bytes!("../../../../tests/fixtures/serial/ascii_lines.bin");
        let one = badge(12_345_678);
        let expected = [one.clone(), badge(0xE308_6CED), Credential::Badge24(0x08_6CED), one.clone(), one];
        assert_eq!(credentials(bytes), expected);
    }

    #[test]
    fn a_scanned_code_is_text() {
        let bytes = include_bytes!("../../../../tests/fixtures/serial/qr_utf8_crlf.bin");
        assert_eq!(credentials(bytes), [Credential::Text("GW1:110101199003070011:1778021881:9f3a".to_owned())]);
    }

    #[test]
    fn silence_ends_a_line_without_an_ending() {
        let mut decoder = Decoder::default();
        for byte in b"E3086CED" {
            assert_eq!(decoder.handle_byte(*byte), None);
        }
        assert!(decoder.is_midway());
        let line = decoder.handle_idle();
        assert_eq!(line, Some(Line::Badge { credential: badge(0xE308_6CED), raw: b"E3086CED".to_vec() }));
        assert!(!decoder.is_midway());
    }

    #[test]
    fn every_printed_form_of_one_card() {
        for text in ["3808980205", "e3086ced", "E3086CED", "62E3086CED"] {
            assert_eq!(credential(text), badge(0xE308_6CED), "{text}");
        }
        assert_eq!(credential("008,27885"), Credential::Badge24(0x08_6CED));
        assert_eq!(credential("8,27885"), Credential::Badge24(0x08_6CED));
    }

    #[test]
    fn what_is_no_number_stays_text() {
        for text in
            ["256,00001", "008,65536", "1234567", "008,", ",1", "+1,00001", "12345678901", "工人01", "62E3086CEG"]
        {
            assert_eq!(credential(text), Credential::Text(text.to_owned()), "{text}");
        }
        // Ten digits above 32 bits are the hex digits of an EM card.
        assert_eq!(credential("9912345678"), badge(0x1234_5678));
    }

    #[test]
    fn byte_order_marks_nul_and_blanks_are_stripped() {
        assert_eq!(credentials(b"\xEF\xBB\xBF 00\x00E3086C \r\n"), [Credential::Badge(Badge(0x00E3_086C))]);
        assert_eq!(credentials(b"\r\n \r\n\n"), []);
    }

    #[test]
    fn an_overlong_or_unprintable_line_is_unreadable_and_the_next_is_read() {
        let mut bytes = vec![b'7'; 500];
        bytes.extend(b"\nE3086CED\n\xFF\xFE\nE3086CED\nA\x07B\n");
        let kinds: Vec<_> = lines(&bytes)
            .into_iter()
            .map(|line| match line {
                Line::Badge { .. } => "badge",
                Line::Unreadable { reason, raw } => {
                    assert!(raw.len() <= MAX_LINE);
                    reason
                }
            })
            .collect();
        assert_eq!(kinds, ["longer than 64 bytes", "badge", "not UTF-8", "badge", "control characters"]);
    }

    proptest! {
        #[test]
        fn any_bytes_cost_a_line_at_most(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut decoder = Decoder::default();
            for byte in bytes {
                decoder.handle_byte(byte);
                prop_assert!(decoder.line.len() <= MAX_LINE);
            }
            decoder.handle_byte(b'\n');
            let line = b"E3086CED\n".iter().find_map(|byte| decoder.handle_byte(*byte));
            prop_assert_eq!(line, Some(Line::Badge { credential: badge(0xE308_6CED), raw: b"E3086CED".to_vec() }));
        }
    }
}
