"""ldap3 as it is set up by default: it reads the root DSE and the schema when it
connects and holds every attribute and filter against them."""

import sys

import ldap3

import wire

SCOPES = [ldap3.BASE, ldap3.LEVEL, ldap3.SUBTREE]

server = ldap3.Server(sys.argv[1], int(sys.argv[2]), get_info=ldap3.ALL, connect_timeout=10)
connection = ldap3.Connection(server, auto_bind=True, receive_timeout=15, return_empty_attributes=False)
if server.schema is None or "userCertificate" not in server.schema.attribute_types:
    sys.exit("the schema was not read")


def search(q):
    controls = None
    if q.manage_dsa_it:
        controls = [(wire.MANAGE_DSA_IT, q.manage_dsa_it == "critical", None)]
    connection.search(q.base, q.filter, SCOPES[q.scope], attributes=q.attributes or ldap3.ALL_ATTRIBUTES, controls=controls)
    found = [(e["dn"], e["raw_attributes"]) for e in connection.response if e["type"] == "searchResEntry"]
    return found, connection.result["result"]


wire.serve(search)
