//! Personal data as it may be shown: enough to recognise, not enough to misuse.
//!
//! A field is masked by what it is; in a text of others, of which nobody has said where such numbers stand, they are
//! found by how they look. Both leave the same characters to see.

use std::borrow::Cow;
use std::ops::Range;

/// How many characters at its ends a number keeps.
#[derive(Clone, Copy)]
struct Kept {
    head: usize,
    tail: usize,
}

/// The region of an identity number, its order code and check digit; not the date of birth.
const ID_NUMBER: Kept = Kept { head: 6, tail: 4 };
const PHONE: Kept = Kept { head: 3, tail: 4 };
const CARD: Kept = Kept { head: 0, tail: 4 };

/// `张三丰` → `张*`.
pub fn name(name: &str) -> String {
    name.chars().next().map_or(String::new(), |first| format!("{first}*"))
}

/// `110101194912310016` → `110101********0016`; what is too short to be a number keeps only its first characters.
pub fn id_number(number: &str) -> String {
    middle(number, ID_NUMBER, 8)
}

/// `6222020000000001234` → `****1234`.
pub fn bank_card(number: &str) -> String {
    middle(number, CARD, 4)
}

/// `13812345678` → `138****5678`.
pub fn phone(number: &str) -> String {
    middle(number, PHONE, 4)
}

/// `E3086CED` → `****6CED`.
pub fn badge(number: &str) -> String {
    middle(number, CARD, 4)
}

/// Any other personal text: its first character and its length.
pub fn text(text: &str) -> String {
    match text.chars().count() {
        0 => String::new(),
        count => format!("{}… ({count} characters)", text.chars().take(1).collect::<String>()),
    }
}

/// Keeps both ends when at least four characters stay hidden; otherwise no more than two.
fn middle(text: &str, kept: Kept, stars: usize) -> String {
    let characters: Vec<char> = text.trim().chars().collect();
    let stars = "*".repeat(stars);
    if characters.len() < kept.head + kept.tail + 4 {
        return format!("{}{stars}", characters.iter().take(characters.len().min(4) / 2).collect::<String>());
    }
    let (head, rest) = characters.split_at(kept.head);
    let tail = &rest[rest.len() - kept.tail..];
    format!("{}{stars}{}", String::from_iter(head), String::from_iter(tail))
}

/// Somebody's text with every personal number in it masked; see [`evidence`].
pub fn numbers(text: &str) -> Cow<'_, str> {
    match evidence(text.as_bytes()) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(masked) => Cow::Owned(String::from_utf8(masked).expect("only ASCII was replaced, by ASCII")),
    }
}

/// Raw evidence with every personal number in it masked: 11 digits that read as a mobile number, and all runs of 15 and
/// more digits, as an identity number where they have its date of birth, otherwise as a bank card. Its length and all
/// other bytes stay.
pub fn evidence(raw: &[u8]) -> Cow<'_, [u8]> {
    let mut masked: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < raw.len() {
        let run = raw[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if run == 0 {
            at += 1;
            continue;
        }
        if let Some(hidden) = hidden_part(&raw[at..at + run], raw.get(at + run)) {
            let copy = masked.get_or_insert_with(|| raw.to_vec());
            copy[at + hidden.start..at + hidden.end].fill(b'*');
        }
        at += run;
    }
    masked.map_or(Cow::Borrowed(raw), Cow::Owned)
}

