// What the page shows, as its address says it. Everything is there, so that a link can be shared.

import type { GroupBy } from "./aggregate";
import { RANGES, type RangeName, type Span } from "./time";

export type Outcome = "" | "good" | "failed";

export interface View {
  range: RangeName;
  /** In UTC, for `custom`: a link means the same time everywhere. */
  from: string;
  to: string;
  dag: string;
  task: string;
  model: string;
  outcome: Outcome;
  by: GroupBy;
  /** A column's name; with a minus before it from large to small. */
  sort: string;
  /** Text that a row of the table has to have. */
  find: string;
}

export const DEFAULT: View = {
  range: "7d", from: "", to: "", dag: "", task: "", model: "", outcome: "", by: "dag", sort: "-input_tokens", find: "",
};

const ALLOWED: { [K in keyof View]?: readonly string[] } = {
  range: [...Object.keys(RANGES), "custom"],
  outcome: ["", "good", "failed"],
  by: ["dag", "task", "model", "instance"],
};

export function readView(search: string): View {
  const query = new URLSearchParams(search);
  const view: View = { ...DEFAULT };
  for (const name of Object.keys(DEFAULT) as (keyof View)[]) {
    const value = query.get(name);
    if (value === null || (ALLOWED[name] && !ALLOWED[name].includes(value))) continue;
    (view as unknown as Record<string, string>)[name] = value;
  }
  if (view.range === "custom" && (timeOf(view.from) === null || timeOf(view.to) === null)) view.range = DEFAULT.range;
  return view;
}

export function writeView(view: View): string {
  const query = new URLSearchParams();
  for (const name of Object.keys(DEFAULT) as (keyof View)[]) {
    if ((name === "from" || name === "to") && view.range !== "custom") continue;
    if (view[name] !== DEFAULT[name]) query.set(name, view[name]);
  }
  const text = query.toString();
  return text && `?${text}`;
}

export function spanOf(view: View, now: number): Span {
  if (view.range !== "custom") return { from: now - RANGES[view.range], to: now };
  const [from, to] = [timeOf(view.from) ?? now, timeOf(view.to) ?? now];
  return from <= to ? { from, to } : { from: to, to: from };
}

/** null if the text is not a time, or of a year that no database takes. */
export function timeOf(text: string): number | null {
  const time = /^\d{4}-\d\d-\d\dT/.test(text) ? Date.parse(text) : NaN;
  return time >= 0 ? time : null;
}

export function timeText(time: number): string {
  return new Date(time).toISOString().replace(/:\d\d\.\d+Z$/, "Z");
}

/** The range in view, as one that stays where it is. */
export function customFrom(view: View, now: number): Pick<View, "range" | "from" | "to"> {
  const { from, to } = spanOf(view, now);
  return { range: "custom", from: timeText(from), to: timeText(to) };
}
