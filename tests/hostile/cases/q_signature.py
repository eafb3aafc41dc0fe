"""Q: signatures of employees in text and HTML: each body gets one, everything else stays octet for octet."""

# Q01 plain text: with and without MIME, replies, format=flowed
# Q02 HTML: pages and fragments, replies of mail programs
# Q03 multiparts: which part is a body, attachments and frames octet for octet
# Q04 charsets: kept, converted, transliterated, left alone
# Q05 transfer encodings: kept where they can be, broken ones left alone
# Q06 signed, encrypted and reported mail: unchanged, and the log says why
# Q07 through the server: one signature however often it is tried, under a DKIM signature that holds

import base64, contextlib, dataclasses, email, hashlib, html, html.parser, re

from rig import Broken, Rig, Upstream, case, check, wait_until

from ._dkim import SEED, entry, must_verify, openssl

# --------------------------------------------------------------------------- signatures, and who has them

SIGNATURE = 'Mit freundlichen Grüßen\nErika Müller\n\nACME GmbH & Co <erika@acme.example>\nTel. "030" 123'
FOREIGN = "Grüße, Łukasz – 100 €"
ASCII = "Best regards\nErika"
WESTERN = "Grüße „Süd“ 5 €"
"""Of Windows-1252, but not of ISO-8859-1."""
USERS = {"erika@acme": SIGNATURE, "lukasz@acme": FOREIGN, "ascii@acme": ASCII, "west@acme": WESTERN}


def users():
    """The users of the tenant's file."""
    text = ""
    for login, signature in USERS.items():
        text += f'[[user]]\nlogin = "{login}"\npassword = "right"\nname = "Erika Müller"\nemail = "{login}.example"\nuse_own_sender = true\n'
        text += f'signature = """\n{signature}\n"""\n'
    return text


# --------------------------------------------------------------------------- an independent reader


def cut(entity):
    """Header section and body of an entity."""
    if not re.match(rb"[!-9;-~]+[ \t]*:", entity):
        return b"", entity[2:] if entity.startswith(b"\r\n") else entity
    head, _, body = entity.partition(b"\r\n\r\n")
    return head + b"\r\n", body


def pieces(head, body):
    """A body as frames (False, octets) and parts that are no multipart (True, octets), in order."""
    described = email.message_from_bytes(head + b"\r\n")
    boundary = described.get_boundary()
    if described.get_content_maintype() != "multipart" or not boundary:
        return [(True, (head, body))]
    found, at, content = [], 0, None
    for delimiter in re.finditer(rb"(?m)^--" + re.escape(boundary.encode()) + rb"(--)?[ \t]*(?:\r\n|\Z)", body):
        if content is not None:
            end = delimiter.start() - (2 if body[content : delimiter.start()].endswith(b"\r\n") else 0)
            found += pieces_of(body[content:end])
            at = end
        found.append((False, body[at : delimiter.end()]))
        at = delimiter.end()
        if delimiter[1]:
            content = None
            break
        content = at
    if content is not None:
        found += pieces_of(body[content:])
    else:
        found.append((False, body[at:]))
    return found


def pieces_of(entity):
    head, body = cut(entity)
    found = pieces(head, body)
    # The header of a multipart is a frame, of anything else it belongs to the part.
    return [(True, (head, body, entity))] if found[0][0] else [(False, entity[: len(entity) - len(body)]), *found]


def content_fields(head):
    return re.findall(rb"(?im)^content-[^:]+:[^\r\n]*(?:\r\n[ \t][^\r\n]*)*", head)


class Part:
    """A part that is no multipart, read by Python's own parser."""

    def __init__(self, head, body, raw=None):
        self.head, self.body, self.raw = head, body, raw
        self.message = email.message_from_bytes(b"\r\n".join([*content_fields(head), b"", body]))
        self.kind, self.charset = self.message.get_content_type(), self.message.get_content_charset()
        self.encoding = (self.message["Content-Transfer-Encoding"] or "").lower()

    def octets(self):
        # What Python takes apart as messages of its own is no text.
        return self.body if self.message.is_multipart() else self.message.get_payload(decode=True)

    def said(self):
        """What its header says of it besides charset and transfer encoding."""
        fields = [field for field in content_fields(self.head) if not re.match(rb"(?i)content-(?:type|transfer-encoding):", field)]
        return fields, [given for given in self.message.get_params([("text/plain", "")]) if given[0] != "charset"]

    def digest(self):
        return hashlib.sha256(self.octets()).hexdigest()

    def text(self, charset=None):
        return self.octets().decode(charset or self.charset or "us-ascii")


def parts_of(raw):
    """The parts of a message, and the frames around them without the header of the whole."""
    head, body = cut(raw)
    found = pieces(head, body)
    frames = [octets for leaf, octets in found if not leaf]
    return [Part(*given) for leaf, given in found if leaf], frames


class Words(html.parser.HTMLParser):
    """The visible words of a page."""

    def __init__(self):
        super().__init__()
        self.found, self.hidden = [], 0

    def handle_starttag(self, tag, attributes):
        self.hidden += tag in ("script", "style", "title")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style", "title")

    def handle_data(self, data):
        self.found += [] if self.hidden else data.split()


def words(page):
    reader = Words()
    reader.feed(page)
    reader.close()
    return reader.found


# --------------------------------------------------------------------------- shapes and what becomes of them


@dataclasses.dataclass
class Body:
    """What becomes of one body. Without more: the signature stands at its end, charset and encoding stay."""

    above: str = None  # it stands in front of this text
    read: str = None  # the charset that the octets really have
    charset: str = None  # the new one
    encoding: str = None  # the new one
    lines: list = None  # the signature, where it is written in another way
    newline: str = "\r\n"
    flowed: bool = False
    local: bool = True  # nothing but the place itself changes in the encoded form


@dataclasses.dataclass
class Shape:
    """A message; `bodies`: by number of the part. {}: they have the signature already. None: the whole
    message cannot take it and stays as it is."""

    name: str
    raw: bytes
    bodies: dict
    login: str = "erika@acme"


def octets(text, charset="utf-8"):
    return text.replace("\n", "\r\n").encode(charset) if isinstance(text, str) else text


HEAD = "From: app@source.example\nTo: x@else.example\nSubject: Probe\n"


def mail(kind="", text="", charset="utf-8", head=HEAD):
    """A message: `kind`: its fields of MIME, `text`: its body."""
    mime = "MIME-Version: 1.0\n" + kind + "\n" if kind else ""
    return octets(head + mime) + b"\r\n" + octets(text, charset)


def plain(charset="utf-8", encoding="8bit", more=""):
    return f"Content-Type: text/plain; charset={charset}{more}\nContent-Transfer-Encoding: {encoding}"


def page(charset="utf-8", encoding="8bit"):
    return f"Content-Type: text/html; charset={charset}\nContent-Transfer-Encoding: {encoding}"


def multi(kind, *parts, boundary="=_b1", close=True, preamble=b"", epilogue=b"", more=""):
    """Body of a multipart of these entities."""
    delimiter = b"--" + boundary.encode()
    body = preamble + b"".join(delimiter + b"\r\n" + octets(part) + b"\r\n" for part in parts)
    return f'Content-Type: multipart/{kind}; boundary="{boundary}"{more}', body + (delimiter + b"--\r\n" if close else b"") + epilogue


def nested(kind, *parts, boundary, **more):
    """A multipart as a part of another one."""
    field, body = multi(kind, *parts, boundary=boundary, **more)
    return octets(field) + b"\r\n\r\n" + body


def whole(kind, *parts, **more):
    field, body = multi(kind, *parts, **more)
    return mail(field, body)


def part(kind, text, charset="utf-8"):
    return octets(kind) + b"\r\n\r\n" + octets(text, charset)


def b64(text, width=76):
    encoded = base64.b64encode(text.encode() if isinstance(text, str) else text).decode()
    return "".join(encoded[n : n + width] + "\n" for n in range(0, len(encoded), width))


