//! The running gateway's API, as commands use it: on its own box, with its own token.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use gateway::config::Config;
use gateway::roster::RowProblem;
use reqwest::header::CONTENT_TYPE;
use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use tokio::runtime::Runtime;

use super::exit::{Exit, Failure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to be.
pub struct Api {
    address: SocketAddr,
    token: String,
    client: reqwest::Client,
    runtime: Runtime,
}

impl Api {
    /// Towards the gateway of this configuration. It answers within `timeout`, or does not answer.
    pub fn new(config: &Config, timeout: Duration) -> Result<Api, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new(Exit::Software, format!("no runtime: {error}")))?;
        let client = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_TIMEOUT).timeout(timeout);
        let client = client.build().map_err(|error| Failure::new(Exit::Software, format!("no HTTP: {error}")))?;
        Ok(Api { address: reachable(config.console.listen), token: token(config)?, client, runtime })
    }

    /// Sends a body; `done` says what is not known to have happened when there is no answer.
    pub fn post(&self, path: &str, kind: &str, body: Vec<u8>, done: &str) -> Result<(StatusCode, String), Failure> {
        let request = self.client.post(format!("http://{}{path}", self.address));
        self.send(request.header(CONTENT_TYPE, kind).body(body), done)
    }

    /// Asks.
    pub fn get(&self, path: &str) -> Result<(StatusCode, String), Failure> {
        self.send(self.client.get(format!("http://{}{path}", self.address)), "read")
    }

    fn send(&self, request: RequestBuilder, done: &str) -> Result<(StatusCode, String), Failure> {
        let unavailable = |error: reqwest::Error| {
            let cause = if error.is_connect() { "is not running" } else { "does not answer" };
            let (address, detail) = (self.address, innermost(&error));
            let text = format!("the gateway on {address} {cause} ({detail}); nothing is known to be {done}");
            Failure::new(Exit::Unavailable, text)
        };
        self.runtime.block_on(async {
            let response = request.bearer_auth(&self.token).send().await.map_err(unavailable)?;
            let status = response.status();
            let body = response.text().await.map_err(unavailable)?;
            Ok((status, body))
        })
    }

    /// Lets time pass between two questions.
    pub fn pause(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }
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

/// RFC 9457, with the rows that are wrong.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ProblemJson {
    title: String,
    detail: String,
    errors: Vec<RowProblem>,
}

/// What an answer means that is no success; rows that are wrong are of this file.
pub fn refused(status: StatusCode, body: &str, file: &Path) -> Failure {
    let is_foreign = serde_json::from_str::<ProblemJson>(body).is_err();
    let exit = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::NoPermission,
        StatusCode::TOO_MANY_REQUESTS => Exit::TemporaryFailure,
        // Not our words: something else answers there.
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED if is_foreign => Exit::Software,
        status if status.is_client_error() => Exit::Data,
        _ => Exit::Unavailable,
    };
    Failure::new(exit, described(status, body, file))
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
