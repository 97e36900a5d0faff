//! What is on disk: room and what is done without it, what a restart finds, what others did to the
//! files meanwhile.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::flight::{MIB, files, h1_and_h2, landed, open_registry, until, url};
use crate::harness::*;

pub(crate) async fn registry_of(pki: &Pki, blobs: &[Blob]) -> Registry {
    let registry = Registry::new("ghcr.io");
    blobs.iter().fold(registry, |registry, blob| registry.blob("acme/app", blob.clone())).start(pki).await
}

async fn pull(seawall: &Seawall, blob: &Blob) -> String {
    let reply = seawall.client().get(&url(blob)).send().await.unwrap();
    assert!(reply.bytes().len() as u64 == blob.len() && blob.holds(0, reply.bytes()));
    landed(seawall).await;
    reply.header("cache-status").to_owned()
}

fn path(seawall: &Seawall, blob: &Blob) -> PathBuf {
    seawall.data.join("blobs/sha256").join(&blob.digest()[7..])
}

const HIT: &str = "seawall; hit";
const STORED: &str = "seawall; fwd=miss; stored";
const BYPASS: &str = "seawall; fwd=bypass";

/// Pitfall 36: the least recently used goes, file and entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_recently_used_goes_when_the_cache_is_full() {
    let (pki, blobs) = (Pki::new(), [0, 1, 2, 3].map(|n| Blob::generated(40 + n, MIB)));
    let registry = registry_of(&pki, &blobs).await;
    let seawall = Seawall::before(&registry).toml("[cache]\nmax_size = \"3100KiB\"").start(&pki).await;
    for blob in &blobs[..3] {
        assert_eq!(pull(&seawall, blob).await, STORED);
    }
    assert_eq!(pull(&seawall, &blobs[0]).await, HIT);
    assert_eq!(pull(&seawall, &blobs[3]).await, STORED);
    assert_eq!(blobs.each_ref().map(|blob| path(&seawall, blob).exists()), [true, false, true, true]);
    assert_eq!((seawall.metric("seawall_cache_bytes"), seawall.metric("seawall_evictions_total")), (3145728.0, 1.0));
    // The order survives a restart, and so does the limit.
    seawall.clock.advance(Duration::from_secs(120));
    assert_eq!(pull(&seawall, &blobs[2]).await, HIT);
    let seawall = seawall.restart(&pki).await;
    assert_eq!(pull(&seawall, &blobs[1]).await, STORED);
    assert!(path(&seawall, &blobs[2]).exists(), "used last before the restart");
    assert_eq!(files(&seawall, "blobs/sha256").len(), 3);
}

/// Invariant 6, pitfall 37: what is being read stays; where nothing else could go, the next blob is
/// passed through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_6_what_is_being_read_is_not_evicted() {
    let (pki, blobs) = (Pki::new(), [Blob::generated(44, 24 * MIB), Blob::generated(45, 8 * MIB)]);
    let registry = registry_of(&pki, &blobs).await;
    let seawall = Seawall::before(&registry).toml("[cache]\nmax_size = \"30800KiB\"").start(&pki).await;
    let [read, other] = &blobs;
    pull(&seawall, read).await;
    for client in h1_and_h2(&seawall) {
        let mut reader = client.get(&url(read)).open().await.unwrap();
        let start = reader.read_exactly(1000).await.unwrap();
        assert_eq!(pull(&seawall, other).await, BYPASS);
        assert!(path(&seawall, read).exists() && !path(&seawall, other).exists());
        let rest = reader.rest().await.unwrap();
        assert!(read.holds(0, &start) && read.holds(1000, &rest) && rest.len() as u64 == read.len() - 1000);
    }
    let free = async || pull(&seawall, other).await == STORED;
    while !free().await {}
    assert!(!path(&seawall, read).exists() && path(&seawall, other).exists());
}

