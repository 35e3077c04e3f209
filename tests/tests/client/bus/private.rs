//! A bus of its own: its daemon, programs that speak on it, and one that listens to everything.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use crate::device::{Device, PATIENCE, Service, needs_root};

pub(super) const NAME: &str = "com.coreos.update1";
pub(super) const OBJECT: &str = "/com/coreos/update1";
pub(super) const MANAGER: &str = "com.coreos.update1.Manager";
pub(super) const OURS: &str = "tandem.Update1";
/// Somebody who is neither root nor the bridge.
pub(super) const STRANGER: u32 = 1;

/// What the system bus of a distribution allows and denies, before the services' own policies.
pub(super) const CONFIGURATION: &str = r#"<busconfig>
  <type>system</type>
  <listen>unix:path=@PLACE@/socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
  </policy>
  <policy user="root">
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Monitoring"/>
  </policy>
  <include>@PLACE@/policy.conf</include>
</busconfig>
"#;

/// A folder in which everybody may look for a bus.
pub(super) struct Place(pub(super) tempfile::TempDir);

impl Place {
    pub(super) fn new() -> Self {
        needs_root("changes users");
        let place = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let policy = include_str!("../../../../updater/dbus/com.coreos.update1.conf");
        let owner = r#"<policy user="tandem-bus">"#;
        assert!(policy.contains(owner));
        let users = fs::read_to_string("/etc/passwd").unwrap();
        // A machine for development has no such user, and the bridge is nobody then.
        let policy = match users.lines().any(|line| line.starts_with("tandem-bus:")) {
            true => policy.to_owned(),
            false => policy.replace(owner, r#"<policy user="65534">"#),
        };
        let path = place.path().to_str().unwrap();
        let configuration = CONFIGURATION.replace("@PLACE@", path);
        fs::write(place.path().join("policy.conf"), policy).unwrap();
        fs::write(place.path().join("bus.conf"), configuration).unwrap();
        Self(place)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.0.path().join("socket")
    }

    pub(super) fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    /// Starts the bus and waits until it listens.
    #[track_caller]
    pub(super) fn bus(&self) -> Bus<'_> {
        let child = Command::new("dbus-daemon")
            .arg("--nofork")
            .arg(format!(
                "--config-file={}/bus.conf",
                self.0.path().display()
            ))
            // It tells of each call that it denies.
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon (Debian package dbus-daemon)");
        let bus = Bus { place: self, child };
        let start = Instant::now();
        while !bus
            .calls(
                0,
                "org.freedesktop.DBus",
                "/",
                "org.freedesktop.DBus.GetId",
                &[],
            )
            .0
        {
            assert!(start.elapsed() < PATIENCE, "the bus does not listen");
            sleep(Duration::from_millis(50));
        }
        bus
    }

    pub(super) fn serve(&self, device: &Device) -> Service {
        device.serve_with(&[("DBUS_SYSTEM_BUS_ADDRESS", &self.address())])
    }
}

/// A bus that runs; ended when dropped.
pub(super) struct Bus<'p> {
    pub(super) place: &'p Place,
    pub(super) child: Child,
}

impl Drop for Bus<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(self.place.socket());
    }
}

