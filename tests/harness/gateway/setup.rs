//! What a gateway is configured with: `gateway.toml` and its secret files in a directory of its own.

use std::fmt::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use rand::Rng;
use tempfile::TempDir;

use super::GatewayProcess;
use crate::workers::InventedEmployer;

/// A reader on a line of protocol `reader`.
#[derive(Clone, Debug)]
pub struct ReaderSetup {
    pub id: String,
    pub address: u8,
    pub serial: String,
    /// `in`, `out`, `terminal` or `alternate`.
    pub direction: String,
    /// Without one the line must be `accept_unkeyed`.
    pub key: Option<[u8; 16]>,
}

/// A gateway's configuration in the making. Ports are free loopback ports, kept over restarts.
pub struct Setup {
    dir: Home,
    project_code: String,
    utc_offset: String,
    console_port: u16,
    mqtt_port: u16,
    broker: Option<String>,
    mqtt_keys: String,
    sections: String,
    environment: Vec<(String, String)>,
    starter: Option<Starter>,
}

impl Setup {
    /// An empty site: no terminal, no employer, no platform.
    pub fn new(story: &str) -> Setup {
        let dir = tempfile::Builder::new().prefix(&format!("anxin-{story}-")).tempdir().expect("a temporary directory");
        Setup::of(Home::Passing(dir))
    }

    /// The same in a directory that stays: what an earlier gateway has left there goes on.
    pub fn at(dir: &Path) -> Setup {
        Setup::of(Home::Staying(dir.to_owned()))
    }

    fn of(dir: Home) -> Setup {
        Setup {
            dir,
            project_code: "3300000000000001".to_owned(),
            utc_offset: "+08:00".to_owned(),
            console_port: free_port(),
            mqtt_port: free_port(),
            broker: None,
            mqtt_keys: String::new(),
            sections: String::new(),
            environment: Vec::new(),
            starter: None,
        }
    }

    /// This program starts the gateway's: it is given these words, then the gateway's program and arguments, and becomes it.
    pub fn started_by(mut self, program: &Path, words: &[String]) -> Setup {
        self.starter = Some(Starter { program: program.to_owned(), words: words.to_owned() });
        self
    }

    /// Fixed ports instead of free ones.
    pub fn ports(mut self, console: u16, mqtt: u16) -> Setup {
        (self.console_port, self.mqtt_port) = (console, mqtt);
        self
    }

    pub fn project_code(mut self, code: &str) -> Setup {
        self.project_code = code.to_owned();
        self
    }

    /// What the clocks on the site show, as `+08:00`.
    pub fn utc_offset(mut self, offset: &str) -> Setup {
        self.utc_offset = offset.to_owned();
        self
    }

    /// An `mqtt-face` terminal without a password of its own.
    pub fn face(self, id: &str, serial: &str, direction: &str) -> Setup {
        self.face_terminal(id, serial, direction, "")
    }

    /// An `mqtt-face` terminal that has to log in.
    pub fn face_with_password(self, id: &str, serial: &str, direction: &str, password: &str) -> Setup {
        let file = self.secret_file(&format!("{id}.password"), password);
        self.face_terminal(id, serial, direction, &format!("password_file = {}\n", quoted(&file)))
    }

    fn face_terminal(self, id: &str, serial: &str, direction: &str, further: &str) -> Setup {
        let [id, serial, direction] = [id, serial, direction].map(quoted);
        self.toml(&format!(
            "[[terminal]]\nid = {id}\nprotocol = \"mqtt-face\"\nserial = {serial}\ndirection = {direction}\n{further}"
        ))
    }

