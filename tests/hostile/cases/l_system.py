"""L: disk, operating system, clock, spool."""

import errno, os, random, re, shutil, signal, socket, sqlite3, ssl, subprocess, threading, time

from rig import BINARY, CANARY, TOKEN, Broken, Client, Upstream, case, check, not_here, wait_until

from . import _faults as f
from ._faults import MIB, NAME, OPEN, SYNC, WRITE, Clock, Disk, Mail

BIG = 300_000  # octets of a body that is kept in a file of its own


def refused(reply, *starts):
    check(reply.startswith(starts), f"wanted one of {starts}, got {reply!r}")


def soon(rig, what, condition, limit=30):
    return wait_until(what, condition, limit)


def queue_is_empty(rig):
    soon(rig, "the queue is empty", lambda: not rig.queue())


def bodies(rig):
    """Files of their own that contents have in the spool."""
    return [p for p in rig.data.rglob("bodies/*") if p.is_file()]


# --------------------------------------------------------------------------- disk full, errors


@case("L01", "disk full: small and large mail, settling, the log", start=False)
def _(rig):
    f.own_disk(rig, "24m")
    rig.start()
    mail = Mail(rig)
    f.shut(rig)
    mail.send(5)
    filler = f.fill(rig)
    before = {p: p.stat().st_size for p in rig.data.rglob("*")}
    client = rig.client()
    for size in (100, BIG, 3 * MIB, 100):
        if not client.expect("MAIL FROM:<app@source.example>", ("250", "452 4.3.1")).startswith("250"):
            continue  # seen before the content came
        client.expect("RCPT TO:<b@else.example>", "250")
        client.expect("DATA", "354")
        content = rig.message(f.letters(size))
        reply = client.content(content)
        if size == 100 and reply.startswith("250"):
            # The journal's room was taken long before: what fits in is safe.
            mail.bodies[TOKEN.search(content)[0]] = content.split(b"\r\n\r\n", 1)[1] + b"\r\n"
            continue
        refused(reply, "452 4.3.1")
    left = lambda: [p.name for p in rig.data.rglob("*") if p not in before]
    wait_idle(rig, lambda: len(left()), 0.5)
    orphans = [(p.name, p.stat().st_size) for p in bodies(rig) if p not in before]
    unknown = [name for name, _ in orphans if not name.startswith("slot-")]
    others = [name for name in left() if name not in dict(orphans)]
    check(set(others) <= {"spool.sqlite-wal", "spool.sqlite-shm", "journal-a", "journal-b"}, f"refused messages have left {others}")
    check(len(rig.queue()) == len(mail.bodies), "something half stored")
    check(not rig.bodies(), "a refused message has a body file")
    # What waits still goes, once each, though it cannot be recorded yet.
    f.open_again(rig)
    soon(rig, "delivery goes on", mail.arrived)
    filler.unlink()
    mail.all_arrive()
    queue_is_empty(rig)
    client.message(mail.content(BIG))
    mail.all_arrive()
    nothing_lost_by_a_full_log(rig)
    check(not unknown, f"refused messages have left files: {unknown}")


def nothing_lost_by_a_full_log(rig):
    """The same with /dev/full as the log."""
    rig.stop()
    f.fixed_ports(rig)
    rig.wrapper = ["sh", "-c", 'exec "$@" 2>/dev/full', "sh"]
    rig.start(wait=False)
    f.serving(rig)
    mail = Mail(rig)
    mail.send(50)
    mail.all_arrive()


@case("L02", "room is looked at before the content comes", start=False)
def _(rig):
    """The numbers of the row (3 × SIZE, 200 MiB, 5 %) are ours to choose; that MAIL is answered 452
    where the declared size does not fit on the disk is what Postfix does, too."""
    f.own_disk(rig, "64m", inodes=200)
    rig.start()
    client = rig.client()
    filler = f.fill(rig, leave=8 * MIB)
    early = client.send("MAIL FROM:<a@t.example> SIZE=20000000")
    client.expect("RSET", "250")
    filler.unlink()
    client.expect("MAIL FROM:<a@t.example> SIZE=2000000", "250")
    client.expect("RSET", "250")
    use_up_inodes(rig)
    client.envelope()
    refused(client.content(rig.message(f.letters(BIG))), "452", "451")
    check(not rig.bodies(), "a refused message has left a file")
    for path in rig.data.glob("inode-*"):
        path.unlink()
    client.message(rig.message(f.letters(BIG)))
    check(early.startswith("452 4.3.1"), f"8 MiB are left, MAIL with SIZE=20000000 was answered {early!r}")


def use_up_inodes(rig):
    for number in range(10_000):
        try:
            (rig.data / f"inode-{number}").touch()
        except OSError:
            return
    raise Broken("inodes do not run out")


@case("L03", "EDQUOT and EIO on write", start=False)
def _(rig):
    disk = Disk(rig)
    rig.start()
    mail = Mail(rig)
    f.shut(rig)
    wrong = []
    for code in (errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EFBIG):
        for size in (100, BIG):
            disk.fail(code, WRITE)
            client = rig.client()
            client.envelope()
            refused(client.content(rig.message(f.letters(size))), "452 4.3.1", "451 4.3.0")
            check(disk.seen(WRITE), "the shim saw no write")
            disk.heal()
            check(len(rig.queue()) == len(mail.bodies), f"half stored after {errno.errorcode[code]}")
            large = len([b for b in mail.bodies.values() if len(b) >= BIG])
            if len(rig.bodies()) != large:
                wrong.append(errno.errorcode[code])
            mail.send(1, size)
    f.open_again(rig)
    mail.all_arrive()
    check(not wrong, f"refused messages have left body files after {wrong}")


