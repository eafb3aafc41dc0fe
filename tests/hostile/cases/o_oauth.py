"""O: OAuth2 upstreams: XOAUTH2, Microsoft Graph and the Gmail API against faithful fakes. (O03 to O07: o_tables.py)"""

import base64, concurrent.futures, contextlib, email, email.policy, hashlib, http.client, json, os, pathlib, random, re, socket, stat, subprocess, threading, time, urllib.parse

import oauth_rig
import rig as base
import provider as fake
from oauth_rig import MAILBOX, tenant_text
from provider import MB, Provider
from provider_smtp import MicrosoftSmtp
from rig import TOKEN, Broken, case, check, wait_until

GRAPH = "https://graph.microsoft.com/"
GMAIL_SEND = "https://www.googleapis.com/auth/gmail.send"
BIG = 'max_message_size = "60MiB"'


def disguised(secret):
    """A secret as it is, in an address, and inside something in base64, wherever it begins."""
    plain = secret.encode()
    inside = [base64.b64encode(b"\0" * shift + plain)[4 if shift else 0 : -4].decode() for shift in range(3)]
    return [secret, urllib.parse.quote(secret, safe=""), *inside, *(text.replace("+", "-").replace("/", "_") for text in inside)]


class Installation(oauth_rig.Installation):
    """Also what any command prints holds no secret (V3)."""

    def run(self, *arguments, **more):
        done = super().run(*arguments, **more)
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        for secret in self.provider.secrets:
            check(not any(form in said for form in disguised(secret)), f"V3: {secret[:20]} stands in what {arguments} prints")
        return done


def hand_in(place, count=1, client=None, **envelope):
    """So many small messages, one connection; gives [(id, token)]."""
    own = client or place.client()
    found = []
    for _ in range(count):
        content = place.message()
        found.append((own.message(content, **envelope), TOKEN.search(content)[0]))
    if client is None:
        own.expect("QUIT", "221")
        own.close()
    return found


def arrivals(place, token):
    return [message for message in place.delivered_now() if token in message.raw and b"multipart/report" not in message.raw[:4000]]


def arrives(place, token, limit=30):
    """Waits until a message is delivered; gives it."""
    try:
        return wait_until("", lambda: arrivals(place, token), limit)[0]
    except Broken:
        raise Broken(f"{token.decode()} is not delivered within {limit} s: {place.queue()}\n{place.log[-1500:]}") from None


def requests(provider, *kinds):
    return [request for request in list(provider.requests) if request.kind in kinds]


def recipients(message):
    return sorted(message.recipients)


def waiting(place, identity):
    """A message as `queue list --json` has it; None: settled."""
    return next((message for message in place.queue() if message["id"] == identity), None)


def reaches(place, identity, *states, limit=20):
    """Waits until a message is in one of these states; gives it."""

    def look():
        found = waiting(place, identity)
        return found if found and found["state"] in states else None

    try:
        return wait_until("", look, limit)
    except Broken:
        raise Broken(f"{identity} does not become {states}: {place.queue()}\n{place.log[-2000:]}") from None


def each(parts, at_once=1):
    """Plays all parts of a case (name: function), so many at once; says which broke."""
    broken = []
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for name, part in [(name, pool.submit(part)) for name, part in parts.items()]:
            try:
                part.result()
            except Broken as reason:
                broken.append(f"{reason} ({name})")
    # One that breaks an invariant first: it is not excused by a slow machine.
    check(not broken, "\n".join(sorted(broken, key=lambda words: not re.match(r"V\d", words))))


# --------------------------------------------------------------------------- refreshes


def log_out(place):
    """Ends what connections are kept: they are logged in, and would carry mail without a token."""
    if place.smtp:
        if place.process.poll() is None:
            wait_until("no answer is under way", lambda: not place.queue())
        for session in place.smtp.alive():
            # Below TLS: the session's own thread sees the end and does the rest.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(session.socket, socket.SHUT_RDWR)
        wait_until("no connection is left", lambda: not place.smtp.alive())


def one_refresh(place, count):
    """`count` messages whose access token is over, then again whose token is refused though it looks good: one
    refresh each time, and nobody notices."""
    provider = place.provider
    provider.expires_in = 2
    hand_in(place)
    place.sent(1)
    time.sleep(2.2)
    provider.expires_in = 3599
    for number, how in enumerate(("over", "refused"), 1):
        log_out(place)
        if how == "over":
            provider.token_barrier = threading.Event()
        else:
            provider.expire_access()
        before = place.token_count()
        hand_in(place, count)
        if provider.token_barrier:
            # All who deliver wait for the one token.
            wait_until("the token is asked for", lambda: provider.held)
            time.sleep(0.5)
            check(place.token_count() == before + 1, f"{how}: {place.token_count() - before} refreshes under way at once")
            provider.token_barrier.set()
            provider.token_barrier = None
        place.sent(1 + number * count)
        check(place.token_count() == before + 1, f"{how}: {place.token_count() - before} refreshes for {count} messages")
        bad = place.log.count("event=deferred") + place.log.count("event=bounced")
        check(not bad, f"{how}: {bad} messages were not delivered at once:\n{place.log[-2000:]}")


def slowly(verb, seconds):
    """A handler of an SMTP upstream that takes its time."""

    def answer(session, line):
        time.sleep(seconds)
        return session._usual(verb, line)

    return answer


@case("O01", "50 parallel deliveries with an expired access token: one refresh", start=False)
def _(rig):
    provider = Provider("microsoft")
    smtp = MicrosoftSmtp(provider.check_smtp_token, connection_limit=None)
    smtp.on["MAIL"] = slowly("MAIL", 1)
    with Installation("microsoft-smtp", grant="refresh-token", provider=provider, smtp=smtp, upstream="connections = 50") as place:
        place.descriptors += 100
        one_refresh(place, 50)
        check(smtp.connections_max > 30, f"only {smtp.connections_max} connections at once: nothing was parallel")
    with Installation("graph", grant="refresh-token", upstream="connections = 4") as place:
        place.provider.delay["sendMail"] = 0.1
        one_refresh(place, 14)
        check(place.provider.in_flight_max[MAILBOX] > 2, f"only {place.provider.in_flight_max} at once: nothing was parallel")


def twin(provider, access):
    """The refresh token that was given together with an access token."""
    return provider.minted[provider.minted.index(access) - 1]


def restart(place):
    place.kill()
    place.start()


@case("O02", "kill -9 around a refresh: the newest stored token is used, the account works", start=False)
def _(rig):
    with Installation("graph", grant="refresh-token") as place:
        provider = place.provider
        configured = next(iter(provider.refresh))
        provider.expires_in = 1
        ages = lambda: list(provider.refresh)

        def newest_used():
            """The refresh token beside the newest access token that was seen at the API: it must be stored."""
            seen = [r.headers["Authorization"].removeprefix("Bearer ") for r in requests(provider, "sendMail", "sent-items")]
            return twin(provider, seen[-1]) if seen else configured

        def killed_at(moment, words):
            """Hands in a message, kills at that moment, starts again: what is asked with then?"""
            time.sleep(1.1)  # the token in hand is over
            _, token = hand_in(place)[0]
            moment()
            place.kill()
            place.may_repeat.add(token)  # nobody knows what became of its request
            provider.token_barrier, at_least, asked = None, newest_used(), place.token_count()
            given = max(ages().index(form["refresh_token"]) for form in provider.token_requests) if provider.token_requests else 0
            place.start()
            for token in (token, hand_in(place)[0][1]):
                arrives(place, token)
            first = ages().index(provider.token_requests[asked]["refresh_token"])
            check(first >= ages().index(at_least), f"{words}: an older refresh token than that of the access token in use")
            check(first >= given, f"{words}: asked with token {first}, though {given} was stored already")

        def held():
            wait_until("the token is asked for", lambda: provider.held)

        provider.token_barrier = threading.Event()
        killed_at(held, "first token held")
        for number in range(3):
            provider.token_barrier = threading.Event()
            killed_at(held, f"held, {number}")
        for number in range(8):
            asked = place.token_count()

            def moment():
                wait_until("a token is given", lambda: any(r.status for r in requests(provider, "token")[asked:]))
                time.sleep(random.random() * 0.02)

            killed_at(moment, f"given, {number}")
        # From here on what was used is dead: only what is stored in time keeps the account alive.
        provider.strict = True
        for number in range(4):
            sent = len(provider.sent)

            def moment():
                place.sent(sent + 1)
                time.sleep(random.random() * 0.01)

            killed_at(moment, f"strict, {number}")
        check(not place.queue(), f"{place.queue()}")


# --------------------------------------------------------------------------- large mail

NAMES = [
    (b"filename*=utf-8''Rechnung%20M%C3%A4rz%20%E2%82%AC.pdf", "Rechnung März €.pdf"),
    (b'filename="=?utf-8?Q?Lieferschein_=C3=9C.pdf?="', "Lieferschein Ü.pdf"),
    (b"filename*0*=iso-8859-1''Gr%F6%DFe%20; filename*1*=%FCber; filename*2=\" alles.bin\"", "Größe über alles.bin"),
    (b'filename="a, b; \\"c\\".txt"', 'a, b; "c".txt'),
]
"""Names of attachments as they are written, RFC 2231 and RFC 2047, and as they are meant."""

IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
CONTENT_ID = "logo.1@acme.example"
HTML = '<p>Grüße</p>\r\n.\r\n<img src="cid:logo.1@acme.example">'.encode()


def digest(octets):
    return hashlib.sha256(octets).hexdigest()


def lines64(content):
    return base64.encodebytes(content).replace(b"\n", b"\r\n")


def attachment(content, name, kind=b"application/octet-stream"):
    return b"--mix\r\nContent-Type: " + kind + b"\r\nContent-Disposition: attachment; " + name + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + lines64(content)


def letter(place, sizes, to=b"a@else.example", cc=b"b@else.example"):
    """A letter with HTML, an inline image and attachments of these sizes: (raw, [(name, SHA-256)], token)."""
    token = place.token().encode()
    head = b"From: app@source.example\r\nTo: " + to + b"\r\nCc: " + cc + b"\r\nSubject: " + token + b"\r\nMIME-Version: 1.0\r\nX-ERP: 4711\r\n"
    head += b'Content-Type: multipart/mixed; boundary="mix"\r\n\r\n--mix\r\nContent-Type: multipart/related; boundary=rel; type="multipart/alternative"\r\n\r\n'
    head += b"--rel\r\nContent-Type: multipart/alternative; boundary=alt\r\n\r\n--alt\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n\r\n"
    head += b"--alt\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" + lines64(HTML) + b"--alt--\r\n"
    head += b"--rel\r\nContent-Type: image/png; name=logo.png\r\nContent-ID: <" + CONTENT_ID.encode() + b">\r\nContent-Disposition: inline; filename=logo.png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    head += lines64(IMAGE) + b"--rel--\r\n"
    parts, wanted = [head], [("logo.png", digest(IMAGE))]
    for number, size in enumerate(sizes):
        written, meant = NAMES[number % len(NAMES)]
        content = random.randbytes(size)
        parts.append(attachment(content, written))
        wanted.append((meant, digest(content)))
    return b"".join(parts) + b"--mix--\r\n", sorted(wanted), token


def same_letter(message, wanted, number):
    """What arrived is what was handed in: files, image, text, and nobody sees the third recipient."""
    found = sorted(message.attachments)
    check(found == wanted, f"{number}: the attachments are {found}, not {wanted}")
    parsed = email.message_from_bytes(message.raw, policy=email.policy.default)
    images = [part for part in parsed.walk() if (part["Content-ID"] or "").strip("<> ") == CONTENT_ID]
    check(len(images) == 1 and digest(images[0].get_payload(decode=True)) == digest(IMAGE), f"{number}: the inline image is {images}")
    texts = {part.get_content_type(): part.get_payload(decode=True) for part in parsed.walk() if part.get_content_type().startswith("text/")}
    check(texts.get("text/html") == HTML, f"{number}: the HTML is {texts.get('text/html')}")
    check(texts.get("text/plain", b"").strip() == b"hello", f"{number}: the text is {texts.get('text/plain')}")
    check(parsed["X-ERP"] == "4711", f"{number}: X-ERP is {parsed['X-ERP']}")
    check(recipients(message) == ["a@else.example", "b@else.example", "c@else.example"], f"{number}: delivered to {message.recipients}")
    check(b"c@else.example" not in message.visible and not re.search(rb"(?im)^bcc:", message.visible), f"{number}: the third recipient can be seen")


SIZES = {
    1: [300_000, 200_000, 100_000, 100_000],
    3: [1_300_000, 600_000, 200_000],
    4: [2_920_000, 20_000],
    10: [2_960_000, 3_050_000, 1_200_000],
    35: [3_000_000, 2_999_999, 12_000_000, 8_450_000],
}
"""Attachments by the size of the mail in MB; 35: just below the limit of 35 MiB."""


def large(place, ways):
    """Every size through the installation; `ways`: how each must have gone."""
    client, letters = place.client(), {}
    for number, sizes in SIZES.items():
        raw, wanted, token = letter(place, sizes)
        if number == 35:
            check(0.97 * 35 * MB < len(raw) < 35 * MB, f"the largest has {len(raw)} octets")
        client.message(raw, to=("a@else.example", "b@else.example", "c@else.example"))
        letters[number] = token, wanted
    for number, (token, wanted) in letters.items():
        message = arrives(place, token, 90)
        check(message.how == ways[number], f"{number}: went by {message.how}")
        same_letter(message, wanted, number)
    check("event=deferred" not in place.log, f"not at once:\n{place.log[-3000:]}")


@case("O08", "1 to 35 MB through Graph", start=False)
def _(rig):
    with Installation("graph", server=BIG) as place:
        large(place, {1: "sendMail", 3: "draft", 4: "draft", 10: "draft", 35: "draft"})
        provider = place.provider
        check(not provider.drafts and not provider.sessions, f"left over: {len(provider.drafts)} drafts, {len(provider.sessions)} uploads")
        check(max(len(r.body) for r in requests(provider, "put")) <= 4 * MB, "an upload of more than 4 MB")


@case("O09", "1 to 35 MB through Gmail", start=False)
def _(rig):
    with Installation("gmail", server=BIG) as place:
        large(place, {1: "media", 3: "media", 4: "media", 10: "resumable", 35: "resumable"})


# --------------------------------------------------------------------------- limits


def beside(place, name, email):
    """A second tenant over the same provider, by its own login; `hand_in(…, client=…)` with the client that this gives."""
    place.provider.mailboxes.add(email)
    user = f'[[user]]\nlogin = "{name}"\npassword = "pass-{name}"\nsenders = ["*@source.example"]'
    place.tenant(name, tenant_text(place.kind, place.provider.toml("client-credentials", mailbox=email), email=email, after=user))

    def client():
        found = place.client()
        found.login(name, f"pass-{name}")
        return found

    return client


@case("O10", "Graph: 4 in flight, 30 a minute, Retry-After", start=False)
def _(rig):
    with Installation("graph", start=False) as place:
        provider = place.provider
        other = beside(place, "beta", "beta@acme.example")
        place.start()
        hand_in(place, client=other())
        hand_in(place)
        place.sent(2)
        provider.fail["sendMail"] = [fake.throttle(429, 2)]
        (first, _), = hand_in(place)
        refused = wait_until("429 is said", lambda: [r for r in requests(provider, "sendMail") if r.status == 429])[0]
        said = time.time()
        reaches(place, first, "deferred")
        client = other()
        hand_in(place, 4)
        hand_in(place, 5, client)
        wait_until("the other tenant's mail leaves", lambda: len([s for s in provider.sent if s.mailbox == "beta@acme.example"]) == 6, 1.5)
        check(len([s for s in provider.sent if s.mailbox == MAILBOX]) == 1, "mail left over the paused mailbox")
        place.sent(12)
        early = [r.time - refused.time for r in requests(provider, "sendMail") if r.mailbox == MAILBOX and refused.time < r.time < refused.time + 2]
        check(not early, f"asked again after {early} s")
        check(time.time() - said < 15, f"the pause of 2 s took {time.time() - said:.0f} s")
    count = 200 if os.environ.get("POSTBOTE_LONG") == "1" else 35
    with Installation("graph") as place:
        provider = place.provider
        provider.delay["sendMail"] = 0.4
        hand_in(place, count)
        place.sent(count, 40 + count / 30 * 62)
        check(1 < provider.in_flight_max[MAILBOX] <= 4, f"{provider.in_flight_max} in flight")
        check(25 <= provider.per_minute_max(MAILBOX) <= 30, f"{provider.per_minute_max(MAILBOX)} within 60 s")
        statuses = [r.status for r in requests(provider, "sendMail")]
        check(statuses == [202] * count, f"the provider answered {set(statuses)}")


# --------------------------------------------------------------------------- consent


class Connect:
    """`postbote oauth connect acme` while it waits for a person."""

    def __init__(self, place, *arguments):
        self.place = place
        self.path = place.directory / f"connect.{time.monotonic_ns()}"
        environment = {key: value for key, value in os.environ.items() if "DISPLAY" not in key}
        environment |= {**place.environment, "POSTBOTE_CONFIG": str(place.directory / "postbote.toml")}
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen([base.BINARY, "oauth", "connect", "acme", *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=place.directory)

    @property
    def text(self):
        return self.path.read_bytes().decode("utf-8", "replace")

    def says(self, pattern):
        """Waits for words of it; gives the match."""

        def look():
            found = re.search(pattern, self.text)
            check(found or self.process.poll() is None, f"connect ended with {self.process.poll()}: {self.text}")
            return found

        return wait_until(f"connect says {pattern}: {self.text}", look)

    @property
    def url(self):
        return self.says(r"(?m)^http\S+(?=\n)")[0]

    @property
    def state(self):
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.url).query))["state"]

    @property
    def back(self):
        """Where the browser comes back to."""
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.url).query))["redirect_uri"]

    def ends(self, code):
        """Waits for the exit code; gives what it said. No secret stands there, nor in its arguments."""
        try:
            found = self.process.wait(30)
        except subprocess.TimeoutExpired:
            raise Broken(f"connect does not end: {self.text}") from None
        check(found == code, f"connect ended with {found}, wanted {code}: {self.text}")
        self.clean(self.text)
        return self.text

    def clean(self, text, where="what connect says"):
        for secret in self.place.provider.secrets:
            check(not any(form in text for form in disguised(secret)), f"V3: {secret[:20]} stands in {where}")
        check(not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text), f"V6: a control character in {where}: {text!r}")

    def arguments_are_clean(self):
        self.clean(pathlib.Path(f"/proc/{self.process.pid}/cmdline").read_text().replace("\0", " "), "/proc/PID/cmdline")

    def leave(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def connecting(place, *arguments):
    found = Connect(place, *arguments)
    try:
        yield found
    finally:
        found.leave()


def browse(location, host=None, follow=True):
    """What a browser does with an address on loopback: gives [(status, headers, body)], redirects followed."""
    found = []
    for _ in range(5):
        parts = urllib.parse.urlsplit(location)
        connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=20)
        connection.request("GET", (parts.path or "/") + ("?" + parts.query if parts.query else ""), headers={"Host": host or parts.netloc})
        answer = connection.getresponse()
        found.append((answer.status, answer.headers, answer.read().decode()))
        connection.close()
        if answer.status not in (301, 302, 303, 307, 308) or not follow:
            return found
        location = urllib.parse.urljoin(location, answer.headers["Location"])
    raise Broken(f"redirected without end: {found}")


