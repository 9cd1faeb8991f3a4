//! What this node reaches of the others: their ports, tried now.
//!
//! Owns the tries. Never asks another node for its opinion, and judges nobody who is down.

use crate::actors::peer;
use crate::actors::root::View;
use crate::api::wire::PeerCheckView;
use crate::fsm::model::Node;
use crate::limits::{DNS_PORT, MESH_PROBE, MESH_PROBES};
use crate::network::Subnet;
use futures_util::future::{join, join_all};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// `mill. IN A`, asked with recursion.
const QUESTION: [u8; 22] = *b"mi\x01\0\0\x01\0\0\0\0\0\0\x04mill\0\0\x01\0\x01";

/// Tries each other member that is there.
pub(super) async fn all(view: &View) -> Vec<PeerCheckView> {
    let own = view.state.nodes.get(&view.node).map(|node| node.name.clone());
    let own = own.unwrap_or_else(|| view.node.to_string());
    let others = view.state.nodes.values().filter(|node| node.id != view.node && node.is_up());
    let each = others.map(|node| {
        let own = own.as_str();
        let meshed = view.state.meshed;
        async move {
            let (peers, mesh) = join(peer_port(own, node), mesh(own, node, meshed)).await;
            [Some(peers), mesh]
        }
    });
    join_all(each).await.into_iter().flatten().flatten().collect()
}

async fn peer_port(own: &str, node: &Node) -> PeerCheckView {
    let place = peer::place(node).unwrap_or_else(|| node.address.clone());
    let tried = timeout(MESH_PROBE, TcpStream::connect(&place)).await;
    let fault = match tried {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("no answer".to_owned()),
    };
    view(own, node, format!("{}/tcp", node.peer_port), place, fault)
}

/// Asks the other node's names through the mesh, as its own containers would.
async fn mesh(own: &str, node: &Node, meshed: bool) -> Option<PeerCheckView> {
    let part = node.mesh.filter(|_| meshed)?;
    let gateway = Subnet::node(node.subnet).gateway();
    let fault = match ask(gateway).await {
        Ok(true) => None,
        Ok(false) => Some("no answer".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    let place = format!("{gateway} through the mesh");
    Some(view(own, node, format!("{}/udp", part.port), place, fault))
}

/// Whether a question was answered, of a few.
async fn ask(gateway: Ipv4Addr) -> io::Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(SocketAddr::from((gateway, DNS_PORT))).await?;
    let mut answer = [0; 64];
    for _ in 0..MESH_PROBES {
        socket.send(&QUESTION).await?;
        if let Ok(heard) = timeout(MESH_PROBE, socket.recv(&mut answer)).await {
            return heard.map(|_| true);
        }
    }
    Ok(false)
}

fn view(
    own: &str,
    node: &Node,
    port: String,
    place: String,
    fault: Option<String>,
) -> PeerCheckView {
    let to = node.name.clone();
    let hint = fault.as_ref().map(|_| format!("open port {port} of {to} for {own}, and back"));
    let ok = fault.is_none();
    let detail = fault.map_or_else(|| format!("{place} answers"), |why| format!("{place}: {why}"));
    PeerCheckView { from: own.to_owned(), to, port, ok, detail, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_answers_is_told_from_who_does_not() {
        let silent = UdpSocket::bind((Ipv4Addr::new(127, 53, 9, 1), DNS_PORT)).await.unwrap();
        let there = UdpSocket::bind((Ipv4Addr::new(127, 53, 9, 2), DNS_PORT)).await.unwrap();
        tokio::spawn(async move {
            let mut bytes = [0; 64];
            let (size, from) = there.recv_from(&mut bytes).await.unwrap();
            there.send_to(&bytes[..size], from).await.unwrap();
        });
        assert!(ask(Ipv4Addr::new(127, 53, 9, 2)).await.unwrap());
        assert!(!ask(Ipv4Addr::new(127, 53, 9, 1)).await.unwrap());
        drop(silent);
        assert!(ask(Ipv4Addr::new(127, 53, 9, 1)).await.is_err(), "refused");
        let plain = crate::node::dns::tests::question("mill.", hickory_proto::rr::RecordType::A);
        assert_eq!(QUESTION[2..], plain.to_vec().unwrap()[2..], "a plain question");
    }
}
