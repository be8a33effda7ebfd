// What Airflow keeps of the task, as it is stored.

import { useState } from "preact/hooks";
import { airflowPages, type Json, type Place, type XCom } from "../lib/api";
import { AirflowLink, CopyButton, download, ErrorNotice, Fold, Loading, Notice } from "../lib/components";
import { CodeBlock, JsonBlock } from "../lib/code";
import { bytes } from "../lib/format";
import { shortened } from "../lib/links";
import { LongText, visible } from "../lib/text";
import { type Part, type Reader, READING, settle } from "./task";
import type { Curl } from "./asked";

const SHOWN = ["body", "messages", "usage", "configuration", "status", "return_value", "arguments", "progress"];
const COLOURED = 2_000_000; // bytes that are laid out as JSON

export function Raw({ reader, keys }: { reader: Reader; keys: string[] }) {
  const others = keys.filter((key) => !SHOWN.includes(key));
  const shown = [...SHOWN.filter((key) => keys.includes(key)), ...others];
  return (
    <section class="stack" aria-label="As it is stored">
      <h2>As it is stored</h2>
      {shown.length ? (
        <div class="stored">
          {shown.map((key) => (
            <Fold key={key} class="section" summary={<NameOf name={key} />}>
              {() => <Stored reader={reader} name={key} />}
            </Fold>
          ))}
        </div>
      ) : (
        <p class="muted">Airflow has no XComs of this task instance.</p>
      )}
      <p class="muted">
        <AirflowLink to={airflowPages.xcoms(reader.task.place)}>All XComs in Airflow</AirflowLink>
      </p>
    </section>
  );
}

function NameOf({ name }: { name: string }) {
  if (name !== "body") return <code class="foreign">{visible(shortened(name, 100))}</code>;
  return (
    <>
      Raw body <span class="muted">what the server sent, XCom body</span>
    </>
  );
}

function Stored({ reader, name }: { reader: Reader; name: string }) {
  const known = reader.task.xcoms[name];
  const [own, setOwn] = useState<Part<XCom> | null>(null);
  const read = () => {
    setOwn(READING);
    void settle(reader.api.xcom(reader.task.place, name)).then(setOwn);
  };
  const part = known ?? own;
  if (part === null || part === undefined) {
    return (
      <button type="button" class="button" onClick={read}>
        Read it
      </button>
    );
  }
  if (part.state !== "here") return <PartNotice part={part} name={name} read={known ? () => reader.read(name) : read} />;
  return <StoredValue xcom={part.value} name={name} place={reader.task.place} />;
}

function StoredValue({ xcom, name, place }: { xcom: XCom; name: string; place: Place }) {
  if (xcom.elsewhere) return <Elsewhere xcom={xcom} name={name} />;
  const text = xcom.stored ?? JSON.stringify(xcom.value);
  const plain = typeof xcom.value === "string" && xcom.isJson ? xcom.value : null;
  const isJson = plain === null && xcom.isJson;
  return (
    <div class="stack">
      {xcom.isJson ? null : <Damaged name={name} />}
      <p class="row no-print">
        <button
          type="button"
          class="button small"
          onClick={() => download(fileName(place, name, isJson), plain ?? text, isJson ? "application/json" : "text/plain")}
        >
          Download
        </button>
        <CopyButton text={plain ?? text} />
        <span class="muted">{bytes(xcom.bytes)}</span>
      </p>
      {isJson && text.length <= COLOURED ? <JsonBlock text={text} label={name} /> : <LongText text={plain ?? text} mono />}
    </div>
  );
}

function fileName(place: Place, name: string, isJson: boolean): string {
  const parts = [place.dagId, place.runId, place.taskId, place.mapIndex >= 0 ? String(place.mapIndex) : "", name];
  const clean = parts.filter(Boolean).join(".").replace(/[^\w.+-]+/g, "_").slice(-150);
  return `${clean}.${isJson ? "json" : "txt"}`;
}

function Damaged({ name }: { name: string }) {
  return (
    <Notice tone="warning" title={`The XCom ${name} is not whole.`}>
      <p>It is not JSON: it was cut, or something else wrote it. This is the text that there is.</p>
    </Notice>
  );
}

function Elsewhere({ xcom, name }: { xcom: XCom; name: string }) {
  return (
    <Notice title={`The XCom ${name} is kept in an object store.`}>
      <p>Airflow's API gives its path only, and this page reads nothing else. It is at:</p>
      <p class="row">
        <code class="foreign">{visible(xcom.elsewhere ?? "")}</code>
        <CopyButton text={xcom.elsewhere ?? ""} />
      </p>
    </Notice>
  );
}

/** Why the value of an XCom is not to be seen where it should be. Null if it is being used. */
export function PartNotice({ part, name, read, absent }: { part: Part<XCom>; name: string; read: () => void; absent?: string }) {
  if (part.state === "reading") return <Loading what={`the XCom ${name}`} />;
  if (part.state === "absent") return absent ? <Notice title={absent} /> : <p class="muted">Airflow does not have the XCom {name}.</p>;
  if (part.state === "failed") {
    return (
      <>
        <ErrorNotice error={part.error} what={`the XCom ${name}`} />
        <p>
          <button type="button" class="button" onClick={read}>
            Read it all
          </button>
        </p>
      </>
    );
  }
  if (part.value.elsewhere) return <Elsewhere xcom={part.value} name={name} />;
  if (!part.value.isJson) {
    return (
      <>
        <Damaged name={name} />
        <LongText text={String(part.value.value)} mono />
      </>
    );
  }
  return null;
}

/** An XCom whose value is not what our operators leave under that name. */
export function WrongShape({ name, value }: { name: string; value: Json }) {
  return (
    <Notice tone="warning" title={`The XCom ${name} is not what a chat completion leaves.`}>
      <p>Another operator may have written it. This is its value:</p>
      <JsonBlock value={value} label={name} />
    </Notice>
  );
}

export function CopyCurl({ curl }: { curl: Curl }) {
  return (
    <Fold summary="Copy as curl" class="section">
      {() => (
        <div class="stack">
          <p class="muted">
            Put the key into the variable <code>API_KEY</code>. Not known here: {curl.unknown.join("; ")}.
          </p>
          <CodeBlock code={curl.command} language="bash" label="curl" />
        </div>
      )}
    </Fold>
  );
}

