//! What a call says to people who watch, and to its plugin's log.

use crate::link::Link;
use engine::{Level, LogSource, PluginLog, Progress};
use model::{
    Untrusted,
    event::{self, Event, Live},
    id::{CallId, PluginId, RunId},
};
use serde_json::Value;
use std::sync::atomic::{AtomicU32, Ordering};

/// Lines of one call that are kept; a plugin that says more says it to nobody.
const LINES: u32 = 200;

pub struct News {
    pub link: Link,
    pub run: RunId,
    pub call: CallId,
    pub plugin: PluginId,
    pub lines: AtomicU32,
}

impl Progress for News {
    fn emit(&self, kind: &str, value: Value) {
        let text: Untrusted = match value {
            Value::String(text) => text.into(),
            value => value.to_string().into(),
        };
        let (run, call) = (self.run.clone(), self.call.clone());
        self.link.live(Live::CallOutput { run, call, stream: kind.to_owned(), text });
    }
}

impl PluginLog for News {
    fn write(&self, level: Level, source: LogSource, text: Untrusted) {
        if self.lines.fetch_add(1, Ordering::Relaxed) >= LINES {
            return;
        }
        let level = match source {
            LogSource::Log | LogSource::Host => level.as_str(),
            LogSource::Stdout => "stdout",
            LogSource::Stderr => "stderr",
        };
        let call = Some(self.call.clone());
        let log = event::PluginLog { plugin: self.plugin.clone(), call, level: level.to_owned(), text };
        self.link.record(Event::PluginLog(log));
    }
}
