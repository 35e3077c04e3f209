//! A bounded check of JSON text before anything interprets it.
//!
//! `serde-json-core` does not unescape, accepts control characters and junk in values it skips, takes the last of two
//! equal keys and recurses as deep as the text says. So the text is first held to a small, exact subset of RFC 8259: one
//! object and nothing after it, no backslash or control byte anywhere, valid UTF-8, nesting of at most [`MAX_DEPTH`], at
//! most [`MAX_KEYS`] keys in an object and none of them twice. What passes means the same to every reader.

/// Deepest nesting; the outermost object is the first level.
pub const MAX_DEPTH: usize = 8;
/// Most keys in one object.
pub const MAX_KEYS: usize = 64;

/// Why the text is not acceptable, with the offset of the offending byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("it is not UTF-8 at byte {0}")]
    NotUtf8(usize),
    #[error("it has a control byte at byte {0}")]
    Control(usize),
    #[error("it has a backslash at byte {0}")]
    Escape(usize),
    #[error("it is not valid JSON at byte {0}")]
    Syntax(usize),
    #[error("it ends too early")]
    Truncated,
    #[error("it is not an object")]
    NotAnObject,
    #[error("it nests deeper than 8 levels at byte {0}")]
    TooDeep(usize),
    #[error("an object has more than 64 keys at byte {0}")]
    TooManyKeys(usize),
    #[error("a key appears twice at byte {0}")]
    DuplicateKey(usize),
    #[error("something follows the object at byte {0}")]
    Trailing(usize),
}

