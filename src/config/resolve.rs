//! From documents to settings: every value typed, every rule between values checked, all problems
//! together.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::document::{Document, Section};
use super::oauth::Owner;
use super::upstream::upstream;
use super::{Admin, Config, Language, Outcome, Problem, Sending, Server, Severity, Store, schema};
use crate::delivery::{self, Uncertain};
use crate::message::TenantId;
use crate::prepare::dkim::{SigningKey, When};
use crate::smtp::address::{Address, ascii_domain};
use crate::smtp::data::BareNewline;
use crate::submission::{self, Answer, AuthMode, ListenAddress, PlaintextAuth, TlsMode};
use crate::tenant::directory::Directory;
use crate::tenant::{
    ApplicationFrom, Group, Policy, ReplyTo, SenderPattern, SenderRules, System, SystemSender,
    Tenant, User,
};
use crate::vault::{KeySource, SecretRef};

const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// Secrets with the place that needs them.
pub(super) type Needs = Vec<(String, SecretRef)>;

pub(super) fn load(path: &Path) -> Outcome {
    let mut problems = Vec::new();
    let config = match Document::read(path) {
        Ok(document) => Some(read_all(&document, &mut problems)),
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    problems.sort_by(|a, b| (a.severity, &a.file, a.line).cmp(&(b.severity, &b.file, b.line)));
    let usable = !problems.iter().any(|p| p.severity == Severity::Error);
    let (config, partial) = if usable {
        (config, None)
    } else {
        (None, config)
    };
    Outcome {
        partial,
        config,
        problems,
    }
}

fn read_all(document: &Document, problems: &mut Vec<Problem>) -> Config {
    let table = document.parse();
    let root = document.root(table.get_ref(), schema::OPERATOR);
    let mut needs = Needs::new();
    let server = server(&root.section("server"));
    let default_policy = policy(&root.section("tenant_defaults"), Policy::default());
    let mut policies = BTreeMap::new();
    for (name, section) in root.named_sections("tenants") {
        policies.insert(name, policy(&section, default_policy));
    }
    let system_section = root.section("system");
    let system = system_section
        .is_present()
        .then(|| system(&system_section, &server, &mut needs))
        .flatten();
    let known: std::collections::HashSet<String> =
        tenant_files(&server.tenants_dir, &mut Vec::new())
            .into_iter()
            .map(|(id, _)| id.to_string())
            .collect();
    let listeners = listeners(&root, &known);
    if listeners.is_empty() && !root.has("listener") {
        root.warn_table(
            "there is no [[listener]]: nothing can hand in mail but `postbote sendmail`",
        );
    }
    let admin = admin(&root.section("admin"), &mut needs);
    let support = super::senders::support(&root.section("support"));
    let retry = retry(&root.section("retry"));
    let duplicates = root
        .section("duplicates")
        .duration("window", Duration::from_secs(600));
    let history = root
        .section("history")
        .duration("keep", Duration::from_secs(30 * 86_400));
    let _: Store = root.section("spool").choice("store", Store::Embedded);
    let vault_key = match root.section("vault").secret("key") {
        Some(SecretRef::Vault(_)) => {
            root.section("vault").reject(
                "key",
                "{ file = … }, { credential = … } or { env = … }",
                "the vault's own key cannot stand in the vault",
            );
            KeySource::DataDirectory
        }
        Some(reference) => KeySource::Configured(reference),
        None => KeySource::DataDirectory,
    };

    // Taken before the tenants' files are read: what changes meanwhile is read again.
    let stamp = super::stamp(document.path(), &server.tenants_dir);
    let mut fingerprints = BTreeMap::new();
    let mut tenants: Vec<Arc<Tenant>> = Vec::new();
    let mut unique = Unique::default();
    for (id, path) in tenant_files(&server.tenants_dir, problems) {
        let document = match Document::read(&path) {
            Ok(document) => document,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        fingerprints.insert(id.clone(), hash(document.text()));
        let policy = policies.get(id.as_str()).copied().unwrap_or(default_policy);
        if let Some(tenant) = tenant(&document, id, policy, &server, &mut unique, &mut needs) {
            tenants.push(Arc::new(tenant));
        }
        warn_if_exposed(&document, problems);
        warn_if_foreign(&document, problems);
        problems.extend(document.take_problems());
    }
    let known = |name: &str| tenants.iter().any(|t| t.id.as_str() == name);
    for (name, section) in root.named_sections("tenants") {
        if !known(&name) {
            section.warn_table(format!(
                "there is no tenant {name} in {}",
                server.tenants_dir.display()
            ));
        }
    }
    if system_section.bool("required", false) && !system_section.section_present("upstream") {
        system_section.reject(
            "required",
            "true only with [system.upstream]",
            "configure the system relay or set required = false",
        );
    }
    let relay = system.as_ref().is_some_and(|s| s.upstream.is_some());
    if !relay
        && root.section("tenant_defaults").has("system_relay")
        && default_policy.system_relay != crate::tenant::SystemRelay::Never
    {
        root.section("tenant_defaults").warn(
            "system_relay",
            "there is no [system.upstream], so there is no relay to use",
        );
    }
    if document.text().trim().is_empty() {
        problems.push(Problem::of_file(
            document.path(),
            "an empty file",
            "write the configuration; begin with one of config/examples/",
        ));
    }
    if listeners
        .iter()
        .any(|l| matches!(l.address, ListenAddress::Tcp(a) if a == admin.address && a.port() != 0))
    {
        root.section("admin").reject(
            "address",
            "an address that no listener has",
            "change one of the two",
        );
    }
    for (place, secret) in &needs {
        warn_if_readable(place, secret, problems);
    }
    for listener in &listeners {
        if let Some((_, key)) = &listener.certificate {
            warn_if_readable(
                "the key of a listener",
                &SecretRef::File(key.clone()),
                problems,
            );
        }
    }
    warn_if_exposed(document, problems);
    warn_if_foreign(document, problems);
    let mut operator_problems = document.take_problems();
    operator_problems.dedup();
    problems.extend(operator_problems);
    Config {
        path: document.path().to_owned(),
        stamp,
        server,
        listeners,
        admin,
        directory: Arc::new(Directory::new(tenants, system.map(Arc::new), support)),
        common_fingerprint: hash(document.text()),
        fingerprints,
        retry,
        duplicates,
        history,
        vault_key,
        secrets: needs,
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// A file with secrets in plain text that others may read.
fn warn_if_exposed(document: &Document, problems: &mut Vec<Problem>) {
    let Ok(metadata) = std::fs::metadata(document.path()) else {
        return;
    };
    let plain = document.has_plain_secret();
    if plain && metadata.permissions().mode() & 0o004 != 0 {
        problems.push(Problem {
            severity: Severity::Warning,
            ..Problem::of_file(
                document.path(),
                format!(
                    "mode {:03o}: everybody on this machine can read the secrets in it",
                    metadata.permissions().mode() & 0o777
                ),
                format!("run: chmod o-rwx {}", document.path().display()),
            )
        });
    }
}

/// A file that somebody else may change decides where mail goes.
fn warn_if_foreign(document: &Document, problems: &mut Vec<Problem>) {
    let path = document.path();
    let ours = rustix::process::geteuid().as_raw();
    let mut warn = |found: String, hint: String| {
        problems.push(Problem {
            severity: Severity::Warning,
            ..Problem::of_file(path, found, hint)
        });
    };
    if let Ok(metadata) = std::fs::metadata(path)
        && metadata.uid() != ours
        && metadata.uid() != 0
    {
        warn(
            format!(
                "that it belongs to user {}, who may change it",
                metadata.uid()
            ),
            format!("run: chown {ours} {}", path.display()),
        );
    }
    let directory = document.directory();
    // With the sticky bit nobody can replace another's file.
    if std::fs::metadata(&directory).is_ok_and(|m| m.mode() & 0o1002 == 0o002) {
        warn(
            format!(
                "that everybody may replace it: the directory {} is writable for all",
                directory.display()
            ),
            format!("run: chmod o-w {}", directory.display()),
        );
    }
}

/// A file with a secret that everybody on the machine may read.
fn warn_if_readable(place: &str, secret: &SecretRef, problems: &mut Vec<Problem>) {
    let SecretRef::File(path) = secret else {
        return;
    };
    if std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o004 != 0)
        && !path.components().any(|c| c.as_os_str() == "demo")
    {
        problems.push(Problem {
            severity: Severity::Warning,
            ..Problem::of_file(
                path,
                format!("that everybody on this machine can read it ({place})"),
                format!("run: chmod o-rwx {}", path.display()),
            )
        });
    }
}

fn tenant_files(directory: &Path, problems: &mut Vec<Problem>) -> Vec<(TenantId, PathBuf)> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return found,
        Err(error) => {
            problems.push(Problem::of_file(
                directory,
                format!("that the directory cannot be read ({error})"),
                "check its owner and mode",
            ));
            return found;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = name
            .strip_suffix(".toml")
            .filter(|_| !name.starts_with('.'))
        else {
            continue;
        };
        match TenantId::parse(stem) {
            Some(id) => found.push((id, path)),
            None => problems.push(Problem::of_file(&path, format!("the name {stem:?}"), "a tenant's file is named by its id: letters a-z, digits and -, at most 63, and .toml")),
        }
    }
    found.sort();
    found
}

fn server(section: &Section<'_>) -> Server {
    let directory = section.document().directory();
    let hostname = section.text("hostname").unwrap_or_else(machine_name);
    let hostname = match ascii_domain(hostname.trim()) {
        Some(name) => name,
        None => {
            section.reject(
                "hostname",
                "a host name such as \"kasse.example.net\"",
                "use letters, digits, - and .",
            );
            "localhost".to_owned()
        }
    };
    Server {
        hostname,
        data_dir: section
            .path("data_dir")
            .unwrap_or_else(|| PathBuf::from("/var/lib/postbote")),
        tenants_dir: section
            .path("tenants_dir")
            .unwrap_or_else(|| directory.join("tenants")),
        language: section.choice("language", Language::De),
        sending: section.choice("sending", Sending::On),
        max_message_size: at_least(
            section,
            "max_message_size",
            section.size("max_message_size", 50 << 20),
            1024,
        ),
        max_recipients: section.integer("max_recipients", 500) as usize,
        spool_limit: at_least(
            section,
            "spool_limit",
            section.size("spool_limit", 2 << 30),
            1024,
        ),
        drain: section.duration("drain", Duration::from_secs(30)),
    }
}

/// A size that makes no sense below some octets.
fn at_least(section: &Section<'_>, key: &str, size: u64, least: u64) -> u64 {
    if size < least {
        section.reject(key, format!("at least {least}B"), "write a larger size");
    }
    size.max(least)
}

fn machine_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if ascii_domain(&name).is_some() {
        name
    } else {
        "localhost".to_owned()
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map(|net| mapped(net).trunc())
        .map_err(|_| "write an address with its prefix length".to_owned())
}

/// An IPv4 network in IPv6 clothes is the same network.
fn mapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(length)) => ipnet::Ipv4Net::new(v4, length).map_or(net, IpNet::V4),
        _ => net,
    }
}

