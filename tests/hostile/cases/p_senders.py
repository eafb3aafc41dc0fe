"""P: whose sender, document types, copies, case workers."""

# P01 application_from = reject-unauthorized: what a login may use, in the envelope and in the header
# P02 a client without login: every address that the tenant's file names, and no other
# P03 application_from: replace and keep-authorized
# P04 Reply-To and return path
# P05 use_own_sender
# P06 document types: which one matches
# P07 document types: address, name, Reply-To, copies, and the grant that is needed
# P08 document types with application_from and [sender]
# P09 remove_header
# P10 copies: in the envelope, once, never in the header
# P11 copies and bounces: none of a bounce, none because of a copy
# P12 case workers: Cc, recipient, header removed
# P13 the system relay with sender = "system"
# P14 the system relay with sender = "tenant"
# P15 a retry leaves as the first try did; a reload changes what waits
# P16 configuration of senders, types, copies, series that must be refused, with file, line and key
# P17 configuration that is warned of, and configuration that is right
# P18 hostile case worker headers
# P19 document types by odd octets
# P20 subject globs and encoded words

import dataclasses, email.header, email.utils, json, re, time

from rig import OPERATOR, TENANT, TOKEN, Broken, Upstream, case, check, wait_until

from . import _faults as f

# --------------------------------------------------------------------------- what is handed in, and what leaves

B = "b@else.example"
APP = "app@source.example"
OFFICE = "office@acme.example"
ANY = object()
"""Not looked at."""
AUTO = object()
"""The application's From, where that is another than what leaves."""


@dataclasses.dataclass
class Leaves:
    """A message at the upstream. A tuple as `name` or `reply`: one of them."""

    address: str
    name: object = "ACME"
    reply: object = OFFICE
    path: str = None  # MAIL FROM; None: the address
    more: tuple = ()  # recipients besides those of RCPT
    cc: tuple = ()
    original: object = AUTO  # X-Original-From; None: there is none
    gone: tuple = ()  # fields that are not there
    kept: tuple = ()  # (name, value) of fields
    maybe: tuple = ()  # may have become recipients, and then stand in Cc


@dataclasses.dataclass
class Refused:
    """550 5.7.1 at "MAIL" or at the final "dot"; the login, or the tenant without one, is named too."""

    stage: str
    place: str
    words: tuple = ()


@dataclasses.dataclass
class Mail:
    """What an application hands in, and what must become of it."""

    what: str
    tenant: str
    user: str = None  # the login is USER@TENANT
    path: str = APP
    author: object = "App <app@source.example>"  # From; None: there is none
    lines: tuple = ()
    to: tuple = (B,)
    listener: str = None  # default: the tenant's own
    out: object = None

    @property
    def who(self):
        return f"{self.user}@{self.tenant}" if self.user else self.tenant


def kept(address, name, **more):
    """The application's own From leaves."""
    return Leaves(address, name, original=None, **more)


def envelope(address):
    return Refused("MAIL", "envelope", (normal(address),))


def header(*words):
    return Refused("dot", "header", words)


def document(kind, address):
    return Refused("dot", "document", (kind, address))


def normal(address):
    """An address with its domain in small letters."""
    local, at, domain = address.rpartition("@")
    return local + at + domain.lower()


def decoded(text):
    return str(email.header.make_header(email.header.decode_header(text)))


def content_of(rig, mail):
    lines = [] if mail.author is None else ["From: " + mail.author]
    lines += ["To: " + B, "X-Token: " + rig.token(), *mail.lines]
    lines = [line if isinstance(line, bytes) else line.encode() for line in lines]
    if not any(line.lower().startswith(b"subject:") for line in lines):
        lines.append(b"Subject: Test")
    return b"\r\n".join([*lines, b"", b"Hello"])


def hand_in(rig, mail):
    """Gives the stage at which it ended, the reply, and its token."""
    client = rig.client(mail.listener or mail.tenant)
    if mail.user:
        client.login(f"{mail.user}@{mail.tenant}", "right")
    content = content_of(rig, mail)
    stage, reply = "MAIL", client.send(f"MAIL FROM:<{mail.path}>")
    if reply.startswith("250"):
        for address in mail.to:
            client.expect(f"RCPT TO:<{address}>", "250")
        client.expect("DATA", "354")
        stage, reply = "dot", client.content(content)
    else:
        client.expect("DATA", "503")
    client.expect("QUIT", "221")
    client.close()
    return stage, reply, TOKEN.search(content)[0]


def arrived(upstream, token):
    """The message of that token, no bounce of it, and not what no recipient got."""
    return next((m for m in list(upstream.received) if token in m.raw and m.recipients and b"multipart/report" not in m.raw[:4000]), None)


def play(rig, table, upstream=None):
    """Hands in a whole table and looks at what became of every row; all wrong ones are said."""
    upstream, wrong, sent = upstream or rig.upstream, [], []
    for mail in table:
        try:
            stage, reply, token = hand_in(rig, mail)
            if isinstance(mail.out, Refused):
                faults = refusal_faults(mail, stage, reply)
            elif reply.startswith("250 2.0.0"):
                sent.append((mail, token))
                continue
            else:
                faults = [f"answered {reply!r} at {stage}"]
        except Broken as broken:
            faults = [str(broken)]
        wrong += [f"{mail.what}: {fault}" for fault in faults]
    try:
        wait_until("all at the upstream", lambda: all(arrived(upstream, token) for _, token in sent))
    except Broken:
        pass  # said below, row by row
    for mail, token in sent:
        message = arrived(upstream, token)
        faults = message_faults(mail, message) if message else ["answered 250, and not at the upstream"]
        wrong += [f"{mail.what}: {fault}" for fault in faults]
    check(not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong))


def refusal_faults(mail, stage, reply):
    out, faults = mail.out, []
    if stage != out.stage or not reply.startswith("550 5.7.1 "):
        return [f"wanted 550 5.7.1 at {out.stage}, got {reply!r} at {stage}"]
    faults += [f"{word!r} is not in {reply!r}" for word in (out.place, mail.who, *out.words) if word not in reply]
    other = {"envelope": "header", "header": "envelope"}.get(out.place)
    if other and other in reply:
        faults.append(f"{other!r} is in {reply!r}")
    if out.place == "document" and not re.search("(?i)grant|senders|group", reply):
        faults.append(f"the missing grant is not in {reply!r}")
    return faults


def message_faults(mail, message):
    out, faults = mail.out, []

    def same(what, got, wanted):
        if wanted is not ANY and got != wanted and not (isinstance(wanted, tuple) and got in wanted):
            faults.append(f"{what} is {got!r}, wanted {wanted!r}")

    def addresses(name):
        return [normal(address) for _, address in email.utils.getaddresses(message.fields(name))]

    name, address = email.utils.parseaddr(", ".join(message.fields("From")))
    same("the number of From", len(message.fields("From")), 1)
    same("From", normal(address), out.address)
    same("the sender's name", decoded(name), out.name)
    same("MAIL FROM", message.sender, out.address if out.path is None else out.path)
    reply = message.fields("Reply-To")
    same("the number of Reply-To", len(reply), 1)
    same("Reply-To", ", ".join(addresses("Reply-To")), out.reply)
    original = out.original
    if original is AUTO:
        given = normal(email.utils.parseaddr(mail.author or "")[1])
        original = given if given not in ("", out.address) else None
    same("X-Original-From", message.fields("X-Original-From"), [original] if original else [])
    # Recipients, whatever the order; those in Cc are to be seen, all others not.
    wanted = sorted([normal(given) for given in mail.to] + list(out.more))
    extra = [found for found in message.recipients if found in out.maybe and found not in wanted] if out.maybe else []
    same("RCPT", sorted(message.recipients), sorted(wanted + list(dict.fromkeys(extra))))
    if out.cc is not ANY:
        same("Cc", sorted(addresses("Cc")), sorted([*out.cc, *extra]))
    head = message.raw.split(b"\r\n\r\n")[0]
    seen = f"{mail.author} {mail.lines} {out.address} {out.reply} {out.cc}"
    for hidden in out.more:
        if hidden not in seen and out.cc is not ANY and hidden.encode() in head:
            faults.append(f"{hidden} stands in the header: {head!r}")
    for field in ("Bcc", "Resent-Bcc", *out.gone):
        same(field, message.fields(field), [])
    for field, value in out.kept:
        same(field, message.fields(field), [value])
    same("To", message.fields("To"), [B])
    for field in ("Cc", "Sender", "Subject", "Date", "Message-ID", "MIME-Version"):
        if len(message.fields(field)) > 1:
            faults.append(f"{field} stands there more than once")
    if message.fields("Sender"):
        same("Sender", addresses("Sender"), [out.address])
    if not head.isascii() and all(map(str.isascii, message.recipients)):
        faults.append(f"8-bit header: {head!r}")
    if max(map(len, head.split(b"\r\n"))) > 998:
        faults.append("a line of more than 998 octets")
    return faults


# --------------------------------------------------------------------------- installations

LISTENER = '[[listener]]\nname = "{name}"\naddress = "127.0.0.1:0"\ntenant = "{tenant}"\n'


def install(rig, variants, listeners=(), upstream=True, more=""):
    """Starts a server with these tenants: their names to what stands in their files behind name and
    email (sections, with other keys of the top in front of them). Each has a listener of its own name;
    `listeners`: further ones, (name, tenant). Without `upstream` they have none."""
    path = rig.directory / "postbote.toml"
    pairs = [(name, name) for name in variants] + list(listeners)
    rig.write("postbote.toml", path.read_text() + more + "".join(LISTENER.format(name=name, tenant=tenant) for name, tenant in pairs))
    for name, text in variants.items():
        rig.tenant(name, tenant_text(rig, name, text, upstream))
    rig.start()
    rig.descriptors += 2 * len(variants)  # each keeps its connections


def tenant_text(rig, name, text, upstream=True):
    top, bracket, sections = text.replace("{v}", name).partition("[")
    if not upstream:
        return f'name = "ACME"\nemail = "{OFFICE}"\n{top}{bracket}{sections}'
    return TENANT.format(tenant=top, port=rig.upstream.port, upstream="", after=bracket + sections)


PEOPLE = """
[[user]]
login = "anna@{v}"
password = "right"
name = "Anna Berg"
email = "anna@acme.example"
senders = ["kasse@acme.example", "*@shop.acme.example"]
groups = ["verkauf"]
[[user]]
login = "bert@{v}"
password = "right"
email = "bert@acme.example"
[[user]]
login = "cora@{v}"
password = "right"
name = "Cora Süd"
email = "cora@acme.example"
groups = ["verkauf"]
use_own_sender = true
[[user]]
login = "dora@{v}"
password = "right"
email = "dora@acme.example"
use_own_sender = true
[[user]]
login = "rita@{v}"
password = "right"
name = "Rita Roth"
email = "rita@acme.example"
senders = ["rechnung@acme.example"]
[[user]]
login = "gero@{v}"
password = "right"
email = "gero@acme.example"
groups = ["buchhaltung", "lager"]
[[user]]
login = "kasse-1@{v}"
password = "right"
senders = ["kasse-1@acme.example"]
[[group]]
name = "verkauf"
senders = ["angebot@acme.example"]
[[group]]
name = "buchhaltung"
senders = ["rechnung@acme.example", "mahnung@acme.example"]
[[group]]
name = "lager"
senders = ["*@lager.acme.example"]
"""


def sender(rules, **keys):
    """`[sender]` with `application_from` and other keys."""
    return f'[sender]\napplication_from = "{rules}"\n' + "".join(f'{key} = "{value}"\n' for key, value in keys.items())


def kind(which, match, **keys):
    """One `[[document]]`."""
    return f'[[document]]\ntype = "{which}"\nmatch = {{ {match} }}\n' + "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in keys.items())


def by_header(value, name="X-Document-Type"):
    return f'header = "{name}", value = "{value}"'


def of_type(value):
    return (f"X-Document-Type: {value}",)


POST = dict(address="post@acme.example", name="ACME Post", return_path="bounces@acme.example")
BOUNCES = "bounces@acme.example"


# --------------------------------------------------------------------------- application_from

