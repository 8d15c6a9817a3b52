//! How long the real image takes to answer: what the model of a line in virtual time may assume of a reader.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ::gateway::clock::Clock;
use firmware::settings::Settings;
use harness::emulator::{EmulatedReader, Line};
use harness::timed_line;
use protocol::{Accepted, Address, Answer, Decoder, GatewayEnd, Key, Request, Seq, Wire};

use crate::emulated_image;
use crate::site::{BAUD, KEY};

const QUESTIONS: usize = 200;

/// The emulator runs as many instructions per second as the chip. The median counts: a machine with other work holds
/// some answers back.
#[test]
fn the_image_answers_within_the_time_that_the_model_of_a_line_gives_it() {
    let Some(image) = emulated_image() else { return };
    let dir = tempfile::tempdir().unwrap();
    let address = Address::new(1).unwrap();
    let settings = Settings { address, key: Some(Key(KEY)), baud: BAUD };
    let socket = dir.path().join("line");
    let mut reader = EmulatedReader::new(&image.path, dir.path(), settings, Line::Socket(socket.clone()));
    reader.power_up();
    let mut line = UnixStream::connect(&socket).unwrap();
    let mut gateway = GatewayEnd::keyed(address, Key(KEY), 1);
    let hello = gateway.hello().unwrap();
    ask(&mut line, &mut gateway, &hello);

    let clock = Clock::system();
    let (mut times, mut committed) = (Vec::new(), Seq(0));
    for question in 0..QUESTIONS {
        if question % 2 == 0 {
            reader.swipe(0x5000 + question as u32);
        }
        let request = gateway.request(&Request::Collect { committed, lost_seen: 0, limit: 6 }).unwrap();
        let began = clock.instant();
        let Accepted { answer, .. } = ask(&mut line, &mut gateway, &request);
        let took = clock.instant() - began;
        let Answer::Punches { first, punches, .. } = answer else { panic!("{answer:?}") };
        committed = Seq((first.0 + punches.len() as u32).saturating_sub(1));
        // The bytes are not sent at the line's speed here; the question comes in at about that.
        times.push(took);
    }
    times.sort();
    let [median, p90] = [50, 90].map(|percent| times[QUESTIONS * percent / 100]);
    println!("the image answers in {median:?} (median), {p90:?} (nine of ten)");
    assert!(committed.0 as usize >= QUESTIONS / 2 - 1, "swipes came through");
    let allowed = timed_line::bytes(22, BAUD) + timed_line::THINK;
    assert!(median <= allowed, "median {median:?}, the model allows {allowed:?} with the question's bytes");
}

fn ask(line: &mut UnixStream, gateway: &mut GatewayEnd, wire: &Wire) -> Accepted {
    line.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    line.write_all(wire).unwrap();
    let (mut decoder, mut buffer) = (Decoder::new(), [0; 256]);
    loop {
        let count = line.read(&mut buffer).unwrap();
        assert!(count > 0, "the emulator is gone");
        let accepted =
            buffer[..count].iter().find_map(|byte| decoder.handle_byte(*byte).and_then(|frame| gateway.accept(&frame)));
        if let Some(accepted) = accepted {
            return accepted;
        }
    }
}
