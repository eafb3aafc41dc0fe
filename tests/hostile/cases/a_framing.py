"""A: framing and smuggling."""

import concurrent.futures, itertools, re, threading

from rig import TOKEN, Received, case, check, wait_until

from ._faults import Clock
from ._wire import accepted, drained, ended, silent

BOTH = 'tls = "starttls"\n[[listener]]\nname = "strict"\naddress = "127.0.0.1:0"\ntenant = "acme"\nbare_newline = "reject"\ntls = "starttls"'
"""Two listeners: `in` normalizes, `strict` rejects."""

LONE, NUL = "550 5.5.2 ", "554 5.6.0 "

ATTACKS = {
    "A01": [(b"\n.\n", LONE)],
    "A02": [(b"\n.\r\n", LONE)],
    "A03": [(b"\r\n.\n", LONE)],
    "A04": [(b"\r.\r", LONE)],
    "A05": [(b"\r.\n", LONE)],
    "A06": [(b"\n.\r", LONE)],
    "A07": [(b"\r.\r\n", LONE)],
    "A08": [(b"\r\n.\r" + octet, LONE) for octet in (b"x", b" ", b".", b"\t", b"\xff")],
    "A09": [(b"\r\n\0.\r\n", NUL), (b"\r\n\0\0.\r\n", NUL), (b"\r\0\n.\r\n", NUL)],
    "A10": [(b"\r\n.\0\r\n", NUL), (b"\r\n.\r\0\n", NUL), (b"\r\n.\0\0\r\n", NUL)],
    "A11": [(b"\r\n\0.\r", NUL), (b"\r\n\0.\n", NUL), (b"\0\r\n.\n", NUL), (b"\r\n.\n\0", NUL)],
    "A12": [(b"\r\n.\r\r\n", LONE), (b"\r\r\n.\r\r\n", LONE), (b"\n.\r\r\n", LONE), (b"\r\r.\r\n", LONE)],
    "A13": [(b"\n\n.\r\n", LONE)],
}
"""What somebody might take for an end, and how the message is refused."""

STARTS = [b".\n", b".\r", b"\n.\r\n", b"\r.\r\n", b".\r\r\n", b"\n.\n"]

CLEAN = [
    (b"..\r\n...\r\n.x\r\n", b".\r\n..\r\nx\r\n"),
    (b"a\r\n\r\n..\r\n\r\n..\r\n..\r\n", b"a\r\n\r\n.\r\n\r\n.\r\n.\r\n"),
    (b"....\r\n\r\n.. \r\n.\t\r\n", b"...\r\n\r\n. \r\n\t\r\n"),
]
"""Well-formed bodies, as on the wire and as they are meant."""


def smuggled(rig):
    """What would be a second message."""
    return b"MAIL FROM:<x@evil.example>\r\nRCPT TO:<v@t.example>\r\nDATA\r\n" + rig.message()


def play(rig, identity):
    """Every sequence of a row, in both modes: read to the true end, refused, closed."""
    for octets, start in ATTACKS[identity]:
        for listener in ("in", "strict"):
            refuse(rig, rig.message() + octets + smuggled(rig), start, listener)
    accepted(rig, 0)
    check(rig.queue() == [], "something is queued")


def refuse(rig, wire, start, listener="in"):
    client = rig.client(listener)
    client.envelope()
    reply = client.content(wire)
    check(reply.startswith(start), f"{wire!r} ({listener}): wanted {start}, got {reply!r}")
    ended(client, f"after {wire!r} ({listener})")


def row(identity):
    octets = ", ".join(repr(octets)[1:] for octets, _ in ATTACKS[identity])

    @case(identity, octets[:60], listener=BOTH)
    def _(rig):
        play(rig, identity)


for identity in ATTACKS:
    row(identity)


@case("A14", "CR LF dot, then silence", start=False)
def _(rig):
    """The deadline of 300 s is reached by moving the server's clock."""
    clock = Clock(rig)
    rig.start()
    client = rig.client()
    client.envelope()
    client.raw(rig.message() + b"\r\n.")
    drained(client)
    clock.move(steady=269)
    rig.good_client()  # wakes the server, whose timers then are looked at
    silent(client)
    clock.move(steady=302)
    rig.good_client()
    client.wants("421 4.4.2")
    ended(client)
    accepted(rig, 2)


