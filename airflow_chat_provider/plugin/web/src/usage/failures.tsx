// Task instances of our operators that failed without a usage: they sent nothing, so no plot and no sum has them.
// Airflow's list of task instances carries rendered fields, which hold prompts. It is read on request only, and nothing
// of it is kept but names and times.

import { useEffect, useState } from "preact/hooks";
import { type Api, asText, conversationPage, isObject, type JsonObject, list, type Place, type Query, segments } from "../lib/api";
import { ErrorNotice, Fold, Loading } from "../lib/components";
import { count, date, plural } from "../lib/format";
import type { Row } from "./aggregate";
import type { Span } from "./time";
import type { View } from "./view";

const OPERATORS = [
  "ChatCompletionOperator",
  "ChatCompletionBatchOperator",
  "ChatCompletionBranchOperator",
  "ChatCompletionDecoratedOperator",
  "ChatCompletionBranchDecoratedOperator",
];
const PAGE = 100;
const MOST = 1000;

interface Props {
  api: Api;
  view: View;
  span: Span;
  rows: Row[];
}

interface Failed extends Place {
  time: string | null;
}

function query(span: Span, task: string): Query {
  return {
    state: "failed",
    operator: OPERATORS,
    run_after_gte: new Date(span.from).toISOString(),
    run_after_lte: new Date(span.to).toISOString(),
    task_id: task || null,
  };
}

async function failed(api: Api, { view, span }: Props, limit: number, offset: number): Promise<{ items: Failed[]; total: number }> {
  const path = `dags/${segments(view.dag || "~")}/dagRuns/~/taskInstances`;
  const found = await api.get<JsonObject>(path, { ...query(span, view.task), limit, offset, order_by: "-run_after" });
  const items = list(found.task_instances).filter(isObject);
  return { items: items.map(readFailed), total: typeof found.total_entries === "number" ? found.total_entries : items.length };
}

function readFailed(item: JsonObject): Failed {
  return {
    dagId: asText(item.dag_id) ?? "",
    runId: asText(item.dag_run_id) ?? "",
    taskId: asText(item.task_id) ?? "",
    mapIndex: typeof item.map_index === "number" ? item.map_index : -1,
    time: asText(item.run_after),
  };
}

export function Failures(props: Props) {
  const [total, setTotal] = useState<number | null>(null);
  useEffect(() => {
    // limit=0: Airflow counts, and sends nothing. Where the count fails, there is only no such section.
    failed(props.api, props, 0, 0).then((found) => setTotal(found.total), () => setTotal(null));
  }, []);
  if (!total) return null;
  return (
    <section class="card">
      <div class="card-body">
        <h2>Failed before anything was sent</h2>
        <p class="muted">
          {plural(total, "task instance")} of the chat operators failed. Those that had sent something are above. The others left no usage.
        </p>
        <Fold summary="List the others">{() => <Others {...props} />}</Fold>
      </div>
    </section>
  );
}

function Others(props: Props) {
  const [found, setFound] = useState<Failed[] | null>(null);
  const [more, setMore] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const read = async () => {
    setError(null);
    const known = new Set(props.rows.map((row) => row.id));
    const others: Failed[] = [];
    try {
      let offset = 0;
      for (let total = 1; offset < Math.min(total, MOST); ) {
        const page = await failed(props.api, props, PAGE, offset);
        if (!page.items.length) break;
        others.push(...page.items.filter((one) => !known.has([one.dagId, one.runId, one.taskId, one.mapIndex].join("\n"))));
        [offset, total] = [offset + page.items.length, page.total];
        setMore(total > MOST);
      }
      setFound(others);
    } catch (problem) {
      setError(problem);
    }
  };
  useEffect(() => void read(), []);
  if (error) return <ErrorNotice error={error} what="the failed task instances" retry={() => void read()} />;
  if (!found) return <Loading what="the failed task instances" />;
  return (
    <div class="stack">
      <p>
        {found.length ? `${plural(found.length, "task instance")} without usage.` : "All of them had sent something."}
        {more ? ` Only the newest ${count(MOST)} failed ones were looked at: choose a shorter range to see others.` : ""}
      </p>
      {found.length ? (
        <div class="table-scroll numbers" tabIndex={0} role="region" aria-label="Failed before anything was sent">
          <table>
            <thead>
              <tr>
                <th scope="col">Task instance</th>
                <th scope="col">DAG</th>
                <th scope="col">Run date</th>
              </tr>
            </thead>
            <tbody>
              {found.map((one) => (
                <tr key={[one.dagId, one.runId, one.taskId, one.mapIndex].join("\n")}>
                  <td>
                    <a class="foreign" href={conversationPage(one)}>
                      {one.mapIndex >= 0 ? `${one.taskId} [${one.mapIndex}]` : one.taskId}
                    </a>
                  </td>
                  <td class="foreign">{one.dagId}</td>
                  <td>{date(one.time)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : null}
    </div>
  );
}
