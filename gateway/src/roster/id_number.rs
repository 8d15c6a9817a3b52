//! Identity numbers of GB 11643-1999: six digits of region, eight of birth, three of sequence (odd: male), and a check
//! character by ISO 7064 MOD 11-2.
//!
//! A number with a wrong check character or an impossible date of birth is refused. What is only unusual — a region that
//! is not in use any more, an age outside working life — is a warning, because such numbers are legal.

use std::fmt;

use jiff::civil::Date;

use super::half_width;

const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
const CHECK_CHARACTERS: &[u8; 11] = b"10X98765432";

/// First two digits: the provinces (GB/T 2260).
const PROVINCES: [u8; 32] = [
    11, 12, 13, 14, 15, 21, 22, 23, 31, 32, 33, 34, 35, 36, 37, 41, 42, 43, 44, 45, 46, 50, 51, 52, 53, 54, 61, 62, 63,
    64, 65, 71,
];
/// First two digits of the permits of Hong Kong, Macao and Taiwan residents.
const PERMITS: [u8; 3] = [81, 82, 83];

/// Numbers have been given out since 1984, to people born after this year; what is merely old is a warning.
const EARLIEST_YEAR: i16 = 1860;

/// A right identity number: 18 characters, `X` in upper case, check character and date correct.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdNumber {
    text: String,
    birth: Date,
}

/// Why a text is no identity number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdFault {
    #[error("has {0} characters instead of 18")]
    Length(usize),
    #[error(
        "is a 15-digit number of the first generation, which platforms refuse; take the 18-digit number from the worker's \
         present card"
    )]
    FirstGeneration,
    #[error("has something else than 17 digits and a final digit or X")]
    Characters,
    #[error("has a date of birth that does not exist")]
    NoSuchDate,
    #[error("has a wrong check digit: a digit is mistyped, or two are exchanged")]
    CheckDigit,
}

/// What is unusual about a right number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdWarning {
    /// The first digits are no province and no kind of permit.
    UnknownRegion,
    NotBornYet,
    /// Younger than 16 or older than 80.
    Age(i16),
}

impl fmt::Display for IdWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdWarning::UnknownRegion => f.write_str("the region is not in use"),
            IdWarning::NotBornYet => f.write_str("the date of birth is in the future"),
            IdWarning::Age(years) => write!(f, "the age is {years}"),
        }
    }
}

impl IdNumber {
    /// Reads a number as people write it: spaces, full-width digits and a small `x` are taken. Fifteen digits are
    /// refused, because the century would be a guess.
    pub fn parse(text: &str) -> Result<IdNumber, IdFault> {
        let text = normalise(text);
        let length = text.chars().count();
        if length == 15 && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(IdFault::FirstGeneration);
        }
        if length != 18 {
            return Err(IdFault::Length(length));
        }
        let (body, check) = text.split_at_checked(17).ok_or(IdFault::Characters)?;
        let expected = check_character(body).ok_or(IdFault::Characters)?;
        if !matches!(check.as_bytes(), [b'0'..=b'9' | b'X']) {
            return Err(IdFault::Characters);
        }
        let birth = birth(body).ok_or(IdFault::NoSuchDate)?;
        if check.as_bytes() != [expected] {
            return Err(IdFault::CheckDigit);
        }
        Ok(IdNumber { text, birth })
    }

    /// As [`IdNumber::parse`], and fifteen digits are taken as born in the 20th century. For recognising a number that a
    /// terminal delivers: a wrong guess finds nobody. Never for what is sent to a platform.
    pub fn recognise(text: &str) -> Result<IdNumber, IdFault> {
        match IdNumber::parse(text) {
            Err(IdFault::FirstGeneration) => IdNumber::parse(&upgrade(&normalise(text))),
            other => other,
        }
    }

    /// The 18 characters.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn birth(&self) -> Date {
        self.birth
    }

    /// What a person should look at. `today` is a day of the site.
    pub fn warnings(&self, today: Date) -> Vec<IdWarning> {
        let mut warnings = Vec::new();
        if !is_known_region(&self.text) {
            warnings.push(IdWarning::UnknownRegion);
        }
        let had_birthday = (today.month(), today.day()) >= (self.birth.month(), self.birth.day());
        let age = today.year() - self.birth.year() - i16::from(!had_birthday);
        if self.birth > today {
            warnings.push(IdWarning::NotBornYet);
        } else if !(16..=80).contains(&age) {
            warnings.push(IdWarning::Age(age));
        }
        warnings
    }
}

