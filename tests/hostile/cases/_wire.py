"""What cases about octets on the wire share."""

import select, socket, struct

from rig import check, wait_until


def accepted(rig, count):
    """Exactly so many messages were taken so far; counted by the server before it says 250."""
    got = rig.metric("postbote_messages_accepted_total")
    check(got == count, f"{got:.0f} messages were accepted, wanted {count}")


def unread(client):
    """Octets that the server's kernel has for its end of this connection, not yet read."""
    try:
        (here, port), (there, listener) = client.socket.getsockname()[:2], client.socket.getpeername()[:2]
    except OSError:
        return 0  # reset
    # Asks for the one socket (sock_diag(7)): /proc/net/tcp would be the whole table each time.
    identity = struct.pack("!HH", listener, port) + socket.inet_aton(there).ljust(16, b"\0") + socket.inet_aton(here).ljust(16, b"\0") + b"\0" * 4 + b"\xff" * 8
    request = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + identity
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:
        kernel.send(struct.pack("=IHHII", 16 + len(request), 20, 1, 0, 0) + request)
        answer = kernel.recv(4096)
    (kind,) = struct.unpack_from("=H", answer, 4)
    return struct.unpack_from("=I", answer, 16 + 4 + len(identity) + 4)[0] if kind == 20 else 0  # 0: closed


def drained(client):
    """Waits until the server has read all that this client sent: more comes by another read()."""
    wait_until("the server has read everything", lambda: unread(client) == 0)


def ended(client, after="", limit=5):
    """The server must have closed the connection, without another word."""
    client.socket.settimeout(limit)
    try:
        client.closed()
    except TimeoutError:
        check(False, f"the connection is still open {after}")
    client.close()


def silent(client):
    """The server has said nothing that was not read yet."""
    ready, _, _ = select.select([client.socket], [], [], 0)
    check(not ready and not client.buffer, "the server said something")
