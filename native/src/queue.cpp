// SPDX-License-Identifier: Apache-2.0
#include "queue.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>

#include "device.hpp"
#include "errors.hpp"

namespace headrace {
namespace {

template <class Condition>
bool wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, int64_t timeout_ms,
                Condition condition) {
  constexpr int64_t kLongest = int64_t{1} << 40;  // 35 years; more would overflow the clock
  if (timeout_ms < 0) {
    changed.wait(lock, condition);
    return true;
  }
  return changed.wait_for(lock, std::chrono::milliseconds(std::min(timeout_ms, kLongest)), condition);
}

// The callbacks this thread is inside of, innermost first.
struct Callback {
  const void* line;
  const Callback* outer;
};
thread_local const Callback* innermost = nullptr;

size_t callbacks_here(const void* line) {
  size_t count = 0;
  for (const Callback* c = innermost; c != nullptr; c = c->outer) count += c->line == line;
  return count;
}

}  // namespace

struct Queue::Picked {
  std::shared_ptr<Line> line;
  std::shared_ptr<Job> job;
  size_t frame;
};

Queue::~Queue() {
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->stop = true;
  }
  state_->work.notify_all();
  if (!thread_.joinable()) return;
  if (on_dispatcher())
    thread_.detach();  // a callback closed the last network; the thread ends after it without touching this object
  else
    thread_.join();
}

Queue::Line* Queue::find(Shared& shared, const Runnable& network) {
  for (const auto& line : shared.lines) {
    if (line->network == &network) return line.get();
  }
  return nullptr;
}

void Queue::submit(const std::shared_ptr<Job>& job, size_t capacity) {
  Shared& s = *state_;
  const size_t frames = job->request->frames;
  if (frames == 0) fail(HEADRACE_INVALID_ARGUMENT, "submit", "there is no frame to run", "0", "at least 1");
  {
    const std::lock_guard<std::mutex> lock(s.mutex);
    Line* line = find(s, *job->network);
    const size_t held = line ? line->frames : 0;
    if (held + frames > capacity) {
      fail(HEADRACE_INVALID_OPERATION, "network " + job->network->name(), "the queue is full",
           str(uint64_t{held}) + " frames wait, " + str(uint64_t{frames}) + " more",
           "at most " + str(uint64_t{capacity}) + " frames");
    }
    if (!thread_.joinable()) {
      try {
        thread_ = std::thread([shared = state_, device = &device_] { dispatch(shared, *device); });
      } catch (const std::system_error&) {
        fail(HEADRACE_OUT_OF_HOST_MEMORY, "device", "the host cannot start a thread for the queue");
      }
    }
    if (!line) {
      s.lines.push_back(std::make_shared<Line>());
      line = s.lines.back().get();
      line->network = job->network;
    }
    line->jobs.push_back(job);
    line->frames += frames;
  }
  s.work.notify_one();
}

bool Queue::wait_for_room(const Runnable& network, size_t frames, size_t capacity, int64_t timeout_ms) {
  std::unique_lock<std::mutex> lock(state_->mutex);
  return wait_until(state_->changed, lock, timeout_ms, [&] {
    const Line* line = find(*state_, network);
    return (line ? line->frames : 0) + frames <= capacity;
  });
}

bool Queue::wait(const Job& job, int64_t timeout_ms) {
  std::unique_lock<std::mutex> lock(state_->mutex);
  return wait_until(state_->changed, lock, timeout_ms, [&] { return job.called_back; });
}

bool Queue::cancel(const std::shared_ptr<Job>& job) {
  std::unique_lock<std::mutex> lock(state_->mutex);
  if (job->state != Job::State::kWaiting) return false;
  for (const auto& line : state_->lines) {
    const auto at = std::find(line->jobs.begin(), line->jobs.end(), job);
    if (at == line->jobs.end()) continue;
    const auto kept = line;
    job->status = HEADRACE_ABORTED;
    job->problem = {"job", "the run was cancelled before it began", {}, {}, {}};
    kept->jobs.erase(at);
    finish(lock, *state_, kept, job);
    return true;
  }
  return false;
}

