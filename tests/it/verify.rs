//! What is on disk is hashed again: a blob that a disk has changed ends no client's pull for ever.

use std::path::PathBuf;

use serde_json::Value;

use crate::disk::registry_of;
use crate::flight::{MIB, files, landed, until, url};
use crate::harness::*;

/// One byte of its file is another.
fn damage(file: &PathBuf) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

async fn pull(seawall: &Seawall, blob: &Blob) -> bool {
    let reply = seawall.client().get(&url(blob)).send().await.unwrap();
    landed(seawall).await;
    reply.bytes().len() as u64 == blob.len() && blob.holds(0, reply.bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_rots_is_set_aside_and_fetched_again() {
    let (pki, blobs) = (Pki::new(), [0, 1, 2].map(|n| Blob::generated(70 + n, MIB / 2 + 3 * n)));
    let registry = registry_of(&pki, &blobs).await;
    let seawall = Seawall::before(&registry).toml("[cache]\nverify_every = \"1s\"").start(&pki).await;
    for blob in &blobs {
        assert!(pull(&seawall, blob).await);
    }
    let file = seawall.data.join("blobs/sha256").join(&blobs[1].digest()[7..]);
    damage(&file);
    until("it is found", || seawall.metric("seawall_rotten_total") == 1.0).await;
    assert!(!file.exists());
    assert_eq!(files(&seawall, "rotten"), [format!("sha256-{}", &blobs[1].digest()[7..])]);
    let gets = registry.gets("blobs");
    for blob in &blobs {
        assert!(pull(&seawall, blob).await);
    }
    assert_eq!(registry.gets("blobs"), gets + 1, "it alone is fetched again");
    // What is right stays, however often it is hashed.
    let hashed = seawall.metric("seawall_verified_bytes_total");
    until("all is hashed again, twice", || seawall.metric("seawall_verified_bytes_total") > hashed + 4.0 * MIB as f64)
        .await;
    assert_eq!(seawall.metric("seawall_rotten_total"), 1.0);
    assert_eq!(files(&seawall, "blobs/sha256").len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_is_verified_by_a_command() {
    let (pki, blobs) = (Pki::new(), [Blob::generated(80, 3 * MIB), Blob::generated(81, 1000)]);
    let registry = registry_of(&pki, &blobs).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for blob in &blobs {
        assert!(pull(&seawall, blob).await);
    }
    let data = seawall.data.clone();
    let command = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_seawall"));
        command
            .args(["cache", "verify"])
            .args(arguments)
            .env("SEAWALL_DATA", &data)
            .current_dir(&data)
            .output()
            .unwrap()
    };
    let runs = command(&[]);
    let said = String::from_utf8_lossy(&runs.stderr).into_owned();
    assert_eq!(runs.status.code(), Some(1), "{said}");
    assert!(said.contains("a seawall that runs there is asked by its admin listener"), "{said}");

    let (_dir, data) = seawall.stop().await;
    let sound = command(&[]);
    assert!(sound.status.success() && sound.stdout == b"2 of 2 blobs are right (3.0 MiB)\n", "{sound:?}");
    damage(&data.join("blobs/sha256").join(&blobs[0].digest()[7..]));
    let healed = command(&["--json"]);
    assert!(healed.status.success(), "{healed:?}");
    let report: Value = serde_json::from_slice(&healed.stdout).unwrap();
    assert_eq!((&report["blobs"], &report["healed"][0]["digest"]), (&2.into(), &blobs[0].digest().to_string().into()));
    assert!(data.join("rotten").join(format!("sha256-{}", &blobs[0].digest()[7..])).exists());
    assert!(command(&[]).stdout.starts_with(b"1 of 1 blobs are right"));
}

#[test]
fn where_no_cache_is_the_command_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_seawall"));
    let output = command.args(["cache", "verify"]).env("SEAWALL_DATA", dir.path()).current_dir(&dir).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("holds no cache"), "{output:?}");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
}
