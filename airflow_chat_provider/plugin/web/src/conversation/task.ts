// Everything that the page reads of a task instance, each part with its own success or failure.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Api, ApiError, isMissing, type Json, type JsonObject, type Place, segments, type TaskInstance, type XCom, type XComEntry, list, taskPath } from "../lib/api";

export type Part<T> = { state: "reading" } | { state: "here"; value: T } | { state: "failed"; error: unknown } | { state: "absent" };

export const READING = { state: "reading" } as const;
export const ABSENT = { state: "absent" } as const;

/** Keys whose values are read at once, with the most bytes that are read without being asked to. */
const AT_ONCE: Record<string, number> = {
  messages: 16_000_000,
  usage: 1_000_000,
  status: 100_000,
  configuration: 1_000_000,
  progress: 1_000_000,
  arguments: 1_000_000,
  skipmixin_key: 1_000_000,
  return_value: 1_000_000,
  body: 3_000_000,
};

export interface Task {
  place: Place;
  instance: Part<TaskInstance>;
  /** The keys that Airflow lists. */
  entries: Part<Map<string, XComEntry>>;
  xcoms: Record<string, Part<XCom>>;
}

export interface Reader {
  task: Task;
  reload: () => void;
  /** Read one XCom again, however large it is. */
  read: (key: string) => void;
  api: Api;
}

export async function entriesOf(api: Api, place: Place, signal?: AbortSignal): Promise<Map<string, XComEntry>> {
  const found = new Map<string, XComEntry>();
  for (let offset = 0; offset < 1000; ) {
    const query = { map_index: place.mapIndex, limit: 100, offset };
    const page = await api.get<JsonObject>(`${taskPath(place)}/xcomEntries`, query, { signal });
    const items = list(page.xcom_entries) as unknown as XComEntry[];
    for (const item of items) if (item.map_index === place.mapIndex) found.set(item.key, item);
    offset += items.length;
    if (!items.length || offset >= Number(page.total_entries ?? 0)) break;
  }
  return found;
}

export function useTask(api: Api, place: Place): Reader {
  const [task, setTask] = useState<Task>(() => ({ place, instance: READING, entries: READING, xcoms: {} }));
  const [round, setRound] = useState(0);
  const stop = useRef<AbortController>(undefined);
  const seen = useRef(new Map<string, string>()); // when the values that are here were stored

  const readOne = useCallback(
    async (key: string, signal: AbortSignal, maxBytes?: number) => {
      const part = await settle(api.xcom(place, key, { signal, maxBytes }));
      if (signal.aborted) return false;
      setTask((now) => ({ ...now, xcoms: { ...now.xcoms, [key]: part } }));
      return part.state === "here";
    },
    [api, place],
  );

  useEffect(() => {
    const { signal } = (stop.current = new AbortController());
    const set = (more: Partial<Task>) => !signal.aborted && setTask((now) => ({ ...now, ...more }));
    void settle(api.taskInstance(place, { signal })).then((instance) => set({ instance }));
    void settle(entriesOf(api, place, signal)).then((entries) => {
      set({ entries });
      if (signal.aborted) return;
      if (entries.state === "failed") return set({ xcoms: all(entries) });
      const keys = entries.state === "here" ? entries.value : new Map<string, XComEntry>();
      setTask((now) => ({ ...now, xcoms: kept(now.xcoms, keys) }));
      for (const [key, most] of Object.entries(AT_ONCE)) {
        const stored = keys.get(key)?.timestamp;
        if (!stored || seen.current.get(key) === stored) continue;
        void readOne(key, signal, most).then((isHere) => isHere && seen.current.set(key, stored));
      }
    });
    return () => stop.current?.abort();
  }, [api, place, round]);

  const reload = useCallback(() => setRound((now) => now + 1), []);
  const read = useCallback(
    (key: string) => {
      setTask((now) => ({ ...now, xcoms: { ...now.xcoms, [key]: READING } }));
      void readOne(key, stop.current!.signal, 1_000_000_000);
    },
    [readOne],
  );
  return { task, reload, read, api };
}

/** Each XCom that is read at once: absent where Airflow lists none. What was read before stays until it is read anew. */
function kept(before: Record<string, Part<XCom>>, keys: Map<string, XComEntry>): Record<string, Part<XCom>> {
  const found: Record<string, Part<XCom>> = {};
  for (const key of Object.keys(AT_ONCE)) {
    const was = before[key];
    found[key] = !keys.has(key) ? ABSENT : was?.state === "here" ? was : READING;
  }
  return found;
}

function all(part: Part<never>): Record<string, Part<XCom>> {
  return Object.fromEntries(Object.keys(AT_ONCE).map((key) => [key, part]));
}

export async function settle<T>(promise: Promise<T>): Promise<Part<T>> {
  try {
    return { state: "here", value: await promise };
  } catch (error) {
    return isMissing(error) && (error as ApiError).detail.startsWith("XCom") ? ABSENT : { state: "failed", error };
  }
}

/** The value of an XCom that is here, and is not kept elsewhere. Undefined for everything else. */
export function valueOf(task: Task, key: string): Json | undefined {
  const part = task.xcoms[key];
  return part?.state === "here" && part.value.isJson && !part.value.elsewhere ? part.value.value : undefined;
}

export function objectOf(task: Task, key: string): JsonObject {
  const value = valueOf(task, key);
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
}

const OURS = ["messages", "usage", "body", "status", "configuration"];

/** What kind of task it is: by the operator's name, or for a subclass by the XComs that it left. */
export function kindOf(task: Task): "batch" | "branch" | "chat" | "plan" | "batch-plan" | "other" {
  const instance = task.instance.state === "here" ? task.instance.value : null;
  const name = instance?.operator_name ?? instance?.operator ?? "";
  const value = objectOf(task, "return_value");
  if (value.dry_run === true && typeof value.curl === "string") return "plan";
  if (value.dry_run === true && "rows" in value && "to_send" in value) return "batch-plan";
  const manifest = [value, objectOf(task, "progress")].some((one) => "total" in one && "succeeded" in one && "missing" in one);
  if (/Batch/i.test(name) && /chat/i.test(name)) return "batch";
  if (manifest) return "batch";
  if (/chat_?completion_?branch/i.test(name)) return "branch";
  if (/chat_?completion/i.test(name)) return "chat";
  const keys = task.entries.state === "here" ? task.entries.value : new Map();
  if (OURS.filter((key) => keys.has(key)).length >= 2) return keys.has("skipmixin_key") ? "branch" : "chat";
  return "other";
}

/** The list of a mapped task's instances is reached from each of them. */
export function isMappedError(error: unknown): boolean {
  return isMissing(error) && /mapped/i.test((error as ApiError).detail);
}

export function placeKey(place: Place): string {
  return segments(place.dagId, place.runId, place.taskId, place.mapIndex);
}
