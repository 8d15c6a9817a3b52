//! A new program for the emulated reader, through the real gateway: sent over the line, checked by the image in the
//! emulator, started from its slot, reported. The power goes in the middle, and people swipe meanwhile.

use std::path::Path;
use std::time::Duration;

use harness::emulator::{EmulatedReader, Line};
use harness::gateway::GatewayProcess;
use serde_json::Value;

use crate::site::{Gate, PATIENCE};
use crate::{emulated_image, emulated_image_with};

const LOOK: Duration = Duration::from_millis(20);

/// The update's text at the terminal.
fn update(terminals: &Value) -> String {
    terminals["terminals"][0]["health"]["update"].as_str().unwrap_or_default().to_owned()
}

async fn sign(gateway: &GatewayProcess, dir: &Path, seed: &str, version: u32, program: &Path) -> String {
    let (key, file) = (dir.join("maker.key"), dir.join(format!("{version}.update")));
    std::fs::write(&key, seed.repeat(32)).unwrap();
    let [key, file, program] = [&key, &file, program].map(|path| path.to_str().unwrap());
    let version = version.to_string();
    let words =
        ["reader", "sign", "--key-file", key, "--board", "l475", "--version", &version, "--output", file, program];
    let signed = gateway.command(&words).await;
    assert!(signed.status.success(), "{signed:?}");
    file.to_owned()
}

/// The reader runs, over one power cut and over its own restarts, until the update is over.
async fn look_after(reader: &mut EmulatedReader, gateway: &GatewayProcess, badges: &[u32]) -> usize {
    let (mut cuts, mut restarts) = (0, 0);
    let mut badges = badges.iter();
    loop {
        tokio::time::sleep(LOOK).await;
        if reader.has_reset() {
            reader.power_up();
            restarts += 1;
        }
        let update = update(&gateway.get_json("terminals").await);
        let sent = update.split_once(" of ").and_then(|(sent, _)| sent.parse::<u32>().ok());
        if let (Some(40..), 0) = (sent, cuts) {
            // Just before the power goes: the swipe has to outlive both.
            badges.next().into_iter().for_each(|badge| reader.swipe(*badge));
            tokio::time::sleep(LOOK * 5).await;
            reader.power_cut();
            cuts += 1;
            reader.power_up();
        }
        if let (Some(100..), 1) = (sent, cuts) {
            badges.next().into_iter().for_each(|badge| reader.swipe(*badge));
            cuts += 1;
        }
        if update.starts_with("done") {
            return restarts;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_program_arrives_over_a_power_cut_runs_from_its_slot_and_costs_no_punch() {
    let (Some(image), Some(next)) = (emulated_image(), emulated_image_with("l475,emulator,slot1")) else { return };
    let mut gate = Gate::start(&image, 4, Line::Pty, "line").await;
    gate.reader.power_up();
    gate.gateway.wait_for("terminals", PATIENCE, |answer| answer.to_string().contains("\"state\":\"online\"")).await;

    // The maker's key is not the one that the image believes.
    let forged = sign(&gate.gateway, gate.dir.path(), "43", 1, &next.path).await;
    let refused = gate.gateway.command(&["reader", "update", "south-in", &forged]).await;
    assert_eq!(refused.status.code(), Some(65), "{refused:?}");
    let alarms = gate.gateway.get_json("alarms").await.to_string();
    assert!(alarms.contains("reader-update") && alarms.contains("not signed"), "{alarms}");

    let file = sign(&gate.gateway, gate.dir.path(), "42", 2, &next.path).await;
    let badges: Vec<u32> = gate.roster.workers.iter().map(|worker| worker.badge).collect();
    let words = ["reader", "update", "south-in", &file];
    let (updated, restarts) = tokio::join!(
        gate.gateway.command(&words),
        tokio::time::timeout(Duration::from_secs(120), look_after(&mut gate.reader, &gate.gateway, &badges[..2]))
    );
    assert_eq!(restarts.ok(), Some(1), "{updated:?}\n{:#}", gate.gateway.get_json("terminals").await);
    assert!(updated.status.success(), "{updated:?}");
    assert!(String::from_utf8_lossy(&updated.stdout).contains("south-in runs version 2"), "{updated:?}");
    assert!(!gate.gateway.get_json("alarms").await.to_string().contains("reader-update"));

    gate.reader.swipe(badges[2]);
    assert!(gate.shows(PATIENCE, |lamps| lamps.green).await, "no green lamp from the new program");
    let swiped: Vec<String> = gate.roster.workers[..3].iter().map(|worker| worker.id_number.clone()).collect();
    gate.booked("the swipes before, during and after the update", |book| {
        swiped.iter().all(|worker| book.attendance.iter().filter(|punch| punch.id_number == *worker).count() == 1)
    })
    .await;

    // An image that has run is not taken again, nor one before it.
    let older = sign(&gate.gateway, gate.dir.path(), "42", 1, &next.path).await;
    let refused = gate.gateway.command(&["reader", "update", "south-in", &older]).await;
    assert_eq!(refused.status.code(), Some(65), "{refused:?}");
}
