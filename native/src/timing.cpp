// SPDX-License-Identifier: Apache-2.0
#include "timing.hpp"

#include <algorithm>

#include "errors.hpp"
#include "simulation.hpp"

namespace headrace {
namespace {

using namespace microcode;
using namespace simulation;

constexpr size_t kContextLimit = 1024;

// The slowest controller's slowest stage; where one context stays loaded, the host link may be slower still.
void find_bottleneck(const Program& p, TimingResult& out) {
  // Stages that share a controller count together, and the slowest of them speaks for it.
  std::vector<uint64_t> load(out.stages.size(), 0);
  for (size_t i = 0; i < out.stages.size(); ++i) load[i - p.stages[i].shares] += out.stages[i].busy;
  uint64_t most = 0, longest = 0;
  for (size_t i = 0; i < out.stages.size(); ++i) {
    const uint64_t all = load[i - p.stages[i].shares], own = out.stages[i].busy;
    if (all < most || (all == most && own <= longest)) continue;
    most = all;
    longest = own;
    out.bottleneck = static_cast<uint32_t>(i);
  }
  if (out.contexts.empty() && out.link_busy > most) out.bottleneck = static_cast<uint32_t>(out.stages.size());
}

// When a frame that is alone in the pipeline is back in the host.
uint64_t alone(const Program& p, uint32_t context) {
  Simulation sim(p, 1, context);
  sim.run();
  return sim.finished(0);
}

// The last frames are left out: no input follows them, so the host link is freer than in the steady state.
void set_period(const Simulation& sim, uint32_t frames, TimingResult& out) {
  const uint32_t at = measured_frame(frames), window = at / 2;
  const uint64_t last = sim.finished(at), before = sim.finished(at - 1), earlier = sim.finished(at - 2);
  out.frames = frames;
  out.steady = last - before == before - earlier;
  out.period_denominator = out.steady ? 1 : window;
  out.period_numerator = last - (out.steady ? before : sim.finished(at - window));
}

void summarize(const Program& p, const Simulation& sim, TimingResult& out) {
  out.latency = alone(p, 0);
  const auto clock = static_cast<double>(p.target.clock_hz);
  const auto period = static_cast<double>(out.period_numerator) / static_cast<double>(out.period_denominator);
  out.fps = period > 0 ? clock / period : 0;
  out.latency_ms = static_cast<double>(out.latency) / clock * 1e3;
  out.link_busy = sim.link_busy();
  out.stages.clear();
  for (const StageRecord& s : p.stages) out.stages.push_back(sim.stage(s.kernel));
  find_bottleneck(p, out);
}

// Cycles until the last of `batch` frames has left; frames beyond the simulated ones follow at the pace of the middle.
uint64_t batch_cycles(const Simulation& sim, uint32_t frames, uint32_t batch) {
  const uint64_t last = sim.finished(frames - 1);
  if (batch <= frames) return last;
  const uint32_t at = measured_frame(frames), window = frames / 4;
  return last + (sim.finished(at) - sim.finished(at - window)) * (batch - frames) / window;
}

// The contexts one after the other. While one runs, the link loads as much of the next one's weights as fits the memory
// units that the running one leaves free; the last is followed by the first of the next batch.
class Sequence {
 public:
  explicit Sequence(const Program& p) : p_(p), t_(p.target) {
    if (p.contexts.size() > kContextLimit) {
      fail(HEADRACE_NOT_IMPLEMENTED, "timing", "the simulation of so many contexts is not built yet",
           str(uint64_t{p.contexts.size()}) + " contexts", "at most " + str(uint64_t{kContextLimit}));
    }
    switch_ = cycles(t_.context_switch_ns, 1'000'000'000);
    uint64_t units = uint64_t{t_.clusters} * t_.memory_units_per_cluster;
    std::vector<uint64_t> left(p.contexts.size(), units);
    for (const StageRecord& s : p.stages) left[p.kernels[s.kernel].context] -= s.memory_units;
    for (uint64_t u : left) free_.push_back(cycles(Wide{u} * t_.memory_unit_bytes, t_.link_bytes_per_second));
  }

  TimingResult run() {
    TimingResult out;
    out.batch = p_.contexts[0].batch;
    out.frames = std::min(out.batch, kMostFrames);
    out.steady = true;
    out.stages.resize(p_.stages.size());
    for (uint32_t c = 0; c < p_.contexts.size(); ++c) out.contexts.push_back(play(c, out));
    uint64_t round = 0, loading = 0, streams = 0;
    for (uint32_t c = 0; c < p_.contexts.size(); ++c) {
      ContextTiming& timing = out.contexts[c];
      const uint32_t after = c + 1 == p_.contexts.size() ? 0 : c + 1;
      const uint64_t ahead = std::min(out.contexts[after].reload, free_[c]);
      timing.overrun = excess(saturated(timing.link_busy, out.batch), ahead, timing.run);
      out.contexts[after].ahead = ahead;
      // A frame alone: the first weights come before it, and nothing is loaded behind it.
      const uint64_t alone = after == 0 ? 0 : excess(timing.link_busy, ahead, timing.first);
      const uint64_t waited = out.contexts[after].reload - ahead;
      round += bounded_sum(timing.run + timing.overrun + waited + switch_, round);
      out.latency += timing.first + alone + waited + switch_ + (after == 0 ? ahead : 0);
      loading += timing.reload + switch_;
      streams += timing.link_busy;
    }
    out.period_numerator = round;
    out.period_denominator = out.batch;
    const auto clock = static_cast<double>(t_.clock_hz);
    out.fps = clock * out.batch / static_cast<double>(round);
    out.latency_ms = static_cast<double>(out.latency) / clock * 1e3;
    out.link_busy = loading / out.batch + streams;
    find_bottleneck(p_, out);
    // The link decides where loading and streams take longer than all the pipelines.
    uint64_t runs = 0;
    for (const ContextTiming& c : out.contexts) runs += c.run;
    const auto link = static_cast<uint32_t>(out.stages.size());
    if (loading + saturated(streams, out.batch) > runs) out.bottleneck = link;
    return out;
  }

 private:
  static constexpr uint64_t kMost = uint64_t{1} << 60;

  static uint64_t cycles_at(Wide amount, uint64_t clock, uint64_t per_second) {
    return static_cast<uint64_t>(std::min<Wide>(ceil_div(amount * clock, per_second), kMost));
  }
  uint64_t cycles(Wide amount, uint64_t per_second) const { return cycles_at(amount, t_.clock_hz, per_second); }
  static uint64_t saturated(uint64_t a, uint64_t b) {
    return static_cast<uint64_t>(std::min<Wide>(Wide{a} * b, kMost));
  }
  static uint64_t excess(uint64_t streams, uint64_t ahead, uint64_t run) {
    return streams + ahead > run ? streams + ahead - run : 0;
  }
  static uint64_t bounded_sum(uint64_t turn, uint64_t round) {
    if (turn > kMost || round > kMost) {
      fail(HEADRACE_INVALID_HEF, "timing", "a batch takes too many cycles", "more than 2^60", "at most 2^60");
    }
    return turn;
  }

  ContextTiming play(uint32_t c, TimingResult& out) const {
    Simulation sim(p_, out.frames, c);
    sim.run();
    ContextTiming timing;
    timing.reload = cycles(p_.contexts[c].weight_bytes, t_.link_bytes_per_second);
    timing.change = switch_;
    timing.first = alone(p_, c);
    timing.run = batch_cycles(sim, out.frames, out.batch);
    timing.link_busy = sim.link_busy();
    for (size_t i = 0; i < p_.stages.size(); ++i) {
      if (sim.holds(p_.stages[i].kernel)) out.stages[i] = sim.stage(p_.stages[i].kernel);
    }
    return timing;
  }

  const Program& p_;
  const TargetRecord& t_;
  uint64_t switch_ = 0;
  std::vector<uint64_t> free_;  // by context: link cycles that fill the memory it leaves
};

}  // namespace

TimingResult simulate(const Program& program) {
  if (program.stages.empty()) {
    fail(HEADRACE_NOT_FOUND, "timing", "the program has no stages, so it has no time", "0", "at least 1");
  }
  if (program.contexts.size() > 1) return Sequence(program).run();
  TimingResult out;
  for (uint32_t frames = kFirstFrames;; frames = kMostFrames) {
    Simulation sim(program, frames, 0);
    sim.run();
    set_period(sim, frames, out);
    if (!out.steady && frames < kMostFrames) continue;
    summarize(program, sim, out);
    return out;
  }
}

}  // namespace headrace
