"""S: notices to the people behind a tenant, mail to support, copies."""

# S01 a route fails: one notice over the system relay if allowed, else told when it works again; then one that it works
# S02 1 000 refused messages: one digest, at most ten bounces a minute and one digest; no notice about a notice
# S03 given up after give_up_after: one notice, one bounce each; a retry by hand delivers
# S04 a refused sender (5.7.60): one attempt, failed, a notice with the remedy; a retry by hand delivers
# S05 the fallback is in use: told once, and once more when it ends
# S06 certificate, secret, authorisation about to end: told once at 30 and once at 7 days, not again after a restart
# S07 German and English, header, sender, no secret, no copies of notices and bounces
# S08 postbote notices: running and stopped, one tenant, --json, after a restart, 1 000 at most, unknown tenant
# S09 notices go to `email`, or to each of `to` once
# S10 a tenant hears nothing of another
# S11 [support]: the alias, whose address, system information for support alone, every content intact
# S12 [support] with a suspended route: over the system relay if allowed, else it waits
# S13 a copy that fails makes no bounce and no notice
# S14 copies and the case worker over Graph and Gmail
# S15 another key at a server that is always trusted: one notice

import base64, collections, concurrent.futures, datetime, email, email.policy, hashlib, json, re, secrets, signal, socket, subprocess, time

import provider
from oauth_rig import MAILBOX, Installation
from rig import CANARY, TOKEN, Broken, Upstream, case, check, is_bounce, wait_until

from . import _faults as f
from ._h_certificates import Authority, server

OPERATOR = """
[server]
hostname = "postbote.test"
data_dir = "data"
language = "en"
drain = "5s"
[[listener]]
name = "in"
address = "127.0.0.1:0"
tenant = "acme"
[[listener]]
name = "beta"
address = "127.0.0.1:0"
tenant = "beta"
[admin]
address = "127.0.0.1:0"
[retry]
first = "1s"
maximum = "1s"
{retry}
[system]
email = "noreply@provider.example"
name = "Provider"
[system.upstream]
host = "127.0.0.1"
port = {port}
encryption = "none"
{more}
"""

TENANT = """
name = "{NAME}"
email = "office@{name}.example"
{top}
[upstream]
host = "127.0.0.1"
port = {port}
encryption = "{encryption}"
{keys}
{notices}
{after}
"""

EVENTS = {"route-failed", "route-works", "authorisation-expiring", "secret-expiring", "certificate-expiring", "given-up", "refused-sender", "fallback", "server-key-changed"}
WRONG = "canary-wr0ngpassw0rd"
"""The password that a tenant's file has until it is mended; as secret as the right one."""
WINDOW = 16 * 60
"""After a notice further ones are kept for a quarter of an hour, and told in one digest."""


def login(password):
    return f'username = "office"\npassword = "{password}"'


def allowed(*tenants, after="30d"):
    """The operator lets these use the system relay when their own server fails."""
    return "".join(f'[tenants.{name}]\nsystem_relay = "on-failure"\nfallback_after = "{after}"\n' for name in tenants)


class Hours:
    """The server's clocks: they run as always, and are put on by whole stretches. Before the start."""

    def __init__(self, place):
        self.clock, self.ahead = f.Clock(place), 0

    def pass_by(self, seconds):
        self.ahead += seconds
        self.clock.move(wall=self.ahead, steady=self.ahead)


class Site:
    """Two tenants, acme (upstream `rig.upstream`) and beta, each told at edv@, and a system relay.

    Settings by tenant: `top` (keys above [upstream]), `keys` of [upstream], `encryption`, `notices` (the section),
    `after` (further sections). `more` and `retry` go to the operator's file."""

    def __init__(self, rig, more="", retry="", upstream=None, start=True, **settings):
        self.rig, self.hours, self.relay = rig, Hours(rig), Upstream()
        self.upstreams = {"acme": rig.upstream, "beta": upstream or Upstream()}
        self.beta = self.upstreams["beta"]
        rig.upstreams += [self.relay, self.beta]
        for password in (WRONG, CANARY):
            rig.canaries += [password.encode(), base64.b64encode(password.encode()), base64.b64encode(f"\0office\0{password}".encode())]
        self.operator = {"more": more, "retry": retry}
        self.settings = {name: {"top": "", "keys": "", "encryption": "none", "notices": f'[notices]\nto = ["edv@{name}.example"]', "after": ""} for name in self.upstreams}
        for name, changed in settings.items():
            self.settings[name].update(changed)
        self.write()
        if start:
            self.start()

    def start(self):
        self.rig.start()
        self.rig.descriptors += 8  # connections to three servers may be kept

    def write(self):
        self.rig.write("postbote.toml", OPERATOR.format(port=self.relay.port, **self.operator))
        for name, settings in self.settings.items():
            self.rig.tenant(name, TENANT.format(name=name, NAME=name.upper(), port=self.upstreams[name].port, **settings))

    def change(self, operator=None, **settings):
        """Other settings, in force."""
        self.operator.update(operator or {})
        for name, changed in settings.items():
            self.settings[name].update(changed)
        since = len(self.rig.log)
        self.write()
        self.rig.signal(signal.SIGHUP)
        wait_until("the reload", lambda: "event=reload" in self.rig.log[since:])
        check("event=reload-refused" not in self.rig.log[since:], self.rig.log[since:])

    def client(self, name="acme"):
        return self.rig.client(listener="in" if name == "acme" else name)

    def hand_in(self, name="acme", count=1, content=None, **envelope):
        """Messages of a tenant on one connection; gives [(id, token)]."""
        client, found = self.client(name), []
        for _ in range(count):
            octets = content or self.rig.message()
            found.append((client.message(octets, **envelope), TOKEN.search(octets)[0]))
        client.expect("QUIT", "221")
        client.close()
        self.rig.clients.remove(client)
        return found

    def arrive(self, handed, *upstreams, limit=30):
        """Waits until all of these are at these upstreams (or one of them)."""
        wanted = {token for _, token in handed}
        return wait_until(f"{len(handed)} messages arrive", lambda: wanted <= {token for u in upstreams for token in u.tokens()}, limit)

    def known(self, handed):
        """What became of these is looked at by the case: their tokens may stand in what is said of them."""
        self.rig.may_be_lost |= {token for _, token in handed}
        self.rig.may_repeat |= {token for _, token in handed}
        return handed


# --------------------------------------------------------------------------- what is listed, what is mailed


def notices(place, *arguments):
    """`postbote notices --json`."""
    found = json.loads(place.run("notices", *arguments, "--json").stdout)
    check(isinstance(found, list), f"no array: {found}")
    for each in found:
        check(set(each) >= {"at", "tenant", "event", "text", "remedy", "told"}, f"a notice without one of its fields: {each}")
        check(each["event"] in EVENTS and each["text"], f"{each}")
        moment(each)
    return found


def moment(notice):
    return datetime.datetime.fromisoformat(notice["at"].replace("Z", "+00:00")).timestamp()


def listed(place, event, tenant="acme"):
    return [each for each in notices(place) if (each["event"], each["tenant"]) == (event, tenant)]


