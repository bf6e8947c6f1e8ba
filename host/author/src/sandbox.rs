//! Running a component once without a server, to have it described or tried: `vteam-compile` makes native code of it, a
//! key of the moment signs that, `vteam-runner` loads and runs it in an empty sandbox.

use ed25519_dalek::{Signer, SigningKey};
use model::id::{Digest, ToolName};
use protocol::artifact::{Signed, Statement};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The two programs, side by side in one folder.
#[derive(Debug, Clone)]
pub struct Sandbox {
    bin_dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("cannot start {program}: is it beside this program, or named by VTEAM_BIN_DIR?")]
    Start {
        program: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot keep the native code for a moment")]
    Temporary(#[source] std::io::Error),
    /// Its own words.
    #[error("{program} refused it: {message}")]
    Refused { program: &'static str, message: String },
    #[error("{0} answered what is not expected: are all programs of the same release?")]
    Answer(&'static str),
}

const COMPILE: &str = "vteam-compile";
const RUNNER: &str = "vteam-runner";

impl Sandbox {
    #[must_use]
    pub fn new(bin_dir: &Path) -> Self {
        Self { bin_dir: bin_dir.to_owned() }
    }

    /// What a component, finished or not, says of itself.
    ///
    /// # Errors
    /// When it is no component of a known world, or its `describe` fails.
    pub fn describe(&self, component: &[u8]) -> Result<String, SandboxError> {
        self.run(component, &["--unfinished"], |runner, native| runner.arg("--describe").arg(native))
    }

    /// One call of a tool of a finished plugin; it may read `workspace` and nothing else. The outcome as JSON.
    ///
    /// # Errors
    /// When the plugin is not admissible or the call fails.
    pub fn call(
        &self,
        plugin: &[u8],
        tool: &ToolName,
        input: &str,
        workspace: Option<&Path>,
    ) -> Result<String, SandboxError> {
        self.run(plugin, &[], |runner, native| {
            runner.arg("--call").arg(native).arg("--tool").arg(tool.as_str()).arg("--input").arg(input);
            if let Some(folder) = workspace {
                runner.arg("--workspace").arg(folder);
            }
            runner
        })
    }

    fn run(
        &self,
        component: &[u8],
        compile_flags: &[&str],
        job: impl for<'c> Fn(&'c mut Command, &Path) -> &'c mut Command,
    ) -> Result<String, SandboxError> {
        let mut compile = Command::new(self.bin_dir.join(COMPILE));
        let compiled = piped(compile.args(compile_flags), COMPILE, component)?;
        let (statement, native) = split(&compiled).ok_or(SandboxError::Answer(COMPILE))?;
        let key = SigningKey::from_bytes(&random().map_err(SandboxError::Temporary)?);
        let signature = hex::encode(key.sign(&statement.signed_bytes()).to_bytes());
        let signed = serde_json::to_string(&Signed { statement, signature })
            .map_err(|_| SandboxError::Answer(COMPILE))?;
        let file = native_file(native).map_err(SandboxError::Temporary)?;
        let mut runner = Command::new(self.bin_dir.join(RUNNER));
        job(&mut runner, file.path());
        runner.arg("--signed").arg(signed).arg("--key").arg(hex::encode(key.verifying_key().to_bytes()));
        let answer = piped(&mut runner, RUNNER, &[])?;
        String::from_utf8(answer).map_err(|_| SandboxError::Answer(RUNNER))
    }
}

fn native_file(bytes: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(bytes)?;
    Ok(file)
}

fn random() -> std::io::Result<[u8; 32]> {
    use std::io::Read;
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Eight bytes of length (big endian), a [`Statement`] of that length as JSON, native code; the statement must be true.
fn split(compiled: &[u8]) -> Option<(Statement, &[u8])> {
    let (length, rest) = compiled.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (header, native) = rest.split_at_checked(length)?;
    let statement: Statement = serde_json::from_slice(header).ok()?;
    (statement.artifact == Digest::of(native)).then_some((statement, native))
}

/// Runs a program in an empty environment, with `input` as its stdin; gives its stdout.
fn piped(command: &mut Command, program: &'static str, input: &[u8]) -> Result<Vec<u8>, SandboxError> {
    let start = |source| SandboxError::Start { program: PathBuf::from(program), source };
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start)?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // Beside reading its output, or both sides could wait for each other. A refusal may come before it read all.
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(input)));
        child.wait_with_output()
    });
    let output = output.map_err(start)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = said(&output.stderr);
    let message = if said.is_empty() { output.status.to_string() } else { said };
    Err(SandboxError::Refused { program, message })
}

/// Plain words, or those of a JSON object `{"error": …}`.
fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr).trim().to_owned();
    let object = serde_json::from_str::<serde_json::Value>(&text).ok();
    object.and_then(|object| object.get("error")?.as_str().map(str::to_owned)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_is_not_true_is_refused() {
        let statement = |native: &[u8]| Statement {
            component: Digest::of(b"c"),
            artifact: Digest::of(native),
            engine_id: "e".to_owned(),
            target: "t".to_owned(),
        };
        let framed = |statement: &Statement, native: &[u8]| {
            let header = serde_json::to_vec(statement).unwrap();
            [&(header.len() as u64).to_be_bytes(), header.as_slice(), native].concat()
        };
        let good = framed(&statement(b"code"), b"code");
        assert_eq!(split(&good), Some((statement(b"code"), b"code".as_slice())));
        assert_eq!(split(&framed(&statement(b"code"), b"evil")), None);
        assert_eq!(split(&good[..20]), None);
        assert_eq!(split(&[0xff; 16]), None);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Sandbox::new(Path::new("/nowhere")).describe(b"").unwrap_err();
        assert!(error.to_string().contains("vteam-compile"), "{error}");
    }
}
