"""smtp.office365.com and smtp.gmail.com as they speak (facts A.9 to A.12, C.6), on 127.0.0.1, with
XOAUTH2 and OAUTHBEARER, and with every reply of their error tables to inject.

    google = GoogleSmtp(provider.check_smtp_token, implicit=True)
    google.inject("dot", "421 4.3.0 Temporary System Problem.  Try again later (10).")
    … host = "127.0.0.1", port = google.port, ca_file = google.ca …
    check(not google.violations, google.violations)
"""

import base64, json, re, secrets, select, shutil, socket, ssl, tempfile, threading, time

import rig
from cases import _h_certificates as certificates

DROP_AFTER_STORE = "\0stored"
"""As the reply of "dot": the message is stored, and the connection closed without an answer."""

HOST = "[SN2PR00CA0018.namprd00.prod.outlook.com]"
GSMTP = "5b1f17b1804b1-477b8955a9esm12345 - gsmtp"
STAGES = ("banner", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "dot")
NO = "535 5.7.139 Authentication unsuccessful, "
STOREDRV = "Failed to process message due to a permanent exception with message "

# Rows: (where, reply, class). What the facts shorten by "…" is filled in from what Exchange and Gmail say.

MICROSOFT_ROWS = [
    ("AUTH", f"535 5.7.3 Authentication unsuccessful {HOST}", "TOKEN"),
    *(("AUTH", f"{NO}SmtpClientAuthentication is disabled for the {what}. Visit https://aka.ms/smtp_auth_disabled for more information. {HOST}", "ACCT") for what in ("Tenant", "Mailbox")),
    ("AUTH", NO + "basic authentication is disabled. [SN2PR00CA0018.namprd00.prod.outlook.com 2024-10-10T20:31:23.429Z 08DCE853B9232A86]", "ACCT"),
    ("AUTH", f"{NO}the request did not meet the criteria to be authenticated successfully. Contact your administrator. {HOST}", "ACCT"),
    ("AUTH", NO + "user is locked by your organization's security defaults policy. Contact your administrator.", "ACCT"),
    ("AUTH", NO + "the user credentials were incorrect", "ACCT"),
    ("AUTH", NO + "the user account has an issue", "ACCT"),
    ("AUTH", NO + "the federated STS service was unreachable", "TEMP"),
    *((where, "550 5.7.30 Basic authentication is not supported for Client Submission.", "ACCT") for where in ("AUTH", "MAIL")),
    ("MAIL", f"530 5.7.57 Client not authenticated to send mail. Error: {NO}SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information. {HOST}", "ACCT"),
    ("AUTH", "454 4.7.0 Temporary authentication failure", "TEMP"),
    *((where, "432 4.3.2 " + words, "SLOW") for where in ("MAIL", "dot") for words in ("Concurrent connections limit exceeded.", "STOREDRV.ClientSubmit; sender thread limit exceeded")),
    *((where, "421 4.4.2 Message submission rate for this client has exceeded the configured limit", "SLOW") for where in STAGES),
    ("dot", "430 4.2.0 STOREDRV; mailbox logon failure; Failed to process message due to a transient exception with message Cannot open mailbox. MapiExceptionLogonFailed: Unable to make connection to the server.", "TEMP"),
    *((where, "451 4.7.0 Temporary server error. Please try again later. PRX2", "TEMP") for where in STAGES),
    *((where, f"451 4.7.0 Temporary server error. Please try again later. PRX{number}", "TEMP") for where in ("AUTH", "MAIL") for number in (4, 5)),
    ("dot", f"550 5.7.60 SMTP; Client does not have permissions to send as this sender {HOST}", "SENDER"),
    *(("dot", f"554 {code} SendAsDenied; a@x not allowed to send as b@x; STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; {STOREDRV}[BeginDiagnosticData]Cannot submit message. 0.35250:5F000000[EndDiagnosticData]", "SENDER") for code in ("5.2.252", "5.2.0")),
    ("dot", "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", "SLOW"),
    ("dot", "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded", "ACCT"),
    ("dot", f"554 5.2.0 STOREDRV.Submission.Exception:OutboundSpamException; {STOREDRV}WASCL UserAction verdict is not None. Actual verdict is Suspend, ShowTierUpgrade. OutboundSpamException: WASCL UserAction verdict is not None.", "ACCT"),
    ("dot", "550 5.1.8 Access denied, bad outbound sender. AS(42004)", "ACCT"),
    ("dot", "550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP. For more information please go to http://go.microsoft.com/fwlink/?LinkId=526653 AS(7230)", "ACCT"),
    *((where, "552 5.3.4 Message size exceeds fixed maximum message size", "MSG") for where in ("MAIL", "DATA", "dot")),
    ("dot", "554 5.6.0 Invalid message content, contains bare linefeeds", "MSG"),
    ("dot", "554 5.4.6 Hop count exceeded - possible mail loop", "MSG"),
    ("dot", "", "UNKNOWN"),
    ("dot", DROP_AFTER_STORE, "UNKNOWN"),
    ("dot", "421 4.4.2 Connection dropped", "UNKNOWN"),
]


