//! The real gateway as a process: started, asked, killed.
