"""A name server that says what a case wants, on 127.0.0.1 by UDP and TCP.

    names = Server({("acme.example", "TXT"): ["v=spf1 -all"], ("acme.example", "MX"): ["10 mx.acme.example"]})
    names.fail["slow.acme.example"] = "timeout"          # by name, or by (name, type)
    ... POSTBOTE_NAMESERVER = names.address ...
    check(names.count("acme.example", "TXT") == 1); names.close()

Values: A and AAAA an address; CNAME a name; MX "10 host"; TXT a text, split into strings of 255 octets, or a
tuple of strings that stay as they are. An alias is followed as a resolver does. A name is there (no data, not
NXDOMAIN) if it or one below it has any key in `records`, an empty list of values too.

`fail`: "servfail", "refused", "timeout" (no answer), "truncate" (by UDP nothing but the bit that sends to TCP).
Without it an answer is truncated by UDP where it is longer than what the client takes.

`python3 tests/hostile/dns.py` tries all of it.
"""

import contextlib, socket, struct, threading
from types import SimpleNamespace as Record

TYPES = {"A": 1, "CNAME": 5, "SOA": 6, "MX": 15, "TXT": 16, "AAAA": 28, "OPT": 41}
NAMES = {number: name for name, number in TYPES.items()}
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, REFUSED = 0, 1, 2, 3, 5
FAILURES = {"servfail": SERVFAIL, "refused": REFUSED, "timeout": None, "truncate": NOERROR}
RESPONSE, TRUNCATED, WANTS_RECURSION, RECURSES = 0x8000, 0x0200, 0x0100, 0x0080
TTL = 60


def canonical(name):
    """A name as it is looked for: lower case, without the final dot."""
    return name.lower().rstrip(".")


# --------------------------------------------------------------------------- the wire


def pack_name(name):
    labels = [label.encode("utf-8", "surrogateescape") for label in name.rstrip(".").split(".") if label]
    assert all(len(label) < 64 for label in labels), f"a label is too long: {name}"
    packed = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    assert len(packed) < 256, f"too long: {name}"
    return packed


def unpack_name(octets, at):
    """A name that begins there, and where the next thing begins. A pointer only leads backwards."""
    labels, after, limit = [], None, at
    while True:
        length = octets[at]
        if length >= 0xC0:
            after, at = after or at + 2, struct.unpack_from(">H", octets, at)[0] & 0x3FFF
            if at >= limit:
                raise ValueError("a pointer that does not lead back")
            limit = at
        elif length > 63:
            raise ValueError("an unknown kind of label")
        elif not length:
            return ".".join(labels), after or at + 1
        else:
            label = octets[at + 1 : at + 1 + length]
            if len(label) < length:
                raise ValueError("a label without its end")
            labels.append(label.decode("utf-8", "surrogateescape"))
            at += 1 + length


def strings(value):
    """The strings of a TXT value."""
    octets = lambda text: text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if isinstance(value, (tuple, list)):
        return [octets(part) for part in value]
    whole = octets(value)
    return [whole[start : start + 255] for start in range(0, len(whole), 255)] or [b""]


def pack_value(kind, value):
    if kind in ("A", "AAAA"):
        return socket.inet_pton(socket.AF_INET if kind == "A" else socket.AF_INET6, value)
    if kind == "CNAME":
        return pack_name(value)
    if kind == "MX":
        preference, host = value.split()
        return struct.pack(">H", int(preference)) + pack_name(host)
    if kind == "TXT":
        return b"".join(bytes([len(part)]) + part for part in strings(value))
    assert kind == "SOA", f"{kind} is not known here"
    return pack_name(value) * 2 + struct.pack(">5I", 1, 3600, 600, 86400, TTL)


