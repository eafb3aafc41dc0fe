"""B: commands, state, limits."""

import pathlib, re

from rig import TOKEN, Client, case, check, wait_until

from ._wire import accepted, drained, ended

SECOND = b"MAIL FROM:<x@evil.example>\r\nRCPT TO:<v@t.example>\r\nDATA\r\n"


def flooded(client, octets):
    """Sends more than the server may want; gives how much went out."""
    sent = 0
    try:
        while sent < len(octets):
            sent += client.socket.send(octets[sent : sent + 65536])
    except (ConnectionResetError, BrokenPipeError):
        pass
    return sent


def executed_nothing(rig, octets, start, before=0):
    """What is sent at once is answered so, and the connection is over."""
    client = rig.client(ehlo=False)
    flooded(client, octets)
    client.wants(start)
    ended(client)
    accepted(rig, before)


def is_read(client):
    """Waits until the server has taken all that was sent."""
    ours, theirs = client.socket.getsockname()[1], client.socket.getpeername()[1]
    row = re.compile(rf"^ *\d+: 0100007F:{theirs:04X} 0100007F:{ours:04X} \w\w \w+:0+ ", re.M)
    wait_until("all of it is read", lambda: row.search(pathlib.Path("/proc/net/tcp").read_text()))


STRICT_AND_OLD = "".join(f'[[listener]]\nname = "{name}"\naddress = "127.0.0.1:0"\ntenant = "acme"\nnetworks = ["127.0.0.0/8"]\nbare_newline = "{how}"\n' for name, how in (("strict", "reject"), ("old", "legacy")))


@case("B01", "a command line that is too long", listener=STRICT_AND_OLD)
def _(rig):
    """Command lines up to 4,096 octets are taken (Known cases)."""
    # One after the other is no flood: each has its end.
    client = rig.client()
    for _ in range(12):
        client.raw(b"EHLO " + b"a" * 13_000 + b"\r\n", split=1500)
        client.wants("500 5.5.2")
    client.expect("NOOP", "250 2.0.0")
    client = rig.client()
    for length in (4100, 5000, 12_288, 12_289, 14_000):
        for verb in (b"EHLO ", b"NOOP ", b"MAIL FROM:<"):
            if length > 12_288 and verb != b"EHLO ":
                continue
            client.raw(verb + b"a" * (length - len(verb)) + b"\r\n", split=1500)
            client.wants("500 5.5.2")
            client.expect("NOOP", "250 2.0.0")
    client = rig.client()
    for _ in range(19):
        client.expect("EHLO " + "a" * 5000, "500 5.5.2")
    client.expect("EHLO " + "a" * 5000, "421 4.7.0")
    ended(client)
    # Its CR and its LF may come apart: that is still a CRLF.
    for listener in ("strict", "old"):
        for length in (13_494, 12_290, 4_200):
            client = rig.client(listener)
            client.raw(b"EHLO " + b"a" * length)
            is_read(client)
            client.raw(b"\r")
            is_read(client)
            client.raw(b"\n")
            client.wants("500 5.5.2")
            client.expect("NOOP", "250 2.0.0")
            client.close()
    # The longest name that is taken does no harm further on.
    client = rig.client(ehlo=False)
    client.expect("EHLO " + "a" * 4000, "250")
    client.message()
    message = rig.delivered(1)[0]
    longest = max(map(len, message.raw.split(b"\r\n")))
    check(longest <= 998, f"a line of {longest} octets left")


@case("B02", "100 MiB without a line end")
def _(rig):
    """Three ways: from the start, after EHLO, inside AUTH."""
    before = rig.resident()
    for prelude in ((), ("EHLO x",), ("EHLO x", "NOOP")):
        client = rig.client(ehlo=False)
        for line in prelude:
            client.expect(line, "250")
        sent = flooded(client, b"a" * (100 << 20))
        check(sent < 32 << 20, f"{sent} octets were read or buffered")
        client.wants("421 4.7.0")
        ended(client)
    check(rig.resident(peak=True) - before < 8, f"memory grew from {before:.0f} to {rig.resident(peak=True):.0f} MiB")


HTTP = ["GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT"]
OTHER_HTTP = ["DELETE", "PATCH", "TRACE", "PROPFIND"]


