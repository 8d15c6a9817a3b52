//! Requests to the JSON text of the `data` parameter.
//!
//! Fields that the roster does not have are left out, never invented.

use serde_json::{Map, Value, json};

use super::dictionary as code;
use super::{Mohurd, PAGE_SIZE, day_text};
use crate::punch::{PhotoHash, Worker};
use crate::upload::profiles::{Attendance, Move, Pictures, Request, TeamPlace, Whom};

/// The `data` text of a request.
pub fn payload(profile: &Mohurd, request: &Request, pictures: &Pictures) -> String {
    let data = match request {
        Request::QueryJob { serial } => json!({ "requestSerialCode": serial }),
        Request::AddEmployer { employer } => json!({
            "projectCode": profile.project_code,
            "corpCode": employer.credit_code,
            "corpName": employer.name,
            "corpType": employer.corp_type,
        }),
        Request::QueryEmployers { employer, page } => json!({
            "pageIndex": page,
            "pageSize": PAGE_SIZE,
            "projectCode": profile.project_code,
            "corpCode": employer.credit_code,
        }),
        Request::AddTeam { employer, team, leader } => {
            let mut data = json!({
                "projectCode": profile.project_code,
                "corpCode": employer.credit_code,
                "corpName": employer.name,
                "teamName": team.name,
            });
            if let (Some(leader), Some(data)) = (leader, data.as_object_mut()) {
                add_leader(profile, data, leader);
            }
            data
        }
        Request::QueryTeams { employer, team, page } => json!({
            "pageIndex": page,
            "pageSize": PAGE_SIZE,
            "projectCode": profile.project_code,
            "corpCode": employer.credit_code,
            "teamName": team.name,
        }),
        Request::AddWorkers { place, workers } => {
            let rows: Vec<Value> = workers.iter().map(|one| worker(profile, one, pictures)).collect();
            with_place(profile, place, json!({ "teamName": place.team.name, "workerList": rows }))
        }
        Request::UpdateWorker { place, worker: one } => {
            let mut row = worker(profile, one, pictures);
            if let Some(row) = row.as_object_mut() {
                row.insert("teamName".to_owned(), json!(place.team.name));
            }
            with_place(profile, place, row)
        }
        Request::QueryWorkers { whom: Whom::Worker(id_number), page } => json!({
            "pageIndex": page,
            "pageSize": PAGE_SIZE,
            "projectCode": profile.project_code,
            "idCardType": code::ID_CARD,
            "idCardNumber": profile.cipher.encrypt(&id_number.to_uppercase()),
        }),
        Request::AddMoves { place, moves } => {
            let rows: Vec<Value> = moves.iter().map(|one| worker_move(profile, one)).collect();
            with_place(profile, place, json!({ "workerList": rows }))
        }
        Request::QueryWorkers { whom: Whom::Team(number), page }
        | Request::QueryMoves { team_number: number, page } => json!({
            "pageIndex": page,
            "pageSize": PAGE_SIZE,
            "projectCode": profile.project_code,
            "teamSysNo": team_number(number),
        }),
        Request::AddAttendance { team_number: number, punches, images } => json!({
            "projectCode": profile.project_code,
            "teamSysNo": team_number(number),
            "dataList": punches.iter().map(|punch| attendance(profile, punch, *images, pictures)).collect::<Vec<_>>(),
        }),
        Request::QueryAttendance { team_number: number, date, page } => json!({
            "pageIndex": page,
            "pageSize": PAGE_SIZE,
            "projectCode": profile.project_code,
            "teamSysNo": team_number(number),
            "date": day_text(*date),
        }),
    };
    data.to_string()
}

/// `teamSysNo` is an integer; a clone that gave something else gets it back as it was.
fn team_number(number: &str) -> Value {
    number.parse::<i64>().map_or_else(|_| Value::from(number), Value::from)
}

