"""Tries every part of provider.py with http.client, as a client would: `python3 provider_selftest.py`."""

import base64, hashlib, http.client, json, pathlib, socket, ssl, sys, tempfile, threading, time, urllib.parse, uuid

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import provider as fake
from provider import Provider, b64url

GRAPH = "https://graph.microsoft.com/"
TESTS = []


def test(function):
    TESTS.append(function)
    return function


class Answer:
    def __init__(self, answer):
        self.status, self.headers, self.body = answer.status, answer.headers, answer.read()

    def __getitem__(self, name):
        return json.loads(self.body)[name]


class Client:
    """One keep-alive connection."""

    def __init__(self, provider):
        port = provider.server.server_address[1]
        context = ssl._create_unverified_context()
        self.http = (
            http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
            if provider.tls
            else http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        )
        self.provider = provider

    def ask(self, method, url, body=None, chunked=False, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, dict):
            body, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        if chunked:
            body = iter([body[i : i + 70000] for i in range(0, len(body), 70000)])
        self.http.request(method, url.removeprefix(self.provider.base), body, headers, encode_chunked=chunked)
        return Answer(self.http.getresponse())

    def form(self, url=None, **fields):
        body = urllib.parse.urlencode(fields)
        return self.ask("POST", url or self.provider.token_url, body, Content_Type="application/x-www-form-urlencoded")

    def token(self, **fields):
        p = self.provider
        answer = self.form(**{"client_id": p.client_id, "client_secret": p.client_secret, **fields})
        assert answer.status == 200, answer.body
        return answer["access_token"]

    def graph(self, method, path, body=None, token=None, **headers):
        headers.setdefault("client_request_id", str(uuid.uuid4()))
        if isinstance(body, bytes):
            body, headers["Content_Type"] = base64.b64encode(body), headers.get("Content_Type", "text/plain")
        return self.ask(method, "/v1.0" + path, body, Authorization="Bearer " + token, **headers)


def app_token(client):
    return client.token(grant_type="client_credentials", scope=GRAPH + ".default")


def delegated(client, scopes, user=None):
    refresh = client.provider.mint_refresh(user, scopes)
    scope = " ".join(scopes.split()[:1]) if client.provider.microsoft else scopes
    return client.token(grant_type="refresh_token", refresh_token=refresh, scope=scope)


def mail(to="To: a@x.example\r\nCc: b@x.example\r\nBcc: c@x.example\r\n", sender="office@acme.example", body=b"hello\r\n"):
    return f"From: Office <{sender}>\r\n{to}Message-ID: <1@acme.example>\r\nSubject: s\r\n\r\n".encode() + body


def authorize(p, verifier="v" * 43, redirect=None, **more):
    redirect = redirect or ("http://localhost:4711/callback" if p.microsoft else "http://127.0.0.1:4711/callback")
    query = {"client_id": p.client_id, "response_type": "code", "redirect_uri": redirect, "state": "st&te"}
    query |= {"scope": fake.DEFAULT_SCOPES[p.flavour], "code_challenge_method": "S256"}
    query |= {"code_challenge": b64url(hashlib.sha256(verifier.encode()).digest()), **more}
    location = p.sign_in(p.authorize_url + "?" + urllib.parse.urlencode(query))
    return location and dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(location).query))


def redeem(p, client, code, verifier="v" * 43, **more):
    redirect = "http://localhost:4711/callback" if p.microsoft else "http://127.0.0.1:4711/callback"
    form = {"client_id": p.client_id, "client_secret": p.client_secret, "grant_type": "authorization_code"}
    form |= {"code": code, "redirect_uri": redirect, "code_verifier": verifier}
    form |= {"scope": GRAPH + "Mail.Send offline_access openid"} if p.microsoft else {}
    return client.form(**{**form, **more})


def jwt(key, header, claims):
    """Signs by openssl."""
    import subprocess

    text = ".".join(b64url(json.dumps(part).encode()) for part in (header, claims))
    pss = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32".split() if header["alg"] == "PS256" else []
    command = ["openssl", "dgst", "-sha256", "-sign", key, *pss]
    return text + "." + b64url(subprocess.run(command, input=text.encode(), check=True, capture_output=True).stdout)


def errors(p, *words):
    """What the fake held against the client, exactly."""
    assert len(p.errors) == len(words), p.errors
    for error, word in zip(p.errors, words):
        assert word in error, (error, word)
    p.errors.clear()


# --------------------------------------------------------------------------- sign-in and tokens


