// SPDX-License-Identifier: Apache-2.0
#include "timing.hpp"

#include <algorithm>
#include <queue>
#include <set>

#include "errors.hpp"
#include "row_geometry.hpp"

namespace headrace {
namespace {

using namespace microcode;
using Wide = unsigned __int128;

constexpr uint64_t kUnlimited = UINT64_MAX;
constexpr uint64_t kTokenLimit = uint64_t{1} << 25;  // rows of a simulation
constexpr uint64_t kRowLimit = uint64_t{1} << 36;    // cycles of a row; with the token limit every time is below 2^62
constexpr uint32_t kFirstFrames = 12, kMostFrames = 32;
constexpr size_t kContextLimit = 1024;
constexpr uint32_t kNobody = UINT32_MAX;

uint32_t measured_frame(uint32_t frames) { return frames - 1 - frames / 4; }

uint64_t bounded(Wide cycles) {
  if (cycles > kRowLimit)
    fail(HEADRACE_INVALID_HEF, "timing", "a row takes too many cycles", "more than 2^36", "at most 2^36");
  return static_cast<uint64_t>(cycles);
}
Wide ceil_div(Wide a, Wide b) { return (a + b - 1) / b; }

struct Edge {
  uint32_t tensor = 0;
  uint32_t consumer = kNobody;  // actor
  uint32_t operand = 0;
  uint64_t capacity = kUnlimited;
  std::vector<uint64_t> freed;  // times
};

enum class ActorKind { kStage, kLinkIn, kLinkOut };

struct Actor {
  ActorKind kind = ActorKind::kStage;
  uint32_t index = 0;            // kernel or tensor
  uint32_t tensor = 0;           // written (stage, link in) or read (link out)
  std::vector<uint32_t> inputs;  // edges, by operand
  std::vector<RowGeometry> geometry;
  uint64_t rows = 1;                                         // of the written (or sent) tensor per frame
  uint64_t input = 0, engine = 0, output = 0, overhead = 0;  // cycles per row
  bool incremental = false;
  uint64_t steps_per_frame = 1;   // tokens: rows, or input rows of an incremental stage
  uint64_t next = 0;              // token, over all frames
  uint64_t free = 0;              // when its server is free
  uint32_t controller = kNobody;  // shared with other stages, if it is
  bool pending = false;
  uint64_t wait_input = 0, wait_output = 0;  // times of the pending token's last dependencies
  uint64_t first_start = 0, last_end = 0, stall_input = 0, stall_output = 0;  // of the measured frame

  uint64_t row_cycles() const { return std::max({input, engine, output}) + overhead; }
};

// Whether a tensor comes from, or goes to, the outside of a context: the host, or another context by way of it.
struct Crossing {
  bool enters = false, leaves = false;
};

// By tensor, for one context.
std::vector<Crossing> crossings(const Program& p, uint32_t context) {
  struct Seen {
    bool written = false, read = false, read_later = false, read_anywhere = false;
  };
  std::vector<Seen> seen(p.tensors.size());
  for (const KernelRecord& k : p.kernels) {
    if (k.context == context) seen[k.output].written = true;
    for (uint32_t j = 0; j < k.operand_count; ++j) {
      Seen& s = seen[p.operand(k, j)];
      s.read_anywhere = true;
      s.read = s.read || k.context == context;
      s.read_later = s.read_later || k.context > context;
    }
  }
  std::vector<Crossing> out(p.tensors.size());
  for (size_t t = 0; t < out.size(); ++t) {
    const auto role = static_cast<TensorRole>(p.tensors[t].role);
    const Seen& s = seen[t];
    const bool unread = role == TensorRole::kInput && !s.read_anywhere && context == 0;
    out[t].enters = !s.written && (s.read || unread);
    out[t].leaves = s.written && (role == TensorRole::kOutput || s.read_later);
  }
  return out;
}

struct Blocked {
  uint32_t on = kNobody;  // actor
  uint32_t edge = 0;
  bool for_room = false;
};

class Simulation {
 public:
  Simulation(const Program& p, uint32_t frames, uint32_t context) : p_(p), frames_(frames), context_(context) {
    make_actors();
    make_edges();
    reserve();
  }

