"""Login, ping, framing, compression, TLS, sockets, users; frames forged, cut, too large and out of order."""
import json
import os
import random
import re
import resource
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest

from client import PK, Closed, Connection, Db, Refused, Server, free_port, index, until, vector_index
from query import Query
from wire import COMMANDS, COMPRESSED, DEDICATED, MAGIC, VERSION, I64, arguments, frame, request, snappy_pack, varuint


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)

    def connect(self):
        connection = Connection(("127.0.0.1", self.server.port))
        self.addCleanup(connection.sock.close)
        return connection

    def refused(self, code, call, *values, **other):
        with self.assertRaises(Refused) as caught:
            call(*values, **other)
        self.assertEqual(caught.exception.code, code, caught.exception.text)


class Login(Case):
    def test_reply(self):
        first, second = self.connect(), self.connect()
        version, start = first.login()
        self.assertRegex(version.decode(), r"^v\d+\.\d+\.\d+(-\d+-g[0-9a-f]{9})?$")
        self.assertGreaterEqual(int(re.match(r"v(\d+)", version.decode()).group(1)), 5)
        self.assertIsInstance(start, I64)
        self.assertGreater(start, 1_500_000_000)
        self.assertEqual(second.login(), [version, start], "the start is the server's, the same for every connection")
        self.assertEqual(first.last_version & 0x3FF, VERSION)

    def test_order(self):
        connection = self.connect()
        self.assertEqual(connection.call("ping"), [])
        for name, values in (("open", ["{}"]), ("select", [b"", 0, 0, b"\0"]), ("enum_meta", ["t"])):
            with self.subTest(name):
                self.refused(9, connection.call, name, *values)
        connection.login()
        self.refused(3, connection.login)
        self.assertEqual(connection.call("ping"), [])

    def test_databases(self):
        self.refused(13, self.connect().login, "none_such", create=False)
        self.connect().login("made_by_login")
        self.connect().login("made_by_login", create=False)
        self.assertIn("made_by_login", self.server.rest("GET", "/api/v1/db")[1]["items"])
        for name in ("a b", "../up", "a/b"):
            with self.subTest(name):
                self.assertRaises(Refused, self.connect().login, name)
        empty = self.connect()
        empty.login("")
        self.refused(3, empty.call, "enum_meta", "t")

    def test_older_clients(self):
        """They send fewer arguments."""
        connection = self.connect()
        connection.login("old")
        for n, ends in ((3, "old"), (4, "old2"), (8, "old3")):
            with self.subTest(n):
                values = ["", "", ends, True, False, -1, "v3.0.0", "old"][:n]
                self.assertEqual(len(self.connect().call("login", *values)), 2)

    def test_no_context(self):
        """The second list of arguments may be missing."""
        connection = self.connect()
        connection.send(frame("ping", arguments(), 3))
        self.assertEqual(connection.reply(), (0, 3, 0, "", []))

    def test_bytes_of_a_ping(self):
        connection = self.connect()
        connection.send(request("ping", seq=512))
        self.assertEqual(connection.read(19), bytes.fromhex("3211DDEE0401000003000000000200000000 00".replace(" ", "")))


