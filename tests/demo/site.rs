//! The demo's site: the reference platform, a serial line with readers, face terminals, and the gateway in the middle.

use std::path::PathBuf;
use std::time::Duration;

use gateway::clock::Clock;
use gateway::punch::UnixMs;
use harness::face::link::{FaceLink, Login};
use harness::face::{FACE_JPEG, Face, FaceTerminal, Timings};
use harness::faults::Faults;
use harness::gateway::{GatewayProcess, ReaderSetup, Setup, Vitals};
use harness::platform::{Options, ReferencePlatform};
use harness::reader::{self, ReaderLine, SimulatedReader, WireFaults};
use harness::workers::InventedSite;

use crate::become_gateway;
use crate::people::{Act, FACES, READERS, Way};
use crate::place::Place;
use crate::trouble::Trouble;

const TEAMS: usize = 4;
/// Everything is to be stopped within three seconds; a gateway that takes longer is killed, which loses nothing.
const STOP_LIMIT: Duration = Duration::from_millis(2_300);
/// Records that a face terminal holds after their acknowledgement.
const FACE_STORE: usize = 200;
/// Punches that the platform holds in memory.
const REMEMBERED: usize = 5_000;
/// Share of frames on the serial line, each way, that are damaged, and that are lost.
const WIRE_NOISE: f64 = 0.003;

/// The national rule of one second per method stands; what may be shorter is, so that receipts are soon to be seen.
const PLATFORM_KEYS: &str =
    "min_interval_ms = 1000\npoll_interval_ms = 1000\nbatch_wait_s = 3\nreconcile_after_s = 10\n";

/// The running site.
pub struct Site {
    gateway: GatewayProcess,
    platform: ReferencePlatform,
    line: ReaderLine,
    readers: Vec<SimulatedReader>,
    faces: Vec<FaceLink>,
    roster: InventedSite,
    clock: Clock,
}

/// How things stand.
pub struct Standing {
    pub verified: u64,
    pub held: u64,
    pub rejected: u64,
    pub receipts: u64,
    /// Verified and without a receipt.
    pub open: u64,
    /// Requests that broke the platform's rules.
    pub violations: usize,
    pub gateway: Option<Vitals>,
    pub demo: Option<Vitals>,
}

impl Site {
    /// Builds the gateway when needed, starts everything and imports the roster.
    pub async fn start(place: &Place, workers: usize) -> Result<Site, Trouble> {
        let roster = InventedSite::new(workers, TEAMS);
        let options = platform_options(place, &roster);
        let (appid, secret) = (options.appid.clone(), options.secret.clone());
        let platform = ReferencePlatform::start(options).await.map_err(Trouble::with("the reference platform"))?;

        let stations: Vec<reader::Setup> =
            (1..=READERS.len() as u8).map(|address| reader::Setup { address, key: Some([address; 16]) }).collect();
        let wire = WireFaults { faults: Faults::new(1), damaged: WIRE_NOISE, lost: WIRE_NOISE };
        let line = ReaderLine::start_kept(&place.line(), &stations, wire, &place.terminals_dir())
            .map_err(Trouble::with("the serial line does not start (--fresh starts over)"))?;
        let readers = (0..READERS.len()).map(|index| line.reader(index)).collect();

        let configured: Vec<ReaderSetup> = stations.iter().zip(READERS).map(configured_reader).collect();
        let mut setup = Setup::at(&place.gateway_dir())
            .ports(place.console_port, place.mqtt_port)
            .started_by(&std::env::current_exe()?, &starting_words())
            .employers(&roster.employers)
            .reader_line(line.path(), 115_200, &configured)
            .platform("national", &platform.endpoint(), &appid, &secret, PLATFORM_KEYS);
        for (index, way) in FACES.into_iter().enumerate() {
            setup = setup.face(&face_id(index), &face_serial(index), direction(way, "terminal"));
        }
        let gateway = GatewayProcess::try_start(setup.write()).await.map_err(Trouble)?;
        import(&gateway, &roster).await?;

        let faces = (0..FACES.len()).map(|index| face(place, index, &gateway)).collect::<Result<_, _>>()?;
        Ok(Site { gateway, platform, line, readers, faces, roster, clock: Clock::system() })
    }

    pub fn roster(&self) -> &InventedSite {
        &self.roster
    }

    pub fn now(&self) -> UnixMs {
        self.clock.now()
    }

    /// Where the bearer token is.
    pub fn token_file(&self) -> PathBuf {
        self.gateway.data_dir().join("api-token")
    }

