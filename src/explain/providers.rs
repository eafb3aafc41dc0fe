//! The mail providers that `postbote tenant add --email` recognises, by the domain of the address
//! or by the MX host of that domain.
//!
//! Sources: the providers' own help pages, Thunderbird's ISPDB and published configurations. Only
//! what a provider offers to customers with a mailbox stands here; everything else is asked.

use super::{Text, text};

/// What the user name of the login is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// The whole e-mail address.
    Address,
    /// The part before the @.
    LocalPart,
    /// Something that cannot be known from the address; the text says what to ask for.
    Ask(Text),
}

/// The host that takes outgoing mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// The same for every customer.
    Fixed(&'static str),
    /// The host that the domain's MX record names.
    MxHost,
    /// This prefix before the domain, such as `mail.`.
    Domain(&'static str),
    /// Differs from customer to customer, or there is none: the hint says which.
    Ask,
}

impl Host {
    /// The name of the host for a domain and the MX host found for it; `None` where it has to be
    /// asked for.
    #[must_use]
    pub fn name(&self, domain: &str, mx_host: Option<&str>) -> Option<String> {
        match self {
            Self::Fixed(host) => Some((*host).to_owned()),
            Self::MxHost => mx_host.map(normalise),
            Self::Domain(prefix) => Some(format!("{prefix}{}", normalise(domain))),
            Self::Ask => None,
        }
    }
}

/// How the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// Begins in the clear, then STARTTLS (RFC 3207).
    Starttls,
    /// TLS from the first byte (RFC 8314).
    Tls,
}

/// What the provider accepts as a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Auth {
    /// The password of the mailbox, or of the SMTP account.
    Password,
    /// A password or key made for this one purpose at the provider.
    AppPassword,
    /// OAuth2, or a password made for this purpose.
    OAuthOrAppPassword,
    /// OAuth2; nothing else can be relied upon.
    OAuthOnly,
}

/// One provider.
///
/// # Patterns
///
/// `domains`: an exact domain in lower case; `*.example.com`, any name below it; or `example.*`,
/// where the asterisk stands for `com`, a country code, or `co.` or `com.` and a country code
/// (`hotmail.de`, `hotmail.co.uk`, but not `hotmail.shop`).
///
/// `mx`: an exact host; an asterisk as first label stands for one label or more, elsewhere for
/// exactly one. Always whole labels: `*.one.com` is not `phone.com`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// Stable name in kebab-case.
    pub id: &'static str,
    /// The name as customers know it.
    pub name: &'static str,
    /// Domains that always are this provider's, see above. Empty: customers' own domains only.
    pub domains: &'static [&'static str],
    /// MX hosts that tell that a domain is at this provider, see above.
    pub mx: &'static [&'static str],
    /// The host for outgoing mail.
    pub host: Host,
    /// The encryption to take. TLS from the start where both are offered (RFC 8314, section 3).
    pub encryption: Encryption,
    /// The port that belongs to it.
    pub port: u16,
    /// The other way, for networks that block the first: many block 465 and leave 587 open.
    pub alternative: Option<(Encryption, u16)>,
    /// The user name.
    pub login: Login,
    /// What it logs in with.
    pub auth: Auth,
    /// The name to `include:` in the SPF record of a domain that sends through this provider.
    pub spf: Option<&'static str>,
    /// The server offers neither 8BITMIME nor SMTPUTF8: everything must leave in 7 bits, and no
    /// address may have letters beyond ASCII.
    pub seven_bit: bool,
    /// What the administrator must know.
    pub hint: Text,
}

/// What most have in common: TLS on 465, STARTTLS on 587, address and mailbox password.
const USUAL: Provider = Provider {
    id: "",
    name: "",
    domains: &[],
    mx: &[],
    host: Host::Ask,
    encryption: Encryption::Tls,
    port: 465,
    alternative: STARTTLS_587,
    login: Login::Address,
    auth: Auth::Password,
    spf: None,
    seven_bit: false,
    hint: MAILBOX_PASSWORD,
};

const STARTTLS_587: Option<(Encryption, u16)> = Some((Encryption::Starttls, 587));

const MAILBOX_PASSWORD: Text = text(
    "Benutzername ist die volle E-Mail-Adresse, Passwort das des Postfachs (nicht das des \
     Kundenbereichs).",
    "The user name is the full e-mail address, the password is that of the mailbox (not that of \
     the customer area).",
);

const APP_PASSWORD: Text = text(
    "Das gewöhnliche Passwort wird nicht angenommen: Legen Sie beim Anbieter in den \
     Sicherheitseinstellungen ein App-Passwort an und verwenden Sie dieses.",
    "The ordinary password is not accepted: make an app password in the security settings of the \
     provider and use that.",
);

const APP_PASSWORD_WITH_2FA: Text = text(
    "Ist die Anmeldung in zwei Schritten eingeschaltet, legen Sie beim Anbieter ein App-Passwort \
     an und verwenden Sie dieses, sonst das Passwort des Postfachs.",
    "If two-step login is on, make an app password at the provider and use that, otherwise the \
     password of the mailbox.",
);

const UNITED_INTERNET: Text = text(
    "Schalten Sie in den E-Mail-Einstellungen im Web „POP3- und IMAP-Zugriff“ ein, sonst wird die \
     Anmeldung abgelehnt. Bei Anmeldung in zwei Schritten brauchen Sie ein anwendungsspezifisches \
     Passwort.",
    "Turn on POP3 and IMAP access in the mail settings on the web site, otherwise the login is \
     refused. With two-step login you need an application-specific password.",
);

const YAHOO: Text = text(
    "Das gewöhnliche Passwort wird nicht angenommen: Legen Sie in den \
     Kontosicherheitseinstellungen ein App-Passwort an. OAuth2 geht nur mit einer bei Yahoo \
     freigeschalteten Anwendung (provider = \"custom\").",
    "The ordinary password is not accepted: make an app password in the account security settings. \
     OAuth2 works only with an application approved by Yahoo (provider = \"custom\").",
);

const ZOHO: Text = text(
    "Der Server muss zur Region des Kontos passen (.com, .eu, .in …); zahlende Kunden mit eigener \
     Domain nehmen smtppro statt smtp im Namen. Bei Anmeldung in zwei Schritten brauchen Sie ein \
     App-Passwort.",
    "The server must match the region of the account (.com, .eu, .in …); paying customers with \
     their own domain use smtppro instead of smtp in the name. With two-step login you need an app \
     password.",
);

const OWN_LOGIN: Text = text(
    "Der Benutzername steht im Kundenbereich beim Postfach; er ist meist nicht die E-Mail-Adresse.",
    "The user name stands in the customer area next to the mailbox; usually it is not the e-mail \
     address.",
);

