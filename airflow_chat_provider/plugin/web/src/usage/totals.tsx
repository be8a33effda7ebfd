// The sums on top. They are of what was read, and say so while there is more.

import type { ComponentChildren } from "preact";
import { count, duration, percent, plural, shortCount, UNKNOWN } from "../lib/format";
import type { Estimate, Group, Sum, SumName } from "./aggregate";
import { type Costs, costTexts, isUnknown } from "./costs";

/** How a sum is written: with "at least" where part of it is unknown. */
export function SumText({ sum, format }: { sum: Sum; format: (value: unknown) => string }) {
  if (sum.sum === null) return sum.unknown ? <span class="unknown">{UNKNOWN}</span> : <>–</>;
  return <AtLeast text={format(sum.sum)} unknown={sum.unknown} />;
}

/** A sum for each currency, below each other. */
export function CostText({ costs }: { costs: Costs }) {
  if (isUnknown(costs)) return costs.unknown ? <span class="unknown">{UNKNOWN}</span> : <>–</>;
  return (
    <>
      {costTexts(costs.sums).map((text) => (
        <span key={text} class="amount">
          <AtLeast text={text} unknown={costs.unknown} />
        </span>
      ))}
    </>
  );
}

function AtLeast({ text, unknown }: { text: string; unknown: number }) {
  if (!unknown) return <>{text}</>;
  const why = `Of ${count(unknown)} task ${unknown === 1 ? "instance" : "instances"} it is unknown`;
  return (
    <span title={why}>
      <span aria-hidden="true">≥ </span>
      <span class="off-screen">at least </span>
      {text}
    </span>
  );
}

interface TotalsProps {
  all: Group;
  /** What it may be in all; null where all was read, or too little to tell. */
  whole: Estimate | null;
}

export function Totals({ all, whole }: TotalsProps) {
  const part = (what: Sum, whole: Sum, name: string) =>
    what.sum === null || !whole.sum ? null : `${shortCount(what.sum)} ${name} (${percent(what.sum, whole.sum)})`;
  const guess = (name: SumName, format: (value: unknown) => string) =>
    whole === null || whole[name] === null ? null : inAll(format(rounded(whole[name])));
  const guessedCost = whole === null || !whole.costs.size ? null : inAll(costTexts(whole.costs, rounded).join(", "));
  return (
    <dl class="totals" aria-label="Totals of what was read">
      <Total name="Calls answered" guess={guess("requests", shortCount)} notes={[calls(all)]}>
        <SumText sum={all.requests} format={count} />
      </Total>
      <Total name="Failures" guess={guess("failed", shortCount)} notes={[all.kinds.size ? `of ${plural(all.kinds.size, "kind")}, listed below` : null]}>
        <SumText sum={all.failed} format={count} />
      </Total>
      <Total name="Tokens in" guess={guess("input_tokens", shortCount)} notes={[part(all.cache_read_tokens, all.input_tokens, "from cache")]}>
        <SumText sum={all.input_tokens} format={count} />
      </Total>
      <Total name="Tokens out" guess={guess("output_tokens", shortCount)} notes={[part(all.reasoning_tokens, all.output_tokens, "reasoning")]}>
        <SumText sum={all.output_tokens} format={count} />
      </Total>
      <Total name="Cost" guess={guessedCost} notes={[isUnknown(all.costs) ? "no price is known" : all.costs.sums.size > 1 ? "by currency" : null]}>
        <CostText costs={all.costs} />
      </Total>
      <Total name="Duration, p50" guess={null} notes={[all.p95 === null ? null : `p95 ${duration(all.p95)}`]}>
        {all.p50 === null ? <span class="unknown">{UNKNOWN}</span> : duration(all.p50)}
      </Total>
    </dl>
  );
}

function calls(all: Group): string {
  return `by ${count(all.instances)} task ${all.instances === 1 ? "instance" : "instances"}`;
}

function inAll(text: string): string {
  return `about ${text} in all, if the rest is alike`;
}

/** Two digits: a guess has no more. */
function rounded(value: number): number {
  return Number(value.toPrecision(2));
}

interface TotalProps {
  name: string;
  guess: string | null;
  notes: (string | null)[];
  children: ComponentChildren;
}

function Total({ name, guess, notes, children }: TotalProps) {
  return (
    <div class="card total">
      <dt>{name}</dt>
      <dd class="total-value">{children}</dd>
      {notes.map((note) => note && <dd key={note} class="total-note foreign">{note}</dd>)}
      {guess ? <dd class="total-note guess">{guess}</dd> : null}
    </div>
  );
}
