//! Invented workers for a roster: nobody in here exists, and every number has a right check digit.
//!
//! The same index always gives the same worker, so that a second start of a run finds the roster of the first. Written
//! apart from the gateway's own checks of these numbers, from the standards' text.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::{Date, date};

use crate::face::FACE_JPEG;

/// Columns of the roster CSV that every row has.
pub const CSV_HEADER: &str = "worker_id,name,id_number,employer,team,trade,badge,phone,bank_card,entered_on,left_on,\
leader,gender,birth,nation,address,issuer,valid_from,valid_to,politics,education";

/// An employer for `[[employer]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventedEmployer {
    pub name: String,
    pub credit_code: String,
    /// `009` general contractor, `006` labour subcontractor.
    pub corp_type: &'static str,
}

/// A row of the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventedWorker {
    pub worker_id: String,
    pub name: String,
    pub id_number: String,
    pub employer: String,
    pub team: String,
    /// National workType code.
    pub trade: &'static str,
    pub badge: u32,
    pub phone: String,
    pub bank_card: String,
    pub birth: Date,
    pub male: bool,
    pub leader: bool,
    pub entered_on: Date,
    pub left_on: Option<Date>,
}

/// A site's employers and workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventedSite {
    /// The general contractor first, then labour subcontractors.
    pub employers: Vec<InventedEmployer>,
    pub workers: Vec<InventedWorker>,
}

impl InventedSite {
    /// This many workers in this many teams; the teams belong to two labour subcontractors by turns.
    pub fn new(workers: usize, teams: usize) -> InventedSite {
        assert!(teams > 0, "a worker is always in a team");
        let employers =
            vec![employer(0, "昌建总承包", "009"), employer(1, "北山劳务", "006"), employer(2, "南河劳务", "006")];
        let workers = (0..workers).map(|index| worker(index, index % teams, index < teams, &employers)).collect();
        InventedSite { employers, workers }
    }

    /// The whole roster as the gateway imports it.
    pub fn csv(&self) -> String {
        csv(&self.workers)
    }

    /// The same with a face photo for everyone.
    pub fn csv_with_photos(&self) -> String {
        csv_with_photos(&self.workers)
    }

    /// The worker with this badge.
    pub fn by_badge(&self, badge: u32) -> Option<&InventedWorker> {
        self.workers.iter().find(|worker| worker.badge == badge)
    }
}

/// These workers as a roster CSV.
pub fn csv(workers: &[InventedWorker]) -> String {
    let mut text = format!("{CSV_HEADER}\n");
    for worker in workers {
        worker.write_row(&mut text);
    }
    text
}

/// The same with a face photo for everyone, which platforms ask for: a tiny picture that is a valid JPEG, and the same for
/// all.
pub fn csv_with_photos(workers: &[InventedWorker]) -> String {
    let photo = STANDARD.encode(FACE_JPEG);
    let rows = csv(workers);
    let mut text = String::with_capacity(rows.len() + rows.lines().count() * (photo.len() + 1));
    for (number, row) in rows.lines().enumerate() {
        let cell = if number == 0 { "photo" } else { &photo };
        writeln!(text, "{row},{cell}").expect("writing to a String cannot fail");
    }
    text
}

impl InventedWorker {
    fn write_row(&self, text: &mut String) {
        let InventedWorker { worker_id, name, id_number, employer, team, trade, badge, phone, bank_card, .. } = self;
        let left_on = self.left_on.map(|day| day.to_string()).unwrap_or_default();
        let (entered_on, birth, leader) = (self.entered_on, self.birth, u8::from(self.leader));
        let gender = if self.male { "男" } else { "女" };
        writeln!(
            text,
            "{worker_id},{name},{id_number},{employer},{team},{trade},{badge:08X},{phone},{bank_card},{entered_on},\
             {left_on},{leader},{gender},{birth},汉族,测试省测试市测试路{order}号,测试市公安局,2020-01-01,2040-01-01,13,02",
            order = self.birth.day(),
        )
        .expect("writing to a String cannot fail");
    }
}

fn employer(index: usize, name: &str, corp_type: &'static str) -> InventedEmployer {
    let credit_code = credit_code(&format!("91650000MA{index:07}")).expect("every character is in the code's alphabet");
    InventedEmployer { name: name.to_owned(), credit_code, corp_type }
}

fn worker(index: usize, team: usize, leader: bool, employers: &[InventedEmployer]) -> InventedWorker {
    const TRADES: [&str; 6] = ["020", "030", "040", "050", "130", "390"];
    const FAMILY_NAMES: [&str; 8] = ["赵", "钱", "孙", "李", "周", "吴", "郑", "王"];
    let birth = date(1966 + (index % 35) as i16, 1 + (index % 12) as i8, 1 + (index % 28) as i8);
    let male = !index.is_multiple_of(8);
    // 420 birthdays, 499 order codes of each sex.
    let order = 2 * ((index / 420) % 499) + if male { 1 } else { 2 };
    InventedWorker {
        worker_id: format!("W{:05}", index + 1),
        name: format!("{}测{}", FAMILY_NAMES[index % FAMILY_NAMES.len()], chinese_number(index + 1)),
        id_number: id_number("110101", birth, order as u16),
        employer: employers[1 + team % (employers.len() - 1)].name.clone(),
        team: format!("{}班组", chinese_number(team + 1)),
        trade: TRADES[team % TRADES.len()],
        badge: 0x00A1_0000 + index as u32 + 1,
        phone: format!("199{index:08}"),
        bank_card: format!("622202{index:013}"),
        birth,
        male,
        leader,
        entered_on: date(2026, 1, 5),
        left_on: None,
    }
}

