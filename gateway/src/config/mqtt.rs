//! `[mqtt]`: the embedded endpoint or an external broker, never both.

use super::check::{has_login, is_serial, is_topic_prefix, url_fault};
use super::reader::Section;
use super::{DEFAULT_MQTT, Mqtt, MqttTransport, Secret};

pub fn mqtt(mut section: Section<'_>) -> Mqtt {
    let password = section.secret_file("password_file");
    let topic_prefixes = topic_prefixes(&mut section);
    let max_packet_kib = section.integer("max_packet_kib", 64..=65_536).unwrap_or(8_192);
    let embedded = embedded(&mut section, password.clone());
    let broker = broker(&mut section, password);
    let transport = match broker {
        Some(broker) => {
            refuse(
                &mut section,
                &["listen", "trust_client_id"],
                "belongs to the embedded endpoint, and `broker` is set",
            );
            broker
        }
        None if section.has("broker") => embedded,
        None => {
            refuse(&mut section, &["client_id", "username"], "belongs to an external broker, and no `broker` is set");
            embedded
        }
    };
    section.finish();
    Mqtt { transport, topic_prefixes, max_packet_kib }
}

fn embedded(section: &mut Section<'_>, password: Option<Secret>) -> MqttTransport {
    let listen = section.socket("listen", DEFAULT_MQTT);
    let trust_client_id = section.flag("trust_client_id").unwrap_or(listen.ip().is_loopback());
    MqttTransport::Embedded { listen, trust_client_id, password }
}

fn broker(section: &mut Section<'_>, password: Option<Secret>) -> Option<MqttTransport> {
    let client_id = section.text("client_id").unwrap_or_else(|| "anxin-gateway".to_owned());
    if !is_serial(&client_id) {
        let remedy = "write letters and digits, no spaces, at most 64";
        section.problem("client_id", Some(client_id.clone()), "is no client id", remedy);
    }
    let username = section.text("username");
    let url = section.text("broker")?;
    if let Some(fault) = url_fault(&url, &["mqtt", "mqtts"]) {
        let shown = (!has_login(&url)).then(|| url.clone());
        let remedy = "write for example \"mqtt://127.0.0.1:1883\"; the login goes into username and password_file";
        section.problem("broker", shown, &fault, remedy);
    }
    Some(MqttTransport::Broker { url, client_id, username, password })
}

fn refuse(section: &mut Section<'_>, keys: &[&'static str], why: &str) {
    for key in keys {
        if section.has(key) {
            section.problem(key, None, why, &format!("remove `{key}`, or the other"));
        }
    }
}

fn topic_prefixes(section: &mut Section<'_>) -> Vec<String> {
    let prefixes = section.texts("topic_prefixes", &["mqtt/face"]);
    if prefixes.is_empty() {
        section.problem("topic_prefixes", None, "is an empty list", "name at least one, for example [\"mqtt/face\"]");
    }
    for prefix in prefixes.iter().filter(|prefix| !is_topic_prefix(prefix)) {
        let remedy =
            "write topic levels without wildcards and without a slash at either end, for example \"mqtt/face\"";
        section.problem("topic_prefixes", Some(prefix.clone()), "is no beginning of a topic", remedy);
    }
    prefixes
}
