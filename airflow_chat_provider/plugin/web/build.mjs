// Builds the pages into the folder that is named, or the tests with --tests. The same sources give the same bytes.
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const LICENCES = "THIRD_PARTY.txt";
const shared = { bundle: true, format: "esm", jsx: "automatic", jsxImportSource: "preact", logLevel: "warning" };
const [target] = process.argv.slice(2);

/** The licences of all packages of which something is in the bundles, which ask for their texts to go along. */
function licences(inputs) {
  const names = inputs.map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]).filter(Boolean);
  const found = [...new Set(names)].sort().map((name) => {
    const folder = `node_modules/${name}`;
    const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
    const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
    if (!file) throw new Error(`Find the licence of ${name}: its package has no file of that name`);
    return `${name} ${version} (${license})\n\n${readFileSync(`${folder}/${file}`, "utf8").trim()}\n`;
  });
  const head = "The scripts and styles beside this file contain code of these packages.\n";
  return [head, ...found].join(`\n${"-".repeat(72)}\n\n`);
}

if (target === "--tests") {
  const tests = readdirSync("test").filter((name) => /\.test\.tsx?$/.test(name));
  rmSync("build", { recursive: true, force: true });
  await build({
    ...shared,
    entryPoints: tests.map((name) => `test/${name}`),
    outdir: "build/test",
    outExtension: { ".js": ".mjs" },
    platform: "node",
    packages: "external",
  });
} else if (target) {
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  const { metafile } = await build({
    ...shared,
    entryPoints: { conversation: "src/conversation/main.tsx", usage: "src/usage/main.tsx" },
    outdir: target,
    minify: true,
    legalComments: "none",
    banner: { js: `/* Licences of packages in this file: ${LICENCES} */`, css: `/* Licences of packages in this file: ${LICENCES} */` },
    target: "es2022",
    charset: "utf8",
    metafile: true,
  });
  writeFileSync(`${target}/${LICENCES}`, licences(Object.keys(metafile.inputs)));
  for (const page of ["conversation", "usage"]) cpSync(`src/${page}/${page}.html`, `${target}/${page}.html`);
} else {
  throw new Error("Name a folder for the built files");
}
