//! The vteam command
