//! A new program on its way to one reader: what to ask next, and whether it has arrived.
//!
//! The reader knows how far it is, and says so in each answer; so nothing is lost when the gateway or the reader starts
//! again in the middle. It has arrived when the reader runs it and has kept it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::{Image, Refusal, Request, Staging};

use crate::terminals::firmware::UpdateFile;

/// Before a question to a reader that is checking something, or has just started with the new program.
const PAUSE: Duration = Duration::from_millis(200);
/// An update that does not come on for this long is given up; it may be ordered again and goes on then.
const PATIENCE: Duration = Duration::from_secs(300);

/// How far an update is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many pieces of so many are there.
    Sending { done: u16, of: u16 },
    /// The reader checks what it has got, or starts with it.
    Checking,
    /// The reader runs this version and keeps it.
    Done { version: u32 },
    /// It will not be; why.
    Failed(String),
}

/// One update of one reader.
pub(super) struct Update {
    file: Arc<UpdateFile>,
    /// What the reader said last in this session.
    known: Option<Image>,
    /// All pieces are there, and the reader was asked to check and start it.
    installing: bool,
    /// The reader said that it will start it.
    installed: bool,
    /// The reader has started again since.
    restarted: bool,
    ask_at: Instant,
    /// Since it came on last.
    moved_at: Instant,
    told: Option<Progress>,
}

impl Update {
    pub(super) fn new(file: Arc<UpdateFile>, now: Instant) -> Update {
        let (known, told) = (None, None);
        let (installing, installed, restarted) = (false, false, false);
        Update { file, known, installing, installed, restarted, ask_at: now, moved_at: now, told }
    }

    /// When the next question is due.
    pub(super) fn due(&self) -> Instant {
        self.ask_at
    }

    /// When it is given up unless the reader is heard.
    pub(super) fn expires_at(&self) -> Instant {
        self.moved_at + PATIENCE
    }

    /// The next question.
    pub(super) fn request(&mut self, now: Instant) -> Option<Request> {
        if now < self.ask_at {
            return None;
        }
        let Some((image, offered)) =
            self.known.as_ref().and_then(|known| Some((known, self.file.image(known.board, known.target)?)))
        else {
            return Some(Request::Image);
        };
        if self.installed || image.version == self.file.version() {
            return Some(Request::Image);
        }
        let request = match image.staging {
            Staging::Next(index) => match offered.body.get(usize::from(index)) {
                Some(piece) => Request::Write { index, piece: *piece },
                None => Request::Install,
            },
            Staging::Ready => Request::Install,
            Staging::Checking if self.installing => Request::Install,
            Staging::Nothing | Staging::Checking => Request::Stage { header: offered.head },
        };
        self.installing = request == Request::Install;
        Some(request)
    }

    /// What the reader says; tells how far it is, when that is news.
    pub(super) fn handle_image(&mut self, image: Image, now: Instant) -> Option<Progress> {
        let before = self.known.replace(image);
        self.ask_at = now;
        self.installed |= self.installing && image.staging == Staging::Ready;
        if before != self.known {
            self.moved_at = now;
        }
        let progress = self.progress(&image, now);
        let is_news = self.told.as_ref() != Some(&progress);
        is_news.then(|| self.told.insert(progress).clone())
    }

    fn progress(&mut self, image: &Image, now: Instant) -> Progress {
        let version = self.file.version();
        if image.version == version && !image.on_trial {
            return Progress::Done { version };
        }
        if image.version == version {
            return self.pause(now);
        }
        if self.restarted {
            return Progress::Failed(format!("the new program did not work; version {} runs again", image.version));
        }
        let Some(offered) = self.file.image(image.board, image.target) else {
            return Progress::Failed(format!(
                "the file has nothing for slot {} of board {}; the reader is another one",
                image.target, image.board
            ));
        };
        let of = offered.header.pieces();
        match image.staging {
            Staging::Next(done) => Progress::Sending { done, of },
            Staging::Nothing => Progress::Sending { done: 0, of },
            Staging::Checking | Staging::Ready => self.pause(now),
        }
    }

    fn pause(&mut self, now: Instant) -> Progress {
        self.ask_at = now + PAUSE;
        Progress::Checking
    }

