//! The program from outside: what it prints and how it exits.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use gateway::clock::Clock;
use gateway::punch::*;
use gateway::store::keyring::master::MasterFile;
use gateway::store::{Store, StoreOptions};

#[test]
fn a_right_configuration_is_summed_up() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("gateway.toml"),
        "[[terminal]]\nid = \"north-in\"\nprotocol = \"mqtt-face\"\nserial = \"1\"\ndirection = \"in\"\n",
    )
    .unwrap();
    let output = anxin(dir.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("gateway.toml: nothing is wrong") && text.contains("north-in"), "{text}");
}

#[test]
fn without_a_file_the_built_in_defaults_are_checked() {
    if Path::new("/etc/anxin/gateway.toml").exists() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = anxin(dir.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("built-in defaults") && stdout(&output).contains("127.0.0.1:8080"));
}

#[test]
fn a_wrong_configuration_is_all_named_and_exits_78() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("site.toml");
    fs::write(&file, "data_dir = 1\n[verify]\nmin_similarity = 200\nwindow = 1\n").unwrap();
    for command in ["check", "run"] {
        let output = anxin(dir.path(), &[command, "--config", "site.toml"]);
        assert_eq!(output.status.code(), Some(78), "{command}");
        let text = stderr(&output);
        for part in [
            "3 problems",
            "site.toml:1: `data_dir`",
            "site.toml:3: `verify.min_similarity` = \"200\"",
            "site.toml:4: `verify.window`",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }
}

#[test]
fn a_missing_configuration_exits_78_and_a_wrong_command_64() {
    let dir = tempfile::tempdir().unwrap();
    let missing = anxin(dir.path(), &["check", "--config", "nowhere.toml"]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(stderr(&missing).contains("nowhere.toml"));
    assert_eq!(anxin(dir.path(), &["chekc"]).status.code(), Some(64));
    assert_eq!(anxin(dir.path(), &[]).status.code(), Some(64));
    assert_eq!(anxin(dir.path(), &["--help"]).status.code(), Some(0));
    assert_eq!(anxin(dir.path(), &["--version"]).status.code(), Some(0));
}

#[test]
fn an_import_sends_the_file_with_the_token() {
    let site = Site::answering("200 OK", r#"{"workers":2,"added":2,"changed":0,"unchanged":0}"#);
    let output = site.import();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output).trim(), "2 workers: 2 added, 0 changed, 0 unchanged");
    let request = site.request();
    let head = request.to_lowercase();
    assert!(request.starts_with("POST /api/v1/workers/import "), "{request}");
    assert!(
        head.contains("authorization: bearer s3cret\r\n") && head.contains("content-type: text/csv\r\n"),
        "{request}"
    );
    assert!(request.ends_with("worker_id,name\nW1,张三\n"), "{request}");
}

#[test]
fn wrong_rows_are_printed_and_exit_65() {
    let body = r#"{"detail":"nothing was imported","errors":[{"line":2,"worker_id":"W1","column":"team","value":null,"reason":"is missing"}]}"#;
    let output = Site::answering("422 Unprocessable Content", body).import();
    assert_eq!(output.status.code(), Some(65));
    assert!(stderr(&output).contains("roster.csv: line 2: W1: team: is missing"), "{}", stderr(&output));
}

