//! A file that is written as a whole: what a simulated thing's memory holds over restarts of its process.
//!
//! Whoever dies while writing leaves the old file or the new one. A power cut of the whole machine is not simulated here:
//! nothing is synced.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the file holds; `None` when there is none.
pub fn load<T: DeserializeOwned>(file: &Path) -> io::Result<Option<T>> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(told(file, &error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| told(file, &io::Error::from(error)))
}

/// Replaces the file, which has the directory to itself as far as names go that end in `.new`.
pub fn save(file: &Path, what: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(what)?;
    let new = file.with_extension("new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, file)).map_err(|error| told(file, &error))
}

fn told(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thing_saved_is_loaded_and_a_torn_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("journal.json");
        assert_eq!(load::<Vec<u32>>(&file).unwrap(), None);
        save(&file, &vec![1, 2]).unwrap();
        save(&file, &vec![3]).unwrap();
        assert_eq!(load(&file).unwrap(), Some(vec![3]));
        fs::write(&file, "[3").unwrap();
        let error = load::<Vec<u32>>(&file).unwrap_err().to_string();
        assert!(error.contains("journal.json"), "{error}");
    }
}
