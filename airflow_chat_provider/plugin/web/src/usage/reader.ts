// Reads the XComs `usage` of a range. Airflow's list of XComs has no values, so each one is a request of its own. The
// pages of the list are read in an order that spreads over the whole range, and the values by chance: at any moment what
// was read is a sample of the range, and never only one end of it.

import { ApiError, type Api, type Page, type Query, type XComEntry } from "../lib/api";
import type { Cache, Entry, Listed } from "./cache";
import { Found, type Snapshot, type Stage } from "./found";
import { readUsage, type Usage, type Without } from "./reading";
import {
  entriesOf,
  entryId,
  oldest,
  ordered,
  readEntry,
  reasonOf,
  type Scope,
  scopeKey,
  spread,
  valueKey,
  valueOf,
} from "./requests";

const PAGE = 1000; // Airflow gives 100 at most, unless [api] maximum_page_limit says otherwise
const AT_ONCE = 6; // browsers open no more connections to one server
const LISTING = 2; // of these
const PLENTY = 500; // entries that wait for their value
const FAILURES = 5; // one after the other: then the reading stops
const GIVE_UP = 2; // values of a DAG of which none could be read, each asked for twice
const KEEP = 100; // values that are put into the cache together
const LARGEST = 1_000_000; // bytes of an answer: a usage takes a few hundred
const OVERLAP = 10 * 60_000; // servers' clocks may differ by that much

interface Setup {
  api: Api;
  cache: Cache;
  scope: Scope;
  change: () => void;
  /** From 0 to below 1. */
  chance?: () => number;
  now?: () => number;
}

export class Reader {
  private readonly found = new Found();
  private readonly dags = new Map<string, "asked" | "readable" | "forbidden">();
  /** Entries of a DAG of which nobody knows yet whether it can be read. */
  private readonly held = new Map<string, Entry[]>();
  private readonly first: Entry[] = [];
  private readonly waiting: Entry[] = [];
  private readonly errorsOf = new Map<string, number>();
  /** A value that failed is asked for once more: the fault may have been the moment's. */
  private readonly failedOnce = new Set<string>();
  private pages: number[] = [];
  private pageSize = PAGE;
  private fresh: [string, Usage | "not-ours"][] = [];
  private before: Listed | null = null;
  private known = new Map<string, Usage | "not-ours">();
  private total: number | null = null;
  private listing = 0;
  private running = 0;
  private passes = 0;
  private listComplete = false;
  private failuresInARow = 0;
  private requested = 0;
  private elapsed = 0;
  private since: number | null = null;
  private cached = 0;
  private abort = new AbortController();
  private stage: Stage = "paused";
  private error: unknown = null;

  constructor(private readonly options: Setup) {}

  get snapshot(): Snapshot {
    const { stage, error, total, requested, cached } = this;
    const { rows, without, names, strata } = this.found;
    const forbidden = [...this.dags].filter(([, state]) => state === "forbidden").map(([dag]) => dag);
    const [listed, read] = [this.found.entries.size, this.found.results.size];
    const elapsed = this.elapsed + (this.since === null ? 0 : this.now() - this.since);
    return { stage, error, rows, total, listed, read, cached, without, forbidden, names, strata, requested, elapsed };
  }

  async start(): Promise<void> {
    if (this.stage === "reading" || this.stage === "done") return;
    this.abort = new AbortController();
    this.to("reading");
    try {
      if (this.total === null) await this.begin();
    } catch (error) {
      this.fail(error);
    }
    this.pump();
  }

  stop(): void {
    if (this.stage === "reading") this.to("paused");
    this.abort.abort();
    this.keep();
  }

  private now(): number {
    return (this.options.now ?? Date.now)();
  }

  private to(stage: Stage, error: unknown = null): void {
    if (stage === "reading") this.since = this.now();
    else if (this.since !== null) [this.elapsed, this.since] = [this.elapsed + this.now() - this.since, null];
    this.stage = stage;
    this.error = error;
    this.options.change();
  }

  private fail(error: unknown): void {
    if (this.stage !== "reading" || (error instanceof ApiError && error.kind === "aborted")) return;
    const signedOut = error instanceof ApiError && error.kind === "signed-out";
    if (signedOut) void this.options.cache.clear();
    this.to(signedOut ? "signed-out" : "failed", error);
    this.abort.abort();
  }

