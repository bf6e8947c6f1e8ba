//! Frames as they arrive on a descriptor that does not block.

use protocol::frame;
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use std::io;
use std::os::fd::OwnedFd;

#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    /// Takes what is there. `false` at the end of the stream.
    pub(super) fn fill(&mut self, from: &OwnedFd) -> io::Result<bool> {
        let mut chunk = vec![0; 64 << 10];
        loop {
            match rustix::io::read(from, &mut chunk) {
                Ok(0) => return Ok(false),
                Ok(n) => self.bytes.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
            // One frame is enough to work on; the rest waits in the kernel, so that a peer cannot fill our memory.
            if self.bytes.len() > frame::MAX_BYTES {
                return Ok(true);
            }
        }
    }

    /// The next whole frame.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(length) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length <= frame::MAX_BYTES && self.bytes.len() < length + 4 {
            return Ok(None);
        }
        let mut rest = self.bytes.as_slice();
        let message = frame::read(&mut rest)?;
        let used = self.bytes.len() - rest.len();
        self.bytes.drain(..used);
        Ok(message)
    }
}
