"""Certificates with every fault that a server's can have, made by openssl."""

import pathlib, ssl, subprocess

from rig import check

CONFIG = """
[ca]
default_ca = here
[here]
database = {directory}/index.txt
new_certs_dir = {directory}
serial = {directory}/serial
default_md = sha256
policy = any
email_in_dn = no
copy_extensions = none
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""


def openssl(*words):
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True)
    check(done.returncode == 0, f"openssl {words}: {done.stderr.decode()}")
    return done.stdout


class Authority:
    """A certificate authority in a directory."""

    def __init__(self, directory, name):
        self.directory, self.name, self.count = pathlib.Path(directory), name, 0
        self.home = self.directory / name
        self.home.mkdir(parents=True)
        (self.home / "index.txt").write_text("")
        (self.home / "serial").write_text("01\n")
        self.config = self.home / "openssl.cnf"
        self.config.write_text(CONFIG.format(directory=self.home))
        self.key, self.certificate = self.home / "ca.key", self.home / "ca.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.key, "-out", self.certificate, "-subj", f"/CN={name}", "-days", 30, "-config", self.config, "-extensions", "authority")

    def issue(self, san="IP:127.0.0.1,DNS:localhost", name="mail server", start=None, end=None, key="ec", digest="sha256", self_signed=False):
        """A server's certificate; gives (certificate, key)."""
        self.count += 1
        place = self.home / f"server{self.count}"
        key_path, request, out = place.with_suffix(".key"), place.with_suffix(".csr"), place.with_suffix(".pem")
        if key == "ec":
            openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key_path)
        else:
            openssl("genrsa", "-out", key_path, key)
        openssl("req", "-new", "-key", key_path, "-subj", f"/CN={name}", "-out", request, "-config", self.config)
        extensions = place.with_suffix(".ext")
        extensions.write_text("basicConstraints = CA:false\nextendedKeyUsage = serverAuth\n" + (f"subjectAltName = {san}\n" if san else ""))
        issuer = ["-selfsign", "-keyfile", key_path] if self_signed else ["-cert", self.certificate, "-keyfile", self.key]
        times = (["-startdate", start] if start else []) + (["-enddate", end] if end else ["-days", 20])
        openssl("ca", "-batch", "-config", self.config, "-notext", "-in", request, "-out", out, "-extfile", extensions, "-md", digest, *issuer, *times)
        return out, key_path


def server(pair, low=None):
    """A server's TLS context; `low`: whatever old thing it needs is allowed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if low:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = low
    context.load_cert_chain(*map(str, pair))
    return context


def pin(pair):
    """`sha256/…` of a certificate's key."""
    import base64, hashlib

    public = openssl("x509", "-in", pair[0], "-pubkey", "-noout").decode()
    der = base64.b64decode("".join(line for line in public.splitlines() if "-----" not in line))
    return "sha256/" + base64.b64encode(hashlib.sha256(der).digest()).decode()
