use super::super::rows::{BlobRow, Held, Row};
use super::*;

fn frame(n: u8) -> Vec<u8> {
    let known = BlobRow {
        size: u64::from(n),
        used: 1,
        media_type: None,
        repositories: vec![Held { place: 0, since: 1, last: 1, open: None, shared: Some(-1), ended: None }],
    };
    Batch { strings: vec!["docker.io/a/b"], rows: vec![Row { digest: &[n; 32], known: Some(known) }] }
        .encoded()
        .sealed()
}

fn path(dir: &Path) -> PathBuf {
    dir.join("entries")
}

fn open(dir: &Path) -> Log {
    Log::find(&path(dir)).unwrap().unwrap().read(|_| ()).unwrap()
}

/// What is read: the first bytes of the digests.
fn read(dir: &Path) -> Result<Vec<u8>, LogError> {
    let mut read = Vec::new();
    if let Some(found) = Log::find(&path(dir))? {
        found.read(|frame| read.extend(frame.rows.iter().map(|word| word.digest[0])))?;
    }
    Ok(read)
}

fn put(dir: &Path, bytes: &[u8]) {
    fs::remove(&path(dir)).unwrap();
    fs::create_new(&path(dir), 0o600, bytes).unwrap();
}

#[test]
fn what_is_added_is_read_after_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    assert!(read(dir.path()).unwrap().is_empty());
    let mut log = Log::compact(&path(dir.path()), [frame(1), frame(2)].into_iter()).unwrap();
    log.add(&frame(3)).unwrap();
    let mut log = open(dir.path());
    log.add(&frame(4)).unwrap();
    assert_eq!(read(dir.path()).unwrap(), [1, 2, 3, 4]);
}

/// A kill at any byte of the last frame, whether the file is short or the rest of it is zeros.
#[test]
fn a_torn_end_is_cut_off_and_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let whole = [MAGIC.to_vec(), frame(1), frame(2)].concat();
    let first = MAGIC.len() + frame(1).len();
    for cut in first..whole.len() {
        for zeros in [0, whole.len() - cut] {
            put(dir.path(), &[&whole[..cut], &vec![0; zeros][..]].concat());
            if zeros > 0 && whole[cut..].iter().all(|byte| *byte == 0) {
                continue;
            }
            assert_eq!(read(dir.path()).unwrap(), [1], "{cut} {zeros}");
            let mut log = open(dir.path());
            log.add(&frame(3)).unwrap();
            assert_eq!(read(dir.path()).unwrap(), [1, 3], "{cut} {zeros}");
        }
    }
}

/// A later row is unknown: perhaps a repository has a blob no more.
#[test]
fn a_wrong_byte_before_the_end_makes_all_of_it_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let whole = [MAGIC.to_vec(), frame(1), frame(2), frame(3)].concat();
    let last = whole.len() - frame(3).len();
    for at in 0..last {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        put(dir.path(), &bytes);
        assert!(matches!(read(dir.path()), Err(LogError::Broken(_))), "{at}");
    }
}

#[test]
fn it_is_long_when_as_much_was_added_as_it_need_have() {
    let dir = tempfile::tempdir().unwrap();
    let mib = || vec![0; 1 << 20].into_iter().collect::<Vec<u8>>();
    let mut log = Log::compact(&path(dir.path()), std::iter::repeat_with(mib).take(10)).unwrap();
    let mut added = 0;
    while !log.is_long() {
        log.add(&mib()).unwrap();
        added += 1;
    }
    assert_eq!(added, 11);
    log.put_off();
    assert!(!log.is_long());
    (log.rows, log.end) = (100, 100 << 20);
    log.holds(20);
    assert_eq!((log.long >> 20, log.is_long()), (40, true), "most of what was read is old news");
}

/// Of the file that could not take its place nothing stays, whether its writer failed or was
/// killed.
#[test]
fn what_could_not_be_written_anew_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(&path(dir.path()).join("below")).unwrap();
    Log::compact(&path(dir.path()), [frame(1)].into_iter()).unwrap_err();
    assert!(!fs::exists(&beside(&path(dir.path()))));
    fs::create_new(&beside(&path(dir.path())), 0o600, b"half").unwrap();
    assert!(matches!(Log::find(&path(dir.path())), Err(LogError::Fs(_))), "what cannot be opened is not nothing");
    assert!(!fs::exists(&beside(&path(dir.path()))));
}

/// Nothing is taken for what it says before it is seen to be one.
#[test]
fn a_long_file_of_something_else_costs_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), b"");
    let file = fs::open_for_append(&path(dir.path())).unwrap();
    fs::truncate(&file, &path(dir.path()), 1 << 40).unwrap();
    assert!(matches!(Log::find(&path(dir.path())), Err(LogError::Broken(_))));
    fs::write_at(&file, &path(dir.path()), MAGIC, 0).unwrap();
    let found = Log::find(&path(dir.path())).unwrap().unwrap();
    assert_eq!(found.guess() as u64, GUESSED);
    fs::write_at(&file, &path(dir.path()), b"x", 16 << 20).unwrap();
    assert!(matches!(found.read(|_| ()), Err(LogError::Broken(_))));
}
