// Airflow's public REST API, read in the session of whoever looks at the page. Nothing here writes.

import { ApiError, type ErrorKind } from "./errors";
import { instancePath, type Place, taskPath } from "./places";
import { isObject, type Json, type JsonObject, list, type LogLine, readLogLine, readXCom, type XCom } from "./values";

export * from "./errors";
export * from "./places";
export * from "./values";

export type Query = Record<string, string | number | boolean | null | undefined | readonly (string | number)[]>;

/** What the pages read of Airflow's answer for a task instance; every version has these. */
export interface TaskInstance {
  dag_id: string;
  dag_run_id: string;
  task_id: string;
  map_index: number;
  state: string | null;
  try_number: number;
  max_tries: number;
  start_date: string | null;
  end_date: string | null;
  duration: number | null;
  queued_when?: string | null;
  operator: string | null;
  operator_name?: string | null;
  task_display_name?: string;
  dag_display_name?: string;
  rendered_map_index?: string | null;
  rendered_fields?: JsonObject;
  hostname?: string | null;
  trigger?: JsonObject | null;
}

/** One line of Airflow's list of XComs, which has no values. */
export interface XComEntry {
  key: string;
  timestamp: string;
  logical_date: string | null;
  run_after?: string;
  map_index: number;
  task_id: string;
  dag_id: string;
  run_id: string;
  dag_display_name?: string;
  task_display_name?: string;
}

export interface Page<T> {
  items: T[];
  total: number;
}

export interface Options {
  signal?: AbortSignal;
  /** Reading stops above this many bytes, with `too-large`. */
  maxBytes?: number;
}

export const MAX_BYTES = 64 * 1024 * 1024;
const AT_ONCE = 6;

/** Lets so many tasks run at once; the others wait in the order in which they came. */
export class Limiter {
  private running = 0;
  private readonly waiting: (() => void)[] = [];

  constructor(private readonly limit: number = AT_ONCE) {}

  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.running >= this.limit) await new Promise<void>((resolve) => this.waiting.push(resolve));
    else this.running += 1;
    try {
      if (signal?.aborted) throw new ApiError("aborted", "");
      return await work();
    } finally {
      // Whoever waits takes over this one's place, so the count stays.
      const next = this.waiting.shift();
      if (next) next();
      else this.running -= 1;
    }
  }
}

type Fetch = (input: string, init: RequestInit) => Promise<Response>;

export class Api {
  readonly base: string;
  private readonly limiter: Limiter;
  private token: string | null = null;
  private readonly fetch: Fetch;

  constructor(options: { page?: string; fetch?: Fetch; atOnce?: number } = {}) {
    // Airflow may be served below a path of a proxy, so the API's address comes from the page's own.
    this.base = new URL("../api/v2/", options.page ?? location.href).href;
    this.limiter = new Limiter(options.atOnce ?? AT_ONCE);
    this.fetch = options.fetch ?? ((input, init) => fetch(input, init));
  }

  /** The parsed answer. `path` has no leading slash, and its parts are encoded (see `segments`). */
  async get<T = Json>(path: string, query: Query = {}, options: Options = {}): Promise<T> {
    const { text } = await this.text(path, query, options);
    try {
      return JSON.parse(text) as T;
    } catch {
      throw new ApiError("unreadable", "Airflow's answer is not JSON.");
    }
  }

  async text(path: string, query: Query = {}, options: Options = {}, accept = "application/json") {
    return this.limiter.run(async () => {
      const response = await this.send(path, query, options, accept);
      const pieces: string[] = [];
      const decoder = new TextDecoder();
      const bytes = await readChunks(response, options, (chunk) => pieces.push(decoder.decode(chunk, { stream: true })));
      pieces.push(decoder.decode());
      return { text: pieces.join(""), bytes, response };
    }, options.signal);
  }

  private async send(path: string, query: Query, options: Options, accept: string): Promise<Response> {
    let response = await this.once(path, query, options, accept, this.token);
    if (response.status === 401) {
      // Airflow 3.1 takes no cookie: its own UI sends a token that it keeps in the local storage. Later ones take the
      // cookie, which is tried first, because a token may lie there since before an upgrade.
      const token = uiToken();
      if (token !== null && token !== this.token) {
        response = await this.once(path, query, options, accept, token);
        if (response.ok) this.token = token;
      }
    }
    if (response.type === "opaqueredirect") throw new ApiError("signed-out", "Airflow asks to sign in.", 401);
    if (!response.ok) throw await refused(response);
    return response;
  }

  private async once(path: string, query: Query, options: Options, accept: string, token: string | null) {
    try {
      return await this.fetch(this.url(path, query), {
        method: "GET",
        credentials: "same-origin",
        // A proxy that signs people in answers with a redirect to another host: that is not an answer of Airflow's.
        redirect: "manual",
        cache: "no-store",
        headers: { accept, ...(token === null ? {} : { authorization: `Bearer ${token}` }) },
        signal: options.signal ?? null,
      });
    } catch (error) {
      throw thrown(error, options.signal);
    }
  }

  url(path: string, query: Query = {}): string {
    const url = new URL(path, this.base);
    for (const [name, value] of Object.entries(query)) {
      if (value === null || value === undefined) continue;
      for (const one of Array.isArray(value) ? value : [value]) url.searchParams.append(name, String(one));
    }
    return url.href;
  }

