// SPDX-License-Identifier: Apache-2.0
#include "plan.hpp"

#include <algorithm>
#include <cstring>
#include <map>

#include "errors.hpp"
#include "line_tables.hpp"
#include "plan_window.hpp"
#include "verifier.hpp"

namespace headrace {

void Budget::check(uint64_t bytes, const char* what) const {
  const uint64_t need = sat_add(used_, bytes);
  if (need > limit_) {
    fail(HEADRACE_INVALID_HEF, what, "the network needs more memory than this device may use",
         "at least " + str(need) + " bytes", "at most " + str(limit_) + " bytes");
  }
}

void Budget::take(uint64_t bytes, const char* what) {
  check(bytes, what);
  used_ = sat_add(used_, bytes);
}

AlignedBytes::AlignedBytes(Budget& budget, uint64_t size, const char* what) {
  budget.take(sat_add(size, kSlack), what);
  const auto bytes = static_cast<size_t>(size) + kSlack;
  data_.reset(static_cast<uint8_t*>(::operator new[](bytes, std::align_val_t{64})), Free());
  std::memset(data_.get(), 0, bytes);
}

std::unique_ptr<Step> Step::moved(ptrdiff_t distance) const {
  auto copy = std::make_unique<Step>(*this);
  const auto move = [distance](auto*& pointer) {
    if (pointer != nullptr) pointer += distance;
  };
  for (Place& x : copy->in) move(x.data);
  move(copy->out.data);
  move(copy->window.x);
  move(copy->window.residual);
  move(copy->window.y);
  copy->window.segment_offset = copy->segment_offset.data();
  move(copy->elementwise.x);
  move(copy->elementwise.y);
  move(copy->elementwise.out);
  return copy;
}

void set_row_tiles(Step& step, uint64_t work_per_row, uint32_t threads) {
  // A tile is worth handing out from a few microseconds of work; four per thread even out the load.
  constexpr uint64_t kWorthwhile = 1 << 13;
  const auto rows = static_cast<uint64_t>(step.out.height);
  const uint64_t worthwhile = sat_mul(rows, work_per_row) / kWorthwhile;
  const uint64_t tiles = threads == 1 ? 1 : std::clamp<uint64_t>(worthwhile, 1, std::min<uint64_t>(rows, 4 * threads));
  step.tile_rows = static_cast<int64_t>((rows + tiles - 1) / tiles);
  step.tiles = (step.out.height + step.tile_rows - 1) / step.tile_rows;
}

namespace {

using namespace microcode;

// Memory of tensors: a tensor occupies its place from the kernel that writes it to the last that reads it.
class Arena {
 public:
  uint64_t place(uint64_t size) {
    size = (size + kSlack + 63) / 64 * 64;
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (it->second < size) continue;
      const uint64_t at = it->first, left = it->second - size;
      free_.erase(it);
      if (left != 0) free_[at + size] = left;
      used_[at] = size;
      return at;
    }
    const uint64_t at = end_;
    end_ += size;
    used_[at] = size;
    return at;
  }
  void release(uint64_t at) {
    const auto it = used_.find(at);
    uint64_t size = it->second;
    used_.erase(it);
    auto next = free_.lower_bound(at);
    if (next != free_.end() && at + size == next->first) {
      size += next->second;
      next = free_.erase(next);
    }
    if (next != free_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == at) {
        before->second += size;
        return;
      }
    }
    free_[at] = size;
  }
  uint64_t size() const { return end_; }

 private:
  std::map<uint64_t, uint64_t> free_, used_;
  uint64_t end_ = 0;
};

