//! The emulator's test socket: registers read, pins driven, and every edge of an output told, however short.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::pause;

/// Until a socket of a new emulator is there.
const TRIES: u32 = 500;
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Connects as soon as somebody listens.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let mut tries = 0;
    loop {
        match UnixStream::connect(path) {
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => tries += 1,
            Ok(stream) => return Ok(stream),
        }
        pause(Duration::from_millis(10));
    }
}

/// An output has changed its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    pub pin: usize,
    pub high: bool,
}

pub struct Probe {
    to: UnixStream,
    from: BufReader<UnixStream>,
    edges: Vec<Edge>,
}

impl Probe {
    pub fn new(stream: UnixStream) -> io::Result<Probe> {
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        Ok(Probe { to: stream.try_clone()?, from: BufReader::new(stream), edges: Vec::new() })
    }

    /// From now on the edges of this port are told.
    pub fn watch(&mut self, port: &str) {
        self.ask(&format!("irq_intercept_out /machine/soc/{port}"));
    }

    /// Those since this was last asked, in order. They come before the answer to a question.
    pub fn edges(&mut self, any_register: u32) -> Vec<Edge> {
        self.read(any_register);
        std::mem::take(&mut self.edges)
    }

    /// A 32-bit register.
    pub fn read(&mut self, address: u32) -> u32 {
        let answer = self.ask(&format!("readl {address:#x}"));
        let value = answer.trim_start_matches("0x");
        u64::from_str_radix(value, 16).unwrap_or_else(|error| panic!("{answer}: {error}")) as u32
    }

    /// Fills memory with this byte.
    pub fn fill(&mut self, address: u32, length: u32, byte: u8) {
        self.ask(&format!("memset {address:#x} {length:#x} {byte:#x}"));
    }

    /// What is in memory.
    pub fn memory(&mut self, address: u32, length: u32) -> Vec<u8> {
        let answer = self.ask(&format!("read {address:#x} {length:#x}"));
        let digits = answer.trim_start_matches("0x");
        let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16));
        bytes.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{address:#x}: {error}"))
    }

    /// The level at an input pin.
    pub fn set_input(&mut self, port: &str, pin: u8, high: bool) {
        self.ask(&format!("set_irq_in /machine/soc/{port} unnamed-gpio-in {pin} {}", u8::from(high)));
    }

    fn ask(&mut self, question: &str) -> String {
        let asked = writeln!(self.to, "{question}");
        assert!(asked.is_ok(), "{question}: {asked:?}");
        loop {
            let mut answer = String::new();
            let read = self.from.read_line(&mut answer);
            assert!(read.is_ok(), "{question}: {read:?}");
            let answer = answer.trim();
            if let Some(edge) = edge(answer) {
                self.edges.push(edge);
                continue;
            }
            let Some(rest) = answer.strip_prefix("OK") else { panic!("{question}: {answer}") };
            return rest.trim().to_owned();
        }
    }
}

/// Lets an emulator run that was started stopped; the socket is its machine interface.
pub fn go_on(machine: UnixStream) -> io::Result<()> {
    machine.set_read_timeout(Some(ANSWER_LIMIT))?;
    let (mut to, mut from) = (machine.try_clone()?, BufReader::new(machine));
    // It greets first and answers each line.
    from.read_line(&mut String::new())?;
    for order in ["qmp_capabilities", "cont"] {
        writeln!(to, "{{\"execute\": \"{order}\"}}")?;
        from.read_line(&mut String::new())?;
    }
    Ok(())
}

/// `IRQ raise 3` or `IRQ lower 3`.
fn edge(line: &str) -> Option<Edge> {
    let (level, pin) = line.strip_prefix("IRQ ")?.split_once(' ')?;
    Some(Edge { pin: pin.parse().ok()?, high: level == "raise" })
}