@test
def code_flow_microsoft():
    with Provider() as p:
        c = Client(p)
        got = authorize(p)
        assert got["state"] == "st&te" and "CANARY" in got["code"]
        answer = redeem(p, c, got["code"])
        assert answer.status == 200 and answer["scope"] == GRAPH + "Mail.Send" and len(answer["access_token"]) == 1800
        assert answer["expires_in"] == 3599 and answer["token_type"] == "Bearer"
        claims = json.loads(fake.un64url(answer["id_token"].split(".")[1]))
        assert claims["upn"] == claims["preferred_username"] == p.user and claims["tid"] == p.directory_id
        again = redeem(p, c, got["code"])
        assert again.status == 400 and again["error_codes"] == [54005] and "\r\nTrace ID: " in again["error_description"]
        assert again["error"] == "invalid_grant" and again["error_uri"].endswith("54005")
        # refresh: rotates, the old one still works; another resource by the same token
        secret = {"client_id": p.client_id, "client_secret": p.client_secret, "grant_type": "refresh_token"}
        first = answer["refresh_token"]
        two = c.form(**secret, refresh_token=first, scope="https://outlook.office.com/SMTP.Send offline_access")
        assert two.status == 200 and two["refresh_token"] != first and "id_token" not in json.loads(two.body)
        assert p.check_smtp_token(two["access_token"], p.user)
        assert not p.check_smtp_token(two["access_token"], "x@y") and not p.check_smtp_token(answer["access_token"], p.user)
        assert c.form(**secret, refresh_token=first, scope=GRAPH + "Mail.Send").status == 200
        p.strict = True
        assert c.form(**secret, refresh_token=first, scope=GRAPH + "Mail.Send offline_access").status == 200
        assert c.form(**secret, refresh_token=first, scope=GRAPH + "Mail.Send")["error_codes"] == [700082]
        p.revoke()
        assert c.form(**secret, refresh_token=two["refresh_token"], scope=GRAPH + "Mail.Send")["error_codes"] == [50173]
        fresh = p.mint_refresh(scopes=GRAPH + "Mail.Send offline_access")
        assert "refresh_token" not in json.loads(c.form(**secret, refresh_token=fresh, scope="Mail.Send").body)
        assert c.form(**secret, refresh_token=fresh, scope="Mail.ReadWrite")["error_codes"] == [65001]
        assert c.form(**secret, refresh_token=fresh, scope=GRAPH + "Nonsense")["error"] == "invalid_scope"
        both = GRAPH + "Mail.Send https://outlook.office.com/SMTP.Send"
        assert c.form(**secret, refresh_token=fresh, scope=both)["error_codes"] == [700022]
        errors(p, "several resources")
        assert c.form(**secret, refresh_token=fresh)["error_codes"] == [900144]
        errors(p, "no scope")
        assert all("CANARY" in secret for secret in p.secrets) and first in p.secrets
        assert p.token_requests[0]["code"] == got["code"]


@test
def code_flow_refusals():
    for flavour in ("microsoft", "google", "custom"):
        with Provider(flavour) as p:
            c = Client(p)
            assert redeem(p, c, authorize(p)["code"]).status == 200
            assert redeem(p, c, authorize(p)["code"], client_secret="x").status == 401
            wrong = redeem(p, c, authorize(p)["code"], verifier="w" * 43)
            assert wrong.status == 400 and wrong["error"] == "invalid_grant"
            errors(p, "code_verifier")
            assert redeem(p, c, authorize(p)["code"], redirect_uri="http://localhost:1/").status in (400, 401)
            errors(p, "redirect_uri")
            assert authorize(p, state="") is None and authorize(p, redirect="https://evil.example/") is None
            assert authorize(p, code_challenge_method="plain") is None
            errors(p, "no state", "redirect_uri", "S256")
            p.deny = True
            assert authorize(p)["error"] == "access_denied"
            p.deny, p.wrong_state, p.signs_in_as = False, True, "other@acme.example"
            got = authorize(p)
            assert got["state"] != "st&te" and "other@acme.example" in str(p.codes[got["code"]])
            assert c.form(client_id="nobody", grant_type="refresh_token").status == (400 if p.microsoft else 401)
            assert c.form(client_id=p.client_id, client_secret=p.client_secret, grant_type="magic")["error"] == "unsupported_grant_type"
            errors(p, "magic")


@test
def basic_authentication_and_public_clients():
    with Provider() as p:
        c = Client(p)
        pair = f"{urllib.parse.quote_plus(p.client_id)}:{urllib.parse.quote_plus(p.client_secret)}"
        body = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": GRAPH + ".default"})
        head = {"Content_Type": "application/x-www-form-urlencoded"}
        basic = "Basic " + base64.b64encode(pair.encode()).decode()
        assert c.ask("POST", p.token_url, body, Authorization=basic, **head).status == 200
        p.public = True
        assert redeem(p, c, authorize(p)["code"])["error_codes"] == [700025]
        errors(p, "public client")
        assert "client_secret" not in p.toml("authorization-code")


@test
def client_credentials():
    with Provider() as p:
        c, form = Client(p), {"client_id": p.client_id, "grant_type": "client_credentials"}
        good = c.form(**form, client_secret=p.client_secret, scope=GRAPH + ".default")
        assert good.status == 200 and "refresh_token" not in json.loads(good.body) and good["ext_expires_in"] == 3599
        bad = c.form(**form, client_secret="guess", scope=GRAPH + ".default")
        assert bad.status == 401 and bad["error"] == "invalid_client" and bad["error_codes"] == [7000215]
        assert c.form(**form, scope=GRAPH + ".default")["error_codes"] == [7000218]
        assert c.form(**form, client_secret=p.client_secret, scope=GRAPH + "Mail.Send")["error"] == "invalid_scope"
        unknown = "https://nowhere.example/.default"
        assert c.form(**form, client_secret=p.client_secret, scope=unknown)["error"] == "invalid_resource"
        for resource, fits in (("office365", True), ("office", False)):
            token = c.token(grant_type="client_credentials", scope=f"https://outlook.{resource}.com/.default")
            assert p.check_smtp_token(token, p.user) is fits
        common = p.token_url.replace(p.directory_id, "common")
        assert c.form(common, **form, client_secret=p.client_secret, scope=GRAPH + ".default")["error_codes"] == [50059]
        assert c.form(common.replace("common", "elsewhere"), **form)["error_codes"] == [90002]
        p.expires_in = 0.3
        token = app_token(c)
        assert c.graph("GET", "/users/" + p.user, token=token).status == 403  # no User.Read.All, but let in
        time.sleep(0.35)
        late = c.graph("POST", f"/users/{p.user}/sendMail", mail(), token=token)
        assert late.status == 401 and "expired" in late["error"]["message"] and "authorization_uri" in late.headers["WWW-Authenticate"]
        errors(p)


