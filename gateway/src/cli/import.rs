//! `roster import`: gives a roster file to the running gateway.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use gateway::config::Config;
use gateway::console::{IMPORT_PATH, IMPORT_TIMEOUT};
use gateway::roster::RowProblem;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;

use super::exit::{Exit, Failure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The gateway answers in time, and be it that it ran out; this is for one that does not.
const ANSWER_TIMEOUT: Duration = IMPORT_TIMEOUT.saturating_add(Duration::from_secs(15));

/// Sends the file and says what became of it.
pub fn run(config: &Config, file: &Path) -> Result<String, Failure> {
    let csv = std::fs::read(file)
        .map_err(|error| Failure::new(Exit::NoInput, format!("{} cannot be read: {error}", file.display())))?;
    let token = token(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Software, format!("no runtime: {error}")))?;
    let (status, body) = runtime.block_on(post(config.console.listen, &token, csv))?;
    answer(status, &body, file)
}

fn token(config: &Config) -> Result<String, Failure> {
    let path = config.data_dir.join(&config.console.token_file);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let path = path.display();
        let hint = "the running gateway writes it; use the same configuration and the same account";
        Failure::new(Exit::NoPermission, format!("the API token {path} cannot be read: {error}; {hint}"))
    })?;
    Ok(text.trim().to_owned())
}

async fn post(listen: SocketAddr, token: &str, csv: Vec<u8>) -> Result<(StatusCode, String), Failure> {
    let address = reachable(listen);
    let unavailable = |error: reqwest::Error| {
        let cause = if error.is_connect() { "is not running" } else { "does not answer" };
        let detail = innermost(&error);
        Failure::new(
            Exit::Unavailable,
            format!("the gateway on {address} {cause} ({detail}); nothing is known to be imported"),
        )
    };
    let client = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT);
    let client = client.build().map_err(|error| Failure::new(Exit::Software, format!("no HTTP: {error}")))?;
    let request = client
        .post(format!("http://{address}{IMPORT_PATH}"))
        .bearer_auth(token)
        .header(CONTENT_TYPE, "text/csv")
        .body(csv);
    let response = request.send().await.map_err(unavailable)?;
    let status = response.status();
    let body = response.text().await.map_err(unavailable)?;
    Ok((status, body))
}

/// Where a listener on every address is reached from here.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What the gateway says when all went well.
#[derive(Deserialize)]
struct Imported {
    workers: usize,
    added: usize,
    changed: usize,
    unchanged: usize,
}

/// RFC 9457, with the rows that are wrong.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ProblemJson {
    title: String,
    detail: String,
    errors: Vec<RowProblem>,
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
    let exit = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::NoPermission,
        StatusCode::TOO_MANY_REQUESTS => Exit::TemporaryFailure,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Exit::Software,
        status if status.is_client_error() => Exit::Data,
        _ => Exit::Unavailable,
    };
    Err(Failure::new(exit, described(status, body, file)))
}

fn described(status: StatusCode, body: &str, file: &Path) -> String {
    let problem: ProblemJson = serde_json::from_str(body).unwrap_or_default();
    let detail = [problem.detail, problem.title].into_iter().find(|text| !text.is_empty());
    let mut text = detail.unwrap_or_else(|| format!("the gateway answered {status}"));
    for row in &problem.errors {
        write!(text, "\n{}: {row}", file.display()).expect("writing to a String cannot fail");
    }
    text
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

    #[test]
    fn every_row_is_printed_with_file_and_line() {
        let body = r#"{"type":"/problems/content","title":"Wrong content","status":422,"detail":"nothing was imported; 1 problems",
            "errors":[{"line":3,"worker_id":"W2","column":"trade","value":"厨师","reason":"is no trade"},{"reason":"and so on"}]}"#;
        let text = described(StatusCode::UNPROCESSABLE_ENTITY, body, Path::new("r.csv"));
        assert_eq!(
            text,
            "nothing was imported; 1 problems\nr.csv: line 3: W2: trade = \"厨师\": is no trade\nr.csv: and so on"
        );
    }

    #[test]
    fn a_listener_on_every_address_is_reached_on_loopback() {
        let reached = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(reached("[::]:8080"), "[::1]:8080");
        assert_eq!(reached("192.0.2.7:80"), "192.0.2.7:80");
    }
}
