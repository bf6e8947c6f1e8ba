//! Native code: made by the compiler's process, one per component, signed here and kept by digest.

use super::{Plugin, kept::remove};
use crate::settings::write;
use bytes::Bytes;
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _};
use model::id::Digest;
use protocol::artifact::{Signed, Statement};
use rand::TryRngCore as _;
use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    sync::Mutex as AsyncMutex,
};

/// How long one component may take.
const DEADLINE: Duration = Duration::from_secs(180);
/// Native code and header of one component.
const MAX_BYTES: u64 = 256 << 20;
const MAX_HEADER_BYTES: u64 = 64 << 10;
const MAX_ERROR_BYTES: u64 = 16 << 10;

/// The key that signs native code. Runners hold its public half only.
pub struct Key(SigningKey);

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read or write the key file {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the key file {} is not a key of mode 0600: delete it and start again", path.display())]
    Invalid { path: PathBuf },
}

impl Key {
    /// Reads the key, or makes one.
    ///
    /// # Errors
    /// When the file cannot be read or made, or is not a key that only its owner can read.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let invalid = || KeyError::Invalid { path: path.to_owned() };
        match fs::read(path) {
            Ok(bytes) => {
                let exposed = fs::metadata(path).map_err(io)?.permissions().mode() & 0o077 != 0;
                let secret: [u8; 32] = bytes.try_into().map_err(|_| invalid())?;
                if exposed { Err(invalid()) } else { Ok(Self(SigningKey::from_bytes(&secret))) }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut secret = [0; 32];
                rand::rngs::OsRng.try_fill_bytes(&mut secret).map_err(|error| io(io::Error::other(error)))?;
                let mut file =
                    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
                io::Write::write_all(&mut file, &secret).and_then(|()| file.sync_all()).map_err(io)?;
                Ok(Self(SigningKey::from_bytes(&secret)))
            }
            Err(error) => Err(io(error)),
        }
    }

    /// The public half, hex.
    #[must_use]
    pub fn public(&self) -> String {
        hex::encode(self.0.verifying_key().to_bytes())
    }

    fn sign(&self, statement: Statement) -> Signed {
        let signature = hex::encode(self.0.sign(&statement.signed_bytes()).to_bytes());
        Signed { statement, signature }
    }

    fn signed(&self, signed: &Signed) -> bool {
        let signature =
            hex::decode(&signed.signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
        let key = self.0.verifying_key();
        signature.is_some_and(|signature| key.verify(&signed.statement.signed_bytes(), &signature).is_ok())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("{} cannot be started: install vteam-compile beside the server ({source})", path.display())]
    Missing { path: PathBuf, source: io::Error },
    #[error("the component is refused by the compiler: {0}")]
    Refused(String),
    /// It was tried before.
    #[error("{0}")]
    Hopeless(String),
    #[error("the compiler failed: {0}")]
    Failed(String),
    #[error("the compiler did not end within {0:?}")]
    Timeout(Duration),
    #[error(
        "the runner has another engine than the compiler: install vteam-runner and vteam-compile of one release"
    )]
    OtherEngine,
    #[error("native code cannot be kept")]
    Io(#[from] io::Error),
}

/// The engine that is to load it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EngineOf<'a> {
    pub(super) id: &'a str,
    pub(super) target: &'a str,
}

pub(super) struct Native {
    dir: PathBuf,
    compiler: PathBuf,
    key: Key,
    /// What was verified or made by this process.
    made: Mutex<HashMap<Digest, Signed>>,
    /// What the compiler refused, or took too long for: it does not get the same bytes again from this process.
    hopeless: Mutex<HashMap<Digest, String>>,
    /// One compilation at a time: each uses all processors.
    turn: AsyncMutex<()>,
}

