"""E: addresses and envelope."""

import os, pathlib, re, subprocess, tempfile

from rig import BINARY, Upstream, case, check, wait_until

USER = '[[user]]\nlogin = "pos1"\npassword = "right"\nemail = "pos1@acme.example"\nsenders = [{senders}]\n'
STRICT = '[sender]\napplication_from = "reject-unauthorized"\n'


def nothing_queued(rig, *upstreams):
    """Neither in the spool nor on its way."""
    check(rig.queue() == [], f"queued: {rig.queue()}")
    check(rig.log.count("event=accepted") == 0, "something was accepted")
    for upstream in upstreams or rig.upstreams:
        check(not upstream.received, "something was relayed")


def upstream_lines(rig):
    return b"\n".join(list(rig.upstream.lines))


def refused(rig, table, keyword="RCPT TO:"):
    """Every command of the table is refused so, and the session goes on."""
    for argument, start in table:
        client = rig.client()
        if keyword == "RCPT TO:":
            client.expect("MAIL FROM:<office@acme.example> SMTPUTF8", "250")
        line = (keyword.encode() + argument) if isinstance(argument, bytes) else keyword + argument
        client.expect(line, start)
        client.expect("DATA", ("503", "554"))
        client.expect("NOOP", "250")
        client.close()


@case("E01", "a bare CR in a command")
def _(rig):
    for line in (b"RCPT TO:<a@t.example>\rRCPT TO:<evil@x.example>", b"RCPT TO:<a@t.example\r>", b"RCPT TO:\r<a@t.example>"):
        client = rig.client()
        client.expect("MAIL FROM:<app@source.example>", "250")
        client.expect(line, "500 5.5.2")
        client.closed()
    nothing_queued(rig)


@case("E02", "a quoted CR LF in the sender")
def _(rig):
    client = rig.client()
    client.raw(b'MAIL FROM:<"a\r\nRCPT TO:<evil@x.example>"@t.example>\r\n')
    client.wants("501 5.1.7")
    client.wants(("501", "503", "555"))
    client.expect("RCPT TO:<evil@x.example>", "503 5.5.1")
    client.expect("DATA", "503 5.5.1")
    nothing_queued(rig)


@case("E03", "quoted pairs of control characters")
def _(rig):
    """A LF ends the line, so its two halves are refused one after the other."""
    refused(rig, [(b'<"a\\%cb"@t.example>' % octet, "501 5.1.3") for octet in (1, 7, 8, 9, 11, 12, 27, 127)])
    refused(rig, [(b'<"a\\%cb"@t.example>' % octet, "501 5.1.7") for octet in (1, 9, 27, 127)], "MAIL FROM:")
    refused(rig, [(b'<"a\\\0b"@t.example>', "500 5.5.2"), (b"<a\0b@t.example>", "500 5.5.2")])
    client = rig.client()
    client.expect("MAIL FROM:<app@source.example>", "250")
    client.raw(b'RCPT TO:<"a\\\nb"@t.example>\r\n')
    client.wants("501 5.1.3")
    client.wants("500 5.5.2")
    client.expect("DATA", ("503", "554"))
    client = rig.client()
    client.expect("MAIL FROM:<app@source.example>", "250")
    client.raw(b'RCPT TO:<"a\\\rb"@t.example>\r\n')
    client.wants("500 5.5.2")
    client.closed()
    nothing_queued(rig)