TEXT = part(plain(), "Sehr geehrte Damen und Herren,\n\nschöne Grüße aus München.\n")
PAGE = part(page(), "<html><body><p>Schöne Grüße aus München.</p>\n</body></html>\n")
PAGE_BODY = Body(above="</body>")
PNG = part("Content-Type: image/png; name=logo.png\nContent-ID: <logo@acme>\nContent-Disposition: inline; filename=logo.png\nContent-Transfer-Encoding: base64", b64(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3))
PDF = part("Content-Type: application/pdf;\n name=\"=?utf-8?Q?Rechnung_M=C3=A4rz.pdf?=\"\nContent-Disposition: attachment;\n filename*=utf-8''Rechnung%20M%C3%A4rz.pdf\nContent-Transfer-Encoding: base64", b64(b"%PDF-1.7\n" + bytes(range(256)) * 20, 72))
CSV = part("Content-Type: text/csv; charset=windows-1252\nContent-Transfer-Encoding: 8bit", "Menge;Preis\n1;5 €\n", "cp1252")
NOTE = part(plain() + "\nContent-Disposition: attachment; filename=notiz.txt", "Nur eine Datei.\n")
ICS = "BEGIN:VCALENDAR\nMETHOD:REQUEST\nBEGIN:VEVENT\nSUMMARY:Besprechung Süd\nEND:VEVENT\nEND:VCALENDAR\n"
INVITATION = part("Content-Type: text/calendar; charset=utf-8; method=REQUEST\nContent-Transfer-Encoding: 8bit", ICS)
FORWARDED = part("Content-Type: message/rfc822\nContent-Disposition: attachment; filename=mail.eml", "From: max@else.example\nSubject: alt\nMIME-Version: 1.0\n" + plain() + "\n\nDer alte Text, schön.\n-- \nMax\n")


# --------------------------------------------------------------------------- how they are judged


def as_signature(found, body, lines):
    """Whether a text that was put in is the signature as plain text."""
    newline = re.escape(body.newline)
    stuffed = [" " + line if body.flowed and line.startswith((" ", ">", "From ")) else line for line in lines]
    return re.fullmatch(f"(?:{newline})*-- {newline}" + newline.join(map(re.escape, stuffed)) + f"(?:{newline})*", found)


def check_plain(name, old, new, body, lines, alone):
    at = len(old) if body.above is None else old.index(body.above)
    before, after = old[:at], old[at:]
    check(new.startswith(before) and new.endswith(after) and len(new) > len(old), f"{name}: the text is another one: {new!r} of {old!r}")
    found = new[at : len(new) - len(after)]
    check(as_signature(found, body, lines), f"{name}: what was put in is {found!r}")
    check(not before.strip() or f"{body.newline * 2}-- {body.newline}" in before[-4:] + found, f"{name}: no blank line in front of {found!r}")
    check(not after or found.endswith(body.newline * 2), f"{name}: no blank line behind {found!r}")
    check(after or alone or found.endswith(body.newline) == old.endswith(body.newline), f"{name}: another end: {found!r}")


def check_page(name, old, new, body, lines):
    at = len(old) if body.above is None else old.index(body.above)
    before, after = old[:at], old[at:]
    check(new.startswith(before) and new.endswith(after) and len(new) > len(old), f"{name}: the page is another one: {new!r} of {old!r}")
    found = new[at : len(new) - len(after)]
    newline = re.escape(body.newline)
    block = re.fullmatch(f'(?:{newline})?<br>{newline}<div class="postbote-signature">(.*)</div>(?:{newline})?', found, re.S)
    check(block, f"{name}: what was put in is {found!r}")
    written = block[1].split("<br>" + body.newline)
    check([html.unescape(line) for line in written] == lines and not re.search("[<>\"]|&(?!#?\\w+;)", "".join(written)), f"{name}: {written}")
    check(words(new) == words(before) + " ".join(lines).split() + words(after), f"{name}: a reader sees {words(new)}")


def check_form(name, old, new, body, alone):
    """The encoded form is right, and only changed where it had to be."""
    wanted = old.encoding if body.encoding is None else body.encoding
    check(new.encoding == wanted, f"{name}: encoding {new.encoding!r}, wanted {wanted!r}")
    wanted = old.charset if body.charset is None else body.charset
    check(new.charset == wanted, f"{name}: charset {new.charset!r}, wanted {wanted!r}")
    longest = max(map(len, new.body.split(b"\r\n")))
    if new.encoding in ("quoted-printable", "base64"):
        check(new.body.isascii() >= old.body.isascii() and longest <= max(76, *map(len, old.body.split(b"\r\n"))), f"{name}: a line of {longest}")
    elif new.encoding in ("", "7bit"):
        check(new.body.isascii() and longest <= 998, f"{name}: not of 7 bits, or a line of {longest}")
    if new.encoding != "base64":
        check(b"\n" not in new.body.replace(b"\r\n", b"") and (not alone or new.body.endswith(b"\r\n")), f"{name}: line ends of {new.body[-200:]!r}")
    if body.local and body.encoding is None and new.encoding != "base64":
        same = next((n for n in range(len(old.body)) if old.body[n] != new.body[n]), len(old.body))
        check(new.body.endswith(old.body[same:]), f"{name}: changed in more than one place: {new.body!r}")
    check(old.said() == new.said(), f"{name}: its header says {new.said()}, not {old.said()}")
    if body.encoding is None and body.charset is None:
        check(old.head == new.head or alone, f"{name}: its header is another one: {new.head!r}")


def judge(shape, raw):
    """Compares what left with what was handed in."""
    old, old_frames = parts_of(shape.raw)
    new, new_frames = parts_of(raw)
    name = shape.name
    check(old_frames == new_frames, f"{name}: the frames are others: {new_frames} of {old_frames}")
    check(len(old) == len(new), f"{name}: {len(new)} parts of {len(old)}")
    alone = not old_frames
    signature = USERS[shape.login].split("\n")
    for number, (before, after) in enumerate(zip(old, new)):
        body = (shape.bodies or {}).get(number)
        if body is None:
            check(after.body == before.body and after.digest() == before.digest(), f"{name}: part {number} has changed: {after.body[:3000]!r}")
            check(content_fields(before.head) == content_fields(after.head), f"{name}: the header of part {number}: {after.head!r}")
            check(after.raw == before.raw, f"{name}: part {number} is no longer the same octets")
            continue
        here = f"{name}, part {number}"
        check_form(here, before, after, body, alone)
        text, written = before.text(body.read), after.text(body.read if body.charset is None else None)
        lines = body.lines or signature
        if before.kind == "text/html":
            check_page(here, text, written, body, lines)
        else:
            check_plain(here, text, written, body, lines, alone)
        flaws = [defect for defect in after.message.defects if type(defect) not in map(type, before.message.defects)]
        check(not flaws, f"{here}: {flaws}")
    if not shape.bodies:
        check(cut(raw)[1] == cut(shape.raw)[1], f"{name}: the body has changed: {cut(raw)[1][:3000]!r}")
    kept = content_fields(cut(shape.raw)[0])
    check(content_fields(cut(raw)[0]) == kept or (shape.bodies and alone), f"{name}: fields of MIME: {content_fields(cut(raw)[0])}")


def preview(rig, shapes):
    """Every shape through `postbote preview`; says which are wrong."""
    wrong = []
    for shape in shapes:
        done = rig.run("preview", "acme", "--user", shape.login, "--to", "x@else.example", "--explain", input=shape.raw)
        notes = [line for line in done.stderr.decode().splitlines() if line.startswith("signature:")]
        try:
            there = "signature: not added, it stands there already"
            said = notes == ["signature: added"] if shape.bodies else len(notes) == 1 and notes[0].startswith("signature: not added, ") and (notes == [there]) == (shape.bodies == {})
            check(said, f"{shape.name}: {notes}")
            judge(shape, done.stdout)
        except Broken as reason:
            wrong.append(str(reason))
        except Exception as reason:
            wrong.append(f"{shape.name}: {reason!r}, {done.stdout[:3000]!r}")
    check(not wrong, f"{len(wrong)} of {len(shapes)}:\n" + "\n".join(wrong))


# --------------------------------------------------------------------------- Q01 plain text

END = {0: Body()}
LETTER = "Sehr geehrte Damen und Herren,\n\nanbei die Rechnung für März.\n"
QUOTED = "> Wann kommt die Rechnung für März?\n>\n> Max\n"
FLOWED = "; format=flowed"

