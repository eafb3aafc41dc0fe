"""T: `postbote doctor` and `postbote dkim check`: every finding provoked once, its remedy in both languages, and
nothing ever sent.

The name server is `dns.Server`; connections go to upstreams of the rig by address, or to the fake providers.
Each look (`findings`) runs the text output in one language and `--json` in the other. Checks, results, DNS
records and exit codes must be exact, words need only be about the matter."""

# T01 everything right: ok from the connection to DMARC, exit code 0
# T02 text and --json, German and English say the same; exit codes 64, 65, 78
# T03 host not found, no data, DNS silent or failing, a private or local address
# T04 connection refused, and another port that answers
# T05 STARTTLS missing or refused, plain banner where TLS begins at once and the reverse, TLS 1.1
# T06 certificate self-signed, expired, of another name, without its intermediate, ending in 5 days; trust-always, pinned
# T07 SIZE smaller than max_message_size
# T08 only NTLM offered, login refused and repeated by the server, right, none configured, one demanded
# T09 MAIL FROM refused for one of several senders (5.7.60), the login's own first; nothing is sent
# T10 SPF missing or without the provider's include: the exact record to publish
# T11 SPF broken: two records, unknown words, 11 look-ups, 3 void ones, loops, +all, missing targets; DNS silent
# T12 DKIM record right, missing, of another key, revoked, in test mode, malformed, two of them
# T13 dkim check: exit codes, keys of the vault, no keys
# T14 DMARC missing, p=none, aligned by DKIM or SPF, by nothing
# T15 DMARC strict, the walk up the tree, psd, sp, a record without p
# T16 capture: ok without network; no route
# T17 the system relay as the route
# T18 OAuth2: a right token, a dead grant, an expired secret, no consent; a rotated token is kept
# T19 with the server running, stopped, never started: the spool is not touched
# T20 hostile words of name servers and mail servers: nothing forged, raw or endless, no secret

import base64, contextlib, hashlib, itertools, json, os, re, socket, ssl, subprocess, threading, time

import dns
import rig as base
from oauth_rig import MAILBOX, Installation
from provider import aadsts
from rig import BINARY, CANARY, Broken, Upstream, case, check

from . import _dkim
from ._g_clock import fast
from ._h_certificates import Authority, openssl, pin, server
from ._oauth import forms

IDS = ("dns", "connect", "tls", "certificate", "capabilities", "authentication", "sender", "spf", "dkim", "dmarc")
LABELS = {"en": "Remedy", "de": "Abhilfe"}
BAD = "warning failed"
FINE = "ok warning"
LINE = re.compile(rf"(ok|warning|failed)\s+({'|'.join(IDS)})\s+(\S.*?): (\S.*)")
DOCTOR, DKIM_CHECK = ("doctor", "acme"), ("dkim", "check", "acme")

MICROSOFT, GOOGLE = "spf.protection.outlook.com", "_spf.google.com"
LOGIN = f'username = "{MAILBOX}"\npassword = "{CANARY}"'
CAPABILITIES = ("PIPELINING", "8BITMIME", "SIZE 104857600", "DSN", "SMTPUTF8", "ENHANCEDSTATUSCODES")


def R(pattern):
    """A pattern among the words that a finding must have; a plain text stands for itself."""
    return re.compile(pattern, re.I)


def whole(record):
    """A DNS record that stands alone: no term more, none less."""
    return re.compile(r"(?<![\w=;.-])" + re.escape(record) + r"(?=[\"'”“’»)\].,;]*(\s|$))")


# --------------------------------------------------------------------------- what is said


class Finding:
    """A finding in one language."""

    def __init__(self, check, subject, result, text, remedy=""):
        self.check, self.subject, self.result, self.text, self.remedy = check, subject, result, text, remedy

    @property
    def words(self):
        return "\n".join((self.subject, self.text, self.remedy))

    def __repr__(self):
        return f"{self.result} {self.check} {self.subject}: {self.text}" + (f"\n    -> {self.remedy}" if self.remedy else "")


def read_text(text, label):
    """The findings of the text output."""
    found, where = [], None
    for line in text.splitlines():
        match = LINE.fullmatch(line.rstrip())
        if match:
            result, check_id, subject, words = match.groups()
            found.append(Finding(check_id, subject, result, words))
            where = "text"
            continue
        check(not re.match(r"(ok|warning|failed)\b", line), f"a finding in another form: {line!r}")
        if line[:1].strip() or not found or not line.strip():
            continue  # a heading, a summary
        line = line.strip()
        if re.match(rf"({'|'.join(LABELS.values())}):", line):
            check(line.startswith(label + ":"), f"not in the language that is set: {line!r}")
            check(not found[-1].remedy, f"two remedies: {found[-1]!r}\n{line}")
            found[-1].remedy, where = line[len(label) + 1 :].strip(), "remedy"
        else:
            setattr(found[-1], where, getattr(found[-1], where) + "\n" + line)
    return found


def read_json(text):
    found = []
    for item in json.loads(text):
        keys = {"check", "subject", "result", "text", "remedy"}
        check(set(item) == keys, f"a finding has {sorted(item)}, wanted {sorted(keys)}")
        check(item["check"] in IDS and item["result"] in ("ok", "warning", "failed"), f"{item}")
        check(all(isinstance(item[key], str) and item[key] for key in ("subject", "text")), f"{item}")
        check(item["remedy"] is None or isinstance(item["remedy"], str), f"{item}")
        found.append(Finding(**{**item, "remedy": item["remedy"] or ""}))
    return found


def secrets_of(place):
    """All that must not be printed, in the forms in which it could be."""
    provider = getattr(place, "provider", None)
    plain = {CANARY, "CANARY", *(provider.secrets if provider else ()), *getattr(place, "private", ())}
    found = set()
    for secret in plain:
        found |= forms(secret)
        for shift in range(3):  # inside something in base64, wherever it begins
            octets = base64.b64encode(b"\0" * shift + secret.encode())[4 if shift else 0 : -4]
            found |= {octets} if len(octets) >= 8 else set()
    return found


def private_parts(*keys):
    """What nobody may see of DKIM keys: PEM, or seeds in base64. The modulus in them is public."""
    lines = [line for key in keys for line in key.split() if len(line) >= 40]
    return [line for line in lines if not any(line in _dkim.public(key) for key in keys)]


def in_language(place, language):
    """The operator's file in that language."""
    text = (place.directory / "postbote.toml").read_text()
    check('language = "en"' in text, "no language to change")
    return place.write(f"postbote-{language}.toml", text.replace('language = "en"', f'language = "{language}"'))


def run(place, *words, language="en", environment=None, code=None):
    """A command; what it prints holds no secret and nothing raw."""
    environment = {**os.environ, **place.environment, **(environment or {})}
    words = [*words, "--config", str(in_language(place, language))]
    done = subprocess.run([BINARY, *words], stdin=subprocess.DEVNULL, capture_output=True, env=environment, cwd=place.directory, timeout=150)
    said = done.stdout + done.stderr
    for secret in secrets_of(place):
        check(secret not in said, f"V3: {secret.decode()[:40]} stands in what {words} prints: {said[:2000]!r}")
    raw = re.search(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]", said)
    check(raw is None, f"V6: {raw and raw[0]!r} in what {words} prints: {said[:2000]!r}")
    check(len(said) < 100_000, f"V6: {words} prints {len(said)} octets")
    check(code is None or done.returncode == code, f"{words}: exit code {done.returncode}, wanted {code}: {said.decode()[-2000:]}")
    return done


def look(place, words, language, as_json, environment=None):
    """The findings of a command in one language and one form; checks the exit code."""
    done = run(place, *words, *(["--json"] if as_json else []), language=language, environment=environment)
    said = done.stdout.decode()
    try:
        found = read_json(said) if as_json else read_text(said, LABELS[language])
    except (ValueError, TypeError) as error:
        raise Broken(f"{words}, exit code {done.returncode}: {error}: {said[:1000]}\n{done.stderr.decode()[-1000:]}") from None
    check(found, f"{words}: no findings, exit code {done.returncode}: {said[:1000]}\n{done.stderr.decode()[-1000:]}")
    wanted = int(any(each.result == "failed" for each in found))
    check(done.returncode == wanted, f"{words}: exit code {done.returncode}, wanted {wanted}: {found}")
    return found


class Both:
    """A finding in both languages."""

    def __init__(self, en, de):
        self.en, self.de = en, de
        self.check, self.result, self.subject = en.check, en.result, en.subject

    def has(self, pattern, part="words"):
        texts = (getattr(self.en, part), getattr(self.de, part))
        return all(pattern in text if isinstance(pattern, str) else pattern.search(text) for text in texts)

    def sound(self):
        """Whatever is not right has a remedy, and each language its own."""
        for each in (self.en, self.de):
            check(not re.search(r"(?<![%$])\{[a-z_]*\}", each.text + each.remedy), f"a place is not filled in: {each!r}")
            check(self.result == "ok" or len(each.remedy) > 15, f"no remedy: {each!r}")
        check(self.result == "ok" or self.en.remedy != self.de.remedy, f"its remedy is not translated: {self.en!r}")

    def __repr__(self):
        return f"{self.en!r}\n{self.de!r}"


