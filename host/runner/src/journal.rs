//! What this runner said and the server has not committed yet, in a file that native programs cannot reach.
//!
//! It outlives the process, not the machine: what must outlive the machine waits for the server's commit. One file per
//! epoch, one event a line; a line that was cut short by the end of the process is not there.

use model::id::{Epoch, RunnerSeq};
use protocol::control::Sequenced;
use std::{
    fs::File,
    io::{self, BufRead as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

/// A file that long is emptied as soon as all of it is committed.
const KEPT_BYTES: u64 = 256 << 10;

pub struct Journal {
    file: File,
    bytes: u64,
}

impl Journal {
    /// # Errors
    /// When the file cannot be made.
    pub fn open(folder: &Path, epoch: Epoch) -> io::Result<Self> {
        let mut file = File::options().create(true).append(true).open(path(folder, epoch))?;
        let bytes = file.seek(io::SeekFrom::End(0))?;
        Ok(Self { file, bytes })
    }

    /// # Errors
    /// When the disk is full.
    pub fn append(&mut self, event: &Sequenced) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let written = self.file.write_all(&line);
        match written {
            Ok(()) => self.bytes += line.len() as u64,
            // Half a line would hide those that follow.
            Err(_) => self.file.set_len(self.bytes)?,
        }
        written
    }

    /// All that was appended is committed.
    pub fn settled(&mut self) {
        if self.bytes >= KEPT_BYTES && self.file.set_len(0).is_ok() {
            self.bytes = 0;
        }
    }
}

/// What the runner of `epoch` said after `committed`, up to what is missing.
///
/// # Errors
/// When there is a file that cannot be read.
pub fn uncommitted(folder: &Path, epoch: Epoch, committed: RunnerSeq) -> io::Result<Vec<Sequenced>> {
    let file = match File::open(path(folder, epoch)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        file => file?,
    };
    let mut events = Vec::new();
    let mut last = committed;
    for line in io::BufReader::new(file).split(b'\n') {
        let Ok(event) = serde_json::from_slice::<Sequenced>(&line?) else { break };
        if event.runner_seq > last.next() {
            break;
        }
        if event.runner_seq > committed {
            last = event.runner_seq;
            events.push(event);
        }
    }
    Ok(events)
}

fn path(folder: &Path, epoch: Epoch) -> PathBuf {
    folder.join(epoch.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::event::{Event, RunStarted};

    #[test]
    fn what_was_not_committed_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let event = |seq| Sequenced {
            runner_seq: RunnerSeq(seq),
            event: Event::RunStarted(RunStarted { run: "r".parse().unwrap() }),
        };
        let mut journal = Journal::open(folder.path(), Epoch(1)).unwrap();
        for seq in 1..=3 {
            journal.append(&event(seq)).unwrap();
        }
        journal.file.write_all(b"{\"runnerSeq\":4,\"ki").unwrap();
        assert_eq!(uncommitted(folder.path(), Epoch(1), RunnerSeq(1)).unwrap(), [event(2), event(3)]);
        journal.bytes = std::fs::metadata(path(folder.path(), Epoch(1))).unwrap().len();
        journal.file.write_all(b"\n").unwrap();
        journal.append(&event(5)).unwrap();
        assert_eq!(uncommitted(folder.path(), Epoch(1), RunnerSeq(1)).unwrap(), [event(2), event(3)]);
        assert_eq!(uncommitted(folder.path(), Epoch(2), RunnerSeq(0)).unwrap(), []);
    }
}