/// Invariant 6, pitfall 36: what is on its way has its room; all of it together stays below the
/// limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_6_what_is_on_its_way_has_its_room() {
    let (pki, blobs) = (Pki::new(), [2, 1, 1].map(|mib| Blob::generated(46 + mib, mib * MIB)));
    let last = Blob::generated(49, MIB);
    let registry = registry_of(&pki, &[&blobs[..], std::slice::from_ref(&last)].concat()).await;
    let seawall = Seawall::before(&registry).toml("[cache]\nmax_size = \"3100KiB\"").start(&pki).await;
    let gate = registry.gate_blob(&blobs[0].digest(), MIB);
    let mut filling = seawall.client().get(&url(&blobs[0])).open().await.unwrap();
    filling.read_exactly(1 << 20).await.unwrap();
    let others = async |blob: &Blob| {
        let reply = seawall.client().get(&url(blob)).send().await.unwrap();
        assert!(blob.holds(0, reply.bytes()));
        until("it is at its place", || path(&seawall, blob).exists()).await;
        until("one fill runs", || seawall.metric("seawall_fills") == 1.0).await;
    };
    others(&blobs[1]).await;
    others(&last).await;
    assert!(!path(&seawall, &blobs[1]).exists(), "2 MiB are on their way, 1 MiB is here: it made room");
    gate.open();
    filling.rest().await.unwrap();
    landed(&seawall).await;
    assert!(path(&seawall, &blobs[0]).exists() && path(&seawall, &last).exists());
    assert!(seawall.metric("seawall_cache_bytes") <= 3145728.0, "{}", seawall.metric("seawall_cache_bytes"));
}

/// However all of it is asked for, the end is held back until the digest is right: what is not kept
/// has no other chance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_5_all_of_a_blob_is_verified_however_it_is_asked_for() {
    let (pki, blob) = (Pki::new(), Blob::generated(52, 3 * MIB));
    let registry = registry_of(&pki, std::slice::from_ref(&blob)).await;
    let seawall = Seawall::before(&registry).toml("[cache]\nmax_size = \"1MiB\"").start(&pki).await;
    let whole = ["bytes=0-".to_owned(), format!("bytes=0-{}", blob.len() - 1), format!("bytes=-{}", blob.len() + 5)];
    for client in h1_and_h2(&seawall) {
        for range in &whole {
            let ask = async || client.get(&url(&blob)).range(range).send().await;
            let right = ask().await.unwrap();
            assert_eq!((right.status.as_u16(), right.bytes().len() as u64), (206, blob.len()), "{range}");
            assert_eq!(right.header("content-range"), format!("bytes 0-{}/{}", blob.len() - 1, blob.len()));
            registry.fault(Fault::on("bytes").corrupt(17));
            assert!(ask().await.unwrap().body.is_err(), "{range}");
            registry.clear_faults();
        }
    }
}

/// Pitfalls 22 and 36: too large for the cache, of a known or unknown length: streamed, verified,
/// not kept, others stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_larger_than_the_cache_streams_through_verified() {
    let (pki, blobs) = (Pki::new(), [Blob::generated(50, 8 * MIB), Blob::generated(51, MIB)]);
    let registry = registry_of(&pki, &blobs).await;
    let seawall = Seawall::before(&registry).toml("[cache]\nmax_size = \"2MiB\"").start(&pki).await;
    let [large, small] = &blobs;
    pull(&seawall, small).await;
    for fault in [None, Some(Fault::on("bytes").chunked()), Some(Fault::on("bytes").no_range())] {
        let unknown = fault.is_some();
        let as_it_is = || fault.iter().for_each(|fault| registry.fault(fault.clone()));
        as_it_is();
        for client in h1_and_h2(&seawall) {
            let reply = client.get(&url(large)).send().await.unwrap();
            assert!(reply.bytes().len() as u64 == large.len() && large.holds(0, reply.bytes()));
            assert!(unknown || reply.header("cache-status") == BYPASS);
            let part = client.get(&url(large)).range("bytes=5000000-5000099").send().await.unwrap();
            assert!(unknown || (part.status == 206 && large.holds(5_000_000, part.bytes())));
            registry.fault(Fault::on("bytes").corrupt(7));
            let wrong = client.get(&url(large)).send().await.unwrap();
            assert!(wrong.body.is_err(), "unknown length {unknown}");
            registry.clear_faults();
            as_it_is();
        }
        landed(&seawall).await;
        assert!(!path(&seawall, large).exists(), "unknown length {unknown}");
        // Of a length that nobody says it shows late that it is too large.
        assert!(unknown || path(&seawall, small).exists());
        assert!(files(&seawall, "partial").is_empty(), "unknown length {unknown}");
    }
    pull(&seawall, small).await;
    assert_eq!(pull(&seawall, small).await, HIT);
    assert!(seawall.metric("seawall_uncached_total") > 0.0);
}

