//! `[store]`: the key that everything personal is sealed with, and what is kept for how long.

use std::ffi::OsStr;
use std::path::Path;

use jiff::ToSpan;

use super::Store;
use super::reader::Section;
use crate::store::Retention;
use crate::store::keyring::master::MasterFile;

/// 保障农民工工资支付条例 (2020), article 15: pay records are kept for three years after the project is finished and paid.
const LEAST_YEARS: u32 = 3;
/// Room for a segment, the reserve and the working view of a small site.
const LEAST_BUDGET_MIB: u32 = 128;

/// `credentials` is the directory in which systemd gives this service its credentials, when it does.
pub fn store(mut section: Section<'_>, data_dir: &Path, credentials: Option<&OsStr>) -> Store {
    let configured = section.text("key_file").map(|text| section.resolve(&text));
    let defaults = Retention::default();
    let photo_days = match section.integer("photo_days", 0..=36_500) {
        None => defaults.photo_days,
        Some(0) => None,
        days => days,
    };
    let budget = section.integer("budget_mib", LEAST_BUDGET_MIB..=u32::MAX).map(|mib| u64::from(mib) << 20);
    let photos_make_room = section.flag("photos_make_room").unwrap_or(defaults.photos_make_room);
    let keep_years = section.integer("keep_years", LEAST_YEARS..=100).unwrap_or(LEAST_YEARS);
    let settled_on = section.date("settled_on");
    let keep_until = settled_on.map(|day| day.saturating_add(i64::from(keep_years).years()));
    section.finish();
    let key = MasterFile::choose(configured.as_deref(), credentials.map(Path::new), data_dir);
    Store { key, retention: Retention { photo_days, budget, photos_make_room }, keep_until }
}