PLAIN = [
    Shape("no MIME, ASCII", mail("", "Hello,\nthis is a test.\n"), {0: Body(charset="utf-8", encoding="8bit")}),
    Shape("no MIME, all ASCII", mail("", "Hello,\nthis is a test.\n"), END, "ascii@acme"),
    Shape("no MIME, UTF-8", mail("", LETTER), {0: Body(read="utf-8", charset="utf-8", encoding="8bit")}),
    Shape("no MIME, Windows-1252", mail("", LETTER + "5 €\n", "cp1252"), {0: Body(read="cp1252", charset="windows-1252", encoding="8bit")}),
    Shape("no MIME, Windows-1252, other letters", mail("", LETTER + "5 €\n", "cp1252"), {0: Body(read="cp1252", charset="utf-8", encoding="8bit", local=False)}, "lukasz@acme"),
    Shape("no MIME, Windows-1252, ASCII signature", mail("", LETTER, "cp1252"), {0: Body(read="cp1252", charset="windows-1252", encoding="8bit")}, "ascii@acme"),
    Shape("no header at all", octets("Beleg 4711 vom Montag\nDanke.\n"), {0: Body(charset="utf-8", encoding="8bit")}),
    Shape("MIME without charset", mail("Content-Type: text/plain", "Hello.\n"), {0: Body(charset="utf-8", encoding="quoted-printable")}),
    Shape("MIME without charset, Windows-1252", mail("Content-Type: text/plain\nContent-Transfer-Encoding: 8bit", LETTER, "cp1252"), {0: Body(read="cp1252", charset="windows-1252")}),
    Shape("a type nobody gave, quoted-printable", mail("Content-Transfer-Encoding: quoted-printable", "Hello=20\n.\n"), {0: Body(charset="utf-8")}),
    Shape("UTF-8", mail(plain(), LETTER), END),
    Shape("empty", mail(plain(), ""), END),
    Shape("empty, no MIME", mail(), {0: Body(charset="utf-8", encoding="8bit")}),
    Shape("header only", octets(HEAD), {0: Body(charset="utf-8", encoding="8bit")}),
    Shape("blank lines only", mail(plain(), "\n\n\n"), END),
    Shape("many blank lines", mail(plain(), LETTER + "\n" * 5), END),
    Shape("dots and From", mail(plain(), ".\n..\nFrom me\n.\n"), END),
    Shape("has it already", mail(plain(), f"{LETTER}\n{SIGNATURE}\n\n\n"), {}),
    Shape("has it already, of its own mail program", mail(plain(), f"{LETTER}\n-- \n{SIGNATURE}\n"), {}),
    Shape("has it, and more behind it", mail(plain(), f"{LETTER}\n{SIGNATURE}\n\nP.S. Bis bald.\n"), END),
    Shape("has it already, above a quotation", mail(plain(), f"Morgen.\n\n{SIGNATURE}\n\nAm 01.03.24 schrieb Max:\n{QUOTED}"), {}),
    Shape("has it already, as the quotation has", mail(plain(), f"Morgen.\n\n{SIGNATURE}\n\n-----Original Message-----\nFrom: Erika\n\nWann?\n\n{SIGNATURE}\n"), {}),
    Shape("the quotation has it", mail(plain(), f"Morgen.\n\n-----Original Message-----\nFrom: Erika\nSent: Monday\n\nWann?\n\n{SIGNATURE}\n"), {0: Body(above="-----Orig")}),
    Shape("the quotation has it, without signs in front", mail(plain(), f"Morgen.\n\nAm 01.03.24 um 10:00 schrieb Erika <erika@acme.example>:\n\nWann?\n-- \n{SIGNATURE}\n"), {0: Body(above="Am 01")}),
    Shape("the quotation has it, under a line", mail(plain(), f"Morgen.\n\n________________________________\nVon: Erika\nGesendet: Montag\n\nWann?\n{SIGNATURE}\n"), {0: Body(above="________")}),
    Shape("a quotation of nothing", mail(plain(), "Morgen.\n\nAm 01.03.24 um 10:00 schrieb Max <max@else.example>:\n\n"), {0: Body(above="Am 01")}),
    Shape("only the greeting", mail(plain(), f"{LETTER}\nMit freundlichen Grüßen\nErika Müller\n"), END),
    Shape("a long line", mail(plain("us-ascii", "7bit"), "x" * 100_000 + "\n"), {0: Body(charset="utf-8", encoding="quoted-printable")}),
    Shape("a long line, 8-bit", mail(plain(), "ü " * 50_000 + "\n"), {0: Body(encoding="quoted-printable")}),
    Shape("format=flowed", mail(plain(more=FLOWED), "Ein Absatz, der über \nzwei Zeilen geht.\n"), {0: Body(flowed=True)}),
    Shape("format=flowed, open at the end", mail(plain(more=FLOWED), "Ein Absatz, der über \nzwei Zeilen geht \n"), {0: Body(flowed=True)}),
    Shape("format=flowed, delsp", mail(plain(more=FLOWED + "; delsp=yes"), "Ein Absatz, der ü \nber zwei Zeilen geht.\n"), {0: Body(flowed=True)}),
    Shape("format=flowed, ASCII", mail(plain("us-ascii", "7bit", FLOWED), "a \nb\n"), {0: Body(flowed=True, charset="utf-8", encoding="quoted-printable")}),
    Shape("Thunderbird answers", mail(plain(more=FLOWED), "Morgen.\n\nAm 01.03.24 um 10:00 schrieb Max Muster:\n" + QUOTED), {0: Body(above="Am 01.03", flowed=True)}),
    Shape("Gmail answers", mail(plain(), "Morgen.\n\nAm Fr., 1. März 2024 um 10:00 Uhr schrieb Max Muster <\nmax.muster@else.example>:\n\n" + QUOTED), {0: Body(above="Am Fr.")}),
    Shape("Gmail answers in English", mail(plain(), "Tomorrow.\n\nOn Fri, Mar 1, 2024 at 10:00 AM Max <max@else.example> wrote:\n\n" + QUOTED), {0: Body(above="On Fri")}),
    Shape("K-9 answers", mail(plain(), "Morgen.\n\nMax Muster <max@else.example> schrieb am\n1. März 2024:\n" + QUOTED), {0: Body(above="Max Muster <")}),
    Shape("Horde answers", mail(plain(), "Morgen.\n\nZitat von Max Muster <max@else.example>:\n\n" + QUOTED), {0: Body(above="Zitat von")}),
    Shape("nothing but a quotation", mail(plain(), QUOTED), {0: Body(above="> Wann")}),
    Shape("an answer below", mail(plain(), "Am 01.03.24 schrieb Max:\n" + QUOTED + "\nMorgen.\n"), END),
    Shape("answers between", mail(plain(), "Am 01.03.24 schrieb Max:\n> Wann?\nMorgen.\n> Wo?\nDort.\n"), END),
    Shape("an answer between and a rest", mail(plain(), "Max schrieb:\n> Wann?\nMorgen.\n\n> Wo?\n> Max\n"), {0: Body(above="> Wo")}),
    Shape("without signs in front", mail(plain(), "Morgen.\n\nAm 01.03.24 um 10:00 schrieb Max <max@else.example>:\n\nWann?\nMax\n"), {0: Body(above="Am 01")}),
    Shape("Outlook answers", mail(plain(), "Morgen.\n\n-----Ursprüngliche Nachricht-----\nVon: Max <max@else.example>\nBetreff: März\n\nWann?\n"), {0: Body(above="-----Urs")}),
    Shape("Outlook answers in ISO-8859-1", mail(plain("iso-8859-1"), "Morgen.\n\n-----Ursprüngliche Nachricht-----\nVon: Max\n\nWann?\n", "latin-1"), {0: Body(above="-----Urs")}),
    Shape("Outlook answers in English", mail(plain(), "Tomorrow.\n\n-----Original Message-----\nFrom: Max\nSent: Friday\n\nWhen?\n"), {0: Body(above="-----Orig")}),
    Shape("Outlook answers under a line", mail(plain(), "Morgen.\n\n________________________________\nVon: Max <max@else.example>\nGesendet: Freitag, 1. März 2024\nAn: Erika\n\nWann?\n"), {0: Body(above="________")}),
    Shape("Outlook answers without a line", mail(plain(), "Tomorrow.\n\nFrom: Max <max@else.example>\nSent: Friday, March 1\nTo: Erika\n\nWhen?\n"), {0: Body(above="From: Max")}),
    Shape("Thunderbird forwards", mail(plain(), "Zur Kenntnis.\n\n-------- Weitergeleitete Nachricht --------\nBetreff: März\nVon: Max\n\nWann?\n"), {0: Body(above="-------- Wei")}),
    Shape("schrieb in a text", mail(plain(), "Am Montag schrieb Herr Maier uns:\nNichts davon stimmt.\n"), END),
    Shape("greater than in a text", mail(plain(), "5 > 4\n>= ist etwas anderes.\nGut.\n"), END),
]


@case("Q01", "signatures in plain text", after=users(), start=False)
def _(rig):
    preview(rig, PLAIN)


