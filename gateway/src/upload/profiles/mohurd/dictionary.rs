//! National code lists: what our values are called there.

use crate::punch::{Direction, Method};
use crate::upload::profiles::MoveKind;

/// `idCardType`: identity card; the platforms take no other in practice.
pub const ID_CARD: &str = "01";

/// The workType of managers, who have a workRole of their own.
const MANAGER_TRADE: &str = "900";

/// `direction` of attendance. A punch of unknown direction is held by verification; none is made up for it here.
pub fn direction(direction: Direction) -> Option<&'static str> {
    match direction {
        Direction::In => Some("01"),
        Direction::Out => Some("02"),
        Direction::Unknown => None,
    }
}

/// The direction behind a code, leniently.
pub fn direction_of(code: &str) -> Option<Direction> {
    match code.trim() {
        "01" | "1" => Some(Direction::In),
        "02" | "2" => Some(Direction::Out),
        _ => None,
    }
}

/// `attendType`.
pub fn attend_type(method: Method) -> &'static str {
    match method {
        Method::Face => "001",
        Method::Fingerprint => "003",
        Method::Palm => "004",
        Method::IdCard => "005",
        Method::Card => "006",
        Method::Remote => "008",
        Method::Qr => "010",
        Method::Password | Method::Other => "011",
    }
}

/// `type` of an entry or exit.
pub fn move_type(kind: MoveKind) -> &'static str {
    match kind {
        MoveKind::Entry => "1",
        MoveKind::Exit => "0",
    }
}

/// The kind behind a `type`; one clone writes 2 for an exit.
pub fn move_kind_of(code: &str) -> Option<MoveKind> {
    match code.trim() {
        "1" => Some(MoveKind::Entry),
        "0" | "2" => Some(MoveKind::Exit),
        _ => None,
    }
}

/// `workRole`: 10 for managers, else 20.
pub fn work_role(trade: &str) -> &'static str {
    if trade == MANAGER_TRADE { "10" } else { "20" }
}

/// `cultureLevelType`; codes pass as they are.
pub fn culture_level(education: &str) -> &str {
    look_up(
        education,
        &[
            ("小学", "01"),
            ("初中", "02"),
            ("高中", "03"),
            ("中专", "04"),
            ("大专", "05"),
            ("专科", "05"),
            ("本科", "06"),
            ("大学", "06"),
            ("硕士", "07"),
            ("博士", "08"),
            ("其他", "99"),
        ],
    )
}

/// `politicsType`; codes pass as they are.
pub fn politics(politics: &str) -> &str {
    look_up(
        politics,
        &[
            ("预备党员", "02"),
            ("共青团员", "03"),
            ("团员", "03"),
            ("中共党员", "01"),
            ("民革", "04"),
            ("民盟", "05"),
            ("民建", "06"),
            ("民进", "07"),
            ("农工党", "08"),
            ("致公党", "09"),
            ("九三学社", "10"),
            ("台盟", "11"),
            ("无党派", "12"),
            ("群众", "13"),
            ("党员", "01"),
        ],
    )
}

/// The code of the first name that the text contains; a text without any passes unchanged.
fn look_up<'a>(text: &'a str, names: &[(&str, &'a str)]) -> &'a str {
    names.iter().find(|(name, _)| text.contains(name)).map_or(text, |(_, code)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_codes_and_codes_stay() {
        assert_eq!(culture_level("初中"), "02");
        assert_eq!(culture_level("大学本科"), "06");
        assert_eq!(culture_level("04"), "04");
        assert_eq!(politics("中共预备党员"), "02");
        assert_eq!(politics("中共党员"), "01");
        assert_eq!(politics("群众"), "13");
        assert_eq!(politics("13"), "13");
    }

    #[test]
    fn only_managers_have_the_role_of_managers() {
        assert_eq!(work_role("900"), "10");
        assert_eq!(work_role("020"), "20");
    }
}
