//! What costs a client its connection, and no other client anything.

use super::*;

#[tokio::test]
async fn garbage_is_hung_up_on_and_strangers_are_not_listened_to() {
    let seawall = start().await;
    for garbage in [&b"\x00\x01\x02"[..], b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"] {
        let mut socket = seawall.connect().await;
        socket.write_all(garbage).await.unwrap();
        let reply = rest(&mut socket).await;
        assert!(reply.is_empty() || reply[0] == 0x15, "{reply:?}");
    }
    let strangers = Settings { allow: vec!["10.0.0.0/8".parse().unwrap()], ..settings() };
    let seawall = Seawall::start(strangers, upstream_settings()).await;
    assert!(rest(&mut seawall.connect().await).await.is_empty());
}

/// Enough for a handshake on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn whoever_says_too_little_for_too_long_is_hung_up_on() {
    let seawall = Seawall::start(Settings { patience: PATIENCE, ..settings() }, upstream_settings()).await;
    let hello = client_hello("registry.test");
    let starts = [&b""[..], b"GE", b"GET /v2/ HTTP/1.1\r\nHos", &hello[..100], &hello];
    let half_said = starts.map(|start| async {
        let mut socket = seawall.connect().await;
        socket.write_all(start).await.unwrap();
        rest(&mut socket).await;
    });
    let no_request = [&b"http/1.1"[..], b"h2"].map(|alpn| async {
        let mut tls = seawall.tls(seawall.connect().await, "registry.test", &[alpn]).await;
        rest(&mut tls).await;
    });
    let no_hello = async {
        let (_, mut socket) = seawall.tunnel("registry.test:443").await;
        rest(&mut socket).await;
    };
    let began = tokio::time::Instant::now();
    tokio::join!(futures_util::future::join_all(half_said), futures_util::future::join_all(no_request), no_hello);
    assert!(began.elapsed() < LONG / 2);
}

#[tokio::test]
async fn a_kept_connection_may_be_idle_for_longer_than_a_first_head_may_take() {
    let seawall = Seawall::start(Settings { patience: PATIENCE, ..settings() }, upstream_settings()).await;
    let mut socket = seawall.connect().await;
    get(&mut socket).await;
    tokio::time::sleep(PATIENCE * 3 / 2).await;
    get(&mut socket).await;
}

#[tokio::test]
async fn a_later_head_that_does_not_come_to_its_end_is_silence() {
    let settings = Settings { patience: PATIENCE, idle_timeout: PATIENCE, ..settings() };
    let seawall = Seawall::start(settings, upstream_settings()).await;
    let mut socket = seawall.connect().await;
    get(&mut socket).await;
    socket.write_all(b"GET /v2/ HTTP/1.1\r\nHos").await.unwrap();
    let began = tokio::time::Instant::now();
    rest(&mut socket).await;
    assert!(began.elapsed() < LONG / 2);
}

#[tokio::test]
async fn half_a_head_holds_up_no_drain() {
    let seawall = Seawall::start(Settings { patience: PATIENCE, ..settings() }, upstream_settings()).await;
    let mut socket = seawall.connect().await;
    socket.write_all(b"GET /v2/ HTTP/1.1\r\nHos").await.unwrap();
    // It is being listened to by now: who came later has an answer.
    get(&mut seawall.connect().await).await;
    seawall.tasks.stop();
    tokio::time::timeout(LONG / 2, seawall.tasks.drained()).await.expect("drained");
}

#[tokio::test]
async fn hundreds_of_half_open_connections_delay_no_other_client() {
    let seawall = start().await;
    let mut half_open = Vec::new();
    for at in 0..300 {
        let mut socket = seawall.connect().await;
        let start = [&b""[..], b"CONN", b"\x16\x03", b"GET / HTTP/1.1\r\nA: "][at % 4];
        socket.write_all(start).await.unwrap();
        half_open.push(socket);
    }
    get(&mut seawall.connect().await).await;
    drop(half_open);
}

#[tokio::test]
async fn one_more_than_the_limit_waits_for_a_seat() {
    let seawall = Seawall::start(Settings { max_connections: 2, ..settings() }, upstream_settings()).await;
    // The permit of a connection is kept while it is intercepted.
    let (_, intercepted) = seawall.tunnel("registry.test:443").await;
    let intercepted = seawall.tls(intercepted, "registry.test", &[]).await;
    let mut second = seawall.connect().await;
    get(&mut second).await;
    let mut third = seawall.connect().await;
    let waiting = tokio::time::timeout(Duration::from_millis(300), get(&mut third)).await;
    assert!(waiting.is_err(), "it was served");
    drop(intercepted);
    answer(&mut third).await;
}

#[tokio::test]
async fn a_drain_ends_what_is_idle_and_waits_for_the_rest() {
    let (port, _echo) = echo().await;
    let seawall = Seawall::start(Settings { tunnels: tunnels(port), ..settings() }, upstream_settings()).await;
    let mut silent = seawall.connect().await;
    let mut kept = seawall.connect().await;
    get(&mut kept).await;
    let (_, socket) = seawall.tunnel("registry.test:443").await;
    let mut intercepted = seawall.tls(socket, "registry.test", &[]).await;
    get(&mut intercepted).await;
    let (_, mut tunnel) = seawall.tunnel(&format!("127.0.0.1:{port}")).await;
    seawall.tasks.stop();
    tunnel.write_all(b"hello").await.unwrap();
    let mut word = [0; 5];
    tunnel.read_exact(&mut word).await.unwrap();
    rest(&mut silent).await;
    rest(&mut kept).await;
    rest(&mut intercepted).await;
    tokio::time::timeout(LONG, seawall.tasks.drained()).await.expect("drained");
    assert!(TcpStream::connect(seawall.address).await.is_err(), "it does not listen any more");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_told_so() {
    let seawall = start().await;
    let mut socket = seawall.connect().await;
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", "a".repeat(70 << 10));
    socket.write_all(head.as_bytes()).await.unwrap();
    let reply = String::from_utf8(rest(&mut socket).await).unwrap();
    assert!(reply.starts_with("HTTP/1.1 431 "), "{reply}");
}