    /// A line of our own readers.
    pub fn reader_line(self, path: &Path, baud: u32, readers: &[ReaderSetup]) -> Setup {
        let mut terminals = String::new();
        for reader in readers {
            let [id, serial, direction] = [&reader.id, &reader.serial, &reader.direction].map(|text| quoted(text));
            let key = match reader.key {
                Some(key) => {
                    let file = self.secret_file(&format!("{}.key", reader.id), &hex::encode(key));
                    format!(", key_file = {}", quoted(&file))
                }
                None => String::new(),
            };
            let address = reader.address;
            writeln!(
                terminals,
                "  {{ id = {id}, address = {address}, serial = {serial}, direction = {direction}{key} }},"
            )
            .expect("writing to a String cannot fail");
        }
        let accept_unkeyed = readers.iter().any(|reader| reader.key.is_none());
        let path = quoted(&path.display().to_string());
        self.toml(&format!(
            "[[line]]\npath = {path}\nbaud = {baud}\nprotocol = \"reader\"\naccept_unkeyed = {accept_unkeyed}\n\
             terminals = [\n{terminals}]\n"
        ))
    }

    /// A line with one terminal whose protocol has no address: `rdm6300` or `ascii`.
    pub fn plain_line(self, path: &Path, protocol: &str, id: &str, serial: &str, direction: &str) -> Setup {
        let path = quoted(&path.display().to_string());
        let [protocol, id, serial, direction] = [protocol, id, serial, direction].map(quoted);
        self.toml(&format!(
            "[[line]]\npath = {path}\nprotocol = {protocol}\n\
             terminals = [ {{ id = {id}, serial = {serial}, direction = {direction} }} ]\n"
        ))
    }

    pub fn employers(mut self, employers: &[InventedEmployer]) -> Setup {
        for employer in employers {
            let [name, code, corp_type] = [&employer.name, &employer.credit_code, employer.corp_type].map(quoted);
            self = self.toml(&format!("[[employer]]\nname = {name}\ncredit_code = {code}\ncorp_type = {corp_type}\n"));
        }
        self
    }

    /// A `mohurd` platform; `further` are more keys of its section, one per line.
    pub fn platform(self, name: &str, endpoint: &str, appid: &str, secret: &str, further: &str) -> Setup {
        let file = self.secret_file(&format!("{name}.secret"), secret);
        let [name, endpoint, appid, file] = [name, endpoint, appid, &file].map(quoted);
        self.toml(&format!(
            "[[platform]]\nname = {name}\nprofile = \"mohurd\"\nendpoint = {endpoint}\nappid = {appid}\n\
             secret_file = {file}\n{further}"
        ))
    }

    /// Terminals and gateway are clients of this broker (`mqtt://127.0.0.1:port`).
    pub fn broker(mut self, url: &str) -> Setup {
        self.broker = Some(url.to_owned());
        self
    }

    /// More keys of `[mqtt]`, one per line.
    pub fn mqtt(mut self, keys: &str) -> Setup {
        writeln!(self.mqtt_keys, "{keys}").expect("writing to a String cannot fail");
        self
    }

    /// Further sections as they stand.
    pub fn toml(mut self, section: &str) -> Setup {
        writeln!(self.sections, "\n{section}").expect("writing to a String cannot fail");
        self
    }

