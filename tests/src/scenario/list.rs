//! `tests/scenarios.txt`: which scenarios there must be, and which of them every run includes.

use anyhow::{Context, Result, bail};

use super::Platform;

/// When a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// With `tests/run` and `tests/run --full`.
    Always,
    /// With `tests/run --full` alone.
    Full,
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub platform: Platform,
    pub choice: Choice,
}

/// Reads the list: `NAME PLATFORM always|full` a line, `#` starts a comment.
///
/// # Errors
/// A line that is not of that form, or that stands there twice.
pub fn parse_list(text: &str) -> Result<Vec<Listed>> {
    let mut list: Vec<Listed> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line
            .split('#')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .collect();
        let listed = match words.as_slice() {
            [] => continue,
            [name, platform, choice] => {
                parse_line(name, platform, choice).with_context(|| format!("line {}", index + 1))?
            }
            _ => bail!("line {}: three words expected in {line:?}", index + 1),
        };
        if list
            .iter()
            .any(|known| known.name == listed.name && known.platform == listed.platform)
        {
            bail!("line {}: {line:?} stands there twice", index + 1);
        }
        list.push(listed);
    }
    Ok(list)
}

fn parse_line(name: &str, platform: &str, choice: &str) -> Result<Listed> {
    let platform =
        Platform::parse(platform).context("bios, uefi, virt, pi3, pi4 or own expected")?;
    let choice = match choice {
        "always" => Choice::Always,
        "full" => Choice::Full,
        _ => bail!("always or full expected, not {choice:?}"),
    };
    Ok(Listed {
        name: name.to_owned(),
        platform,
        choice,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_comments_and_choices() {
        let list = parse_list("# all\n\ngood bios always # first\ngood uefi full\n").unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(
            (list[1].platform, list[1].choice),
            (Platform::UEFI, Choice::Full)
        );
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for text in [
            "good",
            "good bios sometimes",
            "good arm full",
            "x bios full\nx bios always",
        ] {
            assert!(parse_list(text).is_err(), "{text}");
        }
    }
}
