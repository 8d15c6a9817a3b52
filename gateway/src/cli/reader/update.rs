//! `reader update`: hands a new program to one reader through the running gateway, and waits until it runs.

use std::path::Path;
use std::time::Duration;

use gateway::config::Config;
use serde::Deserialize;

use crate::cli::api::{Api, refused};
use crate::cli::exit::{Exit, Failure};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(500);
/// A program takes seconds at 115 200 bits per second, and minutes at 9 600; after this the gateway goes on by itself.
const LOOKS: u32 = 1_800;

#[derive(Deserialize)]
struct Terminals {
    terminals: Vec<Terminal>,
}

#[derive(Deserialize)]
struct Terminal {
    id: String,
    health: Health,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Health {
    update: String,
}

/// Gives the file to the gateway and waits for the end of it.
pub fn run(config: &Config, terminal: &str, file: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(file)
        .map_err(|error| Failure::new(Exit::NoInput, format!("{} cannot be read: {error}", file.display())))?;
    let api = Api::new(config, ANSWER_TIMEOUT)?;
    let path = format!("/api/v1/terminals/{terminal}/firmware");
    let (status, body) = api.post(&path, "application/octet-stream", bytes, "updated")?;
    if !status.is_success() {
        return Err(refused(status, &body, file));
    }
    for _ in 0..LOOKS {
        api.pause(LOOK);
        let (status, body) = api.get("/api/v1/terminals")?;
        if !status.is_success() {
            return Err(refused(status, &body, file));
        }
        if let Some(outcome) = outcome(&body, terminal) {
            return outcome;
        }
    }
    let text = format!("{terminal} is not done yet; the gateway goes on, and raises an alarm when it gives up");
    Err(Failure::new(Exit::TemporaryFailure, text))
}

/// How it has ended, if it has.
fn outcome(body: &str, terminal: &str) -> Option<Result<String, Failure>> {
    let list: Terminals = serde_json::from_str(body).ok()?;
    let update = list.terminals.into_iter().find(|candidate| candidate.id == terminal)?.health.update;
    if let Some(version) = update.strip_prefix("done: ") {
        return Some(Ok(format!("{terminal} runs {version}")));
    }
    let reason = update.strip_prefix("failed: ")?;
    Some(Err(Failure::new(Exit::Data, format!("{terminal} was not updated: {reason}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(update: &str) -> Option<Result<String, Exit>> {
        let body = format!(
            r#"{{"terminals":[{{"id":"a","health":{{}}}},{{"id":"south-in","health":{{"update":"{update}"}}}}]}}"#
        );
        outcome(&body, "south-in").map(|outcome| outcome.map_err(|failure| failure.exit))
    }

    #[test]
    fn it_waits_until_the_reader_runs_it_or_says_no() {
        assert_eq!(ended("12 of 300"), None);
        assert_eq!(ended("checking"), None);
        assert_eq!(ended("done: version 7"), Some(Ok("south-in runs version 7".to_owned())));
        assert_eq!(ended("failed: it is older"), Some(Err(Exit::Data)));
        assert!(outcome("{}", "south-in").is_none());
    }
}
