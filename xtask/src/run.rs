//! Running other programs, and saying what is going on.

use anyhow::{Context, bail};
use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
};

/// A program whose failure is an error that names it.
pub(crate) struct Run(Command);

impl Run {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self(Command::new(program))
    }

    /// The cargo that runs this very program, in the repository, without what it set for us: that would make it rebuild.
    pub(crate) fn cargo() -> Self {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(crate::machine::repository());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_")
                || text.starts_with("CARGO_MANIFEST_")
                || text == "CARGO_CRATE_NAME"
            {
                command.env_remove(name);
            }
        }
        Self(command)
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.0.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.0.current_dir(dir);
        self
    }

    pub(crate) fn into_command(self) -> Command {
        self.0
    }

    /// Runs it with our terminal.
    pub(crate) fn go(mut self) -> anyhow::Result<()> {
        let status = self.0.status().with_context(|| format!("cannot start {}", self.line()))?;
        if !status.success() {
            bail!("{} failed ({status})", self.line());
        }
        Ok(())
    }

    /// Runs it and gives what it wrote to stdout; its stderr is ours.
    pub(crate) fn text(mut self) -> anyhow::Result<String> {
        let output = self.0.stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("cannot start {}", self.line()))?;
        if !output.status.success() {
            bail!("{} failed ({})", self.line(), output.status);
        }
        String::from_utf8(output.stdout).with_context(|| format!("{} wrote no UTF-8", self.line()))
    }

    /// Whether it runs and succeeds, silently.
    pub(crate) fn succeeds(mut self) -> bool {
        let quiet = self.0.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }

    fn line(&self) -> String {
        let words = std::iter::once(self.0.get_program()).chain(self.0.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

#[expect(clippy::print_stderr, reason = "a build tool talks to the person who started it")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// A step of something longer.
pub(crate) fn step(text: &str) {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        say(&format!("\u{1b}[1;36m==>\u{1b}[0m \u{1b}[1m{text}\u{1b}[0m"));
    } else {
        say(&format!("==> {text}"));
    }
}
