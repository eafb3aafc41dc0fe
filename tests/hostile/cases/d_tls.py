"""D: inbound TLS."""

import os, signal, socket, ssl, struct, subprocess

from rig import Client, case, check, trusting, wait_until

from ._faults import Clock
from ._tls13 import Tls13
from ._wire import accepted, drained, ended, silent

STARTTLS = 'tls = "starttls"'


def listener(name, more=""):
    return f'\n[[listener]]\nname = "{name}"\naddress = "127.0.0.1:0"\n{more}\n'


IMPLICIT = STARTTLS + listener("tls", 'tenant = "acme"\ntls = "implicit"')


def octets_left(client):
    """All that still comes on the socket."""
    client.socket.settimeout(5)
    got = client.buffer
    try:
        while more := client.socket.recv(65536):
            got += more
    except ConnectionResetError:
        pass
    except TimeoutError:
        check(False, "the connection is still open")
    return got


def no_reply(octets):
    """At most a TLS alert, no SMTP."""
    check(octets == b"" or (octets[0] == 21 and len(octets) <= 7), f"an answer in clear: {octets!r}")


INJECTED = [b"MAIL FROM:<x@y.example>\r\n", b"EHLO commandinjectiontester\r\n", b"NOOP\r\n", b"\r\n", b"x", b"\x16\x03\x01", b"RSET\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<v@t.example>\r\nDATA\r\nSubject: token-%s\r\n\r\nx\r\n.\r\n" % (b"0" * 16)]


@case("D01", "commands behind STARTTLS", listener=IMPLICIT)
def _(rig):
    """In the same segment; behind a read that ends with STARTTLS; in a segment of its own."""
    for injected in INJECTED:
        for command in (b"STARTTLS\r\n", b"starttls  \r\n", b"STARTTLS\n"):
            client = rig.client()
            client.raw(command + injected)
            client.wants("554 5.5.0")
            ended(client)
    for injected in INJECTED:
        for size in (4096, 8192, 16_384, 32_768, 65_536):
            client = rig.client(ehlo=False)
            lines, rest = divmod(size - len(b"EHLO x\r\nSTARTTLS\r\n"), 4000)
            padding = (b"NOOP " + b"x" * 3993 + b"\r\n") * lines + b"NOOP " + b"x" * (rest - 7) + b"\r\n"
            client.raw(padding + b"EHLO x\r\nSTARTTLS\r\n" + injected)
            for _ in range(lines + 1):
                client.wants("250 2.0.0")
            client.wants("250")
            if client.wants(("554 5.5.0", "220 2.0.0"))[:3] == "220":
                # They are taken for a handshake; what is no hello ends it, a beginning of one waits.
                check(injected in (b"x", b"\x16\x03\x01") or no_reply(octets_left(client)) is None, "")
            client.close()
    for injected in INJECTED:
        if injected == b"\x16\x03\x01":
            continue  # the beginning of a handshake, whose rest is waited for
        client = rig.client()
        client.expect("STARTTLS", "220 2.0.0")
        client.raw(injected)
        drained(client)
        try:
            client.socket = trusting().wrap_socket(client.socket)
            check(False, f"TLS in spite of {injected!r}")
        except OSError:
            pass
        client.close()
    client = rig.client()
    # Every command inside has exactly its own reply.
    client.starttls()
    client.expect("MAIL FROM:<a@source.example>", "503 5.5.1")
    client.expect("EHLO x", "250")
    client.expect("VRFY x", "252")
    client.message()
    accepted(rig, 1)


@case("D02", "STARTTLS with a parameter", listener=IMPLICIT + listener("plain", 'tenant = "acme"\ntls = "none"'))
def _(rig):
    client = rig.client()
    for word in ("now", "x", "1.3", "\t.", "STARTTLS"):
        client.expect("STARTTLS " + word, "501 5.5.4")
        client.expect("NOOP", "250 2.0.0")
    client.starttls()
    check("STARTTLS" not in client.send("EHLO x"), "offered inside TLS")
    client.expect("STARTTLS", "503 5.5.1")
    client.message()
    client = rig.client("plain")
    check("STARTTLS" not in client.send("EHLO x"), "offered where it is off")
    client.expect("STARTTLS", "502 5.5.1")
    client = Client(rig, rig.address("tls"), tls=trusting())
    client.wants("220")
    check("STARTTLS" not in client.send("EHLO x"), "offered inside TLS")
    client.expect("STARTTLS", "503 5.5.1")


USER = '[[user]]\nlogin = "pos1"\npassword = "pw"'


