"""TLS as the options say it: files that are checked when they are read, and how the broker is reached.

`Access` is all that a connection to the broker needs: the hosts, the login, the certificates. Feed and calls are made
from the same one, so an operator says it once. The server's certificate is always verified, against `ca_file` or else
the system's authorities, and must name the host that the URL names. Files are read again at every connect, so a
renewed certificate needs no restart.

Everything wrong here is a ValueError whose text names the option; `selvedge.options` makes `BadOption` of it.
"""

import ssl
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from selvedge.accounts import agent_account
from selvedge.broker import amqp_urls

PLAIN_PORT, TLS_PORT = 5672, 5671


@dataclass(frozen=True)
class Access:
    """Where the broker is and how one logs in. `account` is who one is there, if no password says it."""

    url: str = field(repr=False)
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    account: str | None = None

    @property
    def login(self) -> Literal["PLAIN", "EXTERNAL"]:
        """AMQP's mechanism: a password, or the certificate."""
        return "PLAIN" if self.account is None else "EXTERNAL"

    @property
    def port(self) -> int:
        """Of hosts whose URL has none."""
        return TLS_PORT if self.tls else PLAIN_PORT

    def urls(self) -> tuple[str, ...]:
        """One `amqp://…` for each host."""
        return amqp_urls(self.url, self.port)

    def ssl(self, url: str) -> dict[str, Any] | bool:
        """py-amqp's settings for a connection to `url`, one of `urls()`."""
        if not self.tls:
            return False
        return {**self.files(), "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": urlsplit(url).hostname}

    def files(self) -> dict[str, str]:
        """The files by py-amqp's names."""
        named = {"ca_certs": self.ca_file, "certfile": self.cert_file, "keyfile": self.key_file}
        return {name: path for name, path in named.items() if path is not None}


def access(conf: Any) -> Access:
    """What the options `transport_url` and `[amqp]` say. Raises ValueError, naming the option."""
    chosen = conf.amqp
    if not chosen.ssl:
        for name in ("ca_file", "cert_file", "key_file"):
            if chosen[name] is not None:
                raise ValueError(f"option [amqp] {name}: is set, but [amqp] ssl is not")
        if chosen.login == "certificate":
            raise ValueError("option [amqp] login: a certificate needs [amqp] ssl = true")
        return Access(conf.transport_url)
    if chosen.login == "certificate" and chosen.cert_file is None:
        raise ValueError("option [amqp] login: a certificate needs [amqp] cert_file")
    pair("amqp", chosen.cert_file, chosen.key_file)
    authorities("[amqp] ca_file", chosen.ca_file)
    # The broker takes a controller's account from its certificate, and nobody else asks for it.
    account = agent_account(conf.host) if "host" in conf else ""
    return Access(
        conf.transport_url,
        True,
        chosen.ca_file,
        chosen.cert_file,
        chosen.key_file,
        account if chosen.login == "certificate" else None,
    )


def listener(conf: Any) -> dict[str, Any]:
    """gunicorn's settings of the API's TLS; empty without. Raises ValueError, naming the option."""
    chosen = conf.api
    if chosen.cert_file is None and chosen.client_ca_file is not None:
        raise ValueError("option [api] client_ca_file: is set, but [api] cert_file is not")
    pair("api", chosen.cert_file, chosen.key_file)
    authorities("[api] client_ca_file", chosen.client_ca_file)
    if chosen.cert_file is None:
        return {}
    settings: dict[str, Any] = {"certfile": chosen.cert_file, "keyfile": chosen.key_file}
    if chosen.client_ca_file is not None:
        settings |= {"ca_certs": chosen.client_ca_file, "cert_reqs": ssl.CERT_REQUIRED}
    return settings


def readable_file(value: object) -> str:
    """The path of a file that can be read now."""
    path = str(value)
    try:
        with open(path, "rb"):
            return path
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


def pair(group: str, cert_file: str | None, key_file: str | None) -> None:
    """The certificate and its key: both or none, and of one another. Raises ValueError, naming the option."""
    if cert_file is None and key_file is None:
        return
    if cert_file is None or key_file is None:
        missing = "cert_file" if cert_file is None else "key_file"
        raise ValueError(f"option [{group}] {missing}: is missing; a certificate and its key go together")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file, password="")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error) or "no PEM"
        raise ValueError(
            f"option [{group}] cert_file: {cert_file} with {key_file} is no certificate with its key, "
            f"unencrypted PEM: {reason}"
        ) from error


def authorities(option: str, path: str | None) -> None:
    """A file of certificates of authorities. Raises ValueError, naming the option."""
    if path is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        raise ValueError(f"option {option}: {path} has no certificate in PEM: {error.reason}") from error
