//! What a relay holds: nothing while nothing moves, and little while one side does not read.

use super::*;
use crate::datapath::relay::MOST_HELD;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn a_connection_at_rest_holds_no_pipe() {
    let Line { mut client, server, relay } = Line::relayed(Arc::new(Pipes::new(8))).await;
    let relay = relay.unwrap();
    let (mut reads, mut writes) = server.into_split();
    let bulk = pattern(64 * MOST_HELD, 1);
    let (_, heard) = tokio::join!(writes.write_all(&bulk), read(&mut client, bulk.len()));
    assert!(heard == bulk);
    // The answer has passed the relay once the question has.
    write(&mut client, b"?").await;
    reads.read_exact(&mut [0]).await.unwrap();
    let (open, kept) = relay.pipes.counts();
    assert!(open > 0, "bulk takes a pipe");
    assert_eq!(open, kept);
}

#[tokio::test]
async fn little_is_on_the_way_to_a_side_that_does_not_read() {
    // What the kernel keeps on the four sockets, beside which the relay may hold one pipe or one copy.
    let ((client, downstream), (upstream, server)) = (connection().await, connection().await);
    for stream in [&client, &downstream, &upstream, &server] {
        narrow(stream);
    }
    let relay = Relayed::start(downstream, upstream, Urgent::Never, Arc::new(Pipes::new(8)));
    let taken = stuff(&client).await;
    let read = relay.bytes.up.load(Ordering::Relaxed);
    assert!(taken < 2 << 20, "{taken} bytes were taken from a client whose server does not read");
    assert!(read <= taken as u64);
    let pipes = relay.pipes.counts();
    assert!(pipes.0 <= 1, "one direction holds one pipe: {pipes:?}");
    drop((client, server));
    drop(relay.end().await);
}

#[tokio::test]
async fn a_relay_without_bytes_is_small() {
    let Line { client, server, relay } = Line::relayed(Arc::new(Pipes::new(8))).await;
    drop((client, server));
    drop(relay.unwrap().end().await);
    let ((_client, downstream), (upstream, _server)) = (connection().await, connection().await);
    let (bytes, pipes) = (Bytes::default(), Pipes::new(0));
    let relay = both(downstream, upstream, Urgent::Never, &bytes, &pipes);
    assert!(size_of_val(&relay) <= 1024, "{} bytes", size_of_val(&relay));
}