def unpack_value(kind, octets, start, end):
    """The value as `Server` takes it; that of TXT is always a tuple."""
    if kind in ("A", "AAAA"):
        return socket.inet_ntop(socket.AF_INET if kind == "A" else socket.AF_INET6, octets[start:end])
    if kind == "CNAME":
        return unpack_name(octets, start)[0]
    if kind == "MX":
        return f"{struct.unpack_from('>H', octets, start)[0]} {unpack_name(octets, start + 2)[0]}"
    if kind == "TXT":
        parts = []
        while start < end:
            parts.append(octets[start + 1 : start + 1 + octets[start]].decode("utf-8", "surrogateescape"))
            start += 1 + octets[start]
        return tuple(parts)
    return octets[start:end]


def pack(identity, flags, question, answers=(), authority=(), payload=None):
    """A message with one question (name, type); records are (name, type, value). `payload`: the octets that
    are taken by UDP, said in an OPT record."""
    asked = pack_name(question[0])
    message = struct.pack(">6H", identity, flags, 1, len(answers), len(authority), payload is not None)
    message += asked + struct.pack(">2H", TYPES.get(question[1], question[1]), 1)
    for name, kind, value in (*answers, *authority):
        owner = b"\xc0\x0c" if pack_name(name).lower() == asked.lower() else pack_name(name)
        data = pack_value(kind, value)
        message += owner + struct.pack(">2HIH", TYPES[kind], 1, TTL, len(data)) + data
    return message + (b"\0" + struct.pack(">2HIH", TYPES["OPT"], payload, 0, 0) if payload is not None else b"")


def unpack(octets):
    """A message: `id`, `flags`, `code`, `truncated`, `question` (name, type), `answers`, `authority`, `payload`."""
    try:
        identity, flags, *counts = struct.unpack_from(">6H", octets)
        if counts[0] != 1:
            raise ValueError("not one question")
        name, at = unpack_name(octets, 12)
        kind, _ = struct.unpack_from(">2H", octets, at)
        question, at, sections, payload = (name, NAMES.get(kind, kind)), at + 4, [], None
        for count in counts[1:]:
            sections.append([])
            for _ in range(count):
                owner, at = unpack_name(octets, at)
                kind, size, _, length = struct.unpack_from(">2HIH", octets, at)
                start, at = at + 10, at + 10 + length
                if at > len(octets):
                    raise ValueError("a value without its end")
                if kind == TYPES["OPT"]:
                    payload = size
                else:
                    sections[-1].append((owner, NAMES.get(kind, kind), unpack_value(NAMES.get(kind), octets, start, at)))
    except (IndexError, struct.error, OSError) as error:
        raise ValueError(f"not a message: {error}") from None
    return Record(id=identity, flags=flags, code=flags & 15, truncated=bool(flags & TRUNCATED), question=question, answers=sections[0], authority=sections[1], payload=payload)


# --------------------------------------------------------------------------- the server


