"""Network namespaces and the wires between them, by iproute2.

Every name that the machine sees is made by `Names` from the lab's state directory, so that several labs live side by
side and a later command knows what is its own. Names inside a namespace need no such care.
"""

import contextlib
import ctypes
import hashlib
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from devstack.labs.process import LabError

RUN = Path("/run/netns")
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


class Names:
    """Names of what a lab has outside its own namespaces; all begin with `prefix`."""

    def __init__(self, state: Path) -> None:
        self.digest = hashlib.sha1(str(state.resolve()).encode()).hexdigest()
        self.prefix = f"lab{self.digest[:6]}"

    @property
    def wires(self) -> str:
        """The namespace of the underlay, the provider's network and the management network."""
        return f"{self.prefix}-wires"

    def hypervisor(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def vm(self, port: str) -> str:
        """The namespace of the VM with this port's id."""
        return f"{self.prefix}-vm-{port[:13]}"

    @property
    def management(self) -> str:
        """The machine's interface on the lab's management network."""
        return f"{self.prefix}m"

    def ours(self) -> list[str]:
        """Namespaces of this lab that exist now, whoever remembers them."""
        return sorted(path.name for path in RUN.glob(f"{self.prefix}-*")) if RUN.exists() else []


def run(command: Sequence[str], text: str | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Output of a command, `environment` added to ours; raises LabError with the first line of its complaint."""
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError:
        raise LabError(f"there is no program {command[0]}; 'make setup' installs what the lab needs") from None
    if done.returncode:
        complaint = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[0]
        raise LabError(f"{' '.join(command[2:] if command[0] == 'nsenter' else command)}: {complaint}")
    return done.stdout


def ip(lines: Iterable[str], namespace: str | None = None) -> None:
    """Run lines of `ip` in one process (twenty interfaces cost as much as one)."""
    where = ["-n", namespace] if namespace else []
    run(["ip", *where, "-batch", "-"], "\n".join(lines) + "\n")


def inside(path: Path, command: Sequence[str]) -> list[str]:
    """The command line that runs `command` in the network namespace at `path`, mounts and all else staying."""
    return ["nsenter", f"--net={path}", *command]


@contextlib.contextmanager
def entered(path: Path) -> Iterator[None]:
    """This thread is in the namespace meanwhile; sockets that it opens there stay there (setns(2))."""
    with open("/proc/thread-self/ns/net") as here, path.open() as there:
        if LIBC.setns(there.fileno(), CLONE_NEWNET):
            raise LabError(f"{path}: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            LIBC.setns(here.fileno(), CLONE_NEWNET)


def path_of(namespace: str) -> Path:
    return RUN / namespace


def end(namespace: str) -> None:
    """Remove a namespace with the interfaces and processes in it; a missing one is fine."""
    if not path_of(namespace).exists():
        return
    for pid in run(["ip", "netns", "pids", namespace]).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    run(["ip", "netns", "del", namespace])


def end_link(name: str) -> None:
    """Remove an interface of this namespace now; the kernel removes a dead namespace's cables when it has time."""
    if Path(f"/sys/class/net/{name}").exists():
        run(["ip", "link", "del", name])


def exec_inside(path: Path, command: Sequence[str], environment: dict[str, str] | None = None) -> int:
    """Run it in the namespace on this terminal; returns its exit code (127 if there is no such program)."""
    words = inside(path, command)
    return subprocess.run(words, env={**os.environ, **(environment or {})}, check=False).returncode
