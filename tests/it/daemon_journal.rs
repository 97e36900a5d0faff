//! What the next start is told, when the disk took nothing for a while.

use crate::flight::until;
use crate::harness::*;

/// A full disk, from the start or later, costs what was learnt meanwhile only for as long as it is
/// full; what was known before stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_learnt_on_a_full_disk_is_there_after_a_restart() {
    // The first two have the same content: of the second one, which comes while the disk is full,
    // only facts are learnt.
    const NAMES: [(&str, &[u8]); 3] = [("before", b"content"), ("meanwhile", b"content"), ("after", b"another")];
    for at_its_start in [Room::Plenty, Room::None] {
        let pki = Pki::new();
        let registry = NAMES.iter().fold(Registry::new("ghcr.io"), |registry, (name, content)| {
            registry.image(&format!("acme/{name}:1"), Image::single(&[content]))
        });
        let registry = registry.start(&pki).await;
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let pull = async |client: Client, name: &str| {
            let pulled = client.pull(&format!("ghcr.io/acme/{name}:1"), Style::Containerd).await;
            pulled.unwrap_or_else(|e| panic!("{at_its_start:?}, {name}: {e}\n{}", registry.log()));
        };

        let seawall = Seawall::before(&registry).data(&data).start(&pki).await;
        pull(seawall.client(), NAMES[0].0).await;
        seawall.stop().await;

        let seawall = Process::on_disk(at_its_start, &data, &registry, &pki);
        seawall.room(Room::None);
        pull(seawall.client(), NAMES[1].0).await;
        until("the disk is felt", || seawall.said("the index cannot be written")).await;
        assert_eq!(seawall.said("the index cannot be opened"), matches!(at_its_start, Room::None));
        seawall.room(Room::Plenty);
        until("it is written again", || seawall.said("the index is written again")).await;
        // Who started without the index asks for permissions anew; who had it writes down nothing
        // again.
        for (name, _) in NAMES {
            pull(seawall.client(), name).await;
        }
        seawall.signal("TERM");
        assert!(seawall.ended().await.success());

        registry.down();
        let seawall = Seawall::before(&registry).data(&data).start(&pki).await;
        for (name, _) in NAMES {
            pull(seawall.client(), name).await;
        }
        let aside: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!aside.iter().any(|name| name.to_string_lossy().contains("corrupt")), "{aside:?}");
        seawall.stop().await;
    }
}
