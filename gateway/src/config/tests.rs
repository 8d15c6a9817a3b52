//! Configurations as installers write them, and what they are told.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::*;

const WHOLE: &str = include_str!("../../../deploy/gateway.example.toml");

#[test]
fn the_built_in_defaults_are_those_of_the_manual() {
    let config = Config::builtin();
    assert_eq!(config.file, None);
    assert_eq!(config.data_dir, Path::new("anxin-data"));
    assert_eq!(config.console.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.console.token_file, Path::new("api-token"));
    assert!(config.console.open_overview);
    let MqttTransport::Embedded { listen, trust_client_id, password } = config.mqtt.transport else {
        panic!("embedded")
    };
    assert_eq!((listen.to_string().as_str(), trust_client_id, password), ("127.0.0.1:1883", true, None));
    assert_eq!(config.mqtt.topic_prefixes, ["mqtt/face"]);
    assert_eq!(config.site.utc_offset, Offset::constant(8));
    assert!(config.platforms.is_empty() && config.terminals.is_empty() && config.lines.is_empty());
    assert_eq!(config.verify.duplicate_window, Duration::from_secs(60));
}

#[test]
fn the_example_is_right_once_its_secrets_exist() {
    let site = Site::with_secrets();
    let config = site.parse(WHOLE).unwrap_or_else(|problems| panic!("{}", printed(&problems)));
    assert_eq!(config.data_dir, Path::new("/var/lib/anxin"));
    assert_eq!(config.terminals.len(), 2);
    assert_eq!(config.lines.iter().map(|line| line.baud).collect::<Vec<_>>(), [115_200, 9_600, 9_600]);
    assert_eq!(config.lines[0].terminals[1].address, Some(2));
    assert_eq!(config.lines[0].terminals[0].key, Some(Key128([0x11; 16])));
    assert_eq!(config.employers[0].corp_type, "009");
    let platform = &config.platforms[0];
    assert_eq!(platform.secret, Secret("1234567890abcdef".to_owned()), "the line end is not part of it");
    assert_eq!(platform.project_code, "3300000000000001", "the site's");
    assert_eq!(config.hash, <[u8; 32]>::from(Sha256::digest(WHOLE)));
}

#[test]
fn every_default_that_the_example_shows_is_the_real_one() {
    let site = Site::with_secrets();
    let plain = site.parse(WHOLE).unwrap();
    // Take the comment from every "# key = value" except those that choose something else than the default.
    let others = [
        "broker",
        "client_id",
        "username",
        "password_file",
        "corp_key_file",
        "upload_from",
        "trust_client_id",
        "key_file",
        "budget_mib",
        "settled_on",
    ];
    let shown: String = WHOLE.lines().map(|line| uncommented(line, &others) + "\n").collect();
    let explicit = site.parse(&shown).unwrap_or_else(|problems| panic!("{}", printed(&problems)));
    assert!(
        shown.lines().filter(|line| !line.starts_with('#')).count()
            > WHOLE.lines().filter(|line| !line.starts_with('#')).count() + 20
    );
    assert_eq!(without_hash(explicit), without_hash(plain));
}

#[test]
fn every_optional_key_of_the_example_is_known() {
    let site = Site::with_secrets();
    let shown: String =
        WHOLE.lines().map(|line| uncommented(line, &["broker", "client_id", "username"]) + "\n").collect();
    let shown = shown.replacen("password_file = \"broker.password\"", "", 1);
    site.parse(&shown).unwrap_or_else(|problems| panic!("{}", printed(&problems)));
}

