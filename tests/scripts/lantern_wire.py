"""The indexing server from outside: the program on free ports, a client of protocol version 1, and a reader of the index file.

Written from the description of Lantern's protocol and file layout, without a line of the C code, so that both can be wrong only
separately. Python's standard library is all it needs. Everything has a deadline; nothing sleeps to wait for something.

    with Server() as server:
        job = Job("cos", "f32", dim=3, m=12)
        rows = [(label(0, 1), (0.0, 1.0, 0.0))]
        Index(build(server.address, job, rows)).check(job, rows)
"""
import heapq
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
ANNEX = os.path.abspath(os.path.join(os.environ.get("ANX_BUILD", os.path.join(ROOT, "build")), "annex"))
DEADLINE = 60.0  # for anything that should take milliseconds; a sanitizer on a busy machine gets there too

INIT, END, ERROR = b"\x37\x33\x33\x13", b"\x37\x33\x33\x31", b"\x37\x33\x33\x37"
METRICS = {"cos": (1, "c"), "l2sq": (3, "e"), "hamming": (8, "b")}  # number on the wire, letter in the file
KINDS = {"f32": (1, 5), "f16": (3, 6), "i8": (4, 15), "b1": (5, 1)}  # number on the wire, number in the file
FILE_HEAD = 136
# Error texts that come as the original sends them, byte by byte. All others end with a zero byte, which its clients need.
BARE = (b"Invalid message header", b"Invalid frame received")


def until(what, probe, seconds=DEADLINE):
    """Polls until probe() is true; its value."""
    limit = time.monotonic() + seconds
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > limit:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.01)


# ---------------------------------------------------------------------------------------------------------------- the program


class Server:
    """`annex start-indexing-server` on loopback and free ports, with a temp folder of its own; .log has its lines."""

    def __init__(self, *words, program=ANNEX, tmp_dir=None):
        self.folder = None
        words = list(words)
        if tmp_dir is None and "--tmp-dir" not in words:
            self.folder = tempfile.TemporaryDirectory()
            tmp_dir = self.folder.name
        self.tmp_dir = tmp_dir
        for name, value in (("--host", "127.0.0.1"), ("--port", "0"), ("--status-port", "0"), ("--tmp-dir", tmp_dir)):
            if name not in words and value is not None:
                words += [name, value]
        self.log = []
        self.process = subprocess.Popen([program, "start-indexing-server", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, errors="replace")
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        try:
            self.ports = until("the two lines with event=listening", self.listening)
        except BaseException:
            self.process.kill()
            raise
        self.address = ("127.0.0.1", self.ports[0])

    def read(self):
        for line in self.process.stdout:
            self.log.append(line.rstrip("\n"))

    def listening(self):
        if self.process.poll() is not None:
            self.reader.join(DEADLINE)
            raise AssertionError("the server did not start:\n" + "\n".join(self.log))
        lines = [fields(line) for line in list(self.log) if "event=listening" in line]
        # One line for each of the two; the status server's says so.
        status = [int(line["port"]) for line in lines if "status" in line.values()]
        index = [int(line["port"]) for line in lines if "status" not in line.values()]
        return (index[0], status[0]) if index and status else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, number=signal.SIGTERM):
        """Ends it, and fails when it does not end well by itself: a crash, a leak report, a build that does not let go."""
        if self.process.stdout.closed:
            return self.process.returncode
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait(DEADLINE)
            self.log.append("killed: it did not end by itself")
        self.reader.join(DEADLINE)
        self.process.stdout.close()
        if self.folder:
            self.folder.cleanup()
        assert code in (0, -number), f"the server ended with {code}:\n" + "\n".join(self.log[-60:])
        return code

    def get(self, path="/", method="GET"):
        """(HTTP status, content type, body) of the status server."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[1]}{path}", method=method, data=b"" if method == "POST" else None)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as reply:
                return reply.status, reply.headers.get("Content-Type"), reply.read().decode()
        except urllib.error.HTTPError as err:
            with err:
                return err.code, err.headers.get("Content-Type"), err.read().decode()

    def status(self):
        code, kind, body = self.get()
        match = re.fullmatch(r'\{"status":([0-3]),"status_updated_at":(\d{13})\}', body)
        assert code == 200 and kind == "application/json" and match, f"status server answered {code} {kind} {body!r}"
        return int(match.group(1)), int(match.group(2))

    def said(self, text):
        return any(text in line for line in list(self.log))

    def n_fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory_kb(self):
        """Bytes in memory now, in KiB."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))


def fields(line):
    return {name: value.strip('"') for name, value in re.findall(r'(\w+)=("[^"]*"|\S+)', line)}


