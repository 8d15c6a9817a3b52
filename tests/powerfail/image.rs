//! What a disk holds: directories, and files with their bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// The bytes of a file. What `bytes` does not reach up to `size` are zeros: preallocated space costs nothing here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    bytes: Vec<u8>,
    size: u64,
}

impl Content {
    pub fn of(bytes: Vec<u8>) -> Content {
        let size = bytes.len() as u64;
        Content { bytes, size }.trimmed()
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes that are not zeros at the end.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Every byte, the zeros at the end too.
    pub fn all(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(self.size as usize, 0);
        bytes
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let (start, end) = (offset as usize, offset as usize + data.len());
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(data);
        self.size = self.size.max(end as u64);
    }

    pub fn resize(&mut self, size: u64) {
        self.bytes.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        self.size = size;
    }

    /// Makes it at least this long.
    pub fn extend(&mut self, size: u64) {
        self.size = self.size.max(size);
    }

    /// The same content in its only form.
    pub fn trimmed(mut self) -> Content {
        // Whole blocks first: comparing them is fast without optimisation too.
        while self.bytes.len() >= ZEROS.len() && self.bytes.ends_with(&ZEROS) {
            self.bytes.truncate(self.bytes.len() - ZEROS.len());
        }
        let end = self.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.bytes.truncate(end);
        self
    }
}

static ZEROS: [u8; 4096] = [0; 4096];

/// A whole directory with everything below it; paths are relative to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub dirs: BTreeSet<PathBuf>,
    pub files: BTreeMap<PathBuf, Arc<Content>>,
}

impl Image {
    /// What lies on a real disk.
    pub fn read(dir: &Path) -> io::Result<Image> {
        let mut image = Image::default();
        image.read_below(dir, Path::new(""))?;
        Ok(image)
    }

    fn read_below(&mut self, root: &Path, below: &Path) -> io::Result<()> {
        for entry in fs::read_dir(root.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.dirs.insert(path.clone());
                self.read_below(root, &path)?;
            } else {
                self.files.insert(path, Arc::new(Content::of(fs::read(entry.path())?)));
            }
        }
        Ok(())
    }

    /// Puts it on a real disk, where `dir` must not be there yet.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        for path in &self.dirs {
            fs::create_dir(dir.join(path))?;
        }
        for (path, content) in &self.files {
            // For its owner alone, as a store makes what nobody else may read.
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(dir.join(path))?;
            file.write_all_at(&content.bytes, 0)?;
            file.set_len(content.size)?;
        }
        Ok(())
    }

    /// Equal images have equal digests.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        for path in &self.dirs {
            part(path.as_os_str().as_encoded_bytes());
        }
        for (path, content) in &self.files {
            part(path.as_os_str().as_encoded_bytes());
            part(&content.size.to_be_bytes());
            part(&content.bytes);
        }
        hash.finalize().into()
    }

    /// Where it differs from `other`, in a few words.
    pub fn difference(&self, other: &Image) -> Option<String> {
        if let Some(dir) = self.dirs.symmetric_difference(&other.dirs).next() {
            return Some(format!("directory {} is in one only", dir.display()));
        }
        let paths: BTreeSet<&PathBuf> = self.files.keys().chain(other.files.keys()).collect();
        paths.into_iter().find_map(|path| match (self.files.get(path), other.files.get(path)) {
            (Some(here), Some(there)) if here == there => None,
            (Some(here), Some(there)) => {
                let at = here.bytes.iter().zip(&there.bytes).position(|(a, b)| a != b);
                Some(format!("{}: {} and {} bytes, first difference {at:?}", path.display(), here.size, there.size))
            }
            (_, _) => Some(format!("file {} is in one only", path.display())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_comes_back_from_the_disk() {
        let mut content = Content::default();
        content.write(5, b"late");
        content.extend(1 << 20);
        let mut image = Image::default();
        image.dirs.insert(PathBuf::from("ledger"));
        image.files.insert(PathBuf::from("ledger/1.seg"), Arc::new(content));
        image.files.insert(PathBuf::from("lock"), Arc::new(Content::default()));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        image.write(&path).unwrap();
        let again = Image::read(&path).unwrap();
        assert_eq!(image.difference(&again), None);
        assert_eq!(again.digest(), image.digest());

        fs::write(path.join("lock"), "x").unwrap();
        let changed = Image::read(&path).unwrap();
        assert!(image.difference(&changed).unwrap().starts_with("lock"));
        assert_ne!(changed.digest(), image.digest());
    }

    #[test]
    fn zeros_at_the_end_make_no_difference_and_length_does() {
        let mut long = Content::of(b"ab".to_vec());
        long.resize(9);
        assert_eq!(long, Content::of(b"ab\0\0\0\0\0\0\0".to_vec()));
        long.resize(1);
        assert_eq!(long, Content::of(b"a".to_vec()));
        long.write(3, &[0]);
        assert_eq!(long.trimmed(), Content::of(b"a\0\0\0".to_vec()));
    }
}
