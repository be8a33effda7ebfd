// What is to be seen of a message. Servers send anything: what is not known is kept, and shown as it came.

import { asText, isObject, type Json, type JsonObject, list } from "../lib/api";

export type Block =
  | { kind: "text"; text: string }
  | { kind: "reasoning"; text: string }
  | { kind: "refusal"; text: string }
  | { kind: "picture"; source: string }
  | { kind: "file"; name: string; media: string | null; bytes: number | null }
  | { kind: "attachment"; path: string }
  | { kind: "call"; id: string | null; name: string; args: string }
  | { kind: "citations"; links: { url: string; title: string }[] }
  | { kind: "other"; value: Json };

export interface Turn {
  index: number;
  role: string;
  name: string | null;
  /** The id of the call that a tool's result answers. */
  answers: string | null;
  blocks: Block[];
}

const REASONING = ["reasoning_content", "reasoning", "thinking"];
const ATTACHMENT = /^\[attachment: ([^\]\n]{1,2000})\]$/;

/** A message of a conversation or of a choice. Raises nothing for any JSON. */
export function turnOf(message: Json, index: number): Turn {
  if (!isObject(message)) return { index, role: "unknown", name: null, answers: null, blocks: [{ kind: "other", value: message }] };
  const blocks: Block[] = [
    ...reasoningOf(message),
    ...contentOf(message.content ?? null, asText(message.refusal) === null),
    ...text("refusal", message.refusal),
    ...callsOf(message),
    ...audioOf(message.audio),
    ...citationsOf(message.annotations),
  ];
  return {
    index,
    role: asText(message.role) || "unknown",
    name: asText(message.name),
    answers: asText(message.tool_call_id),
    blocks,
  };
}

function text(kind: "text" | "reasoning" | "refusal", value: Json | undefined): Block[] {
  return typeof value === "string" && value.trim() ? [{ kind, text: value }] : [];
}

function reasoningOf(message: JsonObject): Block[] {
  const found = REASONING.flatMap((name) => text("reasoning", message[name]));
  if (found.length) return found.slice(0, 1); // servers that have two names for it send the same text twice
  const details = list(message.reasoning_details).filter(isObject);
  const words = details.map((one) => asText(one.text) ?? asText(one.summary) ?? "").filter(Boolean);
  return text("reasoning", words.join("\n\n"));
}

function contentOf(content: Json, canBeText: boolean): Block[] {
  if (content === null) return [];
  if (typeof content === "string") return canBeText || content ? thoughtsIn(content) : [];
  if (Array.isArray(content)) return content.flatMap(partOf);
  return [{ kind: "other", value: content }];
}

/** Some servers leave a model's thoughts in its text, between tags. */
function thoughtsIn(content: string): Block[] {
  const thoughts = /^\s*<think(?:ing)?>([\s\S]*?)<\/think(?:ing)?>\s*/.exec(content);
  if (!thoughts) return text("text", content);
  return [...text("reasoning", thoughts[1]), ...text("text", content.slice(thoughts[0].length))];
}

function partOf(part: Json): Block[] {
  if (typeof part === "string") return text("text", part);
  if (!isObject(part)) return [{ kind: "other", value: part }];
  const nested = (name: string) => (isObject(part[name]) ? part[name] : {});
  const words = asText(part.text);
  switch (part.type) {
    case "text":
    case "output_text":
    case "input_text":
      if (words === null) break;
      return ATTACHMENT.test(words) ? [{ kind: "attachment", path: ATTACHMENT.exec(words)![1]! }] : text("text", words);
    case "refusal":
      return text("refusal", part.refusal);
    case "thinking":
    case "reasoning":
      return thinking(part);
    case "image_url":
    case "input_image": {
      const source = asText(part.image_url) ?? asText(nested("image_url").url);
      if (source !== null) return [{ kind: "picture", source }];
      break;
    }
    case "input_audio":
      return [file(`sound.${asText(nested("input_audio").format) ?? "bin"}`, nested("input_audio").data, "audio")];
    case "file":
    case "input_file": {
      const inside = isObject(part.file) ? part.file : part;
      return [file(asText(inside.filename) ?? asText(inside.file_id) ?? "file", inside.file_data, null)];
    }
  }
  return [{ kind: "other", value: part }];
}

