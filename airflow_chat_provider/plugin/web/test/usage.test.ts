import assert from "node:assert/strict";
import { test } from "node:test";
import type { Json, XCom } from "../src/lib/api";
import { cost } from "../src/lib/format";
import { bucketOf, estimate, groups, kinds, overTime, percentile, type Row, total } from "../src/usage/aggregate";
import { costTexts } from "../src/usage/costs";
import { csv, csvCell } from "../src/usage/csv";
import { plainName } from "../src/usage/names";
import { NO_ANSWER, readCount, readUsage, type Usage } from "../src/usage/reading";
import { shapesOf } from "../src/usage/shapes";
import { finds, sorted } from "../src/usage/sorting";
import { bucketEdges, bucketLabel, fromInput, toInput, unitFor } from "../src/usage/time";
import { DEFAULT, readView, spanOf, timeText, writeView } from "../src/usage/view";

const OURS = {
  requests: 1, input_tokens: 100, output_tokens: 20, total_tokens: 120, cache_read_tokens: 40, cache_write_tokens: null,
  reasoning_tokens: null, tool_calls: 0, cost: 0.5, model: "m", attempts: 2, seconds: 1.5, request_id: "r", errors: {}, rejected: [], currency: "USD",
};
const xcom = (value: Json, more: Partial<XCom> = {}): XCom => ({ value, timestamp: null, bytes: 1, elsewhere: null, isJson: true, stored: null, ...more });
const usage = (part: Record<string, Json> = {}) => readUsage(xcom({ ...OURS, ...part })) as Usage;
const plain = (texts: string[]) => texts.map((text) => text.replaceAll("\u00a0", " "));
const row = (part: Partial<Row> = {}, value: Record<string, Json> = {}): Row => {
  const made = { dagId: "d", runId: "r", taskId: "t", mapIndex: -1, time: 0, usage: usage(value), id: "", ...part };
  return { ...made, id: [made.dagId, made.runId, made.taskId, made.mapIndex].join("\n") };
};

test("a usage is read, and what the server did not state is unknown", () => {
  const read = usage();
  assert.equal(read.input_tokens, 100);
  assert.equal(read.reasoning_tokens, null);
  assert.equal(read.foreign, false);
  assert.equal(read.failed, 0);
});

test("failures are counted by kind", () => {
  assert.equal(usage({ errors: { "RateLimited 429": 3, InvalidOutput: 2 } }).failed, 5);
});

test("a usage from before failures were counted has unknown failures, but for one without any answer", () => {
  assert.equal(usage({ errors: null }).failed, null);
  assert.deepEqual({ ...usage({ errors: null, requests: 0 }).failures }, { [NO_ANSWER]: 1 });
});

test("counts that cannot be are unknown", () => {
  for (const absurd of [-1, 1e300, "x", true, [], {}, "1e999", "-1", "0x10"]) assert.equal(readCount(absurd as Json), null, String(absurd));
  assert.equal(readCount(2 ** 62), 2 ** 62);
});

test("a kind of failure with the name of a property of objects is a name like others", () => {
  const errors = JSON.parse('{"__proto__": 1, "constructor": 2, "toString": "x"}') as Json;
  const read = usage({ errors });
  assert.equal(read.failed, 3);
  assert.equal(total([row({ usage: read })]).kinds.get("__proto__"), 1);
});

test("the usage of common-ai is read as far as it goes: its cost is text, its zeros may be unknown", () => {
  const theirs = { requests: 1, input_tokens: 10, output_tokens: 5, total_tokens: 15, cache_read_tokens: 0, cache_write_tokens: 0, tool_calls: 1, cost: "0.0012" };
  const read = readUsage(xcom(theirs)) as Usage;
  assert.equal(read.foreign, true);
  assert.equal(read.cost, 0.0012);
  assert.equal(read.seconds, null);
  assert.equal(read.failures, null);
  assert.equal((readUsage(xcom({ ...theirs, input_tokens: 0, output_tokens: 0 })) as Usage).input_tokens, null);
});

test("an XCom of that name with anything else in it is not ours", () => {
  for (const value of [null, 1, "text", [], {}, { requests: "1" }, { requests: 1 }, { requests: 1, output_tokens: 1 }] as Json[]) {
    assert.equal(readUsage(xcom(value)), "not-ours", JSON.stringify(value));
  }
});

