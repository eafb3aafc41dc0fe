"""I: the token endpoint, Microsoft Graph and the Gmail API, malicious, broken or merely strict.

Every case has a fake provider of its own; the rig that the runner makes is not used."""

import ctypes, hashlib, http.client, json, mmap, os, pathlib, re, signal, socket, struct, subprocess, tempfile, threading, time, urllib.parse

import rig as base
from rig import BINARY, TOKEN, Broken, check, is_bounce, wait_until
from oauth_rig import MAILBOX, Installation, tenant_text
from provider import MB, GMAIL_ROWS, TOKEN_ROWS_MICROSOFT, Provider, Refused, aadsts, addresses, close_after_body, endless_chunked, error_200, gmail_error, google_error, graph_error, gzip_bomb, hang, html_login, malformed_json, megabyte, redirect_loop, redirect_to, slow_octets, throttle
from provider_smtp import GoogleSmtp, MicrosoftSmtp

from . import _faults as f
from ._g_clock import fast
from ._h_certificates import Authority, server
from ._oauth import MINE, Many, arrive, behave, events, explains, forms, is_mine, retry, secrets_nowhere, settle, test

CANARY = b"CANARY"
"""What every secret of the fakes has in it: none of them is shown, not even in part."""

PATIENT = 'first = "30s"\nmaximum = "30s"'
"""[retry] of a server that tries nothing twice while a case looks."""


def case(identity, title):
    return base.case(identity, title, start=False)


def patient(rig_text=PATIENT):
    """[retry] of the operator's file, in place of the rig's."""
    return base.OPERATOR.replace('first = "1s"\nmaximum = "1s"', rig_text).format(server="", listener="", retry="", more="")


def kinds(place, *wanted):
    return [r for r in list(place.provider.requests) if r.kind in wanted]


def send(place, count=1, **envelope):
    """Messages over one connection; gives their ids."""
    client = place.client()
    ids = [client.message(**envelope) for _ in range(count)]
    client.expect("QUIT", "221")
    client.close()
    place.clients.remove(client)
    return ids


def no_canary(place):
    place.canaries.append(CANARY)
    return place


def no_storm(place, name, seconds):
    """With a retry every second: no more tokens are asked for than tries fit in."""
    most = seconds * int(place.environment.get("TEST_CLOCK_SPEED", 1)) / 0.8 + 2
    check(place.asked(name) <= most, f"{name}: {place.asked(name)} token requests within {seconds:.1f} s")


def passes(faults, kind="graph", grant=None, at=("token",), after=None, limit=30, **settings):
    """Each fault at a tenant of its own, at the same time: its message is deferred, nothing is failed,
    suspended or bounced, the server is not stormed; when the fault is over it arrives, once."""
    with no_canary(Many(kind, faults, at=at, grant=grant, **settings)) as place:
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
        states = {name: message["state"] for name, message in settle(place, ids, ("queued", "deferred")).items()}
        check(len(states) == len(ids), f"{states}")
        place.faults.clear()
        arrive(place, ids)
        return place


def page(handler):
    """A login page with 200: 120 printable characters, then more."""
    text = "<html><title>Sign in\x1b[31m\r\n</title>" + "x" * 120 + " CANARY-beyond </html>"
    return 200, {"Content-Type": "text/html"}, text


# --------------------------------------------------------------------------- answers that are none


@case("I01", "200 with a login page, or no answer to the question")
def _(_):
    def says(body, kind="application/json"):
        return 200, {"Content-Type": kind}, body

    faults = {
        "page": page, "empty": says(b""), "list": says("[]"), "text": says('"x"'), "null": says("null"), "no-token": says("{}"),
        "number": says('{"access_token":42,"token_type":"Bearer"}'), "blank": says('{"access_token":"","token_type":"Bearer"}'),
        # What is cut off or malformed still has a token in it, here within its first 120 characters.
        "torn": says('{"token_type":"Bearer","access_token":"CANARY-torn'), "refresh-torn": says('{"refresh_token":"1//0CANARY-torn","acc'),
        "form": says("access_token=CANARY-form&token_type=Bearer", "application/x-www-form-urlencoded"),
        "twice": says('{"access_token":"CANARY-twice"}{"access_token":"CANARY-twice"}'), "xml": says("<token>CANARY-xml</token>", "text/xml"),
        "latin": says(b'{"access_token":"CANARY-\xfc\xff"}'), "accepted": (202, {}, '{"access_token":"CANARY-202"}'),
    }  # fmt: skip

    def after(place, ids):
        line = place.wait_log(f"id={ids['page']} ", "event=deferred ")[0]
        check("Sign in" in line, f"what the page says is not told: {line}")
        check("x" * 121 not in line and "\\r" not in line, f"more of the page is told than it may: {line}")

    # The kept refresh token stays what it was: `arrive` needs it.
    passes(faults, "graph", "refresh-token", after=after)
    passes({name: faults[name] for name in ("page", "torn")}, "google-smtp", "refresh-token")


