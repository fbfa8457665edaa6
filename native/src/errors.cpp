// SPDX-License-Identifier: Apache-2.0
#include "errors.hpp"

#include <cstdio>

namespace headrace {
namespace {

struct Report {
  char text[3072] = "";
  char code[32] = "", where[320] = "", rule[512] = "", got[1024] = "", need[768] = "", lever[320] = "";
  size_t count = 0;
};
thread_local Report last;

template <size_t kSize>
void keep(char (&to)[kSize], const char* from) {
  std::snprintf(to, kSize, "%s", from);
}

headrace_status finish(headrace_status status) {
  std::snprintf(last.code, sizeof last.code, "E-DEVICE-%d", status);
  last.count = 1;
  return status;
}

}  // namespace

std::string Problem::text() const {
  std::string all = where.empty() ? rule : where + ": " + rule;
  if (!got.empty()) all += "\n  got:  " + got;
  if (!need.empty()) all += "\n  need: " + need;
  if (!lever.empty()) all += "\n  try:  " + lever;
  return all;
}

headrace_status report(headrace_status status, const Problem& p) noexcept {
  keep(last.where, p.where.c_str());
  keep(last.rule, p.rule.c_str());
  keep(last.got, p.got.c_str());
  keep(last.need, p.need.c_str());
  keep(last.lever, p.lever.c_str());
  // As Problem::text, without an allocation.
  int used = std::snprintf(last.text, sizeof last.text, "%s%s%s", last.where, *last.where ? ": " : "", last.rule);
  const auto add = [&used](const char* before, const char* value) {
    if (*value == '\0' || used < 0 || static_cast<size_t>(used) >= sizeof last.text) return;
    const auto at = static_cast<size_t>(used);
    used += std::snprintf(last.text + at, sizeof last.text - at, "\n  %s%s", before, value);
  };
  add("got:  ", last.got);
  add("need: ", last.need);
  add("try:  ", last.lever);
  return finish(status);
}

headrace_status report(headrace_status status, const char* rule) noexcept {
  keep(last.rule, rule);
  keep(last.text, rule);
  *last.where = *last.got = *last.need = *last.lever = '\0';
  return finish(status);
}

const char* reported_text() noexcept { return last.text; }

size_t reported_count() noexcept { return last.count; }

headrace_diagnostic reported() noexcept {
  return {sizeof(headrace_diagnostic), last.code, last.where, last.rule, last.got, last.need, last.lever};
}

std::string printable(const std::string& text, size_t limit) {
  std::string out;
  for (char c : text) {
    if (out.size() >= limit) break;
    out += (c >= 0x20 && c < 0x7F) ? c : '?';
  }
  return out;
}

}  // namespace headrace
