//! Stories about a whole site, one file each.

mod bad_day;
mod mqtt_link;
mod reader_line;
mod serial_port;
mod service;