@test
def certificate_assertion():
    with Provider() as p, tempfile.TemporaryDirectory() as folder:
        c, (path, key), now = Client(p), p.certificate(folder), time.time()
        der = ssl.PEM_cert_to_DER_cert(path.read_text())
        thumb = {"PS256": {"x5t#S256": b64url(hashlib.sha256(der).digest())}, "RS256": {"x5t": b64url(hashlib.sha1(der).digest())}}

        def ask(alg="PS256", spoil="", **more):
            claims = {"aud": p.token_url, "iss": p.client_id, "sub": p.client_id, "jti": str(uuid.uuid4())}
            claims |= {"nbf": now, "iat": now, "exp": now + 500, **more}
            text = jwt(key, {"alg": alg, "typ": "JWT", **thumb[alg]}, claims) + spoil
            kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            form = {"client_id": p.client_id, "grant_type": "client_credentials", "scope": GRAPH + ".default"}
            return c.form(**form, client_assertion_type=kind, client_assertion=text)

        for library in (fake.x509, None):  # by cryptography, if it is there, and by openssl
            fake.x509, kept = library, fake.x509
            try:
                p.register_certificate(path.read_text())
                assert ask().status == 200 and ask("RS256").status == 200
                wrong = [ask(aud="https://x/"), ask(iss="x"), ask(exp=now - 1), ask(jti=None), ask(spoil="AAAA"), ask(nbf=now + 999)]
                assert ask(jti="once" + str(library)).status == 200
                wrong.append(ask(jti="once" + str(library)))
                for answer in wrong:
                    assert answer.status == 401 and answer["error"] == "invalid_client" and answer["error_codes"] == [700027]
            finally:
                fake.x509 = kept
        p.certificates.clear()
        assert "not found" in ask()["error_description"]
        errors(p)
        assert "CANARY" not in p.toml("client-credentials", client_secret=None, client_certificate=str(path), client_key=f'{{ file = "{key}" }}')


@test
def device_code():
    for flavour in ("microsoft", "custom"):
        with Provider(flavour) as p:
            p.device_interval, p.device_answers = 0.2, ["authorization_pending", "slow_down", "authorization_pending"]
            c = Client(p)
            scope = GRAPH + "Mail.Send offline_access" if p.microsoft else "smtp offline_access"
            started = c.form(p.device_url, client_id=p.client_id, scope=scope)
            assert started.status == 200 and started["interval"] == 0.2 and ("message" in json.loads(started.body)) == p.microsoft
            form = {"client_id": p.client_id, "grant_type": fake.DEVICE_CODE, "device_code": started["device_code"]}
            said, wait = [], 0.2
            for _ in range(3):
                time.sleep(wait)
                answer = c.form(**form)
                assert answer.status == 400
                said.append(answer["error"])
                if said[-1] == "slow_down":
                    p.devices[started["device_code"]].interval = wait = 0.3
            assert said == ["authorization_pending", "slow_down", "authorization_pending"]
            time.sleep(0.3)
            done = c.form(**form)
            assert done.status == 200 and done["refresh_token"]
            renewed = {"client_id": p.client_id, "grant_type": "refresh_token", "refresh_token": done["refresh_token"]}
            assert c.form(**renewed, scope=scope).status == 200  # got without a secret, renewed without
            assert c.form(**form)["error"] == "bad_verification_code"
            errors(p)
            p.device_expires_in, p.device_answers = 0, ["authorization_pending"]
            form["device_code"] = c.form(p.device_url, client_id=p.client_id, scope=scope)["device_code"]
            assert c.form(**form)["error"] == "expired_token"
            p.device_expires_in, p.device_answers = 900, ["authorization_declined"]
            form["device_code"] = c.form(p.device_url, client_id=p.client_id, scope=scope)["device_code"]
            assert c.form(**form)["error"] == "authorization_declined"
            assert c.form(**form)["error"] == "slow_down"
            errors(p, "polled before")
    with Provider("google") as p:
        refused = Client(p).form(p.device_url, client_id=p.client_id, scope="https://mail.google.com/")
        assert refused.status == 400 and refused["error"] == "invalid_scope"


@test
def google_tokens():
    with Provider("google") as p:
        c, got = Client(p), authorize(p)
        answer = redeem(p, c, got["code"])
        assert answer["refresh_token"].startswith("1//0") and len(answer["access_token"]) == 220 and answer["id_token"]
        assert p.check_smtp_token(answer["access_token"], p.user)
        form = {"client_id": p.client_id, "client_secret": p.client_secret, "grant_type": "refresh_token"}
        again = c.form(**form, refresh_token=answer["refresh_token"])
        assert again.status == 200 and "refresh_token" not in json.loads(again.body)
        p.revoke(p.user)
        dead = c.form(**form, refresh_token=answer["refresh_token"])
        assert dead.status == 400 and dead["error_description"] == "Token has been expired or revoked."
        errors(p)