@case("D03", "EHLO, AUTH, MAIL before STARTTLS", listener=STARTTLS + listener("login", 'tls = "starttls"\nauth = "required"'), after=USER)
def _(rig):
    client = rig.client("login")
    client.login("pos1", "pw")
    client.expect("MAIL FROM:<office@acme.example>", "250")
    client.expect("RCPT TO:<old@else.example>", "250")
    client.starttls()
    client.expect("RCPT TO:<b@else.example>", "503 5.5.1")
    client.expect("DATA", "503 5.5.1")
    client.expect("MAIL FROM:<office@acme.example>", "503 5.5.1")
    offered = client.send("EHLO inside.example")
    check("AUTH PLAIN" in offered and "STARTTLS" not in offered, f"offered: {offered}")
    client.expect("MAIL FROM:<office@acme.example>", "530 5.7.0")
    client.login("pos1", "pw")
    client.message(to=("new@else.example",))
    message = rig.delivered(1)[0]
    check(message.recipients == ["new@else.example"], "an old recipient")
    (received,) = message.fields("Received")
    check("inside.example" in received and "ESMTPSA" in received, f"Received: {received}")
    # HELO, and a dialogue that was open.
    client = rig.client("login", ehlo=False)
    client.expect("HELO outside", "250")
    client.expect("AUTH LOGIN", "334")
    client.expect("*", "501 5.7.0")
    client.starttls()
    client.expect("MAIL FROM:<a@b.example>", "503 5.5.1")


@case("D04", "no handshake: garbage, half a hello, silence", listener=STARTTLS + "\nmax_connections = 8" + listener("tls", 'tenant = "acme"\ntls = "implicit"\nmax_connections = 3'), start=False)
def _(rig):
    """The deadline of 30 s is reached by moving the server's clock; the slots are free then."""
    clock = Clock(rig)
    rig.start()

    def begun(name):
        if name == "tls":
            return rig.client("tls", greet=False)
        client = rig.client()
        client.expect("STARTTLS", "220")
        return client

    for name in ("in", "tls"):
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\xff" * 64, b"\x16\x03\x01\xff\xff" + b"\xff" * 64, b"\x80\x2e\x01\x03\x01" + bytes(60), os.urandom(512)):
            client = begun(name)
            client.raw(garbage)
            no_reply(octets_left(client)[:7]) if garbage[:2] != b"\x16\x03" else octets_left(client)
            client.close()
    waiting = []
    for name in ("in", "tls"):
        for octets in (b"", hello()[:40], b"\x16"):
            client = begun(name)
            client.raw(octets)
            drained(client)
            waiting.append(client)
    turned_away = rig.client("tls", greet=False)
    check(octets_left(turned_away) == b"", "more connections than allowed")
    clock.move(steady=25)
    rig.good_client()
    for client in waiting:
        silent(client)
    clock.move(steady=31)
    rig.good_client()
    for client in waiting:
        no_reply(octets_left(client))
        client.close()
    client = Client(rig, rig.address("tls"), tls=trusting())
    client.wants("220")
    client.close()


def hello(record=0x0301, version=0x0303, suites=(0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8), versions=None):
    """A ClientHello."""

    def extension(kind, octets):
        return struct.pack("!HH", kind, len(octets)) + octets

    more = extension(10, struct.pack("!HHH", 4, 0x1D, 0x17)) + extension(11, b"\1\0")
    more += extension(13, struct.pack("!H7H", 14, 0x0403, 0x0503, 0x0804, 0x0805, 0x0401, 0x0201, 0x0807)) + extension(23, b"")
    if versions:
        more += extension(43, bytes([2 * len(versions)]) + struct.pack(f"!{len(versions)}H", *versions))
        more += extension(51, b"\0\x24\0\x1d\0\x20" + b"\x09" + bytes(31))
    body = struct.pack("!H", version) + os.urandom(32) + b"\0" + struct.pack(f"!H{len(suites)}H", 2 * len(suites), *suites) + b"\1\0"
    if version > 0x0300:
        body += struct.pack("!H", len(more)) + more
    body = b"\1" + len(body).to_bytes(3, "big") + body
    return struct.pack("!BHH", 22, record, len(body)) + body


OLD = {
    "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"\x01\x00\x80" * 7 + os.urandom(16),
    "SSL 3": hello(0x0300, 0x0300, (0x0035, 0x002F, 0x0005)),
    "TLS 1.0": hello(0x0301, 0x0301, (0xC013, 0xC014, 0x002F, 0x0035)),
    "TLS 1.1": hello(0x0301, 0x0302, (0xC013, 0xC014, 0x002F, 0x0035)),
    "TLS 1.0 with good suites": hello(0x0301, 0x0301),
    "only 1.0 and 1.1 in supported_versions": hello(versions=(0x0302, 0x0301)),
    "RC4": hello(suites=(0x0005, 0xC011, 0xC007)),
    "3DES, CBC": hello(suites=(0x000A, 0xC013, 0xC014, 0x009C, 0x003C)),
    "NULL, export, anonymous": hello(suites=(0x0000, 0x0001, 0x0003, 0xC018, 0xC010)),
    "1.3 without a common suite": hello(suites=(0x1304, 0x1305), versions=(0x0304,)),
    "no suites": hello(suites=()),
    "version 9.9": hello(0x0909, 0x0909, versions=(0x0909,)),
}


