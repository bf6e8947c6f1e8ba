//! `process`: programs go to whoever runs them, after the gate saw exactly what would run.

use super::{not_granted, refused};
use crate::{
    bindings::tool::vteam::plugin::{
        process::{Event, Exit, Host, HostChild, Next, StartError},
        types::Other,
    },
    host::{self, Child, Processes, ProgramRequest, Verdict},
    path::{GUEST_ROOT, guest_folder},
    store::CallState,
};
use model::{Untrusted, approval::Subject, grant::effects, id::Effect};
use protocol::exec::{self, Refusal, Stream};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use wasmtime::component::Resource;

const MAX_ARGUMENT_BYTES: usize = 128 << 10;
const MAX_ARGUMENTS: usize = 1024;

/// What `process.child` is on this side.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct ChildHandle(Box<dyn Child>);

impl Host for CallState {
    async fn start(
        &mut self,
        argv: Vec<String>,
        options: Vec<(String, String)>,
    ) -> wasmtime::Result<Result<Resource<ChildHandle>, StartError>> {
        let started = match self.permitted(argv, options).await {
            Ok((processes, program)) => {
                self.witness.saw("process", json!({ "argv": program.argv, "cwd": program.cwd }));
                processes.start(program).await.map_err(start_error)
            }
            Err(error) => Err(error),
        };
        self.handle(started)
    }

    async fn attach(&mut self, id: String) -> wasmtime::Result<Result<Resource<ChildHandle>, StartError>> {
        let attached = match self.processes() {
            Ok(processes) => processes.attach(&id).await.map_err(start_error),
            Err(error) => Err(error),
        };
        self.handle(attached)
    }
}

impl CallState {
    fn processes(&self) -> Result<Arc<dyn Processes>, StartError> {
        let granted = self.granted(effects::PROCESS);
        let processes = self.host.process.as_ref().filter(|_| granted);
        processes.cloned().ok_or_else(|| StartError::Denied(not_granted(effects::PROCESS)))
    }

    async fn permitted(
        &mut self,
        argv: Vec<String>,
        options: Vec<(String, String)>,
    ) -> Result<(Arc<dyn Processes>, ProgramRequest), StartError> {
        let processes = self.processes()?;
        let program = program(argv, options).map_err(StartError::Invalid)?;
        if let Some(name) = program.argv.first() {
            processes.find(name).await.map_err(start_error)?;
        }
        let subject = subject(&program, processes.network());
        let effect: Effect =
            effects::PROCESS.parse().map_err(|_| StartError::Invalid("effect".to_owned()))?;
        match self.host.gate.check(&effect, &subject).await {
            Verdict::Allow => Ok((processes, program)),
            Verdict::Refuse(reason) => Err(StartError::Denied(refused(effects::PROCESS, reason))),
            Verdict::Ask => match self.witness.ask(effect, subject).await {},
        }
    }

    fn handle(
        &mut self,
        child: Result<Box<dyn Child>, StartError>,
    ) -> wasmtime::Result<Result<Resource<ChildHandle>, StartError>> {
        Ok(match child {
            Ok(child) => Ok(self.table.push(ChildHandle(child))?),
            Err(error) => Err(error),
        })
    }

    fn child(&mut self, child: &Resource<ChildHandle>) -> wasmtime::Result<&mut dyn Child> {
        Ok(self.table.get_mut(child)?.0.as_mut())
    }
}

impl HostChild for CallState {
    async fn id(&mut self, child: Resource<ChildHandle>) -> wasmtime::Result<String> {
        Ok(self.child(&child)?.id())
    }

    async fn next(&mut self, child: Resource<ChildHandle>, wait_ms: Option<u64>) -> wasmtime::Result<Next> {
        Ok(match self.child(&child)?.next(wait_ms.map(Duration::from_millis)).await {
            host::Next::Output { stream: Stream::Stdout, bytes } => Next::Event(Event::Stdout(bytes)),
            host::Next::Output { stream: Stream::Stderr, bytes } => Next::Event(Event::Stderr(bytes)),
            host::Next::Quiet => Next::Quiet,
            host::Next::End => Next::End,
        })
    }

    async fn exit(&mut self, child: Resource<ChildHandle>) -> wasmtime::Result<Option<Exit>> {
        Ok(self.child(&child)?.exit().await.map(|exit| match exit {
            exec::Exit::Code { code } => Exit::Code(code),
            exec::Exit::Signal { signal } => Exit::Signal(signal),
            exec::Exit::TimedOut => Exit::TimedOut,
            exec::Exit::Killed => Exit::Other(Other { kind: "killed".to_owned(), value: "null".to_owned() }),
        }))
    }

    async fn info(&mut self, child: Resource<ChildHandle>, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.child(&child)?.info(&key).await.map(|value| value.to_string()))
    }

    async fn kill(&mut self, child: Resource<ChildHandle>) -> wasmtime::Result<()> {
        self.child(&child)?.kill().await;
        Ok(())
    }

    async fn detach(&mut self, child: Resource<ChildHandle>) -> wasmtime::Result<()> {
        self.child(&child)?.detach().await;
        Ok(())
    }

    async fn drop(&mut self, child: Resource<ChildHandle>) -> wasmtime::Result<()> {
        self.table.delete(child)?;
        Ok(())
    }
}

