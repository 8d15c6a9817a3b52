//! The directory that everything is kept in, for one demo at a time, and the ports.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use crate::trouble::Trouble;

/// What a demo leaves in its directory; `--fresh` removes these and nothing else.
const GATEWAY: &str = "gateway";
const TERMINALS: &str = "terminals";
const PLATFORM: &str = "platform";
/// A log that is longer than this does not go on in the next start.
const LONGEST_LOG: u64 = 4 * 1024 * 1024;

/// Where a demo lives. While it is there, no other demo uses the directory.
pub struct Place {
    dir: PathBuf,
    pub console_port: u16,
    pub mqtt_port: u16,
    _lock: File,
}

/// `demo` beside the profile's directory that this program is in: `target/demo`.
pub fn usual_dir() -> Result<PathBuf, Trouble> {
    let program = std::env::current_exe().map_err(Trouble::with("the running program is not known"))?;
    match program.parent().and_then(Path::parent) {
        Some(target) => Ok(target.join("demo")),
        None => Err(Trouble(format!("{} is in no target directory; choose one with --dir", program.display()))),
    }
}

impl Place {
    pub fn open(dir: &Path, console_port: u16, mqtt_port: u16, fresh: bool) -> Result<Place, Trouble> {
        fs::create_dir_all(dir).map_err(Trouble::with(dir.display()))?;
        let dir = dir.canonicalize()?;
        let lock = File::create(dir.join("lock"))?;
        if lock.try_lock().is_err() {
            let dir = dir.display();
            return Err(Trouble(format!(
                "另一个演示正在使用 {dir}；请先停止它，或用 --dir 指定别的目录\nanother demo uses {dir}; stop it, or choose another directory with --dir"
            )));
        }
        check_port(console_port, "--console-port")?;
        check_port(mqtt_port, "--mqtt-port")?;
        let place = Place { dir, console_port, mqtt_port, _lock: lock };
        if fresh {
            place.forget()?;
        }
        for part in [GATEWAY, TERMINALS, PLATFORM] {
            fs::create_dir_all(place.dir.join(part))?;
        }
        place.shorten_log()?;
        Ok(place)
    }

    fn forget(&self) -> io::Result<()> {
        for part in [GATEWAY, TERMINALS, PLATFORM] {
            match fs::remove_dir_all(self.dir.join(part)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn shorten_log(&self) -> io::Result<()> {
        let log = self.gateway_dir().join("gateway.log");
        match fs::metadata(&log) {
            Ok(meta) if meta.len() > LONGEST_LOG => fs::rename(&log, log.with_extension("log.old")),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The gateway's configuration, secrets, data and log.
    pub fn gateway_dir(&self) -> PathBuf {
        self.dir.join(GATEWAY)
    }

    /// The readers' flash and the face terminals' stores.
    pub fn terminals_dir(&self) -> PathBuf {
        self.dir.join(TERMINALS)
    }

    /// The link to the serial line; there while the demo runs.
    pub fn line(&self) -> PathBuf {
        self.terminals_dir().join("line")
    }

    pub fn face_file(&self, serial: &str) -> PathBuf {
        self.terminals_dir().join(format!("face-{serial}.json"))
    }

    /// Who is on the site.
    pub fn people_file(&self) -> PathBuf {
        self.terminals_dir().join("people.json")
    }

    pub fn book_file(&self) -> PathBuf {
        self.dir.join(PLATFORM).join("book.jsonl")
    }
}

fn check_port(port: u16, option: &str) -> Result<(), Trouble> {
    let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else { return Ok(()) };
    let other = port.checked_add(10_000).unwrap_or(18_080);
    Err(Trouble(format!(
        "端口 127.0.0.1:{port} 不能使用（{error}）；请停止占用它的程序，或换一个端口：cargo demo {option} {other}\n\
         port 127.0.0.1:{port} cannot be used ({error}); stop the program that has it, or choose another: cargo demo {option} {other}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_forgets_what_demos_left_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mine = dir.path().join("mine.txt");
        fs::write(&mine, "").unwrap();
        let place = Place::open(dir.path(), 0, 0, false).unwrap();
        fs::write(place.book_file(), "").unwrap();
        drop(place);
        assert!(Place::open(dir.path(), 0, 0, false).unwrap().book_file().exists());
        assert!(!Place::open(dir.path(), 0, 0, true).unwrap().book_file().exists());
        assert!(mine.exists());
    }

    #[test]
    fn a_second_demo_in_the_same_directory_and_a_taken_port_are_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open(dir.path(), 0, 0, false).unwrap();
        let second = Place::open(dir.path(), 0, 0, false).err().unwrap().to_string();
        assert!(second.contains("--dir"), "{second}");
        drop(place);
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let refused = Place::open(dir.path(), taken.local_addr().unwrap().port(), 0, false).err().unwrap().to_string();
        assert!(refused.contains("--console-port "), "{refused}");
    }
}
