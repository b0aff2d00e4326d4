#!/bin/sh
# What tests, demo and lab need on Debian 12: its packages, and .venv with Selvedge in it. Quick when all is there.
# Starts no service and leaves none running: the lab runs its own brokers, databases and switches.
set -eu

packages="openvswitch-switch rabbitmq-server postgresql mininet iproute2 iputils-ping ethtool tcpdump procps util-linux
python3 python3-venv"

home=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$home"

if [ "$(id -u)" != 0 ]; then
    echo "Selvedge's set-up, demo and tests make network namespaces and need root: run this as root." >&2
    exit 1
fi

missing=""
# shellcheck disable=SC2086
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $packages 2>/dev/null || true)
for package in $packages; do
    case "
$installed
" in
    *"
installed $package
"*) ;;
    *) missing="$missing $package" ;;
    esac
done

if [ -n "$missing" ]; then
    echo "installing Debian packages:$missing"
    guard=/usr/sbin/policy-rc.d
    if [ ! -e "$guard" ]; then
        # Debian asks this file before it starts a service; 101 means: do not.
        trap 'rm -f "$guard"' EXIT INT TERM
        printf '#!/bin/sh\nexit 101\n' > "$guard"
        chmod 755 "$guard"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    # shellcheck disable=SC2086
    apt-get install -qy --no-install-recommends $missing
    # Nor shall the next boot start what only a lab needs.
    if [ -d /run/systemd/system ]; then
        for pair in openvswitch-switch:openvswitch-switch.service rabbitmq-server:rabbitmq-server.service \
            rabbitmq-server:epmd.socket postgresql:postgresql.service; do
            case " $missing " in
            *" ${pair%%:*} "*) systemctl disable --now --quiet "${pair#*:}" || true ;;
            esac
        done
    fi
fi

wanted=$(cat setup.cfg pyproject.toml /etc/debian_version | sha256sum)
if [ "$(cat .venv/.installed 2>/dev/null)" != "$wanted" ] || [ ! -x .venv/bin/selvedge-controller ]; then
    echo "installing Python packages into .venv"
    # Debian's own Python: Mininet is installed for no other.
    [ -x .venv/bin/python ] || /usr/bin/python3 -m venv --system-site-packages .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test,lint]' 'tox>=4.11'
    echo "$wanted" > .venv/.installed
fi
