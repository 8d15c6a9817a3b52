//! What the two ends believe: replays, forgeries, restarts, keys.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod common;

use common::*;
use protocol::*;

const COLLECT: Request = Request::Collect { committed: Seq(3), lost_seen: 0, limit: 4 };

fn done() -> Answer {
    Answer::Done
}

#[test]
fn a_request_is_taken_once() {
    let (mut gateway, mut reader) = (gateway(), reader());
    greet(&mut gateway, &mut reader);
    let (asked, _) = exchange(&mut gateway, &mut reader, COLLECT, done());

    assert_eq!(reader_takes(&mut reader, &asked), None);

    assert_eq!(reader.damage().stale, 1);
    assert_eq!(reader.answer(&done()), None);
}

#[test]
fn a_request_of_an_earlier_boot_is_dropped() {
    let (mut gateway, mut reader) = (gateway(), reader());
    greet(&mut gateway, &mut reader);
    let (asked, _) = exchange(&mut gateway, &mut reader, COLLECT, done());
    let mut rebooted = ReaderEnd::keyed(address(), BootId(8), KEY);

    assert_eq!(reader_takes(&mut rebooted, &asked), None);

    assert_eq!(rebooted.damage().stale, 1);
}

#[test]
fn an_answer_is_believed_once_and_only_by_its_request() {
    let (mut gateway, mut reader) = (gateway(), reader());
    greet(&mut gateway, &mut reader);
    let (_, recorded) = exchange(&mut gateway, &mut reader, COLLECT, done());

    assert_eq!(gateway_takes(&mut gateway, &recorded), None);
    gateway.request(&Request::Status).unwrap();
    assert_eq!(gateway_takes(&mut gateway, &recorded), None);

    assert_eq!(gateway.damage().stale, 2);
    assert_eq!(gateway.damage().forged, 0);
}

/// Both gateways use request id 1 of the same boot, and somebody recorded the first one's answer.
#[test]
fn an_answer_to_the_same_request_id_before_a_gateway_restart_is_forged() {
    let (mut before, mut reader) = (gateway(), reader());
    greet(&mut before, &mut reader);
    let held_back = before.request(&COLLECT).unwrap();
    let mut after = GatewayEnd::keyed(address(), KEY, 99);
    greet(&mut after, &mut reader);
    after.request(&Request::Status).unwrap();
    reader_takes(&mut reader, &held_back).unwrap().unwrap();
    let recorded = reader.answer(&done()).unwrap();

    assert_eq!(gateway_takes(&mut after, &recorded), None);

    assert_eq!(after.damage().forged, 1);
}

#[test]
fn a_recorded_welcome_does_not_begin_a_session() {
    let (mut gateway, mut reader) = (gateway(), reader());
    let (_, recorded) = greet(&mut gateway, &mut reader);
    let mut restarted = GatewayEnd::keyed(address(), KEY, 77);
    restarted.hello().unwrap();

    assert_eq!(gateway_takes(&mut restarted, &recorded), None);

    assert_eq!(restarted.boot(), None);
    assert_eq!(restarted.damage().forged, 1);
    assert_eq!(restarted.request(&Request::Status), None);
}

#[test]
fn a_restarted_gateway_goes_on_above_the_ids_that_the_reader_has_taken() {
    let (mut gateway, mut reader) = (gateway(), reader());
    greet(&mut gateway, &mut reader);
    for _ in 0..5 {
        exchange(&mut gateway, &mut reader, COLLECT, done());
    }
    let mut restarted = GatewayEnd::keyed(address(), KEY, 1_000);
    greet(&mut restarted, &mut reader);
    exchange(&mut restarted, &mut reader, COLLECT, done());
    assert_eq!(reader.last_request(), RequestId(6));
    assert_eq!(reader.damage().stale, 0);
}

#[test]
fn an_answer_that_comes_after_it_was_given_up_is_late_and_not_an_attack() {
    let (mut gateway, mut reader) = (gateway(), reader());
    greet(&mut gateway, &mut reader);
    let asked = gateway.request(&COLLECT).unwrap();
    reader_takes(&mut reader, &asked).unwrap().unwrap();
    let late = reader.answer(&done()).unwrap();
    gateway.give_up();

    assert_eq!(gateway_takes(&mut gateway, &late), None);
    assert_eq!(gateway.damage(), Damage { late: 1, ..Damage::default() });
    assert_eq!(gateway_takes(&mut gateway, &late), None);
    assert_eq!(gateway.damage(), Damage { late: 1, stale: 1, ..Damage::default() });
}

#[test]
fn another_key_is_forged_in_both_directions() {
    let other = Key([0x55; 16]);
    let mut forger = GatewayEnd::keyed(address(), other, 1);
    let mut reader = reader();
    assert_eq!(reader_takes(&mut reader, &forger.hello().unwrap()), None);
    assert_eq!(reader.damage().forged, 1);

    let mut gateway = gateway();
    let mut impostor = ReaderEnd::keyed(address(), BootId(7), other);
    let hello = gateway.hello().unwrap();
    // Even one that has broken the other direction cannot answer without the key.
    let mut open = ReaderEnd::unkeyed(address(), BootId(7));
    assert_eq!(reader_takes(&mut impostor, &hello), None);
    assert_eq!(reader_takes(&mut open, &hello), None);
    assert_eq!(open.damage().forged, 1);
}

#[test]
fn a_keyed_end_does_not_go_back_to_unkeyed_frames() {
    let mut bare = GatewayEnd::unkeyed(address(), 1);
    let mut reader = reader();
    assert_eq!(reader_takes(&mut reader, &bare.hello().unwrap()), None);
    assert_eq!(reader.damage().forged, 1);

    let mut open = ReaderEnd::unkeyed(address(), BootId(7));
    reader_takes(&mut open, &bare.hello().unwrap()).unwrap().unwrap();
    let answered = open.answer(&Answer::Done).unwrap();
    let mut gateway = gateway();
    gateway.hello().unwrap();
    assert_eq!(gateway_takes(&mut gateway, &answered), None);
    assert_eq!(gateway.damage().forged, 1);
}

#[test]
fn an_unkeyed_pair_still_drops_what_is_stale() {
    let mut gateway = GatewayEnd::unkeyed(address(), 1);
    let mut reader = ReaderEnd::unkeyed(address(), BootId(2));
    let (_, welcome) = greet(&mut gateway, &mut reader);
    let (asked, answered) = exchange(&mut gateway, &mut reader, COLLECT, done());
    assert_eq!(reader_takes(&mut reader, &asked), None);
    gateway.request(&Request::Status).unwrap();
    assert_eq!(gateway_takes(&mut gateway, &answered), None);
    gateway.hello().unwrap();
    assert_eq!(gateway_takes(&mut gateway, &welcome), None);
    assert_eq!((reader.damage().stale, gateway.damage().stale), (1, 2));
}

#[test]
fn readers_on_one_line_ignore_each_other() {
    let (mut gateway, mut reader) = (gateway(), reader());
    let mut neighbour = ReaderEnd::keyed(Address::new(10).unwrap(), BootId(1), Key([1; 16]));
    let (hello, welcome) = greet(&mut gateway, &mut reader);
    for wire in [hello, welcome] {
        assert_eq!(reader_takes(&mut neighbour, &wire), None);
    }
    assert_eq!(neighbour.damage(), Damage::default());
}

#[test]
fn addresses_are_1_to_247() {
    assert_eq!([0, 248, 255].map(Address::new), [None; 3]);
    assert_eq!([1, 247].map(|address| Address::new(address).map(Address::get)), [Some(1), Some(247)]);
}
