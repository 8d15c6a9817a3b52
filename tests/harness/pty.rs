//! A pty that plays a serial port: a thread serves the one end, a link with a stable name leads to the other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;

/// How often the server is called when nothing comes in, and how soon the thread ends.
const TICK: Duration = Duration::from_millis(20);

/// The thread behind a pty, and the link to its other end. Dropping it ends the thread and unplugs the port.
pub struct Pump {
    link: PathBuf,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    /// Moves what comes in to `serve` and what that says back, at least every 20 ms.
    pub fn start(link: &Path, serve: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static) -> io::Result<Pump> {
        let (master, slave) = open_pty()?;
        match std::fs::remove_file(link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        std::os::unix::fs::symlink(slave, link)?;
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("line".to_owned())
            .spawn(move || pump(File::from(master), &stopped, serve))?;
        Ok(Pump { link: link.to_owned(), stop: Some(stop), thread: Some(thread) })
    }

    /// What the gateway opens.
    pub fn link(&self) -> &Path {
        &self.link
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the line's thread panicked");
        }
        // Somebody else may have taken the link's place.
        let _ = std::fs::remove_file(&self.link);
    }
}

/// A new pty in raw mode: its master, and the path of its slave. The slave is not kept open, so that the exclusive use
/// that a killed gateway had set goes with it.
fn open_pty() -> io::Result<(OwnedFd, PathBuf)> {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let slave = PathBuf::from(name.into_string().map_err(|_| io::ErrorKind::InvalidData)?);
    let mut attributes = rustix::termios::tcgetattr(&master)?;
    attributes.make_raw();
    rustix::termios::tcsetattr(&master, OptionalActions::Now, &attributes)?;
    rustix::fs::fcntl_setfl(&master, OFlags::NONBLOCK)?;
    Ok((master, slave))
}

fn pump(mut master: File, stopped: &mpsc::Receiver<()>, mut serve: impl FnMut(&[u8]) -> Vec<u8>) {
    let mut buffer = [0; 1024];
    let tick = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as i64 };
    loop {
        let mut fds = [PollFd::new(&master, PollFlags::IN)];
        let polled = rustix::event::poll(&mut fds, Some(&tick));
        let nobody = polled.is_err() || fds[0].revents().contains(PollFlags::HUP);
        // Without anybody at the other end `poll` does not wait.
        let wait = if nobody { TICK } else { Duration::ZERO };
        match stopped.recv_timeout(wait) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        let count = master.read(&mut buffer).unwrap_or(0);
        let said = serve(&buffer[..count]);
        if !said.is_empty() {
            // A wire does not wait for anybody: what nobody takes is gone.
            let _ = master.write_all(&said);
        }
    }
}