def noticed(place, event, tenant="acme", limit=30):
    """Waits for the one notice of an event; gives it."""
    found = wait_until(f"a notice {event} of {tenant}", lambda: listed(place, event, tenant), limit)
    check(len(found) == 1, f"{len(found)} notices {event} of {tenant}: {found}")
    return found[0]


def told(place, hours, tenant="acme"):
    """Waits until a mail went out for every notice of a tenant, if need be in a digest."""

    def all_told():
        return all(each["told"] for each in notices(place, tenant))

    try:
        wait_until("all notices are told", all_told, 12)
    except Broken:
        hours.pass_by(WINDOW)
        wait_until(f"all notices are told: {notices(place, tenant)}", all_told, 20)


def still(what, look, seconds=6, limit=90):
    """Waits until what `look` gives has been the same for so long; gives it."""
    seen = [look(), time.monotonic()]

    def same():
        found = look()
        if found != seen[0]:
            seen[:] = found, time.monotonic()
        return time.monotonic() - seen[1] >= seconds

    wait_until(f"still: {what}", same, limit)
    return seen[0]


def mails(upstream, tenant="acme"):
    """The notice mails at a server: nobody else writes to that address."""
    return [m for m in list(upstream.received) if f"edv@{tenant}.example" in m.recipients]


def bounces(upstream):
    return [m for m in list(upstream.received) if b"multipart/report" in m.raw[:4000] and m.recipients]


def one_line(text):
    return " ".join(str(text).split())


def words(message):
    """Subject and text of a mail, as a person reads them."""
    parsed = email.message_from_bytes(message.raw, policy=email.policy.default)
    texts = [part.get_content() for part in parsed.walk() if part.get_content_type() == "text/plain"]
    return one_line("\n".join([str(parsed["Subject"]), *texts]))


def says(found, *wanted):
    """What is listed stands in one of these mails, text and remedy."""
    for notice in wanted:
        for key in ("text", "remedy"):
            check(any(one_line(notice[key] or "") in words(mail) for mail in found), f"{notice[key]!r} stands in none of {[words(mail) for mail in found]}")


def proper(message, sender):
    """A notice mail has the header that it must have, and its sender is the one of its route."""
    for name in ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version"):
        check(len(message.fields(name)) == 1, f"{name}: {message.fields(name)}")
    check(message.fields("Auto-Submitted") == ["auto-generated"], f"Auto-Submitted: {message.fields('Auto-Submitted')}")
    check(re.search(rf"<?{re.escape(sender)}>?$", message.fields("From")[0]), f"From: {message.fields('From')}, wanted {sender}")
    check(message.sender in ("", sender), f"the return path of a notice is {message.sender}")
    # Decoded as well: V3 looks at the octets.
    for secret in (CANARY, WRONG):
        check(secret not in words(message), f"V3: {secret} stands in a notice")


TONGUES = {"de": {"nicht", "und", "wird", "wurde", "wurden", "ist", "der", "das", "eine", "wieder", "bitte", "oder"}, "en": {"the", "is", "not", "and", "has", "have", "again", "of", "to", "please", "or"}}


def tongue(text):
    found = re.findall(r"\w+", text.lower())
    counts = {name: sum(word in known for word in found) for name, known in TONGUES.items()}
    check(counts["de"] != counts["en"], f"neither German nor English: {text!r}")
    return max(counts, key=counts.get)


# --------------------------------------------------------------------------- what an upstream refuses


def refuse(upstream, whom=b"@else.example", answer="550 5.1.1 no such user"):
    """Recipients with this in their address are refused from now on."""

    def rcpt(session, line):
        return answer if whom in line.lower().split(b">")[0] else session._usual("RCPT", line)

    def data(session, line):
        return session._usual("DATA", line) if session.recipients else "554 5.5.1 no valid recipients"

    upstream.on.update(RCPT=rcpt, DATA=data)


def in_state(rig, state, tenant="acme"):
    return [m for m in rig.queue() if (m["state"], m["tenant"]) == (state, tenant)]


def fail(site, count, name="acme", state="failed", limit=60, **envelope):
    """Hands in mail that ends so; gives [(id, token)]."""
    handed = site.known(site.hand_in(name, count, **envelope))
    ids = {identity for identity, _ in handed}
    wait_until(f"{count} of {name} {state}", lambda: ids <= {m["id"] for m in in_state(site.rig, state, name)}, limit)
    return handed


