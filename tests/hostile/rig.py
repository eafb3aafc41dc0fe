"""What every case of the catalogue uses: an installation in a fresh directory, the real server, raw
clients, an upstream that says what a case wants, and the invariants that are checked after it.

A case is a function with `@case("A01", "what it is")`; it gets a `Rig`:

    @case("B05", "MAIL before EHLO")
    def _(rig):
        client = rig.client(ehlo=False)
        client.expect("MAIL FROM:<a@b.example>", "503 5.5.1")

Invariants (checked by `Rig.close` after every case):

V1  Every content answered 250 is in the spool or at the upstream, every other is not.
V2  What reached the upstream holds no bare CR, no bare LF, no NUL; nothing arrived that no client
    handed in (nothing smuggled), nothing twice.
V3  No canary secret in log, replies, bounces, metrics, files of the data directory.
V4  The server lives, or ended with the code that the case names; its descriptors are back.
V5  A well-behaved client succeeds meanwhile.
V6  No log line or reply with a raw control character; no more than 80 octets of client text.

A content is known by its token: `rig.message()` puts a fresh one into the subject; raw contents of
a case carry `rig.token()` where a message would be told apart by it.
"""

import json, os, pathlib, re, secrets, select, shutil, signal, socket, ssl, subprocess, tempfile, threading, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("POSTBOTE_BINARY") or str(ROOT / "target/debug/postbote")
LIMIT = 30.0

CASES = {}
"""Every case by id: (title, function, settings)."""

REASONS = {}
"""Why a row of the catalogue has no case, by id."""


def case(identity, title, **settings):
    """Registers a case. `settings`: arguments of `Rig`."""

    def register(function):
        assert identity not in CASES, f"{identity} twice"
        CASES[identity] = (title, function, settings)
        return function

    return register


def not_here(identity, reason):
    """A row that does not apply, or whose outcome is wrong, with the reason."""
    REASONS[identity] = reason


class Broken(AssertionError):
    """A case's outcome is not the required one."""


def check(condition, words):
    if not condition:
        raise Broken(words)


def wait_until(what, condition, limit=LIMIT):
    """Waits for something in another process; gives what the condition gave."""
    deadline = time.monotonic() + limit
    while True:
        found = condition()
        if found:
            return found
        check(time.monotonic() < deadline, f"did not happen within {limit:.0f} s: {what}")
        select.select([], [], [], 0.01)


# --------------------------------------------------------------------------- clients


