//! `GET terminals` and the orders that a registrar gives to one of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::problem::{Problem, field};
use super::super::{Console, Here};
use super::{body, shape};
use crate::config::DirectionRule;
use crate::ops::alarms::Kind;
use crate::ops::board::TerminalStatus;
use crate::punch::{Adoption, Fact, TerminalId};
use crate::terminals::firmware::{MAX_FILE, UpdateFile};
use crate::terminals::hub::{Order, OrderError, Terminal};

/// Longer ids do not fit on a page or in a file name.
const MAX_ID: usize = 64;

/// All terminals on the board, pending ones among them.
pub async fn list(State(console): Here) -> Json<Value> {
    let site = console.context.config.site.utc_offset;
    let terminals: Vec<Value> =
        console.context.ops.board.terminals().iter().map(|status| shape::terminal(status, site)).collect();
    Json(json!({"terminals": terminals}))
}

/// What a pending terminal becomes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    pub id: String,
    pub direction: String,
}

/// Takes a terminal over from the pending list; `{id}` is its id or serial there.
pub async fn approve(
    State(console): Here,
    Path(pending): Path<String>,
    body::Json(approval): body::Json<Approval>,
) -> Result<Json<Value>, Problem> {
    let (terminal, greeting) = console.approve(&pending, approval).await?;
    Ok(Json(json!({
        "id": terminal.id.0,
        "serial": terminal.serial,
        "protocol": terminal.protocol,
        "direction": terminal.direction.as_str(),
        "greeted": greeting.is_ok(),
        "note": greeting.err().map(|error| error.to_string()),
    })))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// For the terminal's screen.
    #[serde(default)]
    text: String,
}

/// Opens the gate once.
pub async fn open(
    State(console): Here,
    Path(id): Path<String>,
    opening: Option<body::Json<Opening>>,
) -> Result<Json<Value>, Problem> {
    let text = opening.map_or_else(String::new, |body::Json(opening)| opening.text);
    if text.chars().count() > MAX_ID || text.chars().any(char::is_control) {
        let reason = format!("must be at most {MAX_ID} characters without control characters");
        return Err(Problem::content("the text does not fit on a screen", vec![field("text", &text, reason)]));
    }
    console.order(&id, Order::Open { text }).await
}

/// Brings a terminal's clock in line with the gateway's.
pub async fn sync(State(console): Here, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    if !console.context.clock.is_trustworthy() {
        return Err(Problem::unavailable("the gateway's own clock is not trustworthy; no terminal is set from it"));
    }
    console.order(&id, Order::SetTime).await
}

/// Begins to hand a new program to one of our own readers.
pub async fn update(
    State(console): Here,
    Path(id): Path<String>,
    body::Octets(bytes): body::Octets<MAX_FILE>,
) -> Result<Json<Value>, Problem> {
    let file = UpdateFile::parse(&bytes);
    let file = file.map_err(|error| Problem::content(format!("this is no update file: {error}"), Vec::new()))?;
    console.order(&id, Order::Update(Arc::new(file))).await
}

impl Console {
    async fn order(&self, id: &str, order: Order) -> Result<Json<Value>, Problem> {
        let terminal = self.context.hub.by_id(&TerminalId::from(id));
        let terminal = terminal.ok_or_else(|| Problem::not_found(format!("there is no terminal {id}")))?;
        tracing::info!(terminal = id, ?order, "order from the console");
        match self.context.hub.order(&terminal.serial, order).await {
            Ok(()) => Ok(Json(json!({"id": id, "done": true}))),
            Err(refusal @ OrderError::Unsupported(_)) => Err(Problem::conflict(refusal.to_string())),
            Err(error @ (OrderError::Offline(_) | OrderError::NoAnswer(_) | OrderError::Refused { .. })) => {
                Err(Problem::terminal(error.to_string()))
            }
        }
    }

    /// The terminal that waits for approval under this id or serial.
    pub fn pending(&self, id: &str) -> Option<TerminalStatus> {
        let board = self.context.ops.board.terminals();
        board.into_iter().find(|status| status.pending && (status.id.0 == id || status.serial == id))
    }

    /// Durable first; then the terminal is known, and told so. A greeting that fails leaves it approved: it is served
    /// when it next speaks.
    pub async fn approve(
        &self,
        pending: &str,
        approval: Approval,
    ) -> Result<(Terminal, Result<(), OrderError>), Problem> {
        let _turn = self.approvals.acquire().await.expect("the semaphore is never closed");
        let status = self
            .pending(pending)
            .ok_or_else(|| Problem::not_found(format!("no terminal waits for approval as {pending}")))?;
        let terminal = self.checked(&status, approval)?;
        let adoption = Adoption {
            terminal: terminal.id.clone(),
            protocol: terminal.protocol.clone(),
            serial: terminal.serial.clone(),
            direction: terminal.direction.as_str().to_owned(),
            at: self.context.clock.now(),
        };
        let appended = self.context.store.append(vec![Fact::Adoption(adoption)]).await?;
        self.context.hub.adopt(terminal.clone());
        self.context.ops.board.edit_terminal(&terminal.serial, |status| {
            status.id = terminal.id.clone();
            status.direction = terminal.direction.as_str().to_owned();
            status.pending = false;
        });
        self.context.ops.alarms.clear(Kind::TerminalPending, &terminal.serial);
        tracing::info!(terminal = %terminal.id, serial = terminal.serial, "terminal approved on the console");
        if let Some(appended) = appended.last() {
            self.applied(appended.seq).await;
        }
        let greeting = self.context.hub.order(&terminal.serial, Order::Adopted).await;
        Ok((terminal, greeting))
    }

    fn checked(&self, status: &TerminalStatus, approval: Approval) -> Result<Terminal, Problem> {
        let mut problems = Vec::new();
        let id = approval.id.trim();
        if !is_id(id) {
            problems.push(field("id", id, format!("must be 1 to {MAX_ID} letters, digits, `-`, `_` or `.`")));
        }
        if self.context.hub.by_id(&TerminalId::from(id)).is_some() {
            problems.push(field("id", id, "is the id of another terminal"));
        }
        let direction = DirectionRule::from_name(&approval.direction);
        if direction.is_none() {
            let reason = "must be one of in, out, terminal, alternate";
            problems.push(field("direction", &approval.direction, reason));
        }
        match direction {
            Some(direction) if problems.is_empty() => Ok(Terminal {
                id: TerminalId::from(id),
                protocol: status.protocol.clone(),
                serial: status.serial.clone(),
                direction,
                password: None,
            }),
            Some(_) | None => Err(Problem::content("the terminal cannot be approved like this", problems)),
        }
    }
}

fn is_id(text: &str) -> bool {
    let length = text.chars().count();
    (1..=MAX_ID).contains(&length)
        && text.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_words() {
        assert!(is_id("north-in") && is_id("北门.进_1"));
        for wrong in ["", "a b", "a/b", "<b>", &"x".repeat(65)] {
            assert!(!is_id(wrong), "{wrong}");
        }
    }
}
