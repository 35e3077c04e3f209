//! What a line of `/proc/PID/stat` says about a terminal.

/// Programs that hold a terminal on which nobody is logged in yet, by the names that the kernel has for them.
const WAITING: [&str; 8] = [
    "agetty", "getty", "mingetty", "mgetty", "fgetty", "login", "init", "systemd",
];

/// The number of the terminal that this process works on, unless it only waits there for somebody to log in.
pub(super) fn terminal_in_use(stat: &str) -> Option<u32> {
    // `PID (NAME) STATE PPID PGRP SESSION TTY …`, and the name may hold anything, brackets and spaces too.
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = tail.split_ascii_whitespace();
    let state = fields.next()?;
    let number: i32 = fields.nth(3)?.parse().ok()?;
    let waits = WAITING.contains(&name) || matches!(state, "Z" | "X");
    // The kernel prints it with a sign.
    (number != 0 && !waits).then_some(number.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_those_of_programs_that_do_not_wait_for_a_login() {
        for (stat, terminal) in [
            ("3 (bash) S 1 3 3 34817 3 4194560 1", Some(34817)),
            ("3 (a) b (c) S 1 3 3 34816 3", Some(34816)),
            ("3 (agetty) S 1 3 3 1025 3", None),
            ("3 (login) S 1 3 3 1025 3", None),
            ("3 (sh) Z 1 3 3 1025 3", None),
            ("3 (sshd) S 1 3 3 0 -1", None),
            ("3 (high) S 1 3 3 -2147448832 3", Some(0x8000_8800)),
            ("3 (bash) S 1", None),
            ("", None),
        ] {
            assert_eq!(terminal_in_use(stat), terminal, "{stat}");
        }
    }
}
