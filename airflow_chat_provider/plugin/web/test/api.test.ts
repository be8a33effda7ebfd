import { test } from "node:test";
import assert from "node:assert/strict";
import { Api, ApiError, Limiter, airflowPages, conversationPage, instancePath, readLogLine, readXCom } from "../src/lib/api";

const PAGE = "https://airflow.example/team/chat/conversation?dag_id=d";
const PLACE = { dagId: "a b", runId: "manual__2026-11-27T10:00:00+00:00", taskId: "group.ask", mapIndex: -1 };

function api(answer: (url: string, init: RequestInit) => Response | Promise<Response>) {
  return new Api({ page: PAGE, fetch: async (url, init) => answer(url, init) });
}

async function errorOf(promise: Promise<unknown>): Promise<ApiError> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof ApiError);
    return error;
  }
  throw new Error("it did not fail");
}

const json = (value: unknown, status = 200) => new Response(JSON.stringify(value), { status });

test("the API is found below the path at which Airflow is served", async () => {
  const asked: string[] = [];
  await api((url) => (asked.push(url), json({}))).taskInstance(PLACE);
  assert.deepEqual(asked, [
    "https://airflow.example/team/api/v2/dags/a%20b/dagRuns/manual__2026-11-27T10%3A00%3A00%2B00%3A00/taskInstances/group.ask",
  ]);
});

test("a mapped instance is asked for by its index", () => {
  assert.ok(instancePath({ ...PLACE, mapIndex: 3 }).endsWith("/taskInstances/group.ask/3"));
  assert.equal(airflowPages.task({ ...PLACE, runId: "r", mapIndex: 3 }), "../dags/a%20b/runs/r/tasks/group.ask/mapped/3");
  assert.equal(conversationPage({ ...PLACE, runId: "r", mapIndex: 3 }), "conversation?dag_id=a+b&run_id=r&task_id=group.ask&map_index=3");
});

for (const [status, detail, kind] of [
  [401, "Not authenticated", "signed-out"],
  [401, "Token Expired", "signed-out"],
  [403, "Invalid JWT token", "signed-out"],
  [403, "Forbidden", "forbidden"],
  [404, "XCom entry with key: `usage` not found", "missing"],
  [500, "Internal Server Error", "server"],
] as const) {
  test(`status ${status} with "${detail}" means ${kind}`, async () => {
    const error = await errorOf(api(() => json({ detail }, status)).xcom(PLACE, "usage"));
    assert.deepEqual([error.kind, error.status, error.detail], [kind, status, detail]);
  });
}

test("where Airflow takes no cookie, the token of its own UI is sent, and then with each request", async () => {
  const sent: (string | undefined)[] = [];
  Object.assign(globalThis, { document: { cookie: "" }, localStorage: { getItem: () => "a.b.c" } });
  const client = api((_, init) => {
    const given = (init.headers as Record<string, string>).authorization;
    sent.push(given);
    return given ? json({}) : json({ detail: "Not authenticated" }, 401);
  });
  await client.taskInstance(PLACE);
  await client.taskInstance(PLACE);
  assert.deepEqual(sent, [undefined, "Bearer a.b.c", "Bearer a.b.c"]);
});

test("a cookie that Airflow takes is enough, whatever token lies in the browser", async () => {
  const sent: unknown[] = [];
  Object.assign(globalThis, { document: { cookie: "_token=old.old.old" }, localStorage: { getItem: () => "a.b.c" } });
  await api((_, init) => (sent.push((init.headers as Record<string, string>).authorization), json({}))).taskInstance(PLACE);
  assert.deepEqual(sent, [undefined]);
});

test("a token that has run out means signed out", async () => {
  Object.assign(globalThis, { document: { cookie: "" }, localStorage: { getItem: () => "a.b.c" } });
  assert.equal((await errorOf(api(() => json({ detail: "Token Expired" }, 401)).taskInstance(PLACE))).kind, "signed-out");
});