@case("E04", "control characters in xtext")
def _(rig):
    bad = ["x+0D+0ADATA", "x+0Ay", "x+00", "x+7F", "x+1B[0m", "x+C2+85", "x+0", "x+", "x+0d", "x+FF", "x+GG"]
    refused(rig, [(f"<a@t.example> ORCPT=rfc822;{text}", "501 5.5.4") for text in bad])
    refused(rig, [(f"<a@t.example> ORCPT=x+0Ay;{text}", "501 5.5.4") for text in ("a@b",)])
    refused(rig, [(f"<a@t.example> ENVID={text}", "501 5.5.4") for text in bad], "MAIL FROM:")
    refused(rig, [(f"<a@t.example> AUTH={text}", "501 5.5.4") for text in bad], "MAIL FROM:")
    # ENVID and the type rfc822 are ASCII (RFC 3461), also under SMTPUTF8 (RFC 6533).
    refused(rig, [("<a@t.example> ENVID=xü", "501 5.5.4")], "MAIL FROM:")
    refused(rig, [("<a@t.example> ORCPT=rfc822;xü@t.example", "501 5.5.4")])
    nothing_queued(rig)
    client = rig.client()
    client.expect("MAIL FROM:<app@source.example> ENVID=x+2By RET=HDRS", "250")
    client.expect("RCPT TO:<a@t.example> ORCPT=rfc822;x+2By@t.example NOTIFY=FAILURE", "250")
    client.expect("DATA", "354")
    check(client.content(rig.message()).startswith("250"), "refused")
    rig.delivered(1)
    lines = upstream_lines(rig)
    check(b"ENVID=x+2By" in lines and b"ORCPT=rfc822;x+2By@t.example" in lines, f"not passed on: {lines}")


@case("E05", "characters whose low octet is CR and LF")
def _(rig):
    client = rig.client()
    local = "a嘊嘍RCPT嘠TO:嘼x"
    client.expect("MAIL FROM:<app@source.example> SMTPUTF8", "250")
    client.expect(f"RCPT TO:<{local}@t.example>", ("250", "501 5.1.3"))
    client.expect("RCPT TO:<a嘊嘍b@t.example>", "250")
    client.expect("RCPT TO:<c@嘊嘍.example>", ("250", "501 5.1.3"))
    client.expect("DATA", "354")
    content = rig.message(header="X-Odd: 嘊嘍Bcc: evil@x.example\r\n".encode())
    check(client.content(content).startswith("250"), "refused")
    message = rig.delivered(1)[0]
    check("a嘊嘍b@t.example" in message.recipients, f"recipients {message.recipients}")
    check(not any(r.startswith("x") or "evil" in r for r in message.recipients), f"recipients {message.recipients}")
    check(not message.fields("Bcc"), "a header field was made")
    check(len([line for line in rig.upstream.lines if line.startswith(b"RCPT")]) == len(message.recipients), "a command was made")


@case("E06", "invisible, directional and invalid characters")
def _(rig):
    seen = ["\u2028", "\u2029", "\u200b", "\u202e", "\u200d", "\u2066", "\ufeff", "\u00ad", "\u3164", "\ufffd", "\U000e0041"]
    table = [(f"<a{c}b@t.example>", "501 5.1.3") for c in seen] + [(f"<a@t{c}x.example>", "501 5.1.3") for c in seen]
    table += [("<a\u0085b@t.example>", "501 5.1.3"), ("<a@t\u0085x.example>", "501 5.1.3"), ("<a\u009bb@t.example>", "501 5.1.3")]
    invalid = [b"\xc0\x8a", b"\xed\xa0\x80", b"\xff", b"\x80", b"\xf4\x90\x80\x80", b"\xe5\x98"]
    table += [(b"<a%sb@t.example>" % octets, "501 5.5.2") for octets in invalid]
    refused(rig, table)
    nothing_queued(rig)


@case("E07", "UTF-8 in an address without SMTPUTF8")
def _(rig):
    refused(rig, [("<grüße@t.example>", "553 5.6.7"), ("<a@müller.example>", "553 5.6.7"), ("<grüße>", "553 5.6.7")], "MAIL FROM:")
    client = rig.client()
    client.expect("MAIL FROM:<app@source.example>", "250")
    client.expect("RCPT TO:<grüße@t.example>", "553 5.6.7")
    client.expect("RCPT TO:<a@müller.example>", "553 5.6.7")
    client = rig.client(ehlo=False)
    client.expect("HELO old.example", "250")
    client.expect("MAIL FROM:<grüße@t.example>", "553 5.6.7")
    nothing_queued(rig)


