//! What waits for approval, as a person reads it: made by the host from its own records, never cut.

use model::{approval::Subject, render};

/// Many lines, harmless on a terminal and in a page's text.
#[must_use]
pub fn rendered(subject: &Subject) -> String {
    match subject {
        Subject::Process { argv, cwd, network, env, stdin } => {
            let mut text =
                format!("{}\n  in {}\n  network: {network}", render::argv(argv), render::terminal(cwd));
            for (name, value) in env {
                let name = render::terminal(&name.as_str().into());
                text.push_str(&format!("\n  with {name}={}", render::terminal(value)));
            }
            if let Some(stdin) = stdin {
                text.push_str(&format!("\n  reads:\n{}", render::terminal(stdin)));
            }
            text
        }
        Subject::Fetch { method, url } => format!("{method} {}", render::terminal(url)),
        Subject::Changes { files } => {
            files.iter().map(|file| render::terminal(&file.diff)).collect::<Vec<_>>().join("\n")
        }
        Subject::Other(value) => render::terminal(&value.to_string().into()),
    }
}
