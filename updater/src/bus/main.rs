//! `update_engine_bus`: the part of the service that is on the system bus. The service starts it.

use std::env::args_os;
use std::process::ExitCode;

use bootctl::exit::Exit;
use updater::print;

fn main() -> ExitCode {
    print::start_log(0);
    exit().into()
}

fn exit() -> Exit {
    if let Some(word) = args_os().nth(1) {
        let name = "update_engine_bus";
        if word == "--version" || word == "-V" {
            print::say(format_args!("{name} {}", env!("CARGO_PKG_VERSION")));
            return Exit::Done;
        }
        let help = "started by update_engine run, with which it speaks over standard input; it takes no arguments";
        if word == "--help" || word == "-h" {
            print::say(format_args!("{name}: {help}"));
            return Exit::Done;
        }
        print::complain(format_args!("read arguments: {name} is {help}"));
        return Exit::Usage;
    }
    match updater::bus::run_bridge() {
        Ok(()) => Exit::Done,
        Err(error) => {
            print::complain(format_args!("serve the system bus: {error}"));
            Exit::Failed
        }
    }
}
