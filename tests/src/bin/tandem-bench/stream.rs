//! An update over HTTP from this machine, by the service, against `update_engine apply` from a file; what the processes
//! hold in memory; and what an interrupted update fetches and reads again.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::http::Server;

use crate::install::{apply, fresh_disk, mib, slot_b};
use crate::material::Material;
use crate::measure::{Spread, pss_kib};

const PATIENCE: Duration = Duration::from_secs(600);
const BLOCK: u64 = 256 * 1024;
const MIB: f64 = 1_048_576.0;

/// Prints the ratio of the times, memory at work and at rest, and the cost of going on after a kill.
pub fn run(bin: &Path, material: &Material, pairs: usize) -> Result<()> {
    let server = Server::start(&material.payload)?;
    let mut ratios = Vec::new();
    let mut peak = 0;
    let mut idle = 0;
    for pair in 1..=pairs {
        let (ours, file) = if pair % 2 == 1 {
            let ours = stream(bin, material, &server)?;
            (ours, apply(bin, material)?.seconds)
        } else {
            let file = apply(bin, material)?.seconds;
            (stream(bin, material, &server)?, file)
        };
        peak = peak.max(ours.peak_kib);
        idle = idle.max(ours.idle_kib);
        ratios.push(ours.seconds / file);
        println!(
            "pair {pair}: over HTTP {:.2} s, apply from a file {file:.2} s, ratio {:.2}",
            ours.seconds,
            ours.seconds / file
        );
    }
    if let Some(spread) = Spread::of(&ratios) {
        println!(
            "ratio over HTTP / from a file: median {:.2}, min {:.2}, max {:.2} (aim: at most 1.10)",
            spread.median, spread.min, spread.max
        );
    }
    println!(
        "Pss of service, download process and client while installing: {:.1} MiB (aim: at most 32)",
        mib(peak)
    );
    println!(
        "Pss of the service at rest, after an update: {:.1} MiB (aim: at most 10)",
        mib(idle)
    );
    resume(bin, material, &server)
}

struct Streamed {
    seconds: f64,
    peak_kib: u64,
    idle_kib: u64,
}

fn stream(bin: &Path, material: &Material, server: &Server) -> Result<Streamed> {
    server.offer(&material.payload);
    let device = Device::new(bin, material)?;
    let service = device.serve()?;
    let start = Instant::now();
    let mut client = device.update(server)?;
    let mut peak_kib = 0;
    let status = loop {
        let both = pss_kib(service.0.id()) + pss_kib(client.id());
        peak_kib = peak_kib.max(both);
        if let Some(status) = client.try_wait()? {
            break status;
        }
        sleep(Duration::from_millis(20));
    };
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "update over HTTP: {status}");
    sleep(Duration::from_secs(1));
    Ok(Streamed {
        seconds,
        peak_kib,
        idle_kib: pss_kib(service.0.id()),
    })
}

/// Kills the service when about half of the payload is in the slot, and lets another one go on.
fn resume(bin: &Path, material: &Material, server: &Server) -> Result<()> {
    let length = fs::metadata(&material.payload)?.len();
    let half = length / 2;
    server.offer(&material.payload);
    server.stall_at(half);
    let device = Device::new(bin, material)?;
    let service = device.serve()?;
    let mut client = device.update(server)?;
    wait(|| server.sent() >= half)?;
    // What has come is to be written.
    sleep(Duration::from_secs(3));
    drop(service);
    client.wait()?;
    server.stall_at(u64::MAX);
    let (before, asked) = (server.total(), server.requests());
    let service = device.serve()?;
    let start = Instant::now();
    let client = device.update(server)?;
    wait(|| server.requests() > asked)?;
    let reading = start.elapsed().as_secs_f64();
    let output = client.wait_with_output()?;
    ensure!(output.status.success(), "go on: {}", output.status);
    drop(service);
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let resumed = facts["resumed"].as_u64().context("find resumed")? * BLOCK;
    let plain = plain_read(&device.disk, resumed)?;
    let again = server.total().saturating_sub(length);
    println!(
        "killed after {before} of {length} bytes: {:.0} MiB of the slot read again in {reading:.2} s ({:.0} MiB/s; dd with O_DIRECT {plain:.0} MiB/s)",
        float(resumed) / MIB,
        float(resumed) / MIB / reading.max(1e-6)
    );
    println!("by the server's log {again} bytes came twice (limit: one block, {BLOCK})");
    ensure!(again <= BLOCK, "go on: {again} bytes came twice");
    Ok(())
}

/// MiB per second of reading the same bytes without the page cache.
fn plain_read(disk: &Path, bytes: u64) -> Result<f64> {
    let (start, _) = slot_b(disk)?;
    let begin = Instant::now();
    let status = Command::new("dd")
        .arg(format!("if={}", disk.display()))
        .args([
            "of=/dev/null",
            "bs=1M",
            "iflag=direct,skip_bytes,count_bytes",
        ])
        .arg(format!("skip={start}"))
        .arg(format!("count={bytes}"))
        .args(["status=none"])
        .status()
        .context("start dd")?;
    ensure!(status.success(), "read the slot: {status}");
    Ok(float(bytes) / MIB / begin.elapsed().as_secs_f64())
}

fn wait(mut done: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !done() {
        ensure!(start.elapsed() < PATIENCE, "wait for the update: too long");
        sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// A disk with slot B full of noise, and its service's folder.
struct Device<'a> {
    bin: &'a Path,
    keys: &'a Path,
    disk: PathBuf,
    state: tempfile::TempDir,
}

impl<'a> Device<'a> {
    fn new(bin: &'a Path, material: &'a Material) -> Result<Self> {
        Ok(Self {
            bin,
            keys: &material.keys,
            disk: fresh_disk(material)?,
            state: tempfile::tempdir()?,
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env_remove("http_proxy").stdin(Stdio::null());
        command
    }

    fn place(&self, command: &mut Command) {
        command
            .arg("--disk")
            .arg(&self.disk)
            .arg("--keys")
            .arg(self.keys)
            .arg("--state")
            .arg(self.state.path());
    }

    fn serve(&self) -> Result<Service> {
        let mut command = self.command("update_engine");
        self.place(command.arg("run"));
        let service = Service(command.spawn().context("start the service")?);
        let socket = self.state.path().join("control.sock");
        wait(|| UnixStream::connect(&socket).is_ok())?;
        Ok(service)
    }

    fn update(&self, server: &Server) -> Result<Child> {
        let mut command = self.command("update_engine_client");
        self.place(command.args(["-update", "-json", "-payload", &server.local_url()]));
        let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().context("start the client")
    }
}

/// Killed when dropped.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}
