// The pages look as Airflow's UI does: it keeps "light", "dark" or "system" in the local storage of the same origin.

const KEY = "theme";

export function chosenTheme(stored: string | null, prefersDark: boolean): "light" | "dark" {
  const value = stored?.replaceAll('"', "");
  if (value === "light" || value === "dark") return value;
  return prefersDark ? "dark" : "light";
}

/** Sets `data-theme` on the root element, now and whenever it changes. `change` is told of later changes. */
export function followTheme(change?: (theme: "light" | "dark") => void): () => void {
  const media = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    let stored: string | null = null;
    try {
      stored = localStorage.getItem(KEY);
    } catch {
      // A browser that keeps no site data: the system's choice holds.
    }
    const theme = chosenTheme(stored, media.matches);
    if (document.documentElement.dataset.theme === theme) return;
    document.documentElement.dataset.theme = theme;
    change?.(theme);
  };
  const stored = (event: StorageEvent) => {
    if (event.key === KEY || event.key === null) apply();
  };
  apply();
  addEventListener("storage", stored);
  media.addEventListener("change", apply);
  return () => {
    removeEventListener("storage", stored);
    media.removeEventListener("change", apply);
  };
}
