//! Golden bytes of version 1. Readers in the field speak them: the bytes do not change. When one of these tests fails,
//! revert the change, not the test; a new message is a new line here. They were computed from the layout in
//! `src/frame.rs` by a second implementation, not by printing what this crate produced.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod common;

use common::{KEY, address, gateway, hex, reader};
use protocol::allow;
use protocol::image::{Header, Piece};
use protocol::*;

const NONCE: u64 = 0x0102_0304_0506_0708;

fn status() -> Status {
    Status {
        now: UptimeMs(90_061),
        firmware: [1, 4, 2],
        supply_mv: 12_130,
        tamper: true,
        time_set: true,
        journal_fill: 3,
        journal_capacity: 256,
        lost: 2,
        next: Seq(42),
        badge_noise: 5,
        damage: Damage { crc: 1, cobs: 2, too_long: 3, malformed: 4, forged: 5, stale: 6, late: 0 },
    }
}

fn punch(boot: u32, at: u64, unix_ms: Option<u64>, badge: Badge) -> Punch {
    Punch { boot: BootId(boot), at: UptimeMs(at), unix_ms, badge }
}

fn punches() -> Answer {
    let punches = [
        punch(6, 4_000_000, Some(1_772_406_065_123), Badge::Full(0xE308_6CED)),
        punch(7, 1_500, None, Badge::Low24(0x08_6CED)),
    ];
    Answer::Punches {
        now: UptimeMs(90_500),
        released: Seq(39),
        first: Seq(40),
        lost: 2,
        lost_seen: 0,
        punches: punches.into_iter().collect(),
    }
}

/// Every request after the hello with its bytes, then its answer with its bytes.
fn conversation() -> Vec<(Request, &'static str, Answer, &'static str)> {
    let order = Request::Open { order: 3, pulse_ms: 800, not_after: UptimeMs(93_500) };
    let time = Request::SetTime { unix_ms: 1_772_406_065_123, at: UptimeMs(90_500) };
    vec![
        (
            Request::Collect { committed: Seq(39), lost_seen: 0, limit: 6 },
            "00081209c9010701270c069d5758250fbdcdd93e7b00",
            punches(),
            "000d1309c901070184c3052728020e02068092f40101e38f89ddca3309edd9a1980e07dc0b0f01edd92143ebee378c6046628ce500",
        ),
        (
            Request::Status,
            "00111209ca0107026675ccf63deae868e4a700",
            Answer::Status(status()),
            "001d1309ca010702cdbf05010402e25e0101038002022a050102030405060b8fac487f5fc4c8d0fb3200",
        ),
        (
            order,
            "00171209cb01070403a006bcda05a06f54ec828d21b459d800",
            Answer::Done,
            "00111309cb0107038d68c2963efe0f96c05500",
        ),
        (
            order,
            "00171209cc01070403a006bcda0589ecc9ab4d8aff19783f00",
            Answer::Refused(Refusal::Expired),
            "00121309cc010704016082704e851cbd331c5400",
        ),
        (
            time,
            "001a1209cd010705e38f89ddca3384c30538bd0a90fd2dc38f7e7300",
            Answer::Refused(Refusal::OutOfOrder),
            "00121309cd010704029fa63107528a3fe6754400",
        ),
        (
            Request::Signal { seq: Seq(41), signal: Signal::Stored },
            "00081209ce010703290bc1c70c2649f166a6ee8f00",
            Answer::Refused(Refusal::NotUnderstood),
            "00071309ce0107040b7c7419bcf3c2ea8c0d2100",
        ),
        (
            Request::Signal { seq: Seq(41), signal: Signal::Refused },
            "00131209cf01070329010ec1769095bcc3b7691400",
            Answer::Done,
            "00111309cf0107032bddcea66977c361f49f00",
        ),
        (
            Request::Signal { seq: Seq(41), signal: Signal::Unknown },
            "000c1209d001070329024d1ba60796abb20a3d7a00",
            Answer::Done,
            "00111309d001070334725107077ee955a66100",
        ),
        (
            Request::AllowList { digest: Digest([1, 2, 3, 4, 5, 6, 7, 8]) },
            "00191209d101070601020304050607083d2f4548cc80eb7e0b4400",
            Answer::AllowList { held: Digest([0; 8]) },
            "00071309d1010705010101010101010b9ebd7d29a30db27a7c9c00",
        ),
    ]
}

fn image(version: u32, on_trial: bool, target: u8, staging: Staging) -> Answer {
    Answer::Image(Image { board: 1, version, on_trial, target, staging })
}

