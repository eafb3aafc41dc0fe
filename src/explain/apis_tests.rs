//! Every answer that Microsoft and Google are known to give, with the class that it must have.

use std::collections::HashSet;

use serde_json::Value;

use super::*;
use crate::explain::testing::check_explanation;

const PERMANENT: Class = Class::Permanent;
const SENDER: Class = Class::Sender;
const SUSPEND: Class = Class::Suspend;
const TRANSIENT: Class = Class::Transient;
const UNCERTAIN: Class = Class::Uncertain;
const MICROSOFT: Provider = Provider::Microsoft;
const GOOGLE: Provider = Provider::Google;
const CUSTOM: Provider = Provider::Custom;

/// The tables, for what holds for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Microsoft,
    Google,
    Any,
    Graph,
    Gmail,
}

impl Table {
    const ALL: [Self; 5] = [
        Self::Microsoft,
        Self::Google,
        Self::Any,
        Self::Graph,
        Self::Gmail,
    ];

    fn rows(self) -> &'static [Row] {
        match self {
            Self::Microsoft => MICROSOFT_TOKEN,
            Self::Google => GOOGLE_TOKEN,
            Self::Any => ANY_TOKEN,
            Self::Graph => GRAPH,
            Self::Gmail => GMAIL,
        }
    }

    fn of_a_token_endpoint(self) -> bool {
        !matches!(self, Self::Graph | Self::Gmail)
    }

    /// Asks as those who read this table do.
    fn ask(self, status: u16, code: &str, numbers: &[u32], text: &str) -> &'static Row {
        match self {
            Self::Microsoft => token(MICROSOFT, status, code, text, numbers),
            Self::Google => token(GOOGLE, status, code, text, numbers),
            Self::Any => token(CUSTOM, status, code, text, numbers),
            Self::Graph => graph(status, code, text),
            Self::Gmail => gmail(status, &[code], text),
        }
    }
}

/// All rows, with those that no table holds.
fn every_row() -> Vec<&'static Row> {
    Table::ALL
        .iter()
        .flat_map(|table| table.rows())
        .chain([&TOKEN_OTHERWISE, &GRAPH_OTHERWISE, &GMAIL_OTHERWISE])
        .collect()
}

/// The numbers as they were listed by class (Microsoft's reference of error codes), with the row
/// that each must come to.
const NUMBERS: &[(u32, Class, &str)] = &[
    // a person must sign in again
    (50055, SUSPEND, "entra-password-expired"),
    (50072, SUSPEND, "entra-mfa-enrolment"),
    (50079, SUSPEND, "entra-mfa-enrolment"),
    (50074, SUSPEND, "entra-mfa-required"),
    (50076, SUSPEND, "entra-mfa-required"),
    (50078, SUSPEND, "entra-mfa-expired"),
    (50132, SUSPEND, "entra-sign-in-revoked"),
    (50133, SUSPEND, "entra-sign-in-revoked"),
    (50173, SUSPEND, "entra-sign-in-revoked"),
    (50158, SUSPEND, "entra-external-challenge"),
    (54005, SUSPEND, "entra-code-used-up"),
    (65004, SUSPEND, "entra-consent-declined"),
    (70000, SUSPEND, "entra-sign-in-invalid"),
    (70008, SUSPEND, "entra-sign-in-unused"),
    (700_082, SUSPEND, "entra-sign-in-unused"),
    (700_084, SUSPEND, "entra-sign-in-of-a-web-page"),
    (70043, SUSPEND, "entra-sign-in-frequency"),
    // an administrator of the organisation must act
    (65001, SUSPEND, "entra-consent-missing"),
    (90094, SUSPEND, "entra-admin-consent-needed"),
    (65005, SUSPEND, "entra-permission-not-listed"),
    (650_052, SUSPEND, "entra-service-not-subscribed"),
    (650_056, SUSPEND, "entra-app-misconfigured"),
    (650_057, SUSPEND, "entra-permission-not-listed"),
    (50105, SUSPEND, "entra-user-not-assigned"),
    (50131, SUSPEND, "entra-conditional-access"),
    (53000, SUSPEND, "entra-device-needed"),
    (53001, SUSPEND, "entra-device-needed"),
    (53002, SUSPEND, "entra-app-not-approved"),
    (53003, SUSPEND, "entra-conditional-access"),
    (530_032, SUSPEND, "entra-conditional-access"),
    (530_034, SUSPEND, "entra-account-at-risk"),
    (530_035, SUSPEND, "entra-security-defaults"),
    (50057, SUSPEND, "entra-user-disabled"),
    (50034, SUSPEND, "entra-user-unknown"),
    (50014, SUSPEND, "entra-account-of-another-organisation"),
    (50020, SUSPEND, "entra-account-of-another-organisation"),
    (700_016, SUSPEND, "entra-app-unknown"),
    (70001, SUSPEND, "entra-app-unknown"),
    (7_000_112, SUSPEND, "entra-app-disabled"),
    (500_011, SUSPEND, "entra-service-unknown"),
    (50194, SUSPEND, "entra-app-of-one-organisation"),
    (90002, SUSPEND, "entra-organisation-unknown"),
    (90023, SUSPEND, "entra-common-address-not-allowed"),
    (9_001_023, SUSPEND, "entra-common-address-not-allowed"),
    // our configuration
    (7_000_215, SUSPEND, "entra-secret-wrong"),
    (7_000_222, SUSPEND, "entra-secret-expired"),
    (7_000_218, SUSPEND, "entra-secret-missing"),
    (70002, SUSPEND, "entra-secret-of-another-app"),
    (700_027, SUSPEND, "entra-certificate-not-registered"),
    (700_030, SUSPEND, "entra-certificate-of-another-name"),
    (50012, SUSPEND, "entra-certificate-refused"),
    (50013, SUSPEND, "entra-assertion-refused"),
    (700_025, SUSPEND, "entra-secret-not-wanted"),
    (50011, SUSPEND, "entra-redirect-address"),
    (70011, SUSPEND, "entra-scope-invalid"),
    (28002, SUSPEND, "entra-scope-invalid"),
    (700_022, SUSPEND, "entra-scopes-of-several-services"),
    (70003, SUSPEND, "entra-grant-not-supported"),
    (900_144, SUSPEND, "entra-field-missing"),
    (90014, SUSPEND, "entra-field-missing"),
    (50126, SUSPEND, "entra-password-wrong"),
    (50128, SUSPEND, "entra-organisation-not-named"),
    (50059, SUSPEND, "entra-organisation-not-named"),
    // what mends itself
    (50033, TRANSIENT, "entra-trouble"),
    (50053, HALF_HOUR, "entra-account-locked"),
    (50087, TRANSIENT, "entra-second-factor-trouble"),
    (50088, TRANSIENT, "entra-second-factor-trouble"),
    (50166, TRANSIENT, "entra-second-factor-trouble"),
    (50196, FIVE_MINUTES, "entra-loop"),
    (70012, TRANSIENT, "entra-personal-account-trouble"),
    (80002, TRANSIENT, "entra-own-directory-timeout"),
    (80005, TRANSIENT, "entra-own-directory-timeout"),
    (90006, TRANSIENT, "entra-trouble"),
    (90012, TRANSIENT, "entra-trouble"),
    (90024, TRANSIENT, "entra-trouble"),
    (90033, TRANSIENT, "entra-trouble"),
    (90090, TRANSIENT, "entra-trouble"),
    (90091, TRANSIENT, "entra-trouble"),
    (90055, HALF_MINUTE, "entra-too-many-requests"),
    // the device code
    (70016, TRANSIENT, "entra-code-pending"),
    (70018, SUSPEND, "entra-code-wrong"),
    (70019, SUSPEND, "entra-code-expired"),
    (70020, SUSPEND, "entra-code-expired"),
];