def flood(site, count, name="acme"):
    """The same from four clients at once, for many."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda _: site.hand_in(name, count // 4), range(4)))
    handed = site.known([each for part in parts for each in part])
    wait_until(f"{count} of {name} failed", lambda: len(in_state(site.rig, "failed", name)) >= count, 180)
    return handed


def retry_failed(site, handed, upstream):
    """By hand, after it is mended: all of these arrive, once."""
    for each in site.upstreams.values():
        each.on.clear()
    site.rig.run("queue", "retry", "--state", "failed")
    def counts():
        return collections.Counter(token for m in list(upstream.received) if not is_bounce(m) for token in set(TOKEN.findall(m.raw)))

    # What is said of them has their tokens as well.
    wait_until("all arrive", lambda: all(counts()[token] for _, token in handed))
    arrived = counts()
    check(all(arrived[token] == 1 for _, token in handed), f"V2: arrived {[arrived[token] for _, token in handed]} times")


# --------------------------------------------------------------------------- events


@case("S01", "a route fails and works again", start=False)
def _(rig):
    """The login of both tenants is refused; only acme may use the system relay."""
    keys = {"keys": login(WRONG)}
    site = Site(rig, more=allowed("acme"), acme=keys, beta=keys)
    for upstream in site.upstreams.values():
        upstream.login = "office", CANARY
    handed = {name: site.hand_in(name, 5) for name in site.upstreams}
    wait_until("a notice over the system relay", lambda: mails(site.relay), 20)
    # More mail and more probes are no news.
    for name, upstream in site.upstreams.items():
        handed[name] += site.hand_in(name, 5)
        probes = upstream.logins
        wait_until(f"five more probes of {name}", lambda: upstream.logins >= probes + 5)
    still("one notice over the system relay", lambda: len(mails(site.relay)))
    mail, = mails(site.relay)
    wait_until("the list says that it was told", lambda: noticed(rig, "route-failed")["told"], 10)
    first = noticed(rig, "route-failed")
    check(first["remedy"] and "535" in first["text"], f"{first}")
    proper(mail, "noreply@provider.example")
    says([mail], first)
    check(not mails(rig.upstream), "a notice over the route that fails")
    unheard = noticed(rig, "route-failed", "beta")
    check(not unheard["told"], f"told, but not over any route: {unheard}")
    check(not any(mails(each, "beta") for each in (*site.upstreams.values(), site.relay)), "beta may not use the system relay")
    check({(n["event"], n["tenant"]) for n in notices(rig)} == {("route-failed", "acme"), ("route-failed", "beta")}, f"{notices(rig)}")
    site.change(acme={"keys": login(CANARY)}, beta={"keys": login(CANARY)})
    for name, upstream in site.upstreams.items():
        site.arrive(handed[name], upstream)
    works = {name: noticed(rig, "route-works", name) for name in site.upstreams}
    # Now both can be told over their own routes: acme the good news, beta both.
    for name in site.upstreams:
        told(rig, site.hours, name)
    site.hours.pass_by(WINDOW)
    still("nothing more is told", lambda: [len(mails(u, n)) for n, u in site.upstreams.items()])
    check(len(mails(site.relay)) == 1 and len(mails(rig.upstream)) == 1, f"acme was told {len(mails(site.relay))} times over the relay and {len(mails(rig.upstream))} times over its route")
    says(mails(rig.upstream), works["acme"])
    check(1 <= len(mails(site.beta, "beta")) <= 2 and not mails(site.relay, "beta"), f"beta was told {len(mails(site.beta, 'beta'))} times")
    says(mails(site.beta, "beta"), unheard, works["beta"])
    for name, upstream in site.upstreams.items():
        for each in mails(upstream, name):
            proper(each, f"office@{name}.example")
        check(len(notices(rig, name)) == 2, f"{notices(rig, name)}")


@case("S02", "1 000 refused messages; refused notices", start=False)
def _(rig):
    """beta's upstream refuses everybody, the people to be told as well."""
    site = Site(rig)
    refuse(rig.upstream)
    refuse(site.beta, b"@")
    began = time.monotonic()
    flood(site, 1000)
    wait_until("a notice", lambda: mails(rig.upstream), 75)
    still("nothing more is told", lambda: len(mails(rig.upstream)))
    minutes = int(time.monotonic() - began) // 60 + 1
    check(len(bounces(rig.upstream)) <= 11 * minutes, f"{len(bounces(rig.upstream))} bounces within {minutes} min")
    reported = lambda: sum(bounce.raw.count(b"Final-Recipient:") for bounce in bounces(rig.upstream))
    for _ in range(3):
        before = reported()
        if before < 1000:
            site.hours.pass_by(61)
            wait_until("a digest of bounces", lambda: reported() > before, 20)
    check(reported() == 1000, f"{reported()} failures were bounced of 1000")
    check(len(bounces(rig.upstream)) <= 11 * (minutes + 3), f"{len(bounces(rig.upstream))} bounces")
    check(all(bounce.recipients == ["office@acme.example"] for bounce in bounces(rig.upstream)), "a bounce went elsewhere")
    for _ in range(2):
        site.hours.pass_by(WINDOW)
        still("nothing more is told", lambda: len(mails(rig.upstream)))
    check(len(mails(rig.upstream)) <= 2, f"{len(mails(rig.upstream))} notice mails for one flood")
    told(rig, site.hours)
    check(0 < len(listed(rig, "given-up")) == len(notices(rig, "acme")) <= 1000, f"{len(notices(rig, 'acme'))} notices")
    for mail in mails(rig.upstream):
        proper(mail, "office@acme.example")
        check(len(mail.raw) < 1 << 20, f"a digest of {len(mail.raw)} octets")
    # A notice that is refused itself makes neither a bounce nor a notice, and is not sent for ever.
    fail(site, 20, "beta")
    asked = lambda: sum(line.upper().startswith(b"RCPT TO:<EDV@BETA.EXAMPLE>") for line in list(site.beta.lines))
    wait_until("a notice is tried", asked, 75)
    for _ in range(3):
        still("nothing more is tried", asked)
        site.hours.pass_by(WINDOW)
    still("nothing more is tried", asked)
    check(asked() <= 2, f"a refused notice was tried {asked()} times")
    check({n["event"] for n in notices(rig, "beta")} == {"given-up"} and len(notices(rig, "beta")) <= 20, f"{notices(rig, 'beta')}")
    check("edv@" not in json.dumps(notices(rig, "beta")), "a notice about a notice")
    check(len([m for m in rig.queue() if m["tenant"] == "beta"]) <= 20 + 12 + 2, f"{[(m['state'], m['to']) for m in rig.queue() if m['tenant'] == 'beta'][-20:]}")
    check("edv@" not in "".join(line for line in rig.log.splitlines() if "event=bounce " in line), "a bounce of a notice")
    for upstream in site.upstreams.values():
        upstream.on.clear()


@case("S03", "given up after give_up_after", start=False)
def _(rig):
    site = Site(rig, retry='give_up_after = "3s"')
    refuse(rig.upstream, answer="451 4.2.0 later")
    handed = fail(site, 3)
    wait_until("a notice", lambda: mails(rig.upstream), 20)
    told(rig, site.hours)
    still("nothing more is told", lambda: len(mails(rig.upstream)))
    found = notices(rig)
    check({n["event"] for n in found} == {"given-up"} and 1 <= len(found) <= 3, f"{found}")
    check(len(mails(rig.upstream)) <= 2, f"{len(mails(rig.upstream))} notice mails")
    for mail in mails(rig.upstream):
        proper(mail, "office@acme.example")
    said = " ".join(map(words, mails(rig.upstream)))
    check("b@else.example" in said or all(identity in said for identity, _ in handed), f"neither recipient nor messages are named: {said}")
    check(sum(b.raw.count(b"Final-Recipient:") for b in bounces(rig.upstream)) == 3, f"{len(bounces(rig.upstream))} bounces")
    retry_failed(site, handed, rig.upstream)


SENDER = "550 5.7.60 SMTP; Client does not have permissions to send as this sender"


@case("S04", "a refused sender", start=False)
def _(rig):
    """beta's own address is refused as well: the notice too."""
    site = Site(rig)
    seen = []
    tried = seen.count

    def dot(session, content):
        seen.extend(session.recipients)
        own = all("else.example" not in address for address in session.recipients)
        return session.take(content) if own and session.upstream is rig.upstream else SENDER

    for upstream in site.upstreams.values():
        upstream.on["dot"] = dot
    handed = fail(site, 3)
    refused = wait_until("a notice", lambda: listed(rig, "refused-sender"))
    wait_until("it is told", lambda: mails(rig.upstream), 20)
    told(rig, site.hours)
    still("nothing is tried again", lambda: (len(mails(rig.upstream)), tried("b@else.example")))
    check(tried("b@else.example") == 3, f"3 messages were tried {tried('b@else.example')} times")
    check(len(mails(rig.upstream)) <= 2 and len(refused) <= 3, f"{len(mails(rig.upstream))} mails, {refused}")
    check(all(n["remedy"] and "5.7.60" in n["text"] + n["remedy"] for n in refused), f"{refused}")
    proper(mails(rig.upstream)[0], "office@acme.example")
    said = words(mails(rig.upstream)[0])
    check(one_line(refused[0]["remedy"]) in said, f"no remedy in {said}")
    check({n["event"] for n in notices(rig)} == {"refused-sender"}, f"{notices(rig)}")
    before = tried("b@else.example")
    fail(site, 3, "beta")
    check(tried("b@else.example") == before + 3, f"3 messages of beta were tried {tried('b@else.example') - before} times")
    wait_until("beta's notice", lambda: listed(rig, "refused-sender", "beta"))
    for _ in range(3):
        still("nothing is tried again", lambda: tried("edv@beta.example"))
        site.hours.pass_by(WINDOW)
    still("nothing is tried again", lambda: tried("edv@beta.example"))
    check(tried("edv@beta.example") <= 2, f"a refused notice was tried {tried('edv@beta.example')} times")
    check(len(listed(rig, "refused-sender", "beta")) == len(notices(rig, "beta")) <= 3, f"a notice about a notice: {notices(rig, 'beta')}")
    retry_failed(site, handed, rig.upstream)


