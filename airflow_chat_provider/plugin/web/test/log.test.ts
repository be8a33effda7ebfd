import { test } from "node:test";
import assert from "node:assert/strict";
import { Api } from "../src/lib/api";
import { readLog } from "../src/conversation/log";

const PLACE = { dagId: "d", runId: "r", taskId: "t", mapIndex: -1 };
const failed = (exc_type: string, exc_value: string, event = "Task failed with exception", more: object[] = []) => ({
  event,
  error_detail: [{ exc_type, exc_value }, ...more],
});

async function told(...lines: object[]) {
  const text = lines.map((line) => JSON.stringify(line)).join("\n");
  const api = new Api({ page: "https://a.example/chat/conversation", fetch: async () => new Response(text) });
  return readLog(api, PLACE, 1);
}

test("the error that ended the task counts, and not one of Airflow's after it", async () => {
  const { error } = await told(failed("InvalidOutput", "Change the prompt"), failed("AirflowRuntimeError", "API_SERVER_ERROR", "Top level error"));
  assert.deepEqual(error, { type: "InvalidOutput", value: "Change the prompt" });
});

test("where only Airflow failed, its last error counts", async () => {
  const { error } = await told(failed("OSError", "first", "x"), failed("AirflowRuntimeError", "last", "y"));
  assert.equal(error?.value, "last");
});

test("a final error has its own name, in each of the ways in which Airflow writes it", async () => {
  const cause = { exc_type: "StatusError", exc_value: "Check the key" };
  assert.deepEqual((await told(failed("AirflowFailException", "StatusError: Check the key"))).error, { type: "StatusError", value: "Check the key" });
  assert.deepEqual((await told(failed("AirflowFailException", "Check the key", undefined, [cause]))).error, { type: "StatusError", value: "Check the key" });
});

test("the lines of calls are kept, the last forty of them", async () => {
  const lines = Array.from({ length: 100 }, (_, at) => [{ event: `Chat completion: ${at}` }, { event: "other" }]).flat();
  const { lines: kept } = await told(...lines);
  assert.deepEqual([kept.length, kept[0]?.event, kept.at(-1)?.event], [40, "Chat completion: 60", "Chat completion: 99"]);
});
