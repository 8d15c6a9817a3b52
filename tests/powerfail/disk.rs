//! A disk under POSIX, and no kinder: what has been written may be there or not until it is synced.
//!
//! - `fsync` and `fdatasync` of a file make the writes durable that had returned before it was called, size included.
//!   `sync_file_range` makes nothing durable.
//! - Names in a directory are durable after an `fsync` of the directory; until then they may be ahead of the data or
//!   behind. A rename is there or not, in both directories at once.
//! - A write that is not durable is there, missing, torn at sectors, or only its length is there and reads as zeros.
//! - An operation that the cut meets half done may be there or not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::image::{Content, Image};

/// What a disk loses or keeps as one.
pub const SECTOR: u64 = 512;

/// A file or directory, whatever its name is.
pub type Node = usize;
/// The data directory itself.
pub const ROOT: Node = 0;

/// A change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Write {
        offset: u64,
        bytes: Arc<[u8]>,
    },
    Resize {
        size: u64,
    },
    /// Space allocated: the file is at least this long, and what is new reads as zeros.
    Extend {
        size: u64,
    },
}

/// What an operation does to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Names that change at once: in this directory this name, and what it names from now on.
    Names(Vec<(Node, String, Option<Node>)>),
    Data {
        file: Node,
        change: Change,
    },
    Sync {
        node: Node,
    },
}

/// An operation, from its call to its return as places in the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    pub effect: Effect,
    pub begin: usize,
    pub end: usize,
}

/// What becomes of an operation that is not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Kept,
    Dropped,
    /// Of a write, the sectors that this seed chooses.
    Torn(u64),
    /// Of a write, only the file's new length.
    LengthOnly,
}

/// The state at one moment of a replay.
pub struct Disk<'r> {
    ops: &'r [Op],
    files: BTreeMap<Node, File>,
    dirs: Vec<bool>,
    names: Vec<Names>,
    initial: BTreeMap<(Node, String), Node>,
    /// Called and not yet returned.
    in_flight: Vec<usize>,
}

#[derive(Default)]
struct File {
    durable: Arc<Content>,
    /// Operations whose effect is not durable, in order.
    pending: Vec<usize>,
}

struct Names {
    op: usize,
    is_durable: bool,
}

/// How a recording begins: names and contents that are durable, and which nodes are directories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    pub names: BTreeMap<(Node, String), Node>,
    pub contents: BTreeMap<Node, Arc<Content>>,
}

