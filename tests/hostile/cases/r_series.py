"""R: serial mail: so many messages, then a pause; single mail need not wait for it."""

# R01 300 messages as fast as they come: series of exactly 50, pauses of 1.5 s, all once and in order
# R02 single mail in a pause: at the upstream in under a second, a tenth of a series at most, counted in the series
# R03 another tenant, at its own upstream or at the same server, is not slowed
# R04 four connections: never more than a series in flight and done between pauses
# R05 the connection ends in the middle of a series (QUIT, RST, 421): the count goes on
# R06 deferred recipients: every attempt counts, nothing is lost
# R07 a restart in the middle of a pause: at most one series more than allowed
# R08 30 recipients count once at an ordinary server, each for itself at Graph, Gmail, Microsoft and Google
# R09 Precedence: bulk, List-Id, List-Unsubscribe: always bulk, never overtakes
# R10 messages and pause_ms are changed, set to 0, taken away: waiting mail goes by the new ones

import collections, signal, threading, time

import rig as base
from oauth_rig import Installation
from rig import TOKEN, Upstream, case, check, wait_until

ONE = "connections = 1"
BULK = b"Precedence: bulk\r\n"
"""A header that makes the first messages of a run bulk as well, where a case counts everything."""
USER = '[[user]]\nlogin = "{0}"\npassword = "pass-{0}"\nsenders = ["*@source.example"]\n'


def series(messages, pause):
    """The section of a tenant's file."""
    return f"[series]\nmessages = {messages}\npause_ms = {pause}\n"


# --------------------------------------------------------------------------- what an upstream sees


class Attempt:
    """A transaction at an upstream: when its MAIL came, when it was last answered (just before the answer
    was sent, so that a pause is measured no shorter than it was), who was asked for and who was taken."""

    def __init__(self, began=None, token=None, taken=()):
        self.began = self.ended = time.monotonic() if began is None else began
        self.token, self.asked, self.taken, self.done = token, [], list(taken), bool(taken)


class Watch:
    """Notes every transaction of an upstream. What may be changed: `slow(number)` gives the seconds until
    the final dot of a message is answered; `mail(session, number)` and `rcpt(address)` may give another
    answer than the usual one; `after(session, number, answer)` may answer the final dot itself."""

    def __init__(self, upstream, slow=None, mail=None, rcpt=None, after=None):
        self.attempts, self.lock = [], threading.Lock()
        self.slow, self.refuse_mail, self.refuse_rcpt, self.after = slow, mail, rcpt, after
        upstream.on.update(MAIL=self.mail, RCPT=self.rcpt, DATA=self.data, dot=self.dot)

    def mail(self, session, line):
        session.attempt = Attempt()
        with self.lock:
            self.attempts.append(session.attempt)
            number = len(self.attempts)
        answer = self.refuse_mail(session, number) if self.refuse_mail else None
        return session._usual("MAIL", line) if answer is None else answer

    def rcpt(self, session, line):
        address = line.split(b"<", 1)[1].split(b">", 1)[0].decode()
        session.attempt.asked.append(address)
        answer = self.refuse_rcpt(address) if self.refuse_rcpt else None
        session.attempt.ended = time.monotonic()
        return session._usual("RCPT", line) if answer is None else answer

    def data(self, session, line):
        return session._usual("DATA", line) if session.recipients else "554 5.5.1 no valid recipients"

    def dot(self, session, content):
        attempt, recipients, found = session.attempt, list(session.recipients), TOKEN.search(content)
        number = len(self.taken()) + 1
        seconds = self.slow(number) if self.slow else 0
        if seconds:
            threading.Event().wait(seconds)
        answer = getattr(session, "_stored", session.take)(content)
        attempt.token, attempt.taken, attempt.ended = found and found[0], recipients, time.monotonic()
        attempt.done = True
        return self.after(session, number, answer) if self.after else answer

    def taken(self, tokens=None):
        """What was taken (of these tokens), in the order in which it began."""
        found = [a for a in list(self.attempts) if a.done and (tokens is None or a.token in tokens)]
        return sorted(found, key=lambda attempt: attempt.began)

    def wait(self, count, limit=60, tokens=None):
        """Waits for so many messages; gives them."""
        return wait_until(f"{count} messages at the upstream", lambda: len(self.taken(tokens)) >= count and self.taken(tokens), limit)


