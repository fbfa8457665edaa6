// SPDX-License-Identifier: Apache-2.0
/** What part of a drawing is seen: screen = (point − origin) · scale. */

import type { Box, Layout } from "./model";

export interface Camera {
  readonly x: number;
  readonly y: number;
  readonly scale: number;
}

const LEAST = 0.02;
const MOST = 3;

export function whole(layout: Layout, width: number, height: number): Camera {
  const scale = Math.min(1, (width - 40) / Math.max(layout.width, 1), (height - 40) / Math.max(layout.height, 1));
  const found = Math.max(LEAST, scale);
  return { x: layout.width / 2 - width / found / 2, y: layout.height / 2 - height / found / 2, scale: found };
}

/** The beginning of a tall graph, at a size that can be read. */
export function beginning(layout: Layout, width: number, height: number): Camera {
  const all = whole(layout, width, height);
  if (all.scale > 0.6) return all;
  const scale = Math.min(1, Math.max(0.6, (width - 40) / Math.max(layout.width, 1)));
  const first = layout.boxes[0];
  const middle = scale * layout.width <= width ? layout.width / 2 : (first?.x ?? layout.width / 2);
  return { x: middle - width / scale / 2, y: -20 / scale, scale };
}

export function moved(camera: Camera, dx: number, dy: number): Camera {
  return { ...camera, x: camera.x - dx / camera.scale, y: camera.y - dy / camera.scale };
}

/** Zoomed so that the point of the drawing at (px, py) on the screen stays there. */
export function zoomed(camera: Camera, factor: number, px: number, py: number): Camera {
  const scale = Math.min(MOST, Math.max(LEAST, camera.scale * factor));
  const keep = 1 / camera.scale - 1 / scale;
  return { x: camera.x + px * keep, y: camera.y + py * keep, scale };
}

/** Moved to have a box in the middle, where it is not in sight. */
export function showing(camera: Camera, box: Box, width: number, height: number): Camera {
  const scale = Math.max(camera.scale, 0.5);
  const [left, top] = [(box.x - camera.x) * camera.scale, (box.y - camera.y) * camera.scale];
  const seen = left > 60 && top > 40 && left < width - 60 && top < height - 40;
  if (seen && scale === camera.scale) return camera;
  return { x: box.x - width / scale / 2, y: box.y - height / scale / 2, scale };
}
