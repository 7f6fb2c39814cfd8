//! The bytes between two workers: a head of fixed size, then a body. Both sides are the same binary
//! or its neighbour version, and a head that cannot be read ends the connection.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UnixStream};

use crate::engine::http::Answer;
use crate::engine::sid::Sid;
use crate::wire::engine::HandshakeError;

/// Characters of a session's id.
const SID_BYTES: usize = 32;

/// Bytes read behind a handshake, at most; more than the HTTP library's buffer holds.
const READ_BEHIND_BYTES: u32 = 1 << 20;

/// What a worker wants of the owner of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Its packets; the body is the request's mark.
    Fetch,
    /// That it takes packets.
    Bring,
    /// That it ends the session: what was brought was too much or too slow.
    BringTooMuch,
    /// That it takes a socket over.
    Upgrade,
}

const WISHES: [Wish; 4] = [Wish::Fetch, Wish::Bring, Wish::BringTooMuch, Wish::Upgrade];

const REFUSALS: [HandshakeError; 6] = [
    HandshakeError::UnknownTransport,
    HandshakeError::UnknownSession,
    HandshakeError::BadMethod,
    HandshakeError::BadRequest,
    HandshakeError::Forbidden,
    HandshakeError::UnsupportedVersion,
];

/// Said behind a wish: let the request go now, its worker is leaving.
pub const LET_GO: u8 = 0xff;

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "unreadable head from another worker")
}

fn length(len: usize) -> io::Result<[u8; 4]> {
    u32::try_from(len).map(u32::to_le_bytes).map_err(|_| unreadable())
}

/// Sends a wish and the body that belongs to it.
pub async fn write_wish(owner: &mut UnixStream, wish: Wish, sid: &Sid, body: &[u8]) -> io::Result<()> {
    let number = WISHES.iter().position(|known| *known == wish).ok_or_else(unreadable)?;
    let mut bytes = Vec::with_capacity(1 + SID_BYTES + 4 + body.len());
    bytes.push(u8::try_from(number).map_err(|_| unreadable())?);
    bytes.extend_from_slice(sid.to_string().as_bytes());
    bytes.extend_from_slice(&length(body.len())?);
    bytes.extend_from_slice(body);
    owner.write_all(&bytes).await
}

