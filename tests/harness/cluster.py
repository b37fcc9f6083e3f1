"""The servers of a cloud whose roles are processes of their own: a database and a broker, one of each for all clouds of
a test process. `CUMULET_TEST_CLUSTER` names the database: `postgresql` or `mariadb`; without it a cloud is one process."""

import atexit
import os
import shutil
import threading
import uuid

KIND = os.environ.get("CUMULET_TEST_CLUSTER", "")

_lock = threading.Lock()
_started: dict[str, object] = {}


def _server(kind: str):
    from .broker import RabbitMQ
    from .folder import fresh
    from .servers import MariaDB, PostgreSQL

    with _lock:
        if kind not in _started:
            if kind == "rabbitmq":
                folder = fresh("broker-")
                server = RabbitMQ(folder).start()
                atexit.register(shutil.rmtree, folder, ignore_errors=True)
            else:
                server = {"postgresql": PostgreSQL, "mariadb": MariaDB}[kind]()
            atexit.register(server.stop)
            _started[kind] = server
        return _started[kind]


def database(kind: str):
    """The database server, started when it is first asked for."""
    return _server(kind)


def broker():
    """The broker, started when it is first asked for."""
    return _server("rabbitmq")


def settings(kind: str) -> dict[str, str]:
    """Where a new cloud finds a database and a broker's virtual host of its own."""
    name = f"cumulet_{uuid.uuid4().hex[:12]}"
    broker().add_vhost(name)
    return {"CUMULET_DATABASE": database(kind).url(name), "CUMULET_BUS": broker().url(name)}