@case("D05", "old TLS, RC4, no common suite", listener=IMPLICIT)
def _(rig):
    for name in ("in", "tls"):
        for what, octets in [*OLD.items(), ("good", hello())]:
            client = rig.client(name, greet=name == "in")
            if name == "in":
                client.expect("STARTTLS", "220")
            client.raw(octets)
            if what == "good":
                # The same words do begin a handshake when they are good.
                check(client.socket.recv(1) == b"\x16", "no handshake at all")
                client.close()
                continue
            got = octets_left(client)
            check(len(got) == 7 and got[0] == 21 and got[5] == 2, f"{what}: wanted a fatal alert, got {got!r}")
            client.close()
    for version in ("-tls1", "-tls1_1"):
        host, port = rig.address("tls")
        done = subprocess.run(["openssl", "s_client", version, "-cipher", "ALL:@SECLEVEL=0", "-connect", f"{host}:{port}"], input=b"", capture_output=True, timeout=20)
        check(b"220 postbote" not in done.stdout and done.returncode != 0, f"{version} works")
    accepted(rig, 0)


@case("D06", "renegotiation, KeyUpdates, tiny and empty records", listener=STARTTLS)
def _(rig):
    before = rig.resident()
    for wanted in (0, 1):
        tls, client = inside(rig)
        at_once(client.socket, lambda: b"".join(tls.key_update(wanted) for _ in range(100)), 100)
        rig.good_client()
        client.close()
    tls, client = inside(rig)
    at_once(client.socket, lambda: b"".join(tls.sealed(23, b"") for _ in range(100)), 100)
    rig.good_client()
    client.close()
    # A moderate number changes nothing for an honest client.
    tls, client = inside(rig)
    for _ in range(20):
        client.socket.sendall(tls.key_update(1))
        client.socket.sendall(tls.sealed(23, b"") * 1)
        tls.send(23, b"NOOP\r\n")
        check(tls.reply().startswith("250 2.0.0"), "lost its way after KeyUpdates")
    client.close()
    # A whole message in records of one octet.
    client = rig.client()
    client.starttls()
    client.raw(b"EHLO x\r\n", split=1)
    client.wants("250")
    client.envelope()
    check(client.content(rig.message(b"y" * 3000), split=1).startswith("250"), "refused")
    client.close()
    # 4,000 KeyUpdates with content between them, which resets what the library counts.
    tls, client = inside(rig)
    for line, start in (("MAIL FROM:<a@source.example>", "250"), ("RCPT TO:<b@else.example>", "250"), ("DATA", "354")):
        tls.send(23, line.encode() + b"\r\n")
        check(tls.reply().startswith(start), f"{line} inside")
    content = rig.message()
    tls.send(23, content)
    at_once(client.socket, lambda: b"".join(tls.key_update(1) for _ in range(25)) + tls.sealed(23, b"\r\nmore"), 160)
    at_once(client.socket, lambda: tls.sealed(23, b"\r\n.\r\n"), 1)
    reply = tls.reply()
    check(reply == "" or reply.startswith("250 2.0.0"), f"content among KeyUpdates: {reply!r}")
    rig.note(content, reply)
    client.close()
    renegotiation(rig)
    check(rig.resident(peak=True) - before < 16, f"memory grew from {before:.0f} to {rig.resident(peak=True):.0f} MiB")


def renegotiation(rig):
    """The server does not begin another handshake; openssl waits for one, and is ended."""
    host, port = rig.address()
    words, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # one command a read
    path = rig.directory / "openssl"
    with open(path, "wb") as out:
        peer = subprocess.Popen(["openssl", "s_client", "-tls1_2", "-starttls", "smtp", "-connect", f"{host}:{port}"], stdin=theirs, stdout=out, stderr=out)
    try:
        theirs.close()
        words.send(b"NOOP\r\n")
        wait_until("NOOP inside TLS 1.2", lambda: b"250 2.0.0" in path.read_bytes())
        words.send(b"R\n")
        wait_until("renegotiation asked for", lambda: b"RENEGOTIATING" in path.read_bytes())
        rig.good_client()
    finally:
        peer.kill()
        peer.wait()
        words.close()
    after = path.read_bytes().split(b"RENEGOTIATING")[1]
    check(b"verify return" not in after and b"250" not in after, f"renegotiated: {after!r}")


