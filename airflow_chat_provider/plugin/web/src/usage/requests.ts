// The requests of the reader: pages of Airflow's list of XComs, and single values.

import { ApiError, type Api, type Options, type Page, type Query, readXCom, segments, taskPath, type XCom, type XComEntry } from "../lib/api";
import type { Entry } from "./cache";
import type { Without } from "./reading";
import type { Span } from "./time";

/** What is read. Empty ids mean all. */
export interface Scope extends Span {
  dag: string;
  task: string;
}

export function reasonOf(error: unknown): Without | null {
  if (!(error instanceof ApiError)) return "unread";
  switch (error.kind) {
    case "missing":
      return "gone";
    case "forbidden":
      return "forbidden";
    case "too-large":
      return "not-ours"; // a usage is a few hundred bytes
    case "aborted":
    case "signed-out":
      return null;
    default:
      return "unread";
  }
}

export async function entriesOf(api: Api, dag: string, task: string, query: Query, signal: AbortSignal): Promise<Page<XComEntry>> {
  const path = `dags/${segments(dag || "~")}/dagRuns/~/taskInstances/${segments(task || "~")}/xcomEntries`;
  const found = await api.get<{ xcom_entries?: XComEntry[]; total_entries?: number }>(path, query, { signal });
  const items = Array.isArray(found?.xcom_entries) ? found.xcom_entries : [];
  return { items, total: typeof found?.total_entries === "number" ? found.total_entries : items.length };
}

export async function valueOf(api: Api, entry: Entry, options: Options): Promise<XCom> {
  const { dagId, runId, taskId, mapIndex, region } = entry;
  const query: Query = region ? { region_id: region.id, region_index: region.index } : { map_index: mapIndex };
  const { text, bytes } = await api.text(`${taskPath({ dagId, runId, taskId, mapIndex })}/xcomEntries/usage`, query, options);
  return readXCom(text, bytes);
}

export function readEntry(item: XComEntry): Entry | null {
  const { region_id: regionId, region_index: index } = item as { region_id?: string; region_index?: number };
  const written = Date.parse(item?.timestamp);
  if (!Number.isFinite(written) || typeof item.dag_id !== "string" || typeof item.run_id !== "string") return null;
  const time = Date.parse(item.run_after ?? ""); // Airflow 3.1 does not tell it in the list
  return {
    dagId: item.dag_id,
    runId: item.run_id,
    taskId: String(item.task_id),
    mapIndex: typeof item.map_index === "number" ? item.map_index : -1,
    written,
    time: Number.isFinite(time) ? time : written,
    ...(regionId ? { region: { id: regionId, index: typeof index === "number" ? index : -1 } } : {}),
  };
}

export function ordered(items: readonly XComEntry[]): boolean {
  const all = items.map((item) => Date.parse(item.timestamp));
  return items.every((item, index) => Boolean(item.run_after) && (index === 0 || all[index - 1]! >= all[index]!));
}

export function oldest(items: readonly XComEntry[]): number {
  return Math.min(...items.map((item) => Date.parse(item.timestamp)));
}

export function entryId(entry: Entry): string {
  const { dagId, runId, taskId, mapIndex, region } = entry;
  return [dagId, runId, taskId, mapIndex, ...(region ? [region.id, region.index] : [])].join("\n");
}

export function valueKey(entry: Entry): string {
  return `${entryId(entry)}\n${entry.written}`;
}

export function scopeKey({ dag, task }: Scope): string {
  return `${dag}\n${task}`;
}

/** 0 to count - 1 so that each beginning of the order spreads over all of them: by reversed bits. */
export function spread(count: number): number[] {
  let size = 1;
  let order = [0];
  while (size < count) {
    order = order.flatMap((number) => [number * 2]).concat(order.map((number) => number * 2 + 1));
    size *= 2;
  }
  return order.filter((number) => number < count);
}
