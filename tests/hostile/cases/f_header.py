"""F: header, rewriting, MIME, DKIM."""

import base64, email, email.header, email.policy, email.utils, json, os, re, socket, time

from rig import TENANT, TOKEN, Client, Upstream, case, check, is_bounce, not_here, wait_until

from ._dkim import SEED, entry, must_verify, openssl, rsa, verify

OURS = "ACME <office@acme.example>"
KEYS = {("r", "acme.example"): rsa, ("e", "acme.example"): lambda: SEED}


def keys():
    return {name: make() for name, make in KEYS.items()}


def seven_bit():
    return Upstream(capabilities=("PIPELINING", "SIZE 50000000"))


# --------------------------------------------------------------------------- installations


def several(rig, tenants):
    """Starts a server with these tenants (name to text behind name and email), all on the rig's
    upstream, each with a login of its own name."""
    for name, (head, after) in tenants.items():
        login = f'[[user]]\nlogin = "{name}"\npassword = "right"\nemail = "office@acme.example"\nsenders = ["b@t.example"]\n'
        rig.tenant(name, TENANT.format(tenant="", port=rig.upstream.port, upstream="", after=after + login).replace('name = "ACME"', head))
    rig.start()
    rig.descriptors += 2 * len(tenants)  # each keeps its connections


def signing(rig, **given):
    """Starts a server whose tenant signs with RSA and Ed25519."""
    path = rig.directory / "tenants/acme.toml"
    rig.tenant("acme", path.read_text() + "".join(entry(domain, selector, key) for (selector, domain), key in keys().items()))
    rig.start()


def through(rig, content, login=None, upstream=None, dot=b"\r\n.\r\n", client=None, **envelope):
    """A message from a client to the upstream; gives it as it arrived. The content has a token."""
    client = client or rig.client()
    if login:
        client.login(login, "right")
    client.envelope(**envelope)
    reply = client.content(content, dot=dot)
    check(reply.startswith("250 2.0.0"), f"{content[:300]!r} was answered {reply!r}")
    token = TOKEN.search(content)[0]
    upstream = upstream or rig.upstream
    message = wait_until(f"{token} at the upstream", lambda: next((m for m in list(upstream.received) if token in m.raw and not is_bounce(m)), None))
    long = max(len(line) for line in message.raw.split(b"\r\n"))
    check(long <= 998, f"a line of {long} octets of {content[:300]!r}")
    check(message.raw.split(b"\r\n\r\n", 1)[0].isascii(), f"8-bit header: {message.raw[:2000]!r}")
    for name in ("From", "Date", "Message-ID", "MIME-Version"):
        check(message.fields(name), f"no {name}, or the header ends before it: {message.raw[:2000]!r}")
    for name in ("From", "Sender", "Reply-To", "To", "Cc", "Date", "Message-ID", "Subject", "MIME-Version", "Content-Type"):
        check(len(message.fields(name)) <= 1, f"{name} stands there more than once: {message.raw[:2000]!r}")
    return message


def must_refuse(rig, content, start, dot=b"\r\n.\r\n"):
    client = rig.client()
    client.envelope()
    reply = client.content(content, dot=dot)
    check(reply.startswith(start), f"{content[:200]!r}: wanted {start}, got {reply!r}")


def header(rig, *lines, body=b"text"):
    """A content of exactly these header lines, a subject with a token last."""
    lines = [line.encode() if isinstance(line, str) else line for line in lines]
    return b"\r\n".join([*lines, b"Subject: " + rig.token().encode(), b"", body])


def parsed(message):
    return email.message_from_bytes(message.raw, policy=email.policy.SMTP)


def decoded(text):
    """A header value as Python's older parser reads it, which follows RFC 2047 to the letter."""
    return str(email.header.make_header(email.header.decode_header(text)))


def only_ours(message, text=OURS):
    found = message.fields("From")
    check(found == [text], f"From {found}")


# --------------------------------------------------------------------------- sender fields


@case("F01", "no From, Date or Message-ID")
def _(rig):
    message = through(rig, header(rig, "To: b@else.example"))
    only_ours(message)
    when = email.utils.parsedate_to_datetime(message.fields("Date")[0])
    check(abs(when.timestamp() - time.time()) < 60, f"Date {when}")
    check(re.fullmatch(r"<[^<>@\s]+@acme\.example>", message.fields("Message-ID")[0]), f"Message-ID {message.fields('Message-ID')}")
    check(message.fields("MIME-Version") == ["1.0"], "no MIME-Version")


@case("F02", "two From fields")
def _(rig):
    for pair in (["From: a@source.example", "From: admin@victim.example"], ["From: a@source.example", "FROM: admin@victim.example", "from : x@y.example"], ["From: office@acme.example", "From: admin@victim.example"]):
        message = through(rig, header(rig, *pair))
        only_ours(message)
        check("victim" not in message.text, "the other one is still there")


@case("F03", "From with several mailboxes")
def _(rig):
    for value in ("a@source.example, b@evil.example", "office@acme.example, b@evil.example", "<office@acme.example>,<b@evil.example>", "a@source.example,\r\n b@evil.example", ",,,office@acme.example,,b@evil.example,"):
        message = through(rig, header(rig, "From: " + value))
        only_ours(message)
        check("evil" not in message.text, "the other one is still there")


@case("F04", "blanks and folds in front of the colon of From")
def _(rig):
    """`From :` is accepted, and replaced."""
    for name in ("From ", "From\t", "From  \t "):
        message = through(rig, header(rig, f"{name}: a@evil.example", "To: b@else.example"))
        only_ours(message)
        check(not re.search(rb"(?im)^from\s+:", message.raw), "the odd one is still there")
    bad = ([" From: a@evil.example"], ["\tFrom: a@evil.example"], ["From", " : a@evil.example"], ["To: b@else.example", "From", " : a@evil.example"], ["From\r\n\t: a@evil.example"], ["Fro\x01m: a@evil.example", "To: x@y.example"], ["To: b@else.example", "Fr om: a@evil.example"], ["To: b@else.example", ": a@evil.example"], ["To: b@else.example", "Fr\u00f6m: a@evil.example"])
    # As the first line it would make all of it a text without header, in which others read the Bcc.
    bad = [*bad, *([f"{first}: a@evil.example", "Bcc: boss@else.example", "Subject: x"] for first in ("Fr om", "\ufeffFrom", "Fr\u00f6m", "Subj ect"))]
    bad += [["\ufeffSubject: x", "To: b@else.example"], ["Hello", "To: b@else.example", "Bcc: boss@else.example"], ["Hello", "resent-bcc : boss@else.example"]]
    for lines in bad:
        must_refuse(rig, header(rig, *lines), "554 5.6.0")


@case("F05", "groups in From")
def _(rig):
    for value in ("undisclosed:;", "G: a@t.example, b@t.example;", "office@acme.example:;", "G:office@acme.example;", ":", ";"):
        only_ours(through(rig, header(rig, "From: " + value)))


