//! `NAME.aria2`: what aria2 has of the file `NAME` that it did not complete.
//!
//! aria2 writes pieces in any order, so the file beside it has holes, which only the control file
//! shows. The format is in aria2's manual ("Technical notes"): version, extensions, info hash,
//! length of a piece, total length, bytes uploaded, a bit for each piece, and the pieces that were
//! under way. Version 1 is big endian, version 0 has the byte order of the machine that wrote it.
//!
//! The file may be torn, damaged or made up: whatever does not fit is an error, and nothing
//! in such a file is believed.

use super::range::{ByteRange, MAX_OBJECT_BYTES};

/// Longer control files are not read: one of a million pieces has 128 KiB.
pub const MAX_CONTROL_BYTES: u64 = 1 << 20;

/// aria2 has no smaller pieces.
const MIN_PIECE_BYTES: u64 = 1024;

/// The parts of a piece that aria2 asks for; each has a bit while its piece is under way.
const BLOCK_BYTES: u64 = 16 << 10;

/// The contents of a control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlFile {
    /// The size of the object in bytes.
    pub total_bytes: u64,
    /// The length of every piece but the last, in bytes.
    pub piece_bytes: u64,
    /// The parts of the object that are there: whole pieces, in order and apart from each other.
    pub have: Vec<ByteRange>,
}

/// The byte order of numbers.
#[derive(Debug, Clone, Copy)]
enum Order {
    Big,
    Little,
}

impl ControlFile {
    /// Reads a control file.
    ///
    /// # Errors
    /// A description of what does not fit.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() as u64 > MAX_CONTROL_BYTES {
            return Err("it is longer than any that is read");
        }
        let (version, rest) = bytes.split_first_chunk().ok_or(TOO_SHORT)?;
        let read = |order| Reader { rest, order }.control();
        match u16::from_be_bytes(*version) {
            1 => read(Order::Big),
            0 => read(Order::Little).or_else(|_| read(Order::Big)),
            _ => Err("it has a version that is not known"),
        }
    }
}

const TOO_SHORT: &str = "it ends too early";

struct Reader<'a> {
    rest: &'a [u8],
    order: Order,
}

type Read<T> = Result<T, &'static str>;

impl<'a> Reader<'a> {
    fn control(mut self) -> Read<ControlFile> {
        let _extensions = self.take(4)?;
        if self.u32()? > 0 {
            return Err("it is of a torrent");
        }
        let piece_bytes = u64::from(self.u32()?);
        let total_bytes = self.u64()?;
        let _uploaded = self.u64()?;
        if piece_bytes < MIN_PIECE_BYTES {
            return Err("its pieces are smaller than any");
        }
        if total_bytes == 0 || total_bytes > MAX_OBJECT_BYTES {
            return Err("it tells no size that a file can have");
        }
        let count = total_bytes.div_ceil(piece_bytes);
        let len = u64::from(self.u32()?);
        if len != count.div_ceil(8) {
            return Err("it has not a bit for each piece");
        }
        let bits = self.take(len)?;
        let beyond = len * 8 - count;
        if bits.last().is_some_and(|last| u64::from(last.trailing_zeros()) < beyond) {
            return Err("it has pieces beyond the object's end");
        }
        let mut bits = bits.to_vec();
        for _ in 0..self.u32()? {
            let piece = u64::from(self.u32()?);
            let piece_len = u64::from(self.u32()?);
            let blocks = u64::from(self.u32()?);
            let fits = piece < count
                && (1..=piece_bytes).contains(&piece_len)
                && blocks == piece_len.div_ceil(BLOCK_BYTES).div_ceil(8);
            if !fits {
                return Err("it has a piece under way that the object does not have");
            }
            self.take(blocks)?;
            // Nothing of a piece that is still under way counts.
            if let Some(byte) = usize::try_from(piece / 8).ok().and_then(|at| bits.get_mut(at)) {
                *byte &= !(0x80 >> (piece % 8));
            }
        }
        if !self.rest.is_empty() {
            return Err("it goes on after its end");
        }
        let have = runs(&bits, piece_bytes, total_bytes);
        Ok(ControlFile { total_bytes, piece_bytes, have })
    }

    fn take(&mut self, len: u64) -> Read<&'a [u8]> {
        let len = usize::try_from(len).map_err(|_| TOO_SHORT)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(TOO_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(TOO_SHORT)?;
        self.rest = rest;
        Ok(*array)
    }

    fn u32(&mut self) -> Read<u32> {
        let bytes = self.array()?;
        Ok(match self.order {
            Order::Big => u32::from_be_bytes(bytes),
            Order::Little => u32::from_le_bytes(bytes),
        })
    }

    fn u64(&mut self) -> Read<u64> {
        let bytes = self.array()?;
        Ok(match self.order {
            Order::Big => u64::from_be_bytes(bytes),
            Order::Little => u64::from_le_bytes(bytes),
        })
    }
}

/// The bytes of the pieces whose bits are set; the first bit is the highest of the
/// first byte.
fn runs(bits: &[u8], piece_bytes: u64, total_bytes: u64) -> Vec<ByteRange> {
    let mut have: Vec<ByteRange> = Vec::new();
    for (at, byte) in (0_u64..).zip(bits) {
        for bit in (0..8).filter(|bit| byte & (0x80 >> bit) != 0) {
            let start = (at * 8 + bit) * piece_bytes;
            let end = total_bytes.min(start.saturating_add(piece_bytes));
            match have.last_mut().filter(|run| run.end() == start) {
                Some(run) => *run = ByteRange::new(run.start(), end),
                None => have.push(ByteRange::new(start, end)),
            }
        }
    }
    have
}

#[cfg(test)]
#[path = "aria2_control_tests.rs"]
mod tests;
