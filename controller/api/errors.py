"""What a client is told when something cannot be done: Neutron's types, status codes and texts.

Clients match `type`, and some match the text, so a name and its text are part of the API. Each error is one class
with its sentence; the fields of the sentence are the keyword arguments of its constructor.
"""


class ApiError(Exception):
    """An answer with a status code and a `NeutronError` body. Subclasses name `status` and `text`."""

    status = 500
    text = "An unknown exception occurred."

    def __init__(self, **fields: object) -> None:
        self.message = self.text.format(**{name: _short(value) for name, value in fields.items()})
        super().__init__(self.message)

    @property
    def body(self) -> dict[str, dict[str, str]]:
        """The JSON document of the answer."""
        return {"NeutronError": {"type": type(self).__name__, "message": self.message, "detail": ""}}


def _short(value: object) -> str:
    """A client that sends a megabyte as a name does not get it back."""
    shown = str(value)
    return shown if len(shown) <= 500 else shown[:500] + "…"


class NotFound(ApiError):
    status = 404
    text = "An unknown resource was named."


class Conflict(ApiError):
    status = 409
    text = "The request conflicts with what there is."


class BadRequest(ApiError):
    status = 400
    text = "Bad {resource} request: {msg}."


class Unavailable(ApiError):
    status = 503


class HTTPBadRequest(BadRequest):
    text = "{reason}"


class HTTPNotFound(NotFound):
    text = "The resource could not be found."


class HTTPMethodNotAllowed(ApiError):
    status = 405
    text = "The method {method} is not allowed for this resource."


class HTTPRequestEntityTooLarge(ApiError):
    status = 413
    text = "The body of the request is larger than {limit} bytes."


class HTTPNotImplemented(ApiError):
    status = 501
    text = "{reason}"


class HTTPInternalServerError(ApiError):
    text = "Request Failed: internal server error while processing your request."


class MalformedRequestBody(BadRequest):
    text = "Malformed request body: {reason}."


class InvalidInput(BadRequest):
    text = "Invalid input for operation: {error_message}."


class PolicyNotAuthorized(ApiError):
    status = 403
    text = "({rule}) is disallowed by policy"


class RevisionNumberConstraintFailed(ApiError):
    status = 412
    text = "Constrained to {expected}, but current revision is {current}"


class HTTPServiceUnavailable(Unavailable):
    text = "The service is unavailable: {reason}."


class ExtensionNotFound(NotFound):
    text = "Extension with alias {alias} does not exist"


class NetworkNotFound(NotFound):
    text = "Network {id} could not be found."


class SubnetNotFound(NotFound):
    text = "Subnet {id} could not be found."


class PortNotFound(NotFound):
    text = "Port {id} could not be found."


class AgentNotFound(NotFound):
    text = "Agent {id} could not be found."


class NetworkInUse(Conflict):
    text = "Unable to complete operation on network {id}. There are one or more ports still in use on the network."


class InvalidSharedSetting(Conflict):
    text = "Unable to reconfigure sharing settings for network {network}. Multiple projects are using it."


class NetworkMTUSubnetConflict(Conflict):
    text = "MTU of {id} is not valid, subnet requires a minimum of {mtu}"


class VlanIdInUse(Conflict):
    text = "Unable to create the network. The VLAN {vlan_id} on physical network {physical_network} is in use."


class TunnelIdInUse(Conflict):
    text = "Unable to create the network. The tunnel ID {tunnel_id} is in use."


class FlatNetworkInUse(Conflict):
    text = "Unable to create the flat network. Physical network {physical_network} is in use."


class NoNetworkAvailable(Unavailable):
    text = "Unable to create the network. No project network is available for allocation."


class SubnetInUse(Conflict):
    text = "Unable to complete operation on subnet {id}: One or more ports have an IP allocation from this subnet."


class InvalidAllocationPool(BadRequest):
    text = "The allocation pool {pool} is not valid."


class OutOfBoundsAllocationPool(BadRequest):
    text = "The allocation pool {pool} spans beyond the subnet cidr {cidr}."


class OverlappingAllocationPools(Conflict):
    text = "Found overlapping allocation pools: {pool_1} {pool_2} for subnet {cidr}."


class GatewayConflictWithAllocationPools(Conflict):
    text = "Gateway ip {ip_address} conflicts with allocation pool {pool}."


class GatewayIpInUse(Conflict):
    text = "Current gateway ip {ip_address} already in use by port {port_id}. Unable to update."


class DNSNameServersExhausted(BadRequest):
    text = "Unable to complete operation for {id}. The number of DNS nameservers exceeds the limit {quota}."


class HostRoutesExhausted(BadRequest):
    text = "Unable to complete operation for {id}. The number of host routes exceeds the limit {quota}."


class MacAddressInUse(Conflict):
    text = "Unable to complete operation for network {network}. The mac address {mac} is in use."


class IpAddressInUse(Conflict):
    text = "Unable to complete operation for network {network}. The IP address {ip_address} is in use."


class IpAddressGenerationFailure(Conflict):
    text = "No more IP addresses available on network {network}."


class InvalidIpForNetwork(BadRequest):
    text = "IP address {ip_address} is not a valid IP for any of the subnets on the specified network."