@case("B03", "HTTP, TLS and a mail header on the SMTP port")
def _(rig):
    commands = b"EHLO x\r\n" + SECOND + rig.message() + b"\r\n.\r\nQUIT\r\n"
    for verb in HTTP + [verb.lower() for verb in HTTP]:
        executed_nothing(rig, verb.encode() + b" / HTTP/1.1\r\nHost: localhost:25\r\n\r\n" + commands, "554 5.5.1")
        executed_nothing(rig, verb.encode() + b" /\r\n" + commands, "554 5.5.1")
    for verb in OTHER_HTTP:
        # Unknown words; the Host field behind them ends it.
        client = rig.client(ehlo=False)
        flooded(client, verb.encode() + b" / HTTP/1.1\r\nHost: localhost:25\r\n\r\n" + commands)
        client.wants("500 5.5.2")
        client.wants("554 5.5.1")
        ended(client)
    for field in ("Subject: x", "From: a@b.example", "To: x", "Host: x", "Content-Type: text/plain", "Received: x", "Date: x", "User-Agent: x"):
        executed_nothing(rig, field.encode() + b"\r\n" + commands, "554 5.5.1")
    for hello in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16\x03\x01", b"\x16\x03\x03\x00\x05hello\r\n", b"\x80\x2e\x01\x00\x02\r\n"):
        executed_nothing(rig, hello + commands * (b"\n" in hello), "554 5.5.1")
    accepted(rig, 0)


FAR = '[[listener]]\nname = "far"\naddress = "127.0.0.1:0"\ntenant = "acme"\nnetworks = ["10.0.0.0/8"]'


@case("B04", "octets before the greeting", listener=FAR)
def _(rig):
    """Tolerated in an allowed network (Known cases): what came early is neither lost nor doubled.
    A client that may not connect gets nothing executed."""
    content = rig.message()
    early = b"EHLO early\r\nMAIL FROM:<a@source.example>\r\nRCPT TO:<b@else.example>\r\nDATA\r\n" + content + b"\r\n.\r\nQUIT\r\n"
    for round in range(20):
        client = Client(rig, rig.address())
        token = rig.token().encode()
        client.raw(TOKEN.sub(token, early))
        for start in ("220 ", "250", "250 2.1.0", "250 2.1.5", "354 ", "250 2.0.0", "221 "):
            reply = client.wants(start)
            if start == "250 2.0.0":
                rig.note(token, reply)
        ended(client)
    accepted(rig, 20)
    check(len(rig.delivered(20)) == 20, "not one each")
    client = Client(rig, rig.address("far"))
    flooded(client, early)
    client.wants("554 5.7.1")
    ended(client)
    accepted(rig, 20)


@case("B05", "MAIL before EHLO")
def _(rig):
    client = rig.client(ehlo=False)
    client.expect("MAIL FROM:<a@t.example>", "503 5.5.1")
    client.expect("RSET", "250 2.0.0")
    client.expect("MAIL FROM:<a@t.example>", "503 5.5.1")
    client.expect("RCPT TO:<a@t.example>", "503 5.5.1")
    client.expect("DATA", "503 5.5.1")
    client.expect("HELO x", "250 ")
    client.expect("MAIL FROM:<a@t.example>", "250 2.1.0")


@case("B06", "RCPT before MAIL, DATA before RCPT")
def _(rig):
    """DATA without recipients: 554 as after refused ones (RFC 5321 section 3.3 allows both)."""
    client = rig.client()
    client.expect("RCPT TO:<b@t.example>", "503 5.5.1")
    client.expect("DATA", "503 5.5.1")
    client.expect("MAIL FROM:<a@t.example>", "250")
    client.expect("DATA", ("503 5.5.1", "554 5.5.1"))
    client.expect("RCPT TO:<b@t.example>", "250")
    client.expect("DATA", "354")
    check(client.content(rig.message()).startswith("250 2.0.0"), "refused")


def no_recipients(rig, padding=b"", tls=False):
    """A group whose only RCPT is refused, with content behind DATA."""
    content = b"hello\r\n" + SECOND + rig.message() + b"\r\n.\r\nQUIT\r\n"
    client = rig.client(ehlo=False)
    if tls:
        client.starttls()
    group = b"EHLO x\r\nMAIL FROM:<a@source.example>\r\nRCPT TO:<nobody>\r\nDATA\r\n"
    client.raw(padding + group + content)
    for _ in range(padding.count(b"\r\n")):
        client.wants("250")
    for start in ("250", "250 2.1.0", "501", ("554 5.5.", "503 5.5.1")):
        client.wants(start)
    said = []
    while (line := client.line()) is not None:
        said.append(line)
    client.close()
    check(not said or [line[:9] for line in said] == ["554 5.5.0"], f"content was read as commands (TLS {tls}, {len(padding + group)} octets up to DATA): {said}")


