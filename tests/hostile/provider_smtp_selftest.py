#!/usr/bin/env python3
"""Tests the fakes of provider_smtp.py:  python3 tests/hostile/provider_smtp_selftest.py"""

import base64, contextlib, os, smtplib, socket, ssl, time, unittest

import provider_smtp as fakes
from provider_smtp import DROP_AFTER_STORE, GOOGLE_ROWS, GSMTP, MICROSOFT_ROWS, GoogleSmtp, MicrosoftSmtp

USER, TOKEN = "box@contoso.example", "ya29.good-token~+/="
MAIL = b"From: box@contoso.example\r\nMessage-ID: <1@contoso.example>\r\n\r\nhello\r\n"


def good(token, user):
    return (token, user) in ((TOKEN, USER), (TOKEN, "other@contoso.example"))


def b64(words):
    return base64.b64encode(words.encode()).decode()


def xoauth2(token=TOKEN, user=USER):
    return b64(f"user={user}\1auth=Bearer {token}\1\1")


def oauthbearer(server, token=TOKEN, user=USER):
    return b64(f"n,a={user},\1host=127.0.0.1\1port={server.port}\1auth=Bearer {token}\1\1")


class Wire:
    """A client on a socket."""

    def __init__(self, server, ready=True, implicit=False):
        self.server, self.buffer = server, b""
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        if implicit:
            self.tls()
        if ready:
            self.banner = self.reply()
            self.hello = self.ask("EHLO sidecar.example")
            if "STARTTLS" in self.hello:
                self.starttls()

    def tls(self):
        context = ssl.create_default_context(cafile=self.server.ca)
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1", suppress_ragged_eofs=False)

    def starttls(self):
        self.go = self.ask("STARTTLS")
        self.tls()
        self.hello = self.ask("EHLO sidecar.example")

    def reply(self):
        """A whole reply with CRLF between its lines; None at an orderly end, "" at any other."""
        lines = []
        while True:
            while b"\r\n" not in self.buffer:
                try:
                    more = self.socket.recv(65536)
                except OSError:
                    return ""
                if not more:
                    return None if not self.buffer else ""
                self.buffer += more
            line, self.buffer = self.buffer.split(b"\r\n", 1)
            lines.append(line.decode())
            if line[3:4] != b"-":
                return "\r\n".join(lines)

    def send(self, line):
        self.socket.sendall(line if isinstance(line, bytes) else line.encode() + b"\r\n")

    def ask(self, line):
        self.send(line)
        return self.reply()

    def login(self, **of):
        return self.ask("AUTH XOAUTH2 " + xoauth2(**of))

    def envelope(self):
        return [self.ask(f"MAIL FROM:<{USER}> SIZE=1234"), self.ask("RCPT TO:<kunde@example.net>"), self.ask("DATA")]

    def close(self):
        self.socket.close()


class Case(unittest.TestCase):
    def serve(self, kind, *arguments, **knobs):
        server = kind(good, *arguments, **knobs)
        self.addCleanup(server.close)
        return server

    def wire(self, server, **how):
        wire = Wire(server, **how)
        self.addCleanup(wire.close)
        return wire

    def gone(self, wire, orderly=False):
        got = wire.reply()
        self.assertIn(got, (None,) if orderly else (None, ""))


