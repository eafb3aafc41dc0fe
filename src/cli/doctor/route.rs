//! The server of the route: its name, the way to it, what it offers, the login, the senders.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::report::{Check, Outcome, Report, dns_remedy, of_dns, quote};
use super::{Case, PATIENCE, api, encryption, senders};
use crate::dns::{Dns, DnsError, Lookup as _};
use crate::explain::Cause;
use crate::failure::{Class, Stage};
use crate::smtp::address::Address;
use crate::smtp::capabilities::Capabilities;
use crate::tenant::route::Route;
use crate::transport::smtp::{Authentication, Connection, Settings};
use crate::transport::{Failure as Failed, Upstream};

/// Ports on which servers take mail to be sent on.
const PORTS: [u16; 4] = [587, 465, 2525, 25];
/// How long each of them is waited for.
const PORT_LIMIT: Duration = Duration::from_secs(3);
/// Most addresses of a host that are looked at, as when mail is delivered.
const ADDRESSES: usize = 5;
/// Most senders that are tried at the server.
const SENDERS: usize = 30;

/// Where an address is, if not on the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locality {
    /// This very machine.
    Loopback,
    /// The same cable.
    Link,
    /// A network of one's own.
    Private,
}

/// Where an address is; `None`: on the internet.
pub fn locality(address: IpAddr) -> Option<Locality> {
    let address = address.to_canonical();
    let (link, private) = match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            // 100.64.0.0/10 (RFC 6598) is between a provider and its customers.
            let shared = a == 100 && (64..128).contains(&b);
            (v4.is_link_local(), v4.is_private() || shared)
        }
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.is_unique_local()),
    };
    if address.is_loopback() || address.is_unspecified() {
        Some(Locality::Loopback)
    } else if link {
        Some(Locality::Link)
    } else {
        private.then_some(Locality::Private)
    }
}

/// Host and port of a route's server.
pub fn endpoint(upstream: &Upstream) -> (String, u16) {
    let (host, port) = match upstream {
        Upstream::Smtp(settings) => (settings.host.as_str(), settings.port),
        Upstream::Graph(settings) => (settings.api_url.host(), settings.api_url.port()),
        Upstream::Gmail(settings) => (settings.api_url.host(), settings.api_url.port()),
        Upstream::Capture(_) => ("", 0),
    };
    (host.trim_matches(['[', ']']).to_owned(), port)
}

/// `host:port`, an IPv6 address in brackets.
pub fn subject(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Looks the server up, where the transport would; an address is its own answer.
async fn resolve(dns: &Dns, host: &str) -> Result<Vec<IpAddr>, DnsError> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    if dns.is_replaced() {
        return dns.addresses(host).await;
    }
    match timeout(PATIENCE.resolve, tokio::net::lookup_host((host, 0))).await {
        Err(_) => Err(DnsError::Timeout),
        Ok(Ok(found)) => {
            let mut all = Vec::new();
            for address in found.map(|address| address.ip()) {
                if !all.contains(&address) {
                    all.push(address);
                }
            }
            Ok(all)
        }
        Ok(Err(error)) => {
            let text = error.to_string();
            if text.contains("not known") || text.contains("No address associated") {
                Ok(Vec::new())
            } else {
                Err(DnsError::Other(text))
            }
        }
    }
}