/// The same for evidence that is JSON: numbers that must be hidden become text, so that it stays JSON.
pub fn evidence_json(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => {
            if let Cow::Owned(masked) = numbers(text) {
                *text = masked;
            }
        }
        // The digits behind a decimal point are nobody's number.
        Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() != 0.0) => {}
        Value::Number(number) => {
            if let Cow::Owned(masked) = numbers(&number.to_string()) {
                *value = Value::String(masked);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(evidence_json),
        Value::Object(fields) => fields.values_mut().for_each(evidence_json),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Which part of a run of digits must not be seen, if any.
fn hidden_part(digits: &[u8], next: Option<&u8>) -> Option<Range<usize>> {
    let ends_in_x = matches!(next, Some(b'X' | b'x'));
    let hidden = |kept: Kept, beside: usize| Some(kept.head..digits.len() + beside - kept.tail);
    match digits.len() {
        11 if digits[0] == b'1' && digits[1] >= b'3' => hidden(PHONE, 0),
        15 if is_date(1900 + number(&digits[6..8]), &digits[8..12]) => hidden(ID_NUMBER, 0),
        17 if ends_in_x && is_date(number(&digits[6..10]), &digits[10..14]) => hidden(ID_NUMBER, 1),
        18 if is_date(number(&digits[6..10]), &digits[10..14]) => hidden(ID_NUMBER, 0),
        15.. => hidden(CARD, 0),
        _ => None,
    }
}

fn is_date(year: u32, month_and_day: &[u8]) -> bool {
    let (month, day) = month_and_day.split_at(2);
    (1900..2100).contains(&year) && (1..=12).contains(&number(month)) && (1..=31).contains(&number(day))
}

fn number(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn masked_data_can_be_recognised_and_not_misused() {
        assert_eq!(name("张三丰"), "张*");
        assert_eq!(name(""), "");
        assert_eq!(id_number("110101194912310016"), "110101********0016");
        assert_eq!(bank_card("6222020000000001234"), "****1234");
        assert_eq!(phone("13812345678"), "138****5678");
        assert_eq!(badge("E3086CED"), "****6CED");
        assert_eq!(badge("008,27885"), "****7885");
    }

    #[test]
    fn short_and_broken_values_do_not_slip_through() {
        assert_eq!(id_number("1101011949"), "11********");
        assert_eq!(badge("6CED"), "6C****");
        assert_eq!(phone("1"), "****");
        assert_eq!(bank_card(""), "****");
        assert_eq!(id_number("汉字汉字汉字汉字汉字汉字汉字汉字"), "汉字汉字汉字********汉字汉字");
        assert_eq!(text("北京市东城区"), "北… (6 characters)");
    }

    #[test]
    fn evidence_loses_every_personal_number_and_nothing_else() {
        assert_eq!(numbers(r#"{"idCard":"110101199003070011"}"#), r#"{"idCard":"110101********0011"}"#);
        assert_eq!(numbers("11010119491231018X,"), "110101********018X,");
        assert_eq!(numbers("110101491231018."), "110101*****1018.", "15 digits, as before 1999");
        assert_eq!(numbers("tel 13800000001"), "tel 138****0001");
        for card in ["4000000000000002", "4000000000000003", "6222020000000001234", "110101199013990011"] {
            let masked = format!("{}{}", "*".repeat(card.len() - 4), &card[card.len() - 4..]);
            assert_eq!(
                numbers(&format!("card {card}元")),
                format!("card {masked}元"),
                "with and without a check digit"
            );
        }
        for harmless in ["\"RecordID\":\"389\"", "2026-05-06 06:58:01", "1306612", "0004302837", "1767225600123"] {
            assert_eq!(numbers(harmless), harmless);
        }
    }

    #[test]
    fn evidence_that_is_json_stays_json() {
        let mut evidence =
            json!({"info": [{"idCard": 110101199003070011_u64, "telnum": "13800000001", "RecordID": 389}]});
        evidence_json(&mut evidence);
        let masked = json!({"info": [{"idCard": "110101********0011", "telnum": "138****0001", "RecordID": 389}]});
        assert_eq!(evidence, masked);
        let similarity = json!({"similarity1": f64::from(91.4_f32), "similarity2": f64::from(0.873_456_7_f32)});
        let mut shown = similarity.clone();
        evidence_json(&mut shown);
        assert_eq!(shown, similarity);
    }

    /// What is seen of a number does not depend on whether its field was known.
    #[test]
    fn a_number_looks_the_same_in_its_field_and_in_a_text() {
        assert_eq!(numbers("11010119491231018X"), id_number("11010119491231018X"));
        assert_eq!(numbers("110101199003070011"), id_number("110101199003070011"));
        assert_eq!(numbers("13812345678"), phone("13812345678"));
        let card = numbers("6222020000000001234");
        assert_eq!(card.trim_start_matches('*'), bank_card("6222020000000001234").trim_start_matches('*'));
    }

    #[test]
    fn any_bytes_can_be_masked() {
        proptest::proptest!(|(raw: Vec<u8>, digits in "[0-9Xx]{0,40}")| {
            proptest::prop_assert_eq!(evidence(&raw).len(), raw.len());
            proptest::prop_assert_eq!(numbers(&digits).len(), digits.len());
        });
    }
}
