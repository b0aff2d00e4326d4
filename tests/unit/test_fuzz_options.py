"""A configuration file of any content starts a daemon or is one line that says what is wrong with it."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selvedge import options

BOUNDED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
GROUPS = {**options.CONTROLLER_GROUPS, **options.AGENT_GROUPS, None: options.COMMON + options.CONTROLLER}
NAMES = sorted(
    {option.name for group in GROUPS.values() for option in group} | {"host", "debug", "not_such", "log_file"}
)
VALUES = (
    st.sampled_from(
        ["", " ", "0", "-1", "1", "9" * 400, "1e9", "nan", "true", "$host", "$transport_url", "${", "%(x)s"]
    )
    | st.sampled_from(
        ["rabbit://", "rabbit://h:99999/", "rabbit://[::1/", "rabbit://u:secret@h:x/", "::", "10.0.0.1\n  b"]
    )
    | st.sampled_from(
        ["physnet1:1:2:3", "physnet1:br-ex,physnet1:br-y", ":", "²", "٣:٤", "\0", "[", "é" * 300, ",", "1:2,3"]
    )
)
SECTIONS = st.sampled_from(["DEFAULT", "agent", "database", "networks", "x", "", "]"])
LINES = st.one_of(
    st.builds("{} = {}".format, st.sampled_from(NAMES), VALUES),
    st.builds("[{}]".format, SECTIONS),
    st.sampled_from(["=", "x", "[", "  indented", "# é", ";"]),
)
FILES = st.lists(LINES, max_size=8).map("\n".join).map(str.encode) | st.binary(max_size=60)


SECRET = tuple(
    f"option [{group or 'DEFAULT'}] {option.name}" for group in GROUPS for option in GROUPS[group] if option.secret
)


@BOUNDED
@pytest.mark.parametrize("load", [options.load_agent, options.load_controller])
@given(content=FILES)
def test_any_file_is_read_or_refused_in_one_line(load: object, content: bytes, tmp_path: Path) -> None:
    """Given any bytes, and options of wrong values, the only error is `BadOption`: one line, and without the
    password if it is about an option that may have one."""
    path = tmp_path / "selvedge.conf"
    path.write_bytes(content)
    try:
        load(["--config-file", str(path)])  # type: ignore[operator]
    except options.BadOption as error:
        said = str(error)
        assert said and "\n" not in said
        assert not (said.startswith(SECRET) and "u:secret" in said)