/// The addresses of the route's server, and what is to be said of them.
pub async fn name(route: &Route, dns: &Dns, report: &Report) -> Vec<IpAddr> {
    let (language, (host, _)) = (report.language, endpoint(route.upstream()));
    report.begin(Check::Dns, &host);
    let whose = match route {
        Route::Own(_) => String::new(),
        Route::System { .. } => words!(language, "System-Relay. ", "System relay. "),
    };
    let mut addresses = match resolve(dns, &host).await {
        Ok(found) if found.is_empty() => {
            let meaning = Cause::NameNotFound.meaning();
            let text = format!("{whose}{}", meaning.cause.get(language));
            report.fail(Check::Dns, &host, text, meaning.remedy.get(language));
            return found;
        }
        Ok(found) => found,
        Err(error) => {
            let text = format!("{whose}{}", of_dns(language, &error));
            report.fail(Check::Dns, &host, text, dns_remedy(language));
            return Vec::new();
        }
    };
    addresses.truncate(ADDRESSES);
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let list = list.join(", ");
    let local = addresses.iter().find_map(|a| Some((*a, locality(*a)?)));
    let Some((address, locality)) = local else {
        report.ok(Check::Dns, &host, format!("{whose}{list}"));
        return addresses;
    };
    let text = match locality {
        Locality::Loopback => words!(
            language,
            "{whose}{list}. {address} ist dieser Rechner selbst.",
            "{whose}{list}. {address} is this very machine."
        ),
        Locality::Link => words!(
            language,
            "{whose}{list}. {address} gilt nur im selben Netzsegment (link-local).",
            "{whose}{list}. {address} is good only on the same cable (link-local)."
        ),
        Locality::Private => words!(
            language,
            "{whose}{list}. {address} ist eine Adresse im eigenen Netz, nicht im Internet.",
            "{whose}{list}. {address} is an address of a network of your own, not on the internet."
        ),
    };
    let remedy = words!(
        language,
        "Richtig, wenn der Mailserver dort steht. Ist es der eines Anbieters, prüfen Sie Hosts-Datei, Nameserver und Firewall dieses Rechners.",
        "Right if the mail server is there. If it is a provider's, check hosts file, name servers and firewall of this machine."
    );
    report.warn(Check::Dns, &host, text, remedy);
    addresses
}

/// With `[system] required` a tenant's own route carries mail only while the system relay answers.
pub async fn required_relay(upstream: &Upstream, dns: &Dns, report: &Report) {
    if matches!(upstream, Upstream::Capture(_)) {
        return;
    }
    let (language, (host, port)) = (report.language, endpoint(upstream));
    let subject = subject(&host, port);
    report.begin(Check::Connect, &subject);
    let why = match resolve(dns, &host).await {
        Err(error) => of_dns(language, &error),
        Ok(found) if found.is_empty() => {
            let meaning = Cause::NameNotFound.meaning();
            meaning.cause.get(language).to_owned()
        }
        Ok(found) => {
            let addresses = found.iter().take(ADDRESSES);
            let sockets: Vec<SocketAddr> = addresses.map(|a| SocketAddr::new(*a, port)).collect();
            let answers = reach_all(&sockets, PATIENCE.connect).await;
            let mut pairs = sockets.iter().zip(&answers);
            if let Some((socket, _)) = pairs.find(|(_, answer)| answer.is_ok()) {
                let address = socket.ip();
                let text = words!(
                    language,
                    "System-Relay, das der Betreiber verlangt ([system] required): {address} antwortet.",
                    "System relay, which the operator demands ([system] required): {address} answers."
                );
                report.ok(Check::Connect, &subject, text);
                return;
            }
            let cause = answers.iter().find_map(|answer| answer.err());
            let meaning = cause.unwrap_or(Cause::ConnectTimeout).meaning();
            meaning.cause.get(language).to_owned()
        }
    };
    let text = words!(
        language,
        "Das System-Relay, das der Betreiber verlangt ([system] required), ist nicht erreichbar; so lange wartet auch die Mail, die über den eigenen Weg ginge. {why}",
        "The system relay, which the operator demands ([system] required), cannot be reached; until it can, mail waits that would go by the tenant's own route, too. {why}"
    );
    let remedy = words!(
        language,
        "Der Betreiber prüft in postbote.toml [system.upstream] host und port, den Server dort und die Firewall, oder setzt bei [system] required = false.",
        "The operator checks host and port of [system.upstream] in postbote.toml, the server there and the firewall, or sets required = false in [system]."
    );
    report.fail(Check::Connect, &subject, text, remedy);
}

/// Looks at the server, as far as it has an address.
pub async fn examine(case: &Case<'_>, report: &Report) {
    if case.addresses.is_empty() {
        return;
    }
    match case.route.upstream().as_ref() {
        Upstream::Smtp(settings) => smtp(case, report, settings).await,
        Upstream::Graph(settings) => {
            api::examine(case, report, &settings.api_url, &settings.oauth).await;
        }
        Upstream::Gmail(settings) => {
            api::examine(case, report, &settings.api_url, &settings.oauth).await;
        }
        Upstream::Capture(_) => {}
    }
}

/// What a failure without a reply is about.
pub fn cause_of(failure: &Failed) -> Option<Cause> {
    let known = Cause::ALL.iter().copied();
    known
        .filter(|_| failure.reply.is_none())
        .find(|cause| cause.meaning() == failure.meaning)
}

