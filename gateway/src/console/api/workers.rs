//! `GET|POST workers`, `GET|PATCH workers/{id}`, `POST workers/import`: the roster.
//!
//! A worker sent as JSON obeys the rules of a roster row, because it is read as one. A change is checked against the
//! whole roster and committed before another change is looked at. Personal numbers are masked in every answer, except
//! for the bearer of the token who asks for them, which is logged.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::super::Here;
use super::super::auth::Access;
use super::super::problem::{Problem, field};
use super::body::{self, WORKER_LIMIT};
use super::parameters::Parameters;
use super::roster::{Imported, nothing_imported};
use super::shape;
use crate::config::Employer;
use crate::punch::{Worker, WorkerId};
use crate::roster::{self, RosterFile, RowProblem};

type Fields = Map<String, Value>;

/// The roster, by worker id.
pub async fn list(State(console): Here, access: Access, mut given: Parameters) -> Result<Json<Value>, Problem> {
    let cursor = given.text("cursor")?.map(WorkerId);
    let limit = given.number("limit", 1000, 1..=5000)?;
    let reveal = revealed(&mut given, access, "the roster")?;
    given.finish("cursor, limit, reveal")?;
    let workers = console.context.store.read(|view| view.workers()).await;
    let after = workers.partition_point(|worker| cursor.as_ref().is_some_and(|cursor| worker.worker_id <= *cursor));
    let rest = &workers[after..];
    let page = &rest[..limit.min(rest.len())];
    let next = page.last().filter(|_| page.len() < rest.len()).map(|worker| &worker.worker_id.0);
    let shapes: Vec<Value> = page.iter().map(|worker| shape::worker(worker, reveal)).collect();
    Ok(Json(json!({"workers": shapes, "next": next})))
}

/// One worker.
pub async fn one(
    State(console): Here,
    access: Access,
    Path(id): Path<String>,
    mut given: Parameters,
) -> Result<Json<Value>, Problem> {
    let reveal = revealed(&mut given, access, &id)?;
    given.finish("reveal")?;
    let worker = console.worker(&id).await?;
    Ok(Json(shape::worker(&worker, reveal)))
}

/// Whether personal numbers may be shown whole.
fn revealed(given: &mut Parameters, access: Access, what: &str) -> Result<bool, Problem> {
    let reveal = given.flag("reveal")?;
    match access {
        Access::Token if reveal => {
            tracing::info!(of = what, "personal numbers were shown unmasked to the bearer of the API token");
            Ok(true)
        }
        Access::Nobody | Access::Session(_) if reveal => {
            Err(Problem::forbidden("`reveal` needs the API token itself, not a session"))
        }
        Access::Nobody | Access::Session(_) | Access::Token => Ok(false),
    }
}

/// Adds one worker.
pub async fn add(
    State(console): Here,
    body::Json(fields): body::Json<Fields, WORKER_LIMIT>,
) -> Result<Response, Problem> {
    let _turn = console.roster_turn().await;
    let (worker, file) = read_one(&fields, &console.context.config.employers)?;
    let id = worker.worker_id.clone();
    let existing = console.roster().await;
    if existing.iter().any(|known| known.worker_id == id) {
        return Err(Problem::conflict(format!("{id} is on the roster already; change it with PATCH")));
    }
    let shape = shape::worker(&worker, false);
    console.take_over(file, &existing).await?;
    let location = [(header::LOCATION, format!("/api/v1/workers/{id}"))];
    Ok((StatusCode::CREATED, location, Json(shape)).into_response())
}

/// Changes the given fields of one worker; `null` empties a field.
pub async fn change(
    State(console): Here,
    Path(id): Path<String>,
    body::Json(changes): body::Json<Fields, WORKER_LIMIT>,
) -> Result<Json<Value>, Problem> {
    let _turn = console.roster_turn().await;
    let known = console.worker(&id).await?;
    let fields = changed(&known, changes)?;
    let (worker, file) = read_one(&fields, &console.context.config.employers)?;
    let shape = shape::worker(&worker, false);
    let existing = console.roster().await;
    console.take_over(file, &existing).await?;
    Ok(Json(shape))
}

/// The worker's fields with the changes in them. A masked value that comes back as it was given out changes nothing.
fn changed(known: &Worker, changes: Fields) -> Result<Fields, Problem> {
    let Value::Object(mut fields) = shape::worker(known, true) else { unreachable!("a worker is an object") };
    let masked = shape::worker(known, false);
    for (name, value) in changes {
        if name == "worker_id" && value != fields[&name] {
            let reason = "cannot be changed: it is the worker's identity";
            return Err(Problem::content("the worker cannot be changed like this", vec![field(&name, "", reason)]));
        }
        if masked.get(&name) != Some(&value) {
            fields.insert(name, value);
        }
    }
    Ok(fields)
}

