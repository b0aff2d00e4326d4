"""The API over TLS, and PostgreSQL over TLS: as the options say it, with real clients."""

import json
import os
import pwd
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from controller.store.engine import DatabaseAway, Store
from devstack.labs.broker import Broker
from devstack.labs.postgres import Postgres
from devstack.labs.process import free_port
from tests.functional.safety.certificates import Authority, Pair
from tests.functional.safety.daemons import Command


@pytest.fixture(scope="module")
def authority(state: Path) -> Authority:
    return Authority(state / "api-authority")


@pytest.fixture(scope="module")
def stranger(state: Path) -> Authority:
    return Authority(state / "api-stranger", "Somebody else's authority")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Pair:
    return authority.sign("api", "127.0.0.1")


@pytest.fixture
def api(broker: Broker, server: Pair, tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """Starts a controller that speaks HTTPS, with more of `[api]`; returns its port."""
    started: list[Command] = []

    def begin(more: str) -> int:
        port = free_port()
        started.append(
            Command(
                "controller",
                tmp_path,
                f"[DEFAULT]\ntransport_url = {broker.url}\nbind_port = {port}\n"
                f"[database]\nconnection = sqlite:///{tmp_path}/selvedge.db\n"
                f"[api]\ncert_file = {server.cert}\nkey_file = {server.key}\n{more}",
            )
        )
        return port

    yield begin
    for command in started:
        command.end()


def get(port: int, trusted: Path, own: Pair | None = None) -> object:
    """The API's list of networks, asked for as soon as somebody listens."""
    context = ssl.create_default_context(cafile=str(trusted))
    if own is not None:
        context.load_cert_chain(own.cert, own.key)
    deadline = time.monotonic() + 60
    while True:
        try:
            url = f"https://127.0.0.1:{port}/v2.0/networks"
            with urllib.request.urlopen(url, timeout=10, context=context) as answer:
                return json.load(answer)
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_the_api_speaks_https_to_who_knows_its_authority(
    api: Callable[[str], int], authority: Authority, stranger: Authority
) -> None:
    port = api("")
    assert get(port, authority.file) == {"networks": []}
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        get(port, stranger.file)
    with pytest.raises((urllib.error.URLError, ConnectionError)):  # and no HTTP
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v2.0/networks", timeout=10)


def test_the_api_asks_clients_for_a_certificate_if_it_shall(
    api: Callable[[str], int], authority: Authority, stranger: Authority
) -> None:
    port = api(f"client_ca_file = {authority.file}\n")
    assert get(port, authority.file, authority.sign("client")) == {"networks": []}
    for own in (None, stranger.sign("client")):
        with pytest.raises((urllib.error.URLError, OSError)):
            get(port, authority.file, own)
    assert get(port, authority.file, authority.sign("client")) == {"networks": []}


@pytest.fixture
def encrypted(postgres: Postgres, server: Pair) -> Iterator[str]:
    """The URL of an empty database whose server speaks TLS."""
    data = postgres.state / "cluster" / "data"
    account = pwd.getpwnam("postgres")
    for file, name in ((server.cert, "server.crt"), (server.key, "server.key")):
        shutil.copy(file, data / name)
        os.chown(data / name, account.pw_uid, account.pw_gid)
        (data / name).chmod(0o600)
    _set_tls(postgres, "on")
    try:
        yield postgres.create_database("encrypted")
    finally:
        _set_tls(postgres, "off")


def _set_tls(postgres: Postgres, to: str) -> None:
    store = Store(postgres.url)
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(text(f"ALTER SYSTEM SET ssl = {to}"))
        conn.execute(text("SELECT pg_reload_conf()"))
        deadline = time.monotonic() + 30
        while conn.execute(text("SHOW ssl")).scalar() != to:
            assert time.monotonic() < deadline, f"PostgreSQL's ssl is not {to}"
            time.sleep(0.02)
    store.dispose()


def test_the_database_is_reached_by_tls_and_verified(
    encrypted: str, authority: Authority, stranger: Authority, broker: Broker, tmp_path: Path
) -> None:
    verified = f"{encrypted}?sslmode=verify-full&sslrootcert="
    store = Store(f"{verified}{authority.file}")
    mine = text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    assert store.read(lambda conn: conn.execute(mine).scalar()) is True
    store.dispose()
    store = Store(f"{verified}{stranger.file}")
    with pytest.raises(DatabaseAway, match="certificate verify failed"):
        store.read(lambda conn: conn.execute(mine).scalar())
    store.dispose()
    command = Command(
        "controller",
        tmp_path,
        f"[DEFAULT]\ntransport_url = {broker.url}\n[database]\nconnection = {verified}{stranger.file}\n",
    )
    assert command.process.wait(60) == 1
    (line,) = command.told.splitlines()
    assert line.startswith("selvedge-controller: option [database] connection:") and "certificate verify" in line