impl Bus<'_> {
    pub(super) fn command(
        &self,
        user: u32,
        to: &str,
        object: &str,
        method: &str,
        values: &[&str],
    ) -> Command {
        let mut command = Command::new("dbus-send");
        command
            .arg(format!("--bus={}", self.place.address()))
            .args(["--print-reply=literal", "--reply-timeout=60000"])
            .arg(format!("--dest={to}"))
            .args([object, method])
            .args(values)
            .stdin(Stdio::null())
            .current_dir("/")
            .uid(user)
            .gid(user);
        command
    }

    /// Whether a call succeeded, and what was said.
    pub(super) fn calls(
        &self,
        user: u32,
        to: &str,
        object: &str,
        method: &str,
        values: &[&str],
    ) -> (bool, String) {
        let output = self.command(user, to, object, method, values).output();
        let Output {
            status,
            stdout,
            stderr,
        } = output.expect("dbus-send (Debian package dbus-bin)");
        let text = [stdout, stderr].concat();
        (
            status.success(),
            String::from_utf8(text).unwrap().trim().to_owned(),
        )
    }

    pub(super) fn call_as(&self, user: u32, method: &str) -> (bool, String) {
        self.calls(user, NAME, OBJECT, method, &[])
    }

    /// What root is answered.
    #[track_caller]
    pub(super) fn call(&self, method: &str) -> String {
        let (ok, said) = self.call_as(0, method);
        assert!(ok, "{method}: {said}");
        said
    }

    /// The words of `GetDetails`.
    #[track_caller]
    pub(super) fn details(&self) -> String {
        self.call(&format!("{OURS}.GetDetails"))
    }

    pub(super) fn owner(&self) -> Option<String> {
        let (bus, method) = ("org.freedesktop.DBus", "org.freedesktop.DBus.GetNameOwner");
        let (ok, said) = self.calls(0, bus, "/", method, &[&format!("string:{NAME}")]);
        ok.then_some(said)
    }

    /// Waits until somebody has the name who is not `former`.
    #[track_caller]
    pub(super) fn wait_for_owner(&self, former: Option<&str>) -> String {
        let start = Instant::now();
        loop {
            match self.owner() {
                Some(owner) if Some(owner.as_str()) != former => return owner,
                _ => assert!(start.elapsed() < PATIENCE, "nobody has the name"),
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Process and user of whoever has the name.
    #[track_caller]
    pub(super) fn credentials(&self) -> (i32, u32) {
        let ask = |what: &str| {
            let method = format!("org.freedesktop.DBus.GetConnectionUnix{what}");
            let name = format!("string:{NAME}");
            let (ok, said) = self.calls(0, "org.freedesktop.DBus", "/", &method, &[&name]);
            assert!(ok, "{said}");
            said.rsplit(' ').next().unwrap().to_owned()
        };
        (
            ask("ProcessID").parse().unwrap(),
            ask("User").parse().unwrap(),
        )
    }

    pub(super) fn watch(&self, interface: &str) -> Monitor {
        Monitor::start(&self.place.address(), interface)
    }
}

/// The signals of one interface.
pub(super) struct Monitor {
    pub(super) child: Child,
    pub(super) lines: Receiver<String>,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Monitor {
    pub(super) fn start(address: &str, interface: &str) -> Self {
        let mut child = Command::new("dbus-monitor")
            .args(["--address", address])
            .arg(format!(
                "type='signal',sender='{NAME}',interface='{interface}'"
            ))
            // It is told that it has become a monitor by losing its name.
            .arg("type='signal',member='NameLost'")
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-monitor (Debian package dbus-bin)");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let monitor = Self { child, lines };
        monitor.wait_for(|line| line.contains("member=NameLost"));
        monitor
    }

    /// The lines up to the first one that `is_it`.
    #[track_caller]
    pub(super) fn wait_for(&self, is_it: impl Fn(&str) -> bool) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => seen.push(line),
                Err(error) => panic!("{error} after {seen:#?}"),
            }
            if seen.last().is_some_and(|line| is_it(line)) {
                return seen;
            }
        }
    }
}

/// The values of each signal, with their types.
pub(super) fn signals(lines: &[String], member: &str) -> Vec<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut lines = lines.iter().peekable();
    while let Some(line) = lines.next() {
        if !line.ends_with(&format!("member={member}")) {
            continue;
        }
        let mut values = Vec::new();
        while let Some(value) = lines.next_if(|line| line.starts_with("   ")) {
            let (kind, value) = value.trim().split_once(' ').unwrap();
            values.push((kind.to_owned(), value.trim_matches('"').to_owned()));
        }
        found.push(values);
    }
    found
}

/// Names and types of what a member of an interface takes and gives.
pub(super) fn shape(xml: &str, interface: &str, member: &str) -> Vec<(String, String, String)> {
    let attribute = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let begins = |line: &&str, name: &str| attribute(line, "name").as_deref() == Some(name);
    xml.lines()
        .skip_while(|line| !(line.contains("<interface") && begins(line, interface)))
        .take_while(|line| !line.contains("</interface"))
        .skip_while(|line| line.contains("<interface") || !begins(line, member))
        .skip(1)
        .take_while(|line| line.contains("<arg"))
        .map(|line| {
            let get = |name| attribute(line, name).unwrap_or_default();
            (get("name"), get("type"), get("direction"))
        })
        .collect()
}
