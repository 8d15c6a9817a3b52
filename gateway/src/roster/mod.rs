//! The site's roster: what a row of the CSV means, and which numbers are right.
