//! Who may name whom. Each rule stands beside a violation that it must see and a neighbour that it must let pass.

use crate::source::{Mention, names};
use crate::tree::{Tree, Violation};

/// A rule about the names in Rust files.
pub struct ImportRule {
    pub name: &'static str,
    /// The files it concerns.
    pub concerns: fn(&str) -> bool,
    /// What they must not mention.
    pub forbids: fn(&Mention) -> bool,
    /// Files that break it.
    pub planted: &'static [(&'static str, &'static str)],
    /// Files that look like it and do not.
    pub innocent: &'static [(&'static str, &'static str)],
}

pub const RULES: &[ImportRule] = &[
    ImportRule {
        name: "punch imports nothing of ours",
        concerns: |file| file == "gateway/src/punch.rs" || file.starts_with("gateway/src/punch/"),
        forbids: |mention| {
            let is_ours = ["gateway", "protocol", "firmware", "harness"].iter().any(|name| mention.is_in(&[name]));
            is_ours && !mention.starts_with(&["gateway", "punch"])
        },
        planted: &[
            ("gateway/src/punch.rs", "use crate::clock::Clock;"),
            ("gateway/src/punch.rs", "fn f() { protocol::encode() }"),
            ("gateway/src/punch/id.rs", "use super::super::*;"),
        ],
        innocent: &[
            ("gateway/src/punch.rs", "use serde::Serialize; mod tests { use super::*; use crate::punch::Seq; }"),
            ("gateway/src/store/mod.rs", "use crate::clock::Clock;"),
        ],
    },
    ImportRule {
        name: "terminals does not know upload",
        concerns: |file| file.starts_with("gateway/src/terminals"),
        forbids: |mention| mention.is_in(&["gateway", "upload"]),
        planted: &[
            ("gateway/src/terminals/line/mod.rs", "use crate::{store, upload::courier};"),
            ("gateway/src/terminals/hub.rs", "fn f() { super::super::upload::x() }"),
            ("gateway/src/terminals/mod.rs", "use crate::*;"),
            ("gateway/src/terminals/mod.rs", "fn f() { select! { _ = crate::upload::run() => {} } }"),
        ],
        innocent: &[
            ("gateway/src/terminals/mod.rs", "//! Not crate::upload.\nfn f() { let upload = \"crate::upload\"; }"),
            ("gateway/src/lib.rs", "use crate::upload::Task;"),
        ],
    },
    ImportRule {
        name: "upload does not know terminals",
        concerns: |file| file.starts_with("gateway/src/upload"),
        forbids: |mention| mention.is_in(&["gateway", "terminals"]),
        planted: &[
            ("gateway/src/upload/mod.rs", "use super::terminals::hub::Hub;"),
            ("gateway/src/upload/profiles/mohurd.rs", "fn f(_: &gateway::terminals::hub::Hub) {}"),
        ],
        innocent: &[("gateway/src/upload/mod.rs", "use crate::punch::TerminalId; struct S { terminals: u8 }")],
    },
    ImportRule {
        name: "sled only in store",
        concerns: |file| !file.starts_with("gateway/src/store") && !file.starts_with("tests/"),
        forbids: |mention| mention.is_in(&["sled"]),
        planted: &[
            ("gateway/src/console/mod.rs", "use sled as disk;"),
            ("gateway/src/verify/mod.rs", "fn f(_: ::sled::Db) {}"),
            ("gateway/src/lib.rs", "extern crate sled;"),
        ],
        innocent: &[
            ("gateway/src/store/view.rs", "use sled::Db;"),
            ("gateway/src/console/mod.rs", "/// sled::Db\nfn sled() { let sled = 1; f(sled) }"),
        ],
    },
    ImportRule {
        name: "rumqttc only in the broker client and in upload",
        concerns: |file| {
            let may = ["gateway/src/terminals/mqtt/broker", "gateway/src/upload", "tests/"];
            !may.iter().any(|start| file.starts_with(start))
        },
        forbids: |mention| mention.is_in(&["rumqttc"]),
        planted: &[("gateway/src/terminals/mqtt/mod.rs", "use rumqttc::AsyncClient;")],
        innocent: &[
            ("gateway/src/terminals/mqtt/broker.rs", "use rumqttc::AsyncClient;"),
            ("gateway/src/upload/profiles/terminal_mqtt.rs", "fn f(_: rumqttc::Event) {}"),
        ],
    },
    ImportRule {
        name: "tokio-serial only in the line shell",
        concerns: |file| !file.starts_with("gateway/src/terminals/line") && !file.starts_with("tests/"),
        forbids: |mention| mention.is_in(&["tokio_serial"]),
        planted: &[("gateway/src/terminals/mod.rs", "use tokio_serial::SerialStream;")],
        innocent: &[("gateway/src/terminals/line/port.rs", "use tokio_serial::SerialStream;")],
    },
    ImportRule {
        name: "only the clock asks the time",
        concerns: |file| file != "gateway/src/clock.rs",
        forbids: |mention| {
            let clocks = ["Instant", "SystemTime", "Timestamp", "Zoned", "Utc", "Local"];
            clocks.iter().any(|clock| mention.ends_with(&[clock, "now"]))
        },
        planted: &[
            ("gateway/src/verify/mod.rs", "fn f() { let at = std::time::Instant::now(); }"),
            ("firmware/src/lib.rs", "fn f() { g(SystemTime::now()) }"),
            ("tests/harness/face.rs", "fn f() { assert!(jiff::Timestamp::now() > at) }"),
        ],
        innocent: &[
            ("gateway/src/clock.rs", "fn f() { Instant::now(); }"),
            ("gateway/src/verify/mod.rs", "use std::time::Instant; fn f(now: Instant) { clock.now() }"),
        ],
    },
    ImportRule {
        name: "anyhow only in main",
        concerns: |file| !file.ends_with("/main.rs"),
        forbids: |mention| mention.is_in(&["anyhow"]),
        planted: &[("gateway/src/config/mod.rs", "fn f() -> anyhow::Result<()> { anyhow::bail!(\"no\") }")],
        innocent: &[("gateway/src/main.rs", "use anyhow::Context;")],
    },
    ImportRule {
        name: "the gateway does not know the firmware",
        concerns: |file| file.starts_with("gateway/"),
        forbids: |mention| mention.is_in(&["firmware"]),
        planted: &[
            ("gateway/src/terminals/line/reader.rs", "use firmware::Reader;"),
            ("gateway/tests/line.rs", "use firmware::Reader;"),
        ],
        innocent: &[
            ("gateway/src/terminals/line/reader.rs", "struct Health { firmware: String }"),
            ("tests/harness/reader.rs", "use firmware::Reader;"),
        ],
    },
    ImportRule {
        name: "the firmware does not know the gateway",
        concerns: |file| file.starts_with("firmware/"),
        forbids: |mention| mention.is_in(&["gateway"]) || mention.is_in(&["harness"]),
        planted: &[("firmware/src/journal.rs", "fn f(_: gateway::punch::Badge) {}")],
        innocent: &[("firmware/src/journal.rs", "use protocol::Punch; // for the gateway::store")],
    },
    ImportRule {
        name: "the protocol knows neither",
        concerns: |file| file.starts_with("protocol/"),
        forbids: |mention| ["gateway", "firmware", "harness"].iter().any(|name| mention.is_in(&[name])),
        planted: &[
            ("protocol/src/lib.rs", "use firmware::Reader;"),
            ("protocol/tests/v1.rs", "use gateway::punch::Badge;"),
        ],
        innocent: &[("protocol/src/lib.rs", "mod frame; use crate::frame::Frame; use self::frame as firmware;")],
    },
];