# --------------------------------------------------------------------------- Q02 HTML

OLD = "<p>Wann kommt die Rechnung für März?</p>"
WORD = """<html xmlns:o="urn:schemas-microsoft-com:office:office"><head><style><!--
/* </body> */ p.MsoNormal {margin:0cm}
--></style><!--[if gte mso 9]><xml><o:shapedefaults v:ext="edit" spidmax="1026" /></xml><![endif]--></head><body lang=DE link="#0563C1"><div class=WordSection1><p class=MsoNormal>Morgen für Süd.<o:p></o:p></p><p class=MsoNormal><o:p>&nbsp;</o:p></p>"""


def html_mail(text, charset="utf-8", encoding="8bit", codec="utf-8"):
    return mail(page(charset, encoding), text, codec)


def answers(name, own, mark, quoted, after="</body></html>\n"):
    """A reply: the signature goes in front of `mark`, with which the quotation begins."""
    return Shape(name, html_mail(own + mark + quoted + after), {0: Body(above=mark)})


PAGES = [
    Shape("a page", html_mail("<html><body><p>Grüße</p></body></html>\n"), {0: PAGE_BODY}),
    Shape("a fragment", html_mail("<p>Grüße</p>\n"), END),
    Shape("no markup", html_mail("Grüße\n"), END),
    Shape("no text", html_mail(""), END),
    Shape("capitals", html_mail("<HTML><BODY>Grüße</BODY >\n</HTML>\n"), {0: Body(above="</BODY >")}),
    Shape("no </body>", html_mail("<html><p>Grüße\n</html>\n"), {0: Body(above="</html>")}),
    Shape("two </body>", html_mail("<html><body>a</body><body>b<!-- -->\n</body ></html>\n"), {0: Body(above="</body >")}),
    Shape("7 bits", mail(page("utf-8", "7bit"), "<html><body>Gr&uuml;&szlig;e</body></html>\n"), {0: PAGE_BODY}),
    Shape("nothing said", mail("Content-Type: text/html", "<html><body>Gr&uuml;&szlig;e</body></html>\n"), {0: PAGE_BODY}),
    Shape("ISO-8859-1", html_mail("<body>Grüße</body>\n", "iso-8859-1", codec="latin-1"), {0: PAGE_BODY}),
    Shape("ISO-8859-1, other letters", html_mail("<body>Grüße</body>\n", "iso-8859-1", codec="latin-1"), {0: PAGE_BODY}, "lukasz@acme"),
    Shape("</body> elsewhere", html_mail("<head><title>a </body> b</title></head><body><p title='</body>'>Grüße</p>\n</body ><!-- </body> --><script>x = '</body>'</script>\n"), {0: Body(above="</body >")}),
    Shape("has it already", html_mail("<body>Hallo<p>Mit freundlichen Gr&uuml;&szlig;en<br>Erika M&#252;ller</p><p>ACME&nbsp;GmbH &amp; Co &lt;erika@acme.example&gt;<br>\nTel. &quot;030&quot; 123</p></body>\n"), {}),
    Shape("has it, and more behind it", html_mail("<body><p>" + html.escape(SIGNATURE).replace("\n", "<br>") + "</p><p>P.S.</p>\n</body>\n"), {0: PAGE_BODY}),
    Shape("a long line", html_mail("<body>" + "<b>ü</b> " * 30_000 + "</body>\n"), {0: Body(above="</body>", encoding="quoted-printable")}),
    Shape("a long line, 7 bits", html_mail("<body>" + "<b>u</b> " * 30_000 + "</body>\n", encoding="7bit"), {0: Body(above="</body>", encoding="quoted-printable")}),
    Shape("quoted-printable", html_mail("<html><body style=3D\"color:red\">Gr=C3=BC=C3=9Fe und=\n Gl=C3=BCck </b=\nody></html>\n", encoding="quoted-printable"), {0: PAGE_BODY}),
    Shape("base64", html_mail(b64("<html><body>Grüße</body></html>"), encoding="base64"), {0: PAGE_BODY}),
    Shape("base64, lone line feeds", html_mail(b64("<html>\n<body>Grüße\n</body></html>\n"), encoding="base64"), {0: Body(above="</body>", newline="\n")}),
    Shape("Word", html_mail(WORD + "</div></body></html>\n"), {0: Body(above="</body></html>")}),
    answers("Outlook answers", WORD + "<div>", "<div style='border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt 0cm 0cm 0cm'>", "<p class=MsoNormal><b>Von:</b> Max</p></div></div>" + OLD + "</div>"),
    answers("Outlook on the web answers", "<html><body><div>Morgen.</div>", '<div id="appendonsend"></div>', '<hr style="display:inline-block;width:98%"><div id="divRplyFwdMsg" dir="ltr"><b>Von:</b> Max</div>' + OLD),
    answers("Outlook on the web answers, without a mark of its own", "<html><body><div>Morgen.</div>", '<hr tabindex="-1">', '<div id="divRplyFwdMsg" dir="ltr"><b>Von:</b> Max</div>' + OLD),
    answers("Gmail answers", '<div dir="ltr">Morgen.<br></div><br>', '<div class="gmail_quote">', '<div dir="ltr" class="gmail_attr">Am Fr. schrieb Max &lt;<a href="mailto:max@else.example">max@else.example</a>&gt;:<br></div><blockquote class="gmail_quote" style="margin:0">' + OLD + "</blockquote></div>", "\n"),
    answers("Thunderbird answers", "<html><body><p>Morgen.<br>\n</p>\n", '<div class="moz-cite-prefix">', 'Am 01.03.24 um 10:00 schrieb Max Muster:<br>\n</div>\n<blockquote type="cite" cite="mid:1@else.example">' + OLD + "</blockquote>\n"),
    answers("Apple Mail answers", "<html><body><div>Morgen.</div><div><br>", '<blockquote type="cite">', "<div>Am 01.03.2024 um 10:00 schrieb Max:</div><br>" + OLD + "</blockquote></div><br>"),
    answers("Roundcube answers", "<html><body><div>Morgen.</div>\n", '<p id="reply-intro">', 'Am 01.03.2024 10:00, schrieb Max:</p>\n<blockquote type="cite">' + OLD + "</blockquote>\n"),
    answers("Yahoo answers", "<html><body><div>Morgen.</div>", '<div id="ydp1" class="yahoo_quoted">', "Max schrieb:" + OLD + "</div>"),
    answers("Thunderbird forwards", "<html><body><p>Zur Kenntnis.</p>", '<div class="moz-forward-container">', "-------- Weitergeleitete Nachricht --------" + OLD + "</div>"),
    answers("quotations in quotations", "<html><body><p>Morgen.</p>", '<blockquote type="cite">', OLD + "<blockquote>noch älter</blockquote>danach</blockquote>&nbsp;<br>"),
    Shape("an answer below", html_mail(f"<body><blockquote>{OLD}</blockquote><p>Morgen.</p>\n</body>\n"), {0: PAGE_BODY}),
    Shape("a quotation of its own", html_mail("<body><p>Goethe:</p><blockquote>Alles.</blockquote><p>Grüße</p>\n</body>\n"), {0: PAGE_BODY}),
    Shape("the quotation has it", html_mail('<body><p>Morgen.</p><hr><div id="divRplyFwdMsg">Von: Erika</div><p>' + html.escape(SIGNATURE).replace("\n", "<br>") + "</p></body>\n"), {0: Body(above="<hr>")}),
    Shape("a page that ends in a comment", html_mail("<body>Grüße</body><!-- x\n"), {0: PAGE_BODY}),
    Shape("text that ends in a comment", html_mail("<p>Grüße</p><!-- x\n"), None),
    Shape("text that ends in a comment that has the end", html_mail("<body><p>Grüße</p><!-- x\n</body></html>\n"), None),
    Shape("text that ends in a tag", html_mail('<p>Grüße</p><a href="x>y</a>\n'), None),
    Shape("text that ends in a script", html_mail("<p>Grüße</p><script>x\n"), None),
    Shape("a page that ends in a tag", html_mail('<body>Grüße</body><a href="x\n'), {0: PAGE_BODY}),
]


@case("Q02", "signatures in HTML", after=users(), start=False)
def _(rig):
    preview(rig, PAGES)


# --------------------------------------------------------------------------- Q03 multiparts

