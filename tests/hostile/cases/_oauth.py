"""Means of the cases about sign-in servers and APIs: many tenants at one provider, each with a fault of
its own, so that a server is started once for a whole table."""

import base64, json, os, re, time, urllib.parse

import rig
from rig import check, wait_until
from oauth_rig import Installation, kind_lines
from provider import GMAIL, Refused, addresses
from provider_smtp import GoogleSmtp, MicrosoftSmtp

MINE = "b@else.example"
"""The recipient of what a case hands in: bounces and notices go elsewhere."""

SCOPES = {
    "graph": ["https://graph.microsoft.com/Mail.Send", "https://graph.microsoft.com/Mail.ReadWrite", "offline_access"],
    "microsoft-smtp": ["https://outlook.office.com/SMTP.Send", "offline_access"],
    "gmail": [GMAIL + "send"],
    "google-smtp": ["https://mail.google.com/"],
}


def behave(handler):
    """The provider's own answer to a request, for a callable that answers only some itself."""
    provider, record = handler.provider, handler.record
    try:
        with provider.lock:
            return getattr(provider, "_" + record.kind.replace("-", "_"))(record, *record.groups)
    except Refused as refusal:
        return refusal.answer


def posted(record):
    """The message in a request to an API; b"" if there is none."""
    if record.kind == "sendMail":
        return base64.b64decode(record.body)
    return record.body if b"\r\n\r\n" in record.body else b""


def is_mine(record):
    """Whether a case has handed in what this request sends: not a bounce, not a notice."""
    return record.kind not in ("sendMail", "gmail") or MINE in addresses(posted(record), "To", "Cc", "Bcc")


class Many(Installation):
    """An installation with a tenant for each name, besides `acme`: a directory of its own at sign-in,
    a mailbox `NAME@acme.example`, a login, with `…-smtp` a server of its own in `smtps`.

    `faults[NAME]` is what requests of that tenant are answered, to the kinds of request in `at`: a
    tuple or a callable as in `Provider.fail`; without one the provider behaves. `oauths`, `upstreams`,
    `grants`: by name, more keys."""

    def __init__(self, kind, names, at=("token",), grant=None, oauths=None, upstreams=None, grants=None, start=True, **settings):
        super().__init__(kind, grant, start=False, **settings)
        self.names, self.faults, self.smtps = list(names), {}, {}
        self.provider._tenant = lambda *_, **__: None  # every directory is one of its
        for name in self.names:
            self.add(name, (grants or {}).get(name, grant), (oauths or {}).get(name, {}), (upstreams or {}).get(name, ""))
        for each in at:
            self.provider.always[each] = self.play
        if start:
            self.start()

    def start(self, wait=True):
        super().start(wait)
        if wait:
            self.descriptors += 2 * len(self.names)  # kept connections, and the provider's own
        return self

    def add(self, name, grant, oauth, upstream):
        google = self.kind in ("gmail", "google-smtp")
        mailbox = f"{name}@acme.example"
        self.provider.mailboxes.add(mailbox)
        grant = grant or ("refresh-token" if google else "client-credentials")
        keys = {"mailbox": mailbox, "token_url": f"{self.provider.base}/{name}/oauth2/v2.0/token", **oauth}
        if grant == "refresh-token":
            keys["refresh_token"] = self.provider.mint_refresh(mailbox, SCOPES[self.kind])
        if self.smtp:
            smtp = self.smtps[name] = (GoogleSmtp if google else MicrosoftSmtp)(self.provider.check_smtp_token, tls=False)
            smtp.tls, smtp.ca = self.smtp.tls, self.smtp.ca
            self.upstreams.append(smtp)
            upstream += f'\nhost = "127.0.0.1"\nport = {smtp.port}\nencryption = "starttls"\nca_file = "{smtp.ca}"\nauthentication = "xoauth2"\nusername = "{mailbox}"\n'
        user = f'[[user]]\nlogin = "{name}"\npassword = "pass-{name}"\nsenders = ["*@source.example"]\n'
        section = self.provider.toml(grant, **keys)
        self.tenant(name, f'name = "{name}"\nemail = "{mailbox}"\n[upstream]\n{upstream}\n{kind_lines(self.kind)}\n{section}\n{user}')

    def play(self, handler):
        record = handler.record
        if record.kind in ("token", "device"):
            name = record.groups[0] if record.groups else "acme"
        else:
            name = str(record.mailbox).split("@")[0]
        fault = self.faults.get(name)
        if fault is None or not is_mine(record):
            return behave(handler)
        return fault(handler) if callable(fault) else fault

    def hand_in(self, name, octets=None, to=(MINE,)):
        """A message of a tenant; gives its id."""
        client = self.client()
        if name != "acme":
            client.login(name, f"pass-{name}")
        identity = client.message(octets if octets is not None else self.message(), to=to)
        client.expect("QUIT", "221")
        client.close()
        self.clients.remove(client)
        return identity

    def asked(self, name):
        """How many tokens a tenant has asked for."""
        return sum(r.kind == "token" and r.groups[:1] == [name] for r in list(self.provider.requests))

    def sends(self, name):
        """How often a tenant has tried to send what the case handed in."""
        mine = [r for r in list(self.provider.requests) if r.mailbox == f"{name}@acme.example"]
        return sum(r.kind in ("sendMail", "gmail", "send") and is_mine(r) for r in mine)

    def delivered(self, name):
        """The messages of a tenant that were delivered, without bounces and notices."""
        if self.smtp:
            found = list(self.smtps[name].received)
        else:
            found = [m for m in list(self.provider.sent) if m.mailbox == f"{name}@acme.example"]
        return [m for m in found if MINE in m.recipients]

    def by_id(self, *ids):
        """What `queue list` says of messages, by id; those that are settled are not in it."""
        return {message["id"]: message for message in self.queue() if message["id"] in ids}

    def close(self, good_client=False):
        super().close(good_client)
        for name, smtp in self.smtps.items():
            check(not smtp.violations, f"{name}: the server would have refused: {smtp.violations[:5]}")


