"""Version 2 of the indexing protocol, as a client sees it, written from the tables of src/indexing/README.md.

The sums come from the system's libxxhash, the proofs from Python's hmac: nothing of the C code is used.
"""
import ctypes
import hashlib
import hmac
import os
import re
import struct
from dataclasses import dataclass

from lantern_wire import KINDS, METRICS, Client, Closed, Job

XXHASH = ctypes.CDLL("libxxhash.so.0")


class Sum128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


XXHASH.XXH3_64bits.restype = XXHASH.XXH3_64bits_withSeed.restype = ctypes.c_uint64
XXHASH.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
XXHASH.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
XXHASH.XXH3_128bits.restype = Sum128
XXHASH.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]

UPGRADE = b"\x37\x33\x33\x32"
TYPES = {"AUTH": 1, "BEGIN": 2, "ROWS": 3, "END": 4, "CANCEL": 5, "PING": 6, "RESUME": 7, "RECEIVED": 8, "WELCOME": 16, "ACCEPT": 17,
         "QUEUED": 18, "READY": 19, "PROGRESS": 20, "PONG": 21, "INDEX": 22, "DATA": 23, "DONE": 24, "ERROR": 32}
NAMES = {number: name for name, number in TYPES.items()}
# Sizes of the server's payloads: smallest, largest.
SIZES = {"WELCOME": (112, 175), "ACCEPT": (32, 32), "QUEUED": (8, 8), "READY": (8, 8), "PROGRESS": (24, 24), "PONG": (8, 8),
         "INDEX": (24, 24), "DATA": (9, 1 << 20), "DONE": (24, 24), "ERROR": (8, 1032)}
PAYLOAD_MAX = 1 << 20
ANNEX_FILE, USEARCH_FILE, LANTERN_FILE = 1, 2, 3
PLAIN, NATIVE = 1, 2


def sum64(data, seed=0):
    return XXHASH.XXH3_64bits_withSeed(data, len(data), seed) & 0xFFFFFFFF


def sum128(data):
    value = XXHASH.XXH3_128bits(data, len(data))
    return struct.pack("<QQ", value.low, value.high)


