//! Buffers that go round: taken, filled from a file, sent, and back. Zeroed once in their life.

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes of one read. 128 KiB measured the same CPU per byte over TLS, and costs twice the memory
/// per transfer.
pub const CHUNK: usize = 64 << 10;

/// Buffers that are kept: 4 MiB.
const KEPT: usize = 64;

/// A buffer for so few bytes does not go round.
const SMALL: usize = CHUNK / 2;
/// So few begin anywhere: they are copied at any speed.
const TINY: usize = 2 << 10;

const PAGE: usize = 4096;

/// What a buffer is for says where in a page its bytes begin.
///
/// `rep movsb`, which is glibc's memcpy for more than 2 KiB, copies at a twentieth of its speed on
/// AMD's Zen 3 and 4 when the destination begins up to 63 bytes after the source, counted within
/// their pages. A TLS record with its header of five bytes does, after a buffer that begins with
/// its page; and so do frames with headers of nine, gathered in a buffer like the one they come
/// from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alignment {
    /// Read from a file.
    Read = PAGE as isize / 2,
    /// Gathered of what was read.
    Gathered = PAGE as isize / 4,
}

static FREE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A buffer of [`CHUNK`] bytes, on its way round.
#[derive(Debug)]
pub struct Chunk {
    bytes: Box<[u8]>,
    place: Alignment,
    len: usize,
}

/// How far into a buffer at this address its bytes begin.
fn skew(address: usize, place: Alignment) -> usize {
    (PAGE + place as usize - address % PAGE) % PAGE
}

impl Chunk {
    /// One that is free, or a new one.
    pub fn take(place: Alignment) -> Chunk {
        let free = FREE.lock().pop();
        Chunk { place, bytes: free.unwrap_or_else(|| vec![0; CHUNK + PAGE].into_boxed_slice()), len: 0 }
    }

    /// One that is free, or a new one that is no larger than `most` bytes need: what waits for a
    /// slow client keeps its buffer, and of a blob on its way, or of a part, there may be little at a
    /// time.
    pub fn take_for(most: u64, place: Alignment) -> Chunk {
        let size = match usize::try_from(most) {
            Ok(most) if most <= TINY => most,
            Ok(most) if most <= SMALL => most + PAGE,
            _ => return Chunk::take(place),
        };
        Chunk { place, bytes: vec![0; size].into_boxed_slice(), len: 0 }
    }

    /// Room for at most `most` bytes.
    pub fn room(&mut self, most: u64) -> &mut [u8] {
        let from = self.from();
        let most = usize::try_from(most).unwrap_or(CHUNK).min(self.capacity());
        &mut self.bytes[from..from + most]
    }

    /// Room behind the first `len` bytes.
    pub fn room_after(&mut self, len: usize) -> &mut [u8] {
        let from = self.from();
        let end = from + self.capacity();
        &mut self.bytes[from + len..end]
    }

    /// The first `len` bytes.
    pub fn upto(&self, len: usize) -> &[u8] {
        &self.bytes[self.from()..][..len]
    }

    /// The first `len` bytes, to be sent. The buffer comes back when they are dropped.
    pub fn filled(mut self, len: usize) -> Bytes {
        self.len = len;
        Bytes::from_owner(self)
    }

    fn is_tiny(&self) -> bool {
        self.bytes.len() <= TINY
    }

    fn capacity(&self) -> usize {
        self.bytes.len() - if self.is_tiny() { 0 } else { PAGE }
    }

    fn from(&self) -> usize {
        if self.is_tiny() { 0 } else { skew(self.bytes.as_ptr().addr(), self.place) }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.upto(self.len)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut free = FREE.lock();
        if free.len() < KEPT && bytes.len() == CHUNK + PAGE {
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_was_read_whoever_had_the_buffer_before() {
        for text in [b"first".as_slice(), b"2nd"] {
            let mut chunk = Chunk::take(Alignment::Read);
            chunk.room(100)[..text.len()].copy_from_slice(text);
            assert_eq!(chunk.filled(text.len()), text);
        }
        assert_eq!(Chunk::take(Alignment::Read).room(u64::MAX).len(), CHUNK);
    }

    #[test]
    fn few_bytes_take_no_large_buffer_and_many_never_more_than_one() {
        let size = |most: u64| Chunk::take_for(most, Alignment::Read).bytes.len();
        assert_eq!(size(1), 1);
        assert_eq!(size(TINY as u64), TINY);
        assert_eq!(size(TINY as u64 + 1), TINY + 1 + PAGE);
        assert_eq!(size(SMALL as u64), SMALL + PAGE);
        assert_eq!(size(SMALL as u64 + 1), CHUNK + PAGE);
        assert_eq!(size(u64::MAX), CHUNK + PAGE);
        let mut chunk = Chunk::take_for(3, Alignment::Read);
        assert_eq!(chunk.room(u64::MAX).len(), 3);
        chunk.room(3).copy_from_slice(b"abc");
        assert_eq!(chunk.filled(3), b"abc".as_slice());
        assert_eq!(Chunk::take(Alignment::Read).room(u64::MAX).len(), CHUNK, "a small buffer is not found again");
    }

    #[test]
    fn the_bytes_begin_at_their_place_in_a_page_wherever_the_buffer_is() {
        for place in [Alignment::Read, Alignment::Gathered] {
            for address in (0..3 * PAGE).step_by(8) {
                assert!(skew(address, place) < PAGE, "{address}");
                assert_eq!((address + skew(address, place)) % PAGE, place as usize, "{address}");
            }
            assert_eq!(Chunk::take(place).room(1).as_ptr().addr() % PAGE, place as usize);
        }
    }

    #[test]
    fn no_copy_from_one_place_to_another_nor_to_a_record_is_a_slow_one() {
        let slow = |from: usize, to: usize| (1..64).contains(&((PAGE + to - from) % PAGE));
        let (read, gathered) = (Alignment::Read as usize, Alignment::Gathered as usize);
        for headers in (9..=36).step_by(9) {
            assert!(!slow(read, gathered + headers));
        }
        // mimalloc's blocks of 20 KiB, and a record's header.
        for from in [read, gathered] {
            assert!(!slow(from, 5));
        }
    }
}
