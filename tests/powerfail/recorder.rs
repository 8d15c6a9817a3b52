//! Turns the calls of a traced program into operations on the files and directories of its data directory. Stops at
//! anything below the directory that it does not understand, so that nothing goes unseen.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{self, Change, Effect, Node, Op, ROOT, Start};
use super::image::Image;
use super::marks::{self, Mark};
use super::trace::{Call, Trace};

/// The operations of one run, with what the program was told in between.
pub struct Recording {
    pub start: Start,
    /// Of every node, whether it is a directory.
    pub dirs: Vec<bool>,
    /// In order of their return.
    pub ops: Vec<Op>,
    /// Each with the place in the trace at which it was true.
    pub marks: Vec<(usize, Mark)>,
    /// Nodes of the files that are or were below `ledger/`.
    pub ledger: Vec<Node>,
    /// Places in the trace.
    pub length: usize,
}

/// Reads the trace of a program that found `before` in `data`.
pub fn read(trace: impl BufRead, before: &Image, data: &Path, marks: &Path) -> io::Result<Recording> {
    let mut recorder = Recorder::new(before, data, marks);
    let mut trace = Trace::new(trace);
    while let Some(call) = trace.next_call()? {
        recorder.handle(&call)?;
    }
    let mut recording = recorder.recording;
    recording.marks.sort_by_key(|(at, _)| *at);
    recording.length = trace.length() + 1;
    Ok(recording)
}

/// What a descriptor stands for.
#[derive(Clone)]
enum Handle {
    Below { node: Node, offset: u64, append: bool },
    Marks,
}

struct Recorder {
    recording: Recording,
    data: PathBuf,
    marks: PathBuf,
    /// Names as the program sees them.
    names: BTreeMap<(Node, String), Node>,
    sizes: HashMap<Node, u64>,
    handles: HashMap<i32, Handle>,
}

impl Recorder {
    fn new(before: &Image, data: &Path, marks: &Path) -> Recorder {
        let (start, dirs) = disk::start_from(before);
        let names = start.names.clone();
        let sizes = start.contents.iter().map(|(node, content)| (*node, content.size())).collect();
        let recording = Recording { start, dirs, ops: Vec::new(), marks: Vec::new(), ledger: Vec::new(), length: 0 };
        let mut recorder = Recorder {
            recording,
            data: data.to_owned(),
            marks: marks.to_owned(),
            names,
            sizes,
            handles: HashMap::new(),
        };
        recorder.note_ledger();
        recorder
    }

    fn note_ledger(&mut self) {
        if let Some(ledger) = self.names.get(&(ROOT, "ledger".to_owned())) {
            let files = self.names.range((*ledger, String::new())..(ledger + 1, String::new())).map(|(_, node)| *node);
            self.recording.ledger = files.collect();
        }
    }

    fn handle(&mut self, call: &Call) -> io::Result<()> {
        match call.name.as_str() {
            "clone" | "clone3" if call.args.iter().any(|arg| arg.contains("CLONE_FILES")) => Ok(()),
            "close" => {
                let number = call.descriptor(0)?.0;
                number.and_then(|number| self.handles.remove(&number));
                Ok(())
            }
            _ if call.returned < 0 => Ok(()),
            "open" | "openat" | "creat" => self.open(call),
            "dup" | "dup2" | "dup3" | "fcntl" => self.duplicate(call),
            "lseek" => self.seek(call),
            "write" | "pwrite64" => self.write(call),
            "ftruncate" | "fallocate" => self.resize(call),
            "fsync" | "fdatasync" => self.sync(call),
            "mkdir" | "mkdirat" => self.make_dir(call),
            "unlink" | "unlinkat" | "rmdir" => self.unlink(call),
            "rename" | "renameat" | "renameat2" => self.rename(call),
            // Data on its way to the disk is not data on the disk.
            "sync_file_range" => Ok(()),
            "mmap" if !is_shared_writing(call)? => Ok(()),
            _ => self.expect_elsewhere(call),
        }
    }

    fn note(&mut self, call: &Call, effect: Effect) {
        self.recording.ops.push(Op { effect, begin: call.begin, end: call.end });
    }

    fn new_node(&mut self, is_dir: bool) -> Node {
        self.recording.dirs.push(is_dir);
        self.recording.dirs.len() - 1
    }

