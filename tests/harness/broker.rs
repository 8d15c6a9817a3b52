//! mosquitto from Debian as the external broker, on a loopback port.
