//! Scenarios: one file per story.

#[cfg(test)]
mod mqtt_link;
