//! Everything that must not be lost in one encrypted file, made beside a running gateway; and a data directory from it.
//!
//! ```text
//! offset size
//!      0    8  magic        "AXBACKUP"
//!      8    1  format       1
//!      9   16  salt         the key is Argon2id (RFC 9106, 19 MiB, 2 passes) of the passphrase
//!     25   19  nonce
//!     44       chunks of 64 KiB and a tag of 16 bytes each, the last one shorter: STREAM (BE32) of XChaCha20-Poly1305
//! ```
//!
//! Inside is a tar archive: `keyring`, then `api-token`, the segments of the ledger in their order, and the photos. Facts
//! and photos are sealed in it as they are on the disk; the keyring is not, so the passphrase opens everything.
//! The ledger comes first: every photo that it names is there. What was written while the copy was made may be torn at
//! its end, and is cut like after a stop.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use aead_stream::{DecryptorBE32, EncryptorBE32};
use chacha20poly1305::XChaCha20Poly1305;

use super::keyring::file::{self, KeyringError};
use super::keyring::master::{MasterError, MasterFile, Secret};
use super::keyring::{Keyring, random};
use super::ledger::segment::{self, sync_dir, sync_name};
use super::shared::Paths;

const MAGIC: &[u8; 8] = b"AXBACKUP";
const FORMAT: u8 = 1;
const CHUNK: usize = 64 << 10;
const TAG: usize = 16;
const KEYRING: &str = "keyring";
const TOKEN: &str = "api-token";
/// In a data directory that was restored, until the first start has taken notice.
pub const RESTORED: &str = "restored";

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error("the backup: {0}")]
    Stream(io::Error),
    #[error("the passphrase is wrong, or the backup was changed")]
    Sealed,
    #[error("this is no backup of an Anxin Gateway, or one of a later version")]
    Foreign,
    #[error("{path} is not empty: a backup is restored into a new directory", path = path.display())]
    NotEmpty { path: PathBuf },
}

impl From<MasterError> for BackupError {
    fn from(error: MasterError) -> Self {
        BackupError::Keyring(error.into())
    }
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub segments: usize,
    pub photos: usize,
    pub bytes: u64,
}

/// Writes a backup of `dir`; the gateway may be running.
pub fn write(dir: &Path, keyring: &Keyring, passphrase: &str, out: impl Write) -> Result<Contents, BackupError> {
    let paths = Paths::new(dir);
    let sealing = Sealing::begin(out, passphrase).map_err(BackupError::Stream)?;
    let mut archive = Archive { tar: tar::Builder::new(sealing), contents: Contents::default() };
    archive.add(KEYRING, &file::contents(keyring))?;
    if let Ok(token) = fs::read(dir.join(TOKEN)) {
        archive.add(TOKEN, &token)?;
    }
    let numbers = segment::list(&paths.ledger).map_err(|source| at(&paths.ledger, source))?;
    for number in numbers {
        let path = segment::path(&paths.ledger, number);
        archive.copy(&path, &format!("ledger/{number:08}.seg"))?;
        archive.contents.segments += 1;
    }
    for photo in photos(&paths.photos)? {
        let shelf = photo.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let name = photo.file_name().unwrap_or_default().to_string_lossy();
        match archive.copy(&photo, &format!("photos/{shelf}/{name}")) {
            Ok(()) => archive.contents.photos += 1,
            // Its days were over meanwhile.
            Err(BackupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let Archive { tar, contents } = archive;
    let sealing = tar.into_inner().map_err(BackupError::Stream)?;
    sealing.finish().map_err(BackupError::Stream)?;
    Ok(contents)
}

/// Makes the data directory `dir` from a backup, sealed with `master`, which is made when it is missing.
pub fn restore(input: impl Read, passphrase: &str, dir: &Path, master: &MasterFile) -> Result<Contents, BackupError> {
    let is_empty = fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty {
        return Err(BackupError::NotEmpty { path: dir.to_owned() });
    }
    // Whoever finds it half done knows by its name.
    let half = dir.with_extension("restoring");
    if half.exists() {
        fs::remove_dir_all(&half).map_err(|source| at(&half, source))?;
    }
    fs::create_dir_all(&half).map_err(|source| at(&half, source))?;
    let (contents, keyring) = unpack(Opening::begin(input, passphrase)?, &half)?;
    let opened = file::from_contents(&keyring).ok_or(BackupError::Foreign)?;
    // Beside the data or elsewhere: it must be where the next start looks for it.
    let master_here = match master.path.strip_prefix(dir) {
        Ok(inside) => MasterFile { path: half.join(inside), ..master.clone() },
        Err(_) => master.clone(),
    };
    let secret = match master_here.read()? {
        Some(secret) => secret,
        None => master_here.create()?,
    };
    file::write(&half, &secret, &opened)?;
    put(&half.join(RESTORED), b"")?;
    if dir.exists() {
        fs::remove_dir(dir).map_err(|source| at(dir, source))?;
    }
    fs::rename(&half, dir).map_err(|source| at(dir, source))?;
    sync_name(dir).map_err(|source| at(dir, source))?;
    Ok(contents)
}

fn unpack<R: Read>(opening: Opening<R>, dir: &Path) -> Result<(Contents, Vec<u8>), BackupError> {
    let (mut contents, mut keyring) = (Contents::default(), Vec::new());
    let mut archive = tar::Archive::new(opening);
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let name = entry.path().map_err(unreadable)?.into_owned();
        if !name.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(BackupError::Foreign);
        }
        if name == Path::new(KEYRING) {
            entry.read_to_end(&mut keyring).map_err(unreadable)?;
            continue;
        }
        contents.segments += usize::from(name.starts_with("ledger"));
        contents.photos += usize::from(name.starts_with("photos"));
        contents.bytes += entry.size();
        let path = dir.join(&name);
        let shelf = path.parent().unwrap_or(dir);
        fs::create_dir_all(shelf).map_err(|source| at(shelf, source))?;
        let mut file = File::create(&path).map_err(|source| at(&path, source))?;
        io::copy(&mut entry, &mut file).map_err(unreadable)?;
        file.sync_all().and_then(|()| sync_dir(shelf)).map_err(|source| at(&path, source))?;
    }
    // The archive ends before the stream does: a cut stream is noticed only at its end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(unreadable)?;
    Ok((contents, keyring))
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let written = File::create(path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|source| at(path, source))
}

fn at(path: &Path, source: io::Error) -> BackupError {
    BackupError::Io { path: path.to_owned(), source }
}

/// What a read of the archive met: the cipher says no, or the file ends.
fn unreadable(error: io::Error) -> BackupError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => BackupError::Sealed,
        _ => BackupError::Stream(error),
    }
}