class Report:
    """What a command has found."""

    def __init__(self, en, de):
        shapes = [[(each.check, each.result) for each in found] for found in (en, de)]
        check(shapes[0] == shapes[1], f"not the same in text and JSON, English and German: {en}\n{de}")
        self.all = [Both(*pair) for pair in zip(en, de)]
        for each in self.all:
            each.sound()

    def of(self, *checks):
        return [each for each in self.all if each.check in checks]

    def expect(self, checks, results, *patterns, remedy=()):
        """There is a finding of one of these checks with one of these results that has all these words, in its
        remedy those of `remedy`, in both languages. Gives it."""
        for each in self.of(*checks.split()):
            if each.result in results.split() and all(each.has(p) for p in patterns) and all(each.has(p, "remedy") for p in remedy):
                return each
        raise Broken(f"wanted {results} of {checks} with {patterns} and the remedy {remedy}, found {self.of(*checks.split()) or self.all}")

    def every(self, checks, results, *patterns):
        """All findings of these checks have one of these results, one has these words, there is one."""
        found = self.expect(checks, results, *patterns)
        wrong = [each for each in self.of(*checks.split()) if each.result not in results.split()]
        check(not wrong, f"wanted nothing but {results}, found {wrong}")
        return found

    def never(self, checks, *patterns):
        """No finding of these checks has any of these words."""
        wrong = [each for each in self.of(*checks.split()) for p in patterns if any((p in t if isinstance(p, str) else p.search(t)) for t in (each.en.words, each.de.words))]
        check(not wrong, f"wanted none of {patterns}, found {wrong}")


def traces(place):
    """What was sent, at any upstream or provider."""
    found = []
    for upstream in place.upstreams:
        found += [line for line in list(getattr(upstream, "lines", ())) if re.match(rb"(DATA|BDAT)\b", line, re.I)]
        found += [message.raw for message in list(upstream.received)]
    provider = getattr(place, "provider", None)
    sending = ("sendMail", "draft", "attachment", "session", "put", "send", "gmail", "gmail-session", "gmail-put")
    return found + [r.kind for r in (list(provider.requests) if provider else ()) if r.kind in sending]


def findings(place, language="en", words=DOCTOR, environment=None):
    """Looks at a tenant: text in this language, JSON in the other one. Nothing may be sent meanwhile."""
    before, said = len(traces(place)), {}
    for each in LABELS:
        said[each] = look(place, words, each, each != language, environment)
    check(len(traces(place)) == before, f"{words} has sent: {traces(place)[before:]}")
    return Report(**said)


LANGUAGES = itertools.cycle(LABELS)
"""Text in one language, then in the other, where a case has many looks."""


# --------------------------------------------------------------------------- the world

TENANT = """
name = "ACME"
email = "office@acme.example"
{tenant}
[upstream]
host = "{host}"
port = {port}
encryption = "{encryption}"
{keys}
{after}
"""

WORLD = {
    ("acme.example", "TXT"): ["site-verification=4711", "v=spf1 ip4:127.0.0.1 ip4:203.0.113.7 -all"],
    ("acme.example", "MX"): ["10 mx.acme.example"],
    ("acme.example", "A"): ["203.0.113.7"],
    ("mx.acme.example", "A"): ["203.0.113.7"],
    ("_dmarc.acme.example", "TXT"): ["v=DMARC1; p=none; rua=mailto:reports@acme.example"],
    (MICROSOFT, "TXT"): ["v=spf1 ip4:40.92.0.0/15 ip4:40.107.0.0/16 ip4:52.100.0.0/15 ip6:2a01:111:f400::/48 -all"],
    (GOOGLE, "TXT"): ["v=spf1 include:_netblocks.google.com include:_netblocks2.google.com include:_netblocks3.google.com ~all"],
    ("_netblocks.google.com", "TXT"): ["v=spf1 ip4:35.190.247.0/24 ip4:64.233.160.0/19 ~all"],
    ("_netblocks2.google.com", "TXT"): ["v=spf1 ip6:2001:4860:4000::/36 ~all"],
    ("_netblocks3.google.com", "TXT"): ["v=spf1 ip4:172.217.0.0/19 ~all"],
}


def world(changes=()):
    """What the name server knows; None takes a record away."""
    return {key: values for key, values in {**WORLD, **dict(changes)}.items() if values is not None}


@contextlib.contextmanager
def names(place, changes=()):
    """A name server that every command of the rig asks."""
    with dns.Server(world(changes)) as zone:
        place.environment["POSTBOTE_NAMESERVER"] = zone.address
        yield zone


def again(zone, changes=(), fail=()):
    """The next look begins: these changes, these faults, nothing counted yet."""
    zone.forget()
    zone.load(world(changes))
    zone.fail.update(fail)


def tenant(rig, upstream=None, keys="", host="127.0.0.1", port=None, encryption="none", tenant="", after=""):
    """Writes the tenant's file, with this upstream or the rig's. Gives the upstream."""
    upstream = upstream or rig.upstream
    if upstream not in rig.upstreams:
        rig.upstreams.append(upstream)
    rig.tenant("acme", TENANT.format(tenant=tenant, host=host, port=port or upstream.port, encryption=encryption, keys=keys, after=after))
    return upstream


class At(Upstream):
    """An upstream at an address of our own choice."""

    def __init__(self, address, port=0, **settings):
        super().__init__(**settings)
        first, self.listener = self.listener, socket.create_server((address, port), backlog=50)
        self.address, self.port = self.listener.getsockname()
        with contextlib.suppress(OSError):
            first.shutdown(socket.SHUT_RDWR)
        first.close()
        threading.Thread(target=self._accept, daemon=True).start()


def secured(pair, implicit=False, low=None, login=(MAILBOX, CANARY)):
    """An upstream with TLS."""
    upstream = Upstream(capabilities=CAPABILITIES, tls=server(pair, low), login=login)
    upstream.implicit = implicit
    return upstream


def date(days):
    """As `openssl ca` takes it."""
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + days * 86400))


def closed_port(address="127.0.0.1"):
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def in_clear(upstream):
    """What the upstream heard of a login or a sender."""
    return [line for line in upstream.lines if re.match(rb"(AUTH|MAIL)\b", line, re.I)]


RSA_KEYS = [("pb1", _dkim.rsa), ("pb1e", lambda: _dkim.SEED)]


def keys_of(domain="acme.example"):
    """Two keys of a tenant, RSA and Ed25519: the lines of its file, and the records."""
    made = {selector: key() for selector, key in RSA_KEYS}
    lines = "".join(_dkim.entry(domain, selector, key) for selector, key in made.items())
    return lines, {(f"{selector}._domainkey.{domain}", "TXT"): [_dkim.public(key)] for selector, key in made.items()}, private_parts(*made.values())


def try_all(looks):
    """Plays many looks ({name: callable}); says all that were wrong."""
    wrong = []
    for name, play in looks.items():
        try:
            play()
        except Broken as broken:
            wrong.append(f"{str(broken)[:1500]} ({name})")
    # What breaks an invariant first.
    check(not wrong, "\n".join(sorted(wrong, key=lambda words: not re.match(r"V\d", words))))


# --------------------------------------------------------------------------- everything right; the form


def healthy(rig, extra=""):
    """A tenant with nothing wrong; gives the changes to the world."""
    ca = Authority(rig.directory / "pki", "ca")
    upstream = secured(ca.issue(end=date(200)))
    lines, records, rig.private = keys_of()
    tenant(rig, upstream, f'{LOGIN}\nca_file = "{ca.certificate}"', encryption="starttls", after=lines + extra)
    return {**records, ("_dmarc.acme.example", "TXT"): ["v=DMARC1; p=reject; rua=mailto:reports@acme.example"]}


@case("T01", "everything is right: ok from the connection to DMARC, exit code 0", start=False)
def _(rig):
    with names(rig, healthy(rig)) as zone:
        for language in LABELS:
            report = findings(rig, language)
            for check_id in ("connect", "certificate", "capabilities", "authentication", "sender", "dkim", "dmarc"):
                report.every(check_id, "ok")
            report.every("tls", "ok", R(r"TLS ?v?1[._]?[23]"))
            report.every("spf", FINE)
            # 127.0.0.1 may be pointed out, and need not be looked up.
            check(all(each.result in FINE.split() for each in report.all), f"{report.all}")
            for selector, _ in RSA_KEYS:
                report.expect("dkim", "ok", f"{selector}._domainkey.acme.example")
        check(zone.count("_dmarc.acme.example", "TXT"), "DMARC was not looked up")
        report = findings(rig, words=DKIM_CHECK)
        report.every("dkim", "ok")
        check(len(report.all) == 2 and not in_clear(rig.upstream), f"{report.all}")


@case("T02", "the form: text and JSON say the same, in either language; wrong usage", start=False)
def _(rig):
    """Of a tenant with some of each result: the record of one DKIM key is missing, that of the other tests."""
    changes = healthy(rig)
    changes["pb1._domainkey.acme.example", "TXT"] = None
    changes["pb1e._domainkey.acme.example", "TXT"] = [_dkim.public(_dkim.SEED) + "; t=y"]
    with names(rig, changes):
        for words in (DOCTOR, DKIM_CHECK):
            findings(rig, words=words)
            for language in LABELS:
                text, parsed = (look(rig, words, language, as_json) for as_json in (False, True))
                flat = lambda found: [" ".join(part.split()) for each in found for part in (each.check, each.subject, each.result, each.text, each.remedy)]
                check(flat(text) == flat(parsed), f"{words} in {language}: {text}\n{parsed}")
                found = {each.result for each in text}
                check(found >= {"warning", "failed"}, f"{words}: only {found}")
    # A tenant that is not there, as every other command has it; no tenant at all.
    for words in (("doctor",), ("dkim", "check")):
        wanted = run(rig, "test", "nobody").returncode
        run(rig, *words, "nobody", code=wanted)
        run(rig, *words, "nobody", "--json", code=wanted)
        run(rig, *words, code=64)
        run(rig, *words, "acme", "--nonsense", code=64)
    # A broken configuration is said as everywhere.
    path = rig.directory / "tenants/acme.toml"
    path.write_text(path.read_text() + "\n[mystery]\na = 1\n")
    for words in (DOCTOR, DKIM_CHECK):
        run(rig, *words, code=78)