#[test]
fn a_refused_or_missing_token_exits_77() {
    let site = Site::answering("401 Unauthorized", r#"{"detail":"the token is wrong"}"#);
    assert_eq!(site.import().status.code(), Some(77));
    fs::remove_file(site.dir.path().join("data/api-token")).unwrap();
    let output = site.import();
    assert_eq!(output.status.code(), Some(77));
    assert!(stderr(&output).contains("api-token"), "{}", stderr(&output));
}

#[test]
fn without_a_running_gateway_an_import_exits_69_and_without_a_file_66() {
    let mut site = Site::answering("200 OK", "{}");
    site.stop();
    let output = site.import();
    assert_eq!(output.status.code(), Some(69));
    assert!(stderr(&output).contains("is not running"), "{}", stderr(&output));
    let output = anxin(site.dir.path(), &["roster", "import", "nowhere.csv"]);
    assert_eq!(output.status.code(), Some(66));
}

#[test]
fn a_ledger_is_verified_and_exported_and_a_changed_one_exits_65() {
    let dir = tempfile::tempdir().unwrap();
    write_ledger(dir.path());
    let sound = anxin(dir.path(), &["ledger", "verify", "--data", "."]);
    assert_eq!(sound.status.code(), Some(0), "{}", stderr(&sound));
    assert!(stdout(&sound).contains("3 facts in 1 segments") && stdout(&sound).contains("sound"), "{}", stdout(&sound));
    let export = anxin(dir.path(), &["ledger", "export", "--data", "."]);
    assert_eq!(stdout(&export).lines().count(), 3);
    assert!(stdout(&export).contains("the second gap"), "{}", stdout(&export));
    let to_file = ["ledger", "export", "--data", ".", "--format", "csv", "--output", "facts.csv"];
    assert_eq!(anxin(dir.path(), &to_file).status.code(), Some(0));
    assert!(fs::read_to_string(dir.path().join("facts.csv")).unwrap().contains("the third gap"));
    assert_eq!(anxin(dir.path(), &to_file).status.code(), Some(73), "an export is not overwritten");
    flip_in_frame(&dir.path().join("ledger"), 2);
    let changed = anxin(dir.path(), &["ledger", "verify", "--data", "."]);
    assert_eq!(changed.status.code(), Some(65));
    assert!(stderr(&changed).contains("fact 2"), "{}", stderr(&changed));
}

#[test]
fn a_proof_is_written_once_and_checked_without_the_ledger() {
    let (site, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (id, key) = write_closed_day(site.path());
    let prove = ["ledger", "prove", "--data", ".", "--output", "proof.json", &id];
    let early = anxin(site.path(), &["ledger", "prove", "--data", ".", &"0".repeat(32)]);
    assert_eq!(early.status.code(), Some(65));
    assert!(stderr(&early).contains("no such punch"), "{}", stderr(&early));
    let output = anxin(site.path(), &prove);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(anxin(site.path(), &prove).status.code(), Some(73), "a proof is not overwritten");

    fs::copy(site.path().join("proof.json"), elsewhere.path().join("proof.json")).unwrap();
    let check = anxin(elsewhere.path(), &["ledger", "check-proof", "proof.json", "--public-key", &key]);
    assert_eq!(check.status.code(), Some(0), "{}", stderr(&check));
    assert!(
        stdout(&check).contains("AX-1001") && stdout(&check).contains("with the expected key"),
        "{}",
        stdout(&check)
    );
    let other_key = ["ledger", "check-proof", "proof.json", "--public-key", &"0".repeat(64)];
    assert_eq!(anxin(elsewhere.path(), &other_key).status.code(), Some(65));
    let verified = anxin(site.path(), &["ledger", "verify", "--data", ".", "--public-key", &key]);
    assert_eq!(verified.status.code(), Some(0), "{}", stderr(&verified));
    assert!(stdout(&verified).contains("1 days are signed"), "{}", stdout(&verified));
    let stranger = anxin(site.path(), &["ledger", "verify", "--data", ".", "--public-key", &"0".repeat(64)]);
    assert_eq!(stranger.status.code(), Some(65));
}

#[test]
fn keys_are_rotated_and_changed_while_the_gateway_stands_still_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("gateway.toml"), "data_dir = \"data\"\n").unwrap();
    let nothing = anxin(dir.path(), &["key", "rotate"]);
    assert_eq!(nothing.status.code(), Some(74), "{}", stderr(&nothing));
    fs::create_dir(dir.path().join("data")).unwrap();
    assert_eq!(anxin(dir.path(), &["key", "rotate"]).status.code(), Some(66));
    write_ledger(&dir.path().join("data"));

    let rotated = anxin(dir.path(), &["key", "rotate"]);
    assert!(stdout(&rotated).contains("data key 2"), "{}{}", stdout(&rotated), stderr(&rotated));
    let changed = anxin(dir.path(), &["key", "change", "--new-key-file", "new.key"]);
    assert!(stdout(&changed).contains("key_file = \"new.key\""), "{}{}", stdout(&changed), stderr(&changed));
    let export = ["ledger", "export", "--data", "data"];
    let old_key = anxin(dir.path(), &export);
    assert_eq!(old_key.status.code(), Some(66));
    assert!(stderr(&old_key).contains("does not open the keyring"), "{}", stderr(&old_key));
    let new_key = anxin(dir.path(), &[&export[..], &["--key-file", "new.key"]].concat());
    assert_eq!(stdout(&new_key).lines().count(), 3, "{}", stderr(&new_key));

    let store = Store::open(
        StoreOptions {
            key: MasterFile { path: dir.path().join("new.key"), is_credential: false },
            ..StoreOptions::new(dir.path().join("data"), Vec::new())
        },
        Clock::system(),
    );
    let running = anxin(dir.path(), &["key", "rotate"]);
    assert_eq!(running.status.code(), Some(75));
    assert!(stderr(&running).contains("stop the gateway first"), "{}", stderr(&running));
    drop(store);
}

