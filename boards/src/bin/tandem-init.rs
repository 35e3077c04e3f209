//! `/init` of a slot's initramfs. See [`boards::init`].
#![deny(unsafe_code)]

use std::process::ExitCode;

use boards::init;

#[expect(clippy::print_stderr, clippy::print_stdout, reason = "a program talks")]
fn main() -> ExitCode {
    if std::process::id() == 1 {
        init::run()
    }
    if init::deadline::is_me() {
        init::deadline::run();
        return ExitCode::SUCCESS;
    }
    match std::env::args().nth(1).as_deref() {
        Some("--version") => println!("tandem-init {}", env!("CARGO_PKG_VERSION")),
        Some("--help") => println!("tandem-init boots a slot; it runs as /init of an initramfs"),
        _ => {
            eprintln!("run tandem-init: it is for process 1 only (it is /init of an initramfs)");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
