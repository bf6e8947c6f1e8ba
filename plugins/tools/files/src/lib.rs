//! Tools: files