/// The same conversation goes on about the reader's program and its pairing.
fn upkeep() -> Vec<(Request, &'static str, Answer, &'static str)> {
    let piece = Piece(std::array::from_fn(|index| (7 * index + 1) as u8));
    let pairing = Pairing { address: 12, baud: 9_600, key: Key(std::array::from_fn(|index| index as u8)) };
    vec![
        (
            Request::Image,
            "00111209d2010707d0c96e75818ff04b909100",
            image(0, false, 1, Staging::Nothing),
            "00081309d2010706010102010b8df919e50906e945281300",
        ),
        (
            Request::Stage { header: piece },
            "00501209d301070801080f161d242b323940474e555c636a71787f868d949ba2a9b0b7bec5ccd3dae1e8eff6fd040b121920272e353c434a51585f666d747b828990979ea5acb3bac1c8cfd6dde4ebf2f941070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9e0e7eef5fc030a11181f262d343b424950575e656c737a5deddfa370aacfcf933e00",
            image(5, true, 2, Staging::Checking),
            "00161309d30107060105010201f5824a97dc3782f7bdbf00",
        ),
        (
            Request::Write { index: 300, piece },
            "00521209d4010709ac0201080f161d242b323940474e555c636a71787f868d949ba2a9b0b7bec5ccd3dae1e8eff6fd040b121920272e353c434a51585f666d747b828990979ea5acb3bac1c8cfd6dde4ebf2f941070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9e0e7eef5fc030a11181f262d343b424950575e656c737a9ff1fcfeb8baa45eefd500",
            image(5, false, 2, Staging::Next(301)),
            "00091309d401070601050f0202ad02bfcd3726b083329ba10200",
        ),
        (
            Request::Install,
            "00111209d501070ad5413c992c7f70cca43600",
            image(5, false, 2, Staging::Ready),
            "00091309d501070601050d020310c3a45048725675385300",
        ),
        (
            Request::Install,
            "00111209d601070aae96b0cd6a8111c2c62600",
            Answer::Refused(Refusal::NotSigned),
            "00121309d601070403b3891631e9a4f4e3fd2700",
        ),
        (
            Request::Install,
            "00111209d701070a4f6ef8d58f4c6971088500",
            Answer::Refused(Refusal::OtherBoard),
            "00121309d7010704047d659052528c893080e700",
        ),
        (
            Request::Install,
            "00111209d801070ae23f19e825326c13590500",
            Answer::Refused(Refusal::OldVersion),
            "00121309d801070405a76d407433d38d05eb6f00",
        ),
        (
            Request::Install,
            "00111209d901070a92e439b8d0f52b5ba34100",
            Answer::Refused(Refusal::Damaged),
            "00121309d901070406759d033f0399827b92b100",
        ),
        (
            Request::Install,
            "00111209da01070a34e580edd3f8cddd83ed00",
            Answer::Refused(Refusal::NotStaged),
            "00121309da010704077c0b8d0d81109f9f4ab000",
        ),
        (
            Request::Install,
            "00111209db01070ae3f0663c3ef1d789891f00",
            Answer::Refused(Refusal::NoFlash),
            "00121309db0107040879400693c5c90a2f0d5200",
        ),
        (
            Request::Install,
            "00111209dc01070a36eea48552aff2ef047900",
            Answer::Refused(Refusal::Paired),
            "00121309dc0107040963ab5ed362a01676ffd300",
        ),
        (
            Request::Pair(pairing),
            "000a1209dd01070b0c804b1a0102030405060708090a0b0c0d0e0f8e8b5143761e9f9706d800",
            Answer::Done,
            "00111309dd01070347bdc38a8fa1c137916400",
        ),
        (
            Request::OfferList { header: piece },
            "00501209de01070c01080f161d242b323940474e555c636a71787f868d949ba2a9b0b7bec5ccd3dae1e8eff6fd040b121920272e353c434a51585f666d747b828990979ea5acb3bac1c8cfd6dde4ebf2f941070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9e0e7eef5fc030a11181f262d343b424950575e656c737ae7c8d13d135e9293990e00",
            Answer::List { held: Digest([1, 2, 3, 4, 5, 6, 7, 8]), staging: Staging::Next(2) },
            "001b1309de010707010203040506070802024d92a20110dafa0c58f200",
        ),
        (
            Request::WriteList { index: 200, piece },
            "00521209df01070dc80101080f161d242b323940474e555c636a71787f868d949ba2a9b0b7bec5ccd3dae1e8eff6fd040b121920272e353c434a51585f666d747b828990979ea5acb3bac1c8cfd6dde4ebf2f941070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9e0e7eef5fc030a11181f262d343b424950575e656c737a2d8fb6f39979b8e0ec1900",
            Answer::List { held: Digest([0; 8]), staging: Staging::Nothing },
            "00071309df01070701010101010101010bda4514091875ed3eac9d00",
        ),
        (
            Request::Start,
            "00111209e001070e16d987bf15e0ce64584e00",
            Answer::Start(StartCause::Watchdog),
            "00121309e001070803bb9bfcdf243dfb841da400",
        ),
        (
            Request::Next,
            "00111209e101070fe416c9bb32a7fc1bbde900",
            Answer::Nothing { now: UptimeMs(90_500) },
            "00141309e101070984c305adee3f26ebe39f43bf3c00",
        ),
    ]
}

const HELLO: &str = "00031209010114888e98a8c0e08081018761867d8e163b4359aa00";
const WELCOME: &str =
    "00031309020722888e98a8c0e0808101c801cdbf05010402e25e0101038002022a050102030405060bcb3970855d3ed865f88100";

