import java.util.Hashtable;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.naming.Context;
import javax.naming.NamingEnumeration;
import javax.naming.NamingException;
import javax.naming.directory.Attribute;
import javax.naming.directory.SearchControls;
import javax.naming.directory.SearchResult;
import javax.naming.ldap.Control;
import javax.naming.ldap.InitialLdapContext;
import javax.naming.ldap.LdapName;
import javax.naming.ldap.ManageReferralControl;

/**
 * The LDAP client of the Java platform, set up as the Java reference
 * implementation sets it up: several servers in one URL, no authentication,
 * objects asked for with the attributes, and a new connection for each search.
 */
public final class JndiClient {
    private static final Pattern CODE = Pattern.compile("error code (\\d+)");

    private JndiClient() {
    }

    /** The argument is the URL, or several between spaces. */
    public static void main(String[] args) throws Exception {
        Wire.serve((q, a) -> search(args[0], q, a));
    }

    private static int search(String url, Wire.Question q, Wire.Answer a) throws Exception {
        Hashtable<String, String> env = new Hashtable<>();
        env.put(Context.INITIAL_CONTEXT_FACTORY, "com.sun.jndi.ldap.LdapCtxFactory");
        env.put(Context.PROVIDER_URL, url);
        env.put(Context.SECURITY_AUTHENTICATION, "none");
        env.put("com.sun.jndi.ldap.connect.timeout", "10000");
        env.put("com.sun.jndi.ldap.read.timeout", "5000");
        env.put("java.naming.ldap.attributes.binary", "userCertificate, usercertificate");
        SearchControls controls = new SearchControls();
        controls.setReturningObjFlag(true);
        controls.setSearchScope(q.scope);
        controls.setReturningAttributes(q.attributes.length == 0 ? null : q.attributes);
        // The library adds ManageDsaIT to every request, not critical, unless it is
        // to show referrals.
        if (q.manageDsaIT.equals("critical")) {
            env.put(Context.REFERRAL, "throw");
        }
        InitialLdapContext context = new InitialLdapContext(env, null);
        try {
            if (q.manageDsaIT.equals("critical")) {
                context.setRequestControls(new Control[] {new ManageReferralControl(Control.CRITICAL)});
            }
            // A name as text goes through the rules of composite names, in which
            // a backslash has another meaning.
            NamingEnumeration<SearchResult> results = q.base.indexOf('\\') < 0
                ? context.search(q.base, q.filter, controls)
                : context.search(new LdapName(q.base), q.filter, controls);
            while (results.hasMore()) {
                entry(results.next(), a);
            }
            return 0;
        } catch (NamingException e) {
            Matcher m = CODE.matcher(String.valueOf(e.getMessage()));
            if (!m.find()) {
                throw e;
            }
            return Integer.parseInt(m.group(1));
        } finally {
            context.close();
        }
    }

    private static void entry(SearchResult r, Wire.Answer a) throws NamingException {
        a.entry(r.getNameInNamespace());
        NamingEnumeration<? extends Attribute> attributes = r.getAttributes().getAll();
        while (attributes.hasMore()) {
            Attribute attribute = attributes.next();
            NamingEnumeration<?> values = attribute.getAll();
            while (values.hasMore()) {
                a.value(attribute.getID(), values.next());
            }
        }
    }
}
