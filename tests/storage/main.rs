//! Backings on the real kernel: files on a disk and in memory, loop devices, full and read-only file systems.
//!
//! Every test works in directories and on devices of its own and gives them back. What a machine lacks is a skip with its
//! name, and a failure where `REQUIRE_ALL=1`.

mod claims;
mod direct;
mod limits;
mod model;
mod places;
mod signatures;
mod waiting;
