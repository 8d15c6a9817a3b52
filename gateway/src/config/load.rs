//! From a file to a [`Config`] or to all its problems.

use std::path::Path;

use sha2::{Digest, Sha256};
use toml::de::DeTable;

use super::reader::{Report, Section};
use super::{Config, MqttTransport, Problem, mqtt, platform, site, store, terminals};

impl Config {
    /// Reads and checks a file; on failure, every problem at once.
    pub fn load(file: &Path) -> Result<Config, Vec<Problem>> {
        let bytes = std::fs::read(file).map_err(|error| {
            vec![whole_file(file, format!("cannot be read: {error}"), "name a readable file with --config")]
        })?;
        let text = String::from_utf8(bytes)
            .map_err(|_| vec![whole_file(file, "is not UTF-8".to_owned(), "save it as UTF-8 text")])?;
        Config::parse(&text, file)
    }

    /// Reads and checks text as if it stood in `file` (relative paths are relative to it).
    pub fn parse(text: &str, file: &Path) -> Result<Config, Vec<Problem>> {
        // Editors on Windows begin a file with a byte order mark.
        let toml = text.strip_prefix('\u{feff}').unwrap_or(text);
        let report = Report::new(file, toml);
        let table = DeTable::parse(toml).map_err(|error| vec![syntax_problem(&report, file, &error)])?;
        let mut root = Section::root(&report, table.get_ref());
        let config = read(&mut root, file, Sha256::digest(text).into());
        root.finish();
        match report.into_problems() {
            problems if problems.is_empty() => Ok(config),
            problems => Err(problems),
        }
    }

    /// The built-in defaults: embedded endpoint on 127.0.0.1:1883, console on 127.0.0.1:8080, data in `./anxin-data`,
    /// no platform.
    pub fn builtin() -> Config {
        let mut config = Config::parse("", Path::new("gateway.toml")).expect("an empty file has nothing wrong in it");
        config.file = None;
        config
    }
}

/// Reads every section. What is wrong goes to the report; the configuration counts only when the report is empty.
fn read(root: &mut Section<'_>, file: &Path, hash: [u8; 32]) -> Config {
    let data_dir = root.text("data_dir").unwrap_or_else(|| "anxin-data".to_owned());
    let data_dir = root.resolve(&data_dir);
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let site = site::site(root.section("site"));
    let mut names = terminals::Names::default();
    let config = Config {
        file: Some(file.to_owned()),
        hash,
        store: store::store(root.section("store"), &data_dir, credentials.as_deref()),
        data_dir,
        console: site::console(root.section("console")),
        mqtt: mqtt::mqtt(root.section("mqtt")),
        terminals: terminals::network(root.sections("terminal"), &mut names),
        lines: terminals::lines(root.sections("line"), &mut names),
        employers: site::employers(root.sections("employer")),
        verify: site::verify(root.section("verify"), site.utc_offset),
        platforms: platform::platforms(root.sections("platform"), &site),
        site,
    };
    check_ports(root, &config);
    config
}

fn check_ports(root: &mut Section<'_>, config: &Config) {
    let MqttTransport::Embedded { listen, .. } = &config.mqtt.transport else { return };
    if listen.port() != 0 && *listen == config.console.listen {
        let problem = "is the console's address too";
        root.problem("mqtt.listen", Some(listen.to_string()), problem, "give [mqtt] and [console] different ports");
    }
}

fn whole_file(file: &Path, problem: String, remedy: &str) -> Problem {
    Problem { file: file.to_owned(), line: None, key: String::new(), value: None, problem, remedy: remedy.to_owned() }
}

/// Where the text stops being TOML. Nothing after it is looked at, and the text itself is not repeated.
fn syntax_problem(report: &Report<'_>, file: &Path, error: &toml::de::Error) -> Problem {
    Problem {
        line: error.span().map(|span| report.line_at(span.start)),
        ..whole_file(
            file,
            format!("is not TOML: {}", error.message()),
            "correct this line; then the rest is checked too",
        )
    }
}