/// One address that was tried.
pub struct Tried {
    /// Which.
    pub address: IpAddr,
    /// Why it did not answer.
    pub failed: Option<Cause>,
}

async fn reach(address: SocketAddr, limit: Duration) -> Result<(), Cause> {
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Err(_) => Err(Cause::ConnectTimeout),
        Ok(Err(error)) => Err(match error.kind() {
            ErrorKind::ConnectionRefused => Cause::ConnectRefused,
            ErrorKind::TimedOut => Cause::ConnectTimeout,
            _ => Cause::ConnectUnreachable,
        }),
    }
}

/// Tries many addresses at once; the answers in their order.
async fn reach_all(all: &[SocketAddr], limit: Duration) -> Vec<Result<(), Cause>> {
    let mut tasks = JoinSet::new();
    for (at, address) in all.iter().copied().enumerate() {
        tasks.spawn(async move { (at, reach(address, limit).await) });
    }
    let mut answers = vec![Err(Cause::ConnectTimeout); all.len()];
    while let Some(done) = tasks.join_next().await {
        if let Ok((at, answer)) = done {
            answers[at] = answer;
        }
    }
    answers
}

/// Which addresses answer. A lone one is not tried before the conversation itself tries it.
pub async fn tried(addresses: &[IpAddr], port: u16) -> Vec<Tried> {
    let sockets: Vec<SocketAddr> = addresses
        .iter()
        .map(|address| SocketAddr::new(*address, port))
        .collect();
    let answers = match sockets.len() {
        1 => vec![Ok(())],
        _ => reach_all(&sockets, PATIENCE.connect).await,
    };
    let pairs = addresses.iter().zip(answers);
    pairs
        .map(|(address, answer)| Tried {
            address: *address,
            failed: answer.err(),
        })
        .collect()
}

/// That the server answers, and what of its other addresses.
pub fn reached(report: &Report, subject: &str, tried: &[Tried], address: IpAddr) {
    let language = report.language;
    let mut text = words!(language, "{address} antwortet.", "{address} answers.");
    let silent: Vec<String> = tried
        .iter()
        .filter(|one| one.failed.is_some())
        .map(|one| one.address.to_string())
        .collect();
    if silent.is_empty() {
        report.ok(Check::Connect, subject, text);
        return;
    }
    let list = silent.join(", ");
    text.push_str(&words!(
        language,
        " Keine Verbindung zu {list}.",
        " No connection to {list}."
    ));
    // Many machines have no IPv6, and their mail is none the worse for it.
    if tried
        .iter()
        .all(|one| one.failed.is_none() || one.address.is_ipv6())
    {
        report.ok(Check::Connect, subject, text);
        return;
    }
    let remedy = words!(
        language,
        "Die Mail geht über die anderen Adressen; fragen Sie den Betreiber des Servers, ob {list} noch gilt.",
        "The mail goes by the other addresses; ask the operator of the server whether {list} is still right."
    );
    report.warn(Check::Connect, subject, text, remedy);
}

/// That nothing answers, and whether another of the usual ports does.
async fn unreachable(
    case: &Case<'_>,
    report: &Report,
    subject: &str,
    settings: &Settings,
    cause: Cause,
    detail: &str,
) {
    let language = report.language;
    let meaning = cause.meaning();
    let mut text = meaning.cause.get(language).to_owned();
    if !detail.is_empty() {
        text.push_str(&format!(" ({})", quote(detail)));
    }
    let others: Vec<u16> = PORTS
        .into_iter()
        .filter(|port| *port != settings.port)
        .collect();
    let sockets: Vec<SocketAddr> = others
        .iter()
        .filter_map(|port| Some(SocketAddr::new(*case.addresses.first()?, *port)))
        .collect();
    let answers = reach_all(&sockets, PORT_LIMIT).await;
    let open: Vec<u16> = others
        .iter()
        .zip(answers)
        .filter(|(_, answer)| answer.is_ok())
        .map(|(port, _)| *port)
        .collect();
    let Some(best) = open.first() else {
        report.fail(Check::Connect, subject, text, meaning.remedy.get(language));
        return;
    };
    for port in &open {
        text.push_str(&words!(
            language,
            " Port {port} antwortet.",
            " Port {port} answers."
        ));
    }
    let word = if *best == 465 { "tls" } else { "starttls" };
    let mut remedy = words!(
        language,
        "Setzen Sie [upstream] encryption = \"{word}\", port = {best}.",
        "Set [upstream] encryption = \"{word}\", port = {best}."
    );
    if *best == 25 {
        remedy.push_str(&words!(
            language,
            " Port 25 ist auf vielen Leitungen gesperrt und selten für die Einlieferung gedacht; besser nennt der Betreiber einen anderen.",
            " Port 25 is blocked for many lines and seldom meant for submission; better have the operator name another."
        ));
    }
    report.fail(Check::Connect, subject, text, remedy);
}

