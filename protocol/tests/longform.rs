//! Inputs without end for the decoders of the line and of badge modules: valid ones, mutated. No panic, no growth, and
//! what is whole is found again afterwards.
//!
//! `ANXIN_INPUTS` says how many; the long form is ten million each, `ANXIN_INPUTS=10000000 cargo nextest run --release
//! -p protocol -p firmware --test longform --no-capture`, some minutes. `tests/fuzz` does the same with a nightly compiler
//! and coverage.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod common;
mod inputs;

use common::{KEY, address, gateway, reader};
use crc::{CRC_16_XMODEM, Crc};
use inputs::Inputs;
use protocol::*;

#[test]
fn mutated_frames_stop_neither_end() {
    let mut inputs = Inputs::new("frames", corpus());
    let (mut gateway_end, mut reader_end, mut decoder) = (gateway(), reader(), Decoder::new());
    common::greet(&mut gateway_end, &mut reader_end);
    while let Some(bytes) = inputs.next() {
        for byte in &bytes {
            reader_end.handle_byte(*byte);
            if let Some(frame) = decoder.handle_byte(*byte) {
                assert_eq!(gateway_end.accept(&frame), None, "nobody asked: {bytes:02x?}");
            }
        }
        if inputs.is_time_to_look() {
            let hello = gateway_end.hello().unwrap();
            let taken = common::reader_takes(&mut reader_end, &hello);
            assert!(matches!(taken, Some(Ok(Request::Hello { .. }))), "did not resynchronise");
            gateway_end.forget();
        }
    }
}

/// Right CRC, no key: so everything gets to the messages.
#[test]
fn mutated_messages_stop_neither_end() {
    let mut inputs = Inputs::new("messages", payloads());
    let mut gateway_end = GatewayEnd::unkeyed(address(), 1);
    let mut reader_end = ReaderEnd::unkeyed(address(), BootId(7));
    common::greet(&mut gateway_end, &mut reader_end);
    let (mut decoder, mut id) = (Decoder::new(), 1_u64);
    while let Some(payload) = inputs.next() {
        id += 1;
        let asked = framed(false, id, &payload);
        if common::reader_takes(&mut reader_end, &asked).is_some() {
            reader_end.answer(&Answer::Done).unwrap();
        }
        let open = gateway_end.request(&Request::Status).unwrap();
        let answered = framed(true, id_of(&open), &payload);
        for byte in &answered {
            if let Some(frame) = decoder.handle_byte(*byte) {
                gateway_end.accept(&frame);
            }
        }
    }
}

#[test]
fn mutated_card_frames_stop_no_badge_decoder() {
    let frame = |digits: &str| [b"\x02", digits.as_bytes(), b"\x03"].concat();
    let corpus =
        vec![frame("62E3086CED08"), b"62E3086CED08\r\n".to_vec(), b"0A00112233\x03".to_vec(), vec![2, 2, 3, 3]];
    let mut inputs = Inputs::new("card frames", corpus);
    let mut decoder = em4100::Decoder::new();
    while let Some(bytes) = inputs.next() {
        for byte in &bytes {
            decoder.handle_byte(*byte);
        }
        if inputs.is_time_to_look() {
            decoder.handle_idle();
            let card = frame("62E3086CED08").iter().find_map(|byte| decoder.handle_byte(*byte));
            assert_eq!(card, Some(em4100::Card { version: 0x62, number: 0xE308_6CED }));
        }
    }
}

fn requests() -> Vec<Request> {
    vec![
        Request::Status,
        Request::Collect { committed: Seq(u32::MAX), lost_seen: 300, limit: 6 },
        Request::Signal { seq: Seq(41), signal: Signal::Unknown },
        Request::Open { order: u64::MAX, pulse_ms: 500, not_after: UptimeMs(90_000) },
        Request::SetTime { unix_ms: 1_772_406_065_123, at: UptimeMs(90_500) },
        Request::AllowList { digest: Digest([9; 8]) },
        Request::Start,
        Request::Next,
    ]
}

fn answers() -> Vec<Answer> {
    let punch = Punch { boot: BootId(7), at: UptimeMs(9_000), unix_ms: Some(1), badge: Badge::Low24(0x08_6CED) };
    let punches = |count| Answer::Punches {
        now: UptimeMs(90_500),
        released: Seq(39),
        first: Seq(40),
        lost: 2,
        lost_seen: 0,
        punches: std::iter::repeat_n(punch, count).collect(),
    };
    let status = Status { supply_mv: 12_000, journal_capacity: 7_686, ..Status::default() };
    vec![
        punches(0),
        punches(MAX_PUNCHES),
        Answer::Status(status),
        Answer::Welcome { nonce: 5, last_request: RequestId(9), status },
        Answer::Refused(Refusal::Expired),
        Answer::Start(StartCause::Watchdog),
        Answer::Nothing { now: UptimeMs(90_500) },
    ]
}

fn corpus() -> Vec<Vec<u8>> {
    let (mut gateway, mut reader) = (GatewayEnd::keyed(address(), KEY, 77), reader());
    let (hello, welcome) = common::greet(&mut gateway, &mut reader);
    let mut frames = vec![hello.to_vec(), welcome.to_vec()];
    for (request, answer) in requests().iter().zip(answers().iter().cycle()) {
        let wire = gateway.request(request).unwrap();
        frames.push(wire.to_vec());
        common::reader_takes(&mut reader, &wire).unwrap().unwrap();
        frames.push(reader.answer(answer).unwrap().to_vec());
    }
    // Recorded in another conversation: a boot that is over.
    frames
}

fn payloads() -> Vec<Vec<u8>> {
    requests().iter().map(encoded::<Request>).chain(answers().iter().map(encoded::<Answer>)).collect()
}

fn encoded<T: serde::Serialize>(message: &T) -> Vec<u8> {
    postcard::to_slice(message, &mut [0; 256]).unwrap().to_vec()
}

/// A frame without a key around any payload, from the layout in `src/frame.rs`; cut where a frame ends at the latest.
fn framed(answer: bool, id: u64, payload: &[u8]) -> Vec<u8> {
    let mut body = vec![0x10 | u8::from(answer), address().get()];
    body.extend(encoded(&id));
    body.push(7);
    body.extend(&payload[..payload.len().min(MAX_PAYLOAD)]);
    let crc = Crc::<u16>::new(&CRC_16_XMODEM).checksum(&body).to_le_bytes();
    body.extend(crc);
    let mut encoded = vec![0; body.len() + 2];
    let len = cobs::encode(&body, &mut encoded);
    [&[0], &encoded[..len], &[0]].concat()
}

/// The number of a request from its own bytes.
fn id_of(wire: &[u8]) -> u64 {
    let mut body = wire[1..wire.len() - 1].to_vec();
    let len = cobs::decode_in_place(&mut body).unwrap();
    postcard::take_from_bytes(&body[2..len]).unwrap().0
}
