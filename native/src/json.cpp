// SPDX-License-Identifier: Apache-2.0
#include "json.hpp"

#include <cmath>
#include <cstring>
#include <locale>
#include <set>
#include <sstream>

#include "errors.hpp"

namespace headrace {
namespace {

constexpr size_t kLongest = size_t{1} << 20;
constexpr size_t kMostValues = 200000;
constexpr int kDeepest = 16;
constexpr size_t kLongestText = 4096;

class Parser {
 public:
  Parser(const char* text, size_t size, const std::string& where)
      : p_(text), start_(text), end_(text + size), where_(where) {}

  Json document() {
    Json value = parse(0);
    blank();
    if (p_ != end_) bad("there is something behind the end");
    return value;
  }

 private:
  [[noreturn]] void bad(const char* rule) const {
    fail(HEADRACE_INVALID_HEF, where_, std::string("the JSON does not parse: ") + rule,
         "at byte " + std::to_string(p_ - start_), "JSON");
  }

  void blank() {
    while (p_ != end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\r' || *p_ == '\t')) ++p_;
  }

  char peek() {
    blank();
    if (p_ == end_) bad("it ends too early");
    return *p_;
  }

  void expect(char c) {
    if (peek() != c) bad("another character is expected");
    ++p_;
  }

  Json parse(int depth) {
    if (depth > kDeepest) bad("it is nested too deeply");
    if (++values_ > kMostValues) bad("it has too many values");
    switch (peek()) {
      case '{':
        return object(depth);
      case '[':
        return list(depth);
      case '"': {
        Json value;
        value.kind = Json::Kind::kText;
        value.text = text();
        return value;
      }
      case 't':
        return word("true", Json::Kind::kBoolean, true);
      case 'f':
        return word("false", Json::Kind::kBoolean, false);
      case 'n':
        return word("null", Json::Kind::kNull, false);
      default:
        return number();
    }
  }

  Json word(const char* wanted, Json::Kind kind, bool truth) {
    const size_t size = std::strlen(wanted);
    if (static_cast<size_t>(end_ - p_) < size || std::memcmp(p_, wanted, size) != 0) bad("an unknown word");
    p_ += size;
    Json value;
    value.kind = kind;
    value.boolean = truth;
    return value;
  }

  Json object(int depth) {
    Json value;
    value.kind = Json::Kind::kObject;
    std::set<std::string> seen;
    expect('{');
    if (peek() == '}') {
      ++p_;
      return value;
    }
    for (;;) {
      if (peek() != '"') bad("a name is expected");
      std::string name = text();
      if (!seen.insert(name).second) bad("a name stands twice");
      expect(':');
      value.members.emplace_back(std::move(name), parse(depth + 1));
      if (peek() == ',') {
        ++p_;
        continue;
      }
      expect('}');
      return value;
    }
  }

  Json list(int depth) {
    Json value;
    value.kind = Json::Kind::kList;
    expect('[');
    if (peek() == ']') {
      ++p_;
      return value;
    }
    for (;;) {
      value.items.push_back(parse(depth + 1));
      if (peek() == ',') {
        ++p_;
        continue;
      }
      expect(']');
      return value;
    }
  }

  std::string text() {
    expect('"');
    std::string out;
    for (;;) {
      if (p_ == end_) bad("a text does not end");
      const char c = *p_++;
      if (c == '"') return out;
      if (static_cast<unsigned char>(c) < 0x20) bad("a control character in a text");
      out.push_back(c == '\\' ? escaped(out) : c);
      if (out.size() > kLongestText) bad("a text is too long");
    }
  }

  // The last byte of an escape; the ones before it go to `out`.
  char escaped(std::string& out) {
    if (p_ == end_) bad("a text does not end");
    const char c = *p_++;
    switch (c) {
      case '"':
      case '\\':
      case '/':
        return c;
      case 'b':
        return '\b';
      case 'f':
        return '\f';
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'u':
        return code_point(out);
      default:
        bad("an unknown escape");
    }
  }

  unsigned hexadecimal() {
    unsigned value = 0;
    for (int i = 0; i < 4; ++i) {
      if (p_ == end_) bad("a text does not end");
      const char c = *p_++;
      const unsigned digit = c >= '0' && c <= '9'   ? static_cast<unsigned>(c - '0')
                             : c >= 'a' && c <= 'f' ? static_cast<unsigned>(c - 'a' + 10)
                             : c >= 'A' && c <= 'F' ? static_cast<unsigned>(c - 'A' + 10)
                                                    : 16u;
      if (digit > 15) bad("an escape of other than four hexadecimal digits");
      value = value * 16 + digit;
    }
    return value;
  }

  char code_point(std::string& out) {
    unsigned point = hexadecimal();
    if (point >= 0xD800 && point < 0xDC00) {
      if (end_ - p_ < 2 || p_[0] != '\\' || p_[1] != 'u') bad("half of a character");
      p_ += 2;
      const unsigned low = hexadecimal();
      if (low < 0xDC00 || low > 0xDFFF) bad("half of a character");
      point = 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00);
    } else if (point >= 0xDC00 && point <= 0xDFFF) {
      bad("half of a character");
    }
    if (point < 0x80) return static_cast<char>(point);
    const int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    const unsigned lead = more == 1 ? 0xC0 : more == 2 ? 0xE0 : 0xF0;
    out.push_back(static_cast<char>(lead | (point >> (6 * more))));
    for (int i = more - 1; i > 0; --i) out.push_back(static_cast<char>(0x80 | ((point >> (6 * i)) & 0x3F)));
    return static_cast<char>(0x80 | (point & 0x3F));
  }

  void digits(std::string& token) {
    if (p_ == end_ || *p_ < '0' || *p_ > '9') bad("a value is expected");
    while (p_ != end_ && *p_ >= '0' && *p_ <= '9') take(token);
  }

  void take(std::string& token) {
    token.push_back(*p_++);
    if (token.size() > 64) bad("a number is too long");
  }

  Json number() {
    std::string token;
    if (*p_ == '-') take(token);
    digits(token);
    if (p_ != end_ && *p_ == '.') {
      take(token);
      digits(token);
    }
    if (p_ != end_ && (*p_ == 'e' || *p_ == 'E')) {
      take(token);
      if (p_ != end_ && (*p_ == '+' || *p_ == '-')) take(token);
      digits(token);
    }
    std::istringstream stream(token);
    stream.imbue(std::locale::classic());
    Json value;
    value.kind = Json::Kind::kNumber;
    stream >> value.number;
    if (stream.fail() || !std::isfinite(value.number)) bad("a number is out of range");
    return value;
  }

  const char* p_;
  const char* start_;
  const char* end_;
  const std::string& where_;
  size_t values_ = 0;
};

}  // namespace

const Json* Json::find(const char* name) const {
  for (const auto& member : members) {
    if (member.first == name) return &member.second;
  }
  return nullptr;
}

Json parse_json(const char* text, size_t size, const std::string& where) {
  if (size > kLongest) {
    fail(HEADRACE_INVALID_HEF, where, "the JSON is too long", str(uint64_t{size}) + " bytes",
         "at most " + str(uint64_t{kLongest}));
  }
  return Parser(text, size, where).document();
}

}  // namespace headrace
