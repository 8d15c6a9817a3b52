//! `GET uploads`: where every subject stands with every platform; `POST uploads/{platform}/retry`: the repair desk.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::super::problem::Problem;
use super::super::{Console, Here};
use super::parameters::Parameters;
use super::shape;
use crate::punch::*;
use crate::store::{UploadRow, View};

const STATES: [UploadState; 8] = [
    UploadState::Queued,
    UploadState::Waiting,
    UploadState::Sending,
    UploadState::Accepted,
    UploadState::Confirmed,
    UploadState::Refused,
    UploadState::Unknown,
    UploadState::Withdrawn,
];
/// Subjects of one ledger record written by a retry.
const PER_STEP: usize = 100;

/// Uploads of one platform or of all, one platform after the other.
pub async fn list(State(console): Here, mut given: Parameters) -> Result<Json<Value>, Problem> {
    let platform = given.text("platform")?.map(PlatformName);
    let state = given.choice("state", &STATES.map(UploadState::as_str))?;
    let state = state.and_then(|name| STATES.into_iter().find(|state| state.as_str() == name));
    let cursor = given.text("cursor")?;
    let limit = given.number("limit", 100, 1..=1000)?;
    given.finish("platform, state, cursor, limit")?;
    let platforms = match platform {
        Some(name) => vec![console.known_platform(name).map_err(|name| unknown_parameter(&name))?],
        None => console.platforms(),
    };
    let (start, inner) = place(cursor.as_deref(), platforms.len())?;
    let (rows, next) =
        console.context.store.read(move |view| gather(view, &platforms, state, (start, inner), limit)).await;
    let site = console.context.config.site.utc_offset;
    let rows = rows.iter().map(|(platform, subject, row)| shape::upload(platform, subject, row, site));
    Ok(Json(json!({"uploads": rows.collect::<Vec<_>>(), "next": next})))
}

/// Where to go on: the platform's place in the list, and the store's own cursor within it.
type Start = (usize, Option<String>);

fn place(cursor: Option<&str>, platforms: usize) -> Result<Start, Problem> {
    let Some(cursor) = cursor else { return Ok((0, None)) };
    let parts = cursor.split_once('.').and_then(|(place, inner)| Some((place.parse::<usize>().ok()?, inner)));
    let Some((place, inner)) = parts.filter(|(place, _)| *place < platforms) else {
        return Err(Problem::parameter("cursor", "`cursor` must be the `next` of an earlier answer"));
    };
    Ok((place, Some(inner.to_owned()).filter(|inner| !inner.is_empty())))
}

type Rows = Vec<(PlatformName, Subject, UploadRow)>;

fn gather(
    view: &View,
    platforms: &[PlatformName],
    state: Option<UploadState>,
    (start, mut inner): Start,
    limit: usize,
) -> (Rows, Option<String>) {
    let mut rows = Rows::new();
    for (place, platform) in platforms.iter().enumerate().skip(start) {
        if rows.len() == limit {
            return (rows, Some(format!("{place}.")));
        }
        let page = view.uploads(platform, state, inner.take().as_deref(), limit - rows.len());
        rows.extend(page.items.into_iter().map(|(subject, row)| (platform.clone(), subject, row)));
        if let Some(next) = page.next {
            return (rows, Some(format!("{place}.{next}")));
        }
    }
    (rows, None)
}

/// Puts everything that the platform refused back to the queue, and starts a courier that has stopped; whoever does it has
/// repaired the cause.
pub async fn retry(State(console): Here, Path(platform): Path<String>) -> Result<Json<Value>, Problem> {
    let platform = console
        .known_platform(PlatformName(platform))
        .map_err(|name| Problem::not_found(format!("there is no platform {name}")))?;
    let wanted = platform.clone();
    let refused = console.context.store.read(move |view| all_refused(view, &wanted)).await;
    let requeued = refused.len();
    let now = console.context.clock.now();
    let mut steps = requeue(&platform, refused, now);
    if steps.is_empty() {
        steps.push(order(&platform, (JobId(0), String::new()), Vec::new(), now));
    }
    let mut last = None;
    for step in steps {
        let appended = console.context.store.append(vec![Fact::Upload(step)]).await?;
        last = appended.last().map(|appended| appended.seq);
    }
    if let Some(last) = last {
        console.applied(last).await;
    }
    tracing::info!(%platform, requeued, "refused uploads put back to the queue");
    Ok(Json(json!({"platform": platform.0, "requeued": requeued})))
}

fn all_refused(view: &View, platform: &PlatformName) -> Vec<(Subject, UploadRow)> {
    let mut refused = Vec::new();
    let mut cursor = None;
    loop {
        let page = view.uploads(platform, Some(UploadState::Refused), cursor.as_deref(), 1000);
        refused.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return refused;
        }
    }
}

/// One step for each job that was refused, so that the story of a subject shows which attempt is repeated.
fn requeue(platform: &PlatformName, refused: Vec<(Subject, UploadRow)>, at: UnixMs) -> Vec<UploadStep> {
    let mut jobs = std::collections::BTreeMap::<(JobId, String), Vec<Subject>>::new();
    for (subject, row) in refused {
        jobs.entry(row.job.unwrap_or((JobId(0), String::new()))).or_default().push(subject);
    }
    jobs.into_iter()
        .flat_map(|(job, subjects)| {
            let chunks: Vec<Vec<Subject>> = subjects.chunks(PER_STEP).map(<[Subject]>::to_vec).collect();
            chunks.into_iter().map(move |subjects| order(platform, job.clone(), subjects, at))
        })
        .collect()
}

/// The order itself, as the ledger keeps it and the courier hears it. Without subjects it only starts the courier.
fn order(platform: &PlatformName, (job, method): (JobId, String), subjects: Vec<Subject>, at: UnixMs) -> UploadStep {
    let step = Step::Requeued { reason: "asked for on the console".to_owned() };
    UploadStep { platform: platform.clone(), job, method, at, subjects, step }
}

fn unknown_parameter(name: &PlatformName) -> Problem {
    Problem::parameter("platform", format!("there is no platform `{name}`"))
}

impl Console {
    /// The name back when it is configured, as an error when it is not.
    fn known_platform(&self, name: PlatformName) -> Result<PlatformName, PlatformName> {
        let known = self.context.config.platforms.iter().any(|platform| platform.name == name);
        if known { Ok(name) } else { Err(name) }
    }
}
