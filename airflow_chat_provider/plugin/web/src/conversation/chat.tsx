// The conversation of a chat completion, from the XCom `messages` or from what else is known of it.

import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { isObject, type Json, type TaskInstance } from "../lib/api";
import { Badge, Notice } from "../lib/components";
import { askedOf, curlOf } from "./asked";
import { Guarded, MessageView, Messages, OtherChoices } from "./messages";
import { CopyCurl, PartNotice, WrongShape } from "./raw";
import { kindOf, objectOf, type Reader, type Task, valueOf } from "./task";
import { choicesOf, replyWith, turnOf } from "./turns";

interface Conversation {
  messages: Json[];
  replyAt: number | null;
}

/** The conversation with the reply, where the XCom `messages` is a list. */
function fromXCom(value: Json | undefined, body: Json): Conversation | null {
  if (!Array.isArray(value)) return null;
  const last = value.length - 1;
  const isReply = last >= 0 && isObject(value[last]) && value[last].role === "assistant";
  if (!isReply) return { messages: value, replyAt: null };
  return { messages: [...value.slice(0, last), replyWith(value[last]!, body)], replyAt: last };
}

export function Chat({ reader, instance }: { reader: Reader; instance: TaskInstance | null }) {
  const { task } = reader;
  const stored = valueOf(task, "messages");
  const body = valueOf(task, "body") ?? null;
  const choices = useMemo(() => choicesOf(body), [body]);
  const conversation = useMemo(() => fromXCom(stored, body), [stored, body]);
  const asked = useMemo(() => askedOf(instance?.rendered_fields), [instance?.rendered_fields]);
  const sent = conversation
    ? conversation.messages.slice(0, conversation.replyAt ?? undefined)
    : asked.messages;
  return (
    <>
      {conversation ? (
        <Told {...conversation} />
      ) : (
        <Instead reader={reader} asked={asked.messages} cut={asked.cut} reply={choices[0]?.message ?? null} />
      )}
      <OtherChoices choices={choices} />
      {sent.length ? <CopyCurl curl={curlOf(objectOf(task, "configuration"), sent, asked)} /> : null}
    </>
  );
}

function Told({ messages, replyAt }: Conversation) {
  if (!messages.length) return <Notice title="The conversation has no messages." />;
  return (
    <>
      <h2>The conversation</h2>
      <Messages messages={messages} replyAt={replyAt} />
    </>
  );
}

interface InsteadProps {
  reader: Reader;
  asked: Json[];
  cut: string[];
  reply: Json;
}

/** Without the XCom `messages`: why it is not there, what was asked by the rendered fields, and the reply in the body. */
function Instead({ reader, asked, cut, reply }: InsteadProps) {
  const { task } = reader;
  const part = task.xcoms.messages ?? { state: "reading" as const };
  const value = valueOf(task, "messages");
  const isRefused = task.instance.state === "here" && task.instance.value.state !== "success";
  const shown = [...asked, ...(reply === null ? [] : [reply])];
  let why: ComponentChildren = null;
  if (value !== undefined) why = <WrongShape name="messages" value={value} />;
  else if (part.state === "absent") why = kindOf(task) === "other" ? null : <Absent task={task} asked={asked.length} />;
  else why = <PartNotice part={part} name="messages" read={() => reader.read("messages")} />;
  if (part.state === "reading") return <>{why}</>;
  return (
    <>
      {why}
      {cut.length ? <p class="muted">Airflow keeps the beginning only of these fields: {cut.join(", ")}.</p> : null}
      {shown.length ? (
        <section class="stack" aria-label="Messages">
          <h2>What is known of the conversation</h2>
          <ol class="messages">
            {shown.map((message, at) => (
              <li key={at}>
                <Guarded message={message}>
                  <MessageView
                    turn={turnOf(message, at)}
                    calls={new Map()}
                    message={message}
                    isReply={reply !== null && at === shown.length - 1}
                    note={reply === message && isRefused ? <Badge tone="warning">not accepted</Badge> : null}
                  />
                </Guarded>
              </li>
            ))}
          </ol>
        </section>
      ) : null}
    </>
  );
}

function Absent({ task, asked }: { task: Task; asked: number }) {
  const state = task.instance.state === "here" ? task.instance.value.state : null;
  const fields = asked ? " What follows is what Airflow's rendered fields say was asked." : "";
  if (state !== "success") {
    const ended = state === "failed" || state === "up_for_retry";
    return ended && asked ? <p class="muted">A task that fails leaves no list of messages.{fields}</p> : null;
  }
  return (
    <Notice title="The task left no messages.">
      <p>
        It has push_messages=False, or its XComs were cleared.{fields}
      </p>
    </Notice>
  );
}
