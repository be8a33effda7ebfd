// Airflow's REST API, as far as the pages read it, made up from scenarios.mjs.

import { instanceOf, scenarios, TIME } from "./scenarios.mjs";

/** Airflow's answer for a path below /api/v2/. */
export function api(path, query) {
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
