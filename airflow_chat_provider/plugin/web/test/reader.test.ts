import assert from "node:assert/strict";
import { test } from "node:test";
import { Api } from "../src/lib/api";
import { MemoryCache } from "../src/usage/cache";
import { Reader } from "../src/usage/reader";
import { type Scope, spread } from "../src/usage/requests";

const VALUE = { requests: 1, input_tokens: 10, output_tokens: 2, tool_calls: 0, attempts: 1, seconds: 1, cost: null, model: "m", errors: {} };
const DAY = 86_400_000;
const SCOPE: Scope = { from: 0, to: 100 * DAY, dag: "", task: "" };

interface Entry {
  dag_id: string;
  run_id: string;
  task_id: string;
  map_index: number;
  timestamp: string;
  run_after: string;
  value: unknown;
}

/** An Airflow of which a test can take something away, or that can refuse something. */
class Airflow {
  entries: Entry[] = [];
  values = 0;
  pages = 0;
  forbidden = new Set<string>();
  /** The status of every answer from now on. */
  status = 200;
  after = Infinity;
  ordered = true;
  /** Called before each page of the list. */
  meanwhile: (page: number) => void = () => undefined;

  fill(count: number, dags = 2): this {
    for (let index = 0; index < count; index += 1) this.add(`d${index % dags}`, `r${index}`, index);
    return this;
  }

  add(dag: string, run: string, minute: number, value: unknown = VALUE): void {
    const at = new Date(minute * 60_000).toISOString();
    this.entries.push({ dag_id: dag, run_id: run, task_id: "t", map_index: -1, timestamp: at, run_after: at, value });
  }

  fetch = async (input: string): Promise<Response> => {
    const url = new URL(input);
    const found = /^\/x\/api\/v2\/dags\/([^/]+)\/dagRuns\/([^/]+)\/taskInstances\/([^/]+)\/xcomEntries(\/usage)?$/.exec(url.pathname);
    assert.ok(found, url.pathname);
    if (this.values + this.pages >= this.after) return this.answer({ detail: "no" }, this.status);
    const [dag, run, , value] = found.slice(1).map((part) => part && decodeURIComponent(part));
    return value ? this.value(dag!, run!) : this.list(url.searchParams, dag!);
  };

  private value(dag: string, run: string): Response {
    this.values += 1;
    if (this.forbidden.has(dag)) return this.answer({ detail: "Forbidden" }, 403);
    const entry = this.entries.find((one) => one.dag_id === dag && one.run_id === run);
    return entry ? this.answer({ ...entry, value: JSON.stringify(entry.value) }) : this.answer({ detail: "not found" }, 404);
  }

  private list(query: URLSearchParams, dag: string): Response {
    this.meanwhile(this.pages);
    this.pages += 1;
    const [from, to] = [Date.parse(query.get("run_after_gte")!), Date.parse(query.get("run_after_lte")!)];
    const all = this.entries.filter((one) => (dag === "~" || dag === one.dag_id) && Date.parse(one.run_after) >= from && Date.parse(one.run_after) <= to);
    if (this.ordered && query.get("order_by") === "-timestamp") all.sort((one, other) => Date.parse(other.timestamp) - Date.parse(one.timestamp));
    const offset = Number(query.get("offset"));
    const page = all.slice(offset, offset + Math.min(100, Number(query.get("limit"))));
    const items = page.map(({ value: _, run_after, ...entry }) => (this.ordered ? { ...entry, run_after } : entry));
    return this.answer({ xcom_entries: items, total_entries: all.length });
  }

  private answer(body: unknown, status = 200): Response {
    return new Response(JSON.stringify(body), { status });
  }
}

function reader(airflow: Airflow, { scope = SCOPE, cache = new MemoryCache(), change = (): unknown => undefined } = {}) {
  const api = new Api({ page: "http://host/x/chat/usage", fetch: airflow.fetch });
  return new Reader({ api, cache, scope, change, chance: () => 0.5 });
}

