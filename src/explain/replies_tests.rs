//! Every reply that providers are known to give, with the class that it must have.

use std::collections::HashSet;

use super::*;
use crate::explain::testing::check_explanation;

const EVERY_STAGE: [Stage; 10] = [
    Stage::Prepare,
    Stage::Resolve,
    Stage::Connect,
    Stage::Hello,
    Stage::Tls,
    Stage::Auth,
    Stage::Mail,
    Stage::Rcpt,
    Stage::Data,
    Stage::FinalDot,
];
const PERMANENT: Class = Class::Permanent;
const SENDER: Class = Class::Sender;
const SUSPEND: Class = Class::Suspend;
const TRANSIENT: Class = Class::Transient;
const UNCERTAIN: Class = Class::Uncertain;

/// The parts of a reply as a server sends it, lines separated by line feeds.
fn parse(lines: &str) -> (u16, Option<String>, String, String) {
    let mut code = 0;
    let mut enhanced = None;
    let mut with = Vec::new();
    let mut without = Vec::new();
    for line in lines.lines() {
        code = line
            .get(..3)
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_default();
        let rest = line.get(4..).unwrap_or_default();
        with.push(rest.to_owned());
        let found = leading_enhanced(rest);
        without.push(match found {
            Some(found) => rest.trim_start().replacen(found, "", 1),
            None => rest.to_owned(),
        });
        enhanced = enhanced.or_else(|| found.map(str::to_owned));
    }
    (code, enhanced, with.join(" "), without.join(" "))
}

/// Explains a reply in every form in which it may be handed over.
fn explain(stage: Stage, lines: &str) -> (Class, &'static str) {
    let (code, enhanced, with, without) = parse(lines);
    let (class, row) = reply(stage, code, enhanced.as_deref(), &without);
    for (enhanced, text) in [(enhanced.as_deref(), &with), (None, &with)] {
        let other = reply(stage, code, enhanced, text);
        assert_eq!((other.0, other.1.id), (class, row.id), "{lines}");
    }
    assert_eq!(class, row.class);
    (class, row.id)
}

fn check(table: &[(&[Stage], &str, Class, &str)]) {
    for (stages, lines, class, id) in table {
        for &stage in *stages {
            assert_eq!(explain(stage, lines), (*class, *id), "{stage:?}: {lines}");
        }
    }
}