/// All providers. Where a host matches two, the first counts.
pub static PROVIDERS: &[Provider] = &[
    Provider {
        id: "google",
        name: "Google (Gmail, Workspace)",
        domains: &["gmail.com", "googlemail.com"],
        mx: &[
            "aspmx.l.google.com",
            "*.aspmx.l.google.com",
            "smtp.google.com",
            "*.googlemail.com",
            "gmail-smtp-in.l.google.com",
            "*.gmail-smtp-in.l.google.com",
        ],
        host: Host::Fixed("smtp.gmail.com"),
        auth: Auth::OAuthOrAppPassword,
        spf: Some("_spf.google.com"),
        hint: text(
            "Verbinden Sie das Konto mit „postbote oauth connect TENANT“ (OAuth2), oder legen Sie \
             im Google-Konto ein App-Passwort an; dafür muss die Bestätigung in zwei Schritten \
             eingeschaltet sein. Das gewöhnliche Passwort wird nicht angenommen.",
            "Connect the account with 'postbote oauth connect TENANT' (OAuth2), or make an app \
             password in the Google account, for which 2-step verification must be on. The \
             ordinary password is not accepted.",
        ),
        ..USUAL
    },
    Provider {
        id: "outlook-com",
        name: "Outlook.com",
        domains: &[
            "outlook.*",
            "hotmail.*",
            "live.*",
            "msn.com",
            "passport.com",
        ],
        mx: &["*.olc.protection.outlook.com"],
        host: Host::Fixed("smtp-mail.outlook.com"),
        encryption: Encryption::Starttls,
        port: 587,
        alternative: None,
        auth: Auth::OAuthOnly,
        hint: text(
            "Outlook.com nimmt keine Passwörter mehr an, nur OAuth2: Verbinden Sie das Konto mit \
             „postbote oauth connect TENANT“.",
            "Outlook.com no longer accepts passwords, only OAuth2: connect the account with \
             'postbote oauth connect TENANT'.",
        ),
        ..USUAL
    },
    Provider {
        id: "microsoft-365",
        name: "Microsoft 365",
        domains: &["onmicrosoft.com", "*.onmicrosoft.com", "office365.com"],
        mx: &["*.mail.protection.outlook.com", "*.mx.microsoft"],
        host: Host::Fixed("smtp.office365.com"),
        encryption: Encryption::Starttls,
        port: 587,
        alternative: None,
        auth: Auth::OAuthOnly,
        spf: Some("spf.protection.outlook.com"),
        hint: text(
            "Verbinden Sie das Konto mit OAuth2 („postbote oauth connect TENANT“) und erlauben Sie \
             für das Postfach „Authentifiziertes SMTP“. Die Anmeldung nur mit Passwort ist ab Ende \
             Dezember 2026 abgeschaltet, wenn ein Administrator sie nicht ausdrücklich wieder \
             erlaubt.",
            "Connect the account with OAuth2 ('postbote oauth connect TENANT') and allow \
             \"Authenticated SMTP\" for the mailbox. Login with a password alone is off from the \
             end of December 2026 unless an administrator expressly allows it again.",
        ),
        ..USUAL
    },
    Provider {
        id: "gmx",
        name: "GMX",
        domains: &[
            "gmx.net", "gmx.de", "gmx.at", "gmx.ch", "gmx.eu", "gmx.org", "gmx.info", "gmx.biz",
        ],
        mx: &["*.gmx.net"],
        host: Host::Fixed("mail.gmx.net"),
        seven_bit: true,
        hint: UNITED_INTERNET,
        ..USUAL
    },
    Provider {
        id: "gmx-com",
        name: "GMX (international)",
        domains: &["gmx.com", "gmx.us", "gmx.co.uk", "gmx.fr", "gmx.es"],
        mx: &["*.gmx.com"],
        host: Host::Fixed("mail.gmx.com"),
        seven_bit: true,
        hint: UNITED_INTERNET,
        ..USUAL
    },
    Provider {
        id: "mail-com",
        name: "mail.com",
        domains: &[
            "mail.com",
            "email.com",
            "usa.com",
            "europe.com",
            "post.com",
            "consultant.com",
        ],
        mx: &["*.mail.com"],
        host: Host::Fixed("smtp.mail.com"),
        seven_bit: true,
        hint: UNITED_INTERNET,
        ..USUAL
    },
    Provider {
        id: "web-de",
        name: "WEB.DE",
        domains: &["web.de"],
        mx: &["*.web.de"],
        host: Host::Fixed("smtp.web.de"),
        login: Login::LocalPart,
        seven_bit: true,
        hint: UNITED_INTERNET,
        ..USUAL
    },
    Provider {
        id: "ionos",
        name: "IONOS (1&1)",
        domains: &[
            "online.de",
            "onlinehome.de",
            "kundenserver.de",
            "schlund.de",
        ],
        mx: &[
            "*.ionos.de",
            "*.ionos.com",
            "*.ionos.at",
            "*.ionos.fr",
            "*.ionos.es",
            "*.ionos.it",
            "*.ionos.co.uk",
            "*.kundenserver.de",
            "*.1and1.*",
            "*.1and1.co.uk",
            "*.schlund.de",
        ],
        host: Host::Fixed("smtp.ionos.de"),
        spf: Some("_spf-eu.ionos.com"),
        seven_bit: true,
        hint: text(
            "Benutzername ist die volle E-Mail-Adresse, Passwort das des Postfachs. Kunden \
             außerhalb Deutschlands nehmen den Server ihres Landes, etwa smtp.ionos.com.",
            "The user name is the full e-mail address, the password is that of the mailbox. \
             Customers outside Germany use the server of their country, such as smtp.ionos.com.",
        ),
        ..USUAL
    },
    Provider {
        id: "strato",
        name: "STRATO",
        domains: &["strato.de", "rzone.de"],
        mx: &["*.rzone.de"],
        host: Host::Fixed("smtp.strato.de"),
        spf: Some("spf.rzone.de"),
        ..USUAL
    },
    Provider {
        id: "telekom",
        name: "Telekom Mail",
        domains: &["t-online.de", "magenta.de"],
        mx: &["*.t-online.de"],
        host: Host::Fixed("securesmtp.t-online.de"),
        hint: text(
            "Das Login-Passwort der Telekom wird hier nicht angenommen: Legen Sie im E-Mail-Center \
             unter den Einstellungen ein eigenes „Passwort für E-Mail-Programme“ an und verwenden \
             Sie dieses.",
            "The Telekom login password is not accepted here: set a separate password for e-mail \
             programs in the settings of the e-mail centre and use that.",
        ),
        ..USUAL
    },
    Provider {
        id: "telekom-hosting",
        name: "Telekom Homepagecenter",
        mx: &["*.hier-im-netz.de"],
        host: Host::Ask,
        spf: Some("_spf.hier-im-netz.de"),
        hint: text(
            "Der Postausgangsserver steht im Homepagecenter der Telekom beim Postfach; tragen Sie \
             ihn bei [upstream] host ein.",
            "The server for outgoing mail stands next to the mailbox in the Telekom \
             Homepagecenter; enter it as [upstream] host.",
        ),
        ..USUAL
    },
    Provider {
        id: "mailbox-org",
        name: "mailbox.org",
        domains: &["mailbox.org"],
        mx: &["*.mailbox.org"],
        host: Host::Fixed("smtp.mailbox.org"),
        spf: Some("mailbox.org"),
        hint: APP_PASSWORD_WITH_2FA,
        ..USUAL
    },
    Provider {
        id: "posteo",
        name: "Posteo",
        domains: &["posteo.*", "posteo.net", "posteo.org"],
        mx: &["*.posteo.de"],
        host: Host::Fixed("posteo.de"),
        hint: text(
            "Benutzername ist die volle Posteo-Adresse, Passwort das des Postfachs. Eigene Domains \
             gibt es bei Posteo nicht.",
            "The user name is the full Posteo address, the password is that of the mailbox. Posteo \
             has no domains of its customers' own.",
        ),
        ..USUAL
    },
    Provider {
        id: "vodafone",
        name: "Vodafone",
        domains: &["vodafonemail.de", "arcor.de", "kabelmail.de"],
        host: Host::Fixed("smtp.vodafonemail.de"),
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "freenet",
        name: "freenet Mail",
        domains: &["freenet.de"],
        mx: &["*.freenet.de"],
        host: Host::Fixed("mx.freenet.de"),
        encryption: Encryption::Starttls,
        port: 587,
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "a1",
        name: "A1",
        domains: &["a1.net", "aon.at"],
        mx: &["*.a1.net"],
        host: Host::Fixed("securemail.a1.net"),
        encryption: Encryption::Starttls,
        port: 587,
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "world4you",
        name: "World4You",
        mx: &["*.world4you.com"],
        host: Host::Fixed("smtp.world4you.com"),
        encryption: Encryption::Starttls,
        port: 587,
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "easyname",
        name: "easyname",
        mx: &["*.easyname.com", "*.easyname.eu"],
        host: Host::Fixed("smtp.easyname.com"),
        login: Login::Ask(text(
            "Mailbox-Name bei easyname, etwa 12345mail1:",
            "Mailbox name at easyname, such as 12345mail1:",
        )),
        spf: Some("spf.easyname.com"),
        hint: OWN_LOGIN,
        ..USUAL
    },
    Provider {
        id: "ipax",
        name: "IPAX",
        domains: &["ipax.at"],
        host: Host::Fixed("mail.ipax.at"),
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "schwaz-net",
        name: "schwaz.net",
        domains: &["schwaz.net"],
        host: Host::Fixed("mail.schwaz.net"),
        ..USUAL
    },
    Provider {
        id: "hetzner",
        name: "Hetzner (konsoleH)",
        mx: &["*.your-server.de"],
        host: Host::Fixed("mail.your-server.de"),
        spf: Some("spf.your-server.de"),
        ..USUAL
    },
    Provider {
        id: "all-inkl",
        name: "ALL-INKL.COM",
        mx: &["*.kasserver.com"],
        host: Host::MxHost,
        spf: Some("spf.kasserver.com"),
        hint: text(
            "Der Server heißt wie der Account, etwa w0123456.kasserver.com. Benutzername ist die \
             E-Mail-Adresse oder der Postfachname aus dem Kundenbereich (etwa m0123456).",
            "The server is named like the account, such as w0123456.kasserver.com. The user name \
             is the e-mail address or the mailbox name from the customer area (such as m0123456).",
        ),
        ..USUAL
    },
    Provider {
        id: "mittwald",
        name: "Mittwald",
        mx: &[
            "*.agenturserver.de",
            "*.agenturserver.it",
            "*.agenturserver.co",
        ],
        host: Host::Fixed("mail.agenturserver.de"),
        spf: Some("agenturserver.de"),
        hint: text(
            "Benutzername ist die E-Mail-Adresse oder der Postfachname aus dem Kundenbereich (etwa \
             p123456p1), Passwort das des Postfachs.",
            "The user name is the e-mail address or the mailbox name from the customer area (such \
             as p123456p1), the password is that of the mailbox.",
        ),
        ..USUAL
    },
    Provider {
        id: "host-europe",
        name: "Host Europe",
        mx: &["*.hosteurope.de"],
        host: Host::Ask,
        login: Login::Ask(text(
            "Benutzername des Postfachs bei Host Europe, etwa wp1234567-name:",
            "User name of the mailbox at Host Europe, such as wp1234567-name:",
        )),
        hint: text(
            "Server und Benutzername sind bei jedem Kunden andere; beide stehen im Kundenbereich \
             beim Postfach.",
            "Server and user name differ from customer to customer; both stand in the customer \
             area next to the mailbox.",
        ),
        ..USUAL
    },
    Provider {
        id: "domainfactory",
        name: "DomainFactory",
        mx: &["*.ispgateway.de"],
        host: Host::Fixed("sslout.df.eu"),
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "sslout",
        name: "1blu, sslout.de",
        host: Host::Fixed("sslout.de"),
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "netcup",
        name: "netcup",
        mx: &["*.netcup.net"],
        host: Host::Domain("mail."),
        hint: text(
            "Passt das Zertifikat nicht zu mail.IHRE-DOMAIN, nehmen Sie den Servernamen aus dem \
             Kundenbereich (mx….netcup.net). Benutzername ist die volle E-Mail-Adresse.",
            "If the certificate does not match mail.YOUR-DOMAIN, use the server name from the \
             customer area (mx….netcup.net). The user name is the full e-mail address.",
        ),
        ..USUAL
    },
    Provider {
        id: "webgo",
        name: "webgo",
        mx: &["*.goserver.host", "*.webgo24.de"],
        host: Host::MxHost,
        encryption: Encryption::Starttls,
        port: 587,
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "hosting-de",
        name: "hosting.de",
        mx: &["mx01.hosting.de", "mx02.hosting.de", "mx03.hosting.de"],
        host: Host::Ask,
        hint: text(
            "Der Postausgangsserver steht im Kundenbereich beim Postfach; tragen Sie ihn bei \
             [upstream] host ein.",
            "The server for outgoing mail stands in the customer area next to the mailbox; enter \
             it as [upstream] host.",
        ),
        ..USUAL
    },
    Provider {
        id: "united-domains",
        name: "united-domains",
        mx: &["*.udag.de"],
        host: Host::Fixed("smtps.udag.de"),
        hint: text(
            "Wird die E-Mail-Adresse als Benutzername nicht angenommen, nehmen Sie den \
             Postfachnamen aus dem Kundenbereich.",
            "If the e-mail address is not accepted as user name, take the mailbox name from the \
             customer area.",
        ),
        ..USUAL
    },
    Provider {
        id: "bluewin",
        name: "Swisscom Bluewin",
        domains: &["bluewin.ch", "bluemail.ch"],
        mx: &["*.bluewin.ch", "*.bluenet.ch"],
        host: Host::Fixed("smtpauths.bluewin.ch"),
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "infomaniak",
        name: "Infomaniak",
        domains: &["ik.me", "ikmail.com", "etik.com"],
        mx: &["mta-gw.infomaniak.ch", "*.infomaniak.com"],
        host: Host::Fixed("mail.infomaniak.com"),
        spf: Some("spf.infomaniak.ch"),
        hint: text(
            "Benutzername ist die volle E-Mail-Adresse, Passwort das des Postfachs oder eines für \
             dieses Gerät. Es gilt eine Grenze von 1440 Mails am Tag.",
            "The user name is the full e-mail address, the password is that of the mailbox or one \
             made for this device. There is a limit of 1440 messages a day.",
        ),
        ..USUAL
    },
    Provider {
        id: "hostpoint",
        name: "Hostpoint",
        mx: &["*.mail.hostpoint.ch"],
        host: Host::Fixed("asmtp.mail.hostpoint.ch"),
        spf: Some("spf.mail.hostpoint.ch"),
        ..USUAL
    },
    Provider {
        id: "zoho-eu",
        name: "Zoho Mail (EU)",
        domains: &["zoho.eu", "zohomail.eu"],
        mx: &["*.zoho.eu"],
        host: Host::Fixed("smtp.zoho.eu"),
        spf: Some("zohomail.eu"),
        hint: ZOHO,
        ..USUAL
    },
    Provider {
        id: "zoho",
        name: "Zoho Mail",
        domains: &["zoho.com", "zohomail.com"],
        mx: &["*.zoho.com"],
        host: Host::Fixed("smtp.zoho.com"),
        hint: ZOHO,
        ..USUAL
    },
    Provider {
        id: "zoho-in",
        name: "Zoho Mail (India)",
        domains: &["zoho.in", "zohomail.in"],
        mx: &["*.zoho.in"],
        host: Host::Fixed("smtp.zoho.in"),
        hint: ZOHO,
        ..USUAL
    },
    Provider {
        id: "zoho-jp",
        name: "Zoho Mail (Japan)",
        domains: &["zoho.jp", "zohomail.jp"],
        mx: &["*.zoho.jp"],
        host: Host::Fixed("smtp.zoho.jp"),
        hint: ZOHO,
        ..USUAL
    },
    Provider {
        id: "zoho-au",
        name: "Zoho Mail (Australia)",
        domains: &["zoho.com.au", "zohomail.com.au"],
        mx: &["*.zoho.com.au"],
        host: Host::Fixed("smtp.zoho.com.au"),
        hint: ZOHO,
        ..USUAL
    },
    Provider {
        id: "zoho-ca",
        name: "Zoho Mail (Canada)",
        domains: &["zohocloud.ca"],
        mx: &["*.zohocloud.ca"],
        host: Host::Fixed("smtp.zohocloud.ca"),
        hint: ZOHO,
        ..USUAL
    },
    Provider {
        id: "yahoo",
        name: "Yahoo",
        domains: &["yahoo.*", "ymail.com", "rocketmail.com"],
        mx: &["*.yahoodns.net"],
        host: Host::Fixed("smtp.mail.yahoo.com"),
        alternative: None,
        auth: Auth::OAuthOrAppPassword,
        hint: YAHOO,
        ..USUAL
    },
    Provider {
        id: "aol",
        name: "AOL, Verizon",
        domains: &["aol.*", "verizon.net"],
        host: Host::Fixed("smtp.aol.com"),
        alternative: None,
        auth: Auth::OAuthOrAppPassword,
        hint: YAHOO,
        ..USUAL
    },
    Provider {
        id: "icloud",
        name: "iCloud Mail",
        domains: &["icloud.com", "me.com", "mac.com"],
        mx: &["*.mail.icloud.com"],
        host: Host::Fixed("smtp.mail.me.com"),
        encryption: Encryption::Starttls,
        port: 587,
        alternative: None,
        auth: Auth::AppPassword,
        spf: Some("icloud.com"),
        hint: text(
            "Das Passwort des Apple-Kontos wird nicht angenommen: Legen Sie auf account.apple.com \
             ein app-spezifisches Passwort an und verwenden Sie dieses.",
            "The password of the Apple account is not accepted: make an app-specific password at \
             account.apple.com and use that.",
        ),
        ..USUAL
    },
    Provider {
        id: "fastmail",
        name: "Fastmail",
        domains: &["fastmail.com", "fastmail.fm"],
        mx: &["*.messagingengine.com"],
        host: Host::Fixed("smtp.fastmail.com"),
        alternative: None,
        auth: Auth::AppPassword,
        spf: Some("spf.messagingengine.com"),
        hint: APP_PASSWORD,
        ..USUAL
    },
    Provider {
        id: "proton",
        name: "Proton Mail",
        domains: &["proton.me", "protonmail.com", "pm.me"],
        mx: &["*.protonmail.ch"],
        host: Host::Fixed("smtp.protonmail.ch"),
        encryption: Encryption::Starttls,
        port: 587,
        alternative: None,
        auth: Auth::AppPassword,
        spf: Some("_spf.protonmail.ch"),
        hint: text(
            "Geht nur mit bezahltem Tarif und eigener Domain: Legen Sie in den Einstellungen ein \
             SMTP-Token an und verwenden Sie es als Passwort. Sonst hilft die Proton Mail Bridge \
             auf diesem Rechner: host = \"127.0.0.1\", port = 1025, certificate = \
             \"trust-always\".",
            "Works only with a paid plan and a domain of your own: make an SMTP token in the \
             settings and use it as the password. Otherwise the Proton Mail Bridge on this machine \
             helps: host = \"127.0.0.1\", port = 1025, certificate = \"trust-always\".",
        ),
        ..USUAL
    },
    Provider {
        id: "tuta",
        name: "Tuta",
        domains: &["tuta.*", "tutanota.*", "tutamail.com", "keemail.me"],
        mx: &["*.tutanota.de"],
        host: Host::Ask,
        alternative: None,
        hint: text(
            "Tuta lässt keine anderen Programme Mail senden; es gibt keinen Postausgangsserver. \
             Nehmen Sie für den Versand ein Postfach bei einem anderen Anbieter.",
            "Tuta lets no other programs send mail; there is no server for outgoing mail. Use a \
             mailbox at another provider for sending.",
        ),
        ..USUAL
    },
    Provider {
        id: "gandi",
        name: "Gandi",
        mx: &["*.mail.gandi.net"],
        host: Host::Fixed("mail.gandi.net"),
        ..USUAL
    },
    Provider {
        id: "ovh",
        name: "OVHcloud",
        mx: &["*.mail.ovh.net"],
        host: Host::Fixed("ssl0.ovh.net"),
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "one-com",
        name: "one.com",
        mx: &["*.one.com"],
        host: Host::Fixed("send.one.com"),
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "godaddy",
        name: "GoDaddy",
        mx: &["*.secureserver.net"],
        host: Host::Fixed("smtpout.secureserver.net"),
        alternative: None,
        hint: text(
            "Gilt für das eigene Mailangebot von GoDaddy (Workspace Email). Ist Ihr Postfach dort \
             ein Microsoft-365-Postfach, nehmen Sie host = \"smtp.office365.com\".",
            "This is for GoDaddy's own mail service (Workspace Email). If your mailbox there is a \
             Microsoft 365 one, use host = \"smtp.office365.com\".",
        ),
        ..USUAL
    },
    Provider {
        id: "rackspace",
        name: "Rackspace Email",
        mx: &["*.emailsrvr.com"],
        host: Host::Fixed("secure.emailsrvr.com"),
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "yandex",
        name: "Yandex",
        domains: &["yandex.*", "ya.ru"],
        mx: &["*.yandex.net", "*.yandex.ru"],
        host: Host::Fixed("smtp.yandex.com"),
        alternative: None,
        auth: Auth::AppPassword,
        hint: APP_PASSWORD,
        ..USUAL
    },
    Provider {
        id: "mail-ru",
        name: "Mail.ru",
        domains: &["mail.ru", "inbox.ru", "list.ru", "bk.ru"],
        mx: &["*.mail.ru"],
        host: Host::Fixed("smtp.mail.ru"),
        auth: Auth::AppPassword,
        hint: APP_PASSWORD,
        ..USUAL
    },
    Provider {
        id: "seznam",
        name: "Seznam",
        domains: &["seznam.cz", "email.cz", "post.cz"],
        host: Host::Fixed("smtp.seznam.cz"),
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "libero",
        name: "Libero",
        domains: &["libero.it"],
        host: Host::Fixed("smtp.libero.it"),
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "orange",
        name: "Orange",
        domains: &["orange.fr", "wanadoo.fr"],
        host: Host::Fixed("smtp.orange.fr"),
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "free",
        name: "Free",
        domains: &["free.fr"],
        host: Host::Fixed("smtp.free.fr"),
        alternative: None,
        login: Login::LocalPart,
        hint: LOCAL_PART,
        ..USUAL
    },
    Provider {
        id: "laposte",
        name: "La Poste",
        domains: &["laposte.net"],
        host: Host::Fixed("smtp.laposte.net"),
        alternative: None,
        login: Login::LocalPart,
        hint: LOCAL_PART,
        ..USUAL
    },
    Provider {
        id: "ziggo",
        name: "Ziggo",
        domains: &["ziggo.nl"],
        host: Host::Fixed("smtp.ziggo.nl"),
        encryption: Encryption::Starttls,
        port: 587,
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "kpn",
        name: "KPN",
        domains: &["kpnmail.nl"],
        host: Host::Fixed("smtp.kpnmail.nl"),
        ..USUAL
    },
    Provider {
        id: "proximus",
        name: "Proximus",
        domains: &["proximus.be", "skynet.be"],
        host: Host::Fixed("relay.proximus.be"),
        encryption: Encryption::Starttls,
        port: 587,
        alternative: None,
        ..USUAL
    },
    Provider {
        id: "amazon-ses",
        name: "Amazon SES",
        mx: &["inbound-smtp.*.amazonaws.com"],
        host: Host::Ask,
        login: Login::Ask(text(
            "SMTP-Benutzername aus der SES-Konsole:",
            "SMTP user name from the SES console:",
        )),
        auth: Auth::AppPassword,
        spf: Some("amazonses.com"),
        hint: text(
            "Der Server heißt email-smtp.REGION.amazonaws.com, etwa \
             email-smtp.eu-central-1.amazonaws.com. Legen Sie in der SES-Konsole SMTP-Zugangsdaten \
             an (nicht die AWS-Schlüssel) und bestätigen Sie dort Ihre Absenderdomain; höchstens \
             50 Empfänger je Mail.",
            "The server is email-smtp.REGION.amazonaws.com, such as \
             email-smtp.eu-central-1.amazonaws.com. Make SMTP credentials in the SES console (not \
             the AWS keys) and verify your sender domain there; at most 50 recipients per message.",
        ),
        ..USUAL
    },
    Provider {
        id: "sendgrid",
        name: "SendGrid",
        host: Host::Fixed("smtp.sendgrid.net"),
        login: Login::Ask(text(
            "Benutzername (bei SendGrid immer wörtlich apikey):",
            "User name (at SendGrid always literally apikey):",
        )),
        auth: Auth::AppPassword,
        spf: Some("sendgrid.net"),
        hint: text(
            "Benutzername ist wörtlich apikey, Passwort ist ein API-Schlüssel mit dem Recht „Mail \
             Send“. Auch Port 2525 ist offen.",
            "The user name is literally apikey, the password is an API key with the permission \
             \"Mail Send\". Port 2525 is open as well.",
        ),
        ..USUAL
    },
    Provider {
        id: "mailgun",
        name: "Mailgun",
        host: Host::Fixed("smtp.mailgun.org"),
        login: Login::Ask(text(
            "SMTP-Benutzername aus Mailgun, etwa postmaster@mg.IHRE-DOMAIN:",
            "SMTP user name from Mailgun, such as postmaster@mg.YOUR-DOMAIN:",
        )),
        auth: Auth::AppPassword,
        spf: Some("mailgun.org"),
        hint: text(
            "Liegt die Domain bei Mailgun in der EU, nehmen Sie host = \"smtp.eu.mailgun.org\". \
             Benutzername und Passwort stehen dort bei den SMTP-Zugangsdaten der Domain.",
            "If the domain is in Mailgun's EU region, use host = \"smtp.eu.mailgun.org\". User \
             name and password stand there among the SMTP credentials of the domain.",
        ),
        ..USUAL
    },
    Provider {
        id: "mailjet",
        name: "Mailjet",
        host: Host::Fixed("in-v3.mailjet.com"),
        login: Login::Ask(text("API-Schlüssel aus Mailjet:", "API key from Mailjet:")),
        auth: Auth::AppPassword,
        spf: Some("spf.mailjet.com"),
        hint: text(
            "Benutzername ist der API-Schlüssel, Passwort der geheime Schlüssel dazu. Bestätigen \
             Sie die Absenderadresse oder Domain bei Mailjet.",
            "The user name is the API key, the password is its secret key. Verify the sender \
             address or domain at Mailjet.",
        ),
        ..USUAL
    },
    Provider {
        id: "brevo",
        name: "Brevo (Sendinblue)",
        host: Host::Fixed("smtp-relay.brevo.com"),
        encryption: Encryption::Starttls,
        port: 587,
        alternative: None,
        login: Login::Ask(text(
            "Anmeldeadresse bei Brevo (unter „SMTP & API“):",
            "Login address at Brevo (under \"SMTP & API\"):",
        )),
        auth: Auth::AppPassword,
        spf: Some("spf.brevo.com"),
        hint: text(
            "Benutzername ist die dort unter „SMTP & API“ gezeigte Anmeldung, Passwort ein \
             SMTP-Schlüssel (kein API-Schlüssel, nicht das Kontopasswort).",
            "The user name is the login shown there under \"SMTP & API\", the password is an SMTP \
             key (no API key, not the account password).",
        ),
        ..USUAL
    },
    Provider {
        id: "postmark",
        name: "Postmark",
        host: Host::Fixed("smtp.postmarkapp.com"),
        encryption: Encryption::Starttls,
        port: 587,
        alternative: Some((Encryption::Starttls, 2525)),
        login: Login::Ask(text(
            "Server-Token aus Postmark:",
            "Server token from Postmark:",
        )),
        auth: Auth::AppPassword,
        spf: Some("spf.mtasv.net"),
        hint: text(
            "Das Server-Token ist zugleich Benutzername und Passwort. Die Absenderadresse oder \
             Domain muss bei Postmark bestätigt sein.",
            "The server token is both user name and password. The sender address or domain must be \
             verified at Postmark.",
        ),
        ..USUAL
    },
    Provider {
        id: "resend",
        name: "Resend",
        host: Host::Fixed("smtp.resend.com"),
        alternative: None,
        login: Login::Ask(text(
            "Benutzername (bei Resend immer wörtlich resend):",
            "User name (at Resend always literally resend):",
        )),
        auth: Auth::AppPassword,
        hint: text(
            "Benutzername ist wörtlich resend, Passwort ist ein API-Schlüssel. Bestätigen Sie Ihre \
             Domain bei Resend.",
            "The user name is literally resend, the password is an API key. Verify your domain at \
             Resend.",
        ),
        ..USUAL
    },
    Provider {
        id: "mailersend",
        name: "MailerSend",
        host: Host::Fixed("smtp.mailersend.net"),
        encryption: Encryption::Starttls,
        port: 587,
        alternative: None,
        login: SMTP_USER,
        auth: Auth::AppPassword,
        hint: SMTP_CREDENTIALS,
        ..USUAL
    },
    Provider {
        id: "smtp2go",
        name: "SMTP2GO",
        host: Host::Fixed("mail.smtp2go.com"),
        login: SMTP_USER,
        auth: Auth::AppPassword,
        hint: SMTP_CREDENTIALS,
        ..USUAL
    },
    Provider {
        id: "sparkpost",
        name: "SparkPost",
        host: Host::Fixed("smtp.sparkpostmail.com"),
        encryption: Encryption::Starttls,
        port: 587,
        alternative: None,
        login: Login::Ask(text(
            "Benutzername (bei SparkPost üblich: SMTP_Injection):",
            "User name (at SparkPost usually SMTP_Injection):",
        )),
        auth: Auth::AppPassword,
        hint: text(
            "Passwort ist ein API-Schlüssel mit dem Recht „Send via SMTP“. Bestätigen Sie Ihre \
             Absenderdomain bei SparkPost.",
            "The password is an API key with the permission \"Send via SMTP\". Verify your sender \
             domain at SparkPost.",
        ),
        ..USUAL
    },
    Provider {
        id: "google-relay",
        name: "Google Workspace SMTP-Relay",
        host: Host::Fixed("smtp-relay.gmail.com"),
        auth: Auth::OAuthOrAppPassword,
        spf: Some("_spf.google.com"),
        hint: text(
            "Der Relaydienst muss in der Google-Admin-Konsole unter Gmail, Routing eingeschaltet \
             sein. Ist dort Ihre IP-Adresse freigegeben, genügt authentication = \"none\"; sonst \
             melden Sie sich mit einem App-Passwort an.",
            "The relay service must be turned on in the Google admin console under Gmail, Routing. \
             If your IP address is allowed there, authentication = \"none\" is enough; otherwise \
             log in with an app password.",
        ),
        ..USUAL
    },
];

