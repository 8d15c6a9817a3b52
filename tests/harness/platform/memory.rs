//! What the platform remembers for a while: nonces, and the results of jobs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Results that can still be asked for.
const RESULTS: usize = 20_000;

/// Nonces that were used. A request with an older one is refused for its time.
#[derive(Default)]
pub struct Nonces {
    used: HashSet<String>,
    order: VecDeque<(Instant, String)>,
}

impl Nonces {
    /// Whether it is new.
    pub fn take(&mut self, nonce: &str, now: Instant, lifetime: Duration) -> bool {
        while let Some((_, old)) = self.order.pop_front_if(|(at, _)| now.saturating_duration_since(*at) > lifetime) {
            self.used.remove(&old);
        }
        let is_new = self.used.insert(nonce.to_owned());
        if is_new {
            self.order.push_back((now, nonce.to_owned()));
        }
        is_new
    }
}

/// What became of the jobs, by serial code.
#[derive(Default)]
pub struct Results {
    results: HashMap<String, Value>,
    order: VecDeque<String>,
}

impl Results {
    pub fn keep(&mut self, serial: String, result: Value) {
        if self.order.len() == RESULTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.results.remove(&oldest);
        }
        self.order.push_back(serial.clone());
        self.results.insert(serial, result);
    }

    pub fn get(&self, serial: &str) -> Option<&Value> {
        self.results.get(serial)
    }
}

#[cfg(test)]
mod tests {
    use gateway::clock::Clock;

    use super::*;

    #[test]
    fn a_nonce_is_refused_while_a_request_with_it_could_still_be_in_time() {
        let (mut nonces, start) = (Nonces::default(), Clock::system().instant());
        let at = |s| start + Duration::from_secs(s);
        let mut take = |nonce, s| nonces.take(nonce, at(s), Duration::from_secs(10));
        assert!(take("a", 0) && take("b", 5));
        assert!(!take("a", 10));
        assert!(take("a", 11) && !take("b", 11));
        assert_eq!(nonces.used.len(), 2);
    }

    #[test]
    fn the_oldest_results_are_forgotten() {
        let mut results = Results::default();
        (0..=RESULTS).for_each(|number| results.keep(number.to_string(), Value::Null));
        assert_eq!((results.get("0"), results.get("1")), (None, Some(&Value::Null)));
    }
}