@test
def service_account():
    with Provider("google") as p, tempfile.TemporaryDirectory() as folder:
        c, path, now = Client(p), p.service_account(folder), int(time.time())
        content = json.loads(path.read_text())
        key = pathlib.Path(folder, "key")
        key.write_text(content["private_key"])

        def ask(kid=content["private_key_id"], spoil="", **more):
            claims = {"iss": content["client_email"], "scope": "https://mail.google.com/", "aud": p.token_url}
            claims |= {"iat": now, "exp": now + 3600, "sub": p.user, **more}
            text = jwt(key, {"alg": "RS256", "typ": "JWT", "kid": kid}, claims)
            return c.form(grant_type=fake.JWT_BEARER, assertion=text + spoil)

        good = ask()
        assert good.status == 200 and set(json.loads(good.body)) == {"access_token", "expires_in", "token_type"}
        assert p.check_smtp_token(good["access_token"], p.user)
        assert ask(spoil="AAAA")["error_description"] == ask(kid="x")["error_description"] == "Invalid JWT Signature."
        assert "60 minutes" in ask(exp=now + 3700)["error_description"] and "60 minutes" in ask(iat=now - 9000, exp=now - 5400)["error_description"]
        assert ask(sub="x@y")["error_description"] == "Invalid email or User ID"
        denied = ask(scope=fake.GMAIL + "modify")
        assert denied.status == 401 and denied["error"] == "unauthorized_client"
        assert ask(scope="")["error"] == "invalid_scope" and "audience" in ask(aud="x")["error_description"]
        toml = p.toml("service-account", service_account=f'{{ file = "{path}" }}')
        assert f'service_account = {{ file = "{path}" }}' in toml and "client_id" not in toml
        errors(p)


# --------------------------------------------------------------------------- Graph


@test
def send_mail():
    with Provider() as p:
        c = Client(p)
        token, path = app_token(c), f"/users/{p.user}/sendMail"

        def code(answer, status, word):
            assert answer.status == status and answer["error"]["code"] == word, (answer.status, answer.body)
            assert answer["error"]["innerError"]["request-id"]

        sent = c.graph("POST", path, mail(), token=token, client_request_id="mine")
        assert (sent.status, sent.body, sent.headers["client-request-id"]) == (202, b"", "mine") and sent.headers["request-id"]
        assert sent.headers["Content-Length"] == "0"
        assert p.sent[0].recipients == ["a@x.example", "b@x.example", "c@x.example"] and p.sent[0].raw == mail()
        assert p.sent[0].visible == mail().replace(b"Bcc: c@x.example\r\n", b"") and p.sent[0].mailbox == p.user
        lines = base64.encodebytes(mail()).replace(b"\n", b"\r\n")
        head = {"Authorization": "Bearer " + token, "client_request_id": "x"}
        assert c.ask("POST", "/v1.0" + path, lines, Content_Type="text/plain", **head).status == 202
        assert c.ask("POST", "/v1.0" + path, lines, chunked=True, Content_Type="text/plain", **head).status == 202
        code(c.ask("POST", "/v1.0" + path, b"_-_-", Content_Type="text/plain", **head), 400, "ErrorMimeContentInvalidBase64String")
        code(c.ask("POST", "/v1.0" + path, lines, Content_Type="text/plain; charset=utf-8", **head), 400, "UnableToDeserializePostBody")
        code(c.graph("POST", path, b"no header", token=token), 400, "ErrorMimeContentInvalid")
        code(c.graph("POST", path, mail("To: undisclosed-recipients:;\r\n"), token=token), 400, "ErrorInvalidRecipients")
        code(c.graph("POST", path, mail(sender="boss@acme.example"), token=token), 403, "ErrorSendAsDenied")
        p.send_as[p.user] = {"Boss@acme.example"}
        assert c.graph("POST", path, mail(sender="boss@acme.example"), token=token).status == 202
        code(c.graph("POST", "/users/nobody@acme.example/sendMail", mail(), token=token), 404, "ErrorInvalidUser")
        code(c.graph("POST", path, mail(body=b"x" * 3_200_000), token=token), 413, "RequestEntityTooLarge")
        errors(p)
        code(c.graph("POST", "/me/sendMail", mail(), token=token), 400, "BadRequest")
        errors(p, "/me")
        c.ask("POST", "/v1.0" + path, lines, Content_Type="text/plain", Authorization="Bearer " + token)
        errors(p, "client-request-id")
        code(c.ask("POST", "/v1.0" + path, lines, Content_Type="text/plain", client_request_id="x"), 401, "InvalidAuthenticationToken")
        errors(p, "no bearer")
        code(c.graph("POST", path, mail(), token="nonsense"), 401, "InvalidAuthenticationToken")
        smtp = c.token(grant_type="client_credentials", scope="https://outlook.office365.com/.default")
        assert "audience" in c.graph("POST", path, mail(), token=smtp)["error"]["message"]
        before = len(p.sent)
        message = {"subject": "ä", "body": {"contentType": "HTML", "content": "<p>"}, "attachments": [
            {"@odata.type": "#microsoft.graph.fileAttachment", "name": "r.pdf", "contentBytes": "AAEC"}]}  # fmt: skip
        message["bccRecipients"] = [{"emailAddress": {"address": "a@x.example", "name": "A"}}]
        assert c.graph("POST", path, {"message": message, "saveToSentItems": "false"}, token=token).status == 202
        assert len(p.sent) == before + 1 and p.sent[-1].recipients == ["a@x.example"] and b"Bcc" not in p.sent[-1].visible
        assert p.sent[-1].attachments == [("r.pdf", hashlib.sha256(b"\0\1\2").hexdigest())] and not p.sent[-1].saved
        message["internetMessageHeaders"] = [{"name": "In-Reply-To", "value": "x"}]
        code(c.graph("POST", path, {"message": message}, token=token), 400, "InvalidInternetMessageHeader")
        p.permissions = set()
        code(c.graph("POST", path, mail(), token=token), 403, "ErrorAccessDenied")
        p.expire_access()
        code(c.graph("POST", path, mail(), token=token), 401, "InvalidAuthenticationToken")
        errors(p)