    /// A call that is none of ours. Anything that could change a file of ours without being understood is an error.
    fn expect_elsewhere(&self, call: &Call) -> io::Result<()> {
        const ESCAPES: [&str; 11] = [
            "io_uring_setup",
            "io_setup",
            "fork",
            "vfork",
            "clone",
            "clone3",
            "chdir",
            "fchdir",
            "sync",
            "syncfs",
            "close_range",
        ];
        let concerns_us = (0..call.args.len()).any(|index| {
            let path = call.path(index).ok();
            let (number, known_as) = call.descriptor(index).unwrap_or_default();
            let is_ours = number.is_some_and(|number| known_as.is_some() && self.handles.contains_key(&number));
            is_ours || path.into_iter().chain(known_as).any(|path| Path::new(&path).starts_with(&self.data))
        });
        if concerns_us || ESCAPES.contains(&call.name.as_str()) {
            return Err(call.error("is not understood"));
        }
        Ok(())
    }

    /// The handle of a call's first argument; none when it is a file elsewhere.
    fn handle_of(&self, call: &Call) -> io::Result<Option<Handle>> {
        let (number, path) = call.descriptor(0)?;
        let handle = number.and_then(|number| self.handles.get(&number).cloned());
        let is_below = path.is_some_and(|path| Path::new(&path).starts_with(&self.data));
        match handle {
            None if is_below => Err(call.error("is about a file below the data directory that was never opened")),
            handle => Ok(handle),
        }
    }

    /// Directory and name that a call's path means; none when it lies elsewhere. The data directory itself has no name.
    fn place(&self, call: &Call, dir: Option<usize>, path: usize) -> io::Result<Option<(Node, Option<String>)>> {
        let path = PathBuf::from(call.path(path)?);
        let around = match dir {
            Some(dir) if path.is_relative() => call.descriptor(dir)?.1.unwrap_or_default(),
            _ => String::new(),
        };
        let path = Path::new(&around).join(path);
        if path.is_relative() {
            return Err(call.error("has a path that leads from nowhere"));
        }
        let Ok(below) = path.strip_prefix(&self.data) else { return Ok(None) };
        let mut parts: Vec<String> = Vec::new();
        for part in below.components() {
            match part {
                std::path::Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
                _ => return Err(call.error("has a path that is not plain")),
            }
        }
        let Some(name) = parts.pop() else { return Ok(Some((ROOT, None))) };
        let mut node = ROOT;
        for part in parts {
            let inner = self.names.get(&(node, part));
            node = *inner.ok_or_else(|| call.error("leads through a directory that is not known"))?;
        }
        Ok(Some((node, Some(name))))
    }

    fn open(&mut self, call: &Call) -> io::Result<()> {
        let (dir, path, flags) = if call.name == "openat" { (Some(0), 1, 2) } else { (None, 0, 1) };
        let number = call.returned as i32;
        if Path::new(&call.path(path)?) == self.marks {
            self.handles.insert(number, Handle::Marks);
            return Ok(());
        }
        let Some((parent, name)) = self.place(call, dir, path)? else {
            self.handles.remove(&number);
            return Ok(());
        };
        let flags = if call.name == "creat" { vec!["O_CREAT", "O_TRUNC"] } else { call.flags(flags)? };
        if flags.contains(&"O_TMPFILE") {
            return Err(call.error("is not understood"));
        }
        let node = match name {
            None => ROOT,
            Some(name) => self.open_name(call, parent, name, flags.contains(&"O_CREAT"))?,
        };
        if flags.contains(&"O_TRUNC") && self.sizes.get(&node).is_some_and(|size| *size > 0) {
            self.change(call, node, Change::Resize { size: 0 });
        }
        self.handles.insert(number, Handle::Below { node, offset: 0, append: flags.contains(&"O_APPEND") });
        Ok(())
    }

    fn open_name(&mut self, call: &Call, parent: Node, name: String, creates: bool) -> io::Result<Node> {
        if let Some(node) = self.names.get(&(parent, name.clone())) {
            return Ok(*node);
        }
        if !creates {
            return Err(call.error("opens a file that is not known"));
        }
        let node = self.new_node(false);
        if self.names.get(&(ROOT, "ledger".to_owned())) == Some(&parent) {
            self.recording.ledger.push(node);
        }
        self.sizes.insert(node, 0);
        self.rename_nodes(call, vec![(parent, name, Some(node))]);
        Ok(node)
    }

    fn rename_nodes(&mut self, call: &Call, changes: Vec<(Node, String, Option<Node>)>) {
        for (dir, name, node) in &changes {
            match node {
                Some(node) => self.names.insert((*dir, name.clone()), *node),
                None => self.names.remove(&(*dir, name.clone())),
            };
        }
        self.note(call, Effect::Names(changes));
    }

    fn change(&mut self, call: &Call, file: Node, change: Change) {
        let size = self.sizes.entry(file).or_default();
        *size = match &change {
            Change::Write { offset, bytes } => (*size).max(offset + bytes.len() as u64),
            Change::Resize { size } => *size,
            Change::Extend { size: least } => (*size).max(*least),
        };
        self.note(call, Effect::Data { file, change });
    }

