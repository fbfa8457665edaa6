// SPDX-License-Identifier: Apache-2.0

import type { Sizes } from "./layout";
import worker from "./layout.worker.ts?text";
import { boxWidth, type Graph, type Layout } from "./model";

/** The layout of a graph, made by a worker that is gone when it is done. */
export function startLayout(graph: Graph): { done: Promise<Layout>; stop: () => void } {
  const places = new Map(graph.nodes.map((node, index) => [node.id, index]));
  const edges: [number, number][] = [];
  for (const { from, to } of graph.edges) {
    const [start, end] = [places.get(from), places.get(to)];
    if (start !== undefined && end !== undefined) edges.push([start, end]);
  }
  const sizes: Sizes = { widths: graph.nodes.map(boxWidth), edges };
  const address = URL.createObjectURL(new Blob([worker], { type: "text/javascript" }));
  const running = new Worker(address);
  const done = new Promise<Layout>((resolve, reject) => {
    running.onmessage = (event: MessageEvent<Layout>) => {
      running.terminate();
      resolve(event.data);
    };
    running.onerror = (event) => {
      running.terminate();
      reject(new Error(event.message));
    };
    running.postMessage(sizes);
  });
  return {
    done: done.finally(() => URL.revokeObjectURL(address)),
    stop: () => running.terminate(),
  };
}