@test
def delegated_mailboxes():
    with Provider() as p:
        p.mailboxes.add("team@acme.example")
        c = Client(p)
        own = delegated(c, GRAPH + "Mail.Send offline_access")
        assert c.graph("POST", "/me/sendMail", mail(), token=own).status == 202 and c.graph("GET", "/me", token=own)["mail"] == p.user
        team = mail(sender="team@acme.example")
        assert c.graph("POST", "/users/team@acme.example/sendMail", team, token=own).status == 403
        assert c.graph("POST", "/users/office@acme.example/messages", mail(), token=own).status == 403
        p.shared = {"team@acme.example"}
        shared = delegated(c, GRAPH + "Mail.Send.Shared offline_access")
        assert c.graph("POST", "/users/team%40acme.example/sendMail", team, token=shared).status == 202
        assert [s.mailbox for s in p.sent] == [p.user, "team@acme.example"]
        errors(p)


@test
def draft_and_upload():
    with Provider() as p:
        c = Client(p)
        token, box = app_token(c), f"/users/{p.user}"
        big, small = bytes(range(256)) * 20000, b"small" * 9
        draft = c.graph("POST", box + "/messages", mail(), token=token, Prefer='IdType="ImmutableId"')
        assert draft.status == 201 and draft["isDraft"] and draft["internetMessageId"] == "<1@acme.example>"
        one = f"{box}/messages/{draft['id']}"
        item = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "klein ä.txt", "contentType": "text/plain"}
        item["contentBytes"] = base64.b64encode(small).decode()
        assert c.graph("POST", one + "/attachments", item, token=token).status == 201
        session = {"AttachmentItem": {"attachmentType": "file", "name": "groß.bin", "size": 100}}
        few = c.graph("POST", one + "/attachments/createUploadSession", session, token=token)
        assert few.status == 400 and few["error"]["code"] == "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize"
        session["AttachmentItem"]["size"] = len(big)
        made = c.graph("POST", one + "/attachments/createUploadSession", session, token=token)
        assert made.status == 201 and made["nextExpectedRanges"] == ["0-"] and made["uploadUrl"].startswith(p.base)
        url, half = made["uploadUrl"], 3_000_000

        def put(first, octets, **more):
            spread = f"bytes {first}-{first + len(octets) - 1}/{len(big)}"
            return c.ask("PUT", url, octets, Content_Range=spread, Content_Type="application/octet-stream", **more)

        assert put(half, big[half:]).status == 416
        errors(p)
        assert put(0, big[:half], Authorization="Bearer " + token).status == 400
        errors(p, "Authorization")
        assert put(0, big).status == 416
        errors(p, "octets")
        got = put(0, big[:half])
        assert got.status == 200 and got["nextExpectedRanges"] == [str(half)]
        assert c.ask("GET", url)["nextExpectedRanges"] == [str(half)]
        last = put(half, big[half:])
        assert last.status == 201 and "Attachments(" in last.headers["Location"] and last.headers["Content-Length"] == "0"
        assert c.ask("GET", "/v1.0" + one, Authorization="Bearer " + token, client_request_id="x")["isDraft"] is True
        assert list(p.drafts) == [draft["id"]] and p.sent == []
        assert c.graph("POST", one + "/send", b"", token=token).status == 202
        assert p.drafts == {} and p.sent[0].recipients[2] == "c@x.example" and b"Bcc" not in p.sent[0].visible
        digests = [hashlib.sha256(content).hexdigest() for content in (small, big)]
        assert p.sent[0].attachments == [("klein ä.txt", digests[0]), ("groß.bin", digests[1])]
        assert b"hello" in p.sent[0].raw and c.graph("GET", one, token=token)["isDraft"] is False  # immutable
        query = urllib.parse.urlencode({"$filter": "internetMessageId eq '<1@acme.example>'", "$select": "id"})
        found = c.graph("GET", f"{box}/mailFolders/sentitems/messages?{query}", token=token)
        assert [i["id"] for i in found["value"]] == [draft["id"]]
        assert c.graph("GET", f"{box}/messages?{query}", token=token)["value"] == found["value"]
        # a JSON draft, an id that changes, a session given up, a draft deleted
        form = {"subject": "s", "body": {"content": "t"}, "toRecipients": [{"emailAddress": {"address": "z@x.example"}}]}
        draft = c.graph("POST", box + "/messages", form, token=token)
        one = f"{box}/messages/{draft['id']}"
        c.graph("POST", one + "/attachments", item, token=token)
        url = c.graph("POST", one + "/attachments/createUploadSession", session, token=token)["uploadUrl"]
        assert c.ask("DELETE", url).status == 204 and c.ask("GET", url).status == 404
        assert c.graph("POST", one + "/send", b"", token=token).status == 202 and c.graph("GET", one, token=token).status == 404
        assert p.sent[1].recipients == ["z@x.example"] and p.sent[1].attachments == [("klein ä.txt", digests[0])]
        one = f"{box}/messages/{c.graph('POST', box + '/messages', mail(), token=token)['id']}"
        p.message_limit = 50
        assert c.graph("POST", one + "/send", b"", token=token)["error"]["code"] == "ErrorMessageSizeExceeded"
        assert c.graph("DELETE", one, token=token).status == 204 and c.graph("DELETE", one, token=token).status == 404
        p.permissions = {"Mail.Send"}
        denied = c.graph("POST", box + "/messages", mail(), token=token)
        assert denied.status == 403 and denied["error"]["code"] == "ErrorAccessDenied"
        errors(p)


