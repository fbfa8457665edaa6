// SPDX-License-Identifier: Apache-2.0
/** The network on devices: speed, what bounds it, resources, contexts. */

import type { Signal } from "@preact/signals";
import type { ClusterFigures, NoEstimate, OneContext, ProfiledLayer, ProfilePage, ScheduledLayer, SeveralContexts, TargetEstimate } from "../data/reports";
import { count, percent, plain, short } from "../data/words";
import { Bar, Card } from "../parts/small";
import { Table, type Column } from "../parts/table";

interface Props {
  readonly page: ProfilePage;
  readonly picked: Signal<string | null>;
}

export function DevicePanel({ page, picked }: Props) {
  const { compiled, simulation } = page.profile;
  return (
    <>
      {compiled && (
        <>
          <div class="cards">
            {simulation && <Card what="frames per second" basis={`event simulation, batch ${simulation.batch}`}>{short(simulation.fps)}</Card>}
            {simulation && <Card what="latency" basis="event simulation">{simulation.latency_ms.toPrecision(4)} ms</Card>}
            <Card what="frames per second" basis="closed form">{short(compiled.fps)}</Card>
            <Card what="bottleneck" basis="closed form">{plain(compiled.bottleneck)}</Card>
            <Card what="hardest bound of the device" basis="closed form">{compiled.bound_by.replaceAll("_", " ")}</Card>
            <Card what="of what is proven possible" basis="closed form">{percent(compiled.proven_percent)}</Card>
            <Card what="contexts">{compiled.contexts}</Card>
          </div>
          <Bounds compiled={compiled} />
          {isSeveral(compiled) && <Contexts compiled={compiled} />}
          <h2>Layers, slowest first</h2>
          <Scheduled layers={page.profile.layers} picked={picked} />
          <h2>Clusters</h2>
          <Table name="clusters" rows={compiled.clusters} columns={CLUSTERS} id={(one) => `${one.context ?? 0} ${one.cluster}`} />
        </>
      )}
      <h2>Device beside device</h2>
      <p class="note">Closed form, without compiling: all layers in one context, where they fit.</p>
      <Table name="devices" rows={page.profile.estimates} columns={DEVICES} id={(one) => one.target} />
    </>
  );
}

function isSeveral(compiled: OneContext | SeveralContexts): compiled is SeveralContexts {
  return compiled.contexts > 1;
}

function Bounds({ compiled }: { readonly compiled: OneContext | SeveralContexts }) {
  const rows = Object.entries(compiled.bounds_fps).map(([name, fps]) => ({ name, fps }));
  const used = Object.entries(compiled.utilization).map(([name, share]) => ({ name, share, total: compiled.totals[name], limit: compiled.limits[name] }));
  return (
    <div class="split">
      <div>
        <h2>What would allow how much</h2>
        <Table
          name="bounds"
          rows={rows}
          columns={[
            { title: "bound", value: (row) => row.name.replaceAll("_", " ") },
            { title: "frames per second", value: (row) => row.fps, shown: (row) => short(row.fps) },
          ]}
          id={(row) => row.name}
          sortedBy={{ column: 1, down: false }}
        />
      </div>
      <div>
        <h2>Resources</h2>
        <Table
          name="resources"
          rows={used}
          columns={[
            { title: "resource", value: (row) => row.name.replaceAll("_", " ") },
            { title: "used", value: (row) => row.share, shown: (row) => <Bar percent={row.share} /> },
            { title: "of", value: (row) => row.limit ?? null, shown: (row) => `${row.total ?? "?"} of ${row.limit ?? "?"}` },
          ]}
          id={(row) => row.name}
        />
      </div>
    </div>
  );
}

function Contexts({ compiled }: { readonly compiled: SeveralContexts }) {
  const batches = Object.entries(compiled.fps_by_batch).map(([batch, fps]) => ({ batch: Number(batch), fps }));
  return (
    <>
      <h2>Contexts</h2>
      <p class="note">Loaded in turn, for {compiled.batch} frames each; widths are shares of the batch's time.</p>
      <div class="strip" role="list" aria-label="contexts">
        {compiled.parts.map((part) => (
          <div key={part.context} class="context" role="listitem" style={{ flexGrow: part.cycles_per_batch }}>
            <strong>{part.context}</strong> {plain(part.first)} … {plain(part.last)}
            <div class="note">
              {part.layers} layers · {percent((100 * part.cycles_per_batch) / compiled.cycles_per_batch)} of the time · loading {percent((100 * part.reload_cycles) / Math.max(part.cycles_per_batch, 1))}
            </div>
          </div>
        ))}
      </div>
      <Table
        name="batches"
        rows={batches}
        columns={[
          { title: "frames per batch", value: (row) => row.batch },
          { title: "frames per second", value: (row) => row.fps, shown: (row) => short(row.fps) },
        ]}
        id={(row) => String(row.batch)}
      />
    </>
  );
}