class Microsoft(Case):
    NAME = "SY5P282CA0097.outlook.office365.com"

    def test_transcript(self):
        server = self.serve(MicrosoftSmtp)
        wire = self.wire(server, ready=False)
        self.assertRegex(wire.reply(), r"\A220 SY5P282CA0097\.outlook\.office365\.com Microsoft ESMTP MAIL Service ready at \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000 \[[0-9A-F]{16}\]\Z")
        self.assertEqual(wire.ask("AUTH LOGIN"), "530 5.7.0 Must issue a STARTTLS command first")
        self.assertEqual(server.violations, ["AUTH LOGIN over an unencrypted connection"])
        before = ["Hello [127.0.0.1]", "SIZE 157286400", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES", "STARTTLS", "8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8"]
        before[0] = self.NAME + " " + before[0]
        text = "250-" + "\r\n250-".join(before[:-1]) + "\r\n250 SMTPUTF8"
        self.assertEqual(wire.ask("EHLO sidecar.example"), text)
        self.assertEqual(wire.ask("MAIL FROM:<a@b.example>"), "530 5.7.57 Client not authenticated to send mail.")
        wire.starttls()
        self.assertEqual(wire.go, "220 2.0.0 SMTP server ready")
        self.assertEqual(wire.hello, text.replace("STARTTLS", "AUTH LOGIN XOAUTH2"))
        self.assertEqual(wire.ask("MAIL FROM:<a@b.example>"), "530 5.7.57 Client not authenticated to send mail.")
        self.assertEqual(wire.login(), "235 2.7.0 Authentication successful")
        self.assertEqual(wire.envelope(), ["250 2.1.0 Sender OK", "250 2.1.5 Recipient OK", "354 Start mail input; end with <CRLF>.<CRLF>"])
        self.assertEqual(wire.ask(MAIL + b"..x\r\n.\r\n"), "250 2.0.0 OK <1@contoso.example> [Hostname=SY5P282MB1234.AUSP282.PROD.OUTLOOK.COM]")
        self.assertEqual(wire.ask("RSET"), "250 2.0.0 Resetting")
        self.assertEqual(wire.ask("QUIT"), "221 2.0.0 Service closing transmission channel")
        self.gone(wire, orderly=True)
        self.assertEqual((server.received[0].sender, server.received[0].recipients, server.received[0].raw), (USER, ["kunde@example.net"], MAIL + b".x\r\n"))
        self.assertEqual((server.auths, server.connections_max, server.plain_auths), ([("XOAUTH2", USER, True)], 1, 1))

    def test_before_hello_and_order(self):
        server = self.serve(MicrosoftSmtp)
        wire = self.wire(server)
        wire.ask("NOOP")
        self.assertEqual(wire.ask("AUTH PLAIN AAAA"), "504 5.7.4 Unrecognized authentication type")
        wire.login()
        self.assertTrue(wire.login().startswith("503"))
        self.assertEqual(wire.ask("RCPT TO:<a@b>"), "503 5.5.2 Need mail command")
        self.assertEqual(wire.ask("DATA"), "503 5.5.2 Need mail command")
        self.assertEqual(wire.ask("MAIL FROM:<a@b> XYZ=1"), "501 5.5.4 Invalid arguments")
        self.assertEqual(wire.ask("MAIL FROM: <a@b>"), "501 5.5.4 Invalid arguments")
        self.assertEqual(wire.ask("MAIL FROM:<a@b> SIZE=999999999"), "552 5.3.4 Message size exceeds fixed maximum message size")
        self.assertEqual(wire.ask('MAIL FROM:<"a>b"@c> SIZE=1 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=1 AUTH=<>'), "250 2.1.0 Sender OK")
        self.assertEqual(wire.ask("MAIL FROM:<a@b>"), "503 5.5.2 Sender already specified")
        self.assertEqual(wire.ask("DATA"), "503 5.5.2 Need rcpt command")
        self.assertEqual(wire.ask("RCPT TO:<a@b> NOTIFY=NEVER"), "250 2.1.5 Recipient OK")
        wire.ask("DATA")
        self.assertEqual(wire.ask(b"a\nb\r\n.\r\n"), "554 5.6.0 Invalid message content, contains bare linefeeds")
        self.assertEqual(wire.ask("XYZ"), "500 5.3.3 Unrecognized command")
        self.assertEqual((server.received, server.violations), ([], []))

    def test_two_steps_and_bad_tokens(self):
        server = self.serve(MicrosoftSmtp)
        refused = MICROSOFT_ROWS[0][1]
        self.assertEqual(refused, "535 5.7.3 Authentication unsuccessful [SN2PR00CA0018.namprd00.prod.outlook.com]")
        wire = self.wire(server)
        self.assertEqual(wire.login(token="bad"), refused)
        self.assertEqual(wire.login(user="wrong@x"), refused)
        self.assertEqual(wire.ask("AUTH XOAUTH2"), "334 ")
        self.assertEqual(wire.ask("*"), refused)
        self.assertEqual(wire.ask("AUTH xoauth2"), "334 ")
        self.assertEqual(wire.ask(xoauth2()), "235 2.7.0 Authentication successful")
        self.assertEqual(server.auths, [("XOAUTH2", USER, False), ("XOAUTH2", "wrong@x", False), ("XOAUTH2", USER, True)])
        self.assertEqual(server.violations, [])

    def test_malformed(self):
        server = self.serve(MicrosoftSmtp, mechanisms=("XOAUTH2", "OAUTHBEARER"))
        wire = self.wire(server)
        self.assertIn("AUTH XOAUTH2 OAUTHBEARER", wire.hello)
        bad = [f"user={USER}\1auth=Bearer {TOKEN}\1", f"user={USER}\1auth={TOKEN}\1\1", f"user={USER}\1auth=bearer {TOKEN}\1\1", f"user={USER}\1auth=Bearer  {TOKEN}\1\1", f"user={USER}\1auth=Bearer {TOKEN}\1\1\n", f"user=\1auth=Bearer {TOKEN}\1\1"]
        worse = [f"n,a={USER}\1auth=Bearer {TOKEN}\1\1", f"n,a={USER},\1auth=Bearer {TOKEN}\1", f"n,a={USER},\1port=1\1auth=Bearer {TOKEN}\1\1", f"n,a=a=b,\1auth=Bearer {TOKEN}\1\1", f"n,a={USER},\1host=x\1\1", f"p,a={USER},\1auth=Bearer {TOKEN}\1\1", f"n,a={USER},\1auth=Bearer {TOKEN}\1auth=Bearer {TOKEN}\1\1"]
        for count, (name, words) in enumerate([("XOAUTH2", each) for each in bad] + [("OAUTHBEARER", each) for each in worse], 1):
            with self.subTest(words=words):
                self.assertTrue(wire.ask(f"AUTH {name} {b64(words)}").startswith("535 5.7.3"))
                self.assertEqual(len(server.violations), count)
        wire.ask("AUTH XOAUTH2 " + xoauth2().rstrip("=") + "!")
        self.assertEqual(server.violations[-1], "AUTH XOAUTH2: not base64")
        self.assertFalse(any(TOKEN in each for each in server.violations))
        self.assertTrue(wire.ask("AUTH OAUTHBEARER " + b64(f"n,a={USER},\1auth=Bearer {TOKEN}\1\1")).startswith("235"))
        self.assertEqual(fakes.oauthbearer(b"y,a=a=2Cb=3D,\1auth=Bearer t\1\1", 1), ("a,b=", "t"))

    def test_vectors(self):
        for user, token, line in (
            ("test@contoso.onmicrosoft.com", "EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA", "dXNlcj10ZXN0QGNvbnRvc28ub25taWNyb3NvZnQuY29tAWF1dGg9QmVhcmVyIEV3QkFBbDNCQUFVRkZwVUFvN0ozVmUwYmpMQldaV0NjbFJDM0VvQUEBAQ=="),
            ("someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg", "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ=="),
        ):
            self.assertEqual(fakes.xoauth2(base64.b64decode(line), 0), (user, token))

    def test_login(self):
        server = self.serve(MicrosoftSmtp, password=(USER, "secret"))
        wire = self.wire(server)
        self.assertEqual(wire.ask("AUTH LOGIN"), "334 VXNlcm5hbWU6")
        self.assertEqual(wire.ask(b64(USER)), "334 UGFzc3dvcmQ6")
        self.assertIn("basic authentication is disabled", wire.ask(b64("wrong")))
        self.assertEqual(wire.ask("AUTH LOGIN " + b64(USER)), "334 UGFzc3dvcmQ6")
        self.assertTrue(wire.ask(b64("secret")).startswith("235"))

    def test_line_limit(self):
        line = "AUTH XOAUTH2 " + xoauth2()
        server = self.serve(MicrosoftSmtp, line_limit=len(line) + 1)
        wire = self.wire(server)
        self.assertEqual(wire.ask(line), "500 5.3.3 Unrecognized command")
        self.assertEqual((wire.ask("AUTH XOAUTH2"), server.auths), ("334 ", []))
        self.assertTrue(wire.ask(xoauth2()).startswith("235"))
        server.line_limit += 1
        self.assertTrue(self.wire(server).ask(line).startswith("235"))

    def test_behind_starttls(self):
        server = self.serve(MicrosoftSmtp)
        wire = self.wire(server, ready=False)
        wire.reply()
        wire.ask("EHLO x")
        self.assertTrue(wire.ask(b"STARTTLS\r\nNOOP\r\n").startswith("220"))
        wire.tls()
        self.assertTrue(wire.login().startswith("503 5.5.2 Send hello first"))
        self.assertEqual(server.violations, ["octets sent in the clear behind STARTTLS"])

    def test_connection_limit(self):
        server = self.serve(MicrosoftSmtp)
        wires = [self.wire(server) for _ in range(5)]
        for wire in wires[:4]:
            wire.login()
        wires[4].login(user="other@contoso.example")
        ok, limit = "250 2.1.0 Sender OK", "432 4.3.2 Concurrent connections limit exceeded."
        self.assertEqual([wire.ask("MAIL FROM:<a@b>") for wire in wires], [ok, ok, ok, limit, ok])
        self.assertEqual((server.connections, server.connections_max), (5, 5))
        wires[0].ask("QUIT")
        self.assertEqual(wires[3].ask("MAIL FROM:<a@b>"), ok)
        wires[1].close()
        fresh = self.wire(server)
        fresh.login()
        self.assertEqual((fresh.ask("MAIL FROM:<a@b>"), server.connections_max), (ok, 5))

    def test_plain(self):
        server = self.serve(MicrosoftSmtp, False)
        wire = self.wire(server)
        self.assertNotIn("STARTTLS", wire.hello)
        self.assertTrue(wire.login().startswith("235"))
        self.assertEqual((server.ca, server.violations, server.plain_auths), (None, [], 1))
        self.assertEqual(wire.envelope()[2][:3], "354")
        with self.assertRaises(AssertionError):
            MicrosoftSmtp(good, implicit=True)

    def test_certificate_and_old_tls(self):
        server = self.serve(MicrosoftSmtp)
        for name in ("127.0.0.1", "localhost"):
            with smtplib.SMTP(name if name == "localhost" else "127.0.0.1", server.port) as client:
                client.starttls(context=ssl.create_default_context(cafile=server.ca))
                client.ehlo()
                self.assertEqual(client.auth("XOAUTH2", lambda challenge=None: base64.b64decode(xoauth2()).decode())[0], 235)
                self.assertEqual(client.sendmail(USER, ["a@b.example"], MAIL), {})
        with smtplib.SMTP("127.0.0.1", server.port) as client:
            with self.assertRaises(ssl.SSLCertVerificationError):
                client.starttls(context=ssl.create_default_context())
        self.assertEqual(len(server.received), 2)
        self.assertEqual(server.tls.minimum_version, ssl.TLSVersion.TLSv1_2)
        directory = server.directory
        self.assertTrue(os.path.exists(server.ca))
        server.close()
        self.assertFalse(os.path.exists(directory))


class Google(Case):
    BAD = "334 eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJodHRwczovL21haWwuZ29vZ2xlLmNvbS8ifQ=="
    REFUSED = f"535-5.7.8 Username and Password not accepted. For more information, go to\r\n535 5.7.8  https://support.google.com/mail/?p=BadCredentials {GSMTP}"
    HELLO = ["smtp.gmail.com at your service, [127.0.0.1]", "SIZE 35882577", "8BITMIME", "AUTH LOGIN PLAIN XOAUTH2 PLAIN-CLIENTTOKEN OAUTHBEARER XOAUTH", "ENHANCEDSTATUSCODES", "PIPELINING", "CHUNKING"]

    def test_transcript(self):
        for implicit in (False, True):
            with self.subTest(implicit=implicit):
                server = self.serve(GoogleSmtp, implicit=implicit)
                wire = self.wire(server, ready=False, implicit=implicit)
                self.assertEqual(wire.reply(), f"220 smtp.gmail.com ESMTP {GSMTP}")
                wanted = "250-" + "\r\n250-".join(self.HELLO) + "\r\n250 SMTPUTF8"
                hello = wire.ask("EHLO sidecar.example")
                if not implicit:
                    self.assertEqual(hello, wanted.replace(self.HELLO[3], "STARTTLS"))
                    for line in ("AUTH XOAUTH2 " + xoauth2(), "MAIL FROM:<a@b>"):
                        self.assertEqual(wire.ask(line), "530 5.7.0 Must issue a STARTTLS command first")
                    self.assertEqual(server.violations, ["AUTH XOAUTH2 over an unencrypted connection"])
                    wire.starttls()
                    hello = wire.hello
                self.assertEqual(hello, wanted)
                self.assertEqual(wire.ask("MAIL FROM:<a@b>"), f"530-5.7.0 Authentication Required. For more information, go to\r\n530 5.7.0  https://support.google.com/mail/?p=WantAuthError {GSMTP}")
                self.assertEqual(wire.login(), "235 2.7.0 Accepted")
                self.assertEqual(wire.envelope(), [f"250 2.1.0 OK {GSMTP}", f"250 2.1.5 OK {GSMTP}", f"354  Go ahead {GSMTP}"])
                self.assertEqual(wire.ask(MAIL + b".\r\n"), f"250 2.0.0 OK  1716281641 {GSMTP}")
                self.assertEqual(wire.ask("MAIL FROM:<a@b> RET=HDRS"), f"555 5.5.2 Syntax error. {GSMTP}")
                self.assertTrue(wire.ask("QUIT").startswith("221 2.0.0"))
                self.gone(wire, orderly=True)
                self.assertEqual(len(server.received), 1)

    def test_empty_hello(self):
        wire = self.wire(self.serve(GoogleSmtp), ready=False)
        wire.reply()
        self.assertEqual(wire.ask("EHLO "), f"501 5.5.4 Empty HELO/EHLO argument not allowed, closing connection. {GSMTP}")
        self.gone(wire)

    def test_bad_token(self):
        server = self.serve(GoogleSmtp, implicit=True)
        wire = self.wire(server, implicit=True)
        self.assertEqual(wire.login(token="bad"), self.BAD)
        self.assertEqual(wire.ask(""), self.REFUSED)
        self.assertEqual(wire.ask("AUTH XOAUTH2"), "334 ")
        self.assertEqual(wire.ask(xoauth2(token="bad")), self.BAD)
        self.assertEqual(wire.ask(""), self.REFUSED)
        for answer in ("AQ==", "*"):
            challenge = wire.ask("AUTH OAUTHBEARER " + oauthbearer(server, token="bad"))
            self.assertEqual(base64.b64decode(challenge[4:]), b'{"status":"invalid_token","schemes":"Bearer","scope":"https://mail.google.com/"}')
            self.assertEqual(wire.ask(answer), self.REFUSED)
        self.assertEqual(wire.ask("AUTH OAUTHBEARER"), "334 ")
        self.assertEqual(wire.ask(oauthbearer(server)), "235 2.7.0 Accepted")
        self.assertEqual(server.auths, [("XOAUTH2", USER, False)] * 2 + [("OAUTHBEARER", USER, False)] * 2 + [("OAUTHBEARER", USER, True)])
        self.assertEqual((server.violations, server.logins), ([], 5))

    def test_wrong_answers(self):
        for mechanism, answer in (("XOAUTH2", "*"), ("XOAUTH2", " "), ("XOAUTH2", "QUIT"), ("OAUTHBEARER", ""), ("OAUTHBEARER", "QUIT")):
            with self.subTest(mechanism=mechanism, answer=answer):
                server = self.serve(GoogleSmtp, implicit=True)
                wire = self.wire(server, implicit=True)
                given = oauthbearer(server, token="bad") if mechanism == "OAUTHBEARER" else xoauth2(token="bad")
                self.assertTrue(wire.ask(f"AUTH {mechanism} {given}").startswith("334 "))
                wire.send(answer)
                self.gone(wire)
                self.assertEqual(len(server.violations), 1)
                self.assertIn("after the 334", server.violations[0])

    def test_hang_up(self):
        server = self.serve(GoogleSmtp)
        wire = self.wire(server)
        wire.login(token="bad")
        wire.close()
        deadline = time.monotonic() + 5
        while not server.violations and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertIn("connection ended instead", server.violations[0])

    def test_passwords(self):
        server = self.serve(GoogleSmtp, password=(USER, "secret"))
        wire = self.wire(server)
        self.assertEqual(wire.ask("AUTH PLAIN " + b64(f"\0{USER}\0wrong")), self.REFUSED)
        self.assertEqual(wire.ask("AUTH XOAUTH"), f"504 5.7.4 Unrecognized Authentication Type {GSMTP}")
        self.assertEqual(wire.ask("AUTH PLAIN " + b64(f"\0{USER}\0secret")), "235 2.7.0 Accepted")

    def test_mechanisms_and_limits(self):
        server = self.serve(GoogleSmtp, mechanisms=("OAUTHBEARER",), line_limit=50)
        wire = self.wire(server)
        self.assertIn("250-AUTH OAUTHBEARER\r\n", wire.hello)
        self.assertTrue(wire.login().startswith("500 5.3.3"))
        self.assertTrue(wire.ask("AUTH XOAUTH2").startswith("504"))
        self.assertNotIn("AUTH", self.wire(self.serve(GoogleSmtp, mechanisms=())).hello)
        wires = [self.wire(server) for _ in range(5)]
        for each in wires:
            each.ask("AUTH OAUTHBEARER")
            self.assertTrue(each.ask(oauthbearer(server)).startswith("235"))
            self.assertTrue(each.ask("MAIL FROM:<a@b>").startswith("250"))
        self.assertEqual(server.connections_max, 6)


class Injection(Case):
    def drive(self, server, where, reply, two_steps=False):
        """Goes on to the step `where`; gives its connection and its reply."""
        wire = self.wire(server, ready=where not in ("banner", "EHLO"))
        if where in ("banner", "EHLO"):
            banner = wire.reply()
            return wire, banner if where == "banner" else wire.ask("EHLO x")
        if where == "AUTH" and two_steps:
            wire.ask("AUTH XOAUTH2")
            return wire, wire.ask(xoauth2())
        got = wire.login()
        steps = [("MAIL", f"MAIL FROM:<{USER}>"), ("RCPT", "RCPT TO:<a@b.example>"), ("DATA", "DATA"), ("dot", MAIL + b".\r\n")]
        for step, line in steps if where != "AUTH" else []:
            got = wire.ask(line)
            if step == where:
                break
        return wire, got

    def test_every_row(self):
        for kind, rows in ((MicrosoftSmtp, MICROSOFT_ROWS), (GoogleSmtp, GOOGLE_ROWS)):
            server = self.serve(kind, connection_limit=None)
            for where, reply, group in rows:
                with self.subTest(kind=kind.__name__, where=where, reply=reply):
                    self.assertIn(group, {"TOKEN", "ACCT", "TEMP", "SLOW", "SENDER", "MSG", "RCPT", "UNKNOWN", "BUG"})
                    lines = [] if reply in ("", DROP_AFTER_STORE) else reply.split("\r\n")
                    for number, line in enumerate(lines, 1):
                        self.assertRegex(line, rf"\A{reply[:3]}{'-' if number < len(lines) else ' '}\d\.\d+\.\d+ [ -~]+\Z")
                    server.inject(where, reply)
                    wire, got = self.drive(server, where, reply)
                    self.assertIn(got, (None, "") if not lines else (reply,))
                    if reply.startswith("421") or not lines:
                        self.gone(wire, orderly=bool(lines))
                    elif "closing connection" not in reply:
                        self.assertIn(wire.ask("RSET")[:3], ("250",))
                    wire.close()
            self.assertEqual(len(server.received), sum(reply == DROP_AFTER_STORE for _, reply, _ in rows))
            self.assertEqual(server.violations, [])

    def test_times_and_skip(self):
        server = self.serve(MicrosoftSmtp)
        server.inject("RCPT", "550 5.1.1 a", times=2, skip=1)
        server.inject("RCPT", "450 4.2.1 b\r\n", times=1)
        server.inject("RCPT", "550 5.1.1 c", times=None)
        wire = self.wire(server)
        wire.login()
        wire.ask("MAIL FROM:<a@b>")
        self.assertEqual([wire.ask("RCPT TO:<a@b>").split()[-1] for _ in range(4)], ["OK", "a", "a", "b"])
        self.assertEqual([wire.ask("RCPT TO:<a@b>").split()[-1] for _ in range(3)], ["c"] * 3)
        server.clear()
        self.assertEqual(wire.ask("RCPT TO:<c@d>"), "250 2.1.5 Recipient OK")
        wire.ask("DATA")
        wire.ask(MAIL + b".\r\n")
        self.assertEqual(server.received[0].recipients, ["a@b", "c@d"])
        with self.assertRaises(AssertionError):
            server.inject("MAIL", DROP_AFTER_STORE)

    def test_good_replies(self):
        server = self.serve(MicrosoftSmtp)
        for where, reply in (("AUTH", "235 2.7.0 words"), ("MAIL", "250-2.1.0 a\r\n250 2.1.0 b"), ("RCPT", "250 x"), ("DATA", "354 y"), ("dot", "250 z")):
            server.inject(where, reply)
        wire = self.wire(server)
        self.assertEqual(wire.login(token="bad"), "235 2.7.0 words")
        self.assertEqual(wire.envelope(), ["250-2.1.0 a\r\n250 2.1.0 b", "250 x", "354 y"])
        self.assertEqual(wire.ask(MAIL + b".\r\n"), "250 z")
        self.assertEqual(len(server.received), 1)

    def test_auth(self):
        server = self.serve(MicrosoftSmtp)
        server.inject("AUTH", "454 4.7.0 Temporary authentication failure")
        wire, got = self.drive(server, "AUTH", "", two_steps=True)
        self.assertEqual(got, "454 4.7.0 Temporary authentication failure")
        server.inject("AUTH", "504 5.7.4 Unrecognized authentication type")
        self.assertEqual(wire.ask("AUTH XOAUTH2"), "504 5.7.4 Unrecognized authentication type")
        challenge = "334 " + b64('{"status":"401","schemes":"bearer mac","scope":"https://mail.google.com/"}')
        server.inject("AUTH", challenge)
        self.assertEqual((wire.login(), wire.ask("")), (challenge, MICROSOFT_ROWS[0][1]))
        server.inject("AUTH", "")
        wire.send("AUTH XOAUTH2 " + xoauth2())
        self.gone(wire)
        self.assertEqual(([good for _, _, good in server.auths], server.violations), ([False] * 4, []))

    def test_pipelined_421(self):
        """What the client has sent in the meantime must not cost it the reply."""
        server = self.serve(GoogleSmtp, implicit=True)
        server.inject("MAIL", "421 4.3.0 gone")
        wire = self.wire(server, implicit=True)
        wire.login()
        wire.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
        self.assertEqual((wire.reply(), wire.reply()), ("421 4.3.0 gone", None))

    def test_close_ends_all(self):
        server = self.serve(GoogleSmtp, implicit=True)
        wires = [self.wire(server, implicit=True) for _ in range(3)]
        idle = self.wire(server, ready=False)
        server.close()
        for wire in wires + [idle]:
            self.gone(wire)
        self.assertEqual((any(thread.is_alive() for thread in server.threads), server.violations), (False, []))
        with self.assertRaises(OSError), contextlib.closing(socket.create_connection(("127.0.0.1", server.port), timeout=1)):
            pass


if __name__ == "__main__":
    unittest.main()
