//! The console on a real socket.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A served console, its address, and the order to stop.
async fn served(rig: &mut Rig) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (context, stop) = (rig.console.context.clone(), rig.stop.clone());
    rig.tasks.spawn(async move { serve(listener, context, stop).await.unwrap() });
    address
}

#[tokio::test]
async fn open_streams_do_not_delay_the_shutdown() {
    let mut rig = Rig::start().await;
    let address = served(&mut rig).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /live HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = vec![0; 1024];
    let read = stream.read(&mut seen).await.unwrap();
    assert!(seen[..read].starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&seen[..read]));
    let idle = TcpStream::connect(address).await.unwrap();
    let begun = Clock::system().instant();
    rig.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the stream was cut instead of ended");
    drop(idle);
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let mut rig = Rig::start().await;
    let address = served(&mut rig).await;
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    let mut refused = 0;
    for stream in &mut held {
        let closed = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
        refused += usize::from(matches!(closed, Ok(Err(_))));
    }
    assert_eq!(refused, 12);
    drop(held);
    rig.stop().await;
}

#[tokio::test]
async fn garbage_and_endless_heads_get_an_answer_or_a_closed_door() {
    let mut rig = Rig::start().await;
    let address = served(&mut rig).await;
    for nonsense in
        [b"\x16\x03\x01\x02\x00\x01".to_vec(), [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 200_000]].concat()]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The door may close while we are still writing.
        let _ = stream.write_all(&nonsense).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.expect("left open");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    rig.stop().await;
}