/// Answers of token endpoints: status, `error`, `error_description`.
const TOKEN_ANSWERS: &[(Provider, u16, &str, &str, Class, &str)] = &[
    (
        MICROSOFT,
        400,
        "invalid_grant",
        "AADSTS50076: Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access '00000002-0000-0ff1-ce00-000000000000'. Trace ID: 255d1aef-8c98-452f-ac51-23d051240864 Correlation ID: fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7 Timestamp: 2026-01-09 02:02:12Z",
        SUSPEND,
        "entra-mfa-required",
    ),
    (
        MICROSOFT,
        200,
        "invalid_grant",
        "AADSTS700082: The refresh token has expired due to inactivity. The token was issued on 2026-01-01T00:00:00.0000000Z and was inactive for 90.00:00:00.",
        SUSPEND,
        "entra-sign-in-unused",
    ),
    (
        MICROSOFT,
        401,
        "invalid_client",
        "AADSTS7000222: The provided client secret keys for app '4d6f1f4e-0a5e-4f3e-8d6a-2c6c0a5d9f11' are expired.\r\nTrace ID: 255d1aef-8c98-452f-ac51-23d051240864\r\nCorrelation ID: fb3d2015",
        SUSPEND,
        "entra-secret-expired",
    ),
    (
        MICROSOFT,
        0,
        "invalid_request",
        "AADSTS50011: The redirect URI 'http://localhost:8080' does not match",
        SUSPEND,
        "entra-redirect-address",
    ),
    (
        MICROSOFT,
        400,
        "invalid_grant",
        "AADSTS90033: A transient error has occurred. Please try again.",
        TRANSIENT,
        "entra-trouble",
    ),
    // known errors without a known number
    (
        MICROSOFT,
        400,
        "invalid_grant",
        "AADSTS999999: Something new.",
        SUSPEND,
        "entra-sign-in-needed",
    ),
    (
        MICROSOFT,
        400,
        "interaction_required",
        "",
        SUSPEND,
        "entra-sign-in-needed",
    ),
    (
        MICROSOFT,
        0,
        "login_required",
        "",
        SUSPEND,
        "entra-sign-in-needed",
    ),
    (
        MICROSOFT,
        400,
        "consent_required",
        "",
        SUSPEND,
        "entra-consent-needed",
    ),
    (
        MICROSOFT,
        401,
        "invalid_client",
        "AADSTS999999: Something new.",
        SUSPEND,
        "entra-app-not-accepted",
    ),
    (
        MICROSOFT,
        400,
        "unauthorized_client",
        "",
        SUSPEND,
        "entra-app-not-allowed",
    ),
    (
        MICROSOFT,
        400,
        "invalid_resource",
        "AADSTS999999: Something new.",
        TRANSIENT,
        "oauth-service-unknown",
    ),
    (
        MICROSOFT,
        400,
        "invalid_request",
        "AADSTS999999: Something new.",
        TRANSIENT,
        "oauth-request-refused",
    ),
    (
        MICROSOFT,
        400,
        "temporarily_unavailable",
        "",
        TRANSIENT,
        "oauth-unavailable",
    ),
    (
        MICROSOFT,
        0,
        "server_error",
        "",
        TRANSIENT,
        "oauth-unavailable",
    ),
    (
        MICROSOFT,
        0,
        "access_denied",
        "the user canceled the authentication",
        SUSPEND,
        "oauth-declined",
    ),
    (
        MICROSOFT,
        0,
        "permission_denied",
        "The admin canceled the request",
        SUSPEND,
        "oauth-declined",
    ),
    // the device code
    (
        MICROSOFT,
        400,
        "authorization_pending",
        "AADSTS70016: OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
        TRANSIENT,
        "entra-code-pending",
    ),
    (
        CUSTOM,
        400,
        "authorization_pending",
        "",
        TRANSIENT,
        "oauth-code-pending",
    ),
    (
        CUSTOM,
        428,
        "authorization_pending",
        "",
        TRANSIENT,
        "oauth-code-pending",
    ),
    (
        MICROSOFT,
        400,
        "slow_down",
        "",
        TRANSIENT,
        "oauth-code-slow-down",
    ),
    (
        MICROSOFT,
        400,
        "authorization_declined",
        "",
        SUSPEND,
        "oauth-declined",
    ),
    (CUSTOM, 400, "access_denied", "", SUSPEND, "oauth-declined"),
    (
        CUSTOM,
        400,
        "bad_verification_code",
        "",
        SUSPEND,
        "oauth-code-wrong",
    ),
    (
        CUSTOM,
        400,
        "expired_token",
        "",
        SUSPEND,
        "oauth-code-expired",
    ),
    // Google
    (
        GOOGLE,
        400,
        "invalid_grant",
        "Token has been expired or revoked.",
        SUSPEND,
        "google-sign-in-ended",
    ),
    (
        GOOGLE,
        400,
        "invalid_grant",
        "Bad Request",
        SUSPEND,
        "google-sign-in-needed",
    ),
    (
        GOOGLE,
        400,
        "invalid_grant",
        "Invalid JWT Signature.",
        SUSPEND,
        "google-service-account-key",
    ),
    (
        GOOGLE,
        400,
        "invalid_grant",
        "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.",
        TRANSIENT,
        "google-clock",
    ),
    (
        GOOGLE,
        400,
        "invalid_grant",
        "Invalid email or User ID",
        SUSPEND,
        "google-mailbox-unknown",
    ),
    (
        GOOGLE,
        401,
        "unauthorized_client",
        "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the scopes requested.",
        SUSPEND,
        "google-delegation-missing",
    ),
    (
        GOOGLE,
        401,
        "invalid_client",
        "The OAuth client was not found.",
        SUSPEND,
        "google-client-unknown",
    ),
    (
        GOOGLE,
        401,
        "deleted_client",
        "The OAuth client was deleted.",
        SUSPEND,
        "google-client-deleted",
    ),
    (
        GOOGLE,
        400,
        "redirect_uri_mismatch",
        "Bad Request",
        SUSPEND,
        "google-redirect-address",
    ),
    (
        GOOGLE,
        400,
        "invalid_request",
        "Missing required parameter: grant_type",
        SUSPEND,
        "google-request-refused",
    ),
    (
        GOOGLE,
        400,
        "invalid_scope",
        "",
        SUSPEND,
        "google-scope-invalid",
    ),
    (
        GOOGLE,
        0,
        "access_denied",
        "",
        SUSPEND,
        "google-access-denied",
    ),
    (
        GOOGLE,
        0,
        "admin_policy_enforced",
        "",
        SUSPEND,
        "google-admin-policy",
    ),
    (
        GOOGLE,
        0,
        "org_internal",
        "",
        SUSPEND,
        "google-internal-app",
    ),
    (
        GOOGLE,
        403,
        "disallowed_useragent",
        "",
        SUSPEND,
        "google-browser-refused",
    ),
    (
        GOOGLE,
        500,
        "internal_failure",
        "",
        TRANSIENT,
        "oauth-server-trouble",
    ),
    (
        GOOGLE,
        429,
        "rate_limit_exceeded",
        "",
        HALF_MINUTE,
        "oauth-too-many-requests",
    ),
    // any provider (RFC 6749, section 5.2)
    (
        CUSTOM,
        400,
        "invalid_request",
        "",
        TRANSIENT,
        "oauth-request-refused",
    ),
    (
        CUSTOM,
        401,
        "invalid_client",
        "",
        SUSPEND,
        "oauth-client-refused",
    ),
    (
        CUSTOM,
        401,
        "deleted_client",
        "",
        SUSPEND,
        "oauth-client-refused",
    ),
    (
        CUSTOM,
        400,
        "invalid_grant",
        "",
        SUSPEND,
        "oauth-sign-in-needed",
    ),
    (
        CUSTOM,
        400,
        "unauthorized_client",
        "",
        SUSPEND,
        "oauth-client-not-allowed",
    ),
    (
        CUSTOM,
        400,
        "unsupported_grant_type",
        "",
        SUSPEND,
        "oauth-grant-not-supported",
    ),
    (
        CUSTOM,
        400,
        "invalid_scope",
        "",
        SUSPEND,
        "oauth-scope-invalid",
    ),
    (
        CUSTOM,
        400,
        "interaction_required",
        "",
        SUSPEND,
        "oauth-interaction-needed",
    ),
    (
        CUSTOM,
        400,
        "consent_required",
        "",
        SUSPEND,
        "oauth-consent-needed",
    ),
    (
        CUSTOM,
        400,
        "redirect_uri_mismatch",
        "",
        SUSPEND,
        "oauth-redirect-address",
    ),
    (
        CUSTOM,
        400,
        "invalid_target",
        "",
        TRANSIENT,
        "oauth-service-unknown",
    ),
    // the status alone
    (MICROSOFT, 200, "", "", TRANSIENT, "oauth-no-token"),
    (MICROSOFT, 204, "", "", TRANSIENT, "oauth-no-token"),
    (MICROSOFT, 302, "", "", TRANSIENT, "oauth-redirected"),
    (
        MICROSOFT,
        401,
        "",
        "",
        TRANSIENT,
        "oauth-refused-without-reason",
    ),
    (
        MICROSOFT,
        403,
        "",
        "",
        TRANSIENT,
        "oauth-refused-without-reason",
    ),
    (MICROSOFT, 404, "", "", TRANSIENT, "oauth-address-wrong"),
    (MICROSOFT, 405, "", "", TRANSIENT, "oauth-address-wrong"),
    (
        MICROSOFT,
        429,
        "",
        "",
        HALF_MINUTE,
        "oauth-too-many-requests",
    ),
    (MICROSOFT, 500, "", "", TRANSIENT, "oauth-server-trouble"),
    (MICROSOFT, 503, "", "", TRANSIENT, "oauth-server-trouble"),
    (MICROSOFT, 504, "", "", TRANSIENT, "oauth-server-trouble"),
    (MICROSOFT, 400, "", "", TRANSIENT, "oauth-unexpected"),
    (CUSTOM, 0, "", "", TRANSIENT, "oauth-unexpected"),
    (
        CUSTOM,
        400,
        "something_new",
        "",
        TRANSIENT,
        "oauth-unexpected",
    ),
];