void Queue::close(const Runnable& network) {
  std::unique_lock<std::mutex> lock(state_->mutex);
  std::shared_ptr<Line> line;
  for (const auto& l : state_->lines) line = l->network == &network ? l : line;
  if (!line) return;
  while (!line->jobs.empty() && line->jobs.back()->state == Job::State::kWaiting) {
    const auto job = line->jobs.back();
    line->jobs.pop_back();
    job->status = HEADRACE_ABORTED;
    job->problem = {"job", "the network was closed before the run began", {}, {}, {}};
    finish(lock, *state_, line, job);
  }
  const bool dispatcher = on_dispatcher();
  if (dispatcher) {
    // Inside a callback of the dispatcher: runs whose frames are all done are about to be finished by it, and no longer
    // need the network; of the others no frame is running now, and none will.
    for (size_t i = line->jobs.size(); i-- > 0;) {
      const auto job = line->jobs[i];
      if (job->next_frame == job->request->frames) continue;
      line->jobs.erase(line->jobs.begin() + static_cast<ptrdiff_t>(i));
      job->status = HEADRACE_ABORTED;
      job->problem = {"job", "the network was closed by a callback before the run ended", {}, {}, {}};
      finish(lock, *state_, line, job);
    }
  }
  const size_t own = callbacks_here(line.get());
  state_->changed.wait(lock, [&] { return (dispatcher || line->frames == 0) && line->callbacks <= own; });
  auto& lines = state_->lines;
  lines.erase(std::remove(lines.begin(), lines.end(), line), lines.end());
}

// Called with the job off its line; gives up the lock for the callback.
void Queue::finish(std::unique_lock<std::mutex>& lock, Shared& shared, const std::shared_ptr<Line>& line,
                   const std::shared_ptr<Job>& job) {
  job->state = Job::State::kDone;
  line->frames -= job->request->frames;
  ++line->callbacks;
  shared.changed.notify_all();
  lock.unlock();
  if (job->callback) {
    const Callback here{line.get(), innermost};
    innermost = &here;
    // The callback may ask for the diagnostics of the run as it would for those of a failed call.
    if (job->status != HEADRACE_SUCCESS) report(job->status, job->problem);
    job->callback(job->status, job->status == HEADRACE_SUCCESS ? "" : reported_text(), job->user);
    innermost = here.outer;
  }
  lock.lock();
  job->called_back = true;
  --line->callbacks;
  shared.changed.notify_all();
}

// The next frames: one of each network in turn, of each network in the order they came.
std::vector<Queue::Picked> Queue::pick(Shared& shared, size_t most) {
  std::vector<Picked> picked;
  const size_t lines = shared.lines.size();
  size_t idle = 0;
  std::vector<size_t> depth(lines, 0);  // which job of each line is being taken from
  for (size_t i = shared.turn; picked.size() < most && idle < lines; ++i) {
    const auto& line = shared.lines[i % lines];
    size_t& d = depth[i % lines];
    while (d < line->jobs.size() && line->jobs[d]->next_frame == line->jobs[d]->request->frames) ++d;
    shared.turn = (i + 1) % lines;
    if (d == line->jobs.size()) {
      ++idle;
      continue;
    }
    idle = 0;
    Job& job = *line->jobs[d];
    job.state = Job::State::kRunning;
    picked.push_back({line, line->jobs[d], job.next_frame++});
  }
  return picked;
}

void Queue::dispatch(const std::shared_ptr<Shared>& shared, Device& device) {
  const size_t most = device.threads();
  std::unique_lock<std::mutex> lock(shared->mutex);
  while (true) {
    const auto ready = [&] {
      return std::any_of(shared->lines.begin(), shared->lines.end(), [](const auto& l) { return !l->jobs.empty(); });
    };
    shared->work.wait(lock, [&] { return shared->stop || ready(); });
    if (shared->stop) return;
    const std::vector<Picked> picked = pick(*shared, most);
    std::vector<FrameRun> runs;
    for (const Picked& p : picked) runs.push_back({p.job->network, p.job->request.get(), p.frame});
    lock.unlock();
    headrace_status status = HEADRACE_SUCCESS;
    Problem problem;
    try {
      device.run(runs);
    } catch (const Failure& f) {
      status = f.status;
      problem = f.problem;
    } catch (const std::exception& e) {
      status = HEADRACE_INTERNAL_FAILURE;
      problem.rule = e.what();
    }
    lock.lock();
    for (const Picked& p : picked) {
      Job& job = *p.job;
      if (status != HEADRACE_SUCCESS) {
        job.status = status;
        job.problem = problem;
      }
      if (p.frame + 1 != job.request->frames) continue;
      p.line->jobs.pop_front();  // jobs of a line end in their order
      finish(lock, *shared, p.line, p.job);
    }
  }
}

}  // namespace headrace
