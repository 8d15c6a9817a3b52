//! Hides personal numbers in raw evidence, of which nobody has said where in it they stand.

use std::borrow::Cow;

/// Raw evidence with every ID, telephone and bank-card number in it masked: 18 characters that read as an ID number, 11
/// digits that read as a mobile number, 16 to 19 digits that pass a card's check digit. Other bytes stay as they are.
pub fn evidence(raw: &[u8]) -> Cow<'_, [u8]> {
    let mut masked: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < raw.len() {
        let run = raw[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if run == 0 {
            at += 1;
            continue;
        }
        let digits = &raw[at..at + run];
        let hidden = hidden_part(digits, raw.get(at + run));
        if let Some(hidden) = hidden {
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
            if let Cow::Owned(masked) = evidence(text.as_bytes()) {
                *text = String::from_utf8(masked).expect("only ASCII digits were replaced, by ASCII");
            }
        }
        Value::Number(number) => {
            let text = number.to_string();
            if let Cow::Owned(masked) = evidence(text.as_bytes()) {
                *value = Value::String(String::from_utf8(masked).expect("only ASCII digits were replaced, by ASCII"));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(evidence_json),
        Value::Object(fields) => fields.values_mut().for_each(evidence_json),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Which part of a run of digits must not be seen, if any.
fn hidden_part(digits: &[u8], next: Option<&u8>) -> Option<std::ops::Range<usize>> {
    let ends_in_x = matches!(next, Some(b'X' | b'x'));
    match digits.len() {
        17 if ends_in_x && has_birth_date(digits) => Some(6..14),
        18 if has_birth_date(digits) => Some(6..14),
        11 if digits[0] == b'1' && digits[1] >= b'3' => Some(3..7),
        16..=19 if passes_luhn(digits) => Some(4..digits.len() - 4),
        _ => None,
    }
}

fn has_birth_date(digits: &[u8]) -> bool {
    let number = |from: usize, to: usize| digits[from..to].iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
    (1900..2100).contains(&number(6, 10)) && (1..=12).contains(&number(10, 12)) && (1..=31).contains(&number(12, 14))
}

/// ISO/IEC 7812-1 annex B, the check digit of bank cards.
fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(digit - b'0') * if place % 2 == 1 { 2 } else { 1 };
            value / 10 + value % 10
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        String::from_utf8(evidence(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn evidence_loses_every_personal_number_and_nothing_else() {
        assert_eq!(masked(r#"{"idCard":"110101199003070011"}"#), r#"{"idCard":"110101********0011"}"#);
        assert_eq!(masked("11010119491231018X,"), "110101********018X,");
        let mut json = serde_json::json!({"info": [{"idCard": 110101199003070011_u64, "telnum": "13800000001"}]});
        evidence_json(&mut json);
        assert_eq!(json, serde_json::json!({"info": [{"idCard": "110101********0011", "telnum": "138****0001"}]}));
        assert_eq!(masked("tel 13800000001"), "tel 138****0001");
        assert_eq!(masked("card 4000000000000002"), "card 4000********0002");
        for harmless in ["\"RecordID\":\"389\"", "2026-05-06 06:58:01", "1306612", "0004302837", "1767225600123"] {
            assert_eq!(masked(harmless), harmless);
        }
    }

    #[test]
    fn any_bytes_can_be_masked() {
        proptest::proptest!(|(raw: Vec<u8>)| {
            proptest::prop_assert_eq!(evidence(&raw).len(), raw.len());
        });
    }
}
