// SPDX-License-Identifier: Apache-2.0
/** Small things that every page is made of. */

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";

/** A figure: what it is, its value, and where it comes from (exact, closed form, simulation, calibration). */
export function Card(props: { readonly what: string; readonly children: ComponentChildren; readonly basis?: string }) {
  return (
    <div class="card">
      <div class="what">{props.what}</div>
      <div class="value">{props.children}</div>
      {props.basis && <div class="basis">{props.basis}</div>}
    </div>
  );
}

/** A bar for a share in per cent, with its number. */
export function Bar(props: { readonly percent: number }) {
  const width = Math.max(0, Math.min(100, props.percent));
  return (
    <span>
      <span class={props.percent > 100 ? "bar over" : "bar"} style={{ width: `${width * 0.6}px` }} aria-hidden="true" />{" "}
      {props.percent.toFixed(1)} %
    </span>
  );
}

/** A button that puts a text on the clipboard. */
export function Copy(props: { readonly text: string; readonly label?: string }) {
  const done = useSignal(false);
  const copy = async () => {
    await navigator.clipboard.writeText(props.text);
    done.value = true;
    setTimeout(() => (done.value = false), 1500);
  };
  return (
    <button type="button" class="copy" title={props.text} onClick={() => void copy()}>
      {done.value ? "copied" : (props.label ?? "copy")}
    </button>
  );
}

/** What goes wrong while a page is made, where people see it. */
export function Failure(props: { readonly error: unknown }) {
  return (
    <p role="alert" class="warning">
      This page cannot be shown: {props.error instanceof Error ? props.error.message : String(props.error)}
    </p>
  );
}