/// Pitfall 22: others filled the disk. Everything is passed through, manifests too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_breaks_no_pull() {
    let (pki, image) = (Pki::new(), Image::two_platforms());
    let registry =
        Registry::new("ghcr.io").image("acme/app:1", image.clone()).token_auth().quota(100).start(&pki).await;
    // Something of it is always taken.
    let all_but_a_page = seawall::fs::size_of_file_system(&std::env::temp_dir()).unwrap() - 4096;
    let toml = format!("[cache]\nmin_free = \"{all_but_a_page}B\"");
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    for style in Style::ALL {
        let pulled = seawall.client().pull("ghcr.io/acme/app:1", style).await.unwrap();
        assert_eq!(pulled.digest, image.digest());
        assert_eq!(registry.remaining(ANONYMOUS_SOURCE), Some(98), "manifests are kept in memory\n{}", registry.log());
    }
    landed(&seawall).await;
    assert_eq!(registry.gets("blobs"), 9, "config and layers, each time once\n{}", registry.log());
    assert!(files(&seawall, "blobs/sha256").is_empty() && files(&seawall, "partial").is_empty());
    assert!(seawall.metric("seawall_uncached_total") > 0.0);
}

/// The partial file cannot be opened (it is a directory), or its first byte cannot be written
/// (`/dev/full`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partial_that_cannot_be_written_breaks_no_pull() {
    let (pki, image) = (Pki::new(), Image::multi_layer());
    for chunked in [false, true] {
        let registry = Registry::new("ghcr.io").image("acme/app:1", image.clone()).start(&pki).await;
        if chunked {
            registry.fault(Fault::on("*").method(http::Method::GET).chunked());
        }
        let seawall = Seawall::before(&registry).start(&pki).await;
        let all = image.blobs().into_iter().map(|blob| blob.digest()).chain([image.digest()]);
        for (n, digest) in all.enumerate() {
            let partial = seawall.data.join("partial").join(digest.replace(':', "-"));
            if n % 2 == 0 {
                std::os::unix::fs::symlink("/dev/full", partial).unwrap();
            } else {
                std::fs::create_dir(partial).unwrap();
            }
        }
        let pulled = seawall.client().h2().pull("ghcr.io/acme/app:1", Style::Docker).await;
        assert_eq!(
            pulled.unwrap_or_else(|e| panic!("chunked {chunked}: {e}\n{}", registry.log())).digest,
            image.digest()
        );
    }
}

/// A seawall in a process of its own, whose files may not grow beyond a limit: the disk is full in
/// the middle of a blob.
struct Limited {
    child: Child,
    address: std::net::SocketAddr,
    ca_pem: String,
    dir: tempfile::TempDir,
}

impl Limited {
    fn start(registry: &Registry, pki: &Pki, kib: u64) -> Limited {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("upstream.pem"), pki.ca_pem()).unwrap();
        let hosts: Vec<String> = registry.hosts().iter().map(|(host, at)| format!("{host:?} = \"{at}\"")).collect();
        let text = format!(
            "listen = [\"127.0.0.1:0\"]\nadmin = \"\"\ndata = {:?}\n[log]\nformat = \"json\"\n[upstream]\nca_file = {:?}\nhosts = {{ {} }}\n",
            dir.path().join("data"),
            dir.path().join("upstream.pem"),
            hosts.join(", ")
        );
        std::fs::write(dir.path().join("seawall.toml"), text).unwrap();
        let limit = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
        let mut child = Command::new("bash")
            .args(["-c", &limit, env!("CARGO_BIN_EXE_seawall"), "serve", "--config"])
            .arg(dir.path().join("seawall.toml"))
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it did not start: {said}")).unwrap();
            let address = line.split_once("\"address\":\"").and_then(|(_, rest)| rest.split('"').next()?.parse().ok());
            if let Some(address) = address {
                break address;
            }
            said += &line;
        };
        std::thread::spawn(move || lines.for_each(drop));
        let ca_pem = std::fs::read_to_string(dir.path().join("data/ca/ca.crt")).unwrap();
        Limited { child, address, ca_pem, dir }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pitfall 22: the disk is full in the middle of a blob. Each client gets the rest from upstream,
