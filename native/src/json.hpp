// SPDX-License-Identifier: Apache-2.0
// JSON from a file, untrusted: bounded in size, depth and number of values, every name once, every number finite.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace headrace {

struct Json {
  enum class Kind { kNull, kBoolean, kNumber, kText, kList, kObject };

  Kind kind = Kind::kNull;
  bool boolean = false;
  double number = 0;
  std::string text;
  std::vector<Json> items;                            // of a list
  std::vector<std::pair<std::string, Json>> members;  // of an object, in the order of the file

  const Json* find(const char* name) const;  // nullptr where there is none
};

// Fails with HEADRACE_INVALID_HEF and `where` as the place.
Json parse_json(const char* text, size_t size, const std::string& where);

}  // namespace headrace