#[test]
fn one_run_names_every_problem_in_the_order_of_the_file() {
    let site = Site::with_secrets();
    let problems = site.problems(
        r#"data_dir = 7
[site]
utc_offset = "Beijing"
[mqtt]
listen = "localhost"
[[terminal]]
id = "north in"
protocol = "telepathy"
serial = "1"
direction = "inwards"
[[employer]]
name = "A"
credit_code = "91650000MA0000000L"
corp_type = "9"
[[platform]]
name = "national"
profile = "mohurd"
endpoint = "ftp://x/"
appid = "a"
secret_file = "nowhere.secret"
batch = 21
"#,
    );
    let keys: Vec<(usize, &str)> = problems.iter().map(|p| (p.line.unwrap(), p.key.as_str())).collect();
    assert_eq!(
        keys,
        [
            (1, "data_dir"),
            (3, "site.utc_offset"),
            (5, "mqtt.listen"),
            (7, "terminal[1].id"),
            (8, "terminal[1].protocol"),
            (10, "terminal[1].direction"),
            (13, "employer[1].credit_code"),
            (14, "employer[1].corp_type"),
            (15, "platform[1].project_code"),
            (18, "platform[1].endpoint"),
            (20, "platform[1].secret_file"),
            (21, "platform[1].batch"),
        ],
        "{}",
        printed(&problems)
    );
    assert!(problems.iter().all(|p| !p.problem.is_empty() && !p.remedy.is_empty()));
}

#[test]
fn a_problem_reads_like_a_sentence() {
    let problem = only(Site::empty().problems("[verify]\nmin_similarity = 101\n"));
    let text = problem.to_string();
    assert!(
        text.ends_with(
            "gateway.toml:2: `verify.min_similarity` = \"101\" is out of range; write a number from 0 to 100"
        ),
        "{text}"
    );
}

