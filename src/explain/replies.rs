//! What upstream SMTP servers say, and what it means.
//!
//! A table, read from the top; the first row that matches counts. First the exact words of known
//! servers, then words that many servers use, then the code alone. Some rules hold everywhere:
//!
//! * Before the login (greeting, EHLO, STARTTLS) nothing is permanent: the message is not yet
//!   known to the server.
//! * A 5xx to AUTH concerns our credentials, never the message, and never costs one.
//! * A 4xx is never permanent.
//! * An enhanced code (RFC 3463) that contradicts its basic code is not believed.
//! * 552 to RCPT is 452, too many recipients, unless it speaks of size or of a full mailbox
//!   (RFC 5321, section 4.5.3.1.10).
//! * A quota of the sending account pauses the route although its code says permanent; a full
//!   mailbox of the recipient, a message too big and an unknown recipient do not.

use std::time::Duration;

use super::{Explanation, Text, codes, fold, text};
use crate::failure::{Class, Stage};

/// One row: which replies it matches and what they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Stable name, kebab-case, unique.
    pub id: &'static str,
    /// Where the reply came; empty: anywhere.
    pub stages: &'static [Stage],
    /// Basic reply codes; empty: any.
    pub codes: &'static [u16],
    /// Enhanced codes, matched exactly; empty: any or none.
    pub enhanced: &'static [&'static str],
    /// Lower-case substrings that must all occur in the lower-cased text, in this order; empty:
    /// any text.
    pub all_of: &'static [&'static str],
    /// Lower-case substrings of which at least one must occur; empty: any text.
    pub any_of: &'static [&'static str],
    /// What to do.
    pub class: Class,
    /// What it means and what helps.
    pub meaning: Explanation,
}

impl Row {
    /// Whether this row is about such a reply. `text` is lower-cased, blanks are single.
    fn matches(&self, stage: Stage, code: u16, enhanced: Option<&str>, text: &str) -> bool {
        (self.stages.is_empty() || self.stages.contains(&stage))
            && (self.codes.is_empty() || self.codes.contains(&code))
            && (self.enhanced.is_empty() || enhanced.is_some_and(|e| self.enhanced.contains(&e)))
            && in_order(self.all_of, text)
            && (self.any_of.is_empty() || self.any_of.iter().any(|needle| text.contains(needle)))
    }
}

/// Explains a reply: its class and the row that says so.
///
/// `text` is the reply without its codes (with them does no harm), lines joined by one space.
/// Without `enhanced`, an enhanced code at the beginning of `text` is taken.
#[must_use]
pub fn reply(stage: Stage, code: u16, enhanced: Option<&str>, text: &str) -> (Class, &'static Row) {
    let enhanced = enhanced
        .or_else(|| leading_enhanced(text))
        .filter(|e| agrees(e, code));
    let text = fold(text);
    let row = ROWS
        .iter()
        .find(|row| row.matches(stage, code, enhanced, &text))
        .unwrap_or(&OTHERWISE);
    (row.class, row)
}

/// Whether all needles occur one behind the other.
fn in_order(needles: &[&str], text: &str) -> bool {
    let mut rest = text;
    for needle in needles {
        match rest.split_once(needle) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    true
}

/// Whether an enhanced code says the same as its basic code: success, later or never.
fn agrees(enhanced: &str, code: u16) -> bool {
    let class = enhanced
        .split('.')
        .next()
        .and_then(|class| class.parse::<u16>().ok());
    class == Some(code / 100)
}

/// The enhanced code at the beginning of a text (RFC 2034).
fn leading_enhanced(text: &str) -> Option<&str> {
    let word = text.split_whitespace().next()?;
    let mut parts = word.split('.');
    let class = parts.next()?;
    let numbers = parts.clone().count() == 2
        && parts
            .all(|part| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit()));
    (numbers && matches!(class, "2" | "4" | "5")).then_some(word)
}

/// 400 to 499.
const FOUR: &[u16] = &codes::<100>(400);
/// 500 to 599.
const FIVE: &[u16] = &codes::<100>(500);
/// 400 to 599.
const FAILURE: &[u16] = &codes::<200>(400);

/// Greeting and EHLO; there are no replies before it.
const HELLO: &[Stage] = &[Stage::Prepare, Stage::Resolve, Stage::Connect, Stage::Hello];
/// STARTTLS.
const TLS: &[Stage] = &[Stage::Tls];
/// From the login to the end.
const SESSION: &[Stage] = &[
    Stage::Auth,
    Stage::Mail,
    Stage::Rcpt,
    Stage::Data,
    Stage::FinalDot,
];
/// A message is under way.
const MESSAGE: &[Stage] = &[Stage::Mail, Stage::Rcpt, Stage::Data, Stage::FinalDot];
/// A message is under way and its recipients have been named.
const TO_SOMEONE: &[Stage] = &[Stage::Rcpt, Stage::Data, Stage::FinalDot];
/// Sender and recipients.
const ENVELOPE: &[Stage] = &[Stage::Mail, Stage::Rcpt];
/// The content.
const CONTENT: &[Stage] = &[Stage::Data, Stage::FinalDot];
const AUTH: &[Stage] = &[Stage::Auth];
const MAIL: &[Stage] = &[Stage::Mail];
const RCPT: &[Stage] = &[Stage::Rcpt];
const FINAL_DOT: &[Stage] = &[Stage::FinalDot];

/// A quota that fills over a day or so. Nobody says when it is free again and most are rolling,
/// so look again a few times a day.
const DAILY: Class = Class::Slow(Duration::from_secs(4 * 60 * 60));
/// A limit in words that say no time.
const HALF_HOUR: Class = Class::Slow(Duration::from_secs(30 * 60));
const QUARTER_HOUR: Class = Class::Slow(Duration::from_secs(15 * 60));
const MINUTE: Class = Class::Slow(Duration::from_secs(60));
const TEN_SECONDS: Class = Class::Slow(Duration::from_secs(10));

const CHECK_LOGIN: Text = text(
    "Prüfen Sie [upstream] username und das Passwort und hinterlegen Sie es neu mit „postbote \
     vault set NAME“ (NAME wie bei [upstream] password). Die wartende Mail geht danach von selbst \
     hinaus.",
    "Check [upstream] username and the password, and store it again with 'postbote vault set NAME' \
     (NAME as given at [upstream] password). Waiting mail then leaves by itself.",
);

const WAIT: Text = text(
    "Sie müssen nichts tun: Postbote versucht es von selbst wieder. Hält es an, fragen Sie den \
     Anbieter des Mailservers.",
    "Nothing to do: Postbote tries again by itself. If it lasts, ask the provider of the mail \
     server.",
);

const PAUSED: Text = text(
    "Sie müssen nichts tun: Postbote macht eine Pause und sendet dann weiter, ohne dass Mail \
     verloren geht. Kommt es oft vor, verteilen Sie Serienmails mit [series] messages und \
     pause_ms, oder lassen Sie die Grenze beim Anbieter erhöhen.",
    "Nothing to do: Postbote pauses and then goes on, no mail is lost. If it happens often, spread \
     bulk mail with [series] messages and pause_ms, or have the provider raise the limit.",
);

const FEWER_CONNECTIONS: Text = text(
    "Sie müssen nichts tun: Postbote macht eine kurze Pause. Kommt es oft vor, setzen Sie \
     [upstream] connections auf 1 oder 2 und prüfen Sie, ob andere Geräte dasselbe Postfach \
     benutzen.",
    "Nothing to do: Postbote pauses for a moment. If it happens often, set [upstream] connections \
     to 1 or 2 and check whether other devices use the same mailbox.",
);

const MEND_SENDER: Text = text(
    "Tragen Sie bei [sender] address eine Adresse ein, die das angemeldete Konto benutzen darf, \
     oder lassen Sie die Adresse beim Anbieter für das Konto freischalten. Stoßen Sie die Mail \
     danach mit „postbote queue retry --state failed“ neu an.",
    "Enter as [sender] address an address that the account logged in may use, or have the provider \
     allow it for the account. Then start the message again with 'postbote queue retry --state \
     failed'.",
);

const CHECK_RECIPIENT: Text = text(
    "Prüfen Sie die Adresse auf Tippfehler und fragen Sie den Empfänger auf anderem Weg. Senden \
     Sie die Mail danach neu.",
    "Check the address for typing errors and ask the recipient in another way. Then send the \
     message again.",
);

const SMALLER: Text = text(
    "Senden Sie weniger oder kleinere Anhänge oder einen Link darauf, oder lassen Sie die Grenze \
     beim Anbieter erhöhen.",
    "Send fewer or smaller attachments or a link to them, or have the provider raise the limit.",
);

const SEE_DIALOGUE: Text = text(
    "„postbote test TENANT“ zeigt den ganzen Dialog mit dem Mailserver; mit dem Wortlaut der \
     Antwort kann der Anbieter weiterhelfen.",
    "'postbote test TENANT' shows the whole dialogue with the mail server; with the words of its \
     reply the provider can help.",
);

const ASK_ADMIN_365: Text = text(
    "Ein Microsoft-365-Administrator findet die Ursache im Entra Admin Center unter den \
     Anmeldeprotokollen. Am sichersten ist OAuth2: „postbote oauth connect TENANT“ und [upstream] \
     authentication = \"xoauth2\".",
    "A Microsoft 365 administrator finds the reason in the Entra admin center among the sign-in \
     logs. Safest is OAuth2: 'postbote oauth connect TENANT' and [upstream] authentication = \
     \"xoauth2\".",
);

const USE_OAUTH_365: Text = text(
    "Stellen Sie auf OAuth2 um: Setzen Sie [upstream] authentication = \"xoauth2\", füllen Sie \
     [upstream.oauth] aus und führen Sie „postbote oauth connect TENANT“ aus. Die wartende Mail \
     geht danach von selbst hinaus.",
    "Change to OAuth2: set [upstream] authentication = \"xoauth2\", fill in [upstream.oauth] and \
     run 'postbote oauth connect TENANT'. Waiting mail then leaves by itself.",
);