# --------------------------------------------------------------------------- names, connections


@case("T03", "the host's name: not found, no data, no answer, failing, private and local", start=False)
def _(rig):
    upstream = At("127.0.0.7", capabilities=CAPABILITIES)
    hosts = {
        "mail.nowhere.example": (None, None, "failed"),
        "nodata.acme.example": ({"TXT": ["x"]}, None, "failed"),
        "broken.acme.example": ({}, "servfail", "failed"),
        "slow.acme.example": ({"A": ["127.0.0.7"]}, "timeout", "failed"),
        "inside.acme.example": ({"A": ["127.0.0.7"]}, None, "warning"),
        "private.acme.example": ({"A": ["127.0.0.7", "10.1.2.3"]}, None, "warning"),
    }
    said = {}

    def one(host, records, fault, result):
        tenant(rig, upstream, host=host)
        again(zone, {(host, kind): values for kind, values in (records or {}).items()}, {host: fault} if fault else {})
        # The pauses of a resolver are passed on a faster clock.
        report = findings(rig, next(LANGUAGES), environment=fast(10) if fault else None)
        found = report.expect("dns", result, host)
        if result == "warning":
            check(found.has(R(r"127\.0\.0\.7|10\.1\.2\.3")), f"the address is not named: {found}")
        else:
            check(not [each for each in report.of("authentication", "sender") if each.result == "ok"], f"{report.all}")
        said[host] = found.en.text.replace(host, ""), found.de.text.replace(host, "")
        check(zone.count(host), f"{host} was not asked for")

    with names(rig) as zone:
        try_all({host: lambda host=host, how=how: one(host, *how) for host, how in hosts.items()})
    missing, slow = said["mail.nowhere.example"], said["slow.acme.example"]
    check(missing[0] != slow[0] and missing[1] != slow[1], f"no answer is called not found: {said}")


@case("T04", "connection refused, and another port that answers", start=False)
def _(rig):
    def other():
        """An address of which 2525, or another usual port, is free."""
        for port, last in itertools.product((2525, 587, 465), range(2, 10)):
            with contextlib.suppress(OSError):
                return At(f"127.0.0.{last}", port, capabilities=CAPABILITIES)
        raise Broken("no usual port is free")

    with names(rig):
        upstream = other()
        port = closed_port(upstream.address)
        tenant(rig, upstream, LOGIN, host=upstream.address, port=port)
        for language in LABELS:
            report = findings(rig, language)
            report.every("connect", "failed", str(port), R(rf"\b{upstream.port}\b"))
            check(not [each for each in report.of("authentication", "sender", "capabilities") if each.result == "ok"], f"{report.all}")
        check(not in_clear(upstream), f"a password was sent to a port that nobody has named: {upstream.lines}")
        upstream.close()
        found = findings(rig).every("connect", "failed", str(port))
        check(not found.has(re.compile(rf"\b{upstream.port}\b"), "text"), f"a port answers that does not: {found}")
        # What belongs to the domain is looked at all the same.
        findings(rig, "de").expect("spf dmarc", "ok warning failed", "acme.example")


# --------------------------------------------------------------------------- TLS


@case("T05", "TLS: STARTTLS missing or refused, plain where TLS begins at once and the reverse, too old", start=False)
def _(rig):
    pair = Authority(rig.directory / "pki", "ca").issue(end=date(200))
    trusting = LOGIN + f'\nca_file = "{rig.directory}/pki/ca/ca.pem"'
    refusing = secured(pair)
    refusing.on["STARTTLS"] = lambda session, line: "454 4.7.0 TLS not available"
    rows = {
        # what: (upstream, encryption, checks, words, words of the remedy)
        "missing": (Upstream(capabilities=(*CAPABILITIES, "AUTH PLAIN LOGIN")), "starttls", "tls", [R("STARTTLS")], []),
        "refused": (refusing, "starttls", "tls", [R("STARTTLS|454")], []),
        "plain on a TLS port": (Upstream(capabilities=CAPABILITIES), "tls", "tls", [], [R("starttls")]),
        "TLS on a plain port": (secured(pair, implicit=True), "starttls", "tls connect", [], ['"tls"']),
        "TLS where none is wanted": (secured(pair, implicit=True), "none", "tls connect", [], ['"tls"']),
        "old": (secured(pair, low=ssl.TLSVersion.TLSv1_1), "starttls", "tls", [R(r"1[._]2")], []),
    }

    def one(upstream, encryption, checks, words, remedy):
        tenant(rig, upstream, trusting, encryption=encryption)
        # A greeting that never comes is waited for on a faster clock.
        report = findings(rig, next(LANGUAGES), environment=fast(10) if "connect" in checks else None)
        report.expect(checks, "failed", *words, remedy=remedy)
        check(not in_clear(upstream), f"V3: sent in clear: {upstream.lines}")
        check(not [each for each in report.of("authentication", "sender") if each.result == "ok"], f"{report.all}")

    with names(rig):
        try_all({name: lambda row=row: one(*row) for name, row in rows.items()})
        for implicit, encryption in ((True, "tls"), (False, "starttls")):
            tenant(rig, secured(pair, implicit), trusting, encryption=encryption)
            report = findings(rig, next(LANGUAGES))
            for check_id in ("tls", "certificate", "authentication"):
                report.every(check_id, "ok")


def with_intermediate(directory):
    """(root's certificate, pair without the intermediate, pair with it)."""
    root, sub = Authority(directory, "root"), Authority(directory, "sub")
    request, extensions, crossed = (sub.home / name for name in ("sub.csr", "sub.ext", "crossed.pem"))
    extensions.write_text("basicConstraints = critical, CA:true\nkeyUsage = critical, keyCertSign, cRLSign\nsubjectKeyIdentifier = hash\n")
    openssl("req", "-new", "-key", sub.key, "-subj", "/CN=sub", "-out", request, "-config", sub.config)
    openssl("x509", "-req", "-in", request, "-CA", root.certificate, "-CAkey", root.key, "-set_serial", "77", "-days", "200", "-extfile", extensions, "-out", crossed)
    leaf, key = sub.issue(end=date(200))
    chain = sub.home / "chain.pem"
    chain.write_text(leaf.read_text() + crossed.read_text())
    return root.certificate, (leaf, key), (chain, key)


@case("T06", "certificates: every fault, one that ends soon, trust-always, pinned", start=False)
def _(rig):
    pki = rig.directory / "pki"
    ca = Authority(pki, "ca")
    root, alone, complete = with_intermediate(pki)
    named, rooted = f'ca_file = "{ca.certificate}"', f'ca_file = "{root}"'
    good, own, another = ca.issue(end=date(200)), ca.issue(self_signed=True, end=date(200)), ca.issue(end=date(200))
    pinned = lambda pair: f'certificate = "pinned"\npins = ["{pin(pair)}"]'
    rows = {
        # what: (certificate, keys, result, words, words of the remedy)
        "self-signed": (own, named, "failed", [], [R("ca_file|trust-always|pinned")]),
        "expired": (ca.issue(start=date(-20), end=date(-3)), named, "failed", [R("expired|abgelaufen")], []),
        "not yet valid": (ca.issue(start=date(3), end=date(20)), named, "failed", [], []),
        "wrong name": (ca.issue(san="DNS:mail.other.example", end=date(200)), named, "failed", ["mail.other.example", "127.0.0.1"], []),
        "incomplete chain": (alone, rooted, "failed", [R("intermediate|Zwischenzertifikat")], []),
        "unknown authority": (Authority(pki, "unknown").issue(end=date(200)), named, "failed", [], [R("ca_file")]),
        "ends in 5 days": (ca.issue(end=date(5.5)), named, "warning", [R(r"\b5\b|" + time.strftime("%Y-%m-%d|%d.%m.%Y", time.gmtime(time.time() + 5.5 * 86400)))], []),
        "pinned, another key": (another, pinned(good), "failed", [pin(another)], ["pins"]),
        "trust-always": (own, 'certificate = "trust-always"', "warning", ["trust-always"], []),
        "pinned": (own, pinned(own), "ok", [], []),
        "complete chain": (complete, rooted, "ok", [], []),
        "good": (good, named, "ok", [], []),
    }

    def one(pair, keys, result, words, remedy, implicit):
        upstream = tenant(rig, secured(pair, implicit), f"{LOGIN}\n{keys}", encryption="tls" if implicit else "starttls")
        report = findings(rig, next(LANGUAGES))
        report.expect("certificate", result, *words, remedy=remedy)
        passed = [each.result for each in report.of("authentication")] == ["ok"]
        check(passed == (result != "failed") and bool(upstream.logins) == passed, f"V3: {upstream.logins} logins: {report.all}")
        if result == "ok":
            report.every("certificate", "ok")

    with names(rig):
        try_all({f"{name}{', implicit' * implicit}": lambda row=row, implicit=implicit: one(*row, implicit) for implicit in (False, True) for name, row in rows.items()})


# --------------------------------------------------------------------------- what the server offers, the login


@case("T07", "SIZE smaller than what we accept", start=False, server='max_message_size = "20MiB"')
def _(rig):
    least = R(r"10485760|10[., ]485[., ]760|\b10([.,][05]\d*)? ?Mi?B")
    rows = {
        "smaller": ("SIZE 10485760", "warning", [least, "552 5.3.4"]),
        "one octet less": (f"SIZE {(20 << 20) - 1}", "warning", []),
        "equal": (f"SIZE {20 << 20}", "ok", []),
        "without a number": ("SIZE", "ok", []),
        "no limit": ("SIZE 0", "ok", []),
        "none": ("X-NOTHING", "ok", []),
    }

    def one(line, result, words):
        rig.upstream.capabilities = [word for word in CAPABILITIES if not word.startswith("SIZE")] + [line]
        report = findings(rig, next(LANGUAGES))
        report.expect("capabilities", result, *words, remedy=["max_message_size"] if result != "ok" else [])
        if result == "ok":
            report.every("capabilities", "ok")

    with names(rig):
        try_all({name: lambda row=row: one(*row) for name, row in rows.items()})