STRICT = "reject-unauthorized"
KEEP = "keep-authorized"
MINE = "Anna B <anna@acme.example>"


def own(what, address, user="anna", tenant="strict", path=None, **more):
    """In the envelope and in the header, allowed; `more`: what leaves."""
    return Mail(what, tenant, user, path or address, f"X <{address}>", out=kept(normal(address), "X", **more))


def foreign(what, address, user="anna", tenant="strict", mine="anna@acme.example"):
    """Refused in the envelope, and in the header of a message whose envelope is right."""
    return [
        Mail(what + ", envelope", tenant, user, address, f"X <{mine}>", out=envelope(address)),
        Mail(what + ", header", tenant, user, mine, f"X <{address}>", out=header(normal(address))),
        Mail(what + ", header of a null sender", tenant, user, "", f"X <{address}>", out=header(normal(address))),
    ]


# From in which a reader may see another sender than the server does.
ODD_FROM = {
    "a source route": "<@evil.example:anna@acme.example>",
    "a longer source route": "<@x.example,@evil.example:anna@acme.example>",
    "an empty element before it": ",<anna@acme.example>",
    "an empty element behind it": "<anna@acme.example> ,",
    "empty elements behind it": "anna@acme.example,,",
    "a dot behind the domain": "anna@acme.example.",
    "a dot behind the domain, in brackets": "Anna <anna@acme.example.>",
    "a vertical tab": "Anna\x0bBerg <anna@acme.example>",
    "a control character in quotes": '"Anna\x07" <anna@acme.example>',
    "a control character in a comment": "(\x01) anna@acme.example",
    "another address in quotes": '"x@evil.example" <anna@acme.example>',
    "another address in an encoded word": "=?utf-8?q?x=40evil.example?= <anna@acme.example>",
    "another address in brackets in an encoded word": "=?utf-8?q?CEO_=3Cx=40evil.example=3E?= <anna@acme.example>",
    "another address with a wide sign": "x\uff20evil.example <anna@acme.example>",
    "brackets in quotes": '"CEO <x>" <anna@acme.example>',
    "its address and another in quotes": '"anna@acme.example x@evil.example" <anna@acme.example>',
    "another address in a comment": "anna@acme.example (x@evil.example)",
    "another address in a comment before it": "(x@evil.example) <anna@acme.example>",
    "another address in an encoded comment": "anna@acme.example (=?utf-8?q?x=40evil.example?=)",
}
FINE_FROM = [
    ("its address as its name", '"anna@acme.example" <anna@acme.example>', "anna@acme.example"),
    ("its address as its name, in capitals", '"ANNA@acme.example" <anna@acme.example>', "ANNA@acme.example"),
    ("its address as its name, encoded", "=?utf-8?q?anna=40acme.example?= <anna@acme.example>", "anna@acme.example"),
    ("a comment", "anna@acme.example (Anna B)", "Anna B"),
    ("a name with a dot", "Anna B. <anna@acme.example>", "Anna B."),
]
IDA = """
[[user]]
login = "ida@{v}"
password = "right"
email = "ida@acme.example"
senders = ["*@*.müller.example"]
"""


@case("P01", "application_from = reject-unauthorized: what a login may use, in the envelope and in the header", start=False)
def _(rig):
    """`*@domain` has no subdomains in it; local parts are compared without regard to case. The
    tenant's own address is not a user's."""
    install(rig, {"strict": sender(STRICT) + PEOPLE + IDA + kind("invoice", by_header("x"), address="typ@acme.example")})
    play(rig, [
        own("its own address", "anna@acme.example"),
        own("its own address in capitals", "ANNA@ACME.Example"),
        own("one of its senders", "kasse@acme.example"),
        own("one of its senders in capitals", "Kasse@acme.example"),
        own("under its pattern", "till.7@shop.acme.example"),
        own("under its pattern in capitals", "Till.7@SHOP.acme.example"),
        own("under its pattern, quoted", '"a b"@shop.acme.example'),
        own("of its group", "angebot@acme.example"),
        own("a pattern of its group", "regal-3@lager.acme.example", "gero"),
        own("a device without email", "kasse-1@acme.example", "kasse-1"),
        own("two different ones that are both its", "kasse@acme.example", path="anna@acme.example"),
        Mail("a null sender", "strict", "anna", "", MINE, out=kept("anna@acme.example", "Anna B", path="")),
        Mail("no From at all", "strict", "anna", "anna@acme.example", None, out=Leaves(OFFICE)),
        *foreign("a stranger", APP),
        *foreign("the tenant's address", OFFICE),
        *foreign("another user's", "bert@acme.example"),
        *foreign("another group's", "rechnung@acme.example"),
        *foreign("a group's, without the group", "angebot@acme.example", "bert", mine="bert@acme.example"),
        *foreign("a subdomain of the pattern", "x@sub.shop.acme.example"),
        *foreign("a domain that ends like the pattern", "x@xshop.acme.example"),
        *foreign("a domain that begins like the pattern", "x@shop.acme.example.evil.example"),
        *foreign("a local part that begins like a sender", "kasse1@acme.example"),
        *foreign("a local part that ends like a sender", "x.kasse@acme.example"),
        *foreign("a document type's", "typ@acme.example"),
        Mail("two mailboxes in From", "strict", "anna", "anna@acme.example", MINE + ", x@evil.example", out=header()),
        Mail("two From", "strict", "anna", "anna@acme.example", MINE + "\r\nFrom: x@evil.example", out=header()),
        *[Mail(what, "strict", "anna", "anna@acme.example", author, out=header()) for what, author in ODD_FROM.items()],
        *[Mail(what, "strict", "anna", "anna@acme.example", author, out=kept("anna@acme.example", name)) for what, author, name in FINE_FROM],
        own("under its pattern beyond ASCII, in A-labels", "a@shop.xn--mller-kva.example", "ida"),
        Mail("under its pattern beyond ASCII", "strict", "ida", "ida@acme.example", "X <a@shop.müller.example>", out=kept("a@shop.xn--mller-kva.example", "X")),
        Mail("no subdomain of its pattern beyond ASCII", "strict", "ida", "ida@acme.example", "X <a@xn--mller-kva.example>", out=header()),
        Mail("letters that look like those of its pattern", "strict", "ida", "ida@acme.example", "X <a@shop.muller.example>", out=header()),
        Mail("a Kelvin sign for a k", "strict", "anna", "anna@acme.example", "X <\u212aasse@acme.example>", out=header()),
        Mail("a name that is another address", "strict", "anna", "anna@acme.example", "x@evil.example <anna@acme.example>", out=header()),
    ])
    rig.wait_log("event=refused", "tenant=strict", "anna@strict")


# What the file of `named` names, and where.
NAMED = {
    "email": OFFICE,
    "sender.address": "post@acme.example",
    "sender.reply_to": "antwort@acme.example",
    "sender.return_path": "bounces@acme.example",
    "support_address": "hilfe@acme.example",
    "a user's email": "anna@acme.example",
    "a user's sender": "kasse@acme.example",
    "under a user's pattern": "x@shop.acme.example",
    "a group's sender": "angebot@acme.example",
    "under a group's pattern": "x@lager.acme.example",
    "a document's address": "typ@acme.example",
    "a document's reply_to": "typantwort@acme.example",
    "a document's bcc": "typkopie@acme.example",
    "copies.bcc": "archiv@acme.example",
    "notices.to": "edv@acme.example",
}


@case("P02", "a client without login: every address that the tenant's file names, and no other", start=False)
def _(rig):
    text = 'support_address = "hilfe@acme.example"\n' + sender(STRICT, **POST, reply_to="antwort@acme.example") + PEOPLE
    text += kind("invoice", by_header("x"), address="typ@acme.example", reply_to="typantwort@acme.example", bcc=["typkopie@acme.example"])
    text += '[copies]\nbcc = ["archiv@acme.example"]\n[notices]\nto = ["edv@acme.example"]\n'
    # The other tenant's file names what `named` does not.
    install(rig, {"named": text, "other": sender(STRICT, address="nur@acme.example")})
    leaves = dict(reply="antwort@acme.example", more=("archiv@acme.example",))
    play(rig, [
        *[Mail(what, "named", None, address, f"X <{address}>", out=kept(address, "X", path=BOUNCES, **leaves)) for what, address in NAMED.items()],
        Mail("a null sender", "named", None, "", "X <typ@acme.example>", out=kept("typ@acme.example", "X", path="", **leaves)),
        *foreign("a stranger", APP, None, "named", OFFICE),
        *foreign("a name of another tenant's file", "nur@acme.example", None, "named", OFFICE),
        *foreign("a subdomain of a pattern", "x@sub.lager.acme.example", None, "named", OFFICE),
        *foreign("what only the first tenant's file names", "kasse@acme.example", None, "other", "nur@acme.example"),
    ])


@case("P03", "application_from: replace and keep-authorized", start=False)
def _(rig):
    install(rig, {
        "plain": PEOPLE,
        "replace": sender("replace", **POST) + PEOPLE,
        "keep": sender(KEEP, address="post@acme.example", name="ACME Post") + PEOPLE,
        "keep-path": sender(KEEP, **POST) + PEOPLE,
    })
    post = Leaves("post@acme.example", "ACME Post")
    play(rig, [
        Mail("the default is replace, without login", "plain", out=Leaves(OFFICE)),
        Mail("the default is replace, with login", "plain", "anna", "anna@acme.example", MINE, out=Leaves(OFFICE)),
        Mail("the tenant's own address and another name", "plain", author=f"Chef <{OFFICE}>", out=Leaves(OFFICE)),
        Mail("a null sender", "plain", path="", out=Leaves(OFFICE, path="")),
        Mail("[sender] as it says", "replace", "anna", "anna@acme.example", MINE, out=dataclasses.replace(post, path=BOUNCES)),
        Mail("[sender] without login", "replace", out=dataclasses.replace(post, path=BOUNCES)),
        Mail("a Sender field", "replace", lines=("Sender: x@evil.example",), out=dataclasses.replace(post, path=BOUNCES)),
        Mail("its own address and name stay", "keep", "anna", "anna@acme.example", '"Berg, Anna" <anna@acme.example>', out=kept("anna@acme.example", "Berg, Anna")),
        Mail("an encoded name stays", "keep", "anna", APP, "=?utf-8?q?Anna_S=C3=BCd?= <anna@acme.example>", out=kept("anna@acme.example", "Anna Süd")),
        Mail("no name, and none is added", "keep", "anna", APP, "anna@acme.example", out=kept("anna@acme.example", "")),
        Mail("one of its senders stays", "keep", "anna", APP, "K <kasse@acme.example>", out=kept("kasse@acme.example", "K")),
        Mail("under its pattern stays", "keep", "anna", APP, "K <x@shop.acme.example>", out=kept("x@shop.acme.example", "K")),
        Mail("its group's stays", "keep", "anna", APP, "K <angebot@acme.example>", out=kept("angebot@acme.example", "K")),
        Mail("a stranger's is replaced", "keep", "anna", out=post),
        Mail("another user's is replaced", "keep", "anna", author="B <bert@acme.example>", out=post),
        Mail("the tenant's is replaced", "keep", "anna", author=f"O <{OFFICE}>", out=post),
        Mail("another group's is replaced", "keep", "bert", author="A <angebot@acme.example>", out=post),
        Mail("a subdomain of the pattern is replaced", "keep", "anna", author="A <x@sub.shop.acme.example>", out=post),
        Mail("two mailboxes are replaced", "keep", "anna", author=MINE + ", x@evil.example", out=dataclasses.replace(post, original=None)),
        Mail("no From at all", "keep", "anna", author=None, out=post),
        Mail("without login, named in the file", "keep", author="A <angebot@acme.example>", out=kept("angebot@acme.example", "A")),
        Mail("without login, a stranger's", "keep", out=post),
        Mail("a foreign MAIL FROM is no reason to refuse", "keep", "anna", "x@evil.example", MINE, out=kept("anna@acme.example", "Anna B")),
        Mail("a null sender, its own From", "keep", "anna", "", MINE, out=kept("anna@acme.example", "Anna B", path="")),
        Mail("kept, with a return path", "keep-path", "anna", "anna@acme.example", MINE, out=kept("anna@acme.example", "Anna B", path=BOUNCES)),
        Mail("kept, with a Sender field", "keep-path", "anna", author=MINE, lines=("Sender: x@evil.example",), out=kept("anna@acme.example", "Anna B", path=BOUNCES)),
    ])