#[test]
fn a_conversation_with_a_key_has_these_bytes() {
    let mut gateway = GatewayEnd::keyed(address(), KEY, NONCE - 1);
    let mut reader = ReaderEnd::keyed(address(), BootId(7), KEY);
    let welcome = Answer::Welcome { nonce: NONCE, last_request: RequestId(200), status: status() };

    let hello = gateway.hello().unwrap();
    assert_eq!(hex(&hello), HELLO);
    assert_eq!(common::reader_takes(&mut reader, &hello), Some(Ok(Request::Hello { nonce: NONCE })));
    let wire = reader.answer(&welcome).unwrap();
    assert_eq!(hex(&wire), WELCOME);
    assert_eq!(common::gateway_takes(&mut gateway, &wire), Some(Accepted { boot: BootId(7), answer: welcome }));

    for (request, asked, answer, answered) in conversation().into_iter().chain(upkeep()) {
        let wire = gateway.request(&request).unwrap();
        assert_eq!(hex(&wire), asked, "{request:?}");
        assert_eq!(common::reader_takes(&mut reader, &wire), Some(Ok(request)));
        let wire = reader.answer(&answer).unwrap();
        assert_eq!(hex(&wire), answered, "{answer:?}");
        assert_eq!(common::gateway_takes(&mut gateway, &wire), Some(Accepted { boot: BootId(7), answer }));
    }
}

#[test]
fn a_hello_without_a_key_has_these_bytes() {
    let mut gateway = GatewayEnd::unkeyed(address(), NONCE - 1);
    assert_eq!(hex(&gateway.hello().unwrap()), "0003100901010c888e98a8c0e0808101d62a00");
}

#[test]
fn the_largest_messages_fit_a_frame() {
    let (mut gateway, mut reader) = (gateway(), reader());
    common::greet(&mut gateway, &mut reader);
    let wire = gateway.request(&Request::Status).unwrap();
    common::reader_takes(&mut reader, &wire).unwrap().unwrap();
    let largest = punch(u32::MAX, u64::MAX, Some(u64::MAX), Badge::Full(u32::MAX));
    let answer = Answer::Punches {
        now: UptimeMs(u64::MAX),
        released: Seq(u32::MAX),
        first: Seq(u32::MAX),
        lost: u32::MAX,
        lost_seen: u32::MAX,
        punches: [largest; MAX_PUNCHES].into_iter().collect(),
    };
    let wire = reader.answer(&answer).unwrap();
    assert_eq!(common::gateway_takes(&mut gateway, &wire).unwrap().answer, answer);
}

#[test]
fn the_header_of_an_image_has_these_bytes() {
    let hash = std::array::from_fn(|index| index as u8);
    let header = Header { board: 1, slot: 2, version: 258, length: 512, hash };
    let signature = std::array::from_fn(|index| 64 + index as u8);
    let piece = header.piece(&signature);
    let golden = "41584931010200000201000000020000000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f00000000000000000000000000000000";
    assert_eq!(hex(&piece.0), golden);
    assert_eq!(hex(&header.signed()), golden[..96]);
    assert_eq!(Header::parse(&piece), Some((header, signature)));
}

#[test]
fn a_header_with_a_wrong_mark_length_version_or_filling_is_none() {
    let header = Header { board: 1, slot: 1, version: 1, length: 128, hash: [0; 32] };
    assert!(Header::parse(&header.piece(&[0; 64])).is_some());
    for wrong in [Header { version: 0, ..header }, Header { length: 0, ..header }, Header { length: 130, ..header }] {
        assert_eq!(Header::parse(&wrong.piece(&[0; 64])), None);
    }
    for byte in [0, 3, 6, 7, 112, 127] {
        let Piece(mut bytes) = header.piece(&[0; 64]);
        bytes[byte] ^= 1;
        assert_eq!(Header::parse(&Piece(bytes)), None, "byte {byte}");
    }
}

#[test]
fn an_allow_list_has_these_bytes() {
    use protocol::allow::Mark;
    let header = allow::Header { fingerprints: 300, length: 1_280, hash: std::array::from_fn(|index| index as u8) };
    let golden = "41584c312c01000000050000000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
    assert_eq!(hex(&header.piece().0), golden);
    assert_eq!(allow::Header::parse(&header.piece()), Some(header));
    assert_eq!(header.digest(), Digest([0, 1, 2, 3, 4, 5, 6, 7]));
    for (mark, key, fingerprint) in [
        (Mark::Full(0xE308_6CED), Some(KEY), 0xfe58b1cc),
        (Mark::LowOfFull(0x0008_6CED), Some(KEY), 0x581b87b1),
        (Mark::Low(0x0008_6CED), Some(KEY), 0x18caaebc),
        (Mark::Full(0xE308_6CED), None, 0x805b2ba5),
    ] {
        assert_eq!(mark.fingerprint(key), fingerprint, "{mark:?}");
    }
    for wrong in [
        allow::Header { length: 0, fingerprints: 0, ..header },
        allow::Header { length: 1_281, ..header },
        allow::Header { fingerprints: 321, ..header },
    ] {
        assert_eq!(allow::Header::parse(&wrong.piece()), None);
    }
}
