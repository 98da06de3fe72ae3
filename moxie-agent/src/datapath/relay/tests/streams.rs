//! Streams that are no sockets.

use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::datapath::relay::{MOST_HELD, streams};

/// Two ends with a relay between them, and no more room than `room` on either side.
fn line(room: usize) -> (DuplexStream, DuplexStream, JoinHandle<Result<(), Error>>) {
    let ((client, mut downstream), (mut upstream, server)) = (duplex(room), duplex(room));
    (client, server, tokio::spawn(async move { streams(&mut downstream, &mut upstream).await }))
}

#[tokio::test]
async fn bytes_and_ends_pass_whatever_room_there_is() {
    for room in [1, 7, MOST_HELD - 1, MOST_HELD, 3 * MOST_HELD] {
        let (client, server, relay) = line(room);
        let (up, down) = (pattern(5 * MOST_HELD + 3, 1), pattern(2 * MOST_HELD, 2));
        let ends = [(client, up.clone(), down.clone()), (server, down, up)].map(|(stream, says, expects)| async move {
            let (mut reads, mut writes) = tokio::io::split(stream);
            let says = async {
                writes.write_all(&says).await.unwrap();
                writes.shutdown().await.unwrap();
            };
            let mut heard = Vec::new();
            let (_, read) = tokio::join!(says, reads.read_to_end(&mut heard));
            read.unwrap();
            assert!(heard == expects, "bytes were changed");
        });
        let [one, other] = ends;
        soon("both ends", async { tokio::join!(one, other) }).await;
        soon("the relay", relay).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_half_that_has_ended_leaves_the_other_open() {
    let (mut client, mut server, relay) = line(64);
    client.write_all(b"ask").await.unwrap();
    client.shutdown().await.unwrap();
    let mut asked = Vec::new();
    server.read_to_end(&mut asked).await.unwrap();
    server.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.unwrap();
    drop(server);
    soon("the relay", relay).await.unwrap().unwrap();
    assert_eq!((&asked[..], &answer), (&b"ask"[..], b"answer"));
}

#[tokio::test]
async fn a_stream_that_breaks_is_named() {
    let (client, server, relay) = line(64);
    drop(server);
    let mut client = client;
    // What nobody reads cannot be written.
    client.write_all(b"ask").await.unwrap();
    assert!(matches!(soon("the relay", relay).await.unwrap(), Err(Error::Upstream(_))));
}
