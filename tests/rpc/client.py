"""A server to test, a connection step by step, and a client that keeps dictionaries as the Go connector does."""
import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from query import CJSON, OBJECTS, State, read_result, versions
from wire import COMPRESSED, COMMANDS, HEAD, MAGIC, VERSION, Broken, Names, Reader, I64, document, request, snappy_pack, snappy_unpack, varuint, vstr

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
ANNEX = os.path.join(os.path.abspath(os.environ.get("ANX_BUILD", os.path.join(ROOT, "build"))), "annex")
DEADLINE = 30
UPDATE, INSERT, UPSERT, DELETE = range(4)
ITEM_JSON, ITEM_CJSON = 0, 1


class Refused(Exception):
    """An error reply."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


class Closed(Exception):
    """The server closed the connection where a reply was due."""


def until(what, ready, deadline=DEADLINE):
    """Polls; there is no other way to see a process start."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        value = ready()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"no {what} within {deadline} s")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """`annex serve` on loopback and free ports; its folder goes when it stops."""

    def __init__(self, *words, folder=None, **env):
        self.temporary = tempfile.TemporaryDirectory(prefix="annex-rpc-")
        self.folder = folder or os.path.join(self.temporary.name, "db")
        self.words, self.env = words, env
        self.log_path = os.path.join(self.temporary.name, "log")
        self.process = None
        self.start()

    def start(self):
        self.port, self.http = free_port(), free_port()
        words = [ANNEX, "serve", "--db", self.folder, "--httpaddr", f"127.0.0.1:{self.http}", "--rpcaddr", f"127.0.0.1:{self.port}",
                 "--httpsaddr", "none", "--loglevel", "warning", *self.words]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, **self.env})
        try:
            until("listening server", self.is_up)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def is_up(self):
        assert self.process.poll() is None, "the server did not start:\n" + self.log()
        for port in (self.port, self.http):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                return False
        return True

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()[-8000:]

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE)
        assert code in (0, -number), f"the server ended with {code}:\n" + self.log()

    def stop(self):
        """Fails when it crashed, or does not end by itself."""
        try:
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n" + self.log()
            self.end()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.temporary.cleanup()

    def restart(self, number=signal.SIGTERM):
        self.end(number)
        self.start()

    def rest(self, method, path, body=None):
        """(HTTP status, JSON or text)."""
        data = body if isinstance(body, (bytes, type(None))) else (body if isinstance(body, str) else json.dumps(body)).encode()
        call = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", method=method, data=data)
        try:
            with urllib.request.urlopen(call, timeout=DEADLINE) as reply:
                status, text = reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read().decode()
        return status, json.loads(text) if text.startswith(("{", "[")) else text

    def memory_kb(self, what="VmRSS"):
        """VmHWM: the most so far."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(what))


class Connection:
    """Frames in, frames out. address: (host, port) or the path of a socket."""

    def __init__(self, address, tls=None):
        self.sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.sock.settimeout(DEADLINE)
        try:
            self.sock.connect(address)
            if not isinstance(address, str):
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                self.sock = tls.wrap_socket(self.sock)
        except BaseException:
            self.sock.close()
            raise
        self.seq = 0
        self.compressed = False
        self.events = []
        self.last_version = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def read(self, n):
        out = bytearray()
        while len(out) < n:
            try:
                part = self.sock.recv(min(1 << 20, n - len(out)))
            except (ConnectionError, ssl.SSLEOFError) as error:
                raise Closed(str(error)) from error
            if not part:
                raise Closed(f"{n - len(out)} bytes short")
            out += part
        return bytes(out)

    def frame(self):
        """(command, seq, body) of the next frame."""
        magic, version, command, size, seq = HEAD.unpack(self.read(HEAD.size))
        if magic != MAGIC or version & 0x3FF < 0x101 or seq >= 512_000_000:
            raise Broken(f"head {magic:#x} {version:#x} {seq}")
        self.last_version = version
        body = self.read(size)
        return command, seq, snappy_unpack(body) if version & COMPRESSED else body

    def message(self):
        """(command, seq, code, text, arguments) of the next frame."""
        command, seq, body = self.frame()
        reader = Reader(body)
        code, text = reader.varuint(), reader.vstr().decode(errors="replace")
        values = [reader.argument() for _ in range(reader.varuint() if reader.left() else 0)]
        reader.end()
        return command, seq, code, text, values

    def reply(self):
        """The next message that is no event."""
        while True:
            message = self.message()
            if message[0] != COMMANDS["event"]:
                return message
            self.events.append(message[4][0])

    def event(self):
        """Waits for an event; no reply may be due."""
        command, seq, code, _, values = self.message()
        if (command, seq, code) != (COMMANDS["event"], 0, 0):
            raise Broken(f"command {command}, number {seq}, code {code} where an event was due")
        self.events.append(values[0])

    def call(self, command, *values, timeout_ms=0):
        """The arguments of the reply, or Refused."""
        self.seq += 1
        self.send(request(command, *values, seq=self.seq, timeout_ms=timeout_ms, pack=snappy_pack if self.compressed else None))
        got, seq, code, text, values = self.reply()
        if (got, seq) != (COMMANDS.get(command, command), self.seq):
            raise Broken(f"reply to command {got}, number {seq}; sent {command}, {self.seq}")
        if code:
            if not text:
                raise Broken(f"error {code} without a text")
            raise Refused(code, text)
        return values

    def login(self, database="test", create=True, user="", password="", capabilities=15, version="v5.15.0"):
        return self.call("login", user, password, database, create, False, -1, version, "annex-tests", I64(capabilities))

    def is_closed(self):
        """Whether the server has closed it (waits for that)."""
        try:
            self.read(1)
        except Closed:
            return True
        return False


