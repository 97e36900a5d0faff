"""The strangers of a siege, and the registries that are in league with them. siege.py starts this; it is no test by itself.

    siege_attacks.py '{"seconds": 60, "strangers": 20, "only": [], "open": 3128, "guarded": 3130, "big": "sha256:…",
                       "registries": {"slow": 5001, …}}'

Every stranger has a source address of its own, 127.1.0.1 and up, and does its part of ATTACKS at once, or what `only` names. As it ends, by
SIGTERM too, it prints for each attack what became of its rounds: {"slow_fills": {"done": 60, "ConnectionResetError": 2}, …}.
"""

import asyncio
import base64
import collections
import contextlib
import dataclasses
import hashlib
import json
import random
import re
import secrets
import signal
import socket
import ssl
import struct
import sys
import time

MIB = 1 << 20
ZEROS = bytes(64 * MIB)
INDEX = "application/vnd.oci.image.index.v1+json"


# The registries.


def long_index():
    """An index that lists 30,000 manifests, but for its end, which makes each another one."""
    listed = b",".join(b'{"digest":"sha256:%064x","size":1}' % n for n in range(30_000))
    return b'{"schemaVersion":2,"mediaType":"%s","manifests":[%s],"annotations":{"n":"' % (INDEX.encode(), listed)


@dataclasses.dataclass
class Vice:
    """How a registry sends a body: so many bytes, and after each such piece it rests. One that has sent `most` hangs up."""

    begin: bytes
    piece: int = MIB
    rest: float = 0.0
    most: int = 1 << 40


VICES = {
    "slow": Vice(ZEROS, piece=4 << 10, rest=5.0),
    "cut": Vice(ZEROS[: 8 * MIB], most=MIB),
    "cold": Vice(ZEROS[: 16 * MIB], piece=128 << 10, rest=0.25),
    "tiny": Vice(b"tiny"),
    "moving": Vice(long_index()),
}


class Registry:
    """A registry with one vice. Whatever is asked of it is there: its vice's beginning, and an end that makes it another content.

    Each vice has a server of its own, so that seawall's breaker for one does not end the other attacks.
    """

    def __init__(self, vice):
        self.vice, self.hashed, self.ends = vice, hashlib.sha256(vice.begin), {}

    def new(self):
        """The digest of a content that nobody has asked for yet."""
        end = secrets.token_hex(16).encode() + b'"}}'
        hashed = self.hashed.copy()
        hashed.update(end)
        digest = f"sha256:{hashed.hexdigest()}"
        self.ends[digest] = end
        return digest

    async def connection(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):  # cancelled: the siege is over
            whole = True
            while whole:
                whole = await self.answer((await reader.readuntil(b"\r\n\r\n")).decode(), writer)
        writer.transport.abort()

    async def answer(self, head, writer):
        """Whether the answer is whole. A tag names something new each time that it is asked for."""
        method, path = head.split(" ")[:2]
        if path == "/v2/":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            return True
        name = path.rpartition("/")[2]
        digest = name if name.startswith("sha256:") else self.new()
        end, begin = self.ends[digest], self.vice.begin
        length = len(begin) + len(end)
        wanted = re.search(r"(?i)\r\nrange: bytes=(\d+)-(\d*)", head)
        first, last = (int(wanted[1]), int(wanted[2] or length - 1)) if wanted else (0, length - 1)
        status = f"206 Partial Content\r\nContent-Range: bytes {first}-{last}/{length}" if wanted else "200 OK"
        kind = INDEX if "/manifests/" in path else "application/octet-stream"
        fields = f"Content-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\nAccept-Ranges: bytes\r\nContent-Length: {last + 1 - first}"
        writer.write(f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n".encode())
        stop = first if method == "HEAD" else min(last + 1, first + self.vice.most)
        for at in range(first, stop, self.vice.piece):
            to = min(at + self.vice.piece, stop)
            writer.write(begin[at:to] + end[max(0, at - len(begin)) : max(0, to - len(begin))])
            await writer.drain()
            await asyncio.sleep(self.vice.rest)
        return method == "HEAD" or stop == last + 1


# HTTP/2, as much of it as an attack needs (RFC 9113, RFC 7541).

HEADERS, SETTINGS, PING, WINDOW_UPDATE = 1, 4, 6, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INITIAL_WINDOW_SIZE, WIDEST = 4, (1 << 31) - 1
END_STREAM_AND_HEADERS, ACK = 5, 1


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(text):
    """A string of HPACK: its length in seven bits, or 127 and the rest in groups of seven."""
    if len(text) < 127:
        return bytes([len(text)]) + text
    rest, length = len(text) - 127, [127]
    while rest > 127:
        length, rest = [*length, rest & 127 | 128], rest >> 7
    return bytes([*length, rest]) + text


def get(stream, host, path, *fields):
    """HEADERS of a GET: `:method`, `:scheme` from the static table, the others as literals."""
    named = ((b":authority", host.encode()), (b":path", path.encode()), *fields)
    block = b"\x82\x87" + b"".join(b"\0" + literal(name) + literal(value) for name, value in named)
    return frame(HEADERS, END_STREAM_AND_HEADERS, stream, block)


def greeting(window):
    """The preface, and a window for each stream; the connection's own is as wide as can be."""
    settings = frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window))
    return PREFACE + settings + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WIDEST - 65_535))


