//! Messages: what a gateway asks and a reader answers. Encoded with postcard: an enum is its variant's number, integers
//! are varints. Bytes in the field do not change, so variants and fields are never reordered or removed; a new message
//! is a new variant at the end.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::Damage;
use crate::image::Piece;
use crate::seal::Key;

/// Most punches in one answer: the largest six still fit a frame.
pub const MAX_PUNCHES: usize = 6;

/// A reader's place on its line, 1 to 247.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(u8);

impl Address {
    /// The address, if it is one: 1 to 247.
    pub const fn new(address: u8) -> Option<Address> {
        if address >= 1 && address <= 247 { Some(Address(address)) } else { None }
    }

    /// Where a reader listens that was not paired yet.
    pub const UNPAIRED: Address = Address(247);

    /// The byte on the wire.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// Which start of the reader. Counted up in its storage before it says anything, so it never repeats; from 1. Zero
/// stands for "not known yet" in a [`Request::Hello`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootId(pub u32);

/// The number of a request within a boot; strictly increasing, from 1. Zero belongs to [`Request::Hello`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// A punch's number in the reader's journal, from 1, counted over all boots. Zero is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(pub u32);

/// Milliseconds since the reader's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UptimeMs(pub u64);

/// SHA-256 of an allow-list, cut to 8 bytes; all zero for no list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(pub [u8; 8]);

/// A card number as the reader's badge port gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Badge {
    /// All 32 bits: Wiegand 34, EM cards (their low 32 bits).
    Full(u32),
    /// Wiegand 26: the low 24 bits are all there is.
    Low24(u32),
}

/// One swipe, as the journal keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Punch {
    /// The boot in which it was swiped; may be an earlier one.
    pub boot: BootId,
    /// When, on that boot's clock.
    pub at: UptimeMs,
    /// When in milliseconds since 1970, if the reader had been told the time in that boot.
    pub unix_ms: Option<u64>,
    /// Which card.
    pub badge: Badge,
}

/// What the reader shows to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// The punch is durable in the gateway. A reader also gives this signal by itself when a recent punch is released.
    Stored,
    /// The badge does not count here.
    Refused,
    /// Nobody on the roster has this badge; the punch is kept.
    Unknown,
}

/// What the gateway asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// "Who are you, and where are we?" Changes nothing. The only request with boot 0 and id 0.
    Hello {
        /// Never used before; the answer repeats it.
        nonce: u64,
    },
    /// "Everything through `committed` is durable; what comes next?" Answered by [`Answer::Punches`].
    Collect {
        /// Cumulative: punches through this one are released. Zero releases nothing.
        committed: Seq,
        /// Drops through this count are recorded as lost, see [`Answer::Punches`].
        lost_seen: u32,
        /// Most punches in the answer; at most [`MAX_PUNCHES`].
        limit: u8,
    },
    /// Health; answered by [`Answer::Status`].
    Status,
    /// Show this for a punch of the last seconds. Ignored for others.
    Signal {
        /// The punch.
        seq: Seq,
        /// What to show.
        signal: Signal,
    },
    /// Close the relay for a while.
    Open {
        /// Above every earlier order in this boot. An order number that was carried out is confirmed, not repeated, so
        /// the gateway may ask again when the answer got lost.
        order: u64,
        /// How long, in milliseconds.
        pulse_ms: u16,
        /// Refused as expired after this moment of the reader's clock.
        not_after: UptimeMs,
    },
    /// "When your clock said `at`, it was `unix_ms`."
    SetTime {
        /// Milliseconds since 1970.
        unix_ms: u64,
        /// The uptime at which this was right; not in the reader's future.
        at: UptimeMs,
    },
    /// The allow-list that the reader should hold; answered by [`Answer::AllowList`].
    AllowList {
        /// Of the wanted list.
        digest: Digest,
    },
    /// Which program runs, and what is staged; answered by [`Answer::Image`].
    Image,
    /// "Take the image with this header." Says again what it has of it; answered by [`Answer::Image`].
    Stage {
        /// As [`crate::image::Header::piece`] gives it.
        header: Piece,
    },
    /// A piece of the staged image's body. Taken when it is the next one; answered by [`Answer::Image`] in any case.
    Write {
        /// From 0.
        index: u16,
        /// The bytes.
        piece: Piece,
    },
    /// "Check what is staged, and start it." Answered by [`Answer::Image`]; a reader that says [`Staging::Ready`] starts
    /// again by itself, after the answer.
    Install,
    /// Who a reader is to be. Taken by a reader that was not told yet, at [`Address::UNPAIRED`] and without a key, over a
    /// cable on the bench.
    Pair(Pairing),
    /// "Take the allow-list with this header." Says again what it has of it; answered by [`Answer::List`].
    OfferList {
        /// As [`crate::allow::Header::piece`] gives it.
        header: Piece,
    },
    /// A piece of the offered list's body. Taken when it is the next one; answered by [`Answer::List`] in any case.
    WriteList {
        /// From 0.
        index: u16,
        /// The bytes.
        piece: Piece,
    },
    /// "Why did you start?" Answered by [`Answer::Start`].
    Start,
    /// "What comes after what I last said is durable?" Changes nothing. Answered by [`Answer::Nothing`] when there is no
    /// punch and no loss, else by [`Answer::Punches`]. The shortest exchange there is, because it is the most frequent.
    Next,
}

