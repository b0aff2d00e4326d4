"""A broker with TLS and an account for each host, an authority that signs, and one controller that knows no shared one.

`alpha` and `beta` log in with passwords, `gamma` with its certificate; the controller with a certificate's authority
to trust and a password of its own.
"""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controller.store.engine import Store
from controller.store.migrate import upgrade
from devstack.labs.broker import Broker, ServerTls
from selvedge.accounts import agent_account, definitions
from tests.functional.feed_ends import Controller, Host
from tests.functional.safety.certificates import Authority

PASSWORDS = {name: secrets.token_hex(16) for name in ("alpha", "beta", "delta")} | {"gamma": None}
CONTROLLER = secrets.token_hex(16)
"""Password of the account `controller`, which may do everything."""

RIGHTS = ("configure", "write", "read")


@dataclass
class Guarded:
    """The broker, and how its clients are configured."""

    broker: Broker
    authority: Authority
    directory: Path
    passwords: dict[str, str | None] = field(default_factory=lambda: dict(PASSWORDS))

    def url(self, host: str, tls: bool = False, place: str = "127.0.0.1") -> str:
        """The transport URL with the account of `host`'s agent."""
        port = self.broker.tls_port if tls else self.broker.port
        password = self.passwords[host]
        login = f"{agent_account(host)}:{password}@" if password else ""
        return f"rabbit://{login}{place}:{port}/"

    def configure(self, name: str, url: str, host: str = "", **amqp: object) -> list[str]:
        """Arguments that name a configuration of this content, for an agent or a controller."""
        path = self.directory / f"{name}.conf"
        lines = ["[DEFAULT]", f"transport_url = {url}", *([f"host = {host}"] if host else []), "[amqp]"]
        lines += [f"{option} = {value}" for option, value in amqp.items()]
        path.write_text("\n".join([*lines, "[agent]", f"state_dir = {self.directory / name}", ""]))
        return ["--config-file", str(path)]


@pytest.fixture(scope="session")
def guarded(state: Path) -> Iterator[Guarded]:
    """One for the session: it takes seconds to start."""
    authority = Authority(state / "authority")
    server = authority.sign("broker", "127.0.0.1")
    broker = Broker(state / "guarded", tls=ServerTls(server.cert, server.key, authority.file))
    accounts = definitions(PASSWORDS)
    accounts["users"].append({"name": "controller", "password": CONTROLLER, "tags": [], "limits": {}})
    accounts["permissions"].append({"user": "controller", "vhost": "/"} | dict.fromkeys(RIGHTS, ".*"))
    broker.grant(accounts)
    directory = state / "guarded-clients"
    directory.mkdir()
    try:
        broker.start()
        yield Guarded(broker, authority, directory)
    finally:
        broker.kill()


@pytest.fixture(scope="session")
def controller(guarded: Guarded) -> Iterator[Controller]:
    """It answers only who speaks for itself, and reaches the broker by TLS."""
    database = f"sqlite:///{guarded.directory}/selvedge.db"
    store = Store(database)
    upgrade(store)
    store.dispose()
    url = f"rabbit://guest:guest@127.0.0.1:{guarded.broker.tls_port}/"
    made = Controller(database, guarded.configure("controller", url, ssl=True, ca_file=guarded.authority.file))
    yield made
    made.stop()


@pytest.fixture(scope="session")
def agents(guarded: Guarded, controller: Controller) -> Iterator[dict[str, Host]]:
    """The agents of alpha and beta, without switches; each has reported itself."""
    hosts = {}
    for name in ("alpha", "beta"):
        arguments = guarded.configure(name, guarded.url(name), name)
        hosts[name] = Host(guarded.directory / f"agent-{name}", guarded.broker, name, arguments=arguments)
        assert hosts[name].report().stale == ()
    yield hosts
    for host in hosts.values():
        host.stop()


@pytest.fixture
def alpha(agents: dict[str, Host]) -> Host:
    """The agent of alpha."""
    return agents["alpha"]


@pytest.fixture
def start(guarded: Guarded, tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Starts an agent without a switch, by its name, its topics and `[amqp]` options; ends it with the test."""
    started: list[Host] = []

    def begin(name: str, *interest: str, url: str | None = None, **amqp: object) -> Host:
        arguments = guarded.configure(name, url or guarded.url(name, bool(amqp)), name, **amqp)
        started.append(Host(tmp_path / f"{name}{len(started)}", guarded.broker, name, *interest, arguments=arguments))
        return started[-1]

    yield begin
    for one in started:
        one.stop()
