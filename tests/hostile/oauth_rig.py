"""An installation whose tenant sends over a fake Microsoft or Google: what the cases of groups I and O
share.

    with Installation("graph") as place:                  # or "gmail", "microsoft-smtp", "google-smtp"
        place.client().message(to=("b@else.example",))
        place.sent(1)

The provider's secrets are canaries of the rig: V3 is checked with all of them. What the provider
delivered counts as arrived for V1 and V2.
"""

from rig import TOKEN, Rig, check, wait_until
from provider import Provider
from provider_smtp import GoogleSmtp, MicrosoftSmtp

MAILBOX = "office@acme.example"


class Mailboxes:
    """What a provider has delivered, as an upstream of the rig."""

    def __init__(self, provider):
        self.provider = provider

    @property
    def received(self):
        return [Delivered(message) for message in list(self.provider.sent)]

    def tokens(self):
        return [token for message in list(self.provider.sent) for token in TOKEN.findall(message.raw)]

    def close(self):
        pass


class Delivered:
    def __init__(self, message):
        self.raw, self.recipients, self.sender = message.raw, message.recipients, message.mailbox


def tenant_text(kind, oauth, upstream="", email=MAILBOX, after=""):
    """A tenant's file: `upstream` are more keys of [upstream], `oauth` the section of the provider."""
    return f'name = "ACME"\nemail = "{email}"\n[upstream]\n{upstream}\n{kind_lines(kind)}\n{oauth}\n{after}\n'


def kind_lines(kind):
    return f'kind = "{kind}"' if kind in ("graph", "gmail") else ""


class Installation(Rig):
    """A rig with a provider. `kind`: graph, gmail, microsoft-smtp, google-smtp. `grant`: of the tenant;
    "refresh-token" gets a fresh refresh token. `oauth`: more keys for `Provider.toml`. Further
    arguments go to the rig."""

    def __init__(self, kind, grant=None, oauth=None, start=True, provider=None, smtp=None, upstream="", after="", **settings):
        google = kind in ("gmail", "google-smtp")
        self.kind = kind
        self.provider = provider or Provider("google" if google else "microsoft")
        if hasattr(self.provider, "mailboxes"):
            self.provider.mailboxes.add(MAILBOX)
        grant = grant or ("refresh-token" if google else "client-credentials")
        keys = {"mailbox": MAILBOX, **(oauth or {})}
        if grant == "refresh-token" and "refresh_token" not in keys:
            scopes = {"gmail": ["https://www.googleapis.com/auth/gmail.send"], "google-smtp": ["https://mail.google.com/"], "graph": ["https://graph.microsoft.com/Mail.Send", "https://graph.microsoft.com/Mail.ReadWrite", "offline_access"], "microsoft-smtp": ["https://outlook.office.com/SMTP.Send", "offline_access"]}[kind]
            keys["refresh_token"] = self.provider.mint_refresh(MAILBOX, scopes)
        self.smtp = None
        if kind.endswith("-smtp"):
            self.smtp = smtp or (GoogleSmtp if google else MicrosoftSmtp)(self.provider.check_smtp_token)
            upstream += f'\nhost = "127.0.0.1"\nport = {self.smtp.port}\nencryption = "starttls"\nca_file = "{self.smtp.ca}"\nauthentication = "xoauth2"\nusername = "{MAILBOX}"\n'
        text = tenant_text(kind, self.provider.toml(grant, **keys), upstream, after=after)
        super().__init__(tenant_text=text, start=False, **settings)
        self.upstreams.append(self.smtp or Mailboxes(self.provider))
        if start:
            self.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.close()
            else:
                self.take_down()
        finally:
            self.provider.close()

    def take_down(self):
        """Ends without looking further: the case itself has failed."""
        self.check_mail = self.check_words = self.good_client = lambda: None
        self.exit_code = self.process.poll() if self.process else None
        try:
            super().close(good_client=False)
        except Exception:
            pass

    def close(self, good_client=False):
        self.canaries += [secret.encode() for secret in self.provider.secrets]
        super().close(good_client=good_client)
        check(not self.provider.errors, f"the provider would have refused: {self.provider.errors[:5]}")
        if self.smtp:
            check(not self.smtp.violations, f"the server would have refused: {self.smtp.violations[:5]}")

    def sent(self, count, limit=30):
        """Waits for so many delivered messages; gives them."""
        return wait_until(f"{count} messages delivered", lambda: len(self.delivered_now()) >= count and self.delivered_now(), limit)

    def delivered_now(self):
        return list(self.smtp.received) if self.smtp else list(self.provider.sent)

    def state(self, state, count=1, limit=30):
        """Waits until so many messages are in a state; gives them."""

        def look():
            found = [message for message in self.queue() if message["state"] == state]
            return found if len(found) >= count else None

        return wait_until(f"{count} messages {state}; now {self.queue()}", look, limit)

    def token_count(self):
        return len(self.provider.token_requests)
