//! Tables on a disk in memory, made by gptman so that nothing of ours vouches for itself.

mod commits;
mod disk;

use disk::MemDisk;

use super::*;
