//! The process vteam-runner: one per session; agent loop, context, tool dispatch, workspace
