// SPDX-License-Identifier: Apache-2.0
/** Two networks beside one another: what differs. */

import { render } from "preact";
import { pageData } from "../data/load";
import type { DifferenceReport } from "../data/reports";
import { Failure } from "../parts/small";
import "../style/page.css";
import { Differences } from "./differences";

const root = document.getElementById("page");
if (root) {
  pageData<DifferenceReport>().then(
    (found) => render(<Differences found={found} />, root),
    (error: unknown) => render(<Failure error={error} />, root),
  );
}
