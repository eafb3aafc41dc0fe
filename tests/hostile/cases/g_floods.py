"""G: time, floods, disconnects."""

import pathlib, re, resource, select, signal, socket, struct, subprocess, threading, time

from rig import TOKEN, Client, Received, Upstream, case, check, trusting, wait_until
from cases._g_clock import fast

SECOND_LISTENER = """
[[listener]]
name = "other"
address = "127.0.0.1:0"
tenant = "acme"
"""


def many_descriptors():
    """Lets this process (and the servers that it starts) hold thousands of sockets; gives how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def one_mail(rig, listener):
    """A whole session as a till does it; gives its seconds."""
    began = time.monotonic()
    client = Client(rig, rig.address(listener))
    client.wants("220")
    client.expect("EHLO till.example", "250")
    client.message()
    client.expect("QUIT", "221")
    client.close()
    return time.monotonic() - began


class Meanwhile:
    """A well-behaved client that sends mail after mail; its p99 must stay below a second (V5)."""

    def __init__(self, rig, listener="in", least=20):
        self.rig, self.listener, self.least = rig, listener, least
        self.seconds, self.wrong, self.ended = [], None, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()
        return self

    def work(self):
        try:
            while not self.ended.is_set() or len(self.seconds) < self.least:
                self.seconds.append(one_mail(self.rig, self.listener))
        except Exception as error:
            self.wrong = error

    def __exit__(self, kind, *_):
        self.ended.set()
        self.thread.join(60)
        if kind is None:
            check(self.wrong is None, f"V5: a well-behaved client failed: {self.wrong}")
            p99 = sorted(self.seconds)[int(len(self.seconds) * 0.99)]
            check(p99 < 1, f"V5: p99 of a well-behaved client is {p99:.2f} s")


def spool_files(rig):
    """Bodies that messages have, and files of the spool that nobody knows."""
    known = re.compile(r"lock|spool\.sqlite.*|journal-[ab]|slot-\d+")
    strange = [p.name for p in (rig.data / "spool").rglob("*") if p.is_file() and not known.fullmatch(p.name)]
    return sorted(rig.bodies() + strange)


def nothing_queued(rig):
    check(rig.queue() == [], f"something is queued: {rig.queue()}")
    check(rig.upstream.received == [], "something was delivered")
    wait_until("temporary files are gone", lambda: spool_files(rig) == [], 5)


# --------------------------------------------------------------------------- slow clients

SPEED = 100
"""The server's clock runs so many times faster: its 300 s are 3 s here."""


def drip(client, octets, pause):
    """Sends octet by octet until the server closes; gives (seconds, what it said)."""
    began = time.monotonic()
    said = b""
    client.socket.settimeout(None)
    for octet in octets:
        readable, _, _ = select.select([client.socket], [], [], pause)
        if readable:
            more = client.socket.recv(4096)
            said += more
            if not more:
                return time.monotonic() - began, said
            continue
        try:
            client.raw(bytes([octet]))
        except OSError:
            return time.monotonic() - began, said
    return time.monotonic() - began, said


def slow(rig, place):
    """A client that sends an octet every 10 s, in a command or in content, or nothing at all."""
    client = rig.client()
    if place == "content":
        client.envelope()
    pause, octets = (10 / SPEED, b"NOOP " + b"x" * 60) if place != "silence" else (600 / SPEED, b"NOOP\r\n")
    took, said = drip(client, octets, pause)
    check(said.startswith(b"421 4.4.2"), f"{place}: said {said!r} after {took * SPEED:.0f} s")
    check(270 < took * SPEED < 420, f"{place}: 421 came after {took * SPEED:.0f} s")


@case("G01", "slowloris in a command, in content; silence", environment=fast(SPEED))
def _(rig):
    """The limits of 300 s and 500 octets a second are passed on a clock that runs faster."""
    wrong = []

    def run(place):
        try:
            slow(rig, place)
        except AssertionError as error:
            wrong.append(str(error))

    threads = [threading.Thread(target=run, args=(place,)) for place in ("silence", "content", "command")]
    [t.start() for t in threads]
    [t.join() for t in threads]
    check(not wrong, "; ".join(wrong))
    check(rig.queue() == [] and rig.upstream.received == [], "something was queued")