@case("E08", "A-labels that are none", start=False)
def _(rig):
    path = rig.directory / "tenants/acme.toml"
    rig.tenant("acme", path.read_text() + STRICT + USER.format(senders='"a@müller.example"'))
    rig.start()
    labels = ["xn---", "xn--", "xn--example-.org", "example.org.xn--", "XN--.example", "xn--a-.example", "xn--\u00fc.example", "xn--zzzzzzzzzzzzzz99999.example"]
    refused(rig, [(f"<a@{label}>", "501 5.1.3") for label in labels])
    refused(rig, [(f"<a@{label}> SMTPUTF8", "501 5.1.7") for label in labels], "MAIL FROM:")
    # A domain and its A-label are the same; what does not survive the way back is not.
    for sender, start in (("a@xn--mller-kva.example", "250"), ("a@müller.example", "250"), ("a@XN--MLLER-KVA.example", "250"), ("a@muller.example", "550 5.7.1"), ("a@xn--muller-.example", "501 5.1.7")):
        client = rig.client()
        client.login("pos1", "right")
        client.expect(f"MAIL FROM:<{sender}> SMTPUTF8", start)
    client = rig.client()
    client.expect("MAIL FROM:<office@acme.example> SMTPUTF8", "250")
    for address in ("b@müller.example", "b@xn--mller-kva.example", "b@MÜLLER.example"):
        client.expect(f"RCPT TO:<{address}>", "250")
    client.expect("DATA", "354")
    content = rig.message().replace(b"app@source.example", b"office@acme.example")
    check(client.content(content).startswith("250"), "refused")
    check(rig.delivered(1)[0].recipients == ["b@xn--mller-kva.example"], "one mailbox in three spellings")
    rig.good_client = lambda: None  # its sender is not allowed here


HOMOGRAPH = "pаypal.example"  # its first a is Cyrillic
SEED = "b0nE1sTheSeedOfAnEd25519KeyForTestOnly0000A="


@case("E09", "a sender whose domain only looks right", start=False)
def _(rig):
    path = rig.directory / "tenants/acme.toml"
    base = path.read_text()
    key = f'[[dkim]]\ndomain = "paypal.example"\nselector = "s"\nkey = "{SEED}"\n'
    rig.tenant("acme", base + STRICT + USER.format(senders='"*@paypal.example"') + key)
    beta = rig.another_tenant("beta", after='[sender]\napplication_from = "keep-authorized"\n' + USER.replace("pos1", "pos2").format(senders='"*@paypal.example"') + key)
    rig.start()
    content = rig.message().replace(b"app@source.example", f"a@{HOMOGRAPH}".encode())
    for sender in (f"a@{HOMOGRAPH}", "a@xn--pypal-4ve.example"):
        client = rig.client()
        client.login("pos1", "right")
        client.expect("MAIL FROM:<a@paypal.example>", "250")
        client.expect("RSET", "250")
        client.expect(f"MAIL FROM:<{sender}> SMTPUTF8", "550 5.7.1")
        client.envelope(sender="a@paypal.example")
        check(client.content(content).startswith("550 5.7.1"), "the header's homograph was accepted")
    client = rig.client()
    client.login("pos2", "right")
    client.expect(f"MAIL FROM:<a@{HOMOGRAPH}> SMTPUTF8", "250")
    client.expect("RCPT TO:<b@else.example>", "250")
    client.expect("DATA", "354")
    check(client.content(rig.message().replace(b"app@source.example", f"a@{HOMOGRAPH}".encode())).startswith("250"), "refused")
    message = beta.wait(1)[0]
    check(message.sender == "office@beta.example", f"return path {message.sender}")
    check(message.fields("From") == ["beta <office@beta.example>"], f"From {message.fields('From')}")
    check(all("d=paypal.example;" in field for field in message.fields("DKIM-Signature")), "signed for the homograph")
    rig.good_client = lambda: None  # its sender is not allowed here


