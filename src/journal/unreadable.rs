//! Reading past what the disk can't read, in files that are never written again.
//!
//! Such bytes come as zeros, which no line has: what stands there is taken for damage, and everything else
//! in the file is read. Not for recovery, which must never take what can't be read for what was never written.

use std::fs::File;
use std::io;

use nix::errno::Errno;

use super::read::read_some;

/// Bytes given up at a time, as a disk does.
const SECTOR_BYTES: u64 = 4 << 10;

/// Sectors that one reader of a file gives up; then it goes no further, since each may take the disk
/// seconds.
const MOST: u32 = 16;

/// Whether it is the disk that can't read.
pub fn is(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EIO as i32)
}

/// How much more one reader of a file gives up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience(u32);

impl Default for Patience {
    fn default() -> Patience {
        Patience(MOST)
    }
}

impl Patience {
    /// As `read_at`, but for what can't be read; 0: the file ends here, or is given up.
    pub(super) fn read(&mut self, file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        match read_some(file, buffer, at) {
            Err(error) if is(&error) => Ok(self.pass_over(buffer, at, file.metadata()?.len())),
            other => other,
        }
    }

    /// Whether nothing more is given up.
    pub(super) fn is_out(self) -> bool {
        self.0 == 0
    }

    /// Gives something up.
    pub(super) fn take(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    fn pass_over(&mut self, buffer: &mut [u8], at: u64, end: u64) -> usize {
        if at >= end || self.is_out() {
            return 0;
        }
        self.take();
        let sector = SECTOR_BYTES - at % SECTOR_BYTES;
        let bytes = usize::try_from(sector.min(end - at)).unwrap_or(buffer.len()).min(buffer.len());
        buffer[..bytes].fill(0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_comes_as_zeros_sector_by_sector_and_not_for_ever() {
        let mut patience = Patience::default();
        let mut buffer = [7; 10_000];
        assert_eq!(patience.pass_over(&mut buffer, 4_000, 50_000), 96);
        assert_eq!((&buffer[..96], buffer[96]), (&[0; 96][..], 7));
        assert_eq!(patience.pass_over(&mut buffer, 4_096, 50_000), 4_096);
        assert_eq!(patience.pass_over(&mut buffer[..100], 8_192, 50_000), 100);
        assert_eq!(patience.pass_over(&mut buffer, 49_999, 50_000), 1);
        assert_eq!(patience.pass_over(&mut buffer, 50_000, 50_000), 0);
        let more = (0..100).filter(|_| patience.pass_over(&mut buffer, 0, 50_000) > 0);
        assert_eq!(more.count(), 12);
    }

    #[test]
    fn a_file_without_a_readable_byte_ends() {
        // Nothing is mapped at address 0, so reading there fails as a disk does.
        let file = File::open("/proc/self/mem").unwrap();
        let mut buffer = [0; 16];
        assert!(is(&read_some(&file, &mut buffer, 0).unwrap_err()));
        assert_eq!(Patience::default().read(&file, &mut buffer, 0).unwrap(), 0);
        let file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut &file, b"abc").unwrap();
        assert_eq!(Patience::default().read(&file, &mut buffer, 1).unwrap(), 2);
        assert_eq!(&buffer[..2], b"bc");
    }
}
