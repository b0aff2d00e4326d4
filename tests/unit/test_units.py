"""systemd's units: each runs one of our commands, as a user of its own, in a sandbox that is as tight as it may be."""

from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "devstack" / "systemd"

SANDBOX = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
}


def service(name: str) -> dict[str, list[str]]:
    """The section [Service]: option -> its values."""
    text = (UNITS / f"{name}.service").read_text().partition("[Service]\n")[2].partition("\n[")[0]
    found: dict[str, list[str]] = {}
    for line in filter(None, text.splitlines()):
        if not line.startswith("#"):
            option, _, value = line.partition("=")
            found.setdefault(option, []).append(value)
    return found


@pytest.mark.parametrize(
    ("name", "user", "capabilities"),
    [("selvedge-agent", "selvedge-agent", "CAP_NET_ADMIN"), ("selvedge-controller", "selvedge", "")],
)
def test_a_daemon_runs_as_a_user_of_its_own_with_no_more_than_it_needs(name: str, user: str, capabilities: str) -> None:
    options = service(name)
    assert options["User"] == [user]
    assert options["CapabilityBoundingSet"] == options["AmbientCapabilities"] == [capabilities]
    assert {option: options.get(option) for option in SANDBOX} == {key: [value] for key, value in SANDBOX.items()}
    assert options["ExecStart"] == [f"/opt/selvedge/bin/{name} --config-file /etc/selvedge/{name[9:]}.conf"]
    assert f"u {user} " in " ".join((UNITS / "selvedge.sysusers").read_text().split()) + " "