# --------------------------------------------------------------------------- Reply-To, return path, own sender

XAVER = ("Reply-To: Xaver <x@source.example>",)
X = "x@source.example"
ANSWER = "antwort@acme.example"


@case("P04", "Reply-To and return path", start=False)
def _(rig):
    install(rig, {
        "absent": sender("replace", address="post@acme.example"),
        "fixed": sender("replace", reply_to=ANSWER, return_path=BOUNCES),
        "original": sender("replace", reply_to="original"),
        "keep": sender(KEEP, reply_to="original") + PEOPLE,
    })
    play(rig, [
        Mail("absent, none given", "absent", out=Leaves("post@acme.example", reply=OFFICE)),
        Mail("absent, one given", "absent", lines=XAVER, out=Leaves("post@acme.example", reply=X)),
        Mail("absent, several given", "absent", lines=("Reply-To: a@source.example, b@source.example",), out=Leaves("post@acme.example", reply="a@source.example, b@source.example")),
        Mail("absent, a useless one given", "absent", lines=("Reply-To: nobody",), out=Leaves("post@acme.example", reply=OFFICE)),
        Mail("fixed, none given", "fixed", out=Leaves(OFFICE, reply=ANSWER, path=BOUNCES)),
        Mail("fixed, one given", "fixed", lines=XAVER, out=Leaves(OFFICE, reply=ANSWER, path=BOUNCES)),
        Mail("fixed, a null sender", "fixed", path="", out=Leaves(OFFICE, reply=ANSWER, path="")),
        Mail("original", "original", out=Leaves(OFFICE, reply=APP)),
        Mail("original, one given", "original", lines=XAVER, out=Leaves(OFFICE, reply=APP)),
        Mail("original, no From", "original", author=None, lines=XAVER, out=Leaves(OFFICE, reply=X)),
        Mail("original, neither", "original", author=None, out=Leaves(OFFICE, reply=OFFICE)),
        Mail("original, From kept", "keep", "anna", author=MINE, out=kept("anna@acme.example", "Anna B", reply="anna@acme.example")),
        Mail("original, From replaced", "keep", "anna", out=Leaves(OFFICE, reply=APP)),
    ])


CORA, DORA = "cora@acme.example", "dora@acme.example"


@case("P05", "use_own_sender", start=False)
def _(rig):
    """A user without a name has the tenant's, or that of [sender]."""
    types = kind("letter", by_header("letter"), name="ACME Briefe", reply_to="briefe@acme.example") + kind("note", by_header("note"), bcc=["ablage@acme.example"]) + kind("quote", by_header("quote"), address="angebot@acme.example", name="ACME Angebote")
    install(rig, {
        "plain": PEOPLE + types,
        "post": sender("replace", **POST) + PEOPLE + types,
        "fixed": sender("replace", reply_to=ANSWER) + PEOPLE,
        "original": sender("replace", reply_to="original") + PEOPLE,
        "keep": sender(KEEP) + PEOPLE,
        "strict": sender(STRICT) + PEOPLE,
    })
    cora = Leaves(CORA, "Cora Süd", reply=CORA)
    play(rig, [
        Mail("address and name of the user", "plain", "cora", out=cora),
        Mail("a user without a name", "plain", "dora", out=Leaves(DORA, "ACME", reply=DORA)),
        Mail("a user without a name, [sender].name", "post", "dora", out=Leaves(DORA, "ACME Post", reply=DORA, path=BOUNCES)),
        Mail("[sender].return_path stays", "post", "cora", out=dataclasses.replace(cora, path=BOUNCES)),
        Mail("a user without use_own_sender", "post", "anna", out=Leaves("post@acme.example", "ACME Post", path=BOUNCES)),
        Mail("no login", "post", out=Leaves("post@acme.example", "ACME Post", path=BOUNCES)),
        Mail("the application's Reply-To", "plain", "cora", lines=XAVER, out=dataclasses.replace(cora, reply=X)),
        Mail("a fixed Reply-To", "fixed", "cora", out=dataclasses.replace(cora, reply=ANSWER)),
        Mail("the original as Reply-To", "original", "cora", out=dataclasses.replace(cora, reply=APP)),
        Mail("the original as Reply-To, no From", "original", "cora", author=None, out=dataclasses.replace(cora, reply=(CORA, OFFICE))),
        Mail("no From at all", "plain", "cora", author=None, out=cora),
        Mail("From is the user already", "plain", "cora", CORA, f"C <{CORA}>", out=cora),
        Mail("a null sender", "plain", "cora", "", out=dataclasses.replace(cora, path="")),
        Mail("keep-authorized: what it may use stays", "keep", "cora", author="A <angebot@acme.example>", out=kept("angebot@acme.example", "A", reply=ANY)),
        Mail("keep-authorized: a stranger becomes the user", "keep", "cora", out=cora),
        Mail("reject-unauthorized: the tenant's address is not the user's", "strict", "cora", CORA, f"O <{OFFICE}>", out=header(OFFICE)),
        Mail("reject-unauthorized: no From", "strict", "cora", CORA, None, out=cora),
        Mail("a type's name and Reply-To", "plain", "cora", lines=of_type("letter"), out=Leaves(CORA, "ACME Briefe", reply="briefe@acme.example")),
        Mail("a type's copy only", "plain", "dora", lines=of_type("note"), out=Leaves(DORA, "ACME", reply=DORA, more=("ablage@acme.example",))),
        Mail("a type's address goes before", "plain", "cora", lines=of_type("quote"), out=Leaves("angebot@acme.example", "ACME Angebote", reply=(CORA, OFFICE))),
        Mail("a type's address that is not granted", "plain", "dora", lines=of_type("quote"), out=document("quote", "angebot@acme.example")),
    ])


# --------------------------------------------------------------------------- document types

TYPES = (
    kind("first", by_header("first*"), name="First")
    + kind("second", by_header("*second"), name="Second")
    + kind("invoice", by_header("invoice"), name="Invoices")
    + kind("till", 'login = "kasse-*"', name="Till")
    + kind("scan", 'listener = "scanner-*"', name="Scans")
    + kind("robot", 'mail_from = "*@robot.example"', name="Robot")
    + kind("dunning", 'subject = "Mahnung ?-*"', name="Dunning")
    + kind("order", 'login = "anna@*", listener = "match", mail_from = "*@acme.example", subject = "Bestellung*", ' + by_header("order", "X-Kind"), name="Orders")
    + kind("login", 'login = "*", ' + by_header("login", "X-Kind"), name="Logged in")
)


@case("P06", "document types: which one matches", start=False)
def _(rig):
    """The first in the file; of several keys all; a value is compared whole, unfolded and without
    blanks around it. Who has not logged in has no login, not an empty one."""
    install(rig, {"match": PEOPLE + TYPES, "plain": PEOPLE}, listeners=[("scanner-1", "match"), ("desk", "match")])

    def typed(what, name, *lines, **more):
        return Mail(what, "match", lines=lines, out=Leaves(OFFICE, name), **more)

    def ordered(what, name, kind="order", subject="Bestellung 7", user="anna", path="anna@acme.example", **more):
        return typed(what, name, f"X-Kind: {kind}", f"Subject: {subject}", user=user, path=path, **more)

    play(rig, [
        typed("none", "ACME"),
        typed("a header's value", "Invoices", *of_type("invoice")),
        typed("a header's name in other letters", "Invoices", "x-document-TYPE: invoice"),
        typed("blanks around the value", "Invoices", "X-Document-Type: \t invoice  "),
        typed("a folded value", "Invoices", "X-Document-Type:\r\n invoice"),
        typed("more than the value", "ACME", *of_type("invoices")),
        typed("less than the value", "ACME", *of_type("invoic")),
        typed("another header", "ACME", "X-Document: invoice"),
        typed("a glob at the end", "First", *of_type("first-invoice")),
        typed("a glob at the beginning", "Second", *of_type("the second")),
        typed("the first that matches wins", "First", *of_type("first and second")),
        typed("by login", "Till", user="kasse-1"),
        typed("by another login", "ACME", user="anna"),
        typed("an earlier type goes before the login's", "Invoices", *of_type("invoice"), user="kasse-1"),
        typed("by listener", "Scans", listener="scanner-1"),
        typed("by another listener", "ACME", listener="desk"),
        typed("by listener, with a login", "Scans", listener="scanner-1", user="anna"),
        typed("by MAIL FROM", "Robot", path="x7@robot.example"),
        typed("by MAIL FROM, a subdomain", "ACME", path="x7@a.robot.example"),
        typed("From is not MAIL FROM", "ACME", author="x7@robot.example"),
        typed("by subject", "Dunning", "Subject: Mahnung 2-2026"),
        typed("by subject, ? is one character", "ACME", "Subject: Mahnung 12-2026"),
        typed("by subject, in its middle", "ACME", "Subject: Re: Mahnung 2-2026"),
        ordered("five conditions", "Orders"),
        ordered("five conditions, the header another", "ACME", "offer"),
        ordered("five conditions, the subject another", "ACME", subject="Storno"),
        ordered("five conditions, the login another", "ACME", user="bert"),
        ordered("five conditions, no login", "ACME", user=None),
        ordered("five conditions, MAIL FROM another", "ACME", path=APP),
        ordered("five conditions, the listener another", "ACME", listener="desk"),
        typed("any login", "Logged in", "X-Kind: login", user="bert"),
        typed("any login, but there is none", "ACME", "X-Kind: login"),
        Mail("another tenant's types", "plain", lines=of_type("invoice"), out=Leaves(OFFICE, kept=(("X-Document-Type", "invoice"),))),
        Mail("another tenant's types, by login", "plain", "kasse-1", out=Leaves(OFFICE)),
    ])


DOCUMENTS = (
    kind("quote", by_header("quote"), address="angebot@acme.example", name="ACME Angebote")
    + kind("invoice", by_header("invoice"), address="rechnung@acme.example", name="ACME Rechnungen", reply_to="buchhaltung@acme.example", bcc=["belege@acme.example"])
    + kind("receipt", by_header("receipt"), address="bon@shop.acme.example")
    + kind("stock", by_header("stock"), address="bestand@lager.acme.example", name="ACME Bestand")
    + kind("own", by_header("own"), address="bert@acme.example")
    + kind("Mahnung, Stufe 2", by_header("dunning"), address="mahnung@acme.example", name="ACME Mahnwesen")
    + kind("nobody", by_header("nobody"), address="niemand@acme.example")
    + kind("letter", by_header("letter"), name="ACME Briefe", reply_to="briefe@acme.example", bcc=["ablage@acme.example"])
    + kind("note", by_header("note"), bcc=["ablage@acme.example", "zweite@acme.example"])
    + kind("reply", by_header("reply"), reply_to="briefe@acme.example")
    + kind("denied", by_header("both*"), address="rechnung@acme.example")
    + kind("granted", by_header("*both"), address="angebot@acme.example")
)
QUOTE = Leaves("angebot@acme.example", "ACME Angebote")
INVOICE = Leaves("rechnung@acme.example", "ACME Rechnungen", reply="buchhaltung@acme.example", more=("belege@acme.example",))
LETTER = Leaves(OFFICE, "ACME Briefe", reply="briefe@acme.example", more=("ablage@acme.example",))


def typed(what, tenant, user, kind, out, **more):
    """A message of that document type."""
    return Mail(what, tenant, user, lines=of_type(kind), out=out, **more)


