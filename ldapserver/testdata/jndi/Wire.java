import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;

/**
 * What the test says to a client, and the other way: a search is one line of
 * five fields (base, scope, filter, attributes, ManageDsaIT) between tabs; its
 * answer is a line "dn" per entry, a line "value" per attribute value, both with
 * what they carry in Base64, and a line "done" with the result code.
 */
final class Wire {
    private Wire() {
    }

    /** One search. */
    static final class Question {
        final String base;
        final int scope; // 0 base, 1 one level, 2 subtree, as in the protocol
        final String filter;
        final String[] attributes; // empty asks for all
        final String manageDsaIT; // "", "sent" or "critical"

        Question(String line) {
            String[] f = line.split("\t", -1);
            base = f[0];
            scope = Integer.parseInt(f[1]);
            filter = f[2];
            attributes = f[3].isEmpty() ? new String[0] : f[3].split(",");
            manageDsaIT = f[4];
        }
    }

    /** Where a client puts what it found. */
    static final class Answer {
        private final PrintStream out = new PrintStream(System.out, false, StandardCharsets.US_ASCII);

        void entry(String dn) {
            out.println("dn\t" + encode(dn.getBytes(StandardCharsets.UTF_8)));
        }

        /** A value as the library gave it: octets, or text. */
        void value(String attribute, Object value) {
            byte[] octets = value instanceof byte[] ? (byte[]) value : value.toString().getBytes(StandardCharsets.UTF_8);
            out.println("value\t" + attribute + "\t" + encode(octets));
        }

        void done(int code, String text) {
            out.println("done\t" + code + "\t" + encode((text == null ? "" : text).getBytes(StandardCharsets.UTF_8)));
            out.flush();
        }

        private static String encode(byte[] b) {
            return Base64.getEncoder().encodeToString(b);
        }
    }

    /** A library under test. */
    interface Client {
        /** Searches and returns the result code. */
        int search(Question q, Answer a) throws Exception;
    }

    /** Serves searches until the input ends. */
    static void serve(Client c) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            Answer a = new Answer();
            try {
                a.done(c.search(new Question(line), a), "");
            } catch (Exception e) {
                a.done(-1, e.toString());
            }
        }
    }
}