impl fmt::Debug for IdNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdNumber({})", crate::mask::id_number(&self.text))
    }
}

/// Full-width to ASCII, without spaces, in upper case.
pub fn normalise(text: &str) -> String {
    half_width(text).chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_uppercase()).collect()
}

/// The first generation had a year of two digits and no check character.
fn upgrade(fifteen: &str) -> String {
    let body = format!("{}19{}", &fifteen[..6], &fifteen[6..]);
    let check = check_character(&body).map_or(' ', char::from);
    format!("{body}{check}")
}

/// Foreigners' permits since 2023 begin with a 9 before the province that issued them.
fn is_known_region(text: &str) -> bool {
    let region = |digits: &str| digits.parse().unwrap_or(0_u8);
    match text.strip_prefix('9') {
        Some(rest) => PROVINCES.contains(&region(&rest[..2])),
        None => PROVINCES.contains(&region(&text[..2])) || PERMITS.contains(&region(&text[..2])),
    }
}

fn check_character(body: &str) -> Option<u8> {
    let digits: Option<Vec<u32>> = body.chars().map(|c| c.to_digit(10)).collect();
    let sum: u32 = digits?.iter().zip(WEIGHTS).map(|(digit, weight)| digit * weight).sum();
    Some(CHECK_CHARACTERS[sum as usize % 11])
}

