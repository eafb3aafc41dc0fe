//! What the token endpoints of OAuth2, Microsoft Graph and the Gmail API say, and what it means.
//!
//! Tables, read from the top; the first row that matches counts. A token endpoint has two: that of
//! its provider, then [`ANY_TOKEN`]. Some rules hold everywhere:
//!
//! * A token endpoint knows no message: its answers suspend the route, pause it or are tried
//!   again; none of them costs a message.
//! * Numbers (`AADSTS…`) before the `error`, the `error` before the HTTP status; but a server that
//!   throttles (429) or is broken (5xx) is not believed when it blames our login.
//! * What is unknown is not guessed. An unknown `invalid_grant`, `interaction_required`,
//!   `consent_required`, `invalid_client` or `unauthorized_client` needs a person; anything else
//!   that is unknown is tried again. An unknown 4xx of Graph or Gmail is about the message (but a
//!   403 of Gmail about the account), an unknown 5xx is not.
//! * A 4xx without the error code that the interface always gives is not from it but from
//!   something on the way there; it costs no message.

use std::time::Duration;

use super::{Explanation, Text, codes, fold, text};
use crate::failure::Class;

/// Who answered; it says which table of token errors is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Microsoft Entra ID, in any of its clouds.
    Microsoft,
    /// Google.
    Google,
    /// Any other server that speaks OAuth2 (RFC 6749).
    Custom,
}

/// One row: which answers it matches and what they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Stable name, kebab-case, unique over all tables.
    pub id: &'static str,
    /// HTTP statuses; empty: any.
    pub statuses: &'static [u16],
    /// Error codes in lower case, compared without regard to case: `error` of a token endpoint,
    /// `error.code` of Graph, a `reason` or the `status` of Gmail. One that ends in `*` is a
    /// prefix, an empty one an answer without any code. An empty list: any or none.
    pub codes: &'static [&'static str],
    /// Numbers behind `AADSTS`; empty: any or none.
    pub numbers: &'static [u32],
    /// Lower-case substrings of which at least one must occur in the lower-cased text; empty: any
    /// text.
    pub any_of: &'static [&'static str],
    /// What to do. The time of [`Class::Slow`] holds where the answer names none.
    pub class: Class,
    /// The access token was refused: a new one and another try at once may help, but only once.
    /// Then `class` holds.
    pub fresh_token: bool,
    /// Our own mistake, or something unknown: the operator should hear of it.
    pub alert: bool,
    /// What it means and what helps.
    pub meaning: Explanation,
}

impl Row {
    /// Whether this row is about such an answer.
    fn matches(&self, answer: &Answer<'_>) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&answer.status))
            && (self.codes.is_empty() || self.codes.iter().any(|code| answer.says(code)))
            && (self.numbers.is_empty() || self.numbers.iter().any(|n| answer.numbers.contains(n)))
            && (self.any_of.is_empty() || self.any_of.iter().any(|s| answer.text.contains(s)))
    }
}

/// An answer in the form in which the rows are compared with it.
struct Answer<'a> {
    status: u16,
    codes: &'a [&'a str],
    numbers: &'a [u32],
    /// Lower-cased, blanks are single.
    text: String,
}

impl Answer<'_> {
    /// Whether one of the codes is this entry of a row.
    fn says(&self, entry: &str) -> bool {
        let mut codes = self.codes.iter().map(|code| code.trim());
        if entry.is_empty() {
            return codes.all(str::is_empty);
        }
        match entry.strip_suffix('*') {
            Some(prefix) => codes.any(|code| {
                code.get(..prefix.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            }),
            None => codes.any(|code| code.eq_ignore_ascii_case(entry)),
        }
    }
}

/// Explains an answer of a token endpoint, of a device endpoint or of the browser's way back.
///
/// `error` and `description` are the members `error` and `error_description`, empty where there
/// are none; `numbers` is Microsoft's `error_codes`, to which those in the description are added.
/// An answer that came with no HTTP status of its own (the browser's way back) has status 0.
#[must_use]
pub fn token(
    provider: Provider,
    status: u16,
    error: &str,
    description: &str,
    numbers: &[u32],
) -> &'static Row {
    let own: &'static [Row] = match provider {
        Provider::Microsoft => MICROSOFT_TOKEN,
        Provider::Google => GOOGLE_TOKEN,
        Provider::Custom => &[],
    };
    let mut all = aadsts(description);
    all.extend_from_slice(numbers);
    let answer = Answer {
        status,
        codes: &[error],
        numbers: &all,
        text: fold(description),
    };
    own.iter()
        .chain(ANY_TOKEN)
        .find(|row| row.matches(&answer))
        .unwrap_or(&TOKEN_OTHERWISE)
}

/// Explains an answer of Microsoft Graph, or of an upload session that Graph opened.
///
/// `code` and `message` are those of the member `error`, empty where there is none; `message` may
/// be the body of an answer that is no JSON.
#[must_use]
pub fn graph(status: u16, code: &str, message: &str) -> &'static Row {
    let mut text = fold(message);
    if status == 413 {
        // The front servers send this status with a body of their own or with none; its name
        // makes it the same case as the 400 that says so in words.
        text.push_str(" request entity too large");
    }
    let answer = Answer {
        status,
        codes: &[code],
        numbers: &[],
        text,
    };
    GRAPH
        .iter()
        .find(|row| row.matches(&answer))
        .unwrap_or(&GRAPH_OTHERWISE)
}

/// Explains an answer of the Gmail API.
///
/// `codes` are the `reason` of every error in the answer and its `status`, in any order.
#[must_use]
pub fn gmail(status: u16, codes: &[&str], message: &str) -> &'static Row {
    let answer = Answer {
        status,
        codes,
        numbers: &[],
        text: fold(message),
    };
    GMAIL
        .iter()
        .find(|row| row.matches(&answer))
        .unwrap_or(&GMAIL_OTHERWISE)
}

/// All numbers that follow `AADSTS` in a text, in their order: what Microsoft's
/// `error_description` says where `error_codes` is missing, as in a redirect.
#[must_use]
pub fn aadsts(description: &str) -> Vec<u32> {
    description
        .split("AADSTS")
        .skip(1)
        .filter_map(|behind| {
            let end = behind
                .find(|letter: char| !letter.is_ascii_digit())
                .unwrap_or(behind.len());
            behind[..end].parse().ok()
        })
        .collect()
}

/// The time in Gmail's `Retry after 2026-09-11T20:00:00.000Z` (RFC 3339), which often stands in
/// for the header `Retry-After`.
#[must_use]
pub fn retry_after_text(message: &str) -> Option<&str> {
    const WORDS: &str = "retry after ";
    // Lower-casing ASCII moves no byte, so the place is the same in both.
    let at = message.to_ascii_lowercase().find(WORDS)? + WORDS.len();
    let time = message[at..]
        .split_whitespace()
        .next()?
        .trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
    is_time(time).then_some(time)
}

/// Whether a word has the shape of a date and time with a zone (RFC 3339).
fn is_time(word: &str) -> bool {
    const SHAPE: &str = "0000-00-00T00:00:00";
    let Some((time, rest)) = word.split_at_checked(SHAPE.len()) else {
        return false;
    };
    let shaped = time.bytes().zip(SHAPE.bytes()).all(|(byte, shape)| {
        if shape == b'0' {
            byte.is_ascii_digit()
        } else {
            byte.eq_ignore_ascii_case(&shape)
        }
    });
    let zone = rest.trim_start_matches(|letter: char| letter == '.' || letter.is_ascii_digit());
    shaped && (zone.eq_ignore_ascii_case("z") || (zone.len() == 6 && zone.starts_with(['+', '-'])))
}

/// 200 to 299; 202 of Graph is success and never asked about.
const TWO: &[u16] = &codes::<100>(200);
/// 300 to 399.
const THREE: &[u16] = &codes::<100>(300);
/// 400 to 499.
const FOUR: &[u16] = &codes::<100>(400);
/// 500 to 599.
const FIVE: &[u16] = &codes::<100>(500);
/// Below 429: a token endpoint that neither throttles nor is broken, and so means what it says.
/// 0 is the browser's way back, which has no status.
const MEANT: &[u16] = &codes::<429>(0);

/// What a throttled answer asks for where it names no time.
const HALF_MINUTE: Class = Class::Slow(Duration::from_secs(30));
/// Gmail's limit by the minute.
const MINUTE: Class = Class::Slow(Duration::from_secs(60));
/// Asked the same too often; asking on would lengthen it.
const FIVE_MINUTES: Class = Class::Slow(Duration::from_secs(5 * 60));
/// Longer than a locked account stays locked by default.
const HALF_HOUR: Class = Class::Slow(Duration::from_secs(30 * 60));
/// A quota of a mailbox that rolls on; look again from time to time.
const HOUR: Class = Class::Slow(Duration::from_secs(60 * 60));
/// A quota that is counted by the day.
const DAY: Class = Class::Slow(Duration::from_secs(24 * 60 * 60));

const WAIT: Text = text(
    "Sie müssen nichts tun: Postbote versucht es von selbst wieder. Hält es an, fragen Sie den \
     Anbieter nach einer Störung.",
    "Nothing to do: Postbote tries again by itself. If it lasts, ask the provider about an outage.",
);

const WAIT_MICROSOFT: Text = text(
    "Sie müssen nichts tun: Postbote versucht es von selbst wieder. Hält es an, sehen Sie auf \
     https://status.cloud.microsoft nach, ob Microsoft eine Störung meldet.",
    "Nothing to do: Postbote tries again by itself. If it lasts, look at \
     https://status.cloud.microsoft whether Microsoft reports an outage.",
);

const WAIT_GOOGLE: Text = text(
    "Sie müssen nichts tun: Postbote versucht es von selbst wieder. Hält es an, sehen Sie auf \
     https://www.google.com/appsstatus/dashboard nach, ob Google eine Störung meldet.",
    "Nothing to do: Postbote tries again by itself. If it lasts, look at \
     https://www.google.com/appsstatus/dashboard whether Google reports an outage.",
);

const PAUSED: Text = text(
    "Sie müssen nichts tun: Postbote macht eine Pause und sendet dann weiter, ohne dass Mail \
     verloren geht. Kommt es oft vor, verteilen Sie Serienmails mit [series] messages und \
     pause_ms.",
    "Nothing to do: Postbote pauses and then goes on, no mail is lost. If it happens often, spread \
     bulk mail with [series] messages and pause_ms.",
);

const SIGN_IN_AGAIN: Text = text(
    "Melden Sie das Postfach mit „postbote oauth connect TENANT“ neu an. Die wartende Mail geht \
     danach von selbst hinaus.",
    "Sign the mailbox in again with 'postbote oauth connect TENANT'. Waiting mail then leaves by \
     itself.",
);

/// Nobody has to lower the guard of the organisation for Postbote, and so this says it.
const SECOND_FACTOR: Text = text(
    "Melden Sie sich einmal selbst im Browser mit „postbote oauth connect TENANT“ an und \
     bestätigen Sie dabei den zweiten Faktor; die neue dauerhafte Anmeldung (Refresh-Token) trägt \
     ihn dann mit sich. Oder senden Sie ohne Benutzer: [upstream.oauth] grant = \
     \"client-credentials\" mit einem Zertifikat (client_certificate und client_key). Es ist nicht \
     nötig, MFA oder die Sicherheitsstandards abzuschalten oder den Benutzer zum globalen \
     Administrator zu machen.",
    "Sign in once yourself in the browser with 'postbote oauth connect TENANT' and confirm the \
     second factor; the new lasting sign-in (refresh token) then carries it. Or send without a \
     user: [upstream.oauth] grant = \"client-credentials\" with a certificate (client_certificate \
     and client_key). It is not necessary to switch off MFA or security defaults or to make the \
     user a Global Administrator.",
);

/// The address that grants consent for the whole organisation at once.
const ADMIN_CONSENT: Text = text(
    "Ein Administrator öffnet einmal https://login.microsoftonline.com/{directory_id}/adminconsent\
     ?client_id={client_id} im Browser, mit den Werten aus [upstream.oauth], und stimmt zu. \
     Verbinden Sie danach das Postfach mit „postbote oauth connect TENANT“; bei grant = \
     \"client-credentials\" genügt „postbote queue retry --tenant TENANT“. Der Benutzer des \
     Postfachs braucht dazu kein Administrator zu sein.",
    "An administrator opens https://login.microsoftonline.com/{directory_id}/adminconsent\
     ?client_id={client_id} once in the browser, with the values from [upstream.oauth], and \
     agrees. Then connect the mailbox with 'postbote oauth connect TENANT'; with grant = \
     \"client-credentials\" 'postbote queue retry --tenant TENANT' is enough. The user of the \
     mailbox need not be an administrator for this.",
);

const API_PERMISSIONS: Text = text(
    "Tragen Sie im Microsoft Entra Admin Center unter „App-Registrierungen > Ihre App > \
     API-Berechtigungen“ die fehlende Berechtigung ein (für Graph Mail.Send, für SMTP SMTP.Send, \
     für SMTP ohne Benutzer SMTP.SendAsApp) und klicken Sie dort auf „Administratorzustimmung \
     erteilen“. Prüfen Sie auch [upstream.oauth] client_id und scopes.",
    "Enter the missing permission in the Microsoft Entra admin center under 'App registrations > \
     your app > API permissions' (Mail.Send for Graph, SMTP.Send for SMTP, SMTP.SendAsApp for SMTP \
     without a user) and click 'Grant admin consent' there. Check [upstream.oauth] client_id and \
     scopes too.",
);

const SIGN_IN_LOGS: Text = text(
    "Ein Administrator sieht im Microsoft Entra Admin Center unter „Überwachung und Integrität > \
     Anmeldeprotokolle“ bei dieser Anmeldung auf der Registerkarte „Bedingter Zugriff“, welche \
     Richtlinie es war, und nimmt das Konto oder die Adresse dieses Servers davon aus. Oder senden \
     Sie ohne Benutzer: [upstream.oauth] grant = \"client-credentials\" mit einem Zertifikat.",
    "In the Microsoft Entra admin center under 'Monitoring & health > Sign-in logs' an \
     administrator sees at this sign-in, on the tab 'Conditional Access', which policy it was, and \
     excludes the account or the address of this server from it. Or send without a user: \
     [upstream.oauth] grant = \"client-credentials\" with a certificate.",
);

const WITHOUT_DEVICE: Text = text(
    "Ein Server kann diese Bedingung nicht erfüllen. Senden Sie ohne Benutzer ([upstream.oauth] \
     grant = \"client-credentials\" mit einem Zertifikat), oder ein Administrator nimmt das Konto \
     im Microsoft Entra Admin Center unter „Schutz > Bedingter Zugriff > Richtlinien“ von der \
     Richtlinie aus.",
    "A server cannot meet this condition. Send without a user ([upstream.oauth] grant = \
     \"client-credentials\" with a certificate), or have an administrator exclude the account from \
     the policy in the Microsoft Entra admin center under 'Protection > Conditional Access > \
     Policies'.",
);

const DIRECTORY_ID: Text = text(
    "Tragen Sie bei [upstream.oauth] directory_id die „Verzeichnis-ID (Mandant)“ ein; sie steht im \
     Microsoft Entra Admin Center unter „App-Registrierungen > Ihre App > Übersicht“. Haben Sie \
     authorize_url, token_url oder device_url selbst gesetzt, gehört sie auch dort hinein, an die \
     Stelle von common.",
    "Enter the 'Directory (tenant) ID' as [upstream.oauth] directory_id; it stands in the \
     Microsoft Entra admin center under 'App registrations > your app > Overview'. If you set \
     authorize_url, token_url or device_url yourself, it belongs there too, in place of common.",
);

