//! Who is it: from login, listener or network to a tenant, in this order. An unknown client is
//! nobody's: there is no default tenant.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Support, System, Tenant, User};
use crate::message::TenantId;
use crate::vault::SecretRef;

/// All tenants of one configuration.
#[derive(Debug, Default)]
pub struct Directory {
    tenants: BTreeMap<TenantId, Arc<Tenant>>,
    logins: HashMap<String, (Arc<Tenant>, Arc<User>)>,
    networks: Vec<(IpNet, TenantId)>,
    system: Option<Arc<System>>,
    support: Option<Support>,
    plain_secrets: bool,
}

/// How a client was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// By its login.
    Login,
    /// By the listener it came through.
    Listener,
    /// By its network.
    Network,
}

impl Directory {
    /// Builds the tables. Logins and networks were checked to be unique when the files were read.
    pub fn new(
        tenants: Vec<Arc<Tenant>>,
        system: Option<Arc<System>>,
        support: Option<Support>,
    ) -> Self {
        let mut directory = Self {
            system,
            support,
            ..Self::default()
        };
        for tenant in tenants {
            for user in &tenant.users {
                directory.plain_secrets |= match &user.password {
                    Some(SecretRef::Plain(secret)) => !secret.expose().starts_with("$argon2"),
                    Some(_) => true, // may be one: known only when it is read
                    None => false,
                };
                directory
                    .logins
                    .insert(user.login.clone(), (Arc::clone(&tenant), Arc::clone(user)));
            }
            directory
                .networks
                .extend(tenant.networks.iter().map(|net| (*net, tenant.id.clone())));
            directory.tenants.insert(tenant.id.clone(), tenant);
        }
        directory
            .networks
            .sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        directory
    }

    /// A tenant by id.
    pub fn tenant(&self, id: &TenantId) -> Option<&Arc<Tenant>> {
        self.tenants.get(id)
    }

    /// All tenants, by id.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values()
    }

    /// Where mail to the support alias goes.
    pub fn support(&self) -> Option<&Support> {
        self.support.as_ref()
    }

    /// How many tenants there are.
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// Whether any login exists, so that AUTH could help an unknown client.
    pub fn has_logins(&self) -> bool {
        !self.logins.is_empty()
    }

    /// Whether some login has a plain secret, so that challenge mechanisms make sense.
    pub fn has_plain_secrets(&self) -> bool {
        self.plain_secrets
    }

    /// The hashes that stand in the configuration itself.
    pub fn plain_hashes(&self) -> impl Iterator<Item = &str> {
        self.logins
            .values()
            .filter_map(|(_, user)| match &user.password {
                Some(SecretRef::Plain(secret)) => Some(secret.expose()),
                _ => None,
            })
            .filter(|text| text.starts_with("$argon2"))
    }

    /// The system relay.
    pub fn system(&self) -> Option<&Arc<System>> {
        self.system.as_ref()
    }

    /// A login, matched exactly.
    pub fn login(&self, login: &str) -> Option<(&Arc<Tenant>, &Arc<User>)> {
        self.logins.get(login).map(|(t, u)| (t, u))
    }

    /// The tenant of a client that has logged in as `login`, or came through a listener of
    /// `listener`, or from address `peer`.
    pub fn identify(
        &self,
        login: Option<&str>,
        listener: Option<&TenantId>,
        peer: Option<IpAddr>,
    ) -> Option<(&Arc<Tenant>, Because)> {
        if let Some(login) = login {
            // A login that has vanished by a reload is not somebody else's mail.
            return self
                .login(login)
                .map(|(tenant, _)| (tenant, Because::Login));
        }
        if let Some(id) = listener {
            return self.tenant(id).map(|tenant| (tenant, Because::Listener));
        }
        let peer = canonical(peer?);
        let (_, id) = self.networks.iter().find(|(net, _)| net.contains(&peer))?;
        self.tenant(id).map(|tenant| (tenant, Because::Network))
    }
}

/// IPv4 in IPv6 clothes as IPv4, so that one rule fits both.
pub fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}
