//! A whole site: the real gateway, its readers on a serial line, face terminals over MQTT, and the reference platform.

use std::time::Duration;

use crate::broker::Mosquitto;
use crate::face::link::{FaceLink, Login};
use crate::face::{FaceTerminal, Timings};
use crate::faults::Faults;
use crate::gateway::{GatewayProcess, ReaderSetup, Setup};
use crate::platform::{Options, ReferencePlatform};
use crate::reader::{self, ReaderLine, SimulatedReader, WireFaults};
use crate::workers::InventedSite;

/// How a site is built.
pub struct Plan {
    pub story: &'static str,
    /// What the site's clocks show.
    pub utc_offset: &'static str,
    pub readers: u8,
    pub faces: usize,
    pub workers: usize,
    pub teams: usize,
    pub wire: WireFaults,
    /// How many times faster than real ones the face terminals live.
    pub faster: u32,
    /// Terminals and gateway meet at mosquitto instead of the gateway's own endpoint.
    pub external_broker: bool,
    pub platform: Options,
    /// Further keys of the `[[platform]]` section, one per line.
    pub platform_keys: String,
    /// Further sections of the configuration, as they stand.
    pub sections: String,
}

impl Plan {
    /// A small site with good manners.
    pub fn new(story: &'static str) -> Plan {
        Plan {
            story,
            utc_offset: "+08:00",
            readers: 1,
            faces: 1,
            workers: 10,
            teams: 2,
            wire: WireFaults::none(),
            faster: 10,
            external_broker: false,
            platform: Options {
                min_interval: Duration::from_millis(100),
                job_delay: Duration::from_millis(150),
                ..Options::default()
            },
            platform_keys: "min_interval_ms = 100\npoll_interval_ms = 200\nreconcile_after_s = 2\nbatch_wait_s = 1\n"
                .to_owned(),
            sections: String::new(),
        }
    }
}

/// The site while it runs. Odd gates (the first, the third …) lead in, even ones out.
pub struct Site {
    pub gateway: GatewayProcess,
    pub platform: ReferencePlatform,
    pub line: ReaderLine,
    pub readers: Vec<SimulatedReader>,
    pub faces: Vec<FaceLink>,
    pub roster: InventedSite,
    pub broker: Option<Mosquitto>,
    _line_dir: tempfile::TempDir,
}

impl Site {
    /// Starts everything; the roster is not imported yet.
    pub async fn start(plan: Plan) -> std::io::Result<Site> {
        let roster = InventedSite::new(plan.workers, plan.teams);
        let mut options = plan.platform;
        options.general_contractor = roster.employers[0].credit_code.clone();
        let (appid, secret) = (options.appid.clone(), options.secret.clone());
        let platform = ReferencePlatform::start(options).await?;
        let broker = if plan.external_broker { Some(Mosquitto::start().await?) } else { None };

        let line_dir = tempfile::tempdir()?;
        let stations: Vec<reader::Setup> =
            (1..=plan.readers).map(|address| reader::Setup { address, key: Some([address; 16]) }).collect();
        let line = ReaderLine::start(&line_dir.path().join("line"), &stations, plan.wire)?;
        let readers = (0..stations.len()).map(|index| line.reader(index)).collect();

        let configured: Vec<ReaderSetup> = stations.iter().map(configured_reader).collect();
        let mut setup = Setup::new(plan.story)
            .utc_offset(plan.utc_offset)
            .employers(&roster.employers)
            .reader_line(line.path(), 115_200, &configured)
            .platform("national", &platform.endpoint(), &appid, &secret, &plan.platform_keys);
        setup = setup.toml(&plan.sections);
        for face in 0..plan.faces {
            setup = setup.face(&format!("gate-{face}"), &face_serial(face), direction_of(face));
        }
        if let Some(broker) = &broker {
            setup = setup.broker(&broker.url());
        }
        let gateway = setup.start().await;
        let address = broker.as_ref().map_or(gateway.mqtt_address(), Mosquitto::address);
        let faces = (0..plan.faces)
            .map(|face| FaceTerminal::new(&face_serial(face), Timings::faster(plan.faster)))
            .map(|terminal| FaceLink::start(terminal, Login::at(address)))
            .collect();
        Ok(Site { gateway, platform, line, readers, faces, roster, broker, _line_dir: line_dir })
    }

    /// Whether no terminal holds anything that the gateway has not acknowledged.
    pub fn is_delivered(&self) -> bool {
        self.faces.iter().all(|face| face.with(|terminal| terminal.waiting() == 0))
            && self.readers.iter().all(|reader| reader.journal_fill() == 0)
    }

    /// How everything stands, for the message of a failed story.
    pub async fn standing(&self) -> String {
        let mut text = String::new();
        for path in ["alarms", "platforms"] {
            text += &format!("GET {path}: {:#}\n", self.gateway.get_json(path).await);
        }
        for state in ["queued", "waiting", "sending", "accepted", "refused", "unknown", "withdrawn"] {
            let path = format!("uploads?platform=national&state={state}&limit=5");
            text += &format!("{state}: {:#}\n", self.gateway.get_json(&path).await["uploads"]);
        }
        for face in &self.faces {
            face.with(|terminal| text += &format!("{}: {} waiting\n", terminal.serial(), terminal.waiting()));
        }
        for reader in &self.readers {
            text += &format!("reader: {} in the journal\n", reader.journal_fill());
        }
        text
    }

    /// Breaks the links of about half of the face terminals.
    pub async fn cut_links(&self, faults: &mut Faults) {
        for face in &self.faces {
            if faults.happens(0.5) {
                face.cut_link().await;
            }
        }
    }
}

fn configured_reader(station: &reader::Setup) -> ReaderSetup {
    ReaderSetup {
        id: format!("reader-{}", station.address),
        address: station.address,
        serial: format!("R{:04}", station.address),
        direction: direction_of(usize::from(station.address) - 1).to_owned(),
        key: station.key,
    }
}

/// The serial number of a face terminal by its place on the site.
pub fn face_serial(face: usize) -> String {
    (1_306_600 + face).to_string()
}

/// Which way the gate at this place leads.
pub fn direction_of(gate: usize) -> &'static str {
    if gate.is_multiple_of(2) { "in" } else { "out" }
}
