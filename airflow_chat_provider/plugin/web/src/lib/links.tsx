// Links out of texts of models: only to the web and to mail, and never without saying where they lead.

import type { ComponentChildren } from "preact";
import { inFrame, openFromParent } from "./components";
import { visible } from "./text";

const SCHEMES = new Set(["http:", "https:", "mailto:"]);

/** The address, if a link may lead there: an absolute one of the web or of mail. */
export function safeUrl(href: string): URL | null {
  // A browser removes tabs and line breaks, and spaces at the ends, before it reads the scheme; so does URL.
  if (href.length > 8192 || !/^\s*[a-z][a-z0-9+.-]*:/i.test(href)) return null;
  try {
    const url = new URL(href);
    return SCHEMES.has(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

/** What is shown of where a link leads: the host, as the browser reads it. */
export function target(url: URL): string {
  return url.protocol === "mailto:" ? decoded(url.pathname) : url.host;
}

/** Whether a reader of the text knows already where the link leads. */
export function saysTarget(text: string, url: URL): boolean {
  const said = text.trim().toLowerCase().replace(/^(https?:\/\/|mailto:)/, "");
  const where = target(url).toLowerCase();
  return said === where || said.startsWith(`${where}/`) || said.startsWith(`${where}?`) || said.startsWith(`${where}#`);
}

/** Whether a text looks like an address itself, so that a reader would take it for where the link leads. */
function looksLikeAddress(text: string): boolean {
  return /^\s*(https?:|mailto:|www\.|[^\s/]+\.[a-z]{2,}(\/|\s*$))/i.test(text);
}

/** The host of a picture or a file elsewhere, for a text that says so. */
export function hostOf(href: string): string {
  try {
    const url = new URL(href);
    return url.host || url.protocol;
  } catch {
    return href.slice(0, 60);
  }
}

/** A link that a model or a server wrote. `text` is what is between its tags, to compare it with the host. */
export function ForeignLink({ href, text, children }: { href: string; text: string; children?: ComponentChildren }) {
  const url = safeUrl(href);
  if (!url) {
    return (
      <span class="no-link">
        {children ?? visible(text)} <span class="mark" title="Only links to the web and to mail can be followed here">
          not a link: {visible(shortened(href))}
        </span>
      </span>
    );
  }
  const lead = (event: MouseEvent) => {
    if (!inFrame) return;
    event.preventDefault();
    openFromParent(url.href, true);
  };
  return (
    <>
      <a href={url.href} rel="noopener noreferrer" target="_blank" title={url.href.slice(0, 500)} onClick={lead}>
        {children ?? visible(text)}
      </a>
      <Whereto text={text} url={url} />
    </>
  );
}

function Whereto({ text, url }: { text: string; url: URL }) {
  if (saysTarget(text, url)) return null;
  if (looksLikeAddress(text)) return <span class="mark link-host">leads to {visible(target(url))}</span>;
  return <span class="link-host"> ({visible(target(url))})</span>;
}

export function shortened(text: string, most = 60): string {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