test("a usage that lacks keys is read as far as it goes", () => {
  const read = readUsage(xcom({ requests: 1, input_tokens: 5, errors: { kind: 2 } })) as Usage;
  assert.deepEqual([read.foreign, read.input_tokens, read.output_tokens, read.failed, read.model], [false, 5, null, 2, null]);
});

test("a name that would reorder the text around it is marked, and short of nothing", () => {
  assert.equal(plainName("gpt\u202e4"), "gpt[RLO]4");
  assert.equal(plainName("Qwen/Qwen3-8B"), "Qwen/Qwen3-8B");
});

test("a value in an object store is said to be there", () => {
  assert.equal(readUsage(xcom("s3://bucket/x", { elsewhere: "s3://bucket/x" })), "elsewhere");
});

test("a sum over something unknown says of how many", () => {
  const all = total([row(), row({}, { cost: null }), row({}, { cost: 0.25 })]);
  assert.deepEqual(all.costs, { sums: new Map([["USD", 0.75]]), unknown: 1 });
  assert.deepEqual(all.reasoning_tokens, { sum: null, unknown: 3 });
});

const EUR = { currency: "EUR" };

test("costs in different currencies are never added", () => {
  const rows = [row(), row({}, EUR), row({}, { ...EUR, cost: 2 }), row({}, { currency: null, cost: 7 }), row({}, { cost: null, currency: null })];
  const { costs } = total(rows);
  assert.deepEqual(costs, { sums: new Map([["USD", 0.5], ["EUR", 2.5], ["", 7]]), unknown: 1 });
  assert.deepEqual(plain(costTexts(costs.sums)), ["2.50 EUR", "0.50 USD", "7.00"]);
  assert.deepEqual(estimate(rows, () => 10).costs, new Map([["USD", 5], ["EUR", 25], ["", 70]]));
});

test("a cost from before currencies were named is shown without one", () => {
  const { currency: _, ...before } = OURS;
  const read = readUsage(xcom(before)) as Usage;
  assert.equal(read.currency, null);
  assert.deepEqual(costTexts(total([row({ usage: read })]).costs.sums), ["0.50"]);
});

test("a currency that is none is not shown", () => {
  for (const absurd of [1, "usd", "US", "<b>", "USD\n", {}, ["USD"]] as Json[]) assert.equal(usage({ currency: absurd }).currency, null, JSON.stringify(absurd));
  assert.equal(cost(0.5, "<b>"), "0.50");
});

test("of very many currencies a few are shown", () => {
  const rows = [..."ABCDEFG"].map((letter) => row({}, { currency: `XX${letter}` }));
  assert.deepEqual(plain(costTexts(total(rows).costs.sums)).slice(3), ["0.50 XXD", "and 3 other currencies"]);
});

test("each currency has a plot of its own, and there is one where none is known", () => {
  const titles = (rows: Row[]) => shapesOf(groups(rows, "dag")).map(({ title }) => title);
  assert.deepEqual(titles([row(), row({}, EUR)]).slice(2, -1), ["Cost in EUR", "Cost in USD"]);
  assert.deepEqual(titles([row(), row({}, { currency: null })]).slice(2, -1), ["Cost in USD", "Cost without a currency"]);
  for (const value of [{ cost: null }, { currency: null }] as Record<string, Json>[]) assert.deepEqual(titles([row({}, value)]).slice(2, -1), ["Cost"]);
});

test("percentiles are values that occurred, by nearest rank", () => {
  const values = Array.from({ length: 100 }, (_, index) => index + 1);
  assert.equal(percentile(values, 0.5), 50);
  assert.equal(percentile(values, 0.95), 95);
  assert.equal(percentile([7], 0.95), 7);
  assert.equal(percentile([], 0.5), null);
});

test("a batch counts with all its rows, and lines are made by DAG, task, model and task instance", () => {
  const rows = [row({}, { requests: 200 }), row({ taskId: "u", mapIndex: 3 }), row({ dagId: "e" }, { model: null })];
  assert.deepEqual(groups(rows, "dag").map((group) => [group.dagId, group.instances, group.requests.sum]), [["d", 2, 201], ["e", 1, 1]]);
  assert.equal(groups(rows, "task").length, 3);
  assert.deepEqual(groups(rows, "model").map((group) => group.model), ["m", null]);
  assert.equal(groups(rows, "instance")[1]!.row!.mapIndex, 3);
});

