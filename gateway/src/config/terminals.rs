//! `[[terminal]]` and `[[line]]`: everything that may deliver punches.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::check::{Seen, is_name, is_serial};
use super::reader::Section;
use super::{DirectionRule, Key128, Line, LineProtocol, LineTerminal, NetworkProtocol, NetworkTerminal};
use crate::punch::TerminalId;

/// Known protocols that this version does not speak yet.
const LATER_ON_NETWORK: [&str; 4] = ["huaan", "adms", "uniubi", "isapi"];
const LATER_ON_LINES: [&str; 4] = ["osdp", "wiegand-ascii", "qr", "sam-v"];

const BAUD: RangeInclusive<u32> = 300..=4_000_000;

/// Ids and serials are unique over all terminals, paths over all lines.
#[derive(Default)]
pub struct Names {
    ids: Seen,
    serials: Seen,
    paths: Seen,
}

pub fn network(sections: Vec<Section<'_>>, names: &mut Names) -> Vec<NetworkTerminal> {
    sections.into_iter().filter_map(|section| network_terminal(section, names)).collect()
}

fn network_terminal(mut section: Section<'_>, names: &mut Names) -> Option<NetworkTerminal> {
    let id = id(&mut section, names);
    let serial = serial(&mut section, names);
    let protocol = required_choice(&mut section, &[("mqtt-face", NetworkProtocol::MqttFace)], &LATER_ON_NETWORK);
    let direction = direction(&mut section);
    let password = section.secret_file("password_file");
    section.finish();
    Some(NetworkTerminal { id: id?, protocol: protocol?, serial: serial?, direction: direction?, password })
}

pub fn lines(sections: Vec<Section<'_>>, names: &mut Names) -> Vec<Line> {
    sections.into_iter().filter_map(|section| line(section, names)).collect()
}

fn line(mut section: Section<'_>, names: &mut Names) -> Option<Line> {
    let path = section.required("path", "\"/dev/serial/by-path/…\"");
    if let Some(path) = &path {
        names.paths.claim(&section, "path", path, "give every serial port to one line");
    }
    let protocols =
        [("reader", LineProtocol::Reader), ("rdm6300", LineProtocol::Rdm6300), ("ascii", LineProtocol::Ascii)];
    let protocol = required_choice(&mut section, &protocols, &LATER_ON_LINES);
    let baud = section.integer("baud", BAUD);
    let accept_unkeyed = section.flag("accept_unkeyed").unwrap_or(false);
    let inner = section.sections("terminals");
    let count = inner.len();
    let rules = protocol.map(|protocol| LineRules { protocol, accept_unkeyed });
    let mut addresses = BTreeMap::new();
    let terminals = inner.into_iter().filter_map(|inner| line_terminal(inner, rules, names, &mut addresses)).collect();
    if let Some(rules) = rules {
        check_line(&mut section, rules, count);
    }
    section.finish();
    let protocol = protocol?;
    let baud = baud.unwrap_or(usual_baud(protocol));
    Some(Line { path: PathBuf::from(path?), baud, protocol, terminals, accept_unkeyed })
}

/// What the protocol of a line demands of its terminals.
#[derive(Clone, Copy)]
struct LineRules {
    protocol: LineProtocol,
    accept_unkeyed: bool,
}

impl LineRules {
    /// Only readers share a line; they have addresses and keys.
    fn is_bus(self) -> bool {
        match self.protocol {
            LineProtocol::Reader => true,
            LineProtocol::Rdm6300 | LineProtocol::Ascii => false,
        }
    }
}

fn usual_baud(protocol: LineProtocol) -> u32 {
    match protocol {
        LineProtocol::Reader => 115_200,
        LineProtocol::Rdm6300 | LineProtocol::Ascii => 9_600,
    }
}

fn check_line(section: &mut Section<'_>, rules: LineRules, count: usize) {
    let example = "[ { id = \"south-in\", serial = \"R0001\", direction = \"in\" } ]";
    if !section.has("terminals") {
        section.missing("terminals", example);
    } else if count == 0 {
        section.problem("terminals", None, "names no terminal", &format!("write terminals = {example}"));
    } else if count > 1 && !rules.is_bus() {
        let problem =
            format!("names {count} terminals, but the protocol `{}` has no addresses", rules.protocol.as_str());
        section.problem("terminals", None, &problem, "name one terminal per serial port");
    }
    if rules.accept_unkeyed && !rules.is_bus() {
        let problem = format!("has no meaning for the protocol `{}`, which knows no keys", rules.protocol.as_str());
        section.problem("accept_unkeyed", None, &problem, "remove `accept_unkeyed`");
    }
}