impl<'r> Disk<'r> {
    /// `dirs` says of every node whether it is a directory.
    pub fn new(start: &Start, dirs: &[bool], ops: &'r [Op]) -> Disk<'r> {
        let file = |content: &Arc<Content>| File { durable: content.clone(), pending: Vec::new() };
        Disk {
            ops,
            files: start.contents.iter().map(|(node, content)| (*node, file(content))).collect(),
            dirs: dirs.to_vec(),
            names: Vec::new(),
            initial: start.names.clone(),
            in_flight: Vec::new(),
        }
    }

    /// An operation is called.
    pub fn begin(&mut self, op: usize) {
        self.in_flight.push(op);
    }

    /// An operation has returned.
    pub fn end(&mut self, op: usize) {
        self.in_flight.retain(|other| *other != op);
        match &self.ops[op].effect {
            Effect::Names(_) => self.names.push(Names { op, is_durable: false }),
            Effect::Data { file, .. } => self.files.entry(*file).or_default().pending.push(op),
            Effect::Sync { node } if self.dirs[*node] => self.sync_dir(*node, self.ops[op].begin),
            Effect::Sync { node } => self.sync_file(*node, self.ops[op].begin),
        }
    }

    fn sync_file(&mut self, node: Node, called: usize) {
        let ops = self.ops;
        let file = self.files.entry(node).or_default();
        let covered = file.pending.iter().take_while(|op| ops[**op].end < called).count();
        if covered == 0 {
            return;
        }
        let mut content = Content::clone(&file.durable);
        for op in file.pending.drain(..covered) {
            if let Effect::Data { change, .. } = &ops[op].effect {
                apply(&mut content, change, Fate::Kept);
            }
        }
        file.durable = Arc::new(content.trimmed());
    }

    fn sync_dir(&mut self, dir: Node, called: usize) {
        for names in &mut self.names {
            let Op { effect: Effect::Names(changed), end, .. } = &self.ops[names.op] else { continue };
            if *end < called && changed.iter().any(|(node, _, _)| *node == dir) {
                names.is_durable = true;
            }
        }
    }

    /// The operations whose fate a cut decides now, in order of their return; those in flight come last.
    pub fn undecided(&self) -> Vec<usize> {
        let names = self.names.iter().filter(|names| !names.is_durable).map(|names| names.op);
        let mut undecided: Vec<usize> =
            names.chain(self.files.values().flat_map(|file| file.pending.clone())).collect();
        undecided.sort_unstable();
        let in_flight = self.in_flight.iter().filter(|op| !matches!(self.ops[**op].effect, Effect::Sync { .. }));
        undecided.extend(in_flight);
        undecided
    }

    /// What the disk holds after a cut now, when these are the fates of the undecided.
    pub fn cut(&self, fates: &BTreeMap<usize, Fate>) -> Image {
        let entries = self.entries(fates);
        let mut image = Image::default();
        let mut waiting = vec![(ROOT, PathBuf::new())];
        while let Some((dir, path)) = waiting.pop() {
            for ((_, name), node) in entries.range((dir, String::new())..(dir + 1, String::new())) {
                let path = path.join(name);
                if self.dirs[*node] {
                    image.dirs.insert(path.clone());
                    waiting.push((*node, path));
                } else {
                    image.files.insert(path, self.content(*node, fates));
                }
            }
        }
        image
    }

    fn entries(&self, fates: &BTreeMap<usize, Fate>) -> BTreeMap<(Node, String), Node> {
        let mut entries = self.initial.clone();
        let done = self.names.iter().filter(|names| names.is_durable || kept(fates, names.op)).map(|names| names.op);
        let in_flight = self.in_flight.iter().copied().filter(|op| kept(fates, *op));
        for op in done.chain(in_flight) {
            let Effect::Names(changes) = &self.ops[op].effect else { continue };
            for (dir, name, node) in changes {
                match node {
                    Some(node) => entries.insert((*dir, name.clone()), *node),
                    None => entries.remove(&(*dir, name.clone())),
                };
            }
        }
        entries
    }

    fn content(&self, node: Node, fates: &BTreeMap<usize, Fate>) -> Arc<Content> {
        let untouched = File::default();
        let file = self.files.get(&node).unwrap_or(&untouched);
        let changes = file.pending.iter().chain(&self.in_flight).filter_map(|op| match &self.ops[*op].effect {
            Effect::Data { file, change } if *file == node => Some((change, fates.get(op).copied()?)),
            _ => None,
        });
        let changes: Vec<(&Change, Fate)> = changes.filter(|(_, fate)| *fate != Fate::Dropped).collect();
        if changes.is_empty() {
            return file.durable.clone();
        }
        let mut content = Content::clone(&file.durable);
        for (change, fate) in changes {
            apply(&mut content, change, fate);
        }
        Arc::new(content.trimmed())
    }

    /// What a program would see that goes on without a cut.
    pub fn now(&self) -> Image {
        self.cut(&self.undecided().into_iter().map(|op| (op, Fate::Kept)).collect())
    }
}

fn kept(fates: &BTreeMap<usize, Fate>, op: usize) -> bool {
    fates.get(&op).is_some_and(|fate| *fate != Fate::Dropped)
}

fn apply(content: &mut Content, change: &Change, fate: Fate) {
    match (change, fate) {
        (_, Fate::Dropped) => {}
        (Change::Resize { size }, _) => content.resize(*size),
        (Change::Extend { size }, _) => content.extend(*size),
        (Change::Write { offset, bytes }, Fate::Kept) => content.write(*offset, bytes),
        (Change::Write { offset, bytes }, Fate::LengthOnly) => content.extend(offset + bytes.len() as u64),
        (Change::Write { offset, bytes }, Fate::Torn(seed)) => write_torn(content, *offset, bytes, seed),
    }
}

/// An even seed keeps the first sectors, an odd one any of them; the length is there in half of all cases.
fn write_torn(content: &mut Content, offset: u64, bytes: &[u8], seed: u64) {
    let end = offset + bytes.len() as u64;
    let sectors = end.div_ceil(SECTOR) - offset / SECTOR;
    let first_lost = (seed >> 2) % sectors.max(1);
    for sector in 0..sectors {
        let is_kept = if seed.is_multiple_of(2) { sector < first_lost } else { coin(seed, sector) };
        let start = ((offset / SECTOR + sector) * SECTOR).max(offset);
        let stop = ((offset / SECTOR + sector + 1) * SECTOR).min(end);
        if is_kept {
            content.write(start, &bytes[(start - offset) as usize..(stop - offset) as usize]);
        }
    }
    if seed & 2 == 0 {
        content.extend(end);
    }
}

fn coin(seed: u64, sector: u64) -> bool {
    let mixed = (seed ^ sector.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 40) & 1 == 1
}

/// The nodes of an image that is on the disk already.
pub fn start_from(image: &Image) -> (Start, Vec<bool>) {
    let mut start = Start::default();
    let mut dirs = vec![true];
    let mut nodes: BTreeMap<PathBuf, Node> = BTreeMap::from([(PathBuf::new(), ROOT)]);
    let all = image.dirs.iter().map(|path| (path, None));
    for (path, content) in all.chain(image.files.iter().map(|(path, content)| (path, Some(content)))) {
        let node = dirs.len();
        dirs.push(content.is_none());
        nodes.insert(path.clone(), node);
        let parent = nodes.get(path.parent().unwrap_or(Path::new(""))).copied().unwrap_or(ROOT);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        start.names.insert((parent, name), node);
        if let Some(content) = content {
            start.contents.insert(node, content.clone());
        }
    }
    (start, dirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: Node = 1;
    const FILE: Node = 2;

    fn op(at: usize, effect: Effect) -> Op {
        Op { effect, begin: at, end: at }
    }

    fn name(dir: Node, name: &str, node: Option<Node>) -> Effect {
        Effect::Names(vec![(dir, name.to_owned(), node)])
    }

    fn write(offset: u64, bytes: &[u8]) -> Effect {
        Effect::Data { file: FILE, change: Change::Write { offset, bytes: Arc::from(bytes) } }
    }

    fn after<'r>(ops: &'r [Op]) -> Disk<'r> {
        let mut disk = Disk::new(&Start::default(), &[true, true, false], ops);
        for index in 0..ops.len() {
            disk.begin(index);
            disk.end(index);
        }
        disk
    }

