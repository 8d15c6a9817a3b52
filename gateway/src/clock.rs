//! The only place that asks the time.
//!
//! Cores take `now` as an argument; shells ask here. Whether the wall clock can be trusted is part of the answer: a box
//! without a battery-backed clock starts somewhere in the past, and then no terminal may be set from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::punch::UnixMs;

/// 2026-01-01T00:00:00Z: this software did not exist before it, so a clock that says so is wrong.
pub const EARLIEST_TRUSTED: UnixMs = UnixMs(1_767_225_600_000);

/// Wall time and monotonic time. Clones share the same source.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Tests move this by hand.
    Manual {
        unix_ms: Arc<AtomicI64>,
        origin: Instant,
        start_ms: i64,
    },
}

impl Clock {
    /// The operating system's clock.
    pub fn system() -> Clock {
        Clock(Source::System)
    }

    /// A clock that stands at `start` until it is moved; for tests.
    pub fn manual(start: UnixMs) -> Clock {
        Clock(Source::Manual {
            unix_ms: Arc::new(AtomicI64::new(start.0)),
            origin: Self::os_instant(),
            start_ms: start.0,
        })
    }

    /// Moves a manual clock; the system clock does not move.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { unix_ms, .. } = &self.0 {
            unix_ms.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
        }
    }

    /// Wall time.
    pub fn now(&self) -> UnixMs {
        match &self.0 {
            Source::System => Self::os_unix_ms(),
            Source::Manual { unix_ms, .. } => UnixMs(unix_ms.load(Ordering::SeqCst)),
        }
    }

    /// Monotonic time, for intervals and timeouts.
    pub fn instant(&self) -> Instant {
        match &self.0 {
            Source::System => Self::os_instant(),
            Source::Manual { unix_ms, origin, start_ms } => {
                let passed = unix_ms.load(Ordering::SeqCst).saturating_sub(*start_ms);
                *origin + Duration::from_millis(passed.max(0) as u64)
            }
        }
    }

    /// Whether terminals may be set from the wall clock.
    pub fn is_trustworthy(&self) -> bool {
        self.now() >= EARLIEST_TRUSTED
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that asks the time")]
    fn os_unix_ms() -> UnixMs {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => UnixMs(since.as_millis() as i64),
            Err(before) => UnixMs(-(before.duration().as_millis() as i64)),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that asks the time")]
    fn os_instant() -> Instant {
        Instant::now()
    }
}