fn birth(body: &str) -> Option<Date> {
    let (year, month, day) = (body[6..10].parse().ok()?, body[10..12].parse().ok()?, body[12..14].parse().ok()?);
    Date::new(year, month, day).ok().filter(|birth| birth.year() >= EARLIEST_YEAR)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const FIXTURE: &str = include_str!("../../../tests/fixtures/gb11643/vectors.json");

    fn fixture() -> Value {
        serde_json::from_str(FIXTURE).unwrap()
    }

    #[test]
    fn valid_numbers_of_the_fixture_are_taken_as_they_stand() {
        let fixture = fixture();
        let valid = fixture["valid"].as_array().unwrap();
        assert_eq!(valid.len(), 17);
        for text in valid.iter().map(|text| text.as_str().unwrap()) {
            assert_eq!(IdNumber::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn numbers_are_normalised_before_they_are_checked() {
        for text in fixture()["valid_after_normalising"].as_array().unwrap() {
            assert_eq!(IdNumber::parse(text.as_str().unwrap()).unwrap().as_str(), "11010519491231002X");
        }
    }

    #[test]
    fn invalid_numbers_of_the_fixture_are_refused_for_the_named_reason() {
        let fixture = fixture();
        let invalid = fixture["invalid"].as_object().unwrap();
        assert_eq!(invalid.len(), 8);
        for (text, why) in invalid {
            let expected = match why.as_str().unwrap() {
                "check digit" => IdFault::CheckDigit,
                "month 13 (check digit is right)" | "30 Feb (check digit is right)" => IdFault::NoSuchDate,
                "X not last" => IdFault::Characters,
                "15-digit first-generation: upgrade before check" => IdFault::FirstGeneration,
                "17 digits" => IdFault::Length(17),
                other => panic!("the fixture has a new reason: {other}"),
            };
            assert_eq!(IdNumber::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn fifteen_digits_are_recognised_but_not_registered() {
        for (fifteen, eighteen) in fixture()["fifteen_to_eighteen"].as_object().unwrap() {
            assert_eq!(IdNumber::recognise(fifteen).unwrap().as_str(), eighteen.as_str().unwrap());
            assert_eq!(IdNumber::parse(fifteen), Err(IdFault::FirstGeneration));
        }
        assert_eq!(IdNumber::recognise("110105491331002"), Err(IdFault::NoSuchDate));
    }

    #[test]
    fn unusual_is_not_wrong() {
        let today = date(2026, 3, 1);
        let warnings = |text: &str, today| IdNumber::parse(text).unwrap().warnings(today);
        assert_eq!(warnings("110101199003070070", today), []);
        assert_eq!(warnings("810000199003070015", today), [], "a Hong Kong resident's permit");
        assert_eq!(warnings("911241199003070018", today), [], "a foreigner's permit");
        assert_eq!(warnings("11010519491231002X", date(2029, 12, 31)), []);
        assert_eq!(warnings("11010519491231002X", date(2030, 12, 31)), [IdWarning::Age(81)]);
        assert_eq!(warnings("110101199003070070", date(2006, 3, 6)), [IdWarning::Age(15)], "a day before the birthday");
        assert_eq!(warnings("110101199003070070", date(2006, 3, 7)), []);
        assert_eq!(warnings("110101199003070070", date(1990, 3, 6)), [IdWarning::NotBornYet]);
        assert_eq!(warnings(&with_check("99010119900307007"), today), [IdWarning::UnknownRegion]);
    }

    #[test]
    fn very_old_is_unusual_and_impossible_is_wrong() {
        let born = |birth: &str| IdNumber::parse(&with_check(&format!("110101{birth}007")));
        assert_eq!(born("18800101").unwrap().warnings(date(2026, 3, 1)), [IdWarning::Age(146)]);
        assert_eq!(born("18500101"), Err(IdFault::NoSuchDate));
        assert_eq!(born("00000101"), Err(IdFault::NoSuchDate));
        assert_eq!(born("19000228").unwrap().birth(), date(1900, 2, 28));
        assert_eq!(born("19000229"), Err(IdFault::NoSuchDate), "1900 was no leap year");
        assert_eq!(born("20000229").unwrap().birth(), date(2000, 2, 29));
    }

    #[test]
    fn a_number_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", IdNumber::parse("110101199003070070").unwrap()), "IdNumber(110101********0070)");
    }

    fn with_check(body: &str) -> String {
        format!("{body}{}", char::from(check_character(body).unwrap()))
    }

    prop_compose! {
        fn numbers()(region in 110_000u32..660_000, day in 0i32..36_000, sequence in 0u32..1000) -> String {
            let birth = date(1920, 1, 1).saturating_add(jiff::Span::new().days(day));
            with_check(&format!("{region}{}{sequence:03}", birth.strftime("%Y%m%d")))
        }
    }

    proptest! {
        #[test]
        fn a_made_number_is_right_and_stays_itself(number in numbers()) {
            let parsed = IdNumber::parse(&number).unwrap();
            prop_assert_eq!(parsed.as_str(), &number);
            let birth = parsed.birth().strftime("%Y%m%d").to_string();
            prop_assert_eq!(birth.as_str(), &number[6..14]);
        }

        #[test]
        fn one_wrong_digit_is_always_noticed(number in numbers(), at in 0usize..17, by in 1u8..10) {
            let mut bytes = number.into_bytes();
            bytes[at] = b'0' + (bytes[at] - b'0' + by) % 10;
            prop_assert!(IdNumber::parse(std::str::from_utf8(&bytes).unwrap()).is_err());
        }

        #[test]
        fn two_exchanged_neighbours_are_always_noticed(number in numbers(), at in 0usize..16) {
            let mut bytes = number.into_bytes();
            prop_assume!(bytes[at] != bytes[at + 1]);
            bytes.swap(at, at + 1);
            prop_assert!(IdNumber::parse(std::str::from_utf8(&bytes).unwrap()).is_err());
        }

        #[test]
        fn no_text_stops_the_check(text in any::<String>()) {
            let _ = IdNumber::recognise(&text);
        }

        #[test]
        fn no_text_of_the_right_length_stops_the_check(text in "[0-9Xx０-９汉 ]{15,20}") {
            let _ = IdNumber::recognise(&text);
        }
    }
}