def certificate(folder, name="cert", subject="/C=US/ST=California/L=San Francisco/O=MyCompany/CN=example.com"):
    """The product page's openssl command, in a folder of its own. Paths of certificate and key."""
    cert, key = os.path.join(folder, name + ".pem"), os.path.join(folder, name + "-key.pem")
    subprocess.run(["openssl", "req", "-x509", "-nodes", "-days", "365", "-newkey", "rsa:2048", "-keyout", key, "-out", cert, "-subj", subject],
                   check=True, capture_output=True)
    return cert, key


def trusting():
    """TLS as the original extension does it: nothing is verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# ----------------------------------------------------------------------------------------------------------------- the client


class ServerError(Exception):
    """An error frame; its text without the zero byte."""


class Closed(Exception):
    """The connection ended where more bytes were due."""


@dataclass
class Job:
    metric: str = "l2sq"
    kind: str = "f32"
    dim: int = 8  # bits for hamming
    m: int = 8
    ef_construction: int = 64
    ef: int = 64
    capacity: int = 1
    pq: int = 0
    n_centroids: int = 0
    n_subvectors: int = 0

    def init(self, **other):
        """The INIT frame; `other` replaces fields by numbers."""
        words = {"pq": self.pq, "metric": METRICS[self.metric][0], "kind": KINDS[self.kind][0], "dim": self.dim, "m": self.m,
                 "ef_construction": self.ef_construction, "ef": self.ef, "n_centroids": self.n_centroids, "n_subvectors": self.n_subvectors,
                 "capacity": self.capacity, "element_bits": 1 if self.metric == "hamming" else 32}
        assert set(other) <= set(words)
        words.update(other)
        return INIT + struct.pack("<11I", *words.values())

    def vector(self, values):
        """A vector as the client sends it: floats, or the integers whose bits hamming compares."""
        if self.metric == "hamming":
            return struct.pack(f"<{self.dim // 32}i", *values)
        return struct.pack(f"<{self.dim}f", *values)

    def row(self, row):
        return struct.pack("<Q", row[0]) + self.vector(row[1])

    def stored(self, values):
        """A vector as the index stores it."""
        sent = self.vector(values)
        if self.metric == "hamming" or self.kind == "f32":
            return sent
        floats = struct.unpack(f"<{self.dim}f", sent)
        if self.kind == "f16":
            return struct.pack(f"<{self.dim}e", *floats)
        if self.kind == "i8":  # x * 100 in single precision, clamped, cut towards zero
            hundreds = (struct.unpack("<f", struct.pack("<f", x * 100.0))[0] for x in floats)
            return struct.pack(f"<{self.dim}b", *(int(max(-100.0, min(100.0, x))) for x in hundreds))
        bits = "".join("1" if x > 0 else "0" for x in floats)
        return int(bits, 2).to_bytes(self.dim // 8, "big")

    def vector_size(self):
        return {"f32": 4 * self.dim, "f16": 2 * self.dim, "i8": self.dim, "b1": self.dim // 8}[self.kind]

    def file_size(self, levels):
        return FILE_HEAD + sum(10 + 4 + 12 * self.m + level * (4 + 6 * self.m) + self.vector_size() for level in levels)


def label(block, offset):
    """A heap TID as the extension sends it: u16 block high, u16 block low, u16 offset, two zero bytes."""
    return int.from_bytes(struct.pack("<HHHH", block >> 16, block & 0xFFFF, offset, 0), "little")


def labels(n):
    """As in a heap of 7 rows a page."""
    return [label(i // 7, i % 7 + 1) for i in range(n)]


class Client:
    """One connection, step by step. tls: an SSLContext or None."""

    def __init__(self, address, tls=None, timeout=DEADLINE, receive_buffer=None):
        self.tls, self.timeout = tls, timeout
        self.sock = socket.socket(socket.AF_INET)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(address)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                self.sock = tls.wrap_socket(self.sock)
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def read(self, n):
        parts = []
        while n:
            part = self.sock.recv(min(n, 1 << 16))
            if not part:
                raise Closed(f"{n} bytes short")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def field(self, n, first=b""):
        """n bytes, unless an error frame stands in their place."""
        start = first or self.read(min(n, 4))
        if start == ERROR:
            size = struct.unpack("<I", self.read(4))[0]
            assert size <= 1000, f"an error text of {size} bytes overruns original clients"
            text = self.read(size)
            if text not in BARE:
                assert text[-1:] == b"\0" and b"\0" not in text[:-1], f"error text not ended by one zero byte: {text!r}"
            raise ServerError(text.rstrip(b"\0").decode())
        return start + self.read(n - len(start))

    def hello(self):
        """The server's type: 1 indexer, 2 router."""
        version, kind = struct.unpack("<II", self.field(8))
        assert version == 1, f"version {version}"
        return kind

    def route(self):
        """Asks a router: (is secure, (host, port)); the wait is as long as the queue."""
        self.send(struct.pack("<I", 3))
        secure, size = struct.unpack("<II", self.field(8))
        assert secure in (0, 1) and 0 < size < 1024, (secure, size)
        host = self.read(size).decode()
        return bool(secure), (host, struct.unpack("<I", self.read(4))[0])

    def ack(self):
        start = self.read(1)
        if start != b"\0":
            self.field(4, start + self.read(3))
            raise AssertionError(f"neither ack nor error: {start!r}")

    def begin(self, job):
        self.send(job.init())
        self.ack()

    def rows(self, job, rows):
        self.send(b"".join(job.row(row) for row in rows))

    def end(self):
        """END; then (count, the file), to the end of the stream."""
        self.send(END)
        return self.result()

    def result(self):
        count, = struct.unpack("<Q", self.field(8))
        size, = struct.unpack("<Q", self.field(8))
        return count, self.field(size), self.rest()

    def rest(self):
        """What is left until the server closes; an end of stream without close_notify is one too."""
        parts = []
        try:
            while part := self.sock.recv(1 << 16):
                parts.append(part)
        except ssl.SSLEOFError:
            pass
        return b"".join(parts)

    def error(self):
        """The text of the error frame that must come now, and then the end, whatever else was on its way before."""
        try:
            self.field(4)
        except ServerError as err:
            assert self.rest() == b"", "bytes after an error frame"
            return str(err)
        raise AssertionError("no error frame")


