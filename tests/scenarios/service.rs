//! The gateway under a service manager: told when it is ready, fed while it lives, stopped by a signal.

use std::path::Path;
use std::time::Duration;

use harness::gateway::{GatewayProcess, Setup};
use harness::workers::InventedSite;
use tokio::net::UnixDatagram;

#[tokio::test]
async fn the_service_manager_hears_ready_then_the_watchdog_then_stopping() {
    let setup = Setup::new("service");
    let socket = setup.dir().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("the temporary directory takes sockets");
    let setup = setup.environment("NOTIFY_SOCKET", text(&socket)).environment("WATCHDOG_USEC", "200000");
    let mut gateway = setup.start().await;
    heard(&manager, "READY=1").await;
    heard(&manager, "WATCHDOG=1").await;
    heard(&manager, "WATCHDOG=1").await;
    gateway.terminate().await;
    heard(&manager, "STOPPING=1").await;
}

#[tokio::test]
async fn a_gateway_goes_on_where_it_was_after_a_signal_and_after_a_kill() {
    let site = InventedSite::new(3, 1);
    let mut gateway = Setup::new("restart").employers(&site.employers).start().await;
    gateway.import_roster(&site.csv()).await;
    let token = gateway.token();

    gateway.terminate().await;
    gateway.start_again().await;
    assert_eq!(workers(&gateway).await, 3, "after SIGTERM");
    gateway.kill9();
    gateway.start_again().await;
    assert_eq!(workers(&gateway).await, 3, "after SIGKILL");
    assert_eq!(gateway.token(), token, "scripts keep their token");
}

#[tokio::test]
async fn a_second_gateway_on_the_same_data_does_not_start() {
    let gateway = Setup::new("twice").start().await;
    let config = std::fs::read_to_string(gateway.config_file()).expect("the configuration is there");
    let elsewhere = config.replace("listen = \"127.0.0.1:", "listen = \"127.0.0.2:");
    assert_ne!(config, elsewhere);
    let second = gateway.config_file().with_file_name("second.toml");
    std::fs::write(&second, elsewhere).expect("the temporary directory takes files");
    let output = gateway.command(&["run", "--config", text(&second)]).await;
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use"), "{output:?}");
    assert!(gateway.is_healthy().await);
}

async fn workers(gateway: &GatewayProcess) -> usize {
    gateway.get_json("workers").await["workers"].as_array().map_or(0, Vec::len)
}

/// Waits for this message; others may come before it.
async fn heard(manager: &UnixDatagram, wanted: &str) {
    let mut message = [0; 4096];
    let listening = async {
        loop {
            let length = manager.recv(&mut message).await.expect("a bound socket receives");
            if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == wanted) {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), listening).await;
    assert!(in_time.is_ok(), "the service manager never heard {wanted}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}
