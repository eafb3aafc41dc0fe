"""C: logins."""

import base64, hmac, re, select, socket, statistics, threading, time

from rig import CANARY, LIMIT, Client, case, check, trusting, wait_until

WEAK_HASH = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
"""Of `password`: a test vector of the reference implementation."""

USUAL_HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$uDGzYkEo0ZQo5kJmR1m0c0yQd1pGd1v5m1Yt0q8rN2k"
HEAVY_HASH = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$uDGzYkEo0ZQo5kJmR1m0c0yQd1pGd1v5m1Yt0q8rN2k"
"""Of nothing that anybody knows; the defaults of the Rust crate and of Python's argon2-cffi."""


def user(login="pos1", password="right", more=""):
    return f'[[user]]\nlogin = "{login}"\npassword = "{password}"\n{more}\n'


def b64(octets):
    return base64.b64encode(octets.encode() if isinstance(octets, str) else octets).decode()


def plain(login, password, acting=""):
    return "AUTH PLAIN " + b64(f"{acting}\0{login}\0{password}")


def at(rig, source, ehlo=True):
    """A client with this source address."""
    client = Client(rig, socket.create_connection(rig.address(), timeout=LIMIT, source_address=(source, 0)))
    rig.clients.append(client)
    client.wants("220 ")
    if ehlo:
        client.expect("EHLO client.example", "250")
    return client


def sends(rig, client):
    """The session is clean: a whole message goes through."""
    client.message(rig.message())


@case("C01", "AUTH in clear where that is forbidden", listener='plaintext_auth = "never"', after=user(password=CANARY))
def _(rig):
    client = rig.client(ehlo=False)
    said = client.expect("EHLO client.example", "250")
    check("AUTH" not in said and "STARTTLS" in said, f"offered in clear: {said}")
    for _ in range(3):
        client.expect(plain("pos1", CANARY), "538 5.7.11")
    # Attempts in clear count.
    client.expect(plain("pos1", CANARY), "421 4.7.0")
    client.closed()
    client = rig.client()
    client.starttls()
    check("AUTH" in client.expect("EHLO client.example", "250"), "not offered inside TLS")
    client.expect(plain("pos1", CANARY), "235 2.7.0")


@case("C02", "four wrong passwords on one connection", after=user())
def _(rig):
    client = rig.client()
    for _ in range(3):
        client.expect(plain("pos1", "wrong"), "535 5.7.8")
    client.expect(plain("pos1", "wrong"), "421 4.7.0")
    client.closed()


@case("C03", "eleven wrong passwords from one source", after=user() + user("pos2", "other") + user("pos3", "third"))
def _(rig):
    at(rig, "127.0.0.2").expect(plain("pos2", "other"), "235")
    for _ in range(10):
        at(rig, "127.0.0.2").expect(plain("pos1", "wrong"), "535 5.7.8")
    at(rig, "127.0.0.2").expect(plain("pos1", "wrong"), "454 4.7.0")
    at(rig, "127.0.0.2").expect(plain("pos1", "right"), "454 4.7.0")
    # The other ways in are shut as well.
    client = at(rig, "127.0.0.2")
    client.expect("AUTH LOGIN", "334")
    client.expect(b64("pos1"), "334")
    client.expect(b64("right"), "454 4.7.0")
    client = at(rig, "127.0.0.2")
    client.expect("AUTH CRAM-MD5", "334")
    client.expect(b64("pos1 " + "0" * 32), "454 4.7.0")
    at(rig, "127.0.0.3").expect(plain("pos1", "right"), "235")
    # A login that was right elsewhere is not known here: nobody goes on guessing at it.
    at(rig, "127.0.0.2").expect(plain("pos1", "right"), "454 4.7.0")
    at(rig, "127.0.0.2").expect(plain("pos1", "wrong"), "454 4.7.0")
    # Whoever logged in from here lately is let in, and mail without a login is not concerned.
    at(rig, "127.0.0.2").expect(plain("pos2", "other"), "235")
    sends(rig, at(rig, "127.0.0.2"))
    # Forty at once, before the first is answered: no more than the two that are being checked come
    # on top of the ten.
    clients = [at(rig, "127.0.0.4") for _ in range(40)]
    for client in clients:
        client.raw(plain("pos1", "wrong").encode() + b"\r\n")
    answers = [client.reply()[:9] for client in clients]
    check(set(answers) == {"535 5.7.8", "454 4.7.0"} and answers.count("535 5.7.8") <= 12, f"{answers}")
    # A challenge proves a login as well.
    client = at(rig, "127.0.0.5")
    cram(client, "pos3", "third")
    for _ in range(10):
        at(rig, "127.0.0.5").expect(plain("pos2", "wrong"), "535 5.7.8")
    at(rig, "127.0.0.5").expect(plain("pos2", "other"), "454 4.7.0")
    cram(at(rig, "127.0.0.5"), "pos3", "third")


