//! The national family: MOHURD OpenAPI (全国建筑工人管理服务信息平台数据接口) and its provincial clones.
//!
//! One URL, form-encoded parameters, SHA-256 over the sorted parameters and the secret, ID numbers in AES-CBC, results
//! by serial code. Codes and fields are of the national dialect; nothing here knows an endpoint.

mod answer;
mod cipher;
mod dictionary;
mod listing;
mod request;
mod sign;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;

use self::cipher::Cipher;
use super::{Answer, Attendance, Caps, Method, Pictures, ProfileError, PunchKey, Request, Wire};
use crate::config::{Platform, Secret};
use crate::punch::{UnixMs, Worker};

/// Limits of the official text.
pub const CAPS: Caps = Caps { workers: 5, moves: 50, punches: 20 };

/// Rows per page of a query; the official text allows 50.
const PAGE_SIZE: u32 = 50;

/// The profile with one project's credentials.
#[derive(Debug)]
pub struct Mohurd {
    appid: String,
    secret: Secret,
    cipher: Cipher,
    corp_key: Option<Secret>,
    project_code: String,
    image_data_url: bool,
    offset: Offset,
}

/// The platform's name of a method.
pub fn method_name(method: Method) -> &'static str {
    match method {
        Method::QueryJob => "AsyncHandleResult.Query",
        Method::AddEmployer => "ProjectSubContractor.Add",
        Method::QueryEmployers => "ProjectSubContractor.Query",
        Method::AddTeam => "Team.Add",
        Method::QueryTeams => "Team.Query",
        Method::AddWorkers => "ProjectWorker.Add",
        Method::UpdateWorker => "ProjectWorker.Update",
        Method::QueryWorkers => "ProjectWorker.Query",
        Method::AddMoves => "WorkerEntryExit.Add",
        Method::QueryMoves => "WorkerEntryExit.Query",
        Method::AddAttendance => "WorkerAttendance.Add",
        Method::QueryAttendance => "WorkerAttendance.Query",
    }
}

/// The required fields that a roster row lacks, as `roster column (platform field)`.
pub fn missing_fields(worker: &Worker) -> Vec<&'static str> {
    let fields = [
        (worker.phone.is_none(), "phone (cellPhone)"),
        (worker.nation.is_none(), "nation (nation)"),
        (worker.address.is_none(), "address (address)"),
        (worker.issuer.is_none(), "issuer (grantOrg)"),
        (worker.politics.is_none(), "politics (politicsType)"),
        (worker.education.is_none(), "education (cultureLevelType)"),
        (worker.photo.is_none(), "photo (headImage)"),
        (worker.entered_on.is_none(), "entered_on (date)"),
    ];
    fields.into_iter().filter_map(|(missing, name)| missing.then_some(name)).collect()
}

impl Mohurd {
    /// Takes the credentials; the secret's length must be that of an AES key.
    pub fn new(platform: &Platform, offset: Offset) -> Result<Mohurd, ProfileError> {
        Ok(Mohurd {
            appid: platform.appid.clone(),
            secret: platform.secret.clone(),
            cipher: Cipher::new(&platform.secret, platform.aes_key)?,
            corp_key: platform.corp_key.clone(),
            project_code: platform.project_code.clone(),
            image_data_url: platform.image_data_url,
            offset,
        })
    }

    pub fn payload(&self, request: &Request, pictures: &Pictures) -> String {
        request::payload(self, request, pictures)
    }

    pub fn sign(&self, method: Method, payload: &str, now: UnixMs, nonce: &str) -> Wire {
        let timestamp = self.civil(now).strftime("%Y%m%d%H%M%S").to_string();
        let corpsign = self.corp_key.as_ref().map(|key| self.cipher.encrypt(&format!("{}{timestamp}", key.0)));
        let mut params = vec![
            ("method", method_name(method)),
            ("version", "1.0"),
            ("appid", &self.appid),
            ("format", "json"),
            ("timestamp", &timestamp),
            ("nonce", nonce),
            ("data", payload),
        ];
        if let Some(corpsign) = &corpsign {
            params.push(("corpsign", corpsign));
        }
        let body = sign::form_body(&params, &self.secret);
        Wire { content_type: "application/x-www-form-urlencoded; charset=UTF-8", body }
    }

    pub fn read(&self, request: &Request, status: u16, body: &[u8]) -> Answer {
        answer::read(self, request, status, body)
    }

    pub fn punch_key(&self, punch: &Attendance) -> PunchKey {
        PunchKey {
            id_number: punch.id_number.to_uppercase(),
            date: self.date_text(punch.out.time),
            direction: punch.out.direction,
        }
    }

    /// `yyyy-MM-dd HH:mm:ss` in the platform's time.
    fn date_text(&self, at: UnixMs) -> String {
        self.civil(at).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    fn civil(&self, at: UnixMs) -> DateTime {
        civil(at, self.offset)
    }
}

/// The wall-clock time at this offset.
fn civil(at: UnixMs, offset: Offset) -> DateTime {
    let timestamp = Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH);
    offset.to_datetime(timestamp)
}

/// `yyyy-MM-dd`.
fn day_text(date: Date) -> String {
    date.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
pub(crate) mod vectors {
    //! The published vectors of family A, computed independently in two languages.

    use super::*;
    use crate::config::AesKey;

    pub fn family_a() -> serde_json::Value {
        let text = include_str!("../../../../../tests/fixtures/platform/family_a.json");
        serde_json::from_str(text).expect("the vectors are JSON")
    }

    pub fn text<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
        value[key].as_str().unwrap_or_else(|| panic!("{key} is missing"))
    }

    pub fn profile(secret: &str, aes_key: AesKey, corp_key: Option<&str>) -> Mohurd {
        let secret = Secret(secret.to_owned());
        Mohurd {
            appid: "demo-app".to_owned(),
            cipher: Cipher::new(&secret, aes_key).expect("a good length"),
            secret,
            corp_key: corp_key.map(|key| Secret(key.to_owned())),
            project_code: "110101TEST0001".to_owned(),
            image_data_url: false,
            offset: Offset::constant(8),
        }
    }
}