class Db(Connection):
    """A logged-in connection that keeps the namespaces' dictionaries."""

    def __init__(self, server, database="test", tls=None, address=None, **login):
        super().__init__(address or ("127.0.0.1", server.port), tls)
        self.states = {}
        self.hello = self.login(database, **login)

    def state(self, namespace):
        return self.states.setdefault(namespace, State())

    def open(self, name, *indexes, **options):
        self.call("open", json.dumps({"name": name, "storage": {"enabled": True, "drop_on_file_format_error": False, "create_if_missing": True}, **options}))
        for definition in indexes:
            self.call("add_index", name, json.dumps(definition))
        self.call("set_schema", name, json.dumps({"type": "object", "properties": {}}))

    def result(self, values, namespaces):
        """Arguments of a reply that carries a result."""
        if len(values) != 3 or not isinstance(values[0], bytes) or isinstance(values[1], I64) or not isinstance(values[2], I64):
            raise Broken(f"result arguments {[type(v).__name__ for v in values]}")
        states = [self.state(n) for n in namespaces]
        result = read_result(values[0], states)
        result.handle, result.uid = values[1], values[2]
        return result

    def select(self, query, flags=OBJECTS, limit=1000, timeout_ms=0):
        names = query.namespaces()
        marks = versions([self.state(n) for n in names])
        return self.result(self.call("select", query.pack(), flags, limit, marks, timeout_ms=timeout_ms), names)

    def sql(self, text, namespace, flags=OBJECTS, limit=1000):
        return self.result(self.call("sql", text, flags, limit, versions([self.state(namespace)])), [namespace])

    def fetch(self, result, namespaces, offset, limit, flags=0x2000 | 0x20 | CJSON):
        return self.result(self.call("fetch", result.handle, flags, offset, limit, result.uid), namespaces)

    def item(self, namespace, doc):
        """(bytes, token) as the connector would send a document: with a dictionary when it has new names."""
        state = self.state(namespace)
        names = Names(state.names)
        data = document(doc, names)
        if len(names) > len(state.names):
            data = document(doc, names, bundled=True)
        return data, state.token

    def refresh(self, namespace):
        from query import Query
        return self.select(Query(namespace).limit(0))

    def retried(self, namespace, send):
        """Error 14 once: learn the dictionary, send again."""
        try:
            return send()
        except Refused as error:
            if error.code != 14:
                raise
            self.refresh(namespace)
            return send()

    def modify(self, namespace, doc, mode=UPSERT, precepts=()):
        packed = varuint(len(precepts)) + b"".join(map(vstr, precepts)) if precepts else b""

        def send():
            data, token = self.item(namespace, doc)
            return self.call("modify", namespace, ITEM_CJSON, data, mode, packed, token, 0)
        return self.result(self.retried(namespace, send), [namespace])

    def upsert_all(self, namespace, docs):
        for doc in docs:
            self.modify(namespace, doc)

    def begin(self, namespace):
        value, = self.call("begin_tx", namespace)
        if not isinstance(value, I64):
            raise Broken("a transaction's number must be int64")
        return value

    def tx_item(self, namespace, tx, doc, mode=UPSERT):
        def send():
            data, token = self.item(namespace, doc)
            return self.call("add_tx_item", ITEM_CJSON, data, mode, "", token, tx)
        return self.retried(namespace, send)

    def commit(self, namespace, tx):
        return self.result(self.call("commit_tx", tx), [namespace])

    def delete_query(self, query):
        return self.result(self.call("delete_query", query.pack()), [query.namespace])

    def update_query(self, query):
        return self.result(self.call("update_query", query.pack(), 0x32, versions([self.state(query.namespace)])), [query.namespace])


def index(name, field_type, index_type="", path=None, **other):
    """A definition with all keys, as the connector sends it."""
    paths = path if isinstance(path, list) else [path or name]
    return {"name": name, "json_paths": paths, "index_type": index_type, "field_type": field_type, "is_pk": False, "is_array": False, "is_dense": False,
            "is_no_column": False, "is_sparse": False, "collate_mode": "", "sort_order_letters": "", "expire_after": 0, "config": None, "rtree_type": "rstar", **other}


def vector_index(name, kind, dim, metric="l2", is_array=False, **config):
    return index(name, "float_vector", kind, is_array=is_array, config={"metric": metric, "dimension": dim, **config})


PK = index("id", "int64", is_pk=True)

__all__ = ["VERSION"]
