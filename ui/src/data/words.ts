// SPDX-License-Identifier: Apache-2.0
/** Numbers and names as people read them. */

const COUNTS = new Intl.NumberFormat("en-US");

export function count(value: number): string {
  return COUNTS.format(value);
}

/** 1,234,567,890 as "1.23 G": three figures and a prefix of the SI. */
export function short(value: number): string {
  const steps = [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const;
  for (const [size, prefix] of steps) {
    if (Math.abs(value) >= size) return `${(value / size).toPrecision(3)} ${prefix}`;
  }
  return Number.isInteger(value) ? String(value) : value.toPrecision(3);
}

export function decibels(value: number | null): string {
  return value === null ? "exact" : `${value.toFixed(1)} dB`;
}

export function percent(value: number): string {
  return `${value.toFixed(1)} %`;
}

/** A shape; −1 is the batch. */
export function shape(sizes: readonly number[]): string {
  return sizes.map((size) => (size === -1 ? "N" : String(size))).join("×");
}

/** The name of a layer without that of its network. */
export function plain(layer: string): string {
  const cut = layer.indexOf("/");
  return cut < 0 ? layer : layer.slice(cut + 1);
}
