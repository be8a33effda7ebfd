// The order of the table's lines, and which of them have a text.

import type { Group } from "./aggregate";
import { largest } from "./costs";

/** By a column's name; with a minus before it from large to small. What is unknown comes last either way. */
export function sorted(groups: readonly Group[], sort: string): Group[] {
  const down = sort.startsWith("-");
  const name = down ? sort.slice(1) : sort;
  const compare = new Intl.Collator(undefined, { numeric: true }).compare;
  return groups
    .map((group) => ({ group, value: valueOf(group, name) }))
    .sort((one, other) => {
      const [left, right] = [one.value, other.value];
      if (left === right) return compare(nameOf(one.group), nameOf(other.group));
      if (left === null || right === null) return left === null ? 1 : -1;
      const order = typeof left === "string" ? compare(left, String(right)) : left - Number(right);
      return down ? -order : order;
    })
    .map(({ group }) => group);
}

function valueOf(group: Group, name: string): string | number | null {
  switch (name) {
    case "name":
      return nameOf(group) || null;
    case "model":
      return group.model;
    case "time":
      return group.latest;
    case "cost":
      return largest(group.costs);
    case "instances":
    case "p50":
    case "p95":
      return group[name];
    default: {
      const found: unknown = group[name as "requests"];
      return typeof found === "object" && found !== null && "sum" in found ? group[name as "requests"].sum : null;
    }
  }
}

function nameOf(group: Group): string {
  const index = group.row && group.row.mapIndex >= 0 ? `${group.row.mapIndex}` : "";
  const parts = group.taskId !== null ? [group.taskId, index, group.dagId] : [group.dagId ?? group.model];
  return parts.filter(Boolean).join(" ");
}

export function finds(group: Group, text: string): boolean {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return true;
  const parts = [group.dagId, group.taskId, group.model, group.row?.runId, ...group.kinds.keys()];
  return parts.some((part) => part?.toLowerCase().includes(wanted));
}
