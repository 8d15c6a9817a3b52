//! Who comes and goes, and what goes wrong now and then. Decides and does nothing; time comes in as `now`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway::punch::UnixMs;
use harness::faults::Faults;
use harness::kept;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};

/// Nobody turns round faster: a gate that leads both ways takes a punch within the duplicate window (60 s) for a second
/// reading of the same.
const REST_MS: i64 = 70_000;
/// Badges that nobody on the roster has.
const STRANGERS: u32 = 0x00FE_0000;

/// Which gates there are, by the way they lead.
pub const READERS: [Way; 3] = [Way::In, Way::Out, Way::Either];
pub const FACES: [Way; 4] = [Way::In, Way::Out, Way::In, Way::Either];

/// Which way a gate leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    In,
    Out,
    Either,
}

/// One thing that happens on the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A worker's badge at a reader.
    Swipe { reader: usize, worker: usize },
    /// A badge that is not on the roster.
    SwipeStranger { reader: usize, badge: u32 },
    /// A worker's face at a terminal.
    Recognise { face: usize, worker: usize, inward: bool },
    /// An acknowledgement did not arrive.
    PushAgain { face: usize },
    /// A link breaks.
    Cut { face: usize },
}

/// A worker as the demo knows him.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Person {
    inside: bool,
    last: UnixMs,
}

/// Everybody on the roster.
pub struct People {
    file: PathBuf,
    persons: Vec<Person>,
    faults: Faults,
}

impl People {
    /// As an earlier start left them, or all outside.
    pub fn gather(file: &Path, count: usize, faults: Faults) -> io::Result<People> {
        let mut persons: Vec<Person> = kept::load(file)?.unwrap_or_default();
        persons.resize(count, Person::default());
        Ok(People { file: file.to_owned(), persons, faults })
    }

    /// Until the next act: two seconds, more or less.
    pub fn pause(&mut self) -> Duration {
        Duration::from_millis(self.faults.pick(1_000..3_000))
    }

    /// What happens now; nothing when everybody has just punched.
    pub fn act(&mut self, now: UnixMs) -> io::Result<Option<Act>> {
        match self.faults.pick(0..100) {
            0..3 => {
                let badge = STRANGERS + self.faults.pick(1..4) as u32;
                Ok(Some(Act::SwipeStranger { reader: self.place(READERS.len()), badge }))
            }
            3..5 => Ok(Some(Act::PushAgain { face: self.place(FACES.len()) })),
            5..7 => Ok(Some(Act::Cut { face: self.place(FACES.len()) })),
            _ => self.somebody(now),
        }
    }

    fn place(&mut self, count: usize) -> usize {
        self.faults.pick(0..count as u64) as usize
    }

    /// Somebody comes or goes; the site is about three quarters full.
    fn somebody(&mut self, now: UnixMs) -> io::Result<Option<Act>> {
        let inside = self.persons.iter().filter(|person| person.inside).count();
        let is_full = inside * 4 > self.persons.len() * 3;
        let inward = self.faults.happens(if is_full { 0.4 } else { 0.7 });
        let Some(worker) = self.rested(now, inward).or_else(|| self.rested(now, !inward)) else { return Ok(None) };
        let person = &mut self.persons[worker];
        *person = Person { inside: !person.inside, last: now };
        let inward = person.inside;
        kept::save(&self.file, &self.persons)?;
        Ok(Some(self.at_a_gate(worker, inward)))
    }

    /// Somebody who can go this way.
    fn rested(&mut self, now: UnixMs, inward: bool) -> Option<usize> {
        let can = |person: &Person| person.inside != inward && now.since(person.last) >= REST_MS;
        let able: Vec<usize> = (0..self.persons.len()).filter(|worker| can(&self.persons[*worker])).collect();
        able.choose(self.faults.rng()).copied()
    }

    fn at_a_gate(&mut self, worker: usize, inward: bool) -> Act {
        let way = if inward { Way::In } else { Way::Out };
        let leads_there = |gate: &Way| *gate == way || *gate == Way::Either;
        let readers = (0..READERS.len()).filter(|gate| leads_there(&READERS[*gate]));
        let faces = (0..FACES.len()).filter(|gate| leads_there(&FACES[*gate]));
        let acts: Vec<Act> = readers
            .map(|reader| Act::Swipe { reader, worker })
            .chain(faces.map(|face| Act::Recognise { face, worker, inward }))
            .collect();
        acts.choose(self.faults.rng()).cloned().expect("some gate leads each way")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn everybody_comes_and_goes_by_turns_through_gates_that_lead_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("people.json");
        let faults = Faults::from_env("people", 7);
        let mut people = People::gather(&file, 60, faults.fork("first")).unwrap();
        let mut now = UnixMs(1_800_000_000_000);
        let mut last: BTreeMap<usize, (bool, UnixMs)> = BTreeMap::new();
        let (mut punches, mut others) = (0, 0);
        for round in 0..4_000 {
            if round == 2_000 {
                people = People::gather(&file, 60, faults.fork("second")).unwrap();
            }
            now = now.plus_ms(people.pause().as_millis() as i64);
            let (worker, way, said) = match people.act(now).unwrap() {
                Some(Act::Swipe { reader, worker }) => (worker, READERS[reader], None),
                Some(Act::Recognise { face, worker, inward }) => (worker, FACES[face], Some(inward)),
                Some(_) => {
                    others += 1;
                    continue;
                }
                None => continue,
            };
            punches += 1;
            let before = last.get(&worker).copied();
            let inward = before.is_none_or(|(inward, _)| !inward);
            assert!(before.is_none_or(|(_, at)| now.since(at) >= REST_MS), "{worker} turned round at once");
            assert!(said.is_none_or(|said| said == inward), "{worker} went the same way twice");
            assert!(way == Way::Either || (way == Way::In) == inward, "{worker} went {inward} through {way:?}");
            last.insert(worker, (inward, now));
        }
        assert!(punches > 3_000 && others > 100, "{punches} punches, {others} other things");
        assert_eq!(last.len(), 60, "everybody works");
    }
}
