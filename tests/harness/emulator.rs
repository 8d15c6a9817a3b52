//! The reader's real image in an emulator: its line on a pty or a socket, badges sent to its second port, lamps and relay
//! read back, its flash in a file that outlives it. Killing the emulator is the power cut.

mod image;
mod probe;
mod rom;
mod wire;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use firmware::settings::Settings;

pub use self::image::{Image, find};
use self::probe::{Edge, Probe};
pub use self::wire::NoisyWire;
use crate::reader::{Lamps, rdm_frame};

const EMULATOR: &str = "qemu-system-arm";
const MACHINE: &str = "b-l475e-iot01a";
/// The two slots for programs.
const SLOTS: usize = 128 * 1024;
/// The chip's second bank, and the slots behind it.
const FLASH_LEN: usize = 512 * 1024 + SLOTS;
/// Behind the journal's 128 pages of 2 KiB.
const SETTINGS_AT: usize = 128 * 2048;

/// The memory that variables and stack share, the stack from its end, and what it is painted with before the start.
const RAM: u32 = 0x2000_0000;
const RAM_LEN: u32 = 96 * 1024;
const PAINT: u8 = 0xA5;

/// Output register of port B, where the lamps are (RM0351, 8.5.6).
const OUTPUTS: u32 = 0x4800_0414;
/// Control registers of UART4 and USART1, and their bits for "on" and "receives" (RM0351, 40.8.1).
const BADGE_PORT: u32 = 0x4000_4C00;
const LINE_PORT: u32 = 0x4001_3800;
const LISTENING: u32 = 1 << 0 | 1 << 2;
/// 10 s for the image to start.
const START_LOOKS: u32 = 2_000;

/// D0 and D1; a reader or a pull-up holds them high between pulses.
const WIEGAND: [(&str, u8); 2] = [("gpiod", 14), ("gpioa", 3)];

const GREEN: usize = 0;
const RED: usize = 1;
const BUZZER: usize = 2;
const RELAY: usize = 4;

/// What is missing to run the image here, if anything is.
pub fn missing() -> Option<String> {
    let machines = Command::new(EMULATOR).args(["-machine", "help"]).output();
    match machines {
        Err(error) => Some(format!("{EMULATOR} cannot be run ({error}); the Debian package has the same name")),
        Ok(machines) if !String::from_utf8_lossy(&machines.stdout).contains(MACHINE) => {
            Some(format!("this {EMULATOR} is too old: it does not know the board {MACHINE} (9.0 does)"))
        }
        Ok(_) => None,
    }
}

/// How the gateway reaches the reader.
#[derive(Clone, Debug)]
pub enum Line {
    /// The emulator makes a pty and a link to it.
    Pty(PathBuf),
    /// The emulator listens at this socket; a [`NoisyWire`] connects the gateway.
    Socket(PathBuf),
}

/// One reader; without power at first.
pub struct EmulatedReader {
    image: PathBuf,
    dir: PathBuf,
    line: Line,
    running: Option<Running>,
}

struct Running {
    child: Child,
    badges: UnixStream,
    probe: Probe,
    /// As the edges say.
    lamps: Lamps,
    stored: bool,
}

impl EmulatedReader {
    /// A reader fresh from the bench, with its files in this directory.
    pub fn new(image: &Path, dir: &Path, settings: Settings, line: Line) -> EmulatedReader {
        let reader = EmulatedReader::unpaired(image, dir, line);
        let mut flash = reader.flash();
        let settings = settings.encode();
        flash[SETTINGS_AT..SETTINGS_AT + settings.len()].copy_from_slice(&settings);
        std::fs::write(dir.join("flash.bin"), flash).expect("the directory takes files");
        reader
    }

    /// A reader fresh from the factory.
    pub fn unpaired(image: &Path, dir: &Path, line: Line) -> EmulatedReader {
        std::fs::write(dir.join("flash.bin"), vec![0xFF; FLASH_LEN]).expect("the directory takes files");
        EmulatedReader { image: image.to_owned(), dir: dir.to_owned(), line, running: None }
    }

    /// From no power to a running image, housing shut.
    pub fn power_up(&mut self) {
        assert!(self.running.is_none(), "it has power already");
        let [badges, probe, machine] = ["badges", "probe", "machine"].map(|name| self.dir.join(name));
        for socket in [&badges, &probe, &machine] {
            // What an emulator that was killed has left.
            let _ = std::fs::remove_file(socket);
        }
        let mut child = self.spawn();
        let connect = || {
            let (badges, mut probe) = (probe::connect(&badges)?, Probe::new(probe::connect(&probe)?)?);
            probe.fill(RAM, RAM_LEN, PAINT);
            probe::go_on(probe::connect(&machine)?)?;
            Ok((badges, probe))
        };
        let (badges, mut probe) = connect().unwrap_or_else(|error: std::io::Error| {
            // It may be gone by itself; the reason is in its log.
            let _ = child.kill();
            let _ = child.wait();
            panic!("the emulator does not come up: {error}\n{}", self.log())
        });
        probe.set_input("gpioc", 2, false);
        probe.watch("gpiob");
        // A card or a question that comes before is not heard; nobody stands there in the first milliseconds. The line is
        // opened a little after the badge port: a busy machine may look in between.
        let listens = (0..START_LOOKS).any(|_| {
            pause(Duration::from_millis(5));
            [BADGE_PORT, LINE_PORT].into_iter().all(|port| probe.read(port) & LISTENING == LISTENING)
        });
        assert!(listens, "the image does not open its ports");
        // The emulator sees the first edge only of a line that has risen since the image chose it.
        for (port, pin) in WIEGAND {
            probe.set_input(port, pin, false);
            probe.set_input(port, pin, true);
        }
        self.running = Some(Running { child, badges, probe, lamps: Lamps::default(), stored: false });
    }