std::vector<uint64_t> place_tensors(const Program& p, uint64_t& size) {
  constexpr size_t kForever = SIZE_MAX;
  std::vector<size_t> last(p.tensors.size(), 0);
  for (size_t i = 0; i < p.kernels.size(); ++i) {
    last[p.kernels[i].output] = i;
    for (uint32_t j = 0; j < p.kernels[i].operand_count; ++j) last[p.operand(p.kernels[i], j)] = i;
  }
  Arena arena;
  std::vector<uint64_t> at(p.tensors.size(), 0);
  std::vector<uint8_t> gone(p.tensors.size(), 0);
  for (size_t t = 0; t < p.tensors.size(); ++t) {
    if (p.tensors[t].role != static_cast<uint32_t>(TensorRole::kInternal)) last[t] = kForever;
    if (p.tensors[t].role == static_cast<uint32_t>(TensorRole::kInput)) at[t] = arena.place(bytes_of(p.tensors[t]));
  }
  for (size_t i = 0; i < p.kernels.size(); ++i) {
    const KernelRecord& k = p.kernels[i];
    at[k.output] = arena.place(bytes_of(p.tensors[k.output]));
    const auto release = [&](uint32_t t) {
      if (last[t] != i || gone[t]) return;
      gone[t] = 1;
      arena.release(at[t]);
    };
    for (uint32_t j = 0; j < k.operand_count; ++j) release(p.operand(k, j));
    release(k.output);
  }
  size = arena.size();
  return at;
}

const uint8_t* constant(const Program& p, uint32_t offset) { return p.constants.data + offset; }

// Copies multipliers and shifts into whole blocks; `channel_of` gives the channel of a lane, or -1 for padding.
template <class ChannelOf>
void fill_requantise(Step& s, const Program& p, Budget& budget, uint64_t lanes, ChannelOf channel_of) {
  const KernelRecord& k = s.record;
  const uint64_t terms = k.requantise_terms, count = k.requantise_channels;
  s.multipliers = AlignedBytes(budget, sat_mul(lanes * terms, 4), "multipliers");
  s.shifts = AlignedBytes(budget, sat_mul(lanes, 4), "shifts");
  auto* m = s.multipliers.as<int32_t>();
  auto* shift = s.shifts.as<int32_t>();
  const uint8_t* from = constant(p, k.multiplier_offset);
  const uint8_t* shifts = constant(p, k.shift_offset);
  for (uint64_t lane = 0; lane < lanes; ++lane) {
    const int64_t channel = channel_of(lane);
    shift[lane] = 32;  // with a multiplier of 0: any shift gives the zero point, and 32 or more keeps high_half
    if (channel < 0) continue;
    const uint64_t c = count == 1 ? 0 : static_cast<uint64_t>(channel);
    for (uint64_t t = 0; t < terms; ++t) m[t * lanes + lane] = load_i32(from + 4 * (t * count + c));
    shift[lane] = shifts[c];
  }
  // Zero point, residual's zero point and rounding stay below 2^62 together, so that they are one addend. A shift below
  // 32 becomes 32 by shifting the accumulators before; with multipliers below 2^31 the products of two, one of them a
  // residual's code, and the addend then stay below 2^63.
  const uint64_t zero = static_cast<uint64_t>(std::abs(int64_t{k.requantise_zero}));
  s.q.high_half = s.out.bytes == 1;
  for (uint64_t c = 0; c < count; ++c) {
    const uint32_t by = std::max<uint32_t>(shifts[c], 32), before = by - shifts[c];
    s.q.high_half = s.q.high_half && by <= 50 && zero < (uint64_t{1} << (61 - by)) &&
                    (before == 0 || (2 * s.reach + 256) < (int64_t{1} << (31 - std::min<uint32_t>(before, 31))));
  }
  s.q.multiplier0 = m;
  s.q.multiplier1 = terms == 2 ? m + lanes : nullptr;
  s.q.shift = shift;
  s.q.table_base = nullptr;
  if (k.channel_table_offset == kNone) return;
  s.table_bases = AlignedBytes(budget, sat_mul(lanes, 4), "channels' tables");
  auto* base = s.table_bases.as<int32_t>();
  const uint8_t* numbers = constant(p, k.channel_table_offset);
  for (uint64_t lane = 0; lane < lanes; ++lane) {
    const int64_t channel = channel_of(lane);
    base[lane] = channel < 0 ? 0 : int32_t{numbers[channel]} << k.table_bits;
  }
  s.q.table_base = base;
}

