// What a try left in its log: the lines of its calls, and the error that ended it.

import { useEffect, useState } from "preact/hooks";
import type { Api, LogLine, Place } from "../lib/api";
import { type Part, READING, settle } from "./task";

const MOST = 20_000_000; // bytes of a log
const LINES = 40;
const CALLS = /^(Chat completion:|Attempt \d+ of \d+|Asking again|Still waiting for an answer|Batch |\d[\d,.]* of \d[\d,.]* rows?)/;

export interface Told {
  lines: LogLine[];
  error: { type: string; value: string } | null;
  isCut: boolean;
}

export async function readLog(api: Api, place: Place, tryNumber: number, signal?: AbortSignal): Promise<Told> {
  const told: Told = { lines: [], error: null, isCut: false };
  let isOwn = false;
  const take = (line: LogLine) => {
    // Airflow may fail itself after the task has: the task's own error counts.
    const own = line.event.startsWith("Task failed with exception");
    if (line.errors.length && (own || !isOwn)) told.error = errorOf(line);
    isOwn ||= own && line.errors.length > 0;
    if (!CALLS.test(line.event)) return;
    told.lines.push(line);
    if (told.lines.length > LINES) told.lines.shift();
  };
  told.isCut = await api.log(place, tryNumber, take, { signal, maxBytes: MOST });
  return told;
}

const OURS =
  /^(InvalidRequest|InvalidConnection|TransportError|TransportTimeout|StatusError|RateLimited|ProtocolError|IncompleteReply|InvalidOutput|ChatCompletionError): /;

/** The exception itself. A final one is wrapped, so that Airflow does not try again: its name is then that of the cause. */
export function errorOf(line: LogLine): { type: string; value: string } {
  const { type, value } = line.errors[0]!;
  if (type !== "AirflowFailException") return { type, value };
  const named = OURS.exec(value);
  if (named) return { type: named[1]!, value: value.slice(named[0].length) };
  return { type: line.errors.find((one) => one.type !== type && one.value === value)?.type ?? type, value };
}

export function useLog(api: Api, place: Place, tryNumber: number | null): { told: Part<Told>; again: () => void } {
  const [told, setTold] = useState<Part<Told>>(READING);
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (tryNumber === null) return;
    const stop = new AbortController();
    setTold(READING);
    void settle(readLog(api, place, tryNumber, stop.signal)).then((part) => stop.signal.aborted || setTold(part));
    return () => stop.abort();
  }, [api, place, tryNumber, round]);
  return { told, again: () => setRound((now) => now + 1) };
}
