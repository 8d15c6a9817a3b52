//! What people are told when the configuration or the roster is wrong: everything at once, where it stands, and what to
//! do; and by the exit code of the real program.

use std::path::Path;
use std::process::Output;

use harness::gateway::{GatewayProcess, Setup};
use harness::workers::{InventedSite, csv};

/// Exit codes of sysexits(3).
const DATA: i32 = 65;
const NO_INPUT: i32 = 66;
const UNAVAILABLE: i32 = 69;
const NO_PERMISSION: i32 = 77;
const CONFIG: i32 = 78;

/// A site as somebody in a hurry writes it.
const WRONG: &str = r#"data_dir = 7

[site]
name = "北区1号楼"
utc_offset = "Beijing"

[console]
listen = "127.0.0.1"

[mqtt]
listen = "127.0.0.1:70000"
pasword_file = "SECRET-1"

[[terminal]]
id = "north in"
protocol = "mqtt-face"
serial = 1306612
direction = "inwards"

[[line]]
path = "/dev/ttyUSB0"
protocol = "reader"
terminals = [ { id = "south-in", address = 0, serial = "R0001", direction = "in", key_file = "nowhere.key" } ]

[[employer]]
name = "昌建总承包"
credit_code = "91650000MA0000000L"
corp_type = "009"

[verify]
min_similarity = 101

[[platform]]
name = "national"
profile = "mohurd"
endpoint = "ftp://127.0.0.1/open.api"
appid = "demo-app"
secret_file = "national.secret"
batch = 21
"#;

/// Line, key, what is shown of the value, and a word of what to do about it.
const MISTAKES: [(usize, &str, &str, &str); 15] = [
    (1, "data_dir", "", "text"),
    (5, "site.utc_offset", "Beijing", "+08:00"),
    (8, "console.listen", "127.0.0.1", "port"),
    (11, "mqtt.listen", "127.0.0.1:70000", "port"),
    (12, "mqtt.pasword_file", "", "password_file"),
    (15, "terminal[1].id", "north in", "letters"),
    (17, "terminal[1].serial", "", "quotes"),
    (18, "terminal[1].direction", "inwards", "alternate"),
    (23, "line[1].terminals[1].address", "0", "247"),
    (23, "line[1].terminals[1].key_file", "nowhere.key", "file"),
    (27, "employer[1].credit_code", "91650000MA0000000L", "licence"),
    (31, "verify.min_similarity", "101", "100"),
    (33, "platform[1].project_code", "", "project_code"),
    (36, "platform[1].endpoint", "ftp://127.0.0.1/open.api", "address that the platform gave"),
    (39, "platform[1].batch", "21", "20"),
];

