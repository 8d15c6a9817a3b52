//! Golden bytes of version 1. Readers in the field speak them: the bytes do not change. When one of these tests fails,
//! revert the change, not the test; a new message is a new line here. They were computed from the layout in
//! `src/frame.rs` by a second implementation, not by printing what this crate produced.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod common;

use common::{KEY, address, gateway, hex, reader};
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
        (
            Request::Start,
            "00111209d2010707d0c96e75818ff04b909100",
            Answer::Start(StartCause::Watchdog),
            "00121309d201070603d4360d31c20f25de15b200",
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

    for (request, asked, answer, answered) in conversation() {
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
