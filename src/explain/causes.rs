//! Failures without a reply: the name, the connection, TLS, our own settings, our own message.

use std::fmt;

use super::{Explanation, Text};
use crate::failure::{Class, Stage};

/// Why a delivery failed although the server refused nothing in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The name service says that the host does not exist.
    NameNotFound,
    /// The name service gave no answer.
    NameLookupFailed,
    /// The host refuses connections on this port.
    ConnectRefused,
    /// No answer to the connection.
    ConnectTimeout,
    /// No way to the host.
    ConnectUnreachable,
    /// Connected, but no greeting came.
    GreetingTimeout,
    /// Something answers, but it is not a mail server.
    NotSmtp,
    /// We waited for a plain greeting, the port speaks TLS at once.
    TlsOnPlainPort,
    /// We started TLS at once, the port speaks plain SMTP first.
    PlainOnTlsPort,
    /// STARTTLS is required and not offered.
    StarttlsMissing,
    /// STARTTLS is offered, but was refused.
    StarttlsRefused,
    /// There were bytes between the answer to STARTTLS and the handshake.
    StarttlsInjection,
    /// The TLS handshake failed for another reason than the certificate.
    TlsHandshake,
    /// The server knows no TLS 1.2.
    TlsTooOld,
    /// The server's certificate is signed by itself.
    CertificateSelfSigned,
    /// The server's certificate is signed by an authority that this machine does not know.
    CertificateUnknownAuthority,
    /// The server's certificate has expired.
    CertificateExpired,
    /// The server's certificate is not valid yet.
    CertificateNotYetValid,
    /// The server's certificate is for another name.
    CertificateWrongName,
    /// The server's certificate was revoked.
    CertificateRevoked,
    /// The server's key is none of `pins`.
    CertificatePinMismatch,
    /// The server's certificate cannot be accepted for another reason.
    CertificateOther,
    /// Our own client certificate or its key cannot be used.
    ClientCertificateUnusable,
    /// The server offers no way to log in that we may use.
    AuthMechanismMissing,
    /// The password would go unencrypted, and we refused that.
    AuthWithoutTls,
    /// The password or secret cannot be read from its place.
    CredentialMissing,
    /// The connection was lost before the final dot.
    ConnectionLost,
    /// The server was silent for too long before the final dot.
    Timeout,
    /// The server answered something that is no SMTP reply.
    ProtocolError,
    /// The final dot was sent, no answer came.
    FinalDotNoAnswer,
    /// The message is bigger than the server's SIZE.
    TooLargeForUpstream,
    /// An address has letters beyond ASCII and the server has no SMTPUTF8 (RFC 6531; 5.6.7).
    Utf8AddressUnsupported,
    /// The upstream is Postbote itself.
    OwnAddress,
    /// The message cannot be brought into a form that may leave.
    MessageUnusable,
    /// The sender that the rules give a message may no longer be used by its login.
    SenderNotGranted,
    /// A DKIM key is missing or cannot be read.
    KeyUnusable,
    /// The directory of captured mail cannot be written.
    WriteFailed,
    /// Nobody has consented to the application yet, or its refresh token is gone.
    ConsentMissing,
    /// A new refresh token could not be made durable.
    TokenNotStored,
    /// An HTTP server answered something that cannot be used.
    AnswerUnusable,
    /// An HTTP request was sent whole, no answer came.
    RequestNoAnswer,
    /// Beyond the limit of one request, and its structure may not be taken apart.
    TooLargeToSplit,
    /// Beyond the limit of one request, and the permission for drafts is missing.
    UploadNotPermitted,
}

