//! Where a guest's log, stdout and stderr go: the plugin's log, line by line, up to a number of bytes. What is above is
//! dropped and noted once; a guest never sees a full pipe.

use crate::host::{Level, LogSource, PluginLog};
use bytes::Bytes;
use model::Untrusted;
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

const MAX_LINE_BYTES: usize = 8 << 10;
const WRITE_PERMIT: usize = 64 << 10;

/// The log of one call.
pub(crate) struct CallLog {
    to: Arc<dyn PluginLog>,
    open: Mutex<Open>,
}

struct Open {
    left: u64,
    full: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl CallLog {
    pub(crate) fn new(to: Arc<dyn PluginLog>, bytes: u64) -> Arc<Self> {
        let open = Open { left: bytes, full: false, stdout: Vec::new(), stderr: Vec::new() };
        Arc::new(Self { to, open: Mutex::new(open) })
    }

    pub(crate) fn write(&self, level: Level, message: &str) {
        let mut open = self.lock();
        let taken = self.take(&mut open, message.len());
        if taken > 0 {
            let cut = message.floor_char_boundary(taken);
            self.to.write(level, LogSource::Log, Untrusted::new(message.get(..cut).unwrap_or_default()));
        }
    }

    /// The engine's own word; not counted.
    pub(crate) fn note(&self, level: Level, text: String) {
        self.to.write(level, LogSource::Host, text.into());
    }

    fn print(&self, source: LogSource, bytes: &[u8]) {
        let mut open = self.lock();
        let taken = self.take(&mut open, bytes.len());
        let buffer = if source == LogSource::Stderr { &mut open.stderr } else { &mut open.stdout };
        buffer.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        while let Some(end) = line_end(buffer) {
            let line: Vec<u8> = buffer.drain(..end).collect();
            self.line(source, &line);
        }
    }

    /// What has no newline at its end yet.
    pub(crate) fn flush(&self) {
        let mut open = self.lock();
        let (out, err) = (std::mem::take(&mut open.stdout), std::mem::take(&mut open.stderr));
        self.line(LogSource::Stdout, &out);
        self.line(LogSource::Stderr, &err);
    }

    fn line(&self, source: LogSource, bytes: &[u8]) {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if !bytes.is_empty() {
            let level = if source == LogSource::Stderr { Level::Warn } else { Level::Info };
            self.to.write(level, source, String::from_utf8_lossy(bytes).into_owned().into());
        }
    }

    fn take(&self, open: &mut Open, wanted: usize) -> usize {
        let taken = usize::try_from(open.left).unwrap_or(usize::MAX).min(wanted);
        open.left -= taken as u64;
        if taken < wanted && !open.full {
            open.full = true;
            self.note(Level::Warn, "the log limit of this call is reached: the rest is dropped".to_owned());
        }
        taken
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line_end(buffer: &[u8]) -> Option<usize> {
    let newline = buffer.iter().position(|b| *b == b'\n').map(|at| at + 1);
    newline.or_else(|| (buffer.len() >= MAX_LINE_BYTES).then_some(buffer.len()))
}

/// A guest's stdout or stderr.
#[derive(Clone)]
pub(crate) struct Print {
    pub(crate) log: Arc<CallLog>,
    pub(crate) source: LogSource,
}

impl IsTerminal for Print {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Print {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Print {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.print(self.source, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_PERMIT)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Print {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Print {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.log.print(self.source, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