/// Answers of Microsoft Graph: status, `error.code`, `error.message`.
const GRAPH_ANSWERS: &[(u16, &str, &str, Class, &str)] = &[
    (
        401,
        "InvalidAuthenticationToken",
        "Access token has expired or is not yet valid.",
        SUSPEND,
        "graph-token-refused",
    ),
    (
        401,
        "InvalidAuthenticationToken",
        "Access token validation failure. Invalid audience.",
        SUSPEND,
        "graph-token-for-another-service",
    ),
    (401, "", "", SUSPEND, "graph-token-refused"),
    (
        403,
        "ErrorAccessDenied",
        "Access is denied. Check credentials and try again.",
        SUSPEND,
        "graph-access-denied",
    ),
    (
        403,
        "Authorization_RequestDenied",
        "Insufficient privileges to complete the operation.",
        SUSPEND,
        "graph-permission-missing",
    ),
    (
        403,
        "ErrorSendAsDenied",
        "The user account which was used to submit this request does not have the right to send mail on behalf of the specified sending account. Cannot submit message.",
        SENDER,
        "graph-send-as-denied",
    ),
    (
        404,
        "ErrorInvalidUser",
        "The requested user 'office@acme.example' is invalid.",
        SUSPEND,
        "graph-mailbox-unknown",
    ),
    (
        404,
        "ResourceNotFound",
        "",
        SUSPEND,
        "graph-mailbox-unknown",
    ),
    (
        404,
        "Request_ResourceNotFound",
        "Resource 'office@acme.example' does not exist or one of its queried reference-property objects are not present.",
        SUSPEND,
        "graph-mailbox-unknown",
    ),
    (404, "MailboxNotFound", "", SUSPEND, "graph-mailbox-unknown"),
    (
        404,
        "ErrorNonExistentMailbox",
        "The SMTP address has no mailbox associated with it.",
        SUSPEND,
        "graph-mailbox-unknown",
    ),
    (
        404,
        "MailboxNotEnabledForRESTAPI",
        "REST API is not yet supported for this mailbox.",
        SUSPEND,
        "graph-mailbox-not-in-cloud",
    ),
    (
        400,
        "MailboxNotEnabledForRESTAPI",
        "REST API is not yet supported for this mailbox.",
        SUSPEND,
        "graph-mailbox-not-in-cloud",
    ),
    (
        400,
        "ErrorInvalidRecipients",
        "At least one recipient is not valid., A message can't be sent because it contains no recipients.",
        PERMANENT,
        "graph-no-recipient",
    ),
    (
        400,
        "ErrorInvalidRecipients",
        "At least one recipient is not valid.",
        PERMANENT,
        "graph-recipient-invalid",
    ),
    (
        400,
        "ErrorInvalidRecipientSomething",
        "",
        PERMANENT,
        "graph-recipient-invalid",
    ),
    (
        400,
        "ErrorMimeContentInvalidBase64String",
        "Invalid base64 string for MIME content.",
        PERMANENT,
        "graph-mime-invalid",
    ),
    (
        400,
        "ErrorMimeContentInvalid",
        "",
        PERMANENT,
        "graph-mime-invalid",
    ),
    (
        400,
        "InvalidInternetMessageHeader",
        "The internet message header name 'In-Reply-To' should start with 'x-' or 'X-'.",
        PERMANENT,
        "graph-header-invalid",
    ),
    (
        400,
        "InvalidInternetMessageHeaderCollection",
        "",
        PERMANENT,
        "graph-header-invalid",
    ),
    (
        400,
        "UnableToDeserializePostBody",
        "were unable to deserialize",
        PERMANENT,
        "graph-body-unreadable",
    ),
    (
        400,
        "RequestBodyRead",
        "",
        PERMANENT,
        "graph-body-unreadable",
    ),
    (
        400,
        "BadRequest",
        "The maximum request length supported is 4MB.",
        PERMANENT,
        "graph-request-too-large",
    ),
    (
        413,
        "",
        "Request Entity Too Large",
        PERMANENT,
        "graph-request-too-large",
    ),
    (413, "", "", PERMANENT, "graph-request-too-large"),
    (
        413,
        "UnknownError",
        "",
        PERMANENT,
        "graph-request-too-large",
    ),
    (
        400,
        "ErrorMessageSizeExceeded",
        "The message exceeds the maximum supported size.",
        PERMANENT,
        "graph-message-too-large",
    ),
    (
        403,
        "ErrorMessageSizeExceeded",
        "",
        PERMANENT,
        "graph-message-too-large",
    ),
    (
        413,
        "ErrorMessageSizeExceeded",
        "",
        PERMANENT,
        "graph-message-too-large",
    ),
    (
        400,
        "ErrorExceededMaxRecipientLimitPerMessage",
        "",
        PERMANENT,
        "graph-too-many-recipients",
    ),
    (
        403,
        "ErrorExceededMessageLimit",
        "Cannot send mail. Daily Message/Recipient limit exceeded. Follow the instructions in your Inbox to verify your account.",
        HOUR,
        "graph-daily-limit",
    ),
    (
        429,
        "ErrorExceededMessageLimit",
        "",
        HOUR,
        "graph-daily-limit",
    ),
    (
        403,
        "ErrorSubmissionQuotaExceeded",
        "",
        HOUR,
        "graph-daily-limit",
    ),
    (
        403,
        "ErrorMessageSubmissionBlocked",
        "",
        HOUR,
        "graph-submission-blocked",
    ),
    (
        403,
        "ErrorAccountSuspend",
        "",
        SUSPEND,
        "graph-account-suspended",
    ),
    (507, "ErrorQuotaExceeded", "", SUSPEND, "graph-mailbox-full"),
    (403, "ErrorQuotaExceeded", "", SUSPEND, "graph-mailbox-full"),
    (
        429,
        "ApplicationThrottled",
        "Application is over its MailboxConcurrency limit.",
        HALF_MINUTE,
        "graph-throttled",
    ),
    (429, "TooManyRequests", "", HALF_MINUTE, "graph-throttled"),
    (
        429,
        "activityLimitReached",
        "",
        HALF_MINUTE,
        "graph-throttled",
    ),
    (
        429,
        "UnknownError",
        "",
        HALF_MINUTE,
        "graph-too-many-requests",
    ),
    (429, "", "", HALF_MINUTE, "graph-too-many-requests"),
    (503, "serviceNotAvailable", "", TRANSIENT, "graph-busy"),
    (503, "ErrorServerBusy", "", TRANSIENT, "graph-busy"),
    (
        500,
        "ErrorInternalServerTransientError",
        "",
        TRANSIENT,
        "graph-busy",
    ),
    (500, "UnknownError", "", TRANSIENT, "graph-server-trouble"),
    (502, "UnknownError", "", UNCERTAIN, "graph-gateway-timeout"),
    (
        503,
        "",
        "<html>Service Unavailable</html>",
        TRANSIENT,
        "graph-server-trouble",
    ),
    (504, "UnknownError", "", UNCERTAIN, "graph-gateway-timeout"),
    (
        504,
        "ErrorServerBusy",
        "",
        UNCERTAIN,
        "graph-gateway-timeout",
    ),
    // drafts and upload sessions
    (
        404,
        "ErrorItemNotFound",
        "The specified object was not found in the store.",
        TRANSIENT,
        "graph-item-not-found",
    ),
    (
        400,
        "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize",
        "",
        PERMANENT,
        "graph-upload-too-small",
    ),
    (416, "", "", TRANSIENT, "graph-upload-range"),
    (416, "InvalidRange", "", TRANSIENT, "graph-upload-range"),
    (410, "", "", TRANSIENT, "graph-upload-expired"),
    // what nobody listed
    (408, "", "", TRANSIENT, "graph-request-timeout"),
    (
        400,
        "ErrorSomethingNew",
        "New words.",
        PERMANENT,
        "graph-refused",
    ),
    (
        403,
        "ErrorSomethingNew",
        "New words.",
        PERMANENT,
        "graph-refused",
    ),
    (404, "ErrorSomethingNew", "", PERMANENT, "graph-refused"),
    (400, "", "", TRANSIENT, "graph-not-from-graph"),
    (
        507,
        "ErrorSomethingNew",
        "",
        TRANSIENT,
        "graph-server-trouble",
    ),
    (
        404,
        "",
        "<html>not found</html>",
        TRANSIENT,
        "graph-not-from-graph",
    ),
    (
        403,
        "",
        "<html>blocked by the firewall</html>",
        TRANSIENT,
        "graph-not-from-graph",
    ),
    (302, "", "", TRANSIENT, "graph-redirected"),
    (
        200,
        "",
        "<html>please log in</html>",
        TRANSIENT,
        "graph-not-accepted",
    ),
    (
        200,
        "ErrorSomethingNew",
        "",
        TRANSIENT,
        "graph-not-accepted",
    ),
    (0, "", "", TRANSIENT, "graph-unexpected"),
    (600, "", "", TRANSIENT, "graph-unexpected"),
];

