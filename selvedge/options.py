"""Every option of both daemons, declared once; how their files are read, and where their log goes.

`load_controller` and `load_agent` read the files, evaluate *all* options at once and raise `BadOption` with one line
that names the option at fault, so a typing error stops a daemon at its start and not at three in the morning. Values
arrive parsed: a range is a pair of integers, a mapping is a dict. oslo.messaging's own options
(`[oslo_messaging_rabbit]`) live in the same files and are read by `selvedge.messaging`.
"""

import contextlib
import io
import ipaddress
import re
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from oslo_config import cfg, types

from selvedge import __version__, tls
from selvedge.broker import amqp_urls


class BadOption(Exception):
    """The configuration cannot be used; the text is one line that names the option."""


QUIET = (
    "alembic.runtime.plugins=WARN",
    "oslo_service.backend=WARN",
    "oslo.messaging._drivers.impl_rabbit=CRITICAL",
)
"""Loggers that tell what interests nobody, in addition to oslo.log's own list. The last one says every second at level
ERROR that there is no broker; our own feed and calls say it once."""

# --- forms of values


class Form(types.ConfigType):
    """A value's form as oslo.config wants it, from a function that raises ValueError with the reason."""

    def __init__(self, parse: Callable[[object], object]) -> None:
        super().__init__(type_name=parse.__name__.replace("_", " "))
        self._parse = parse

    def __call__(self, value: object) -> object:
        return self._parse(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Form) and other._parse is self._parse

    def __hash__(self) -> int:
        return hash(self._parse)

    def __repr__(self) -> str:
        return str(self.type_name)

    def _formatter(self, value: object) -> str:
        return str(value)


def _range(text: str, lowest: int, highest: int) -> tuple[int, int]:
    first, colon, last = text.partition(":")
    if not (first.isdecimal() and (last.isdecimal() or not colon)):
        raise ValueError(f"'{text}' is not FIRST:LAST")
    pair = int(first), int(last or first)
    if not lowest <= pair[0] <= pair[1] <= highest:
        raise ValueError(f"'{text}' is not an ascending range within {lowest}:{highest}")
    return pair


def vni_ranges(value: object) -> tuple[tuple[int, int], ...]:
    """`1:1000,5000:6000` → ((1, 1000), (5000, 6000)); VNIs are 24 bits wide and 0 is none."""
    if not isinstance(value, str):
        return tuple(value)  # type: ignore[arg-type]  # already parsed
    return tuple(_range(part.strip(), 1, 0xFFFFFF) for part in value.split(",") if part.strip())


def vlan_ranges(value: object) -> dict[str, tuple[tuple[int, int], ...]]:
    """`physnet1:100:199,physnet1:300:310,physnet2` → ranges to allocate from; a physical network alone offers none."""
    if isinstance(value, Mapping):
        return dict(value)
    ranges: dict[str, tuple[tuple[int, int], ...]] = {}
    for part in str(value).split(","):
        physnet, colon, rest = part.strip().partition(":")
        if not physnet:
            if colon:
                raise ValueError(f"'{part}' names no physical network")
            continue
        ranges[physnet] = ranges.get(physnet, ()) + ((_range(rest, 1, 4094),) if colon else ())
    return ranges


def mappings(value: object) -> dict[str, str]:
    """`physnet1:br-ex,physnet2:br-lan` → physical network to bridge, both unique."""
    if isinstance(value, Mapping):
        return dict(value)
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in str(value).split(","))):
        physnet, colon, bridge = part.partition(":")
        if not (physnet and colon and bridge) or ":" in bridge:
            raise ValueError(f"'{part}' is not PHYSICAL_NETWORK:BRIDGE")
        if physnet in found or bridge in found.values():
            raise ValueError(f"'{part}' uses a physical network or bridge twice")
        found[physnet] = bridge
    return found


def mac(value: object) -> str:
    """A MAC address in lower case with colons."""
    text = str(value).lower()
    if not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", text):
        raise ValueError(f"'{value}' is not a MAC address like fa:16:3e:00:00:00")
    return text


def ipv4(value: object) -> str:
    return str(ipaddress.IPv4Address(str(value)))


def transport(value: object) -> str:
    amqp_urls(str(value))
    return str(value)


