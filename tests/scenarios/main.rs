//! Stories about a whole site, one file each.
//!
//! Marked as tests one by one, because clippy allows `unwrap` only below such a mark.

#[cfg(test)]
mod mqtt_link;
#[cfg(test)]
mod reader_line;
#[cfg(test)]
mod serial_port;
#[cfg(test)]
mod service;
#[cfg(test)]
mod upload;