@case("S05", "the fallback is in use", start=False)
def _(rig):
    site = Site(rig, more=allowed("acme", after="2s"))
    f.dead(rig)
    handed = site.hand_in(count=5)
    site.arrive(handed, site.relay)
    used = noticed(rig, "fallback")
    wait_until("a notice over the system relay", lambda: mails(site.relay), 20)
    told(rig, site.hours)
    # More of it is no news.
    site.arrive(site.hand_in(count=5), site.relay)
    still("nothing more is told", lambda: len(mails(site.relay)))
    check(noticed(rig, "fallback")["at"] == used["at"], f"{used} became {listed(rig, 'fallback')}")
    check(len(mails(site.relay)) <= 2, f"{len(mails(site.relay))} notices over the relay")
    says(mails(site.relay), used)
    for mail in mails(site.relay):
        proper(mail, "noreply@provider.example")
    check({n["event"] for n in notices(rig)} <= {"route-failed", "fallback"}, f"{notices(rig)}")
    site.upstreams["acme"] = upstream = f.alive(rig)

    def own_again():
        return site.arrive(site.hand_in(), site.relay, upstream) and upstream.received

    wait_until("its own server is used again", own_again)
    works = noticed(rig, "route-works")
    told(rig, site.hours)
    site.hours.pass_by(WINDOW)
    still("nothing more is told", lambda: len(mails(upstream)))
    check(len(mails(upstream)) == 1 and len(mails(site.relay)) <= 2, f"{len(mails(upstream))} and {len(mails(site.relay))} mails")
    proper(mails(upstream)[0], "office@acme.example")
    says(mails(upstream), works)
    check(len(listed(rig, "fallback")) == 1, f"{notices(rig)}")


# --------------------------------------------------------------------------- what is about to end

TO_EDV = '[notices]\nto = ["edv@acme.example"]\n'
DAY = 86400


def at_once(**parts):
    """Plays the parts of a case at the same time; says which broke."""
    broken = []
    with concurrent.futures.ThreadPoolExecutor(len(parts)) as pool:
        for name, part in [(name, pool.submit(part)) for name, part in parts.items()]:
            try:
                part.result()
            except Broken as reason:
                broken.append(f"{reason} ({name})")
    check(not broken, "\n".join(sorted(broken, key=lambda reason: not re.match(r"V\d", reason))))


def heard(place):
    return [m for m in list(place.provider.sent) if "edv@acme.example" in m.recipients]


def in_time(place, hours, event, count=1):
    """Waits for a notice that no mail brings up: now, or when an hour or so has passed; gives all of its kind."""
    for seconds in (0, 330, 3700, 0):
        hours.pass_by(seconds)
        try:
            return wait_until("", lambda: len(listed(place, event)) >= count and listed(place, event), 8)
        except Broken:
            pass
    raise Broken(f"no notice {event}, though hours have passed: {notices(place)}\n{place.log[-1500:]}")


def stays(place, hours, event, count, mailed, what):
    """Over hours, days and a restart no more is said than so much."""
    for again in range(2):
        for seconds in (330, 3700, WINDOW):
            hours.pass_by(seconds)
            still(what, lambda: len(listed(place, event)), 3)
        check(len(listed(place, event)) == count and len(heard(place)) == mailed, f"{what}: {len(heard(place))} mails, wanted {mailed}, and {notices(place)}")
        if not again:
            check(place.stop() == 0, "stopped with an error")
            place.start()
    check({n["event"] for n in notices(place)} <= {event}, f"{what}: {notices(place)}")


def provided(kind, **more):
    """An installation at a provider, with clocks, to be started. What is signed by the clock is not looked at."""
    place = Installation(kind, start=False, after=TO_EDV, **more)
    place.provider.expires_in = 40_000
    place.provider._assertion = lambda *_: None
    return place, Hours(place)


def certified(place, days):
    """The tenant shows itself by a certificate that ends in so many days."""
    certificate, key = place.directory / "graph.pem", place.directory / "graph.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(days), "-subj", "/CN=postbote", "-out", certificate, "-keyout", key], check=True, capture_output=True)
    oauth = place.provider.toml("client-credentials", mailbox=MAILBOX, client_secret=None, client_certificate=str(certificate), client_key=f'{{ file = "{key}" }}')
    text = (place.directory / "tenants/acme.toml").read_text()
    place.tenant("acme", text[: text.index("[upstream.oauth]")] + oauth + TO_EDV)
    place.canaries.append("".join(key.read_text().split("\n")[1:3]).encode())


def one_mail(place):
    client = place.client()
    sent = len(place.provider.sent)
    client.message()
    client.expect("QUIT", "221")
    place.sent(sent + 1)


def about_to_end(place, hours, event, further=0):
    """Told once; `further`: once more after so many days."""
    with place:
        place.start()
        one_mail(place)
        found = in_time(place, hours, event)
        check(len(found) == 1 and found[0]["remedy"], f"{found}")
        told(place, hours)
        mail, = heard(place)
        check(mail.recipients == ["edv@acme.example"] and b"auto-generated" in mail.raw, f"{mail.raw}")
        check(one_line(found[0]["text"]) in words(mail), f"{found[0]['text']!r} does not stand in {words(mail)}")
        stays(place, hours, event, 1, 1, "told once")
        if further:
            hours.pass_by(further * DAY)
            in_time(place, hours, event, 2)
            told(place, hours)
            stays(place, hours, event, 2, 2, "told twice")


@case("S06", "certificate, secret, authorisation about to end", start=False)
def _(rig):
    """Within 30 days once, within 7 days once. The secret's end is not known, only that none lives longer than two
    years from when it was set; Google says how long a refresh token lives."""
    f.library("_clock")  # made before the parts begin

    def week():
        place, hours = provided("graph")
        certified(place, 6)
        about_to_end(place, hours, "certificate-expiring")

    def month():
        place, hours = provided("graph")
        certified(place, 20)
        about_to_end(place, hours, "certificate-expiring", further=14)

    def later():
        place, hours = provided("graph")
        certified(place, 40)
        with place:
            place.start()
            one_mail(place)
            stays(place, hours, "certificate-expiring", 0, 0, "40 days are long")
            check(not notices(place), f"{notices(place)}")

    def secret():
        place, hours = provided("graph", oauth={"client_secret": '{ vault = "acme-graph" }'})
        hours.clock.move(wall=-724 * DAY)
        place.run("vault", "set", "acme-graph", input=place.provider.client_secret.encode())
        hours.clock.move()
        about_to_end(place, hours, "secret-expiring")

    def authorisation():
        place, hours = provided("gmail")
        place.provider.shape = lambda answer: {**answer, "refresh_token_expires_in": 5 * DAY - hours.ahead}
        about_to_end(place, hours, "authorisation-expiring")

    at_once(week=week, month=month, later=later, secret=secret, authorisation=authorisation)


