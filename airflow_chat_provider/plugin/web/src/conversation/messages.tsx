// The conversation: the last messages first, and earlier ones when they are asked for.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Json } from "../lib/api";
import { Badge, CopyButton, Guard } from "../lib/components";
import { JsonBlock } from "../lib/code";
import { count, plural } from "../lib/format";
import { shortened } from "../lib/links";
import { visible } from "../lib/text";
import { BlockView, type Calls } from "./blocks";
import { callsById, type Turn, turnOf } from "./turns";

const AT_ONCE = 200;

const ROLES = new Map([
  ["system", "System"],
  ["developer", "Developer"],
  ["user", "User"],
  ["assistant", "Assistant"],
  ["tool", "Tool result"],
  ["function", "Function result"],
]);

export function Messages({ messages, replyAt }: { messages: Json[]; replyAt: number | null }) {
  const [from, setFrom] = useState(() => Math.max(0, messages.length - AT_ONCE));
  const begin = Math.min(from, messages.length);
  const turns = useMemo(() => messages.map(turnSafely), [messages]);
  const calls = useMemo(() => callsById(turns), [turns]);
  const listRef = useRef<HTMLOListElement>(null);
  useKeys(listRef);
  useEffect(() => {
    // A link to a message that is not shown yet shows it first.
    const find = () => {
      const at = Number(/^#message-(\d{1,7})$/.exec(location.hash)?.[1]) - 1;
      if (!(at >= 0) || at >= messages.length) return;
      setFrom((now) => Math.min(now, Math.max(0, at - 5)));
      setTimeout(() => document.getElementById(`message-${at + 1}`)?.focus(), 50);
    };
    find();
    addEventListener("hashchange", find);
    return () => removeEventListener("hashchange", find);
  }, [messages.length]);
  const earlier = () => {
    const first = listRef.current?.querySelector<HTMLElement>(".message");
    const before = first?.getBoundingClientRect().top ?? 0;
    setFrom(Math.max(0, begin - AT_ONCE));
    // What was at the top stays where it is, under the reader's eyes.
    setTimeout(() => first && scrollBy(0, first.getBoundingClientRect().top - before), 0);
  };
  return (
    <section class="stack" aria-label="Messages">
      {begin > 0 ? (
        <p class="row earlier no-print">
          <button type="button" class="button" onClick={earlier}>
            Show {count(Math.min(AT_ONCE, begin))} earlier
          </button>
          <span class="muted">
            Messages {count(begin + 1)} to {count(messages.length)} of {count(messages.length)}
          </span>
        </p>
      ) : null}
      <ol class={`messages ${turns.length - begin > 120 ? "many" : ""}`} ref={listRef} start={begin + 1}>
        {turns.slice(begin).map((turn) => (
          <li key={turn.index}>
            <Guarded message={messages[turn.index]!}>
              <MessageView turn={turn} calls={calls} message={messages[turn.index]!} isReply={turn.index === replyAt} />
            </Guarded>
          </li>
        ))}
      </ol>
    </section>
  );
}

function turnSafely(message: Json, index: number): Turn {
  try {
    return turnOf(message, index);
  } catch {
    return { index, role: "unknown", name: null, answers: null, blocks: [{ kind: "other", value: message }] };
  }
}

/** A message that cannot be shown as such is shown as it is, and the others as usual. */
export function Guarded({ message, children }: { message: Json; children: ComponentChildren }) {
  return (
    <Guard
      fallback={(error) => (
        <article class="message" tabIndex={-1}>
          <p class="muted">This message could not be shown ({error.name}). This is its content:</p>
          <JsonBlock value={message} label="Message" />
        </article>
      )}
    >
      {children}
    </Guard>
  );
}

interface ViewProps {
  turn: Turn;
  calls: Calls;
  message: Json;
  isReply?: boolean;
  title?: string;
  note?: ComponentChildren;
}

export function MessageView({ turn, calls, message, isReply = false, title, note }: ViewProps) {
  const role = ROLES.has(turn.role) ? turn.role : "other";
  const called = turn.answers === null ? undefined : calls.get(turn.answers);
  const name = turn.name ?? called?.name ?? null;
  const label = title ?? (isReply ? "Reply" : (ROLES.get(turn.role) ?? shortened(turn.role, 40)));
  return (
    <article
      class={`message role-${role} ${isReply ? "is-reply" : ""}`}
      id={title ? undefined : `message-${turn.index + 1}`}
      tabIndex={-1}
      aria-label={`${label}${title ? "" : `, message ${turn.index + 1}`}`}
    >
      <header class="message-head">
        <h3>
          {visible(label)}
          {name ? <span class="message-name foreign"> {visible(shortened(name, 80))}</span> : null}
        </h3>
        {isReply ? <Badge tone="info">assistant</Badge> : null}
        {note}
        <span class="message-tools no-print">
          {called ? (
            <a href={`#message-${called.called + 1}`} class="muted">
              call in message {called.called + 1}
            </a>
          ) : null}
          {title ? null : <span class="muted" aria-hidden="true">{turn.index + 1}</span>}
          <CopyButton text={() => plainText(turn, message)} />
        </span>
      </header>
      <div class="message-body stack">
        {turn.blocks.length ? (
          turn.blocks.map((block, at) => <BlockView key={at} block={block} role={turn.role} calls={calls} />)
        ) : (
          <p class="unknown">nothing was said</p>
        )}
      </div>
    </article>
  );
}

function plainText(turn: Turn, message: Json): string {
  const texts = turn.blocks.flatMap((block) => (block.kind === "text" ? [block.text] : []));
  return texts.length ? texts.join("\n\n") : JSON.stringify(message, null, 2);
}

/** j and k go from message to message, Enter opens and closes the folds of the one that has the focus. */
function useKeys(list: { current: HTMLElement | null }) {
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !list.current) return;
      const target = event.target as HTMLElement;
      if (/^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName)) return;
      const focused = target.closest<HTMLElement>(".message");
      if (event.key === "Enter" && target === focused) return toggle(focused);
      if (event.key !== "j" && event.key !== "k") return;
      const all = [...list.current.querySelectorAll<HTMLElement>(".message")];
      const at = focused ? all.indexOf(focused) : event.key === "j" ? -1 : all.length;
      const next = all[at + (event.key === "j" ? 1 : -1)];
      if (!next) return;
      event.preventDefault();
      next.focus();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [list]);
}

function toggle(message: HTMLElement) {
  const folds = [...message.querySelectorAll("details")];
  const open = !folds.every((fold) => fold.open);
  for (const fold of folds) fold.open = open;
}

/** Choices beyond the first, which the conversation does not have. */
export function OtherChoices({ choices }: { choices: { message: Json; finishReason: string | null }[] }) {
  if (choices.length < 2) return null;
  return (
    <section class="stack" aria-label="Other choices">
      <h2>{plural(choices.length - 1, "other choice")}</h2>
      {choices.slice(1, 50).map(({ message, finishReason }, at) => (
        <Guarded key={at} message={message}>
          <MessageView
            turn={turnSafely(message, at)}
            calls={new Map()}
            message={message}
            title={`Choice ${at + 2} of ${choices.length}`}
            note={finishReason ? <Badge tone={finishReason === "stop" ? "neutral" : "warning"}>{visible(finishReason)}</Badge> : null}
          />
        </Guarded>
      ))}
    </section>
  );
}
