//! The process `vteam-runner`, one per session: agent loop, context, tool dispatch, workspace.
//!
//! It is told who it is after it started, has no credential but its own, and reaches nothing but its server's socket,
//! its launcher's, and its session's folder. What the agent does goes through components; what they may do is decided
//! here and by the server. Deliberately absent: a compiler, a network client, native programs of its own.

pub mod agent;
pub mod assemble;
pub mod beneath;
pub mod changes;
pub mod conversation;
pub mod diff;
pub mod host;
pub mod http;
pub mod journal;
pub mod link;
pub mod past;
pub mod process;
pub mod prompt;
pub mod session;
pub mod settings;
pub mod strict;
pub mod tools;
pub mod workspace;