impl ImportRule {
    /// Where the rule does not hold. A file that is no Rust breaks every rule that concerns it.
    pub fn violations(&self, tree: &Tree) -> Vec<Violation> {
        let concerned = tree.rust().filter(|(file, _)| (self.concerns)(file));
        concerned.flat_map(|(file, source)| self.violations_in(file, source)).collect()
    }

    fn violations_in(&self, file: &str, source: &str) -> Vec<Violation> {
        let names = match names(source, &module(file)) {
            Ok(names) => names,
            Err(error) => return vec![Violation::new(file, 0, error)],
        };
        let broken = names.mentions.iter().filter(|mention| (self.forbids)(mention));
        broken.map(|mention| Violation::new(file, mention.line, mention.path.join("::"))).collect()
    }
}

impl Mention {
    /// Whether it names something in this module, or imports everything from a module around it.
    fn is_in(&self, module: &[&str]) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        match path.split_last() {
            Some((&"*", around)) if around.len() < module.len() => module.starts_with(around) && !around.is_empty(),
            _ => path.starts_with(module),
        }
    }

    fn starts_with(&self, start: &[&str]) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        path.starts_with(start)
    }

    fn ends_with(&self, end: &[&str]) -> bool {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        path.ends_with(end)
    }
}

/// `unsafe` is for the board modules of the firmware, which touch registers.
pub fn unsafe_code(tree: &Tree) -> Vec<Violation> {
    let others = tree.rust().filter(|(file, _)| !file.starts_with("firmware/src/board"));
    let lines = |(file, source): &(String, String)| match names(source, &module(file)) {
        Ok(names) => names.unsafes.into_iter().map(|line| Violation::new(file, line, "unsafe")).collect(),
        Err(error) => vec![Violation::new(file, 0, error)],
    };
    others.flat_map(lines).collect()
}