/// Microsoft shows the value of a secret only once, and beside it an ID that looks like one.
const NEW_SECRET: Text = text(
    "Legen Sie im Microsoft Entra Admin Center unter „App-Registrierungen > Ihre App > Zertifikate \
     & Geheimnisse“ einen neuen geheimen Clientschlüssel an und hinterlegen Sie seinen „Wert“ \
     (nicht die „Geheime ID“; er wird nur dieses eine Mal angezeigt) mit „postbote vault set NAME“ \
     (NAME wie bei [upstream.oauth] client_secret). Notieren Sie das Ablaufdatum. Die wartende \
     Mail geht danach von selbst hinaus.",
    "Make a new client secret in the Microsoft Entra admin center under 'App registrations > your \
     app > Certificates & secrets' and store its 'Value' (not the 'Secret ID'; it is shown only \
     this once) with 'postbote vault set NAME' (NAME as given at [upstream.oauth] client_secret). \
     Note the date of expiry. Waiting mail then leaves by itself.",
);

const UPLOAD_CERTIFICATE: Text = text(
    "Laden Sie die Datei von [upstream.oauth] client_certificate im Microsoft Entra Admin Center \
     unter „App-Registrierungen > Ihre App > Zertifikate & Geheimnisse > Zertifikate“ hoch, und \
     prüfen Sie dort Fingerabdruck und Ablaufdatum und ob client_key zu diesem Zertifikat gehört. \
     Die Mail wartet so lange.",
    "Upload the file of [upstream.oauth] client_certificate in the Microsoft Entra admin center \
     under 'App registrations > your app > Certificates & secrets > Certificates', and check its \
     thumbprint and date of expiry there and that client_key belongs to this certificate. Mail \
     waits meanwhile.",
);

const SET_CLOCK: Text = text(
    "Stellen Sie die Uhr dieses Rechners richtig und lassen Sie sie einem Zeitserver folgen \
     („timedatectl“ zeigt Uhrzeit, Zeitzone und ob sie abgeglichen ist). Postbote versucht es von \
     selbst wieder.",
    "Set the clock of this machine and let it follow a time server ('timedatectl' shows time, zone \
     and whether it is synchronised). Postbote tries again by itself.",
);

const MICROSOFT_SCOPES: Text = text(
    "Lassen Sie [upstream.oauth] scopes leer, dann nimmt Postbote die richtigen. Von Hand gehört \
     dorthin nur ein Dienst: für SMTP https://outlook.office.com/SMTP.Send, für Graph \
     https://graph.microsoft.com/Mail.Send, jeweils mit offline_access; bei grant = \
     \"client-credentials\" https://outlook.office365.com/.default oder \
     https://graph.microsoft.com/.default. Verbinden Sie danach neu mit „postbote oauth connect \
     TENANT“.",
    "Leave [upstream.oauth] scopes empty, then Postbote takes the right ones. By hand only one \
     service belongs there: https://outlook.office.com/SMTP.Send for SMTP, \
     https://graph.microsoft.com/Mail.Send for Graph, each with offline_access; with grant = \
     \"client-credentials\" https://outlook.office365.com/.default or \
     https://graph.microsoft.com/.default. Then connect again with 'postbote oauth connect \
     TENANT'.",
);

const LOOK_UP_NUMBER: Text = text(
    "Die Nummer hinter AADSTS erklärt https://login.microsoftonline.com/error; mehr steht im \
     Microsoft Entra Admin Center unter „Überwachung und Integrität > Anmeldeprotokolle“. Melden \
     Sie das Postfach mit „postbote oauth connect TENANT“ neu an, wenn dort nichts anderes steht.",
    "https://login.microsoftonline.com/error explains the number behind AADSTS; more is in the \
     Microsoft Entra admin center under 'Monitoring & health > Sign-in logs'. Sign the mailbox in \
     again with 'postbote oauth connect TENANT' if nothing else is said there.",
);

const START_AGAIN: Text = text(
    "Beginnen Sie mit „postbote oauth connect TENANT“ von vorn und geben Sie den angezeigten Code \
     innerhalb weniger Minuten im Browser ein.",
    "Start again with 'postbote oauth connect TENANT' and enter the code shown in the browser \
     within a few minutes.",
);

const CONFIRM_IN_BROWSER: Text = text(
    "Öffnen Sie die angezeigte Adresse im Browser, geben Sie den Code ein und melden Sie sich an. \
     „postbote oauth connect TENANT“ wartet so lange.",
    "Open the address shown in a browser, enter the code and sign in. 'postbote oauth connect \
     TENANT' waits for it.",
);

const GOOGLE_CONSOLE_CLIENT: Text = text(
    "Vergleichen Sie [upstream.oauth] client_id und das Geheimnis von client_secret mit der Google \
     Cloud Console, „APIs und Dienste > Anmeldedaten > OAuth 2.0-Client-IDs“, und hinterlegen Sie \
     das Geheimnis neu mit „postbote vault set NAME“. Verbinden Sie danach mit „postbote oauth \
     connect TENANT“.",
    "Compare [upstream.oauth] client_id and the secret of client_secret with the Google Cloud \
     console, 'APIs & Services > Credentials > OAuth 2.0 Client IDs', and store the secret again \
     with 'postbote vault set NAME'. Then connect with 'postbote oauth connect TENANT'.",
);

const GOOGLE_SCOPES: Text = text(
    "Lassen Sie [upstream.oauth] scopes leer, dann nimmt Postbote den richtigen. Von Hand: \
     https://mail.google.com/ für SMTP, https://www.googleapis.com/auth/gmail.send für [upstream] \
     kind = \"gmail\". Verbinden Sie danach neu mit „postbote oauth connect TENANT“ und lassen Sie \
     dabei alle Häkchen gesetzt; bei grant = \"service-account\" gehört derselbe Bereich in die \
     domainweite Delegierung.",
    "Leave [upstream.oauth] scopes empty, then Postbote takes the right one. By hand: \
     https://mail.google.com/ for SMTP, https://www.googleapis.com/auth/gmail.send for [upstream] \
     kind = \"gmail\". Then connect again with 'postbote oauth connect TENANT' and leave all boxes \
     ticked; with grant = \"service-account\" the same scope belongs into the domain-wide \
     delegation.",
);

const SEE_DIALOGUE: Text = text(
    "„postbote test TENANT“ zeigt, was gefragt und geantwortet wurde; mit dem Wortlaut der Antwort \
     kann der Anbieter weiterhelfen.",
    "'postbote test TENANT' shows what was asked and answered; with the words of the answer the \
     provider can help.",
);

const CHECK_API_URL: Text = text(
    "Prüfen Sie [upstream.oauth] api_url (leer lassen, wenn es keine nationale Cloud ist) und ob \
     ein Proxy oder eine Firewall dazwischen steht. Postbote folgt keiner Umleitung, damit kein \
     Zugang an eine fremde Adresse gerät.",
    "Check [upstream.oauth] api_url (leave it out unless it is a national cloud) and whether a \
     proxy or firewall is in between. Postbote follows no redirect, so that no credential reaches \
     another address.",
);

/// Only Postbote makes what was refused here.
const REPORT_BUG: Text = text(
    "Das ist vermutlich ein Fehler in Postbote: „postbote preview TENANT --explain“ zeigt die \
     Mail, wie sie hinausgeht. Melden Sie den Fehler mit dem Wortlaut der Antwort; bis dahin hilft \
     der Versand über [upstream] kind = \"smtp\".",
    "This is probably an error in Postbote: 'postbote preview TENANT --explain' shows the message \
     as it leaves. Report it with the words of the answer; until then sending through [upstream] \
     kind = \"smtp\" helps.",
);

const CHECK_ADDRESSES: Text = text(
    "Prüfen Sie die Adressen auf Tippfehler und fragen Sie den Empfänger auf anderem Weg. Senden \
     Sie die Mail danach neu.",
    "Check the addresses for typing errors and ask the recipient in another way. Then send the \
     message again.",
);

const SMALLER: Text = text(
    "Senden Sie weniger oder kleinere Anhänge oder einen Link darauf, oder lassen Sie die Grenze \
     beim Anbieter erhöhen.",
    "Send fewer or smaller attachments or a link to them, or have the provider raise the limit.",
);

const UNKNOWN_ANSWER: Explanation = Explanation {
    cause: text(
        "Der Anbieter hat etwas geantwortet, das Postbote nicht kennt.",
        "The provider answered something that Postbote does not know.",
    ),
    remedy: SEE_DIALOGUE,
};

const CODE_PENDING: Explanation = Explanation {
    cause: text(
        "Der angezeigte Code ist im Browser noch nicht bestätigt worden.",
        "The code shown has not been confirmed in the browser yet.",
    ),
    remedy: CONFIRM_IN_BROWSER,
};

const CODE_EXPIRED: Explanation = Explanation {
    cause: text(
        "Der angezeigte Code ist abgelaufen, bevor er im Browser bestätigt wurde.",
        "The code shown expired before it was confirmed in the browser.",
    ),
    remedy: START_AGAIN,
};

const CODE_WRONG: Explanation = Explanation {
    cause: text(
        "Der eingegebene Code stimmt nicht mit dem angezeigten überein.",
        "The code entered is not the one shown.",
    ),
    remedy: START_AGAIN,
};

const SIGN_IN_TOO_OFTEN: Explanation = Explanation {
    cause: text(
        "Der Anmeldedienst bremst: Es wurden in kurzer Zeit zu viele Anmeldungen verlangt.",
        "The sign-in service slows us down: too many sign-ins were asked for in a short time.",
    ),
    remedy: text(
        "Sie müssen nichts tun: Postbote macht eine Pause und versucht es dann wieder. Kommt es \
         oft vor, prüfen Sie, ob andere Programme dieselbe App (client_id) benutzen.",
        "Nothing to do: Postbote pauses and then tries again. If it happens often, check whether \
         other programs use the same app (client_id).",
    ),
};

const GRAPH_TOO_FAST: Explanation = Explanation {
    cause: text(
        "Microsoft bremst: Es wurde in kurzer Zeit zu viel über dieses Postfach oder diese App \
         gesendet.",
        "Microsoft slows us down: too much was sent through this mailbox or this app in a short \
         time.",
    ),
    remedy: PAUSED,
};

const GMAIL_TOO_FAST: Explanation = Explanation {
    cause: text(
        "Google bremst: Es wurde in kurzer Zeit zu viel über dieses Postfach oder dieses Projekt \
         gesendet.",
        "Google slows us down: too much was sent through this mailbox or this project in a short \
         time.",
    ),
    remedy: PAUSED,
};

/// Nothing in particular; what the tables fill in.
const ANY: Row = Row {
    id: "",
    statuses: &[],
    codes: &[],
    numbers: &[],
    any_of: &[],
    class: Class::Transient,
    fresh_token: false,
    alert: false,
    meaning: UNKNOWN_ANSWER,
};

/// What no row of the token tables knows: try again, and say so.
static TOKEN_OTHERWISE: Row = Row {
    id: "oauth-unexpected",
    class: Class::Transient,
    alert: true,
    meaning: Explanation {
        cause: text(
            "Der Anmeldedienst hat etwas geantwortet, das Postbote nicht kennt.",
            "The sign-in service answered something that Postbote does not know.",
        ),
        remedy: text(
            "Postbote versucht es von selbst wieder. Hält es an, zeigt „postbote test TENANT“ den \
             Wortlaut; mit ihm kann der Anbieter weiterhelfen.",
            "Postbote tries again by itself. If it lasts, 'postbote test TENANT' shows the words; \
             with them the provider can help.",
        ),
    },
    ..ANY
};

/// What no row of [`GRAPH`] knows.
static GRAPH_OTHERWISE: Row = Row {
    id: "graph-unexpected",
    class: Class::Transient,
    alert: true,
    meaning: Explanation {
        cause: text(
            "Microsoft Graph hat etwas geantwortet, das Postbote nicht kennt.",
            "Microsoft Graph answered something that Postbote does not know.",
        ),
        remedy: SEE_DIALOGUE,
    },
    ..ANY
};

/// What no row of [`GMAIL`] knows.
static GMAIL_OTHERWISE: Row = Row {
    id: "gmail-unexpected",
    class: Class::Transient,
    alert: true,
    meaning: Explanation {
        cause: text(
            "Google hat etwas geantwortet, das Postbote nicht kennt.",
            "Google answered something that Postbote does not know.",
        ),
        remedy: SEE_DIALOGUE,
    },
    ..ANY
};