/// and it is verified.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_in_the_middle_of_a_blob_breaks_no_download() {
    let (pki, blobs) = (Pki::new(), [Blob::generated(53, 8 * MIB), Blob::generated(54, MIB)]);
    let registry = registry_of(&pki, &blobs).await;
    registry.fault(Fault::on("bytes").chunked());
    let seawall = Limited::start(&registry, &pki, 4096);
    let client = Client::via_connect(seawall.address, &seawall.ca_pem);
    let [large, small] = &blobs;
    for client in [client.clone(), client.clone().h2()] {
        let gate = registry.gate_blob(&large.digest(), 3 * MIB);
        let mut opened = Vec::new();
        for _ in 0..2 {
            let mut open = client.get(&url(large)).open().await.unwrap();
            open.read_exactly(100_000).await.unwrap();
            opened.push(open);
        }
        gate.open();
        for mut open in opened {
            let rest = open.rest().await.unwrap_or_else(|e| panic!("{e}\n{}", registry.log()));
            assert!(large.holds(100_000, &rest) && rest.len() as u64 == large.len() - 100_000);
        }
        registry.clear_faults();
        registry.fault(Fault::on("bytes").chunked());
    }
    assert_eq!(registry.gets("blobs"), 6, "a fill, and two that went on, twice\n{}", registry.log());
    let kept = |dir: &str| std::fs::read_dir(seawall.dir.path().join("data").join(dir)).unwrap().count();
    assert_eq!((kept("blobs/sha256"), kept("partial")), (0, 0), "what could not be kept takes no room");
    for _ in 0..2 {
        assert!(small.holds(0, client.get(&url(small)).send().await.unwrap().bytes()));
    }
    assert_eq!(registry.gets("blobs"), 7, "what fits is cached");
}

/// An ordinary restart: nothing is fetched, nothing is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_warm_and_media_types_survive_it() {
    for image in [Image::two_platforms(), Image::two_platforms().docker()] {
        let pki = Pki::new();
        let registry = Registry::new("ghcr.io").image("acme/app:1", image.clone()).token_auth().start(&pki).await;
        let bare = br#"{"schemaVersion":2,"manifests":[]}"#;
        let bare_digest = registry.add_manifest("acme/app", "bare", image.media_type(), bare.as_slice());
        let seawall = Seawall::before(&registry).start(&pki).await;
        seawall.client().pull("ghcr.io/acme/app:1", Style::Containerd).await.unwrap();
        let by_tag = "https://ghcr.io/v2/acme/app/manifests/bare";
        seawall.client().get(by_tag).header("accept", image.media_type()).send().await.unwrap();
        landed(&seawall).await;
        let seawall = seawall.restart(&pki).await;
        registry.reset_counts();
        for (digest, bytes) in [(image.digest(), image.manifest()), (bare_digest, bare.as_slice().into())] {
            let by_digest = format!("https://ghcr.io/v2/acme/app/manifests/{digest}");
            for _ in 0..2 {
                let head = seawall.client().head(&by_digest).send().await.unwrap();
                let get = seawall.client().get(&by_digest).send().await.unwrap();
                assert_eq!((get.bytes(), get.header("content-type")), (&bytes, image.media_type()));
                assert_eq!(head.header("content-type"), image.media_type());
                assert_eq!(head.header("content-length"), bytes.len().to_string());
            }
        }
        seawall.client().pull("ghcr.io/acme/app:1", Style::Containerd).await.unwrap();
        assert_eq!(registry.requests().len(), 0, "{}", registry.log());
    }
}

/// Pitfalls 30 and 31: upstream is unreachable at the start, its last anonymous grant holds, though
/// it was longer ago than it is believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_restart_serves_what_is_public_while_upstream_is_down() {
    for style in Style::ALL {
        let (pki, image) = (Pki::new(), Image::two_platforms());
        let registry = Registry::new("ghcr.io").image("acme/app:1", image.clone()).token_auth().start(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        seawall.client().pull("ghcr.io/acme/app:1", style).await.unwrap();
        landed(&seawall).await;
        registry.down();
        seawall.clock.advance(Duration::from_secs(3600));
        let seawall = seawall.restart(&pki).await;
        let pulled =
            seawall.client().pull("ghcr.io/acme/app:1", style).await.unwrap_or_else(|e| panic!("{style:?}: {e}"));
        assert_eq!(pulled.digest, image.digest());
    }
}

