//! Scenarios: one file per story.

mod mqtt_link;
