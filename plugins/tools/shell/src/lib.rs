//! Tools: shell
