//! A small HTTP/1.1 client over one kept-alive connection: GET or POST JSON, get an answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest silence of a server that hashes a batch of passwords.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Longest line of a head, in bytes.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// One connection, dialled again when the server has closed it.
pub struct Client {
    target: SocketAddr,
    patience: Duration,
    stream: Option<BufReader<TcpStream>>,
}

/// An answer of any status.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

impl Client {
    /// Connects when first used.
    pub fn new(target: SocketAddr) -> Client {
        Client::with_patience(target, ANSWER_TIMEOUT)
    }

    /// Waits no longer than `patience` for the server to accept, or to say anything.
    pub fn with_patience(target: SocketAddr, patience: Duration) -> Client {
        Client { target, patience, stream: None }
    }

    /// Gets a page.
    pub fn get(&mut self, path: &str, token: Option<&str>) -> io::Result<Answer> {
        self.ask("GET", path, token, b"")
    }

    /// Posts `body` and waits for the whole answer.
    pub fn post(&mut self, path: &str, token: Option<&str>, body: &[u8]) -> io::Result<Answer> {
        self.ask("POST", path, token, body)
    }

    fn ask(&mut self, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> io::Result<Answer> {
        // What the system calls these says nothing to whoever reads it.
        self.try_to_ask(method, path, token, body).map_err(|why| match why.kind() {
            io::ErrorKind::WouldBlock => {
                let seconds = self.patience.as_secs_f64();
                io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {seconds} s"))
            }
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(why.kind(), "the connection was closed before the answer was whole")
            }
            _ => why,
        })
    }

    fn try_to_ask(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.target, self.patience)?;
                stream.set_read_timeout(Some(self.patience))?;
                stream.set_write_timeout(Some(self.patience))?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let bearer = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{bearer}\r\n",
            self.target,
            body.len()
        );
        stream.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let (answer, keep) = read_answer(&mut stream)?;
        self.stream = keep.then_some(stream);
        Ok(answer)
    }
}

/// Reads one answer; also tells whether the connection can be used again.
pub fn read_answer(from: &mut impl BufRead) -> io::Result<(Answer, bool)> {
    let first = line(from)?;
    let mut words = first.split(' ');
    let version = words.next().filter(|version| version.starts_with("HTTP/1."));
    let status = words.next().and_then(|code| code.parse().ok());
    let (Some(version), Some(status)) = (version, status) else {
        return Err(wrong("the answer does not begin like HTTP"));
    };
    let (mut length, mut chunked, mut keep) = (None, false, version == "HTTP/1.1");
    loop {
        let header = line(from)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(|| wrong("a bad header"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse().map_err(|_| wrong("a bad Content-Length"))?),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => keep &= !value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = vec![];
    match (chunked, length) {
        (true, _) => read_chunks(from, &mut body)?,
        (false, Some(length)) => read_exactly(from, length, &mut body)?,
        (false, None) => {
            keep = false;
            from.take(ANSWER_BYTES_MAX as u64).read_to_end(&mut body)?;
        }
    }
    Ok((Answer { status, body }, keep))
}

fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let head = line(from)?;
        let digits = head.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| wrong("a bad chunk"))?;
        if size == 0 {
            while !line(from)?.is_empty() {} // trailers
            return Ok(());
        }
        read_exactly(from, size, body)?;
        line(from)?;
    }
}

fn read_exactly(from: &mut impl BufRead, count: usize, body: &mut Vec<u8>) -> io::Result<()> {
    if count > ANSWER_BYTES_MAX - body.len() {
        return Err(wrong("the answer is larger than any this server was asked for"));
    }
    let before = body.len();
    from.take(count as u64).read_to_end(body)?;
    match body.len() - before == count {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    from.take(LINE_BYTES_MAX).read_line(&mut text)?;
    match text.strip_suffix('\n') {
        Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, body: &str, keeps: bool) {
        let mut bytes = text.as_bytes();
        let (answer, keep) = read_answer(&mut bytes).unwrap();
        assert_eq!((answer.status, answer.body.as_slice(), keep), (201, body.as_bytes(), keeps), "{text:?}");
    }

    #[test]
    fn bodies_of_each_kind_are_read_whole() {
        check("HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhelloNEXT", "hello", true);
        check("HTTP/1.1 201 Created\r\ncontent-length: 0\r\nConnection: close\r\n\r\n", "", false);
        let chunks = "5;x=y\r\nhello\r\nA\r\n, world ok\r\n0\r\nTrailer: x\r\n\r\n";
        let chunked = format!("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        check(&chunked, "hello, world ok", true);
        check("HTTP/1.0 201 Created\r\n\r\nto the end", "to the end", false);
    }

    #[test]
    fn silence_and_a_cut_answer_are_told_in_words() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let mut client = Client::with_patience(target, Duration::from_millis(50));
        let silent = client.get("/", None).unwrap_err();
        assert_eq!(
            (silent.kind(), silent.to_string().as_str()),
            (io::ErrorKind::TimedOut, "no answer within 0.05 s")
        );
        let server = std::thread::spawn(move || {
            drop(listener.accept()); // the first
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap());
            while line(&mut head).is_ok_and(|line| !line.is_empty()) {}
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut").unwrap();
        });
        let cut = Client::new(target).get("/", None).unwrap_err();
        assert!(cut.to_string().contains("closed before the answer was whole"), "{cut}");
        server.join().unwrap();
    }

    #[test]
    fn a_cut_answer_is_an_error_at_every_byte() {
        let whole = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        for cut in 0..whole.len() {
            assert!(read_answer(&mut &whole.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
        assert!(read_answer(&mut &b"SSH-2.0\r\n\r\n"[..]).is_err());
        assert!(read_answer(&mut &b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n"[..]).is_err());
    }
}
