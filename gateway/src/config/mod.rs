//! TOML to a checked [`Config`].
//!
//! Reading never stops at the first mistake: every problem is collected with file, key, value and remedy. What leaves
//! this module is right: addresses parse, serials are unique, secrets are loaded, credit codes have good check digits.

mod check;
mod load;
mod mqtt;
mod platform;
mod reader;
mod site;
mod store;
mod terminals;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::Offset;

use crate::punch::{PlatformName, TerminalId};
use crate::store::Retention;
use crate::store::keyring::master::MasterFile;

const DEFAULT_CONSOLE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_MQTT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from; `None` for the built-in defaults.
    pub file: Option<PathBuf>,
    /// SHA-256 of the file's bytes.
    pub hash: [u8; 32],
    pub data_dir: PathBuf,
    pub site: Site,
    pub store: Store,
    pub console: Console,
    pub mqtt: Mqtt,
    pub terminals: Vec<NetworkTerminal>,
    pub lines: Vec<Line>,
    pub employers: Vec<Employer>,
    pub verify: Verify,
    pub platforms: Vec<Platform>,
}

/// `[site]`
#[derive(Clone, Debug)]
pub struct Site {
    pub name: String,
    /// Issued by the platform; a `[[platform]]` may override it.
    pub project_code: String,
    /// What the terminals' wall-clock times are relative to UTC; `+08:00` in China.
    pub utc_offset: Offset,
}

/// `[store]`
#[derive(Clone, Debug)]
pub struct Store {
    /// 64 hexadecimal digits or a passphrase, readable by the gateway alone: `key_file`, else the systemd credential
    /// `anxin.store-key`, else `store.key` in the data directory, which is made at the first start.
    pub key: MasterFile,
    /// `photo_days`, `budget_mib`, `photos_make_room`.
    pub retention: Retention,
    /// `settled_on` and `keep_years` later: the last day on which anything is to be kept.
    pub keep_until: Option<Date>,
}

/// `[console]`
#[derive(Clone, Debug)]
pub struct Console {
    pub listen: SocketAddr,
    /// Bearer token of `/api/v1`; created when missing. Relative to `data_dir`, because the gateway writes it.
    pub token_file: PathBuf,
    /// Whether the overview (names masked) is shown without login; by default only when `listen` is loopback.
    pub open_overview: bool,
}

/// `[mqtt]`
#[derive(Clone, Debug)]
pub struct Mqtt {
    pub transport: MqttTransport,
    pub topic_prefixes: Vec<String>,
    /// Largest packet taken from a terminal, in KiB (8192): a photo of 1 MB and a scene of 2 MB as Base64 fit.
    pub max_packet_kib: u32,
}

#[derive(Clone, Debug)]
pub enum MqttTransport {
    /// The gateway listens itself.
    Embedded {
        listen: SocketAddr,
        /// Let a known terminal in by client id alone when it has no password.
        trust_client_id: bool,
        /// One password for every terminal without its own.
        password: Option<Secret>,
    },
    /// The terminals and the gateway are clients of a broker.
    Broker {
        /// `mqtt://host:port` or `mqtts://host:port`.
        url: String,
        client_id: String,
        username: Option<String>,
        password: Option<Secret>,
    },
}

/// `[[terminal]]`: a terminal on the network.
#[derive(Clone, Debug)]
pub struct NetworkTerminal {
    pub id: TerminalId,
    pub protocol: NetworkProtocol,
    pub serial: String,
    pub direction: DirectionRule,
    pub password: Option<Secret>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkProtocol {
    MqttFace,
}

impl NetworkProtocol {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            NetworkProtocol::MqttFace => "mqtt-face",
        }
    }
}

/// Which way a punch at a terminal goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectionRule {
    In,
    Out,
    /// As the terminal says.
    Terminal,
    /// In and out by turns per worker; marked as inferred.
    Alternate,
}

impl DirectionRule {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            DirectionRule::In => "in",
            DirectionRule::Out => "out",
            DirectionRule::Terminal => "terminal",
            DirectionRule::Alternate => "alternate",
        }
    }
}

