// SPDX-License-Identifier: Apache-2.0
/** Colours that stand for values, told apart by people who see few colours. */

import { interpolateCividis } from "d3-scale-chromatic";

export interface Look {
  readonly fill: string;
  readonly ink: string;
}

/** Eight hues of Okabe and Ito and tints of them, for kinds of things; the last is for all others. */
const HUES = ["#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#7fa8ff", "#b8b8b8"] as const;

/** The look of the n-th kind. */
export function ofKind(index: number): Look {
  const fill = HUES[Math.min(index, HUES.length - 1)] ?? HUES[7];
  return { fill, ink: inkOn(fill) };
}

/** The look of a share of 0 … 1, dark blue to yellow (cividis). */
export function ofShare(share: number): Look {
  const fill = interpolateCividis(Math.min(1, Math.max(0, share)));
  return { fill, ink: inkOn(fill) };
}

/** Black or white, whichever stands out more (WCAG 2, relative luminance). */
export function inkOn(fill: string): string {
  const numbers = fill.startsWith("#")
    ? [1, 3, 5].map((at) => parseInt(fill.slice(at, at + 2), 16))
    : (fill.match(/\d+/g) ?? []).map(Number);
  const [red = 0, green = 0, blue = 0] = numbers.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return luminance > 0.179 ? "#101010" : "#ffffff";
}
