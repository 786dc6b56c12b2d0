// Checks dumped commands against a JWKS, with Node's own modules alone.
import { createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';

const TYPE = 'application/vnd.seawall.command.v1+json';
const [jwksFile, commandsFile] = process.argv.slice(2);
const keys = new Map(JSON.parse(readFileSync(jwksFile, 'utf8')).keys.map((jwk) => [jwk.kid, jwk]));

// DSSE's pre-authentication encoding: the bytes that are signed.
const pae = (type, value) => Buffer.from(`DSSEv1 ${Buffer.byteLength(type)} ${type} ${Buffer.byteLength(value)} ${value}`);

// The algorithm belongs to the key, never to the message.
function verifies(jwk, message, signature) {
  const key = createPublicKey({ key: jwk, format: 'jwk' });
  if (jwk.alg === 'Ed25519') return verify(null, message, key, signature);
  if (jwk.alg === 'ES256') return verify('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, signature);
  return false;
}

function verified(line) {
  const { value, headers } = JSON.parse(line);
  const envelope = JSON.parse(headers.dsse);
  const message = pae(envelope.payloadType, value);
  const good = ({ keyid, sig }) => keys.has(keyid) && verifies(keys.get(keyid), message, Buffer.from(sig, 'base64'));
  return envelope.payloadType === TYPE && envelope.signatures.some(good);
}

let count = 0;
let bad = 0;
readFileSync(commandsFile, 'utf8').split('\n').forEach((line, index) => {
  if (!line) return;
  if (verified(line)) count += 1;
  else {
    bad += 1;
    console.log(`line ${index + 1} does not verify`);
  }
});
console.log(`${count} commands verified`);
process.exit(bad || !count ? 1 : 0);