#[test]
fn microsoft() {
    check(&[
        (
            AUTH,
            "535 5.7.3 Authentication unsuccessful [SN2PR00CA0018.namprd00.prod.outlook.com]",
            SUSPEND,
            "microsoft-token-refused",
        ),
        (
            AUTH,
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information. [host]",
            SUSPEND,
            "microsoft-smtp-auth-off-for-organisation",
        ),
        (
            AUTH,
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit https://aka.ms/smtp_auth_disabled for more information. [host]",
            SUSPEND,
            "microsoft-smtp-auth-off-for-mailbox",
        ),
        (
            AUTH,
            "535 5.7.139 Authentication unsuccessful, basic authentication is disabled. [host 2024-10-10T20:31:23.429Z 08DCE853B9232A86]",
            SUSPEND,
            "microsoft-basic-auth-off",
        ),
        (
            AUTH,
            "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated successfully. Contact your administrator. [host]",
            SUSPEND,
            "microsoft-login-criteria",
        ),
        (
            AUTH,
            "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy. Contact your administrator.",
            SUSPEND,
            "microsoft-security-defaults",
        ),
        (
            AUTH,
            "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect",
            SUSPEND,
            "microsoft-credentials-wrong",
        ),
        (
            AUTH,
            "535 5.7.139 Authentication unsuccessful, the account has an issue",
            SUSPEND,
            "microsoft-account-trouble",
        ),
        (
            AUTH,
            "535 5.7.139 Authentication unsuccessful, federated STS service was unreachable",
            TRANSIENT,
            "microsoft-sign-in-service-down",
        ),
        (
            AUTH,
            "535 5.7.139 Authentication unsuccessful, something new",
            SUSPEND,
            "microsoft-login-refused",
        ),
        (
            SESSION,
            "550 5.7.30 Basic authentication is not supported for Client Submission.",
            SUSPEND,
            "microsoft-basic-auth-ended",
        ),
        (
            MAIL,
            "530 5.7.57 Client not authenticated to send mail. Error: 535 5.7.139 Authentication unsuccessful, something new",
            SUSPEND,
            "microsoft-login-refused-quoted",
        ),
        (
            MAIL,
            "530 5.7.57 Client not authenticated to send mail. Error: 535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
            SUSPEND,
            "microsoft-smtp-auth-off-for-organisation",
        ),
        (
            MAIL,
            "530 5.7.57 Client not authenticated to send mail.",
            SUSPEND,
            "microsoft-not-logged-in",
        ),
        (
            MAIL,
            "530 5.7.57 SMTP; Client was not authenticated to send anonymous mail during MAIL FROM",
            SUSPEND,
            "microsoft-not-logged-in",
        ),
        (
            &[Stage::Auth, Stage::Mail],
            "530 5.7.0 Must issue a STARTTLS command first",
            SUSPEND,
            "encryption-needed",
        ),
        (
            AUTH,
            "454 4.7.0 Temporary authentication failure",
            TRANSIENT,
            "login-check-unavailable",
        ),
        (
            MESSAGE,
            "432 4.3.2 Concurrent connections limit exceeded.",
            MINUTE,
            "microsoft-too-many-connections",
        ),
        (
            MESSAGE,
            "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded",
            MINUTE,
            "microsoft-too-many-connections",
        ),
        (
            MESSAGE,
            "432 4.3.2 STOREDRV.ClientSubmit; something",
            MINUTE,
            "microsoft-too-many-connections-code",
        ),
        (
            &EVERY_STAGE,
            "421 4.4.2 Message submission rate for this client has exceeded the configured limit",
            MINUTE,
            "microsoft-submission-rate",
        ),
        (
            FINAL_DOT,
            "430 4.2.0 STOREDRV; mailbox logon failure; Failed to process message due to a transient exception with message Cannot open mailbox MapiExceptionLogonFailed",
            TRANSIENT,
            "microsoft-mailbox-logon",
        ),
        (
            &EVERY_STAGE,
            "451 4.7.0 Temporary server error. Please try again later. PRX2",
            TRANSIENT,
            "microsoft-temporary-server-error",
        ),
        (
            MESSAGE,
            "451 4.7.0 Temporary server error. Please try again later. PRX5",
            TRANSIENT,
            "microsoft-temporary-server-error",
        ),
        (
            FINAL_DOT,
            "550 5.7.60 SMTP; Client does not have permissions to send as this sender [host]",
            SENDER,
            "microsoft-not-allowed-as-sender",
        ),
        (
            MESSAGE,
            "550 5.7.1 Client does not have permissions to send as this sender",
            SENDER,
            "microsoft-not-allowed-as-sender",
        ),
        (
            FINAL_DOT,
            "550 5.7.60 Neue Worte",
            SENDER,
            "microsoft-not-allowed-as-sender-code",
        ),
        (
            FINAL_DOT,
            "554 5.2.252 SendAsDenied; a@x not allowed to send as b@x; STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process message due to a permanent exception with message [BeginDiagnosticData]Cannot submit message. 0.35250:",
            SENDER,
            "microsoft-not-allowed-as-sender",
        ),
        (
            FINAL_DOT,
            "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process message due to a permanent exception",
            SENDER,
            "microsoft-not-allowed-as-sender",
        ),
        (
            FINAL_DOT,
            "554 5.2.252 other words",
            SENDER,
            "microsoft-not-allowed-as-sender-code",
        ),
        (
            FINAL_DOT,
            "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed",
            DAILY,
            "microsoft-daily-recipients",
        ),
        (
            FINAL_DOT,
            "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded; Failed",
            SUSPEND,
            "microsoft-own-mailbox-full",
        ),
        (
            FINAL_DOT,
            "554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded; Failed",
            PERMANENT,
            "mailbox-full-code",
        ),
        (
            FINAL_DOT,
            "554 5.2.0 STOREDRV.Submission.Exception:OutboundSpamException; Failed",
            SUSPEND,
            "microsoft-sender-restricted",
        ),
        (
            FINAL_DOT,
            "550 5.1.8 Access denied, bad outbound sender. For more information please go to http://go.microsoft.com/fwlink/?LinkId=875724.",
            SUSPEND,
            "microsoft-sender-restricted",
        ),
        (
            MESSAGE,
            "550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP. For more information see http://go.microsoft.com/fwlink/?LinkID=526653. AS(7230)",
            SUSPEND,
            "microsoft-organisation-blocked",
        ),
        (
            MESSAGE,
            "550 5.7.705 Access denied",
            SUSPEND,
            "microsoft-organisation-blocked-code",
        ),
        (
            &[Stage::Mail, Stage::FinalDot],
            "552 5.3.4 Message size exceeds fixed maximum message size",
            PERMANENT,
            "too-big-code",
        ),
        (
            FINAL_DOT,
            "554 5.6.0 Invalid message content, contains bare linefeeds",
            PERMANENT,
            "header-too-complex",
        ),
        (
            FINAL_DOT,
            "554 5.6.0 Invalid message content",
            PERMANENT,
            "bad-form-code",
        ),
        (
            FINAL_DOT,
            "554 5.4.6 Hop count exceeded - possible mail loop",
            PERMANENT,
            "loop-code",
        ),
        (
            FINAL_DOT,
            "421 4.4.2 Connection dropped",
            UNCERTAIN,
            "microsoft-dropped-after-message",
        ),
        (
            MAIL,
            "421 4.4.2 Connection dropped",
            TRANSIENT,
            "server-closing",
        ),
        (
            RCPT,
            "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required; Delivery restriction check failed because the sender was not authenticated",
            PERMANENT,
            "recipient-restricted",
        ),
        // Other replies of Exchange.
        (
            AUTH,
            "501 5.5.4 Authentication cancelled",
            SUSPEND,
            "login-kind-unknown",
        ),
        (
            AUTH,
            "504 5.7.4 Unrecognized authentication type",
            SUSPEND,
            "login-kind-unknown",
        ),
        (
            AUTH,
            "503 5.5.2 Send hello first",
            SUSPEND,
            "login-kind-unknown",
        ),
        (
            HELLO,
            "500 5.3.3 Unrecognized command",
            TRANSIENT,
            "hello-refused",
        ),
        (
            FINAL_DOT,
            "451 4.7.0 Timeout waiting for client input",
            TRANSIENT,
            "not-now",
        ),
        (
            FINAL_DOT,
            "452 4.3.1 Insufficient system resources",
            TRANSIENT,
            "server-short-of-space",
        ),
        (
            HELLO,
            "421 4.3.2 Service not available",
            TRANSIENT,
            "hello-busy",
        ),
        (
            MESSAGE,
            "421 4.3.2 Service not available",
            TRANSIENT,
            "server-closing",
        ),
        (
            RCPT,
            "503 5.5.2 Need mail command",
            PERMANENT,
            "rcpt-refused",
        ),
        (
            RCPT,
            "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)",
            PERMANENT,
            "rcpt-not-here",
        ),
        (
            RCPT,
            "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
            PERMANENT,
            "no-such-recipient-code",
        ),
    ]);
}

