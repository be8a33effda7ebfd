// Numbers and times in the reader's language. What is not known is said to be unknown: it is never 0.

export const UNKNOWN = "unknown";
type Maybe<T> = T | null | undefined;

const formats = new Map<string, Intl.NumberFormat>();

function numberFormat(options: Intl.NumberFormatOptions): Intl.NumberFormat {
  const key = JSON.stringify(options);
  let found = formats.get(key);
  if (!found) formats.set(key, (found = new Intl.NumberFormat(undefined, options)));
  return found;
}

export function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

export function count(value: unknown): string {
  return isNumber(value) ? numberFormat({ maximumFractionDigits: 2 }).format(value) : UNKNOWN;
}

/** 1234567 -> "1.2M", for axes and narrow places. */
export function shortCount(value: unknown): string {
  return isNumber(value) ? numberFormat({ notation: "compact", maximumFractionDigits: 1 }).format(value) : UNKNOWN;
}

export function percent(part: number, whole: number): string {
  if (!whole) return UNKNOWN;
  return numberFormat({ style: "percent", maximumFractionDigits: 1 }).format(part / whole);
}

const NO_BREAK = "\u00a0";

/** "0.0123 USD"; the number alone where the currency is not known. */
export function cost(value: unknown, currency?: unknown): string {
  if (!isNumber(value)) return UNKNOWN;
  const named = currencyOf(currency);
  return named ? `${amount(value)}${NO_BREAK}${named}` : amount(value);
}

function amount(value: number): string {
  if (value === 0) return "0";
  return Math.abs(value) < 0.01
    ? numberFormat({ maximumSignificantDigits: 3 }).format(value)
    : numberFormat({ minimumFractionDigits: 2, maximumFractionDigits: 4 }).format(value);
}

/** The three letters of a currency; null for anything else. */
export function currencyOf(value: unknown): string | null {
  return typeof value === "string" && /^[A-Z]{3}$/.test(value) ? value : null;
}

export function duration(seconds: unknown): string {
  if (!isNumber(seconds) || seconds < 0) return UNKNOWN;
  if (seconds < 1) return `${numberFormat({ maximumFractionDigits: 0 }).format(seconds * 1000)} ms`;
  if (seconds < 60) return `${numberFormat({ maximumFractionDigits: seconds < 10 ? 2 : 1 }).format(seconds)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return hours ? `${count(hours)} h ${minutes} min` : `${minutes} min ${rest} s`;
}

export function bytes(value: unknown): string {
  if (!isNumber(value)) return UNKNOWN;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let [left, unit] = [value, 0];
  while (left >= 1000 && unit < units.length - 1) [left, unit] = [left / 1000, unit + 1];
  return `${numberFormat({ maximumFractionDigits: unit && left < 10 ? 1 : 0 }).format(left)} ${units[unit]}`;
}

let dateFormat: Intl.DateTimeFormat | undefined;

export function date(value: Maybe<string | number>): string {
  const time = typeof value === "number" ? value : Date.parse(value ?? "");
  if (!Number.isFinite(time)) return UNKNOWN;
  dateFormat ??= new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  return dateFormat.format(time);
}

/** "1 message", "2 messages". */
export function plural(number: number, one: string, many = `${one}s`): string {
  return `${count(number)} ${number === 1 ? one : many}`;
}
