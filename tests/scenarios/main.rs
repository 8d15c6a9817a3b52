//! Stories about a whole site, one file each.

#[cfg(test)]
mod mqtt_link;
mod reader_line;
mod serial_port;
