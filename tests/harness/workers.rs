//! Invented workers for a roster.
