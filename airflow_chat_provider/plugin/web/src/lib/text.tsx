// Text from models: what cannot be seen in it is made visible, and large ones come in pieces.

import type { ComponentChild } from "preact";
import { useState } from "preact/hooks";
import { bytes } from "./format";

// Controls, marks that reorder text, characters without width, and the tags with which text can be hidden.
const INVISIBLE =
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/u;
const RUNS = new RegExp(`${INVISIBLE.source}+`, "gu");
const EMOJI = /[\p{Extended_Pictographic}\p{Emoji_Modifier}\u20e3\d#*]$/u;
const JOINING = /[\p{Script=Arabic}\p{Script=Devanagari}\p{Script=Bengali}\p{Script=Tamil}\p{Script=Sinhala}\p{Script=Malayalam}\p{Script=Kannada}\p{Script=Telugu}\p{Mn}]$/u;

const NAMES: Record<number, string> = {
  0x00: "NUL",
  0x08: "BS",
  0x1b: "ESC",
  0x7f: "DEL",
  0xad: "SHY",
  0x200b: "ZWSP",
  0x200c: "ZWNJ",
  0x200d: "ZWJ",
  0x200e: "LRM",
  0x200f: "RLM",
  0x061c: "ALM",
  0x2028: "LS",
  0x2029: "PS",
  0x202a: "LRE",
  0x202b: "RLE",
  0x202c: "PDF",
  0x202d: "LRO",
  0x202e: "RLO",
  0x2060: "WJ",
  0x2066: "LRI",
  0x2067: "RLI",
  0x2068: "FSI",
  0x2069: "PDI",
  0xfeff: "BOM",
};

export type Piece = string | { mark: string; title: string };

/** The text with a mark in the place of each run of characters that cannot be seen. */
export function pieces(text: string): Piece[] {
  if (!INVISIBLE.test(text)) return text ? [text] : [];
  const found: Piece[] = [];
  let [from, kept] = [0, ""];
  for (const match of text.matchAll(RUNS)) {
    const [run, at] = [match[0], match.index];
    if (isOrdinary(run, text.slice(Math.max(0, at - 4), at))) continue;
    kept = text.slice(from, at);
    if (kept) found.push(kept);
    found.push(markOf(run));
    from = at + run.length;
  }
  if (from < text.length) found.push(text.slice(from));
  return found;
}

/** Emoji are put together with such characters, and some scripts write with them. */
function isOrdinary(run: string, before: string): boolean {
  if (run === "\ufe0f" || run === "\ufe0f\u200d" || run === "\u200d") {
    return EMOJI.test(before) || (run === "\u200d" && JOINING.test(before));
  }
  return run === "\u200c" && JOINING.test(before);
}

function markOf(run: string): Piece {
  const codes = Array.from(run, (char) => char.codePointAt(0)!);
  const hidden = codes.filter((code) => code > 0xe001f && code < 0xe007f).map((code) => String.fromCharCode(code - 0xe0000));
  const shown = codes.slice(0, 8).map((code) => `U+${code.toString(16).toUpperCase().padStart(4, "0")}`);
  const more = codes.length > 8 ? ` and ${codes.length - 8} more` : "";
  const title = `Cannot be seen: ${shown.join(" ")}${more}${hidden.length ? `, hidden text: ${hidden.join("").slice(0, 200)}` : ""}`;
  if (hidden.length) return { mark: `hidden: ${hidden.join("").slice(0, 60)}`, title };
  if (codes.length > 3) return { mark: `${codes.length} invisible`, title };
  return { mark: codes.map((code, at) => NAMES[code] ?? shown[at]).join(" "), title };
}

/** Text as nodes. Every text of a model passes here, in code and links too. */
export function visible(text: string): ComponentChild[] {
  return pieces(text).map((piece) =>
    typeof piece === "string" ? (
      piece
    ) : (
      <span class="mark" title={piece.title}>
        {piece.mark}
      </span>
    ),
  );
}

/** The text as it is, in lines, isolated from what is around it. */
export function PlainText({ text }: { text: string }) {
  return (
    <div class="plain foreign" dir="auto">
      {visible(text)}
    </div>
  );
}

export const PIECE = 40_000;
const ALL = 2_000_000; // characters that a browser lays out without a pause that hurts

/** Where the next piece of a large text ends: behind a line if there is one, and never inside of a character. */
export function pieceEnd(text: string, from: number, size = PIECE): number {
  let end = from + size;
  if (end >= text.length) return text.length;
  const line = text.lastIndexOf("\n", end);
  if (line > from + size / 2) return line + 1;
  const code = text.charCodeAt(end);
  if (code >= 0xdc00 && code <= 0xdfff) end += 1;
  return end;
}

/** A large text, piece by piece. */
export function LongText({ text, mono = false }: { text: string; mono?: boolean }) {
  const [shown, setShown] = useState(() => [pieceEnd(text, 0)]);
  const last = shown.at(-1)!;
  return (
    <div class="long">
      {shown.map((end, at) => (
        <div key={end} class={`plain foreign ${mono ? "mono" : ""}`} dir={mono ? "ltr" : "auto"}>
          {visible(text.slice(at ? shown[at - 1] : 0, end))}
        </div>
      ))}
      {last < text.length ? (
        <p class="row no-print">
          <button type="button" class="button small" onClick={() => setShown([...shown, pieceEnd(text, last)])}>
            Show more
          </button>
          {text.length <= ALL ? (
            <button type="button" class="button small" onClick={() => setShown([...shown, text.length])}>
              Show all
            </button>
          ) : null}
          <span class="muted">
            {bytes(last)} of {bytes(text.length)}
          </span>
        </p>
      ) : null}
    </div>
  );
}