def inside(rig):
    """TLS of our own, after EHLO."""
    client = rig.client()
    client.expect("STARTTLS", "220")
    tls = Tls13(client.socket)
    tls.send(23, b"EHLO x\r\n")
    check("250" in tls.reply(), "no EHLO inside")
    return tls, client


def at_once(connection, piece, count):
    """Sends so many pieces without reading, unless the server ends it."""
    connection.settimeout(10)
    try:
        for _ in range(count):
            connection.sendall(piece())
    except (ConnectionResetError, BrokenPipeError):
        pass
    except TimeoutError:
        pass  # it takes no more: what it may hold is bounded


def resumed(rig, name, context, session=None, implicit=True):
    """A connection that offers a session; gives client and session."""
    client = rig.client(name, greet=not implicit, ehlo=False)
    if not implicit:
        client.expect("EHLO x", "250")
        client.expect("STARTTLS", "220")
    client.socket = context.wrap_socket(client.socket, session=session)
    client.buffer = b""
    if implicit:
        client.wants("220")
    client.expect("EHLO x", "250")
    return client


TWO = "".join(listener(name, f'tenant = "{tenant}"\ntls = "{mode}"') for name, tenant, mode in (("a", "acme", "implicit"), ("b", "other", "implicit"), ("c", "acme", "starttls"), ("d", "other", "starttls")))


@case("D07", "a session of one listener at another", listener=TWO, start=False)
def _(rig):
    other = rig.another_tenant("other")
    rig.start()
    count = 0
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for one, two, implicit in (("a", "b", True), ("c", "d", False)):
            context = trusting()
            context.minimum_version = context.maximum_version = version
            first = resumed(rig, one, context, implicit=implicit)
            session = first.socket.session
            check(session is not None, f"{version.name}: no session")
            first.expect("QUIT", "221")
            again = resumed(rig, one, context, session, implicit)
            check(again.socket.session_reused, f"{version.name}: {one} does not know its own session")
            foreign = resumed(rig, two, context, again.socket.session, implicit)
            check(not foreign.socket.session_reused, f"{version.name}: {two} takes a session of {one}")
            foreign.message()
            count += 1
            other.wait(count)
    check(rig.upstream.received == [], "mail of the other tenant here")


def make_certificate(rig, name):
    """A self-signed pair; gives the certificate as DER."""
    for ending in ("pem", "key"):
        check(not (rig.directory / f"{name}.{ending}").exists(), "there already")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9", "-subj", f"/CN={name}", "-keyout", rig.directory / f"{name}.key", "-out", rig.directory / f"{name}.pem"], check=True, capture_output=True)
    return ssl.PEM_cert_to_DER_cert((rig.directory / f"{name}.pem").read_text())


@case("D08", "a bad certificate at a reload", listener='tls = "starttls"\ncertificate = "server.pem"\nkey = "server.key"', start=False)
def _(rig):
    """There is no command `reload`; `check` says 78, the log says what stays in force."""
    pairs = {name: make_certificate(rig, name) for name in ("server", "second")}
    read = {name: [(rig.directory / f"{name}.{ending}").read_bytes() for ending in ("pem", "key")] for name in pairs}
    rig.start()

    def shown():
        client = rig.client()
        client.starttls()
        certificate = client.socket.getpeercert(binary_form=True)
        client.expect("EHLO x", "250")
        client.message()
        client.close()
        return certificate

    check(shown() == pairs["server"], "another certificate")
    kept = rig.client()
    pem, key = read["server"]
    broken = [(b"garbage", key), (b"", key), (pem, b""), (read["second"][0], key), (pem, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), (pem[: len(pem) // 2], key), (None, key), (pem, None)]
    for count, pair in enumerate(broken, 1):
        for ending, octets in zip(("pem", "key"), pair):
            if octets is None:
                (rig.directory / f"server.{ending}").unlink()
            else:
                rig.write(f"server.{ending}", octets)
        rig.run("check", code=78)
        rig.signal(signal.SIGHUP)
        rig.wait_log("event=reload-refused", count=count)
        check(shown() == pairs["server"], f"{pair!r}: another certificate is in force")
    kept.starttls()
    for ending, octets in zip(("pem", "key"), read["second"]):
        rig.write(f"server.{ending}", octets)
    rig.run("check")
    rig.signal(signal.SIGHUP)
    rig.wait_log("event=reloaded")
    check(shown() == pairs["second"], "the new certificate is not in force")
