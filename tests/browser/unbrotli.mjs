// Decompress files: node unbrotli.mjs FROM TO [FROM TO ...]

import { createReadStream, createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";

const names = process.argv.slice(2);
for (let at = 0; at < names.length; at += 2) {
  const [from, to] = names.slice(at, at + 2);
  await pipeline(createReadStream(from), createBrotliDecompress(), createWriteStream(to));
}
