// SPDX-License-Identifier: Apache-2.0
/** Light or dark: as the machine has it, until somebody says otherwise. */

import { signal } from "@preact/signals";

export type Theme = "light" | "dark";

const wished = window.matchMedia("(prefers-color-scheme: dark)");

export const theme = signal<Theme>(wished.matches ? "dark" : "light");

function show(): void {
  document.documentElement.dataset["theme"] = theme.value;
}

wished.addEventListener("change", () => setTheme(wished.matches ? "dark" : "light"));
show();

export function setTheme(next: Theme): void {
  theme.value = next;
  show();
}

/** A colour of the style sheet, as it is now. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
