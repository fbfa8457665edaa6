// SPDX-License-Identifier: Apache-2.0

import { useSignal } from "@preact/signals";
import type { ProfilePage } from "../data/reports";
import { Top } from "../parts/top";
import { AccuracyPanel } from "./accuracy";
import { DevicePanel } from "./device";
import { ModelPanel } from "./model";

interface Tab {
  readonly name: string;
  readonly title: string;
}

/** What the state of the HAR has something to say about. */
function tabsOf(page: ProfilePage): readonly Tab[] {
  const { accuracy, compiled } = page.profile;
  return [
    { name: "model", title: "Model" },
    ...(accuracy ? [{ name: "accuracy", title: "Optimization" }] : []),
    { name: "device", title: compiled ? "Compilation and run time" : "Devices" },
  ];
}

export function Report({ page }: { readonly page: ProfilePage }) {
  const tabs = tabsOf(page);
  const asked = decodeURIComponent(location.hash.slice(1));
  const open = useSignal(tabs.some((tab) => tab.name === asked) ? asked : "model");
  const picked = useSignal<string | null>(null);
  const show = (name: string) => {
    open.value = name;
    history.replaceState(null, "", `#${name}`);
  };
  const turn = (event: KeyboardEvent) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (step === 0) return;
    const here = tabs.findIndex((tab) => tab.name === open.value);
    const next = tabs[(here + step + tabs.length) % tabs.length];
    if (!next) return;
    show(next.name);
    document.getElementById(`tab-${next.name}`)?.focus();
  };
  const { profile } = page;
  return (
    <div class="page">
      <Top title={profile.name} facts={`${profile.state.replaceAll("_", " ")} · ${profile.hw_arch} · Headrace ${page.headrace}`} />
      <div class="tabs" role="tablist" aria-label="parts of the report" onKeyDown={turn}>
        {tabs.map((tab) => (
          <button
            key={tab.name}
            id={`tab-${tab.name}`}
            type="button"
            role="tab"
            aria-selected={open.value === tab.name}
            aria-controls={`panel-${tab.name}`}
            tabIndex={open.value === tab.name ? 0 : -1}
            onClick={() => show(tab.name)}
          >
            {tab.title}
          </button>
        ))}
      </div>
      <main>
        {tabs.map((tab) => (
          <section key={tab.name} class="tabpanel" id={`panel-${tab.name}`} role="tabpanel" aria-labelledby={`tab-${tab.name}`} hidden={open.value !== tab.name}>
            {tab.name === "model" && <ModelPanel page={page} picked={picked} />}
            {tab.name === "accuracy" && profile.accuracy && <AccuracyPanel page={page} accuracy={profile.accuracy} picked={picked} />}
            {tab.name === "device" && <DevicePanel page={page} picked={picked} />}
          </section>
        ))}
      </main>
    </div>
  );
}