def cram(client, login, password):
    challenge = client.send("AUTH CRAM-MD5")
    check(challenge.startswith("334 "), f"no challenge but {challenge!r}")
    digest = hmac.new(password.encode(), base64.b64decode(challenge[4:]), "md5").hexdigest()
    client.expect(b64(f"{login} {digest}"), "235")


@case("C04", "one account guessed at from 200 sources", after=user())
def _(rig):
    """No delay of the account, which would lock out its owner on a new machine: guessing is slowed
    by the sources' limit and by the two workers that check passwords, for all accounts together."""
    at(rig, "127.0.0.2").expect(plain("pos1", "right"), "235")
    stopped, guesses, broken = threading.Event(), [], []

    def guess(lane):
        for source in range(lane, 200, 4):
            if stopped.is_set():
                return
            try:
                client = at(rig, f"127.0.7.{source + 1}")
                guesses.append(client.expect(plain("pos1", f"guess{source}"), ("535", "454")))
                client.close()
            except Exception as error:
                broken.append(error)
                return

    lanes = [threading.Thread(target=guess, args=(lane,)) for lane in range(4)]
    for lane in lanes:
        lane.start()
    slowest = 0.0
    while any(lane.is_alive() for lane in lanes):
        begun = time.monotonic()
        client = at(rig, "127.0.0.2")
        client.expect(plain("pos1", "right"), "235")
        client.close()
        slowest = max(slowest, time.monotonic() - begun)
    stopped.set()
    check(not broken, f"a guess failed otherwise: {broken}")
    check(len(guesses) == 200, f"only {len(guesses)} guesses")
    check(slowest < 5, f"the owner waited {slowest:.1f} s")
    # Not seen before, from a source without failures: still let in.
    at(rig, "127.0.0.3").expect(plain("pos1", "right"), "235")


class Sources:
    """Addresses of which none fails so often that it is throttled."""

    def __init__(self):
        self.used = 0

    def next(self):
        self.used += 1
        number = self.used // 9
        return f"127.0.{20 + number // 250}.{1 + number % 250}"


def tried(rig, sources, login):
    """Seconds that a wrong password took, and the answer."""
    client = at(rig, sources.next())
    line = plain(login, "wrong-password")
    begun = time.perf_counter()
    reply = client.send(line)
    seconds = time.perf_counter() - begun
    client.close()
    return seconds, reply


def challenged(rig, login):
    """What the challenge mechanisms let a stranger see of a login."""
    client = at(rig, "127.0.0.2")
    client.expect("AUTH CRAM-MD5", "334")
    cram = client.send(b64(f"{login} {'0' * 32}"))
    first = base64.b64decode(client.expect("AUTH SCRAM-SHA-256 " + b64(f"n,,n={login},r=abcdefghij"), "334")[4:]).decode()
    nonce = first.split(",")[0]
    scram = client.send(b64(f"c=biws,{nonce},p={b64(bytes(32))}"))
    client.close()
    return cram, [(part[:2], len(part)) for part in first.split(",")], scram


@case("C05", "time and text of unknown and known logins", after=user("usual", USUAL_HASH) + user("plain", "a secret") + user("heavy", HEAVY_HASH))
def _(rig):
    """The machine is noisy: medians of interleaved tries may differ by a quarter. The heavy hash
    (defaults of argon2-cffi) costs several times the usual one, and is tried less."""
    sources, times, texts = Sources(), {}, set()
    for turn in range(45):
        for login in ("usual", "nobody", "plain") + (("heavy",) if turn % 8 == 0 else ()):
            seconds, text = tried(rig, sources, login)
            times.setdefault(login, []).append(seconds)
            texts.add(text)
    check(len(texts) == 1 and texts.pop().startswith("535 5.7.8"), f"the answers differ: {texts}")
    seen = [challenged(rig, login) for login in ("nobody", "usual", "plain")]
    check(seen[0] == seen[1] == seen[2] and seen[0][2].startswith("535 5.7.8"), f"challenges differ: {seen}")
    medians = {login: statistics.median(all_of) for login, all_of in times.items()}
    shown = ", ".join(f"{login} {1000 * median:.1f} ms" for login, median in medians.items())
    for login in ("usual", "plain", "heavy"):
        ratio = medians[login] / medians["nobody"]
        check(0.75 < ratio < 1.33, f"{login} can be told from an unknown login: {shown}")


