// Deterministic mutation of valid inputs: the same seed gives the same inputs everywhere, so a finding is a test case.
// It knows nothing of the formats beyond a list of tokens that tend to upset their parsers.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

namespace bittern::fuzz {

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  /// `input` after one to six small changes.
  std::string mutate(std::string input) {
    for (std::size_t i = 1 + below(6); i > 0; --i) change(input);
    return input;
  }
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(random_() % n); }

 private:
  void change(std::string& s) {
    const std::size_t at = below(s.size() + 1);
    switch (below(7)) {
      case 0:
        if (at < s.size()) s[at] = static_cast<char>(s[at] ^ (1 << below(8)));
        break;
      case 1:
        if (at < s.size()) s[at] = static_cast<char>(below(256));
        break;
      case 2: s.erase(at, below(16)); break;
      case 3: s.insert(at, token()); break;
      case 4: s.replace(at, std::min<std::size_t>(below(8), s.size() - at), token()); break;
      case 5: s.insert(at, s.substr(below(s.size() + 1), below(40))); break;
      case 6: replace_number(s, at); break;
    }
  }

  // The first run of digits after `at` becomes another number.
  void replace_number(std::string& s, std::size_t at) {
    const std::size_t begin = s.find_first_of("0123456789", at);
    if (begin == s.npos) return;
    const std::size_t end = std::min(s.find_first_not_of("0123456789", begin), s.size());
    s.replace(begin, end - begin, number());
  }

  std::string number() {
    static constexpr std::array<std::string_view, 14> kNumbers = {"0",
                                                                  "1",
                                                                  "-1",
                                                                  "2147483648",
                                                                  "4294967296",
                                                                  "9223372036854775807",
                                                                  "9223372036854775808",
                                                                  "18446744073709551615",
                                                                  "1e999",
                                                                  "-1e-999",
                                                                  "0.5",
                                                                  "99999999999999999999999",
                                                                  "4611686018427387905",
                                                                  "7"};
    return std::string(kNumbers[below(kNumbers.size())]);
  }

  std::string token() {
    static constexpr std::array<std::string_view, 20> kTokens = {"{",
                                                                 "}",
                                                                 "[",
                                                                 "]",
                                                                 "\"",
                                                                 ",",
                                                                 ":",
                                                                 "null",
                                                                 "true",
                                                                 "[]",
                                                                 "{}",
                                                                 "\"\"",
                                                                 "\\u0000",
                                                                 "\xff",
                                                                 "../",
                                                                 "/",
                                                                 "\"shape\":[",
                                                                 "\"data_offsets\":[0,0]",
                                                                 "[[[[[[[[[[[[",
                                                                 "\"F64\""};
    return below(3) == 0 ? number() : std::string(kTokens[below(kTokens.size())]);
  }

  std::mt19937_64 random_;
};

}  // namespace bittern::fuzz
