use jiff::civil::date;
use proptest::prelude::*;

use super::*;
use crate::punch::Badge;
use crate::roster::conflicts;

const HEADER: &str = "worker_id,name,id_number,employer,team,trade,badge,phone,bank_card,entered_on,left_on\n";
const ZHANG: &str =
    "W0001,张三,11010519491231002X,昌建总承包,钢筋一班,020,E3086CED,13812345678,6222020000000000000,2026-03-01,\n";
const LI: &str = "W0002,李四,440524188001010014,昌建总承包,木工班,木工,,,,,\n";
const WANG: &str = "W0003,王五,110101199003070070,昌建总承包,木工班,木工,,,,,\n";

#[test]
fn a_roster_file_gives_its_workers() {
    let workers = read(&format!("{HEADER}{ZHANG}{WANG}")).unwrap();
    assert_eq!(workers.len(), 2);
    let zhang = &workers[0];
    assert_eq!((zhang.worker_id.as_str(), zhang.name.as_str()), ("W0001", "张三"));
    assert_eq!(zhang.id_number, "11010519491231002X");
    assert_eq!(zhang.team, TeamKey { employer: "昌建总承包".to_owned(), name: "钢筋一班".to_owned() });
    assert_eq!(zhang.badge, Some(BadgeOnRoster::Full(Badge(0xE308_6CED))));
    assert_eq!((zhang.entered_on, zhang.left_on), (Some(date(2026, 3, 1)), None));
    assert_eq!(zhang.bank_card.as_deref(), Some("6222020000000000000"));
    assert_eq!(workers[1].trade, "240", "a Chinese name becomes its code");
    assert!(!workers[1].leader && workers[1].badge.is_none() && workers[1].phone.is_none());
}

#[test]
fn a_byte_order_mark_windows_line_ends_and_empty_rows_do_no_harm() {
    let text = format!("\u{feff}{HEADER}{ZHANG}\n,,,,,,,,,,\n{WANG}").replace('\n', "\r\n");
    assert_eq!(read(&text).unwrap().len(), 2);
}

#[test]
fn further_columns_may_stand_anywhere() {
    let header = "education,worker_id,name,id_number,employer,team,trade,leader,gender,birth,nation,address,issuer,valid_from,valid_to,politics,photo\n";
    let row = format!(
        "初中,W0003,王五,110101199003070070,昌建总承包,木工班,900,1,男,1990/3/7,汉,\"北京市东城区1号, 2单元\",东城分局,2016-05-01,长期,群众,{}\n",
        "ab".repeat(32)
    );
    let worker = read(&format!("{header}{row}")).unwrap().remove(0);
    assert!(worker.leader);
    assert_eq!((worker.education.as_deref(), worker.politics.as_deref()), (Some("02"), Some("13")));
    assert_eq!((worker.birth, worker.valid_from), (Some(date(1990, 3, 7)), Some(date(2016, 5, 1))));
    assert_eq!(worker.valid_to, Some(date(9999, 12, 31)), "valid for life");
    assert_eq!(worker.address.as_deref(), Some("北京市东城区1号, 2单元"));
    assert_eq!(worker.photo.map(|photo| photo.0), Some([0xAB; 32]));
}

#[test]
fn identity_numbers_are_normalised() {
    let row = WANG.replace("110101199003070070", " １１０１０５１９４９１２３１００２ｘ ");
    assert_eq!(read(&format!("{HEADER}{row}")).unwrap()[0].id_number, "11010519491231002X");
}

