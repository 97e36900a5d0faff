//! Bytes both ways, unread.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::shared::Conn;
use super::transport::Socket;
use super::watched::{LastMoved, Watched};
use crate::dial::stream::Stream;
use crate::task::Tasks;

/// For each direction of every tunnel. 8 KiB, tokio's own, cost twice the system calls.
const BUFFER: usize = 32 << 10;

/// A tunnel that is silent for this long does not hold up a drain.
const SILENCE_WHILE_DRAINING: Duration = Duration::from_secs(1);

/// Copies between a client and an upstream until they are done.
pub(crate) async fn tunnelled(conn: &Conn, client: Socket, upstream: Stream) {
    let _counted = conn.shared.metrics.tunnel();
    match tunnel(client, upstream, conn.shared.settings.idle_timeout, &conn.shared.tasks).await {
        Ok((sent, received)) => debug!(peer = %conn.peer, sent, received, "tunnel closed"),
        Err(error) => debug!(peer = %conn.peer, %error, "tunnel ended"),
    }
}

/// Copies until both sides have ended; the end of each is passed on. Returns how many bytes the
/// client sent, and was sent.
///
/// # Errors
/// A side broke off, or nothing moved for `idle`.
pub async fn tunnel<C, U>(client: C, upstream: U, idle: Duration, tasks: &Tasks) -> io::Result<(u64, u64)>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let moved = Arc::new(LastMoved::new());
    let mut client = Watched::new(client, moved.clone());
    let mut upstream = Watched::new(upstream, moved.clone());
    let drained = async {
        tasks.stopping().await;
        moved.silence(idle.min(SILENCE_WHILE_DRAINING)).await;
    };
    tokio::select! {
        copied = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER) => copied,
        () = moved.silence(idle) => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing moved")),
        () = drained => Err(io::Error::new(io::ErrorKind::Interrupted, "seawall stops")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    const IDLE: Duration = Duration::from_secs(60);

    fn start(tasks: &Tasks) -> (DuplexStream, DuplexStream, JoinHandle<io::Result<(u64, u64)>>) {
        let (client, near) = duplex(1024);
        let (far, upstream) = duplex(1024);
        let running = tasks.clone();
        let handle = tasks.spawn(async move { tunnel(near, far, IDLE, &running).await });
        (client, upstream, handle)
    }

    #[tokio::test(start_paused = true)]
    async fn one_side_may_end_before_the_other() {
        let (mut client, mut upstream, handle) = start(&Tasks::new());
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut text = String::new();
        upstream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "question");
        tokio::time::sleep(IDLE / 2).await;
        upstream.write_all(b"an answer").await.unwrap();
        drop(upstream);
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "an answer");
        assert_eq!(handle.await.unwrap().unwrap(), (8, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_a_byte_now_and_then_does_not() {
        let began = Instant::now();
        let (mut client, mut upstream, handle) = start(&Tasks::new());
        for _ in 0..10 {
            tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
            upstream.write_all(b".").await.unwrap();
            client.read_u8().await.unwrap();
        }
        let spoke = began.elapsed();
        assert_eq!(handle.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() - spoke <= IDLE + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_what_moves_only() {
        let tasks = Tasks::new();
        let (mut client, mut upstream, handle) = start(&tasks);
        tasks.stop();
        for _ in 0..10 {
            tokio::time::sleep(SILENCE_WHILE_DRAINING / 2).await;
            upstream.write_all(b".").await.unwrap();
            client.read_u8().await.unwrap();
        }
        let began = Instant::now();
        assert_eq!(handle.await.unwrap().unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert!(began.elapsed() <= SILENCE_WHILE_DRAINING * 2);
    }
}