def echoes(session, line):
    """A server that repeats what it was told, and the password in clear."""
    with session.upstream.lock:
        session.upstream.logins += 1
    return f"535 5.7.8 wrong: {line.decode()} ({CANARY})"


@case("T08", "the login: only NTLM, none offered, refused, right, none configured, one demanded", start=False)
def _(rig):
    """What a server repeats of our login is not shown (V3)."""
    disabled = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information."
    rows = {
        # what: (login of the server, more capabilities, handlers, keys, checks, result, words)
        "only NTLM": (None, ["AUTH NTLM GSSAPI"], {}, LOGIN, "authentication", "failed", ["NTLM"]),
        "none offered": (None, [], {}, LOGIN, "authentication", "failed", []),
        "refused": ((MAILBOX, "other"), [], {}, LOGIN, "authentication", "failed", ["535"]),
        "refused and repeated": ((MAILBOX, CANARY), [], {"AUTH": echoes}, LOGIN, "authentication", "failed", ["535"]),
        "forbidden": ((MAILBOX, CANARY), [], {"AUTH": lambda s, _: disabled}, LOGIN, "authentication", "failed", ["5.7.139"]),
        "not now": ((MAILBOX, CANARY), [], {"AUTH": lambda s, _: "454 4.7.0 Temporary authentication failure"}, LOGIN, "authentication", BAD, ["454"]),
        "right": ((MAILBOX, CANARY), [], {}, LOGIN, "authentication", "ok", []),
        "none configured": (None, [], {}, "", "authentication", FINE, []),
        "one demanded": ((MAILBOX, CANARY), [], {"MAIL": lambda s, _: "530 5.7.0 Authentication required"}, "", "authentication sender", "failed", ["530"]),
    }

    def one(login, more, handlers, keys, checks, result, words):
        upstream = tenant(rig, Upstream(capabilities=(*CAPABILITIES, *more), login=login), keys)
        upstream.on.update(handlers)
        report = findings(rig, next(LANGUAGES))
        report.expect(checks, result, *words)
        tried = [line for line in upstream.lines if line.upper().startswith(b"AUTH")]
        check(bool(tried) == bool(keys and login), f"logins: {tried}")
        if result == "ok":
            report.every("sender", "ok")

    with names(rig):
        try_all({name: lambda row=row: one(*row) for name, row in rows.items()})


SENDERS = f"""
[sender]
address = "rechnung@acme.example"
{{sender}}
[[document]]
type = "dunning"
match = {{{{ header = "X-Document-Type", value = "dunning" }}}}
address = "mahnung@acme.example"
[[user]]
login = "pos1@acme"
password = "{CANARY}-of-a-user"
name = "Kasse 1"
email = "kasse1@acme.example"
use_own_sender = true
senders = ["*@shop.acme.example"]
"""


def mail_from(upstream):
    """The senders that were tried, in order."""
    return [match[1].decode() for line in upstream.lines if (match := re.match(rb"MAIL FROM:<([^>]*)>", line, re.I))]


@case("T09", "the sender: refused for one of several; the login's own first; nothing is sent", start=False)
def _(rig):
    denied = "550 5.7.60 SMTP; Client does not have permissions to send as this sender [AM0PR01MB1234.eurprd01.prod.exchangelabs.com]"

    def refusing(*words):
        """An upstream that refuses senders with one of these words in them."""
        upstream = Upstream(capabilities=CAPABILITIES, login=(MAILBOX, CANARY))
        upstream.on["MAIL"] = lambda session, line: denied if any(word in line for word in words) else session._usual("MAIL", line)
        return upstream

    with names(rig):
        upstream = tenant(rig, refusing(b"mahnung@"), LOGIN, after=SENDERS.format(sender=""))
        for language in LABELS:
            upstream.lines.clear()
            report = findings(rig, language)
            report.expect("sender", "failed", "mahnung@acme.example", "5.7.60")
            wrong = [each for each in report.of("sender") if each.result == "failed" and not each.has("mahnung@acme.example")]
            check(not wrong, f"a sender that is taken counts as refused: {wrong}")
            tried = mail_from(upstream)
            check(tried and tried[0] == MAILBOX, f"the login's own address was not tried first: {tried}")
            check({"rechnung@acme.example", "mahnung@acme.example"} <= set(tried), f"not all were tried: {tried}")
            check(not [address for address in tried if "*" in address], f"a pattern was tried: {tried}")
        # The reason is explained: it is the mailbox that lacks a permission.
        report.expect("sender", "failed", remedy=[R(r"send ?as|Senden als|permission|Berechtigung|allow|erlaub")])

        upstream = tenant(rig, refusing(b"@"), LOGIN, after=SENDERS.format(sender=""))
        report = findings(rig)
        report.expect("sender", "failed", MAILBOX)
        check(mail_from(upstream)[0] == MAILBOX, f"{mail_from(upstream)}")

        upstream = tenant(rig, refusing(b"nobody@"), LOGIN, after=SENDERS.format(sender='return_path = "bounces@acme.example"'))
        findings(rig, "de").every("sender", "ok")
        tried = mail_from(upstream)
        check("bounces@acme.example" in tried, f"the return path was not tried: {tried}")
        check(set(tried) == {MAILBOX, "bounces@acme.example"}, f"no mail ever leaves with these: {tried}")

        # Refused for good with no word about senders, refused for now: the words of the server are told.
        for reply in ("553 5.7.1 <mahnung@acme.example>: Sender address rejected: not owned by user office", "451 4.3.0 Mail server temporarily rejected message."):
            upstream = tenant(rig, refusing(), LOGIN, after=SENDERS.format(sender=""))
            upstream.on["MAIL"] = lambda session, line: reply if b"mahnung@" in line else session._usual("MAIL", line)
            findings(rig, next(LANGUAGES)).expect("sender", "failed" if reply[0] == "5" else BAD, "mahnung@acme.example", reply[:3])


# --------------------------------------------------------------------------- SPF

MERGED = {
    # what stands in DNS, and what should: every term stays where it is, the new one comes before what ends it
    "v=spf1 mx a:web.acme.example ip4:203.0.113.7 include:_spf.other.example -all": "v=spf1 mx a:web.acme.example ip4:203.0.113.7 include:_spf.other.example include:{} -all",
    "v=spf1 -all": "v=spf1 include:{} -all",
    "v=spf1 mx ~all": "v=spf1 mx include:{} ~all",
    "v=spf1 ip4:203.0.113.7 redirect=_spf.other.example": "v=spf1 ip4:203.0.113.7 include:{} redirect=_spf.other.example",
    "v=spf1 mx -all exp=why.acme.example": "v=spf1 mx include:{} -all exp=why.acme.example",
    "v=spf1 MX ?include:_spf.other.example ~ALL": "v=spf1 MX ?include:_spf.other.example include:{} ~ALL",
    "v=spf1 ip6:2001:db8::/32 exists:%{i}._spf.acme.example ?all": "v=spf1 ip6:2001:db8::/32 exists:%{i}._spf.acme.example include:{} ?all",
}

PRESENT = {
    "itself": ["v=spf1 include:{} -all"],
    "among others": ["v=spf1 mx ip4:203.0.113.7 include:_spf.other.example include:{} ~all"],
    "in other letters": ["v=spf1 INCLUDE:{upper} -all"],
    "in two strings": [("v=spf1 mx inc", "lude:{} -all")],
    "below an include": ["v=spf1 include:_spf.acme.example -all"],
    "behind a redirect": ["v=spf1 redirect=_spf.acme.example"],
    "as a redirect": ["v=spf1 redirect={}"],
    "beside other records": ["v=spf10 -all", "spf1", "site=v=spf1 -all", "v=spf1 include:{} -all"],
}

OTHERS = {
    ("_spf.other.example", "TXT"): ["v=spf1 ip4:198.51.100.0/24 -all"],
    ("web.acme.example", "A"): ["203.0.113.7"],
    ("why.acme.example", "TXT"): ["no"],
}


def spf(place, zone, values, provider=None, more=(), fail=()):
    """A look at a domain with these TXT records."""
    fill = lambda text: tuple(map(fill, text)) if isinstance(text, tuple) else text.replace("{}", provider or "").replace("{upper}", (provider or "").upper())
    nested = {("_spf.acme.example", "TXT"): [f"v=spf1 include:{provider} -all"]} if provider else {}
    again(zone, {**OTHERS, **nested, ("acme.example", "TXT"): [fill(value) for value in values], **dict(more)}, fail)
    return findings(place, next(LANGUAGES))


def provider_spf(kind, provider, merged, present):
    with Installation(kind, start=False) as place, names(place) as zone:

        def missing(values):
            report = spf(place, zone, values, provider)
            report.expect("spf", BAD, "acme.example", re.compile(whole(f"v=spf1 include:{provider} -all").pattern + "|" + whole(f"v=spf1 include:{provider} ~all").pattern))

        def lacking(before, after):
            record = whole(after.replace("{}", provider))
            spf(place, zone, [before], provider).expect("spf", BAD, "acme.example", record)

        def there(values):
            spf(place, zone, values, provider).every("spf", "ok")

        def unended():
            # Nothing ends it: whether "all" is added is open.
            found = spf(place, zone, ["v=spf1 mx"], provider).expect("spf", BAD, "acme.example")
            check(found.has(re.compile(rf"v=spf1 mx include:{re.escape(provider)}( [~?-]all)?(?![\w:])")), f"{found}")

        def behind():
            # Nobody reads what stands behind "all".
            spf(place, zone, [f"v=spf1 -all include:{provider}"], provider).expect("spf", BAD)

        looks = {"missing": lambda: missing([]), "other records only": lambda: missing(["site=1", "v=spf10 -all"]), "not ended": unended, "behind all": behind}
        looks |= {before: lambda pair=(before, after): lacking(*pair) for before, after in merged.items()}
        looks |= {name: lambda values=values: there(values) for name, values in present.items()}
        try_all(looks)


