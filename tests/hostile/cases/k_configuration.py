"""K: configuration, files, secrets in output."""

import base64, hashlib, json, os, random, re, shutil, signal, socket, sqlite3, subprocess, time

from rig import BINARY, CANARY, OPERATOR, TENANT, TOKEN, Broken, Upstream, case, check, not_here, wait_until

from . import _faults as f
from ._faults import Mail

ARGON = "$argon2id$v=19$m={m},t={t},p=1$c29tZXNhbHRzb21lc2FsdA$" + base64.b64encode(bytes(32)).decode().rstrip("=")


# --------------------------------------------------------------------------- reload

LISTENER = '[[listener]]\nname = "more"\naddress = "127.0.0.1:0"\n'

BROKEN = [
    # what, file, changed text, where the problem must be said to be
    ("syntax", "postbote.toml", lambda t: t + "\n[server\n", r"postbote\.toml:\d+"),
    ("half a string", "tenants/acme.toml", lambda t: t + '\nname2 = "abc\n', r"acme\.toml:\d+"),
    ("unknown key", "postbote.toml", lambda t: t.replace("[server]", '[server]\nhostnam = "x"'), r"postbote\.toml:\d+.*hostnam"),
    ("unknown key of a tenant", "tenants/acme.toml", lambda t: 'passwort = "x"\n' + t, r"acme\.toml:\d+.*passwort"),
    ("unknown table", "postbote.toml", lambda t: t + "\n[mystery]\na = 1\n", r"postbote\.toml:\d+.*mystery"),
    ("key said twice", "postbote.toml", lambda t: t.replace("[server]", '[server]\nlanguage = "de"'), r"postbote\.toml:\d+"),
    ("text for a number", "tenants/acme.toml", lambda t: re.sub(r"port = \d+", 'port = "587"', t), r"acme\.toml:\d+.*port"),
    ("number out of range", "tenants/acme.toml", lambda t: re.sub(r"port = \d+", "port = 65536", t), r"acme\.toml:\d+.*port"),
    ("negative number", "postbote.toml", lambda t: t.replace("[server]", "[server]\nmax_recipients = -1"), r"postbote\.toml:\d+.*max_recipients"),
    ("number for a text", "postbote.toml", lambda t: t.replace('"postbote.test"', "5"), r"postbote\.toml:\d+.*hostname"),
    ("size without unit", "postbote.toml", lambda t: t.replace("[server]", '[server]\nmax_message_size = "50"'), r"postbote\.toml:\d+.*max_message_size"),
    ("size beyond all", "postbote.toml", lambda t: t.replace("[server]", '[server]\nspool_limit = "99999999999999TiB"'), r"postbote\.toml:\d+.*spool_limit"),
    ("time without unit", "postbote.toml", lambda t: t.replace('"5s"', '"5"'), r"postbote\.toml:\d+.*drain"),
    ("unknown choice", "tenants/acme.toml", lambda t: t.replace('"none"', '"maybe"'), r"acme\.toml:\d+.*encryption"),
    ("not an address", "tenants/acme.toml", lambda t: t.replace("office@acme.example", "office@@acme"), r"acme\.toml:\d+.*email"),
    ("line end in an address", "tenants/acme.toml", lambda t: t.replace("office@acme.example", "a@b.example\\r\\nRCPT TO:<x@y.example>"), r"acme\.toml:\d+.*email"),
    ("line end in a name", "tenants/acme.toml", lambda t: t.replace('"ACME"', '"ACME\\r\\nBcc: x@y.example"'), r"acme\.toml:\d+.*name"),
    ("line end in helo", "tenants/acme.toml", lambda t: t.replace("[upstream]", '[upstream]\nhelo = "a\\r\\nMAIL FROM:<>"'), r"acme\.toml:\d+.*helo"),
    ("line end in the hostname", "postbote.toml", lambda t: t.replace('"postbote.test"', '"a\\nb"'), r"postbote\.toml:\d+.*hostname"),
    ("secret of two sources", "tenants/acme.toml", lambda t: t.replace("[upstream]", '[upstream]\nusername = "u"\npassword = { env = "A", file = "b" }'), r"acme\.toml:\d+.*password"),
    ("login twice over all", "tenants/beta.toml", lambda t: 'name = "B"\nemail = "b@beta.example"\n[[user]]\nlogin = "pos1"\npassword = "x"\n', r"beta\.toml:\d+.*login"),
    ("network twice over all", "tenants/beta.toml", lambda t: 'name = "B"\nemail = "b@beta.example"\nnetworks = ["10.9.0.0/16"]\n', r"beta\.toml:\d+.*networks"),
    ("tenant's file with a bad name", "tenants/Be ta.toml", lambda t: 'name = "B"\nemail = "b@beta.example"\n', r"Be ta\.toml"),
    ("tenant without an address", "tenants/beta.toml", lambda t: 'name = "B"\n', r"beta\.toml.*email"),
    ("listener of nobody", "postbote.toml", lambda t: t.replace('tenant = "acme"', 'tenant = "nobody"'), r"postbote\.toml:\d+.*tenant"),
    ("certificate that is not there", "postbote.toml", lambda t: t + LISTENER + 'certificate = "no.pem"\nkey = "no.key"\n', r"postbote\.toml:\d+.*certificate"),
    ("certificate without its key", "postbote.toml", lambda t: t + LISTENER + 'certificate = "no.pem"\n', r"postbote\.toml:\d+.*certificate"),
    ("ca_file that is not there", "tenants/acme.toml", lambda t: t.replace("[upstream]", '[upstream]\nca_file = "no.pem"'), r"acme\.toml:\d+.*ca_file"),
    ("address that is none", "postbote.toml", lambda t: t + LISTENER.replace("127.0.0.1:0", "127.0.0.1:99999"), r"postbote\.toml:\d+.*address"),
    ("port in use", "postbote.toml", None, r"reload-refused.*127\.0\.0\.1:\d+"),
    ("0 octets", "postbote.toml", lambda t: "", r"postbote\.toml"),
    ("0 octets of a tenant", "tenants/acme.toml", lambda t: "", r"acme\.toml"),
    ("not UTF-8", "tenants/acme.toml", lambda t: b'name = "\xff\xfe"\n', r"acme\.toml"),
    ("NUL octets", "postbote.toml", lambda t: bytes(4096), r"postbote\.toml"),
    ("100 MiB", "postbote.toml", lambda t: b"# x\n" * (25 << 20), r"postbote\.toml"),
    ("brackets 500 000 deep", "postbote.toml", lambda t: "a = " + "[" * 500_000, r"postbote\.toml"),
    ("tables 100 000 deep", "postbote.toml", lambda t: "a." * 100_000 + "b = 1", r"postbote\.toml"),
    ("inline tables 100 000 deep", "tenants/acme.toml", lambda t: "name = " + "{ a = " * 100_000, r"acme\.toml"),
    ("a directory", "tenants/dir.toml", "directory", r"dir\.toml"),
    ("a FIFO", "tenants/pipe.toml", "fifo", r"pipe\.toml"),
    ("a link to nowhere", "tenants/link.toml", "link", r"link\.toml"),
]