@case("P07", "document types: address, name, Reply-To, copies, and the grant that is needed", start=False)
def _(rig):
    """The header decides the type, so a missing grant is found at the final dot."""
    install(rig, {"docs": PEOPLE + DOCUMENTS})
    play(rig, [
        typed("granted by a group", "docs", "anna", "quote", QUOTE),
        typed("granted by senders", "docs", "rita", "invoice", INVOICE),
        typed("granted by one of two groups", "docs", "gero", "invoice", INVOICE),
        typed("granted by a pattern", "docs", "anna", "receipt", Leaves("bon@shop.acme.example")),
        typed("granted by a group's pattern", "docs", "gero", "stock", dataclasses.replace(QUOTE, address="bestand@lager.acme.example", name="ACME Bestand")),
        typed("granted as the user's own address", "docs", "bert", "own", Leaves("bert@acme.example")),
        typed("a type's name of one's own", "docs", "gero", "dunning", Leaves("mahnung@acme.example", "ACME Mahnwesen")),
        typed("no login", "docs", None, "invoice", INVOICE),
        typed("no login, an address of no user", "docs", None, "nobody", Leaves("niemand@acme.example")),
        typed("no grant at all", "docs", "bert", "quote", document("quote", "angebot@acme.example")),
        typed("another group's grant", "docs", "anna", "invoice", document("invoice", "rechnung@acme.example")),
        typed("no pattern", "docs", "rita", "receipt", document("receipt", "bon@shop.acme.example")),
        typed("another group's pattern", "docs", "anna", "stock", document("stock", "bestand@lager.acme.example")),
        typed("another user's own address", "docs", "anna", "own", document("own", "bert@acme.example")),
        typed("a type with blanks in its name", "docs", "rita", "dunning", document("Mahnung, Stufe 2", "mahnung@acme.example")),
        typed("an address of no user", "docs", "gero", "nobody", document("nobody", "niemand@acme.example")),
        typed("a device without email", "docs", "kasse-1", "quote", document("quote", "angebot@acme.example")),
        typed("use_own_sender without the grant", "docs", "cora", "invoice", document("invoice", "rechnung@acme.example")),
        typed("MAIL FROM and From are no grant", "docs", "bert", "quote", document("quote", "angebot@acme.example"), path="angebot@acme.example", author="A <angebot@acme.example>"),
        typed("a null sender, no grant", "docs", "bert", "quote", document("quote", "angebot@acme.example"), path=""),
        typed("a null sender", "docs", "rita", "invoice", dataclasses.replace(INVOICE, path=""), path=""),
        typed("the first that matches needs the grant, though the second would do", "docs", "anna", "both and both", document("denied", "rechnung@acme.example")),
        typed("the first that matches is granted", "docs", "rita", "both and both", Leaves("rechnung@acme.example")),
        typed("the second alone", "docs", "anna", "x both", Leaves("angebot@acme.example")),
        typed("no address: name, Reply-To and copy", "docs", "bert", "letter", LETTER),
        typed("no address, no login", "docs", None, "letter", LETTER),
        typed("two copies only", "docs", "bert", "note", Leaves(OFFICE, more=("ablage@acme.example", "zweite@acme.example"))),
        typed("Reply-To only", "docs", "bert", "reply", Leaves(OFFICE, reply="briefe@acme.example")),
        Mail("the type's Reply-To goes before the application's", "docs", "bert", lines=of_type("reply") + XAVER, out=Leaves(OFFICE, reply="briefe@acme.example")),
        Mail("a type without Reply-To keeps the application's", "docs", "anna", lines=of_type("quote") + XAVER, out=dataclasses.replace(QUOTE, reply=X)),
        Mail("From is the type's already", "docs", "rita", author="R <rechnung@acme.example>", lines=of_type("invoice"), out=INVOICE),
    ])
    rig.wait_log("event=refused", "tenant=docs", "550 5.7.1", "document")


@case("P08", "document types with application_from and [sender]", start=False)
def _(rig):
    """keep-authorized keeps an authorised From; the type's Reply-To and copies apply all the same."""
    install(rig, {
        "keep": sender(KEEP) + PEOPLE + DOCUMENTS,
        "strict": sender(STRICT) + PEOPLE + DOCUMENTS,
        "post": sender("replace", **POST, reply_to=ANSWER) + PEOPLE + DOCUMENTS,
        "original": sender("replace", reply_to="original") + PEOPLE + DOCUMENTS,
    })
    rita, anna = "R <rita@acme.example>", "A <anna@acme.example>"
    invoice = dict(reply="buchhaltung@acme.example", more=("belege@acme.example",))
    play(rig, [
        typed("keep: an authorised From stays", "keep", "rita", "invoice", kept("rita@acme.example", "R", **invoice), author=rita),
        typed("keep: any authorised From stays", "keep", "rita", "invoice", kept("rechnung@acme.example", "R", **invoice), author="R <rechnung@acme.example>"),
        typed("keep: another becomes the type's", "keep", "rita", "invoice", INVOICE),
        typed("keep: another needs the type's grant", "keep", "bert", "invoice", document("invoice", "rechnung@acme.example")),
        typed("keep: no From", "keep", "rita", "invoice", INVOICE, author=None),
        typed("keep: no login, named", "keep", None, "invoice", kept("kasse@acme.example", "K", **invoice), author="K <kasse@acme.example>"),
        typed("keep: no login, a stranger", "keep", None, "invoice", INVOICE),
        typed("keep: the type's name is not the kept From's", "keep", "anna", "letter", kept("anna@acme.example", "A", reply="briefe@acme.example", more=("ablage@acme.example",)), author=anna),
        typed("keep: a name for what is replaced", "keep", "anna", "letter", LETTER),
        typed("keep: a null sender", "keep", "rita", "invoice", kept("rita@acme.example", "R", path="", **invoice), author=rita, path=""),
        typed("strict: an authorised From stays", "strict", "rita", "invoice", kept("rita@acme.example", "R", **invoice), path="rita@acme.example", author=rita),
        typed("strict: no From", "strict", "rita", "invoice", INVOICE, path="rita@acme.example", author=None),
        typed("strict: no From and no grant", "strict", "bert", "invoice", document("invoice", "rechnung@acme.example"), path="bert@acme.example", author=None),
        typed("strict: a granted type is no right to a stranger's From", "strict", "rita", "invoice", header(APP), path="rita@acme.example"),
        typed("strict: nor to a stranger's MAIL FROM", "strict", "rita", "invoice", envelope(APP), author=rita),
        typed("strict: no login", "strict", None, "invoice", kept("mahnung@acme.example", "M", **invoice), path="mahnung@acme.example", author="M <mahnung@acme.example>"),
        typed("[sender]: no type", "post", "rita", "none", Leaves("post@acme.example", "ACME Post", reply=ANSWER, path=BOUNCES)),
        typed("[sender]: address, name, Reply-To are the type's, the return path stays", "post", "rita", "invoice", dataclasses.replace(INVOICE, path=BOUNCES)),
        typed("[sender]: its fixed Reply-To where the type has none", "post", "anna", "quote", dataclasses.replace(QUOTE, reply=ANSWER, path=BOUNCES)),
        typed("[sender]: its name where the type has none", "post", "anna", "receipt", Leaves("bon@shop.acme.example", "ACME Post", reply=ANSWER, path=BOUNCES)),
        typed("[sender]: its address where the type has none", "post", "anna", "letter", dataclasses.replace(LETTER, address="post@acme.example", path=BOUNCES)),
        typed("[sender]: a null sender", "post", "rita", "invoice", dataclasses.replace(INVOICE, path=""), path=""),
        typed("[sender]: a type without the grant", "post", "bert", "invoice", document("invoice", "rechnung@acme.example")),
        typed("original: the type's goes before", "original", "rita", "invoice", INVOICE),
        typed("original: where the type has none", "original", "anna", "quote", dataclasses.replace(QUOTE, reply=APP)),
    ])


@case("P09", "remove_header", start=False)
def _(rig):
    """Only the header of the type that is chosen, with its folds; without it everything stays."""
    types = (
        kind("a", by_header("a*"), name="A", remove_header=True)
        + kind("b", by_header("b*"), name="B")
        + kind("c", by_header("c", "X-Kind") + ', subject = "C*"', name="C", remove_header=True)
        + kind("d", by_header("*d"), name="D", remove_header=False)
        + kind("e", by_header("e"), address="typ@acme.example", remove_header=True)
    )
    install(rig, {"docs": PEOPLE + types, "keep": sender(KEEP) + PEOPLE + types, "plain": PEOPLE})
    name = "X-Document-Type"

    def row(what, title, *lines, gone=(), stays=(), tenant="docs", **more):
        return Mail(what, tenant, lines=lines, out=Leaves(OFFICE, title, gone=gone, kept=stays), **more)

    play(rig, [
        row("removed", "A", *of_type("a"), gone=(name,)),
        row("removed, in other letters", "A", "x-document-TYPE : a", gone=(name, name + " ")),
        row("removed with its folds", "A", "X-Document-Type: a\r\n\tsecond-line", "X-Next: 1", gone=(name,), stays=(("X-Next", "1"),)),
        row("others like it stay", "A", *of_type("a"), "X-Document: a", "X-Document-Types: a", gone=(name,), stays=(("X-Document", "a"), ("X-Document-Types", "a"))),
        row("the default: it stays", "B", *of_type("b"), stays=((name, "b"),)),
        row("said: it stays", "D", *of_type("d"), stays=((name, "d"),)),
        row("the first that matches decides", "B", *of_type("b and d"), stays=((name, "b and d"),)),
        row("removed: the header of the type, not another's", "C", "X-Kind: c", *of_type("z"), "Subject: C 1", gone=("X-Kind",), stays=((name, "z"),)),
        row("stays where the type does not match", "ACME", "X-Kind: c", "Subject: D 1", stays=(("X-Kind", "c"),)),
        row("stays where nothing matches", "ACME", *of_type("z"), stays=((name, "z"),)),
        row("stays at another tenant", "ACME", *of_type("a"), tenant="plain", stays=((name, "a"),)),
        typed("removed where From is kept", "keep", "anna", "a", kept("anna@acme.example", "Anna B", gone=(name,)), author=MINE),
        typed("no grant", "docs", "anna", "e", document("e", "typ@acme.example")),
        typed("removed, no login", "docs", None, "e", Leaves("typ@acme.example", gone=(name,))),
    ])


# --------------------------------------------------------------------------- copies

ARCHIVE, VOUCHERS = "archiv@acme.example", "belege@acme.example"
COPIES = f'[copies]\nbcc = ["{ARCHIVE}"]\n'
WORKER = 'case_worker_header = "X-Case-Worker"\n'
MAX, MORITZ = "max@acme.example", "moritz@acme.example"


@case("P10", "copies: in the envelope, once, never in the header", start=False, server="max_recipients = 3")
def _(rig):
    """Copies do not count towards max_recipients, which is for applications."""
    types = kind("invoice", by_header("invoice"), bcc=[VOUCHERS, ARCHIVE]) + kind("twice", by_header("twice"), bcc=[VOUCHERS, VOUCHERS])
    install(rig, {
        "copies": COPIES + PEOPLE + types,
        "two": f'[copies]\nbcc = ["{ARCHIVE}", "zweit@Other.Example", "{ARCHIVE}"]\n' + PEOPLE,
        "self": f'[copies]\nbcc = ["{OFFICE}"]\n',
        "none": PEOPLE + types,
        "keep": sender(KEEP, **POST) + COPIES + PEOPLE,
    })
    one = Leaves(OFFICE, more=(ARCHIVE,))
    both = Leaves(OFFICE, more=(ARCHIVE, VOUCHERS))
    c, d = "c@else.example", "d@else.example"

    def row(what, tenant, out, *lines, **more):
        return Mail(what, tenant, lines=lines, out=out, **more)

    play(rig, [
        row("one recipient", "copies", one),
        row("with a login", "copies", one, user="anna"),
        row("three recipients, as many as may be", "copies", one, to=(B, c, d)),
        row("a recipient already", "copies", Leaves(OFFICE), to=(B, ARCHIVE)),
        row("a recipient already, its domain in capitals", "copies", Leaves(OFFICE), to=(B, "archiv@ACME.Example")),
        row("the only recipient", "copies", Leaves(OFFICE), to=(ARCHIVE,)),
        row("a null sender of an application", "copies", dataclasses.replace(one, path=""), path=""),
        row("two, one of them said twice", "two", Leaves(OFFICE, more=(ARCHIVE, "zweit@other.example"))),
        row("to the sender itself", "self", Leaves(OFFICE, more=(OFFICE,))),
        row("a type's, and one that both name", "copies", both, *of_type("invoice")),
        row("a type's, with a login", "copies", both, *of_type("invoice"), user="bert"),
        row("a type's, with a null sender", "copies", dataclasses.replace(both, path=""), *of_type("invoice"), path=""),
        row("a type's is a recipient already", "copies", one, *of_type("invoice"), to=(B, VOUCHERS)),
        row("all are recipients already", "copies", Leaves(OFFICE), *of_type("invoice"), to=(B, VOUCHERS, ARCHIVE)),
        row("a type's, said twice", "none", Leaves(OFFICE, more=(VOUCHERS,)), *of_type("twice")),
        row("a type's without [copies]", "none", both, *of_type("invoice")),
        row("neither", "none", Leaves(OFFICE)),
        row("a Bcc field is no envelope", "copies", one, "Bcc: boss@else.example", f"Bcc: {ARCHIVE}", f"Resent-Bcc: {VOUCHERS}"),
        row("a Cc field stays as it is", "copies", dataclasses.replace(one, cc=(c,)), f"Cc: {c}", to=(B, c)),
        row("a Cc field that names no recipient stays too", "copies", dataclasses.replace(one, cc=("x@else.example",)), "Cc: x@else.example"),
        row("From is kept", "keep", kept("anna@acme.example", "Anna B", path=BOUNCES, more=(ARCHIVE,)), user="anna", author=MINE),
        row("X-Case-Worker without case_worker_header is any field", "copies", dataclasses.replace(one, kept=(("X-Case-Worker", MAX),)), f"X-Case-Worker: {MAX}"),
    ])