const LOGIN_RULES_365: Explanation = Explanation {
    cause: text(
        "Microsoft hat die Anmeldung nach den Regeln Ihrer Organisation abgelehnt.",
        "Microsoft refused the login by the rules of your organisation.",
    ),
    remedy: ASK_ADMIN_365,
};

const TENANT_BLOCKED_365: Text = text(
    "Ein Microsoft-365-Administrator muss beim Microsoft-Support die Freigabe beantragen; prüfen \
     Sie auch, ob ein Konto missbraucht wurde. Die Mail wartet so lange.",
    "A Microsoft 365 administrator must ask Microsoft support to lift the block; check too whether \
     an account was abused. Mail waits meanwhile.",
);

const SEND_AS_365: Explanation = Explanation {
    cause: text(
        "Das angemeldete Microsoft-Konto darf nicht unter dieser Absenderadresse senden.",
        "The Microsoft account logged in may not send with this sender address.",
    ),
    remedy: text(
        "Tragen Sie bei [sender] address die Adresse des Kontos ein, oder lassen Sie dem Konto im \
         Exchange Admin Center das Recht „Senden als“ für diese Adresse geben (wirkt nach etwa \
         einer Stunde). Stoßen Sie die Mail danach mit „postbote queue retry --state failed“ neu \
         an.",
        "Enter the address of the account as [sender] address, or have the account given the right \
         \"Send as\" for this address in the Exchange admin center (takes about an hour). Then \
         start the message again with 'postbote queue retry --state failed'.",
    ),
};

const TENANT_TRAFFIC_BLOCKED: Explanation = Explanation {
    cause: text(
        "Microsoft nimmt von dieser Microsoft-365-Organisation vorerst keine ausgehende Mail an, \
         meist weil sie neu ist, eine Testversion benutzt oder durch Spam aufgefallen ist.",
        "Microsoft accepts no outgoing mail from this Microsoft 365 organisation for now, mostly \
         because it is new, on trial, or was noticed for spam.",
    ),
    remedy: TENANT_BLOCKED_365,
};

const ACCOUNT_LIMIT: Explanation = Explanation {
    cause: text(
        "Die Versandgrenze des Kontos ist erreicht (Mails oder Empfänger in einem Zeitraum). Der \
         Anbieter lehnt vorerst alles Weitere ab.",
        "The sending limit of the account is reached (messages or recipients in a period of time). \
         The provider refuses everything else for now.",
    ),
    remedy: PAUSED,
};

const TOO_FAST: Explanation = Explanation {
    cause: text(
        "Es wurde in kurzer Zeit zu viel gesendet; der Mailserver bremst.",
        "Too much was sent in a short time; the mail server slows us down.",
    ),
    remedy: PAUSED,
};

const TOO_MANY_CONNECTIONS: Explanation = Explanation {
    cause: text(
        "Es bestehen zu viele Verbindungen gleichzeitig zu diesem Postfach (bei Microsoft 365 sind \
         drei erlaubt).",
        "There are too many connections to this mailbox at once (Microsoft 365 allows three).",
    ),
    remedy: FEWER_CONNECTIONS,
};

const MAILBOX_FULL: Explanation = Explanation {
    cause: text(
        "Das Postfach des Empfängers ist voll.",
        "The mailbox of the recipient is full.",
    ),
    remedy: text(
        "Der Empfänger muss Platz schaffen; sagen Sie ihm auf anderem Weg Bescheid. Senden Sie die \
         Mail danach neu.",
        "The recipient must make room; tell them in another way. Then send the message again.",
    ),
};

const MAILBOX_FULL_NOW: Explanation = Explanation {
    cause: MAILBOX_FULL.cause,
    remedy: text(
        "Der Empfänger muss Platz schaffen; sagen Sie ihm auf anderem Weg Bescheid. Postbote \
         versucht es bis dahin von selbst wieder.",
        "The recipient must make room; tell them in another way. Until then Postbote tries again \
         by itself.",
    ),
};

const TOO_BIG: Explanation = Explanation {
    cause: text(
        "Die Mail ist größer, als der Mailserver annimmt. Anhänge werden beim Versand um rund ein \
         Drittel größer.",
        "The message is bigger than the mail server accepts. Attachments grow by about a third \
         when sent.",
    ),
    remedy: SMALLER,
};

const NO_SUCH_RECIPIENT: Explanation = Explanation {
    cause: text(
        "Die Adresse des Empfängers gibt es nicht, oder sie nimmt keine Mail mehr an.",
        "The address of the recipient does not exist or no longer takes mail.",
    ),
    remedy: CHECK_RECIPIENT,
};

const RECIPIENT_RESTRICTED: Explanation = Explanation {
    cause: text(
        "Der Empfänger (oft eine Verteilerliste) nimmt Mail nur von bestimmten Absendern an.",
        "The recipient (often a mailing list) takes mail only from certain senders.",
    ),
    remedy: text(
        "Bitten Sie den Empfänger, Ihre Absenderadresse zuzulassen. Senden Sie die Mail danach \
         neu.",
        "Ask the recipient to allow your sender address. Then send the message again.",
    ),
};

const SENDER_REFUSED: Explanation = Explanation {
    cause: text(
        "Der Mailserver lässt diese Absenderadresse nicht zu; meist darf das angemeldete Konto nur \
         mit seinen eigenen Adressen senden.",
        "The mail server does not allow this sender address; usually the account logged in may \
         send only with addresses of its own.",
    ),
    remedy: MEND_SENDER,
};

const SENDER_DOMAIN: Explanation = Explanation {
    cause: text(
        "Der Mailserver kann die Absenderadresse nicht prüfen: Ihre Domain gibt es nicht oder sie \
         hat keinen Eintrag für Mail im DNS.",
        "The mail server cannot verify the sender address: its domain does not exist or has no \
         entry for mail in DNS.",
    ),
    remedy: text(
        "Prüfen Sie die Schreibweise von [sender] address und return_path und ob die Domain einen \
         MX-Eintrag hat. Stoßen Sie die Mail danach mit „postbote queue retry --state failed“ neu \
         an.",
        "Check the spelling of [sender] address and return_path and whether the domain has an MX \
         record. Then start the message again with 'postbote queue retry --state failed'.",
    ),
};

const SENDER_UNVERIFIED: Explanation = Explanation {
    cause: text(
        "Der Versanddienst kennt diese Absenderadresse nicht: Sie oder ihre Domain ist dort noch \
         nicht bestätigt.",
        "The sending service does not know this sender address: it or its domain has not been \
         verified there yet.",
    ),
    remedy: text(
        "Bestätigen Sie die Adresse oder Domain beim Anbieter (bei Amazon SES in der Region des \
         Servers), oder tragen Sie bei [sender] address eine bestätigte ein. Stoßen Sie die Mail \
         danach mit „postbote queue retry --state failed“ neu an.",
        "Verify the address or domain at the provider (with Amazon SES in the region of the \
         server), or enter a verified one as [sender] address. Then start the message again with \
         'postbote queue retry --state failed'.",
    ),
};

const NOT_LOGGED_IN: Explanation = Explanation {
    cause: text(
        "Der Mailserver verlangt eine Anmeldung, bevor er Mail annimmt; Postbote war nicht \
         angemeldet.",
        "The mail server wants a login before it takes mail; Postbote was not logged in.",
    ),
    remedy: text(
        "Tragen Sie [upstream] username und password ein und setzen Sie authentication = \"auto\" \
         (nicht \"none\"). Die wartende Mail geht danach von selbst hinaus.",
        "Enter [upstream] username and password and set authentication = \"auto\" (not \"none\"). \
         Waiting mail then leaves by itself.",
    ),
};

const NEEDS_ENCRYPTION: Explanation = Explanation {
    cause: text(
        "Der Mailserver verlangt eine verschlüsselte Verbindung.",
        "The mail server requires an encrypted connection.",
    ),
    remedy: text(
        "Setzen Sie [upstream] encryption = \"starttls\" mit port = 587, oder \"tls\" mit port = \
         465.",
        "Set [upstream] encryption = \"starttls\" with port = 587, or \"tls\" with port = 465.",
    ),
};

const WRONG_CREDENTIALS: Explanation = Explanation {
    cause: text(
        "Der Mailserver hat Benutzername und Passwort nicht angenommen.",
        "The mail server did not accept user name and password.",
    ),
    remedy: CHECK_LOGIN,
};

const SUSPECTED_SPAM: Explanation = Explanation {
    cause: text(
        "Der Mailserver hält die Mail für Spam oder für gefährlich und lehnt sie ihres Inhalts \
         wegen ab.",
        "The mail server takes the message for spam or for dangerous and refuses it because of its \
         content.",
    ),
    remedy: text(
        "Prüfen Sie Anhänge, Links und Betreff der Mail und ob SPF und DKIM der Domain stimmen \
         („postbote doctor TENANT“). Senden Sie die Mail danach neu.",
        "Check attachments, links and subject of the message and whether SPF and DKIM of the \
         domain are right ('postbote doctor TENANT'). Then send the message again.",
    ),
};

const BAD_FORM: Explanation = Explanation {
    cause: text(
        "Der Mailserver lehnt die Mail ab, weil ihr Aufbau nicht den Regeln entspricht, etwa \
         überlange Zeilen, falsche Zeilenenden oder ungültige Kopfzeilen.",
        "The mail server refuses the message because its structure breaks the rules, for instance \
         overlong lines, wrong line ends or invalid header lines.",
    ),
    remedy: text(
        "Prüfen Sie mit „postbote preview TENANT --explain“, was die Anwendung erzeugt, und melden \
         Sie den Fehler deren Hersteller. Senden Sie die Mail danach neu.",
        "Check with 'postbote preview TENANT --explain' what the application makes and report the \
         error to its maker. Then send the message again.",
    ),
};

