// The Conversation page of one task instance.

import { useEffect, useState } from "preact/hooks";
import { type Api, ApiError, type Place, type TaskInstance } from "../lib/api";
import { ErrorNotice, Guard, Loading, Notice } from "../lib/components";
import { Chat } from "./chat";
import { Failure } from "./failure";
import { Header, pageTitle, stateNotice, Took, WAITING } from "./header";
import { Mapped, Tries } from "./history";
import { Batch, Branch, Rejected } from "./kinds";
import { BatchPlan, Plan } from "./plan";
import { Raw } from "./raw";
import { isMappedError, kindOf, objectOf, type Reader, type Task, useTask } from "./task";

export function ConversationPage({ api, place }: { api: Api; place: Place }) {
  const reader = useTask(api, place);
  const { task, reload } = reader;
  useEffect(() => void (document.title = pageTitle(place)), [place]);
  const instance = task.instance.state === "here" ? task.instance.value : null;
  useRefresh(instance !== null && WAITING.has(instance.state), reload);
  return (
    <div class="stack page">
      <Header task={task} reload={reload} />
      <Guard fallback={(error) => <ErrorNotice error={error} what="the conversation" />}>
        <Content reader={reader} instance={instance} />
      </Guard>
    </div>
  );
}

function Content({ reader, instance }: { reader: Reader; instance: TaskInstance | null }) {
  const { task, api, reload } = reader;
  const { place } = task;
  const problem = task.instance.state === "failed" ? task.instance.error : null;
  if (problem && isMappedError(problem)) {
    return (
      <section class="stack" aria-label="Instances of the mapped task">
        <Notice title={place.mapIndex >= 0 ? `The task has no instance ${place.mapIndex}.` : "This task is mapped."}>
          <p>Choose one of its instances.</p>
        </Notice>
        <Mapped api={api} place={place} open />
      </section>
    );
  }
  const isGone = problem instanceof ApiError && (problem.kind === "missing" || problem.kind === "signed-out");
  return (
    <>
      {problem ? <InstanceProblem error={problem} retry={reload} /> : null}
      {isGone ? null : <Parts reader={reader} instance={instance} />}
    </>
  );
}

function InstanceProblem({ error, retry }: { error: unknown; retry: () => void }) {
  if (error instanceof ApiError && error.kind === "missing") {
    return (
      <Notice tone="warning" title="Airflow does not know this task instance.">
        <p>The run may have been deleted, the task renamed, or the address mistyped. {error.detail}</p>
      </Notice>
    );
  }
  return <ErrorNotice error={error} what="this task instance" retry={retry} />;
}

function Parts({ reader, instance }: { reader: Reader; instance: TaskInstance | null }) {
  const { task, api } = reader;
  const kind = kindOf(task);
  const notice = instance ? stateNotice(instance, kind) : null;
  const failed = instance !== null && (instance.state === "failed" || instance.state === "up_for_retry");
  const usage = objectOf(task, "usage");
  const manifestUsage = objectOf(task, "progress").usage;
  const took = Object.keys(usage).length || !manifestUsage ? usage : (manifestUsage as typeof usage);
  const plan = kind === "plan" || kind === "batch-plan" ? objectOf(task, "return_value") : null;
  const isRead = task.instance.state !== "reading" && task.entries.state !== "reading";
  return (
    <>
      {task.instance.state === "reading" ? <Loading what="the task" /> : null}
      {notice ? (
        <Notice title={notice.title}>{notice.text ? <p>{notice.text}</p> : null}</Notice>
      ) : null}
      <XComProblems task={task} retry={reader.reload} />
      {isRead && kind === "other" && instance ? <NotOurs instance={instance} /> : null}
      {Object.keys(took).length || hasAny(task) ? plan ? null : <Took task={task} usage={took} /> : null}
      {failed && instance ? <Failure key={instance.try_number} api={api} task={task} instance={instance} /> : null}
      <Rejected rejected={usage.rejected} />
      {plan ? kind === "plan" ? <Plan plan={plan} /> : <BatchPlan plan={plan} /> : null}
      {kind === "batch" ? <Batch task={task} /> : null}
      {kind === "branch" ? <Branch task={task} /> : null}
      {kind === "batch" || plan || task.entries.state !== "here" ? null : <Chat reader={reader} instance={instance} />}
      {instance ? <Tries api={api} instance={instance} place={task.place} /> : null}
      {task.place.mapIndex >= 0 ? <Mapped api={api} place={task.place} /> : null}
      {task.entries.state === "here" ? <Raw reader={reader} keys={[...task.entries.value.keys()]} /> : null}
    </>
  );
}

function hasAny(task: Task): boolean {
  return ["status", "configuration", "usage"].some((key) => task.xcoms[key]?.state === "here");
}

/** The XComs could not be listed, or the small ones could not be read: said once, for all of them. */
function XComProblems({ task, retry }: { task: Task; retry: () => void }) {
  if (task.entries.state === "reading") return <Loading what="what the task left" />;
  if (task.entries.state === "failed") {
    // If the task instance cannot be read for the same reason, that was said already.
    const same = task.instance.state === "failed" && sameKind(task.instance.error, task.entries.error);
    return same ? null : <ErrorNotice error={task.entries.error} what="the XComs of this task" retry={retry} />;
  }
  const found = ["usage", "status", "configuration", "return_value"].flatMap((key) => {
    const part = task.xcoms[key];
    if (part?.state === "failed") return [<ErrorNotice key={key} error={part.error} what={`the XCom ${key}`} retry={retry} />];
    if (part?.state !== "here" || key === "return_value") return [];
    if (part.value.elsewhere) return [<Kept key={key} name={key} />];
    const isWrong = !part.value.isJson || (key !== "status" && (typeof part.value.value !== "object" || Array.isArray(part.value.value)));
    return isWrong ? [<Notice key={key} tone="warning" title={`The XCom ${key} is not what a chat completion leaves. It is shown at the end of this page.`} />] : [];
  });
  return found.length ? <>{found}</> : null;
}

function sameKind(one: unknown, other: unknown): boolean {
  return one instanceof ApiError && other instanceof ApiError && one.kind === other.kind;
}

function Kept({ name }: { name: string }) {
  return <Notice title={`The XCom ${name} is kept in an object store, which Airflow's API does not read.`} />;
}

function NotOurs({ instance }: { instance: TaskInstance }) {
  return (
    <Notice tone="warning" title="This task is not a chat completion, as far as can be seen.">
      <p>
        Its operator is <code class="foreign">{instance.operator_name || instance.operator || "unknown"}</code>. What it left
        is shown as far as it has the names that a chat completion gives. If it was one, its XComs were cleared.
      </p>
    </Notice>
  );
}

/** Looks again while something is to come: often at first, then less, and only while somebody can see the page. */
function useRefresh(isWaiting: boolean, reload: () => void) {
  const [wait, setWait] = useState(4000);
  useEffect(() => {
    if (!isWaiting) return;
    const timer = setTimeout(() => {
      setWait(Math.min(wait * 1.3, 30_000) + 1);
      if (document.visibilityState === "visible") reload();
    }, wait);
    return () => clearTimeout(timer);
  }, [isWaiting, wait, reload]);
}
