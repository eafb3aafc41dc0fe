"""H: malicious or broken upstream SMTP."""

import base64, os, pathlib, re, socket, ssl, subprocess, tempfile, threading, time, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import rig as base
from rig import not_here, CANARY, TOKEN, Broken, Client, Upstream, case, check, wait_until
from cases._g_clock import fast
from cases._h_certificates import Authority, pin, server

TENANT = """
name = "{name}"
email = "office@{name}.example"
{tenant}
[upstream]
host = "{host}"
port = {port}
encryption = "{encryption}"
{keys}
[[user]]
login = "{name}"
password = "pass-{name}"
senders = ["*@source.example"]
"""

LOGIN = f'username = "office"\npassword = "{CANARY}"'
PLAIN = base64.b64encode(f"\0office\0{CANARY}".encode())
SECRETS = [CANARY.encode(), base64.b64encode(CANARY.encode()), PLAIN]


def add(rig, name, upstream, keys="", host="127.0.0.1", encryption="none", tenant="", port=None):
    """A tenant with an upstream and a login of its own."""
    if upstream not in rig.upstreams:
        rig.upstreams.append(upstream)
    rig.tenant(name, TENANT.format(name=name, tenant=tenant, host=host, port=port or upstream.port, encryption=encryption, keys=keys))
    return upstream


def begin(rig):
    """Starts the server. Each tenant may keep its two connections (V4 counts descriptors)."""
    rig.start()
    rig.descriptors += 2 * len(list((rig.directory / "tenants").iterdir()))


def hand_in(rig, name, to=("b@else.example",), content=None):
    """A message of a tenant; gives (id, token)."""
    client = rig.client()
    if name != "acme":
        client.login(name, f"pass-{name}")
    content = content or rig.message()
    identity = client.message(content, to=to)
    client.expect("QUIT", "221")
    client.close()
    return identity, TOKEN.search(content)[0]


def parallel(rig, behaviours, keys="", run=None, **settings):
    """Every behaviour (name: (stage, answer) or a ready upstream) at a tenant of its own, at the same
    time; gives {name: (upstream, id, token)}. The rig is not started yet."""
    upstreams = {}
    for name, behaviour in behaviours.items():
        upstream = behaviour if isinstance(behaviour, Upstream) else Upstream()
        if not isinstance(behaviour, Upstream):
            upstream.on.update(dict([behaviour]) if isinstance(behaviour, tuple) else behaviour)
        upstreams[name] = add(rig, name, upstream, keys, **settings)
    rig.canaries += SECRETS[1:]
    begin(rig)
    return {name: (upstream, *hand_in(rig, name)) for name, upstream in upstreams.items()}


def of(rig, identity, event, count=1):
    """Waits for log lines of a message."""
    return rig.wait_log(f"id={identity} ", f"event={event} ", count=count)


def value(line, key):
    found = re.search(rf'\b{key}=(?:"((?:[^"\\]|\\.)*)"|(\S+))', line)
    return found and (found[1] if found[1] is not None else found[2])


def events(rig, identity):
    return re.findall(rf"id={identity} \S+ event=(\S+)", rig.log)


def tokens(upstream):
    return upstream.tokens()


def is_bounce(message):
    return b"multipart/report" in message.raw[:4000]


def bounces(upstream):
    return [m for m in list(upstream.received) if is_bounce(m)]


def deferred_then_sent(rig, messages, dsn=None, words=None):
    """Each is deferred, nothing is bounced; when the upstream behaves, each arrives once."""
    for name, (upstream, identity, token) in messages.items():
        line = of(rig, identity, "deferred")[0]
        if dsn:
            check(re.fullmatch(dsn, value(line, "dsn")), f"{name}: dsn in {line}")
        if words:
            wanted = words[name] if isinstance(words, dict) else words
            check(re.search(wanted, line), f"{name}: {wanted!r} does not stand in {line}")
    for upstream, _, _ in messages.values():
        upstream.on.clear()
    for name, (upstream, identity, token) in messages.items():
        wait_until(f"{name}: it arrives when the upstream works again:\n{rig.log[-2000:]}", lambda: token in tokens(upstream), 10)
        check(not bounces(upstream) and "bounced" not in events(rig, identity), f"{name}: it was bounced")
        check(tokens(upstream).count(token) == 1, f"{name}: it arrived {tokens(upstream).count(token)} times")


def says(words):
    """A handler that always says the same."""
    return lambda session, line: words


def foreign(words):
    """A handler for RCPT: says this to recipients that are not our own (bounces get through)."""
    return lambda session, line: words if b"else.example" in line else session._usual("RCPT", line)


def endless(piece, counts):
    """A handler that sends a piece for ever."""

    def send(session, _):
        session.socket.settimeout(20)
        while True:
            session.socket.sendall(piece * 100)
            counts[session.upstream] = counts.get(session.upstream, 0) + len(piece) * 100

    return send


def once(piece):
    """A handler that sends octets and then holds the connection until the other side closes."""

    def send(session, _):
        session.socket.sendall(piece)
        hold(session)

    return send


def hold(session):
    while session.socket.recv(65536):
        pass
    raise ConnectionError


# --------------------------------------------------------------------------- endless and slow


@case("H01", "10 MiB without a line end", start=False)
def _(rig):
    flood = once(b"220 " + b"x" * (10 << 20))
    bare = once(b"x" * (10 << 20))
    messages = parallel(rig, {"banner": ("banner", flood), "bare": ("banner", bare), "ehlo": ("EHLO", flood), "mail": ("MAIL", flood), "rcpt": ("RCPT", flood)})
    memory = rig.resident()
    deferred_then_sent(rig, messages, dsn=r"4\.\d+\.\d+")
    check(value(of(rig, messages["banner"][1], "deferred")[0], "dsn") == "4.4.2", "the banner: not 4.4.2")
    check(rig.resident(peak=True) - memory < 24, f"memory rose by {rig.resident(peak=True) - memory:.0f} MiB")


@case("H02", "endless 220- and 250- lines", start=False)
def _(rig):
    counts = {}
    table = {"banner": b"220-x\r\n", "ehlo": b"250-x\r\n", "mail": b"250-x\r\n", "rcpt": b"250-x\r\n", "data": b"354-x\r\n"}
    messages = parallel(rig, {name: ({"banner": "banner"}.get(name, name.upper()), endless(piece, counts)) for name, piece in table.items()})
    deferred_then_sent(rig, messages, dsn=r"4\.\d+\.\d+", words="without end")
    # 64 KiB are read; the rest lies in buffers of the kernel.
    for name, (upstream, _, _) in messages.items():
        check(counts.get(upstream, 0) / upstream.connections < 16 << 20, f"{name}: {counts[upstream]} octets were taken")


SPEED = 100
"""The server's clock runs so many times faster: 300 s are 3 s."""


@case("H03", "a banner octet every 30 s", start=False, environment=fast(SPEED))
def _(rig):
    """The deadline of 300 s for the whole greeting is passed on a faster clock."""
    ended = []

    def drip(session, _):
        began = time.monotonic()
        try:
            for octet in b"220 " + b"x" * 400:
                session.socket.sendall(bytes([octet]))
                session.socket.settimeout(30 / SPEED)
                try:
                    if not session.socket.recv(10):
                        break
                except TimeoutError:
                    pass
        finally:
            ended.append((time.monotonic() - began) * SPEED)
        session.close()

    tarpit = add(rig, "tarpit", Upstream())
    tarpit.on["banner"] = drip
    begin(rig)
    messages = [hand_in(rig, "tarpit") for _ in range(10)]
    for _ in range(20):
        hand_in(rig, "acme")
    rig.upstream.wait(20)
    check(tarpit.connections <= 2, f"{tarpit.connections} connections to the tarpit")
    check(not ended, "the others had to wait for the tarpit")
    line = of(rig, messages[0][0], "deferred")[0]
    check(value(line, "dsn") == "4.4.2", line)
    wait_until("the tarpit was left", lambda: ended)
    check(270 < ended[0] < 400, f"left after {ended[0]:.0f} s")
    tarpit.on.clear()
    tarpit.wait(10)


@case("H04", "554 and 421 banner", start=False)
def _(rig):
    words = {"b554": "554 go away", "b421": "421 4.3.2 later", "b521": "521 no mail here", "b550": "550 5.7.1 blocked by a list"}
    messages = parallel(rig, {name: ("banner", says(text)) for name, text in words.items()})
    deferred_then_sent(rig, messages, words=words)


# --------------------------------------------------------------------------- TLS


def clear_lines(upstream):
    """V3: nothing but greetings went over the wire in clear."""
    for line in list(upstream.lines):
        verb = line.split(b" ")[0].upper()
        check(verb not in (b"AUTH", b"MAIL", b"RCPT", b"DATA"), f"sent in clear: {line[:100]!r}")
        for secret in SECRETS:
            check(secret not in line, "a password was sent in clear")