@case("L04", "a failing fsync, of the log and of a large body", start=False)
def _(rig):
    """A body's own file may fail alone: nothing was promised for it, it is removed; then storage
    need not be given up."""
    disk = Disk(rig)
    rig.start()
    mail = Mail(rig)
    mail.send(2)
    mail.all_arrive()
    large_body_cannot_be_synced(rig, disk, mail)
    f.shut(rig)
    if rig.process.poll() is None:
        held = mail.send(3)
        # Held, nothing but the next message makes the spool write.
        rig.wait_log("event=route-failing")
        wait_until("held", lambda: rig.run("queue", "hold", *held, code=None) and all(m["state"] == "held" for m in rig.queue()))
        client, other = rig.client(), rig.client()
        wait_idle(rig, lambda: [p.stat().st_mtime_ns for p in f.spool_files(rig)], 1.5)
        disk.fail(errno.EIO, SYNC, count=1)
        client.envelope()
        refused(client.content(rig.message()), "451", "421")
        check(disk.seen(SYNC), "the shim saw no sync")
        reply = other.send("MAIL FROM:<a@t.example>") if f.try_to_send(rig, rig.message()) else ""
        check(not reply.startswith("250") or not rig.process.poll(), "mail is taken after a failed sync")
        check(rig.wait_exit() == 75, f"exit code {rig.process.returncode}, wanted 75")
    disk.heal()
    rig.start()
    f.open_again(rig)
    rig.run("queue", "release", *held)
    mail.all_arrive()
    queue_is_empty(rig)


def large_body_cannot_be_synced(rig, disk, mail):
    disk.fail(errno.EIO, SYNC, count=1)
    refused(f.try_to_send(rig, rig.message(f.letters(BIG))), "451", "421")
    disk.heal()
    check(not rig.bodies(), "a refused message has left a file")
    mail.send(1)
    mail.all_arrive()


@case("L05", "the file system becomes read-only", start=False)
def _(rig):
    """421 at the banner or 45x for each message: both take nothing. What is on its way while
    nothing can be recorded may go once; the rest must wait."""
    disk = Disk(rig)
    rig.start()
    mail = Mail(rig)
    f.shut(rig)
    mail.send(12)
    disk.fail(errno.EROFS, WRITE, SYNC, OPEN, NAME)
    for size in (100, BIG):
        refused(f.try_to_send(rig, rig.message(f.letters(size))), "421 4.3.0", "451 4.3.0", "452 4.3.1")
    f.open_again(rig)
    rig.wait_log("level=error")
    wait_idle(rig, lambda: len(mail.arrived()))
    check(len(mail.arrived()) <= 4, f"{len(mail.arrived())} deliveries that nobody can record")
    disk.heal()
    if rig.process.poll() is not None:
        check(rig.process.returncode == 75, f"exit code {rig.process.returncode}")
        rig.may_repeat |= mail.arrived()
        rig.start()
    mail.all_arrive()
    queue_is_empty(rig)


def wait_idle(rig, number, still=3.0):
    """Waits until a number has not changed for so long."""
    last, since = number(), time.monotonic()

    def calm():
        nonlocal last, since
        if (now := number()) != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > still

    wait_until("it is calm", calm)


@case("L06", "out of descriptors", wrapper=["prlimit", "--nofile=64"])
def _(rig):
    mail = Mail(rig)
    client = rig.client()
    f.shut(rig)
    crowd = []
    for _ in range(120):
        connection = socket.create_connection(rig.address(), timeout=30)
        crowd.append(connection)
    rig.wait_log("event=accept-failed")
    started = busy(rig)
    for size in (100, BIG):
        client.envelope()
        content = mail.content(size)
        reply = client.content(content)
        refused(reply, "250", "451", "452")
        if not reply.startswith("250"):
            mail.bodies.pop(TOKEN.search(content)[0])
    check(mail.bodies, "an open connection cannot hand in even a small message")
    f.open_again(rig)
    wait_idle(rig, lambda: len(mail.arrived()), 1.0)
    check(busy(rig) - started < 1.5, "the server spins while it is out of descriptors")
    check(rig.log.count("event=accept-failed") < 200, "the log is flooded")
    for connection in crowd:
        connection.close()
    rig.good_client()
    mail.all_arrive()


