// Names that a server or a task gave, where only text can stand: in an option or a title.

import { pieces } from "../lib/text";

/** The name with a mark in the place of what cannot be seen, and of what would reorder the text around it. */
export function plainName(name: string): string {
  return pieces(name)
    .map((piece) => (typeof piece === "string" ? piece : `[${piece.mark}]`))
    .join("");
}