def gmail(code, *lines):
    """A reply of Gmail in several lines: the last one begins with a second space."""
    return "".join(f"{code[:3]}-{code[4:]} {line}\r\n" for line in lines[:-1]) + f"{code} {' ' if lines[:-1] else ''}{lines[-1]} {GSMTP}"


HELP = "https://support.google.com/"
REFUSED = gmail("535 5.7.8", "Username and Password not accepted. For more information, go to", HELP + "mail/?p=BadCredentials")
BIG = ("Your message exceeded Google's message size limits. To view our", "message size guidelines, go to", HELP + "mail/?p=MaxSizeError")
WANT_AUTH = gmail("530 5.7.0", "Authentication Required. For more information, go to", HELP + "mail/?p=WantAuthError")

GOOGLE_ROWS = [
    ("AUTH", REFUSED, "TOKEN"),
    ("AUTH", gmail("534 5.7.9", "Application-specific password required. For more information, go to", HELP + "mail/?p=InvalidSecondFactor"), "ACCT"),
    ("AUTH", gmail("534 5.7.14", "<https://accounts.google.com/signin/continue?sarp=1&scc=1&plt=AKgnsbt> Please log in via your web browser", "and then try again.", " Learn more at", HELP + "mail/answer/78754"), "ACCT"),
    ("AUTH", gmail("454 4.7.0", "Too many login attempts, please try again later."), "SLOW"),
    ("EHLO", "421 4.7.0 Try again later, closing connection. (EHLO) " + GSMTP, "TEMP"),
    *((where, gmail("421 4.3.0", "Temporary System Problem.  Try again later (10)."), "TEMP") for where in ("banner", "AUTH", "MAIL", "RCPT", "dot")),
    *((where, gmail("451 4.3.0", "Mail server temporarily rejected message."), "TEMP") for where in ("MAIL", "RCPT", "dot")),
    ("dot", f"550-5.4.5 Daily user sending limit exceeded. For more information on Gmail\r\n550-5.4.5 sending limits go to\r\n550 5.4.5  {HELP}a/answer/166852 {GSMTP}", "SLOW"),
    ("RCPT", gmail("452 4.2.2", "The email account that you tried to reach is over quota. Please", "direct the recipient to", HELP + "mail/?p=OverQuotaTemp"), "TEMP"),
    ("RCPT", gmail("450 4.2.1", "The user you are trying to contact is receiving mail at a rate that", "prevents additional messages from being delivered. Please resend your", "message at a later time. For more information, go to", HELP + "mail/?p=ReceivingRate"), "TEMP"),
    ("RCPT", gmail("550 5.1.1", "The email account that you tried to reach does not exist. Please try", "double-checking the recipient's email address for typos or", "unnecessary spaces. For more information, go to", HELP + "mail/?p=NoSuchUser"), "RCPT"),
    ("dot", gmail("552 5.7.0", "This message was blocked because its content presents a potential", "security issue. To review our message content and attachment content", "guidelines, go to", HELP + "mail/?p=BlockedMessage"), "MSG"),
    *((where, gmail(code, *BIG), "MSG") for where in ("MAIL", "dot") for code in ("552 5.3.4", "552 5.2.3")),
    ("MAIL", gmail("555 5.5.2", "Syntax error."), "BUG"),
    ("EHLO", gmail("501 5.5.4", "Empty HELO/EHLO argument not allowed, closing connection."), "BUG"),
    ("dot", gmail("550 5.7.1", "The user or domain that you are sending to (or from) has a policy that", "prohibited the mail that you sent. For more information, please visit", HELP + "a/answer/172179").replace("gsmtp", "gcdp"), "SENDER"),
    ("MAIL", gmail("503 5.5.1", "EHLO/HELO first."), "BUG"),
    ("MAIL", WANT_AUTH, "BUG"),
    ("MAIL", "530 5.7.0 Must issue a STARTTLS command first", "BUG"),
]