@test
def multipart_draft_stays_flat():
    mixed = b'From: office@acme.example\r\nTo: a@x.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary="bb"\r\n\r\n'
    mixed += b"--bb\r\nContent-Type: text/plain\r\n\r\ntext\r\n--bb--\r\n"
    part = fake.Record(name="a.pdf", type="application/pdf", content=b"PDF", inline=False, cid=None)
    image = fake.Record(name="i.png", type="image/png", content=b"PNG", inline=True, cid="img1")
    for raw in (mixed, mail()):
        whole = fake.with_attachments(raw, [part, image])
        parsed = fake.email.message_from_bytes(whole, policy=fake.email.policy.default)
        assert [leaf.get_content_type() for leaf in fake.leaves(parsed)] == ["text/plain", "application/pdf", "image/png"]
        assert [name for name, _ in fake.attachments(parsed)] == ["a.pdf", "i.png"] and not parsed.defects
        assert fake.leaves(parsed)[2]["Content-ID"] == "<img1>" and parsed["To"] and parsed["MIME-Version"] == "1.0"


# --------------------------------------------------------------------------- Gmail


@test
def gmail_forms():
    with Provider("google") as p:
        c = Client(p)
        token = delegated(c, fake.GMAIL + "send")
        head, up = {"Authorization": "Bearer " + token}, "/upload/gmail/v1/users/me/messages/send?uploadType="

        def raw(message, pad=True, who="me", **more):
            text = base64.urlsafe_b64encode(message).decode()
            return c.ask("POST", f"/gmail/v1/users/{who}/messages/send", {"raw": text if pad else text.rstrip("=")}, **{**head, **more})

        def refused(answer, status, reason, words):
            error = answer["error"]
            assert (answer.status, error["errors"][0]["reason"]) == (status, reason) and words in error["message"], answer.body
            assert error["code"] == status and error["errors"][0]["message"] == error["message"]

        sent = raw(mail())
        assert sent.status == 200 and sent["labelIds"] == ["SENT"] and sent["id"] == sent["threadId"]
        assert raw(mail(), pad=False, who="office%40acme.example").status == 200
        assert p.sent[0].recipients == ["a@x.example", "b@x.example", "c@x.example"] and b"Bcc" not in p.sent[0].visible
        assert c.ask("POST", up + "media", mail(), Content_Type="message/rfc822", **head).status == 200
        parts = b"--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n" + mail() + b"\r\n--b--"
        assert c.ask("POST", up + "multipart", parts, Content_Type="multipart/related; boundary=b", **head).status == 200
        assert [s.how for s in p.sent] == ["raw", "raw", "media", "multipart"] and {s.raw for s in p.sent} == {mail()}
        assert raw(mail(sender="boss@acme.example")).status == 200
        assert b"From: Office <office@acme.example>\r\n" in p.sent[-1].visible and b"X-Google-Original-From: Office <boss" in p.sent[-1].visible
        p.send_as[p.user].add("boss@acme.example")
        assert raw(mail(sender="boss@acme.example")).status == 200 and b"From: Office <boss" in p.sent[-1].visible
        refused(raw(mail(to="")), 400, "invalidArgument", "Recipient address required")
        refused(raw(mail(to="To: nobody\r\n")), 400, "invalidArgument", "Invalid To header")
        refused(raw(mail(), who="else@acme.example"), 403, "forbidden", "Delegation")
        refused(raw(mail(), Authorization="Bearer x"), 401, "authError", "invalid authentication")
        narrow = delegated(c, fake.GMAIL + "readonly")
        refused(raw(mail(), Authorization="Bearer " + narrow), 403, "insufficientPermissions", "scopes")
        refused(c.ask("GET", "/gmail/v1/users/me/profile", **head), 403, "insufficientPermissions", "scopes")
        query = "/gmail/v1/users/me/messages?q=rfc822msgid:1%40acme.example"
        assert c.ask("GET", query, Authorization="Bearer " + narrow)["resultSizeEstimate"] == len(p.sent)
        p.daily_limit = len(p.sent)
        refused(raw(mail()), 403, "dailyLimitExceeded", "Daily")
        p.daily_limit = None
        errors(p)
        assert c.ask("POST", up + "media", mail(body=b"x" * 6_000_000), Content_Type="message/rfc822", **head).status == 200
        errors(p, "wants a resumable")
        refused(c.ask("POST", up + "media", bytes(36 * fake.MB), Content_Type="message/rfc822", **head), 413, "uploadTooLarge", "large")
        p.errors.clear()


