//! What keeps the ring whole over power cuts, one guard at a time.
//!
//! A board uses [`Sound`]. The tests switch each guard off, all but [`Rules::KEEP_DOUBTFUL`], and see that a promise is
//! broken then.

/// The guards of [`super::FlashRing`]. All hold in [`Sound`].
pub trait Rules {
    /// A record is read again after it was programmed; when it is not what was meant, its slot is given up and the next
    /// one taken. A word that a power cut has torn may read as erased and yet refuse to be programmed.
    const READ_BACK: bool = true;
    /// A page is erased before it is used, however erased it looks: an erase that was torn leaves words that only look so.
    const ERASE_AGAIN: bool = true;
    /// After a start, writing goes on in the newest page only when two records follow its header; else in a fresh page.
    /// Where fewer follow, the header itself may be what was torn, and read well just once.
    const TWO_RECORDS: bool = true;
    /// Until that fresh page has its two records, no page is erased that may know better than the last sound one. Follows
    /// from reasoning alone: in no life that the tests have told was it missed.
    const KEEP_DOUBTFUL: bool = true;
    /// The page whose state is the latest is the newest, not the one with the highest order: a torn header may not read
    /// when its order is given anew, and read later.
    const LATEST_STATE: bool = true;
    /// Such a page holds no punch, and its numbers say nothing about the pages around it.
    const BLANK_TORN: bool = true;
    /// A page that holds a punch which is not released is not erased.
    const KEEP_UNRELEASED: bool = true;
    /// The first page that a start erases is not needed by what the last record says of the watermark, nor by what was
    /// said before it: the last record may have been torn.
    const SURE_BEFORE_LAST: bool = true;
    /// A record counts only with its checksum.
    const CHECKSUM: bool = true;
    /// Punches leave pages for what is not a punch. Without them a full ring could never be released.
    const SPARE_PAGES: bool = true;
    /// Each start writes down what it has found, before anything is said of it: a torn record at the end may read well
    /// at this start and not at the next.
    const PIN_AT_START: bool = true;
    /// Of two records with the same number the later one counts, and none that stands before a state in which the number
    /// was not given yet: it was torn, did not read at the start when its number was given anew, and reads now.
    const LAST_WINS: bool = true;
    /// A header repeats what the pages before it knew: they are erased some day.
    const STATE_IN_HEADER: bool = true;
}

/// All guards on.
#[derive(Clone, Copy, Debug)]
pub struct Sound;

impl Rules for Sound {}
