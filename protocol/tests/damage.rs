//! Noise: any bytes, any damage. The decoder never fails, counts, and finds the next whole frame.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod common;

use common::*;
use proptest::collection::vec;
use proptest::prelude::*;
use protocol::*;

fn badge() -> impl Strategy<Value = Badge> {
    prop_oneof![any::<u32>().prop_map(Badge::Full), (0_u32..1 << 24).prop_map(Badge::Low24)]
}

fn punch() -> impl Strategy<Value = Punch> {
    (any::<u32>(), any::<u64>(), any::<Option<u64>>(), badge()).prop_map(|(boot, at, unix_ms, badge)| Punch {
        boot: BootId(boot),
        at: UptimeMs(at),
        unix_ms,
        badge,
    })
}

fn request() -> impl Strategy<Value = Request> {
    let signal = prop_oneof![Just(Signal::Stored), Just(Signal::Refused), Just(Signal::Unknown)];
    prop_oneof![
        (any::<u32>(), any::<u32>(), any::<u8>()).prop_map(|(committed, lost_seen, limit)| Request::Collect {
            committed: Seq(committed),
            lost_seen,
            limit
        }),
        Just(Request::Status),
        Just(Request::Start),
        Just(Request::Next),
        (any::<u32>(), signal).prop_map(|(seq, signal)| Request::Signal { seq: Seq(seq), signal }),
        (any::<u64>(), any::<u16>(), any::<u64>()).prop_map(|(order, pulse_ms, not_after)| Request::Open {
            order,
            pulse_ms,
            not_after: UptimeMs(not_after)
        }),
        (any::<u64>(), any::<u64>()).prop_map(|(unix_ms, at)| Request::SetTime { unix_ms, at: UptimeMs(at) }),
        any::<[u8; 8]>().prop_map(|digest| Request::AllowList { digest: Digest(digest) }),
    ]
}

fn punches() -> impl Strategy<Value = Answer> {
    (any::<u64>(), any::<[u32; 4]>(), vec(punch(), 0..=MAX_PUNCHES)).prop_map(|(now, [a, b, lost, seen], punches)| {
        Answer::Punches {
            now: UptimeMs(now),
            released: Seq(a),
            first: Seq(b),
            lost,
            lost_seen: seen,
            punches: punches.into_iter().collect(),
        }
    })
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(request in request(), answer in punches()) {
        let (mut gateway, mut reader) = (gateway(), reader());
        greet(&mut gateway, &mut reader);
        exchange(&mut gateway, &mut reader, request, answer);
        prop_assert_eq!(reader.damage().plus(gateway.damage()), Damage::default());
    }

    #[test]
    fn any_bytes_are_only_noise(bytes in vec(any::<u8>(), 0..2_000)) {
        let (mut gateway, mut reader) = (gateway(), reader());
        gateway.hello().unwrap();
        let mut module = em4100::Decoder::new();
        for byte in &bytes {
            module.handle_byte(*byte);
        }
        prop_assert_eq!(gateway_takes(&mut gateway, &bytes), None);
        prop_assert_eq!(reader_takes(&mut reader, &bytes), None);
    }

    /// The frame after the damaged one arrives whole, whatever happened before it.
    #[test]
    fn the_frame_after_any_damage_is_found(
        noise in vec(any::<u8>(), 0..300),
        flips in vec((any::<prop::sample::Index>(), 1_u8..), 1..6),
        cut in any::<prop::sample::Index>(),
        request in request(),
    ) {
        let (mut gateway, mut reader) = (gateway(), reader());
        greet(&mut gateway, &mut reader);
        let mut damaged = gateway.request(&Request::Status).unwrap();
        for (index, flip) in flips {
            let index = index.index(damaged.len());
            damaged[index] ^= flip;
        }
        damaged.truncate(cut.index(damaged.len()) + 1);
        reader_takes(&mut reader, &noise);
        reader_takes(&mut reader, &damaged);

        let wire = gateway.request(&request).unwrap();
        prop_assert_eq!(reader_takes(&mut reader, &wire), Some(Ok(request)));
    }

    /// One flipped bit is never believed.
    #[test]
    fn a_flipped_bit_is_dropped_and_counted(index in any::<prop::sample::Index>(), bit in 0..8, request in request()) {
        let (mut gateway, mut reader) = (gateway(), reader());
        greet(&mut gateway, &mut reader);
        let wire = gateway.request(&request).unwrap();
        // Not the delimiters: a frame whose delimiter is damaged is completed by the next one.
        let index = 1 + index.index(wire.len() - 2);
        let mut damaged = wire.clone();
        damaged[index] ^= 1_u8 << bit;
        prop_assert_eq!(reader_takes(&mut reader, &damaged), None);
        prop_assert_ne!(reader.damage(), Damage::default());
        prop_assert_eq!(reader_takes(&mut reader, &wire), Some(Ok(request)));
    }
}

#[test]
fn a_line_without_delimiters_costs_one_frame_of_memory_and_is_counted() {
    let mut decoder = Decoder::new();
    for _ in 0..10_000 {
        assert_eq!(decoder.handle_byte(0x55), None);
    }
    assert_eq!(decoder.handle_byte(0), None);
    assert_eq!(decoder.damage(), Damage { too_long: 1, ..Damage::default() });
}

#[test]
fn each_kind_of_damage_has_its_counter() {
    let (mut gateway, mut reader) = (gateway(), reader());
    let hello = gateway.hello().unwrap();
    let mut flipped = hello.clone();
    flipped[hello.len() - 2] ^= 1;
    reader_takes(&mut reader, &flipped);
    assert_eq!(reader.damage(), Damage { crc: 1, ..Damage::default() });
    reader_takes(&mut reader, &[0, 9, 9, 0]);
    assert_eq!(reader.damage(), Damage { crc: 1, cobs: 1, ..Damage::default() });
}
