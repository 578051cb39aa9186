"""Private PostgreSQL clusters with the extension of the build, for the test_postgres_* programs.

    from postgres_cluster import Cluster
    with Cluster({"shared_buffers": "64MB"}) as pg:
        pg.sql("CREATE EXTENSION lantern")
        rows = pg.rows("SELECT 1, 'a'")              [["1", "a"]]
        with pg.session() as one: one.send("BEGIN; ..."); one.wait()

Sockets lie in a temporary folder, nothing listens on TCP. The installed PostgreSQL is not touched: a tree of links with its own
copy of the server's program stands beside it, because the server finds its libraries and extensions relative to itself.
Other extensions are those of the installation, and those built in the folders that ANX_PG_EXTENSIONS names.
An extension built with -Db_sanitize=address,undefined runs in servers that are not: they get the sanitizer's library preloaded, and
whatever it says fails the test.
Importing this ends the program with status 77 (skipped) when there is no PostgreSQL server or no extension in the build.
"""
import glob
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.abspath(os.environ.get("ANX_BUILD", os.path.join(ROOT, "build")))
EXTENSION = os.path.join(BUILD, "postgres")
DEADLINE = 60  # seconds for what takes one

# Programs that look for the others, or for libraries, where they lie themselves. The rest can be links.
COPIED = ("postgres", "initdb", "pg_ctl", "pg_basebackup", "pg_dumpall", "pg_upgrade")


def skip(why):
    print("skipped: " + why)
    sys.exit(77)


