// SPDX-License-Identifier: Apache-2.0
/** The data of a page, which stand in it gzipped, as base64: a tenth of their JSON. */

const ELEMENT = "headrace-data";

/** The page's data.
 *  @throws Error where the element is missing or holds something else. */
export async function pageData<T>(): Promise<T> {
  const element = document.getElementById(ELEMENT);
  if (!element) throw new Error(`the page has no element #${ELEMENT}`);
  const bytes = Uint8Array.from(atob(element.textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text()) as T;
}
