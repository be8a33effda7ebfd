// The plots over time. Each has its numbers as a table beside it, for whoever cannot see a plot or wants to copy them.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { Fold } from "../lib/components";
import { UNKNOWN } from "../lib/format";
import type { Group } from "./aggregate";
import { type Shape, shapesOf } from "./shapes";
import { bucketLabel, type Unit } from "./time";

export interface PlotData {
  edges: number[];
  unit: Unit;
  groups: Group[];
}

export function Plots({ data, theme }: { data: PlotData; theme: string }) {
  const shapes = useMemo(() => shapesOf(data.groups), [data]);
  return (
    <section class="plots" aria-label="Over time">
      {shapes.map((shape) => (
        <Plot key={`${shape.title} ${theme}`} shape={shape} data={data} />
      ))}
    </section>
  );
}

function Plot({ shape, data }: { shape: Shape; data: PlotData }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(data);
  const [at, setAt] = useState<number | null>(null);
  latest.current = data;
  useEffect(() => {
    const element = place.current!;
    const width = () => Math.max(200, element.clientWidth);
    plot.current = new uPlot(optionsFor(shape, latest, width(), setAt), drawn(shape, latest.current), element);
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: width(), height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.current?.destroy();
    };
  }, []);
  useEffect(() => plot.current?.setData(drawn(shape, data)), [data]);
  const empty = shape.series.every(({ value }) => data.groups.every((group) => value(group) === null));
  return (
    <figure class="card plot">
      <figcaption>
        <h2>
          {shape.title} <span class="muted">per {data.unit}</span>
        </h2>
        <Reading shape={shape} data={data} at={at} />
      </figcaption>
      <div ref={place} class="plot-area" role="img" aria-label={summary(shape, data)}>
        {empty ? <p class="plot-empty muted">{shape.title === "Cost" ? "No price is known." : "Nothing is known."}</p> : null}
      </div>
      <Fold summary="As a table">{() => <Numbers shape={shape} data={data} />}</Fold>
    </figure>
  );
}

const HEIGHT = 170;

/** The legend, with the values under the pointer where there is one. */
function Reading({ shape, data, at }: { shape: Shape; data: PlotData; at: number | null }) {
  const group = at === null ? undefined : data.groups[at];
  return (
    <p class="legend">
      {shape.series.map(({ label, colour, value }) => (
        <span key={label} class={`legend-item ${colour.slice(2)}`}>
          {label}
          {group ? <b>{shape.format(value(group))}</b> : null}
        </span>
      ))}
      {group ? <span class="muted">{bucketLabel(data.edges[at!]!, data.unit)}</span> : null}
    </p>
  );
}

function Numbers({ shape, data }: { shape: Shape; data: PlotData }) {
  const rows = data.groups.map((group, index) => ({ group, index })).filter(({ group }) => group.instances);
  return (
    <div class="table-scroll numbers" tabIndex={0} role="region" aria-label={`${shape.title} as a table`}>
      <table>
        <thead>
          <tr>
            <th scope="col">From</th>
            {shape.series.map(({ label }) => (
              <th key={label} scope="col" class="number">
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(({ group, index }) => (
            <tr key={index}>
              <th scope="row">{bucketLabel(data.edges[index]!, data.unit)}</th>
              {shape.series.map(({ label, value }) => (
                <td key={label} class={value(group) === null ? "number unknown" : "number"}>
                  {shape.format(value(group))}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function summary(shape: Shape, data: PlotData): string {
  const told = shape.series.map(({ label, value }) => {
    const known = data.groups.map((group) => value(group)).filter((number) => number !== null);
    return `${label}: ${known.length ? `at most ${shape.format(Math.max(...known))}` : UNKNOWN}`;
  });
  return `${shape.title} per ${data.unit}. ${told.join("; ")}. The numbers are in the table below.`;
}

/** What uPlot draws: the middle of each bucket in seconds, then the series; bars as sums, the highest first. */
function drawn(shape: Shape, { edges, groups }: PlotData): uPlot.AlignedData {
  const middles = groups.map((_, index) => (edges[index]! + edges[index + 1]!) / 2000);
  const values = shape.series.map(({ value }) => groups.map(value));
  if (shape.kind === "lines") return [middles, ...values];
  const stacked = values.map((_, level) =>
    groups.map((_, index) => {
      const parts = values.slice(0, level + 1).map((one) => one[index]!);
      return parts.every((part) => part === null) ? null : parts.reduce<number>((sum, part) => sum + (part ?? 0), 0);
    }),
  );
  return [middles, ...stacked.reverse()];
}

function optionsFor(shape: Shape, data: { current: PlotData }, width: number, hover: (at: number | null) => void): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const line = { stroke: colour("--border"), width: 1 };
  const axis = { stroke: colour("--fg-muted"), grid: line, ticks: line, font: "11px system-ui, sans-serif" };
  const series: uPlot.Series[] = shape.series.map((one) =>
    shape.kind === "lines"
      ? { label: one.label, stroke: colour(one.colour), width: 2, spanGaps: false, points: { size: 5 } }
      : { label: one.label, fill: colour(one.colour), width: 0, points: { show: false }, paths: uPlot.paths.bars!({ size: [0.8, 40], gap: 1 }) },
  );
  if (shape.kind === "bars") series.reverse();
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, y: false, points: { show: shape.kind === "lines" } },
    scales: {
      x: { range: () => [data.current.edges[0]! / 1000, data.current.edges[data.current.edges.length - 1]! / 1000] },
      y: { range: (_, __, high) => [0, high > 0 ? high * 1.05 : 1] },
    },
    axes: [
      { ...axis, grid: { show: false }, space: 64, size: 30, values: (_, splits, __, ___, increment) => timeLabels(splits, increment) },
      { ...axis, size: 58, values: (_, splits) => splits.map((value) => shape.axis(value)) },
    ],
    series: [{}, ...series],
    hooks: { setCursor: [(self) => hover(self.cursor.idx ?? null)] },
  };
}

const DAYS = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const TIMES = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

function timeLabels(splits: number[], increment: number): string[] {
  let day = "";
  return splits.map((seconds) => {
    const name = DAYS.format(seconds * 1000);
    const label = increment >= 86_400 || name !== day ? name : TIMES.format(seconds * 1000);
    day = name;
    return label;
  });
}
