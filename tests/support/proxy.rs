//! A network between two programs that fails when it is told to: it refuses, cuts, and falls silent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use memchr::memmem::find;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on to another address.
pub struct Proxy {
    /// Where it listens, as `host:port`.
    pub address: String,
    bound: SocketAddr,
    shared: Arc<Shared>,
    door: Mutex<Door>,
}

/// A port that is not listened at refuses; nobody else may have it meanwhile.
enum Door {
    Open(JoinHandle<()>),
    Closed(TcpSocket),
    Moving,
}

struct Shared {
    target: String,
    /// Counts how often all connections were cut.
    cut: watch::Sender<u32>,
    silent: watch::Sender<bool>,
    next: Mutex<(Cut, usize)>,
    cuts: AtomicUsize,
}

/// Where a connection is cut.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// When PostgreSQL is told to commit, before it hears of it.
    BeforeCommit,
    /// When PostgreSQL has committed, before its answer is passed on.
    AfterCommit,
    /// When so many bytes of a request were passed on.
    Request(usize),
    /// When so many bytes of an answer were passed on.
    Answer(usize),
}

impl Proxy {
    /// Listens on a free port, and passes on to `host:port`.
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let bound = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            cut: watch::Sender::new(0),
            silent: watch::Sender::new(false),
            next: Mutex::new((Cut::BeforeCommit, 0)),
            cuts: AtomicUsize::new(0),
        });
        let door = Mutex::new(Door::Open(tokio::spawn(accept(listener, Arc::clone(&shared)))));
        Self { address: bound.to_string(), bound, shared, door }
    }

    /// Cuts all connections at once.
    pub fn cut_all(&self) {
        self.shared.cut.send_modify(|times| *times += 1);
    }

    /// Cuts the next connections that come to this point, so many of them.
    pub fn cut_next(&self, cut: Cut, times: usize) {
        *self.shared.next.lock().unwrap() = (cut, times);
    }

    /// How many connections were cut at such a point.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    /// Cuts all connections and refuses new ones.
    pub async fn refuse(&self) {
        let door = std::mem::replace(&mut *self.door.lock().unwrap(), Door::Moving);
        if let Door::Open(accepting) = door {
            accepting.abort();
            // the listener is gone with its task
            let _ = accepting.await;
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.bound).unwrap();
        *self.door.lock().unwrap() = Door::Closed(socket);
        self.cut_all();
    }

    /// Accepts connections again.
    pub fn accept(&self) {
        let mut door = self.door.lock().unwrap();
        let Door::Closed(socket) = std::mem::replace(&mut *door, Door::Moving) else { panic!("it was not refusing") };
        let listener = socket.listen(128).unwrap();
        *door = Door::Open(tokio::spawn(accept(listener, Arc::clone(&self.shared))));
    }

    /// Passes nothing on any more. Connections that were there then, or come meanwhile, stay silent for ever.
    pub fn silence(&self) {
        self.shared.silent.send_replace(true);
    }

    /// Passes on what comes by new connections.
    pub fn speak(&self) {
        self.shared.silent.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Door::Open(accepting) = &*self.door.lock().unwrap() {
            accepting.abort();
        }
        self.cut_all();
    }
}

impl Shared {
    /// Whether a connection is to be cut, as it has come to a point.
    fn is_cut(&self, reached: impl Fn(Cut) -> bool) -> bool {
        let mut next = self.next.lock().unwrap();
        if next.1 == 0 || !reached(next.0) {
            return false;
        }
        next.1 -= 1;
        self.cuts.fetch_add(1, Ordering::Relaxed);
        true
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        if let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, Arc::clone(&shared)));
        }
    }
}

async fn pass(mut client: TcpStream, shared: Arc<Shared>) {
    let (mut cut, mut silent) = (shared.cut.subscribe(), shared.silent.subscribe());
    let mut server = None;
    tokio::select! {
        _ = cut.changed() => return,
        () = pass_until_silent(&mut client, &mut server, &shared, &mut silent) => {}
    }
    let is_silent = *silent.borrow();
    if is_silent {
        let mut ignored = vec![0; 64 << 10];
        tokio::select! {
            _ = cut.changed() => {}
            // the other side hears of the end only when there is one
            () = async { while client.read(&mut ignored).await.is_ok_and(|bytes| bytes > 0) {} } => {}
        }
    }
}

/// Passes bytes on in both directions; returns at the end of the connection, or when nothing is to be heard of it any more.
async fn pass_until_silent(
    client: &mut TcpStream,
    connection: &mut Option<TcpStream>,
    shared: &Shared,
    silent: &mut watch::Receiver<bool>,
) {
    if *silent.borrow_and_update() {
        return;
    }
    let Ok(server) = TcpStream::connect(&shared.target).await else { return };
    let server = connection.insert(server);
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let (mut request, mut answer) = (0, 0);
    loop {
        tokio::select! {
            biased;
            _ = async { silent.wait_for(|silent| *silent).await.is_ok() } => return,
            bytes = client.read(&mut up) => {
                let Ok(bytes @ 1..) = bytes else { return };
                (request, answer) = (request + bytes, 0);
                let commits = find(&up[..bytes].to_ascii_lowercase(), b"commit\0").is_some();
                if commits && shared.is_cut(|cut| matches!(cut, Cut::BeforeCommit)) {
                    return;
                }
                if server.write_all(&up[..bytes]).await.is_err() {
                    return;
                }
                if commits && shared.is_cut(|cut| matches!(cut, Cut::AfterCommit)) {
                    let _ = server.read(&mut down).await;
                    return;
                }
                if shared.is_cut(|cut| matches!(cut, Cut::Request(most) if request > most)) {
                    return;
                }
            }
            bytes = server.read(&mut down) => {
                let Ok(bytes @ 1..) = bytes else { return };
                (request, answer) = (0, answer + bytes);
                if client.write_all(&down[..bytes]).await.is_err()
                    || shared.is_cut(|cut| matches!(cut, Cut::Answer(most) if answer > most))
                {
                    return;
                }
            }
        }
    }
}
