// SPDX-License-Identifier: Apache-2.0
// Work handed to a device to be done later: one dispatcher thread per device takes frames of all its networks in turn.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "errors.hpp"
#include "headrace/headrace.h"

namespace headrace {

class Device;
class Runnable;
struct Request;

// A submitted batch. Its status is written once, before `done`; the fields below the line belong to the queue's lock.
struct Job {
  Runnable* network = nullptr;  // open until the job is done: closing a network waits for its jobs
  std::unique_ptr<Request> request;
  headrace_job_callback callback = nullptr;
  void* user = nullptr;
  // ---
  enum class State { kWaiting, kRunning, kDone } state = State::kWaiting;
  size_t next_frame = 0;
  headrace_status status = HEADRACE_SUCCESS;
  Problem problem;  // where the status is not success
  bool called_back = false;
};

class Queue {
 public:
  explicit Queue(Device& device) : state_(std::make_shared<Shared>()), device_(device) {}
  ~Queue();  // every network is closed by then
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  // Throws Failure 6 when the network's queue holds more than `capacity` frames with these.
  void submit(const std::shared_ptr<Job>& job, size_t capacity);
  // Waits until the network's queue has room for `frames`; false after `timeout_ms` (negative: never gives up).
  bool wait_for_room(const Runnable& network, size_t frames, size_t capacity, int64_t timeout_ms);
  // Waits until the job is over and its callback has returned.
  bool wait(const Job& job, int64_t timeout_ms);
  // Ends a job that has not begun; false where it has.
  bool cancel(const std::shared_ptr<Job>& job);
  // Ends the network's waiting jobs and waits for the one that runs. From inside a callback it does not wait for that
  // callback.
  void close(const Runnable& network);

 private:
  struct Line {  // the jobs of one network, first come first served
    const Runnable* network;
    std::deque<std::shared_ptr<Job>> jobs;
    size_t frames = 0;     // of jobs that are not over
    size_t callbacks = 0;  // of jobs that are over, still to return
  };
  struct Shared {  // outlives the queue when the last network is closed by a callback
    std::mutex mutex;
    std::condition_variable work, changed;
    std::vector<std::shared_ptr<Line>> lines;
    size_t turn = 0;
    bool stop = false;
  };
  struct Picked;

  static Line* find(Shared& shared, const Runnable& network);
  static void dispatch(const std::shared_ptr<Shared>& shared, Device& device);
  static std::vector<Picked> pick(Shared& shared, size_t most);
  static void finish(std::unique_lock<std::mutex>& lock, Shared& shared, const std::shared_ptr<Line>& line,
                     const std::shared_ptr<Job>& job);
  bool on_dispatcher() const { return thread_.joinable() && thread_.get_id() == std::this_thread::get_id(); }

  std::shared_ptr<Shared> state_;
  Device& device_;
  std::thread thread_;  // started by the first submit; guarded by the mutex
};

}  // namespace headrace
