#!/bin/bash
# DevStack's plugin: installs and configures Selvedge's controller and agent in the place of Neutron's.
# DevStack sources this file once per phase: $1 is stack, unstack or clean, $2 the phase of stack.

function selvedge_install {
    install_package openvswitch-switch
    # A virtual environment of its own: 'agents' is also the name of other people's package.
    [[ -x $SELVEDGE_VENV/bin/python ]] || /usr/bin/python3 -m venv "$SELVEDGE_VENV"
    "$SELVEDGE_VENV/bin/pip" install --quiet -e "$SELVEDGE_DIR"
}

function selvedge_configure {
    sudo install -d -o "$STACK_USER" "$SELVEDGE_CONF_DIR" "$SELVEDGE_STATE_DIR"
    if is_service_enabled selvedge-controller; then
        local conf=$SELVEDGE_CONF_DIR/controller.conf
        install -m 640 "$SELVEDGE_DIR/devstack/etc/controller.conf" "$conf"
        iniset "$conf" DEFAULT transport_url "$(get_transport_url)"
        iniset "$conf" DEFAULT bind_host "$SERVICE_LISTEN_ADDRESS"
        iniset "$conf" DEFAULT bind_port "$SELVEDGE_PORT"
        # DevStack has one account on the broker, for everybody.
        iniset "$conf" agents accounts shared
        iniset "$conf" networks vlan_ranges "$SELVEDGE_VLAN_RANGES"
        if is_service_enabled postgresql; then
            iniset "$conf" database connection \
                "postgresql+psycopg://$DATABASE_USER:$DATABASE_PASSWORD@$DATABASE_HOST/selvedge"
        else
            iniset "$conf" database connection "sqlite:///$SELVEDGE_STATE_DIR/selvedge.db"
        fi
    fi
    if is_service_enabled selvedge-agent; then
        local conf=$SELVEDGE_CONF_DIR/agent.conf
        install -m 640 "$SELVEDGE_DIR/devstack/etc/agent.conf" "$conf"
        iniset "$conf" DEFAULT transport_url "$(get_transport_url)"
        iniset "$conf" DEFAULT host "$(hostname)"
        iniset "$conf" agent tunnel_ip "$SELVEDGE_TUNNEL_IP"
        iniset "$conf" agent bridge_mappings "public:$SELVEDGE_PUBLIC_BRIDGE"
        iniset "$conf" agent state_dir "$SELVEDGE_STATE_DIR/agent"
        mkdir -p "$SELVEDGE_STATE_DIR/agent"
        sudo ovs-vsctl --may-exist add-br "$SELVEDGE_PUBLIC_BRIDGE"
    fi
}

function selvedge_start {
    if is_service_enabled selvedge-controller; then
        is_service_enabled postgresql && recreate_database selvedge
        run_process selvedge-controller \
            "$SELVEDGE_VENV/bin/selvedge-controller --config-file $SELVEDGE_CONF_DIR/controller.conf"
        get_or_create_service neutron network "Selvedge"
        get_or_create_endpoint network "$REGION_NAME" "http://$SERVICE_HOST:$SELVEDGE_PORT/"
        wait_for_service "$SERVICE_TIMEOUT" "http://$SERVICE_HOST:$SELVEDGE_PORT/"
    fi
    if is_service_enabled selvedge-agent; then
        # Open vSwitch's sockets belong to root.
        run_process selvedge-agent \
            "$SELVEDGE_VENV/bin/selvedge-agent --config-file $SELVEDGE_CONF_DIR/agent.conf" "" root
    fi
}

case "$1:${2:-}" in
stack:install) selvedge_install ;;
stack:post-config)
    # Before Nova starts, which looks for the network service.
    selvedge_configure
    selvedge_start
    ;;
unstack:*)
    stop_process selvedge-agent
    stop_process selvedge-controller
    ;;
clean:*) sudo rm -rf "$SELVEDGE_CONF_DIR" "$SELVEDGE_STATE_DIR" ;;
esac