@case("K01", "broken configurations at reload", tenant='networks = ["10.9.0.0/16"]', after='[[user]]\nlogin = "pos1"\npassword = "other"\n')
def _(rig):
    """the interface has no status `config_rejected`; the log and `check` say it. Exit code 78 is
    that of `check`."""
    taken = socket.create_server(("127.0.0.1", 0))
    good = {name: (rig.directory / name).read_text() for name in ("postbote.toml", "tenants/acme.toml")}
    wrong = []
    for what, name, spoil, place in BROKEN:
        try:
            broken_reload(rig, what, name, spoil, place, good, taken)
        except Broken as broken:
            wrong.append(f"{what}: {str(broken)[:300]}")
            check(rig.process.poll() is None, f"V4: the server ended at the reload of {what}: {wrong}")
        put_back(rig, name, good)
    mail = Mail(rig)
    mail.send(1)
    mail.all_arrive()
    taken.close()
    check(not wrong, "\n".join(wrong))


def broken_reload(rig, what, name, spoil, place, good, taken):
    path, since = rig.directory / name, len(rig.log)
    if spoil == "directory":
        path.mkdir()
    elif spoil == "fifo":
        os.mkfifo(path)
    elif spoil == "link":
        path.symlink_to("nowhere")
    elif spoil is None:
        rig.write(name, good[name] + LISTENER.replace("127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}"))
    else:
        rig.write(name, spoil(good.get(name, "")))
    rig.signal(signal.SIGHUP)
    # The server also reads what changes by itself: a refusal may still be that of the case before.
    def refused():
        said = re.search(place, rig.log[since:])
        return said and ("reload-refused" in said[0] or "event=reload-refused" in rig.log[since + said.end() :])

    try:
        wait_until("the reload is refused", lambda: refused() or rig.process.poll() is not None, 10)
    except Broken as broken:
        raise Broken(f"{broken}: nothing says {place}: {rig.log[since:][:600]}")
    rig.client().close()  # the old one is in force
    if spoil is not None:
        done = rig.run("check", code=78)
        check(re.search(place, done.stdout.decode()), f"check does not say {place}: {done.stdout.decode()[:600]}")


def put_back(rig, name, good):
    path = rig.directory / name
    if path.is_dir():
        path.rmdir()
    elif path.is_symlink() or path.exists():
        path.unlink()
    if name in good:
        rig.write(name, good[name])


def reload(rig):
    since = len(rig.log)
    rig.signal(signal.SIGHUP)
    wait_until("the reload", lambda: "event=reloaded" in rig.log[since:] or "event=reload-refused" in rig.log[since:])
    check("event=reloaded" in rig.log[since:], f"the reload was refused: {rig.log[since:]}")


