//! The process vteam-compile: component in, native code out, confined and without secrets