/// The same in the manifests: a dependency is an import that no file spells.
pub fn manifests(tree: &Tree) -> Vec<Violation> {
    const FORBIDDEN: [(&str, &[&str]); 3] = [
        ("gateway/Cargo.toml", &["firmware", "tests"]),
        ("firmware/Cargo.toml", &["gateway", "tests"]),
        ("protocol/Cargo.toml", &["gateway", "firmware", "tests"]),
    ];
    let mut violations = Vec::new();
    for (file, forbidden) in FORBIDDEN {
        let Some(table) = tree.text(file).and_then(|text| text.parse::<toml::Table>().ok()) else {
            violations.push(Violation::new(file, 0, "is missing or no TOML"));
            continue;
        };
        for name in dependencies(&table).filter(|name| forbidden.contains(name)) {
            violations.push(Violation::new(file, 0, format!("depends on {name}")));
        }
    }
    violations
}

/// Names in every table called `…dependencies`, also below `[target.…]`.
fn dependencies(table: &toml::Table) -> Box<dyn Iterator<Item = &str> + '_> {
    Box::new(table.iter().flat_map(|(key, value)| match value.as_table() {
        Some(inner) if key.ends_with("dependencies") => Box::new(inner.keys().map(String::as_str)),
        Some(inner) => dependencies(inner),
        None => Box::new(std::iter::empty()),
    }))
}

/// `gateway/src/store/mod.rs` is `gateway::store`, `tests/harness/gateway/setup.rs` is `harness::gateway::setup`.
fn module(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let path = match path.strip_prefix("tests/").or_else(|| path.split_once("/tests/").map(|(_, rest)| rest)) {
        Some(test) => test.to_owned(),
        None => path.replacen("/src/", "/", 1),
    };
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    match parts.last().map(String::as_str) {
        Some("main") => return vec!["main".to_owned()],
        Some("lib" | "mod") if parts.len() > 1 => drop(parts.pop()),
        _ => {}
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_tells_its_module() {
        let told = |file| module(file).join("::");
        assert_eq!(told("gateway/src/lib.rs"), "gateway");
        assert_eq!(told("gateway/src/store/mod.rs"), "gateway::store");
        assert_eq!(told("gateway/src/terminals/hub.rs"), "gateway::terminals::hub");
        assert_eq!(told("gateway/src/main.rs"), "main");
        assert_eq!(told("tests/harness/lib.rs"), "harness");
        assert_eq!(told("tests/harness/gateway/setup.rs"), "harness::gateway::setup");
        assert_eq!(told("protocol/tests/v1.rs"), "v1");
    }

    #[test]
    fn every_rule_sees_what_breaks_it_and_nothing_else() {
        for rule in RULES {
            assert!(!rule.planted.is_empty(), "{}: nothing proves that it can go red", rule.name);
            for planted in rule.planted {
                assert!(!rule.violations(&Tree::of(&[*planted])).is_empty(), "{}: blind for {planted:?}", rule.name);
            }
            for innocent in rule.innocent {
                assert_eq!(rule.violations(&Tree::of(&[*innocent])), [], "{}", rule.name);
            }
        }
    }

    #[test]
    fn a_file_that_is_no_rust_does_not_slip_through() {
        let broken = Tree::of(&[("gateway/src/terminals/mod.rs", "fn f( {")]);
        assert!(RULES.iter().any(|rule| !rule.violations(&broken).is_empty()));
    }

    #[test]
    fn unsafe_code_is_seen_outside_the_boards() {
        assert_eq!(unsafe_code(&Tree::of(&[("gateway/src/lib.rs", "\nfn f() { unsafe { g() } }")]))[0].line, 2);
        assert_eq!(unsafe_code(&Tree::of(&[("firmware/src/lib.rs", "#[unsafe(no_mangle)] fn f() {}")])).len(), 1);
        assert_eq!(unsafe_code(&Tree::of(&[("firmware/src/board/rp2040.rs", "fn f() { unsafe { g() } }")])), []);
        assert_eq!(unsafe_code(&Tree::of(&[("gateway/src/lib.rs", "// unsafe\nfn f() { \"unsafe\" }")])), []);
    }

    #[test]
    fn a_forbidden_dependency_is_seen_in_every_table() {
        let tree = Tree::of(&[
            ("gateway/Cargo.toml", "[dependencies]\nprotocol = {}\n"),
            ("firmware/Cargo.toml", "[dev-dependencies]\ngateway = {}\n"),
            ("protocol/Cargo.toml", "[target.'cfg(unix)'.dependencies]\nfirmware = {}\n"),
        ]);
        let seen: Vec<String> = manifests(&tree).into_iter().map(|violation| violation.file).collect();
        assert_eq!(seen, ["firmware/Cargo.toml", "protocol/Cargo.toml"]);
    }
}