/// One configuration per mistake: what stands in the file, the key that is named, and a word of the explanation.
#[test]
fn each_mistake_is_named() {
    let terminal = |rest: &str| {
        format!("[[terminal]]\nid = \"a\"\nprotocol = \"mqtt-face\"\nserial = \"1\"\ndirection = \"in\"\n{rest}")
    };
    let line = |protocol: &str, terminals: &str| {
        format!("[[line]]\npath = \"/dev/x\"\nprotocol = \"{protocol}\"\nterminals = [ {terminals} ]\n")
    };
    let keyed = "{ id = \"a\", serial = \"1\", direction = \"in\", address = 1, key_file = \"r0001.key\" }";
    let platform = |rest: &str| {
        format!(
            "[site]\nproject_code = \"1\"\n[[platform]]\nname = \"n\"\nprofile = \"mohurd\"\nendpoint = \"http://h/\"\nappid = \"a\"\nsecret_file = \"national.secret\"\n{rest}"
        )
    };
    let cases: Vec<(String, &str, &str)> = vec![
        ("[sit]\n".into(), "sit", "did you mean `site`"),
        ("site = 1".into(), "site", "TOML integer"),
        ("terminal = 1".into(), "terminal", "[[terminal]]"),
        ("terminal = [1]".into(), "terminal", "[[terminal]]"),
        ("data_dir = \"\"".into(), "data_dir", "empty"),
        ("[console]\nlisten = \"8080\"".into(), "console.listen", "127.0.0.1:8080"),
        ("[console]\nopen_overview = \"yes\"".into(), "console.open_overview", "true or false"),
        ("[mqtt]\nlisten = \"127.0.0.1:8080\"".into(), "mqtt.listen", "console"),
        ("[mqtt]\nlisten = \"127.0.0.1:1\"\nbroker = \"mqtt://h\"".into(), "mqtt.listen", "broker"),
        ("[mqtt]\nbroker = \"http://h\"".into(), "mqtt.broker", "mqtt://"),
        ("[mqtt]\nbroker = \"mqtt://h\"\ntrust_client_id = true".into(), "mqtt.trust_client_id", "embedded"),
        ("[mqtt]\nusername = \"x\"".into(), "mqtt.username", "no `broker`"),
        ("[mqtt]\ntopic_prefixes = []".into(), "mqtt.topic_prefixes", "empty"),
        ("[mqtt]\ntopic_prefixes = [\"mqtt/+\"]".into(), "mqtt.topic_prefixes", "wildcard"),
        ("[mqtt]\ntopic_prefixes = \"mqtt/face\"".into(), "mqtt.topic_prefixes", "list"),
        ("[mqtt]\nmax_packet_kib = 1".into(), "mqtt.max_packet_kib", "from 64"),
        ("[mqtt]\npassword = \"hunter2\"".into(), "mqtt.password", "password_file"),
        ("[mqtt]\npassword_file = \"nowhere.password\"".into(), "mqtt.password_file", "cannot be used as a file"),
        (terminal("").replace("mqtt-face", "isapi"), "terminal[1].protocol", "not supported by this version"),
        (terminal("").replace("mqtt-face", "smoke"), "terminal[1].protocol", "mqtt-face"),
        (terminal("").replace("serial = \"1\"", ""), "terminal[1].serial", "missing"),
        (terminal("").replace("serial = \"1\"", "serial = 1306612"), "terminal[1].serial", "double quotes"),
        (terminal("").replace("serial = \"1\"", "serial = \"1/2\""), "terminal[1].serial", "label"),
        (terminal("").replace("direction = \"in\"", ""), "terminal[1].direction", "missing"),
        (terminal("adress = 1"), "terminal[1].adress", "known here"),
        (terminal(&terminal("").replace("\"1\"", "\"2\"")), "terminal[2].id", "terminal[1].id"),
        (terminal(&terminal("").replace("\"a\"", "\"b\"")), "terminal[2].serial", "terminal[1].serial"),
        (
            terminal(&line("reader", &keyed.replace("\"a\"", "\"b\""))),
            "line[1].terminals[1].serial",
            "terminal[1].serial",
        ),
        (line("osdp", keyed), "line[1].protocol", "not supported by this version"),
        (line("reader", &keyed.replace("address = 1, ", "")), "line[1].terminals[1].address", "missing"),
        (line("reader", &keyed.replace("address = 1", "address = 0")), "line[1].terminals[1].address", "from 1"),
        (line("reader", &keyed.replace(", key_file = \"r0001.key\"", "")), "line[1].terminals[1].key_file", "missing"),
        (
            line("reader", &keyed.replace("r0001.key", "national.secret")),
            "line[1].terminals[1].key_file",
            "32 hex digits",
        ),
        (
            line(
                "reader",
                &format!("{keyed}, {}", keyed.replace("\"a\"", "\"b\"").replace("serial = \"1\"", "serial = \"2\"")),
            ),
            "line[1].terminals[2].address",
            "line[1].terminals[1].address",
        ),
        (
            line("ascii", &keyed.replace(", key_file = \"r0001.key\"", "")),
            "line[1].terminals[1].address",
            "no addresses",
        ),
        (line("rdm6300", &keyed.replace("address = 1, ", "")), "line[1].terminals[1].key_file", "knows no keys"),
        (line("reader", ""), "line[1].terminals", "names no terminal"),
        ("[[line]]\npath = \"/dev/x\"\nprotocol = \"ascii\"".into(), "line[1].terminals", "missing"),
        (
            line(
                "ascii",
                "{ id = \"a\", serial = \"1\", direction = \"in\" }, { id = \"b\", serial = \"2\", direction = \"in\" }",
            ),
            "line[1].terminals",
            "one terminal per serial port",
        ),
        (
            line("ascii", "{ id = \"a\", serial = \"1\", direction = \"in\" }") + "accept_unkeyed = true",
            "line[1].accept_unkeyed",
            "knows no keys",
        ),
        (line("ascii", "{ id = \"a\", serial = \"1\", direction = \"in\" }") + "baud = 1", "line[1].baud", "from 300"),
        (
            line("reader", keyed) + &line("ascii", "{ id = \"b\", serial = \"2\", direction = \"in\" }"),
            "line[2].path",
            "line[1].path",
        ),
        ("[verify]\nduplicate_window_s = -1".into(), "verify.duplicate_window_s", "out of range"),
        ("[verify]\nduplicate_window = 60".into(), "verify.duplicate_window", "did you mean `duplicate_window_s`"),
        ("[verify]\nclock_suspect_s = 1.5".into(), "verify.clock_suspect_s", "TOML float"),
        (platform("").replace("mohurd", "jetstream"), "platform[1].profile", "not supported by this version"),
        (platform("").replace("profile = \"mohurd\"", ""), "platform[1].profile", "missing"),
        (platform("").replace("project_code = \"1\"", ""), "platform[1].project_code", "[site]"),
        (platform("batch = 0"), "platform[1].batch", "from 1 to 20"),
        (platform("min_interval_ms = -5"), "platform[1].min_interval_ms", "out of range"),
        (platform("aes_key = \"half\""), "platform[1].aes_key", "full | first16"),
        (platform("upload_from = \"2026-02-30\""), "platform[1].upload_from", "calendar"),
        (platform("upload_from = 2026-03-01T00:00:00"), "platform[1].upload_from", "calendar"),
        (platform("missing_worker_fields = \"hide\""), "platform[1].missing_worker_fields", "wait | send"),
        (platform("").replace("national.secret", "short.secret"), "platform[1].secret_file", "16, 24 or 32"),
        (platform("secret = \"x\""), "platform[1].secret", "secret_file"),
        (platform("").replace("http://h/", "http://me:pw@h/"), "platform[1].endpoint", "login"),
    ];
    let site = Site::with_secrets();
    for (text, key, word) in cases {
        let problems = site.problems(&text);
        let problem = problems.iter().find(|problem| problem.key == key);
        let problem = problem.unwrap_or_else(|| panic!("{key} is not named for:\n{text}\n{}", printed(&problems)));
        assert!(problem.to_string().contains(word), "{word:?} is not said: {problem}");
        assert_eq!(problems.len(), 1, "nothing else is wrong in:\n{text}\n{}", printed(&problems));
    }
}

