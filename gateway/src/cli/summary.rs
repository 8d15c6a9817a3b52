//! What a right configuration sets up, in a few lines.

use std::fmt::Write;

use gateway::config::{Config, MqttTransport};

/// The lines that `check` prints.
pub fn of(config: &Config) -> String {
    let mut text = String::new();
    lines(config, &mut text).expect("writing to a String cannot fail");
    text
}

fn lines(config: &Config, out: &mut String) -> std::fmt::Result {
    match &config.file {
        Some(file) => writeln!(out, "{}: nothing is wrong", file.display())?,
        None => writeln!(out, "no configuration file: built-in defaults")?,
    }
    writeln!(out, "data       {}", config.data_dir.display())?;
    writeln!(out, "key        {}", config.store.key.path.display())?;
    if config.store.key.is_inside(&config.data_dir) {
        writeln!(out, "           whoever takes the disk takes the key with it: see [store] key_file")?;
    }
    writeln!(out, "console    http://{}/", config.console.listen)?;
    match &config.mqtt.transport {
        MqttTransport::Embedded { listen, .. } => writeln!(out, "mqtt       embedded endpoint on {listen}")?,
        MqttTransport::Broker { url, .. } => writeln!(out, "mqtt       broker {url}")?,
    }
    for terminal in &config.terminals {
        writeln!(out, "terminal   {} ({} {})", terminal.id, terminal.protocol.as_str(), terminal.serial)?;
    }
    for line in &config.lines {
        let terminals = line.terminals.iter().map(|terminal| terminal.id.as_str()).collect::<Vec<_>>().join(", ");
        writeln!(
            out,
            "line       {} ({}, {} baud): {terminals}",
            line.path.display(),
            line.protocol.as_str(),
            line.baud
        )?;
        if line.accept_unkeyed {
            writeln!(
                out,
                "           WARNING: readers without a key are accepted; anyone on the wire can forge punches"
            )?;
        }
    }
    for employer in &config.employers {
        writeln!(out, "employer   {} ({})", employer.name, employer.credit_code)?;
    }
    for platform in &config.platforms {
        writeln!(out, "platform   {} ({})", platform.name, platform.endpoint)?;
    }
    if config.platforms.is_empty() {
        writeln!(out, "platform   none: punches are kept and nothing is uploaded")?;
    }
    Ok(())
}
