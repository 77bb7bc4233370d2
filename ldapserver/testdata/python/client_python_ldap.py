"""python-ldap, which wraps OpenLDAP's library. It reads and parses the schema
first, as its own tools do."""

import sys

import ldap
import ldap.schema
from ldap.controls.simple import ManageDSAITControl

import wire

connection = ldap.initialize("ldap://%s:%s" % (sys.argv[1], sys.argv[2]))
connection.set_option(ldap.OPT_PROTOCOL_VERSION, 3)
connection.set_option(ldap.OPT_NETWORK_TIMEOUT, 10)
connection.simple_bind_s("", "")
where = connection.search_subschemasubentry_s("")
schema = ldap.schema.SubSchema(connection.read_subschemasubentry_s(where))
if schema.get_obj(ldap.schema.AttributeType, "userCertificate") is None:
    sys.exit("the schema was not read")


def search(q):
    controls = []
    if q.manage_dsa_it:
        controls = [ManageDSAITControl(criticality=q.manage_dsa_it == "critical")]
    try:
        found = connection.search_ext_s(q.base, q.scope, q.filter, q.attributes or None, serverctrls=controls, timeout=15)
    except ldap.LDAPError as e:
        return [], e.args[0]["result"]
    return found, 0


wire.serve(search)