/// All photos, by name.
fn photos(dir: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let names = |dir: &Path| -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mut photos = Vec::new();
    for shelf in names(dir).map_err(|source| at(dir, source))?.into_iter().filter(|path| path.is_dir()) {
        photos.extend(names(&shelf).map_err(|source| at(&shelf, source))?);
    }
    photos.sort();
    Ok(photos)
}

struct Archive<W: Write> {
    tar: tar::Builder<Sealing<W>>,
    contents: Contents,
}

impl<W: Write> Archive<W> {
    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), BackupError> {
        self.append(name, bytes.len() as u64, bytes)
    }

    /// As long as the file is now; the rest belongs to the next backup.
    fn copy(&mut self, path: &Path, name: &str) -> Result<(), BackupError> {
        let file = File::open(path).map_err(|source| at(path, source))?;
        let length = file.metadata().map_err(|source| at(path, source))?.len();
        self.contents.bytes += length;
        // A segment that is closed meanwhile gives its unused end back.
        self.append(name, length, file.chain(io::repeat(0)).take(length))
    }

    fn append(&mut self, name: &str, length: u64, content: impl Read) -> Result<(), BackupError> {
        let mut header = tar::Header::new_gnu();
        header.set_size(length);
        header.set_mode(0o600);
        self.tar.append_data(&mut header, name, content).map_err(BackupError::Stream)
    }
}

/// Encrypts what is written to it.
struct Sealing<W> {
    out: W,
    stream: EncryptorBE32<XChaCha20Poly1305>,
    chunk: Vec<u8>,
}

impl<W: Write> Sealing<W> {
    fn begin(mut out: W, passphrase: &str) -> io::Result<Sealing<W>> {
        let (salt, nonce): ([u8; 16], [u8; 19]) = (random(), random());
        out.write_all(MAGIC)?;
        out.write_all(&[FORMAT])?;
        out.write_all(&salt)?;
        out.write_all(&nonce)?;
        let key = Secret::Passphrase(passphrase.to_owned()).key(&salt);
        let stream = EncryptorBE32::new(&key.into(), &nonce.into());
        Ok(Sealing { out, stream, chunk: Vec::with_capacity(CHUNK) })
    }

    fn finish(self) -> io::Result<()> {
        let Sealing { mut out, stream, chunk } = self;
        out.write_all(&stream.encrypt_last(&chunk[..]).map_err(io::Error::other)?)?;
        out.flush()
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK {
            let sealed = self.stream.encrypt_next(&self.chunk[..]).map_err(io::Error::other)?;
            self.out.write_all(&sealed)?;
            self.chunk.clear();
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Decrypts what is read from it.
struct Opening<R> {
    input: R,
    /// `None` after the last chunk.
    stream: Option<DecryptorBE32<XChaCha20Poly1305>>,
    /// Read ahead by one byte, because the last chunk must be known as such.
    ahead: Vec<u8>,
    plain: Vec<u8>,
    given: usize,
}

impl<R: Read> Opening<R> {
    fn begin(mut input: R, passphrase: &str) -> Result<Opening<R>, BackupError> {
        let mut head = [0; 44];
        input.read_exact(&mut head).map_err(|_| BackupError::Foreign)?;
        if !head.starts_with(MAGIC) || head[8] != FORMAT {
            return Err(BackupError::Foreign);
        }
        let (mut salt, mut nonce) = ([0; 16], [0; 19]);
        salt.copy_from_slice(&head[9..25]);
        nonce.copy_from_slice(&head[25..44]);
        let key = Secret::Passphrase(passphrase.to_owned()).key(&salt);
        let stream = Some(DecryptorBE32::new(&key.into(), &nonce.into()));
        Ok(Opening { input, stream, ahead: Vec::new(), plain: Vec::new(), given: 0 })
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let Some(mut stream) = self.stream.take() else { return Ok(()) };
        let missing = (CHUNK + TAG + 1 - self.ahead.len()) as u64;
        (&mut self.input).take(missing).read_to_end(&mut self.ahead)?;
        let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, "not what was sealed");
        self.given = 0;
        if self.ahead.len() > CHUNK + TAG {
            let next = self.ahead.split_off(CHUNK + TAG);
            self.plain = stream.decrypt_next(&self.ahead[..]).map_err(wrong)?;
            self.ahead = next;
            self.stream = Some(stream);
        } else {
            self.plain = stream.decrypt_last(&self.ahead[..]).map_err(wrong)?;
        }
        Ok(())
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.plain.len() && self.stream.is_some() {
            self.next_chunk()?;
        }
        let given = out.len().min(self.plain.len() - self.given);
        out[..given].copy_from_slice(&self.plain[self.given..self.given + given]);
        self.given += given;
        Ok(given)
    }
}