  void run() {
    for (uint32_t a = 0; a < actors_.size(); ++a) schedule(a);
    while (!queue_.empty()) {
      const auto [time, index] = queue_.top();
      queue_.pop();
      if (index < actors_.size()) {
        // A row that finds its controller taken, or others in front of it, waits its turn.
        Controller* shared = controller_of(index);
        if (shared != nullptr && (shared->free > time || !shared->waiting.empty())) {
          if (shared->waiting.empty()) wake(index);
          shared->waiting.emplace(time, index);
        } else {
          start(index, time);
        }
        continue;
      }
      Controller& shared = controllers_[index - actors_.size()];
      const uint32_t next = shared.waiting.begin()->second;
      shared.waiting.erase(shared.waiting.begin());
      start(next, time);
    }
    for (uint32_t a = 0; a < actors_.size(); ++a) {
      if (actors_[a].next != total(actors_[a])) report_deadlock(a);
    }
  }

  // When the last output row of a frame is in the host.
  uint64_t finished(uint32_t frame) const {
    uint64_t time = 0;
    for (const Actor& a : actors_) {
      if (a.kind == ActorKind::kLinkIn) continue;
      // A stage that nobody reads counts too; of the others the link's end is the last.
      const auto& times = a.kind == ActorKind::kLinkOut ? edges_[a.inputs[0]].freed : available_[a.tensor];
      time = std::max(time, times[a.rows * (frame + 1) - 1]);
    }
    return time;
  }
  uint64_t link_busy() const { return link_busy_ / frames_; }
  bool holds(uint32_t kernel) const { return actor_of_[kernel] != kNobody; }

  StageTiming stage(uint32_t kernel) const {
    const Actor& a = actors_[actor_of_[kernel]];
    StageTiming s;
    s.kernel = kernel;
    s.rows = static_cast<uint32_t>(a.rows);
    s.engine = a.rows * (a.engine + a.overhead);
    s.input_port = a.rows * (a.input + a.overhead);
    s.output_port = a.rows * (a.output + a.overhead);
    s.busy = std::max({s.engine, s.input_port, s.output_port});
    s.span = a.last_end - a.first_start;
    s.stall_input = a.stall_input;
    s.stall_output = a.stall_output;
    return s;
  }

 private:
  uint64_t total(const Actor& a) const { return a.steps_per_frame * frames_; }
  uint64_t height(uint32_t tensor) const { return p_.tensors[tensor].height; }

  // The context's kernels come first; the link's ends follow.
  void make_actors() {
    actor_of_.assign(p_.kernels.size(), kNobody);
    for (uint32_t k = 0; k < p_.kernels.size(); ++k) {
      if (p_.kernels[k].context != context_) continue;
      actor_of_[k] = static_cast<uint32_t>(actors_.size());
      Actor a;
      a.index = k;
      a.tensor = p_.kernels[k].output;
      a.rows = height(a.tensor);
      for (uint32_t j = 0; j < p_.kernels[k].operand_count; ++j) a.geometry.emplace_back(p_, k, j);
      a.incremental = a.geometry[0].incremental();
      a.steps_per_frame = a.incremental ? a.geometry[0].input_rows() : a.rows;
      actors_.push_back(std::move(a));
    }
    for (size_t i = 0; i < p_.stages.size(); ++i) {
      const StageRecord& s = p_.stages[i];
      if (!holds(s.kernel)) continue;
      set_rates(actors_[actor_of_[s.kernel]], s);
      if (s.shares != 0) share(actor_of_[s.kernel], actor_of_[p_.stages[i - s.shares].kernel]);
    }
    const auto add_link = [&](uint32_t tensor, ActorKind kind) {
      Actor a;
      a.kind = kind;
      a.index = a.tensor = tensor;
      a.rows = a.steps_per_frame = height(tensor);
      actors_.push_back(std::move(a));
    };
    const std::vector<Crossing> outside = crossings(p_, context_);
    for (uint32_t t = 0; t < p_.tensors.size(); ++t) {
      if (outside[t].enters) add_link(t, ActorKind::kLinkIn);
      if (outside[t].leaves) add_link(t, ActorKind::kLinkOut);
    }
  }

  void share(uint32_t actor, uint32_t owner) {
    if (actors_[owner].controller == kNobody) {
      actors_[owner].controller = static_cast<uint32_t>(controllers_.size());
      controllers_.emplace_back();
    }
    actors_[actor].controller = actors_[owner].controller;
  }

