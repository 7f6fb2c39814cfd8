//! Figures on their way to operators: counted in [buckets](histogram) where they arise, and written as a
//! [page] that Prometheus reads.

pub mod histogram;
pub mod page;
