//! National codes of a worker's further columns: education and political affiliation.

/// cultureLevelType.
const EDUCATION: [(&str, &str); 9] = [
    ("01", "小学"),
    ("02", "初中"),
    ("03", "高中"),
    ("04", "中专"),
    ("05", "大专"),
    ("06", "本科"),
    ("07", "硕士"),
    ("08", "博士"),
    ("99", "其他"),
];

/// politicsType (GB/T 4762).
const POLITICS: [(&str, &str); 13] = [
    ("01", "中共党员"),
    ("02", "中共预备党员"),
    ("03", "共青团员"),
    ("04", "民革党员"),
    ("05", "民盟盟员"),
    ("06", "民建会员"),
    ("07", "民进会员"),
    ("08", "农工党党员"),
    ("09", "致公党党员"),
    ("10", "九三学社社员"),
    ("11", "台盟盟员"),
    ("12", "无党派人士"),
    ("13", "群众"),
];

/// The code for a code (with or without its leading zero) or a Chinese name.
pub fn education(text: &str) -> Option<&'static str> {
    find(&EDUCATION, text)
}

/// The code for a code or a Chinese name; 党员 and 团员 are short for the usual ones.
pub fn politics(text: &str) -> Option<&'static str> {
    match text {
        "党员" => Some("01"),
        "预备党员" => Some("02"),
        "团员" => Some("03"),
        "无党派" => Some("12"),
        other => find(&POLITICS, other),
    }
}

fn find(table: &'static [(&'static str, &'static str)], text: &str) -> Option<&'static str> {
    let padded = format!("{text:0>2}");
    table.iter().find(|(code, name)| *code == padded || *name == text).map(|(code, _)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_give_codes() {
        for (code, name) in EDUCATION {
            assert_eq!((education(code), education(name)), (Some(code), Some(code)));
        }
        for (code, name) in POLITICS {
            assert_eq!((politics(code), politics(name)), (Some(code), Some(code)));
        }
        assert_eq!((education("1"), politics("党员")), (Some("01"), Some("01")));
        assert_eq!((education("幼儿园"), politics("14"), education("")), (None, None, None));
    }
}
