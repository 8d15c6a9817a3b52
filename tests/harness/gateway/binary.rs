//! Finds the gateway's program beside the running one, or builds it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PROGRAM: &str = "anxin-gateway";

/// The program to start: `ANXIN_GATEWAY_BIN` when that is set; else the one in the target directory of the running
/// program, built in the same profile first when it is missing or older than a source it was made from.
pub fn path() -> &'static Path {
    find().unwrap_or_else(|trouble| panic!("{trouble}"))
}

/// The same; says what is wrong when it cannot be built.
pub fn find() -> Result<&'static Path, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| match std::env::var_os("ANXIN_GATEWAY_BIN") {
        Some(given) => Ok(PathBuf::from(given)),
        None => Place::of_running_program().program(),
    });
    found.as_deref().map_err(String::clone)
}

/// Where cargo put the running program.
struct Place {
    /// `target/debug`, `target/release` …
    profile_dir: PathBuf,
    /// A test, in `deps`; otherwise a program like the demo.
    is_test: bool,
}

impl Place {
    fn of_running_program() -> Place {
        let running = std::env::current_exe().expect("the system knows the running program");
        let dir = running.parent().expect("a program is in a directory");
        match dir.ends_with("deps") {
            true => Place { profile_dir: dir.parent().expect("deps is in a profile").to_owned(), is_test: true },
            false => Place { profile_dir: dir.to_owned(), is_test: false },
        }
    }

    fn program(&self) -> Result<PathBuf, String> {
        let program = self.profile_dir.join(PROGRAM);
        if !is_newer_than_its_sources(&program) {
            self.build()?;
        }
        match program.is_file() {
            true => Ok(program),
            false => Err(format!("cargo built no {}; name the program in ANXIN_GATEWAY_BIN", program.display())),
        }
    }

    /// Selects packages so that cargo unites the same features as for the running program, and compiles nothing twice.
    fn build(&self) -> Result<(), String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.current_dir(workspace()).args(["build", "--bin", PROGRAM]);
        match self.is_test {
            true => build.args(["--quiet", "--workspace", "--test", "architecture"]),
            false => build.args(["--package", "gateway", "--package", "tests"]),
        };
        let profile = self.profile_dir.file_name().and_then(|name| name.to_str()).unwrap_or("debug");
        build.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
        if let Some(target_dir) = self.profile_dir.parent() {
            build.arg("--target-dir").arg(target_dir);
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_one_package(name)) {
            build.env_remove(name);
        }
        match build.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("building {PROGRAM} failed with {status}: {build:?}")),
            Err(error) => Err(format!("cargo does not run: {error}: {build:?}")),
        }
    }
}

/// What cargo tells a program that it runs about that program's package. Build scripts (that of `ring`) run again when
/// these change, and everything behind them is compiled once more, here and at the next build outside.
fn is_of_one_package(name: &OsStr) -> bool {
    let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    name.to_str().is_some_and(|name| told.iter().any(|start| name.starts_with(start)))
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of the workspace")
}

/// By the list of sources that cargo writes beside the program. A list from another checkout does not count.
fn is_newer_than_its_sources(program: &Path) -> bool {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let Some(built) = modified(program) else { return false };
    let Ok(list) = std::fs::read_to_string(program.with_extension("d")) else { return false };
    let Some((_, sources)) = list.split_once(": ") else { return false };
    // Spaces inside a path are written `\ `.
    let sources = sources.replace("\\ ", "\0");
    let mut sources = sources.split_whitespace().map(|path| PathBuf::from(path.replace('\0', " ")));
    sources.all(|source| source.starts_with(workspace()) && modified(&source).is_some_and(|changed| changed <= built))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_program_counts_only_while_it_is_newer_than_its_sources_here() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(PROGRAM);
        let list = |source: &Path| fs::write(dir.path().join("anxin-gateway.d"), format!("x: {}", source.display()));
        let own_source = workspace().join("Cargo.toml");
        assert!(!is_newer_than_its_sources(&program), "it is not there");

        fs::write(&program, "").unwrap();
        assert!(!is_newer_than_its_sources(&program), "nothing says what it was made from");
        list(&own_source).unwrap();
        assert!(is_newer_than_its_sources(&program));

        list(&dir.path().join("elsewhere.rs")).unwrap();
        assert!(!is_newer_than_its_sources(&program), "made from another checkout");
        list(&own_source).unwrap();
        File::open(&program).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        assert!(!is_newer_than_its_sources(&program), "a source has changed since");
    }
}
