//! The platform half: verified punches to receipts. Does not know that terminals exist.
//!
//! One task per platform: `shell` moves facts, `call` one request, `courier` decides, `profiles` speak the platforms' languages,
//! `link` is HTTP, `picture` makes photos small enough, `status` shows how it goes.

mod call;
pub mod courier;
mod link;
mod picture;
pub mod profiles;
mod shell;
mod status;

use std::convert::Infallible;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Employer, Platform};
use crate::ops::Ops;
use crate::ops::alarms::{Kind, Severity};
use crate::punch::UnixMs;
use crate::store::Store;

use self::link::Link;
use self::profiles::Profile;
use self::shell::Shell;

/// Platforms write Beijing time without an offset, wherever the site is and whatever its terminals' clocks show.
pub const BEIJING: Offset = jiff::tz::offset(8);

/// What the courier of one platform needs.
pub struct Task {
    pub platform: Platform,
    pub employers: Vec<Employer>,
    /// What the platform's times are relative to UTC.
    pub utc_offset: Offset,
    pub store: Store,
    pub clock: Clock,
    pub ops: Ops,
}

/// Serves one platform until `shutdown`. A platform that does not answer is an alarm and no end.
#[tracing::instrument(name = "platform", skip_all, fields(name = %task.platform.name))]
pub async fn run(task: Task, shutdown: CancellationToken) -> Result<(), Infallible> {
    let profile = Profile::of(&task.platform, task.utc_offset).map_err(|error| error.to_string());
    let link = Link::new(&task.platform, task.clock.clone()).map_err(|error| error.to_string());
    match profile.and_then(|profile| Ok((profile, link?))) {
        Ok((profile, link)) => Shell::open(task, profile, link, shutdown).await.run().await,
        Err(error) => {
            let text = format!("nothing is uploaded: {error}. Correct the configuration and restart");
            task.ops.alarms.raise(Severity::Critical, Kind::PlatformStopped, task.platform.name.as_str(), text);
            shutdown.cancelled().await;
        }
    }
    Ok(())
}

/// The date where the clocks show this offset.
fn date_at(at: UnixMs, offset: Offset) -> Date {
    offset.to_datetime(Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH)).date()
}