  void set_rates(Actor& a, const StageRecord& s) const {
    const TargetRecord& t = p_.target;
    const Wide bn = t.busy_numerator, bd = t.busy_denominator, rows = a.rows;
    const auto port = [&](uint64_t bytes) {
      return bounded(ceil_div(Wide{bytes} * bd, t.port_bytes_per_cycle * bn * rows));
    };
    a.input = port(s.input_bytes_per_frame);
    a.engine = bounded(ceil_div(Wide{s.engine_cycles_per_row} * bd, bn));
    a.output = port(std::max(s.output_bytes_per_frame, s.join_bytes_per_frame));
    a.overhead = t.row_overhead_cycles;
  }

  void make_edges() {
    writer_.assign(p_.tensors.size(), kNobody);
    readers_.resize(p_.tensors.size());
    for (uint32_t a = 0; a < actors_.size(); ++a) {
      if (actors_[a].kind != ActorKind::kLinkOut) writer_[actors_[a].tensor] = a;
    }
    const auto add = [&](uint32_t actor, uint32_t tensor, uint32_t operand) {
      Edge e;
      e.tensor = tensor;
      e.consumer = actor;
      e.operand = operand;
      const auto index = static_cast<uint32_t>(edges_.size());
      actors_[actor].inputs.push_back(index);
      readers_[tensor].push_back(index);
      edges_.push_back(std::move(e));
    };
    for (uint32_t a = 0; a < actors_.size(); ++a) {
      if (actors_[a].kind == ActorKind::kLinkOut) add(a, actors_[a].tensor, 0);
      if (actors_[a].kind != ActorKind::kStage) continue;
      const KernelRecord& k = p_.kernels[actors_[a].index];
      for (uint32_t j = 0; j < k.operand_count; ++j) add(a, p_.operand(k, j), j);
    }
    for (const BufferRecord& b : p_.buffers) {
      for (uint32_t index : readers_[b.tensor]) {
        Edge& e = edges_[index];
        const Actor& consumer = actors_[e.consumer];
        const bool host = consumer.kind == ActorKind::kLinkOut;
        if (e.operand == b.operand && (host ? b.consumer == kNone : b.consumer == consumer.index))
          e.capacity = b.capacity_rows;
      }
    }
  }

  void reserve() {
    uint64_t tokens = 0;
    for (const Actor& a : actors_) tokens += total(a);
    for (const Edge& e : edges_) tokens += height(e.tensor) * frames_;
    if (tokens > kTokenLimit) {
      fail(HEADRACE_NOT_IMPLEMENTED, "timing", "the simulation of so many rows is not built yet", str(tokens) + " rows",
           "at most 2^25");
    }
    available_.resize(p_.tensors.size());
    for (uint32_t t = 0; t < available_.size(); ++t) {
      if (writer_[t] != kNobody) available_[t].reserve(height(t) * frames_);
    }
    for (Edge& e : edges_) e.freed.reserve(height(e.tensor) * frames_);
  }

  // Input rows of operand `j` (over all frames) that token `token` needs.
  uint64_t needed(const Actor& a, size_t j, uint64_t token) const {
    if (a.kind == ActorKind::kLinkOut) return token + 1;
    const uint64_t frame = token / a.steps_per_frame, inside = token % a.steps_per_frame;
    const uint64_t rows = a.geometry[j].input_rows();
    if (a.incremental) {
      if (j == 0) return frame * rows + inside + 1;
      return inside + 1 == a.steps_per_frame ? (frame + 1) * rows : 0;
    }
    const uint64_t count = a.geometry[j].needed(inside);
    return count == 0 ? 0 : frame * rows + count;
  }
  uint64_t released(const Actor& a, size_t j, uint64_t token) const {
    if (a.kind == ActorKind::kLinkOut) return token + 1;
    const uint64_t frame = token / a.steps_per_frame, inside = token % a.steps_per_frame;
    const uint64_t rows = a.geometry[j].input_rows();
    if (a.incremental) {
      if (j == 0) return frame * rows + inside + 1;
      return inside + 1 == a.steps_per_frame ? (frame + 1) * rows : frame * rows;
    }
    return frame * rows + a.geometry[j].released(inside);
  }
  // Output row that token `token` writes; false when it writes none.
  bool writes(const Actor& a, uint64_t token, uint64_t& row) const {
    if (a.kind == ActorKind::kLinkOut) return false;
    row = a.incremental ? token / a.steps_per_frame : token;
    return !a.incremental || token % a.steps_per_frame == a.steps_per_frame - 1;
  }

