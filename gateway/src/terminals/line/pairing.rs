//! Pairing on the bench: one reader at one port is told its address, its key and its line's speed.
//!
//! The reader believes whoever holds the cable, once; so the key goes over that cable and nowhere else, and is proven
//! right afterwards by a greeting that only its owner can answer. Knows nothing about files.

use std::io;
use std::path::Path;
use std::time::Duration;

use protocol::{Accepted, Address, Answer, Decoder, GatewayEnd, Key, Refusal, Request, Status, Wire};
use tokio::io::AsyncReadExt;
use tokio_serial::SerialStream;

use super::port;

/// The speed of a reader that was not told another one.
const FIRST_BAUD: u32 = 115_200;
/// For one answer; an adapter that was plugged in just now may need a moment.
const REPLY: Duration = Duration::from_millis(1_500);
const TRIES: u32 = 3;
/// For the reader's restart with its new settings.
const RESTART_TRIES: u32 = 10;

/// What the reader is to be.
#[derive(Clone, Copy, Debug)]
pub struct Pairing {
    pub address: Address,
    /// Bits per second of the line, 1 200 to 921 600.
    pub baud: u32,
    pub key: Key,
}

/// Why there is no paired reader.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    #[error("the port cannot be used: {0}")]
    Port(#[source] io::Error),
    /// Nothing was said to the reader.
    #[error("no reader that waits for its pairing answers")]
    NoReader,
    /// The reader is as it was.
    #[error("the reader refuses: {0:?}")]
    Refused(Refusal),
    /// Nobody knows whether it has taken what it was told.
    #[error("the reader was told, and does not answer as told")]
    Unproven,
}

/// Tells it, and has it prove that it has understood. Gives the status of the paired reader.
pub async fn pair(path: &Path, pairing: &Pairing, nonce: u64) -> Result<Status, PairError> {
    let mut bench = Bench::open(path, FIRST_BAUD, GatewayEnd::unkeyed(Address::UNPAIRED, nonce)).await?;
    bench.greet(TRIES).await.map_err(PairError::Port)?.ok_or(PairError::NoReader)?;
    let Pairing { address, baud, key } = *pairing;
    let request = Request::Pair(protocol::Pairing { address: address.get(), baud, key });
    let mut answer = None;
    for _ in 0..TRIES {
        let Some(wire) = bench.end.request(&request) else { break };
        answer = bench.exchange(&wire).await.map_err(PairError::Port)?;
        if answer.is_some() {
            break;
        }
    }
    match answer.map(|accepted| accepted.answer) {
        Some(Answer::Done) | None => {}
        Some(Answer::Refused(refusal)) => return Err(PairError::Refused(refusal)),
        Some(_) => return Err(PairError::NoReader),
    }
    drop(bench);
    prove(path, pairing, nonce).await
}

/// Only who has the key answers this greeting. The port may go and come with the reader's restart.
async fn prove(path: &Path, pairing: &Pairing, nonce: u64) -> Result<Status, PairError> {
    for attempt in 0..RESTART_TRIES {
        let nonce = nonce.wrapping_add(1 + u64::from(attempt));
        let end = GatewayEnd::keyed(pairing.address, pairing.key, nonce);
        if let Ok(mut bench) = Bench::open(path, pairing.baud, end).await
            && let Ok(Some(status)) = bench.greet(1).await
        {
            return Ok(status);
        }
        tokio::time::sleep(REPLY / 3).await;
    }
    Err(PairError::Unproven)
}

/// One port, one end.
struct Bench {
    port: SerialStream,
    end: GatewayEnd,
    decoder: Decoder,
}

impl Bench {
    async fn open(path: &Path, baud: u32, end: GatewayEnd) -> Result<Bench, PairError> {
        let port = port::open(path, baud).await.map_err(|error| PairError::Port(error.into()))?;
        Ok(Bench { port, end, decoder: Decoder::new() })
    }

    async fn greet(&mut self, tries: u32) -> io::Result<Option<Status>> {
        for _ in 0..tries {
            let Some(hello) = self.end.hello() else { return Ok(None) };
            if let Some(Accepted { answer: Answer::Welcome { status, .. }, .. }) = self.exchange(&hello).await? {
                return Ok(Some(status));
            }
        }
        Ok(None)
    }

    /// Sends a question and waits for its answer, for a while.
    async fn exchange(&mut self, wire: &Wire) -> io::Result<Option<Accepted>> {
        port::write(&mut self.port, wire).await?;
        tokio::time::timeout(REPLY, self.answer()).await.unwrap_or(Ok(None))
    }

    async fn answer(&mut self) -> io::Result<Option<Accepted>> {
        let mut buffer = [0; 256];
        loop {
            let read = self.port.read(&mut buffer).await;
            for byte in port::arrived(&buffer, read)? {
                let Some(frame) = self.decoder.handle_byte(*byte) else { continue };
                if let Some(accepted) = self.end.accept(&frame) {
                    return Ok(Some(accepted));
                }
            }
        }
    }
}
