//! Listeners: sockets, their limits, and the life of a connection from accept to close.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Connection, End, Peer, Services, Stream, handshake_limit};
use super::reply_for::Refusal;
use super::session::Session;
use super::{ListenAddress, Settings, TlsMode, tls};
use crate::smtp::reply::Reply;
use crate::tenant::directory::canonical;

/// Connections that the kernel keeps for us until we accept them.
const BACKLOG: i32 = 1024;

/// What the kernel knows of the peer of a socket. An error shows once, whoever asks: the caller
/// remembers it.
fn look(socket: impl AsFd) -> Peer {
    if !matches!(rustix::net::sockopt::socket_error(&socket), Ok(Ok(()))) {
        return Peer::Reset;
    }
    let mut probe = [0u8; 1];
    match rustix::net::recv(
        socket,
        &mut probe,
        rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT,
    ) {
        Ok((0, _)) => Peer::Closed,
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Peer::There,
        Err(_) => Peer::Reset,
    }
}

/// Either kind of socket.
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// UNIX.
    Unix(UnixStream),
}

fn end(socket: impl AsFd) {
    // Fails if the connection is gone, which is as good.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
}

/// A TCP connection has no peer any more when all is acknowledged, or after a reset; what is sent
/// through a UNIX socket is with the peer at once.
fn is_over(socket: &TcpStream) -> bool {
    rustix::net::getpeername(socket).is_err()
}

impl Stream for Socket {
    fn peer(&self) -> Peer {
        match self {
            Socket::Tcp(stream) => look(stream),
            Socket::Unix(stream) => look(stream),
        }
    }

    fn end(&self) {
        match self {
            Socket::Tcp(stream) => end(stream),
            Socket::Unix(stream) => end(stream),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Socket::Tcp(stream) => is_over(stream),
            Socket::Unix(_) => true,
        }
    }
}

impl Stream for UnixStream {
    fn peer(&self) -> Peer {
        look(self)
    }

    fn end(&self) {
        end(self);
    }

    fn is_over(&self) -> bool {
        true
    }
}

impl Stream for TlsStream<Socket> {
    fn peer(&self) -> Peer {
        self.get_ref().0.peer()
    }

    fn end(&self) {
        self.get_ref().0.end();
    }

    fn is_over(&self) -> bool {
        self.get_ref().0.is_over()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Acceptor::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                let _ = stream.set_nodelay(true);
                (Socket::Tcp(stream), Some(peer))
            }),
            Acceptor::Unix(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| (Socket::Unix(stream), None)),
        }
    }
}

/// A listener that is open, with settings that a reload may change.
struct Open {
    settings: Arc<ArcSwap<Settings>>,
    tls: Arc<ArcSwapOption<ServerConfig>>,
    cancel: CancellationToken,
}

/// Sockets passed by systemd, by name; each can be taken once and is kept over reloads.
#[derive(Default)]
pub struct Passed {
    sockets: Mutex<HashMap<String, Vec<Acceptor>>>,
}

impl Passed {
    /// Takes what systemd has passed to this process.
    pub fn from_environment() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut fds = listenfd::ListenFd::from_env();
        let names: Vec<&str> = names.split(':').collect();
        let mut sockets: HashMap<String, Vec<Acceptor>> = HashMap::new();
        for i in 0..fds.len() {
            let name = names
                .get(i)
                .filter(|n| !n.is_empty())
                .copied()
                .unwrap_or("unknown");
            let acceptor = match fds.take_tcp_listener(i) {
                Ok(Some(listener)) => listener
                    .set_nonblocking(true)
                    .and_then(|()| TcpListener::from_std(listener))
                    .map(Acceptor::Tcp)
                    .ok(),
                _ => match fds.take_unix_listener(i) {
                    Ok(Some(listener)) => listener
                        .set_nonblocking(true)
                        .and_then(|()| UnixListener::from_std(listener))
                        .map(Acceptor::Unix)
                        .ok(),
                    _ => None,
                },
            };
            if let Some(acceptor) = acceptor {
                sockets.entry(name.to_owned()).or_default().push(acceptor);
            }
        }
        Self {
            sockets: Mutex::new(sockets),
        }
    }

    fn put(&self, name: &str, acceptor: Acceptor) {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.entry(name.to_owned()).or_default().push(acceptor);
    }

    /// All sockets of a name: a unit may listen on several addresses.
    fn take(&self, name: &str) -> Vec<Acceptor> {
        self.sockets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name)
            .unwrap_or_default()
    }
}

/// All listeners.
pub struct Listeners {
    services: Services,
    passed: Arc<Passed>,
    open: Mutex<HashMap<String, Open>>,
    tasks: TaskTracker,
}

