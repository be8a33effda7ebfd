// The table as CSV: every row, in the order shown. An unknown number is an empty cell. Each currency has a column.

import type { Group, GroupBy, Sum, SumName } from "./aggregate";
import { currencies, UNNAMED } from "./costs";

type Cell = string | number | null;

/** Spreadsheets run a cell that begins with one of these as a formula. An apostrophe before it makes it text. */
const FORMULA = /^[=+\-@\t\r\n]|^[\uFF1D\uFF0B\uFF0D\uFF20]/;

export function csvCell(value: Cell): string {
  if (value === null) return "";
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  const text = FORMULA.test(value) ? `'${value}` : value;
  return /[",;\r\n\t']|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const SUMS: [SumName, string][] = [
  ["requests", "calls_answered"],
  ["failed", "failures"],
  ["input_tokens", "input_tokens"],
  ["cache_read_tokens", "cache_read_tokens"],
  ["cache_write_tokens", "cache_write_tokens"],
  ["output_tokens", "output_tokens"],
  ["reasoning_tokens", "reasoning_tokens"],
  ["tool_calls", "tool_calls"],
  ["attempts", "attempts"],
];

const NAMES: Record<GroupBy, string[]> = {
  dag: ["dag_id"],
  task: ["dag_id", "task_id"],
  model: ["model"],
  instance: ["dag_id", "task_id", "run_id", "map_index", "run_after", "model"],
};

export function csv(rows: readonly Group[], by: GroupBy): string {
  const single = by === "instance";
  const sums = SUMS.flatMap(([, title]) => (single ? [title] : [title, `${title}_unknown`]));
  const charged = currencies(rows.map(({ costs }) => costs.sums));
  if (!charged.length) charged.push(UNNAMED);
  const costs = [...charged.map((currency) => (currency ? `cost_${currency}` : "cost")), ...(single ? [] : ["cost_unknown"])];
  const durations = single ? ["seconds"] : ["seconds_p50", "seconds_p95"];
  const head = [...NAMES[by], ...(single ? [] : ["task_instances"]), ...sums, ...costs, "failures_by_kind", ...durations];
  const lines = rows.map((group) => [
    ...names(group, by),
    ...(single ? [] : [group.instances]),
    ...SUMS.flatMap(([name]) => cells(group[name], single)),
    ...charged.map((currency) => group.costs.sums.get(currency) ?? null),
    ...(single ? [] : [group.costs.unknown]),
    [...group.kinds].map(([kind, count]) => `${kind}: ${count}`).join("; "),
    ...(single ? [group.p50] : [group.p50, group.p95]),
  ]);
  return [head, ...lines].map((line) => line.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

/** Beside a sum stands of how many task instances the count is unknown: with any, the sum is "at least". */
function cells(sum: Sum, single: boolean): Cell[] {
  return single ? [sum.sum] : [sum.sum, sum.unknown];
}

function names(group: Group, by: GroupBy): Cell[] {
  const { row } = group;
  if (by === "instance" && row) {
    return [row.dagId, row.taskId, row.runId, row.mapIndex, new Date(row.time).toISOString(), group.model];
  }
  return by === "model" ? [group.model] : by === "task" ? [group.dagId, group.taskId] : [group.dagId];
}
