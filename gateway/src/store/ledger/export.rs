//! The ledger as text, for people and for a case: one line per fact, with its place in the chain. Reads only.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::reader::{Item, PlacedFrame, Walk};
use super::seal::unseal;
use crate::punch::Fact;
use crate::store::keyring::Keyring;

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Jsonl,
    /// A table; the fact itself is JSON in the last column.
    Csv,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Csv(#[from] csv::Error),
}

#[derive(Serialize)]
struct Line {
    seq: u64,
    segment: u32,
    offset: u64,
    hash: String,
    previous_hash: String,
    kind: String,
    fact: Value,
}

/// Writes every readable fact in order; returns how many.
pub fn export(dir: &Path, keyring: &Keyring, out: impl Write, format: Format) -> Result<u64, ExportError> {
    match format {
        Format::Jsonl => {
            let mut out = io::BufWriter::new(out);
            let count = for_each(dir, keyring, |line| {
                serde_json::to_writer(&mut out, &line)?;
                Ok(out.write_all(b"\n")?)
            })?;
            out.flush()?;
            Ok(count)
        }
        Format::Csv => {
            let mut table = csv::Writer::from_writer(out);
            table.write_record(["seq", "segment", "offset", "hash", "previous_hash", "kind", "fact"])?;
            let count = for_each(dir, keyring, |line| {
                let Line { seq, segment, offset, hash, previous_hash, kind, fact } = line;
                let numbers = [seq.to_string(), segment.to_string(), offset.to_string()];
                let texts = [hash, previous_hash, kind, fact.to_string()];
                Ok(table.write_record(numbers.iter().chain(&texts))?)
            })?;
            table.flush()?;
            Ok(count)
        }
    }
}

fn for_each(
    dir: &Path,
    keyring: &Keyring,
    mut write: impl FnMut(Line) -> Result<(), ExportError>,
) -> Result<u64, ExportError> {
    let mut count = 0;
    let mut walk = Walk::all(dir);
    while let Some(item) = walk.next_item()? {
        if let Item::Fact(frame) = item {
            write(line(&frame, keyring)?)?;
            count += 1;
        }
    }
    Ok(count)
}

fn line(frame: &PlacedFrame, keyring: &Keyring) -> Result<Line, ExportError> {
    let (kind, fact) = match unseal(&frame.payload, keyring) {
        Ok(fact) => readable(&fact)?,
        Err(error) => ("unreadable".to_owned(), json!({ "reason": error.to_string() })),
    };
    Ok(Line {
        seq: frame.header.seq,
        segment: frame.at.segment,
        offset: frame.at.offset,
        hash: hex::encode(frame.hash()),
        previous_hash: hex::encode(frame.header.previous),
        kind,
        fact,
    })
}

/// A fact's kind and contents as JSON for people.
pub fn readable(fact: &Fact) -> Result<(String, Value), serde_json::Error> {
    let (kind, value) = match serde_json::to_value(fact)? {
        Value::Object(object) => object.into_iter().next().unwrap_or_default(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            (String::new(), other)
        }
    };
    Ok((kind.to_lowercase(), in_text("", value)))
}

/// Byte strings as hex, what a terminal sent as text when it is text: JSON would make lists of numbers of them.
fn in_text(name: &str, value: Value) -> Value {
    match value {
        Value::Object(object) => object
            .into_iter()
            .map(|(name, value)| {
                let value = in_text(&name, value);
                (name, value)
            })
            .collect(),
        Value::Array(items) => match bytes(&items) {
            Some(bytes) if name == "raw" => Value::String(text_or_hex(bytes)),
            Some(bytes) => Value::String(hex::encode(bytes)),
            None => items.into_iter().map(|item| in_text(name, item)).collect(),
        },
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

/// No fact holds a list of numbers that is not a byte string.
fn bytes(items: &[Value]) -> Option<Vec<u8>> {
    if items.is_empty() {
        return None;
    }
    items.iter().map(|item| item.as_u64().and_then(|number| u8::try_from(number).ok())).collect()
}

fn text_or_hex(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => format!("hex:{}", hex::encode(error.into_bytes())),
    }
}