@case("G05", "a client that never reads our replies", environment=fast(SPEED))
def _(rig):
    """60 s for a reply that is not read, on the faster clock."""
    for name, line in (("NOOP", b"NOOP\r\n"), ("EHLO", b"EHLO x\r\n"), ("unknown", b"STAT\r\n")):
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        raw.connect(rig.address())
        raw.settimeout(0.05)
        before = rig.resident()
        began, gone = time.monotonic(), None
        while gone is None and time.monotonic() - began < 8:
            try:
                raw.send(line * 2000)
            except socket.timeout:
                pass
            except OSError:
                gone = time.monotonic() - began
        check(gone is not None, f"{name}: still connected after {8 * SPEED} s")
        check(rig.resident() - before < 32, f"{name}: memory grew by {rig.resident() - before:.0f} MiB")
        raw.close()
    wait_until("descriptors are given back", lambda: rig.count_descriptors() <= rig.descriptors + 8)


# --------------------------------------------------------------------------- many connections


def flood(address, count, sources=None):
    """Opens connections and reads what each is told; gives (sockets told 220, replies of the rest)."""
    sockets = []
    for number in range(count):
        s = socket.socket()
        s.setblocking(False)
        if sources:
            s.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            s.bind((sources(number), 0))
        s.connect_ex(address)
        sockets.append(s)
    said = {}
    poll = select.poll()
    by_number = {}
    for s in sockets:
        poll.register(s, select.POLLIN)
        by_number[s.fileno()] = s
    deadline = time.monotonic() + 30
    while len(said) < count:
        check(time.monotonic() < deadline, f"only {len(said)} of {count} were told anything")
        for number, _ in poll.poll(100):
            poll.unregister(number)
            try:
                said[number] = by_number[number].recv(4096)
            except OSError as error:
                said[number] = repr(error).encode()
    taken = [by_number[n] for n, words in said.items() if words.startswith(b"220 ")]
    others = {n: words for n, words in said.items() if not words.startswith(b"220 ")}
    for n in others:
        by_number[n].close()
    return taken, list(others.values())


def flooded(rig, sources):
    count = min(5000, many_descriptors() - 1500)
    other = rig.address("other")
    check(other != rig.address(), "one listener")
    with Meanwhile(rig, "other"):
        taken, refused = flood(rig.address(), count, sources)
        try:
            check(len(taken) == 200, f"{len(taken)} were served")
            strange = [r for r in refused if not r.startswith(b"421 4.3.2")]
            check(not strange, f"{len(strange)} were not told 421 4.3.2, for example {strange[:3]}")
            # The rest of the program works as well.
            check(rig.admin("/healthz")[0].endswith("200 OK"), "the admin address does not answer")
            check(isinstance(rig.queue(), list), "the control socket does not answer")
            for _ in range(5):
                one_mail(rig, "other")
            # Here a client is told to come again (V5: 4xx, then it succeeds).
            late = Client(rig, rig.address())
            late.wants("421 4.3.2")
            late.closed()
        finally:
            for s in taken:
                s.close()
    wait_until("the listener serves again", lambda: served(rig), 5)
    wait_until("descriptors are given back", lambda: rig.count_descriptors() <= rig.descriptors + 8)


def served(rig):
    client = Client(rig, rig.address())
    reply = client.reply()
    client.close()
    return reply.startswith("220 ")


@case("G02", "5000 idle connections from one source", more=SECOND_LISTENER)
def _(rig):
    """By the interface a listener has `max_connections` (200) and the rest is told 421 4.3.2; there is
    no limit for each source, so "others" are those of another listener."""
    flooded(rig, lambda number: "127.0.0.2")


@case("G03", "5000 connections from 5000 sources", more=SECOND_LISTENER)
def _(rig):
    """200 of them (`max_connections`) are served, see G02."""
    flooded(rig, lambda number: f"127.{1 + number // 250 % 250}.{number // 65000}.{1 + number % 250}")