# --------------------------------------------------------------------------- what a client sends

ADDRESS = rb'<((?:"(?:\\.|[^"\\])*"|[^<>"])*)>((?: [^ ]+)*)'
BEARERS = ("XOAUTH2", "OAUTHBEARER")


def xoauth2(octets, port):
    """(user, token) of an XOAUTH2 response; (None, what is wrong) else."""
    found = re.fullmatch(rb"user=([^\x01]+)\x01auth=Bearer ([\x21-\x7e]+)\x01\x01", octets)
    return tuple(part.decode("utf-8", "replace") for part in found.groups()) if found else (None, "not user=..^Aauth=Bearer ..^A^A")


def oauthbearer(octets, port):
    """The same of an OAUTHBEARER response (RFC 7628 §3.1)."""
    found = re.fullmatch(rb"[ny],(?:a=((?:[^,=\x00\x01]|=2C|=3D)+))?,\x01((?:[A-Za-z]+=[\x20-\x7e\t\r\n]*\x01)+)\x01", octets)
    if not found:
        return None, "not n,a=..,^Akey=value^A..^A^A"
    pairs = [pair.split(b"=", 1) for pair in found[2].split(b"\x01")[:-1]]
    values = {key.lower(): value for key, value in pairs}
    if len(values) < len(pairs) or not re.fullmatch(rb"Bearer [\x21-\x7e]+", values.get(b"auth", b"")):
        return None, "not one auth=Bearer"
    if values.get(b"port", b"%d" % port) != b"%d" % port or values.get(b"host") == b"":
        return None, "host or port is not this server's"
    user = (found[1] or b"").replace(b"=2C", b",").replace(b"=3D", b"=")
    return user.decode("utf-8", "replace"), values[b"auth"][7:].decode()


# --------------------------------------------------------------------------- the servers


