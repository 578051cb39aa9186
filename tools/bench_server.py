"""What the measurements of the document database share: a server in a folder of its own, rows of .npy files."""
import http.client
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import threading


def read_npy(path):
    """Rows of a .npy file as lists of numbers."""
    with open(path, "rb") as file:
        data = file.read()
    header_size = struct.unpack("<H", data[8:10])[0]
    header = eval(data[10:10 + header_size].decode(), {"__builtins__": {}})  # a literal, from our own data
    kind = {"|u1": "B", "<f4": "f", "<i4": "i", "<u4": "I", "<i8": "q"}[header["descr"]]
    n, dim = header["shape"]
    size = struct.calcsize(kind) * dim
    at = 10 + header_size
    return [struct.unpack_from(f"<{dim}{kind}", data, at + i * size) for i in range(n)]


class Program:
    """One of our servers, on a free port of loopback; `kind` is its name in the log line that tells the port."""

    def __init__(self, words, kind):
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        self.port = 0
        for line in self.process.stderr:
            found = re.search(rf"{kind} .*port=(\d+)", line)
            if found:
                self.port = int(found.group(1))
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Server(Program):
    def __init__(self, build):
        self.dir = tempfile.TemporaryDirectory(prefix="annex-bench-")
        super().__init__([os.path.join(build, "annex"), "serve", "--db", self.dir.name, "--httpaddr", "127.0.0.1:0",
                          "--rpcaddr", "none"], "server=http")
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)

    def ask(self, method, path, body=b""):
        text = body if isinstance(body, (bytes, str)) else json.dumps(body)
        self.connection.request(method, "/api/v1/db" + path, text.encode() if isinstance(text, str) else text)
        reply = self.connection.getresponse()
        text = reply.read()
        if reply.status != 200:
            sys.exit(f"{method} {path}: {reply.status} {text[:300]!r}")
        return json.loads(text)

    def stop(self):
        super().stop()
        self.dir.cleanup()
