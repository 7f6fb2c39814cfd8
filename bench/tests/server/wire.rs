//! HTTP requests and WebSocket frames, a server's side, blocking.

use std::io::{BufRead, Write};
use std::net::TcpStream;

use serde_json::Value;

/// The answer to an upgrade with the sample nonce of RFC 6455.
pub const UPGRADE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                           Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

pub struct Request {
    pub path: String,
    /// What `Authorization: Bearer` says.
    #[allow(dead_code, reason = "not every server that uses this asks for one")]
    pub token: Option<String>,
    pub body: Value,
}

/// `None`: the client is gone.
pub fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = || {
        let mut text = String::new();
        reader.read_line(&mut text).ok().filter(|count| *count > 0)?;
        Some(text.trim_end().to_ascii_lowercase())
    };
    let path = line()?.split(' ').nth(1)?.to_owned();
    let (mut length, mut token) = (0, None);
    loop {
        let header = line()?;
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        token = token.or(header.strip_prefix("authorization: bearer ").map(str::to_owned));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, token, body: serde_json::from_slice(&body).unwrap_or_default() })
}

pub fn respond(mut stream: &TcpStream, body: &Value, chunked: bool) {
    let text = body.to_string();
    let answer = match chunked {
        false => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()),
        true => {
            let (one, two) = text.split_at(text.len() / 2);
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
                one.len(),
                two.len()
            )
        }
    };
    stream.write_all(answer.as_bytes()).unwrap();
}

pub fn respond_not_found(mut stream: &TcpStream) {
    stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
}

/// One frame, unmasked; an unmasked one from a client ends the test. `None`: the client is gone.
pub fn read_frame(reader: &mut impl BufRead) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    reader.read_exact(&mut head).ok()?;
    assert_eq!((head[0] & 0x80, head[1] & 0x80), (0x80, 0x80), "clients send whole, masked frames");
    let length = match head[1] & 0x7f {
        126 => {
            let mut wide = [0; 2];
            reader.read_exact(&mut wide).ok()?;
            usize::from(u16::from_be_bytes(wide))
        }
        short => usize::from(short),
    };
    let mut key = [0; 4];
    reader.read_exact(&mut key).ok()?;
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).ok()?;
    payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Some((head[0] & 0x0f, payload))
}

/// Failures are not told: the reading side of the same connection ends.
pub fn write_frame(stream: &mut TcpStream, first: u8, payload: &[u8]) {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(u8::try_from(short).unwrap()),
        medium => {
            frame.push(126);
            frame.extend(u16::try_from(medium).unwrap().to_be_bytes());
        }
    }
    frame.extend(payload);
    stream.write_all(&frame).ok();
}

pub fn write_text(stream: &mut TcpStream, text: &str) {
    write_frame(stream, 0x81, text.as_bytes());
}