class ProviderSession(rig.Session):
    """One connection. What to say where the two differ stands in `WORDS` of the server."""

    def __init__(self, upstream, connection, number):
        super().__init__(upstream, connection, number)
        self.hello, self.user, self.gone = False, None, False

    def alive(self):
        """Not closed by either side, as far as can be known without reading."""
        if self.gone or self.socket.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(self.socket.fileno(), select.POLLRDHUP)
        return not poll.poll(0)

    def start_tls(self):
        if self.buffer:
            self.upstream.violations.append("octets sent in the clear behind STARTTLS")
        self.socket = self.upstream.tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.socket.do_handshake()
        self.buffer, self.secure, self.hello = b"", True, False

    def run(self):
        try:
            super().run()
        finally:
            self.gone = True
            with self.upstream.lock:
                self.upstream.sessions.pop(self.number, None)

    def leave(self, reply):
        """Says the last reply and closes in order, so that what the client still sends loses it nothing."""
        self.gone = True
        self.say(reply)
        try:
            if self.secure:
                self.socket.settimeout(0)
                try:
                    self.socket.unwrap()
                except (OSError, ValueError):
                    pass
            self.socket.shutdown(socket.SHUT_WR)
            self.socket.settimeout(2)
            while self.socket.recv(65536):
                pass
        except (OSError, ValueError):
            pass
        self.close()

    def _answer(self, stage, line, usual):
        planned = self.upstream.planned(stage) if stage in STAGES and stage != "AUTH" else None
        if planned is None:
            return super()._answer(stage, line, self._banner if stage == "banner" else usual)
        if stage == "DATA" and planned.startswith("354"):
            return self._content(planned)
        if planned == DROP_AFTER_STORE or planned.startswith("2"):
            usual()
        return self._verbatim("" if planned == DROP_AFTER_STORE else planned)

    def _verbatim(self, reply):
        if reply == "":
            return self.close()
        reply = reply.removesuffix("\r\n")
        return self.leave(reply) if reply.startswith("421") or "closing connection" in reply else reply

    def _word(self, key):
        return self.upstream.WORDS[key]

    def _banner(self):
        return self.upstream.BANNER + time.strftime(self.upstream.BANNER_END, time.gmtime()).replace("ID", secrets.token_hex(8).upper())

    def _reset(self):
        self.sender, self.recipients = None, []

    def _usual(self, verb, line):
        server = self.upstream
        if verb in ("EHLO", "HELO"):
            return self._hello(verb, line)
        if verb == "STARTTLS" and server.tls and not self.secure:
            self.say("220 2.0.0 " + self._word("tls"))
            return self.start_tls()
        if verb == "AUTH":
            return self._auth(line)
        if verb == "MAIL":
            return self._mail(line)
        if verb == "RCPT":
            found = re.fullmatch(rb"RCPT TO:" + ADDRESS, line, re.I)
            if self.sender is None:
                return self._word("need mail")
            if not found or not self._known(found[2], {"DSN": ("NOTIFY", "ORCPT")}):
                return self._word("syntax")
            self.recipients.append(found[1].decode("utf-8", "replace"))
            return self._word("rcpt")
        if verb == "DATA":
            if not self.recipients:
                return self._word("need rcpt" if self.sender is not None else "need mail")
            return self._content(self._word("go"))
        if verb == "BDAT":
            # Offered as by the originals, but Postbote has no use for it.
            server.violations.append("BDAT, which this fake does not know")
            return self.close()
        if verb in ("RSET", "NOOP"):
            if verb == "RSET":
                self._reset()
            return self._word(verb)
        return self.leave(self._word("QUIT")) if verb == "QUIT" else self._word("unknown")

    def _hello(self, verb, line):
        server, name = self.upstream, line.decode("utf-8", "replace")[5:].strip()
        if not name:
            return self.leave(self._word("empty hello"))
        self._reset()
        self.hello = True
        words = [self._word("greeting").format(self.socket.getpeername()[0])]
        for word in server.capabilities if verb == "EHLO" else []:
            if word != "AUTH":
                words.append(word)
            elif server.tls and not self.secure:
                words.append("STARTTLS")
            elif server.mechanisms:
                words.append("AUTH " + " ".join(server.mechanisms))
        return "\r\n".join(f"250{'-' if n + 1 < len(words) else ' '}{word}" for n, word in enumerate(words))

    def _known(self, parameters, allowed):
        """Whether all of a command's parameters are ones that EHLO offered."""
        keys = [key for offer in self.upstream.capabilities for key in allowed.get(offer.split(" ")[0], ())]
        return all(word.split("=")[0].upper() in keys for word in parameters.decode("latin-1").split())

    def _mail(self, line):
        server = self.upstream
        if not self.hello:
            return self._word("need hello")
        if self.user is None:
            return self._word("must tls" if server.tls and not self.secure and server.MAIL_WANTS_TLS else "want auth")
        mailbox = [other.number for other in server.alive() if (other.user or "").lower() == self.user.lower()]
        if server.connection_limit is not None and sum(number < self.number for number in mailbox) >= server.connection_limit:
            return "432 4.3.2 Concurrent connections limit exceeded."
        found = re.fullmatch(rb"MAIL FROM:" + ADDRESS, line, re.I)
        if self.sender is not None:
            return self._word("again mail")
        if not found or not self._known(found[2], {"SIZE": ("SIZE",), "8BITMIME": ("BODY",), "AUTH": ("AUTH",), "SMTPUTF8": ("SMTPUTF8",), "DSN": ("RET", "ENVID")}):
            return self._word("syntax")
        size = re.search(rb" SIZE=(\d+)", found[2], re.I)
        if size and int(size[1]) > server.SIZE:
            return self._word("too big")
        self.sender = found[1].decode("utf-8", "replace")
        return self._word("mail")

    def _content(self, go):
        self.say(go)
        content = self.data()
        reply = self._answer("dot", content, lambda: self._stored(content))
        self._reset()
        return reply

    def _stored(self, content):
        if len(content) > self.upstream.SIZE:
            return self._word("too big")
        if "bare" in self.upstream.WORDS and re.search(rb"(?<!\r)\n", content):
            return self._word("bare")
        self.take(content)
        found = re.search(rb"(?im)^Message-ID:\s*(<[^>\s]*>)", content.split(b"\r\n\r\n", 1)[0])
        return self._word("stored").format(found[1].decode("latin-1") if found else f"<{secrets.token_hex(8)}@{HOST[1:-1]}>")

    def _auth(self, line):
        server, words = self.upstream, line.decode("latin-1").split(" ")
        mechanism = words[1].upper() if len(words) > 1 else ""
        if not self.secure:
            server.plain_auths += 1
            if server.tls:
                server.violations.append(f"AUTH {mechanism} over an unencrypted connection")
                return self._word("must tls")
        if server.line_limit is not None and len(line) + 2 > server.line_limit:
            return "500 5.3.3 Unrecognized command"
        if not self.hello or self.user is not None:
            return self._word("again auth" if self.hello else "need hello")
        if mechanism not in server.mechanisms or mechanism not in BEARERS + ("LOGIN", "PLAIN"):
            return self._word("no mechanism")
        planned, user, good = server.planned("AUTH"), "", False
        # What refuses the command itself comes at once, what refuses the user after both steps.
        if planned is None or planned and not planned.startswith("50"):
            given = self._given(mechanism, " ".join(words[2:]) if len(words) > 2 else None)
            if given is None:
                return self._word("cancelled")
            user, secret = given
            if user is None:
                server.violations.append(f"AUTH {mechanism}: {secret}")
            elif planned is not None:
                good = planned.startswith("235")
            else:
                good = bool(server.check(secret, user)) if mechanism in BEARERS else given == server.password
        with server.lock:
            server.logins += 1
            server.auths.append((mechanism, user, good))
        self.user = user if good else None
        if planned is None:
            planned = self._word("235") if good else server.refusal(mechanism)
        return self._challenge(mechanism, planned) if planned.startswith("334") else self._verbatim(planned)

    def _given(self, mechanism, initial):
        """(user, token or password), asked for if the command did not have it; None: cancelled; (None,
        why) if it is malformed."""

        def ask(prompt):
            self.say(prompt)
            return self.line().decode("latin-1")

        given = [ask("334 VXNlcm5hbWU6" if mechanism == "LOGIN" else "334 ") if initial is None else initial]
        if mechanism == "LOGIN" and given != ["*"]:
            given.append(ask("334 UGFzc3dvcmQ6"))
        if "*" in given:
            return None
        try:
            octets = [base64.b64decode(each, validate=True) for each in given]
        except ValueError:
            return None, "not base64"
        if mechanism in BEARERS:
            return (xoauth2 if mechanism == "XOAUTH2" else oauthbearer)(octets[0], self.upstream.port)
        parts = octets if mechanism == "LOGIN" else octets[0].split(b"\0")[1:]
        return tuple(part.decode("utf-8", "replace") for part in parts) if len(parts) == 2 else (None, "not two NULs")

    def _challenge(self, mechanism, challenge):
        """The 334 of a failure, which the client must take note of before it gets the reply."""
        wanted = (b"AQ==", b"*") if mechanism == "OAUTHBEARER" else (b"",)
        self.say(challenge)
        try:
            answer = self.line()
        except (OSError, ConnectionError):
            if not self.upstream.ended:
                self.upstream.violations.append(f"AUTH {mechanism}: connection ended instead of an answer to the 334 of a failure")
            raise
        if answer not in wanted:
            self.upstream.violations.append(f"AUTH {mechanism}: {answer[:40]!r} instead of {wanted[0]!r} after the 334 of a failure")
            return self.close()
        return self.upstream.REFUSED


