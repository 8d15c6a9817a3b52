//! A disk that can be filled.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The gateway keeps a twentieth of the disk free; this is less.
const LEFT_BYTES: u64 = 64 << 10;

/// A file system of a few megabytes in the place of the data directory; taken away at the end, even under a gateway that
/// still runs.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` when this account may not mount.
    pub fn mount(place: PathBuf) -> Option<SmallDisk> {
        std::fs::create_dir(&place).expect("the temporary directory takes directories");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "none"]).arg(&place).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(SmallDisk(place))
    }

    /// Something else eats the disk, or what has become free of it since.
    pub fn fill(&self) {
        let glutton = File::options().create(true).append(true).open(self.glutton());
        let mut glutton = glutton.expect("a file costs nothing");
        let bite = vec![1; 1 << 20];
        loop {
            let space = rustix::fs::statvfs(&self.0).expect("a mounted file system");
            let wanted = (space.f_bavail * space.f_frsize).saturating_sub(LEFT_BYTES).min(bite.len() as u64);
            // The gateway may be quicker and take the rest.
            if wanted == 0 || glutton.write_all(&bite[..wanted as usize]).is_err() {
                return;
            }
        }
    }

    /// And leaves it again.
    pub fn free(&self) {
        std::fs::remove_file(self.glutton()).expect("it was written before");
    }

    fn glutton(&self) -> PathBuf {
        Path::join(&self.0, "glutton")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A second panic would hide the first; what cannot be unmounted is seen by whoever removes the directory.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
