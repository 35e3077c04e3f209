//! The values that `update.conf` may hold.

use core::ops::RangeInclusive;
use core::str::FromStr;

use heapless::String;

const WEEK: u32 = 7 * 24 * 3600;

/// A value that can't be used; says what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid(pub &'static str);

/// What the device does by itself once a release is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebootStrategy {
    /// Reboots, within the window where there is one.
    Reboot,
    /// The same, when nobody is logged in or ten minutes after those who are were told.
    BestEffort,
    /// Waits for somebody to reboot it.
    Off,
}

impl FromStr for RebootStrategy {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "reboot" => Ok(Self::Reboot),
            "best-effort" => Ok(Self::BestEffort),
            "off" => Ok(Self::Off),
            "etcd-lock" => Err(Invalid(
                "`off`, `reboot` or `best-effort`; there is no `etcd-lock` here yet",
            )),
            _ => Err(Invalid("`off`, `reboot` or `best-effort`")),
        }
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// When a reboot window opens, in local time: every day, or once a week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowStart {
    pub day: Option<Weekday>,
    /// Minutes since midnight, below 1440.
    pub minute: u16,
}

impl FromStr for WindowStart {
    type Err = Invalid;

    /// Locksmith's syntax: `Thu 04:00`, or `04:00` for every day; one digit will do, and any space between.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        const MUST: Invalid = Invalid("a time such as `04:00` or `Thu 04:00`");
        let mut words = text.split_ascii_whitespace();
        let (day, time) = match (words.next(), words.next(), words.next()) {
            (Some(day), Some(time), None) => (Some(weekday(day).ok_or(MUST)?), time),
            (Some(time), None, None) => (None, time),
            _ => return Err(MUST),
        };
        let (hour, minute) = time.split_once(':').ok_or(MUST)?;
        let digits = |t: &str| matches!(t.len(), 1 | 2) && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(hour) || !digits(minute) {
            return Err(MUST);
        }
        let hour: u16 = number(hour, 0..=23, MUST.0)?;
        let minute: u16 = number(minute, 0..=59, MUST.0)?;
        let minute = hour.saturating_mul(60).saturating_add(minute);
        Ok(Self { day, minute })
    }
}

fn weekday(text: &str) -> Option<Weekday> {
    const DAYS: [(&str, Weekday); 7] = [
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ];
    let named = |(name, _): &&(&str, Weekday)| text.eq_ignore_ascii_case(name);
    DAYS.iter().find(named).map(|(_, day)| *day)
}

/// The length of a window, in seconds.
pub fn length(text: &str) -> Result<u32, Invalid> {
    let must = Invalid("a duration such as `1h30m`, at most 168h");
    let seconds = duration(text).ok_or(must)?;
    Some(seconds).filter(|s| (1..=WEEK).contains(s)).ok_or(must)
}

/// Time between two looks for an update, in seconds.
pub fn interval(text: &str) -> Result<u32, Invalid> {
    let must = Invalid("a duration such as `45m`, from 1m to 168h");
    let seconds = duration(text).ok_or(must)?;
    Some(seconds)
        .filter(|s| (60..=WEEK).contains(s))
        .ok_or(must)
}

/// A Go duration of hours, minutes and seconds, such as `1h30m` or `1.5h`, in seconds; what is left of one is dropped.
fn duration(text: &str) -> Option<u32> {
    let mut total = 0_u32;
    let mut rest = text;
    while !rest.is_empty() {
        let (value, tail) = digits(rest)?;
        let (parts, tail) = match tail.strip_prefix('.') {
            Some(tail) => fraction(tail)?,
            None => (0, tail),
        };
        let mut tail = tail.chars();
        let unit = match tail.next()? {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        rest = tail.as_str();
        let part = parts.checked_mul(unit)? / MILLION;
        total = total.checked_add(value.checked_mul(unit)?)?;
        total = total.checked_add(part)?;
    }
    Some(total)
}

/// Parts of one in which fractions are counted.
const MILLION: u32 = 1_000_000;

/// The number at the front, and what follows it.
fn digits(text: &str) -> Option<(u32, &str)> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    let (value, rest) = text.split_at_checked(count)?;
    Some((value.parse().ok()?, rest))
}

/// Millionths, from the digits behind the point, and what follows them.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(count).filter(|_| count > 0)?;
    let mut worth = MILLION;
    let mut parts = 0;
    for digit in digits.bytes() {
        worth /= 10;
        parts += u32::from(digit.saturating_sub(b'0')) * worth;
    }
    Some((parts, rest))
}

/// Bytes per second, in units of 1024 or 1024² of them where `K` or `M` follows; `unlimited` is none.
pub fn rate(text: &str) -> Result<Option<u64>, Invalid> {
    const MUST: Invalid =
        Invalid("`unlimited` or bytes per second such as `500K` or `2M`, at least 1K");
    const LEAST: u64 = 1 << 10;
    if text == "unlimited" {
        return Ok(None);
    }
    let (digits, unit) = match (text.strip_suffix('K'), text.strip_suffix('M')) {
        (Some(digits), _) => (digits, 1 << 10),
        (_, Some(digits)) => (digits, 1 << 20),
        _ => (text, 1),
    };
    let value: u64 = number(digits, 1..=u64::MAX, MUST.0)?;
    let rate = value.checked_mul(unit).filter(|rate| *rate >= LEAST);
    rate.map(Some).ok_or(MUST)
}

/// An absolute path without control characters.
pub fn path<const N: usize>(text: &str) -> Result<String<N>, Invalid> {
    const MUST: Invalid = Invalid("an absolute path of at most 255 bytes");
    if !text.starts_with('/') || text.chars().any(char::is_control) {
        return Err(MUST);
    }
    String::try_from(text).map_err(|_| MUST)
}

/// 1–64 bytes of what the strings of a manifest may have.
pub fn name(text: &str) -> Result<String<64>, Invalid> {
    const MUST: Invalid = Invalid("1 to 64 of A-Z a-z 0-9 . _ + -");
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    if text.is_empty() || !text.bytes().all(allowed) {
        return Err(MUST);
    }
    String::try_from(text).map_err(|_| MUST)
}

/// An `http` or `https` address, or `disabled`.
pub fn server<const N: usize>(text: &str) -> Result<String<N>, Invalid> {
    const MUST: Invalid = Invalid("`disabled` or an http or https address of at most 512 bytes");
    let host = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let is_address = host.is_some_and(|h| !h.is_empty() && !h.starts_with('/'));
    if text != super::SERVER_DISABLED && !is_address {
        return Err(MUST);
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(MUST);
    }
    String::try_from(text).map_err(|_| MUST)
}

/// Seconds from 1 to a day.
pub fn seconds(text: &str) -> Result<u32, Invalid> {
    number(text, 1..=86_400, "a number of seconds from 1 to 86400")
}

/// Decimal digits within `range`.
pub fn number<T: FromStr + PartialOrd>(
    text: &str,
    range: RangeInclusive<T>,
    must: &'static str,
) -> Result<T, Invalid> {
    // `parse` would take a leading plus.
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Invalid(must));
    }
    match text.parse() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(Invalid(must)),
    }
}