def answers(rig, words, *addresses):
    """The upstream says so to RCPT of these, and takes all others."""

    def rcpt(session, line):
        address = line.split(b"<", 1)[1].split(b">", 1)[0].decode()
        if address in addresses:
            return words
        session.recipients.append(address)
        return "250 2.1.5 ok"

    rig.upstream.on["RCPT"] = rcpt


UNKNOWN = "550 5.1.1 no such user"


def reports(rig):
    """Bounces and delay notices that somebody got."""
    return [m for m in list(rig.upstream.received) if m.recipients and b"multipart/report" in m.raw[:4000]]


def pause(seconds):
    """The bouncer looks every two seconds."""
    end = time.monotonic() + seconds
    wait_until("time passes", lambda: time.monotonic() > end)


def taken(rig, what, *lines, to=(B,)):
    """Hands in one message that is taken; gives its id and token."""
    stage, reply, token = hand_in(rig, Mail(what, "copies", lines=lines, to=to))
    check(reply.startswith("250 2.0.0"), f"{what}: {reply!r} at {stage}")
    return reply.rsplit(" ", 1)[-1], token


def got(rig, token, *addresses):
    """Exactly these have got the message, each once."""

    def recipients():
        return sorted(a for m in list(rig.upstream.received) if token in m.raw and b"multipart/report" not in m.raw[:4000] for a in m.recipients)

    wait_until(f"{token} at {addresses}", lambda: len(recipients()) >= len(addresses))
    check(recipients() == sorted(addresses), f"{token} went to {recipients()}, wanted {addresses}")


def state(rig, identity):
    """The state of a message that waits or has failed; None: it is settled."""
    return next((m["state"] for m in rig.queue() if m["id"] == identity), None)


@case("P11", "copies and bounces: none of a bounce, none because of a copy", start=False)
def _(rig):
    """A row is a message; what its upstream refuses stands in front of it."""
    install(rig, {"copies": COPIES + WORKER + kind("invoice", by_header("invoice"), bcc=[VOUCHERS])})
    invoice = of_type("invoice")
    wrong, expected = [], 0

    def told(what, identity, bounces, final):
        """So many bounces more, each to the tenant alone and of the true recipient alone."""
        nonlocal expected
        expected += bounces
        wait_until(f"{what}: {expected} bounces", lambda: len(reports(rig)) >= expected)
        if not bounces:
            pause(2.5)
        found = reports(rig)
        if len(found) != expected:
            wrong.append(f"{what}: {len(found)} bounces so far, wanted {expected}")
            expected = len(found)
        for bounce in found:
            if bounce.sender or bounce.recipients != [OFFICE]:
                wrong.append(f"{what}: a bounce from {bounce.sender!r} to {bounce.recipients}")
            for hidden in (ARCHIVE, VOUCHERS):
                if hidden in bounce.text:
                    wrong.append(f"{what}: the bounce tells of {hidden}")
            if bounce.fields("Cc") or f"rfc822;{B}" not in bounce.text.replace(" ", ""):
                wrong.append(f"{what}: a strange bounce: {bounce.text}")
        if state(rig, identity) != final:
            wrong.append(f"{what}: the message is {state(rig, identity)}, wanted {final}")

    answers(rig, UNKNOWN, B)
    identity, token = taken(rig, "the recipient is unknown", *invoice, f"X-Case-Worker: {MAX}")
    rig.may_be_lost.add(token)
    got(rig, token, ARCHIVE, VOUCHERS, MAX)
    told("the recipient is unknown", identity, 1, "failed")

    answers(rig, UNKNOWN, ARCHIVE)
    identity, token = taken(rig, "a copy is refused", *invoice)
    got(rig, token, B, VOUCHERS)
    told("a copy is refused", identity, 0, None)

    answers(rig, UNKNOWN, ARCHIVE, VOUCHERS)
    identity, token = taken(rig, "all copies are refused", *invoice)
    got(rig, token, B)
    told("all copies are refused", identity, 0, None)

    answers(rig, UNKNOWN, ARCHIVE, VOUCHERS, B)
    identity, token = taken(rig, "everybody is unknown", *invoice)
    rig.may_be_lost.add(token)
    told("everybody is unknown", identity, 1, "failed")
    del rig.upstream.on["RCPT"]

    rig.upstream.on["dot"] = lambda session, content: "554 5.6.0 no" if B in session.recipients else session.take(content)
    identity, token = taken(rig, "the message is refused", *invoice)
    rig.may_be_lost.add(token)
    told("the message is refused", identity, 1, "failed")
    rig.upstream.on.clear()

    # Who asked for the copy himself is told as anybody.
    answers(rig, UNKNOWN, ARCHIVE)
    identity, token = taken(rig, "a refused recipient that would have had a copy", to=(B, ARCHIVE))
    rig.may_be_lost.add(token)
    got(rig, token, B)
    wait_until("its bounce", lambda: len(reports(rig)) > expected)
    if state(rig, identity) != "failed" or f"rfc822;{ARCHIVE}" not in reports(rig)[-1].text.replace(" ", ""):
        wrong.append("a recipient of the application was treated as a copy")

    answers(rig, "450 4.2.1 later", ARCHIVE)
    identity, token = taken(rig, "a copy is deferred")
    rig.may_repeat.add(token)
    got(rig, token, B)
    rig.upstream.on.clear()
    got(rig, token, B, ARCHIVE)
    wait_until("it is settled", lambda: state(rig, identity) is None)
    pause(2.5)
    got(rig, token, B, ARCHIVE)
    if len(reports(rig)) != expected + 1:
        wrong.append(f"{len(reports(rig))} bounces in all, wanted {expected + 1}")
    check(not wrong, "\n".join(wrong))


# --------------------------------------------------------------------------- case workers


def worker(what, value, *added, tenant="worker", lines=(), **more):
    """X-Case-Worker of that value, which adds these; `out`: what else leaves."""
    out = dataclasses.replace(more.pop("out", Leaves(OFFICE)), gone=("X-Case-Worker",))
    out = dataclasses.replace(out, more=out.more + added, cc=out.cc if out.cc is ANY else out.cc + added)
    return Mail(what, tenant, lines=(f"X-Case-Worker: {value}", *lines), out=out, **more)


@case("P12", "case workers: Cc, recipient, header removed", start=False, server="max_recipients = 2")
def _(rig):
    """Not who is the chosen From, the application's From, or a recipient already. What is no address
    is ignored."""
    types = kind("quote", by_header("quote"), address="angebot@acme.example") + kind("note", by_header("note"), bcc=[VOUCHERS])
    install(rig, {
        "worker": "[copies]\n" + WORKER + PEOPLE + types,
        "keep": sender(KEEP) + "[copies]\n" + WORKER + PEOPLE,
        "strict": sender(STRICT) + "[copies]\n" + WORKER + PEOPLE,
        "copies": COPIES + WORKER,
        "same": f'[copies]\nbcc = ["{MAX}"]\n' + WORKER,
        "other-name": '[copies]\ncase_worker_header = "X-Sachbearbeiter"\n',
        "none": PEOPLE,
    })
    cora = Leaves(CORA, "Cora Süd", reply=CORA)
    c = "c@else.example"
    play(rig, [
        worker("an address", MAX, MAX),
        worker("in brackets", f"<{MAX}>", MAX),
        worker("with a name", f"Max Muster <{MAX}>", MAX),
        worker("with a name in quotes", f'"Muster, Max" <{MAX}>', MAX),
        worker("with an encoded name", f"=?utf-8?q?M=C3=BCller=2C_Max?= <{MAX}>", MAX),
        worker("several", f"{MAX}, Moritz <{MORITZ}>", MAX, MORITZ),
        worker("several, as many recipients as may be", f"{MAX}, {MORITZ}", MAX, MORITZ, to=(B, c)),
        worker("one of them twice", f"{MAX}, {MORITZ}, {MAX}", MAX, MORITZ),
        worker("its domain in capitals", "max@ACME.Example", MAX),
        worker("folded", f"\r\n {MAX},\r\n\t{MORITZ}", MAX, MORITZ),
        worker("a recipient already", MAX, to=(B, MAX)),
        worker("a recipient already, its domain in capitals", "max@ACME.Example", to=(B, MAX)),
        worker("one of two is a recipient already", f"{MAX}, {MORITZ}", MORITZ, to=(B, MAX)),
        worker("the chosen From", OFFICE),
        worker("the chosen From in capitals", "Office@ACME.example"),
        worker("the application's From, replaced", MAX, author=f"Max <{MAX}>"),
        worker("the application's From and another", f"{MAX}, {MORITZ}", MORITZ, author=f"Max <{MAX}>"),
        worker("MAIL FROM is not From", MAX, MAX, path=MAX),
        worker("Reply-To is not From", MAX, MAX, lines=(f"Reply-To: {MAX}",), out=Leaves(OFFICE, reply=MAX)),
        worker("the user itself, own sender", CORA, tenant="worker", user="cora", out=cora),
        worker("another than the user, own sender", MAX, MAX, user="cora", out=cora),
        worker("the user, whose sender it is not", "anna@acme.example", "anna@acme.example", user="anna"),
        worker("a type's address", "angebot@acme.example", user="anna", lines=of_type("quote"), out=Leaves("angebot@acme.example")),
        worker("the tenant's address, a type's From", OFFICE, OFFICE, user="anna", lines=of_type("quote"), out=Leaves("angebot@acme.example")),
        worker("a kept From", "anna@acme.example", tenant="keep", user="anna", author=MINE, out=kept("anna@acme.example", "Anna B")),
        worker("another than the kept From", MAX, MAX, tenant="keep", user="anna", author=MINE, out=kept("anna@acme.example", "Anna B")),
        worker("not one of the user's senders: it is no sender", MAX, MAX, tenant="strict", user="anna", path="anna@acme.example", author=MINE, out=kept("anna@acme.example", "Anna B")),
        worker("no address", "nobody"),
        worker("nothing", ""),
        worker("no domain", "max@"),
        worker("no local part", "@acme.example"),
        worker("a number as domain", "max@[127.0.0.1]"),
        worker("one that is none, and one", f"nobody, {MAX}", MAX),
        worker("a Cc that is there stays in front", MAX, MAX, lines=(f"Cc: C <{c}>",), to=(B, c), out=Leaves(OFFICE, cc=(c,))),
        worker("a Cc of several lines", MAX, MAX, lines=(f"Cc: {c},\r\n x@else.example",), out=Leaves(OFFICE, cc=(c, "x@else.example"))),
        worker("a null sender", MAX, MAX, path="", out=Leaves(OFFICE, path="")),
        worker("besides a copy", MAX, MAX, tenant="copies", out=Leaves(OFFICE, more=(ARCHIVE,))),
        worker("no address, and a copy", "nobody", tenant="copies", out=Leaves(OFFICE, more=(ARCHIVE,))),
        worker("besides a type's copy", MAX, MAX, lines=of_type("note"), out=Leaves(OFFICE, more=(VOUCHERS,))),
        worker("gets the copies anyway", MAX, tenant="same", out=Leaves(OFFICE, more=(MAX,), cc=ANY)),
        Mail("in other letters", "worker", lines=(f"x-case-WORKER: {MAX}",), out=Leaves(OFFICE, more=(MAX,), cc=(MAX,), gone=("X-Case-Worker",))),
        Mail("a header of another name", "other-name", lines=(f"X-Sachbearbeiter: {MAX}",), out=Leaves(OFFICE, more=(MAX,), cc=(MAX,), gone=("X-Sachbearbeiter",))),
        Mail("the usual name, which this tenant has not", "other-name", lines=(f"X-Case-Worker: {MAX}",), out=Leaves(OFFICE, kept=(("X-Case-Worker", MAX),))),
        Mail("a tenant without case workers", "none", lines=(f"X-Case-Worker: {MAX}",), out=Leaves(OFFICE, kept=(("X-Case-Worker", MAX),))),
        Mail("no header", "worker", out=Leaves(OFFICE)),
    ])


