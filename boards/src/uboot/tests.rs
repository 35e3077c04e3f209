use super::*;
use crate::{arm64_uboot_env, rpi3_uboot, rpi4_uboot};

const ENV_LBA: u64 = 0x5_a1b2;

fn gpt() -> Options<'static> {
    Options {
        board: &rpi3_uboot::BOARD,
        store: Store::Gpt,
        scratch: rpi3_uboot::SCRATCH,
        watchdog: Some(rpi3_uboot::WATCHDOG),
    }
}

fn environment() -> Options<'static> {
    Options {
        board: &arm64_uboot_env::BOARD,
        store: Store::Environment { lba: ENV_LBA },
        scratch: arm64_uboot_env::SCRATCH,
        watchdog: None,
    }
}

fn own() -> Options<'static> {
    Options {
        store: Store::Own(Copies {
            lbas: [0x2000, 0x2200],
            sectors: 32,
        }),
        ..environment()
    }
}

fn all() -> [String; 3] {
    [gpt(), environment(), own()].map(|options| boot_script(&options).unwrap())
}

/// The script without its comments, cut into simple commands.
fn commands(script: &str) -> Vec<String> {
    let lines = script.lines().filter(|l| !l.trim_start().starts_with('#'));
    let text = lines.collect::<Vec<_>>().join("\n");
    text.replace("&&\n", "&& ")
        .replace("||\n", "|| ")
        .split(['\n', ';'])
        .flat_map(|part| part.split("&&"))
        .flat_map(|part| part.split("||"))
        .map(|part| {
            let mut part = part.trim();
            for word in ["if ", "while ", "then ", "else ", "do "] {
                part = part.strip_prefix(word).unwrap_or(part).trim();
            }
            part.trim_matches('\'').trim().to_owned()
        })
        .filter(|part| !part.is_empty())
        .collect()
}

#[test]
fn every_placeholder_is_filled() {
    for script in all() {
        assert!(!script.contains('@'), "{script}");
    }
}

#[test]
fn lines_and_arguments_fit_what_stock_builds_take() {
    for script in all() {
        for line in script.lines() {
            assert!(line.len() <= 200, "{line}");
        }
        for command in commands(&script) {
            if !command.starts_with("for ") {
                let words = command.split_whitespace().count();
                assert!(words <= 16, "{words} words: {command}");
            }
        }
    }
}

/// An apostrophe in a comment would end or begin a quotation.
#[test]
fn quotations_are_functions_and_nothing_else() {
    for script in all() {
        let parts: Vec<&str> = script.split('\'').collect();
        assert_eq!(parts.len() % 2, 1);
        for pair in parts.chunks_exact(2) {
            let name = pair[0].lines().last().unwrap();
            assert!(name.starts_with("setenv t_"), "{name}");
            assert_eq!(name.split_whitespace().count(), 2, "{name}");
            assert!(!pair[1].contains('#'), "a comment in {name}");
        }
    }
}

#[test]
fn what_is_run_or_read_is_set_somewhere() {
    for script in all() {
        let commands = commands(&script);
        let set = |name: &str| {
            let (setenv, part) = (format!("setenv {name}"), " uuid ${devtype} ");
            commands.iter().any(|c| {
                *c == setenv
                    || c.starts_with(&format!("{setenv} "))
                    || c.starts_with("setexpr") && c.split_whitespace().nth(1) == Some(name)
                    || c.starts_with(&format!("for {name} in "))
                    || c.contains(part) && c.ends_with(&format!(" {name}"))
            })
        };
        for command in &commands {
            if let Some(names) = command.strip_prefix("run ") {
                for name in names.split_whitespace().filter(|n| !n.contains('$')) {
                    assert!(set(name), "run {name}");
                }
            }
        }
        for piece in script.split("${").skip(1) {
            let (name, _) = piece.split_once('}').unwrap();
            let stock = [
                "devtype",
                "devnum",
                "kernel_addr_r",
                "ramdisk_addr_r",
                "fdt_addr",
                "filesize",
            ];
            let imported = name == "cmdline" || name.starts_with("tandem_");
            assert!(stock.contains(&name) || imported || set(name), "{name}");
        }
    }
}

#[test]
fn nothing_is_written_but_the_store() {
    for (script, (writes, saves)) in all().iter().zip([(4, 0), (1, 0), (0, 1)]) {
        let found = commands(script);
        let found: Vec<_> = found.iter().filter(|c| c.contains(" write ")).collect();
        assert_eq!(found.len(), writes, "{found:?}");
        let count = commands(script)
            .iter()
            .filter(|c| c.contains("saveenv"))
            .count();
        assert_eq!(count, saves);
        for word in [
            "fatwrite",
            "ext4write",
            "gpt write",
            "env save",
            "erase",
            "save ",
        ] {
            assert!(!commands(script).iter().any(|c| c.contains(word)), "{word}");
        }
    }
}