@case("A15", "DATA that begins with an attack", listener=BOTH)
def _(rig):
    for start, listener in itertools.product(STARTS, ("in", "strict")):
        refuse(rig, start + smuggled(rig), LONE, listener)
    accepted(rig, 0)


@case("A16", "the final dot at once", listener=BOTH)
def _(rig):
    for listener in ("in", "strict"):
        client = rig.client(listener)
        client.envelope()
        client.raw(b".\r\n")
        client.wants("554 5.6.0")
        client.expect("NOOP", "250")
    accepted(rig, 0)


def sent_clean(rig, listener, body):
    client = rig.client(listener)
    content = rig.message(body[:-2])
    client.message(content)
    client.expect("QUIT", "221")
    client.close()
    return TOKEN.search(content)[0]


def arrived(rig, token):
    """The one message with this token, at the upstream."""
    return wait_until(f"{token} at the upstream", lambda: [m for m in list(rig.upstream.received) if token in m.raw])[0]


@case("A17", "dots at line starts", listener=BOTH)
def _(rig):
    for body, text in CLEAN:
        for listener in ("in", "strict"):
            got = arrived(rig, sent_clean(rig, listener, body))
            check(got.body == text, f"{body!r} came as {got.body!r}")


@case("A18", "a dot after a blank line", listener=BOTH)
def _(rig):
    for n in range(4):
        body, text = b"a" + b"\r\n" * n + b"\r\n..\r\n" * (n + 1), b"a" + b"\r\n" * n + b"\r\n.\r\n" * (n + 1)
        for listener in ("in", "strict"):
            got = arrived(rig, sent_clean(rig, listener, body))
            check(got.body == text, f"{body!r} came as {got.body!r}")
    check(len(rig.upstream.received) == 8, "not one message each")


def in_pieces(rig, listener, tls, octets, cuts):
    """Sends a content cut at these places; what is before a cut was read before more is sent."""
    client = rig.client(listener)
    if tls:
        client.starttls()
        client.expect("EHLO again", "250")
    client.envelope()
    for start, end in zip([0, *cuts], [*cuts, len(octets)]):
        client.raw(octets[start:end])
        drained(client)
    reply = client.reply()
    rig.note(octets, reply)
    if reply[:1] == "5":
        ended(client, f"after {octets!r} ({listener}, TLS {tls}, cut at {cuts})")
    client.close()
    return reply


@case("A19", "all of them octet by octet, and cut across TLS records", listener=BOTH)
def _(rig):
    tasks = []
    table = [(rig.message, octets, start) for row in ATTACKS.values() for octets, start in row]
    table += [(bytes, octets, LONE) for octets in STARTS]
    table += [(rig.message, b"\r\n" + body[:-2], "250") for body, _ in CLEAN]
    for begin, octets, start in table:
        for listener in ("in", "strict"):
            before = begin()
            attack = len(before)
            wire = before + octets + (b"" if start == "250" else b"MAIL FROM:<x@e.example>\r\nRCPT TO:<v@t.example>\r\nDATA\r\n\r\nx") + b"\r\n.\r\n"
            places = [n for n in range(len(wire)) if attack - 1 <= n <= attack + len(octets) + 1 or n > len(wire) - 6]
            tasks.append((wire, start, listener, False, range(1, len(wire))))
            if listener == "in":
                tasks += [(wire, start, listener, True, [n]) for n in places if n > 0]
            else:
                tasks.append((wire, start, listener, True, range(1, len(wire))))
    renew = threading.Lock()
    good = set()

    def one(task):
        wire, start, listener, tls, cuts = task
        with renew:
            wire = TOKEN.sub(lambda _: rig.token().encode(), wire)
        reply = in_pieces(rig, listener, tls, wire, cuts)
        check(reply.startswith(start), f"{wire!r} at {listener}, TLS {tls}, cut at {cuts}: {reply!r}")
        good.update(TOKEN.findall(wire) if start == "250" else ())

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, tasks))
    accepted(rig, len(good))
    rig.delivered(len(good))
    texts = {text for _, text in CLEAN}
    check({m.body.removeprefix(b"Hello,\r\nthis is a test.\r\n") for m in rig.upstream.received} == texts, "a body is not what it was")