void fill_table(Step& s, const Program& p, Budget& budget) {
  const KernelRecord& k = s.record;
  s.q.zero = k.requantise_zero;
  s.q.low = k.requantise_low;
  s.q.high = k.requantise_high;
  s.q.out_bytes = static_cast<int32_t>(s.out.bytes);
  s.q.table = nullptr;
  s.q.table_bytes = s.q.out_bytes;
  if (k.table_bits == 0) return;
  const bool wide = static_cast<Opcode>(k.opcode) == Opcode::kReduceSumReciprocal;
  s.q.table_bytes = wide ? 2 : s.q.out_bytes;
  const uint64_t size = (uint64_t{k.table_count} << k.table_bits) * static_cast<uint64_t>(s.q.table_bytes);
  s.table = AlignedBytes(budget, std::max<uint64_t>(size, 256), "table");  // vector look-ups read at least so much
  std::memcpy(s.table.data(), constant(p, k.table_offset), static_cast<size_t>(size));
  s.q.table = s.table.data();
}

void plan_elementwise(Step& s, const Program& p, Budget& budget, uint32_t threads) {
  const auto channels = static_cast<uint64_t>(s.out.channels);
  s.per_channel = s.record.requantise_channels != 1;
  const bool multiply = static_cast<Opcode>(s.record.opcode) == Opcode::kElementwiseMultiply;
  s.reach = 1;
  for (const Place& x : s.in) s.reach = multiply ? s.reach * (x.bytes == 1 ? 255 : 65535) : x.bytes == 1 ? 255 : 65535;
  const uint64_t lanes = s.per_channel ? (channels + kColumns - 1) / kColumns * kColumns : kColumns;
  fill_requantise(s, p, budget, lanes, [&](uint64_t lane) {
    return s.per_channel && lane >= channels ? int64_t{-1} : static_cast<int64_t>(lane);
  });
  fill_table(s, p, budget);
  bool wide = s.out.bytes != 1;
  for (const Place& x : s.in) wide = wide || x.bytes != 1;
  set_row_tiles(s, static_cast<uint64_t>(s.out.width * s.out.channels) * (wide ? 8 : 2), threads);
  if (wide) {
    s.run = run_elementwise_wide;
    return;
  }
  ElementwiseOp& e = s.elementwise;
  const auto strides = [&s](const Place& x, int64_t& row, int64_t& pixel, int64_t& channel) {
    row = x.height == 1 ? 0 : x.width * x.channels;
    pixel = x.width == 1 && s.out.width != 1 ? 0 : x.channels;
    channel = x.channels == 1 && s.out.channels != 1 ? 0 : 1;
  };
  e.x = s.in[0].data;
  e.x_zero = s.in[0].zero;
  e.out = s.out.data;
  e.height = s.out.height;
  e.width = s.out.width;
  e.channels = s.out.channels;
  strides(s.in[0], e.x_row, e.x_pixel, e.x_channel);
  if (s.in.size() == 2) {
    e.y = s.in[1].data;
    e.y_zero = s.in[1].zero;
    strides(s.in[1], e.y_row, e.y_pixel, e.y_channel);
  }
  e.multiply = multiply;
  e.per_channel = s.per_channel;
  s.q.residual_zero = e.y_zero;
  e.q = s.q;
  s.run = [](const Step& step, const KernelSet& kernels, int64_t tile, uint8_t* scratch) {
    const int64_t first = tile * step.tile_rows, last = std::min(first + step.tile_rows, step.out.height);
    for (int64_t y = first; y < last; ++y) kernels.elementwise_row(step.elementwise, y, scratch);
  };
}

std::vector<int64_t> covered_counts(int64_t out, int64_t stride, int64_t pad, int64_t taps, int64_t dilation,
                                    int64_t size, std::vector<uint32_t>& classes) {
  std::vector<int64_t> each, distinct;
  for (int64_t i = 0; i < out; ++i) each.push_back(covered(i, stride, pad, taps, dilation, size).count);
  distinct = each;
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  for (int64_t count : each) {
    classes.push_back(
        static_cast<uint32_t>(std::lower_bound(distinct.begin(), distinct.end(), count) - distinct.begin()));
  }
  return distinct;
}