@test
def gmail_resumable():
    with Provider("google") as p:
        c, whole = Client(p), mail(body=b"y" * 700_000)
        head, chunk = {"Authorization": "Bearer " + delegated(c, "https://mail.google.com/")}, 256 * 1024
        start = {"X_Upload_Content_Type": "message/rfc822", "X_Upload_Content_Length": str(len(whole)), **head}
        path = "/upload/gmail/v1/users/me/messages/send?uploadType=resumable"

        def put(first, octets):
            return c.ask("PUT", url, octets, Content_Range=f"bytes {first}-{first + len(octets) - 1}/{len(whole)}", **head)

        def query():
            return c.ask("PUT", url, b"", Content_Range=f"bytes */{len(whole)}", **head)

        url = c.ask("POST", path, b"", **start).headers["Location"]
        assert url.startswith(p.base) and query().status == 308 and "Range" not in query().headers
        first = put(0, whole[:chunk])
        assert first.status == 308 and first.headers["Range"] == f"bytes=0-{chunk - 1}"
        p.gmail_keeps.append(1000)
        assert put(chunk, whole[chunk : 2 * chunk]).headers["Range"] == f"bytes=0-{chunk + 999}"
        p.drop["gmail-put"] = ["after-store"]
        try:
            put(chunk + 1000, whole[chunk + 1000 :])
            raise AssertionError("answered")
        except http.client.RemoteDisconnected:
            pass
        done = query()
        assert done.status == 200 and done["id"] and [s.raw for s in p.sent] == [whole]
        errors(p)
        url = c.ask("POST", path, b"", **start).headers["Location"]
        assert put(chunk, whole[chunk:]).status == 400
        errors(p, "hole")
        assert c.ask("PUT", url, whole, **head).status == 200 and len(p.sent) == 2
        assert c.ask("PUT", url + "x", whole, **head).status == 404
        start["X_Upload_Content_Length"] = str(36 * fake.MB)
        assert c.ask("POST", path, b"", **start).status == 413
        assert {r.kind for r in p.requests} == {"token", "gmail-session", "gmail-put", "gmail-query"}
        errors(p)


# --------------------------------------------------------------------------- knobs


def fails(function):
    """Whether a request gets no whole answer."""
    try:
        function()
    except (http.client.HTTPException, OSError):
        return True
    return False


@test
def failures():
    with Provider() as p:
        c, path = Client(p), f"/users/{p.user}/sendMail"
        token = app_token(c)

        def send():
            return c.graph("POST", path, mail(), token=token)

        p.fail["sendMail"] = [(503, {"Retry-After": "7"}, b"x"), None, fake.throttle(429, 999999999), fake.error_200("ErrorServerBusy"),
            fake.html_login, fake.redirect_loop, fake.redirect_to("file:///etc/passwd"), fake.malformed_json, fake.megabyte]  # fmt: skip
        answers = [send() for _ in range(10)]
        assert [a.status for a in answers] == [503, 202, 429, 200, 200, 302, 302, 200, 200, 202]
        assert answers[0].headers["Retry-After"] == "7" and answers[2].headers["Retry-After"] == "999999999"
        assert answers[3]["error"]["code"] == "ErrorServerBusy" and answers[6].headers["Location"] == "file:///etc/passwd"
        assert len(answers[8].body) > fake.MB and len(p.sent) == 2 and [r.status for r in p.requests[1:]] == [a.status for a in answers]
        p.fail["sendMail"] = [fake.close_without_answer, fake.close_after_body, fake.hang(0.2)]
        assert fails(send) and p.requests[-1].body == b"" and fails(send) and p.requests[-1].body
        began = time.monotonic()
        assert fails(send) and time.monotonic() - began >= 0.2
        p.fail["sendMail"] = [fake.gzip_bomb]
        assert len(send().body) < 100_000
        p.fail["sendMail"] = [fake.endless_chunked, fake.slow_octets]
        for _ in range(2):
            c.http.request("POST", "/v1.0" + path, b"", {"Authorization": "Bearer " + token})
            got = c.http.getresponse()
            assert got.read(1) == b" "
            c.http.close()
        p.always["sendMail"] = (500, {}, {"error": {"code": "x"}})
        assert send().status == send().status == 500
        del p.always["sendMail"]
        assert send().status == 202
        # effects and answers that do not agree
        p.drop["sendMail"], before = ["before-store", "after-store"], len(p.sent)
        assert fails(send) and len(p.sent) == before and fails(send) and len(p.sent) == before + 1
        p.answer_after_store["sendMail"] = (504, {}, b"")
        assert send().status == send().status == 504 and len(p.sent) == before + 3
        p.answer_after_store["sendMail"] = [(202, {"Retry-After": "5"}, "<html>")]
        odd, even = send(), send()
        assert (odd.status, odd.body, odd.headers["Retry-After"], even.body) == (202, b"<html>", "5", b"")
        assert p.in_flight[p.user] == 0
        p.errors.clear()