@case("E10", "addresses that are too long")
def _(rig):
    label = "d" * 63
    long = [f"<{'l' * 65}@t.example>", f"<a@{'.'.join([label] * 4)}>", f"<a@{'d.' * 128}>", f"<{'l' * 64}@{'.'.join([label] * 3)}>", f"<a@{'d' * 64}.example>", f"<{'l' * 3000}@t.example>"]
    refused(rig, [(address, "501 5.1.3") for address in long])
    refused(rig, [(address, "501 5.1.7") for address in long], "MAIL FROM:")
    client = rig.client()
    longest = [f"{'l' * 64}@t.example", f"{'l' * 62}@{'.'.join([label] * 3)}"]
    for address in longest:
        client.message(to=(address,))
    check(sorted(m.recipients[0] for m in rig.delivered(2)) == sorted(longest), "altered")


@case("E11", "RCPT of nobody, and of the postmaster")
def _(rig):
    refused(rig, [("<>", "501 5.1.3"), ("", "501"), ("< >", "501 5.1.3"), ("<@>", "501 5.1.3"), ("<root>", "501 5.1.3")])
    client = rig.client()
    for name in ("postmaster", "Postmaster", "POSTMASTER"):
        client.message(to=(name,))
    check(all(m.recipients == ["office@acme.example"] for m in rig.delivered(3)), "the postmaster is the tenant's address")
    # An address of ours that the client could not write itself.
    rig.tenant("acme", (rig.directory / "tenants/acme.toml").read_text().replace("office@acme.example", "office@müller.example"))
    rig.wait_log("event=reloaded")
    rig.client().message(to=("postmaster",))
    message = next(m for m in rig.delivered(4) if "acme" not in m.recipients[0])
    check(message.recipients[0] in ("office@müller.example", "office@xn--mller-kva.example"), f"{message.recipients}")


@case("E12", "routes and literals in addresses")
def _(rig):
    refused(rig, [(f"<{address}>", "501 5.1.3") for address in ("a@[127.0.0.1]", "a@[IPv6:::1]", "a@[]", "a@[127.0.0.1", "@a,@b", "@a", "a@b@t.example", "a@.t", "a@t..example", "a@-t.example", "a@ t.example", "a@t.example:25", "a b@t.example")])
    refused(rig, [("<a@[127.0.0.1]>", "501 5.1.7")], "MAIL FROM:")
    # Never followed by us: what is not refused goes to the tenant's server as it stands, the
    # route of a source route taken off.
    table = [("@a.example,@b.example:c@t.example", "c@t.example"), ("a%b@t.example", "a%b@t.example"), ("b.example!a@t.example", "b.example!a@t.example"), ("a@t.example.", "a@t.example"), ("@localhost:c@t.example", "c@t.example")]
    client = rig.client()
    for given, expected in table:
        client.message(to=(given,))
    rig.delivered(len(table))
    # Two connections carry them, in any order.
    got = sorted(m.recipients[0] for m in rig.upstream.received)
    check(got == sorted(expected for _, expected in table), f"recipients {got}")


COMMANDS = ["-oQ/tmp/hostile-e13@t.example", "|cmd@t.example", "/etc/passwd@t.example", "-C/etc/passwd@t.example", "`id`@t.example", "$(id)@t.example", ":include:/x@t.example", "-froot@t.example", "--config=/etc/passwd@t.example"]


def strace(rig, words, **options):
    """The programs that a command starts, itself first."""
    output = rig.directory / "strace"
    environment = {**os.environ, "POSTBOTE_CONFIG": str(rig.directory / "postbote.toml")}
    done = subprocess.run(["strace", "-f", "-qq", "-e", "trace=execve", "-o", output, *words], env=environment, cwd=rig.directory, capture_output=True, timeout=60, **options)
    return done, re.findall(r'execve\("([^"]*)"', output.read_text())


