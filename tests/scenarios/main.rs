//! Stories about a whole site, one file each.

mod reader_line;
mod serial_port;
