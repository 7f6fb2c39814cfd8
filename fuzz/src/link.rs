//! Frames between workers and the storage writer.

use minitalk::link::codec::{HEADER_BYTES, LinkError, MAX_FRAME_BYTES, decode, encode, split};
use minitalk::link::frame::{FromWriter, ToWriter};

/// Reads the bytes as a stream of frames, in pieces of as many bytes as the first says, and as the
/// body of one.
pub fn run(data: &[u8]) {
    let Some((first, stream)) = data.split_first() else {
        return;
    };
    assert_eq!(bodies(stream, usize::from(*first) + 1), bodies(stream, usize::MAX));
    if let Ok(frame) = decode::<ToWriter<'_>>(stream) {
        let body = written(&frame, stream);
        assert_eq!(decode::<ToWriter<'_>>(&body).ok(), Some(frame));
    }
    if let Ok(frame) = decode::<FromWriter<'_>>(stream) {
        let body = written(&frame, stream);
        assert_eq!(decode::<FromWriter<'_>>(&body).ok(), Some(frame));
    }
}

/// The body of a frame that was read from `read`. No other body of the frame is shorter.
fn written<T: serde::Serialize>(frame: &T, read: &[u8]) -> Vec<u8> {
    let mut bytes = b"before".to_vec();
    assert!(encode(frame, &mut bytes).is_ok());
    assert!(bytes.starts_with(b"before"));
    let frame = &bytes[6..];
    let (body, used) = split(frame).ok().flatten().unwrap_or_default();
    assert_eq!(used, frame.len());
    assert!(body.len() <= read.len());
    body.to_vec()
}

/// The bodies in a stream that comes in pieces of so many bytes, and whether it broke.
fn bodies(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut unread, mut found) = (Vec::new(), Vec::new());
    for piece in stream.chunks(piece) {
        unread.extend_from_slice(piece);
        loop {
            match split(&unread) {
                Ok(Some((body, used))) => {
                    assert_eq!(body.len() + HEADER_BYTES, used);
                    found.push(body.to_vec());
                    unread.drain(..used);
                }
                Ok(None) => break,
                Err(LinkError::TooLarge(len)) => {
                    assert!(len > MAX_FRAME_BYTES);
                    return (found, true);
                }
                Err(LinkError::Malformed(_) | LinkError::Rest(_)) => {
                    unreachable!("bodies are not looked into")
                }
            }
        }
    }
    (found, false)
}