@test
def token_knobs():
    with Provider() as p:
        c = Client(p)
        form = {"client_id": p.client_id, "client_secret": p.client_secret, "grant_type": "refresh_token", "scope": GRAPH + "Mail.Send offline_access"}
        form["refresh_token"] = p.mint_refresh()
        p.fail["token"] = [fake.aadsts(*row[:3]) for row in fake.TOKEN_ROWS_MICROSOFT]
        for number, error, text, klass in fake.TOKEN_ROWS_MICROSOFT:
            answer = c.form(**form)
            assert answer["error_codes"] == [number] and answer["error"] == error and text in answer["error_description"]
            assert answer.status == {"invalid_client": 401, "temporarily_unavailable": 503, "server_error": 500}.get(error, 400)
            assert klass in ("ACCT", "TEMP") and c.provider.errors == []
        p.fail["token"] = [fake.error_200("invalid_grant"), fake.throttle(429, 3), fake.google_error(*fake.TOKEN_ROWS_GOOGLE[0][:3])]
        assert c.form(**form)["error"] == "invalid_grant" and c.form(**form).headers["Retry-After"] == "3" and c.form(**form).status == 400
        p.shape = lambda answer: {**answer, "expires_in": -1, "access_token": "a\r\nb"}
        assert c.form(**form)["access_token"] == "a\r\nb"
        p.shape = lambda answer: b"not json"
        assert c.form(**form).body == b"not json"
        p.shape, p.token_length = None, 102400
        assert len(c.form(**form)["access_token"]) == 102400
        p.token_barrier, count, got = threading.Event(), len(p.token_requests), []
        threads = [threading.Thread(target=lambda: got.append(Client(p).form(**form).status)) for _ in range(3)]
        [t.start() for t in threads]
        while p.held < 3:
            time.sleep(0.01)
        assert got == [] and len(p.token_requests) == count + 3
        p.token_barrier.set()
        [t.join() for t in threads]
        assert got == [200] * 3 and len(set(p.secrets)) == len(p.secrets)
        p.token_barrier, p.drop["token"], known = None, ["after-store"], len(p.refresh)
        assert fails(lambda: c.form(**form)) and len(p.refresh) == known + 1
        errors(p)


@test
def concurrency_and_rate():
    with Provider() as p:
        token, path, statuses = app_token(Client(p)), f"/users/{p.user}/sendMail", []
        p.delay["sendMail"] = 0.5

        def send():
            answer = Client(p).graph("POST", path, mail(), token=token)
            statuses.append((answer.status, answer.headers["Retry-After"]))

        threads = [threading.Thread(target=send) for _ in range(6)]
        [t.start() for t in threads], [t.join() for t in threads]
        assert sorted(statuses, key=str) == [(202, None)] * 4 + [(429, "1")] * 2, statuses
        assert p.in_flight_max[p.user] == 6 and p.in_flight[p.user] == 0 and p.per_minute_max(p.user) == 4
        p.sent[0].time -= 61
        assert p.per_minute_max(p.user) == 3 and p.per_minute_max("x") == 0


@test
def rows_and_settings():
    import tomllib

    numbers = [row[0] for row in fake.TOKEN_ROWS_MICROSOFT]
    assert len(numbers) == len(set(numbers)) == 79, len(numbers)
    for rows, make in ((fake.GRAPH_ROWS, fake.graph_error), (fake.GMAIL_ROWS, fake.gmail_error)):
        for row in rows:
            status, headers, body = make(*row[:3])
            assert status == row[0] and row[1] in json.dumps(body) and body["error"]["message"] == row[2]
    assert {"SLOW", "SENDER", "MSG", "TOKEN", "UNKNOWN", "ACCT", "TEMP"} <= {row[3] for row in fake.GRAPH_ROWS}
    for flavour in ("microsoft", "google", "custom"):
        with Provider(flavour) as p:
            text = p.toml("refresh-token", mailbox="ö@x.example", scopes=["a", "b"], device_url=None)
            table = tomllib.loads(text)["upstream"]["oauth"]
            assert table["refresh_token"] in p.refresh and table["mailbox"] == "ö@x.example" and table["scopes"] == ["a", "b"]
            assert table["client_secret"] == p.client_secret and "device_url" not in table and table["token_url"] == p.token_url
            vault = tomllib.loads(p.toml("client-credentials", client_secret='{ vault = "x" }'))
            assert vault["upstream"]["oauth"]["client_secret"] == {"vault": "x"}
            if flavour == "custom":
                c = Client(p)
                token = delegated(c, "smtp offline_access")
                assert p.check_smtp_token(token, p.user) and not p.check_smtp_token(token, "x@y")
                assert c.ask("GET", "/nowhere").status == 404
                errors(p, "no such endpoint")


@test
def over_tls():
    with tempfile.TemporaryDirectory() as folder, Provider() as plain:
        certificate, key = plain.certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        with Provider("google", tls=context) as p:
            assert p.token_url.startswith("https://") and authorize(p)["code"]
            c = Client(p)
            token = delegated(c, "https://mail.google.com/")
            profile = c.ask("GET", "/gmail/v1/users/me/profile", Authorization="Bearer " + token)
            assert profile["emailAddress"] == p.user
            with socket.create_connection(p.server.server_address) as raw:
                raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
                raw.recv(1000)
            assert p.sign_in("/o/oauth2/v2/auth") is None and len(p.connection_errors) == 1


if __name__ == "__main__":
    chosen = [t for t in TESTS if not sys.argv[1:] or t.__name__ in sys.argv[1:]]
    for function in chosen:
        began = time.monotonic()
        function()
        print(f"{function.__name__:40} {time.monotonic() - began:6.2f} s", flush=True)
    print(f"{len(chosen)} parts behave")
