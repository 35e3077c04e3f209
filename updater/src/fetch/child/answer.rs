//! What the head of an answer means for a download that wants certain bytes of a certain file.

use ureq::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, LAST_MODIFIED, LOCATION,
    RETRY_AFTER, TRANSFER_ENCODING,
};
use ureq::http::{HeaderMap, StatusCode};

use crate::fetch::failure::{Failure, FailureKind};
use crate::fetch::wire::{MAX_TAG, Validator};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// First byte.
    pub offset: u64,
    /// End of what is wanted.
    pub end: Option<u64>,
    /// The file as it was known before.
    pub known: Option<&'a Validator>,
}

/// What to do with an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take the body.
    Body {
        /// Bytes of it that lie before what is wanted.
        skip: u64,
        /// What the server says about the file.
        head: Validator,
        /// The end of the body is the end of the file, and not just a closed connection or the end of a range.
        ends_file: bool,
    },
    /// Nothing lies behind the offset.
    Complete,
    Redirect(String),
    Failed(Failure),
}

impl Wanted<'_> {
    /// The header `Range`, where less than the whole file is wanted.
    pub fn range(&self) -> Option<String> {
        match (self.offset, self.end) {
            (0, None) => None,
            (first, None) => Some(format!("bytes={first}-")),
            (first, Some(end)) => Some(format!("bytes={first}-{}", end.saturating_sub(1))),
        }
    }

    /// The header `If-Range`: the server shall send the rest only of the very same file. A weak `ETag` won't do there.
    pub fn if_range(&self) -> Option<&str> {
        self.known.filter(|_| self.offset > 0).and_then(|known| {
            let etag = known.etag.as_deref().filter(|tag| !tag.starts_with("W/"));
            etag.or(known.modified.as_deref())
        })
    }

    /// Judges the head of an answer.
    pub fn judge(&self, status: StatusCode, headers: &HeaderMap) -> Verdict {
        let head = |length| Validator {
            etag: tag(headers, &ETAG),
            modified: tag(headers, &LAST_MODIFIED),
            length,
        };
        match status.as_u16() {
            200 | 206 if is_encoded(headers) => nonsense("compresses what must be sent as it is"),
            200 => self.whole(
                head(text(headers, &CONTENT_LENGTH).and_then(number)),
                headers,
            ),
            206 => match text(headers, &CONTENT_RANGE).and_then(ContentRange::parse) {
                Some(range) => self.part(&range, head(range.total)),
                None => nonsense("sends a part of the file and does not say which"),
            },
            416 => self.no_such_range(text(headers, &CONTENT_RANGE)),
            301 | 302 | 303 | 307 | 308 => match text(headers, &LOCATION) {
                Some(location) => Verdict::Redirect(location.to_owned()),
                None => nonsense("redirects and does not say where to"),
            },
            code => Verdict::Failed(refusal(code, status, headers)),
        }
    }

    fn whole(&self, head: Validator, headers: &HeaderMap) -> Verdict {
        if let Some(changed) = self.changed(&head) {
            return changed;
        }
        if head.length.is_some_and(|length| length < self.offset) {
            return shorter(self.offset);
        }
        let is_chunked = headers.contains_key(TRANSFER_ENCODING);
        Verdict::Body {
            skip: self.offset,
            ends_file: is_chunked || head.length.is_some(),
            head,
        }
    }

    fn part(&self, range: &ContentRange, head: Validator) -> Verdict {
        if let Some(changed) = self.changed(&head) {
            return changed;
        }
        let is_asked_for =
            range.first == self.offset && self.end.is_none_or(|end| range.last < end);
        if !is_asked_for {
            return nonsense("sends another part of the file than was asked for");
        }
        Verdict::Body {
            skip: 0,
            head,
            ends_file: false,
        }
    }

    fn no_such_range(&self, range: Option<&str>) -> Verdict {
        let total = range
            .and_then(|text| text.strip_prefix("bytes */"))
            .and_then(number)
            .or(self.known.and_then(|known| known.length));
        let head = Validator {
            length: total,
            ..Validator::default()
        };
        if let Some(changed) = self.changed(&head) {
            return changed;
        }
        match total {
            Some(total) if total == self.offset => Verdict::Complete,
            Some(total) if total < self.offset => shorter(self.offset),
            _ => nonsense("says 416 Range Not Satisfiable and does not go on with the file"),
        }
    }

    /// A server need not repeat everything that it said; what it says must agree.
    fn changed(&self, head: &Validator) -> Option<Verdict> {
        let known = self.known?;
        let differ = |was: &Option<String>, is: &Option<String>| match (was, is) {
            (Some(was), Some(is)) => Some(was != is),
            _ => None,
        };
        let same_length = match (known.length, head.length) {
            (Some(was), Some(is)) => was == is,
            _ => true,
        };
        // Mirrors may have the same file with another date, but not with another tag.
        let other = differ(&known.etag, &head.etag)
            .or_else(|| differ(&known.modified, &head.modified))
            .unwrap_or(false);
        (other || !same_length).then(|| {
            Verdict::Failed(Failure::new(
                FailureKind::Changed,
                "the file on the server changed since the download began",
            ))
        })
    }
}

fn shorter(offset: u64) -> Verdict {
    Verdict::Failed(Failure::new(
        FailureKind::Changed,
        format!("the file on the server is shorter than the {offset} bytes that are there already"),
    ))
}

fn nonsense(what: &str) -> Verdict {
    Verdict::Failed(Failure::new(
        FailureKind::Answer,
        format!("the server {what}"),
    ))
}

fn refusal(code: u16, status: StatusCode, headers: &HeaderMap) -> Failure {
    if code == 407 {
        return Failure::new(
            FailureKind::ProxyPassword,
            "the proxy wants a name and a password",
        );
    }
    let reason = status.canonical_reason().unwrap_or_default();
    let detail = format!("the server says {code} {reason}");
    Failure {
        retry_after: text(headers, &RETRY_AFTER).and_then(retry_after),
        ..Failure::new(FailureKind::Status(code), detail.trim_end())
    }
}

/// Seconds, or a date.
fn retry_after(text: &str) -> Option<u64> {
    number(text).or_else(|| {
        let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        let left = until.duration_since(jiff::Timestamp::now());
        u64::try_from(left.as_secs()).ok()
    })
}

fn is_encoded(headers: &HeaderMap) -> bool {
    text(headers, &CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity"))
}

/// The bytes of a `206`: `bytes FIRST-LAST/TOTAL`, with `*` where the total is not known.
#[derive(Debug)]
struct ContentRange {
    first: u64,
    last: u64,
    total: Option<u64>,
}

impl ContentRange {
    fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.strip_prefix("bytes ")?.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let range = Self {
            first: number(first)?,
            last: number(last)?,
            total: match total {
                "*" => None,
                total => Some(number(total)?),
            },
        };
        let is_sound = range.first <= range.last && range.total.is_none_or(|t| range.last < t);
        is_sound.then_some(range)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn tag(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    text(headers, name)
        .filter(|tag| !tag.is_empty() && tag.len() <= MAX_TAG)
        .map(str::to_owned)
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
