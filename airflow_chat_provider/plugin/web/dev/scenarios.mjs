// What Airflow's REST API answers for made-up task instances, one for each thing that the pages have to show.

const PNG =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAPAAAAB4CAIAAABD1OhwAAABnElEQVR42u3TMQ4AEBREQb1bOqsjSRQahyCKNcnrN/FHGXNJMRVPIKAloCWgJaAFtAS0BLQEtAS0gJaAloCWgJaAFtAS0BLQEtAS0AJaAloCWgJaAlrhoGvrV/KUAloCWgJaQAMtoHUpdwEaaHcB+m/QedcHGmiggQYaaAENNNBAAw000EADDTTQQAMtoIEGGmiggQYaaKCBBhpooAU00EADDTTQQAMNNNAUAg20gAYaaKCBBhpooIEGWkADLaCBBhpooIEGGmiggRbQQAtooIEGGmiggQYaaKAFNNACGui08wANNNBAvwLtPEADDbQXA9oK0M5jBWgIrABtBWigrQANtBWgnccK0BBYAdoK0EBbARpoK0A7jxWgIbACtBWggbYCNNBWgHYeK0BDYAVoK0ADbQVooK3kfxugrQDtPFaAtmIFaCtWgLYCtIezArTzWAHaihWgrVgB2grQHs4K0M5jBWgrVoC2YgVoK0B7OCtAO48VoK1YAdqKFaCtAO3hrADtPFaAtmIFaCtWgLYCtIezArTzWAHaipVT0BsO98v0A1DiDQAAAABJRU5ErkJggg==";
const TIME = "2026-11-27T09:14:03.120000Z";

export const usage = (more = {}) => ({
  requests: 1, input_tokens: 412, output_tokens: 236, total_tokens: 648, cache_read_tokens: 256, cache_write_tokens: null,
  reasoning_tokens: 128, tool_calls: 0, cost: 0.00184, currency: "USD", model: "gpt-5.4-mini-2026-03-17", attempts: 1, seconds: 2.418,
  request_id: "req_8f2c1d0ba7e94f3c", errors: {}, rejected: [], ...more,
});
const configuration = { chat_conn_id: "chat_default", model: "gpt-5.4-mini", base_url: "https://api.openai.com/v1", request_schema: "2026-11" };

function body(message, more = {}) {
  return {
    id: "chatcmpl-B1", object: "chat.completion", created: 1795770843, model: "gpt-5.4-mini-2026-03-17",
    choices: [{ index: 0, message: { role: "assistant", ...message }, finish_reason: "stop", logprobs: null }],
    usage: { prompt_tokens: 412, completion_tokens: 236, total_tokens: 648, prompt_tokens_details: { cached_tokens: 256 } },
    ...more,
  };
}

/** A task that succeeded with these messages, the last of which is the reply. */
function chat(messages, { usage: took = usage(), body: answer, instance = {}, xcoms = {} } = {}) {
  const { role: _, ...reply } = messages.at(-1);
  return {
    instance: { operator: "ChatCompletionOperator", operator_name: "ChatCompletionOperator", state: "success", ...instance },
    xcoms: { messages, usage: took, status: 200, configuration, body: answer ?? body(reply), return_value: reply.content, ...xcoms },
  };
}

const SYSTEM =
  "You help the operators of a data platform. Answer in Markdown, and be brief.\n\n" +
  "Rules:\n" + Array.from({ length: 24 }, (_, at) => `${at + 1}. Rule number ${at + 1}: name the table and the run that you speak of, and say what you do not know.`).join("\n");

const REPLY = `The load of \`sales_daily\` fell by **38 %** since Tuesday. Two causes are likely:

1. The upstream export now runs at 06:00, *after* the load.
2. Rows without \`customer_id\` are dropped since the last release.

| Day | Rows | Dropped |
|:----|-----:|--------:|
| Mon | 1,204,331 | 0 |
| Tue | 746,003 | 458,112 |
| Wed | 751,220 | 461,904 |

Check it with this query:

\`\`\`sql
SELECT load_date, count(*) AS rows, count(*) FILTER (WHERE customer_id IS NULL) AS dropped
FROM sales_daily_raw          -- before the filter
WHERE load_date >= DATE '2026-11-23'
GROUP BY 1 ORDER BY 1;
\`\`\`

- [x] Compare with the export's own count
- [ ] Ask the owner of \`crm_export\`

> The export's schedule is in [its runbook](https://wiki.example.com/crm-export), and the change in https://github.com/example/etl/pull/412.
`;