def without_tls(start="220 go", capabilities=("STARTTLS", "AUTH PLAIN LOGIN", "PIPELINING"), tls=None):
    """An upstream that offers STARTTLS and then says this to it."""
    upstream = Upstream(capabilities=capabilities)
    if start is not None:
        upstream.on["STARTTLS"] = start if callable(start) else says(start)
    return upstream


@case("H05", "no STARTTLS, or refused, or answered in clear", start=False)
def _(rig):
    """4.7.x with the server's own code where it gave one; the alert is `route-failing`."""
    table = {
        "none": without_tls(None, ("AUTH PLAIN LOGIN",)),
        "s454": without_tls("454 4.7.0 TLS not available"),
        "s502": without_tls("502 5.5.1 not implemented"),
        "s354": without_tls("354 go on"),
        "s250": without_tls("250 ok"),
        "s220": without_tls("220 go"),  # and then plain text
        "hello": without_tls(lambda s, _: (s.say("220 go"), s.socket.recv(4096), s.say("220 upstream.example ESMTP"))[2]),
        "helo": without_tls(None, ()),
    }
    table["helo"].on["EHLO"] = says("502 what?")
    messages = parallel(rig, table, LOGIN, encryption="starttls")
    for name, (upstream, identity, _) in messages.items():
        line = of(rig, identity, "deferred")[0]
        check(re.match(r"4\.7\.|5\.5\.1", value(line, "dsn")), f"{name}: {line}")
        check("bounced" not in events(rig, identity), f"{name}: bounced")
        rig.wait_log("event=route-failing", f"tenant={name} ")
        clear_lines(upstream)
        check(not upstream.received, f"{name}: delivered in clear")
    check(all(m["state"] in ("deferred", "queued") for m in rig.queue()), "not deferred")


def upstream_tls(pair, low=None, implicit=False, login=("office", CANARY)):
    upstream = Upstream(tls=server(pair, low), login=login)
    upstream.implicit = implicit
    return upstream


def inject(then_tls):
    def answer(session, _):
        session.say(b"220 Ready\r\n250-x\r\n250 AUTH LOGIN\r\n")
        if then_tls:
            session.start_tls()

    return answer


def inject_late(session, _):
    """The injected reply comes when the handshake has begun."""
    session.say("220 Ready")
    session.socket.recv(1, socket.MSG_PEEK)
    session.say(b"250-x\r\n250 AUTH LOGIN\r\n")
    session.start_tls()


@case("H06", "replies injected before the handshake", start=False)
def _(rig):
    pair = Authority(rig.directory / "pki", "ca").issue()
    keys = LOGIN + f'\nca_file = "{rig.directory}/pki/ca/ca.pem"'
    table = {name: upstream_tls(pair) for name in ("plain", "tls", "late")}
    handlers = {"plain": inject(False), "tls": inject(True), "late": inject_late}
    for name, upstream in table.items():
        upstream.on["STARTTLS"] = handlers[name]
    messages = parallel(rig, table, keys, encryption="starttls")
    for name, (upstream, identity, _) in messages.items():
        of(rig, identity, "deferred")
        check(not upstream.logins and not upstream.received, f"{name}: a login or mail after an injected reply")
        clear_lines(upstream)
    deferred_then_sent(rig, messages)


YESTERDAY, LAST_YEAR, TOMORROW, NEXT_YEAR = (time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 86400 * d)) for d in (-1, -365, 1, 365))

CERTIFICATES = {
    "selfsigned": (dict(self_signed=True), None, r"elf-signed"),
    "expired": (dict(start=LAST_YEAR, end=YESTERDAY), None, r"xpired"),
    "early": (dict(start=TOMORROW, end=NEXT_YEAR), None, r"not valid yet|not yet valid|NotValidYet"),
    "wrongname": (dict(san="DNS:mail.elsewhere.example"), None, r"not valid for|NotValidForName|name"),
    "cnonly": (dict(san=None, name="localhost"), None, r"not valid for|NotValidForName|name"),
    "sha1": (dict(digest="sha1"), ssl.TLSVersion.TLSv1_3, r"certificate"),
    "rsa512": (dict(key="512"), ssl.TLSVersion.TLSv1_2, r"certificate|andshake|TLS"),
}
"""Fault: (how the certificate is made, highest TLS version, words of the reason)."""


def suspended(rig, messages, words):
    """Each waits as `suspended` with its reason; nothing was bounced, no password was sent."""
    for name, (upstream, identity, _) in messages.items():
        line = of(rig, identity, "deferred")[0]
        check(value(line, "dsn") == "4.7.5", f"{name}: {line}")
        reason = rig.wait_log("event=route-suspended", f"tenant={name} ")[0]
        check(re.search(words[name], reason), f"{name}: {words[name]!r} does not stand in {reason}")
        check(value(reason, "remedy"), f"{name}: no remedy in {reason}")
        found = [m for m in rig.queue() if m["id"] == identity]
        check(found and found[0]["state"] == "suspended", f"{name}: {found}")
        check(re.search(words[name], found[0]["reason"]), f"{name}: the queue says {found[0]['reason']}")
        check(not upstream.logins and not upstream.received, f"{name}: a login or mail was sent")
        check("bounced" not in events(rig, identity), f"{name}: bounced")


@case("H07", "certificates that must not be believed", start=False)
def _(rig):
    """`suspended` by the interface. Revocation lists are no part of the interface and not tried. Each is
    tried with STARTTLS, three also with TLS at once."""
    ca = Authority(rig.directory / "pki", "ca")
    unknown = Authority(rig.directory / "pki", "unknown")
    keys = LOGIN + f'\nca_file = "{ca.certificate}"'
    table, words = {}, {}
    for name, (how, low, reason) in CERTIFICATES.items():
        table[name], words[name] = upstream_tls(ca.issue(**how), low), reason
    table["unknownca"], words["unknownca"] = upstream_tls(unknown.issue()), r"nknown ?[Aa]uthority|UnknownIssuer|unknown-authority"
    for name, upstream in table.items():
        add(rig, name, upstream, keys, encryption="starttls", host="localhost")
    for name in ("selfsigned", "expired", "wrongname"):
        other = upstream_tls(ca.issue(**CERTIFICATES[name][0]), implicit=True)
        table["tls-" + name], words["tls-" + name] = add(rig, "tls-" + name, other, keys, encryption="tls", host="localhost"), words[name]
    # What makes the self-signed one good: naming it, pinning it, or not looking.
    pair = ca.issue(self_signed=True)
    good = {"named": f'ca_file = "{pair[0]}"', "pinned": f'certificate = "pinned"\npins = ["{pin(pair)}"]', "trusting": 'certificate = "trust-always"'}
    for name, key in good.items():
        add(rig, name, upstream_tls(pair), LOGIN + "\n" + key, encryption="starttls", host="localhost")
    rig.canaries += SECRETS[1:]
    begin(rig)
    messages = {name: (upstream, *hand_in(rig, name)) for name, upstream in table.items()}
    for name in good:
        identity, _ = hand_in(rig, name)
        of(rig, identity, "sent")
    suspended(rig, messages, words)
    # A good certificate mends it.
    for name, (upstream, identity, token) in messages.items():
        upstream.tls = server(ca.issue())
    for name, (upstream, identity, token) in messages.items():
        wait_until(f"{name}: it leaves with a good certificate", lambda: token in tokens(upstream), 10)


@case("H08", "the certificate of another host of the provider", start=False)
def _(rig):
    ca = Authority(rig.directory / "pki", "ca")
    keys = LOGIN + f'\nca_file = "{ca.certificate}"'
    names = {"other": "DNS:imap.provider.example", "wild": "DNS:*.provider.example", "prefix": "DNS:localhost.provider.example,DNS:ocalhost", "address": "IP:127.0.0.2"}
    table = {name: upstream_tls(ca.issue(san=san)) for name, san in names.items()}
    messages = parallel(rig, table, keys, encryption="starttls", host="localhost")
    suspended(rig, messages, {name: r"not valid for|NotValidForName|name" for name in names})


@case("H09", "a pinned certificate changes", start=False)
def _(rig):
    ca = Authority(rig.directory / "pki", "ca")
    first, second = ca.issue(), ca.issue()
    upstream = upstream_tls(first)
    keys = LOGIN + f'\ncertificate = "pinned"\npins = ["{pin(first)}"]\nmessages_per_connection = 1'
    messages = parallel(rig, {"pinned": upstream}, keys, encryption="starttls", host="localhost")
    of(rig, messages["pinned"][1], "sent")
    logins = upstream.logins
    upstream.tls = server(second)
    identity, token = hand_in(rig, "pinned")
    upstream.logins = 0
    received, upstream.received = upstream.received, []
    suspended(rig, {"pinned": (upstream, identity, token)}, {"pinned": "pin"})
    clear_lines_count = [line for line in upstream.lines if line.startswith((b"MAIL", b"AUTH"))]
    check(len(clear_lines_count) == 2 and logins == 1, f"after the change: {clear_lines_count[2:]}")
    upstream.received = received
    upstream.tls = server(first)
    wait_until("it leaves with the pinned certificate", lambda: token in tokens(upstream), 10)


