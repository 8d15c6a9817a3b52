//! The overview's fragments, rendered once for everybody who looks.
//!
//! One task renders, at most twice a second, and only while somebody looks. Streams share its frames and each sends
//! the newest one it has not sent: who is slow skips what is between, and nothing is kept for him.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::super::Context;
use super::super::problem::Problem;
use super::fragments::{SECTIONS, Variant};
use super::snapshot::{Names, Snapshot};
use super::stream::{self, Source};

/// Between two renderings.
const SPACING: Duration = Duration::from_millis(500);
/// Without any change the page is still rendered this often, because the day goes on.
const STALE: Duration = Duration::from_secs(60);
/// Pages wait this long for a rendering.
const PATIENCE: Duration = Duration::from_secs(10);

/// One section of the overview in one variant.
#[derive(Clone)]
pub struct Fragment {
    pub html: Arc<str>,
    frame: Bytes,
    /// Goes up when the section has changed.
    version: u64,
}

#[cfg(test)]
impl Fragment {
    pub fn version(&self) -> u64 {
        self.version
    }
}

/// All sections in all variants.
#[derive(Clone, Default)]
pub struct Rendered(Vec<Vec<Fragment>>);

impl Rendered {
    /// The sections of one variant, in the order of [`SECTIONS`].
    pub fn sections(&self, variant: Variant) -> &[Fragment] {
        self.0.get(variant.index()).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
impl Rendered {
    /// How often the section that changed most has changed.
    pub fn newest_version(&self) -> u64 {
        self.0.iter().flatten().map(Fragment::version).max().unwrap_or(0)
    }
}

/// How pages and streams reach the renderer.
pub struct Live {
    asked: mpsc::Sender<oneshot::Sender<Arc<Rendered>>>,
    current: watch::Sender<Arc<Rendered>>,
}

/// The task that renders.
pub struct Renderer {
    context: Context,
    asked: mpsc::Receiver<oneshot::Sender<Arc<Rendered>>>,
    current: watch::Sender<Arc<Rendered>>,
    names: Names,
}

/// The renderer and the way to it.
pub fn new(context: Context) -> (Live, Renderer) {
    let (ask, asked) = mpsc::channel(64);
    let current = watch::Sender::new(Arc::new(Rendered::default()));
    let renderer = Renderer { context, asked, current: current.clone(), names: Names::default() };
    (Live { asked: ask, current }, renderer)
}

impl Live {
    /// The fragments as of now, at most half a second old.
    pub async fn fresh(&self) -> Result<Arc<Rendered>, Problem> {
        let (answer, rendered) = oneshot::channel();
        let late = || Problem::unavailable("the page could not be rendered in time");
        let asked = async {
            self.asked.send(answer).await.ok()?;
            rendered.await.ok()
        };
        tokio::time::timeout(PATIENCE, asked).await.ok().flatten().ok_or_else(late)
    }

    /// A stream's place, which first sends everything.
    pub async fn viewer(&self, variant: Variant, build: &str) -> Result<Viewer, Problem> {
        let updates = self.current.subscribe();
        let current = self.fresh().await?;
        let greeting = stream::frame("build", None, &serde_json::json!({"build": build}));
        Ok(Viewer { variant, greeting: Some(greeting), updates, current, sent: [0; SECTIONS.len()] })
    }
}

impl Renderer {
    /// Renders when something has changed and somebody looks, until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut facts = self.context.store.subscribe();
        let mut board = self.context.ops.board.watch();
        let mut alarms = self.context.ops.alarms.watch();
        let mut health = self.context.store.watch_health();
        let mut askers: Vec<oneshot::Sender<Arc<Rendered>>> = Vec::new();
        let mut dirty = true;
        let mut rested = true;
        let mut rest = Box::pin(tokio::time::sleep(SPACING));
        loop {
            let looked_at = !askers.is_empty() || self.current.receiver_count() > 0;
            if dirty && rested && looked_at {
                // What happens from here on is heard on the new receiver or seen in the view, or both.
                facts = facts.resubscribe();
                board.mark_unchanged();
                alarms.mark_unchanged();
                health.mark_unchanged();
                self.render().await;
                (dirty, rested) = (false, false);
                rest.set(tokio::time::sleep(SPACING));
            }
            let current = self.current.borrow().clone();
            for asker in askers.drain(..) {
                // Who asked may be gone by now.
                let _ = asker.send(current.clone());
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(asker) = self.asked.recv() => askers.push(asker),
                () = &mut rest, if !rested => rested = true,
                fact = facts.recv(), if !dirty => match fact {
                    Ok(_) | Err(RecvError::Lagged(_)) => dirty = true,
                    // The store closes only when the gateway stops.
                    Err(RecvError::Closed) => return shutdown.cancelled().await,
                },
                Ok(()) = board.changed(), if !dirty => dirty = true,
                Ok(()) = alarms.changed(), if !dirty => dirty = true,
                Ok(()) = health.changed(), if !dirty => dirty = true,
                () = tokio::time::sleep(STALE), if !dirty => dirty = true,
            }
        }
    }

    /// Reads and renders on the blocking pool; sections that look the same keep their version.
    async fn render(&mut self) {
        let context = self.context.clone();
        let mut names = std::mem::take(&mut self.names);
        let before = self.current.borrow().clone();
        let rendering = tokio::task::spawn_blocking(move || {
            let snapshot = Snapshot::take(&context, &context.store.view(), &mut names);
            (rendered(&snapshot, &before), names)
        });
        match rendering.await {
            Ok((rendered, names)) => {
                self.names = names;
                self.current.send_replace(Arc::new(rendered));
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// Every variant of every section.
pub fn rendered(snapshot: &Snapshot, before: &Rendered) -> Rendered {
    let variants = Variant::all().into_iter().map(|variant| {
        let old = before.sections(variant);
        let sections = SECTIONS.iter().enumerate().map(|(place, section)| {
            let html = section.render(snapshot, variant);
            match old.get(place) {
                Some(same) if *same.html == *html => same.clone(),
                other => Fragment {
                    frame: stream::frame("section", None, &serde_json::json!({"id": section.id(), "html": html})),
                    html: html.into(),
                    version: other.map_or(1, |old| old.version + 1),
                },
            }
        });
        sections.collect()
    });
    Rendered(variants.collect())
}

/// What one stream has sent, and what it has not.
pub struct Viewer {
    variant: Variant,
    greeting: Option<Bytes>,
    updates: watch::Receiver<Arc<Rendered>>,
    current: Arc<Rendered>,
    sent: [u64; SECTIONS.len()],
}

impl Source for Viewer {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        loop {
            let sections = self.current.sections(self.variant);
            let unsent = sections.iter().zip(&mut self.sent).find(|(fragment, sent)| fragment.version != **sent);
            if let Some((fragment, sent)) = unsent {
                *sent = fragment.version;
                return Some(fragment.frame.clone());
            }
            self.updates.changed().await.ok()?;
            self.current = self.updates.borrow_and_update().clone();
        }
    }
}