ODD_FROM = ["<@a.example,@b.example:admin@victim.example>", '"x"<b@t.example><b@v.example>', "b@t.example <b@v.example>", "=?utf-8?q?=3Cb=40v.example=3E?= <a@v.example>", "<b@t.example>admin@v.example", '"b@t.example" <x@v.example>', "x@v.example (b@t.example)", "<b@t.example", "b@t.example>", "b@t.example\0", "b@t.example\x01@v.example", "b@t.example;x@v.example", "=?utf-8?q?b=40t=2Eexample?=", '"b"@t.example.v.example', "b@t.example@v.example", "<x@v.example> <b@t.example>", "b@t.example\\,x@v.example", "<b@t.example,x@v.example>"]
ODD_BUT_B = ["(x@v.example) b@t.example", "=?utf-8?q?=3Ca=40v.example=3E?= <b@t.example>", "<@a.example:b@t.example>", "b(c)@t.example,", ")<b@t.example>", "x;y <b@t.example>", "[x] <b@t.example>"]
"""Whose mailbox is b@t.example by every reading."""


@case("F06", "From fields that readers understand differently", start=False)
def _(rig):
    several(rig, {"plain": ('name = "ACME"', ""), "strict": ('name = "ACME"', '[sender]\napplication_from = "reject-unauthorized"\n'), "keep": ('name = "ACME"', '[sender]\napplication_from = "keep-authorized"\n')})
    for value in ODD_FROM + ODD_BUT_B:
        if "\0" in value:
            continue
        lines = ("From: " + value, "To: b@else.example")
        only_ours(through(rig, header(rig, *lines), login="plain"))
        # Whoever may use b@t.example only may not get past with any of them.
        message = through(rig, header(rig, *lines), login="keep")
        seen = email.utils.getaddresses(message.fields("From"))
        if value in ODD_FROM:
            only_ours(message)
        else:
            check([address for _, address in seen] in (["office@acme.example"], ["b@t.example"]), f"{value}: From {message.fields('From')}")
        client = rig.client()
        client.login("strict", "right")
        client.envelope(sender="b@t.example")
        reply = client.content(header(rig, *lines))
        check(reply.startswith("550 5.7.1") or value in ODD_BUT_B, f"{value}: allowed, {reply!r}")
    client = rig.client()
    client.login("strict", "right")
    client.envelope(sender="b@t.example")
    check(client.content(header(rig, "From: B <b@t.example>")).startswith("250"), "its own address")


@case("F07", "nested comments and endless quotes in From", start=False)
def _(rig):
    """Time as the fastest of three, a quarter of a second at most: the machine is shared. More than
    64 KiB is refused (F25)."""
    several(rig, {"strict": ('name = "ACME"', '[sender]\napplication_from = "reject-unauthorized"\n'), "plain": ('name = "ACME"', "")})
    client = rig.client()
    client.login("plain", "right")
    for value in (b"(" * 100_000, b'"' + b"x" * 100_000 + b'" <a@b.example>'):
        client.envelope()
        check(client.content(header(rig, b"From: " + value)).startswith("552 5.3.4"), "more than a field may have")
    values = [b"(" * 60_000, b"(" * 30_000 + b")" * 30_000, b'"' + b"\\" * 60_000, b'"' + b"x" * 60_000 + b'" <b@t.example>', b"<" * 60_000, b"b@t.example," * 5000, b"=?utf-8?q?" * 6000, b":;" * 30_000, b"\xfc" * 60_000]
    for value in values:
        taken = []
        for _ in range(3):
            strict = rig.client()
            strict.login("strict", "right")
            strict.envelope(sender="b@t.example")
            begun = time.monotonic()
            reply = strict.content(header(rig, b"From: " + value, b"Reply-To: " + value))
            taken.append(time.monotonic() - begun)
            check(reply.startswith(("550 5.7.1", "250")), f"{value[:20]!r}: {reply!r}")
        check(min(taken) < 0.25, f"{value[:20]!r} took {min(taken):.2f} s")
        # Long lines are through()'s to look at.
        message = through(rig, header(rig, b"From: " + value, b"Reply-To: " + value), client=client)
        only_ours(message)


# --------------------------------------------------------------------------- sender name


def starts_not(rig, text):
    """`check` finds the tenant's file bad, and `run` does not begin."""
    rig.tenant("acme", text)
    done = rig.run("check", code=78)
    check(b"error" in done.stdout + done.stderr, "no error shown")
    rig.run("run", code=78)


@case("F08", "line ends in what configuration puts into headers", start=False)
def _(rig):
    """There is no admin API for it; the command line is the other way in."""
    path = rig.directory / "tenants/acme.toml"
    base = path.read_text()
    bad = "Müller\\r\\nBcc: x@evil.example"
    for key in ("name", "address", "reply_to", "return_path"):
        starts_not(rig, base + f'[sender]\n{key} = "{bad}"\n')
    starts_not(rig, base.replace('"ACME"', f'"{bad}"'))
    starts_not(rig, base.replace('encryption = "none"', f'encryption = "none"\nhelo = "{bad}"'))
    starts_not(rig, base + f'[[user]]\nlogin = "x"\npassword = "y"\nname = "{bad}"\n')
    starts_not(rig, base + entry("acme.example\\r\\nx", "s", SEED))
    starts_not(rig, base + entry("acme.example", "s\\r\\nx", SEED))
    rig.tenant("acme", base)
    rig.start()
    rig.tenant("acme", base + f'[sender]\nname = "{bad}"\n')
    rig.wait_log("event=reload-refused")
    only_ours(through(rig, header(rig, "To: b@else.example")))
    rig.tenant("acme", base + '[sender]\napplication_from = "keep-authorized"\nreply_to = "original"\n')
    rig.wait_log("event=reloaded")
    # A name that comes decoded from the application is written anew.
    for value in ("=?utf-8?q?x=0D=0ABcc:_evil=40x.example?= <office@acme.example>", "=?utf-8?q?x=0D=0ABcc:_evil=40x.example?= <a@source.example>"):
        message = through(rig, header(rig, "From: " + value, "To: b@else.example"))
        check(not message.fields("Bcc"), "a field was made")
        check(len(email.utils.getaddresses(message.fields("Reply-To"))) == 1, f"Reply-To {message.fields('Reply-To')}")
    text = b"Subject: " + rig.token().encode() + b"\nTo: b@else.example\n\ntext\n"
    done = rig.run("sendmail", "-i", "-F", "Müller\r\nBcc: x@evil.example", "b@else.example", input=text, code=None)
    rig.note(text, "250" if done.returncode == 0 else "554")
    if done.returncode == 0:
        token = TOKEN.search(text)[0]
        message = wait_until("sendmail's message", lambda: next((m for m in list(rig.upstream.received) if token in m.raw), None))
        check(not message.fields("Bcc") and message.recipients == ["b@else.example"], "a field or recipient was made")


def names(rig, texts):
    """One tenant a sender name; gives what From becomes, by name."""
    several(rig, {f"n{n}": (f'name = "ACME"', f"[sender]\nname = {json.dumps(text, ensure_ascii=False)}\n") for n, text in enumerate(texts)})
    return {text: through(rig, header(rig, "To: b@else.example"), login=f"n{n}") for n, text in enumerate(texts)}


def same_name(text, message):
    """Two independent readers of Python's give the name back."""
    value = message.fields("From")[0]
    name, address = email.utils.parseaddr(value)
    check((decoded(name), address) == (text, "office@acme.example"), f"{text!r} became {value!r}, read as {decoded(name)!r}, {address!r}")
    mailbox = parsed(message)["From"].addresses
    check(len(mailbox) == 1 and mailbox[0].addr_spec == "office@acme.example", f"{text!r} became {value!r}, read as {mailbox}")


