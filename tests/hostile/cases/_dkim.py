"""DKIM for cases: keys made and signatures checked by other programs (OpenSSL, dkimpy)."""

import base64, functools, json, subprocess

from rig import ROOT, check

PYTHON = ROOT / "target/peers/venv/bin/python"
SEED = base64.b64encode(bytes(range(32))).decode()
"""An Ed25519 seed that everybody knows."""

VERIFY = """
import base64, dkim, json, sys
given = json.load(sys.stdin)
raw = base64.b64decode(given["raw"])
records = {name.encode(): text.encode() for name, text in given["records"].items()}
found = []
for index in range(sum(1 for name, _ in dkim.rfc822_parse(raw)[0] if name.lower() == b"dkim-signature")):
    try:
        found.append(dkim.DKIM(raw, minkey=1024).verify(idx=index, dnsfunc=lambda name, timeout=5: records.get(name)))
    except dkim.DKIMException as error:
        found.append(str(error))
print(json.dumps(found))
"""


def openssl(*words, input=b""):
    return subprocess.run(["openssl", *words], input=input, capture_output=True, check=True, timeout=60).stdout


@functools.cache
def rsa(bits=2048):
    """A fresh RSA key in PEM."""
    return openssl("genrsa", "-traditional", str(bits)).decode()


def public(key):
    """The DNS record of a private key: PEM, or a seed in base64."""
    if "BEGIN" in key:
        return "v=DKIM1; k=rsa; p=" + base64.b64encode(openssl("pkey", "-pubout", "-outform", "DER", input=key.encode())).decode()
    der = bytes.fromhex("302e020100300506032b657004220420") + base64.b64decode(key)
    return "v=DKIM1; k=ed25519; p=" + base64.b64encode(openssl("pkey", "-inform", "DER", "-pubout", "-outform", "DER", input=der)[-32:]).decode()


def entry(domain, selector, key):
    """A `[[dkim]]` of a tenant's file."""
    return f'[[dkim]]\ndomain = "{domain}"\nselector = "{selector}"\nkey = """\n{key}"""\n'


def verify(raw, keys):
    """What dkimpy says of every signature in the message; `keys`: private ones by (selector, domain)."""
    records = {f"{selector}._domainkey.{domain}.": public(key) for (selector, domain), key in keys.items()}
    given = json.dumps({"raw": base64.b64encode(raw).decode(), "records": records})
    done = subprocess.run([PYTHON, "-c", VERIFY], input=given.encode(), capture_output=True, timeout=60)
    check(done.returncode == 0, f"dkimpy failed: {done.stderr.decode()[-1000:]}")
    return json.loads(done.stdout)


def must_verify(message, keys, count=None):
    found = verify(message.raw, keys)
    check(found == [True] * (count or len(keys)), f"dkimpy says {found} of {message.raw[:3000]!r}")
