// SPDX-License-Identifier: Apache-2.0

import type { Change, ComparedSide, DifferenceReport, Json, LayerPair } from "../data/reports";
import { count, plain } from "../data/words";
import { Card } from "../parts/small";
import { Table, type Column } from "../parts/table";
import { Top } from "../parts/top";

/** A change of one layer, as a row. */
interface Row extends Change {
  readonly pair: LayerPair;
}

function shown(value: Json): string {
  if (value === null) return "–";
  if (typeof value === "number") return Number.isInteger(value) ? count(value) : value.toPrecision(5);
  if (Array.isArray(value)) return value.slice(0, 8).map(shown).join(", ") + (value.length > 8 ? " …" : "");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** By how much a figure grew, in per cent; null where it is none. */
function growth({ before, after }: Change): number | null {
  if (typeof before !== "number" || typeof after !== "number" || before === 0) return null;
  return (100 * (after - before)) / Math.abs(before);
}

const VALUES: readonly Column<Change>[] = [
  { title: "A", value: (change) => (typeof change.before === "number" ? change.before : shown(change.before)), shown: (change) => shown(change.before), wrap: true },
  { title: "B", value: (change) => (typeof change.after === "number" ? change.after : shown(change.after)), shown: (change) => shown(change.after), wrap: true },
  {
    title: "change",
    value: growth,
    shown: (change) => {
      const found = growth(change);
      return found === null ? "" : `${found > 0 ? "+" : ""}${found.toFixed(1)} %`;
    },
  },
];

const TOTALS: readonly Column<Change>[] = [{ title: "network", value: (change) => change.what }, ...VALUES];

const LAYERS: readonly Column<Row>[] = [
  { title: "layer", value: ({ pair }) => (plain(pair.first) === plain(pair.second) ? plain(pair.first) : `${plain(pair.first)} → ${plain(pair.second)}`) },
  { title: "matched by", value: (row) => row.pair.matched_by },
  { title: "what", value: (row) => row.what },
  ...VALUES,
];

export function Differences({ found }: { readonly found: DifferenceReport }) {
  const rows: readonly Row[] = found.changed.flatMap((pair) => pair.changes.map((change) => ({ ...change, pair })));
  const nothing = rows.length === 0 && found.totals.length === 0 && found.only_first.length === 0 && found.only_second.length === 0;
  return (
    <div class="page">
      <Top title={`${found.first.source} and ${found.second.source}`} facts="what differs" />
      <main>
        <div class="cards">
          <Side name="A" of={found.first} />
          <Side name="B" of={found.second} />
          <Card what="layers that are the same">{count(found.same)}</Card>
          <Card what="layers with changes">{count(found.changed.length)}</Card>
        </div>
        {nothing && <p>Nothing differs.</p>}
        {found.totals.length > 0 && (
          <>
            <h2>The networks</h2>
            <Table name="networks" rows={found.totals} columns={TOTALS} id={(change) => change.what} />
          </>
        )}
        {rows.length > 0 && (
          <>
            <h2>Layers</h2>
            <Table name="changes of layers" rows={rows} columns={LAYERS} id={(row) => `${row.pair.first} ${row.what}`} />
          </>
        )}
        <Only name="A" layers={found.only_first} />
        <Only name="B" layers={found.only_second} />
      </main>
    </div>
  );
}

function Side({ name, of }: { readonly name: string; readonly of: ComparedSide }) {
  return (
    <Card what={`${name}: ${of.source}`} basis={`${of.state.replaceAll("_", " ")} · ${of.hw_arch} · ${count(of.layers)} layers`}>
      {of.name}
    </Card>
  );
}

function Only({ name, layers }: { readonly name: string; readonly layers: readonly string[] }) {
  if (layers.length === 0) return null;
  return (
    <>
      <h2>Only in {name}</h2>
      <Table name={`only in ${name}`} rows={layers} columns={[{ title: "layer", value: plain }]} id={(layer) => layer} />
    </>
  );
}
