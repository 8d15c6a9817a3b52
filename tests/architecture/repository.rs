//! What lies where in the repository, and what must not stand in its files.

use std::collections::BTreeSet;

use crate::tree::{Tree, Violation};

/// The top level: four crates, `deploy`, the README, and tool settings.
const TOP_LEVEL: [&str; 16] = [
    ".cargo",
    ".ci",
    ".config",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "deploy",
    "firmware",
    "gateway",
    "protocol",
    "rust-toolchain.toml",
    "rustfmt.toml",
];
const TESTS: &str = "tests";

/// A file of this length needs a second subject's file.
const MOST_LINES: usize = 600;

/// Nothing stands at the top but what belongs there, and nothing is missing.
pub fn top_level(tree: &Tree) -> Vec<Violation> {
    let wanted: BTreeSet<&str> = TOP_LEVEL.into_iter().chain([TESTS]).collect();
    let found: BTreeSet<&str> = tree.files.iter().filter_map(|(path, _)| path.split('/').next()).collect();
    let surplus = found.difference(&wanted).map(|name| Violation::new(name, 0, "does not belong at the top"));
    let missing = wanted.difference(&found).map(|name| Violation::new(name, 0, "is missing at the top"));
    surplus.chain(missing).collect()
}

/// No source, script, page or text is longer than a reader takes.
pub fn length(tree: &Tree) -> Vec<Violation> {
    let is_written_by_hand = |path: &str| {
        let kinds = [".rs", ".html", ".css", ".js", ".md", ".toml", ".service", ".rules", "/run"];
        kinds.iter().any(|kind| path.ends_with(kind)) && !path.contains("/fixtures/") && !path.ends_with(".min.js")
    };
    let files = tree.files.iter().filter(|(path, _)| is_written_by_hand(path));
    files
        .filter(|(_, text)| text.lines().count() > MOST_LINES)
        .map(|(path, text)| Violation::new(path, MOST_LINES, format!("has {} lines", text.lines().count())))
        .collect()
}

/// No file names a package registry's host or a path of one machine, and the lock file knows one registry only.
pub fn places(tree: &Tree) -> Vec<Violation> {
    let places = forbidden_places();
    let mut violations = Vec::new();
    for (path, text) in &tree.files {
        for (index, line) in text.lines().enumerate() {
            let seen = places.iter().find(|place| names_place(line, place));
            let foreign = (path == "Cargo.lock" && line.starts_with("source = ") && !line.contains(CARGO_REGISTRY))
                .then_some("a source other than the usual registry");
            if let Some(what) = seen.map(String::as_str).or(foreign) {
                violations.push(Violation::new(path, index + 1, what));
            }
        }
    }
    violations
}

/// An absolute path counts where it begins, not inside another path.
fn names_place(line: &str, place: &str) -> bool {
    let is_inside = |before: char| before.is_alphanumeric() || "_-.}*~".contains(before);
    line.match_indices(place).any(|(at, _)| !place.starts_with('/') || !line[..at].ends_with(is_inside))
}

/// How cargo writes its usual registry into every lock file, whatever it really fetches from.
const CARGO_REGISTRY: &str = "\"registry+https://github.com/rust-lang/crates.io-index\"";

/// Put together here, so that this file does not contain them.
fn forbidden_places() -> Vec<String> {
    const HOSTS: [&[&str]; 10] = [
        &["index", "crates", "io"],
        &["static", "crates", "io"],
        &["static", "rust-lang", "org"],
        &["pypi", "org"],
        &["files", "pythonhosted", "org"],
        &["registry", "npmjs", "org"],
        &["deb", "debian", "org"],
        &["security", "debian", "org"],
        &["archive", "ubuntu", "com"],
        &["proxy", "golang", "org"],
    ];
    const PATHS: [&[&str]; 5] =
        [&["", "work", ""], &["", "root", ""], &["", "home", ""], &["..", "shared"], &["shared", "specs"]];
    let hosts = HOSTS.iter().map(|parts| parts.join("."));
    let paths = PATHS.iter().map(|parts| parts.join("/"));
    hosts.chain(paths).collect()
}

/// Every target of the tests crate has its file, and every `main.rs` in it is a target.
pub fn targets(tree: &Tree) -> Vec<Violation> {
    const MANIFEST: &str = "tests/Cargo.toml";
    let Some(table) = tree.text(MANIFEST).and_then(|text| text.parse::<toml::Table>().ok()) else {
        return vec![Violation::new(MANIFEST, 0, "is missing or no TOML")];
    };
    let of_kind = |kind: &str| table.get(kind).and_then(|list| list.as_array()).cloned().unwrap_or_default();
    let library = table.get("lib").cloned();
    let targets = library.into_iter().chain(["bin", "test", "bench"].into_iter().flat_map(of_kind));
    let declared: BTreeSet<String> =
        targets.filter_map(|target| Some(format!("tests/{}", target.get("path")?.as_str()?))).collect();

    let absent = declared.iter().filter(|path| tree.text(path).is_none());
    let absent = absent.map(|path| Violation::new(path, 0, "is declared in tests/Cargo.toml and is not there"));
    let mains = tree.files.iter().map(|(path, _)| path);
    let mains =
        mains.filter(|path| path.starts_with("tests/") && path.ends_with("/main.rs") && path.matches('/').count() == 2);
    let undeclared = mains.filter(|path| !declared.contains(*path));
    absent.chain(undeclared.map(|path| Violation::new(path, 0, "is no target of tests/Cargo.toml"))).collect()
}