async def stay(reader, writer, until):
    """Reads what comes and drops it, answers PINGs, and sends one each second."""
    async def ping():
        while True:
            await asyncio.sleep(1)
            writer.write(frame(PING, 0, 0, bytes(8)))

    pinging = asyncio.create_task(ping())
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until - time.monotonic()):
                while True:
                    length, kind, flags, _ = struct.unpack(">IBBI", b"\0" + await reader.readexactly(9))
                    payload = await reader.readexactly(length)
                    if kind == PING and not flags & ACK:
                        writer.write(frame(PING, ACK, 0, payload))
    finally:
        pinging.cancel()


# The strangers.


class Refused(Exception):
    """An answer that ends a round."""


def trusting():
    """TLS that offers h2 and believes anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def request(path, *fields, method="GET"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *fields, "", ""]).encode()


async def status_of(reader):
    """The status of an answer, and the length of its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = re.search(r"\r\ncontent-length: (\d+)", head)
    return int(head.split(" ")[1]), int(length[1]) if length else 0


async def accepted(reader):
    """The length of the body of an answer that must be a 2xx."""
    status, length = await status_of(reader)
    if not 200 <= status < 300:
        raise Refused(status)
    return length


class Stranger:
    """One source address, and the attacks. They rest between rounds, so that processors are left to the others."""

    def __init__(self, n, target, registries):
        self.address, self.target, self.registries = f"127.1.0.{n}", target, registries
        self.context = trusting()
        self.hold = target["seconds"] / 3  # how long what has been taken is kept
        self.big = f"/v2/lab/acme/big/blobs/{target['big']}"

    @contextlib.asynccontextmanager
    async def connected(self, way="open"):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target[way], local_addr=(self.address, 0))
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def tunnel(self, host):
        async with self.connected() as (reader, writer):
            writer.write(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
            await accepted(reader)
            yield reader, writer

    @contextlib.asynccontextmanager
    async def asked_by_h2(self, name, paths, window, *fields):
        """A connection on which every one of the paths was asked for, each on a stream of its own."""
        async with self.tunnel(f"{name}.test") as (reader, writer):
            await writer.start_tls(self.context, server_hostname=f"{name}.test")
            if writer.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
                raise Refused("no h2")
            writer.write(greeting(window) + frame(SETTINGS, ACK, 0, b""))
            writer.write(b"".join(get(1 + 2 * n, f"{name}.test", path, *fields) for n, path in enumerate(paths)))
            await writer.drain()
            yield reader, writer

    def fresh(self, name, kind="blobs"):
        """A path of the mirror's to what nobody has asked that registry for yet, each in another repository."""
        return f"/v2/{name}/r{secrets.token_hex(4)}/app/{kind}/{self.registries[name].new()}"

    async def deaf_streams(self):
        """256 streams of one connection want a large warm blob; their windows are wide, and the socket is never read."""
        async with self.asked_by_h2("lab", [self.big.replace("/lab", "")] * 256, WIDEST):
            await asyncio.sleep(self.hold)

    async def deaf_parts(self):
        """The same with a thousand parts of a byte, each behind a head of its own; or of some kilobytes."""
        length = random.choice([1, 4200])
        parts = ",".join(f"{n * 4201}-{n * 4201 + length - 1}" for n in range(1000))
        async with self.asked_by_h2("lab", [self.big.replace("/lab", "")] * 256, WIDEST, (b"range", f"bytes={parts}".encode())):
            await asyncio.sleep(self.hold)

    async def closed_windows(self):
        """The same with windows of nothing, on a connection that is read and pinged."""
        async with self.asked_by_h2("lab", [self.big.replace("/lab", "")] * 256, 0) as (reader, writer):
            await stay(reader, writer, time.monotonic() + self.hold)

    async def slow_fills(self):
        """A hundred slow blobs on one connection, each a new one: a descriptor for its file, another for its upstream."""
        paths = [self.fresh("slow").replace("/slow", "") for _ in range(100)]
        async with self.asked_by_h2("slow", paths, WIDEST) as (reader, writer):
            await stay(reader, writer, time.monotonic() + self.hold)

    async def moving_tags(self):
        """HEADs of a tag that moves each time, while what it named before lists 30,000 manifests."""
        path = f"/v2/moving/acme/app/manifests/t{secrets.token_hex(4)}"
        async with self.connected() as (reader, writer):
            writer.write(request(path, f"Accept: {INDEX}"))
            await reader.readexactly(await accepted(reader))
            for _ in range(3):
                await asyncio.sleep(1.2)  # longer than the ttl of a tag
                writer.write(request(path, f"Accept: {INDEX}", method="HEAD"))
                await accepted(reader)

    async def tiny_blobs(self):
        async with self.connected() as (reader, writer):
            for _ in range(25):
                writer.write(request(self.fresh("tiny")))
                await reader.readexactly(await accepted(reader))

    async def broken_downloads(self):
        """Upstream cuts each body: what is here of it is a partial file that nothing completes."""
        async with self.connected() as (reader, writer):
            writer.write(request(self.fresh("cut")))
            await accepted(reader)
            while await reader.read(64 << 10):
                pass

    async def hang_ups(self, *fields):
        """Gone after 25 KB of a large cold blob."""
        async with self.connected() as (reader, writer):
            writer.write(request(self.fresh("cold"), *fields))
            await accepted(reader)
            await reader.readexactly(25_000)

    async def open_ranges(self):
        await self.hang_ups("Range: bytes=0-")

    async def slow_readers(self):
        """A byte a second of a large warm blob, through as small a socket as there is."""
        loop = asyncio.get_running_loop()
        with socket.socket() as reading:
            reading.setblocking(False)
            reading.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            reading.bind((self.address, 0))
            await loop.sock_connect(reading, ("127.0.0.1", self.target["open"]))
            await loop.sock_sendall(reading, request(self.big))
            for _ in range(int(self.hold)):
                if not await loop.sock_recv(reading, 1):
                    raise ConnectionResetError
                await asyncio.sleep(1)

    async def wrong_passwords(self):
        """Each another password: nothing that was remembered answers it."""
        said = base64.b64encode(f"honest:{secrets.token_hex(8)}".encode()).decode()
        async with self.connected("guarded") as (reader, writer):
            writer.write(request(self.big, f"Authorization: Basic {said}"))
            status, _ = await status_of(reader)
            if status != 401:
                raise Refused(status)

    async def half_heads(self):
        """A head that comes by the byte and never ends."""
        async with self.connected() as (_, writer):
            writer.write(b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
            for _ in range(int(self.hold)):
                await asyncio.sleep(1)
                writer.write(b"x")
                await writer.drain()

    async def half_handshakes(self):
        """A tunnel in which a ClientHello begins, and no more."""
        async with self.tunnel("lab.test") as (_, writer):
            writer.write(bytes.fromhex("160301020001fc0303") + secrets.token_bytes(40))
            await asyncio.sleep(self.hold)

    async def garbage(self):
        async with self.connected() as (reader, writer):
            writer.write(random.choice([b"", b"\x16\x03\x01", PREFACE, b"GET "]) + secrets.token_bytes(512))
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                async with asyncio.timeout(5):
                    await reader.read(1)

    async def many_ranges(self):
        """Hundreds of ranges in one request: far apart, or each all of the blob."""
        apart = ",".join(f"{n << 14}-{(n << 14) + 99}" for n in range(400))
        async with self.connected() as (reader, writer):
            writer.write(request(self.big, f"Range: bytes={random.choice([apart, ','.join(['0-'] * 800)])}"))
            await status_of(reader)
            await reader.read(64 << 10)


# Every second stranger holds as much as it can. The others do not: a share that its owner has used up would keep their attacks out.
HOLDERS, ALL = slice(0, None, 2), slice(None)
# Who does it, how many of the kind at once, and the seconds between two rounds.
ATTACKS = [
    (Stranger.deaf_streams, HOLDERS, 2, 1.0),
    (Stranger.deaf_parts, HOLDERS, 2, 1.0),
    (Stranger.closed_windows, HOLDERS, 2, 1.0),
    (Stranger.slow_fills, HOLDERS, 2, 1.0),
    (Stranger.moving_tags, ALL, 1, 2.0),
    (Stranger.tiny_blobs, ALL, 1, 2.0),
    (Stranger.broken_downloads, ALL, 1, 2.0),
    (Stranger.hang_ups, ALL, 1, 4.0),
    (Stranger.open_ranges, ALL, 1, 4.0),
    (Stranger.slow_readers, ALL, 10, 1.0),
    (Stranger.wrong_passwords, ALL, 1, 3.0),  # each costs seawall 60 ms of a processor
    (Stranger.half_heads, ALL, 5, 1.0),
    (Stranger.half_handshakes, ALL, 5, 1.0),
    (Stranger.garbage, ALL, 1, 2.0),
    (Stranger.many_ranges, ALL, 1, 2.0),
]


async def attack(stranger, round_of, pause, rounds):
    while True:
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        try:
            await round_of(stranger)
            rounds["done"] += 1
        except (OSError, asyncio.IncompleteReadError, Refused) as error:
            rounds[f"{type(error).__name__} {error}" if isinstance(error, Refused) else type(error).__name__] += 1


async def siege(target):
    registries = {name: Registry(vice) for name, vice in VICES.items()}
    for name, registry in registries.items():
        await asyncio.start_server(registry.connection, "127.0.0.1", target["registries"][name], backlog=1024)
    strangers = [Stranger(n, target, registries) for n in range(1, target["strangers"] + 1)]
    rounds, running = {}, []
    for round_of, who, at_once, pause in ATTACKS:
        if not target["only"] or round_of.__name__ in target["only"]:
            counted = rounds[round_of.__name__] = collections.Counter()
            running += [asyncio.create_task(attack(stranger, round_of, pause, counted)) for stranger in strangers[who] * at_once]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    stopping = asyncio.create_task(stop.wait())
    ended, _ = await asyncio.wait([stopping, *running], timeout=target["seconds"], return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        task.result()
    print(json.dumps(rounds), flush=True)


if __name__ == "__main__":
    asyncio.run(siege(json.loads(sys.argv[1])))
