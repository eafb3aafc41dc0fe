"""O03 to O07: every row of the tables of refusals ends in its class.

The tables are those of the fakes (`provider`, `provider_smtp`), from facts A.8, A.11, B.7, C.5, C.6, C.7.
Every row has a tenant of its own in one server, with a retry every 30 s: what is asked or sent more
than once while a case looks is too much. What a class must look like from outside is in `CLASSES`."""

import datetime, time

import rig
from rig import TOKEN, check, wait_until
from provider import GMAIL_ROWS, GRAPH_ROWS, TOKEN_ROWS_GOOGLE, TOKEN_ROWS_MICROSOFT, aadsts, gmail_error, google_error, graph_error
from provider_smtp import DROP_AFTER_STORE, GOOGLE_ROWS, MICROSOFT_ROWS

from ._oauth import MINE, Many, arrive, events, explains, large, no_canary, patient, retry, settle

OTHER = "d@else.example"
"""A second recipient, where one is refused."""

CLASSES = {
    # class: (states, attempts counted)
    "ACCT": ({"suspended"}, {1}),
    "TOKEN": ({"suspended"}, {1}),
    "TEMP": ({"queued", "deferred"}, {1}),
    "SLOW": ({"deferred"}, {0}),
    "SENDER": ({"failed"}, {1}),
    "MSG": ({"failed"}, {1}),
    "RCPT": ({"failed"}, {1}),
    "UNKNOWN": ({"uncertain"}, {1}),
    # A fault of ours if it is true: whatever is done, nothing is lost. Gmail's 555 to MAIL is `failed`
    # and bounced; 501 to EHLO `deferred`; 503 to MAIL
    # `failed`; the two 530 to MAIL `suspended`.
    "BUG": ({"queued", "deferred", "suspended", "failed"}, {0, 1}),
}


def case(identity, title):
    return rig.case(identity, title, start=False)


def in_class(label, klass, message):
    """A message of `queue list` is as its class demands."""
    states, attempts = CLASSES[klass]
    check(message["state"] in states, f"{label} ({klass}): {message['state']}, wanted {sorted(states)}: {message['reason']}")
    # The table of TEMP has some that are better waited out as a throttle is, without counting.
    wanted = attempts | {0} if klass == "TEMP" and message["state"] == "deferred" else attempts
    check(message["attempts"] in wanted, f"{label} ({klass}): {message['attempts']} attempts, wanted {wanted}: {message['reason']}")
    if klass in ("ACCT", "TOKEN", "TEMP", "SLOW", "UNKNOWN"):
        left = message["next"] and datetime.datetime.fromisoformat(message["next"].replace("Z", "+00:00")).timestamp() - time.time()
        check(left and 0 < left <= 24 * 3600 + 1, f"{label} ({klass}): its next try is {message['next']}")


def quiet(place, name, label, klass, identity, tokens, sends):
    """Nothing was asked or sent more often than its class allows, and nothing is bounced that waits."""
    check(place.asked(name) == tokens, f"{label} ({klass}): {place.asked(name)} token requests, wanted {tokens}")
    check(place.sends(name) == sends, f"{label} ({klass}): {place.sends(name)} sends, wanted {sends}")
    bounced = "bounced" in events(place, identity)
    failed = klass == "BUG" and place.by_id(identity)[identity]["state"] == "failed"
    check(bounced == (failed or klass in ("SENDER", "MSG", "RCPT")), f"{label} ({klass}): {'bounced' if bounced else 'not bounced'}")


def up(place, name):
    return place.metric(f'postbote_upstream_up{{tenant="{name}"')


