//! What the platform lists of its book.

use jiff::civil::Date;
use serde_json::{Value, json};

use super::book::{Attendance, Move, Team, Worker};
use super::cipher;
use super::rules::{Answer, Platform, error, ok, text};

impl Platform {
    pub(super) fn list_employers(&self, data: &Value) -> Answer {
        let wanted = data.get("corpCode").and_then(Value::as_str);
        let employers = self.book.employers.iter().filter(|code| wanted.is_none_or(|wanted| wanted == *code));
        page(data, employers.map(|code| json!({ "corpCode": code })).collect())
    }

    pub(super) fn list_moves(&self, data: &Value) -> Answer {
        let (id_number, team) = (self.id_number(data), data.get("teamSysNo").and_then(Value::as_u64));
        let is_of_team =
            |one: &Move, number| self.book.worker(&one.id_number).is_some_and(|worker| worker.team_number == number);
        let moves = self.book.moves.iter().filter(|one| {
            id_number.as_ref().is_none_or(|id| *id == one.id_number) && team.is_none_or(|team| is_of_team(one, team))
        });
        let row = |one: &Move| {
            json!({
                "idCardType": "01",
                "idCardNumber": cipher::seal(&self.options.secret, &one.id_number),
                "date": one.date,
                "type": one.kind,
            })
        };
        page(data, moves.map(row).collect())
    }

    pub(super) fn list_teams(&self, data: &Value) -> Answer {
        let wanted = data.get("teamName").and_then(Value::as_str);
        let teams = self.book.teams.iter().filter(|team| wanted.is_none_or(|name| name == team.name));
        let row = |team: &Team| json!({ "teamSysNo": team.number, "teamName": team.name, "corpCode": team.corp_code });
        page(data, teams.map(row).collect())
    }

    pub(super) fn list_workers(&self, data: &Value) -> Answer {
        let (id_number, team) = (self.id_number(data), data.get("teamSysNo").and_then(Value::as_u64));
        let workers = self.book.workers.iter().filter(|worker| {
            id_number.as_ref().is_none_or(|id| *id == worker.id_number)
                && team.is_none_or(|team| team == worker.team_number)
        });
        let row = |worker: &Worker| {
            json!({
                "workerName": worker.name,
                "idCardNumber": cipher::seal(&self.options.secret, &worker.id_number),
                "teamSysNo": worker.team_number,
            })
        };
        page(data, workers.map(row).collect())
    }

    pub(super) fn list_attendance(&mut self, data: &Value) -> Answer {
        let day = text(data, "date").to_owned();
        if day.parse::<Date>().is_err() {
            self.violation(format!("WorkerAttendance.Query: [date] {day}"));
            return error("-1", "[date]格式无效");
        }
        let team = data.get("teamSysNo").and_then(Value::as_u64);
        let that_day = self.book.attendance.iter().filter(|punch| punch.date.starts_with(&day));
        let of_team = that_day.filter(|punch| team.is_none_or(|number| number == punch.team_number));
        let row = |punch: &Attendance| {
            json!({
                "teamSysNo": punch.team_number,
                "idCardType": "01",
                "idCardNumber": cipher::seal(&self.options.secret, &punch.id_number),
                "date": format!("{}.000", punch.date),
                "direction": punch.direction,
            })
        };
        page(data, of_team.map(row).collect())
    }
}

fn page(data: &Value, rows: Vec<Value>) -> Answer {
    let index = data["pageIndex"].as_u64().unwrap_or(0) as usize;
    let size = data["pageSize"].as_u64().unwrap_or(0) as usize;
    if size == 0 || size > 50 {
        return error("-1", "[pageSize]超出范围");
    }
    let total = rows.len();
    let rows: Vec<Value> = rows.into_iter().skip(index * size).take(size).collect();
    ok(json!({ "pageIndex": index, "pageSize": size, "totalCount": total, "rows": rows }))
}