test("an estimate takes each task's sums times what was not read of it", () => {
  const rows = [row({}, { requests: 200 }), row({ taskId: "u" })];
  const whole = estimate(rows, (name) => (name === "d\nt" ? 1 : 50));
  assert.equal(whole.requests, 250);
  assert.equal(whole.reasoning_tokens, null);
});

test("kinds of failures are in the order of their counts, with how many task instances and DAGs have them", () => {
  const rows = [row({ time: 5 }, { errors: { A: 1, B: 7 } }), row({ dagId: "e", time: 9 }, { errors: { A: 2 } }), row()];
  assert.deepEqual(kinds(rows), [
    { kind: "B", count: 7, instances: 1, dags: 1, latest: 5 },
    { kind: "A", count: 3, instances: 2, dags: 2, latest: 9 },
  ]);
});

test("a time on the border of two buckets is in the later one", () => {
  assert.deepEqual([0, 9, 10, 29, 30, -1].map((time) => bucketOf(time, [0, 10, 20, 30])), [0, 0, 1, 2, -1, -1]);
  assert.deepEqual(overTime([row({ time: 10 }), row({ time: 99 })], [0, 10, 20]).map((group) => group.instances), [0, 1]);
});

test("days are the reader's, and the days of a clock change are 23 and 25 hours long", () => {
  process.env.TZ = "Europe/Berlin";
  const hours = (edges: number[]) => edges.slice(1).map((edge, index) => (edge - edges[index]!) / 3_600_000);
  const spring = bucketEdges({ from: Date.parse("2026-03-28T12:00Z"), to: Date.parse("2026-03-30T12:00Z") }, "day");
  assert.deepEqual(hours(spring), [24, 23, 24]);
  assert.equal(new Date(spring[1]!).getHours(), 0);
  const autumn = bucketEdges({ from: Date.parse("2026-10-24T12:00Z"), to: Date.parse("2026-10-26T12:00Z") }, "day");
  assert.deepEqual(hours(autumn), [24, 25, 24]);
  const night = bucketEdges({ from: Date.parse("2026-10-25T00:10Z"), to: Date.parse("2026-10-25T02:10Z") }, "hour");
  assert.deepEqual(hours(night), [1, 1, 1]);
  assert.equal(new Set(night.map((edge) => bucketLabel(edge, "hour"))).size, 4, "the hour that comes twice has two names");
});

test("buckets are hours, days or weeks, as the range is long, and never without end", () => {
  const day = 24 * 3_600_000;
  assert.deepEqual([1, 7, 30, 90, 365, 3650].map((days) => unitFor({ from: 0, to: days * day })), ["hour", "6 hours", "day", "day", "week", "month"]);
  for (const zone of ["Europe/Berlin", "Asia/Kolkata", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "UTC"]) {
    process.env.TZ = zone;
    for (const unit of ["hour", "6 hours", "day", "week", "month"] as const) {
      const edges = bucketEdges({ from: Date.parse("2011-12-20T00:00Z"), to: Date.parse("2012-01-10T00:00Z") }, unit);
      assert.ok(edges[0]! <= Date.parse("2011-12-20T00:00Z") && edges[edges.length - 1]! > Date.parse("2012-01-10T00:00Z"), zone + unit);
      assert.ok(edges.every((edge, index) => !index || edge > edges[index - 1]!), zone + unit);
    }
  }
  assert.ok(bucketEdges({ from: 0, to: 1e15 }, "hour").length < 1100);
});

test("an input's local time comes back as it was", () => {
  process.env.TZ = "America/New_York";
  assert.equal(toInput(fromInput("2026-07-01T08:30")!), "2026-07-01T08:30");
  for (const bad of ["", "2026-07-01", "yesterday", "99999-01-01T00:00"]) assert.equal(fromInput(bad), null);
});

test("the address says what the page shows, and nothing that it cannot show", () => {
  const view = { ...DEFAULT, range: "custom" as const, from: timeText(0), to: timeText(86_400_000), dag: "a b&c", by: "instance" as const, sort: "-cost" };
  assert.deepEqual(readView(writeView(view)), view);
  assert.equal(writeView(DEFAULT), "");
  assert.deepEqual(readView("?range=forever&by=x&outcome=y&what=z"), DEFAULT);
  assert.equal(readView("?range=custom&from=x&to=y").range, DEFAULT.range);
  assert.deepEqual(spanOf({ ...view, from: view.to, to: view.from }, 0), { from: 0, to: 86_400_000 });
});