async fn smtp(case: &Case<'_>, report: &Report, settings: &Settings) {
    let (host, port) = endpoint(case.route.upstream());
    let subject = subject(&host, port);
    report.begin(Check::Connect, &subject);
    let tried = tried(case.addresses, port).await;
    let Some(address) = answering(&tried) else {
        let cause = tried.first().and_then(|one| one.failed);
        let cause = cause.unwrap_or(Cause::ConnectTimeout);
        unreachable(case, report, &subject, settings, cause, "").await;
        return;
    };
    let opened = encryption::open(case, settings, address).await;
    match &opened {
        Err(failure) if failure.stage <= Stage::Connect => {
            let cause = cause_of(failure).unwrap_or(Cause::ConnectUnreachable);
            unreachable(case, report, &subject, settings, cause, &failure.detail).await;
            return;
        }
        Err(failure)
            if failure.stage == Stage::Hello
                && cause_of(failure) != Some(Cause::TlsOnPlainPort) =>
        {
            let (text, remedy) = case.explained(report, failure);
            report.fail(Check::Connect, &subject, text, remedy);
            return;
        }
        Ok(_) | Err(_) => reached(report, &subject, &tried, address),
    }
    let place = encryption::Place {
        subject: &subject,
        address,
    };
    let Some(connection) = encryption::examine(case, report, settings, &place, opened).await else {
        return;
    };
    let limit = case.config.server.max_message_size;
    capabilities(report, &subject, &connection.capabilities, limit);
    let offered = connection.capabilities.auth.clone();
    connection.quit().await;
    if let Some(connection) = login(case, report, settings, &place, &offered).await {
        try_senders(case, report, settings, address, connection).await;
    }
}

/// The first address that answers.
pub fn answering(tried: &[Tried]) -> Option<IpAddr> {
    let mut all = tried.iter();
    all.find(|one| one.failed.is_none()).map(|one| one.address)
}

fn capabilities(report: &Report, subject: &str, found: &Capabilities, limit: u64) {
    report.begin(Check::Capabilities, subject);
    let language = report.language;
    let all = [
        ("PIPELINING", found.pipelining),
        ("8BITMIME", found.eight_bit_mime),
        ("SMTPUTF8", found.smtputf8),
        ("DSN", found.dsn),
    ];
    let of = |there: bool| -> String {
        let names = all
            .iter()
            .filter(|(_, is)| *is == there)
            .map(|(name, _)| *name);
        names.collect::<Vec<_>>().join(", ")
    };
    let mut parts = Vec::new();
    if let Some(size) = found.size {
        parts.push(format!("SIZE {size}"));
    }
    parts.extend(Some(of(true)).filter(|list| !list.is_empty()));
    let mut text = if parts.is_empty() {
        words!(language, "Keine Erweiterungen.", "No extensions.")
    } else {
        format!("{}.", parts.join(", "))
    };
    let lacking = of(false);
    if !lacking.is_empty() {
        text.push_str(&words!(
            language,
            " Nicht angeboten: {lacking}; Postbote richtet sich danach.",
            " Not offered: {lacking}; Postbote goes by that."
        ));
    }
    let Some(size) = found.size.filter(|size| *size < limit) else {
        report.ok(Check::Capabilities, subject, text);
        return;
    };
    text.push_str(&words!(
        language,
        " Der Server nimmt Mail bis {size} Bytes, Postbote bis {limit}: Größere wird gleich bei der Annahme mit 552 5.3.4 abgewiesen, sobald Postbote diese Grenze von einer ersten Verbindung kennt.",
        " The server takes mail up to {size} octets, Postbote up to {limit}: larger mail is refused at once with 552 5.3.4, as soon as Postbote knows this limit from a first connection."
    ));
    let remedy = words!(
        language,
        "Der Betreiber setzt in postbote.toml [server] max_message_size auf höchstens {size}, oder der Anbieter hebt seine Grenze an.",
        "The operator sets [server] max_message_size in postbote.toml to at most {size}, or the provider raises its limit."
    );
    report.warn(Check::Capabilities, subject, text, remedy);
}