/// Microsoft's token endpoint: first its numbers, those that need a person before those that
/// mend themselves, then its `error`. Asked before [`ANY_TOKEN`].
pub static MICROSOFT_TOKEN: &[Row] = &[
    // --- a person must sign in again
    Row {
        id: "entra-mfa-required",
        numbers: &[50074, 50076],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft verlangt für dieses Konto einen zweiten Faktor (MFA), meist nach einer \
                 Änderung durch den Administrator oder weil die Anfrage von einem neuen Ort kommt; \
                 den kann nur ein Mensch im Browser bestätigen.",
                "Microsoft wants a second factor (MFA) for this account, usually after a change by \
                 the administrator or because the request comes from a new location; only a person \
                 at a browser can confirm it.",
            ),
            remedy: SECOND_FACTOR,
        },
        ..ANY
    },
    Row {
        id: "entra-mfa-expired",
        numbers: &[50078],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der zweite Faktor (MFA) wurde zwar einmal bestätigt, gilt nach den Regeln der \
                 Organisation aber nur eine bestimmte Zeit und ist abgelaufen.",
                "The second factor (MFA) was confirmed once, but by the rules of the organisation \
                 it holds only for some time and has expired.",
            ),
            remedy: SECOND_FACTOR,
        },
        ..ANY
    },
    Row {
        id: "entra-mfa-enrolment",
        numbers: &[50072, 50079],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die Organisation verlangt einen zweiten Faktor (MFA), und für dieses Konto ist \
                 noch keiner eingerichtet.",
                "The organisation requires a second factor (MFA), and none has been set up for \
                 this account yet.",
            ),
            remedy: text(
                "Richten Sie den zweiten Faktor des Kontos auf https://aka.ms/mfasetup ein und \
                 melden Sie es dann einmal selbst im Browser mit „postbote oauth connect TENANT“ \
                 an. Oder senden Sie ohne Benutzer: [upstream.oauth] grant = \
                 \"client-credentials\" mit einem Zertifikat. Es ist nicht nötig, MFA oder die \
                 Sicherheitsstandards abzuschalten oder den Benutzer zum globalen Administrator zu \
                 machen.",
                "Set up the second factor of the account at https://aka.ms/mfasetup and then sign \
                 it in once yourself in the browser with 'postbote oauth connect TENANT'. Or send \
                 without a user: [upstream.oauth] grant = \"client-credentials\" with a \
                 certificate. It is not necessary to switch off MFA or security defaults or to \
                 make the user a Global Administrator.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-external-challenge",
        numbers: &[50158],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die Organisation verlangt eine zusätzliche Prüfung bei einem fremden Dienst (etwa \
                 einem anderen Anbieter für den zweiten Faktor), und sie wurde nicht bestanden.",
                "The organisation requires another check by an outside service (such as another \
                 provider of the second factor), and it was not passed.",
            ),
            remedy: SECOND_FACTOR,
        },
        ..ANY
    },
    Row {
        id: "entra-sign-in-frequency",
        numbers: &[70043],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Eine Richtlinie für bedingten Zugriff („Anmeldehäufigkeit“) lässt jede Anmeldung \
                 nur eine bestimmte Zeit gelten; sie ist abgelaufen.",
                "A Conditional Access policy ('Sign-in frequency') lets every sign-in hold only \
                 for some time; it has expired.",
            ),
            remedy: text(
                "Melden Sie sich selbst im Browser mit „postbote oauth connect TENANT“ neu an. \
                 Damit es nicht jedes Mal wieder abläuft, senden Sie ohne Benutzer: \
                 [upstream.oauth] grant = \"client-credentials\" mit einem Zertifikat. Es ist \
                 nicht nötig, MFA oder die Sicherheitsstandards abzuschalten.",
                "Sign in again yourself in the browser with 'postbote oauth connect TENANT'. So \
                 that it does not expire every time, send without a user: [upstream.oauth] grant = \
                 \"client-credentials\" with a certificate. It is not necessary to switch off MFA \
                 or security defaults.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-password-expired",
        numbers: &[50055],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Das Passwort des Microsoft-Kontos ist abgelaufen.",
                "The password of the Microsoft account has expired.",
            ),
            remedy: text(
                "Ändern Sie das Passwort des Kontos auf https://myaccount.microsoft.com und melden \
                 Sie das Postfach dann mit „postbote oauth connect TENANT“ neu an. Die wartende \
                 Mail geht danach von selbst hinaus.",
                "Change the password of the account at https://myaccount.microsoft.com and then \
                 sign the mailbox in again with 'postbote oauth connect TENANT'. Waiting mail then \
                 leaves by itself.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-sign-in-revoked",
        numbers: &[50132, 50133, 50173],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die Anmeldung gilt nicht mehr: Das Passwort des Kontos wurde geändert oder \
                 zurückgesetzt, oder jemand hat alle seine Sitzungen beendet.",
                "The sign-in is no longer valid: the password of the account was changed or reset, \
                 or somebody ended all its sessions.",
            ),
            remedy: SIGN_IN_AGAIN,
        },
        ..ANY
    },
    Row {
        id: "entra-sign-in-unused",
        numbers: &[70008, 700082],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die dauerhafte Anmeldung (Refresh-Token) ist erloschen, weil sie zu lange nicht \
                 benutzt wurde, meist 90 Tage.",
                "The lasting sign-in (refresh token) expired because it was not used for too long, \
                 usually 90 days.",
            ),
            remedy: SIGN_IN_AGAIN,
        },
        ..ANY
    },
    Row {
        id: "entra-sign-in-of-a-web-page",
        numbers: &[700084],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die App ist bei Microsoft als Webseite (Single-Page-Anwendung) eingetragen; \
                 Anmeldungen solcher Apps enden nach 24 Stunden und lassen sich nicht verlängern.",
                "The app is registered at Microsoft as a web page (single-page application); \
                 sign-ins of such apps end after 24 hours and cannot be extended.",
            ),
            remedy: text(
                "Entfernen Sie im Microsoft Entra Admin Center unter „App-Registrierungen > Ihre \
                 App > Authentifizierung“ die Plattform „Single-Page-Webanwendung“, fügen Sie \
                 „Mobilgerät- und Desktopanwendungen“ mit http://localhost hinzu und melden Sie \
                 das Postfach mit „postbote oauth connect TENANT“ neu an.",
                "In the Microsoft Entra admin center under 'App registrations > your app > \
                 Authentication' remove the platform 'Single-page application', add 'Mobile and \
                 desktop applications' with http://localhost and sign the mailbox in again with \
                 'postbote oauth connect TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-sign-in-invalid",
        numbers: &[70000],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft nimmt die gespeicherte dauerhafte Anmeldung (Refresh-Token) nicht an; \
                 sie ist beschädigt oder gehört zu einer anderen App.",
                "Microsoft does not accept the stored lasting sign-in (refresh token); it is \
                 damaged or belongs to another app.",
            ),
            remedy: text(
                "Prüfen Sie, ob [upstream.oauth] client_id die richtige App nennt, und melden Sie \
                 das Postfach mit „postbote oauth connect TENANT“ neu an. Die wartende Mail geht \
                 danach von selbst hinaus.",
                "Check that [upstream.oauth] client_id names the right app, and sign the mailbox \
                 in again with 'postbote oauth connect TENANT'. Waiting mail then leaves by \
                 itself.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-code-used-up",
        numbers: &[54005],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Code aus der Anmeldung im Browser war schon eingelöst; jeder Code gilt nur \
                 einmal.",
                "The code from the sign-in in the browser had already been used; every code is \
                 valid only once.",
            ),
            remedy: text(
                "Beginnen Sie mit „postbote oauth connect TENANT“ von vorn und laden Sie die \
                 letzte Seite im Browser nicht neu.",
                "Start again with 'postbote oauth connect TENANT' and do not reload the last page \
                 in the browser.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-consent-declined",
        numbers: &[65004],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Bei der Anmeldung wurde den verlangten Rechten nicht zugestimmt.",
                "The permissions asked for were declined at the sign-in.",
            ),
            remedy: text(
                "Beginnen Sie mit „postbote oauth connect TENANT“ von vorn und stimmen Sie zu. \
                 Darf der Benutzer das nicht selbst, öffnet ein Administrator vorher einmal \
                 https://login.microsoftonline.com/{directory_id}/adminconsent\
                 ?client_id={client_id} im Browser.",
                "Start again with 'postbote oauth connect TENANT' and agree. If the user may not \
                 do that, an administrator first opens \
                 https://login.microsoftonline.com/{directory_id}/adminconsent\
                 ?client_id={client_id} once in the browser.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-password-wrong",
        numbers: &[50126],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft hat Benutzername oder Passwort bei der Anmeldung nicht angenommen.",
                "Microsoft did not accept the user name or the password at the sign-in.",
            ),
            remedy: text(
                "Melden Sie sich mit „postbote oauth connect TENANT“ im Browser mit dem richtigen \
                 Passwort an; Postbote selbst braucht es nicht. Haben Sie [upstream.oauth] \
                 token_url selbst gesetzt, prüfen Sie auch diese Adresse.",
                "Sign in with the right password in the browser with 'postbote oauth connect \
                 TENANT'; Postbote itself does not need it. If you set [upstream.oauth] token_url \
                 yourself, check that address too.",
            ),
        },
        ..ANY
    },
    // --- an administrator of the organisation must act
    Row {
        id: "entra-consent-missing",
        numbers: &[65001],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Niemand hat der App bisher erlaubt, für dieses Postfach zu senden (Zustimmung \
                 fehlt).",
                "Nobody has allowed the app to send for this mailbox yet (consent is missing).",
            ),
            remedy: ADMIN_CONSENT,
        },
        ..ANY
    },
    Row {
        id: "entra-admin-consent-needed",
        numbers: &[90094],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die App verlangt Rechte, die in dieser Organisation nur ein Administrator \
                 erteilen darf.",
                "The app asks for permissions that only an administrator may grant in this \
                 organisation.",
            ),
            remedy: ADMIN_CONSENT,
        },
        ..ANY
    },
    Row {
        id: "entra-permission-not-listed",
        numbers: &[65005, 650057],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Postbote verlangt einen Zugriff, der in der App-Registrierung nicht eingetragen \
                 ist.",
                "Postbote asks for an access that is not listed in the app registration.",
            ),
            remedy: API_PERMISSIONS,
        },
        ..ANY
    },
    Row {
        id: "entra-app-misconfigured",
        numbers: &[650056],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die App ist nicht fertig eingerichtet: In der App-Registrierung fehlt eine \
                 Berechtigung, der Administrator hat nicht zugestimmt, oder client_id nennt eine \
                 andere App.",
                "The app has not been set up completely: a permission is missing in the app \
                 registration, the administrator has not consented, or client_id names another \
                 app.",
            ),
            remedy: API_PERMISSIONS,
        },
        ..ANY
    },
    Row {
        id: "entra-service-not-subscribed",
        numbers: &[650052],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die Organisation hat den Dienst nicht abonniert, auf den die App zugreifen will; \
                 meist fehlt eine Lizenz mit Exchange Online.",
                "The organisation has not subscribed to the service that the app wants to use; \
                 usually a licence with Exchange Online is missing.",
            ),
            remedy: text(
                "Prüfen Sie im Microsoft 365 Admin Center unter „Abrechnung > Lizenzen“, ob \
                 Exchange Online dabei und dem Postfach zugewiesen ist, und ob [upstream.oauth] \
                 directory_id die Organisation mit den Postfächern nennt.",
                "Check in the Microsoft 365 admin center under 'Billing > Licenses' that Exchange \
                 Online is included and assigned to the mailbox, and that [upstream.oauth] \
                 directory_id names the organisation that has the mailboxes.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-user-not-assigned",
        numbers: &[50105],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die App darf nur von Benutzern benutzt werden, die ihr zugewiesen sind; dieses \
                 Konto ist es nicht.",
                "The app may be used only by users assigned to it; this account is not.",
            ),
            remedy: text(
                "Fügen Sie das Konto im Microsoft Entra Admin Center unter \
                 „Unternehmensanwendungen > Ihre App > Benutzer und Gruppen“ hinzu, oder stellen \
                 Sie dort unter „Eigenschaften“ „Zuweisung erforderlich?“ auf „Nein“. Melden Sie \
                 es dann mit „postbote oauth connect TENANT“ an.",
                "Add the account in the Microsoft Entra admin center under 'Enterprise \
                 applications > your app > Users and groups', or set 'Assignment required?' to \
                 'No' there under 'Properties'. Then sign it in with 'postbote oauth connect \
                 TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-conditional-access",
        numbers: &[50131, 53003, 530032],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Eine Richtlinie der Organisation für bedingten Zugriff verbietet diese Anmeldung.",
                "A Conditional Access policy of the organisation forbids this sign-in.",
            ),
            remedy: SIGN_IN_LOGS,
        },
        ..ANY
    },
    Row {
        id: "entra-device-needed",
        numbers: &[53000, 53001],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Eine Richtlinie der Organisation lässt die Anmeldung nur von Geräten zu, die von \
                 ihr verwaltet werden oder zu ihrer Domäne gehören.",
                "A policy of the organisation allows the sign-in only from devices that it manages \
                 or that belong to its domain.",
            ),
            remedy: WITHOUT_DEVICE,
        },
        ..ANY
    },
    Row {
        id: "entra-app-not-approved",
        numbers: &[53002],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Eine Richtlinie der Organisation lässt nur bestimmte, von ihr genehmigte Apps zu; \
                 diese gehört nicht dazu.",
                "A policy of the organisation allows only certain apps that it approved; this one \
                 is not among them.",
            ),
            remedy: WITHOUT_DEVICE,
        },
        ..ANY
    },
    Row {
        id: "entra-account-at-risk",
        numbers: &[530034],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft hat das Konto gesperrt, weil es wegen verdächtiger Vorgänge als \
                 gefährdet gilt.",
                "Microsoft blocked the account because suspicious activity makes it count as at \
                 risk.",
            ),
            remedy: text(
                "Ein Administrator prüft das Konto im Microsoft Entra Admin Center unter „Schutz > \
                 Risikoaktivitäten > Riskante Benutzer“, ändert sein Passwort und hebt das Risiko \
                 auf. Melden Sie das Postfach danach mit „postbote oauth connect TENANT“ neu an.",
                "An administrator checks the account in the Microsoft Entra admin center under \
                 'Protection > Risky activities > Risky users', changes its password and dismisses \
                 the risk. Then sign the mailbox in again with 'postbote oauth connect TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-security-defaults",
        numbers: &[530035],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die „Sicherheitsstandards“ der Organisation haben diese Anmeldung gesperrt, weil \
                 sie als veraltet oder unsicher gilt.",
                "The 'security defaults' of the organisation blocked this sign-in because it \
                 counts as outdated or unsafe.",
            ),
            remedy: SECOND_FACTOR,
        },
        ..ANY
    },
    Row {
        id: "entra-user-disabled",
        numbers: &[50057],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Das Microsoft-Konto ist deaktiviert.",
                "The Microsoft account is disabled.",
            ),
            remedy: text(
                "Ein Administrator setzt im Microsoft Entra Admin Center unter „Benutzer > Alle \
                 Benutzer > das Konto > Eigenschaften“ „Konto aktiviert“ (ein Konto aus dem \
                 eigenen Active Directory dort). Melden Sie das Postfach danach mit „postbote \
                 oauth connect TENANT“ neu an.",
                "An administrator ticks 'Account enabled' in the Microsoft Entra admin center \
                 under 'Users > All users > the account > Properties' (for an account of your own \
                 Active Directory, there). Then sign the mailbox in again with 'postbote oauth \
                 connect TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-user-unknown",
        numbers: &[50034],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Das angemeldete Konto gibt es in dieser Organisation nicht.",
                "The account signed in does not exist in this organisation.",
            ),
            remedy: text(
                "Prüfen Sie die Schreibweise von [upstream.oauth] mailbox und ob directory_id \
                 („Verzeichnis-ID (Mandant)“) die richtige Organisation nennt. Melden Sie das \
                 Postfach dann mit „postbote oauth connect TENANT“ neu an.",
                "Check the spelling of [upstream.oauth] mailbox and that directory_id ('Directory \
                 (tenant) ID') names the right organisation. Then sign the mailbox in again with \
                 'postbote oauth connect TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-account-of-another-organisation",
        numbers: &[50014, 50020],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Das angemeldete Konto gehört zu einer anderen Organisation oder ist ein \
                 persönliches Konto; hier ist es höchstens ein Gast, der noch nicht angenommen \
                 hat.",
                "The account signed in belongs to another organisation or is a personal one; here \
                 it is at most a guest who has not accepted yet.",
            ),
            remedy: text(
                "Melden Sie sich mit „postbote oauth connect TENANT“ mit einem Konto der \
                 Organisation an, die [upstream.oauth] directory_id nennt (vorher im Browser \
                 abmelden oder ein privates Fenster benutzen), oder tragen Sie die Organisation \
                 des Kontos ein.",
                "Sign in with 'postbote oauth connect TENANT' with an account of the organisation \
                 that [upstream.oauth] directory_id names (sign out in the browser before or use a \
                 private window), or enter the organisation of the account.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-app-unknown",
        numbers: &[700016, 70001],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die Organisation kennt keine App mit dieser Anwendungs-ID.",
                "The organisation knows no app with this application ID.",
            ),
            remedy: text(
                "Vergleichen Sie [upstream.oauth] client_id und directory_id mit „Anwendungs-ID \
                 (Client)“ und „Verzeichnis-ID (Mandant)“ im Microsoft Entra Admin Center unter \
                 „App-Registrierungen > Ihre App > Übersicht“. Gehört die App einer anderen \
                 Organisation, öffnet ein Administrator einmal \
                 https://login.microsoftonline.com/{directory_id}/adminconsent\
                 ?client_id={client_id} im Browser.",
                "Compare [upstream.oauth] client_id and directory_id with 'Application (client) \
                 ID' and 'Directory (tenant) ID' in the Microsoft Entra admin center under 'App \
                 registrations > your app > Overview'. If the app belongs to another organisation, \
                 an administrator opens \
                 https://login.microsoftonline.com/{directory_id}/adminconsent\
                 ?client_id={client_id} once in the browser.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-app-disabled",
        numbers: &[7000112],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die App ist in dieser Organisation abgeschaltet.",
                "The app is turned off in this organisation.",
            ),
            remedy: text(
                "Stellen Sie im Microsoft Entra Admin Center unter „Unternehmensanwendungen > Ihre \
                 App > Eigenschaften“ „Aktiviert für die Benutzeranmeldung?“ auf „Ja“. Hat \
                 Microsoft selbst sie gesperrt, steht das auf derselben Seite.",
                "In the Microsoft Entra admin center under 'Enterprise applications > your app > \
                 Properties' set 'Enabled for users to sign-in?' to 'Yes'. If Microsoft itself \
                 blocked it, the same page says so.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-service-unknown",
        numbers: &[500011],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die Organisation kennt den Dienst nicht, für den der Zugriff verlangt wird; meist \
                 ist der Bereich falsch geschrieben, oder es ist die falsche Organisation.",
                "The organisation does not know the service that access is asked for; usually the \
                 scope is misspelt, or it is the wrong organisation.",
            ),
            remedy: text(
                "Lassen Sie [upstream.oauth] scopes leer, dann nimmt Postbote die richtigen, und \
                 prüfen Sie directory_id. Für eine nationale Cloud (China, US-Behörden) müssen \
                 authorize_url, token_url, api_url und scopes zu ihr gehören.",
                "Leave [upstream.oauth] scopes empty, then Postbote takes the right ones, and \
                 check directory_id. For a national cloud (China, US government) authorize_url, \
                 token_url, api_url and scopes must belong to it.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-app-of-one-organisation",
        numbers: &[50194],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die App ist nur für eine einzelne Organisation eingetragen, die Anmeldung ging \
                 aber an die gemeinsame Adresse für alle (/common).",
                "The app is registered for a single organisation only, but the sign-in went to the \
                 common address of all (/common).",
            ),
            remedy: DIRECTORY_ID,
        },
        ..ANY
    },
    Row {
        id: "entra-organisation-unknown",
        numbers: &[90002],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft kennt die Organisation nicht, die in directory_id steht.",
                "Microsoft does not know the organisation that directory_id names.",
            ),
            remedy: text(
                "Vergleichen Sie [upstream.oauth] directory_id mit der „Verzeichnis-ID (Mandant)“ \
                 im Microsoft Entra Admin Center unter „App-Registrierungen > Ihre App > \
                 Übersicht“. Liegt die Organisation in einer nationalen Cloud (China, \
                 US-Behörden), setzen Sie authorize_url, token_url und api_url auf deren Adressen.",
                "Compare [upstream.oauth] directory_id with the 'Directory (tenant) ID' in the \
                 Microsoft Entra admin center under 'App registrations > your app > Overview'. If \
                 the organisation is in a national cloud (China, US government), set \
                 authorize_url, token_url and api_url to the addresses of that cloud.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-common-address-not-allowed",
        numbers: &[90023, 9001023],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Diese Art der Anmeldung geht nicht über die gemeinsamen Adressen /common und \
                 /consumers; Microsoft muss wissen, um welche Organisation es geht.",
                "This kind of sign-in does not work through the common addresses /common and \
                 /consumers; Microsoft must know which organisation it is about.",
            ),
            remedy: DIRECTORY_ID,
        },
        ..ANY
    },
    // --- our configuration
    Row {
        id: "entra-secret-wrong",
        numbers: &[7000215],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft nimmt den geheimen Clientschlüssel nicht an. Oft wurde seine „Geheime \
                 ID“ statt seines „Wertes“ hinterlegt.",
                "Microsoft does not accept the client secret. Often its 'Secret ID' was stored \
                 instead of its 'Value'.",
            ),
            remedy: NEW_SECRET,
        },
        ..ANY
    },
    Row {
        id: "entra-secret-expired",
        numbers: &[7000222],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der geheime Clientschlüssel der App ist abgelaufen.",
                "The client secret of the app has expired.",
            ),
            remedy: NEW_SECRET,
        },
        ..ANY
    },
    Row {
        id: "entra-secret-of-another-app",
        numbers: &[70002],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die Zugangsdaten der App stimmen nicht: Der geheime Clientschlüssel passt nicht \
                 zu client_id.",
                "The credentials of the app are wrong: the client secret does not belong to \
                 client_id.",
            ),
            remedy: text(
                "Vergleichen Sie [upstream.oauth] client_id mit der „Anwendungs-ID (Client)“ im \
                 Microsoft Entra Admin Center unter „App-Registrierungen > Ihre App > Übersicht“, \
                 legen Sie dort unter „Zertifikate & Geheimnisse“ einen neuen geheimen \
                 Clientschlüssel an und hinterlegen Sie seinen „Wert“ mit „postbote vault set \
                 NAME“ (NAME wie bei client_secret).",
                "Compare [upstream.oauth] client_id with the 'Application (client) ID' in the \
                 Microsoft Entra admin center under 'App registrations > your app > Overview', \
                 make a new client secret there under 'Certificates & secrets' and store its \
                 'Value' with 'postbote vault set NAME' (NAME as given at client_secret).",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-secret-missing",
        numbers: &[7000218],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die App muss sich mit einem Geheimnis oder einem Zertifikat ausweisen, und beides \
                 fehlt.",
                "The app must prove itself with a secret or a certificate, and both are missing.",
            ),
            remedy: text(
                "Tragen Sie [upstream.oauth] client_secret ein, oder client_certificate und \
                 client_key. Soll sich die App ohne Geheimnis anmelden, stellen Sie im Microsoft \
                 Entra Admin Center unter „App-Registrierungen > Ihre App > Authentifizierung“ \
                 „Öffentliche Clientflows zulassen“ auf „Ja“.",
                "Enter [upstream.oauth] client_secret, or client_certificate and client_key. If \
                 the app shall sign in without a secret, set 'Allow public client flows' to 'Yes' \
                 in the Microsoft Entra admin center under 'App registrations > your app > \
                 Authentication'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-secret-not-wanted",
        numbers: &[700025],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die App ist als öffentliche Anwendung eingetragen; solche dürfen kein Geheimnis \
                 und kein Zertifikat mitsenden.",
                "The app is registered as a public client; those must not send a secret or a \
                 certificate.",
            ),
            remedy: text(
                "Entfernen Sie [upstream.oauth] client_secret, client_certificate und client_key. \
                 Wollen Sie ohne Benutzer senden, fügen Sie stattdessen im Microsoft Entra Admin \
                 Center unter „App-Registrierungen > Ihre App > Authentifizierung“ die Plattform \
                 „Web“ hinzu.",
                "Remove [upstream.oauth] client_secret, client_certificate and client_key. If you \
                 want to send without a user, add the platform 'Web' instead in the Microsoft \
                 Entra admin center under 'App registrations > your app > Authentication'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-certificate-not-registered",
        numbers: &[700027],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft kennt das Zertifikat nicht, mit dem sich die App ausweist, oder der \
                 Schlüssel gehört nicht dazu.",
                "Microsoft does not know the certificate with which the app proves itself, or the \
                 key does not belong to it.",
            ),
            remedy: UPLOAD_CERTIFICATE,
        },
        ..ANY
    },
    Row {
        id: "entra-certificate-of-another-name",
        numbers: &[700030],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Name im Zertifikat ist für diese App nicht zugelassen.",
                "The name in the certificate is not authorised for this app.",
            ),
            remedy: text(
                "Lassen Sie in der App-Registrierung den Namen aus dem Zertifikat von \
                 [upstream.oauth] client_certificate zu, oder laden Sie das Zertifikat selbst im \
                 Microsoft Entra Admin Center unter „App-Registrierungen > Ihre App > Zertifikate \
                 & Geheimnisse > Zertifikate“ hoch.",
                "Authorise the name in the certificate of [upstream.oauth] client_certificate in \
                 the app registration, or upload the certificate itself in the Microsoft Entra \
                 admin center under 'App registrations > your app > Certificates & secrets > \
                 Certificates'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-certificate-refused",
        numbers: &[50012],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft lehnt das Zertifikat der App ab: Es ist nicht zugelassen oder nicht \
                 gültig, oder die Unterschrift damit ist falsch.",
                "Microsoft refuses the app's certificate: it is not authorised or not valid, or \
                 the signature made with it is wrong.",
            ),
            remedy: UPLOAD_CERTIFICATE,
        },
        ..ANY
    },
    Row {
        id: "entra-assertion-refused",
        numbers: &[50013],
        class: Class::Suspend,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Microsoft lehnt den Nachweis ab, mit dem sich die App ausweist: Er ist \
                 abgelaufen, noch nicht gültig oder falsch aufgebaut. Meist geht die Uhr dieses \
                 Rechners falsch.",
                "Microsoft refuses the assertion with which the app proves itself: it is expired, \
                 not valid yet or malformed. Usually the clock of this machine is wrong.",
            ),
            remedy: text(
                "Stellen Sie die Uhr dieses Rechners richtig („timedatectl“ zeigt, ob sie einem \
                 Zeitserver folgt) und prüfen Sie [upstream.oauth] client_id, directory_id und \
                 client_certificate. Die wartende Mail stoßen Sie mit „postbote queue retry \
                 --tenant TENANT“ an.",
                "Set the clock of this machine ('timedatectl' shows whether it follows a time \
                 server) and check [upstream.oauth] client_id, directory_id and \
                 client_certificate. Start waiting mail with 'postbote queue retry --tenant \
                 TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-redirect-address",
        numbers: &[50011],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die Adresse, zu der der Browser nach der Anmeldung zurückkehren soll, ist bei der \
                 App nicht eingetragen.",
                "The address to which the browser shall return after the sign-in is not registered \
                 for the app.",
            ),
            remedy: text(
                "Wählen Sie im Microsoft Entra Admin Center unter „App-Registrierungen > Ihre App \
                 > Authentifizierung“ „Plattform hinzufügen > Mobilgerät- und Desktopanwendungen“ \
                 und tragen Sie http://localhost ein (ohne Port). Beginnen Sie dann mit „postbote \
                 oauth connect TENANT“ von vorn.",
                "In the Microsoft Entra admin center under 'App registrations > your app > \
                 Authentication' choose 'Add a platform > Mobile and desktop applications' and \
                 enter http://localhost (without a port). Then start again with 'postbote oauth \
                 connect TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-scope-invalid",
        numbers: &[70011, 28002],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der verlangte Bereich (scope) ist bei Microsoft nicht gültig.",
                "The scope asked for is not valid at Microsoft.",
            ),
            remedy: MICROSOFT_SCOPES,
        },
        ..ANY
    },
    Row {
        id: "entra-scopes-of-several-services",
        numbers: &[700022],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "In einer Anfrage wurde Zugriff auf mehrere Dienste zugleich verlangt; Microsoft \
                 gibt ihn nur für einen.",
                "One request asked for access to several services at once; Microsoft gives it for \
                 one only.",
            ),
            remedy: MICROSOFT_SCOPES,
        },
        ..ANY
    },
    Row {
        id: "entra-grant-not-supported",
        numbers: &[70003],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft lässt diese Art der Anmeldung für die App nicht zu.",
                "Microsoft does not allow this kind of sign-in for the app.",
            ),
            remedy: text(
                "Setzen Sie [upstream.oauth] grant auf \"authorization-code\", \"device-code\" \
                 oder \"client-credentials\". Für \"device-code\" muss im Microsoft Entra Admin \
                 Center unter „App-Registrierungen > Ihre App > Authentifizierung“ „Öffentliche \
                 Clientflows zulassen“ auf „Ja“ stehen.",
                "Set [upstream.oauth] grant to \"authorization-code\", \"device-code\" or \
                 \"client-credentials\". For \"device-code\", 'Allow public client flows' must be \
                 'Yes' in the Microsoft Entra admin center under 'App registrations > your app > \
                 Authentication'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-field-missing",
        numbers: &[900144, 90014],
        class: Class::Suspend,
        alert: true,
        meaning: Explanation {
            cause: text(
                "In der Anfrage an Microsoft fehlt eine Angabe.",
                "A field is missing in the request to Microsoft.",
            ),
            remedy: text(
                "Prüfen Sie mit „postbote check“, ob [upstream.oauth] vollständig ist \
                 (directory_id, client_id und je nach grant client_secret oder client_certificate \
                 und client_key). Ist alles da, melden Sie es mit dem Wortlaut der Antwort als \
                 Fehler in Postbote.",
                "Check with 'postbote check' that [upstream.oauth] is complete (directory_id, \
                 client_id and, depending on grant, client_secret or client_certificate and \
                 client_key). If all is there, report it as an error in Postbote with the words of \
                 the answer.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-organisation-not-named",
        numbers: &[50128, 50059],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Aus der Anfrage geht nicht hervor, zu welcher Organisation das Postfach gehört.",
                "The request does not tell which organisation the mailbox belongs to.",
            ),
            remedy: DIRECTORY_ID,
        },
        ..ANY
    },
    // --- the device code
    Row {
        id: "entra-code-pending",
        numbers: &[70016],
        class: Class::Transient,
        meaning: CODE_PENDING,
        ..ANY
    },
    Row {
        id: "entra-code-wrong",
        numbers: &[70018],
        class: Class::Suspend,
        meaning: CODE_WRONG,
        ..ANY
    },
    Row {
        id: "entra-code-expired",
        numbers: &[70019, 70020],
        class: Class::Suspend,
        meaning: CODE_EXPIRED,
        ..ANY
    },
    // --- what mends itself
    Row {
        id: "entra-account-locked",
        numbers: &[50053],
        class: HALF_HOUR,
        meaning: Explanation {
            cause: text(
                "Microsoft hat das Konto vorübergehend gesperrt, weil zu viele Anmeldungen \
                 fehlschlugen, oder die Adresse dieses Servers gilt als verdächtig.",
                "Microsoft locked the account for a while because too many sign-ins failed, or the \
                 address of this server counts as suspicious.",
            ),
            remedy: text(
                "Postbote wartet und versucht es dann wieder. Suchen Sie im Microsoft Entra Admin \
                 Center unter „Überwachung und Integrität > Anmeldeprotokolle“ nach dem Fehlercode \
                 50053, und stellen Sie Geräte ab, die noch ein altes Passwort benutzen.",
                "Postbote waits and then tries again. Look for error code 50053 in the Microsoft \
                 Entra admin center under 'Monitoring & health > Sign-in logs', and stop devices \
                 that still use an old password.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-loop",
        numbers: &[50196],
        class: FIVE_MINUTES,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Microsoft hat dieselbe Anfrage in kurzer Zeit zu oft bekommen und lehnt sie \
                 vorerst ab.",
                "Microsoft got the same request too often in a short time and refuses it for now.",
            ),
            remedy: text(
                "Postbote macht eine Pause und versucht es dann wieder. Prüfen Sie, ob ein zweiter \
                 Postbote oder ein anderes Programm dieselbe App (client_id) benutzt; wenn nicht, \
                 melden Sie es als Fehler in Postbote.",
                "Postbote pauses and then tries again. Check whether a second Postbote or another \
                 program uses the same app (client_id); if not, report it as an error in Postbote.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-too-many-requests",
        numbers: &[90055],
        class: HALF_MINUTE,
        meaning: SIGN_IN_TOO_OFTEN,
        ..ANY
    },
    Row {
        id: "entra-second-factor-trouble",
        numbers: &[50087, 50088, 50166],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Dienst für den zweiten Faktor (MFA) ist gerade gestört oder überlastet.",
                "The service of the second factor (MFA) has a fault or is overloaded at the \
                 moment.",
            ),
            remedy: WAIT_MICROSOFT,
        },
        ..ANY
    },
    Row {
        id: "entra-personal-account-trouble",
        numbers: &[70012],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Anmeldedienst für persönliche Microsoft-Konten (Outlook.com) hat gerade eine \
                 Störung.",
                "The sign-in service of personal Microsoft accounts (Outlook.com) has a fault at \
                 the moment.",
            ),
            remedy: WAIT_MICROSOFT,
        },
        ..ANY
    },
    Row {
        id: "entra-own-directory-timeout",
        numbers: &[80002, 80005],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Microsoft prüft Passwörter dieser Organisation in deren eigenem Active Directory \
                 und hat von dort keine brauchbare Antwort bekommen.",
                "Microsoft checks passwords of this organisation in its own Active Directory and \
                 got no usable answer from there.",
            ),
            remedy: text(
                "Postbote versucht es von selbst wieder. Hält es an, prüfen Sie im Microsoft Entra \
                 Admin Center unter „Hybridverwaltung > Microsoft Entra Connect > \
                 Passthrough-Authentifizierung“, ob die Authentifizierungs-Agents laufen und Ihr \
                 Active Directory erreichen.",
                "Postbote tries again by itself. If it lasts, check in the Microsoft Entra admin \
                 center under 'Hybrid management > Microsoft Entra Connect > Pass-through \
                 authentication' that the authentication agents run and reach your Active \
                 Directory.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-trouble",
        numbers: &[50033, 90006, 90012, 90024, 90033, 90090, 90091],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Anmeldedienst von Microsoft hat gerade eine Störung.",
                "Microsoft's sign-in service has a fault at the moment.",
            ),
            remedy: WAIT_MICROSOFT,
        },
        ..ANY
    },
    // --- no number that is known
    Row {
        id: "entra-sign-in-needed",
        statuses: MEANT,
        codes: &["invalid_grant", "interaction_required", "login_required"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft nimmt die gespeicherte Anmeldung nicht mehr an; ein Mensch muss sich \
                 neu anmelden.",
                "Microsoft no longer accepts the stored sign-in; a person must sign in again.",
            ),
            remedy: LOOK_UP_NUMBER,
        },
        ..ANY
    },
    Row {
        id: "entra-consent-needed",
        statuses: MEANT,
        codes: &["consent_required"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die App hat noch nicht alle Rechte, die sie für dieses Postfach braucht.",
                "The app does not have all the permissions yet that it needs for this mailbox.",
            ),
            remedy: ADMIN_CONSENT,
        },
        ..ANY
    },
    Row {
        id: "entra-app-not-accepted",
        statuses: MEANT,
        codes: &["invalid_client"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft nimmt die Zugangsdaten der App nicht an: Anwendungs-ID, geheimer \
                 Clientschlüssel oder Zertifikat stimmen nicht oder sind abgelaufen.",
                "Microsoft does not accept the credentials of the app: application ID, client \
                 secret or certificate are wrong or have expired.",
            ),
            remedy: text(
                "Vergleichen Sie im Microsoft Entra Admin Center unter „App-Registrierungen > Ihre \
                 App“ die „Anwendungs-ID (Client)“ mit [upstream.oauth] client_id, und unter \
                 „Zertifikate & Geheimnisse“, ob Geheimnis und Zertifikat noch gelten. Ein neues \
                 Geheimnis hinterlegen Sie mit „postbote vault set NAME“. Mit einem Zertifikat \
                 muss auch die Uhr dieses Rechners stimmen.",
                "In the Microsoft Entra admin center under 'App registrations > your app' compare \
                 'Application (client) ID' with [upstream.oauth] client_id, and under \
                 'Certificates & secrets' whether secret and certificate are still valid. Store a \
                 new secret with 'postbote vault set NAME'. With a certificate the clock of this \
                 machine must be right too.",
            ),
        },
        ..ANY
    },
    Row {
        id: "entra-app-not-allowed",
        statuses: MEANT,
        codes: &["unauthorized_client"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft erlaubt der App diese Art der Anmeldung oder diese Organisation nicht.",
                "Microsoft does not allow the app this kind of sign-in or this organisation.",
            ),
            remedy: text(
                "Vergleichen Sie [upstream.oauth] client_id und directory_id mit dem Microsoft \
                 Entra Admin Center, „App-Registrierungen > Ihre App > Übersicht“, und prüfen Sie \
                 dort unter „Authentifizierung“ die unterstützten Kontotypen und „Öffentliche \
                 Clientflows zulassen“. Die Nummer hinter AADSTS erklärt \
                 https://login.microsoftonline.com/error und nennt den Grund genauer.",
                "Compare [upstream.oauth] client_id and directory_id with the Microsoft Entra \
                 admin center, 'App registrations > your app > Overview', and check the supported \
                 account types and 'Allow public client flows' there under 'Authentication'. \
                 https://login.microsoftonline.com/error explains the number behind AADSTS and \
                 gives the reason in detail.",
            ),
        },
        ..ANY
    },
];