def database_url(value: object) -> str:
    """SQLAlchemy's URL; what is wrong with it is told without its text, which may be a password's."""
    scheme, found, rest = str(value).partition("://")
    if not found or not scheme:
        raise ValueError("expected sqlite:////absolute/path or postgresql+psycopg://user:password@host/database")
    login, at, host = re.split("[/?]", rest, maxsplit=1)[0].rpartition("@")
    if "@" in login or (at and not re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(:[0-9]+)?", host)):
        raise ValueError("its host or port makes no sense; write @, / and ? of a password as %40, %2F and %3F")
    return str(value)


def host_name(value: object) -> str:
    """A host's name becomes part of queue names and routing keys, which have 255 bytes."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", str(value)):
        raise ValueError(f"'{value}' is not a host name")
    return str(value)


# --- the options

COMMON = [
    cfg.Opt(
        "transport_url",
        type=Form(transport),
        default="rabbit://guest:guest@127.0.0.1:5672/",
        secret=True,
        help="The broker, as rabbit://user:password@host:port/vhost.",
    ),
]

AMQP = [
    cfg.BoolOpt("ssl", default=False, help="Speak TLS with the broker; its default port is then 5671."),
    cfg.Opt(
        "ca_file", type=Form(tls.readable_file), help="Who may have signed its certificate; default: the system's."
    ),
    cfg.Opt("cert_file", type=Form(tls.readable_file), help="Our certificate, with the chain to its authority."),
    cfg.Opt("key_file", type=Form(tls.readable_file), help="The certificate's key, unencrypted."),
    cfg.StrOpt(
        "login",
        default="password",
        choices=["password", "certificate"],
        help="With the URL's user and password, or as the common name of our certificate (an agent's: "
        "selvedge-agent.<host>).",
    ),
]

API = [
    cfg.Opt("cert_file", type=Form(tls.readable_file), help="The API's certificate: it then speaks HTTPS only."),
    cfg.Opt("key_file", type=Form(tls.readable_file), help="The certificate's key, unencrypted."),
    cfg.Opt(
        "client_ca_file",
        type=Form(tls.readable_file),
        help="Clients must have a certificate signed by one of these; default: anybody may connect.",
    ),
]

AGENTS = [
    cfg.StrOpt(
        "accounts",
        default="per_host",
        choices=["per_host", "shared"],
        help="per_host: an agent speaks only for the host that its account on the broker is named after (see 'selvedge "
        "host'); shared: whoever may send calls speaks for any host.",
    ),
]

CONTROLLER = [
    cfg.HostAddressOpt("bind_host", default="127.0.0.1", help="Address that the API listens on."),
    cfg.PortOpt("bind_port", default=9696, min=1, help="TCP port that the API listens on."),
    cfg.IntOpt("workers", default=1, min=1, max=256, help="Processes; each one is a whole controller."),
    cfg.IntOpt("threads", default=16, min=1, max=1024, help="API requests that one worker serves at a time."),
    cfg.IntOpt("client_timeout", default=30, min=1, help="Seconds that a client may pause in the middle of a request."),
    cfg.IntOpt("rpc_threads", default=8, min=1, max=256, help="Agents' calls that one worker serves at a time."),
    cfg.StrOpt("auth_strategy", default="noauth", choices=["noauth"], help="Who tells a request's user and project."),
    cfg.Opt("base_mac", type=Form(mac), default="fa:16:3e:00:00:00", help="First half of generated MAC addresses."),
    cfg.IntOpt("global_physnet_mtu", default=1500, min=68, max=65535, help="MTU of the underlay, in bytes."),
    cfg.StrOpt(
        "default_network_type",
        default="geneve",
        choices=["geneve", "vxlan", "vlan", "flat"],
        help="Segment type of a network whose request names none.",
    ),
    cfg.IntOpt("agent_down_time", default=75, min=1, help="Seconds without a report until an agent is not alive."),
    cfg.IntOpt("max_fixed_ips_per_port", default=5, min=1),
    cfg.IntOpt("max_allowed_address_pair", default=10, min=0),
    cfg.IntOpt("max_dns_nameservers", default=5, min=0),
    cfg.IntOpt("max_subnet_host_routes", default=20, min=0),
    cfg.IntOpt("pagination_max_limit", default=-1, min=-1, help="Most items of a page; -1: as many as asked for."),
    cfg.BoolOpt("allow_bulk", default=True),
]

DATABASE = [
    cfg.Opt(
        "connection",
        type=Form(database_url),
        default="sqlite:////var/lib/selvedge/selvedge.db",
        secret=True,
        help="SQLAlchemy's URL: sqlite:////absolute/path or postgresql+psycopg://user:password@host/database; "
        "for TLS with ?sslmode=verify-full&sslrootcert=FILE.",
    ),
]

NETWORKS = [
    cfg.Opt("geneve_vni_ranges", type=Form(vni_ranges), default="1:16777215"),
    cfg.Opt("vxlan_vni_ranges", type=Form(vni_ranges), default="1:16777215"),
    cfg.Opt(
        "vlan_ranges", type=Form(vlan_ranges), default="", help="physnet1:100:199,physnet2: what to allocate where."
    ),
    cfg.ListOpt("flat_networks", default=["*"], help="Physical networks that may be flat; * is any."),
]

AGENT_DEFAULT = [
    cfg.Opt("host", type=Form(host_name), default=socket.gethostname(), help="This hypervisor, as in binding:host_id."),
]

AGENT = [
    cfg.Opt(
        "tunnel_ip", type=Form(ipv4), help="IPv4 address of the tunnel end point; without it there are no overlays."
    ),
    cfg.ListOpt("tunnel_types", default=["geneve", "vxlan"], item_type=types.String(choices=["geneve", "vxlan"])),
    cfg.Opt("bridge_mappings", type=Form(mappings), default="", help="physnet1:br-ex,…: where provider networks are."),
    cfg.StrOpt("integration_bridge", default="br-int"),
    cfg.StrOpt("datapath_type", default="system", choices=["system", "netdev"]),
    cfg.StrOpt("ovs_rundir", default="/var/run/openvswitch", help="Directory of db.sock and bridges' .mgmt."),
    cfg.IntOpt("report_interval", default=30, min=1, help="Seconds between two reports to the controllers."),
    cfg.IntOpt("audit_interval", default=60, min=0, help="Seconds between two readings of the switch; 0: never."),
    cfg.StrOpt(
        "foreign_flows",
        default="remove",
        choices=["remove", "keep"],
        help="What becomes of flows and groups on the integration bridge that are not Selvedge's.",
    ),
    # Not the controller's directory: systemd gives each of the two to another user.
    cfg.StrOpt(
        "state_dir", default="/var/lib/selvedge-agent", help="Directory of status.json, topology and lock files."
    ),
]

Groups = Mapping[str | None, Sequence[cfg.Opt]]

CONTROLLER_GROUPS: Groups = {
    None: [*COMMON, *CONTROLLER],
    "amqp": AMQP,
    "api": API,
    "agents": AGENTS,
    "database": DATABASE,
    "networks": NETWORKS,
}
AGENT_GROUPS: Groups = {None: [*COMMON, *AGENT_DEFAULT], "amqp": AMQP, "agent": AGENT}


def load_controller(argv: Sequence[str] | None = None, cli: Sequence[cfg.Opt] = ()) -> cfg.ConfigOpts:
    """The controller's options. `argv` without the command's name, None: the process' own. Raises BadOption."""
    return _load("selvedge-controller", CONTROLLER_GROUPS, argv, cli)


def load_agent(argv: Sequence[str] | None = None, cli: Sequence[cfg.Opt] = ()) -> cfg.ConfigOpts:
    """The agent's options. Raises BadOption."""
    return _load("selvedge-agent", AGENT_GROUPS, argv, cli)


def _load(prog: str, groups: Groups, argv: Sequence[str] | None, cli: Sequence[cfg.Opt]) -> cfg.ConfigOpts:
    from oslo_log import log  # 20 ms that who only reads declarations need not pay

    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf.set_default("use_stderr", True)
    conf.set_default("default_log_levels", [*log.get_default_log_levels(), *QUIET])
    conf.set_default(
        "logging_default_format_string", "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s: %(message)s"
    )
    conf.register_cli_opts(cli)
    for group, options in groups.items():
        conf.register_opts(options, group=group)
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            conf(argv, project="selvedge", prog=prog, version=__version__)
    except (cfg.Error, OSError) as error:
        raise BadOption(" ".join(str(error).split())) from error
    except SystemExit as end:
        if end.code == 1:  # a value of an option that the command line has too: the library has written the reason
            raise BadOption(" ".join(said.getvalue().split())) from end
        sys.stderr.write(said.getvalue())
        raise
    except ValueError as error:
        raise BadOption(f"a configuration file is not of UTF-8 text: {error}") from error
    for group, options in groups.items():
        for option in options:
            _value(conf, group, option.dest)
    try:
        tls.access(conf)
        if "api" in groups:
            tls.listener(conf)
    except ValueError as error:
        raise BadOption(str(error)) from error
    return conf


def _value(conf: cfg.ConfigOpts, group: str | None, name: str) -> Any:
    try:
        return conf[group][name] if group else conf[name]
    except (cfg.Error, ValueError) as error:
        reason = error.__cause__ or error.__context__ or error
        raise BadOption(f"option [{group or 'DEFAULT'}] {name}: {reason}".replace("\n", " ")) from error


def setup_logging(conf: cfg.ConfigOpts, product: str) -> None:
    """oslo.log to standard error, unless the options say otherwise; `debug` is ours, not every library's."""
    from oslo_log import log

    log.setup(conf, product, __version__)
