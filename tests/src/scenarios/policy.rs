//! Updates that nobody asks for.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::scenario::{Platform, Rig, Scenario, Slot, expect};
use crate::system::Release;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "by-policy",
    on: &[Platform::BIOS],
    run: by_policy,
}];

/// The kernel's last word before it resets the machine.
const RESTARTS: &str = "reboot: Restarting system";
/// What our `systemctl` says.
const ASKED: &str = "<asked: --no-block reboot>";

/// What the server has, at the first look after the start; then what somebody puts into a folder, where a systemd that
/// was asked to reboot stops the service and gets no further.
fn by_policy(rig: &mut Rig<'_>) -> Result<()> {
    let (v1, v2, v3) = (rig.stock.v1.clone(), rig.stock.v2()?, rig.stock.v3()?);
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    let base = rig.serve(&v2)?.base();
    rig.configure(&[
        &format!("SERVER={base}/tandem"),
        "GROUP=stable",
        "REBOOT_STRATEGY=reboot",
    ])?;
    rig.wait_for(RESTARTS)?;
    rig.look_at_disk()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.expect_confirmed(Slot::B, &v2)?;
    let (asked, board) = (rig.serve(&v3)?.asked(), rig.platform.board());
    ensure!(
        asked == format!("/tandem/stable/{board}/latest.payload"),
        "expect the device to have asked for the payload of its board: it asked for {asked}"
    );

    rig.check(&systemd_that_hangs())?;
    rig.configure(&["PAYLOAD_DIR=/stick", "REBOOT_STRATEGY=reboot"])?;
    put_into(rig, "/stick", &v3)?;
    rig.wait_for(ASKED)?;
    // systemd's last step is to end what is left, and to wait for what is not.
    let blocked = rig.check("sleep 20; grep -h SigBlk /proc/$(pidof update_engine)/status")?;
    ensure!(
        blocked.trim().trim_end_matches('0') == "SigBlk:\t",
        "expect one process that any signal ends: {blocked:?}"
    );
    let meanwhile = rig.wait_for(RESTARTS)?;
    rig.look_at_disk()?;
    ensure!(
        !meanwhile.contains(ASKED),
        "expect what the service has left behind to insist: another one asked again"
    );
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v3)?;
    // Time enough for another look into the folder: it holds nothing new.
    rig.check("sleep 100")?;
    let status = rig.check("update_engine_client -status -json")?;
    let status: Value = serde_json::from_str(&status)?;
    expect(&status, "/current_op", &"UPDATE_STATUS_IDLE".into())?;
    rig.shut_down(Slot::A, &v3)?;
    rig.expect_content(Slot::B, &v2)?;
    Ok(())
}

/// Puts the payload of `release`, which the server has, into a folder of the device.
fn put_into(rig: &mut Rig<'_>, folder: &str, release: &Release) -> Result<()> {
    let url = rig.serve(release)?.url();
    let command = format!(
        "mkdir {folder} && wget -q -O {folder}/part {url} && mv {folder}/part {folder}/new.payload"
    );
    rig.check(&command).map(drop)
}

/// What makes the device believe that it has systemd, in `/usr/sbin`, which is the end of the service's path. It stops the
/// service like all others, and that is all.
fn systemd_that_hangs() -> String {
    let script = [
        "#!/usr/bin/busybox sh",
        // Put together there, so that the echo of the line that is typed is not taken for it.
        r#"printf "<%s: $*>" asked > /dev/console"#,
        // A unit that was stopped is not started again.
        "mount -o bind /run/stopped /usr/lib/demo/service",
        "kill -TERM $PPID",
    ];
    let script = script.join("' '");
    format!(
        "mkdir -p /run/systemd/system && cp -a /usr/sbin /run/sbin && \
         printf '%s\\n' '{script}' > /run/sbin/systemctl && \
         printf '%s\\n' '#!/usr/bin/busybox sh' 'exec sleep 100000' > /run/stopped && \
         chmod 755 /run/sbin/systemctl /run/stopped && mount -o bind /run/sbin /usr/sbin"
    )
}
