// SPDX-License-Identifier: Apache-2.0
/** A histogram. */

import type { Bars } from "../data/reports";
import { count, short } from "../data/words";

const WIDTH = 300;
const HEIGHT = 70;
const FOOT = 14;

/** Bars of equal width; heights are roots of counts, so that rare values are seen beside frequent ones. */
export function Histogram({ of, name }: { readonly of: Bars; readonly name: string }) {
  const most = Math.max(1, ...of.counts);
  const width = WIDTH / of.counts.length;
  const step = (of.high - of.low) / of.counts.length;
  const zero = of.low < 0 && of.high > 0 ? (-of.low / (of.high - of.low)) * WIDTH : null;
  return (
    <svg viewBox={`0 0 ${WIDTH} ${HEIGHT + FOOT}`} width="100%" role="img" aria-label={`${name}: ${of.counts.length} parts from ${short(of.low)} to ${short(of.high)}`}>
      {of.counts.map((number, index) => {
        const height = Math.sqrt(number / most) * HEIGHT;
        const from = of.low + index * step;
        return (
          <rect key={index} x={index * width} y={HEIGHT - height} width={Math.max(0.5, width - 1)} height={height} fill="var(--accent)">
            <title>{`${short(from)} … ${short(from + step)}: ${count(number)}`}</title>
          </rect>
        );
      })}
      <line class="axis" x1={0} x2={WIDTH} y1={HEIGHT} y2={HEIGHT} />
      {zero !== null && <line class="axis" x1={zero} x2={zero} y1={0} y2={HEIGHT} />}
      <text x={0} y={HEIGHT + FOOT - 2}>{short(of.low)}</text>
      <text x={WIDTH} y={HEIGHT + FOOT - 2} text-anchor="end">{short(of.high)}</text>
      {zero !== null && zero > 40 && zero < WIDTH - 40 && <text x={zero} y={HEIGHT + FOOT - 2} text-anchor="middle">0</text>}
    </svg>
  );
}