function thinking(part: JsonObject): Block[] {
  // Mistral's are lists of text parts.
  const inside = list(part.thinking).filter(isObject).map((one) => asText(one.text) ?? "");
  const words = asText(part.thinking) ?? asText(part.text) ?? inside.join("");
  return words ? text("reasoning", words) : [{ kind: "other", value: part }];
}

function file(name: string, data: Json | undefined, media: string | null): Block {
  if (typeof data !== "string") return { kind: "file", name, media, bytes: null };
  const head = /^data:([^;,]{0,100})[^,]{0,100},/.exec(data);
  const base64 = data.length - (head?.[0].length ?? 0);
  return { kind: "file", name, media: head?.[1] || media, bytes: Math.floor((base64 * 3) / 4) };
}

function callsOf(message: JsonObject): Block[] {
  const found: Block[] = [];
  for (const call of list(message.tool_calls)) {
    if (!isObject(call)) {
      found.push({ kind: "other", value: call });
      continue;
    }
    const kinds = [call.function, call.custom, typeof call.type === "string" ? call[call.type] : null];
    const inside = kinds.find(isObject) ?? call;
    found.push({
      kind: "call",
      id: asText(call.id),
      name: asText(inside.name) ?? "unnamed",
      args: argumentsOf(inside.arguments ?? inside.input),
    });
  }
  if (isObject(message.function_call)) {
    const { name, arguments: args } = message.function_call;
    found.push({ kind: "call", id: null, name: asText(name) ?? "unnamed", args: argumentsOf(args) });
  }
  return found;
}

function argumentsOf(value: Json | undefined): string {
  return typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value);
}

function audioOf(audio: Json | undefined): Block[] {
  if (!isObject(audio)) return [];
  return [file(asText(audio.id) ?? "sound", audio.data, "audio"), ...text("text", audio.transcript)];
}

function citationsOf(annotations: Json | undefined): Block[] {
  const links = list(annotations).flatMap((one) => {
    const citation = isObject(one) && isObject(one.url_citation) ? one.url_citation : isObject(one) ? one : {};
    const url = asText(citation.url);
    return url === null ? [] : [{ url, title: asText(citation.title) ?? "" }];
  });
  return links.length ? [{ kind: "citations", links }] : [];
}

/** The one text of a turn that is nothing but JSON, for showing it laid out. */
export function structured(block: Block): string | null {
  if (block.kind !== "text" || block.text.length > 5_000_000) return null;
  const trimmed = block.text.trim();
  if (!/^[{[]/.test(trimmed)) return null;
  try {
    JSON.parse(trimmed);
    return trimmed;
  } catch {
    return null;
  }
}

export interface Choice {
  message: Json;
  finishReason: string | null;
}

/** The choices of an answer; none if the body is not an answer. */
export function choicesOf(body: Json): Choice[] {
  if (!isObject(body)) return [];
  return list(body.choices)
    .filter(isObject)
    .map((choice) => ({
      message: choice.message ?? (typeof choice.text === "string" ? { role: "assistant", content: choice.text } : null),
      finishReason: asText(choice.finish_reason),
    }));
}

const ONLY_IN_BODY = [...REASONING, "reasoning_details", "annotations", "audio", "refusal"];

/** The reply as the conversation has it, with what a request cannot have: that is in the body alone. */
export function replyWith(message: Json, body: Json): Json {
  const first = choicesOf(body)[0]?.message;
  if (!isObject(message) || !isObject(first) || message.role !== "assistant") return message;
  const more = Object.fromEntries(ONLY_IN_BODY.filter((name) => first[name]).map((name) => [name, first[name]!]));
  return { ...message, ...more };
}

/** What a body says went wrong, if it is an error. */
export function errorIn(body: Json): string | null {
  if (!isObject(body)) return null;
  const { error } = body;
  if (typeof error === "string") return error;
  return isObject(error) ? (asText(error.message) ?? JSON.stringify(error)) : (asText(body.message) ?? asText(body.detail));
}

/** Names of calls by their ids, and where a call's result is. */
export function callsById(turns: Turn[]): Map<string, { name: string; called: number; answered: number | null }> {
  const found = new Map<string, { name: string; called: number; answered: number | null }>();
  for (const turn of turns) {
    for (const block of turn.blocks) {
      if (block.kind === "call" && block.id) found.set(block.id, { name: block.name, called: turn.index, answered: null });
    }
    const call = turn.answers === null ? undefined : found.get(turn.answers);
    if (call) call.answered ??= turn.index;
  }
  return found;
}