/// Every file or directory of ours that the README or a page in `deploy` names is there.
pub fn named_paths(tree: &Tree) -> Vec<Violation> {
    let pages = tree
        .files
        .iter()
        .filter(|(path, _)| path == "README.md" || (path.starts_with("deploy/") && path.ends_with(".md")));
    let mut violations = Vec::new();
    for (page, text) in pages {
        for (index, line) in text.lines().enumerate() {
            let missing = paths_named_in(line).into_iter().filter(|path| !is_there(tree, page, path));
            violations.extend(missing.map(|path| Violation::new(page, index + 1, format!("{path} is not there"))));
        }
    }
    violations
}

/// What stands in backquotes or as the target of a link and looks like a path in this repository.
fn paths_named_in(line: &str) -> Vec<&str> {
    let quoted = line.split('`').skip(1).step_by(2);
    let quoted = quoted.filter_map(|text| text.split_whitespace().next()).filter(|word| {
        let top = word.split('/').next().unwrap_or_default();
        word.contains('/') && (TOP_LEVEL.contains(&top) || top == TESTS)
    });
    let linked = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let linked = linked.filter(|target| !target.is_empty() && !target.contains("://"));
    quoted.chain(linked).collect()
}

fn is_there(tree: &Tree, page: &str, path: &str) -> bool {
    let beside = page.rsplit_once('/').map_or(path.to_owned(), |(dir, _)| format!("{dir}/{path}"));
    let above = path.strip_prefix("../").unwrap_or(path);
    tree.has(path) || tree.has(&beside) || tree.has(above)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(violations: Vec<Violation>) -> Vec<String> {
        violations.into_iter().map(|violation| violation.file).collect()
    }

    #[test]
    fn a_stray_or_missing_file_at_the_top_is_seen() {
        let tree = Tree::of_repository();
        assert_eq!(files(top_level(&tree.with("notes.txt", ""))), ["notes.txt"]);
        assert_eq!(files(top_level(&tree.with("scripts/build.sh", ""))), ["scripts"]);
        assert_eq!(files(top_level(&tree.without("LICENSE"))), ["LICENSE"]);
    }

    #[test]
    fn a_long_file_is_seen_and_a_long_fixture_is_not() {
        let long = "\n".repeat(MOST_LINES + 1);
        assert_eq!(files(length(&Tree::of(&[("gateway/src/lib.rs", &long)]))), ["gateway/src/lib.rs"]);
        assert_eq!(length(&Tree::of(&[("gateway/src/lib.rs", &long[1..])])), []);
        assert_eq!(length(&Tree::of(&[("tests/fixtures/long.rs", &long), ("Cargo.lock", &long)])), []);
    }

    #[test]
    fn each_forbidden_place_is_seen() {
        for place in forbidden_places() {
            let text = format!("one\nsee https:{place}x\n");
            assert_eq!(places(&Tree::of(&[("deploy/install.md", &text)]))[0].line, 2, "{place}");
        }
        let lock = format!("source = {CARGO_REGISTRY}\nsource = \"registry+https://mirror.example/index\"\n");
        assert_eq!(places(&Tree::of(&[("Cargo.lock", &lock)]))[0].line, 2);
    }

    #[test]
    fn a_target_without_a_file_and_a_main_without_a_target_are_seen() {
        let tree = Tree::of_repository();
        let manifest = tree.text("tests/Cargo.toml").unwrap();
        let ghost = format!("{manifest}\n[[test]]\nname = \"ghost\"\npath = \"ghost/main.rs\"\n");
        assert_eq!(files(targets(&tree.with("tests/Cargo.toml", &ghost))), ["tests/ghost/main.rs"]);
        assert_eq!(files(targets(&tree.with("tests/stray/main.rs", "fn main() {}"))), ["tests/stray/main.rs"]);
    }

    #[test]
    fn a_page_that_names_a_missing_file_is_seen() {
        let tree = Tree::of(&[("tests/run", ""), ("deploy/install.md", "[up](../README.md) `tests/run --quick`")]);
        let page =
            "See `tests/run` and `deploy/`, [here](deploy/install.md#x), `and/or`, [far](https://example.org/a).";
        assert_eq!(named_paths(&tree.with("README.md", page)), []);
        let page = "See `tests/walk`\nand [there](deploy/gone.md).";
        assert_eq!(named_paths(&tree.with("README.md", page)).len(), 2);
    }
}