/// One row per mistake: what is replaced in a good row, by what, and what is said.
#[test]
fn each_mistake_in_a_row_names_line_and_column() {
    let cases = [
        ("W0001", "", "worker_id", "missing"),
        ("W0001", "W 1", "worker_id", "letters, digits"),
        ("W0001", "110101199003070070", "worker_id", "identity number"),
        ("张三", "", "name", "missing"),
        ("张三", "\"张\n三\"", "name", "line break"),
        ("11010519491231002X", "", "id_number", "missing"),
        ("11010519491231002X", "110105194912310020", "id_number", "check digit"),
        ("11010519491231002X", "110105194902300020", "id_number", "date of birth"),
        ("11010519491231002X", "110105491231002", "id_number", "platforms refuse"),
        ("11010519491231002X", "1.10105E+17", "id_number", "as text"),
        ("11010519491231002X", "1101051949", "id_number", "10 characters"),
        ("昌建总承包", "别家", "employer", "configured are: 昌建总承包"),
        ("钢筋一班", "", "team", "missing"),
        ("020", "钢筋", "trade", "workType"),
        ("E3086CED", "12345", "badge", "8 hex digits"),
        ("E3086CED", "3.80898E+09", "badge", "as text"),
        ("13812345678", "call him", "phone", "telephone"),
        ("6222020000000000000", "6222-0200", "bank_card", "8 to 32 digits"),
        ("6222020000000000000", "6.22202E+18", "bank_card", "as text"),
        ("2026-03-01", "2026-02-30", "entered_on", "calendar"),
        ("2026-03-01", "01.03.2026", "entered_on", "calendar"),
        ("2026-03-01", "26-3-1", "entered_on", "calendar"),
        ("2026-03-01,", "2026-03-01,2026-02-28", "left_on", "before entered_on"),
    ];
    for (good, bad, column, word) in cases {
        let row = ZHANG.replacen(good, bad, 1);
        let problem = only(read(&format!("{HEADER}{WANG}{row}")));
        assert_eq!((problem.line, problem.column.as_deref()), (Some(3), Some(column)), "{problem}");
        assert!(problem.reason.contains(word), "{word:?} is not said: {problem}");
    }
}

#[test]
fn all_bad_rows_are_reported_at_once_and_nothing_is_imported() {
    let bad =
        WANG.replace("W0003", "W0009").replace("110101199003070070", "110101199003070071").replace("木工,", "厨师,");
    let problems = read(&format!("{HEADER}{ZHANG}{bad}\n{}", LI.replace("木工,", "厨师,"))).unwrap_err();
    let places: Vec<_> = problems.iter().map(|p| (p.line.unwrap(), p.column.as_deref().unwrap())).collect();
    assert_eq!(places, [(3, "id_number"), (3, "trade"), (5, "trade")]);
}

#[test]
fn the_same_person_or_card_twice_in_a_file_is_reported() {
    let again = ZHANG.replace("E3086CED", "").replace("11010519491231002X", "110101199003070070");
    assert_eq!(only(read(&format!("{HEADER}{ZHANG}{again}"))).column.as_deref(), Some("worker_id"));
    let person = WANG.replace("110101199003070070", "11010519491231002x");
    assert_eq!(only(read(&format!("{HEADER}{ZHANG}{person}"))).column.as_deref(), Some("id_number"));
    for card in ["e3086ced", "3808980205", "62E3086CED", "\"008,27885\""] {
        let row = WANG.replace("木工,,", &format!("木工,{card},"));
        let problem = only(read(&format!("{HEADER}{ZHANG}{row}")));
        assert_eq!((problem.line, problem.column.as_deref()), (Some(3), Some("badge")), "{card}");
        assert!(problem.reason.contains("line 2"), "{problem}");
    }
    let other = WANG.replace("木工,,", "木工,00086CED,");
    assert_eq!(read(&format!("{HEADER}{ZHANG}{other}")).unwrap().len(), 2, "two full numbers are two cards");
}

#[test]
fn a_row_of_another_length_is_reported_with_its_remedy() {
    let problems = read(&format!("{HEADER}{}", ZHANG.replace("E3086CED", "008,27885"))).unwrap_err();
    assert_eq!(problems[0].line, Some(2));
    assert!(problems[0].reason.contains("12 columns instead of 11"), "{}", problems[0]);
    let short = read(&format!("{HEADER}W0003,王五,110101199003070070,昌建总承包,木工班,木工\n")).unwrap_err();
    assert!(short[0].reason.contains("6 columns instead of 11"), "{}", short[0]);
}

#[test]
fn lines_are_counted_as_an_editor_counts_them() {
    let bad = WANG.replace("木工,", "厨师,");
    let quoted = ZHANG.replace("13812345678", "\"138\n12345678\"");
    let problems = read(&format!("{HEADER}\n\n{bad}{quoted}\r\n{}", bad.replace("W0003", "W0004"))).unwrap_err();
    let lines: Vec<_> = problems.iter().filter(|p| p.column.as_deref() == Some("trade")).map(|p| p.line).collect();
    assert_eq!(lines, [Some(4), Some(8)], "the quoted row takes two lines");
}