#[test]
fn a_backup_is_one_file_that_makes_the_data_on_another_box() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&old, &new] {
        fs::write(dir.path().join("gateway.toml"), "data_dir = \"data\"\n").unwrap();
        fs::write(dir.path().join("phrase"), "a sentence for the safe\n").unwrap();
        fs::write(dir.path().join("short"), "short\n").unwrap();
    }
    fs::create_dir(old.path().join("data")).unwrap();
    write_ledger(&old.path().join("data"));
    let weak = anxin(old.path(), &["backup", "--passphrase-file", "short", "site.backup"]);
    assert_eq!(weak.status.code(), Some(65), "{}", stderr(&weak));
    let backup = ["backup", "--passphrase-file", "phrase", "site.backup"];
    let made = anxin(old.path(), &backup);
    assert!(stdout(&made).contains("1 segments and 0 photos"), "{}{}", stdout(&made), stderr(&made));
    assert_eq!(anxin(old.path(), &backup).status.code(), Some(73), "a backup is not overwritten");
    assert_eq!(fs::read_dir(old.path()).unwrap().count(), 5, "nothing half done is left");

    fs::copy(old.path().join("site.backup"), new.path().join("site.backup")).unwrap();
    let restore = ["restore", "--passphrase-file", "phrase", "site.backup"];
    let restored = anxin(new.path(), &restore);
    assert_eq!(restored.status.code(), Some(0), "{}", stderr(&restored));
    assert!(stdout(&restored).contains("asks each platform"), "{}", stdout(&restored));
    let export = anxin(new.path(), &["ledger", "export", "--data", "data"]);
    assert_eq!(stdout(&export).lines().count(), 3, "{}", stderr(&export));
    assert_eq!(anxin(new.path(), &restore).status.code(), Some(73), "data is not overwritten");
}

#[test]
fn everything_is_erased_when_its_time_has_come_and_not_before() {
    let site = tempfile::tempdir().unwrap();
    let config =
        |store: &str| fs::write(site.path().join("gateway.toml"), format!("data_dir = \"data\"\n{store}")).unwrap();
    fs::create_dir(site.path().join("data")).unwrap();
    config("");
    write_ledger(&site.path().join("data"));
    fs::write(site.path().join("data/notes.txt"), "not the gateway's").unwrap();
    let erase = || anxin(site.path(), &["erase"]);
    assert_eq!(erase().status.code(), Some(78), "nobody said when wages were settled");
    config("[store]\nsettled_on = 2026-01-31\n");
    let early = erase();
    assert_eq!(early.status.code(), Some(65));
    assert!(stderr(&early).contains("until 2029-01-31"), "{}", stderr(&early));
    config("[store]\nsettled_on = 2020-01-31\nkeep_years = 2\n");
    assert_eq!(erase().status.code(), Some(78), "the law says three years");
    assert!(site.path().join("data/ledger/00000001.seg").exists());

    config("[store]\nsettled_on = 2020-01-31\n");
    let erased = erase();
    assert_eq!(erased.status.code(), Some(0), "{}", stderr(&erased));
    let mut left: Vec<String> = fs::read_dir(site.path().join("data"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lock")
        .collect();
    left.sort();
    assert!(left.len() == 2 && left[0].starts_with("erased-") && left[1] == "notes.txt", "{left:?}");
    let certificate = fs::read_to_string(site.path().join("data").join(&left[0])).unwrap();
    let (signed, signature) = certificate.split_at(certificate.find("signature ").unwrap());
    assert!(signed.contains("\nfacts 3 through 3\n") && signed.contains("\nkept-until 2023-01-31\n"), "{signed}");
    let field = |text: &str, name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        hex::decode(value.trim()).unwrap()
    };
    let key: [u8; 32] = field(signed, "key ").try_into().unwrap();
    let signature: [u8; 64] = field(signature, "signature ").try_into().unwrap();
    let key = ed25519_dalek::VerifyingKey::from_bytes(&key).unwrap();
    assert!(key.verify_strict(signed.as_bytes(), &signature.into()).is_ok());
    assert_eq!(erase().status.code(), Some(66), "there is nothing left to erase");
}

/// One punch in a day that is signed; its id and the public key, in groups as a page shows it.
fn write_closed_day(data: &Path) -> (String, String) {
    let id = PunchId::derive("AX-1001", "1", "2026-03-02 07:01:05", "W0001");
    let punch = Punch {
        id,
        terminal: "north-in".into(),
        serial: "AX-1001".to_owned(),
        record: Some("1".to_owned()),
        time: UnixMs(1_772_406_065_000),
        time_text: "2026-03-02 07:01:05".to_owned(),
        time_source: TimeSource::Terminal,
        received_at: UnixMs(1_772_406_066_000),
        live: Some(true),
        skew_ms: None,
        direction: Direction::In,
        direction_source: DirectionSource::Configured,
        method: Method::Face,
        credentials: vec![Credential::CustomId("W0001".to_owned())],
        says: TerminalSays::Allowed,
        similarity: None,
        photo: None,
        raw: b"{}".to_vec(),
    };
    let runtime = tokio::runtime::Runtime::new().expect("works here");
    let store = Store::open(StoreOptions::new(data.to_owned(), Vec::new()), Clock::system()).expect("works here");
    let key = hex::encode(store.public_key());
    runtime.block_on(async {
        store.append(vec![Fact::Punch(punch)]).await.expect("works here");
        store.close_day(jiff::civil::date(2026, 3, 2), UnixMs(1_772_467_200_000)).await.expect("works here");
        store.close().await;
    });
    (id.to_string(), format!("{} {}", &key[..32], &key[32..]))
}

#[test]
fn a_directory_without_a_ledger_exits_66() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["verify", "export"] {
        let output = anxin(dir.path(), &["ledger", command, "--data", "nowhere"]);
        assert_eq!(output.status.code(), Some(66), "{}", stderr(&output));
    }
}

