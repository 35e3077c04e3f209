//! Power cuts on a simulated disk: every write of everything that writes, cut before, inside and after, and what our
//! loaders make of what is left.
//!
//! The product's own code runs over [`disk::SimDisk`], which records each write and flush. [`cuts`] turns such a log into
//! every medium that a cut can leave. [`judge`] boots each of them with a model of the board's loader ([`loader`], which
//! knows nothing of `bootctl`), lets the device recover as it would, and holds what happens against the invariants.

pub mod audit;
pub mod campaign;
pub mod cuts;
pub mod device;
pub mod disk;
pub mod facts;
pub mod fixture;
pub mod jobs;
pub mod judge;
pub mod loader;
pub mod medium;
pub mod operation;
pub mod parse;
pub mod real;
pub mod recovery;
pub mod release;
pub mod report;
pub mod search;

#[cfg(test)]
mod tests;
