// The Chat usage page: it holds the view, which is the page's address, and the reader, which fills it.

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Api } from "../lib/api";
import { CopyButton, Notice } from "../lib/components";
import { followTheme } from "../lib/theme";
import { type Estimate, estimate, overTime, type Row, total } from "./aggregate";
import { type Cache, openCache } from "./cache";
import { Controls } from "./controls";
import { Failures } from "./failures";
import { Kinds } from "./kinds";
import { Plots } from "./plots";
import { ReadingState } from "./progress";
import type { Snapshot } from "./found";
import { Reader } from "./reader";
import type { Scope } from "./requests";
import { UsageTable } from "./table";
import { bucketEdges, unitFor, zoneName } from "./time";
import { Totals } from "./totals";
import { readView, spanOf, type View, writeView } from "./view";

const api = new Api();
const EVERY = 400; // milliseconds between two pictures while there is more to read, where drawing is fast
const SELDOM = 3000; // and where it is slow

function useView(): [View, (part: Partial<View>) => void] {
  const [view, setView] = useState(() => readView(location.search));
  useEffect(() => {
    const back = () => setView(readView(location.search));
    addEventListener("popstate", back);
    return () => removeEventListener("popstate", back);
  }, []);
  const change = useCallback((part: Partial<View>) => {
    setView((before) => {
      const after = { ...before, ...part };
      const address = location.pathname + writeView(after);
      // A text that is being typed, or an order, is not worth a step back.
      const step = !("by" in part) && ("find" in part || "sort" in part);
      if (address !== location.pathname + location.search) history[step ? "replaceState" : "pushState"](null, "", address);
      return after;
    });
  }, []);
  return [view, change];
}

/** Reads what the view needs. A filter on DAG and task makes less to read; once all is read, it makes nothing new. */
function useReader(view: View, now: number) {
  const reader = useRef<Reader | null>(null);
  const scope = useRef<Scope | null>(null);
  const cache = useRef<Promise<Cache> | null>(null);
  const [snapshot, setSnapshot] = useState<Snapshot | null>(null);
  const span = spanOf(view, now);
  useEffect(() => {
    const wanted: Scope = { ...span, dag: view.dag, task: view.task };
    if (reader.current && covers(scope.current!, wanted, reader.current.snapshot.stage === "done")) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    reader.current?.stop();
    reader.current = null;
    scope.current = wanted;
    // How long a picture takes, in milliseconds: reading must not wait for drawing.
    let cost = 0;
    const show = () => {
      timer = undefined;
      if (scope.current !== wanted || !reader.current) return;
      const start = performance.now();
      setSnapshot(reader.current.snapshot);
      requestAnimationFrame(() => setTimeout(() => (cost = performance.now() - start)));
    };
    void (cache.current ??= openCache()).then((opened) => {
      if (scope.current !== wanted) return;
      const change = () => {
        timer ??= setTimeout(show, Math.min(SELDOM, Math.max(EVERY, 4 * cost)));
      };
      reader.current = new Reader({ api, cache: opened, scope: wanted, change });
      void reader.current.start();
      show();
    });
  }, [span.from, span.to, view.dag, view.task]);
  return { reader, snapshot };
}

function covers(have: Scope, wanted: Scope, complete: boolean): boolean {
  if (have.from !== wanted.from || have.to !== wanted.to) return false;
  if (have.dag === wanted.dag && have.task === wanted.task) return true;
  return complete && (!have.dag || have.dag === wanted.dag) && (!have.task || have.task === wanted.task);
}

function isIn(row: Row, { dag, task, model, outcome }: View): boolean {
  if ((dag && row.dagId !== dag) || (task && row.taskId !== task) || (model && row.usage.model !== model)) return false;
  if (!outcome) return true;
  return outcome === "failed" ? Boolean(row.usage.failed) : row.usage.failed === 0;
}

export function Page() {
  const [view, change] = useView();
  const [now, setNow] = useState(() => Date.now());
  const [theme, setTheme] = useState("");
  useEffect(() => followTheme(setTheme), []);
  const { reader, snapshot } = useReader(view, now);
  const names = useNames(snapshot);
  const rows = useMemo(
    () => (snapshot?.rows ?? []).filter((row) => isIn(row, view)),
    [snapshot, view.dag, view.task, view.model, view.outcome],
  );
  const models = useMemo(() => [...new Set(snapshot?.rows.map((row) => row.usage.model))].filter((name) => name !== null), [snapshot]);
  const all = useMemo(() => total(rows), [rows]);
  const whole = useMemo(() => snapshot && wholeOf(snapshot, rows), [rows]);
  const span = spanOf(view, now);
  const data = useMemo(() => {
    const unit = unitFor(span);
    const edges = bucketEdges(span, unit);
    return { unit, edges, groups: overTime(rows, edges) };
  }, [rows, span.from, span.to]);
  const complete = snapshot?.stage === "done";
  return (
    <>
      <header class="page-head row spread">
        <div>
          <h1>Chat usage</h1>
          <p class="muted">What chat completions took, by the date of their runs. Times are in {zoneName()}.</p>
        </div>
        <CopyButton text={() => location.href} label="Copy link" />
      </header>
      <Controls view={view} now={now} change={change} names={names} models={models} />
      {snapshot ? (
        <ReadingState
          snapshot={snapshot}
          start={() => void reader.current?.start()}
          stop={() => reader.current?.stop()}
          again={() => setNow(Date.now())}
        />
      ) : null}
      {complete && !rows.length ? <Nothing view={view} any={Boolean(snapshot?.rows.length)} /> : null}
      {rows.length ? (
        <>
          <Totals all={all} whole={whole} />
          <Plots data={data} theme={theme} />
          <Kinds rows={rows} change={change} />
          <UsageTable rows={rows} view={view} change={change} complete={complete} />
        </>
      ) : null}
      {complete ? <Failures key={`${span.from} ${span.to} ${view.dag} ${view.task}`} api={api} view={view} span={span} rows={snapshot!.rows} /> : null}
    </>
  );
}

const ENOUGH = 200;

/** A sample by chance, spread over the range, tells what all of it may be. */
function wholeOf({ stage, total: there, read, listed, strata }: Snapshot, rows: Row[]): Estimate | null {
  if (stage === "done" || there === null || read < ENOUGH || read >= there) return null;
  return estimate(rows, (name) => {
    const counts = strata.get(name);
    return counts?.read ? (counts.listed / counts.read) * (there / listed) : 1;
  });
}

/** What there is, also from earlier ranges and filters: so that another DAG can be chosen. */
function useNames(snapshot: Snapshot | null): Map<string, Map<string, number>> {
  const names = useRef(new Map<string, Map<string, number>>());
  for (const [dag, tasks] of snapshot?.names ?? []) {
    names.current.set(dag, new Map([...(names.current.get(dag) ?? []), ...tasks]));
  }
  return names.current;
}

function Nothing({ view, any }: { view: View; any: boolean }) {
  const filtered = Boolean(view.dag || view.task || view.model || view.outcome);
  return (
    <Notice title={filtered ? "Clear a filter, or choose a longer range." : "Choose a longer range, or run a chat completion."}>
      <p>
        {any || filtered
          ? "No task instance in this range fits the filters."
          : "No task instance in this range has left a usage. Each task that sends a chat completion leaves one."}
      </p>
    </Notice>
  );
}
