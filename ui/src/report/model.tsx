// SPDX-License-Identifier: Apache-2.0
/** The network: what is in it, and what became of the file's nodes. */

import type { Signal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import type { ParseReport, PlacedNode, ProfiledLayer, ProfilePage } from "../data/reports";
import { count, plain, shape, short } from "../data/words";
import { GraphView } from "../graph/view";
import { Card, Copy } from "../parts/small";
import { Table, type Column } from "../parts/table";
import { Details } from "./details";
import { graphOf, paintingsOf } from "./painting";

interface Props {
  readonly page: ProfilePage;
  readonly picked: Signal<string | null>;
}

const LAYERS: readonly Column<ProfiledLayer>[] = [
  { title: "layer", value: (layer) => plain(layer.name) },
  { title: "kind", value: (layer) => layer.kind },
  { title: "makes", value: (layer) => shape(layer.output_shape) },
  { title: "operations", value: (layer) => layer.operations, shown: (layer) => count(layer.operations) },
  { title: "weights", value: (layer) => layer.weights, shown: (layer) => count(layer.weights) },
  { title: "in the file", value: (layer) => layer.original_names.join(", "), wrap: true },
];

export function ModelPanel({ page, picked }: Props) {
  const { network, layers } = page.profile;
  const graph = useMemo(() => graphOf(layers), [layers]);
  const paintings = useMemo(() => paintingsOf(layers), [layers]);
  return (
    <>
      <div class="cards">
        <Card what="layers" basis="counted">{count(network.layers)}</Card>
        <Card what="weights and biases" basis="counted">{short(network.weights)}</Card>
        <Card what="multiply-accumulates per frame" basis="counted">{short(network.macs)}</Card>
        <Card what="operations per frame" basis="counted">{short(network.operations)}</Card>
        {network.inputs.map((stream) => (
          <Card key={stream.name} what={`input ${plain(stream.name)}`}>{shape(stream.shape)}</Card>
        ))}
        {network.outputs.length <= 4 &&
          network.outputs.map((stream) => (
            <Card key={stream.name} what={`output ${plain(stream.name)}`}>{shape(stream.shape)}</Card>
          ))}
      </div>
      <div class="split">
        <GraphView name="the network" graph={graph} picked={picked} paintings={paintings} />
        <Details layers={layers} weights={page.weights} picked={picked} />
      </div>
      <h2>Layers</h2>
      <Table name="layers" rows={layers} columns={LAYERS} id={(layer) => layer.name} picked={picked.value} onPick={(id) => (picked.value = id)} />
      {page.parse && <FromTheFile parse={page.parse} picked={picked} />}
      <Commands page={page} />
    </>
  );
}

const PLACES: Record<PlacedNode["place"], string> = {
  device: "on the device",
  host: "on the host",
  folded: "computed when the file was parsed",
  unused: "no output needs it",
  nowhere: "not computed",
};

const NODES: readonly Column<PlacedNode>[] = [
  { title: "node", value: (node) => node.node, wrap: true },
  { title: "operator", value: (node) => node.operator },
  { title: "where", value: (node) => PLACES[node.place] },
  { title: "layer", value: (node) => (node.layer ? plain(node.layer) : null) },
  { title: "why", value: (node) => node.reason || null, wrap: true },
  { title: "what would move it to the device", value: (node) => node.rewrite || null, wrap: true },
];

function FromTheFile({ parse, picked }: { readonly parse: ParseReport; readonly picked: Signal<string | null> }) {
  const placed = parse.placement ?? [];
  const numbers = Object.entries(PLACES).map(([place, text]) => [text, placed.filter((node) => node.place === place).length] as const);
  return (
    <>
      <h2>What became of the file</h2>
      <p>
        {count(parse.source_nodes)} nodes of {String(parse.source.format)}:{" "}
        {numbers.filter(([, number]) => number > 0).map(([text, number]) => `${count(number)} ${text}`).join(", ")}.
      </p>
      {parse.warnings.map((warning) => (
        <p key={warning} class="warning">{warning}</p>
      ))}
      {placed.length > 0 && (
        <Table
          name="nodes of the file"
          rows={placed}
          columns={NODES}
          id={(node) => node.node}
          onPick={(id) => {
            const layer = placed.find((node) => node.node === id)?.layer;
            if (layer) picked.value = layer;
          }}
        />
      )}
      {parse.patterns.length > 0 && (
        <>
          <h3>Nodes that together are one operation</h3>
          <Table
            name="patterns"
            rows={parse.patterns}
            columns={[
              { title: "pattern", value: (pattern) => pattern.pattern },
              { title: "is now", value: (pattern) => pattern.into },
              { title: "nodes", value: (pattern) => pattern.nodes.join(", "), wrap: true },
            ]}
            id={(pattern) => `${pattern.pattern} ${pattern.nodes.join(" ")}`}
          />
        </>
      )}
    </>
  );
}

function Commands({ page }: { readonly page: ProfilePage }) {
  return (
    <>
      <h2>The same without this page</h2>
      <Table
        name="commands"
        rows={page.commands}
        columns={[
          { title: "figures", value: (line) => line.what },
          { title: "command", value: (line) => line.command, shown: (line) => <><code>{line.command}</code> <Copy text={line.command} /></>, wrap: true },
          { title: "Python", value: (line) => line.python, shown: (line) => <><code>{line.python}</code> <Copy text={line.python} /></>, wrap: true },
        ]}
        id={(line) => line.what}
      />
    </>
  );
}
