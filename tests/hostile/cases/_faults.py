"""Means of the cases about disk, clock and power: a disk of one's own, shims in C, damage."""

import ctypes, errno, hashlib, mmap, os, pathlib, random, shutil, socket, struct, subprocess, tempfile

from rig import TOKEN, Broken, Client, Upstream, check, is_bounce, wait_until

HERE = pathlib.Path(__file__).resolve().parent
WRITE, SYNC, OPEN, NAME = range(4)
MIB = 1 << 20
SQLITE = b"SQLite format 3\0"

# --------------------------------------------------------------------------- upstream and mail


def shut(rig, upstream=None):
    """The upstream refuses every connection for now, and ends those that are kept."""
    on = (upstream or rig.upstream).on
    on["banner"] = lambda session, line: "421 4.3.2 closed for now"
    on["MAIL"] = lambda session, line: session.close()


def open_again(rig, upstream=None):
    for stage in ("banner", "MAIL"):
        (upstream or rig.upstream).on.pop(stage, None)


def dead(rig, upstream=None):
    """Nobody listens at the upstream's port any more."""
    (upstream or rig.upstream).close()


def alive(rig, upstream=None):
    """Somebody listens there again; gives the new upstream."""
    old = upstream or rig.upstream
    new = Upstream(capabilities=old.capabilities, tls=old.tls, login=old.login, port=old.port)
    rig.upstreams.append(new)
    if old is rig.upstream:
        rig.upstream = new
    return new


def letters(size):
    """So many octets of a body, in lines."""
    line = random.randbytes(35).hex()
    return "\r\n".join([line] * (size // 72 + 1)).encode()


class Mail:
    """What a case hands in, by token, to be compared with what arrives."""

    def __init__(self, rig):
        self.rig, self.bodies = rig, {}

    def content(self, size=100):
        body = letters(size)
        content = self.rig.message(body)
        self.bodies[TOKEN.search(content)[0]] = body + b"\r\n"
        return content

    def send(self, count=1, size=100, client=None):
        client = client or self.rig.client()
        return [client.message(self.content(size)) for _ in range(count)]

    def unaltered(self):
        """Whatever of it has arrived anywhere is what was handed in."""
        for upstream in self.rig.upstreams:
            for message in list(upstream.received):
                token = TOKEN.search(message.raw)
                if token and not is_bounce(message) and token[0] in self.bodies:
                    check(message.body == self.bodies[token[0]], f"V2: {token[0].decode()} arrived altered: {message.raw[-300:]!r}")
                    check(message.recipients == ["b@else.example"], f"V2: {token[0].decode()} went to {message.recipients}")

    def arrived(self):
        messages = [m for u in self.rig.upstreams for m in list(u.received) if not is_bounce(m)]
        return {token for m in messages for token in TOKEN.findall(m.raw)} & set(self.bodies)

    def all_arrive(self, limit=30, without=()):
        wanted = set(self.bodies) - set(without)
        wait_until(f"{len(wanted)} messages at the upstream", lambda: wanted <= self.arrived(), limit)
        self.unaltered()


# --------------------------------------------------------------------------- shims


def library(name):
    """A shim from the C file beside this one, compiled once."""
    source = HERE / f"{name}.c"
    place = pathlib.Path(tempfile.gettempdir()) / f"postbote-hostile{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.so"
    if not place.exists():
        new = place.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", new, source, "-ldl"], check=True)
        new.rename(place)
    return str(place)


def preload(rig, name):
    so_far = rig.environment.get("LD_PRELOAD")
    rig.environment["LD_PRELOAD"] = library(name) + (f":{so_far}" if so_far else "")


class Clock:
    """The server's clocks, moved by seconds. Before `rig.start()`."""

    def __init__(self, rig):
        path = rig.directory / "clock"
        path.write_bytes(bytes(16))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 16)
        preload(rig, "_clock")
        rig.environment["POSTBOTE_CLOCK"] = str(path)

    def move(self, wall=0.0, steady=0.0):
        """So many seconds from the true time: the wall clock, the monotonic one."""
        self.map[:16] = struct.pack("qq", int(wall * 1e9), int(steady * 1e9))


class Disk:
    """The server's disk, that errs on demand. Before `rig.start()`."""

    def __init__(self, rig, shadow=False):
        self.rig = rig
        path = rig.directory / "disk"
        path.write_bytes(bytes(64))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 64)
        preload(rig, "_disk")
        rig.environment.update(POSTBOTE_DISK=str(path), POSTBOTE_DISK_UNDER=str(rig.data))
        if shadow:
            self.shadow = rig.directory / "shadow"
            self.shadow.mkdir()
            rig.environment["POSTBOTE_SHADOW"] = str(self.shadow)

    def fail(self, code, *kinds, skip=0, count=-1):
        for kind in kinds:
            self.map[kind * 16 : kind * 16 + 16] = struct.pack("iiii", 0, skip, count, 0)
            self.map[kind * 16 : kind * 16 + 4] = struct.pack("i", code)

    def seen(self, kind):
        return struct.unpack("iiii", self.map[kind * 16 : kind * 16 + 16])[3]

    def heal(self):
        self.map[:64] = bytes(64)

    def names(self, directory):
        """The names of a directory as of its last sync; None: it was never synced."""
        path = self.shadow / f"d{directory.stat().st_ino}"
        return {line.split(" ", 2)[2] for line in path.read_text().splitlines()} if path.exists() else None

    def cut_power(self, sector=None):
        """The server is killed; what was not synced is lost, or with `sector` each piece of so many
        octets is as before or as after its last write."""
        rig = self.rig
        rig.kill()
        for path in sorted(rig.data.rglob("*"), reverse=True):
            if path.is_dir():
                continue
            synced = self.shadow / str(path.stat().st_ino)
            names = self.names(path.parent)
            if not path.is_file():
                path.unlink()  # a socket
            elif names is not None and path.name not in names and sector is None:
                path.unlink()
            elif synced.exists():
                before, after = synced.read_bytes(), path.read_bytes()
                path.write_bytes(before if sector is None else mixed(before, after, sector))
            elif sector is None and "spool" in path.relative_to(rig.data).parts:
                path.write_bytes(b"")
        shutil.rmtree(self.shadow)
        self.shadow.mkdir()
        for path in (rig.data, *rig.data.rglob("*")):  # what is left is on the disk
            if path.is_dir():
                lines = [f"{'d' if p.is_dir() else 'f'} {p.stat().st_ino} {p.name}\n" for p in path.iterdir()]
                (self.shadow / f"d{path.stat().st_ino}").write_text("".join(lines))
            else:
                shutil.copy(path, self.shadow / str(path.stat().st_ino))


