/**
 * Bring what the package holds beside its package.json: core.js and the page's modules that it imports, as they are, their types, and the
 * licence. `npm pack` runs it before packing, and with --clear behind it: nothing is there twice in the repository.
 *
 * Types are read out of the comments by the TypeScript of cloud/package-lock.json, which `make setup` installs.
 */

import {spawnSync} from "node:child_process";
import {copyFileSync, existsSync, mkdirSync, readFileSync, rmSync} from "node:fs";
import {dirname, join, normalize} from "node:path";
import {fileURLToPath} from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url)), CLOUD = dirname(HERE), ENTRY = "core.js";
const TSC = join(CLOUD, "node_modules", ".bin", "tsc");
const MADE = [ENTRY, "sfumato", "types", "LICENSE"];

/** A module and all that it imports, at any depth. @param {string} name below cloud/ @param {Set<string>} [found] */
function modules(name, found = new Set()) {
  if (found.has(name)) return found;
  found.add(name);
  for (const [, target] of readFileSync(join(CLOUD, name), "utf8").matchAll(/^(?:import|export) .*? from "(.+?)";$/gm)) {
    if (!target.startsWith("./")) throw new Error(`${name} imports ${target}: the package depends on nothing`);
    modules(normalize(join(dirname(name), target)), found);
  }
  return found;
}

for (const name of MADE) rmSync(join(HERE, name), {recursive: true, force: true});
if (!process.argv.includes("--clear")) {
  if (!existsSync(TSC)) throw new Error("there is no TypeScript to read the types: run make setup");
  for (const name of modules(ENTRY)) {
    mkdirSync(dirname(join(HERE, name)), {recursive: true});
    copyFileSync(join(CLOUD, name), join(HERE, name));
  }
  copyFileSync(join(dirname(CLOUD), "LICENSE"), join(HERE, "LICENSE"));
  const options = ["--allowJs", "--declaration", "--emitDeclarationOnly", "--target", "es2023", "--module", "nodenext"];
  const done = spawnSync(process.execPath, [TSC, ...options, "--outDir", "types", ENTRY], {cwd: HERE, encoding: "utf8"});
  if (done.status) throw new Error(`the types: ${done.stdout}`);
}
