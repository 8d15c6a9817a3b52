//! `cargo demo` as a newcomer lives through it: it runs, Ctrl-C ends it, the next start goes on, and nothing stays behind.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use gateway::clock::Clock;
use harness::gateway::{free_port, program};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// As promised: within a minute punches of both kinds of terminal have their receipts.
const SHOWN_WITHIN: Duration = Duration::from_secs(60);
/// After a stop everybody may be inside already, and nobody turns round within 70 s.
const GOES_ON_WITHIN: Duration = Duration::from_secs(150);
/// Fewer than usual: each registration takes the platform's second.
const WORKERS: &str = "20";
const STOPPED_WITHIN: Duration = Duration::from_secs(3);

#[tokio::test]
async fn the_demo_stops_at_ctrl_c_goes_on_where_it_was_and_takes_its_gateway_along() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut demo = Demo::new(dir.path());

    demo.start().await;
    let first = demo.wait_for(SHOWN_WITHIN, "receipts of both kinds", Punches::are_confirmed_of_both_kinds).await;
    let status = demo.stop(Signal::INT).await;
    assert_eq!(status.code(), Some(0), "{}", demo.output());
    assert!(!dir.path().join("terminals/line").is_symlink(), "the serial line is still plugged in");

    demo.start().await;
    let old = first.ids(|_| true);
    let settled = |now: &Punches| {
        let newer = now.without(&old);
        old.is_subset(&now.ids(Punch::has_its_end)) && newer.are_confirmed_of_both_kinds()
    };
    let both =
        demo.wait_for(GOES_ON_WITHIN, "the end of old punches, and receipts of new ones of both kinds", settled).await;
    assert_eq!(both.records().len(), both.0.len(), "a terminal began to count from the start:\n{:#?}", both.records());
    assert_eq!(demo.metric("anxin_ledger_gaps").await, 0, "{}", demo.output());

    let status = demo.stop(Signal::KILL).await;
    assert_eq!(status.signal(), Some(9));
}

#[test]
fn a_taken_port_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("a bound socket").port().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(["--mqtt-port", &port, "--console-port", &free_port().to_string(), "--dir"])
        .arg(dir.path())
        .output()
        .expect("the demo starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&port) && said.contains("--mqtt-port"), "{said}");
}

/// A punch as the API shows it.
struct Punch(Value);

impl Punch {
    fn id(&self) -> String {
        self.0["id"].as_str().expect("a punch has an id").to_owned()
    }

    fn is_of(&self, gate: &str) -> bool {
        self.0["terminal"].as_str().is_some_and(|terminal| terminal.starts_with(gate))
    }

    fn is_confirmed(&self) -> bool {
        self.0["uploads"][0]["state"] == "confirmed"
    }

    /// Nothing more will happen to it by itself.
    fn has_its_end(&self) -> bool {
        match self.0["verdict"]["kind"].as_str() {
            Some("verified") => self.is_confirmed(),
            other => other.is_some(),
        }
    }
}

struct Punches(Vec<Punch>);

impl Punches {
    /// Readers are at the south gate, face terminals at the north gate.
    fn are_confirmed_of_both_kinds(&self) -> bool {
        let confirmed = |gate| self.0.iter().any(|punch| punch.is_of(gate) && punch.is_confirmed());
        confirmed("south-") && confirmed("north-")
    }

    fn ids(&self, wanted: impl Fn(&Punch) -> bool) -> BTreeSet<String> {
        self.0.iter().filter(|punch| wanted(punch)).map(Punch::id).collect()
    }

    /// Each terminal's own record numbers.
    fn records(&self) -> BTreeSet<String> {
        self.0.iter().map(|punch| format!("{} {}", punch.0["terminal"], punch.0["record"])).collect()
    }

    fn without(&self, ids: &BTreeSet<String>) -> Punches {
        Punches(self.0.iter().filter(|punch| !ids.contains(&punch.id())).map(|punch| Punch(punch.0.clone())).collect())
    }
}

/// The demo as a process; killed when dropped, its gateway with it.
struct Demo<'a> {
    dir: &'a Path,
    console_port: u16,
    mqtt_port: u16,
    child: Option<Child>,
    http: reqwest::Client,
    clock: Clock,
}