class Frames(Case):
    def test_pipelined(self):
        """512 requests at once, and the same bytes cut at every place."""
        connection = self.connect()
        connection.login()
        connection.send(b"".join(request("ping", seq=n) for n in range(512)))
        self.assertEqual(sorted(connection.reply()[1] for _ in range(512)), list(range(512)))
        data = request("get_meta", "#config", "key", seq=77)
        for cut in range(1, len(data)):
            connection.send(data[:cut])
            connection.send(data[cut:])
            self.assertEqual(connection.reply()[:2], (COMMANDS["get_meta"], 77))
        for byte in request("ping", seq=78):
            connection.send(bytes([byte]))
        self.assertEqual(connection.reply()[1], 78)

    def test_dedicated(self):
        """The client may ask for a thread of its own: bit 11, without a meaning here."""
        connection = self.connect()
        connection.send(request("ping", seq=1, version=VERSION | DEDICATED))
        self.assertEqual(connection.reply()[1:3], (1, 0))

    def test_forged_heads(self):
        """An error, and the end."""
        for name, data in (("magic", frame("ping", b"\0", magic=MAGIC ^ 1)), ("version", frame("ping", b"\0", version=0x100)), ("zero", bytes(64)), ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
                           ("all ones", b"\xff" * 64)):
            with self.subTest(name):
                connection = self.connect()
                connection.send(data)
                command, seq, code, text, _ = connection.reply()
                self.assertEqual((command, seq, code), (0, 0, 3))
                self.assertTrue(text)
                self.assertTrue(connection.is_closed())

    def test_oversized(self):
        """A length that no client sends is refused before it is waited for."""
        for size in (0xFFFFFFFF, 0x80000000):
            with self.subTest(size):
                connection = self.connect()
                connection.send(frame("ping", b"", seq=4, length=size))
                self.assertNotEqual(connection.reply()[2], 0)
                self.assertTrue(connection.is_closed())

    def test_cut(self):
        """A frame that never comes whole is nobody's loss."""
        data = request("login", "", "", "test", True, seq=1)
        for cut in (1, 8, 15, 16, 17, len(data) - 1):
            connection = self.connect()
            connection.send(data[:cut])
            connection.sock.close()
        self.assertEqual(self.connect().call("ping"), [])

    def test_arguments(self):
        """Wrong counts and types, and lists that lie: always an error, and a server that lives."""
        good = ["", "", "test", True]
        bodies = [b"", b"\x01", b"\xff" * 10, varuint(1 << 40), b"\x01\x09", b"\x01\x0a", b"\x01\x02\xff\xff\xff\xff\x7f", b"\x01\x0b" * 300, b"\x02\x0d\xff\xff\xff\x0f",
                  b"\x01\x0d\x03", arguments(1, 2), b"\x04\x02\x00", arguments(*good)[:-1], arguments(*good) + b"\x05"]
        for body in bodies:
            with self.subTest(body.hex()[:40]):
                connection = self.connect()
                connection.send(frame("login", body, 9))
                try:
                    _, seq, code, text, _ = connection.reply()
                except Closed:
                    continue
                self.assertEqual(seq, 9)
                self.assertTrue(code == 0 or text)
        # Each command without arguments, and with ones of other types: never silence, never a crash.
        for name in COMMANDS:
            if name in ("ping", "login", "event"):
                continue
            for values in ([], [True], [I64(-1), 1.5], [b"\xff" * 20] * 8, [-1] * 8):
                if name == "close_results" and len(values) == 8:
                    continue  # its third argument may ask for no reply
                with self.subTest(name, values=values):
                    try:
                        db = Db(self.server)
                        db.call(name, *values)
                    except (Refused, Closed):
                        pass
                    finally:
                        db.sock.close()
        self.assertEqual(self.connect().call("ping"), [])

    def test_unknown_commands(self):
        for number in (7, 15, 23, 99, 127, 128, 65535):
            with self.subTest(number), Db(self.server) as db:
                try:
                    self.refused(3, db.call, number)
                except Closed:
                    self.fail("closed without an error")

    def test_random_bytes(self):
        """Frames with damage in one place; the seed is fixed."""
        rng = random.Random(8)
        good = [request("login", "", "", "test", True, seq=1), request("open", '{"name":"t"}', seq=2),
                request("modify", "t", 1, b"\x07\x0a\0\0\0\x06\x08\x0e\x07\x01\x02id", 2, "", 0, 0, seq=3),
                request("select", Query("t").where("id", "eq", 1).knn("v", [1, 2], k=3).pack(), 0x2032, 10, b"\x01\x01", seq=4)]
        for _ in range(300):
            connection = self.connect()
            try:
                connection.send(good[0])
                connection.reply()
                data = bytearray(rng.choice(good))
                for _ in range(rng.randrange(1, 4)):
                    data[rng.randrange(16, len(data))] = rng.randrange(256)
                connection.send(data)
                connection.reply()
            except Closed:
                pass
            connection.sock.close()
        self.assertEqual(self.connect().call("ping"), [])