def events(place, identity):
    return re.findall(rf"id={identity} \S+ event=(\S+)", place.log)


def settle(place, ids, state, limit=30):
    """Waits until each of these messages ({name: id}) is in a state (or one of several); gives them by
    name."""
    states = (state,) if isinstance(state, str) else state
    last = {}

    def look():
        found = place.by_id(*ids.values())
        last.update({name: found.get(identity, {}).get("state") for name, identity in ids.items()})
        if all(s in states for s in last.values()):
            return {name: found[identity] for name, identity in ids.items()}
        return None

    try:
        return wait_until(f"all {states}", look, limit)
    except rig.Broken:
        wrong = {n: (s, place.by_id(ids[n]).get(ids[n], {}).get("reason")) for n, s in last.items() if s not in states}
        raise rig.Broken(f"not {' or '.join(states)}: {wrong}\n{place.log[-1500:]}") from None


def retry(place, ids):
    """A person has mended it: `queue retry`, again for what is just being tried."""

    def done():
        errors = place.run("queue", "retry", *ids.values(), code=None).stderr.decode().splitlines()
        # Those that were taken a moment ago may be delivered by now.
        odd = [line for line in errors if "right now" not in line and "no such message" not in line and " changed" not in line]
        check(not odd, f"queue retry: {odd}")
        return not any("right now" in line for line in errors)

    wait_until("queue retry takes all", done, 10)


def arrive(place, ids, limit=40):
    """Every one of these messages ({name: id}) is delivered, once."""

    def look():
        return all(place.delivered(name) for name in ids)

    try:
        wait_until("all are delivered", look, limit)
    except rig.Broken:
        late = {name: place.by_id(ids[name]) for name in ids if not place.delivered(name)}
        raise rig.Broken(f"not delivered when the fault was over: {late}\n{place.log[-1500:]}") from None
    for name in ids:
        check(len(place.delivered(name)) == 1, f"{name}: delivered {len(place.delivered(name))} times")


CANARY = b"CANARY"
"""What every secret of the fakes has in it: none of them is shown, not even in part."""

PATIENT = 'first = "30s"\nmaximum = "30s"'
"""[retry] of a server that tries nothing twice while a case looks."""


def patient(text=PATIENT):
    """[retry] of the operator's file, in place of the rig's."""
    return rig.OPERATOR.replace('first = "1s"\nmaximum = "1s"', text).format(server="", listener="", retry="", more="")