/// Answers of the Gmail API: status, every `reason` and the `status`, the message.
const GMAIL_ANSWERS: &[(u16, &[&str], &str, Class, &str)] = &[
    (
        401,
        &["authError", "UNAUTHENTICATED"],
        "Invalid Credentials",
        SUSPEND,
        "gmail-token-refused",
    ),
    (
        401,
        &["UNAUTHENTICATED"],
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.",
        SUSPEND,
        "gmail-token-refused",
    ),
    (
        403,
        &["insufficientPermissions", "PERMISSION_DENIED"],
        "Request had insufficient authentication scopes.",
        SUSPEND,
        "gmail-scope-missing",
    ),
    (
        403,
        &["ACCESS_TOKEN_SCOPE_INSUFFICIENT"],
        "Request had insufficient authentication scopes.",
        SUSPEND,
        "gmail-scope-missing",
    ),
    (
        403,
        &["accessNotConfigured", "PERMISSION_DENIED"],
        "Gmail API has not been used in project 4711 before or it is disabled.",
        SUSPEND,
        "gmail-api-off",
    ),
    (403, &["SERVICE_DISABLED"], "", SUSPEND, "gmail-api-off"),
    (
        403,
        &["domainPolicy"],
        "The domain administrators have disabled Gmail apps.",
        SUSPEND,
        "gmail-domain-policy",
    ),
    (
        429,
        &["rateLimitExceeded", "RESOURCE_EXHAUSTED"],
        "User-rate limit exceeded.  Retry after 2026-09-11T20:00:00.000Z",
        MINUTE,
        "gmail-throttled",
    ),
    (
        403,
        &["userRateLimitExceeded"],
        "User Rate Limit Exceeded",
        MINUTE,
        "gmail-throttled",
    ),
    (
        429,
        &[],
        "Too many concurrent requests for user",
        MINUTE,
        "gmail-too-many-requests",
    ),
    (
        403,
        &["dailyLimitExceeded"],
        "Daily Limit Exceeded",
        DAY,
        "gmail-daily-limit",
    ),
    (
        403,
        &["forbidden"],
        "Daily user sending limit exceeded",
        DAY,
        "gmail-daily-sending-limit",
    ),
    (
        429,
        &["rateLimitExceeded"],
        "Daily user sending limit exceeded.",
        DAY,
        "gmail-daily-sending-limit",
    ),
    (
        400,
        &["invalidArgument", "INVALID_ARGUMENT"],
        "Recipient address required",
        PERMANENT,
        "gmail-no-recipient",
    ),
    (
        400,
        &["invalidArgument", "INVALID_ARGUMENT"],
        "Invalid To header",
        PERMANENT,
        "gmail-recipient-invalid",
    ),
    (
        400,
        &["invalidArgument", "INVALID_ARGUMENT"],
        "Something new",
        PERMANENT,
        "gmail-message-invalid",
    ),
    (
        400,
        &["badRequest"],
        "Bad Request",
        PERMANENT,
        "gmail-message-invalid",
    ),
    (
        400,
        &["failedPrecondition", "FAILED_PRECONDITION"],
        "Mail service not enabled",
        SUSPEND,
        "gmail-mail-off",
    ),
    (
        400,
        &["failedPrecondition", "FAILED_PRECONDITION"],
        "Precondition check failed.",
        SUSPEND,
        "gmail-no-mailbox-behind-account",
    ),
    (
        400,
        &["failedPrecondition", "FAILED_PRECONDITION"],
        "Something new",
        PERMANENT,
        "gmail-message-invalid",
    ),
    (
        403,
        &["forbidden"],
        "Delegation denied for office@acme.example",
        SUSPEND,
        "gmail-another-mailbox",
    ),
    (413, &["uploadTooLarge"], "", PERMANENT, "gmail-too-large"),
    (413, &[], "", PERMANENT, "gmail-too-large"),
    (
        500,
        &["backendError"],
        "Backend Error",
        TRANSIENT,
        "gmail-server-trouble",
    ),
    (
        503,
        &["backendError", "UNAVAILABLE"],
        "The service is currently unavailable.",
        TRANSIENT,
        "gmail-server-trouble",
    ),
    (502, &[], "", TRANSIENT, "gmail-server-trouble"),
    (504, &[], "", UNCERTAIN, "gmail-gateway-timeout"),
    (404, &["notFound"], "", TRANSIENT, "gmail-upload-gone"),
    (404, &[], "", TRANSIENT, "gmail-upload-gone"),
    (410, &[], "", TRANSIENT, "gmail-upload-gone"),
    // what nobody listed
    (408, &[], "", TRANSIENT, "gmail-request-timeout"),
    (
        403,
        &["somethingNew", "PERMISSION_DENIED"],
        "",
        SUSPEND,
        "gmail-forbidden",
    ),
    (
        403,
        &[],
        "<html>blocked by the firewall</html>",
        TRANSIENT,
        "gmail-not-from-google",
    ),
    (
        403,
        &["", " "],
        "<html>blocked by the firewall</html>",
        TRANSIENT,
        "gmail-not-from-google",
    ),
    (405, &[], "", TRANSIENT, "gmail-not-from-google"),
    (
        400,
        &["somethingNew"],
        "New words.",
        PERMANENT,
        "gmail-refused",
    ),
    (302, &[], "", TRANSIENT, "gmail-redirected"),
    (
        200,
        &[],
        "<html>please log in</html>",
        TRANSIENT,
        "gmail-not-accepted",
    ),
    (0, &[], "", TRANSIENT, "gmail-unexpected"),
];