const LOCAL_PART: Text = text(
    "Benutzername ist nur der Teil vor dem @, Passwort das des Postfachs.",
    "The user name is only the part before the @, the password is that of the mailbox.",
);

const SMTP_USER: Login = Login::Ask(text(
    "SMTP-Benutzername aus dem Kundenbereich:",
    "SMTP user name from the customer area:",
));

const SMTP_CREDENTIALS: Text = text(
    "Legen Sie im Kundenbereich einen SMTP-Benutzer mit Passwort an und bestätigen Sie dort Ihre \
     Absenderdomain.",
    "Make an SMTP user with a password in the customer area and verify your sender domain there.",
);

/// Filters that stand before a mailbox: their MX says nothing about where the mailbox is.
const GATEWAYS: &[&str] = &[
    "*.hornetsecurity.com",      // Hornetsecurity
    "*.antispameurope.com",      // Hornetsecurity
    "*.mimecast.com",            // Mimecast
    "*.mimecast.co.za",          // Mimecast
    "*.mimecast-offshore.com",   // Mimecast
    "*.pphosted.com",            // Proofpoint
    "*.ppe-hosted.com",          // Proofpoint Essentials
    "*.barracudanetworks.com",   // Barracuda
    "*.barracudanetworks.co.uk", // Barracuda
    "*.sophos.com",              // Sophos
    "*.nospamproxy.com",         // NoSpamProxy
    "*.tmes.trendmicro.eu",      // Trend Micro
    "*.tmes.trendmicro.com",     // Trend Micro
    "*.messagelabs.com",         // Broadcom (Symantec)
    "*.iphmx.com",               // Cisco
    "*.mailcontrol.com",         // Forcepoint
];