def split(attempts, pause, aside=()):
    """The attempts by series: between two series nothing was under way for so many seconds. What has a
    token of `aside` may go in a pause; it then counts in the series that follows."""
    found, last, between = [], None, []
    for attempt in sorted(attempts, key=lambda each: each.began):
        if attempt.token in aside:
            between.append(attempt)
            continue
        if last is None or attempt.began - last >= pause:
            found.append([])
        found[-1] += between + [attempt]
        between = []
        last = attempt.ended if last is None else max(last, attempt.ended)
    return found + [between] if between else found


def sizes(attempts, pause, aside=()):
    return [len(each) for each in split(attempts, pause, aside)]


def exact(watch, tokens, messages, pause):
    """These came once each, in series of exactly so many."""
    found = watch.taken(tokens)
    check(len(found) == len(tokens) == len({a.token for a in found}), f"V2: {len(found)} arrived of {len(tokens)}")
    wanted = [messages] * (len(tokens) // messages) + [len(tokens) % messages] * bool(len(tokens) % messages)
    check(sizes(found, pause) == wanted, f"series of {sizes(found, pause)}, wanted {wanted}; pauses of {pauses(found, pause)}")


def pauses(attempts, pause):
    """The pauses between the series, and whatever else was longer than half of one, in seconds."""
    found = split(attempts, pause / 2)
    return [round(after[0].began - max(a.ended for a in before), 3) for before, after in zip(found, found[1:])]


def in_order(watch, tokens):
    order = [a.token for a in watch.taken(set(tokens))]
    wrong = next((n for n, (got, wanted) in enumerate(zip(order, tokens)) if got != wanted), None)
    check(order == list(tokens), f"not in the order of acceptance, from number {wrong} on")


# --------------------------------------------------------------------------- what a client hands in


def run(rig, count, client=None, header=b"", **envelope):
    """So many messages on one connection, as fast as they are taken; gives their tokens. It is one run: less
    than a second lies between any two."""
    own, tokens, last = client or rig.client(), [], None
    for _ in range(count):
        content = rig.message(header=header)
        own.message(content, **envelope)
        now = time.monotonic()
        check(last is None or now - last < 0.9, f"{now - last if last else 0:.1f} s between two messages: this machine is too slow for the case")
        tokens.append(TOKEN.search(content)[0])
        last = now
    if client is None:
        own.expect("QUIT", "221")
        own.close()
        rig.clients.remove(own)
    return tokens


def hand_in(rig, login=None, header=b"", **envelope):
    """One message on a connection of its own; gives (token, when it began)."""
    client = rig.client()
    if login:
        client.login(login, f"pass-{login}")
    content = rig.message(header=header)
    began = time.monotonic()
    client.message(content, **envelope)
    client.expect("QUIT", "221")
    client.close()
    rig.clients.remove(client)
    return TOKEN.search(content)[0], began


def single(rig, watch, **how):
    """Such a message and its way to the upstream: (attempt, seconds)."""
    token, began = hand_in(rig, **how)
    attempt = wait_until(f"a single message arrives ({how})", lambda: watch.taken({token}))[0]
    return attempt, attempt.ended - began


def reload(rig, text, tenant="acme"):
    """Another file of a tenant, in force."""
    since = len(rig.log)
    rig.tenant(tenant, text)
    rig.signal(signal.SIGHUP)
    wait_until("the reload", lambda: "event=reload" in rig.log[since:])
    check("event=reload-refused" not in rig.log[since:], rig.log[since:])


def empty(rig, limit=30):
    wait_until("nothing waits any more", lambda: not rig.queue(), limit)


# --------------------------------------------------------------------------- series and pauses


@case("R01", "300 messages: series of 50, pauses, order", upstream_keys=ONE, after=series(50, 1500))
def _(rig):
    """Every 50th is answered late: a pause begins with the answer to the last of a series."""
    watch = Watch(rig.upstream, slow=lambda number: 0.5 if number % 50 == 0 else 0)
    tokens = run(rig, 300)
    watch.wait(300)
    empty(rig)
    exact(watch, tokens, 50, 1.5)
    in_order(watch, tokens)
    check("event=deferred" not in rig.log, f"a pause is no deferral: {rig.log[-1500:]}")


@case("R02", "single mail in a pause", upstream_keys=ONE, after=series(20, 4000) + USER.format("pos1"))
def _(rig):
    """The first two of them are a tenth of a series; the third waits for the end of the pause, and goes first then."""
    watch = Watch(rig.upstream)
    tokens = run(rig, 70)
    quiet = time.monotonic() + 1.1
    end = watch.wait(20)[19].ended + 4
    wait_until("that client has been quiet for a second", lambda: time.monotonic() > quiet)
    check(time.monotonic() < end - 1.5, "this machine is too slow for the case")
    whose = {"the same client": {}, "another login": {"login": "pos1"}}
    aside = set()
    for who, how in whose.items():
        attempt, seconds = single(rig, watch, **how)
        aside.add(attempt.token)
        check(seconds < 1, f"single mail of {who} took {seconds:.2f} s")
        check(attempt.began < end, f"single mail of {who} went after the pause")
    third, _ = hand_in(rig, sender="third@source.example")
    check(time.monotonic() < end, "this machine is too slow for the case")
    watch.wait(73)
    empty(rig)
    waited, = watch.taken({third})
    check(waited.began >= end, f"a third single message went {end - waited.began:.2f} s before the end of the pause")
    check(waited.began < watch.taken(set(tokens))[20].began, "bulk mail went before single mail")
    found = sizes(watch.taken(), 4, aside | {third})
    check(max(found) <= 20 and len(found) == 4, f"series of {found} (with single mail in the pause before), wanted 20, 20, 20, 13")
    bulk = split(watch.taken(set(tokens)), 4)
    check(len(bulk) == 4, f"pauses of {pauses(watch.taken(set(tokens)), 4)}")
    in_order(watch, tokens)


def tenant(rig, name, port, after=""):
    """Another tenant's file; its login is its name."""
    text = base.TENANT.format(tenant="", port=port, upstream="", after=USER.format(name) + after)
    rig.tenant(name, text.replace("acme.example", f"{name}.example").replace('"ACME"', f'"{name}"'))


@case("R03", "other tenants meanwhile", start=False, upstream_keys=ONE, after=series(10, 3000))
def _(rig):
    upstreams = {"beta": Upstream(), "gamma": rig.upstream}
    rig.upstreams.append(upstreams["beta"])
    for name, upstream in upstreams.items():
        tenant(rig, name, upstream.port)
    rig.start()
    rig.descriptors += 4
    watches = {"gamma": Watch(rig.upstream), "beta": Watch(upstreams["beta"])}
    watch, tokens = watches["gamma"], run(rig, 80)
    mine = set(tokens)
    watch.wait(10, tokens=mine)
    slowest = dict.fromkeys(watches, 0.0)
    # Over three series and the pauses between them.
    while len(watch.taken(mine)) < 40:
        for name in watches:
            slowest[name] = max(slowest[name], single(rig, watches[name], login=name)[1])
    check(max(slowest.values()) < 1, f"during pauses of acme one message took {slowest} s")
    for name in watches:
        client = rig.client()
        client.login(name, f"pass-{name}")
        before = time.monotonic()
        many = run(rig, 60, client)
        watches[name].wait(60, tokens=set(many))
        check(time.monotonic() - before < 5, f"60 messages of {name} took {time.monotonic() - before:.1f} s")
    check(len(watch.taken(mine)) < 80, "acme's pauses were over before the others were done")
    watch.wait(80, tokens=mine)
    exact(watch, mine, 10, 3)


@case("R04", "four connections", upstream_keys="connections = 4", after=series(25, 1500))
def _(rig):
    watch = Watch(rig.upstream, slow=lambda number: 0.05)
    tokens = run(rig, 120)
    watch.wait(120)
    empty(rig)
    exact(watch, tokens, 25, 1.5)
    ends = sorted([(a.began, 1) for a in watch.taken()] + [(a.ended, -1) for a in watch.taken()])
    most = now = 0
    for _, change in ends:
        now += change
        most = max(most, now)
    check(1 < most <= 4, f"{most} in flight at once")


@case("R05", "the connection ends in a series", upstream_keys=ONE + "\nmessages_per_connection = 7", after=series(20, 1500))
def _(rig):
    """We leave after seven; the upstream resets once, closes once after an answer, says 421 once. Such an attempt
    may count (a series is then one shorter), it must not begin a new one."""

    def mail(session, number):
        if number == 27:
            session.close(reset=True)
            return ""
        if number == 45:
            session.say("421 4.3.2 closing")
            session.close()
            return ""
        return None

    def after(session, number, answer):
        if number != 33:
            return answer
        session.say(answer)
        session.close()
        return ""

    watch = Watch(rig.upstream, mail=mail, after=after)
    tokens = run(rig, 70, header=BULK)
    watch.wait(70)
    empty(rig)
    found = watch.taken(set(tokens))
    check(len(found) == 70 == len({a.token for a in found}), f"V2: {len(found)} arrived of 70")
    check(max(sizes(found, 1.5)) <= 20, f"series of {sizes(found, 1.5)}, wanted at most 20")
    check(sizes(found, 1.5)[0] == 20 and min(sizes(found, 1.5)[:-1]) >= 17, f"series of {sizes(found, 1.5)}: cut short by an end of the connection")
    check(rig.upstream.connections > 10, f"only {rig.upstream.connections} connections")


@case("R06", "deferred recipients", upstream_keys=ONE, after=series(10, 1500))
def _(rig):
    """A third of the messages is deferred for one of two recipients, a fifth as a whole; each attempt counts."""
    once, counts = set(), collections.Counter()

    def rcpt(address):
        if address.startswith("later") and address not in once:
            once.add(address)
            return "451 4.2.0 later"
        return None

    watch, client, wanted = Watch(rig.upstream, rcpt=rcpt), rig.client(), {}
    for number in range(30):
        to = [f"now{number}@else.example"] if number % 5 != 1 else [f"later{number}@else.example"]
        to += [f"later{number}b@else.example"] if number % 3 == 0 else []
        content = rig.message(header=BULK)
        client.message(content, to=to)
        wanted |= {(TOKEN.search(content)[0], address): 1 for address in to}
    rig.may_repeat |= {token for token, _ in wanted}
    empty(rig, 60)
    for attempt in watch.taken():
        counts.update((attempt.token, address) for address in attempt.taken)
    check(dict(counts) == wanted, f"V2: not once each: {[(k, counts[k]) for k in wanted.keys() | counts.keys() if counts[k] != 1]}")
    check(len(once) >= 14 and len(watch.attempts) > 40, f"{len(watch.attempts)} attempts: nothing was deferred")
    check(max(sizes(watch.attempts, 1.5)) <= 10, f"series of {sizes(watch.attempts, 1.5)} attempts, wanted at most 10")
    check(sizes(watch.attempts, 1.5)[0] == 10, f"the first series was {sizes(watch.attempts, 1.5)[0]}")


@case("R07", "a restart in the middle of a pause", upstream_keys=ONE, after=series(20, 3000))
def _(rig):
    """In order once, killed once. Where a series was interrupted, as many may go again; no more than that, and never
    later."""
    watch, restarts = Watch(rig.upstream), []
    tokens = run(rig, 120)
    for count, how in ((20, "stop"), (60, "kill")):
        watch.wait(count)
        wait_until("the middle of a pause", lambda: time.monotonic() > watch.taken()[-1].ended + 0.8)
        if how == "stop":
            check(rig.stop() == 0, "stopped with an error")
        else:
            rig.kill()
        restarts.append(time.monotonic())
        rig.start()
    watch.wait(120)
    empty(rig)
    found = split(watch.taken(set(tokens)), 3)
    for each in found:
        # Whatever began before the restart and went on after it is the one series more.
        more = sum(each[0].began < restart <= each[-1].began for restart in restarts)
        check(len(each) <= 20 * (1 + more), f"series of {sizes(watch.taken(), 3)}, restarts in {more} of this one")
    check(len(found) >= 4, f"series of {sizes(watch.taken(), 3)}")
    check(len(watch.taken()) == 120 == len({a.token for a in watch.taken()}), f"V2: {len(watch.taken())} arrived of 120")
    in_order(watch, tokens)


# --------------------------------------------------------------------------- what counts, and how much


def weighed(place, watch):
    """What a provider has taken, as attempts with their recipients."""
    if watch:
        return watch.taken()
    return [Attempt(sent.time, taken=sent.recipients) for sent in list(place.provider.sent)]


@case("R08", "many recipients", upstream_keys=ONE, after=series(10, 1500))
def _(rig):
    """A provider counts recipients. What has more than a series alone goes alone."""
    watch = Watch(rig.upstream)
    tokens = run(rig, 20, header=BULK, to=[f"r{number}@else.example" for number in range(30)])
    watch.wait(20)
    exact(watch, tokens, 10, 1.5)
    wrong = []
    for kind in ("graph", "gmail", "microsoft-smtp", "google-smtp"):
        with Installation(kind, after=series(10, 1500)) as place:
            watch, client = Watch(place.smtp) if place.smtp else None, place.client()
            for count in (5, 5, 12, 5, 4, 2):
                client.message(place.message(header=BULK), to=[f"r{number}@else.example" for number in range(count)])
            place.sent(6)
            found = [[len(a.taken) for a in each] for each in split(weighed(place, watch), 1.5)]
            if [sorted(each) for each in found] != [[5, 5], [12], [4, 5], [2]]:
                wrong.append(f"{kind}: recipients by series {found}, wanted 5 and 5, 12, 5 and 4, 2")
    check(not wrong, "; ".join(wrong))


LISTS = {
    "precedence": b"Precedence: bulk\r\n",
    "capitals": b"PRECEDENCE:  Bulk \r\n",
    "list": b"List-Id: Customers <customers.acme.example>\r\n",
    "unsubscribe": b"List-Unsubscribe:\r\n <mailto:off@acme.example>,\r\n <https://acme.example/off>\r\n",
}
"""Headers of what is serial mail whoever hands it in, and however rarely."""


@case("R09", "Precedence, List-Id, List-Unsubscribe", upstream_keys=ONE, after=series(20, 4000))
def _(rig):
    """Each comes from a client of its own (by MAIL FROM); beside them single mail may go in the same pause."""
    watch = Watch(rig.upstream)
    tokens = run(rig, 50)
    end = watch.wait(20)[19].ended + 4
    lists = [hand_in(rig, sender=f"{name}@source.example", header=header)[0] for name, header in LISTS.items()]
    aside = set()
    for name, header in {"plain": b"", "first-class": b"Precedence: first-class\r\nX-List-Id: none\r\n"}.items():
        attempt, seconds = single(rig, watch, sender=f"{name}@source.example", header=header)
        aside.add(attempt.token)
        check(seconds < 1 and attempt.began < end, f"single mail ({name}) took {seconds:.2f} s")
    check(time.monotonic() < end, "this machine is too slow for the case")
    watch.wait(56)
    empty(rig)
    in_order(watch, tokens + lists)
    check(max(sizes(watch.taken(), 4, aside)) <= 20, f"series of {sizes(watch.taken(), 4, aside)}")
    # With nothing else waiting they are bulk all the same: a whole series of them, and then the pause.
    rest = [hand_in(rig, sender=f"{number}@source.example", header=list(LISTS.values())[number % 4])[0] for number in range(45)]
    watch.wait(45, tokens=set(rest))
    found = sizes(watch.taken(set(rest)), 4)
    check(max(found) <= 20 and len(found) >= 3, f"lists of 45 clients went in series of {found}")


@case("R10", "messages and pause_ms are changed", upstream_keys=ONE, after=series(10, 600_000))
def _(rig):
    text = (rig.directory / "tenants/acme.toml").read_text()
    old = series(10, 600_000)
    check(old in text, text)
    watch = Watch(rig.upstream)
    tokens = run(rig, 200)
    watch.wait(10)
    check(len(watch.taken()) == 10, f"{len(watch.taken())} went before the pause of ten minutes")
    changed = time.monotonic()
    reload(rig, text.replace(old, series(15, 3000)))
    watch.wait(40, 30)
    wait_until("the middle of a pause", lambda: time.monotonic() > watch.taken()[-1].ended + 0.5)
    found = watch.taken()
    # The ten may be a series of their own, or the first of fifteen.
    check(sizes(found, 3) in ([10, 15, 15], [15, 15, 15]), f"series of {sizes(found, 3)}, wanted 10, 15, 15")
    check(found[10].began - changed < 6, f"the new pause ended {found[10].began - changed:.1f} s after the change")
    # Taken away in the next pause.
    count, changed = len(found), time.monotonic()
    reload(rig, text.replace(old, ""))
    found = watch.wait(200, 30)
    check(found[-1].ended - changed < 15 and sizes(found[count:], 1) == [200 - count], f"without [series]: {sizes(found[count:], 1)} in {found[-1].ended - changed:.1f} s")
    empty(rig)
    in_order(watch, tokens)
    # No pause at all, with and without anything waiting.
    reload(rig, text.replace(old, series(5, 0)))
    more = run(rig, 60)
    watch.wait(60, 30, set(more))
    check(sizes(watch.taken(set(more)), 1) == [60], f"pause_ms = 0: {sizes(watch.taken(set(more)), 1)}")
    empty(rig)
    in_order(watch, more)
    # A pause that is set now holds for what comes now.
    reload(rig, text.replace(old, series(20, 1500)))
    last = run(rig, 45)
    watch.wait(45, 30, set(last))
    found = sizes(watch.taken(set(last)), 1.5)
    check(max(found) <= 20 and len(found) >= 3, f"series of {found} after all changes")