/// The fields that say which team of which employer, before `rest`.
fn with_place(profile: &Mohurd, place: &TeamPlace, rest: Value) -> Value {
    let mut data = json!({
        "projectCode": profile.project_code,
        "corpCode": place.employer.credit_code,
        "corpName": place.employer.name,
        "teamSysNo": team_number(&place.number),
    });
    if let (Some(data), Value::Object(rest)) = (data.as_object_mut(), rest) {
        data.extend(rest);
    }
    data
}

fn add_leader(profile: &Mohurd, data: &mut Map<String, Value>, leader: &Worker) {
    data.insert("responsiblePersonName".to_owned(), json!(leader.name));
    data.insert("responsiblePersonIDCardType".to_owned(), json!(code::ID_CARD));
    data.insert("responsiblePersonIDNumber".to_owned(), json!(id_number(profile, leader)));
    if let Some(phone) = &leader.phone {
        data.insert("responsiblePersonPhone".to_owned(), json!(phone));
    }
}

fn worker(profile: &Mohurd, worker: &Worker, pictures: &Pictures) -> Value {
    let mut row = json!({
        "workerName": worker.name,
        "isTeamLeader": u8::from(worker.leader),
        "idCardType": code::ID_CARD,
        "idCardNumber": id_number(profile, worker),
        "workType": worker.trade,
        "workRole": code::work_role(&worker.trade),
    });
    let optional = [
        ("nation", worker.nation.clone()),
        ("address", worker.address.clone()),
        ("headImage", picture(profile, worker.photo, pictures)),
        ("politicsType", worker.politics.as_deref().map(|text| code::politics(text).to_owned())),
        ("cellPhone", worker.phone.clone()),
        ("cultureLevelType", worker.education.as_deref().map(|text| code::culture_level(text).to_owned())),
        ("grantOrg", worker.issuer.clone()),
        ("payRollBankCardNumber", worker.bank_card.as_deref().map(|card| profile.cipher.encrypt(card))),
        ("joinedTime", worker.entered_on.map(day_text)),
        ("startDate", worker.valid_from.map(day_text)),
        ("expiryDate", worker.valid_to.map(day_text)),
    ];
    if let Some(row) = row.as_object_mut() {
        let known = optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
        row.extend(known);
    }
    row
}

fn worker_move(profile: &Mohurd, one: &Move) -> Value {
    json!({
        "idCardType": code::ID_CARD,
        "idCardNumber": id_number(profile, &one.worker),
        "date": day_text(one.date),
        "type": code::move_type(one.kind),
    })
}

fn attendance(profile: &Mohurd, punch: &Attendance, images: bool, pictures: &Pictures) -> Value {
    let mut row = json!({
        "idCardType": code::ID_CARD,
        "idCardNumber": profile.cipher.encrypt(&punch.id_number.to_uppercase()),
        "date": profile.date_text(punch.out.time),
        "direction": code::direction(punch.out.direction),
        "attendType": code::attend_type(punch.out.method),
        "channel": punch.out.terminal.as_str(),
    });
    let image = if images { picture(profile, punch.out.photo, pictures) } else { None };
    if let (Some(row), Some(image)) = (row.as_object_mut(), image) {
        row.insert("image".to_owned(), Value::from(image));
    }
    row
}

/// Upper case first: the platform decrypts and checks the check digit.
fn id_number(profile: &Mohurd, worker: &Worker) -> String {
    profile.cipher.encrypt(&worker.id_number.to_uppercase())
}

