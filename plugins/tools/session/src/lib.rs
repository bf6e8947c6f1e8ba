//! Tools: session