/// Ways to log in that we do not know, and that stand alone on servers of Microsoft Exchange.
const FOREIGN: [&str; 4] = ["NTLM", "GSSAPI", "GSS-SPNEGO", "KERBEROS_V4"];

/// Logs in as when mail is delivered. Gives the conversation, with the login or, where none is
/// configured, without.
async fn login(
    case: &Case<'_>,
    report: &Report,
    settings: &Settings,
    place: &encryption::Place<'_>,
    offered: &[String],
) -> Option<Connection> {
    let (language, subject) = (report.language, place.subject);
    report.begin(Check::Authentication, subject);
    let offer = quote(&offered.join(" "));
    let offer = if offered.is_empty() {
        words!(language, "keine Anmeldung", "no login")
    } else {
        format!("AUTH {offer}")
    };
    let by_password =
        settings.username.is_some() && settings.authentication != Authentication::None;
    let is_foreign = |word: &String| FOREIGN.contains(&word.as_str());
    if settings.oauth.is_none() && !by_password {
        without_login(report, settings, place, &offer);
    } else if !offered.is_empty() && offered.iter().all(is_foreign) {
        let text = words!(
            language,
            "Der Server bietet nur {offer} an; NTLM und Kerberos kann Postbote nicht.",
            "The server offers nothing but {offer}; Postbote knows neither NTLM nor Kerberos."
        );
        let remedy = words!(
            language,
            "Lassen Sie am Server die Anmeldung mit Benutzername und Passwort über TLS zu (Exchange: am Empfangsconnector „Standardauthentifizierung“ erst nach TLS), oder nehmen Sie einen Connector, der diesen Rechner an seiner Adresse erkennt (authentication = \"none\").",
            "Allow login by user name and password over TLS at the server (Exchange: \"Basic authentication\" after TLS at the receive connector), or use a connector that knows this machine by its address (authentication = \"none\")."
        );
        report.fail(Check::Authentication, subject, text, remedy);
        return None;
    }
    let mut ends = None;
    if let Some(oauth) = &settings.oauth {
        ends = Some(api::token(case, report, oauth, subject).await?);
    }
    match Connection::open_at(settings, case.context, Some(place.address)).await {
        Ok(connection) => {
            if let Some(who) = account(settings).filter(|_| ends.is_some() || by_password) {
                let how = mechanism(case);
                let mut text = words!(
                    language,
                    "Als {who} angemeldet ({how}); angeboten: {offer}.",
                    "Logged in as {who} ({how}); offered: {offer}."
                );
                text.push_str(&ends.unwrap_or_default());
                report.ok(Check::Authentication, subject, text);
            }
            Some(connection)
        }
        Err(failure) => {
            let (text, remedy) = case.explained(report, &failure);
            let text = words!(
                language,
                "{text} Angeboten: {offer}.",
                "{text} Offered: {offer}."
            );
            report.fail(Check::Authentication, subject, text, remedy);
            None
        }
    }
}

fn without_login(report: &Report, settings: &Settings, place: &encryption::Place<'_>, offer: &str) {
    let (language, subject) = (report.language, place.subject);
    let text = words!(
        language,
        "Keine Anmeldung eingestellt; der Server bietet an: {offer}.",
        "No login is configured; the server offers: {offer}."
    );
    if settings.is_loopback() || place.address.is_loopback() {
        report.ok(Check::Authentication, subject, text);
        return;
    }
    let remedy = words!(
        language,
        "Der Server muss diesen Rechner an seiner Adresse erkennen. Wenn nicht, tragen Sie bei [upstream] username und password ein.",
        "The server has to know this machine by its address. If it does not, add username and password to [upstream]."
    );
    report.warn(Check::Authentication, subject, text, remedy);
}

/// Who logs in.
fn account(settings: &Settings) -> Option<String> {
    let by_token = settings.oauth.as_ref().map(|oauth| quote(&oauth.mailbox));
    by_token.or_else(|| settings.username.as_deref().map(quote))
}