const TOOL_CALL = { id: "call_Zy1", type: "function", function: { name: "rows_per_day", arguments: '{"table": "sales_daily", "days": 3, "filter": {"customer_id": null}}' } };

const asked = [
  { role: "system", content: SYSTEM },
  {
    role: "user",
    content: [
      { type: "text", text: "Why does this chart fall?\nThe dashboard is in the picture, the log of the load is attached." },
      { type: "image_url", image_url: { url: PNG } },
      { type: "image_url", image_url: { url: "https://charts.example.com/sales.png?token=1" } },
      { type: "text", text: "[attachment: s3://aws_default@logs/2026-11-25/load.log]" },
      { type: "file", file: { filename: "schema.pdf", file_data: `data:application/pdf;base64,${"A".repeat(40_000)}` } },
    ],
  },
  { role: "assistant", content: null, reasoning_content: "The chart falls on Tuesday. I should count rows per day first, and then look at what is dropped.", tool_calls: [TOOL_CALL] },
  { role: "tool", tool_call_id: "call_Zy1", content: '{"2026-11-23": 1204331, "2026-11-24": 746003, "2026-11-25": 751220}' },
];

const long = (many) =>
  Array.from({ length: many }, (_, at) =>
    at % 2
      ? { role: "assistant", content: `Answer ${at}: the count is **${at * 17}**, see \`t_${at}\`.\n\n- one\n- two\n\n\`\`\`python\nprint(${at})\n\`\`\`` }
      : { role: "user", content: `Question ${at}: how many rows has table t_${at}, and why?` },
  );

const HOSTILE = `<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2"> <b onmouseover=alert(1)>bold</b>

[click me](javascript:window.hacked=3) [data](data:text/html,<script>parent.hacked=4</script>) [relative](/variables) [file](file:///etc/passwd)
![pixel](https://tracker.example.net/p.gif?u=1) ![](data:image/svg+xml,<svg/onload=alert(1)>)
[https://bank.example.com](https://evil.example.net/login) and [ok](https://docs.example.com/page)

Pay \u202e00.001$\u202c to the invoice\u200b, hidden: \u{e0069}\u{e0067}\u{e006e}\u{e006f}\u{e0072}\u{e0065}

مرحبا بالعالم. שלום עולם.

\`\`\`html
<script>alert("in code")</script>
\`\`\``;

const manifest = (more) => ({
  results: "s3://aws_default@reviews/out/manual__2026-11-27/results.jsonl", errors: "s3://aws_default@reviews/out/manual__2026-11-27/errors.jsonl",
  total: 12000, succeeded: 8123, failed: { "StatusError 400": 41, "RateLimited 429": 7, InvalidOutput: 12 }, missing: 3817, incomplete: 3,
  usage: usage({ requests: 8190, input_tokens: 1_904_233, output_tokens: 402_113, total_tokens: 2_306_346, cost: 4.2113, currency: "EUR", attempts: 8244, seconds: 911.2, request_id: null, errors: { "StatusError 400": 41 } }),
  seconds: 911.2, rows_per_second: 8.98,
  first_failures: {
    "StatusError 400": [
      { index: 17, id: "r-17", message: "Correct the request (HTTP 400): the prompt is empty (reviews.csv:18)" },
      { index: 203, message: "Correct the request (HTTP 400): the prompt is empty (reviews.csv:204)" },
    ],
    "RateLimited 429": [{ index: 4410, message: "Wait, or lower the rate of requests: it is a rate limit (HTTP 429)" }],
    InvalidOutput: [{ index: 91, id: "r-91", message: "Change the prompt, the schema or output_retries: the answer does not fit: $.label: must be one of 'good', 'bad'" }],
  },
  ...more,
});

