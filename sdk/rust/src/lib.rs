//! Write vteam tools in Rust: one trait, one macro
