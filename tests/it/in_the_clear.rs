//! What goes to a client in the clear is sent by the kernel: the same bytes, cold and warm, whole
//! and in parts.

use crate::harness::*;

const MIRROR: &str = "http://mirror.test/v2/docker.io";
/// No multiple of a page, of a chunk, or of what is sent at once.
const SIZE: usize = (3 << 20) + 12_345;

fn content() -> Vec<u8> {
    (0..SIZE).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

async fn world(pki: &Pki) -> (Registry, Seawall, String) {
    let registry = Registry::new("registry-1.docker.io").start(pki).await;
    let digest = registry.add_blob("acme/app", Blob::new(content()));
    let seawall = Seawall::before(&registry).start(pki).await;
    (registry, seawall, format!("{MIRROR}/acme/app/blobs/{digest}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_the_same_blob_cold_and_warm_and_one_connection_goes_on() {
    let pki = Pki::new();
    let (registry, seawall, blob) = world(&pki).await;
    let connection = Client::plain(seawall.addr()).connect(&blob).await.unwrap();
    let get = || connection.request(http::Method::GET, &blob).send();
    for what in ["cold", "warm", "warm again"] {
        let reply = get().await.unwrap();
        assert_eq!(reply.header("content-length"), SIZE.to_string());
        assert!(reply.bytes() == &content(), "{what}: other bytes");
        let head = connection.request(http::Method::HEAD, &blob).send().await.unwrap();
        assert_eq!((head.status.as_u16(), head.bytes().len()), (200, 0), "{what}");
    }
    assert_eq!(registry.gets("blobs"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_begin_and_end_where_they_were_asked() {
    let pki = Pki::new();
    let (_registry, seawall, blob) = world(&pki).await;
    let client = Client::plain(seawall.addr());
    client.get(&blob).send().await.unwrap();
    let connection = client.connect(&blob).await.unwrap();
    let all = content();
    for (from, to) in [
        (0, 0),
        (1, 20_000),
        (4095, 4096 + (512 << 10)),
        (16_384, 16_384 + (1 << 20)),
        (SIZE - 1, SIZE - 1),
        (7, SIZE - 1),
    ] {
        let ask = connection.request(http::Method::GET, &blob).range(&format!("bytes={from}-{to}"));
        let reply = ask.send().await.unwrap();
        assert_eq!(reply.status.as_u16(), 206);
        assert!(reply.bytes() == &all[from..=to], "{from}-{to}");
    }
}

/// The socket fills, and each of many has its own place in the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_gets_the_same_and_so_do_many_at_once() {
    let pki = Pki::new();
    let (_registry, seawall, blob) = world(&pki).await;
    let client = Client::plain(seawall.addr());
    client.get(&blob).send().await.unwrap();
    let mut readers = Vec::new();
    for _ in 0..20 {
        readers.push(client.get(&blob).open().await.unwrap());
    }
    // None has read anything: what all sockets take is taken, and no more is read for anybody.
    let all = content();
    let mut at = 0;
    while at < SIZE {
        let step = 200_000.min(SIZE - at);
        for reader in &mut readers {
            assert!(reader.read_exactly(step).await.unwrap() == all[at..at + step], "at {at}");
        }
        at += step;
    }
}

/// A file that became shorter behind seawall's back: nothing else is sent in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_cut_short_never_ends_cleanly() {
    let pki = Pki::new();
    let (_registry, seawall, blob) = world(&pki).await;
    let client = Client::plain(seawall.addr());
    client.get(&blob).send().await.unwrap();
    let digest = blob.rsplit_once("sha256:").unwrap().1;
    let file = seawall.data.join("blobs/sha256").join(digest);
    // The last byte is sent a moment before the file has its name.
    while !file.exists() {
        tokio::task::yield_now().await;
    }
    std::fs::File::options().write(true).open(file).unwrap().set_len(200_000).unwrap();
    let after = client.get(&blob).send().await.and_then(|reply| reply.body);
    assert!(after.is_err() || after.unwrap() == content(), "bytes that are not the blob's");
}
