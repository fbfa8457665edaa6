// SPDX-License-Identifier: Apache-2.0
/** All that is known of one layer. */

import type { Signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import type { LayerAccuracy, ProfiledLayer, ScheduledLayer, SimulatedStage, WeightFacts } from "../data/reports";
import { count, decibels, percent, plain, shape } from "../data/words";
import { Histogram } from "../parts/bars";

interface Props {
  readonly weights: readonly WeightFacts[];
  readonly layers: readonly ProfiledLayer[];
  readonly picked: Signal<string | null>;
}

export function Details({ layers, weights, picked }: Props) {
  const layer = layers.find((one) => one.name === picked.value);
  if (!layer) {
    return (
      <aside class="details" aria-label="the layer that is picked">
        <p class="note">Pick a layer in the graph or in a table.</p>
      </aside>
    );
  }
  const readers = layers.filter((other) => other.inputs.includes(layer.name));
  return (
    <aside class="details" aria-label="the layer that is picked">
      <h3>{plain(layer.name)}</h3>
      <dl>
        <Fact name="kind">{layer.kind}</Fact>
        <Fact name="in the file">{layer.original_names.join(", ") || "–"}</Fact>
        <Fact name="reads">
          {layer.inputs.map((name, index) => (
            <Go key={`${index} ${name}`} name={name} picked={picked} more={shape(layer.input_shapes[index] ?? [])} />
          ))}
        </Fact>
        <Fact name="makes">{shape(layer.output_shape)}</Fact>
        <Fact name="read by">
          {readers.map((reader) => (
            <Go key={reader.name} name={reader.name} picked={picked} />
          ))}
        </Fact>
        <Fact name="multiply-accumulates">{count(layer.macs)}</Fact>
        <Fact name="operations">{count(layer.operations)}</Fact>
        <Fact name="weights and biases">{count(layer.weights)}</Fact>
      </dl>
      <Weights of={weights.find((one) => one.layer === layer.name)} />
      {layer.accuracy && <Accuracy of={layer.accuracy} />}
      {layer.schedule && <Schedule of={layer.schedule} />}
      {layer.simulation && <Simulation of={layer.simulation} />}
    </aside>
  );
}

function Fact(props: { readonly name: string; readonly children: ComponentChildren }) {
  return (
    <>
      <dt>{props.name}</dt>
      <dd>{props.children}</dd>
    </>
  );
}

function Go(props: { readonly name: string; readonly picked: Signal<string | null>; readonly more?: string }) {
  return (
    <div>
      <button type="button" class="copy" onClick={() => (props.picked.value = props.name)}>
        {plain(props.name)}
      </button>{" "}
      {props.more}
    </div>
  );
}

function Weights({ of }: { readonly of: WeightFacts | undefined }) {
  if (!of) return null;
  return (
    <>
      <h3>Weights</h3>
      {of.float && <Histogram of={of.float} name="weights of the float network" />}
      {of.codes && (
        <>
          <Histogram of={of.codes} name="codes of the weights" />
          <p class="note">
            Codes of {of.scaled_apart} channels, each with a scale of its own
            {of.half_used > 0 ? `; ${of.half_used} use half of their codes or less` : ""}.
          </p>
        </>
      )}
    </>
  );
}

function Accuracy({ of }: { readonly of: LayerAccuracy }) {
  const scale = typeof of.scale === "number" ? of.scale.toPrecision(4) : of.scale === null ? "–" : `${of.scale.length} scales`;
  return (
    <>
      <h3>Precision (calibration)</h3>
      <dl>
        <Fact name="SNR">{decibels(of.snr_db)}</Fact>
        <Fact name="bits">{of.bits}</Fact>
        <Fact name="range">
          {of.range[0].toPrecision(4)} … {of.range[1].toPrecision(4)}
        </Fact>
        <Fact name="scale">{scale}</Fact>
        <Fact name="zero point">{typeof of.zero_point === "number" ? of.zero_point : `${of.zero_point.length} zero points`}</Fact>
        <Fact name="different codes">{count(of.distinct_codes)}</Fact>
        <Fact name="saturated">{percent(of.saturated_percent)}</Fact>
      </dl>
    </>
  );
}

function Schedule({ of }: { readonly of: ScheduledLayer }) {
  const next = of.next_better;
  return (
    <>
      <h3>On the device (closed form)</h3>
      <dl>
        <Fact name="cycles per frame">{count(of.cycles)}</Fact>
        <Fact name="of the slowest">{percent(of.utilization)}</Fact>
        <Fact name="a row waits for">{of.bound}</Fact>
        <Fact name="context, cluster">
          {of.context ?? 0}, {of.cluster}
        </Fact>
        <Fact name="controllers">{of.controllers || `shares that of ${plain(of.shares_controller_of ?? "another")}`}</Fact>
        <Fact name="sub-clusters">{of.subclusters}</Fact>
        <Fact name="memory units">
          {of.memory_units} (weights {of.weight_units}, buffers {of.buffer_units})
        </Fact>
        <Fact name="slices">
          {of.option.column_slices} of width, {of.option.feature_slices} of channels
        </Fact>
        <Fact name="next better">
          {next
            ? `${count(next.cycles)} cycles for ${Object.entries(next.extra).map(([name, extra]) => `${extra} more ${name.replaceAll("_", " ")}`).join(", ") || "nothing more"}`
            : "nothing is faster"}
        </Fact>
      </dl>
    </>
  );
}

function Simulation({ of }: { readonly of: SimulatedStage }) {
  return (
    <>
      <h3>On the device (event simulation)</h3>
      <dl>
        <Fact name="busy cycles">{count(of.busy_cycles)}</Fact>
        <Fact name="first row to last">{count(of.cycles_per_frame)}</Fact>
        <Fact name="waits for rows">{count(of.stall_input_cycles)}</Fact>
        <Fact name="waits for room">{count(of.stall_output_cycles)}</Fact>
      </dl>
    </>
  );
}
