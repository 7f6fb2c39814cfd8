//! What the fuzz targets do with their input, so that `tests/corpus.rs` can do it with the inputs that
//! are kept in `fuzz/corpus`.
//!
//! A target takes bytes from a stranger (or a disk) two ways: as they are, and as instructions for
//! making something well-formed, of which more can be said than that nothing panics.

pub mod array;
pub mod link;
pub mod log;
pub mod packet;
pub mod payload;
pub mod record;
pub mod request;
pub mod search;
pub mod session;

/// Does with its bytes what a target does; panics on a finding.
pub type Run = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Run); 9] = [
    ("array", array::run),
    ("link", link::run),
    ("log", log::run),
    ("packet", packet::run),
    ("payload", payload::run),
    ("record", record::run),
    ("request", request::run),
    ("search", search::run),
    ("session", session::run),
];
