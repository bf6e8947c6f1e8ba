//! Generated documents, for `cargo xtask codegen`.

use crate::{
    args::{Cli, DocsVerb},
    exit::Outcome,
    settings::Settings,
};
use clap::{Command, CommandFactory};

pub(super) fn run(settings: &Settings, verb: DocsVerb) -> Outcome {
    match verb {
        DocsVerb::Openapi => settings.output.text(&server::openapi::document()),
        DocsVerb::Cli => settings.output.text(&reference()),
    }
}

const COMMAND: &str = "vteam";

const HEAD: &str = "\
# The command `vteam`

Written by `cargo xtask codegen` from the command itself. The options of `vteam` hold for every verb; they are not repeated below.

Every verb takes `--json`. Streams are then one event of the log per line; everything else is one JSON document.
Colours and prompts appear only on a terminal; `NO_COLOR` switches colours off.

At a request for approval, type `o` or `y` to allow it once, `s` to allow the same for the session, `d` or `n` and a reason to
decline. Ctrl-C in `run` interrupts the run, and a second one leaves it alone; in `attach` and `logs -f` it only leaves.
`run` takes the server of the data folder; where none runs, it starts one that ends with it, and other sessions go on when
`vteam up` runs.

## Another server

* `--server https://HOST` with a token (`--token-file`, or `VTEAM_TOKEN`). `--ca FILE` is then the only CA that is trusted; without it
  the system's are. A token as an argument (`--token`) can be read by everybody on the machine.
* `--context NAME` of the kubeconfig: a port of the server is forwarded through the cluster's API server, with TLS up to the server
  itself, which is known by the CA that it publishes (`vteam-server-ca`). The project is the context's namespace where
  `--project` names no other. The server is shown your own token: that of the kubeconfig, of its file or of its plugin. Where
  you are known by a client certificate there is none, so name an account of the project (`--service-account NAME`): a token of it is asked
  for, for ten minutes at a time, and **sessions then belong to that account**. You need the role `vteam-connect` in the
  server's namespace.
* Such a server does not see this machine's folders: `run --dir` sends a copy of the folder, without `.git` and what ignore
  files leave out, of at most 512 MiB when compressed and in at most two minutes. What changed comes back as ever: `--apply`, the question
  at the end, or `vteam sessions apply NAME --to FOLDER`.
* A stream that breaks is taken up where it was, also when the server's pod is replaced.
* `vteam doctor --context NAME` says what a cluster lacks; `?` is what you may not look at.
* `vteam install --render --registry PREFIX | kubectl apply --server-side -f -` installs what this command was built with, its images
  pulled from PREFIX/server and so on.

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed, for a reason without a code of its own |
| 2 | the command line, or a file or field that it names, does not make sense |
| 3 | the run, the session, or the tool of `plugins call` failed |
| 4 | there is no such session, plugin, file |
| 5 | conflict: a file was changed meanwhile, a name is taken, the session is not in that state |
| 6 | no server answers, or none has run here yet |
| 7 | the token is missing or wrong |
| 8 | policy refuses it |
| 9 | `doctor` found something that does not hold |
| 130 | interrupted |

## Environment

| variable | meaning |
|---|---|
| `VTEAM_DATA_DIR`, `VTEAM_SERVER`, `VTEAM_CA`, `VTEAM_TOKEN`, `VTEAM_TOKEN_FILE`, `VTEAM_CONTEXT`, `VTEAM_SERVICE_ACCOUNT`, `VTEAM_SYSTEM_NAMESPACE`, `VTEAM_PROJECT`, `VTEAM_LOG` | as the flags of the same names |
| `KUBECONFIG` | the kubeconfig of `--context`; several are merged as kubectl does |
| `ANTHROPIC_API_KEY` | key for Anthropic's models, for `up` and `run`; never given to a session |
| `ANTHROPIC_BASE_URL` | another address of the same API, which gets that key |
| `VTEAM_MODEL_URL`, `VTEAM_MODEL_KEY`, `VTEAM_MODEL_API` | another model API, its key, and `anthropic` or `openai`; it never gets `ANTHROPIC_API_KEY` |
| `VTEAM_MODEL` | model for sessions that name none |
| `VTEAM_BIN_DIR`, `VTEAM_PLUGINS_DIR` | where the other programs and the first-party plugins are |

";

fn reference() -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut out = HEAD.to_owned();
    section(&command, COMMAND, &mut out);
    out
}

fn section(command: &Command, path: &str, out: &mut String) {
    let mut command = command.clone().bin_name(path);
    if path != COMMAND {
        command = command.mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
    }
    let help = command.render_long_help().to_string();
    out.push_str(&format!("## `{path}`\n\n```text\n{}\n```\n\n", help.trim_end()));
    for below in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        section(below, &format!("{path} {}", below.get_name()), out);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_reference_is_this_one() {
        let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
        let kept = std::fs::read_to_string(kept).unwrap_or_default();
        assert!(kept == super::reference(), "docs/cli.md is not up to date: run `cargo xtask codegen`");
    }
}