@case("E13", "addresses that look like options, files and programs")
def _(rig):
    """Not all of them are dot-atoms; those are refused."""
    watcher = subprocess.Popen(["strace", "-f", "-qq", "-p", str(rig.process.pid), "-e", "trace=execve", "-o", rig.directory / "strace-run"], stderr=subprocess.DEVNULL)
    try:
        wait_until("strace looks on", lambda: "TracerPid:\t0" not in pathlib.Path(f"/proc/{rig.process.pid}/status").read_text())
        taken = []
        for address in COMMANDS:
            client = rig.client()
            client.expect(f"MAIL FROM:<{address}>", ("250", "501 5.1.7"))
            client.expect("RSET", "250")
            client.expect("MAIL FROM:<app@source.example>", "250")
            if client.expect(f"RCPT TO:<{address}>", ("250", "501 5.1.3")).startswith("250"):
                client.expect("DATA", "354")
                check(client.content(rig.message()).startswith("250"), "refused")
                taken.append(address)
        check(len(taken) >= 5, f"only {taken}")
        rig.delivered(len(taken))
        got = sorted(m.recipients[0] for m in rig.upstream.received)
        check(got == sorted(taken), f"altered: {got}")
        for address in COMMANDS:
            text = rig.message().replace(b"\r\n", b"\n")
            done, programs = strace(rig, [BINARY, "sendmail", "-i", "--", address], input=text)
            rig.note(text, "250" if done.returncode == 0 else "554")
            check(programs == [BINARY], f"started {programs}")
            check((done.returncode == 0) == (address in taken), f"{address}: exit code {done.returncode}, {done.stderr}")
            if done.returncode == 0:
                taken.append(address)
        # Without `--` they are options, and never recipients or files.
        for address in (a for a in COMMANDS if a.startswith("-")):
            done, programs = strace(rig, [BINARY, "sendmail", address], input=b"Subject: x\n\nx\n")
            check(done.returncode in (64, 65, 78) and programs == [BINARY], f"{address}: exit code {done.returncode}")
        for header in (b"To: |cmd@t.example\n", b"To: -oQ/tmp/hostile-e13@t.example\n"):
            text = header + rig.message().replace(b"\r\n", b"\n")
            done, programs = strace(rig, [BINARY, "sendmail", "-t", "-i"], input=text)
            rig.note(text, "250" if done.returncode == 0 else "554")
            check(programs == [BINARY], f"started {programs}")
        check("execve" not in (rig.directory / "strace-run").read_text(), "the server started a program")
    finally:
        watcher.terminate()
        watcher.wait()
    check(not pathlib.Path("/tmp/hostile-e13@t.example").exists(), "a file was written")


@case("E14", "another tenant's address as sender", start=False)
def _(rig):
    path = rig.directory / "tenants/acme.toml"
    base = path.read_text()
    beta = rig.another_tenant("beta")
    rig.start()
    for sender in ("victim@beta.example", "office@beta.example"):
        content = rig.message().replace(b"app@source.example", sender.encode())
        rig.client().message(content, sender=sender)
    for message in rig.delivered(2):
        check(message.sender == "office@acme.example", f"return path {message.sender}")
        check(message.fields("From") == ["ACME <office@acme.example>"], f"From {message.fields('From')}")
    rig.tenant("acme", base + STRICT)
    rig.wait_log("event=reloaded")
    rig.client().expect("MAIL FROM:<office@beta.example>", "550 5.7.1")
    client = rig.client()
    client.envelope(sender="office@acme.example")
    check(client.content(rig.message().replace(b"app@source.example", b"office@beta.example")).startswith("550 5.7.1"), "the header's sender was accepted")
    check(not beta.received and not beta.connections, "the other tenant's server was used")
    rig.tenant("acme", base)
    rig.wait_log("event=reloaded", count=2)


@case("E15", "the null sender of an application")
def _(rig):
    """Accepted and kept (the interface); a refusal makes no bounce."""
    client = rig.client()
    client.expect("MAIL FROM:<>", "250")
    client.expect("RCPT TO:<b@else.example>", "250")
    client.expect("DATA", "354")
    check(client.content(rig.message()).startswith("250"), "refused")
    message = rig.delivered(1)[0]
    check(message.sender == "", f"return path {message.sender!r}")
    rig.upstream.on["RCPT"] = lambda session, line: "550 5.1.1 nobody"
    client.expect("MAIL FROM:<>", "250")
    client.expect("RCPT TO:<b@else.example>", "250")
    client.expect("DATA", "354")
    check(client.content(rig.message()).startswith("250"), "refused")
    rig.wait_log("event=bounced")
    wait_until("settled", lambda: all(m["state"] == "failed" for m in rig.queue()))
    mails = [line for line in list(rig.upstream.lines) if line.startswith(b"MAIL")]
    check(len(mails) == 2, f"a bounce was sent: {mails}")
    del rig.upstream.on["RCPT"]


