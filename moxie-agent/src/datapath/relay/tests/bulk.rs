//! Amounts: byte by byte, at the edges between copying and piping, and much both ways.

use super::*;
use crate::datapath::relay::MOST_HELD;

#[tokio::test]
async fn one_byte_at_a_time_arrives_one_at_a_time() {
    alike(async |mut client, mut server| {
        let mut seen = Vec::new();
        for byte in 0..=255_u8 {
            write(&mut client, &[byte]).await;
            seen.extend(read(&mut server, 1).await);
            write(&mut server, &[byte ^ 0xff]).await;
            seen.extend(read(&mut client, 1).await);
        }
        seen
    })
    .await;
}

#[tokio::test]
async fn every_edge_between_copying_and_piping_is_passed() {
    let mut sizes = vec![1];
    for chunks in [1, 2, 4, 5, 8, 16, 17, 64] {
        sizes.extend([chunks * MOST_HELD - 1, chunks * MOST_HELD, chunks * MOST_HELD + 1]);
    }
    // From large to small as well, so that the way back is taken too.
    sizes.extend(sizes.clone().into_iter().rev());
    alike(async |client, server| {
        let (mut client_reads, mut client_writes) = client.into_split();
        let (mut server_reads, mut server_writes) = server.into_split();
        for (round, size) in sizes.iter().enumerate() {
            let (up, down) = (pattern(*size, round as u64), pattern(*size, round as u64 + 1000));
            let (mut got_up, mut got_down) = (vec![0; *size], vec![0; *size]);
            let (sent_up, sent_down, read_up, read_down) = tokio::join!(
                client_writes.write_all(&up),
                server_writes.write_all(&down),
                server_reads.read_exact(&mut got_up),
                client_reads.read_exact(&mut got_down),
            );
            sent_up.and(sent_down).unwrap();
            read_up.and(read_down).unwrap();
            assert!(got_up == up && got_down == down, "{size} bytes were changed");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_both_ways_at_once_arrives_whole() {
    const MUCH: usize = 24 << 20;
    for pipes in [8, 1, 0] {
        let Line { client, server, relay } = Line::relayed(Arc::new(Pipes::new(pipes))).await;
        let (up, down) = (pattern(MUCH, 7), pattern(MUCH, 8));
        let ends = [(client, up.clone(), down.clone()), (server, down, up)].map(|(stream, says, expects)| {
            tokio::spawn(async move {
                let (mut reads, mut writes) = stream.into_split();
                let says = async {
                    writes.write_all(&says).await.unwrap();
                    writes.shutdown().await.unwrap();
                };
                let mut heard = Vec::new();
                let (_, read) = tokio::join!(says, reads.read_to_end(&mut heard));
                read.unwrap();
                assert!(heard == expects, "bytes were changed");
            })
        });
        for end in ends {
            soon("an end", end).await.unwrap();
        }
        let relay = relay.unwrap();
        let (bytes, pipes) = (Arc::clone(&relay.bytes), Arc::clone(&relay.pipes));
        relay.end().await.unwrap();
        let count = |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((count(&bytes.up), count(&bytes.down)), (MUCH as u64, MUCH as u64));
        let (open, kept) = pipes.counts();
        assert_eq!(open, kept, "a pipe was not given back");
    }
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    let Line { mut client, mut server, relay } = Line::relayed(Arc::new(Pipes::new(8))).await;
    let sent = stuff(&server).await;
    write(&mut client, b"the other way is open").await;
    assert_eq!(read(&mut server, 21).await, b"the other way is open");
    server.shutdown().await.unwrap();
    let (bytes, ended) = soon("all of it", read_out(&mut client)).await;
    assert_eq!((bytes.len(), ended), (sent, Ok(())));
    drop(client);
    relay.unwrap().end().await.unwrap();
}

/// An urgent byte does not pass through a pipe, and must not stop what is behind it.
#[tokio::test]
async fn an_urgent_byte_is_passed_on_in_its_place() {
    for bulk in [0, 64 * MOST_HELD] {
        let Line { mut client, mut server, relay } =
            Line::relayed_with(Urgent::Possible, Arc::new(Pipes::new(8))).await;
        let before = pattern(bulk, 9);
        let said = async {
            write(&mut client, &before).await;
            all_at_once(&client);
        };
        let (_, heard) = tokio::join!(said, soon("the urgent byte", read(&mut server, bulk + 7)));
        assert!(heard.starts_with(&before) && heard.ends_with(b"abc!def"));
        // A relay that waits is woken once for all of it.
        all_at_once(&client);
        assert_eq!(soon("another one", read(&mut server, 7)).await, b"abc!def");
        drop((client, server));
        drop(relay.unwrap().end().await);
    }
}

/// Sends before anybody else's turn comes.
fn all_at_once(client: &TcpStream) {
    let socket = SockRef::from(client);
    assert_eq!(socket.send(b"abc").unwrap(), 3);
    assert_eq!(socket.send_out_of_band(b"!").unwrap(), 1);
    assert_eq!(socket.send(b"def").unwrap(), 3);
}
