// Code and JSON, with colours. The colours are elements of our own: no HTML is made from text.

import { createLowlight } from "lowlight";
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import markdown from "highlight.js/lib/languages/markdown";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import type { ComponentChild } from "preact";
import { useMemo, useState } from "preact/hooks";
import { CopyButton } from "./components";
import { plural } from "./format";
import { LongText, visible } from "./text";

const lowlight = createLowlight({
  bash, c, css, diff, go, java, javascript, markdown, python, rust, sql, typescript, xml, yaml,
});
const MOST = 30_000; // characters that are coloured
const FOLDED_LINES = 40;

interface HastNode {
  type: string;
  value?: string;
  properties?: { className?: unknown };
  children?: HastNode[];
}

function nodes(children: HastNode[] | undefined): ComponentChild[] {
  return (children ?? []).flatMap((node) => {
    if (node.type === "text") return visible(node.value ?? "");
    if (node.type !== "element") return [];
    const names = Array.isArray(node.properties?.className) ? node.properties.className : [];
    return [<span class={names.filter((name) => /^[\w-]+$/.test(String(name))).join(" ")}>{nodes(node.children)}</span>];
  });
}

/** Code as nodes; without colours if its language is unknown, or if it is long. */
export function highlighted(code: string, language: string): ComponentChild[] {
  if (/^(json|jsonc|json5|jsonl)$/.test(language) && code.length <= MOST) return jsonNodes(code);
  if (!language || code.length > MOST || !lowlight.registered(language)) return visible(code);
  try {
    return nodes(lowlight.highlight(language, code).children as HastNode[]);
  } catch {
    return visible(code);
  }
}

export function CodeBlock({ code, language = "", label }: { code: string; language?: string; label?: string }) {
  const [whole, setWhole] = useState(false);
  const name = /^[\w+#.-]{1,30}$/.test(language) ? language.toLowerCase() : "";
  const end = whole ? code.length : foldAt(code);
  const shown = useMemo(() => (code.length > MOST && whole ? null : highlighted(code.slice(0, end), name)), [code, end, name]);
  return (
    <figure class="code" aria-label={label ?? (name ? `Code, ${name}` : "Code")}>
      <figcaption class="code-head">
        <span>{label ?? name}</span>
        <CopyButton text={code} />
      </figcaption>
      {shown === null ? (
        <LongText text={code} mono />
      ) : (
        <pre dir="ltr" tabIndex={0}>
          <code class="foreign">{shown}</code>
        </pre>
      )}
      {end < code.length ? (
        <button type="button" class="button small code-more no-print" onClick={() => setWhole(true)}>
          Show all {plural(lines(code), "line")}
        </button>
      ) : null}
    </figure>
  );
}

/** A value as JSON, or the JSON text as it was stored: numbers keep every digit. */
export function JsonBlock({ value, text, label = "JSON" }: { value?: unknown; text?: string; label?: string }) {
  const pretty = useMemo(() => (text === undefined ? (JSON.stringify(value, null, 2) ?? "null") : prettyJson(text)), [value, text]);
  return <CodeBlock code={pretty} language="json" label={label} />;
}

function lines(code: string): number {
  let found = 1;
  for (let at = code.indexOf("\n"); at >= 0; at = code.indexOf("\n", at + 1)) found += 1;
  return found;
}

function foldAt(code: string): number {
  let at = -1;
  for (let line = 0; line < FOLDED_LINES; line += 1) {
    at = code.indexOf("\n", at + 1);
    if (at < 0) return Math.min(code.length, MOST);
  }
  return code.length - at < 200 ? code.length : Math.min(at, MOST);
}

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** JSON text with line breaks and indentation. It is not parsed, so that nothing in it changes; other text stays. */
export function prettyJson(text: string): string {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  const found: string[] = [];
  let depth = 0;
  const newline = () => found.push("\n", "  ".repeat(Math.min(depth, 40)));
  let before = "";
  for (const [token] of text.matchAll(TOKEN)) {
    const closes = token === "}" || token === "]";
    if (closes) depth -= 1;
    const isEmpty = closes && (before === "{" || before === "[");
    if (before && before !== ":" && token !== "," && token !== ":" && !isEmpty) newline();
    found.push(token);
    if (token === ":") found.push(" ");
    if (token === "{" || token === "[") depth += 1;
    before = token;
  }
  return found.join("");
}

const PARTS = /("(?:[^"\\\n]|\\.)*")(\s*:)?|\b(true|false|null)\b|-?\b\d[\d.eE+-]*/g;

function jsonNodes(code: string): ComponentChild[] {
  const found: ComponentChild[] = [];
  let from = 0;
  for (const match of code.matchAll(PARTS)) {
    if (match.index > from) found.push(...visible(code.slice(from, match.index)));
    const kind = match[1] ? (match[2] ? "attr" : "string") : match[3] ? "literal" : "number";
    const [token, rest] = match[2] ? [match[1]!, match[2]] : [match[0], ""];
    found.push(<span class={`hljs-${kind}`}>{visible(token)}</span>, rest);
    from = match.index + match[0].length;
  }
  if (from < code.length) found.push(...visible(code.slice(from)));
  return found;
}