fn line_terminal(
    mut section: Section<'_>,
    rules: Option<LineRules>,
    names: &mut Names,
    addresses: &mut BTreeMap<u32, String>,
) -> Option<LineTerminal> {
    let id = id(&mut section, names);
    let serial = serial(&mut section, names);
    let direction = direction(&mut section);
    let address = section.integer("address", FIRST_ADDRESS..=LAST_ADDRESS);
    let key = key(&mut section);
    if let Some(rules) = rules {
        check_address(&mut section, rules, address, addresses);
        check_key(&mut section, rules);
    }
    section.finish();
    let address = address.and_then(|address| u8::try_from(address).ok());
    Some(LineTerminal { id: id?, address, serial: serial?, direction: direction?, key })
}

/// Bus addresses of our own readers, as in `protocol::Address`.
const FIRST_ADDRESS: u32 = 1;
const LAST_ADDRESS: u32 = 247;

fn check_address(
    section: &mut Section<'_>,
    rules: LineRules,
    address: Option<u32>,
    addresses: &mut BTreeMap<u32, String>,
) {
    let protocol = rules.protocol.as_str();
    if !rules.is_bus() {
        if section.has("address") {
            let problem = format!("has no meaning for the protocol `{protocol}`, which knows no addresses");
            section.problem("address", None, &problem, "remove `address`");
        }
        return;
    }
    if !section.has("address") {
        section.missing("address", "1 (as set on the reader)");
    }
    let Some(address) = address else { return };
    match addresses.get(&address) {
        Some(first) => {
            let remedy = "give every reader of a line its own address";
            section.problem("address", Some(address.to_string()), &format!("is used by {first} too"), remedy);
        }
        None => drop(addresses.insert(address, section.dotted("address"))),
    }
}

fn check_key(section: &mut Section<'_>, rules: LineRules) {
    if !rules.is_bus() && section.has("key_file") {
        let problem = format!("has no meaning for the protocol `{}`, which knows no keys", rules.protocol.as_str());
        section.problem("key_file", None, &problem, "remove `key_file`");
    }
    if rules.is_bus() && !rules.accept_unkeyed && !section.has("key_file") {
        section.missing("key_file", "\"the file with the reader's key\" (32 hex digits)");
    }
}

fn key(section: &mut Section<'_>) -> Option<Key128> {
    let text = section.secret_file("key_file")?;
    let mut key = [0; 16];
    if hex::decode_to_slice(&text.0, &mut key).is_err() {
        section.problem("key_file", None, "holds no key", "the file must hold 32 hex digits and nothing else");
        return None;
    }
    Some(Key128(key))
}

fn id(section: &mut Section<'_>, names: &mut Names) -> Option<TerminalId> {
    let id = section.required("id", "\"north-in\"")?;
    names.ids.claim(section, "id", &id, "give every terminal its own id");
    if !is_name(&id) {
        let remedy = "write letters, digits, - _ and . only, at most 64";
        section.problem("id", Some(id.clone()), "cannot be an id", remedy);
    }
    Some(TerminalId(id))
}

fn serial(section: &mut Section<'_>, names: &mut Names) -> Option<String> {
    let serial = section.required("serial", "\"the serial number on the terminal's label\"")?;
    names.serials.claim(section, "serial", &serial, "copy each serial number from its terminal's label");
    if !is_serial(&serial) {
        let remedy = "copy it from the terminal's label: no spaces, none of / + #, at most 64";
        section.problem("serial", Some(serial.clone()), "cannot be a serial number", remedy);
    }
    Some(serial)
}

fn direction(section: &mut Section<'_>) -> Option<DirectionRule> {
    let rules = [DirectionRule::In, DirectionRule::Out, DirectionRule::Terminal, DirectionRule::Alternate];
    if !section.has("direction") {
        section.missing("direction", "\"in\" (in | out | terminal | alternate)");
        return None;
    }
    section.choice("direction", &rules.map(|rule| (rule.as_str(), rule)), &[])
}

fn required_choice<T: Copy>(section: &mut Section<'_>, choices: &[(&str, T)], later: &[&str]) -> Option<T> {
    if !section.has("protocol") {
        let names = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | ");
        section.missing("protocol", &format!("\"{}\" ({names})", choices[0].0));
        return None;
    }
    section.choice("protocol", choices, later)
}
