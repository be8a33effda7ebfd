// What both pages are made of: notices, buttons, folds, facts. Text comes in as text and goes out as text nodes.

import { Component, type ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, airflowPages } from "./api";
import { bytes, UNKNOWN } from "./format";

type Children = { children?: ComponentChildren };
export type Tone = "error" | "warning" | "info" | "success" | "neutral";

/** Airflow shows our pages in a frame that may open no window and lead nowhere else. */
export const inFrame = typeof window !== "undefined" && window.parent !== window;

/** Something to be said in the place where it matters. */
export function Notice({ tone = "info", title, children }: { tone?: Tone; title: string } & Children) {
  return (
    <div class={`notice tone-${tone}`} role={tone === "error" ? "alert" : undefined}>
      <p class="notice-title">{title}</p>
      {children ? <div class="notice-body">{children}</div> : null}
    </div>
  );
}

/** What a failed request means for the reader. `what` names what was asked for, e.g. "the messages". */
export function explain(error: unknown, what: string): { tone: Tone; title: string; text: string } {
  if (!(error instanceof ApiError)) {
    const said = error instanceof Error ? error.message : String(error);
    return { tone: "error", title: `This page failed to show ${what}.`, text: said };
  }
  const said = error.detail ? `Airflow says: ${error.detail}` : "";
  switch (error.kind) {
    case "signed-out":
      return { tone: "warning", title: "Sign in to Airflow again.", text: `Your session has ended, so ${what} cannot be read.` };
    case "forbidden":
      return {
        tone: "warning",
        title: `You may not see ${what}.`,
        text: ["Ask an administrator of Airflow for permission to read the XComs of this DAG.", said].join(" ").trim(),
      };
    case "missing":
      return { tone: "info", title: `Airflow does not have ${what}.`, text: said };
    case "too-large":
      return {
        tone: "warning",
        title: `Too large to be shown here: ${what}.`,
        text: error.bytes ? `More than ${bytes(error.bytes - 1)} came, and reading stopped.` : "",
      };
    case "network":
      return {
        tone: "error",
        title: `Try again: ${what} could not be read.`,
        text: `Airflow's API server did not answer. The browser says: ${error.detail}`,
      };
    case "unreadable":
      return { tone: "error", title: `Airflow's answer about ${what} cannot be read.`, text: error.detail };
    case "aborted":
      return { tone: "info", title: `Reading ${what} was stopped.`, text: "" };
    default:
      return { tone: "error", title: `Airflow failed to answer for ${what}.`, text: `Status ${error.status}. ${said}` };
  }
}

export function ErrorNotice({ error, what, retry }: { error: unknown; what: string; retry?: () => void }) {
  const { tone, title, text } = explain(error, what);
  const kind = error instanceof ApiError ? error.kind : null;
  return (
    <Notice tone={tone} title={title}>
      {text ? <p class="foreign">{text}</p> : null}
      {kind === "signed-out" ? <SignIn /> : null}
      {retry && kind !== "forbidden" ? (
        <button type="button" class="button" onClick={retry}>
          Try again
        </button>
      ) : null}
    </Notice>
  );
}

function SignIn() {
  // A sign-in page inside the frame would stand in Airflow's own page, where that page's session has ended as well.
  if (inFrame) return <p>Reload the whole Airflow page in the browser to sign in.</p>;
  return (
    <p>
      <AirflowLink to={airflowPages.root}>Go to Airflow</AirflowLink>, sign in, and come back to this page.
    </p>
  );
}

/**
 * A link to a page of Airflow's UI. In Airflow's frame it leads the whole page there: the click happens in the parent's
 * document, which is of the same origin, because a link of the frame's own would open Airflow inside Airflow.
 */
export function AirflowLink({ to, children, ...rest }: { to: string; class?: string; title?: string } & Children) {
  const lead = (event: MouseEvent) => {
    if (!inFrame || event.defaultPrevented || event.button !== 0) return;
    event.preventDefault();
    openFromParent(new URL(to, location.href).href, event.ctrlKey || event.metaKey || event.shiftKey);
  };
  return (
    <a {...rest} href={to} onClick={lead}>
      {children}
    </a>
  );
}

/** Follow a link as if it stood in the page that holds our frame. */
export function openFromParent(href: string, newTab: boolean): void {
  try {
    const link = window.parent.document.createElement("a");
    link.href = href;
    link.rel = "noopener noreferrer";
    if (newTab) link.target = "_blank";
    link.click();
  } catch {
    location.href = href;
  }
}

/** Says that something is being read, to screen readers too. */
export function Loading({ what }: { what: string }) {
  return (
    <p class="loading" role="status">
      <span class="spinner" aria-hidden="true" /> Reading {what}…
    </p>
  );
}