/// An identity-card number of GB 11643: region, birth date, order code (odd for men) and the check digit.
pub fn id_number(region: &str, birth: Date, order: u16) -> String {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    const CHECK: [char; 11] = ['1', '0', 'X', '9', '8', '7', '6', '5', '4', '3', '2'];
    let body = format!("{region}{}{order:03}", birth.strftime("%Y%m%d"));
    let sum: u32 = body.chars().zip(WEIGHTS).filter_map(|(c, weight)| Some(c.to_digit(10)? * weight)).sum();
    format!("{body}{}", CHECK[(sum % 11) as usize])
}

/// A unified social credit code of GB 32100: 17 characters and the check character; `None` when one of them is not in
/// the alphabet (which has no I, O, S, V, Z).
pub fn credit_code(body: &str) -> Option<String> {
    const ALPHABET: &str = "0123456789ABCDEFGHJKLMNPQRTUWXY";
    const WEIGHTS: [usize; 17] = [1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28];
    let values: Vec<usize> = body.chars().map(|c| ALPHABET.find(c)).collect::<Option<_>>()?;
    let sum: usize = values.iter().zip(WEIGHTS).map(|(value, weight)| value * weight).sum();
    let check = ALPHABET.as_bytes()[(31 - sum % 31) % 31];
    Some(format!("{body}{}", char::from(check)))
}

/// `12` as `一二`: digits only, enough to tell people and teams apart.
fn chinese_number(number: usize) -> String {
    const DIGITS: [char; 10] = ['〇', '一', '二', '三', '四', '五', '六', '七', '八', '九'];
    number.to_string().bytes().map(|digit| DIGITS[usize::from(digit - b'0')]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn check_digits_are_those_of_the_standards_own_examples() {
        assert_eq!(id_number("110105", date(1949, 12, 31), 2), "11010519491231002X");
        assert_eq!(id_number("440524", date(1880, 1, 1), 1), "440524188001010014");
        assert_eq!(credit_code("91350100M000100Y4").as_deref(), Some("91350100M000100Y43"));
        assert_eq!(credit_code("91350100M000100I4"), None);
    }

    #[test]
    fn no_two_of_ten_thousand_workers_share_a_number() {
        let site = InventedSite::new(10_000, 40);
        let distinct = |key: fn(&InventedWorker) -> String| site.workers.iter().map(key).collect::<BTreeSet<_>>().len();
        assert_eq!(distinct(|worker| worker.id_number.clone()), 10_000);
        assert_eq!(distinct(|worker| worker.badge.to_string()), 10_000);
        assert_eq!(distinct(|worker| worker.phone.clone()), 10_000);
        assert_eq!(distinct(|worker| worker.bank_card.clone()), 10_000);
        assert_eq!(distinct(|worker| format!("{}/{}", worker.employer, worker.team)), 40);
    }

    #[test]
    fn every_row_has_every_column() {
        let text = InventedSite::new(30, 4).csv();
        let columns = CSV_HEADER.split(',').count();
        assert_eq!(text.lines().count(), 31);
        assert!(text.lines().all(|line| line.split(',').count() == columns), "{text}");
    }

    #[test]
    fn the_gateway_takes_every_row() {
        let site = InventedSite::new(500, 7);
        let plain = gateway::roster::parse(site.csv().as_bytes(), &employers(&site)).expect("a right roster");
        let wanted: Vec<_> = site.workers.iter().map(|w| (w.id_number.as_str(), w.badge)).collect();
        let badge = |badge| match badge {
            Some(gateway::punch::BadgeOnRoster::Full(badge)) => badge.0,
            other => panic!("{other:?}"),
        };
        let taken: Vec<_> = plain.workers.iter().map(|w| (w.id_number.as_str(), badge(w.badge))).collect();
        assert_eq!(taken, wanted);
        assert!(plain.workers.iter().all(|worker| worker.photo.is_none()));

        let text = site.csv_with_photos();
        let with_photos = gateway::roster::parse(text.as_bytes(), &employers(&site)).expect("a right roster");
        let face = gateway::punch::PhotoHash::of(FACE_JPEG);
        assert!(with_photos.workers.iter().all(|worker| worker.photo == Some(face)));
        assert_eq!(with_photos.workers.len(), 500);
        assert_eq!(with_photos.pictures.get(&face).map(Vec::as_slice), Some(FACE_JPEG));
    }

    #[test]
    fn each_team_has_one_leader() {
        let site = InventedSite::new(30, 4);
        let leaders: BTreeSet<&str> = site.workers.iter().filter(|w| w.leader).map(|w| w.team.as_str()).collect();
        assert_eq!(leaders.len(), 4);
    }

    fn employers(site: &InventedSite) -> Vec<gateway::config::Employer> {
        let configured = |employer: &InventedEmployer| gateway::config::Employer {
            name: employer.name.clone(),
            credit_code: employer.credit_code.clone(),
            corp_type: employer.corp_type.to_owned(),
        };
        site.employers.iter().map(configured).collect()
    }
}
