//! Cuts a stream of bytes into lines, holding a bounded amount of an unfinished one.

/// Bytes received and not yet handed out as lines.
#[derive(Debug)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// Longest line, in bytes without its newline.
    limit: usize,
}

/// The other end sent a line longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Lines {
    pub(crate) fn new(limit: usize) -> Lines {
        Lines { bytes: Vec::new(), limit }
    }

    /// Bytes not handed out.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes in what was read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line without its newline; none: more bytes are needed.
    pub(crate) fn next_line(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        match self.bytes.iter().position(|b| *b == b'\n') {
            Some(at) if at > self.limit => Err(TooLong),
            Some(at) => {
                let mut line: Vec<u8> = self.bytes.drain(..=at).collect();
                line.pop();
                Ok(Some(line))
            }
            None if self.bytes.len() > self.limit => Err(TooLong),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_they_went_in() {
        let mut lines = Lines::new(10);
        lines.push(b"on");
        assert_eq!(lines.next_line(), Ok(None));
        lines.push(b"e\ntwo\nthr");
        assert_eq!(lines.next_line(), Ok(Some(b"one".to_vec())));
        assert_eq!(lines.next_line(), Ok(Some(b"two".to_vec())));
        assert_eq!(lines.next_line(), Ok(None));
        lines.push(b"ee\n\n");
        assert_eq!(lines.next_line(), Ok(Some(b"three".to_vec())));
        assert_eq!(lines.next_line(), Ok(Some(Vec::new())));
        assert_eq!(lines.next_line(), Ok(None));
    }

    #[test]
    fn a_line_past_the_limit_is_refused_finished_or_not() {
        for text in [&b"abcdef"[..], b"abcdef\n"] {
            let mut lines = Lines::new(5);
            lines.push(text);
            assert_eq!(lines.next_line(), Err(TooLong));
        }
        let mut lines = Lines::new(5);
        lines.push(b"abcde\n");
        assert_eq!(lines.next_line(), Ok(Some(b"abcde".to_vec())));
    }
}
