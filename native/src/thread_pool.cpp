// SPDX-License-Identifier: Apache-2.0
#include "thread_pool.hpp"

#include <algorithm>
#include <system_error>

#include "compiler.hpp"
#include "errors.hpp"

namespace headrace {
namespace {

// Long enough to bridge the gap between two layers, short enough not to burn a shared machine.
constexpr int kSpins = 2000;
// A wait this long, and twice as long as the work before it, is a worker that was not running. With tiles of like size
// a wait is at most one tile, and the calling thread has done at least one.
constexpr auto kLongWait = std::chrono::microseconds(50);
// Then no workers for this many times what was lost: trying again costs an eighth at most.
constexpr int kAvoid = 8;
constexpr auto kAvoidAtMost = std::chrono::milliseconds(100);

uint32_t generation_of(uint64_t ticket) { return static_cast<uint32_t>(ticket >> 32); }

}  // namespace

ThreadPool::ThreadPool(uint32_t threads) {
  try {
    for (uint32_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (const std::system_error&) {
    stop();  // a thread that is destroyed while it can be joined would end the process
    fail(HEADRACE_OUT_OF_HOST_MEMORY, "device", "the host cannot start so many threads", str(threads), "fewer threads");
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_.store(true);
  }
  wake_.notify_all();
  for (std::thread& t : workers_) t.join();
}

bool ThreadPool::take(uint32_t generation, uint32_t worker) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (true) {
    const auto index = static_cast<uint32_t>(ticket);
    if (generation_of(ticket) != generation || index >= count_.load(std::memory_order_relaxed)) return false;
    if (ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      // The job cannot end before this tile is counted, so its function and context are stable from here on.
      tile_.load(std::memory_order_relaxed)(context_.load(std::memory_order_relaxed), index, worker);
      done_.fetch_add(1, std::memory_order_release);
      return true;
    }
  }
}

void ThreadPool::work(uint32_t worker) {
  uint32_t seen = 0;
  while (true) {
    int spins = 0;
    while (generation_of(ticket_.load(std::memory_order_acquire)) == seen && !stop_.load(std::memory_order_relaxed)) {
      if (++spins < kSpins) {
        pause_processor();
        continue;
      }
      std::unique_lock<std::mutex> lock(mutex_);
      asleep_.fetch_add(1);
      wake_.wait(lock, [&] { return generation_of(ticket_.load()) != seen || stop_.load(); });
      asleep_.fetch_sub(1);
    }
    if (stop_.load()) return;
    seen = generation_of(ticket_.load(std::memory_order_acquire));
    while (take(seen, worker)) {
    }
  }
}

void ThreadPool::wait(int64_t tiles, Clock::time_point started) {
  if (done_.load(std::memory_order_acquire) == tiles) return;
  const Clock::time_point waiting = Clock::now();
  int spins = 0;
  while (done_.load(std::memory_order_acquire) != tiles) {
    if (++spins < kSpins)
      pause_processor();
    else
      std::this_thread::yield();
  }
  const Clock::time_point now = Clock::now();
  const auto waited = now - waiting;
  if (waited < kLongWait || waited < 2 * (waiting - started)) return;
  alone_until_ = now + std::min<Clock::duration>(kAvoid * waited, kAvoidAtMost);
}

void ThreadPool::run(int64_t tiles, Tile tile, void* context) {
  const bool alone = workers_.empty() || tiles <= 1;
  const Clock::time_point started = alone ? Clock::time_point() : Clock::now();
  if (alone || started < alone_until_) {
    for (int64_t i = 0; i < tiles; ++i) tile(context, i, 0);
    return;
  }
  const uint32_t generation = generation_of(ticket_.load(std::memory_order_relaxed)) + 1;
  // The old generation is closed with an index no count exceeds before the new count is published: a late worker then
  // either sees the closed ticket or fails its exchange.
  ticket_.store((uint64_t{generation - 1} << 32) | 0xFFFFFFFFu, std::memory_order_seq_cst);
  done_.store(0, std::memory_order_relaxed);
  tile_.store(tile, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  count_.store(static_cast<uint32_t>(tiles), std::memory_order_release);
  ticket_.store(uint64_t{generation} << 32, std::memory_order_seq_cst);
  if (asleep_.load() != 0) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
    }
    wake_.notify_all();
  }
  while (take(generation, 0)) {
  }
  wait(tiles, started);
}

}  // namespace headrace
