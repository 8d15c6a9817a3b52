//! Chooses at which moments of a recording the power goes, and what the disk has made of what was not durable then.

use std::collections::BTreeMap;

use harness::faults::Faults;
use rand::Rng;

use super::disk::{Change, Disk, Effect, Fate, Node, Op, ROOT};
use super::image::Image;
use super::marks::Mark;
use super::recorder::Recording;

/// How a disk treats what is not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As a killed process leaves it.
    AllKept,
    NothingKept,
    /// Names and lengths are there, data is not.
    MetadataAhead,
    /// Data is there, names are not.
    DataAhead,
    /// In order up to some operation, which is torn.
    Prefix,
    /// Names in order up to some operation; data in any order, torn or not.
    Reordered,
    /// Everything in any order, names too.
    Scattered,
    /// All is there but the last writes, which are torn.
    TornTail,
}

pub const STYLES: [Style; 8] = [
    Style::AllKept,
    Style::NothingKept,
    Style::MetadataAhead,
    Style::DataAhead,
    Style::Prefix,
    Style::Reordered,
    Style::Scattered,
    Style::TornTail,
];

/// Goes through a recording, and can be asked at every moment what a cut would leave.
pub struct Replay<'r> {
    recording: &'r Recording,
    disk: Disk<'r>,
    /// Beginnings and ends of operations by their place in the trace.
    moments: Vec<(usize, bool, usize)>,
    next: usize,
}

impl<'r> Replay<'r> {
    pub fn new(recording: &'r Recording) -> Replay<'r> {
        let mut moments = Vec::new();
        for (index, op) in recording.ops.iter().enumerate() {
            moments.push((op.begin, false, index));
            moments.push((op.end, true, index));
        }
        moments.sort_unstable();
        let disk = Disk::new(&recording.start, &recording.dirs, &recording.ops);
        Replay { recording, disk, moments, next: 0 }
    }

    /// Goes on to just after line `place` of the trace.
    pub fn advance(&mut self, place: usize) {
        while let Some((_, is_end, op)) = self.moments.get(self.next).filter(|(at, _, _)| *at <= place) {
            if *is_end {
                self.disk.end(*op);
            } else {
                self.disk.begin(*op);
            }
            self.next += 1;
        }
    }

    /// The image that a cut leaves now.
    pub fn image(&self, style: Style, faults: &mut Faults) -> Image {
        let undecided = self.disk.undecided();
        let ops: Vec<&Op> = undecided.iter().map(|op| &self.recording.ops[*op]).collect();
        let fates = fates(style, &ops, faults);
        self.disk.cut(&undecided.into_iter().zip(fates).collect::<BTreeMap<usize, Fate>>())
    }

    /// The directory as the program saw it.
    pub fn now(&self) -> Image {
        self.disk.now()
    }
}

fn fates(style: Style, ops: &[&Op], faults: &mut Faults) -> Vec<Fate> {
    let boundary = faults.pick(0..ops.len() as u64 + 1) as usize;
    let fate = |(index, op): (usize, &&Op)| {
        let is_name = matches!(op.effect, Effect::Names(_));
        match style {
            Style::AllKept => Fate::Kept,
            Style::NothingKept => Fate::Dropped,
            Style::MetadataAhead if is_name => Fate::Kept,
            Style::MetadataAhead => Fate::LengthOnly,
            Style::DataAhead if is_name => Fate::Dropped,
            Style::DataAhead => Fate::Kept,
            Style::Prefix if index < boundary => Fate::Kept,
            Style::Prefix if index == boundary && !is_name => torn(op, faults),
            Style::Prefix => Fate::Dropped,
            Style::Reordered if is_name && index < boundary => Fate::Kept,
            Style::Reordered if is_name => Fate::Dropped,
            Style::Scattered if is_name && faults.happens(0.5) => Fate::Kept,
            Style::Scattered if is_name => Fate::Dropped,
            Style::Reordered | Style::Scattered => any(op, faults),
            Style::TornTail if index + 3 < ops.len() || is_name => Fate::Kept,
            Style::TornTail => torn(op, faults),
        }
    };
    ops.iter().enumerate().map(fate).collect()
}

fn any(op: &Op, faults: &mut Faults) -> Fate {
    match faults.pick(0..20) {
        0..9 => Fate::Kept,
        9..14 => Fate::Dropped,
        14..16 => Fate::LengthOnly,
        _ => torn(op, faults),
    }
}

fn torn(op: &Op, faults: &mut Faults) -> Fate {
    match &op.effect {
        Effect::Data { change: Change::Write { .. }, .. } => Fate::Torn(faults.rng().random()),
        Effect::Data { .. } | Effect::Names(_) | Effect::Sync { .. } => Fate::Kept,
    }
}

/// Places to cut at, in order: around syncs and acknowledgements, around operations of each part of the directory, and
/// anywhere.
pub fn places(recording: &Recording, count: usize, faults: &mut Faults) -> Vec<usize> {
    let syncs = recording.ops.iter().filter(|op| matches!(op.effect, Effect::Sync { .. }));
    let marks = recording.marks.iter().map(|(at, _)| *at);
    let promises: Vec<usize> = syncs.flat_map(around).chain(marks).collect();
    let areas = areas(recording);
    let one_of = |places: &[usize], faults: &mut Faults| places[faults.pick(0..places.len() as u64) as usize];
    let mut places = Vec::with_capacity(count);
    for _ in 0..count {
        places.push(match faults.pick(0..3) {
            0 if !promises.is_empty() => one_of(&promises, faults),
            1 if !areas.is_empty() => one_of(&areas[faults.pick(0..areas.len() as u64) as usize], faults),
            _ => faults.pick(0..recording.length as u64) as usize,
        });
    }
    places.sort_unstable();
    places
}

fn around(op: &Op) -> [usize; 3] {
    [op.begin.saturating_sub(1), op.begin, op.end]
}

/// Places around the operations in each directory at the top, and around those in none of them: a store does most of its
/// work in few of them, and the others matter as much.
fn areas(recording: &Recording) -> Vec<Vec<usize>> {
    let mut parents: BTreeMap<Node, Node> =
        recording.start.names.iter().map(|((parent, _), node)| (*node, *parent)).collect();
    for op in &recording.ops {
        let Effect::Names(changes) = &op.effect else { continue };
        parents.extend(changes.iter().filter_map(|(parent, _, node)| Some(((*node)?, *parent))));
    }
    let area = |mut node: Node| {
        while let Some(parent) = parents.get(&node).filter(|parent| **parent != ROOT) {
            node = *parent;
        }
        if recording.dirs[node] { node } else { ROOT }
    };
    let mut areas: BTreeMap<Node, Vec<usize>> = BTreeMap::new();
    for op in &recording.ops {
        let node = match &op.effect {
            Effect::Names(changes) => changes.first().map_or(ROOT, |(parent, _, _)| *parent),
            Effect::Data { file, .. } => *file,
            Effect::Sync { node } => *node,
        };
        areas.entry(area(node)).or_default().extend(around(op));
    }
    areas.into_values().collect()
}

/// How many of these marks stand before the end of line `place`.
pub fn said_by(marks: &[(usize, Mark)], place: usize) -> usize {
    marks.partition_point(|(at, _)| *at <= place)
}

/// The marks of a store that acknowledges before it flushes: each stands before the last sync of the ledger that it
/// waited for.
pub fn said_too_early(recording: &Recording) -> Vec<(usize, Mark)> {
    let is_ledger = |op: &&Op| matches!(op.effect, Effect::Sync { node } if recording.ledger.contains(&node));
    let mut syncs: Vec<(usize, usize)> = recording.ops.iter().filter(is_ledger).map(|op| (op.end, op.begin)).collect();
    syncs.sort_unstable();
    let early = recording.marks.iter().map(|(at, mark)| {
        let before = syncs.partition_point(|(end, _)| end < at);
        match before.checked_sub(1) {
            Some(before) if mark.seq().is_some() => (syncs[before].1.saturating_sub(1), *mark),
            Some(_) | None => (*at, *mark),
        }
    });
    let mut early: Vec<(usize, Mark)> = early.collect();
    early.sort_by_key(|(at, _)| *at);
    early
}

#[cfg(test)]
mod tests {
    use super::super::disk::Start;
    use super::*;
    use std::sync::Arc;