test("an error page of a proxy is not quoted", async () => {
  const error = await errorOf(api(() => new Response("<html>Bad gateway", { status: 502 })).xcom(PLACE, "usage"));
  assert.deepEqual([error.kind, error.detail], ["server", ""]);
});

test("an API server that does not answer is a network error", async () => {
  const error = await errorOf(api(() => Promise.reject(new TypeError("Failed to fetch"))).xcom(PLACE, "usage"));
  assert.equal(error.kind, "network");
});

test("reading stops above the limit", async () => {
  const error = await errorOf(api(() => json({ value: "x".repeat(5000) })).xcom(PLACE, "body", { maxBytes: 1000 }));
  assert.equal(error.kind, "too-large");
});

test("what is aborted is said to be aborted", async () => {
  const stop = new AbortController();
  stop.abort();
  const error = await errorOf(api(() => json({})).xcom(PLACE, "body", { signal: stop.signal }));
  assert.equal(error.kind, "aborted");
});

test("an answer that is not JSON is unreadable", async () => {
  assert.equal((await errorOf(api(() => new Response("<!doctype html>")).taskInstance(PLACE))).kind, "unreadable");
});

test("an XCom's value is JSON text, the value itself, or a path of an object store", () => {
  const read = (value: unknown) => readXCom(JSON.stringify({ value, timestamp: "2026-11-27T10:00:00Z" }), 10);
  assert.deepEqual(read('{"cost": null}').value, { cost: null });
  assert.deepEqual(read({ cost: null }).value, { cost: null });
  assert.deepEqual([read('"s3://bucket/xcom/d/r/t/1"').elsewhere, read("s3://bucket/x").elsewhere], ["s3://bucket/xcom/d/r/t/1", "s3://bucket/x"]);
  assert.equal(read('"see https://example.com for it"').elsewhere, null);
  assert.equal(read(null).value, null);
  for (const text of ["<html>Sign in</html>", "refund", '"Well," it said', ""]) {
    assert.deepEqual([read(text).value, read(text).isJson], [text, true]);
  }
});

test("an XCom that was cut is shown as the text that there is", () => {
  const found = readXCom(JSON.stringify({ value: '{"cost": nul' }), 10);
  assert.deepEqual([found.isJson, found.value], [false, '{"cost": nul']);
});

test("at most so many requests run at once, and a failure frees its place", async () => {
  const limiter = new Limiter(2);
  let [running, most] = [0, 0];
  const work = async (index: number) => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, 1));
    running -= 1;
    if (index % 3 === 0) throw new Error("failed");
    return index;
  };
  const ends = await Promise.allSettled([...Array(10).keys()].map((index) => limiter.run(() => work(index))));
  assert.equal(most, 2);
  assert.equal(ends.filter((end) => end.status === "fulfilled").length, 6);
});

test("a log is read line by line, across the pieces in which it comes", async () => {
  const text =
    '{"timestamp":"2026-11-27T10:00:00Z","event":"Chat completion: é","level":"info","logger":"task"}\n' +
    '{"event":"Task failed","error_detail":[{"exc_type":"StatusError","exc_value":"Check the key"}]}\nplain';
  const all = new TextEncoder().encode(text);
  const body = new ReadableStream({
    start(controller) {
      for (let at = 0; at < all.length; at += 7) controller.enqueue(all.slice(at, at + 7));
      controller.close();
    },
  });
  const lines: unknown[] = [];
  const cut = await api(() => new Response(body)).log(PLACE, 1, (line) => lines.push([line.event, line.errors]));
  assert.equal(cut, false);
  assert.deepEqual(lines, [
    ["Chat completion: é", []],
    ["Task failed", [{ type: "StatusError", value: "Check the key" }]],
    ["plain", []],
  ]);
});

test("a line of a log that is not an object is its text", () => {
  assert.equal(readLogLine('"quoted"').event, "quoted");
  assert.equal(readLogLine("{broken").event, "{broken");
});