/// Google's token endpoint and what its sign-in pages send back. Asked before [`ANY_TOKEN`].
pub static GOOGLE_TOKEN: &[Row] = &[
    Row {
        id: "google-clock",
        codes: &["invalid_grant"],
        any_of: &["reasonable timeframe"],
        class: Class::Transient,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Die Uhr dieses Rechners geht falsch: Google hält den Nachweis des Dienstkontos \
                 für abgelaufen oder noch nicht gültig.",
                "The clock of this machine is wrong: Google takes the assertion of the service \
                 account for expired or not valid yet.",
            ),
            remedy: SET_CLOCK,
        },
        ..ANY
    },
    Row {
        id: "google-service-account-key",
        statuses: MEANT,
        codes: &["invalid_grant"],
        any_of: &["invalid jwt"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Google nimmt den Nachweis des Dienstkontos (JWT) nicht an; meist gehört der \
                 Schlüssel nicht mehr zum Dienstkonto.",
                "Google does not accept the assertion (JWT) of the service account; usually the \
                 key no longer belongs to the service account.",
            ),
            remedy: text(
                "Legen Sie in der Google Cloud Console unter „IAM und Verwaltung > Dienstkonten > \
                 das Konto > Schlüssel“ einen neuen JSON-Schlüssel an und tragen Sie die Datei bei \
                 [upstream.oauth] service_account ein. Die wartende Mail geht danach von selbst \
                 hinaus.",
                "Make a new JSON key in the Google Cloud console under 'IAM & Admin > Service \
                 Accounts > the account > Keys' and enter the file as [upstream.oauth] \
                 service_account. Waiting mail then leaves by itself.",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-mailbox-unknown",
        statuses: MEANT,
        codes: &["invalid_grant"],
        any_of: &["invalid email or user id"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Das Postfach, für das das Dienstkonto senden soll, gibt es in Ihrer \
                 Google-Workspace-Domain nicht.",
                "The mailbox for which the service account shall send does not exist in your \
                 Google Workspace domain.",
            ),
            remedy: text(
                "Prüfen Sie die Schreibweise von [upstream.oauth] mailbox: Es muss die \
                 Hauptadresse eines Nutzers der Domain sein, kein Alias und keine Gruppe \
                 (Google-Admin-Konsole, „Verzeichnis > Nutzer“).",
                "Check the spelling of [upstream.oauth] mailbox: it must be the primary address of \
                 a user of the domain, no alias and no group (Google Admin console, 'Directory > \
                 Users').",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-sign-in-ended",
        statuses: MEANT,
        codes: &["invalid_grant"],
        any_of: &["expired or revoked"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die dauerhafte Anmeldung bei Google (Refresh-Token) ist abgelaufen oder \
                 widerrufen: Das Passwort wurde geändert, der Zugriff entzogen, sie blieb sechs \
                 Monate unbenutzt, oder die App steht noch auf „Test“ (dann gilt sie nur sieben \
                 Tage).",
                "The lasting sign-in at Google (refresh token) expired or was revoked: the \
                 password was changed, access was removed, it was not used for six months, or the \
                 app is still in 'Testing' (then it holds for seven days only).",
            ),
            remedy: text(
                "Melden Sie das Postfach mit „postbote oauth connect TENANT“ neu an. Läuft sie \
                 jede Woche ab, stellen Sie die App in der Google Cloud Console unter „APIs und \
                 Dienste > OAuth-Zustimmungsbildschirm > Zielgruppe“ auf „In Produktion“ oder auf \
                 „Intern“.",
                "Sign the mailbox in again with 'postbote oauth connect TENANT'. If it ends every \
                 week, set the app to 'In production' or 'Internal' in the Google Cloud console \
                 under 'APIs & Services > OAuth consent screen > Audience'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-sign-in-needed",
        statuses: MEANT,
        codes: &["invalid_grant"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Google nimmt die gespeicherte Anmeldung nicht mehr an.",
                "Google no longer accepts the stored sign-in.",
            ),
            remedy: text(
                "Melden Sie das Postfach mit „postbote oauth connect TENANT“ neu an; bei grant = \
                 \"service-account\" prüfen Sie [upstream.oauth] service_account und mailbox. Die \
                 wartende Mail geht danach von selbst hinaus.",
                "Sign the mailbox in again with 'postbote oauth connect TENANT'; with grant = \
                 \"service-account\" check [upstream.oauth] service_account and mailbox. Waiting \
                 mail then leaves by itself.",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-delegation-missing",
        statuses: MEANT,
        codes: &["unauthorized_client"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der App oder dem Dienstkonto ist dieser Zugriff nicht erlaubt; bei einem \
                 Dienstkonto fehlt meist die domainweite Delegierung für den Bereich.",
                "The app or service account is not allowed this access; with a service account the \
                 domain-wide delegation for the scope is usually missing.",
            ),
            remedy: text(
                "Ein Google-Workspace-Administrator trägt in der Admin-Konsole unter „Sicherheit > \
                 Zugriffs- und Datenkontrolle > API-Steuerung > Domainweite Delegierung verwalten“ \
                 die Client-ID des Dienstkontos mit dem Bereich ein: https://mail.google.com/ für \
                 SMTP, https://www.googleapis.com/auth/gmail.send für [upstream] kind = \"gmail\". \
                 Das wirkt nach einigen Minuten.",
                "A Google Workspace administrator enters the client ID of the service account with \
                 the scope in the Admin console under 'Security > Access and data control > API \
                 controls > Manage domain-wide delegation': https://mail.google.com/ for SMTP, \
                 https://www.googleapis.com/auth/gmail.send for [upstream] kind = \"gmail\". It \
                 takes some minutes.",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-client-unknown",
        statuses: MEANT,
        codes: &["invalid_client"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Google kennt die App nicht, oder ihr Geheimnis stimmt nicht.",
                "Google does not know the app, or its secret is wrong.",
            ),
            remedy: GOOGLE_CONSOLE_CLIENT,
        },
        ..ANY
    },
    Row {
        id: "google-client-deleted",
        statuses: MEANT,
        codes: &["deleted_client"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die App wurde bei Google gelöscht.",
                "The app was deleted at Google.",
            ),
            remedy: text(
                "Legen Sie in der Google Cloud Console unter „APIs und Dienste > Anmeldedaten > \
                 Anmeldedaten erstellen > OAuth-Client-ID“ eine neue vom Typ „Desktop-App“ an, \
                 tragen Sie [upstream.oauth] client_id ein, hinterlegen Sie das Geheimnis mit \
                 „postbote vault set NAME“ und verbinden Sie mit „postbote oauth connect TENANT“.",
                "Make a new one of the type 'Desktop app' in the Google Cloud console under 'APIs \
                 & Services > Credentials > Create credentials > OAuth client ID', enter \
                 [upstream.oauth] client_id, store the secret with 'postbote vault set NAME' and \
                 connect with 'postbote oauth connect TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-redirect-address",
        statuses: MEANT,
        codes: &["redirect_uri_mismatch"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die Adresse, zu der der Browser nach der Anmeldung zurückkehren soll, ist bei der \
                 App nicht erlaubt; meist hat sie den Typ „Webanwendung“.",
                "The address to which the browser shall return after the sign-in is not allowed \
                 for the app; usually it has the type 'Web application'.",
            ),
            remedy: text(
                "Legen Sie in der Google Cloud Console unter „APIs und Dienste > Anmeldedaten“ \
                 eine OAuth-Client-ID vom Typ „Desktop-App“ an (sie erlaubt http://127.0.0.1 mit \
                 jedem Port) und tragen Sie sie bei [upstream.oauth] client_id ein, ihr Geheimnis \
                 bei client_secret.",
                "Make an OAuth client ID of the type 'Desktop app' in the Google Cloud console \
                 under 'APIs & Services > Credentials' (it allows http://127.0.0.1 with any port) \
                 and enter it as [upstream.oauth] client_id and its secret as client_secret.",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-request-refused",
        statuses: MEANT,
        codes: &["invalid_request"],
        class: Class::Suspend,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Google lehnt die Anfrage als falsch aufgebaut ab; eine Angabe fehlt oder gehört \
                 nicht zu dieser Art der Anmeldung.",
                "Google refuses the request as malformed; a field is missing or does not belong to \
                 this kind of sign-in.",
            ),
            remedy: text(
                "Prüfen Sie [upstream.oauth] grant, client_id, client_secret und scopes („postbote \
                 check“ nennt, was fehlt). Der Codeweg (\"device-code\") geht bei Google nicht für \
                 Mail: Nehmen Sie \"authorization-code\" oder \"service-account\".",
                "Check [upstream.oauth] grant, client_id, client_secret and scopes ('postbote \
                 check' names what is missing). The device code (\"device-code\") does not work \
                 for mail at Google: use \"authorization-code\" or \"service-account\".",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-scope-invalid",
        statuses: MEANT,
        codes: &["invalid_scope"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der verlangte Bereich (scope) ist bei Google nicht gültig oder für diese Art der \
                 Anmeldung nicht zu haben.",
                "The scope asked for is not valid at Google or cannot be had with this kind of \
                 sign-in.",
            ),
            remedy: GOOGLE_SCOPES,
        },
        ..ANY
    },
    Row {
        id: "google-admin-policy",
        codes: &["admin_policy_enforced"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Administrator der Google-Workspace-Organisation lässt den Zugriff dieser App \
                 auf Gmail nicht zu.",
                "The administrator of the Google Workspace organisation does not allow this app \
                 access to Gmail.",
            ),
            remedy: text(
                "Ein Google-Workspace-Administrator stellt die App in der Admin-Konsole unter \
                 „Sicherheit > Zugriffs- und Datenkontrolle > API-Steuerung > \
                 App-Zugriffssteuerung“ auf „Vertrauenswürdig“. Verbinden Sie danach mit „postbote \
                 oauth connect TENANT“.",
                "A Google Workspace administrator sets the app to 'Trusted' in the Admin console \
                 under 'Security > Access and data control > API controls > App access control'. \
                 Then connect with 'postbote oauth connect TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-internal-app",
        codes: &["org_internal"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die App ist bei Google als „Intern“ eingetragen; das angemeldete Konto gehört \
                 nicht zu dieser Organisation.",
                "The app is registered at Google as 'Internal'; the account signed in does not \
                 belong to that organisation.",
            ),
            remedy: text(
                "Melden Sie sich mit „postbote oauth connect TENANT“ mit einem Konto der \
                 Organisation an, oder stellen Sie die App in der Google Cloud Console unter „APIs \
                 und Dienste > OAuth-Zustimmungsbildschirm > Zielgruppe“ auf „Extern“.",
                "Sign in with 'postbote oauth connect TENANT' with an account of the organisation, \
                 or set the app to 'External' in the Google Cloud console under 'APIs & Services > \
                 OAuth consent screen > Audience'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-browser-refused",
        codes: &["disallowed_useragent"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Google lässt die Anmeldung in diesem Browser nicht zu; eingebettete \
                 Browserfenster sind nicht erlaubt.",
                "Google does not allow the sign-in in this browser; embedded browser windows are \
                 not permitted.",
            ),
            remedy: text(
                "Öffnen Sie die Adresse, die „postbote oauth connect TENANT“ zeigt, in einem \
                 gewöhnlichen Browser wie Firefox, Chrome oder Edge.",
                "Open the address that 'postbote oauth connect TENANT' shows in an ordinary \
                 browser such as Firefox, Chrome or Edge.",
            ),
        },
        ..ANY
    },
    Row {
        id: "google-access-denied",
        codes: &["access_denied"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Zugriff wurde bei der Anmeldung abgelehnt, oder die App steht bei Google noch \
                 auf „Test“ und das Konto ist kein Testnutzer.",
                "Access was declined at the sign-in, or the app is still in 'Testing' at Google \
                 and the account is no test user.",
            ),
            remedy: text(
                "Beginnen Sie mit „postbote oauth connect TENANT“ von vorn und stimmen Sie zu. \
                 Sagt Google, die App sei nicht freigegeben, fügen Sie das Konto in der Google \
                 Cloud Console unter „APIs und Dienste > OAuth-Zustimmungsbildschirm > Zielgruppe“ \
                 als Testnutzer hinzu oder veröffentlichen Sie die App.",
                "Start again with 'postbote oauth connect TENANT' and agree. If Google says that \
                 the app has not been verified for you, add the account as a test user in the \
                 Google Cloud console under 'APIs & Services > OAuth consent screen > Audience', \
                 or publish the app.",
            ),
        },
        ..ANY
    },
];

/// What holds for every token endpoint (RFC 6749, section 5.2; RFC 8628, section 3.5), then the
/// HTTP status alone.
pub static ANY_TOKEN: &[Row] = &[
    // --- the device code
    Row {
        id: "oauth-code-pending",
        codes: &["authorization_pending"],
        class: Class::Transient,
        meaning: CODE_PENDING,
        ..ANY
    },
    Row {
        id: "oauth-code-slow-down",
        codes: &["slow_down"],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Anbieter möchte seltener gefragt werden, ob der Code schon bestätigt ist.",
                "The provider wants to be asked less often whether the code has been confirmed.",
            ),
            remedy: CONFIRM_IN_BROWSER,
        },
        ..ANY
    },
    Row {
        id: "oauth-declined",
        codes: &[
            "authorization_declined",
            "access_denied",
            "permission_denied",
        ],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Bei der Anmeldung im Browser wurde der Zugriff abgelehnt oder abgebrochen.",
                "Access was declined or cancelled at the sign-in in the browser.",
            ),
            remedy: text(
                "Beginnen Sie mit „postbote oauth connect TENANT“ von vorn und stimmen Sie zu. \
                 Darf der Benutzer das nicht, muss ein Administrator des Anbieters es erlauben.",
                "Start again with 'postbote oauth connect TENANT' and agree. If the user may not \
                 do that, an administrator at the provider must allow it.",
            ),
        },
        ..ANY
    },
    Row {
        id: "oauth-code-wrong",
        codes: &["bad_verification_code"],
        class: Class::Suspend,
        meaning: CODE_WRONG,
        ..ANY
    },
    Row {
        id: "oauth-code-expired",
        codes: &["expired_token"],
        class: Class::Suspend,
        meaning: CODE_EXPIRED,
        ..ANY
    },
    // --- throttled or broken, whatever else it says
    Row {
        id: "oauth-too-many-requests",
        statuses: &[429],
        class: HALF_MINUTE,
        meaning: SIGN_IN_TOO_OFTEN,
        ..ANY
    },
    Row {
        id: "oauth-unavailable",
        codes: &["temporarily_unavailable", "server_error"],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Anmeldedienst sagt, dass er gerade gestört oder überlastet ist.",
                "The sign-in service says that it has a fault or is overloaded at the moment.",
            ),
            remedy: WAIT,
        },
        ..ANY
    },
    Row {
        id: "oauth-server-trouble",
        statuses: FIVE,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Anmeldedienst hat gerade eine Störung oder zu viel zu tun.",
                "The sign-in service has a fault or too much to do at the moment.",
            ),
            remedy: WAIT,
        },
        ..ANY
    },
    // --- the error alone
    Row {
        id: "oauth-sign-in-needed",
        codes: &["invalid_grant"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Anbieter nimmt die gespeicherte Anmeldung nicht mehr an: Sie ist abgelaufen, \
                 widerrufen oder gehört zu einer anderen App.",
                "The provider no longer accepts the stored sign-in: it expired, was revoked or \
                 belongs to another app.",
            ),
            remedy: text(
                "Melden Sie das Postfach mit „postbote oauth connect TENANT“ neu an; bei grant = \
                 \"refresh-token\" hinterlegen Sie ein neues mit „postbote vault set NAME“ (NAME \
                 wie bei [upstream.oauth] refresh_token).",
                "Sign the mailbox in again with 'postbote oauth connect TENANT'; with grant = \
                 \"refresh-token\" store a new one with 'postbote vault set NAME' (NAME as given \
                 at [upstream.oauth] refresh_token).",
            ),
        },
        ..ANY
    },
    Row {
        id: "oauth-interaction-needed",
        codes: &["interaction_required", "login_required"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Anbieter verlangt, dass sich ein Mensch im Browser anmeldet, etwa mit einem \
                 zweiten Faktor.",
                "The provider wants a person to sign in with a browser, for instance with a second \
                 factor.",
            ),
            remedy: SIGN_IN_AGAIN,
        },
        ..ANY
    },
    Row {
        id: "oauth-consent-needed",
        codes: &["consent_required"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Anbieter verlangt, dass der Benutzer oder ein Administrator dem Zugriff erst \
                 zustimmt.",
                "The provider wants the user or an administrator to agree to the access first.",
            ),
            remedy: text(
                "Beginnen Sie mit „postbote oauth connect TENANT“ von vorn und stimmen Sie zu; \
                 darf der Benutzer das nicht, muss ein Administrator des Anbieters die App \
                 ([upstream.oauth] client_id) zulassen.",
                "Start again with 'postbote oauth connect TENANT' and agree; if the user may not \
                 do that, an administrator at the provider must allow the app ([upstream.oauth] \
                 client_id).",
            ),
        },
        ..ANY
    },
    Row {
        id: "oauth-client-refused",
        codes: &["invalid_client", "deleted_client"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Anbieter kennt die App nicht oder nimmt ihr Geheimnis nicht an.",
                "The provider does not know the app or does not accept its secret.",
            ),
            remedy: text(
                "Vergleichen Sie [upstream.oauth] client_id und das Geheimnis von client_secret \
                 mit den Angaben des Anbieters und hinterlegen Sie es neu mit „postbote vault set \
                 NAME“. Weist sich die App mit client_certificate und client_key aus, muss der \
                 Anbieter dieses Zertifikat kennen und die Uhr dieses Rechners stimmen.",
                "Compare [upstream.oauth] client_id and the secret of client_secret with what the \
                 provider says and store it again with 'postbote vault set NAME'. If the app \
                 proves itself with client_certificate and client_key, the provider must know this \
                 certificate and the clock of this machine must be right.",
            ),
        },
        ..ANY
    },
    Row {
        id: "oauth-client-not-allowed",
        codes: &["unauthorized_client"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Anbieter erlaubt der App diese Art der Anmeldung nicht.",
                "The provider does not allow the app this kind of sign-in.",
            ),
            remedy: text(
                "Prüfen Sie [upstream.oauth] grant und client_id, und lassen Sie beim Anbieter \
                 diese Art der Anmeldung für die App zu.",
                "Check [upstream.oauth] grant and client_id, and have the provider allow this kind \
                 of sign-in for the app.",
            ),
        },
        ..ANY
    },
    Row {
        id: "oauth-grant-not-supported",
        codes: &["unsupported_grant_type"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Anbieter kennt diese Art der Anmeldung nicht.",
                "The provider does not know this kind of sign-in.",
            ),
            remedy: text(
                "Setzen Sie [upstream.oauth] grant auf eine Art, die der Anbieter kennt: \
                 \"authorization-code\", \"device-code\", \"client-credentials\", \
                 \"service-account\" oder \"refresh-token\".",
                "Set [upstream.oauth] grant to a kind that the provider knows: \
                 \"authorization-code\", \"device-code\", \"client-credentials\", \
                 \"service-account\" or \"refresh-token\".",
            ),
        },
        ..ANY
    },
    Row {
        id: "oauth-scope-invalid",
        codes: &["invalid_scope"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der verlangte Bereich (scope) ist beim Anbieter unbekannt oder der App nicht \
                 erlaubt.",
                "The scope asked for is unknown at the provider or not allowed to the app.",
            ),
            remedy: text(
                "Tragen Sie bei [upstream.oauth] scopes die Bereiche ein, die der Anbieter für das \
                 Senden von Mail nennt, und verbinden Sie neu mit „postbote oauth connect TENANT“.",
                "Enter the scopes that the provider names for sending mail as [upstream.oauth] \
                 scopes, and connect again with 'postbote oauth connect TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "oauth-redirect-address",
        codes: &["redirect_uri_mismatch"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Die Adresse, zu der der Browser nach der Anmeldung zurückkehren soll, ist bei der \
                 App nicht erlaubt.",
                "The address to which the browser shall return after the sign-in is not allowed \
                 for the app.",
            ),
            remedy: text(
                "Tragen Sie beim Anbieter für die App ([upstream.oauth] client_id) \
                 http://127.0.0.1 und http://localhost als erlaubte Rückkehradressen ein und \
                 beginnen Sie mit „postbote oauth connect TENANT“ von vorn.",
                "Have http://127.0.0.1 and http://localhost registered at the provider as redirect \
                 addresses of the app ([upstream.oauth] client_id) and start again with 'postbote \
                 oauth connect TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "oauth-service-unknown",
        codes: &["invalid_resource", "invalid_target"],
        class: Class::Transient,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Der Anbieter kennt den Dienst nicht, für den der Zugriff verlangt wird.",
                "The provider does not know the service that access is asked for.",
            ),
            remedy: text(
                "Prüfen Sie [upstream.oauth] scopes und, wenn Sie sie selbst gesetzt haben, \
                 token_url und api_url. Postbote versucht es von selbst wieder.",
                "Check [upstream.oauth] scopes and, if you set them yourself, token_url and \
                 api_url. Postbote tries again by itself.",
            ),
        },
        ..ANY
    },
    Row {
        id: "oauth-request-refused",
        codes: &["invalid_request"],
        class: Class::Transient,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Der Anmeldedienst lehnt die Anfrage als falsch aufgebaut ab, ohne einen bekannten \
                 Grund zu nennen.",
                "The sign-in service refuses the request as malformed without giving a known \
                 reason.",
            ),
            remedy: text(
                "Prüfen Sie [upstream.oauth] grant, client_id, client_secret, scopes und \
                 token_url. Stimmt alles, melden Sie es mit dem Wortlaut der Antwort als Fehler in \
                 Postbote. Postbote versucht es von selbst wieder.",
                "Check [upstream.oauth] grant, client_id, client_secret, scopes and token_url. If \
                 all is right, report it as an error in Postbote with the words of the answer. \
                 Postbote tries again by itself.",
            ),
        },
        ..ANY
    },
    // --- the status alone
    Row {
        id: "oauth-no-token",
        statuses: TWO,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Anmeldedienst hat etwas anderes als ein Token geschickt, etwa eine Webseite.",
                "The sign-in service sent something else than a token, such as a web page.",
            ),
            remedy: text(
                "Prüfen Sie [upstream.oauth] token_url und ob ein Proxy, eine Firewall oder die \
                 Anmeldeseite eines Netzes dazwischen antwortet. Postbote versucht es von selbst \
                 wieder.",
                "Check [upstream.oauth] token_url and whether a proxy, a firewall or the login \
                 page of a network answers in between. Postbote tries again by itself.",
            ),
        },
        ..ANY
    },
    Row {
        id: "oauth-redirected",
        statuses: THREE,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Die Adresse des Anmeldedienstes leitet auf eine andere um. Postbote folgt ihr \
                 nicht, damit kein Geheimnis an eine fremde Adresse gerät.",
                "The address of the sign-in service redirects to another one. Postbote does not \
                 follow, so that no secret reaches another address.",
            ),
            remedy: text(
                "Tragen Sie bei [upstream.oauth] token_url (und device_url) die endgültige Adresse \
                 ein. Postbote versucht es von selbst wieder.",
                "Write the final address as [upstream.oauth] token_url (and device_url). Postbote \
                 tries again by itself.",
            ),
        },
        ..ANY
    },
    Row {
        id: "oauth-address-wrong",
        statuses: &[404, 405],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Unter dieser Adresse gibt es keinen Anmeldedienst.",
                "There is no sign-in service at this address.",
            ),
            remedy: text(
                "Prüfen Sie die Schreibweise von [upstream.oauth] token_url (und device_url); bei \
                 Microsoft auch directory_id, das ein Teil davon ist. Postbote versucht es von \
                 selbst wieder.",
                "Check the spelling of [upstream.oauth] token_url (and device_url); with Microsoft \
                 also directory_id, which is a part of it. Postbote tries again by itself.",
            ),
        },
        ..ANY
    },
    Row {
        id: "oauth-refused-without-reason",
        statuses: &[401, 403],
        class: Class::Transient,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Der Anmeldedienst, oder etwas auf dem Weg dorthin, weist die Anfrage ab, ohne \
                 einen bekannten Grund zu nennen.",
                "The sign-in service, or something on the way there, turns the request away \
                 without giving a known reason.",
            ),
            remedy: text(
                "Prüfen Sie, ob ein Proxy oder eine Firewall antwortet, und [upstream.oauth] \
                 token_url, client_id und client_secret. Postbote versucht es von selbst wieder; \
                 „postbote test TENANT“ zeigt den Wortlaut.",
                "Check whether a proxy or firewall answers, and [upstream.oauth] token_url, \
                 client_id and client_secret. Postbote tries again by itself; 'postbote test \
                 TENANT' shows the words.",
            ),
        },
        ..ANY
    },
];

