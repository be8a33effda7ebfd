// Sums of costs. Each currency has a sum of its own: amounts of different currencies are never added.

import { cost } from "../lib/format";
import type { Count, Usage } from "./reading";

/** Where a cost has no currency: an XCom from before they were named, or another provider's. */
export const UNNAMED = "";
/** How many currencies are shown in one place: anyone may push an XCom with a currency of its own. */
const SHOWN = 4;

export interface Costs {
  /** The sum of each currency; empty if nothing is known at all. */
  sums: Map<string, number>;
  /** Of how many task instances it is not known. */
  unknown: number;
}

export function noCosts(): Costs {
  return { sums: new Map(), unknown: 0 };
}

export function addCost(costs: Costs, usage: Usage): void {
  if (usage.cost === null) costs.unknown += 1;
  else addTo(costs.sums, usage.currency ?? UNNAMED, usage.cost);
}

export function addTo(sums: Map<string, number>, currency: string, amount: number): void {
  sums.set(currency, (sums.get(currency) ?? 0) + amount);
}

/** What is charged in these currencies, by name; the unnamed one last. */
export function currencies(all: Iterable<ReadonlyMap<string, number>>): string[] {
  const found = new Set<string>();
  for (const sums of all) for (const currency of sums.keys()) found.add(currency);
  return [...found].sort((one, other) => Number(!one) - Number(!other) || (one < other ? -1 : 1));
}

export function isUnknown(costs: Costs): boolean {
  return !costs.sums.size;
}

/** For the order of lines. Amounts of two currencies cannot be compared, so the largest number stands for all. */
export function largest({ sums }: Costs): Count {
  return sums.size ? Math.max(...sums.values()) : null;
}

/** One text for each currency: "0.31 EUR", "12.40 USD". */
export function costTexts(sums: ReadonlyMap<string, number>, write: (amount: number) => number = (amount) => amount): string[] {
  const names = currencies([sums]);
  const texts = names.slice(0, SHOWN).map((currency) => cost(write(sums.get(currency)!), currency));
  return names.length > SHOWN ? [...texts, `and ${names.length - SHOWN} other currencies`] : texts;
}
