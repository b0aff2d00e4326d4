"""Our daemons as processes of their own, and what everybody on the machine can see of all processes."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[3]


def program(name: str) -> list[str]:
    """The command line of one of our commands, from this source."""
    return [sys.executable, "-c", f"import sys; from selvedge.entry import {name}; sys.exit({name}())"]


class Command:
    """A daemon with this configuration; `told` is all that it has said."""

    def __init__(self, name: str, directory: Path, configuration: str) -> None:
        number = len(list(directory.glob("*.conf")))
        path = directory / f"{name}{number}.conf"
        path.write_text(configuration)
        self._log = path.with_suffix(".log")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*program(name), "--config-file", str(path)], cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def told(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for_line(self, text: str, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.told:
            assert self.process.poll() is None and time.monotonic() < deadline, f"no '{text}' in:\n{self.told}"
            time.sleep(0.02)

    def end(self) -> None:
        """SIGTERM, and SIGKILL to who does not care."""
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Watch(threading.Thread):
    """Reads all processes' command lines while it runs, as any user can; `seen` is what stood in them."""

    def __init__(self) -> None:
        super().__init__(name="watch", daemon=True)
        self._lines: set[str] = set()
        self._ended = threading.Event()

    @property
    def seen(self) -> str:
        return "\n".join(sorted(self._lines))

    def run(self) -> None:
        while not self._ended.wait(0.03):
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    self._lines.add(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
                except (OSError, UnicodeDecodeError):
                    continue

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()