    fn duplicate(&mut self, call: &Call) -> io::Result<()> {
        let copies = call.name != "fcntl" || call.flags(1)?.iter().any(|flag| flag.starts_with("F_DUPFD"));
        if !copies {
            return Ok(());
        }
        // Two descriptors of one opening share its offset; nothing of ours writes in sequence through a copy.
        match self.handle_of(call)? {
            Some(handle) => self.handles.insert(call.returned as i32, handle),
            None => self.handles.remove(&(call.returned as i32)),
        };
        Ok(())
    }

    fn seek(&mut self, call: &Call) -> io::Result<()> {
        let number = call.descriptor(0)?.0.unwrap_or(-1);
        if let Some(Handle::Below { offset, .. }) = self.handles.get_mut(&number) {
            *offset = call.returned as u64;
        }
        Ok(())
    }

    fn write(&mut self, call: &Call) -> io::Result<()> {
        let (node, at, in_sequence) = match self.handle_of(call)? {
            None => return Ok(()),
            Some(Handle::Marks) => {
                let marks = marks::parse(&call.bytes(1)?)?;
                self.recording.marks.extend(marks.into_iter().map(|mark| (call.begin, mark)));
                return Ok(());
            }
            Some(Handle::Below { node, .. }) if call.name == "pwrite64" => (node, call.number(3)?, false),
            Some(Handle::Below { node, append: true, .. }) => {
                (node, self.sizes.get(&node).copied().unwrap_or_default(), true)
            }
            Some(Handle::Below { node, offset, append: false }) => (node, offset, true),
        };
        let mut bytes = call.bytes(1)?;
        bytes.truncate(call.returned as usize);
        let number = call.descriptor(0)?.0.unwrap_or(-1);
        if let (true, Some(Handle::Below { offset, .. })) = (in_sequence, self.handles.get_mut(&number)) {
            *offset = at + bytes.len() as u64;
        }
        self.change(call, node, Change::Write { offset: at, bytes: Arc::from(bytes) });
        Ok(())
    }

    fn resize(&mut self, call: &Call) -> io::Result<()> {
        let Some(Handle::Below { node, .. }) = self.handle_of(call)? else { return Ok(()) };
        let change = match (call.name.as_str(), call.args.get(1).map(String::as_str)) {
            ("ftruncate", _) => Change::Resize { size: call.number(1)? },
            (_, Some("0")) => Change::Extend { size: call.number(2)? + call.number(3)? },
            _ => return Err(call.error("is not understood")),
        };
        self.change(call, node, change);
        Ok(())
    }

    fn sync(&mut self, call: &Call) -> io::Result<()> {
        if let Some(Handle::Below { node, .. }) = self.handle_of(call)? {
            self.note(call, Effect::Sync { node });
        }
        Ok(())
    }

    fn make_dir(&mut self, call: &Call) -> io::Result<()> {
        let (dir, path) = if call.name == "mkdirat" { (Some(0), 1) } else { (None, 0) };
        let Some((parent, Some(name))) = self.place(call, dir, path)? else { return Ok(()) };
        let node = self.new_node(true);
        self.rename_nodes(call, vec![(parent, name, Some(node))]);
        Ok(())
    }

    fn unlink(&mut self, call: &Call) -> io::Result<()> {
        let (dir, path) = if call.name == "unlinkat" { (Some(0), 1) } else { (None, 0) };
        let Some((parent, Some(name))) = self.place(call, dir, path)? else { return Ok(()) };
        self.rename_nodes(call, vec![(parent, name, None)]);
        Ok(())
    }

    fn rename(&mut self, call: &Call) -> io::Result<()> {
        let (dirs, paths) = if call.name == "rename" { ((None, None), (0, 1)) } else { ((Some(0), Some(2)), (1, 3)) };
        let from = self.place(call, dirs.0, paths.0)?;
        let to = self.place(call, dirs.1, paths.1)?;
        let ((from_dir, from_name), (to_dir, to_name)) = match (from, to) {
            (None, None) => return Ok(()),
            (Some((from_dir, Some(from))), Some((to_dir, Some(to)))) => ((from_dir, from), (to_dir, to)),
            _ => return Err(call.error("moves something into or out of the data directory")),
        };
        let node = self.names.get(&(from_dir, from_name.clone())).copied();
        let node = node.ok_or_else(|| call.error("renames what is not known"))?;
        self.rename_nodes(call, vec![(from_dir, from_name, None), (to_dir, to_name, Some(node))]);
        Ok(())
    }
}

fn is_shared_writing(call: &Call) -> io::Result<bool> {
    Ok(call.flags(2)?.contains(&"PROT_WRITE") && call.flags(3)?.contains(&"MAP_SHARED"))
}

