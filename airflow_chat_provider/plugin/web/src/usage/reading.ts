// What the XCom `usage` of a task instance says. It is untrusted: anyone may push an XCom of that name.

import { isObject, type Json, type XCom } from "../lib/api";
import { currencyOf } from "../lib/format";

/** null is a count that nobody stated: it is unknown, and never 0. */
export type Count = number | null;

export const COUNTS = [
  "requests",
  "input_tokens",
  "output_tokens",
  "cache_read_tokens",
  "cache_write_tokens",
  "reasoning_tokens",
  "tool_calls",
  "attempts",
  "cost",
  "seconds",
] as const;
export type CountName = (typeof COUNTS)[number];

export interface Usage extends Record<CountName, Count> {
  /** Of the operators of common-ai, which leave an XCom of the same name with eight of the keys. */
  foreign: boolean;
  model: string | null;
  /** That of the cost; null where it is not named, as in an XCom from before the key existed. */
  currency: string | null;
  /** From kind to count; null where nothing is said about failures. */
  failures: Record<string, number> | null;
  /** The sum of these. */
  failed: Count;
}

/** Why an entry of the list has no usage. */
export type Without =
  | "not-ours" // another operator's XCom of that name
  | "elsewhere" // an object store has the value, where only workers can read it
  | "gone" // deleted between the list and now
  | "forbidden" // the list shows the entry, but the user may not read the XComs of its DAG
  | "unread"; // Airflow failed to answer

const LARGEST = 2 ** 63; // what XCom can hold; the provider itself counts no further
const KINDS = 50;
const LONGEST_NAME = 256;
const NUMBER = /^\d{1,20}(\.\d{1,20})?(e[+-]?\d{1,2})?$/i;

export function readUsage(xcom: XCom): Usage | Without {
  if (xcom.elsewhere !== null) return "elsewhere";
  const { value } = xcom;
  if (!isObject(value) || typeof value.requests !== "number" || !("input_tokens" in value)) return "not-ours";
  const ours = "attempts" in value || "errors" in value;
  const counts = Object.fromEntries(COUNTS.map((name) => [name, readCount(value[name])])) as Record<CountName, Count>;
  // common-ai leaves 0 where the server stated nothing: nobody answers from no tokens at all.
  if (!ours && counts.requests && !counts.input_tokens && !counts.output_tokens) {
    for (const name of TOKENS) counts[name] = null;
  }
  const failures = readFailures(value.errors, ours, counts.requests);
  return {
    ...counts,
    foreign: !ours,
    model: typeof value.model === "string" && value.model ? value.model.slice(0, LONGEST_NAME) : null,
    currency: currencyOf(value.currency),
    failures,
    failed: failures && Object.values(failures).reduce((sum, count) => sum + count, 0),
  };
}

const TOKENS = ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"] as const;

/** A number of 0 or more, also written as text; null for anything else. */
export function readCount(value: Json | undefined): Count {
  const number = typeof value === "string" && NUMBER.test(value) ? Number(value) : value;
  return typeof number === "number" && number >= 0 && number <= LARGEST ? number : null;
}

export const NO_ANSWER = "no answer (kind not recorded)";

function readFailures(errors: Json | undefined, ours: boolean, requests: Count): Record<string, number> | null {
  if (!isObject(errors)) {
    // Before the key existed, a call without any answer was still known to have failed.
    return ours && requests === 0 ? { [NO_ANSWER]: 1 } : null;
  }
  const found: Record<string, number> = Object.create(null);
  for (const [kind, value] of Object.entries(errors).slice(0, KINDS)) {
    const count = readCount(value);
    if (count) found[kind.slice(0, LONGEST_NAME)] = count;
  }
  return found;
}