def standing(place):
    """The tenant in `oauth status --json`."""
    found = json.loads(place.run("oauth", "status", "--json").stdout)
    return next(item for item in found if item["tenant"] == "acme")


def codes(provider):
    """How often a code was exchanged."""
    return sum(form.get("grant_type") == "authorization_code" for form in provider.token_requests)


def nothing_kept(place, words):
    found = standing(place)
    check(not found["connected"] and not found["account"], f"{words}: oauth status says {found}")
    check(b"oauth/acme" not in place.run("vault", "list").stdout, f"{words}: the vault holds a consent")
    kept = [str(path) for path in (place.data / "oauth").rglob("*") if path.suffix != ".lock"] if (place.data / "oauth").exists() else []
    check(not kept, f"{words}: {kept}")
    check(not place.delivered_now(), f"{words}: something was sent")


def refused_page(pages, words):
    """The page after a refusal: 303 to an address without the code, then a page that says why, escaped."""
    check([page[0] for page in pages] == [303, 200], f"{words}: {[page[:2] for page in pages]}")
    check(pages[0][1]["Location"].endswith("/done"), f"{words}: sent to {pages[0][1]['Location']}")
    check("Not connected" in pages[1][2], f"{words}: the page is {pages[1][2]}")


def good_consent(place, words):
    """Connects as it should be: what waits leaves by itself. The code goes nowhere twice."""
    provider = place.provider
    exchanged = codes(provider)
    with connecting(place) as person:
        location = provider.sign_in(person.url)
        check(location.startswith(person.back), f"{words}: sent to {location}")
        person.arguments_are_clean()
        first = browse(location, follow=False)[0]
        check(first[0] == 303 and first[1]["Location"].endswith("/done"), f"{words}: the browser got {first[:2]}")
        check(first[1]["Referrer-Policy"] == "no-referrer" and "no-store" in first[1]["Cache-Control"], f"{words}: {first[1]}")
        again = browse(location)
        check(again[-1][0] == 400, f"{words}: the same answer again got {again[-1]}")
        done = browse(urllib.parse.urljoin(location, "/done"))[-1]
        check(done[0] == 200 and "Connected" in done[2], f"{words}: the page is {done}")
        person.clean("".join(str(page) for page in (first, again, done)), "a page")
        text = person.ends(0)
        check(MAILBOX in text, f"{words}: {text}")
    check(codes(provider) == exchanged + 1, f"{words}: {codes(provider) - exchanged} codes exchanged")
    found = standing(place)
    check(found["connected"] and found["account"] == MAILBOX, f"{words}: {found}")


def consents(kind):
    """All that can be wrong with an answer, then a right one, at one kind of upstream."""
    with Installation(kind, grant="authorization-code") as place:
        provider = place.provider
        (identity, token), = hand_in(place)
        reaches(place, identity, "suspended")
        nothing_kept(place, "before")

        # The state is another: nothing is exchanged, and the right answer is still welcome.
        with connecting(place) as person:
            provider.wrong_state = True
            pages = browse(provider.sign_in(person.url))
            provider.wrong_state = False
            check(pages[-1][0] == 400 and "does not belong" in pages[-1][2], f"wrong state: {pages}")
            for query in ("", "?state=", "?code=x", f"?state={person.state}x&code=x", f"?state={person.state[:-1]}&code=x"):
                check(browse(person.back + query)[-1][0] == 400, f"taken: {query}")
            # Somebody's page that resolves to loopback.
            port = urllib.parse.urlsplit(person.back).port
            for host in (f"evil.example:{port}", "evil.example", "localhost", f"localhost:{port + 1}", f"localhost.evil.example:{port}"):
                status = browse(f"{person.back}/?code=x&state={person.state}", host=host)[-1][0]
                check(status in (400, 403, 404, 421), f"Host {host}: {status}")
            check(not codes(provider), "a code was exchanged")
            check(person.process.poll() is None, f"it ended: {person.text}")
            nothing_kept(place, "wrong state")

        # A person said no; what the provider says of it is shown, as text.
        with connecting(place) as person:
            query = urllib.parse.urlencode({"error": "access_denied", "error_description": "<script>alert('x')</script>\x1b]0;x\x07 \"& no", "state": person.state})
            pages = browse(f"{person.back}/?{query}")
            refused_page(pages, "denied")
            check("<script" not in pages[1][2] and "&lt;script&gt;" in pages[1][2], f"not escaped: {pages[1][2]}")
            check("access_denied" in person.ends(1), f"denied: {person.text}")
        check(not codes(provider), "denied: a code was exchanged")
        nothing_kept(place, "denied")
        with connecting(place) as person:
            provider.deny = True
            refused_page(browse(provider.sign_in(person.url)), "denied by the provider")
            provider.deny = False
            check("access_denied" in person.ends(1), f"denied: {person.text}")

        # Somebody else has signed in.
        provider.signs_in_as = "other@acme.example"
        with connecting(place) as person:
            refused_page(browse(provider.sign_in(person.url)), "another account")
            text = person.ends(1)
            check("other@acme.example" in text and MAILBOX in text, f"another account: {text}")
        provider.signs_in_as = None
        nothing_kept(place, "another account")

        # What was granted is not enough.
        less = {"graph": GRAPH + "Mail.ReadWrite", "microsoft-smtp": "https://outlook.office.com/IMAP.AccessAsUser.All"}.get(kind, "openid email")
        needed = {"graph": "Mail.Send", "microsoft-smtp": "SMTP.Send", "gmail": "gmail.send", "google-smtp": "https://mail.google.com/"}[kind]
        shapes = {
            "no refresh token": (lambda answer: {k: v for k, v in answer.items() if k != "refresh_token"}, "refresh token"),
            "too little": (lambda answer: {**answer, "scope": less}, needed),
        }
        for words, (shape, said) in shapes.items():
            provider.shape = shape
            with connecting(place) as person:
                pages = browse(provider.sign_in(person.url))
                check("Not connected" in pages[-1][2], f"{words}: {pages[-1]}")
                text = person.ends(1)
                check(said in text, f"{words}: {said!r} does not stand in {text}")
            provider.shape = None
            nothing_kept(place, words)

        check(waiting(place, identity)["state"] == "suspended", f"{place.queue()}")
        good_consent(place, "good")
        arrives(place, token)
        hand_in(place)
        place.sent(2)

        # A later refusal takes nothing away.
        provider.signs_in_as = "other@acme.example"
        with connecting(place) as person:
            browse(provider.sign_in(person.url))
            person.ends(1)
        provider.signs_in_as = None
        check(standing(place)["account"] == MAILBOX, f"{standing(place)}")
        wait_until("all is settled", lambda: not place.queue())
        restart(place)
        hand_in(place)
        place.sent(3)


@case("O11", "authorization code from end to end", start=False)
def _(rig):
    each({kind: lambda kind=kind: consents(kind) for kind in ("graph", "google-smtp", "gmail", "microsoft-smtp")})


def device(grant, *arguments):
    """A code on another device: pending, slow_down, then consent; and what may go wrong."""
    with Installation("graph", grant=grant) as place:
        provider = place.provider
        provider.device_interval = 1
        (identity, token), = hand_in(place)
        reaches(place, identity, "suspended")
        for answer, said in (("authorization_declined", "declin"), ("expired_token", "expired")):
            provider.device_answers = [answer]
            with connecting(place, *arguments) as person:
                check(re.search(said, person.ends(1)), f"{answer}: {person.text}")
            nothing_kept(place, answer)
        provider.device_answers, provider.signs_in_as = [], "other@acme.example"
        with connecting(place, *arguments) as person:
            check("other@acme.example" in person.ends(1), f"another account: {person.text}")
        nothing_kept(place, "another account")
        provider.signs_in_as, provider.device_answers = None, ["authorization_pending", "slow_down"]
        asked = len(requests(provider, "token"))
        with connecting(place, *arguments) as person:
            person.says(r"https://microsoft\.com/devicelogin")
            person.says(r"\b[0-9A-F]{8}\b")
            person.arguments_are_clean()
            check(MAILBOX in person.ends(0), person.text)
        times = [r.time for r in requests(provider, "token")[asked:]]
        steps = [later - earlier for earlier, later in zip(times, times[1:])]
        check(steps[0] > 0.9 and 5.9 < steps[1] < 10, f"polled after {steps[:2]} s")
        found = standing(place)
        check(found["connected"] and found["account"] == MAILBOX, f"{found}")
        arrives(place, token)


