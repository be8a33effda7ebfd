// The built pages with a made-up Airflow behind them, for work on their looks: node dev/server.mjs [port]
// Open http://127.0.0.1:8099/prefix/chat/conversation?dag_id=demo&run_id=manual&task_id=ask; the task's id names a
// scenario of scenarios.mjs. A run id with "slow" in it delays each answer.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { api } from "./airflow.mjs";

const STATIC = fileURLToPath(new URL("../../static/", import.meta.url));
const PREFIX = "/prefix";
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".txt": "text/plain" };
const HEADERS = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; " +
    "form-action 'none'; frame-ancestors 'self'; require-trusted-types-for 'script'; trusted-types 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cache-control": "no-cache",
};

async function page(path) {
  const name = path.startsWith("static/") ? path.slice(7) : `${path}.html`;
  if (!/^[\w.]+$/.test(name)) return { status: 404, body: "" };
  const body = await readFile(STATIC + name).catch(() => null);
  return body === null ? { status: 404, body: "" } : { status: 200, body, type: TYPES[extname(name)] };
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, "http://127.0.0.1");
  const path = url.pathname.startsWith(`${PREFIX}/`) ? url.pathname.slice(PREFIX.length + 1) : "";
  if (url.pathname.includes("slow")) await new Promise((resolve) => setTimeout(resolve, 800));
  const isPage = path.startsWith("chat/");
  let answer = { status: 404, body: "" };
  if (isPage) answer = await page(path.slice(5));
  else if (path.startsWith("api/v2/")) answer = api(path.slice(7), url.searchParams);
  response.writeHead(answer.status, { ...(isPage ? HEADERS : {}), "content-type": `${answer.type ?? "text/plain"}; charset=utf-8` });
  response.end(answer.body);
});
server.listen(Number(process.argv[2] ?? 8099), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}${PREFIX}/chat/conversation?dag_id=demo&run_id=manual&task_id=ask`);
});
