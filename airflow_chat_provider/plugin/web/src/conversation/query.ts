import type { Place } from "../lib/api";

/** The task instance that the page's address names, or what is missing in it. */
export function readQuery(search: string): { place: Place } | { problem: string } {
  const query = new URLSearchParams(search);
  const missing = ["dag_id", "run_id", "task_id"].filter((name) => !query.get(name));
  if (missing.length) return { problem: `The address lacks ${missing.join(", ")}.` };
  // An address with a place for the index may come without one: Airflow fills it in for mapped tasks.
  const index = (query.get("map_index") ?? "").replace(/^(\{MAP_INDEX\}|undefined|null|)$/, "-1");
  if (!/^(-1|\d{1,9})$/.test(index)) return { problem: "map_index in the address is not a number." };
  return {
    place: {
      dagId: query.get("dag_id")!,
      runId: query.get("run_id")!,
      taskId: query.get("task_id")!,
      mapIndex: Number(index),
    },
  };
}
