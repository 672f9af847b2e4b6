// Faults of custom resources, as a JSON list: what the compiled validators of their definitions say,
// and keys that the definitions do not have, which those validators accept.
// FILE: a JSON list of resources.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const packages = join(dirname(fileURLToPath(import.meta.url)), "node_modules");
const homes = {
  "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
  "keda.sh": "@kubernetes-models/keda",
};

// The keys that a declaration has, each with what is known of its value: the file and name of its
// type, or null for a value with any keys or none.
const declarations = new Map();
function keysOf(file, name) {
  const known = `${file} ${name}`;
  if (!declarations.has(known)) {
    const text = readFileSync(file, "utf8").replace(/\/\*[^]*?\*\//g, "");
    const imports = new Map();
    for (const [, names, from] of text.matchAll(/import \{([^}]*)\} from "([^"]+)"/g))
      for (const one of names.split(",")) imports.set(one.trim(), from);
    const body = text.match(/export declare class \w+ extends Model<[^]*?\{\n([^]*?)\n\}/)?.[1];
    declarations.set(known, body === undefined ? null : members(body, file, imports));
  }
  return declarations.get(known);
}

// The keys of a body, by its indentation of four columns a level.
function members(body, file, imports) {
  const keys = new Map();
  const lines = body.split("\n");
  for (let n = 0; n < lines.length; n++) {
    const found = lines[n].match(/^    "([^"]+)"\??: (.*)$/);
    if (!found) continue;
    const [, key, type] = found;
    if (type.endsWith("{")) {
      const inner = [];
      while (!/^    \}/.test(lines[++n])) inner.push(lines[n].slice(4));
      const open = inner.some((line) => line.trimStart().startsWith("[key: string]"));
      keys.set(key, open ? null : members(inner.join("\n"), file, imports));
    } else {
      const name = type.match(/(\w+)>*;$/)?.[1];
      const from = imports.get(name);
      const path = from?.startsWith(".")
        ? join(dirname(file), from.replace(/\.js$/, ".d.ts"))
        : from && join(packages, `${from}.d.ts`);
      keys.set(key, path ? { path, name } : null);
    }
  }
  return keys;
}

function* unknown(value, keys, path) {
  if (keys !== null && !(keys instanceof Map)) keys = keysOf(keys.path, keys.name);
  if (Array.isArray(value)) {
    for (const [n, one] of value.entries()) yield* unknown(one, keys, `${path}[${n}]`);
  } else if (keys && value && typeof value === "object") {
    for (const [key, inner] of Object.entries(value))
      if (keys.has(key)) yield* unknown(inner, keys.get(key), `${path}.${key}`);
      else yield `${path}: unknown key ${key}`;
  }
}

const faults = [];
for (const one of JSON.parse(readFileSync(process.env.FILE, "utf8"))) {
  const [group] = one.apiVersion.split("/");
  const module = `${homes[group]}/${one.apiVersion}/${one.kind}`;
  const { [one.kind]: Model } = await import(module);
  const name = `${one.kind} ${one.metadata.name}`;
  try {
    new Model(one).validate();
  } catch (error) {
    faults.push(`${name}: ${error.message}`);
  }
  const top = { path: join(packages, `${module}.d.ts`), name: one.kind };
  for (const fault of unknown(one, top, name)) faults.push(fault);
}
console.log(JSON.stringify(faults));
