//! Style, script and icon, built into the program.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::super::problem::Problem;

const ASSETS: [(&str, &str, &[u8]); 3] = [
    ("console.css", "text/css; charset=utf-8", include_bytes!("assets/console.css")),
    ("live.js", "text/javascript; charset=utf-8", include_bytes!("assets/live.js")),
    ("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
];

/// Names the version of all assets together; part of their addresses, so that browsers may keep them.
pub fn build() -> &'static str {
    static BUILD: LazyLock<String> = LazyLock::new(|| {
        let mut hash = Sha256::new_with_prefix(env!("CARGO_PKG_VERSION"));
        ASSETS.iter().for_each(|(_, _, bytes)| hash.update(bytes));
        hex::encode(&hash.finalize()[..6])
    });
    &BUILD
}

/// One asset by name.
pub async fn answer(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|(known, _, _)| *known == name) {
        Some((_, kind, bytes)) => {
            let headers = [(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "public, max-age=604800")];
            (headers, *bytes).into_response()
        }
        None => Problem::not_found(format!("there is no asset {name}")).into_response(),
    }
}