/// Microsoft Graph: `sendMail`, drafts, upload sessions.
pub static GRAPH: &[Row] = &[
    // --- whatever it says
    Row {
        id: "graph-gateway-timeout",
        statuses: &[502, 504],
        class: Class::Uncertain,
        meaning: Explanation {
            cause: text(
                "Die Mail wurde zu Microsoft übertragen, aber die Bestätigung kam nicht \
                 rechtzeitig. Sie kann versendet sein oder auch nicht.",
                "The message was transferred to Microsoft, but the confirmation did not come in \
                 time. It may have been sent or not.",
            ),
            remedy: text(
                "Sehen Sie im Postfach im Ordner „Gesendete Elemente“ nach oder fragen Sie den \
                 Empfänger. Ob Postbote erneut sendet oder auf Sie wartet, bestimmt der Betreiber \
                 mit [retry] uncertain.",
                "Look into the folder 'Sent Items' of the mailbox or ask the recipient. Whether \
                 Postbote sends again or waits for you is set by the operator with [retry] \
                 uncertain.",
            ),
        },
        ..ANY
    },
    // --- the access token
    Row {
        id: "graph-token-for-another-service",
        statuses: &[401],
        any_of: &["invalid audience"],
        class: Class::Suspend,
        fresh_token: true,
        meaning: Explanation {
            cause: text(
                "Das Zugriffstoken ist für einen anderen Dienst ausgestellt als für Microsoft \
                 Graph.",
                "The access token was issued for another service than Microsoft Graph.",
            ),
            remedy: text(
                "Lassen Sie [upstream.oauth] scopes leer, oder tragen Sie \
                 https://graph.microsoft.com/Mail.Send mit offline_access ein (bei grant = \
                 \"client-credentials\" https://graph.microsoft.com/.default; in einer nationalen \
                 Cloud deren Adresse), und verbinden Sie neu mit „postbote oauth connect TENANT“.",
                "Leave [upstream.oauth] scopes empty, or enter \
                 https://graph.microsoft.com/Mail.Send with offline_access (with grant = \
                 \"client-credentials\" https://graph.microsoft.com/.default; in a national cloud \
                 its address), and connect again with 'postbote oauth connect TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-token-refused",
        statuses: &[401],
        class: Class::Suspend,
        fresh_token: true,
        meaning: Explanation {
            cause: text(
                "Microsoft Graph nimmt das Zugriffstoken nicht an, auch ein frisches nicht.",
                "Microsoft Graph does not accept the access token, not even a fresh one.",
            ),
            remedy: text(
                "Melden Sie das Postfach mit „postbote oauth connect TENANT“ neu an. Ohne Benutzer \
                 (grant = \"client-credentials\") prüfen Sie [upstream.oauth] directory_id und \
                 scopes. Die Uhr dieses Rechners muss stimmen.",
                "Sign the mailbox in again with 'postbote oauth connect TENANT'. Without a user \
                 (grant = \"client-credentials\") check [upstream.oauth] directory_id and scopes. \
                 The clock of this machine must be right.",
            ),
        },
        ..ANY
    },
    // --- sender, permissions, mailbox
    Row {
        id: "graph-send-as-denied",
        codes: &["errorsendasdenied"],
        class: Class::Sender,
        meaning: Explanation {
            cause: text(
                "Das Postfach darf nicht unter dieser Absenderadresse senden.",
                "The mailbox may not send with this sender address.",
            ),
            remedy: text(
                "Tragen Sie bei [sender] address die Adresse von [upstream.oauth] mailbox ein, \
                 oder geben Sie dem Postfach im Exchange Admin Center unter „Empfänger > \
                 Postfächer > das Postfach der Absenderadresse > Delegierung“ das Recht „Senden \
                 als“ (wirkt nach etwa einer Stunde; ein angemeldeter Benutzer braucht auch \
                 Mail.Send.Shared). Stoßen Sie die Mail danach mit „postbote queue retry --state \
                 failed“ neu an.",
                "Enter the address of [upstream.oauth] mailbox as [sender] address, or give the \
                 mailbox the right 'Send as' in the Exchange admin center under 'Recipients > \
                 Mailboxes > the mailbox of the sender address > Delegation' (takes about an hour; \
                 a signed-in user also needs Mail.Send.Shared). Then start the message again with \
                 'postbote queue retry --state failed'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-access-denied",
        codes: &["erroraccessdenied"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft verweigert den Zugriff auf das Postfach: Der App fehlt die Berechtigung \
                 Mail.Send mit Administratorzustimmung (für große Mails auch Mail.ReadWrite), oder \
                 eine Anwendungszugriffsrichtlinie (auch RBAC für Anwendungen) nimmt dieses \
                 Postfach aus.",
                "Microsoft denies access to the mailbox: the app lacks the permission Mail.Send \
                 with admin consent (for big messages Mail.ReadWrite too), or an application \
                 access policy (or RBAC for Applications) excludes this mailbox.",
            ),
            remedy: text(
                "Prüfen Sie im Microsoft Entra Admin Center unter „App-Registrierungen > Ihre App \
                 > API-Berechtigungen“, ob bei Microsoft Graph Mail.Send steht (ohne Benutzer als \
                 Anwendungsberechtigung) und die Administratorzustimmung erteilt ist. Ob eine \
                 Richtlinie im Weg ist, zeigt in der Exchange-Online-PowerShell \
                 „Test-ApplicationAccessPolicy -AppId {client_id} -Identity {mailbox}“. Neue \
                 Rechte wirken nach bis zu einer Stunde; dann „postbote queue retry --tenant \
                 TENANT“.",
                "Check in the Microsoft Entra admin center under 'App registrations > your app > \
                 API permissions' that Mail.Send is listed for Microsoft Graph (without a user as \
                 application permission) and that admin consent is granted. Whether a policy is in \
                 the way is shown by 'Test-ApplicationAccessPolicy -AppId {client_id} -Identity \
                 {mailbox}' in Exchange Online PowerShell. New rights take up to an hour; then \
                 'postbote queue retry --tenant TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-permission-missing",
        codes: &["authorization_requestdenied"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der App fehlt eine Berechtigung für diesen Aufruf von Microsoft Graph.",
                "The app lacks a permission for this call of Microsoft Graph.",
            ),
            remedy: text(
                "Tragen Sie im Microsoft Entra Admin Center unter „App-Registrierungen > Ihre App \
                 > API-Berechtigungen > Berechtigung hinzufügen > Microsoft Graph“ Mail.Send ein \
                 (ohne Benutzer bei „Anwendungsberechtigungen“; User.Read.All nur, wenn der \
                 Absender geprüft wird) und klicken Sie auf „Administratorzustimmung erteilen“. \
                 Verbinden Sie danach mit „postbote oauth connect TENANT“.",
                "Enter Mail.Send in the Microsoft Entra admin center under 'App registrations > \
                 your app > API permissions > Add a permission > Microsoft Graph' (without a user \
                 at 'Application permissions'; User.Read.All only if the sender is checked) and \
                 click 'Grant admin consent'. Then connect with 'postbote oauth connect TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-mailbox-unknown",
        codes: &[
            "errorinvaliduser",
            "resourcenotfound",
            "request_resourcenotfound",
            "mailboxnotfound",
            "errornonexistentmailbox",
        ],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Das Postfach, aus dem gesendet werden soll, gibt es in dieser Organisation nicht.",
                "The mailbox to send from does not exist in this organisation.",
            ),
            remedy: text(
                "Prüfen Sie die Schreibweise von [upstream.oauth] mailbox (sonst gilt username \
                 oder email): Es muss ein Benutzer mit Postfach sein, zu finden im Microsoft 365 \
                 Admin Center unter „Benutzer > Aktive Benutzer“. Prüfen Sie auch directory_id.",
                "Check the spelling of [upstream.oauth] mailbox (else username or email counts): \
                 it must be a user with a mailbox, to be found in the Microsoft 365 admin center \
                 under 'Users > Active users'. Check directory_id too.",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-mailbox-not-in-cloud",
        codes: &["mailboxnotenabledforrestapi"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Das Postfach ist über Microsoft Graph nicht erreichbar: Es hat keine \
                 Exchange-Online-Lizenz, ist inaktiv oder liegt noch auf einem eigenen \
                 Exchange-Server.",
                "The mailbox cannot be reached through Microsoft Graph: it has no Exchange Online \
                 licence, is inactive or still lies on an Exchange server of your own.",
            ),
            remedy: text(
                "Weisen Sie dem Benutzer im Microsoft 365 Admin Center unter „Benutzer > Aktive \
                 Benutzer > Lizenzen und Apps“ Exchange Online zu. Liegt das Postfach im eigenen \
                 Haus, senden Sie mit [upstream] kind = \"smtp\".",
                "Assign Exchange Online to the user in the Microsoft 365 admin center under 'Users \
                 > Active users > Licenses and apps'. If the mailbox is on your own server, send \
                 with [upstream] kind = \"smtp\".",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-account-suspended",
        codes: &["erroraccountsuspend*"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Microsoft hat das Konto für den Versand gesperrt, meist weil es durch \
                 ungewöhnlich viel Mail oder Spam aufgefallen ist.",
                "Microsoft suspended the account from sending, usually because it was noticed for \
                 unusually much mail or for spam.",
            ),
            remedy: text(
                "Melden Sie sich auf https://outlook.office.com mit dem Postfach an und folgen Sie \
                 den Hinweisen; ein Administrator hebt die Sperre im Microsoft Defender-Portal \
                 unter „E-Mail & Zusammenarbeit > Überprüfen > Eingeschränkte Entitäten“ auf. \
                 Ändern Sie das Passwort, falls das Konto missbraucht wurde.",
                "Sign in to the mailbox at https://outlook.office.com and follow the advice there; \
                 an administrator lifts the block in the Microsoft Defender portal under 'Email & \
                 collaboration > Review > Restricted entities'. Change the password if the account \
                 was abused.",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-mailbox-full",
        codes: &["errorquotaexceeded"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Das Postfach des Absenders ist voll; die Kopie im Ordner „Gesendete Elemente“ hat \
                 keinen Platz.",
                "The mailbox of the sender is full; there is no room for the copy in 'Sent Items'.",
            ),
            remedy: text(
                "Leeren Sie im Postfach von [upstream.oauth] mailbox „Gesendete Elemente“ und \
                 „Gelöschte Elemente“, oder richten Sie ein Archiv ein. Danach „postbote queue \
                 retry --tenant TENANT“.",
                "Empty 'Sent Items' and 'Deleted Items' in the mailbox of [upstream.oauth] \
                 mailbox, or set up an archive. Then 'postbote queue retry --tenant TENANT'.",
            ),
        },
        ..ANY
    },
    // --- limits
    Row {
        id: "graph-daily-limit",
        codes: &["errorexceededmessagelimit", "errorsubmissionquotaexceeded"],
        class: HOUR,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Die Versandgrenze des Postfachs ist erreicht (Mails oder Empfänger am Tag). \
                 Microsoft lehnt vorerst alles Weitere ab.",
                "The sending limit of the mailbox is reached (messages or recipients a day). \
                 Microsoft refuses everything else for now.",
            ),
            remedy: text(
                "Postbote macht eine Pause und sendet dann weiter, ohne dass Mail verloren geht. \
                 Liegt im Posteingang dieses Postfachs eine Bitte von Microsoft, das Konto zu \
                 bestätigen, folgen Sie ihr. Verteilen Sie Serienmails mit [series] messages und \
                 pause_ms.",
                "Postbote pauses and then goes on, no mail is lost. If the inbox of this mailbox \
                 holds a request from Microsoft to verify the account, follow it. Spread bulk mail \
                 with [series] messages and pause_ms.",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-submission-blocked",
        codes: &["errormessagesubmissionblocked"],
        class: HOUR,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Microsoft nimmt von diesem Postfach vorerst keine ausgehende Mail an, meist wegen \
                 ungewöhnlich vieler Mails oder Verdacht auf Spam.",
                "Microsoft takes no outgoing mail from this mailbox for now, usually because of \
                 unusually much mail or suspected spam.",
            ),
            remedy: text(
                "Postbote macht eine Pause und versucht es dann wieder. Hält es an, prüft ein \
                 Administrator im Microsoft Defender-Portal unter „E-Mail & Zusammenarbeit > \
                 Überprüfen > Eingeschränkte Entitäten“, ob das Postfach gesperrt ist und ob es \
                 missbraucht wurde.",
                "Postbote pauses and then tries again. If it lasts, an administrator checks in the \
                 Microsoft Defender portal under 'Email & collaboration > Review > Restricted \
                 entities' whether the mailbox is blocked and whether it was abused.",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-throttled",
        codes: &[
            "applicationthrottled",
            "toomanyrequests",
            "activitylimitreached",
        ],
        class: HALF_MINUTE,
        meaning: GRAPH_TOO_FAST,
        ..ANY
    },
    Row {
        id: "graph-too-many-requests",
        statuses: &[429],
        class: HALF_MINUTE,
        meaning: GRAPH_TOO_FAST,
        ..ANY
    },
    // --- the message
    Row {
        id: "graph-message-too-large",
        codes: &["errormessagesizeexceeded"],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Die Mail ist größer, als das Postfach senden darf (üblich sind 35 MB). Anhänge \
                 werden beim Versand um rund ein Drittel größer.",
                "The message is bigger than the mailbox may send (35 MB is usual). Attachments \
                 grow by about a third when sent.",
            ),
            remedy: text(
                "Senden Sie weniger oder kleinere Anhänge oder einen Link darauf. Oder lassen Sie \
                 die Grenze im Exchange Admin Center unter „Empfänger > Postfächer > das Postfach \
                 > Nachrichtengrößenbeschränkung“ erhöhen.",
                "Send fewer or smaller attachments or a link to them. Or have the limit raised in \
                 the Exchange admin center under 'Recipients > Mailboxes > the mailbox > Message \
                 size restriction'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-request-too-large",
        statuses: &[400, 413],
        any_of: &["maximum request length", "request entity too large"],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Die Mail ist zu groß für einen einzelnen Aufruf von Microsoft Graph (4 MB), und \
                 der Weg über einen Entwurf steht für sie nicht offen.",
                "The message is too big for a single call of Microsoft Graph (4 MB), and the way \
                 through a draft is not open to it.",
            ),
            remedy: text(
                "Geben Sie der App im Microsoft Entra Admin Center unter „App-Registrierungen > \
                 Ihre App > API-Berechtigungen“ zusätzlich Mail.ReadWrite mit \
                 Administratorzustimmung, damit große Mails über einen Entwurf gehen. Oder senden \
                 Sie kleinere Anhänge, oder mit [upstream] kind = \"smtp\".",
                "Give the app Mail.ReadWrite too, with admin consent, in the Microsoft Entra admin \
                 center under 'App registrations > your app > API permissions', so that big \
                 messages go through a draft. Or send smaller attachments, or with [upstream] kind \
                 = \"smtp\".",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-no-recipient",
        codes: &["errorinvalidrecipient*"],
        any_of: &["contains no recipients"],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Die Mail nennt keinen Empfänger.",
                "The message names no recipient.",
            ),
            remedy: text(
                "Die Anwendung muss wenigstens einen Empfänger angeben; „postbote preview TENANT \
                 --explain“ zeigt die Mail, wie sie hinausgeht. Senden Sie sie danach neu.",
                "The application must give at least one recipient; 'postbote preview TENANT \
                 --explain' shows the message as it leaves. Then send it again.",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-recipient-invalid",
        codes: &["errorinvalidrecipient*"],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Eine Empfängeradresse ist ungültig; Microsoft lehnt deshalb die ganze Mail ab.",
                "A recipient address is not valid; because of it Microsoft refuses the whole \
                 message.",
            ),
            remedy: CHECK_ADDRESSES,
        },
        ..ANY
    },
    Row {
        id: "graph-too-many-recipients",
        codes: &["errorexceededmaxrecipientlimit*"],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Die Mail hat mehr Empfänger, als das Postfach auf einmal anschreiben darf (üblich \
                 sind 500).",
                "The message has more recipients than the mailbox may address at once (500 is \
                 usual).",
            ),
            remedy: text(
                "Teilen Sie die Empfänger auf mehrere Mails auf, oder lassen Sie die Grenze im \
                 Exchange Admin Center unter „Empfänger > Postfächer > das Postfach > \
                 Empfängerlimit“ erhöhen (höchstens 1000).",
                "Spread the recipients over several messages, or have the limit raised in the \
                 Exchange admin center under 'Recipients > Mailboxes > the mailbox > Recipient \
                 limit' (1000 at most).",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-mime-invalid",
        codes: &["errormimecontentinvalid*"],
        class: Class::Permanent,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Microsoft kann den Aufbau der Mail nicht lesen.",
                "Microsoft cannot read the structure of the message.",
            ),
            remedy: REPORT_BUG,
        },
        ..ANY
    },
    Row {
        id: "graph-header-invalid",
        codes: &["invalidinternetmessageheader*"],
        class: Class::Permanent,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Microsoft nimmt eine Kopfzeile der Mail nicht an; auf diesem Weg sind nur wenige \
                 eigene erlaubt, und ihr Name muss mit X- beginnen.",
                "Microsoft does not accept a header line of the message; on this way only a few of \
                 your own are allowed, and their name must begin with X-.",
            ),
            remedy: REPORT_BUG,
        },
        ..ANY
    },
    Row {
        id: "graph-body-unreadable",
        codes: &["unabletodeserializepostbody", "requestbodyread"],
        class: Class::Permanent,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Microsoft kann den Inhalt des Aufrufs nicht lesen.",
                "Microsoft cannot read the body of the call.",
            ),
            remedy: REPORT_BUG,
        },
        ..ANY
    },
    // --- drafts and upload sessions
    Row {
        id: "graph-item-not-found",
        codes: &["erroritemnotfound"],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Der Entwurf, über den Postbote diese Mail sendet, ist nicht mehr da; jemand oder \
                 etwas hat ihn im Postfach gelöscht oder verschoben.",
                "The draft through which Postbote sends this message is gone; somebody or \
                 something deleted or moved it in the mailbox.",
            ),
            remedy: text(
                "Sie müssen nichts tun: Postbote legt einen neuen Entwurf an. Kommt es oft vor, \
                 prüfen Sie Regeln und Programme, die im Postfach aufräumen.",
                "Nothing to do: Postbote makes a new draft. If it happens often, check rules and \
                 programs that tidy up the mailbox.",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-upload-too-small",
        codes: &["errorattachmentsizeshouldnotbelessthanminimumsize"],
        class: Class::Permanent,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Der Anhang ist für den Weg zu klein, auf dem er hochgeladen werden sollte (er ist \
                 für mehr als 3 MB gedacht).",
                "The attachment is too small for the way in which it was to be uploaded (which is \
                 meant for more than 3 MB).",
            ),
            remedy: REPORT_BUG,
        },
        ..ANY
    },
    Row {
        id: "graph-upload-range",
        statuses: &[416],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Beim Hochladen eines Anhangs haben Postbote und Microsoft verschiedene Stellen \
                 erreicht.",
                "While an attachment was uploaded, Postbote and Microsoft arrived at different \
                 places.",
            ),
            remedy: text(
                "Sie müssen nichts tun: Postbote beginnt das Hochladen von vorn.",
                "Nothing to do: Postbote starts the upload again.",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-upload-expired",
        statuses: &[410],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Das Hochladen eines Anhangs dauerte zu lange; Microsoft hat es beendet.",
                "The upload of an attachment took too long; Microsoft ended it.",
            ),
            remedy: text(
                "Sie müssen nichts tun: Postbote beginnt das Hochladen von vorn. Kommt es oft vor, \
                 prüfen Sie, wie schnell die Internetverbindung dieses Rechners nach außen ist.",
                "Nothing to do: Postbote starts the upload again. If it happens often, check how \
                 fast the internet connection of this machine is outwards.",
            ),
        },
        ..ANY
    },
    // --- what mends itself
    Row {
        id: "graph-busy",
        codes: &[
            "servicenotavailable",
            "errorserverbusy",
            "errorinternalservertransienterror",
        ],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Microsoft Graph oder Exchange Online ist gerade überlastet oder gestört.",
                "Microsoft Graph or Exchange Online is overloaded or has a fault at the moment.",
            ),
            remedy: WAIT_MICROSOFT,
        },
        ..ANY
    },
    Row {
        id: "graph-request-timeout",
        statuses: &[408],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Die Mail kam zu langsam bei Microsoft an; der Aufruf wurde abgebrochen.",
                "The message arrived too slowly at Microsoft; the call was broken off.",
            ),
            remedy: text(
                "Postbote versucht es von selbst wieder. Kommt es oft vor, prüfen Sie, wie schnell \
                 die Internetverbindung dieses Rechners nach außen ist.",
                "Postbote tries again by itself. If it happens often, check how fast the internet \
                 connection of this machine is outwards.",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-not-from-graph",
        statuses: &[400, 403, 404, 405, 407, 414, 431],
        codes: &[""],
        class: Class::Transient,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Nicht Microsoft Graph hat geantwortet, sondern etwas auf dem Weg dorthin, oder \
                 die Adresse ist falsch.",
                "Not Microsoft Graph answered but something on the way there, or the address is \
                 wrong.",
            ),
            remedy: CHECK_API_URL,
        },
        ..ANY
    },
    // --- the status alone
    Row {
        id: "graph-server-trouble",
        statuses: FIVE,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Microsoft hat gerade eine Störung.",
                "Microsoft has a fault at the moment.",
            ),
            remedy: WAIT_MICROSOFT,
        },
        ..ANY
    },
    Row {
        id: "graph-refused",
        statuses: FOUR,
        class: Class::Permanent,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Microsoft Graph hat die Mail mit einem Grund abgelehnt, den Postbote nicht kennt.",
                "Microsoft Graph refused the message for a reason that Postbote does not know.",
            ),
            remedy: text(
                "Der Wortlaut der Antwort nennt den Grund; „postbote test TENANT“ zeigt, ob jede \
                 Mail betroffen ist. Beheben Sie ihn und stoßen Sie die Mail mit „postbote queue \
                 retry --state failed“ neu an.",
                "The words of the answer name the reason; 'postbote test TENANT' shows whether \
                 every message is concerned. Mend it and start the message again with 'postbote \
                 queue retry --state failed'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "graph-redirected",
        statuses: THREE,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Die Adresse von Microsoft Graph leitet auf eine andere um.",
                "The address of Microsoft Graph redirects to another one.",
            ),
            remedy: CHECK_API_URL,
        },
        ..ANY
    },
    Row {
        id: "graph-not-accepted",
        statuses: TWO,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Microsoft Graph hat nicht abgelehnt, aber auch nicht bestätigt, dass es die Mail \
                 sendet.",
                "Microsoft Graph did not refuse, but did not confirm either that it sends the \
                 message.",
            ),
            remedy: CHECK_API_URL,
        },
        ..ANY
    },
];

