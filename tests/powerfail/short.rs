//! The short form of the power-cut campaign: a few images of each kind, and the controls that must be red.

use std::process::Command;

const SEED: &str = "20260302";

#[test]
fn no_promise_is_broken_by_a_cut_a_kill_or_damage() {
    let seed = std::env::var("ANXIN_SEED").unwrap_or_else(|_| SEED.to_owned());
    let output = Command::new(env!("CARGO_BIN_EXE_powerfail"))
        .args(["--images", "45", "--kills", "8", "--flips", "15", "--punches", "150", "--seed", &seed])
        .args(["--keep", concat!(env!("CARGO_TARGET_TMPDIR"), "/powerfail-failed")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