@case("B07", "DATA after all RCPT refused, with content behind it", listener='tls = "starttls"')
def _(rig):
    """Wherever the server's reads end: also exactly behind DATA."""
    client = rig.client()
    client.expect("MAIL FROM:<a@source.example>", "250")
    client.expect("RCPT TO:<nobody>", "501")
    client.expect("DATA", "554 5.5.1")
    client.expect("RCPT TO:<b@else.example>", "250")
    client.close()
    no_recipients(rig)
    accepted(rig, 0)
    group = len(b"EHLO x\r\nMAIL FROM:<a@source.example>\r\nRCPT TO:<nobody>\r\nDATA\r\n")
    for size in (4096, 8192, 16_384, 32_768, 65_536):
        for end in (size, size - 1, size + 1):
            lines, rest = divmod(end - group, 4000)
            padding = (b"NOOP " + b"x" * 3993 + b"\r\n") * lines
            padding += b"NOOP " + b"x" * (rest - 7) + b"\r\n" if rest >= 7 else b""
            no_recipients(rig, padding, tls=False)
            no_recipients(rig, padding, tls=True)
    accepted(rig, 0)


@case("B08", "MAIL inside a transaction")
def _(rig):
    client = rig.client()
    client.expect("MAIL FROM:<a@source.example>", "250")
    client.expect("RCPT TO:<b@else.example>", "250")
    client.expect("MAIL FROM:<other@source.example>", "503 5.5.1")
    client.expect("DATA", "354")
    content = rig.message()
    check(client.content(content).startswith("250"), "refused")
    message = rig.delivered(1)[0]
    check(message.recipients == ["b@else.example"], f"recipients {message.recipients}")
    check("other@" not in message.sender, "the second sender won")


HEAD = b"From: app@source.example\r\nSubject: "


def large(rig, size):
    """A message of so many KiB."""
    return rig.message((b"y" * 62 + b"\r\n") * (16 * size))


REFUSALS = {
    "empty": ("in", lambda rig: b"", "554 5.6.0"),
    "a NUL": ("in", lambda rig: rig.message(b"a\0b"), "554 5.6.0"),
    "not a field": ("in", lambda rig: HEAD + rig.token().encode() + b"\r\nnothing\r\n\r\nx", "554 5.6.0"),
    "a blank first": ("in", lambda rig: b" x: " + rig.token().encode() + b"\r\n\r\nx", "554 5.6.0"),
    "two types": ("in", lambda rig: rig.message(header=b"Content-Type: text/plain\r\nContent-Type: text/html\r\n"), "554 5.6.0"),
    "hops": ("in", lambda rig: rig.message(header=b"Received: x\r\n" * 51), "554 5.4.6"),
    "header size": ("in", lambda rig: rig.message(header=b"X-Y: %s\r\n" % (b"y" * 900) * 400), "552 5.3.4"),
    "size": ("in", lambda rig: large(rig, 1100), "552 5.3.4"),
    "storage": ("in", lambda rig: large(rig, 900), "451 4.3.0"),
    "spool full": ("in", lambda rig: large(rig, 900), "452 4.3.1"),
    "sender": ("picky", lambda rig: rig.message(), "550 5.7.1"),
    "upstream": ("relayed", lambda rig: rig.message(), "550 5.7.1"),
}
"""Every refusal at the end of the data that does not close: listener, content, reply."""

MANY = """[[listener]]
name = "picky"
address = "127.0.0.1:0"
tenant = "picky"
[[listener]]
name = "relayed"
address = "127.0.0.1:0"
tenant = "refused"
answer = "relayed"
[[listener]]
name = "later"
address = "127.0.0.1:0"
tenant = "later"
"""