# --------------------------------------------------------------------------- the system relay

SYSTEM = """
[system]
email = "noreply@provider.example"
name = "Provider"
sender = "{sender}"
[system.upstream]
host = "127.0.0.1"
port = {port}
encryption = "none"
[tenant_defaults]
system_relay = "when-unconfigured"
"""
NOREPLY = "noreply@provider.example"


def over_the_relay(rig, who):
    """Tenants without a server of their own, but for `server`; gives the relay."""
    relay = Upstream()
    rig.upstreams.append(relay)
    rig.tenant("server", tenant_text(rig, "server", PEOPLE.replace("{v}", "server") + DOCUMENTS))
    install(rig, {
        "plain": PEOPLE + DOCUMENTS + COPIES + WORKER,
        "fixed": sender("replace", reply_to=ANSWER, return_path=BOUNCES) + PEOPLE,
        "original": sender("replace", reply_to="original") + PEOPLE,
        "keep": sender(KEEP) + PEOPLE + DOCUMENTS,
        "strict": sender(STRICT) + PEOPLE,
    }, listeners=[("server", "server")], upstream=False, more=SYSTEM.format(sender=who, port=relay.port))
    return relay


@case("P13", 'the system relay with sender = "system"', start=False)
def _(rig):
    """The tenant's chosen sender goes to Reply-To: where `email` is another than the type's or the
    user's address, either may stand there. Whose From it will be is not known when mail is taken, so
    the relay's own address may become a case worker."""
    relay = over_the_relay(rig, "system")
    route = (("X-Postbote-Route", "system-relay"),)
    one = Leaves(NOREPLY, "Provider", more=(ARCHIVE,), kept=route)
    bare = dataclasses.replace(one, more=())
    vouched = dataclasses.replace(one, reply="buchhaltung@acme.example", more=(ARCHIVE, VOUCHERS))
    play(rig, [
        Mail("the default", "plain", out=one),
        Mail("the application's Reply-To", "plain", lines=XAVER, out=dataclasses.replace(one, reply=X)),
        Mail("a null sender", "plain", path="", out=dataclasses.replace(one, path="")),
        Mail("a user with use_own_sender", "plain", "cora", out=dataclasses.replace(one, reply=CORA)),
        typed("a type with Reply-To and copy", "plain", "rita", "invoice", vouched),
        typed("a type with a name only", "plain", "bert", "letter", dataclasses.replace(one, reply="briefe@acme.example", more=(ARCHIVE, "ablage@acme.example"))),
        typed("a type with an address", "plain", "anna", "quote", dataclasses.replace(one, reply=(OFFICE, "angebot@acme.example"))),
        typed("a type without the grant", "plain", "bert", "invoice", document("invoice", "rechnung@acme.example")),
        worker("a case worker", MAX, MAX, tenant="plain", out=one),
        worker("a case worker whose address the application wrote", MAX, tenant="plain", author=f"Max <{MAX}>", out=one),
        worker("the relay's own address", NOREPLY, tenant="plain", out=dataclasses.replace(one, maybe=(NOREPLY,))),
        Mail("a fixed Reply-To, the return path is the system's", "fixed", out=dataclasses.replace(bare, reply=ANSWER)),
        Mail("the original as Reply-To", "original", out=dataclasses.replace(bare, reply=APP)),
        Mail("an authorised From is not kept", "keep", "anna", author=MINE, out=dataclasses.replace(bare, reply=(OFFICE, "anna@acme.example"))),
        typed("an authorised From and a type", "keep", "rita", "invoice", dataclasses.replace(vouched, more=(VOUCHERS,)), author="R <rita@acme.example>"),
        Mail("reject-unauthorized, right", "strict", "anna", "anna@acme.example", MINE, out=dataclasses.replace(bare, reply=(OFFICE, "anna@acme.example"))),
        *foreign("reject-unauthorized, the system's address", NOREPLY),
    ], relay)
    check(not rig.upstream.received, "something went to the tenant's server")
    play(rig, [Mail("a tenant with a server of its own", "server", out=Leaves(OFFICE, gone=("X-Postbote-Route",))), typed("and a type", "server", "rita", "invoice", INVOICE)])


@case("P14", 'the system relay with sender = "tenant"', start=False)
def _(rig):
    relay = over_the_relay(rig, "tenant")
    one = Leaves(OFFICE, path=NOREPLY, more=(ARCHIVE,), kept=(("X-Postbote-Route", "system-relay"),))
    play(rig, [
        Mail("the tenant's sender, the system's return path", "plain", out=one),
        Mail("a null sender", "plain", path="", out=dataclasses.replace(one, path="")),
        Mail("a user with use_own_sender", "plain", "cora", out=dataclasses.replace(one, address=CORA, name="Cora Süd", reply=CORA)),
        typed("a type", "plain", "rita", "invoice", dataclasses.replace(INVOICE, path=NOREPLY, more=(ARCHIVE, VOUCHERS))),
        typed("a type without the grant", "plain", "bert", "invoice", document("invoice", "rechnung@acme.example")),
        worker("a case worker", MAX, MAX, tenant="plain", out=one),
        worker("the tenant's address is the chosen From", OFFICE, tenant="plain", out=one),
        Mail("[sender].return_path gives way", "fixed", out=Leaves(OFFICE, reply=ANSWER, path=NOREPLY)),
        Mail("an authorised From is kept", "keep", "anna", author=MINE, out=kept("anna@acme.example", "Anna B", path=NOREPLY)),
        typed("an authorised From and a type", "keep", "rita", "invoice", kept("rita@acme.example", "R", reply="buchhaltung@acme.example", path=NOREPLY, more=(VOUCHERS,)), author="R <rita@acme.example>"),
    ], relay)


# --------------------------------------------------------------------------- later


@case("P15", "a retry leaves as the first try did; a reload changes what waits", start=False)
def _(rig):
    """Sender and copies are found anew at every attempt, by the file as it then is."""
    text = sender("replace", **POST) + PEOPLE + kind("invoice", by_header("invoice"), address="rechnung@acme.example", name="ACME Rechnungen", bcc=[VOUCHERS], remove_header=True) + COPIES + WORKER
    install(rig, {"copies": text, "strict": sender(STRICT) + PEOPLE})
    tries = []

    def dot(session, content):
        tries.append((session.sender, sorted(session.recipients), content))
        return "451 4.3.0 later" if len(tries) < 3 else session.take(content)

    rig.upstream.on["dot"] = dot
    invoice = Leaves("rechnung@acme.example", "ACME Rechnungen", path=BOUNCES, more=(ARCHIVE, VOUCHERS), gone=("X-Document-Type",))
    play(rig, [worker("the third try", MAX, MAX, tenant="copies", user="rita", lines=of_type("invoice"), out=invoice)])
    check(len(tries) == 3 and tries.count(tries[0]) == 3, f"the tries differ: {tries}")
    rig.upstream.on.clear()

    f.shut(rig)
    waiting = typed("a type's address, name and right of today", "copies", "rita", "invoice", dataclasses.replace(invoice, address="faktura@acme.example", name="ACME Faktura"))
    plain = Mail("[sender] of today", "copies", "anna", out=Leaves("neu@acme.example", "ACME Post", path=BOUNCES, more=(ARCHIVE,)))
    tokens = [hand_in(rig, mail)[2] for mail in (waiting, plain)]
    rig.wait_log("tenant=copies", "event=deferred")
    since = rig.log.count("event=reloaded")
    # A broken file changes nothing: neither what waits nor what may be handed in.
    rig.tenant("copies", tenant_text(rig, "copies", text.replace('match = { header', 'match = { haeder')))
    rig.wait_log("event=reload-refused")
    stage, reply, _ = hand_in(rig, Mail("", "copies", "anna", lines=of_type("invoice")))
    faults = refusal_faults(Mail("", "copies", "anna", out=document("invoice", "rechnung@acme.example")), stage, reply)
    check(not faults, f"after a refused reload: {faults}")
    rig.tenant("copies", tenant_text(rig, "copies", text.replace("rechnung@", "faktura@").replace("ACME Rechnungen", "ACME Faktura").replace("post@acme", "neu@acme")))
    rig.wait_log("event=reloaded", count=since + 1)
    f.open_again(rig)
    wait_until("what waited", lambda: all(arrived(rig.upstream, token) for token in tokens))
    faults = [f"{mail.what}: {fault}" for mail, token in zip((waiting, plain), tokens) for fault in message_faults(mail, arrived(rig.upstream, token))]
    check(not faults, "\n".join(faults))

    # A grant that is taken away, or given, counts from the next MAIL on.
    mine = Mail("its group has gone", "strict", "anna", "angebot@acme.example", "A <angebot@acme.example>")
    theirs = Mail("a new sender", "strict", "bert", "neu@acme.example", "N <neu@acme.example>")
    changed = (sender(STRICT) + PEOPLE).replace('groups = ["verkauf"]', "groups = []").replace('email = "bert@acme.example"', 'email = "bert@acme.example"\nsenders = ["neu@acme.example"]')
    play(rig, [dataclasses.replace(mine, out=kept("angebot@acme.example", "A")), dataclasses.replace(theirs, out=envelope("neu@acme.example"))])
    rig.tenant("strict", tenant_text(rig, "strict", changed))
    rig.wait_log("event=reloaded", count=since + 2)
    play(rig, [dataclasses.replace(mine, out=envelope("angebot@acme.example")), dataclasses.replace(theirs, out=kept("neu@acme.example", "N"))])


# --------------------------------------------------------------------------- configuration

LOGIN = '[[user]]\nlogin = "x"\npassword = "right"\n'
GROUP = '[[group]]\nname = "verkauf"\nsenders = ["angebot@acme.example"]\n'
HERE = "  # HERE\n"
"""The lines of which one must be named."""


def faulty(table, key, value):
    """A key of a table whose value is wrong, on its own line."""
    head = {
        "sender": "[sender]\n",
        "user": LOGIN,
        "group": '[[group]]\nname = "g"\n',
        "document": '[[document]]\ntype = "invoice"\nmatch = { subject = "x" }\n',
        "copies": "[copies]\n",
        "series": "[series]\n",
    }[table]
    return (f"{table}.{key} = {value}", f"{head}{key} = {value}{HERE}", key)


def condition(match, key):
    """A `match` that is wrong."""
    return (f"match = {match}", f'[[document]]{HERE}type = "invoice"\nname = "x"\nmatch = {match}{HERE}', key)


