//! The parameters of a request's address, each checked under its own name.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use jiff::civil::Date;
use jiff::tz::Offset;

use super::super::problem::Problem;
use crate::punch::UnixMs;

/// Named values that are taken one by one; what is left at the end is a mistake of the caller.
#[derive(Debug)]
pub struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Parameters, Problem> {
        match Query::<Vec<(String, String)>>::try_from_uri(&parts.uri) {
            Ok(Query(pairs)) => Ok(Parameters(pairs)),
            Err(error) => Err(Problem::parameter("?", error.body_text())),
        }
    }
}

impl Parameters {
    /// The value of `name`, if it is given and not empty.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut values = self.0.extract_if(.., |(given, _)| given == name).map(|(_, value)| value);
        let first = values.next();
        if values.next().is_some() {
            return Err(Problem::parameter(name, format!("`{name}` is given twice")));
        }
        Ok(first.filter(|value| !value.is_empty()))
    }

    /// A whole number within `range`, or `default`.
    pub fn number(
        &mut self,
        name: &str,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, Problem> {
        let Some(text) = self.text(name)? else { return Ok(default) };
        text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let detail = format!("`{name}` must be a number from {} to {}, not `{text}`", range.start(), range.end());
            Problem::parameter(name, detail)
        })
    }

    /// One of `allowed`.
    pub fn choice(&mut self, name: &str, allowed: &[&str]) -> Result<Option<String>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        if allowed.contains(&text.as_str()) {
            return Ok(Some(text));
        }
        Err(Problem::parameter(name, format!("`{name}` must be one of {}, not `{text}`", allowed.join(", "))))
    }

    /// A yes-or-no value, no when it is not given.
    pub fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        Ok(self.choice(name, &["true", "false"])?.as_deref() == Some("true"))
    }

    /// RFC 3339, or a date, which is its midnight on the site.
    pub fn time(&mut self, name: &str, site: Offset) -> Result<Option<UnixMs>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        // An offset's plus sign that was not escaped arrives as a blank.
        let parsed = text.replace(' ', "+").parse::<jiff::Timestamp>().ok();
        let midnight = || site.to_timestamp(text.parse::<Date>().ok()?.at(0, 0, 0, 0)).ok();
        let moment = parsed.or_else(midnight).ok_or_else(|| {
            let example = "2026-03-02T07:01:05+08:00 or 2026-03-02";
            Problem::parameter(name, format!("`{name}` must be a time like {example}, not `{text}`"))
        })?;
        Ok(Some(UnixMs(moment.as_millisecond())))
    }

    /// Refuses what nobody has taken, so that a misspelt condition does not list everything.
    pub fn finish(self, known: &str) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::parameter(name, format!("`{name}` is not known here; there are: {known}"))),
        }
    }
}