/// An answer, the row that it came to, and what it should come to.
type Judged = (String, &'static Row, Class, &'static str);

fn token_answers() -> impl Iterator<Item = Judged> {
    TOKEN_ANSWERS
        .iter()
        .map(|&(provider, status, error, description, class, id)| {
            let row = token(provider, status, error, description, &[]);
            let what = format!("{provider:?} {status} {error}: {description}");
            (what, row, class, id)
        })
}

fn numbered_answers() -> impl Iterator<Item = Judged> {
    NUMBERS.iter().map(|&(number, class, id)| {
        let row = token(MICROSOFT, 400, "invalid_grant", "", &[number]);
        (number.to_string(), row, class, id)
    })
}

fn graph_answers() -> impl Iterator<Item = Judged> {
    GRAPH_ANSWERS
        .iter()
        .map(|&(status, code, message, class, id)| {
            let what = format!("Graph {status} {code}: {message}");
            (what, graph(status, code, message), class, id)
        })
}

fn gmail_answers() -> impl Iterator<Item = Judged> {
    GMAIL_ANSWERS
        .iter()
        .map(|&(status, codes, message, class, id)| {
            let what = format!("Gmail {status} {codes:?}: {message}");
            (what, gmail(status, codes, message), class, id)
        })
}

fn answers() -> impl Iterator<Item = Judged> {
    token_answers()
        .chain(numbered_answers())
        .chain(graph_answers())
        .chain(gmail_answers())
}

