"""A program at a terminal: a pty of some columns, what is written to it, and what a person then sees."""

import errno
import os
import pty
import re
import subprocess
import termios
import threading

from .wait import until

TOKEN = re.compile(r"\x1b\[[0-9;]*m|\x1b\[K|\x1b.?|[\r\n]|[^\x1b\r\n]+")


class Terminal:
    """Runs a command at a terminal of its own, so that Ctrl-C reaches it. `with` ends what still runs."""

    def __init__(self, command: list[str], environment: dict[str, str], columns: int = 100) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, columns))
        # Who has a session of its own and no terminal gets the one that it opens first.
        script = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(slave), *map(str, command)]
        self.popen = subprocess.Popen(script, env=environment, start_new_session=True, stdin=subprocess.DEVNULL)
        self._slave = slave  # open until the end, so that the other side has not ended before the program begins
        self._bytes = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.wait()
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._master, 65536)
            except OSError as error:  # Linux's end of file, once nobody has the other side open
                assert error.errno == errno.EIO
                return
            if not chunk:
                return
            self._bytes += chunk

    @property
    def written(self) -> str:
        """Everything that was written, escape sequences and all."""
        return bytes(self._bytes).decode()

    @property
    def seen(self) -> list[str]:
        """The lines that stand there, as a terminal without an end shows them."""
        return rendered(self.written)

    def wait_for(self, text: str, timeout: float = 60.0) -> None:
        def there() -> bool:
            if any(text in line for line in self.seen):
                return True
            if self.popen.poll() is not None:
                raise RuntimeError(f"ended with {self.popen.returncode}: {self.seen}")
            return False

        until(there, f"{text!r} on the terminal", timeout, every=0.03)

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def wait(self, timeout: float = 60.0) -> int:
        """Waits for the command's end; its status."""
        status = self.popen.wait(timeout)
        if self._slave is not None:
            os.close(self._slave)
            self._slave = None
        self._reader.join(10)
        return status


def rendered(written: str) -> list[str]:
    """What a terminal makes of carriage returns and of the few sequences that the program may send."""
    lines, column = [""], 0
    for token in TOKEN.findall(written):
        line = lines[-1]
        if token == "\r":
            column = 0
        elif token == "\n":
            lines.append("")
        elif token == "\x1b[K":
            lines[-1] = line[:column]
        elif token.startswith("\x1b"):
            assert token.endswith("m"), f"an escape sequence that nobody asked for: {token!r}"
        else:
            lines[-1] = line[:column].ljust(column) + token + line[column + len(token) :]
            column += len(token)
    return lines[:-1] if not lines[-1] else lines
