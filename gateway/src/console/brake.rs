//! How often the token may be tried from one address. A core: `now` comes in as an argument.
//!
//! Each address has a purse of tries that refills slowly. A try is taken before the token is compared and given back
//! when it was right, so that parallel guesses cannot overtake the count. Sessions are not slowed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong tries in a row before the brake holds.
const PURSE: u32 = 10;
/// Time for one more try.
const REFILL: Duration = Duration::from_secs(6);
/// Addresses remembered at once; beyond that the one unused for longest is forgotten.
const MAX_ADDRESSES: usize = 1024;

#[derive(Clone, Copy)]
struct Purse {
    tries: u32,
    /// Refilled up to this moment.
    at: Instant,
}

/// The purses of all addresses that tried a wrong token lately.
#[derive(Default)]
pub struct Brake {
    purses: Mutex<HashMap<IpAddr, Purse>>,
}

impl Brake {
    /// Takes one try of `peer`; when it has none, says how long until it has.
    pub fn take(&self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let peer = network(peer);
        let mut purses = self.purses.lock().unwrap_or_else(PoisonError::into_inner);
        if !purses.contains_key(&peer) {
            make_room(&mut purses);
        }
        let purse = purses.entry(peer).or_insert(Purse { tries: PURSE, at: now });
        refill(purse, now);
        if purse.tries == 0 {
            return Err((purse.at + REFILL).saturating_duration_since(now));
        }
        purse.tries -= 1;
        Ok(())
    }

    /// Gives the try back: the token was right.
    pub fn give_back(&self, peer: IpAddr) {
        let peer = network(peer);
        let mut purses = self.purses.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(purse) = purses.get_mut(&peer) else { return };
        purse.tries += 1;
        if purse.tries >= PURSE {
            purses.remove(&peer);
        }
    }
}

fn refill(purse: &mut Purse, now: Instant) {
    let passed = now.saturating_duration_since(purse.at);
    let earned = (passed.as_secs() / REFILL.as_secs()) as u32;
    purse.tries = purse.tries.saturating_add(earned).min(PURSE);
    purse.at = if purse.tries == PURSE { now } else { purse.at + REFILL * earned };
}

fn make_room(purses: &mut HashMap<IpAddr, Purse>) {
    if purses.len() < MAX_ADDRESSES {
        return;
    }
    let oldest = purses.iter().min_by_key(|(_, purse)| purse.at).map(|(peer, _)| *peer);
    if let Some(oldest) = oldest {
        purses.remove(&oldest);
    }
}

/// One household has a whole /64 of IPv6 addresses, so that is what counts as one address.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::punch::UnixMs;

    const GUESSER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 8));

    #[test]
    fn guessing_stops_after_ten_tries_and_goes_on_at_ten_a_minute() {
        let brake = Brake::default();
        let start = Clock::manual(UnixMs(0)).instant();
        let allowed =
            (0..600).filter(|second| brake.take(GUESSER, start + Duration::from_secs(*second)).is_ok()).count();
        assert!((100..=111).contains(&allowed), "{allowed} tries in ten minutes");
        assert!(brake.take(OTHER, start + Duration::from_secs(600)).is_ok(), "another address is not slowed");
    }

    #[test]
    fn the_right_token_costs_nothing() {
        let brake = Brake::default();
        let now = Clock::manual(UnixMs(0)).instant();
        for _ in 0..1000 {
            brake.take(GUESSER, now).unwrap();
            brake.give_back(GUESSER);
        }
    }

    #[test]
    fn parallel_guesses_do_not_overtake_the_count() {
        let brake = Brake::default();
        let now = Clock::manual(UnixMs(0)).instant();
        let taken = (0..1000).filter(|_| brake.take(GUESSER, now).is_ok()).count();
        assert_eq!(taken, PURSE as usize);
        let wait = brake.take(GUESSER, now).unwrap_err();
        assert!(wait <= REFILL && wait > Duration::ZERO);
    }

    #[test]
    fn addresses_beyond_the_limit_cost_no_more_memory() {
        let brake = Brake::default();
        let now = Clock::manual(UnixMs(0)).instant();
        for n in 0..5000_u32 {
            let _ = brake.take(IpAddr::V4(n.into()), now + Duration::from_millis(n.into()));
        }
        assert_eq!(brake.purses.lock().unwrap().len(), MAX_ADDRESSES);
    }
}
