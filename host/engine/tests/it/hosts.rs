//! The host that the tests give to guests: it does what it is asked and remembers it.

use bytes::Bytes;
use engine::{
    BaseError, ChangeBase, Child, Completions, Fetch, Fetched, Gate, Host, Level, LogSource, Next, PluginLog,
    Processes, ProgramRequest, Progress, State, StateError, Verdict, WorkspacePath, async_trait,
};
use futures::{StreamExt, stream};
use model::{
    Untrusted,
    approval::Subject,
    id::{Digest, Effect},
    message::ModelFailure,
};
use protocol::{
    exec::{Exit, Network, Refusal, Stream},
    http::{FetchFailure, FetchFailureKind},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Method, URL and headers.
type FetchedRequest = (String, String, Vec<(String, String)>);

pub(crate) struct Recorder {
    pub(crate) verdict: Mutex<Verdict>,
    pub(crate) asked: Mutex<Vec<(String, Subject)>>,
    pub(crate) log: Mutex<Vec<(Level, LogSource, String)>>,
    pub(crate) progress: Mutex<Vec<(String, Value)>>,
    pub(crate) state: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(crate) fetched: Mutex<Vec<FetchedRequest>>,
    workspace: PathBuf,
}

impl Recorder {
    pub(crate) fn new(workspace: &std::path::Path) -> Arc<Self> {
        Arc::new(Self {
            verdict: Mutex::new(Verdict::Allow),
            asked: Mutex::default(),
            log: Mutex::default(),
            progress: Mutex::default(),
            state: Mutex::default(),
            fetched: Mutex::default(),
            workspace: workspace.to_owned(),
        })
    }

    pub(crate) fn host(self: &Arc<Self>) -> Host {
        Host {
            workspace: Some(self.workspace.clone()),
            gate: self.clone(),
            process: Some(self.clone()),
            state: Some(self.clone()),
            fetch: Some(self.clone()),
            model: Some(self.clone()),
            changes: Some(self.clone()),
            progress: self.clone(),
            log: self.clone(),
            config: json!({"colour": "blue"}),
        }
    }

    pub(crate) fn rule(&self, verdict: Verdict) {
        *self.verdict.lock().unwrap() = verdict;
    }

    pub(crate) fn logged(&self, source: LogSource) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|(_, from, _)| *from == source).map(|(_, _, text)| text.clone()).collect()
    }
}

#[async_trait]
impl Gate for Recorder {
    async fn check(&self, effect: &Effect, subject: &Subject) -> Verdict {
        self.asked.lock().unwrap().push((effect.to_string(), subject.clone()));
        self.verdict.lock().unwrap().clone()
    }
}

struct Ended {
    output: VecDeque<(Stream, Vec<u8>)>,
    exit: Exit,
}

#[async_trait]
impl Processes for Recorder {
    fn network(&self) -> Network {
        Network::None
    }

    async fn find(&self, program: &str) -> Result<(), Refusal> {
        let missing = || Refusal::NotFound { program: program.to_owned() };
        (program != "no-such-program").then_some(()).ok_or_else(missing)
    }

    async fn start(&self, program: ProgramRequest) -> Result<Box<dyn Child>, Refusal> {
        let below = program.cwd.strip_prefix("/workspace").unwrap().trim_start_matches('/');
        let (name, arguments) = program.argv.split_first().unwrap();
        let mut command = Command::new(name);
        command.args(arguments).envs(&program.env).current_dir(self.workspace.join(below));
        let output = command.output().map_err(|_| Refusal::NotFound { program: name.clone() })?;
        let exit = Exit::Code { code: output.status.code().unwrap() };
        let parts = [(Stream::Stdout, output.stdout), (Stream::Stderr, output.stderr)];
        Ok(Box::new(Ended {
            output: parts.into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect(),
            exit,
        }))
    }

    async fn attach(&self, id: &str) -> Result<Box<dyn Child>, Refusal> {
        Err(Refusal::Invalid { message: format!("there is no child {id:?}") })
    }
}

#[async_trait]
impl Child for Ended {
    fn id(&self) -> String {
        "1".to_owned()
    }

    async fn next(&mut self, _: Option<Duration>) -> Next {
        self.output.pop_front().map_or(Next::End, |(stream, bytes)| Next::Output { stream, bytes })
    }

    async fn exit(&mut self) -> Option<Exit> {
        Some(self.exit.clone())
    }

    async fn info(&mut self, _: &str) -> Option<Value> {
        None
    }

    async fn kill(&mut self) {}

    async fn detach(&mut self) {}
}

#[async_trait]
impl State for Recorder {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.state.lock().unwrap().get(key).cloned())
    }

    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), StateError> {
        self.state.lock().unwrap().insert(key.to_owned(), value);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), StateError> {
        self.state.lock().unwrap().remove(key);
        Ok(())
    }

    async fn keys(&self) -> Result<Vec<String>, StateError> {
        Ok(self.state.lock().unwrap().keys().cloned().collect())
    }
}

#[async_trait]
impl Fetch for Recorder {
    async fn fetch(
        &self,
        method: &str,
        url: &str,
        headers: Vec<(String, String)>,
    ) -> Result<Fetched, FetchFailure> {
        self.fetched.lock().unwrap().push((method.to_owned(), url.to_owned(), headers));
        if url.contains("unreachable") {
            let message = "nobody answers there".to_owned();
            return Err(FetchFailure { kind: FetchFailureKind::Unreachable, message });
        }
        let chunks = if url.contains("endless") { usize::MAX } else { 2 };
        let body = stream::repeat_with(|| Ok(Bytes::from_static(b"body."))).take(chunks).boxed();
        let headers = [("content-type", "text/plain"), ("set-cookie", "secret=1"), ("x-seen", "yes")];
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(Fetched { status: 200, headers, body })
    }
}

#[async_trait]
impl Completions for Recorder {
    async fn complete(
        &self,
        _: Option<String>,
        prompt: String,
        max: Option<u32>,
    ) -> Result<String, ModelFailure> {
        Ok(format!("{prompt} {max:?}"))
    }
}

#[async_trait]
impl ChangeBase for Recorder {
    async fn digest(&self, path: &WorkspacePath) -> Result<Option<Digest>, BaseError> {
        let path = self.workspace.join(path.as_str());
        match std::fs::symlink_metadata(&path) {
            Err(_) => Ok(None),
            Ok(meta) if meta.is_file() => Ok(Some(Digest::of(&std::fs::read(&path).unwrap()))),
            Ok(_) => Err(BaseError::Invalid("not a regular file".to_owned())),
        }
    }
}

impl Progress for Recorder {
    fn emit(&self, kind: &str, value: Value) {
        self.progress.lock().unwrap().push((kind.to_owned(), value));
    }
}

impl PluginLog for Recorder {
    fn write(&self, level: Level, source: LogSource, text: Untrusted) {
        self.log.lock().unwrap().push((level, source, text.into_raw()));
    }
}
