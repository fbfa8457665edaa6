// SPDX-License-Identifier: Apache-2.0
/** The profiler's report: what a HAR knows of its network, for people. */

import { render } from "preact";
import { pageData } from "../data/load";
import type { ProfilePage } from "../data/reports";
import { Failure } from "../parts/small";
import "../style/page.css";
import { Report } from "./report";

const root = document.getElementById("page");
if (root) {
  pageData<ProfilePage>().then(
    (page) => render(<Report page={page} />, root),
    (error: unknown) => render(<Failure error={error} />, root),
  );
}
