use std::os::unix::fs::{lchown, symlink};

use super::super::{create_new, create_shared_dir};
use super::*;

const ANY: Expected<'static> = Expected::Anything;

fn tree(dir: &tempfile::TempDir) -> Tree {
    Tree::open(dir.path()).unwrap()
}

fn put(dir: &tempfile::TempDir, path: &str, text: &str) {
    let path = dir.path().join(path);
    create_shared_dir(path.parent().unwrap()).unwrap();
    create_new(&path, 0o644, text.as_bytes()).unwrap();
}

#[test]
fn links_lead_where_they_would_lead_on_that_system() {
    let dir = tempfile::tempdir().unwrap();
    create_shared_dir(&dir.path().join("data/docker")).unwrap();
    create_shared_dir(&dir.path().join("etc")).unwrap();
    symlink("/data/docker", dir.path().join("etc/docker")).unwrap();
    symlink("../../../../outside", dir.path().join("etc/up")).unwrap();
    symlink("loop", dir.path().join("etc/loop")).unwrap();
    let tree = tree(&dir);
    let place = |path: &str| tree.resolve(Path::new(path)).unwrap();
    assert_eq!(place("/etc/docker/daemon.json"), Path::new("/data/docker/daemon.json"));
    assert_eq!(place("/etc/up/x"), Path::new("/outside/x"));
    assert_eq!(place("/../../x"), Path::new("/x"));
    assert_eq!(place("/etc/docker/.."), Path::new("/data"));
    assert_eq!(place("/etc/new/dir/x"), Path::new("/etc/new/dir/x"));
    assert!(tree.resolve(Path::new("/etc/loop")).is_err());
    assert_eq!(
        tree.missing_dirs(Path::new("/etc/docker/certs.d/h/x")).unwrap(),
        [Path::new("/data/docker/certs.d"), Path::new("/data/docker/certs.d/h")]
    );
}

#[test]
fn a_file_where_a_directory_should_be_is_named() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "etc/docker", "");
    let said = tree(&dir).read(Path::new("/etc/docker/daemon.json"), 9).unwrap_err().to_string();
    assert!(said.ends_with("/etc/docker is not a directory"), "{said}");
    assert!(tree(&dir).missing_dirs(Path::new("/etc/docker/daemon.json")).is_err());
    assert!(tree(&dir).read(Path::new("/etc"), 9).unwrap_err().to_string().contains("not a file"));
    assert!(Tree::open(&dir.path().join("etc/docker")).is_err());
}

#[test]
fn what_is_there_stays_what_it_is_and_nothing_lies_beside() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "a.new", "theirs");
    put(&dir, "a", "one");
    let tree = tree(&dir);
    tree.write(Path::new("/a"), 0o600, ANY, b"two").unwrap();
    assert_eq!(tree.read(Path::new("/a.new"), 9).unwrap().unwrap().bytes, b"theirs");
    let read = tree.read(Path::new("/a"), 9).unwrap().unwrap();
    assert_eq!((&*read.bytes, read.mode), (&b"two"[..], 0o644));
    tree.write(Path::new("/b"), 0o640, ANY, b"x").unwrap();
    assert_eq!(tree.read(Path::new("/b"), 9).unwrap().unwrap().mode, 0o640);
    create_shared_dir(&dir.path().join("c")).unwrap();
    tree.write(Path::new("/c"), 0o640, ANY, b"x").unwrap_err();
    tree.write(Path::new("/d/e"), 0o640, ANY, b"x").unwrap_err();
    assert_eq!(tree.list(Path::new("/")).unwrap().len(), 4, "{:?}", tree.list(Path::new("/")));
    assert!(tree.read(Path::new("/a"), 2).unwrap_err().to_string().contains("more than 2 bytes"));
}

#[test]
fn what_changed_since_it_was_read_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "a", "one");
    let (tree, path) = (tree(&dir), Path::new("/a"));
    let read = tree.read(path, 9).unwrap();
    let expected = Expected::AsRead(read.as_ref());
    tree.write(path, 0o600, ANY, b"one").unwrap();
    let said = tree.write(path, 0o600, expected, b"two").unwrap_err().to_string();
    assert!(said.contains("do this again"), "another file with the same bytes: {said}");
    let read = tree.read(path, 9).unwrap();
    let expected = Expected::AsRead(read.as_ref());
    super::super::write_at(&super::super::open_for_append(&dir.path().join("a")).unwrap(), path, b"0", 0).unwrap();
    tree.write(path, 0o600, expected, b"two").unwrap_err();
    tree.remove(path, expected).unwrap_err();
    tree.write(path, 0o600, Expected::AsRead(None), b"two").unwrap_err();
    assert_eq!(tree.list(Path::new("/")).unwrap(), [path], "nothing is left beside it");
    let read = tree.read(path, 9).unwrap();
    tree.write(path, 0o600, Expected::AsRead(read.as_ref()), b"two").unwrap();
    tree.write(Path::new("/b"), 0o600, Expected::AsRead(None), b"x").unwrap();
}

/// A user who owns a directory leads no process to what is not theirs, and keeps what is.
#[test]
fn nobody_leads_root_astray() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "etc/shadow", "secret");
    put(&dir, "home/runner/.env", "A=1\n");
    symlink("/etc/shadow", dir.path().join("home/runner/shadow")).unwrap();
    symlink("../../etc", dir.path().join("home/runner/etc")).unwrap();
    symlink(".env", dir.path().join("home/runner/own")).unwrap();
    symlink("/home/runner/.env", dir.path().join("etc/env")).unwrap();
    for name in ["", "/.env", "/shadow", "/etc", "/own"] {
        if lchown(dir.path().join(format!("home/runner{name}")), Some(1234), Some(1234)).is_err() {
            return; // It takes root to tell.
        }
    }
    put(&dir, "home/runner/roots", "");
    let tree = tree(&dir);
    for path in ["/home/runner/shadow", "/home/runner/etc/shadow", "/home/runner/etc/new", "/home/runner/roots"] {
        let said = tree.write(Path::new(path), 0o644, ANY, b"x").unwrap_err().to_string();
        assert!(said.contains("belongs to user 1234"), "{path}: {said}");
        assert!(tree.read(Path::new(path), 9).is_err());
    }
    for path in ["/home/runner/.env", "/home/runner/new", "/etc/env"] {
        tree.write(Path::new(path), 0o644, ANY, b"x").unwrap();
    }
    tree.make_dir(Path::new("/home/runner/dir"), 0o755).unwrap();
    for name in [".env", "new", "dir"] {
        let meta = dir.path().join("home/runner").join(name).metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 1234), "{name}");
    }
    assert_eq!(tree.read(Path::new("/etc/shadow"), 9).unwrap().unwrap().bytes, b"secret");
}

#[test]
fn a_lock_is_of_the_directory_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, path) = (tree(&dir), Path::new("/lock"));
    assert!(tree.lock(path).unwrap().is_none());
    tree.make_dir(path, 0o700).unwrap();
    let held = tree.lock(path).unwrap().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| tree.lock(path).unwrap().is_some());
        assert!(tree.remove_empty_dir(path).unwrap());
        drop(held);
        assert!(!waiting.join().unwrap(), "it is gone");
    });
}