#[test]
fn a_copy_is_written_entries_first_and_read_back() {
    let [script, ..] = all();
    for (copy, header, lba) in [
        ("primary", "2506000", "1"),
        ("backup", "250c000", "${t_second}"),
    ] {
        let (_, rest) = script
            .split_once(&format!("setenv t_write_{copy} '"))
            .unwrap();
        let (body, _) = rest.split_once('\'').unwrap();
        let place = |text: &str| {
            body.find(text)
                .unwrap_or_else(|| panic!("{text} in {body}"))
        };
        let entries = place(&format!(" ${{t_{copy}_entries}} ${{t_sectors}} &&"));
        let head = place(&format!("write {header} {lba} 1 &&"));
        assert!(entries < head && head < place("read "));
        // Nothing but `&&` between the commands: the first error ends it.
        assert!(!body.contains(';') && !body.contains("||"));
        assert_eq!(body.matches("&&").count(), 5);
    }
}

/// The table's only good copy is never the one that is written.
#[test]
fn the_backup_goes_first_unless_the_primary_is_damaged() {
    let [script, ..] = all();
    let (_, rest) = script.split_once("setenv t_spend '").unwrap();
    let (body, _) = rest.split_once('\'').unwrap();
    let (good, damaged) = body
        .split_once("if test ${t_primary} = yes; then")
        .and_then(|(_, rest)| rest.split_once("else\n      if run"))
        .unwrap();
    assert!(good.contains("run t_write_backup t_write_primary;"));
    assert!(damaged.contains(" t_write_primary t_write_backup;"));
}

#[test]
fn a_try_is_spent_before_anything_is_loaded() {
    for script in all() {
        let (_, main) = script.split_once("for t_round in 1 2; do").unwrap();
        let spend = main.find("run t_spend").unwrap();
        let refuse = main.find("setenv t_may_boot no").unwrap();
        let boot = main
            .find("if test ${t_may_boot} = yes; then run t_boot")
            .unwrap();
        assert!(spend < refuse && refuse < boot);
        assert_eq!(script.matches("run t_boot").count(), 1);
        assert_eq!(script.matches("booti ").count(), 1);
    }
}

#[test]
fn the_end_is_a_reset_that_is_repeated() {
    for script in all() {
        let (_, tail) = script.rsplit_once("while true; do").unwrap();
        assert!(tail.contains("sleep 10\n  reset\ndone"), "{tail}");
        assert!(tail.ends_with("done\n") && !tail.contains("exit"));
    }
}

/// Literal places, as they follow from the UEFI specification and from Flatcar's attribute bits.
#[test]
fn numbers_are_those_of_the_formats() {
    let [script, ..] = all();
    for text in [
        "setexpr.q t_word *2501130; setexpr.q t_word ${t_word} / 1000000000000; setexpr t_priority_a ${t_word} \\& f",
        "setexpr.q t_word *25011b0; setexpr.q t_word ${t_word} / 10000000000000; setexpr t_tries_b ${t_word} \\& f",
        "setexpr.q t_word *25011b0; setexpr.q t_word ${t_word} / 100000000000000; setexpr t_successful_b ${t_word} \\& 1",
        "setexpr.q t_word ${t_word} - 10000000000000; mw.q ${t_at} ${t_word}",
        "test ${t_type_a}.${t_rest_a} != 4bac28485dfbf5f4.a645b7209a0d5eaa",
        "test ${t_signature} = 5452415020494645",
        "setexpr.l t_sums *2500058",
        "mw.l 2506010 0",
        "setexpr.q t_other *2500020",
        "part uuid ${devtype} ${devnum}:9 t_root_id",
        "tandem.loader=1 mount.usr=PARTUUID=${t_usr_id} root=PARTUUID=${t_root_id}",
        "${bootargs} gpt panic=10${t_report}",
    ] {
        assert!(script.contains(text), "{text}");
    }
}

#[test]
fn the_environment_is_one_sector_and_seven_names() {
    let [_, script, _] = all();
    let names = "tandem_a_priority tandem_a_tries tandem_a_successful tandem_b_priority tandem_b_tries \
                 tandem_b_successful tandem_check";
    for text in [
        "${devtype} read 40320000 5a1b2 1 &&".to_owned(),
        format!("env import -c 40320000 200 {names};"),
        format!("env export -c -s 200 40320000 {names} && ${{devtype}} write 40320000 5a1b2 1;"),
    ] {
        assert!(script.contains(&text), "{text}");
    }
}

