// SPDX-License-Identifier: Apache-2.0
/** A graph to look at: drag, wheel and keys move it, a click picks a box, a search finds some. */

import { useComputed, useSignal, useSignalEffect } from "@preact/signals";
import type { Signal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { colour, theme } from "../parts/theme";
import type { Look } from "../parts/scale";
import { beginning, moved, showing, whole, zoomed, type Camera } from "./camera";
import type { Graph, Layout } from "./model";
import { nodeAt, paint, type Colours } from "./paint";
import { startLayout } from "./start_layout";

export interface Painting {
  readonly name: string;
  readonly looks: readonly Look[]; // as the nodes
  readonly legend: readonly { readonly look: Look; readonly text: string }[];
}

interface Props {
  readonly name: string;
  readonly graph: Graph;
  readonly picked: Signal<string | null>;
  readonly paintings: readonly Painting[];
}

const STEP = 60;

export function GraphView(props: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const layout = useSignal<Layout | null>(null);
  const failure = useSignal("");
  const camera = useSignal<Camera>({ x: 0, y: 0, scale: 1 });
  const size = useSignal<readonly [number, number]>([0, 0]);
  const wanted = useSignal("");
  const which = useSignal(0);
  const found = useComputed(() => matches(props.graph, wanted.value));
  const pointer = useMemo(() => pointerHandlers(camera, layout, props), [props.graph]);

  useEffect(() => {
    const running = startLayout(props.graph);
    running.done.then(
      (made) => {
        layout.value = made;
        camera.value = beginning(made, ...size.value);
      },
      (error: unknown) => (failure.value = String(error)),
    );
    return running.stop;
  }, [props.graph]);

  useEffect(() => {
    const element = canvas.current;
    if (!element) return undefined;
    const watcher = new ResizeObserver(() => (size.value = [element.clientWidth, element.clientHeight]));
    watcher.observe(element);
    return () => watcher.disconnect();
  }, []);

  useSignalEffect(() => {
    const id = props.picked.value;
    const index = id === null ? -1 : props.graph.nodes.findIndex((node) => node.id === id);
    const box = layout.value?.boxes[index];
    if (box) camera.value = showing(camera.peek(), box, ...size.peek());
  });

  useSignalEffect(() => {
    const [element, made, [width, height]] = [canvas.current, layout.value, size.value];
    const painting = props.paintings[which.value];
    const pickedId = props.picked.value;
    const seen = { camera: camera.value, theme: theme.value, found: found.value };
    if (!element || !made || !painting || width === 0) return undefined;
    const frame = requestAnimationFrame(() => {
      const dots = window.devicePixelRatio || 1;
      if (element.width !== Math.round(width * dots) || element.height !== Math.round(height * dots)) {
        element.width = Math.round(width * dots);
        element.height = Math.round(height * dots);
      }
      const context = element.getContext("2d");
      if (!context) return;
      context.setTransform(dots, 0, 0, dots, 0, 0);
      const picked = pickedId === null ? -1 : props.graph.nodes.findIndex((node) => node.id === pickedId);
      const scene = { graph: props.graph, layout: made, fills: painting.looks, picked, found: new Set(seen.found) };
      paint(context, scene, seen.camera, [width, height], coloursNow());
    });
    return () => cancelAnimationFrame(frame);
  });

  const next = () => {
    const places = found.value;
    if (places.length === 0) return;
    const here = places.findIndex((index) => props.graph.nodes[index]?.id === props.picked.value);
    props.picked.value = props.graph.nodes[places[(here + 1) % places.length] ?? 0]?.id ?? null;
  };

  return (
    <div class="graph">
      <div class="tools">
        <input
          type="search"
          aria-label={`search in ${props.name}`}
          placeholder="search layers"
          value={wanted.value}
          onInput={(event) => (wanted.value = event.currentTarget.value)}
          onKeyDown={(event) => event.key === "Enter" && next()}
        />
        <span class="note" role="status">
          {wanted.value && `${found.value.length} found`}
        </span>
        {props.paintings.length > 1 && (
          <label>
            colours:{" "}
            <select value={which.value} onChange={(event) => (which.value = Number(event.currentTarget.value))}>
              {props.paintings.map((painting, index) => (
                <option key={painting.name} value={index}>
                  {painting.name}
                </option>
              ))}
            </select>
          </label>
        )}
        <button type="button" onClick={() => layout.value && (camera.value = whole(layout.value, ...size.value))}>
          Whole graph
        </button>
        <button type="button" aria-label="larger" onClick={() => (camera.value = zoomed(camera.value, 1.3, size.value[0] / 2, size.value[1] / 2))}>
          +
        </button>
        <button type="button" aria-label="smaller" onClick={() => (camera.value = zoomed(camera.value, 1 / 1.3, size.value[0] / 2, size.value[1] / 2))}>
          −
        </button>
      </div>
      <div class="stage">
        <canvas
          ref={canvas}
          tabIndex={0}
          role="img"
          aria-label={`${props.name}: ${props.graph.nodes.length} layers; the table below lists them. Arrow keys move, plus and minus zoom.`}
          onKeyDown={(event) => onKey(event, camera, size.value)}
          {...pointer}
        />
        {!layout.value && <div class="state">{failure.value || `laying out ${props.graph.nodes.length} layers …`}</div>}
      </div>
      <div class="legend">
        {props.paintings[which.value]?.legend.map((entry) => (
          <span key={entry.text}>
            <span class="swatch" style={{ background: entry.look.fill }} />
            {entry.text}
          </span>
        ))}
      </div>
    </div>
  );
}

function coloursNow(): Colours {
  const [ground, line, text, quiet, accent] = ["--ground", "--quiet", "--text", "--quiet", "--accent"].map(colour) as [string, string, string, string, string];
  return { ground, line, text, quiet, accent };
}

function matches(graph: Graph, wanted: string): readonly number[] {
  const text = wanted.trim().toLowerCase();
  if (!text) return [];
  return graph.nodes.flatMap((node, index) => ([node.title, node.subtitle, node.id, ...node.also].some((part) => part.toLowerCase().includes(text)) ? [index] : []));
}

function onKey(event: KeyboardEvent, camera: Signal<Camera>, [width, height]: readonly [number, number]): void {
  const moves: Record<string, readonly [number, number]> = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
  const move = moves[event.key];
  if (move) camera.value = moved(camera.value, ...move);
  else if (event.key === "+" || event.key === "=") camera.value = zoomed(camera.value, 1.3, width / 2, height / 2);
  else if (event.key === "-") camera.value = zoomed(camera.value, 1 / 1.3, width / 2, height / 2);
  else return;
  event.preventDefault();
}

/** Dragging, the wheel, and clicks; two fingers zoom as the browser reports them (wheel with Ctrl). */
function pointerHandlers(camera: Signal<Camera>, layout: Signal<Layout | null>, props: Props) {
  let start: readonly [number, number] | null = null;
  let dragged = false;
  return {
    onPointerDown(event: PointerEvent) {
      start = [event.clientX, event.clientY];
      dragged = false;
      (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
    },
    onPointerMove(event: PointerEvent) {
      if (!start) return;
      const [dx, dy] = [event.clientX - start[0], event.clientY - start[1]];
      if (!dragged && Math.hypot(dx, dy) < 4) return;
      dragged = true;
      start = [event.clientX, event.clientY];
      camera.value = moved(camera.value, dx, dy);
    },
    onPointerUp(event: PointerEvent) {
      const made = layout.value;
      if (start && !dragged && made) {
        const { left, top } = (event.currentTarget as HTMLElement).getBoundingClientRect();
        const { x, y, scale } = camera.value;
        const index = nodeAt(made, x + (event.clientX - left) / scale, y + (event.clientY - top) / scale);
        props.picked.value = props.graph.nodes[index]?.id ?? null;
      }
      start = null;
    },
    onPointerCancel() {
      start = null;
    },
    onWheel(event: WheelEvent) {
      event.preventDefault();
      const { left, top } = (event.currentTarget as HTMLElement).getBoundingClientRect();
      if (event.ctrlKey || !event.shiftKey) {
        const factor = Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015));
        camera.value = zoomed(camera.value, factor, event.clientX - left, event.clientY - top);
      } else camera.value = moved(camera.value, -event.deltaX - event.deltaY, 0);
    },
  };
}
