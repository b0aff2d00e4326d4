"""A small data centre on one machine: broker, database, controllers, and hypervisors in network namespaces.

`devstack/lab` is its command (`cli`); tests and benchmarks use `lab.Lab`. From the bottom: `process` (a daemon with a
record from which anyone can stop it later), `broker` and `postgres` (services of the lab's own), `netns` and `ground`
(namespaces and wires), `hypervisor` (the one recipe that starts one), `vm`, `lab`.
`mininet_node` puts the same recipe into Mininet.
Nothing here touches the machine's own Open vSwitch, RabbitMQ or PostgreSQL; several labs may run side by side.
"""
