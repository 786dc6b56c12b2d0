// Command verify checks dumped commands against a JWKS, with the standard library alone.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
)

type jwk struct{ Kid, Alg, X, Y string }

type record struct {
	Value   string
	Headers map[string]string
}

type envelope struct {
	PayloadType string
	Signatures  []struct{ Keyid, Sig string }
}

// pae is DSSE's pre-authentication encoding: the bytes that are signed.
func pae(kind, value string) []byte {
	return []byte(fmt.Sprintf("DSSEv1 %d %s %d %s", len(kind), kind, len(value), value))
}

func (key jwk) verifies(message, sig []byte) bool {
	x, err := base64.RawURLEncoding.DecodeString(key.X)
	if err != nil || len(sig) != 64 {
		return false
	}
	switch key.Alg { // the algorithm belongs to the key, never to the message
	case "Ed25519":
		return len(x) == ed25519.PublicKeySize && ed25519.Verify(x, message, sig)
	case "ES256":
		y, err := base64.RawURLEncoding.DecodeString(key.Y)
		public := ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(x), Y: new(big.Int).SetBytes(y)}
		digest := sha256.Sum256(message)
		return err == nil && ecdsa.Verify(&public, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
	}
	return false
}

func verified(line []byte, keys map[string]jwk) bool {
	var rec record
	var env envelope
	if json.Unmarshal(line, &rec) != nil || json.Unmarshal([]byte(rec.Headers["dsse"]), &env) != nil {
		return false
	}
	for _, signature := range env.Signatures {
		sig, err := base64.StdEncoding.DecodeString(signature.Sig)
		key, known := keys[signature.Keyid]
		if err == nil && known && key.verifies(pae(env.PayloadType, rec.Value), sig) {
			return env.PayloadType == "application/vnd.seawall.command.v1+json"
		}
	}
	return false
}

func main() {
	var set struct{ Keys []jwk }
	text, err := os.ReadFile(os.Args[1])
	if err != nil || json.Unmarshal(text, &set) != nil {
		fmt.Fprintln(os.Stderr, "cannot read the keys")
		os.Exit(2)
	}
	keys := map[string]jwk{}
	for _, key := range set.Keys {
		keys[key.Kid] = key
	}
	file, err := os.Open(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	count, bad := 0, 0
	for number := 1; lines.Scan(); number++ {
		if verified(lines.Bytes(), keys) {
			count++
		} else {
			bad++
			fmt.Printf("line %d does not verify\n", number)
		}
	}
	fmt.Printf("%d commands verified\n", count)
	if bad > 0 || count == 0 {
		os.Exit(1)
	}
}
