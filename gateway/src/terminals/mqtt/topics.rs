//! Topics of the face family: `{prefix}/{id}` down, `{prefix}/{id}/{kind}` and the shared `{prefix}/basic` and
//! `{prefix}/heartbeat` up. Never a wildcard over our own commands.

/// What a publication under a terminal's own id is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnKind {
    Ack,
    Rec,
    Snap,
    Card,
    QrCode,
    IdCard,
    Alarm,
}

const OWN_KINDS: [(&str, OwnKind); 7] = [
    ("Ack", OwnKind::Ack),
    ("Rec", OwnKind::Rec),
    ("Snap", OwnKind::Snap),
    ("Card", OwnKind::Card),
    ("QRCode", OwnKind::QrCode),
    ("IDCard", OwnKind::IdCard),
    ("Alarm", OwnKind::Alarm),
];

const SHARED: [&str; 2] = ["basic", "heartbeat"];

/// Longest id accepted from a terminal; real ones have 7 to 16 characters.
const MAX_ID: usize = 64;

/// A topic that a terminal may publish to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic<'a> {
    /// `{prefix}/basic` or `{prefix}/heartbeat`: the message names the terminal.
    Shared { prefix: &'a str },
    /// `{prefix}/{id}/{kind}`: the topic names the terminal.
    Own { prefix: &'a str, id: &'a str, kind: OwnKind },
}

impl<'a> Topic<'a> {
    /// The configured prefix that it stands under.
    pub fn prefix(self) -> &'a str {
        match self {
            Topic::Shared { prefix } | Topic::Own { prefix, .. } => prefix,
        }
    }
}

/// The configured prefixes.
#[derive(Clone, Debug)]
pub struct Topics {
    prefixes: Vec<String>,
}

impl Topics {
    /// With these prefixes, for example `mqtt/face`.
    pub fn new(prefixes: &[String]) -> Topics {
        Topics { prefixes: prefixes.iter().map(|prefix| prefix.trim_end_matches('/').to_owned()).collect() }
    }

    /// The first prefix: the one used for a terminal that has not said anything yet.
    pub fn default_prefix(&self) -> &str {
        self.prefixes.first().map_or("mqtt/face", String::as_str)
    }

    /// Reads a topic that a terminal published to; `None` when it is not one of ours.
    pub fn parse<'a>(&'a self, topic: &'a str) -> Option<Topic<'a>> {
        self.prefixes.iter().find_map(|prefix| Self::parse_under(prefix, topic))
    }

    fn parse_under<'a>(prefix: &'a str, topic: &'a str) -> Option<Topic<'a>> {
        let rest = topic.strip_prefix(prefix)?.strip_prefix('/')?;
        if SHARED.contains(&rest) {
            return Some(Topic::Shared { prefix });
        }
        let (id, kind) = rest.split_once('/')?;
        let (_, kind) = OWN_KINDS.into_iter().find(|(name, _)| *name == kind)?;
        is_serial(id).then_some(Topic::Own { prefix, id, kind })
    }

    /// Whether a subscription reaches nothing but what is sent down to `serial`.
    pub fn is_own_subscription(&self, filter: &str, serial: &str) -> bool {
        self.prefixes.iter().any(|prefix| filter == down(prefix, serial))
    }

    /// What to subscribe to on an external broker. Not `#`: that would bring our own commands back.
    pub fn filters(&self) -> Vec<String> {
        let under = |prefix: &String| {
            let shared = SHARED.map(|name| format!("{prefix}/{name}"));
            let own = OWN_KINDS.map(|(name, _)| format!("{prefix}/+/{name}"));
            shared.into_iter().chain(own)
        };
        self.prefixes.iter().flat_map(under).collect()
    }
}

/// Where commands and acknowledgements for a terminal are published.
pub fn down(prefix: &str, serial: &str) -> String {
    format!("{prefix}/{serial}")
}

/// Whether this text can be a terminal's id: it fits one topic level, is no wildcard, and is not a shared topic's name.
pub fn is_serial(text: &str) -> bool {
    let fits = !text.is_empty() && text.len() <= MAX_ID;
    fits && text.bytes().all(|b| b.is_ascii_graphic() && !b"/+#\"\\".contains(&b)) && !SHARED.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Topics {
        Topics::new(&["mqtt/face".to_owned(), "site/face/".to_owned()])
    }

    #[test]
    fn topics_of_terminals_are_read_under_every_prefix() {
        let topics = topics();
        assert_eq!(topics.parse("mqtt/face/basic"), Some(Topic::Shared { prefix: "mqtt/face" }));
        let rec = topics.parse("site/face/1306612/Rec");
        assert_eq!(rec, Some(Topic::Own { prefix: "site/face", id: "1306612", kind: OwnKind::Rec }));
    }

    #[test]
    fn our_own_commands_and_foreign_topics_are_not_read() {
        let topics = topics();
        for topic in
            ["mqtt/face/1306612", "mqtt/face/1306612/Rec/x", "mqtt/face//Rec", "mqtt/face/a/Other", "x/basic", ""]
        {
            assert_eq!(topics.parse(topic), None, "{topic}");
        }
    }

    #[test]
    fn nobody_subscribes_to_more_than_his_own_commands() {
        let topics = topics();
        assert!(topics.is_own_subscription("mqtt/face/1306612", "1306612"));
        for filter in
            ["mqtt/face/#", "mqtt/face/+", "#", "mqtt/face/1306613", "mqtt/face/1306612/#", "mqtt/face/1306612/Rec"]
        {
            assert!(!topics.is_own_subscription(filter, "1306612"), "{filter}");
        }
    }

    #[test]
    fn the_broker_is_never_asked_for_our_own_commands() {
        let filters = topics().filters();
        assert_eq!(filters.len(), 18);
        assert!(filters.iter().all(|filter| !filter.contains('#')));
        assert!(filters.contains(&"mqtt/face/+/Ack".to_owned()));
    }

    #[test]
    fn a_serial_is_one_plain_topic_level() {
        assert!(is_serial("005a213b000b93cc"));
        for text in ["", "a/b", "+", "a#", "basic", "heartbeat", "a b", "名"] {
            assert!(!is_serial(text), "{text}");
        }
        assert!(!is_serial(&"9".repeat(65)));
    }
}