#[test]
fn answers_come_to_their_rows() {
    for (what, row, class, id) in answers() {
        assert_eq!((row.class, row.id), (class, id), "{what}");
    }
}

#[test]
fn every_row_has_an_example() {
    let reached: HashSet<&str> = answers().map(|(_, row, ..)| row.id).collect();
    for row in every_row() {
        assert!(reached.contains(row.id), "{}: no example", row.id);
    }
}

#[test]
fn only_a_refused_access_token_is_worth_a_fresh_one() {
    for row in every_row() {
        let refused = row.statuses == [401] && row.class == SUSPEND;
        assert_eq!(row.fresh_token, refused, "{}", row.id);
    }
    assert!(graph(401, "InvalidAuthenticationToken", "").fresh_token);
    assert!(gmail(401, &["authError"], "Invalid Credentials").fresh_token);
    assert!(!graph(403, "ErrorAccessDenied", "").fresh_token);
}

#[test]
fn what_is_ours_or_unknown_alerts() {
    let alerts: HashSet<&str> = every_row()
        .into_iter()
        .filter(|row| row.alert)
        .map(|row| row.id)
        .collect();
    let expected = HashSet::from([
        "entra-assertion-refused",
        "entra-field-missing",
        "entra-loop",
        "google-clock",
        "google-request-refused",
        "oauth-service-unknown",
        "oauth-request-refused",
        "oauth-refused-without-reason",
        "oauth-unexpected",
        "graph-daily-limit",
        "graph-submission-blocked",
        "graph-mime-invalid",
        "graph-header-invalid",
        "graph-body-unreadable",
        "graph-upload-too-small",
        "graph-not-from-graph",
        "graph-refused",
        "graph-unexpected",
        "gmail-message-invalid",
        "gmail-not-from-google",
        "gmail-forbidden",
        "gmail-refused",
        "gmail-unexpected",
    ]);
    assert_eq!(alerts, expected);
}