impl DirectionRule {
    /// The rule with this name in the configuration.
    pub fn from_name(name: &str) -> Option<DirectionRule> {
        [DirectionRule::In, DirectionRule::Out, DirectionRule::Terminal, DirectionRule::Alternate]
            .into_iter()
            .find(|rule| rule.as_str() == name)
    }
}

/// `[[line]]`: one serial port.
#[derive(Clone, Debug)]
pub struct Line {
    /// May be a link; resolved at each opening.
    pub path: PathBuf,
    pub baud: u32,
    pub protocol: LineProtocol,
    pub terminals: Vec<LineTerminal>,
    /// `reader` only: talk to readers without a key. Anyone on the wire can then forge punches; reported loudly.
    pub accept_unkeyed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineProtocol {
    /// Our own reader (`protocol` crate): polled, authenticated.
    Reader,
    /// 125 kHz modules that send `02` + 10 hex + checksum + `03`; EM-18's bare 12 hex digits are taken too.
    Rdm6300,
    /// One badge number per text line.
    Ascii,
}

impl LineProtocol {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            LineProtocol::Reader => "reader",
            LineProtocol::Rdm6300 => "rdm6300",
            LineProtocol::Ascii => "ascii",
        }
    }
}

/// A terminal on a serial line.
#[derive(Clone, Debug)]
pub struct LineTerminal {
    pub id: TerminalId,
    /// Bus address, for protocols that have one.
    pub address: Option<u8>,
    pub serial: String,
    pub direction: DirectionRule,
    /// 128-bit key of a `reader`.
    pub key: Option<Key128>,
}

/// `[[employer]]`
#[derive(Clone, Debug)]
pub struct Employer {
    pub name: String,
    pub credit_code: String,
    /// National corpType code, three digits; 009 is the general contractor.
    pub corp_type: String,
}

/// `[verify]`
#[derive(Clone, Debug)]
pub struct Verify {
    /// Scores from 0 to 100; a punch that carries a lower score is rejected.
    pub min_similarity: f32,
    pub duplicate_window: Duration,
    /// A terminal whose clock is off by more than this makes suspect punches.
    pub clock_suspect: Duration,
    /// The site's: days of entry and exit are days of the site.
    pub utc_offset: Offset,
}

/// `[[platform]]`
#[derive(Clone, Debug)]
pub struct Platform {
    pub name: PlatformName,
    pub profile: ProfileKind,
    pub endpoint: String,
    pub appid: String,
    pub secret: Secret,
    pub project_code: String,
    /// Least time between two requests of one method.
    pub min_interval: Duration,
    pub request_timeout: Duration,
    /// How long a serial code is given before the first poll, and between polls.
    pub poll_interval: Duration,
    pub reconcile_after: Duration,
    pub job_timeout: Duration,
    pub item_attempts: u32,
    /// Attendance items per request, at most 20 for `mohurd`.
    pub batch: usize,
    /// A batch that is not full leaves when its oldest punch has waited this long.
    pub batch_wait: Duration,
    /// Base64 text of a picture, in KiB.
    pub image_limit_kib: u32,
    pub send_images: bool,
    /// Send `data:image/jpeg;base64,` before the picture's Base64.
    pub image_data_url: bool,
    pub aes_key: AesKey,
    pub missing_worker_fields: MissingWorkerFields,
    /// Only punches on or after this day.
    pub upload_from: Option<Date>,
    /// Employers whose registration is skipped because they are the general contractor have corp_type 009.
    pub corp_key: Option<Secret>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileKind {
    Mohurd,
}

/// How much of the secret is the AES key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AesKey {
    Full,
    First16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingWorkerFields {
    /// The registration waits and names the field.
    Wait,
    /// Send without it.
    Send,
}

/// Text that never appears in logs or messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A reader's key; never appears in logs or messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key128(pub [u8; 16]);

impl std::fmt::Debug for Key128 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key128(…)")
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// Line in the file from 1, when known.
    pub line: Option<usize>,
    /// Dotted key, for example `terminal[2].serial`: the second `[[terminal]]`. Empty when it is the whole file.
    pub key: String,
    /// The value seen, when there is one and it is no secret.
    pub value: Option<String>,
    pub problem: String,
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "`{}` ", self.key)?;
        }
        if let Some(value) = &self.value {
            write!(f, "= {value:?} ")?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}