def mixed(before, after, sector):
    """Pieces of two states of a file, by chance."""
    size = random.choice([len(before), len(after)]) if len(after) >= len(before) else len(after)
    out = bytearray()
    for at in range(0, size, sector):
        old, new = before[at : at + sector], after[at : at + sector]
        piece = random.choice([old, new])
        out += piece + bytes(min(sector, size - at) - len(piece)) if len(piece) < sector else piece
    return bytes(out[:size])


# --------------------------------------------------------------------------- a disk of one's own


def own_disk(rig, size="24m", inodes=None):
    """The data directory is a tmpfs of its own, seen by this process and its children alone."""
    if not getattr(own_disk, "alone", False):
        libc = ctypes.CDLL(None, use_errno=True)
        check(libc.unshare(0x00020000) == 0, f"unshare: {os.strerror(ctypes.get_errno())}")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        own_disk.alone = True
    rig.data.mkdir(mode=0o700)
    options = f"size={size},mode=0700" + (f",nr_inodes={inodes}" if inodes else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", rig.data], check=True)
    unmount_at_end(rig, rig.data)


def unmount_at_end(rig, place):
    close = rig.close

    def closing(*arguments, **named):
        try:
            close(*arguments, **named)
        finally:
            subprocess.run(["umount", "-l", place], check=False)
            shutil.rmtree(rig.directory, ignore_errors=True)

    rig.close = closing


def fill(rig, leave=0):
    """Fills the disk up to so many octets; gives the file that does it."""
    path = rig.data / "filler"
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            check(error.errno == errno.ENOSPC, f"filling gave {error}")
        if leave:
            file.truncate(max(0, file.tell() - leave))
    return path


# --------------------------------------------------------------------------- ports, logs


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def fixed_ports(rig):
    """For a server whose log cannot be read: its addresses are known beforehand."""
    ports = {"in": free_port(), "admin": free_port()}
    text = (rig.directory / "postbote.toml").read_text()
    text = text.replace('address = "127.0.0.1:0"', f'address = "127.0.0.1:{ports["in"]}"', 1)
    text = text.replace('address = "127.0.0.1:0"', f'address = "127.0.0.1:{ports["admin"]}"', 1)
    rig.write("postbote.toml", text)
    rig.address = lambda listener="in": ("127.0.0.1", ports[listener])


def serving(rig, limit=30):
    """Waits until the admin address says ready."""

    def ready():
        try:
            return "200" in rig.admin("/readyz")[0]
        except OSError:
            check(rig.process.poll() is None, f"the server ended with {rig.process.poll()}")
            return False

    wait_until("/readyz is 200", ready, limit)


def banner(rig):
    """The first reply of a fresh connection."""
    client = Client(rig, rig.address())
    rig.clients.append(client)
    return client, client.reply()


def try_to_send(rig, content):
    """A whole transaction that may be refused at any step; gives the last reply."""
    client, reply = banner(rig)
    for line in ("EHLO c.example", "MAIL FROM:<app@source.example>", "RCPT TO:<b@else.example>", "DATA"):
        if not reply.startswith(("220", "250")):
            break
        reply = client.send(line)
    if reply.startswith("354"):
        reply = client.content(content)
    client.close()
    return reply


# --------------------------------------------------------------------------- files and damage


def spool_files(rig):
    """The files in which mail is kept, largest first."""
    found = [p for p in rig.data.rglob("*") if p.is_file() and not p.is_symlink() and p.stat().st_size > 64 and p.suffix not in (".pem", ".key", ".json")]
    return sorted((p for p in found if p.parent != rig.data and "certs" not in p.parts), key=lambda p: -p.stat().st_size)


def databases(rig):
    return [p for p in spool_files(rig) if p.open("rb").read(16) == SQLITE]


def holding(rig, octets):
    """Files that hold these octets, with the place in each."""
    return [(path, at) for path in spool_files(rig) if (at := path.read_bytes().find(octets)) >= 0]


def change(path, at, octets):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(octets)


def flip(path, at, bit=0):
    with open(path, "r+b") as file:
        file.seek(at)
        old = file.read(1)[0]
        file.seek(at)
        file.write(bytes([old ^ (1 << bit)]))


class Pristine:
    """The data directory as it is now, to be brought back."""

    def __init__(self, rig, name="pristine"):
        self.rig, self.place = rig, rig.directory / name
        shutil.copytree(rig.data, self.place, ignore=lambda d, names: [n for n in names if n.endswith(".sock")])

    def restore(self):
        shutil.rmtree(self.rig.data)
        shutil.copytree(self.place, self.rig.data)


def start_or_refuse(rig, codes=(73, 75, 78), limit=20):
    """Starts the server; True: it serves, False: it ended with one of these codes."""
    rig.start(wait=False)
    wait_until("it serves or has ended", lambda: "event=started" in rig.log or rig.process.poll() is not None, limit)
    if rig.process.poll() is None:
        rig.descriptors = rig.count_descriptors()
        return True
    check(rig.process.returncode in codes, f"V4: the start ended with {rig.process.returncode}: {rig.log[-1500:]}")
    return False


def refuses(rig, code, *words, limit=8):
    """The server must not start, with this code and one of these words in what it says."""
    codes = code if isinstance(code, tuple) else (code,)
    rig.start(wait=False)
    try:
        wait_until("it ends", lambda: rig.process.poll() is not None or "event=started" in rig.log, limit)
    except Broken:
        rig.kill()
        raise Broken("it neither starts nor ends") from None
    if rig.process.poll() is None:
        rig.kill()
        raise Broken("it started")
    check(rig.process.returncode in codes, f"exit code {rig.process.returncode}, wanted {code}: {rig.log[-1500:]}")
    check(not words or any(w in rig.log for w in words), f"none of {words} in {rig.log[-1500:]}")