  // The list

  private async page(number: number): Promise<Page<XComEntry>> {
    const { dag, task, from, to } = this.options.scope;
    const query: Query = {
      xcom_key: "usage",
      run_after_gte: new Date(from).toISOString(),
      run_after_lte: new Date(to).toISOString(),
      order_by: "-timestamp", // Airflow 3.1 has an order of its own
      limit: this.pageSize,
      offset: number * this.pageSize,
    };
    return entriesOf(this.options.api, dag, task, query, this.abort.signal);
  }

  private async begin(): Promise<void> {
    const { cache, scope } = this.options;
    const [page, known, before] = await Promise.all([this.page(0), cache.values(), cache.list(scopeKey(scope))]);
    this.known = known;
    this.before = before;
    this.take(page);
    if (page.items.length && page.items.length < page.total) this.pageSize = page.items.length;
    if (before && ordered(page.items) && (await this.unchangedSince(before, page))) {
      this.endList();
      return;
    }
    this.planPages();
  }

  /**
   * Whether the list is what it was, but for what was written since. The newest entries come first, so those since then
   * are on the first pages. If Airflow counts as many entries as these and the earlier ones together, none is missing.
   */
  private async unchangedSince(before: Listed, page: Page<XComEntry>) {
    const { from, to } = this.options.scope;
    if (before.from > from || before.to > to) return false;
    const earlier = before.entries.filter((entry) => entry.time >= from);
    const newest = before.entries.reduce((most, entry) => Math.max(most, entry.written), 0);
    let last = page;
    for (let number = 1; last.items.length === this.pageSize && oldest(last.items) > newest - OVERLAP; number += 1) {
      if (number > 20) return false;
      last = await this.page(number);
      this.take(last);
    }
    const count = new Set([...earlier.map(entryId), ...this.found.entries.keys()]).size;
    if (count !== this.total) return false;
    for (const entry of earlier) if (!this.found.entries.has(entryId(entry))) this.put(entry);
    return true;
  }

  private planPages(): void {
    this.passes += 1;
    const count = Math.ceil((this.total ?? 0) / this.pageSize);
    this.pages = spread(count).filter((number) => number > 0 || this.passes > 1);
    if (!this.pages.length) this.endList();
  }

  private take(page: Page<XComEntry>): void {
    this.total = page.total;
    for (const item of page.items) {
      const entry = readEntry(item);
      if (entry) this.put(entry);
    }
  }

  private put(entry: Entry): void {
    if (!this.found.add(entry)) return;
    const dag = this.dags.get(entry.dagId);
    if (dag === "readable") this.queue(entry);
    else if (dag === "forbidden") this.found.settle(entry, "forbidden");
    else if (dag === "asked") this.held.get(entry.dagId)!.push(entry);
    else {
      this.dags.set(entry.dagId, "asked");
      this.held.set(entry.dagId, []);
      this.first.push(entry);
    }
  }

  private queue(entry: Entry): void {
    const known = this.known.get(valueKey(entry));
    if (known === undefined) {
      this.waiting.push(entry);
      return;
    }
    this.cached += 1;
    this.found.settle(entry, known);
  }

  private endList(): void {
    // Entries that came or went while the pages were read have moved others over the borders of pages: look once more.
    if (this.passes === 1 && this.found.entries.size < (this.total ?? 0)) return this.planPages();
    this.listComplete = true;
    const { cache, scope } = this.options;
    const entries = [...this.found.entries.values()];
    // A wider range that was read before stays known. Whoever uses it compares Airflow's count first.
    const older = this.before && this.before.from < scope.from ? this.before : null;
    for (const entry of older?.entries ?? []) if (entry.time < scope.from) entries.push(entry);
    void cache.keepList(scopeKey(scope), { from: older?.from ?? scope.from, to: scope.to, entries });
  }

  // The values

  private pump(): void {
    while (this.stage === "reading" && this.running < AT_ONCE) {
      const work = this.nextWork();
      if (!work) break;
      this.running += 1;
      void work().finally(() => {
        this.running -= 1;
        this.options.change();
        this.pump();
      });
    }
    if (this.stage === "reading" && !this.running && this.listComplete && !this.first.length && !this.waiting.length) {
      this.keep();
      this.to("done");
    }
  }