    fn nothing_kept(disk: &Disk) -> Image {
        disk.cut(&BTreeMap::new())
    }

    fn bytes_of(image: &Image, path: &str) -> Option<Vec<u8>> {
        image.files.get(Path::new(path)).map(|content| content.bytes().to_vec())
    }

    #[test]
    fn nothing_is_durable_before_file_and_both_directories_are_synced() {
        let made = vec![
            op(0, name(ROOT, "ledger", Some(DIR))),
            op(1, name(DIR, "a", Some(FILE))),
            op(2, write(0, b"punch")),
            op(3, Effect::Sync { node: FILE }),
            op(4, Effect::Sync { node: DIR }),
            op(5, Effect::Sync { node: ROOT }),
        ];
        assert_eq!(nothing_kept(&after(&made[..5])), Image::default());
        let whole = after(&made);
        assert_eq!(bytes_of(&nothing_kept(&whole), "ledger/a").unwrap(), b"punch");
        assert_eq!(nothing_kept(&whole), whole.now());
        let names_only: Vec<Op> = [0, 1, 2, 4, 5].into_iter().map(|index| made[index].clone()).collect();
        assert_eq!(bytes_of(&nothing_kept(&after(&names_only)), "ledger/a").unwrap(), b"", "the name is ahead");
    }

    #[test]
    fn a_sync_covers_only_what_had_returned_when_it_was_called() {
        let ops = [
            op(0, name(ROOT, "a", Some(FILE))),
            op(1, Effect::Sync { node: ROOT }),
            op(2, write(0, b"old")),
            Op { effect: write(0, b"new"), begin: 3, end: 5 },
            Op { effect: Effect::Sync { node: FILE }, begin: 4, end: 6 },
        ];
        assert_eq!(bytes_of(&nothing_kept(&after(&ops)), "a").unwrap(), b"old");
        assert_eq!(after(&ops).undecided(), [3]);
    }

    #[test]
    fn each_fate_of_a_write_is_as_it_says() {
        let long = [7; 1024];
        let ops = [op(0, name(ROOT, "a", Some(FILE))), op(1, write(100, &long))];
        let disk = after(&ops);
        let with = |fate| {
            let image = disk.cut(&BTreeMap::from([(0, Fate::Kept), (1, fate)]));
            image.files[Path::new("a")].as_ref().clone()
        };
        assert_eq!(with(Fate::Kept).size(), 1124);
        assert_eq!(with(Fate::Dropped), Content::default());
        assert_eq!((with(Fate::LengthOnly).size(), with(Fate::LengthOnly).bytes().len()), (1124, 0));
        // Two sectors of three are kept, and the length.
        let torn = with(Fate::Torn(2 << 2));
        assert_eq!((torn.size(), torn.bytes().len()), (1124, 1024));
        let torn = with(Fate::Torn((1 << 2) | 2));
        assert_eq!((torn.size(), torn.bytes().len()), (512, 512));
    }

    #[test]
    fn a_rename_is_in_both_directories_or_in_none() {
        let renamed = Effect::Names(vec![(ROOT, "a.new".to_owned(), None), (DIR, "a".to_owned(), Some(FILE))]);
        let ops = [
            op(0, name(ROOT, "shelf", Some(DIR))),
            op(1, name(ROOT, "a.new", Some(FILE))),
            op(2, Effect::Sync { node: ROOT }),
            op(3, renamed),
            op(4, Effect::Sync { node: DIR }),
        ];
        let names = |image: &Image| image.files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&nothing_kept(&after(&ops[..4]))), [Path::new("a.new")]);
        assert_eq!(names(&nothing_kept(&after(&ops))), [Path::new("shelf/a")]);
    }

    #[test]
    fn an_image_can_be_the_beginning() {
        let mut image = Image::default();
        image.dirs.insert(PathBuf::from("ledger"));
        image.files.insert(PathBuf::from("ledger/a"), Arc::new(Content::of(b"x".to_vec())));
        let (start, dirs) = start_from(&image);
        assert_eq!(Disk::new(&start, &dirs, &[]).now(), image);
    }
}
