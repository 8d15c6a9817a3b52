//! The real gateway as a process: started, asked, killed.
//!
//! Configuration, data and log live in a temporary directory that goes with it, or in one that stays. When a test fails,
//! the end of the gateway's log is printed. A dropped gateway is killed.

mod binary;
mod setup;
mod vitals;

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use ::gateway::clock::Clock;
use reqwest::{Method, StatusCode};
use serde_json::Value;

pub use setup::{ReaderSetup, Setup, Site, free_port};
pub use vitals::Vitals;

/// A start that takes longer has failed; a gateway with a long ledger on a slow disk is given time.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The gateway promises to be gone within this time when it is told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(10);
const LOG_TAIL_LINES: usize = 80;

/// The gateway's program, built when it is missing or older than its sources.
pub fn program() -> &'static Path {
    binary::path()
}

/// A gateway that runs, or that was stopped and can be started again on the same data.
pub struct GatewayProcess {
    site: Site,
    child: Option<Child>,
    http: reqwest::Client,
    start_took: Duration,
}

impl GatewayProcess {
    /// Starts a gateway and waits until `/healthz` says that intake is open.
    pub async fn start(site: Site) -> GatewayProcess {
        GatewayProcess::try_start(site).await.unwrap_or_else(|trouble| panic!("{trouble}"))
    }

    /// The same; gives what is wrong, with the end of the log, when it does not come up.
    pub async fn try_start(site: Site) -> Result<GatewayProcess, String> {
        let mut gateway = GatewayProcess { site, child: None, http: http_client(), start_took: Duration::ZERO };
        gateway.try_start_again().await?;
        Ok(gateway)
    }

    /// Starts it again on the same configuration and data.
    pub async fn start_again(&mut self) {
        self.try_start_again().await.unwrap_or_else(|trouble| panic!("{trouble}"));
    }

    async fn try_start_again(&mut self) -> Result<(), String> {
        assert!(self.child.is_none(), "the gateway runs already");
        let program = tokio::task::spawn_blocking(binary::find).await.expect("looking for it does not panic")?;
        let clock = Clock::system();
        let began = clock.instant();
        self.child = Some(self.spawn(program));
        while !self.is_healthy().await {
            if let Some(status) = self.exited() {
                self.child = None;
                return Err(format!("the gateway ended while starting: {status}\n{}", self.log_tail()));
            }
            let waited = clock.instant() - began;
            if waited > START_LIMIT {
                return Err(format!("the gateway was not healthy after {waited:?}\n{}", self.log_tail()));
            }
            tokio::time::sleep(POLL).await;
        }
        self.start_took = clock.instant() - began;
        Ok(())
    }

    fn spawn(&self, program: &Path) -> Child {
        let log = self.open_log();
        let errors = log.try_clone().expect("a file can be shared");
        let mut command = match &self.site.starter {
            Some(starter) => {
                let mut command = self.command_of(&starter.program);
                command.args(&starter.words).arg(program);
                command
            }
            None => self.command_of(program),
        };
        command
            .args(["run", "--config"])
            .arg(&self.site.config)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
    }

