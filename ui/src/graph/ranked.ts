// SPDX-License-Identifier: Apache-2.0
/** The plainest layered drawing, for what is too deep for dagre: ranks by longest path, each rank beside the middle of
 *  what it reads, straight lines. */

import { BOX_HEIGHT, type Box } from "./model";

export const RANK_GAP = 26;
const GAP = 18;

export function ranked(
  widths: readonly number[],
  edges: readonly (readonly [number, number])[],
  nodes: readonly number[], // every edge leads forwards
  which: readonly number[],
): { boxes: Map<number, Box>; lines: Map<number, readonly (readonly [number, number])[]> } {
  const reads = new Map<number, number[]>(nodes.map((node) => [node, []]));
  for (const edge of which) {
    const [from, to] = edges[edge] ?? [0, 0];
    reads.get(to)?.push(from);
  }
  const rank = new Map<number, number>();
  const ranks: number[][] = [];
  for (const node of nodes) {
    const found = Math.max(-1, ...(reads.get(node) ?? []).map((from) => rank.get(from) ?? -1)) + 1;
    rank.set(node, found);
    (ranks[found] ??= []).push(node);
  }
  const boxes = new Map<number, Box>();
  ranks.forEach((row, level) => {
    const middle = (node: number) => {
      const from = (reads.get(node) ?? []).flatMap((one) => boxes.get(one)?.x ?? []);
      return from.length > 0 ? from.reduce((sum, x) => sum + x, 0) / from.length : 0;
    };
    const order = row.map((node) => [middle(node), node] as const).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const whole = row.reduce((sum, node) => sum + (widths[node] ?? 0) + GAP, -GAP);
    let x = order.reduce((sum, [at]) => sum + at, 0) / order.length - whole / 2;
    for (const [, node] of order) {
      const width = widths[node] ?? 0;
      boxes.set(node, { x: x + width / 2, y: level * (BOX_HEIGHT + RANK_GAP) + BOX_HEIGHT / 2, width, height: BOX_HEIGHT });
      x += width + GAP;
    }
  });
  const lines = new Map<number, readonly (readonly [number, number])[]>();
  for (const edge of which) {
    const [from, to] = edges[edge] ?? [0, 0];
    const [start, end] = [boxes.get(from), boxes.get(to)];
    if (!start || !end) continue;
    lines.set(edge, [
      [start.x, start.y + BOX_HEIGHT / 2],
      [end.x, end.y - BOX_HEIGHT / 2],
    ]);
  }
  return { boxes, lines };
}
