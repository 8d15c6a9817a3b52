//! Faults from a seed. The seed is printed at the start of every run and can be given again with `ANXIN_SEED`.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A source of faults; everything random in a run comes from one of these.
pub struct Faults {
    seed: u64,
    rng: StdRng,
}

impl Faults {
    /// From `ANXIN_SEED`, or from `default_seed` when it is not set; prints which.
    pub fn from_env(story: &str, default_seed: u64) -> Faults {
        let seed = std::env::var("ANXIN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default_seed);
        println!("{story}: ANXIN_SEED={seed}");
        Faults::new(seed)
    }

    pub fn new(seed: u64) -> Faults {
        Faults { seed, rng: StdRng::seed_from_u64(seed) }
    }

    /// A second, independent source for another part of the site, the same for the same seed and name.
    pub fn fork(&self, name: &str) -> Faults {
        let mixed = name.bytes().fold(self.seed ^ 0x9E37_79B9_7F4A_7C15, |mix, byte| {
            (mix ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
        Faults::new(mixed)
    }

    /// True with this probability from 0 to 1.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    /// A number in the range.
    pub fn pick(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.rng.random_range(range)
    }

    /// The random numbers themselves.
    pub fn rng(&mut self) -> &mut StdRng {
        &mut self.rng
    }
}