#[tokio::test]
async fn a_wrong_configuration_names_every_mistake_at_once_and_nothing_starts() {
    let bench = Bench::new("wrong-config").await;
    bench.file("national.secret", "1234567890abcdef");
    let config = bench.file("wrong.toml", WRONG);
    for command in ["check", "run"] {
        let output = bench.gateway.command(&[command, "--config", &config]).await;
        assert_eq!(output.status.code(), Some(CONFIG), "{command}: {output:?}");
        let said = stderr(&output);
        for (line, key, value, remedy) in MISTAKES {
            let place = format!("{config}:{line}: `{key}`");
            let problem = said.lines().find(|text| text.starts_with(&place));
            let problem = problem.unwrap_or_else(|| panic!("{command} does not name {place} in\n{said}"));
            let Some((what, todo)) = problem.split_once("; ") else { panic!("no remedy: {problem}") };
            assert!(what.contains(value) && todo.contains(remedy), "{remedy:?} is not said: {problem}");
        }
        assert_eq!(said.lines().filter(|text| text.starts_with(&config)).count(), MISTAKES.len(), "{said}");
        assert!(said.contains(&format!("{} problems", MISTAKES.len())), "{said}");
        assert!(!said.contains("SECRET"), "{said}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[tokio::test]
async fn text_that_is_no_toml_is_refused_with_its_line() {
    let bench = Bench::new("no-toml").await;
    let config = bench.file("broken.toml", "data_dir = \"x\"\n[site\nname = 5\n");
    for command in ["check", "run"] {
        let output = bench.gateway.command(&[command, "--config", &config]).await;
        assert_eq!(output.status.code(), Some(CONFIG), "{output:?}");
        assert!(stderr(&output).contains(&format!("{config}:2: is not TOML: ")), "{output:?}");
    }
    let missing = bench.path("missing.toml");
    let output = bench.gateway.command(&["check", "--config", &missing]).await;
    assert_eq!(output.status.code(), Some(CONFIG), "{output:?}");
    assert!(stderr(&output).contains(&missing) && stderr(&output).contains("--config"), "{output:?}");
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_named_and_never_shown() {
    let bench = Bench::new("secrets").await;
    let platform = |file: &str| {
        format!(
            "[site]\nproject_code = \"1\"\n[[platform]]\nname = \"national\"\nprofile = \"mohurd\"\n\
             endpoint = \"http://127.0.0.1:9/\"\nappid = \"demo\"\nsecret_file = \"{file}\"\n"
        )
    };
    std::fs::create_dir(bench.path("directory.secret")).expect("the temporary directory takes directories");
    bench.file("half.secret", "0123456");
    bench.file("empty.secret", "\n");
    bench.file("right.secret", "1234567890abcdef\n");
    let wrong = [
        ("missing.secret", "= \"missing.secret\" cannot be used as a file: No such file"),
        ("directory.secret", "= \"directory.secret\" cannot be used as a file"),
        ("half.secret", "a secret of 7 bytes"),
        ("empty.secret", "empty"),
    ];
    for (file, word) in wrong {
        let config = bench.file("gateway-secret.toml", &platform(file));
        let output = bench.gateway.command(&["check", "--config", &config]).await;
        assert_eq!(output.status.code(), Some(CONFIG), "{file}: {output:?}");
        let said = stderr(&output);
        assert!(said.contains(&format!("{config}:8: `platform[1].secret_file`")), "{said}");
        assert!(said.contains(word), "{word:?} is not said of {file}: {said}");
        assert!(!said.contains("0123456"), "{said}");
    }
    let config = bench.file("gateway-secret.toml", &platform("right.secret"));
    let output = bench.gateway.command(&["check", "--config", &config]).await;
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn one_wrong_row_of_a_roster_is_named_and_no_row_is_imported() {
    let bench = Bench::new("wrong-row").await;
    let right = csv(&bench.site.workers);
    let roster = bench.file("right.csv", &right);
    let mut lines: Vec<String> = right.lines().map(str::to_owned).collect();
    lines[2] = lines[2].replace(&bench.site.workers[1].id_number, "110101196602022222");
    lines[4] = lines[4].replace(",2026-01-05,", ",5.1.2026,");
    let wrong = bench.file("wrong.csv", &(lines.join("\n") + "\n"));

    let output = bench.import(&wrong).await;
    assert_eq!(output.status.code(), Some(DATA), "{output:?}");
    let said = stderr(&output);
    assert!(said.contains("nothing was imported"), "{said}");
    let row = |line: usize, column: &str, worker: &str| {
        let wanted = format!("{wrong}: line {line}: {worker}: {column}");
        assert!(said.lines().any(|text| text.starts_with(&wanted)), "{wanted} is not in\n{said}");
    };
    row(3, "id_number", "W00002");
    row(5, "entered_on", "W00004");
    assert_eq!(said.lines().filter(|text| text.starts_with(&wrong)).count(), 2, "{said}");
    assert!(!said.contains("110101196602022222"), "an ID number is shown: {said}");
    assert_eq!(bench.workers().await, 0);

    let headless = bench.file("headless.csv", &right.lines().skip(1).map(|row| format!("{row}\n")).collect::<String>());
    let output = bench.import(&headless).await;
    assert_eq!(output.status.code(), Some(DATA), "{output:?}");
    assert!(stderr(&output).contains("worker_id"), "{output:?}");
    let output = bench.import(&bench.path("missing.csv")).await;
    assert_eq!(output.status.code(), Some(NO_INPUT), "{output:?}");
    assert_eq!(bench.workers().await, 0);

    let output = bench.import(&roster).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(bench.workers().await, 5);
}

#[tokio::test]
async fn an_import_without_a_gateway_or_with_a_wrong_token_says_so() {
    let mut bench = Bench::new("no-gateway").await;
    let roster = bench.file("roster.csv", &csv(&bench.site.workers));
    let token = bench.gateway.token();
    let token_file = bench.gateway.data_dir().join("api-token");

    std::fs::write(&token_file, "0000000000000000000000000000000000000000").expect("the data directory takes files");
    let output = bench.import(&roster).await;
    assert_eq!(output.status.code(), Some(NO_PERMISSION), "{output:?}");
    assert!(stderr(&output).contains("token"), "{output:?}");
    std::fs::remove_file(&token_file).expect("the file is there");
    let output = bench.import(&roster).await;
    assert_eq!(output.status.code(), Some(NO_PERMISSION), "{output:?}");
    assert!(stderr(&output).contains("api-token"), "{output:?}");
    std::fs::write(&token_file, &token).expect("the data directory takes files");
    assert_eq!(bench.workers().await, 0);

    bench.gateway.terminate().await;
    let output = bench.import(&roster).await;
    assert_eq!(output.status.code(), Some(UNAVAILABLE), "{output:?}");
    let said = stderr(&output);
    let address = bench.gateway.console_address().to_string();
    assert!(said.contains("is not running") && said.contains(&address), "{said}");
    bench.gateway.start_again().await;
    assert_eq!(bench.workers().await, 0);
    let output = bench.import(&roster).await;
    assert!(output.status.success(), "{output:?}");
}

/// A running gateway with employers, and a directory for files.
struct Bench {
    gateway: GatewayProcess,
    site: InventedSite,
}

impl Bench {
    async fn new(story: &str) -> Bench {
        let site = InventedSite::new(5, 2);
        Bench { gateway: Setup::new(story).employers(&site.employers).start().await, site }
    }

    fn path(&self, name: &str) -> String {
        text(&self.gateway.config_file().with_file_name(name))
    }

    /// Writes a file and gives its path.
    fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).expect("the temporary directory takes files");
        path
    }

    async fn import(&self, file: &str) -> Output {
        let config = text(self.gateway.config_file());
        self.gateway.command(&["roster", "import", "--config", &config, file]).await
    }

    async fn workers(&self) -> usize {
        self.gateway.get_json("workers").await["workers"].as_array().expect("a list").len()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> String {
    path.to_str().expect("temporary paths are UTF-8").to_owned()
}
