// What a batch, a branch and a dry run show of their own.

import { asText, isObject, type Json, type JsonObject, list } from "../lib/api";
import { Badge, CopyButton, Fact, Facts, Notice, Progress } from "../lib/components";
import { CodeBlock, JsonBlock } from "../lib/code";
import { bytes, count, date, duration, isNumber, percent, plural } from "../lib/format";
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
      {kinds.length ? <Failures kinds={kinds} first={isObject(manifest.first_failures) ? manifest.first_failures : {}} /> : null}
    </section>
  );
}

function Failures({ kinds, first }: { kinds: [string, number][]; first: JsonObject }) {
  return (
    <div class="stack">
      <h2>Failures by kind</h2>
      {kinds.map(([kind, many]) => (
        <article class="card" key={kind}>
          <div class="card-body stack">
            <h3 class="row">
              <Badge tone="error">{count(many)} ×</Badge> <code class="foreign">{visible(shortened(kind, 120))}</code>
            </h3>
            {remedyOf(kind) ? <p>{remedyOf(kind)}</p> : null}
            {list(first[kind]).length ? (
              <ol class="first-failures">
                {list(first[kind]).filter(isObject).slice(0, 10).map((row, at) => (
                  <li key={at}>
                    <span class="muted foreign">
                      row {isNumber(row.index) ? count(row.index) : "?"}
                      {row.id === undefined || row.id === null ? "" : <>, id {visible(shortened(String(row.id), 80))}</>}
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

/** The plan of a dry run: nothing was sent. */
export function Plan({ plan }: { plan: JsonObject }) {
  const files = list(plan.attachments).filter(isObject);
  return (
    <section class="stack" aria-label="The plan">
      <Notice title="A dry run: nothing was sent.">
        <p>This is the request as it would be sent.</p>
      </Notice>
      <div class="card">
        <div class="card-body">
          <Facts>
            <Fact name="Model">{asText(plan.model) ? visible(String(plan.model)) : null}</Fact>
            <Fact name="Messages">{count(plan.message_count)}</Fact>
            <Fact name="Size">{bytes(plan.bytes)}</Fact>
            <Fact name="URL" wide>
              <span class="mono foreign">{visible(shortened(String(plan.url ?? ""), 500))}</span>
            </Fact>
          </Facts>
        </div>
      </div>
      {files.length ? (
        <ul class="stack">
          {files.map((file, at) => (
            <li key={at} class="foreign">
              {visible(String(file.path))} <span class="muted">{[asText(file.type), bytes(file.bytes)].join(", ")}</span>
            </li>
          ))}
        </ul>
      ) : null}
      <CodeBlock code={String(plan.curl)} language="bash" label="curl" />
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