void plan_pool_sum(Step& s, const Program& p, Budget& budget) {
  const KernelRecord& k = s.record;
  const Place& x = s.in[0];
  budget.take(sat_mul(static_cast<uint64_t>(s.out.height + s.out.width), 24), "pool windows");
  const auto rows = covered_counts(s.out.height, k.stride_height, k.pad_top, k.kernel_height, k.dilation_height,
                                   x.height, s.row_class);
  const auto columns = covered_counts(s.out.width, k.stride_width, k.pad_left, k.kernel_width, k.dilation_width,
                                      x.width, s.column_class);
  s.column_classes = static_cast<uint32_t>(columns.size());
  const uint8_t* table = constant(p, k.count_offset);
  std::vector<uint32_t> listed;
  budget.take(uint64_t{k.requantise_channels} * 4, "covered counts");
  for (uint32_t i = 0; i < k.requantise_channels; ++i) listed.push_back(load_u32(table + 4 * size_t{i}));
  for (int64_t r : rows) {
    for (int64_t c : columns) {
      s.pair_entry.push_back(static_cast<uint32_t>(
          std::lower_bound(listed.begin(), listed.end(), static_cast<uint32_t>(r * c)) - listed.begin()));
    }
  }
  fill_requantise(s, p, budget, uint64_t{k.requantise_channels} * kColumns,
                  [](uint64_t lane) { return static_cast<int64_t>(lane / kColumns); });
  fill_table(s, p, budget);
  s.run = run_pool_sum;
}

void fill_resize(Step& s, const Program& p, Budget& budget, uint64_t entry) {
  const auto rows = static_cast<uint64_t>(s.out.height), columns = static_cast<uint64_t>(s.out.width);
  budget.take(sat_mul(rows + columns, 4 * entry), "resize tables");
  const auto read = [&](uint32_t offset, uint64_t n, std::vector<uint32_t>& table) {
    const uint8_t* from = constant(p, offset);
    for (uint64_t i = 0; i < n * entry; ++i) table.push_back(load_u32(from + 4 * i));
  };
  read(s.record.row_table_offset, rows, s.row_table);
  read(s.record.column_table_offset, columns, s.column_table);
}

uint64_t plan_step(Step& s, const Program& p, const KernelSet& kernels, Budget& budget, LineBudget& lines,
                   uint32_t threads) {
  const KernelRecord& k = s.record;
  const auto row = static_cast<uint64_t>(s.out.width * s.out.channels);
  const uint64_t window = sat_mul(k.kernel_height, k.kernel_width);
  s.work = sat_mul(static_cast<uint64_t>(s.out.elements()), 1);
  const auto moved = [&](Step::Run run) {
    s.run = run;
    set_row_tiles(s, row, threads);
    return uint64_t{0};
  };
  const auto whole = [&](Step::Run run) {
    s.run = run;
    s.tiles = 1;
    s.tile_rows = s.out.height;
    for (const Place& x : s.in) s.work = sat_add(s.work, static_cast<uint64_t>(x.elements()));
    return uint64_t{0};
  };
  switch (static_cast<Opcode>(k.opcode)) {
    case Opcode::kConvolution:
    case Opcode::kDepthwise: {
      const bool depthwise = static_cast<Opcode>(k.opcode) == Opcode::kDepthwise;
      const uint64_t scratch = plan_window(s, p, kernels, budget, threads);
      const WindowOp& w = s.window;
      const uint64_t blocks = static_cast<uint64_t>(w.groups * w.group_blocks);
      fill_requantise(s, p, budget, blocks * kColumns, [&](uint64_t lane) { return channel_of_lane(w, lane); });
      fill_table(s, p, budget);
      if (kernels.line_tables) fit_lines(s, budget, lines);
      if (s.in.size() == 2) s.q.residual_zero = s.in[1].zero;
      s.window.q = s.q;
      s.run = depthwise ? run_depthwise : run_convolution;
      return scratch;
    }
    case Opcode::kElementwiseAdd:
    case Opcode::kElementwiseMultiply:
    case Opcode::kRescale:
      plan_elementwise(s, p, budget, threads);
      return kBlockPixels * kColumns;
    case Opcode::kPoolMax:
      s.work = sat_mul(s.work, window);
      s.run = run_pool_max;
      set_row_tiles(s, sat_mul(row, window), threads);
      return static_cast<uint64_t>(s.in[0].width * s.in[0].channels * s.in[0].bytes);
    case Opcode::kPoolSum:
      s.work = sat_mul(s.work, window);
      plan_pool_sum(s, p, budget);
      set_row_tiles(s, sat_mul(row, window), threads);
      return 0;
    case Opcode::kReduceMax:
      return whole(run_reduce_max);
    case Opcode::kReduceSumReciprocal: {
      s.per_channel = k.requantise_channels != 1;
      const uint64_t lanes = s.per_channel ? static_cast<uint64_t>(s.out.channels) : 1;
      fill_requantise(s, p, budget, lanes, [](uint64_t lane) { return static_cast<int64_t>(lane); });
      fill_table(s, p, budget);
      whole(run_reduce_sum_reciprocal);
      return static_cast<uint64_t>(s.out.elements()) * 8;
    }
    case Opcode::kConcatenate:
      return k.axis == 0 ? whole(run_concatenate) : moved(run_concatenate);
    case Opcode::kSlice:
      return moved(run_slice);
    case Opcode::kPad:
      return moved(run_pad);
    case Opcode::kTranspose:
      return moved(run_transpose);
    case Opcode::kReshape:
      return whole(run_reshape);
    case Opcode::kDepthToSpace:
      return moved(run_depth_to_space);
    case Opcode::kSpaceToDepth:
      return moved(run_space_to_depth);
    case Opcode::kResizeNearest:
      fill_resize(s, p, budget, 1);
      return moved(run_resize_nearest);
    case Opcode::kResizeBilinear: {
      s.per_channel = k.requantise_channels != 1;
      const uint64_t lanes = s.per_channel ? static_cast<uint64_t>(s.out.channels) : 1;
      fill_resize(s, p, budget, 3);
      fill_requantise(s, p, budget, lanes, [](uint64_t lane) { return static_cast<int64_t>(lane); });
      fill_table(s, p, budget);
      s.work = sat_mul(s.work, 8);
      s.run = run_resize_bilinear;
      set_row_tiles(s, sat_mul(row, 8), threads);
      return 0;
    }
  }
  return 0;
}

}  // namespace

