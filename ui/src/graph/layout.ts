// SPDX-License-Identifier: Apache-2.0
/** Where boxes and lines of a graph stand: dagre's layered drawing. */

import { Graph as DagreGraph, layout } from "@dagrejs/dagre";
import { BOX_HEIGHT, type Layout } from "./model";

export interface Sizes {
  readonly widths: readonly number[];
  /** Pairs of indices of nodes. */
  readonly edges: readonly (readonly [number, number])[];
}

/** Above so many nodes ranks are found in one pass; the best ranks take time that grows with the square. */
const FAST_ABOVE = 400;

export function laidOut(sizes: Sizes): Layout {
  const graph = new DagreGraph({ multigraph: true });
  graph.setGraph({
    rankdir: "TB",
    nodesep: 18,
    ranksep: 26,
    edgesep: 8,
    ranker: sizes.widths.length > FAST_ABOVE ? "longest-path" : "network-simplex",
  });
  graph.setDefaultEdgeLabel(() => ({}));
  sizes.widths.forEach((width, index) => graph.setNode(String(index), { width, height: BOX_HEIGHT }));
  sizes.edges.forEach(([from, to], index) => graph.setEdge(String(from), String(to), {}, String(index)));
  layout(graph);
  const boxes = sizes.widths.map((_, index) => {
    const { x, y, width, height } = graph.node(String(index)) as Required<{ x: number; y: number; width: number; height: number }>;
    return { x, y, width, height };
  });
  const lines = sizes.edges.map(([from, to], index) => {
    const edge = graph.edge(String(from), String(to), String(index)) as { points: { x: number; y: number }[] };
    return edge.points.map(({ x, y }) => [x, y] as const);
  });
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number };
  return { width, height, boxes, lines };
}