/// By which mechanism the last login went.
fn mechanism(case: &Case<'_>) -> String {
    let lines = case.context.net.transcript.lines();
    let said = lines.iter().rev().find_map(|l| l.strip_prefix("C: AUTH "));
    let word = said.and_then(|words| words.split(' ').next());
    quote(word.unwrap_or("-"))
}

/// Whether the server lets each address send, the login's own first.
async fn try_senders(
    case: &Case<'_>,
    report: &Report,
    settings: &Settings,
    at: IpAddr,
    mut connection: Connection,
) {
    let language = report.language;
    let own = match &settings.oauth {
        Some(oauth) => Some(oauth.mailbox.as_str()),
        None => settings.username.as_deref(),
    };
    let own = own.and_then(|login| Address::parse(login).ok());
    let mut all: Vec<Address> = own.into_iter().collect();
    for address in senders::return_paths(case) {
        if !all.iter().any(|known| known.same_permission(&address)) {
            all.push(address);
        }
    }
    for sender in all.iter().take(SENDERS) {
        let name = sender.as_str();
        report.begin(Check::Sender, name);
        let mut answer = connection.mail_from_allowed(sender).await;
        if answer.as_ref().is_err_and(is_lost) {
            // Some hang up after a refusal; that says nothing about the next sender.
            match Connection::open_at(settings, case.context, Some(at)).await {
                Ok(fresh) => {
                    connection = fresh;
                    answer = connection.mail_from_allowed(sender).await;
                }
                Err(failure) => answer = Err(failure),
            }
        }
        let Err(failure) = answer else {
            let text = words!(
                language,
                "Der Server nimmt diesen Absender an (MAIL FROM). Manche weisen ihn erst beim Empfänger ab; Gewissheit gibt postbote test.",
                "The server takes this sender (MAIL FROM). Some refuse it only with the recipient; postbote test makes sure."
            );
            report.ok(Check::Sender, name, text);
            continue;
        };
        let (text, remedy) = case.explained(report, &failure);
        let outcome = match (&failure.reply, failure.class) {
            (Some(reply), _) if reply.is_permanent() => Outcome::Failed,
            (None, Class::Permanent | Class::Sender | Class::Suspend) => Outcome::Failed,
            (Some(_) | None, _) => Outcome::Warning,
        };
        report.push(Check::Sender, name, outcome, &text, &remedy);
    }
    connection.quit().await;
    let more = all.len().saturating_sub(SENDERS);
    if more > 0 {
        not_tried(report, case.tenant.id.as_str(), more);
    }
}

fn not_tried(report: &Report, id: &str, more: usize) {
    let language = report.language;
    let text = words!(
        language,
        "{more} weitere Absender wurden nicht probiert, um den Server nicht zu reizen.",
        "{more} more senders were not tried, so as not to provoke the server."
    );
    let remedy = words!(
        language,
        "Einen einzelnen prüft: postbote test {id} --from ADRESSE --to EMPFÄNGER",
        "A single one is tried by: postbote test {id} --from ADDRESS --to RECIPIENT"
    );
    report.warn(Check::Sender, id, text, remedy);
}

/// Whether the conversation is over.
fn is_lost(failure: &Failed) -> bool {
    match &failure.reply {
        Some(reply) => reply.code == 421,
        None => matches!(
            cause_of(failure),
            Some(Cause::ConnectionLost | Cause::Timeout | Cause::ProtocolError)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_addresses_are() {
        for (address, expected) in [
            ("127.0.0.1", Some(Locality::Loopback)),
            ("::1", Some(Locality::Loopback)),
            ("::ffff:127.0.0.1", Some(Locality::Loopback)),
            ("0.0.0.0", Some(Locality::Loopback)),
            ("169.254.1.1", Some(Locality::Link)),
            ("fe80::1", Some(Locality::Link)),
            ("10.0.0.1", Some(Locality::Private)),
            ("172.31.255.255", Some(Locality::Private)),
            ("192.168.1.1", Some(Locality::Private)),
            ("100.100.0.1", Some(Locality::Private)),
            ("fd00::1", Some(Locality::Private)),
            ("172.32.0.1", None),
            ("100.128.0.1", None),
            ("203.0.113.7", None),
            ("2001:db8::1", None),
        ] {
            let parsed = address.parse().expect(address);
            assert_eq!(locality(parsed), expected, "{address}");
        }
        assert_eq!(subject("smtp.acme.example", 587), "smtp.acme.example:587");
        assert_eq!(subject("::1", 25), "[::1]:25");
    }
}