@case("C06", "malformed responses", after=user())
def _(rig):
    """Too long, in the command or as a response, is 5.5.6 (RFC 4954 section 4)."""
    table = [
        ("AUTH PLAIN !!!!", "501 5.5.2"),
        ("AUTH PLAIN AHU=AHB3", "501 5.5.2"),
        ("AUTH PLAIN AHUAcHc", "501 5.5.2"),
        ("AUTH PLAIN =", "501 5.5.2"),
        ("AUTH PLAIN AA==", "501 5.5.2"),
        ("AUTH PLAIN " + b64(b"\0\xff\xfe\0pw"), "501 5.5.2"),
        ("AUTH PLAIN " + b64(b"\0u"), "501 5.5.2"),
        ("AUTH PLAIN a b", "501 5.5.4"),
        ("AUTH PLAIN " + "A" * 13_000, "500 5.5.6"),
        ("auth plain " + "A" * 60_000, "500 5.5.6"),
        ("AUTH " + "A" * 13_000, "500 5.5.6"),
        ("AUTH", "501 5.5.4"),
        (b"AUTH PLAIN \xff\xff", "500 5.5.2"),
        ("AUTH LOGIN !!!!", "501 5.5.2"),
        ("AUTH LOGIN =", "501 5.5.2"),
        ("AUTH CRAM-MD5 AAAA", "501 5.7.0"),
        ("AUTH SCRAM-SHA-256 " + b64("p=tls-unique,,n=pos1,r=abcdefgh"), "501 5.5.2"),
        ("AUTH SCRAM-SHA-256 " + b64("n,,m=x,n=pos1,r=abcdefgh"), "501 5.5.2"),
    ]
    for line, start in table:
        client = rig.client()
        client.expect(line, start)
        sends(rig, client)
    for answer, start in ((b"", "501 5.5.2"), (b"A" * 13_000, "500 5.5.6"), (b"=", "501 5.5.2"), (b"\xff\0\x01", "501 5.5.2")):
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"):
            client = rig.client()
            client.expect(f"AUTH {mechanism}", "334")
            client.expect(answer, start)
            sends(rig, client)
    rig.delivered(len(table) + 16)


@case("C07", "acting as somebody else", after=user() + user("admin", "secret"))
def _(rig):
    client = rig.client()
    client.expect(plain("pos1", "right", "admin"), "535 5.7.8")
    client.expect(plain("pos1", "right", "POS1"), "535 5.7.8")
    client.expect(plain("pos1", "right", "pos1"), "235")
    rig.client().expect(plain("pos1", "right"), "235")
    client = rig.client()
    client.expect("AUTH SCRAM-SHA-256 " + b64("n,a=admin,n=pos1,r=abcdefghij"), ("501", "535"))


def client_text(log):
    """The values of a log that a client wrote."""
    return re.findall(r'login=("(?:[^"\\]|\\.)*"|\S*)', log)


@case("C08", "line ends, NUL and great length in name and password", after=user())
def _(rig):
    secret = CANARY
    table = [
        (plain("pos1\r\nMAIL FROM:<x@y>", secret), "501 5.5.2"),
        (plain("pos1", secret + "\r\nDATA"), "501 5.5.2"),
        (plain("pos1\0x", secret), "501 5.5.2"),
        (plain("pos1", secret + "\0x"), "501 5.5.2"),
        (plain("pos1\x1b[31m", secret), "501 5.5.2"),
        (plain("pos1\u0085x", secret), "501 5.5.2"),
        (plain("u" * 10_000, secret), "500 5.5.6"),
        (plain("pos1", secret + "p" * 10_000), "500 5.5.6"),
        (plain("u" * 8000, secret), "535 5.7.8"),
        (plain("€" * 2000, secret), "535 5.7.8"),
        (plain("pos1", secret + "p" * 8000), "535 5.7.8"),
        (plain("pos1\u202e\u2028x", secret), ("535 5.7.8", "501 5.5.2")),
    ]
    for line, start in table:
        rig.client().expect(line, start)
    for name in ("pos1\r\nx", "pos1\0\0", "pos1\x7f"):
        client = rig.client()
        client.expect("AUTH LOGIN", "334")
        client.expect(b64(name), "501 5.5.2")
    client = rig.client()
    client.expect("AUTH LOGIN " + b64("pos1"), "334")
    client.expect(b64(secret + "\r\n"), "501 5.5.2")
    for text in client_text(rig.log):
        check(len(text.strip('"')) <= 81, f"more than 80 characters of the client in the log: {text}")