BOTH = {0: Body(), 1: PAGE_BODY}
ALTERNATIVE = nested("alternative", TEXT, PAGE, boundary="=_alt")
SMALL = part("Content-Type: text/plain", "Hello.\n")
MADE = Body(charset="utf-8", encoding="quoted-printable")
APPLE_DOUBLE = nested("appledouble", part("Content-Type: application/applefile\nContent-Transfer-Encoding: base64", b64(b"\0\5\26\7\0\2\0\0")), part("Content-Type: text/plain", "The file.\n"), boundary="=_double")


def deep(count):
    """A text in so many multiparts."""
    inner = TEXT
    for number in range(1, count):
        inner = nested("mixed", inner, boundary=f"=_{number}_")
    return whole("mixed", inner)


PICTURE = part("Content-Type: image/gif\nContent-Transfer-Encoding: base64", b64(b"GIF89a\1\0\1\0\x80\0\0"))

MULTIPARTS = [
    Shape("alternative", whole("alternative", TEXT, PAGE), BOTH),
    Shape("plain and PDF", whole("mixed", TEXT, PDF), END),
    Shape("HTML and PDF", whole("mixed", PAGE, PDF), {0: PAGE_BODY}),
    Shape("alternative and PDF", whole("mixed", ALTERNATIVE, PDF, CSV), BOTH),
    Shape("Outlook", whole("mixed", nested("related", ALTERNATIVE, PNG, boundary="=_rel"), PDF), BOTH),
    Shape("Thunderbird", whole("alternative", TEXT, nested("related", PAGE, PNG, PICTURE, boundary="=_rel")), BOTH),
    Shape("Thunderbird with a file", whole("mixed", nested("alternative", TEXT, nested("related", PAGE, PNG, boundary="=_rel"), boundary="=_alt"), PDF), BOTH),
    Shape("Apple Mail", whole("alternative", TEXT, nested("mixed", PAGE, PDF, PAGE, boundary="=_mix")), {0: Body(), 1: PAGE_BODY}),
    Shape("Apple Mail, plain", whole("mixed", TEXT, PDF, SMALL), END),
    Shape("Gmail", whole("mixed", nested("related", ALTERNATIVE, PNG, boundary="=_rel"), PDF, PICTURE), BOTH),
    Shape("related with start", whole("related", PNG, part(page() + "\nContent-ID: <root@acme>", "<body>ü</body>\n"), more='; type="text/html"; start="<root@acme>"'), {1: PAGE_BODY}),
    Shape("related without start", whole("related", PAGE, PNG), {0: PAGE_BODY}),
    Shape("related with a wrong start", whole("related", PAGE, PNG, more="; start=x"), {0: PAGE_BODY}),
    Shape("related with another text", whole("related", PAGE, TEXT, PNG), {0: PAGE_BODY}),
    Shape("a file first", whole("mixed", PDF, TEXT, CSV), {1: Body()}),
    Shape("nothing but files", whole("mixed", PDF, CSV, NOTE), None),
    Shape("a text file first", whole("mixed", NOTE, TEXT), {1: Body()}),
    Shape("text files", whole("mixed", TEXT, NOTE, CSV, SMALL, part("Content-Type: text/plain; name=log.txt", "log\n")), END),
    Shape("inline text with a name", whole("mixed", TEXT, part("Content-Type: text/plain\nContent-Disposition: inline; filename=a.txt", "a\n")), END),
    Shape("HTML as a file", whole("mixed", TEXT, part(page() + "\nContent-Disposition: attachment; filename=a.html", "<body>a</body>\n")), END),
    Shape("two texts", whole("mixed", TEXT, SMALL, PDF), END),
    Shape("text and HTML side by side", whole("mixed", TEXT, PAGE, PDF), BOTH),
    Shape("a forwarded message", whole("mixed", TEXT, FORWARDED), END),
    Shape("a forwarded message that is signed", whole("mixed", TEXT, part("Content-Type: message/rfc822", b"Subject: x\r\n" + whole("signed", SMALL, boundary="=_s"))), END),
    Shape("nothing but a forwarded message", whole("mixed", FORWARDED), None),
    Shape("a digest", whole("digest", part("", "Subject: a\n\na\n")), None),
    Shape("an invitation", whole("mixed", nested("alternative", TEXT, PAGE, INVITATION, boundary="=_alt"), part("Content-Type: application/ics; name=invite.ics\nContent-Disposition: attachment; filename=invite.ics\nContent-Transfer-Encoding: base64", b64(ICS))), BOTH),
    Shape("an invitation and a text", whole("alternative", TEXT, INVITATION), END),
    Shape("nothing but an invitation", mail("Content-Type: text/calendar; charset=utf-8; method=REQUEST\nContent-Transfer-Encoding: 8bit", ICS), None),
    Shape("TNEF", whole("mixed", TEXT, part("Content-Type: application/ms-tnef; name=winmail.dat\nContent-Disposition: attachment; filename=winmail.dat\nContent-Transfer-Encoding: base64", b64(b"\x78\x9f\x3e\x22" * 50))), END),
    Shape("AppleDouble", whole("mixed", TEXT, APPLE_DOUBLE), END),
    Shape("AMP", whole("alternative", TEXT, part("Content-Type: text/x-amp-html; charset=utf-8", "<html amp4email><body>a</body></html>\n"), PAGE), {0: Body(), 2: PAGE_BODY}),
    Shape("enriched text", whole("alternative", TEXT, part("Content-Type: text/enriched", "<bold>a</bold>\n")), END),
    Shape("two plain texts to choose from", whole("alternative", TEXT, SMALL, PAGE), {0: Body(), 1: MADE, 2: PAGE_BODY}),
    Shape("an empty text in front of files", whole("mixed", part("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit", ""), PDF), {0: Body(encoding="quoted-printable")}),
    Shape("preamble and epilogue", whole("mixed", TEXT, PDF, preamble=b"This is a multi-part message.\r\n\r\n", epilogue=b"\r\nbehind it\r\n--=_b1\r\n"), END),
    Shape("no closing boundary", whole("mixed", TEXT, PDF, close=False), END),
    Shape("no closing boundary, one part", whole("mixed", TEXT, close=False), END),
    Shape("no closing boundary inside", whole("mixed", nested("alternative", TEXT, PAGE, boundary="=_alt", close=False), PDF), BOTH),
    Shape("blanks behind boundaries", whole("mixed", TEXT, PDF).replace(b"--=_b1\r\n", b"--=_b1 \t\r\n"), END),
    Shape("a boundary that begins as another", whole("mixed", nested("alternative", TEXT, PAGE, boundary="=_b1x"), PDF), BOTH),
    Shape("a boundary of signs", whole("mixed", TEXT, PDF, boundary="a'()+_,-./:=? b"), END),
    Shape("a part without header", whole("mixed", b"\r\nHello.\r\n", PDF), {0: MADE}),
    Shape("a part without anything", mail('Content-Type: multipart/mixed; boundary="=_b1"', "--=_b1\n\n--=_b1--\n"), {0: MADE}),
    Shape("no part", mail('Content-Type: multipart/mixed; boundary="=_b1"', "--=_b1--\n"), None),
    Shape("no boundary", mail("Content-Type: multipart/mixed", "--=_b1\n\nHello.\n--=_b1--\n"), None),
    Shape("a header that is none", whole("mixed", b"Content-Type: text/plain\r\nno field\r\n\r\nHello.", PDF), None),
    Shape("two types", whole("mixed", b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\nHello.", PDF), None),
    Shape("the whole message is a text file", mail(plain() + "\nContent-Disposition: attachment; filename=a.txt", LETTER), None),
    Shape("the whole message is a PDF", mail("Content-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64", b64(b"%PDF-1.7")), None),
    Shape("a form", whole("form-data", part("Content-Disposition: form-data; name=a", "a\n")), None),
    Shape("an unknown multipart", whole("x-erp", TEXT, PDF), END),
    Shape("an encoded multipart", mail('Content-Type: multipart/mixed; boundary="=_b1"\nContent-Transfer-Encoding: quoted-printable', multi("mixed", TEXT)[1]), None),
    Shape("one that has it, one that does not", whole("alternative", part(plain(), f"Hallo.\n\n{SIGNATURE}\n"), PAGE), {1: PAGE_BODY}),
    Shape("one that has it, one that cannot take it", whole("alternative", part(plain(), f"Hallo.\n\n{SIGNATURE}\n"), part(page(), "<p>Hallo.</p><!-- x\n")), {}),
    Shape("one that ends in a comment", whole("alternative", TEXT, part(page(), "<p>Hallo.</p><!-- x\n")), END),
    Shape("10 deep", deep(10), END),
    Shape("11 deep", deep(11), None),
    Shape("40 deep", deep(40), None),
    Shape("2000 parts", whole("mixed", *[SMALL] * 2000), None),
]


@case("Q03", "signatures in multiparts", after=users(), start=False)
def _(rig):
    preview(rig, MULTIPARTS)


# --------------------------------------------------------------------------- Q04 charsets


def letter(charset, codec=None, text="Grüße aus München", encoding="8bit", more="", kind="plain"):
    """A message in a charset; `codec`: as Python calls it."""
    described = f"Content-Type: text/{kind}; charset={charset}{more}\nContent-Transfer-Encoding: {encoding}"
    given = (text + "\n").replace("\n", "\r\n").encode(codec or charset)
    if encoding == "base64":
        given = octets(b64(given))
    elif encoding == "quoted-printable":
        given = b"".join(b"=%02X" % octet if octet > 126 or octet == 61 else bytes([octet]) for octet in given)
    return mail(described, given)


MIME = b"MIME-Version: 1.0\r\n"
LETTERS = ["Mit freundlichen Gruessen", "Erika Mueller", "", "ACME GmbH & Co <erika@acme.example>", 'Tel. "030" 123']
"""The signature where there are no umlauts."""
EAST = ["Gruesse, Lukasz - 100 EUR"]
UTF8 = Body(charset="utf-8", local=False)
RUSSIAN, CHINESE, JAPANESE, POLISH = "Привет", "您好，北京", "こんにちは、東京", "Zażółć gęślą jaźń"

CHARSETS = [
    *(Shape(f"{charset} {encoding}", letter(charset, codec, encoding=encoding), END) for charset, codec in [("iso-8859-1", None), ("ISO-8859-15", None), ("windows-1252", None), ("Latin1", None), ("utf8", None), ("cp1252", None)] for encoding in ("8bit", "quoted-printable", "base64")),
    *(Shape(f"{charset} {encoding}, other letters", letter(charset, encoding=encoding), {0: UTF8}, "lukasz@acme") for charset in ("iso-8859-1", "iso-8859-15", "windows-1252") for encoding in ("8bit", "quoted-printable", "base64")),
    Shape("ISO-8859-1, of Windows-1252", letter("iso-8859-1"), {0: UTF8}, "west@acme"),
    Shape("Windows-1252, of Windows-1252", letter("windows-1252"), END, "west@acme"),
    Shape("ISO-8859-15, of Windows-1252", letter("iso-8859-15"), {0: UTF8}, "west@acme"),
    Shape("ISO-8859-1 that is Windows-1252", letter("iso-8859-1", "cp1252", "5 € „so“"), {0: Body(read="cp1252", charset="utf-8", local=False)}, "lukasz@acme"),
    Shape("ISO-8859-1 of 7 bits", letter("iso-8859-1", text="Hello", encoding="7bit"), {0: Body(encoding="quoted-printable")}),
    Shape("ISO-8859-1 of 7 bits, other letters", letter("iso-8859-1", text="Hello", encoding="7bit"), {0: Body(charset="utf-8", encoding="quoted-printable")}, "lukasz@acme"),
    Shape("ISO-8859-1 of 7 bits that has 8", letter("iso-8859-1", encoding="7bit"), {0: Body(encoding="quoted-printable")}),
    Shape("US-ASCII", letter("us-ascii", text="Hello", encoding="7bit"), {0: Body(charset="utf-8", encoding="quoted-printable")}),
    Shape("US-ASCII, 8bit", letter("us-ascii", text="Hello"), {0: Body(charset="utf-8")}),
    Shape("US-ASCII, quoted-printable", letter("us-ascii", text="Hello", encoding="quoted-printable"), {0: Body(charset="utf-8")}),
    Shape("US-ASCII, base64", letter("us-ascii", text="Hello", encoding="base64"), {0: Body(charset="utf-8")}),
    Shape("US-ASCII, ASCII signature", letter("us-ascii", text="Hello", encoding="7bit"), END, "ascii@acme"),
    Shape("US-ASCII that is UTF-8", letter("us-ascii", "utf-8"), {0: Body(read="utf-8", charset="utf-8")}),
    Shape("US-ASCII that is Windows-1252", letter("us-ascii", "cp1252"), {0: Body(read="cp1252", charset="windows-1252")}),
    Shape("in quotes, folded", mail('Content-Type: text/plain;\n\tcharset="US-ASCII";\n\tformat=flowed\nContent-Transfer-Encoding: 7bit', "Hello.\n"), {0: Body(charset="utf-8", encoding="quoted-printable", flowed=True)}),
    Shape("by RFC 2231", mail("Content-Type: text/plain; charset*=us-ascii'en'iso-8859-1\nContent-Transfer-Encoding: 8bit", "Grüße\n", "latin-1"), END),
    *(Shape(f"{charset} {encoding}", letter(charset, codec, text, encoding), {0: Body(lines=LETTERS)}) for charset, codec, text in [("iso-8859-2", None, POLISH), ("windows-1250", None, POLISH), ("koi8-r", None, RUSSIAN), ("windows-1251", None, RUSSIAN), ("gb2312", None, CHINESE), ("gb18030", None, CHINESE), ("big5", None, "您好"), ("shift_jis", None, JAPANESE), ("euc-jp", None, JAPANESE), ("iso-2022-jp", None, JAPANESE), ("macintosh", "mac_roman", "Grüße"), ("iso-8859-9", None, "Grüße"), ("cp850", None, "Grüße")] for encoding in ("8bit", "quoted-printable", "base64")),
    *(Shape(f"{charset}, other letters", letter(charset, text=text), {0: Body(lines=EAST)}, "lukasz@acme") for charset, text in [("iso-8859-2", POLISH), ("gb2312", CHINESE)]),
    *(Shape(f"{charset}, ASCII signature", letter(charset, text=text), END, "ascii@acme") for charset, text in [("koi8-r", RUSSIAN), ("shift_jis", JAPANESE)]),
    Shape("nobody's", letter("x-erp-7", "latin-1"), {0: Body(read="latin-1", lines=LETTERS)}),
    *(Shape(charset, letter(charset, codec, "Hello", "base64"), None) for charset, codec in [("utf-16", None), ("utf-16le", None), ("UTF-32", None), ("utf-7", None), ("ibm037", "cp037"), ("iso-2022-kr", None), ("hz-gb-2312", "hz")]),
    Shape("UTF-8 that is UTF-16", letter("utf-8", "utf-16le", "Grüße", "base64"), None),
    Shape("ISO-2022-JP without its end", mail(plain("iso-2022-jp", "7bit"), b"\x1b$B$3$s\r\n"), None),
    *(Shape(f"HTML in {charset} {encoding}", letter(charset, codec, f"<body>{text}</body>", encoding, kind="html"), {0: PAGE_BODY}) for charset, codec, text in [("iso-8859-1", None, "Grüße"), ("windows-1252", None, "5 €"), ("iso-8859-2", None, POLISH), ("koi8-r", None, RUSSIAN), ("gb2312", None, CHINESE), ("shift_jis", None, JAPANESE), ("iso-2022-jp", None, JAPANESE)] for encoding in ("8bit", "quoted-printable", "base64")),
    *(Shape(f"HTML in {charset}, other letters", letter(charset, text=f"<body>{text}</body>", kind="html"), {0: PAGE_BODY}, "lukasz@acme") for charset, text in [("iso-8859-15", "5 €"), ("koi8-r", RUSSIAN), ("us-ascii", "Hello")]),
    Shape("HTML in UTF-16", letter("utf-16", text="<body>Grüße</body>", encoding="base64", kind="html"), None),
    Shape("one of each", whole("alternative", letter("iso-8859-1").split(MIME)[1], letter("koi8-r", text=f"<body>{RUSSIAN}</body>", kind="html").split(MIME)[1]), {0: Body(), 1: PAGE_BODY}),
    Shape("one that is left alone", whole("alternative", letter("utf-16", text="Grüße", encoding="base64").split(MIME)[1], PAGE), {1: PAGE_BODY}),
]


@case("Q04", "signatures in every charset", after=users(), start=False)
def _(rig):
    preview(rig, CHARSETS)


# --------------------------------------------------------------------------- Q05 transfer encodings

WRAPPED = "Ein langer Absatz, der umgebrochen wird, weil er mehr als 76 Zeichen hat und=\n noch etwas. =C3=BC=c3=bc=20\n"

ENCODINGS = [
    Shape("7bit", mail(plain("utf-8", "7bit"), "Hello.\n"), END, "ascii@acme"),
    Shape("7bit, 8-bit signature", mail(plain("utf-8", "7bit"), "Hello = x \n"), {0: Body(encoding="quoted-printable")}),
    Shape("nothing said", mail("Content-Type: text/plain; charset=utf-8", "Hello.\n"), {0: Body(encoding="quoted-printable")}),
    Shape("8bit", mail(plain(encoding="8bit"), "Grüße\n"), END),
    Shape("binary", mail(plain(encoding="binary"), "Grüße\n"), END),
    Shape("capitals", mail(plain(encoding="Quoted-Printable"), WRAPPED), END),
    Shape("quoted-printable", mail(plain(encoding="quoted-printable"), WRAPPED), END),
    Shape("quoted-printable, a soft break last", whole("mixed", part(plain(encoding="quoted-printable"), "a=\n"), PDF), END),
    Shape("quoted-printable, no line end", whole("mixed", part(plain(encoding="quoted-printable"), "Gr=C3=BC=C3=9Fe"), PDF), END),
    Shape("quoted-printable, no line end, full line", whole("mixed", part(plain(encoding="quoted-printable"), "x" * 76), PDF), END),
    Shape("quoted-printable, no line end, blank", whole("mixed", part(plain(encoding="quoted-printable"), "Hello=20"), PDF), END),
    Shape("quoted-printable, encoded line ends", mail(plain(encoding="quoted-printable"), "Morgen.=0D=0A=0D=0AAm 1.3. schrieb Max:=0D=0A> Wann?=0D=0A\n"), {0: Body(above="Am 1.3.")}),
    Shape("quoted-printable, an answer", mail(plain(encoding="quoted-printable"), "Morgen f=C3=BCr S=C3=BCd.\n\nAm 1. M=C3=A4rz schrieb=\n Max:\n> W=\nann?\n"), {0: Body(above="Am 1. M")}),
    Shape("quoted-printable, raw 8-bit", mail(plain(encoding="quoted-printable"), "Grüße =C3=BC\n"), END),
    Shape("quoted-printable, broken", mail(plain(encoding="quoted-printable"), "50 =% Rabatt\n"), None),
    Shape("quoted-printable, cut off", mail(plain(encoding="quoted-printable"), "Gr=C3=B\n"), None),
    Shape("quoted-printable of one endless line", mail(plain(encoding="quoted-printable"), "ab=\n" * 3000 + "\n"), END),
    Shape("base64", mail(plain(encoding="base64"), b64("Grüße\r\naus München\r\n")), END),
    Shape("base64, no line end in the text", mail(plain(encoding="base64"), b64("Grüße")), END),
    Shape("base64, 64 wide", mail(plain(encoding="base64"), b64("Grüße aus München\r\n" * 20, 64)), END),
    Shape("base64, one line", mail(plain(encoding="base64"), b64("Grüße\r\n" * 60, 10_000)), END),
    Shape("base64, no line end", whole("mixed", part(plain(encoding="base64"), b64("Grüße\r\n").rstrip()), PDF), END),
    Shape("base64, lone line feeds", mail(plain(encoding="base64"), b64("Grüße\naus München\n")), {0: Body(newline="\n")}),
    Shape("base64, an answer", mail(plain(encoding="base64"), b64("Morgen.\r\n\r\nAm 1.3. schrieb Max:\r\n" + QUOTED.replace("\n", "\r\n"))), {0: Body(above="Am 1.3.")}),
    Shape("base64, without padding", mail(plain(encoding="base64"), b64("Gr").replace("=", "")), END),
    Shape("base64, nothing", mail(plain(encoding="base64"), ""), END),
    Shape("base64, broken", mail(plain(encoding="base64"), "R3J1*****\n"), None),
    Shape("base64, cut off", mail(plain(encoding="base64"), "R3J1ZQ0KR\n"), None),
    Shape("base64, something behind it", mail(plain(encoding="base64"), b64("Grüße\r\n") + "--\nA mailing list\n"), None),
    Shape("base64, twice", mail(plain(encoding="base64"), "R3I=\nR3I=\n"), None),
    Shape("uuencode", mail(plain(encoding="x-uuencode"), "begin 644 a\n#86)C\n`\nend\n"), None),
    Shape("unknown", mail(plain(encoding="rot13"), "Uryyb\n"), None),
    Shape("8bit of 7 bits in what says nothing", whole("mixed", part(plain(), "Hello.\n"), PDF), {0: Body(encoding="quoted-printable")}),
    Shape("8bit of 7 bits in 8bit", whole("mixed", part(plain(), "Hello.\n"), PDF, more="\nContent-Transfer-Encoding: 8bit"), END),
    Shape("long lines, 7bit", mail(plain("utf-8", "7bit"), "x" * 999 + "\n"), {0: Body(encoding="quoted-printable")}, "ascii@acme"),
    Shape("998 octets, 7bit", mail(plain("utf-8", "7bit"), "x" * 998 + "\n"), END, "ascii@acme"),
    Shape("one that is broken", whole("alternative", part(plain(encoding="base64"), "R3J1*****\n"), PAGE), {1: PAGE_BODY}),
    Shape("6 MiB of text", mail(plain(), "Grüße\n" * (6 * 1024 * 1024 // 9)), None),
    Shape("4 MiB of text", mail(plain(), "Grüße\n" * (4 * 1024 * 1024 // 9)), END),
    Shape("4 MiB of HTML", html_mail("<body>" + "<p>Grüße</p>\n" * 250_000 + "</body>\n"), {0: PAGE_BODY}),
]


@case("Q05", "signatures in every transfer encoding", after=users(), start=False)
def _(rig):
    preview(rig, ENCODINGS)


# --------------------------------------------------------------------------- Q06 signed and encrypted


def hand_in(rig, raw, client=None, to=("x@else.example",), login="erika@acme"):
    """A message from a login; gives its id, and itself with a token for a subject."""
    if client is None:
        client = rig.client()
        if login:
            client.login(login, "right")
    token = rig.token().encode()
    raw = raw.replace(b"Subject: Probe\r\n", b"Subject: " + token + b"\r\n", 1)
    client.envelope(sender="erika@acme.example" if login else "app@source.example", to=to)
    reply = client.content(re.sub(rb"(?m)^\.", b"..", raw.removesuffix(b"\r\n")))
    check(reply.startswith("250 2.0.0"), f"answered {reply!r}")
    return reply.rsplit(" ", 1)[-1], raw, token


def arrivals(rig, token, count=1):
    return wait_until(f"{token.decode()} at the upstream {count} times", lambda: len(found := [m for m in list(rig.upstream.received) if token in m.raw and m.sender]) >= count and found)


def certificate(rig):
    """A certificate with its key, for S/MIME."""
    key, name = rig.directory / "erika.key", rig.directory / "erika.pem"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(name), "-subj", "/CN=Erika", "-days", "2")
    return key, name


def sealed(rig, pair, *words):
    """What S/MIME makes of a text."""
    content = rig.write("content", TEXT)
    return openssl("smime", *words, "-binary", "-outform", "DER", "-in", str(content), *(["-signer", str(pair[1]), "-inkey", str(pair[0])] if "-sign" in words else [str(pair[1])]))


def pkcs7(kind, seal, name="smime.p7m"):
    return mail(f"Content-Type: {kind}; name={name}\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename={name}", b64(seal))


PGP = "-----BEGIN PGP MESSAGE-----\n\nhQEMA1V0Y2hhdHRlYm90AQf/\n=aBcD\n-----END PGP MESSAGE-----\n"
PGP_SIGNED = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSchöne Grüße\n- -- \nErika\n-----BEGIN PGP SIGNATURE-----\n\niQEzBAEBCAAd\n=aBcD\n-----END PGP SIGNATURE-----\n"
PGP_SIGNATURE = part("Content-Type: application/pgp-signature; name=signature.asc", "-----BEGIN PGP SIGNATURE-----\n\niQEzBAEBCAAd\n-----END PGP SIGNATURE-----\n")
PGP_MIME = multi("signed", TEXT, PGP_SIGNATURE, more="; protocol=\"application/pgp-signature\"; micalg=pgp-sha256")
REPORT = multi("report", part("Content-Type: text/plain", "Not delivered.\n"), part("Content-Type: message/delivery-status", "Reporting-MTA: dns; x.example\n\nFinal-Recipient: rfc822; a@x.example\nAction: failed\nStatus: 5.1.1\n"), more="; report-type=delivery-status")

SEALED = [
    ("PGP/MIME, signed", mail(*PGP_MIME), "signed"),
    ("PGP/MIME, signed, in a mailing list's frame", whole("mixed", octets(PGP_MIME[0]) + b"\r\n\r\n" + PGP_MIME[1], SMALL, boundary="=_list"), "signed"),
    ("PGP/MIME, encrypted", mail(*multi("encrypted", part("Content-Type: application/pgp-encrypted", "Version: 1\n"), part("Content-Type: application/octet-stream; name=encrypted.asc", PGP), more='; protocol="application/pgp-encrypted"')), "encrypted"),
    ("PGP inline, encrypted", mail(plain(), PGP), "encrypted"),
    ("PGP inline, no MIME", mail("", "Hallo,\n\n" + PGP), "encrypted"),
    ("PGP inline, signed", mail(plain(), PGP_SIGNED), "signed"),
    ("PGP inline, quoted-printable", mail(plain(encoding="quoted-printable"), PGP.replace("=", "=3D")), "encrypted"),
    ("PGP inline, base64", mail(plain(encoding="base64"), b64(PGP_SIGNED)), "signed"),
    ("PGP inline, one of two", whole("alternative", part(plain(), PGP_SIGNED), PAGE), "signed"),
    ("PGP inline, behind a file", whole("mixed", TEXT, PDF, part(plain(), PGP)), "encrypted"),
    ("PGP in HTML", html_mail("<body><pre>" + PGP + "</pre></body>\n"), "encrypted"),
    ("a delivery report", mail(*REPORT), "report"),
    ("a delivery report in another", whole("mixed", SMALL, octets(REPORT[0]) + b"\r\n\r\n" + REPORT[1], boundary="=_outer"), "report"),
    ("an invoice alone", whole("mixed", PDF), "no text"),
    ("parts nobody can tell apart", mail("Content-Type: multipart/mixed", "--a\n\nHello.\n--a--\n"), "cannot be understood"),
]


@case("Q06", "signed and encrypted mail stays as it is, and the log says why", after=users())
def _(rig):
    pair = certificate(rig)
    seal = sealed(rig, pair, "-sign")
    detached = mail(*multi("signed", TEXT, part("Content-Type: application/pkcs7-signature; name=smime.p7s\nContent-Transfer-Encoding: base64", b64(seal)), more='; protocol="application/pkcs7-signature"; micalg=sha-256'))
    opaque = sealed(rig, pair, "-sign", "-nodetach")
    enveloped = sealed(rig, pair, "-encrypt", "-aes256")
    shapes = [
        *SEALED,
        ("S/MIME, signed", detached, "signed"),
        ("S/MIME, signed in one", pkcs7("application/pkcs7-mime; smime-type=signed-data", opaque), "signed"),
        ("S/MIME, encrypted", pkcs7("application/pkcs7-mime; smime-type=enveloped-data", enveloped), "encrypted"),
        ("S/MIME, encrypted, by its old name", pkcs7("application/x-pkcs7-mime", enveloped), "encrypted"),
        ("S/MIME, encrypted, forwarded as a file", whole("mixed", TEXT, pkcs7("application/pkcs7-mime; smime-type=enveloped-data", enveloped).split(MIME)[1]), "encrypted"),
    ]
    client = rig.client()
    client.login("erika@acme", "right")
    for name, raw, why in shapes:
        identity, raw, token = hand_in(rig, raw, client)
        message = arrivals(rig, token)[0]
        judge(Shape(name, raw, None), message.raw)
        line = rig.wait_log("event=no-signature", f"id={identity} ", "tenant=acme")
        check(len(line) == 1 and why in line[0], f"{name}: the log says {line}")
    # What the signer's own program says of what arrived.
    _, raw, token = hand_in(rig, detached, client)
    signed = parts_of(arrivals(rig, token)[0].raw)[0]
    content, signature = rig.write("content", signed[0].raw), rig.write("signature", signed[1].octets())
    openssl("smime", "-verify", "-binary", "-noverify", "-inform", "DER", "-in", str(signature), "-content", str(content))
    # A file of such a kind, or a quotation, hinders nobody; and then nothing is said. Nor is it where
    # the signature stands already.
    said = rig.log.count("event=no-signature")
    for name, raw, bodies in [
        ("a public key", whole("mixed", TEXT, part("Content-Type: application/pgp-keys; name=key.asc", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n")), END),
        ("a file of PGP", whole("mixed", TEXT, part("Content-Type: text/plain\nContent-Disposition: attachment; filename=a.asc", PGP)), END),
        ("has it already", mail(plain(), f"Hallo.\n\n{SIGNATURE}\n"), {}),
        ("quoted PGP", mail(plain(), "Was ist das?\n\n> " + PGP.replace("\n", "\n> ") + "\n"), {0: Body(above="> -----BEGIN")}),
    ]:
        _, raw, token = hand_in(rig, raw, client)
        judge(Shape(name, raw, bodies), arrivals(rig, token)[0].raw)
    check(rig.log.count("event=no-signature") == said, f"the log says more: {rig.log[-2000:]}")


# --------------------------------------------------------------------------- Q07 through the server

KEYS = {("s", "acme.example"): SEED}
OUTLOOK = next(shape for shape in MULTIPARTS if shape.name == "Outlook")


def later(verb, times, words, of=b""):
    """A handler of an upstream that puts off so many lines that hold `of`, then takes all."""
    left = [times]

    def answer(session, line):
        if left[0] and of in line:
            left[0] -= 1
            return words
        return session.take(line) if verb == "dot" else session._usual(verb, line)

    return answer


def judge_signed(shape, raw, message):
    """As `judge`; also, the DKIM signature holds."""
    judge(dataclasses.replace(shape, raw=raw), message.raw)
    must_verify(message, KEYS)


@case("Q07", "one signature however often it is tried", after=users() + entry("acme.example", "s", SEED))
def _(rig):
    client = rig.client()
    client.login("erika@acme", "right")
    for shape in (OUTLOOK, PLAIN[0], PLAIN[3]):
        rig.upstream.on["dot"] = later("dot", 3, "451 4.3.0 later")
        identity, raw, token = hand_in(rig, shape.raw, client)
        judge_signed(shape, raw, arrivals(rig, token)[0])
        check(len(rig.wait_log(f"id={identity} ", "event=deferred")) == 3, f"not tried four times: {rig.log[-2000:]}")
    # Recipients that get it at different times get the same.
    rig.upstream.on = {"RCPT": later("RCPT", 1, "451 4.2.1 later", b"<b@")}
    _, raw, token = hand_in(rig, OUTLOOK.raw, client, to=("a@else.example", "b@else.example"))
    rig.may_repeat.add(token)
    found = arrivals(rig, token, 2)
    check([m.recipients for m in found] == [["a@else.example"], ["b@else.example"]], f"{[m.recipients for m in found]}")
    for message in found:
        judge_signed(OUTLOOK, raw, message)
    # Across a restart.
    rig.upstream.on = {"dot": lambda session, line: "451 4.3.0 later"}
    identity, raw, token = hand_in(rig, OUTLOOK.raw, client)
    rig.wait_log(f"id={identity} ", "event=deferred")
    client.close()
    rig.stop()
    rig.upstream.on = {}
    rig.start()
    judge_signed(OUTLOOK, raw, arrivals(rig, token)[0])
    # Who has none, or no login at all, sends what was handed in.
    _, raw, token = hand_in(rig, OUTLOOK.raw, login=None)
    judge_signed(dataclasses.replace(OUTLOOK, bodies=None), raw, arrivals(rig, token)[0])
    # A server of 7 bits gets the same text.
    seven = Rig(after=users() + entry("acme.example", "s", SEED), upstream=lambda: Upstream(capabilities=("PIPELINING", "SIZE 50000000")))
    with contextlib.closing(seven):
        for shape in (Shape("7 bits", mail(plain(), LETTER), {0: Body(encoding="quoted-printable", local=False)}), Shape("7 bits, quoted-printable", mail(plain(encoding="quoted-printable"), WRAPPED), END), Shape("7 bits, base64", whole("alternative", part(plain(encoding="base64"), b64(LETTER)), part(page(encoding="7bit"), "<body>a</body>\n")), {0: Body(newline="\n"), 1: PAGE_BODY})):
            _, raw, token = hand_in(seven, shape.raw)
            message = arrivals(seven, token)[0]
            check(message.raw.isascii(), f"{shape.name}: not of 7 bits")
            judge_signed(shape, raw, message)
