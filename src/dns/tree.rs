//! What an SPF record allows together with all that it includes (RFC 7208 sections 4.6 and 5): read
//! once from the name service, then asked without it.

use std::net::IpAddr;
use std::pin::Pin;

use ipnet::IpNet;

use super::spf::{self, BadTerm, Mechanism, Prefix, Published, Qualifier, Record, Spec};
use super::{DnsError, Lookup};

/// Most terms that ask the name service (RFC 7208 section 4.6.4).
pub const LOOKUPS: usize = 10;
/// Most of them that find nothing.
pub const VOIDS: usize = 2;
/// Most mail exchangers of one term.
const EXCHANGERS: usize = 10;
/// We count a little further than a receiver does, to say by how much it is too many.
const WALKED: usize = 40;

/// Why a receiver gives up on a record (permerror), or for now (temperror).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The record of a domain cannot be read.
    Syntax(String, BadTerm),
    /// A domain has more than one record.
    Several(String),
    /// What `include` or `redirect` names has no record.
    Missing(String),
    /// A record includes itself: by way of which domains, the first and the last the same.
    Loop(Vec<String>),
    /// More mail exchangers than may be looked up.
    Exchangers(String),
    /// So many terms ask the name service.
    Lookups(usize),
    /// So many of them find nothing.
    Voids(usize),
    /// The name service did not answer about a domain. Tomorrow it may.
    Dns(String, DnsError),
}

/// What a record says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// That.
    Said(Qualifier),
    /// It depends on the message.
    Unknown,
}

/// A record with all that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    domain: String,
    root: Node,
    /// How many terms ask the name service, at most.
    pub lookups: usize,
    /// How many of them each term of the domain's own record leads to, where it leads to any.
    pub costs: Vec<(String, usize)>,
    /// Why a receiver gives up.
    pub faults: Vec<Fault>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Node {
    steps: Vec<Step>,
    /// Whose record decides if nothing matches.
    redirect: Option<(String, Box<Node>)>,
    /// A redirect made of macros.
    uncertain: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    qualifier: Qualifier,
    matches: Matches,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Matches {
    /// `all`.
    All,
    /// The record of that name.
    Include(String, Node),
    /// A record whose name only a message tells.
    Hidden,
    /// These addresses.
    Networks(Vec<IpNet>),
    /// Every address, as things are.
    Everything,
    /// It depends on the message.
    Unknown,
}

impl Tree {
    /// Reads what a record leads to.
    pub async fn read<L: Lookup>(lookup: &L, domain: &str, record: &Record) -> Self {
        let mut walk = Walk {
            lookup,
            path: Vec::new(),
            lookups: 0,
            costs: Vec::new(),
            voids: 0,
            faults: Vec::new(),
        };
        let domain = domain.to_ascii_lowercase();
        let root = walk.node(domain.clone(), record).await;
        let mut faults = walk.faults;
        if walk.lookups > LOOKUPS {
            faults.push(Fault::Lookups(walk.lookups));
        }
        if walk.voids > VOIDS {
            faults.push(Fault::Voids(walk.voids));
        }
        Self {
            domain,
            root,
            lookups: walk.lookups,
            costs: walk.costs,
            faults,
        }
    }

    /// Whether one of these names is included so that what it allows is allowed.
    pub fn includes(&self, names: &[&str]) -> bool {
        let mut found = Vec::new();
        self.root.included(&mut found);
        found
            .iter()
            .any(|name| names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name)))
    }

    /// All names that are included so that what they allow is allowed.
    pub fn included(&self) -> Vec<&str> {
        let mut found = Vec::new();
        self.root.included(&mut found);
        found
    }

    /// What is said of mail from an address.
    pub fn verdict(&self, address: IpAddr) -> Verdict {
        self.root.verdict(address)
    }

    /// What is said of all whom nothing matches; `None`: nothing.
    pub fn all(&self) -> Option<Qualifier> {
        let mut node = &self.root;
        loop {
            let all = |step: &&Step| step.matches == Matches::All;
            if let Some(step) = node.steps.iter().find(all) {
                return Some(step.qualifier);
            }
            node = &node.redirect.as_ref()?.1;
        }
    }

    /// Whether a record is included whose name only a message tells, so that nobody knows from
    /// here what else is allowed.
    pub fn hides(&self) -> bool {
        self.root.hides()
    }

    /// The domain whose record lets everybody send for this one: itself, or one that it includes.
    pub fn open(&self) -> Option<&str> {
        self.root.open(&self.domain)
    }
}

