// SPDX-License-Identifier: Apache-2.0
/** A graph to be drawn: what stands in the boxes, and which goes to which. */

export interface GraphNode {
  readonly id: string;
  /** Lines of the box, the first one bold. */
  readonly title: string;
  readonly subtitle: string;
  /** Further text that a search finds. */
  readonly also: readonly string[];
}

export interface GraphEdge {
  readonly from: string;
  readonly to: string;
}

export interface Graph {
  readonly nodes: readonly GraphNode[];
  readonly edges: readonly GraphEdge[];
}

export interface Box {
  readonly x: number; // of its middle
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface Layout {
  readonly width: number;
  readonly height: number;
  readonly boxes: readonly Box[]; // as the nodes
  readonly lines: readonly (readonly (readonly [number, number])[])[]; // as the edges
}

/** How wide letters are, on average, in the font of boxes. */
const LETTER = 6.6;
export const BOX_HEIGHT = 38;

/** The size of a node's box. */
export function boxWidth(node: GraphNode): number {
  const letters = Math.max(node.title.length, node.subtitle.length);
  return Math.min(260, Math.max(84, Math.round(letters * LETTER) + 22));
}
