//! The `data:` of server-sent events (WHATWG HTML, section 9.2), as far as our server writes them.

use super::{Body, HttpError, lines};
use futures::{Stream, StreamExt as _};

/// One item per event; comments and other fields are passed over. An event that the end of the stream cuts is dropped.
pub(super) fn data(body: Body) -> impl Stream<Item = Result<Vec<u8>, HttpError>> + Send {
    futures::stream::unfold(lines(body).boxed(), |mut lines| async move {
        let mut data: Option<Vec<u8>> = None;
        loop {
            let mut line = match lines.next().await? {
                Ok(line) => line,
                Err(error) => return Some((Err(error), lines)),
            };
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if let Some(value) = line.strip_prefix(b"data:") {
                let value = value.strip_prefix(b" ").unwrap_or(value);
                match &mut data {
                    Some(data) => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                    None => data = Some(value.to_vec()),
                }
            } else if line.is_empty()
                && let Some(data) = data.take()
            {
                return Some((Ok(data), lines));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[tokio::test]
    async fn events_in_any_pieces() {
        let text = ": hello\n\nevent: x\ndata: {\"a\"\ndata::1}\r\n\r\ndata: two\n\ndata: cut";
        for size in [1, 3, 1000] {
            let pieces: Vec<_> =
                text.as_bytes().chunks(size).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
            let got: Vec<_> = data(futures::stream::iter(pieces).boxed()).map(Result::unwrap).collect().await;
            assert_eq!(got, [b"{\"a\"\n:1}".to_vec(), b"two".to_vec()], "{size}");
        }
    }
}
