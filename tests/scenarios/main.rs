//! Stories about a whole site, one file each.

#[cfg(test)]
mod approve;
#[cfg(test)]
mod bad_day;
#[cfg(test)]
mod beijing_time;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod gateway_away;
#[cfg(test)]
mod intruder;
#[cfg(test)]
mod mqtt_link;
#[cfg(test)]
mod platform_away;
#[cfg(test)]
mod reader_latency;
#[cfg(test)]
mod reader_line;
#[cfg(test)]
mod registered_later;
#[cfg(test)]
mod restored_box;
#[cfg(test)]
mod serial_port;
#[cfg(test)]
mod service;
#[cfg(test)]
mod upload;
#[cfg(test)]
mod whole_story;
#[cfg(test)]
mod wrong_input;