class InvalidIpForSubnet(BadRequest):
    text = "IP address {ip_address} is not a valid IP for the specified subnet."


class AllocationOnAutoAddressSubnet(BadRequest):
    text = (
        "IPv6 address {ip_address} can not be directly assigned to a port on subnet {subnet} as the subnet is "
        "configured for automatic addresses."
    )


class PortBound(Conflict):
    text = (
        "Unable to complete operation on port {id}, port is already bound, port type: {vif_type}, "
        "old_mac {old_mac}, new_mac {new_mac}."
    )


class AllowedAddressPairsMissingIP(BadRequest):
    text = "AllowedAddressPair must contain ip_address"


class DuplicateAddressPairInRequest(BadRequest):
    text = "Request contains duplicate address pair: mac_address {mac_address} ip_address {ip_address}."


class AllowedAddressPairExhausted(BadRequest):
    text = "The number of allowed address pair exceeds the maximum {quota}."


class AddressPairAndPortSecurityRequired(Conflict):
    text = "Port Security must be enabled in order to have allowed address pairs on a port."


class SecurityGroupNotFound(NotFound):
    text = "Security group {id} does not exist"


class SecurityGroupInUse(Conflict):
    text = "Security Group {id} in use."


class SecurityGroupConflict(Conflict):
    text = "Error {reason} while attempting the operation."


class SecurityGroupDefaultAlreadyExists(Conflict):
    text = "Default security group already exists."


class SecurityGroupCannotRemoveDefault(Conflict):
    text = "Insufficient rights for removing default security group."


class SecurityGroupCannotUpdateDefault(Conflict):
    text = "Updating default security group not allowed."


class SecurityGroupRuleNotFound(NotFound):
    text = "Security group rule {id} does not exist"


class SecurityGroupRuleExists(Conflict):
    text = "Security group rule already exists. Rule id is {rule_id}."


class DuplicateSecurityGroupRuleInPost(Conflict):
    text = "Duplicate Security Group Rule in POST."


class SecurityGroupNotSingleGroupRules(BadRequest):
    text = "Only allowed to update rules for one security profile at a time"


class SecurityGroupRulesNotSingleProject(BadRequest):
    text = "Multiple project_ids in bulk security group rule create not allowed"


class SecurityGroupRuleInvalidProtocol(BadRequest):
    text = (
        "Security group rule protocol {protocol} not supported. Only protocol values {values} and integer "
        "representations [0 to 255] are supported."
    )


class SecurityGroupRuleInvalidEtherType(BadRequest):
    text = "Security group rule for ethertype '{ethertype}' not supported. Allowed values are {values}."


class SecurityGroupEthertypeConflictWithProtocol(BadRequest):
    text = "Invalid ethertype {ethertype} for protocol {protocol}."


class SecurityGroupProtocolRequiredWithPorts(BadRequest):
    text = "Must also specify protocol if port range is given."


class SecurityGroupInvalidProtocolForPort(BadRequest):
    text = "Ports cannot be specified for protocol {protocol}. Ports are only supported for {valid_port_protocols}."


class SecurityGroupInvalidPortValue(BadRequest):
    text = "Invalid value for port {port}"


class SecurityGroupInvalidPortRange(BadRequest):
    text = "For TCP/UDP protocols, port_range_min must be <= port_range_max"


class SecurityGroupInvalidIcmpValue(BadRequest):
    text = "Invalid value for ICMP {field} ({attr}) {value}. It must be 0 to 255."


class SecurityGroupMissingIcmpType(BadRequest):
    text = "ICMP code (port-range-max) {value} is provided but ICMP type (port-range-min) is missing."


class SecurityGroupMultipleRemoteEntites(BadRequest):
    """Spelt as in Neutron: clients match the name."""

    text = "Only one of remote_ip_prefix or remote_group_id or remote_address_group_id may be provided."


class SecurityGroupRuleParameterConflict(BadRequest):
    text = "Conflicting value ethertype {ethertype} for CIDR {cidr}"


class InvalidCIDR(BadRequest):
    text = "Invalid CIDR {input} given as IP prefix."


class DefaultSecurityGroupRuleNotFound(NotFound):
    text = "Default Security Group rule {id} does not exist"


class DefaultSecurityGroupRuleExists(Conflict):
    text = "Default Security group rule already exists. Rule id is {rule_id}."


class DuplicateDefaultSgRuleInPost(Conflict):
    text = "Duplicate Default Security Group Rule in POST."


class AddressGroupNotFound(NotFound):
    text = "Address group {id} could not be found."


class AddressGroupInUse(Conflict):
    text = "Address group {id} is in use on one or more security group rules."


class AddressesNotFound(NotFound):
    text = "Addresses {addresses} not found in the address group {address_group_id}."


class AddressesAlreadyExist(BadRequest):
    text = "Addresses {addresses} already exist in the address group {address_group_id}."


class PortSecurityPortHasSecurityGroup(Conflict):
    text = (
        "Port has security group associated. Cannot disable port security or IP address until security group is "
        "removed."
    )


class PortSecurityAndIPRequiredForSecurityGroups(BadRequest):
    text = "Port security must be enabled and port must have an IP address in order to use security groups."