export function CopyButton({ text, label = "Copy" }: { text: string | (() => string); label?: string }) {
  const [state, setState] = useState<"" | "Copied" | "Not copied">("");
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    const copied = await copyText(typeof text === "string" ? text : text());
    setState(copied ? "Copied" : "Not copied");
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setState(""), 2000);
  };
  return (
    <button type="button" class="button small copy" onClick={copy}>
      <span aria-live="polite">{state || label}</span>
    </button>
  );
}

/** Whether the text is in the clipboard now. The clipboard's API is missing over plain HTTP, and in Airflow's frame. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "off-screen";
    area.setAttribute("aria-hidden", "true");
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}

/** Gives the text to the reader as a file. Airflow's frame allows that from 3.3 on; before, the page around it does. */
export function download(name: string, text: string, type = "application/json"): void {
  const url = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = (inFrame ? window.parent.document : document).createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** A fold whose content is made when it is opened first. */
export function Fold({
  summary,
  children,
  open = false,
  class: name = "",
}: {
  summary: ComponentChildren;
  children: () => ComponentChildren;
  open?: boolean;
  class?: string;
}) {
  const [seen, setSeen] = useState(open);
  return (
    <details class={`fold ${name}`} open={open} onToggle={(event) => event.currentTarget.open && setSeen(true)}>
      <summary>{summary}</summary>
      {seen ? <div class="fold-body">{children()}</div> : null}
    </details>
  );
}

/** A name and a value. Null and undefined are unknown. */
export function Fact({ name, title, wide = false, children }: { name: string; title?: string; wide?: boolean } & Children) {
  // Beside a value there may be a smaller text: whether it is known, the first one says.
  const first = [children].flat().find((child) => child !== null && child !== undefined && child !== "");
  const known = first !== undefined;
  return (
    <div class={`fact ${wide ? "wide" : ""}`}>
      <dt title={title}>{name}</dt>
      <dd class={known && first !== UNKNOWN ? "" : "unknown"}>{known ? children : UNKNOWN}</dd>
    </div>
  );
}

export function Facts({ children, label }: { label?: string } & Children) {
  return (
    <dl class="facts" aria-label={label}>
      {children}
    </dl>
  );
}

export function Badge({ tone = "neutral", children }: { tone?: Tone } & Children) {
  return <span class={`badge tone-${tone}`}>{children}</span>;
}

const STATES: Record<string, Tone> = {
  success: "success",
  failed: "error",
  upstream_failed: "error",
  running: "info",
  deferred: "info",
  queued: "neutral",
  scheduled: "neutral",
  up_for_retry: "warning",
  up_for_reschedule: "warning",
  restarting: "warning",
  skipped: "neutral",
  removed: "neutral",
};

export function State({ state }: { state: string | null }) {
  return <Badge tone={STATES[state ?? ""] ?? "neutral"}>{(state ?? "no status").replaceAll("_", " ")}</Badge>;
}

const ICONS = {
  file: "M4 1.5h5.5L13 5v9.5H4zM9.5 1.5V5H13",
  clip: "M11.5 6.5 7 11a1.8 1.8 0 0 1-2.6-2.6l5.2-5.2a2.8 2.8 0 0 1 4 4l-5.4 5.4a4 4 0 0 1-5.6-5.6L7.5 2.3",
  picture: "M2 3h12v10H2zM2 11l3.5-3.5 3 3L11 8l3 3M5.5 5.9a.6.6 0 1 0 0-.1",
};

export function Icon({ name }: { name: keyof typeof ICONS }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="1.3" aria-hidden="true">
      <path d={ICONS[name]} />
    </svg>
  );
}

/** A bar of how much is done, with the numbers as its name. */
export function Progress({ done, failed = 0, total, label }: { done: number; failed?: number; total: number; label: string }) {
  const share = (part: number) => `${total ? Math.min(100, (100 * part) / total) : 0}%`;
  return (
    <div class="progress" role="progressbar" aria-label={label} aria-valuemin={0} aria-valuemax={total} aria-valuenow={done + failed}>
      <span class="progress-done" style={{ width: share(done) }} />
      <span class="progress-failed" style={{ width: share(failed) }} />
    </div>
  );
}

/** Shows `fallback` where showing the children raises, so that one message cannot take the page with it. */
export class Guard extends Component<{ fallback: (error: Error) => ComponentChildren } & Children, { error: Error | null }> {
  override state = { error: null };
  static getDerivedStateFromError(error: unknown) {
    return { error: error instanceof Error ? error : new Error(String(error)) };
  }
  override render() {
    return this.state.error ? this.props.fallback(this.state.error) : this.props.children;
  }
}
