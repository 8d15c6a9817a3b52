//! What bad sectors, worn flash and clumsy hands do to a data directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway::punch::PhotoHash;
use harness::faults::Faults;

use super::expected::Expected;
use super::facts;
use super::frames::{self, readable_facts};
use super::image::{Content, Image};

/// Where damage may fall, each with how often of a hundred times.
const WHERE: [(&str, u64); 4] = [("ledger", 45), ("view", 35), ("photos", 15), ("", 5)];

/// Flips a bit, cuts a file short or deletes it; says what was done.
pub fn random(image: &mut Image, faults: &mut Faults) -> String {
    let mut at = faults.pick(0..100);
    let mut area = "";
    for (name, share) in WHERE {
        area = name;
        if at < share {
            break;
        }
        at -= share;
    }
    // Without the master key nothing can be read by anybody: it is kept elsewhere where that matters.
    let is_key = |path: &Path| path == Path::new("store.key");
    let files = image.files.keys().filter(|path| path.starts_with(area) && !is_key(path));
    let files: Vec<PathBuf> = files.cloned().collect();
    let Some(path) = files.get(faults.pick(0..files.len().max(1) as u64) as usize) else {
        return format!("nothing in {area:?} to damage");
    };
    match faults.pick(0..100) {
        0..60 => flip(image, path, faults),
        60..85 => truncate(image, path, faults),
        _ => delete(image, path),
    }
}

fn flip(image: &mut Image, path: &Path, faults: &mut Faults) -> String {
    let size = image.files.get(path).map_or(0, |content| content.size());
    if size == 0 {
        return delete(image, path);
    }
    let (at, bit) = (faults.pick(0..size), faults.pick(0..8));
    change(image, path, |content| {
        let byte = content.bytes().get(at as usize).copied().unwrap_or_default();
        content.write(at, &[byte ^ (1 << bit)]);
    });
    format!("{}: bit {bit} of byte {at} of {size} flipped", path.display())
}

fn truncate(image: &mut Image, path: &Path, faults: &mut Faults) -> String {
    let size = image.files.get(path).map_or(0, |content| content.size());
    let kept = faults.pick(0..size.max(1));
    change(image, path, |content| content.resize(kept));
    format!("{}: cut from {size} to {kept} bytes", path.display())
}

fn delete(image: &mut Image, path: &Path) -> String {
    image.files.remove(path);
    format!("{}: deleted", path.display())
}

fn change(image: &mut Image, path: &Path, change: impl FnOnce(&mut Content)) {
    if let Some(content) = image.files.get_mut(path) {
        let mut changed = Content::clone(content);
        change(&mut changed);
        *content = Arc::new(changed.trimmed());
    }
}

/// Damage that a store must salvage, in one of [`PLANS`] ways.
pub const PLANS: u32 = 5;

/// Damages several things at once; says what was done.
pub fn plan(plan: u32, image: &mut Image, faults: &mut Faults) -> String {
    let segments: Vec<PathBuf> = frames::segments(image).into_iter().map(|(_, path, _)| path).collect();
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return "no ledger".to_owned() };
    let middle = &segments[segments.len() / 2];
    let (db, conf) = (PathBuf::from("view/sled/db"), PathBuf::from("view/sled/conf"));
    let done = match plan % PLANS {
        0 => vec![flip(image, first, faults), leave_snapshot(image), overwrite(image, &db, faults)],
        1 => vec![truncate(image, last, faults)],
        2 => vec![delete(image, middle), delete(image, &db)],
        3 => vec![append_garbage(image, last), delete(image, &conf), flip(image, first, faults)],
        _ => {
            let heads = change_byte(image, middle, 20);
            let flips = (0..5).map(|_| flip(image, middle, faults));
            flips.collect::<Vec<_>>().into_iter().chain([heads, truncate(image, &db, faults)]).collect()
        }
    };
    done.join("; ")
}

/// Writes noise over a part of a file.
fn overwrite(image: &mut Image, path: &Path, faults: &mut Faults) -> String {
    let size = image.files.get(path).map_or(0, |content| content.size());
    let (at, noise) = (faults.pick(0..size.max(1)), faults.pick(1..256) as u8);
    let length = (size - at).min(8_192);
    change(image, path, |content| content.write(at, &vec![noise; length as usize]));
    format!("{}: {length} bytes at {at} overwritten", path.display())
}

fn change_byte(image: &mut Image, path: &Path, at: u64) -> String {
    change(image, path, |content| content.write(at, &[0xEE]));
    format!("{}: byte {at} changed", path.display())
}

/// A snapshot that sled was writing when it was stopped.
fn leave_snapshot(image: &mut Image) -> String {
    let path = PathBuf::from("view/sled/snap.00000000000000FF.generating");
    image.files.insert(path.clone(), Arc::new(Content::of(b"half a snapshot".to_vec())));
    format!("{} left behind", path.display())
}

/// What a write leaves that was never finished: the end frame is lost and something follows.
fn append_garbage(image: &mut Image, path: &Path) -> String {
    change(image, path, |content| {
        let size = content.size();
        content.resize(size.saturating_sub(64));
        content.write(size, &[0xA5; 700]);
    });
    format!("{}: an unfinished write at its end", path.display())
}

/// Takes back what cannot be kept any more, now that `before` has become `after`.
pub fn lose(expected: &mut Expected, before: &Image, after: &Image) {
    let facts: BTreeSet<u64> = readable_facts(before).difference(&readable_facts(after)).copied().collect();
    let photos = expected.photos().into_iter().filter(|n| {
        let hash = PhotoHash::of(&facts::photo(*n)).to_string();
        let path = PathBuf::from(format!("photos/{}/{hash}.sealed", &hash[..2]));
        before.files.get(&path) != after.files.get(&path)
    });
    let photos = photos.collect();
    expected.lose(facts, photos);
}

/// The lost facts of a killed store that only its view can know of: those that stood behind everything that is left, and
/// those that may have been written when it was killed.
pub fn unwitnessed(before: &Image, after: &Image) -> BTreeSet<u64> {
    let (there, left) = (readable_facts(before), readable_facts(after));
    let last_left = left.last().copied().unwrap_or(0);
    let last_write = frames::last_write(before);
    there.difference(&left).filter(|seq| **seq > last_left || last_write.contains(seq)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_follows_from_the_seed_and_changes_something() {
        let mut whole = Image::default();
        for path in ["ledger/00000001.seg", "view/sled/db", "photos/ab/x.jpg", "lock"] {
            whole.files.insert(PathBuf::from(path), Arc::new(Content::of(vec![7; 3_000])));
        }
        let damaged = |seed| {
            let mut image = whole.clone();
            let said = random(&mut image, &mut Faults::new(seed));
            (image.digest(), said)
        };
        for seed in 0..100 {
            assert_eq!(damaged(seed), damaged(seed));
            assert_ne!(damaged(seed).0, whole.digest(), "{}", damaged(seed).1);
        }
    }
}
