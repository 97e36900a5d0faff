//! The index alone, in this process: what one word costs, and what of it reaches the disk.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use seawall::records::Journal;

use crate::{fill, row, title};

const WORDS: u64 = 50_000;

/// Each so often that the clock is no part of it.
fn each(count: u64, mut word: impl FnMut(u64)) -> u128 {
    let began = Instant::now();
    (0..count).for_each(&mut word);
    began.elapsed().as_nanos() / u128::from(count)
}

pub(crate) fn costs(sizes: &[u64]) {
    title("the index alone: ns each, blobs drawn evenly from all");
    for blobs in sizes {
        let ((index, presence), now) = (fill::empty(&Journal::off()), SystemTime::now());
        fill::insert(&index, &presence, *blobs, now);
        let drawn: Vec<_> = (0..WORDS).map(|n| fill::digest(n.wrapping_mul(7919) % blobs)).collect();
        let at = |n: u64| &drawn[n as usize % drawn.len()];
        let hit = each(WORDS, |n| drop(index.hold(at(n), now)));
        let touch = each(WORDS, |n| index.touch(at(n), now));
        let some = WORDS.min(blobs / 2);
        let evict = each(some, |_| {
            assert!(index.oldest(now).is_some_and(|oldest| index.take(&oldest, now).is_some()));
        });
        let figures = format!("hit and its end {hit}, use {touch}, evict the oldest {evict}");
        row(&format!("{blobs} blobs"), &figures);
    }
    written();
}

/// Bytes of all files in a directory.
fn size(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("a directory").flatten();
    files.filter_map(|file| file.metadata().ok()).filter(|file| file.is_file()).map(|file| file.len()).sum()
}

fn written() {
    title("the journal");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("index");
    let now = SystemTime::now();
    let mut before = 0;
    for (what, later) in [("insert", 0), ("use, the first of its minute", 120)] {
        let (journal, restored) = fill::open(&path, now);
        let (index, presence) = fill::empty(&journal);
        let digests: Vec<_> = (0..WORDS).map(fill::digest).collect();
        if later > 0 {
            presence.restore(digests.clone(), restored, |_| unreachable!("all are known"));
        }
        let began = Instant::now();
        match later {
            0 => fill::insert(&index, &presence, WORDS, now),
            _ => digests.iter().for_each(|digest| index.touch(digest, now + Duration::from_secs(later))),
        }
        let told = began.elapsed().as_nanos() / u128::from(WORDS);
        journal.close();
        let (all, after) = (began.elapsed(), size(dir.path()));
        let figures = format!(
            "{told} ns, {} bytes written each; {WORDS} on disk after {} ms",
            after.saturating_sub(before) / WORDS,
            all.as_millis()
        );
        row(what, &figures);
        before = after;
    }
}