@case("B09", "nothing of a refused message is left", listener=MANY, server='max_message_size = "1MiB"\nspool_limit = "1500KiB"', start=False)
def _(rig):
    rig.another_tenant("picky", after='[sender]\napplication_from = "reject-unauthorized"')
    rig.another_tenant("later").on["MAIL"] = lambda session, line: "450 4.2.0 later"
    rig.another_tenant("refused").on["dot"] = lambda session, content: "550 5.7.1 not this one"
    rig.start()
    bodies = next(rig.data.rglob("bodies"))
    for name, (listener, content, start) in REFUSALS.items():
        client = rig.client(listener)
        client.envelope(sender="office@picky.example" if listener == "picky" else "", to=("old@else.example",))
        if name == "spool full":
            filler = rig.client("later")
            filler.message(large(rig, 900))
        if name == "storage":
            bodies.rename(bodies.with_name("away"))
        octets = content(rig)
        reply = client.content(octets, dot=b"\r\n.\r\n" if octets else b".\r\n")
        if name == "storage":
            bodies.with_name("away").rename(bodies)
        check(reply.startswith(start), f"{name}: wanted {start}, got {reply!r}")
        client.expect("RCPT TO:<c@else.example>", "503 5.5.1")
        client.expect("DATA", "503 5.5.1")
        client.expect("MAIL FROM:<>", "250")
        client.expect("DATA", ("503 5.5.1", "554 5.5.1"))
        client.expect("QUIT", "221")
        client.close()
    # What hides an end of data is refused for good, also where there is no room for it.
    for octets, start in ((large(rig, 900) + b"\r\nx\n.\n", "550 5.5.2"), (large(rig, 900) + b"\r\n\0", "554 5.6.0")):
        client = rig.client()
        client.envelope()
        reply = client.content(octets)
        check(reply.startswith(start), f"without room: wanted {start}, got {reply!r}")
        if start == "550 5.5.2":
            ended(client)
        client.close()
    accepted(rig, 2)  # what fills the spool, and what its upstream refused was durable before
    check(len(rig.bodies()) == 1, "a body was left")
    client = rig.client()
    client.message(to=("new@else.example",))
    check(rig.delivered(1)[0].recipients == ["new@else.example"], "an old recipient")


@case("B10", "EHLO inside a transaction")
def _(rig):
    for hello in ("EHLO again", "HELO again"):
        client = rig.client()
        client.expect("MAIL FROM:<a@source.example>", "250")
        client.expect("RCPT TO:<old@else.example>", "250")
        client.expect(hello, "250")
        client.expect("RCPT TO:<c@else.example>", "503 5.5.1")
        client.expect("DATA", "503 5.5.1")
        client.message(to=("new@else.example",))
    check([m.recipients for m in rig.delivered(2)] == [["new@else.example"]] * 2, "an old recipient")


@case("B11", "RSET anywhere", server="max_recipients = 1000")
def _(rig):
    client = rig.client(ehlo=False)
    client.expect("RSET", "250 2.0.0")
    client.expect("EHLO x", "250")
    client.expect("MAIL FROM:<a@source.example>", "250")
    client.expect("RSET", "250 2.0.0")
    client.expect("RSET", "250 2.0.0")
    client.expect("RCPT TO:<b@else.example>", "503 5.5.1")
    sizes = []
    for _ in range(12):
        client.raw(b"MAIL FROM:<a@source.example>\r\n" + b"".join(b"RCPT TO:<%s%d@else.example>\r\n" % (b"r" * 50, n) for n in range(1000)) + b"RSET\r\n")
        for _ in range(1002):
            client.wants("250 2.")
        sizes.append(rig.resident())
    check(sizes[-1] - sizes[2] < 2, f"memory grows: {sizes}")
    client.message(to=("only@else.example",))
    check(rig.delivered(1)[0].recipients == ["only@else.example"], "an old recipient")


@case("B12", "QUIT after 354")
def _(rig):
    client = rig.client()
    client.envelope()
    content = rig.message(b"QUIT\r\nRSET\r\nQUIT")
    check(client.content(content).startswith("250 2.0.0"), "refused")
    check(rig.delivered(1)[0].body == b"QUIT\r\nRSET\r\nQUIT\r\n", "the text came otherwise")
    client = rig.client()
    client.envelope()
    client.raw(b"QUIT\r\n")
    client.close()
    accepted(rig, 1)


def begin(rig, steps):
    client = rig.client()
    for line, start in (("MAIL FROM:<a@source.example>", "250"), ("RCPT TO:<b@else.example>", "250"), ("DATA", "354"))[:steps]:
        client.expect(line, start)
    return client


@case("B13", "QUIT or a closed connection before the end")
def _(rig):
    quiet = begin(rig, 2)
    quiet.expect("QUIT", "221")
    ended(quiet)
    for steps in range(4):
        begin(rig, steps).close()
        begin(rig, steps).reset()
    for end in ("close", "reset"):
        client = begin(rig, 3)
        content = rig.message()
        client.raw(content + b"\r\n.\r")
        rig.note(content, "none")
        getattr(client, end)()
    check(rig.client().send("NOOP").startswith("250"), "no longer served")
    accepted(rig, 0)
    wait_until("all are gone", lambda: rig.count_descriptors() <= rig.descriptors + 2)
    check(rig.queue() == [], "something is queued")
    errors = [line for line in rig.log.splitlines() if "ERROR" in line or "level=error" in line]
    check(not errors, f"logged as an error: {errors}")


