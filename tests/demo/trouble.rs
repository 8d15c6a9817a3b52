//! Why the demo cannot go on, in words for whoever started it.

use std::fmt;

/// What is wrong, and what to do about it when the demo knows.
#[derive(Debug)]
pub struct Trouble(pub String);

impl Trouble {
    /// Puts what was being done before what went wrong.
    pub fn with<E: fmt::Display>(doing: impl fmt::Display) -> impl FnOnce(E) -> Trouble {
        move |error| Trouble(format!("{doing}: {error}"))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Trouble {
        Trouble(error.to_string())
    }
}
