// Where a task instance is: in the API, in Airflow's UI, and among our pages.

/** A task instance: what the query of the Conversation page names. */
export interface Place {
  dagId: string;
  runId: string;
  taskId: string;
  /** -1 where the task is not mapped. */
  mapIndex: number;
}

/** The parts of a path, each encoded. */
export function segments(...parts: (string | number)[]): string {
  return parts.map((part) => encodeURIComponent(String(part))).join("/");
}

export function taskPath(place: Place): string {
  return `dags/${segments(place.dagId)}/dagRuns/${segments(place.runId)}/taskInstances/${segments(place.taskId)}`;
}

export function instancePath(place: Place): string {
  return place.mapIndex >= 0 ? `${taskPath(place)}/${place.mapIndex}` : taskPath(place);
}

/** Where Airflow's own UI shows it, relative to our pages. */
export const airflowPages = {
  root: "../",
  dag: (place: Place) => `../dags/${segments(place.dagId)}`,
  run: (place: Place) => `../dags/${segments(place.dagId)}/runs/${segments(place.runId)}`,
  task(place: Place, tab = ""): string {
    const mapped = place.mapIndex >= 0 ? `/mapped/${place.mapIndex}` : "";
    return `${airflowPages.run(place)}/tasks/${segments(place.taskId)}${mapped}${tab && `/${tab}`}`;
  },
  log: (place: Place, tryNumber: number) => `${airflowPages.task(place)}?try_number=${tryNumber}`,
  xcoms: (place: Place) => airflowPages.task(place, "xcom"),
};

/** The Conversation page of a task instance, relative to our pages. */
export function conversationPage(place: Place): string {
  const query = new URLSearchParams({ dag_id: place.dagId, run_id: place.runId, task_id: place.taskId });
  if (place.mapIndex >= 0) query.set("map_index", String(place.mapIndex));
  return `conversation?${query}`;
}
