//! The bench: the emulated reader is told who it is by the real command, once.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use firmware::settings::{LEN, Settings};
use harness::emulator::{EmulatedReader, Line};
use protocol::Key;

use crate::emulated_image;

const LOOK: Duration = Duration::from_millis(20);
/// Behind the journal's 128 pages of 2 KiB.
const SETTINGS_AT: usize = 128 * 2048;

/// Runs the command, with power for the reader whenever it starts again.
async fn pair(reader: &mut EmulatedReader, dir: &Path, address: &str, key_file: &str) -> Output {
    let line = dir.join("line");
    let mut command = tokio::process::Command::new(harness::gateway::program());
    command.current_dir(dir).env("RUST_LOG", "trace").stdin(Stdio::null()).kill_on_drop(true);
    command.args(["reader", "pair", "--address", address, "--key-file", key_file, "--id", "south-in", "--port"]);
    let ended = tokio::time::timeout(Duration::from_secs(60), command.arg(&line).output());
    tokio::pin!(ended);
    loop {
        tokio::select! {
            ended = &mut ended => return ended.expect("it ends in a minute").unwrap(),
            () = tokio::time::sleep(LOOK) => {}
        }
        if reader.has_reset() {
            reader.power_up();
        }
    }
}

fn settings(reader: &EmulatedReader) -> Option<Settings> {
    let bytes: [u8; LEN] = reader.flash()[SETTINGS_AT..SETTINGS_AT + LEN].try_into().unwrap();
    Settings::decode(&bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_reader_is_paired_once_and_again_only_by_hand() {
    let Some(image) = emulated_image() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut reader = EmulatedReader::unpaired(&image.path, dir.path(), Line::Pty(dir.path().join("line")));
    reader.power_up();
    while !(reader.lamps().green && reader.lamps().red) {
        tokio::time::sleep(LOOK).await;
    }

    let paired = pair(&mut reader, dir.path(), "7", "r7.key").await;
    assert!(paired.status.success(), "{paired:?}");
    let said = String::from_utf8_lossy(&paired.stdout).into_owned();
    assert!(said.contains("address = 7") && said.contains("r7.key"), "{said}");
    let path = dir.path().join("r7.key");
    let key = std::fs::read_to_string(&path).unwrap().trim().to_owned();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let kept = settings(&reader).unwrap();
    assert_eq!((kept.address.get(), kept.baud), (7, 115_200));
    let bytes: [u8; 16] = hex::decode(&key).unwrap().try_into().unwrap();
    assert_eq!(kept.key, Some(Key(bytes)));
    for printed in [&paired.stdout, &paired.stderr] {
        assert!(!String::from_utf8_lossy(printed).contains(&key), "the key is shown");
    }

    // Whoever comes second is not heard, and leaves no key behind.
    let second = pair(&mut reader, dir.path(), "8", "r8.key").await;
    assert_eq!(second.status.code(), Some(69), "{second:?}");
    assert!(!dir.path().join("r8.key").exists());
    assert_eq!(settings(&reader), Some(kept));

    // With a hand inside the housing it is a new reader.
    reader.set_button(true);
    while !reader.has_reset() {
        tokio::time::sleep(LOOK).await;
    }
    reader.power_up();
    assert_eq!(settings(&reader), None);
    let third = pair(&mut reader, dir.path(), "8", "r8.key").await;
    assert!(third.status.success(), "{third:?}");
    assert_eq!(settings(&reader).unwrap().address.get(), 8);
}
