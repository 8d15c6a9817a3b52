//! `GET punches`: a listing, oldest first.

use axum::extract::State;
use serde::Serialize;

use super::super::problem::Problem;
use super::super::{Console, Here};
use super::parameters::Parameters;
use super::shape;
use crate::punch::{PlatformName, Subject, TerminalId, WorkerId};
use crate::store::{PunchFilter, PunchRow, UploadRow, View};

#[derive(Serialize)]
pub struct Listing {
    punches: Vec<shape::Punch>,
    next: Option<String>,
}

/// The punches that meet all given conditions.
pub async fn list(State(console): Here, mut given: Parameters) -> Result<axum::Json<Listing>, Problem> {
    let site = console.context.config.site.utc_offset;
    let filter = PunchFilter {
        from: given.time("from", site)?,
        to: given.time("to", site)?,
        terminal: given.text("terminal")?.map(TerminalId),
        worker: given.text("worker")?.map(WorkerId),
        verdict_kind: given.choice("verdict", &["verified", "held", "rejected"])?,
    };
    let cursor = given.text("cursor")?;
    let limit = given.number("limit", 100, 1..=1000)?;
    given.finish("from, to, terminal, worker, verdict, cursor, limit")?;
    let platforms = console.platforms();
    let (page, uploads) = console
        .context
        .store
        .read(move |view| {
            let page = view.punches(&filter, cursor.as_deref(), limit);
            let uploads: Vec<_> = page.items.iter().map(|row| uploads_of(view, row, &platforms)).collect();
            (page, uploads)
        })
        .await;
    let rows = page.items.iter().zip(&uploads);
    let punches = rows.map(|(row, uploads)| shape::Punch::of(row, uploads, site)).collect();
    Ok(axum::Json(Listing { punches, next: page.next }))
}

/// How a punch stands with each platform that wants it.
pub fn uploads_of(view: &View, row: &PunchRow, platforms: &[PlatformName]) -> Vec<(PlatformName, UploadRow)> {
    let subject = Subject::Punch(row.id);
    platforms.iter().filter_map(|name| Some((name.clone(), view.upload(name, &subject)?))).collect()
}

impl Console {
    /// The names of the configured platforms.
    pub fn platforms(&self) -> Vec<PlatformName> {
        self.context.config.platforms.iter().map(|platform| platform.name.clone()).collect()
    }
}