@case("T10", "SPF at Microsoft and Google: the record that is missing, the merged record, include present", start=False)
def _(rig):
    few = dict(list(MERGED.items())[:2]), dict(list(PRESENT.items())[:1])
    provider_spf("graph", MICROSOFT, MERGED, PRESENT)
    provider_spf("gmail", GOOGLE, *few)
    provider_spf("microsoft-smtp", MICROSOFT, *few)
    provider_spf("google-smtp", GOOGLE, few[0], {**few[1], "as a redirect": PRESENT["as a redirect"]})
    with names(rig) as zone:
        # In one's own network: nobody but the reader knows the address that the world sees.
        tenant(rig)
        report = spf(rig, zone, ["v=spf1 mx -all"])
        report.every("spf", "warning")
        report.expect("spf", "warning", remedy=[re.compile(r"v=spf1 mx ip4:AD+RESSE? -all")])


def chain(last="ip4:203.0.113.9", more="exists:there.acme.example"):
    """A record with 12 look-ups: 5 + 4 + 2 + 1; without `last` and `more` as given, fewer."""
    hosts = {(f"h{n}.acme.example", "A"): ["203.0.113.9"] for n in range(1, 6)}
    return {
        **hosts,
        ("there.acme.example", "A"): ["127.0.0.2"],
        ("l1.acme.example", "TXT"): [f"v=spf1 a:h1.acme.example a:h2.acme.example mx:acme.example {more} ~all"],
        ("l2.acme.example", "TXT"): ["v=spf1 a:h4.acme.example include:l3.acme.example ~all"],
        ("l3.acme.example", "TXT"): [f"v=spf1 {last} ~all"],
    }


LONG_CHAIN = f"v=spf1 include:{MICROSOFT} a mx include:l1.acme.example include:l2.acme.example -all"
HAS = f"v=spf1 include:{MICROSOFT}"
LOOP = {("loop.acme.example", "TXT"): ["v=spf1 include:loop2.acme.example -all"], ("loop2.acme.example", "TXT"): ["v=spf1 include:acme.example -all"]}
PLUS_ALL = [R(r"[~-]all")]
MENDED = [whole(f"v=spf1 mx include:{MICROSOFT} -all")]

BROKEN_SPF = {
    # what: (values, more records, faults, results, words, words of the remedy)
    "two records": ([f"{HAS} -all", "v=spf1 mx -all"], {}, {}, "failed", ["acme.example"], []),
    "unknown mechanism": ([f"{HAS} ipv4:203.0.113.7 -all"], {}, {}, "failed", ["ipv4"], []),
    "an address that is none": ([f"{HAS} ip4:203.0.113.777 -all"], {}, {}, "failed", ["203.0.113.777"], []),
    "12 look-ups": ([LONG_CHAIN], chain("a:h5.acme.example"), {}, "failed", [R(r"\b12\b"), R(r"\b10\b|\bzehn\b|\bten\b")], []),
    "11 look-ups": ([LONG_CHAIN], chain(), {}, "failed", [R(r"\b11\b")], []),
    "3 void look-ups": ([f"{HAS} a:gone1.acme.example a:gone2.acme.example mx:gone3.acme.example -all"], {}, {}, "failed", [R(r"gone[123]\.acme\.example|\b3\b")], []),
    "3 void look-ups, names without data": ([f"{HAS} a:gone1.acme.example a:gone2.acme.example a:gone3.acme.example -all"], {(f"gone{n}.acme.example", "TXT"): ["x"] for n in (1, 2, 3)}, {}, "failed", [R(r"gone[123]\.acme\.example|\b3\b")], []),
    "include loop": ([f"{HAS} include:loop.acme.example -all"], LOOP, {}, "failed", ["acme.example"], []),
    "includes itself": ([f"{HAS} include:acme.example -all"], {}, {}, "failed", ["include:acme.example"], []),
    "+all": ([f"{HAS} +all"], {}, {}, BAD, [R(r"\+all")], PLUS_ALL),
    "all": ([f"{HAS} all"], {}, {}, BAD, ["all"], PLUS_ALL),
    "+all behind a redirect": ([f"{HAS} redirect=open.acme.example"], {("open.acme.example", "TXT"): ["v=spf1 +all"]}, {}, BAD, [R(r"\+all")], []),
    "+all in an include": ([f"{HAS} include:open.acme.example -all"], {("open.acme.example", "TXT"): ["v=spf1 +all"]}, {}, "warning", [R(r"\+all"), "open.acme.example"], [whole(f"{HAS} -all")]),
    "nothing but a macro": (["v=spf1 include:%{d}._spf.other.example -all"], {}, {}, "warning", [], [whole(f"v=spf1 include:%{{d}}._spf.other.example include:{MICROSOFT} -all")]),
    "two bad terms": ([f"{HAS} ipv4:203.0.113.7 foo:bar mx -all"], {}, {}, "failed", ["ipv4:203.0.113.7", "foo:bar"], MENDED),
    "a long bad term": ([f"{HAS} includ:{'a' * 60}.{'b' * 60}.example mx -all"], {}, {}, "failed", [], MENDED),
    "two records, one of them invalid": ([f"{HAS} -all", "v=spf1 ipv4:203.0.113.7 mx -all"], {}, {}, "failed", [], MENDED),
    "in quotation marks": (['"v=spf1 mx -all"'], {}, {}, "failed", [], MENDED),
    "blanks in front": (["  v=spf1 mx -all"], {}, {}, "failed", [], MENDED),
    "too many look-ups once it is complete": ([LONG_CHAIN.replace(f"include:{MICROSOFT} ", "")], chain(), {}, "failed", [], [R(r"\b11\b"), R(r"\b10\b"), "include:l1.acme.example (5)"]),
    "include target missing": ([f"{HAS} include:gone.acme.example -all"], {}, {}, "failed", ["gone.acme.example"], []),
    "include target without SPF": ([f"{HAS} include:web.acme.example -all"], {("web.acme.example", "TXT"): ["x"]}, {}, "failed", ["web.acme.example"], []),
    "include target with two records": ([f"{HAS} include:web.acme.example -all"], {("web.acme.example", "TXT"): ["v=spf1 -all", "v=spf1 mx -all"]}, {}, "failed", ["web.acme.example"], []),
    "redirect target missing": ([f"{HAS} redirect=gone.acme.example"], {}, {}, "failed", ["gone.acme.example"], []),
    "include target fails": ([f"{HAS} include:fails.acme.example -all"], {}, {"fails.acme.example": "servfail"}, BAD, ["fails.acme.example"], []),
}

WHOLE_SPF = {
    "10 look-ups": ([LONG_CHAIN], chain(more=""), {}),
    "2 void look-ups": ([f"{HAS} a:gone1.acme.example a:gone2.acme.example -all"], {}, {}),
    "the same twice, no loop": ([f"{HAS} include:l3.acme.example include:l4.acme.example -all"], {("l3.acme.example", "TXT"): ["v=spf1 ip4:203.0.113.9 -all"], ("l4.acme.example", "TXT"): ["v=spf1 include:l3.acme.example -all"]}, {}),
    "macro": ([f"{HAS} exists:%{{i}}._spf.acme.example -all"], {}, {}),
    "redirect beside all": ([f"{HAS} redirect=gone.acme.example -all"], {}, {}),
    "unknown modifier": ([f"{HAS} tracking=on -all"], {}, {}),
    "truncated": ([f"{HAS} -all"], {}, {"acme.example": "truncate", MICROSOFT: "truncate"}),
}


@case("T11", "SPF that is broken: two records, unknown words, too many look-ups, void ones, loops, +all, missing targets", start=False)
def _(rig):
    with Installation("graph", start=False) as place, names(place) as zone:

        def bad(values, more, fail, results, words, remedy):
            report = spf(place, zone, values, MICROSOFT, more, fail)
            report.expect("spf", results, *words, remedy=remedy)
            # Two runs: an endless loop would show, a record is not asked for again and again.
            check(zone.count(kind="TXT") < 120, f"{zone.count(kind='TXT')} questions")

        def good(values, more, fail):
            report = spf(place, zone, values, MICROSOFT, more, fail)
            report.every("spf", FINE)
            check("truncate" not in fail.values() or zone.count("acme.example", "TXT", "tcp"), "what was cut was not asked for by TCP")

        def unknown(fault):
            # What could not be read is not called missing, and nothing is told to be published.
            for each, wanted in (("acme.example", "spf"), ("_dmarc.acme.example", "dmarc")):
                again(zone, {("acme.example", "TXT"): [f"{HAS} -all"]}, {(each, "TXT"): fault})
                report = findings(place, next(LANGUAGES), environment=fast(10))
                report.every(wanted, BAD)
                report.never(wanted, re.compile("v=spf1 (include|mx|a|-|~)"), "p=none; rua=")

        looks = {name: lambda row=row: bad(*row) for name, row in BROKEN_SPF.items()}
        looks |= {name: lambda row=row: good(*row) for name, row in WHOLE_SPF.items()}
        looks |= {f"DNS says {fault}": lambda fault=fault: unknown(fault) for fault in ("servfail", "timeout", "refused")}
        try_all(looks)
        # The whole name server is away.
        place.environment["POSTBOTE_NAMESERVER"] = f"127.0.0.1:{closed_port()}"
        report = findings(place, environment=fast(10))
        report.every("spf dmarc", BAD)
        report.never("spf dmarc", re.compile("v=spf1 (include|mx|a|-|~)"), "p=none; rua=")
        report.every("authentication", "ok")


