"""A faithful fake of Microsoft's and Google's HTTP servers: sign-in, tokens, Graph, Gmail.

    provider = Provider("microsoft")                 # or "google", "custom"; listens on 127.0.0.1, port 0
    tenant = '[upstream]\\nkind = "graph"\\n' + provider.toml("client-credentials")
    provider.fail["sendMail"] = [throttle(429, 2), close_after_body, (504, {}, b"")]     # then it behaves
    ... provider.sent[0].recipients ... assert provider.errors == [] ... provider.close()

What it says is what the providers' documentation and transcripts of their servers say. It is strict where the real servers are, and
what a client does against their documentation, though they might put up with it, is in `errors`.

Knobs by request kind (`fail always drop delay answer_after_store`); the kinds:

    authorize token device                     sign-in
    sendMail draft attachment session put put-status put-delete send get delete sent-items list me user    Graph
    gmail gmail-session gmail-put gmail-query gmail-list gmail-profile                                     Gmail

`fail[kind]`: answers used up one by one before normal behaviour: (status, headers, body) or a
callable(handler) that gives such a tuple, or None if it answered by itself; None in the list: behave once.
`always[kind]`: one such answer for ever. `delay[kind]`: seconds. `drop[kind]`: "before-store" or
"after-store": no answer, the connection is closed, before or after the request took effect.
`answer_after_store[kind]`: what is said instead of the right answer after it took effect. The last two
hold until removed, unless they are lists: then used up one by one (None: behave once).
"""

import base64, collections, email, email.message, email.parser, email.policy, email.utils, functools, gzip, hashlib
import http.client, http.server, json, pathlib, re, secrets, socket, ssl, subprocess, tempfile, threading
import time, traceback, urllib.parse, urllib.request
from types import SimpleNamespace as Record

try:
    from cryptography import exceptions, x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding
except ImportError:
    x509 = None

MB = 1024 * 1024
OPENID = {"openid", "profile", "email", "offline_access"}
AUDIENCES = {
    "graph.microsoft.com": "graph", "00000003-0000-0000-c000-000000000000": "graph", "graph.microsoft.us": "graph",
    "dod-graph.microsoft.us": "graph", "microsoftgraph.chinacloudapi.cn": "graph", "outlook.office.com": "outlook",
    "outlook.office365.com": "outlook",
}  # fmt: skip
KNOWN_SCOPES = {
    "graph": {"Mail.Send", "Mail.Send.Shared", "Mail.ReadWrite", "Mail.ReadWrite.Shared", "Mail.Read", "User.Read"},
    "outlook": {"SMTP.Send", "IMAP.AccessAsUser.All", "POP.AccessAsUser.All"},
}
GMAIL = "https://www.googleapis.com/auth/gmail."
GMAIL_SEND = {"https://mail.google.com/", GMAIL + "send", GMAIL + "compose", GMAIL + "modify"}
GMAIL_READ = {"https://mail.google.com/", GMAIL + "modify", GMAIL + "readonly"}
DEFAULT_SCOPES = {
    "microsoft": "https://graph.microsoft.com/Mail.Send https://graph.microsoft.com/Mail.ReadWrite "
    "https://outlook.office.com/SMTP.Send offline_access openid profile email",
    "google": f"https://mail.google.com/ {GMAIL}send openid email",
    "custom": "smtp offline_access",
}
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"

# --------------------------------------------------------------------------- what they refuse, as tables


def _rows(text, klass):
    return [(int(n), error, words, klass) for n, error, words in (line.split("|") for line in text.strip().split("\n"))]


TOKEN_ROWS_MICROSOFT = (
    _rows(
        """50055|invalid_grant|The password is expired.
50072|invalid_grant|Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multi-factor authentication to access '00000003-0000-0000-c000-000000000000'.
50079|interaction_required|Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multi-factor authentication to access '00000002-0000-0ff1-ce00-000000000000'.
50074|interaction_required|Strong Authentication is required.
50076|invalid_grant|Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access '00000002-0000-0ff1-ce00-000000000000'.
50078|invalid_grant|Presented multi-factor authentication has expired due to policies configured by your administrator, you must refresh your multi-factor authentication to access '00000002-0000-0ff1-ce00-000000000000'.
50132|invalid_grant|The session is not valid due to password expiration or recent password change.
50133|invalid_grant|The session is not valid due to password expiration or recent password change.
50173|invalid_grant|The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password.
50158|interaction_required|External security challenge not satisfied. User will be redirected to another page or authentication provider to satisfy additional authentication challenges.
54005|invalid_grant|OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token.
65004|access_denied|User declined to consent to access the app.
70000|invalid_grant|Provided grant is invalid or malformed.
70008|invalid_grant|The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource.
700082|invalid_grant|The refresh token has expired due to inactivity. The token was issued on 2026-01-09T02:02:12.0000000Z and was inactive for 90.00:00:00.
700084|invalid_grant|The refresh token was issued to a single page app (SPA), and therefore has a fixed, limited lifetime of 1.00:00:00, which can't be extended.
70043|invalid_grant|The refresh token has expired or is invalid due to sign-in frequency checks by conditional access.
65001|invalid_grant|The user or administrator has not consented to use the application with ID '11111111-2222-3333-4444-555555555555' named 'Postbote'. Send an interactive authorization request for this user and resource.
90094|consent_required|An administrator of this directory has set a policy that prevents you from granting this application the permissions it is requesting.
65005|invalid_client|The application required resource access list does not contain applications discoverable by the resource.
650052|invalid_client|The app is trying to access a service that your organization lacks a service principal for. Contact your IT Admin.
650056|invalid_client|Misconfigured application. The client has not listed any permissions in its requested permissions, or the admin has not consented in the tenant.
650057|invalid_resource|Invalid resource. The client has requested access to a resource which is not listed in the requested permissions in the client's application registration.
50105|invalid_grant|The signed in user is not assigned to a role for the application.
50131|invalid_grant|Device is not in required device state, or the request was blocked by access policies.
53000|interaction_required|Device is not in required device state: compliant. Conditional Access policy requires a compliant device.
53001|interaction_required|Device is not in required device state: domain joined. Conditional Access policy requires a domain joined device.
53002|invalid_grant|The application used is not an approved application for Conditional Access.
53003|invalid_grant|Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.
530032|invalid_grant|Access has been blocked by tenant security policies.
530034|invalid_grant|A delegated administrator was blocked from accessing the tenant due to account risk.
530035|invalid_grant|Access has been blocked by security defaults.
50057|invalid_grant|The user account is disabled.
50034|invalid_grant|The user account {EUII Hidden} does not exist in the directory. To sign into this application, the account must be added to the directory.
50014|invalid_grant|The user's redemption is in a pending state. The guest user account is not fully created yet.
50020|invalid_grant|User account '{EUII Hidden}' from identity provider 'live.com' does not exist in tenant and cannot access the application in that tenant.
700016|unauthorized_client|Application with identifier '11111111-2222-3333-4444-555555555555' was not found in the directory. This can happen if the application has not been installed by the administrator of the tenant.
70001|unauthorized_client|The application is disabled or does not exist in the directory.
7000112|unauthorized_client|Application '11111111-2222-3333-4444-555555555555'(Postbote) is disabled.
500011|invalid_resource|The resource principal was not found in the tenant. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant.
50194|invalid_request|Application is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such apps. Use a tenant-specific endpoint or configure the application to be multi-tenant.
90002|invalid_request|Tenant not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.
90023|invalid_request|The service is not supported for the /common or /consumers endpoint. Please use the /organizations or tenant-specific endpoint.
9001023|invalid_request|The grant type is not supported over the /common or /consumers endpoints. Please use the /organizations or tenant-specific endpoint.
7000215|invalid_client|Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app.
7000222|invalid_client|The provided client secret keys for app '11111111-2222-3333-4444-555555555555' are expired. Visit the Azure portal to create new keys for your app.
7000218|invalid_client|The request body must contain the following parameter: 'client_assertion' or 'client_secret'.
70002|invalid_client|Error validating credentials.
700027|invalid_client|The certificate with identifier used to sign the client assertion is not registered on application.
700030|invalid_client|Invalid certificate - subject name in certificate is not authorized.
50012|invalid_client|Authentication failed: the client assertion contains an invalid signature.
50013|invalid_grant|Assertion failed signature validation.
700025|invalid_client|Client is public so neither 'client_assertion' nor 'client_secret' should be presented.
50011|invalid_client|The redirect URI specified in the request does not match the redirect URIs configured for the application.
70011|invalid_scope|The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid.
28002|invalid_scope|Provided value for the input parameter scope is not valid when requesting an access token. Please specify a valid scope.
700022|invalid_grant|The provided value for the input parameter scope isn't valid because it contains more than one resource.
70003|unsupported_grant_type|The app requested an unsupported grant type.
900144|invalid_request|The request body must contain the following parameter: 'grant_type'.
90014|invalid_request|The required field 'scope' is missing from the credential. Ensure that you have all the necessary parameters for the login request.
50126|invalid_grant|Error validating credentials due to invalid username or password.
50128|invalid_request|Invalid domain name - No tenant-identifying information found in either the request or implied by any provided credentials.
50059|invalid_request|No tenant-identifying information found in either the request or implied by any provided credentials.""",
        "ACCT",
    )
    + _rows(
        """50033|temporarily_unavailable|A transient error has occurred. Please try again.
50053|invalid_grant|The account is locked, you've tried to sign in too many times with an incorrect user ID or password.
50087|invalid_grant|A transient error has occurred during strong authentication. Please try again.
50088|invalid_grant|Limit on telecom MFA calls reached. Please try again in a few minutes.
50166|server_error|Failed to send the request to the claims provider.
50196|invalid_grant|The server terminated an operation because it encountered a client request loop. Please contact your app vendor.
70012|server_error|A server error occurred while authenticating an MSA (consumer) user. Try again.
80002|invalid_grant|The password validation request timed out: the on-premises agent did not answer.
80005|invalid_grant|An unknown error occurred while processing the response from the Authentication Agent. Retry the request.
90006|temporarily_unavailable|The service is temporarily unavailable. Please retry later.
90012|temporarily_unavailable|The requested has timed out. Please try again.
90024|temporarily_unavailable|A transient error has occurred. Please try again.
90033|temporarily_unavailable|A transient error has occurred. Please try again.
90090|temporarily_unavailable|The service is temporarily unavailable. Please retry later.
90091|temporarily_unavailable|The service is temporarily unavailable. Please retry later.
90055|temporarily_unavailable|There are too many incoming requests. Please retry later.""",
        "TEMP",
    )
)
"""Every number of A.8: (number, error, text, class). `aadsts(*row[:3])` is the answer."""

