//! What is checked before a serial code is given: signature, time, nonce, required fields, limits.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use serde_json::Value;

use super::cipher;
use super::rules::{Platform, text};

const METHODS: [&str; 12] = [
    "ProjectSubContractor.Add",
    "ProjectSubContractor.Query",
    "Team.Add",
    "Team.Query",
    "ProjectWorker.Add",
    "ProjectWorker.Update",
    "ProjectWorker.Query",
    "WorkerEntryExit.Add",
    "WorkerEntryExit.Query",
    "WorkerAttendance.Add",
    "WorkerAttendance.Query",
    "AsyncHandleResult.Query",
];

impl Platform {
    /// The method and its data, or code and text of the refusal.
    pub(super) fn check_envelope(
        &mut self,
        params: &HashMap<String, String>,
    ) -> Result<(String, Value), (&'static str, String)> {
        let get = |name: &str| params.get(name).cloned().ok_or(("-1", format!("[{name}]不能为空")));
        let (method, sign, data) = (get("method")?, get("sign")?, get("data")?);
        let (timestamp, nonce) = (get("timestamp")?, get("nonce")?);
        if get("appid")? != self.options.appid {
            return Err(("-1", "请求参数无效:appid无效!".to_owned()));
        }
        if get("version")? != "1.0" || get("format")? != "json" {
            return Err(("-1", "version or format is wrong".to_owned()));
        }
        if !sign.eq_ignore_ascii_case(&cipher::expected_sign(params, &self.options.secret)) {
            return Err(("-2", format!("{method}: 签名校验错误")));
        }
        self.check_time(&timestamp).map_err(|text| ("-1", text))?;
        let lifetime = self.options.clock_tolerance * 2;
        if nonce.is_empty() || !self.nonces.take(&nonce, self.clock.instant(), lifetime) {
            return Err(("-1", format!("nonce {nonce} was used before")));
        }
        if !METHODS.contains(&method.as_str()) {
            return Err(("-3", format!("无API访问权限: {method}")));
        }
        let data: Value = serde_json::from_str(&data).map_err(|error| ("-1", format!("{method}: data: {error}")))?;
        let is_query = method == "AsyncHandleResult.Query";
        if !is_query && data["projectCode"] != self.options.project_code.as_str() {
            return Err(("-1", format!("{method}: [projectCode]无效")));
        }
        Ok((method, data))
    }

    fn check_time(&self, timestamp: &str) -> Result<(), String> {
        let all_digits = timestamp.len() == 14 && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = DateTime::strptime("%Y%m%d%H%M%S", timestamp).ok().filter(|_| all_digits);
        let at = parsed.and_then(|civil| Offset::constant(8).to_timestamp(civil).ok());
        let Some(at) = at else { return Err(format!("[timestamp]格式无效: {timestamp}")) };
        let off = (at.as_millisecond() - self.clock.now().0).unsigned_abs();
        if off > self.options.clock_tolerance.as_millis() as u64 {
            return Err(format!("[timestamp]is {} s off", off / 1_000));
        }
        Ok(())
    }

    /// Limits and required fields, checked before a serial code is given.
    pub(super) fn check_shape(&self, method: &str, data: &Value) -> Result<(), String> {
        match method {
            "ProjectSubContractor.Add" => required(data, &["corpCode", "corpName", "corpType"]),
            "Team.Add" => required(data, &["corpCode", "corpName", "teamName"]),
            "ProjectWorker.Add" => {
                required(data, &["corpCode", "corpName", "teamName"])?;
                whole_number(data, "teamSysNo")?;
                list(data, "workerList", 5)?.iter().try_for_each(|row| self.check_worker(row))
            }
            "ProjectWorker.Update" => {
                required(data, &["corpCode", "corpName", "teamName"])?;
                whole_number(data, "teamSysNo")?;
                self.check_worker(data)
            }
            "WorkerEntryExit.Add" => {
                required(data, &["corpCode", "corpName"])?;
                whole_number(data, "teamSysNo")?;
                for row in list(data, "workerList", 50)? {
                    required(row, &["idCardType", "idCardNumber", "date", "type"])?;
                    self.check_id(row)?;
                    let date: Date = text(row, "date").parse().map_err(|_| "[date]格式无效".to_owned())?;
                    if date > self.today() {
                        return Err("[date]不能大于当天!".to_owned());
                    }
                }
                Ok(())
            }
            _ => {
                whole_number(data, "teamSysNo")?;
                for row in list(data, "dataList", 20)? {
                    required(row, &["idCardType", "idCardNumber", "date", "direction"])?;
                    self.check_id(row)?;
                    self.check_image(row, "image")?;
                    self.check_punch(row)?;
                }
                Ok(())
            }
        }
    }