@case("O12", "device code", start=False)
def _(rig):
    device("device-code")
    device("authorization-code", "--device")
    for kind in ("gmail", "google-smtp"):
        with Installation(kind, grant="authorization-code") as place:
            with connecting(place, "--device") as person:
                text = person.ends(64)
            check("ssh" in text.lower() and "service-account" in text, f"{kind}: no advice: {text}")
            check(not requests(place.provider, "device", "token"), f"{kind}: the provider was asked")


# --------------------------------------------------------------------------- applications by themselves


@case("O13", "client credentials with a certificate", start=False)
def _(rig):
    for kind in ("graph", "microsoft-smtp"):
        with Installation(kind, start=False) as place:
            provider = place.provider
            certificate, key = provider.certificate(place.directory)
            oauth = provider.toml("client-credentials", mailbox=MAILBOX, client_secret=None, client_certificate=str(certificate), client_key=f'{{ file = "{key}" }}')
            text = (place.directory / "tenants/acme.toml").read_text()
            place.tenant("acme", text[: text.index("[upstream.oauth]")] + oauth)
            place.canaries.append("".join(key.read_text().split("\n")[1:3]).encode())
            place.start()
            hand_in(place)
            place.sent(1)
            form = provider.token_requests[0]
            check("client_secret" not in form and form.get("client_assertion"), f"{kind}: {sorted(form)}")
            header, claims, _, _ = fake.read_jwt(form["client_assertion"])
            check(header["alg"] == "PS256" and "x5t#S256" in header, f"{kind}: {header}")
            check(0 < claims["exp"] - claims["nbf"] <= 600, f"{kind}: {claims}")
            # Every token by an assertion of its own.
            provider.expire_access(), log_out(place)
            hand_in(place)
            # The notice that the certificate is about to end leaves as well.
            wait_until("another token", lambda: len(provider.token_requests) >= 2)
            assertions = [form["client_assertion"] for form in list(provider.token_requests)]
            check(len(set(assertions)) == len(assertions), f"{kind}: the same assertion twice")
            end, = (item for item in standing(place)["ends"] if "certificate" in item["what"])
            check(end["days"] in (1, 2), f"{kind}: ends in {end}")
            said = place.run("oauth", "status").stdout.decode()
            check(re.search(r"certificate: [12] days", said), f"{kind}: {said}")
            one = place.run("oauth", "status", "acme").stdout.decode()
            check(re.search(r"certificate: [12] days", one), f"{kind}: {one}")
            # Another certificate is refused, and it is told what to do.
            provider.certificates.clear()
            provider.expire_access(), log_out(place)
            (identity, token), = hand_in(place)
            found = reaches(place, identity, "suspended")
            check("700027" in found["reason"], f"{kind}: {found}")
            provider.register_certificate(certificate.read_text())
            arrives(place, token)


@case("O14", "Google service account", start=False)
def _(rig):
    for kind in ("gmail", "google-smtp"):
        provider = Provider("google")
        with Installation(kind, grant="service-account", provider=provider, start=False) as place:
            path = provider.service_account(place.directory)
            key = json.loads(path.read_text())
            place.canaries += [key["private_key"].split("\n")[2].encode(), key["private_key_id"].encode()]
            oauth = provider.toml("service-account", mailbox=MAILBOX, service_account=f'{{ file = "{path}" }}')
            text = (place.directory / "tenants/acme.toml").read_text()
            place.tenant("acme", text[: text.index("[upstream.oauth]")] + oauth)
            place.start()
            hand_in(place)
            place.sent(1)
            _, claims, _, _ = fake.read_jwt(provider.token_requests[0]["assertion"])
            scope = GMAIL_SEND if kind == "gmail" else "https://mail.google.com/"
            check(claims["scope"] == scope and claims["sub"] == MAILBOX and claims["aud"] == provider.token_url, f"{kind}: {claims}")
            check("refresh_token" not in str(provider.token_requests), f"{kind}: {provider.token_requests}")
            time.sleep(1.1)  # the time stands in it in seconds
            provider.expire_access(), log_out(place)
            hand_in(place)
            place.sent(2)
            check(len({form["assertion"] for form in provider.token_requests}) == 2, f"{kind}: the same assertion twice")
            # The administrator takes the permission away, and gives it back.
            granted, provider.delegated_scopes = provider.delegated_scopes, set()
            provider.expire_access(), log_out(place)
            (identity, token), = hand_in(place)
            found = reaches(place, identity, "suspended")
            check("unauthorized_client" in found["reason"], f"{kind}: {found}")
            provider.delegated_scopes = granted
            arrives(place, token)


# --------------------------------------------------------------------------- SMTP with tokens


def rewrite(place, old, new, tenant="acme"):
    """Changes the text of a tenant's file."""
    text = (place.directory / f"tenants/{tenant}.toml").read_text()
    check(old in text, f"{old!r} does not stand in {text}")
    place.tenant(tenant, text.replace(old, new))


def auth_lines(smtp):
    return [line for line in list(smtp.lines) if line.upper().startswith(b"AUTH")]


@case("O15", "XOAUTH2 at Microsoft", start=False)
def _(rig):
    def over(authentication="xoauth2", grant=None, shared=None, refused=False, **knobs):
        """One message over a server with these knobs; gives the server."""
        provider = Provider("microsoft")
        smtp = MicrosoftSmtp(provider.check_smtp_token, **knobs)
        with Installation("microsoft-smtp", grant=grant, provider=provider, smtp=smtp, start=False, oauth={"mailbox": shared} if shared else None) as place:
            if shared:
                provider.mailboxes.add(shared), provider.shared.add(shared)
            rewrite(place, '"xoauth2"', f'"{authentication}"')
            place.start()
            (identity, token), = hand_in(place)
            if refused:
                reaches(place, identity, "suspended", "deferred")
                time.sleep(1.5)
                check(not smtp.received and not smtp.auths, f"{authentication}: {smtp.auths}")
            else:
                arrives(place, token)
                check("event=deferred" not in place.log, f"not at once: {place.log[-1500:]}")
        return smtp

    def initial():
        for grant in ("client-credentials", "refresh-token"):
            smtp = over(grant=grant)
            line, = auth_lines(smtp)
            check(re.fullmatch(rb"AUTH XOAUTH2 [A-Za-z0-9+/]+=*", line) and len(line) > 2000, f"{grant}: {line[:60]}")
            check(base64.b64decode(line[13:]).startswith(f"user={MAILBOX}\x01auth=Bearer ".encode()), f"{grant}: {line[:60]}")
            check(smtp.auths == [("XOAUTH2", MAILBOX, True)], f"{grant}: {smtp.auths}")

    def two_steps():
        for limit in (512, 1000, 20):
            smtp = over(line_limit=limit)
            lines = auth_lines(smtp)
            check(lines[-1] == b"AUTH XOAUTH2" and len(lines) <= 2, f"{limit}: {[line[:40] for line in lines]}")
            check(smtp.auths == [("XOAUTH2", MAILBOX, True)], f"{limit}: {smtp.auths}")

    def bearer():
        for authentication in ("auto", "oauthbearer"):
            smtp = over(authentication, mechanisms=("LOGIN", "OAUTHBEARER"))
            check(smtp.auths == [("OAUTHBEARER", MAILBOX, True)], f"{authentication}: {smtp.auths}")
        smtp = over("auto", mechanisms=("LOGIN", "PLAIN", "XOAUTH2"))
        check(smtp.auths == [("XOAUTH2", MAILBOX, True)], f"auto: {smtp.auths}")

    def never_as_password():
        for authentication in ("auto", "xoauth2"):
            smtp = over(authentication, refused=True, mechanisms=("LOGIN", "PLAIN"))
            check(not auth_lines(smtp), f"{authentication}: {[line[:30] for line in auth_lines(smtp)]}")

    def shared_mailbox():
        smtp = over(grant="refresh-token", shared="info@acme.example")
        check(smtp.auths == [("XOAUTH2", "info@acme.example", True)], f"shared: {smtp.auths}")

    each({part.__name__: part for part in (initial, two_steps, bearer, never_as_password, shared_mailbox)})


PATIENT = base.OPERATOR.replace('first = "1s"', 'first = "10m"').replace('maximum = "1s"', 'maximum = "10m"').format(server="", listener="", retry="", more="")
"""An operator's file by which nothing is tried again for ten minutes."""


def in_order(place, tokens, what):
    """All of these arrive, soon and in this order."""
    for token in tokens:
        arrives(place, token, 15)
    order = [token for message in place.delivered_now() for token in TOKEN.findall(message.raw) if token in tokens]
    check(order == list(tokens), f"{what}: arrived as {order}, handed in as {tokens}")


