//! A device under test: its disk, the machine around it, and what can be asked of both.

mod installing;
mod reached;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Platform;
use super::delivery::{self, Delivery};
use super::loader::{self, LoaderLine};
use super::slot::Slot;
use super::spent::Snapshot;
use crate::guest::Shell;
use crate::host_hash;
use crate::http::Server;
use crate::qemu::{Bus, Drive, Machine, Setup, copy_sparse, uboot};
use crate::system::{Release, Stock};
use crate::uboot::Machine as Kind;

/// A boot with a few tries before it, on a machine that is so busy that an emulated Pi reads its kernel for two minutes.
const BOOT: Duration = Duration::from_secs(900);
/// From power-on or a reset to the loader's line.
const LOADER: Duration = Duration::from_secs(600);
const COMMAND: Duration = Duration::from_secs(120);
const SHUTDOWN: Duration = Duration::from_secs(180);
const OFF: &str = "use the machine: it is off";

/// What a scenario ended with.
#[derive(Clone, Debug)]
pub struct Ran {
    pub slot: Slot,
    /// Content of that slot, hashed by the host after the last shutdown.
    pub hash: blake3::Hash,
}

/// One device for one scenario.
#[derive(Debug)]
pub struct Rig<'a> {
    pub stock: &'a Stock,
    pub platform: Platform,
    /// Folder for this scenario alone.
    pub dir: PathBuf,
    /// The image of the device's own disk.
    pub disk: PathBuf,
    /// Attached disks, the device's own first.
    pub drives: Vec<Drive>,
    /// Whether the machine has a watchdog that can be trusted.
    pub watchdog: bool,
    /// What a machine with U-Boot is.
    board: Option<uboot::Board>,
    delivery: Delivery,
    machine: Option<Machine>,
    boots: usize,
    ran: Option<Ran>,
    /// With U-Boot: the disk as the loader finds it next.
    before: Option<Snapshot>,
}

impl<'a> Rig<'a> {
    /// A device with a fresh copy of the disk that boots v1.
    ///
    /// # Errors
    /// I/O.
    pub fn new(stock: &'a Stock, platform: Platform, dir: &Path) -> Result<Self> {
        if dir.exists() {
            fs::remove_dir_all(dir).with_context(|| format!("empty {}", dir.display()))?;
        }
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let disk = dir.join("disk.img");
        copy_sparse(&stock.disk(platform.board())?, &disk)?;
        let (board, bus, delivery) = match platform {
            Platform::Pc(_) => (None, Bus::Virtio, http(stock)?),
            Platform::Uboot(machine) => {
                let delivery = match machine {
                    Kind::Virt => http(stock)?,
                    Kind::Pi3 | Kind::Pi4 | Kind::Own => {
                        delivery::cmdline(&disk, delivery::EMULATED_PI)?;
                        Delivery::Card
                    }
                };
                (Some(machine.board()?), machine.bus(), delivery)
            }
        };
        let drive = Drive {
            bus,
            ..Drive::virtio(&disk)
        };
        Ok(Self {
            stock,
            platform,
            dir: dir.to_owned(),
            drives: vec![drive],
            watchdog: false,
            disk,
            board,
            delivery,
            machine: None,
            boots: 0,
            ran: None,
            before: None,
        })
    }

    /// Puts another disk of the stock's on the device; the machine must be off.
    ///
    /// # Errors
    /// It can't be built.
    pub fn flash(&self, board: &'static str) -> Result<()> {
        copy_sparse(&self.stock.disk(board)?, &self.disk)?;
        match self.delivery {
            Delivery::Http(_) => Ok(()),
            Delivery::Card => delivery::cmdline(&self.disk, delivery::EMULATED_PI),
        }
    }

    /// Gives the device words for its kernel; the machine must be off.
    ///
    /// # Errors
    /// I/O, or a tool is missing.
    pub fn cmdline(&self, words: &str) -> Result<()> {
        let emulated = match self.delivery {
            Delivery::Http(_) => "",
            Delivery::Card => delivery::EMULATED_PI,
        };
        delivery::cmdline(&self.disk, format!("{words} {emulated}").trim_end())
    }

    /// Puts a file into `/` of the device; the machine must be off.
    ///
    /// # Errors
    /// It does not fit.
    pub fn put(&self, from: &Path, to: &str) -> Result<()> {
        delivery::put_on_root(&self.disk, from, to)
    }

    /// How often the device has booted.
    #[must_use]
    pub fn boots(&self) -> usize {
        self.boots
    }