class Client:
    """An SMTP client that sends exactly what it is told."""

    def __init__(self, rig, address, tls=None):
        self.rig = rig
        self.socket = socket.create_connection(address, timeout=LIMIT) if isinstance(address, tuple) else address
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(LIMIT)
        if tls:
            self.socket = tls.wrap_socket(self.socket)
        self.buffer = b""

    def raw(self, octets, split=None):
        """Sends octets; `split`: at most so many at once, each in a segment of its own."""
        if split is None:
            self.socket.sendall(octets)
        else:
            for start in range(0, len(octets), split):
                self.socket.sendall(octets[start : start + split])

    def line(self):
        """One line of the server without its end; None at the end of the connection."""
        while b"\n" not in self.buffer:
            try:
                more = self.socket.recv(65536)
            except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
                more = b""
            if not more:
                return None
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\n", 1)
        self.rig.replies.append(line)
        return line.rstrip(b"\r").decode("utf-8", "replace")

    def reply(self):
        """A whole reply, lines joined by newlines; "" at the end of the connection."""
        lines = []
        while True:
            line = self.line()
            if line is None:
                return "\n".join(lines)
            lines.append(line)
            if line[3:4] != "-":
                return "\n".join(lines)

    def send(self, line):
        self.raw((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def expect(self, line, start):
        """Sends a line whose reply must begin so (one of them, if a tuple)."""
        got = self.send(line)
        check(got.startswith(start), f"to {line[:200]!r}: wanted {start}, got {got[:200]!r}")
        return got

    def wants(self, start):
        """The next reply must begin so."""
        got = self.reply()
        check(got.startswith(start), f"wanted {start}, got {got!r}")
        return got

    def closed(self):
        """The server must have closed, after at most so many more octets."""
        while (line := self.line()) is not None:
            raise Broken(f"wanted the end of the connection, got {line!r}")

    def login(self, user, password, start="235"):
        import base64

        token = base64.b64encode(b"\0" + user.encode() + b"\0" + password.encode()).decode()
        return self.expect("AUTH PLAIN " + token, start)

    def starttls(self):
        self.expect("STARTTLS", "220")
        self.socket = trusting().wrap_socket(self.socket, server_hostname="postbote.test")
        self.buffer = b""

    def envelope(self, sender="app@source.example", to=("b@else.example",)):
        """MAIL, RCPTs, DATA up to 354."""
        self.expect(f"MAIL FROM:<{sender}>", "250")
        for address in to:
            self.expect(f"RCPT TO:<{address}>", "250")
        self.expect("DATA", "354")

    def content(self, octets, split=None, dot=b"\r\n.\r\n"):
        """Sends a raw content (as on the wire, stuffed by the caller) with the final dot; gives the
        reply, and notes for V1 what was said of it."""
        self.raw(octets + dot, split)
        reply = self.reply()
        self.rig.note(octets, reply)
        return reply

    def message(self, octets=None, **envelope):
        """A whole transaction that must succeed; gives the id of the message."""
        self.envelope(**envelope)
        reply = self.content(octets if octets is not None else self.rig.message())
        check(reply.startswith("250 2.0.0"), f"a good message was answered {reply!r}")
        return reply.rsplit(" ", 1)[-1]

    def reset(self):
        """Ends the connection with RST."""
        import struct

        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()


def trusting():
    """A TLS context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# --------------------------------------------------------------------------- upstreams


class Received:
    """A message as an upstream took it."""

    def __init__(self, sender, recipients, raw, connection):
        self.sender, self.recipients, self.raw, self.connection = sender, recipients, raw, connection

    @property
    def text(self):
        return self.raw.decode("utf-8", "replace")

    def fields(self, name):
        """The unfolded values of a header field."""
        head = self.raw.split(b"\r\n\r\n", 1)[0].decode("utf-8", "replace")
        head = re.sub(r"\r\n(?=[ \t])", "", head)
        found = []
        for line in head.split("\r\n"):
            if line.lower().startswith(name.lower() + ":"):
                found.append(line.split(":", 1)[1].strip())
        return found

    @property
    def body(self):
        parts = self.raw.split(b"\r\n\r\n", 1)
        return parts[1] if len(parts) > 1 else b""


class Upstream:
    """An SMTP server. Without more it takes all mail; a case changes what it says:

    `on[STAGE]` is called with the `Session` and the line instead of the usual answer, where STAGE is
    "banner", a verb ("EHLO", "MAIL", …) or "dot" (the line is then the content). Whatever it returns
    is sent (bytes or str, line end included by the caller's wish: a str gets CRLF); None: nothing.
    `Session.close()` ends the connection. Unset stages answer as always.
    """

    def __init__(self, capabilities=("PIPELINING", "8BITMIME", "SIZE 50000000", "DSN", "SMTPUTF8"), tls=None, login=None, port=0):
        self.on, self.capabilities, self.tls, self.login = {}, list(capabilities), tls, login
        self.received, self.lines, self.connections, self.logins = [], [], 0, 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=200)
        self.port = self.listener.getsockname()[1]
        self.ended = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while not self.ended:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                number = self.connections
            threading.Thread(target=Session(self, connection, number).run, daemon=True).start()

    def close(self):
        self.ended = True
        # Without shutdown a blocked accept() keeps the port.
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()

    def wait(self, count):
        return wait_until(f"{count} messages at the upstream", lambda: len(self.received) >= count and list(self.received))

    def tokens(self):
        return [token for message in list(self.received) for token in TOKEN.findall(message.raw)]


class Session:
    """One connection at an upstream."""

    def __init__(self, upstream, connection, number):
        self.upstream, self.socket, self.number = upstream, connection, number
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer, self.sender, self.recipients = b"", None, []
        self.secure = self.closed = self.authenticated = False

    def say(self, words):
        if words is not None and not self.closed:
            self.socket.sendall(words.encode("utf-8", "surrogateescape") + b"\r\n" if isinstance(words, str) else words)

    def close(self, reset=False):
        import struct

        self.closed = True
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            if not reset:
                self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def line(self):
        while b"\n" not in self.buffer:
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r")

    def start_tls(self):
        self.socket = self.upstream.tls.wrap_socket(self.socket, server_side=True)
        self.buffer, self.secure = b"", True

    def run(self):
        try:
            if self.upstream.tls and getattr(self.upstream, "implicit", False):
                self.start_tls()
            self.say(self._answer("banner", b"", lambda: "220 upstream.example ESMTP"))
            while not self.closed:
                line = self.line()
                with self.upstream.lock:
                    self.upstream.lines.append(line)
                verb = line.split(b" ")[0].upper().decode("latin-1")
                self.say(self._answer(verb, line, lambda: self._usual(verb, line)))
        except (OSError, ConnectionError, ValueError):
            pass
        finally:
            self.socket.close()

    def _answer(self, stage, line, usual):
        handler = self.upstream.on.get(stage)
        return handler(self, line) if handler else usual()

    def _usual(self, verb, line):
        if verb == "EHLO":
            self.sender, self.recipients = None, []
            words = ["upstream.example"] + self.upstream.capabilities
            if self.upstream.tls and not self.secure:
                words.append("STARTTLS")
            if self.upstream.login:
                words.append("AUTH PLAIN LOGIN")
            return "\r\n".join(f"250{'-' if n + 1 < len(words) else ' '}{word}" for n, word in enumerate(words))
        if verb == "STARTTLS" and self.upstream.tls:
            self.say("220 go")
            self.start_tls()
            return None
        if verb == "AUTH":
            import base64

            with self.upstream.lock:
                self.upstream.logins += 1
            user, password = self.upstream.login or ("", "")
            token = base64.b64encode(b"\0" + user.encode() + b"\0" + password.encode())
            self.authenticated = line.split(b" ")[-1] == token
            return "235 2.7.0 ok" if self.authenticated else "535 5.7.8 wrong"
        if verb == "MAIL":
            self.sender, self.recipients = line.split(b"<", 1)[1].split(b">", 1)[0].decode("utf-8", "replace"), []
            return "250 2.1.0 ok"
        if verb == "RCPT":
            self.recipients.append(line.split(b"<", 1)[1].split(b">", 1)[0].decode("utf-8", "replace"))
            return "250 2.1.5 ok"
        if verb == "DATA":
            if not self.recipients and "RCPT" not in self.upstream.on:
                return "554 5.5.1 no valid recipients"
            self.say("354 go")
            content = self.data()
            return self._answer("dot", content, lambda: self.take(content))
        if verb == "RSET":
            self.sender, self.recipients = None, []
            return "250 2.0.0 reset"
        if verb == "QUIT":
            self.say("221 2.0.0 bye")
            self.close()
            return None
        return "250 2.0.0 ok"

    def data(self):
        """The content after 354, unstuffed, without the final dot."""
        # The line end before the content belongs to the command; what was searched is not searched
        # again: large contents would hold up everything else in this process.
        content = bytearray(b"\r\n" + self.buffer)
        searched = 0
        while (end := content.find(b"\r\n.\r\n", max(0, searched))) < 0:
            searched = len(content) - 4
            more = self.socket.recv(1 << 20)
            if not more:
                raise ConnectionError
            content += more
        self.buffer = bytes(content[end + 5 :])
        del content[end + 2 :], content[:2]
        content = bytes(content)
        if content.startswith(b".") or b"\r\n." in content:
            return re.sub(rb"(\A|\r\n)\.", rb"\1", content)
        return content

    def take(self, content):
        """Stores a content as a message; gives the usual answer."""
        with self.upstream.lock:
            self.upstream.received.append(Received(self.sender, list(self.recipients), content, self.number))
        return "250 2.0.0 taken"


# --------------------------------------------------------------------------- the rig

TOKEN = re.compile(rb"token-[0-9a-f]{16}")

OPERATOR = """
[server]
hostname = "postbote.test"
data_dir = "data"
language = "en"
drain = "5s"
{server}
[[listener]]
name = "in"
address = "127.0.0.1:0"
tenant = "acme"
{listener}
[admin]
address = "127.0.0.1:0"
[retry]
first = "1s"
maximum = "1s"
{retry}
{more}
"""

TENANT = """
name = "ACME"
email = "office@acme.example"
{tenant}
[upstream]
host = "127.0.0.1"
port = {port}
encryption = "none"
{upstream}
{after}
"""

CANARY = "canary-" + "5ecre7f0und"
"""A secret that cases configure; it may stand nowhere but in the configuration."""


class Rig:
    """An installation with a running server, one tenant `acme` and its upstream.

    `server`, `listener`, `retry`, `more`: text for these places of the operator's file; `tenant`,
    `upstream_keys`, `after`: of the tenant's. `start=False`: the case starts it. `wrapper`: words in
    front of the program. `environment`: for the server. `operator_text`/`tenant_text`: whole files
    instead.
    """

    def __init__(self, server="", listener="", retry="", more="", tenant="", upstream_keys="", after="", start=True, wrapper=(), environment=None, upstream=None, operator_text=None, tenant_text=None):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="postbote-hostile-"))
        (self.directory / "tenants").mkdir()
        self.upstream = upstream() if upstream else Upstream()
        self.upstreams = [self.upstream]
        self.replies, self.said, self.clients = [], {}, []
        self.canaries = [CANARY.encode()]
        self.exit_code = None  # a case that ends the server names the code here
        self.may_repeat = set()  # tokens that may arrive twice (an ambiguous answer)
        self.may_be_lost = set()  # tokens whose 250 was never read: V1 does not know them
        self.may_arrive = set()  # tokens of unknown fate that may have been taken
        self.process = None
        self.wrapper, self.environment = list(wrapper), dict(environment or {})
        self.starts = 0
        self.write("postbote.toml", operator_text if operator_text is not None else OPERATOR.format(server=server, listener=listener, retry=retry, more=more))
        self.tenant("acme", tenant_text if tenant_text is not None else TENANT.format(tenant=tenant, port=self.upstream.port, upstream=upstream_keys, after=after))
        if start:
            self.start()

    # ---- files

    def write(self, name, text):
        """Writes a file as editors do: another, renamed."""
        path = self.directory / name
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(text) if isinstance(text, str) else temporary.write_bytes(text)
        temporary.rename(path)
        return path

    def tenant(self, identity, text):
        return self.write(f"tenants/{identity}.toml", text)

    def another_tenant(self, identity, more="", upstream=None, after=""):
        """A second tenant with an upstream of its own; gives the upstream."""
        upstream = upstream or Upstream()
        self.upstreams.append(upstream)
        text = TENANT.format(tenant=more, port=upstream.port, upstream="", after=after)
        self.tenant(identity, text.replace("acme.example", f"{identity}.example").replace('"ACME"', f'"{identity}"'))
        return upstream

    @property
    def data(self):
        return self.directory / "data"

    # ---- the server

    def start(self, wait=True):
        self.starts += 1
        self.log_path = self.directory / f"log.{self.starts}"
        environment = {**os.environ, "RUST_BACKTRACE": "0", **self.environment, "POSTBOTE_CONFIG": str(self.directory / "postbote.toml")}
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([*self.wrapper, BINARY, "run"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.directory)
        if wait:
            self.wait_log("event=started")
            self.descriptors = self.count_descriptors()
        return self

    @property
    def log(self):
        return self.log_path.read_bytes().decode("utf-8", "replace")

    def wait_log(self, *words, count=1, limit=LIMIT):
        """Waits for lines of the log that hold all the words; gives them."""

        def look():
            found = [line for line in self.log.splitlines() if all(word in line for word in words)]
            if len(found) < count and self.process.poll() is not None:
                raise Broken(f"the server ended with {self.process.returncode} before {words}:\n{self.log[-3000:]}")
            return found if len(found) >= count else None

        try:
            return wait_until(f"{count} log lines with {words}", look, limit)
        except Broken as broken:
            raise Broken(f"{broken}\n{self.log[-3000:]}") from None

    def address(self, listener="in"):
        line = self.wait_log("event=listening", f"listener={listener} ")[-1]
        host, port = line.rsplit("address=", 1)[1].split()[0].rsplit(":", 1)
        return host, int(port)

    def admin(self, path):
        """HTTP GET at the admin address; gives status line and body."""
        with socket.create_connection(self.address("admin"), timeout=LIMIT) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            text = b"".join(iter(lambda: connection.recv(65536), b"")).decode("utf-8", "replace")
        head, _, body = text.partition("\r\n\r\n")
        return head.split("\r\n")[0], body

    def metric(self, start):
        """The sum of all metrics whose line begins so."""
        _, text = self.admin("/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(start))

    def count_descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident(self, peak=False):
        """Memory of the server in MiB."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)" if peak else r"VmRSS:\s+(\d+)", text)[1]) / 1024

    def signal(self, number):
        self.process.send_signal(number)

    def wait_exit(self, limit=LIMIT):
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise Broken(f"the server has not ended within {limit} s") from None

    def stop(self):
        self.signal(signal.SIGTERM)
        return self.wait_exit()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def run(self, *arguments, input=b"", code=0):
        """Runs a command of the program; its exit code must be this one (None: any)."""
        environment = {**os.environ, **self.environment, "POSTBOTE_CONFIG": str(self.directory / "postbote.toml")}
        done = subprocess.run([BINARY, *arguments], input=input, capture_output=True, env=environment, cwd=self.directory, timeout=60)
        check(code is None or done.returncode == code, f"{arguments}: exit code {done.returncode}, wanted {code}: {done.stderr.decode('utf-8', 'replace')}")
        return done

    def queue(self):
        """`queue list --json`."""
        return json.loads(self.run("queue", "list", "--json").stdout)

    def bodies(self):
        """Names of the body files that messages have. Others are free slots, used again."""
        import sqlite3

        self.run("queue", "list", "--json", code=None)  # what is young is in the database then
        free = [path for path in (self.data / "spool/bodies").iterdir()]
        check(len(free) <= 64 + 200, f"{len(free)} body files")
        with sqlite3.connect(f"file:{self.data}/spool/spool.sqlite?mode=ro", uri=True) as database:
            return sorted(name for (name,) in database.execute("SELECT body FROM messages WHERE body IS NOT NULL"))

    # ---- clients and contents

    def client(self, listener="in", ehlo=True, greet=True):
        client = Client(self, self.address(listener))
        self.clients.append(client)
        if greet:
            client.wants("220 ")
            if ehlo:
                client.expect("EHLO client.example", "250")
        return client

    def token(self):
        return "token-" + secrets.token_hex(8)

    def message(self, body=b"Hello,\r\nthis is a test.", header=b""):
        """A small message with a fresh token; as on the wire, without the final dot."""
        return f"From: app@source.example\r\nTo: b@else.example\r\nSubject: {self.token()}\r\n".encode() + header + b"\r\n" + body

    def note(self, content, reply):
        for token in TOKEN.findall(content):
            self.said.setdefault(token, []).append(reply[:3])

    def good_client(self):
        """V5: somebody else's mail goes through; gives its token."""
        client = Client(self, self.address())
        client.wants("220")
        client.expect("EHLO good.example", "250")
        content = self.message()
        client.message(content)
        client.expect("QUIT", "221")
        client.close()
        return TOKEN.search(content)[0]

    def delivered(self, count=1):
        """Waits until so many messages have come to the upstream; gives them."""
        return self.upstream.wait(count)

    # ---- the end of a case

    def close(self, good_client=True):
        """Checks the invariants and takes everything down."""
        try:
            alive = self.process is not None and self.process.poll() is None
            if self.process is not None and self.exit_code is None:
                check(alive, f"V4: the server ended with {self.process.poll()}:\n{self.log[-3000:]}")
            if self.exit_code is not None:
                check(not alive and self.process.returncode == self.exit_code, f"V4: wanted exit code {self.exit_code}, it is {self.process.poll()}")
            if alive and good_client:
                self.good_client()  # V5
            if alive:
                self.check_mail()
                for client in self.clients:
                    client.close()
                if hasattr(self, "descriptors"):
                    # Kept connections to upstreams and logs may stay; a leak grows with the case.
                    allowed = 8 + 2 * len(list((self.directory / "tenants").glob("*.toml")))
                    wait_until("V4: descriptors are given back", lambda: self.count_descriptors() <= self.descriptors + allowed)
            self.check_words()
        finally:
            for client in self.clients:
                client.close()
            if self.process is not None and self.process.poll() is None:
                self.kill()
            for upstream in self.upstreams:
                upstream.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    def check_mail(self):
        """V1 and V2."""
        taken = {token for token, answers in self.said.items() if "250" in answers} - self.may_be_lost

        def settled():
            arrived = {token.encode() for u in self.upstreams for token in map(bytes.decode, u.tokens())}
            missing = taken - arrived
            if not missing:
                return True
            waiting = self.queue()
            kept = len([m for m in waiting])
            return kept >= len(missing)

        wait_until(f"V1: every message answered 250 is in the spool or delivered: {sorted(taken)}", settled)
        arrived = [token for u in self.upstreams for message in list(u.received) for token in set(TOKEN.findall(message.raw)) if not is_bounce(message)]
        for token in arrived:
            known = token in taken or token in self.may_arrive or token in self.may_be_lost
            check(known, f"V1/V2: {token.decode()} arrived, its sender was told {self.said.get(token, 'nothing')}")
        for token in set(arrived):
            check(arrived.count(token) == 1 or token in self.may_repeat, f"V2: {token.decode()} arrived {arrived.count(token)} times")
        for u in self.upstreams:
            for message in list(u.received):
                bare = re.search(rb"(?<!\r)\n|\r(?!\n)|\0", message.raw)
                check(bare is None, f"V2: {bare and bare[0]!r} at the upstream in {message.raw[:400]!r}")

    def check_words(self):
        """V3 and V6."""
        logs = b"".join(path.read_bytes() for path in self.directory.glob("log.*"))
        places = {"the log": logs, "a reply": b"\n".join(self.replies)}
        for upstream in self.upstreams:
            places["a message or bounce"] = b"\n".join(m.raw for m in list(upstream.received))
        if self.process is not None and self.process.poll() is None:
            places["the metrics"] = self.admin("/metrics")[1].encode()
        for path in self.data.rglob("*") if self.data.exists() else ():
            if path.is_file() and not path.name.startswith("spool.sqlite"):
                places[str(path.relative_to(self.directory))] = path.read_bytes()
        for place, octets in places.items():
            for canary in self.canaries:
                check(canary not in octets, f"V3: {canary.decode()} stands in {place}")
        for line in logs.split(b"\n"):
            raw = re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", line)
            check(raw is None, f"V6: a raw control character in the log line {line[:200]!r}")
            check(len(line) < 4096, f"V6: a log line of {len(line)} octets: {line[:200]!r}")
        for line in self.replies:
            raw = re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!$)", line)
            check(raw is None, f"V6: a raw control character in the reply {line[:200]!r}")
            check(len(line) <= 512, f"V6: a reply of {len(line)} octets")


def is_bounce(message):
    return message.sender == "" or b"multipart/report" in message.raw[:4000]
