// The table: one line for each DAG, task, model or task instance. It sorts, finds, and leads to conversations.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { airflowPages, conversationPage } from "../lib/api";
import { AirflowLink, copyText, download } from "../lib/components";
import { count, date, duration, plural, UNKNOWN } from "../lib/format";
import { visible } from "../lib/text";
import { type Group, type GroupBy, groups, type Row } from "./aggregate";
import { csv } from "./csv";
import { plainName } from "./names";
import { finds, sorted } from "./sorting";
import { CostText, SumText } from "./totals";
import type { View } from "./view";

const PAGE = 50;
const TABS: [GroupBy, string][] = [
  ["dag", "DAGs"],
  ["task", "Tasks"],
  ["model", "Models"],
  ["instance", "Task instances"],
];

interface Column {
  name: string;
  title: string;
  number?: boolean;
  only?: (by: GroupBy) => boolean;
  cell: (group: Group) => ComponentChildren;
}

const single = (by: GroupBy) => by === "instance";
const many = (by: GroupBy) => by !== "instance";
const known = (text: string) => (text === UNKNOWN ? <span class="unknown">{text}</span> : text);

const COLUMNS: Column[] = [
  { name: "time", title: "Run date", only: single, cell: (group) => date(group.latest) },
  { name: "model", title: "Model", only: single, cell: (group) => <span class="foreign">{group.model === null ? known(UNKNOWN) : visible(group.model)}</span> },
  { name: "instances", title: "Task instances", number: true, only: many, cell: (group) => count(group.instances) },
  { name: "requests", title: "Answered", number: true, cell: (group) => <SumText sum={group.requests} format={count} /> },
  { name: "failed", title: "Failed", number: true, cell: (group) => <Failed group={group} /> },
  { name: "input_tokens", title: "Tokens in", number: true, cell: (group) => <SumText sum={group.input_tokens} format={count} /> },
  { name: "cache_read_tokens", title: "Cached", number: true, cell: (group) => <SumText sum={group.cache_read_tokens} format={count} /> },
  { name: "output_tokens", title: "Tokens out", number: true, cell: (group) => <SumText sum={group.output_tokens} format={count} /> },
  { name: "reasoning_tokens", title: "Reasoning", number: true, cell: (group) => <SumText sum={group.reasoning_tokens} format={count} /> },
  { name: "cost", title: "Cost", number: true, cell: (group) => <CostText costs={group.costs} /> },
  { name: "p50", title: "p50", number: true, only: many, cell: (group) => known(duration(group.p50)) },
  { name: "p95", title: "p95", number: true, only: many, cell: (group) => known(duration(group.p95)) },
  { name: "p50", title: "Duration", number: true, only: single, cell: (group) => known(duration(group.p50)) },
];

function Failed({ group }: { group: Group }) {
  const kinds = [...group.kinds].sort(([, one], [, other]) => other - one);
  const more = kinds.length - 1;
  return (
    <>
      <SumText sum={group.failed} format={count} />
      {kinds[0] ? (
        <small class="kinds foreign" title={kinds.map(([kind, number]) => `${plainName(kind)}: ${count(number)}`).join("\n")}>
          {visible(kinds[0][0])}
          {more > 0 ? (
            <>
              <span aria-hidden="true"> +{more}</span>
              <span class="off-screen"> and {plural(more, "other kind")}</span>
            </>
          ) : null}
        </small>
      ) : null}
    </>
  );
}

interface TableProps {
  rows: Row[];
  view: View;
  change: (part: Partial<View>) => void;
  complete: boolean;
}