    /// The slot that the last [`Self::shut_down`] found running, and its content.
    #[must_use]
    pub fn ran(&self) -> Option<&Ran> {
        self.ran.as_ref()
    }

    /// Turns the machine on.
    ///
    /// # Errors
    /// It does not start.
    pub fn power_on(&mut self) -> Result<()> {
        self.look_at_disk()?;
        let log = self.dir.join("serial.log");
        let machine = match (self.platform, &self.board) {
            (Platform::Pc(firmware), _) => Setup {
                firmware,
                drives: self.drives.clone(),
                watchdog: self.watchdog,
                work_dir: self.dir.clone(),
                log,
            }
            .start()?,
            (Platform::Uboot(_), board) => uboot::Setup {
                board: board.clone().context("start the machine: no board")?,
                drive: self
                    .drives
                    .first()
                    .cloned()
                    .context("start the machine: no disk")?,
                watchdog: self.watchdog,
                log,
            }
            .start()?,
        };
        self.machine = Some(machine);
        Ok(())
    }

    fn machine(&mut self) -> Result<&mut Machine> {
        self.machine.as_mut().context(OFF)
    }

    /// Waits until the machine says `text`.
    ///
    /// # Errors
    /// It does not, within the time of a boot.
    pub fn wait_for(&mut self, text: &str) -> Result<String> {
        self.machine()?.wait_for(text, BOOT)
    }

    /// Waits for the loader's next choice. With U-Boot the disk is compared with what `bootctl` would make of it, while
    /// the loader still reads the kernel.
    ///
    /// # Errors
    /// None comes, or something else was written.
    pub fn loader_line(&mut self) -> Result<LoaderLine> {
        let machine = self.machine()?;
        machine
            .wait_for(loader::START, LOADER)
            .context("wait for the loader")?;
        let line = LoaderLine::parse(&machine.wait_for("\n", COMMAND)?)?;
        let before = self.before.take();
        self.look_at_disk()?;
        if let (Some(before), Some(after)) = (before, &self.before) {
            before
                .check(after, &line, &self.disk)
                .with_context(|| format!("the loader said {line:?}"))?;
        }
        Ok(line)
    }

    /// Takes note of the disk as the loader finds it next, where something has been written since it started.
    ///
    /// # Errors
    /// I/O.
    pub fn look_at_disk(&mut self) -> Result<()> {
        if let Platform::Uboot(machine) = self.platform {
            self.before = Some(Snapshot::take(&self.disk, machine)?);
        }
        Ok(())
    }

    /// Waits for the loader's next choice and compares it.
    ///
    /// # Errors
    /// None comes, or it is another.
    pub fn expect_loader(&mut self, slot: Slot, tries: u8, environment: &str) -> Result<()> {
        let line = self.loader_line()?;
        ensure!(
            line.slot == slot && line.tries == tries && line.environment == environment,
            "expect the loader to choose slot {slot} with tries={tries} env={environment}: it said {line:?}"
        );
        Ok(())
    }