# --------------------------------------------------------------------------- DKIM

NAME = "pb1._domainkey.acme.example"


def dkim_tables(records):
    """Faults of the record of pb1, and what is no fault; the right value is that of `records`."""
    right = records[NAME, "TXT"][0]
    public = right.split("p=")[1]
    ed25519 = records["pb1e._domainkey.acme.example", "TXT"][0]
    other = _dkim.public(_dkim.openssl("genrsa", "-traditional", "2048").decode())
    cut = lambda *at: tuple(right[a:b] for a, b in zip((0, *at), (*at, None)))
    bad = {
        # what: (values or None, results, whether the right value is told)
        "missing": (None, "failed", True),
        "no data": ([], "failed", True),
        "other key": ([other], "failed", True),
        "of the other kind": ([ed25519], "failed", True),
        "key said to be Ed25519": ([right.replace("k=rsa", "k=ed25519")], "failed", True),
        "revoked": (["v=DKIM1; k=rsa; p="], "failed", False),
        "test mode": ([right + "; t=y"], "warning", False),
        "test mode, first": ([right.replace("v=DKIM1;", "v=DKIM1; t=y:s;")], "warning", False),
        "no base64": ([f"v=DKIM1; k=rsa; p={public[:100]}!{public[100:]}"], "failed", True),
        "half of it": ([right[:255]], "failed", True),
        "no semicolons": ([right.replace(";", "")], "failed", True),
        "without p": (["v=DKIM1; k=rsa"], "failed", True),
        "another version": ([right.replace("DKIM1", "DKIM2")], "failed", True),
        "quotes in it": ([f'"{right}"'], "failed", True),
        "another text": (["v=spf1 -all"], "failed", True),
        "two records": ([right, other], BAD, False),
        "only SHA-1": ([right + "; h=sha1"], "failed", False),
        "not for mail": ([right + "; s=other"], BAD, False),
    }
    good = {
        "split at 255": [right],
        "split anywhere": [cut(10, 30, 200, 399)],
        "with blanks in it": [right.replace(public, f"{public[:64]} {public[64:128]}\t{public[128:]}")],
        "without what may be left out": [f"p={public}"],
        "with more tags": [right.replace("; p=", " ;n=our key;h=sha256:sha1; s=*;p=") + ";"],
    }
    return right, bad, good


@case("T12", "DKIM records against the keys: right, missing, another key, revoked, test mode, malformed, two", start=False)
def _(rig):
    lines, records, rig.private = keys_of()
    right, bad, good = dkim_tables(records)
    tenant(rig, after=lines)

    def both(values, fail=()):
        changes = {**records, (NAME, "TXT"): values}
        for words in (DOCTOR, DKIM_CHECK):
            again(zone, changes, fail)
            report = findings(rig, next(LANGUAGES), words, environment=fast(10) if fail else None)
            check(words == DOCTOR or {each.check for each in report.all} == {"dkim"}, f"{words}: {report.all}")
            # The other key is all right, whatever becomes of this one.
            report.expect("dkim", "ok", "pb1e._domainkey.acme.example")
            yield report

    def faulty(values, results, told):
        for report in both(values):
            report.expect("dkim", results, NAME, *([whole(right)] if told else []))

    def fine(values):
        for report in both(values):
            report.every("dkim", "ok")
            report.expect("dkim", "ok", NAME)

    def unknown(fault):
        for report in both([right], {NAME: fault}):
            report.expect("dkim", BAD, NAME)
            report.never("dkim", right)

    def by_alias():
        changes = {**records, (NAME, "TXT"): None, (NAME, "CNAME"): ["pb1.keys.example"], ("pb1.keys.example", "TXT"): [right]}
        for words in (DOCTOR, DKIM_CHECK):
            again(zone, changes, {"pb1.keys.example": "truncate"})
            findings(rig, next(LANGUAGES), words).every("dkim", "ok")

    with names(rig) as zone:
        looks = {name: lambda row=row: faulty(*row) for name, row in bad.items()}
        looks |= {name: lambda values=values: fine(values) for name, values in good.items()}
        looks |= {f"DNS says {fault}": lambda fault=fault: unknown(fault) for fault in ("servfail", "timeout")}
        try_all({**looks, "alias": by_alias, "truncated": lambda: [report.every("dkim", "ok") for report in both([right], {NAME: "truncate"})]})


@case("T13", "dkim check: exit codes, keys of the vault, no keys, a key that cannot be read", start=False)
def _(rig):
    tenant(rig)
    for selector, algorithm in (("pb1", "rsa2048"), ("pb1e", "ed25519")):
        rig.run("dkim", "new", "acme", "--domain", "acme.example", "--selector", selector, "--algorithm", algorithm)
    key = '[[dkim]]\ndomain = "acme.example"\nselector = "{0}"\nkey = {{ vault = "acme-dkim-{0}" }}\n'
    tenant(rig, after=key.format("pb1") + key.format("pb1e"))
    told = json.loads(rig.run("dkim", "record", "acme", "--json").stdout)
    with names(rig) as zone:
        # What `dkim record` says to publish is what is looked for.
        for name, results in (("none", "failed failed"), ("one", "ok failed"), ("both", "ok ok")):
            published = {"none": [], "one": told[:1], "both": told}[name]
            again(zone, {(each["name"], "TXT"): [tuple(each["split"])] for each in published})
            report = findings(rig, next(LANGUAGES), DKIM_CHECK)
            check([each.result for each in report.all] == results.split(), f"{name}: {report.all}")
            for each, there in zip(told, (name != "none", name == "both")):
                report.expect("dkim", "ok" if there else "failed", each["name"], *([] if there else [whole(each["value"])]))
        check(sorted(zone.names()) == sorted(each["name"] for each in told), f"{zone.names()}")
        check(not rig.upstream.connections, "dkim check connects to the server")
        # A key that is not there is a failure of ours, whatever DNS says.
        rig.run("vault", "remove", "acme-dkim-pb1e")
        for words in (DOCTOR, DKIM_CHECK):
            done = run(rig, *words)
            check(done.returncode in (1, 78) and b"pb1e" in done.stdout + done.stderr, f"{words}: {done}")
        # Without keys there is nothing to compare; it is said how to make some.
        tenant(rig)
        done = run(rig, *DKIM_CHECK)
        check(done.returncode in (0, 1) and b"dkim new" in done.stdout + done.stderr, f"{done}")
        findings(rig).expect("dkim", "warning", remedy=["dkim new"])


# --------------------------------------------------------------------------- DMARC

ELSEWHERE = '[sender]\nreturn_path = "bounces@bounce.example"\n'
"""What keeps SPF from being aligned."""


def signed(domain, selector="pb1e"):
    """A key for that domain: the lines of the tenant's file, and its record."""
    return _dkim.entry(domain, selector, _dkim.SEED), {(f"{selector}._domainkey.{domain}", "TXT"): [_dkim.public(_dkim.SEED)]}


def from_address(address, return_path="bounces@bounce.example"):
    return f'[sender]\naddress = "{address}"\nreturn_path = "{return_path}"\n'


def dmarc(rig, zone, policies, after, dkim=None, more=()):
    """A look at a tenant with these policies ({domain: record or records}); gives the report."""
    lines, records = signed(dkim) if dkim else ("", {})
    policies = {(f"_dmarc.{domain}", "TXT"): [text] if isinstance(text, str) else text for domain, text in policies.items()}
    again(zone, {("_dmarc.acme.example", "TXT"): None, ("bounce.example", "TXT"): ["v=spf1 ip4:127.0.0.1 -all"], **records, **policies, **dict(more)})
    tenant(rig, after=after + lines)
    rig.private = private_parts(_dkim.SEED)
    return findings(rig, next(LANGUAGES))


REJECT = "v=DMARC1; p=reject; rua=mailto:reports@acme.example"
NONE = "v=DMARC1; p=none; rua=mailto:reports@acme.example"


SIGNED = {
    # provider's host: (what is included, the selector under which it signs or None, the result without a record there)
    "smtp.sendgrid.net": ("sendgrid.net", "s1", "failed"),
    "in-v3.mailjet.com": ("spf.mailjet.com", "mailjet", "failed"),
    "smtp-relay.brevo.com": ("spf.brevo.com", "brevo2", "failed"),
    "email-smtp.eu-central-1.amazonaws.com": ("amazonses.com", None, "warning"),
    "smtp.postmarkapp.com": ("spf.mtasv.net", None, "warning"),
}
"""Providers that put their own return path: nothing but their signature can be aligned."""


