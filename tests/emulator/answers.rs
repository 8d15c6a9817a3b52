//! How long the real image takes to answer: what the model of a line in virtual time may assume of a reader.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::gateway::clock::Clock;
use firmware::settings::Settings;
use harness::emulator::{EmulatedReader, Image, Line};
use harness::timed_line;
use protocol::{Address, Answer, Decoder, GatewayEnd, Key, Request, Seq, Wire};

use crate::emulated_image;
use crate::site::{BAUD, KEY};

const QUESTIONS: usize = 200;

/// The emulator runs as many instructions per second as the chip, and the same ones for the same question: what differs is
/// how long a machine with other work holds an answer back. So the fastest tenth counts, of each kind of question.
#[test]
fn the_image_answers_within_the_time_that_the_model_of_a_line_gives_it() {
    let Some(image) = emulated_image() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(&image, dir.path());
    desk.power_up();

    let clock = Clock::system();
    let (mut after_swipe, mut after_nothing, mut committed) = (Vec::new(), Vec::new(), Seq(0));
    for question in 0..QUESTIONS {
        let is_swiped = question % 2 == 0;
        if is_swiped {
            desk.reader.swipe(0x5000 + question as u32);
        }
        let request = Request::Collect { committed, lost_seen: 0, limit: 6 };
        let began = clock.instant();
        let answer = desk.ask(&request);
        let took = clock.instant() - began;
        let Answer::Punches { first, punches, .. } = answer else { panic!("{answer:?}") };
        committed = Seq((first.0 + punches.len() as u32).saturating_sub(1));
        // The bytes are not sent at the line's speed here; the question comes in at about that.
        if is_swiped { &mut after_swipe } else { &mut after_nothing }.push(took);
    }
    assert!(committed.0 as usize >= QUESTIONS / 2 - 1, "swipes came through");
    let allowed = timed_line::bytes(22, BAUD) + timed_line::THINK;
    for (asked, mut times) in [("after a swipe", after_swipe), ("after nothing", after_nothing)] {
        times.sort();
        let [tenth, median] = [10, 50].map(|percent| times[times.len() * percent / 100]);
        println!("asked {asked}, the image answers in {tenth:?} (one of ten), {median:?} (median)");
        assert!(tenth <= allowed, "asked {asked}: {tenth:?}, the model allows {allowed:?} with the question's bytes");
    }
}

/// The image, and a test in the place of the gateway.
pub struct Desk {
    pub reader: EmulatedReader,
    socket: PathBuf,
    line: Option<UnixStream>,
    gateway: GatewayEnd,
}

impl Desk {
    /// Without power at first.
    pub fn new(image: &Image, dir: &Path) -> Desk {
        let address = Address::new(1).unwrap();
        let settings = Settings { address, key: Some(Key(KEY)), baud: BAUD };
        let socket = dir.join("line");
        let reader = EmulatedReader::new(&image.path, dir, settings, Line::Socket(socket.clone()));
        Desk { reader, socket, line: None, gateway: GatewayEnd::keyed(address, Key(KEY), 1) }
    }

    /// A start, and the greeting.
    pub fn power_up(&mut self) {
        self.reader.power_up();
        let line = UnixStream::connect(&self.socket).unwrap();
        line.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        self.line = Some(line);
        let hello = self.gateway.hello().unwrap();
        self.exchange(&hello);
    }

    pub fn ask(&mut self, request: &Request) -> Answer {
        let wire = self.gateway.request(request).unwrap();
        self.exchange(&wire)
    }

    fn exchange(&mut self, wire: &Wire) -> Answer {
        let line = self.line.as_mut().unwrap();
        line.write_all(wire).unwrap();
        let (mut decoder, mut buffer) = (Decoder::new(), [0; 256]);
        loop {
            let count = line.read(&mut buffer).unwrap();
            assert!(count > 0, "the emulator is gone");
            let mut accepted = buffer[..count]
                .iter()
                .filter_map(|byte| decoder.handle_byte(*byte).and_then(|frame| self.gateway.accept(&frame)));
            if let Some(accepted) = accepted.next() {
                return accepted.answer;
            }
        }
    }
}