class ProviderSmtp(rig.Upstream):
    """What both have in common.

    `check(token, user) -> bool`; `tls`: with certificates of the authority `ca` (else without any
    encryption); `implicit`: TLS at once; `mechanisms`: what AUTH offers; `password`: the (user,
    password) that LOGIN and PLAIN take; `line_limit`: octets of an AUTH line, CRLF included;
    `connection_limit`: simultaneous connections of one mailbox.
    """

    def __init__(self, check, tls=True, *, implicit=False, mechanisms=None, password=None, line_limit=None, connection_limit=None, port=0):
        self.check, self.implicit, self.password, self.line_limit, self.connection_limit = check, implicit, password, line_limit, connection_limit
        self.mechanisms = list(self.MECHANISMS if mechanisms is None else mechanisms)
        self.auths, self.violations, self.plain_auths, self.connections_max = [], [], 0, 0
        self.injected, self.sessions, self.threads = {stage: [] for stage in STAGES}, {}, []
        self.ca = self.directory = context = None
        if tls:
            self.directory = tempfile.mkdtemp(prefix="provider-smtp-")
            authority = certificates.Authority(self.directory, "ca")
            self.ca, context = str(authority.certificate), certificates.server(authority.issue())
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        super().__init__(capabilities=self.CAPABILITIES, tls=context, port=port)

    def inject(self, where, reply, times=1, skip=0):
        """The next `times` (None: all) steps `where`, after `skip` usual ones, are answered `reply`; ""
        closes without an answer. Several wait for one another. After a 421 the connection is closed."""
        assert where in STAGES and (reply != DROP_AFTER_STORE or where == "dot")
        with self.lock:
            self.injected[where].append([skip, times, reply])

    def clear(self):
        """Forgets what is injected and not yet used up."""
        with self.lock:
            for waiting in self.injected.values():
                waiting.clear()

    def planned(self, where):
        """What is injected for this step; None: the usual."""
        with self.lock:
            waiting = self.injected[where]
            if not waiting:
                return None
            first = waiting[0]
            if first[0]:
                first[0] -= 1
                return None
            if first[1] is not None:
                first[1] -= 1
                if first[1] <= 0:
                    waiting.pop(0)
            return first[2]

    def alive(self):
        """The connections that neither side has ended."""
        with self.lock:
            return [session for session in self.sessions.values() if session.alive()]

    def _accept(self):
        self.threads.append(threading.current_thread())
        while not self.ended:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            if self.ended:
                return connection.close()
            with self.lock:
                self.connections += 1
                session = ProviderSession(self, connection, self.connections)
                self.sessions[session.number] = session
            self.connections_max = max(self.connections_max, len(self.alive()))
            thread = threading.Thread(target=session.run, daemon=True)
            self.threads.append(thread)
            thread.start()

    def close(self):
        super().close()
        for thread in self.threads[:1]:
            thread.join(5)
        with self.lock:
            sessions = list(self.sessions.values())
        for session in sessions:
            try:
                # Below TLS: the session's own thread sees the end and does the rest.
                socket.socket.shutdown(session.socket, socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join(5)
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)