@case("C09", "a login that is broken off", after=user())
def _(rig):
    for steps in (["AUTH LOGIN"], ["AUTH LOGIN", b64("pos1")], ["AUTH PLAIN"], ["AUTH CRAM-MD5"], ["AUTH SCRAM-SHA-256"]):
        for answer, start in (("*", "501 5.7.0"), ("RSET", "501 5.7.0"), ("QUIT", "501"), ("EHLO x.example", "501"), (None, "")):
            client = rig.client()
            for step in steps:
                client.expect(step, "334")
            if answer is None:
                client.reset()
                continue
            if steps == ["AUTH LOGIN", b64("pos1")] and answer not in ("*", "RSET"):
                start = (start, "535")  # decodes to text at times, which is then a password
            client.expect(answer, start)
            client.expect("MAIL FROM:<a@b.example>", "250 2.1.0")
            client.expect("RSET", "250")
            client.expect(plain("pos1", "right"), "235")
            sends(rig, client)


@case("C10", "AUTH twice, AUTH inside a transaction", after=user() + user("pos2", "other"))
def _(rig):
    client = rig.client()
    client.expect("MAIL FROM:<a@b.example>", "250")
    client.expect(plain("pos1", "right"), "503 5.5.1")
    client.expect("RCPT TO:<b@else.example>", "250")
    client.expect(plain("pos1", "right"), "503 5.5.1")
    client.expect("RSET", "250")
    client.expect(plain("pos1", "right"), "235")
    client.expect(plain("pos2", "other"), "503 5.5.1")
    client.expect("AUTH LOGIN", "503 5.5.1")
    sends(rig, client)


@case("C11", "mechanisms that are not there", after=user("pos1", WEAK_HASH))
def _(rig):
    """With hashes only, challenge mechanisms cannot work either."""
    said = rig.client(ehlo=False).expect("EHLO client.example", "250")
    check("AUTH PLAIN LOGIN\n" in said + "\n", f"offered: {said}")
    for mechanism in ("CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-1", "NTLM", "GSSAPI", "XOAUTH2", "OAUTHBEARER", "EXTERNAL", "DIGEST-MD5", "ANONYMOUS", "PLAIN-CLIENTTOKEN", "X" * 1000, "plain,login"):
        client = rig.client()
        client.expect(f"AUTH {mechanism}", "504 5.5.4")
        client.expect(f"AUTH {mechanism} AAAA", "504 5.5.4")
        client.expect(plain("pos1", "password"), "235")


TWINS = ["beta\\pos1", "pos1@BETA", "pos1@beta ", " pos1@beta", "Pos1@beta", "ｐos1@beta", "pos\u00ad1@beta", "pos1\u200b@beta", "pos1@beta.", "pos1＠beta", "ро1@beta", "pos1", "pos1@acme@beta", "pos1@beta\t"]


@case("C12", "look-alikes of a login", start=False, after=user("pos1@acme", "same"))
def _(rig):
    """A login is compared octet by octet, which is narrower than PRECIS."""
    beta = rig.another_tenant("beta", after=user("pos1@beta", "same"))
    rig.start()
    sources = Sources()
    for twin in TWINS:
        client = at(rig, sources.next())
        client.expect(plain(twin, "same"), ("535 5.7.8", "501 5.5.2"))
        client = at(rig, sources.next())
        if client.send("AUTH LOGIN " + b64(twin)).startswith("334"):
            client.expect(b64("same"), "535 5.7.8")
    for login, upstream, other in (("pos1@acme", rig.upstream, beta), ("pos1@beta", beta, rig.upstream)):
        before = len(other.received)
        client = at(rig, "127.0.0.2")
        client.expect(plain(login, "same"), "235")
        client.message(rig.message())
        upstream.wait(1)
        check(len(other.received) == before, f"mail of {login} came to the other tenant's server")


