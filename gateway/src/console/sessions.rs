//! Who is logged in with a browser. A core: `now` comes in as an argument.
//!
//! A session is 32 random bytes in the browser's cookie; here only their hash is kept. Sessions are few and end by
//! themselves; a restart ends them all.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

/// A shift and a half: who logs in in the morning stays in until night.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Beyond this the oldest session ends.
const MAX_SESSIONS: usize = 64;

/// What is kept of a session's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// Of the text in the cookie.
    pub fn of(cookie: &str) -> SessionKey {
        SessionKey(Sha256::digest(cookie.as_bytes()).into())
    }
}

/// The sessions that stand.
#[derive(Default)]
pub struct Sessions {
    begun: Mutex<HashMap<SessionKey, Instant>>,
}

impl Sessions {
    /// Begins a session and returns the text for its cookie; `None` when the system gives no random bytes.
    pub fn begin(&self, now: Instant) -> Option<String> {
        let mut random = [0; 32];
        OsRng.try_fill_bytes(&mut random).ok()?;
        let cookie = hex::encode(random);
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.retain(|_, at| stands(*at, now));
        if begun.len() >= MAX_SESSIONS
            && let Some(oldest) = begun.iter().min_by_key(|(_, at)| **at).map(|(key, _)| *key)
        {
            begun.remove(&oldest);
        }
        begun.insert(SessionKey::of(&cookie), now);
        Some(cookie)
    }

    /// Whether this session stands.
    pub fn stands(&self, key: SessionKey, now: Instant) -> bool {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.get(&key).is_some_and(|at| stands(*at, now))
    }

    /// Ends a session, if it stands.
    pub fn end(&self, key: SessionKey) {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

fn stands(begun: Instant, now: Instant) -> bool {
    now.saturating_duration_since(begun) < LIFETIME
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::punch::UnixMs;

    #[test]
    fn a_session_ends_by_logout_and_by_itself() {
        let sessions = Sessions::default();
        let now = Clock::manual(UnixMs(0)).instant();
        let first = SessionKey::of(&sessions.begin(now).unwrap());
        let second = SessionKey::of(&sessions.begin(now).unwrap());
        assert!(sessions.stands(first, now) && sessions.stands(second, now));
        sessions.end(first);
        assert!(!sessions.stands(first, now));
        assert!(sessions.stands(second, now + LIFETIME - Duration::from_secs(1)));
        assert!(!sessions.stands(second, now + LIFETIME));
        assert!(!sessions.stands(SessionKey::of("guess"), now));
    }

    #[test]
    fn the_oldest_session_makes_room() {
        let sessions = Sessions::default();
        let start = Clock::manual(UnixMs(0)).instant();
        let keys: Vec<SessionKey> = (0..=MAX_SESSIONS as u64)
            .map(|second| SessionKey::of(&sessions.begin(start + Duration::from_secs(second)).unwrap()))
            .collect();
        let now = start + Duration::from_secs(1000);
        assert!(!sessions.stands(keys[0], now));
        assert!(keys[1..].iter().all(|key| sessions.stands(*key, now)));
    }
}