/// Merges a roster file: all its rows, or none and every problem.
pub async fn import(
    State(console): Here,
    body::Csv { file, turn: _one_file }: body::Csv,
) -> Result<Json<Imported>, Problem> {
    let employers = console.context.config.employers.clone();
    let parsed = tokio::task::spawn_blocking(move || roster::parse(&file, &employers)).await;
    let parsed = parsed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    let file = parsed.map_err(nothing_imported)?;
    let _turn = console.roster_turn().await;
    let existing = console.roster().await;
    let imported = console.take_over(file, &existing).await?;
    tracing::info!(?imported, "roster imported");
    Ok(Json(imported))
}

/// Reads a JSON object as the one row of a roster file.
fn read_one(fields: &Fields, employers: &[Employer]) -> Result<(Worker, RosterFile), Problem> {
    let wrong = |problems| Problem::content("the worker cannot go onto the roster", problems);
    let mut cells = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        cells.push(cell(value).ok_or_else(|| wrong(vec![field(name, "", "must be text, a boolean or null")]))?);
    }
    let mut file = csv::Writer::from_writer(Vec::new());
    let written = file.write_record(fields.keys()).and_then(|()| file.write_record(&cells));
    let text = written.ok().and_then(|()| file.into_inner().ok()).expect("writing to a Vec cannot fail");
    let mut file = roster::parse(&text, employers).map_err(|problems| wrong(without_lines(problems)))?;
    file.named.iter_mut().for_each(|named| named.line = None);
    let worker = file.workers.first().cloned();
    let worker = worker.ok_or_else(|| wrong(vec![field("worker_id", "", "is missing")]))?;
    Ok((worker, file))
}

fn cell(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(yes) => Some(u8::from(*yes).to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// A JSON body has no lines.
fn without_lines(problems: Vec<RowProblem>) -> Vec<RowProblem> {
    problems.into_iter().map(|problem| RowProblem { line: None, ..problem }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn employers() -> Vec<Employer> {
        let general = Employer {
            name: "昌建总承包".to_owned(),
            credit_code: "91650000MA0000000K".to_owned(),
            corp_type: "009".to_owned(),
        };
        vec![general]
    }

    fn fields() -> Fields {
        let Value::Object(fields) = json!({
            "worker_id": "W0001", "name": "张三", "id_number": "110101199003070070", "employer": "昌建总承包",
            "team": "钢筋, 一班", "trade": "020", "badge": "008,27885", "phone": "13800000001",
            "bank_card": "6222020000000000000", "entered_on": "2026-03-01", "leader": true, "birth": "1990-03-07",
            "valid_to": "长期", "address": "某市某区1号", "politics": "群众", "education": null,
        }) else {
            unreachable!()
        };
        fields
    }

    #[test]
    fn a_worker_as_json_obeys_the_rules_of_a_roster_row() {
        let (worker, _) = read_one(&fields(), &employers()).unwrap();
        assert_eq!((worker.team.name.as_str(), worker.leader), ("钢筋, 一班", true));
        let wrong = Fields::from_iter([("badge".to_owned(), json!("what"))]);
        let problem = read_one(&fields().into_iter().chain(wrong).collect(), &employers()).unwrap_err();
        assert_eq!(problem.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert!(problem.sentences().contains("badge"), "{}", problem.sentences());
        assert!(!problem.sentences().contains("line"), "{}", problem.sentences());
    }

    #[test]
    fn what_a_client_read_masked_it_may_send_back_unchanged() {
        let (known, _) = read_one(&fields(), &employers()).unwrap();
        for reveal in [true, false] {
            let Value::Object(mut sent) = shape::worker(&known, reveal) else { unreachable!() };
            sent["phone"] = json!("13900000002");
            let (changed, _) = read_one(&changed(&known, sent).unwrap(), &employers()).unwrap();
            assert_eq!(changed, Worker { phone: Some("13900000002".to_owned()), ..known.clone() });
        }
    }

    #[test]
    fn null_empties_a_field_and_the_id_stays() {
        let (known, _) = read_one(&fields(), &employers()).unwrap();
        let emptied = changed(&known, Fields::from_iter([("badge".to_owned(), Value::Null)])).unwrap();
        assert_eq!(read_one(&emptied, &employers()).unwrap().0.badge, None);
        assert!(changed(&known, Fields::from_iter([("worker_id".to_owned(), json!("W0002"))])).is_err());
    }
}
