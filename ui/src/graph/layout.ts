// SPDX-License-Identifier: Apache-2.0
/** Where boxes and lines of a graph stand: dagre's layered drawing, piece by piece.
 *
 *  dagre's time grows faster than graphs do, and it calls itself once for each rank. Networks are mostly one thing after
 *  another: at a node that no edge leads past the drawing is cut, and the pieces are drawn by themselves and joined there.
 */

import { Graph as DagreGraph, layout } from "@dagrejs/dagre";
import { BOX_HEIGHT, type Box, type Layout } from "./model";
import { RANK_GAP, ranked } from "./ranked";

export interface Sizes {
  readonly widths: readonly number[];
  /** Pairs of indices of nodes. */
  readonly edges: readonly (readonly [number, number])[];
}

/** Pieces of fewer nodes are drawn together with what follows. */
const SMALL = 80;
/** In pieces of more nodes ranks are found in one pass; the best ranks take time that grows with the square. */
const FAST_ABOVE = 400;

type Point = readonly [number, number];

interface Piece {
  readonly nodes: readonly number[];
  readonly edges: readonly number[];
}

export function laidOut(sizes: Sizes): Layout {
  const boxes: Box[] = new Array<Box>(sizes.widths.length);
  const lines: (readonly Point[])[] = new Array<readonly Point[]>(sizes.edges.length);
  let joint: number | null = null;
  let bottom = 0;
  for (const piece of pieces(sizes)) {
    const drawn = draw(sizes, piece);
    // The first node of a piece is the last one of the piece before, and stands where that has it.
    const [here, there]: readonly [Box | undefined, Box | undefined] = joint === null ? [undefined, undefined] : [drawn.boxes.get(joint), boxes[joint]];
    const dx = here && there ? there.x - here.x : 0;
    const dy = here && there ? Math.max(there.y - here.y, bottom - BOX_HEIGHT / 2 - here.y) : bottom;
    for (const [node, box] of drawn.boxes) {
      boxes[node] = { ...box, x: box.x + dx, y: box.y + dy };
      bottom = Math.max(bottom, box.y + dy + box.height / 2);
    }
    for (const [edge, points] of drawn.lines) lines[edge] = points.map(([x, y]) => [x + dx, y + dy] as const);
    joint = piece.nodes[piece.nodes.length - 1] ?? null;
  }
  return fromCorner(boxes, lines);
}

/** Moved so that nothing stands left of 0 or above it. */
function fromCorner(boxes: readonly Box[], lines: readonly (readonly Point[])[]): Layout {
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const box of boxes) {
    left = Math.min(left, box.x - box.width / 2);
    right = Math.max(right, box.x + box.width / 2);
    top = Math.min(top, box.y - box.height / 2);
    bottom = Math.max(bottom, box.y + box.height / 2);
  }
  for (const points of lines) for (const [x] of points) [left, right] = [Math.min(left, x), Math.max(right, x)];
  if (boxes.length === 0) return { width: 0, height: 0, boxes, lines };
  return {
    width: right - left,
    height: bottom - top,
    boxes: boxes.map((box) => ({ ...box, x: box.x - left, y: box.y - top })),
    lines: lines.map((points) => points.map(([x, y]) => [x - left, y - top] as const)),
  };
}

/** Nodes in an order in which every edge leads forwards; a circle, which no network has, would stand at the end. */
function ordered(sizes: Sizes): readonly number[] {
  const count = sizes.widths.length;
  const [waits, readers] = [new Array<number>(count).fill(0), Array.from({ length: count }, (): number[] => [])];
  for (const [from, to] of sizes.edges) {
    waits[to] = (waits[to] ?? 0) + 1;
    readers[from]?.push(to);
  }
  const order: number[] = [];
  const taken = new Array<boolean>(count).fill(false);
  const open: number[] = [];
  const take = (node: number) => {
    open.push(node);
    while (open.length > 0) {
      const next = open.pop() ?? 0;
      if (taken[next]) continue;
      taken[next] = true;
      order.push(next);
      for (const reader of readers[next] ?? []) {
        waits[reader] = (waits[reader] ?? 0) - 1;
        if (waits[reader] === 0) open.push(reader);
      }
    }
  };
  for (let node = 0; node < count; node++) if (waits[node] === 0) take(node);
  for (let node = 0; node < count; node++) if (!taken[node]) take(node);
  return order;
}

/** The graph in pieces, each beginning with the last node of the one before. */
function pieces(sizes: Sizes): readonly Piece[] {
  const order = ordered(sizes);
  const place = new Array<number>(order.length);
  order.forEach((node, index) => (place[node] = index));
  const farthest = order.map((_, index) => index);
  const starting = order.map((): number[] => []);
  sizes.edges.forEach(([from, to], edge) => {
    const [start = 0, end = 0] = [place[from], place[to]];
    farthest[start] = Math.max(farthest[start] ?? 0, end);
    starting[Math.min(start, end)]?.push(edge);
  });
  const found: Piece[] = [];
  let [first, reach] = [0, 0];
  for (let index = 0; index < order.length; index++) {
    const last = index === order.length - 1;
    // Before this node nothing leads past it, and enough has come together.
    const cut = index > first && reach <= index && index - first >= SMALL;
    if (cut || last) {
      const edges: number[] = [];
      for (let at = first; at < (last ? index + 1 : index); at++) edges.push(...(starting[at] ?? []));
      found.push({ nodes: order.slice(first, index + 1), edges });
      first = index;
    }
    reach = Math.max(reach, farthest[index] ?? index);
  }
  return found;
}

interface Drawn {
  readonly boxes: Map<number, Box>;
  readonly lines: Map<number, readonly Point[]>;
}

function draw(sizes: Sizes, piece: Piece): Drawn {
  try {
    return withDagre(sizes, piece);
  } catch (error) {
    // A piece of a thousand ranks and more is too deep for dagre.
    if (error instanceof RangeError) return ranked(sizes.widths, sizes.edges, piece.nodes, piece.edges);
    throw error;
  }
}

function withDagre(sizes: Sizes, piece: Piece): Drawn {
  const graph = new DagreGraph({ multigraph: true });
  const ranker = piece.nodes.length > FAST_ABOVE ? "longest-path" : "network-simplex";
  graph.setGraph({ rankdir: "TB", nodesep: 18, ranksep: RANK_GAP, edgesep: 8, ranker });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of piece.nodes) graph.setNode(String(node), { width: sizes.widths[node] ?? 0, height: BOX_HEIGHT });
  for (const edge of piece.edges) {
    const [from, to] = sizes.edges[edge] ?? [0, 0];
    graph.setEdge(String(from), String(to), {}, String(edge));
  }
  layout(graph);
  const boxes = new Map<number, Box>();
  for (const node of piece.nodes) {
    const { x, y, width, height } = graph.node(String(node)) as Required<Box>;
    boxes.set(node, { x, y, width, height });
  }
  const lines = new Map<number, readonly Point[]>();
  for (const edge of piece.edges) {
    const [from, to] = sizes.edges[edge] ?? [0, 0];
    const { points } = graph.edge(String(from), String(to), String(edge)) as { points: { x: number; y: number }[] };
    lines.set(edge, points.map(({ x, y }) => [x, y] as const));
  }
  return { boxes, lines };
}