def busy(rig):
    """Seconds of processor time so far."""
    fields = open(f"/proc/{rig.process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@case("L07", "128 MiB of memory, then less than it needs", wrapper=["prlimit", "--data=134217728"], server='max_message_size = "20MiB"')
def _(rig):
    """RLIMIT_DATA instead of a control group: what is allocated beyond it fails."""
    mail = Mail(rig)
    clients = [rig.client() for _ in range(50)]
    for client in clients:
        client.envelope()
    contents = [mail.content(1_000_000) for _ in clients]
    for client, content in zip(clients, contents):
        client.raw(content)
    for client, content in zip(clients, contents):
        reply = client.content(b"")
        rig.note(content, reply)
        refused(reply, "250")
    mail.send(1, 10 * MIB)
    mail.all_arrive()
    check(rig.resident(peak=True) < 128, f"{rig.resident(peak=True):.0f} MiB at its peak")
    starved(rig, mail)


def starved(rig, mail):
    """So little that it ends by itself, if it does: as after kill -9."""
    f.shut(rig)
    mail.send(20)
    subprocess.run(["prlimit", f"--pid={rig.process.pid}", "--data=4000000"], check=True)
    for _ in range(5):
        content = mail.content(BIG)
        try:
            reply = f.try_to_send(rig, content)
        except OSError:
            reply = ""
        if not reply.startswith("250"):
            token = TOKEN.search(content)[0]
            mail.bodies.pop(token)
            rig.may_arrive.add(token) if not reply else None
    f.open_again(rig)
    # It delivers with what it has, or ends at its next large piece; no limit can be lifted again
    # without the right to do that.
    wait_until("all is delivered, or it has ended", lambda: rig.process.poll() is not None or set(mail.bodies) <= mail.arrived(), 60)
    if rig.process.poll() is not None:
        # As after kill -9: what had just been taken may be taken again.
        rig.may_repeat |= set(mail.bodies) | rig.may_arrive
        rig.wrapper = []
        rig.start()
    mail.all_arrive()


# --------------------------------------------------------------------------- kill, power


class Load:
    """Clients that hand in mail until the server is gone."""

    def __init__(self, rig, mail, count=3, sizes=(100, 100, 100, 100, BIG)):
        self.rig, self.mail, self.sizes, self.ended = rig, mail, sizes, False
        self.taken = 0
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self):
        client = Client(self.rig, self.rig.address())
        content = None
        try:
            if not client.reply().startswith("220") or not client.send("EHLO c.example").startswith("250"):
                return
            while not self.ended:
                content = self.mail.content(random.choice(self.sizes))
                client.envelope()
                reply = client.content(content)
                if reply.startswith("250"):
                    self.taken += 1
                    content = None
                elif not reply:
                    break
        except (OSError, Broken):
            pass
        finally:
            client.close()
            if content is not None:  # nobody knows
                token = TOKEN.search(content)[0]
                self.rig.may_arrive.add(token)
                self.mail.bodies.pop(token, None)

    def wait(self, more):
        goal = self.taken + more
        wait_until(f"{more} more messages taken", lambda: self.taken >= goal)

    def end(self):
        self.ended = True
        for thread in self.threads:
            thread.join(30)


def extra_copies(rig):
    tokens = [token for u in rig.upstreams for token in u.tokens()]
    return len(tokens) - len(set(tokens))


@case("L08", "kill -9 again and again under load")
def _(rig):
    """10 000 queued: see L20, which starts with more."""
    mail = Mail(rig)
    kills = 5
    for number in range(kills):
        load = Load(rig, mail)
        load.wait(random.randrange(5, 40))
        rig.kill()
        load.end()
        begun = time.monotonic()
        rig.start()
        check(time.monotonic() - begun < 2, f"the start took {time.monotonic() - begun:.1f} s")
    mail.all_arrive()
    queue_is_empty(rig)
    check(extra_copies(rig) <= kills * 2, f"{extra_copies(rig)} extra copies after {kills} kills with 2 connections")
    rig.may_repeat |= set(TOKEN.findall(b"".join(m.raw for m in rig.upstream.received)))


@case("L09", "kill -9 during first start and during recovery", start=False)
def _(rig):
    """There is no migration, key rotation, vacuum or backup to be interrupted: the layout is the
    first one, the rest no command."""
    for pause in [n / 1000 for n in range(0, 60, 3)]:
        rig.start(wait=False)
        killed_after(rig, pause)
    rig.start()
    mail = Mail(rig)
    f.shut(rig)
    load = Load(rig, mail)
    load.wait(60)
    rig.kill()
    load.end()
    for pause in [n / 1000 for n in range(0, 60, 3)]:
        rig.start(wait=False)
        killed_after(rig, pause)
    f.open_again(rig)
    rig.start()
    rig.may_repeat |= set(mail.bodies) | rig.may_arrive
    mail.all_arrive()
    queue_is_empty(rig)
    check(extra_copies(rig) <= 2, f"{extra_copies(rig)} extra copies")


def killed_after(rig, seconds):
    try:
        rig.process.wait(seconds)
        raise Broken(f"the start ended by itself with {rig.process.returncode}: {rig.log[-1000:]}")
    except subprocess.TimeoutExpired:
        rig.kill()