fn listeners(
    root: &Section<'_>,
    known: &std::collections::HashSet<String>,
) -> Vec<submission::Settings> {
    let mut found: Vec<submission::Settings> = Vec::new();
    for section in root.sections("listener") {
        let text = section.required_text("address");
        let address = text
            .as_deref()
            .and_then(|text| ListenAddress::parse(text, &section.document().directory()));
        if text.is_some() && address.is_none() {
            section.reject(
                "address",
                "\"IP:port\", \"unix:/path\" or \"systemd:NAME\"",
                "for example \"127.0.0.1:2525\"",
            );
        }
        let name = section.text("name").or(text).unwrap_or_default();
        let same_port = |l: &submission::Settings| {
            Some(&l.address) == address.as_ref()
                && !matches!(l.address, ListenAddress::Tcp(a) if a.port() == 0)
        };
        if found.iter().any(|l| l.name == name) {
            let key = if section.has("name") {
                "name"
            } else {
                "address"
            };
            section.reject(
                key,
                "a name that no other listener has",
                "rename one of the two",
            );
        } else if found.iter().any(same_port) {
            section.reject(
                "address",
                "an address that no other listener has",
                "change one of the two",
            );
        }
        let named_networks = section.has("networks");
        let mut networks = section.list("networks", network);
        if !named_networks {
            networks = LOOPBACK.iter().filter_map(|n| n.parse().ok()).collect();
        }
        let bare_newline = section.choice("bare_newline", BareNewline::Normalize);
        if bare_newline == BareNewline::Legacy && !named_networks {
            section.reject(
                "bare_newline",
                "legacy only with networks",
                "name the clients that need it in networks",
            );
        } else if bare_newline == BareNewline::Legacy {
            section.warn(
                "bare_newline",
                "clients of this listener may end a message with LF . LF: a way to smuggle mail; only for devices that cannot do otherwise",
            );
        }
        let certificate = match (section.path("certificate"), section.path("key")) {
            (Some(certificate), Some(key)) => {
                if let Err(reason) = submission::tls::check_pair(&certificate, &key) {
                    section.reject(
                        "certificate",
                        "a PEM certificate chain with its key in `key`",
                        reason,
                    );
                }
                Some((certificate, key))
            }
            (None, None) => None,
            (Some(_), None) => {
                section.reject(
                    "certificate",
                    "certificate and key together",
                    "add key = \"…\"",
                );
                None
            }
            (None, Some(_)) => {
                section.reject(
                    "key",
                    "certificate and key together",
                    "add certificate = \"…\"",
                );
                None
            }
        };
        let tls = section.choice("tls", TlsMode::Starttls);
        let auth = section.choice("auth", AuthMode::Optional);
        let plaintext_auth = section.choice("plaintext_auth", PlaintextAuth::Loopback);
        if auth == AuthMode::Required
            && tls == TlsMode::None
            && plaintext_auth == PlaintextAuth::Never
        {
            section.reject(
                "auth",
                "required only where a login is possible",
                "set tls = \"starttls\", or plaintext_auth = \"loopback\"",
            );
        }
        if plaintext_auth == PlaintextAuth::Always {
            section.warn("plaintext_auth", "passwords can be read on the network; use tls = \"starttls\" where the applications can");
        }
        if networks.iter().any(|n| n.prefix_len() == 0) && section.has("tenant") {
            section.warn("networks", "everybody who reaches this listener may send as its tenant: an open relay; name the networks of the applications");
        }
        let tenant = section.text("tenant");
        if let Some(id) = tenant.as_deref().filter(|id| !known.contains(*id)) {
            section.reject(
                "tenant",
                "the id of a tenant",
                format!("there is no tenant {id}"),
            );
        }
        let settings = submission::Settings {
            name,
            address: address
                .clone()
                .unwrap_or(ListenAddress::Systemd(String::new())),
            tls,
            certificate,
            auth,
            plaintext_auth,
            tenant: tenant.and_then(|t| TenantId::parse(&t)),
            networks,
            bare_newline,
            answer: section.choice("answer", Answer::Queued),
            answer_within: section.duration("answer_within", Duration::from_secs(20)),
            legacy_auth_line: section.bool("legacy_auth_line", false),
            max_connections: section.integer("max_connections", 200) as usize,
        };
        if address.is_some() {
            found.push(settings);
        }
    }
    found
}

