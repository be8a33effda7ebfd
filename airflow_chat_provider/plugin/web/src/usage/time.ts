// Ranges and buckets, in the time zone of whoever looks at the page.

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

export const RANGES = { "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY, "90d": 90 * DAY } as const;
export type RangeName = keyof typeof RANGES | "custom";

export interface Span {
  from: number;
  to: number;
}

export type Unit = "hour" | "6 hours" | "day" | "week" | "month";

export function unitFor({ from, to }: Span): Unit {
  const length = to - from;
  if (length <= 2 * DAY) return "hour";
  if (length <= 10 * DAY) return "6 hours";
  if (length <= 120 * DAY) return "day";
  return length <= 800 * DAY ? "week" : "month";
}

/** The start of the bucket that the time is in. Days of 23 and 25 hours are what they are. */
function startOf(time: number, unit: Unit): number {
  const at = new Date(time);
  // By the minute, not by the zone's offset: setHours would leap over the hour that a clock change repeats.
  if (unit === "hour") return time - (at.getMinutes() * 60_000 + at.getSeconds() * 1000 + at.getMilliseconds());
  const hour = unit === "6 hours" ? at.getHours() - (at.getHours() % 6) : 0;
  const day = unit === "month" ? 1 : at.getDate() - (unit === "week" ? (at.getDay() + 6) % 7 : 0);
  return new Date(at.getFullYear(), at.getMonth(), day, hour).getTime();
}

function next(start: number, unit: Unit): number {
  if (unit === "hour") return start + HOUR;
  const at = new Date(start);
  const [year, month, day, hour] = [at.getFullYear(), at.getMonth(), at.getDate(), at.getHours()];
  if (unit === "6 hours") return new Date(year, month, day, hour - (hour % 6) + 6).getTime();
  if (unit === "month") return new Date(year, month + 1, 1).getTime();
  return new Date(year, month, day + (unit === "week" ? 7 : 1)).getTime();
}

const MOST = 1000;

/** The starts of the buckets that cover the span, and the end of the last. */
export function bucketEdges(span: Span, unit: Unit = unitFor(span)): number[] {
  const edges = [startOf(span.from, unit)];
  while (edges[edges.length - 1]! <= span.to && edges.length <= MOST) edges.push(next(edges[edges.length - 1]!, unit));
  return edges;
}

export function bucketLabel(start: number, unit: Unit): string {
  const options: Intl.DateTimeFormatOptions =
    unit === "hour" || unit === "6 hours"
      ? { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", ...offsetWhereItMatters(start) }
      : unit === "month"
        ? { year: "numeric", month: "long" }
        : { year: "numeric", month: "short", day: "numeric", weekday: "short" };
  return formatted(start, options);
}

/** An hour that a clock change repeats has two names that differ in the offset alone. */
function offsetWhereItMatters(start: number): Intl.DateTimeFormatOptions {
  const day = [start - DAY, start + DAY].map((time) => new Date(time).getTimezoneOffset());
  return day[0] === day[1] ? {} : { timeZoneName: "short" };
}

const formats = new Map<string, Intl.DateTimeFormat>();

function formatted(time: number, options: Intl.DateTimeFormatOptions): string {
  const key = JSON.stringify(options);
  let format = formats.get(key);
  if (!format) formats.set(key, (format = new Intl.DateTimeFormat(undefined, options)));
  return format.format(time);
}

export function zoneName(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || "your local time";
}

/** What an input of the type datetime-local takes: local time, to the minute. */
export function toInput(time: number): string {
  const at = new Date(time);
  const two = (number: number) => String(number).padStart(2, "0");
  const year = String(at.getFullYear()).padStart(4, "0");
  return `${year}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** null if the text is not a local time, or of a year that no database takes. */
export function fromInput(text: string): number | null {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?$/.test(text)) return null;
  const time = new Date(text).getTime();
  return Number.isFinite(time) && time >= 0 ? time : null;
}