@case("T14", "DMARC: no record, p=none, aligned by DKIM or by SPF, by nothing", start=False)
def _(rig):
    suggestion = re.compile(r"v=DMARC1; p=none; rua=mailto:[\w.+-]+@acme\.example")

    def none(policies):
        report = dmarc(rig, zone, policies, ELSEWHERE, "acme.example")
        report.every("dmarc", "warning", "_dmarc.acme.example", suggestion)

    def look_at(results, text, after, dkim, *words):
        more = {("bounces.acme.example", "TXT"): ["v=spf1 ip4:127.0.0.1 -all"]}
        report = dmarc(rig, zone, {"acme.example": text}, after, dkim, more)
        report.every("dmarc", results, "acme.example", *words)

    def at(host, include, selector, result):
        alias = {(f"{selector}._domainkey.acme.example", "CNAME"): ["key.provider.example"]} if selector else {}
        key = {("key.provider.example", "TXT"): ["k=rsa; t=s; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC"]}
        known = {(host, "A"): ["127.0.0.1"], (include, "TXT"): ["v=spf1 ip4:198.51.100.0/24 ~all"], ("_dmarc.acme.example", "TXT"): [REJECT]}
        for records, wanted in (({**alias, **key}, "ok" if selector else result), ({}, result)):
            again(zone, {**known, **records})
            tenant(rig, host=host)
            findings(rig, next(LANGUAGES)).every("dmarc", wanted, "acme.example", "DKIM")

    with names(rig) as zone:
        looks = {
            "by +all": lambda: dmarc(rig, zone, {"acme.example": REJECT}, "", None, {("acme.example", "TXT"): ["v=spf1 +all"]}).every("dmarc", "warning"),
            **{host: lambda host=host, row=row: at(host, *row) for host, row in SIGNED.items()},
            "none": lambda: none({}),
            "other texts": lambda: none({"acme.example": ["site=1", "v=spf1 -all"]}),
            "v not first": lambda: look_at(BAD, "p=reject; v=DMARC1", ELSEWHERE, "acme.example"),
            "no semicolons": lambda: look_at(BAD, "v=DMARC1 p=reject", ELSEWHERE, "acme.example"),
            "two": lambda: look_at(BAD, [NONE, REJECT], ELSEWHERE, "acme.example"),
            "p=none, aligned": lambda: look_at(FINE, NONE, "", "acme.example", R("p ?= ?none|DKIM")),
            "p=none, nothing aligned": lambda: look_at("warning", NONE, ELSEWHERE, None),
            "by DKIM": lambda: look_at("ok", REJECT, ELSEWHERE, "acme.example", "DKIM"),
            "by DKIM, in other letters": lambda: look_at("ok", "v=DMARC1;p=Reject;ADKIM=R", ELSEWHERE, "ACME.example", "DKIM"),
            "by SPF": lambda: look_at(FINE, REJECT, "", None, "SPF"),
            "by SPF of a subdomain": lambda: look_at(FINE, REJECT, '[sender]\nreturn_path = "b@bounces.acme.example"\n', None, "SPF"),
            "by nothing, reject": lambda: look_at("failed", REJECT, ELSEWHERE, None),
            "by nothing, quarantine": lambda: look_at("failed", "v=DMARC1; p=quarantine", ELSEWHERE, None),
            "by a signature of another domain": lambda: look_at("failed", REJECT, ELSEWHERE, "bounce.example"),
        }
        try_all(looks)
        # A key of the right domain that DNS does not have aligns nothing.
        lines, _ = signed("acme.example")
        again(zone, {("_dmarc.acme.example", "TXT"): [REJECT], ("bounce.example", "TXT"): ["v=spf1 ip4:127.0.0.1 -all"]})
        tenant(rig, after=ELSEWHERE + lines)
        report = findings(rig)
        report.expect("dkim", "failed")
        report.every("dmarc", BAD)


@case("T15", "DMARC: strict, the walk up the tree, psd, sp, a record without p", start=False)
def _(rig):
    deep = "a.b.c.d.e.f.g.acme.example"
    rows = {
        # what: (policies, From, domain of the key, results)
        "relaxed": ({"acme.example": REJECT}, "r@mail.acme.example", "acme.example", "ok"),
        "strict": ({"acme.example": REJECT + "; adkim=s"}, "r@mail.acme.example", "acme.example", "failed"),
        "strict, the same": ({"acme.example": REJECT + "; adkim=s; aspf=s"}, "r@acme.example", "acme.example", "ok"),
        "two labels up": ({"acme.example": REJECT}, "r@a.b.acme.example", "acme.example", "ok"),
        "two labels up, by nothing": ({"acme.example": REJECT}, "r@a.b.acme.example", None, "failed"),
        "the nearest counts": ({"acme.example": NONE, "b.acme.example": NONE, "a.b.acme.example": REJECT}, "r@a.b.acme.example", None, "failed"),
        "nine labels": ({"acme.example": REJECT}, f"r@{deep}", "acme.example", "ok"),
        "a sister": ({"acme.example": REJECT}, "r@x.acme.example", "y.acme.example", "ok"),
        "a sister below a public suffix": ({"acme.example": REJECT + "; psd=y"}, "r@x.acme.example", "y.acme.example", "failed"),
        "public suffix above": ({"example": REJECT + "; psd=y"}, "r@x.acme.example", "acme.example", "ok"),
        "psd=n ends the walk": ({"acme.example": REJECT, "x.acme.example": REJECT + "; psd=n"}, "r@x.acme.example", "acme.example", "failed"),
        "sp is for subdomains": ({"acme.example": NONE + "; sp=reject"}, "r@x.acme.example", None, "failed"),
        "sp is not for itself": ({"acme.example": NONE + "; sp=reject"}, "r@acme.example", None, "warning"),
        "sp milder": ({"acme.example": REJECT + "; sp=none"}, "r@x.acme.example", None, "warning"),
        "without p": ({"acme.example": "v=DMARC1; rua=mailto:reports@acme.example"}, "r@acme.example", "acme.example", "warning"),
        "p unknown": ({"acme.example": "v=DMARC1; p=never; rua=mailto:reports@acme.example"}, "r@acme.example", "acme.example", BAD),
    }

    def one(policies, address, key, results):
        exists = {(address.split("@")[1], "A"): ["203.0.113.7"]}  # np is for names that are not there
        dmarc(rig, zone, policies, from_address(address), key, exists).every("dmarc", results)

    def walk(wanted, most):
        asked = [name for name in zone.names("TXT") if name.startswith("_dmarc.") and not name.endswith("bounce.example")]
        check(set(wanted) <= set(asked), f"{wanted} were to be asked for, {asked} were")
        check(len(asked) <= most, f"{len(asked)} names: {asked}")

    with names(rig) as zone:
        try_all({name: lambda row=row: one(*row) for name, row in rows.items()})
        one(*rows["two labels up"])
        walk([f"_dmarc.{name}" for name in ("a.b.acme.example", "b.acme.example", "acme.example")], 4)
        one(*rows["nine labels"])
        walk([f"_dmarc.{name}" for name in (deep, "c.d.e.f.g.acme.example", "g.acme.example", "acme.example")], 8)
        check(not zone.count("_dmarc.b.c.d.e.f.g.acme.example"), "longer than seven labels, and asked for")
        # The strict one says what would help.
        report = dmarc(rig, zone, rows["strict"][0], from_address("r@mail.acme.example"), "acme.example")
        report.expect("dmarc", "failed", "mail.acme.example", R("adkim"))


# --------------------------------------------------------------------------- routes


@case("T16", "a capture tenant: ok, no network; a tenant without a route", start=False)
def _(rig):
    lines, _, rig.private = keys_of()
    head = 'name = "ACME"\nemail = "office@acme.example"\n'
    with names(rig) as zone:
        rig.tenant("acme", head + '[upstream]\nkind = "capture"\n' + lines)
        for language in LABELS:
            report = findings(rig, language)
            check(all(each.result == "ok" for each in report.all), f"{report.all}")
        check(not zone.queries and not rig.upstream.connections, f"asked for {zone.names()}, {rig.upstream.connections} connections")
        check(not list((rig.data / "captured").rglob("*.eml")), "something was captured")

        rig.tenant("acme", head)
        for language in LABELS:
            report = findings(rig, language)
            report.expect(" ".join(IDS), "failed", remedy=[R(r"upstream|system_relay")])
        # An upstream that the operator does not allow is none.
        tenant(rig)
        operator = rig.directory / "postbote.toml"
        operator.write_text(operator.read_text() + "\n[tenants.acme]\nown_upstream = false\n")
        findings(rig).expect(" ".join(IDS), "failed", remedy=[R(r"upstream|system_relay")])
        check(not rig.upstream.connections, f"{rig.upstream.lines}")


SYSTEM = """
[system]
email = "noreply@provider.example"
name = "Provider"
sender = "{sender}"
[system.upstream]
host = "127.0.0.1"
port = {port}
encryption = "none"
{login}
{dkim}
[tenant_defaults]
system_relay = "when-unconfigured"
"""


