// How text gets out of a frame that may not download: Airflow's has no allow-downloads before 3.3.

import { download, inFrame } from "../lib/components";

const HELD_FOR = 60_000;

/** Saves a file: from the page that holds our frame, where the frame itself may not. Both are of one origin. */
export function save(name: string, text: string, type: string): void {
  if (!inFrame || mayDownload()) return download(name, text, type);
  const { document, URL, Blob } = window.parent as Window & typeof globalThis;
  const url = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), HELD_FOR);
}

function mayDownload(): boolean {
  const frame = window.frameElement as HTMLIFrameElement | null;
  return !frame?.hasAttribute("sandbox") || frame.sandbox.contains("allow-downloads");
}
