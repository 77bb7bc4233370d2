"""lib389, the library under the tools of 389 Directory Server: its own objects
for the root DSE and for an entry, and its connection for searches."""

import sys

import ldap
from ldap.controls.simple import ManageDSAITControl
from lib389 import DirSrv
from lib389._mapped_object import DSLdapObject
from lib389.rootdse import RootDSE

import wire

MEANT = "i am sure"  # what lib389 wants to hear before a search is not its own

server = DirSrv()
server.remote_simple_allocate(sys.argv[1], binddn="", password="")
server.open()


def search(q):
    if q.base == "" and q.scope == ldap.SCOPE_BASE and q.attributes:
        root = RootDSE(server)
        return [("", {a: root.get_attr_vals_bytes(a) for a in q.attributes})], 0
    if q.scope == ldap.SCOPE_BASE and q.filter == "(objectClass=*)" and q.attributes:
        found = DSLdapObject(server, q.base).get_attrs_vals(q.attributes)
        return [(q.base, {a: v for a, v in found.items() if v})], 0
    controls = []
    if q.manage_dsa_it:
        controls = [ManageDSAITControl(criticality=q.manage_dsa_it == "critical")]
    try:
        found = server.search_ext_s(q.base, q.scope, q.filter, q.attributes or None, serverctrls=controls, escapehatch=MEANT)
    except ldap.LDAPError as e:
        return [], e.args[0]["result"]
    return [(e.dn, {a: e.getValues(a) for a in e.getAttrs()}) for e in found], 0


wire.serve(search)
