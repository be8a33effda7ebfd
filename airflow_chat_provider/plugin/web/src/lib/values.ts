// What Airflow says of an XCom and of a line of a log. Nothing that was stored is taken on trust.

import { ApiError } from "./errors";

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

/** The value of an XCom. `elsewhere` is the path at which an object-store backend keeps it. */
export interface XCom {
  value: Json;
  /** The JSON text that is stored, in which numbers have all their digits; null if Airflow gave the value itself. */
  stored: string | null;
  timestamp: string | null;
  bytes: number;
  elsewhere: string | null;
  /** False where a text only begins as JSON: it was cut, or is not an XCom of ours. `value` is that text. */
  isJson: boolean;
}

export interface LogLine {
  event: string;
  timestamp: string | null;
  level: string | null;
  logger: string | null;
  errors: { type: string; value: string }[];
}

const STORE_PATH = /^[a-z][a-z0-9+.-]*:\/\/\S+$/i;

/** What Airflow says of an XCom: its value is JSON text, or the value itself. */
export function readXCom(text: string, bytes: number): XCom {
  let entry: JsonObject;
  try {
    entry = JSON.parse(text) as JsonObject;
  } catch {
    throw new ApiError("unreadable", "Airflow's answer is not JSON.");
  }
  const stored = entry.value ?? null;
  let value: Json = stored;
  let isJson = true;
  if (typeof stored === "string") {
    try {
      value = JSON.parse(stored) as Json;
    } catch {
      // Workers store the value itself, so a text is one too, unless it begins as what it would be the text of.
      isJson = !/^\s*[[{]/.test(stored);
    }
  }
  const elsewhere = typeof value === "string" && value.length < 4096 && STORE_PATH.test(value) ? value : null;
  const timestamp = asText(entry.timestamp);
  return { value, bytes, isJson, elsewhere, timestamp, stored: typeof stored === "string" && value !== stored ? stored : null };
}

export function readLogLine(line: string): LogLine {
  let found: Json;
  try {
    found = JSON.parse(line) as Json;
  } catch {
    found = line;
  }
  if (!isObject(found)) {
    return { event: typeof found === "string" ? found : line, timestamp: null, level: null, logger: null, errors: [] };
  }
  const errors = list(found.error_detail)
    .filter(isObject)
    .map((one) => ({ type: asText(one.exc_type) ?? "Error", value: asText(one.exc_value) ?? "" }));
  return {
    event: asText(found.event) ?? asText(found.content) ?? "",
    timestamp: asText(found.timestamp),
    level: asText(found.level),
    logger: asText(found.logger),
    errors,
  };
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function list(value: Json | undefined): Json[] {
  return Array.isArray(value) ? value : [];
}

/** The text, or null for anything else. */
export function asText(value: Json | undefined): string | null {
  return typeof value === "string" ? value : null;
}