# --------------------------------------------------------------------------- how they look, who gets them


def copies(name):
    return f'[copies]\nbcc = ["archiv@{name}.example"]\n'


def archived(upstream):
    return [m for m in list(upstream.received) if any(address.startswith("archiv@") for address in m.recipients)]


@case("S07", "language, header, sender, secrets, no copies", start=False)
def _(rig):
    """beta is German. The server repeats the whole login in its refusal."""
    keys = {name: {"keys": login(WRONG), "after": copies(name)} for name in ("acme", "beta")}
    keys["beta"]["top"] = 'language = "de"'
    site = Site(rig, more=allowed("acme", "beta"), **keys)
    tongues = {"acme": "en", "beta": "de"}

    def echo(session, line):
        given = base64.b64decode(line.split(b" ")[-1] + b"===").replace(b"\0", b" ").decode("utf-8", "replace")
        return f"535 5.7.8 {line.decode()}: {given}: wrong"

    def all_proper(server, name, sender, count):
        """So many mails of a tenant at a server, each as it must be; gives them."""
        found = wait_until(f"{count} notices of {name}", lambda: len(mails(server, name)) >= count and mails(server, name), 20)
        for mail in found:
            proper(mail, sender)
            check(mail.recipients == [f"edv@{name}.example"], f"a notice to {mail.recipients}")
            check(tongue(words(mail)) == tongues[name], f"{name} was told {words(mail)}")
        return found

    for upstream in site.upstreams.values():
        upstream.login, upstream.on["AUTH"] = ("office", CANARY), echo
    handed = {name: site.hand_in(name) for name in tongues}
    for name in tongues:
        all_proper(site.relay, name, "noreply@provider.example", 1)
    for name, upstream in site.upstreams.items():
        upstream.on.clear()
        site.settings[name]["keys"] = login(CANARY)
    site.change()
    for name, upstream in site.upstreams.items():
        site.arrive(handed[name], upstream)
        noticed(rig, "route-works", name)
    site.hours.pass_by(WINDOW)
    for name, upstream in site.upstreams.items():
        all_proper(upstream, name, f"office@{name}.example", 1)
        refuse(upstream)
        fail(site, 1, name)
        wait_until("the bounce", lambda: bounces(upstream))
    site.hours.pass_by(WINDOW)
    for name, upstream in site.upstreams.items():
        all_proper(upstream, name, f"office@{name}.example", 2)
        for notice in notices(rig, name):
            check(tongue(f"{notice['text']} {notice['remedy'] or ''}") == tongues[name], f"{notice}")
        printed = rig.run("notices").stdout + json.dumps(notices(rig)).encode()
        for canary in rig.canaries:
            check(canary not in printed, f"V3: {canary.decode()} is printed by notices")
        # Copies go on what applications hand in, and on nothing else.
        check(any(handed[name][0][1] in m.raw for m in archived(upstream)), f"no copy of an ordinary message of {name}")
        wrong = [m for m in archived(upstream) + archived(site.relay) if is_bounce(m) or m.fields("Auto-Submitted")]
        check(not wrong, f"copied: {[m.fields('Subject') for m in wrong]}")
        upstream.on.clear()


def key(notice):
    return notice["at"], notice["tenant"], notice["event"], notice["text"]


@case("S08", "postbote notices", start=False)
def _(rig):
    site = Site(rig)
    check(notices(rig) == [] == notices(rig, "acme"), f"{notices(rig)}")
    rig.run("notices")

    def unknown():
        for tenant in ("nobody", "acme.toml", "../acme", ""):
            code = rig.run("notices", tenant, "--json", code=None).returncode
            check(code in (64, 65, 78) if tenant != "nobody" else code in (65, 78), f"notices {tenant!r}: exit code {code}")

    unknown()
    for name, upstream in site.upstreams.items():
        refuse(upstream)
        fail(site, 1, name)
        noticed(rig, "given-up", name)
        told(rig, site.hours, name)
    found = sorted(map(key, notices(rig)))
    check(len(found) == 2, f"{found}")
    for name in site.upstreams:
        check(list(map(key, notices(rig, name))) == [each for each in found if each[1] == name], f"{notices(rig, name)}")
    plain = {name: rig.run("notices", *name).stdout.decode() for name in ((), ("acme",), ("beta",))}
    check("acme" in plain[()] and "beta" in plain[()], plain[()])
    check("beta" not in plain[("acme",)] and "acme" not in plain[("beta",)], f"{plain}")
    check(plain[("acme",)].strip() and "\x1b" not in plain[()], f"{plain}")
    check(rig.stop() == 0, "stopped with an error")
    check(sorted(map(key, notices(rig))) == found, f"of the stopped server: {notices(rig)}")
    check(list(map(key, notices(rig, "beta"))) == [each for each in found if each[1] == "beta"], f"{notices(rig, 'beta')}")
    check(all(n["told"] for n in notices(rig)), f"{notices(rig)}")
    unknown()
    rig.start()
    check(sorted(map(key, notices(rig))) == found, f"after a restart: {notices(rig)}")
    # Only the latest are kept.
    flood(site, 1060)
    still("nothing more is noticed", lambda: len(notices(rig)))
    check(len(notices(rig, "acme")) <= 1000 and len(notices(rig)) <= 1001, f"{len(notices(rig))} are kept")
    times = sorted(map(moment, notices(rig, "acme")))
    accepted = max(m["accepted"] for m in rig.queue() if m["tenant"] == "acme")
    check(times[-1] >= moment({"at": accepted}) - 5, f"the latest is not kept: {times[-1]}, mail was taken at {accepted}")
    rig.kill()
    rig.start()
    check(sorted(map(moment, notices(rig, "acme"))) == times, "not the same after kill -9")
    for upstream in site.upstreams.values():
        upstream.on.clear()


@case("S09", "who is told", start=False)
def _(rig):
    both = ["edv@beta.example", "chef@beta.example"]
    site = Site(rig, acme={"notices": ""}, beta={"notices": f"[notices]\nto = {json.dumps(both)}"})
    for name, upstream in site.upstreams.items():
        refuse(upstream)
        fail(site, 1, name)
    generated = lambda upstream: [m for m in list(upstream.received) if m.fields("Auto-Submitted") == ["auto-generated"]]
    for name, upstream in site.upstreams.items():
        wait_until(f"{name} is told", lambda: generated(upstream), 20)
    for name, wanted in {"acme": ["office@acme.example"], "beta": sorted(both)}.items():
        upstream = site.upstreams[name]
        still("nobody else is told", lambda: len(generated(upstream)))
        check(sorted(address for m in generated(upstream) for address in m.recipients) == wanted, f"told: {[m.recipients for m in generated(upstream)]}")
        check(not generated(site.relay), "the system relay was used")
        for mail in generated(upstream):
            proper(mail, f"office@{name}.example")
            check(any(address in mail.fields("To")[0] for address in mail.recipients), f"To: {mail.fields('To')}, recipients {mail.recipients}")
    # Another address is in force at once, also for what happened before it was told.
    site.change(acme={"notices": '[notices]\nto = ["edv@acme.example"]'})
    site.hours.pass_by(WINDOW)
    fail(site, 1)
    wait_until("the new address is told", lambda: mails(rig.upstream), 20)
    check(len(generated(rig.upstream)) == 2, f"{[m.recipients for m in generated(rig.upstream)]}")
    for upstream in site.upstreams.values():
        upstream.on.clear()


