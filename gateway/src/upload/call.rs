//! One request on its way: pictures, payload, the step that says it leaves, signature, HTTP, answer.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::courier::{CallId, Order, Outcome};
use super::link::{Heard, Link};
use super::picture;
use super::profiles::{Pictures, Profile, Request};
use crate::clock::Clock;
use crate::punch::{Fact, PhotoHash, Seq, Step};
use crate::store::Store;

/// After a refusal of the store, until it is tried again.
const STORE_AGAIN: Duration = Duration::from_millis(500);

/// Everything that one request needs on its way.
pub struct Call {
    pub store: Store,
    pub clock: Clock,
    pub link: Link,
    pub profile: Arc<Profile>,
    pub image_limit_kib: u32,
    /// Whether a worker may not be registered without the photo.
    pub pictures_must_be_good: bool,
    pub stop: CancellationToken,
}

impl Call {
    /// Prepares, stores that it leaves, signs, sends, reads the answer.
    pub async fn make(self, order: Order) -> (CallId, Outcome) {
        let Order { call, request, sending } = order;
        let pictures = match self.pictures(&request).await {
            Ok(pictures) => pictures,
            Err(outcome) => return (call, outcome),
        };
        let payload = self.profile.payload(&request, &pictures);
        if let Some(mut sending) = sending {
            sending.step = Step::Sending { request_hash: Sha256::digest(payload.as_bytes()).into() };
            if append(&self.store, vec![Fact::Upload(sending)], &self.stop).await.is_none() {
                return (call, Outcome::NotSent { text: "the gateway stops".to_owned() });
            }
        }
        let nonce = format!("{:032x}", rand::random::<u128>());
        let wire = self.profile.sign(request.method(), &payload, self.clock.now(), &nonce);
        let outcome = match self.link.post(wire).await {
            Heard::Answer { status, body, sent } => {
                Outcome::Answered { answer: self.profile.read(&request, status, &body), sent }
            }
            Heard::NotSent { text } => Outcome::NotSent { text },
            Heard::Lost { text, sent } => Outcome::Lost { text, sent },
        };
        tracing::debug!(method = self.profile.method_name(request.method()), ?outcome, "request to the platform");
        (call, outcome)
    }

    /// The request's pictures, or what hinders it from leaving with them.
    async fn pictures(&self, request: &Request) -> Result<Pictures, Outcome> {
        let (mut pictures, mut bad, mut unread) = (Pictures::new(), Vec::new(), Vec::new());
        let mut why = String::new();
        for hash in request.photos() {
            match self.picture(hash).await {
                Picture::Ready(text) => {
                    pictures.insert(hash, text);
                }
                Picture::Useless => bad.push(hash),
                Picture::Unread(text) => {
                    unread.push(hash);
                    why = text;
                }
            }
        }
        if !unread.is_empty() {
            return Err(Outcome::UnreadPictures { photos: unread, text: why });
        }
        let is_registration = matches!(request, Request::AddWorkers { .. } | Request::UpdateWorker { .. });
        if is_registration && self.pictures_must_be_good && !bad.is_empty() {
            return Err(Outcome::BadPictures(bad));
        }
        Ok(pictures)
    }

    async fn picture(&self, hash: PhotoHash) -> Picture {
        let bytes = match self.store.photo(hash).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Picture::Useless,
            // Its bytes are not those that were stored; reading them again brings nothing else.
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                tracing::warn!(%hash, %error, "a photo is left out");
                return Picture::Useless;
            }
            Err(error) => {
                tracing::warn!(%hash, %error, "a photo cannot be read now");
                return Picture::Unread(format!("the photo cannot be read now: {error}"));
            }
        };
        let limit = self.image_limit_kib;
        let encoded = tokio::task::spawn_blocking(move || picture::base64_within(&bytes, limit)).await;
        match encoded {
            Ok(Ok(text)) => Picture::Ready(text),
            Ok(Err(error)) => {
                tracing::warn!(%hash, %error, "a photo is left out");
                Picture::Useless
            }
            Err(panic) => {
                tracing::warn!(%hash, %panic, "a photo broke the decoder and is left out");
                Picture::Useless
            }
        }
    }
}

/// What became of a photo.
enum Picture {
    /// Base64 text.
    Ready(String),
    /// Gone, damaged or no picture: it will not get better.
    Useless,
    /// It is there and cannot be read at the moment.
    Unread(String),
}

/// Stores facts, however long the store takes; `None` when told to stop meanwhile.
pub async fn append(store: &Store, facts: Vec<Fact>, stop: &CancellationToken) -> Option<Vec<Seq>> {
    loop {
        match store.append(facts.clone()).await {
            Ok(appended) => return Some(appended.into_iter().map(|one| one.seq).collect()),
            Err(error) => tracing::debug!(%error, "the store does not take the courier's steps; tried again"),
        }
        tokio::select! {
            () = tokio::time::sleep(STORE_AGAIN) => {}
            () = stop.cancelled() => return None,
        }
    }
}