def no_utf8():
    return Upstream(capabilities=("PIPELINING", "8BITMIME", "SIZE 50000000", "DSN"))


@case("E16", "an SMTPUTF8 recipient, a server without SMTPUTF8", upstream=no_utf8)
def _(rig):
    client = rig.client()
    client.expect("MAIL FROM:<app@source.example> SMTPUTF8", "250")
    client.expect("RCPT TO:<grüße@t.example>", "250")
    client.expect("RCPT TO:<b@else.example> ORCPT=utf-8;grüße@t.example", "250")
    client.expect("RCPT TO:<b@müller.example>", "250")
    client.expect("DATA", "354")
    check(client.content(rig.message()).startswith("250"), "refused")
    first, second = sorted(rig.delivered(2), key=lambda m: m.sender == "")
    check(first.recipients == ["b@else.example", "b@xn--mller-kva.example"], f"recipients {first.recipients}")
    check(second.sender == "" and second.recipients == ["office@acme.example"], "no bounce to the sender")
    check("Status: 5.6.7" in second.text and second.raw.isascii(), f"bounce: {second.text}")
    check(not any(line.startswith(b"RCPT TO:<gr") for line in rig.upstream.lines), "tried all the same")
    odd = [line for line in rig.upstream.lines if not line.isascii() or b"SMTPUTF8" in line]
    check(not odd, f"to a server without SMTPUTF8: {odd}")


@case("E17", "wrong DSN parameters")
def _(rig):
    refused(rig, [(f"<a@t.example> {words}", "501 5.5.4") for words in ("NOTIFY=NEVER,FAILURE", "NOTIFY=", "NOTIFY", "NOTIFY=FAILURE,FAILURE", "NOTIFY=,", "NOTIFY=SOMETIMES", "ORCPT=rfc822;a ORCPT=rfc822;b", "NOTIFY=NEVER NOTIFY=NEVER", "ORCPT=", "ORCPT=a@b", "ORCPT=;a@b", "ORCPT")])
    refused(rig, [(f"<a@t.example> {words}", "501 5.5.4") for words in ("RET=", "RET=ALL", "RET", "RET=FULL RET=FULL", "ENVID=", "ENVID=a ENVID=b", f"ENVID={'x' * 101}")], "MAIL FROM:")
    nothing_queued(rig)


@case("E18", "36 MiB to a thousand recipients in a thousand domains", server="max_recipients = 1000")
def _(rig):
    bodies = []

    def dot(session, content):
        bodies.append(len([p for p in rig.data.rglob("*") if p.is_file() and p.stat().st_size > 30 << 20]))
        return session.take(content)

    rig.upstream.on["dot"] = dot
    idle = rig.resident()
    client = rig.client()
    client.expect("MAIL FROM:<app@source.example>", "250")
    client.raw(b"".join(b"RCPT TO:<b@d%d.example>\r\n" % n for n in range(1000)))
    for _ in range(1000):
        client.wants("250 2.1.5")
    client.expect("RCPT TO:<b@one-too-many.example>", "452 4.5.3")
    client.expect("DATA", "354")
    piece = b"x" * 98 + b"\r\n"
    rounds = 36 * 1024 * 1024 // len(piece)
    head = rig.message(body=b"")
    client.raw(head)
    for _ in range(0, rounds, 10_000):
        client.raw(piece * min(10_000, rounds))
    reply = client.content(b"")
    rig.note(head, reply)
    check(reply.startswith("250 2.0.0"), f"answered {reply!r}")
    message = rig.delivered(1)[0]
    check(bodies == [1], f"stored so often: {bodies}")
    check(len(message.recipients) == 1000, f"{len(message.recipients)} recipients at once")
    check(len(message.raw) > 36 << 20, "cut")
    # Above what the program itself takes, which depends on how it was built: the message once, and little.
    more = rig.resident(peak=True) - idle
    check(more < 44, f"{more:.0f} MiB of memory for a message of 36")