const LOOP: Explanation = Explanation {
    cause: text(
        "Die Mail ist im Kreis gelaufen: Sie ging durch zu viele Mailserver.",
        "The message went round in circles: it passed too many mail servers.",
    ),
    remedy: text(
        "Prüfen Sie die Weiterleitungen beim Empfänger und ob [upstream] host am Ende wieder zu \
         Postbote führt.",
        "Check the recipient's forwarding rules and whether [upstream] host leads back to Postbote \
         in the end.",
    ),
};

const NOT_AUTHENTIC: Explanation = Explanation {
    cause: text(
        "Die Echtheit der Mail ließ sich nicht bestätigen: Die Domain des Absenders erlaubt diesen \
         Mailserver nicht, oder die Signatur fehlt (SPF, DKIM, DMARC).",
        "The message could not be proved authentic: the sender's domain does not allow this mail \
         server, or the signature is missing (SPF, DKIM, DMARC).",
    ),
    remedy: text(
        "„postbote doctor TENANT“ zeigt, welcher DNS-Eintrag fehlt. Ergänzen Sie ihn beim \
         Verwalter der Domain oder tragen Sie bei [sender] address eine Adresse der richtigen \
         Domain ein.",
        "'postbote doctor TENANT' shows which DNS record is missing. Add it where the domain is \
         managed, or enter an address of the right domain as [sender] address.",
    ),
};

const TOO_MANY_RECIPIENTS: Explanation = Explanation {
    cause: text(
        "Der Mailserver nimmt nicht so viele Empfänger auf einmal an.",
        "The mail server does not take so many recipients at once.",
    ),
    remedy: text(
        "Sie müssen nichts tun: Postbote sendet den übrigen Empfängern in einem weiteren \
         Durchgang.",
        "Nothing to do: Postbote sends to the remaining recipients in another round.",
    ),
};

const UMLAUT_ADDRESS: Explanation = Explanation {
    cause: text(
        "Eine Adresse enthält vor dem @ Umlaute oder andere Sonderzeichen; der Mailserver kann \
         solche Adressen nicht verarbeiten.",
        "An address has umlauts or other special letters before the @; the mail server cannot \
         handle such addresses.",
    ),
    remedy: text(
        "Verwenden Sie eine Adresse ohne Umlaute. Umlaute im Namen, im Betreff und im Text sind \
         davon nicht betroffen.",
        "Use an address without such letters. Those in names, subject and text are not affected.",
    ),
};

const GOOGLE_WANTS_BROWSER: Explanation = Explanation {
    cause: text(
        "Google hält die Anmeldung für ungewöhnlich und verlangt, dass sich jemand im Browser \
         anmeldet.",
        "Google finds the login unusual and wants somebody to sign in with a browser.",
    ),
    remedy: text(
        "Melden Sie sich im Browser mit diesem Konto an und bestätigen Sie die Aktivität. \
         Dauerhaft hilft OAuth2 („postbote oauth connect TENANT“) oder ein App-Passwort.",
        "Sign in to this account with a browser and confirm the activity. What lasts is OAuth2 \
         ('postbote oauth connect TENANT') or an app password.",
    ),
};

const SERVER_TROUBLE: Explanation = Explanation {
    cause: text(
        "Der Mailserver hat gerade eine Störung oder zu viel zu tun.",
        "The mail server has a fault or too much to do at the moment.",
    ),
    remedy: WAIT,
};

const GIVE_PERMISSION_TIME: Text = text(
    "Prüfen Sie, ob das Konto für das Postfach Vollzugriff hat; ein neu vergebenes Recht wirkt \
     erst nach etwa einer Stunde. Postbote versucht es von selbst wieder.",
    "Check that the account has full access to the mailbox; a right just given takes about an \
     hour. Postbote tries again by itself.",
);

/// Nothing in particular; what [`ROWS`] fill in.
const ANY: Row = Row {
    id: "",
    stages: &[],
    codes: &[],
    enhanced: &[],
    all_of: &[],
    any_of: &[],
    class: Class::Transient,
    meaning: SERVER_TROUBLE,
};

/// What no row knows: try again.
static OTHERWISE: Row = Row {
    id: "unexpected",
    meaning: Explanation {
        cause: text(
            "Der Mailserver hat etwas geantwortet, das an dieser Stelle nicht vorgesehen ist.",
            "The mail server answered something that is not expected here.",
        ),
        remedy: SEE_DIALOGUE,
    },
    ..ANY
};