fn admin(section: &Section<'_>, needs: &mut Needs) -> Admin {
    let default = std::net::SocketAddr::from(([127, 0, 0, 1], 8025));
    let address = match section.text("address") {
        Some(text) => text.parse().unwrap_or_else(|_| {
            section.reject("address", "\"IP:port\"", "for example \"127.0.0.1:8025\"");
            default
        }),
        None => default,
    };
    let token = section.secret("token");
    need(needs, "admin.token", token.as_ref());
    Admin {
        address,
        token,
        wanted: section.is_present(),
    }
}

pub(super) fn need(needs: &mut Needs, place: impl Into<String>, secret: Option<&SecretRef>) {
    if let Some(secret) = secret {
        needs.push((place.into(), secret.clone()));
    }
}

fn policy(section: &Section<'_>, default: Policy) -> Policy {
    Policy {
        own_upstream: section.bool("own_upstream", default.own_upstream),
        system_relay: section.choice("system_relay", default.system_relay),
        fallback_after: section.duration("fallback_after", default.fallback_after),
    }
}

fn retry(section: &Section<'_>) -> delivery::Settings {
    let default = delivery::Settings::default();
    let settings = delivery::Settings {
        first: section.duration("first", default.first),
        maximum: section.duration("maximum", default.maximum),
        give_up_after: section.duration("give_up_after", default.give_up_after),
        warn_after: section.duration("warn_after", default.warn_after),
        uncertain: section.choice("uncertain", Uncertain::Retry),
    };
    if settings.first.is_zero() {
        section.reject("first", "a time above zero", "for example \"1m\"");
    }
    if settings.maximum < settings.first {
        section.reject(
            "maximum",
            "a time not shorter than retry.first",
            "for example \"1h\"",
        );
    }
    settings
}