    fn check_worker(&self, row: &Value) -> Result<(), String> {
        required(row, &["workerName", "idCardType", "idCardNumber", "workType", "workRole"])?;
        if self.options.complete_workers {
            required(row, &["nation", "address", "headImage", "politicsType", "cellPhone"])?;
            required(row, &["cultureLevelType", "grantOrg"])?;
        }
        whole_number(row, "isTeamLeader")?;
        self.check_image(row, "headImage")?;
        self.check_id(row)
    }

    fn check_punch(&self, row: &Value) -> Result<(), String> {
        let date = text(row, "date");
        let parsed = DateTime::strptime("%Y-%m-%d %H:%M:%S", date).map_err(|_| format!("[date]格式无效: {date}"))?;
        let at = Offset::constant(8).to_timestamp(parsed).map_err(|_| format!("[date]格式无效: {date}"))?;
        if at.as_millisecond() > self.clock.now().0 + 1_000 {
            return Err(format!("[date]不能大于当天: {date}"));
        }
        match text(row, "direction") {
            "01" | "02" => Ok(()),
            other => Err(format!("[direction]无效: {other}")),
        }
    }

    fn check_id(&self, row: &Value) -> Result<(), String> {
        if text(row, "idCardType") != "01" {
            return Err("[idCardType]异常,目前只支持身份证类型的证件!".to_owned());
        }
        match self.id_number(row) {
            Some(id) if cipher::is_id_number(&id) => Ok(()),
            _ => Err("[idCardNumber]无效".to_owned()),
        }
    }

    fn check_image(&self, row: &Value, field: &str) -> Result<(), String> {
        let Some(image) = row.get(field).and_then(Value::as_str) else { return Ok(()) };
        if image.len() > self.options.image_limit_kib * 1024 {
            return Err(format!("[{field}]大小超过限制{}KB!", self.options.image_limit_kib));
        }
        let bytes = STANDARD.decode(image).unwrap_or_default();
        if !bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
            return Err(format!("[{field}]格式无效,目前仅支持:jpg,jpeg,png,jpeg"));
        }
        Ok(())
    }

    fn today(&self) -> Date {
        let now = jiff::Timestamp::from_millisecond(self.clock.now().0).expect("the clock is in this age");
        Offset::constant(8).to_datetime(now).date()
    }
}

fn required(row: &Value, fields: &[&str]) -> Result<(), String> {
    match fields.iter().find(|field| text(row, field).is_empty()) {
        Some(field) => Err(format!("[{field}]不能为空")),
        None => Ok(()),
    }
}

fn whole_number(row: &Value, field: &str) -> Result<(), String> {
    if row.get(field).is_some_and(Value::is_u64) { Ok(()) } else { Err(format!("[{field}]不是整数")) }
}

fn list<'a>(data: &'a Value, name: &str, limit: usize) -> Result<&'a Vec<Value>, String> {
    match data.get(name).and_then(Value::as_array) {
        Some(rows) if !rows.is_empty() && rows.len() <= limit => Ok(rows),
        Some(rows) => Err(format!("[{name}]has {} items, 1 to {limit} are allowed", rows.len())),
        None => Err(format!("[{name}]不能为空")),
    }
}
