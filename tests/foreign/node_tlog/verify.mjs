// Checks a log's folder without Seawall's code, with Node's own modules only: the checkpoint's signed note (C2SP
// signed-note, Ed25519), the RFC 6962 root over all records of the entry bundles, and every hash of the level 0 tiles.
//
//   node verify.mjs VKEY FOLDER [OLDER_CHECKPOINT …]      an older checkpoint must be the root of a prefix
import { createHash, createPublicKey, verify } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest();
const leaf = (entry) => sha256(Buffer.from([0]), entry);
const node = (left, right) => sha256(Buffer.from([1]), left, right);

function fail(text) {
  console.error(text);
  process.exit(1);
}

function parseVkey(text) {
  const [name, id, encoded] = [text.slice(0, text.indexOf('+')), ...text.slice(text.indexOf('+') + 1).split(/\+(.*)/s)];
  const data = Buffer.from(encoded, 'base64');
  const expected = sha256(Buffer.from(`${name}\n`), data).subarray(0, 4);
  if (data.length !== 33 || data[0] !== 1 || expected.toString('hex') !== id) fail(`not the vkey of an Ed25519 log: ${text}`);
  const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), data.subarray(1)]);
  return { name, id: expected, key: createPublicKey({ key: der, format: 'der', type: 'spki' }) };
}

function openCheckpoint(path, log) {
  const note = readFileSync(path, 'utf8');
  const split = note.lastIndexOf('\n\n');
  const text = note.slice(0, split + 1);
  const mine = note.slice(split + 2).trimEnd().split('\n').map((line) => {
    const match = /^— (\S+) (\S+)$/.exec(line) ?? fail(`${path}: not a signature line`);
    return { name: match[1], data: Buffer.from(match[2], 'base64') };
  }).filter((one) => one.name === log.name && one.data.subarray(0, 4).equals(log.id));
  if (mine.length === 0) fail(`${path}: not signed by ${log.name}`);
  if (!verify(null, Buffer.from(text), log.key, mine[0].data.subarray(4))) fail(`${path}: false signature`);
  const [origin, size, root] = text.split('\n');
  if (origin !== log.name) fail(`${path}: of another log, ${origin}`);
  return { size: Number(size), root: Buffer.from(root, 'base64') };
}

function tilePath(kind, number, width) {
  const digits = String(number).padStart(Math.ceil(String(number).length / 3) * 3, '0').match(/.{3}/g);
  const path = digits.map((group, at) => (at < digits.length - 1 ? `x${group}` : group)).join('/');
  return `tile/${kind}/${path}${width === 256 ? '' : `.p/${width}`}`;
}

function tile(folder, kind, number, width) {
  const part = join(folder, tilePath(kind, number, width));
  return readFileSync(existsSync(part) ? part : join(folder, tilePath(kind, number, 256)));
}

// Records in order; the bundle of each tile and its hashes must agree.
function* leaves(folder, size) {
  for (let number = 0; number * 256 < size; number++) {
    const width = Math.min(256, size - number * 256);
    const [bundle, hashes] = [tile(folder, 'entries', number, width), tile(folder, '0', number, width)];
    for (let at = 0, count = 0; count < width; count++) {
      const length = bundle.readUInt16BE(at);
      const hash = leaf(bundle.subarray(at + 2, at + 2 + length));
      if (!hash.equals(hashes.subarray(count * 32, count * 32 + 32))) fail(`record ${number * 256 + count} is not its tile's`);
      yield hash;
      at += 2 + length;
    }
  }
}

const [vkey, folder, ...older] = process.argv.slice(2);
const log = parseVkey(vkey);
const latest = openCheckpoint(join(folder, 'checkpoint'), log);
const wanted = new Map([[latest.size, latest.root]]);
for (const one of older.map((path) => openCheckpoint(path, log))) {
  if (one.size > latest.size) fail(`${one.size} records were sealed, the log has ${latest.size}`);
  if (wanted.has(one.size) && !wanted.get(one.size).equals(one.root)) fail(`two roots for ${one.size} records`);
  wanted.set(one.size, one.root);
}
const peaks = [];
let size = 0;
for (let hash of leaves(folder, latest.size)) {
  for (let bits = size; bits & 1; bits >>= 1) hash = node(peaks.pop(), hash);
  peaks.push(hash);
  size++;
  const root = wanted.get(size);
  if (root && !peaks.reduceRight((right, left) => node(left, right)).equals(root)) fail(`the first ${size} records are not those that were sealed`);
}
console.log(`${size} records, ${older.length} older checkpoints verified`);