RELAY = """
[system]
email = "noreply@provider.example"
[system.upstream]
host = "127.0.0.1"
port = {port}
encryption = "none"
"""
USER = '[[user]]\nlogin = "{login}"\npassword = "pw"\n'


def relay_upstream(rig, extra=""):
    """Adds a system relay to the operator's file."""
    relay = Upstream()
    rig.upstreams.append(relay)
    text = (rig.directory / "postbote.toml").read_text() + RELAY.format(port=relay.port) + extra
    rig.write("postbote.toml", text)
    return relay


@case("K02", "a reload removes a tenant whose mail waits", start=False)
def _(rig):
    relay = relay_upstream(rig, '[tenant_defaults]\nsystem_relay = "on-failure"\nfallback_after = "1h"\n')
    beta = rig.another_tenant("beta", after=USER.format(login="pos@beta"))
    rig.start()
    f.shut(rig, beta)
    client = rig.client()
    client.login("pos@beta", "pw")
    mail = Mail(rig)
    for _ in range(3):
        client.message(mail.content())
    path = rig.directory / "tenants/beta.toml"
    text = path.read_text()
    path.unlink()
    reload(rig)
    f.open_again(rig, beta)
    waiting = wait_until("held with a reason", lambda: [m for m in rig.queue() if m["state"] == "held" and m["reason"]])
    check(len(waiting) == 3, f"{waiting}")
    client.expect("MAIL FROM:<a@t.example>", "5")  # its login has gone
    rig.good_client()
    check(not relay.received and not mail.arrived(), "it was sent")
    check("event=bounced" not in rig.log, "it bounced")
    rig.kill()
    rig.start()
    wait_until("still held after a restart", lambda: len([m for m in rig.queue() if m["state"] == "held"]) == 3)
    rig.tenant("beta", text)
    reload(rig)
    mail.all_arrive()


@case("K03", "the upstream changes while mail waits and one is on its way")
def _(rig):
    import threading

    go, held = threading.Event(), threading.Event()

    def dot(session, content):
        held.set()
        go.wait(20)
        return session.take(content)

    old = rig.upstream
    old.on["dot"] = dot
    mail = Mail(rig)
    mail.send(1)
    first = set(mail.bodies)
    check(held.wait(20), "no delivery began")
    f.shut(rig)
    mail.send(4)
    rig.wait_log("event=route-failing")
    new = Upstream()
    rig.upstreams.append(new)
    text = (rig.directory / "tenants/acme.toml").read_text()
    rig.tenant("acme", text.replace(f"port = {old.port}", f"port = {new.port}"))
    reload(rig)
    try:
        wait_until("the rest goes over the new upstream while the old one still holds the first", lambda: len(new.received) >= 4, 8)
    finally:
        go.set()
    mail.all_arrive()
    check({t for t in map(bytes, old.tokens())} == first, "the one on its way did not finish on the old one")
    check(not first & set(new.tokens()), "it was sent again")


# --------------------------------------------------------------------------- files


@case("K04", "configuration that others may read or write", start=False)
def _(rig):
    """the interface: `check` warns; the warnings must carry the command that mends it."""
    path = rig.tenant("acme", TENANT.format(tenant="", port=1, upstream=f'username = "u"\npassword = "{CANARY}"', after=""))
    wrong = []
    for what, spoil, mend, words in (
        ("mode 0644 with a password in it", lambda: path.chmod(0o644), lambda: path.chmod(0o600), "chmod"),
        ("another owner", lambda: os.chown(path, 12345, 12345), lambda: os.chown(path, 0, 0), "chown"),
        ("directory writable for all", lambda: path.parent.chmod(0o777), lambda: path.parent.chmod(0o755), "chmod"),
        ("file writable for all", lambda: path.chmod(0o666), lambda: path.chmod(0o600), "chmod"),
    ):
        path.chmod(0o600)
        spoil()
        done = rig.run("check", code=None)
        said = done.stdout.decode()
        if not any(words in line and "tenants" in line for line in said.splitlines()):
            wrong.append(f"{what}: nothing with {words!r} in {said!r}")
        check(CANARY not in said + done.stderr.decode(), "V3: the password stands in what check prints")
        mend()
    check(not wrong, "\n".join(wrong))


def spoil_key(rig, how):
    key = rig.data / "vault.key"
    whole = key.read_bytes()
    if how == "link":
        key.rename(rig.directory / "elsewhere.key")
        key.symlink_to(rig.directory / "elsewhere.key")
    elif how == "mode 0644":
        key.chmod(0o644)
    elif how == "mode 0640":
        key.chmod(0o640)
    elif how == "31 octets":
        key.write_bytes(base64.b64encode(bytes(31)))
    elif how == "33 octets":
        key.write_bytes(base64.b64encode(bytes(33)))
    elif how == "empty":
        key.write_bytes(b"")
    elif how == "not base64":
        key.write_bytes(bytes(range(256)))
    elif how == "1 MiB":
        key.write_bytes(b"A" * (1 << 20))
    elif how == "FIFO":
        key.unlink()
        os.mkfifo(key, 0o600)
    elif how == "directory":
        key.unlink()
        key.mkdir()
    elif how == "another owner":
        os.chown(key, 12345, 12345)
    return whole