@case("F09", "specials in the sender name", start=False)
def _(rig):
    """Python stands for all readers; mailparser and MimeKit are not here."""
    texts = ['ACME, Inc. "Süd" <b@v.example>', 'ACME, Inc. "South" <b@v.example>', "A \\ B", "b@v.example", "(comment) x", "Süd, Müller", "a;b:c", '"', "\\", "x" * 60 + ", Inc.", "'quoted'", "Müller", "A  B", "a=?b", "ACME (Süd)", "[x]"]
    for text, message in names(rig, texts).items():
        same_name(text, message)


LONG_NAMES = ["Süd " * 500, "x" * 2000, "ü" * 2000, "😀👩‍👩‍👧" * 150, "e\u0301\u0323" * 300, "x" * 500 + "ü" + " y" * 500]
REFUSED_NAMES = ["a\u202eb", "a\u2066b", "a\u200fb", "a\u0085b", "a\u009bb", "a\tb", "a\u2028b"]


@case("F10", "long and odd sender names", start=False)
def _(rig):
    """Unpaired surrogates cannot stand in TOML."""
    path = rig.directory / "tenants/acme.toml"
    base = path.read_text()
    accepted = []
    for text in ['"a\\u0000b"', '"a\\u001bb"', '"\\ud800"', '"a\\ud83db"'] + [json.dumps(text) for text in REFUSED_NAMES]:
        rig.tenant("acme", base + f"[sender]\nname = {text}\n")
        if rig.run("check", code=None).returncode != 78:
            accepted.append(text)
    rig.tenant("acme", base)
    for text, message in names(rig, [text.strip() for text in LONG_NAMES]).items():
        raw = re.search(rb"(?ms)^From: (.*?)\r\n(?! )", message.raw)[1]
        for word in re.findall(rb"=\?\S*?\?=", raw):
            check(len(word) <= 75, f"an encoded word of {len(word)}")
            base64.b64decode(word.split(b"?")[3], validate=True).decode()  # whole characters
        check(all(len(line) <= 78 for line in raw.split(b"\r\n")[1:]), f"lines too long: {raw[:300]}")
        value = message.fields("From")[0]
        check(decoded(value.rsplit(" ", 1)[0]).strip('"') == text, f"{text[:50]!r} became {decoded(value)[:100]!r}")
    check(not accepted, f"accepted as a name: {accepted}")


@case("F11", "a sender name that looks like an encoded word", start=False)
def _(rig):
    texts = ["=?utf-8?q?=0d=0aBcc:x?=", "=?utf-8?b?DQpCY2M6eA==?=", "x =?utf-8?q?=41?= y", "=?utf-8?q?=41?= Süd", "=?"]
    for text, message in names(rig, texts).items():
        same_name(text, message)
        check(not message.fields("Bcc"), "a field was made")


# --------------------------------------------------------------------------- Reply-To


REPLY_TENANTS = {
    "default": ('name = "ACME"', ""),
    "fixed": ('name = "ACME"', '[sender]\nreply_to = "answers@acme.example"\n'),
    "original": ('name = "ACME"', '[sender]\nreply_to = "original"\n'),
}
OFFICE, ANSWERS = "office@acme.example", "answers@acme.example"


def reply_to(rig, login, *lines):
    """The one Reply-To that leaves."""
    message = through(rig, header(rig, *lines), login=login)
    found = message.fields("Reply-To")
    check(len(found) == 1, f"{lines}: Reply-To {found}")
    return found[0]


def table_of(rig, table):
    for lines, *expected in table:
        for login, wanted in zip(REPLY_TENANTS, expected):
            got = reply_to(rig, login, *lines)
            check(got == wanted, f"{login}, {lines}: Reply-To {got!r}, wanted {wanted!r}")


FROM = "From: Max <app@source.example>"


@case("F12", "a Reply-To where one is configured", start=False)
def _(rig):
    several(rig, REPLY_TENANTS)
    table_of(rig, [
        ([FROM, "Reply-To: x@source.example"], "x@source.example", ANSWERS, "Max <app@source.example>"),
        ([FROM, "REPLY-TO: Xaver <x@source.example>"], "Xaver <x@source.example>", ANSWERS, "Max <app@source.example>"),
        (["Reply-To: x@source.example"], "x@source.example", ANSWERS, "x@source.example"),
        (["To: b@else.example"], OFFICE, ANSWERS, OFFICE),
    ])


@case("F13", "Reply-To that cannot be used", start=False)
def _(rig):
    """What is dropped is told by `preview --explain`."""
    several(rig, REPLY_TENANTS)
    bad = ["", "undisclosed:;", "G: a@t.example;", "not an address", "<a@t.example", "a@t.example\\", "a@t.example b@t.example", "x@y@z", "<>", "a@[127.0.0.1]", "(" * 500, "a@t\u202e.example"]
    table_of(rig, [([f"Reply-To: {value}"], OFFICE, ANSWERS, OFFICE) for value in bad])
    table_of(rig, [(["Reply-To: x@source.example", "Reply-To: y@source.example"], "x@source.example", ANSWERS, "x@source.example"), (["Reply-To: bad", "Reply-To: y@source.example"], "y@source.example", ANSWERS, "y@source.example")])
    many = ", ".join(f"a{n}@source.example" for n in range(500))
    got = reply_to(rig, "default", "Reply-To: " + many)
    check(got == OFFICE or len(email.utils.getaddresses([got])) == 500, f"500 addresses became {got[:100]}")
    explained = rig.run("preview", "default", "--explain", input=b"Reply-To: bad\r\nSubject: x\r\n\r\nx\r\n").stderr
    check(b"Reply-To: the default" in explained, f"no note: {explained}")


@case("F14", "the old From as Reply-To", start=False)
def _(rig):
    several(rig, REPLY_TENANTS)
    table_of(rig, [
        ([FROM], OFFICE, ANSWERS, "Max <app@source.example>"),
        ([FROM, "Reply-To: app@source.example"], "app@source.example", ANSWERS, "Max <app@source.example>"),
        (["From: nobody"], OFFICE, ANSWERS, OFFICE),
        (["From: a@source.example, b@evil.example"], OFFICE, ANSWERS, OFFICE),
        (["From: a@source.example <b@evil.example>"], OFFICE, ANSWERS, OFFICE),
        (["From: a@source.example", "From: b@evil.example"], OFFICE, ANSWERS, OFFICE),
        (["From: a@[127.0.0.1]"], OFFICE, ANSWERS, OFFICE),
        (['From: "x\\" <a@source.example>'], OFFICE, ANSWERS, OFFICE),
    ])


@case("F15", "Sender, Resent-From, Return-Path of others")
def _(rig):
    """X-Sender says nothing to anybody and stays."""
    message = through(rig, header(rig, "Return-Path: <victim@evil.example>", "Sender: victim@evil.example", "Sender: other@evil.example", "Resent-From: victim@evil.example", "Resent-Sender: victim@evil.example", "return-path : x@evil.example", "X-Sender: tool@source.example", FROM))
    check(not message.fields("Return-Path"), "Return-Path is still there")
    for name in ("Sender", "Resent-From", "Resent-Sender"):
        check(set(message.fields(name)) <= {OFFICE}, f"{name} {message.fields(name)}")
    check("evil" not in message.text, f"still there: {message.text}")
    check(message.sender == OFFICE, f"return path {message.sender}")