  // The dependencies of the next token: true with their times, or false with what is missing.
  bool ready(Actor& a, Blocked& blocked) const {
    a.wait_input = a.wait_output = 0;
    for (size_t j = 0; j < a.inputs.size(); ++j) {
      const uint64_t count = needed(a, j, a.next);
      if (count == 0) continue;
      const auto& times = available_[edges_[a.inputs[j]].tensor];
      if (times.size() < count) {
        blocked = {writer_[edges_[a.inputs[j]].tensor], a.inputs[j], false};
        return false;
      }
      a.wait_input = std::max(a.wait_input, times[count - 1]);
    }
    uint64_t row = 0;
    if (!writes(a, a.next, row)) return true;
    for (uint32_t index : readers_[a.tensor]) {
      const Edge& e = edges_[index];
      if (row < e.capacity) continue;
      if (e.freed.size() <= row - e.capacity) {
        blocked = {e.consumer, index, true};
        return false;
      }
      a.wait_output = std::max(a.wait_output, e.freed[row - e.capacity]);
    }
    return true;
  }

  void schedule(uint32_t index) {
    Actor& a = actors_[index];
    if (a.pending || a.next == total(a)) return;
    Blocked blocked;
    if (!ready(a, blocked)) return;
    a.pending = true;
    queue_.push({std::max({a.wait_input, a.wait_output, a.free}), index});
  }

  // Rows of a frame are rounded so that together they take what the frame takes.
  uint64_t link_cycles(uint32_t tensor, uint64_t row) const {
    const TensorRecord& t = p_.tensors[tensor];
    const Wide bytes = Wide{t.width} * t.channels * t.element_bytes;
    const bool cut = static_cast<TensorRole>(t.role) == TensorRole::kInternal;
    const uint64_t rate = cut ? p_.target.cut_bytes_per_second : p_.target.link_bytes_per_second;
    const auto until = [&](uint64_t n) { return ceil_div(bytes * n * p_.target.clock_hz, rate); };
    return bounded(until(row + 1) - until(row));
  }

  uint64_t token_cycles(const Actor& a) const {
    if (!a.incremental) return a.row_cycles();
    const uint64_t all = std::max(a.input, a.engine), inside = a.next % a.steps_per_frame;
    const auto until = [&](uint64_t n) { return static_cast<uint64_t>(ceil_div(Wide{all} * n, a.steps_per_frame)); };
    const uint64_t share = until(inside + 1) - until(inside);
    return inside + 1 == a.steps_per_frame ? share + a.row_cycles() - all : share;
  }

  // A controller that several stages share, one row at a time: first ready, first served.
  struct Controller {
    uint64_t free = 0;
    std::set<std::pair<uint64_t, uint32_t>> waiting;  // ready, actor
  };
  Controller* controller_of(uint32_t actor) {
    return actors_[actor].controller == kNobody ? nullptr : &controllers_[actors_[actor].controller];
  }

  void start(uint32_t index, uint64_t time) {
    actors_[index].pending = false;
    Controller* shared = controller_of(index);
    if (shared != nullptr) {
      shared->free = time + token_cycles(actors_[index]);
      if (!shared->waiting.empty()) wake(index);
    }
    perform(index, time);
  }
  void wake(uint32_t actor) {
    const uint32_t controller = actors_[actor].controller;
    queue_.push({controllers_[controller].free, static_cast<uint32_t>(actors_.size()) + controller});
  }

  void perform(uint32_t index, uint64_t time) {
    Actor& a = actors_[index];
    uint64_t end = 0;
    if (a.kind == ActorKind::kStage) {
      end = time + token_cycles(a);
      note_stall(a, time);
      a.free = end;
    } else {
      // One server for both directions; tokens come in the order in which they were ready.
      const uint64_t cycles = link_cycles(a.tensor, a.next % a.rows);
      end = std::max(time, link_free_) + cycles;
      link_free_ = a.free = end;
      link_busy_ += cycles;
    }
    uint64_t row = 0;
    if (writes(a, a.next, row)) available_[a.tensor].push_back(end);
    for (size_t j = 0; j < a.inputs.size(); ++j) {
      Edge& e = edges_[a.inputs[j]];
      const uint64_t count = released(a, j, a.next);
      while (e.freed.size() < count) e.freed.push_back(end);
    }
    ++a.next;
    schedule(index);
    if (a.kind != ActorKind::kLinkOut) {
      for (uint32_t e : readers_[a.tensor]) schedule(edges_[e].consumer);
    }
    for (uint32_t e : a.inputs) {
      if (writer_[edges_[e].tensor] != kNobody) schedule(writer_[edges_[e].tensor]);
    }
  }