/// The provider of an address with this domain, by the domain alone.
#[must_use]
pub fn by_domain(domain: &str) -> Option<&'static Provider> {
    let domain = normalise(domain);
    if domain.is_empty() {
        return None;
    }
    PROVIDERS
        .iter()
        .find(|provider| provider.domains.contains(&domain.as_str()))
        .or_else(|| {
            PROVIDERS
                .iter()
                .find(|provider| provider.domains.iter().any(|p| domain_matches(p, &domain)))
        })
}

/// The provider of a domain whose MX record names this host.
#[must_use]
pub fn by_mx(mx_host: &str) -> Option<&'static Provider> {
    let host = normalise(mx_host);
    PROVIDERS
        .iter()
        .find(|provider| provider.mx.iter().any(|p| labels_match(p, &host)))
}

/// The provider with this [`Provider::id`].
#[must_use]
pub fn by_id(id: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.id == id)
}

/// Whether an MX host belongs to a filter service, so that the mailbox is somewhere else.
#[must_use]
pub fn is_gateway(mx_host: &str) -> bool {
    let host = normalise(mx_host);
    GATEWAYS.iter().any(|pattern| labels_match(pattern, &host))
}

/// Lower case, no blanks around, no dot at the end.
fn normalise(name: &str) -> String {
    let name = name.trim();
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// A pattern of [`Provider::domains`].
fn domain_matches(pattern: &str, domain: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(name) => domain
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('.'))
            .is_some_and(is_registry_suffix),
        None => labels_match(pattern, domain),
    }
}

