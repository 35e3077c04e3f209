//! What the loaders keep in blocks of variables: the boot state and the confirmed record.

use std::ops::Range;

use super::{Attr, State, u32_at};

/// Names of the six digits, in the order of the check.
const NAMES: [&str; 6] = [
    "tandem_a_priority",
    "tandem_a_tries",
    "tandem_a_successful",
    "tandem_b_priority",
    "tandem_b_tries",
    "tandem_b_successful",
];

/// The state that an environment's variables tell of; `get` gives the value that the loader would have.
#[must_use]
pub fn state_of(get: impl Fn(&str) -> Option<Vec<u8>>) -> Option<State> {
    let mut digits = Vec::new();
    for name in NAMES {
        let value = get(name)?;
        if value.len() != 1 || !value.iter().all(u8::is_ascii_digit) {
            return None;
        }
        digits.extend(value);
    }
    if get("tandem_check")? != digits {
        return None;
    }
    let attr = |at: usize| {
        let digit = |n: usize| digits.get(at + n).map_or(0, |digit| digit - b'0');
        (digit(2) < 2).then(|| Attr {
            priority: digit(0),
            tries: digit(1),
            successful: digit(2) == 1,
        })
    };
    Some([attr(0)?, attr(3)?])
}

/// The values of the seven variables.
#[must_use]
pub fn digits_of(state: &State) -> Vec<(&'static str, String)> {
    let digit = |attr: Attr| [attr.priority, attr.tries, u8::from(attr.successful)];
    let digits: Vec<String> = state
        .iter()
        .flat_map(|attr| digit(*attr))
        .map(|digit| digit.to_string())
        .collect();
    let check = ("tandem_check", digits.concat());
    NAMES.into_iter().zip(digits).chain([check]).collect()
}

/// One variable of a block: its name, and where its value is.
pub type Variable = (Vec<u8>, Range<usize>);

