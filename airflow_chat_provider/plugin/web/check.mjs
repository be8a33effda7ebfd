// Checks that the committed pages are what the sources give, and that they are small: node check.mjs
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const COMMITTED = "../static";
const MOST = 400_000; // bytes, compressed, of all files
const built = mkdtempSync(join(tmpdir(), "pages-"));

try {
  execFileSync(process.execPath, ["build.mjs", built], { stdio: "inherit" });
  const names = [...new Set([...readdirSync(COMMITTED), ...readdirSync(built)])].sort();
  const differ = names.filter((name) => !same(name));
  const sizes = names.map((name) => [name, gzipSync(readFileSync(join(built, name)), { level: 9 }).length]);
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  for (const [name, size] of sizes) console.log(`${String(size).padStart(8)} ${name}`);
  console.log(`${String(total).padStart(8)} bytes compressed, of at most ${MOST}`);
  if (differ.length) fail(`Run make web and commit what it builds: ${differ.join(", ")} in static/ differ from what the sources give`);
  if (total > MOST) fail("Make the pages smaller");
} finally {
  rmSync(built, { recursive: true, force: true });
}

function same(name) {
  try {
    return readFileSync(join(COMMITTED, name)).equals(readFileSync(join(built, name)));
  } catch {
    return false;
  }
}

function fail(message) {
  console.error(message);
  process.exitCode = 1;
}
