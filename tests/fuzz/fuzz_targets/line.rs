//! Any bytes on a reader line: both ends and the badge decoder go on, and the next whole frame is found.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{Address, BootId, Decoder, GatewayEnd, Key, ReaderEnd, Request, em4100};

fuzz_target!(|bytes: &[u8]| {
    let address = Address::new(1).expect("1 is an address");
    let key = Key([7; 16]);
    // Without a key the fuzzer gets past the tag and into the messages.
    let mut keyed = ReaderEnd::keyed(address, BootId(1), key);
    let mut open = ReaderEnd::unkeyed(address, BootId(1));
    let mut gateway = GatewayEnd::unkeyed(address, 0);
    let mut decoder = Decoder::new();
    let mut module = em4100::Decoder::new();
    gateway.hello();
    for byte in bytes {
        assert!(keyed.handle_byte(*byte).is_none(), "forged");
        open.handle_byte(*byte);
        module.handle_byte(*byte);
        if let Some(frame) = decoder.handle_byte(*byte)
            && gateway.accept(&frame).is_some()
        {
            gateway.request(&Request::Status);
        }
    }
    let hello = GatewayEnd::keyed(address, key, 1).hello().expect("a hello fits a frame");
    let taken = hello.iter().find_map(|byte| keyed.handle_byte(*byte));
    assert!(matches!(taken, Some(Ok(Request::Hello { .. }))), "did not resynchronise");
});
