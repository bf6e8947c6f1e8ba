//! Runs programs for real, unconfined, as this user.

use super::host;
use crate::process::{Event, Exit, Next, StartError};
use serde_json::Value;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{Read, Write},
    path::PathBuf,
    process::{Command, Stdio},
    rc::Rc,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

thread_local! {
    static DETACHED: RefCell<BTreeMap<String, Rc<Running>>> = RefCell::default();
}

pub(crate) struct Child {
    running: Rc<Running>,
}

struct Running {
    id: String,
    process: RefCell<std::process::Child>,
    output: Receiver<Event>,
    deadline: Option<Instant>,
    exit: RefCell<Option<Exit>>,
    cwd_file: PathBuf,
}

pub(crate) fn start(argv: &[String], options: &[(String, String)]) -> Result<Child, StartError> {
    let options: BTreeMap<&str, Value> =
        options.iter().map(|(k, v)| (k.as_str(), serde_json::from_str(v).unwrap_or_default())).collect();
    let text = |key: &str| options.get(key).and_then(Value::as_str);
    let (workspace, id) = host(|h| (h.workspace.clone(), format!("child-{:p}", &raw const *h)));
    let id = format!("{id}-{}", DETACHED.with_borrow(BTreeMap::len));
    let cwd_file = std::env::temp_dir().join(format!("vteam-sdk-cwd-{}-{id}", std::process::id()));

    let [program, arguments @ ..] = argv else { return Err(StartError::Invalid("argv is empty".to_owned())) };
    let mut command = Command::new(program);
    match (options.contains_key("report-cwd"), arguments) {
        (true, [flag, script]) => {
            command.args([flag.as_str(), &format!("trap 'pwd >\"$CWD_FILE\"' EXIT\n{script}")])
        }
        _ => command.args(arguments),
    };
    command.current_dir(text("cwd").map_or(workspace.clone(), |cwd| workspace.join(cwd)));
    command.env("CWD_FILE", &cwd_file);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            StartError::NotFound(format!("there is no {program}, or no such folder"))
        }
        _ => StartError::Invalid(error.to_string()),
    })?;
    if let Some(mut stdin) = process.stdin.take() {
        _ = stdin.write_all(text("stdin").unwrap_or_default().as_bytes());
    }
    let (sender, output) = channel();
    pump(process.stdout.take(), sender.clone(), Event::Stdout);
    pump(process.stderr.take(), sender, Event::Stderr);
    let timeout = options.get("timeout-ms").and_then(Value::as_u64).map(Duration::from_millis);
    let deadline = timeout.map(|t| Instant::now() + t);
    let process = RefCell::new(process);
    Ok(Child {
        running: Rc::new(Running { id, process, output, deadline, exit: RefCell::default(), cwd_file }),
    })
}

pub(crate) fn attach(id: &str) -> Result<Child, StartError> {
    let running = DETACHED.with_borrow(|all| all.get(id).cloned());
    running
        .map(|running| Child { running })
        .ok_or_else(|| StartError::NotFound(format!("there is no child {id}")))
}

fn pump(from: Option<impl Read + Send + 'static>, to: Sender<Event>, event: fn(Vec<u8>) -> Event) {
    let Some(mut from) = from else { return };
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if to.send(event(buffer.iter().take(n).copied().collect())).is_err() {
                return;
            }
        }
    });
}

impl Child {
    pub(crate) fn id(&self) -> String {
        self.running.id.clone()
    }

    pub(crate) fn next(&self, wait_ms: Option<u64>) -> Next {
        let until = wait_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        let deadline = self.running.deadline.into_iter().chain(until).min();
        let received = match deadline {
            Some(at) => self.running.output.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => self.running.output.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(event) => Next::Event(event),
            Err(RecvTimeoutError::Disconnected) => {
                self.end(None);
                Next::End
            }
            Err(RecvTimeoutError::Timeout)
                if self.running.deadline.is_some_and(|at| Instant::now() >= at) =>
            {
                self.end(Some(Exit::TimedOut));
                Next::End
            }
            Err(RecvTimeoutError::Timeout) => Next::Quiet,
        }
    }

    fn end(&self, how: Option<Exit>) {
        let mut exit = self.running.exit.borrow_mut();
        if exit.is_some() {
            return;
        }
        let mut process = self.running.process.borrow_mut();
        if how.is_some() {
            _ = process.kill();
        }
        let status = process.wait();
        let code = status.ok().and_then(|s| s.code());
        *exit = Some(how.unwrap_or_else(|| code.map_or(Exit::Signal("SIGKILL".to_owned()), Exit::Code)));
    }

    pub(crate) fn exit(&self) -> Option<Exit> {
        self.running.exit.borrow().clone()
    }

    pub(crate) fn info(&self, key: &str) -> Option<String> {
        let cwd = std::fs::read_to_string(&self.running.cwd_file).ok().filter(|_| key == "cwd")?;
        _ = std::fs::remove_file(&self.running.cwd_file);
        Some(Value::from(cwd.trim_end()).to_string())
    }

    pub(crate) fn kill(&self) {
        _ = self.running.process.borrow_mut().kill();
    }

    pub(crate) fn detach(self) {
        DETACHED.with_borrow_mut(|all| all.insert(self.running.id.clone(), self.running));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let process = self.process.get_mut();
        _ = process.kill();
        _ = process.wait();
    }
}