impl Node {
    fn included<'a>(&'a self, found: &mut Vec<&'a str>) {
        for step in &self.steps {
            if let (Qualifier::Pass, Matches::Include(name, node)) = (step.qualifier, &step.matches)
            {
                found.push(name);
                node.included(found);
            }
        }
        if let Some((name, node)) = &self.redirect {
            found.push(name);
            node.included(found);
        }
    }

    fn hides(&self) -> bool {
        let behind = self.redirect.as_ref().is_some_and(|(_, n)| n.hides());
        let within = |step: &Step| match &step.matches {
            Matches::Hidden => true,
            Matches::Include(_, node) => node.hides(),
            Matches::All | Matches::Networks(_) | Matches::Everything | Matches::Unknown => false,
        };
        let mut steps = self.steps.iter();
        let pass = |step: &Step| step.qualifier == Qualifier::Pass;
        self.uncertain || behind || steps.any(|step| pass(step) && within(step))
    }

    fn open<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        for step in &self.steps {
            match (step.qualifier, &step.matches) {
                (Qualifier::Pass, Matches::All) => return Some(name),
                (_, Matches::All) => return None,
                (Qualifier::Pass, Matches::Include(name, node)) => {
                    if let Some(found) = node.open(name) {
                        return Some(found);
                    }
                }
                (_, _) => {}
            }
        }
        let (name, node) = self.redirect.as_ref()?;
        node.open(name)
    }

    fn verdict(&self, address: IpAddr) -> Verdict {
        for step in &self.steps {
            let said = Verdict::Said(step.qualifier);
            match &step.matches {
                Matches::All | Matches::Everything => return said,
                Matches::Networks(all) if all.iter().any(|net| net.contains(&address)) => {
                    return said;
                }
                Matches::Networks(_) => {}
                Matches::Include(_, node) => match node.verdict(address) {
                    Verdict::Said(Qualifier::Pass) => return said,
                    Verdict::Said(_) => {}
                    Verdict::Unknown => return Verdict::Unknown,
                },
                Matches::Hidden | Matches::Unknown => return Verdict::Unknown,
            }
        }
        match &self.redirect {
            Some((_, node)) => node.verdict(address),
            None if self.uncertain => Verdict::Unknown,
            None => Verdict::Said(Qualifier::Neutral),
        }
    }
}

struct Walk<'l, L> {
    lookup: &'l L,
    /// The domains whose records led here.
    path: Vec<String>,
    lookups: usize,
    costs: Vec<(String, usize)>,
    voids: usize,
    faults: Vec<Fault>,
}

/// Boxed, because records include records.
type Walking<'a> = Pin<Box<dyn Future<Output = Node> + Send + 'a>>;