@case("L10", "power cut: only what was synced is left", start=False)
def _(rig):
    """A shim keeps each file as of its last sync; the cut leaves that and the synced names."""
    disk = Disk(rig, shadow=True)
    rig.start()
    f.shut(rig)
    mail = Mail(rig)
    # The file of a content that was broken off is used again: its name was never synced.
    before = rig.count_descriptors()
    client = rig.client()
    client.envelope()
    client.raw(b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * (BIG // 18))
    wait_until("it is being written", lambda: bodies(rig))
    client.reset()
    wait_until("it is broken off", lambda: rig.count_descriptors() <= before)
    mail.send(1, BIG)
    disk.cut_power()
    rig.start()
    missing = None
    for _ in range(3):
        load = Load(rig, mail)
        load.wait(random.randrange(10, 30))
        if missing is None:
            missing = {p.name for p in rig.data.iterdir() if p.is_dir()} - {"certs"} - (disk.names(rig.data) or set())
        disk.cut_power()
        load.end()
        rig.start()
    f.open_again(rig)
    mail.all_arrive()
    queue_is_empty(rig)
    check(not missing, f"V1: the names {missing} in the data directory were never synced: a power cut after the first start may lose the whole spool")


@case("L11", "torn writes: sectors as before or as after", start=False)
def _(rig):
    disk = Disk(rig, shadow=True)
    rig.start()
    f.shut(rig)
    mail = Mail(rig)
    for number in range(4):
        load = Load(rig, mail)
        load.wait(random.randrange(10, 30))
        disk.cut_power(sector=512 if number % 2 else 4096)
        load.end()
        for path in f.spool_files(rig):
            if path.name.endswith("-wal") and number % 3 == 0:
                whole = path.read_bytes()
                path.write_bytes(whole + whole[-5000:-100])  # half a frame more
        rig.start()
    f.open_again(rig)
    mail.all_arrive()
    queue_is_empty(rig)


# --------------------------------------------------------------------------- damage


@case("L12", "bit flips, cuts, zeroes in every file of the spool")
def _(rig):
    mail = Mail(rig)
    f.shut(rig)
    mail.send(12)
    mail.send(3, BIG)
    rig.kill()
    killed = f.Pristine(rig, "killed")
    rig.start()
    rig.stop()
    for path in f.databases(rig):  # the whole content in the database, as after a checkpoint
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
    stopped = f.Pristine(rig, "stopped")
    rig.may_repeat |= set(mail.bodies)
    rig.said.clear()
    rig.may_arrive |= set(mail.bodies)
    f.open_again(rig)
    wrong = []
    for state, pristine in (("stopped", stopped), ("killed", killed)):
        targeted(rig, mail, pristine, state, wrong)
        by_chance(rig, mail, pristine, state, wrong)
    killed.restore()
    rig.upstream.received.clear()
    rig.start()
    mail.all_arrive()
    check(not wrong, "\n".join(wrong))


def targeted(rig, mail, pristine, state, wrong):
    """One message is damaged: it is not sent, the others are; it stands as failed."""
    small = [t for t in mail.bodies if len(mail.bodies[t]) < BIG]
    large = [t for t in mail.bodies if len(mail.bodies[t]) >= BIG]
    body = lambda token: mail.bodies[token][-80:-10]
    damages = [
        ("bit flip in a small content", small[0], lambda path, at: f.flip(path, at + 5)),
        ("bit flip in a large content", large[0], lambda path, at: f.flip(path, at + 5)),
        ("4 KiB of zeroes in a large content", large[1], lambda path, at: f.change(path, at + 1000, bytes(4096))),
        ("a large content cut", large[2], lambda path, at: os.truncate(path, at)),
        ("a large content gone", large[0], lambda path, at: path.unlink()),
    ]
    for what, token, damage in damages:
        pristine.restore()
        places = f.holding(rig, body(token))
        check(places, f"nobody holds the content of {token}")
        if what.startswith(("a large", "4 KiB")) and not all(bodies(rig) and p.parent.name == "bodies" for p, _ in places):
            continue  # large contents have no files of their own any more
        for place in places:
            damage(*place)
        try:
            deliver_all_but(rig, mail, {token}, what)
        except Broken as broken:
            wrong.append(f"{state}: {[p.name for p, _ in places]}: {broken}; arrived {len(mail.arrived())} of {len(mail.bodies)}; the log says {[line for line in rig.log.splitlines() if 'error' in line][:2]}")
            rig.kill()


def deliver_all_but(rig, mail, damaged, what):
    rig.upstream.received.clear()
    rig.start()
    wait_until(f"{what}: the others arrive", lambda: set(mail.bodies) - damaged <= mail.arrived(), 4)
    wait_until(f"{what}: the damaged one stands as failed", lambda: [m for m in rig.queue() if m["state"] == "failed" and "damaged" in m["reason"]], 4)
    mail.unaltered()
    check(not mail.arrived() & damaged, f"V2: {what}: it was sent")
    rig.kill()


def by_chance(rig, mail, pristine, state, wrong):
    """Anything may be refused, the start too; nothing altered may leave, nothing may hang."""
    for number in range(12):
        random.seed(f"L12 {number} {state}")
        pristine.restore()
        files = f.spool_files(rig)
        path = files[number % len(files)]
        size = path.stat().st_size
        at = random.randrange(size)
        what = f"{path.name}, {size} octets, at {at}, way {number % 3}"
        if number % 3 == 0:
            for _ in range(20):
                f.flip(path, random.randrange(size), random.randrange(8))
        elif number % 3 == 1:
            os.truncate(path, at)
        else:
            f.change(path, at & ~4095, bytes(4096))
        survive(rig, mail, f"{state}: {what}", wrong)
    # In the envelope alone (a text in JSON), not in the content.
    for octets, new in ((b'b@else.example"', b'c@else.example"'), (b'b@else.example"', b'b@elre.example"')):
        pristine.restore()
        places = f.holding(rig, octets)
        check(places, f"{octets} stands nowhere: this case must learn the new layout")
        for path, _ in places:
            path.write_bytes(path.read_bytes().replace(octets, new))
        survive(rig, mail, f"{state}: {octets} became {new}", wrong)


def survive(rig, mail, what, wrong):
    rig.upstream.received.clear()
    try:
        if f.start_or_refuse(rig):
            wait_idle(rig, lambda: len(rig.upstream.received), 0.4)
        mail.unaltered()
        check("panicked" not in rig.log, f"a panic: {rig.log[-1500:]}")
    except Broken as broken:
        wrong.append(f"{what}: {broken}")
    if rig.process.poll() is None:
        rig.kill()


@case("L13", "the store's files are deleted while it runs")
def _(rig):
    f.shut(rig)
    mail = Mail(rig)
    mail.send(3)
    # Nothing is acknowledged that would be gone with its last descriptor.
    client = rig.client()
    client.envelope()
    content = rig.message(b"0123456789abcdef\r\n" * (4 << 16))
    client.raw(content)
    wait_until("it is being written", lambda: bodies(rig))
    for path in bodies(rig):
        path.unlink()
    reply = client.content(b"")
    rig.note(content, reply)
    check(reply.startswith("451 4.3.0"), f"into a deleted file: {reply!r}")
    mail.send(1, BIG)
    large = next(t for t in mail.bodies if len(mail.bodies[t]) >= BIG)
    a_body_goes(rig, mail, large)
    wrong = []
    for which in ("the log", "everything"):
        try:
            store_goes(rig, which)
        except Broken as broken:
            wrong.append(str(broken))
            rig.may_be_lost |= set(rig.said)
            rig.kill()
            rig.start()
    check(not wrong, "; ".join(wrong))


def a_body_goes(rig, mail, large):
    if not bodies(rig):
        return
    for path in bodies(rig):
        path.unlink()
    rig.may_be_lost.add(large)
    f.open_again(rig)
    mail.all_arrive(without={large})
    wait_until("it stands as failed", lambda: [m for m in rig.queue() if m["state"] == "failed"])


def store_goes(rig, which):
    client = rig.client()
    for path in f.spool_files(rig):
        if which == "everything" or path.name.endswith(("-wal", ".log")):
            path.unlink()
    client.envelope()
    content = rig.message()
    reply = client.content(content)
    if reply.startswith("250"):
        # What else there is may hold it: the next start shows.
        rig.kill()
        rig.start()
        known = lambda: TOKEN.search(content)[0] in rig.upstream.tokens() or rig.queue()
        check(known(), f"V1: 250 into deleted files ({which} deleted): lost with the next restart")
        return
    refused(reply, "421", "451")
    check(rig.wait_exit() == 75, f"exit code {rig.process.returncode}, wanted 75")
    rig.may_be_lost |= set(rig.said)
    rig.start()


@case("L14", "two processes, one spool")
def _(rig):
    done = rig.run("run", code=75)
    words = done.stderr.decode()
    check(str(rig.process.pid) in words, f"the other process is not named: {words}")
    rig.good_client()
    rig.kill()
    rig.start()  # a lock of a dead process does not hold


@case("L15", "file systems that forget: said, not refused", start=False)
def _(rig):
    """By the Known cases a warning."""
    f.own_disk(rig, "24m")
    rig.start()
    lines = [line for line in rig.log.splitlines() if "level=warn" in line or "level=error" in line]
    check(any("tmpfs" in line for line in lines), f"nothing says that the spool is on a tmpfs: {lines}")


# --------------------------------------------------------------------------- planted files


def planted(rig):
    """(what, how) for one thing after the other in the way of the spool."""
    spool = next(p for p in rig.data.iterdir() if p.is_dir() and p.name == "spool")
    outside = rig.directory / "outside"
    outside.mkdir(exist_ok=True)
    yield "spool directory of mode 0777", lambda: spool.chmod(0o777)
    yield "spool directory of another owner", lambda: os.chown(spool, 12345, 12345)
    yield "spool directory is a link", lambda: (spool.rename(outside / "spool"), spool.symlink_to(outside / "spool"))
    yield "data directory of mode 0777", lambda: rig.data.chmod(0o777)
    for name in ("database", "lock"):
        path = f.databases(rig)[0] if name == "database" else next(iter(rig.data.rglob("lock")), None)
        if path is None:
            continue
        yield f"{name} is a link", lambda path=path: (path.rename(outside / path.name), path.symlink_to(outside / path.name))
        yield f"{name} has a second name", lambda path=path: os.link(path, outside / "second")
        yield f"{name} is a FIFO", lambda path=path: (path.unlink(), os.mkfifo(path))
    for path in [p for p in spool.iterdir() if p.is_dir()]:
        yield f"{path.name} is a link", lambda path=path: (path.rename(outside / path.name), path.symlink_to(outside / path.name))


@case("L16", "links, FIFOs, foreign owners in the spool")
def _(rig):
    rig.stop()
    place = rig.directory / "kept"
    shutil.copytree(rig.data, place)
    wrong = []
    for number in range(len(list(planted(rig)))):
        what, plant = list(planted(rig))[number]
        plant()
        try:
            f.refuses(rig, (73, 75, 77, 78))
        except Broken as broken:
            wrong.append(f"{what}: {broken}")
            if rig.process.poll() is None:
                rig.kill()
        shutil.rmtree(rig.data) if not rig.data.is_symlink() else None
        shutil.rmtree(rig.directory / "outside", ignore_errors=True)
        shutil.copytree(place, rig.data)
        rig.data.chmod(0o700)
    rig.start()
    check(not wrong, "; ".join(wrong))


# --------------------------------------------------------------------------- clock

YEARS = 10 * 365.25 * 86_400


@case("L17", "clock jumps back and forward 10 years; DST", start=False, after="")
def _(rig):
    """Suspension of the machine is a jump of the wall clock alone (CLOCK_MONOTONIC stands still)."""
    rig.environment["TZ"] = "Europe/Berlin"
    clock = Clock(rig)
    rig.start()
    wrong = []
    for seconds in (YEARS, 3 * 86_400, -YEARS, -3600):
        try:
            anew(rig, clock)
            jump(rig, clock, seconds)
        except Broken as broken:
            wrong.append(str(broken))
            rig.may_be_lost |= set(rig.said)
    anew(rig, clock)
    try:
        while_down(rig, clock)
    except Broken as broken:
        wrong.append(f"while the server was down: {broken}")
        rig.may_be_lost |= set(rig.said)
    anew(rig, clock)
    try:
        around_summer_time(rig, clock)
    except Broken as broken:
        wrong.append(f"around the change to summer time: {broken}")
        rig.may_be_lost |= set(rig.said)
    anew(rig, clock)
    check(not wrong, "; ".join(wrong))


def while_down(rig, clock):
    """A machine whose clock starts ten years ahead, or that was off for six days, tries what waits
    before it gives anything up."""
    mail = Mail(rig)
    f.shut(rig)
    mail.send(3)
    rig.wait_log("event=route-failing", count=1)
    for seconds in (6 * 86_400, YEARS):
        rig.kill()
        clock.move(wall=seconds, steady=jump.steady)
        rig.start()
        connections = rig.upstream.connections
        # A sweep looks for what is to be given up at once, and again ten steady seconds later.
        jump.steady += 11
        clock.move(wall=seconds + 11, steady=jump.steady)
        wait_until("three seconds of tries", after_seconds(3))
        check(rig.upstream.connections > connections, "nothing was tried")
        check("event=bounced" not in rig.log and "event=expired" not in rig.log, f"given up with the clock {seconds} s ahead")
        check(len(rig.queue()) >= 3 and not [m for m in rig.queue() if m["state"] == "failed"], f"{rig.queue()}")
    f.open_again(rig)
    rig.run("queue", "retry", *[m["id"] for m in rig.queue()])
    mail.all_arrive()


def anew(rig, clock):
    """The true time, and nothing known from before."""
    rig.kill()
    shutil.rmtree(rig.data)
    f.open_again(rig)
    clock.move()
    jump.steady = 0
    rig.start()


def jump(rig, clock, seconds):
    """Mail that waits during a jump is neither lost, nor given up, nor tried in a storm."""
    mail = Mail(rig)
    f.shut(rig)
    mail.send(3)
    rig.wait_log("event=route-failing", count=1)
    before, connections = len(rig.log.splitlines()), rig.upstream.connections
    # Eleven steady seconds more: a sweep is due, which is what gives mail up.
    jump.steady += 11
    clock.move(wall=seconds, steady=jump.steady)
    wait_until("three seconds of tries", after_seconds(3))
    tries = rig.upstream.connections - connections
    check(tries <= 15, f"{tries} tries in 3 s after a jump to {seconds:.0f} s off")
    lines = rig.log.splitlines()[before:]
    if any("event=bounced" in line for line in lines):
        rig.may_be_lost |= set(mail.bodies)
        raise Broken(f"V1: given up after {lines[0][:24]}…{lines[-1][:24]}, because the clock jumped to {seconds:.0f} s off")
    f.open_again(rig)
    try:
        mail.all_arrive(limit=8)
    except Broken as broken:
        rig.may_be_lost |= set(mail.bodies)
        raise Broken(f"{broken}: nothing goes after the clock jumped to {seconds:.0f} s off") from None


jump.steady = 0


def after_seconds(seconds):
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def around_summer_time(rig, clock):
    """The hour that is missing, and the one that comes twice."""
    import calendar

    for text in ("2026-03-29 00:59:59", "2026-03-29 01:00:01", "2026-10-25 00:59:59", "2026-10-25 01:00:01", "2028-02-29 23:59:59", "2016-12-31 23:59:59"):
        clock.move(wall=calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M:%S")) - time.time(), steady=jump.steady)
        mail = Mail(rig)
        mail.send(1)
        mail.all_arrive(limit=8)
        check("panicked" not in rig.log, f"a panic at {text}")


@case("L18", "no entropy call, no name service, no network")
def _(rig):
    """Names: an upstream in .invalid, addresses: one that nothing routes to; the mail waits. Where
    getrandom is forbidden (EPERM) the program ends before it listens, which is safer than
    predictable numbers."""
    rig.stop()
    text = (rig.directory / "tenants/acme.toml").read_text()
    for host in ("smtp.nowhere.invalid", "192.0.2.1"):
        rig.tenant("acme", text.replace('host = "127.0.0.1"', f'host = "{host}"'))
        begun = time.monotonic()
        rig.start()
        check(time.monotonic() - begun < 5, "the start waits for the network")
        rig.client().message()
        check(len(rig.queue()) >= 1, "not queued")
        rig.stop()
    rig.tenant("acme", text)
    for error in ("ENOSYS",):
        rig.wrapper = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", f"inject=getrandom:error={error}"]
        rig.start()
        rig.client().message()
        rig.stop()
    rig.wrapper = []
    rig.start()


# --------------------------------------------------------------------------- log, size, blocking


@case("L19", "nobody reads the log", start=False)
def _(rig):
    f.fixed_ports(rig)
    os.mkfifo(rig.directory / "pipe")
    reader = os.open(rig.directory / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    rig.wrapper = ["sh", "-c", 'exec "$@" 2>pipe', "sh"]
    rig.start(wait=False)
    f.serving(rig)
    mail = Mail(rig)
    begun = time.monotonic()
    client = rig.client()
    mail.send(600, client=client)  # some 300 octets of log each, the pipe holds 64 KiB
    mail.all_arrive()
    check(time.monotonic() - begun < 20, "mail is slow while the log is blocked")
    check(rig.resident() < 150, f"{rig.resident():.0f} MiB of log are kept")
    rig.good_client()
    check(rig.stop() == 0, f"exit code {rig.process.returncode} with a blocked log")
    os.close(reader)
    rig.exit_code = 0


@case("L20", "20 000 queued: start, memory, list")
def _(rig):
    """The row has 1 000 000; this is scaled to what can be handed in within seconds."""
    f.shut(rig)
    count, lanes = 20_000, 16
    threads = [threading.Thread(target=hand_in, args=(rig, count // lanes), daemon=True) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    wait_until("all are queued", lambda: rig.metric("postbote_spool_messages") >= count, 10)
    rig.kill()
    begun = time.monotonic()
    rig.start()
    took = time.monotonic() - begun
    check(took < 5, f"the start took {took:.1f} s")
    check(len(rig.queue()) >= count, "not all are listed")
    check(rig.resident() < 150, f"{rig.resident():.0f} MiB")
    f.open_again(rig)
    wait_until("it goes out", lambda: len(rig.upstream.received) > 200)
    rig.may_arrive |= set(rig.upstream.tokens())
    f.shut(rig)
    open_for_the_good_client(rig)


def open_for_the_good_client(rig):
    """The rest goes out unseen; what the good client sends is kept."""

    def dot(session, content):
        if b"Subject: bulk" in content:
            return "250 2.0.0 taken"
        return session.take(content)

    rig.upstream.on["dot"] = dot
    f.open_again(rig)


def hand_in(rig, count):
    """Messages as fast as one connection takes them: the next envelope rides with the content."""
    connection = socket.create_connection(rig.address(), timeout=60)
    read = connection.makefile("rb")
    read.readline()
    connection.sendall(b"EHLO bulk.example\r\n")
    while read.readline()[3:4] == b"-":
        pass
    envelope = b"MAIL FROM:<app@source.example>\r\nRCPT TO:<b@else.example>\r\nDATA\r\n"
    connection.sendall(envelope)
    for number in range(count):
        replies = [read.readline() for _ in range(3)]
        check(replies[2].startswith(b"354"), f"{replies}")
        message = b"From: app@source.example\r\nTo: b@else.example\r\nSubject: bulk %d %d\r\n\r\nHello.\r\n.\r\n" % (threading.get_ident(), number)
        connection.sendall(message + (envelope if number + 1 < count else b"QUIT\r\n"))
        reply = read.readline()
        check(reply.startswith(b"250 2.0.0"), f"{reply}")
    connection.close()


@case("L21", "one large message fails for ever among small ones")
def _(rig):
    """300 small ones instead of 1000."""

    def rcpt(session, line):
        if getattr(session, "large", False):
            return "451 4.7.1 not this one"
        session.recipients.append("b@else.example")
        return "250 2.1.5 ok"

    def mail_from(session, line):
        size = re.search(rb"SIZE=(\d+)", line)
        session.large = bool(size) and int(size[1]) > 30 * MIB
        session.sender, session.recipients = "office@acme.example", []
        return "250 2.1.0 ok"

    rig.upstream.on.update(MAIL=mail_from, RCPT=rcpt)
    mail = Mail(rig)
    mail.send(1, 36 * MIB)
    large = next(iter(mail.bodies))
    rig.wait_log("event=deferred")
    begun = time.monotonic()
    mail.send(300)
    mail.all_arrive(without={large})
    check(time.monotonic() - begun < 15, f"300 small messages took {time.monotonic() - begun:.0f} s")
    check(len(rig.queue()) == 1, "the large one does not wait")


# --------------------------------------------------------------------------- poison, crashes


def crash_at(rig, number_of_kills, signal_number=signal.SIGKILL):
    """The server dies whenever it sends the message `poison`, up to so many times."""
    kills = []

    def data(session, line):
        session.say("354 go")
        content = session.data()
        if b"Subject: poison" in content and len(kills) < number_of_kills:
            kills.append(time.monotonic())
            os.kill(rig.process.pid, signal_number)
            session.close(reset=True)
            return None
        return session.take(content)

    rig.upstream.on["DATA"] = data
    return kills


@case("L22", "poison: a message at whose delivery the process dies", upstream_keys="connections = 1")
def _(rig):
    """No fail point in the release build: the case kills the process whenever the message is sent,
    as a panic=abort or a stack overflow there would (rule R8: after three such attempts the
    message is set aside, the rest flows)."""
    mail = Mail(rig)
    f.shut(rig)
    content = mail.content().replace(b"Subject: ", b"Subject: poison ")
    rig.client().message(content)
    poison = TOKEN.search(content)[0]
    mail.send(5)
    kills = crash_at(rig, 100)
    f.open_again(rig)
    for _ in range(40):
        wait_until("the process dies, or the others arrive", lambda: rig.process.poll() is not None or arrived_others(mail, poison), 15)
        if rig.process.poll() is None:
            break
        rig.start(wait=False)
    wait_until("the others arrive", lambda: arrived_others(mail, poison) or rig.process.poll() is not None, 10)
    rig.upstream.on.clear()
    check(arrived_others(mail, poison), f"the process died {len(kills)} times at the same message, the others still wait behind it")
    rig.may_be_lost.add(poison)


def arrived_others(mail, poison):
    return set(mail.bodies) - {poison} <= mail.arrived()


def certificates(place):
    """An authority, and a server certificate by it for 127.0.0.1; gives the first's file and a context."""

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-days", "30", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA")
    openssl("req", *key, "-keyout", "up.key", "-out", "up.csr", "-subj", "/CN=localhost")
    (place / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "up.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-out", "up.pem", "-extfile", "names")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "up.pem", place / "up.key")
    return place / "ca.pem", context


@case("L23", "clock far off during TLS", start=False)
def _(rig):
    """"Certificate not yet valid" is not the server's fault: nothing bounces, the clock is named."""
    authority, rig.upstream.tls = certificates(rig.directory)
    text = (rig.directory / "tenants/acme.toml").read_text().replace('encryption = "none"', f'encryption = "starttls"\nca_file = "{authority}"')
    rig.tenant("acme", text)
    clock = Clock(rig)
    mail = Mail(rig)
    rig.start()
    mail.send(1)
    mail.all_arrive()
    for seconds in (-YEARS, YEARS):
        rig.stop()
        clock.move(wall=seconds)
        rig.start()
        mail.send(2)
        line = rig.wait_log("event=route-suspended")[0]
        check(re.search("clock|date and time", line), f"the clock is not mentioned: {line}")
        check("event=bounced" not in rig.log, "it bounced")
        clock.move()
        rig.kill()
        rig.start()
        mail.all_arrive()


@case("L24", "the process aborts while it reads a message")
def _(rig):
    """No parser is known to overflow; SIGABRT and SIGILL are what such an overflow ends in.
    That a message at which it dies each time is set aside: L22."""
    mail = Mail(rig)
    f.shut(rig)
    for number in (signal.SIGILL, signal.SIGABRT):
        mail.send(3)
        client = rig.client()
        client.envelope()
        client.raw(rig.message() + b"\r\n")
        half = rig.client()
        half.envelope()
        half.raw(rig.message(f.letters(BIG)))
        wait_until("a body is being written", lambda: bodies(rig))
        rig.signal(number)
        check(rig.wait_exit() == -number, f"ended with {rig.process.returncode}")
        rig.start()
        check(len(rig.queue()) == len(mail.bodies), "something half stored, or lost")
        check(not rig.bodies(), "an unfinished body was left behind")
    f.open_again(rig)
    mail.all_arrive()


@case("L25", "SIGSTOP for ten minutes, then SIGCONT", start=False)
def _(rig):
    """Ten minutes of both clocks pass while the process is stopped; stopped before the final dot's
    answer and while clients talk."""
    clock = Clock(rig)
    rig.start()
    mail = Mail(rig)
    held, go = threading.Event(), threading.Event()

    def dot(session, content):
        held.set()
        go.wait(20)
        session.close()
        return None

    rig.upstream.on["dot"] = dot
    mail.send(2)
    check(held.wait(20), "no delivery began")
    idle, talking = rig.client(), rig.client()
    talking.envelope()
    talking.raw(b"From: app@source.example\r\n")
    rig.signal(signal.SIGSTOP)
    clock.move(wall=600, steady=600)
    go.set()
    rig.upstream.on.clear()
    rig.signal(signal.SIGCONT)
    rig.good_client()
    mail.all_arrive()
    content = mail.content()
    reply = talking.content(content)
    refused(reply, "250", "421 4.4.2", "")
    if not reply.startswith("250"):
        mail.bodies.pop(TOKEN.search(content)[0])
        rig.said.pop(TOKEN.search(content)[0], None)
    reply = idle.send("NOOP") if not reply else idle.send("NOOP")
    refused(reply, "250", "421 4.4.2")
    mail.all_arrive()
    queue_is_empty(rig)


@case("L26", "RLIMIT_FSIZE: SIGXFSZ", wrapper=["prlimit", "--fsize=2097152"])
def _(rig):
    mail = Mail(rig)
    client = rig.client()
    mail.send(1, client=client)
    client.envelope()
    reply = client.content(rig.message(f.letters(3 * MIB)))
    if not reply:
        raise Broken(f"V4: the server ended with {rig.wait_exit(5)} (-{signal.SIGXFSZ.value} is SIGXFSZ) instead of 452")
    refused(reply, "452 4.3.1")
    check(not rig.bodies(), "a refused message has left a file")
    mail.send(1, client=client)
    mail.all_arrive()