/// All rows but the last resort, in the order in which they are tried.
pub static ROWS: &[Row] = &[
    // --- Microsoft 365, Exchange, Outlook.com
    Row {
        id: "microsoft-smtp-auth-off-for-organisation",
        stages: SESSION,
        codes: FIVE,
        all_of: &["smtpclientauthentication is disabled for the tenant"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "In dieser Microsoft-365-Organisation ist das Senden über SMTP mit Anmeldung \
                 abgeschaltet.",
                "Sending through SMTP with a login is turned off in this Microsoft 365 \
                 organisation.",
            ),
            remedy: text(
                "Ein Administrator schaltet es für das Postfach ein: Microsoft 365 Admin Center, \
                 Benutzer, E-Mail, „E-Mail-Apps verwalten“, „Authentifiziertes SMTP“. Oder senden \
                 Sie ohne SMTP mit [upstream] kind = \"graph\".",
                "An administrator turns it on for the mailbox: Microsoft 365 admin center, user, \
                 Mail, \"Manage email apps\", \"Authenticated SMTP\". Or send without SMTP with \
                 [upstream] kind = \"graph\".",
            ),
        },
        ..ANY
    },
    Row {
        id: "microsoft-smtp-auth-off-for-mailbox",
        stages: SESSION,
        codes: FIVE,
        all_of: &["smtpclientauthentication is disabled"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Für dieses Postfach ist das Senden über SMTP mit Anmeldung abgeschaltet.",
                "Sending through SMTP with a login is turned off for this mailbox.",
            ),
            remedy: text(
                "Ein Administrator schaltet es ein: Microsoft 365 Admin Center, Benutzer, E-Mail, \
                 „E-Mail-Apps verwalten“, „Authentifiziertes SMTP“. Das wirkt nach einigen \
                 Minuten; die wartende Mail geht dann von selbst hinaus.",
                "An administrator turns it on: Microsoft 365 admin center, user, Mail, \"Manage \
                 email apps\", \"Authenticated SMTP\". It takes some minutes; waiting mail then \
                 leaves by itself.",
            ),
        },
        ..ANY
    },
    Row {
        id: "microsoft-basic-auth-ended",
        stages: SESSION,
        codes: FIVE,
        all_of: &["basic authentication is not supported"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft nimmt die Anmeldung nur mit Benutzername und Passwort hier nicht mehr \
                 an.",
                "Microsoft no longer accepts a login with just user name and password here.",
            ),
            remedy: USE_OAUTH_365,
        },
        ..ANY
    },
    Row {
        id: "microsoft-basic-auth-off",
        stages: SESSION,
        codes: FIVE,
        all_of: &["basic authentication is disabled"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die Anmeldung nur mit Benutzername und Passwort ist bei Microsoft für dieses \
                 Konto abgeschaltet.",
                "Login with just user name and password is turned off at Microsoft for this \
                 account.",
            ),
            remedy: USE_OAUTH_365,
        },
        ..ANY
    },
    Row {
        id: "microsoft-login-criteria",
        stages: SESSION,
        codes: FIVE,
        all_of: &["did not meet the criteria to be authenticated"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Eine Sicherheitsregel der Microsoft-365-Organisation verbietet diese Anmeldung \
                 (bedingter Zugriff, Sicherheitsstandards oder ein App-Passwort ist nötig).",
                "A security rule of the Microsoft 365 organisation forbids this login (conditional \
                 access, security defaults, or an app password is needed).",
            ),
            remedy: ASK_ADMIN_365,
        },
        ..ANY
    },
    Row {
        id: "microsoft-security-defaults",
        stages: SESSION,
        codes: FIVE,
        all_of: &["security defaults policy"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die „Sicherheitsstandards“ der Microsoft-365-Organisation verbieten die Anmeldung \
                 nur mit Passwort.",
                "The \"security defaults\" of the Microsoft 365 organisation forbid login with a \
                 password alone.",
            ),
            remedy: USE_OAUTH_365,
        },
        ..ANY
    },
    Row {
        id: "microsoft-credentials-wrong",
        stages: SESSION,
        codes: FIVE,
        all_of: &[
            "authentication unsuccessful",
            "user credentials were incorrect",
        ],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft hat Benutzername oder Passwort nicht angenommen.",
                "Microsoft did not accept the user name or the password.",
            ),
            remedy: CHECK_LOGIN,
        },
        ..ANY
    },
    Row {
        id: "microsoft-account-trouble",
        stages: SESSION,
        codes: FIVE,
        all_of: &["authentication unsuccessful", "account has an issue"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Mit dem Microsoft-Konto stimmt etwas nicht: Es ist gesperrt, abgelaufen oder hat \
                 keine Lizenz.",
                "Something is wrong with the Microsoft account: it is locked, expired or has no \
                 licence.",
            ),
            remedy: ASK_ADMIN_365,
        },
        ..ANY
    },
    Row {
        id: "microsoft-sign-in-service-down",
        stages: SESSION,
        codes: FAILURE,
        all_of: &["sts service was unreachable"],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Microsoft konnte den Anmeldedienst Ihrer Organisation nicht erreichen und die \
                 Anmeldung deshalb nicht prüfen.",
                "Microsoft could not reach the sign-in service of your organisation and so could \
                 not check the login.",
            ),
            remedy: text(
                "Postbote versucht es von selbst wieder. Hält es an, prüfen Sie den Anmeldedienst \
                 Ihrer Organisation (AD FS).",
                "Postbote tries again by itself. If it lasts, check the sign-in service of your \
                 organisation (AD FS).",
            ),
        },
        ..ANY
    },
    Row {
        id: "microsoft-login-refused",
        stages: SESSION,
        codes: FIVE,
        enhanced: &["5.7.139"],
        class: Class::Suspend,
        meaning: LOGIN_RULES_365,
        ..ANY
    },
    Row {
        id: "microsoft-login-refused-quoted",
        stages: SESSION,
        codes: FIVE,
        all_of: &["535 5.7.139"],
        class: Class::Suspend,
        meaning: LOGIN_RULES_365,
        ..ANY
    },
    Row {
        id: "microsoft-token-refused",
        stages: AUTH,
        codes: FIVE,
        enhanced: &["5.7.3"],
        all_of: &["authentication unsuccessful"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft hat die Anmeldung nicht angenommen: Das Passwort ist falsch, oder bei \
                 OAuth2 fehlt dem Zugriff ein Recht, gehört er zu einem anderen Konto oder ist die \
                 Anwendung in Exchange nicht eingetragen.",
                "Microsoft did not accept the login: the password is wrong, or with OAuth2 the \
                 access lacks a permission, belongs to another account, or the application is not \
                 registered in Exchange.",
            ),
            remedy: text(
                "Mit OAuth2: Verbinden Sie neu mit „postbote oauth connect TENANT“ und prüfen Sie, \
                 ob [upstream] username das angemeldete Postfach ist. Mit Passwort: Hinterlegen \
                 Sie es neu mit „postbote vault set NAME“.",
                "With OAuth2: connect again with 'postbote oauth connect TENANT' and check that \
                 [upstream] username is the mailbox that was signed in. With a password: store it \
                 again with 'postbote vault set NAME'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "microsoft-not-logged-in",
        stages: SESSION,
        codes: FIVE,
        enhanced: &["5.7.57"],
        class: Class::Suspend,
        meaning: NOT_LOGGED_IN,
        ..ANY
    },
    Row {
        id: "login-check-unavailable",
        codes: FOUR,
        all_of: &["temporary authentication failure"],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Mailserver kann Anmeldungen gerade nicht prüfen; Benutzername und Passwort \
                 sind nicht das Problem.",
                "The mail server cannot check logins at the moment; user name and password are not \
                 the problem.",
            ),
            remedy: WAIT,
        },
        ..ANY
    },
    Row {
        id: "microsoft-too-many-connections",
        codes: FAILURE,
        any_of: &["concurrent connections limit", "sender thread limit"],
        class: MINUTE,
        meaning: TOO_MANY_CONNECTIONS,
        ..ANY
    },
    Row {
        id: "microsoft-too-many-connections-code",
        stages: SESSION,
        codes: &[432],
        enhanced: &["4.3.2"],
        class: MINUTE,
        meaning: TOO_MANY_CONNECTIONS,
        ..ANY
    },
    Row {
        id: "microsoft-submission-rate",
        codes: FAILURE,
        all_of: &["message submission rate"],
        class: MINUTE,
        meaning: TOO_FAST,
        ..ANY
    },
    Row {
        id: "microsoft-mailbox-logon",
        codes: FOUR,
        any_of: &["mailbox logon failure", "mapiexceptionlogonfailed"],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Exchange konnte das Postfach des Absenders nicht öffnen; meist ist das Recht \
                 dafür eben erst vergeben worden.",
                "Exchange could not open the mailbox of the sender; usually the right to it was \
                 given only just now.",
            ),
            remedy: GIVE_PERMISSION_TIME,
        },
        ..ANY
    },
    Row {
        id: "microsoft-temporary-server-error",
        codes: FOUR,
        all_of: &["temporary server error"],
        class: Class::Transient,
        meaning: SERVER_TROUBLE,
        ..ANY
    },
    Row {
        id: "microsoft-not-allowed-as-sender",
        stages: MESSAGE,
        codes: FIVE,
        any_of: &[
            "permissions to send as this sender",
            "permission to send as this sender",
            "sendasdenied",
            "send as denied",
            "not allowed to send as",
        ],
        class: Class::Sender,
        meaning: SEND_AS_365,
        ..ANY
    },
    Row {
        id: "microsoft-not-allowed-as-sender-code",
        stages: MESSAGE,
        codes: FIVE,
        enhanced: &["5.7.60", "5.2.252"],
        class: Class::Sender,
        meaning: SEND_AS_365,
        ..ANY
    },
    Row {
        id: "microsoft-daily-recipients",
        stages: MESSAGE,
        codes: FAILURE,
        all_of: &["submissionquotaexceeded"],
        class: DAILY,
        meaning: Explanation {
            cause: text(
                "Das Postfach hat die Zahl der Empfänger erreicht, an die es in 24 Stunden senden \
                 darf (bei Microsoft 365 höchstens 10 000).",
                "The mailbox has reached the number of recipients it may send to in 24 hours (at \
                 most 10,000 with Microsoft 365).",
            ),
            remedy: PAUSED,
        },
        ..ANY
    },
    Row {
        id: "microsoft-own-mailbox-full",
        stages: MESSAGE,
        codes: FIVE,
        all_of: &["storedrv.submission", "quotaexceeded"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Das eigene Postfach, über das gesendet wird, ist voll.",
                "The mailbox of our own that is used for sending is full.",
            ),
            remedy: text(
                "Schaffen Sie Platz in diesem Postfach, vor allem in „Gesendete Elemente“. Die \
                 wartende Mail geht danach von selbst hinaus.",
                "Make room in this mailbox, above all in \"Sent Items\". Waiting mail then leaves \
                 by itself.",
            ),
        },
        ..ANY
    },
    Row {
        id: "microsoft-sender-restricted",
        stages: MESSAGE,
        codes: FIVE,
        any_of: &["outboundspamexception", "bad outbound sender"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft hat das Konto wegen auffälligen Versands für ausgehende Mail gesperrt.",
                "Microsoft has blocked the account for outgoing mail because of conspicuous \
                 sending.",
            ),
            remedy: text(
                "Ändern Sie das Passwort des Kontos und prüfen Sie, ob es missbraucht wurde; ein \
                 Administrator hebt die Sperre im Microsoft-Defender-Portal unter „Eingeschränkte \
                 Entitäten“ auf.",
                "Change the password of the account and check whether it was abused; an \
                 administrator lifts the block in the Microsoft Defender portal under \"Restricted \
                 entities\".",
            ),
        },
        ..ANY
    },
    Row {
        id: "microsoft-organisation-blocked",
        stages: SESSION,
        codes: FIVE,
        any_of: &[
            "traffic not accepted from this ip",
            "tenant has exceeded threshold",
        ],
        class: Class::Suspend,
        meaning: TENANT_TRAFFIC_BLOCKED,
        ..ANY
    },
    Row {
        id: "microsoft-organisation-blocked-code",
        stages: SESSION,
        codes: FIVE,
        enhanced: &["5.7.705", "5.7.708", "5.7.750"],
        class: Class::Suspend,
        meaning: TENANT_TRAFFIC_BLOCKED,
        ..ANY
    },
    Row {
        id: "recipient-restricted",
        stages: MESSAGE,
        codes: FIVE,
        any_of: &["resolver.rst", "delivery restriction"],
        class: Class::Permanent,
        meaning: RECIPIENT_RESTRICTED,
        ..ANY
    },
    Row {
        id: "microsoft-dropped-after-message",
        stages: FINAL_DOT,
        codes: &[421],
        all_of: &["connection dropped"],
        class: Class::Uncertain,
        meaning: Explanation {
            cause: text(
                "Die Mail wurde ganz übertragen, dann hat der Mailserver die Verbindung ohne klare \
                 Bestätigung beendet. Sie kann zugestellt sein oder auch nicht.",
                "The message was transferred in full, then the mail server ended the connection \
                 without a clear confirmation. It may have been delivered or not.",
            ),
            remedy: text(
                "Sehen Sie im Ordner „Gesendet“ nach oder fragen Sie den Empfänger. Ob Postbote \
                 erneut sendet oder auf Sie wartet, bestimmt der Betreiber mit [retry] uncertain.",
                "Look into the folder \"Sent\" or ask the recipient. Whether Postbote sends again \
                 or waits for you is set by the operator with [retry] uncertain.",
            ),
        },
        ..ANY
    },
    // --- Google
    Row {
        id: "google-credentials-wrong",
        stages: SESSION,
        codes: FIVE,
        all_of: &["username and password not accepted"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Google hat die Anmeldung nicht angenommen. Das gewöhnliche Passwort des \
                 Google-Kontos gilt hier nicht, oder die Freigabe (OAuth2) ist abgelaufen oder \
                 widerrufen.",
                "Google did not accept the login. The ordinary password of the Google account does \
                 not count here, or the authorisation (OAuth2) has expired or was revoked.",
            ),
            remedy: text(
                "Verbinden Sie das Konto mit „postbote oauth connect TENANT“, oder legen Sie im \
                 Google-Konto ein App-Passwort an und hinterlegen Sie es mit „postbote vault set \
                 NAME“.",
                "Connect the account with 'postbote oauth connect TENANT', or make an app password \
                 in the Google account and store it with 'postbote vault set NAME'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-app-password-needed",
        stages: SESSION,
        codes: FIVE,
        any_of: &[
            "application-specific password required",
            "invalidsecondfactor",
        ],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Das Google-Konto ist mit der Bestätigung in zwei Schritten geschützt; das \
                 gewöhnliche Passwort genügt nicht.",
                "The Google account is protected by 2-step verification; the ordinary password is \
                 not enough.",
            ),
            remedy: text(
                "Legen Sie im Google-Konto ein App-Passwort an und hinterlegen Sie es mit \
                 „postbote vault set NAME“, oder verbinden Sie mit „postbote oauth connect \
                 TENANT“.",
                "Make an app password in the Google account and store it with 'postbote vault set \
                 NAME', or connect with 'postbote oauth connect TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-browser-login-needed",
        stages: SESSION,
        codes: FIVE,
        any_of: &[
            "via your web browser",
            "accounts.google.com/signin",
            "webloginrequired",
        ],
        class: Class::Suspend,
        meaning: GOOGLE_WANTS_BROWSER,
        ..ANY
    },
    Row {
        id: "google-browser-login-needed-code",
        stages: AUTH,
        codes: &[534],
        enhanced: &["5.7.14"],
        class: Class::Suspend,
        meaning: GOOGLE_WANTS_BROWSER,
        ..ANY
    },
    Row {
        id: "too-many-logins",
        codes: FOUR,
        all_of: &["too many login"],
        class: QUARTER_HOUR,
        meaning: Explanation {
            cause: text(
                "Es gab zu viele Anmeldungen in kurzer Zeit; der Mailserver lässt vorerst keine \
                 weitere zu.",
                "There were too many logins in a short time; the mail server allows no more for \
                 now.",
            ),
            remedy: text(
                "Postbote wartet eine Viertelstunde. Prüfen Sie, ob andere Geräte sich mit einem \
                 alten Passwort an diesem Konto versuchen, und senken Sie [upstream] connections.",
                "Postbote waits a quarter of an hour. Check whether other devices try this account \
                 with an old password, and lower [upstream] connections.",
            ),
        },
        ..ANY
    },
    Row {
        id: "daily-limit-code",
        stages: MESSAGE,
        codes: FIVE,
        enhanced: &["5.4.5"],
        class: DAILY,
        meaning: ACCOUNT_LIMIT,
        ..ANY
    },
    Row {
        id: "google-daily-limit",
        stages: MESSAGE,
        codes: FIVE,
        any_of: &[
            "daily user sending limit",
            "daily user sending quota",
            "daily smtp relay limit",
            "daily smtp relay rate",
            "daily sending limit",
            "daily sending quota",
        ],
        class: DAILY,
        meaning: ACCOUNT_LIMIT,
        ..ANY
    },
    Row {
        id: "recipient-receives-too-much",
        stages: MESSAGE,
        codes: FAILURE,
        all_of: &["receiving mail"],
        any_of: &["at a rate", "too quickly"],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Empfänger bekommt gerade zu viel Mail; sein Anbieter nimmt für ihn vorerst \
                 keine weitere an.",
                "The recipient gets too much mail at the moment; their provider takes no more for \
                 now.",
            ),
            remedy: WAIT,
        },
        ..ANY
    },
    Row {
        id: "google-content-blocked",
        stages: MESSAGE,
        codes: FIVE,
        all_of: &["content presents a potential security issue"],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Google nimmt die Mail nicht an, weil ein Anhang gefährlich sein könnte (etwa \
                 Programme, Makros, verschlüsselte Archive).",
                "Google does not take the message because an attachment might be dangerous (such \
                 as programs, macros, encrypted archives).",
            ),
            remedy: text(
                "Senden Sie den Anhang in einem anderen Format, etwa als PDF, oder als Link.",
                "Send the attachment in another format, such as PDF, or as a link.",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-policy",
        stages: MESSAGE,
        codes: FIVE,
        all_of: &["policy", "gcdp"],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Eine Regel der Google-Workspace-Organisation (Ihrer oder der des Empfängers) \
                 verbietet diese Mail.",
                "A rule of the Google Workspace organisation (yours or the recipient's) forbids \
                 this message.",
            ),
            remedy: text(
                "Ein Administrator findet die Regel in der Google-Admin-Konsole unter Gmail, \
                 Compliance und Routing. Senden Sie die Mail danach neu.",
                "An administrator finds the rule in the Google admin console under Gmail, \
                 Compliance and Routing. Then send the message again.",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-relay-refused",
        stages: SESSION,
        codes: FIVE,
        any_of: &["invalid credentials for relay", "mail relay denied"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Relaydienst von Google Workspace kennt diesen Rechner oder diese \
                 Absenderdomain nicht.",
                "The relay service of Google Workspace does not know this machine or this sender \
                 domain.",
            ),
            remedy: text(
                "Tragen Sie in der Google-Admin-Konsole unter Gmail, Routing, SMTP-Relaydienst die \
                 IP-Adresse dieses Rechners ein, oder melden Sie sich mit [upstream] username und \
                 password an.",
                "Enter the IP address of this machine in the Google admin console under Gmail, \
                 Routing, SMTP relay service, or log in with [upstream] username and password.",
            ),
        },
        ..ANY
    },
    // --- Amazon SES, SendGrid, Postmark
    Row {
        id: "amazon-daily-quota",
        codes: FAILURE,
        all_of: &["throttling failure", "quota"],
        class: DAILY,
        meaning: ACCOUNT_LIMIT,
        ..ANY
    },
    Row {
        id: "amazon-sending-rate",
        codes: FAILURE,
        all_of: &["throttling failure", "rate"],
        class: TEN_SECONDS,
        meaning: TOO_FAST,
        ..ANY
    },
    Row {
        id: "sender-not-verified",
        stages: MESSAGE,
        codes: FIVE,
        any_of: &[
            "email address is not verified",
            "identities failed the check",
            "verified sender identity",
            "sender signature",
        ],
        class: Class::Sender,
        meaning: SENDER_UNVERIFIED,
        ..ANY
    },
    Row {
        id: "sendgrid-not-logged-in",
        stages: SESSION,
        codes: FIVE,
        all_of: &["unauthenticated senders not allowed"],
        class: Class::Suspend,
        meaning: NOT_LOGGED_IN,
        ..ANY
    },
    Row {
        id: "credits-used-up",
        stages: SESSION,
        codes: FAILURE,
        all_of: &["credits exceeded"],
        class: DAILY,
        meaning: Explanation {
            cause: text(
                "Das Guthaben oder Kontingent beim Versanddienst ist aufgebraucht.",
                "The credits or the allowance at the sending service are used up.",
            ),
            remedy: text(
                "Buchen Sie beim Anbieter nach oder warten Sie auf den nächsten Zeitraum. Postbote \
                 versucht es alle paar Stunden wieder.",
                "Buy more from the provider or wait for the next period. Postbote tries again \
                 every few hours.",
            ),
        },
        ..ANY
    },
    // --- GMX, WEB.DE, mail.com, IONOS
    Row {
        id: "united-internet-limit",
        stages: MESSAGE,
        codes: FIVE,
        all_of: &["failure sending mail"],
        class: HALF_HOUR,
        meaning: Explanation {
            cause: text(
                "Der Anbieter bremst dieses Konto, weil in kurzer Zeit zu viel gesendet wurde. Es \
                 liegt nicht am Empfänger, auch wenn die Antwort so klingt.",
                "The provider slows this account down because too much was sent in a short time. \
                 It is not the recipient's fault, although the reply sounds like it.",
            ),
            remedy: PAUSED,
        },
        ..ANY
    },
    Row {
        id: "united-internet-bad-header",
        stages: MESSAGE,
        codes: FIVE,
        any_of: &["reject due to policy restrictions"],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Der Anbieter lehnt den Aufbau der Mail ab, meist wegen Umlauten in Kopfzeilen, \
                 doppelter Kopfzeilen oder eines falschen Datums.",
                "The provider refuses how the message is built, mostly because of raw umlauts in \
                 header lines, doubled header lines or a wrong date.",
            ),
            remedy: text(
                "Folgen Sie dem Link in der Antwort; „postbote preview TENANT --explain“ zeigt die \
                 Kopfzeilen, wie sie hinausgehen. Lassen Sie [upstream] utf8_headers auf \"auto\".",
                "Follow the link in the reply; 'postbote preview TENANT --explain' shows the \
                 header lines as they leave. Keep [upstream] utf8_headers at \"auto\".",
            ),
        },
        ..ANY
    },
    // --- words that many use: first what must not be taken for a limit or a sender
    Row {
        id: "requiretls",
        stages: MESSAGE,
        codes: FIVE,
        all_of: &["requiretls"],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Die Mail verlangt durchgehende Verschlüsselung bis zum Empfänger (REQUIRETLS); \
                 ein Mailserver auf dem Weg kann das nicht.",
                "The message demands encryption all the way to the recipient (REQUIRETLS); a mail \
                 server on the way cannot do that.",
            ),
            remedy: text(
                "Senden Sie die Mail ohne diese Forderung neu oder auf einem anderen Weg.",
                "Send the message again without this demand, or in another way.",
            ),
        },
        ..ANY
    },
    Row {
        id: "encryption-needed",
        stages: SESSION,
        codes: FIVE,
        any_of: &[
            "must issue a starttls",
            "issue starttls first",
            "starttls command first",
            "starttls first",
            "starttls is required",
            "starttls required",
            "encryption required",
            "encryption is required",
            "tls required",
            "tls is required",
            "must use tls",
        ],
        class: Class::Suspend,
        meaning: NEEDS_ENCRYPTION,
        ..ANY
    },
    Row {
        id: "encryption-needed-code",
        stages: SESSION,
        codes: &[523, 538],
        class: Class::Suspend,
        meaning: NEEDS_ENCRYPTION,
        ..ANY
    },
    Row {
        id: "not-authentic-code",
        stages: MESSAGE,
        codes: FIVE,
        enhanced: &[
            "5.7.20", "5.7.21", "5.7.22", "5.7.23", "5.7.24", "5.7.26", "5.7.27", "5.7.509",
            "5.7.515",
        ],
        class: Class::Permanent,
        meaning: NOT_AUTHENTIC,
        ..ANY
    },
    Row {
        id: "not-authentic",
        stages: MESSAGE,
        codes: FIVE,
        any_of: &[
            "dmarc",
            "spf check",
            "spf fail",
            "spf record",
            "spf validation",
            "spf or dkim",
            "dkim or spf",
            "dkim fail",
            "dkim signature",
            "sender is unauthenticated",
            "unauthenticated email",
            "required authentication level",
        ],
        class: Class::Permanent,
        meaning: NOT_AUTHENTIC,
        ..ANY
    },
    Row {
        id: "too-big-code",
        stages: MESSAGE,
        codes: FIVE,
        enhanced: &["5.3.4", "5.2.3"],
        class: Class::Permanent,
        meaning: TOO_BIG,
        ..ANY
    },
    Row {
        id: "header-too-complex",
        stages: CONTENT,
        codes: FIVE,
        any_of: &[
            "bare linefeed",
            "bare lf",
            "bare <lf>",
            "bare newline",
            "bare carriage return",
            "bare cr",
            "line too long",
            "lines too long",
            "line length",
            "nesting",
            "too many mime",
            "too many headers",
            "headers too",
            "header too",
            "header size",
        ],
        class: Class::Permanent,
        meaning: BAD_FORM,
        ..ANY
    },
    Row {
        id: "bad-form-code",
        stages: CONTENT,
        codes: FIVE,
        enhanced: &["5.6.0", "5.6.1", "5.6.2", "5.6.3"],
        class: Class::Permanent,
        meaning: BAD_FORM,
        ..ANY
    },
    Row {
        id: "too-big",
        stages: MESSAGE,
        codes: FIVE,
        any_of: &[
            "message size",
            "mail size",
            "size limit",
            "size exceed",
            "exceeded size",
            "exceeds size",
            "maximum size",
            "maximum message size",
            "message too large",
            "message is too large",
            "message too big",
            "message is too big",
            "message too long",
            "mail too large",
            "attachment too large",
        ],
        class: Class::Permanent,
        meaning: TOO_BIG,
        ..ANY
    },
    Row {
        id: "umlaut-address-code",
        stages: MESSAGE,
        codes: FIVE,
        enhanced: &["5.6.7", "5.6.9"],
        class: Class::Permanent,
        meaning: UMLAUT_ADDRESS,
        ..ANY
    },
    Row {
        id: "umlaut-address",
        stages: MESSAGE,
        codes: FIVE,
        all_of: &["smtputf8"],
        class: Class::Permanent,
        meaning: UMLAUT_ADDRESS,
        ..ANY
    },
    Row {
        id: "loop-code",
        stages: MESSAGE,
        codes: FIVE,
        enhanced: &["5.4.6", "5.4.14"],
        class: Class::Permanent,
        meaning: LOOP,
        ..ANY
    },
    Row {
        id: "loop",
        stages: MESSAGE,
        codes: FIVE,
        any_of: &[
            "too many hops",
            "hop count",
            "mail loop",
            "routing loop",
            "loop detected",
            "too many received",
        ],
        class: Class::Permanent,
        meaning: LOOP,
        ..ANY
    },
    Row {
        id: "mailbox-full-code",
        stages: MESSAGE,
        codes: FIVE,
        enhanced: &["5.2.2"],
        class: Class::Permanent,
        meaning: MAILBOX_FULL,
        ..ANY
    },
    Row {
        id: "no-such-recipient-code",
        stages: TO_SOMEONE,
        codes: FIVE,
        enhanced: &["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"],
        class: Class::Permanent,
        meaning: NO_SUCH_RECIPIENT,
        ..ANY
    },
    Row {
        id: "sender-domain-code",
        stages: MESSAGE,
        codes: FIVE,
        enhanced: &["5.1.7", "5.1.8"],
        class: Class::Sender,
        meaning: SENDER_DOMAIN,
        ..ANY
    },
    Row {
        id: "sender-domain",
        stages: MESSAGE,
        codes: FIVE,
        any_of: &[
            "domain of sender",
            "sender domain",
            "sender address rejected: domain",
            "sender verify failed",
        ],
        class: Class::Sender,
        meaning: SENDER_DOMAIN,
        ..ANY
    },
    Row {
        id: "suspected-spam",
        stages: CONTENT,
        codes: FIVE,
        any_of: &[
            "virus",
            "malware",
            "spam message",
            "spam content",
            "spam score",
            "looks like spam",
            "identified as spam",
            "considered spam",
            "considered as spam",
            "classified as spam",
            "detected as spam",
            "rejected as spam",
            "content rejected",
        ],
        class: Class::Permanent,
        meaning: SUSPECTED_SPAM,
        ..ANY
    },
    Row {
        id: "recipient-takes-not-from-all",
        stages: RCPT,
        codes: FIVE,
        all_of: &["to send"],
        any_of: &[
            "to this recipient",
            "to this address",
            "to this group",
            "to this list",
            "to this mailbox",
            "to this user",
            "to the recipient",
            "to this distribution",
        ],
        class: Class::Permanent,
        meaning: RECIPIENT_RESTRICTED,
        ..ANY
    },
    // --- words that many use: too many
    Row {
        id: "too-many-recipients-in-a-time",
        stages: MESSAGE,
        codes: FIVE,
        all_of: &["too many recipients"],
        any_of: &["hour", "minute", "day", "daily", "today"],
        class: HALF_HOUR,
        meaning: ACCOUNT_LIMIT,
        ..ANY
    },
    Row {
        id: "too-many-bad-recipients",
        stages: MESSAGE,
        codes: FIVE,
        any_of: &[
            "too many invalid recipients",
            "too many unknown recipients",
            "too many bad recipients",
            "too many nonexistent recipients",
        ],
        class: HALF_HOUR,
        meaning: Explanation {
            cause: text(
                "Zu viele Adressen waren ungültig; der Mailserver hält das für Missbrauch \
                 und nimmt vorerst nichts an.",
                "Too many addresses were invalid; the mail server takes that for abuse and accepts \
                 nothing for now.",
            ),
            remedy: text(
                "Bereinigen Sie die Empfängerliste der Anwendung. Postbote macht eine Pause und \
                 sendet dann weiter.",
                "Clean up the recipient list of the application. Postbote pauses and then goes on.",
            ),
        },
        ..ANY
    },
    Row {
        id: "too-many-recipients",
        stages: RCPT,
        codes: FIVE,
        any_of: &[
            "too many recipients",
            "recipient limit",
            "recipients limit",
            "number of recipients",
        ],
        class: Class::Transient,
        meaning: TOO_MANY_RECIPIENTS,
        ..ANY
    },
    Row {
        id: "too-many-recipients-for-message",
        stages: CONTENT,
        codes: FIVE,
        any_of: &[
            "too many recipients",
            "recipient limit",
            "recipients limit",
            "number of recipients",
        ],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Die Mail hat mehr Empfänger, als der Mailserver für eine Mail erlaubt.",
                "The message has more recipients than the mail server allows for one message.",
            ),
            remedy: text(
                "Teilen Sie die Empfänger auf mehrere Mails auf und senden Sie diese neu.",
                "Divide the recipients among several messages and send those.",
            ),
        },
        ..ANY
    },
    Row {
        id: "sending-quota",
        stages: MESSAGE,
        codes: FIVE,
        any_of: &[
            "sending quota",
            "submission quota",
            "message quota",
            "messages quota",
            "outgoing quota",
            "outbound quota",
            "daily quota",
            "hourly quota",
            "sending limit",
            "daily limit",
            "hourly limit",
        ],
        class: HALF_HOUR,
        meaning: ACCOUNT_LIMIT,
        ..ANY
    },
    Row {
        id: "sending-quota-by-policy",
        stages: MESSAGE,
        codes: FIVE,
        all_of: &["quota"],
        any_of: &[
            "policy", "policies", "sending", "outgoing", "outbound", "hour", "daily", "per day",
            "throttl", "sasl",
        ],
        class: HALF_HOUR,
        meaning: ACCOUNT_LIMIT,
        ..ANY
    },
    Row {
        id: "mailbox-full",
        stages: TO_SOMEONE,
        codes: FIVE,
        any_of: &[
            "mailbox full",
            "mailbox is full",
            "mailbox quota",
            "inbox is full",
            "over quota",
            "over-quota",
            "overquota",
            "out of storage",
            "storage quota",
            "disk quota",
        ],
        class: Class::Permanent,
        meaning: MAILBOX_FULL,
        ..ANY
    },
    Row {
        id: "recipient-quota",
        stages: RCPT,
        codes: FIVE,
        all_of: &["quota"],
        class: Class::Permanent,
        meaning: MAILBOX_FULL,
        ..ANY
    },
    Row {
        id: "content-quota",
        stages: CONTENT,
        codes: &[552],
        all_of: &["quota"],
        class: Class::Permanent,
        meaning: MAILBOX_FULL,
        ..ANY
    },
    Row {
        id: "no-such-recipient",
        stages: TO_SOMEONE,
        codes: FIVE,
        any_of: &[
            "user unknown",
            "unknown user",
            "no such user",
            "user not found",
            "user doesn't exist",
            "does not exist",
            "doesn't exist",
            "no such recipient",
            "unknown recipient",
            "recipient unknown",
            "recipient not found",
            "invalid recipient",
            "no such mailbox",
            "unknown mailbox",
            "mailbox not found",
            "invalid mailbox",
            "no mailbox",
            "not a valid mailbox",
            "unrouteable address",
            "unknown address",
            "address unknown",
            "recipientnotfound",
        ],
        class: Class::Permanent,
        meaning: NO_SUCH_RECIPIENT,
        ..ANY
    },
    Row {
        id: "too-fast",
        stages: MESSAGE,
        codes: FIVE,
        any_of: &[
            "rate limit",
            "rate-limit",
            "ratelimit",
            "rate exceed",
            "rate control",
            "sending rate",
            "submission rate",
            "message rate",
            "mail rate",
            "throttl",
            "too many messages",
            "too many mails",
            "too many emails",
            "too many e-mails",
            "too many connections",
            "too many concurrent",
            "too many sessions",
            "too many requests",
            "too many submissions",
            "too many transactions",
            "too much mail",
            "sent too many",
            "limit exceeded",
            "limit has been exceeded",
            "exceeded the limit",
            "exceeded the max",
            "exceeded your limit",
            "messages per",
            "mails per",
            "per hour",
            "quota",
            "try again later",
            "try again in",
        ],
        class: HALF_HOUR,
        meaning: TOO_FAST,
        ..ANY
    },
    Row {
        id: "too-many-in-a-time",
        stages: MESSAGE,
        codes: FIVE,
        all_of: &["too many"],
        any_of: &["hour", "minute", "per day", "today", "later", "wait"],
        class: HALF_HOUR,
        meaning: TOO_FAST,
        ..ANY
    },
    // --- words that many use: the sender
    Row {
        id: "sender-needs-login",
        stages: ENVELOPE,
        codes: FIVE,
        all_of: &["sender address rejected: not logged in"],
        class: Class::Suspend,
        meaning: NOT_LOGGED_IN,
        ..ANY
    },
    Row {
        id: "sender-refused",
        stages: MESSAGE,
        codes: FIVE,
        any_of: &[
            "not owned by user",
            "login mismatch",
            "not same as smtp authenticate username",
            "mail from address must be same",
            "must be same as auth",
            "must match auth",
            "invalid sender",
            "emetteur invalide",
            "unauthorized sender",
            "unauthorised sender",
            "not permitted to send",
            "not allowed to send",
            "not authorized to send",
            "not authorised to send",
        ],
        class: Class::Sender,
        meaning: SENDER_REFUSED,
        ..ANY
    },
    Row {
        id: "sender-not-allowed",
        stages: MESSAGE,
        codes: FIVE,
        all_of: &["sender", "not allowed"],
        class: Class::Sender,
        meaning: SENDER_REFUSED,
        ..ANY
    },
    Row {
        id: "sender-rejected",
        stages: MESSAGE,
        codes: FIVE,
        all_of: &["sender", "rejected"],
        class: Class::Sender,
        meaning: SENDER_REFUSED,
        ..ANY
    },
    Row {
        id: "sender-denied",
        stages: MESSAGE,
        codes: FIVE,
        all_of: &["sender", "denied"],
        class: Class::Sender,
        meaning: SENDER_REFUSED,
        ..ANY
    },
    Row {
        id: "sender-not-owned",
        stages: MESSAGE,
        codes: FIVE,
        all_of: &["sender", "not owned"],
        class: Class::Sender,
        meaning: SENDER_REFUSED,
        ..ANY
    },
    Row {
        id: "sender-not-authorized",
        stages: MESSAGE,
        codes: FIVE,
        all_of: &["sender", "not authori"],
        class: Class::Sender,
        meaning: SENDER_REFUSED,
        ..ANY
    },
    // --- words that many use: the login
    Row {
        id: "login-needed-code",
        stages: MESSAGE,
        codes: &[530],
        class: Class::Suspend,
        meaning: NOT_LOGGED_IN,
        ..ANY
    },
    Row {
        id: "login-refused-late",
        stages: MESSAGE,
        codes: &[534, 535],
        class: Class::Suspend,
        meaning: WRONG_CREDENTIALS,
        ..ANY
    },
    Row {
        id: "login-needed",
        stages: ENVELOPE,
        codes: FIVE,
        any_of: &[
            "authentication required",
            "authentication is required",
            "requires authentication",
            "not authenticated",
            "must authenticate",
            "authenticate first",
            "auth command first",
            "auth first",
            "need auth",
            "ehlo and auth",
            "auth required",
        ],
        class: Class::Suspend,
        meaning: NOT_LOGGED_IN,
        ..ANY
    },
    // --- the greeting and EHLO
    Row {
        id: "hello-blocked",
        stages: HELLO,
        codes: FIVE,
        any_of: &[
            "block list",
            "blocklist",
            "block listed",
            "blacklist",
            "black list",
            "denylist",
            "spamhaus",
            "dnsbl",
            "reputation",
        ],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Mailserver weist die Internetadresse (IP) dieses Anschlusses ab, weil sie auf \
                 einer Sperrliste steht.",
                "The mail server turns away the internet address (IP) of this line because it is \
                 on a block list.",
            ),
            remedy: text(
                "Prüfen Sie, ob [upstream] host der Server für eigene Kunden mit Anmeldung ist \
                 (Port 587 oder 465, nicht 25). Lassen Sie sonst die IP-Adresse von der in der \
                 Antwort genannten Liste streichen.",
                "Check that [upstream] host is the server for the provider's own customers with \
                 login (port 587 or 465, not 25). Otherwise have the IP address removed from the \
                 list named in the reply.",
            ),
        },
        ..ANY
    },
    Row {
        id: "hello-name-refused",
        stages: HELLO,
        codes: FIVE,
        any_of: &["helo", "ehlo"],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Mailserver nimmt den Namen nicht an, mit dem sich Postbote vorstellt.",
                "The mail server does not accept the name with which Postbote introduces itself.",
            ),
            remedy: text(
                "Tragen Sie bei [upstream] helo einen vollständigen Rechnernamen ein, etwa \
                 kasse.ihre-domain.de.",
                "Enter a full machine name as [upstream] helo, such as till.your-domain.com.",
            ),
        },
        ..ANY
    },
    Row {
        id: "hello-refused",
        stages: HELLO,
        codes: FIVE,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Mailserver will mit diesem Rechner gar nicht sprechen.",
                "The mail server does not want to talk to this machine at all.",
            ),
            remedy: text(
                "Prüfen Sie, ob [upstream] host und port der Server für ausgehende Mail mit \
                 Anmeldung ist (meist Port 587 oder 465). Hält es an, fragen Sie den Anbieter, ob \
                 er Ihre IP-Adresse sperrt.",
                "Check that [upstream] host and port are the server for outgoing mail with login \
                 (usually port 587 or 465). If it lasts, ask the provider whether your IP address \
                 is blocked.",
            ),
        },
        ..ANY
    },
    Row {
        id: "hello-busy",
        stages: HELLO,
        codes: FOUR,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Mailserver nimmt gerade keine Verbindung an, meist weil er überlastet ist \
                 oder gewartet wird.",
                "The mail server accepts no connection at the moment, usually because it is \
                 overloaded or being serviced.",
            ),
            remedy: WAIT,
        },
        ..ANY
    },
    // --- STARTTLS
    Row {
        id: "starttls-refused",
        stages: TLS,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Mailserver hat die Verschlüsselung abgelehnt (STARTTLS), obwohl er sie \
                 angeboten hatte.",
                "The mail server refused encryption (STARTTLS) although it had offered it.",
            ),
            remedy: text(
                "Meist eine Störung des Mailservers: Postbote versucht es von selbst wieder. Hält \
                 es an, fragen Sie den Anbieter oder nehmen Sie port = 465 mit [upstream] \
                 encryption = \"tls\".",
                "Usually a fault of the mail server: Postbote tries again by itself. If it lasts, \
                 ask the provider, or use port = 465 with [upstream] encryption = \"tls\".",
            ),
        },
        ..ANY
    },
    // --- AUTH
    Row {
        id: "login-wrong",
        stages: AUTH,
        codes: &[535],
        class: Class::Suspend,
        meaning: WRONG_CREDENTIALS,
        ..ANY
    },
    Row {
        id: "login-too-weak",
        stages: AUTH,
        codes: &[534],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Mailserver verlangt für dieses Konto eine sicherere Anmeldung.",
                "The mail server wants a safer login for this account.",
            ),
            remedy: text(
                "Legen Sie beim Anbieter ein App-Passwort an und hinterlegen Sie es mit „postbote \
                 vault set NAME“, oder stellen Sie auf OAuth2 um („postbote oauth connect \
                 TENANT“).",
                "Make an app password at the provider and store it with 'postbote vault set NAME', \
                 or change to OAuth2 ('postbote oauth connect TENANT').",
            ),
        },
        ..ANY
    },
    Row {
        id: "login-kind-unknown",
        stages: AUTH,
        codes: &[500, 501, 502, 503, 504, 530],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Mailserver kann mit dieser Art der Anmeldung nichts anfangen, oder er erlaubt \
                 sie auf dieser Verbindung nicht.",
                "The mail server does not understand this kind of login or does not allow it on \
                 this connection.",
            ),
            remedy: text(
                "Setzen Sie [upstream] authentication = \"auto\" und prüfen Sie, ob port und \
                 encryption zusammenpassen (587 und \"starttls\", 465 und \"tls\"). Braucht der \
                 Server keine Anmeldung, setzen Sie authentication = \"none\".",
                "Set [upstream] authentication = \"auto\" and check that port and encryption \
                 belong together (587 and \"starttls\", 465 and \"tls\"). If the server needs no \
                 login, set authentication = \"none\".",
            ),
        },
        ..ANY
    },
    Row {
        id: "login-refused",
        stages: AUTH,
        codes: FIVE,
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Mailserver hat die Anmeldung abgelehnt; das Konto ist vielleicht gesperrt \
                 oder darf nicht senden.",
                "The mail server refused the login; the account may be locked or not allowed to \
                 send.",
            ),
            remedy: CHECK_LOGIN,
        },
        ..ANY
    },
    Row {
        id: "password-change-needed",
        stages: AUTH,
        codes: &[432],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Mailserver verlangt, dass das Passwort einmal auf andere Weise benutzt oder \
                 geändert wird.",
                "The mail server wants the password to be used once in another way, or to be \
                 changed.",
            ),
            remedy: text(
                "Melden Sie sich einmal auf der Webseite des Anbieters an und ändern Sie das \
                 Passwort; hinterlegen Sie es mit „postbote vault set NAME“. Manchmal hilft \
                 [upstream] authentication = \"plain\".",
                "Log in once on the provider's web site and change the password, then store it \
                 with 'postbote vault set NAME'. Sometimes [upstream] authentication = \"plain\" \
                 helps.",
            ),
        },
        ..ANY
    },
    Row {
        id: "login-not-now",
        stages: AUTH,
        codes: FOUR,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Mailserver lässt gerade keine Anmeldung zu; das heißt nicht, dass das \
                 Passwort falsch ist.",
                "The mail server allows no login at the moment; that does not mean that the \
                 password is wrong.",
            ),
            remedy: WAIT,
        },
        ..ANY
    },
    // --- 4xx while a message is under way
    Row {
        id: "greylisted",
        stages: MESSAGE,
        codes: FOUR,
        any_of: &[
            "greylist",
            "graylist",
            "grey list",
            "grey-list",
            "gray-list",
        ],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Mailserver lässt unbekannte Absender zum Schutz vor Spam zunächst warten \
                 (Greylisting).",
                "As a protection against spam the mail server makes unknown senders wait at first \
                 (greylisting).",
            ),
            remedy: text(
                "Sie müssen nichts tun: Postbote versucht es von selbst wieder, meist klappt es \
                 nach einigen Minuten.",
                "Nothing to do: Postbote tries again by itself, usually it works after some \
                 minutes.",
            ),
        },
        ..ANY
    },
    Row {
        id: "mailbox-full-now-code",
        stages: TO_SOMEONE,
        codes: FOUR,
        enhanced: &["4.2.2"],
        class: Class::Transient,
        meaning: MAILBOX_FULL_NOW,
        ..ANY
    },
    Row {
        id: "mailbox-full-now",
        stages: TO_SOMEONE,
        codes: FOUR,
        any_of: &[
            "mailbox full",
            "mailbox is full",
            "mailbox quota",
            "inbox is full",
            "over quota",
            "over-quota",
            "overquota",
            "out of storage",
        ],
        class: Class::Transient,
        meaning: MAILBOX_FULL_NOW,
        ..ANY
    },
    Row {
        id: "too-many-recipients-now-code",
        stages: MESSAGE,
        codes: FOUR,
        enhanced: &["4.5.3"],
        class: Class::Transient,
        meaning: TOO_MANY_RECIPIENTS,
        ..ANY
    },
    Row {
        id: "too-many-recipients-now",
        stages: MESSAGE,
        codes: FOUR,
        all_of: &["too many recipients"],
        class: Class::Transient,
        meaning: TOO_MANY_RECIPIENTS,
        ..ANY
    },
    Row {
        id: "too-fast-now",
        stages: MESSAGE,
        codes: FOUR,
        any_of: &[
            "rate limit",
            "rate-limit",
            "ratelimit",
            "rate exceed",
            "rate control",
            "throttl",
            "too many",
            "too much",
            "too fast",
            "limit exceeded",
            "per hour",
            "quota",
        ],
        class: Class::Transient,
        meaning: Explanation {
            cause: TOO_FAST.cause,
            remedy: text(
                "Sie müssen nichts tun: Postbote versucht es von selbst wieder. Kommt es oft vor, \
                 verteilen Sie Serienmails mit [series] messages und pause_ms.",
                "Nothing to do: Postbote tries again by itself. If it happens often, spread bulk \
                 mail with [series] messages and pause_ms.",
            ),
        },
        ..ANY
    },
    Row {
        id: "server-closing",
        stages: MESSAGE,
        codes: &[421],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Mailserver hat die Verbindung beendet, etwa weil er überlastet ist oder \
                 gewartet wird.",
                "The mail server closed the connection, for instance because it is overloaded or \
                 being serviced.",
            ),
            remedy: WAIT,
        },
        ..ANY
    },
    Row {
        id: "server-short-of-space",
        stages: MESSAGE,
        codes: &[452],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Dem Mailserver fehlt gerade Speicherplatz, oder er nimmt nicht so viel auf einmal \
                 an.",
                "The mail server is short of space at the moment, or does not take so much at \
                 once.",
            ),
            remedy: WAIT,
        },
        ..ANY
    },
    Row {
        id: "recipient-not-now",
        stages: RCPT,
        codes: FOUR,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Mailserver nimmt für diesen Empfänger im Augenblick keine Mail an.",
                "The mail server takes no mail for this recipient at the moment.",
            ),
            remedy: WAIT,
        },
        ..ANY
    },
    Row {
        id: "sender-not-now",
        stages: MAIL,
        codes: FOUR,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Mailserver nimmt von diesem Absender im Augenblick keine Mail an.",
                "The mail server takes no mail from this sender at the moment.",
            ),
            remedy: text(
                "Postbote versucht es von selbst wieder. Hält es an, prüfen Sie, ob [sender] \
                 address stimmt und ihre Domain im DNS eingetragen ist.",
                "Postbote tries again by itself. If it lasts, check that [sender] address is right \
                 and that its domain is in DNS.",
            ),
        },
        ..ANY
    },
    Row {
        id: "not-now",
        codes: FOUR,
        class: Class::Transient,
        meaning: SERVER_TROUBLE,
        ..ANY
    },
    // --- 5xx to MAIL
    Row {
        id: "mail-too-big",
        stages: MAIL,
        codes: &[552],
        class: Class::Permanent,
        meaning: TOO_BIG,
        ..ANY
    },
    Row {
        id: "mail-sender-not-valid",
        stages: MAIL,
        codes: &[553],
        class: Class::Sender,
        meaning: SENDER_REFUSED,
        ..ANY
    },
    Row {
        id: "mail-refused",
        stages: MAIL,
        codes: FIVE,
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Der Mailserver hat die Mail schon beim Absender abgelehnt.",
                "The mail server refused the message as soon as the sender was named.",
            ),
            remedy: text(
                "Prüfen Sie [sender] address und return_path und ob das Konto noch senden darf. \
                 „postbote test TENANT“ zeigt den ganzen Dialog.",
                "Check [sender] address and return_path and whether the account may still send. \
                 'postbote test TENANT' shows the whole dialogue.",
            ),
        },
        ..ANY
    },
    // --- 5xx to RCPT
    Row {
        id: "rcpt-552-as-452",
        stages: RCPT,
        codes: &[552],
        class: Class::Transient,
        meaning: TOO_MANY_RECIPIENTS,
        ..ANY
    },
    Row {
        id: "relaying-denied",
        stages: RCPT,
        codes: FIVE,
        any_of: &[
            "relay access denied",
            "relaying denied",
            "relay denied",
            "unable to relay",
            "relay not permitted",
            "relaying not allowed",
            "not permitted to relay",
            "relay prohibited",
            "relaying prohibited",
            "rcpthosts",
        ],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Der Mailserver nimmt von Postbote keine Mail an fremde Domains an; meist fehlt \
                 die Anmeldung, oder er kennt diesen Rechner nicht.",
                "The mail server takes no mail for other domains from Postbote; usually the login \
                 is missing or it does not know this machine.",
            ),
            remedy: text(
                "Tragen Sie [upstream] username und password ein und setzen Sie authentication = \
                 \"auto\", oder lassen Sie die IP-Adresse dieses Rechners auf dem Mailserver für \
                 den Versand zu. Stoßen Sie die Mail danach mit „postbote queue retry --state \
                 failed“ neu an.",
                "Enter [upstream] username and password and set authentication = \"auto\", or have \
                 the IP address of this machine allowed to send on the mail server. Then start the \
                 message again with 'postbote queue retry --state failed'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "rcpt-domain-takes-no-mail",
        stages: RCPT,
        codes: &[521, 556],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Die Domain des Empfängers nimmt überhaupt keine Mail an.",
                "The domain of the recipient takes no mail at all.",
            ),
            remedy: CHECK_RECIPIENT,
        },
        ..ANY
    },
    Row {
        id: "rcpt-not-here",
        stages: RCPT,
        codes: &[550, 551, 553],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Der Mailserver nimmt die Adresse des Empfängers nicht an: Es gibt sie nicht, oder \
                 sie ist für Sie gesperrt.",
                "The mail server does not accept the address of the recipient: it does not exist, \
                 or it is closed to you.",
            ),
            remedy: CHECK_RECIPIENT,
        },
        ..ANY
    },
    Row {
        id: "rcpt-refused",
        stages: RCPT,
        codes: FIVE,
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Der Mailserver hat diesen Empfänger abgelehnt.",
                "The mail server refused this recipient.",
            ),
            remedy: CHECK_RECIPIENT,
        },
        ..ANY
    },
    // --- 5xx to DATA and to the message
    Row {
        id: "content-too-big",
        stages: CONTENT,
        codes: &[552],
        class: Class::Permanent,
        meaning: TOO_BIG,
        ..ANY
    },
    Row {
        id: "content-refused",
        stages: CONTENT,
        codes: FIVE,
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Der Mailserver hat die Mail endgültig abgelehnt, meist wegen ihres Inhalts oder \
                 einer Regel des Anbieters.",
                "The mail server finally refused the message, usually because of its content or a \
                 rule of the provider.",
            ),
            remedy: text(
                "Der Wortlaut der Antwort nennt den Grund; mit ihm kann der Anbieter weiterhelfen. \
                 Ändern Sie die Mail und senden Sie sie neu.",
                "The words of the reply name the reason; with them the provider can help. Change \
                 the message and send it again.",
            ),
        },
        ..ANY
    },
];

#[cfg(test)]
#[path = "replies_tests.rs"]
mod tests;