/// Three gaps as facts.
fn write_ledger(data: &Path) {
    let gap = |detail: &str| {
        let (at, kind) = (UnixMs(0), GapKind::RecordNumbers);
        Fact::Gap(Gap { terminal: None, at, count: None, kind, detail: detail.to_owned() })
    };
    let facts = vec![gap("the first gap"), gap("the second gap"), gap("the third gap")];
    let options = StoreOptions::new(data.to_owned(), Vec::new());
    let runtime = tokio::runtime::Runtime::new().expect("works here");
    let store = Store::open(options, Clock::system()).expect("works here");
    runtime.block_on(async {
        store.append(facts).await.expect("works here");
        store.close().await;
    });
}

/// Flips a bit of the `n`th frame, from 1, in the only segment.
fn flip_in_frame(ledger: &Path, n: usize) {
    let files: Vec<_> =
        fs::read_dir(ledger).expect("works here").map(|entry| entry.expect("works here").path()).collect();
    let [file] = files.as_slice() else { panic!("one segment: {files:?}") };
    let mut bytes = fs::read(file).expect("works here");
    let mut frames = bytes.windows(4).enumerate().filter(|(_, window)| *window == [0xC5, b'A', b'X', b'F']);
    let (at, _) = frames.nth(n - 1).expect("there are as many");
    bytes[at + 70] ^= 1;
    fs::write(file, bytes).expect("works here");
}

/// A site's directory, and somebody who answers on its console address.
struct Site {
    dir: tempfile::TempDir,
    server: Option<thread::JoinHandle<()>>,
    requests: std::sync::mpsc::Receiver<String>,
    port: u16,
}

impl Site {
    fn answering(status: &str, body: &str) -> Site {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("works here");
        let port = listener.local_addr().expect("works here").port();
        fs::create_dir(dir.path().join("data")).expect("works here");
        fs::write(dir.path().join("data/api-token"), "s3cret\n").expect("works here");
        fs::write(dir.path().join("roster.csv"), "worker_id,name\nW1,张三\n").expect("works here");
        let config = format!("data_dir = \"data\"\n[console]\nlisten = \"0.0.0.0:{port}\"\n");
        fs::write(dir.path().join("gateway.toml"), config).expect("works here");
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        let (sender, requests) = std::sync::mpsc::channel();
        let server = thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.expect("works here");
                let request = read_request(&mut connection);
                if request.is_empty() {
                    return;
                }
                connection.write_all(answer.as_bytes()).expect("works here");
                sender.send(request).expect("the test waits for it");
            }
        });
        Site { dir, server: Some(server), requests, port }
    }

    fn import(&self) -> Output {
        anxin(self.dir.path(), &["roster", "import", "roster.csv"])
    }

    fn request(&self) -> String {
        self.requests.recv().expect("the server has seen one")
    }

    /// A connection without a request ends the server.
    fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            drop(std::net::TcpStream::connect(("127.0.0.1", self.port)));
            server.join().expect("the server does not panic");
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A whole request with its body; empty when the connection ends before one.
fn read_request(connection: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
            if bytes.len() >= head.len() + 4 + length.unwrap_or(0) {
                return text;
            }
        }
        match connection.read(&mut chunk) {
            Ok(0) | Err(_) => return String::new(),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

fn anxin(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_anxin-gateway"))
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