def hang(session, _):
    session.say("220 go")
    hold(session)


def alert(session, _):
    session.say("220 go")
    session.socket.recv(4096)
    session.socket.sendall(bytes([21, 3, 3, 0, 2, 2, 40]))
    session.close()


@case("H10", "the handshake hangs, is refused, or is TLS 1.0", start=False, environment=fast(SPEED))
def _(rig):
    """30 s on a faster clock."""
    pair = Authority(rig.directory / "pki", "ca").issue()
    keys = LOGIN + '\ncertificate = "trust-always"'
    table = {
        "hangs": without_tls(hang),
        "alert": without_tls(alert),
        "closes": without_tls(lambda s, _: (s.say("220 go"), s.close())[1]),
        "old": upstream_tls(pair, ssl.TLSVersion.TLSv1),
        "older": upstream_tls(pair, ssl.TLSVersion.TLSv1_1),
    }
    for name, upstream in table.items():
        add(rig, name, upstream, keys, encryption="starttls")
    silent = add(rig, "silent", Upstream(), keys, encryption="tls")
    silent.on["banner"] = lambda session, _: hold(session)
    table["silent"] = silent
    rig.canaries += SECRETS[1:]
    begin(rig)
    began = time.monotonic()
    messages = {name: (upstream, *hand_in(rig, name)) for name, upstream in table.items()}
    for name, (upstream, identity, _) in messages.items():
        line = of(rig, identity, "deferred", count=2)[0]
        check(re.match(r"4\.7\.5|4\.4\.2", value(line, "dsn")), f"{name}: {line}")
        check((time.monotonic() - began) * SPEED < 600, f"{name}: it took too long")
        clear_lines(upstream)
        check(not upstream.received and "bounced" not in events(rig, identity), f"{name}: went on")


# --------------------------------------------------------------------------- AUTH


def login_dialogue(session, line):
    """AUTH LOGIN as a server that knows nothing else."""
    if line.upper() != b"AUTH LOGIN":
        return "504 5.5.4 unknown"
    session.say("334 VXNlcm5hbWU6")
    user = session.line()
    session.say("334 UGFzc3dvcmQ6")
    right = (user, session.line()) == (base64.b64encode(b"office"), base64.b64encode(CANARY.encode()))
    return "235 2.7.0 ok" if right else "535 5.7.8 wrong"


def plain_only(session, line):
    return "235 2.7.0 ok" if line == b"AUTH PLAIN " + PLAIN else "504 5.5.4 unknown"


NAMES = " ".join(f"X-MECH-{n}" for n in range(30))


@case("H11", "odd AUTH lists", start=False)
def _(rig):
    good = {
        "many": (f"AUTH {NAMES} LOGIN {NAMES.replace('X', 'Y')}", login_dialogue),
        "equals": ("AUTH=PLAIN", plain_only),
        "both": ("AUTH=LOGIN PLAIN", plain_only),
        "lower": ("auth plain", plain_only),
        "tabs": ("AUTH \t PLAIN  ", plain_only),
        "order": ("AUTH CRAM-MD5 LOGIN PLAIN", plain_only),
    }
    bad = {"foreign": "AUTH GSSAPI NTLM EXTERNAL", "empty": "AUTH", "absent": "PIPELINING", "like": "AUTH XPLAIN PLAINX LOGIN-2"}
    table = {}
    for name, (words, handler) in good.items():
        table[name] = Upstream(capabilities=(words,))
        table[name].on["AUTH"] = handler
    for name, words in bad.items():
        table[name] = Upstream(capabilities=(words,))
    messages = parallel(rig, table, LOGIN)
    for name in good:
        wait_until(f"{name}: it arrives:\n{rig.log[-1500:]}", lambda: messages[name][2] in tokens(messages[name][0]), 10)
        check("deferred" not in events(rig, messages[name][1]), f"{name}: deferred first")
    for name in bad:
        upstream, identity, _ = messages[name]
        of(rig, identity, "deferred")
        rig.wait_log("event=route-suspended", f"tenant={name} ")
        check([m["state"] for m in rig.queue() if m["id"] == identity] == ["suspended"], f"{name}: {rig.queue()}")
        check(not any(line.upper().startswith((b"AUTH", b"MAIL")) for line in upstream.lines), f"{name}: {upstream.lines}")


def challenges(*words):
    """Says these one after the other, whatever comes."""

    def answer(session, _):
        for text in words[:-1]:
            session.say(text)
            session.line()
        return words[-1]

    return answer


LONG = "334 " + base64.b64encode(b"c" * 75_000).decode()


