// Other tries of the task instance, and the other instances of a mapped task.

import { useEffect, useState } from "preact/hooks";
import { type Api, airflowPages, conversationPage, type Page, type Place, type TaskInstance } from "../lib/api";
import { AirflowLink, ErrorNotice, Fold, Loading, State } from "../lib/components";
import { count, date, duration, plural } from "../lib/format";
import { shortened } from "../lib/links";
import { PlainText, visible } from "../lib/text";
import { useLog } from "./log";
import { type Part, READING, settle } from "./task";

function useRead<T>(read: (signal: AbortSignal) => Promise<T>, inputs: unknown[]): [Part<T>, () => void] {
  const [part, setPart] = useState<Part<T>>(READING);
  const [round, setRound] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    void settle(read(stop.signal)).then((found) => stop.signal.aborted || setPart(found));
    return () => stop.abort();
  }, [...inputs, round]);
  return [part, () => setRound((now) => now + 1)];
}

export function Tries({ api, instance, place }: { api: Api; instance: TaskInstance; place: Place }) {
  const many = instance.try_number;
  if (many < 2) return null;
  return (
    <Fold summary={plural(many, "try", "tries")} class="section">
      {() => <TryList api={api} place={place} current={many} />}
    </Fold>
  );
}

function TryList({ api, place, current }: { api: Api; place: Place; current: number }) {
  const [tries, again] = useRead((signal) => api.tries(place, { signal }), [api, place, current]);
  if (tries.state === "reading") return <Loading what="the tries" />;
  if (tries.state !== "here") return <ErrorNotice error={tries.state === "failed" ? tries.error : null} what="the tries" retry={again} />;
  return (
    <div class="stack">
      <p class="muted">
        Airflow removes the XComs of a try when the next one begins, so only the last try has its messages. Of earlier ones
        there is what they wrote into their logs.
      </p>
      <ol class="tries stack">
        {tries.value.map((one) => (
          <li key={one.try_number} class="card">
            <div class="card-body stack">
              <p class="row">
                <strong>Try {one.try_number}</strong>
                <State state={one.state} />
                <span class="muted">
                  {date(one.start_date)}, {duration(one.duration)}
                </span>
                <AirflowLink to={airflowPages.log(place, one.try_number)}>Log</AirflowLink>
              </p>
              <Fold summary="What its log says">{() => <LogOf api={api} place={place} tryNumber={one.try_number} />}</Fold>
            </div>
          </li>
        ))}
      </ol>
    </div>
  );
}

function LogOf({ api, place, tryNumber }: { api: Api; place: Place; tryNumber: number }) {
  const { told, again } = useLog(api, place, tryNumber);
  if (told.state === "reading") return <Loading what="the log" />;
  if (told.state !== "here") return <ErrorNotice error={told.state === "failed" ? told.error : null} what="the log of this try" retry={again} />;
  const { lines, error, isCut } = told.value;
  return (
    <div class="stack">
      {isCut ? <p class="muted">Only the first 20 MB of the log were read.</p> : null}
      {lines.length || error ? null : <p class="muted">The log says nothing of a call.</p>}
      <ul class="log-lines">
        {lines.map((line, at) => (
          <li key={at} class="foreign mono">
            {visible(shortened(line.event, 1000))}
          </li>
        ))}
      </ul>
      {error ? (
        <div class="notice tone-error">
          <PlainText text={error.value.slice(0, 20_000) || error.type} />
          <p class="muted">
            <code class="foreign">{visible(shortened(error.type, 200))}</code>
          </p>
        </div>
      ) : null}
    </div>
  );
}

const AT_ONCE = 50;

/** All instances of a mapped task, page by page. */
export function Mapped({ api, place, open = false }: { api: Api; place: Place; open?: boolean }) {
  const page = place.mapIndex >= 0 ? Math.floor(place.mapIndex / AT_ONCE) : 0;
  if (open) return <MappedList api={api} place={place} first={0} />;
  return (
    <Fold summary="Other instances of this mapped task" class="section">
      {() => <MappedList api={api} place={place} first={page} />}
    </Fold>
  );
}

function MappedList({ api, place, first }: { api: Api; place: Place; first: number }) {
  const [page, setPage] = useState(first);
  const key = `${place.dagId}/${place.runId}/${place.taskId}`;
  const [found, again] = useRead<Page<TaskInstance>>(
    (signal) => api.mappedInstances(place, { limit: AT_ONCE, offset: page * AT_ONCE }, { signal }),
    [api, key, page],
  );
  if (found.state === "reading") return <Loading what="the mapped instances" />;
  if (found.state !== "here") {
    return <ErrorNotice error={found.state === "failed" ? found.error : null} what="the mapped instances" retry={again} />;
  }
  const { items, total } = found.value;
  const pages = Math.ceil(total / AT_ONCE);
  return (
    <div class="stack">
      <div class="table-scroll" tabIndex={0}>
        <table class="mapped">
          <caption class="only-read">Instances of the mapped task</caption>
          <thead>
            <tr>
              <th scope="col">Instance</th>
              <th scope="col">State</th>
              <th scope="col" class="number">Tries</th>
              <th scope="col" class="number">Duration</th>
            </tr>
          </thead>
          <tbody>
            {items.map((one) => (
              <tr key={one.map_index} aria-current={one.map_index === place.mapIndex ? "true" : undefined}>
                <td>
                  <a href={conversationPage({ ...place, mapIndex: one.map_index })}>
                    <span class="foreign">{visible(shortened(one.rendered_map_index || `[${one.map_index}]`, 100))}</span>
                  </a>
                </td>
                <td>
                  <State state={one.state} />
                </td>
                <td class="number">{count(one.try_number)}</td>
                <td class="number">{duration(one.duration)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {items.length ? null : <p class="muted">The task is mapped over nothing: it has no instances.</p>}
      {pages > 1 ? (
        <p class="row no-print">
          <button type="button" class="button small" disabled={page === 0} onClick={() => setPage(page - 1)}>
            Previous
          </button>
          <span>
            Page {count(page + 1)} of {count(pages)}, {plural(total, "instance")}
          </span>
          <button type="button" class="button small" disabled={page >= pages - 1} onClick={() => setPage(page + 1)}>
            Next
          </button>
        </p>
      ) : null}
    </div>
  );
}
