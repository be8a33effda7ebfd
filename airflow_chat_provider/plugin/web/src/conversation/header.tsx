// What it was, where it ran, and what it took.

import { airflowPages, asText, isObject, type JsonObject, type Place, type TaskInstance } from "../lib/api";
import { AirflowLink, Badge, Fact, Facts, State } from "../lib/components";
import { cost, count, date, duration, isNumber, UNKNOWN } from "../lib/format";
import { shortened } from "../lib/links";
import { visible } from "../lib/text";
import { choicesOf } from "./turns";
import { objectOf, type Task, valueOf } from "./task";

export function Header({ task, reload }: { task: Task; reload: () => void }) {
  const { place } = task;
  const instance = task.instance.state === "here" ? task.instance.value : null;
  const mapped = place.mapIndex >= 0 ? place.mapIndex : null;
  return (
    <header class="page-head stack">
      <nav aria-label="Where this is in Airflow" class="crumbs">
        <AirflowLink to={airflowPages.dag(place)}>
          <span class="only-read">DAG </span>
          <span class="foreign">{visible(instance?.dag_display_name ?? place.dagId)}</span>
        </AirflowLink>
        <span aria-hidden="true">/</span>
        <AirflowLink to={airflowPages.run(place)}>
          <span class="only-read">run </span>
          <span class="foreign">{visible(place.runId)}</span>
        </AirflowLink>
        <span aria-hidden="true">/</span>
        <AirflowLink to={airflowPages.task(place)}>
          <span class="only-read">task </span>
          <span class="foreign">
            {visible(place.taskId)}
            {mapped === null ? "" : ` [${mapped}]`}
          </span>
        </AirflowLink>
      </nav>
      <div class="row spread">
        <h1 class="row">
          <span class="foreign">{visible(instance?.task_display_name || place.taskId)}</span>
          {mapped === null ? null : <span class="muted foreign">[{visible(shortened(instance?.rendered_map_index || String(mapped), 80))}]</span>}
          {instance ? <State state={instance.state} /> : null}
        </h1>
        <button type="button" class="button no-print" onClick={reload}>
          Reload
        </button>
      </div>
    </header>
  );
}

/** The numbers of a call, or of all rows of a batch. */
export function Took({ task, usage }: { task: Task; usage: JsonObject }) {
  const instance = task.instance.state === "here" ? task.instance.value : null;
  const configuration = objectOf(task, "configuration");
  const body = valueOf(task, "body");
  const model = asText(usage.model) ?? asText(configuration.model) ?? (isObject(body) ? asText(body.model) : null);
  const asked = asText(configuration.model);
  const reasons = [...new Set(choicesOf(body ?? null).map((choice) => choice.finishReason ?? UNKNOWN))];
  const status = valueOf(task, "status");
  const small = (parts: [unknown, string][]) => {
    const said = parts.filter(([value]) => isNumber(value) && value > 0).map(([value, name]) => `${count(value)} ${name}`);
    return said.length ? <small>{said.join(", ")}</small> : null;
  };
  return (
    <div class="card">
      <div class="card-body">
        <Facts label="What it took">
          <Fact name="Model" wide>
            {model ? <span class="foreign">{visible(shortened(model, 200))}</span> : null}
            {model && asked && asked !== model ? <small class="foreign">asked for: {visible(shortened(asked, 200))}</small> : null}
          </Fact>
          {status === undefined ? null : (
            <Fact name="HTTP status">
              <Badge tone={isNumber(status) && status < 300 ? "success" : "error"}>{isNumber(status) ? String(status) : UNKNOWN}</Badge>
            </Fact>
          )}
          {reasons.length ? (
            <Fact name="Finish reason">
              {reasons.map((reason) => (
                <Badge tone={/^(stop|tool_calls|function_call|unknown)$/.test(reason) ? "neutral" : "warning"}>{visible(shortened(reason, 60))}</Badge>
              ))}
            </Fact>
          ) : null}
          <Fact name="Tokens in">
            {count(usage.input_tokens)}
            {small([[usage.cache_read_tokens, "from the cache"], [usage.cache_write_tokens, "into the cache"]])}
          </Fact>
          <Fact name="Tokens out">
            {count(usage.output_tokens)}
            {small([[usage.reasoning_tokens, "reasoning"]])}
          </Fact>
          <Fact name="Cost" title="What the server says that it cost, or by the prices of the connection">
            {cost(usage.cost, usage.currency)}
          </Fact>
          <Fact name="Calls" title="Calls that the model answered. Attempts: requests that were sent, with those that failed">
            {count(usage.requests)}
            {isNumber(usage.attempts) ? <small>{count(usage.attempts)} {usage.attempts === 1 ? "attempt" : "attempts"}</small> : null}
          </Fact>
          <Fact name="Duration" title="How long the calls took, with the waits between attempts">
            {duration(usage.seconds)}
            {instance && isNumber(instance.duration) ? <small>the task {duration(instance.duration)}</small> : null}
          </Fact>
          {instance?.start_date ? <Fact name="Started">{date(instance.start_date)}</Fact> : null}
          {usage.request_id ? (
            <Fact name="Request id" wide>
              <span class="mono foreign">{visible(shortened(String(usage.request_id), 300))}</span>
            </Fact>
          ) : null}
          {configuration.base_url ? (
            <Fact name="Base URL" wide>
              <span class="mono foreign">{visible(shortened(String(configuration.base_url), 300))}</span>
              {configuration.chat_conn_id ? <small class="foreign">connection {visible(String(configuration.chat_conn_id))}</small> : null}
            </Fact>
          ) : null}
        </Facts>
      </div>
    </div>
  );
}

/** What the state of a task instance means for this page; null where there is nothing to add. */
export function stateNotice(instance: TaskInstance, kind: string): { title: string; text: string } | null {
  const what = kind === "batch" ? "rows" : "answer";
  switch (instance.state) {
    case null:
    case "none":
    case "scheduled":
    case "queued":
      return { title: "The task has not run yet.", text: `It is ${instance.state?.replace("none", "not scheduled") ?? "not scheduled"}. This page looks again by itself.` };
    case "running":
    case "restarting":
      return { title: "The task is running.", text: `Its ${what} will be shown as they come. This page looks again by itself.`.replace("answer will be shown as they come", "answer will be shown when it is there") };
    case "deferred":
      return { title: "The task waits for its answer without a worker (deferred).", text: "This page looks again by itself." };
    case "up_for_retry":
      return { title: "The last try failed, and Airflow will try again.", text: "The next try begins by removing what this one left." };
    case "up_for_reschedule":
      return { title: "The task will go on later.", text: "This page looks again by itself." };
    case "skipped":
      return { title: "The task was skipped.", text: "Nothing was asked." };
    case "upstream_failed":
      return { title: "The task did not run: a task before it failed.", text: "Nothing was asked." };
    case "removed":
      return { title: "The task is no longer in its DAG.", text: "" };
  }
  return null;
}

export const WAITING = new Set([null, "none", "scheduled", "queued", "running", "restarting", "deferred", "up_for_retry", "up_for_reschedule"]);

export function pageTitle(place: Place): string {
  return `${place.taskId}${place.mapIndex >= 0 ? ` [${place.mapIndex}]` : ""} – conversation`;
}