/// What U-Boot saves of the script's own variables it would have for ever.
#[test]
fn nothing_of_the_script_is_saved() {
    let [.., script] = all();
    let (_, rest) = script.split_once("setenv t_keep '").unwrap();
    let (body, _) = rest.split_once('\'').unwrap();
    let (before, after) = body.split_once("if saveenv; then").unwrap();
    let names = |text: &str, command: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|l| l.trim().strip_prefix(command));
        lines
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect()
    };
    let forgotten = names(before, "env delete ");
    assert_eq!(
        names(after, "env import -t 40340000 ${filesize} "),
        forgotten
    );
    for command in commands(&script) {
        let mut words = command.split_whitespace();
        let name = match words.next() {
            Some("setenv" | "for") => words.next(),
            Some(word) if word.starts_with("setexpr") => words.next(),
            Some("part") => words.last(),
            _ => None,
        };
        let Some(name) = name.filter(|name| !name.contains('$')) else {
            continue;
        };
        let kept = name.starts_with("tandem_") || ["bootargs", "cmdline"].contains(&name);
        assert!(kept || forgotten.iter().any(|n| n == name), "{name}");
    }
    for name in ["bootargs", "cmdline"] {
        let was = format!("setenv {name} \"${{t_own_{name}}}\"");
        assert!(before.contains(&was), "{was}");
    }
}

#[test]
fn u_boots_own_copies_are_read_back_where_tandem_looks_for_them() {
    let [.., script] = all();
    for text in [
        "setenv t_places 2000.2200.20\n",
        "setenv t_copy 2200; run t_read_copy",
        "setenv t_copy 2000; run t_read_copy",
        "${devtype} read 40320000 ${t_copy} 20 &&",
        "env import -c 40320000 4000 tandem_a_priority ",
        "tandem_check tandem_places; then",
        "setexpr.b t_serial *40320004",
        "itest ${filesize} -le 40000; then",
    ] {
        assert!(script.contains(text), "{text}");
    }
    let store = Store::Own(Copies {
        lbas: [0x2000, 0x4000],
        sectors: 257,
    });
    let refused = boot_script(&Options { store, ..own() });
    assert_eq!(refused, Err(ScriptError::CopySize(257)));
}

#[test]
fn the_watchdog_is_armed_on_trial_alone_and_off_again_when_the_kernel_is_refused() {
    for (options, base) in [
        (gpt(), "3f1"),
        (
            Options {
                board: &rpi4_uboot::BOARD,
                watchdog: Some(rpi4_uboot::WATCHDOG),
                ..gpt()
            },
            "fe1",
        ),
    ] {
        let script = boot_script(&options).unwrap();
        let boot = script.find("booti ").unwrap();
        let armed = format!(
            "if test ${{t_successful}} != 1; then\n      mw.l {base}00024 5a0fffff; mw.l {base}0001c 5a000020\n    fi\n    booti"
        );
        assert_eq!(script.find(&armed).unwrap() + armed.len() - 5, boot);
        let off = format!("if test ${{t_successful}} != 1; then mw.l {base}0001c 5a000102; fi");
        assert!(script.find(&off).unwrap() > boot);
        let without = Options {
            watchdog: None,
            ..options
        };
        assert!(!boot_script(&without).unwrap().contains("mw.l 3f1"));
    }
}

#[test]
fn memory_that_does_not_exist_is_refused() {
    for scratch in [1, 0x1_0000_0000, 0xfff8_1000, !4095] {
        let options = Options { scratch, ..gpt() };
        assert_eq!(boot_script(&options), Err(ScriptError::Scratch(scratch)));
    }
    assert!(
        boot_script(&Options {
            scratch: 0,
            ..gpt()
        })
        .is_ok()
    );
}

/// As `mkimage -A arm64 -T script -C none -n tandem` with SOURCE_DATE_EPOCH=0 makes it of "reset\n".
#[test]
fn an_image_is_what_mkimage_makes() {
    let image = boot_scr("reset\n").unwrap();
    assert_eq!(image.len(), 64 + 8 + 6);
    assert_eq!(image[..4], [0x27, 0x05, 0x19, 0x56]);
    assert_eq!(
        image[28..38],
        [5, 22, 6, 0, b't', b'a', b'n', b'd', b'e', b'm']
    );
    assert_eq!(image[12..16], [0, 0, 0, 14]);
    assert_eq!(image[64..], *b"\0\0\0\x06\0\0\0\0reset\n");
}
