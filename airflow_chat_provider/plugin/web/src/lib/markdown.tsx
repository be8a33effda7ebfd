// Markdown of models. markdown-it finds the structure; the elements are made here, each of a kind that is listed here.
// HTML in the text stays text, no picture is loaded, and links are those of links.tsx.

import MarkdownIt from "markdown-it";
import { type ComponentChild, h } from "preact";
import { useEffect, useState } from "preact/hooks";
import { CodeBlock } from "./code";
import { ForeignLink, hostOf } from "./links";
import { LongText, PlainText, visible } from "./text";

type Token = ReturnType<(typeof parser)["parse"]>[number];

export const MOST = 100_000; // characters that are read as Markdown
const MOST_TOKENS = 20_000;
const DEEPEST_BLOCK = 90;
const DEEPEST = 32; // elements inside of each other

const parser = new MarkdownIt({ html: false, linkify: true, breaks: true });
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
// Whether a link may be followed is decided where its element is made. Here everything passes, for what is refused is
// to be seen as such. Addresses stay as they were written.
parser.validateLink = () => true;
parser.normalizeLink = (url) => url;
parser.normalizeLinkText = (url) => url;

const ELEMENTS = new Set(
  "p h1 h2 h3 h4 h5 h6 blockquote ul ol li em strong s table thead tbody tr th td".split(" "),
);

/** The Markdown as nodes; null if it has too many parts, or is nested too deeply. */
export function markdownNodes(text: string): ComponentChild[] | null {
  const tokens = parser.parse(text, {});
  if (tokens.length > MOST_TOKENS) return null;
  let parts = 0;
  for (const token of tokens) {
    parts += token.children?.length ?? 0;
    if (token.level > DEEPEST_BLOCK) return null; // the parser leaves out what is inside of a hundred quotes or lists
  }
  return parts > MOST_TOKENS ? null : new Reader(tokens).read();
}

interface Open {
  tag: string;
  props: Record<string, unknown>;
  children: ComponentChild[];
  href?: string;
  text: string;
}

class Reader {
  private readonly stack: Open[] = [{ tag: "", props: {}, children: [], text: "" }];

  constructor(private readonly tokens: Token[]) {}

  read(): ComponentChild[] {
    this.take(this.tokens);
    while (this.stack.length > 1) this.close();
    return this.stack[0]!.children;
  }

  private get top(): Open {
    return this.stack.at(-1)!;
  }

  private take(tokens: Token[]) {
    for (const token of tokens) {
      if (token.type === "inline") this.inline(token.children ?? []);
      else if (token.nesting === 1) this.open(token);
      else if (token.nesting === -1) this.close();
      else this.leaf(token);
    }
  }

  private inline(tokens: Token[]) {
    const item = this.stack.at(-2)?.tag === "li"; // around the paragraph that each item has
    const first = tokens[0];
    const task = item && first?.type === "text" ? /^\[([ xX])\]\s+/.exec(first.content) : null;
    if (task && first && !this.top.children.length) {
      first.content = first.content.slice(task[0].length);
      const done = task[1] !== " ";
      this.top.children.push(<input type="checkbox" disabled checked={done} aria-label={done ? "done" : "not done"} />, " ");
    }
    this.take(tokens);
  }

  private open(token: Token) {
    // A tight list has paragraphs that are not to be seen.
    const tag = token.hidden ? "" : token.tag;
    const props: Record<string, unknown> = {};
    if (tag === "ol" && /^\d{1,9}$/.test(String(token.attrGet("start")))) props.start = Number(token.attrGet("start"));
    const align = /^text-align:(left|right|center)$/.exec(String(token.attrGet("style")));
    if (align) props.class = `align-${align[1]}`;
    const href = token.type === "link_open" ? String(token.attrGet("href") ?? "") : undefined;
    this.stack.push({ tag, props, children: [], href, text: "" });
  }

  private close() {
    if (this.stack.length < 2) return;
    const done = this.stack.pop()!;
    this.top.text += done.text;
    this.top.children.push(...this.element(done));
  }

  private element({ tag, props, children, href, text }: Open): ComponentChild[] {
    if (href !== undefined) return [h(ForeignLink, { href, text, children })];
    // Headings of an answer stand below those of the page.
    const heading = /^h([1-6])$/.exec(tag);
    if (heading) return [h(`h${Math.min(6, Number(heading[1]) + 3)}`, { ...props, class: `md-h${heading[1]}` }, children)];
    if (!ELEMENTS.has(tag) || this.stack.length > DEEPEST) return children;
    const element = h(tag, { ...props, ...(tag === "p" || tag === "li" || tag === "td" ? { dir: "auto" } : {}) }, children);
    return [tag === "table" ? <div class="table-scroll" tabIndex={0}>{element}</div> : element];
  }

  private leaf(token: Token) {
    const { top } = this;
    switch (token.type) {
      case "text":
      case "text_special":
      case "html_inline":
      case "html_block":
        top.text += token.content;
        top.children.push(...visible(token.content));
        break;
      case "softbreak":
      case "hardbreak":
        top.children.push(<br />);
        break;
      case "code_inline":
        top.text += token.content;
        top.children.push(<code class="foreign">{visible(token.content)}</code>);
        break;
      case "fence":
      case "code_block":
        top.children.push(<CodeBlock code={token.content.replace(/\n$/, "")} language={token.info.trim().split(/\s+/)[0] ?? ""} />);
        break;
      case "image":
        top.children.push(<Picture alt={token.content} source={String(token.attrGet("src") ?? "")} />);
        break;
      case "hr":
        top.children.push(<hr />);
        break;
      default:
        top.children.push(...visible(token.content));
    }
  }
}

/** A picture in Markdown is named and never loaded: to load it would tell its host who reads this, and when. */
function Picture({ alt, source }: { alt: string; source: string }) {
  return (
    <span class="mark picture" title="Pictures in texts are not loaded">
      picture{alt ? <> “{visible(alt.slice(0, 200))}”</> : null}, not loaded: {visible(hostOf(source))}
    </span>
  );
}

// So long may texts be read at once, before the browser gets to draw. The others wait, and are plain text until then.
const BUDGET = 60; // ms
let [spent, waiting] = [0, false];
const queue: (() => void)[] = [];

function timed<T>(work: () => T): T {
  const began = performance.now();
  try {
    return work();
  } finally {
    spent += performance.now() - began;
    if (!waiting) {
      waiting = true;
      setTimeout(drain);
    }
  }
}

function drain() {
  [spent, waiting] = [0, false];
  while (queue.length && spent < BUDGET) queue.shift()!();
  if (queue.length && !waiting) {
    waiting = true;
    setTimeout(drain);
  }
}

function read(text: string): ComponentChild[] | null {
  try {
    return timed(() => markdownNodes(text));
  } catch {
    return null;
  }
}

/** A text of a model. Large texts are plain; so is a text until there is time to read it as Markdown. */
export function Markdown({ text }: { text: string }) {
  const isLarge = text.length > MOST;
  const [done, setDone] = useState(() => ({ text, nodes: !isLarge && spent < BUDGET ? read(text) : undefined }));
  const nodes = done.text === text ? done.nodes : undefined;
  useEffect(() => {
    if (nodes !== undefined || isLarge) return;
    let gone = false;
    queue.push(() => gone || setDone({ text, nodes: read(text) }));
    if (!waiting) {
      waiting = true;
      setTimeout(drain);
    }
    return () => void (gone = true);
  }, [text, nodes]);
  if (nodes) return <div class="markdown foreign">{nodes}</div>;
  return text.length > MOST / 2 ? <LongText text={text} /> : <PlainText text={text} />;
}
