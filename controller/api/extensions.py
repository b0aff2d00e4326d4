"""The extensions that this API claims. A claim is a promise: whatever is listed here works as Neutron's does.

Names, descriptions and dates are Neutron's, since clients show them; the aliases are what clients decide by.
"""

from typing import NamedTuple


class Extension(NamedTuple):
    alias: str
    name: str
    description: str
    updated: str

    @property
    def view(self) -> dict[str, object]:
        """As the API shows it."""
        return {**self._asdict(), "links": []}


EXTENSIONS = {
    extension.alias: extension
    for extension in (
        Extension(
            "aap-reject-multicast",
            "Allowed address pairs reject multicast extension",
            "Reject multicast addresses in Allowed Address Pairs",
            "2026-04-01T00:00:00-00:00",
        ),
        Extension("agent", "agent", "The agent management extension.", "2013-02-03T10:00:00-00:00"),
        Extension(
            "allowed-address-pairs",
            "Allowed Address Pairs",
            "Provides allowed address pairs",
            "2013-07-23T10:00:00-00:00",
        ),
        Extension(
            "binding",
            "Port Binding",
            "Expose port bindings of a virtual port to external application",
            "2014-02-03T10:00:00-00:00",
        ),
        Extension(
            "empty-string-filtering",
            "Empty String Filtering Extension",
            "Allow filtering by attributes with empty string value",
            "2018-05-01T10:00:00-00:00",
        ),
        Extension(
            "filter-validation",
            "Filter parameters validation",
            "Provides validation on filter parameters.",
            "2018-07-04T10:00:00-00:00",
        ),
        Extension(
            "ip-substring-filtering",
            "IP address substring filtering",
            "Provides IP address substring filtering when listing ports",
            "2017-11-28T09:00:00-00:00",
        ),
        Extension(
            "net-mtu", "Network MTU", "Provides MTU attribute for a network resource.", "2015-03-25T10:00:00-00:00"
        ),
        Extension(
            "net-mtu-writable",
            "Network MTU (writable)",
            "Provides a writable MTU attribute for a network resource.",
            "2017-07-12T00:00:00-00:00",
        ),
        Extension(
            "pagination",
            "Pagination support",
            "Extension that indicates that pagination is enabled.",
            "2016-06-12T00:00:00-00:00",
        ),
        Extension("port-security", "Port Security", "Provides port security", "2012-07-23T10:00:00-00:00"),
        Extension(
            "project-id",
            "project_id field enabled",
            "Extension that indicates that project_id field is enabled.",
            "2016-09-09T09:09:09-09:09",
        ),
        Extension(
            "provider",
            "Provider Network",
            "Expose mapping of virtual networks to physical networks",
            "2012-09-07T10:00:00-00:00",
        ),
        Extension(
            "revision-if-match",
            "If-Match constraints based on revision_number",
            "Extension indicating that If-Match based on revision_number is supported.",
            "2016-12-11T00:00:00-00:00",
        ),
        Extension(
            "sort-key-validation",
            "Sort keys validation",
            "Provides validation on sort keys.",
            "2018-07-04T10:00:00-00:00",
        ),
        Extension(
            "sorting",
            "Sorting support",
            "Extension that indicates that sorting is enabled.",
            "2016-06-12T00:00:00-00:00",
        ),
        Extension(
            "standard-attr-description",
            "standard-attr-description",
            "Extension to add descriptions to standard attributes",
            "2016-02-10T10:00:00-00:00",
        ),
        Extension(
            "standard-attr-revisions",
            "Resource revision numbers",
            "This extension will display the revision number of neutron resources.",
            "2016-04-11T10:00:00-00:00",
        ),
        Extension(
            "standard-attr-timestamp",
            "Resource timestamps",
            "Adds created_at and updated_at fields to all Neutron resources that have Neutron standard attributes.",
            "2016-09-12T10:00:00-00:00",
        ),
    )
}
"""By alias."""