const log = (error, lines = []) =>
  [
    { timestamp: TIME, event: "::group::Log message source details", sources: ["/logs/1.log"] },
    ...lines.map((event) => ({ timestamp: TIME, event, level: "info", logger: "airflow.task" })),
    error && { timestamp: TIME, event: "Task failed with exception", level: "error", logger: "task", error_detail: [{ exc_type: error[0], exc_value: error[1], is_cause: false, frames: [] }] },
  ].filter(Boolean).map((line) => JSON.stringify(line)).join("\n");

const CALL = "Chat completion: model gpt-5.4-mini, 4 messages, status 200, 1 attempt, 2.42 s, 648 tokens, request id req_8f2c1d0ba7e94f3c";
const failed = { operator: "ChatCompletionOperator", operator_name: "ChatCompletionOperator", state: "failed", rendered_fields: { prompt: "Summarise the incidents of last week.", system_prompt: "Be brief.", request: null } };
const UNAUTHORIZED = "Check the API key (password) of connection 'chat_default' (HTTP 401, invalid_api_key): Incorrect API key provided";

const requestPlan = { dry_run: true, url: "https://api.openai.com/v1/chat/completions", model: "gpt-5.4-mini", message_count: 1, bytes: 96, request: {}, curl: "curl https://api.openai.com/v1/chat/completions \\\n  -H 'content-type: application/json' \\\n  -H \"authorization: Bearer $CHAT_API_KEY\" \\\n  --data-binary '{\"model\": \"gpt-5.4-mini\"}'" };

/** The plan of a batch with dry_run=True. */
const batchPlan = (more = {}) => ({
  dry_run: true, rows: 12000, answered: 800, reused: 150, equal: 42, to_send: 11010, failed: { "InvalidRequest column": 38, InvalidRequest: 2 },
  first_failures: { "InvalidRequest column": [{ index: 17, id: "r-17", message: "Correct the prompt or the input: there is no column 'text' (reviews.csv:18)" }] },
  would_fail: true, input_tokens: 1320450, output_tokens: 220200, counted_by: ["o200k_base"], is_guess: true,
  cost: { least: 0.33, most: 0.77, currency: "EUR" },
  limits: { max_total_tokens: { limit: 1000000, spent: 90400, fits: false }, max_cost: { limit: 0.5, spent: 0.02, fits: null } },
  notes: ["Input tokens are a guess by o200k_base, which may not be the model's own encoding"], first_request: requestPlan, ...more,
});
/** Nothing in it is of the kind that it should be. */
const HOSTILE_PLAN = {
  rows: "<img src=x onerror=alert(1)>", answered: { toString: 1 }, equal: [], to_send: null, failed: { [HOSTILE]: 3, constructor: 1, InvalidRequest: "many" },
  first_failures: { [HOSTILE]: [{ index: {}, id: { toString: 1 }, message: { valueOf: 2 } }, null, "x"] }, would_fail: "true", input_tokens: "1e9",
  output_tokens: null, counted_by: [{}, HOSTILE], is_guess: true, cost: ["much"], limits: { [HOSTILE]: 1, max_total_tokens: { limit: { toString: 1 }, spent: "1", fits: "no" }, max_cost: 3 },
  notes: [HOSTILE, { toString: 1 }], first_request: { url: { toString: 1 }, model: [1], bytes: "x", curl: { toString: 1 }, attachments: [{ path: { toString: 1 } }] },
};