@case("K05", "the vault's key: link, modes, lengths, FIFO, directory; secrets in a FIFO", start=False)
def _(rig):
    rig.run("vault", "set", "acme-smtp", input=b"secret\n")
    wrong = []
    for how in ("link", "mode 0644", "mode 0640", "31 octets", "33 octets", "empty", "not base64", "1 MiB", "FIFO", "directory", "another owner"):
        whole = spoil_key(rig, how)
        try:
            f.refuses(rig, (77, 78), "vault.key", "key")
        except Broken as broken:
            wrong.append(f"{how}: {broken}")
            if rig.process.poll() is None:
                rig.kill()
        key = rig.data / "vault.key"
        key.rmdir() if key.is_dir() and not key.is_symlink() else key.unlink()
        key.write_bytes(whole)
        key.chmod(0o600)
    configured_key(rig, wrong)
    secret_in_a_fifo(rig, wrong)
    check(not wrong, "\n".join(wrong))


def configured_key(rig, wrong):
    """`[vault] key = { file = … }` must not be waited for for ever."""
    os.mkfifo(rig.directory / "pipe", 0o600)
    text = (rig.directory / "postbote.toml").read_text()
    rig.write("postbote.toml", text + '\n[vault]\nkey = { file = "pipe" }\n')
    try:
        f.refuses(rig, 78, "pipe")
    except Broken as broken:
        wrong.append(f"[vault] key in a FIFO: {broken}")
        if rig.process.poll() is None:
            rig.kill()
    rig.write("postbote.toml", text)


def secret_in_a_fifo(rig, wrong):
    rig.tenant("acme", TENANT.format(tenant="", port=rig.upstream.port, upstream='username = "u"\npassword = { file = "../pipe" }', after=""))
    rig.upstream.login = ("u", "p")
    rig.start()
    rig.client().message()
    rig.may_be_lost |= set(rig.said)
    try:
        rig.wait_log("event=deferred", "pipe", limit=5)
    except Broken as broken:
        wrong.append(f"a password in a FIFO: {str(broken)[:80]}; {'it serves' if serves(rig) else 'the whole server hangs'}")
    rig.kill()
    (rig.directory / "pipe").unlink()
    (rig.directory / "pipe").write_text("p\n")
    rig.start()


def serves(rig):
    """Whether it still answers, looked at with little patience."""
    try:
        for path in ("/healthz", "/readyz", "/metrics"):
            with socket.create_connection(rig.address("admin"), timeout=2) as connection:
                connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                if not connection.recv(100):
                    return False
        return True
    except OSError:
        return False


@case("K06", "the vault's key is missing or another one", upstream_keys='username = "u"\npassword = { vault = "acme-smtp" }', start=False)
def _(rig):
    rig.upstream.login = ("u", CANARY)
    rig.run("vault", "set", "acme-smtp", input=CANARY.encode() + b"\n")
    key, vault = rig.data / "vault.key", rig.data / "vault.json"
    whole, sealed = key.read_bytes(), vault.read_bytes()
    key.unlink()
    f.refuses(rig, 78, "vault.key")
    check(not key.exists(), "a new key was made")
    rig.run("vault", "set", "more", input=b"x\n", code=78)
    check(not key.exists(), "a new key was made by `vault set`")
    key.write_bytes(base64.b64encode(bytes(range(32))) + b"\n")
    key.chmod(0o600)
    f.refuses(rig, 78, "another key")
    rig.run("vault", "set", "more", input=b"x\n", code=78)
    check(vault.read_bytes() == sealed, "the vault was changed")
    key.write_bytes(whole)
    rig.start()
    mail = Mail(rig)
    mail.send(1)
    mail.all_arrive()


def entries_damaged(contents, how):
    a, b = contents["secrets"]["acme-smtp"], contents["secrets"]["beta-smtp"]
    sealed = bytearray(base64.b64decode(a["sealed"]))
    if how == "swapped":
        contents["secrets"]["acme-smtp"], contents["secrets"]["beta-smtp"] = b, a
    elif how == "cut":
        a["sealed"] = base64.b64encode(sealed[:-5]).decode()
    elif how == "cut to nothing":
        a["sealed"] = ""
    elif how == "nonce only":
        a["sealed"] = base64.b64encode(sealed[:12]).decode()
    elif how == "bit flipped":
        sealed[20] ^= 4
        a["sealed"] = base64.b64encode(sealed).decode()
    elif how == "nonce flipped":
        sealed[0] ^= 1
        a["sealed"] = base64.b64encode(sealed).decode()
    elif how == "not base64":
        a["sealed"] = "***"
    return contents