@case("B14", "more than 100 empty commands")
def _(rig):
    """From the 101st on each counts as an error; the 20th of those ends it."""
    for verbs in (["NOOP"], ["RSET"], ["VRFY root"], ["HELP"], ["NOOP", "RSET", "VRFY root", "HELP"]):
        client = rig.client()
        for n in range(119):
            client.expect(verbs[n % len(verbs)], "2")
        client.expect(verbs[119 % len(verbs)], "421 4.7.0")
        ended(client)
    client = rig.client()
    for _ in range(60):
        client.expect("NOOP", "250")
    client.message()
    for _ in range(60):
        client.expect("NOOP", "250")  # who sends mail begins anew


@case("B15", "VRFY and EXPN tell nothing")
def _(rig):
    client = rig.client()
    for verb, start in (("VRFY", ("252 2.1.5", "252 2.5.2")), ("EXPN", "502 5.5.1")):
        answers = {client.expect(f"{verb} {name}".rstrip(), start) for name in ("root", "office@acme.example", "office", "acme", "nobody", "<x@y.example>", "")}
        check(len(answers) == 1, f"{verb} answers differently: {answers}")


STRANGE = ["ETRN example.com", "TURN", "ATRN", "XCLIENT NAME=localhost ADDR=1.2.3.4 LOGIN=root", "XFORWARD ADDR=1.2.3.4 NAME=x", "XADR x", "BURL imap://x LAST", "SEND FROM:<a@b.example>", "SOML FROM:<a@b.example>", "SAML FROM:<a@b.example>"]


@case("B16", "ETRN, TURN, XCLIENT, XFORWARD, XADR, BURL")
def _(rig):
    client = rig.client()
    for line in STRANGE:
        client.expect(line, "502 5.5.1")
    offered = client.send("EHLO me.example")
    check(not any(line.split()[0] in offered for line in STRANGE), f"offered: {offered!r}")
    client.expect("XCLIENT NAME=localhost ADDR=1.2.3.4 HELO=forged", "502 5.5.1")
    client.expect("XFORWARD ADDR=1.2.3.4 NAME=forged", "502 5.5.1")
    client.message()
    (received,) = rig.delivered(1)[0].fields("Received")
    check("127.0.0.1" in received and "me.example" in received, f"Received: {received}")
    check("1.2.3.4" not in received and "forged" not in received, f"Received: {received}")
    check("1.2.3.4" not in rig.log and "forged" not in rig.log, "the log believes it")


@case("B17", "the PROXY protocol")
def _(rig):
    """There are no PROXY listeners; v1 is a foreign protocol, v2 cannot get further."""
    commands = b"EHLO x\r\n" + SECOND + rig.message() + b"\r\n.\r\nQUIT\r\n"
    for line in (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"PROXY UNKNOWN\r\n", b"PROXY TCP6 ::1 ::1 1 2\r\n", b"PROXY " + b"x" * 200 + b"\r\n"):
        executed_nothing(rig, line + commands, "554 5.5.1")
    signature = b"\r\n\r\n\0\r\nQUIT\n"
    for rest in (b"\x21\x11\x00\x0c" + bytes(12), b"", b"\x20\x00\xff\xff"):
        client = rig.client(ehlo=False)
        flooded(client, signature + rest + commands)
        while client.line() is not None:
            pass
        accepted(rig, 0)
    for octets in (b"PROXY TCP4", b"PROXY " + b"x" * 3000, signature[:5]):
        client = rig.client(ehlo=False)
        client.raw(octets)
        drained(client)
        client.reset()
    accepted(rig, 0)


@case("B18", "MAIL, three RCPT, DATA in one write")
def _(rig):
    client = rig.client()
    client.raw(b"MAIL FROM:<a@t.example>\r\n" + b"".join(b"RCPT TO:<%d@t.example>\r\n" % n for n in range(3)) + b"DATA\r\n")
    for start in ("250 2.1.0", "250 2.1.5", "250 2.1.5", "250 2.1.5", "354"):
        client.wants(start)
    check(client.content(rig.message()).startswith("250 2.0.0"), "refused")
    check(len(rig.delivered(1)[0].recipients) == 3, "not all recipients")


