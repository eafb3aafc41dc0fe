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


def passes(faults, kind="graph", grant=None, at=("token",), after=None, limit=30, canary=True, **settings):
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
        "latin": says(b'{"access_token":"CANARY-\xfc\xff"}'), "huge": megabyte, "accepted": (202, {}, '{"access_token":"CANARY-202"}'),
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

    # What a megabyte has in it is not looked for here: I01 does.
    faults = {"endless": endless_chunked, "bomb": gzip_bomb, "megabyte": megabyte, "slow": slow_octets, "silent": hang(60), "header": header}
    memory = []

    def after(place, ids):
        memory.append(place.resident(peak=True))
        for request in kinds(place, "token")[: len(faults)]:
            check("gzip" not in request.headers.get("Accept-Encoding", ""), "it asks for what it does not unpack")

    # The clock runs at ten times its speed: the 30 s that a token request may take are three.
    began = time.monotonic()
    place = passes(faults, after=after, environment=fast(10), limit=20, canary=False)
    check(time.monotonic() - began < 20, f"it took {time.monotonic() - began:.0f} s: no limit of 30 s for a whole request")
    slow = [r for r in kinds(place, "token") if r.groups == ["slow"]]
    check(len(slow) >= 2 and 2.5 < slow[1].time - slow[0].time < 8, f"octet by octet: tried again after {[r.time - slow[0].time for r in slow]} s, at ten times the speed")
    # The API: what is said with 202 is said, whatever follows; anything else is no answer.
    for name in ("slow", "silent", "header"):
        del faults[name]
    passes(faults, at=("sendMail",), after=after, canary=False)
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
        kept = {name: file_of(place, name) for name in names}
        check(all(kept.values()), "a refresh token that has rotated is not kept")
        place.provider.expire_access()
        place.faults.update({name: aadsts(number) for name, number in zip(names, numbers)})
        ids = {name: place.hand_in(name) for name in names}
        messages = settle(place, ids, "suspended")
        more = {name: place.hand_in(name) for name in names}
        settle(place, more, ("queued", "suspended"))
        for name, number in zip(names, numbers):
            check(place.asked(name) == 2, f"{name}: {place.asked(name) - 1} token requests")
            check(str(number) in messages[name]["reason"], f"{name}: {messages[name]}")
            check(file_of(place, name) == kept[name], f"{name}: the file of the refresh token was touched")
            check("bounced" not in events(place, ids[name]), f"{name}: bounced")
            alert = place.wait_log("level=error", "event=route-suspended", f"tenant={name} ")
            check(len(alert) == 1 and "remedy=" in alert[0], f"{name}: {alert}")
            check(place.metric(f'postbote_upstream_up{{tenant="{name}"') == 0, f"{name}: its route counts as up")
        # Nothing is forgotten by a restart either.
        check(place.stop() == 0, "it did not end well")
        place.start()
        wait_until("each account is probed after the restart", lambda: all(place.asked(name) == 3 for name in names))
        settle(place, ids, "suspended")
        for name in names:
            check(used(place, name)[1] == used(place, name)[-1] != used(place, name)[0], f"{name}: not the newest refresh token is used")
        place.faults.clear()
        retry(place, ids)
        wait_until("all waiting mail leaves", lambda: all(len(place.delivered(name)) == 3 for name in names))
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
    # While the token in hand is good it serves, though it should be renewed by now.
    with no_canary(Many("graph", ["one"], start=False)) as place:
        clock = f.Clock(place)
        place.start()
        # It is tried again ahead of time, but not with every message.
        for turn, (steady, fault) in enumerate([(0, None), (3400, (503, {}, b"")), (3405, (503, {}, b"")), (3440, None), (3445, None)], 1):
            clock.move(steady=steady)
            place.faults = {"one": fault} if fault else {}
            place.hand_in("one")
            wait_until(f"message {turn} arrives", lambda: len(place.delivered("one")) == turn, 10)
        check(place.asked("one") == 3, f"{place.asked('one')} token requests: one at first, one that failed, one that did not")
        place.faults = {"one": (503, {}, b"")}
        clock.move(steady=3440 + 3600)
        identity = place.hand_in("one")
        place.wait_log(f"id={identity} ", "event=deferred ")
        place.faults = {}
        wait_until("the last one arrives", lambda: len(place.delivered("one")) == 6)
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




