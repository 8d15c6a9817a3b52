//! Mutations of valid inputs, and an eye on the memory.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A short form for every run of the tests.
const SHORT: u64 = 20_000;
/// Between two looks at whether everything still works.
const LOOK: u64 = 512;
/// What the process may grow over a run: buffers of the test itself.
const GROWTH_KIB: u64 = 4 * 1024;

/// Valid inputs, mutated, and valid ones.
pub struct Inputs {
    name: &'static str,
    corpus: Vec<Vec<u8>>,
    pub rng: StdRng,
    done: u64,
    wanted: u64,
    resident_kib: u64,
}

impl Inputs {
    pub fn new(name: &'static str, corpus: Vec<Vec<u8>>) -> Inputs {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let seed = number("ANXIN_SEED").unwrap_or(475);
        println!("{name}: ANXIN_SEED={seed}");
        let wanted = number("ANXIN_INPUTS").unwrap_or(SHORT);
        Inputs { name, corpus, rng: StdRng::seed_from_u64(seed), done: 0, wanted, resident_kib: resident_kib() }
    }

    /// The next input; `None` after the last, when the process has not grown.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        if self.done == self.wanted {
            let grown = resident_kib().saturating_sub(self.resident_kib);
            println!("{}: {} inputs, grown by {grown} KiB", self.name, self.done);
            // Under Miri it is the interpreter that grows.
            assert!(cfg!(miri) || grown <= GROWTH_KIB, "{} grew by {grown} KiB", self.name);
            return None;
        }
        self.done += 1;
        let mut input = self.pick().clone();
        for _ in 0..self.rng.random_range(0..4) {
            self.mutate(&mut input);
        }
        Some(input)
    }

    pub fn is_time_to_look(&self) -> bool {
        self.done.is_multiple_of(LOOK)
    }

    fn pick(&mut self) -> &Vec<u8> {
        let index = self.rng.random_range(0..self.corpus.len());
        &self.corpus[index]
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.rng.random_range(0..=input.len());
        match (self.rng.random_range(0..7), input.get_mut(at)) {
            (0, Some(byte)) => *byte ^= 1 << self.rng.random_range(0..8),
            (1, Some(byte)) => *byte = self.rng.random(),
            // Ends of ranges.
            (2, Some(byte)) => *byte = [0x00, 0x7F, 0x80, 0xFF][self.rng.random_range(0..4)],
            (3, Some(_)) => drop(input.remove(at)),
            (4, _) => input.insert(at, self.rng.random()),
            (5, _) => input.truncate(at),
            _ => {
                let other = self.pick().clone();
                let from = self.rng.random_range(0..=other.len());
                input.truncate(at);
                input.extend(&other[from..]);
            }
        }
    }
}

/// Memory of this process; zero where nobody tells.
fn resident_kib() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    resident.unwrap_or(0) * 4
}
