"""`selvedge host`: accounts of agents on the broker, and their configurations. On a controller's machine.

    selvedge host add NAME [--certificate]   makes the account and writes NAME.conf, ready for /etc/selvedge/agent.conf
    selvedge host remove NAME                ends the account, its connections and its queue
    selvedge host list                       hosts that have an account

It speaks to the broker by `rabbitmqctl`, which works where the broker runs and for who may manage it. Where it does
not, `add --definitions FILE` writes what `rabbitmqctl import_definitions` (or the management plugin) there takes. The
account and all its rights go over in one import by standard input; the password is made here, stands in the written
configuration (mode 0600) and nowhere else: RabbitMQ is given its hash. Adding a host again gives it a new password.
"""

import argparse
import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from oslo_config import cfg
from rich.console import Console

from selvedge import options
from selvedge.accounts import agent_account, definitions, host_of
from selvedge.broker import agent_queue, amqp_urls


class HostTrouble(Exception):
    """What stops the command; the text is its one line."""


def add(arguments: argparse.Namespace, console: Console) -> None:
    """Make the account, then write the configuration: without the first the second is worth nothing."""
    conf = _controller(arguments.config_file)
    host = _name(arguments.name)
    if arguments.certificate and not conf.amqp.ssl:
        raise HostTrouble(f"a certificate needs TLS: set [amqp] ssl = true in {arguments.config_file}")
    password = None if arguments.certificate else secrets.token_urlsafe(32)
    grant = json.dumps(definitions({host: password}, vhost_of(conf.transport_url)), indent=1)
    if arguments.definitions:
        _write(Path(arguments.definitions), grant)
        told = f"on the broker's machine: rabbitmqctl import_definitions {arguments.definitions}"
    else:
        _control(["import_definitions"], grant)
        told = f"account {agent_account(host)} is made"
    path = Path(arguments.output or f"{host}.conf")
    _write(path, configuration(conf, host, password))
    console.print(f"{told}; {path} goes to {host} as /etc/selvedge/agent.conf", markup=False, highlight=False)


def remove(arguments: argparse.Namespace, console: Console) -> None:
    """End the account first, and with it its connections; then the queue, which topics would fill for an hour."""
    conf = _controller(arguments.config_file)
    host = _name(arguments.name)
    _control(["delete_user", agent_account(host)])
    with contextlib.suppress(HostTrouble):  # an agent that never came has no queue
        _control(["delete_queue", agent_queue(host), "-p", vhost_of(conf.transport_url)])
    console.print(f"account {agent_account(host)} is gone", markup=False, highlight=False)


def listed(arguments: argparse.Namespace, console: Console) -> None:
    """One host a line."""
    for host in sorted(_hosts()):
        console.print(host, markup=False, highlight=False)


def configuration(conf: Any, host: str, password: str | None) -> str:
    """The agent's file: the broker as the controller reaches it, but by the host's own account."""
    lines = [f"# /etc/selvedge/agent.conf of {host}", "", "[DEFAULT]", f"host = {host}"]
    lines += [f"transport_url = {agent_url(conf.transport_url, host, password)}", ""]
    if conf.amqp.ssl:
        lines += ["[amqp]", "ssl = true"]
        if conf.amqp.ca_file:
            lines += ["# The same file, on the agent's machine.", f"ca_file = {conf.amqp.ca_file}"]
        if password is None:
            lines += ["login = certificate", f"# With the common name {agent_account(host)}."]
            lines += ["cert_file = /etc/selvedge/agent.pem", "key_file = /etc/selvedge/agent.key"]
        lines.append("")
    lines += ["[agent]", "# This host's tunnel end point.", "# tunnel_ip = 192.0.2.11", ""]
    return "\n".join(lines)


def agent_url(transport_url: str, host: str, password: str | None) -> str:
    """The controllers' transport URL with the login of a host's agent; None: with no login."""
    scheme, _, rest = transport_url.partition("://")
    hosts, slash, vhost = rest.partition("/")
    login = "" if password is None else f"{quote(agent_account(host))}:{quote(password)}@"
    return f"{scheme}://" + ",".join(login + one.rpartition("@")[2] for one in hosts.split(",")) + slash + vhost


def vhost_of(transport_url: str) -> str:
    """The virtual host that the URL names."""
    return unquote(amqp_urls(transport_url)[0].rpartition("/")[2])


def _controller(path: str) -> Any:
    try:
        return options.load_controller(["--config-file", path])
    except (options.BadOption, cfg.Error) as error:
        raise HostTrouble(f"{path}: {error}") from error


def _name(text: str) -> str:
    try:
        return options.host_name(text)
    except ValueError as error:
        raise HostTrouble(str(error)) from error


def _hosts() -> set[str]:
    users = json.loads(_control(["list_users", "--formatter", "json"]))
    return {host for user in users if (host := host_of(user["user"])) is not None}


def _write(path: Path, text: str) -> None:
    """For its owner's eyes only, from the first byte on."""
    try:
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise HostTrouble(f"{path}: {error.strerror}") from error


def _control(words: Sequence[str], text: str | None = None) -> str:
    """Output of `rabbitmqctl`."""
    try:
        done = subprocess.run(
            ["rabbitmqctl", "--quiet", *words], input=text, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise HostTrouble(f"rabbitmqctl: {error.strerror}; where the broker is elsewhere, use --definitions") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise HostTrouble(f"rabbitmqctl {words[0]}: {said[0]}")
    return done.stdout


def declare(commands: Any) -> None:
    """Add `host` and what it can do to the operator's command line."""
    text = "accounts of agents on the broker"
    host = commands.add_parser("host", help=text, description=text).add_subparsers(required=True, metavar="WHAT")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = host.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        if run is not listed:
            sub.add_argument("name", help="the host, as in binding:host_id")
            sub.add_argument("--config-file", default="/etc/selvedge/controller.conf", help="(default: %(default)s)")
        return sub

    adding = command("add", add, "make a host's account, and its agent's configuration")
    adding.add_argument("--certificate", action="store_true", help="log in with a client certificate, no password")
    adding.add_argument("--output", help="where the configuration is written (default: NAME.conf)")
    adding.add_argument("--definitions", help="write the account to this file instead of calling rabbitmqctl")
    command("remove", remove, "end a host's account")
    command("list", listed, "hosts that have an account")
