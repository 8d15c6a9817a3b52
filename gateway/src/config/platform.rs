//! `[[platform]]`: where verified punches go.

use super::check::{Seen, has_login, is_name, url_fault};
use super::reader::Section;
use super::{AesKey, MissingWorkerFields, Platform, ProfileKind, Secret, Site};
use crate::punch::PlatformName;

/// Known profiles that this version does not speak yet.
const LATER: [&str; 5] = ["yongxin", "cwr", "terminal-mqtt", "jetstream", "file"];

const HOUR_MS: u32 = 3_600_000;
const DAY_S: u32 = 86_400;

pub fn platforms(sections: Vec<Section<'_>>, site: &Site) -> Vec<Platform> {
    let mut names = Seen::default();
    sections.into_iter().filter_map(|section| platform(section, site, &mut names)).collect()
}

fn platform(mut section: Section<'_>, site: &Site, names: &mut Seen) -> Option<Platform> {
    let name = name(&mut section, names);
    let profile = profile(&mut section);
    let endpoint = endpoint(&mut section);
    let appid = section.required("appid", "\"the application id that the platform issued\"");
    let project_code = project_code(&mut section, site);
    let aes_key =
        section.choice("aes_key", &[("full", AesKey::Full), ("first16", AesKey::First16)], &[]).unwrap_or(AesKey::Full);
    let secret = secret(&mut section, aes_key);
    let corp_key = section.secret_file("corp_key_file");
    let min_interval = section.millis("min_interval_ms", 1_000, 0..=HOUR_MS);
    let request_timeout = section.seconds("request_timeout_s", 30, 1..=600);
    let poll_interval = section.millis("poll_interval_ms", 3_000, 1..=HOUR_MS);
    let reconcile_after = section.seconds("reconcile_after_s", 60, 0..=DAY_S);
    let job_timeout = section.seconds("job_timeout_s", DAY_S, 1..=30 * DAY_S);
    let item_attempts = section.integer("item_attempts", 1..=100).unwrap_or(5);
    let batch = section.integer("batch", 1..=20).unwrap_or(20);
    let batch_wait = section.seconds("batch_wait_s", 30, 0..=DAY_S);
    let image_limit_kib = section.integer("image_limit_kib", 1..=4_096).unwrap_or(50);
    let send_images = section.flag("send_images").unwrap_or(true);
    let image_data_url = section.flag("image_data_url").unwrap_or(false);
    let wait_or_send = [("wait", MissingWorkerFields::Wait), ("send", MissingWorkerFields::Send)];
    let missing_worker_fields =
        section.choice("missing_worker_fields", &wait_or_send, &[]).unwrap_or(MissingWorkerFields::Wait);
    let upload_from = section.date("upload_from");
    section.finish();
    Some(Platform {
        name: name?,
        profile: profile?,
        endpoint: endpoint?,
        appid: appid?,
        secret: secret?,
        project_code: project_code?,
        min_interval,
        request_timeout,
        poll_interval,
        reconcile_after,
        job_timeout,
        item_attempts,
        batch: batch as usize,
        batch_wait,
        image_limit_kib,
        send_images,
        image_data_url,
        aes_key,
        missing_worker_fields,
        upload_from,
        corp_key,
    })
}

fn name(section: &mut Section<'_>, names: &mut Seen) -> Option<PlatformName> {
    let name = section.required("name", "\"national\"")?;
    names.claim(section, "name", &name, "give every platform its own name");
    if !is_name(&name) {
        let remedy = "write letters, digits, - _ and . only, at most 64";
        section.problem("name", Some(name.clone()), "cannot be a name", remedy);
    }
    Some(PlatformName(name))
}

fn profile(section: &mut Section<'_>) -> Option<ProfileKind> {
    if !section.has("profile") {
        section.missing("profile", "\"mohurd\"");
        return None;
    }
    section.choice("profile", &[("mohurd", ProfileKind::Mohurd)], &LATER)
}

fn endpoint(section: &mut Section<'_>) -> Option<String> {
    let endpoint = section.required("endpoint", "\"https://the platform's interface address\"")?;
    if let Some(fault) = url_fault(&endpoint, &["http", "https"]) {
        let shown = (!has_login(&endpoint)).then(|| endpoint.clone());
        section.problem("endpoint", shown, &fault, "copy the interface address that the platform gave");
    }
    Some(endpoint)
}

fn project_code(section: &mut Section<'_>, site: &Site) -> Option<String> {
    let own = section.text("project_code");
    if own.is_none() && site.project_code.is_empty() {
        let remedy = "the platform issues a code for the project: write project_code = \"…\" in [site] or here";
        section.problem("project_code", None, "is missing here and in [site]", remedy);
        return None;
    }
    Some(own.unwrap_or_else(|| site.project_code.clone()))
}

/// The secret signs requests and is the AES key of ID and bank card numbers; its first 16 characters are the IV.
fn secret(section: &mut Section<'_>, aes_key: AesKey) -> Option<Secret> {
    if !section.has("secret_file") {
        section.missing("secret_file", "\"the file with the application's secret\"");
        return None;
    }
    let secret = section.secret_file("secret_file")?;
    let length = secret.0.len();
    let fits = match aes_key {
        AesKey::Full => matches!(length, 16 | 24 | 32),
        AesKey::First16 => length >= 16,
    };
    if !fits || !secret.0.is_ascii() {
        let wanted = match aes_key {
            AesKey::Full => "16, 24 or 32 ASCII characters",
            AesKey::First16 => "at least 16 ASCII characters",
        };
        let problem = format!("holds a secret of {length} bytes that cannot be an AES key");
        let remedy = format!("copy the secret that the platform issued into the file: {wanted}, on one line");
        section.problem("secret_file", None, &problem, &remedy);
        return None;
    }
    Some(secret)
}
