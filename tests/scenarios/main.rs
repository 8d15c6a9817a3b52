//! Stories about a whole site, one file each.

mod mqtt_link;
mod reader_line;
mod serial_port;
mod service;
mod upload;