def pg_config(what):
    try:
        return subprocess.run(["pg_config", what], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return skip("no pg_config")


BIN, LIB, SHARE = pg_config("--bindir"), pg_config("--pkglibdir"), pg_config("--sharedir")
if not os.path.exists(os.path.join(BIN, "postgres")):
    skip("no PostgreSQL server in " + BIN)
if not os.path.exists(os.path.join(EXTENSION, "lantern.so")):
    skip("the build has no PostgreSQL extension")
# The server refuses to run as root.
OWNER = {}
if os.geteuid() == 0:
    try:
        entry = pwd.getpwnam("postgres")
        OWNER = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    except KeyError:
        skip("no user to run PostgreSQL as")


def sanitizer():
    """What a server that is not instrumented needs around an instrumented extension. The server frees its memory by ending."""
    with open(os.path.join(EXTENSION, "lantern.so"), "rb") as file:
        if b"__asan_init" not in file.read():
            return {}
    names = [subprocess.run(["cc", "-print-file-name=" + name], capture_output=True, text=True, check=True).stdout.strip()
             for name in ("libasan.so", "libubsan.so")]
    result = {"LD_PRELOAD": ":".join(names), "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
              "UBSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:print_stacktrace=1"}
    try:  # servers with translations wait for themselves before they are up
        subprocess.run([os.path.join(BIN, "postgres"), "--version"], env={**os.environ, **result}, stdout=subprocess.DEVNULL,
                       timeout=DEADLINE, check=True)
    except subprocess.TimeoutExpired:
        skip("this PostgreSQL does not start beside the address sanitizer; one built without NLS does")
    return result


SANITIZER = sanitizer()
COMPLAINTS = ("ERROR: AddressSanitizer", "runtime error:")


class SqlError(Exception):
    """What psql wrote when a statement failed; .output is what came before."""

    def __init__(self, text, output=""):
        super().__init__(text)
        self.output = output


def until(condition, what, seconds=DEADLINE):
    """Polls; returns the first true value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def link_all(source, target, but=()):
    os.makedirs(target, exist_ok=True)
    for name in os.listdir(source):
        if name not in but and not os.path.lexists(os.path.join(target, name)):
            os.symlink(os.path.join(source, name), os.path.join(target, name))


def make_tree(top):
    """An installation below `top` with the extension in it; returns the folder of its programs."""
    os.makedirs(top + BIN)
    for name in COPIED:
        if os.path.exists(os.path.join(BIN, name)):
            shutil.copy(os.path.join(BIN, name), top + BIN)
    link_all(BIN, top + BIN)
    link_all(LIB, top + LIB, but=("lantern.so",))
    shutil.copy(os.path.join(EXTENSION, "lantern.so"), top + LIB)
    link_all(SHARE, top + SHARE, but=("extension",))
    ours = [name for name in os.listdir(EXTENSION) if name.startswith("lantern") and name.endswith((".sql", ".control"))]
    theirs = [name for name in os.listdir(SHARE + "/extension") if name.startswith("lantern")]
    link_all(SHARE + "/extension", top + SHARE + "/extension", but=theirs)
    for name in ours:
        shutil.copy(os.path.join(EXTENSION, name), top + SHARE + "/extension")
    for folder in filter(None, os.environ.get("ANX_PG_EXTENSIONS", "").split(":")):
        for path in glob.glob(folder + "/*.so"):
            shutil.copy(path, top + LIB)
        for path in glob.glob(folder + "/*.control") + glob.glob(folder + "/sql/*.sql"):
            shutil.copy(path, top + SHARE + "/extension")
    return top + BIN


class Session:
    """One psql that stays, for what several sessions do at once."""

    def __init__(self, cluster, database):
        self.number = 0
        self.process = subprocess.Popen(cluster.psql_command(database) + ["-A", "-t", "-F", "\t"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=cluster.env())

    def send(self, sql):
        """Starts it and does not wait."""
        self.number += 1
        self.process.stdin.write(sql.rstrip().rstrip(";") + f";\n\\echo end-of-{self.number}\n")
        self.process.stdin.flush()

    def wait(self):
        """All lines, errors among them, of what was sent last."""
        lines = []
        for line in self.process.stdout:
            if line.rstrip("\n") == f"end-of-{self.number}":
                break
            lines.append(line.rstrip("\n"))
        return lines

    def sql(self, sql):
        self.send(sql)
        return self.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(DEADLINE)


class Cluster:
    def __init__(self, settings=None, origin=None):
        """origin: another Cluster, running: this one becomes its streaming standby."""
        self.folder = tempfile.mkdtemp(prefix="anx-pg-")
        if OWNER:
            os.chown(self.folder, OWNER["user"], OWNER["group"])
        os.chmod(self.folder, 0o755)
        self.data = os.path.join(self.folder, "data")
        self.log_path = os.path.join(self.folder, "log")
        self.is_running = False
        try:
            self.bin = origin.bin if origin else make_tree(os.path.join(self.folder, "tree"))
            if origin:
                self.run("pg_basebackup", "-h", origin.folder, "-U", "postgres", "-D", self.data, "-R", "-X", "stream", "-c", "fast")
            else:
                self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--locale=C.UTF-8", "-N")
            # Later lines win, so a test's settings come last; a standby starts with those of its origin.
            with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
                for name, value in {"listen_addresses": "", "unix_socket_directories": self.folder, "fsync": "off",
                                    "shared_buffers": "64MB", "max_wal_size": "4GB", **(settings or {})}.items():
                    file.write(f"{name} = '{value}'\n")
            self.start()
        except BaseException:
            self.close()
            raise

    def env(self):
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return {**env, "PGHOST": self.folder, "PGUSER": "postgres", "PGDATABASE": "postgres", "LC_ALL": "C.UTF-8"}

    def run(self, program, *arguments, check=True):
        result = subprocess.run([os.path.join(self.bin, program), *arguments], capture_output=True, text=True, env=self.env(),
                                cwd=self.folder, check=False, **OWNER)
        if check and result.returncode != 0:
            raise AssertionError(f"{program} {' '.join(arguments)}: {result.stdout}{result.stderr}")
        return result

    def start(self):
        """Also after a kill, when processes of before may still hold the memory for a moment."""
        def attempt():
            log = open(self.log_path, "a", encoding="utf-8")
            with log:
                process = subprocess.run([os.path.join(self.bin, "pg_ctl"), "-D", self.data, "-w", "-t", "60", "-l", self.log_path,
                                          "start"], stdout=log, stderr=log, cwd=self.folder, env={**self.env(), **SANITIZER}, check=False,
                                         **OWNER)
            return process.returncode == 0
        with open(self.log_path, "a", encoding="utf-8"):
            pass
        if OWNER:
            os.chown(self.log_path, OWNER["user"], OWNER["group"])
        until(attempt, "the server starts: " + self.log_path, 2 * DEADLINE)
        self.is_running = True

    def stop(self, mode="fast"):
        self.run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")
        self.is_running = False

    def pid(self):
        with open(os.path.join(self.data, "postmaster.pid"), encoding="utf-8") as file:
            return int(file.readline())

    def kill(self):
        """kill -9 of the postmaster; its children notice and go."""
        os.kill(self.pid(), signal.SIGKILL)
        self.is_running = False

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def psql_command(self, database="postgres"):
        return [os.path.join(self.bin, "psql"), "-X", "-q", "-d", database]

    def sql(self, sql, database="postgres", is_error=False):
        """One psql for all of it, stopping at the first error: SqlError. Returns (what it printed, notices and messages). With
        is_error an error must come, and its text is returned."""
        result = subprocess.run(self.psql_command(database) + ["-v", "ON_ERROR_STOP=1", "-A", "-t", "-F", "\t"], input=sql,
                                capture_output=True, text=True, env=self.env(), check=False)
        if is_error:
            if result.returncode == 0:
                raise AssertionError("no error from: " + sql)
            return result.stderr
        if result.returncode != 0:
            raise SqlError(result.stderr, result.stdout)
        return result.stdout, result.stderr

    def rows(self, sql, database="postgres"):
        """The rows of all results, as lists of texts."""
        return [line.split("\t") for line in self.sql(sql, database)[0].splitlines() if line]

    def value(self, sql, database="postgres"):
        """The one value of the one row (the last row, when settings came before)."""
        return self.rows(sql, database)[-1][0]

    def error(self, sql, database="postgres"):
        return self.sql(sql, database, is_error=True)

    def has_extension(self, name):
        return os.path.exists(os.path.join(self.folder, "tree") + SHARE + f"/extension/{name}.control")

    def session(self, database="postgres"):
        return Session(self, database)

    def standby(self, settings=None):
        return Cluster(settings, origin=self)

    def wait_for(self, standby):
        """Until the standby has replayed what this cluster has written."""
        end = self.value("SELECT pg_current_wal_lsn()")
        until(lambda: standby.value(f"SELECT pg_last_wal_replay_lsn() >= '{end}'") == "t", "the standby follows")

    def close(self):
        if self.is_running:
            self.run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        said = [line for line in self.log().splitlines() if any(text in line for text in COMPLAINTS)] if SANITIZER else []
        if said:
            print(self.log()[-20000:])
        self.close()
        assert not said, said
