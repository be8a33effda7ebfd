// What the plots show.

import { cost, count, duration, shortCount } from "../lib/format";
import type { Group } from "./aggregate";
import { currencies } from "./costs";
import type { Count } from "./reading";

interface Series {
  label: string;
  /** The name of a colour of usage.css. */
  colour: string;
  value: (group: Group) => Count;
}

export interface Shape {
  title: string;
  /** Bars are drawn one upon the other, the first one lowest. */
  kind: "bars" | "lines";
  series: Series[];
  format: (value: unknown) => string;
  axis: (value: unknown) => string;
}

const SHAPES: Shape[] = [
  {
    title: "Calls",
    kind: "bars",
    series: [
      { label: "answered", colour: "--plot-1", value: (group) => group.requests.sum },
      { label: "failed", colour: "--plot-bad", value: (group) => group.failed.sum },
    ],
    format: count,
    axis: shortCount,
  },
  {
    title: "Tokens",
    kind: "bars",
    series: [
      { label: "in", colour: "--plot-1", value: (group) => group.input_tokens.sum },
      { label: "out", colour: "--plot-2", value: (group) => group.output_tokens.sum },
    ],
    format: count,
    axis: shortCount,
  },
  {
    title: "Duration of a task's calls",
    kind: "lines",
    series: [
      { label: "p50", colour: "--plot-1", value: (group) => group.p50 },
      { label: "p95", colour: "--plot-4", value: (group) => group.p95 },
    ],
    format: duration,
    axis: shortDuration,
  },
];

const MOST_CURRENCIES = 3; // one plot for each

/** The plots of these data. Each currency has a plot of its own: bars upon each other would add them. */
export function shapesOf(groups: readonly Group[]): Shape[] {
  const charged = currencies(groups.map(({ costs }) => costs.sums)).slice(0, MOST_CURRENCIES);
  const costs = charged.length > 1 ? charged.map((currency) => costShape(currency, "Cost without a currency")) : [costShape(charged[0] ?? "")];
  return [...SHAPES.slice(0, -1), ...costs, ...SHAPES.slice(-1)];
}

function costShape(currency: string, unnamed = "Cost"): Shape {
  return {
    title: currency ? `Cost in ${currency}` : unnamed,
    kind: "bars",
    series: [{ label: "cost", colour: "--plot-3", value: (group) => group.costs.sums.get(currency) ?? null }],
    format: (value) => cost(value, currency),
    axis: (value) => cost(value),
  };
}

function shortDuration(value: unknown): string {
  const seconds = Number(value);
  if (seconds < 60) return seconds ? duration(seconds) : "0 s";
  return seconds < 5400 ? `${count(seconds / 60)} min` : `${count(seconds / 3600)} h`;
}