class Trap:
    """A server that only notes what comes."""

    def __init__(self):
        self.seen = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(2)
            try:
                self.seen.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            except OSError:
                self.seen.append(b"")
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@case("I02", "302 to another host, in a loop, to http:// and file://, at token endpoint and API")
def _(_):
    with Trap() as trap:
        other = f"http://127.0.0.1:{trap.port}/x"

        def to(place, status=302):
            return status, {"Location": place}, b""

        faults = {
            "other": to(other), "s301": to(other, 301), "s303": to(other, 303), "s307": to(other, 307), "s308": to(other, 308),
            "loop": redirect_loop, "plain": to("http://login.example.net/"), "file": to("file:///etc/passwd"), "none": (302, {}, b""),
            "protocol-relative": to(f"//127.0.0.1:{trap.port}/x"),
        }  # fmt: skip
        passes(faults)
        passes(faults, at=("sendMail",))
        passes(faults, "gmail", at=("gmail",))
        check(not trap.seen, f"it was followed: {trap.seen}")


@case("I03", "a body without end, a bomb, a megabyte, an octet a second, a header without end")
def _(_):
    def header(handler):
        try:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 1000) for n in range(2000)))
        except OSError:
            pass
        handler.hang_up()

    faults = {"endless": endless_chunked, "bomb": gzip_bomb, "megabyte": megabyte, "slow": slow_octets, "silent": hang(60), "header": header}
    memory = []

    def after(place, ids):
        memory.append(place.resident(peak=True))
        for request in kinds(place, "token")[: len(faults)]:
            check("gzip" not in request.headers.get("Accept-Encoding", ""), "it asks for what it does not unpack")

    # The clock runs at ten times its speed: the 30 s that a token request may take are three.
    began = time.monotonic()
    place = passes(faults, after=after, environment=fast(10), limit=20)
    check(time.monotonic() - began < 20, f"it took {time.monotonic() - began:.0f} s: no limit of 30 s for a whole request")
    slow = [r for r in kinds(place, "token") if r.groups == ["slow"]]
    check(len(slow) >= 2 and 2.5 < slow[1].time - slow[0].time < 8, f"octet by octet: tried again after {[r.time - slow[0].time for r in slow]} s, at ten times the speed")
    # The API: what is said with 202 is said, whatever follows; anything else is no answer.
    del faults["slow"], faults["silent"]
    passes(faults, at=("sendMail",), after=after)
    check(max(memory) < 150, f"{memory} MiB")
    with Many("graph", ["endless"], at=("sendMail",)) as place:
        def taken(handler):
            behave(handler)
            handler.start(202, {"Transfer-Encoding": "chunked"})
            handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
            for _ in range(1000):
                handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
            handler.hang_up()

        place.faults["endless"] = taken
        identity = place.hand_in("endless")
        place.wait_log(f"id={identity} ", "event=sent ")
        check(len(place.delivered("endless")) == 1 and place.sends("endless") == 1, "202 was not believed")


@case("I04", "200 with an error")
def _(_):
    refused = {"grant": error_200("invalid_grant"), "client": error_200("invalid_client"), "google": (200, {}, {"error": "invalid_grant", "error_description": "Bad Request"})}
    # An answer that has both is no success.
    refused["both"] = (200, {}, {"error": "invalid_grant", "error_description": "AADSTS50173: x", "access_token": "CANARY-both", "token_type": "Bearer", "expires_in": 3599})
    for kind, grant in (("graph", "client-credentials"), ("gmail", "refresh-token")):
        with no_canary(Many(kind, refused, grant=grant, operator_text=patient())) as place:
            place.faults.update(refused)
            ids = {name: place.hand_in(name) for name in refused}
            settle(place, ids, "suspended")
            for name, identity in ids.items():
                check(place.asked(name) == 1 and place.sends(name) == 0, f"{name}: {place.asked(name)} token requests, {place.sends(name)} sends")
            place.faults.clear()
            retry(place, ids)
            arrive(place, ids)
    passes({"busy": (200, {}, {"error": "temporarily_unavailable", "error_description": "Please try again."})})


# --------------------------------------------------------------------------- refusals


def file_of(place, account):
    """The kept refresh token of an account, as sealed."""
    path = place.data / "oauth" / f"{account}.token"
    return path.read_bytes() if path.exists() else None


def used(place, name):
    """The refresh tokens that a tenant has asked with, in order."""
    requests = [r for r in kinds(place, "token") if r.groups == [name]]
    return [urllib.parse.parse_qs(r.body.decode())["refresh_token"][0] for r in requests]