Plan make_plan(const Program& program, const KernelSet& kernels, uint32_t threads, uint64_t memory_limit) {
  Budget budget(memory_limit);
  Plan plan;
  plan.lanes.emplace_back();
  Lane& lane = plan.lanes[0];
  LineBudget lines;
  const std::vector<uint64_t> at = place_tensors(program, plan.arena_bytes);
  lane.arena = AlignedBytes(budget, plan.arena_bytes, "tensors");
  for (size_t i = 0; i < program.tensors.size(); ++i) {
    const TensorRecord& t = program.tensors[i];
    lane.tensors.push_back({lane.arena.data() + at[i], t.height, t.width, t.channels, t.element_bytes, t.zero_point});
  }
  for (const KernelRecord& record : program.kernels) {
    auto step = std::make_unique<Step>();
    step->record = record;
    for (uint32_t j = 0; j < record.operand_count; ++j) step->in.push_back(lane.tensors[program.operand(record, j)]);
    step->out = lane.tensors[record.output];
    const uint64_t scratch = plan_step(*step, program, kernels, budget, lines, threads);
    plan.scratch_bytes = std::max(plan.scratch_bytes, (scratch + kSlack + 63) / 64 * 64);
    plan.work = sat_add(plan.work, step->work);
    lane.steps.push_back(std::move(step));
  }
  plan.scratch = AlignedBytes(budget, sat_mul(plan.scratch_bytes, threads), "scratch");
  plan.tensors = lane.tensors;
  plan.free_bytes = memory_limit - budget.used();
  return plan;
}

bool add_lane(Plan& plan) {
  const uint64_t need = plan.arena_bytes + kSlack;
  if (need > plan.free_bytes) return false;
  const Lane& first = plan.lanes[0];
  Budget budget(need);
  Lane lane;
  try {
    lane.arena = AlignedBytes(budget, plan.arena_bytes, "tensors");
    const ptrdiff_t distance = lane.arena.data() - first.arena.data();
    for (const auto& step : first.steps) lane.steps.push_back(step->moved(distance));
    lane.tensors = first.tensors;
    for (Place& t : lane.tensors) t.data += distance;
    plan.lanes.push_back(std::move(lane));
  } catch (const std::bad_alloc&) {
    return false;  // frames run one after the other instead
  }
  plan.free_bytes -= need;
  return true;
}

}  // namespace headrace
