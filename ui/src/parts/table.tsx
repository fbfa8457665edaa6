// SPDX-License-Identifier: Apache-2.0
/** A table that can be sorted, filtered, and picked from. */

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

export interface Column<Row> {
  readonly title: string;
  /** What it is sorted by; numbers stand at the right. */
  readonly value: (row: Row) => string | number | null;
  /** What is shown, where that is not the value. */
  readonly shown?: (row: Row) => ComponentChildren;
  readonly hint?: string;
  readonly wrap?: boolean;
}

interface Props<Row> {
  readonly name: string;
  readonly rows: readonly Row[];
  readonly columns: readonly Column<Row>[];
  readonly id: (row: Row) => string;
  readonly picked?: string | null;
  readonly onPick?: (id: string) => void;
  readonly sortedBy?: { readonly column: number; readonly down: boolean };
}

/** Rows beyond these are shown on demand: thousands of rows make a page slow. */
const FIRST_ROWS = 400;
/** Pixels at the top of the box that the head of the table covers. */
const HEAD = 30;

export function Table<Row>(props: Props<Row>) {
  const order = useSignal(props.sortedBy ?? null);
  const all = useSignal(false);
  const body = useRef<HTMLTableSectionElement>(null);
  const rows = sorted(props.rows, props.columns, order.value);
  const shown = all.value ? rows : rows.slice(0, FIRST_ROWS);
  useEffect(() => {
    const row = body.current?.querySelector<HTMLElement>('tr[aria-selected="true"]');
    const box = row?.closest<HTMLElement>(".tablebox");
    if (!row || !box) return;
    // Only the table turns to the row; the page stays where the person is.
    const [top, height] = [row.offsetTop, row.offsetHeight];
    if (top < box.scrollTop + HEAD) box.scrollTop = top - HEAD;
    else if (top + height > box.scrollTop + box.clientHeight) box.scrollTop = top + height - box.clientHeight;
  }, [props.picked]);
  const turn = (column: number) => {
    const before = order.value;
    order.value = before?.column === column ? { column, down: !before.down } : { column, down: numeric(props.rows, props.columns[column]) };
  };
  return (
    <div class="tablebox" tabIndex={0} role="region" aria-label={props.name}>
      <table>
        <caption class="sr">{props.name}</caption>
        <thead>
          <tr>
            {props.columns.map((column, index) => (
              <th
                key={column.title}
                scope="col"
                class={numeric(props.rows, column) ? "number" : ""}
                aria-sort={order.value?.column === index ? (order.value.down ? "descending" : "ascending") : "none"}
              >
                <button type="button" title={column.hint ?? `sort by ${column.title}`} onClick={() => turn(index)}>
                  {column.title}
                  {order.value?.column === index ? (order.value.down ? " ↓" : " ↑") : ""}
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody ref={body}>
          {shown.map((row) => (
            <Row key={props.id(row)} row={row} {...props} />
          ))}
        </tbody>
      </table>
      {rows.length > shown.length && (
        <p>
          <button type="button" onClick={() => (all.value = true)}>
            Show {rows.length - shown.length} more rows
          </button>
        </p>
      )}
    </div>
  );
}

function Row<Row>({ row, columns, id, picked, onPick }: Props<Row> & { readonly row: Row }) {
  const name = id(row);
  const pick = onPick && (() => onPick(name));
  return (
    <tr
      class={pick ? "pick" : ""}
      aria-selected={onPick ? picked === name : undefined}
      tabIndex={pick ? 0 : undefined}
      onClick={pick}
      onKeyDown={pick && ((event: KeyboardEvent) => event.key === "Enter" && pick())}
    >
      {columns.map((column) => {
        const value = column.value(row);
        return (
          <td key={column.title} class={typeof value === "number" ? "number" : column.wrap ? "wrap" : ""}>
            {column.shown ? column.shown(row) : value === null ? "" : value}
          </td>
        );
      })}
    </tr>
  );
}

function numeric<Row>(rows: readonly Row[], column: Column<Row> | undefined): boolean {
  return column !== undefined && rows.some((row) => typeof column.value(row) === "number");
}

function sorted<Row>(rows: readonly Row[], columns: readonly Column<Row>[], order: { column: number; down: boolean } | null): readonly Row[] {
  const column = order && columns[order.column];
  if (!column) return rows;
  const sign = order.down ? -1 : 1;
  return [...rows].sort((first, second) => {
    const [a, b] = [column.value(first), column.value(second)];
    if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1; // what has no value stands last
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), "en", { numeric: true });
  });
}
