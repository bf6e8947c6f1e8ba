//! A folder on its way to a server that does not see this machine's: packed while it is sent.

use super::{Client, decode};
use crate::exit::{Code, Failure, Outcome};
use bytes::Bytes;
use futures::stream;
use model::id::Digest;
use protocol::http::MAX_BLOB_BYTES;
use reqwest::{Body, Method, header};
use serde::Deserialize;
use server::workspace::{Packed, PrepareError, pack};
use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    time::Duration,
};
use tokio::sync::mpsc;

/// Of what is sent at once.
const CHUNK: usize = 256 << 10;
/// The server waits no longer.
const DEADLINE: Duration = Duration::from_secs(120);

/// What is sent.
pub(crate) struct Parcel {
    pub(crate) folder: PathBuf,
    pub(crate) include_ignored: bool,
    /// Our own data, with tokens: never sent.
    pub(crate) own: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Uploaded {
    blob: Digest,
}

impl Client {
    /// What it is called there, and what was in it.
    ///
    /// # Errors
    /// When it cannot be packed, is too large, or is not taken.
    pub(crate) async fn send_folder(&self, parcel: Parcel) -> Outcome<(Digest, Packed)> {
        let (sender, receiver) = mpsc::channel(8);
        let place = parcel.folder.display().to_string();
        let packing = tokio::task::spawn_blocking(move || {
            let Parcel { folder, include_ignored, own } = parcel;
            let to = BufWriter::with_capacity(CHUNK, Sending { sender, room: MAX_BLOB_BYTES });
            pack(&folder, include_ignored, &own, to)
        });
        let body = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|chunk| (Ok::<_, io::Error>(chunk), receiver))
        });
        let request = self.request(Method::PUT, &self.project("archives")).await?;
        let request = request.header(header::CONTENT_TYPE, "application/gzip").timeout(DEADLINE);
        let sent = self.send(request.body(Body::wrap_stream(body))).await;
        let packed =
            packing.await.map_err(|e| Failure::of(Code::Failed, &format!("{place} was not packed"), &e))?;
        match (sent, packed) {
            (Ok(answer), Ok(packed)) => Ok((decode::<Uploaded>(answer).await?.blob, packed)),
            (Err(refused), Ok(_)) => Err(refused),
            // The server wanted no more of it, and said why.
            (Err(refused), Err(PrepareError::Io { source, .. }))
                if source.kind() == io::ErrorKind::BrokenPipe =>
            {
                Err(refused)
            }
            (_, Err(PrepareError::TooLarge { .. })) => Err(too_large(&place)),
            (_, Err(error)) => Err(Failure::of(Code::Usage, &format!("{place} cannot be sent"), &error)),
        }
    }
}

fn too_large(place: &str) -> Failure {
    let mib = MAX_BLOB_BYTES >> 20;
    Failure::new(
        Code::Usage,
        format!(
            "{place} has more than {mib} MiB also when compressed: leave something out with an ignore file"
        ),
    )
}

/// The end of a stream that something else reads.
struct Sending {
    sender: mpsc::Sender<Bytes>,
    room: usize,
}

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room = self.room.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        let sent = self.sender.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