@case("G04", "10 000 times connect and RST")
def _(rig):
    """Half of them while the listener is full, where each is refused."""
    many_descriptors()
    address = rig.address()
    linger = struct.pack("ii", 1, 0)
    [one_mail(rig, "in") for _ in range(5)]
    memory, lines = rig.resident(), rig.log.count("\n")

    def worker(count):
        for _ in range(count):
            s = socket.create_connection(address)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            s.close()

    def storm():
        threads = [threading.Thread(target=worker, args=(1250,)) for _ in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]

    storm()
    taken, _ = flood(address, 200)
    storm()
    for s in taken:
        s.close()
    wait_until("descriptors are given back", lambda: rig.count_descriptors() <= rig.descriptors + 8)
    wait_until("the listener serves again", lambda: served(rig), 5)
    rig.good_client()
    check(rig.resident() - memory < 32, f"memory grew by {rig.resident() - memory:.0f} MiB")
    grown = rig.log.count("\n") - lines
    check(grown < 1000, f"{grown} log lines for 10 000 connections that said nothing")


# --------------------------------------------------------------------------- disconnects

TLS_LISTENER = """
[[listener]]
name = "tls"
address = "127.0.0.1:0"
tenant = "acme"
tls = "implicit"
"""


def cut(rig, how, content, at):
    """A client that goes away inside its content."""
    if how == "tls":
        raw = socket.create_connection(rig.address("tls"))
        client = Client(rig, raw, tls=trusting())
    else:
        client = Client(rig, rig.address())
    client.wants("220")
    client.raw(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<b@else.example>\r\nDATA\r\n")
    client.reply()
    for start in ("250", "250", "354"):
        client.wants(start)
    client.raw(content[:at])
    client.reset() if how == "reset" else client.close()


@case("G06", "the connection ends inside the content, at every 100th octet", more=TLS_LISTENER)
def _(rig):
    small = rig.message(b"0123456789\r\n" * 200)
    large = rig.message(b"0123456789abcdef\r\n" * 60_000)
    for how in ("close", "reset", "tls"):
        for at in range(0, len(small), 100):
            cut(rig, how, small, at)
        cut(rig, how, small + b"\r\n.\r", len(small) + 4)
        cut(rig, how, large, len(large) - 7)
    wait_until("all connections have ended", lambda: rig.count_descriptors() <= rig.descriptors + 8)
    nothing_queued(rig)


def hand_in(rig, content, end):
    """Hands in a content, and ends the connection without reading the answer."""
    client = Client(rig, rig.address())
    client.wants("220")
    client.expect("EHLO x", "250")
    client.envelope()
    client.raw(content + b"\r\n.\r\n")
    end(client)


def again(rig, content):
    """The same content in a new session, with its answer read."""
    client = rig.client()
    client.envelope()
    reply = client.content(content)
    check(reply.startswith("250 2.0.0"), f"the repeat was answered {reply!r}")
    client.expect("QUIT", "221")


CONTENTS = {"small": b"Hello.", "large": b"0123456789abcdef\r\n" * 40_000}


def arrive_once(rig, contents):
    """Each arrives exactly once. V2 looks for those that come twice when all is done; here for what
    is still on its way."""
    wait_until("all is delivered", lambda: not rig.queue())
    tokens = rig.upstream.tokens()
    counts = {name: tokens.count(TOKEN.search(content)[0]) for name, content in contents.items()}
    wrong = [f"{name}: {count} times" for name, count in counts.items() if count != 1]
    check(not wrong, f"V2: {len(wrong)} of {len(counts)} arrived: {'; '.join(wrong)}")


def taken_so_far(rig):
    return rig.log.count("event=accepted") + rig.log.count("event=duplicate")


@case("G07", "the client goes away after the final dot, before our reply")
def _(rig):
    """By `[duplicates]` instead of R7's hour. The repeat comes at once, or when the first is taken; five
    times each, for it is a race."""
    contents = {}
    variants = (("close", "at once"), ("close", "later"), ("reset", "at once"))
    for size, body in CONTENTS.items():
        for number in range(5):
            for how, when in variants:
                content = contents[f"{size}, {how}, {when}, {number}"] = rig.message(body)
                before = taken_so_far(rig)
                hand_in(rig, content, Client.reset if how == "reset" else Client.close)
                if when == "later":
                    wait_until("the first is taken", lambda: taken_so_far(rig) > before)
                again(rig, content)
    arrive_once(rig, contents)


@case("G08", "RST after our 250, which nobody has read")
def _(rig):
    """Ten times, for whether the server has seen the RST when the repeat comes is a race."""
    contents = {}

    def wait_and_reset(client):
        answer = client.socket.recv(64, socket.MSG_PEEK)
        check(answer.startswith(b"250 2.0.0"), f"answered {answer!r}")
        client.reset()

    for number in range(10):
        for size, body in CONTENTS.items():
            content = contents[f"{size} {number}"] = rig.message(body)
            hand_in(rig, content, wait_and_reset)
            again(rig, content)
    arrive_once(rig, contents)


@case("G09", "a commit that takes longer than the client waits")
def _(rig):
    """All times of the row divided by four: a sync takes 3 s, the client waits 2.5 s, we must have
    answered within 15 s."""
    trace = subprocess.Popen(
        ["strace", "-f", "-q", "-p", str(rig.process.pid), "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=3000000", "-o", "/dev/null"],
        stderr=subprocess.PIPE,
    )
    try:
        status = pathlib.Path(f"/proc/{rig.process.pid}/task/{rig.process.pid}/status")
        wait_until("strace watches", lambda: "TracerPid:\t0" not in status.read_text() and trace.poll() is None)
        content = rig.message()
        began = time.monotonic()

        def impatient(client):
            ready, _, _ = select.select([client.socket], [], [], 2.5)
            check(not ready, "the commit was not slow")
            client.close()

        hand_in(rig, content, impatient)
        again(rig, content)
        took = time.monotonic() - began
        check(took < 15, f"the answer came after {took:.0f} s")
    finally:
        trace.terminate()
        trace.wait()
    arrive_once(rig, {"slow": content})


@case("G10", "half-closed after the final dot")
def _(rig):
    for body in CONTENTS.values():
        client = rig.client()
        client.envelope()
        content = rig.message(body)
        client.raw(content + b"\r\n.\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        reply = client.reply()
        rig.note(content, reply)
        check(reply.startswith("250 2.0.0"), f"answered {reply!r}")
        client.closed()
    rig.delivered(len(CONTENTS))


@case("G11", "1000 messages on one connection")
def _(rig):
    """the interface has no limit of messages or of an hour to a connection."""
    client = rig.client()
    before = rig.resident()
    for _ in range(1000):
        client.raw(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<b@else.example>\r\nDATA\r\n")
        for start in ("250", "250", "354"):
            client.wants(start)
        check(client.content(rig.message()).startswith("250 2.0.0"), "refused")
    client.expect("QUIT", "221")
    rig.delivered(1000)
    check(rig.resident() - before < 48, f"memory grew by {rig.resident() - before:.0f} MiB")


@case("G12", "SIGTERM during 200 open DATA")
def _(rig):
    """`drain` is 5 s here. A new client is told 421, or finds nobody listening."""
    clients, contents = [], []
    for _ in range(199):
        client = rig.client()
        client.envelope()
        content = rig.message(b"0123456789\r\n" * 50)
        client.raw(content[:300])
        clients.append(client)
        contents.append(content)
    idle = rig.client()
    address = rig.address()
    rig.signal(signal.SIGTERM)
    check(idle.reply().startswith("421 4.3.2"), "an idle client was not told 421 4.3.2")
    idle.closed()
    try:
        late = Client(rig, address)
        late.wants("421 4.3.2")
        late.closed()
    except ConnectionRefusedError:
        pass
    for client, content in list(zip(clients, contents))[:100]:
        client.raw(content[300:] + b"\r\n.\r\n")
    for client, content in list(zip(clients, contents))[:100]:
        reply = client.reply()
        rig.note(content, reply)
        check(reply.startswith("250 2.0.0"), f"content that was finished in time was answered {reply!r}")
    began = time.monotonic()
    last = clients[-1].reply()
    check(time.monotonic() - began < 10, "the end came late")
    check(rig.wait_exit() == 0, f"exit code {rig.process.returncode}")
    # Nothing half-queued.
    taken = {t.decode() for c in contents[:100] for t in TOKEN.findall(c)}
    delivered = {t.decode() for t in rig.upstream.tokens()}
    check(delivered <= taken, "something was delivered that was not answered 250")
    waiting = rig.queue()
    check(len(waiting) + len(delivered) >= 100, f"{len(waiting)} wait, {len(delivered)} are delivered")
    for client in clients:
        client.close()
    rig.start()
    rig.delivered(100)
    wait_until("the spool is empty", lambda: not rig.queue())
    check(len(set(rig.upstream.tokens())) == 100, "not exactly what was answered 250")
    check(spool_files(rig) == [], f"left behind: {spool_files(rig)}")
    check(last.startswith("421 4.3.2"), f"content that was not finished was answered {last!r} instead of 421")


@case("G13", "1000 SIGHUP in a second")
def _(rig):
    descriptors, memory = rig.count_descriptors(), rig.resident()
    with Meanwhile(rig):
        began = time.monotonic()
        for number in range(1000):
            rig.signal(signal.SIGHUP)
            rest = began + number / 1000 - time.monotonic()
            if rest > 0:
                select.select([], [], [], rest)
    rig.wait_log("event=reloaded")
    # Still alive, and what is written now is read.
    text = (rig.directory / "tenants/acme.toml").read_text()
    rig.tenant("acme", text.replace('name = "ACME"', 'name = "Another Name"'))
    rig.signal(signal.SIGHUP)

    def renamed():
        one_mail(rig, "in")
        return any("Another Name" in m.text for m in list(rig.upstream.received))

    wait_until("the last change is in force", renamed)
    wait_until("descriptors are given back", lambda: rig.count_descriptors() <= descriptors + 8)
    check(rig.resident() - memory < 32, f"memory grew by {rig.resident() - memory:.0f} MiB")
    check("reload-refused" not in rig.log, "a reload was refused")


class Forgetful(Upstream):
    """Keeps of each message only its token."""

    def __init__(self):
        super().__init__()
        self.on["dot"] = self.forget

    def forget(self, session, content):
        token = TOKEN.search(content[:4000])
        with self.lock:
            self.received.append(Received(session.sender, session.recipients, token[0] if token else b"", session.number))
        return "250 2.0.0 taken"


@case("G14", "36 MiB × 100 at once", upstream=Forgetful, server='spool_limit = "1GiB"')
def _(rig):
    piece = b"0123456789abcdef" * 4 + b"\r\n"
    body = memoryview(piece * (36 * 1024 * 1024 // len(piece)))
    clients = []
    for _ in range(100):
        client = rig.client()
        client.envelope()
        # Some hundred MiB stand in the kernel's buffers before it is a connection's turn again.
        client.socket.settimeout(300)
        clients.append((client, rig.message(b"")))
    replies = []
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                if not waiting:
                    return
                client, head = waiting.pop()
            client.raw(body[at[client] : at[client] + (4 << 20)])
            at[client] += 4 << 20
            if at[client] < len(body):
                with lock:
                    waiting.insert(0, (client, head))
                continue
            reply = client.content(b"")
            with lock:
                rig.note(head, reply)
                replies.append(reply)

    at = {client: 0 for client, _ in clients}
    for client, head in clients:
        client.raw(head)
    waiting = list(clients)
    threads = [threading.Thread(target=work) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    check(len(replies) == 100, f"{len(replies)} were answered")
    taken = [r for r in replies if r.startswith("250 2.0.0")]
    check(len(taken) >= 28, f"only {len(taken)} were taken, 1 GiB holds 28")
    strange = [r for r in replies if not r.startswith(("250 2.0.0", "452 4.3.1"))]
    check(not strange and len(taken) < 100, f"{len(taken)} taken, others answered {strange[:3]}")
    check(rig.resident(peak=True) <= 256, f"memory rose to {rig.resident(peak=True):.0f} MiB")
