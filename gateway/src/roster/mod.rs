//! The site's roster: what a row of the CSV means, and which numbers are right.
//!
//! Pure: text in, workers with their pictures or problems out. Knows neither the store nor the console; values of
//! personal data are masked in everything that it says.

pub mod badge;
pub mod codes;
pub mod conflicts;
pub mod csv;
pub mod id_number;
mod photo;
mod row;
pub mod trade;

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use conflicts::conflicts;
pub use csv::parse;
pub use photo::NamedPhoto;

use crate::punch::{PhotoHash, Worker};

/// What stands in a roster file without mistakes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RosterFile {
    /// In the order of the file.
    pub workers: Vec<Worker>,
    /// The pictures in it (JPEG), which become photos of the gateway when they are stored.
    pub pictures: HashMap<PhotoHash, Vec<u8>>,
    /// Photos that it only names: whoever takes the workers looks whether the gateway has them.
    pub named: Vec<NamedPhoto>,
}

/// Why a worker cannot go onto the roster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowProblem {
    /// Line in the file, from 1 (the header); none when it is no file, or the whole file.
    pub line: Option<u64>,
    pub worker_id: Option<String>,
    pub column: Option<String>,
    /// What stands there; personal data masked.
    pub value: Option<String>,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for RowProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line.map(|line| format!("line {line}"));
        let column = self.column.clone().map(|column| match &self.value {
            Some(value) => format!("{column} = {value:?}"),
            None => column,
        });
        for part in [line, self.worker_id.clone(), column].into_iter().flatten() {
            write!(f, "{part}: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// Full-width letters, digits and signs (as Chinese input methods write them) to ASCII; everything else as it is.
fn half_width(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\u{3000}' => ' ',
            '\u{FF01}'..='\u{FF5E}' => char::from_u32(c as u32 - 0xFEE0).expect("the block mirrors ASCII"),
            other => other,
        })
        .collect()
}