class Server:
    """A name server. `records`: {(name, type): [values]}; `queries`: all that was asked, each with `name`
    (canonical), `type`, `transport` ("udp", "tcp")."""

    def __init__(self, records=(), port=0):
        self.fail, self.queries, self.ended, self.connections = {}, [], False, set()
        self.load(records)
        self.listener, self.socket = bind(port)
        self.port = self.listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.threads = [threading.Thread(target=serve, daemon=True) for serve in (self._datagrams, self._accept)]
        for thread in self.threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def load(self, records):
        """These records in place of all others."""
        loaded = {}
        for (name, kind), values in dict(records).items():
            for value in values:
                pack_value(kind, value)
            pack_name(name)
            loaded.setdefault((canonical(name), kind), []).extend(values)
        self.records = loaded

    def count(self, name=None, kind=None, transport=None):
        """How many questions were of that name, type, transport."""
        wanted = [(field, value) for field, value in (("name", name and canonical(name)), ("type", kind), ("transport", transport)) if value is not None]
        return sum(all(getattr(query, field) == value for field, value in wanted) for query in list(self.queries))

    def names(self, kind=None):
        """The names that were asked for, each once, in order."""
        return list(dict.fromkeys(query.name for query in list(self.queries) if kind in (None, query.type)))

    def forget(self):
        """Counts from now on, and nothing fails any more."""
        self.queries.clear()
        self.fail.clear()

    def close(self):
        self.ended = True
        for each in (self.listener, *list(self.connections)):
            # Without shutdown a blocked call keeps the port.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        with contextlib.suppress(OSError):
            self.socket.sendto(b"", self.socket.getsockname())  # wakes its thread
        for thread in self.threads:
            thread.join(5)
        self.socket.close()

    # ---- what is said

    def _exists(self, name):
        return any(known == name or known.endswith("." + name) or not name for known, _ in self.records)

    def _look_up(self, name, kind):
        """(code, answers) of a resolver."""
        answers, seen, owner = [], set(), canonical(name)
        shown = name
        while True:
            values = self.records.get((owner, kind))
            if values:
                return NOERROR, answers + [(shown, kind, value) for value in values]
            alias = self.records.get((owner, "CNAME"))
            if not alias or kind == "CNAME" or owner in seen:
                break
            seen.add(owner)
            answers.append((shown, "CNAME", alias[0]))
            shown, owner = alias[0], canonical(alias[0])
        if owner in seen:
            return SERVFAIL, []
        return (NOERROR if self._exists(owner) else NXDOMAIN), answers

    def answer(self, octets, transport):
        """The answer to a message; None: there is none."""
        try:
            asked = unpack(octets)
        except ValueError:
            return octets[:2] + struct.pack(">5H", RESPONSE | FORMERR, 0, 0, 0, 0) if len(octets) >= 12 and not octets[2] & 0x80 else None
        if asked.flags & RESPONSE:
            return None
        name, kind = canonical(asked.question[0]), asked.question[1]
        self.queries.append(Record(name=name, type=kind, transport=transport))
        failure = self.fail.get((name, kind), self.fail.get(name))
        assert failure is None or failure in FAILURES, f"{failure} is not known here"
        if failure == "timeout":
            return None
        code, answers = self._look_up(asked.question[0], kind)
        if failure in ("servfail", "refused"):
            code, answers = FAILURES[failure], []
        flags = RESPONSE | RECURSES | asked.flags & WANTS_RECURSION | code
        authority = [("", "SOA", "names.example")] if code in (NOERROR, NXDOMAIN) and not (answers and code == NOERROR) else []
        payload = None if asked.payload is None else 1232
        whole = pack(asked.id, flags, asked.question, answers, authority, payload)
        assert len(whole) < 65536, f"{name} has more than a message can hold"
        if transport == "udp" and (failure == "truncate" or len(whole) > max(512, asked.payload or 0)):
            return pack(asked.id, flags | TRUNCATED, asked.question, payload=payload)
        return whole

    def _datagrams(self):
        while not self.ended:
            try:
                octets, client = self.socket.recvfrom(65535)
                if not self.ended and (said := self.answer(octets, "udp")):
                    self.socket.sendto(said, client)
            except OSError:
                if self.ended:
                    return

    def _accept(self):
        while not self.ended:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.add(connection)
            threading.Thread(target=self._stream, args=(connection,), daemon=True).start()

    def _stream(self, connection):
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            while len(head := stream.read(2)) == 2:
                if said := self.answer(stream.read(int.from_bytes(head, "big")), "tcp"):
                    connection.sendall(len(said).to_bytes(2, "big") + said)
        self.connections.discard(connection)


def bind(port):
    """Sockets for TCP and UDP with the same port."""
    for _ in range(100):
        listener = socket.create_server(("127.0.0.1", port), backlog=50)
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            datagrams.bind(listener.getsockname())
            return listener, datagrams
        except OSError:
            listener.close()
            datagrams.close()
    raise OSError("no port is free for both")


# --------------------------------------------------------------------------- a client, and the self-test