/// Succeeds when `text` is one object of the subset above. Allocates nothing and takes time linear in the length, but
/// for the comparison of each object's keys.
///
/// # Errors
/// The first rule that is broken.
pub fn check(text: &[u8]) -> Result<(), JsonError> {
    if let Err(error) = core::str::from_utf8(text) {
        return Err(JsonError::NotUtf8(error.valid_up_to()));
    }
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'\\' => return Err(JsonError::Escape(at)),
            // Line ends and tabs are white space between tokens, but a signed manifest has no use for them.
            0..=0x1f | 0x7f => return Err(JsonError::Control(at)),
            _ => {}
        }
    }
    let mut scanner = Scanner { text, at: 0 };
    scanner.skip_space();
    if scanner.peek()? != b'{' {
        return Err(JsonError::NotAnObject);
    }
    scanner.object(1)?;
    scanner.skip_space();
    match scanner.peek() {
        Err(_) => Ok(()),
        Ok(_) => Err(JsonError::Trailing(scanner.at)),
    }
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Result<u8, JsonError> {
        self.text.get(self.at).copied().ok_or(JsonError::Truncated)
    }

    fn next(&mut self) -> Result<u8, JsonError> {
        let byte = self.peek()?;
        self.at = self.at.saturating_add(1);
        Ok(byte)
    }

    fn skip_space(&mut self) {
        while self.peek() == Ok(b' ') {
            self.at = self.at.saturating_add(1);
        }
    }

    /// What was just consumed is wrong.
    fn syntax<T>(&self) -> Result<T, JsonError> {
        Err(JsonError::Syntax(self.at.saturating_sub(1)))
    }

    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(drop),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(JsonError::Syntax(self.at)),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        let mut keys = heapless::Vec::<&'a [u8], MAX_KEYS>::new();
        self.items(depth, b'}', |scanner| {
            let at = scanner.at;
            let key = scanner.string()?;
            if keys.contains(&key) {
                return Err(JsonError::DuplicateKey(at));
            }
            keys.push(key).map_err(|_| JsonError::TooManyKeys(at))?;
            scanner.skip_space();
            if scanner.next()? != b':' {
                return scanner.syntax();
            }
            scanner.skip_space();
            scanner.value(depth.saturating_add(1))
        })
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.items(depth, b']', |scanner| {
            scanner.value(depth.saturating_add(1))
        })
    }

    /// Consumes an opening bracket, items separated by commas and the closing bracket.
    fn items(
        &mut self,
        depth: usize,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep(self.at));
        }
        self.next()?;
        self.skip_space();
        if self.peek()? == close {
            self.next()?;
            return Ok(());
        }
        loop {
            item(self)?;
            self.skip_space();
            match self.next()? {
                b',' => self.skip_space(),
                byte if byte == close => return Ok(()),
                _ => return self.syntax(),
            }
        }
    }

    fn string(&mut self) -> Result<&'a [u8], JsonError> {
        if self.next()? != b'"' {
            return self.syntax();
        }
        let start = self.at;
        while self.next()? != b'"' {}
        let end = self.at.saturating_sub(1);
        self.text.get(start..end).ok_or(JsonError::Truncated)
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), JsonError> {
        for &expected in word {
            if self.next()? != expected {
                return self.syntax();
            }
        }
        Ok(())
    }

    /// `-`, an integer without leading zeros, a fraction, an exponent.
    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek()? == b'-' {
            self.next()?;
        }
        match self.next()? {
            b'0' => {}
            b'1'..=b'9' => self.skip_digits(),
            _ => return self.syntax(),
        }
        if self.peek() == Ok(b'.') {
            self.next()?;
            self.digits()?;
        }
        if matches!(self.peek(), Ok(b'e' | b'E')) {
            self.next()?;
            if matches!(self.peek(), Ok(b'+' | b'-')) {
                self.next()?;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !self.next()?.is_ascii_digit() {
            return self.syntax();
        }
        self.skip_digits();
        Ok(())
    }

    fn skip_digits(&mut self) {
        while matches!(self.peek(), Ok(b'0'..=b'9')) {
            self.at = self.at.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;

    #[test]
    fn accepts_what_json_is() {
        for text in [
            "{}",
            " { \"a\" : [ 1 , -0 , 2.5e-3 , true , false , null , \"\" , {} , [] ] } ",
            r#"{"a":{"a":1},"b":{"a":1},"c":"ü"}"#,
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn each_rule_has_its_error() {
        use JsonError::*;
        let cases: [(&[u8], JsonError); 20] = [
            (b"", Truncated),
            (b"[]", NotAnObject),
            (b"{", Truncated),
            (b"{}x", Trailing(2)),
            (b"{} {}", Trailing(3)),
            (b"{\"a\":1,}", Syntax(7)),
            (b"{\"a\" 1}", Syntax(5)),
            (b"{a:1}", Syntax(1)),
            (b"{\"a\":01}", Syntax(6)),
            (b"{\"a\":1.}", Syntax(7)),
            (b"{\"a\":+1}", Syntax(5)),
            (b"{\"a\":tru}", Syntax(8)),
            (b"{\"a\":junk}", Syntax(5)),
            (b"{\"a\":[1 2]}", Syntax(8)),
            (b"{\"a\":1,\"a\":2}", DuplicateKey(7)),
            (b"{\"x\":[{\"a\":1,\"a\":2}]}", DuplicateKey(13)),
            (b"{\"\\u0061\":1}", Escape(2)),
            (b"{\n}", Control(1)),
            (b"{\"a\":\"\x7f\"}", Control(6)),
            (b"{\"a\":\"\xff\"}", NotUtf8(6)),
        ];
        for (text, error) in cases {
            assert_eq!(
                check(text),
                Err(error),
                "{:?}",
                std::string::String::from_utf8_lossy(text)
            );
        }
    }

    #[test]
    fn sixteen_thousand_brackets_do_not_overflow_the_stack() {
        let deep = format!("{{\"a\":{}", "[".repeat(16_000));
        assert_eq!(check(deep.as_bytes()), Err(JsonError::TooDeep(12)));
        let nested = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert_eq!(check(nested(7).as_bytes()), Ok(()));
        assert_eq!(check(nested(8).as_bytes()), Err(JsonError::TooDeep(12)));
    }

    #[test]
    fn keys_of_an_object_are_counted() {
        let object = |n: usize| {
            let keys: std::vec::Vec<_> = (0..n).map(|i| format!("\"k{i}\":{i}")).collect();
            format!("{{{}}}", keys.join(","))
        };
        assert_eq!(check(object(64).as_bytes()), Ok(()));
        assert!(matches!(
            check(object(65).as_bytes()),
            Err(JsonError::TooManyKeys(_))
        ));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = check(&bytes);
        }

        #[test]
        fn what_passes_is_json_to_serde(text in r#"[\{\}\[\]":,a0-9e.+tfn -]{0,40}"#) {
            if check(text.as_bytes()).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
            }
        }

        #[test]
        fn generated_objects_pass(keys in proptest::collection::btree_map("[a-z]{1,4}", any::<i64>(), 0..20)) {
            let text = serde_json::to_vec(&keys).unwrap();
            prop_assert_eq!(check(&text), Ok(()));
        }
    }
}