# --------------------------------------------------------------------------- DKIM


@case("F16", "signatures that are already there", start=False)
def _(rig):
    """Of our own domain they are removed: rewriting has broken them, and a broken signature of the
    From domain is worse than none. Those of others stay as they are, in their place."""
    signing(rig)
    other = "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=other.example; s=x;\r\n\th=From:Subject; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n b=AAAA"
    own = other.replace("other.example", "acme.example")
    message = through(rig, header(rig, "X-First: 1", other, own, "DKIM-Signature: nonsense", "X-Last: 2", FROM, "To: b@else.example"))
    check(f"X-First: 1\r\n{other}\r\nDKIM-Signature: nonsense\r\nX-Last: 2\r\n" in message.text, f"moved or altered: {message.text}")
    check(message.text.count("d=acme.example") == 2, "our own old signature")
    check(verify(message.raw, keys())[:2] == [True, True], f"dkimpy says {verify(message.raw, keys())}")
    signed = message.fields("DKIM-Signature")[0]
    names = [name.strip().lower() for name in re.search(r"h=([^;]+);", signed)[1].split(":")]
    for name in ("from", "subject", "to", "reply-to", "date", "cc"):
        there = len(message.fields(name))
        check(names.count(name) == there + 1, f"h= has {name} {names.count(name)} times, it is there {there} times")
    for extra in (b"From: admin@victim.example\r\n", b"Subject: other\r\n", b"Reply-To: x@evil.example\r\n"):
        for raw in (extra + message.raw, message.raw.replace(b"X-Last:", extra + b"X-Last:", 1)):
            check(True not in verify(raw, keys()), f"still valid with another {extra!r}")


@case("F17", "fields that may stand once only")
def _(rig):
    for lines in (["Content-Type: text/plain", "Content-Type: text/html"], ["MIME-Version: 1.0", "MIME-Version: 1.0"], ["Content-Transfer-Encoding: 7bit", "content-transfer-encoding: base64"], ["Content-Type: text/plain", "Content-type : text/html"]):
        must_refuse(rig, header(rig, *lines), "554 5.6.0")
    date = "Sat, 21 Nov 2026 10:00:00 +0000"
    pairs = {"To": ("b@else.example", "c@else.example"), "Cc": ("d@else.example", "e@else.example"), "Date": (date, date.replace("10:", "11:")), "Message-ID": ("<one@x.example>", "<two@x.example>"), "Subject": ("first", "second"), "References": ("<a@b.example>", "<c@d.example>"), "In-Reply-To": ("<a@b.example>", "<c@d.example>")}
    lines = [f"{name}: {value}" for name, values in pairs.items() for value in values]
    message = through(rig, "\r\n".join(lines).encode() + b"\r\n\r\n" + rig.token().encode())
    for name, (first, second) in pairs.items():
        check(message.fields(name) == [first], f"{name} {message.fields(name)}")
        check(message.fields("X-Duplicate-" + name) == [second], f"X-Duplicate-{name} {message.fields('X-Duplicate-' + name)}")


@case("F18", "one Message-ID for two messages")
def _(rig):
    client = rig.client()
    first = through(rig, header(rig, "Message-ID: <same@x.example>", body=b"one"), client=client)
    second = through(rig, header(rig, "Message-ID: <same@x.example>", body=b"two"), client=client)
    third = through(rig, header(rig, "Message-ID: <same@x.example>", body=b"three"))
    for message in (first, second, third):
        check(message.fields("Message-ID") == ["<same@x.example>"], f"Message-ID {message.fields('Message-ID')}")


@case("F19", "Message-IDs that are none", start=False)
def _(rig):
    rig.tenant("dry", 'name = "Dry"\nemail = "dry@acme.example"\n[upstream]\nkind = "capture"\n[[user]]\nlogin = "dry"\npassword = "right"\n')
    rig.start()
    bad = [b"../../../evil", b"</../../evil>", b"no brackets@x.example", b"<" + b"x" * 10_240 + b"@x.example>", b"", b"<>", b"<a@b.example> <c@d.example>", b"<a\x07b@x.example>", b"<a\x1b[31m@x.example>", b"<a b@x.example>", b"<\xfc@x.example>", b"<@>x", b"<a@b.example"]
    for value in bad:
        message = through(rig, header(rig, b"Message-ID: " + value))
        got = message.fields("Message-ID")
        check(len(got) == 1 and re.fullmatch(r"<[!-;=?A-~]+@acme\.example>", got[0]), f"{value[:40]!r} became {got}")
    kept = "</../../../evil@x.example>"
    check(through(rig, header(rig, f"Message-ID: {kept}")).fields("Message-ID") == [kept], "a valid one was replaced")
    for value in bad + [kept.encode()]:
        client = rig.client()
        client.login("dry", "right")
        content = header(rig, b"Message-ID: " + value)
        client.message(content)
        rig.may_be_lost.update(TOKEN.findall(content))
    captured = rig.data / "captured/dry"
    wait_until("all captured", lambda: captured.is_dir() and len(list(captured.glob("*.eml"))) == len(bad) + 1)
    for path in rig.directory.rglob("*"):
        check("evil" not in path.name, f"a file {path}")
    check("evil" not in rig.log, "an old Message-ID in the log")


# --------------------------------------------------------------------------- hidden recipients


@case("F20", "Bcc in the header")
def _(rig):
    """Removed from what leaves; the stored original stays as it was (the interface)."""
    message = through(rig, header(rig, "Bcc: boss@t.example", "To: b@else.example", "BCC: second@t.example,\r\n\tthird@t.example"), to=("b@else.example", "hidden@else.example"))
    check(message.recipients == ["b@else.example", "hidden@else.example"], f"recipients {message.recipients}")
    check("@t.example" not in message.text and "hidden" not in message.text, f"still there: {message.text}")
    text = header(rig, "Bcc: boss@t.example", "To: b@else.example").replace(b"\r\n", b"\n")
    rig.run("sendmail", "-t", "-i", input=text)
    rig.note(text, "250")
    message = rig.delivered(2)[1]
    check(sorted(message.recipients) == ["b@else.example", "boss@t.example"], f"recipients {message.recipients}")
    check("boss" not in message.text, "sendmail -t left Bcc")


@case("F21", "other spellings of Bcc")
def _(rig):
    message = through(rig, header(rig, "Resent-Bcc: boss@t.example", "bcc : boss@t.example", "bCC:\r\n boss@t.example", "Bcc\t: boss@t.example", "To: b@else.example"))
    check("boss" not in message.text, f"still there: {message.text}")
    must_refuse(rig, header(rig, "To: b@else.example", "B", " cc: boss@t.example"), "554 5.6.0")
    must_refuse(rig, header(rig, "B", " cc: boss@t.example"), "554 5.6.0")


