//! Whether a browser's request comes from one of our own pages.

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};

/// Whether a state-changing request was made by a page of this console. Browsers send `Origin` with every POST and
/// PATCH; where it is missing, only an explicit `Sec-Fetch-Site: same-origin` will do.
pub fn is_same(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match headers.get(ORIGIN) {
        Some(origin) => {
            let authority = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
            let authority = authority.as_ref().and_then(|uri| uri.authority());
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            authority.is_some_and(|authority| host.is_some_and(|host| authority.as_str().eq_ignore_ascii_case(host)))
        }
        None => text("sec-fetch-site") == Some("same-origin"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn same(pairs: &[(&'static str, &'static str)]) -> bool {
        let headers = pairs
            .iter()
            .map(|(name, value)| (axum::http::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        is_same(&headers)
    }

    #[test]
    fn only_our_own_pages_pass() {
        assert!(same(&[("origin", "http://gate.lan:8080"), ("host", "gate.lan:8080")]));
        assert!(same(&[("sec-fetch-site", "same-origin"), ("host", "gate.lan:8080")]));
        for foreign in ["http://evil.example", "http://gate.lan:8081", "http://gate.lan", "null", ""] {
            assert!(!same(&[("origin", foreign), ("host", "gate.lan:8080")]), "{foreign}");
            assert!(!same(&[("origin", foreign), ("host", "gate.lan:8080"), ("sec-fetch-site", "same-origin")]));
        }
        assert!(!same(&[("host", "gate.lan:8080")]));
        assert!(!same(&[("sec-fetch-site", "same-site"), ("host", "gate.lan:8080")]));
        assert!(!same(&[]));
    }
}