  private nextWork(): (() => Promise<void>) | null {
    const first = this.first.shift();
    if (first) return () => this.readValue(first);
    const listing = this.waiting.length < PLENTY ? LISTING : 1; // a page costs the server ten times what a value does
    if (this.pages.length && (this.listing < listing || !this.waiting.length)) {
      const number = this.pages.shift()!;
      return () => this.readPage(number);
    }
    if (!this.waiting.length) return null;
    const at = Math.floor((this.options.chance ?? Math.random)() * this.waiting.length);
    const entry = this.waiting[at]!;
    this.waiting[at] = this.waiting[this.waiting.length - 1]!;
    this.waiting.pop();
    return () => this.readValue(entry);
  }

  private async readPage(number: number): Promise<void> {
    this.listing += 1;
    try {
      this.take(await this.page(number));
      this.failuresInARow = 0;
    } catch (error) {
      this.pages.unshift(number);
      this.count(error);
    } finally {
      this.listing -= 1;
    }
    if (!this.pages.length && !this.listing && !this.listComplete && this.stage === "reading") this.endList();
  }

  private async readValue(entry: Entry): Promise<void> {
    let value: Usage | Without;
    try {
      value = readUsage(await valueOf(this.options.api, entry, { signal: this.abort.signal, maxBytes: LARGEST }));
    } catch (error) {
      const without = reasonOf(error);
      const id = entryId(entry);
      if (!without || (without === "unread" && !this.failedOnce.has(id))) {
        if (without) this.failedOnce.add(id);
        this.again(entry);
        this.count(error);
        return;
      }
      value = without;
    }
    this.requested += 1;
    if (value === "unread") this.failedOnce.delete(entryId(entry));
    else this.failuresInARow = 0;
    if (value === "forbidden") return this.forbid(entry);
    if (this.dags.get(entry.dagId) === "asked") {
      if (value === "unread") this.askNext(entry.dagId);
      else this.release(entry.dagId);
    }
    if (typeof value === "object" || value === "not-ours") this.remember(entry, value);
    this.found.settle(entry, value);
  }

  /** Stopped or failed: the entry is still to be read. */
  private again(entry: Entry): void {
    (this.dags.get(entry.dagId) === "asked" ? this.first : this.waiting).push(entry);
  }

  private count(error: unknown): void {
    if (error instanceof ApiError && error.kind === "aborted") return;
    this.failuresInARow += 1;
    const final = error instanceof ApiError && error.kind !== "network" && error.kind !== "server";
    if (final || this.failuresInARow >= FAILURES) {
      this.failuresInARow = 0;
      this.fail(error);
    }
  }

  /** An error of the server's says nothing about permissions. After some, the DAG is left out, and others are read. */
  private askNext(dagId: string): void {
    const held = this.held.get(dagId) ?? [];
    const errors = (this.errorsOf.get(dagId) ?? 0) + 1;
    this.errorsOf.set(dagId, errors);
    const next = held.shift();
    if (next && errors < GIVE_UP) {
      this.first.push(next);
      return;
    }
    this.dags.delete(dagId);
    this.held.delete(dagId);
    for (const entry of next ? [next, ...held] : held) this.found.settle(entry, "unread");
  }

  private release(dagId: string): void {
    this.dags.set(dagId, "readable");
    for (const entry of this.held.get(dagId) ?? []) this.queue(entry);
    this.held.delete(dagId);
  }

  /** Permissions are by DAG: nothing else of this one has to be asked for, or may be shown. */
  private forbid(entry: Entry): void {
    const { dagId } = entry;
    this.dags.set(dagId, "forbidden");
    const rest = this.waiting.filter((one) => one.dagId === dagId);
    const others = this.waiting.filter((one) => one.dagId !== dagId);
    this.waiting.length = 0;
    this.waiting.push(...others);
    for (const one of [entry, ...rest, ...(this.held.get(dagId) ?? [])]) this.found.settle(one, "forbidden");
    this.held.delete(dagId);
  }

  private remember(entry: Entry, value: Usage | "not-ours"): void {
    this.fresh.push([valueKey(entry), value]);
    if (this.fresh.length >= KEEP) this.keep();
  }

  private keep(): void {
    if (!this.fresh.length) return;
    void this.options.cache.keepValues(this.fresh);
    this.fresh = [];
  }
}
