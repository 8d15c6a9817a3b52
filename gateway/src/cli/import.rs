//! `roster import`: gives a roster file to the running gateway.

use std::path::Path;
use std::time::Duration;

use gateway::config::Config;
use gateway::console::{IMPORT_PATH, IMPORT_TIMEOUT};
use reqwest::StatusCode;
use serde::Deserialize;

use super::api::{Api, refused};
use super::exit::{Exit, Failure};

/// The gateway answers in time, and be it that it ran out; this is for one that does not.
const ANSWER_TIMEOUT: Duration = IMPORT_TIMEOUT.saturating_add(Duration::from_secs(15));

/// Sends the file and says what became of it.
pub fn run(config: &Config, file: &Path) -> Result<String, Failure> {
    let csv = std::fs::read(file)
        .map_err(|error| Failure::new(Exit::NoInput, format!("{} cannot be read: {error}", file.display())))?;
    let (status, body) = Api::new(config, ANSWER_TIMEOUT)?.post(IMPORT_PATH, "text/csv", csv, "imported")?;
    answer(status, &body, file)
}

/// What the gateway says when all went well.
#[derive(Deserialize)]
struct Imported {
    workers: usize,
    added: usize,
    changed: usize,
    unchanged: usize,
}

fn answer(status: StatusCode, body: &str, file: &Path) -> Result<String, Failure> {
    if status.is_success() {
        return Ok(match serde_json::from_str::<Imported>(body) {
            Ok(Imported { workers, added, changed, unchanged }) => {
                format!("{workers} workers: {added} added, {changed} changed, {unchanged} unchanged")
            }
            Err(_) => "imported".to_owned(),
        });
    }
    Err(refused(status, body, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_exit_code() {
        let exit = |status: u16, body: &str| {
            answer(StatusCode::from_u16(status).unwrap(), body, Path::new("r.csv")).map_err(|failure| failure.exit)
        };
        assert_eq!(
            exit(200, r#"{"workers":3,"added":1,"changed":2,"unchanged":0}"#).unwrap(),
            "3 workers: 1 added, 2 changed, 0 unchanged"
        );
        assert_eq!(exit(422, "{}"), Err(Exit::Data));
        assert_eq!(exit(400, "{}"), Err(Exit::Data));
        assert_eq!(exit(401, ""), Err(Exit::NoPermission));
        assert_eq!(exit(403, ""), Err(Exit::NoPermission));
        assert_eq!(exit(429, ""), Err(Exit::TemporaryFailure));
        assert_eq!(exit(503, "{}"), Err(Exit::Unavailable));
        assert_eq!(exit(404, "<html>"), Err(Exit::Software));
    }
}