impl Cause {
    /// All of them, in the order of a delivery.
    pub const ALL: &'static [Self] = &[
        Self::NameNotFound,
        Self::NameLookupFailed,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectUnreachable,
        Self::GreetingTimeout,
        Self::NotSmtp,
        Self::TlsOnPlainPort,
        Self::PlainOnTlsPort,
        Self::StarttlsMissing,
        Self::StarttlsRefused,
        Self::StarttlsInjection,
        Self::TlsHandshake,
        Self::TlsTooOld,
        Self::CertificateSelfSigned,
        Self::CertificateUnknownAuthority,
        Self::CertificateExpired,
        Self::CertificateNotYetValid,
        Self::CertificateWrongName,
        Self::CertificateRevoked,
        Self::CertificatePinMismatch,
        Self::CertificateOther,
        Self::ClientCertificateUnusable,
        Self::AuthMechanismMissing,
        Self::AuthWithoutTls,
        Self::CredentialMissing,
        Self::ConnectionLost,
        Self::Timeout,
        Self::ProtocolError,
        Self::FinalDotNoAnswer,
        Self::TooLargeForUpstream,
        Self::Utf8AddressUnsupported,
        Self::OwnAddress,
        Self::MessageUnusable,
        Self::SenderNotGranted,
        Self::KeyUnusable,
        Self::WriteFailed,
        Self::ConsentMissing,
        Self::TokenNotStored,
        Self::AnswerUnusable,
        Self::RequestNoAnswer,
        Self::TooLargeToSplit,
        Self::UploadNotPermitted,
    ];

    /// The stable name, in kebab-case, for logs, JSON and documentation.
    #[must_use]
    pub const fn id(self) -> &'static str {
        match self {
            Self::NameNotFound => "name-not-found",
            Self::NameLookupFailed => "name-lookup-failed",
            Self::ConnectRefused => "connect-refused",
            Self::ConnectTimeout => "connect-timeout",
            Self::ConnectUnreachable => "connect-unreachable",
            Self::GreetingTimeout => "greeting-timeout",
            Self::NotSmtp => "not-smtp",
            Self::TlsOnPlainPort => "tls-on-plain-port",
            Self::PlainOnTlsPort => "plain-on-tls-port",
            Self::StarttlsMissing => "starttls-missing",
            Self::StarttlsRefused => "starttls-refused",
            Self::StarttlsInjection => "starttls-injection",
            Self::TlsHandshake => "tls-handshake",
            Self::TlsTooOld => "tls-too-old",
            Self::CertificateSelfSigned => "certificate-self-signed",
            Self::CertificateUnknownAuthority => "certificate-unknown-authority",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotYetValid => "certificate-not-yet-valid",
            Self::CertificateWrongName => "certificate-wrong-name",
            Self::CertificateRevoked => "certificate-revoked",
            Self::CertificatePinMismatch => "certificate-pin-mismatch",
            Self::CertificateOther => "certificate-other",
            Self::ClientCertificateUnusable => "client-certificate-unusable",
            Self::AuthMechanismMissing => "auth-mechanism-missing",
            Self::AuthWithoutTls => "auth-without-tls",
            Self::CredentialMissing => "credential-missing",
            Self::ConnectionLost => "connection-lost",
            Self::Timeout => "timeout",
            Self::ProtocolError => "protocol-error",
            Self::FinalDotNoAnswer => "final-dot-no-answer",
            Self::TooLargeForUpstream => "too-large-for-upstream",
            Self::Utf8AddressUnsupported => "utf8-address-unsupported",
            Self::OwnAddress => "own-address",
            Self::MessageUnusable => "message-unusable",
            Self::SenderNotGranted => "sender-not-granted",
            Self::KeyUnusable => "key-unusable",
            Self::WriteFailed => "write-failed",
            Self::ConsentMissing => "consent-missing",
            Self::TokenNotStored => "token-not-stored",
            Self::AnswerUnusable => "answer-unusable",
            Self::RequestNoAnswer => "request-no-answer",
            Self::TooLargeToSplit => "too-large-to-split",
            Self::UploadNotPermitted => "upload-not-permitted",
        }
    }

    /// What is to be done. Names, connections and handshakes mend themselves; certificates,
    /// credentials and keys are mended by a person and never cost a message.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::NameNotFound
            | Self::NameLookupFailed
            | Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectUnreachable
            | Self::GreetingTimeout
            | Self::NotSmtp
            | Self::TlsOnPlainPort
            | Self::PlainOnTlsPort
            | Self::StarttlsMissing
            | Self::StarttlsRefused
            | Self::StarttlsInjection
            | Self::TlsHandshake
            | Self::TlsTooOld
            | Self::ConnectionLost
            | Self::Timeout
            | Self::ProtocolError
            | Self::WriteFailed
            | Self::TokenNotStored
            | Self::AnswerUnusable => Class::Transient,
            Self::CertificateSelfSigned
            | Self::CertificateUnknownAuthority
            | Self::CertificateExpired
            | Self::CertificateNotYetValid
            | Self::CertificateWrongName
            | Self::CertificateRevoked
            | Self::CertificatePinMismatch
            | Self::CertificateOther
            | Self::ClientCertificateUnusable
            | Self::AuthMechanismMissing
            | Self::AuthWithoutTls
            | Self::CredentialMissing
            | Self::OwnAddress
            | Self::ConsentMissing
            | Self::KeyUnusable => Class::Suspend,
            Self::FinalDotNoAnswer | Self::RequestNoAnswer => Class::Uncertain,
            Self::TooLargeForUpstream
            | Self::Utf8AddressUnsupported
            | Self::MessageUnusable
            | Self::SenderNotGranted
            | Self::TooLargeToSplit
            | Self::UploadNotPermitted => Class::Permanent,
        }
    }

    /// Where it happens. A lost connection, a time-out and a broken reply happen anywhere before
    /// the final dot; for these three the transport knows better than this default.
    #[must_use]
    pub const fn stage(self) -> Stage {
        match self {
            Self::ClientCertificateUnusable
            | Self::CredentialMissing
            | Self::OwnAddress
            | Self::MessageUnusable
            | Self::SenderNotGranted
            | Self::TooLargeToSplit
            | Self::UploadNotPermitted
            | Self::KeyUnusable => Stage::Prepare,
            Self::NameNotFound | Self::NameLookupFailed => Stage::Resolve,
            Self::ConnectRefused | Self::ConnectTimeout | Self::ConnectUnreachable => {
                Stage::Connect
            }
            Self::GreetingTimeout | Self::NotSmtp | Self::TlsOnPlainPort => Stage::Hello,
            Self::PlainOnTlsPort
            | Self::StarttlsMissing
            | Self::StarttlsRefused
            | Self::StarttlsInjection
            | Self::TlsHandshake
            | Self::TlsTooOld
            | Self::CertificateSelfSigned
            | Self::CertificateUnknownAuthority
            | Self::CertificateExpired
            | Self::CertificateNotYetValid
            | Self::CertificateWrongName
            | Self::CertificateRevoked
            | Self::CertificatePinMismatch
            | Self::CertificateOther => Stage::Tls,
            Self::AuthMechanismMissing | Self::AuthWithoutTls | Self::ConsentMissing => Stage::Auth,
            Self::TooLargeForUpstream | Self::Utf8AddressUnsupported => Stage::Mail,
            Self::ConnectionLost
            | Self::Timeout
            | Self::ProtocolError
            | Self::TokenNotStored
            | Self::AnswerUnusable
            | Self::WriteFailed => Stage::Data,
            Self::FinalDotNoAnswer | Self::RequestNoAnswer => Stage::FinalDot,
        }
    }

    /// Why it happened and what helps.
    #[must_use]
    pub const fn meaning(self) -> &'static Explanation {
        match self {
            Self::NameNotFound => &Explanation {
                cause: Text {
                    de: "Der Name des Mailservers ist im Internet nicht bekannt (DNS).",
                    en: "The name of the mail server is not known on the internet (DNS).",
                },
                remedy: Text {
                    de: "Prüfen Sie die Schreibweise von [upstream] host. Ist es ein interner \
                         Name, muss der DNS-Server dieses Rechners ihn kennen.",
                    en: "Check the spelling of [upstream] host. If it is an internal name, the DNS \
                         server of this machine must know it.",
                },
            },
            Self::NameLookupFailed => &Explanation {
                cause: Text {
                    de: "Der DNS-Server dieses Rechners hat nicht geantwortet; die Adresse des \
                         Mailservers ließ sich nicht ermitteln.",
                    en: "The DNS server of this machine did not answer, so the address of the mail \
                         server could not be found.",
                },
                remedy: Text {
                    de: "Prüfen Sie Internetverbindung und DNS-Einstellung dieses Rechners. \
                         Postbote versucht es von selbst wieder.",
                    en: "Check the internet connection and the DNS settings of this machine. \
                         Postbote tries again by itself.",
                },
            },
            Self::ConnectRefused => &Explanation {
                cause: Text {
                    de: "Der Rechner ist erreichbar, nimmt auf diesem Port aber keine Verbindung \
                         an.",
                    en: "The machine can be reached, but accepts no connection on this port.",
                },
                remedy: Text {
                    de: "Prüfen Sie [upstream] host und port (üblich: 587 mit encryption = \
                         \"starttls\", 465 mit encryption = \"tls\"). Läuft der Mailserver im \
                         eigenen Haus, prüfen Sie, ob er gestartet ist.",
                    en: "Check [upstream] host and port (usual: 587 with encryption = \
                         \"starttls\", 465 with encryption = \"tls\"). If the mail server is your \
                         own, check that it is running.",
                },
            },
            Self::ConnectTimeout => &Explanation {
                cause: Text {
                    de: "Der Mailserver hat auf den Verbindungsversuch nicht geantwortet; oft hält \
                         eine Firewall oder der Internetanbieter den Port gesperrt.",
                    en: "The mail server did not answer the attempt to connect; often a firewall \
                         or the internet provider blocks the port.",
                },
                remedy: Text {
                    de: "Prüfen Sie [upstream] host und port und geben Sie den Port in der \
                         Firewall nach außen frei. Viele Rechenzentren sperren 25 und 465: Nehmen \
                         Sie dann port = 587 mit encryption = \"starttls\".",
                    en: "Check [upstream] host and port, and allow the port outwards in the \
                         firewall. Many data centres block 25 and 465: then use port = 587 with \
                         encryption = \"starttls\".",
                },
            },
            Self::ConnectUnreachable => &Explanation {
                cause: Text {
                    de: "Von diesem Rechner führt kein Weg zum Mailserver (Netz oder Rechner nicht \
                         erreichbar).",
                    en: "There is no way from this machine to the mail server (network or host \
                         unreachable).",
                },
                remedy: Text {
                    de: "Prüfen Sie Internetverbindung, VPN und Firewall dieses Rechners. Postbote \
                         versucht es von selbst wieder.",
                    en: "Check the internet connection, VPN and firewall of this machine. Postbote \
                         tries again by itself.",
                },
            },
            Self::GreetingTimeout => &Explanation {
                cause: Text {
                    de: "Die Verbindung kam zustande, aber der Mailserver hat sich nicht gemeldet. \
                         Entweder ist er überlastet, oder der Port erwartet sofort eine \
                         Verschlüsselung.",
                    en: "The connection was made, but the mail server did not say anything. Either \
                         it is overloaded, or the port expects encryption at once.",
                },
                remedy: Text {
                    de: "Ist port = 465 eingestellt, setzen Sie encryption = \"tls\". Sonst warten \
                         Sie ab: Postbote versucht es von selbst wieder.",
                    en: "If port is 465, set encryption = \"tls\". Otherwise wait: Postbote tries \
                         again by itself.",
                },
            },
            Self::NotSmtp => &Explanation {
                cause: Text {
                    de: "Unter dieser Adresse antwortet etwas, aber kein Mailserver für den \
                         Versand.",
                    en: "Something answers at this address, but it is not a server for sending \
                         mail.",
                },
                remedy: Text {
                    de: "Prüfen Sie [upstream] host und port. Gebraucht wird der Server für \
                         ausgehende Mail (SMTP), nicht der für IMAP, POP3 oder die Webseite.",
                    en: "Check [upstream] host and port. What is needed is the server for outgoing \
                         mail (SMTP), not the one for IMAP, POP3 or the web site.",
                },
            },
            Self::TlsOnPlainPort => &Explanation {
                cause: Text {
                    de: "Der Port verlangt die Verschlüsselung sofort beim Verbinden; eingestellt \
                         ist aber, dass sie erst später beginnt.",
                    en: "The port wants encryption from the first moment, but the settings say \
                         that it begins later.",
                },
                remedy: Text {
                    de: "Setzen Sie [upstream] encryption = \"tls\" (üblich bei Port 465).",
                    en: "Set [upstream] encryption = \"tls\" (usual for port 465).",
                },
            },
            Self::PlainOnTlsPort => &Explanation {
                cause: Text {
                    de: "Der Port beginnt unverschlüsselt und schaltet die Verschlüsselung erst \
                         danach ein; eingestellt ist sie aber von Anfang an.",
                    en: "The port begins without encryption and turns it on afterwards, but the \
                         settings say encrypted from the start.",
                },
                remedy: Text {
                    de: "Setzen Sie [upstream] encryption = \"starttls\" (üblich bei Port 587), \
                         oder nehmen Sie port = 465, wenn der Anbieter ihn hat.",
                    en: "Set [upstream] encryption = \"starttls\" (usual for port 587), or use \
                         port = 465 if the provider has it.",
                },
            },
            Self::StarttlsMissing => &Explanation {
                cause: Text {
                    de: "Der Mailserver bietet auf diesem Port keine Verschlüsselung an \
                         (STARTTLS), sie ist aber verlangt. Manchmal entfernt eine Firewall oder \
                         ein Virenscanner dazwischen das Angebot.",
                    en: "The mail server does not offer encryption on this port (STARTTLS), but it \
                         is required. Sometimes a firewall or virus scanner in between removes the \
                         offer.",
                },
                remedy: Text {
                    de: "Nehmen Sie port = 465 mit [upstream] encryption = \"tls\", wenn der \
                         Anbieter das hat, und schalten Sie die Mailprüfung von Firewall und \
                         Virenscanner für diese Verbindung ab.",
                    en: "Use port = 465 with [upstream] encryption = \"tls\" if the provider has \
                         it, and turn off mail scanning by firewall or virus scanner for this \
                         connection.",
                },
            },
            Self::StarttlsRefused => &Explanation {
                cause: Text {
                    de: "Der Mailserver bietet Verschlüsselung an (STARTTLS), hat sie aber \
                         abgelehnt, als sie beginnen sollte.",
                    en: "The mail server offers encryption (STARTTLS), but refused when it was to \
                         begin.",
                },
                remedy: Text {
                    de: "Meist eine Störung des Mailservers: Postbote versucht es von selbst \
                         wieder. Hält es an, fragen Sie den Anbieter oder nehmen Sie port = 465 \
                         mit [upstream] encryption = \"tls\".",
                    en: "Usually a fault of the mail server: Postbote tries again by itself. If it \
                         lasts, ask the provider, or use port = 465 with [upstream] encryption = \
                         \"tls\".",
                },
            },
            Self::StarttlsInjection => &Explanation {
                cause: Text {
                    de: "Vor Beginn der Verschlüsselung kamen unverlangte Daten an. Der Mailserver \
                         ist fehlerhaft, oder jemand greift in die Verbindung ein; Postbote hat \
                         sie deshalb abgebrochen.",
                    en: "Unrequested data arrived before encryption began. The mail server is \
                         faulty or somebody interferes with the connection, so Postbote closed it.",
                },
                remedy: Text {
                    de: "Nehmen Sie port = 465 mit [upstream] encryption = \"tls\". Hält es an, \
                         melden Sie es dem Anbieter und prüfen Sie Firewall und Virenscanner auf \
                         dem Weg.",
                    en: "Use port = 465 with [upstream] encryption = \"tls\". If it lasts, report \
                         it to the provider and check firewalls and virus scanners on the way.",
                },
            },
            Self::TlsHandshake => &Explanation {
                cause: Text {
                    de: "Die verschlüsselte Verbindung kam nicht zustande, weil sich beide Seiten \
                         nicht einigen konnten oder die Leitung abbrach.",
                    en: "The encrypted connection could not be set up, because both sides found no \
                         common ground or the line broke.",
                },
                remedy: Text {
                    de: "Prüfen Sie, ob [upstream] port und encryption zusammenpassen (587 und \
                         \"starttls\", 465 und \"tls\"). Mit „postbote doctor TENANT“ sehen Sie \
                         die Einzelheiten.",
                    en: "Check that [upstream] port and encryption belong together (587 and \
                         \"starttls\", 465 and \"tls\"). 'postbote doctor TENANT' shows the \
                         details.",
                },
            },
            Self::TlsTooOld => &Explanation {
                cause: Text {
                    de: "Der Mailserver beherrscht nur veraltete, unsichere Verschlüsselung (älter \
                         als TLS 1.2).",
                    en: "The mail server knows only outdated, unsafe encryption (older than TLS \
                         1.2).",
                },
                remedy: Text {
                    de: "Der Mailserver muss auf TLS 1.2 oder neuer gebracht werden. Fragen Sie \
                         den Anbieter nach einem neueren Server und tragen Sie ihn bei [upstream] \
                         host ein.",
                    en: "The mail server must be brought to TLS 1.2 or newer. Ask the provider for \
                         a newer server and enter it as [upstream] host.",
                },
            },
            Self::CertificateSelfSigned => &Explanation {
                cause: Text {
                    de: "Der Mailserver weist sich mit einem selbst ausgestellten Zertifikat aus, \
                         das niemand bestätigt hat.",
                    en: "The mail server shows a certificate that it made itself and that nobody \
                         has confirmed.",
                },
                remedy: Text {
                    de: "Ist es Ihr eigener Server, tragen Sie sein Zertifikat bei [upstream] \
                         ca_file ein oder setzen Sie certificate = \"trust-always\". Bei einem \
                         öffentlichen Anbieter darf das nicht sein: Prüfen Sie host, Firewall und \
                         Virenscanner.",
                    en: "If the server is your own, name its certificate in [upstream] ca_file or \
                         set certificate = \"trust-always\". With a public provider this must not \
                         happen: check host, firewall and virus scanner.",
                },
            },
            Self::CertificateUnknownAuthority => &Explanation {
                cause: Text {
                    de: "Das Zertifikat des Mailservers stammt von einer Stelle, die dieser \
                         Rechner nicht kennt, oder der Server liefert ein Zwischenzertifikat nicht \
                         mit.",
                    en: "The certificate of the mail server comes from an authority that this \
                         machine does not know, or the server leaves out an intermediate \
                         certificate.",
                },
                remedy: Text {
                    de: "Tragen Sie das Zertifikat der ausstellenden Stelle bei [upstream] ca_file \
                         ein. Fehlt ein Zwischenzertifikat, muss der Betreiber des Servers es \
                         ergänzen.",
                    en: "Name the certificate of the issuing authority in [upstream] ca_file. If \
                         an intermediate certificate is missing, the operator of the server must \
                         add it.",
                },
            },
            Self::CertificateExpired => &Explanation {
                cause: Text {
                    de: "Das Zertifikat des Mailservers ist abgelaufen, oder die Uhr dieses \
                         Rechners geht falsch.",
                    en: "The certificate of the mail server has expired, or the clock of this \
                         machine is wrong.",
                },
                remedy: Text {
                    de: "Prüfen Sie Datum und Uhrzeit dieses Rechners; stimmen sie, muss der \
                         Betreiber des Mailservers das Zertifikat erneuern. Die wartende Mail geht \
                         danach von selbst hinaus.",
                    en: "Check date and time of this machine; if they are right, the operator of \
                         the mail server must renew the certificate. Waiting mail then leaves by \
                         itself.",
                },
            },
            Self::CertificateNotYetValid => &Explanation {
                cause: Text {
                    de: "Das Zertifikat des Mailservers gilt erst ab einem späteren Zeitpunkt; \
                         meist geht die Uhr dieses Rechners nach.",
                    en: "The certificate of the mail server is only valid from a later time; \
                         usually the clock of this machine is slow.",
                },
                remedy: Text {
                    de: "Stellen Sie Datum und Uhrzeit dieses Rechners richtig, am besten \
                         automatisch über das Netz (NTP).",
                    en: "Set date and time of this machine, best automatically over the network \
                         (NTP).",
                },
            },
            Self::CertificateWrongName => &Explanation {
                cause: Text {
                    de: "Das Zertifikat des Mailservers ist auf einen anderen Namen ausgestellt \
                         als den eingetragenen.",
                    en: "The certificate of the mail server is made out to another name than the \
                         one configured.",
                },
                remedy: Text {
                    de: "Tragen Sie bei [upstream] host den Namen ein, den der Anbieter für \
                         ausgehende Mail nennt, nicht die eigene Domain oder eine IP-Adresse. \
                         „postbote doctor TENANT“ zeigt die Namen im Zertifikat.",
                    en: "Enter as [upstream] host the name that the provider gives for outgoing \
                         mail, not your own domain or an IP address. 'postbote doctor TENANT' \
                         shows the names in the certificate.",
                },
            },
            Self::CertificateRevoked => &Explanation {
                cause: Text {
                    de: "Das Zertifikat des Mailservers wurde von seiner ausstellenden Stelle für \
                         ungültig erklärt.",
                    en: "The certificate of the mail server was declared invalid by the authority \
                         that issued it.",
                },
                remedy: Text {
                    de: "Senden Sie nicht weiter über diesen Server, bis sein Betreiber ein neues \
                         Zertifikat eingerichtet hat; fragen Sie dort nach.",
                    en: "Do not send through this server until its operator has installed a new \
                         certificate; ask there.",
                },
            },
            Self::CertificatePinMismatch => &Explanation {
                cause: Text {
                    de: "Der Mailserver zeigt einen anderen Schlüssel als die fest eingetragenen. \
                         Er hat ein neues Zertifikat bekommen, oder es ist nicht der richtige \
                         Server.",
                    en: "The mail server shows another key than the ones pinned in the settings. \
                         It got a new certificate, or it is not the right server.",
                },
                remedy: Text {
                    de: "Fragen Sie den Betreiber, ob der Schlüssel gewechselt wurde; wenn ja, \
                         tragen Sie den neuen bei [upstream] pins ein („postbote doctor TENANT“ \
                         zeigt ihn).",
                    en: "Ask the operator whether the key was changed; if so, enter the new one in \
                         [upstream] pins ('postbote doctor TENANT' shows it).",
                },
            },
            Self::CertificateOther => &Explanation {
                cause: Text {
                    de: "Das Zertifikat des Mailservers ist fehlerhaft oder für diesen Zweck nicht \
                         zugelassen.",
                    en: "The certificate of the mail server is faulty or not made for this \
                         purpose.",
                },
                remedy: Text {
                    de: "„postbote doctor TENANT“ zeigt das Zertifikat; der Betreiber des \
                         Mailservers muss es ersetzen. Ist es Ihr eigener Server, hilft bis dahin \
                         [upstream] certificate = \"trust-always\".",
                    en: "'postbote doctor TENANT' shows the certificate; the operator of the mail \
                         server must replace it. If the server is your own, [upstream] certificate \
                         = \"trust-always\" helps until then.",
                },
            },
            Self::ClientCertificateUnusable => &Explanation {
                cause: Text {
                    de: "Das eigene Zertifikat, mit dem sich Postbote beim Mailserver ausweisen \
                         soll, lässt sich nicht lesen oder passt nicht zu seinem Schlüssel.",
                    en: "The certificate of our own that Postbote is to show the mail server \
                         cannot be read or does not match its key.",
                },
                remedy: Text {
                    de: "Prüfen Sie [upstream] client_certificate und client_key: Dateien \
                         vorhanden, für den Dienst lesbar, beide im PEM-Format und \
                         zusammengehörig.",
                    en: "Check [upstream] client_certificate and client_key: files present, \
                         readable by the service, both in PEM format and belonging together.",
                },
            },
            Self::AuthMechanismMissing => &Explanation {
                cause: Text {
                    de: "Der Mailserver bietet keine Art der Anmeldung an, die hier eingestellt \
                         und erlaubt ist.",
                    en: "The mail server offers no way to log in that is configured and allowed \
                         here.",
                },
                remedy: Text {
                    de: "Setzen Sie [upstream] authentication = \"auto\" und prüfen Sie port und \
                         encryption: Viele Server bieten die Anmeldung nur verschlüsselt oder nur \
                         auf 587 und 465 an. Bietet der Server gar keine an, setzen Sie \
                         authentication = \"none\".",
                    en: "Set [upstream] authentication = \"auto\" and check port and encryption: \
                         many servers offer login only when encrypted, or only on 587 and 465. If \
                         the server offers none at all, set authentication = \"none\".",
                },
            },
            Self::AuthWithoutTls => &Explanation {
                cause: Text {
                    de: "Das Passwort ginge unverschlüsselt durch das Netz. Postbote hat es \
                         deshalb nicht gesendet.",
                    en: "The password would travel the network unencrypted, so Postbote did not \
                         send it.",
                },
                remedy: Text {
                    de: "Setzen Sie [upstream] encryption = \"starttls\" oder \"tls\". Kann der \
                         Server das nicht und ist das Netz dazwischen Ihr eigenes, erlaubt \
                         [upstream] insecure_password = true das Passwort trotzdem.",
                    en: "Set [upstream] encryption = \"starttls\" or \"tls\". If the server cannot \
                         do that and the network in between is your own, [upstream] \
                         insecure_password = true allows the password all the same.",
                },
            },
            Self::CredentialMissing => &Explanation {
                cause: Text {
                    de: "Das Passwort oder Geheimnis für den Mailserver ließ sich nicht lesen: Der \
                         Eintrag im Tresor, die Datei oder die Umgebungsvariable fehlt.",
                    en: "The password or secret for the mail server could not be read: the vault \
                         entry, file or environment variable is missing.",
                },
                remedy: Text {
                    de: "Legen Sie es mit „postbote vault set NAME“ an (NAME wie bei [upstream] \
                         password eingetragen), oder prüfen Sie, ob der Dienst die genannte Datei \
                         lesen darf. Die wartende Mail geht danach von selbst hinaus.",
                    en: "Store it with 'postbote vault set NAME' (NAME as given at [upstream] \
                         password), or check that the service may read the file named there. \
                         Waiting mail then leaves by itself.",
                },
            },
            Self::ConnectionLost => &Explanation {
                cause: Text {
                    de: "Die Verbindung zum Mailserver ist abgerissen, bevor die Mail vollständig \
                         übergeben war. Sie ist dort sicher nicht angekommen.",
                    en: "The connection to the mail server broke before the message was handed \
                         over. It has certainly not arrived there.",
                },
                remedy: Text {
                    de: "Sie müssen nichts tun: Postbote versucht es von selbst wieder. Hält es \
                         an, prüfen Sie Internetverbindung und Firewall.",
                    en: "Nothing to do: Postbote tries again by itself. If it lasts, check the \
                         internet connection and the firewall.",
                },
            },
            Self::Timeout => &Explanation {
                cause: Text {
                    de: "Der Mailserver hat zu lange nicht geantwortet, bevor die Mail vollständig \
                         übergeben war. Sie ist dort sicher nicht angekommen.",
                    en: "The mail server did not answer for too long before the message was handed \
                         over. It has certainly not arrived there.",
                },
                remedy: Text {
                    de: "Sie müssen nichts tun: Postbote versucht es von selbst wieder. Hält es \
                         an, fragen Sie den Anbieter nach einer Störung.",
                    en: "Nothing to do: Postbote tries again by itself. If it lasts, ask the \
                         provider about an outage.",
                },
            },
            Self::ProtocolError => &Explanation {
                cause: Text {
                    de: "Der Mailserver hat etwas geantwortet, das nicht den Regeln für Mailserver \
                         entspricht.",
                    en: "The mail server answered something that does not follow the rules for \
                         mail servers.",
                },
                remedy: Text {
                    de: "Prüfen Sie [upstream] host und port und ob eine Firewall oder ein \
                         Virenscanner die Verbindung verändert. „postbote test TENANT“ zeigt den \
                         ganzen Dialog.",
                    en: "Check [upstream] host and port and whether a firewall or virus scanner \
                         alters the connection. 'postbote test TENANT' shows the whole dialogue.",
                },
            },
            Self::FinalDotNoAnswer => &Explanation {
                cause: Text {
                    de: "Die Mail wurde ganz übertragen, aber die Bestätigung des Mailservers kam \
                         nicht mehr an. Sie kann zugestellt sein oder auch nicht.",
                    en: "The message was transferred in full, but the confirmation of the mail \
                         server did not arrive. It may have been delivered or not.",
                },
                remedy: Text {
                    de: "Sehen Sie im Ordner „Gesendet“ nach oder fragen Sie den Empfänger. Ob \
                         Postbote erneut sendet oder auf Sie wartet, bestimmt der Betreiber mit \
                         [retry] uncertain.",
                    en: "Look into the folder \"Sent\" or ask the recipient. Whether Postbote \
                         sends again or waits for you is set by the operator with [retry] \
                         uncertain.",
                },
            },
            Self::TooLargeForUpstream => &Explanation {
                cause: Text {
                    de: "Die Mail ist größer, als der Mailserver annimmt. Anhänge werden beim \
                         Versand um rund ein Drittel größer.",
                    en: "The message is bigger than the mail server accepts. Attachments grow by \
                         about a third when sent.",
                },
                remedy: Text {
                    de: "Senden Sie weniger oder kleinere Anhänge oder einen Link darauf, oder \
                         lassen Sie die Grenze beim Anbieter erhöhen.",
                    en: "Send fewer or smaller attachments or a link to them, or have the provider \
                         raise the limit.",
                },
            },
            Self::Utf8AddressUnsupported => &Explanation {
                cause: Text {
                    de: "Eine Adresse enthält vor dem @ Umlaute oder andere Sonderzeichen; der \
                         Mailserver kann solche Adressen nicht verarbeiten.",
                    en: "An address has umlauts or other special letters before the @; the mail \
                         server cannot handle such addresses.",
                },
                remedy: Text {
                    de: "Verwenden Sie eine Adresse ohne Umlaute. Umlaute im Namen, im Betreff und \
                         im Text sind davon nicht betroffen.",
                    en: "Use an address without such letters. Those in names, subject and text are \
                         not affected.",
                },
            },
            Self::OwnAddress => &Explanation {
                cause: Text {
                    de: "Als Mailserver ist Postbote selbst eingetragen; die Mail liefe im Kreis.",
                    en: "Postbote itself is entered as the mail server, so the mail would go round \
                         in circles.",
                },
                remedy: Text {
                    de: "Tragen Sie bei [upstream] host und port den Mailserver Ihres Anbieters \
                         ein. Die Adresse von Postbote gehört nur in die Anwendungen, die Mail \
                         senden.",
                    en: "Enter the mail server of your provider as [upstream] host and port. The \
                         address of Postbote belongs only into the applications that send mail.",
                },
            },
            Self::MessageUnusable => &Explanation {
                cause: Text {
                    de: "Die Mail ist so beschädigt oder unvollständig, dass sie nicht versendet \
                         werden kann.",
                    en: "The message is so damaged or incomplete that it cannot be sent.",
                },
                remedy: Text {
                    de: "Prüfen Sie, was die Anwendung erzeugt: „postbote preview TENANT \
                         --explain“ zeigt, woran es liegt. Senden Sie die Mail danach neu.",
                    en: "Check what the application makes: 'postbote preview TENANT --explain' \
                         shows what is wrong. Then send the message again.",
                },
            },
            Self::SenderNotGranted => &Explanation {
                cause: Text {
                    de: "Diese Belegart hat eine eigene Absenderadresse, die der Benutzer, der die \
                         Mail eingeliefert hat, nicht (mehr) verwenden darf.",
                    en: "This document type has a sender address of its own, which the user who \
                         handed in the mail may not use (any more).",
                },
                remedy: Text {
                    de: "In der Mandantendatei die Adresse bei senders des Benutzers oder einer \
                         seiner Gruppen eintragen. Danach „postbote queue retry --state failed“ \
                         ausführen.",
                    en: "In the tenant's file, add the address to senders of the user or of one of \
                         its groups. Then run 'postbote queue retry --state failed'.",
                },
            },
            Self::KeyUnusable => &Explanation {
                cause: Text {
                    de: "Der Schlüssel für die DKIM-Signatur (das Echtheitssiegel der Domain) \
                         fehlt oder lässt sich nicht lesen. Ohne Signatur verlässt die Mail \
                         Postbote nicht.",
                    en: "The key of the DKIM signature (the seal of the domain) is missing or \
                         cannot be read. Mail does not leave Postbote unsigned.",
                },
                remedy: Text {
                    de: "Hinterlegen Sie den Schlüssel, den [[dkim]] key nennt, mit „postbote \
                         vault set NAME“, oder machen Sie mit „postbote dkim new TENANT“ einen \
                         neuen. Die wartende Mail geht danach von selbst hinaus.",
                    en: "Store the key that [[dkim]] key names with 'postbote vault set NAME', or \
                         make a new one with 'postbote dkim new TENANT'. Waiting mail then leaves \
                         by itself.",
                },
            },
            Self::ConsentMissing => &Explanation {
                cause: Text {
                    de: "Für dieses Konto hat noch niemand der Anwendung zugestimmt, oder das gespeicherte Refresh-Token fehlt.",
                    en: "Nobody has consented to the application for this account yet, or the stored refresh token is missing.",
                },
                remedy: Text {
                    de: "Stimmen Sie einmal zu: „postbote oauth connect TENANT“. Die wartende Mail geht danach von selbst hinaus.",
                    en: "Consent once: 'postbote oauth connect TENANT'. The waiting mail leaves by itself afterwards.",
                },
            },
            Self::TokenNotStored => &Explanation {
                cause: Text {
                    de: "Ein neues Refresh-Token ließ sich nicht dauerhaft speichern (Platte voll, fehlende Rechte); deshalb wurde es nicht benutzt.",
                    en: "A new refresh token could not be stored durably (disk full, no permission), so it was not used.",
                },
                remedy: Text {
                    de: "Prüfen Sie Platz und Rechte von server.data_dir. Postbote versucht es von selbst wieder.",
                    en: "Check space and permissions of server.data_dir. Postbote tries again by itself.",
                },
            },
            Self::AnswerUnusable => &Explanation {
                cause: Text {
                    de: "Der Server hat etwas geantwortet, das keine Antwort dieser Schnittstelle ist, zum Beispiel eine Webseite.",
                    en: "The server answered something that is no answer of this interface, for example a web page.",
                },
                remedy: Text {
                    de: "Prüfen Sie token_url, device_url und api_url in [upstream.oauth] und ob ein Proxy oder eine Anmeldeseite dazwischen steht. Postbote versucht es von selbst wieder.",
                    en: "Check token_url, device_url and api_url in [upstream.oauth], and whether a proxy or a login page stands in between. Postbote tries again by itself.",
                },
            },
            Self::RequestNoAnswer => &Explanation {
                cause: Text {
                    de: "Die Mail ist ganz übertragen worden, aber die Antwort des Servers kam nicht an. Ob er sie angenommen hat, ist offen.",
                    en: "The message was transferred completely, but the server's answer did not arrive. Whether it was accepted is unknown.",
                },
                remedy: Text {
                    de: "Nichts zu tun: Postbote versucht es nach [retry] uncertain erneut, möglichst nach einem Blick in die gesendeten Elemente. Mit uncertain = \"hold\" entscheiden Sie mit „postbote queue retry“ oder „postbote queue remove“.",
                    en: "Nothing to do: Postbote tries again as [retry] uncertain says, after a look into the sent items where it may. With uncertain = \"hold\" you decide with 'postbote queue retry' or 'postbote queue remove'.",
                },
            },
            Self::TooLargeToSplit => &Explanation {
                cause: Text {
                    de: "Die Mail ist größer, als Microsoft Graph in einer Anfrage annimmt (etwa 2,5 MB), und ihr Aufbau (signiert, verschlüsselt, Kalender oder sehr langer Text) lässt sich nicht zerlegen, ohne ihn zu verändern.",
                    en: "The message is larger than Microsoft Graph takes in one request (about 2.5 MB), and its structure (signed, encrypted, calendar or a very long text) cannot be taken apart without changing it.",
                },
                remedy: Text {
                    de: "Verkleinern Sie die Anhänge, oder senden Sie solche Mail über kind = \"smtp\" mit authentication = \"xoauth2\".",
                    en: "Make the attachments smaller, or send such mail by kind = \"smtp\" with authentication = \"xoauth2\".",
                },
            },
            Self::UploadNotPermitted => &Explanation {
                cause: Text {
                    de: "Die Mail ist größer, als Microsoft Graph in einer Anfrage annimmt (etwa 2,5 MB), und für den Weg über Entwurf und Upload fehlt der Anwendung die Berechtigung Mail.ReadWrite.",
                    en: "The message is larger than Microsoft Graph takes in one request (about 2.5 MB), and the application lacks the permission Mail.ReadWrite for the way by draft and upload.",
                },
                remedy: Text {
                    de: "Geben Sie der Anwendung in Entra (API-Berechtigungen, Microsoft Graph) auch Mail.ReadWrite mit Administratorzustimmung und verbinden Sie das Konto neu, oder verkleinern Sie die Anhänge. Danach: „postbote queue retry --state failed“.",
                    en: "Give the application Mail.ReadWrite as well in Entra (API permissions, Microsoft Graph) with admin consent and connect the account again, or make the attachments smaller. Then: 'postbote queue retry --state failed'.",
                },
            },
            Self::WriteFailed => &Explanation {
                cause: Text {
                    de: "Die Mail ließ sich nicht in das Verzeichnis für zurückgehaltene Mail \
                         schreiben: Platte voll oder fehlende Rechte.",
                    en: "The message could not be written into the directory of captured mail: \
                         disk full or no permission.",
                },
                remedy: Text {
                    de: "Schaffen Sie Platz oder geben Sie dem Dienst Schreibrechte auf das \
                         Verzeichnis captured unter [server] data_dir. Postbote versucht es von \
                         selbst wieder.",
                    en: "Free some space or let the service write to the directory captured below \
                         [server] data_dir. Postbote tries again by itself.",
                },
            },
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::explain::testing::check_explanation;

    #[test]
    fn every_cause_is_explained() {
        let mut ids = HashSet::new();
        for &cause in Cause::ALL {
            assert!(ids.insert(cause.id()), "{cause}: twice");
            assert_eq!(cause.to_string(), cause.id());
            assert!(
                cause
                    .id()
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')),
                "{cause}: not kebab-case"
            );
            check_explanation(cause.id(), cause.meaning());
        }
        assert_eq!(ids.len(), 43);
    }

    #[test]
    fn classes_follow_the_stage() {
        for &cause in Cause::ALL {
            let class = cause.class();
            match cause.stage() {
                Stage::Resolve | Stage::Connect | Stage::Hello => {
                    assert_eq!(class, Class::Transient, "{cause}");
                }
                Stage::Tls => {
                    let certificate = cause.id().starts_with("certificate-");
                    let expected = if certificate {
                        Class::Suspend
                    } else {
                        Class::Transient
                    };
                    assert_eq!(class, expected, "{cause}");
                }
                Stage::Auth => assert_eq!(class, Class::Suspend, "{cause}"),
                Stage::FinalDot => assert_eq!(class, Class::Uncertain, "{cause}"),
                Stage::Prepare | Stage::Mail | Stage::Rcpt | Stage::Data => {}
            }
            assert_eq!(
                class == Class::Uncertain,
                cause.stage() == Stage::FinalDot,
                "{cause}: only a lost answer to the final dot is uncertain"
            );
        }
    }

    #[test]
    fn classes_of_the_others() {
        for (cause, class) in [
            (Cause::CredentialMissing, Class::Suspend),
            (Cause::ClientCertificateUnusable, Class::Suspend),
            (Cause::KeyUnusable, Class::Suspend),
            (Cause::SenderNotGranted, Class::Permanent),
            (Cause::OwnAddress, Class::Suspend),
            (Cause::MessageUnusable, Class::Permanent),
            (Cause::TooLargeForUpstream, Class::Permanent),
            (Cause::Utf8AddressUnsupported, Class::Permanent),
            (Cause::ConnectionLost, Class::Transient),
            (Cause::Timeout, Class::Transient),
            (Cause::ProtocolError, Class::Transient),
            (Cause::WriteFailed, Class::Transient),
            (Cause::AnswerUnusable, Class::Transient),
            (Cause::TooLargeToSplit, Class::Permanent),
        ] {
            assert_eq!(cause.class(), class, "{cause}");
        }
    }
}
