use super::super::{MODULES, MODULES_BIOS};
use super::*;
use bootctl::confirmed;

const MIB: u64 = 1024 * 1024;

fn layout(sector_size: SectorSize) -> Layout {
    let extent = |first: u64, len: u64| Extent {
        first_lba: first * MIB / sector_size.bytes(),
        sectors: len * MIB / sector_size.bytes(),
    };
    Layout {
        sector_size,
        usr_a: extent(28, 64),
        usr_b: extent(92, 64),
        oem: extent(156, 8),
        oem_config: extent(164, 16),
    }
}

fn script(sector_size: SectorSize) -> String {
    grub_cfg(&layout(sector_size)).unwrap()
}

#[test]
fn places_are_in_512_byte_sectors_whatever_the_disk_has() {
    let small = script(SectorSize::B512);
    assert!(small.contains(r#"loopback tandem_a "($disk)57344+131072""#));
    assert!(small.contains(r#"loopback tandem_b "($disk)188416+131072""#));
    assert!(small.contains(r#"loopback tandem_oem "($disk)319488+16384""#));
    // OEM-CONFIG ends at 180 MiB.
    assert!(small.contains(r#"load_env -f "($disk)367616+1" tandem_confirmed"#));
    assert_eq!(small, script(SectorSize::B4096));
}

#[test]
fn every_placeholder_is_filled() {
    let script = script(SectorSize::B512);
    assert!(!script.contains('@'), "{script}");
}

#[test]
fn the_last_command_is_an_endless_loop_so_that_no_prompt_opens() {
    let script = script(SectorSize::B512);
    let tail = script.rsplit_once("while [ a = a ]; do").unwrap().1;
    assert!(tail.contains("reboot") && tail.trim_end().ends_with("done"));
    assert_eq!(tail.matches("done").count(), 1);
    assert!(!tail.contains("break"));
}

#[test]
fn nothing_searches_shows_a_menu_or_leaves_the_disk() {
    let script = script(SectorSize::B512);
    let commands = script.lines().filter(|l| !l.trim_start().starts_with('#'));
    for line in commands {
        for word in [
            "search",
            "menuentry",
            "fallback",
            "timeout",
            "hd0",
            "configfile",
            "insmod",
            "normal",
            "net_",
            "exit",
            "read ",
        ] {
            assert!(!line.contains(word), "{word} in {line}");
        }
    }
}

#[test]
fn load_env_never_runs_without_a_list_of_names() {
    let script = script(SectorSize::B512).replace("\\\n", " ");
    let mut seen = 0;
    for line in script.lines().filter(|l| !l.trim_start().starts_with('#')) {
        for command in ["load_env -f ", "save_env -f "] {
            if let Some((_, rest)) = line.split_once(command) {
                let arguments = rest.trim_end_matches("; then").split_whitespace().count();
                assert!(arguments >= 2, "{line}");
                assert!(line.trim_start().starts_with("if "), "{line}");
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 5);
}

/// The template spells the variables out; these are the names that bootctl writes.
#[test]
fn variables_have_the_names_that_bootctl_writes() {
    let script = script(SectorSize::B512);
    let (_, after) = script.split_once("+1\" tandem_").unwrap();
    let (record, _) = after.split_once(';').unwrap();
    let names = [
        confirmed::SLOT,
        confirmed::USR_A,
        confirmed::USR_B,
        confirmed::ROOT,
        confirmed::FRESH,
    ];
    assert_eq!(format!("tandem_{record}"), names.join(" "));
    for name in vars::NAMES.iter().chain([&vars::CHECK]).chain(&names) {
        assert!(
            script.contains(&format!("set {name}=\n")),
            "{name} is not cleared"
        );
        assert!(
            script.contains(&format!("${name}")),
            "{name} is not looked at"
        );
    }
}

#[test]
fn every_command_that_the_script_uses_has_its_module() {
    let modules: Vec<_> = MODULES.iter().chain(MODULES_BIOS).copied().collect();
    let script = script(SectorSize::B512);
    for (command, module) in [
        ("load_env", "loadenv"),
        ("save_env", "loadenv"),
        ("regexp", "regexp"),
        ("probe", "probe"),
        ("loopback", "loopback"),
        ("linux", "linux"),
        ("initrd", "linux"),
        ("multiboot", "multiboot"),
        ("boot", "boot"),
        ("echo", "echo"),
        ("sleep", "sleep"),
        ("reboot", "reboot"),
        ("[", "test"),
        ("true", "true"),
        ("serial", "serial"),
        ("terminal_output", "terminal"),
    ] {
        assert!(script.contains(command), "{command} is no longer used");
        assert!(modules.contains(&module), "{command} needs {module}");
    }
}

/// GRUB 2.06 frees the command line of the second of two kernels, which then starts without one.
#[test]
fn a_loaded_kernel_is_unloaded_before_another_one_is_loaded() {
    let script = script(SectorSize::B512);
    assert_eq!(script.matches("if linux ").count(), 1);
    let (_, after) = script.split_once("if linux ").unwrap();
    let (until, _) = after.split_once("return").unwrap();
    let boot = until.find("\n          boot\n").unwrap();
    assert!(until.find("if multiboot; then").unwrap() > boot);
}

#[test]
fn a_layout_that_overflows_or_is_too_small_is_refused() {
    let mut huge = layout(SectorSize::B4096);
    huge.usr_b.first_lba = u64::MAX / 8;
    huge.usr_b.sectors = 2;
    assert!(matches!(grub_cfg(&huge), Err(LayoutError::TooLarge { .. })));

    let mut small = layout(SectorSize::B512);
    small.oem_config.sectors = 1023;
    assert_eq!(
        grub_cfg(&small),
        Err(LayoutError::OemConfigTooSmall { bytes: 1023 * 512 })
    );
}
