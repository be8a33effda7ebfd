// What was read before, kept in the browser: counts and names, never a text of a prompt or an answer. An XCom is written
// once, so what was read of one is true for as long as the list has it with the same time. Whoever uses the cache first
// reads one XCom of each DAG anew, so that nothing is shown which Airflow would not show now (see reader.ts).

import type { Usage } from "./reading";

/** An entry of Airflow's list. */
export interface Entry {
  dagId: string;
  runId: string;
  taskId: string;
  mapIndex: number;
  /** When the XCom was written, and the run's date; both in milliseconds. */
  written: number;
  time: number;
  /** Airflow 3.4 names the pass of a loop by it. */
  region?: { id: string; index: number };
}

/** A list that was read to its end. */
export interface Listed {
  from: number;
  to: number;
  entries: Entry[];
}

export interface Cache {
  list(scope: string): Promise<Listed | null>;
  keepList(scope: string, list: Listed): Promise<void>;
  values(): Promise<Map<string, Usage | "not-ours">>;
  keepValues(values: [string, Usage | "not-ours"][]): Promise<void>;
  clear(): Promise<void>;
}

/** Of this page alone: for a browser that keeps no site data, and for tests. */
export class MemoryCache implements Cache {
  private readonly lists = new Map<string, Listed>();
  protected all = new Map<string, Usage | "not-ours">();

  async list(scope: string): Promise<Listed | null> {
    return this.lists.get(scope) ?? null;
  }

  async keepList(scope: string, list: Listed): Promise<void> {
    this.lists.set(scope, list);
  }

  async values(): Promise<Map<string, Usage | "not-ours">> {
    return this.all;
  }

  async keepValues(values: [string, Usage | "not-ours"][]): Promise<void> {
    for (const [key, value] of values) this.all.set(key, value);
  }

  async clear(): Promise<void> {
    this.all.clear();
    this.lists.clear();
  }
}

const MOST_VALUES = 30_000;
const LONGEST = 7 * 24 * 3_600_000;
const NAME = "chat-usage";
const VERSION = 2; // raise it where what is kept changes: older databases are emptied

interface Kept {
  value: Usage | "not-ours";
  at: number;
}

export async function openCache(): Promise<Cache> {
  try {
    const database = await opened();
    const cache = new BrowserCache(database);
    await cache.trim();
    return cache;
  } catch {
    return new MemoryCache();
  }
}

function opened(): Promise<IDBDatabase> {
  const request = indexedDB.open(NAME, VERSION);
  request.onupgradeneeded = () => {
    for (const name of [...request.result.objectStoreNames]) request.result.deleteObjectStore(name);
    request.result.createObjectStore("values").createIndex("at", "at");
    request.result.createObjectStore("lists");
  };
  // A page of another version in another tab holds the older database open: this one goes on without it.
  const blocked = new Promise<never>((_, reject) => (request.onblocked = () => reject(new Error("another version is open"))));
  const ready = answer(request).then((database) => {
    database.onversionchange = () => database.close();
    return database;
  });
  return Promise.race([ready, blocked]);
}

function answer<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

class BrowserCache extends MemoryCache {
  private loaded = false;

  constructor(private readonly database: IDBDatabase) {
    super();
  }

  private store(name: "values" | "lists", mode: IDBTransactionMode): IDBObjectStore {
    return this.database.transaction(name, mode).objectStore(name);
  }

  override async list(scope: string): Promise<Listed | null> {
    return quietly(async () => (await answer<Listed | undefined>(this.store("lists", "readonly").get(scope))) ?? null, null);
  }

  override async keepList(scope: string, list: Listed): Promise<void> {
    await quietly(() => answer(this.store("lists", "readwrite").put(list, scope)), null);
  }

  override async values(): Promise<Map<string, Usage | "not-ours">> {
    if (!this.loaded) await quietly(() => this.load(), undefined);
    this.loaded = true;
    return this.all;
  }

  private async load(): Promise<void> {
    const store = this.store("values", "readonly");
    const [keys, kept] = await Promise.all([answer(store.getAllKeys()), answer<Kept[]>(store.getAll())]);
    keys.forEach((key, index) => this.all.set(String(key), kept[index]!.value));
  }

  override async keepValues(values: [string, Usage | "not-ours"][]): Promise<void> {
    await super.keepValues(values);
    await quietly(async () => {
      const store = this.store("values", "readwrite");
      const at = Date.now();
      await Promise.all(values.map(([key, value]) => answer(store.put({ value, at } satisfies Kept, key))));
    }, undefined);
  }

  /** Forget what is old, and the oldest of what is too much. */
  async trim(): Promise<void> {
    const store = this.store("values", "readwrite");
    const index = store.index("at");
    let left = (await answer(store.count())) - MOST_VALUES;
    const before = Date.now() - LONGEST;
    await new Promise<void>((resolve, reject) => {
      const request = index.openCursor();
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const cursor = request.result;
        if (!cursor || (left <= 0 && (cursor.value as Kept).at >= before)) return resolve();
        left -= 1;
        cursor.delete();
        cursor.continue();
      };
    });
  }

  override async clear(): Promise<void> {
    await super.clear();
    await quietly(async () => {
      await answer(this.store("values", "readwrite").clear());
      await answer(this.store("lists", "readwrite").clear());
    }, undefined);
  }
}

/** The cache only saves time, so nothing that goes wrong with it may stop the page. */
async function quietly<T>(work: () => Promise<T>, otherwise: T): Promise<T> {
  try {
    return await work();
  } catch {
    return otherwise;
  }
}
