import org.apache.directory.api.ldap.model.cursor.SearchCursor;
import org.apache.directory.api.ldap.model.entry.Attribute;
import org.apache.directory.api.ldap.model.entry.Entry;
import org.apache.directory.api.ldap.model.entry.Value;
import org.apache.directory.api.ldap.model.exception.LdapOperationException;
import org.apache.directory.api.ldap.model.message.SearchRequest;
import org.apache.directory.api.ldap.model.message.SearchRequestImpl;
import org.apache.directory.api.ldap.model.message.SearchScope;
import org.apache.directory.api.ldap.model.message.controls.ManageDsaITImpl;
import org.apache.directory.api.ldap.model.name.Dn;
import org.apache.directory.ldap.client.api.LdapNetworkConnection;

/**
 * The client of Apache Directory, which the certificate discovery tool of the
 * certification uses: connect, bind anonymously, search, unbind, each time.
 */
public final class ApacheClient {
    private ApacheClient() {
    }

    /** The arguments are host and port. */
    public static void main(String[] args) throws Exception {
        Wire.serve((q, a) -> search(args[0], Integer.parseInt(args[1]), q, a));
    }

    private static int search(String host, int port, Wire.Question q, Wire.Answer a) throws Exception {
        try (LdapNetworkConnection connection = new LdapNetworkConnection(host, port)) {
            connection.connect();
            connection.anonymousBind();
            int code = searchBound(connection, q, a);
            connection.unBind();
            return code;
        }
    }

    private static int searchBound(LdapNetworkConnection connection, Wire.Question q, Wire.Answer a) throws Exception {
        if (q.base.isEmpty() && q.scope == 0 && q.attributes.length == 1) {
            // The tool has a call of its own for the root DSE.
            entry(connection.getRootDse(q.attributes[0]), a);
            return 0;
        }
        SearchRequest request = new SearchRequestImpl();
        request.setBase(new Dn(q.base));
        request.setScope(SearchScope.getSearchScope(q.scope));
        request.setFilter(q.filter);
        request.addAttributes(q.attributes);
        if (!q.manageDsaIT.isEmpty()) {
            ManageDsaITImpl control = new ManageDsaITImpl();
            control.setCritical(q.manageDsaIT.equals("critical"));
            request.addControl(control);
        }
        try (SearchCursor results = connection.search(request)) {
            while (results.next()) {
                if (results.isEntry()) {
                    entry(results.getEntry(), a);
                }
            }
            return results.getSearchResultDone().getLdapResult().getResultCode().getValue();
        } catch (LdapOperationException e) {
            return e.getResultCode().getValue();
        }
    }

    private static void entry(Entry e, Wire.Answer a) {
        a.entry(e.getDn().getName());
        for (Attribute attribute : e) {
            for (Value value : attribute) {
                a.value(attribute.getUpId(), value.getBytes());
            }
        }
    }
}
