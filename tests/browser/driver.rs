//! Debian's chromium behind its chromedriver, one for each story.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::process::Stdio;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use futures_util::FutureExt;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Something that a page does by itself is waited for this long.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the page is shown on.
#[derive(Clone, Copy, Debug)]
pub enum Screen {
    /// 1280 wide.
    Desk,
    /// 390 wide, with touch.
    Phone,
}

impl Screen {
    pub fn width(self) -> u64 {
        match self {
            Screen::Desk => 1280,
            Screen::Phone => 390,
        }
    }
}

/// A page in a browser.
pub struct Browser {
    pub client: Client,
    log_address: String,
}

/// Runs a story in a browser of its own and closes it, however the story ends. Without chromedriver it says so and skips.
pub async fn with_browser<F: Future<Output = ()>>(screen: Screen, story: impl FnOnce(Browser) -> F) {
    let Some((mut driver, address)) = start_driver().await else {
        println!("SKIP: chromedriver not found");
        return;
    };
    let profile = tempfile::tempdir().unwrap();
    let client = ClientBuilder::new(HttpConnector::new())
        .capabilities(capabilities(screen, profile.path().to_str().unwrap()))
        .connect(&address)
        .await
        .expect("chromedriver starts a browser");
    let session = client.session_id().await.unwrap().unwrap();
    let log_address = format!("{address}/session/{session}/se/log");
    let told = AssertUnwindSafe(story(Browser { client: client.clone(), log_address })).catch_unwind().await;
    client.close().await.expect("the browser closes");
    driver.kill().await.unwrap();
    if let Err(panic) = told {
        std::panic::resume_unwind(panic);
    }
}

/// chromedriver on a port that it chooses itself, or nothing when it is not installed.
async fn start_driver() -> Option<(Child, String)> {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut driver = match command.spawn() {
        Ok(driver) => driver,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("chromedriver does not start: {error}"),
    };
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    loop {
        let line = lines.next_line().await.unwrap().expect("chromedriver names its port");
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            return Some((driver, format!("http://127.0.0.1:{}", port.trim_end_matches('.'))));
        }
    }
}

fn capabilities(screen: Screen, profile: &str) -> fantoccini::wd::Capabilities {
    let mut options = json!({"args": [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        "--window-size=1280,900", format!("--user-data-dir={profile}"),
    ]});
    match screen {
        Screen::Desk => {}
        Screen::Phone => {
            let metrics = json!({"width": screen.width(), "height": 844, "pixelRatio": 2, "mobile": true});
            options["mobileEmulation"] = json!({"deviceMetrics": metrics});
        }
    }
    let Value::Object(capabilities) = json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}})
    else {
        unreachable!("an object literal is an object")
    };
    capabilities
}

impl Browser {
    /// What a script on the page returns.
    pub async fn evaluate(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until a script returns true; nothing is reloaded meanwhile.
    pub async fn until(&self, script: &str) {
        let mut waited = Duration::ZERO;
        while self.evaluate(script).await != Value::Bool(true) {
            assert!(waited < PATIENCE, "never came true: {script}\n{}", self.client.source().await.unwrap());
            tokio::time::sleep(Duration::from_millis(50)).await;
            waited += Duration::from_millis(50);
        }
    }

    pub async fn fill(&self, selector: &str, text: &str) {
        let field = self.client.find(Locator::Css(selector)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    pub async fn click(&self, selector: &str) {
        self.client.find(Locator::Css(selector)).await.unwrap().click().await.unwrap();
    }

    /// Errors and warnings that the browser's console has shown since it was last asked.
    pub async fn complaints(&self) -> Vec<String> {
        // Fails when it is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let request = reqwest::Client::new().post(&self.log_address).json(&json!({"type": "browser"}));
        let log: Value = request.send().await.unwrap().json().await.unwrap();
        let entries = log["value"].as_array().expect("the browser's log is a list");
        let bad = entries.iter().filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        bad.map(|entry| entry["message"].to_string()).collect()
    }

    /// Keeps a picture of the page when `ANXIN_SCREENSHOTS` names a directory.
    pub async fn picture(&self, name: &str) {
        let Ok(dir) = std::env::var("ANXIN_SCREENSHOTS") else { return };
        std::fs::write(format!("{dir}/{name}.png"), self.client.screenshot().await.unwrap()).unwrap();
    }
}
