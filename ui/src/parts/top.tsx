// SPDX-License-Identifier: Apache-2.0
/** The head of every page. */

import { setTheme, theme } from "./theme";

export function Top(props: { readonly title: string; readonly facts: string }) {
  return (
    <header class="top">
      <h1>{props.title}</h1>
      <span class="facts">{props.facts}</span>
      <span class="right">
        <button type="button" onClick={() => setTheme(theme.value === "dark" ? "light" : "dark")}>
          {theme.value === "dark" ? "Light" : "Dark"}
        </button>
        <button type="button" onClick={() => window.print()}>
          Print
        </button>
      </span>
    </header>
  );
}
