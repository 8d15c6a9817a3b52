//! `[store]`: the key that everything personal is sealed with.

use std::ffi::OsStr;
use std::path::Path;

use super::Store;
use super::reader::Section;
use crate::store::keyring::master::MasterFile;

/// `credentials` is the directory in which systemd gives this service its credentials, when it does.
pub fn store(mut section: Section<'_>, data_dir: &Path, credentials: Option<&OsStr>) -> Store {
    let configured = section.text("key_file").map(|text| section.resolve(&text));
    section.finish();
    Store { key: MasterFile::choose(configured.as_deref(), credentials.map(Path::new), data_dir) }
}
