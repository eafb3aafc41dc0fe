"""O: OAuth2 upstreams: XOAUTH2, Microsoft Graph and the Gmail API against faithful fakes. (O03 to O07: o_tables.py)"""

import base64, contextlib, email, email.policy, hashlib, http.client, json, os, pathlib, random, re, signal, stat, subprocess, threading, time, urllib.parse

import rig as base
import provider as fake
from oauth_rig import MAILBOX, Installation, Mailboxes, tenant_text
from provider import MB, Provider
from provider_smtp import GoogleSmtp, MicrosoftSmtp
from rig import TOKEN, Broken, case, check, wait_until

GRAPH = "https://graph.microsoft.com/"
GMAIL_SEND = "https://www.googleapis.com/auth/gmail.send"
DELEGATED = [GRAPH + "Mail.Send", GRAPH + "Mail.ReadWrite", "offline_access"]
BIG = 'max_message_size = "60MiB"'


def hand_in(place, count=1, client=None, **envelope):
    """So many small messages, one connection; gives [(id, token)]."""
    own = client or place.client()
    found = []
    for _ in range(count):
        content = place.message()
        found.append((own.message(content, **envelope), TOKEN.search(content)[0]))
    if client is None:
        own.expect("QUIT", "221")
        own.close()
    return found


def arrivals(place, token):
    return [message for message in place.delivered_now() if token in message.raw]


def arrives(place, token, limit=30):
    """Waits until a message is delivered; gives it."""
    return wait_until(f"{token.decode()} is delivered; the queue: {place.queue()}\n{place.log[-1500:]}", lambda: arrivals(place, token), limit)[0]


def requests(provider, *kinds):
    return [request for request in list(provider.requests) if request.kind in kinds]


def recipients(message):
    return sorted(message.recipients)


def waiting(place, identity):
    """A message as `queue list --json` has it; None: settled."""
    return next((message for message in place.queue() if message["id"] == identity), None)


def reaches(place, identity, *states, limit=20):
    """Waits until a message is in one of these states; gives it."""

    def look():
        found = waiting(place, identity)
        return found if found and found["state"] in states else None

    try:
        return wait_until("", look, limit)
    except Broken:
        raise Broken(f"{identity} does not become {states}: {place.queue()}\n{place.log[-2000:]}") from None


# --------------------------------------------------------------------------- refreshes


def one_refresh(place, count):
    """`count` messages whose access token is over, then again whose token is refused though it looks good: one
    refresh each time, and nobody notices."""
    provider = place.provider
    provider.expires_in = 2
    hand_in(place)
    place.sent(1)
    time.sleep(2.2)
    provider.expires_in = 3599
    for number, how in enumerate(("over", "refused"), 1):
        if place.smtp:
            # Kept connections are logged in: they would carry all without a token.
            for session in place.smtp.alive():
                session.close()
            wait_until("no connection is left", lambda: not place.smtp.alive())
        if how == "over":
            provider.token_barrier = threading.Event()
        else:
            provider.expire_access()
        before = place.token_count()
        hand_in(place, count)
        if provider.token_barrier:
            # All who deliver wait for the one token.
            wait_until("the token is asked for", lambda: provider.held)
            time.sleep(0.5)
            check(place.token_count() == before + 1, f"{how}: {place.token_count() - before} refreshes under way at once")
            provider.token_barrier.set()
            provider.token_barrier = None
        place.sent(1 + number * count)
        check(place.token_count() == before + 1, f"{how}: {place.token_count() - before} refreshes for {count} messages")
        bad = place.log.count("event=deferred") + place.log.count("event=bounced")
        check(not bad, f"{how}: {bad} messages were not delivered at once:\n{place.log[-2000:]}")


def slowly(verb, seconds):
    """A handler of an SMTP upstream that takes its time."""

    def answer(session, line):
        time.sleep(seconds)
        return session._usual(verb, line)

    return answer


@case("O01", "50 parallel deliveries with an expired access token: one refresh", start=False)
def _(rig):
    provider = Provider("microsoft")
    smtp = MicrosoftSmtp(provider.check_smtp_token, connection_limit=None)
    smtp.on["MAIL"] = slowly("MAIL", 1)
    with Installation("microsoft-smtp", grant="refresh-token", provider=provider, smtp=smtp, upstream="connections = 50") as place:
        place.descriptors += 100
        one_refresh(place, 50)
        check(smtp.connections_max > 30, f"only {smtp.connections_max} connections at once: nothing was parallel")
    with Installation("graph", grant="refresh-token", upstream="connections = 4") as place:
        place.provider.delay["sendMail"] = 0.1
        one_refresh(place, 14)
        check(place.provider.in_flight_max[MAILBOX] > 2, f"only {place.provider.in_flight_max} at once: nothing was parallel")


def twin(provider, access):
    """The refresh token that was given together with an access token."""
    return provider.minted[provider.minted.index(access) - 1]


def restart(place):
    place.kill()
    place.start()


@case("O02", "kill -9 around a refresh: the newest stored token is used, the account works", start=False)
def _(rig):
    with Installation("graph", grant="refresh-token") as place:
        provider = place.provider
        configured = next(iter(provider.refresh))
        provider.expires_in = 1
        ages = lambda: list(provider.refresh)

        def newest_used():
            """The refresh token beside the newest access token that was seen at the API: it must be stored."""
            seen = [r.headers["Authorization"].removeprefix("Bearer ") for r in requests(provider, "sendMail", "sent-items")]
            return twin(provider, seen[-1]) if seen else configured

        def killed_at(moment, words):
            """Hands in a message, kills at that moment, starts again: what is asked with then?"""
            time.sleep(1.1)  # the token in hand is over
            _, token = hand_in(place)[0]
            moment()
            place.kill()
            place.may_repeat.add(token)  # nobody knows what became of its request
            provider.token_barrier, at_least, asked = None, newest_used(), place.token_count()
            given = max(ages().index(form["refresh_token"]) for form in provider.token_requests) if provider.token_requests else 0
            place.start()
            for token in (token, hand_in(place)[0][1]):
                arrives(place, token)
            first = ages().index(provider.token_requests[asked]["refresh_token"])
            check(first >= ages().index(at_least), f"{words}: an older refresh token than that of the access token in use")
            check(first >= given, f"{words}: asked with token {first}, though {given} was stored already")

        def held():
            wait_until("the token is asked for", lambda: provider.held)

        provider.token_barrier = threading.Event()
        killed_at(held, "first token held")
        for number in range(3):
            provider.token_barrier = threading.Event()
            killed_at(held, f"held, {number}")
        for number in range(8):
            asked = place.token_count()

            def moment():
                wait_until("a token is given", lambda: any(r.status for r in requests(provider, "token")[asked:]))
                time.sleep(random.random() * 0.02)

            killed_at(moment, f"given, {number}")
        # From here on what was used is dead: only what is stored in time keeps the account alive.
        provider.strict = True
        for number in range(4):
            sent = len(provider.sent)

            def moment():
                place.sent(sent + 1)
                time.sleep(random.random() * 0.01)

            killed_at(moment, f"strict, {number}")
        check(not place.queue(), f"{place.queue()}")
