//! JSON as terminals write it: numbers come as text, text as numbers, `" "` stands for nothing.
//!
//! Fields are kept as slices of the payload, so that a picture can be cut out of the evidence exactly and an id can be
//! echoed exactly as it came. Never panics; what cannot be read is absent.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of one JSON object in their order, values untouched.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// The members of the object in `json`.
    pub fn of(json: &'a str) -> Result<Fields<'a>, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The value as it stands; of a repeated key, the last.
    pub fn raw(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// Text or number as trimmed text; `None` when absent, blank, null or structured.
    pub fn text(&self, key: &str) -> Option<String> {
        self.raw(key).and_then(text_of)
    }

    /// A whole number, whatever it is written as.
    pub fn number(&self, key: &str) -> Option<i64> {
        self.text(key)?.parse().ok()
    }

    /// A finite number, whatever it is written as.
    pub fn float(&self, key: &str) -> Option<f32> {
        self.text(key)?.parse().ok().filter(|value: &f32| value.is_finite())
    }

    /// The value's text and its JSON form, for echoing.
    pub fn echo(&self, key: &str) -> Option<EchoId> {
        EchoId::of(self.raw(key)?)
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), *value))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((key, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
            fields.push((key, value));
        }
        Ok(Fields(fields))
    }
}

/// An id that must go back as the JSON type it came as.
#[derive(Clone, Debug)]
pub struct EchoId {
    raw: Box<RawValue>,
    text: String,
}

impl EchoId {
    /// The id in this value, if it is text or a number.
    pub fn of(raw: &RawValue) -> Option<EchoId> {
        let text = text_of(raw)?;
        Some(EchoId { raw: raw.to_owned(), text })
    }

    /// An id that is written as text.
    pub fn from_text(text: &str) -> EchoId {
        let raw = serde_json::value::to_raw_value(text).expect("text always has a JSON form");
        EchoId { raw, text: text.to_owned() }
    }

    /// An id that is written as a number.
    pub fn from_number(number: u64) -> EchoId {
        let raw = serde_json::value::to_raw_value(&number).expect("a number always has a JSON form");
        EchoId { raw, text: number.to_string() }
    }

    /// Trimmed, without its JSON form: `389` for `389`, `"389"` and `389.0`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As received.
    pub fn raw(&self) -> &RawValue {
        &self.raw
    }
}

/// Text or number as trimmed text.
pub fn text_of(raw: &RawValue) -> Option<String> {
    let json = raw.get().trim();
    let text = match json.as_bytes().first()? {
        b'"' => string_of(raw)?,
        b't' => Cow::Borrowed("1"),
        b'f' => Cow::Borrowed("0"),
        b'0'..=b'9' | b'-' => Cow::Borrowed(whole(json)),
        _ => return None,
    };
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// A JSON string's content, untrimmed and without copying where it has no escapes.
pub fn string_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    match serde_json::from_str::<&str>(raw.get()) {
        Ok(text) => Some(Cow::Borrowed(text)),
        Err(_) => serde_json::from_str::<String>(raw.get()).ok().map(Cow::Owned),
    }
}

/// `389.0` is 389 when it is an id.
fn whole(number: &str) -> &str {
    match number.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|b| b == b'0') => whole,
        _ => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_one_is_one() {
        let fields = Fields::of(r#"{"a":1,"b":"1","c":1.0,"d":" 1 ","e":"1\u0000","f":true}"#).unwrap();
        for key in ["a", "b", "c", "d", "e", "f"] {
            assert_eq!(fields.number(key), Some(1), "{key}");
        }
    }

    #[test]
    fn blank_null_and_structures_are_absent() {
        let fields = Fields::of(r#"{"a":" ","b":"","c":null,"d":[1],"e":{"x":1},"f":"\ud800"}"#).unwrap();
        for key in ["a", "b", "c", "d", "e", "f", "g"] {
            assert_eq!(fields.text(key), None, "{key}");
        }
    }

    #[test]
    fn of_a_repeated_key_the_last_counts() {
        let fields = Fields::of(r#"{"a":"1","a":"2"}"#).unwrap();
        assert_eq!(fields.text("a").as_deref(), Some("2"));
    }

    #[test]
    fn an_id_is_echoed_as_the_type_it_came_as() {
        let fields = Fields::of(r#"{"a":"389","b":389,"c":18446744073709551999}"#).unwrap();
        let echo = |key| fields.echo(key).unwrap();
        assert_eq!((echo("a").text(), echo("a").raw().get()), ("389", "\"389\""));
        assert_eq!((echo("b").text(), echo("b").raw().get()), ("389", "389"));
        assert_eq!(echo("c").raw().get(), "18446744073709551999");
    }
}
