//! Two ends of a conversation, shared by the tests.
#![allow(dead_code, reason = "each test binary uses its own part")]

use protocol::*;

pub const KEY: Key = Key(*b"sixteen byte key");

pub fn address() -> Address {
    Address::new(9).unwrap()
}

pub fn gateway() -> GatewayEnd {
    GatewayEnd::keyed(address(), KEY, 1)
}

pub fn reader() -> ReaderEnd {
    ReaderEnd::keyed(address(), BootId(7), KEY)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn reader_takes(reader: &mut ReaderEnd, wire: &[u8]) -> Option<Result<Request, NotUnderstood>> {
    wire.iter().filter_map(|byte| reader.handle_byte(*byte)).last()
}

pub fn gateway_takes(gateway: &mut GatewayEnd, wire: &[u8]) -> Option<Accepted> {
    let mut decoder = Decoder::new();
    let mut accepted = None;
    for byte in wire {
        if let Some(frame) = decoder.handle_byte(*byte) {
            accepted = gateway.accept(&frame).or(accepted);
        }
    }
    accepted
}

/// Hello and welcome; tells the bytes of both.
pub fn greet(gateway: &mut GatewayEnd, reader: &mut ReaderEnd) -> (Wire, Wire) {
    let hello = gateway.hello().unwrap();
    let Some(Ok(Request::Hello { nonce })) = reader_takes(reader, &hello) else { panic!("no hello") };
    let last_request = reader.last_request();
    let welcome = reader.answer(&Answer::Welcome { nonce, last_request, status: Status::default() }).unwrap();
    gateway_takes(gateway, &welcome).unwrap();
    (hello, welcome)
}

/// One exchange; tells the bytes of both.
pub fn exchange(gateway: &mut GatewayEnd, reader: &mut ReaderEnd, request: Request, answer: Answer) -> (Wire, Wire) {
    let asked = gateway.request(&request).unwrap();
    assert_eq!(reader_takes(reader, &asked), Some(Ok(request)));
    let answered = reader.answer(&answer).unwrap();
    assert_eq!(gateway_takes(gateway, &answered).map(|accepted| accepted.answer), Some(answer));
    (asked, answered)
}