    fn spawn(&self) -> Child {
        let line = match &self.line {
            Line::Pty(link) => {
                let _ = std::fs::remove_file(link);
                format!("pty,id=line,path={}", link.display())
            }
            Line::Socket(path) => {
                let _ = std::fs::remove_file(path);
                socket("line", path)
            }
        };
        let flash = self.dir.join("flash.bin");
        let rom = self.dir.join("rom.elf");
        std::fs::write(&rom, rom::with_slots(&self.image, &flash)).expect("the directory takes files");
        let log = std::fs::File::create(self.dir.join("emulator.log")).expect("the directory takes files");
        Command::new(EMULATOR)
            .args(["-S", "-qmp", &format!("unix:{},server=on,wait=off", self.dir.join("machine").display())])
            .args(["-machine", MACHINE, "-display", "none", "-monitor", "none", "-accel", "tcg"])
            // About as fast as the chip; without it received bytes come at a tenth of the line's speed.
            .args(["-icount", "shift=6,sleep=on", "-kernel"])
            .arg(&rom)
            // A reader that starts again by itself gets its power anew: its programs may be others by then.
            .arg("-no-reboot")
            .args(["-chardev", &line, "-chardev", &socket("badges", &self.dir.join("badges"))])
            .args(["-serial", "chardev:line", "-serial", "null", "-serial", "null", "-serial", "chardev:badges"])
            .args(["-qtest", &format!("unix:{},server=on,wait=off", self.dir.join("probe").display())])
            .args(["-qtest-log", "none", "-semihosting-config"])
            .arg(format!("enable=on,target=native,arg=reader,arg={}", flash.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{EMULATOR}: {error}"))
    }

    /// Whether the reader wants to start again by itself; then it has no power now.
    pub fn has_reset(&mut self) -> bool {
        let Some(running) = &mut self.running else { return false };
        let has_ended = running.child.try_wait().expect("a child that was started can be asked").is_some();
        if has_ended {
            self.running = None;
        }
        has_ended
    }

    /// Presses the button inside the housing, or lets go of it.
    pub fn set_button(&mut self, pressed: bool) {
        self.running().probe.set_input("gpioc", 13, !pressed);
    }

    /// The power goes, between any two instructions.
    pub fn power_cut(&mut self) {
        if let Some(mut running) = self.running.take() {
            // Both cannot fail for a child that nobody has waited for.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }

    /// A card comes near the module at the second port.
    pub fn swipe(&mut self, badge: u32) {
        self.running().badges.write_all(&rdm_frame(badge)).expect("the emulator takes bytes");
    }

    /// Many cards one after the other, as fast as the module's port takes them.
    pub fn swipe_all(&mut self, badges: impl Iterator<Item = u32>) {
        let frames: Vec<u8> = badges.flat_map(rdm_frame).collect();
        self.running().badges.write_all(&frames).expect("the emulator takes bytes");
    }

    /// Whether the signal for a stored punch has begun since this was last asked: the buzzer over green alone.
    pub fn saw_stored(&mut self) -> bool {
        let Running { probe, lamps, stored, .. } = self.running();
        for Edge { pin, high } in probe.edges(OUTPUTS) {
            match pin {
                GREEN => lamps.green = high,
                RED => lamps.red = high,
                BUZZER => lamps.buzzer = high,
                _ => {}
            }
            *stored |= lamps.green && !lamps.red && lamps.buzzer;
        }
        std::mem::take(stored)
    }

    /// Lamps, buzzer and relay as the pins are now.
    pub fn lamps(&mut self) -> Lamps {
        let pins = self.running().probe.read(OUTPUTS);
        let is_on = |pin: usize| pins & 1 << pin != 0;
        Lamps { green: is_on(GREEN), red: is_on(RED), buzzer: is_on(BUZZER), relay: is_on(RELAY) }
    }

    /// Bytes of stack that the image has used since it has power, `variables` being those that are always there.
    pub fn stack(&mut self, variables: u32) -> u32 {
        let memory = self.running().probe.memory(RAM, RAM_LEN);
        let untouched = memory.iter().skip(variables as usize).take_while(|byte| **byte == PAINT).count();
        RAM_LEN - variables - untouched as u32
    }

    /// What is in the flash now.
    pub fn flash(&self) -> Vec<u8> {
        std::fs::read(self.dir.join("flash.bin")).expect("the flash's file is there")
    }

    /// Opens or shuts the housing.
    pub fn set_housing(&mut self, open: bool) {
        self.running().probe.set_input("gpioc", 2, open);
    }

    /// A number from a Wiegand keypad or reader: pulses on D0 and D1, 2 ms apart.
    pub fn pulses(&mut self, bits: impl IntoIterator<Item = bool>) {
        let probe = &mut self.running().probe;
        for bit in bits {
            let (port, pin) = WIEGAND[usize::from(bit)];
            probe.set_input(port, pin, false);
            probe.set_input(port, pin, true);
            pause(Duration::from_millis(2));
        }
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().expect("the reader has power")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("emulator.log")).unwrap_or_default()
    }
}

impl Drop for EmulatedReader {
    fn drop(&mut self) {
        self.power_cut();
    }
}

fn socket(id: &str, path: &Path) -> String {
    format!("socket,id={id},path={},server=on,wait=off", path.display())
}

/// Waits where no task can: between two pulses, for a socket to appear.
fn pause(time: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    // Nothing is ever sent.
    let _ = never.recv_timeout(time);
}