@case("K07", "sealed secrets swapped, cut, flipped", upstream_keys='username = "u"\npassword = { vault = "acme-smtp" }', start=False)
def _(rig):
    """The account's mail is suspended (the interface: its states) with the reason; others go on."""
    rig.upstream.login = ("u", CANARY)
    others = {name: rig.another_tenant(name, after=USER.format(login=name), upstream=Upstream(login=("u", name + "-pw"))) for name in ("beta", "gamma")}
    for name in others:
        path = rig.directory / f"tenants/{name}.toml"
        rig.write(f"tenants/{name}.toml", path.read_text().replace('encryption = "none"', f'encryption = "none"\nusername = "u"\npassword = {{ vault = "{name}-smtp" }}'))
        rig.run("vault", "set", f"{name}-smtp", input=f"{name}-pw".encode())
    rig.run("vault", "set", "acme-smtp", input=CANARY.encode())
    vault = rig.data / "vault.json"
    whole = vault.read_bytes()
    rig.start()
    for how in ("swapped", "cut", "cut to nothing", "nonce only", "bit flipped", "nonce flipped", "not base64"):
        new = vault.with_suffix(".new")
        new.write_bytes(json.dumps(entries_damaged(json.loads(whole), how)).encode())
        new.chmod(0o600)
        new.rename(vault)
        reload(rig)
        damaged_account(rig, how, others)
        rig.run("vault", "set", "acme-smtp", input=CANARY.encode())
        rig.run("vault", "set", "beta-smtp", input=b"beta-pw")
        wait_until(f"{how}: after `vault set` it goes", lambda: not rig.queue())


def damaged_account(rig, how, others):
    logins = [u.logins for u in rig.upstreams]
    rig.client().message()
    waiting = wait_until(f"{how}: suspended with its reason", lambda: [m for m in rig.queue() if m["tenant"] == "acme" and m["state"] == "suspended" and "acme-smtp" in m["reason"]])
    check(len(waiting) == 1, f"{how}: {waiting}")
    for name in ("gamma",) if how == "swapped" else others:
        client = rig.client()
        client.login(name, "pw")
        content = rig.message()
        client.message(content)
        token = TOKEN.search(content)[0]
        wait_until(f"{how}: {name}'s mail goes", lambda: token in others[name].tokens())
    check(rig.upstream.logins == logins[0], f"{how}: something was tried as a password")


# --------------------------------------------------------------------------- secrets in output

UID = 12345


def for_a_user(rig):
    """The installation belongs to an ordinary user, the server runs as that."""
    for path in [rig.directory, *rig.directory.rglob("*")]:
        os.chown(path, UID, UID, follow_symlinks=False)
    rig.wrapper = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]


def as_user(*words):
    return subprocess.run(["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", *words], capture_output=True)


@case("K08", "a secret in the environment: children, /proc/PID/environ", start=False, upstream_keys='username = "u"\npassword = { env = "UPSTREAM_PASSWORD" }', environment={"UPSTREAM_PASSWORD": CANARY})
def _(rig):
    rig.upstream.login = ("u", CANARY)
    for_a_user(rig)
    rig.start()
    mail = Mail(rig)
    mail.send(3)
    mail.all_arrive()
    pid = rig.process.pid
    for name in ("environ", "mem", "maps"):
        check(as_user("head", "-c", "100", f"/proc/{pid}/{name}").returncode != 0, f"V3: the same user reads /proc/PID/{name}")
    children = [open(f"/proc/{pid}/task/{task}/children").read() for task in os.listdir(f"/proc/{pid}/task")]
    check(not any(children), f"child processes: {children}")


PASSWORDS = {"pos1": CANARY + "-in1", "pos2": CANARY + "-in2"}
TO_UPSTREAM = CANARY + "-up"


def blanks(rig):
    """Every form in which a password goes over the wire."""
    for password, user in [(TO_UPSTREAM, "u"), *((p, u) for u, p in PASSWORDS.items()), (CANARY + "-bad", "pos1")]:
        rig.canaries += [base64.b64encode(password.encode()), base64.b64encode(f"\0{user}\0{password}".encode())]
        rig.canaries += [password.encode().hex().encode()]


@case("K09", "a trace log of whole sessions, and what the commands print", start=False, upstream_keys='username = "u"\npassword = { vault = "acme-smtp" }', after="".join(f'[[user]]\nlogin = "{u}"\npassword = "{p}"\n' for u, p in PASSWORDS.items()))
def _(rig):
    """OAuth tokens: not yet."""
    blanks(rig)
    rig.upstream.login = ("u", TO_UPSTREAM)
    rig.run("vault", "set", "acme-smtp", input=TO_UPSTREAM.encode())
    for form in ("text", "json"):
        rig.wrapper = ["sh", "-c", f'exec "$@" --log-level trace --log-format {form}', "sh"]
        trace_sessions(rig, form)
        rig.stop()
    rig.wrapper = []
    rig.start()
    what_commands_print(rig)
    wrong_password_upstream(rig)