def build(address, job, rows, tls=None, timeout=DEADLINE):
    """A whole build as the original client does it, routers followed. The file, after its announcements were checked."""
    job.capacity = max(1, len(rows))
    for _ in range(4):
        with Client(address, tls, timeout) as client:
            if client.hello() == 2:
                secure, address = client.route()
                assert secure == bool(tls), "the route has the other TLS flag"
                continue
            client.begin(job)
            client.rows(job, rows)
            count, data, rest = client.end()
            assert rest == b"", f"{len(rest)} bytes after the file"
            assert count == len(rows), f"{count} vectors announced, {len(rows)} sent"
            return data
    raise AssertionError("routed in circles")


# ------------------------------------------------------------------------------------------------------------- the index file


class Damaged(Exception):
    """What an importer must refuse."""


def need(holds, text):
    if not holds:
        raise Damaged(text)


class Index:
    """The fork's file: 136 bytes, then nodes with their vectors inside. Reading it checks all that the file alone can tell.
    strict: also what is merely senseless (a link to oneself, a neighbor twice); files of the original have that."""

    def __init__(self, data, strict=True):
        need(len(data) >= FILE_HEAD, f"{len(data)} bytes are no header")
        need(data[:7] == b"usearch", "magic")
        self.version = struct.unpack_from("<3H", data, 7)
        need(self.version == (2, 8, 14), f"version {self.version}")
        self.metric, self.kind, key_kind, slot_kind = chr(data[13]), data[14], data[15], data[16]
        need((key_kind, slot_kind) == (8, 16), f"key kind {key_kind}, slot kind {slot_kind}")
        present, deleted, self.dim, multi = struct.unpack_from("<QQQB", data, 17)
        need((deleted, multi, data[42:80]) == (0, 0, bytes(38)), "deleted, multi, spare bytes not zero")
        size, self.m, m0, top, self.entry, self.vector_size, nodes = struct.unpack_from("<7Q", data, 80)
        need(m0 == 2 * self.m, f"m0 {m0}, m {self.m}")
        need(present == size == nodes, f"counts {present}, {size}, {nodes}")
        self.nodes = []  # (key, [neighbors per level], vector)
        at = FILE_HEAD
        for _ in range(size):
            at = self.node(data, at)
        need(at == len(data), f"{len(data)} bytes, nodes end at {at}")
        self.check_graph(top, strict)

    def node(self, data, at):
        try:
            key, level = struct.unpack_from("<Qh", data, at)
            need(0 <= level < 100, f"level {level}")
            at += 10
            lists = []
            for i in range(level + 1):
                count, = struct.unpack_from("<I", data, at)
                room = self.m * (2 if i == 0 else 1)
                need(count <= room, f"{count} neighbors where {room} fit")
                slots = data[at + 4:at + 4 + 6 * room]
                need(len(slots) == 6 * room, "cut in a list")
                need(not any(slots[6 * count:]), "unused slots are not zero")
                lists.append([int.from_bytes(slots[6 * j:6 * j + 6], "little") for j in range(count)])
                at += 4 + 6 * room
            vector = data[at:at + self.vector_size]
            need(len(vector) == self.vector_size, "cut in a vector")
        except struct.error as err:
            raise Damaged("cut in a node") from err
        self.nodes.append((key, lists, vector))
        return at + self.vector_size

    def check_graph(self, top, strict):
        if not self.nodes:
            need(top == 0xFFFFFFFFFFFFFFFF, f"maximum level {top:x} of an empty index")
            return
        need(self.entry < len(self.nodes), f"entry {self.entry}")
        need(len(self.nodes[self.entry][1]) - 1 == top, "the entry is not on the maximum level")
        for slot, (_, lists, _) in enumerate(self.nodes):
            need(len(lists) - 1 <= top, "a level above the maximum")
            for level, near in enumerate(lists):
                need(not strict or slot not in near, f"node {slot} is its own neighbor")
                need(not strict or len(set(near)) == len(near), f"a neighbor twice at node {slot}")
                for other in near:
                    need(other < len(self.nodes), f"slot {other}")
                    need(len(self.nodes[other][1]) > level, f"neighbor {other} is not on level {level}")

    def check(self, job, rows, metric=None):
        """Against what was asked for and sent. metric: where the file must name another than was asked for."""
        need((self.metric, self.kind) == (METRICS[metric or job.metric][1], KINDS[job.kind][1]), f"metric {self.metric}, kind {self.kind}")
        need((self.dim, self.m, self.vector_size) == (job.dim, job.m, job.vector_size()), f"dim {self.dim}, m {self.m}, {self.vector_size}")
        keys = [key for key, _, _ in self.nodes]
        need(len(set(keys)) == len(keys), "a label twice")
        need(set(keys) == {key for key, _ in rows}, "other labels than were sent")
        sent = {key: job.stored(values) for key, values in rows}
        wrong = [key for key, _, vector in self.nodes if vector != sent[key]]
        need(not wrong, f"{len(wrong)} vectors are not those sent, e.g. label {wrong[0]:x}" if wrong else "")

    # The walk that the original extension makes through the pages: greedy on the upper levels, best first on level 0.

    def decode(self, vector):
        if self.kind == 1:
            return int.from_bytes(vector, "big")
        return struct.unpack(f"<{self.dim}{ {5: 'f', 6: 'e', 15: 'b'}[self.kind]}", vector)

    def distance(self, a, b):
        if self.kind == 1:
            return (a ^ b).bit_count()
        if self.metric == "e":
            return sum((x - y) ** 2 for x, y in zip(a, b))
        ab, aa, bb = sum(x * y for x, y in zip(a, b)), sum(x * x for x in a), sum(y * y for y in b)
        return 1.0 - ab / (aa * bb) ** 0.5 if aa and bb else (1.0 if aa or bb else 0.0)

    def search(self, query, k, ef):
        """[(distance, label)] for a vector in stored form, by walking the links."""
        if not hasattr(self, "values"):
            self.values = [self.decode(vector) for _, _, vector in self.nodes]
        asked = self.decode(query)
        near = self.entry
        best = self.distance(asked, self.values[near])
        for level in range(len(self.nodes[near][1]) - 1, 0, -1):
            moved = True
            while moved:
                moved = False
                for other in self.nodes[near][1][level]:
                    d = self.distance(asked, self.values[other])
                    if d < best:
                        best, near, moved = d, other, True
        seen, open_list, found = {near}, [(best, near)], [(-best, near)]
        while open_list:
            d, slot = heapq.heappop(open_list)
            if len(found) >= ef and d > -found[0][0]:
                break
            for other in self.nodes[slot][1][0]:
                if other in seen:
                    continue
                seen.add(other)
                d = self.distance(asked, self.values[other])
                if len(found) < ef or d < -found[0][0]:
                    heapq.heappush(open_list, (d, other))
                    heapq.heappush(found, (-d, other))
                    if len(found) > ef:
                        heapq.heappop(found)
        return sorted((-d, self.nodes[slot][0]) for d, slot in found)[:k]

    def exact(self, query, k):
        asked = self.decode(query)
        return sorted((self.distance(asked, self.decode(vector)), key) for key, _, vector in self.nodes)[:k]

    def recall(self, queries, k=10, ef=64):
        """Share of the k nearest that the walk finds; ties at the k-th distance all count."""
        hits = total = 0
        for query in queries:
            truth = self.exact(query, k)
            limit = truth[-1][0] * (1 + 1e-9) + 1e-12
            hits += sum(d <= limit for d, _ in self.search(query, k, ef))
            total += len(truth)
        return hits / total if total else 1.0