impl Demo<'_> {
    fn new(dir: &Path) -> Demo<'_> {
        // Another part of the program may have chosen a provider before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build();
        Demo {
            dir,
            console_port: free_port(),
            mqtt_port: free_port(),
            child: None,
            http: http.expect("a client without special wishes can be built"),
            clock: Clock::system(),
        }
    }

    async fn start(&mut self) {
        let program = tokio::task::spawn_blocking(program).await.expect("the gateway is found or built");
        let output = File::options().create(true).append(true).open(self.output_file()).expect("a file");
        self.child = Command::new(env!("CARGO_BIN_EXE_demo"))
            .args(["--console-port", &self.console_port.to_string(), "--mqtt-port", &self.mqtt_port.to_string()])
            .args(["--workers", WORKERS, "--dir"])
            .arg(self.dir)
            .env("ANXIN_GATEWAY_BIN", program)
            .stdin(Stdio::null())
            .stderr(output.try_clone().expect("a file can be shared"))
            .stdout(output)
            .spawn()
            .map(Some)
            .expect("the demo starts");
    }

    /// Sends the signal and waits until the demo and its gateway are gone.
    async fn stop(&mut self, signal: Signal) -> ExitStatus {
        let began = self.clock.instant();
        let pid = Pid::from_child(self.child.as_ref().expect("the demo runs"));
        kill_process(pid, signal).expect("the process is there");
        loop {
            let ended = self.child.as_mut().expect("the demo runs").try_wait().expect("a child can be asked");
            let ports = [self.console_port, self.mqtt_port];
            let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
            if let Some(status) = ended.filter(|_| ports.iter().all(is_free)) {
                self.child = None;
                return status;
            }
            let waited = self.clock.instant() - began;
            assert!(waited < STOPPED_WITHIN, "after {waited:?}: demo {ended:?}, ports {ports:?}\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn wait_for(&mut self, limit: Duration, what: &str, wanted: impl Fn(&Punches) -> bool) -> Punches {
        let began = self.clock.instant();
        loop {
            let ended = self.child.as_mut().expect("the demo runs").try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "the demo ended: {ended:?}\n{}", self.output());
            let punches = self.punches().await;
            if punches.as_ref().is_some_and(&wanted) {
                return punches.expect("it was there a line ago");
            }
            let waited = self.clock.instant() - began;
            let shown =
                punches.map(|punches| punches.0.into_iter().map(|punch| punch.0.to_string()).collect::<Vec<_>>());
            assert!(waited < limit, "no {what} after {waited:?}: {shown:#?}\n{}", self.output());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What the gateway's API says, when it answers.
    async fn punches(&self) -> Option<Punches> {
        let token = std::fs::read_to_string(self.dir.join("gateway/data/api-token")).ok()?;
        let url = format!("http://127.0.0.1:{}/api/v1/punches?limit=500", self.console_port);
        let answer = self.http.get(url).bearer_auth(token.trim()).send().await.ok()?;
        let text = answer.error_for_status().ok()?.text().await.ok()?;
        let body: Value = serde_json::from_str(&text).expect("the API speaks JSON");
        Some(Punches(body["punches"].as_array()?.iter().cloned().map(Punch).collect()))
    }

    async fn metric(&self, name: &str) -> u64 {
        let url = format!("http://127.0.0.1:{}/metrics", self.console_port);
        let answer = self.http.get(url).send().await.expect("the gateway answers");
        let text = answer.text().await.expect("the metrics are text");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("/metrics has no {name}\n{text}"))
    }

    fn output_file(&self) -> std::path::PathBuf {
        self.dir.join("output.txt")
    }

    fn output(&self) -> String {
        let read = |file: &Path| std::fs::read_to_string(file).unwrap_or_default();
        format!(
            "--- the demo said ---\n{}\n--- the gateway said ---\n{}",
            read(&self.output_file()),
            read(&self.dir.join("gateway/gateway.log"))
        )
    }
}

impl Drop for Demo<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Dropping must not panic; a child that is gone already needs no killing.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