#[test]
fn google() {
    check(&[
        (
            AUTH,
            "535-5.7.8 Username and Password not accepted. For more information, go to\n535 5.7.8  https://support.google.com/mail/?p=BadCredentials 5b1f17b1804b1 - gsmtp",
            SUSPEND,
            "google-credentials-wrong",
        ),
        (
            AUTH,
            "534-5.7.9 Application-specific password required. For more information, go to\n534 5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor 5b1f - gsmtp",
            SUSPEND,
            "google-app-password-needed",
        ),
        (
            AUTH,
            "534-5.7.14 <https://accounts.google.com/signin/continue?sarp=1&scc=1&plt=AKgnsb> Please\n534-5.7.14 log in via your web browser and then try again.\n534 5.7.14  Learn more at https://support.google.com/mail/answer/78754 - gsmtp",
            SUSPEND,
            "google-browser-login-needed",
        ),
        (
            AUTH,
            "534 5.7.14 other words",
            SUSPEND,
            "google-browser-login-needed-code",
        ),
        (
            AUTH,
            "454 4.7.0 Too many login attempts, please try again later. 5b1f - gsmtp",
            QUARTER_HOUR,
            "too-many-logins",
        ),
        (
            HELLO,
            "421 4.7.0 Try again later, closing connection. (EHLO) 5b1f - gsmtp",
            TRANSIENT,
            "hello-busy",
        ),
        (
            MESSAGE,
            "421 4.7.0 Try again later, closing connection. (MAIL) 5b1f - gsmtp",
            TRANSIENT,
            "server-closing",
        ),
        (
            MESSAGE,
            "421 4.3.0 Temporary System Problem.  Try again later (10). 5b1f - gsmtp",
            TRANSIENT,
            "server-closing",
        ),
        (
            FINAL_DOT,
            "451 4.3.0 Mail server temporarily rejected message. 5b1f - gsmtp",
            TRANSIENT,
            "not-now",
        ),
        (
            FINAL_DOT,
            "550-5.4.5 Daily user sending limit exceeded. For more information on Gmail\n550-5.4.5 sending limits go to\n550 5.4.5  https://support.google.com/a/answer/166852 5b1f - gsmtp",
            DAILY,
            "daily-limit-code",
        ),
        (
            RCPT,
            "550 5.7.1 Daily SMTP relay limit exceeded for user. 5b1f - gsmtp",
            DAILY,
            "google-daily-limit",
        ),
        (
            TO_SOMEONE,
            "452 4.2.2 The email account that you tried to reach is over quota. Please direct the recipient to https://support.google.com/mail/?p=OverQuotaTemp - gsmtp",
            TRANSIENT,
            "mailbox-full-now-code",
        ),
        (
            TO_SOMEONE,
            "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered. - gsmtp",
            TRANSIENT,
            "recipient-receives-too-much",
        ),
        (
            RCPT,
            "550-5.1.1 The email account that you tried to reach does not exist. Please try\n550-5.1.1 double-checking the recipient's email address for typos or\n550-5.1.1 unnecessary spaces. For more information, go to\n550 5.1.1  https://support.google.com/mail/?p=NoSuchUser 5b1f - gsmtp",
            PERMANENT,
            "no-such-recipient-code",
        ),
        (
            FINAL_DOT,
            "552-5.7.0 This message was blocked because its content presents a potential security issue. Please visit\n552 5.7.0  https://support.google.com/mail/?p=BlockedMessage - gsmtp",
            PERMANENT,
            "google-content-blocked",
        ),
        (
            FINAL_DOT,
            "552-5.3.4 Your message exceeded Google's message size limits. Please visit\n552 5.3.4  https://support.google.com/mail/?p=MaxSizeError - gsmtp",
            PERMANENT,
            "too-big-code",
        ),
        (
            FINAL_DOT,
            "552 5.2.3 Your message exceeded Google's message size limits. - gsmtp",
            PERMANENT,
            "too-big-code",
        ),
        (
            MAIL,
            "555 5.5.2 Syntax error. 5b1f - gsmtp",
            PERMANENT,
            "mail-refused",
        ),
        (
            HELLO,
            "501 5.5.4 Empty HELO/EHLO argument not allowed, closing connection.",
            TRANSIENT,
            "hello-name-refused",
        ),
        (
            FINAL_DOT,
            "550-5.7.1 The user or domain that you are sending to (or from) has a policy that\n550-5.7.1 prohibited the mail that you sent. Please contact your domain administrator\n550 5.7.1 for further details. https://support.google.com/a/answer/172179 - gcdp",
            PERMANENT,
            "google-policy",
        ),
        (
            MAIL,
            "550-5.7.1 Invalid credentials for relay [203.0.113.5]. The IP address you've\n550 5.7.1 registered in your Workspace SMTP Relay service doesn't match. - gsmtp",
            SUSPEND,
            "google-relay-refused",
        ),
        (
            HELLO,
            "503 5.5.1 EHLO/HELO first. 5b1f - gsmtp",
            TRANSIENT,
            "hello-name-refused",
        ),
        (
            MAIL,
            "503 5.5.1 EHLO/HELO first. 5b1f - gsmtp",
            PERMANENT,
            "mail-refused",
        ),
        (
            MAIL,
            "530-5.7.0 Authentication Required. For more information, go to\n530 5.7.0  https://support.google.com/mail/?p=WantAuthError 5b1f - gsmtp",
            SUSPEND,
            "login-needed-code",
        ),
        (
            MAIL,
            "530 5.7.0 Must issue a STARTTLS command first. 5b1f - gsmtp",
            SUSPEND,
            "encryption-needed",
        ),
        (
            FINAL_DOT,
            "550-5.7.26 Your email has been blocked because the sender is unauthenticated.\n550 5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM. - gsmtp",
            PERMANENT,
            "not-authentic-code",
        ),
    ]);
}

