import java.util.Enumeration;
import netscape.ldap.LDAPAttribute;
import netscape.ldap.LDAPAttributeSet;
import netscape.ldap.LDAPConnection;
import netscape.ldap.LDAPControl;
import netscape.ldap.LDAPEntry;
import netscape.ldap.LDAPException;
import netscape.ldap.LDAPSearchConstraints;
import netscape.ldap.LDAPSearchResults;

/** The Java client of Netscape, which grew up with what is 389 Directory Server today. */
public final class NetscapeClient {
    private static final String MANAGE_DSA_IT = "2.16.840.1.113730.3.4.2";

    private NetscapeClient() {
    }

    /** The arguments are host and port. */
    public static void main(String[] args) throws Exception {
        LDAPConnection connection = new LDAPConnection();
        connection.connect(3, args[0], Integer.parseInt(args[1]), "", "");
        Wire.serve((q, a) -> search(connection, q, a));
        connection.disconnect();
    }

    private static int search(LDAPConnection connection, Wire.Question q, Wire.Answer a) throws Exception {
        LDAPSearchConstraints constraints = new LDAPSearchConstraints();
        constraints.setMaxResults(0);
        if (!q.manageDsaIT.isEmpty()) {
            constraints.setServerControls(new LDAPControl(MANAGE_DSA_IT, q.manageDsaIT.equals("critical"), null));
        }
        String[] attributes = q.attributes.length == 0 ? null : q.attributes;
        try {
            LDAPSearchResults results = connection.search(q.base, q.scope, q.filter, attributes, false, constraints);
            while (results.hasMoreElements()) {
                entry(results.next(), a);
            }
            return 0;
        } catch (LDAPException e) {
            return e.getLDAPResultCode();
        }
    }

    private static void entry(LDAPEntry e, Wire.Answer a) {
        a.entry(e.getDN() == null ? "" : e.getDN()); // null is the name of the root DSE
        LDAPAttributeSet set = e.getAttributeSet();
        for (int i = 0; i < set.size(); i++) {
            LDAPAttribute attribute = set.elementAt(i);
            Enumeration<?> values = attribute.getByteValues();
            while (values.hasMoreElements()) {
                a.value(attribute.getName(), values.nextElement());
            }
        }
    }
}
