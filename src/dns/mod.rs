//! The name service: the one door to the resolver, and the records about mail that are kept there:
//! SPF, DKIM and DMARC, read strictly.
//!
//! What is looked up here is what the whole world sees: neither the hosts file nor search domains
//! are asked, for whoever receives our mail does not ask them either.

pub mod dkim;
pub mod dmarc;
pub mod spf;
pub mod tree;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup as Answer;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Refusal, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::time::timeout;

/// `IP:PORT[,IP:PORT]`: name servers instead of those of the machine, for tests and for machines
/// whose own tell lies.
pub const NAMESERVER_VARIABLE: &str = "POSTBOTE_NAMESERVER";

/// How long one query may take.
const QUERY_LIMIT: Duration = Duration::from_secs(5);
/// Tries after the first.
const AGAIN: usize = 1;
/// All tries of one look-up, with room for a truncated answer that is asked for again by TCP.
const LOOKUP_LIMIT: Duration = Duration::from_secs(11);
/// The port of a name server that is named without one.
const PORT: u16 = 53;

/// Why a look-up has no answer. That there is no such record is an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// Silence.
    #[error("the name service does not answer")]
    Timeout,
    /// No way to it.
    #[error("the name service cannot be reached ({0})")]
    Unreachable(String),
    /// SERVFAIL: it could not find out, or DNSSEC says that the answer is forged.
    #[error("the name service could not find out (SERVFAIL)")]
    ServFail,
    /// REFUSED.
    #[error("the name service refuses to answer (REFUSED)")]
    Refused,
    /// What is to be looked up is no name.
    #[error("{0:?} is not a name that can be looked up")]
    Name(String),
    /// No name server is known, or the variable is wrong.
    #[error("{0}")]
    Setup(String),
    /// Anything else.
    #[error("the name service gives an answer that cannot be used ({0})")]
    Other(String),
}

/// What SPF and DMARC ask. Without a record the answer is empty; aliases are followed.
pub trait Lookup: Sync {
    /// TXT records, the strings of each joined without a blank.
    fn txt(&self, name: &str) -> impl Future<Output = Result<Vec<String>, DnsError>> + Send;
    /// A and AAAA records.
    fn addresses(&self, name: &str) -> impl Future<Output = Result<Vec<IpAddr>, DnsError>> + Send;
    /// The hosts of MX records, best first.
    fn mx(&self, name: &str) -> impl Future<Output = Result<Vec<String>, DnsError>> + Send;
}

/// A resolver. Cheap to clone.
#[derive(Clone)]
pub struct Dns {
    /// Without one, every look-up says why.
    resolver: Result<TokioResolver, DnsError>,
    replaced: bool,
}

impl Dns {
    /// The name servers that [`NAMESERVER_VARIABLE`] names, else those of the machine.
    pub fn from_environment() -> Self {
        match std::env::var(NAMESERVER_VARIABLE) {
            Ok(text) if !text.trim().is_empty() => Self {
                resolver: named(&text),
                replaced: true,
            },
            Ok(_) | Err(_) => Self {
                resolver: of_machine(),
                replaced: false,
            },
        }
    }

    /// Whether other name servers than those of the machine are asked.
    pub fn is_replaced(&self) -> bool {
        self.replaced
    }

    async fn look_up(&self, name: &str, kind: RecordType) -> Result<Option<Answer>, DnsError> {
        let resolver = self.resolver.as_ref().map_err(DnsError::clone)?;
        let whole = format!("{}.", name.trim_end_matches('.'));
        let asked = Name::from_str_relaxed(&whole).map_err(|_| DnsError::Name(name.to_owned()))?;
        match timeout(LOOKUP_LIMIT, resolver.lookup(asked, kind)).await {
            Err(_) => Err(DnsError::Timeout),
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(error)) => refused(error),
        }
    }

    /// The data of all records of that kind.
    async fn records<T>(
        &self,
        name: &str,
        kind: RecordType,
        read: fn(&RData) -> Option<T>,
    ) -> Result<Vec<T>, DnsError> {
        let answer = self.look_up(name, kind).await?;
        let records = answer.as_ref().map(Answer::answers).unwrap_or_default();
        Ok(records.iter().filter_map(|r| read(&r.data)).collect())
    }
}