@case("A20", "beyond the size, then dot LF and a command", server='max_message_size = "16KiB"')
def _(rig):
    """The lone dot outranks the size (550 5.5.2, the interface 3); both close nothing executed."""
    for attack, start in ((b"\r\n.\nHELP\r\n", "550 5.5.2"), (b"\n.\nHELP\r\n", "550 5.5.2"), (b"\r\nHELP\r\n", "552 5.3.4")):
        client = rig.client()
        client.envelope()
        client.raw(rig.message() + (b"y" * 70 + b"\r\n") * 500 + attack)
        drained(client)
        check(client.content(b"more").startswith(start), f"{attack!r}")
        if start[:3] == "550":
            ended(client)
        else:
            client.expect("NOOP", "250 ")
        client.close()
    check(b"214" not in b" ".join(rig.replies), "a command was executed")
    accepted(rig, 0)


def reference(wire, strict):
    """What must become of a content: (octets used, start of the reply, closed, text). Written from
    the rules, not from the program."""
    end = (b"\r\n" + wire).index(b"\r\n.\r\n")
    used, content = end + 3, wire[:end]
    lone = re.search(rb"(?<![^\r\n])\.(?=[\r\n])", content.replace(b"\0", b"")) is not None
    if b"\0" in content:
        return used, "554 5.6.0", lone, None
    if lone:
        return used, "550 5.5.2", True, None
    if strict and re.search(rb"(?<!\r)\n|\r(?!\n)", content):
        return used, "550 5.5.2", True, None
    text = re.sub(rb"(?m)^\.", b"", content)
    return used, "250", False, re.sub(rb"\r+", b" ", re.sub(rb"\r*\n", b"\r\n", text).replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")


SYMBOLS = [b"\r", b"\n", b".", b"\0", b" ", b"x"]


@case("A21", "all strings of 1 to 3 of CR LF . NUL SP x in a body", listener=BOTH)
def _(rig):
    """A sample over the wire; all strings up to 7 are played to the automaton by a test in Rust."""
    strings = [b"".join(s) for n in (1, 2, 3) for s in itertools.product(SYMBOLS, repeat=n)]
    tasks = [(listener, before + s + after) for listener in ("in", "strict") for s in strings for before, after in ((b"x", b"x"), (b"\r\n", b"x"), (b"x", b""))]
    expected = {}

    def several(tasks):
        client = None
        for listener, body in tasks:
            if client is None:
                client = rig.client(listener)
            content = rig.message(body)
            head = content.index(b"\r\n\r\n") + 4
            wire = content + b"\r\n.\r\n"
            used, start, closes, text = reference(wire, listener == "strict")
            client.envelope()
            client.raw(wire)
            reply = client.reply()
            rig.note(content, reply)
            check(reply.startswith(start), f"{body!r} ({listener}): wanted {start}, got {reply!r}")
            if text is not None:
                expected[TOKEN.search(content)[0]] = text[head:]
            if closes:
                ended(client, f"after {body!r} ({listener})")
            if closes or used < len(wire):
                client.close()
                client = None
        if client:
            client.close()

    parts = [[t for t in tasks if t[0] == listener][n::6] for listener in ("in", "strict") for n in range(6)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        list(pool.map(several, parts))
    accepted(rig, len(expected))
    for message in rig.delivered(len(expected)):
        token = TOKEN.search(message.raw)[0]
        check(message.body == expected[token], f"{expected[token]!r} came as {message.body!r}")


LEGACY = '[[listener]]\nname = "old"\naddress = "127.0.0.1:0"\ntenant = "acme"\nnetworks = ["127.0.0.0/8"]\nbare_newline = "legacy"'


def old(rig, first=b"\n"):
    """A session of bare LF, but for the end of its first line; up to 354."""
    client = rig.client("old", ehlo=False)
    client.raw(b"EHLO old" + first)
    client.wants("250")
    for line in (b"MAIL FROM:<app@source.example>\n", b"RCPT TO:<b@else.example>\n", b"DATA\n"):
        client.raw(line)
        client.wants(("250", "354"))
    return client


@case("A22", "legacy: LF dot LF ends the data of an LF-only session", listener=LEGACY)
def _(rig):
    """The risk is to be shown where the operator looks for weak settings: by `check`."""
    client = old(rig)
    content = rig.message(b"one\r\n..two\r\n").replace(b"\r\n", b"\n")
    check(client.content(content, dot=b".\n").startswith("250 2.0.0"), "LF only was refused")
    check(arrived(rig, TOKEN.search(content)[0]).body == b"one\r\n.two\r\n", "the text came otherwise")
    client.raw(b"QUIT\n")
    client.wants("221")
    second = b"\nMAIL FROM:<x@evil.example>\nRCPT TO:<v@t.example>\nDATA\n"
    for first, body in ((b"\r\n", b"\n.\n"), (b"\n", b"\ny\r\nx\n.\n"), (b"\n", b"\n.\r\n")):
        client = old(rig, first)
        wire = rig.message().replace(b"\r\n", b"\n") + body + second + rig.message()
        reply = client.content(wire)
        check(reply.startswith(LONE), f"a CRLF in {first + body!r}: {reply!r}")
        ended(client)
    accepted(rig, 1)
    said = rig.run("check")
    check(b"bare_newline" in said.stdout + said.stderr, "`check` does not name the risk of legacy")
    path = rig.directory / "postbote.toml"
    config = path.read_text()
    rig.write(path.name, config.replace('networks = ["127.0.0.0/8"]\n', ""))
    said = rig.run("check", code=78)
    check(b"networks" in said.stdout + said.stderr, "legacy for everybody")
    rig.write(path.name, config)


@case("A23", "the attacks through sendmail and in a tenant's texts")
def _(rig):
    """There is no POST /v1/send. A stray CR becomes a space (the interface
    2.1), a NUL is refused with exit code 65; a lone dot is text for `sendmail -i`."""
    sent = 0
    for started in (True, False):
        if not started:
            check(rig.stop() == 0, "did not stop")
        for row in ATTACKS.values():
            for octets, start in row:
                content = rig.message(b"x" + octets + b"MAIL FROM:<x@evil.example>\r\nRCPT TO:<v@t.example>\r\nDATA\r\ny")
                done = rig.run("sendmail", "-i", "b@else.example", input=content, code=65 if start == NUL else 0)
                rig.note(content, "554" if done.returncode else "250")
                sent += done.returncode == 0
    check(sent == 2 * sum(start == LONE for row in ATTACKS.values() for _, start in row), "not all were taken")
    rig.start()
    for message in rig.delivered(sent):
        check(message.sender != "x@evil.example" and message.recipients == ["b@else.example"], "smuggled")
        check(b"MAIL FROM:<x@evil.example>" in message.body, f"the text is cut: {message.body!r}")
    check(len(rig.upstream.received) == sent, "another message")
    # SMTP on standard input.
    wire = b"EHLO x\r\nMAIL FROM:<a@source.example>\r\nRCPT TO:<b@else.example>\r\nDATA\r\n" + rig.message(b"x\n.\n" + smuggled(rig)) + b"\r\n.\r\nQUIT\r\n"
    said = rig.run("sendmail", "-bs", input=wire, code=None).stdout
    check(b"550 5.5.2" in said and b"250 2.0.0 OK: queued" not in said, f"-bs: {said!r}")
    # Texts of the tenant that go into the header.
    tenant = (rig.directory / "tenants/acme.toml").read_text()
    for octets in (r"\r\n.\r\n", r"\n.\n", r"\r.\r", r"\u0000", r"\r\nBcc: x@evil.example"):
        for key in ('name = "ACME', 'email = "office'):
            rig.tenant("acme", tenant.replace(key, key + octets))
            done = rig.run("check", code=None)
            check(done.returncode == 78, f"{key}{octets} is taken")
    # The text of a signature: controls are refused, and a lone dot is a line of text.
    user = '\n[[user]]\nlogin = "pos1"\npassword = "right"\nname = "POS"\nemail = "office@acme.example"\nuse_own_sender = true\nsignature = "a{}MAIL FROM:<x@evil.example>"\n'
    for octets in (r"\r.\r", r"\u0000.", r"\u001b[2J"):
        rig.tenant("acme", tenant + user.format(octets))
        done = rig.run("check", code=None)
        check(done.returncode == 78, f"a signature with {octets} is taken")
    for octets in (r"\n.\n", r"\r\n.\r\n", r"\r\n..\r\n.\r\n"):
        reloads = rig.log.count("event=reloaded")
        rig.tenant("acme", tenant + user.format(octets))
        rig.wait_log("event=reloaded", count=reloads + 1)
        before = len(rig.upstream.received)
        client = rig.client()
        client.login("pos1", "right")
        client.message()
        client.expect("QUIT", "221")
        wait_until("it arrives", lambda: len(rig.upstream.received) > before)
        body = rig.upstream.received[-1].body
        check(len(rig.upstream.received) == before + 1 and b"\r\n.\r\nMAIL FROM:<x@evil.example>\r\n" in body, f"{octets}: {body!r}")
    rig.tenant("acme", tenant)
    rig.run("check")


@case("A24", "BDAT with commands as its payload")
def _(rig):
    payload = (b"MAIL FROM:<x@evil.example>\r\nRCPT TO:<v@t.example>\r\nDATA\r\n" + rig.message() + b"\r\n.\r\n")[:400]
    for before in (False, True):
        for word in (b"BDAT", b"bdat"):
            client = rig.client()
            if before:
                client.expect("MAIL FROM:<a@source.example>", "250")
                client.expect("RCPT TO:<b@else.example>", "250")
            client.raw(word + b" %d LAST\r\n" % len(payload) + payload)
            client.wants("502 5.5.1")
            ended(client)
    check(b"CHUNKING" not in b"".join(rig.replies), "CHUNKING is offered")
    accepted(rig, 0)


@case("A25", "an upstream answers the final dot twice", upstream_keys="connections = 1", retry='give_up_after = "1d"')
def _(rig):
    """At once behind the first answer, and later on the waiting connection."""
    late, said = threading.Event(), threading.Event()
    verdicts = []

    def dot(session, content):
        with rig.upstream.lock:
            number = len(verdicts)
            verdicts.append((session.number, content))
        if number in (0, 2):
            rig.upstream.received.append(Received(session.sender, session.recipients, content, session.number))
            if number == 0:
                return b"250 2.0.0 taken\r\n250 2.0.0 taken again\r\n"
            threading.Thread(target=lambda: (late.wait(), session.say("250 2.0.0 taken again"), said.set()), daemon=True).start()
            return "250 2.0.0 taken"
        return "550 5.7.1 not this one"

    rig.upstream.on["dot"] = dot
    client = rig.client()
    for round in (0, 1):
        client.message()
        rig.wait_log("event=sent", count=round + 1)
        if round == 1:
            late.set()
            wait_until("the second answer is sent", said.is_set)
        client.envelope(sender="")  # refused by the upstream; no bounce for the null sender
        check(client.content(rig.message()).startswith("250"), "refused")
        rig.wait_log("event=bounced", count=round + 1)
        check(verdicts[2 * round][0] != verdicts[2 * round + 1][0], "the connection was used again")
    check(len(rig.upstream.received) == 2, "a refused message counts as sent")
    rig.upstream.on.clear()


BEGINNINGS = {
    "a blank": b" Subject: x\r\n\r\nbody",
    "a blank line": b"\r\nbody of %s\r\nmore",
    "no header": b"Dear %s,\r\nthere is no header here: none\r\n\r\nmore",
    "no blank line": b"Subject: %s",
    "a blank line and a field": b"\r\nBcc: x@evil.example\r\n\r\n%s",
    "a line of blanks": b" \r\nSubject: %s\r\n\r\nbody",
}


@case("A26", "our fields on a message that begins with a blank, an empty line or no header")
def _(rig):
    key = "[[dkim]]\ndomain = \"acme.example\"\nselector = \"s\"\nkey = \"" + "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=" + "\"\nwhen = \"always\"\n"
    rig.tenant("acme", (rig.directory / "tenants/acme.toml").read_text() + key)
    rig.signal(1)
    rig.wait_log("event=reloaded")
    for name, content in BEGINNINGS.items():
        token = rig.token().encode()
        content = content.replace(b"%s", token)
        client = rig.client()
        client.envelope()
        reply = client.content(content)
        if "of blanks" in name or name == "a blank":
            check(reply.startswith("554 5.6.0"), f"{name}: {reply!r}")
            continue
        check(reply.startswith("250"), f"{name}: {reply!r}")
        got = arrived(rig, token)
        head, _, body = got.raw.partition(b"\r\n\r\n")
        for field in ("Received", "DKIM-Signature", "Message-ID", "From", "Date"):
            check(len(got.fields(field)) == 1, f"{name}: {field} stands {len(got.fields(field))} times in {got.raw!r}")
        wanted = {"no header": content, "no blank line": b"", "a blank line": content[2:], "a blank line and a field": content[2:]}[name]
        check(body.removesuffix(b"\r\n") == wanted, f"{name}: the body is {body!r}")
        check(not re.search(rb"(?m)^[ \t]*\r$", head), f"{name}: a blank line in the header {head!r}")