class MicrosoftSmtp(ProviderSmtp):
    """smtp.office365.com:587: STARTTLS only, a bad token is refused at once."""

    SIZE, MAIL_WANTS_TLS, MECHANISMS = 157286400, False, ("LOGIN", "XOAUTH2")
    CAPABILITIES = ("SIZE 157286400", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES", "AUTH", "8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8")
    BANNER, BANNER_END = "220 SY5P282CA0097.outlook.office365.com Microsoft ESMTP MAIL Service ready at ", "%a, %d %b %Y %H:%M:%S +0000 [ID]"
    REFUSED = MICROSOFT_ROWS[0][1]
    WORDS = {
        "greeting": "SY5P282CA0097.outlook.office365.com Hello [{}]", "empty hello": "501 5.5.4 Invalid domain name", "need hello": "503 5.5.2 Send hello first",
        "tls": "SMTP server ready", "must tls": "530 5.7.0 Must issue a STARTTLS command first", "want auth": "530 5.7.57 Client not authenticated to send mail.",
        "235": "235 2.7.0 Authentication successful", "no mechanism": "504 5.7.4 Unrecognized authentication type",
        "cancelled": REFUSED, "again auth": "503 5.5.2 Auth already specified",
        "mail": "250 2.1.0 Sender OK", "again mail": "503 5.5.2 Sender already specified", "need mail": "503 5.5.2 Need mail command", "syntax": "501 5.5.4 Invalid arguments",
        "too big": "552 5.3.4 Message size exceeds fixed maximum message size", "rcpt": "250 2.1.5 Recipient OK", "need rcpt": "503 5.5.2 Need rcpt command",
        "go": "354 Start mail input; end with <CRLF>.<CRLF>", "bare": "554 5.6.0 Invalid message content, contains bare linefeeds",
        "stored": "250 2.0.0 OK {} [Hostname=SY5P282MB1234.AUSP282.PROD.OUTLOOK.COM]", "RSET": "250 2.0.0 Resetting", "NOOP": "250 2.0.0 OK",
        "QUIT": "221 2.0.0 Service closing transmission channel", "unknown": "500 5.3.3 Unrecognized command",
    }

    def __init__(self, check, tls=True, *, connection_limit=3, **knobs):
        assert not knobs.get("implicit"), "smtp.office365.com has no port 465"
        super().__init__(check, tls, connection_limit=connection_limit, **knobs)

    def refusal(self, mechanism):
        return self.REFUSED if mechanism in BEARERS else MICROSOFT_ROWS[3][1]


class GoogleSmtp(ProviderSmtp):
    """smtp.gmail.com, 587 with STARTTLS or 465 (`implicit`): of a bad token it tells in a 334 first."""

    SIZE, MAIL_WANTS_TLS = 35882577, True
    MECHANISMS = ("LOGIN", "PLAIN", "XOAUTH2", "PLAIN-CLIENTTOKEN", "OAUTHBEARER", "XOAUTH")
    CAPABILITIES = ("SIZE 35882577", "8BITMIME", "AUTH", "ENHANCEDSTATUSCODES", "PIPELINING", "CHUNKING", "SMTPUTF8")
    BANNER, BANNER_END = "220 smtp.gmail.com ESMTP " + GSMTP, ""
    REFUSED = REFUSED
    WORDS = {
        "greeting": "smtp.gmail.com at your service, [{}]", "empty hello": gmail("501 5.5.4", "Empty HELO/EHLO argument not allowed, closing connection."), "need hello": gmail("503 5.5.1", "EHLO/HELO first."),
        "tls": "Ready to start TLS", "must tls": "530 5.7.0 Must issue a STARTTLS command first", "want auth": WANT_AUTH,
        "235": "235 2.7.0 Accepted", "no mechanism": gmail("504 5.7.4", "Unrecognized Authentication Type"),
        "cancelled": gmail("501 5.5.4", "Authentication cancelled"), "again auth": gmail("503 5.5.1", "Already authenticated."),
        "mail": gmail("250 2.1.0", "OK"), "again mail": gmail("503 5.5.1", "Sender already specified."), "need mail": gmail("503 5.5.1", "MAIL first."), "syntax": gmail("555 5.5.2", "Syntax error."),
        "too big": gmail("552 5.3.4", *BIG), "rcpt": gmail("250 2.1.5", "OK"), "need rcpt": gmail("503 5.5.1", "RCPT first."),
        "go": f"354  Go ahead {GSMTP}", "stored": f"250 2.0.0 OK  1716281641 {GSMTP}", "RSET": gmail("250 2.1.5", "Flushed"), "NOOP": gmail("250 2.0.0", "OK"),
        "QUIT": gmail("221 2.0.0", "closing connection"), "unknown": gmail("502 5.5.1", "Unrecognized command."),
    }

    def refusal(self, mechanism):
        if mechanism not in BEARERS:
            return self.REFUSED
        status = "invalid_token" if mechanism == "OAUTHBEARER" else "400"
        words = {"status": status, "schemes": "Bearer", "scope": "https://mail.google.com/"}
        return "334 " + base64.b64encode(json.dumps(words, separators=(",", ":")).encode()).decode()