    fn open_log(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.site.log()).expect("the temporary directory takes files")
    }

    fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.site.dir.path()).env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
        command.env("NO_COLOR", "1").envs(self.site.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs another command of the gateway's program in the site's directory and gives what it printed.
    pub async fn command(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::from(self.command_of(binary::path()));
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let finished = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
        finished.unwrap_or_else(|_| panic!("{arguments:?} did not end in a minute")).expect("the program starts")
    }

    // --- stopping ---

    /// SIGKILL: as in a power cut, except that what was written is not lost.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("an unwaited child can be killed");
            child.wait().expect("a killed child ends");
        }
    }

    /// SIGTERM: the gateway ends by itself within three seconds, without an error.
    pub async fn terminate(&mut self) {
        self.try_terminate(STOP_LIMIT).await.unwrap_or_else(|trouble| panic!("{trouble}"));
    }

    /// The same; gives what is wrong, with the end of the log, when it does not end in this time or not well.
    pub async fn try_terminate(&mut self, limit: Duration) -> Result<(), String> {
        let child = self.child.as_ref().expect("the gateway runs");
        let clock = Clock::system();
        let told = clock.instant();
        rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM)
            .expect("an unwaited child can be told");
        let status = loop {
            if let Some(status) = self.exited() {
                break status;
            }
            let waited = clock.instant() - told;
            if waited > limit {
                return Err(format!("the gateway still runs {waited:?} after SIGTERM\n{}", self.log_tail()));
            }
            tokio::time::sleep(POLL).await;
        };
        self.child = None;
        match status.success() {
            true => Ok(()),
            false => Err(format!("the gateway ended with {status} after SIGTERM\n{}", self.log_tail())),
        }
    }

    /// How the process ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("a child can be asked")
    }

    // --- asking ---

    /// Whether `/healthz` answers 200 now.
    pub async fn is_healthy(&self) -> bool {
        let request = self.http.get(self.url("/healthz")).timeout(Duration::from_secs(2));
        request.send().await.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    /// Asks with the bearer token. A path without a leading slash is below `/api/v1/`.
    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        self.request(Method::GET, path, None).await
    }

    /// The JSON of a successful answer.
    pub async fn get_json(&self, path: &str) -> Value {
        let (status, text) = self.get(path).await;
        assert!(status.is_success(), "GET {path}: {status}\n{text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("GET {path}: {error}\n{text}"))
    }

    /// Posts a JSON body.
    pub async fn post_json(&self, path: &str, body: &Value) -> (StatusCode, String) {
        self.request(Method::POST, path, Some(("application/json", body.to_string()))).await
    }

    /// Posts a CSV body, for example a roster to `workers/import`.
    pub async fn post_csv(&self, path: &str, csv: &str) -> (StatusCode, String) {
        self.request(Method::POST, path, Some(("text/csv", csv.to_owned()))).await
    }

    /// Imports a roster that must be right.
    pub async fn import_roster(&self, csv: &str) {
        let (status, text) = self.post_csv("workers/import", csv).await;
        assert!(status.is_success(), "roster import: {status}\n{text}");
    }

    async fn request(&self, method: Method, path: &str, body: Option<(&str, String)>) -> (StatusCode, String) {
        let answer = self.ask(method, path, body).await;
        answer.unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log_tail()))
    }

    /// The same for whoever does not want to fail with the gateway.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, String)>,
    ) -> reqwest::Result<(StatusCode, String)> {
        let mut request = self.http.request(method, self.url(path)).bearer_auth(self.token());
        if let Some((kind, text)) = body {
            request = request.header("content-type", kind).body(text);
        }
        let answer = request.send().await?;
        Ok((answer.status(), answer.text().await?))
    }

    /// Asks again and again until the answer is as wanted; fails with the last answer after `limit`.
    pub async fn wait_for(&self, path: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let clock = Clock::system();
        let began = clock.instant();
        loop {
            let answer = self.get_json(path).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(clock.instant() - began < limit, "not in {limit:?}: GET {path} last answered\n{answer:#}");
            tokio::time::sleep(POLL * 5).await;
        }
    }

    fn url(&self, path: &str) -> String {
        let port = self.site.console_port;
        match path.starts_with('/') {
            true => format!("http://127.0.0.1:{port}{path}"),
            false => format!("http://127.0.0.1:{port}/api/v1/{path}"),
        }
    }

    /// The bearer token that the gateway made.
    pub fn token(&self) -> String {
        let file = self.data_dir().join("api-token");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        text.trim().to_owned()
    }

    // --- where it is and what it costs ---

    pub fn console_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.site.console_port))
    }

    /// Where the embedded endpoint listens.
    pub fn mqtt_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.site.mqtt_port))
    }

    pub fn data_dir(&self) -> PathBuf {
        self.site.data_dir()
    }

    pub fn config_file(&self) -> &Path {
        &self.site.config
    }

    /// From the start of the process to the first healthy answer, at the last start.
    pub fn start_took(&self) -> Duration {
        self.start_took
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Memory, processor time and bytes written of the running process.
    pub fn vitals(&self) -> Vitals {
        self.pid().and_then(Vitals::of).expect("the gateway runs")
    }

    /// The end of what the gateway has printed.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.site.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_TAIL_LINES);
        format!("--- the gateway's log, last of {} lines ---\n{}\n---", lines.len(), lines[from..].join("\n"))
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        if let Some(mut child) = self.child.take() {
            // Dropping must not panic; a child that is gone already needs no killing.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// HTTP without connection reuse over restarts of the server: an idle connection of the last run would fail a request.
fn http_client() -> reqwest::Client {
    static CRYPTO: OnceLock<()> = OnceLock::new();
    CRYPTO.get_or_init(|| {
        // Another part of the program may have chosen a provider before.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .no_proxy()
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client without special wishes can be built")
}