/// The Gmail API: `messages.send` and its uploads.
pub static GMAIL: &[Row] = &[
    // --- whatever it says
    Row {
        id: "gmail-gateway-timeout",
        statuses: &[504],
        class: Class::Uncertain,
        meaning: Explanation {
            cause: text(
                "Die Mail wurde zu Google übertragen, aber die Bestätigung kam nicht rechtzeitig. \
                 Sie kann versendet sein oder auch nicht.",
                "The message was transferred to Google, but the confirmation did not come in time. \
                 It may have been sent or not.",
            ),
            remedy: text(
                "Sehen Sie im Postfach im Ordner „Gesendet“ nach oder fragen Sie den Empfänger. Ob \
                 Postbote erneut sendet oder auf Sie wartet, bestimmt der Betreiber mit [retry] \
                 uncertain.",
                "Look into the folder 'Sent' of the mailbox or ask the recipient. Whether Postbote \
                 sends again or waits for you is set by the operator with [retry] uncertain.",
            ),
        },
        ..ANY
    },
    Row {
        id: "gmail-token-refused",
        statuses: &[401],
        class: Class::Suspend,
        fresh_token: true,
        meaning: Explanation {
            cause: text(
                "Google nimmt das Zugriffstoken nicht an, auch ein frisches nicht.",
                "Google does not accept the access token, not even a fresh one.",
            ),
            remedy: SIGN_IN_AGAIN,
        },
        ..ANY
    },
    // --- limits
    Row {
        id: "gmail-daily-sending-limit",
        any_of: &["daily user sending limit"],
        class: DAY,
        meaning: Explanation {
            cause: text(
                "Die Versandgrenze des Postfachs ist erreicht (üblich: 500 Mails am Tag, mit \
                 Google Workspace 2000). Google lehnt vorerst alles Weitere ab.",
                "The sending limit of the mailbox is reached (usual: 500 messages a day, 2000 with \
                 Google Workspace). Google refuses everything else for now.",
            ),
            remedy: PAUSED,
        },
        ..ANY
    },
    Row {
        id: "gmail-daily-limit",
        codes: &["dailylimitexceeded"],
        class: DAY,
        meaning: Explanation {
            cause: text(
                "Das Google-Cloud-Projekt der App hat seine Tagesgrenze für Aufrufe erreicht.",
                "The Google Cloud project of the app has reached its daily limit of calls.",
            ),
            remedy: text(
                "Postbote macht eine Pause und sendet dann weiter, ohne dass Mail verloren geht. \
                 Lassen Sie die Grenze in der Google Cloud Console unter „APIs und Dienste > Gmail \
                 API > Kontingente“ erhöhen, oder benutzen Sie eine eigene App ([upstream.oauth] \
                 client_id).",
                "Postbote pauses and then goes on, no mail is lost. Have the limit raised in the \
                 Google Cloud console under 'APIs & Services > Gmail API > Quotas', or use an app \
                 of your own ([upstream.oauth] client_id).",
            ),
        },
        ..ANY
    },
    Row {
        id: "gmail-throttled",
        codes: &[
            "userratelimitexceeded",
            "ratelimitexceeded",
            "resource_exhausted",
        ],
        class: MINUTE,
        meaning: GMAIL_TOO_FAST,
        ..ANY
    },
    Row {
        id: "gmail-too-many-requests",
        statuses: &[429],
        class: MINUTE,
        meaning: GMAIL_TOO_FAST,
        ..ANY
    },
    // --- permissions, mailbox
    Row {
        id: "gmail-scope-missing",
        codes: &["insufficientpermissions", "access_token_scope_insufficient"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Bei der Anmeldung wurde nicht erlaubt, über die Gmail API Mail zu senden.",
                "The sign-in did not allow sending mail through the Gmail API.",
            ),
            remedy: GOOGLE_SCOPES,
        },
        ..ANY
    },
    Row {
        id: "gmail-api-off",
        codes: &["accessnotconfigured", "service_disabled"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Im Google-Cloud-Projekt der App ist die Gmail API nicht eingeschaltet.",
                "The Gmail API is not enabled in the Google Cloud project of the app.",
            ),
            remedy: text(
                "Öffnen Sie in der Google Cloud Console das Projekt von [upstream.oauth] \
                 client_id, „APIs und Dienste > Bibliothek > Gmail API“, und klicken Sie auf \
                 „Aktivieren“. Nach einigen Minuten „postbote queue retry --tenant TENANT“.",
                "Open the project of [upstream.oauth] client_id in the Google Cloud console, 'APIs \
                 & Services > Library > Gmail API', and click 'Enable'. After some minutes \
                 'postbote queue retry --tenant TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "gmail-domain-policy",
        codes: &["domainpolicy"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Der Administrator der Google-Workspace-Domain erlaubt Apps diesen Zugriff auf \
                 Gmail nicht.",
                "The administrator of the Google Workspace domain does not allow apps this access \
                 to Gmail.",
            ),
            remedy: text(
                "Ein Google-Workspace-Administrator lässt die App in der Admin-Konsole unter \
                 „Sicherheit > Zugriffs- und Datenkontrolle > API-Steuerung > \
                 App-Zugriffssteuerung“ zu. Danach „postbote queue retry --tenant TENANT“.",
                "A Google Workspace administrator allows the app in the Admin console under \
                 'Security > Access and data control > API controls > App access control'. Then \
                 'postbote queue retry --tenant TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "gmail-mail-off",
        any_of: &["mail service not enabled"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Für dieses Konto ist Gmail nicht eingeschaltet; es hat kein Postfach.",
                "Gmail is not turned on for this account; it has no mailbox.",
            ),
            remedy: text(
                "Prüfen Sie, ob [upstream.oauth] mailbox das richtige Konto nennt. Ein \
                 Google-Workspace-Administrator schaltet Gmail in der Admin-Konsole unter „Apps > \
                 Google Workspace > Gmail > Dienststatus“ ein und weist dem Nutzer eine Lizenz zu.",
                "Check that [upstream.oauth] mailbox names the right account. A Google Workspace \
                 administrator turns on Gmail in the Admin console under 'Apps > Google Workspace \
                 > Gmail > Service status' and assigns the user a licence.",
            ),
        },
        ..ANY
    },
    Row {
        id: "gmail-no-mailbox-behind-account",
        any_of: &["precondition check failed"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Das angemeldete Konto kann keine Mail senden; meist fehlt einem Dienstkonto das \
                 Postfach, für das es senden soll.",
                "The account signed in cannot send mail; usually a service account lacks the \
                 mailbox for which it shall send.",
            ),
            remedy: text(
                "Setzen Sie [upstream.oauth] mailbox auf einen Nutzer Ihrer Domain und erteilen \
                 Sie dem Dienstkonto in der Admin-Konsole die domainweite Delegierung („Sicherheit \
                 > Zugriffs- und Datenkontrolle > API-Steuerung > Domainweite Delegierung \
                 verwalten“).",
                "Set [upstream.oauth] mailbox to a user of your domain and grant the service \
                 account domain-wide delegation in the Admin console ('Security > Access and data \
                 control > API controls > Manage domain-wide delegation').",
            ),
        },
        ..ANY
    },
    Row {
        id: "gmail-another-mailbox",
        any_of: &["delegation denied"],
        class: Class::Suspend,
        meaning: Explanation {
            cause: text(
                "Das angemeldete Konto darf nicht für das eingetragene Postfach senden.",
                "The account signed in may not send for the mailbox entered.",
            ),
            remedy: text(
                "Tragen Sie bei [upstream.oauth] mailbox die Adresse des Kontos ein, das \
                 angemeldet ist („postbote oauth status“ nennt es), oder melden Sie das richtige \
                 mit „postbote oauth connect TENANT“ an.",
                "Enter the address of the account that is signed in as [upstream.oauth] mailbox \
                 ('postbote oauth status' names it), or sign in the right one with 'postbote oauth \
                 connect TENANT'.",
            ),
        },
        ..ANY
    },
    // --- the message
    Row {
        id: "gmail-too-large",
        statuses: &[413],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Die Mail ist größer, als Gmail annimmt (35 MB). Anhänge werden beim Versand um \
                 rund ein Drittel größer.",
                "The message is bigger than Gmail accepts (35 MB). Attachments grow by about a \
                 third when sent.",
            ),
            remedy: SMALLER,
        },
        ..ANY
    },
    Row {
        id: "gmail-no-recipient",
        any_of: &["recipient address required"],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Die Mail nennt keinen Empfänger.",
                "The message names no recipient.",
            ),
            remedy: text(
                "Die Anwendung muss wenigstens einen Empfänger angeben; „postbote preview TENANT \
                 --explain“ zeigt die Mail, wie sie hinausgeht. Senden Sie sie danach neu.",
                "The application must give at least one recipient; 'postbote preview TENANT \
                 --explain' shows the message as it leaves. Then send it again.",
            ),
        },
        ..ANY
    },
    Row {
        id: "gmail-recipient-invalid",
        any_of: &[
            "invalid to header",
            "invalid cc header",
            "invalid bcc header",
        ],
        class: Class::Permanent,
        meaning: Explanation {
            cause: text(
                "Eine Empfängeradresse ist ungültig; Google lehnt deshalb die ganze Mail ab.",
                "A recipient address is not valid; because of it Google refuses the whole message.",
            ),
            remedy: CHECK_ADDRESSES,
        },
        ..ANY
    },
    Row {
        id: "gmail-message-invalid",
        statuses: FOUR,
        codes: &[
            "invalidargument",
            "invalid_argument",
            "failedprecondition",
            "failed_precondition",
            "badrequest",
        ],
        class: Class::Permanent,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Google lehnt den Inhalt des Aufrufs als ungültig ab.",
                "Google refuses the content of the call as invalid.",
            ),
            remedy: REPORT_BUG,
        },
        ..ANY
    },
    // --- the status alone
    Row {
        id: "gmail-server-trouble",
        statuses: FIVE,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Google hat gerade eine Störung.",
                "Google has a fault at the moment.",
            ),
            remedy: WAIT_GOOGLE,
        },
        ..ANY
    },
    Row {
        id: "gmail-request-timeout",
        statuses: &[408],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Die Mail kam zu langsam bei Google an; der Aufruf wurde abgebrochen.",
                "The message arrived too slowly at Google; the call was broken off.",
            ),
            remedy: text(
                "Postbote versucht es von selbst wieder. Kommt es oft vor, prüfen Sie, wie schnell \
                 die Internetverbindung dieses Rechners nach außen ist.",
                "Postbote tries again by itself. If it happens often, check how fast the internet \
                 connection of this machine is outwards.",
            ),
        },
        ..ANY
    },
    Row {
        id: "gmail-upload-gone",
        statuses: &[404, 410],
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Das begonnene Hochladen der Mail gibt es bei Google nicht mehr, oder die Adresse \
                 ist falsch.",
                "The upload of the message that was begun no longer exists at Google, or the \
                 address is wrong.",
            ),
            remedy: text(
                "Postbote beginnt von selbst von vorn. Hält es an, prüfen Sie [upstream.oauth] \
                 api_url; gewöhnlich bleibt es weg.",
                "Postbote starts again by itself. If it lasts, check [upstream.oauth] api_url; \
                 usually it is left out.",
            ),
        },
        ..ANY
    },
    Row {
        id: "gmail-not-from-google",
        statuses: &[400, 403, 405, 407, 414, 431],
        codes: &[""],
        class: Class::Transient,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Nicht die Gmail API hat geantwortet, sondern etwas auf dem Weg dorthin, oder die \
                 Adresse ist falsch.",
                "Not the Gmail API answered but something on the way there, or the address is \
                 wrong.",
            ),
            remedy: CHECK_API_URL,
        },
        ..ANY
    },
    Row {
        id: "gmail-forbidden",
        statuses: &[403],
        class: Class::Suspend,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Google verbietet dem Konto oder der App den Versand, mit einem Grund, den \
                 Postbote nicht kennt.",
                "Google forbids the account or the app to send, for a reason that Postbote does \
                 not know.",
            ),
            remedy: text(
                "Der Wortlaut der Antwort nennt den Grund; „postbote test TENANT“ zeigt ihn. \
                 Prüfen Sie die App in der Google Cloud Console und die Rechte des Kontos in der \
                 Admin-Konsole. Danach „postbote queue retry --tenant TENANT“.",
                "The words of the answer name the reason; 'postbote test TENANT' shows them. Check \
                 the app in the Google Cloud console and the rights of the account in the Admin \
                 console. Then 'postbote queue retry --tenant TENANT'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "gmail-refused",
        statuses: FOUR,
        class: Class::Permanent,
        alert: true,
        meaning: Explanation {
            cause: text(
                "Google hat die Mail mit einem Grund abgelehnt, den Postbote nicht kennt.",
                "Google refused the message for a reason that Postbote does not know.",
            ),
            remedy: text(
                "Der Wortlaut der Antwort nennt den Grund; „postbote test TENANT“ zeigt, ob jede \
                 Mail betroffen ist. Beheben Sie ihn und stoßen Sie die Mail mit „postbote queue \
                 retry --state failed“ neu an.",
                "The words of the answer name the reason; 'postbote test TENANT' shows whether \
                 every message is concerned. Mend it and start the message again with 'postbote \
                 queue retry --state failed'.",
            ),
        },
        ..ANY
    },
    Row {
        id: "gmail-redirected",
        statuses: THREE,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Die Adresse der Gmail API leitet auf eine andere um.",
                "The address of the Gmail API redirects to another one.",
            ),
            remedy: CHECK_API_URL,
        },
        ..ANY
    },
    Row {
        id: "gmail-not-accepted",
        statuses: TWO,
        class: Class::Transient,
        meaning: Explanation {
            cause: text(
                "Google hat nicht abgelehnt, aber auch nicht bestätigt, dass es die Mail sendet.",
                "Google did not refuse, but did not confirm either that it sends the message.",
            ),
            remedy: CHECK_API_URL,
        },
        ..ANY
    },
];

#[cfg(test)]
#[path = "apis_tests.rs"]
mod tests;