#[test]
fn sending_services() {
    check(&[
        (
            MESSAGE,
            "454 Throttling failure: Maximum sending rate exceeded.",
            TEN_SECONDS,
            "amazon-sending-rate",
        ),
        (
            MESSAGE,
            "454 Throttling failure: Daily message quota exceeded.",
            DAILY,
            "amazon-daily-quota",
        ),
        (
            FINAL_DOT,
            "451 Timeout waiting for data from client",
            TRANSIENT,
            "not-now",
        ),
        (
            AUTH,
            "454 Temporary authentication failure",
            TRANSIENT,
            "login-check-unavailable",
        ),
        (
            AUTH,
            "535 Authentication Credentials Invalid",
            SUSPEND,
            "login-wrong",
        ),
        (
            FINAL_DOT,
            "554 Message rejected: Email address is not verified. The following identities failed the check in region EU-CENTRAL-1: a@acme.example",
            SENDER,
            "sender-not-verified",
        ),
        (
            MESSAGE,
            "550 Unauthenticated senders not allowed",
            SUSPEND,
            "sendgrid-not-logged-in",
        ),
        (
            FINAL_DOT,
            "550 The from address does not match a verified Sender Identity. Mail cannot be sent until this error is resolved.",
            SENDER,
            "sender-not-verified",
        ),
        (
            AUTH,
            "451 Authentication failed: Maximum credits exceeded",
            DAILY,
            "credits-used-up",
        ),
    ]);
}

