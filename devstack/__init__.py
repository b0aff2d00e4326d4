"""The DevStack plugin, and `labs`: hypervisors in network namespaces, for trying, testing and measuring."""
