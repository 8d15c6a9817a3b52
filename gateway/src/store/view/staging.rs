//! Writes that are not in the tree yet, over reads of the tree: what the rules of one chunk see of each other.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::engine::ViewError;
use super::keys::{self, Key};
use super::rows;

/// One batch in the making.
pub struct Staging<'t> {
    tree: &'t sled::Tree,
    writes: BTreeMap<Key, Option<Vec<u8>>>,
    bytes: usize,
}

/// What sled keeps for a key beside its bytes, roughly.
const KEY_COST: usize = 16;

impl<'t> Staging<'t> {
    pub fn new(tree: &'t sled::Tree) -> Staging<'t> {
        Staging { tree, writes: BTreeMap::new(), bytes: 0 }
    }

    /// How much would be written now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, ViewError> {
        let row = match self.writes.get(key) {
            Some(Some(bytes)) => rows::decode(bytes),
            Some(None) => return Ok(None),
            None => match self.tree.get(key)? {
                Some(bytes) => rows::decode(&bytes),
                None => return Ok(None),
            },
        };
        row.map(Some).ok_or(ViewError::Row)
    }

    pub fn contains(&self, key: &[u8]) -> Result<bool, ViewError> {
        match self.writes.get(key) {
            Some(write) => Ok(write.is_some()),
            None => Ok(self.tree.contains_key(key)?),
        }
    }

    pub fn put<T: Serialize>(&mut self, key: Key, row: &T) {
        self.put_bytes(key, rows::encode(row));
    }

    pub fn put_bytes(&mut self, key: Key, bytes: Vec<u8>) {
        self.bytes += KEY_COST + key.len() + bytes.len();
        self.writes.insert(key, Some(bytes));
    }

    pub fn delete(&mut self, key: Key) {
        self.bytes += KEY_COST + key.len();
        self.writes.insert(key, None);
    }

    /// The last key that begins with `prefix` and has the value `wanted`.
    pub fn last_with(&self, prefix: &[u8], wanted: &[u8]) -> Result<Option<Key>, ViewError> {
        let end = keys::after(prefix);
        let staged = self.writes.range(prefix.to_vec()..end.clone()).rev();
        let staged = staged.filter(|(_, value)| value.as_deref() == Some(wanted)).map(|(key, _)| key.clone()).next();
        let floor = staged.as_ref().map_or(Bound::Included(prefix), |key| Bound::Excluded(&key[..]));
        for entry in self.tree.range::<&[u8], _>((floor, Bound::Excluded(&end[..]))).rev() {
            let (key, value) = entry?;
            if value == wanted && !self.writes.contains_key(&key[..]) {
                return Ok(Some(key.to_vec()));
            }
        }
        Ok(staged)
    }

    /// The writes as one batch of the engine.
    pub fn into_batch(self) -> (sled::Batch, usize) {
        let mut batch = sled::Batch::default();
        for (key, value) in self.writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        (batch, self.bytes)
    }
}
