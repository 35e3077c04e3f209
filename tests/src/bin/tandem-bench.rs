//! Benchmarks that print ratios of one run; nothing here passes or fails by the clock.
//!
//! `tests/bench install` races `update_engine apply` against `zstd -dc | dd conv=fsync` writing the same content;
//! `tests/bench stream` races an update over HTTP against `update_engine apply`.

#[path = "tandem-bench/install.rs"]
mod install;
#[path = "tandem-bench/material.rs"]
mod material;
#[path = "tandem-bench/measure.rs"]
mod measure;
#[path = "tandem-bench/stream.rs"]
mod stream;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Benchmarks of Tandem; prints ratios, judges nothing
#[derive(Debug, Parser)]
#[command(name = "tests/bench", version)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,

    /// Folder of the static release binaries
    #[arg(
        long,
        global = true,
        default_value = "target/static/x86_64-unknown-linux-gnu/release"
    )]
    bin_dir: PathBuf,

    /// Where the images and disks are made (several GiB); kept between runs
    #[arg(long, global = true, default_value = "target/bench")]
    work_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// An installation from a file against zstd piped into dd, with memory and sizes
    Install {
        /// Size of the image, MiB
        #[arg(long, default_value_t = 600)]
        size_mib: u64,
        /// Interleaved pairs
        #[arg(long, default_value_t = 5)]
        pairs: usize,
        /// zstd level of both sides
        #[arg(long, default_value_t = 9)]
        level: u8,
    },
    /// An update over HTTP by the service against an installation from a file, with memory, and what is read and fetched
    /// again after a kill
    Stream {
        /// Size of the image, MiB
        #[arg(long, default_value_t = 600)]
        size_mib: u64,
        /// Interleaved pairs
        #[arg(long, default_value_t = 5)]
        pairs: usize,
        /// zstd level of the payload
        #[arg(long, default_value_t = 9)]
        level: u8,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.benchmark {
        Benchmark::Install {
            size_mib,
            pairs,
            level,
        } => {
            let material =
                material::prepare(&arguments.bin_dir, &arguments.work_dir, size_mib, level)?;
            install::run(&arguments.bin_dir, &material, pairs)
        }
        Benchmark::Stream {
            size_mib,
            pairs,
            level,
        } => {
            let material =
                material::prepare(&arguments.bin_dir, &arguments.work_dir, size_mib, level)?;
            stream::run(&arguments.bin_dir, &material, pairs)
        }
    }
}