_JWT_TIME = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
    "Check your iat and exp values in the JWT claim."
)
_UNAUTHORIZED = (
    "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any "
    "of the scopes requested."
)
TOKEN_ROWS_GOOGLE = [
    (400, "invalid_grant", "Token has been expired or revoked.", "ACCT"),
    (400, "invalid_grant", "Bad Request", "ACCT"),
    (400, "invalid_grant", "Invalid JWT Signature.", "ACCT"),
    (400, "invalid_grant", _JWT_TIME, "TEMP"),
    (400, "invalid_grant", "Invalid email or User ID", "ACCT"),
    (401, "unauthorized_client", _UNAUTHORIZED, "ACCT"),
    (401, "invalid_client", "The OAuth client was not found.", "ACCT"),
    (401, "deleted_client", "The OAuth client was deleted.", "ACCT"),
    (400, "redirect_uri_mismatch", "Bad Request", "ACCT"),
    (400, "invalid_request", "Missing required parameter: grant_type", "ACCT"),
    (400, "invalid_scope", "Empty or missing scope not allowed.", "ACCT"),
    (429, "rate_limit_exceeded", "Too many requests.", "TEMP"),
    (500, "internal_failure", "Backend Error", "TEMP"),
    (503, "backend_error", "Service Unavailable", "TEMP"),
]
"""C.5: (status, error, description, class). `google_error(*row[:3])` is the answer."""

_SEND_AS = (
    "The user account which was used to submit this request does not have the right to send mail on behalf of "
    "the specified sending account. Cannot submit message."
)
_DENIED = "Access is denied. Check credentials and try again."
_DAILY = (
    "Cannot send mail. Daily Message/Recipient limit exceeded. Follow the instructions in your Inbox to verify "
    "your account."
)
_NO_RECIPIENT = "At least one recipient is not valid., A message can't be sent because it contains no recipients."
_4MB = "The maximum request length supported is 4MB."
_TOO_BIG = "The message exceeds the maximum supported size."
GRAPH_ROWS = [
    (401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid.", "TOKEN"),
    (401, "InvalidAuthenticationToken", "Access token validation failure. Invalid audience.", "TOKEN"),
    (403, "ErrorAccessDenied", _DENIED, "ACCT"),
    (403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.", "ACCT"),
    (403, "ErrorSendAsDenied", _SEND_AS, "SENDER"),
    (404, "ErrorInvalidUser", "The requested user 'office@acme.example' is invalid.", "ACCT"),
    (404, "ResourceNotFound", "Resource could not be discovered.", "ACCT"),
    (404, "Request_ResourceNotFound", "Resource 'office@acme.example' does not exist.", "ACCT"),
    (404, "MailboxNotEnabledForRESTAPI", "REST API is not yet supported for this mailbox.", "ACCT"),
    (400, "MailboxNotEnabledForRESTAPI", "REST API is not yet supported for this mailbox.", "ACCT"),
    (404, "MailboxNotFound", "The mailbox was not found.", "ACCT"),
    (400, "ErrorInvalidRecipients", _NO_RECIPIENT, "MSG"),
    (400, "ErrorInvalidRecipientSubfolderRule", "At least one recipient is not valid.", "MSG"),
    (400, "ErrorMimeContentInvalidBase64String", "Invalid base64 string for MIME content.", "MSG"),
    (400, "ErrorMimeContentInvalid", "The MIME content is invalid.", "MSG"),
    (400, "InvalidInternetMessageHeader",
     "The internet message header name 'In-Reply-To' should start with 'x-' or 'X-'.", "MSG"),
    (400, "InvalidInternetMessageHeaderCollection", "Maximum number of headers in one message should be less "
     "than or equal to 5.", "MSG"),
    (400, "UnableToDeserializePostBody", "were unable to deserialize ", "MSG"),
    (400, "RequestBodyRead", "The request body could not be read.", "MSG"),
    (400, "BadRequest", _4MB, "SIZE"),
    (413, "RequestEntityTooLarge", "Request Entity Too Large", "SIZE"),
    (400, "ErrorMessageSizeExceeded", _TOO_BIG, "MSG"),
    (403, "ErrorMessageSizeExceeded", _TOO_BIG, "MSG"),
    (413, "ErrorMessageSizeExceeded", _TOO_BIG, "MSG"),
    (400, "ErrorExceededMaxRecipientLimitPerMessage", "The message has too many recipients.", "MSG"),
    (403, "ErrorExceededMessageLimit", _DAILY, "SLOW"),
    (429, "ErrorExceededMessageLimit", _DAILY, "SLOW"),
    (403, "ErrorSubmissionQuotaExceeded", "The user has exceeded its submission quota.", "SLOW"),
    (403, "ErrorMessageSubmissionBlocked", "Message submission is blocked.", "SLOW"),
    (403, "ErrorAccountSuspend", "Account suspended. Follow the instructions in your Inbox to verify it.", "ACCT"),
    (507, "ErrorQuotaExceeded", "The mailbox is full.", "ACCT"),
    (403, "ErrorQuotaExceeded", "The mailbox is full.", "ACCT"),
    (429, "ApplicationThrottled", "Application is over its MailboxConcurrency limit.", "SLOW"),
    (429, "TooManyRequests", "Too many requests.", "SLOW"),
    (429, "activityLimitReached", "The app or user has been throttled.", "SLOW"),
    (503, "serviceNotAvailable", "The service is not available. Try the request again after a delay.", "TEMP"),
    (503, "ErrorServerBusy", "The server cannot service this request right now. Try again later.", "TEMP"),
    (500, "ErrorInternalServerTransientError", "An internal server error occurred. Try again later.", "TEMP"),
    (502, "UnknownError", "", "TEMP"),
    (504, "UnknownError", "", "UNKNOWN"),
]  # fmt: skip
"""B.7: (status, code, message, class); class SIZE: go by draft and upload, else MSG. `graph_error(*row[:3])`."""

_RATE = "User-rate limit exceeded.  Retry after 2026-09-11T20:00:00.000Z"
_SCOPES = "Request had insufficient authentication scopes."
GMAIL_ROWS = [
    (401, "authError", "Invalid Credentials", "TOKEN"),
    (401, "authError", "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie "
     "or other valid authentication credential.", "TOKEN"),
    (403, "insufficientPermissions", _SCOPES, "ACCT"),
    (403, "accessNotConfigured", "Gmail API has not been used in project 4711 before or it is disabled.", "ACCT"),
    (403, "domainPolicy", "The domain administrators have disabled Gmail apps.", "ACCT"),
    (403, "userRateLimitExceeded", _RATE, "SLOW"),
    (403, "rateLimitExceeded", _RATE, "SLOW"),
    (429, "userRateLimitExceeded", _RATE, "SLOW"),
    (429, "rateLimitExceeded", _RATE, "SLOW"),
    (403, "dailyLimitExceeded", "Daily user sending limit exceeded", "SLOW"),
    (400, "invalidArgument", "Recipient address required", "MSG"),
    (400, "invalidArgument", "Invalid To header", "MSG"),
    (400, "failedPrecondition", "Mail service not enabled", "ACCT"),
    (413, "uploadTooLarge", "Request is too large.", "MSG"),
    (500, "backendError", "Backend Error", "TEMP"),
    (502, "backendError", "Backend Error", "TEMP"),
    (503, "backendError", "Backend Error", "TEMP"),
]  # fmt: skip
"""C.7: (status, reason, message, class). `gmail_error(*row[:3])` is the answer."""

# --------------------------------------------------------------------------- answers in their words


def aadsts(number, error=None, text=None, status=None, **more):
    """The login server's refusal, as A.8; error and text by default those of the table."""
    row = next((row for row in TOKEN_ROWS_MICROSOFT if row[0] == number), (number, "invalid_grant", "Refused.", ""))
    error, text = error or row[1], text or row[2]
    status = status or {"invalid_client": 401, "temporarily_unavailable": 503, "server_error": 500}.get(error, 400)
    trace, correlation, now = _guid(), _guid(), time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
    words = f"AADSTS{number}: {text}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {now}"
    uri = f"https://login.microsoftonline.com/error?code={number}"
    body = {"error": error, "error_description": words, "error_codes": [number], "timestamp": now, "trace_id": trace}
    headers = {"Cache-Control": "no-store, no-cache", "Pragma": "no-cache", "x-ms-request-id": trace}
    return status, headers, {**body, "correlation_id": correlation, "error_uri": uri, **more}


def google_error(status, error, description):
    """Google's token endpoint refuses, as C.5."""
    return status, {"Cache-Control": "no-cache, no-store"}, {"error": error, "error_description": description}


def graph_error(status, code, message, **headers):
    """Graph refuses, as B.7; 401 has the challenge of B.10. Headers with _ for -."""
    inner = {"date": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()), "request-id": _guid(), "client-request-id": _guid()}
    headers = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    if status == 401:
        uri = "https://login.microsoftonline.com/common/oauth2/authorize"
        client = "00000003-0000-0000-c000-000000000000"
        headers["WWW-Authenticate"] = f'Bearer realm="", authorization_uri="{uri}", client_id="{client}"'
    return status, headers, {"error": {"code": code, "message": message, "innerError": inner}}


def gmail_error(status, reason, message, **headers):
    """The Gmail API refuses, as C.7."""
    words = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
             429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}  # fmt: skip
    domain = "usageLimits" if "imit" in reason else "global"
    error = {"code": status, "message": message, "errors": [{"message": message, "domain": domain, "reason": reason}]}
    if status in words:
        error["status"] = "FAILED_PRECONDITION" if reason == "failedPrecondition" else words[status]
    headers = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'
    return status, headers, {"error": error}


def _guid():
    octets = secrets.token_hex(16)
    return f"{octets[:8]}-{octets[8:12]}-4{octets[13:16]}-a{octets[17:20]}-{octets[20:]}"


class Refused(Exception):
    """Ends a request with an answer."""

    def __init__(self, answer):
        self.answer = answer


# --------------------------------------------------------------------------- canned misbehaviour (callables)


def html_login(handler):
    """A captive portal's or proxy's login page, with 200."""
    return 200, {"Content-Type": "text/html"}, "<html><title>Sign in</title><form><input name=CANARY-page></form></html>"