# --------------------------------------------------------------------------- tokens, kept and renewed


@case("I08", "success without refresh_token: the old one is kept")
def _(_):
    for kind, rotates in (("gmail", False), ("graph", True), ("graph", False), ("microsoft-smtp", True)):
        with no_canary(Many(kind, ["one"], grant="refresh-token")) as place:
            place.provider.rotate = rotates
            for turn in range(4):
                if turn == 1:
                    place.provider.rotate = False
                if turn == 3 or kind.endswith("smtp"):  # a kept connection needs no token
                    check(place.stop() == 0, "it did not end well")
                    place.start()
                place.provider.expire_access()
                place.hand_in("one")
                wait_until(f"{kind}: message {turn + 1} arrives", lambda: len(place.delivered("one")) == turn + 1)
            tokens = used(place, "one")
            check(len(tokens) == 4, f"{kind}: {len(tokens)} token requests for 4 messages with an expired token each")
            check(len(set(tokens)) == 1 + rotates and tokens[1] == tokens[2] == tokens[3], f"{kind}: {len(set(tokens))} refresh tokens are used, in turn {[sorted(set(tokens)).index(t) for t in tokens]}")


KILLER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// KILL_UNDER: a directory; KILL_AT: the process dies before (even) or after (odd) the n-th call that
// changes something in it. KILL_LOG: a line a call.
static int counter;