impl Native {
    pub(super) fn open(dir: PathBuf, compiler: PathBuf, key: Key) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self {
            dir,
            compiler,
            key,
            made: Mutex::default(),
            hopeless: Mutex::default(),
            turn: AsyncMutex::default(),
        })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn public_key(&self) -> String {
        self.key.public()
    }

    /// Signed native code of this component for that engine (for any, where none is named); made if need be.
    pub(super) async fn artifact(
        &self,
        plugin: &Plugin,
        engine: Option<EngineOf<'_>>,
    ) -> Result<Signed, CompileError> {
        let fits = |signed: &Signed| {
            let Statement { engine_id, target, .. } = &signed.statement;
            engine.is_none_or(|engine| engine == EngineOf { id: engine_id, target })
        };
        if let Some(signed) = self.known(&plugin.digest).filter(fits) {
            return Ok(signed);
        }
        let _turn = self.turn.lock().await;
        if let Some(signed) = self.known(&plugin.digest).or_else(|| self.stored(&plugin.digest)).filter(fits)
        {
            self.remember(&signed);
            return Ok(signed);
        }
        if let Some(why) = self.hopeless(&plugin.digest) {
            return Err(CompileError::Hopeless(why));
        }
        let started = std::time::Instant::now();
        let signed = self.compile(plugin).await.inspect_err(|error| {
            if matches!(error, CompileError::Refused(_) | CompileError::Timeout(_)) {
                lock(&self.hopeless).insert(plugin.digest.clone(), error.to_string());
            }
        })?;
        let elapsed_ms = started.elapsed().as_millis();
        tracing::info!(plugin = %plugin.manifest.id, digest = %plugin.digest, elapsed_ms, "compiled");
        if !fits(&signed) {
            return Err(CompileError::OtherEngine);
        }
        Ok(signed)
    }

    /// Why there is no native code of this component, and will be none.
    pub(super) fn hopeless(&self, component: &Digest) -> Option<String> {
        lock(&self.hopeless).get(component).cloned()
    }

    /// Removes what was made of a component. Native code that came out the same for another one stays.
    pub(super) fn forget(&self, component: &Digest) -> io::Result<()> {
        lock(&self.hopeless).remove(component);
        let signed = self.known(component).or_else(|| self.stored(component));
        lock(&self.made).remove(component);
        remove(&self.statement(component))?;
        let Some(Signed { statement: Statement { artifact, .. }, .. }) = signed else { return Ok(()) };
        let same = |entry: io::Result<fs::DirEntry>| {
            let path = entry.ok()?.path();
            let json = path.extension().is_some_and(|extension| extension == "json");
            let other: Signed = serde_json::from_slice(&fs::read(path).ok().filter(|_| json)?).ok()?;
            (other.statement.artifact == artifact).then_some(())
        };
        if fs::read_dir(&self.dir)?.find_map(same).is_some() {
            return Ok(());
        }
        remove(&self.code(&artifact))
    }

    /// Native code by its own digest.
    pub(super) fn read(&self, artifact: &Digest) -> Option<Bytes> {
        let bytes = fs::read(self.code(artifact)).ok()?;
        (Digest::of(&bytes) == *artifact).then(|| bytes.into())
    }

    fn code(&self, artifact: &Digest) -> PathBuf {
        self.dir.join(format!("{}.native", artifact.hex()))
    }

    fn statement(&self, component: &Digest) -> PathBuf {
        self.dir.join(format!("{}.json", component.hex()))
    }

    fn known(&self, component: &Digest) -> Option<Signed> {
        lock(&self.made).get(component).cloned()
    }

    fn remember(&self, signed: &Signed) {
        lock(&self.made).insert(signed.statement.component.clone(), signed.clone());
    }

    /// Made by an earlier process: believed only with our signature and whole.
    fn stored(&self, component: &Digest) -> Option<Signed> {
        let signed: Signed = serde_json::from_slice(&fs::read(self.statement(component)).ok()?).ok()?;
        let ours = signed.statement.component == *component && self.key.signed(&signed);
        (ours && self.read(&signed.statement.artifact).is_some()).then_some(signed)
    }

    async fn compile(&self, plugin: &Plugin) -> Result<Signed, CompileError> {
        let run = self.run(plugin.component.clone());
        let (statement, code) =
            tokio::time::timeout(DEADLINE, run).await.map_err(|_| CompileError::Timeout(DEADLINE))??;
        if statement.component != plugin.digest || statement.artifact != Digest::of(&code) {
            return Err(CompileError::Failed("its answer is about other bytes".to_owned()));
        }
        let signed = self.key.sign(statement);
        write(&self.code(&signed.statement.artifact), &code)?;
        write(
            &self.statement(&plugin.digest),
            &serde_json::to_vec_pretty(&signed).map_err(io::Error::other)?,
        )?;
        self.remember(&signed);
        Ok(signed)
    }

    async fn run(&self, component: Bytes) -> Result<(Statement, Vec<u8>), CompileError> {
        let failed = |what: &str| CompileError::Failed(what.to_owned());
        let mut child = Command::new(&self.compiler)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| CompileError::Missing { path: self.compiler.clone(), source })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(failed("it has no pipes"));
        };
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) = (stdout.take(MAX_BYTES), stderr.take(MAX_ERROR_BYTES));
        let feed = async {
            // A compiler that refuses early closes its end; its exit code says so.
            let _ = stdin.write_all(&component).await;
            drop(stdin);
        };
        let ((), read, _, ended) =
            tokio::join!(feed, stdout.read_to_end(&mut out), stderr.read_to_end(&mut errors), child.wait());
        read?;
        let status = ended?;
        let said = String::from_utf8_lossy(&errors);
        match status.code() {
            Some(0) => parse(&out).ok_or_else(|| failed("its answer cannot be read")),
            Some(2) => Err(CompileError::Refused(refusal(&said))),
            _ => Err(CompileError::Failed(format!("{status} {}", said.trim()))),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `{"error": …}` or `{"message": …}`, else the text as it is; made harmless for a screen.
fn refusal(said: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(said.trim()).ok();
    let text = json.as_ref().and_then(|json| json.get("error").or_else(|| json.get("message")));
    let text = text.and_then(serde_json::Value::as_str).unwrap_or(said.trim());
    model::render::line(&text.into(), 500)
}

/// Length of the statement (8 bytes, big endian), the statement as JSON, native code.
fn parse(out: &[u8]) -> Option<(Statement, Vec<u8>)> {
    let (length, rest) = out.split_first_chunk::<8>()?;
    let length = u64::from_be_bytes(*length);
    let (statement, code) =
        (length <= MAX_HEADER_BYTES).then(|| rest.split_at_checked(usize::try_from(length).ok()?))??;
    Some((serde_json::from_slice(statement).ok()?, code.to_vec()))
}

#[cfg(test)]
mod tests;