async function ended(one: Reader): Promise<Reader> {
  await one.start();
  for (let turn = 0; one.snapshot.stage === "reading" && turn < 100_000; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  return one;
}

test("the order of the pages spreads over the list from the first on", () => {
  assert.deepEqual(spread(6), [0, 4, 2, 1, 5, 3]);
  assert.deepEqual([...spread(1000)].sort((one, other) => one - other), Array.from({ length: 1000 }, (_, index) => index));
  assert.deepEqual(spread(0), []);
});

test("everything is read: each page, and each value once", async () => {
  const airflow = new Airflow().fill(1234);
  const { snapshot } = await ended(reader(airflow));
  assert.equal(snapshot.stage, "done");
  assert.equal(snapshot.rows.length, 1234);
  assert.equal(new Set(snapshot.rows.map((row) => row.id)).size, 1234);
  assert.deepEqual([airflow.pages, airflow.values], [13, 1234]);
});

test("nothing in the range is an end, too", async () => {
  const { snapshot } = await ended(reader(new Airflow()));
  assert.deepEqual([snapshot.stage, snapshot.total, snapshot.rows.length], ["done", 0, 0]);
});

test("a second look reads one value of each DAG, one page, and nothing else", async () => {
  const [airflow, cache] = [new Airflow().fill(950), new MemoryCache()];
  await ended(reader(airflow, { cache }));
  [airflow.pages, airflow.values] = [0, 0];
  const { snapshot } = await ended(reader(airflow, { cache, scope: { ...SCOPE, from: 5 * 60_000, to: 101 * DAY } }));
  assert.equal(snapshot.rows.length, 945);
  assert.equal(snapshot.cached, 943);
  assert.deepEqual([airflow.pages, airflow.values], [1, 2]);
});

test("a second look finds what was written, written anew, and deleted since", async () => {
  const [airflow, cache] = [new Airflow().fill(450), new MemoryCache()];
  await ended(reader(airflow, { cache }));
  airflow.add("d0", "new", 1000);
  airflow.entries[3]!.timestamp = new Date(1001 * 60_000).toISOString();
  airflow.entries[3]!.value = { ...VALUE, input_tokens: 77 };
  airflow.values = 0;
  const again = (await ended(reader(airflow, { cache }))).snapshot;
  assert.equal(again.rows.length, 451);
  assert.equal(again.rows.find((row) => row.runId === "r3")!.usage.input_tokens, 77);
  assert.ok(airflow.values <= 4, `${airflow.values} values`);
  airflow.entries.splice(10, 20);
  const { snapshot } = await ended(reader(airflow, { cache }));
  assert.equal(snapshot.rows.length, 431);
});

test("what was read of a DAG is not shown once Airflow refuses that DAG", async () => {
  const [airflow, cache] = [new Airflow().fill(300), new MemoryCache()];
  await ended(reader(airflow, { cache }));
  airflow.forbidden.add("d1");
  airflow.values = 0;
  const one = reader(airflow, { cache, change: () => assert.ok(one.snapshot.rows.every((row) => row.dagId === "d0")) });
  const { snapshot } = await ended(one);
  assert.deepEqual([snapshot.rows.length, snapshot.without.forbidden, snapshot.forbidden], [150, 150, ["d1"]]);
  assert.equal(airflow.values, 2, "one refusal is enough");
});

test("a session that ends in the middle leaves on the page what was read, and nothing in the cache", async () => {
  const [airflow, cache] = [new Airflow().fill(500), new MemoryCache()];
  [airflow.after, airflow.status] = [200, 401];
  const one = await ended(reader(airflow, { cache }));
  assert.equal(one.snapshot.stage, "signed-out");
  assert.ok(one.snapshot.rows.length > 150);
  assert.equal((await cache.values()).size, 0);
  airflow.after = Infinity;
  await ended(one);
  assert.deepEqual([one.snapshot.stage, one.snapshot.rows.length], ["done", 500]);
});

test("a server that fails stops the reading after a few answers, and it can go on", async () => {
  const airflow = new Airflow().fill(500);
  [airflow.after, airflow.status] = [200, 503];
  const one = await ended(reader(airflow));
  assert.equal(one.snapshot.stage, "failed");
  airflow.after = Infinity;
  await ended(one);
  const { stage, rows, without } = one.snapshot;
  assert.deepEqual([stage, rows.length, without.unread], ["done", 500, 0]);
});

test("an error in the list is told, and it can be tried again", async () => {
  const airflow = new Airflow().fill(10);
  [airflow.after, airflow.status] = [0, 403];
  const one = await ended(reader(airflow));
  assert.deepEqual([one.snapshot.stage, one.snapshot.total], ["failed", null]);
  airflow.after = Infinity;
  assert.equal((await ended(one)).snapshot.rows.length, 10);
});

test("reading stops when told to, and continues where it was", async () => {
  const airflow = new Airflow().fill(400);
  const one: Reader = reader(airflow, { change: () => one.snapshot.read >= 100 && airflow.values < 150 && one.stop() });
  await one.start();
  while (one.snapshot.stage === "reading") await new Promise((resolve) => setImmediate(resolve));
  assert.equal(one.snapshot.stage, "paused");
  await new Promise((resolve) => setTimeout(resolve, 10));
  const { read } = one.snapshot;
  assert.ok(read >= 100 && read < 120, String(read));
  airflow.values = 1000;
  await ended(one);
  assert.deepEqual([one.snapshot.stage, one.snapshot.rows.length], ["done", 400]);
});

test("what is deleted between the list and its value, or is of others, is left out and counted", async () => {
  const airflow = new Airflow().fill(20, 1);
  airflow.add("d0", "theirs", 30, { anything: 1 });
  airflow.add("d0", "stored", 31, "s3://bucket/key");
  const one: Reader = reader(airflow, { change: () => airflow.values === 1 && airflow.entries.shift() });
  const { snapshot } = await ended(one);
  assert.deepEqual(snapshot.without, { "not-ours": 1, elsewhere: 1, gone: 1, forbidden: 0, unread: 0 });
  assert.equal(snapshot.rows.length, 19);
});

test("entries that move to another page while the list is read are found", async () => {
  const airflow = new Airflow().fill(800, 1);
  airflow.meanwhile = (page) => page === 3 && airflow.entries.splice(700, 60);
  const { snapshot } = await ended(reader(airflow));
  const runs = new Set(snapshot.rows.map((row) => row.runId));
  assert.ok(airflow.entries.every((entry) => runs.has(entry.run_id)));
});

test("an Airflow whose list has no order and no date of the run is read as well, each time the whole list", async () => {
  const [airflow, cache] = [new Airflow().fill(450), new MemoryCache()];
  airflow.ordered = false;
  await ended(reader(airflow, { cache }));
  [airflow.pages, airflow.values] = [0, 0];
  const { snapshot } = await ended(reader(airflow, { cache }));
  assert.equal(snapshot.rows.length, 450);
  assert.equal(snapshot.rows.find((row) => row.runId === "r7")!.time, 7 * 60_000);
  assert.deepEqual([airflow.pages, airflow.values], [5, 2]);
});

test("a DAG is all that is asked for where the page is about it", async () => {
  const airflow = new Airflow().fill(500, 5);
  const { snapshot } = await ended(reader(airflow, { scope: { ...SCOPE, dag: "d3" } }));
  assert.deepEqual([snapshot.rows.length, airflow.values, airflow.pages], [100, 100, 1]);
});

test("after a wider range, a narrower one and the wider one again are read from the cache", async () => {
  const [airflow, cache] = [new Airflow().fill(600), new MemoryCache()];
  await ended(reader(airflow, { cache }));
  await ended(reader(airflow, { cache, scope: { ...SCOPE, from: 300 * 60_000 } }));
  [airflow.pages, airflow.values] = [0, 0];
  const { snapshot } = await ended(reader(airflow, { cache }));
  assert.deepEqual([snapshot.rows.length, airflow.pages, airflow.values], [600, 1, 2]);
});

test("a DAG whose values Airflow fails to give does not keep the others from being read", async () => {
  const airflow = new Airflow().fill(200);
  const { fetch } = airflow;
  let failures = 0;
  airflow.fetch = async (input) => {
    if (!input.includes("/d1/") || !input.includes("/usage?")) return fetch(input);
    failures += 1;
    return new Response("{}", { status: 500 });
  };
  const { snapshot } = await ended(reader(airflow));
  assert.deepEqual([snapshot.stage, snapshot.rows.length, snapshot.without.unread, failures], ["done", 100, 100, 4]);
});

test("an error of the server's does not pass for a permission", async () => {
  const [airflow, cache] = [new Airflow().fill(40, 1), new MemoryCache()];
  await ended(reader(airflow, { cache }));
  const { fetch } = airflow;
  let failures = 2;
  airflow.fetch = async (input) => {
    if (failures && input.includes("/usage?")) {
      failures -= 1;
      airflow.forbidden.add("d0");
      return new Response("{}", { status: 500 });
    }
    return fetch(input);
  };
  const { snapshot } = await ended(reader(airflow, { cache }));
  assert.deepEqual([snapshot.rows.length, snapshot.without.forbidden, snapshot.without.unread], [0, 39, 1]);
});