@case("O16", "Google's 334 failure, suspension, a new consent", start=False)
def _(rig):
    secret = {"refresh_token": '{ vault = "acme-refresh" }'}

    def installed(**more):
        provider = Provider("google")
        place = Installation("google-smtp", provider=provider, oauth=secret, upstream="connections = 1", operator_text=PATIENT, start=False, **more)
        place.run("vault", "set", "acme-refresh", input=provider.mint_refresh(MAILBOX, ["https://mail.google.com/"]).encode())
        return place

    def refused_once():
        with installed() as place:
            place.start()
            hand_in(place)
            place.sent(1)
            place.provider.expire_access(), log_out(place)
            hand_in(place)
            place.sent(2)
            check([good for _, _, good in place.smtp.auths] == [True, False, True], f"{place.smtp.auths}")
            check(place.token_count() == 2, f"{place.token_count()} tokens")
            check("event=deferred" not in place.log, f"not at once: {place.log[-1500:]}")

    def refused_always():
        with installed() as place:
            place.start()
            smtp, right = place.smtp, place.smtp.check
            smtp.check = lambda token, user: False
            first = hand_in(place)[0]
            found = reaches(place, first[0], "suspended")
            check("535" in found["reason"] or "5.7.8" in found["reason"], f"{found}")
            more = hand_in(place, 3)
            time.sleep(1)
            check(len(smtp.auths) == 2, f"{len(smtp.auths)} tries to log in")
            check(place.token_count() == 2, f"{place.token_count()} tokens: wanted one refresh")
            for identity, _ in more:
                reaches(place, identity, "suspended")
            smtp.check = right
            place.run("queue", "retry", first[0])
            in_order(place, [token for _, token in [first, *more]], "the login works again")

    def revoked():
        with installed() as place:
            place.start()
            hand_in(place)
            place.sent(1)
            for number in range(4):
                place.provider.revoke()
                place.provider.expire_access(), log_out(place)
                letters = hand_in(place, 5)
                for identity, _ in letters:
                    found = reaches(place, identity, "suspended")
                    check("invalid_grant" in found["reason"] or "revoked" in found["reason"], f"{found}")
                asked = place.token_count()
                time.sleep(0.5)
                check(place.token_count() == asked, "a dead refresh token is tried again and again")
                place.run("vault", "set", "acme-refresh", input=place.provider.mint_refresh(MAILBOX, ["https://mail.google.com/"]).encode())
                in_order(place, [token for _, token in letters], f"vault set, {number}")

    def consented():
        with Installation("google-smtp", grant="authorization-code", upstream="connections = 1", operator_text=PATIENT) as place:
            letters = hand_in(place, 2)
            for identity, _ in letters:
                reaches(place, identity, "suspended")
            good_consent(place, "first")
            in_order(place, [token for _, token in letters], "the first consent")
            place.provider.revoke()
            place.provider.expire_access(), log_out(place)
            letters = hand_in(place, 4)
            for identity, _ in letters:
                reaches(place, identity, "suspended")
            good_consent(place, "again")
            in_order(place, [token for _, token in letters], "a new consent")

    each({part.__name__: part for part in (refused_once, refused_always, revoked, consented)})


@case("O17", "no token over an unencrypted or unverified connection to another host", start=False)
def _(rig):
    """AUTH to another host cannot be had on loopback: `check` has to refuse it, so `run` never begins."""
    for kind in ("google-smtp", "microsoft-smtp"):
        with Installation(kind, start=False, upstream="#more") as place:
            file = (place.directory / "tenants/acme.toml").read_text()

            def says(code, *changes):
                text = file
                for old, new in changes:
                    check(old in text, f"{old!r} does not stand in {text}")
                    text = text.replace(old, new)
                place.tenant("acme", text)
                done = place.run("check", code=None)
                words = (done.stdout + done.stderr).decode("utf-8", "replace")
                check(done.returncode == code, f"{kind}, {changes}: check ended with {done.returncode}: {words}")
                return words

            away = ('host = "127.0.0.1"', 'host = "smtp.elsewhere.example"')
            plain, trusting = ('encryption = "starttls"', 'encryption = "none"'), ("#more", 'certificate = "trust-always"')
            says(0)
            says(0, away)
            for changes in ((away, plain), (away, plain, ("#more", "insecure_password = true"))):
                check(re.search(r"upstream\.encryption|encryption", words := says(78, *changes)) and "token" in words, f"{kind}: {words}")
            check("certificate" in (words := says(78, away, trusting)) and "token" in words, f"{kind}: {words}")
            for address in ("10.1.2.3", "192.0.2.1", "localhost.example", "127.0.0.1.example"):
                says(78, (away[0], f'host = "{address}"'), plain)
            # Where tokens come from.
            base_url = place.provider.base
            for key in ("token_url", "authorize_url", "device_url"):
                words = says(78, (f'{key} = "{base_url}', f'{key} = "http://login.elsewhere.example'))
                check(key in words and "https" in words, f"{kind}: {words}")
            server = subprocess.run([base.BINARY, "run"], env={**os.environ, "POSTBOTE_CONFIG": str(place.directory / "postbote.toml")}, cwd=place.directory, capture_output=True, timeout=20)
            check(server.returncode == 78, f"run ended with {server.returncode}")
            # A password has to be sent nowhere in its stead.
            says(78, (away[0], away[1] + '\npassword = "secret"'))
            says(78, ('"xoauth2"', '"login"'))
    for kind, root in (("graph", "https://graph.microsoft.com"), ("gmail", "https://gmail.googleapis.com")):
        with Installation(kind, start=False) as place:
            place.run("check", code=0)
            rewrite(place, f'api_url = "{place.provider.base}', 'api_url = "http://api.elsewhere.example')
            words = place.run("check", code=78)
            check(b"api_url" in words.stdout + words.stderr, f"{kind}: {words}")


# --------------------------------------------------------------------------- envelope


ENVELOPES = {
    # what: (header fields, RCPT TO, who has to be seen (None: not looked at), what X-Original- has to hold)
    "some hidden, one not meant": (b"To: a@else.example\r\nCc: x@else.example\r\nBcc: b@else.example\r\n", "abc", ["a"], {"Cc": "x@else.example"}),
    "all in the header": (b'To: A <a@else.example>\r\nCc: "B" <b@else.example>\r\n', "ab", ["a", "b"], {}),
    "nobody in the header is meant": (b"To: x@else.example\r\nCc: y@else.example\r\n", "c", [], {"To": "x@else.example", "Cc": "y@else.example"}),
    "a group": (b"To: Team: a@else.example, x@else.example;\r\nCc: b@else.example\r\n", "ab", ["a", "b"], {"To": "x@else.example"}),
    "an empty group": (b"To: undisclosed-recipients:;\r\n", "ab", [], {}),
    "no To at all": (b"", "ab", [], {}),
    "only Bcc": (b"Bcc: a@else.example, x@else.example\r\n", "ab", [], {}),
    "other case": (b"To: A@ELSE.Example, a@else.EXAMPLE\r\nCc: B@else.example\r\n", "ab", ["a", "b"], {}),
    "names with commas": (b'To: =?utf-8?Q?M=C3=BCller=2C_Hans?= <a@else.example>,\r\n "Meier, Eva" <b@else.example>\r\n', "ab", ["a", "b"], {}),
    "names with commas, one not meant": (b'To: =?utf-8?Q?M=C3=BCller=2C_Hans?= <a@else.example>,\r\n "Meier, Eva" <x@else.example>, =?utf-8?B?w5Y=?= <b@else.example>\r\n', "ab", ["a", "b"], {"To": "x@else.example"}),
    "addresses that are none": (b'To: (x@else.example) "y@else.example" <a@else.example> (z@else.example)\r\n', "a", ["a"], {}),
    "a field twice": (b"To: a@else.example\r\nTo: b@else.example\r\nCc: c@else.example\r\nCc: x@else.example\r\n", "abc", None, {}),
    "an encoded word that hides an address": (b"To: =?utf-8?Q?x=40else=2Eexample=2C?= <a@else.example>\r\n", "a", ["a"], {}),
    "folded and odd": (b"To:\r\n a@else.example\r\n ,,\r\n\tx@else.example,\r\n", "a", ["a"], {"To": "x@else.example"}),
    "a name without an address": (b"To: Hans, a@else.example\r\n", "a", ["a"], {}),
}


