//! A host that grants what a tool declares: a real folder, real programs, and pages from memory.

use crate::built;
use engine::{
    BaseError, Call, CallEnd, ChangeBase, Child, Completions, Fetch, Fetched, Gate, Host, Next, Processes,
    ProgramRequest, Progress, Staged, State, StateError, ToolError, Verdict, WorkspacePath, async_trait,
};
use futures::{StreamExt, stream};
use model::{
    approval::Subject,
    id::{Digest, Effect},
    limits::Limits,
    message::{Block, ModelFailure},
};
use protocol::{
    exec::{Exit, Network, Refusal, Stream},
    http::{FetchFailure, FetchFailureKind},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

pub(crate) struct World {
    folder: tempfile::TempDir,
    package: &'static str,
    state: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(crate) pages: Mutex<BTreeMap<String, (u16, &'static str, &'static str)>>,
    pub(crate) completion: Mutex<Option<&'static str>>,
    pub(crate) asked: Mutex<Vec<Subject>>,
    pub(crate) live: Mutex<Vec<(String, Value)>>,
}

/// How a call ended, in few words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Text(String),
    Image(String),
    Asks(Value),
    Invalid(String),
    NotFound(String),
    Failed(String),
    Denied(String),
}

impl World {
    pub(crate) fn new(package: &'static str, files: &[(&str, &str)]) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        Arc::new(Self {
            folder,
            package,
            state: Mutex::default(),
            pages: Mutex::default(),
            completion: Mutex::default(),
            asked: Mutex::default(),
            live: Mutex::default(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn call(self: &Arc<Self>, tool: &str, input: Value) -> Ended {
        self.call_with(tool, input, &[]).await
    }

    /// Calls a tool and applies what it staged.
    pub(crate) async fn call_with(
        self: &Arc<Self>,
        tool: &str,
        input: Value,
        context: &[(&str, Value)],
    ) -> Ended {
        let package = self.package;
        let (plugin, _) = tokio::task::spawn_blocking(move || built::tool(package)).await.unwrap();
        let found = plugin.manifest().tools.iter().find(|t| t.name.as_str() == tool).unwrap().clone();
        let workspace = ("workspace".to_owned(), json!("/workspace").to_string());
        let context = context.iter().map(|(key, value)| ((*key).to_owned(), value.to_string()));
        let call = Call {
            tool: found.name,
            input: input.to_string(),
            context: [workspace].into_iter().chain(context).collect(),
            limits: Limits::shipped().call,
            grants: found.effects,
            host: self.host(),
        };
        match plugin.call(call).await.end {
            CallEnd::Done { content, staged, .. } => {
                staged.into_iter().for_each(|change| self.apply(change));
                match content.as_slice() {
                    [Block::Text { text }] => Ended::Text(text.raw().to_owned()),
                    [Block::Image { source }] => {
                        Ended::Image(serde_json::to_value(source).unwrap()["media_type"].to_string())
                    }
                    other => panic!("{other:?}"),
                }
            }
            CallEnd::NeedsInput { request, .. } => Ended::Asks(request),
            CallEnd::Refused(ToolError::InvalidInput(m)) => Ended::Invalid(m.raw().to_owned()),
            CallEnd::Refused(ToolError::NotFound(m)) => Ended::NotFound(m.raw().to_owned()),
            CallEnd::Refused(ToolError::Failed(m)) => Ended::Failed(m.raw().to_owned()),
            CallEnd::Refused(ToolError::Denied { message, .. }) => Ended::Denied(message.raw().to_owned()),
            other => panic!("{other:?}"),
        }
    }

    fn host(self: &Arc<Self>) -> Host {
        Host {
            workspace: Some(self.path().to_owned()),
            gate: self.clone(),
            process: Some(self.clone()),
            state: Some(self.clone()),
            fetch: Some(self.clone()),
            model: Some(self.clone()),
            changes: Some(self.clone()),
            progress: self.clone(),
            ..Host::empty()
        }
    }

    fn apply(&self, change: Staged) {
        let Staged::Write { path, content, base } = change else { panic!("{change:?}") };
        let file = self.path().join(path.as_str());
        assert_eq!(fs::read(&file).ok().map(|bytes| Digest::of(&bytes)), base);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
}

#[async_trait]
impl Gate for World {
    async fn check(&self, _: &Effect, subject: &Subject) -> Verdict {
        self.asked.lock().unwrap().push(subject.clone());
        Verdict::Allow
    }
}

#[async_trait]
impl ChangeBase for World {
    async fn digest(&self, path: &WorkspacePath) -> Result<Option<Digest>, BaseError> {
        Ok(fs::read(self.path().join(path.as_str())).ok().map(|bytes| Digest::of(&bytes)))
    }
}

#[async_trait]
impl State for World {
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

impl Progress for World {
    fn emit(&self, kind: &str, value: Value) {
        self.live.lock().unwrap().push((kind.to_owned(), value));
    }
}

#[async_trait]
impl Fetch for World {
    async fn fetch(&self, _: &str, url: &str, _: Vec<(String, String)>) -> Result<Fetched, FetchFailure> {
        let page = self.pages.lock().unwrap().get(url).copied();
        let Some((status, header, body)) = page else {
            return Err(FetchFailure {
                kind: FetchFailureKind::Denied,
                message: format!("{url} is not permitted"),
            });
        };
        let name = if status < 300 { "content-type" } else { "location" };
        let body = stream::iter([Ok(body.as_bytes().to_vec().into())]).boxed();
        Ok(Fetched { status, headers: vec![(name.to_owned(), header.to_owned())], body })
    }
}

#[async_trait]
impl Completions for World {
    async fn complete(
        &self,
        _: Option<String>,
        prompt: String,
        _: Option<u32>,
    ) -> Result<String, ModelFailure> {
        let answer = *self.completion.lock().unwrap();
        Ok(answer.map_or_else(|| format!("asked: {prompt}"), str::to_owned))
    }
}

/// A program that has run to its end already, its paths mapped as a mount would.
struct Ran {
    output: Option<Vec<u8>>,
    code: i32,
    cwd: String,
}

#[async_trait]
impl Processes for World {
    fn network(&self) -> Network {
        Network::None
    }

    async fn start(&self, program: ProgramRequest) -> Result<Box<dyn Child>, Refusal> {
        let root = self.path().canonicalize().unwrap().display().to_string();
        let map = |path: &str| PathBuf::from(path.replacen("/workspace", &root, 1));
        let [shell, flag, command] = program.argv.as_slice() else { panic!("{:?}", program.argv) };
        let command = format!("trap 'pwd >&2' EXIT\n{command}");
        let output = tokio::process::Command::new(shell)
            .args([flag, &command])
            .current_dir(map(&program.cwd))
            .output();
        let output = output.await.map_err(|error| Refusal::Failed { message: error.to_string() })?;
        let cwd = String::from_utf8(output.stderr).unwrap().trim().replacen(&root, "/workspace", 1);
        Ok(Box::new(Ran { output: Some(output.stdout), code: output.status.code().unwrap(), cwd }))
    }

    async fn attach(&self, id: &str) -> Result<Box<dyn Child>, Refusal> {
        Err(Refusal::NotFound { program: id.to_owned() })
    }
}

#[async_trait]
impl Child for Ran {
    fn id(&self) -> String {
        "1".to_owned()
    }

    async fn next(&mut self, _: Option<Duration>) -> Next {
        self.output.take().map_or(Next::End, |bytes| Next::Output { stream: Stream::Stdout, bytes })
    }

    async fn exit(&mut self) -> Option<Exit> {
        Some(Exit::Code { code: self.code })
    }

    async fn info(&mut self, key: &str) -> Option<Value> {
        (key == "cwd").then(|| json!(self.cwd))
    }

    async fn kill(&mut self) {}

    async fn detach(&mut self) {}
}