@case("S10", "a tenant hears nothing of another", start=False)
def _(rig):
    site = Site(rig, more=allowed("acme", "beta"))
    for name, upstream in site.upstreams.items():
        refuse(upstream, answer=f"550 5.1.1 marker-{name} no such user")
    for name in site.upstreams:
        fail(site, 2, name, sender=f"till-{name}@source.example", to=(f"customer-{name}@else.example",))
    for name, upstream in site.upstreams.items():
        wait_until(f"{name} is told", lambda: mails(upstream, name), 20)
        told(rig, site.hours, name)
    still("nobody else is told", lambda: sum(len(mails(u, n)) for u in (*site.upstreams.values(), site.relay) for n in site.upstreams))
    for name, other in (("acme", "beta"), ("beta", "acme")):
        foreign = [f"marker-{other}", f"{other}.example", f"customer-{other}", f"till-{other}", f"tenant={other}"]
        check(not mails(site.upstreams[other], name) and not mails(site.relay, name), f"{name} was told over another route")
        said = [words(mail) + mail.text for mail in mails(site.upstreams[name], name)]
        said += [json.dumps(notices(rig, name)), rig.run("notices", name).stdout.decode()]
        for text in said:
            found = [word for word in foreign if word in text]
            check(not found, f"V3: {name} reads {found} of {other}: {text}")
        check({n["tenant"] for n in notices(rig, name)} == {name}, f"{notices(rig, name)}")
    for upstream in site.upstreams.values():
        upstream.on.clear()


# --------------------------------------------------------------------------- support

ALIAS, OPERATORS, OWN = "support@postbote.local", "support@provider.example", "it@acme.example"


def support(tenant_address, information):
    return f'[support]\nalias = "{ALIAS}"\naddress = "{OPERATORS}"\ntenant_address = {str(tenant_address).lower()}\nattach_system_information = {str(information).lower()}\n'


def encoded(octets):
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")