def envelopes(kind):
    with Installation(kind) as place:
        client, letters = place.client(), {}
        for words, (header, to, _, _) in ENVELOPES.items():
            token = place.token().encode()
            content = b"From: app@source.example\r\nSubject: " + token + b"\r\n" + header + b"\r\nhello"
            client.message(content, to=[f"{who}@else.example" for who in to])
            letters[words] = token
        # Beyond one request the header goes another way.
        big, _, token = letter(place, [3_100_000], cc=b"x@else.example\r\nBcc: b@else.example")
        client.message(big, to=[f"{who}@else.example" for who in "abc"])
        table = {**ENVELOPES, "a large one": (b"", "abc", ["a"], {"Cc": "x@else.example"})}
        letters["a large one"] = token
        # More than one line of them.
        many = [f"recipient.with.a.long.name.{number}@else.example" for number in range(300)]
        content = place.message()
        client.message(content, to=many)
        wrong = []
        for words, token in letters.items():
            message = arrives(place, token)
            _, to, seen, original = table[words]
            # Two spellings of one mailbox are one recipient.
            found = sorted({address.lower() for address in message.recipients})
            if found != [f"{who}@else.example" for who in to]:
                wrong.append(f"{words}: delivered to {found}")
            visible = email.message_from_bytes(message.visible, policy=email.policy.default)
            shown = sorted({address.lower() for address in fake.addresses(message.visible, "To", "Cc") if "@" in address})
            seen = list(to) if seen is None else seen
            if table[words][2] is not None and shown != [f"{who}@else.example" for who in seen]:
                wrong.append(f"{words}: seen are {shown}")
            # The one recipient may read its own address in Received.
            head = b"".join(fake.fields(message.visible if len(to) > 1 else fake.without(message.visible, "received"))[0]).lower()
            hidden = [who for who in to if who not in seen and f"{who}@else.example".encode() in head]
            if hidden or b"\nbcc:" in head or b"x-original-bcc" in head:
                wrong.append(f"{words}: {hidden} can be seen: {head}")
            for name, address in original.items():
                if address not in str(visible.get_all(f"X-Original-{name}")):
                    wrong.append(f"{words}: X-Original-{name} is {visible.get_all(f'X-Original-{name}')}")
            if words == "all in the header" and (visible["X-Original-To"] or visible["X-Original-Cc"]):
                wrong.append(f"{words}: X-Original- for nothing")
            if words == "names with commas":
                names = [address.display_name for address in visible["To"].addresses]
                if names != ["Müller, Hans", "Meier, Eva"]:
                    wrong.append(f"{words}: names are {names}")
        message = arrives(place, TOKEN.search(content)[0])
        if recipients(message) != sorted(many) or b"recipient.with" in message.visible:
            wrong.append(f"300 recipients: {len(message.recipients)} delivered")
        check(not wrong, "\n".join(wrong))


@case("O18", "envelope = recipients on Graph and Gmail", start=False)
def _(rig):
    each({kind: lambda kind=kind: envelopes(kind) for kind in ("graph", "gmail")})


# --------------------------------------------------------------------------- lost answers


def once(place, token, words):
    """A message has left and the queue is empty: it arrived once."""
    arrives(place, token)
    wait_until(f"{words}: it is settled: {place.queue()}\n{place.log[-1500:]}", lambda: not place.queue())
    check(len(arrivals(place, token)) == 1, f"{words}: arrived {len(arrivals(place, token))} times")


def lost(place, words, knob, kind, answer, sends, content=None, looked=True):
    """One message, one answer to a request of this kind is lost; `sends`: so many such requests in all."""
    provider = place.provider
    before, looks = len(requests(provider, kind)), len(requests(provider, "sent-items", "get"))
    getattr(provider, knob)[kind] = [answer]
    content = content or place.message()
    token = TOKEN.search(content)[0]
    identity = place.client().message(content)
    if looked:
        reaches(place, identity, "uncertain")
    once(place, token, words)
    asked = len(requests(provider, kind)) - before
    check(asked == sends, f"{words}: {asked} requests {kind}, wanted {sends}")
    check(not looked or len(requests(provider, "sent-items", "get")) > looks, f"{words}: nobody looked")
    check("event=bounced" not in place.log, f"{words}: {place.log[-1500:]}")
    check(not provider.drafts, f"{words}: {len(provider.drafts)} drafts left over")
    check(not list((place.data / "drafts").glob("*")) if (place.data / "drafts").exists() else True, f"{words}: a record of a draft is left over")


def large_letter(place):
    """Two uploads and two small attachments."""
    return letter(place, [3_950_000, 50_000])[0]


def small_lost():
    with Installation("graph") as place:
        lost(place, "stored, no answer", "drop", "sendMail", "after-store", 1)
        lost(place, "not stored, no answer", "drop", "sendMail", "before-store", 2)
        lost(place, "stored, 504", "answer_after_store", "sendMail", (504, {}, b""), 1)
        lost(place, "not stored, 504", "fail", "sendMail", fake.graph_error(504, "UnknownError", ""), 2)
        lost(place, "202 with Retry-After", "answer_after_store", "sendMail", (202, {"Retry-After": "30"}, b""), 1, looked=False)
        lost(place, "202 with HTML", "answer_after_store", "sendMail", (202, {"Content-Type": "text/html"}, "<html>Sign in</html>"), 1, looked=False)
        lost(place, "202 with an error", "answer_after_store", "sendMail", (202, {}, {"error": {"code": "ErrorInternalServerError"}}), 1, looked=False)


def large_lost():
    with Installation("graph", server=BIG) as place:
        lost(place, "send, stored, no answer", "drop", "send", "after-store", 1, large_letter(place))
        lost(place, "send, not stored, no answer", "drop", "send", "before-store", 2, large_letter(place))
        lost(place, "send, stored, 504", "answer_after_store", "send", (504, {}, b""), 1, large_letter(place))
        lost(place, "send, 202 with Retry-After", "answer_after_store", "send", (202, {"Retry-After": "30"}, b""), 1, large_letter(place), looked=False)
    with Installation("graph", server=BIG) as place:
        # What is not the send itself cannot have sent.
        for kind, *hows in (("put", "before-store", "after-store"), ("attachment", "after-store"), ("session", "after-store"), ("draft", "after-store")):
            for how in hows:
                place.provider.drop[kind] = [how]
                content = large_letter(place)
                place.client().message(content)
                once(place, TOKEN.search(content)[0], f"{kind}, {how}")
                check("event=bounced" not in place.log and "multipart/report" not in str(place.provider.sent[-1].raw[:4000]), f"{kind}, {how}: bounced")
                check(not place.provider.drafts, f"{kind}, {how}: {len(place.provider.drafts)} drafts left over")
                message = arrivals(place, TOKEN.search(content)[0])[0]
                check(len(message.attachments) == 3, f"{kind}, {how}: {message.attachments}")


class Kills(list):
    """As one of the provider's lists `answer_after_store`: kills the server where one is taken out."""

    def __init__(self, place, times=1):
        super().__init__([None] * times)
        self.place = place

    def pop(self, index):
        self.place.process.kill()
        return super().pop(index)


def killed():
    """kill -9 somewhere in an upload, and just before and after the draft is sent."""
    with Installation("graph", server=BIG) as place:
        provider = place.provider

        def again(words, content):
            place.process.wait(30)
            place.start()
            once(place, TOKEN.search(content)[0], words)
            check(len(arrivals(place, TOKEN.search(content)[0])[0].attachments) == 3, f"{words}: not whole")
            provider.delay = {}
            time.sleep(0.3)
            check(not provider.drafts, f"{words}: {len(provider.drafts)} drafts left over")

        for kind, pause in (("attachment", 0), ("put", 0.1), ("put", 0.3), ("session", 0.05)):
            provider.delay = {"put": 0.2, "attachment": 0.2, "session": 0.2}
            content, before = large_letter(place), len(requests(provider, kind))
            place.client().message(content)
            wait_until(f"{kind} comes", lambda: len(requests(provider, kind)) > before)
            time.sleep(pause)
            place.process.kill()
            again(f"killed at {kind} + {pause} s", content)
        for kind in ("draft", "put", "send"):
            provider.answer_after_store[kind] = Kills(place)
            content = large_letter(place)
            place.client().message(content)
            again(f"killed after {kind}", content)

        def before_send(handler):
            place.process.kill()
            handler.hang_up()

        def late_send(handler):
            """Takes effect when the server, started again, has already found the draft unsent."""
            place.process.kill()
            looked = len(requests(provider, "get"))
            wait_until("it looks for the draft", lambda: [r for r in requests(provider, "get")[looked:] if r.status])
            with contextlib.suppress(fake.Refused), provider.lock:
                provider._send(handler.record, *handler.record.groups)
            handler.hang_up()

        # A small one: it stands in the sent items.
        provider.answer_after_store["sendMail"] = Kills(place)
        (_, token), = hand_in(place)
        place.process.wait(30)
        place.start()
        once(place, token, "killed after sendMail")

        for words, canned in (("killed before send", before_send), ("killed while the draft was being sent", late_send)):
            provider.fail["send"] = [canned]
            content = large_letter(place)
            place.client().message(content)
            place.process.wait(30)
            provider.delay = {"delete": 0.3, "send": 0.3}
            again(words, content)


def by_policy():
    """Without Mail.ReadWrite nobody can look."""
    provider = Provider("microsoft")
    provider.permissions = {"Mail.Send"}
    with Installation("graph", provider=provider) as place:
        provider.drop["sendMail"] = ["after-store"]
        (identity, token), = hand_in(place)
        place.may_repeat.add(token)
        reaches(place, identity, "uncertain")
        wait_until("it is tried again", lambda: len(arrivals(place, token)) == 2)
        wait_until("it is settled", lambda: not place.queue())
        hand_in(place)
        place.sent(3)
    for permissions in ({"Mail.Send"}, {"Mail.Send", "Mail.ReadWrite"}):
        provider = Provider("microsoft")
        provider.permissions = permissions
        with Installation("graph", provider=provider, retry='uncertain = "hold"') as place:
            provider.drop["sendMail"] = ["after-store"]
            (identity, token), = hand_in(place)
            wait_until("it is stored", lambda: arrivals(place, token))
            if permissions == {"Mail.Send"}:
                reaches(place, identity, "held", "uncertain")
                time.sleep(3)
                check(waiting(place, identity), f"held, but it left: {place.log[-1500:]}")
            check(len(arrivals(place, token)) == 1, f"hold: arrived {len(arrivals(place, token))} times")
            # kill -9 between storing and answer: nobody knows either.
            provider.delay["sendMail"] = 0.3
            (second, other), = hand_in(place)
            wait_until("it is asked", lambda: provider.in_flight[MAILBOX])
            place.kill()
            provider.delay = {}
            place.start()
            arrives(place, other)
            time.sleep(2.5)
            check(len(arrivals(place, other)) == 1, f"hold, killed: arrived {len(arrivals(place, other))} times\n{place.log[-1500:]}")
            if permissions == {"Mail.Send"}:
                check(waiting(place, second)["state"] in ("held", "uncertain"), f"{place.queue()}")
                place.may_repeat |= {token, other}
                place.run("queue", "retry", identity, second)
                wait_until("retried by a person, both leave", lambda: not place.queue())


