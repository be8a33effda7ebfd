// Sums and percentiles over task instances. A sum over something unknown says so: it is "at least" that much.

import { addCost, addTo, type Costs, noCosts } from "./costs";
import { COUNTS, type Count, type CountName, type Usage } from "./reading";

/** One task instance that left a usage. */
export interface Row {
  id: string;
  dagId: string;
  runId: string;
  taskId: string;
  mapIndex: number;
  /** The run's date (run_after) in milliseconds; where Airflow does not tell it, when the XCom was written. */
  time: number;
  usage: Usage;
}

export interface Sum {
  /** null if nothing is known at all. */
  sum: Count;
  /** Of how many task instances it is not known. */
  unknown: number;
}

export type SumName = Exclude<CountName, "seconds" | "cost"> | "failed";
const SUMMED: SumName[] = [...COUNTS.filter((name) => name !== "seconds" && name !== "cost"), "failed"];

export interface Group extends Record<SumName, Sum> {
  key: string;
  costs: Costs;
  dagId: string | null;
  taskId: string | null;
  model: string | null;
  /** The one task instance of the group, where each has its own. */
  row: Row | null;
  /** Task instances. */
  instances: number;
  kinds: Map<string, number>;
  p50: Count;
  p95: Count;
  /** The newest task instance's time. */
  latest: number;
}

export type GroupBy = "dag" | "task" | "model" | "instance";

interface Open {
  group: Group;
  seconds: number[];
}

export function emptyGroup(key = ""): Group {
  const sum = (): Sum => ({ sum: null, unknown: 0 });
  // Written out: with ten thousand lines, putting each together by names takes half a second.
  return {
    requests: sum(),
    input_tokens: sum(),
    output_tokens: sum(),
    cache_read_tokens: sum(),
    cache_write_tokens: sum(),
    reasoning_tokens: sum(),
    tool_calls: sum(),
    attempts: sum(),
    failed: sum(),
    costs: noCosts(),
    dagId: null,
    taskId: null,
    model: null,
    row: null,
    key,
    instances: 0,
    kinds: new Map(),
    p50: null,
    p95: null,
    latest: 0,
  };
}

function add(open: Open, row: Row): void {
  const { group } = open;
  const { usage } = row;
  group.instances += 1;
  group.latest = Math.max(group.latest, row.time);
  for (const name of SUMMED) {
    const value = usage[name];
    const sum = group[name];
    if (value === null) sum.unknown += 1;
    else sum.sum = (sum.sum ?? 0) + value;
  }
  addCost(group.costs, usage);
  for (const kind in usage.failed ? usage.failures : null) {
    group.kinds.set(kind, (group.kinds.get(kind) ?? 0) + usage.failures![kind]!);
  }
  if (usage.seconds !== null) open.seconds.push(usage.seconds);
}

function close({ group, seconds }: Open): Group {
  seconds.sort((one, other) => one - other);
  group.p50 = percentile(seconds, 0.5);
  group.p95 = percentile(seconds, 0.95);
  return group;
}

/** The smallest value that at least this share of the sorted values does not exceed (nearest rank). */
export function percentile(sorted: readonly number[], share: number): Count {
  if (!sorted.length) return null;
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? null;
}

export function total(rows: Iterable<Row>): Group {
  const open = { group: emptyGroup(), seconds: [] };
  for (const row of rows) add(open, row);
  return close(open);
}

export function groups(rows: Iterable<Row>, by: GroupBy): Group[] {
  const found = new Map<string, Open>();
  for (const row of rows) {
    const key = groupKey(row, by);
    let open = found.get(key);
    if (!open) {
      const group = emptyGroup(key);
      if (by !== "model") group.dagId = row.dagId;
      if (by === "task" || by === "instance") group.taskId = row.taskId;
      if (by === "model" || by === "instance") group.model = row.usage.model;
      if (by === "instance") group.row = row;
      found.set(key, (open = { group, seconds: [] }));
    }
    add(open, row);
  }
  return [...found.values()].map(close);
}

function groupKey(row: Row, by: GroupBy): string {
  if (by === "dag") return row.dagId;
  if (by === "task") return stratum(row);
  if (by === "model") return row.usage.model ?? "\n";
  return row.id;
}

export interface Kind {
  kind: string;
  count: number;
  instances: number;
  dags: number;
  latest: number;
}

/** Failures by kind, the most frequent first. */
export function kinds(rows: Iterable<Row>): Kind[] {
  const found = new Map<string, Kind & { of: Set<string> }>();
  for (const { usage, dagId, time } of rows) {
    for (const kind in usage.failed ? usage.failures : null) {
      let one = found.get(kind);
      if (!one) found.set(kind, (one = { kind, count: 0, instances: 0, dags: 0, latest: 0, of: new Set() }));
      one.count += usage.failures![kind]!;
      one.instances += 1;
      one.latest = Math.max(one.latest, time);
      one.of.add(dagId);
    }
  }
  const all = [...found.values()].map(({ of, ...one }) => ({ ...one, dags: of.size }));
  return all.sort((one, other) => other.count - one.count || (one.kind < other.kind ? -1 : 1));
}

/** A task: what its instances took is alike, more than what those of others did. */
export function stratum({ dagId, taskId }: Pick<Row, "dagId" | "taskId">): string {
  return `${dagId}\n${taskId}`;
}

export interface Estimate extends Record<SumName, Count> {
  costs: Map<string, number>;
}

/** What all sums may be, from those that were read: each task's times how many of its instances were not read yet. */
export function estimate(rows: Iterable<Row>, weight: (stratum: string) => number): Estimate {
  const sums = { ...(Object.fromEntries(SUMMED.map((name) => [name, null])) as Record<SumName, Count>), costs: new Map<string, number>() };
  for (const group of groups(rows, "task")) {
    const times = weight(group.key);
    for (const name of SUMMED) {
      const { sum } = group[name];
      if (sum !== null) sums[name] = (sums[name] ?? 0) + sum * times;
    }
    for (const [currency, amount] of group.costs.sums) addTo(sums.costs, currency, amount * times);
  }
  return sums;
}

/** One group for each bucket, empty ones too. `edges` are sorted, and one more than the buckets. */
export function overTime(rows: Iterable<Row>, edges: readonly number[]): Group[] {
  const open: Open[] = edges.slice(1).map(() => ({ group: emptyGroup(), seconds: [] }));
  for (const row of rows) {
    const bucket = open[bucketOf(row.time, edges)];
    if (bucket) add(bucket, row);
  }
  return open.map(close);
}

/** The number of the bucket that the time is in; -1 if it is in none. */
export function bucketOf(time: number, edges: readonly number[]): number {
  let [low, high] = [0, edges.length - 1];
  if (high < 1 || time < edges[0]! || time >= edges[high]!) return -1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (edges[middle]! <= time) low = middle;
    else high = middle;
  }
  return low;
}