def sample(rows, count):
    """Some of a table, among them one of every class."""
    step = max(1, len(rows) // count)
    found = dict(list(rows.items())[::step])
    for klass in {row[-1] for row in rows.values()}:
        found.setdefault(*next((name, row) for name, row in rows.items() if row[-1] == klass))
    return found


# --------------------------------------------------------------------------- token endpoints


def tokens(kind, rows, answer, grants):
    """Rows ({name: (…, class)}) of a token endpoint, each at a tenant."""
    with no_canary(Many(kind, rows, grants=grants, operator_text=patient())) as place:
        place.faults.update({name: answer(row) for name, row in rows.items()})
        ids = {name: place.hand_in(name) for name in rows}
        settle(place, ids, ("suspended", "queued", "deferred", "failed", "uncertain"))
        for identity in ids.values():
            place.wait_log(f"id={identity} ", " to=", "reply=")
        more = {name: place.hand_in(name) for name in rows}  # does not try on its own
        time.sleep(1.2)
        found = place.by_id(*ids.values())
        for name, row in rows.items():
            check(ids[name] in found, f"{row}: gone")
            in_class(row, row[-1], found[ids[name]])
            quiet(place, name, row, row[-1], ids[name], 1, 0)
            check(" ".join(row[2].split())[:40] in found[ids[name]]["reason"], f"{row}: the words of the server are lost: {found[ids[name]]['reason']}")
            check(up(place, name) == 0 or found[ids[name]]["state"] == "deferred", f"{row}: its route counts as up")
            alerts = [line for line in place.log.splitlines() if "event=route-suspended" in line and f"tenant={name} " in line]
            check(len(alerts) == (row[-1] == "ACCT"), f"{row}: {len(alerts)} alerts")
        for name in sample(rows, 8):
            explains(place, name)
        place.faults.clear()
        retry(place, {**ids, **{name + "+": identity for name, identity in more.items()}})
        wait_until("everything arrives when it is mended", lambda: all(len(place.delivered(name)) == 2 for name in rows), 60)


@case("O03", "every refusal of Microsoft's token endpoint")
def _(_):
    rows = {f"n{row[0]}": row for row in TOKEN_ROWS_MICROSOFT}
    # What only a refresh token can be refused for comes to one.
    grants = {name: "refresh-token" if row[1] not in ("invalid_client", "unauthorized_client") else "client-credentials" for name, row in rows.items()}
    check(len(rows) == len(TOKEN_ROWS_MICROSOFT) >= 75, "rows with the same number")
    tokens("graph", rows, lambda row: aadsts(*row[:3]), grants)


@case("O04", "every refusal of Google's token endpoint")
def _(_):
    rows = {f"r{n}": row for n, row in enumerate(TOKEN_ROWS_GOOGLE)}
    for kind in ("gmail", "google-smtp"):
        tokens(kind, rows, lambda row: google_error(*row[:3]), {})


# --------------------------------------------------------------------------- the two APIs


def api(kind, rows, answer, at):
    with no_canary(Many(kind, rows, at=(at,), operator_text=patient())) as place:
        place.faults.update({name: answer(row) for name, row in rows.items()})
        classes = {name: row[-1] for name, row in rows.items()}
        ids = {name: place.hand_in(name, large(3000) if classes[name] == "SIZE" else None) for name in rows}
        waiting = {name: identity for name, identity in ids.items() if classes[name] != "SIZE"}
        for identity in ids.values():
            place.wait_log(f"id={identity} ", " to=", "reply=")
        settle(place, waiting, ("suspended", "queued", "deferred", "failed", "uncertain"))
        # Where the whole route stands still, the next message is not tried.
        still = {name: place.hand_in(name) for name in rows if classes[name] in ("ACCT", "TOKEN", "SLOW")}
        time.sleep(1.2)
        found = place.by_id(*ids.values())
        for name, row in rows.items():
            klass = classes[name]
            if klass == "SIZE":
                check([m.how for m in place.delivered(name)] == ["draft"], f"{row}: the way by a draft was not taken: {place.delivered(name)}, {found.get(ids[name])}")
                continue
            if row[0] == 502 and found[ids[name]]["state"] == "uncertain":
                klass = "UNKNOWN"  # a gateway's 502 comes behind the message: I16
            in_class(row, klass, found[ids[name]])
            twice = 1 + (klass == "TOKEN")
            quiet(place, name, row, klass, ids[name], twice, twice)
            check(" ".join(row[2].split())[:40] in found[ids[name]]["reason"], f"{row}: the words of the server are lost: {found[ids[name]]['reason']}")
            check(up(place, name) == (klass not in ("ACCT", "TOKEN")), f"{row}: the metric says {up(place, name)}")
        for name, klass in classes.items():
            def reports():
                return [m for m in list(place.provider.sent) if m.mailbox == f"{name}@acme.example" and b"multipart/report" in m.raw]

            if klass in ("MSG", "SENDER"):
                wait_until(f"{rows[name]}: a bounce", reports, 15)
            found = [m.recipients for m in reports()]
            check(found == [[f"{name}@acme.example"]] * (klass in ("MSG", "SENDER")), f"{rows[name]}: bounces to {found}")
        for name in sample(rows, 6):
            if classes[name] != "SIZE":
                explains(place, name)
        place.faults.clear()
        retry(place, {**waiting, **{name + "+": identity for name, identity in still.items()}})

        def all_there():
            return all(len(mine(place, name)) == 1 + (name in still) for name in rows)

        def mine(place, name):  # not what `postbote test` sends
            return [m for m in place.delivered(name) if TOKEN.search(m.raw)]

        wait_until("everything arrives when it is mended", all_there, 60)


@case("O05", "every refusal of Microsoft Graph and of the Gmail API")
def _(_):
    api("graph", {f"r{n}": row for n, row in enumerate(GRAPH_ROWS)}, lambda row: graph_error(*row[:3]), "sendMail")
    api("gmail", {f"r{n}": row for n, row in enumerate(GMAIL_ROWS)}, lambda row: gmail_error(*row[:3]), "gmail")


# --------------------------------------------------------------------------- SMTP


def smtp(kind, table):
    rows = {f"r{n}": row for n, row in enumerate(table)}
    once = ("SENDER", "MSG", "RCPT", "UNKNOWN")  # the bounce is taken
    with no_canary(Many(kind, rows, operator_text=patient())) as place:
        for name, (where, reply, klass) in rows.items():
            place.smtps[name].inject(where, reply, times=1 if klass in once else None)
        ids = {}
        for name, (where, reply, klass) in rows.items():
            ids[name] = place.hand_in(name, to=(OTHER, MINE) if klass == "RCPT" else (MINE,))
        for identity in ids.values():
            place.wait_log(f"id={identity} ", " to=", "reply=")
        settle(place, ids, ("suspended", "queued", "deferred", "failed", "uncertain"))
        connections = {name: place.smtps[name].connections for name in rows}
        still = {name: place.hand_in(name) for name, row in rows.items() if row[2] in ("ACCT", "TOKEN", "SLOW")}
        time.sleep(1.2)
        found = place.by_id(*ids.values())
        for name, (where, reply, klass) in rows.items():
            fake, message, row = place.smtps[name], found[ids[name]], rows[name]
            in_class(row, klass, message)
            quiet(place, name, row, klass, ids[name], 2 if klass == "TOKEN" else 1, 0)
            if klass in ("ACCT", "SLOW"):
                check(fake.logins <= 1, f"{row}: {fake.logins} logins")
            if klass == "TOKEN":
                check(fake.logins == 2, f"{row}: {fake.logins} logins, wanted one and one with another token")
            if name in still:
                check(fake.connections == connections[name], f"{row}: the next message was tried, though the route stands still")
            if klass == "RCPT":
                states = {to["address"]: to["state"] for to in message["to"]}
                check(states == {OTHER: "bounced", MINE: "sent"} and len(place.delivered(name)) == 1, f"{row}: {states}")
            if klass in ("MSG", "SENDER", "RCPT"):
                wait_until(f"{row}: one bounce", lambda: 1 == sum(b"multipart/report" in m.raw for m in list(fake.received)), 15)
            elif klass != "BUG":
                check(not any(b"multipart/report" in m.raw for m in list(fake.received)), f"{row}: bounced")
            words = reply.split("\r\n")[0][:30].strip().replace("-", " ") if reply not in ("", DROP_AFTER_STORE) else ""
            # Of the faults that would be ours: 501 to EHLO is tried again with HELO, and that is what counts.
            check(words in message["reason"].replace("-", " ") or klass in ("RCPT", "BUG"), f"{row}: the words of the server are lost: {message['reason']}")
        for name in sample({name: row for name, row in rows.items() if row[2] not in once and row[2] != "BUG"}, 6):
            explains(place, name)
        for fake in place.smtps.values():
            fake.clear()
        # All that waits leaves; what has failed as well, once it is mended and tried again.
        retry(place, {**ids, **{name + "+": identity for name, identity in still.items()}})

        def all_there():
            return all(set(TOKEN.findall(b"".join(m.raw for m in place.delivered(name)))) for name in rows) and not place.by_id(*ids.values(), *still.values())

        wait_until(f"everything arrives when it is mended: {place.queue()}", all_there, 60)
        for name, row in rows.items():
            if row[1] == DROP_AFTER_STORE or row[2] == "RCPT":  # … or goes to the other recipient now
                place.may_repeat |= {token for m in place.smtps[name].received for token in TOKEN.findall(m.raw)}


@case("O06", "every reply of smtp.office365.com")
def _(_):
    smtp("microsoft-smtp", MICROSOFT_ROWS)


@case("O07", "every reply of smtp.gmail.com")
def _(_):
    smtp("google-smtp", GOOGLE_ROWS)