def redirect_loop(handler):
    return 302, {"Location": handler.path}, b""


def redirect_to(url):
    return lambda handler: (302, {"Location": url}, b"")


def megabyte(handler):
    """A right answer, were it not for a megabyte of something beside it."""
    return 200, {}, {"token_type": "Bearer", "expires_in": 3599, "access_token": "CANARY-huge", "padding": "x" * MB}


def gzip_bomb(handler):
    """64 MB in 64 KB."""
    return 200, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, gzip.compress(b" " * (64 * MB))


def malformed_json(handler):
    return 200, {"Content-Type": "application/json"}, b'{"token_type":"Bearer","access_token":"CANARY-torn'


def endless_chunked(handler):
    """Chunks until the client closes (or a gigabyte)."""
    handler.start(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
    for _ in range(16384):
        handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
    handler.hang_up()


def slow_octets(handler):
    """An octet a second, until the client closes."""
    handler.start(200, {"Content-Type": "application/json", "Content-Length": "100000"})
    while not handler.provider.closing.wait(1):
        handler.wfile.write(b" ")


def close_without_answer(handler):
    """Closes when it has seen the request's headers."""
    handler.hang_up()


close_without_answer.early = True


def close_after_body(handler):
    """Closes when it has read the whole request."""
    handler.hang_up()


def hang(seconds):
    """Reads the request, says nothing for so long, closes."""

    def canned(handler):
        handler.provider.closing.wait(seconds)
        handler.hang_up()

    return canned


def error_200(error):
    """An error with status 200, in the words of whom it is asked of."""

    def canned(handler):
        if handler.record.kind in ("token", "device"):
            return 200, {}, {"error": error, "error_description": f"AADSTS70000: {error}", "error_codes": [70000]}
        return 200, {}, {"error": {"code": error, "message": error}}

    return canned


def throttle(status, retry_after=None):
    """429 or 503 (or whatever) with Retry-After (seconds, or any text; None: without)."""

    def canned(handler):
        headers = {} if retry_after is None else {"Retry_After": retry_after}
        if handler.record.kind in ("token", "device"):
            plain = {"Retry-After": str(retry_after)} if headers else {}
            return status, plain, {"error": "temporarily_unavailable", "error_description": "Too many requests."}
        if "gmail" in handler.record.kind:
            return gmail_error(status, "backendError" if status >= 500 else "rateLimitExceeded", _RATE, **headers)
        code = {429: "ApplicationThrottled", 503: "serviceNotAvailable"}.get(status, "UnknownError")
        return graph_error(status, code, "Application is over its MailboxConcurrency limit.", **headers)

    return canned


# --------------------------------------------------------------------------- keys, JWTs, messages


def b64url(octets):
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def un64url(text):
    """Strictly base64url, padded or not."""
    text = text.rstrip("=")
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise ValueError("not base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def public_key(certificate):
    """The public key (PEM) of a certificate (PEM)."""
    if x509:
        form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return x509.load_pem_x509_certificate(certificate.encode()).public_key().public_bytes(*form).decode()
    command = ["openssl", "x509", "-pubkey", "-noout"]
    return subprocess.run(command, input=certificate, text=True, check=True, capture_output=True).stdout


def signature_holds(key, algorithm, data, signature):
    """RS256 or PS256 (salt of 32) under a public key in PEM."""
    if x509:
        pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
        scheme = pss if algorithm == "PS256" else padding.PKCS1v15()
        try:
            serialization.load_pem_public_key(key.encode()).verify(signature, data, scheme, hashes.SHA256())
            return True
        except exceptions.InvalidSignature:
            return False
    if len(signature) not in (256, 384, 512):  # openssl would not see what is too long
        return False
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, name) for name in ("key", "signature")]
        paths[0].write_text(key), paths[1].write_bytes(signature)
        pss = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32".split() if algorithm == "PS256" else []
        command = ["openssl", "dgst", "-sha256", "-verify", paths[0], "-signature", paths[1], *pss]
        return subprocess.run(command, input=data, capture_output=True).returncode == 0


def read_jwt(text):
    """(header, claims, what is signed, signature); ValueError if it is none."""
    header, claims, signature = text.split(".")
    return json.loads(un64url(header)), json.loads(un64url(claims)), f"{header}.{claims}".encode(), un64url(signature)


def fields(raw):
    """The header fields of a message as octets, each with its line ends, and the rest with the empty line."""
    end = re.search(rb"(?:\A|\n)(\r?\n)", raw)
    head, rest = (raw[: end.start(1)], raw[end.start(1) :]) if end else (raw, b"")
    return re.findall(rb"[^\n]+\n?(?:[ \t][^\n]*\n?)*", head), rest


def without(raw, *names):
    """The message less some header fields."""
    kept, rest = fields(raw)
    return b"".join(f for f in kept if f.split(b":")[0].strip().lower().decode("latin-1") not in names) + rest


def addresses(raw, *names):
    """The addresses in some header fields."""
    found = []
    text = b"".join(fields(raw)[0]).decode("utf-8", "replace")
    head = email.parser.HeaderParser(policy=email.policy.default).parsestr(text)
    for name in names:
        try:
            found += [a.addr_spec for value in head.get_all(name, []) for a in value.addresses]
        except Exception:  # the parser has faults of its own
            compat = email.parser.HeaderParser().parsestr(text)
            found += [address for _, address in email.utils.getaddresses(compat.get_all(name, [])) if address]
    return found


def leaves(part):
    """The parts of a message that are not multipart; what is in an attached message is no part of it."""
    whole = part.get_content_maintype() != "multipart"
    return [part] if whole else [leaf for inner in part.iter_parts() for leaf in leaves(inner)]


def attachments(message):
    """(file name, SHA-256 of the content) of every attachment, in order."""
    found = []
    for part in leaves(message):
        if part.get_filename() is not None or part.get_content_disposition() == "attachment":
            content = part.get_payload(0).as_bytes() if part.is_multipart() else part.get_payload(decode=True)
            found.append((part.get_filename(), hashlib.sha256(content or b"").hexdigest()))
    return found


class Sent(Record):
    """A message that was sent: time, mailbox, raw, recipients, visible, how, saved, id, message_id, attachments."""

    @functools.cached_property
    def attachments(self):  # when asked for: to parse 30 MB takes seconds
        return attachments(email.message_from_bytes(self.raw, policy=email.policy.default))


def with_attachments(raw, parts):
    """A draft and what was attached to it, as one message: into its multipart/mixed, else into a new one."""
    if not parts:
        return raw
    head = email.message_from_bytes(b"".join(fields(raw)[0]) + b"\r\n", policy=email.policy.default)
    boundary, flat = head.get_boundary(), head.get_content_type() == "multipart/mixed"
    if not (flat and boundary):
        boundary = "=_postbote_fake_" + secrets.token_hex(8)
        of_body = [f for f in fields(raw)[0] if f.lower().startswith(b"content-")]
        opening = f'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n--{boundary}\r\n'
        names = {f.split(b":")[0].strip().lower().decode("latin-1") for f in of_body} | {"mime-version"}
        outer = b"".join(fields(without(raw, *names))[0]) + opening.encode()
        raw = outer + b"".join(of_body) + fields(raw)[1] + f"\r\n--{boundary}--\r\n".encode()
    close = raw.rindex(f"--{boundary}--".encode())
    more = b""
    for part in parts:
        made = email.message.EmailMessage(policy=email.policy.SMTP)
        main, _, sub = (part.type or "application/octet-stream").partition(";")[0].partition("/")
        how = {"disposition": "inline", "cid": f"<{part.cid}>"} if part.inline and part.cid else {}
        made.set_content(b"", main, sub or "octet-stream", filename=part.name, **how)
        text = base64.b64encode(part.content)
        lines = b"\r\n".join(text[i : i + 76] for i in range(0, len(text), 76))
        more += f"--{boundary}\r\n".encode() + made.as_bytes().rstrip() + b"\r\n\r\n" + lines + b"\r\n"
    return raw[:close] + more + raw[close:]


# --------------------------------------------------------------------------- the server

_WHO, _LOGIN = r"/v1\.0/(me|users/[^/]+)", r"/([^/]+)/oauth2/v2\.0/"
_DRAFT, _GMAIL = _WHO + r"/messages/([^/]+)", r"/gmail/v1/users/([^/]+)"
ROUTES = [
    ("GET", _LOGIN + "authorize", "authorize"),
    ("GET", "/o/oauth2/v2/auth", "authorize"),
    ("POST", _LOGIN + "token", "token"),
    ("POST", "/token", "token"),
    ("POST", _LOGIN + "devicecode", "device"),
    ("POST", "/device/code", "device"),
    ("POST", _WHO + "/sendMail", "sendMail"),
    ("POST", _WHO + "/messages", "draft"),
    ("POST", _DRAFT + "/attachments", "attachment"),
    ("POST", _DRAFT + "/attachments/createUploadSession", "session"),
    ("POST", _DRAFT + "/send", "send"),
    ("GET", _DRAFT, "get"),
    ("DELETE", _DRAFT, "delete"),
    ("GET", _WHO + r"/mailFolders(?:/|\(')sentitems(?:'\))?/messages", "sent-items"),
    ("GET", _WHO + r"(?:/mailFolders/drafts)?/messages", "list"),
    ("GET", "/v1.0/(me)", "me"),
    ("GET", r"/v1\.0/users/([^/]+)", "user"),
    ("PUT", r"/api/v2\.0/.*/AttachmentSessions\('([^']+)'\)", "put"),
    ("GET", r"/api/v2\.0/.*/AttachmentSessions\('([^']+)'\)", "put-status"),
    ("DELETE", r"/api/v2\.0/.*/AttachmentSessions\('([^']+)'\)", "put-delete"),
    ("POST", _GMAIL + "/messages/send", "gmail"),
    ("POST", "(?:/resumable)?/upload" + _GMAIL + "/messages/send", "gmail"),
    ("PUT", "(?:/resumable)?/upload" + _GMAIL + "/messages/send", "gmail-put"),
    ("GET", _GMAIL + "/messages", "gmail-list"),
    ("GET", _GMAIL + "/profile", "gmail-profile"),
]


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection. A canned callable gets it: `record`, `provider`, `start`, `answer`, `hang_up`, `wfile`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    body_limit = 60 * MB

    def setup(self):
        super().setup()
        self.provider, self.record = self.server.provider, None
        self.provider.connections.add(self.connection)

    def finish(self):
        self.provider.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_):
        pass

    def start(self, status, headers):
        """The head of an answer. From here on the request is no longer in flight."""
        self.provider.leave(self.record)
        self.record.status = status
        lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, 'Status')}", "Date: " + self.date_time_string()]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def answer(self, status, headers=None, body=b""):
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            headers.setdefault("Content-Type", "application/json; charset=utf-8")
            body = json.dumps(body)
        body = body.encode() if isinstance(body, str) else body
        if status != 204:
            headers.setdefault("Content-Length", str(len(body)))
        self.start(status, headers)
        self.wfile.write(body)

    def hang_up(self):
        self.provider.leave(self.record)
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def read_body(self):
        """The request's body; refuses one that is too long, hangs up on a torn one."""
        length, chunked = self.headers.get("Content-Length"), "chunked" in self.headers.get("Transfer-Encoding", "")
        if not chunked:
            if length is None and self.command == "POST":
                self.provider.note(self.record, "POST with neither Content-Length nor chunks")
                raise Refused((411, {}, b"Length Required"))
            return self.exactly(int(length or 0))
        body = bytearray()
        while size := int(self.rfile.readline(100).split(b";")[0], 16):
            body += self.exactly(size, len(body))
            if self.rfile.readline(3) != b"\r\n":
                raise ValueError("a chunk of the wrong length")
        while self.rfile.readline(65536) not in (b"\r\n", b""):
            pass
        return bytes(body)

    def exactly(self, size, before=0):
        if before + size > self.body_limit:
            self.close_connection = True
            raise Refused((413, {"Connection": "close"}, b"Request Entity Too Large"))
        octets = self.rfile.read(size)
        if len(octets) < size:
            raise ConnectionError("torn")
        return octets

    def serve(self):
        self.record = self.provider.arrived(self)
        try:
            self.provider.serve(self)
        except OSError:  # the client went away
            self.hang_up()
        finally:
            self.provider.leave(self.record)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = serve


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def get_request(self):
        connection, peer = super().get_request()
        if self.provider.tls:  # the handshake is made by the connection's own thread
            connection = self.provider.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, peer

    def handle_error(self, request, peer):
        self.provider.connection_errors.append(traceback.format_exc(limit=1))


