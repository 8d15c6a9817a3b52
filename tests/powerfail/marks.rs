//! What a workload was told: one line outside its data directory as soon as the store has answered. It stands in the same
//! trace as the file operations, so "acknowledged before operation k" is exact.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One thing that the store has promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// Punch `n` is in the ledger at this place.
    Punch { n: u32, seq: u64 },
    /// Some other fact is.
    Fact { seq: u64 },
    /// The photo of punch `n` is stored.
    Photo { n: u32 },
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mark::Punch { n, seq } => write!(f, "punch {n} {seq}"),
            Mark::Fact { seq } => write!(f, "fact {seq}"),
            Mark::Photo { n } => write!(f, "photo {n}"),
        }
    }
}

impl FromStr for Mark {
    type Err = io::Error;

    fn from_str(line: &str) -> io::Result<Mark> {
        let words: Vec<&str> = line.split(' ').collect();
        let mark = match words[..] {
            ["punch", n, seq] => n.parse().ok().zip(seq.parse().ok()).map(|(n, seq)| Mark::Punch { n, seq }),
            ["fact", seq] => seq.parse().ok().map(|seq| Mark::Fact { seq }),
            ["photo", n] => n.parse().ok().map(|n| Mark::Photo { n }),
            _ => None,
        };
        mark.ok_or_else(|| io::Error::other(format!("{line:?} is no mark")))
    }
}

impl Mark {
    /// The place of a fact in the ledger.
    pub fn seq(self) -> Option<u64> {
        match self {
            Mark::Punch { seq, .. } | Mark::Fact { seq } => Some(seq),
            Mark::Photo { .. } => None,
        }
    }
}

/// Writes marks.
pub struct Marks(File);

impl Marks {
    pub fn open(path: &Path) -> io::Result<Marks> {
        Ok(Marks(OpenOptions::new().create(true).append(true).open(path)?))
    }

    /// One write, whatever the number of marks: whoever is killed has said all of them or none.
    pub fn say(&self, marks: &[Mark]) -> io::Result<()> {
        (&self.0).write_all(lines(marks).as_bytes())
    }
}

fn lines(marks: &[Mark]) -> String {
    marks.iter().map(|mark| format!("{mark}\n")).collect()
}

/// Reads what was said.
pub fn parse(text: &[u8]) -> io::Result<Vec<Mark>> {
    let text = std::str::from_utf8(text).map_err(io::Error::other)?;
    text.lines().map(Mark::from_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_from_their_lines() {
        let marks = [Mark::Punch { n: 7, seq: 9 }, Mark::Fact { seq: 10 }, Mark::Photo { n: 16 }];
        assert_eq!(parse(lines(&marks).as_bytes()).unwrap(), marks);
        assert!(parse(b"punch 7\n").is_err() && parse(b"\n").is_err());
    }
}
