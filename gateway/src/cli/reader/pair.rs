//! `reader pair`: gives a new reader on the bench its address, its key and its line's speed, and says what to write into
//! the configuration. The key goes over the cable and into its file, and is never shown.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use gateway::store::ledger::segment::sync_name;
use gateway::terminals::line::pairing::{PairError, Pairing, pair};
use protocol::{Address, Key, Refusal};

use crate::cli::exit::{Exit, Failure, of_io};

/// What the reader is to be, and where it is.
#[derive(Args)]
pub struct Words {
    /// The serial port with this reader alone on it.
    #[arg(long, value_name = "PATH")]
    port: PathBuf,
    /// Its place on its line.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=247))]
    address: u8,
    /// Bits per second of its line.
    #[arg(long, default_value_t = 115_200, value_parser = clap::value_parser!(u32).range(1_200..=921_600))]
    baud: u32,
    /// A new file for its key.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// Its id in the configuration.
    #[arg(long, default_value = "reader")]
    id: String,
    /// Its serial number, as on its label.
    #[arg(long, default_value = "R0001")]
    serial: String,
}

/// Pairs the reader and gives the lines for the configuration.
pub fn run(words: &Words) -> Result<String, Failure> {
    let address = Address::new(words.address).ok_or_else(|| Failure::new(Exit::Usage, "the address is 1 to 247"))?;
    let key = Key(rand::random());
    write_key(&words.key_file, &key)?;
    let pairing = Pairing { address, baud: words.baud, key };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Software, format!("no runtime: {error}")))?;
    match runtime.block_on(pair(&words.port, &pairing, rand::random())) {
        Ok(status) => {
            let [major, minor, patch] = status.firmware;
            Ok(format!("paired; its firmware is {major}.{minor}.{patch}. For the configuration:\n\n{}", stanza(words)))
        }
        Err(error) => Err(failed(words, &error)),
    }
}

/// On disk before the reader has it: a key that only the reader knows is of no use.
fn write_key(path: &Path, key: &Key) -> Result<(), Failure> {
    // The process's umask keeps it from others.
    let written = std::fs::File::create_new(path).and_then(|mut file| {
        writeln!(file, "{}", hex::encode(key.0))?;
        file.sync_all()?;
        sync_name(path)
    });
    written.map_err(|error| {
        Failure::new(of_io(&error, Exit::CannotCreate), format!("{} cannot be created: {error}", path.display()))
    })
}

fn failed(words: &Words, error: &PairError) -> Failure {
    let by_hand = "hold the button inside its housing for 5 s, until both lamps are on";
    let (exit, hint) = match error {
        PairError::Port(_) => (Exit::NoInput, format!("look at {}", words.port.display())),
        PairError::NoReader => (
            Exit::Unavailable,
            format!("both its lamps are on while it waits; with one that was paired before, {by_hand}"),
        ),
        PairError::Refused(Refusal::Paired) => (Exit::NoPermission, by_hand.to_owned()),
        PairError::Refused(_) => (Exit::Unavailable, "it keeps waiting; try again, or use another reader".to_owned()),
        PairError::Unproven => (
            Exit::TemporaryFailure,
            format!(
                "the key stays in {}; to begin again {by_hand}, and give another key file",
                words.key_file.display()
            ),
        ),
    };
    if !matches!(error, PairError::Unproven) {
        // The reader has not got it. A file that stays is in the way of the next attempt, which says so.
        let _ = std::fs::remove_file(&words.key_file);
    }
    Failure::new(exit, format!("not paired: {error}; {hint}"))
}

fn stanza(words: &Words) -> String {
    let Words { port, address, baud, key_file, id, serial } = words;
    let key_file = std::path::absolute(key_file).unwrap_or_else(|_| key_file.clone());
    format!(
        "[[line]]\npath = {:?}\nbaud = {baud}\nprotocol = \"reader\"\nterminals = [\n    {{ id = {id:?}, address = {address}, \
         serial = {serial:?}, direction = \"in\", key_file = {:?} }},\n]",
        port.display().to_string(),
        key_file.display().to_string()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(key_file: PathBuf) -> Words {
        let (port, id, serial) = ("/dev/anxin-line0".into(), "south-in".to_owned(), "R0007".to_owned());
        Words { port, address: 7, baud: 9_600, key_file, id, serial }
    }

    #[test]
    fn the_lines_for_the_configuration_are_taken_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let words = words(dir.path().join("r7.key"));
        write_key(&words.key_file, &Key([0xA5; 16])).unwrap();
        let file = dir.path().join("gateway.toml");
        std::fs::write(&file, stanza(&words)).unwrap();
        let config = gateway::config::Config::load(&file).unwrap();
        let line = &config.lines[0];
        assert_eq!((line.baud, line.terminals[0].address), (9_600, Some(7)));
        assert_eq!(line.terminals[0].key.unwrap().0, [0xA5; 16]);
    }

    #[test]
    fn a_key_file_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r7.key");
        write_key(&path, &Key([1; 16])).unwrap();
        assert_eq!(write_key(&path, &Key([2; 16])).unwrap_err().exit, Exit::CannotCreate);
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), "01".repeat(16));
    }

    #[test]
    fn the_key_stays_only_when_the_reader_may_have_it() {
        let dir = tempfile::tempdir().unwrap();
        let words = words(dir.path().join("r7.key"));
        for (error, stays) in
            [(PairError::NoReader, false), (PairError::Refused(Refusal::Paired), false), (PairError::Unproven, true)]
        {
            let _ = std::fs::remove_file(&words.key_file);
            write_key(&words.key_file, &Key([1; 16])).unwrap();
            let _ = failed(&words, &error);
            assert_eq!(words.key_file.exists(), stays, "{error}");
        }
    }
}