class Compression(Case):
    def test_both_ways(self):
        with Db(self.server) as db:
            db.compressed = True
            db.open("packed", PK, index("s", "string", "tree"))
            docs = [{"id": i, "s": "same text " * 40} for i in range(50)]
            db.upsert_all("packed", docs)
            got = db.select(Query("packed").sort("id"))
            self.assertEqual(got.docs(), docs)
            db.compressed = False
            self.assertEqual(db.select(Query("packed").sort("id")).docs(), docs)
            self.assertFalse(db.last_version & COMPRESSED, "a plain request has a plain reply")

    def test_damage(self):
        body = arguments() + arguments(I64(0))
        for name, data in (("nothing", b""), ("not snappy", b"\xff" * 30), ("cut", snappy_pack(body * 50)[:-3]), ("bomb", varuint(1 << 31) + b"\0a"),
                           ("copy from nowhere", b"\x08\x04ab\x09\x09"), ("longer than said", b"\x01" + snappy_pack(b"abcdef")[1:])):
            with self.subTest(name), Db(self.server) as db:
                db.send(frame("ping", data, 5, VERSION | COMPRESSED))
                try:
                    self.assertNotEqual(db.reply()[2], 0)
                except Closed:
                    pass
        self.assertEqual(self.connect().call("ping"), [])


class Doors(unittest.TestCase):
    """TLS, a unix socket, users."""

    def test_tls_and_unix(self):
        with tempfile.TemporaryDirectory() as folder:
            cert, key, path = (os.path.join(folder, name) for name in ("cert.pem", "key.pem", "sock"))
            subprocess.run(["openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "rsa:2048", "-keyout", key, "-out", cert, "-subj", "/CN=localhost"],
                           check=True, capture_output=True)
            port = free_port()
            server = Server("--rpcsaddr", f"127.0.0.1:{port}", "--ssl-cert", cert, "--ssl-key", key, "--urpcaddr", path)
            try:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                with Db(server, address=("127.0.0.1", port), tls=context) as db, Db(server, address=path) as local, Db(server) as plain:
                    db.open("t", PK)
                    db.modify("t", {"id": 1, "text": "x" * 100_000})
                    for one in (db, local, plain):
                        self.assertEqual(len(one.select(Query("t")).docs()[0]["text"]), 100_000)
                with Connection(("127.0.0.1", port)) as naked:
                    naked.send(request("ping"))
                    self.assertRaises((Closed, Exception), naked.reply)
            finally:
                server.stop()

    def test_users(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "users.yml"), "w", encoding="ascii") as file:
                file.write("owner:\n  hash: secret\n  roles:\n    \"*\": owner\nreader:\n  hash: plain\n  roles:\n    test: data_read\n")
            server = Server("--security", folder=folder)
            try:
                for user, password in (("", ""), ("owner", "wrong"), ("nobody", "secret"), ("owner", "")):
                    with self.subTest(user), Connection(("127.0.0.1", server.port)) as connection, self.assertRaises(Refused) as caught:
                        connection.login(user=user, password=password)
                    self.assertEqual(caught.exception.code, 9)
                with Db(server, user="owner", password="secret") as owner, Db(server, user="reader", password="plain", create=False) as reader:
                    owner.open("t", PK)
                    owner.modify("t", {"id": 1})
                    self.assertEqual(reader.select(Query("t")).ids(), [1])
                    for call in (lambda: reader.modify("t", {"id": 2}), lambda: reader.call("drop", "t"), lambda: reader.delete_query(Query("t")),
                                 lambda: reader.call("add_index", "t", json.dumps(index("x", "int"))), lambda: reader.call("put_meta", "t", "k", "v"),
                                 lambda: reader.call("begin_tx", "t")):
                        with self.assertRaises(Refused) as caught:
                            call()
                        self.assertEqual(caught.exception.code, 9, caught.exception.text)
                    self.assertEqual(owner.select(Query("t")).ids(), [1])
            finally:
                server.stop()


class FewDescriptors(unittest.TestCase):
    """More connections than descriptors: the rest wait in the kernel, the loops do not spin, and all is well afterwards."""

    def test_accept(self):
        server = Server()
        self.addCleanup(server.stop)
        soft = len(os.listdir(f"/proc/{server.process.pid}/fd")) + 20
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (soft, soft))
        crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
        until("refusal to accept", lambda: "event=accept_failed server=rpc" in server.log())
        for sock in crowd:
            sock.close()
        with Connection(("127.0.0.1", server.port)) as connection:
            self.assertEqual(connection.call("ping"), [])
        self.assertLess(server.log().count("accept"), 200, "they spun")


