"""Hosts that are records only: their agents reported once, and have nothing else of an agent.

What ports that are bound to them cost others is real: the controllers tell everybody of them and of their members.
They cost nothing themselves, so one machine can stand beside ten thousand members.
"""

import queue
from pathlib import Path

from agents.calls import Answer, Calls
from devstack.labs.process import LabError
from selvedge import options, rpc

NOW = "2026-01-01T00:00:00Z"


def tunnel_ip(number: int) -> str:
    """In the lab's tunnel network, where no hypervisor of a lab ever is."""
    return f"10.255.9.{number}"


def report(directory: Path, transport_url: str, count: int) -> list[str]:
    """Makes `count` hosts known to the controllers; returns their names."""
    path = directory / "ghosts.conf"
    path.write_text(f"[DEFAULT]\ntransport_url = {transport_url}\nhost = ghosts\n[agent]\nstate_dir = {directory}\n")
    names = [f"ghost{number}" for number in range(1, count + 1)]
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    calls = Calls(options.load_agent(["--config-file", str(path)]), answers.put)
    calls.start()
    try:
        for number, name in enumerate(names, start=1):
            calls.submit("report", rpc.Report(name, tunnel_ip(number), {}, NOW))
            try:
                error = answers.get(timeout=30.0).error
            except queue.Empty:
                raise LabError(f"no controller answers the report of {name}") from None
            if error is not None:
                raise LabError(f"the controller refuses the report of {name}: {error}")
    finally:
        calls.stop()
        # Where oslo.messaging counts the reply queues of a host's processes.
        Path("/dev/shm/ghosts_selvedge-agent_qmanager").unlink(missing_ok=True)
    return names
