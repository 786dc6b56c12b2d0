import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.AlgorithmParameters;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.ECGenParameterSpec;
import java.security.spec.ECParameterSpec;
import java.security.spec.ECPoint;
import java.security.spec.ECPublicKeySpec;
import java.security.spec.X509EncodedKeySpec;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Checks dumped commands against a JWKS, with the JDK (17 or later) alone. */
public final class Verify {
    private static final String TYPE = "application/vnd.seawall.command.v1+json";
    private static final String ED25519_SPKI = "302a300506032b6570032100"; // RFC 8410: what precedes the 32 bytes

    public static void main(String[] args) throws Exception {
        Map<String, Map<String, Object>> keys = new LinkedHashMap<>();
        for (Object key : list(object(new Json(Files.readString(Path.of(args[0]))).read()).get("keys"))) {
            keys.put((String) object(key).get("kid"), object(key));
        }
        int count = 0;
        int bad = 0;
        List<String> lines = Files.readAllLines(Path.of(args[1]), StandardCharsets.UTF_8);
        for (int index = 0; index < lines.size(); index++) {
            if (verified(lines.get(index), keys)) {
                count++;
            } else {
                bad++;
                System.out.println("line " + (index + 1) + " does not verify");
            }
        }
        System.out.println(count + " commands verified");
        System.exit(bad > 0 || count == 0 ? 1 : 0);
    }

    static boolean verified(String line, Map<String, Map<String, Object>> keys) throws GeneralSecurityException {
        Map<String, Object> record = object(new Json(line).read());
        String text = (String) object(record.get("headers")).get("dsse");
        Map<String, Object> envelope = object(new Json(text).read());
        String type = (String) envelope.get("payloadType");
        byte[] message = pae(type, (String) record.get("value"));
        for (Object item : list(envelope.get("signatures"))) {
            Map<String, Object> jwk = keys.get((String) object(item).get("keyid"));
            byte[] signature = Base64.getDecoder().decode((String) object(item).get("sig"));
            if (jwk != null && verifies(jwk, message, signature)) {
                return type.equals(TYPE);
            }
        }
        return false;
    }

    /** DSSE's pre-authentication encoding: the bytes that are signed. */
    static byte[] pae(String type, String value) {
        int length = value.getBytes(StandardCharsets.UTF_8).length;
        String text = "DSSEv1 " + type.length() + " " + type + " " + length + " " + value;
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** The algorithm belongs to the key, never to the message. */
    static boolean verifies(Map<String, Object> jwk, byte[] message, byte[] signature) throws GeneralSecurityException {
        boolean edwards = "Ed25519".equals(jwk.get("alg"));
        Signature verifier = Signature.getInstance(edwards ? "Ed25519" : "SHA256withECDSAinP1363Format");
        verifier.initVerify(edwards ? edwardsKey(jwk) : p256Key(jwk));
        verifier.update(message);
        try {
            return verifier.verify(signature);
        } catch (GeneralSecurityException error) {
            return false;
        }
    }

    static PublicKey edwardsKey(Map<String, Object> jwk) throws GeneralSecurityException {
        byte[] x = Base64.getUrlDecoder().decode((String) jwk.get("x"));
        byte[] spki = HexFormat.of().parseHex(ED25519_SPKI + HexFormat.of().formatHex(x));
        return KeyFactory.getInstance("Ed25519").generatePublic(new X509EncodedKeySpec(spki));
    }

    static PublicKey p256Key(Map<String, Object> jwk) throws GeneralSecurityException {
        AlgorithmParameters curve = AlgorithmParameters.getInstance("EC");
        curve.init(new ECGenParameterSpec("secp256r1"));
        BigInteger x = new BigInteger(1, Base64.getUrlDecoder().decode((String) jwk.get("x")));
        BigInteger y = new BigInteger(1, Base64.getUrlDecoder().decode((String) jwk.get("y")));
        ECParameterSpec parameters = curve.getParameterSpec(ECParameterSpec.class);
        return KeyFactory.getInstance("EC").generatePublic(new ECPublicKeySpec(new ECPoint(x, y), parameters));
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> object(Object value) {
        return (Map<String, Object>) value;
    }

    @SuppressWarnings("unchecked")
    static List<Object> list(Object value) {
        return (List<Object>) value;
    }

    /** A small JSON reader: the JDK has none. Numbers stay text. */
    static final class Json {
        private final String text;
        private int at;

        Json(String text) {
            this.text = text;
        }

        Object read() {
            skip();
            char first = text.charAt(at);
            if (first == '{') {
                return readObject();
            }
            if (first == '[') {
                return readList();
            }
            if (first == '"') {
                return readString();
            }
            int begin = at;
            while (at < text.length() && ",]} \t\r\n".indexOf(text.charAt(at)) < 0) {
                at++;
            }
            String word = text.substring(begin, at);
            return word.equals("null") ? null : word;
        }

        private Map<String, Object> readObject() {
            Map<String, Object> found = new LinkedHashMap<>();
            at++;
            skip();
            while (text.charAt(at) != '}') {
                String name = readString();
                skip();
                at++; // the colon
                if (found.containsKey(name)) {
                    throw new IllegalArgumentException("a name stands twice: " + name);
                }
                found.put(name, read());
                next();
            }
            at++;
            return found;
        }

        private List<Object> readList() {
            List<Object> found = new ArrayList<>();
            at++;
            skip();
            while (text.charAt(at) != ']') {
                found.add(read());
                next();
            }
            at++;
            return found;
        }

        private String readString() {
            StringBuilder found = new StringBuilder();
            for (at++; text.charAt(at) != '"'; at++) {
                char next = text.charAt(at);
                if (next == '\\') {
                    next = text.charAt(++at);
                    int escape = "bfnrt".indexOf(next);
                    if (next == 'u') {
                        next = (char) Integer.parseInt(text.substring(at + 1, at + 5), 16);
                        at += 4;
                    } else if (escape >= 0) {
                        next = "\b\f\n\r\t".charAt(escape);
                    }
                }
                found.append(next);
            }
            at++;
            return found.toString();
        }

        private void next() {
            skip();
            if (text.charAt(at) == ',') {
                at++;
                skip();
            }
        }

        private void skip() {
            while (at < text.length() && Character.isWhitespace(text.charAt(at))) {
                at++;
            }
        }
    }
}
