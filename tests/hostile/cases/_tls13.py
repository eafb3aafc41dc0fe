"""A TLS 1.3 client that can be told to misbehave: what it sends as records is its caller's choice.

TLS_CHACHA20_POLY1305_SHA256 with X25519 alone (RFC 8446, 7539, 7748); certificates are not looked at.
"""

import hashlib, hmac, os, struct

PRIME = 2**255 - 19


def x25519(scalar, point):
    k = (int.from_bytes(scalar, "little") & ~7 & ~(1 << 255)) | 1 << 254
    x1 = int.from_bytes(point, "little") & (1 << 255) - 1
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in range(254, -1, -1):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % PRIME, x1 * (da - cb) ** 2 % PRIME
        x2, z2 = aa * bb % PRIME, e * (aa + 121665 * e) % PRIME
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little")


def block(key, counter, nonce):
    s = struct.unpack("<16I", b"expand 32-byte k" + key + struct.pack("<I", counter) + nonce)
    x = list(s)
    for _ in range(10):
        for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            xa, xb, xc, xd = x[a], x[b], x[c], x[d]
            for left in (16, 8):
                xa = xa + xb & 0xFFFFFFFF
                xd ^= xa
                xd = (xd << left | xd >> 32 - left) & 0xFFFFFFFF
                xc = xc + xd & 0xFFFFFFFF
                xb ^= xc
                turn = 12 if left == 16 else 7
                xb = (xb << turn | xb >> 32 - turn) & 0xFFFFFFFF
            x[a], x[b], x[c], x[d] = xa, xb, xc, xd
    return struct.pack("<16I", *(u + v & 0xFFFFFFFF for u, v in zip(x, s)))


def stream(key, nonce, octets):
    pad = b"".join(block(key, n + 1, nonce) for n in range((len(octets) + 63) // 64))
    return bytes(a ^ b for a, b in zip(octets, pad))


def tag(key, nonce, more, sealed):
    one = block(key, 0, nonce)
    r, s = int.from_bytes(one[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF, int.from_bytes(one[16:32], "little")
    text = more + bytes(-len(more) % 16) + sealed + bytes(-len(sealed) % 16) + struct.pack("<QQ", len(more), len(sealed))
    sum = 0
    for n in range(0, len(text), 16):
        sum = (sum + int.from_bytes(text[n : n + 16] + b"\1", "little")) * r % (2**130 - 5)
    return (sum + s & (1 << 128) - 1).to_bytes(16, "little")


def mac(key, octets):
    return hmac.new(key, octets, hashlib.sha256).digest()


def expand(secret, label, context=b"", length=32):
    label = b"tls13 " + label
    return mac(secret, struct.pack("!HB", length, len(label)) + label + bytes([len(context)]) + context + b"\1")[:length]


def digest(octets):
    return hashlib.sha256(octets).digest()


class Keys:
    """One direction."""

    def __init__(self, secret):
        self.secret = secret
        self.key, self.iv, self.number = expand(secret, b"key"), expand(secret, b"iv", length=12), 0

    def nonce(self):
        number, self.number = self.number, self.number + 1
        return bytes(a ^ b for a, b in zip(self.iv, number.to_bytes(12, "big")))

    def next(self):
        return Keys(expand(self.secret, b"traffic upd"))


class Tls13:
    """`send` seals a record of any type; `receive` gives the next one as (type, octets)."""

    def __init__(self, socket):
        self.socket, self.buffer = socket, b""
        private = os.urandom(32)
        share = x25519(private, (9).to_bytes(32, "little"))

        def extension(kind, octets):
            return struct.pack("!HH", kind, len(octets)) + octets

        more = extension(43, b"\2\3\4") + extension(10, b"\0\2\0\x1d") + extension(13, b"\0\x0a\4\3\5\3\x08\4\x08\7\x08\5")
        more += extension(51, b"\0\x24\0\x1d\0\x20" + share)
        hello = b"\3\3" + os.urandom(32) + b"\0" + b"\0\2\x13\3" + b"\1\0" + struct.pack("!H", len(more)) + more
        hello = b"\1" + len(hello).to_bytes(3, "big") + hello
        socket.sendall(b"\x16\3\1" + struct.pack("!H", len(hello)) + hello)
        kind, answer = self.record()
        assert kind == 22 and answer[0] == 2, f"no ServerHello: {kind} {answer!r}"
        theirs = answer[answer.index(b"\0\x33\0\x24\0\x1d\0\x20") + 8 :][:32]
        transcript = hello + answer
        zero = bytes(32)
        early = mac(zero, zero)
        secret = mac(expand(early, b"derived", digest(b"")), x25519(private, theirs))
        client = expand(secret, b"c hs traffic", digest(transcript))
        self.reading, self.writing = Keys(expand(secret, b"s hs traffic", digest(transcript))), Keys(client)
        flight = b""
        while not self._finished(flight):
            kind, octets = self.receive()
            if kind == 22:
                flight += octets
        transcript += flight
        master = mac(expand(secret, b"derived", digest(b"")), zero)
        proof = mac(expand(client, b"finished"), digest(transcript))
        self.send(22, b"\x14\0\0\x20" + proof)
        self.reading = Keys(expand(master, b"s ap traffic", digest(transcript)))
        self.writing = Keys(expand(master, b"c ap traffic", digest(transcript)))

    @staticmethod
    def _finished(flight):
        while flight:
            if flight[0] == 20:
                return True
            flight = flight[4 + int.from_bytes(flight[1:4], "big") :]
        return False

    def _exactly(self, count):
        while len(self.buffer) < count:
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError("closed")
            self.buffer += more
        octets, self.buffer = self.buffer[:count], self.buffer[count:]
        return octets

    def record(self):
        self.head = self._exactly(5)
        return self.head[0], self._exactly(struct.unpack("!H", self.head[3:])[0])

    def receive(self):
        """The next record; (0, b"") at the end of the connection."""
        try:
            kind, sealed = self.record()
        except (ConnectionError, OSError):
            return 0, b""
        if kind != 23:
            return kind, sealed
        nonce = self.reading.nonce()
        assert tag(self.reading.key, nonce, self.head, sealed[:-16]) == sealed[-16:], "a record is not authentic"
        text = stream(self.reading.key, nonce, sealed[:-16]).rstrip(b"\0")
        return text[-1], text[:-1]

    def sealed(self, kind, octets):
        """A record."""
        head = b"\x17\3\3" + struct.pack("!H", len(octets) + 17)
        nonce = self.writing.nonce()
        text = stream(self.writing.key, nonce, octets + bytes([kind]))
        return head + text + tag(self.writing.key, nonce, head, text)

    def send(self, kind, octets):
        self.socket.sendall(self.sealed(kind, octets))

    def key_update(self, wanted):
        """A KeyUpdate record; from then on the next keys."""
        record = self.sealed(22, b"\x18\0\0\1" + bytes([wanted]))
        self.writing = self.writing.next()
        return record

    def reply(self):
        """Lines of the server, answered KeyUpdates followed; "" at the end."""
        text = b""
        while not text.endswith(b"\r\n"):
            kind, octets = self.receive()
            if kind in (0, 21):
                return ""
            if kind == 22 and octets[0] == 24:
                self.reading = self.reading.next()
            if kind == 23:
                text += octets
        return text.decode()
