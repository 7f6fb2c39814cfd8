//! What one member knows of another, in as few bytes as it takes.

/// Bits that hold the number of the latest record.
const RECORD_BITS: u16 = 13;
const RECORD_MASK: u16 = (1 << RECORD_BITS) - 1;

/// Set when that record was told by an update, and not with `USER_ENTERED`.
const BY_UPDATE: u16 = 1 << RECORD_BITS;

/// Records one member may send.
pub const RECORDS_MAX: u16 = RECORD_MASK;

/// What somebody knows of another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    Never = 0,
    /// It is in.
    There = 1,
    /// It was.
    Left = 2,
}

/// Sixteen bits, since there are as many as pairs of members.
#[derive(Clone, Copy, Default)]
pub struct Cell(u16);

impl Cell {
    /// What is known.
    pub fn known(self) -> Known {
        match self.0 >> (RECORD_BITS + 1) {
            0 => Known::Never,
            1 => Known::There,
            _ => Known::Left,
        }
    }

    /// That is known from now on.
    pub fn now(&mut self, known: Known) {
        self.0 = self.0 & (BY_UPDATE | RECORD_MASK) | (known as u16) << (RECORD_BITS + 1);
    }

    /// The latest record; 0: none.
    pub fn record(self) -> u16 {
        self.0 & RECORD_MASK
    }

    /// That record is the latest from now on.
    pub fn told(&mut self, record: u16, by_update: bool) {
        let how = if by_update { BY_UPDATE } else { 0 };
        self.0 = self.0 & !(BY_UPDATE | RECORD_MASK) | how | record;
    }

    /// Whether that record was told by an update.
    pub fn by_update(self) -> bool {
        self.0 & BY_UPDATE != 0
    }
}