def kinds(place, *wanted):
    return [r for r in list(place.provider.requests) if r.kind in wanted]


def no_canary(place):
    place.canaries.append(CANARY)
    return place


def no_storm(place, name, seconds):
    """With a retry every second: no more tokens are asked for than tries fit in."""
    most = seconds * int(place.environment.get("TEST_CLOCK_SPEED", 1)) / 0.8 + 2
    check(place.asked(name) <= most, f"{name}: {place.asked(name)} token requests within {seconds:.1f} s")


def passes(faults, kind="graph", grant=None, at=("token",), after=None, limit=30, canary=True, states=("queued", "deferred"), **settings):
    """Each fault at a tenant of its own, at the same time: its message is deferred, nothing is failed,
    suspended or bounced, the server is not stormed; when the fault is over it arrives, once."""
    with Many(kind, faults, at=at, grant=grant, **settings) as place:
        if canary:
            no_canary(place)
        started = time.monotonic()
        place.faults.update(faults)
        ids = {name: place.hand_in(name) for name in faults}
        for identity in ids.values():
            place.wait_log(f"id={identity} ", "event=deferred ", limit=limit)
        if after:
            after(place, ids)
        for name, identity in ids.items():
            no_storm(place, name, time.monotonic() - started)
            check(set(events(place, identity)) <= {"accepted", "deferred"}, f"{name}: {events(place, identity)}")
        settle(place, ids, states)
        place.faults.clear()
        arrive(place, ids)
        return place


def once(place, name, fault):
    """A fault of a tenant that is over after one request."""

    def canned(handler):
        place.faults.pop(name)
        return fault(handler) if callable(fault) else fault

    return canned


def large(octets, boundary="b0undary"):
    """A message with an attachment of so many octets, as on the wire."""
    text = base64.encodebytes(os.urandom(octets)).replace(b"\n", b"\r\n")
    head = f'From: app@source.example\r\nTo: {MINE}\r\nSubject: token-{os.urandom(8).hex()}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n'
    parts = f'--{boundary}\r\nContent-Type: text/plain\r\n\r\nHello.\r\n--{boundary}\r\nContent-Type: application/octet-stream; name="a.bin"\r\nContent-Disposition: attachment; filename="a.bin"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    return head.encode() + parts.encode() + text + f"--{boundary}--".encode()


def forms(secret):
    """A secret as it may stand in a text."""
    raw = secret.encode()
    found = {raw, urllib.parse.quote(secret, safe="").encode(), urllib.parse.quote_plus(secret).encode()}
    found |= {json.dumps(secret)[1:-1].encode(), base64.b64encode(raw).rstrip(b"="), base64.urlsafe_b64encode(raw).rstrip(b"=")}
    return found


def secrets_nowhere(place, *texts):
    """What the program has printed holds no secret of the provider."""
    for text in texts:
        octets = text if isinstance(text, bytes) else text.encode()
        for secret in [*place.provider.secrets, "CANARY"]:
            for form in forms(secret):
                check(form not in octets, f"V3: {form.decode()[:60]} is printed: {octets[:2000]!r}")


def test(place, name, language="en", code=1):
    """`postbote test` of a tenant; gives what it prints."""
    text = (place.directory / "postbote.toml").read_text().replace('language = "en"', f'language = "{language}"')
    path = place.write(f"postbote-{language}.toml", text)
    done = place.run("test", name, "--to", MINE, "--config", str(path), code=code)
    secrets_nowhere(place, done.stdout, done.stderr)
    return done.stdout.decode()


WORDS = {"en": ("Failed", "Cause", "Remedy"), "de": ("Fehlgeschlagen", "Ursache", "Abhilfe")}


def explains(place, name):
    """`postbote test` names cause and remedy, in German and in English, and exits 1."""
    said = {}
    for language, words in WORDS.items():
        text = test(place, name, language)
        lines = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        for word in words:
            check(len(lines.get(word, "")) > 15, f"{name}: no {word!r} in {text!r}")
        check("{" not in lines[words[1]] + lines[words[2]], f"{name}: a place is not filled in: {text!r}")
        said[language] = lines[words[1]], lines[words[2]]
    check(said["de"] != said["en"], f"{name}: not translated: {said}")
    return said