#[test]
fn german_and_other_providers() {
    check(&[
        (
            AUTH,
            "535 Authentication credentials invalid",
            SUSPEND,
            "login-wrong",
        ),
        (
            RCPT,
            "550-Requested action not taken: mailbox unavailable\n550 Failure sending mail. Try again later",
            HALF_HOUR,
            "united-internet-limit",
        ),
        (
            MESSAGE,
            "550 Sender address is not allowed.",
            SENDER,
            "sender-not-allowed",
        ),
        (
            MESSAGE,
            "550-Requested action not taken: mailbox unavailable\n550 Sender address is not allowed",
            SENDER,
            "sender-not-allowed",
        ),
        (
            MESSAGE,
            "550 Requested action not taken: mailbox unavailable  Sender address is not allowed",
            SENDER,
            "sender-not-allowed",
        ),
        (
            RCPT,
            "550 Requested action not taken: mailbox unavailable",
            PERMANENT,
            "rcpt-not-here",
        ),
        (
            FINAL_DOT,
            "554-Transaction failed\n554-Reject due to policy restrictions.\n554 For explanation visit https://postmaster.1und1.de/de/case?c=hi&i=ip&v=203.0.113.5&r=0M1",
            PERMANENT,
            "united-internet-bad-header",
        ),
        (
            HELLO,
            "554-gmx.net (mxgmx114) Nemesis ESMTP Service not available\n554-No SMTP service\n554-IP address is block listed.\n554 For explanation visit https://postmaster.gmx.net/de/case?c=r0103",
            TRANSIENT,
            "hello-blocked",
        ),
        (
            RCPT,
            "553 5.7.1 <a@acme.example>: Sender address rejected: not owned by user x",
            SENDER,
            "sender-refused",
        ),
        (
            RCPT,
            "553 5.7.1 <a@acme.example>: Sender address rejected: not logged in",
            SUSPEND,
            "sender-needs-login",
        ),
        (
            MESSAGE,
            "501 mail from address must be same as authorization user",
            SENDER,
            "sender-refused",
        ),
        (
            MESSAGE,
            "550 5.5.0 Emetteur invalide. Invalid Sender. LPN104_415",
            SENDER,
            "sender-refused",
        ),
    ]);
}

