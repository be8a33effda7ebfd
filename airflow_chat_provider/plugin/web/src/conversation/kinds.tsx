// What a batch and a branch show of their own.

import { asText, isObject, type Json, list } from "../lib/api";
import { Badge, CopyButton, Fact, Facts, Notice, Progress } from "../lib/components";
import { JsonBlock } from "../lib/code";
import { count, date, duration, isNumber, percent, plural } from "../lib/format";
import { shortened } from "../lib/links";
import { PlainText, visible } from "../lib/text";
import { kindsOf } from "./failure";
import { remedyOf } from "./remedies";
import { objectOf, type Task, valueOf } from "./task";

/** The manifest, or how far the batch has come. */
export function Batch({ task }: { task: Task }) {
  const ended = objectOf(task, "return_value");
  const isEnd = "total" in ended;
  const manifest = isEnd ? ended : objectOf(task, "progress");
  if (!("total" in manifest)) {
    const reading = ["return_value", "progress"].some((key) => task.xcoms[key]?.state === "reading");
    if (reading) return null;
    return (
      <Notice title="The batch has left no counts yet.">
        <p>They come while it runs, in the XCom progress, and at its end as its return value.</p>
      </Notice>
    );
  }
  const number = (name: string) => (isNumber(manifest[name]) ? (manifest[name] as number) : null);
  const [total, succeeded, missing] = [number("total"), number("succeeded"), number("missing")];
  const kinds = kindsOf(manifest.failed);
  const failed = kinds.reduce((sum, [, many]) => sum + many, 0);
  const part = task.xcoms[isEnd ? "return_value" : "progress"];
  const stored = part?.state === "here" ? part.value.timestamp : null;
  return (
    <section class="stack" aria-label="The batch">
      <h2>{isEnd ? "The batch" : "The batch so far"}</h2>
      <div class="card">
        <div class="card-body stack">
          <Progress done={succeeded ?? 0} failed={failed} total={total ?? 0} label="Rows that are done" />
          <p>
            {total ? percent((succeeded ?? 0) + failed, total) : "All"} of {plural(total ?? 0, "row")} done
            {!isEnd && stored ? <span class="muted">, as of {date(stored)}</span> : null}
          </p>
          <Facts label="Rows">
            <Fact name="Rows">{count(total)}</Fact>
            <Fact name="Answered">{count(succeeded)}</Fact>
            <Fact name="Failed">{isObject(manifest.failed) ? count(failed) : null}</Fact>
            <Fact name="Without a line yet">{count(missing)}</Fact>
            <Fact name="Answers not whole">{count(manifest.incomplete)}</Fact>
            <Fact name="Rows per second">{count(manifest.rows_per_second)}</Fact>
            <Fact name="Last try">{duration(manifest.seconds)}</Fact>
          </Facts>
          {["results", "errors"].map((name) =>
            asText(manifest[name]) ? (
              <p class="row" key={name}>
                <span class="muted">{name === "results" ? "Results" : "Errors"}</span>
                <code class="foreign">{visible(String(manifest[name]))}</code>
                <CopyButton text={String(manifest[name])} />
              </p>
            ) : null,
          )}
        </div>
      </div>
      {kinds.length ? <Failures kinds={kinds} first={manifest.first_failures} /> : null}
    </section>
  );
}

/** Kinds of failures with the first rows of each. `first` is not taken on trust. */
export function Failures({ kinds, first, title = "Failures by kind" }: { kinds: [string, number][]; first: Json | undefined; title?: string }) {
  const rows = (kind: string) => (isObject(first) && Object.hasOwn(first, kind) ? list(first[kind]).filter(isObject).slice(0, 10) : []);
  return (
    <div class="stack">
      <h2>{title}</h2>
      {kinds.map(([kind, many]) => (
        <article class="card" key={kind}>
          <div class="card-body stack">
            <h3 class="row">
              <Badge tone="error">{count(many)} ×</Badge> <code class="foreign">{visible(shortened(kind, 120))}</code>
            </h3>
            {remedyOf(kind) ? <p>{remedyOf(kind)}</p> : null}
            {rows(kind).length ? (
              <ol class="first-failures">
                {rows(kind).map((row, at) => (
                  <li key={at}>
                    <span class="muted foreign">
                      row {isNumber(row.index) ? count(row.index) : "?"}
                      {row.id === undefined || row.id === null ? "" : <>, id {visible(shortened(asText(row.id) ?? JSON.stringify(row.id), 80))}</>}
                    </span>
                    <PlainText text={asText(row.message) ?? JSON.stringify(row)} />
                  </li>
                ))}
              </ol>
            ) : null}
          </div>
        </article>
      ))}
    </div>
  );
}

/** Which tasks a branch chose, and with which arguments. */
export function Branch({ task }: { task: Task }) {
  const value = valueOf(task, "return_value");
  const picked = typeof value === "string" ? [value] : list(value).filter((one): one is string => typeof one === "string");
  const followed = list(objectOf(task, "skipmixin_key").followed).filter((one): one is string => typeof one === "string");
  const given = objectOf(task, "arguments");
  if (value === undefined && !followed.length) return null;
  const also = followed.filter((one) => !picked.includes(one));
  return (
    <section class="stack" aria-label="The choice">
      <h2>The choice</h2>
      <div class="card">
        <div class="card-body stack">
          {picked.length ? (
            <ul class="picked">
              {picked.map((one) => (
                <li key={one}>
                  <Badge tone="success">chosen</Badge> <strong class="foreign">{visible(one)}</strong>
                  {isObject(given[one]) && Object.keys(given[one]).length ? <JsonBlock value={given[one]} label="With these arguments" /> : null}
                </li>
              ))}
            </ul>
          ) : (
            <p>No task was chosen, so all tasks after the branch are skipped.</p>
          )}
          {also.length ? (
            <p class="muted">
              Not skipped either: <span class="foreign">{visible(also.join(", "))}</span>
            </p>
          ) : null}
          <p class="muted">The reply below is how the model chose. All other tasks directly downstream are skipped.</p>
        </div>
      </div>
    </section>
  );
}

/** Why answers were asked for again. */
export function Rejected({ rejected }: { rejected: Json | undefined }) {
  const texts = list(rejected).filter((one): one is string => typeof one === "string");
  if (!texts.length) return null;
  return (
    <Notice tone="warning" title={`${plural(texts.length, "answer")} did not fit and ${texts.length === 1 ? "was" : "were"} asked for again.`}>
      <ol class="rejected">
        {texts.map((text, at) => (
          <li key={at}>
            <PlainText text={text} />
          </li>
        ))}
      </ol>
    </Notice>
  );
}
