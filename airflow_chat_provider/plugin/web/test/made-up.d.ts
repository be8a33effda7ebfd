declare module "*/airflow.mjs" {
  export function api(path: string, query: URLSearchParams): { status: number; body: string; type: string };
}
declare module "*/scenarios.mjs" {
  export const scenarios: Record<string, { xcoms?: Record<string, unknown>; instance?: Record<string, unknown> }>;
  export function usage(more?: Record<string, unknown>): Record<string, unknown>;
}
