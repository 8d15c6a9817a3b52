//! `[site]`, `[console]`, `[verify]` and `[[employer]]`: what the gateway is told about its place.

use jiff::tz::Offset;

use super::check::{Seen, credit_code_fault};
use super::reader::Section;
use super::{Console, DEFAULT_CONSOLE, Employer, Site, Verify};

/// China has one time, without daylight saving since 1991.
const DEFAULT_OFFSET: Offset = Offset::constant(8);
const DAY_S: u32 = 86_400;

pub fn site(mut section: Section<'_>) -> Site {
    let site = Site {
        name: section.text("name").unwrap_or_default(),
        project_code: section.text("project_code").unwrap_or_default(),
        utc_offset: utc_offset(&mut section),
    };
    section.finish();
    site
}

fn utc_offset(section: &mut Section<'_>) -> Offset {
    let Some(text) = section.text("utc_offset") else { return DEFAULT_OFFSET };
    parse_offset(&text).unwrap_or_else(|| {
        section.problem(
            "utc_offset",
            Some(text),
            "is no offset from UTC",
            "write hours and minutes, for example \"+08:00\"",
        );
        DEFAULT_OFFSET
    })
}

/// `±HH:MM`, at most 14 hours either way.
fn parse_offset(text: &str) -> Option<Offset> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':').filter(|(hours, minutes)| hours.len() == 2 && minutes.len() == 2)?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = hours * 3600 + minutes * 60;
    (minutes < 60 && seconds <= 14 * 3600).then(|| Offset::from_seconds(sign * seconds).ok())?
}

pub fn console(mut section: Section<'_>) -> Console {
    let listen = section.socket("listen", DEFAULT_CONSOLE);
    let console = Console {
        listen,
        token_file: section.text("token_file").unwrap_or_else(|| "api-token".to_owned()).into(),
        open_overview: section.flag("open_overview").unwrap_or(listen.ip().is_loopback()),
    };
    section.finish();
    console
}

pub fn verify(mut section: Section<'_>, utc_offset: Offset) -> Verify {
    let verify = Verify {
        min_similarity: section.number("min_similarity", 0.0..=100.0).unwrap_or(80.0),
        duplicate_window: section.seconds("duplicate_window_s", 60, 0..=3600),
        clock_suspect: section.seconds("clock_suspect_s", 60, 1..=DAY_S),
        utc_offset,
    };
    section.finish();
    verify
}

pub fn employers(sections: Vec<Section<'_>>) -> Vec<Employer> {
    let (mut names, mut codes) = (Seen::default(), Seen::default());
    sections.into_iter().filter_map(|section| employer(section, &mut names, &mut codes)).collect()
}

fn employer(mut section: Section<'_>, names: &mut Seen, codes: &mut Seen) -> Option<Employer> {
    let name = section.required("name", "\"the company's full name\"");
    let credit_code = section.required("credit_code", "\"the company's 18-character unified social credit code\"");
    let corp_type = section.required("corp_type", "\"009\" (009 general contractor, 006 labour subcontractor …)");
    if let Some(name) = &name {
        names.claim(&section, "name", name, "name every company once");
    }
    if let Some(code) = &credit_code {
        codes.claim(&section, "credit_code", code, "copy the code from this company's business licence");
        if let Some(fault) = credit_code_fault(code) {
            section.problem("credit_code", Some(code.clone()), &fault, "copy the code from the business licence");
        }
    }
    if let Some(corp_type) = corp_type.as_ref().filter(|code| !is_corp_type(code)) {
        let remedy = "write three digits from 001 to 012: 001 specialist subcontractor, 006 labour subcontractor, 009 general contractor …";
        section.problem("corp_type", Some(corp_type.clone()), "is no national corpType code", remedy);
    }
    section.finish();
    Some(Employer { name: name?, credit_code: credit_code?, corp_type: corp_type? })
}

/// National corpType codes run from 001 (专业分包) to 012 (其它).
fn is_corp_type(code: &str) -> bool {
    code.len() == 3 && code.parse().is_ok_and(|number: u8| (1..=12).contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_has_a_sign_two_digits_and_two_digits() {
        assert_eq!(parse_offset("+08:00"), Some(Offset::constant(8)));
        assert_eq!(parse_offset("-03:30").map(Offset::seconds), Some(-12_600));
        for wrong in ["08:00", "+8:00", "+08", "+08:60", "+15:00", "Z", "", "北+08:00", "+ 8:00"] {
            assert_eq!(parse_offset(wrong), None, "{wrong}");
        }
    }
}
