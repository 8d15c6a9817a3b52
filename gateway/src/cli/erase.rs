//! `erase`: everything goes when it may be kept no longer.

use gateway::clock::Clock;
use gateway::config::Config;
use gateway::store::erase::{self, Occasion};
use gateway::store::keyring::file;
use jiff::Timestamp;

use super::exit::{Exit, Failure, of_io};
use super::key::{self, exit_of_keyring};

/// Erases the configured data directory, if its time has come.
pub fn run(config: &Config) -> Result<String, Failure> {
    let now = Timestamp::from_millisecond(Clock::system().now().0).unwrap_or_default();
    let today = config.site.utc_offset.to_datetime(now).date();
    let Some(kept_until) = config.store.keep_until else {
        let text = "nothing is erased: the configuration does not say when wages were settled ([store] settled_on)";
        return Err(Failure::new(Exit::Config, text));
    };
    if today <= kept_until {
        let text = format!("nothing is erased: the data is to be kept until {kept_until}, and today is {today}");
        return Err(Failure::new(Exit::Data, text));
    }
    let dir = &config.data_dir;
    let _lock = key::lock(config)?;
    let failed = |error: std::io::Error| Failure::new(of_io(&error, Exit::Io), format!("{}: {error}", dir.display()));
    if !erase::is_unfinished(dir) {
        let keys = file::existing(dir, &config.store.key)
            .map_err(|error| Failure::new(exit_of_keyring(&error), error.to_string()))?;
        let project = config.site.project_code.clone();
        erase::certify(dir, &keys.keyring, &Occasion { project, kept_until, today }).map_err(failed)?;
    }
    let certificate = erase::erase(dir, &config.store.key, today).map_err(failed)?;
    let key_left = match config.store.key.path.exists() {
        true => format!("\nThe key {} is not in it: delete it too", config.store.key.path.display()),
        false => String::new(),
    };
    Ok(format!("{}: erased; {} says what there was{key_left}", dir.display(), certificate.display()))
}