def ask(port, name, kind, tcp=False, payload=None, timeout=2.0, identity=4711):
    """What a server says to one question; TimeoutError if nothing."""
    message = pack(identity, WANTS_RECURSION, (name, kind), payload=payload)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as connection:
        connection.settimeout(timeout)
        connection.connect(("127.0.0.1", port))
        connection.sendall(len(message).to_bytes(2, "big") + message if tcp else message)
        return unpack(read_stream(connection) if tcp else connection.recv(65535))


def read_stream(connection):
    """One message from TCP."""
    with connection.makefile("rb") as stream:
        return stream.read(int.from_bytes(stream.read(2), "big"))


LONG = "v=DKIM1; k=rsa; p=" + "M" * 392
RECORDS = {
    ("acme.example", "TXT"): ["v=spf1 -all", "site=1"],
    ("acme.example", "MX"): ["10 mx2.acme.example", "5 mx1.acme.example"],
    ("acme.example", "A"): ["192.0.2.7", "127.0.0.2"],
    ("acme.example", "AAAA"): ["2001:db8::7"],
    ("empty.example", "A"): [],
    ("x.y.acme.example", "A"): ["192.0.2.8"],
    ("pb1._domainkey.acme.example", "TXT"): [LONG],
    ("parts.acme.example", "TXT"): [("v=spf1 inc", "lude:b.example", "")],
    ("alias.acme.example", "CNAME"): ["Other.acme.example."],
    ("other.acme.example", "CNAME"): ["acme.example"],
    ("dangling.acme.example", "CNAME"): ["gone.acme.example"],
    ("round.acme.example", "CNAME"): ["round.acme.example"],
    ("huge.acme.example", "TXT"): ["y" * 3000],
    ("umlaut.acme.example", "TXT"): ["größe \x1b\n"],
}


def values(answer):
    return [value for _, _, value in answer.answers]


def finds_what_is_there(port, names):
    assert values(ask(port, "acme.example", "TXT")) == [("v=spf1 -all",), ("site=1",)]
    assert values(ask(port, "acme.example", "MX")) == ["10 mx2.acme.example", "5 mx1.acme.example"]
    assert values(ask(port, "acme.example", "A")) == ["192.0.2.7", "127.0.0.2"]
    assert values(ask(port, "acme.example.", "AAAA")) == ["2001:db8::7"]
    split = values(ask(port, "pb1._domainkey.acme.example", "TXT"))[0]
    assert [len(part) for part in split] == [255, 155] and "".join(split) == LONG
    assert values(ask(port, "parts.acme.example", "TXT")) == [("v=spf1 inc", "lude:b.example", "")]
    assert values(ask(port, "umlaut.acme.example", "TXT")) == [("größe \x1b\n",)]
    shouted = ask(port, "aCmE.eXaMple", "A", payload=1232)
    assert shouted.question == ("aCmE.eXaMple", "A") and shouted.answers[0][0] == "aCmE.eXaMple"
    assert shouted.payload == 1232 and shouted.id == 4711 and shouted.flags == RESPONSE | RECURSES | WANTS_RECURSION


def follows_aliases(port, names):
    found = ask(port, "alias.acme.example", "A")
    assert [kind for _, kind, _ in found.answers] == ["CNAME", "CNAME", "A", "A"] and found.code == NOERROR
    assert values(ask(port, "alias.acme.example", "CNAME")) == ["Other.acme.example"]
    gone = ask(port, "dangling.acme.example", "TXT")
    assert gone.code == NXDOMAIN and values(gone) == ["gone.acme.example"]
    assert ask(port, "round.acme.example", "TXT").code == SERVFAIL


def tells_no_data_from_no_name(port, names):
    for name, kind, code in (("gone.acme.example", "A", NXDOMAIN), ("example", "A", NOERROR), ("y.acme.example", "TXT", NOERROR), ("empty.example", "A", NOERROR), ("acme.example", "CNAME", NOERROR), ("notacme.example", "A", NXDOMAIN)):
        found = ask(port, name, kind)
        assert (found.code, found.answers) == (code, []) and found.authority[0][1] == "SOA", (name, kind, found)