#[cfg(test)]
mod tests {
    use super::super::cuts::Replay;
    use super::*;

    /// A trace in which `'text'` stands for a string and `<text>` for a path, as strace writes them.
    fn recorded(trace: &str) -> io::Result<Recording> {
        let mut text = String::new();
        let mut is_inside = false;
        for character in trace.trim_start().chars() {
            match character {
                '\'' | '<' | '>' => {
                    is_inside = !is_inside;
                    text.push(if character == '\'' { '"' } else { character });
                }
                _ if is_inside => text += &format!("\\x{:02x}", character as u8),
                _ => text.push(character),
            }
        }
        read(text.as_bytes(), &Image::default(), Path::new("/d"), Path::new("/marks"))
    }

    const OPENED: &str = "
7 openat(AT_FDCWD</>, '/d/a', O_RDWR|O_CREAT|O_CLOEXEC, 0666) = 3</d/a>
";

    #[test]
    fn the_record_played_to_its_end_is_what_happened() {
        let recording = recorded(
            "
7 mkdir('/d/ledger', 0777) = 0
7 mkdir('/d/ledger', 0777) = -1 EEXIST (File exists)
7 openat(AT_FDCWD</>, '/d/ledger/a.new', O_WRONLY|O_CREAT|O_CLOEXEC, 0666) = 3</d/ledger/a.new>
7 write(3</d/ledger/a.new>, 'first', 5) = 5
7 write(3</d/ledger/a.new>, 'second', 6) = 3
7 pwrite64(3</d/ledger/a.new>, 'F', 1, 0) = 1
7 fallocate(3</d/ledger/a.new>, 0, 0, 4096) = 0
7 rename('/d/ledger/a.new', '/d/ledger/a') = 0
7 close(3</d/ledger/a>) = 0
7 openat(AT_FDCWD</>, '/marks', O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC, 0666) = 3</marks>
7 write(3</marks>, 'fact 9\n', 7) = 7
7 openat(AT_FDCWD</>, '/d/log', O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC, 0666) = 4</d/log>
7 write(4</d/log>, 'ab', 2) = 2
7 openat(AT_FDCWD</>, '/d', O_RDONLY|O_CLOEXEC|O_DIRECTORY) = 5</d>
7 unlinkat(5</d>, 'log', 0) = 0
7 write(1</elsewhere>, 'x', 1) = 1
",
        );
        let recording = recording.unwrap();
        assert_eq!(recording.marks, [(11, Mark::Fact { seq: 9 })]);
        assert_eq!(recording.ledger.len(), 1);
        let mut replay = Replay::new(&recording);
        replay.advance(recording.length);
        let image = replay.now();
        assert_eq!(image.files.keys().collect::<Vec<_>>(), [Path::new("ledger/a")]);
        let content = &image.files[Path::new("ledger/a")];
        assert_eq!((content.bytes(), content.size()), (b"Firstsec".as_slice(), 4096));
    }

    #[test]
    fn what_is_not_understood_below_the_data_directory_stops_the_recorder() {
        let refused = [
            "7 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3</d/a>, 0) = 0x7f00",
            "7 writev(3</d/a>, [{iov_base='x', iov_len=1}], 1) = 1",
            "7 fallocate(3</d/a>, FALLOC_FL_PUNCH_HOLE, 0, 9) = 0",
            "7 pwrite64(9</d/b>, 'x', 1, 0) = 1",
            "7 truncate('/d/a', 5) = 0",
            "7 link('/d/a', '/d/b') = 0",
            "7 rename('/d/a', '/elsewhere') = 0",
            "7 openat(AT_FDCWD</>, '/d/../d/b', O_RDONLY) = 4</d/b>",
            "7 io_uring_setup(8, 0x7f) = 4",
            "7 fork() = 8",
        ];
        for call in refused {
            assert!(recorded(&format!("{OPENED}{call}\n")).is_err(), "{call}");
        }
        let innocent = [
            "7 mmap(NULL, 3, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS, -1, 0) = 0x7f00",
            "7 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 3</d/a>, 0) = 0x7f00",
            "7 clone3({flags=CLONE_VM|CLONE_FILES, stack=0x7f}, 88) = 8",
            "7 writev(3</elsewhere>, [{iov_base='x', iov_len=1}], 1) = -1 EPIPE (Broken pipe)",
            "7 sync_file_range(3</d/a>, 0, 9, SYNC_FILE_RANGE_WRITE) = 0",
        ];
        for call in innocent {
            assert_eq!(
                recorded(&format!("{OPENED}{call}\n")).map(|recording| recording.ops.len()).unwrap(),
                1,
                "{call}"
            );
        }
    }
}