@case("H12", "hostile challenges", start=False)
def _(rig):
    """Each connection (there is a new one for each try) may show the password once."""
    table = {
        "plain-again": ("AUTH PLAIN", says("334 ")),
        "plain-long": ("AUTH PLAIN", says(LONG)),
        "plain-text": ("AUTH PLAIN", says("334 UGFzc3dvcmQ6")),
        "after": ("AUTH PLAIN", says("235 2.7.0 ok\r\n334 UGFzc3dvcmQ6")),
        "login-long": ("AUTH LOGIN", says(LONG)),
        "login-long2": ("AUTH LOGIN", challenges("334 VXNlcm5hbWU6", LONG)),
        "login-bad": ("AUTH LOGIN", says("334 !!not base64!!")),
        "login-more": ("AUTH LOGIN", challenges("334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "334 UGFzc3dvcmQ6")),
        "cram-long": ("AUTH CRAM-MD5", says(LONG)),
        "cram-bad": ("AUTH CRAM-MD5", says("334 ****")),
        "cram-more": ("AUTH CRAM-MD5", challenges("334 PDFAaD4=", "334 PDFAaD4=")),
        "scram-bad": ("AUTH SCRAM-SHA-256", says("334 ****")),
        "scram-long": ("AUTH SCRAM-SHA-256", says(LONG)),
        "scram-lies": ("AUTH SCRAM-SHA-256", says("334 " + base64.b64encode(b"r=evil,s=AAAA,i=4096").decode())),
    }
    upstreams = {}
    for name, (capability, handler) in table.items():
        upstreams[name] = Upstream(capabilities=(capability,))
        upstreams[name].on["AUTH"] = handler
    messages = parallel(rig, upstreams, LOGIN)
    for name, (upstream, identity, _) in messages.items():
        of(rig, identity, "deferred")
        check("bounced" not in events(rig, identity) and not upstream.received, f"{name}: bounced or sent")
        seen = sum(any(secret in line for secret in SECRETS) for line in list(upstream.lines))
        check(seen <= upstream.connections, f"{name}: the password was sent {seen} times over {upstream.connections} connections")
        if name in ("cram-long", "cram-bad", "cram-more", "login-long", "login-bad", "login-long2", "scram-bad", "scram-long", "scram-lies"):
            check(seen == 0, f"{name}: the password was sent")


ODD = CANARY + "/+ä&?="
"""A password whose URL form differs."""

PHRASE = "Rote Grütze mit Vanille"
"""A password of several words."""


def forms(password):
    """A secret as it goes over the wire or into a link."""
    encode = lambda octets: base64.b64encode(octets).decode()
    return {
        "plain": encode(f"\0office\0{password}".encode()),
        "b64": encode(password.encode()),
        "raw": password,
        "url": urllib.parse.quote(password, safe=""),
        "form": urllib.parse.quote_plus(password),
        "lowurl": re.sub("%..", lambda m: m[0].lower(), urllib.parse.quote(password, safe="")),
    }


def pieces(text, length):
    return "\r\n".join(f"535{'-' if start + length < len(text) else ' '}{text[start:start + length]}" for start in range(0, len(text), length))


def long_ago(text, kept):
    """A 535 so long that only so many octets of the text at its end lie within the 1024 octets of a
    line that are kept."""
    return "535 5.7.8 " + "x" * (1024 - 10 - kept) + text


def leaks(rig, name, identity, canaries):
    """Where one of these stands: log, queue."""
    places = {"log": "\n".join(line for line in rig.log.splitlines() if f"tenant={name} " in line)}
    places["queue list"] = str([m for m in rig.queue() if m["id"] == identity])
    for words in (("show", identity), ("show", identity, "--json")):
        done = rig.run("queue", *words, code=None)
        places["queue show"] = (done.stdout + done.stderr).decode()
    return [f"{place} {canary!r}" for place, text in places.items() for canary in canaries if canary in text]


@case("H13", "a server that repeats our secret", start=False)
def _(rig):
    """The row wants the exact secret, its base64 and URL forms to be blanked. Longer parts of them, cut
    at our own limits or by a second read, are looked for as well: twelve octets give it away."""
    odd, phrase = forms(ODD), forms(PHRASE)
    plain = odd["plain"]
    in_login = {form: f"535 5.7.8 bad {text}" for form, text in odd.items()} | {
        "line": f"535 bad: AUTH PLAIN {plain}",
        "lines": pieces(f"bad {plain} sorry", 10),
        "again": f"454 4.7.0 {plain}",
        "cutraw": long_ago(ODD, 16),
        "cutplain": long_ago(plain, len(plain) - 4),
        "notreply": f"what is {plain}",
    }
    table = {}
    for password, replies in ((ODD, in_login), (PHRASE, {f"phrase-{form}": f"535 5.7.8 bad {text}" for form, text in phrase.items()})):
        for name, words in replies.items():
            table[name] = (password, Upstream(capabilities=("AUTH PLAIN",)))
            table[name][1].on["AUTH"] = says(words)

    def split(session, _):
        """No reply, and the secret comes in two reads."""
        session.say(f"xx {plain[:8]}".encode())
        threading.Event().wait(0.1)
        session.say(plain[8:] + " is not known")

    later = {
        "mail": ("MAIL", says(f"550 5.1.0 you are {ODD}")),
        "rcpt": ("RCPT", foreign(f"550 5.1.1 {plain}")),
        "dot": ("dot", times(says(f"554 5.7.1 {odd['b64']} is spam"), 1)),
        "maybe": ("MAIL", says(f"451 4.3.0 {odd['url']}")),
        "noreply": ("MAIL", says(f"xxx {plain}")),
        "split": ("MAIL", split),
    }
    for name, (stage, handler) in later.items():
        table[name] = (ODD, Upstream(capabilities=("PIPELINING",), login=("office", ODD)))
        table[name][1].on[stage] = handler
    for name, (password, upstream) in table.items():
        add(rig, name, upstream, f'username = "office"\npassword = "{password}"')
    rig.canaries = [CANARY.encode()[:12], PHRASE.encode()[:12]]
    begin(rig)
    wrong = []
    for name, (password, upstream) in table.items():
        identity, _ = hand_in(rig, name)
        wait_until(f"{name}: an outcome", lambda: {"deferred", "bounced"} & set(events(rig, identity)))
        canaries = [text[start : start + 12] for text in forms(password).values() for start in range(0, len(text) - 11, 4)]
        wrong += [f"{name}: {found}" for found in leaks(rig, name, identity, canaries)[:1]]
    check(not wrong, "V3: a secret was repeated: " + "; ".join(wrong))
    for name in ("rcpt", "dot"):
        wait_until(f"{name}: the bounce", lambda: bounces(table[name][1]), 10)


def doubling(times):
    return [later - earlier for earlier, later in zip(times, times[1:])]


@case("H14", "the login is refused", start=False, environment=fast(2 * SPEED), operator_text=base.OPERATOR.replace('first = "1s"', 'first = "1m"').replace('maximum = "1s"', 'maximum = "1h"').format(server="", listener="", retry="", more=""))
def _(rig):
    """By the interface the probes double from `retry.first` (1, 2, 4 … min) instead of 1, 5, 15, 60;
    the clock is 200 times faster."""
    table = {
        "r535": "535 5.7.8 wrong",
        "r535off": "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant",
        "r534": "534 5.7.9 application-specific password required",
        "r530": "530 5.7.0 no",
    }
    seen = {name: [] for name in table}
    upstreams = {}
    for name, words in table.items():
        upstreams[name] = add(rig, name, Upstream(capabilities=("AUTH PLAIN LOGIN",)), LOGIN)
        upstreams[name].on["AUTH"] = lambda s, line, name=name, words=words: (seen[name].append(time.monotonic()), words)[1]
    rig.canaries += SECRETS[1:]
    begin(rig)
    messages = {name: [hand_in(rig, name) for _ in range(10)] for name in table}
    for name in table:
        wait_until(f"{name}: four probes", lambda: len(seen[name]) >= 5)
        gaps = [gap * 2 * SPEED for gap in doubling(seen[name])]
        # At the start two connections may go at once.
        gaps = gaps[1:] if gaps[0] < 20 else gaps
        for number, wanted in enumerate((60, 120, 240)[: len(gaps)]):
            check(wanted * 0.9 < gaps[number] < wanted * 1.6 + 30, f"{name}: probes after {[round(g) for g in gaps]} s")
        alerts = [line for line in rig.log.splitlines() if "event=route-suspended" in line and f"tenant={name} " in line]
        check(len(alerts) == 1, f"{name}: {len(alerts)} alerts")
        waiting = [m["state"] for m in rig.queue() if m["tenant"] == name]
        check(waiting == ["suspended"] * 10, f"{name}: {waiting}")
        check("suspended" in rig.admin("/readyz")[1] and name in rig.admin("/readyz")[1], "not named by /readyz")
    check("event=bounce" not in rig.log and "bounced" not in rig.log, "bounced")
    for name, upstream in upstreams.items():
        upstream.on["AUTH"] = plain_only
    for name, upstream in upstreams.items():
        # Notices of the refused login arrive beside them.
        wanted = {token for _, token in messages[name]}
        wait_until(f"{name}: all leave by themselves", lambda: wanted <= set(tokens(upstream)))


class TokenServer:
    """A token endpoint that gives a fresh access token each time."""

    def __init__(self):
        place = self
        self.given = 0

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                place.given += 1
                body = ('{"access_token":"at-%d","token_type":"Bearer","expires_in":3600}' % place.given).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/token"


def oauth(url):
    return f"""authentication = "xoauth2"
username = "office@x.example"
[upstream.oauth]
provider = "custom"
grant = "refresh-token"
client_id = "app"
refresh_token = "{CANARY}"
token_url = "{url}"
"""


@case("H15", "XOAUTH2: 334 with JSON, then 535", start=False)
def _(rig):
    """The plain connection is to loopback, which the interface allows."""
    dialogues = {"mends": [], "never": []}

    def refuse(name, good):
        def answer(session, line):
            token = re.search(rb"at-(\d+)", base64.b64decode(line.split(b" ")[-1]))
            if token and good(int(token[1])):
                return "235 2.7.0 ok"
            session.say("334 eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIn0=")
            dialogues[name].append(session.line())
            return "535 5.7.3 Authentication unsuccessful"

        return answer

    servers, upstreams = {}, {}
    for name, good in (("mends", lambda n: n >= 2), ("never", lambda n: False)):
        servers[name] = TokenServer()
        upstreams[name] = add(rig, name, Upstream(capabilities=("AUTH XOAUTH2",)), oauth(servers[name].url))
        upstreams[name].on["AUTH"] = refuse(name, good)
    begin(rig)
    first = hand_in(rig, "mends")
    wait_until("it arrives after one refresh", lambda: first[1] in tokens(upstreams["mends"]), 10)
    check(dialogues["mends"] == [b""], f"to the 334: {dialogues['mends']}")
    check(servers["mends"].given == 2, f"{servers['mends'].given} tokens were fetched")
    check("deferred" not in events(rig, first[0]), "deferred instead of tried again at once")
    second = hand_in(rig, "never")
    of(rig, second[0], "deferred")
    rig.wait_log("event=route-suspended", "tenant=never ")
    check(dialogues["never"][:2] == [b"", b""], f"to the 334: {dialogues['never']}")
    for place in servers.values():
        place.http.shutdown()


# --------------------------------------------------------------------------- the transaction


def times(handler, stop):
    """A handler for the first so many calls, then the usual answer."""
    calls = []

    def answer(session, line):
        calls.append(line)
        if len(calls) <= stop:
            return handler(session, line)
        verb = line.split(b" ")[0].upper().decode("latin-1")
        return session._usual(verb, line) if verb in ("MAIL", "RCPT", "DATA", "EHLO") else session.take(line)

    return answer


def say_and_close(words, reset=False):
    def answer(session, _):
        session.say(words)
        session.close(reset)

    return answer


THREE = ("one@else.example", "two@else.example", "three@else.example")


@case("H16", "421 after MAIL, RCPT, DATA, content", start=False)
def _(rig):
    table = {}
    for stage in ("MAIL", "RCPT", "DATA", "dot"):
        for name, handler in (("open", says("421 4.3.2 going down")), ("close", say_and_close("421 4.3.2 going down"))):
            for capabilities in (("PIPELINING",), ()):
                upstream = table[f"{stage.lower()}-{name}-{len(capabilities)}"] = Upstream(capabilities=capabilities)
                upstream.on[stage] = handler
    # To the second of three recipients.
    table["second"] = Upstream()
    table["second"].on["RCPT"] = lambda s, line: "421 4.3.2 enough" if b"two@" in line else s._usual("RCPT", line)
    for name, upstream in table.items():
        add(rig, name, upstream)
    begin(rig)
    messages = {name: (upstream, *hand_in(rig, name, THREE)) for name, upstream in table.items()}
    for name, (upstream, identity, _) in messages.items():
        of(rig, identity, "deferred", count=3)
    deferred_then_sent(rig, messages)
    for name, (upstream, identity, token) in messages.items():
        check(sorted(upstream.received[0].recipients) == sorted(THREE), f"{name}: {upstream.received[0].recipients}")
        check(upstream.connections > 1, f"{name}: the connection was used on after 421")


@case("H17", "250, 550, 250, 451 for four recipients")
def _(rig):
    waiting = [True]

    def answer(session, line):
        if b"two@" in line:
            return "550 5.1.1 no such user"
        if b"four@" in line and waiting[0]:
            return "451 4.3.0 later"
        return session._usual("RCPT", line)

    rig.upstream.on["RCPT"] = answer
    identity, token = hand_in(rig, "acme", ("one@else.example", "two@else.example", "three@else.example", "four@else.example"))
    of(rig, identity, "deferred", count=2)
    rig.may_repeat.add(token)  # once for each group of recipients
    wait_until("the bounce", lambda: bounces(rig.upstream))
    waiting[0] = False
    of(rig, identity, "sent", count=3)
    wait_until("settled", lambda: not [m for m in rig.queue() if m["state"] != "failed"])
    # A lone dot to a 354 for nobody is not mail.
    mails = [m for m in rig.upstream.received if not is_bounce(m) and m.recipients]
    check([sorted(m.recipients) for m in mails] == [["one@else.example", "three@else.example"], ["four@else.example"]], f"{[m.recipients for m in mails]}")
    check(len(bounces(rig.upstream)) == 1, f"{len(bounces(rig.upstream))} bounces")
    text = bounces(rig.upstream)[0].text
    check("two@else.example" in text and not re.search(r"Final-Recipient:.*(one|three|four)@", text), "the bounce names others")
    asked = [line for line in rig.upstream.lines if line.startswith(b"RCPT") and b"one@" in line]
    check(len(asked) == 1, "one@ was tried again")
    check(len([line for line in rig.upstream.lines if b"two@" in line and line.startswith(b"RCPT")]) == 1, "two@ was tried again")
    # What each was told holds as well where the content is refused early, or its answer is lost.
    for number, ending in enumerate(("refused", "lost")):
        waiting[0] = True

        def fate(session, _):
            del rig.upstream.on["DATA"]
            session.say("354 go")
            if ending == "refused":
                session.say("554 5.7.1 early refusal")
            else:
                session.data()
            session.close()

        rig.upstream.on["DATA"] = fate
        before = len(bounces(rig.upstream))
        identity, token = hand_in(rig, "acme", ("one@else.example", "two@else.example", "three@else.example", "four@else.example"))
        rig.may_repeat.add(token)
        for name, event in (("one", "bounced" if ending == "refused" else "deferred"), ("two", "bounced"), ("four", "deferred")):
            rig.wait_log(identity, f"event={event} to={name}@else.example")
        wait_until("the bounces", lambda: len(bounces(rig.upstream)) > before)
        waiting[0] = False
        rig.wait_log(identity, "event=sent to=four@else.example")
        check(f"id={identity} tenant=acme event=sent to=two@" not in rig.log, "two@ was sent")


@case("H18", "354 although all recipients are refused")
def _(rig):
    contents = []
    rig.upstream.on["RCPT"] = foreign("550 5.1.1 no such user")
    rig.upstream.on["dot"] = lambda s, content: (contents.append(content), "554 5.5.1 no valid recipients")[1] if not s.recipients else s.take(content)
    identity, token = hand_in(rig, "acme", THREE)
    of(rig, identity, "bounced", count=3)
    wait_until("the bounce", lambda: bounces(rig.upstream))
    check(contents and all(c == b"" for c in contents), f"sent after the 354: {contents[0][:200] if contents else 'nothing at all'!r}")
    text = bounces(rig.upstream)[0].text
    check(text.count("Status: 5.1.1") == 3, "not bounced by the codes of RCPT")
    check(not any(token in m.raw for m in rig.upstream.received if not is_bounce(m)), "delivered")


@case("H19", "250 to DATA, 354 to MAIL", start=False)
def _(rig):
    table = {
        "data250": ("DATA", says("250 2.0.0 ok")),
        "data220": ("DATA", says("220 hello")),
        "mail354": ("MAIL", says("354 go")),
        "rcpt354": ("RCPT", says("354 go")),
        "ehlo354": ("EHLO", says("354 go")),
        "banner250": ("banner", says("250 hello")),
    }
    messages = parallel(rig, table)
    for name, (upstream, identity, token) in messages.items():
        of(rig, identity, "deferred")
        check(not any(token in line for line in list(upstream.lines)), f"{name}: content was sent")
    deferred_then_sent(rig, messages)
    used = [name for name, (upstream, _, _) in messages.items() if upstream.connections < 2]
    check(not used, f"the connection was used on after a protocol error: {', '.join(used)}")


@case("H20", "every reply to the final dot", start=False)
def _(rig):
    table = {"d250": "250 2.0.0 ok", "d552": "552 5.3.4 too much", "d554": "554 5.7.1 spam", "d451": "451 4.3.0 try later", "d550": "550 no", "d450": "450 4.2.1 busy"}
    upstreams = {}
    for name, words in table.items():
        upstreams[name] = add(rig, name, Upstream())
        if name != "d250":
            upstreams[name].on["dot"] = times(says(words), 1)
    begin(rig)
    messages = {name: (u, *hand_in(rig, name)) for name, u in upstreams.items()}
    for name, (upstream, identity, token) in messages.items():
        code = table[name][0]
        of(rig, identity, {"2": "sent", "4": "deferred", "5": "bounced"}[code])
        if code == "5":
            wait_until(f"{name}: the bounce", lambda: bounces(upstream))
            check(table[name].split(" ", 2)[-1] in bounces(upstream)[0].text, f"{name}: without the server's words")
            check(not [m for m in upstream.received if not is_bounce(m)], f"{name}: sent again")
        else:
            wait_until(f"{name}: it arrives", lambda: token in tokens(upstream))
            check(not bounces(upstream), f"{name}: bounced")


def lost_after_dot(how):
    def answer(session, content):
        session.take(content)
        if how == "silence":
            hold(session)
        session.close(reset=how == "reset")

    return answer


def uncertain(rig, hows):
    upstreams = {}
    for how in hows:
        upstreams[how] = add(rig, how, Upstream())
        upstreams[how].on["dot"] = times(lost_after_dot(how), 1)
    begin(rig)
    return {how: (u, *hand_in(rig, how)) for how, u in upstreams.items()}


HOLD = base.OPERATOR.format(server="", listener="", retry='uncertain = "hold"', more="")


@case("H21", "no answer to the final dot", start=False, environment=fast(200))
def _(rig):
    """Retried by `[retry]` (Known cases). The 600 s are 3 s on a faster clock. A counter of its own is
    not in the interface; waiting ones stand in `postbote_spool_messages` as `uncertain` (see H21 with
    `hold` below)."""
    messages = uncertain(rig, ("close", "reset", "silence"))
    for how, (upstream, identity, token) in messages.items():
        rig.may_repeat.add(token)
        wait_until(f"{how}: it is sent again", lambda: len(upstream.received) == 2)
        of(rig, identity, "sent")
        first, second = upstream.received
        for name in ("Message-ID", "Date"):
            check(first.fields(name) == second.fields(name) and len(first.fields(name)) == 1, f"{how}: another {name}: {first.fields(name)} {second.fields(name)}")
        check("bounced" not in events(rig, identity), f"{how}: bounced")
    wait_until("all is settled", lambda: not rig.queue())
    for how, (upstream, _, _) in messages.items():
        check(len(upstream.received) == 2, f"{how}: arrived {len(upstream.received)} times")
    held_back(rig)


def held_back(rig):
    """The same with `uncertain = "hold"`: it waits for a person and is not sent again."""
    rig.stop()
    rig.write("postbote.toml", HOLD)
    begin(rig)
    upstream = rig.upstreams[1]
    before = len(upstream.received)
    upstream.on["dot"] = times(lost_after_dot("reset"), 1)
    identity, token = hand_in(rig, "close")
    wait_until("it is uncertain", lambda: [m["state"] for m in rig.queue() if m["id"] == identity] == ["uncertain"])
    hand_in(rig, "close")
    upstream.wait(before + 2)
    check(tokens(upstream).count(token) == 1, "it was sent again")
    check(rig.metric('postbote_spool_messages{tenant="close",state="uncertain"}') == 1, "not counted as uncertain")


@case("H22", "250 and RST in one segment", start=False)
def _(rig):
    def answer(reset):
        def taken(session, content):
            session.take(content)
            session.say("250 2.0.0 taken")
            session.close(reset=reset)

        return taken

    messages = parallel(rig, {"reset": ("dot", answer(True)), "close": ("dot", answer(False))})
    for name, (upstream, identity, token) in messages.items():
        of(rig, identity, "sent")
        again = hand_in(rig, name)
        of(rig, again[0], "sent")
        check([e for e in events(rig, identity) if e in ("deferred", "bounced", "uncertain")] == [], f"{name}: {events(rig, identity)}")
        check(len(upstream.received) == 2, f"{name}: arrived {len(upstream.received)} times")


@case("H23", "250 and at once a second reply", start=False)
def _(rig):
    def two(second):
        def answer(session, content):
            session.take(content)
            return f"250 2.0.0 taken\r\n{second}"

        return answer

    table = {"later550": two("550 5.7.1 no after all"), "later250": two("250 2.0.0 taken too"), "later421": two("421 4.3.2 bye"), "part": two("25"), "garbage": two("\0\xff\x1b")}
    messages = parallel(rig, {name: ("dot", handler) for name, handler in table.items()})
    for name, (upstream, identity, token) in messages.items():
        of(rig, identity, "sent")
        second, second_token = hand_in(rig, name)
        of(rig, second, "sent")
        check(upstream.received[0].connection != upstream.received[1].connection, f"{name}: the connection was used again")
        check(not bounces(upstream) and tokens(upstream).count(token) == 1, f"{name}: bounced or repeated")
        check("deferred" not in events(rig, second), f"{name}: the next message had to wait")


FOREVER = base.OPERATOR.replace('first = "1s"', 'first = "10s"').replace('maximum = "1s"', 'maximum = "30s"').format(server="", listener="", retry='warn_after = "1m"\ngive_up_after = "4m"', more="")


@case("H24", "4xx for ever", environment=fast(SPEED), operator_text=FOREVER)
def _(rig):
    """`warn_after` is a minute, `give_up_after` four, on a faster clock."""
    rig.upstream.on["RCPT"] = foreign("451 4.3.0 never")
    identity, token = hand_in(rig, "acme")
    line = of(rig, identity, "bounced")[0]
    check(value(line, "dsn") == "5.4.7", line)
    wait_until("both notices", lambda: len(bounces(rig.upstream)) >= 2)
    tries = len([line for line in rig.upstream.lines if b"b@else.example" in line])
    check(tries >= 3, f"{tries} tries")
    hand_in(rig, "acme", ("c@ours.example",))
    rig.upstream.wait(3)
    wait_until("nothing waits", lambda: not [m for m in rig.queue() if m["state"] != "failed"])
    actions = [re.search(r"Action: (\S+)", m.text)[1] for m in bounces(rig.upstream)]
    check(actions == ["delayed", "failed"], f"notices: {actions}")
    check("Status: 5.4.7" in bounces(rig.upstream)[1].text, "not 5.4.7")


DIRTY = {
    "eightbit": b"\xe4\xf6\xfc \xff\xfe",
    "utf16": "verschwunden".encode("utf-16"),
    "nul": b"a\0b",
    "ansi": b"\x1b]0;owned\x07\x1b[31mred\x1b[2J",
    "c1": "\u009b31m\u0085next".encode(),
    "cr": b"a\rb\rid=forged event=sent",
    "tabs": b"a\tb\x0b\x0c",
}


@case("H25", "controls and odd octets in replies", start=False)
def _(rig):
    table = {name: ("RCPT", foreign(b"550 5.1.1 " + octets + b"\r\n")) for name, octets in DIRTY.items()}
    table |= {name + "-banner": ("banner", says(b"554 " + octets + b"\r\n")) for name, octets in DIRTY.items()}
    table |= {name + "-no": ("MAIL", says(octets + b"\r\n")) for name, octets in DIRTY.items()}
    messages = parallel(rig, table)
    unsafe = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
    for name, (upstream, identity, _) in messages.items():
        line = (of(rig, identity, "deferred") if "-" in name else of(rig, identity, "bounced"))[0]
        check(not unsafe.search(line), f"V6: {name}: {line!r}")
        if "-" not in name:
            wait_until(f"{name}: the bounce", lambda: bounces(upstream))
            raw = bounces(upstream)[0].raw
            check(not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xff]", raw), f"V6: {name}: the bounce holds raw octets")
        shown = [rig.run("queue", "show", identity, code=None).stdout, rig.run("queue", "show", identity, "--json", code=None).stdout]
        for text in shown:
            check(not unsafe.search(text.decode("utf-8")), f"V6: {name}: {text!r}")
    for words in ((), ("--json",)):
        text = rig.run("queue", "list", *words).stdout.decode("utf-8")
        check(not unsafe.search(text), f"V6: queue list {words}: {unsafe.search(text)!r}")


@case("H26", "replies that are none, and codes that disagree", start=False)
def _(rig):
    """What is no reply defers; where enhanced and basic code differ the basic code holds."""
    no_replies = ["hello", "25 x", "999 x", "25O x", "250_x", "", "-250 x", "650 x", "150 x", "250-a\r\n550 b", "550-a\r\n250 b", "2500 x", " 250 x", "HTTP/1.1 400 Bad Request"]
    table = {}
    for number, words in enumerate(no_replies):
        for stage in ("banner", "RCPT", "dot"):
            table[f"n{number}-{stage.lower()}"] = (stage, foreign(words) if stage == "RCPT" else says(words))
    mismatch = {"m550": "550 2.0.0 fine", "m250": "250 5.1.1 bad", "m450": "450 5.1.1 gone", "m554": "554 4.2.2 full"}
    table |= {name: ("RCPT", foreign(words)) for name, words in mismatch.items()}
    messages = parallel(rig, table)
    for name, (upstream, identity, token) in messages.items():
        if name in ("m550", "m554"):
            check(value(of(rig, identity, "bounced")[0], "dsn")[0] == "5", f"{name}: {of(rig, identity, 'bounced')}")
        elif name == "m250":
            of(rig, identity, "sent")
        else:
            line = of(rig, identity, "deferred")[0]
            check(value(line, "dsn")[0] == "4", f"{name}: {line}")
            check("bounced" not in events(rig, identity) and "sent" not in events(rig, identity), f"{name}: {events(rig, identity)}")
            if name.endswith("-dot"):
                wait_until(f"{name}: it is uncertain", lambda: [m["state"] for m in rig.queue() if m["id"] == identity] == ["uncertain"], 5)


@case("H27", "a reply line of 64 KiB", start=False)
def _(rig):
    def long(start, size=65536):
        return (start + "x" * (size - len(start) - 2)).encode() + b"\r\n"

    messages = parallel(rig, {"refused": ("RCPT", foreign(long("550 5.1.1 "))), "later": ("RCPT", foreign(long("450 4.2.1 "))), "taken": ("MAIL", says(long("250 2.1.0 "))), "dot": ("dot", times(says(long("554 5.7.1 ")), 1))})
    of(rig, messages["refused"][1], "bounced")
    of(rig, messages["dot"][1], "bounced")
    of(rig, messages["later"][1], "deferred")
    of(rig, messages["taken"][1], "sent")
    wait_until("the bounce", lambda: bounces(messages["refused"][0]))
    check(len(bounces(messages["refused"][0])[0].raw) < 12_000, "the bounce repeats all of it")
    for name in ("refused", "later", "dot"):
        text = rig.run("queue", "show", messages[name][1], "--json").stdout
        check(len(text) < 12_000, f"{name}: {len(text)} octets are stored")


@case("H28", "odd SIZE and thousands of keywords", start=False)
def _(rig):
    """More than 128 lines are H02's endless reply; the 5000 keywords stand on 100 lines."""
    lines = [" ".join(f"K{n}X{k}" for k in range(50)) for n in range(100)]
    good = {"zero": ["SIZE 0"], "minus": ["SIZE -5"], "empty": ["SIZE"], "huge": ["SIZE 99999999999999999999999"], "words": ["SIZE abc"], "large": ["SIZE 1000000"], "many": lines, "twice": ["SIZE 0", "SIZE 1000000"]}
    upstreams = {name: add(rig, name, Upstream(capabilities=words)) for name, words in good.items()}
    small = add(rig, "small", Upstream(capabilities=["SIZE 1000", "PIPELINING"]))
    small.on["MAIL"] = lambda s, line: "552 5.3.4 too big" if int((re.search(rb"SIZE=(\d+)", line) or [0, 0])[1]) > 1000 and b"<>" not in line else s._usual("MAIL", line)
    begin(rig)
    big = b"0123456789\r\n" * 400
    for name, upstream in upstreams.items():
        identity, token = hand_in(rig, name, content=rig.message(big))
        of(rig, identity, "sent")
        check("deferred" not in events(rig, identity), f"{name}: deferred")
    identity, token = hand_in(rig, "small", content=rig.message(big))
    line = of(rig, identity, "bounced")[0]
    check(value(line, "dsn") == "5.3.4", line)
    check(not any(b"0123456789" in l for l in small.lines) and token not in [t for m in small.received if not is_bounce(m) for t in TOKEN.findall(m.raw)], "the content was sent")


@case("H29", "PIPELINING that stalls", start=False, environment=fast(SPEED))
def _(rig):
    """300 s on a faster clock."""

    def stall(session, line):
        """Answers as long as one command comes at a time."""
        session.socket.settimeout(0.02)
        try:
            more = session.buffer or session.socket.recv(65536)
            session.buffer += b"" if more is session.buffer else more
        except TimeoutError:
            more = b""
        session.socket.settimeout(None)
        if more:
            hold(session)
        return session._usual("MAIL", line)

    upstream = add(rig, "stalls", Upstream(capabilities=("PIPELINING",)))
    upstream.on["MAIL"] = stall
    begin(rig)
    identity, token = hand_in(rig, "stalls", THREE)
    hand_in(rig, "acme")
    rig.upstream.wait(1)
    check(not upstream.received, "it did not stall")
    of(rig, identity, "deferred")
    wait_until("the next try comes through", lambda: token in tokens(upstream), 8)
    check("bounced" not in events(rig, identity), "bounced")


@case("H30", "the sender is refused", start=False)
def _(rig):
    """By the interface: a refused sender is `failed` after one attempt, with a notice, and goes with
    `queue retry --state failed`; a refused login (530 5.7.57) suspends."""
    refused = {
        "dot560": ("dot", "550 5.7.60 SMTP; Client does not have permissions to send as this sender"),
        "dot554": ("dot", "554 5.2.252 SendAsDenied; office not allowed to send as info"),
        "mail553": ("MAIL", "553 5.7.1 sender not owned by user"),
    }
    upstreams = {}
    for name, (stage, words) in refused.items():
        upstreams[name] = add(rig, name, Upstream())

        def answer(session, line, stage=stage, words=words):
            ours = session.sender == "" or (stage == "MAIL" and b"<>" in line) or b"multipart/report" in line[:4000]
            return (session.take(line) if stage == "dot" else session._usual(stage, line)) if ours else words

        upstreams[name].on[stage] = answer
    late = add(rig, "late", Upstream())
    late.on["MAIL"] = says("530 5.7.57 Client not authenticated to send mail")
    begin(rig)
    messages = {name: (u, [hand_in(rig, name) for _ in range(3)]) for name, u in upstreams.items()}
    waiting = [hand_in(rig, "late") for _ in range(3)]
    for name, (upstream, mails) in messages.items():
        for identity, _ in mails:
            of(rig, identity, "bounced")
        wait_until(f"{name}: a notice", lambda: len(bounces(upstream)) == 3)
        found = [m for m in rig.queue() if m["tenant"] == name and m["from"]]
        check([m["state"] for m in found] == ["failed"] * 3 and all(m["attempts"] == 1 for m in found), f"{name}: {found}")
    of(rig, waiting[0][0], "deferred")
    wait_until("suspended", lambda: [m["state"] for m in rig.queue() if m["tenant"] == "late"] == ["suspended"] * 3)
    alerts = [line for line in rig.log.splitlines() if "event=route-suspended" in line and "tenant=late " in line]
    check(len(alerts) == 1 and not bounces(late), f"{len(alerts)} alerts, {len(bounces(late))} bounces")
    for upstream in [*upstreams.values(), late]:
        upstream.on.clear()
    rig.run("queue", "retry", "--state", "failed")
    for name, (upstream, mails) in messages.items():
        for _, token in mails:
            wait_until(f"{name}: it leaves after retry", lambda: token in tokens(upstream))
    for _, token in waiting:
        wait_until("late: it leaves by itself", lambda: token in tokens(late))


@case("H31", "greylisting", start=False, environment=fast(SPEED), operator_text=base.OPERATOR.replace('first = "1s"', 'first = "1m"').replace('maximum = "1s"', 'maximum = "1h"').format(server="", listener="", retry="", more=""))
def _(rig):
    """30 minutes are 18 s on the faster clock; ten of them are tried."""
    upstream = add(rig, "grey", Upstream())
    began = time.monotonic()
    tries = []

    def grey(session, line):
        tries.append(time.monotonic())
        return session._usual("RCPT", line) if (time.monotonic() - began) * SPEED > 600 else "450 4.7.1 greylisted, come back later"

    upstream.on["RCPT"] = grey
    begin(rig)
    mails = [hand_in(rig, "grey") for _ in range(5)]
    for identity, token in mails:
        wait_until("it arrives", lambda: token in tokens(upstream))
        check("bounced" not in events(rig, identity), "bounced")
    check(not bounces(upstream), "a notice was sent")
    for word in ("route-failing", "route-suspended"):
        check(f"event={word}" not in rig.log, f"an alert: {word}")
    check(len(tries) <= 5 * 8, f"{len(tries)} tries in ten minutes")


@case("H32", "content is read at 10 octets a second", start=False, environment=fast(SPEED), operator_text=base.OPERATOR.replace('first = "1s"', 'first = "1m"').replace('maximum = "1s"', 'maximum = "1h"').format(server="", listener="", retry="", more=""))
def _(rig):
    """180 s on a faster clock; the content is larger than what the kernel's buffers take."""
    starts = []

    def slow(session, _):
        starts.append(time.monotonic())
        session.say("354 go")
        while session.socket.recv(100):
            threading.Event().wait(10 / SPEED)
        raise ConnectionError

    def narrow(session, _):
        session.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return "220 upstream.example"

    upstream = add(rig, "slow", Upstream())
    upstream.on.update(banner=narrow, DATA=slow)
    begin(rig)
    identity, token = hand_in(rig, "slow", content=rig.message(b"0123456789abcdef" * 4 + b"\r\n" + b"0123456789abcdef\r\n" * (16 << 16)))
    began = time.monotonic()
    hand_in(rig, "acme")
    rig.upstream.wait(1)
    line = of(rig, identity, "deferred")[0]
    took = (time.monotonic() - began) * SPEED
    check(150 < took < 500, f"given up after {took:.0f} s")
    check(value(line, "dsn")[0] == "4", line)
    wait_until("a second try", lambda: len(starts) >= 2)
    gap = (starts[1] - starts[0]) * SPEED
    check(gap > 180 + 40, f"begun again after {gap:.0f} s")
    upstream.on.clear()
    wait_until("it arrives", lambda: token in tokens(upstream))


@case("H33", "an early 554 while we send the content", start=False)
def _(rig):
    def early(read, reset=False):
        def answer(session, _):
            session.say("354 go")
            taken = 0
            while taken < read:
                taken += len(session.socket.recv(65536))
            session.say("554 5.7.1 early refusal")
            session.close(reset)

        return answer

    table = {"atonce": early(0), "first": early(1), "middle": early(1 << 20), "marked": early(0)}
    upstreams = {}
    for name, handler in table.items():
        upstreams[name] = add(rig, name, Upstream())
        upstreams[name].on["DATA"] = times(handler, 1)
    begin(rig)
    body = b"0123456789abcdef\r\n" * (8 << 16)
    for name, upstream in upstreams.items():
        if name == "marked":
            # Before the content goes out it is put on record that it does: the reply is there first.
            text = (rig.directory / "postbote.toml").read_text()
            rig.write("postbote.toml", text.replace("[retry]", '[retry]\nuncertain = "hold"'))
            rig.wait_log("event=reloaded")
        identity, token = hand_in(rig, name, content=rig.message(body))
        wait_until(f"{name}: an outcome", lambda: {"bounced", "deferred", "sent"} & set(events(rig, identity)))
        check(events(rig, identity).count("bounced") == 1, f"{name}: {[l for l in rig.log.splitlines() if identity in l][-1]}")
        line = of(rig, identity, "bounced")[0]
        check("early refusal" in line, f"{name}: {line}")
        wait_until(f"{name}: the bounce", lambda: bounces(upstream))
        check(not [m for m in upstream.received if not is_bounce(m)], f"{name}: sent again")


# --------------------------------------------------------------------------- names, ourselves, many


HOSTS = "127.0.0.1 localhost ourselves.test\n" + "".join(f"127.77.0.{n} hundred.test\n" for n in range(1, 101))

IN_NAMES = ["unshare", "-m", "sh", "-c", 'mount --bind "$NAMES/hosts" /etc/hosts && mount --bind "$NAMES/resolv.conf" /etc/resolv.conf && exec "$@"', "sh"]
"""A server with a name service of its own; the process keeps its number."""


class NameServer:
    """Answers SERVFAIL for fail.test, NXDOMAIN for all else."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for last in range(1, 250):
            try:
                self.address = f"127.88.{os.getpid() % 250}.{last}"
                self.socket.bind((self.address, 53))
                break
            except OSError:
                continue
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                query, peer = self.socket.recvfrom(512)
            except OSError:
                return
            code = 2 if b"\x04fail" in query.lower() else 3
            self.socket.sendto(query[:2] + bytes([0x81, 0x80 | code]) + query[4:6] + b"\0" * 6 + query[12:], peer)


@case("H34", "NXDOMAIN, SERVFAIL, 100 addresses, our own address", start=False, wrapper=IN_NAMES)
def _(rig):
    """NXDOMAIN is deferred, with `route-failing` as alert, for names mend themselves. 169.254.169.254
    is no rule of the interface. Our own address is H35's guard."""
    names = NameServer()
    place = pathlib.Path(tempfile.mkdtemp(dir=rig.directory))
    (place / "hosts").write_text(HOSTS)
    (place / "resolv.conf").write_text(f"nameserver {names.address}\noptions timeout:1 attempts:1\n")
    rig.environment["NAMES"] = str(place)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for name, host in (("nxdomain", "nowhere.test"), ("servfail", "fail.test"), ("hundred", "hundred.test")):
        add(rig, name, rig.upstream, host=host, port=port)
    trace = rig.directory / "connects"
    begin(rig)
    watcher = subprocess.Popen(["strace", "-f", "-q", "-p", str(rig.process.pid), "-e", "trace=connect", "-o", str(trace)], stderr=subprocess.DEVNULL)
    status = pathlib.Path(f"/proc/{rig.process.pid}/status")
    wait_until("strace watches", lambda: "TracerPid:\t0" not in status.read_text())
    try:
        for name in ("nxdomain", "servfail", "hundred"):
            identity, _ = hand_in(rig, name)
            line = of(rig, identity, "deferred")[0]
            wanted = "4.4.1" if name == "hundred" else "4.4.3"
            check(value(line, "dsn") == wanted, f"{name}: {line}")
            rig.wait_log("event=route-failing", f"tenant={name} ")
            check("bounced" not in events(rig, identity), f"{name}: bounced")
    finally:
        watcher.terminate()
        watcher.wait()
    # The resolver itself "connects" to port 0 to sort the addresses.
    asked = re.findall(rf'sin_port=htons\({port}\), sin_addr=inet_addr\("127\.77\.0\.(\d+)"\)', trace.read_text())
    check(asked, "no address was tried")
    check(len(set(asked)) <= 5, f"{len(set(asked))} addresses were tried")
    # A name that leads to our own listener.
    own = rig.address()[1]
    add(rig, "ourselves", rig.upstream, host="ourselves.test", port=own)
    rig.wait_log("event=reloaded")
    identity, token = hand_in(rig, "ourselves")
    of(rig, identity, "deferred")
    check(token not in tokens(rig.upstream) and rig.log.count("event=accepted") == 4, "our own mail came back to us")
    names.socket.close()


@case("H35", "the upstream is ourselves")
def _(rig):
    rig.tenant("acme", (rig.directory / "tenants/acme.toml").read_text().replace(f"port = {rig.upstream.port}", f"port = {rig.address()[1]}"))
    rig.wait_log("event=reloaded")
    identity, token = hand_in(rig, "acme")
    line = of(rig, identity, "deferred")[0]
    check("Postbote" in line, f"the reason is not named: {line}")
    reason = rig.wait_log("event=route-suspended")[0]
    check(value(reason, "remedy"), reason)
    wait_until("a second probe", lambda: len(re.findall(rf"id={identity} tenant=acme event=deferred", rig.log)) >= 2)
    check([m["state"] for m in rig.queue()] == ["suspended"], f"{rig.queue()}")
    check(rig.metric("postbote_messages_accepted_total") == 1, "our own mail was accepted again")
    # Mended, it leaves.
    rig.tenant("acme", (rig.directory / "tenants/acme.toml").read_text().replace(f"port = {rig.address()[1]}", f"port = {rig.upstream.port}"))
    rig.upstream.wait(1)


@case("H36", "an idle connection ends just as we use it", start=False)
def _(rig):
    def second(stage, action):
        """The first message passes; then this happens once at this stage."""
        calls = []

        def answer(session, line):
            calls.append(line)
            if len(calls) == 2:
                return action(session)
            return session._usual(stage, line)

        return answer

    gone = {
        "idle": None,  # ends between two messages
        "mail": ("MAIL", lambda s: s.close()),
        "reset": ("MAIL", lambda s: s.close(reset=True)),
        "mail421": ("MAIL", lambda s: (s.say("421 4.4.2 idle too long"), s.close())[1]),
    }
    upstreams = {}
    for name, behaviour in gone.items():
        upstreams[name] = add(rig, name, Upstream())
        if behaviour:
            upstreams[name].on[behaviour[0]] = second(*behaviour)
    sessions = []
    upstreams["idle"].on["banner"] = lambda s, _: (sessions.append(s), "220 upstream.example")[1]
    # After the reply to MAIL it is the schedule's.
    upstreams["rcpt"] = add(rig, "rcpt", Upstream(capabilities=()))
    upstreams["rcpt"].on["RCPT"] = second("RCPT", lambda s: s.close())
    begin(rig)
    for name in upstreams:
        of(rig, hand_in(rig, name)[0], "sent")
    for s in sessions:
        s.socket.shutdown(socket.SHUT_RDWR)
    for name, upstream in upstreams.items():
        identity, token = hand_in(rig, name)
        of(rig, identity, "sent")
        delayed = "deferred" in events(rig, identity)
        check(delayed == (name == "rcpt"), f"{name}: {events(rig, identity)}")
        check(tokens(upstream).count(token) == 1, f"{name}: arrived {tokens(upstream).count(token)} times")


def flows(rig, when):
    """V5: another tenant's mail is delivered."""
    _, token = hand_in(rig, "acme")
    try:
        wait_until("it is delivered", lambda: token in tokens(rig.upstream), 5)
    except Broken:
        raise Broken(f"V5: {when}: another tenant's mail is not delivered within 5 s") from None


@case("H37", "1000 tenants on one dead upstream", start=False)
def _(rig):
    """Each tenant's route has a circuit breaker of its own (its login may be what fails). The dead
    upstream takes connections and is silent, which holds attempts for longest."""
    dead = socket.create_server(("127.0.0.1", 0), backlog=4096)
    upstream = Upstream()  # only to have a port to format
    for number in range(1000):
        add(rig, f"t{number}", upstream, port=dead.getsockname()[1])
    begin(rig)
    todo = list(range(1000))
    wrong = []

    def work():
        while todo:
            name = f"t{todo.pop()}"
            try:
                client = Client(rig, rig.address())
                client.wants("220")
                client.expect("EHLO x", "250")
                client.login(name, f"pass-{name}")
                client.message()
                client.message()
                client.close()
            except Exception as error:
                wrong.append(f"{name}: {error}")

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    check(not wrong, f"{len(wrong)} clients failed, for example {wrong[:2]}")
    flows(rig, "the dead upstream is silent")
    dead.setblocking(False)
    taken = []
    try:
        while True:
            taken.append(dead.accept()[0])
    except BlockingIOError:
        pass
    check(len(taken) <= 2000, f"{len(taken)} connections to the dead upstream")
    # Dead for good: one probe at a time for each route, and others go on.
    dead.close()
    for s in taken:
        s.close()
    rig.wait_log("event=route-failing", count=900)
    flows(rig, "the dead upstream refuses connections")


def own_address():
    """An address of this machine that is not loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
            return s.getsockname()[0]
        except OSError:
            return None


class Outside(Upstream):
    """Listens at an address that is not loopback."""

    def __init__(self, address, **settings):
        super().__init__(**settings)
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.listener = socket.create_server((address, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()


@case("H38", "AUTH asked for before TLS", start=False)
def _(rig):
    """Also without any TLS, to an address that is not loopback (where this machine has one)."""
    pair = Authority(rig.directory / "pki", "ca").issue()
    keys = LOGIN + f'\nca_file = "{rig.directory}/pki/ca/ca.pem"'

    def early(words):
        """Offers AUTH in clear; after TLS behaves."""
        return lambda s, line: s._usual("EHLO", line) if s.secure else words

    offers = {
        "offer": early("250-upstream.example\r\n250-AUTH PLAIN LOGIN\r\n250-AUTH=PLAIN LOGIN\r\n250 STARTTLS"),
        "prompt": early("250-upstream.example\r\n250-334 UGFzc3dvcmQ6\r\n250-Password:\r\n250 STARTTLS"),
        "only": early("250-upstream.example\r\n250 AUTH PLAIN LOGIN"),
        "demand": early("530 5.7.0 Authentication required, AUTH first"),
        "challenge": early("334 UGFzc3dvcmQ6"),
    }
    table = {name: upstream_tls(pair) for name in offers}
    for name, upstream in table.items():
        upstream.on["EHLO"] = offers[name]
        add(rig, name, upstream, keys, encryption="starttls")
    refuses = upstream_tls(pair)
    refuses.on["STARTTLS"] = says("530 5.7.0 AUTH first")
    table["refuses"] = add(rig, "refuses", refuses, keys, encryption="starttls")
    clear = {name: [] for name in table}
    for name, upstream in table.items():
        upstream.on["AUTH"] = lambda s, line, name=name: (clear[name].append(line) if not s.secure else None, s._usual("AUTH", line))[1]
    address = own_address()
    if address:
        outside = table["outside"] = Outside(address, login=("office", CANARY))
        add(rig, "outside", outside, LOGIN, host=address)
    rig.canaries += SECRETS[1:]
    checked = rig.run("check", code=None)
    if address and checked.returncode:
        # Refused as a setting: as good.
        check(b"insecure_password" in checked.stdout + checked.stderr, f"{checked}")
        (rig.directory / "tenants/outside.toml").unlink()
        table.pop("outside")
    begin(rig)
    for name, upstream in table.items():
        identity, token = hand_in(rig, name)
        wait_until(f"{name}: an outcome", lambda: {"sent", "deferred", "bounced"} & set(events(rig, identity)))
        check(not clear.get(name), f"{name}: AUTH was sent in clear")
        good = name in ("offer", "prompt")
        check(("sent" in events(rig, identity)) == good and "bounced" not in events(rig, identity), f"{name}: {events(rig, identity)}")
        if not good:
            clear_lines(upstream)