CONTROLS = ["a\\r\\nBcc: x@evil.example", "a\\nb", "a\\rb", "a\\u0000b", "a\\u001b[31m", "a\\u0085b", "a\\u202eb"]
NO_DOMAIN = ["rechnung", "rechnung@", "@acme.example", "rechnung@acme@example", "a@acme.example, b@acme.example", "A <a@acme.example>", "a@[127.0.0.1]", "a@acme.example\\r\\nRCPT TO:<x@evil.example>", ""]
PROTECTED = ["From", "from", "Sender", "To", "Cc", "Bcc", "Subject", "Date", "Message-ID", "Received", "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "DKIM-Signature"]
NO_HEADER = ["", " ", "X Case", "X-Ca:se", "X-Case :", "X-Case:", "X-Case: ", "X-Fäll", "X-Case\\r\\nBcc", "X-Case\\u0000", "X-Case\\t"]

# What it is, what stands behind [upstream], the key that must be named.
BAD = [
    ("a group that does not exist", LOGIN + f'groups = ["verkauf", "nobody"]{HERE}' + GROUP, "groups"),
    ("a group that does not exist, no group at all", LOGIN + f'groups = ["verkauf"]{HERE}', "groups"),
    ("a group in other letters", LOGIN + f'groups = ["Verkauf"]{HERE}' + GROUP, "groups"),
    ("a group defined twice", GROUP + GROUP.replace("]]\n", "]]" + HERE).replace('"verkauf"\n', '"verkauf"' + HERE), "group"),
    ("a group without a name", f'[[group]]{HERE}senders = ["a@acme.example"]\n', "name"),
    ("a group with an empty name", f'[[group]]{HERE}name = ""{HERE}senders = []\n', "name"),
    ("groups that are no list", LOGIN + f'groups = "verkauf"{HERE}' + GROUP, "groups"),
    ("a document without a type", f'[[document]]{HERE}match = {{ subject = "x" }}\nname = "x"\n', "type"),
    ("a document without a match", f'[[document]]{HERE}type = "invoice"\nname = "x"\n', "match"),
    condition("{}", "match"),
    condition('{ value = "invoice" }', "(match|header|value)"),
    condition('{ sbject = "x" }', "sbject"),
    condition('{ subject = "x", typ = "y" }', "typ"),
    condition('{ from = "x" }', "from"),
    condition("{ subject = 5 }", "subject"),
    condition('"invoice"', "match"),
    condition('{ subject = "a\\nb" }', "subject"),
    condition('{ login = "a\\u0000b" }', "login"),
    condition('{ listener = "a\\r\\nb" }', "listener"),
    condition('{ mail_from = "a\\nb@acme.example" }', "mail_from"),
    *[condition(f'{{ header = "{name}", value = "x" }}', "header") for name in NO_HEADER],
    *[condition(f'{{ header = "X-Type", value = "{value}" }}', "value") for value in CONTROLS],
    *[faulty("sender", key, f'"{value}"') for key in ("address", "return_path") for value in NO_DOMAIN],
    *[faulty("sender", "reply_to", f'"{value}"') for value in ("office", "orignal", "office@", "a@b.example\\nBcc: x@evil.example")],
    *[faulty("user", "email", f'"{value}"') for value in NO_DOMAIN],
    *[faulty("document", "address", f'"{value}"') for value in NO_DOMAIN],
    *[faulty("document", "reply_to", f'"{value}"') for value in ("buchhaltung", "buchhaltung@", "a@b.example\\nBcc: x@evil.example")],
    *[faulty(table, key, f'["a@acme.example", "{value}"]') for table, key in (("user", "senders"), ("group", "senders"), ("document", "bcc"), ("copies", "bcc")) for value in NO_DOMAIN],
    *[faulty(table, "senders", f'["{value}"]') for table in ("user", "group") for value in ("*@mü*.example", "a@*ü.example", "a@x.m?ü.example")],
    *[faulty(table, key, "5") for table, key in (("group", "senders"), ("document", "bcc"), ("copies", "bcc"), ("copies", "case_worker_header"), ("document", "name"), ("user", "signature"))],
    *[faulty(table, key, '"x"') for table, key in (("user", "use_own_sender"), ("document", "remove_header"), ("group", "senders"), ("copies", "bcc"))],
    *[faulty(table, "name", f'"{value}"') for table in ("sender", "user", "document") for value in CONTROLS],
    *[(f"group.name = {value}", f'[[group]]\nname = "{value}"{HERE}senders = []\n', "name") for value in CONTROLS],
    *[(f"document.type = {value}", f'[[document]]\nmatch = {{ subject = "x" }}\ntype = "{value}"{HERE}', "type") for value in ("", *CONTROLS)],
    *[faulty("user", "signature", f'"Gr\\u00fc\\u00dfe{value}"') for value in ("\\u0000", "\\ra", "\\u001b[31m", "\\u0007", "\\u0085", "\\u007f")],
    *[faulty("copies", "case_worker_header", f'"{name}"') for name in NO_HEADER + PROTECTED],
    *[faulty("series", "messages", value) for value in ("0", "-1", '"50"', "1.5")],
    *[faulty("series", "pause_ms", value) for value in ("-1", '"2000"', "1.5", "99999999999999999999")],
    *[faulty(table, "mystery", '"x"') for table in ("sender", "user", "group", "document", "copies", "series")],
    ("application_from of another kind", f'[sender]\napplication_from = "keep"{HERE}', "application_from"),
    ("[document] instead of [[document]]", f'[document]{HERE}type = "x"\nmatch = {{ subject = "x" }}\n', "document"),
    ("[[copies]] instead of [copies]", f"[[copies]]{HERE}bcc = []\n", "copies"),
]


def said(rig, severity, key, lines):
    """The exit code of `check`, all it says, and what it says of a key on one of these lines."""
    done = rig.run("check", code=None)
    text = done.stdout.decode()
    return done.returncode, text, re.search(rf"(?m)acme\.toml:({'|'.join(map(str, lines))}): {severity}: \S*\b{key}\b", text)


def tenant_file(rig, sections):
    """Writes acme's file; gives the lines that are marked."""
    text = TENANT.format(tenant="", port=rig.upstream.port, upstream="", after=sections)
    rig.tenant("acme", text)
    return [number for number, line in enumerate(text.split("\n"), 1) if "# HERE" in line]


@case("P16", "configuration of senders, types, copies, series that must be refused, with file, line and key", start=False)
def _(rig):
    """Row by row with `check`; then all at once, and at a reload."""
    wrong = []
    for what, sections, key in BAD:
        code, text, found = said(rig, "error", key, tenant_file(rig, sections))
        if code != 78 or not found:
            wrong.append(f"{what}: exit code {code}, nothing of {key} in {text!r}" if not found else f"{what}: exit code {code}")
        if any(ord(letter) < 32 and letter != "\n" for letter in text):
            wrong.append(f"{what}: a raw control character in {text!r}")
    several = BAD[0][1] + "".join(sections for _, sections, _ in (faulty("document", "address", '"rechnung"'), faulty("copies", "case_worker_header", '"From"'), faulty("series", "messages", "0")))
    lines = tenant_file(rig, several)
    found = {said(rig, "error", key, lines)[2] is not None for key in ("groups", "address", "case_worker_header", "messages")}
    if found != {True}:
        wrong.append("not every problem is said at once")
    tenant_file(rig, "")
    rig.start()
    tenant_file(rig, several)
    rig.wait_log("event=reload-refused")
    rig.good_client()
    tenant_file(rig, "")
    check(not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong))


# What may be strange and is right.
GOOD = {
    "a pattern that matches nothing": LOGIN + 'senders = ["*@nowhere.example"]\n',
    "patterns that overlap": LOGIN + 'email = "a@acme.example"\nsenders = ["*@acme.example", "a@acme.example", "*@*.acme.example", "*@shop.acme.example"]\n',
    "two groups with one address": LOGIN + 'groups = ["verkauf", "zwei"]\n' + GROUP + GROUP.replace("verkauf", "zwei"),
    "a group named twice by a user": LOGIN + 'groups = ["verkauf", "verkauf"]\n' + GROUP,
    "a group that nobody is in": GROUP,
    "a group behind its user": LOGIN + 'groups = ["verkauf"]\n' + GROUP,
    "empty lists": LOGIN + 'senders = []\ngroups = []\n[[group]]\nname = "g"\nsenders = []\n[copies]\nbcc = []\n',
    "a signature of several lines": LOGIN + 'email = "a@acme.example"\nuse_own_sender = true\nsignature = "Mit freundlichen Grüßen\\nAnna"\n',
    "a signature with CR LF": LOGIN + 'email = "a@acme.example"\nuse_own_sender = true\nsignature = "Mit freundlichen Grüßen\\r\\nAnna"\n',
    "a signature as TOML has it": LOGIN + 'email = "a@acme.example"\nuse_own_sender = true\nsignature = """\nMit freundlichen Grüßen\n-- \nAnna\n"""\n',
    "a type without address": kind("letter", by_header("letter"), name="ACME Briefe"),
    "a type's name of one's own": kind("Mahnung, Stufe 2", by_header("x"), name="Müller & Söhne, \"Süd\""),
    "all conditions": kind("order", 'login = "a*", listener = "i?", mail_from = "*@acme.example", subject = "*", ' + by_header("*", "X-Kind"), name="x", remove_header=True),
    "a granted address": LOGIN + 'groups = ["verkauf"]\n' + GROUP + kind("quote", by_header("x"), address="angebot@acme.example"),
    "addresses beyond ASCII": LOGIN + 'senders = ["*@müller.example"]\n[copies]\nbcc = ["archiv@müller.example"]\n',
    "patterns beyond ASCII": LOGIN + 'senders = ["*@*.müller.example", "*@kasse-*.MÜLLER.example", "büro*@acme.example"]\n',
    "another case worker header": '[copies]\ncase_worker_header = "X-Sachbearbeiter"\n',
    "series": "[series]\nmessages = 1\npause_ms = 1\n",
    "keep-authorized": sender(KEEP, name="Müller"),
    "the original as Reply-To": sender(STRICT, reply_to="original", return_path=BOUNCES),
}

NOBODY = [
    ("nobody has the address", LOGIN + f'email = "a@acme.example"\nsenders = ["*@shop.acme.example"]\n[[document]]{HERE}type = "quote"{HERE}match = {{ subject = "x" }}\naddress = "angebot@acme.example"{HERE}', "document"),
    ("a group has it that nobody is in", LOGIN + GROUP + f'[[document]]{HERE}type = "quote"{HERE}match = {{ subject = "x" }}\naddress = "angebot@acme.example"{HERE}', "document"),
    ("a subdomain of a pattern", LOGIN + f'senders = ["*@acme.example"]\n[[document]]{HERE}type = "quote"{HERE}match = {{ subject = "x" }}\naddress = "angebot@shop.acme.example"{HERE}', "document"),
]
UNUSED = [
    ("use_own_sender without email", LOGIN + f"use_own_sender = true{HERE}", "(use_own_sender|email)"),
    ("remove_header without a header to remove", f'[[document]]{HERE}type = "quote"\nname = "x"\nmatch = {{ subject = "x" }}{HERE}remove_header = true{HERE}', "remove_header"),
]


@case("P17", "configuration that is warned of, and configuration that is right", start=False)
def _(rig):
    """Nobody may use a type where no login has its address, and no client without login is the
    tenant's. What does nothing may be a warning or an error."""
    rig.write("postbote.toml", OPERATOR.format(server="", listener="", retry="", more="").replace('tenant = "acme"\n', ""))
    wrong = []
    for what, sections, key in NOBODY:
        code, text, found = said(rig, "warning", key, tenant_file(rig, sections))
        if code != 0 or not found:
            wrong.append(f"{what}: exit code {code}, no warning of {key} in {text!r}")
    for what, sections, key in UNUSED:
        code, text, found = said(rig, "(?:warning|error)", key, tenant_file(rig, sections))
        if not found:
            wrong.append(f"{what}: exit code {code}, nothing of {key} in {text!r}")
    for what, sections in GOOD.items():
        tenant_file(rig, sections)
        done = rig.run("check", code=None)
        if done.returncode != 0:
            wrong.append(f"{what}: exit code {done.returncode}: {done.stdout.decode()!r}")
    _, text, found = said(rig, "warning", "document", tenant_file(rig, GOOD["a granted address"].replace("[[document]]\n", "[[document]]" + HERE)))
    if found:
        wrong.append(f"a type that somebody may use is warned of: {text!r}")
    check(not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong))


# --------------------------------------------------------------------------- at run time


