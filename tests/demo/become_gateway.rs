//! The step between the demo and its gateway: a process that asks the kernel to be told when the demo dies, leaves the
//! demo's process group, and becomes the gateway.
//!
//! So Ctrl-C in a terminal reaches the demo alone, which stops the gateway in order; and when the demo is killed, the
//! gateway gets SIGTERM from the kernel. The kernel watches the thread that started the process: it must be the main one.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal, setpgid};

/// The hidden order that does this.
pub const ORDER: &str = "become-gateway";

/// Returns only when it went wrong.
pub fn exec(parent: u32, program: &Path, arguments: &[OsString]) -> io::Error {
    match prepare(parent) {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

fn prepare(parent: u32) -> io::Result<()> {
    setpgid(None, None)?;
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // It may have died before the kernel was asked.
    match getppid().map(Pid::as_raw_pid) {
        Some(now) if now.unsigned_abs() == parent => Ok(()),
        Some(_) | None => Err(io::Error::other("the demo is gone")),
    }
}