/// Reads a wish whose body is at most `most` bytes.
pub async fn read_wish(stream: &mut UnixStream, most: usize) -> io::Result<(Wish, Sid, Bytes)> {
    let number = stream.read_u8().await?;
    let wish = WISHES.get(usize::from(number)).copied().ok_or_else(unreadable)?;
    let mut sid = [0; SID_BYTES];
    stream.read_exact(&mut sid).await?;
    let sid = std::str::from_utf8(&sid).ok().and_then(Sid::parse).ok_or_else(unreadable)?;
    let len = usize::try_from(stream.read_u32_le().await?).map_err(|_| unreadable())?;
    if len > most {
        return Err(unreadable());
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await?;
    Ok((wish, sid, body.into()))
}

/// Sends an answer.
pub async fn write_answer(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let (number, body) = match answer {
        Answer::Payload(payload) => (0, &payload[..]),
        Answer::Taken => (1, &[][..]),
        Answer::TooLarge => (2, &[][..]),
        Answer::TooSlow => (3, &[][..]),
        Answer::Switch => (4, &[][..]),
        Answer::Overloaded => (5, &[][..]),
        Answer::Refused(error) => {
            let code = REFUSALS.iter().position(|known| known == error).ok_or_else(unreadable)?;
            (6 + u8::try_from(code).map_err(|_| unreadable())?, &[][..])
        }
    };
    let [a, b, c, d] = length(body.len())?;
    stream.write_all(&[number, a, b, c, d]).await?;
    stream.write_all(body).await
}

/// Reads an answer.
pub async fn read_answer(owner: &mut (impl AsyncRead + Unpin)) -> io::Result<Answer> {
    let number = owner.read_u8().await?;
    let len = u64::from(owner.read_u32_le().await?);
    let mut body = Vec::new();
    // Grows with what is there, whatever the head says.
    if (&mut *owner).take(len).read_to_end(&mut body).await? as u64 != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(match number {
        0 => Answer::Payload(body),
        1 => Answer::Taken,
        2 => Answer::TooLarge,
        3 => Answer::TooSlow,
        4 => Answer::Switch,
        5 => Answer::Overloaded,
        refused => {
            let code = usize::from(refused - 6);
            Answer::Refused(*REFUSALS.get(code).ok_or_else(unreadable)?)
        }
    })
}

/// Gives a client's socket away, with what was read from it.
pub async fn send_socket(owner: &UnixStream, client: TcpStream, read: &[u8]) -> io::Result<()> {
    let client = client.into_std()?;
    let descriptors = [client.as_fd()];
    let len = length(read.len())?;
    let sent = owner
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            let head = [IoSlice::new(&len)];
            Ok(rustix::net::sendmsg(owner, &head, &mut control, SendFlags::NOSIGNAL)?)
        })
        .await?;
    // Four bytes fit into any socket that takes anything.
    if sent != len.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    let mut rest = read;
    while !rest.is_empty() {
        owner.writable().await?;
        match owner.try_write(rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes a client's socket over, with what was read from it.
pub async fn receive_socket(stream: &mut UnixStream) -> io::Result<(TcpStream, Vec<u8>)> {
    let mut head = [0; 4];
    let (got, descriptor) = stream
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut slices = [IoSliceMut::new(&mut head)];
            let received =
                rustix::net::recvmsg(&*stream, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let descriptor = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
                _ => None,
            });
            Ok((received.bytes, descriptor))
        })
        .await?;
    if got == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let descriptor: OwnedFd = descriptor.ok_or_else(unreadable)?;
    stream.read_exact(&mut head[got..]).await?;
    let len = u32::from_le_bytes(head);
    if len > READ_BEHIND_BYTES {
        return Err(unreadable());
    }
    let mut read = vec![0; usize::try_from(len).map_err(|_| unreadable())?];
    stream.read_exact(&mut read).await?;
    let client = std::net::TcpStream::from(descriptor);
    client.set_nonblocking(true)?;
    Ok((TcpStream::from_std(client)?, read))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::table::Key;

    fn sid() -> Sid {
        Sid { owner: 7, key: Key { slot: 8, generation: 9 }, secret: [3; 14] }
    }

    #[tokio::test]
    async fn wishes_and_answers_arrive_as_they_were_sent() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        for wish in WISHES {
            write_wish(&mut near, wish, &sid(), b"4hello").await.unwrap();
            let (read, of, body) = read_wish(&mut far, 6).await.unwrap();
            assert_eq!((read, of, &body[..]), (wish, sid(), &b"4hello"[..]));
        }
        let plain = [Answer::Taken, Answer::TooLarge, Answer::TooSlow, Answer::Switch];
        let refused = REFUSALS.map(Answer::Refused);
        let payload = [Answer::Payload(b"4hello".to_vec())];
        for answer in plain.into_iter().chain(refused).chain(payload) {
            write_answer(&mut near, &answer).await.unwrap();
            assert_eq!(read_answer(&mut far).await.unwrap(), answer);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_an_error() {
        for bytes in [&b""[..], b"\x09", b"\x00short", &[0xff; 64]] {
            let (mut near, mut far) = UnixStream::pair().unwrap();
            near.write_all(bytes).await.unwrap();
            drop(near);
            assert!(read_wish(&mut far, 100).await.is_err(), "{bytes:?}");
        }
        let (mut near, mut far) = UnixStream::pair().unwrap();
        write_wish(&mut near, Wish::Bring, &sid(), b"too much").await.unwrap();
        assert!(read_wish(&mut far, 7).await.is_err());
        let (mut near, mut far) = UnixStream::pair().unwrap();
        near.write_all(&[200, 0, 0, 0, 0]).await.unwrap();
        assert!(read_answer(&mut far).await.is_err());
    }

    #[tokio::test]
    async fn a_socket_goes_over_with_what_was_read() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        let big = vec![7; 300_000];
        let (sent, received) = tokio::join!(send_socket(&near, server, &big), receive_socket(&mut far));
        sent.unwrap();
        let (mut socket, read) = received.unwrap();
        assert_eq!(read, big);
        socket.write_all(b"hello").await.unwrap();
        let mut said = [0; 5];
        client.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
    }
}