    /// A variable in the gateway's environment.
    pub fn environment(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The directory of the configuration, the data and the log.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file beside the configuration and gives its name as the configuration would.
    pub fn secret_file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.dir.path().join(name), text).expect("the temporary directory takes files");
        name.to_owned()
    }

    /// The port of the embedded endpoint.
    pub fn mqtt_port(&self) -> u16 {
        self.mqtt_port
    }

    /// Starts a gateway with this configuration and waits until its intake is open.
    pub async fn start(self) -> GatewayProcess {
        let ready = self.write();
        GatewayProcess::start(ready).await
    }

    /// Writes the configuration without starting anything.
    pub fn write(self) -> Site {
        let config = self.dir.path().join("gateway.toml");
        std::fs::write(&config, self.text()).expect("the temporary directory takes files");
        let Setup { dir, console_port, mqtt_port, environment, starter, .. } = self;
        Site { dir, config, console_port, mqtt_port, environment, starter }
    }

    fn text(&self) -> String {
        let Setup { console_port, mqtt_port, mqtt_keys, sections, .. } = self;
        let endpoint = match &self.broker {
            Some(url) => format!("broker = {}", quoted(url)),
            None => format!("listen = \"127.0.0.1:{mqtt_port}\""),
        };
        let data_dir = self.dir.path().join("data").display().to_string();
        let [data_dir, project_code, utc_offset] =
            [&data_dir, &self.project_code, &self.utc_offset].map(|text| quoted(text));
        format!(
            "data_dir = {data_dir}\n\n\
             [site]\nname = \"测试工地\"\nproject_code = {project_code}\nutc_offset = {utc_offset}\n\n\
             [console]\nlisten = \"127.0.0.1:{console_port}\"\n\n\
             [mqtt]\n{endpoint}\n{mqtt_keys}{sections}"
        )
    }
}

/// The directory of a gateway.
pub(super) enum Home {
    /// Gone when dropped.
    Passing(TempDir),
    Staying(PathBuf),
}

impl Home {
    pub fn path(&self) -> &Path {
        match self {
            Home::Passing(dir) => dir.path(),
            Home::Staying(dir) => dir,
        }
    }
}

/// A program that becomes the gateway.
pub(super) struct Starter {
    pub program: PathBuf,
    pub words: Vec<String>,
}

/// A written configuration with its data directory.
pub struct Site {
    pub(super) dir: Home,
    pub config: PathBuf,
    pub console_port: u16,
    pub mqtt_port: u16,
    pub(super) environment: Vec<(String, String)>,
    pub(super) starter: Option<Starter>,
}

impl Site {
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What all runs of the gateway at this site have printed.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("gateway.log")
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A free loopback port below the range from which the system takes ports for outgoing connections, so that it is still
/// free after a restart.
pub fn free_port() -> u16 {
    let mut rng = rand::rng();
    std::iter::repeat_with(|| rng.random_range(10_000..32_000))
        .take(1_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of a thousand ports is free")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::InventedSite;

    #[test]
    fn the_configuration_has_a_section_for_everything_on_the_site() {
        let reader = |address, key| ReaderSetup {
            id: format!("south-{address}"),
            address,
            serial: format!("R000{address}"),
            direction: "in".to_owned(),
            key,
        };
        let setup = Setup::new("setup")
            .face("north-in", "1306612", "in")
            .face_with_password("north-out", "1306613", "out", "geheim")
            .reader_line(Path::new("/dev/ttyS9"), 115_200, &[reader(1, Some([7; 16])), reader(2, None)])
            .plain_line(Path::new("/dev/ttyS8"), "rdm6300", "store", "E1", "alternate")
            .employers(&InventedSite::new(1, 1).employers)
            .platform("national", "http://127.0.0.1:9/open.api", "demo", "1234567890abcdef", "batch = 5\n")
            .mqtt("max_packet_kib = 64");
        let table: toml::Table = setup.text().parse().expect("TOML");
        assert_eq!(table["terminal"].as_array().map(Vec::len), Some(2));
        assert_eq!(table["line"].as_array().map(Vec::len), Some(2));
        assert_eq!(table["line"][0]["accept_unkeyed"].as_bool(), Some(true));
        assert_eq!(table["employer"].as_array().map(Vec::len), Some(3));
        assert_eq!(table["platform"][0]["batch"].as_integer(), Some(5));
        assert_eq!(table["mqtt"]["max_packet_kib"].as_integer(), Some(64));
        let key = setup.dir.path().join(table["line"][0]["terminals"][0]["key_file"].as_str().unwrap());
        assert_eq!(std::fs::read_to_string(key).unwrap(), "07".repeat(16));
        let site = setup.write();
        if let Err(problems) = ::gateway::config::Config::load(&site.config) {
            panic!("{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>());
        }
    }
}