#[test]
fn a_number_counts_wherever_it_stands() {
    for &(number, class, id) in NUMBERS {
        let words = format!("AADSTS{number}: Some words. Trace ID: 255d1aef");
        for (status, error, description, numbers) in [
            (400, "invalid_grant", words.as_str(), vec![]),
            (400, "invalid_grant", words.as_str(), vec![number]),
            (400, "invalid_request", "", vec![number]),
            (401, "invalid_client", words.as_str(), vec![]),
            (400, "interaction_required", "", vec![999_999, number]),
            (200, "", words.as_str(), vec![]),
            (0, "access_denied", words.as_str(), vec![]),
        ] {
            let row = token(MICROSOFT, status, error, description, &numbers);
            assert_eq!((row.class, row.id), (class, id), "{number} {error}");
        }
        let places = MICROSOFT_TOKEN
            .iter()
            .filter(|row| row.numbers.contains(&number))
            .count();
        assert_eq!(places, 1, "{number}");
    }
    let listed: HashSet<u32> = NUMBERS.iter().map(|(number, ..)| *number).collect();
    assert_eq!(listed.len(), NUMBERS.len());
    for number in MICROSOFT_TOKEN.iter().flat_map(|row| row.numbers) {
        assert!(listed.contains(number), "{number}: not listed");
    }
}

#[test]
fn a_number_that_needs_a_person_counts_before_one_that_mends_itself() {
    for numbers in [[50076, 90033], [90033, 50076]] {
        let row = token(MICROSOFT, 400, "invalid_grant", "", &numbers);
        assert_eq!(row.id, "entra-mfa-required");
    }
}

#[test]
fn verbatim_answers() {
    const TOKEN: &str = r#"{"error":"invalid_grant","error_description":"AADSTS50076: Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access '00000002-0000-0ff1-ce00-000000000000'. Trace ID: 255d1aef-8c98-452f-ac51-23d051240864 Correlation ID: fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7 Timestamp: 2026-01-09 02:02:12Z","error_codes":[50076],"timestamp":"2026-01-09 02:02:12Z","trace_id":"255d1aef-8c98-452f-ac51-23d051240864","correlation_id":"fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7","error_uri":"https://login.microsoftonline.com/error?code=50076","suberror":"basic_action"}"#;
    const SEND_AS: &str = r#"{"error":{"code":"ErrorSendAsDenied","message":"The user account which was used to submit this request does not have the right to send mail on behalf of the specified sending account. Cannot submit message.","innerError":{"date":"2026-11-21T10:11:12","request-id":"7b0f","client-request-id":"4d6f"}}}"#;
    const RATE: &str = r#"{"error":{"code":429,"message":"User-rate limit exceeded.  Retry after 2026-09-11T20:00:00.000Z","errors":[{"message":"User-rate limit exceeded.  Retry after 2026-09-11T20:00:00.000Z","domain":"usageLimits","reason":"rateLimitExceeded"}],"status":"RESOURCE_EXHAUSTED"}}"#;
    let read = |json: &str| serde_json::from_str::<Value>(json).expect("JSON");
    let words = |value: &Value| value.as_str().expect("a string").to_owned();

    let answer = read(TOKEN);
    let description = words(&answer["error_description"]);
    assert_eq!(aadsts(&description), [50076]);
    let row = token(MICROSOFT, 400, &words(&answer["error"]), &description, &[]);
    assert_eq!(row.id, "entra-mfa-required");

    let error = &read(SEND_AS)["error"];
    let row = graph(403, &words(&error["code"]), &words(&error["message"]));
    assert_eq!((row.class, row.id), (SENDER, "graph-send-as-denied"));

    let error = &read(RATE)["error"];
    let codes = [
        words(&error["errors"][0]["reason"]),
        words(&error["status"]),
    ];
    let message = words(&error["message"]);
    let row = gmail(429, &[codes[0].as_str(), codes[1].as_str()], &message);
    assert_eq!((row.class, row.id), (MINUTE, "gmail-throttled"));
    assert_eq!(retry_after_text(&message), Some("2026-09-11T20:00:00.000Z"));
}

#[test]
fn numbers_are_found() {
    const CASES: &[(&str, &[u32])] = &[
        ("AADSTS50076: Due to", &[50076]),
        ("a AADSTS7000222: b AADSTS50012, c", &[7_000_222, 50012]),
        ("AADSTS50076AADSTS50079", &[50076, 50079]),
        ("(AADSTS65001)", &[65001]),
        ("AADSTS", &[]),
        ("AADSTS: 50076", &[]),
        ("AADSTS99999999999999999999", &[]),
        ("AADSTS-1", &[]),
        ("AADSTS٣", &[]),
        ("50076", &[]),
        ("", &[]),
    ];
    for &(text, expected) in CASES {
        assert_eq!(aadsts(text), expected, "{text}");
    }
}

#[test]
fn time_in_gmails_words_is_found() {
    const TIME: &str = "2026-09-11T20:00:00.000Z";
    for (message, expected) in [
        (
            "User-rate limit exceeded.  Retry after 2026-09-11T20:00:00.000Z",
            Some(TIME),
        ),
        (
            "User-rate limit exceeded. Retry after 2026-09-11T20:00:00.000Z (Mail sending)",
            Some(TIME),
        ),
        ("RETRY AFTER  2026-09-11T20:00:00.000Z.", Some(TIME)),
        ("(retry after 2026-09-11T20:00:00.000Z)", Some(TIME)),
        (
            "ÄÖÜ Retry after 2026-09-11T20:00:00Z ß",
            Some("2026-09-11T20:00:00Z"),
        ),
        (
            "Retry after 2026-09-11T22:00:00+02:00",
            Some("2026-09-11T22:00:00+02:00"),
        ),
        ("Retry after 2026-09-11T20:00:00", None),
        ("Retry after 2026-09-11", None),
        ("Retry after 30 seconds", None),
        ("Retry after Z", None),
        ("Retry after ÄÖÜÄÖÜÄÖÜÄÖÜÄÖÜÄÖÜÄÖÜ", None),
        ("Retry after ", None),
        ("Retry after", None),
        ("2026-09-11T20:00:00.000Z", None),
        ("", None),
    ] {
        assert_eq!(retry_after_text(message), expected, "{message}");
    }
}