@case("C13", "what survives RSET, EHLO and STARTTLS", listener='auth = "required"', after=user(more='email = "pos1@acme.example"'))
def _(rig):
    client = rig.client()
    client.expect("MAIL FROM:<a@b.example>", "530 5.7.0")
    client.expect(plain("pos1", "right"), "235")
    client.expect("RSET", "250")
    client.message(rig.message())
    check("AUTH" not in client.expect("EHLO again.example", "250"), "AUTH offered to one who is logged in")
    client.message(rig.message())
    client.starttls()
    client.expect("MAIL FROM:<a@b.example>", ("503 5.5.1", "530 5.7.0"))
    check("AUTH" in client.expect("EHLO client.example", "250"), "the login survived STARTTLS")
    client.expect("MAIL FROM:<a@b.example>", "530 5.7.0")
    client.expect(plain("pos1", "right"), "235")
    client.message(rig.message())
    rig.delivered(3)
    # The rig's well-behaved client has no login here.
    rig.good_client = lambda: client.message(rig.message())


def rotated(rig, change, login="pos1", old="right", new="changed"):
    """A session whose login changes under it: its next MAIL is refused, the new password works."""
    client = rig.client()
    client.expect(plain(login, old), "235")
    client.message(rig.message())
    count = rig.log.count("event=reloaded")
    change()
    rig.wait_log("event=reloaded", count=count + 1)
    reply = client.send("MAIL FROM:<a@b.example>")
    after = rig.client().send(plain(login, old))
    fresh = rig.client().send(plain(login, new)) if new else "235"
    return reply, after, fresh


SECRET_PLACES = '[[user]]\nlogin = "file"\npassword = { file = "../secret" }\n[[user]]\nlogin = "vault"\npassword = { vault = "pos" }\n'


@case("C14", "a password changed, a login removed while it is in use", start=False)
def _(rig):
    rig.write("secret", "right\n")
    rig.run("vault", "set", "pos", input=b"right")
    path = rig.directory / "tenants/acme.toml"
    base = path.read_text()
    rig.tenant("acme", base + user() + user("gone") + SECRET_PLACES)
    rig.start()

    def file():
        rig.write("secret", "changed\n")
        rig.signal(1)

    def vault():
        rig.run("vault", "set", "pos", input=b"changed")
        rig.signal(1)

    changes = [
        ("its text", "pos1", "changed", lambda: rig.tenant("acme", base + user(password="changed") + user("gone") + SECRET_PLACES)),
        ("removed", "gone", None, lambda: rig.tenant("acme", base + user(password="changed") + SECRET_PLACES)),
        ("its file", "file", "changed", file),
        ("its vault entry", "vault", "changed", vault),
    ]
    wrong = []
    for what, login, new, change in changes:
        reply, after, fresh = rotated(rig, change, login, new=new)
        if not after.startswith("535") or not fresh.startswith("235"):
            wrong.append(f"{what}: then the old password was answered {after!r}, the new one {fresh!r}")
        if not reply.startswith("535 5.7.8"):
            wrong.append(f"{what}: the open session went on with {reply!r}")
    check(not wrong, "; ".join(wrong))


@case("C15", "a flood of logins", after=user() + user("pos2", "other"))
def _(rig):
    """150 connections, each of which tries again as soon as it is answered, for three seconds."""
    owner = at(rig, "127.0.0.2")
    owner.expect(plain("pos1", "right"), "235")
    owner.close()
    begin = rig.resident()
    clients = [at(rig, f"127.0.9.{n + 1}") for n in range(150)]
    answers, waited = [], []
    by_socket = {client.socket: client for client in clients}
    for client in clients:
        client.raw(plain("pos1", "wrong").encode() + b"\r\n")
    until, look = time.monotonic() + 3, time.monotonic() + 0.5
    while time.monotonic() < until and by_socket:
        for ready in select.select(list(by_socket), [], [], 0.05)[0]:
            client = by_socket[ready]
            answer = client.reply()
            answers.append(answer[:9])
            if answer.startswith(("535", "454")):
                client.raw(plain("pos1", "wrong").encode() + b"\r\n")
            else:
                del by_socket[ready]
        if time.monotonic() > look:
            begun = time.monotonic()
            owner = at(rig, "127.0.0.2")
            owner.expect(plain("pos1", "right"), "235")
            owner.message(rig.message())
            owner.close()
            waited.append(time.monotonic() - begun)
            look = time.monotonic() + 0.5
    peak = rig.resident(peak=True) - begin
    for client in clients:
        client.close()
    check(set(answers) <= {"535 5.7.8", "454 4.7.0", "421 4.7.0"}, f"answers: {set(answers)}")
    check("454 4.7.0" in answers, "nobody was told that too many wait")
    check(len(waited) >= 3 and max(waited) < 2, f"others waited {waited}")
    check(peak < 100, f"{peak:.0f} MiB more memory")
    wait_until("the flood is over", lambda: at(rig, "127.0.0.3").send(plain("pos2", "other")).startswith("235"), 10)
