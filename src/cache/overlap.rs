//! Whether upstream goes on with the very bytes that are here: the end of a partial file is fetched
//! once more, and compared. Who may not read the rest cannot be sent that, and no page has it by
//! chance.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use crate::error::{Error, Kind, Result};
use crate::store::BlobFile;
use crate::task;
use crate::upstream::Fetched;

/// Bytes that are fetched once more.
pub(super) const OVERLAP: u64 = 64 << 10;
/// Fewer than these, or of fewer different values, tell nothing: anybody could send zeros.
const FEWEST: usize = 4 << 10;
const FEWEST_VALUES: usize = 32;

/// The last bytes of a part of a partial file, if they can tell it from others.
pub(super) async fn end_of(file: BlobFile, part: Range<u64>) -> Option<Bytes> {
    let overlap = OVERLAP.min(part.end - part.start);
    let read = task::blocking(move || {
        let mut bytes = vec![0; usize::try_from(overlap).unwrap_or_default()];
        let n = file.read_at(&mut bytes, part.end - overlap)?;
        Ok::<_, std::io::Error>((n == bytes.len()).then_some(bytes))
    });
    let bytes = read.await.ok().flatten()?;
    is_telling(&bytes).then(|| bytes.into())
}

fn is_telling(bytes: &[u8]) -> bool {
    let mut seen = [false; 256];
    bytes.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    bytes.len() >= FEWEST && seen.iter().filter(|seen| **seen).count() >= FEWEST_VALUES
}

/// Whether a body begins with these bytes. Then it begins behind them.
///
/// # Errors
/// It broke off, or stopped coming.
pub(super) async fn begins_with(fetched: &mut Fetched, expected: &Bytes, idle: Duration) -> Result<bool> {
    let mut read = BytesMut::new();
    while read.len() < expected.len() {
        let frame = tokio::time::timeout(idle, fetched.body.frame()).await;
        let frame = frame.map_err(|_| Error::new(Kind::Timeout, "upstream stopped sending"))?;
        let Some(frame) = frame else { return Ok(false) };
        let frame = frame.map_err(|error| Error::caused(Kind::Broken, "upstream broke off", error))?;
        if let Ok(bytes) = frame.into_data() {
            read.extend_from_slice(&bytes);
        }
    }
    let rest = read.split_off(expected.len());
    fetched.start += expected.len() as u64;
    fetched.ahead = rest.freeze();
    Ok(read == *expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_anybody_could_send_tells_nothing() {
        let all: Vec<u8> = (0..FEWEST).map(|n| (n % 256) as u8).collect();
        assert!(is_telling(&all));
        assert!(!is_telling(&all[1..]), "too little");
        assert!(!is_telling(&vec![0; 64 << 10]));
        let few: Vec<u8> = (0..64 << 10).map(|n| (n % 31) as u8).collect();
        assert!(!is_telling(&few));
    }
}
