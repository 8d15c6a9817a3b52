//! What makes a value right, apart from its type: check digits, names, addresses, uniqueness.

use std::collections::HashMap;

use super::reader::Section;

/// Characters of a unified social credit code (GB 32100-2015, 4.2.5): no I, O, S, V, Z.
const CREDIT_CODE_CHARACTERS: &str = "0123456789ABCDEFGHJKLMNPQRTUWXY";
/// Weights of positions 1 to 17 (GB 32100-2015, table A.1): powers of 3 modulo 31.
const CREDIT_CODE_WEIGHTS: [usize; 17] = [1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28];

/// What is wrong with a unified social credit code, in words; `None` when it is right.
pub fn credit_code_fault(code: &str) -> Option<String> {
    let values: Option<Vec<usize>> = code.chars().map(|c| CREDIT_CODE_CHARACTERS.find(c)).collect();
    let Some(values) = values.filter(|values| values.len() == 18) else {
        return Some("is not 18 digits and capital letters (without I, O, S, V, Z)".to_owned());
    };
    let sum: usize = values.iter().zip(CREDIT_CODE_WEIGHTS).map(|(value, weight)| value * weight).sum();
    let expected = (31 - sum % 31) % 31;
    (values[17] != expected).then(|| "has a wrong check digit".to_owned())
}

/// Names that appear in paths of the API and in log lines: a letter or digit of any script, `-`, `_` or `.`.
pub fn is_name(text: &str) -> bool {
    text.chars().count() <= 64 && text.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) && text != "."
}

/// Serial numbers appear in MQTT topics: no level separator and no wildcard, nothing invisible.
pub fn is_serial(text: &str) -> bool {
    text.chars().count() <= 64 && text.chars().all(|c| !c.is_control() && !c.is_whitespace() && !"/+#".contains(c))
}

/// An MQTT topic's beginning: levels that are not empty and hold no wildcard.
pub fn is_topic_prefix(text: &str) -> bool {
    text.split('/').all(|level| !level.is_empty() && is_serial(level))
}

/// What is wrong with a URL, in words; `None` when it has one of `schemes`, a host and no login in it.
pub fn url_fault(text: &str, schemes: &[&str]) -> Option<String> {
    let wanted = schemes.join(":// or ");
    let Ok(url) = reqwest::Url::parse(text) else { return Some(format!("is not a URL with {wanted}://")) };
    if !schemes.contains(&url.scheme()) {
        return Some(format!("does not begin with {wanted}://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Some("names no host".to_owned());
    }
    has_login(text).then(|| "has a login in it".to_owned())
}

/// Whether a URL carries a user name or a password; such a value is not repeated in messages.
pub fn has_login(text: &str) -> bool {
    text.split(['?', '#']).next().is_some_and(|address| address.contains('@'))
}

/// What has been used, and by which key; tells the second user who was first.
#[derive(Default)]
pub struct Seen(HashMap<String, String>);

impl Seen {
    /// Reports `value` at `key` of `section` when another key has it already.
    pub fn claim(&mut self, section: &Section<'_>, key: &'static str, value: &str, remedy: &str) {
        let place = section.dotted(key);
        match self.0.get(value) {
            Some(first) => section.problem(key, Some(value.to_owned()), &format!("is used by {first} too"), remedy),
            None => drop(self.0.insert(value.to_owned(), place)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_codes_are_checked_by_their_last_character() {
        // The example of GB 32100-2015, and the configuration's own.
        assert_eq!(credit_code_fault("91350100M000100Y43"), None);
        assert_eq!(credit_code_fault("91650000MA0000000K"), None);
        assert!(credit_code_fault("91350100M000100Y44").unwrap().contains("check digit"));
        for wrong in ["", "91350100M000100Y4", "91350100M000100Y433", "91350100m000100y43", "9135010OM000100Y43"] {
            assert!(credit_code_fault(wrong).unwrap().contains("18"), "{wrong}");
        }
    }

    #[test]
    fn exchanging_any_two_different_neighbours_is_noticed() {
        let code: Vec<char> = "91350100M000100Y43".chars().collect();
        for at in 0..17 {
            let mut swapped = code.clone();
            swapped.swap(at, at + 1);
            let text: String = swapped.iter().collect();
            assert_eq!(credit_code_fault(&text).is_some(), swapped != code, "{text}");
        }
    }

    #[test]
    fn urls_need_their_scheme_and_a_host_and_carry_no_login() {
        assert_eq!(url_fault("http://127.0.0.1:9000/open.api", &["http", "https"]), None);
        assert_eq!(url_fault("mqtts://broker.site:8883", &["mqtt", "mqtts"]), None);
        for wrong in ["127.0.0.1:9000", "ftp://a/b", "http://", "mqtt://host", "", "http://a b/"] {
            assert!(url_fault(wrong, &["http", "https"]).is_some(), "{wrong}");
        }
        assert_eq!(url_fault("http://me:word@host/", &["http"]).unwrap(), "has a login in it");
    }

    #[test]
    fn names_serials_and_topics_hold_nothing_that_breaks_a_path() {
        assert!(is_name("north-in") && is_name("北门_进.1"));
        assert!(!is_name("north in") && !is_name("a/b") && !is_name(&"x".repeat(65)));
        assert!(
            is_serial("1306612") && !is_serial("13/06") && !is_serial("a+") && !is_serial("#") && !is_serial("a\nb")
        );
        assert!(
            is_topic_prefix("mqtt/face")
                && !is_topic_prefix("/mqtt")
                && !is_topic_prefix("mqtt/")
                && !is_topic_prefix("mqtt/+")
        );
    }
}
