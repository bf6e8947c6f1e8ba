//! Length-prefixed JSON frames: four bytes of length, big endian, then that many bytes of JSON.

use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};

/// Frames above this are refused on both sides.
pub const MAX_BYTES: usize = 1 << 20;

/// # Errors
/// When the message does not fit a frame or the peer is gone.
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

/// # Errors
/// When the message does not fit a frame.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_BYTES);
    let length =
        length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "message larger than a frame"))?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The next frame, or `None` at the end of the stream between two frames.
///
/// # Errors
/// When the stream ends within a frame, or the frame is too large or not of this type.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0u8; 4];
    match from.read(&mut length)? {
        0 => return Ok(None),
        n => from.read_exact(length.get_mut(n..).unwrap_or_default())?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too large"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    serde_json::from_slice(&body).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_round_trip_and_bad_ones_are_refused() {
        let mut bytes = encode(&"hello").unwrap();
        assert_eq!(read::<String>(&mut bytes.as_slice()).unwrap().as_deref(), Some("hello"));
        assert!(read::<String>(&mut [].as_slice()).unwrap().is_none());
        bytes.pop();
        assert!(read::<String>(&mut bytes.as_slice()).is_err());
        assert!(read::<String>(&mut [0xff, 0, 0, 0].as_slice()).is_err());
    }
}
