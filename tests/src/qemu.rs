//! A virtual machine that gets firmware and disks, never a kernel or a command line of ours.
//!
//! Everything the guest says on its first serial port is kept, written to a log file and searched by [`Machine::wait_for`].
//! Emulation is by software only, so that a run means the same on every machine.

mod monitor;
mod serial;
pub mod uboot;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use monitor::Monitor;
use serial::Serial;

const QEMU: &str = "qemu-system-x86_64";
const WATCHDOG: &str = "i6300esb";
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// What the machine finds before it reads a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    Bios,
    Uefi,
}

impl Firmware {
    pub const ALL: [Self; 2] = [Self::Bios, Self::Uefi];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        }
    }
}

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    Virtio,
    Ahci,
    UsbStick,
    /// An SD card, which a Raspberry Pi has.
    Card,
}

/// One disk of a machine; the first of the list is the one the firmware boots.
#[derive(Clone, Debug)]
pub struct Drive {
    pub image: PathBuf,
    pub bus: Bus,
    pub read_only: bool,
    /// Every write and flush that reaches the disk is recorded in this file, in the format of dm-log-writes.
    pub record: Option<PathBuf>,
}

impl Drive {
    pub fn virtio(image: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            bus: Bus::Virtio,
            read_only: false,
            record: None,
        }
    }

    /// What QEMU is told of the medium, as the node `disk<index>`.
    fn arguments(&self, index: usize) -> Result<[String; 2]> {
        let read_only = if self.read_only { "on" } else { "off" };
        let image = self.image.display();
        let Some(record) = &self.record else {
            let drive =
                format!("if=none,id=disk{index},format=raw,read-only={read_only},file={image}");
            return Ok(["-drive".to_owned(), drive]);
        };
        File::create(record).with_context(|| format!("create {}", record.display()))?;
        let node = format!(
            "driver=blklogwrites,node-name=disk{index},read-only={read_only},log-sector-size=512,\
             file.driver=raw,file.file.driver=file,file.file.filename={image},\
             log.driver=file,log.filename={}",
            record.display()
        );
        Ok(["-blockdev".to_owned(), node])
    }
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Setup {
    pub firmware: Firmware,
    pub drives: Vec<Drive>,
    /// It has a watchdog, which resets it.
    pub watchdog: bool,
    /// Folder for the firmware's variables, which live as long as the machine's mainboard would.
    pub work_dir: PathBuf,
    /// All serial output is appended to this file.
    pub log: PathBuf,
}

impl Setup {
    fn command(&self, monitor: &Monitor) -> Result<Command> {
        // A run that is ended leaves no machines behind.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", QEMU]);
        command.args("-accel tcg -machine pc -m 512 -smp 1 -nodefaults".split(' '));
        command.args("-vga none -display none -serial stdio".split(' '));
        command.args(["-monitor", &monitor.argument()]);
        command.args(["-netdev", "user,id=net0"]);
        command.args(["-device", "virtio-net-pci,netdev=net0,romfile="]);
        if self.firmware == Firmware::Uefi {
            let vars = self.work_dir.join("ovmf-vars.fd");
            if !vars.exists() {
                std::fs::copy(OVMF_VARS, &vars)
                    .with_context(|| format!("copy {OVMF_VARS}: is the package ovmf installed?"))?;
            }
            let code = format!("if=pflash,format=raw,readonly=on,file={OVMF_CODE}");
            let vars = format!("if=pflash,format=raw,file={}", vars.display());
            command.args(["-drive", &code, "-drive", &vars]);
        }
        if self.watchdog {
            command.args(["-device", WATCHDOG]);
        }
        let has = |bus| self.drives.iter().any(|drive| drive.bus == bus);
        if has(Bus::UsbStick) {
            command.args(["-device", "qemu-xhci,id=xhci"]);
        }
        if has(Bus::Ahci) {
            command.args(["-device", "ich9-ahci,id=ahci"]);
        }
        for (index, drive) in self.drives.iter().enumerate() {
            command.args(drive.arguments(index)?);
            let device = match drive.bus {
                Bus::Virtio => "virtio-blk-pci",
                Bus::Ahci => "ide-hd,bus=ahci.0",
                Bus::UsbStick => "usb-storage,bus=xhci.0",
                Bus::Card => bail!("start a PC: it takes no cards"),
            };
            command.args([
                "-device",
                &format!("{device},drive=disk{index},bootindex={index}"),
            ]);
        }
        Ok(command)
    }

    /// Turns the machine on.
    ///
    /// # Errors
    /// QEMU or the firmware is missing, or the log can't be written.
    pub fn start(&self) -> Result<Machine> {
        let monitor = Monitor::new();
        let command = self.command(&monitor)?;
        Machine::launch(command, monitor, &self.log, "qemu-system-x86")
    }
}

/// A running machine; dropping it cuts its power.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    serial: Serial,
    monitor: Monitor,
    log: PathBuf,
    started: Instant,
    numbers: u32,
}