type Placed = ProfiledLayer & { schedule: ScheduledLayer };

const SCHEDULED: readonly Column<Placed>[] = [
  { title: "layer", value: (layer) => plain(layer.name) },
  { title: "kind", value: (layer) => layer.kind },
  { title: "cycles", value: (layer) => layer.schedule.cycles, shown: (layer) => count(layer.schedule.cycles) },
  { title: "of the slowest", value: (layer) => layer.schedule.utilization, shown: (layer) => <Bar percent={layer.schedule.utilization} /> },
  { title: "waits for", value: (layer) => layer.schedule.bound },
  { title: "context", value: (layer) => layer.schedule.context ?? 0 },
  { title: "sub-clusters", value: (layer) => layer.schedule.subclusters },
  { title: "memory units", value: (layer) => layer.schedule.memory_units },
  { title: "controllers", value: (layer) => layer.schedule.controllers },
  {
    title: "next better, cycles",
    value: (layer) => layer.schedule.next_better?.cycles ?? null,
    shown: (layer) => {
      const next = layer.schedule.next_better;
      return next ? `${count(next.cycles)} (${Object.entries(next.extra).map(([name, extra]) => `+${extra} ${name.replaceAll("_", " ")}`).join(", ")})` : "–";
    },
  },
];

function Scheduled({ layers, picked }: { readonly layers: readonly ProfiledLayer[]; readonly picked: Signal<string | null> }) {
  const rows = layers.filter((layer): layer is Placed => layer.schedule !== undefined && layer.schedule !== null);
  return <Table name="layers on the device" rows={rows} columns={SCHEDULED} id={(layer) => layer.name} picked={picked.value} onPick={(id) => (picked.value = id)} sortedBy={{ column: 2, down: true }} />;
}

const CLUSTERS: readonly Column<ClusterFigures>[] = [
  { title: "context", value: (one) => one.context ?? 0 },
  { title: "cluster", value: (one) => one.cluster },
  { title: "control", value: (one) => one.control.percent, shown: (one) => <Bar percent={one.control.percent} /> },
  { title: "compute", value: (one) => one.compute.percent, shown: (one) => <Bar percent={one.compute.percent} /> },
  { title: "memory", value: (one) => one.memory.percent, shown: (one) => <Bar percent={one.memory.percent} /> },
  { title: "activation units", value: (one) => one.activation_units.percent, shown: (one) => <Bar percent={one.activation_units.percent} /> },
  { title: "input aligners", value: (one) => one.input_aligners.percent, shown: (one) => <Bar percent={one.input_aligners.percent} /> },
];

type Estimate = TargetEstimate | NoEstimate;
const known = (one: Estimate): one is TargetEstimate => "fps" in one;

const DEVICES: readonly Column<Estimate>[] = [
  { title: "device", value: (one) => one.target },
  { title: "in one context", value: (one) => (known(one) ? (one.fits_one_context ? "yes" : "no") : "no estimate"), shown: (one) => (known(one) ? (one.fits_one_context ? "yes" : "no: several contexts") : one.error), wrap: true },
  { title: "frames per second", value: (one) => (known(one) && one.fits_one_context ? one.fps : null), shown: (one) => (known(one) && one.fits_one_context ? short(one.fps) : "–") },
  { title: "latency, ms", value: (one) => (known(one) && one.fits_one_context ? one.latency_ms : null), shown: (one) => (known(one) && one.fits_one_context ? one.latency_ms.toPrecision(4) : "–") },
  { title: "bottleneck", value: (one) => (known(one) ? plain(one.bottleneck) : null) },
  { title: "clusters needed", value: (one) => (known(one) ? one.clusters_needed : null) },
];
