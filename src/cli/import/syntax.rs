//! Follows the structure of one JSON value byte by byte, however it arrives.
//!
//! Knows just enough to find the value's end, and the exact byte at which it stops being JSON: the
//! insides of numbers, literals and escapes are left to whoever reads the value.

/// Arrays and objects within each other, at most.
const DEPTH: usize = 128;

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    /// In a number or literal.
    Word,
    /// In a string; a key or a value.
    Text {
        key: bool,
    },
    /// Behind a backslash.
    Escape {
        key: bool,
    },
}

/// What a byte means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The value goes on behind it.
    More,
    /// It is the value's last.
    Last,
    /// The value ended before it.
    Behind,
}

/// The state between two bytes of a value.
pub struct Syntax {
    expect: Expect,
    /// Of each open array or object, whether it is an object.
    open: Vec<bool>,
}

impl Syntax {
    /// Before the first byte of a value.
    pub fn new() -> Syntax {
        Syntax { expect: Expect::Value, open: Vec::new() }
    }

    /// Whether the next bytes are a string's, of which only quotation marks, backslashes and control
    /// characters mean anything.
    pub fn is_text(&self) -> bool {
        matches!(self.expect, Expect::Text { .. })
    }

    /// Takes the next byte.
    ///
    /// # Errors
    /// It can't stand here; the words say why.
    pub fn step(&mut self, byte: u8) -> Result<Step, &'static str> {
        match self.expect {
            Expect::Text { key } => self.text(byte, key),
            Expect::Escape { key } => {
                self.expect = Expect::Text { key };
                if byte < b' ' { Err("a control character in a string") } else { Ok(Step::More) }
            }
            Expect::Word if matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.') => {
                Ok(Step::More)
            }
            Expect::Word => match self.ended() {
                Step::Last => Ok(Step::Behind),
                _ => self.step(byte),
            },
            _ if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') => Ok(Step::More),
            Expect::Colon if byte == b':' => self.go(Expect::Value),
            Expect::Colon => Err("a colon is missing"),
            Expect::Key | Expect::KeyOrEnd if byte == b'"' => self.go(Expect::Text { key: true }),
            Expect::KeyOrEnd | Expect::ValueOrEnd | Expect::CommaOrEnd if matches!(byte, b'}' | b']') => {
                self.close(byte == b'}')
            }
            Expect::Key | Expect::KeyOrEnd => Err("a key is missing"),
            Expect::CommaOrEnd if byte == b',' => {
                let object = self.open.last() == Some(&true);
                self.go(if object { Expect::Key } else { Expect::Value })
            }
            Expect::CommaOrEnd => Err("a comma or a closing bracket is missing"),
            Expect::Value | Expect::ValueOrEnd => self.begin(byte),
        }
    }

    fn go(&mut self, expect: Expect) -> Result<Step, &'static str> {
        self.expect = expect;
        Ok(Step::More)
    }

    fn text(&mut self, byte: u8, key: bool) -> Result<Step, &'static str> {
        match byte {
            b'"' if key => self.go(Expect::Colon),
            b'"' => Ok(self.ended()),
            b'\\' => self.go(Expect::Escape { key }),
            0..b' ' => Err("a control character in a string"),
            _ => Ok(Step::More),
        }
    }

    fn begin(&mut self, byte: u8) -> Result<Step, &'static str> {
        match byte {
            b'"' => self.go(Expect::Text { key: false }),
            b'{' | b'[' if self.open.len() == DEPTH => Err("too many brackets within each other"),
            b'{' => {
                self.open.push(true);
                self.go(Expect::KeyOrEnd)
            }
            b'[' => {
                self.open.push(false);
                self.go(Expect::ValueOrEnd)
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.go(Expect::Word),
            _ => Err("a value is missing"),
        }
    }

    fn close(&mut self, object: bool) -> Result<Step, &'static str> {
        match self.open.pop() {
            Some(open) if open == object => Ok(self.ended()),
            _ => Err("a bracket of the wrong kind"),
        }
    }

    /// A value has ended.
    fn ended(&mut self) -> Step {
        self.expect = Expect::CommaOrEnd;
        if self.open.is_empty() { Step::Last } else { Step::More }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a text stops being JSON, or how long its value is.
    fn follow(text: &str) -> Result<usize, usize> {
        let mut syntax = Syntax::new();
        for (at, byte) in text.bytes().enumerate() {
            match syntax.step(byte) {
                Ok(Step::More) => {}
                Ok(Step::Last) => return Ok(at + 1),
                Ok(Step::Behind) => return Ok(at),
                Err(_) => return Err(at),
            }
        }
        Err(text.len())
    }

    #[test]
    fn values_end_where_they_end() {
        for (text, end) in [
            ("{}]", 2),
            (r#"{"a":[1,2,{"b":null}],"c":"}\"]"} ,"#, 33),
            ("[]x", 2),
            ("12,", 2),
            ("true]", 4),
            (r#""a\\"x"#, 5),
            (" {\n} ", 4),
        ] {
            assert_eq!(follow(text), Ok(end), "{text}");
        }
    }

    #[test]
    fn the_byte_that_cannot_be_is_named() {
        for (text, at) in [
            (r#"{"a" 1}"#, 5),
            (r#"{"a":1,}"#, 7),
            (r#"{"a":1 "b":2}"#, 7),
            (r#"{"a":1]"#, 6),
            (r#"{"a":1, {"b":1}"#, 8),
            ("{\"a\n", 3),
            ("[1 2]", 3),
            ("[,", 1),
            ("?", 0),
            ("{\"a\":", 5),
        ] {
            assert_eq!(follow(text), Err(at), "{text}");
        }
        assert_eq!(follow(&"[".repeat(DEPTH + 1)), Err(DEPTH));
    }
}