@case("T17", "the system relay as the route: its server, its sender, its DNS", start=False)
def _(rig):
    relay = Upstream(capabilities=CAPABILITIES, login=("relay", CANARY))
    rig.upstreams.append(relay)
    operator = rig.directory / "postbote.toml"
    plain = operator.read_text()
    login = f'username = "relay"\npassword = "{CANARY}"'
    lines, records = signed("provider.example", "sys")
    rig.private = private_parts(_dkim.SEED)
    mine, my_records = signed("acme.example")
    provider = {
        ("provider.example", "TXT"): ["v=spf1 ip4:127.0.0.1 -all"],
        ("_dmarc.provider.example", "TXT"): ["v=DMARC1; p=reject"],
        ("_dmarc.acme.example", "TXT"): [REJECT],
        **records,
    }
    head = 'name = "ACME"\nemail = "office@acme.example"\n'
    with names(rig, provider) as zone:
        # From is the relay's: everything is about provider.example.
        operator.write_text(plain + SYSTEM.format(sender="system", port=relay.port, login=login, dkim=lines.replace("[[dkim]]", "[[system.dkim]]")))
        rig.tenant("acme", head)
        for language in LABELS:
            report = findings(rig, language)
            report.every("connect", "ok", str(relay.port))
            report.every("authentication", "ok")
            report.every("sender", "ok", "noreply@provider.example")
            report.every("spf", FINE, "provider.example")
            report.every("dkim", "ok", "sys._domainkey.provider.example")
            report.every("dmarc", "ok", "provider.example")
        check(set(mail_from(relay)) == {"noreply@provider.example"}, f"{mail_from(relay)}")
        check(not zone.count("_dmarc.acme.example") and not rig.upstream.connections, f"{zone.names()}, {rig.upstream.lines}")
        # From stays the tenant's, the return path is the relay's: without a key of its own nothing is aligned.
        operator.write_text(plain + SYSTEM.format(sender="tenant", port=relay.port, login=login, dkim=""))
        again(zone, provider)
        report = findings(rig)
        report.every("dmarc", "failed", "acme.example")
        check(set(mail_from(relay)) == {"noreply@provider.example"}, f"{mail_from(relay)}")
        rig.tenant("acme", head + mine)
        again(zone, {**provider, **my_records})
        report = findings(rig, "de")
        report.every("dmarc", "ok", "acme.example")
        report.every("dkim", "ok", "pb1e._domainkey.acme.example")
        # The relay fails: that is the tenant's finding, too.
        relay.on["AUTH"] = lambda session, line: "535 5.7.8 no"
        findings(rig).every("authentication", "failed", "535")
        # Where the operator demands it, it has to answer although the tenant has a route of its own.
        tenant(rig)
        again(zone, provider)
        for port, result in ((relay.port, "ok"), (closed_port(), "failed")):
            demanded = SYSTEM.format(sender="system", port=port, login=login, dkim="").replace("[system]\n", "[system]\nrequired = true\n", 1)
            operator.write_text(plain + demanded)
            report = findings(rig, next(LANGUAGES))
            report.expect("connect", result, str(port), "required", remedy=["required"] if result == "failed" else [])
            report.expect("connect", "ok", str(rig.upstream.port))
        # Nothing leaves at all.
        operator.write_text(plain.replace("[server]\n", '[server]\nsending = "off"\n', 1))
        findings(rig).expect("connect", "warning", 'sending = "off"', remedy=["sending"])


# --------------------------------------------------------------------------- tokens

PROVIDERS = {"microsoft-smtp": MICROSOFT, "graph": MICROSOFT, "gmail": GOOGLE, "google-smtp": GOOGLE}


def at_provider(kind):
    """The world of a tenant at a provider, all right."""
    return {("acme.example", "TXT"): [f"v=spf1 include:{PROVIDERS[kind]} -all"], ("_dmarc.acme.example", "TXT"): [REJECT]}


def nothing_tried(place):
    """No login and no request to an API was made without a token."""
    check(not (place.smtp and place.smtp.auths), f"logins: {place.smtp and place.smtp.auths}")
    asked = [r.kind for r in list(place.provider.requests) if r.kind not in ("token", "device")]
    check(not asked, f"requests: {asked}")


@case("T18", "OAuth2: a right token, a dead grant (invalid_grant), an expired secret, no consent", start=False)
def _(rig):
    def right(kind, grant):
        with Installation(kind, grant, start=False) as place, names(place, at_provider(kind)):
            place.provider.strict = True  # a rotated refresh token is good for nothing more
            for language in LABELS:
                report = findings(place, language)
                report.every("authentication", "ok")
                report.every("spf", "ok", "acme.example")
                check(not [each for each in report.all if each.result == "failed"], f"{report.all}")
            # What was rotated meanwhile is kept: the server goes on with it.
            place.start()
            place.client().message()
            place.sent(1)
            findings(place).every("authentication", "ok")
            place.client().message()
            place.sent(2)

    def dead(kind, grant):
        with Installation(kind, "refresh-token", start=False) as place, names(place, at_provider(kind)):
            place.provider.revoke()
            for language in LABELS:
                report = findings(place, language)
                report.every("authentication", "failed", R("invalid_grant|50173|revoked|widerrufen|no longer valid|gilt nicht mehr"))
            nothing_tried(place)

    def expired(kind, grant):
        with Installation(kind, "client-credentials", start=False) as place, names(place, at_provider(kind)):
            place.provider.always["token"] = aadsts(7000222)
            report = findings(place, next(LANGUAGES))
            report.every("authentication", "failed", R("7000222|expired|abgelaufen"), R("secret|Geheimnis|Schlüssel"))
            nothing_tried(place)

    def unasked(kind, grant):
        with Installation(kind, "authorization-code", start=False) as place, names(place, at_provider(kind)):
            report = findings(place, next(LANGUAGES))
            report.expect("authentication", "failed", remedy=["oauth connect"])
            check(not place.provider.requests, f"{place.provider.requests}")

    def away(kind, grant):
        with Installation(kind, "refresh-token", start=False) as place, names(place, at_provider(kind)):
            place.provider.always["token"] = (503, {}, b"")
            findings(place, next(LANGUAGES)).expect("authentication", BAD)
            nothing_tried(place)

    def refused(kind, grant):
        with Installation(kind, "refresh-token", start=False) as place, names(place, at_provider(kind)):
            # A good token that the mail server does not take.
            place.smtp.check = lambda token, user: False
            findings(place, next(LANGUAGES)).every("authentication", "failed", "535")
            check(place.smtp.auths, "no login")

    both = ("microsoft-smtp", "graph")
    looks = [(right, kind, None) for kind in PROVIDERS] + [(right, "graph", "refresh-token"), (right, "microsoft-smtp", "refresh-token")]
    looks += [(dead, kind, None) for kind in PROVIDERS] + [(how, kind, None) for how in (expired, unasked, away) for kind in both]
    looks += [(refused, "microsoft-smtp", None), (refused, "google-smtp", None)]
    try_all({f"{how.__name__} {kind} {grant or ''}": lambda row=(how, kind, grant): row[0](*row[1:]) for how, kind, grant in looks})


# --------------------------------------------------------------------------- beside the server


def spool_of(rig):
    """Every file of the spool, by its content."""
    files = sorted(path for path in (rig.data / "spool").rglob("*") if path.is_file())
    return {str(path.relative_to(rig.data)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@case("T19", "with the server, without it, before its first start: the spool is not touched", start=False, server='sending = "hold"')
def _(rig):
    changes = healthy(rig)
    with names(rig, changes):
        first = findings(rig)
        first.expect("connect", "warning", 'sending = "hold"', remedy=["sending"])
        check(not (rig.data / "spool").exists(), f"a spool was made: {spool_of(rig)}")
        rig.start()
        with contextlib.closing(rig.client()) as client:
            client.message()
        running = findings(rig, "de")
        findings(rig, words=DKIM_CHECK)
        waiting = base.wait_until("it is held", lambda: [m for m in rig.queue() if m["state"] == "held"])
        check(len(waiting) == 1, f"{waiting}")
        rig.stop()
        before = spool_of(rig)
        check(before, "no spool to look at")
        stopped = findings(rig)
        findings(rig, words=DKIM_CHECK)
        check(spool_of(rig) == before, "the spool has changed")
        shape = lambda report: [(each.check, each.result, each.subject) for each in report.all]
        check(shape(first) == shape(running) == shape(stopped), f"not the same with and without the server: {shape(first)}, {shape(running)}, {shape(stopped)}")
        rig.start()
        findings(rig, "de")
        check([m["id"] for m in rig.queue()] == [m["id"] for m in waiting], f"{rig.queue()}")
    check(not rig.upstream.received, "what is held was sent")


# --------------------------------------------------------------------------- foreign words

FORGED = "ok  dkim  forged.example: everything is right"
FOREIGN = [
    f"x\n{FORGED}",
    f"x\r\n{FORGED}\r\n    Remedy: send money",
    "x\x1b[2J\x1b]0;owned\x07",
    "x\x00\x7f\x9b31m",
    f"x\u2028{FORGED}\u0085{FORGED}",
    "\u202egnorw",
    "x" * 20_000,
    b"\xff\xfe".decode("utf-8", "surrogateescape") * 200,
    "{0} {:?} %s %n %{i}",
]


@case("T20", "what name servers and mail servers say does not forge, hide or flood the findings; no secret in it", start=False)
def _(rig):
    lines, records, rig.private = keys_of()

    def said_by_dns(text):
        again(zone, {
            **records,
            ("acme.example", "TXT"): [text, f"v=spf1 {text} -all"],
            ("_dmarc.acme.example", "TXT"): [f"v=DMARC1; p={text}; rua=mailto:{text}"],
            (NAME, "TXT"): [f"v=DKIM1; k=rsa; n={text}; p={text}"],
        })  # fmt: skip
        looked_at(tenant(rig, after=lines), text)

    def said_by_server(text):
        line = text.encode("utf-8", "surrogateescape").replace(b"\n", b" ").replace(b"\r", b"")[:400]
        again(zone, records)
        upstream = tenant(rig, Upstream(capabilities=(*CAPABILITIES, "AUTH NTLM " + line.decode("utf-8", "surrogateescape"))), LOGIN, after=lines)
        looked_at(upstream, text)
        for stage, code in (("banner", b"554 "), ("EHLO", b"550 "), ("AUTH", b"535 5.7.8 "), ("MAIL", b"550 5.7.60 ")):
            upstream = tenant(rig, Upstream(capabilities=CAPABILITIES, login=(MAILBOX, CANARY)), LOGIN, after=lines)
            upstream.on[stage] = lambda session, _: code + line + b"\r\n"
            looked_at(upstream, text)

    def looked_at(upstream, text):
        report = findings(rig, next(LANGUAGES))
        check(not [each for each in report.all if "forged" in each.subject], f"V6: a forged finding: {report.all}")
        check(not any(each.en.remedy == "send money" or each.de.remedy == "send money" for each in report.all), f"V6: a forged remedy: {report.all}")

    with names(rig) as zone:
        looks = {f"DNS: {text[:20]!r}": lambda text=text: said_by_dns(text) for text in FOREIGN}
        looks |= {f"server: {text[:20]!r}": lambda text=text: said_by_server(text) for text in FOREIGN}
        try_all(looks)
