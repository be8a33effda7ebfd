// What the reader has found: entries of the list, and what became of each.

import { type Row, stratum } from "./aggregate";
import type { Entry } from "./cache";
import type { Usage, Without } from "./reading";
import { entryId } from "./requests";

export type Stage = "reading" | "paused" | "done" | "failed" | "signed-out";

export interface Snapshot {
  stage: Stage;
  error: unknown;
  rows: Row[];
  /** Entries of the list: what Airflow says that there are, and how many of them are known by now. */
  total: number | null;
  listed: number;
  /** Entries whose value is known, or why they have none. */
  read: number;
  cached: number;
  without: Record<Without, number>;
  /** DAGs whose XComs the user may not read. */
  forbidden: string[];
  /** What there is by DAG and task, known from the list alone. */
  names: Map<string, Map<string, number>>;
  /** How many of each task's entries (see `stratum`) are known to be there, and how many were read. */
  strata: Map<string, { listed: number; read: number }>;
  /** Values that were requested so far, and in how many milliseconds: what remains can be guessed from it. */
  requested: number;
  elapsed: number;
}

export class Found {
  readonly entries = new Map<string, Entry>();
  readonly results = new Map<string, Usage | Without>();
  readonly rows: Row[] = [];
  readonly without: Record<Without, number> = { "not-ours": 0, elsewhere: 0, gone: 0, forbidden: 0, unread: 0 };
  /** How many of each task's entries (see `stratum`) are known to be there, and how many were read. */
  readonly strata = new Map<string, { listed: number; read: number }>();
  /** What there is by DAG and task. */
  readonly names = new Map<string, Map<string, number>>();

  /** Whether the entry is new. */
  add(entry: Entry): boolean {
    const id = entryId(entry);
    if (this.entries.has(id)) return false;
    this.entries.set(id, entry);
    const key = stratum(entry);
    const counts = this.strata.get(key);
    if (counts) counts.listed += 1;
    else this.strata.set(key, { listed: 1, read: 0 });
    const tasks = this.names.get(entry.dagId) ?? new Map<string, number>();
    tasks.set(entry.taskId, (tasks.get(entry.taskId) ?? 0) + 1);
    this.names.set(entry.dagId, tasks);
    return true;
  }

  settle(entry: Entry, value: Usage | Without): void {
    const id = entryId(entry);
    if (this.results.has(id)) return;
    this.results.set(id, value);
    this.strata.get(stratum(entry))!.read += 1;
    if (typeof value === "string") {
      this.without[value] += 1;
      return;
    }
    const { dagId, runId, taskId, mapIndex, time } = entry;
    this.rows.push({ id, dagId, runId, taskId, mapIndex, time, usage: value });
  }
}
