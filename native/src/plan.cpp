// SPDX-License-Identifier: Apache-2.0
#include "plan.hpp"

#include <algorithm>
#include <map>

#include "arithmetic.hpp"
#include "primitives/primitive.hpp"

namespace headrace {
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

}  // namespace

Plan make_plan(const Program& program, const KernelSet& kernels, uint32_t threads, uint64_t memory_limit) {
  Budget budget(memory_limit);
  Planning planning{program, kernels, budget, threads};
  Plan plan;
  const std::vector<uint64_t> at = place_tensors(program, plan.lane_bytes);
  plan.lanes.emplace_back(budget, plan.lane_bytes, "tensors");
  for (size_t i = 0; i < program.tensors.size(); ++i) {
    const TensorRecord& t = program.tensors[i];
    plan.tensors.push_back({at[i], t.height, t.width, t.channels, t.element_bytes, t.zero_point});
  }
  for (const KernelRecord& record : program.kernels) {
    Step step;
    step.record = record;
    for (uint32_t j = 0; j < record.operand_count; ++j) step.in.push_back(plan.tensors[program.operand(record, j)]);
    step.out = plan.tensors[record.output];
    step.work = static_cast<uint64_t>(step.out.elements());
    const uint64_t scratch = find_primitive(record.opcode)->plan(step, planning);
    plan.scratch_bytes = std::max(plan.scratch_bytes, (scratch + kSlack + 63) / 64 * 64);
    plan.work = sat_add(plan.work, step.work);
    plan.steps.push_back(std::move(step));
  }
  plan.scratch = AlignedBytes(budget, sat_mul(plan.scratch_bytes, threads), "scratch");
  plan.free_bytes = memory_limit - budget.used();
  return plan;
}

bool add_lane(Plan& plan) {
  const uint64_t need = plan.lane_bytes + kSlack;
  if (need > plan.free_bytes) return false;
  Budget budget(need);
  try {
    plan.lanes.emplace_back(budget, plan.lane_bytes, "tensors");
  } catch (const std::bad_alloc&) {
    return false;  // frames run one after the other instead
  }
  plan.free_bytes -= need;
  return true;
}

}  // namespace headrace
