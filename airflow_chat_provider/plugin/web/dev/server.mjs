// The built pages with a made-up Airflow behind them, for work on their looks: node dev/server.mjs [port]
// Open http://127.0.0.1:8099/prefix/chat/conversation?dag_id=demo&run_id=manual&task_id=ask; the task's id names a
// scenario of scenarios.mjs. `?slow` in the run's id delays each answer.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { instanceOf, scenarios, TIME } from "./scenarios.mjs";

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

function api(path, query) {
  const found = /^dags\/([^/]+)\/dagRuns\/([^/]+)\/taskInstances\/([^/]+)(\/.*)?$/.exec(path);
  if (!found) return error(404, "Not Found");
  const [dag, run, task] = found.slice(1, 4).map(decodeURIComponent);
  const rest = found[4] ?? "";
  const scenario = scenarios[task];
  if (!scenario) return error(404, `The Task Instance with dag_id: \`${dag}\`, run_id: \`${run}\` and task_id: \`${task}\` was not found`);
  if (scenario.status) return error(scenario.status, scenario.detail);
  const place = { dag, run };
  const index = Number(query.get("map_index") ?? /^\/(\d+)(\/|$)/.exec(rest)?.[1] ?? -1);
  if (rest === "" && scenario.mapped) return error(404, "Task instance is mapped, add the map_index value to the URL");
  if (rest === "" || /^\/\d+$/.test(rest)) return json(instanceOf(task, place, index));
  if (rest === "/listMapped") return json(mapped(task, place, scenario, query));
  if (/^(\/\d+)?\/tries$/.test(rest)) return json(tries(task, place, index));
  const log = /^\/logs\/(\d+)$/.exec(rest);
  if (log) return scenario.logStatus ? error(scenario.logStatus, "no") : { status: 200, body: scenario.logs?.[log[1]] ?? "", type: "application/x-ndjson" };
  if (rest === "/xcomEntries") {
    const entries = Object.keys(scenario.xcoms).sort().map((key) => ({ key, timestamp: TIME, logical_date: TIME, map_index: index, task_id: task, dag_id: dag, run_id: run }));
    return json({ xcom_entries: entries, total_entries: entries.length });
  }
  const key = decodeURIComponent(/^\/xcomEntries\/(.+)$/.exec(rest)?.[1] ?? "");
  if (!(key in scenario.xcoms)) return error(404, `XCom entry with key: \`${key}\` not found`);
  return json({ key, timestamp: TIME, map_index: index, task_id: task, dag_id: dag, run_id: run, value: scenario.raw?.[key] ?? JSON.stringify(scenario.xcoms[key]) });
}

function mapped(task, place, scenario, query) {
  const [limit, offset] = ["limit", "offset"].map((name) => Number(query.get(name)));
  const states = ["success", "success", "failed", "running", "up_for_retry", null];
  const all = Array.from({ length: scenario.mapped ?? 0 }, (_, at) => ({ ...instanceOf(task, place, at), state: states[at % states.length] }));
  return { task_instances: all.slice(offset, offset + limit), total_entries: all.length };
}

function tries(task, place, index) {
  const now = instanceOf(task, place, index);
  const all = Array.from({ length: now.try_number }, (_, at) => ({ ...now, try_number: at + 1, state: at + 1 < now.try_number ? "failed" : now.state }));
  return { task_instances: all, total_entries: all.length };
}

const json = (value) => ({ status: 200, body: JSON.stringify(value), type: "application/json" });
const error = (status, detail) => ({ ...json({ detail }), status });

export function serve(port) {
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, "http://127.0.0.1");
    const path = url.pathname.startsWith(`${PREFIX}/`) ? url.pathname.slice(PREFIX.length + 1) : "";
    if (url.pathname.includes("slow")) await new Promise((resolve) => setTimeout(resolve, 800));
    const isPage = path.startsWith("chat/");
    const answer = isPage ? await page(path.slice(5)) : path.startsWith("api/v2/") ? api(path.slice(7), url.searchParams) : { status: 404, body: "" };
    response.writeHead(answer.status, { ...(isPage ? HEADERS : {}), "content-type": `${answer.type ?? "text/plain"}; charset=utf-8` });
    response.end(answer.body);
  });
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(server)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = await serve(Number(process.argv[2] ?? 8099));
  console.log(`http://127.0.0.1:${server.address().port}${PREFIX}/chat/conversation?dag_id=demo&run_id=manual&task_id=ask`);
}