#[test]
fn no_problem_repeats_a_secret() {
    let site = Site::with_secrets();
    let text = r#"
password = "SECRET0"
[mqtt]
password = "SECRET1"
broker = "http://me:SECRET2@host"
password_file = "SECRET3"
[[platform]]
name = "n"
profile = "mohurd"
endpoint = "ftp://me:SECRET4@host/"
appid = "a"
secret = "SECRET5"
secret_file = "short.secret"
corp_key_file = 5
[[line]]
path = "/dev/x"
protocol = "reader"
terminals = [ { id = "a", serial = "1", address = 1, direction = "in", key_file = "short.secret", key = "SECRET6" } ]
"#;
    let printed = printed(&site.problems(text));
    assert!(printed.lines().count() >= 9, "{printed}");
    assert!(!printed.contains("SECRET"), "{printed}");
    let broken = only(site.problems("[mqtt]\npassword_file = \"SECRET7\n"));
    assert!(!broken.to_string().contains("SECRET"), "{broken}");
}

#[test]
fn a_syntax_error_is_one_problem_with_its_line_and_what_was_expected() {
    let problem = only(Site::empty().problems("data_dir = \"x\"\n[site\nname = 5\n[verify]\nnonsense = 1\n"));
    assert_eq!(problem.line, Some(2));
    assert!(problem.problem.contains("expected"), "{problem}");
    let twice = only(Site::empty().problems("data_dir = \"x\"\ndata_dir = \"y\"\n"));
    assert_eq!(twice.line, Some(2), "{twice}");
}

#[test]
fn a_file_that_is_missing_or_not_text_is_one_problem() {
    let site = Site::empty();
    let missing = only(Config::load(&site.dir.path().join("gateway.toml")).unwrap_err());
    assert!(missing.problem.contains("cannot be read"), "{missing}");
    let path = site.dir.path().join("gbk.toml");
    fs::write(&path, b"[site]\nname = \"\xb1\xb1\xc7\xf8\"\n").unwrap();
    assert!(only(Config::load(&path).unwrap_err()).problem.contains("UTF-8"));
}

#[test]
fn a_file_from_windows_is_read() {
    let config = Site::empty().parse("\u{feff}[site]\r\nname = \"北区\"\r\n").unwrap();
    assert_eq!(config.site.name, "北区");
}

#[test]
fn a_client_id_is_trusted_by_default_only_on_loopback() {
    let trusted = |text: &str| match Site::empty().parse(text).unwrap().mqtt.transport {
        MqttTransport::Embedded { trust_client_id, .. } => trust_client_id,
        MqttTransport::Broker { .. } => panic!("no broker is configured"),
    };
    assert!(trusted("[mqtt]\nlisten = \"127.0.0.1:1883\"") && trusted("[mqtt]\nlisten = \"[::1]:1883\""));
    assert!(!trusted("[mqtt]\nlisten = \"0.0.0.0:1883\""));
    assert!(trusted("[mqtt]\nlisten = \"0.0.0.0:1883\"\ntrust_client_id = true"));
    assert!(!trusted("[mqtt]\nlisten = \"127.0.0.1:1883\"\ntrust_client_id = false"));
}