impl<L: Lookup> Walk<'_, L> {
    fn node<'a>(&'a mut self, domain: String, record: &'a Record) -> Walking<'a> {
        Box::pin(async move {
            self.path.push(domain.clone());
            let mut node = Node::default();
            for directive in &record.directives {
                let before = self.lookups;
                let matches = self.step(&domain, &directive.mechanism).await;
                self.cost(&directive.text, before);
                node.steps.push(Step {
                    qualifier: directive.qualifier,
                    matches,
                });
            }
            if let Some(spec) = &record.redirect {
                let before = self.lookups;
                self.lookups += 1;
                match spec.name() {
                    Some(name) => {
                        let found = self.target(name.clone()).await;
                        self.cost(&format!("redirect={name}"), before);
                        node.redirect = found.map(|found| (name, Box::new(found)));
                    }
                    None => node.uncertain = true,
                }
            }
            self.path.pop();
            node
        })
    }

    /// Notes what a term of the first record has led to.
    fn cost(&mut self, term: &str, before: usize) {
        let count = self.lookups - before;
        if self.path.len() == 1 && count > 0 {
            self.costs.push((term.to_owned(), count));
        }
    }

    async fn step(&mut self, domain: &str, mechanism: &Mechanism) -> Matches {
        match mechanism {
            Mechanism::All => Matches::All,
            Mechanism::Ip(network) => Matches::Networks(vec![*network]),
            Mechanism::Include(spec) => {
                self.lookups += 1;
                let Some(name) = spec.name() else {
                    return Matches::Hidden;
                };
                let node = self.target(name.clone()).await;
                Matches::Include(name, node.unwrap_or_default())
            }
            Mechanism::A(spec, prefix) => {
                self.lookups += 1;
                match named(domain, spec.as_ref()) {
                    Some(name) => Matches::Networks(self.networks(&name, *prefix, true).await),
                    None => Matches::Unknown,
                }
            }
            Mechanism::Mx(spec, prefix) => {
                self.lookups += 1;
                match named(domain, spec.as_ref()) {
                    Some(name) => Matches::Networks(self.exchangers(&name, *prefix).await),
                    None => Matches::Unknown,
                }
            }
            Mechanism::Ptr(_) => {
                self.lookups += 1;
                Matches::Unknown
            }
            Mechanism::Exists(spec) => {
                self.lookups += 1;
                let Some(name) = spec.name() else {
                    return Matches::Unknown;
                };
                if self.addresses(&name, true).await.is_empty() {
                    Matches::Networks(Vec::new())
                } else {
                    Matches::Everything
                }
            }
        }
    }

    /// The record of another domain, which has to be there.
    async fn target(&mut self, name: String) -> Option<Node> {
        if let Some(at) = self.path.iter().position(|known| *known == name) {
            let mut path = self.path[at..].to_vec();
            path.push(name);
            self.fault(Fault::Loop(path));
            return None;
        }
        if self.lookups > WALKED {
            return None;
        }
        let found = match self.lookup.txt(&name).await {
            Ok(found) => found,
            // Nobody can have a record under what is no name.
            Err(DnsError::Name(_)) => Vec::new(),
            Err(error) => {
                self.fault(Fault::Dns(name, error));
                return None;
            }
        };
        if found.is_empty() {
            self.voids += 1;
        }
        let record = match spf::select(&found) {
            Published::Nothing | Published::Misspelt(_) => {
                self.fault(Fault::Missing(name));
                return None;
            }
            Published::Several(_) => {
                self.fault(Fault::Several(name));
                return None;
            }
            Published::One(text) => spf::parse(&text),
        };
        match record {
            Ok(record) => Some(self.node(name, &record).await),
            Err(bad) => {
                self.fault(Fault::Syntax(name, bad));
                None
            }
        }
    }

    async fn addresses(&mut self, name: &str, counts: bool) -> Vec<IpAddr> {
        if self.lookups > WALKED {
            return Vec::new();
        }
        match self.lookup.addresses(name).await {
            Ok(found) => {
                self.voids += usize::from(counts && found.is_empty());
                found
            }
            Err(DnsError::Name(_)) => Vec::new(),
            Err(error) => {
                self.fault(Fault::Dns(name.to_owned(), error));
                Vec::new()
            }
        }
    }

    async fn networks(&mut self, name: &str, prefix: Prefix, counts: bool) -> Vec<IpNet> {
        let found = self.addresses(name, counts).await;
        found
            .into_iter()
            .filter_map(|address| {
                let bits = match address {
                    IpAddr::V4(_) => prefix.v4,
                    IpAddr::V6(_) => prefix.v6,
                };
                IpNet::new(address, bits).ok().map(|net| net.trunc())
            })
            .collect()
    }

    async fn exchangers(&mut self, name: &str, prefix: Prefix) -> Vec<IpNet> {
        if self.lookups > WALKED {
            return Vec::new();
        }
        let hosts = match self.lookup.mx(name).await {
            Ok(hosts) => hosts,
            Err(DnsError::Name(_)) => Vec::new(),
            Err(error) => {
                self.fault(Fault::Dns(name.to_owned(), error));
                return Vec::new();
            }
        };
        self.voids += usize::from(hosts.is_empty());
        if hosts.len() > EXCHANGERS {
            self.fault(Fault::Exchangers(name.to_owned()));
        }
        let mut all = Vec::new();
        for host in hosts.iter().take(EXCHANGERS) {
            all.extend(self.networks(host, prefix, false).await);
        }
        all
    }

    fn fault(&mut self, fault: Fault) {
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

/// The name that a mechanism is about; `None` where only a message says it.
fn named(domain: &str, spec: Option<&Spec>) -> Option<String> {
    match spec {
        Some(spec) => spec.name(),
        None => Some(domain.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::testing::Script;

    async fn tree(lines: &[&str], text: &str) -> Tree {
        let record = spf::parse(text).expect("record");
        Tree::read(&Script::new(lines), "acme.example", &record).await
    }

    fn verdict(tree: &Tree, address: &str) -> Verdict {
        tree.verdict(address.parse().expect("IP"))
    }

    const PASS: Verdict = Verdict::Said(Qualifier::Pass);
    const FAIL: Verdict = Verdict::Said(Qualifier::Fail);

    #[tokio::test]
    async fn what_is_allowed() {
        let lines = [
            "acme.example A 192.0.2.1",
            "acme.example MX mx.acme.example",
            "mx.acme.example A 192.0.2.65",
            "mx.acme.example A 2001:db8::65",
            "spf.host.example TXT v=spf1 include:more.host.example -ip4:198.51.100.9 ip4:198.51.100.0/24 ~all",
            "more.host.example TXT v=spf1 ip4:203.0.113.7 -all",
        ];
        let found = tree(&lines, "v=spf1 a mx/28//64 include:Spf.Host.example. -all").await;
        assert_eq!((found.lookups, found.faults.len()), (4, 0));
        for (address, expected) in [
            ("192.0.2.1", PASS),
            ("192.0.2.70", PASS),
            ("192.0.2.80", FAIL),
            ("2001:db8::1", PASS),
            ("2001:db8:1::1", FAIL),
            ("198.51.100.8", PASS),
            ("198.51.100.9", FAIL),
            ("203.0.113.7", PASS),
            ("203.0.113.8", FAIL),
        ] {
            assert_eq!(verdict(&found, address), expected, "{address}");
        }
        assert!(found.includes(&["spf.host.example"]));
        assert!(found.includes(&["x.example", "More.Host.example"]));
        assert!(!found.includes(&["host.example"]));
        assert_eq!(found.all(), Some(Qualifier::Fail));
        assert_eq!(found.included(), ["spf.host.example", "more.host.example"]);
    }

    #[tokio::test]
    async fn redirects_and_macros() {
        let lines = [
            "r.example TXT v=spf1 include:spf.host.example ?all",
            "spf.host.example TXT v=spf1 ip4:192.0.2.0/24",
        ];
        let found = tree(&lines, "v=spf1 redirect=r.example").await;
        assert_eq!((found.lookups, found.faults.len()), (2, 0));
        assert!(found.includes(&["spf.host.example"]));
        assert!(found.includes(&["R.example"]) && !found.hides());
        assert_eq!(found.costs, [("redirect=r.example".to_owned(), 2)]);
        assert_eq!(found.all(), Some(Qualifier::Neutral));
        assert_eq!(verdict(&found, "192.0.2.3"), PASS);
        let found = tree(&lines, "v=spf1 exists:%{i}.x.example -all").await;
        assert_eq!(verdict(&found, "192.0.2.3"), Verdict::Unknown);
        let found = tree(&lines, "v=spf1 -include:spf.host.example ~all").await;
        assert!(!found.includes(&["spf.host.example"]));
        assert_eq!(verdict(&found, "192.0.2.3"), FAIL);
        let found = tree(&[], "v=spf1").await;
        assert_eq!((found.lookups, found.all()), (0, None));
    }

    #[tokio::test]
    async fn hidden_and_open() {
        let lines = [
            "hidden.example TXT v=spf1 include:%{d}._spf.host.example -all",
            "open.example TXT v=spf1 mx:open.example +all",
            "open.example MX open.example",
            "below.example TXT v=spf1 include:open.example -all",
        ];
        for (text, hides, open) in [
            ("v=spf1 include:%{d}._spf.host.example -all", true, None),
            ("v=spf1 redirect=%{d}._spf.host.example", true, None),
            ("v=spf1 include:hidden.example -all", true, None),
            ("v=spf1 -include:hidden.example -all", false, None),
            ("v=spf1 exists:%{i}.host.example -all", false, None),
            ("v=spf1 mx -all", false, None),
            ("v=spf1 +all", false, Some("acme.example")),
            (
                "v=spf1 include:open.example -all",
                false,
                Some("open.example"),
            ),
            (
                "v=spf1 include:Below.example -all",
                false,
                Some("open.example"),
            ),
            ("v=spf1 redirect=open.example", false, Some("open.example")),
            ("v=spf1 -include:open.example -all", false, None),
        ] {
            let found = tree(&lines, text).await;
            assert_eq!((found.hides(), found.open()), (hides, open), "{text}");
        }
    }

    #[tokio::test]
    async fn why_receivers_give_up() {
        let named = |name: &str| name.to_owned();
        for (lines, text, expected) in [
            (
                vec![],
                "v=spf1 include:gone.example -all",
                Fault::Missing(named("gone.example")),
            ),
            (
                vec!["x.example TXT hello"],
                "v=spf1 redirect=x.example",
                Fault::Missing(named("x.example")),
            ),
            (
                vec!["x.example TXT v=spf1 include:acme.example -all"],
                "v=spf1 include:x.example -all",
                Fault::Loop(vec![
                    named("acme.example"),
                    named("x.example"),
                    named("acme.example"),
                ]),
            ),
            (
                vec!["x.example TXT v=spf1 redirect=x.example"],
                "v=spf1 include:x.example -all",
                Fault::Loop(vec![named("x.example"), named("x.example")]),
            ),
            (
                vec!["x.example TXT v=spf1 -all", "x.example TXT v=spf1 mx"],
                "v=spf1 include:x.example",
                Fault::Several(named("x.example")),
            ),
            (
                vec!["x.example TXT !"],
                "v=spf1 include:x.example",
                Fault::Dns(named("x.example"), DnsError::ServFail),
            ),
            (
                vec![],
                "v=spf1 a:a.example a:b.example mx:c.example -all",
                Fault::Voids(3),
            ),
        ] {
            let found = tree(&lines, text).await;
            assert_eq!(found.faults, [expected], "{text}");
        }
        let bad = tree(
            &["x.example TXT v=spf1 ip4:1.2.3 -all"],
            "v=spf1 include:x.example -all",
        );
        assert!(matches!(
            &bad.await.faults[..],
            [Fault::Syntax(name, bad)] if name == "x.example" && bad.term == "ip4:1.2.3"
        ));
    }

    #[tokio::test]
    async fn too_many_lookups_are_counted() {
        let lines: Vec<String> = (0..6)
            .map(|n| format!("i{n}.example TXT v=spf1 a:a.example ip4:192.0.2.{n} -all"))
            .chain(["a.example A 192.0.2.200".to_owned()])
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let text = "v=spf1 include:i0.example include:i1.example include:i2.example include:i3.example include:i4.example";
        let found = tree(&lines, &format!("{text} -all")).await;
        assert_eq!((found.lookups, found.faults.len()), (10, 0));
        assert_eq!(found.costs.len(), 5);
        assert_eq!(found.costs[4], ("include:i4.example".to_owned(), 2));
        let found = tree(&lines, &format!("{text} include:i5.example -all")).await;
        assert_eq!(found.faults, [Fault::Lookups(12)]);
        let endless = "x.example TXT v=spf1 include:x.example.x.example -all";
        let found = tree(&[endless], "v=spf1 a include:x.example -all").await;
        assert!(!found.faults.is_empty());
    }
}
