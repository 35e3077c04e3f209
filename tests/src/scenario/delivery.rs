//! How payloads reach a device: over HTTP, or on the card of a machine that has no network.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::guest::{Output, Shell};
use crate::host_hash;
use crate::http::Server;
use crate::system::{Release, run};

const INSTALL: Duration = Duration::from_secs(900);
const OEM: u32 = 6;
/// It is `/` on the device.
const ROOT: u32 = 9;

#[derive(Debug)]
pub(super) enum Delivery {
    Http(Server),
    Card,
}

impl Delivery {
    /// Puts the payload of `release` into `/` of the device, whose disk is `image`, if there is no other way.
    pub(super) fn bring(&self, image: &Path, release: &Release) -> Result<()> {
        match self {
            Self::Http(_) => Ok(()),
            Self::Card => put_on_root(image, &release.payload, name(release)?),
        }
    }

    /// Runs `update_engine apply` with the payload.
    pub(super) fn apply(&self, shell: &mut Shell<'_>, release: &Release) -> Result<Output> {
        let command = match self {
            Self::Http(server) => {
                server.offer(&release.payload);
                server.stall_at(u64::MAX);
                stream(server)
            }
            Self::Card => format!("update_engine apply --payload /{}", name(release)?),
        };
        shell.run(&command, INSTALL)
    }

    /// Asks the service of the device for an update to the payload.
    pub(super) fn update(&self, shell: &mut Shell<'_>, release: &Release) -> Result<Output> {
        let address = match self {
            Self::Http(server) => {
                server.offer(&release.payload);
                server.stall_at(u64::MAX);
                server.url()
            }
            Self::Card => format!("/{}", name(release)?),
        };
        shell.run(&update(&address), INSTALL)
    }

    /// The same, cut short: returns when all of the first `bytes` of the payload that can be written are in the slot,
    /// and the server sends no more. Where there is no server that is an error.
    pub(super) fn half_update(
        &self,
        shell: &mut Shell<'_>,
        release: &Release,
        bytes: u64,
    ) -> Result<()> {
        let server = self.server()?;
        server.offer(&release.payload);
        server.stall_at(bytes);
        let command = format!(
            "{{ {}; }} > /run/update 2>&1 & sleep 1",
            update(&server.url())
        );
        shell.check(&command, INSTALL)?;
        let start = Instant::now();
        let mut before = Value::Null;
        loop {
            let status = shell.json("sleep 4; update_engine_client -status -json", INSTALL)?;
            let progress = &status["progress"];
            let rests = *progress == before && progress.as_f64().is_some_and(|part| part > 0.0);
            if rests && server.sent() >= bytes {
                return Ok(());
            }
            ensure!(start.elapsed() < INSTALL, "update half of it: {status}");
            before = progress.clone();
        }
    }

    /// The rest of it.
    pub(super) fn rest(&self, shell: &mut Shell<'_>) -> Result<Output> {
        let server = self.server()?;
        server.stall_at(u64::MAX);
        shell.run(&update(&server.url()), INSTALL)
    }

    pub(super) fn server(&self) -> Result<&Server> {
        match self {
            Self::Http(server) => Ok(server),
            Self::Card => bail!("use the network: this machine has none"),
        }
    }

    /// Begins what [`apply`](Self::apply) does, and returns when `bytes` of the payload have reached the disk and no more will come.
    pub(super) fn half_apply(&self, shell: Shell<'_>, release: &Release, bytes: u64) -> Result<()> {
        match self {
            Self::Http(server) => {
                server.offer(&release.payload);
                server.stall_at(bytes);
                shell.leave(&stream(server))?;
                let mut waited = Duration::ZERO;
                while server.sent() < bytes {
                    ensure!(
                        waited < INSTALL,
                        "wait for the guest to take {bytes} bytes: {} taken",
                        server.sent()
                    );
                    std::thread::sleep(Duration::from_millis(50));
                    waited += Duration::from_millis(50);
                }
                std::thread::sleep(Duration::from_secs(3));
            }
            Self::Card => {
                let file = name(release)?;
                // The echo of the line that is typed is not to be taken for what it prints.
                shell.leave_after(
                    &format!(
                        "(head -c {bytes} /{file}; printf '<%s>' fed > /dev/console; sleep 100000) | \
                         update_engine apply --payload -"
                    ),
                    "<fed>",
                    INSTALL,
                )?;
                std::thread::sleep(Duration::from_secs(8));
            }
        }
        Ok(())
    }
}

/// What the kernel of an emulated Pi has to know: it resets at once when its watchdog is armed, and takes several times as
/// long to start with four processors.
pub(super) const EMULATED_PI: &str = "tandem.watchdog=off maxcpus=1";

/// Words for the kernel of the device whose disk is `image`, on OEM.
pub(super) fn cmdline(image: &Path, words: &str) -> Result<()> {
    let block = image.with_extension("cmdline");
    run(Command::new("grub-editenv").arg(&block).arg("create"))?;
    run(Command::new("grub-editenv")
        .arg(&block)
        .arg("set")
        .arg(format!("cmdline={words}")))?;
    put(image, OEM, &block, "tandem/cmdline")
}

/// Writes a file into ROOT.
pub(super) fn put_on_root(image: &Path, from: &Path, to: &str) -> Result<()> {
    put(image, ROOT, from, to)
}

/// Writes a file, over an older one of its name, into an ext4 partition of an image.
fn put(image: &Path, partition: u32, from: &Path, to: &str) -> Result<()> {
    let context = || format!("put {} on {}", from.display(), image.display());
    let (start, _) = host_hash::partition(image, partition).with_context(context)?;
    // /usr/sbin is not in every user's PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    let debugfs = |request: &str| {
        run(Command::new("debugfs")
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .args(["-w", "-R", request])
            .arg(format!("{}?offset={start}", image.display())))
        .with_context(context)
    };
    // It overwrites nothing; its exit code says nothing.
    debugfs(&format!("rm {to}"))?;
    debugfs(&format!("write {} {to}", from.display()))?;
    let length = from.metadata().with_context(context)?.len();
    let found = debugfs(&format!("stat {to}"))?;
    ensure!(
        found.contains(&format!("Size: {length}\n")),
        "{}: {found}",
        context()
    );
    Ok(())
}

/// With the service, for which is waited; the facts only, because the terminal is a serial one.
fn update(address: &str) -> String {
    format!(
        "until [ -S /run/tandem/control.sock ]; do sleep 1; done; update_engine_client -update -json -payload {address}"
    )
}

fn stream(server: &Server) -> String {
    format!(
        "wget -q -O - {} | update_engine apply --payload -",
        server.url()
    )
}

fn name(release: &Release) -> Result<&str> {
    let name = release.payload.file_name().and_then(|name| name.to_str());
    name.context("find the payload's name")
}
