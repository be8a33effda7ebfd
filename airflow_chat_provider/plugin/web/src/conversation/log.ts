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
  const take = (line: LogLine) => {
    if (line.errors.length) told.error = errorOf(line);
    if (!CALLS.test(line.event)) return;
    told.lines.push(line);
    if (told.lines.length > LINES) told.lines.shift();
  };
  told.isCut = await api.log(place, tryNumber, take, { signal, maxBytes: MOST });
  return told;
}

/** The exception itself. Airflow may wrap it, so that it is not tried again: its name is then that of the cause. */
function errorOf(line: LogLine): { type: string; value: string } {
  const [first] = line.errors;
  const own = line.errors.find((one) => one.type !== "AirflowFailException" && one.value === first!.value);
  return { type: own?.type ?? first!.type, value: first!.value };
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