def trace_sessions(rig, form):
    if form == "json":
        f.fixed_ports(rig)
        rig.start(wait=False)
        f.serving(rig)
    else:
        rig.start()
    for user, password in PASSWORDS.items():
        client = rig.client()
        client.login(user, password)
        client.message()
        client = rig.client()
        client.login(user, CANARY + "-bad", "535")
        client.send("AUTH LOGIN " + base64.b64encode(user.encode()).decode())
        client.expect(base64.b64encode(password.encode()).decode(), "235")
        client.message()
        rig.client().send(f"AUTH {password}")
        rig.client().send(f"AUTH XOAUTH2 {base64.b64encode(password.encode()).decode()}")
        challenged(rig, user, password)
    rig.delivered(4)


def challenged(rig, user, password):
    import hmac

    client = rig.client()
    challenge = base64.b64decode(client.expect("AUTH CRAM-MD5", "334").split(" ")[1])
    digest = hmac.new(password.encode(), challenge, "md5").hexdigest()
    rig.canaries.append(digest.encode())
    client.expect(base64.b64encode(f"{user} {digest}".encode()).decode(), "235")


def what_commands_print(rig):
    identity = rig.client().message()
    for words in (["check"], ["check", "--json"], ["tenant", "show", "acme"], ["tenant", "show", "acme", "--json"], ["tenant", "list", "--json"], ["vault", "list"], ["test", "acme", "--to", "x@y.example"], ["queue", "list"], ["queue", "show", identity], ["preview", "acme", "--explain"]):
        done = rig.run(*words, input=rig.message().replace(TOKEN.pattern, b"") + b"\r\n", code=None)
        rig.replies += (done.stdout + b"\n" + done.stderr).replace(b"\r", b"").replace(b"\t", b" ").split(b"\n")
        check(done.stdout or done.stderr, f"{words} prints nothing")
    rig.replies[:] = [line[:500] for line in rig.replies if not any(c in line for c in rig.canaries)] if not leaked(rig) else rig.replies
    check(not leaked(rig), f"V3: {leaked(rig)}")
    rig.may_arrive |= {t for u in rig.upstreams for t in u.tokens()}


def leaked(rig):
    return [line for line in rig.replies if any(c in line for c in rig.canaries)]


def wrong_password_upstream(rig):
    """A server that repeats what it was told."""
    rig.stop()
    rig.upstream.on["AUTH"] = lambda session, line: "535 5.7.8 wrong: " + line.decode()
    rig.start()
    rig.client().message()
    wait_until("suspended", lambda: [m for m in rig.queue() if m["state"] == "suspended"])
    done = rig.run("test", "acme", "--to", "x@y.example", code=1)
    rig.replies += [line[:500] for line in (done.stdout + done.stderr).replace(b"\r", b"").split(b"\n")]
    check(not leaked(rig), f"V3: {leaked(rig)}")
    listed = json.dumps(rig.queue()).encode()
    check(not any(c in listed for c in rig.canaries), f"V3: a secret in `queue list`: {listed[:500]}")
    rig.upstream.on.clear()


@case("K10", "SIGABRT with a secret in memory: no core", start=False, upstream_keys='username = "u"\npassword = { env = "UPSTREAM_PASSWORD" }', environment={"UPSTREAM_PASSWORD": CANARY})
def _(rig):
    """A panic cannot be caused from outside; a core is the worst that one could leave."""
    rig.upstream.login = ("u", CANARY)
    limit = ["prlimit", "--core=unlimited"]
    subprocess.run([*limit, "sh", "-c", "kill -ABRT $$"], cwd=rig.directory)
    cores = lambda: [p for p in rig.directory.rglob("*") if p.is_file() and p.name.startswith("core")]
    can_see = bool(cores())
    for path in cores():
        path.unlink()
    rig.wrapper = limit
    rig.start()
    mail = Mail(rig)
    mail.send(1)
    mail.all_arrive()
    wait_until("it is recorded", lambda: not rig.queue())
    rig.signal(signal.SIGABRT)
    check(rig.wait_exit() == -signal.SIGABRT, f"{rig.process.returncode}")
    check(can_see or "core" not in open("/proc/sys/kernel/core_pattern").read(), "this machine writes no cores: nothing was tested")
    check(not cores(), f"V3: a core with secrets: {cores()}")
    rig.start()
    mail.send(1)
    mail.all_arrive()