    /// The reader says no; why, when that is the end of it.
    pub(super) fn handle_refusal(&mut self, refusal: Refusal, now: Instant) -> Option<Progress> {
        self.ask_at = now + PAUSE;
        if refusal == Refusal::NotStaged {
            // It has started again in between: look again.
            (self.known, self.installing) = (None, false);
            return None;
        }
        Some(Progress::Failed(reason(refusal).to_owned()))
    }

    /// The reader has started again; with the new program, or for any other reason.
    pub(super) fn handle_start(&mut self, now: Instant) {
        (self.known, self.ask_at) = (None, now);
        (self.installing, self.restarted) = (false, self.installed);
    }

    /// Whether it is to be given up by now.
    pub(super) fn expire(&self, now: Instant) -> Option<Progress> {
        let reason = "the reader did not go on with it; order it again when the reader answers";
        (self.expires_at() <= now).then(|| Progress::Failed(reason.to_owned()))
    }
}

fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotUnderstood => "its firmware cannot be updated over the line",
        Refusal::NotSigned => "the image is not signed by the maker of its firmware",
        Refusal::OtherBoard => "the image is for another board",
        Refusal::OldVersion => "the image is not newer than what it runs or has run",
        Refusal::Damaged => "what arrived is not what was signed; order it again",
        Refusal::NoFlash => "its flash does not take the image",
        Refusal::NotStaged => "it has no image",
        Refusal::Expired | Refusal::OutOfOrder | Refusal::Paired => "it gives no reason that fits",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::punch::UnixMs;
    use ed25519_dalek::SigningKey;

    fn update(clock: &Clock) -> Update {
        let key = SigningKey::from_bytes(&[1; 32]);
        let file = UpdateFile::sign(&key, 1, 7, &[(1, vec![1; 200]), (2, vec![2; 200])]);
        Update::new(Arc::new(file), clock.instant())
    }

    fn image(version: u32, on_trial: bool, staging: Staging) -> Image {
        Image { board: 1, version, on_trial, target: 2, staging }
    }

    #[test]
    fn a_program_on_trial_has_not_arrived_yet() {
        let clock = Clock::manual(UnixMs(0));
        let mut update = update(&clock);
        let now = clock.instant();
        assert_eq!(update.handle_image(image(7, true, Staging::Nothing), now), Some(Progress::Checking));
        clock.advance(PAUSE);
        assert_eq!(update.request(clock.instant()), Some(Request::Image));
        let kept = update.handle_image(image(7, false, Staging::Nothing), clock.instant());
        assert_eq!(kept, Some(Progress::Done { version: 7 }));
    }

    #[test]
    fn each_question_follows_from_what_the_reader_has() {
        let clock = Clock::manual(UnixMs(0));
        let (mut update, now) = (update(&clock), clock.instant());
        let file = update.file.clone();
        let offered = file.image(1, 2).unwrap();
        assert_eq!(update.request(now), Some(Request::Image));
        update.handle_image(image(3, false, Staging::Nothing), now);
        assert_eq!(update.request(now), Some(Request::Stage { header: offered.head }));
        assert_eq!(
            update.handle_image(image(3, false, Staging::Next(1)), now),
            Some(Progress::Sending { done: 1, of: 2 })
        );
        assert_eq!(update.request(now), Some(Request::Write { index: 1, piece: offered.body[1] }));
        update.handle_image(image(3, false, Staging::Next(2)), now);
        assert_eq!(update.request(now), Some(Request::Install));
        update.handle_image(image(3, false, Staging::Checking), now);
        assert_eq!(update.request(now), None, "it is given a moment");
        clock.advance(PAUSE);
        assert_eq!(update.request(clock.instant()), Some(Request::Install));
    }

    #[test]
    fn a_reader_of_older_firmware_ends_it_with_the_reason() {
        let clock = Clock::manual(UnixMs(0));
        let mut update = update(&clock);
        let Some(Progress::Failed(reason)) = update.handle_refusal(Refusal::NotUnderstood, clock.instant()) else {
            panic!("it goes on")
        };
        assert!(reason.contains("cannot be updated over the line"), "{reason}");
    }
}