#[test]
fn words_that_many_use() {
    check(&[
        // rate and quota
        (
            MESSAGE,
            "550 5.7.1 Rate limit reached for this account",
            HALF_HOUR,
            "too-fast",
        ),
        (
            MESSAGE,
            "554 5.7.0 Too many messages from you",
            HALF_HOUR,
            "too-fast",
        ),
        (
            MESSAGE,
            "550 Domain acme.example has exceeded the max emails per hour (150/150) allowed. Message discarded.",
            HALF_HOUR,
            "too-fast",
        ),
        (
            MESSAGE,
            "550 Hourly limit of this mailbox reached",
            HALF_HOUR,
            "sending-quota",
        ),
        (
            MESSAGE,
            "554 5.7.1 <x@y.example>: Recipient address rejected: Policy rejection on account: quota exceeded",
            HALF_HOUR,
            "sending-quota-by-policy",
        ),
        (
            &[Stage::Mail, Stage::Data, Stage::FinalDot],
            "550 quota exceeded",
            HALF_HOUR,
            "too-fast",
        ),
        (MESSAGE, "554 Please try again later", HALF_HOUR, "too-fast"),
        (
            MESSAGE,
            "550 Too many attempts, wait a while",
            HALF_HOUR,
            "too-many-in-a-time",
        ),
        (
            MESSAGE,
            "550 Too many recipients today",
            HALF_HOUR,
            "too-many-recipients-in-a-time",
        ),
        (
            RCPT,
            "550 Too many invalid recipients, try again later",
            HALF_HOUR,
            "too-many-bad-recipients",
        ),
        (
            MESSAGE,
            "554 5.7.1 <a@acme.example>: Sender address rejected: rate limit exceeded",
            HALF_HOUR,
            "too-fast",
        ),
        // and what is none
        (
            RCPT,
            "550 5.1.1 <b@c.example>: Recipient address rejected: User unknown in virtual mailbox table",
            PERMANENT,
            "no-such-recipient-code",
        ),
        (
            RCPT,
            "550 5.1.1 no such person, too many wrong addresses, quota, try again later",
            PERMANENT,
            "no-such-recipient-code",
        ),
        (
            RCPT,
            "550 No such user here; try again later",
            PERMANENT,
            "no-such-recipient",
        ),
        (
            MESSAGE,
            "552 5.3.4 Message size limit exceeded",
            PERMANENT,
            "too-big-code",
        ),
        (MESSAGE, "552 size limit exceeded", PERMANENT, "too-big"),
        (
            MESSAGE,
            "552 Message exceeds fixed maximum message size",
            PERMANENT,
            "too-big",
        ),
        (
            MESSAGE,
            "552 5.2.2 Mailbox is over quota",
            PERMANENT,
            "mailbox-full-code",
        ),
        (TO_SOMEONE, "552 Mailbox full", PERMANENT, "mailbox-full"),
        (RCPT, "550 quota exceeded", PERMANENT, "recipient-quota"),
        (
            RCPT,
            "552 5.2.2 <b@c.example> Quota exceeded (mailbox for user is full)",
            PERMANENT,
            "mailbox-full-code",
        ),
        (FINAL_DOT, "552 Quota exceeded", PERMANENT, "content-quota"),
        (
            TO_SOMEONE,
            "452 4.2.2 Mailbox over quota",
            TRANSIENT,
            "mailbox-full-now-code",
        ),
        (
            TO_SOMEONE,
            "452 mailbox over quota",
            TRANSIENT,
            "mailbox-full-now",
        ),
        (
            FINAL_DOT,
            "554 5.7.1 Message was identified as spam, try again later",
            PERMANENT,
            "suspected-spam",
        ),
        (
            FINAL_DOT,
            "550 Maximum line length exceeded, limit exceeded",
            PERMANENT,
            "header-too-complex",
        ),
        (FINAL_DOT, "554 too many hops", PERMANENT, "loop"),
        (
            FINAL_DOT,
            "554 Corporate moderator separated",
            PERMANENT,
            "content-refused",
        ),
        // the number of recipients
        (
            RCPT,
            "452 4.5.3 Too many recipients",
            TRANSIENT,
            "too-many-recipients-now-code",
        ),
        (
            RCPT,
            "452 Too many recipients",
            TRANSIENT,
            "too-many-recipients-now",
        ),
        (
            RCPT,
            "552 Too many recipients",
            TRANSIENT,
            "too-many-recipients",
        ),
        (
            RCPT,
            "550 5.5.3 Too many recipients",
            TRANSIENT,
            "too-many-recipients",
        ),
        (
            RCPT,
            "552 Requested mail action aborted: exceeded storage allocation",
            TRANSIENT,
            "rcpt-552-as-452",
        ),
        (RCPT, "552", TRANSIENT, "rcpt-552-as-452"),
        (
            FINAL_DOT,
            "554 5.5.3 Too many recipients",
            PERMANENT,
            "too-many-recipients-for-message",
        ),
        // the sender
        (
            MAIL,
            "550 5.1.8 <a@b.invalid>: Sender address rejected: Domain not found",
            SENDER,
            "sender-domain-code",
        ),
        (RCPT, "550 Sender verify failed", SENDER, "sender-domain"),
        (
            MAIL,
            "553 Domain of sender address a@b.invalid does not exist",
            SENDER,
            "sender-domain",
        ),
        (
            MESSAGE,
            "554 5.7.1 Sender <a@acme.example> denied",
            SENDER,
            "sender-denied",
        ),
        (
            MESSAGE,
            "550 SendAsDenied",
            SENDER,
            "microsoft-not-allowed-as-sender",
        ),
        (
            MESSAGE,
            "550 You are not permitted to send from this address",
            SENDER,
            "sender-refused",
        ),
        (
            MESSAGE,
            "554 5.7.1 <x@y.example>: Recipient address rejected: Sender is not same as SMTP authenticate username",
            SENDER,
            "sender-refused",
        ),
        (
            RCPT,
            "550 5.7.1 You are not allowed to send to this group",
            PERMANENT,
            "recipient-takes-not-from-all",
        ),
        (MAIL, "553 5.1.0 no", SENDER, "mail-sender-not-valid"),
        (
            MAIL,
            "450 4.1.8 <a@b.invalid>: Sender address rejected: Domain not found",
            TRANSIENT,
            "sender-not-now",
        ),
        // the login
        (
            MESSAGE,
            "530 5.7.0 Authentication required",
            SUSPEND,
            "login-needed-code",
        ),
        (
            MESSAGE,
            "535 credentials no longer valid",
            SUSPEND,
            "login-refused-late",
        ),
        (
            MESSAGE,
            "534 password too old",
            SUSPEND,
            "login-refused-late",
        ),
        (MAIL, "530 anything", SUSPEND, "login-needed-code"),
        (
            MAIL,
            "503 5.5.4 Error: send AUTH command first.",
            SUSPEND,
            "login-needed",
        ),
        (
            RCPT,
            "550 SMTP authentication required",
            SUSPEND,
            "login-needed",
        ),
        (
            RCPT,
            "554 5.7.1 <x@y.example>: Relay access denied",
            PERMANENT,
            "relaying-denied",
        ),
        (
            RCPT,
            "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
            PERMANENT,
            "relaying-denied",
        ),
        (
            AUTH,
            "538 5.7.11 Encryption required for requested authentication mechanism",
            SUSPEND,
            "encryption-needed",
        ),
        (MESSAGE, "538 5.7.11 no", SUSPEND, "encryption-needed-code"),
        (
            AUTH,
            "432 4.7.12 A password transition is needed",
            TRANSIENT,
            "password-change-needed",
        ),
        // 5.7.30 by RFC 8689, not Microsoft's
        (
            MESSAGE,
            "550 5.7.30 REQUIRETLS support required",
            PERMANENT,
            "requiretls",
        ),
        // addresses beyond ASCII
        (
            MESSAGE,
            "553 5.6.7 Non-ASCII addresses not permitted for that sender/recipient",
            PERMANENT,
            "umlaut-address-code",
        ),
        (
            MESSAGE,
            "550 SMTPUTF8 required",
            PERMANENT,
            "umlaut-address",
        ),
        // later
        (
            RCPT,
            "450 4.2.0 <x@y.example>: Recipient address rejected: Greylisted, see http://postgrey.example",
            TRANSIENT,
            "greylisted",
        ),
        (
            MESSAGE,
            "450 4.7.1 Error: too much mail from 203.0.113.5",
            TRANSIENT,
            "too-fast-now",
        ),
    ]);
}

