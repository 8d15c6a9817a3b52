//! Judges in a process of their own: a verdict has a time limit, and whoever panics takes nobody along.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::expected::Expected;
use super::judge::{self, Verdict, Wrong};

/// How the program is called that judges.
pub const ORDER: &str = "judge";

/// A verdict that takes longer is one too.
const LIMIT: Duration = Duration::from_secs(120);
/// After so many verdicts a fresh process judges, so that what one leaves behind cannot add up.
const TERM: usize = 200;

/// A directory to be judged.
#[derive(Serialize, Deserialize)]
struct Request {
    dir: PathBuf,
    /// File of the expectation.
    expected: PathBuf,
    /// How many of its promises had been made.
    promised: usize,
}

/// Whoever asks for verdicts.
#[derive(Default)]
pub struct Panel {
    seat: Option<Seat>,
}

struct Seat {
    child: Child,
    requests: ChildStdin,
    verdicts: mpsc::Receiver<String>,
    given: usize,
}

impl Panel {
    /// Judges `dir` after the first `promised` promises of the expectation in the file.
    pub fn judge(&mut self, dir: &Path, expected: &Path, promised: usize) -> io::Result<Verdict> {
        let mut seat = match self.seat.take().filter(|seat| seat.given < TERM) {
            Some(seat) => seat,
            None => Seat::take()?,
        };
        let request = Request { dir: dir.to_owned(), expected: expected.to_owned(), promised };
        writeln!(seat.requests, "{}", serde_json::to_string(&request)?)?;
        match seat.verdicts.recv_timeout(LIMIT) {
            Ok(verdict) => {
                seat.given += 1;
                self.seat = Some(seat);
                Ok(serde_json::from_str(&verdict)?)
            }
            Err(RecvTimeoutError::Timeout) => Ok(verdict(Wrong::TimedOut, format!("after {} s", LIMIT.as_secs()))),
            Err(RecvTimeoutError::Disconnected) => Ok(verdict(Wrong::Panicked, "the whole process ended".to_owned())),
        }
    }
}

fn verdict(wrong: Wrong, detail: String) -> Verdict {
    Verdict { faults: vec![(wrong, detail)], ..Verdict::default() }
}

impl Seat {
    fn take() -> io::Result<Seat> {
        let program = std::env::current_exe()?;
        let mut child = Command::new(program).arg(ORDER).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(requests), Some(said)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a judge cannot be spoken to"));
        };
        let (sender, verdicts) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Seat { child, requests, verdicts, given: 0 })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// What has panicked since the last look: whether inside sled, and what it said.
static PANICS: Mutex<Vec<(bool, String)>> = Mutex::new(Vec::new());

/// What the store has logged since the last look, from warnings on.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The judging process: a request per line comes in, a verdict per line goes out.
pub fn serve() -> io::Result<()> {
    panic::set_hook(Box::new(|info| {
        let is_sled = info.location().is_some_and(|place| place.file().contains("/sled-"));
        let thread = std::thread::current().name().unwrap_or("a thread").to_owned();
        let panics = &mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner);
        panics.push((is_sled, format!("{thread}: {info}")));
    }));
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false).without_time();
    log.with_writer(|| Log).init();
    let mut known: HashMap<PathBuf, Expected> = HashMap::new();
    for line in io::stdin().lines() {
        let request: Request = serde_json::from_str(&line?)?;
        if !known.contains_key(&request.expected) {
            known.clear();
            known.insert(request.expected.clone(), Expected::load(&request.expected)?);
        }
        let mut expected = known.get(&request.expected).cloned().unwrap_or_default();
        expected.promised.truncate(request.promised);
        println!("{}", serde_json::to_string(&judge_guarded(request.dir, expected))?);
    }
    Ok(())
}

/// Judges in a thread of its own.
fn judge_guarded(dir: PathBuf, expected: Expected) -> Verdict {
    let judging = std::thread::spawn(move || judge::judge(&dir, &expected));
    let mut verdict = judging.join().unwrap_or_default();
    for (is_sled, said) in PANICS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        if is_sled {
            verdict.caught.push(said);
        } else {
            verdict.faults.push((Wrong::Panicked, said));
        }
    }
    let log = std::mem::take(&mut *LOG.lock().unwrap_or_else(PoisonError::into_inner));
    verdict.log = String::from_utf8_lossy(&log).into_owned();
    verdict
}
