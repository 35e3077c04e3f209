//! The host's programs: found, run with a fixed environment, their complaints passed on.

use std::io;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// A command whose output does not depend on the user's language, time zone or e2fsprogs configuration.
///
/// Administration tools live in `sbin`, which an ordinary user's `PATH` may lack.
#[must_use]
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"))
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::null());
    command
}

/// Runs `command` and returns what it printed; `package` is what a missing program is installed from.
///
/// # Errors
/// The program is missing, can't be started, or ends with a status other than 0: then its last line of complaint is
/// part of the error.
pub fn run(command: &mut Command, package: &str) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Ok(output) => output,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            bail!("run {name}: not found; it comes with the package {package}")
        }
        Err(e) => return Err(e).with_context(|| format!("run {name}")),
    };
    if !output.status.success() {
        let text = if output.stderr.is_empty() {
            &output.stdout
        } else {
            &output.stderr
        };
        let text = String::from_utf8_lossy(text);
        bail!("run {name}: {}: {}", output.status, last_lines(&text));
    }
    Ok(output)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let error = run(&mut command("no-such-tool"), "tool-utils").unwrap_err();
        assert!(error.to_string().contains("package tool-utils"));
    }

    #[test]
    fn a_failure_carries_the_complaint() {
        let error = run(
            command("sh").args(["-c", "echo one; echo two >&2; exit 3"]),
            "dash",
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("two") && error.contains('3'), "{error}");
    }
}