#[test]
fn code_alone() {
    for (stage, code, class, id) in [
        (Stage::Connect, 554, TRANSIENT, "hello-refused"),
        (Stage::Hello, 554, TRANSIENT, "hello-refused"),
        (Stage::Hello, 550, TRANSIENT, "hello-refused"),
        (Stage::Hello, 421, TRANSIENT, "hello-busy"),
        (Stage::Tls, 454, TRANSIENT, "starttls-refused"),
        (Stage::Tls, 501, TRANSIENT, "starttls-refused"),
        (Stage::Auth, 535, SUSPEND, "login-wrong"),
        (Stage::Auth, 534, SUSPEND, "login-too-weak"),
        (Stage::Auth, 504, SUSPEND, "login-kind-unknown"),
        (Stage::Auth, 503, SUSPEND, "login-kind-unknown"),
        (Stage::Auth, 501, SUSPEND, "login-kind-unknown"),
        (Stage::Auth, 550, SUSPEND, "login-refused"),
        (Stage::Auth, 454, TRANSIENT, "login-not-now"),
        (Stage::Auth, 421, TRANSIENT, "login-not-now"),
        (Stage::Mail, 530, SUSPEND, "login-needed-code"),
        (Stage::Mail, 552, PERMANENT, "mail-too-big"),
        (Stage::Mail, 550, PERMANENT, "mail-refused"),
        (Stage::Mail, 452, TRANSIENT, "server-short-of-space"),
        (Stage::Rcpt, 550, PERMANENT, "rcpt-not-here"),
        (Stage::Rcpt, 556, PERMANENT, "rcpt-domain-takes-no-mail"),
        (Stage::Rcpt, 554, PERMANENT, "rcpt-refused"),
        (Stage::Rcpt, 552, TRANSIENT, "rcpt-552-as-452"),
        (Stage::Rcpt, 450, TRANSIENT, "recipient-not-now"),
        (Stage::Rcpt, 421, TRANSIENT, "server-closing"),
        (Stage::Data, 554, PERMANENT, "content-refused"),
        (Stage::FinalDot, 554, PERMANENT, "content-refused"),
        (Stage::FinalDot, 552, PERMANENT, "content-too-big"),
        (Stage::FinalDot, 451, TRANSIENT, "not-now"),
        (Stage::FinalDot, 421, TRANSIENT, "server-closing"),
        (Stage::Data, 250, TRANSIENT, "unexpected"),
        (Stage::Mail, 0, TRANSIENT, "unexpected"),
        (Stage::Mail, 600, TRANSIENT, "unexpected"),
    ] {
        let (found, row) = reply(stage, code, None, "");
        assert_eq!((found, row.id), (class, id), "{stage:?} {code}");
    }
}

#[test]
fn contradicting_enhanced_code_is_not_believed() {
    assert_eq!(reply(Stage::Rcpt, 450, Some("5.1.1"), "").0, TRANSIENT);
    assert_eq!(
        reply(Stage::FinalDot, 550, Some("4.2.2"), "").1.id,
        "content-refused"
    );
    assert_eq!(
        reply(Stage::FinalDot, 550, Some("x"), "").1.id,
        "content-refused"
    );
    assert_eq!(
        reply(Stage::FinalDot, 550, Some(""), "").1.id,
        "content-refused"
    );
    assert_eq!(
        reply(Stage::FinalDot, 250, None, "5.7.60").1.id,
        "unexpected"
    );
}

#[test]
fn enhanced_codes_are_found() {
    for (text, expected) in [
        ("5.7.60 SMTP; no", Some("5.7.60")),
        ("4.2.2", Some("4.2.2")),
        (" 5.1.1  x", Some("5.1.1")),
        ("5.7.1000 x", None),
        ("5.7. x", None),
        ("5.7.1.2 x", None),
        ("3.7.1 x", None),
        ("203.0.113 x", None),
        ("x 5.1.1", None),
        ("", None),
    ] {
        assert_eq!(leading_enhanced(text), expected, "{text}");
    }
}