@case("F22", "the archive's copy", after='[copies]\nbcc = ["archiv@t.example"]\n')
def _(rig):
    """A recipient of its own that no header and no other recipient's bounce names."""
    message = through(rig, header(rig, "To: b@else.example"), to=("b@else.example",))
    check(sorted(message.recipients) == ["archiv@t.example", "b@else.example"], f"recipients {message.recipients}")
    check("archiv@" not in message.text, f"the copy shows: {message.text}")
    rig.upstream.on["RCPT"] = lambda session, line: "550 5.1.1 no" if b"b@else" in line else session._usual("RCPT", line)
    content = header(rig, "To: b@else.example")
    rig.client().message(content)
    rig.may_repeat.add(TOKEN.search(content)[0])
    bounce = wait_until("a bounce", lambda: next((m for m in list(rig.upstream.received) if b"multipart/report" in m.raw[:4000]), None))
    check("archiv@" not in bounce.text and "b@else.example" in bounce.text, f"the bounce tells of the copy: {bounce.text}")


@case("F23", "Graph: header To/Cc other than RCPT", start=False)
def _(rig):
    """More of it, over Gmail too: O18."""
    from oauth_rig import Installation

    with Installation("graph") as place:
        content = place.message().replace(b"To: b@else.example", b"To: a@else.example, other@else.example\r\nCc: x@else.example")
        place.client().message(content, to=("a@else.example", "b@else.example"))
        message = place.sent(1)[0]
        check(sorted(message.recipients) == ["a@else.example", "b@else.example"], f"delivered to {message.recipients}")
        check(b"b@else.example" not in message.visible.split(b"\r\n\r\n")[0].split(b"Received:")[-1].split(b"From:", 1)[-1], "the hidden recipient is shown")


