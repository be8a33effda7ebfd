// Why an answer of Airflow's did not come.

export type ErrorKind =
  | "signed-out"
  | "forbidden"
  | "missing"
  | "too-large"
  | "network"
  | "server"
  | "unreadable"
  | "aborted";

/** Why an answer did not come. `detail` is what Airflow said about it, as text. */
export class ApiError extends Error {
  constructor(
    readonly kind: ErrorKind,
    readonly detail: string,
    readonly status: number | null = null,
    readonly bytes: number | null = null,
  ) {
    super(detail || kind);
    this.name = "ApiError";
  }
}

export function isMissing(error: unknown): boolean {
  return error instanceof ApiError && error.kind === "missing";
}

export function isAborted(error: unknown): boolean {
  return error instanceof ApiError && error.kind === "aborted";
}
