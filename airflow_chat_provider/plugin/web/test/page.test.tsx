import { test } from "node:test";
import assert from "node:assert/strict";
import { type FakeElement, settled, show } from "./dom";
import { api as answer } from "../dev/airflow.mjs";
import { scenarios, usage } from "../dev/scenarios.mjs";
import { Api } from "../src/lib/api";
import { ConversationPage } from "../src/conversation/page";
import { Guarded } from "../src/conversation/messages";

const BASE = "https://airflow.example/api/v2/";

function made(change: (path: string) => Response | null = () => null) {
  const asked: string[] = [];
  const api = new Api({
    page: "https://airflow.example/chat/conversation",
    fetch: async (address) => {
      const url = new URL(address);
      const path = url.href.slice(BASE.length).split("?")[0]!;
      asked.push(path.replace(/^dags\/d\/dagRuns\/r\/taskInstances\//, ""));
      const found = answer(path, url.searchParams);
      return change(path) ?? new Response(found.body, { status: found.status });
    },
  });
  return { api, asked };
}

async function open(taskId: string, change?: (path: string) => Response | null, mapIndex = -1) {
  const { api, asked } = made(change);
  const root = await show(<ConversationPage api={api} place={{ dagId: "d", runId: "r", taskId, mapIndex }} />);
  for (let turn = 0; turn < 30 && /Reading/.test(root.text); turn += 1) await settled();
  return { root, text: root.text, asked };
}

/** The page of a batch that returned this plan. */
function openPlan(plan: Record<string, unknown>) {
  const value = JSON.stringify({ value: JSON.stringify(plan) });
  return open("plan-batch", (path) => (path.endsWith("/return_value") ? new Response(value) : null));
}

function button(root: FakeElement, name: string): FakeElement {
  const found = [...root.all("button"), ...root.all("summary")].find((one) => one.text.startsWith(name));
  assert.ok(found, `there is no button ${name}`);
  return found;
}

async function unfold(root: FakeElement, name: string) {
  const fold = button(root, name).parentNode!;
  fold.fire("toggle", { currentTarget: { open: true } });
  for (let turn = 0; turn < 5; turn += 1) await settled();
}

for (const name of [...Object.keys(scenarios).filter((one) => one !== "many"), "gone"]) {
  test(`the scenario "${name}" is shown, and nothing stays empty or unread`, async () => {
    const { root, text } = await open(name);
    assert.ok(text.includes(name));
    assert.ok(text.replace(name, "").length > 60, text);
    assert.ok(!/Reading/.test(text), text);
    assert.ok(!text.includes("This page failed"), text);
    assert.ok(!root.html.includes("<script") || !root.all("script").length);
  });
}

test("the header says what a call took, and what is unknown is not 0", async () => {
  const { text } = await open("unauthorized");
  for (const said of ["Tokens inunknown", "Costunknown", "HTTP status401", "310 ms"]) assert.ok(text.includes(said), said);
});

test("a cost is shown with its currency", async () => {
  const { text } = await open("batch");
  assert.ok(text.includes("Cost4.2113\u00a0EUR"));
});

test("the reply is marked, and a tool's result has the name of its call", async () => {
  const { text } = await open("ask");
  assert.ok(text.includes("Replyassistant"));
  assert.ok(text.includes("Tool result rows_per_day"));
  assert.ok(text.includes("answered in message 4"));
});

test("pictures elsewhere are named and not asked for", async () => {
  const { root, text } = await open("ask");
  assert.ok(text.includes("it is at charts.example.com"));
  assert.ok(root.all("img").every((one) => !one.html.includes("http")));
});

test("answers that did not fit are explained", async () => {
  const { text } = await open("structured");
  assert.ok(text.includes("2 answers did not fit and were asked for again."));
  assert.ok(text.includes("$.sentiment: must be one of"));
});

test("a failed task shows the error of its log, what the server said, and what was asked", async () => {
  const { text } = await open("unauthorized");
  for (const said of ["Check the API key (password) of connection 'chat_default'", "StatusError, from the log", "Incorrect API key provided: sk-***", "Summarise the incidents"]) {
    assert.ok(text.includes(said), said);
  }
});

test("without its log a failed task has the remedy of its kind", async () => {
  const { text } = await open("no-log");
  assert.ok(text.includes("which you may not see"));
  assert.ok(text.includes("StatusError 500 Try again later: the server failed."));
});

test("an answer that was not accepted is shown as such", async () => {
  const { text } = await open("unfit");
  assert.ok(text.includes("not accepted") && text.includes("rather bad"));
});

test("earlier tries are reached, with what their logs say", async () => {
  const { root } = await open("unfit");
  await unfold(root, "3 tries");
  assert.ok(root.text.includes("Airflow removes the XComs of a try when the next one begins"));
  await unfold(root, "What its log says");
  assert.ok(root.text.includes("Attempt 1 of 3 failed"));
  assert.ok(root.text.includes("it is a rate limit (HTTP 429)"));
});

test("a batch shows its counts, and the first failures of each kind", async () => {
  const { text } = await open("batch-running");
  for (const said of ["The batch so far", "68.2% of 12,000 rows done", "41 ×", "the prompt is empty (reviews.csv:18)", "row 17, id r-17"]) {
    assert.ok(text.includes(said), said);
  }
});

test("a branch shows which task it chose, and with which arguments", async () => {
  const { text } = await open("branch");
  assert.ok(/chosen refund/.test(text) && text.includes('"euros"') && text.includes("Not skipped either: join"));
});

test("a dry run shows its plan", async () => {
  const { text } = await open("plan");
  assert.ok(text.includes("nothing was sent") && text.includes("$CHAT_API_KEY"));
});

test("a dry run of a batch shows its plan: rows, tokens, cost, limits and notes", async () => {
  const { text } = await open("plan-batch");
  const rows = ["Rows12,000", "Answered already800", "Reused150", "Equal42", "Would be sent11,010", "Would fail40"];
  const tokens = ["Tokens in1,320,450a guess, counted by o200k_base", "Tokens outat most 220,200", "Cost0.33 to 0.77\u00a0EUR"];
  const limits = ["max_total_tokens1,000,000 does not suffice90,400 of it spent by earlier tries", "max_cost0.50\u00a0EUR may not suffice0.02\u00a0EUR of it spent"];
  for (const said of ["nothing was sent", ...rows, ...tokens, ...limits, "Input tokens are a guess by o200k_base"]) assert.ok(text.includes(said), said);
  assert.ok(!text.includes("has left no counts"));
  assert.ok(!text.includes("Request id") && !text.includes("Finish reason"));
});

test("a dry run of a batch names the first rows that would fail, and shows the first request", async () => {
  const { root, text } = await open("plan-batch");
  for (const said of ["The task would fail", "38 × InvalidRequest column", "there is no column 'text' (reviews.csv:18)", "row 17, id r-17"]) {
    assert.ok(text.includes(said), said);
  }
  assert.deepEqual(root.all("h2").slice(0, 4).map((one) => one.text), ["The plan of the batch", "Notes", "Rows that would fail, by kind", "The first request"]);
  assert.ok(text.includes("$CHAT_API_KEY"));
});

test("a dry run that would send nothing has no tokens, no cost and no request", async () => {
  const { text } = await openPlan({ dry_run: true, rows: 0, to_send: 0, failed: {}, input_tokens: 0, first_request: null, notes: [] });
  assert.ok(text.includes("Would be sent0") && text.includes("Would fail0"));
  for (const said of ["Tokens in", "Cost", "The first request", "Notes"]) assert.ok(!text.includes(said), said);
});

for (const [costs, said] of [
  [{ least: 0.25, most: null, currency: "USD" }, "Costat least 0.25\u00a0USD"],
  [{ least: null, most: null, currency: "USD" }, "Costunknown"],
  [{ least: 0, most: 0, currency: "USD" }, "Cost0\u00a0USD"],
  [null, "Costunknown"],
] as const) {
  test(`a plan's cost of ${JSON.stringify(costs)} is shown as far as it is known`, async () => {
    const { text } = await openPlan({ dry_run: true, rows: 1, to_send: 1, cost: costs, output_tokens: null });
    assert.ok(text.includes(said), text);
    assert.ok(text.includes("Tokens outunknown"));
  });
}

test("a plan in which nothing is what it should be is shown as text and as unknown", async () => {
  const { root, text } = await open("plan-batch-hostile");
  for (const said of ["Rowsunknown", "Would fail4", "Tokens inunknown", "Costunknown", "max_total_tokensunknown may not suffice", "Modelunknown", "<script>window.hacked"]) {
    assert.ok(text.includes(said), said);
  }
  assert.ok(!text.includes("could not be shown") && !text.includes("[object Object]") && !text.includes("The task would fail"));
  assert.equal(root.all("img").length + root.all("script").length, 0);
});

test("a mapped task lists its instances, page by page", async () => {
  const { root } = await open("mapped");
  assert.equal(root.all("tr").length, 51);
  button(root, "Next").fire("click");
  for (let turn = 0; turn < 5; turn += 1) await settled();
  assert.ok(root.text.includes("language 50"));
  assert.ok(root.all("a").some((one) => one.attribute("href")?.endsWith("map_index=50")));
});

test("an instance of a mapped task shows its conversation, and leads to the others", async () => {
  const { root, text } = await open("mapped", undefined, 3);
  assert.ok(text.includes("Bonjour"));
  button(root, "Other instances of this mapped task");
});

test("the last 200 of many messages are shown first, and earlier ones when asked for", async () => {
  const { root, text } = await open("many");
  assert.equal(root.all("article").length, 200);
  assert.ok(text.includes("Messages 9,801 to 10,000 of 10,000"));
  button(root, "Show 200 earlier").fire("click");
  await settled();
  assert.equal(root.all("article").length, 400);
});

test("only what Airflow lists is asked for, and each thing once", async () => {
  const { asked } = await open("ask");
  assert.deepEqual(asked.sort(), ["ask", "ask/xcomEntries", ...["body", "configuration", "messages", "return_value", "status", "usage"].map((key) => `ask/xcomEntries/${key}`)]);
});

test("reload reads again, but not what has not changed", async () => {
  const { root, asked } = await open("ask");
  asked.length = 0;
  button(root, "Reload").fire("click");
  for (let turn = 0; turn < 40 && asked.length < 2; turn += 1) await settled();
  await settled();
  assert.deepEqual(asked, ["ask", "ask/xcomEntries"]);
});

test("the stored body is one click away, with every digit of its numbers", async () => {
  const text = '{"id": 12345678901234567890, "choices": []}';
  const { root } = await open("ask", (path) => (path.endsWith("/body") ? new Response(JSON.stringify({ value: text })) : null));
  await unfold(root, "Raw body");
  assert.ok(root.text.includes("12345678901234567890"));
});

test("a user who may not see the XComs still sees the task, and is told why there is no more", async () => {
  const { text } = await open("ask", (path) => (path.includes("xcomEntries") ? new Response('{"detail": "Forbidden"}', { status: 403 }) : null));
  assert.ok(text.includes("success"));
  assert.ok(text.includes("You may not see the XComs of this task."));
});

test("a session that has run out leads to Airflow", async () => {
  const { root, text } = await open("signed-out");
  assert.ok(text.includes("Sign in to Airflow again."));
  assert.ok(root.all("a").some((one) => one.attribute("href") === "../"));
});

test("an XCom that is too large is named, and read when asked for", async () => {
  const { root, text } = await open("large");
  assert.ok(text.includes("Too large to be shown here: the XCom messages."));
  button(root, "Read it all").fire("click");
  for (let turn = 0; turn < 40 && /Too large|Reading/.test(root.text); turn += 1) await settled();
  assert.ok(root.text.includes("The conversation"));
});

test("an XCom in an object store is named by its path", async () => {
  const { text } = await open("elsewhere");
  assert.ok(text.includes("The XCom messages is kept in an object store.") && text.includes("s3://aws_default@xcom/d/manual/elsewhere/messages"));
});

test("an XCom that is not whole is shown as the text that there is", async () => {
  const { text } = await open("cut");
  assert.ok(text.includes("The XCom messages is not whole.") && text.includes('"content": "Name a col'));
});

test("a message that cannot be shown is shown as it is, and takes nothing with it", async () => {
  const Broken = (): never => {
    throw new Error("broken");
  };
  const root = await show(
    <>
      <p>before</p>
      <Guarded message={{ role: "user", content: "the text" }}>
        <Broken />
      </Guarded>
      <p>after</p>
    </>,
  );
  for (const said of ["before", "could not be shown", "the text", "after"]) assert.ok(root.text.includes(said), said);
});

test("usage without the newer keys is shown as well", async () => {
  const { errors: _, rejected: __, ...older } = usage();
  const { text } = await open("ask", (path) => (path.endsWith("/usage") ? new Response(JSON.stringify({ value: JSON.stringify(older) })) : null));
  assert.ok(text.includes("Tokens in412"));
});