fn system(section: &Section<'_>, server: &Server, needs: &mut Needs) -> Option<System> {
    let email = section.required_address("email");
    let upstream_section = section.section("upstream");
    let upstream = upstream_section
        .is_present()
        .then(|| {
            let owner = Owner {
                name: "system",
                email: email.as_ref().map(Address::as_str),
            };
            upstream(&upstream_section, server, &owner, needs)
        })
        .flatten()
        .map(Arc::new);
    let dkim = dkim(section, "system", needs);
    let system = System {
        name: section.text("name").unwrap_or_default(),
        sender: section.choice("sender", SystemSender::System),
        required: section.bool("required", false),
        upstream,
        dkim,
        email: email?,
    };
    Some(system)
}

/// What must not be said twice over all tenants.
#[derive(Default)]
struct Unique {
    logins: HashMap<String, TenantId>,
    networks: HashMap<IpNet, TenantId>,
}

fn tenant(
    document: &Document,
    id: TenantId,
    policy: Policy,
    server: &Server,
    unique: &mut Unique,
    needs: &mut Needs,
) -> Option<Tenant> {
    let table = document.parse();
    let root = document.root(table.get_ref(), schema::TENANT);
    let name = root.required_text("name");
    let email = root.required_address("email");
    let networks = root.list("networks", network);
    for net in &networks {
        if let Some(other) = unique
            .networks
            .insert(*net, id.clone())
            .filter(|other| *other != id)
        {
            root.reject(
                "networks",
                "a network that no other tenant has",
                format!(
                    "{net} also belongs to tenant {other}; give each its own listener or login"
                ),
            );
        }
    }
    let upstream_section = root.section("upstream");
    let upstream = upstream_section
        .is_present()
        .then(|| {
            let owner = Owner {
                name: id.as_str(),
                email: email.as_ref().map(Address::as_str),
            };
            upstream(&upstream_section, server, &owner, needs)
        })
        .flatten()
        .map(Arc::new);
    let groups = super::senders::groups(&root);
    let users = users(&root, &id, &groups, unique, needs);
    super::senders::warn_of_unused(&root, &groups, &users);
    let documents = super::senders::documents(&root, &users);
    let copies = super::senders::copies(&root.section("copies"));
    let series = super::senders::series(&root.section("series"));
    let dkim = dkim(&root, id.as_str(), needs);
    let sender = root.section("sender");
    let address = sender.address("address");
    let reply_to = match sender.text("reply_to").as_deref() {
        None => ReplyTo::Application,
        Some("original") => ReplyTo::OriginalFrom,
        Some(_) => sender
            .address("reply_to")
            .map_or(ReplyTo::Application, ReplyTo::Fixed),
    };
    let notices = root
        .section("notices")
        .list("to", |text| Address::parse(text).map_err(|e| e.to_string()));
    let support_address = root.address("support_address");
    let language = root.choice("language", server.language);
    let sender_name = sender.text("name");
    let return_path = sender.address("return_path");
    let application_from = sender.choice("application_from", ApplicationFrom::Replace);
    let (name, email) = (name?, email?);
    for key in &dkim {
        let from = address.as_ref().unwrap_or(&email).ascii_domain();
        if from != key.domain && !from.ends_with(&format!(".{}", key.domain)) {
            root.warn_table(format!("the signature for {} does not help mail from {from}: DMARC wants the domain of From", key.domain));
        }
    }
    Some(Tenant {
        id,
        language,
        networks,
        support_address,
        upstream,
        sender: SenderRules {
            address: address.unwrap_or_else(|| email.clone()),
            name: sender_name.unwrap_or_else(|| name.clone()),
            reply_to,
            return_path,
            application_from,
        },
        users,
        groups,
        documents,
        copies,
        series,
        dkim,
        notices: if notices.is_empty() {
            vec![email.clone()]
        } else {
            notices
        },
        policy,
        name,
        email,
    })
}

