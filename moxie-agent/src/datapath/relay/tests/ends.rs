//! FIN and RST, from either side, at every moment.

use super::*;

/// Bytes that fit into any socket buffer.
const SOME: usize = 3000;

#[tokio::test]
async fn a_client_that_has_asked_everything_is_still_answered() {
    alike(async |mut client, mut server| {
        write(&mut client, b"ask").await;
        client.shutdown().await.unwrap();
        let asked = read_out(&mut server).await;
        write(&mut server, b"answer").await;
        let first = read(&mut client, 6).await;
        write(&mut server, b", and more").await;
        drop(server);
        (asked, first, read_out(&mut client).await)
    })
    .await;
}

#[tokio::test]
async fn a_server_that_has_said_everything_is_still_told() {
    alike(async |mut client, mut server| {
        write(&mut server, b"greeting").await;
        server.shutdown().await.unwrap();
        let greeted = read_out(&mut client).await;
        write(&mut client, b"reply").await;
        let first = read(&mut server, 5).await;
        write(&mut client, b", and more").await;
        drop(client);
        (greeted, first, read_out(&mut server).await)
    })
    .await;
}

#[tokio::test]
async fn an_end_without_a_byte_is_an_end() {
    alike(async |client, mut server| {
        drop(client);
        read_out(&mut server).await
    })
    .await;
    alike(async |mut client, server| {
        drop(server);
        read_out(&mut client).await
    })
    .await;
}

#[tokio::test]
async fn a_client_may_reset_before_it_has_said_anything() {
    alike(async |client, mut server| {
        ends_with_reset(client);
        read_out(&mut server).await
    })
    .await;
}

#[tokio::test]
async fn a_server_may_reset_before_it_has_said_anything() {
    alike(async |mut client, server| {
        ends_with_reset(server);
        read_out(&mut client).await
    })
    .await;
}

#[tokio::test]
async fn a_reset_comes_after_the_bytes_that_were_read_before_it() {
    alike(async |mut client, mut server| {
        write(&mut client, b"ask").await;
        read(&mut server, 3).await;
        write(&mut server, &pattern(SOME, 1)).await;
        let bytes = read(&mut client, SOME).await;
        ends_with_reset(server);
        (bytes, read_out(&mut client).await)
    })
    .await;
    alike(async |mut client, mut server| {
        write(&mut client, &pattern(SOME, 2)).await;
        let bytes = read(&mut server, SOME).await;
        ends_with_reset(client);
        (bytes, read_out(&mut server).await)
    })
    .await;
}

#[tokio::test]
async fn what_arrived_before_a_reset_is_read_before_it() {
    alike(async |mut client, mut server| {
        write(&mut server, &pattern(SOME, 3)).await;
        ends_with_reset(server);
        read_out(&mut client).await
    })
    .await;
    alike(async |mut client, mut server| {
        write(&mut client, &pattern(SOME, 4)).await;
        ends_with_reset(client);
        read_out(&mut server).await
    })
    .await;
}

/// As a server does that refuses an upload: it answers, and closes with bytes unread, which makes the kernel reset.
#[tokio::test]
async fn an_answer_to_an_upload_that_nobody_reads_arrives_before_the_reset() {
    alike(async |mut client, mut server| {
        write(&mut client, &pattern(SOME, 5)).await;
        read(&mut server, 1).await;
        write(&mut server, b"413").await;
        drop(server);
        read_out(&mut client).await
    })
    .await;
}

#[tokio::test]
async fn a_reset_reaches_a_side_that_is_not_reading() {
    alike(async |client, server| {
        ends_with_reset(server);
        broken(&client).await
    })
    .await;
    alike(async |client, server| {
        ends_with_reset(client);
        broken(&server).await
    })
    .await;
}

#[tokio::test]
async fn a_reset_passes_a_half_that_has_ended() {
    alike(async |mut client, mut server| {
        client.shutdown().await.unwrap();
        let asked = read_out(&mut server).await;
        ends_with_reset(client);
        (asked, broken(&server).await)
    })
    .await;
    alike(async |mut client, mut server| {
        client.shutdown().await.unwrap();
        let asked = read_out(&mut server).await;
        ends_with_reset(server);
        (asked, read_out(&mut client).await)
    })
    .await;
    alike(async |mut client, mut server| {
        server.shutdown().await.unwrap();
        let said = read_out(&mut client).await;
        ends_with_reset(client);
        (said, read_out(&mut server).await)
    })
    .await;
}

#[tokio::test]
async fn a_client_that_stopped_reading_may_reset() {
    alike(async |client, server| {
        stuff(&server).await;
        ends_with_reset(client);
        broken(&server).await
    })
    .await;
}

#[tokio::test]
async fn a_server_that_stopped_reading_may_reset() {
    alike(async |client, server| {
        stuff(&client).await;
        ends_with_reset(server);
        broken(&client).await
    })
    .await;
}

#[tokio::test]
async fn a_sender_may_reset_though_nobody_reads() {
    alike(async |client, server| {
        stuff(&server).await;
        ends_with_reset(server);
        broken(&client).await
    })
    .await;
    alike(async |client, server| {
        stuff(&client).await;
        ends_with_reset(client);
        broken(&server).await
    })
    .await;
}

#[tokio::test]
async fn a_reset_ends_a_connection_that_is_stuck_both_ways() {
    alike(async |client, server| {
        stuff(&client).await;
        stuff(&server).await;
        ends_with_reset(server);
        broken(&client).await
    })
    .await;
}

#[tokio::test]
async fn a_program_that_closes_with_bytes_unread_resets() {
    alike(async |client, mut server| {
        write(&mut server, &pattern(SOME, 6)).await;
        soon("the bytes", client.readable()).await.unwrap();
        drop(client);
        read_out(&mut server).await.1
    })
    .await;
}

#[tokio::test]
async fn the_relay_says_which_side_broke_off() {
    let Line { client, server, relay } = Line::relayed(Arc::new(Pipes::new(8))).await;
    ends_with_reset(client);
    assert!(matches!(relay.unwrap().end().await, Err(Error::Downstream(_))));
    drop(server);
    let Line { client, server, relay } = Line::relayed(Arc::new(Pipes::new(8))).await;
    ends_with_reset(server);
    assert!(matches!(relay.unwrap().end().await, Err(Error::Upstream(_))));
    drop(client);
}

/// A client that has sent all and closed is no reason to lose what the destination has yet to take.
#[tokio::test]
async fn what_is_on_its_way_after_the_end_is_not_taken_back() {
    let (near, mut far) = connection().await;
    let sent = stuff(&near).await;
    SockRef::from(&near).shutdown(std::net::Shutdown::Write).unwrap();
    crate::datapath::relay::ending::follow(near, true);
    let (bytes, ended) = soon("the rest", read_out(&mut far)).await;
    assert_eq!((bytes.len(), ended), (sent, Ok(())));

    let (near, mut far) = connection().await;
    stuff(&near).await;
    crate::datapath::relay::ending::follow(near, false);
    assert_eq!(soon("the reset", read_out(&mut far)).await.1, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn sockets_that_carry_ask_whether_a_silent_peer_is_there() {
    let (near, _far) = connection().await;
    socket_options::carry(&near);
    let socket = SockRef::from(&near);
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    let before = socket.tcp_keepalive_time().unwrap();
    crate::datapath::relay::ending::ask_whether_there(&near);
    assert!(socket.tcp_keepalive_time().unwrap() < before);
}