# --------------------------------------------------------------------------- loops and limits


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def back_to_us(rig):
    """An upstream's answer to the final dot: it hands the message to us again, as a hub would that
    takes us for the server of that domain."""

    def dot(session, content):
        session.take(content)
        client = Client(rig, rig.address())
        client.wants("220")
        client.expect("EHLO hub.example", "250")
        client.envelope()
        client.raw(b"Received: from postbote.test by hub.example with SMTP;\r\n\tSat, 21 Nov 2026 10:00:00 +0000\r\n" + re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")
        reply = client.reply()
        client.close()
        return reply

    return dot


@case("F24", "mail in a loop", start=False)
def _(rig):
    """A tenant whose server is our own listener is found out at once, and its mail kept. A loop over
    another host is known by our own name in the trace. Once is no loop: that is mail that came over
    another Postbote of that name."""
    port = free_port()
    path = rig.directory / "postbote.toml"
    rig.write("postbote.toml", path.read_text().replace("[admin]", f'[[listener]]\nname = "loop"\naddress = "127.0.0.1:{port}"\ntenant = "loop"\n[admin]'))
    rig.tenant("loop", TENANT.format(tenant="", port=port, upstream="", after=""))
    rig.start()
    rig.client("loop").message(rig.message())
    rig.wait_log("event=route-suspended", "tenant=loop")
    check(rig.log.count("event=accepted") == 1, "it went round")

    hop = "Received: from a by b.example with SMTP;\r\n\tSat, 21 Nov 2026 10:00:00 +0000"
    must_refuse(rig, header(rig, *[hop] * 51), "554 5.4.6")
    must_refuse(rig, header(rig, *[hop] * 50), "554 5.4.6")
    message = through(rig, header(rig, *[hop] * 49))
    check(len(message.fields("Received")) == 50, "with our own, fifty")
    own = "Received:" + re.search(r"(?s)Received:(.*?)\r\n(?!\s)", message.text)[1]
    through(rig, header(rig, own, hop))

    content = rig.message()
    token = TOKEN.search(content)[0]
    rig.may_repeat.add(token)
    rig.upstream.on["dot"] = back_to_us(rig)
    rig.client().message(content)
    wait_until("the loop ends", lambda: [m for m in rig.queue() if m["tenant"] == "acme" and m["state"] == "failed"])
    del rig.upstream.on["dot"]
    rounds = rig.upstream.tokens().count(token)
    client = rig.client()
    client.envelope()
    reply = client.content(header(rig, own, hop, own.replace(" id ", " id x"), hop))
    check(rounds <= 3 and reply.startswith("554 5.4.6"), f"the loop went round {rounds} times; our own name twice in the trace was answered {reply!r}")


@case("F25", "a header that is too big")
def _(rig):
    """Just below, it is taken whole."""
    many = [f"X-{n}: y" for n in range(998)]
    for lines in ([f"X-{n}: {'y' * 900}" for n in range(330)], many + ["A: b", "C: d", "E: f"], ["X-Long: " + "y" * 65 * 1024], ["X-Long: x" + "\r\n\t" * 30_000 + "y"], ["X-Folded: x" + ("\r\n " + "y" * 900) * 73],
        # What is looked at ends in a name, in a value, behind a line.
        *(["X: " + "y" * 994] * 262 + ["X: " + "y" * (1000 + more), "Subject-Long: x"] for more in range(100, 260, 7))):
        must_refuse(rig, header(rig, *lines), "552 5.3.4")
    message = through(rig, header(rig, *many))
    check(all(message.fields(f"X-{n}") == ["y"] for n in range(998)), "fields are missing")
    message = through(rig, header(rig, *[f"X-{n}: {'y' * 890}" for n in range(280)]))
    check(len(re.findall(r"(?m)^X-\d+: y{890}\r$", message.text)) == 280, "cut")


@case("F26", "a header that is none")
def _(rig):
    for lines in (["To: b@else.example", "garbage"], ["To: b@else.example", "> quoted: x"], ["To: b@else.example", "=?utf-8?q?x?= y"], ["To: b@else.example", "--boundary"], ["To: b@else.example", "\u00fcber: x"]):
        must_refuse(rig, header(rig, *lines), "554 5.6.0")
    client = rig.client()
    for content, body in (
        (b"\r\nbody %s\r\nmore", b"body %s\r\nmore\r\n"),
        (b"Hello,\r\nbody %s\r\nmore", b"Hello,\r\nbody %s\r\nmore\r\n"),
        (b"Hello,\r\n  indented %s\r\n\r\nmore", b"Hello,\r\n  indented %s\r\n\r\nmore\r\n"),
        (b"Scan of today\r\nFrom: scanner 5\r\n%s", b"Scan of today\r\nFrom: scanner 5\r\n%s\r\n"),
        (b"Hello %s", b"Hello %s\r\n"),
        (b"From me to you\r\n%s", None),
        (b"http://x.example %s", None),
    ):
        token = rig.token().encode()
        message = through(rig, content % token, client=client)
        only_ours(message)
        for name in ("Date", "Message-ID", "To", "MIME-Version"):
            check(len(message.fields(name)) == 1, f"no {name}")
        check(body is None or message.body == body % token, f"the body became {message.body!r}")
    # A first line longer than any header, and a fold of what is none.
    long = through(rig, rig.token().encode() + b"a" * 300_000 + b"\r\n x", client=client)
    check(long.body.replace(b"\r\n", b"").replace(b" ", b"").endswith(b"ax"), "cut")
    message = through(rig, b"Subject: " + rig.token().encode(), client=client)
    check(message.body in (b"", b"\r\n") and message.fields("Subject"), f"only a header: {message.raw!r}")


@case("F27", "raw 8-bit octets in the header")
def _(rig):
    """Everything that is not UTF-8 is Windows-1252; there is no metric for it."""
    for raw, text in ((b"Gr\xfc\xdfe \x80 \x84x\x93", "Grüße € „x“"), ("Grüße €".encode(), "Grüße €"), (b"\xfc" * 300, "ü" * 300), (b"caf\xe9\r\n \xfcber", "café über"), (b"\x81\x8d\x8f\x90\x9d", "\ufffd" * 5), (b"mixed \xc3\xbc \xfc", "mixed Ã¼ ü"), ("\u202e\u0085 x".encode(), "\u202e\u0085 x")):
        message = through(rig, header(rig, b"X-Text: " + raw, b"Comments: " + raw))
        for name in ("X-Text", "Comments"):
            got = decoded(message.fields(name)[0])
            check(got == text, f"{raw[:40]!r} became {got[:60]!r}")
    for value in ("Jürgen.Grünwald<juergen.gruenwald@else.example>;Müller<mueller@else.example>", "Verteiler-für-die-Buchhaltung-und-den-Einkauf-der-Firma: b@else.example;", "ü" * 200 + " nobody", '"' + "ü" * 60 + ",,<"):
        for name in ("To", "Cc", "Disposition-Notification-To"):
            through(rig, header(rig, f"{name}: {value}"))
    message = through(rig, header(rig, b"To: M\xfcller <b@else.example>, \"Gr\xf6\xdfe, X\" <c@else.example>", b"Cc: \xfc@else.example", b"Content-Type: application/pdf; name=\"M\xfcller.pdf\""))
    people = [(decoded(name), address) for name, address in email.utils.getaddresses(message.fields("To"))]
    check(people == [("Müller", "b@else.example"), ("Größe, X", "c@else.example")], f"To {people}")
    check(parsed(message).get_filename() == "Müller.pdf" or parsed(message)["Content-Type"].params["name"] == "Müller.pdf", f"{message.fields('Content-Type')}")


@case("F28", "NUL in header and body")
def _(rig):
    """554 5.6.0 (the interface)."""
    for content in (header(rig, b"X: a\0b"), header(rig, b"\0X: a"), header(rig, body=b"a\0b"), header(rig, body=b"\0"), b"\0" + header(rig), header(rig, body=b"x" * 200_000 + b"\0")):
        must_refuse(rig, content, "554 5.6.0")
    check(rig.queue() == [] and not rig.upstream.received, "something was queued")


# --------------------------------------------------------------------------- bodies


def entity(rig, kind, body, encoding=None):
    """A whole content of this type."""
    lines = ["To: b@else.example", "MIME-Version: 1.0"] + ([f"Content-Type: {kind}"] if kind else []) + ([f"Content-Transfer-Encoding: {encoding}"] if encoding else [])
    return header(rig, *lines, body=body)


def payload(message):
    """The octets that a reader gets, of every leaf."""
    tree = email.message_from_bytes(message.raw, policy=email.policy.SMTP)
    return [part.get_payload(decode=True) for part in tree.walk() if not part.is_multipart()]


def outcome(upstream, token, what):
    """The message or its bounce, whichever comes."""
    return wait_until(f"{what}: an outcome", lambda: next((m for m in list(upstream.received) if token in m.raw), None))


def long_tokens():
    word = "t" * 3000
    return {
        "X-Token": word,
        "To": f"{word}@t.example",
        "Cc": "(" * 3000,
        "References": f"<{word}@x.example>",
        "In-Reply-To": f"<{'t' * 990}@x.example> <b@c.example>",
        "List-Unsubscribe": f"<https://x.example/{word}>",
        "Disposition-Notification-To": f'"{word}" <a@b.example>',
        "Content-Disposition": f"{word}; x=y",
        "Content-Description": word,
        "Thread-Topic": "é" * 2000,
        "X" * 150: word,
    }


@case("F29", "lines that are too long", start=False)
def _(rig):
    """Text becomes quoted-printable, anything else base64. `through` looks at every line."""
    signing(rig)
    client = rig.client()
    for length in (998, 999, 1000, 8192, 65_537, 1_000_000):
        for kind in ("text/plain", "text/html; charset=utf-8", None, "application/octet-stream"):
            if length == 1_000_000 and kind == "text/html; charset=utf-8":
                continue
            body = b"first\r\n" + b"x" * length + b"\r\n.\r\nlast"
            message = through(rig, entity(rig, kind, body.replace(b"\r\n.", b"\r\n..")), client=client)
            check(payload(message) == [body + b"\r\n"], f"{kind}, {length}: {message.raw[:1000]!r}")
            if length in (998, 8192):
                must_verify(message, keys())
            if length == 998:
                check(b"quoted-printable" not in message.raw and b"base64" not in message.raw, "converted without need")
    data = base64.b64encode(os.urandom(30_000))
    message = through(rig, entity(rig, "image/png", data, "base64"), client=client)
    check(payload(message) == [base64.b64decode(data)], "base64 on one line")
    message = through(rig, entity(rig, "text/plain", b"=41" * 1000, "quoted-printable"), client=client)
    check(payload(message) == [b"A" * 1000 + b"\r\n"], f"quoted-printable on one line: {payload(message)[0][:50]!r}")
    parts = b"--b\r\nContent-Type: text/plain\r\n\r\n" + b"y" * 5000 + b"\r\n--b\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\r\n--b--"
    message = through(rig, entity(rig, "multipart/mixed; boundary=b", parts), client=client)
    check(payload(message) == [b"y" * 5000, b"ABC"], f"multipart: {payload(message)}")
    wrong = []
    for name, value in long_tokens().items():
        content = header(rig, f"{name}: {value}")
        client.envelope()
        if not client.content(content).startswith("250"):
            continue  # a field that cannot be folded may be refused
        message = outcome(rig.upstream, TOKEN.search(content)[0], name)
        long = max(map(len, message.raw.split(b"\r\n")))
        if long > 998:
            wrong.append(f"{name} of {len(value)} octets: a line of {long}")
        else:
            must_verify(message, keys())
    check(not wrong, "; ".join(wrong))


LATIN = "Grüße".encode("latin-1")
EIGHT_BIT = [
    ("text/plain; charset=utf-8", "Grüße €\r\n=3D trailing \r\n\r\n".encode(), "8bit"),
    ("text/plain; charset=iso-8859-1", LATIN, "8bit"),
    (None, LATIN, None),
    (None, "Grüße".encode(), None),
    ("text/plain", LATIN, "7bit"),
    ("application/pdf", b"\xff\xd8%PDF\r\n\xe2", "binary"),
    ("text/plain; charset=utf-8", b"a=C3=BC\xc3\xbc", "quoted-printable"),
]


@case("F30", "an 8-bit body, a server without 8BITMIME", upstream=seven_bit, start=False)
def _(rig):
    """dkimpy checks; mailauth is not here."""
    signing(rig)
    client = rig.client()
    for kind, body, encoding in EIGHT_BIT:
        message = through(rig, entity(rig, kind, body, encoding), client=client)
        check(message.raw.isascii(), "8-bit octets")
        wanted = "aüü".encode() + b"\r\n" if encoding == "quoted-printable" else body + b"\r\n"
        check(payload(message) == [wanted], f"{kind}: {payload(message)}")
        must_verify(message, keys())
    inner = b"Subject: Gr\xfc\xdfe\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\nGr\xfc\xdfe\r\n"
    parts = b"pre \xfc\r\n--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\n" + LATIN + b"\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--b\r\n\r\n\xfc\r\n--b--\r\npost \xfc"
    message = through(rig, entity(rig, "multipart/mixed; boundary=b", parts, "8bit"), client=client)
    check(message.raw.isascii(), "8-bit octets")
    found = payload(message)
    check(found[0] == LATIN and any(LATIN in (leaf or b"") for leaf in found[1:]), f"parts {found}")
    must_verify(message, keys())
    for kind, body, encoding in (("text/plain", b"\xfc", "x-uuencode"), ("multipart/mixed", b"--b\r\n\r\n\xfc\r\n--b--", None)):
        client.envelope()
        check(client.content(entity(rig, kind, body, encoding)).startswith("250"), "refused")
    bounces = wait_until("two bounces", lambda: [m for m in rig.upstream.received if is_bounce(m)][1:] and [m for m in rig.upstream.received if is_bounce(m)])
    check(all("Status: 5.6.3" in bounce.text for bounce in bounces), f"{bounces[0].text}")


def nested(depth, leaf):
    """A multipart in a multipart in a …"""
    opening = b"".join(b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (n, n + 1) for n in range(depth))
    return opening + b"--b%d\r\nContent-Type: text/plain\r\n\r\n%s\r\n--b%d--" % (depth, leaf, depth)


def odd_mime():
    mixed = "multipart/mixed; boundary="
    part = b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    return [
        ("text/plain", b"!!! no base64 \xc3\xbc\r\n====\r\n", "base64"),
        ("multipart/mixed", b"--b\r\n\r\n\xc3\xbc\r\n--b--", None),
        (mixed + '""', b"--\r\n\r\n\xc3\xbc\r\n----", None),
        (mixed + "b", part + "ü".encode() + b"\r\n--bb\r\n\r\nx\r\n--b--", None),
        (mixed + "b", part + b"x\r\n--b \t\r\n\r\n\xc3\xbc\r\n--b-- \r\n--b\r\n", None),
        (mixed + "b", part + b"\xc3\xbc", None),
        (mixed + "b", part + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\xc3\xbc\r\n--b--\r\n--b--", None),
        (mixed + '"' + "b" * 2000 + '"', b"--" + b"b" * 2000 + b"\r\n\r\nx\r\n--" + b"b" * 2000 + b"--", None),
        (mixed + "b", (part + "ü".encode() + b"\r\n") * 10_000 + b"--b--", None),
        (mixed + "b0", nested(10_000, "ü".encode()), None),
        (mixed + "b0", nested(40, "ü".encode()), None),
        ("message/rfc822", b"Content-Type: message/rfc822\r\n\r\n" * 10_000 + b"\xc3\xbc", None),
        ("message/rfc822", b"Content-Type: message/rfc822\r\n\r\n" * 30 + b"Subject: x\r\n\r\n\xc3\xbc", None),
        ("message/rfc822", b"\xc3\xbc: no header\r\n", None),
        ("message/partial; id=x; number=1; total=2", b"\xc3\xbc", None),
        ("text/plain", b"\xc3\xbc=", "quoted-printable"),
        ("a" * 500 + "/" + "b" * 300, b"\xc3\xbc", None),
        (";;;===\"\"\"", b"\xc3\xbc", None),
    ]


@case("F31", "broken and endless MIME")
def _(rig):
    """A server with 8BITMIME gets the body as it is, unless a line is too long for SMTP. One without
    gets it converted. What cannot be converted is bounced, 5.6.3, and all that quickly."""
    old = seven_bit()
    rig.upstreams.append(old)
    rig.tenant("old", TENANT.format(tenant="", port=old.port, upstream="", after='[[user]]\nlogin = "old"\npassword = "right"\n'))
    rig.wait_log("event=reloaded")
    begin = rig.resident()
    client = {rig.upstream: rig.client(), old: rig.client()}
    client[old].login("old", "right")
    begun, sent = time.monotonic(), []
    for kind, body, encoding in odd_mime():
        for upstream in client:
            content = entity(rig, kind, body, encoding)
            client[upstream].message(content)
            sent.append((f"{kind[:60]} to a server with {upstream.capabilities[1]}", upstream, TOKEN.search(content)[0], body))
    for what, upstream, token, body in sent:
        message = outcome(upstream, token, what)
        if upstream is rig.upstream and max(map(len, body.split(b"\r\n"))) <= 998:
            check(message.body == body + b"\r\n", f"{what}: the body was altered: {message.body[:300]!r}")
        check(max(map(len, message.raw.split(b"\r\n"))) <= 998, f"{what}: a line is too long")
        check(upstream is rig.upstream or message.raw.isascii(), f"{what}: 8-bit octets in {message.raw[:500]!r}")
        check(not is_bounce(message) or "Status: 5.6.3" in message.text, f"{what}: {message.text[:2000]}")
    check(time.monotonic() - begun < 15, f"all of them took {time.monotonic() - begun:.0f} s")
    check(rig.resident(peak=True) - begin < 64, f"{rig.resident(peak=True) - begin:.0f} MiB more memory")


@case("F32", "messages inside messages, and cycles")
def _(rig):
    """Memory: the content and what goes over the wire, not a third copy."""
    size = 24 << 20
    line = b"x" * 75 + b"\r\n"
    body = b"Content-Type: message/rfc822\r\nSubject: inner\r\n\r\n" * 20 + b"Content-Type: multipart/related; boundary=b; start=\"<1@x>\"\r\n\r\n--b\r\nContent-ID: <1@x>\r\nContent-Type: message/external-body; access-type=x-self; url=\"cid:1@x\"\r\n\r\n" + line * (size // len(line)) + b"\r\n--b--"
    rig.good_client()
    begin = rig.resident()
    message = through(rig, entity(rig, "message/rfc822", body))
    check(message.body == body + b"\r\n", "altered")
    peak = rig.resident(peak=True) - begin
    check(peak < 2 * (size >> 20) + 8, f"{peak:.0f} MiB more memory for {size >> 20} MiB")


@case("F33", "dates that are none")
def _(rig):
    bad = ["(" * 10_000 + ")" * 10_000 + " Sat, 21 Nov 2026 10:00:00 +0000", "(" * 10_000, "Sat, 21 Nov 9999999 10:00:00 +0000", "21.11.2026", "", "Sat, 99 Nov 2026 10:00:00 +0000", "now", "Sat, 21 Nov 2026 25:00:00 +0000", "Sat, 21 Nov 2026 10:00:00", "Sat, 21 Nov 2026 10:00:00 +01:00"]
    client = rig.client()
    for value in bad:
        begun = time.monotonic()
        message = through(rig, header(rig, "Date: " + value), client=client)
        check(time.monotonic() - begun < 2, f"{value[:40]} took {time.monotonic() - begun:.1f} s")
        found = message.fields("Date")
        when = email.utils.parsedate_to_datetime(found[0])
        check(len(found) == 1 and abs(when.timestamp() - time.time()) < 120, f"{value[:40]} became {found}")
    for value in ("Sat, 21 Nov 2026 10:00:00 +0100 (CET)", "21 Nov 26 10:00 GMT"):
        check(through(rig, header(rig, "Date: " + value), client=client).fields("Date") == [value], f"{value} was replaced")


@case("F34", "odd parameters of Content-Type")
def _(rig):
    """Ten thousand continuations are more than a field may have (F25)."""
    continued = lambda count: "text/html;" + ";".join(f"\r\n name*{n}=a" for n in range(count))
    must_refuse(rig, entity(rig, continued(10_000), b"x"), "552 5.3.4")
    for kind in ('text/html; charset="x\r\n y"', continued(3000), "text/html; charset*=utf-8'en'%F6; charset=x", 'text/html; x="' + "\\" * 500 + '"', "text/html; charset=\"x\r\n \\\"y\""):
        content = entity(rig, kind, b"<p>x</p>")
        message = through(rig, content)
        check(f"Content-Type: {kind}\r\n" in message.text, f"{kind[:60]!r} became {message.fields('Content-Type')[0][:200]!r}")
        check(message.body == b"<p>x</p>\r\n", "altered")


# --------------------------------------------------------------------------- DKIM again


@case("F35", "blanks, tabs and long tokens in signed fields", start=False)
def _(rig):
    """Signatures are relaxed/relaxed."""
    signing(rig)
    client = rig.client()
    for lines in (
        ["To: b@else.example  \t ", "X: y"],
        ["To:\tb@else.example", "Cc:  \r\n\t c@else.example\t"],
        ["To: b@else.example,\r\n\tc@else.example,\r\n \t d@else.example", "References: <a@b.example>\r\n\t<c@d.example>"],
        ["To: " + "b" * 60 + "@else.example", "References: <" + "r" * 890 + "@x.example>"],
        ["TO: b@else.example", "mime-VERSION: 1.0 ", "cOnTeNt-TyPe:text/plain;charset=utf-8"],
        ["To : b@else.example", "Cc\t: c@else.example"],
        ["List-Id:\r\n\t\r\n x", "To: b@else.example"],
        ["To: b@else.example", "Content-Type: text/plain;\r\n\tcharset=\"us-ascii\" \r\n "],
        ["In-Reply-To:", "To: b@else.example"],
    ):
        must_verify(through(rig, header(rig, *lines, body=b"a  b\t c \r\n \r\n\t\r\n\r\n.. x\r\n\r\n"), client=client), keys())
    content = header(rig, "To: b@else.example").replace(b"Subject: ", b"Subject:   " + b"s" * 900 + b"  \t ")
    must_verify(through(rig, content, client=client), keys())


@case("F36", "signing keys that cannot sign, or are another's", start=False)
def _(rig):
    """Nothing leaves unsigned; mail waits until the key is mended. There is no comparison with DNS
    in this version."""
    path = rig.directory / "tenants/acme.toml"
    base = path.read_text()
    weak = openssl("genrsa", "-traditional", "512").decode()
    unusable = {"missing": '[[dkim]]\ndomain = "acme.example"\nselector = "s"\nkey = { file = "../no-key" }\n', "corrupt": entry("acme.example", "s", rsa()[:500] + rsa()[540:]), "garbage": entry("acme.example", "s", "garbage\n"), "512 bits": entry("acme.example", "s", weak), "public": entry("acme.example", "s", openssl("rsa", "-pubout", input=rsa().encode()).decode())}
    silent = []
    for what, text in unusable.items():
        rig.tenant("acme", base + text)
        done = rig.run("check", code=None)
        said = (done.stdout + done.stderr).decode().replace("plain text", "")
        if done.returncode == 0 and not re.search(r"(?i)dkim.*(not usable|cannot be read|unusable)", said):
            silent.append(what)
    rig.tenant("acme", base + entry("other.example", "s", SEED))
    done = rig.run("check")
    check(b"other.example" in done.stdout + done.stderr, "not aligned, and nobody says so")

    rig.tenant("acme", base + entry("acme.example", "r", rsa()) + unusable["512 bits"])
    beta = rig.another_tenant("beta", after=entry("beta.example", "e", SEED) + '[[user]]\nlogin = "beta"\npassword = "right"\n')
    rig.start()
    content = rig.message()
    rig.client().message(content)
    rig.wait_log("event=route-suspended")
    message = through(rig, rig.message(), login="beta", upstream=beta)
    must_verify(message, {("e", "beta.example"): SEED})
    check("d=acme.example" not in message.text, "signed with another tenant's key")
    check(not rig.upstream.received, "it left unsigned or half signed")
    check([m["state"] for m in rig.queue()] == ["suspended"], f"{rig.queue()}")
    rig.tenant("acme", base + entry("acme.example", "r", rsa()))
    rig.wait_log("event=reloaded")
    must_verify(rig.delivered(1)[0], {("r", "acme.example"): rsa()})
    check(not silent, f"`check` says nothing of keys: {silent}")


@case("F37", "two signatures and their time", start=False)
def _(rig):
    """A wrong clock would only show in `t=`, as no signature has `x=`."""
    signing(rig)
    message = through(rig, rig.message())
    must_verify(message, keys())
    found = message.fields("DKIM-Signature")
    check([re.search(r"a=([^;]+);", field)[1] for field in found] == ["rsa-sha256", "ed25519-sha256"], f"{found}")
    for field in found:
        check(abs(int(re.search(r"t=(\d+)", field)[1]) - time.time()) < 30, f"{field}")
        check(not re.search(r"[;\s]x=", field), f"an expiry: {field}")


EMPTY = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="  # SHA-256 of nothing: relaxed (RFC 6376 section 3.4.4)


@case("F38", "empty bodies", start=False)
def _(rig):
    signing(rig)
    for end in (b"", b"\r\n", b"\r\n\r\n", b"\r\n\r\n\r\n\r\n", b"\r\n \t\r\n\r\n"):
        head = b"To: b@else.example\r\nSubject: " + rig.token().encode() + b"\r\n"
        message = through(rig, head + end, dot=b".\r\n")
        must_verify(message, keys())
        if not end.strip():
            check(all(f"bh={EMPTY}" in field for field in message.fields("DKIM-Signature")), f"{end!r}: {message.fields('DKIM-Signature')[0]}")


@case("F39", "automatic mail, and our own bounces")
def _(rig):
    message = through(rig, header(rig, "Auto-Submitted: auto-replied", "Precedence: bulk", "List-Id: x.example"))
    for name, value in (("Auto-Submitted", "auto-replied"), ("Precedence", "bulk"), ("List-Id", "x.example")):
        check(message.fields(name) == [value], f"{name} {message.fields(name)}")
    rig.upstream.on["RCPT"] = lambda session, line: "550 5.1.1 nobody" if b"gone@" in line else session._usual("RCPT", line)
    rig.client().message(header(rig, "Auto-Submitted: auto-generated"), to=("gone@else.example",))
    bounce = wait_until("a bounce", lambda: next((m for m in rig.upstream.received if is_bounce(m)), None))
    check(bounce.sender == "" and bounce.recipients == [OFFICE], f"from {bounce.sender!r} to {bounce.recipients}")
    check(bounce.fields("Auto-Submitted") == ["auto-replied"], f"{bounce.fields('Auto-Submitted')}")