/// What a reader is told about itself, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairing {
    /// Its place on the line, 1 to 247.
    pub address: u8,
    /// Bits per second of the line.
    pub baud: u32,
    /// Its key.
    pub key: Key,
}

/// How the reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its clock.
    pub now: UptimeMs,
    /// Firmware version: major, minor, patch.
    pub firmware: [u8; 3],
    /// Supply voltage in millivolts; 0 when it is not measured.
    pub supply_mv: u16,
    /// The housing is open.
    pub tamper: bool,
    /// Whether it has been told the time in this boot.
    pub time_set: bool,
    /// Punches in the journal.
    pub journal_fill: u32,
    /// Punches that the journal can hold.
    pub journal_capacity: u32,
    /// Swipes dropped because the journal was full or broken, ever.
    pub lost: u32,
    /// The number that the next punch will get.
    pub next: Seq,
    /// Badge readings with wrong parity, length or checksum, in this boot.
    pub badge_noise: u32,
    /// Line frames that the reader dropped, in this boot.
    pub damage: Damage,
}

/// Why a reader has started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartCause {
    /// The board cannot tell.
    #[default]
    Unknown,
    /// The power came.
    PowerOn,
    /// The supply sagged too deep for the chip, and came back.
    BrownOut,
    /// The program hung, and the watchdog fired.
    Watchdog,
    /// The reset pin or button.
    Pin,
    /// The program itself: a fault that it noticed, or an order.
    Software,
}

/// Why a reader did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// This firmware does not know the message.
    NotUnderstood,
    /// Too late: `not_after` has passed.
    Expired,
    /// A moment in the reader's future, or an order number below the last one.
    OutOfOrder,
    /// The image was not signed by the maker of this reader's firmware, or is no image.
    NotSigned,
    /// The image is for another board, or for the slot that runs.
    OtherBoard,
    /// The image is not newer than what runs, or than what has run.
    OldVersion,
    /// The body is not the one that was signed; it is to be staged again.
    Damaged,
    /// No image is staged, or not all of it.
    NotStaged,
    /// The flash does not take it.
    NoFlash,
    /// The reader was paired before; it first has to be cleared by hand.
    Paired,
}

/// How far the staging of an image is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Staging {
    /// Nothing is staged in this boot.
    #[default]
    Nothing,
    /// The signature or the hash is being checked: ask again.
    Checking,
    /// Waits for this piece of the body; all are there when it is the number of pieces.
    Next(u16),
    /// Checked as a whole; the next start runs it.
    Ready,
}

/// Which program a reader runs, and what is staged beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Which board it is; the images' headers name it.
    pub board: u8,
    /// Version of the running image; 0 for the one that came from the factory.
    pub version: u32,
    /// It runs on trial: without a word from the gateway the one before comes back.
    pub on_trial: bool,
    /// The slot that an update goes to: 1 or 2.
    pub target: u8,
    /// What is in it.
    pub staging: Staging,
}

/// What the reader answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To a hello. The frame's header carries the boot id.
    Welcome {
        /// As in the hello.
        nonce: u64,
        /// The highest request id taken in this boot.
        last_request: RequestId,
        /// Health.
        status: Status,
    },
    /// To a collect: punches with consecutive numbers from `first`. `first` above `released + 1` means that the numbers
    /// between were damaged in the journal; when `punches` is empty, `first` is the next number to be given.
    Punches {
        /// The reader's clock when it answered.
        now: UptimeMs,
        /// The journal's commit watermark, with this request's commit applied.
        released: Seq,
        /// The number of the first punch.
        first: Seq,
        /// Swipes dropped because the journal was full or broken, ever.
        lost: u32,
        /// How many of those the gateway has recorded.
        lost_seen: u32,
        /// The punches.
        punches: Vec<Punch, MAX_PUNCHES>,
    },
    /// To a status request.
    Status(Status),
    /// Done, or done before.
    Done,
    /// Not done.
    Refused(Refusal),
    /// To an allow-list request.
    AllowList {
        /// Of the list that the reader holds.
        held: Digest,
    },
    /// To everything about the reader's program.
    Image(Image),
    /// To an offered list and its pieces.
    List {
        /// Of the list that the reader goes by.
        held: Digest,
        /// How far the offered one is.
        staging: Staging,
    },
    /// To the question why it started.
    Start(StartCause),
    /// To the question what comes next: the journal holds nothing that is not released, and the gateway has recorded
    /// every loss.
    Nothing {
        /// The reader's clock when it answered.
        now: UptimeMs,
    },
}