export function UsageTable({ rows, view, change, complete }: TableProps) {
  const { by } = view;
  const [page, setPage] = useState(0);
  const lines = useMemo(() => sorted(groups(rows, by), view.sort), [rows, by, view.sort]);
  const found = useMemo(() => lines.filter((group) => finds(group, view.find)), [lines, view.find]);
  useEffect(() => setPage(0), [by, view.sort, view.find, view.dag, view.task, view.model]);
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const at = Math.min(page, pages - 1);
  const columns = COLUMNS.filter(({ only }) => !only || only(by));
  return (
    <section class="card usage-table" aria-label="By DAG, task, model or task instance">
      <div class="table-tools">
        <div class="tabs" role="group" aria-label="One line for each of">
          {TABS.map(([name, title]) => (
            <button key={name} type="button" class="tab" aria-pressed={name === by} onClick={() => change({ by: name })}>
              {title}
            </button>
          ))}
        </div>
        <label class="find">
          <span class="off-screen">Find in the table</span>
          <input type="search" placeholder="Find" value={view.find} onInput={(event) => change({ find: event.currentTarget.value })} />
        </label>
        <Export found={found} by={by} complete={complete} />
      </div>
      <div class="table-scroll" tabIndex={0} role="region" aria-label="The table">
        <table>
          <thead>
            <tr>
              <Head name="name" title={by === "instance" ? "Task instance" : by === "dag" ? "DAG" : by === "task" ? "Task" : "Model"} view={view} change={change} />
              {columns.map((column) => (
                <Head key={column.title} {...column} view={view} change={change} />
              ))}
            </tr>
          </thead>
          <tbody>
            {found.slice(at * PAGE, (at + 1) * PAGE).map((group) => (
              <tr key={group.key}>
                <th scope="row">
                  <Name group={group} by={by} change={change} />
                </th>
                {columns.map((column) => (
                  <td key={column.title} class={column.number ? "number" : ""}>
                    {column.cell(group)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <Pager count={found.length} of={lines.length} at={at} pages={pages} setPage={setPage} />
    </section>
  );
}

function Head({ name, title, number, view, change }: Pick<Column, "name" | "title" | "number"> & Pick<TableProps, "view" | "change">) {
  const [down, up] = [view.sort === `-${name}`, view.sort === name];
  const sort = () => change({ sort: down ? name : up ? `-${name}` : number || name === "time" ? `-${name}` : name });
  return (
    <th scope="col" class={number ? "number" : ""} aria-sort={down ? "descending" : up ? "ascending" : "none"}>
      <button type="button" class="sort" onClick={sort}>
        {title}
        <span aria-hidden="true">{down ? " ↓" : up ? " ↑" : ""}</span>
      </button>
    </th>
  );
}

/** What a line is about. It leads one step closer: to the tasks of a DAG, the task instances of a task, a conversation. */
function Name({ group, by, change }: { group: Group; by: GroupBy; change: TableProps["change"] }) {
  const { dagId, taskId, model, row } = group;
  if (by === "instance" && row) return <Instance row={row} />;
  if (by === "dag") {
    return <Closer to={() => change({ dag: dagId!, by: "task" })}>{dagId}</Closer>;
  }
  if (by === "task") {
    return (
      <>
        <Closer to={() => change({ dag: dagId!, task: taskId!, by: "instance", sort: "-time" })}>{taskId}</Closer>
        <small class="foreign">{dagId}</small>
      </>
    );
  }
  if (model === null) return <span class="unknown">{UNKNOWN}</span>;
  return <Closer to={() => change({ model, by: "task" })}>{visible(model)}</Closer>;
}

function Closer({ to, children }: { to: () => void; children: ComponentChildren }) {
  return (
    <button type="button" class="closer foreign" onClick={to}>
      {children}
    </button>
  );
}

function Instance({ row }: { row: Row }) {
  const place = { dagId: row.dagId, runId: row.runId, taskId: row.taskId, mapIndex: row.mapIndex };
  const name = row.mapIndex >= 0 ? `${row.taskId} [${row.mapIndex}]` : row.taskId;
  return (
    <>
      {row.usage.foreign ? (
        <AirflowLink to={airflowPages.xcoms(place)} class="foreign">
          {name}
        </AirflowLink>
      ) : (
        <a href={conversationPage(place)} class="foreign">
          {name}
        </a>
      )}
      <small class="foreign">{row.dagId}</small>
    </>
  );
}

function Export({ found, by, complete }: { found: Group[]; by: GroupBy; complete: boolean }) {
  const [said, setSaid] = useState("");
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const say = (text: string) => {
    setSaid(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setSaid(""), 4000);
  };
  const part = complete ? "" : "-incomplete";
  const name = `chat-usage-${by}-${new Date().toISOString().slice(0, 10)}${part}.csv`;
  const copy = async () => say((await copyText(csv(found, by))) ? `${plural(found.length, "line")} copied` : "Not copied");
  const store = () => {
    download(name, `\uFEFF${csv(found, by)}`, "text/csv"); // spreadsheets take text for UTF-8 by its mark
    say(`${plural(found.length, "line")} saved`);
  };
  return (
    <div class="row export">
      <span class="muted" aria-live="polite">
        {said}
      </span>
      <button type="button" class="button small" disabled={!found.length} onClick={copy}>
        Copy CSV
      </button>
      <button type="button" class="button small" disabled={!found.length} onClick={store}>
        Download CSV
      </button>
    </div>
  );
}

function Pager({ count: number, of, at, pages, setPage }: { count: number; of: number; at: number; pages: number; setPage: (page: number) => void }) {
  const first = at * PAGE + 1;
  return (
    <div class="pager row spread">
      <span class="muted" aria-live="polite">
        {number ? `${count(first)}–${count(Math.min(number, first + PAGE - 1))} of ${plural(number, "line")}` : of ? "Nothing has this text." : "No lines."}
      </span>
      {pages > 1 ? (
        <div class="row">
          <button type="button" class="button small" disabled={at === 0} onClick={() => setPage(at - 1)}>
            Previous
          </button>
          <span class="muted">
            {at + 1} / {pages}
          </span>
          <button type="button" class="button small" disabled={at >= pages - 1} onClick={() => setPage(at + 1)}>
            Next
          </button>
        </div>
      ) : null}
    </div>
  );
}