test("lines are in order, with what is unknown at the end", () => {
  const rows = [row({ dagId: "a" }, { cost: null }), row({ dagId: "b" }, { cost: 1 }), row({ dagId: "c" }, { cost: 2 })];
  const order = (sort: string) => sorted(groups(rows, "dag"), sort).map((group) => group.dagId).join("");
  assert.equal(order("-cost"), "cba");
  assert.equal(order("cost"), "bca");
  assert.equal(order("-name"), "cba");
  assert.equal(order("constructor"), "abc");
});

test("task instances of a mapped task are in the order of their indexes", () => {
  const rows = [10, 9, 1].map((mapIndex) => row({ mapIndex }));
  assert.deepEqual(sorted(groups(rows, "instance"), "name").map((group) => group.row!.mapIndex), [1, 9, 10]);
});

test("a line is found by its names and by its kinds of failures", () => {
  const [group] = groups([row({ dagId: "Reviews" }, { errors: { "StatusError 503": 1 } })], "dag");
  assert.ok(finds(group!, "view") && finds(group!, "503") && finds(group!, " ") && !finds(group!, "zzz"));
});

test("no cell of the CSV is a formula, and every text comes back", () => {
  assert.equal(csvCell("=1+1"), `"'=1+1"`);
  for (const start of ["=", "+", "-", "@", "\t", "\r", "\n", "\uFF1D"]) assert.ok(csvCell(`${start}x`).startsWith(`"'`), JSON.stringify(start));
  assert.equal(csvCell('a "b", c'), '"a ""b"", c"');
  assert.equal(csvCell("plain é"), "plain é");
  assert.equal(csvCell(null), "");
  assert.equal(csvCell(1e21), "1e+21");
});

test("the CSV has every line, and says of how many task instances a sum is unknown", () => {
  const text = csv(groups([row({ dagId: "=d" }, { cost: null }), row({ dagId: "=d" }), row({ dagId: "e" })], "dag"), "dag");
  const [head, first] = text.split("\r\n");
  const at = head!.split(",").indexOf("cost_USD");
  assert.deepEqual(first!.split(",").slice(at, at + 2), ["0.5", "1"]);
  assert.equal(first!.split(",")[0], `"'=d"`);
  const single = csv(groups([row({ time: 1000 }, { cost: null })], "instance"), "instance");
  assert.match(single, /^dag_id,task_id,run_id,map_index,run_after,model,/);
  assert.match(single, /d,t,r,-1,1970-01-01T00:00:01.000Z,m,1,0,100/);
});

test("the CSV has a column for each currency", () => {
  const [head, first, second] = csv(groups([row(), row({}, EUR), row({ dagId: "e" }, EUR)], "dag"), "dag").split("\r\n").map((line) => line.split(","));
  const at = head!.indexOf("cost_EUR");
  assert.deepEqual(head!.slice(at, at + 3), ["cost_EUR", "cost_USD", "cost_unknown"]);
  assert.deepEqual([first!.slice(at, at + 3), second!.slice(at, at + 3)], [["0.5", "0.5", "0"], ["0.5", "", "0"]]);
  assert.ok(csv(groups([row({}, { cost: null })], "dag"), "dag").includes(",cost,cost_unknown,"));
});

test("10,000 task instances are summed in well under 100 ms", () => {
  const rows = Array.from({ length: 10_000 }, (_, index) => row({ runId: `r${index}`, time: index * 1000, dagId: `d${index % 20}` }, { seconds: index % 97 }));
  const edges = Array.from({ length: 91 }, (_, index) => index * 120_000);
  total(rows);
  const start = process.cpuUsage();
  total(rows), overTime(rows, edges), sorted(groups(rows, "dag"), "-cost");
  const took = process.cpuUsage(start).user / 1000;
  console.log(`# summed in ${took.toFixed(0)} ms`);
  const single = process.cpuUsage();
  assert.equal(sorted(groups(rows, "instance"), "-time").length, 10_000);
  console.log(`# lines of single task instances in ${(process.cpuUsage(single).user / 1000).toFixed(0)} ms`);
});
