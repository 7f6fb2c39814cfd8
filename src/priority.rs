//! Threads whose work can wait.

/// Niceness of what everything else goes before. The kernel derives a thread's place in the queue for the disk
/// from it, too.
pub const LEAST: i32 = 19;

/// Lowers the priority of the calling thread by so much niceness. Where that is refused the work goes on as
/// it is, which `otherwise` says in the log.
pub fn lower(niceness: i32, otherwise: &str) {
    if let Err(error) = rustix::process::nice(niceness) {
        tracing::warn!(%error, "{otherwise}");
    }
}
