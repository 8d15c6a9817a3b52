//! A bad wire between the gateway's pty and the emulator's socket. It stays while either end comes and goes.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::pty::Pump;
use crate::reader::WireFaults;

/// Longer than a reader takes to answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(80);

/// The wire; dropping it unplugs the gateway.
pub struct NoisyWire {
    pump: Pump,
    faults: Arc<Mutex<WireFaults>>,
}

impl NoisyWire {
    /// From `link`, which the gateway opens, to the socket of the emulator.
    pub fn start(link: &Path, socket: &Path, faults: WireFaults) -> io::Result<NoisyWire> {
        let faults = Arc::new(Mutex::new(faults));
        let (socket, shared) = (socket.to_owned(), faults.clone());
        let mut carrier = Carrier { socket, stream: None, faults: shared, pending: Vec::new() };
        Ok(NoisyWire { pump: Pump::start(link, move |bytes| carrier.carry(bytes))?, faults })
    }

    /// From now on this share of frames is damaged, and as many are lost.
    pub fn set_noise(&self, share: f64) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        (faults.damaged, faults.lost) = (share, share);
    }

    /// What the gateway opens.
    pub fn path(&self) -> &Path {
        self.pump.link()
    }
}

struct Carrier {
    socket: PathBuf,
    stream: Option<UnixStream>,
    faults: Arc<Mutex<WireFaults>>,
    pending: Vec<u8>,
}

impl Carrier {
    /// Each whole frame to the reader, and its answer back, as far as they arrive.
    fn carry(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut said = Vec::new();
        for byte in bytes {
            self.pending.push(*byte);
            if *byte != 0 || self.pending.len() == 1 {
                continue;
            }
            let Some(frame) = self.pass_on() else { continue };
            let Some(answer) = self.exchange(&frame).filter(|answer| !answer.is_empty()) else { continue };
            said.extend(self.pass(answer).into_iter().flatten());
        }
        said
    }

    fn pass_on(&mut self) -> Option<Vec<u8>> {
        let frame = std::mem::take(&mut self.pending);
        self.pass(frame)
    }

    fn pass(&self, frame: Vec<u8>) -> Option<Vec<u8>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).pass(frame)
    }

    /// What the reader says until its answer is whole, and before that what it says too late to an earlier question.
    fn exchange(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => UnixStream::connect(&self.socket).ok()?,
        };
        let mut said = Vec::new();
        stream.set_nonblocking(true).ok()?;
        receive(&mut stream, &mut said)?;
        stream.set_nonblocking(false).ok()?;
        let late = said.len();
        stream.set_read_timeout(Some(ANSWER_LIMIT)).ok()?;
        stream.write_all(frame).ok()?;
        let is_whole = |answer: &[u8]| answer.iter().rposition(|byte| *byte == 0).is_some_and(|end| end > 0);
        while !is_whole(&said[late..]) && receive(&mut stream, &mut said)? {}
        self.stream = Some(stream);
        Some(said)
    }
}

/// Whether something came in time; `None` when the emulator was killed.
fn receive(stream: &mut UnixStream, into: &mut Vec<u8>) -> Option<bool> {
    let mut buffer = [0; 512];
    match stream.read(&mut buffer) {
        Ok(0) => None,
        Ok(count) => {
            into.extend_from_slice(&buffer[..count]);
            Some(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(false),
        Err(_) => None,
    }
}
