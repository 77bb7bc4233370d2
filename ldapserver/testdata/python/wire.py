"""What the test says to a client, and the other way.

A search is one line of five fields (base, scope, filter, attributes,
ManageDsaIT) between tabs; its answer is a line "dn" per entry, a line "value"
per attribute value, both with what they carry in Base64, and a line "done" with
the result code.
"""

import base64
import sys

MANAGE_DSA_IT = "2.16.840.1.113730.3.4.2"


class Question:
    def __init__(self, line):
        base, scope, filter_, attributes, manage = line.rstrip("\n").split("\t")
        self.base = base
        self.scope = int(scope)
        self.filter = filter_
        self.attributes = attributes.split(",") if attributes else []
        self.manage_dsa_it = manage  # "", "sent" or "critical"


def encode(value):
    if isinstance(value, str):
        value = value.encode("utf-8")
    return base64.b64encode(value).decode("ascii")


def serve(search):
    """Answers until the input ends. search gives the entries, as pairs of a name
    and a dictionary of attributes to lists of values, and the result code."""
    for line in sys.stdin:
        try:
            entries, code = search(Question(line))
            text = ""
        except Exception as e:  # the test shows it
            entries, code, text = [], -1, repr(e)
        for dn, attributes in entries:
            print("dn", encode(dn), sep="\t")
            for name, values in attributes.items():
                for value in values:
                    print("value", name, encode(value), sep="\t")
        print("done", code, encode(text), sep="\t", flush=True)