fn start_error(refusal: Refusal) -> StartError {
    let message = refusal.to_string();
    match refusal {
        Refusal::NotFound { .. } => StartError::NotFound(message),
        Refusal::Invalid { .. } => StartError::Invalid(message),
        Refusal::NotConfined { .. } => StartError::Unavailable(message),
        Refusal::Failed { .. } => {
            StartError::Other(Other { kind: "failed".to_owned(), value: json!(message).to_string() })
        }
    }
}

/// What a person approves: everything that decides what runs.
fn subject(program: &ProgramRequest, network: exec::Network) -> Subject {
    Subject::Process {
        argv: program.argv.iter().map(Untrusted::new).collect(),
        cwd: Untrusted::new(&program.cwd),
        network: match network {
            exec::Network::None => "none".to_owned(),
            exec::Network::Loopback => "loopback".to_owned(),
        },
        env: program.env.iter().map(|(name, value)| (name.clone(), Untrusted::new(value))).collect(),
        stdin: program.stdin.as_ref().map(Untrusted::new),
    }
}

fn program(argv: Vec<String>, options: Vec<(String, String)>) -> Result<ProgramRequest, String> {
    if argv.first().is_none_or(String::is_empty) {
        return Err("argv has no program".to_owned());
    }
    let bytes: usize = argv.iter().chain(options.iter().map(|(_, value)| value)).map(String::len).sum();
    if argv.len() > MAX_ARGUMENTS || bytes > MAX_ARGUMENT_BYTES {
        return Err(format!("at most {MAX_ARGUMENTS} arguments and {MAX_ARGUMENT_BYTES} bytes in all"));
    }
    if argv.iter().any(|argument| argument.contains('\0')) {
        return Err("an argument contains a NUL byte".to_owned());
    }
    let mut program = ProgramRequest {
        argv,
        cwd: GUEST_ROOT.to_owned(),
        env: BTreeMap::new(),
        stdin: None,
        timeout_ms: None,
        report_cwd: false,
    };
    for (key, text) in options {
        let value: Value = serde_json::from_str(&text).map_err(|_| format!("option {key:?} is not JSON"))?;
        option(&mut program, &key, &value)?;
    }
    Ok(program)
}

fn option(program: &mut ProgramRequest, key: &str, value: &Value) -> Result<(), String> {
    let wrong = |what: &str| format!("option {key:?} must be {what}");
    match key {
        "cwd" => {
            let path = value.as_str().ok_or_else(|| wrong("a string"))?;
            program.cwd = guest_folder(path).map_err(|error| error.to_string())?;
        }
        "timeout-ms" => {
            program.timeout_ms = Some(value.as_u64().ok_or_else(|| wrong("a number of milliseconds"))?)
        }
        "env" => {
            program.env = environment(value)
                .ok_or_else(|| wrong("an object of strings with names of A-Z, a-z, 0-9 and _"))?
        }
        "stdin" => program.stdin = Some(value.as_str().ok_or_else(|| wrong("a string"))?.to_owned()),
        "report-cwd" => program.report_cwd = value.as_bool().ok_or_else(|| wrong("true or false"))?,
        // For people; the host shows what runs, not what it is called.
        "description" => {}
        _ => return Err(format!("option {key:?} is not known")),
    }
    Ok(())
}

fn environment(value: &Value) -> Option<BTreeMap<String, String>> {
    let named = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let one = |(name, value): (&String, &Value)| {
        let value = value.as_str().filter(|value| named(name) && !value.contains('\0'))?;
        Some((name.clone(), value.to_owned()))
    };
    value.as_object()?.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let check = |argv: &[&str], options: &[(&str, &str)], expected: Result<(), &str>| {
            let argv = argv.iter().map(ToString::to_string).collect();
            let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let got = program(argv, options);
            match expected {
                Ok(()) => assert!(got.is_ok(), "{got:?}"),
                Err(part) => assert!(got.as_ref().is_err_and(|e| e.contains(part)), "{got:?}"),
            }
        };
        check(
            &["ls", "-l"],
            &[("cwd", "\"/workspace/src\""), ("timeout-ms", "5"), ("description", "\"x\"")],
            Ok(()),
        );
        check(&["ls"], &[("env", r#"{"A_1":"b"}"#), ("stdin", "\"x\""), ("report-cwd", "true")], Ok(()));
        check(&[], &[], Err("no program"));
        check(&[""], &[], Err("no program"));
        check(&["a\0b"], &[], Err("NUL"));
        check(&["ls"], &[("cwd", "\"/etc\"")], Err("outside"));
        check(&["ls"], &[("cwd", "x")], Err("not JSON"));
        check(&["ls"], &[("env", r#"{"A=B":"c"}"#)], Err("object of strings"));
        check(&["ls"], &[("env", r#"{"A":1}"#)], Err("object of strings"));
        check(&["ls"], &[("user", "\"root\"")], Err("not known"));
        check(&["ls", &"x".repeat(MAX_ARGUMENT_BYTES)], &[], Err("at most"));
    }
}
