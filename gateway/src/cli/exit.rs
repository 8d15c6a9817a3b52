//! How a command ends.

use std::fmt;
use std::process::ExitCode;

/// Exit codes of sysexits(3), as far as commands end with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    /// The command line is wrong.
    Usage = 64,
    /// The user's data is wrong.
    Data = 65,
    /// An input file cannot be read.
    NoInput = 66,
    /// Something that is needed is not there: the running gateway, a free port.
    Unavailable = 69,
    /// The gateway itself failed.
    Software = 70,
    /// An output file cannot be created.
    CannotCreate = 73,
    Io = 74,
    /// Try again later.
    TemporaryFailure = 75,
    NoPermission = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A command that did not do what it was told, in words for the person who gave it.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    text: String,
}

impl Failure {
    pub fn new(exit: Exit, text: impl Into<String>) -> Failure {
        Failure { exit, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// How a command ends that met this error.
pub fn of_io(error: &std::io::Error, otherwise: Exit) -> Exit {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => Exit::NoPermission,
        _ => otherwise,
    }
}
