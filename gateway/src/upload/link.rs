//! HTTP to one platform. Says exactly one thing about a request that failed: whether a byte of it can have left.

use std::time::{Duration, Instant};

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;

use super::profiles::Wire;
use crate::clock::Clock;
use crate::config::Platform;

/// Time for a connection; the request's own time comes on top of none of it.
const CONNECT: Duration = Duration::from_secs(10);
/// Connections that rested longer are not used again: many servers close them just then, and a request written into a
/// closing connection has an unknown outcome.
const REST: Duration = Duration::from_secs(3);
/// More than any page of a listing.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// A client of one platform's address.
#[derive(Clone, Debug)]
pub struct Link {
    client: reqwest::Client,
    endpoint: String,
    clock: Clock,
}

/// What came of a request.
#[derive(Debug)]
pub enum Heard {
    Answer {
        status: u16,
        body: Vec<u8>,
        sent: Instant,
    },
    /// No byte of the request was written.
    NotSent {
        text: String,
    },
    /// The request may have arrived.
    Lost {
        text: String,
        sent: Instant,
    },
}

impl Link {
    /// A link that goes to the configured address and nowhere else: no proxy of the environment, no redirects.
    pub fn new(platform: &Platform, clock: Clock) -> Result<Link, reqwest::Error> {
        // Somebody else in the process may have chosen already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(platform.request_timeout)
            .connect_timeout(CONNECT.min(platform.request_timeout / 2))
            .pool_idle_timeout(REST)
            .redirect(Policy::none())
            .no_proxy()
            .build()?;
        Ok(Link { client, endpoint: platform.endpoint.clone(), clock })
    }

    /// Sends, and waits for the answer for as long as the platform's request timeout.
    pub async fn post(&self, wire: Wire) -> Heard {
        let request = self.client.post(&self.endpoint).header(CONTENT_TYPE, wire.content_type).body(wire.body);
        let sent = self.clock.instant();
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() || error.is_builder() => return Heard::NotSent { text: words(&error) },
            Err(error) => return Heard::Lost { text: words(&error), sent },
        };
        let status = response.status().as_u16();
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= LONGEST_ANSWER => body.extend_from_slice(&chunk),
                Ok(Some(_)) => return Heard::Lost { text: "the answer does not end".to_owned(), sent },
                Ok(None) => return Heard::Answer { status, body, sent },
                Err(error) => return Heard::Lost { text: words(&error), sent },
            }
        }
    }
}

/// The error and what it comes from, without the address.
fn words(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time".to_owned() } else { String::new() };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if text.is_empty() { "the request failed".to_owned() } else { text }
}