impl Listeners {
    /// None open yet.
    pub fn new(services: Services, passed: Passed) -> Self {
        Self {
            services,
            passed: Arc::new(passed),
            open: Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Opens what is new, changes what stays, closes what is gone; all or nothing.
    pub fn configure(
        &self,
        wanted: &[Settings],
        self_signed: &Path,
        hostname: &str,
    ) -> Result<(), String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // `127.0.0.1:0` may stand there several times: then the name tells them apart.
        let key = |s: &Settings| match &s.address {
            ListenAddress::Tcp(address) if address.port() == 0 => format!("{address} {}", s.name),
            ListenAddress::Tcp(address) => address.to_string(),
            ListenAddress::Unix(path) => format!("unix:{}", path.display()),
            ListenAddress::Systemd(name) => format!("systemd:{name}"),
        };
        let mut prepared = Vec::new();
        for settings in wanted {
            let tls = tls_for(settings, self_signed, hostname)?;
            prepared.push((key(settings), settings.clone(), tls));
        }
        let mut bound = HashMap::new();
        for (key, settings, _) in &prepared {
            if open.contains_key(key) {
                continue;
            }
            match self.bind(&settings.address) {
                Ok(acceptors) => {
                    bound.insert(key.clone(), acceptors);
                }
                Err(error) => {
                    // All or nothing; what systemd passed is kept for the next time.
                    for (key, acceptors) in bound {
                        if let Some(name) = key.strip_prefix("systemd:") {
                            for (acceptor, _) in acceptors {
                                self.passed.put(name, acceptor);
                            }
                        }
                    }
                    return Err(format!("listener {}: {error}", settings.name));
                }
            }
        }
        open.retain(|key, o| {
            let stays = prepared.iter().any(|(wanted, ..)| wanted == key);
            if !stays {
                o.cancel.cancel();
                if let Some(path) = key.strip_prefix("unix:") {
                    let _ = std::fs::remove_file(path);
                }
            }
            stays
        });
        for (key, settings, tls) in prepared {
            if let Some(o) = open.get(&key) {
                o.settings.store(Arc::new(settings));
                o.tls.store(tls);
            } else if let Some(acceptors) = bound.remove(&key) {
                let name = settings.name.clone();
                let passed = matches!(settings.address, ListenAddress::Systemd(_))
                    .then(|| key.trim_start_matches("systemd:").to_owned());
                let o = Open {
                    settings: Arc::new(ArcSwap::from_pointee(settings)),
                    tls: Arc::new(ArcSwapOption::new(tls)),
                    cancel: self.services.stop.child_token(),
                };
                for (acceptor, local) in acceptors {
                    let (services, settings, tls) = (
                        self.services.clone(),
                        Arc::clone(&o.settings),
                        Arc::clone(&o.tls),
                    );
                    let (cancel, tasks, sockets, passed) = (
                        o.cancel.clone(),
                        self.tasks.clone(),
                        Arc::clone(&self.passed),
                        passed.clone(),
                    );
                    self.tasks.spawn(async move {
                        let acceptor =
                            accept_loop(acceptor, services, settings, tls, cancel, tasks).await;
                        if let Some(name) = passed {
                            sockets.put(&name, acceptor);
                        }
                    });
                    tracing::info!(event = "listening", listener = %name, address = %local);
                }
                open.insert(key, o);
            }
        }
        Ok(())
    }

    /// Opens an address; several sockets where systemd has passed several of the name.
    fn bind(&self, address: &ListenAddress) -> Result<Vec<(Acceptor, String)>, String> {
        match address {
            ListenAddress::Tcp(address) => {
                let listener = bind_tcp(*address).map_err(|e| {
                    format!("cannot listen on {address}: {e}{}", hint(&e, *address))
                })?;
                let local = listener
                    .local_addr()
                    .map_or_else(|_| address.to_string(), |a| a.to_string());
                Ok(vec![(Acceptor::Tcp(listener), local)])
            }
            ListenAddress::Unix(path) => {
                let listener = bind_unix(path)
                    .map_err(|e| format!("cannot listen on {}: {e}", path.display()))?;
                Ok(vec![(
                    Acceptor::Unix(listener),
                    format!("unix:{}", path.display()),
                )])
            }
            ListenAddress::Systemd(name) => {
                let acceptors = self.passed.take(name);
                if acceptors.is_empty() {
                    return Err(format!(
                        "systemd passed no socket named {name}; set FileDescriptorName={name} in the .socket unit and start by it"
                    ));
                }
                let named = |acceptor: Acceptor| {
                    let local = match &acceptor {
                        Acceptor::Tcp(listener) => listener
                            .local_addr()
                            .map(|a| a.to_string())
                            .unwrap_or_default(),
                        Acceptor::Unix(_) => format!("systemd:{name}"),
                    };
                    (acceptor, local)
                };
                Ok(acceptors.into_iter().map(named).collect())
            }
        }
    }

    /// Waits until every connection has ended, at most so long.
    pub async fn drain(&self, limit: Duration) {
        self.tasks.close();
        if timeout(limit, self.tasks.wait()).await.is_err() {
            self.services.abandon.cancel();
            let _ = timeout(Duration::from_secs(1), self.tasks.wait()).await;
        }
        for o in self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            if let ListenAddress::Unix(path) = &o.settings.load().address {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

fn hint(error: &io::Error, address: SocketAddr) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            " (ports below 1024 need root, CAP_NET_BIND_SERVICE or a systemd socket)"
        }
        io::ErrorKind::AddrInUse => " (another program listens there; find it with: ss -ltnp)",
        _ => "",
    }
}

fn tls_for(
    settings: &Settings,
    self_signed: &Path,
    hostname: &str,
) -> Result<Option<Arc<ServerConfig>>, String> {
    if settings.tls == TlsMode::None {
        return Ok(None);
    }
    let (certificate, key): (PathBuf, PathBuf) = match &settings.certificate {
        Some(pair) => pair.clone(),
        None => tls::self_signed(self_signed, hostname)?,
    };
    tls::server_config(&certificate, &key)
        .map(Some)
        .map_err(|e| format!("listener {}: {e}", settings.name))
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A socket file that nobody listens on is left over from a crash.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    if let Ok(metadata) = std::fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(io::Error::other("something that is not a socket is there"));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::from(io::ErrorKind::AddrInUse));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

async fn accept_loop(
    acceptor: Acceptor,
    services: Services,
    settings: Arc<ArcSwap<Settings>>,
    tls: Arc<ArcSwapOption<ServerConfig>>,
    cancel: CancellationToken,
    tasks: TaskTracker,
) -> Acceptor {
    let open = Arc::new(AtomicUsize::new(0));
    let mut pause = Duration::from_millis(10);
    let (mut unsaid, mut quiet_until) = (0u64, None);
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.accept() => accepted,
            () = cancel.cancelled() => return acceptor,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: others may free some. Never exit, never spin.
                tracing::warn!(event = "accept-failed", listener = %settings.load().name, reason = %error);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
                continue;
            }
        };
        pause = Duration::from_millis(10);
        let settings = settings.load_full();
        let peer = peer.map(|p| canonical(p.ip()));
        let refusal = if peer.is_some_and(|ip| !settings.networks.iter().any(|n| n.contains(&ip))) {
            Some(Refusal::NotAllowed)
        } else if open.load(Ordering::Relaxed) >= settings.max_connections {
            Some(Refusal::TooManyConnections)
        } else if services.spool.store().has_failed() {
            Some(Refusal::StorageFailed)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            services.metrics.rejected("", refusal.reply().code);
            if quiet_until.is_some_and(|until| Instant::now() < until) {
                unsaid += 1;
            } else {
                // The first at once, then one line a second with their number.
                tracing::info!(event = "refused", listener = %settings.name, client = %peer.map(|p| p.to_string()).unwrap_or_default(), reply = %refusal.reply(), before = unsaid);
                (unsaid, quiet_until) = (0, Some(Instant::now() + Duration::from_secs(1)));
            }
            if settings.tls != TlsMode::Implicit {
                tasks.spawn(turn_away(socket, refusal.reply()));
            }
            continue;
        }
        let config = tls.load_full();
        open.fetch_add(1, Ordering::Relaxed);
        let guard = Counted(Arc::clone(&open));
        let services = services.clone();
        tasks.spawn(async move {
            let _guard = guard;
            serve(socket, services, settings, config, peer).await;
        });
    }
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn turn_away(mut socket: Socket, reply: Reply) {
    let mut out = Vec::new();
    reply.write_to(&mut out);
    let _ = timeout(Duration::from_secs(5), async {
        let _ = socket.write_all(&out).await;
        let _ = socket.shutdown().await;
    })
    .await;
}

