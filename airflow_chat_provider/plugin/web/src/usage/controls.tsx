// What the page is about: the range and the filters.

import { plural } from "../lib/format";
import { plainName } from "./names";
import { fromInput, RANGES, toInput, zoneName } from "./time";
import { customFrom, type Outcome, spanOf, timeText, type View } from "./view";

const NAMES: Record<keyof typeof RANGES, string> = {
  "24h": "24 hours",
  "7d": "7 days",
  "30d": "30 days",
  "90d": "90 days",
};

interface Props {
  view: View;
  now: number;
  change: (part: Partial<View>) => void;
  /** What there is by DAG and task. */
  names: Map<string, Map<string, number>>;
  models: string[];
}

export function Controls({ view, now, change, names, models }: Props) {
  const tasks = new Set<string>();
  for (const [dag, found] of names) {
    if (!view.dag || view.dag === dag) for (const task of found.keys()) tasks.add(task);
  }
  const filtered = view.dag || view.task || view.model || view.outcome;
  return (
    <form class="controls" onSubmit={(event) => event.preventDefault()}>
      <Range view={view} now={now} change={change} />
      <Choice label="DAG" value={view.dag} all="All DAGs" options={[...names.keys()]} take={(dag) => change({ dag, task: "" })} />
      <Choice label="Task" value={view.task} all="All tasks" options={[...tasks]} take={(task) => change({ task })} />
      <Choice label="Model" value={view.model} all="All models" options={models} take={(model) => change({ model })} />
      <label>
        <span>Outcome</span>
        <select value={view.outcome} onChange={(event) => change({ outcome: event.currentTarget.value as Outcome })}>
          <option value="">Any</option>
          <option value="good">Without failures</option>
          <option value="failed">With failures</option>
        </select>
      </label>
      {filtered ? (
        <button type="button" class="button clear" onClick={() => change({ dag: "", task: "", model: "", outcome: "" })}>
          Clear filters
        </button>
      ) : null}
    </form>
  );
}

function Range({ view, now, change }: Pick<Props, "view" | "now" | "change">) {
  const custom = view.range === "custom";
  const span = spanOf(view, now);
  const take = (name: "from" | "to") => (event: { currentTarget: HTMLInputElement }) => {
    const time = fromInput(event.currentTarget.value);
    if (time !== null) change({ [name]: timeText(time) });
  };
  return (
    <>
      <fieldset class="ranges">
        <legend>Runs of the last</legend>
        {(Object.keys(RANGES) as (keyof typeof RANGES)[]).map((name) => (
          <button key={name} type="button" class="tab" aria-pressed={view.range === name} onClick={() => change({ range: name })}>
            {NAMES[name]}
          </button>
        ))}
        <button type="button" class="tab" aria-pressed={custom} onClick={() => change(customFrom(view, now))}>
          Custom
        </button>
      </fieldset>
      {custom ? (
        <>
          <label>
            <span>From ({zoneName()})</span>
            <input type="datetime-local" required value={toInput(span.from)} onChange={take("from")} />
          </label>
          <label>
            <span>To</span>
            <input type="datetime-local" required value={toInput(span.to)} onChange={take("to")} />
          </label>
        </>
      ) : null}
    </>
  );
}

interface ChoiceProps {
  label: string;
  value: string;
  all: string;
  options: string[];
  take: (value: string) => void;
}

function Choice({ label, value, all, options, take }: ChoiceProps) {
  const names = [...new Set(value ? [value, ...options] : options)].sort(new Intl.Collator(undefined, { numeric: true }).compare);
  return (
    <label>
      <span>{label}</span>
      <select value={value} onChange={(event) => take(event.currentTarget.value)} title={plural(names.length, "choice")}>
        <option value="">{all}</option>
        {names.map((name) => (
          <option key={name} value={name}>
            {plainName(name)}
          </option>
        ))}
      </select>
    </label>
  );
}