def crc16(data):
    """Polynomial 0x1021, start 0xffff, most significant bit first."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def head(kind, size, flags=0):
    first = struct.pack("<IBB", size, TYPES.get(kind, kind), flags)
    return first + struct.pack("<H", crc16(first))


def frame(kind, payload=b""):
    start = head(kind, len(payload))
    return start + payload + struct.pack("<I", sum64(payload, int.from_bytes(start, "little")))


def upgrade(version=2, features=0):
    first = UPGRADE + struct.pack("<II", version, features)
    return first + struct.pack("<I", sum64(first))


def proof(role, secret, server_nonce, client_nonce, session, offset=0):
    """role: client, server or resume. Without a TLS binding, which this Python cannot ask OpenSSL for."""
    label = f"annex indexing 2: {role}".encode().ljust(32, b"\0")
    text = label + server_nonce + client_nonce + session + bytes(32) + struct.pack("<Q", offset)
    return hmac.new(secret, text, hashlib.sha256).digest()


def statuses(path):
    """Name -> number, from the one table of status codes."""
    with open(path, encoding="utf-8") as file:
        return {name: int(number) for name, number in re.findall(r"^ROW\((\w+), *(\d+),", file.read(), re.M)}


class Refused(Exception):
    """An ERROR frame: .status, .text, .hint."""

    def __init__(self, payload):
        self.status, size, hint_size = struct.unpack_from("<IHH", payload)
        assert len(payload) == 8 + size + hint_size, "lengths of an ERROR frame"
        self.text, self.hint = payload[8:8 + size].decode(), payload[8 + size:].decode()
        super().__init__(f"{self.status}: {self.text} ({self.hint})")


@dataclass
class Welcome:
    needs_auth: bool
    has_binding: bool
    dim_max: int
    idle_s: int
    rows_max: int
    resume_s: int
    nonce: bytes
    session: bytes
    resume_key: bytes
    server: str


class Client2(Client):
    """One connection; open() brings it to where BEGIN or RESUME may be sent."""

    def open(self, token=None):
        self.hello()
        self.send(upgrade())
        welcome = self.welcome()
        if token is not None:
            assert welcome.needs_auth, "the server does not ask for the token"
            self.authenticate(token, welcome)
        return welcome

    def welcome(self):
        got = self.expect("WELCOME")
        version, flags, dim_max, idle, rows_max, resume, zero = struct.unpack_from("<IIIIQII", got)
        assert (version, flags & ~3, zero) == (2, 0, 0), got[:32]
        return Welcome(bool(flags & 1), bool(flags & 2), dim_max, idle, rows_max, resume, got[32:64], got[64:80], got[80:112], got[112:].decode())

    def authenticate(self, token, welcome):
        nonce = os.urandom(32)
        self.send(frame("AUTH", nonce + proof("client", token, welcome.nonce, nonce, welcome.session)))
        shown = self.expect("ACCEPT")
        assert shown == proof("server", token, welcome.nonce, nonce, welcome.session), "the server's proof is wrong"

    def receive(self):
        """The next frame, whatever it is: (name, payload). ERROR raises Refused."""
        start = self.read(8)
        size, kind, flags, crc = struct.unpack("<IBBH", start)
        assert crc == crc16(start[:6]), "the sum of a head"
        assert kind in NAMES and flags == 0 and size <= PAYLOAD_MAX, start.hex()
        name = NAMES[kind]
        low, high = SIZES[name]
        assert low <= size <= high, f"{name} of {size} bytes"
        payload = self.read(size)
        tail, = struct.unpack("<I", self.read(4))
        assert tail == sum64(payload, int.from_bytes(start, "little")), f"the sum of {name}"
        if name == "ERROR":
            raise Refused(payload)
        return name, payload

    def expect(self, *names):
        """The next frame that is not PROGRESS or QUEUED (unless asked for); its payload."""
        while True:
            name, payload = self.receive()
            if name in names:
                return payload
            assert name in ("PROGRESS", "QUEUED"), f"{name} where {names} is due"

    def refusal(self):
        """The ERROR that must come, and then the end."""
        try:
            while True:
                self.receive()
        except Refused as err:
            assert self.rest() == b"", "bytes after ERROR"
            return err

    def begin2(self, job, flags=PLAIN, file_format=LANTERN_FILE, element=None, idle_s=0, name=b"a test", **other):
        fields = {"metric": METRICS[job.metric][0], "kind": KINDS[job.kind][0], "element": element or (5 if job.metric == "hamming" else 1),
                  "dim": job.dim, "m": job.m, "ef_construction": job.ef_construction, "ef": job.ef, "format": file_format,
                  "rows": job.capacity, "flags": flags, "idle_s": idle_s}
        assert set(other) <= set(fields)
        fields.update(other)
        self.send(frame("BEGIN", struct.pack("<8IQIIQ", *fields.values(), 0) + name))

    def ready(self):
        """READY, after any QUEUED; the idle time-out granted."""
        granted, zero = struct.unpack("<II", self.expect("READY"))
        assert zero == 0
        return granted

    def rows2(self, rows, encode):
        payload = struct.pack("<II", len(rows), 0) + b"".join(struct.pack("<Q", key) for key, _ in rows) + b"".join(encode(values) for _, values in rows)
        self.send(frame("ROWS", payload))

    def end2(self, n):
        self.send(frame("END", struct.pack("<Q", n)))

    def index(self):
        """(rows, bytes, format) of INDEX."""
        rows, size, file_format, zero = struct.unpack("<QQII", self.expect("INDEX"))
        assert zero == 0
        return rows, size, file_format

    def data(self, size, have=b"", stop=None):
        """DATA frames up to `size` bytes in all, or until `stop` bytes are there. What there is then."""
        data = bytearray(have)
        while len(data) < (size if stop is None else stop):
            payload = self.expect("DATA")
            offset, = struct.unpack_from("<Q", payload)
            assert offset == len(data), f"offset {offset}, {len(data)} bytes are here"
            data += payload[8:]
            assert len(data) <= size
        return bytes(data)

    def done(self, data):
        """DONE must agree with the data; RECEIVED, and the end."""
        got = self.expect("DONE")
        assert struct.unpack_from("<Q", got) == (len(data),) and got[8:] == sum128(data), "DONE says something else"

    def received(self):
        self.send(frame("RECEIVED"))
        assert self.rest() == b"", "bytes after RECEIVED"

    def resume(self, earlier, welcome, offset, key=None):
        nonce = os.urandom(32)
        shown = proof("resume", key or earlier.resume_key, welcome.nonce, nonce, earlier.session, offset)
        self.send(frame("RESUME", earlier.session + nonce + shown + struct.pack("<Q", offset)))


def build2(address, job, rows, tls=None, token=None, batch=100, encode=None, **begin):
    """A whole build. The file, after its announcements and sums were checked."""
    job.capacity = len(rows)
    with Client2(address, tls) as client:
        client.open(token)
        client.begin2(job, **begin)
        client.ready()
        for at in range(0, len(rows), batch):
            client.rows2(rows[at:at + batch], encode or job.vector)
        client.end2(len(rows))
        count, size, file_format = client.index()
        assert (count, file_format) == (len(rows), begin.get("file_format", LANTERN_FILE)), (count, file_format)
        data = client.data(size)
        client.done(data)
        client.received()
        return data


__all__ = ["ANNEX_FILE", "Client2", "Closed", "Job", "LANTERN_FILE", "NATIVE", "PAYLOAD_MAX", "PLAIN", "Refused", "TYPES", "USEARCH_FILE",
           "build2", "crc16", "frame", "head", "proof", "statuses", "sum64", "sum128", "upgrade"]