  void note_stall(Actor& a, uint64_t time) {
    if (a.next / a.steps_per_frame != measured_frame(frames_)) return;
    if (a.next % a.steps_per_frame == 0) a.first_start = time;
    a.last_end = time + token_cycles(a);
    const uint64_t held = std::max(a.wait_input, a.wait_output);  // waiting for a shared controller is no stall
    if (held <= a.free) return;
    (a.wait_input >= a.wait_output ? a.stall_input : a.stall_output) += held - a.free;
  }

  std::string name(const Actor& a) const {
    if (a.kind == ActorKind::kStage) return printable(p_.kernel_names[a.index]);
    return "host (" + printable(p_.tensor_names[a.index]) + ")";
  }

  [[noreturn]] void report_deadlock(uint32_t start) {
    // Each blocked actor waits for one other; following that from any of them ends in a cycle.
    std::vector<uint32_t> path;
    std::vector<Blocked> why;
    std::vector<uint8_t> seen(actors_.size(), 0);
    uint32_t at = start;
    while (at != kNobody && !seen[at]) {
      seen[at] = 1;
      Blocked blocked;
      if (ready(actors_[at], blocked)) break;
      path.push_back(at);
      why.push_back(blocked);
      at = blocked.on;
    }
    std::string text;
    const auto first = static_cast<size_t>(std::find(path.begin(), path.end(), at) - path.begin());
    for (size_t i = first; i < path.size(); ++i) {
      const Edge& e = edges_[why[i].edge];
      text += (i == first ? "" : "; ") + name(actors_[path[i]]) + " waits for ";
      if (why[i].for_room) {
        text += "room in the buffer of " + name(actors_[e.consumer]) + " (" + str(e.capacity) + " rows of " +
                printable(p_.tensor_names[e.tensor]) + ")";
      } else {
        text += "a row of " + printable(p_.tensor_names[e.tensor]);
      }
    }
    fail(HEADRACE_DEADLOCK, "pipeline", "deadlock: no stage can move", text,
         "a larger buffer on one of these edges (a whole frame beside a global reduction)");
  }

  const Program& p_;
  const uint32_t frames_;
  const uint32_t context_;
  std::vector<Actor> actors_;
  std::vector<uint32_t> actor_of_;       // by kernel
  std::vector<Controller> controllers_;  // that are shared; events of index actors_.size() + n are theirs
  std::vector<Edge> edges_;
  std::vector<uint32_t> writer_;                  // by tensor: actor
  std::vector<std::vector<uint32_t>> readers_;    // by tensor: edges
  std::vector<std::vector<uint64_t>> available_;  // by tensor: time of each row
  uint64_t link_free_ = 0, link_busy_ = 0;
  using Event = std::pair<uint64_t, uint32_t>;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> queue_;
};

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

void summarise(const Program& p, const Simulation& sim, uint32_t frames, TimingResult& out) {
  // The last frames are left out: no input follows them, so the host link is freer than in the steady state.
  const uint32_t at = measured_frame(frames), window = at / 2;
  const uint64_t last = sim.finished(at), before = sim.finished(at - 1), earlier = sim.finished(at - 2);
  out.steady = last - before == before - earlier;
  out.period_denominator = out.steady ? 1 : window;
  out.period_numerator = last - (out.steady ? before : sim.finished(at - window));
  out.latency = sim.finished(0);
  out.frames = frames;
  const auto clock = static_cast<double>(p.target.clock_hz);
  const auto period = static_cast<double>(out.period_numerator) / static_cast<double>(out.period_denominator);
  out.fps = period > 0 ? clock / period : 0;
  out.latency_ms = static_cast<double>(out.latency) / clock * 1e3;
  out.link_busy = sim.link_busy();
  out.stages.clear();
  for (const StageRecord& s : p.stages) out.stages.push_back(sim.stage(s.kernel));
  find_bottleneck(p, out);
}

// Cycles until the last of `batch` frames has left; frames beyond the simulated ones follow at the last ones' pace.
uint64_t batch_cycles(const Simulation& sim, uint32_t frames, uint32_t batch) {
  const uint64_t last = sim.finished(frames - 1);
  if (batch <= frames) return last;
  const uint32_t window = frames / 4;
  return last + (last - sim.finished(frames - 1 - window)) * (batch - frames) / window;
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
    timing.first = sim.finished(0);
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
    summarise(program, sim, frames, out);
    if (out.steady || frames == kMostFrames) return out;
  }
}

}  // namespace headrace