  async taskInstance(place: Place, options: Options = {}): Promise<TaskInstance> {
    return this.get<TaskInstance>(instancePath(place), {}, options);
  }

  /** All tries, the latest included, oldest first. */
  async tries(place: Place, options: Options = {}): Promise<TaskInstance[]> {
    const found = await this.get<JsonObject>(`${instancePath(place)}/tries`, {}, options);
    const tries = (list(found.task_instances) as unknown as TaskInstance[]).filter((one) => one && one.try_number > 0);
    return tries.sort((one, other) => one.try_number - other.try_number);
  }

  async mappedInstances(
    place: Place,
    { limit = 50, offset = 0, state }: { limit?: number; offset?: number; state?: string } = {},
    options: Options = {},
  ): Promise<Page<TaskInstance>> {
    const path = `${taskPath(place)}/listMapped`;
    const found = await this.get<JsonObject>(path, { limit, offset, order_by: "map_index", state }, options);
    const items = list(found.task_instances) as unknown as TaskInstance[];
    return { items, total: typeof found.total_entries === "number" ? found.total_entries : items.length };
  }

  async dag(dagId: string, options: Options = {}): Promise<JsonObject> {
    return this.get<JsonObject>(`dags/${encodeURIComponent(dagId)}`, {}, options);
  }

  /** One XCom; `missing` if there is none. */
  async xcom(place: Place, key: string, options: Options = {}): Promise<XCom> {
    const path = `${taskPath(place)}/xcomEntries/${encodeURIComponent(key)}`;
    const { text, bytes } = await this.text(path, { map_index: place.mapIndex }, options);
    return readXCom(text, bytes);
  }

  /** One page of the list of XComs of any DAG (`~`), of which Airflow shows what the user may see. */
  async xcomEntries(query: Query, options: Options = {}): Promise<Page<XComEntry>> {
    const path = "dags/~/dagRuns/~/taskInstances/~/xcomEntries";
    const found = await this.get<JsonObject>(path, query, options);
    const items = list(found.xcom_entries) as unknown as XComEntry[];
    return { items, total: typeof found.total_entries === "number" ? found.total_entries : items.length };
  }

  /** Every line of a try's log goes to `take`. Returns whether the log was longer than `maxBytes`. */
  async log(place: Place, tryNumber: number, take: (line: LogLine) => void, options: Options = {}): Promise<boolean> {
    const path = `${taskPath(place)}/logs/${tryNumber}`;
    const query = { map_index: place.mapIndex, full_content: true };
    return this.limiter.run(async () => {
      const response = await this.send(path, query, options, "application/x-ndjson");
      const decoder = new TextDecoder();
      let rest = "";
      const split = (text: string) => {
        const lines = (rest + text).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) if (line) take(readLogLine(line));
      };
      try {
        await readChunks(response, options, (chunk) => split(decoder.decode(chunk, { stream: true })));
      } catch (error) {
        if (error instanceof ApiError && error.kind === "too-large") return true;
        throw error;
      }
      split(decoder.decode() + "\n");
      return false;
    }, options.signal);
  }
}

async function readChunks(response: Response, options: Options, take: (chunk: Uint8Array) => void): Promise<number> {
  const limit = options.maxBytes ?? MAX_BYTES;
  const stated = Number(response.headers.get("content-length"));
  // A log that is too long is read as far as it goes; so only what is read counts, except where the size is known.
  let bytes = 0;
  const reader = response.body?.getReader();
  if (!reader) return 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return bytes;
      bytes += value.byteLength;
      take(value);
      if (bytes > limit) {
        void reader.cancel().catch(() => undefined);
        throw new ApiError("too-large", "", null, Math.max(bytes, stated || 0));
      }
    }
  } catch (error) {
    throw error instanceof ApiError ? error : thrown(error, options.signal);
  }
}

/** The token of Airflow's UI on 3.1, where it is the session: in a cookie after signing in, then in the local storage. */
function uiToken(): string | null {
  try {
    const found = /(?:^|;\s*)_token=([^;]+)/.exec(document.cookie)?.[1] ?? localStorage.getItem("token");
    return found && /^[\w.~+/=-]{1,16384}$/.test(found) ? found : null;
  } catch {
    return null;
  }
}

function thrown(error: unknown, signal?: AbortSignal): ApiError {
  if (signal?.aborted) return new ApiError("aborted", "");
  return new ApiError("network", error instanceof Error ? error.message : String(error));
}

async function refused(response: Response): Promise<ApiError> {
  const detail = await said(response);
  const kinds: Record<number, ErrorKind> = { 401: "signed-out", 403: "forbidden", 404: "missing", 413: "too-large" };
  // Airflow answers 403 to a token that it cannot read, e.g. after its secret key was changed.
  const invalid = response.status === 403 && detail === "Invalid JWT token";
  return new ApiError(invalid ? "signed-out" : (kinds[response.status] ?? "server"), detail, response.status);
}

async function said(response: Response): Promise<string> {
  try {
    const found = JSON.parse((await response.text()).slice(0, 100_000)) as Json;
    const detail = isObject(found) ? found.detail : null;
    if (detail === null || detail === undefined) return "";
    return (typeof detail === "string" ? detail : JSON.stringify(detail)).slice(0, 1000);
  } catch {
    return "";
  }
}