export const scenarios = {
  ask: chat([...asked, { role: "assistant", content: REPLY, reasoning_content: "458,112 rows have no customer_id." }], { usage: usage({ tool_calls: 1 }) }),
  structured: chat(
    [
      { role: "user", content: "Judge this review: The kettle leaks, and the handle is hot." },
      { role: "assistant", content: '{"sentiment": "bad", "reasons": ["leaks", "hot handle"], "confidence": 0.93}' },
    ],
    { usage: usage({ requests: 3, attempts: 4, rejected: ["$.sentiment: must be one of 'good', 'bad'", "the answer is not JSON (line 1, column 1)"] }) },
  ),
  choices: chat([{ role: "user", content: "Name a colour." }, { role: "assistant", content: "Blue." }], {
    body: { ...body({ content: "Blue." }), choices: ["Blue.", "Green, the colour of", "Red."].map((content, index) => ({ index, message: { role: "assistant", content }, finish_reason: index === 1 ? "length" : "stop" })) },
  }),
  refusal: chat([{ role: "user", content: "How do I pick a lock?" }, { role: "assistant", content: null, refusal: "I cannot help with that." }]),
  citations: chat([{ role: "user", content: "What is new in Airflow 3?" }, { role: "assistant", content: "Airflow 3 has **DAG versioning**." }], {
    body: body({ content: "Airflow 3 has **DAG versioning**.", annotations: [{ type: "url_citation", url_citation: { url: "https://airflow.apache.org/blog/airflow-three", title: "Airflow 3" } }, { type: "url_citation", url_citation: { url: "javascript:alert(1)", title: "trap" } }] }),
  }),
  unauthorized: {
    instance: failed,
    xcoms: { status: 401, body: { error: { message: "Incorrect API key provided: sk-***", type: "invalid_request_error", code: "invalid_api_key" } }, usage: usage({ requests: 0, input_tokens: null, output_tokens: null, total_tokens: null, cache_read_tokens: null, reasoning_tokens: null, cost: null, currency: null, seconds: 0.31, errors: { "StatusError 401": 1 } }) },
    logs: { 1: log(["StatusError", UNAUTHORIZED], ["Chat completion: model gpt-5.4-mini, 2 messages, status 401, 1 attempt, 0.31 s"]) },
  },
  html: { instance: failed, xcoms: { status: 200, body: "<!doctype html><html><script>window.hacked = 5</script><h1>Sign in</h1></html>", usage: usage({ errors: { "ProtocolError 200": 1 }, cost: null, currency: null }) }, logs: { 1: log(["ProtocolError", "Check the base URL: HTTP 200 came with text that is not JSON"]) } },
  unfit: { instance: { ...failed, try_number: 3, max_tries: 3 }, xcoms: { status: 200, body: body({ content: "I would say: rather bad." }), usage: usage({ requests: 2, rejected: ["the answer is not JSON"], errors: { "InvalidOutput 200": 1 } }) }, logs: { 1: log(["RateLimited", "Wait, or lower the rate of requests: it is a rate limit (HTTP 429)"], ["Attempt 1 of 3 failed, the next one begins in 2 s: a rate limit (HTTP 429)"]), 2: log(null), 3: log(["InvalidOutput", "Change the prompt, the schema or output_retries: none of 2 answers fits; the last: the answer is not JSON"], [CALL]) } },
  "no-log": { instance: failed, xcoms: { status: 500, body: "", usage: usage({ errors: { "StatusError 500": 4 } }) }, logStatus: 403 },
  "lost-log": { instance: failed, xcoms: {}, logStatus: 404 },
  running: { instance: { operator: "ChatCompletionOperator", state: "running", rendered_fields: { prompt: "Summarise the incidents of last week." } }, xcoms: {} },
  deferred: { instance: { operator: "@task.chat_completion", operator_name: "@task.chat_completion", state: "deferred", rendered_fields: { prompt: "Summarise." } }, xcoms: {} },
  queued: { instance: { operator: "ChatCompletionOperator", state: "queued", try_number: 0, start_date: null, duration: null }, xcoms: {} },
  skipped: { instance: { operator: "ChatCompletionOperator", state: "skipped", try_number: 0 }, xcoms: {} },
  cleared: { instance: { operator: "ChatCompletionOperator", state: "success", rendered_fields: { prompt: "Name a colour." } }, xcoms: {} },
  other: { instance: { operator: "BashOperator", operator_name: "BashOperator", state: "success" }, xcoms: { return_value: "done" } },
  wrong: chat([{ role: "user", content: "x" }], { xcoms: { messages: { not: "a list" }, usage: [1, 2], body: null } }),
  odd: chat([{ role: "constructor", name: "__proto__", content: "x", tool_calls: [{ type: "__proto__" }] }, "text", null, 7, { role: 5, content: { a: 1 } }, { role: "user", content: [null, 3, { type: "video_url", video_url: "x" }] }, { role: "assistant", tool_calls: [null, { function: null }, { id: 1, function: { name: 2, arguments: { a: [1] } } }] }, { role: "assistant", content: "The end." }]),
  elsewhere: chat([{ role: "user", content: "x" }], { xcoms: { messages: "s3://aws_default@xcom/d/manual/elsewhere/messages", body: "s3://aws_default@xcom/d/manual/elsewhere/body" } }),
  cut: { ...chat([{ role: "user", content: "x" }]), raw: { messages: '[{"role": "user", "content": "Name a col', usage: '{"requests": 1, ' } },
  large: { ...chat([{ role: "user", content: "x" }]), raw: { messages: JSON.stringify([{ role: "user", content: "word ".repeat(5_000_000) }]) } },
  "large-reply": chat([{ role: "user", content: "Write a lot." }, { role: "assistant", content: "A **long** line of text, and more.\n".repeat(30_000) }]),
  hostile: chat([{ role: "user", content: HOSTILE }, { role: "tool", tool_call_id: "nobody", content: HOSTILE }, { role: "assistant", content: HOSTILE, reasoning: HOSTILE, tool_calls: [{ id: "\u202eid", function: { name: "<img src=x onerror=alert(1)>", arguments: "{<script>" } }] }], { usage: usage({ model: "<script>alert(1)</script>\u202e", request_id: "javascript:alert(1)" }) }),
  hundred: chat(long(100)),
  many: chat(long(10_000)),
  forbidden: { status: 403, detail: "Forbidden" },
  "signed-out": { status: 401, detail: "Not authenticated" },
  broken: { status: 500, detail: "Internal Server Error" },
  mapped: { mapped: 137, ...chat([{ role: "user", content: "Translate: Hello" }, { role: "assistant", content: "Bonjour" }]) },
  batch: { instance: { operator: "ChatCompletionBatchOperator", operator_name: "ChatCompletionBatchOperator", state: "success" }, xcoms: { return_value: manifest({ succeeded: 11940, missing: 0 }), usage: manifest().usage } },
  "batch-running": { instance: { operator: "ChatCompletionBatchOperator", operator_name: "ChatCompletionBatchOperator", state: "running" }, xcoms: { progress: manifest() } },
  branch: {
    instance: { operator: "ChatCompletionBranchOperator", operator_name: "ChatCompletionBranchOperator", state: "success" },
    xcoms: { ...chat([{ role: "user", content: "A customer writes: The kettle leaks. I want my money back." }, { role: "assistant", content: null, tool_calls: [{ id: "c1", type: "function", function: { name: "refund", arguments: '{"euros": 20}' } }] }]).xcoms, return_value: "refund", arguments: { refund: { euros: 20 } }, skipmixin_key: { followed: ["refund", "join"] } },
  },
  plan: { instance: { operator: "ChatCompletionOperator", operator_name: "ChatCompletionOperator", state: "success" }, xcoms: { return_value: requestPlan } },
  "plan-batch": { instance: { operator: "ChatCompletionBatchOperator", operator_name: "ChatCompletionBatchOperator", state: "success" }, xcoms: { return_value: batchPlan() } },
  "plan-batch-hostile": { instance: { operator: "ChatCompletionBatchOperator", operator_name: "ChatCompletionBatchOperator", state: "success" }, xcoms: { return_value: batchPlan(HOSTILE_PLAN) } },
};

export function instanceOf(name, place, mapIndex) {
  const { instance = {}, mapped } = scenarios[name];
  return {
    id: "0", task_id: name, dag_id: place.dag, dag_run_id: place.run, map_index: mapIndex, logical_date: TIME, run_after: TIME,
    start_date: TIME, end_date: TIME, duration: 3.02, state: "success", try_number: 1, max_tries: 0, task_display_name: name,
    dag_display_name: place.dag, hostname: "worker", operator: "ChatCompletionOperator", rendered_map_index: mapped ? `language ${mapIndex}` : null, rendered_fields: {},
    ...instance,
  };
}

export { TIME };
