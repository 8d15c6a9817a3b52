//! `GET|POST teams`: crews with their employers, as the roster's workers name them.
//!
//! A team is where its workers say they belong: it begins with its first worker and is never stored by itself.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::problem::{Problem, field};
use super::super::{Console, Here};
use super::body;
use crate::punch::{TeamKey, Worker};

#[derive(Debug, Default, PartialEq, Eq)]
struct Crew {
    workers: usize,
    left: usize,
    leader: Option<String>,
}

/// All teams, by employer and name.
pub async fn list(State(console): Here) -> Json<Value> {
    let crews = console.crews().await;
    Json(json!({"teams": crews.iter().map(|(key, crew)| console.team(key, crew)).collect::<Vec<_>>()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    employer: String,
    name: String,
}

/// Confirms a team that is there. One without workers cannot be kept, and that is said rather than pretended.
pub async fn add(State(console): Here, body::Json(wanted): body::Json<Wanted>) -> Result<Json<Value>, Problem> {
    let employers = &console.context.config.employers;
    if !employers.iter().any(|employer| employer.name == wanted.employer) {
        let names: Vec<&str> = employers.iter().map(|employer| employer.name.as_str()).collect();
        let reason = format!("is not configured; configured are: {}", names.join(", "));
        return Err(Problem::content("the employer is unknown", vec![field("employer", &wanted.employer, reason)]));
    }
    let key = TeamKey { employer: wanted.employer, name: wanted.name };
    let crews = console.crews().await;
    let Some(crew) = crews.get(&key) else {
        let reason = "a team begins with its first worker: add its leader with POST /api/v1/workers";
        return Err(Problem::content("there is no such team yet", vec![field("name", &key.name, reason)]));
    };
    Ok(Json(console.team(&key, crew)))
}

fn crews(workers: &[Worker], today: Date) -> BTreeMap<TeamKey, Crew> {
    let mut crews = BTreeMap::<TeamKey, Crew>::new();
    for worker in workers {
        let crew = crews.entry(worker.team.clone()).or_default();
        crew.workers += 1;
        crew.left += usize::from(worker.left_on.is_some_and(|left| left < today));
        if worker.leader && crew.leader.is_none() {
            crew.leader = Some(worker.worker_id.0.clone());
        }
    }
    crews
}

impl Console {
    async fn crews(&self) -> BTreeMap<TeamKey, Crew> {
        let today = self.today();
        self.context.store.read(move |view| crews(&view.workers(), today)).await
    }

    fn team(&self, key: &TeamKey, crew: &Crew) -> Value {
        let employer = self.context.config.employers.iter().find(|employer| employer.name == key.employer);
        json!({
            "employer": key.employer,
            "credit_code": employer.map(|employer| &employer.credit_code),
            "name": key.name,
            "workers": crew.workers,
            "left": crew.left,
            "leader": crew.leader,
        })
    }
}