@case("O19", "lost answers on Graph", start=False)
def _(rig):
    each({part.__name__: part for part in (small_lost, large_lost, killed, by_policy)}, at_once=2)


# --------------------------------------------------------------------------- beyond one request

def whole_kinds(size):
    """Messages of so many octets that may not be taken apart: {what: content after the first header fields}."""
    bulk = lines64(random.randbytes(size * 73 // 100))
    signed = b'Content-Type: multipart/signed; protocol="application/pgp-signature"; micalg=pgp-sha256; boundary="mix"\r\n\r\n'
    signed += attachment(bulk[:0] + base64.b64decode(bulk), b"filename=a.bin") + b"--mix\r\nContent-Type: application/pgp-signature; name=signature.asc\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\n\r\niQ==\r\n-----END PGP SIGNATURE-----\r\n--mix--\r\n"
    calendar = b'Content-Type: multipart/mixed; boundary="mix"\r\n\r\n--mix\r\nContent-Type: text/calendar; method=REQUEST; charset=utf-8\r\n\r\nBEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n'
    calendar += attachment(base64.b64decode(bulk), b"filename=a.bin") + b"--mix--\r\n"
    encrypted = b'Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\nContent-Disposition: attachment; filename=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\n' + bulk
    return {"signed": signed, "calendar": calendar, "encrypted": encrypted}


def offered(place):
    """The SIZE that EHLO shows now."""
    client = place.client(ehlo=False)
    found = re.search(r"SIZE (\d+)", client.expect("EHLO client.example", "250"))
    client.close()
    return int(found[1])


def refused(place, identity, words):
    """A message has failed with 5.3.4, and a bounce says so; gives its text."""
    found = reaches(place, identity, "failed")
    check("octets" in found["reason"], f"{words}: {found}")
    check(all("dsn=5.3.4" in line for line in place.wait_log(f"id={identity} ", "event=bounced")), f"{words}: {place.log[-1500:]}")
    bounce = wait_until(f"{words}: a bounce comes", lambda: [m for m in place.delivered_now() if b"multipart/report" in m.raw[:4000] and identity.encode() in m.raw])[0]
    check(b"Status: 5.3.4" in bounce.raw and recipients(bounce) == [MAILBOX], f"{words}: {bounce.raw[:3000]}")
    parsed = email.message_from_bytes(bounce.raw, policy=email.policy.default)
    return next(part for part in parsed.walk() if part.get_content_type() == "text/plain").get_content()


@case("O20", "beyond one request: what may not be taken apart, and without Mail.ReadWrite", start=False)
def _(rig):
    def whole():
        with Installation("graph", server=BIG) as place:
            client = place.client()
            for size in (200_000, 3_600_000):
                for words, rest in whole_kinds(size).items():
                    token = place.token().encode()
                    head = b"From: app@source.example\r\nTo: b@else.example\r\nMIME-Version: 1.0\r\nSubject: " + token + b"\r\n"
                    identity = client.message(head + rest)
                    if size < 1_000_000:
                        message = arrives(place, token)
                        check(message.raw.split(b"\r\n\r\n", 1)[1].rstrip() == rest.split(b"\r\n\r\n", 1)[1].rstrip(), f"{words}: its body was changed")
                        continue
                    reason = refused(place, identity, words)
                    check(re.search(r"signed|encrypted|calendar|apart|split", reason, re.I), f"{words}: the reason is {reason}")
            check(not requests(place.provider, "draft", "session"), "a draft was made of what may not be taken apart")

    def without_permission():
        provider = Provider("microsoft")
        provider.permissions = {"Mail.Send"}
        with Installation("graph", provider=provider, server=BIG) as place:
            check(offered(place) == 60 * MB, f"SIZE {offered(place)} at first")
            content, wanted, token = letter(place, [2_900_000])
            identity = place.client().message(content, to=("a@else.example", "b@else.example", "c@else.example"))
            reason = refused(place, identity, "no Mail.ReadWrite")
            check("Mail.ReadWrite" in reason, f"the permission is not named: {reason}")
            hand_in(place)
            small = letter(place, [1_000_000])
            place.client().message(small[0])
            arrives(place, small[2])
            check(not place.log.count("event=suspended"), "the route was suspended")
            size = offered(place)
            check(2_400_000 < size < 3_000_000, f"SIZE {size} afterwards")
            client = place.client()
            client.expect(f"MAIL FROM:<app@source.example> SIZE={len(content)}", "552 5.3.4")
            # The permission is given: what has failed leaves when a person says so, and large mail is taken again.
            provider.permissions = {"Mail.Send", "Mail.ReadWrite"}
            place.run("queue", "retry", identity)
            same_letter(arrives(place, token), wanted, "retried")
            wait_until(f"SIZE is {offered(place)}, though the route takes large mail", lambda: offered(place) == 60 * MB, 5)

    each({part.__name__: part for part in (whole, without_permission)})


# --------------------------------------------------------------------------- the command line


TENANT_O21 = """# a comment that stays
name = "ACME"   # and this
email = "office@contoso.onmicrosoft.com"
language = "de"

[sender]
reply_to = "reply@acme.example"

[upstream]
host = "127.0.0.1"
port = 25
encryption = "none"

[[user]]
login = "pos1@acme"
password = "pass-pos1"
senders = ["*@source.example"]

[notices]
to = ["edv@acme.example"]
"""


@case("O21", "tenant reset, tenant add with tokens, oauth status and forget", start=False)
def _(rig):
    import tomllib

    def added():
        for email, provider, host in (
            ("x@gmail.com", "google", "smtp.gmail.com"),
            ("x@contoso.onmicrosoft.com", "microsoft", "smtp.office365.com"),
            ("x@outlook.com", "microsoft", "smtp-mail.outlook.com"),
        ):
            with base_rig(TENANT_O21) as place:
                file = place.directory / "tenants/acme.toml"
                before = file.read_text()
                place.run("tenant", "add", "acme", "--email", email, code=73)
                check(file.read_text() == before, f"{email}: a tenant with an upstream was changed")
                place.run("tenant", "reset", "acme")
                reset = file.read_text()
                check("upstream" not in tomllib.loads(reset), f"{email}: after reset: {reset}")
                place.run("tenant", "add", "acme", "--email", email)
                text = file.read_text()
                found = tomllib.loads(text)
                for line in TENANT_O21.split("[upstream]")[0].splitlines():
                    check(line in text, f"{email}: {line!r} is gone: {text}")
                rest = tomllib.loads(TENANT_O21)
                check({k: v for k, v in found.items() if k != "upstream"} == {k: v for k, v in rest.items() if k != "upstream"}, f"{email}: the rest has changed: {text}")
                upstream = found["upstream"]
                check(upstream["oauth"]["provider"] == provider and upstream["oauth"]["grant"] == "authorization-code", f"{email}: {text}")
                check(upstream["host"] == host and upstream["authentication"] == "xoauth2" and "password" not in upstream, f"{email}: {text}")
                check(upstream["username"] == email and upstream["encryption"] in ("starttls", "tls"), f"{email}: {text}")
                done = place.run("check")
                words = (done.stdout + done.stderr).decode()
                check(re.search(r"warning.*client_id|client_id.*warning", words), f"{email}: no warning about client_id: {words}")
                check(not re.search(r"\berror\b", words), f"{email}: {words}")
                place.run("tenant", "add", "acme", "--email", email, code=73)
                check(file.read_text() == text, f"{email}: a second add has changed it")
                # Nobody has consented.
                said = place.run("oauth", "status").stdout.decode()
                check("acme" in said and "not connected" in said and "oauth connect" in said, f"{email}: {said}")
                check(not standing(place)["connected"], f"{email}: {standing(place)}")
                # With the ids at once, nothing is left to warn of.
                place.run("tenant", "reset", "acme")
                more = ("--directory-id", "11111111-2222-3333-4444-555555555555") if provider == "microsoft" else ()
                place.run("tenant", "add", "acme", "--email", email, "--client-id", "4711", *more)
                check(b"client_id" not in place.run("check").stderr, f"{email}: client_id is set and warned of")
                check(tomllib.loads(file.read_text())["upstream"]["oauth"]["client_id"] == "4711", file.read_text())
                # With a password, if somebody wants that; and a new tenant.
                place.run("tenant", "add", "neu", "--email", email)
                fresh = tomllib.loads((place.directory / "tenants/neu.toml").read_text())
                check(fresh["upstream"]["oauth"]["provider"] == provider and fresh["email"] == email, f"{email}: {fresh}")
                place.run("tenant", "add", "pw", "--email", email, "--password")
                fresh = tomllib.loads((place.directory / "tenants/pw.toml").read_text())
                check("oauth" not in fresh["upstream"] and "password" in fresh["upstream"], f"{email}: {fresh}")
                place.run("check")

    def forgotten():
        with Installation("graph", grant="authorization-code") as place:
            found = standing(place)
            check(not found["connected"] and found["grant"] == "authorization-code", f"{found}")
            place.run("oauth", "forget", "acme", code=65)
            good_consent(place, "consent")
            hand_in(place)
            place.sent(1)
            token = place.data / "oauth/acme.token"
            check(b"oauth/acme" in place.run("vault", "list").stdout, "the consent does not stand in the vault")
            place.wait_log("event=reloaded", "concerned=1")
            place.run("oauth", "forget", "acme")
            nothing = standing(place)
            check(not nothing["connected"] and not nothing["account"], f"{nothing}")
            check(not token.exists() and b"oauth/acme" not in place.run("vault", "list").stdout, "forgotten, but it is there")
            place.wait_log("event=reloaded", "concerned=1", count=2)
            (identity, second), = hand_in(place)
            found = reaches(place, identity, "suspended")
            check("oauth connect" in found["reason"] or "consent" in found["reason"], f"{found}")
            check(len(place.delivered_now()) == 1, "sent without a consent")
            good_consent(place, "once more")
            arrives(place, second)
            place.run("oauth", "status", "nobody", code=None)
            check(place.run("oauth", "forget", "nobody", code=None).returncode in (64, 65, 78), "forget of nobody")

    each({part.__name__: part for part in (added, forgotten)})


@contextlib.contextmanager
def base_rig(tenant_text):
    """An installation that is not started."""
    place = base.Rig(tenant_text=tenant_text, start=False)
    try:
        yield place
    finally:
        place.close()


# --------------------------------------------------------------------------- rotation


@case("O22", "a rotated refresh token", start=False)
def _(rig):
    def asked(place, number):
        """Which of all refresh tokens a request came with, by age."""
        return list(place.provider.refresh).index(place.provider.token_requests[number]["refresh_token"])

    def restarts():
        for kind in ("graph", "microsoft-smtp"):
            with Installation(kind, grant="refresh-token") as place:
                place.provider.strict = True
                for number, again in enumerate((None, place.kill, place.stop, place.kill)):
                    if again:
                        again()
                        log_out(place)
                        place.start()
                    (_, token), = hand_in(place)
                    arrives(place, token)
                    place.may_repeat.add(token)  # its answer is lost in the kill
                    check(asked(place, number) == number, f"{kind}: start {number} came with token {asked(place, number)}")
                    file, = (place.data / "oauth").glob("*.token")
                    check(file.name == "acme.token", file.name)
                    for path, mode in ((file, 0o600), (file.parent, 0o700)):
                        check(stat.S_IMODE(path.stat().st_mode) == mode, f"{path} has mode {path.stat().st_mode:o}")
                    octets = file.read_bytes()
                    for secret in place.provider.secrets:
                        for form in (secret.encode(), secret[8:40].encode(), base64.b64encode(secret.encode())[:40], secret.encode().hex().encode()[:40]):
                            check(form not in octets, f"V3: {secret[:20]} stands in {file.name}")
                    # Whatever is written into the data directory: owner only.
                    loose = [str(path) for path in (place.data / "oauth").rglob("*") if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077]
                    check(not loose, f"others may read {loose}")

    def test_beside():
        for kind in ("graph", "microsoft-smtp"):
            with Installation(kind, grant="refresh-token") as place:
                provider = place.provider
                provider.strict = True
                hand_in(place)
                place.sent(1)
                sent = 1
                for number in range(3):
                    place.run("test", "acme", "--to", "b@else.example")
                    provider.expire_access(), log_out(place)
                    hand_in(place)
                    sent += 2
                    place.sent(sent)
                # Both at once.
                for number in range(5):
                    provider.expire_access(), log_out(place)
                    with concurrent.futures.ThreadPoolExecutor(1) as pool:
                        beside = pool.submit(hand_in, place)
                        time.sleep(random.random() * 0.03)
                        done = place.run("test", "acme", "--to", "b@else.example", code=None)
                        beside.result()
                    check(done.returncode == 0, f"{kind}: test failed beside a server: {done.stdout.decode()[-1500:]}")
                    sent += 2
                    place.sent(sent)
                dead = [form for form in provider.token_requests if form["refresh_token"] == provider.token_requests[0]["refresh_token"]]
                check(len(dead) == 1, f"{kind}: the first token was used {len(dead)} times")
                used = [form["refresh_token"] for form in provider.token_requests]
                check(len(set(used)) == len(used), f"{kind}: a token was used twice though it rotates")
                check("event=route-suspended" not in place.log and "event=deferred" not in place.log, f"{kind}: {place.log[-2000:]}")
                # Nothing but a test may touch it: what only looks asks for nothing.
                before = place.token_count()
                place.run("oauth", "status"), place.run("check"), place.run("preview", "acme", input=place.message())
                check(place.token_count() == before, f"{kind}: looking has asked for a token")

    def consented():
        with Installation("graph", grant="authorization-code") as place:
            place.provider.strict = True
            good_consent(place, "consent")
            for number in range(3):
                (_, token), = hand_in(place)
                arrives(place, token)
                place.may_repeat.add(token)
                restart(place)
            (_, token), = hand_in(place)
            arrives(place, token)
            check("event=deferred" not in place.log, place.log[-1500:])

    each({part.__name__: part for part in (restarts, test_beside, consented)})


# --------------------------------------------------------------------------- the rest


@case("O23", "metrics, DKIM, the mailbox of From", start=False)
def _(rig):
    def metrics():
        for kind in ("graph", "gmail", "microsoft-smtp", "google-smtp"):
            with Installation(kind) as place:
                place.provider.expires_in = 1234
                hand_in(place)
                place.sent(1)
                name = 'postbote_oauth_token_expiry_seconds{tenant="acme"}'
                text = place.admin("/metrics")[1]
                left, = re.findall(rf"(?m)^{re.escape(name)} (\S+)$", text)
                check(1150 < float(left) <= 1234, f"{kind}: {name} is {left}")
                check("# TYPE postbote_oauth_token_expiry_seconds gauge" in text, f"{kind}: its type is not said")
                time.sleep(1.1)
                check(float(left) - 3 < place.metric(name) + 1.1 <= float(left) + 0.2, f"{kind}: {left}, then {place.metric(name)}")

    def dkim():
        key = subprocess.run("openssl genpkey -algorithm ed25519".split(), check=True, capture_output=True).stdout
        for kind in ("graph", "gmail", "microsoft-smtp", "google-smtp"):
            for when, signed in (("auto", False), ("always", True)):
                section = f'[[dkim]]\ndomain = "acme.example"\nselector = "pb1"\nkey = {{ file = "dkim.pem" }}\nwhen = "{when}"'
                with Installation(kind, after=section, start=False) as place:
                    place.write("tenants/dkim.pem", key), place.write("dkim.pem", key)
                    place.start()
                    hand_in(place)
                    message = place.sent(1)[0]
                    check((b"\nDKIM-Signature:" in b"\n" + message.raw) == signed, f"{kind}, {when}: {message.raw[:600]}")
                    done = place.run("preview", "acme", "--explain", input=place.message())
                    check((b"\nDKIM-Signature:" in b"\n" + done.stdout) == signed, f"{kind}, {when}: preview shows {done.stdout[:600]}")
                    words = done.stderr.decode()
                    check(signed or re.search(r"DKIM: .*(does not|do not) sign.*provider", words), f"{kind}, {when}: {words}")

    def mailbox_of_from():
        def sender(address):
            return f'[sender]\naddress = "{address}"'

        def over(address, exists, **more):
            provider = Provider("microsoft")
            if exists:
                provider.mailboxes.add(address)
            else:
                provider.send_as[MAILBOX].add(address)
            with Installation("graph", provider=provider, after=sender(address), server=BIG, **more) as place:
                (_, token), = hand_in(place)
                big = large_letter(place)
                place.client().message(big)
                for each_token in (token, TOKEN.search(big)[0]):
                    message = arrives(place, each_token, 15)
                    check(message.mailbox == (address if exists else MAILBOX), f"{address}: sent by {message.mailbox}")
                    check(fake.addresses(message.raw, "From") == [address], f"{address}: From is {fake.addresses(message.raw, 'From')}")
                check("event=deferred" not in place.log and "event=bounced" not in place.log, f"{address}: {place.log[-1500:]}")
                return place.provider

        provider = over("rechnung@acme.example", True)
        check({r.path for r in requests(provider, "sendMail")} <= {"/v1.0/users/rechnung@acme.example/sendMail", "/v1.0/users/rechnung%40acme.example/sendMail"}, f"{requests(provider, 'sendMail')}")
        over("liste@acme.example", False)
        # A person's token sends as that person, whatever From says.
        provider = Provider("microsoft")
        provider.send_as[MAILBOX].add("rechnung@acme.example")
        with Installation("graph", grant="refresh-token", provider=provider, after=sender("rechnung@acme.example")) as place:
            hand_in(place)
            check(place.sent(1)[0].mailbox == MAILBOX, f"sent by {place.sent(1)[0].mailbox}")

    each({part.__name__: part for part in (metrics, dkim, mailbox_of_from)})
