//! The reference platform: what a national platform does to a gateway, and a book of what it accepted.
