//! The bearer token: read from its file, or made once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rand::TryRngCore;
use rand::rngs::OsRng;

use crate::config::Secret;

/// Shorter tokens can be guessed.
const SHORTEST: usize = 16;

#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}", path = path.display())]
pub struct TokenError {
    pub path: std::path::PathBuf,
    pub source: std::io::Error,
}

/// Reads the API token, or creates it (32 random bytes as hex, mode 0600) when the file is missing.
pub fn load_token(file: &Path) -> Result<Secret, TokenError> {
    let outcome = match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => create(file),
        read => read,
    };
    outcome.and_then(checked).map_err(|source| TokenError { path: file.to_owned(), source })
}

fn checked(text: String) -> io::Result<Secret> {
    let token = text.trim();
    if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = format!(
            "the API token must be at least {SHORTEST} visible ASCII characters on one line; delete the file to get a new one"
        );
        return Err(io::Error::new(ErrorKind::InvalidData, problem));
    }
    Ok(Secret(token.to_owned()))
}

/// Whoever links the complete file to its name first wins, so that a crash leaves no half token and two starts at once
/// agree on one.
fn create(file: &Path) -> io::Result<String> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut random = [0; 40];
    OsRng.try_fill_bytes(&mut random).map_err(io::Error::other)?;
    let (token, unique) = random.split_at(32);
    let token = hex::encode(token);
    let draft = folder.join(format!(".api-token-{}", hex::encode(unique)));
    let placed = write_synced(&draft, &token).and_then(|()| fs::hard_link(&draft, file));
    let removed = fs::remove_file(&draft);
    match placed {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return fs::read_to_string(file),
        Err(error) => return Err(error),
    }
    removed?;
    File::open(folder)?.sync_all()?;
    Ok(token)
}

fn write_synced(path: &Path, token: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{token}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_missing_token_is_made_once_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data").join("api-token");
        let token = load_token(&file).unwrap();
        assert_eq!(token.0.len(), 64);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_token(&file).unwrap(), token);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "the draft stayed behind");
    }

    #[test]
    fn two_starts_at_once_agree_on_one_token() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("api-token");
        let tokens: Vec<Secret> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| load_token(&file).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(tokens.iter().all(|token| *token == tokens[0]));
    }

    #[test]
    fn a_token_that_can_be_guessed_is_refused_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("api-token");
        for weak in ["", "secret\n", "two lines of a token\nand more"] {
            fs::write(&file, weak).unwrap();
            let error = load_token(&file).unwrap_err().to_string();
            assert!(error.contains("api-token") && error.contains("at least 16"), "{error}");
        }
    }
}