@case("K11", "tenant show, list, check: secrets masked", after=f'[[user]]\nlogin = "pos1"\npassword = "{CANARY}"\n', upstream_keys=f'username = "u"\npassword = "{CANARY}"')
def _(rig):
    """the interface has no support bundle and no `--with-pii`; these commands show settings."""
    rig.upstream.login = ("u", CANARY)
    rig.run("vault", "set", "more", input=CANARY.encode())
    for words in (["tenant", "show", "acme"], ["tenant", "show", "acme", "--json"], ["tenant", "list"], ["tenant", "list", "--json"], ["check"], ["check", "--json"], ["vault", "list"], ["preview", "acme", "--explain"], ["test", "acme", "--to", "x@y.example"]):
        done = rig.run(*words, input=b"Subject: x\r\n\r\nx\r\n", code=None)
        out = done.stdout + done.stderr
        check(CANARY.encode() not in out and base64.b64encode(CANARY.encode()) not in out, f"V3: {words} shows a password: {out[:300]}")
    shown = json.loads(rig.run("tenant", "show", "acme", "--json").stdout)
    check(shown["password"] == "set" and shown["username"] == "u", f"{shown}")


HOSTILE = [
    "x\n2026-01-01T00:00:00.000Z level=info id=x event=sent",
    "x\r\n2026-01-01T00:00:00.000Z level=info id=x event=sent",
    "x\u2028level=info event=sent",
    "x\u0085level=info event=sent",
    "\x1b[2J\x1b]0;owned\x07",
    "\x00\x7f\x9b31m",
    'a" event=sent to="b',
    "a event=sent",
    "a\\\" event=sent",
]


@case("K12", "log injection by every text that a client or server chooses", start=False, after='[[user]]\nlogin = "pos1"\npassword = "pw"\n')
def _(rig):
    """`\\n` in EHLO or a subject ends the line before it is a value; AUTH carries it in base64, and
    servers and command lines choose texts, too."""
    for form in ("text", "json"):
        rig.wrapper = ["sh", "-c", f'exec "$@" --log-level trace --log-format {form}', "sh"]
        if form == "json":
            f.fixed_ports(rig)
        rig.start(wait=form == "text")
        f.serving(rig)
        for text in HOSTILE:
            say_everywhere(rig, text)
        check_lines(rig, form)
        rig.upstream.on.clear()
        wait_until("it goes", lambda: not [m for m in rig.queue() if m["state"] not in ("failed",)])
        rig.stop()
    rig.start(wait=False)
    f.serving(rig)


def say_everywhere(rig, text):
    raw = text.encode()
    client = rig.client(ehlo=False)
    for line in raw.replace(b"\r", b"").split(b"\n"):
        client.send(b"EHLO " + line)
    client.expect("EHLO c.example", "250")
    client.send("AUTH PLAIN " + base64.b64encode(b"\0" + raw + b"\0wrong").decode())
    client = rig.client()
    one = raw.replace(b"\r", b"").replace(b"\n", b" ")
    for command in (b'MAIL FROM:<"%s"@t.example>', b"MAIL FROM:<%s@t.example>", b"MAIL FROM:<a@t.example> ENVID=%s", b"%s"):
        client.send(command % one)
        client.send("RSET")
    rig.run("sendmail", "--tenant", text.replace("\0", ""), "b@else.example", input=b"x", code=None)
    answer = b"550 5.1.1 " + one + b"\r\n"
    rig.upstream.on["RCPT"] = lambda session, line: answer
    client = rig.client()
    client.message()