impl Lookup for Dns {
    async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let read = |data: &RData| match data {
            RData::TXT(txt) => {
                let parts = txt.txt_data.iter();
                let bytes: Vec<u8> = parts.flat_map(|part| part.iter().copied()).collect();
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            _ => None,
        };
        self.records(name, RecordType::TXT, read).await
    }

    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let read = |data: &RData| match data {
            RData::A(v4) => Some(IpAddr::V4(v4.0)),
            RData::AAAA(v6) => Some(IpAddr::V6(v6.0)),
            _ => None,
        };
        let (v4, v6) = tokio::join!(
            self.records(name, RecordType::A, read),
            self.records(name, RecordType::AAAA, read)
        );
        match (v4, v6) {
            (Ok(mut all), Ok(more)) => {
                all.extend(more);
                Ok(all)
            }
            // Half an answer serves, if there is something in it.
            (Ok(some), Err(_)) | (Err(_), Ok(some)) if !some.is_empty() => Ok(some),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn mx(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let read = |data: &RData| match data {
            RData::MX(mx) => {
                let host = mx.exchange.to_ascii().to_ascii_lowercase();
                Some((mx.preference, host.trim_end_matches('.').to_owned()))
            }
            _ => None,
        };
        let mut found = self.records(name, RecordType::MX, read).await?;
        found.sort();
        // A lone dot says that the domain takes no mail (RFC 7505).
        let hosts = found.into_iter().map(|(_, host)| host);
        Ok(hosts.filter(|host| !host.is_empty()).collect())
    }
}

fn refused(error: NetError) -> Result<Option<Answer>, DnsError> {
    match error {
        NetError::Dns(Refusal::NoRecordsFound(_)) => Ok(None),
        NetError::Timeout => Err(DnsError::Timeout),
        NetError::Io(error) => Err(DnsError::Unreachable(error.to_string())),
        NetError::NoConnections => Err(DnsError::Unreachable("no connection".to_owned())),
        NetError::Dns(Refusal::ResponseCode(ResponseCode::ServFail) | Refusal::DnssecBogus) => {
            Err(DnsError::ServFail)
        }
        NetError::Dns(Refusal::ResponseCode(ResponseCode::Refused)) => Err(DnsError::Refused),
        other => Err(DnsError::Other(other.to_string())),
    }
}

fn of_machine() -> Result<TokioResolver, DnsError> {
    let setup = |e: NetError| {
        DnsError::Setup(format!(
            "the name servers of this machine are not known: {e}"
        ))
    };
    let mut builder = TokioResolver::builder_tokio().map_err(setup)?;
    bound(builder.options_mut());
    builder.build().map_err(setup)
}

fn named(text: &str) -> Result<TokioResolver, DnsError> {
    let servers = servers(text)?.into_iter().map(|address| {
        let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
        udp.port = address.port();
        tcp.port = address.port();
        NameServerConfig::new(address.ip(), true, vec![udp, tcp])
    });
    let config = ResolverConfig::from_name_servers(servers.collect());
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    bound(builder.options_mut());
    builder
        .build()
        .map_err(|e| DnsError::Setup(format!("{NAMESERVER_VARIABLE}: {e}")))
}

fn bound(options: &mut ResolverOpts) {
    options.timeout = QUERY_LIMIT;
    options.attempts = AGAIN;
    options.use_hosts_file = ResolveHosts::Never;
}

fn servers(text: &str) -> Result<Vec<SocketAddr>, DnsError> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let alone = || part.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
            part.parse().or_else(|_| alone()).map_err(|_| {
                DnsError::Setup(format!(
                    "{NAMESERVER_VARIABLE}: found {part:?}; allowed: IP:PORT[,IP:PORT]"
                ))
            })
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod testing {
    //! A name service that says what a test wants.

    use std::collections::HashMap;
    use std::net::IpAddr;

    use super::{DnsError, Lookup};

    /// Answers by name and type. What is not there has no record; `!` fails.
    #[derive(Default)]
    pub(crate) struct Script(HashMap<(String, &'static str), Vec<String>>);

    impl Script {
        /// One of `name TYPE value`, a line each.
        pub(crate) fn new(lines: &[&str]) -> Self {
            let mut script = Self::default();
            for line in lines {
                let mut words = line.splitn(3, ' ');
                let name = words.next().unwrap_or("").to_owned();
                let kind = match words.next() {
                    Some("A") => "A",
                    Some("MX") => "MX",
                    Some("TXT") => "TXT",
                    other => panic!("no such type: {other:?} in {line}"),
                };
                let value = words.next().unwrap_or("").to_owned();
                script.0.entry((name, kind)).or_default().push(value);
            }
            script
        }

        fn get(&self, name: &str, kind: &'static str) -> Result<Vec<String>, DnsError> {
            let found = self.0.get(&(name.to_owned(), kind));
            let found = found.cloned().unwrap_or_default();
            if found.iter().any(|value| value == "!") {
                Err(DnsError::ServFail)
            } else {
                Ok(found)
            }
        }
    }

    impl Lookup for Script {
        async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError> {
            self.get(name, "TXT")
        }

        async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
            let found = self.get(name, "A")?;
            Ok(found.iter().map(|ip| ip.parse().expect("IP")).collect())
        }

        async fn mx(&self, name: &str) -> Result<Vec<String>, DnsError> {
            self.get(name, "MX")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_servers() {
        let text = |found: Result<Vec<SocketAddr>, DnsError>| {
            found.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(
            text(servers("127.0.0.1:5353, [::1]:53,")),
            Ok(vec!["127.0.0.1:5353".to_owned(), "[::1]:53".to_owned()])
        );
        assert_eq!(
            text(servers("192.0.2.1")),
            Ok(vec!["192.0.2.1:53".to_owned()])
        );
        for bad in ["ns.example", "127.0.0.1:99999", "127.0.0.1:53 ::1"] {
            assert!(servers(bad).is_err(), "{bad}");
        }
    }
}