def odd(what, value, *added, maybe=(), lines=(), **more):
    """X-Case-Worker of these octets: these are added, those may be."""
    value = value if isinstance(value, bytes) else value.encode()
    out = Leaves(OFFICE, more=added, cc=added, maybe=maybe, gone=("X-Case-Worker", "X-Case-Worker "))
    return Mail(what, "worker", lines=(b"X-Case-Worker: " + value, *lines), out=out, **more)


EVIL = "evil@x.example"
MANY = [f"worker{number:03}@acme.example" for number in range(350)]


@case("P18", "hostile case worker headers", start=False)
def _(rig):
    """Whatever stands there makes no field, no command and no line that is too long, and whoever gets
    the message because of it is to be seen in Cc."""
    install(rig, {"worker": "[copies]\n" + WORKER})
    play(rig, [
        odd("a field in a fold", f"{MAX}\r\n Bcc: {EVIL}", maybe=(MAX, EVIL)),
        odd("a field in a fold with a tab", f"{MAX},\r\n\tBcc: {EVIL}", maybe=(MAX, EVIL)),
        odd("a fold in an address", "max@acme\r\n .example", maybe=(MAX,)),
        odd("a fold of blanks only", f"{MAX}\r\n \r\n\t\r\n ,{MORITZ}", maybe=(MAX, MORITZ)),
        odd("a bare CR", f"{MAX}\rBcc: {EVIL}", maybe=(MAX, EVIL)),
        odd("a bare LF begins a field, which is Bcc", f"{MAX}\nBcc: {EVIL}", MAX),
        odd("two addresses without a comma", f"{MAX} {EVIL}", maybe=(MAX, EVIL)),
        odd("two in brackets", f"<{MAX}><{EVIL}>", maybe=(MAX, EVIL)),
        odd("text behind the bracket", f"<{MAX}>{EVIL}", maybe=(MAX, EVIL)),
        odd("semicolons", f"{MAX}; {MORITZ}", maybe=(MAX, MORITZ)),
        odd("a group", f"Team: {MAX}, {MORITZ};", maybe=(MAX, MORITZ)),
        odd("an empty group", "undisclosed-recipients:;"),
        odd("commas", f",,,{MAX},,", maybe=(MAX,)),
        odd("commas only", "," * 1000),
        odd("an address in an encoded word", "=?utf-8?q?evil=40x.example?="),
        odd("an address in brackets in an encoded word", "=?utf-8?b?PGV2aWxAeC5leGFtcGxlPg==?="),
        odd("a field in an encoded name", f"=?utf-8?q?x=0D=0ABcc:_evil=40x.example?= <{MAX}>", maybe=(MAX,)),
        odd("a comma in an encoded name", f"=?utf-8?q?evil=40x.example=2C_?= <{MAX}>", maybe=(MAX,)),
        odd("a comma in quotes", f'"{EVIL}, x" <{MAX}>', maybe=(MAX,)),
        odd("a fold in quotes", f'"Max\r\n Muster" <{MAX}>', MAX),
        odd("a quoted line end in quotes", f'"Max\\\r\n Bcc: x" <{MAX}>', maybe=(MAX,)),
        odd("quotes without an end", f'"{MAX}', maybe=(MAX,)),
        odd("quotes that end late", f'"x\\" <{EVIL}>, "y" <{MAX}>', maybe=(MAX, EVIL)),
        odd("a comment", f"({EVIL}) {MAX}", MAX),
        odd("a comment without an end", f"({EVIL} {MAX}", maybe=(MAX,)),
        odd("a source route", f"<@evil.example,@x.example:{MAX}>", maybe=(MAX,)),
        odd("control characters", b"ma\x01x@acme.example, mo\x1b[31mritz@acme.example"),
        odd("a control character in the name", b"M\x07ax <max@acme.example>", maybe=(MAX,)),
        odd("raw octets in the name", b"M\xfcller <max@acme.example>", maybe=(MAX,)),
        odd("raw octets in the address", b"m\xfcx@acme.example", maybe=("müx@acme.example",)),
        odd("UTF-8 in the domain", "max@müller.example", maybe=("max@xn--mller-kva.example",)),
        odd("letters of another alphabet", "max@аcme.example", maybe=("max@xn--cme-5cd.example",)),
        odd("an option", "-oQ/x@acme.example, |id@acme.example", maybe=("-oQ/x@acme.example", "|id@acme.example")),
        odd("parameters of RCPT", f"<{MAX} NOTIFY=NEVER>, <{MORITZ}> ORCPT=rfc822;x", maybe=(MAX, MORITZ)),
        odd("the recipient in capitals", "B@else.example", maybe=("B@else.example",)),
        odd("a local part of 65 octets", "l" * 65 + "@acme.example"),
        odd("10 kB of one local part", "l" * 10_240 + "@acme.example"),
        odd("10 kB without an address", "nobody " * 1_500),
        odd("10 kB of a name", "x" * 10_240 + f" <{MAX}>", maybe=(MAX,)),
        odd("10 kB of brackets", "<" * 10_240),
        odd("10 kB of comments", "(" * 10_240 + MAX, maybe=(MAX,)),
        odd("10 kB of quotes", '"' * 10_240 + MAX, maybe=(MAX,)),
        odd("10 kB of folds", "\r\n " * 3_400 + MAX, maybe=(MAX,)),
        odd("10 kB of one address", ", ".join([MAX] * 500), maybe=(MAX,)),
        odd("10 kB of addresses", ", ".join(MANY), maybe=tuple(MANY)),
        odd("the field twice", MAX, maybe=(MAX, MORITZ), lines=(f"X-Case-Worker: {MORITZ}",)),
        odd("the field with a blank before its colon", MAX, maybe=(MAX,), lines=("X-Case-Worker : nobody",)),
        odd("a folded Bcc beside it", MAX, MAX, lines=(f"Bcc:\r\n {EVIL}",)),
    ])
    check(not any(b"evil" in line.lower() and not line.startswith(b"RCPT TO:<evil@x.example>") for line in rig.upstream.lines if line[:4] in (b"MAIL", b"RCPT")), "a command was made")


BUREAU = Leaves(OFFICE, "Büro")
PLAIN = Leaves(OFFICE)


@case("P19", "document types by odd octets", start=False)
def _(rig):
    """What is compared is the value, never a pattern in it; a value is compared whole."""
    slow = "*a" * 40 + "*z"
    types = kind("invoice", by_header("invoice"), name="Invoice") + kind("bureau", by_header("Büro*"), name="Büro") + kind("slow", by_header(slow, "X-Slow"), name="Slow") + kind("any", by_header("*", "X-Any"), name="Any")
    install(rig, {"odd": types})

    def row(what, value, out=PLAIN, name=b"X-Document-Type"):
        value = value if isinstance(value, bytes) else value.encode()
        return Mail(what, "odd", lines=(name + b": " + value,), out=out)

    begun = time.monotonic()
    play(rig, [
        row("the right one", "invoice", Leaves(OFFICE, "Invoice")),
        row("nothing", ""),
        row("a pattern as value", "*"),
        row("a pattern that would match", "inv*"),
        row("a question mark", "?nvoice"),
        row("invalid UTF-8 behind it", b"invoice\xff"),
        row("half a character behind it", b"invoice\xc3"),
        row("an overlong slash", b"invoice\xc0\xaf"),
        row("a control character behind it", b"invoice\x01"),
        row("an escape in it", b"inv\x1b[31moice"),
        row("a zero width space behind it", "invoice\u200b"),
        row("a mark of direction before it", "\u202einvoice"),
        row("letters of another alphabet", "invоice"),
        row("a fold in it", "inv\r\n oice"),
        row("two words by a fold", "invoice\r\n invoice"),
        row("a field in a fold", "invoice\r\n Bcc: evil@x.example"),
        row("quotes", '"invoice"'),
        row("a path", "../../invoice"),
        row("60 kB", "invoice" * 8_600),
        row("raw UTF-8", "Büro 7", BUREAU),
        row("raw Windows-1252", b"B\xfcro 7", Leaves(OFFICE, ("ACME", "Büro"))),
        row("an encoded word", "=?utf-8?q?B=C3=BCro?=", Leaves(OFFICE, ("ACME", "Büro"))),
        row("anything", b"\x01\xff\x1b", Leaves(OFFICE, "Any"), b"X-Any"),
        row("60 kB for a pattern of many stars", "a" * 60_000, PLAIN, b"X-Slow"),
        row("60 kB for a pattern of many stars, with its end", "a" * 60_000 + "z", Leaves(OFFICE, "Slow"), b"X-Slow"),
    ])
    took = time.monotonic() - begun
    check(took < 15, f"{took:.0f} s for a handful of messages")


@case("P20", "subject globs and encoded words", start=False)
def _(rig):
    """The decoded text is compared: RFC 2047, else UTF-8, else Windows-1252."""
    types = kind("invoice", 'subject = "Rechnung*"', name="Invoice") + kind("dunning", 'subject = "*Mahnung für*"', name="Dunning") + kind("coded", 'subject = "=?utf-8?q?X*"', name="Coded")
    install(rig, {"odd": types})

    def row(what, subject, name="ACME"):
        subject = subject if isinstance(subject, bytes) else subject.encode()
        return Mail(what, "odd", lines=(b"Subject: " + subject,), out=Leaves(OFFICE, name))

    play(rig, [
        row("plain", "Rechnung 4711", "Invoice"),
        row("alone", "Rechnung", "Invoice"),
        row("not at the beginning", "AW: Rechnung 4711"),
        row("nothing", ""),
        row("quoted-printable", "=?utf-8?q?Rechnung_4711?=", "Invoice"),
        row("base64", "=?utf-8?B?UmVjaG51bmcgNDcxMQ==?=", "Invoice"),
        row("every letter encoded", "=?utf-8?q?=52=65=63=68=6E=75=6E=67?=", "Invoice"),
        row("Latin-1", "=?iso-8859-1?Q?2._Mahnung_f=FCr_Max?=", "Dunning"),
        row("Windows-1252", "=?windows-1252?q?2._Mahnung_f=FCr_Max?=", "Dunning"),
        row("two words, the blank between them is none", "=?utf-8?q?2._Mah?= =?utf-8?q?nung_f=C3=BCr?= Max", "Dunning"),
        row("two words, folded", "=?utf-8?q?2._Mah?=\r\n =?iso-8859-1?q?nung_f=FCr_Max?=", "Dunning"),
        row("a blank between a word and text counts", "=?utf-8?q?Rech?= nung"),
        row("raw UTF-8", "2. Mahnung für Max", "Dunning"),
        row("raw UTF-8, folded", "2. Mahnung\r\n für Max", "Dunning"),
        row("raw Windows-1252", b"2. Mahnung f\xfcr Max", "Dunning"),
        row("encoded, but not at the beginning", "=?utf-8?q?AW=3A_Rechnung?="),
        row("an unknown character set", "=?x-unknown?q?Rechnung?="),
        row("a word without its end", "=?utf-8?q?Rechnung"),
        row("base64 that is none", "=?utf-8?b?Rechnung*?="),
        row("an unknown encoding", "=?utf-8?x?Rechnung?="),
        row("what is decoded is not decoded again", "=?utf-8?q?=3D=3Futf-8=3Fq=3FRechnung=3F=3D?="),
        row("a pattern is text, not an encoded word", "=?utf-8?q?=3D=3Futf-8=3Fq=3FX_1?=", "Coded"),
        row("a field in a word", "=?utf-8?q?Rechnung=0D=0ABcc:_evil=40x.example?=", ("Invoice", "ACME")),
        row("a NUL in a word", "=?utf-8?q?Rechnung=00x?=", ("Invoice", "ACME")),
        row("an invalid octet in a word", "=?utf-8?q?Rechnung=FF?=", ("Invoice", "ACME")),
        row("1000 words", "\r\n ".join(["=?utf-8?q?Rechnung?="] * 1_000), "Invoice"),
        row("60 kB", "Rechnung " + "x " * 30_000, "Invoice"),
    ])
    check(not any(b"evil" in line for line in rig.upstream.lines if line[:4] in (b"MAIL", b"RCPT")), "a recipient was made")
