// The parts of a message, each as what it is.

import { useEffect, useState } from "preact/hooks";
import { CopyButton, Fold, Icon } from "../lib/components";
import { CodeBlock, JsonBlock } from "../lib/code";
import { bytes } from "../lib/format";
import { ForeignLink, hostOf, shortened } from "../lib/links";
import { Markdown } from "../lib/markdown";
import { LongText, PlainText, visible } from "../lib/text";
import { type Block, structured } from "./turns";

const LONG = 1500; // characters of a system message that are shown at once

export interface Calls {
  get(id: string): { name: string; called: number; answered: number | null } | undefined;
}

export function BlockView({ block, role, calls }: { block: Block; role: string; calls: Calls }) {
  switch (block.kind) {
    case "text":
      return <TextBlock block={block} role={role} />;
    case "reasoning":
      return (
        <Fold summary="Reasoning" class="reasoning">
          {() => <Markdown text={block.text} />}
        </Fold>
      );
    case "refusal":
      return (
        <div class="refusal">
          <strong>Refused:</strong> <Markdown text={block.text} />
        </div>
      );
    case "picture":
      return <Picture source={block.source} />;
    case "file":
      return (
        <p class="chip">
          <Icon name="file" /> <span class="foreign">{visible(shortened(block.name, 200))}</span>
          <span class="muted">{[block.media, block.bytes === null ? null : bytes(block.bytes)].filter(Boolean).join(", ")}</span>
        </p>
      );
    case "attachment":
      return (
        <p class="chip" title="The file itself is not kept by Airflow">
          <Icon name="clip" /> <span class="only-read">Attachment: </span>
          <span class="foreign">{visible(block.path)}</span>
        </p>
      );
    case "call":
      return <Call block={block} calls={calls} />;
    case "citations":
      return (
        <div class="citations">
          <strong>Sources</strong>
          <ol>
            {block.links.slice(0, 200).map(({ url, title }, at) => (
              <li key={at} class="foreign" dir="auto">
                <ForeignLink href={url} text={shortened(title || url, 200)} />
              </li>
            ))}
          </ol>
        </div>
      );
    case "other":
      return <JsonBlock value={block.value} label="Of an unknown kind" />;
  }
}

function TextBlock({ block, role }: { block: Block & { kind: "text" }; role: string }) {
  const { text } = block;
  const json = role === "user" || role === "system" || role === "developer" ? null : structured(block);
  if (json !== null) {
    return (
      <>
        <JsonBlock text={json} label="JSON" />
        {role === "assistant" ? <Fold summary="The text as it came">{() => <LongText text={text} mono />}</Fold> : null}
      </>
    );
  }
  const isInstruction = role === "system" || role === "developer";
  if (isInstruction && text.length > LONG) {
    const begin = text.slice(0, 300);
    return (
      <Fold summary={<span class="foreign">{visible(begin)}…</span>} class="instruction">
        {() => <Markdown text={text} />}
      </Fold>
    );
  }
  return role === "tool" || role === "function" ? <Result text={text} /> : <Markdown text={text} />;
}

/** What a tool returned: text of no particular form. */
function Result({ text }: { text: string }) {
  if (text.length < 600) return <PlainText text={text} />;
  return (
    <Fold summary={<span class="foreign">{visible(shortened(text.slice(0, 160), 150))}</span>}>
      {() => <LongText text={text} />}
    </Fold>
  );
}

function Call({ block, calls }: { block: Block & { kind: "call" }; calls: Calls }) {
  const known = block.id === null ? undefined : calls.get(block.id);
  const isJson = structured({ kind: "text", text: block.args }) !== null;
  return (
    <div class="call">
      <Fold
        open={block.args.length < 400}
        summary={
          <>
            Calls <code class="foreign">{visible(shortened(block.name, 100))}</code>
          </>
        }
      >
        {() =>
          isJson ? (
            <JsonBlock text={block.args} label="Arguments" />
          ) : (
            <CodeBlock code={block.args} label={block.args ? "Arguments, not JSON" : "No arguments"} />
          )
        }
      </Fold>
      <p class="row call-foot">
        {block.id ? <span class="muted call-id foreign">{visible(shortened(block.id, 60))}</span> : null}
        {known?.answered != null ? <a href={`#message-${known.answered + 1}`}>answered in message {known.answered + 1}</a> : null}
      </p>
    </div>
  );
}

const PICTURES = /^data:(image\/(?:png|jpeg|gif|webp));base64,/i;
const LARGEST = 40_000_000;

function Picture({ source }: { source: string }) {
  const [url, setUrl] = useState<string | null>(null);
  const [why, setWhy] = useState<string | null>(null);
  const media = PICTURES.exec(source)?.[1];
  useEffect(() => {
    if (!media || source.length > LARGEST) return;
    let made: string | undefined;
    let gone = false;
    void blobOf(source, media).then((blob) => {
      if (!gone) setUrl((made = URL.createObjectURL(blob)));
    }, () => !gone && setWhy("its data cannot be read"));
    return () => {
      gone = true;
      if (made) URL.revokeObjectURL(made);
    };
  }, [source, media]);
  if (!media || why !== null || source.length > LARGEST) {
    const elsewhere = /^https?:/i.test(source);
    const reason = why ?? (media ? "it is too large" : elsewhere ? `it is at ${hostOf(source)}` : "it is of another kind than PNG, JPEG, GIF or WebP");
    return (
      <p class="chip">
        <Icon name="picture" /> Picture, not loaded: <span class="foreign">{visible(reason)}</span>
        {elsewhere ? <CopyButton text={source} label="Copy address" /> : null}
      </p>
    );
  }
  if (url === null) return <p class="chip muted">Picture</p>;
  return <img class="picture" src={url} alt="Picture in the message" onError={() => setWhy("its data cannot be read")} />;
}

async function blobOf(source: string, media: string): Promise<Blob> {
  const binary = atob(source.slice(source.indexOf(",") + 1));
  const data = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at += 1) data[at] = binary.charCodeAt(at);
  return new Blob([data], { type: media.toLowerCase() });
}
