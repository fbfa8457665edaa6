// SPDX-License-Identifier: Apache-2.0
/** What optimization did, and how near the result is to float. */

import type { Signal } from "@preact/signals";
import type { Decision, NetworkAccuracy, PartAccuracy, ProfiledLayer, ProfilePage } from "../data/reports";
import { count, decibels, percent, plain } from "../data/words";
import { Card } from "../parts/small";
import { Table, type Column } from "../parts/table";

interface Props {
  readonly page: ProfilePage;
  readonly accuracy: NetworkAccuracy;
  readonly picked: Signal<string | null>;
}

type Measured = ProfiledLayer & { accuracy: NonNullable<ProfiledLayer["accuracy"]> };

const LAYERS: readonly Column<Measured>[] = [
  { title: "layer", value: (layer) => plain(layer.name) },
  { title: "kind", value: (layer) => layer.kind },
  { title: "SNR, dB", value: (layer) => layer.accuracy.snr_db ?? 999, shown: (layer) => decibels(layer.accuracy.snr_db), hint: "signal about the mean of each channel to noise, on calibration frames" },
  { title: "bits", value: (layer) => layer.accuracy.bits },
  { title: "codes", value: (layer) => layer.accuracy.distinct_codes, shown: (layer) => count(layer.accuracy.distinct_codes), hint: "different codes that occurred" },
  { title: "saturated", value: (layer) => layer.accuracy.saturated_percent, shown: (layer) => percent(layer.accuracy.saturated_percent) },
  { title: "least", value: (layer) => layer.accuracy.range[0], shown: (layer) => layer.accuracy.range[0].toPrecision(4) },
  { title: "greatest", value: (layer) => layer.accuracy.range[1], shown: (layer) => layer.accuracy.range[1].toPrecision(4) },
];

type OutputPart = PartAccuracy & { readonly output: string };

const PARTS: readonly Column<OutputPart>[] = [
  { title: "output", value: (part) => plain(part.output) },
  { title: "part", value: (part) => part.name },
  { title: "where", value: (part) => part.place || "whole" },
  { title: "SNR, dB", value: (part) => (part.constant ? null : (part.snr_db ?? 999)), shown: (part) => (part.constant ? "nothing varies" : part.dead ? `${decibels(part.snr_db)}, dead` : decibels(part.snr_db)) },
  { title: "codes", value: (part) => part.distinct_codes, shown: (part) => count(part.distinct_codes) },
  { title: "spread", value: (part) => part.spread, shown: (part) => part.spread.toPrecision(3), hint: "standard deviation of the float values" },
];

const DECISIONS: readonly Column<Decision>[] = [
  { title: "algorithm", value: (one) => one.name.replaceAll("_", " ") },
  { title: "layer", value: (one) => (one.layer ? plain(one.layer) : "whole network") },
  { title: "kept", value: (one) => (one.accepted ? "yes" : "no") },
  { title: "before", value: (one) => one.before, shown: (one) => one.before.toPrecision(4) },
  { title: "after", value: (one) => one.after, shown: (one) => one.after.toPrecision(4) },
  { title: "measure", value: (one) => one.measure },
  { title: "why", value: (one) => one.reason, wrap: true },
];

export function AccuracyPanel({ page, accuracy, picked }: Props) {
  const { calibration, outputs, warnings } = accuracy;
  const measured = page.profile.layers.filter((layer): layer is Measured => layer.accuracy !== undefined && layer.accuracy !== null);
  const parts = Object.entries(outputs).flatMap(([output, found]) => found.parts.map((part) => ({ ...part, output })));
  const kept = page.algorithms.filter((one) => one.accepted).length;
  return (
    <>
      <div class="cards">
        <Card what="calibration frames" basis={`accuracy on ${calibration.snr_frames} of them`}>{count(calibration.frames)}</Card>
        <Card what="proposals kept" basis="each measured before and after">
          {kept} of {page.algorithms.length}
        </Card>
        {Object.entries(outputs).slice(0, 6).map(([name, output]) => (
          <Card key={name} what={`SNR of ${plain(name)}`} basis={output.parts.length > 1 ? `worst part ${output.worst}: ${decibels(output.worst_snr_db)}` : "calibration"}>
            {decibels(output.snr_db)}
          </Card>
        ))}
      </div>
      {calibration.random === true && <p class="warning">The calibration data are noise: these figures say nothing of accuracy.</p>}
      {warnings.map((warning) => (
        <p key={warning} class="warning">{warning}</p>
      ))}
      <h2>Outputs, part by part</h2>
      <Table name="parts of outputs" rows={parts} columns={PARTS} id={(part) => `${part.output} ${part.name} ${part.place}`} sortedBy={{ column: 3, down: false }} />
      <h2>Layers, least accurate first</h2>
      <p class="note">Each layer of the quantized network beside the float network: what was lost in it and before it.</p>
      <Table name="accuracy of layers" rows={measured} columns={LAYERS} id={(layer) => layer.name} picked={picked.value} onPick={(id) => (picked.value = id)} sortedBy={{ column: 2, down: false }} />
      <h2>What was tried</h2>
      <Table name="decisions" rows={page.algorithms} columns={DECISIONS} id={(one) => `${page.algorithms.indexOf(one)}`} />
    </>
  );
}
