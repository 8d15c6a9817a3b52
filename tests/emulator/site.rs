//! A gate with one emulated reader, the gateway behind it, and the platform behind that.

use std::path::PathBuf;
use std::time::Duration;

use ::gateway::clock::Clock;
use firmware::settings::Settings;
use harness::emulator::{EmulatedReader, Image, Line};
use harness::gateway::{GatewayProcess, ReaderSetup, Setup};
use harness::platform::{Options, ReferencePlatform};
use harness::reader::Lamps;
use harness::workers::InventedSite;
use protocol::{Address, Key};

pub const KEY: [u8; 16] = [7; 16];
pub const BAUD: u32 = 115_200;
/// A machine with other work needs a while.
pub const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

pub struct Gate {
    pub reader: EmulatedReader,
    pub gateway: GatewayProcess,
    pub platform: ReferencePlatform,
    pub roster: InventedSite,
    pub dir: tempfile::TempDir,
}

impl Gate {
    /// Everything runs but the reader. `line` names, in the gate's directory, how the reader is reached; the gateway
    /// opens `port` in there.
    pub async fn start(image: &Image, workers: usize, line: fn(PathBuf) -> Line, port: &str) -> Gate {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { address: Address::new(1).unwrap(), key: Some(Key(KEY)), baud: BAUD };
        let reader = EmulatedReader::new(&image.path, dir.path(), settings, line(dir.path().join("line")));
        let roster = InventedSite::new(workers, 2);
        let options = Options {
            min_interval: Duration::from_millis(100),
            job_delay: Duration::from_millis(150),
            general_contractor: roster.employers[0].credit_code.clone(),
            ..Options::default()
        };
        let (appid, secret) = (options.appid.clone(), options.secret.clone());
        let platform = ReferencePlatform::start(options).await.unwrap();
        let station = ReaderSetup {
            id: "south-in".to_owned(),
            address: 1,
            serial: "R0001".to_owned(),
            direction: "in".to_owned(),
            key: Some(KEY),
        };
        let keys = "min_interval_ms = 100\npoll_interval_ms = 200\nreconcile_after_s = 2\nbatch_wait_s = 1\n";
        let gateway = Setup::new("emulator")
            .employers(&roster.employers)
            .reader_line(&dir.path().join(port), BAUD, &[station])
            .platform("national", &platform.endpoint(), &appid, &secret, keys)
            .start()
            .await;
        gateway.import_roster(&roster.csv_with_photos()).await;
        Gate { reader, gateway, platform, roster, dir }
    }

    /// Looks at the lamps until they are as wanted; whether they were in time.
    pub async fn shows(&mut self, limit: Duration, wanted: impl Fn(Lamps) -> bool) -> bool {
        let clock = Clock::system();
        let began = clock.instant();
        while !wanted(self.reader.lamps()) {
            if clock.instant() - began > limit {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }

    /// Waits until the signal for a stored punch begins, then until its tone is over; whether it came in time.
    pub async fn shows_stored(&mut self, limit: Duration) -> bool {
        let clock = Clock::system();
        let began = clock.instant();
        while !self.reader.saw_stored() {
            if clock.instant() - began > limit {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        self.shows(PATIENCE, |lamps| !lamps.buzzer).await
    }

    /// Waits until the platform's book is as wanted.
    pub async fn booked(&self, what: &str, wanted: impl Fn(&harness::platform::Book) -> bool) {
        self.booked_within(PATIENCE, what, wanted).await;
    }

    /// The same with another limit.
    pub async fn booked_within(&self, limit: Duration, what: &str, wanted: impl Fn(&harness::platform::Book) -> bool) {
        let there = async {
            while !wanted(&self.platform.book()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(limit, there).await.is_err() {
            let (punches, platforms) =
                (self.gateway.get_json("punches").await, self.gateway.get_json("platforms").await);
            let violations = self.platform.book().violations;
            panic!("not on the platform: {what}\n{punches:#}\n{platforms:#}\n{violations:#?}");
        }
    }
}
