// What was asked, as far as Airflow's rendered fields say it, and the request as a curl command.

import { asText, isObject, type Json, type JsonObject, list } from "../lib/api";

const CUT = /^Truncated\. You can change this behaviour/;

interface Field {
  value: Json;
  isCut: boolean;
}

/** A rendered field as a value. Airflow keeps long ones as text that is cut. */
function field(fields: JsonObject, name: string): Field {
  const value = fields[name] ?? null;
  if (typeof value !== "string") return { value, isCut: false };
  if (CUT.test(value)) return { value, isCut: true };
  if (/^\s*[[{]/.test(value)) {
    try {
      return { value: JSON.parse(value) as Json, isCut: false };
    } catch {
      // Text that only looks like JSON.
    }
  }
  return { value: value === "None" ? null : value, isCut: false };
}

export interface Asked {
  /** Empty if nothing is known. */
  messages: Json[];
  /** The request's parameters, without its messages. Null if they are not known. */
  parameters: JsonObject | null;
  /** The names of fields that Airflow cut. */
  cut: string[];
}

/** What the rendered fields say was asked, in the order in which the operator puts it together. */
export function askedOf(fields: JsonObject | undefined): Asked {
  const found = (name: string) => field(fields ?? {}, name);
  const names = ["request", "messages", "prompt", "system_prompt", "model"];
  const cut = names.filter((name) => found(name).isCut);
  const request = found("request").value;
  const isKnown = !cut.includes("request") && (request === null || isObject(request));
  const { messages: inside, ...parameters } = isObject(request) ? request : {};
  const model = found("model").value;
  if (typeof model === "string") parameters.model = model;
  // Once a task runs, its field `request` has the messages and the model of the other arguments in it.
  const messages = list(inside).length ? list(inside) : putTogether(found("messages"), found("system_prompt").value, found("prompt").value);
  return { messages, parameters: isKnown && fields ? parameters : null, cut };
}

function putTogether(given: Field, system: Json, prompt: Json): Json[] {
  const messages = Array.isArray(given.value) ? [...given.value] : [];
  if (given.isCut) messages.push({ role: "messages", content: given.value });
  if (system !== null) messages.unshift({ role: "system", content: system });
  if (prompt !== null) messages.push({ role: "user", content: prompt });
  return messages;
}

export interface Curl {
  command: string;
  unknown: string[];
}

/** The request as a command, without the key. `messages` are those that were sent. */
export function curlOf(configuration: JsonObject, messages: Json[], asked: Asked): Curl {
  const unknown: string[] = [];
  let base = asText(configuration.base_url);
  if (base === null) {
    base = "https://BASE_URL";
    unknown.push("the base URL of the connection");
  }
  if (asked.parameters === null) unknown.push("the parameters of the request");
  const model = asked.parameters?.model ?? configuration.model;
  if (!model) unknown.push("the model");
  unknown.push("an endpoint, a query and headers of the connection, and what a response_schema adds");
  const request = { ...asked.parameters, model: model || "MODEL", messages };
  if (hasAttachments(messages)) unknown.push("the content of attachments");
  const body = safeJson(request);
  const lines = [
    `curl ${quoted(`${base.replace(/\/+$/, "")}/chat/completions`)}`,
    `  -H 'content-type: application/json'`,
    `  -H "authorization: Bearer $API_KEY"`,
    `  --data-binary ${quoted(body)}`,
  ];
  return { command: lines.join(" \\\n"), unknown };
}

function hasAttachments(messages: Json[]): boolean {
  return messages.some(
    (message) =>
      isObject(message) &&
      list(message.content).some((part) => isObject(part) && /^\[attachment: /.test(asText(part.text) ?? "")),
  );
}

/** JSON in which every character that a terminal may act on, or that cannot be seen, is written as an escape. */
function safeJson(value: unknown): string {
  return JSON.stringify(value, null, 1).replace(/[\u007f-\u00a0\u00ad\u0600-\u0605\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u2028-\u202f\u205f-\u206f\u3164\ufe00-\ufe0f\ufeff\ufff9-\ufffb]|\udb40[\udc00-\udfff]/g, (found) =>
    Array.from({ length: found.length }, (_, at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, "0")}`).join(""),
  );
}

/** Text in single quotes for a shell. What a terminal would act on becomes a question mark: URLs have none of it. */
function quoted(text: string): string {
  return `'${text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/g, "?").replaceAll("'", `'\\''`)}'`;
}
