//! `reader`: our own badge readers, from the bench to a new program.

pub mod pair;
pub mod sign;
pub mod update;