def letter(rig, kind):
    """A letter to support, as on the wire without the final dot: (octets, those that a signature is over)."""
    head = f"From: app@source.example\r\nTo: {ALIAS}\r\nCc: b@else.example\r\nSubject: {rig.token()} {kind}\r\nMIME-Version: 1.0\r\n".encode()
    plain = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße,\r\n\r\nes druckt  nicht. \r\n".encode()
    html = "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<p>Grüße, <b>es druckt</b>\r\nnicht.</p>\r\n".encode()
    file = b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename*=utf-8''Rechnung%20M%C3%A4rz.pdf\r\n\r\n" + encoded(secrets.token_bytes(5000))
    log = b"Content-Type: text/plain; charset=us-ascii\r\nContent-Disposition: attachment; filename=log.txt\r\n\r\n-- \r\nline 1\r\n\tline 2\r\n"
    key = b"Content-Type: application/pkcs7-signature; name=smime.p7s\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=smime.p7s\r\n\r\n" + encoded(secrets.token_bytes(800))
    signed = b"Content-Type: text/plain; charset=us-ascii\r\n\r\nSigned words,  with odd spaces \r\n\tand a tab.\r\n"

    def many(type_, *parts):
        mark = b"mark" + secrets.token_hex(4).encode()
        return b"Content-Type: " + type_ + b'; boundary="' + mark + b'"\r\n\r\n' + b"".join(b"--" + mark + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + mark + b"--"

    bodies = {
        "plain": plain,
        "html": html,
        "nothing": b"\r\nNo MIME at all.",
        "alternative": many(b"multipart/alternative", plain, html),
        "mixed": many(b"multipart/mixed", plain, file, log),
        "nested": many(b"multipart/mixed", many(b"multipart/alternative", plain, html), file, b"Content-Type: message/rfc822\r\n\r\nFrom: x@y.example\r\nSubject: forwarded\r\n\r\nInner.\r\n"),
        "signed": many(b"multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256", signed, key),
    }
    return head + bodies[kind], signed if kind == "signed" else b""


LETTERS = ("plain", "html", "nothing", "alternative", "mixed", "nested", "signed")


def parsed_parts(raw):
    """The parts of a message that hold no others: [(type, file name, digest of the content)] and themselves."""
    parts = [part for part in email.message_from_bytes(raw, policy=email.policy.default).walk() if not part.is_multipart()]
    # Whether a line end belongs to the boundary or to the part is nobody's business.
    octets = [(part.get_payload(decode=True) or b"").rstrip(b"\r\n") for part in parts]
    return [(part.get_content_type(), part.get_filename(), hashlib.sha256(each).hexdigest()) for part, each in zip(parts, octets)], parts


def added(raw, original, what):
    """The parts of a message beyond those of the original, all of which must be there."""
    left = collections.Counter(parsed_parts(original)[0])
    more = []
    for known, part in zip(*parsed_parts(raw)):
        if left[known]:
            left[known] -= 1
        else:
            more.append(part)
    check(not +left, f"V2: {what}: {list(+left)} is lost or altered: {raw[-3000:]!r}")
    return more


def information(message, original, what, must=True):
    """The text of the attached system information; None if there is none and there need not be any."""
    more = added(message.raw, original, what)
    if not more and not must:
        return None
    check(len(more) == 1, f"{what}: {len(more)} parts were added: {[(p.get_content_type(), p.get_filename()) for p in more]}")
    part, = more
    check(part.get_content_type() == "text/plain" and part.get_content_disposition() == "attachment" and part.get_filename(), f"{what}: added {part.items()}")
    text = part.get_content()
    for secret in (CANARY, WRONG, base64.b64encode(CANARY.encode()).decode(), "pass-pos1", "argon2"):
        check(secret not in text, f"V3: {secret} stands in the system information: {text}")
    return text


def of(upstream, content):
    """What came of a letter: recipients and message, each."""
    token = TOKEN.search(content)[0]
    return [m for m in list(upstream.received) if token in m.raw and not is_bounce(m)]


@case("S11", "mail to support", start=False)
def _(rig):
    version = re.search(r"\d+\.\d+\.\d+\S*", rig.run("--version").stdout.decode())[0]
    user = '[[user]]\nlogin = "pos1"\npassword = "pass-pos1"\nsenders = ["*@source.example"]\n'
    site = Site(rig, more=support(True, True), acme={"top": f'support_address = "{OWN}"', "after": user})
    aliases = (ALIAS, ALIAS.upper(), "Support@PostBote.Local")

    def hand_in(name, kind, to, as_user=False):
        content, signed = letter(rig, kind)
        client = site.client(name)
        if as_user:
            client.login("pos1", "pass-pos1")
        client.message(content, to=to)
        client.expect("QUIT", "221")
        client.close()
        rig.clients.remove(client)
        rig.may_repeat.add(TOKEN.search(content)[0])
        return content, signed

    def arrives(name, content, *wanted):
        """Waits until exactly these have it, each once; gives the messages by recipients."""
        found = lambda: sorted(address.lower() for m in of(site.upstreams[name], content) for address in m.recipients)
        wait_until(f"it goes to {wanted}", lambda: len(found()) >= len(wanted))
        check(found() == sorted(wanted), f"{name}: went to {found()}, wanted {sorted(wanted)}")
        return {tuple(sorted(map(str.lower, m.recipients))): m for m in of(site.upstreams[name], content)}

    def untouched(message, content, what):
        check(message.body == content.split(b"\r\n\r\n", 1)[1] + b"\r\n", f"V2: {what}: altered: {message.raw[-2000:]!r}")
        check(not added(message.raw, content, what), f"{what}: something was added: {message.raw[-2000:]!r}")

    for name, address in {"acme": OWN, "beta": OPERATORS}.items():
        for number, kind in enumerate(LETTERS):
            what = f"{kind} of {name}"
            content, signed = hand_in(name, kind, (aliases[number % 3], "b@else.example"), as_user=name == "acme" and number % 2)
            found = arrives(name, content, address, "b@else.example")
            check(len(found) == 2, f"{what}: support and others got one message: {list(found)}")
            untouched(found["b@else.example",], content, f"{what} to others")
            copy = found[address,]
            check(signed in copy.raw, f"V2: {what}: what was signed is altered: {copy.raw[-3000:]!r}")
            check(len(copy.fields("Subject")) == 1 and kind in copy.fields("Subject")[0], f"{what}: Subject: {copy.fields('Subject')}")
            text = information(copy, content, what, must=kind != "signed")
            if text is not None:
                check(version in text and name in text.lower() and re.search(r"127\.0\.0\.1|\bown\b", text), f"{what}: the system information is {text}")
                check(("beta" if name == "acme" else "acme") not in text.lower(), f"{what}: V3: it tells of the other tenant: {text}")
    # Support alone; two others and support.
    content, _ = hand_in("acme", "plain", (ALIAS,))
    information(arrives("acme", content, OWN)[OWN,], content, "support alone")
    content, _ = hand_in("acme", "mixed", ("c@else.example", ALIAS, "b@else.example"))
    found = arrives("acme", content, OWN, "b@else.example", "c@else.example")
    information(found[OWN,], content, "support between others")
    [untouched(m, content, "support between others") for to, m in found.items() if to != (OWN,)]
    # Handed in again for want of an answer: support gets as many as the others, whichever of the
    # repeats were known as such.
    for number in range(5):
        content, _ = letter(rig, "plain")
        rig.may_repeat.add(TOKEN.search(content)[0])
        client = site.client("acme")
        client.envelope(to=(ALIAS, "b@else.example"))
        client.raw(content + b"\r\n.\r\n")
        check(client.socket.recv(64, socket.MSG_PEEK).startswith(b"250 2.0.0"), "refused")
        client.reset()
        rig.clients.remove(client)
        client = site.client("acme")
        client.message(content, to=(ALIAS, "b@else.example"))
        client.expect("QUIT", "221")
        client.close()
        rig.clients.remove(client)
        wait_until("both are settled", lambda: not rig.queue())
        got = collections.Counter(m.recipients[0] for m in of(site.upstreams["acme"], content))
        check(got[OWN] == got["b@else.example"] and sum(got.values()) in (2, 4), f"handed in twice: {got}")
    # The operator alone, and nothing attached.
    site.change(operator={"more": support(False, False)})
    for kind in ("html", "mixed", "signed"):
        content, _ = hand_in("acme", kind, (ALIAS, "b@else.example"))
        for message in arrives("acme", content, OPERATORS, "b@else.example").values():
            untouched(message, content, f"{kind} without system information")
    # Without [support] the alias is nobody's in particular.
    site.change(operator={"more": ""})
    content, _ = hand_in("acme", "plain", (ALIAS.upper(), "b@else.example"))
    found = arrives("acme", content, ALIAS, "b@else.example")
    [untouched(m, content, "without [support]") for m in found.values()]
    check(not site.relay.received and not notices(rig), f"{notices(rig)}")


@case("S12", "mail to support while the route is suspended", start=False)
def _(rig):
    keys = {"keys": login(WRONG)}
    site = Site(rig, more=support(True, True) + allowed("acme"), acme=keys, beta=keys)
    for upstream in site.upstreams.values():
        upstream.login = "office", CANARY
    ordinary = {name: site.hand_in(name) for name in site.upstreams}
    for name in site.upstreams:
        wait_until(f"{name} is suspended", lambda: in_state(rig, "suspended", name))
    letters = {name: letter(rig, "mixed")[0] for name in site.upstreams}
    for name, content in letters.items():
        site.hand_in(name, content=content, to=(ALIAS,))
    copy = wait_until("it goes over the system relay", lambda: of(site.relay, letters["acme"]))[0]
    check(copy.recipients == [OPERATORS], f"it went to {copy.recipients}")
    check("noreply@provider.example" in copy.fields("From")[0] and "acme.example" in "".join(copy.fields("Reply-To")), f"From: {copy.fields('From')}, Reply-To: {copy.fields('Reply-To')}")
    text = information(copy, letters["acme"], "over the system relay")
    check("535" in text and "acme" in text.lower(), f"the last error is missing: {text}")
    probes = site.beta.logins
    wait_until("three more probes", lambda: site.beta.logins >= probes + 3)
    wait_until("beta's letter waits, and the ordinary mail of both", lambda: [len(in_state(rig, "suspended", name)) for name in ("acme", "beta")] == [1, 2], 5)
    check(not of(site.relay, letters["beta"]) and not any(token in site.relay.tokens() for each in ordinary.values() for _, token in each), "V2: over the system relay")
    site.change(acme={"keys": login(CANARY)}, beta={"keys": login(CANARY)})
    for name, upstream in site.upstreams.items():
        site.arrive(ordinary[name], upstream)
    late = wait_until("beta's letter arrives", lambda: of(site.beta, letters["beta"]))[0]
    check(late.recipients == [OPERATORS], f"it went to {late.recipients}")
    information(late, letters["beta"], "when the route works")
    check(not of(rig.upstream, letters["acme"]) and len(of(site.relay, letters["acme"])) == 1, "V2: twice")


# --------------------------------------------------------------------------- copies, keys


@case("S13", "a copy that fails", start=False)
def _(rig):
    """Of acme's for ever, of beta's until it is given up. Then the other way: the message fails, its copy arrives."""
    site = Site(rig, retry='give_up_after = "4s"\nwarn_after = "1s"', acme={"after": copies("acme")}, beta={"after": copies("beta")})
    refuse(rig.upstream, b"archiv@", "550 5.1.1 no such archive")
    refuse(site.beta, b"archiv@", "451 4.2.0 archive busy")
    handed = {name: site.hand_in(name, 3) for name in site.upstreams}
    for name, upstream in site.upstreams.items():
        site.arrive(handed[name], upstream)
    wait_until("nothing is tried any more", lambda: all(m["state"] == "failed" for m in rig.queue()))
    told_of = lambda: re.findall(r"event=(?:bounce|delay-notice|relay-notice) ", rig.log)
    still("nobody is told", lambda: (len(told_of()), [len(u.received) for u in site.upstreams.values()]))
    check(not told_of() and not any(bounces(u) or mails(u, n) for n, u in site.upstreams.items()), f"{told_of()}")
    check(not notices(rig), f"{notices(rig)}")
    for name, upstream in site.upstreams.items():
        arrived = [(token, m.recipients) for m in list(upstream.received) for token in TOKEN.findall(m.raw)]
        check(sorted(arrived) == sorted((token, ["b@else.example"]) for _, token in handed[name]), f"V2: {arrived}")
    refuse(rig.upstream, b"b@else.example")
    failed = site.known(site.hand_in())
    wait_until("the copy and the bounce", lambda: archived(rig.upstream) and bounces(rig.upstream))
    still("one of each", lambda: len(rig.upstream.received))
    bounce, = bounces(rig.upstream)
    copy, = archived(rig.upstream)
    check(bounce.recipients == ["office@acme.example"] and "archiv" not in bounce.text, f"{bounce.recipients}: {bounce.text}")
    check(failed[0][1] in copy.raw and not is_bounce(copy) and copy.recipients == ["archiv@acme.example"], f"{copy.recipients}: {copy.text}")
    check("archiv" not in copy.text, f"the copy shows itself: {copy.text}")
    for upstream in site.upstreams.values():
        upstream.on.clear()


COPIES = '[copies]\nbcc = ["archiv@acme.example", "chef@acme.example"]\ncase_worker_header = "X-Case-Worker"\n'

WORKERS = {
    # what: (the header field, who is added as Cc, what else the header has)
    "one": (b"X-Case-Worker: eva@acme.example\r\n", "eva@acme.example", b"To: b@else.example\r\n"),
    "a name": (b'x-case-worker: "Meier, Eva" <eva@acme.example>\r\n', "eva@acme.example", b"To: b@else.example\r\n"),
    "the sender": (f"X-Case-Worker: {MAILBOX}\r\n".encode(), None, b"To: b@else.example\r\n"),
    "the sender in capitals": (f"X-Case-Worker: {MAILBOX.upper()}\r\n".encode(), None, b"To: b@else.example\r\n"),
    "none": (b"", None, b"To: b@else.example\r\n"),
    "beside a Cc that is not meant": (b"X-Case-Worker: eva@acme.example\r\n", "eva@acme.example", b"To: b@else.example\r\nCc: x@else.example\r\n"),
    "with a Bcc field": (b"X-Case-Worker: eva@acme.example\r\n", "eva@acme.example", b"To: b@else.example\r\nBcc: archiv@acme.example\r\n"),
    "nobody to be seen": (b"X-Case-Worker: eva@acme.example\r\n", "eva@acme.example", b""),
}


@case("S14", "copies and the case worker over Graph and Gmail", start=False)
def _(rig):
    wrong = []
    for kind in ("graph", "gmail"):
        with Installation(kind, after=COPIES) as place:
            client, handed = place.client(), {}
            for what, (header, _, others) in WORKERS.items():
                token = place.token().encode()
                client.message(b"From: app@source.example\r\nSubject: " + token + b"\r\n" + others + header + b"\r\nHello.", to=("b@else.example",))
                handed[what] = token
                place.may_repeat.add(token)
            place.sent(len(WORKERS))
            wait_until("nothing waits any more", lambda: not place.queue())
            for what, (_, worker, _) in WORKERS.items():
                found = [m for m in list(place.provider.sent) if handed[what] in m.raw]
                recipients = sorted(address.lower() for m in found for address in m.recipients)
                wanted = sorted(["archiv@acme.example", "b@else.example", "chef@acme.example"] + ([worker] if worker else []))
                if recipients != wanted:
                    wrong.append(f"{kind}, {what}: went to {recipients}, wanted {wanted}")
                for message in found:
                    head = b"".join(provider.fields(message.visible)[0]).lower()
                    # The one recipient of a message of its own may read its address in Received.
                    shown = b"".join(provider.fields(provider.without(message.visible, "received"))[0]).lower() if len(message.recipients) == 1 else head
                    if re.search(rb"archiv@|chef@|\nbcc:|^bcc:|x-original-bcc", shown):
                        wrong.append(f"{kind}, {what}: the copy can be seen: {shown}")
                    if b"x-case-worker" in head:
                        wrong.append(f"{kind}, {what}: X-Case-Worker is left: {head}")
                    seen = [address.lower() for address in provider.addresses(message.visible, "Cc")]
                    if "b@else.example" in message.recipients and seen != ([worker] if worker else []):
                        wrong.append(f"{kind}, {what}: Cc is {seen}")
            check(not place.log.count("event=bounced"), f"{place.log[-1500:]}")
    check(not wrong, "\n".join(wrong))


@case("S15", "another key at a server that is always trusted", start=False)
def _(rig):
    authority = Authority(rig.directory / "pki", "ca")
    next_year = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 365 * DAY))
    keys = [server(authority.issue(end=next_year)) for _ in range(2)]
    site = Site(rig, upstream=Upstream(tls=keys[0], login=("office", CANARY)), beta={"encryption": "starttls", "keys": login(CANARY) + '\ncertificate = "trust-always"\nmessages_per_connection = 1'})
    site.arrive(site.hand_in("beta", 2), site.beta)
    check(not notices(rig), f"{notices(rig)}")
    site.beta.tls = keys[1]
    site.arrive(site.hand_in("beta", 3), site.beta)
    changed = noticed(rig, "server-key-changed", "beta")
    wait_until("it is told", lambda: mails(site.beta, "beta"), 20)
    site.arrive(site.hand_in("beta", 3), site.beta)
    still("nothing more is told", lambda: len(mails(site.beta, "beta")))
    mail, = mails(site.beta, "beta")
    proper(mail, "office@beta.example")
    says([mail], changed)
    check(changed["remedy"] and noticed(rig, "server-key-changed", "beta")["at"] == changed["at"], f"{notices(rig)}")
    check(len(notices(rig)) == 1, f"{notices(rig)}")
    # It is remembered over a restart, and the first one again is a change as well.
    check(rig.stop() == 0, "stopped with an error")
    rig.start()
    site.arrive(site.hand_in("beta"), site.beta)
    still("the same key is no news", lambda: len(notices(rig)), 3)
    check(len(notices(rig)) == 1, f"{notices(rig)}")
    site.beta.tls = keys[0]
    site.arrive(site.hand_in("beta"), site.beta)
    wait_until("the change back is noticed", lambda: len(listed(rig, "server-key-changed", "beta")) == 2)
