"""The REST API, in the shape of OpenStack Networking v2.0.

A resource is one declaration: `attributes` in a table, a `Behaviour` for what only it does. One `machine` serves list,
show, create, bulk create, update and delete of them all; `app` is its WSGI face. To add an attribute is a line in the
resource's table and a column in the schema. Read `resource`, then `machine`, then `networks` as the example.
"""