#[test]
fn a_server_in_trouble_is_not_believed_about_our_login() {
    for provider in [MICROSOFT, GOOGLE, CUSTOM] {
        for error in ["invalid_grant", "invalid_client", "unauthorized_client"] {
            assert_eq!(token(provider, 503, error, "", &[]).class, TRANSIENT);
            assert_eq!(token(provider, 429, error, "", &[]).class, HALF_MINUTE);
            assert_eq!(token(provider, 400, error, "", &[]).class, SUSPEND);
        }
    }
}

#[test]
fn codes_are_compared_without_case_and_blanks() {
    assert_eq!(
        graph(400, " ERRORINVALIDRECIPIENTS ", "").id,
        "graph-recipient-invalid"
    );
    assert_eq!(graph(400, "ErrorInvalidRecipie", "").id, "graph-refused");
    assert_eq!(graph(400, "ErrorInvalidRecipieÄ", "").id, "graph-refused");
    assert_eq!(
        token(CUSTOM, 400, "Invalid_Grant", "", &[]).id,
        "oauth-sign-in-needed"
    );
    assert_eq!(
        graph(
            400,
            "BadRequest",
            "The MAXIMUM\r\n request  length supported"
        )
        .id,
        "graph-request-too-large"
    );
}

#[test]
fn text_is_folded_and_bounded() {
    assert_eq!(fold("  A\t B\r\n\u{a0}\u{c4} "), "a b \u{e4}");
    let long = "\u{c4}".repeat(100_000);
    assert!(fold(&long).len() <= 2 * crate::explain::LONGEST);
    assert!(fold(&"ab ".repeat(100_000)).len() <= crate::explain::LONGEST + 3);
    assert_eq!(graph(400, &long, &long).id, "graph-refused");
    assert_eq!(gmail(400, &[long.as_str()], &long).id, "gmail-refused");
    assert_eq!(
        token(MICROSOFT, 400, &long, &long, &[]).id,
        "oauth-unexpected"
    );
}

#[test]
fn rows_are_sound() {
    let mut ids = HashSet::new();
    for row in every_row() {
        let id = row.id;
        assert!(!id.is_empty() && ids.insert(id), "{id}: twice");
        assert!(
            id.bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')),
            "{id}: not kebab-case"
        );
        check_explanation(id, &row.meaning);
        for code in row.codes {
            assert_eq!(*code, code.to_lowercase(), "{id}: not lower case");
            assert!(!code.contains(char::is_whitespace), "{id}: {code:?}");
            assert!(!code.trim_end_matches('*').contains('*'), "{id}: {code:?}");
        }
        for needle in row.any_of {
            assert!(!needle.is_empty(), "{id}");
            assert_eq!(*needle, fold(needle), "{id}: not lower case, or blanks");
        }
        if let Class::Slow(time) = row.class {
            assert!(
                !time.is_zero() && time <= Duration::from_secs(86_400),
                "{id}"
            );
        }
    }
    for table in Table::ALL {
        for row in table.rows() {
            let prefix = match table {
                Table::Microsoft => "entra-",
                Table::Google => "google-",
                Table::Any => "oauth-",
                Table::Graph => "graph-",
                Table::Gmail => "gmail-",
            };
            assert!(row.id.starts_with(prefix), "{}", row.id);
            assert!(
                row.numbers.is_empty() || table == Table::Microsoft,
                "{}: only Microsoft has numbers",
                row.id
            );
        }
    }
}

/// Answers made from a row's own patterns: every alternative of it. A row without codes gets one
/// that nobody knows.
fn samples(row: &Row) -> Vec<(String, Vec<u32>, &'static str)> {
    let codes: Vec<String> = if row.codes.is_empty() {
        vec!["somethingNew".to_owned()]
    } else {
        row.codes
            .iter()
            .map(|code| code.replace('*', "x"))
            .collect()
    };
    let numbers: Vec<Vec<u32>> = if row.numbers.is_empty() {
        vec![Vec::new()]
    } else {
        row.numbers.iter().map(|number| vec![*number]).collect()
    };
    let texts: &[&'static str] = if row.any_of.is_empty() {
        &[""]
    } else {
        row.any_of
    };
    let mut samples = Vec::new();
    for code in &codes {
        for numbers in &numbers {
            for text in texts {
                samples.push((code.clone(), numbers.clone(), *text));
            }
        }
    }
    samples
}

#[test]
fn every_alternative_of_every_row_is_reached() {
    for table in Table::ALL {
        for row in table.rows() {
            let statuses: &[u16] = if row.statuses.is_empty() {
                &[400]
            } else {
                row.statuses
            };
            for (code, numbers, text) in samples(row) {
                let reached = statuses
                    .iter()
                    .any(|&status| table.ask(status, &code, &numbers, text).id == row.id);
                assert!(
                    reached,
                    "{}: {code:?} {numbers:?} {text:?} is always taken before",
                    row.id
                );
            }
        }
    }
}

#[test]
fn rules_hold_for_any_words() {
    const STATUSES: [u16; 17] = [
        0, 200, 204, 301, 400, 401, 403, 404, 405, 408, 413, 416, 429, 500, 503, 504, 999,
    ];
    for asked in Table::ALL {
        for row in Table::ALL.iter().flat_map(|table| table.rows()) {
            for (code, numbers, text) in samples(row) {
                for status in STATUSES {
                    let found = asked.ask(status, &code, &numbers, text);
                    let what = format!("{}: {asked:?} {status} {code} {text:?}", found.id);
                    check_rules(asked, status, found, &what);
                }
            }
        }
    }
}

/// What holds for any answer with this status.
fn check_rules(asked: Table, status: u16, found: &Row, what: &str) {
    let class = found.class;
    if asked.of_a_token_endpoint() {
        assert!(
            matches!(class, SUSPEND | TRANSIENT | Class::Slow(_)),
            "{what}: a token endpoint costs no message"
        );
    }
    assert_eq!(
        class == UNCERTAIN,
        status == 504 && !asked.of_a_token_endpoint(),
        "{what}: uncertain"
    );
    if found.fresh_token {
        assert!(status == 401 && class == SUSPEND, "{what}: fresh token");
    }
    if status == 401 && !asked.of_a_token_endpoint() {
        assert!(found.fresh_token, "{what}: no fresh token");
    }
}
