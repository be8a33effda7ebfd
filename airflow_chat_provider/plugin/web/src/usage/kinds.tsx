// Failures by kind. Each leads to the task instances that it happened to.

import { useMemo } from "preact/hooks";
import { Fold } from "../lib/components";
import { count, date, percent, plural } from "../lib/format";
import { visible } from "../lib/text";
import { type Kind, kinds, type Row } from "./aggregate";
import type { View } from "./view";

const SHOWN = 5;

export function Kinds({ rows, change }: { rows: Row[]; change: (part: Partial<View>) => void }) {
  const found = useMemo(() => kinds(rows), [rows]);
  if (!found.length) return null;
  const all = found.reduce((sum, { count: number }) => sum + number, 0);
  const rest = found.slice(SHOWN);
  return (
    <section class="card kinds-card">
      <div class="card-body">
        <h2>Failures by kind</h2>
        <KindTable kinds={found.slice(0, SHOWN)} all={all} change={change} />
        {rest.length ? (
          <Fold summary={plural(rest.length, "other kind")}>{() => <KindTable kinds={rest} all={all} change={change} />}</Fold>
        ) : null}
      </div>
    </section>
  );
}

function KindTable({ kinds: found, all, change }: { kinds: Kind[]; all: number; change: (part: Partial<View>) => void }) {
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label="Failures by kind">
      <table>
        <thead>
          <tr>
            <th scope="col">Kind</th>
            <th scope="col" class="number">
              Failures
            </th>
            <th scope="col" class="number">
              Share
            </th>
            <th scope="col" class="number">
              Task instances
            </th>
            <th scope="col" class="number">
              DAGs
            </th>
            <th scope="col">Latest run</th>
          </tr>
        </thead>
        <tbody>
          {found.map((one) => (
            <tr key={one.kind}>
              <th scope="row">
                <button type="button" class="closer foreign" onClick={() => change({ by: "instance", find: one.kind, sort: "-time" })}>
                  {visible(one.kind)}
                </button>
              </th>
              <td class="number">{count(one.count)}</td>
              <td class="number">{percent(one.count, all)}</td>
              <td class="number">{count(one.instances)}</td>
              <td class="number">{count(one.dags)}</td>
              <td>{date(one.latest)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
