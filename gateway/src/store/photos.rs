//! Photos by content hash, each its own file, sealed with the keyring. Durable before the frame that names them; never edited, and removed
//! only by [`retention`](super::retention). The same photo
//! twice costs a look at the directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::keyring::Keyring;
use super::ledger::segment::sync_dir;
use crate::punch::PhotoHash;

/// `photos/ab/abcdef….sealed`; the name is the hash of what is inside.
fn path(dir: &Path, hash: PhotoHash) -> PathBuf {
    let name = hash.to_string();
    dir.join(&name[..2]).join(format!("{name}.sealed"))
}

/// Makes the shelves and deletes what an interrupted write left behind.
pub fn prepare(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for shelf in 0..=u8::MAX {
        match fs::create_dir(dir.join(hex::encode([shelf]))) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "new") {
            fs::remove_file(path)?;
        }
    }
    sync_dir(dir)
}

/// Stores a photo. Returns how many bytes came with it: none, if it was there.
pub fn put(dir: &Path, keyring: &Keyring, jpeg: &[u8]) -> io::Result<(PhotoHash, u64)> {
    static UNFINISHED: AtomicU64 = AtomicU64::new(0);
    let hash = PhotoHash::of(jpeg);
    let path = path(dir, hash);
    let shelf = path.parent().unwrap_or(dir);
    if path.exists() {
        // Whoever renamed it may not have synced the shelf yet, or not have lived to.
        sync_dir(shelf)?;
        return Ok((hash, 0));
    }
    let number = UNFINISHED.fetch_add(1, Ordering::Relaxed);
    let new = dir.join(format!("{hash}-{number}.new"));
    let sealed = keyring.seal(jpeg);
    let stored = write(&new, &sealed).and_then(|()| fs::rename(&new, &path)).and_then(|()| sync_dir(shelf));
    if let Err(error) = stored {
        // What is left of it is deleted at the next start.
        let _already_gone = fs::remove_file(&new);
        return Err(error);
    }
    Ok((hash, sealed.len() as u64))
}

/// Whether there is any photo.
pub fn any(dir: &Path) -> io::Result<bool> {
    for shelf in fs::read_dir(dir)? {
        let shelf = shelf?;
        if shelf.file_type()?.is_dir() && fs::read_dir(shelf.path())?.next().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes a photo, if it is there; durable when its shelf is synced. Returns the shelf and how many bytes went.
pub fn remove(dir: &Path, hash: PhotoHash) -> io::Result<Option<(PathBuf, u64)>> {
    let path = path(dir, hash);
    let removed = fs::metadata(&path).and_then(|metadata| fs::remove_file(&path).map(|()| metadata.len()));
    match removed {
        Ok(bytes) => Ok(Some((path.parent().unwrap_or(dir).to_owned(), bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A photo's bytes; an error when they are not what was stored.
pub fn get(dir: &Path, keyring: &Keyring, hash: PhotoHash) -> io::Result<Option<Vec<u8>>> {
    let bytes = match fs::read(path(dir, hash)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let jpeg = keyring.open(&bytes).map_err(|error| damaged(hash, &error.to_string()))?;
    match PhotoHash::of(&jpeg) == hash {
        true => Ok(Some(jpeg)),
        false => Err(damaged(hash, "it is another one")),
    }
}

fn damaged(hash: PhotoHash, cause: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("photo {hash} is damaged: {cause}"))
}
