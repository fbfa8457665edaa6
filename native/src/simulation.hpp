// SPDX-License-Identifier: Apache-2.0
// One context as events: rows as tokens, stages, shared controllers and the host link as servers.
#pragma once

#include <algorithm>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "row_rule.hpp"
#include "timing.hpp"
#include "wide.hpp"

namespace headrace::simulation {

using namespace microcode;

constexpr uint64_t kUnlimited = UINT64_MAX;
constexpr uint64_t kTokenLimit = uint64_t{1} << 25;  // rows of a simulation
constexpr uint64_t kRowLimit = uint64_t{1} << 36;    // cycles of a row; with the token limit every time is below 2^62
constexpr uint32_t kFirstFrames = 12, kMostFrames = 32;
constexpr uint32_t kShareBits = 20;  // of a share of a frame's rows
constexpr uint32_t kNobody = UINT32_MAX;

inline uint32_t measured_frame(uint32_t frames) { return frames - 1 - frames / 4; }

inline uint64_t bounded(Wide cycles) {
  if (cycles > kRowLimit)
    fail(HEADRACE_INVALID_HEF, "timing", "a row takes too many cycles", "more than 2^36", "at most 2^36");
  return static_cast<uint64_t>(cycles);
}
inline Wide ceil_div(Wide a, Wide b) { return (a + b - 1) / b; }

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
inline std::vector<Crossing> crossings(const Program& p, uint32_t context) {
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

enum class Lack { kRow, kRoom, kTurn };

struct Blocked {
  uint32_t on = kNobody;  // actor
  uint32_t edge = 0;
  Lack lack = Lack::kRow;
};

// A controller that several stages share, one step at a time and always in the same order.
struct Controller {
  std::vector<uint32_t> order;  // actors, by step of a frame
  uint64_t next = 0;            // step, over all frames
  uint64_t free = 0;            // when it is free

  uint32_t turn() const { return order[next % order.size()]; }
};

class Simulation {
 public:
  Simulation(const Program& p, uint32_t frames, uint32_t context) : p_(p), frames_(frames), context_(context) {
    make_actors();
    make_edges();
    reserve();
    make_orders();
  }

  void run() {
    for (uint32_t a = 0; a < actors_.size(); ++a) schedule(a);
    while (!queue_.empty()) {
      const auto [time, index] = queue_.top();
      queue_.pop();
      perform(index, time);
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

  // Each step of a shared controller stands where the part of the frame that it needs ends: the largest share of rows
  // of any operand, for what another stage of the controller makes the place of that step, never before the step in
  // front of it. Ties go to the earlier stage.
  void make_orders() {
    std::vector<std::vector<std::pair<uint64_t, uint32_t>>> steps(controllers_.size());
    std::vector<std::vector<uint64_t>> places(actors_.size());
    for (uint32_t index = 0; index < actors_.size(); ++index) {
      const Actor& a = actors_[index];
      if (a.controller == kNobody) continue;
      uint64_t place = 0;
      for (uint64_t step = 0; step < a.steps_per_frame; ++step) {
        for (size_t j = 0; j < a.inputs.size(); ++j) place = std::max(place, share_of(a, j, step, places));
        places[index].push_back(place);
        steps[a.controller].emplace_back(place, index);
      }
    }
    for (size_t c = 0; c < controllers_.size(); ++c) {
      std::stable_sort(steps[c].begin(), steps[c].end());
      for (const auto& [place, actor] : steps[c]) controllers_[c].order.push_back(actor);
    }
  }
  uint64_t share_of(const Actor& a, size_t j, uint64_t step, const std::vector<std::vector<uint64_t>>& places) const {
    const uint64_t count = needed(a, j, step);
    const uint32_t maker = writer_[edges_[a.inputs[j]].tensor];
    if (count == 0) return 0;
    if (maker == kNobody || actors_[maker].controller != a.controller || places[maker].empty())
      return (count << kShareBits) / a.geometry[j].input_rows();
    return places[maker][actors_[maker].incremental ? actors_[maker].steps_per_frame - 1 : count - 1];
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
  bool ready(uint32_t index, Blocked& blocked) {
    Actor& a = actors_[index];
    a.wait_input = a.wait_output = 0;
    if (a.controller != kNobody && controllers_[a.controller].turn() != index) {
      blocked = {controllers_[a.controller].turn(), 0, Lack::kTurn};
      return false;
    }
    for (size_t j = 0; j < a.inputs.size(); ++j) {
      const uint64_t count = needed(a, j, a.next);
      if (count == 0) continue;
      const auto& times = available_[edges_[a.inputs[j]].tensor];
      if (times.size() < count) {
        blocked = {writer_[edges_[a.inputs[j]].tensor], a.inputs[j], Lack::kRow};
        return false;
      }
      a.wait_input = std::max(a.wait_input, times[count - 1]);
    }
    uint64_t row = 0;
    if (!writes(a, a.next, row)) return true;
    for (uint32_t edge : readers_[a.tensor]) {
      const Edge& e = edges_[edge];
      if (row < e.capacity) continue;
      if (e.freed.size() <= row - e.capacity) {
        blocked = {e.consumer, edge, Lack::kRoom};
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
    if (!ready(index, blocked)) return;
    a.pending = true;
    const uint64_t free = a.controller == kNobody ? a.free : controllers_[a.controller].free;
    queue_.push({std::max({a.wait_input, a.wait_output, free}), index});
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

  void perform(uint32_t index, uint64_t time) {
    Actor& a = actors_[index];
    a.pending = false;
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
    if (a.controller != kNobody) {
      Controller& shared = controllers_[a.controller];
      shared.free = end;
      ++shared.next;
      schedule(shared.turn());
    }
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
    const uint64_t held = std::max(a.wait_input, a.wait_output);  // waiting for its turn is no stall
    if (held <= a.free) return;
    (a.wait_input >= a.wait_output ? a.stall_input : a.stall_output) += held - a.free;
  }

  std::string name(const Actor& a) const {
    if (a.kind == ActorKind::kStage) return printable(p_.kernel_names[a.index]);
    return "host (" + printable(p_.tensor_names[a.index]) + ")";
  }

  std::string lack(const Blocked& blocked) const {
    if (blocked.lack == Lack::kTurn) return "its turn on the controller that " + name(actors_[blocked.on]) + " shares";
    const Edge& e = edges_[blocked.edge];
    if (blocked.lack == Lack::kRow) return "a row of " + printable(p_.tensor_names[e.tensor]);
    return "room in the buffer of " + name(actors_[e.consumer]) + " (" + str(e.capacity) + " rows of " +
           printable(p_.tensor_names[e.tensor]) + ")";
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
      if (ready(at, blocked)) break;
      path.push_back(at);
      why.push_back(blocked);
      at = blocked.on;
    }
    std::string text;
    const auto first = static_cast<size_t>(std::find(path.begin(), path.end(), at) - path.begin());
    for (size_t i = first; i < path.size(); ++i) {
      text += (i == first ? "" : "; ") + name(actors_[path[i]]) + " waits for " + lack(why[i]);
    }
    fail(HEADRACE_DEADLOCK, "pipeline", "deadlock: no stage can move", text, "no circle of stages that wait",
         "a larger buffer on one of these edges (a whole frame beside a global reduction)");
  }

  const Program& p_;
  const uint32_t frames_;
  const uint32_t context_;
  std::vector<Actor> actors_;
  std::vector<uint32_t> actor_of_;       // by kernel
  std::vector<Controller> controllers_;  // that are shared
  std::vector<Edge> edges_;
  std::vector<uint32_t> writer_;                  // by tensor: actor
  std::vector<std::vector<uint32_t>> readers_;    // by tensor: edges
  std::vector<std::vector<uint64_t>> available_;  // by tensor: time of each row
  uint64_t link_free_ = 0, link_busy_ = 0;
  using Event = std::pair<uint64_t, uint32_t>;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> queue_;
};

}  // namespace headrace::simulation