#[test]
fn a_wrong_header_names_every_column() {
    let problems = read("worker_id,name,salary,employer,team,trade,name\n").unwrap_err();
    let named: Vec<_> = problems.iter().map(|p| p.column.as_deref().unwrap()).collect();
    assert_eq!(named, ["salary", "name", "id_number"]);
    assert!(problems.iter().all(|p| p.line == Some(1)));
    assert!(only(read("worker_id;name;id_number\nW0001;张三;1\n")).reason.contains("commas"));
    assert!(only(read("")).reason.contains("empty"));
    let only_rows = read(ZHANG).unwrap_err();
    assert!(only_rows.iter().any(|p| p.column.as_deref() == Some("worker_id")), "the header is the first line");
}

#[test]
fn other_encodings_are_named() {
    let gbk = [HEADER.as_bytes(), b"W0001,\xd5\xc5\xc8\xfd,11010519491231002X\n"].concat();
    let problem = only(parse(&gbk, &employers()));
    assert!(problem.reason.contains("GB18030") && problem.reason.contains("line 2"), "{problem}");
    let utf16: Vec<u8> = [0xFF, 0xFE].into_iter().chain(HEADER.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert!(only(parse(&utf16, &employers())).reason.contains("UTF-16"));
}

#[test]
fn no_problem_repeats_personal_data() {
    let row = "W0001,张三丰,110105194912310020,昌建总承包,班,020,12345678901,1381234567x,62220200x0000001234,x,y\n\
               440524188001010014,张三丰,,昌建总承包,班,020,,,,,\n";
    let printed: String = read(&format!("{HEADER}{row}")).unwrap_err().iter().map(|p| format!("{p}\n")).collect();
    assert!(printed.lines().count() >= 7, "{printed}");
    for secret in ["三丰", "19491231", "12345678901", "1234567x", "62220200", "18800101"] {
        assert!(!printed.contains(secret), "{secret} stands in:\n{printed}");
    }
    assert!(printed.contains("110105********0020"), "enough to find it:\n{printed}");
}

#[test]
fn a_problem_reads_like_a_sentence() {
    let problem = only(read(&format!("{HEADER}{}", WANG.replace("木工,", "厨师,"))));
    let text = problem.to_string();
    assert!(text.starts_with("line 2: W0003: trade = \"厨师\": is no national workType code"), "{text}");
}

#[test]
fn numbers_and_badges_of_others_on_the_roster_are_conflicts() {
    let existing = read(&format!("{HEADER}{ZHANG}{WANG}")).unwrap();
    let new = ZHANG.replace("W0001", "W0010");
    let found = conflicts(&read(&format!("{HEADER}{new}")).unwrap(), &existing);
    let columns: Vec<_> =
        found.iter().map(|p| (p.worker_id.as_deref().unwrap(), p.column.as_deref().unwrap())).collect();
    assert_eq!(columns, [("W0010", "id_number"), ("W0010", "badge")]);
    assert!(found[1].reason.contains("W0001 (张*)"), "{}", found[1]);
    assert_eq!(conflicts(&existing, &existing), [], "a worker does not conflict with himself");
}

#[test]
fn two_workers_may_exchange_their_badges_in_one_import() {
    let wang = WANG.replace("木工,,", "木工,00000001,");
    let before = read(&format!("{HEADER}{ZHANG}{wang}")).unwrap();
    let (zhang, wang) = (ZHANG.replace("E3086CED", "00000001"), wang.replace("00000001", "E3086CED"));
    let after = read(&format!("{HEADER}{zhang}{wang}")).unwrap();
    assert_eq!(conflicts(&after, &before), []);
    assert_eq!(conflicts(&after[..1], &before).len(), 1, "but not one without the other");
}

proptest! {
    #[test]
    fn no_bytes_stop_the_reading(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes, &employers());
    }

    #[test]
    fn no_cells_stop_the_reading(cells in proptest::collection::vec("[0-9A-Za-z,\"\r\n张１Ｘ/. -]{0,24}", 11..=11)) {
        let _ = parse(format!("{HEADER}{}\n", cells.join(",")).as_bytes(), &employers());
    }
}

fn employers() -> Vec<Employer> {
    let (name, credit_code, corp_type) = ("昌建总承包".to_owned(), "91650000MA0000000K".to_owned(), "009".to_owned());
    vec![Employer { name, credit_code, corp_type }]
}

fn read(text: &str) -> Result<Vec<Worker>, Vec<RowProblem>> {
    parse(text.as_bytes(), &employers()).map(|file| file.workers)
}

fn only<T: std::fmt::Debug>(result: Result<T, Vec<RowProblem>>) -> RowProblem {
    let mut problems = result.expect_err("something is wrong in it");
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}