/// Invariant 2: the index is gone, or is garbage. What there is is found again, and permission is
/// asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_2_a_lost_index_is_rebuilt_from_the_files_and_permissions_are_asked_again() {
    let (pki, blob) = (Pki::new(), Blob::generated(55, MIB));
    for garbage in [false, true] {
        let registry = open_registry(&pki, &blob).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        pull(&seawall, &blob).await;
        let (_dir, data) = seawall.stop().await;
        if garbage {
            for name in ["conf", "db"] {
                std::fs::write(data.join("index").join(name), vec![0xa5; 4096]).unwrap();
            }
        } else {
            std::fs::remove_dir_all(data.join("index")).unwrap();
        }
        registry.reset_counts();
        registry.down();
        let seawall = Seawall::before(&registry).data(&data).start(&pki).await;
        until("the file is found", || seawall.metric("seawall_cache_bytes") == 1048576.0).await;
        let denied = seawall.client().get(&url(&blob)).send().await.unwrap();
        assert_eq!(denied.status, 502, "nobody's yes is known, and nobody can be asked");
        registry.up();
        assert_eq!(pull(&seawall, &blob).await, REVALIDATED);
        assert_eq!((registry.heads("blobs"), registry.gets("blobs")), (1, 0), "{}", registry.log());
        if garbage {
            assert!(files(&seawall, "").iter().any(|name| name.starts_with("index.corrupt-")), "it is set aside");
        }
    }
}

/// Files that others removed, cut or changed are fetched again; a client never sees the difference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_others_touched_are_fetched_again() {
    let (pki, image) = (Pki::new(), Image::multi_layer());
    let registry = Registry::new("ghcr.io").image("acme/app:1", image.clone()).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    seawall.client().pull("ghcr.io/acme/app:1", Style::Containerd).await.unwrap();
    landed(&seawall).await;
    let mut seawall = seawall;
    for (what, touch) in [
        ("removed", (|path| std::fs::remove_file(path).unwrap()) as fn(PathBuf)),
        ("cut", |path| std::fs::write(path, b"short").unwrap()),
        ("longer", |path| std::fs::write(path, vec![1; 4 << 20]).unwrap()),
    ] {
        for restarted in [false, true] {
            files(&seawall, "blobs/sha256").iter().for_each(|name| touch(seawall.data.join("blobs/sha256").join(name)));
            if restarted {
                seawall = seawall.restart(&pki).await;
            }
            let pulled = seawall.client().pull("ghcr.io/acme/app:1", Style::Containerd).await;
            pulled.unwrap_or_else(|e| panic!("{what}, restarted {restarted}: {e}"));
            landed(&seawall).await;
        }
    }
    // A manifest of the right length and wrong bytes: it is small enough to look.
    let manifest = seawall.data.join("blobs/sha256").join(&image.digest()[7..]);
    std::fs::write(manifest, vec![b' '; image.manifest().len()]).unwrap();
    let seawall = seawall.restart(&pki).await;
    let by_digest = format!("https://ghcr.io/v2/acme/app/manifests/{}", image.digest());
    let reply = seawall.client().get(&by_digest).send().await.unwrap();
    assert_eq!(reply.bytes(), &image.manifest());
}

/// Pitfall 24: a partial that nobody went on with for a day goes; a younger one and a stranger's
/// file stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partials_that_nobody_wants_go() {
    let (pki, blob) = (Pki::new(), Blob::generated(57, MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let name = blob.digest().replace(':', "-");
    std::fs::write(seawall.data.join("partial").join(&name), b"start").unwrap();
    std::fs::write(seawall.data.join("partial/README"), b"x").unwrap();
    let seawall = seawall.restart(&pki).await;
    assert!(files(&seawall, "partial").contains(&name));
    seawall.clock.advance(Duration::from_secs(25 * 3600));
    let seawall = seawall.restart(&pki).await;
    until("it is gone", || files(&seawall, "partial") == ["README"]).await;
}

/// Pitfalls 24 and 36: what was begun and not gone on with has a quarter of the room. The oldest goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partials_count_as_the_cache_does() {
    let (pki, blobs) = (Pki::new(), [0, 1, 2].map(|n| Blob::generated(58 + n, MIB)));
    let registry = registry_of(&pki, &blobs).await;
    let seawall = Seawall::before(&registry).toml("[cache]\nmax_size = \"4MiB\"").start(&pki).await;
    pull(&seawall, &blobs[0]).await;
    for (blob, age) in [(&blobs[1], 7200), (&blobs[2], 60)] {
        let file = std::fs::File::create(seawall.data.join("partial").join(blob.digest().replace(':', "-"))).unwrap();
        std::io::Write::write_all(&mut &file, &[1; 800_000]).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    let seawall = seawall.restart(&pki).await;
    until("the older one is gone", || files(&seawall, "partial") == [blobs[2].digest().replace(':', "-")]).await;
    assert!(path(&seawall, &blobs[0]).exists());
}
