// SPDX-License-Identifier: Apache-2.0
/** Lays a graph out beside the page, which stays alive meanwhile. */

import { laidOut, type Sizes } from "./layout";

self.onmessage = (event: MessageEvent<Sizes>) => {
  self.postMessage(laidOut(event.data));
};