#[test]
fn text_is_folded_and_bounded() {
    assert_eq!(fold("  A\t B\r\n\u{a0}\u{c4} "), "a b \u{e4}");
    let long = "\u{c4}".repeat(100_000);
    assert!(fold(&long).len() <= 2 * crate::explain::LONGEST);
    assert!(fold(&"ab ".repeat(100_000)).len() <= crate::explain::LONGEST + 3);
    assert_eq!(
        reply(Stage::FinalDot, 550, None, &long).1.id,
        "content-refused"
    );
}

#[test]
fn needles_keep_their_order() {
    assert!(in_order(&["a", "b"], "xaxbx"));
    assert!(!in_order(&["a", "b"], "xbxax"));
    assert!(!in_order(&["ab", "bc"], "abc"));
    assert!(in_order(&[], ""));
}

#[test]
fn rows_are_sound() {
    let mut ids = HashSet::new();
    for row in ROWS.iter().chain([&OTHERWISE]) {
        let id = row.id;
        assert!(!id.is_empty() && ids.insert(id), "{id}: twice");
        assert!(
            id.bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')),
            "{id}: not kebab-case"
        );
        check_explanation(id, &row.meaning);
        for needle in row.all_of.iter().chain(row.any_of) {
            assert!(!needle.is_empty(), "{id}");
            assert_eq!(*needle, needle.to_lowercase(), "{id}: not lower case");
            assert_eq!(*needle, fold(needle), "{id}: blanks");
        }
        for enhanced in row.enhanced {
            assert_eq!(leading_enhanced(enhanced), Some(*enhanced), "{id}");
            assert!(
                !row.codes.is_empty() && row.codes.iter().all(|code| agrees(enhanced, *code)),
                "{id}: {enhanced} against its basic codes"
            );
        }
    }
}

/// Replies made from a row's own patterns: every alternative of it.
fn samples(row: &Row) -> Vec<(Option<&'static str>, String)> {
    let all = row.all_of.join(" ");
    let texts: Vec<String> = if row.any_of.is_empty() {
        vec![all]
    } else {
        row.any_of
            .iter()
            .map(|any| format!("{all} {any}"))
            .collect()
    };
    let enhanced: Vec<Option<&'static str>> = if row.enhanced.is_empty() {
        vec![None]
    } else {
        row.enhanced.iter().copied().map(Some).collect()
    };
    let mut samples = Vec::new();
    for text in &texts {
        for enhanced in &enhanced {
            samples.push((*enhanced, text.clone()));
        }
    }
    samples
}

#[test]
fn every_alternative_of_every_row_is_reached() {
    for row in ROWS {
        for (enhanced, text) in samples(row) {
            let stages = if row.stages.is_empty() {
                &EVERY_STAGE
            } else {
                row.stages
            };
            let codes = if row.codes.is_empty() {
                FAILURE
            } else {
                row.codes
            };
            let reached = stages.iter().any(|&stage| {
                let few = [codes[0], 450, 550, 552, 553, 554];
                few.iter()
                    .filter(|code| codes.contains(code))
                    .any(|&code| reply(stage, code, enhanced, &text).1.id == row.id)
            });
            assert!(
                reached,
                "{}: {enhanced:?} {text:?} is always taken before",
                row.id
            );
        }
    }
}

#[test]
fn rules_hold_for_any_words() {
    const CODES: [u16; 20] = [
        250, 354, 421, 432, 450, 452, 454, 500, 501, 503, 521, 530, 534, 535, 538, 550, 552, 553,
        554, 599,
    ];
    for row in ROWS {
        for (enhanced, text) in samples(row) {
            for &stage in &EVERY_STAGE[3..] {
                for code in CODES {
                    let (class, found) = reply(stage, code, enhanced, &text);
                    let what = format!("{}: {stage:?} {code} {enhanced:?} {text:?}", found.id);
                    let slow = matches!(class, Class::Slow(_));
                    let early = stage <= Stage::Tls;
                    match code {
                        400..=499 => assert!(
                            class == TRANSIENT
                                || slow
                                || (class == UNCERTAIN && stage == Stage::FinalDot),
                            "{what}: a 4xx is never final"
                        ),
                        500..=599 if early => {
                            assert!(class == TRANSIENT || slow, "{what}: too early");
                        }
                        500..=599 if stage == Stage::Auth => assert!(
                            class == SUSPEND || class == TRANSIENT || slow,
                            "{what}: AUTH never costs a message"
                        ),
                        500..=599 => assert_ne!(class, UNCERTAIN, "{what}"),
                        _ => assert_eq!(class, TRANSIENT, "{what}"),
                    }
                    if slow {
                        assert!(
                            [
                                "quota",
                                "rate",
                                "limit",
                                "throttl",
                                "too many",
                                "too much",
                                "s per",
                                "per ",
                                "max",
                                "later",
                                "again",
                                "credits",
                                "failure sending"
                            ]
                            .iter()
                            .any(|word| text.contains(word))
                                || found.id.ends_with("-code"),
                            "{what}: slow without a word for it"
                        );
                    }
                }
            }
        }
    }
}