@case("B19", "content before 354, commands before the reply to the dot")
def _(rig):
    """An allowed network counts as authorised (RFC 6409 section 3.3): the order is kept and content
    is content. After a refused DATA, or a refused lone dot, nothing further is executed."""
    first, second = rig.message(), rig.message()
    group = b"MAIL FROM:<a@source.example>\r\nRCPT TO:<b@else.example>\r\nDATA\r\n"
    client = rig.client()
    client.raw(group + first + b"\r\nQUIT\r\n.\r\n" + group + second + b"\r\n.\r\nNOOP\r\nQUIT\r\n")
    for content in (first, second):
        for start in ("250 2.1.0", "250 2.1.5", "354 "):
            client.wants(start)
        rig.note(content, client.wants("250 2.0.0"))
    client.wants("250 2.0.0")
    client.wants("221")
    ended(client)
    accepted(rig, 2)
    for reason, wire, replies in (
        ("no MAIL", b"DATA\r\n" + SECOND, ["503 5.5.1", "554 5.5.0"]),
        ("no RCPT", b"MAIL FROM:<a@source.example>\r\nDATA\r\n" + SECOND, ["250", ("554 5.5.", "503 5.5.1"), "554 5.5.0"]),
        ("MAIL refused", b"MAIL FROM:<a b c@>\r\nRCPT TO:<b@else.example>\r\nDATA\r\n" + SECOND, ["501", "503 5.5.1", "503 5.5.1", "554 5.5.0"]),
        ("with a parameter", b"MAIL FROM:<a@source.example>\r\nRCPT TO:<b@else.example>\r\nDATA now\r\nRSET\r\n" + SECOND, ["250", "250", "501 5.5.4", "554 5.5.0"]),
        ("an unusable header", group + b"To: a@b.example\r\ngarbage\r\n\r\nx\r\n.\r\n" + SECOND, ["250", "250", "354", "554 5.6.0", "554 5.5.0"]),
        ("an empty message", group + b".\r\n" + SECOND, ["250", "250", "354", "554 5.6.0", "554 5.5.0"]),
        ("a lone dot", group + rig.message() + b"\n.\nx\r\n.\r\n" + SECOND, ["250", "250", "354", "550 5.5.2"]),
    ):
        client = rig.client()
        client.raw(wire + rig.message() + b"\r\n.\r\nQUIT\r\n")
        for start in replies:
            client.wants(start)
        check((line := client.line()) is None, f"{reason}: went on with {line!r}")
        client.close()
    # A QUIT is what it says.
    client = rig.client()
    client.raw(group + b".\r\nquit\r\n")
    for start in ("250", "250", "354", "554 5.6.0", "221"):
        client.wants(start)
    ended(client)
    accepted(rig, 2)


@case("B20", "the 1001st recipient", server="max_recipients = 1000")
def _(rig):
    def recipients(client, numbers):
        client.raw(b"".join(b"RCPT TO:<r%d@else.example>\r\n" % n for n in numbers))
        return [client.reply() for _ in numbers]

    client = rig.client()
    client.expect("MAIL FROM:<a@source.example>", "250")
    check(all(r.startswith("250 2.1.5") for r in recipients(client, range(1000))), "one of the first 1000 was refused")
    check(all(r.startswith("452 4.5.3") for r in recipients(client, range(1000, 1050))), "no 452 4.5.3")
    client.expect("RCPT TO:<r7@else.example>", "250")  # one of the first, again
    client.expect("DATA", "354")
    check(client.content(rig.message()).startswith("250 2.0.0"), "refused")

    def all_came():
        came = [r for m in list(rig.upstream.received) for r in m.recipients]
        return len(came) >= 1000 and came

    came = wait_until("1000 recipients", all_came)
    check(sorted(came) == sorted(f"r{n}@else.example" for n in range(1000)), "other recipients")
    rig.may_repeat.update(token for m in rig.upstream.received for token in TOKEN.findall(m.raw))
    client.expect("MAIL FROM:<a@source.example>", "250")
    recipients(client, range(1100))
    client.expect("RCPT TO:<last@else.example>", "421")
    ended(client)
    accepted(rig, 1)