fn users(
    root: &Section<'_>,
    id: &TenantId,
    groups: &[Arc<Group>],
    unique: &mut Unique,
    needs: &mut Needs,
) -> Vec<Arc<User>> {
    let mut users = Vec::new();
    for section in root.sections("user") {
        let login = section.required_text("login").unwrap_or_default();
        if unique.logins.insert(login.clone(), id.clone()).is_some() && !login.is_empty() {
            section.reject(
                "login",
                "a login that exists once over all tenants",
                "choose another, for example pos1@acme",
            );
        }
        let password = section.secret("password");
        match &password {
            None => section.reject(
                "password",
                "an Argon2 hash or a secret",
                "without a password nobody can log in",
            ),
            Some(SecretRef::Plain(secret))
                if secret.expose().starts_with("$argon2")
                    && !submission::auth::is_usable_hash(secret.expose()) =>
            {
                section.reject(
                    "password",
                    "an Argon2 hash with at most 256 MiB and 10 passes",
                    "make a new hash",
                );
            }
            Some(_) => {}
        }
        need(
            needs,
            format!("tenant {id}, password of login {login}"),
            password.as_ref(),
        );
        let user = User {
            login,
            password,
            name: section.text("name"),
            email: section.address("email"),
            senders: section.list("senders", SenderPattern::parse),
            groups: super::senders::groups_of(&section, groups),
            use_own_sender: section.bool("use_own_sender", false),
            signature: section.lines("signature"),
        };
        if user.use_own_sender && user.email.is_none() {
            section.reject(
                "use_own_sender",
                "true only with email",
                "add the user's own address: email = \"…\"",
            );
        }
        if user.signature.is_some() && !user.use_own_sender {
            section.warn(
                "signature",
                "it is only added where use_own_sender = true applies",
            );
        }
        super::senders::warn_of_wide(&section, &user.senders);
        users.push(Arc::new(user));
    }
    users
}

