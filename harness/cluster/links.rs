//! The links between the nodes of a test: TCP over loopback, that can be cut one way or both.
//!
//! Owns cutting what is open already. Never delays anything.

use futures_util::future::BoxFuture;
use mill::actors::peer::Dial;
use mill::id::NodeId;
use std::collections::HashSet;
use std::io;
use std::net::{Shutdown, TcpStream as Blocking};
use std::sync::{Arc, Mutex};
use tokio::net::TcpStream;

type Way = (u64, u64);

/// All links.
#[derive(Clone, Default)]
pub struct Links(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    cut: HashSet<Way>,
    isolated: HashSet<u64>,
    streams: Vec<(Way, Blocking)>,
}

impl Open {
    fn is_cut(&self, (from, to): Way) -> bool {
        let isolated = self.isolated.contains(&from) || self.isolated.contains(&to);
        isolated || self.cut.contains(&(from, to))
    }

    fn sever(&mut self) {
        let streams = std::mem::take(&mut self.streams);
        for (way, stream) in streams {
            if self.is_cut(way) {
                // It may be closed already.
                let _ = stream.shutdown(Shutdown::Both);
            } else {
                self.streams.push((way, stream));
            }
        }
    }
}

impl Links {
    /// Nothing that one says reaches the other, or does again.
    pub fn cut(&self, from: u64, to: u64, is_cut: bool) {
        let mut open = self.0.lock().expect("lock");
        if is_cut {
            open.cut.insert((from, to));
        } else {
            open.cut.remove(&(from, to));
        }
        open.sever();
    }

    /// A node reaches nobody and nobody reaches it, or they do again.
    pub fn isolate(&self, id: u64, is_isolated: bool) {
        let mut open = self.0.lock().expect("lock");
        if is_isolated {
            open.isolated.insert(id);
        } else {
            open.isolated.remove(&id);
        }
        open.sever();
    }

    fn take(&self, way: Way, stream: TcpStream) -> io::Result<TcpStream> {
        let stream = stream.into_std()?;
        let mut open = self.0.lock().expect("lock");
        if open.is_cut(way) {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        open.streams.push((way, stream.try_clone()?));
        TcpStream::from_std(stream)
    }

    /// How a node opens connections.
    pub fn dial(&self, from: u64) -> Dial {
        let links = self.clone();
        Arc::new(move |to: NodeId, address: String| -> BoxFuture<'static, _> {
            let (links, way) = (links.clone(), (from, to.0));
            Box::pin(async move {
                if links.0.lock().expect("lock").is_cut(way) {
                    return Err(io::ErrorKind::NetworkUnreachable.into());
                }
                links.take(way, TcpStream::connect(address).await?)
            })
        })
    }
}
