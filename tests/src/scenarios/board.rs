//! What is soldered to a board: a light, a button, a watchdog.

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::scenario::{Platform, Rig, Scenario, Slot};
use crate::system::{LOADER_WATCHDOG, Release};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "light-and-button",
        on: &[Platform::VIRT],
        run: light_and_button,
    },
    Scenario {
        name: "watchdog-while-writing",
        on: &[Platform::VIRT],
        run: watchdog_while_writing,
    },
    Scenario {
        name: "loader-watchdog",
        on: &[Platform::PI3],
        run: loader_watchdog,
    },
];

/// Nothing is connected to these lines, so that the second reads low for ever: a button that is stuck.
const PINS: &str = "tandem.led=gpiochip0/6 tandem.button=gpiochip0/5/low";
/// Says when the light is switched.
const LOOK: &str = include_str!("files/look");
/// A health check that takes as long as it needs to look at the light of a trial.
const CHECK: &str = "/etc/tandem/health.d/required.d/50-look";

fn light_and_button(rig: &mut Rig<'_>) -> Result<()> {
    let (v1, v2) = (rig.stock.v1.clone(), rig.stock.v2()?);
    rig.cmdline(PINS)?;
    let look = rig.dir.join("look");
    fs::write(&look, LOOK).with_context(|| format!("write {}", look.display()))?;
    rig.put(&look, "look")?;
    rig.bring(&v2)?;
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.wait_for("the button is held, but slot a is on trial or slot b can't be booted")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.check(&format!(
        "mkdir -p $(dirname {CHECK}) && printf '%s\\n' '#!/usr/bin/busybox sh' \
         'sh /look 1200 > /var/lib/light' > {CHECK} && chmod 755 {CHECK}"
    ))?;
    let writing = while_writing(rig, &v2)?;
    rig.reboot()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    // Stuck as it is, it does not send the machine back and forth.
    rig.wait_for("the button is held, but slot b is on trial or slot a can't be booted")?;
    rig.expect_confirmed(Slot::B, &v2)?;
    let on_trial = switched(&rig.check("cat /var/lib/light")?)?;
    ensure!(
        (0.5..2.5).contains(&on_trial) && writing > 2.0 * on_trial,
        "expect the light to be switched 1.4 times a second on trial, and quicker while a release is written: {on_trial} and {writing} times"
    );
    rig.reboot()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.wait_for("the button is held: slot a once")?;
    rig.look_at_disk()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.shut_down(Slot::A, &v1)?;
    rig.expect_content(Slot::B, &v2)?;
    Ok(())
}

/// Has the service install `release`, and stops in the middle to look at the light: how often it is switched in a second.
fn while_writing(rig: &mut Rig<'_>, release: &Release) -> Result<f64> {
    let length = fs::metadata(&release.payload)
        .context("find the payload's length")?
        .len();
    rig.half_update(release, length / 2)?;
    let writing = rig.check("sh /look 600")?;
    rig.serve(release)?;
    rig.check("until update_engine_client -status | grep -q NEED_REBOOT; do sleep 1; done")?;
    let afterwards = rig.check("sh /look 200")?;
    ensure!(
        afterwards.lines().count() == 1 && afterwards.ends_with("dark"),
        "expect nobody to have the light when all is written: {afterwards}"
    );
    switched(&writing)
}

/// How often in a second.
fn switched(looked: &str) -> Result<f64> {
    let mut times = Vec::new();
    for line in looked.lines().filter(|line| !line.ends_with("dark")) {
        let (time, _) = line.split_once(' ').unwrap_or_default();
        let time: f64 = time
            .parse()
            .with_context(|| format!("read the light's time {line:?}"))?;
        times.push(time / 100.0);
    }
    match times.as_slice() {
        [first, .., last] if times.len() > 4 => Ok((times.len() - 1) as f64 / (last - first)),
        _ => bail!("expect the light to be switched again and again: {looked:?}"),
    }
}

/// What the kernel says of the watchdog.
const WATCHDOG: &str = "/sys/class/watchdog/watchdog0";
/// Bytes of the payload until the rest keeps the installation waiting.
const FIRST: u64 = 4 << 20;

/// Init has given it back. An installation that asks for it arms it with the time-out that Tandem wants, feeds it for as long
/// as it lives, and gives it back too; one that is killed takes the machine with it.
fn watchdog_while_writing(rig: &mut Rig<'_>) -> Result<()> {
    rig.watchdog = true;
    let (v1, v2) = (rig.stock.v1.clone(), rig.stock.v2()?);
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    is_given_back(rig)?;
    let url = rig.serve(&v2)?.url();
    rig.check(&format!("wget -q -O /payload {url}"))?;
    // Somebody else had it meanwhile, with a time-out of their own.
    rig.check("watchdog -T 77 -F /dev/watchdog0 & sleep 2; kill $!; wait; sleep 1")?;
    ensure!(
        rig.check(&format!("cat {WATCHDOG}/timeout"))? == "77",
        "expect busybox to have left its time-out"
    );
    let first = format!("head -c {FIRST} /payload");
    let armed = format!("cat {WATCHDOG}/state {WATCHDOG}/timeout");
    let apply = "update_engine apply --watchdog --payload -";
    let found = rig.check(&format!(
        "({first}; sleep 1000) | {apply} & sleep 10; {armed}"
    ))?;
    ensure!(
        found.ends_with("active\n30"),
        "expect the watchdog to be armed with 30 s: {found}"
    );
    rig.check("kill -9 $(grep -l apply /proc/[0-9]*/cmdline | cut -d/ -f3) || true")?;
    rig.look_at_disk()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    // Longer than its time-out.
    let rest = format!("tail -c +{} /payload", FIRST + 1);
    rig.check(&format!("({first}; sleep 45; {rest}) | {apply}"))?;
    is_given_back(rig)?;
    rig.reboot()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.expect_confirmed(Slot::B, &v2)?;
    is_given_back(rig)?;
    rig.shut_down(Slot::B, &v2)
}

/// Whoever watches over a trial looks every five seconds.
fn is_given_back(rig: &mut Rig<'_>) -> Result<()> {
    let state = rig.check(&format!("sleep 8; cat {WATCHDOG}/state"))?;
    ensure!(
        state == "inactive",
        "expect the watchdog to be given back: it is {state}"
    );
    Ok(())
}

/// The script arms the Pi's watchdog before it starts what is on trial, and nothing else. An emulated one resets at once.
fn loader_watchdog(rig: &mut Rig<'_>) -> Result<()> {
    let (v1, v2) = (rig.stock.v1.clone(), rig.stock.v2()?);
    rig.flash(LOADER_WATCHDOG)?;
    rig.bring(&v2)?;
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.install(&v2)?;
    rig.reboot()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    let said = rig.wait_for("U-Boot 20")?;
    for word in ["does not load", "Abort", "is starting"] {
        ensure!(
            !said.contains(word),
            "expect the watchdog to reset before the kernel of slot b starts: {said}"
        );
    }
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.shut_down(Slot::A, &v1)?;
    rig.expect_content(Slot::B, &v2)?;
    Ok(())
}
