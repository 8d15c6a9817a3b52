//! One list of the platform, read page by page: when it is whole, and when it cannot be used.

use crate::upload::profiles::{Answer, Ending, Page};

use super::Outcome;

/// Pages after which a list is taken for one that never ends.
const PAGES: u32 = 400;
/// A list that changes while it is read is begun again this often.
const BEGINNINGS: u32 = 10;
/// A page that does not come as it should is asked for this often in a row.
const TRIES: u32 = 3;

/// How far a list has been read.
#[derive(Debug, Default)]
pub struct Listing {
    page: u32,
    seen: u64,
    total: Option<u64>,
    begun: u32,
    tries: u32,
    last: Option<Answer>,
}

/// What a page means for the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There are further pages.
    More,
    /// The list has changed meanwhile: what was read of it does not count.
    Again,
    /// What has not come up is not there.
    Whole,
    /// What has not come up may be there all the same.
    Useless(String),
}

impl Listing {
    /// The page to ask for.
    pub fn page(&self) -> u32 {
        self.page
    }

    /// Whether the page is to be asked for again, after an answer that said nothing of use.
    pub fn has_another_try(&mut self) -> bool {
        self.tries += 1;
        self.tries < TRIES
    }

    /// Takes a page in. One that says nothing of use does not count as read.
    pub fn take(&mut self, answer: Answer, page: Page) -> Progress {
        if page.unread > 0 {
            return Progress::Useless(format!("{} of {} rows of the list cannot be read", page.unread, page.count));
        }
        let is_repeated = page.count > 0 && self.last.as_ref() == Some(&answer);
        if is_repeated && self.total.is_some() {
            return Progress::Useless("every page of the list is the same".to_owned());
        }
        let seen = self.seen + page.count;
        // A total below what was seen was not filled in.
        let total = page.total.filter(|total| *total >= seen);
        if self.page > 0 && total != self.total {
            return self.begin_again();
        }
        if let Some(total) = total.filter(|total| page.count == 0 && seen < *total) {
            return Progress::Useless(format!("the list ends after {seen} of {total} rows"));
        }
        let is_whole = match total {
            Some(total) => seen >= total,
            // Without a total a list ends with an empty page, or with the same page again.
            None => is_repeated || page.count == 0,
        };
        *self = Listing { page: self.page + 1, seen, total, begun: self.begun, tries: 0, last: Some(answer) };
        match is_whole {
            true => Progress::Whole,
            false if self.page >= PAGES => Progress::Useless("the list does not end".to_owned()),
            false => Progress::More,
        }
    }

    fn begin_again(&mut self) -> Progress {
        let begun = self.begun + 1;
        *self = Listing { begun, ..Listing::default() };
        if begun >= BEGINNINGS {
            return Progress::Useless("the list changes while it is read".to_owned());
        }
        Progress::Again
    }
}

/// What an outcome says to a question for a list.
pub enum Reply {
    Page(Answer, Page),
    /// The platform does not give this list.
    Refused(String),
    /// An answer that is no list, or none.
    Useless(String),
    /// The question was not heard.
    Unheard,
}

impl Reply {
    pub fn of(outcome: Outcome) -> Reply {
        let answer = match outcome {
            Outcome::Answered { answer, .. } => answer,
            Outcome::Lost { text, .. } => return Reply::Useless(text),
            Outcome::NotSent { .. } | Outcome::BadPictures(_) | Outcome::UnreadPictures { .. } => {
                return Reply::Unheard;
            }
        };
        let page = match &answer {
            Answer::Employers(rows) => rows.page,
            Answer::Teams(rows) => rows.page,
            Answer::Workers(rows) => rows.page,
            Answer::Moves(rows) => rows.page,
            Answer::Attendance(rows) => rows.page,
            Answer::NoList { text } => return Reply::Useless(text.clone()),
            Answer::Garbled { text } => return Reply::Useless(text.clone()),
            Answer::Ended(ending) => return Reply::of_ending(ending),
            Answer::TryLater { .. } | Answer::Stop { .. } => return Reply::Unheard,
            Answer::Accepted { .. } | Answer::JobPending | Answer::JobEnded(_) => {
                return Reply::Useless("an answer to another question".to_owned());
            }
        };
        Reply::Page(answer, page)
    }

    fn of_ending(ending: &Ending) -> Reply {
        match ending {
            Ending::Unclear { text } => Reply::Useless(text.clone()),
            Ending::Failed { text, .. } | Ending::Depends { text } | Ending::Exists { text } => {
                Reply::Refused(text.clone())
            }
            Ending::Items(items) => {
                Reply::Refused(items.iter().map(|item| item.text.as_str()).collect::<Vec<_>>().join(";"))
            }
            Ending::Done { .. } => Reply::Useless("an answer to another question".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upload::profiles::{EmployerRow, Rows};

    /// A page whose rows are numbered from `from` on.
    fn page(from: u64, count: u64, total: Option<u64>) -> (Answer, Page) {
        let row = |number: u64| EmployerRow { corp_code: number.to_string() };
        let page = Page { count, unread: 0, total };
        (Answer::Employers(Rows { rows: (from..from + count).map(row).collect(), page }), page)
    }

    fn read(pages: &[(u64, u64, Option<u64>)]) -> Vec<Progress> {
        let mut listing = Listing::default();
        let take = |(from, count, total): &(u64, u64, Option<u64>)| {
            let (answer, page) = page(*from, *count, *total);
            listing.take(answer, page)
        };
        pages.iter().map(take).collect()
    }

    #[test]
    fn a_list_is_whole_when_its_total_was_seen() {
        assert_eq!(read(&[(0, 0, Some(0))]), [Progress::Whole]);
        assert_eq!(read(&[(0, 50, Some(60)), (50, 10, Some(60))]), [Progress::More, Progress::Whole]);
    }

    #[test]
    fn a_list_without_a_total_ends_with_an_empty_or_a_repeated_page() {
        assert_eq!(read(&[(0, 50, None), (50, 0, None)]), [Progress::More, Progress::Whole]);
        assert_eq!(read(&[(0, 20, None), (0, 20, None)]), [Progress::More, Progress::Whole]);
        let not_filled_in = [(0, 50, Some(0)), (50, 0, Some(0))];
        assert_eq!(read(&not_filled_in), [Progress::More, Progress::Whole]);
    }

    #[test]
    fn a_list_that_is_cut_off_says_nothing_of_the_rest() {
        let last_is_useless = |pages: &[(u64, u64, Option<u64>)]| {
            assert!(matches!(read(pages).last(), Some(Progress::Useless(_))), "{pages:?}: {:?}", read(pages));
        };
        last_is_useless(&[(0, 0, Some(3))]);
        last_is_useless(&[(0, 50, Some(60)), (50, 0, Some(60))]);
        last_is_useless(&[(0, 50, Some(100)), (0, 50, Some(100))]);
        let mut listing = Listing::default();
        let (answer, page) = page(0, 5, Some(5));
        assert!(matches!(listing.take(answer, Page { unread: 1, ..page }), Progress::Useless(_)));
    }

    #[test]
    fn a_list_that_changes_is_begun_again_but_not_for_ever() {
        let mut listing = Listing::default();
        let mut outcomes = Vec::new();
        for total in 100..140 {
            let (answer, page) = page(0, 50, Some(total));
            outcomes.push(listing.take(answer, page));
        }
        assert_eq!(outcomes[..2], [Progress::More, Progress::Again]);
        assert!(outcomes.iter().any(|outcome| matches!(outcome, Progress::Useless(_))));
    }
}
