// A task that failed: what went wrong, what can be done, and what came.

import { type Api, airflowPages, ApiError, isObject, type Json, type TaskInstance } from "../lib/api";
import { AirflowLink, Badge, ErrorNotice, Fold, Loading, Notice } from "../lib/components";
import { JsonBlock } from "../lib/code";
import { count, isNumber } from "../lib/format";
import { shortened } from "../lib/links";
import { LongText, PlainText, visible } from "../lib/text";
import { useLog } from "./log";
import { remedyOf } from "./remedies";
import { objectOf, type Task, valueOf } from "./task";
import { choicesOf, errorIn } from "./turns";

export function Failure({ api, task, instance }: { api: Api; task: Task; instance: TaskInstance }) {
  const { told, again } = useLog(api, task.place, instance.try_number > 0 ? instance.try_number : null);
  const kinds = kindsOf(objectOf(task, "usage").errors);
  const error = told.state === "here" ? told.value.error : null;
  const isOne = kinds.length === 1 && kinds[0]![1] === 1; // which the error of the log is, in more words
  const logLink = <AirflowLink to={airflowPages.log(task.place, instance.try_number)}>Open the log of try {instance.try_number}</AirflowLink>;
  return (
    <section class="stack" aria-label="Why the task failed">
      {error ? (
        <div class="notice tone-error" role="alert">
          <h2 class="notice-title">Why it failed</h2>
          <div class="notice-body">
            <PlainText text={error.value.slice(0, 20_000) || error.type} />
            <p class="muted">
              <code class="foreign">{visible(shortened(error.type, 200))}</code>, from the log. {logLink}
            </p>
          </div>
        </div>
      ) : null}
      {told.state === "reading" ? <Loading what="the log, for the error" /> : null}
      {told.state === "failed" || told.state === "absent" ? (
        <LogNotice error={told.state === "failed" ? told.error : null} retry={again} />
      ) : null}
      {told.state === "here" && !error ? (
        <Notice tone="error" title="The task failed.">
          <p>
            Its log names no error{told.value.isCut ? ", as far as it was read" : ""}: the process may have ended before it
            could write one. {logLink}
          </p>
        </Notice>
      ) : null}
      {kinds.length && !(error && isOne) ? <Kinds kinds={kinds} /> : null}
      <Came body={valueOf(task, "body")} />
    </section>
  );
}

function LogNotice({ error, retry }: { error: unknown; retry: () => void }) {
  const kind = error instanceof ApiError ? error.kind : null;
  if (kind === "forbidden") {
    return (
      <Notice tone="error" title="The task failed.">
        <p>The error is in its log, which you may not see. Ask an administrator of Airflow for permission to read task logs.</p>
      </Notice>
    );
  }
  if (kind === "missing") {
    return (
      <Notice tone="error" title="The task failed.">
        <p>Airflow has no log of this try, so the error itself is not known here.</p>
      </Notice>
    );
  }
  return <ErrorNotice error={error} what="the log of the failed task" retry={retry} />;
}

export function kindsOf(errors: Json | undefined): [string, number][] {
  if (!isObject(errors)) return [];
  const found = Object.entries(errors).filter((entry): entry is [string, number] => isNumber(entry[1]) && entry[1] > 0);
  return found.sort((one, other) => other[1] - one[1]).slice(0, 100);
}

/** Kinds of failures, each with what can be done. */
export function Kinds({ kinds, title = "What went wrong, by kind" }: { kinds: [string, number][]; title?: string }) {
  return (
    <div class="stack">
      <h2>{title}</h2>
      <ul class="kinds">
        {kinds.map(([kind, many]) => (
          <li key={kind}>
            <Badge tone="error">{count(many)} ×</Badge> <code class="foreign">{visible(shortened(kind, 120))}</code>{" "}
            <span>{remedyOf(kind)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** What the server sent, if it was not an answer: that is among the messages. */
function Came({ body }: { body: Json | undefined }) {
  if (body === undefined || choicesOf(body).length) return null;
  const said = errorIn(body);
  return (
    <div class="stack">
      <h2>What came from the server</h2>
      {said ? (
        <blockquote class="said">
          <PlainText text={said.slice(0, 20_000)} />
        </blockquote>
      ) : null}
      {typeof body === "string" ? (
        body.trim() ? <LongText text={body} mono /> : <p class="unknown">an empty body</p>
      ) : (
        <Fold summary="The whole body" open={!said}>
          {() => <JsonBlock value={body} label="Body" />}
        </Fold>
      )}
    </div>
  );
}