@case("I05", "400 invalid_grant: suspended, and the refresh token is kept")
def _(_):
    numbers = (700082, 50173, 70043, 54005)
    names = [f"n{number}" for number in numbers]
    with no_canary(Many("graph", names, grant="refresh-token", operator_text=patient())) as place:
        first = {name: place.hand_in(name) for name in names}
        arrive(place, first)
        place.provider.sent.clear()
        kept = {name: file_of(place, name) for name in names}
        check(all(kept.values()), "a refresh token that has rotated is not kept")
        place.provider.expire_access()
        place.faults.update({name: aadsts(number) for name, number in zip(names, numbers)})
        ids = {name: place.hand_in(name) for name in names}
        more = {name: place.hand_in(name) for name in names}
        messages = settle(place, ids, "suspended")
        settle(place, more, ("queued", "suspended"))
        for name, number in zip(names, numbers):
            check(place.asked(name) == 2, f"{name}: {place.asked(name) - 1} token requests")
            check(str(number) in messages[name]["reason"], f"{name}: {messages[name]}")
            check(file_of(place, name) == kept[name], f"{name}: the file of the refresh token was touched")
            check("bounced" not in events(place, ids[name]), f"{name}: bounced")
            place.wait_log("event=route-", f"tenant={name} ") if "event=route-" in place.log else place.wait_log(f"tenant={name} ", "event=suspended")
        check(place.metric("postbote_upstream_up") <= 1, "suspended routes count as up")
        # Nothing is forgotten by a restart either.
        check(place.stop() == 0, "it did not end well")
        place.start()
        retry(place, ids)
        wait_until("each account is probed after the restart", lambda: all(place.asked(name) >= 3 for name in names))
        settle(place, ids, "suspended")
        for name in names:
            check(used(place, name)[1] == used(place, name)[-1] != used(place, name)[0], f"{name}: not the newest refresh token is used")
        place.faults.clear()
        retry(place, ids)
        wait_until("all waiting mail leaves", lambda: all(len(place.delivered(name)) == 2 for name in names))
        for name in names:
            check(file_of(place, name) != kept[name], f"{name}: the new refresh token is not kept")


@case("I06", "401 invalid_client: the application's secret has expired")
def _(_):
    names = ["first", "second", "third"]
    with no_canary(Many("graph", names, operator_text=patient())) as place:
        old, place.provider.client_secret = place.provider.client_secret, "CANARY~new+/=" + os.urandom(6).hex()
        place.provider.minted.append(old)

        def expired(handler):
            form = urllib.parse.parse_qs(handler.record.body.decode())
            return aadsts(7000222) if form["client_secret"] == [old] else behave(handler)

        place.faults.update(dict.fromkeys(names, expired))
        ids = {name: place.hand_in(name) for name in names}
        for name, message in settle(place, ids, "suspended").items():
            check("7000222" in message["reason"], f"{message}")
            check(place.asked(name) == 1, f"{name}: {place.asked(name)} token requests")
        said = explains(place, "first")
        check("secret" in said["en"][0].lower() and "client_secret" in said["en"][1], f"it does not say what to do: {said}")
        asked = {name: place.asked(name) for name in names}
        check(asked["second"] == asked["third"] == 1, f"others are tried as well: {asked}")
        # The new secret in each file: what waits leaves at once, long before the next probe.
        for name in names:
            path = place.directory / "tenants" / f"{name}.toml"
            place.tenant(name, path.read_text().replace(json.dumps(old), json.dumps(place.provider.client_secret)))
        place.signal(signal.SIGHUP)
        arrive(place, ids, 15)


@case("I07", "401, 403, 429, 500, 503 without words, temporarily_unavailable, AADSTS90033")
def _(_):
    plain = {"Content-Type": "text/plain"}
    faults = {f"s{status}": (status, plain, b"No.") for status in (401, 403, 500, 502, 503, 504)}
    faults |= {"empty": (503, {}, b""), "html": (503, {"Content-Type": "text/html"}, "<h1>503</h1>"), "n90033": aadsts(90033), "n90033-400": aadsts(90033, status=400),
               "unavailable": google_error(503, "temporarily_unavailable", "Please retry later."), "unavailable-400": google_error(400, "temporarily_unavailable", "Please retry later.")}  # fmt: skip
    passes(faults)
    passes({name: faults[name] for name in ("s401", "s403", "s500", "unavailable")}, "gmail")
    # Without Retry-After the tries are spread.
    many = [f"t{n}" for n in range(12)]
    with Many("graph", many, operator_text=patient('first = "2s"\nmaximum = "2s"')) as place:
        place.faults.update(dict.fromkeys(many, aadsts(90033)))
        ids = {name: place.hand_in(name) for name in many}
        wait_until("each is tried again", lambda: all(place.asked(name) == 2 for name in many), 10)
        times = {name: [r.time for r in kinds(place, "token") if r.groups == [name]] for name in many}
        waits = [after - before for before, after in times.values()]
        check(1.5 < min(waits) and max(waits) < 4 and max(waits) - min(waits) > 0.2, f"no jitter: {sorted(waits)}")
        place.faults.clear()
        arrive(place, ids)


