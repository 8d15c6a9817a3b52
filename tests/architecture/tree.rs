//! The files of the repository, and what a rule says about one of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Text files by their path from the top, `/` between the parts. What git ignores is not among them.
#[derive(Clone)]
pub struct Tree {
    pub files: Vec<(String, String)>,
}

/// A place where a rule does not hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    pub file: String,
    /// From 1; 0 when it concerns the file as a whole.
    pub line: usize,
    pub what: String,
}

impl Violation {
    pub fn new(file: &str, line: usize, what: impl Into<String>) -> Violation {
        Violation { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

impl Tree {
    /// The repository that this test was built from.
    pub fn of_repository() -> Tree {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of the workspace");
        let paths = listed_by_git(top).unwrap_or_else(|| walked(top));
        let mut files: Vec<(String, String)> =
            paths.into_iter().filter_map(|path| Some((path.clone(), text(&top.join(&path))?))).collect();
        files.sort();
        assert!(files.len() > 20, "{} holds no repository", top.display());
        Tree { files }
    }

    /// A tree of just these files.
    pub fn of(files: &[(&str, &str)]) -> Tree {
        Tree { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    /// This tree with one more file, or with another text in it.
    pub fn with(&self, path: &str, text: &str) -> Tree {
        let mut tree = self.without(path);
        tree.files.push((path.to_owned(), text.to_owned()));
        tree
    }

    /// This tree without a file.
    pub fn without(&self, path: &str) -> Tree {
        Tree { files: self.files.iter().filter(|(at, _)| at != path).cloned().collect() }
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|(at, _)| at == path).map(|(_, text)| text.as_str())
    }

    /// Whether there is a file at this path or below it.
    pub fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.files.iter().any(|(at, _)| at == path || at.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }

    pub fn rust(&self) -> impl Iterator<Item = &(String, String)> {
        self.files.iter().filter(|(path, _)| path.ends_with(".rs"))
    }
}

/// Tracked files and new ones that are not ignored; `None` without git or without its records.
fn listed_by_git(top: &Path) -> Option<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(top).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = git.output().ok()?;
    let list = String::from_utf8(listed.stdout).ok()?;
    let paths: Vec<String> = list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    (listed.status.success() && !paths.is_empty()).then_some(paths)
}

fn walked(top: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(top.join(&dir)).into_iter().flatten().flatten() {
            let path = dir.join(entry.file_name());
            if entry.file_name() == "target" || entry.file_name() == ".git" {
                continue;
            }
            match entry.path().is_dir() {
                true => open.push(path),
                false => found.push(path.display().to_string()),
            }
        }
    }
    found
}

/// `None` for pictures and the like, and for files that are tracked but gone.
fn text(path: &Path) -> Option<String> {
    String::from_utf8(std::fs::read(path).ok()?).ok().filter(|text| !text.contains('\0'))
}
