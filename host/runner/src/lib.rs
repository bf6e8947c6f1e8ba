//! The process `vteam-runner`, one per session: agent loop, context, tool dispatch, workspace.
//!
//! It is told who it is after it started, has no credential but its own, and reaches nothing but its server, its
//! launcher's socket, and its session's folders. What the agent does goes through components; what they may do is decided
//! here and by the server. Deliberately absent: a compiler, a client of any other server, a resolver, native
//! programs of its own.
//!
//! In a pod it is the first process of the container `runner`, and `vteam-exec` of the container `tools` ([`confine::launch`]);
//! neither starts the other, and each may restart on its own. The command lines are
//!
//! ```text
//! vteam-runner --install-launcher /run/vteam --exec-socket /run/vteam/exec.sock
//!     --connect https://ADDRESS:PORT --server-name NAME
//!     --ca /run/secrets/vteam/ca.crt --token-file /run/secrets/vteam/token
//!     --session-dir /var/lib/vteam-session --workspace /workspace --grace 25
//! /bin/sh -c 'until [ -x /run/vteam/vteam-exec ]; do sleep 0.05; done; exec /run/vteam/vteam-exec "$@"' vteam-exec
//!     --listen /run/vteam/exec.sock --workspace /workspace --home /home/vteam --tmp /tmp
//! ```
//!
//! and the mounts:
//!
//! | path | runner | tools |
//! | --- | --- | --- |
//! | `/run/vteam`, the launcher and its socket | yes | yes |
//! | `/workspace` | yes | yes |
//! | `/var/lib/vteam-session`, journal and baseline | yes | no |
//! | `/run/secrets/vteam`, token and authority, read-only | yes | no |
//! | `/home/vteam`, `/tmp` | no | yes |
//!
//! Both have a read-only root, no capability and one user; no environment variable is read.

pub mod agent;
pub mod assemble;
pub mod beneath;
pub mod changes;
pub mod conversation;
pub mod dial;
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