    /// A file that is written and synced twice, each time followed by a mark.
    fn recording() -> Recording {
        let op = |begin, end, effect| Op { effect, begin, end };
        let write = |offset, byte: u8| {
            let bytes = Arc::from([byte; 600]);
            Effect::Data { file: 1, change: Change::Write { offset, bytes } }
        };
        let ops = vec![
            op(1, 1, Effect::Names(vec![(ROOT, "a".to_owned(), Some(1))])),
            op(2, 2, Effect::Sync { node: ROOT }),
            op(3, 3, write(0, 1)),
            op(4, 6, Effect::Sync { node: 1 }),
            op(8, 8, write(600, 2)),
            op(9, 10, Effect::Sync { node: 1 }),
        ];
        let marks = vec![(7, Mark::Fact { seq: 1 }), (11, Mark::Photo { n: 1 }), (12, Mark::Fact { seq: 2 })];
        Recording { start: Start::default(), dirs: vec![true, false], ops, marks, ledger: vec![1], length: 13 }
    }

    #[test]
    fn what_was_marked_is_in_every_image_of_a_disk_that_obeys() {
        let recording = recording();
        let mut faults = Faults::new(7);
        for place in 0..recording.length {
            for style in STYLES {
                let mut replay = Replay::new(&recording);
                replay.advance(place);
                let image = replay.image(style, &mut faults);
                let written = image.files.values().next().map_or(0, |content| content.bytes().len());
                let promised = said_by(&recording.marks, place);
                assert!(written >= [0, 600, 600, 1200][promised], "{style:?} at {place}: {written}");
            }
        }
    }

    #[test]
    fn marks_that_come_too_early_stand_before_their_sync() {
        let early = said_too_early(&recording());
        assert_eq!(early, [(3, Mark::Fact { seq: 1 }), (8, Mark::Fact { seq: 2 }), (11, Mark::Photo { n: 1 })]);
    }

    #[test]
    fn each_part_of_the_directory_is_an_area() {
        let mut recording = recording();
        assert_eq!(areas(&recording).len(), 1, "a file at the top and the top itself");
        let name = |dir, name: &str, node| Effect::Names(vec![(dir, name.to_owned(), Some(node))]);
        recording.dirs.extend([true, true, false]);
        recording.ops.extend([name(ROOT, "photos", 2), name(2, "ab", 3), name(3, "x", 4)].map(|effect| Op {
            effect,
            begin: 12,
            end: 12,
        }));
        recording.ops.push(Op { effect: Effect::Sync { node: 4 }, begin: 12, end: 12 });
        let areas = areas(&recording);
        assert_eq!(areas.iter().map(Vec::len).collect::<Vec<_>>(), [7 * 3, 3 * 3]);
    }

    #[test]
    fn places_are_within_the_recording_and_follow_from_the_seed() {
        let recording = recording();
        let chosen = |seed| places(&recording, 50, &mut Faults::new(seed));
        assert_eq!(chosen(1), chosen(1));
        assert!(chosen(1).iter().all(|place| *place < recording.length));
    }
}
