"""Database servers for tests: from Debian's packages, on a free port, in a directory of their own. What they
are told may be lost with the machine's power (no fsync), never with the program; where `durable` is set before they start,
with neither."""

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from .port import free_port

# How long a server may take to start or to end.
DEADLINE = 60


class Server:
    """One server. Subclasses know its programs."""

    user = ""
    scheme = ""
    durable = False

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="cumulet-database-"))
        self.port = free_port()
        self.log = self.directory / "log"
        self.process = None
        self.directory.chmod(0o755)
        self.prepare()
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Starts it on its port and waits until it answers."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        end = time.monotonic() + DEADLINE
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                text = self.log.read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"{type(self).__name__} did not start:\n{text}")
            time.sleep(0.05)
        return self

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return self.sql("SELECT 1", check=False).returncode == 0

    def end(self, how):
        """Ends the server's process by a signal, and waits for it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def restart(self):
        """Ends it as its administrator would, cutting its connections, and starts it again."""
        self.end(self.shutdown)
        return self.start()

    def kill(self):
        """Ends it as a crash would."""
        self.end(signal.SIGKILL)

    def stop(self):
        """Ends it and removes everything."""
        self.end(self.shutdown)
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, name=None):
        """The URL of a new database of this name; without one, the administrator's own."""
        if name:
            self.sql(f"CREATE DATABASE {name}")
        return f"{self.scheme}://{self.user}@127.0.0.1:{self.port}/{name or self.own}"


class PostgreSQL(Server):
    """PostgreSQL; it refuses to run as root, so it runs as its own user."""

    scheme, user, own, shutdown = "postgres", "postgres", "postgres", signal.SIGINT

    @staticmethod
    def program(name):
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        if not found:
            raise RuntimeError("PostgreSQL is not installed: scripts/setup-host --test")
        return str(found[-1])

    def as_user(self, *command):
        if os.getuid() != 0:
            return list(command)
        user = pwd.getpwnam("postgres")
        return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *command]

    def prepare(self):
        if os.getuid() == 0:
            shutil.chown(self.directory, "postgres", "postgres")
        data = str(self.directory / "data")
        subprocess.run(
            self.as_user(
                self.program("initdb"), "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"
            ),
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.directory,
        )

    def command(self):
        # setpriv becomes the server: the process is the server's own.
        quick = () if self.durable else ("fsync=off", "full_page_writes=off")
        settings = (*quick, "listen_addresses=127.0.0.1", "max_connections=300")
        options = [part for setting in settings for part in ("-c", setting)]
        place = ["-D", str(self.directory / "data"), "-k", str(self.directory), "-p", str(self.port)]
        return self.as_user(self.program("postgres"), *place, *options)

    def sql(self, text, database=None, check=True):
        """Runs SQL as the administrator."""
        return subprocess.run(
            [
                "psql", "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres",
                "-d", database or "postgres", "-c", text,
            ],
            check=check,
            capture_output=True,
            text=True,
        )  # fmt: skip


class MariaDB(Server):
    """MariaDB."""

    scheme, user, own, shutdown = "mysql", "root", "mysql", signal.SIGTERM

    def place(self):
        """Whose it is and where it writes. Its temporary files have a directory of their own: a server that starts
        removes all of its directory's `#sql-temptable-*`, also those that another server has open."""
        temporary = self.directory / "tmp"
        temporary.mkdir(exist_ok=True)
        owner = pwd.getpwuid(os.getuid()).pw_name
        return [f"--user={owner}", f"--datadir={self.directory / 'data'}", f"--tmpdir={temporary}"]

    def prepare(self):
        options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        made = subprocess.run(
            ["mariadb-install-db", "--no-defaults", *self.place(), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if made.returncode != 0:
            raise RuntimeError(f"MariaDB's system tables could not be made:\n{made.stdout[:2000]}")

    def command(self):
        # Of 570 syncs for a database that is made and dropped, 90 are left, and it takes a fifth of the time: nothing is
        # synchronised, and tables are in one file.
        quick = () if self.durable else ("--debug-no-sync", "--innodb-file-per-table=0", "--skip-sync-frm")
        return [
            "mariadbd", "--no-defaults", *self.place(), *quick, f"--port={self.port}", "--bind-address=127.0.0.1",
            f"--socket={self.directory / 'socket'}", f"--pid-file={self.directory / 'pid'}",
            # 2: written at each commit; 0 would lose a second with the program.
            f"--innodb-flush-log-at-trx-commit={1 if self.durable else 2}", "--max-connections=400",
        ]  # fmt: skip

    def sql(self, text, database=None, check=True):
        """Runs SQL as the administrator."""
        place = ["--no-defaults", "-h", "127.0.0.1", "-P", str(self.port), "-u", "root", "-N", "-B"]
        return subprocess.run(
            ["mariadb", *place, "-e", text, *([database] if database else [])],
            check=check,
            capture_output=True,
            text=True,
        )