    pub async fn perform(&mut self, act: Act) {
        match act {
            // A reader that is full says so by its lamp; nobody else hears of it.
            Act::Swipe { reader, worker } => drop(self.readers[reader].swipe(self.roster.workers[worker].badge)),
            Act::SwipeStranger { reader, badge } => drop(self.readers[reader].swipe(badge)),
            Act::Recognise { face, worker, inward } => {
                let known = Face::of(&self.roster.workers[worker].worker_id).with_photo(FACE_JPEG);
                self.faces[face].punch(if inward { known } else { known.leaving() });
            }
            Act::PushAgain { face } => self.faces[face].push_again(),
            Act::Cut { face } => self.faces[face].cut_link().await,
        }
    }

    /// Fails when the gateway has ended by itself.
    pub fn check(&mut self) -> Result<(), Trouble> {
        match self.gateway.exited() {
            Some(status) => {
                let log = self.gateway.log_tail();
                Err(Trouble(format!("the gateway has ended by itself: {status}\n{log}")))
            }
            None => Ok(()),
        }
    }

    pub async fn standing(&self) -> Result<Standing, Trouble> {
        let (_, text) =
            self.gateway.ask(reqwest::Method::GET, "/metrics", None).await.map_err(Trouble::with("/metrics"))?;
        let punches = |state| metric(&text, &format!("anxin_ledger_punches{{state=\"{state}\"}}"));
        Ok(Standing {
            verified: punches("verified"),
            held: punches("held"),
            rejected: punches("rejected"),
            receipts: metric(&text, "anxin_outbox_confirmed{platform=\"national\"}"),
            open: metric(&text, "anxin_outbox_open{platform=\"national\"}"),
            violations: self.platform.violations(),
            gateway: self.gateway.pid().and_then(Vitals::of),
            demo: Vitals::of(std::process::id()),
        })
    }

    /// The gateway first, while everybody it talks to is still there.
    pub async fn stop(mut self) -> Result<(), Trouble> {
        let stopped = match self.gateway.exited() {
            Some(_) => Ok(()),
            None => self.gateway.try_terminate(STOP_LIMIT).await,
        };
        for face in self.faces {
            face.stop().await;
        }
        drop(self.line);
        self.platform.stop().await;
        stopped.map_err(Trouble)
    }
}

fn platform_options(place: &Place, roster: &InventedSite) -> Options {
    Options {
        general_contractor: roster.employers[0].credit_code.clone(),
        book_file: Some(place.book_file()),
        remembered: REMEMBERED,
        ..Options::default()
    }
}

/// What this program is given to become the gateway.
fn starting_words() -> Vec<String> {
    // What follows belongs to the gateway.
    vec![become_gateway::ORDER.to_owned(), std::process::id().to_string(), "--".to_owned()]
}

fn configured_reader((station, way): (&reader::Setup, Way)) -> ReaderSetup {
    ReaderSetup {
        id: format!("south-{}", station.address),
        address: station.address,
        serial: format!("R{:04}", station.address),
        direction: direction(way, "alternate").to_owned(),
        key: station.key,
    }
}

fn direction(way: Way, either: &'static str) -> &'static str {
    match way {
        Way::In => "in",
        Way::Out => "out",
        Way::Either => either,
    }
}

fn face_id(index: usize) -> String {
    format!("north-{}", index + 1)
}

fn face_serial(index: usize) -> String {
    (1_306_601 + index).to_string()
}

fn face(place: &Place, index: usize, gateway: &GatewayProcess) -> Result<FaceLink, Trouble> {
    let serial = face_serial(index);
    let mut terminal = FaceTerminal::new(&serial, Timings::REAL);
    terminal.set_capacity(FACE_STORE);
    FaceLink::start_kept(terminal, Login::at(gateway.mqtt_address()), place.face_file(&serial))
        .map_err(Trouble::with("a face terminal does not start (--fresh starts over)"))
}

async fn import(gateway: &GatewayProcess, roster: &InventedSite) -> Result<(), Trouble> {
    let body = Some(("text/csv", roster.csv_with_photos()));
    let answer = gateway.ask(reqwest::Method::POST, "workers/import", body).await;
    match answer.map_err(Trouble::with("roster import"))? {
        (status, _) if status.is_success() => Ok(()),
        (status, text) => Err(Trouble(format!("the gateway does not take the roster: {status}\n{text}"))),
    }
}

fn metric(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    value.unwrap_or(0.0) as u64
}
