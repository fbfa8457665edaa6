// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace headrace {

// Runs tiles of a job on the calling thread and `threads - 1` workers. Tiles are handed out one by one, so the order
// is not fixed; they never share an output byte, so the result is.
//
// Where another program keeps the processor of a worker, that worker holds the tile it took until it is scheduled
// again: milliseconds, for a tile of microseconds. The pool notices (a wait out of proportion to its own work) and then
// does without workers for a while, so that a busy neighbour costs their help and not much more.
class ThreadPool {
 public:
  using Tile = void (*)(void* context, int64_t tile, uint32_t worker);

  explicit ThreadPool(uint32_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  uint32_t threads() const { return static_cast<uint32_t>(workers_.size()) + 1; }
  // Not reentrant: callers hold the device's execution lock. `tiles` < 2^31.
  void run(int64_t tiles, Tile tile, void* context);

 private:
  using Clock = std::chrono::steady_clock;

  void stop();
  void work(uint32_t worker);
  // Takes one tile of generation `generation`; false when none is left or the job is another.
  bool take(uint32_t generation, uint32_t worker);
  // Waits for the tiles that workers took, then judges whether the wait was out of proportion.
  void wait(int64_t tiles, Clock::time_point started);

  // Generation in the upper, next tile in the lower half: a late worker cannot take a tile of a job it has not seen.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<uint32_t> count_{0};
  std::atomic<int64_t> done_{0};
  std::atomic<Tile> tile_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<bool> stop_{false};
  std::atomic<uint32_t> asleep_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
  Clock::time_point alone_until_{};  // of the thread that calls run
};

}  // namespace headrace