class SlowReader(Case):
    """A client that asks for much and reads nothing: what it has not read yet is not made."""
    N, SIZE = 600, 1 << 20

    def sent(self):
        """The most that was answered to one connection, once it rests."""
        last, same = -1, 0
        while same < 20:
            reply = self.server.rest("POST", "/api/v1/db/test/sqlquery", "SELECT sent_bytes FROM #clientsstats")[1]
            most = max(item["sent_bytes"] for item in reply["items"])
            last, same = most, same + 1 if most == last else 0
        return last

    def test_answers_wait(self):
        db = Db(self.server)
        self.addCleanup(db.sock.close)
        db.open("big", PK)
        db.modify("big", {"id": 1, "text": "x" * self.SIZE})
        before = self.server.memory_kb("VmHWM")
        db.send(b"".join(request("sql", "SELECT * FROM big", 3, 10, b"\0", seq=1000 + i) for i in range(self.N)))
        for i in range(self.N):
            if i in (0, 100):
                self.sent()
            command, seq, code, text, values = db.reply()
            self.assertEqual((command, seq, code, len(values)), (COMMANDS["sql"], 1000 + i, 0, 3), text)
            self.assertGreater(len(values[0]), self.SIZE)
        self.assertLess(self.server.memory_kb("VmHWM") - before, 256 << 10)


class HangingService(Case):
    """Writers that wait for an embedding service keep no worker from others: more of them than the server has workers."""

    def test_others_go_on(self):
        with socket.create_server(("127.0.0.1", 0), backlog=64) as service:
            service.settimeout(20)
            self.db = Db(self.server)
            self.addCleanup(self.db.sock.close)
            pool = {"connections": 64, "connect_timeout_ms": 5000, "read_timeout_ms": 60000}
            embedder = {"URL": f"http://127.0.0.1:{service.getsockname()[1]}", "name": "e", "cache_tag": "c", "fields": ["t"], "pool": pool}
            self.db.open("h", PK, index("t", "string", "-"), vector_index("v", "vec_bf", 4, embedding={"upsert_embedder": embedder}))
            self.db.open("other", PK)
            writers = [Db(self.server) for _ in range(24)]
            asked = [threading.Thread(target=self.write, args=(writer, i)) for i, writer in enumerate(writers)]
            for thread in asked:
                thread.start()
            waiting = [service.accept()[0] for _ in writers]  # all of them wait now
            self.db.modify("other", {"id": 1})
            self.assertEqual(self.db.select(Query("other").where("id", "gt", 0)).ids(), [1])
            for connection in waiting:
                connection.close()
            for thread in asked:
                thread.join(60)
                self.assertFalse(thread.is_alive())
            self.assertEqual(self.db.select(Query("h")).ids(), [])

    def test_items_of_transactions(self):
        """Adding one is short, unless its vector has to be asked for: then no event loop waits, which would stop every client on it."""
        with socket.create_server(("127.0.0.1", 0)) as service:
            service.settimeout(20)
            db = Db(self.server)
            self.addCleanup(db.sock.close)
            pool = {"connect_timeout_ms": 5000, "read_timeout_ms": 60000}
            embedder = {"URL": f"http://127.0.0.1:{service.getsockname()[1]}", "name": "e", "cache_tag": "c", "fields": ["t"], "pool": pool}
            db.open("in_tx", PK, index("t", "string", "-"), vector_index("v", "vec_bf", 4, embedding={"upsert_embedder": embedder}))
            tx = db.begin("in_tx")
            others = [Connection(("127.0.0.1", self.server.port)) for _ in range(2 * os.cpu_count() + 4)]  # on every loop
            adding = threading.Thread(target=self.add, args=(db, tx))
            adding.start()
            with service.accept()[0]:
                for other in others:
                    with other:
                        self.assertEqual(other.call("ping"), [])
            adding.join(60)
            self.assertFalse(adding.is_alive())

    @staticmethod
    def add(db, tx):
        try:
            db.tx_item("in_tx", tx, {"id": 1, "t": "text"})
        except Refused:
            pass  # its service went away

    @staticmethod
    def write(writer, i):
        try:
            writer.modify("h", {"id": i, "t": f"text {i}"})
        except Refused:
            pass  # its service went away
        finally:
            writer.sock.close()


if __name__ == "__main__":
    unittest.main()
