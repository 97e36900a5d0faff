//! Is there room for a blob, and how much has to go first?

/// The room there is, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The cache may be this large.
    pub max_size: u64,
    /// The file system keeps this much for others.
    pub min_free: u64,
    /// The cache is this large.
    pub used: u64,
    /// And this much is on its way.
    pub coming: u64,
    /// The file system has this much left.
    pub free: u64,
}

/// Whether a blob is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is, once this many bytes have gone.
    Keep {
        /// Bytes.
        evict: u64,
    },
    /// It could not be kept however much went: it is passed through.
    Through,
}

impl Room {
    /// Bytes that have to go before `size` more are kept.
    pub fn shortfall(&self, size: u64) -> u64 {
        let over = self.used.saturating_add(self.coming).saturating_add(size).saturating_sub(self.max_size);
        let short = self.min_free.saturating_add(size).saturating_sub(self.free);
        over.max(short)
    }

    /// Decides for a blob of `size` bytes; 0 if it is not known.
    pub fn admit(&self, size: u64) -> Admission {
        let evict = self.shortfall(size);
        if size > self.max_size || evict > self.used { Admission::Through } else { Admission::Keep { evict } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room() {
        let room = |used, free| Room { max_size: 100, min_free: 10, used, coming: 0, free };
        assert_eq!(room(0, 1000).admit(100), Admission::Keep { evict: 0 });
        assert_eq!(room(0, 1000).admit(101), Admission::Through, "larger than the whole cache");
        assert_eq!(room(90, 1000).admit(20), Admission::Keep { evict: 10 });
        assert_eq!(room(50, 25).admit(20), Admission::Keep { evict: 5 }, "the file system is nearly full");
        assert_eq!(room(4, 25).admit(20), Admission::Through, "others filled the disk: nothing here could make room");
        assert_eq!(room(0, 10).admit(0), Admission::Keep { evict: 0 });
        let busy = Room { coming: 60, ..room(40, 1000) };
        assert_eq!(busy.admit(20), Admission::Keep { evict: 20 }, "what is on its way takes room too");
    }
}
