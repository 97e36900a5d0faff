//! Whether a blob is kept, and how much is evicted first.

/// The room there is, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The largest size of the cache.
    pub max_size: u64,
    /// What the file system keeps free for others.
    pub min_free: u64,
    /// The current size of the cache.
    pub used: u64,
    /// What fills in progress will add.
    pub reserved: u64,
    /// What is free on the file system.
    pub free: u64,
}

/// Whether a blob is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is, after this many bytes were evicted.
    Keep {
        /// How many bytes are evicted first.
        evict: u64,
    },
    /// It would not fit into an empty cache: it is passed through.
    Through,
}

/// A blob that wants to be kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Bytes of it; 0 if that is not known.
    pub size: u64,
    /// Bytes that have to be written yet.
    pub missing: u64,
}

impl Room {
    /// Bytes that have to be evicted before a blob is kept.
    pub fn shortfall(&self, wish: Wish) -> u64 {
        let all = self.used.saturating_add(self.reserved).saturating_add(wish.size);
        let over = all.saturating_sub(self.max_size);
        let short = self.min_free.saturating_add(wish.missing).saturating_sub(self.free);
        over.max(short)
    }

    /// Decides for a blob.
    pub fn admit(&self, wish: Wish) -> Admission {
        let evict = self.shortfall(wish);
        if wish.size > self.max_size || evict > self.used { Admission::Through } else { Admission::Keep { evict } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room() {
        let room = |used, free| Room { max_size: 100, min_free: 10, used, reserved: 0, free };
        let wish = |size| Wish { size, missing: size };
        assert_eq!(room(0, 1000).admit(wish(100)), Admission::Keep { evict: 0 });
        assert_eq!(room(0, 1000).admit(wish(101)), Admission::Through, "larger than the whole cache");
        assert_eq!(room(90, 1000).admit(wish(20)), Admission::Keep { evict: 10 });
        assert_eq!(room(50, 25).admit(wish(20)), Admission::Keep { evict: 5 }, "the file system is nearly full");
        assert_eq!(room(50, 25).admit(Wish { size: 20, missing: 5 }), Admission::Keep { evict: 0 }, "most is here");
        assert_eq!(
            room(4, 25).admit(wish(20)),
            Admission::Through,
            "others filled the disk: nothing here could make room"
        );
        assert_eq!(room(0, 10).admit(wish(0)), Admission::Keep { evict: 0 });
        let filling = Room { reserved: 60, ..room(30, 1000) };
        assert_eq!(filling.admit(wish(20)), Admission::Keep { evict: 10 }, "what is on its way has its room");
        assert_eq!(filling.admit(wish(50)), Admission::Through, "and cannot go");
    }
}