    /// Waits for the guest's shell, however many boots that takes.
    ///
    /// # Errors
    /// None comes.
    pub fn shell(&mut self) -> Result<Shell<'_>> {
        Shell::wait(self.machine()?, BOOT)
    }

    /// Waits for the shell, and checks that `slot` runs `release` and that the running slot is confirmed. Returns
    /// `status --json`.
    ///
    /// # Errors
    /// Something else runs.
    pub fn expect_confirmed(&mut self, slot: Slot, release: &Release) -> Result<Value> {
        let mut shell = self.shell()?;
        let status = status(&mut shell)?;
        let running = shell.check(". /usr/lib/os-release; echo $IMAGE_VERSION", COMMAND)?;
        let cmdline = shell.check("cat /proc/cmdline", COMMAND)?;
        let version = release.recipe.version;
        ensure!(
            running.trim() == version,
            "expect version {version} to run: it is {running:?}"
        );
        let word = format!("tandem.slot={slot}");
        ensure!(
            cmdline.split_whitespace().any(|found| found == word),
            "expect {word} on the kernel command line: {cmdline}"
        );
        for (pointer, wanted) in [
            ("/running", Value::from(true)),
            ("/active", Value::from(slot.name())),
            ("/next", Value::from(slot.name())),
            ("/trial", Value::from(false)),
            ("/environment/state", Value::from("ok")),
            ("/table/copies", Value::from("both")),
            ("/table/backup_at_end", Value::from(true)),
            ("/confirmed_record/slot", Value::from(slot.name())),
        ] {
            expect(&status, pointer, &wanted)?;
        }
        expect(
            &status,
            &format!("/slots/{slot}/attributes/confirmed"),
            &Value::from(true),
        )?;
        expect(
            &status,
            &format!("/slots/{slot}/record/version"),
            &Value::from(version),
        )?;
        let content = release.hash.to_hex();
        expect(
            &status,
            &format!("/slots/{slot}/record/content"),
            &Value::from(content.as_str()),
        )?;
        Ok(status)
    }

    /// Waits for the shell and asks for `status --json`.
    ///
    /// # Errors
    /// None comes, or it fails.
    pub fn status(&mut self) -> Result<Value> {
        status(&mut self.shell()?)
    }

    /// Sets how often the loader tries what is installed from now on.
    ///
    /// # Errors
    /// It can't be written.
    pub fn set_tries(&mut self, tries: u8) -> Result<()> {
        self.configure(&[&format!("TRIES={tries}")])
    }

    /// Writes the settings of the device anew.
    ///
    /// # Errors
    /// They can't be written.
    pub fn configure(&mut self, lines: &[&str]) -> Result<()> {
        let lines = lines.join("' '");
        let command =
            format!("mkdir -p /etc/tandem && printf '%s\\n' '{lines}' > /etc/tandem/update.conf");
        self.check(&command).map(drop)
    }

    /// A shell that has been waited for before.
    ///
    /// # Errors
    /// The machine is off.
    pub fn again(&mut self) -> Result<Shell<'_>> {
        Ok(Shell::again(self.machine()?))
    }

    /// Runs a command at the shell, which must exit 0.
    ///
    /// # Errors
    /// Another exit code.
    pub fn check(&mut self, command: &str) -> Result<String> {
        self.again()?.check(command, COMMAND)
    }

    /// Reboots from the shell.
    ///
    /// # Errors
    /// The machine is off.
    pub fn reboot(&mut self) -> Result<()> {
        self.look_at_disk()?;
        self.again()?.leave("reboot")
    }

    /// Cuts the power.
    ///
    /// # Errors
    /// The machine is off already.
    pub fn cut_power(&mut self) -> Result<()> {
        let mut machine = self
            .machine
            .take()
            .context("cut the power: the machine is off")?;
        machine.cut_power()?;
        self.boots += loader::boots(machine.transcript());
        Ok(())
    }

    /// Turns the machine off from the shell, then checks with the host's own hash that `slot` holds exactly `release`.
    ///
    /// # Errors
    /// It stays on, or holds something else.
    pub fn shut_down(&mut self, slot: Slot, release: &Release) -> Result<()> {
        self.again()?.leave("poweroff")?;
        let mut machine = self
            .machine
            .take()
            .context("shut down: the machine is off")?;
        machine.wait_off(SHUTDOWN)?;
        self.boots += loader::boots(machine.transcript());
        let hash = self.expect_content(slot, release)?;
        self.ran = Some(Ran { slot, hash });
        Ok(())
    }

    /// Checks with the host's own hash that `slot` holds exactly `release`; the machine must be off.
    ///
    /// # Errors
    /// It does not.
    pub fn expect_content(&self, slot: Slot, release: &Release) -> Result<blake3::Hash> {
        let hash = host_hash::partition_hash(&self.disk, slot.partition(), release.size)?;
        ensure!(
            hash == release.hash,
            "compare slot {slot} with {}: its content is {hash}, not {}",
            release.recipe.name,
            release.hash
        );
        Ok(hash)
    }

    /// Attaches the device's own disk in another way.
    pub fn attach(&mut self, bus: Bus, read_only: bool) {
        if let Some(own) = self.drives.first_mut() {
            own.bus = bus;
            own.read_only = read_only;
        }
    }
}

fn http(stock: &Stock) -> Result<Delivery> {
    Ok(Delivery::Http(Server::start(&stock.v2()?.payload)?))
}

fn status(shell: &mut Shell<'_>) -> Result<Value> {
    shell.json("tandem-bootctl status --json", COMMAND)
}

/// Compares one fact of a status.
///
/// # Errors
/// It is another.
pub fn expect(status: &Value, pointer: &str, wanted: &Value) -> Result<()> {
    let found = status
        .pointer(pointer)
        .with_context(|| format!("find {pointer} in {status}"))?;
    ensure!(
        found == wanted,
        "expect {pointer} to be {wanted}: it is {found} in {status}"
    );
    Ok(())
}