@case("B21", "1000 times the same recipient", server="max_recipients = 10")
def _(rig):
    client = rig.client()
    client.expect("MAIL FROM:<a@source.example>", "250")
    names = [b"b@else.example", b"b@ELSE.example", b"b@Else.Example", b"B@else.example"] * 250
    client.raw(b"".join(b"RCPT TO:<%s>\r\n" % name for name in names))
    for _ in names:
        client.wants("250 2.1.5")
    client.expect("DATA", "354")
    check(client.content(rig.message()).startswith("250"), "refused")
    got = rig.delivered(1)[0].recipients
    check(sorted(got) == ["B@else.example", "b@else.example"], f"delivered to {got}")


SIZES = [("99999999999", "552 5.3.4"), ("-1", "501 5.5.4"), ("1e9", "501 5.5.4"), ("9" * 20, ("552 5.3.4", "501 5.5.4")), ("9" * 21, "501 5.5.4"), (str(2**64 - 1), "552 5.3.4"), (str(2**64), ("552 5.3.4", "501 5.5.4")), (str(2**63), "552 5.3.4"), ("", "501 5.5.4"), ("+5", "501 5.5.4"), ("0x10", "501 5.5.4"), ("1 000", ("501", "555")), ("٣", ("501", "500", "555")), ("0", "250"), ("1048576", "250"), ("1048577", "552 5.3.4")]


@case("B22", "SIZE with strange numbers", server='max_message_size = "1MiB"')
def _(rig):
    client = rig.client()
    check("SIZE 1048576" in client.send("EHLO x"), "another size is offered")
    for size, start in SIZES:
        client.expect(f"MAIL FROM:<a@source.example> SIZE={size}", start)
        client.expect("RSET", "250")
    accepted(rig, 0)


def stored(rig):
    """Octets in the data directory."""
    return sum(path.stat().st_size for path in rig.data.rglob("*") if path.is_file())


@case("B23", "SIZE=10, then 40 MiB", server='max_message_size = "35MiB"')
def _(rig):
    before, resident = stored(rig), rig.resident()
    client = rig.client()
    client.expect("MAIL FROM:<a@source.example> SIZE=10", "250")
    client.expect("RCPT TO:<b@else.example>", "250")
    client.expect("DATA", "354")
    piece = (b"y" * 76 + b"\r\n") * 13_443  # a MiB
    client.raw(rig.message() + b"\r\n")
    for _ in range(41):
        client.raw(piece)
    client.raw(b".\r\n")
    client.wants("552 5.3.4")
    grown = rig.resident(peak=True) - resident
    check(grown < 24, f"memory grew by {grown:.0f} MiB")
    check(stored(rig) - before < 256 << 10, f"{stored(rig) - before} octets stay on disk")
    client.expect("RCPT TO:<b@else.example>", "503")
    client.message()
    accepted(rig, 1)


@case("B24", "unknown parameters")
def _(rig):
    """A bad value of a known parameter is 501 (RFC 3461 section 4.3), an unknown one 555."""
    client = rig.client()
    for tail in ("FOO=bar", "BODY=BINARYMIME", "RET=XX", "FOO=bar BODY=BINARYMIME RET=XX", "SIZE=5 FOO", "BODY=", "SMTPUTF8=yes", "REQUIRETLS", "MT-PRIORITY=9", "BY=1;R", "FOO=" + "b" * 300):
        client.expect(f"MAIL FROM:<a@source.example> {tail}", ("555 5.5.4", "501 5.5.4"))
        client.expect("RCPT TO:<b@else.example>", "503")
        if client.send("RSET")[:3] == "421" or "FOO=bar" == tail[-7:]:
            continue
        client.close()
        client = rig.client()


@case("B25", "parameters twice or too long")
def _(rig):
    """At most 1,000 octets of parameters."""
    for tail in ("BODY=8BITMIME BODY=8BITMIME", "BODY=7BIT BODY=8BITMIME", "SIZE=1 SIZE=1", "size=1 SIZE=2", "SMTPUTF8 SMTPUTF8", "ENVID=a ENVID=b", "RET=FULL RET=HDRS", "ENVID=" + "e" * 2000, "AUTH=" + "a" * 1200, "AUTH=" + "a" * 996, " ".join(f"X{n}=1" for n in range(400))):
        client = rig.client()
        client.expect(f"MAIL FROM:<a@source.example> {tail}", ("501 5.5.4", "555 5.5.4") if tail[0] == "X" else "501 5.5.4")
        client.expect("RCPT TO:<b@else.example>", "503")
        client.expect("MAIL FROM:<a@source.example>", "250")
        for tail in ("NOTIFY=NEVER NOTIFY=NEVER", "ORCPT=rfc822;a ORCPT=rfc822;b", "ORCPT=rfc822;" + "o" * 2000):
            client.expect(f"RCPT TO:<b@else.example> {tail}", "501 5.5.4")
        client.close()


