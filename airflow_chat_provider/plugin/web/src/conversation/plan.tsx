// What a dry run shows: the request that would be sent, and for a batch what all of its rows would take.

import { asText, isObject, type Json, type JsonObject, list } from "../lib/api";
import { Badge, Fact, Facts, Notice } from "../lib/components";
import { CodeBlock } from "../lib/code";
import { bytes, cost, count, isNumber, UNKNOWN } from "../lib/format";
import { shortened } from "../lib/links";
import { PlainText, visible } from "../lib/text";
import { kindsOf } from "./failure";
import { Failures } from "./kinds";

/** The plan of a dry run: nothing was sent. */
export function Plan({ plan }: { plan: JsonObject }) {
  return (
    <section class="stack" aria-label="The plan">
      <Notice title="A dry run: nothing was sent.">
        <p>This is the request as it would be sent.</p>
      </Notice>
      <Request plan={plan} />
    </section>
  );
}

function Request({ plan }: { plan: JsonObject }) {
  const files = list(plan.attachments).filter(isObject);
  const [model, url, curl] = [asText(plan.model), asText(plan.url), asText(plan.curl)];
  return (
    <>
      <div class="card">
        <div class="card-body">
          <Facts label="The request">
            <Fact name="Model">{model ? visible(model) : null}</Fact>
            <Fact name="Messages">{count(plan.message_count)}</Fact>
            <Fact name="Size">{bytes(plan.bytes)}</Fact>
            <Fact name="URL" wide>
              {url ? <span class="mono foreign">{visible(shortened(url, 500))}</span> : null}
            </Fact>
          </Facts>
        </div>
      </div>
      {files.length ? (
        <ul class="stack">
          {files.map((file, at) => (
            <li key={at} class="foreign">
              {visible(asText(file.path) ?? UNKNOWN)} <span class="muted">{[asText(file.type), bytes(file.bytes)].filter(Boolean).join(", ")}</span>
            </li>
          ))}
        </ul>
      ) : null}
      {curl ? <CodeBlock code={curl} language="bash" label="curl" /> : null}
    </>
  );
}

/** The plan of a batch: what would become of its rows, and what that takes. */
export function BatchPlan({ plan }: { plan: JsonObject }) {
  const kinds = kindsOf(plan.failed);
  const failed = kinds.reduce((sum, [, many]) => sum + many, 0);
  const first = isObject(plan.first_request) ? plan.first_request : null;
  return (
    <section class="stack" aria-label="The plan">
      <Notice title="A dry run: nothing was sent.">
        <p>This is what the batch would send.</p>
      </Notice>
      {plan.would_fail === true ? <Notice tone="warning" title="The task would fail: more rows would fail than max_failures allows." /> : null}
      <h2>The plan of the batch</h2>
      <div class="card">
        <div class="card-body stack">
          <Facts label="Rows">
            <Fact name="Rows">{count(plan.rows)}</Fact>
            <Fact name="Answered already">{count(plan.answered)}</Fact>
            <Fact name="Reused" title="Rows that would take the answer of an earlier batch">
              {count(plan.reused)}
            </Fact>
            <Fact name="Equal" title="Rows whose request is that of an earlier row. With deduplicate=True they are not sent">
              {count(plan.equal)}
            </Fact>
            <Fact name="Would be sent">{count(plan.to_send)}</Fact>
            <Fact name="Would fail">{isObject(plan.failed) ? count(failed) : null}</Fact>
          </Facts>
          {plan.to_send === 0 ? null : <Bill plan={plan} />}
        </div>
      </div>
      <Notes notes={plan.notes} />
      {kinds.length ? <Failures kinds={kinds} first={plan.first_failures} title="Rows that would fail, by kind" /> : null}
      {first ? (
        <>
          <h2>The first request</h2>
          <Request plan={first} />
        </>
      ) : null}
    </section>
  );
}

/** Tokens, cost and limits of the rows that would be sent. */
function Bill({ plan }: { plan: JsonObject }) {
  const by = list(plan.counted_by).flatMap((one) => asText(one) ?? []).slice(0, 10);
  const guess = plan.is_guess === true ? "a guess" : "";
  const counted = [guess, by.length ? `counted by ${shortened(by.join(", "), 100)}` : ""].filter(Boolean).join(", ");
  const costs = isObject(plan.cost) ? plan.cost : {};
  const limits = isObject(plan.limits) ? plan.limits : {};
  return (
    <Facts label="Tokens, cost and limits">
      <Fact name="Tokens in">
        {count(plan.input_tokens)}
        {counted ? <small class="foreign">{visible(counted)}</small> : null}
      </Fact>
      <Fact name="Tokens out" title="The most that all answers may have">
        {isNumber(plan.output_tokens) ? `at most ${count(plan.output_tokens)}` : UNKNOWN}
      </Fact>
      <Fact name="Cost" title="From the input alone to the longest answers, by the prices of the connection">
        {costRange(costs)}
      </Fact>
      <Limit name="max_total_tokens" limit={limits.max_total_tokens} shown={count} />
      <Limit name="max_cost" limit={limits.max_cost} shown={(value) => cost(value, costs.currency)} />
    </Facts>
  );
}

function costRange({ least, most, currency }: JsonObject): string {
  if (!isNumber(least)) return isNumber(most) ? `at most ${cost(most, currency)}` : UNKNOWN;
  if (!isNumber(most)) return `at least ${cost(least, currency)}`;
  return least === most ? cost(least, currency) : `${cost(least)} to ${cost(most, currency)}`;
}

/** Nothing where the limit is not set. */
function Limit({ name, limit, shown }: { name: string; limit: Json | undefined; shown: (value: unknown) => string }) {
  if (!isObject(limit)) return null;
  return (
    <Fact name={name} title="A limit of the task or its connection">
      {shown(limit.limit)} <Fits fits={limit.fits} />
      {isNumber(limit.spent) && limit.spent > 0 ? <small>{shown(limit.spent)} of it spent by earlier tries</small> : null}
    </Fact>
  );
}

/** Null if it depends on the answers. */
function Fits({ fits }: { fits: Json | undefined }) {
  if (fits === true) return <Badge tone="success">suffices</Badge>;
  if (fits === false) return <Badge tone="error">does not suffice</Badge>;
  return <Badge tone="warning">may not suffice</Badge>;
}

function Notes({ notes }: { notes: Json | undefined }) {
  const texts = list(notes).flatMap((one) => asText(one) ?? []).slice(0, 20);
  if (!texts.length) return null;
  return (
    <div class="stack">
      <h2>Notes</h2>
      <ul class="notes">
        {texts.map((text, at) => (
          <li key={at}>
            <PlainText text={shortened(text, 2000)} />
          </li>
        ))}
      </ul>
    </div>
  );
}