/// `com`, a country code, or `co.` or `com.` and a country code.
fn is_registry_suffix(suffix: &str) -> bool {
    let country = |label: &str| label.len() == 2 && label.bytes().all(|b| b.is_ascii_lowercase());
    match suffix.split_once('.') {
        None => suffix == "com" || country(suffix),
        Some((second, top)) => matches!(second, "co" | "com") && country(top),
    }
}

/// A pattern of whole labels: `*` as first label is one or more, elsewhere exactly one.
fn labels_match(pattern: &str, host: &str) -> bool {
    let mut labels = host.rsplit('.');
    let mut patterns = pattern.rsplit('.').peekable();
    while let Some(wanted) = patterns.next() {
        let first = patterns.peek().is_none();
        match labels.next() {
            None | Some("") => return false,
            Some(_) if wanted == "*" && first => return true,
            Some(label) if wanted == "*" || label == wanted => {}
            Some(_) => return false,
        }
    }
    labels.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::explain::testing::check_text;

    fn id(found: Option<&'static Provider>) -> &'static str {
        found.map_or("-", |provider| provider.id)
    }

    #[test]
    fn domains() {
        for (domain, expected) in [
            ("gmail.com", "google"),
            ("GoogleMail.com.", "google"),
            ("outlook.com", "outlook-com"),
            ("outlook.de", "outlook-com"),
            ("outlook.at", "outlook-com"),
            ("hotmail.com", "outlook-com"),
            ("hotmail.co.uk", "outlook-com"),
            ("hotmail.com.br", "outlook-com"),
            ("live.de", "outlook-com"),
            ("msn.com", "outlook-com"),
            ("contoso.onmicrosoft.com", "microsoft-365"),
            ("gmx.net", "gmx"),
            ("gmx.at", "gmx"),
            ("gmx.com", "gmx-com"),
            ("mail.com", "mail-com"),
            ("web.de", "web-de"),
            ("online.de", "ionos"),
            ("t-online.de", "telekom"),
            ("magenta.de", "telekom"),
            ("mailbox.org", "mailbox-org"),
            ("posteo.de", "posteo"),
            ("posteo.net", "posteo"),
            ("arcor.de", "vodafone"),
            ("freenet.de", "freenet"),
            ("aon.at", "a1"),
            ("bluewin.ch", "bluewin"),
            ("ik.me", "infomaniak"),
            ("zoho.eu", "zoho-eu"),
            ("zoho.com", "zoho"),
            ("zoho.com.au", "zoho-au"),
            ("yahoo.de", "yahoo"),
            ("yahoo.co.jp", "yahoo"),
            ("aol.com", "aol"),
            ("verizon.net", "aol"),
            ("me.com", "icloud"),
            ("fastmail.com", "fastmail"),
            ("pm.me", "proton"),
            ("tuta.com", "tuta"),
            ("tutanota.de", "tuta"),
            ("ya.ru", "yandex"),
            ("yandex.com.tr", "yandex"),
            ("bk.ru", "mail-ru"),
            ("laposte.net", "laposte"),
            // own domains, near misses, nonsense
            ("acme.example", "-"),
            ("notgmail.com", "-"),
            ("mail.gmail.com", "-"),
            ("gmail.com.evil.example", "-"),
            ("hotmail.shop", "-"),
            ("hotmail.com.evil", "-"),
            ("hotmail.evil.de", "-"),
            ("nothotmail.de", "-"),
            ("hotmail", "-"),
            ("hotmail.", "-"),
            ("sub.hotmail.de", "-"),
            ("evilonmicrosoft.com", "-"),
            ("", "-"),
            (".", "-"),
            ("*", "-"),
        ] {
            assert_eq!(id(by_domain(domain)), expected, "{domain}");
        }
    }

    #[test]
    fn mx_hosts() {
        for (host, expected) in [
            ("aspmx.l.google.com", "google"),
            ("ALT1.ASPMX.L.GOOGLE.COM.", "google"),
            ("smtp.google.com", "google"),
            ("aspmx2.googlemail.com", "google"),
            ("alt2.gmail-smtp-in.l.google.com", "google"),
            ("acme-example.mail.protection.outlook.com", "microsoft-365"),
            ("acme-example.l-v1.mx.microsoft", "microsoft-365"),
            ("hotmail-com.olc.protection.outlook.com", "outlook-com"),
            ("mx00.emig.gmx.net", "gmx"),
            ("mx01.gmx.com", "gmx-com"),
            ("mx00.mail.com", "mail-com"),
            ("mx-ha02.web.de", "web-de"),
            ("mx00.ionos.de", "ionos"),
            ("mx01.kundenserver.de", "ionos"),
            ("mx00.1and1.com", "ionos"),
            ("mx00.1and1.co.uk", "ionos"),
            ("mx01.schlund.de", "ionos"),
            ("smtpin.rzone.de", "strato"),
            ("mx00.t-online.de", "telekom"),
            ("mx1.hier-im-netz.de", "telekom-hosting"),
            ("mxext1.mailbox.org", "mailbox-org"),
            ("mx01.posteo.de", "posteo"),
            ("emig.freenet.de", "freenet"),
            ("smx01.a1.net", "a1"),
            ("mx01.world4you.com", "world4you"),
            ("mx01.easyname.eu", "easyname"),
            ("www123.your-server.de", "hetzner"),
            ("w0123456.kasserver.com", "all-inkl"),
            ("mx1.agenturserver.de", "mittwald"),
            ("mx2.agenturserver.it", "mittwald"),
            ("mx0.hosteurope.de", "host-europe"),
            ("mxlb.ispgateway.de", "domainfactory"),
            ("mxf9a1.netcup.net", "netcup"),
            ("s123.goserver.host", "webgo"),
            ("mx02.hosting.de", "hosting-de"),
            ("mx00.udag.de", "united-domains"),
            ("mxbw.bluewin.ch", "bluewin"),
            ("mta-gw.infomaniak.ch", "infomaniak"),
            ("mx1.mail.hostpoint.ch", "hostpoint"),
            ("mx.zoho.eu", "zoho-eu"),
            ("mx2.zoho.com", "zoho"),
            ("mx-eu.mail.am0.yahoodns.net", "yahoo"),
            ("mx01.mail.icloud.com", "icloud"),
            ("in1-smtp.messagingengine.com", "fastmail"),
            ("mailsec.protonmail.ch", "proton"),
            ("mail.tutanota.de", "tuta"),
            ("spool.mail.gandi.net", "gandi"),
            ("mx1.mail.ovh.net", "ovh"),
            ("mx1.pub.mailpod2-cph3.one.com", "one-com"),
            ("smtp.secureserver.net", "godaddy"),
            ("mx1.emailsrvr.com", "rackspace"),
            ("mx.yandex.net", "yandex"),
            ("mxs.mail.ru", "mail-ru"),
            ("inbound-smtp.eu-west-1.amazonaws.com", "amazon-ses"),
            // near misses, gateways, nonsense
            ("inbound-smtp.a.b.amazonaws.com", "-"),
            ("mx.phone.com", "-"),
            ("one.com", "-"),
            ("gmx.net.evil.example", "-"),
            ("evilgmx.net", "-"),
            ("mx04.hosting.de", "-"),
            ("mx.hosting.de", "-"),
            (".gmx.net", "-"),
            ("mail.acme.example", "-"),
            ("mx01.hornetsecurity.com", "-"),
            ("", "-"),
            (".", "-"),
            ("..", "-"),
        ] {
            assert_eq!(id(by_mx(host)), expected, "{host}");
        }
    }

    #[test]
    fn gateways() {
        for host in [
            "mx01.hornetsecurity.com",
            "MX23a.antispameurope.com.",
            "eu-smtp-inbound-1.mimecast.com",
            "mx0a-00123456.pphosted.com",
            "mx1-eu1.ppe-hosted.com",
            "d12345a.ess.de.barracudanetworks.com",
            "mx-01-eu-central-1.prod.hydra.sophos.com",
            "acme.cloud.nospamproxy.com",
            "acme.in.tmes.trendmicro.eu",
        ] {
            assert!(is_gateway(host), "{host}");
            assert_eq!(id(by_mx(host)), "-", "{host}");
        }
        for host in ["mimecast.com", "notmimecast.com", "aspmx.l.google.com", ""] {
            assert!(!is_gateway(host), "{host}");
        }
    }

    #[test]
    fn hosts() {
        for (provider, domain, mx, expected) in [
            ("google", "acme.example", None, Some("smtp.gmail.com")),
            (
                "all-inkl",
                "acme.example",
                Some("W01.kasserver.com."),
                Some("w01.kasserver.com"),
            ),
            ("all-inkl", "acme.example", None, None),
            (
                "netcup",
                "Acme.Example",
                Some("mxf1.netcup.net"),
                Some("mail.acme.example"),
            ),
            (
                "host-europe",
                "acme.example",
                Some("mx0.hosteurope.de"),
                None,
            ),
        ] {
            let host = by_id(provider).and_then(|p| p.host.name(domain, mx));
            assert_eq!(host.as_deref(), expected, "{provider}");
        }
    }

    #[test]
    fn facts() {
        use Encryption::{Starttls, Tls};
        for (provider, encryption, port, login, auth, seven_bit) in [
            (
                "google",
                Tls,
                465,
                Login::Address,
                Auth::OAuthOrAppPassword,
                false,
            ),
            (
                "microsoft-365",
                Starttls,
                587,
                Login::Address,
                Auth::OAuthOnly,
                false,
            ),
            (
                "outlook-com",
                Starttls,
                587,
                Login::Address,
                Auth::OAuthOnly,
                false,
            ),
            ("gmx", Tls, 465, Login::Address, Auth::Password, true),
            ("web-de", Tls, 465, Login::LocalPart, Auth::Password, true),
            ("ionos", Tls, 465, Login::Address, Auth::Password, true),
            ("a1", Starttls, 587, Login::Address, Auth::Password, false),
            (
                "icloud",
                Starttls,
                587,
                Login::Address,
                Auth::AppPassword,
                false,
            ),
            (
                "yahoo",
                Tls,
                465,
                Login::Address,
                Auth::OAuthOrAppPassword,
                false,
            ),
            ("laposte", Tls, 465, Login::LocalPart, Auth::Password, false),
        ] {
            let found =
                by_id(provider).map(|p| (p.encryption, p.port, p.login, p.auth, p.seven_bit));
            assert_eq!(
                found,
                Some((encryption, port, login, auth, seven_bit)),
                "{provider}"
            );
        }
    }

    #[test]
    fn table_is_sound() {
        let mut ids = HashSet::new();
        let mut domains = HashSet::new();
        let mut hosts = HashSet::new();
        for provider in PROVIDERS {
            let id = provider.id;
            assert!(!id.is_empty() && ids.insert(id), "{id}: twice");
            assert!(
                id.bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')),
                "{id}: not kebab-case"
            );
            assert!(!provider.name.is_empty(), "{id}");
            check_text(id, provider.hint);
            if let Login::Ask(question) = provider.login {
                check_text(id, question);
            }
            for pattern in provider.domains {
                assert!(domains.insert(pattern), "{id}: {pattern} twice");
                assert_eq!(*pattern, normalise(pattern), "{id}");
            }
            for pattern in provider.mx {
                assert!(hosts.insert(pattern), "{id}: {pattern} twice");
                assert_eq!(*pattern, normalise(pattern), "{id}");
            }
            if let Host::Fixed(host) = provider.host {
                assert_eq!(host, normalise(host), "{id}");
                assert!(host.contains('.'), "{id}");
            }
            if let Host::Domain(prefix) = provider.host {
                assert!(prefix.ends_with('.'), "{id}");
            }
            let usual = match provider.encryption {
                Encryption::Tls => 465,
                Encryption::Starttls => 587,
            };
            assert_eq!(provider.port, usual, "{id}");
            assert_ne!(
                provider.alternative,
                Some((provider.encryption, provider.port)),
                "{id}"
            );
        }
    }
}
