// Builds the pages into the folder that is named, or the tests with --tests. The same sources give the same bytes.
import { cpSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { build } from "esbuild";

const shared = { bundle: true, format: "esm", jsx: "automatic", jsxImportSource: "preact", logLevel: "warning" };
const [target] = process.argv.slice(2);

if (target === "--tests") {
  const tests = readdirSync("test").filter((name) => /\.test\.tsx?$/.test(name));
  await build({
    ...shared,
    entryPoints: tests.map((name) => `test/${name}`),
    outdir: "build/test",
    outExtension: { ".js": ".mjs" },
    platform: "node",
    packages: "external",
  });
} else {
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  await build({
    ...shared,
    entryPoints: { conversation: "src/conversation/main.tsx", usage: "src/usage/main.tsx" },
    outdir: target,
    minify: true,
    legalComments: "linked",
    target: "es2022",
    charset: "utf8",
  });
  for (const page of ["conversation", "usage"]) cpSync(`src/${page}/${page}.html`, `${target}/${page}.html`);
}
