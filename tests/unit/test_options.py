"""Options are read at once, arrive parsed, and a wrong one is named in one line."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selvedge import options


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], list[str]]:
    """Arguments that name a file of this content."""

    def file(content: str) -> list[str]:
        path = tmp_path / "test.conf"
        path.write_text(content)
        return ["--config-file", str(path)]

    return file


Write = Callable[[str], list[str]]


def test_defaults_serve_a_machine_of_its_own(write: Write) -> None:
    conf = options.load_controller(write(""))
    assert (conf.bind_host, conf.bind_port, conf.workers, conf.auth_strategy) == ("127.0.0.1", 9696, 1, "noauth")
    assert conf.networks.geneve_vni_ranges == ((1, 16777215),)
    assert conf.networks.vlan_ranges == {} and conf.networks.flat_networks == ["*"]
    agent = options.load_agent(write("")).agent
    assert agent.tunnel_ip is None and agent.tunnel_types == ["geneve", "vxlan"] and agent.bridge_mappings == {}


def test_values_arrive_parsed(write: Write) -> None:
    conf = options.load_controller(
        write("[networks]\nvlan_ranges = p1:100:199, p2, p1:300\nvxlan_vni_ranges = 1:9,20:29\n")
    )
    assert conf.networks.vlan_ranges == {"p1": ((100, 199), (300, 300)), "p2": ()}
    assert conf.networks.vxlan_vni_ranges == ((1, 9), (20, 29))
    conf = options.load_agent(write("[DEFAULT]\nhost = hv1\n[agent]\nbridge_mappings = p1:br-ex, p2:br-lan\n"))
    assert conf.host == "hv1" and conf.agent.bridge_mappings == {"p1": "br-ex", "p2": "br-lan"}


@pytest.mark.parametrize(
    ("load", "content", "named", "reason"),
    [
        (options.load_agent, "[agent]\ntunnel_ip = 10.0.0.300\n", "[agent] tunnel_ip", "10.0.0.300"),
        (options.load_agent, "[agent]\ntunnel_ip = fd00::1\n", "[agent] tunnel_ip", "fd00::1"),
        (options.load_agent, "[agent]\ntunnel_types = geneve,gre\n", "[agent] tunnel_types", "gre"),
        (options.load_agent, "[agent]\nbridge_mappings = p1\n", "[agent] bridge_mappings", "PHYSICAL_NETWORK:BRIDGE"),
        (options.load_agent, "[agent]\nbridge_mappings = p1:a,p2:a\n", "[agent] bridge_mappings", "twice"),
        (options.load_agent, "[agent]\nreport_interval = 0\n", "[agent] report_interval", "1"),
        (options.load_agent, "[DEFAULT]\nhost = a b\n", "[DEFAULT] host", "'a b'"),
        (options.load_agent, "[DEFAULT]\ntransport_url = http://h\n", "[DEFAULT] transport_url", "rabbit://"),
        (options.load_controller, "[DEFAULT]\nbind_port = 65536\n", "[DEFAULT] bind_port", "65535"),
        (options.load_controller, "[DEFAULT]\nbase_mac = fa:16\n", "[DEFAULT] base_mac", "fa:16"),
        (options.load_controller, "[DEFAULT]\nauth_strategy = trust\n", "[DEFAULT] auth_strategy", "noauth"),
        (options.load_controller, "[networks]\nvlan_ranges = p1:4000:5000\n", "[networks] vlan_ranges", "1:4094"),
        (options.load_controller, "[networks]\nvlan_ranges = p1:9:1\n", "[networks] vlan_ranges", "9:1"),
        (options.load_controller, "[networks]\ngeneve_vni_ranges = 0:5\n", "[networks] geneve_vni_ranges", "0:5"),
        (options.load_controller, "[networks]\nvxlan_vni_ranges = x\n", "[networks] vxlan_vni_ranges", "'x'"),
        (options.load_agent, "[amqp]\nssl = true\nca_file = /no/ca\n", "[amqp] ca_file", "/no/ca: No such file"),
        (options.load_agent, "[amqp]\nca_file = /dev/null\n", "[amqp] ca_file", "ssl is not"),
        (options.load_agent, "[amqp]\nlogin = certificate\n", "[amqp] login", "ssl = true"),
        (options.load_agent, "[amqp]\nssl = true\nlogin = certificate\n", "[amqp] login", "cert_file"),
        (options.load_agent, "[amqp]\nssl = true\nkey_file = /dev/null\n", "[amqp] cert_file", "is missing"),
        (options.load_agent, "[amqp]\nssl = true\ncert_file = /dev/null\n", "[amqp] key_file", "is missing"),
        (options.load_agent, "[amqp]\nssl = true\nca_file = /etc/hostname\n", "[amqp] ca_file", "no certificate"),
        (
            options.load_controller,
            "[api]\ncert_file = /etc/hostname\nkey_file = /etc/hostname\n",
            "[api] cert_file",
            "no certificate with its key",
        ),
        (options.load_controller, "[api]\nclient_ca_file = /dev/null\n", "[api] client_ca_file", "cert_file is not"),
        (options.load_controller, "[agents]\naccounts = all\n", "[agents] accounts", "per_host"),
        (options.load_controller, "[database]\nconnection = selvedge.db\n", "[database] connection", "sqlite:////"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_option(
    write: Write, load: Callable[[list[str]], Any], content: str, named: str, reason: str
) -> None:
    with pytest.raises(options.BadOption) as caught:
        load(write(content))
    text = str(caught.value)
    assert named in text and reason in text and "\n" not in text


@pytest.mark.parametrize("content", ["[DEFAULT", "no section = 1\n"])
def test_a_file_that_is_none_names_itself(write: Write, content: str) -> None:
    arguments = write(content)
    with pytest.raises(options.BadOption, match=r"test\.conf"):
        options.load_agent(arguments)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(options.BadOption, match=r"/no/such/file"):
        options.load_controller(["--config-file", "/no/such/file"])


SAMPLES = Path(__file__).resolve().parents[2] / "devstack" / "etc"


@pytest.mark.parametrize(
    ("name", "load", "groups"),
    [
        ("controller.conf", options.load_controller, options.CONTROLLER_GROUPS),
        ("agent.conf", options.load_agent, options.AGENT_GROUPS),
    ],
)
def test_the_sample_has_every_option_and_no_other(
    name: str, load: Callable[[list[str]], Any], groups: options.Groups
) -> None:
    """What is commented out is the default; what is not can be loaded."""
    path = SAMPLES / name
    section, told, commented = "", set[tuple[str, str]](), dict[tuple[str, str], str]()
    for line in path.read_text().splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
        elif line_of := re.fullmatch(r"(# )?(\w+) = (.*)", line):
            told.add((section, line_of[2]))
            if line_of[1]:
                commented[section, line_of[2]] = line_of[3]
    declared = {(group or "DEFAULT", option.dest): option for group, known in groups.items() for option in known}
    assert told == declared.keys()
    load(["--config-file", str(path)])
    for place, text in commented.items():
        option = declared[place]
        if option.dest == "host" or option.default is None:
            continue  # the machine's name, or an example
        assert option.type(text) == option.type(option.default), place