/// GRUB's environment block: the variables in order; `None` without the signature.
#[must_use]
pub fn grub_variables(block: &[u8]) -> Option<Vec<Variable>> {
    let signature = b"# GRUB Environment Block\n";
    if !block.starts_with(signature) {
        return None;
    }
    let mut variables = Vec::new();
    let mut at = signature.len();
    let line_end = |from: usize| {
        let mut at = from;
        loop {
            match block.get(at)? {
                b'\n' => return Some(at),
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
    };
    while at < block.len() {
        if block.get(at) == Some(&b'#') {
            match line_end(at) {
                Some(end) => at = end + 1,
                None => break,
            }
            continue;
        }
        let rest = block.get(at..).unwrap_or_default();
        let Some(equals) = rest.iter().position(|byte| *byte == b'=') else {
            break;
        };
        let start = at + equals + 1;
        let Some(end) = line_end(start) else { break };
        let name = rest.get(..equals).unwrap_or_default().to_vec();
        variables.push((name, start..end));
        at = end + 1;
    }
    Some(variables)
}

/// A variable as `load_env` leaves it: the last entry counts.
#[must_use]
pub fn grub_get(block: &[u8], name: &str) -> Option<Vec<u8>> {
    let variables = grub_variables(block)?;
    let found = variables.iter().rev().find(|(n, _)| n == name.as_bytes())?;
    block.get(found.1.clone()).map(<[u8]>::to_vec)
}

/// U-Boot's environment: the variables in order; `None` where the checksum differs. `skip` is 4, or 5 in a redundant one.
#[must_use]
pub fn uboot_variables(copy: &[u8], skip: usize) -> Option<Vec<Variable>> {
    let data = copy.get(skip..)?;
    if crc32fast::hash(data) != u32_at(copy, 0) {
        return None;
    }
    let mut variables = Vec::new();
    let mut at = 0;
    while let Some(rest) = data.get(at..) {
        let Some(end) = rest.iter().position(|byte| *byte == 0) else {
            break;
        };
        if end == 0 {
            break;
        }
        let entry = rest.get(..end).unwrap_or_default();
        if let Some(equals) = entry.iter().position(|byte| *byte == b'=') {
            let value = skip + at + equals + 1..skip + at + end;
            variables.push((entry.get(..equals).unwrap_or_default().to_vec(), value));
        }
        at += end + 1;
    }
    Some(variables)
}

#[must_use]
pub fn uboot_get(copy: &[u8], skip: usize, name: &str) -> Option<Vec<u8>> {
    let variables = uboot_variables(copy, skip)?;
    let found = variables.iter().rev().find(|(n, _)| n == name.as_bytes())?;
    copy.get(found.1.clone()).map(<[u8]>::to_vec)
}

/// Puts values of unchanged length into a block; `false` where a variable is not there or has another length.
#[must_use]
pub fn replace(block: &mut [u8], variables: &[Variable], state: &State) -> bool {
    digits_of(state).into_iter().all(|(name, value)| {
        let found = variables.iter().find(|(n, _)| n == name.as_bytes());
        let place = found.map(|(_, place)| place.clone());
        match place.and_then(|place| block.get_mut(place)) {
            Some(place) if place.len() == value.len() => {
                place.copy_from_slice(value.as_bytes());
                true
            }
            _ => false,
        }
    })
}

/// The confirmed record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    pub slot: usize,
    /// PARTUUIDs of USR-A, USR-B and ROOT, as text; `None` unless all three look like one.
    pub ids: Option<[String; 3]>,
    pub fresh: bool,
}

/// Reads the record as the GRUB script does: the letter counts as soon as it is one.
#[must_use]
pub fn record(block: &[u8]) -> Option<Record> {
    let text = |name| grub_get(block, name).and_then(|value| String::from_utf8(value).ok());
    let slot = match text("tandem_confirmed")?.as_str() {
        "a" => 0,
        "b" => 1,
        _ => return None,
    };
    let id = |name| text(name).filter(|id| is_uuid(id));
    let ids = [id("tandem_usr_a"), id("tandem_usr_b"), id("tandem_root")];
    let [Some(a), Some(b), Some(root)] = ids else {
        return Some(Record {
            slot,
            ids: None,
            fresh: text("tandem_fresh").as_deref() != Some("0"),
        });
    };
    Some(Record {
        slot,
        ids: Some([a, b, root]),
        fresh: text("tandem_fresh").as_deref() != Some("0"),
    })
}

fn is_uuid(text: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.len() == 36
        && text.chars().enumerate().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => hex(c),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::powercut::parse::put;

    #[test]
    fn environments_are_read_as_their_loaders_do() {
        let mut block =
            b"# GRUB Environment Block\nx=1\\\n2\ntandem_a_tries=1\n# c=4\ntandem_a_tries=2\n"
                .to_vec();
        block.resize(512, b'#');
        assert_eq!(grub_get(&block, "x").unwrap(), b"1\\\n2");
        assert_eq!(grub_get(&block, "tandem_a_tries").unwrap(), b"2");
        assert_eq!(grub_get(&block, "c"), None);
        let mut copy = b"\0\0\0\0a=1\0b=22\0\0".to_vec();
        copy.resize(512, 0xff);
        assert_eq!(uboot_get(&copy, 4, "b"), None);
        let crc = crc32fast::hash(&copy[4..]);
        put(&mut copy, 0, &crc.to_le_bytes());
        assert_eq!(uboot_get(&copy, 4, "b").unwrap(), b"22");
    }

    #[test]
    fn a_state_wants_its_check() {
        let state = [
            Attr::of_word(0x0032 << 48),
            Attr {
                priority: 1,
                tries: 0,
                successful: true,
            },
        ];
        let variables = digits_of(&state);
        let get = |wrong: bool| {
            let variables = variables.clone();
            move |name: &str| {
                let (_, value) = variables.iter().find(|(n, _)| *n == name)?;
                let value = if wrong && name == "tandem_check" {
                    "230100"
                } else {
                    value
                };
                Some(value.as_bytes().to_vec())
            }
        };
        assert_eq!(state_of(get(false)), Some(state));
        assert_eq!(state_of(get(true)), None);
    }
}
