import { test } from "node:test";
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { askedOf, curlOf } from "../src/conversation/asked";
import { remedyOf } from "../src/conversation/remedies";
import { readQuery } from "../src/conversation/query";

const CONFIGURATION = { base_url: "https://api.example.com/v1/", model: "m", chat_conn_id: "c" };

test("the rendered request has all messages, and the other fields do not add them again", () => {
  const messages = [{ role: "system", content: "Be brief." }, { role: "user", content: "Hi" }];
  const asked = askedOf({ request: { temperature: 0, messages }, system_prompt: "Be brief.", prompt: "Hi" });
  assert.deepEqual([asked.messages, asked.parameters], [messages, { temperature: 0 }]);
});

test("without the request, the other fields say what was asked, in the operator's order", () => {
  const asked = askedOf({
    request: { temperature: 0 },
    system_prompt: "Be brief.",
    prompt: "second",
    model: "m2",
    messages: [{ role: "user", content: "first" }],
  });
  assert.deepEqual(asked.messages.map((one) => (one as { content: string }).content), ["Be brief.", "first", "second"]);
  assert.deepEqual(asked.parameters, { temperature: 0, model: "m2" });
});

test("a request that is JSON text is read", () => {
  assert.deepEqual(askedOf({ request: '{"temperature": 0.2, "messages": []}' }).parameters, { temperature: 0.2 });
});

test("fields that Airflow cut are named, and the parameters are then unknown", () => {
  const asked = askedOf({ request: "Truncated. You can change this behaviour in [core]max_templated_field_length. '{...", prompt: "x" });
  assert.deepEqual(asked.cut, ["request"]);
  assert.equal(asked.parameters, null);
  assert.ok(curlOf(CONFIGURATION, [], asked).unknown.includes("the parameters of the request"));
});

test("the command has the request and a variable for the key", () => {
  const asked = askedOf({ request: { temperature: 0 } });
  const { command } = curlOf(CONFIGURATION, [{ role: "user", content: "Hi" }], asked);
  assert.match(command, /^curl 'https:\/\/api\.example\.com\/v1\/chat\/completions'/);
  assert.match(command, /"authorization: Bearer \$API_KEY"/);
  assert.match(command, /"temperature": 0/);
});

test("a shell reads the command as it is meant, whatever the messages hold", () => {
  const content = "it's $(touch /tmp/x) `id` \\ \"q\" \n !! \u0007 \u202e \u{e0041} é 😀";
  const base = "https://a.example/'$(id)'";
  const { command } = curlOf({ ...CONFIGURATION, base_url: base }, [{ role: "user", content }], askedOf({}));
  const script = `curl() { printf '%s\\0' "$@"; }\n${command}`;
  const args = spawnSync("bash", ["-c", script], { encoding: "utf8", env: { API_KEY: "K" } }).stdout.split("\0");
  assert.equal(args[0], `${base}/chat/completions`);
  assert.equal(args[4], "authorization: Bearer K");
  assert.equal(JSON.parse(args[6]!).messages[0].content, content);
});

test("nothing in the command can act on a terminal or hide in it", () => {
  const content = "\u001b[31m \u009b \u202e \u200b \u{e0041} \r";
  const { command } = curlOf({ ...CONFIGURATION, base_url: "https://a\u001b]0;x\u0007.example" }, [{ role: "user", content }], askedOf({}));
  assert.doesNotMatch(command, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u{e0000}-\u{e007f}]/u);
});

test("each kind of failure has a remedy, and an unknown kind has none", () => {
  for (const kind of ["RateLimited 429", "StatusError 401", "StatusError 500", "StatusError 418", "TransportTimeout", "ProtocolError 200", "InvalidOutput 200", "IncompleteReply 200"]) {
    assert.ok(remedyOf(kind), kind);
  }
  assert.equal(remedyOf("ValueError"), null);
  assert.equal(remedyOf("constructor"), null);
});

test("the address names a task instance, or what is missing is said", () => {
  assert.deepEqual(readQuery("?dag_id=d&run_id=r%2B1&task_id=t&map_index=3"), { place: { dagId: "d", runId: "r+1", taskId: "t", mapIndex: 3 } });
  assert.deepEqual(readQuery("?dag_id=d&run_id=r&task_id=t&map_index={MAP_INDEX}"), { place: { dagId: "d", runId: "r", taskId: "t", mapIndex: -1 } });
  assert.deepEqual(readQuery("?dag_id=d"), { problem: "The address lacks run_id, task_id." });
  assert.ok("problem" in readQuery("?dag_id=d&run_id=r&task_id=t&map_index=x"));
});