fn dkim(root: &Section<'_>, owner: &str, needs: &mut Needs) -> Vec<SigningKey> {
    let mut keys = Vec::new();
    for section in root.sections("dkim") {
        let domain = section.required_text("domain").map(|d| d.trim().to_owned());
        let selector = section
            .required_text("selector")
            .map(|s| s.trim().to_owned());
        let when = section.choice("when", When::Auto);
        let secret = section.secret("key");
        if secret.is_none() && !section.has("key") {
            section.reject(
                "key",
                "a secret",
                "make one: postbote dkim new TENANT --domain D --selector S",
            );
        }
        need(needs, format!("{owner}, DKIM key"), secret.as_ref());
        let ascii = domain.as_deref().and_then(ascii_domain);
        if domain.is_some() && ascii.as_ref().is_none_or(|d| !d.contains('.')) {
            section.reject(
                "domain",
                "a domain such as \"acme.example\"",
                "write the domain of From",
            );
        }
        if selector
            .as_deref()
            .is_some_and(|s| ascii_domain(s).is_none())
        {
            section.reject(
                "selector",
                "letters, digits, - and .",
                "for example \"pb1\"",
            );
        }
        if let (Some(domain), Some(selector), Some(secret)) = (ascii, selector, secret) {
            keys.push(SigningKey::new(domain, selector, secret, when));
        }
    }
    keys
}