def check_lines(rig, form):
    wait_until("refusals are logged", lambda: rig.log.count("5.1.1") >= len(HOSTILE))
    whole = rig.log_path.read_bytes().decode()
    for line in whole.split("\n")[:-1]:
        for forged in ("\u2028", "\u0085", "\x9b", "\x1b", "\x7f"):
            if form == "text":
                check(forged not in line, f"V6: a raw {forged!r} in {line[:200]!r}")
        if form == "json":
            value = json.loads(line)
            check({"time", "level"} <= set(value), f"{line}")
            check(value.get("event") != "sent" or value.get("route"), f"V6: a forged event: {line}")
        else:
            check(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z level=(trace|debug|info|warn|error) ", line), f"V6: a line that is no event: {line[:200]!r}")
            bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', line)
            check("event=sent" not in bare or "route=" in bare, f"V6: a forged event: {line[:300]!r}")


@case("K13", "a password in a URL, or on the command line", start=False)
def _(rig):
    text = (rig.directory / "tenants/acme.toml").read_text()
    for host in (f"smtp://u:{CANARY}@h.example", f"u:{CANARY}@h.example", f"//u:{CANARY}@h.example:587"):
        rig.tenant("acme", text.replace('host = "127.0.0.1"', f'host = "{host}"'))
        done = rig.run("check", code=78)
        out = (done.stdout + done.stderr).decode()
        check("host" in out and "acme.toml" in out, f"{out}")
        check(CANARY not in out, f"V3: the password of the URL is printed: {out}")
        f.refuses(rig, 78)
    rig.tenant("acme", text)
    for words in (["vault", "set", "a", CANARY], ["vault", "set", f"a={CANARY}"], ["tenant", "add", "new", "--email", "a@b.example", "--password", CANARY]):
        done = rig.run(*words, input=b"", code=None)
        check(done.returncode in (64, 65, 78), f"{words}: exit code {done.returncode}")
    check(not (rig.data / "vault.json").exists() or CANARY not in (rig.data / "vault.json").read_text(), "it was stored")
    rig.start()


@case("K14", "Argon2 parameters that would eat the machine", start=False)
def _(rig):
    """In the file they are refused by `check`; in a secret of its own at the login."""
    text = (rig.directory / "tenants/acme.toml").read_text()
    user = lambda password: f'\n[[user]]\nlogin = "pos1"\npassword = {password}\n'
    huge = [(524288, 3), (4194304, 2), (19456, 100_000), (2_000_000, 3), (4294967295, 4294967295), (262145, 1), (19456, 11), (0, 0), (8, 0)]
    for m, t in huge:
        rig.tenant("acme", text + user(f'"{ARGON.format(m=m, t=t)}"'))
        done = rig.run("check", code=78)
        check(b"password" in done.stdout, f"{done.stdout}")
    for odd in ("$argon2id$", "$argon2id$v=19$m=19456,t=2,p=1$" + "A" * 5000 + "$" + "A" * 5000, "$argon2id$v=19$m=19456,t=2,p=4294967295$c29tZXNhbHQ$AAAA"):
        rig.tenant("acme", text + user(f'"{odd}"'))
        rig.run("check", code=78)
    rig.tenant("acme", text + user('{ file = "../hash" }'))
    rig.start()
    for m, t in huge:
        (rig.directory / "hash").write_text(ARGON.format(m=m, t=t))
        client, begun = rig.client(), time.monotonic()
        reply = client.send("AUTH PLAIN " + base64.b64encode(b"\0pos1\0x").decode())
        check(reply.startswith(("535", "454")), f"{reply}")
        took, peak = time.monotonic() - begun, rig.resident(peak=True)
        check(took < 2 and peak < 350, f"a hash with m={m} t={t} from a file: {took:.1f} s, {peak:.0f} MiB for one login")
        client.close()
        if reply.startswith("454"):
            rig.kill()
            rig.start()  # too many wrong ones lately


# --------------------------------------------------------------------------- copies


@case("K15", "a copy of the running spool, file after file")
def _(rig):
    """the interface has no `backup`; what a torn copy holds must be told from what it does not."""
    mail = Mail(rig)
    f.shut(rig)
    mail.send(30)
    mail.send(2, 200_000)
    copies = []
    for number in range(6):
        place = rig.directory / f"copy{number}"
        files = f.spool_files(rig)
        random.Random(number).shuffle(files)
        for path in files:
            target = place / path.relative_to(rig.data)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                shutil.copy(path, target)
            mail.send(3)  # what happens meanwhile
        copies.append(place)
    rig.kill()
    pristine = f.Pristine(rig)
    rig.may_repeat |= set(mail.bodies)
    f.open_again(rig)
    for place in copies:
        for path in [p for p in rig.data.iterdir() if p.is_dir() and p.name == "spool"]:
            shutil.rmtree(path)
        shutil.copytree(place, rig.data, dirs_exist_ok=True)
        rig.upstream.received.clear()
        if f.start_or_refuse(rig):
            settle(rig)
            mail.unaltered()
            check("panicked" not in rig.log, f"a panic: {rig.log[-1500:]}")
            rig.kill()
    pristine.restore()
    rig.upstream.received.clear()
    rig.start()
    mail.all_arrive()


def settle(rig):
    """Until nothing arrives any more."""
    state = [-1, time.monotonic()]

    def calm():
        if len(rig.upstream.received) != state[0]:
            state[:] = [len(rig.upstream.received), time.monotonic()]
        return time.monotonic() - state[1] > 0.5

    wait_until("nothing arrives any more", calm)


not_here("K16", "the interface has no backup and no restore: a restored copy cannot be told from a server that was off (the way is sending = \"hold\" before the start)")


@case("K17", "a spool of a newer layout")
def _(rig):
    mail = Mail(rig)
    f.shut(rig)
    mail.send(3)
    mail.send(1, 200_000)
    rig.stop()
    before = {}
    for path in f.databases(rig):
        with sqlite3.connect(path) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            db.execute("PRAGMA user_version = 999")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
    check(f.databases(rig), "there is no database: this case must learn the new layout")
    state = lambda: {p: hashlib.sha256(p.read_bytes()).digest() for p in f.spool_files(rig) if not p.name.endswith(("-shm", "-wal"))}
    before = state()
    f.refuses(rig, 78, "newer")
    rig.run("queue", "list", code=78)
    check(state() == before, "something was changed")
    for path in f.databases(rig):
        with sqlite3.connect(path) as db:
            db.execute(f"PRAGMA user_version = {version}")
        db.close()
    f.open_again(rig)
    rig.start()
    mail.all_arrive()