@case("B26", "lower case, tabs, blanks")
def _(rig):
    """Each is taken, and leaves in the right form."""
    mails = ["mail from:<a@source.example>", "Mail From: <a@source.example>", "MAIL FROM:<a@source.example>   ", "MAIL\tFROM:<a@source.example>", "MAIL FROM:\t<a@source.example>\t", "MAIL FROM : <a@source.example>", "MAIL FROM:a@source.example", "MAIL FROM:<a@source.example> body=8bitmime  size=100 "]
    rcpts = ["rcpt to:<b@else.example>", "Rcpt To: <b@else.example>", "RCPT TO:<b@else.example>  ", "RCPT\tTO:<b@else.example>", "RCPT TO:\t<b@else.example>", "RCPT TO : <b@else.example>", "RCPT TO:b@else.example", "RCPT TO:< b@else.example >"]
    for mail, rcpt, (hello, data, quit) in zip(mails, rcpts, [("ehlo x", "data", "quit"), ("EHLO\tx", "data ", "quit "), ("ehlo x  ", "DaTa\t", "QUIT\t"), ("helo x", "DATA", "Quit")] * 2):
        client = rig.client(ehlo=False)
        client.expect(hello, "250")
        client.expect(mail, "250 2.1.0")
        client.expect(rcpt, "250 2.1.5")
        client.expect(data, "354")
        check(client.content(rig.message()).startswith("250 2.0.0"), "refused")
        client.expect(quit, "221")
    for message in rig.delivered(len(mails)):
        check(message.recipients == ["b@else.example"], f"to {message.recipients}")
    bad = [line for line in rig.upstream.lines if line[:4] in (b"MAIL", b"RCPT") and (b": " in line or b"\t" in line or b"<" not in line)]
    check(not bad, f"not normalised: {bad}")


@case("B27", "empty lines")
def _(rig):
    client = rig.client()
    for _ in range(3):
        client.expect("", "500 5.5.2")
    client.expect("  \t", "500 5.5.2")
    client.expect("NOOP", "250")
    before = rig.resident()
    for end in (b"\r\n", b"\n"):
        client = rig.client()
        flooded(client, end * (1 << 20 if end == b"\n" else 1 << 19))
        for _ in range(19):
            client.wants("500 5.5.2")
        client.wants("421 4.7.0")
        ended(client)
    check(rig.resident(peak=True) - before < 8, "memory grew")


RAW = [b"\0", b"NO\0OP", b"NOOP\0", b"\xff\xfe\xfd", b"N\x90OP", b"\xc3\x28", b"\x1b]0;x\x07", b"EHLO \x1b]0;x\x07", b"MAIL FROM:<a\x1b[2J@t.example>", b"RCPT TO:<\x9b31m@t.example>", b"VRFY \x08\x08\x08", b"EHLO \xe2\x80\xae\xff", b"HELP \x7f", b"NOOP \xc2\x9b31m", b"\x01\x02\x03\x04"]


@case("B28", "verbs with NUL, 0x80-0xFF and terminal sequences")
def _(rig):
    """Rule V6 looks at every reply and log line afterwards."""
    for octets in RAW:
        client = rig.client()
        client.expect(octets, ("500 5.5.2", "501 5.1.7", "501 5.5.2", "501 5.1.3") if octets[4:5] == b" " and octets[:4] in (b"MAIL", b"RCPT") else "500 5.5.2")
        client.expect("NOOP", "250")
        client.close()
    for octet in range(0x80, 0x100):
        client = rig.client()
        client.expect(bytes([octet]) + b"OOP", ("500 5.5.2", "554 5.5.1") if octet == 0x80 else "500 5.5.2")
        client.close()
    # Text of a client that is repeated to it and to the log: short and printable.
    client = rig.client()
    for line in ("MAIL FROM:<a@source.example> \u202e" + "Ä" * 300 + "=x", "MAIL FROM:<a@source.example> " + "P" * 1000, "AUTH " + "X" * 1000):
        said = client.send(line)
        check(said[:1] == "5" and len(said) < 160, f"{said!r}")
    rig.wait_log("event=refused")
    check("P" * 81 not in rig.log and "X" * 81 not in rig.log and "\u202e" not in rig.log, "the log holds too much of the client")
