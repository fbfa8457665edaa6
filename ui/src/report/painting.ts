// SPDX-License-Identifier: Apache-2.0
/** The network of a report as a graph, and the colours that its layers can have. */

import { extent } from "d3-array";
import type { ProfiledLayer } from "../data/reports";
import { plain, shape } from "../data/words";
import type { Graph } from "../graph/model";
import type { Painting } from "../graph/view";
import { ofKind, ofShare, type Look } from "../parts/scale";

export function graphOf(layers: readonly ProfiledLayer[]): Graph {
  return {
    nodes: layers.map((layer) => ({
      id: layer.name,
      title: plain(layer.name),
      subtitle: `${layer.kind} ${shape(layer.output_shape)}`,
      also: layer.original_names,
    })),
    edges: layers.flatMap((layer) => layer.inputs.map((from) => ({ from, to: layer.name }))),
  };
}

const NOTHING: Look = { fill: "#dcdfe4", ink: "#101010" };

/** Every painting for which the layers have data. */
export function paintingsOf(layers: readonly ProfiledLayer[]): readonly Painting[] {
  const found: Painting[] = [byName("kind", layers, (layer) => layer.kind)];
  if (layers.some((layer) => layer.accuracy)) {
    found.push(byValue("SNR, dB", layers, (layer) => (layer.accuracy ? (layer.accuracy.snr_db ?? 100) : null), [10, 50]));
    found.push(byName("bits", layers, (layer) => (layer.accuracy ? `${layer.accuracy.bits} bits` : null)));
  }
  if (layers.some((layer) => layer.schedule)) {
    found.push(byValue("share of the slowest, %", layers, (layer) => layer.schedule?.utilization ?? null, [0, 100]));
    found.push(byName("bound by", layers, (layer) => layer.schedule?.bound ?? null));
    if (layers.some((layer) => layer.schedule?.context)) {
      found.push(byName("context", layers, (layer) => (layer.schedule ? `context ${layer.schedule.context ?? 0}` : null)));
    }
  }
  found.push(byValue("operations, log₁₀", layers, (layer) => (layer.operations > 0 ? Math.log10(layer.operations) : null)));
  return found;
}

/** The most frequent names have colours of their own. */
function byName(name: string, layers: readonly ProfiledLayer[], of: (layer: ProfiledLayer) => string | null): Painting {
  const counts = new Map<string, number>();
  for (const layer of layers) {
    const value = of(layer);
    if (value !== null) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  const order = [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0], "en")).map(([value]) => value);
  const own = order.length <= 8 ? order : order.slice(0, 7);
  const look = (value: string | null) => (value === null ? NOTHING : ofKind(own.includes(value) ? own.indexOf(value) : 7));
  const legend = own.map((text) => ({ look: look(text), text }));
  if (own.length < order.length) legend.push({ look: ofKind(7), text: `${order.length - own.length} other kinds` });
  return { name, looks: layers.map((layer) => look(of(layer))), legend };
}

/** Dark to light over the range of the values, or over the one that is given. */
function byValue(name: string, layers: readonly ProfiledLayer[], of: (layer: ProfiledLayer) => number | null, range?: readonly [number, number]): Painting {
  const values = layers.map(of);
  const [low = 0, high = 1] = range ?? extent(values.filter((value) => value !== null));
  const share = (value: number) => (high > low ? (value - low) / (high - low) : 0.5);
  const looks = values.map((value) => (value === null ? NOTHING : ofShare(share(value))));
  const steps = [0, 0.25, 0.5, 0.75, 1].map((part) => ({ look: ofShare(part), text: (low + part * (high - low)).toPrecision(3) }));
  return { name, looks, legend: [...steps, { look: NOTHING, text: "no value" }] };
}