static int concerns(const char *path) {
    const char *under = getenv("KILL_UNDER");
    return under && strncmp(path, under, strlen(under)) == 0;
}
static int concerns_fd(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return concerns(path);
}
static int begin(const char *what) {
    int number = __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST), at = atoi(getenv("KILL_AT") ?: "-1");
    int log = open(getenv("KILL_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dprintf(log, "%d %s\n", number, what);
    close(log);
    if (at == 2 * number) kill(getpid(), SIGKILL);
    return at == 2 * number + 1;
}
static void end(int dies) { if (dies) kill(getpid(), SIGKILL); }

#define REAL(name) static typeof(name) *real; if (!real) real = (typeof(name) *)dlsym(RTLD_NEXT, #name)
#define AROUND(of, what, call) do { int dies = 0; if (of) dies = begin(what); typeof(call) result = call; end(dies); return result; } while (0)

#define OPEN(name, parameters, arguments, last) \
    int name parameters { mode_t mode = 0; if (flags & O_CREAT) { va_list more; va_start(more, last); mode = va_arg(more, mode_t); va_end(more); } \
        REAL(name); AROUND((flags & (O_CREAT | O_TRUNC)) && concerns(path), "open", real arguments); }
OPEN(open, (const char *path, int flags, ...), (path, flags, mode), flags)
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), flags)
OPEN(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode), flags)
OPEN(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode), flags)
ssize_t write(int fd, const void *octets, size_t length) { REAL(write); AROUND(concerns_fd(fd), "write", real(fd, octets, length)); }
int fsync(int fd) { REAL(fsync); AROUND(concerns_fd(fd), "fsync", real(fd)); }
int fdatasync(int fd) { REAL(fdatasync); AROUND(concerns_fd(fd), "fdatasync", real(fd)); }
int fchmod(int fd, mode_t mode) { REAL(fchmod); AROUND(concerns_fd(fd), "fchmod", real(fd, mode)); }
int rename(const char *old, const char *new) { REAL(rename); AROUND(concerns(old) || concerns(new), "rename", real(old, new)); }
int unlink(const char *path) { REAL(unlink); AROUND(concerns(path), "unlink", real(path)); }
"""


def killer():
    """The library that kills at a call, compiled once."""
    path = pathlib.Path(tempfile.gettempdir()) / f"postbote-hostile-killer-{hashlib.sha256(KILLER.encode()).hexdigest()[:16]}.so"
    if not path.exists():
        new = path.with_suffix(f".{os.getpid()}")
        done = subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(new)], input=KILLER.encode(), capture_output=True)
        check(done.returncode == 0, f"cc cannot make the library: {done.stderr.decode()}")
        new.rename(path)
    return str(path)


@case("I09", "killed between the answer with a new refresh token and its commit; a disk that errs; an answer that is lost")
def _(_):
    with no_canary(Many("graph", ["one"], grant="refresh-token", operator_text=patient())) as place:
        place.hand_in("one")
        wait_until("the first message arrives", lambda: len(place.delivered("one")) == 1)
        count, at, calls = 1, 0, set()
        place.stop()
        while True:
            # A new process has no access token: its first message needs one.
            log = place.directory / "calls"
            log.write_text("")
            place.environment = {"LD_PRELOAD": killer(), "KILL_UNDER": str(place.data / "oauth"), "KILL_AT": str(at), "KILL_LOG": str(log)}
            sends = place.sends("one")
            before = len(used(place, "one"))
            place.start()
            place.hand_in("one")
            count += 1
            fired = wait_until("killed, or delivered", lambda: "killed" if place.process.poll() is not None else "delivered" if len(place.delivered("one")) == count else None)
            calls |= {line.split()[1] for line in log.read_text().splitlines()}
            if fired == "delivered":
                place.stop()
                break
            check(place.process.returncode == -signal.SIGKILL, f"it ended with {place.process.returncode}")
            asked = len(used(place, "one")) - before
            check(asked <= 1, f"{asked} token requests before the end")
            last = log.read_text().splitlines()[-1]
            check(place.sends("one") == sends, f"killed at {last} (KILL_AT={at}): the access token was used before its refresh token was stored")
            place.environment = {}
            place.start()
            wait_until(f"the account works after a kill at {last} (KILL_AT={at}); {place.queue()}", lambda: len(place.delivered("one")) == count, 10)
            newest = [token for token, found in place.provider.refresh.items() if found.user == "one@acme.example"]
            check(used(place, "one")[-1] in newest, "a refresh token that nobody issued")
            place.stop()
            at += 1
        check({"open", "write", "fsync", "rename"} <= calls and at >= 10, f"only {at} kills at {calls}: the rig does not see what it should")
        place.environment = {}
        place.start()
        # The answer itself is lost: the provider has made a new token that nobody knows.
        place.provider.expire_access()
        place.provider.always.pop("token")
        place.provider.drop["token"] = ["after-store"]
        place.hand_in("one")
        count += 1
        settle(place, {"one": place.queue()[0]["id"]}, ("queued", "deferred"))
        retry(place, {"one": place.queue()[0]["id"]})
        wait_until("it arrives with the old token", lambda: len(place.delivered("one")) == count)
    for code in (5, 28):  # EIO, ENOSPC
        with no_canary(Many("graph", ["one"], grant="refresh-token", operator_text=patient())) as place:
            place.hand_in("one")
            wait_until("the first message arrives", lambda: len(place.delivered("one")) == 1)
            place.stop()
            disk = f.Disk(place)
            place.environment["POSTBOTE_DISK_UNDER"] = str(place.data / "oauth")
            place.start()
            for number, kind in enumerate((f.OPEN, f.WRITE, f.SYNC, f.NAME), 1):
                sends, kept = place.sends("one"), file_of(place, "one")
                place.provider.expire_access()
                disk.fail(code, kind)
                identity = place.hand_in("one")
                line = place.wait_log(f"id={identity} ", "event=deferred ")[-1]
                # With the expired token once; with the new one only when its sister is safe.
                check(place.sends("one") - sends <= 1, f"{kind}: {place.sends('one') - sends} sends; {line}")
                check(not place.by_id(identity)[identity]["state"] == "failed", f"{kind}: failed")
                check(file_of(place, "one") == kept or kind in (f.SYNC,), f"{kind}: the kept token was changed though writing failed")
                disk.heal()
                retry(place, {"one": identity})
                wait_until(f"{kind}: it arrives when the disk is well: {line}", lambda: len(place.delivered("one")) == 1 + number, 10)


@case("I10", "100 parallel messages with an expired token: one refresh")
def _(_):
    # One process: several on one spool, with the row lock that the row speaks of, are not this build.
    def burst(place, count, how):
        before = place.token_count()
        clients = [place.client() for _ in range(10)]
        contents = [[place.message() for _ in range(count // 10)] for _ in clients]
        arrived = len(place.delivered_now())
        threads = [threading.Thread(target=lambda c=c, m=m: [c.message(content) for content in m]) for c, m in zip(clients, contents)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        place.sent(arrived + count, 60)
        check(place.token_count() - before == 1, f"{place.kind}, {how}: {place.token_count() - before} tokens were asked for")

    for kind, upstream, count in (("google-smtp", "connections = 20", 100), ("microsoft-smtp", "connections = 20", 100), ("graph", "", 10)):
        smtp = kind.startswith("microsoft") and MicrosoftSmtp(None, connection_limit=None)
        with no_canary(Installation(kind, "refresh-token", upstream=upstream, start=False, smtp=smtp or None)) as place:
            if smtp:
                smtp.check = place.provider.check_smtp_token
            place.provider.delay["token"] = 0.3  # long enough for all to want one
            place.provider.expires_in = 2
            place.start()
            send(place)
            place.sent(1)
            time.sleep(2.1)
            place.provider.expires_in = 3599
            burst(place, count, "by its age")
            if kind == "graph":
                # The provider does not know the token any more, whatever its age.
                place.provider.expire_access()
                burst(place, 10, "refused")
            place.descriptors += 20


LIFETIMES = {
    "zero": (0, 60), "below": (-5, 60), "far-below": (-(10**18), 60), "text": ("3600", 3600), "huge": (10**18, 3600), "huger": (1e300, 3600),
    "missing": (None, 300), "null": ("null", 300), "word": ("soon", 300), "list": ([3600], 300), "true": (True, 300), "day": (86400, 3600),
    "fraction": (120.7, None), "two": (2, 2),
}  # fmt: skip


@case("I11", 'expires_in 0, negative, "3600", 10^18, missing')
def _(_):
    # 1 to 59 s are honoured as said (`two`); 0 and less are a minute.
    with Many("graph", LIFETIMES, grant="refresh-token") as place:
        def odd(handler):
            status, headers, answer = behave(handler)
            said, _ = LIFETIMES[handler.record.groups[0]]
            answer["expires_in"] = None if said == "null" else said
            if said is None:
                del answer["expires_in"]
            return status, headers, json.dumps(answer)

        place.faults.update(dict.fromkeys(LIFETIMES, odd))
        for name in LIFETIMES:
            place.hand_in(name)
        wait_until("every first message arrives", lambda: all(len(place.delivered(name)) == 1 for name in LIFETIMES))
        left = {name: place.metric(f'postbote_oauth_token_expiry_seconds{{tenant="{name}"') for name in LIFETIMES}
        for name, (said, wanted) in LIFETIMES.items():
            wanted = (wanted - 15, wanted) if wanted is not None else (60, 3600)
            check(wanted[0] <= left[name] <= wanted[1], f"expires_in {str(said)[:30]}: the token is good for {left[name]:.0f} s more, wanted {wanted}")
        # Nobody asks for a new one meanwhile but who was told two seconds.
        for _ in range(3):
            for name in LIFETIMES:
                place.hand_in(name)
        wait_until("every message arrives", lambda: all(len(place.delivered(name)) == 4 for name in LIFETIMES))
        asked = {name: place.asked(name) for name in LIFETIMES if name != "two"}
        check(set(asked.values()) == {1}, f"tokens asked for: {asked}")
        time.sleep(max(0, 2.2 - 0.5))
        place.hand_in("two")
        wait_until("it arrives", lambda: len(place.delivered("two")) == 5)
        check(2 <= place.asked("two") <= 4, f"2 s: {place.asked('two')} token requests")
        check("two" not in place.log or "token-not-renewed" not in place.log, "a renewal failed")


@case("I12", "a token with CR LF, blanks, octets beyond ASCII, or of 100 KiB")
def _(_):
    bad = {
        "crlf": "CANARY\r\nX-Evil: 1", "lf": "CANARY\nX: 1", "nul": "CANARY\0", "blank": "CANARY two", "tab": "CANARY\ttwo", "soh": "CANARY\x01auth=Bearer x", "utf8": "CANARY-ü",
        "surrogate": "CANARY-\\ud800", "long": "CANARY" + "x" * 102400, "delete": "CANARY\x7f",
    }  # fmt: skip

    def access(handler):
        status, headers, answer = behave(handler)
        token = bad[handler.record.groups[0]]
        answer["access_token"] = "CANARY"
        return status, headers, json.dumps(answer).replace('"CANARY"', json.dumps(token).replace("\\\\ud", "\\ud"))

    for kind in ("graph", "google-smtp", "microsoft-smtp"):
        def after(place, ids):
            for name in bad:
                check(place.sends(name) == 0, f"{kind}, {name}: the token reached the API")
                check(not place.smtp or not place.smtps[name].auths, f"{kind}, {name}: it reached an AUTH line")

        passes(dict.fromkeys(bad, access), kind, after=after)

    # The same with the new refresh token: what came with it is not used, and the old one stays.
    def fresh(handler):
        status, headers, answer = behave(handler)
        answer["refresh_token"] = "CANARY"
        return status, headers, json.dumps(answer).replace('"CANARY"', json.dumps(bad[handler.record.groups[0]]).replace("\\\\ud", "\\ud"))

    def unused(place, ids):
        for name in bad:
            check(place.sends(name) == 0, f"{name}: sent with a token whose refresh token cannot be kept")
            check(len(set(used(place, name))) == 1, f"{name}: another refresh token was used")

    passes(dict.fromkeys(bad, fresh), "graph", "refresh-token", after=unused)


@case("I13", "the clock is a day wrong")
def _(_):
    day = 86400
    # While it runs: the age of a token is not told by the clock on the wall.
    with no_canary(Many("graph", ["one"], start=False)) as place:
        clock = f.Clock(place)
        place.start()
        for turn, wall in enumerate((0, day, -day, 3650 * day, 0), 1):
            clock.move(wall=wall)
            place.hand_in("one")
            wait_until(f"message {turn} arrives with the clock {wall} s wrong", lambda: len(place.delivered("one")) == turn)
        check(place.asked("one") == 1, f"{place.asked('one')} token requests")
        # The provider goes by its own clock: one more token is forced.
        clock.move(wall=-day)
        place.provider.expire_access()
        place.hand_in("one")
        wait_until("it arrives with another token", lambda: len(place.delivered("one")) == 6)
        check((place.asked("one"), place.sends("one")) == (2, 7), f"{place.asked('one')} token requests, {place.sends('one')} sends")
    # From the start, where we date what we sign: a service account, a client certificate.
    with tempfile.TemporaryDirectory() as folder:
        google, microsoft = Provider("google"), Provider("microsoft")
        account = google.service_account(folder)
        certificate, key = microsoft.certificate(folder)
        proofs = {
            "gmail": (google, "service-account", {"service_account": f'{{ file = "{account}" }}'}),
            "graph": (microsoft, "client-credentials", {"client_secret": None, "client_certificate": str(certificate), "client_key": f'{{ file = "{key}" }}'}),
        }
        for kind, (provider, grant, oauth) in proofs.items():
            for wall in (day, -day):
                with no_canary(Installation(kind, grant, oauth, start=False, provider=provider)) as place:
                    provider.close = lambda: None  # used twice
                    clock = f.Clock(place)
                    clock.move(wall=wall)
                    place.start()
                    (identity,) = send(place)
                    line = place.wait_log(f"id={identity} ", "event=deferred ")[0]
                    skew = re.search(r"clock differs from the server's by (-?\d+) s", line)
                    check(skew and abs(int(skew[1]) - wall) < 60, f"{kind}: how wrong the clock is, is not said: {line}")
                    state = place.queue()[0]["state"]
                    check(state in ("queued", "deferred") or kind == "graph", f"{kind}: {state}; the clock is to be set right, nothing else")
                    clock.move(wall=0)
                    before = len(place.delivered_now())
                    place.sent(before + 1 if not before else before, 10) if not before else wait_until("it arrives", lambda: not place.queue(), 10)
        for provider in (google, microsoft):
            Provider.close(provider)


# --------------------------------------------------------------------------- consent


class Connect:
    """`postbote oauth connect`, and what a person in a browser does."""

    def __init__(self, place, *words):
        environment = {**os.environ, "POSTBOTE_CONFIG": str(place.directory / "postbote.toml")}
        environment.pop("DISPLAY", None)
        self.place = place
        self.process = subprocess.Popen([BINARY, "oauth", "connect", "acme", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=place.directory)

    def browse(self):
        """Signs in; gives what the browser is shown."""
        url = self.process.stdout.readline().decode().strip()
        check(url.startswith("http"), f"no link: {url!r}")
        place = urllib.parse.urlsplit(self.place.provider.sign_in(url))
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
        connection.request("GET", f"{place.path or '/'}?{place.query}")
        page = connection.getresponse().read().decode()
        connection.close()
        return page

    def end(self):
        """(exit code, all that it printed)."""
        try:
            out, errors = self.process.communicate(timeout=60)
        finally:
            self.process.kill()
            self.process.wait()
        return self.process.returncode, (out + errors).decode()


@case("I14", "the token of another user")
def _(_):
    ways = [("graph", "authorization-code"), ("graph", "device-code"), ("microsoft-smtp", "authorization-code"), ("gmail", "authorization-code"), ("google-smtp", "authorization-code")]
    for kind, grant in ways:
        with no_canary(Installation(kind, grant, operator_text=patient())) as place:
            provider = place.provider
            provider.device_interval, provider.device_answers = 1, []
            (identity,) = send(place)
            place.state("suspended")
            check(place.token_count() == 0, f"{kind}: a token was asked for without consent")

            def connect():
                attempt = Connect(place)
                page = attempt.browse() if grant == "authorization-code" else ""
                code, said = attempt.end()
                secrets_nowhere(place, page, said.replace(said.split("\n")[0], "") if grant == "authorization-code" else said)
                return code, said

            for other in ("boss@acme.example", "office@acme.example.evil.example", "office@other.example"):
                provider.mailboxes.add(other)
                provider.signs_in_as = other
                code, said = connect()
                check(code == 1 and other in said and MAILBOX in said, f"{kind}, {grant}: {other} instead of {MAILBOX}: exit code {code}: {said}")
                kept = place.run("vault", "list").stdout.decode()
                check("oauth" not in kept and file_of(place, "acme") is None, f"{kind}, {grant}: the consent of {other} is kept: {kept}")
            check(place.queue()[0]["state"] == "suspended", f"{place.queue()}")
            provider.signs_in_as = "OFFICE@ACME.EXAMPLE" if provider.microsoft else None  # case does not matter to who it is
            provider.mailboxes.add("OFFICE@ACME.EXAMPLE")
            if provider.microsoft:
                provider.signs_in_as = None
            code, said = connect()
            check(code == 0, f"{kind}, {grant}: exit code {code}: {said}")
            place.sent(1, 15)
            # Somebody else signs in later: the good consent stays.
            before = place.run("vault", "list").stdout, file_of(place, "acme")
            provider.signs_in_as = "boss@acme.example"
            code, said = connect()
            check(code == 1 and (place.run("vault", "list").stdout, file_of(place, "acme")) == before, f"{kind}, {grant}: exit code {code}, the good consent was touched: {said}")
            send(place)
            place.sent(2)
