//! 125 kHz modules: the decoder against the recorded bytes.

use protocol::em4100::{Card, Decoder};

const CARD: Card = Card { version: 0x62, number: 0xE308_6CED };

fn cards(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Card> {
    bytes.iter().filter_map(|byte| decoder.handle_byte(*byte)).collect()
}

#[test]
fn an_rdm6300_frame_is_a_card() {
    let bytes = include_bytes!("../../tests/fixtures/serial/rdm6300_frame.bin");
    assert_eq!(cards(&mut Decoder::new(), bytes), [CARD]);
}

#[test]
fn noise_and_half_frames_are_stepped_over() {
    let bytes = include_bytes!("../../tests/fixtures/serial/rdm6300_stream_noise_and_repeat.bin");
    let mut decoder = Decoder::new();
    assert_eq!(cards(&mut decoder, bytes), [CARD; 3]);
    assert!(decoder.noise() >= 2);
}

#[test]
fn twelve_digits_and_silence_are_a_card() {
    let bytes = include_bytes!("../../tests/fixtures/serial/em18_12ascii.bin");
    let mut decoder = Decoder::new();
    assert_eq!(cards(&mut decoder, bytes), []);
    assert_eq!(decoder.handle_idle(), Some(CARD));
    assert_eq!(decoder.handle_idle(), None);
}

#[test]
fn an_id12_frame_with_cr_lf_before_its_end_is_a_card() {
    assert_eq!(cards(&mut Decoder::new(), b"\x0262E3086CED08\r\n\x03"), [CARD]);
}

#[test]
fn a_wrong_checksum_is_noise() {
    let mut decoder = Decoder::new();
    assert_eq!(cards(&mut decoder, b"\x0262E3086CED09\x03"), []);
    assert_eq!(decoder.noise(), 1);
    assert_eq!(cards(&mut decoder, b"\x0262E3086CED08\x03"), [CARD]);
}

#[test]
fn silence_in_the_middle_drops_the_half() {
    let mut decoder = Decoder::new();
    cards(&mut decoder, b"62E308");
    assert!(decoder.is_midway());
    assert_eq!(decoder.handle_idle(), None);
    assert!(!decoder.is_midway());
    cards(&mut decoder, b"62E3086CED08");
    assert_eq!(decoder.handle_idle(), Some(CARD));
}