fn picture(profile: &Mohurd, photo: Option<PhotoHash>, pictures: &Pictures) -> Option<String> {
    let base64 = pictures.get(&photo?)?;
    let prefix = if profile.image_data_url { "data:image/jpeg;base64," } else { "" };
    Some(format!("{prefix}{base64}"))
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{family_a, profile, text};
    use super::*;
    use crate::config::{AesKey, Employer};
    use crate::punch::{Direction, Method, PunchId, Seq, UnixMs};
    use crate::store::Outgoing;

    fn punch(id_number: &str, time: i64, direction: Direction) -> Attendance {
        let out = Outgoing {
            seq: Seq(1),
            punch: PunchId::derive("s", "1", "t", "p"),
            worker: "W0001".into(),
            terminal: "1号闸机".into(),
            time: UnixMs(time),
            direction,
            method: Method::Face,
            photo: Some(PhotoHash([7; 32])),
        };
        Attendance { out, id_number: id_number.to_owned() }
    }

    #[test]
    fn two_punches_make_the_published_payload() {
        let vectors = family_a();
        for row in vectors["family_a"].as_array().unwrap().iter().take(2) {
            let request = Request::AddAttendance {
                team_number: "1700000001".to_owned(),
                punches: vec![
                    punch("110101194912310016", 1_772_406_065_000, Direction::In),
                    punch("110101194912310024", 1_772_445_820_000, Direction::Out),
                ],
                images: false,
            };
            let data = profile(text(row, "secret"), AesKey::Full, None).payload(&request, &Pictures::new());
            assert_eq!(data, text(&row["params"], "data"));
        }
    }

    #[test]
    fn a_picture_is_sent_when_there_is_one_and_wanted() {
        let mut profile = profile("1234567890abcdef", AesKey::Full, None);
        let request = |images| Request::AddAttendance {
            team_number: "T-7".to_owned(),
            punches: vec![punch("11010119491231018x", 1_772_406_065_000, Direction::In)],
            images,
        };
        let pictures = Pictures::from([(PhotoHash([7; 32]), "/9j/".to_owned())]);
        let read = |text: String| serde_json::from_str::<Value>(&text).unwrap();

        let without = read(profile.payload(&request(false), &pictures));
        assert_eq!(without["dataList"][0].get("image"), None);
        assert_eq!(without["teamSysNo"], "T-7");
        assert_eq!(without["dataList"][0]["idCardNumber"], "0/6LZNgkSqm/yUGJcc+37OnhPbqommgn+RLOFYsgjSQ=");
        assert_eq!(read(profile.payload(&request(true), &pictures))["dataList"][0]["image"], "/9j/");
        profile.image_data_url = true;
        let with_prefix = read(profile.payload(&request(true), &pictures));
        assert_eq!(with_prefix["dataList"][0]["image"], "data:image/jpeg;base64,/9j/");
    }

    #[test]
    fn a_worker_who_changes_teams_is_sent_flat_and_asked_for_in_whatever_team() {
        let profile = profile("1234567890abcdef", AesKey::Full, None);
        let read =
            |request: &Request| serde_json::from_str::<Value>(&profile.payload(request, &Pictures::new())).unwrap();
        let employer =
            Employer { name: "劳务".to_owned(), credit_code: "C006".to_owned(), corp_type: "006".to_owned() };
        let worker = crate::upload::courier::model::worker(1);
        let place = TeamPlace { employer, team: worker.team.clone(), number: "1700000001".to_owned() };
        let update = read(&Request::UpdateWorker { place, worker: Box::new(worker) });
        assert_eq!((&update["teamSysNo"], &update["isTeamLeader"]), (&json!(1_700_000_001), &json!(0)));
        assert!(update["workerName"].is_string() && update["teamName"].is_string());
        assert_eq!(update.get("workerList"), None);
        let ask = |whom| read(&Request::QueryWorkers { whom, page: 0 });
        assert_eq!(ask(Whom::Team("1700000001".to_owned()))["teamSysNo"], 1_700_000_001);
        let ask = ask(Whom::Worker("11010119491231018x".to_owned()));
        assert_eq!(ask["idCardNumber"], "0/6LZNgkSqm/yUGJcc+37OnhPbqommgn+RLOFYsgjSQ=");
        assert_eq!(ask.get("teamSysNo"), None);
    }
}