def silent(port, *question, **how):
    try:
        ask(port, *question, timeout=0.2, **how)
    except TimeoutError:
        return True
    return False


def fails_as_told(port, names):
    names.fail.update({"acme.example": "servfail", ("huge.acme.example", "MX"): "refused", ("parts.acme.example", "TXT"): "timeout", "x.y.acme.example": "truncate"})
    for tcp in (False, True):
        broken = ask(port, "ACME.example", "TXT", tcp)
        assert (broken.code, broken.answers) == (SERVFAIL, [])
        assert ask(port, "huge.acme.example", "MX", tcp).code == REFUSED
        assert ask(port, "parts.acme.example", "MX", tcp).code == NOERROR
        assert silent(port, "parts.acme.example", "TXT", tcp=tcp)
    cut = ask(port, "x.y.acme.example", "A")
    assert cut.truncated and not cut.answers and values(ask(port, "x.y.acme.example", "A", tcp=True)) == ["192.0.2.8"]
    names.forget()
    assert not ask(port, "x.y.acme.example", "A").truncated and ask(port, "acme.example", "TXT").answers


def cuts_what_is_too_long(port, names):
    assert ask(port, "huge.acme.example", "TXT").truncated and ask(port, "huge.acme.example", "TXT", payload=1232).truncated
    for found in (ask(port, "huge.acme.example", "TXT", payload=4096), ask(port, "huge.acme.example", "TXT", tcp=True)):
        assert not found.truncated and "".join(values(found)[0]) == "y" * 3000


def counts(port, names):
    for how in (dict(), dict(tcp=True), dict()):
        ask(port, "Acme.Example", "TXT", **how)
    ask(port, "gone.acme.example", "A")
    assert (names.count(), names.count("ACME.example."), names.count(kind="A"), names.count(transport="tcp")) == (4, 3, 1, 1)
    assert names.names() == ["acme.example", "gone.acme.example"] and names.names("A") == ["gone.acme.example"]
    names.load({("acme.example", "A"): ["192.0.2.9"]})
    assert values(ask(port, "acme.example", "A")) == ["192.0.2.9"] and not ask(port, "acme.example", "TXT").answers


def stands_nonsense(port, names):
    question = pack(1, 0, ("acme.example", "A"))
    pointer = question[:12] + b"\xc0\x0c" + question[-4:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.connect(("127.0.0.1", port))
        for junk in (b"", b"x", question[:20], question[:2] + b"\x80" + question[3:], pointer, question):
            client.send(junk)
        codes = [client.recv(512)[3] & 15 for _ in range(3)]
        assert codes == [FORMERR, FORMERR, NOERROR], codes
    with socket.create_connection(("127.0.0.1", port)) as client:  # one connection, several questions
        client.settimeout(2)
        client.sendall(2 * (len(question).to_bytes(2, "big") + question))
        with client.makefile("rb") as stream:
            for _ in range(2):
                assert len(unpack(stream.read(int.from_bytes(stream.read(2), "big"))).answers) == 2
    for wrong in ({("x", "A"): ["1.2.3"]}, {("x", "MX"): ["mx"]}, {("x", "TXT"): ["y" * 70000, ("y" * 256,)]}, {("y" * 64, "A"): []}, {("x", "SRV"): ["y"]}):
        try:
            names.load(wrong)
        except (OSError, ValueError, AssertionError):
            continue
        raise AssertionError(f"taken: {wrong}")


def main():
    for test in (finds_what_is_there, follows_aliases, tells_no_data_from_no_name, fails_as_told, cuts_what_is_too_long, counts, stands_nonsense):
        with Server(RECORDS) as names:
            test(names.port, names)
        again = Server(port=names.port)  # closed: its port is free
        again.close()
        print(f"ok   {test.__name__}")


if __name__ == "__main__":
    main()
