//! A simulated reader: the real firmware logic behind a pty.
