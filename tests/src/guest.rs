//! Commands at the guest's serial shell.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::qemu::Machine;

/// Printed by the demo system when its shell is ready; see `system/tree.rs`.
pub const READY: &str = "tandem-demo: console ready";

/// A shell that has shown its prompt; valid until the guest reboots.
#[derive(Debug)]
pub struct Shell<'a> {
    machine: &'a mut Machine,
}

/// What a command printed and its exit code.
#[derive(Clone, Debug)]
pub struct Output {
    pub code: i32,
    pub text: String,
}

impl<'a> Shell<'a> {
    /// Waits for the shell of a system that boots.
    ///
    /// # Errors
    /// It does not come in time.
    pub fn wait(machine: &'a mut Machine, timeout: Duration) -> Result<Self> {
        machine
            .wait_for(READY, timeout)
            .context("wait for the guest's shell")?;
        Ok(Self { machine })
    }

    /// A shell that was waited for before and has not been left since.
    #[must_use]
    pub fn again(machine: &'a mut Machine) -> Self {
        Self { machine }
    }

    /// Runs `command` and waits for its end. The markers are put together by the guest, so that the echo of the line that was
    /// typed is not taken for the answer.
    ///
    /// # Errors
    /// No answer within `timeout`.
    pub fn run(&mut self, command: &str, timeout: Duration) -> Result<Output> {
        let number = self.machine.next_number();
        let line = format!(
            "printf '<%s-{number}>\\n' begin; {command}; printf '\\n<%s-{number}:%d>\\n' end $?"
        );
        self.machine.type_line(&line)?;
        let context = || format!("run {command:?} in the guest");
        self.machine
            .wait_for(&format!("<begin-{number}>\r\n"), timeout)
            .with_context(context)?;
        let end = format!("\r\n<end-{number}:");
        let text = self.machine.wait_for(&end, timeout).with_context(context)?;
        let code = self
            .machine
            .wait_for(">", Duration::from_secs(10))
            .with_context(context)?;
        let text = text.strip_suffix(&end).unwrap_or(&text).replace('\r', "");
        let code = code
            .trim_end_matches('>')
            .parse()
            .with_context(|| format!("read exit code {code:?} of {command:?}"))?;
        Ok(Output {
            code,
            text: text.trim_end_matches('\n').to_owned(),
        })
    }

    /// Runs `command`, which must exit 0, and returns what it printed.
    ///
    /// # Errors
    /// As [`Self::run`], or another exit code.
    pub fn check(&mut self, command: &str, timeout: Duration) -> Result<String> {
        let output = self.run(command, timeout)?;
        ensure!(
            output.code == 0,
            "run {command:?} in the guest: exit code {}: {}",
            output.code,
            output.text
        );
        Ok(output.text)
    }

    /// Runs `command`, which must exit 0, and reads what it printed as JSON.
    ///
    /// # Errors
    /// As [`Self::check`], or no JSON.
    pub fn json(&mut self, command: &str, timeout: Duration) -> Result<Value> {
        let text = self.check(command, timeout)?;
        serde_json::from_str(&text)
            .with_context(|| format!("read the output of {command:?} as JSON: {text:?}"))
    }

    /// Types a command that ends this shell, such as a reboot.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn leave(self, command: &str) -> Result<()> {
        self.machine.type_line(command)
    }

    /// As [`Self::leave`], and waits until the machine says `text`.
    ///
    /// # Errors
    /// It does not within `timeout`.
    pub fn leave_after(self, command: &str, text: &str, timeout: Duration) -> Result<()> {
        self.machine.type_line(command)?;
        self.machine.wait_for(text, timeout).map(drop)
    }
}
