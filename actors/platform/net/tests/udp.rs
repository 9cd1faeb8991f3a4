//! Published UDP ports, and clients that never stop sending.
//!
//! Never uses a host but the test's own.

use super::*;

#[test]
fn udp_is_published_too() {
    on_host(async |host| {
        let net = host.open().await;
        let a = net.attach(&id("a"), ip(2)).await.unwrap();
        let server = within(&a, || UdpSocket::bind("0.0.0.0:53").unwrap()).await.unwrap();
        let map = PublishMap::from([((5300, Protocol::Udp), vec![(ip(2), 53)])]);
        assert_eq!(net.publish(map).await.unwrap(), []);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect("127.0.0.1:5300").unwrap();
        client.send(b"question").unwrap();
        server.set_read_timeout(Some(WAIT)).unwrap();
        client.set_read_timeout(Some(WAIT)).unwrap();
        let mut bytes = [0; 16];
        let (_, from) = server.recv_from(&mut bytes).unwrap();
        server.send_to(b"answer", from).unwrap();
        let n = client.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..n], b"answer");
    });
}

#[test]
fn who_sends_udp_all_the_time_follows_the_port() {
    on_host(async |host| {
        let outside = host.outside().await;
        let net = host.open().await;
        let a = net.attach(&id("a"), ip(2)).await.unwrap();
        let b = net.attach(&id("b"), ip(3)).await.unwrap();
        let (a, b) = (hear(&a, 53).await, hear(&b, 53).await);
        let client = within(&outside, || {
            let client = UdpSocket::bind("0.0.0.0:0").unwrap();
            client.connect((HOST, 5300)).unwrap();
            client
        });
        let clients = [client.await.unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap()];
        clients[1].connect("127.0.0.1:5300").unwrap();
        let lead = async |targets: &[(Ipv4Addr, u16)]| {
            let map = PublishMap::from([((5300, Protocol::Udp), targets.to_vec())]);
            assert_eq!(net.publish(map).await.unwrap(), []);
        };
        lead(&[(ip(2), 53)]).await;
        clients.iter().for_each(|client| assert_eq!(heard(client, &a), "question"));
        lead(&[(ip(3), 53)]).await;
        clients.iter().for_each(|client| assert_eq!(heard(client, &b), "question"));
        // None for a while, as after a scale to 0.
        lead(&[]).await;
        clients.iter().for_each(|client| drop(client.send(b"nobody")));
        lead(&[(ip(2), 53)]).await;
        clients.iter().for_each(|client| assert_eq!(heard(client, &a), "question"));
        // An address that goes and comes back belongs to another container.
        net.detach(&id("a")).await.unwrap();
        let again = net.attach(&id("again"), ip(2)).await.unwrap();
        let again = hear(&again, 53).await;
        clients.iter().for_each(|client| assert_eq!(heard(client, &again), "question"));
    });
}

/// Asks by UDP, and gives what the other one hears. It answers, so that both ways are known.
fn heard(client: &UdpSocket, server: &UdpSocket) -> String {
    client.set_read_timeout(Some(WAIT)).unwrap();
    // A refusal of an earlier packet is told with the next one.
    let _ = client.send(b"").map_err(|_| client.send(b""));
    client.send(b"question").unwrap();
    let mut bytes = [0; 16];
    loop {
        let (length, from) = server.recv_from(&mut bytes).unwrap();
        server.send_to(b"answer", from).unwrap();
        let answered = client.recv(&mut [0; 16]);
        if length > 0 && answered.is_ok() {
            return String::from_utf8_lossy(&bytes[..length]).into_owned();
        }
    }
}