class Provider:
    """One provider's servers. The knobs are the attributes that are set here; change them at any time."""

    def __init__(self, flavour="microsoft", tls=None):
        assert flavour in DEFAULT_SCOPES
        self.flavour, self.microsoft, self.tls = flavour, flavour == "microsoft", tls
        self.directory_id, self.client_id = _guid(), _guid() if self.microsoft else "4711.apps.googleusercontent.com"
        self.client_secret, self.public = "CANARY~secret+/%&=" + secrets.token_hex(8), False
        self.user = "office@acme.example"
        self.mailboxes = {self.user}  # who exists (also Google accounts)
        self.shared = set()  # mailboxes that a delegated token with Mail.Send.Shared may use as well
        self.send_as = collections.defaultdict(set)  # by mailbox: other From addresses
        self.permissions = {"Mail.Send", "Mail.ReadWrite"}  # application permissions; also cap delegated ones
        self.delegated_scopes = {"https://mail.google.com/", GMAIL + "send"}  # of the service account
        self.redirect_uris = set()  # besides loopback
        self.deny = self.wrong_state = False  # at the authorize endpoint
        self.signs_in_as = None
        self.token_length, self.expires_in = (1800 if self.microsoft else 220), 3599
        self.rotate, self.strict = flavour != "google", False  # refresh tokens: a new one each use; the old one dies
        self.shape, self.token_barrier, self.held = None, None, 0  # held: answers that wait for the barrier
        self.device_answers = ["authorization_pending"]  # error words, one a poll, before consent
        self.device_interval, self.device_expires_in = 5, 900
        self.request_limit, self.message_limit, self.concurrency = 4 * MB, 35 * MB, 4
        self.session_minimum, self.attachment_maximum, self.max_recipients = 3_000_000, 3 * MB, 500
        self.sent_items_delay, self.keeps_message_id, self.daily_limit, self.gmail_keeps = 0, True, None, []
        self.fail, self.always, self.delay = collections.defaultdict(list), {}, {}
        self.drop, self.answer_after_store = {}, {}
        # records
        self.requests, self.token_requests, self.sent, self.errors, self.connection_errors = [], [], [], [], []
        self.in_flight, self.in_flight_max = collections.Counter(), collections.Counter()
        self.drafts, self.sessions, self.access, self.refresh, self.codes, self.devices = {}, {}, {}, {}, {}, {}
        self.certificates, self.service_keys, self.minted, self.used_jti = {}, {}, [], set()
        self.lock, self.counting = threading.RLock(), threading.RLock()  # what is stored; what is counted
        self.closing, self.connections = threading.Event(), set()
        self.server = Server(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server.provider = self
        self.server.server_bind(), self.server.server_activate()
        self.base = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    # ------------------------------------------------------------------ what tests set up and ask

    authorize_url = property(lambda self: self._url("/oauth2/v2.0/authorize", "/o/oauth2/v2/auth"))
    token_url = property(lambda self: self._url("/oauth2/v2.0/token", "/token"))
    device_url = property(lambda self: self._url("/oauth2/v2.0/devicecode", "/device/code"))
    api_url = property(lambda self: self.base)
    secrets = property(lambda self: self.minted + [self.client_secret], doc="All that must not be logged.")

    def _url(self, microsoft, others):
        return self.base + (f"/{self.directory_id}{microsoft}" if self.microsoft else others)

    def toml(self, grant, **extra):
        """The section [upstream.oauth]; `extra` overrides, adds, or (None) removes; raw if it begins with { or [."""
        keys = {"provider": self.flavour, "grant": grant, "mailbox": self.user, "token_url": self.token_url}
        keys["directory_id"] = self.directory_id if self.microsoft else None
        keys["client_id"] = None if grant == "service-account" else self.client_id
        keys["client_secret"] = None if grant == "service-account" or self.public else self.client_secret
        keys["authorize_url"], keys["device_url"] = self.authorize_url, self.device_url
        keys["api_url"] = None if self.flavour == "custom" else self.api_url
        keys["scopes"] = ["smtp"] if self.flavour == "custom" else None
        if grant == "refresh-token" and "refresh_token" not in extra:
            keys["refresh_token"] = self.mint_refresh()
        keys |= extra
        raw = {k: v for k, v in keys.items() if isinstance(v, str) and v[:1] in "{[" and v}
        lines = [f"{k} = {raw.get(k) or json.dumps(v, ensure_ascii=False)}" for k, v in keys.items() if v is not None]
        return "\n".join(["[upstream.oauth]", *lines, ""])

    def mint(self, prefix, length):
        """A secret of that length that nobody has seen."""
        text = (prefix + "CANARY" + b64url(secrets.token_bytes(length)))[:length]
        self.minted.append(text)
        return text

    def mint_refresh(self, user=None, scopes=None, public=False):
        """A refresh token as after consent; `public`: redeemed without a secret."""
        scopes = DEFAULT_SCOPES[self.flavour] if scopes is None else scopes
        scopes = set(scopes.split() if isinstance(scopes, str) else scopes)
        token = self.mint("0.AXoA" if self.microsoft else "1//0", 900 if self.microsoft else 120)
        self.refresh[token] = Record(user=user or self.user, scopes=scopes, public=public, dead=None)
        return token

    def revoke(self, user=None):
        """Refresh tokens (of one user, or all) are refused from now on, as after a change of password."""
        for record in self.refresh.values():
            record.dead = 50173 if user in (None, record.user) else record.dead

    def expire_access(self):
        """Access tokens are refused from now on."""
        for record in self.access.values():
            record.expires = 0

    def certificate(self, folder):
        """Makes and registers a client certificate: the paths of certificate and key."""
        paths = pathlib.Path(folder, "oauth-client.crt"), pathlib.Path(folder, "oauth-client.key")
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=postbote".split()
        subprocess.run([*command, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
        self.register_certificate(paths[0].read_text())
        return paths

    def register_certificate(self, pem):
        der = ssl.PEM_cert_to_DER_cert(pem)
        for name, digest in (("x5t#S256", hashlib.sha256), ("x5t", hashlib.sha1)):
            self.certificates[name, b64url(digest(der).digest())] = public_key(pem)

    def service_account(self, folder, address="postbote@project.iam.gserviceaccount.com"):
        """Makes and registers a service account's key: the path of its JSON file."""
        kid = "CANARY" + secrets.token_hex(17)
        with tempfile.TemporaryDirectory() as inner:
            other = Provider.certificate(Record(register_certificate=lambda _: None), inner)
            self.service_keys[kid] = address, public_key(other[0].read_text())
            content = {"type": "service_account", "project_id": "project", "private_key_id": kid, "client_id": "1",
                       "private_key": other[1].read_text(), "client_email": address, "token_uri": self.token_url}  # fmt: skip
        path = pathlib.Path(folder, "service-account.json")
        path.write_text(json.dumps(content))
        return path

    def sign_in(self, url):
        """What a browser and its user do with an authorize URL: gives where it is sent to (not followed)."""
        secure = {"context": ssl._create_unverified_context()} if self.tls else {}
        kind = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
        connection = kind("127.0.0.1", self.server.server_address[1], timeout=30, **secure)
        connection.request("GET", url.removeprefix(self.base))
        answer = connection.getresponse()
        answer.read(), connection.close()
        return answer.headers["Location"]

    def check_smtp_token(self, token, user):
        """Whether an SMTP server of this provider lets that access token in as that user."""
        found = self.access.get(token)
        if not found or found.expires <= time.monotonic() or user not in self.mailboxes:
            return False
        if self.microsoft and found.app:  # A.7: this resource and no alias of it
            return found.host == "outlook.office365.com"
        right = {"microsoft": "SMTP.Send", "google": "https://mail.google.com/"}.get(self.flavour)
        fits = found.audience == "outlook" if self.microsoft else True
        return fits and (right is None or right in found.names) and (found.user in (user, None) or user in self.shared)

    def per_minute_max(self, mailbox):
        """The most messages of a mailbox that were stored within any 60 seconds."""
        times = sorted(sent.time for sent in self.sent if sent.mailbox == mailbox)
        return max((sum(start <= t < start + 60 for t in times[i:]) for i, start in enumerate(times)), default=0)

    # ------------------------------------------------------------------ one request

    def note(self, record, words):
        self.errors.append(f"{record.method} {record.path}: {words}" if record else words)

    def arrived(self, handler):
        """Records a request when its headers are there."""
        path, _, query = handler.path.partition("?")
        query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        record = Record(time=time.time(), method=handler.command, path=path, query=query, headers=handler.headers,
                        body=b"", status=None, kind=None, groups=[], mailbox=None, left=True, id=_guid())  # fmt: skip
        for method, pattern, kind in ROUTES:
            if method == handler.command and (match := re.fullmatch(pattern, path, re.I if "v1" in pattern else 0)):
                record.kind, record.groups = kind, [urllib.parse.unquote(g) for g in match.groups()]
        if record.kind == "gmail" and query.get("uploadType") == "resumable":
            record.kind = "gmail-session"
        if record.kind == "gmail-put" and handler.headers.get("Content-Range", "").startswith("bytes */"):
            record.kind = "gmail-query"
        with self.counting:
            self.requests.append(record)
            if path.startswith(("/v1.0/", "/api/", "/gmail/", "/upload/", "/resumable/")) and record.groups:
                bearer = self.access.get(handler.headers.get("Authorization", "").removeprefix("Bearer "))
                who = record.groups[0].removeprefix("users/")
                session = self.sessions.get(query.get("upload_id") or who)
                record.mailbox = session.mailbox if session else bearer.user if who == "me" and bearer else who
                record.left, record.number = False, self.in_flight[record.mailbox] + 1
                self.in_flight[record.mailbox] += 1
                self.in_flight_max[record.mailbox] = max(self.in_flight_max[record.mailbox], record.number)
        return record

    def leave(self, record):
        with self.counting:
            if not record.left:
                record.left = True
                self.in_flight[record.mailbox] -= 1

    def _next(self, knob, kind):
        """What a knob says of a request now: a list is used up."""
        with self.counting:
            value = knob.get(kind)
            return (value.pop(0) if value else None) if isinstance(value, list) else value

    def serve(self, handler):
        record, kind = handler.record, handler.record.kind
        graph = record.path.startswith(("/v1.0/", "/api/"))
        crowded = graph and not record.left and record.number > self.concurrency
        planned = None if crowded else self._next(self.fail, kind) or self.always.get(kind)
        if getattr(planned, "early", False):
            return planned(handler)
        try:
            record.body = handler.read_body()
            self.closing.wait(self.delay.get(kind, 0))
            if callable(planned):
                planned = planned(handler)
                if planned is None:
                    return
            if planned is not None:
                return handler.answer(*planned)
            if crowded:
                raise Refused(graph_error(429, "ApplicationThrottled",
                    "Application is over its MailboxConcurrency limit.", Retry_After=1))  # fmt: skip
            if kind is None:
                self.note(record, "no such endpoint")
                raise Refused(graph_error(404, "ResourceNotFound", "Resource could not be discovered."))
            when = self._next(self.drop, kind)
            if when == "before-store":
                return handler.hang_up()
            with self.lock:
                answer = getattr(self, "_" + kind.replace("-", "_"))(record, *record.groups)
            if answer[0] < 400 and when == "after-store":
                return handler.hang_up()
            answer = (self._next(self.answer_after_store, kind) if answer[0] < 400 else None) or answer
            if kind == "token" and self.token_barrier:
                self._hold()
        except Refused as refusal:
            answer = refusal.answer
        except OSError:  # the client went away
            raise
        except Exception:
            self.note(record, "the fake itself failed: " + traceback.format_exc())
            answer = 500, {}, b""
        status, headers, body = answer
        if record.path.startswith("/v1.0/"):
            echo = {"client-request-id": record.headers[n] for n in ["client-request-id"] if n in record.headers}
            headers = {"request-id": record.id, **echo, **headers}
        handler.answer(status, headers, body)

    def _hold(self):
        barrier = self.token_barrier
        with self.counting:
            self.held += 1
        while not (barrier.wait(0.05) or self.closing.is_set()):
            pass
        with self.counting:
            self.held -= 1

    # ------------------------------------------------------------------ sign-in and tokens

    REFUSALS = {
        "client": (700016, 401, "invalid_client", "The OAuth client was not found."),
        "secret": (7000215, 401, "invalid_client", "The provided client secret is invalid."),
        "no secret": (7000218, 400, "invalid_request", "client_secret is missing."),
        "public": (700025, 401, "invalid_client", "Unauthorized"),
        "grant": (70003, 400, "unsupported_grant_type", "Invalid grant_type: "),
        "missing": (900144, 400, "invalid_request", "Missing required parameter"),
        "code": (70000, 400, "invalid_grant", "Malformed auth code."),
        "used": (54005, 400, "invalid_grant", "Bad Request"),
        "expired": (70008, 400, "invalid_grant", "Bad Request"),
        "redirect": (50011, 400, "redirect_uri_mismatch", "Bad Request"),
        "verifier": (501481, 400, "invalid_grant", "Invalid code verifier."),
        "refresh": (70000, 400, "invalid_grant", "Token has been expired or revoked."),
        "scope": (70011, 400, "invalid_scope", "Some requested scopes were invalid."),
        "consent": (65001, 400, "invalid_scope", "Bad Request"),
    }

    def _no(self, what, note=None, record=None):
        number, *google = self.REFUSALS[what]
        if note:
            self.note(record, note)
        raise Refused(aadsts(number) if self.microsoft else google_error(*google))

    def _scope(self, text, granted, record):
        """A scope parameter: (audience, host, names, text of the answer); `granted` None: an application's."""
        wanted = (text or "").split()
        if not self.microsoft:
            wanted = wanted or sorted(granted or [])
            if granted is not None and not set(wanted) <= granted:
                self._no("consent")
            return self.flavour, None, set(wanted), " ".join(wanted)
        if not wanted:
            self._no("missing", "no scope", record)
        split = [s.rpartition("/") if "/" in s else ("https://graph.microsoft.com", "/", s) for s in wanted if s not in OPENID]
        hosts = {root.removeprefix("https://") for root, _, _ in split} or {"graph.microsoft.com"}
        audiences = {AUDIENCES.get(host) for host in hosts}
        if None in audiences:
            raise Refused(aadsts(500011))
        if len(audiences) > 1:
            self.note(record, f"scopes of several resources in one request: {text}")
            raise Refused(aadsts(700022))
        (audience,), host, names = audiences, sorted(hosts)[0], {name for _, _, name in split}
        if granted is None:
            if names != {".default"} or len(wanted) > 1:
                raise Refused(aadsts(1002012, "invalid_scope", f"The provided value for scope {text} is not valid. "
                    "Client credential flows must have a scope value with /.default suffixed to the resource."))  # fmt: skip
            return audience, host, names, None
        have = {s.rpartition("/")[2] for s in granted if AUDIENCES.get(urllib.parse.urlsplit(s).hostname or "graph.microsoft.com") == audience}
        if names == {".default"}:
            names = have - OPENID
        if not names <= KNOWN_SCOPES[audience]:
            self._no("scope")
        if not names <= have:
            self._no("consent")
        return audience, host, names, " ".join(sorted(f"https://{host}/{name}" for name in names))

    def _authorize(self, record, tenant=None):
        q, problems = record.query, []
        redirect = urllib.parse.urlsplit(q.get("redirect_uri", ""))
        hosts = ["localhost"] if self.microsoft else ["127.0.0.1", "::1"]
        loopback = redirect.scheme == "http" and redirect.hostname in hosts and (self.microsoft or redirect.port)
        checks = {
            f"unknown tenant {tenant}": tenant in (None, self.directory_id, "common", "organizations"),
            "unknown client_id": q.get("client_id") == self.client_id,
            f"redirect_uri {q.get('redirect_uri')}": loopback or q.get("redirect_uri") in self.redirect_uris,
            "response_type is not code": q.get("response_type") == "code",
            "no scope": q.get("scope", "").strip(),
            "no state": q.get("state"),
            "code_challenge_method is not S256": q.get("code_challenge_method") == "S256",
            "code_challenge": re.fullmatch(r"[A-Za-z0-9_-]{43}", q.get("code_challenge", "")),
            "a secret in the address": "client_secret" not in q,
        }
        problems = [words for words, fine in checks.items() if not fine]
        for words in problems:
            self.note(record, words)
        if problems:
            return 400, {"Content-Type": "text/html"}, f"<html>AADSTS50011: {problems}</html>"
        answer = {"state": "CANARY-not-yours" if self.wrong_state else q["state"]}
        if self.deny:
            answer["error"] = "access_denied"
            if self.microsoft:
                answer["error_description"] = "the user canceled the authentication"
        else:
            answer["code"] = self.mint("0.AXoA" if self.microsoft else "4/0A", 800 if self.microsoft else 90)
            answer |= {"session_state": _guid()} if self.microsoft else {"scope": q["scope"]}
            self.codes[answer["code"]] = Record(user=self.signs_in_as or self.user, scopes=set(q["scope"].split()),
                redirect=q["redirect_uri"], challenge=q["code_challenge"], used=False, made=time.monotonic())  # fmt: skip
        joint = "&" if redirect.query else "?"
        return 302, {"Location": q["redirect_uri"] + joint + urllib.parse.urlencode(answer)}, b""

    def _form(self, record):
        """The form of a POST, held against what any token endpoint demands."""
        if record.headers.get_content_type() != "application/x-www-form-urlencoded":
            self.note(record, f"Content-Type {record.headers.get('Content-Type')}")
        pairs = urllib.parse.parse_qsl(record.body.decode("utf-8", "replace"), keep_blank_values=True)
        form = dict(pairs)
        if len(form) < len(pairs):
            self.note(record, "a form field twice")
        if record.query:
            self.note(record, "a query at the token endpoint")
        return form

    def _tenant(self, tenant, app=False):
        if self.microsoft and tenant in ("common", "organizations", "consumers") and app:
            raise Refused(aadsts(50059))
        if self.microsoft and tenant not in (self.directory_id, "common", "organizations"):
            raise Refused(aadsts(90002))

    def _client(self, record, form, optional=False):
        """Authenticates the client by Basic, secret or assertion."""
        identity, secret = form.get("client_id"), form.get("client_secret")
        scheme, _, basic = record.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            pair = base64.b64decode(basic).decode().split(":", 1)
            identity, secret = (urllib.parse.unquote_plus(part) for part in pair)
        if identity != self.client_id:
            self._no("client")
        if "client_assertion" in form and self.flavour != "google":
            return self._assertion(record, form)
        if secret is None:
            return None if self.public or optional else self._no("no secret")
        if self.public:
            self._no("public", "a public client sends a secret", record)
        if secret != self.client_secret:
            self._no("secret")

    def _assertion(self, record, form):
        """private_key_jwt, as A.5."""

        def no(words):
            raise Refused(aadsts(700027, text=f"Client assertion failed signature validation. [Reason - {words}]"))

        if form.get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer":
            self._no("missing", "client_assertion_type", record)
        try:
            header, claims, signed, signature = read_jwt(form["client_assertion"])
        except ValueError as error:
            no(f"Not a JWT: {error}")
        known = [self.certificates.get((name, header.get(name))) for name in ("x5t#S256", "x5t") if name in header]
        now = time.time()
        checks = {
            "alg": header.get("alg") in ("PS256", "RS256"),
            "The key was not found.": known and known[0],
            "aud": claims.get("aud") == self.base + record.path,
            "iss and sub": claims.get("iss") == claims.get("sub") == self.client_id,
            "The assertion has expired.": now < claims.get("exp", 0) < now + 86400,
            "nbf": claims.get("nbf", 0) <= now + 300,
            "jti": claims.get("jti") and claims["jti"] not in self.used_jti,
        }
        for words, fine in checks.items():
            fine or no(words)
        if not signature_holds(known[0], header["alg"], signed, signature):
            no("The key was used, but the signature is invalid.")
        if claims["exp"] - claims.get("nbf", claims.get("iat", now)) > 600:
            self.note(record, "an assertion valid for more than 10 minutes")
        self.used_jti.add(claims["jti"])

    def _token(self, record, tenant=None):
        form = self._form(record)
        self.token_requests.append(form)
        grant = form.get("grant_type")
        self._tenant(tenant, app=grant == "client_credentials")
        if grant == JWT_BEARER and not self.microsoft:
            return self._service_account(form)
        refreshed = self.refresh.get(form.get("refresh_token"), Record(public=False))
        self._client(record, form, optional=grant == DEVICE_CODE or (grant == "refresh_token" and refreshed.public))
        if grant == "client_credentials" and self.flavour != "google":
            audience, host, names, _ = self._scope(form.get("scope"), None, record)
            return self._issued(None, audience, names, app=True, host=host)
        if grant == "authorization_code":
            user, scopes, public = *self._redeem(record, form), self.public
        elif grant == "refresh_token":
            user, scopes, public = self._refreshed(form), refreshed.scopes, refreshed.public
        elif grant == DEVICE_CODE:
            user, scopes, public = *self._polled(record, form), True
        else:
            self._no("grant" if grant else "missing", f"grant_type {grant}", record)
        # a device code's scopes were said when it was asked for
        wanted = form.get("scope") or (" ".join(sorted(scopes)) if grant == DEVICE_CODE else None)
        audience, host, names, text = self._scope(wanted, scopes, record)
        more = {"scope": text}
        asked = scopes & set(wanted.split()) if wanted else scopes
        offline = "offline_access" in asked
        if self.flavour == "google" and grant != "refresh_token" or self.flavour != "google" and offline:
            if grant != "refresh_token" or self.rotate:
                more["refresh_token"] = self.mint_refresh(user, scopes, public)
                if grant == "refresh_token" and self.strict:
                    refreshed.dead = 700082
        if "openid" in asked:
            more["id_token"] = self._id_token(user)
        return self._issued(user, audience, names, host=host, **more)

    def _redeem(self, record, form):
        code = self.codes.get(form.get("code"))
        verifier = form.get("code_verifier", "")
        if not code:
            self._no("code")
        if code.used:
            self._no("used")
        if time.monotonic() - code.made > 600:
            self._no("expired")
        if form.get("redirect_uri") != code.redirect:
            self._no("redirect", f"redirect_uri {form.get('redirect_uri')} is not {code.redirect}", record)
        if not re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier):
            self._no("verifier", "code_verifier", record)
        if b64url(hashlib.sha256(verifier.encode()).digest()) != code.challenge:
            self._no("verifier", "code_verifier does not fit", record)
        code.used = True
        return code.user, code.scopes

    def _refreshed(self, form):
        found = self.refresh.get(form.get("refresh_token"))
        if not found:
            self._no("refresh")
        if found.dead:
            raise Refused(aadsts(found.dead) if self.microsoft else google_error(*TOKEN_ROWS_GOOGLE[0][:3]))
        return found.user

    def _device(self, record, tenant=None):
        form = self._form(record)
        self._tenant(tenant)
        if form.get("client_id") != self.client_id:
            self._no("client")
        scopes = form.get("scope", "").split()
        if self.flavour == "google" and (bad := [s for s in scopes if "mail" in s and s != "email"]):
            raise Refused(google_error(400, "invalid_scope", f"Invalid device flow scope: {bad[0]}"))
        if not scopes:
            self._no("missing", "no scope", record)
        code, user_code = self.mint("DAQABAAEAAAD", 200), secrets.token_hex(4).upper()
        self.devices[code] = Record(user=self.user, scopes=set(scopes), last=0, used=False,
            interval=self.device_interval, ends=time.monotonic() + self.device_expires_in)  # fmt: skip
        uri = {"microsoft": "https://microsoft.com/devicelogin", "google": "https://www.google.com/device"}
        address = {"verification_url" if self.flavour == "google" else "verification_uri": uri.get(self.flavour, self.base + "/device")}
        answer = {"user_code": user_code, "device_code": code, **address, "expires_in": self.device_expires_in}
        words = f"To sign in, use a web browser to open the page {uri['microsoft']} and enter the code {user_code} to authenticate."
        return 200, {}, {**answer, "interval": self.device_interval} | ({"message": words} if self.microsoft else {})

    def _polled(self, record, form):
        device, now = self.devices.get(form.get("device_code")), time.monotonic()
        said = "bad_verification_code" if not device or device.used else None
        if not said:
            early, device.last = now - device.last < device.interval * 0.9, now
            said = "expired_token" if now > device.ends else None
            if early:
                self.note(record, f"polled before the interval of {device.interval} s")
            said = said or ("slow_down" if early else self.device_answers.pop(0) if self.device_answers else None)
        if said is None:
            device.used = True
            return self.signs_in_as or device.user, device.scopes
        if said == "slow_down":
            device.interval += 5
        number = {"authorization_pending": 70016, "bad_verification_code": 70018, "expired_token": 70020}.get(said, 70000)
        if self.microsoft:
            raise Refused(aadsts(number, said, f"OAuth 2.0 device flow error: {said}. Continue polling as told."))
        status = {"authorization_pending": 428, "slow_down": 403, "access_denied": 403} if self.flavour == "google" else {}
        raise Refused(google_error(status.get(said, 400), said, "Precondition Required"))

    def _service_account(self, form):
        """A JWT of a service account, as C.4 and C.5."""

        def no(status, error, words):
            raise Refused(google_error(status, error, words))

        try:
            header, claims, signed, signature = read_jwt(form.get("assertion", ""))
        except ValueError:
            no(400, "invalid_grant", "Invalid JWT: not a valid JWT.")
        address, key = self.service_keys.get(header.get("kid"), (None, None))
        if header.get("alg") != "RS256" or not key or not signature_holds(key, "RS256", signed, signature):
            no(400, "invalid_grant", "Invalid JWT Signature.")
        if claims.get("iss") != address:
            no(400, "invalid_grant", "Invalid grant: account not found")
        if claims.get("aud") != self.token_url:
            no(400, "invalid_grant", f"Invalid JWT: Failed audience check. The right audience is {self.token_url}")
        issued, ends, now = claims.get("iat", 0), claims.get("exp", 0), time.time()
        if not (issued <= now + 300 and now < ends <= issued + 3600):
            no(400, "invalid_grant", _JWT_TIME)
        scopes = claims.get("scope", "").split()
        if not scopes:
            no(400, "invalid_scope", "Empty or missing scope not allowed.")
        if not set(scopes) <= self.delegated_scopes:
            no(401, "unauthorized_client", _UNAUTHORIZED)
        if claims.get("sub") not in self.mailboxes:
            no(400, "invalid_grant", "Invalid email or User ID")
        return self._issued(claims["sub"], "google", set(scopes))

    def _id_token(self, user):
        now = int(time.time())
        claims = {"aud": self.client_id, "iss": self.base, "sub": "sub-" + user, "iat": now, "exp": now + 3600}
        claims |= {"tid": self.directory_id, "preferred_username": user, "email": user, "upn": user, "name": "Office"}
        parts = [{"alg": "RS256", "typ": "JWT", "kid": "1"}, claims]
        token = ".".join(b64url(json.dumps(part).encode()) for part in parts) + ".CANARY" + b64url(secrets.token_bytes(64))
        self.minted.append(token)
        return token

    def _issued(self, user, audience, names, app=False, host=None, **more):
        """A successful token answer."""
        prefix = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9." if self.microsoft else "ya29."
        token = self.mint(prefix, self.token_length)
        self.access[token] = Record(user=user, audience=audience, names=names, app=app, host=host,
            expires=time.monotonic() + self.expires_in)  # fmt: skip
        answer = {"token_type": "Bearer", "expires_in": self.expires_in, "access_token": token}
        answer |= {"ext_expires_in": self.expires_in} if self.microsoft else {}
        answer |= {name: value for name, value in more.items() if value is not None}
        answer = self.shape(answer) if self.shape else answer
        return 200, {"Cache-Control": "no-store", "Pragma": "no-cache", "Content-Type": "application/json"}, answer

    def _bearer(self, record, audience, refuse):
        """The access token of a request to an API; `refuse(words)` makes the 401."""
        scheme, _, text = record.headers.get("Authorization", "").partition(" ")
        found = self.access.get(text)
        words = None
        if scheme != "Bearer" or not text:
            words = "Access token is empty."
            self.note(record, "no bearer token")
        elif not found:
            words = "CompactToken parsing failed with error code: 80049217"
        elif found.expires <= time.monotonic():
            words = "Access token has expired or is not yet valid."
        elif found.audience != audience:
            words = "Access token validation failure. Invalid audience."
        if words:
            raise Refused(refuse(words))
        return found

    # ------------------------------------------------------------------ Graph

    def _graph(self, record, who, need):
        """The mailbox of a Graph request, if its token, permission and length are right."""
        if "client-request-id" not in record.headers:
            self.note(record, "no client-request-id")
        token = self._bearer(record, "graph", lambda words: graph_error(401, "InvalidAuthenticationToken", words))
        if who == "me" and token.app:
            self.note(record, "/me with an application's token")
            raise Refused(graph_error(400, "BadRequest", "/me request is only valid with delegated authentication flow."))
        mailbox = token.user if who == "me" else who.removeprefix("users/")
        if mailbox not in self.mailboxes:
            raise Refused(graph_error(404, "ErrorInvalidUser", f"The requested user '{mailbox}' is invalid."))
        names = token.names | {name.removesuffix(".Shared") for name in token.names}
        foreign = not token.app and mailbox != token.user
        if foreign and not (mailbox in self.shared and need + ".Shared" in token.names):
            raise Refused(graph_error(403, "ErrorAccessDenied", _DENIED))
        if need not in self.permissions or not (token.app or need in names):
            raise Refused(graph_error(403, "ErrorAccessDenied", _DENIED))
        if len(record.body) > self.request_limit:
            raise Refused(graph_error(413, "RequestEntityTooLarge", _4MB))
        return mailbox

    def _posted(self, record):
        """What a message is posted as: (MIME, None) or (None, JSON)."""
        kind = record.headers.get("Content-Type", "")
        if kind == "text/plain":
            try:
                raw = base64.b64decode(re.sub(rb"[\r\n]", b"", record.body), validate=True)
            except ValueError:
                raw = b""
            if not raw:
                words = "Invalid base64 string for MIME content."
                raise Refused(graph_error(400, "ErrorMimeContentInvalidBase64String", words))
            if not re.match(rb"[!-9;-~]+[ \t]*:", raw):
                raise Refused(graph_error(400, "ErrorMimeContentInvalid", "The MIME content is invalid."))
            return raw, None
        try:
            if record.headers.get_content_type() == "application/json":
                return None, json.loads(record.body)
        except ValueError:
            pass
        raise Refused(graph_error(400, "UnableToDeserializePostBody", "were unable to deserialize "))

    def _file(self, item):
        """A fileAttachment of JSON."""
        try:
            content = base64.b64decode(item["contentBytes"], validate=True)
            kind = item["@odata.type"]
        except (KeyError, TypeError, ValueError):
            kind = None
        if kind != "#microsoft.graph.fileAttachment" or not item.get("name"):
            raise Refused(graph_error(400, "RequestBodyRead", "The attachment is no fileAttachment."))
        if len(content) > self.attachment_maximum:
            raise Refused(graph_error(413, "RequestEntityTooLarge", _4MB))
        return Record(name=item["name"], type=item.get("contentType"), content=content, cid=item.get("contentId"),
            inline=bool(item.get("isInline")))  # fmt: skip

    def _mime_of(self, message, mailbox):
        """A message of JSON as MIME, its attachments as parts."""
        made = email.message.EmailMessage(policy=email.policy.SMTP)

        def people(*found):
            return ", ".join(email.utils.formataddr((p["emailAddress"].get("name"), p["emailAddress"]["address"])) for p in found)

        made["From"] = people(message["from"]) if message.get("from") else mailbox
        for name in ("toRecipients", "ccRecipients", "bccRecipients", "replyTo"):
            if message.get(name):
                made["Reply-To" if name == "replyTo" else name[:-10].title()] = people(*message[name])
        made["Subject"], made["Date"] = message.get("subject", ""), email.utils.formatdate()
        made["Message-ID"] = message.get("internetMessageId") or email.utils.make_msgid(domain="prod.outlook.example")
        more = message.get("internetMessageHeaders")
        if more is not None and not 0 < len(more) <= 5:
            raise Refused(graph_error(400, "InvalidInternetMessageHeaderCollection", "Too many or no headers."))
        for header in more or []:
            if not header["name"].lower().startswith("x-"):
                raise Refused(graph_error(400, "InvalidInternetMessageHeader",
                    f"The internet message header name '{header['name']}' should start with 'x-' or 'X-'."))  # fmt: skip
            made[header["name"]] = header["value"]
        body = message.get("body") or {}
        made.set_content(body.get("content", ""), subtype="html" if body.get("contentType", "").lower() == "html" else "plain")
        return made.as_bytes(), [self._file(item) for item in message.get("attachments", [])]

    def _deliverable(self, mailbox, raw):
        """The recipients of what a mailbox sends, if it may."""
        if len(raw) > self.message_limit:
            raise Refused(graph_error(413, "ErrorMessageSizeExceeded", _TOO_BIG))
        recipients = list(dict.fromkeys(addresses(raw, "To", "Cc", "Bcc")))
        if not recipients or any("@" not in r for r in recipients):
            raise Refused(graph_error(400, "ErrorInvalidRecipients", _NO_RECIPIENT))
        if len(recipients) > self.max_recipients:
            raise Refused(graph_error(400, "ErrorExceededMaxRecipientLimitPerMessage", "Too many recipients."))
        allowed = {a.lower() for a in self.send_as[mailbox] | {mailbox}}
        if any(sender.lower() not in allowed for sender in addresses(raw, "From")):
            raise Refused(graph_error(403, "ErrorSendAsDenied", _SEND_AS))
        return recipients

    def _store(self, mailbox, raw, recipients, how, saved=True, identity=None, visible=None):
        visible = without(raw, "bcc") if visible is None else visible
        known = re.findall(rb"(?im)^message-id:\s*(<[^>]*>)", b"".join(fields(raw)[0]))
        fresh = email.utils.make_msgid(domain="prod.outlook.example")
        message_id = known[0].decode("utf-8", "replace") if known and self.keeps_message_id else fresh
        self.sent.append(Sent(time=time.time(), mailbox=mailbox, raw=raw, recipients=recipients, visible=visible,
            how=how, saved=saved, id=identity or "AAMkAsent" + secrets.token_hex(16), message_id=message_id))  # fmt: skip
        return self.sent[-1]

    def _sendMail(self, record, who):
        mailbox = self._graph(record, who, "Mail.Send")
        raw, form = self._posted(record)
        saved = True
        if form is not None:
            if not isinstance(form.get("message"), dict):
                raise Refused(graph_error(400, "UnableToDeserializePostBody", "were unable to deserialize "))
            raw = with_attachments(*self._mime_of(form["message"], mailbox))
            saved = str(form.get("saveToSentItems", True)).lower() == "true"
        self._store(mailbox, raw, self._deliverable(mailbox, raw), "sendMail", saved)
        return 202, {}, b""

    def _draft(self, record, who):
        mailbox = self._graph(record, who, "Mail.ReadWrite")
        raw, form = self._posted(record)
        raw, parts = (raw, []) if form is None else self._mime_of(form, mailbox)
        immutable = 'IdType="ImmutableId"' in record.headers.get("Prefer", "")
        known = re.findall(rb"(?im)^message-id:\s*(<[^>]*>)", b"".join(fields(raw)[0]))
        draft = Record(id=("AAkALg" if immutable else "AAMkAG") + secrets.token_hex(24) + "=", mailbox=mailbox, raw=raw,
            parts=parts, immutable=immutable, time=time.time(),
            message_id=known[0].decode() if known else email.utils.make_msgid(domain="prod.outlook.example"))  # fmt: skip
        self.drafts[draft.id] = draft
        return 201, {"Location": f"{self.base}/v1.0/users/{mailbox}/messages/{draft.id}"}, self._resource(draft, True)

    def _resource(self, item, draft):
        context = "https://graph.microsoft.com/v1.0/$metadata#users('me')/messages/$entity"
        return {"@odata.context": context, "id": item.id, "isDraft": draft, "internetMessageId": item.message_id}

    def _known(self, mailbox, identity, sent=False):
        found = self.drafts.get(identity)
        if not found and sent:
            found = next((s for s in self._visible(mailbox) if s.id == identity), None)
        if not found or found.mailbox != mailbox:
            raise Refused(graph_error(404, "ErrorItemNotFound", "The specified object was not found in the store."))
        return found

    def _visible(self, mailbox):
        """What Sent Items shows by now."""
        ripe = time.time() - self.sent_items_delay
        return [s for s in self.sent if s.mailbox == mailbox and s.saved and s.time <= ripe]

    def _attachment(self, record, who, identity):
        draft = self._known(self._graph(record, who, "Mail.ReadWrite"), identity)
        part = self._file(self._posted(record)[1] or {})
        draft.parts.append(part)
        return 201, {}, {"id": "AAMkAatt" + secrets.token_hex(8), "name": part.name, "size": len(part.content)}

    def _session(self, record, who, identity):
        draft = self._known(self._graph(record, who, "Mail.ReadWrite"), identity)
        item = (self._posted(record)[1] or {}).get("AttachmentItem") or {}
        size = item.get("size")
        if item.get("attachmentType") != "file" or not item.get("name") or not isinstance(size, int):
            raise Refused(graph_error(400, "RequestBodyRead", "The AttachmentItem is incomplete."))
        if size < self.session_minimum:
            raise Refused(graph_error(400, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize",
                "Attachment size must be greater than the minimum size. Use a POST to attach it."))  # fmt: skip
        if size > self.message_limit:
            raise Refused(graph_error(413, "ErrorMessageSizeExceeded", _TOO_BIG))
        key, token = secrets.token_hex(8), self.mint("eyJ", 400)
        self.sessions[key] = Record(draft=draft, mailbox=draft.mailbox, name=item["name"], size=size, content=bytearray(),
            type=item.get("contentType"), inline=bool(item.get("isInline")), cid=item.get("contentId"), token=token)  # fmt: skip
        box = urllib.parse.quote(draft.mailbox)
        path = f"/api/v2.0/Users('{box}')/Messages('{draft.id}')/AttachmentSessions('{key}')?authtoken={token}"
        return 201, {}, {"uploadUrl": self.base + path, **self._ranges(self.sessions[key], "0-")}

    def _ranges(self, session, start=None):
        ends = time.strftime("%Y-%m-%dT%H:%M:%S.0Z", time.gmtime(time.time() + 3600))
        return {"expirationDateTime": ends, "nextExpectedRanges": [start or str(len(session.content))]}

    def _open(self, record, key):
        """An upload session by its URL, which is its own authorisation."""
        session = self.sessions.get(key)
        if not session or record.query.get("authtoken") != session.token:
            raise Refused(graph_error(404, "ErrorItemNotFound", "The upload session was not found."))
        if "Authorization" in record.headers:
            self.note(record, "Authorization at an upload URL")
            raise Refused(graph_error(400, "BadRequest", "The upload URL is authenticated by itself."))
        return session

    def _put(self, record, key):
        session = self._open(record, key)
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", record.headers.get("Content-Range", ""))
        first, last, total = map(int, match.groups()) if match else (-1, -1, -1)
        if len(record.body) > 4 * MB or total != session.size or last - first + 1 != len(record.body):
            self.note(record, f"{len(record.body)} octets as {record.headers.get('Content-Range')} of {session.size}")
            raise Refused(graph_error(416, "ErrorInvalidRange", "The range is invalid."))
        if first != len(session.content):
            raise Refused(graph_error(416, "ErrorInvalidRange", f"Expected {len(session.content)}."))
        session.content += record.body
        if len(session.content) < session.size:
            return 200, {}, self._ranges(session)
        session.draft.parts.append(Record(**{**vars(session), "content": bytes(session.content)}))
        del self.sessions[key]
        return 201, {"Location": self.base + record.path.replace("AttachmentSessions", "Attachments")}, b""

    def _put_status(self, record, key):
        return 200, {}, self._ranges(self._open(record, key))

    def _put_delete(self, record, key):
        self._open(record, key)
        del self.sessions[key]
        return 204, {}, b""

    def _send(self, record, who, identity):
        mailbox = self._graph(record, who, "Mail.Send")
        draft = self._known(mailbox, identity)
        if record.body:
            self.note(record, "a body at send")
        raw = with_attachments(draft.raw, draft.parts)
        self._store(mailbox, raw, self._deliverable(mailbox, raw), "draft", identity=draft.id if draft.immutable else None)
        del self.drafts[identity]
        return 202, {}, b""

    def _get(self, record, who, identity):
        found = self._known(self._graph(record, who, "Mail.ReadWrite"), identity, sent=True)
        return 200, {}, self._resource(found, identity in self.drafts)

    def _delete(self, record, who, identity):
        mailbox = self._graph(record, who, "Mail.ReadWrite")
        if self._known(mailbox, identity, sent=True) and not self.drafts.pop(identity, None):
            next(s for s in self.sent if s.id == identity).saved = False
        return 204, {}, b""

    def _found(self, record, who, items):
        mailbox = self._graph(record, who, "Mail.ReadWrite")
        wanted = re.fullmatch(r"internetMessageId eq '(.*)'", record.query.get("$filter", ""))
        if not wanted:
            self.note(record, f"$filter {record.query.get('$filter')}")
            raise Refused(graph_error(400, "BadRequest", "Invalid filter clause"))
        message_id = wanted[1].replace("''", "'")
        found = [self._resource(i, i.id in self.drafts) for i in items(mailbox) if i.message_id == message_id]
        return 200, {}, {"@odata.context": "https://graph.microsoft.com/v1.0/$metadata#messages", "value": found}

    def _sent_items(self, record, who):
        return self._found(record, who, self._visible)

    def _list(self, record, who):
        def items(mailbox):
            drafts = [draft for draft in self.drafts.values() if draft.mailbox == mailbox]
            return drafts if "mailFolders" in record.path else drafts + self._visible(mailbox)

        return self._found(record, who, items)

    def _me(self, record, who):
        mailbox = self._graph(record, who, "Mail.Send")
        return 200, {}, {"id": _guid(), "userPrincipalName": mailbox, "mail": mailbox, "displayName": "Office"}

    def _user(self, record, who):
        if "User.Read.All" not in self.permissions:
            raise Refused(graph_error(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation."))
        return self._me(record, "users/" + who)

    # ------------------------------------------------------------------ Gmail

    def _account(self, record, who, scopes=frozenset(GMAIL_SEND)):
        words = "Request had invalid authentication credentials. Expected OAuth 2 access token."
        token = self._bearer(record, "google", lambda _: gmail_error(401, "authError", words))
        if not token.names & scopes:
            raise Refused(gmail_error(403, "insufficientPermissions", _SCOPES))
        if who not in ("me", token.user):
            raise Refused(gmail_error(403, "forbidden", f"Delegation denied for {token.user}"))
        return token.user

    def _gmail(self, record, who):
        """raw, media and multipart."""
        account, how = self._account(record, who), record.query.get("uploadType")
        if "/upload/" not in record.path:
            try:
                raw = un64url(json.loads(record.body)["raw"])
            except (KeyError, TypeError, ValueError):
                words = "Invalid value at 'raw' (TYPE_BYTES), Base64 decoding failed"
                raise Refused(gmail_error(400, "invalidArgument", words)) from None
            how = "raw"
        elif how == "media":
            raw = record.body
            if not record.headers.get_content_type().startswith("message/"):
                raise Refused(gmail_error(400, "badContent", f"Media type '{record.headers.get_content_type()}' is not supported. Valid media types: [message/*]"))  # fmt: skip
        elif how == "multipart":
            boundary = record.headers.get_param("boundary") or ""
            parts = (b"\r\n" + record.body).split(b"\r\n--" + boundary.encode())[1:-1] if boundary else []
            halves = [part.partition(b"\r\n\r\n") for part in parts]
            if len(halves) != 2 or b"json" not in halves[0][0] or b"message/" not in halves[1][0]:
                raise Refused(gmail_error(400, "badContent", "Bad content: wants a JSON part and a message/rfc822 part."))
            raw = halves[1][2]
        else:
            self.note(record, f"uploadType {how}")
            raise Refused(gmail_error(400, "badRequest", "Invalid uploadType."))
        if how != "raw" and len(record.body) > 5 * MB:
            self.note(record, f"{how} of {len(record.body)} octets: wants a resumable upload")
        return self._sends(account, raw, how)

    def _sends(self, account, raw, how):
        if len(raw) > self.message_limit:
            raise Refused(gmail_error(413, "uploadTooLarge", "Request is too large."))
        if self.daily_limit is not None and sum(s.mailbox == account for s in self.sent) >= self.daily_limit:
            raise Refused(gmail_error(403, "dailyLimitExceeded", "Daily user sending limit exceeded"))
        recipients = list(dict.fromkeys(addresses(raw, "To", "Cc", "Bcc")))
        if not recipients:
            raise Refused(gmail_error(400, "invalidArgument", "Recipient address required"))
        if any("@" not in recipient for recipient in recipients):
            raise Refused(gmail_error(400, "invalidArgument", "Invalid To header"))
        visible, allowed = without(raw, "bcc"), {a.lower() for a in self.send_as[account] | {account}}
        if any(sender.lower() not in allowed for sender in addresses(raw, "From")) or not addresses(raw, "From"):
            old = next((f for f in fields(raw)[0] if f[:5].lower() == b"from:"), b"From: \r\n")
            parsed = email.message_from_bytes(old + b"\r\n", policy=email.policy.default)["From"].addresses
            new = email.utils.formataddr((parsed[0].display_name if parsed else "", account))
            visible = f"From: {new}\r\n".encode() + b"X-Google-Original-From:" + old[5:] + without(visible, "from")
        sent = self._store(account, raw, recipients, how, visible=visible)
        return 200, {}, {"id": sent.id[-16:], "threadId": sent.id[-16:], "labelIds": ["SENT"]}

    def _gmail_session(self, record, who):
        account = self._account(record, who)
        if not record.headers.get("X-Upload-Content-Type", "").startswith("message/"):
            self.note(record, f"X-Upload-Content-Type {record.headers.get('X-Upload-Content-Type')}")
        size = record.headers.get("X-Upload-Content-Length")
        if size and int(size) > self.message_limit:
            raise Refused(gmail_error(413, "uploadTooLarge", "Request is too large."))
        key = self.mint("AFiumC", 100)
        self.sessions[key] = Record(mailbox=account, size=size and int(size), content=bytearray(), done=None)
        location = f"{self.base}{record.path}?uploadType=resumable&upload_id={key}"
        return 200, {"Location": location, "X-GUploader-UploadID": key}, b""

    def _gmail_put(self, record, who):
        session = self.sessions.get(record.query.get("upload_id"))
        if not session:
            raise Refused(gmail_error(404, "notFound", "Upload session not found."))
        if session.done:
            return session.done
        content_range = record.headers.get("Content-Range")
        match = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", content_range or f"bytes 0-{len(record.body) - 1}/{len(record.body)}")
        first, last, total = match.groups() if match else (None, None, None)
        if not match or (first and int(last) - int(first) + 1 != len(record.body)):
            self.note(record, f"{len(record.body)} octets as {content_range}")
            raise Refused(gmail_error(400, "badRequest", "Failed to parse Content-Range header."))
        if total not in ("*", str(session.size or total)):
            self.note(record, f"Content-Range {content_range}, but {session.size} were announced")
            raise Refused(gmail_error(400, "badRequest", "The size differs from X-Upload-Content-Length."))
        if first:
            if int(first) > len(session.content):
                self.note(record, f"Content-Range {content_range} leaves a hole at {len(session.content)}")
                raise Refused(gmail_error(400, "badRequest", "The range begins after what was received."))
            if total != str(int(last) + 1) and len(record.body) % (256 * 1024):
                self.note(record, "a chunk that is no multiple of 256 KiB")
            kept = self._next({"": self.gmail_keeps}, "")
            session.content[int(first) :] = record.body[:kept]
        if len(session.content) > self.message_limit:
            raise Refused(gmail_error(413, "uploadTooLarge", "Request is too large."))
        if total != str(len(session.content)):
            received = {"Range": f"bytes=0-{len(session.content) - 1}"} if session.content else {}
            return 308, received, b""
        session.done = self._sends(session.mailbox, bytes(session.content), "resumable")
        return session.done

    _gmail_query = _gmail_put

    def _gmail_list(self, record, who):
        account, (_, _, wanted) = self._account(record, who, GMAIL_READ), record.query.get("q", "").partition("rfc822msgid:")
        ids = [s.id[-16:] for s in self.sent if s.mailbox == account and s.message_id.strip("<>") == wanted.strip("<>")]
        return 200, {}, {"messages": [{"id": i, "threadId": i} for i in ids], "resultSizeEstimate": len(ids)}

    def _gmail_profile(self, record, who):
        return 200, {}, {"emailAddress": self._account(record, who, GMAIL_READ), "messagesTotal": len(self.sent)}
