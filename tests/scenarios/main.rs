//! Stories of a whole site, one file per story.
#[cfg(test)]
mod upload;
