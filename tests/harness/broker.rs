//! mosquitto from Debian as the external broker, on a loopback port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

/// How long the broker may take to listen.
const START_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A running broker; killed when dropped.
pub struct Mosquitto {
    child: Option<Child>,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Mosquitto {
    /// Whether the binary is there.
    pub fn is_installed() -> bool {
        binary().is_some()
    }

    /// Starts a broker on a free port, open to everybody on this machine.
    pub async fn start() -> io::Result<Mosquitto> {
        let address = free_address()?;
        let dir = tempfile::tempdir()?;
        let mut broker = Mosquitto { child: None, address, dir };
        broker.restart().await?;
        Ok(broker)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as the gateway's configuration wants it.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// Stops the broker, without giving it time for a farewell.
    pub async fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Starts it again on the same port; it has forgotten every session.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.kill().await?;
        let config = self.dir.path().join("mosquitto.conf");
        let text = format!(
            "listener {} {}\nallow_anonymous true\npersistence false\nlog_type none\n",
            self.address.port(),
            self.address.ip()
        );
        std::fs::write(&config, text)?;
        self.child = Some(spawn(&config)?);
        let listening = async {
            while tokio::net::TcpStream::connect(self.address).await.is_err() {
                tokio::time::sleep(POLL).await;
            }
        };
        let in_time = tokio::time::timeout(START_LIMIT, listening).await;
        in_time.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "mosquitto does not listen"))
    }
}

fn spawn(config: &Path) -> io::Result<Child> {
    let binary = binary().ok_or_else(|| io::Error::other("mosquitto is not installed (Debian package mosquitto)"))?;
    let mut command = Command::new(binary);
    command.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn()
}

fn binary() -> Option<PathBuf> {
    ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
}

/// A loopback port that nobody uses at this moment.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
