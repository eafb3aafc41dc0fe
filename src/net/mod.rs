//! Sockets towards servers: names, connections, TLS, and what is recorded of them. What SMTP and
//! HTTP do alike, and nothing of either.

pub mod stream;
pub mod tls;
pub mod transcript;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::explain::Cause;
use crate::failure::Stage;
use stream::Stream;
use transcript::Transcript;

/// Most addresses of a host that are tried.
const ADDRESSES_LIMIT: usize = 5;

/// How long each step to a server may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Name look-up.
    pub resolve: Duration,
    /// TCP connection, each address.
    pub connect: Duration,
    /// TLS handshake.
    pub handshake: Duration,
}

/// What every way to a server needs.
#[derive(Clone, Default)]
pub struct Net {
    /// The machine's certificate authorities, read at the first need.
    pub roots: Arc<OnceLock<rustls::RootCertStore>>,
    /// Records the dialogue.
    pub transcript: Transcript,
}

/// Why there is no connection.
#[derive(Debug, Clone)]
pub struct NetError {
    /// What it is.
    pub cause: Cause,
    /// Resolve, connect or TLS.
    pub stage: Stage,
    /// More to it.
    pub detail: String,
}

impl NetError {
    fn new(cause: Cause, stage: Stage, detail: impl Into<String>) -> Self {
        Self {
            cause,
            stage,
            detail: detail.into(),
        }
    }
}

/// Opens a TCP connection to the first address that takes one.
pub async fn connect(
    host: &str,
    port: u16,
    patience: Patience,
    transcript: &Transcript,
) -> Result<TcpStream, NetError> {
    transcript.push("--", &format!("connecting to {host}:{port}"));
    let lookup = timeout(
        patience.resolve,
        tokio::net::lookup_host((host.trim_matches(['[', ']']), port)),
    )
    .await;
    let addresses: Vec<SocketAddr> = match lookup {
        Err(_) => {
            return Err(NetError::new(
                Cause::NameLookupFailed,
                Stage::Resolve,
                "the name service does not answer",
            ));
        }
        Ok(Err(error)) => {
            let text = error.to_string();
            let unknown = text.contains("not known") || text.contains("No address associated");
            let cause = if unknown {
                Cause::NameNotFound
            } else {
                Cause::NameLookupFailed
            };
            return Err(NetError::new(
                cause,
                Stage::Resolve,
                format!("the name {host} cannot be resolved: {text}"),
            ));
        }
        Ok(Ok(found)) => found.take(ADDRESSES_LIMIT).collect(),
    };
    let mut last = NetError::new(
        Cause::NameNotFound,
        Stage::Resolve,
        format!("the name {host} has no address"),
    );
    for address in addresses {
        match timeout(patience.connect, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                transcript.push("--", &format!("connected to {address}"));
                return Ok(stream);
            }
            Ok(Err(error)) => {
                let cause = match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => Cause::ConnectRefused,
                    std::io::ErrorKind::TimedOut => Cause::ConnectTimeout,
                    _ => Cause::ConnectUnreachable,
                };
                last = NetError::new(
                    cause,
                    Stage::Connect,
                    format!("connect to {address}: {error}"),
                );
            }
            Err(_) => {
                last = NetError::new(
                    Cause::ConnectTimeout,
                    Stage::Connect,
                    format!("connect to {address}: no answer"),
                );
            }
        }
        transcript.push("--", &last.detail);
    }
    Err(last)
}

/// Starts TLS on a connection to `host`.
pub async fn handshake(
    config: Arc<rustls::ClientConfig>,
    host: &str,
    socket: TcpStream,
    patience: Patience,
    transcript: &Transcript,
) -> Result<TlsStream<TcpStream>, NetError> {
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|e| NetError::new(Cause::CertificateWrongName, Stage::Tls, e.to_string()))?;
    let outcome = timeout(
        patience.handshake,
        TlsConnector::from(config).connect(name, socket),
    )
    .await;
    let stream = match outcome {
        Err(_) => {
            return Err(NetError::new(
                Cause::TlsHandshake,
                Stage::Tls,
                "the TLS handshake took too long",
            ));
        }
        Ok(Err(error)) => {
            let cause = tls::cause_of(&error);
            return Err(NetError::new(
                cause,
                Stage::Tls,
                tls::words_of(&error, cause),
            ));
        }
        Ok(Ok(stream)) => stream,
    };
    let session = stream.get_ref().1;
    transcript.push(
        "--",
        &format!(
            "TLS {:?} {:?}",
            session.protocol_version(),
            session.negotiated_cipher_suite().map(|s| s.suite())
        ),
    );
    Ok(stream)
}

/// The SHA-256 of the key that a server has shown.
pub fn server_key(stream: &TlsStream<TcpStream>) -> Option<[u8; 32]> {
    let chain = stream.get_ref().1.peer_certificates()?;
    chain.first().map(tls::key_hash)
}

impl From<TlsStream<TcpStream>> for Stream {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Stream::Tls(Box::new(stream))
    }
}
