//! Simulated `mqtt-face` terminals.