#[test]
fn an_external_broker_takes_the_place_of_the_endpoint() {
    let site = Site::with_secrets();
    let config =
        site.parse("[mqtt]\nbroker = \"mqtts://b:8883\"\nusername = \"g\"\npassword_file = \"short.secret\"").unwrap();
    let MqttTransport::Broker { url, client_id, username, password } = config.mqtt.transport else { panic!("broker") };
    assert_eq!((url.as_str(), client_id.as_str()), ("mqtts://b:8883", "anxin-gateway"));
    assert_eq!((username.as_deref(), password), (Some("g"), Some(Secret("short".to_owned()))));
}

#[test]
fn an_unkeyed_reader_needs_the_explicit_setting() {
    let text = "[[line]]\npath = \"/dev/x\"\nprotocol = \"reader\"\naccept_unkeyed = true\n\
                terminals = [ { id = \"a\", serial = \"1\", address = 1, direction = \"in\" } ]\n";
    let config = Site::empty().parse(text).unwrap();
    assert!(config.lines[0].accept_unkeyed && config.lines[0].terminals[0].key.is_none());
}

#[test]
fn with_first16_only_the_beginning_of_the_secret_must_fit() {
    let site = Site::with_secrets();
    let text = "[site]\nproject_code = \"1\"\n[[platform]]\nname = \"n\"\nprofile = \"mohurd\"\nendpoint = \"http://h/\"\n\
                appid = \"a\"\nsecret_file = \"long.secret\"\n";
    assert!(only(site.problems(text)).problem.contains("20 bytes"));
    assert_eq!(site.parse(&format!("{text}aes_key = \"first16\"")).unwrap().platforms[0].aes_key, AesKey::First16);
}

#[test]
fn a_terminal_may_be_called_by_its_serial_number() {
    let terminal = |id: &str, serial: &str| {
        format!("[[terminal]]\nid = \"{id}\"\nserial = \"{serial}\"\nprotocol = \"mqtt-face\"\ndirection = \"in\"\n")
    };
    let config = Site::empty().parse(&(terminal("1", "1") + &terminal("2", "2"))).unwrap();
    assert_eq!(config.terminals.len(), 2);
}

#[test]
fn a_problem_inside_an_inline_table_names_its_own_line() {
    let text = "[[line]]\npath = \"/dev/x\"\nprotocol = \"ascii\"\nterminals = [\n  { id = \"a\", serial = \"1\",\n    direction = \"up\" },\n]\n";
    assert_eq!(only(Site::empty().problems(text)).line, Some(6));
}

/// The directory of a configuration file, with the secrets it names.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn empty() -> Site {
        Site { dir: tempfile::tempdir().unwrap() }
    }

    fn with_secrets() -> Site {
        let site = Site::empty();
        let files = [
            ("national.secret", "1234567890abcdef\n"),
            ("national.corp-key", "corp-key\r\n"),
            ("r0001.key", "11111111111111111111111111111111\n"),
            ("r0002.key", "22222222222222222222222222222222"),
            ("mqtt.password", "p"),
            ("north-in.password", "p"),
            ("short.secret", "short"),
            ("long.secret", "20 characters long.."),
        ];
        for (name, contents) in files {
            fs::write(site.dir.path().join(name), contents).unwrap();
        }
        site
    }

    fn parse(&self, text: &str) -> Result<Config, Vec<Problem>> {
        Config::parse(text, &self.dir.path().join("gateway.toml"))
    }

    fn problems(&self, text: &str) -> Vec<Problem> {
        self.parse(text).expect_err("something is wrong in it")
    }
}

fn only(mut problems: Vec<Problem>) -> Problem {
    assert_eq!(problems.len(), 1, "{}", printed(&problems));
    problems.remove(0)
}

fn printed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// `# key = value` without its comment sign, unless the key is one of `except`.
fn uncommented(line: &str, except: &[&str]) -> String {
    let setting = line.strip_prefix("# ").filter(|rest| {
        let key = rest.split(" = ").next().unwrap_or_default();
        rest.contains(" = ")
            && !except.contains(&key)
            && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    });
    setting.unwrap_or(line).to_owned()
}

fn without_hash(config: Config) -> String {
    format!("{:?}", Config { hash: [0; 32], ..config })
}
