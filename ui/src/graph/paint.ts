// SPDX-License-Identifier: Apache-2.0
/** Draws what is in sight of a laid out graph. */

import type { Camera } from "./camera";
import type { Graph, Layout } from "./model";

export interface Colours {
  readonly ground: string;
  readonly line: string;
  readonly text: string;
  readonly quiet: string;
  readonly accent: string;
}

export interface Scene {
  readonly graph: Graph;
  readonly layout: Layout;
  /** Fill and ink of each box. */
  readonly fills: readonly { readonly fill: string; readonly ink: string }[];
  readonly picked: number;
  readonly found: ReadonlySet<number>;
}

/** Below this scale text cannot be read, and is not drawn. */
const READABLE = 0.38;

export function paint(canvas: CanvasRenderingContext2D, scene: Scene, camera: Camera, size: readonly [number, number], colours: Colours): void {
  const [width, height] = size;
  const [left, top] = [camera.x, camera.y];
  const [right, bottom] = [left + width / camera.scale, top + height / camera.scale];
  canvas.save();
  canvas.fillStyle = colours.ground;
  canvas.fillRect(0, 0, width, height);
  canvas.scale(camera.scale, camera.scale);
  canvas.translate(-camera.x, -camera.y);
  paintLines(canvas, scene, camera, colours, top, bottom);
  const readable = camera.scale >= READABLE;
  canvas.textAlign = "center";
  canvas.textBaseline = "middle";
  scene.layout.boxes.forEach((box, index) => {
    const [halfWidth, halfHeight] = [box.width / 2, box.height / 2];
    if (box.x + halfWidth < left || box.x - halfWidth > right || box.y + halfHeight < top || box.y - halfHeight > bottom) return;
    paintBox(canvas, scene, index, colours, readable);
  });
  canvas.restore();
}

function paintLines(canvas: CanvasRenderingContext2D, scene: Scene, camera: Camera, colours: Colours, top: number, bottom: number): void {
  canvas.lineWidth = Math.max(1.2, 0.7 / camera.scale);
  canvas.strokeStyle = colours.line;
  canvas.beginPath();
  for (const points of scene.layout.lines) {
    const [first, last] = [points[0], points[points.length - 1]];
    if (!first || !last || (last[1] < top && first[1] < top) || (first[1] > bottom && last[1] > bottom)) continue;
    canvas.moveTo(first[0], first[1]);
    for (let index = 1; index < points.length - 1; index++) {
      const [here, next] = [points[index], points[index + 1]];
      if (!here || !next) continue;
      canvas.quadraticCurveTo(here[0], here[1], (here[0] + next[0]) / 2, (here[1] + next[1]) / 2);
    }
    canvas.lineTo(last[0], last[1]);
  }
  canvas.stroke();
}

function paintBox(canvas: CanvasRenderingContext2D, scene: Scene, index: number, colours: Colours, readable: boolean): void {
  const [node, box, look] = [scene.graph.nodes[index], scene.layout.boxes[index], scene.fills[index]];
  if (!node || !box || !look) return;
  const [x, y] = [box.x - box.width / 2, box.y - box.height / 2];
  canvas.fillStyle = look.fill;
  canvas.beginPath();
  canvas.roundRect(x, y, box.width, box.height, 6);
  canvas.fill();
  const marked = index === scene.picked || scene.found.has(index);
  canvas.strokeStyle = marked ? colours.accent : colours.line;
  canvas.lineWidth = index === scene.picked ? 4 : marked ? 2.5 : 1;
  if (scene.found.has(index) && index !== scene.picked) canvas.setLineDash([5, 3]);
  canvas.stroke();
  canvas.setLineDash([]);
  if (!readable) return;
  canvas.fillStyle = look.ink;
  canvas.font = "600 12px system-ui, sans-serif";
  canvas.fillText(node.title, box.x, box.y - 8, box.width - 10);
  canvas.font = "11px system-ui, sans-serif";
  canvas.fillText(node.subtitle, box.x, box.y + 9, box.width - 10);
}

/** The node at a point of the drawing, or −1. */
export function nodeAt(layout: Layout, x: number, y: number): number {
  return layout.boxes.findIndex((box) => Math.abs(x - box.x) <= box.width / 2 && Math.abs(y - box.y) <= box.height / 2);
}