impl Machine {
    /// Starts QEMU; `package` is where that comes from.
    fn launch(mut command: Command, monitor: Monitor, log: &Path, package: &str) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("open serial log {}", log.display()))?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command
            .spawn()
            .with_context(|| format!("start QEMU: is the package {package} installed?"))?;
        let serial = Serial::attach(&mut child, file)?;
        Ok(Self {
            child,
            serial,
            monitor,
            log: log.to_owned(),
            started: Instant::now(),
            numbers: 0,
        })
    }

    /// Waits until one of `needles` stands in the part of the serial output that no earlier wait has consumed, and consumes
    /// everything up to its end. Returns which one it was (the earliest in the text) and the consumed text.
    ///
    /// # Errors
    /// The machine stopped or `timeout` passed; the message holds the last lines of the output.
    pub fn wait_for_any(&mut self, needles: &[&str], timeout: Duration) -> Result<(usize, String)> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(found) = self.serial.take_through(needles) {
                return Ok(found);
            }
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                bail!(
                    "wait {} s for {needles:?}: not seen; {}; {}",
                    timeout.as_secs(),
                    self.look(),
                    self.last_words()
                );
            };
            if !self.serial.receive(left) && self.serial.closed() {
                if let Some(found) = self.serial.take_through(needles) {
                    return Ok(found);
                }
                bail!(
                    "wait for {needles:?}: the machine stopped; {}",
                    self.last_words()
                );
            }
        }
    }

    /// As [`Self::wait_for_any`] with one needle.
    ///
    /// # Errors
    /// See there.
    pub fn wait_for(&mut self, needle: &str, timeout: Duration) -> Result<String> {
        self.wait_for_any(&[needle], timeout).map(|(_, text)| text)
    }

    /// Types `line` and Return.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        self.serial.send(line.as_bytes())?;
        self.serial.send(b"\n")
    }

    /// Waits until the guest has turned the machine off.
    ///
    /// # Errors
    /// It is still on after `timeout`.
    pub fn wait_off(&mut self, timeout: Duration) -> Result<()> {
        let end = Instant::now() + timeout;
        while self.child.try_wait().context("wait for qemu")?.is_none() {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                bail!(
                    "wait {} s for the machine to turn off: still on; {}; {}",
                    timeout.as_secs(),
                    self.look(),
                    self.last_words()
                );
            };
            self.serial.receive(left.min(Duration::from_millis(50)));
        }
        self.serial.drain();
        Ok(())
    }

    /// Cuts the power: what the guest had not written is lost.
    ///
    /// # Errors
    /// The process can't be ended.
    pub fn cut_power(&mut self) -> Result<()> {
        self.child.kill().context("cut the power")?;
        self.child.wait().context("wait for qemu")?;
        self.serial.drain();
        Ok(())
    }

    /// A number that has not been given out since the machine was turned on.
    pub fn next_number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    /// Everything the guest has said since it was turned on.
    #[must_use]
    pub fn transcript(&self) -> &str {
        self.serial.text()
    }

    /// Time since the machine was turned on.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Notes beside the log what the processor of a machine that should have said something is doing.
    fn look(&self) -> String {
        let file = self.log.with_extension("processor.txt");
        let noted = self
            .monitor
            .look()
            .and_then(|text| std::fs::write(&file, text).context("write"));
        match noted {
            Ok(()) => format!("what its processor does is in {}", file.display()),
            Err(error) => format!("what its processor does is not known: {error:#}"),
        }
    }

    fn last_words(&self) -> String {
        let lines: Vec<&str> = self
            .serial
            .text()
            .lines()
            .rev()
            .filter(|line| !line.trim().is_empty())
            .take(12)
            .collect();
        let tail: Vec<&str> = lines.into_iter().rev().collect();
        format!(
            "the whole output is in {}, it ends with\n    {}",
            self.log.display(),
            tail.join("\n    ")
        )
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only when the process is already gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies a disk image without writing its zeros, so that a disk of several gigabytes costs only what it holds.
///
/// # Errors
/// I/O, with the path.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    use std::io::{Read, Seek, SeekFrom, Write};

    let copy = || -> std::io::Result<()> {
        let mut source = File::open(from)?;
        let mut target = File::create(to)?;
        target.set_len(source.metadata()?.len())?;
        // A comparison with zeros is quick even where nothing is optimized.
        let zeros = vec![0; 256 << 10];
        let mut buffer = zeros.clone();
        loop {
            let count = source.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            let chunk = buffer.get(..count).unwrap_or_default();
            if zeros.get(..count) == Some(chunk) {
                target.seek(SeekFrom::Current(i64::try_from(count).unwrap_or(0)))?;
            } else {
                target.write_all(chunk)?;
            }
        }
    };
    copy().with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_copy_keeps_length_and_content() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut bytes = vec![0; (1 << 20) + 77];
        bytes[700_000] = 9;
        std::fs::write(&from, &bytes).unwrap();
        copy_sparse(&from, &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), bytes);
    }

    #[test]
    fn a_silent_machine_leaves_word_of_its_processor() {
        let dir = tempfile::tempdir().unwrap();
        let setup = Setup {
            firmware: Firmware::Bios,
            drives: Vec::new(),
            watchdog: false,
            work_dir: dir.path().to_path_buf(),
            log: dir.path().join("serial.log"),
        };
        let mut machine = setup.start().unwrap();
        let error = machine.wait_for("never said", Duration::from_secs(1));
        let file = dir.path().join("serial.processor.txt");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("EIP=") || text.contains("RIP="), "{text}");
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("serial.processor.txt")
        );
    }

    #[test]
    fn the_guest_gets_firmware_and_disks_only() {
        let setup = Setup {
            firmware: Firmware::Bios,
            drives: vec![Drive::virtio("disk.img")],
            watchdog: false,
            work_dir: PathBuf::from("."),
            log: PathBuf::from("log"),
        };
        let command = setup.command(&Monitor::new()).unwrap();
        let arguments: Vec<_> = command
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        for forbidden in ["-kernel", "-append", "-initrd"] {
            assert!(
                !arguments.iter().any(|argument| argument == forbidden),
                "{forbidden} in {arguments:?}"
            );
        }
    }
}
