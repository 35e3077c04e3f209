//! How a release gets onto the device.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{OFF, Rig};
use crate::guest::{Output, Shell};
use crate::http::Server;
use crate::system::Release;

impl Rig<'_> {
    /// Puts the payload of `release` where a device without network finds it; the machine must be off.
    ///
    /// # Errors
    /// It does not fit.
    pub fn bring(&self, release: &Release) -> Result<()> {
        self.delivery.bring(&self.disk, release)
    }

    /// Runs `update_engine apply` with `release` on the device.
    ///
    /// # Errors
    /// The guest does not answer; a refusal is an [`Output`].
    pub fn apply(&mut self, release: &Release) -> Result<Output> {
        let machine = self.machine.as_mut().context(OFF)?;
        self.delivery.apply(&mut Shell::again(machine), release)
    }

    /// Installs `release` and expects success.
    ///
    /// # Errors
    /// Another exit code than 0.
    pub fn install(&mut self, release: &Release) -> Result<()> {
        let output = self.apply(release)?;
        ensure!(
            output.code == 0,
            "install {}: exit code {}: {}",
            release.recipe.name,
            output.code,
            output.text
        );
        Ok(())
    }

    /// Has the service of the device update to `release`.
    ///
    /// # Errors
    /// The guest does not answer; a refusal is an [`Output`].
    pub fn update(&mut self, release: &Release) -> Result<Output> {
        let machine = self.machine.as_mut().context(OFF)?;
        self.delivery.update(&mut Shell::again(machine), release)
    }

    /// Begins that with the first `bytes` of the payload, and returns when they are in the slot.
    ///
    /// # Errors
    /// The guest does not take them, or has no network.
    pub fn half_update(&mut self, release: &Release, bytes: u64) -> Result<()> {
        let machine = self.machine.as_mut().context(OFF)?;
        self.delivery
            .half_update(&mut Shell::again(machine), release, bytes)
    }

    /// Goes on with the update that was cut short; the facts, and how many bytes the server has sent for all of it.
    ///
    /// # Errors
    /// As [`update`](Self::update), or another exit code than 0.
    pub fn rest_of_update(&mut self) -> Result<(Value, u64)> {
        let machine = self.machine.as_mut().context(OFF)?;
        let output = self.delivery.rest(&mut Shell::again(machine))?;
        ensure!(
            output.code == 0,
            "go on: exit code {}: {}",
            output.code,
            output.text
        );
        let facts = serde_json::from_str(&output.text)
            .with_context(|| format!("read {:?} as JSON", output.text))?;
        Ok((facts, self.delivery.server()?.total()))
    }

    /// The server, from now on with the payload of `release`.
    ///
    /// # Errors
    /// The machine has no network.
    pub fn serve(&self, release: &Release) -> Result<&Server> {
        let server = self.delivery.server()?;
        server.offer(&release.payload);
        server.stall_at(u64::MAX);
        Ok(server)
    }

    /// Begins to install `release`, and returns when `bytes` of it are on their way and no more will come.
    ///
    /// # Errors
    /// The guest does not take them.
    pub fn half_install(&mut self, release: &Release, bytes: u64) -> Result<()> {
        let machine = self.machine.as_mut().context(OFF)?;
        self.delivery
            .half_apply(Shell::again(machine), release, bytes)
    }
}