async fn serve(
    socket: Socket,
    services: Services,
    settings: Arc<Settings>,
    tls: Option<Arc<ServerConfig>>,
    peer: Option<IpAddr>,
) {
    let challenges = services.now.load().directory.has_plain_secrets();
    let implicit = settings.tls == TlsMode::Implicit;
    let session = Box::new(Session::new(
        Arc::clone(&settings),
        services.instance.clone(),
        peer,
        implicit,
        challenges,
    ));
    let (socket, session, greet) = if implicit {
        (socket, session, true)
    } else {
        match Connection::new(socket, services.clone(), Arc::clone(&settings), peer)
            .serve(session, true)
            .await
        {
            End::Closed => return,
            End::StartTls(socket, mut session) => {
                session.encrypted();
                (socket, session, false)
            }
        }
    };
    let Some(config) = tls else { return };
    match timeout(handshake_limit(), TlsAcceptor::from(config).accept(socket)).await {
        Ok(Ok(stream)) => {
            let _ = Connection::new(stream, services, settings, peer)
                .serve(session, greet)
                .await;
        }
        Ok(Err(error)) => {
            tracing::info!(event = "tls-failed", listener = %settings.name, client = %peer.map(|p| p.to_string()).unwrap_or_default(), reason = %error)
        }
        Err(_) => {}
    }
}
