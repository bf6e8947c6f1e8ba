//! Tools: web
