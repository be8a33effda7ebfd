// How far the reading is, what was left out and why, and what to do about it.

import { useEffect, useRef, useState } from "preact/hooks";
import { ErrorNotice, Notice, Progress } from "../lib/components";
import { count, duration, percent, plural } from "../lib/format";
import type { Snapshot } from "./found";
import type { Without } from "./reading";

interface Props {
  snapshot: Snapshot;
  start: () => void;
  stop: () => void;
  again: () => void;
}

export function ReadingState({ snapshot, start, stop, again }: Props) {
  const { stage, total, read, error } = snapshot;
  const failed = stage === "failed" || stage === "signed-out";
  return (
    <section class="reading stack" aria-label="What was read">
      <div class="reading-line">
        <p>{sentence(snapshot)}</p>
        {stage === "reading" && total !== null ? (
          <button type="button" class="button small" onClick={stop}>
            Stop
          </button>
        ) : null}
        {stage === "paused" && total !== null ? (
          <button type="button" class="button small primary" onClick={start}>
            Continue
          </button>
        ) : null}
        {stage === "done" ? (
          <button type="button" class="button small" onClick={again}>
            Read again
          </button>
        ) : null}
      </div>
      {total && stage !== "done" ? <Progress done={read} total={Math.max(total, read)} label="Task instances read" /> : null}
      <Announced snapshot={snapshot} />
      {failed ? <ErrorNotice error={error} what={read ? "the rest of the usage" : "the usage"} retry={start} /> : null}
      <LeftOut snapshot={snapshot} />
    </section>
  );
}

function sentence(snapshot: Snapshot): string {
  const { stage, total, read, requested, elapsed, cached } = snapshot;
  if (total === null) return stage === "reading" ? "Asking Airflow what there is…" : "Nothing was read.";
  if (stage === "done") {
    const known = cached ? `, ${count(cached)} of them known from an earlier look` : "";
    if (!total) return "There is nothing in this range.";
    const { unread } = snapshot.without;
    const much = unread ? `${count(read - unread)} of ${plural(read, "task instance")}` : `All ${plural(read, "task instance")}`;
    return `${much} read${known}.`;
  }
  const said = `Read ${count(read)} of ${plural(total, "task instance")} (${percent(read, total)}). Everything below is of these.`;
  if (stage !== "reading") return said;
  const left = requested >= 50 && elapsed > 1000 ? ((total - read) * elapsed) / requested / 1000 : null;
  return left === null ? said : `${said} About ${duration(left < 60 ? Math.ceil(left) : Math.round(left / 10) * 10)} left.`;
}

/** Screen readers are told at each quarter, not with each answer. */
function Announced({ snapshot }: { snapshot: Snapshot }) {
  const { stage, total, read } = snapshot;
  const quarter = total ? Math.floor((4 * read) / total) : 0;
  const latest = useRef(snapshot);
  latest.current = snapshot;
  const [said, setSaid] = useState("");
  useEffect(() => setSaid(sentence(latest.current)), [stage, quarter, total === null]);
  return (
    <p class="off-screen" role="status">
      {said}
    </p>
  );
}

const WHY: Record<Exclude<Without, "forbidden">, string> = {
  "not-ours": "not of a chat completion",
  elsewhere: "in an object store, which the browser cannot read",
  gone: "deleted since",
  unread: "not read, since Airflow failed to answer: read again",
};

function LeftOut({ snapshot }: { snapshot: Snapshot }) {
  const { without, forbidden } = snapshot;
  const parts = (Object.keys(WHY) as (keyof typeof WHY)[]).filter((name) => without[name]).map((name) => `${count(without[name])} ${WHY[name]}`);
  return (
    <>
      {parts.length ? <p class="muted">Left out: {parts.join("; ")}.</p> : null}
      {forbidden.length ? (
        <Notice tone="warning" title={`You may not see the XComs of ${plural(forbidden.length, "DAG")}.`}>
          <p class="foreign">
            {plural(without.forbidden, "task instance")} of {forbidden.slice(0, 10).join(", ")}
            {forbidden.length > 10 ? " and others" : ""} are left out. Ask an administrator of Airflow for permission to read them.
          </p>
        </Notice>
      ) : null}
    </>
  );
}
